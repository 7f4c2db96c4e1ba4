/*
 * Where the members of a shard are found out when memory does not have them: the folder, beside the
 * shard, in its headers.
 */
#ifndef ATD_DATASET_MEMBERS_FIND_H
#define ATD_DATASET_MEMBERS_FIND_H

#include "dataset/members.h"
#include "dataset/members_fetch.h"
#include "dataset/members_folder.h"

enum atd_members_from { ATD_MEMBERS_FROM_FOLDER, ATD_MEMBERS_FROM_BESIDE, ATD_MEMBERS_FROM_WALK };

struct atd_members_finder {
    /* fixed */
    const struct atd_file_store *files;
    uint8_t scope[ATD_SHA256_BYTES]; /* its digest */
    unsigned timeout_ms;

    struct atd_members_folder folder;
    struct atd_members_fetches fetches;
};

/* Blocks. The list is the caller's. Errors: those of atd_members_get(). */
int atd_members_find(struct atd_members_finder *finder, const struct atd_shard *shard,
                     struct atd_member_list *ret_list, enum atd_members_from *ret_from,
                     struct atd_error *err) ATD_MUST_USE;

#endif
