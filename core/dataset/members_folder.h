/*
 * Member indexes in the cache directory: one file for each version of a shard, for ever.
 *
 * DIR/members/HASH, HASH being the subject of the index (codec/member_index.h). A file is written
 * under another name and renamed, so that several processes may share a directory; what is damaged
 * is removed when it is met. The oldest (not used for longest) go when there are too many. Nothing
 * here is anybody's failure: without the folder an index is got again.
 *
 * Threads: any. Blocks: on the disk.
 */
#ifndef ATD_DATASET_MEMBERS_FOLDER_H
#define ATD_DATASET_MEMBERS_FOLDER_H

#include "base/lock.h"
#include "codec/member_index.h"

#define ATD_MEMBERS_FILES_MAX 100000u
#define ATD_MEMBERS_FOLDER_BYTES_MAX ((uint64_t)1 << 30)

struct atd_members_folder {
    /* fixed */
    char *path; /* "DIR/members"; NULL: there is none */
    unsigned files_max;
    uint64_t bytes_max;

    struct atd_lock lock;
    /* guarded by lock; as far as is known, since others may write there too */
    bool is_counted;
    bool is_trimming;
    uint64_t files;
    uint64_t bytes;
};

/* `dir` NULL: none. Errors: ENOMEM. */
int atd_members_folder_init(struct atd_members_folder *folder, const char *dir,
                            struct atd_error *err) ATD_MUST_USE;
void atd_members_folder_release(struct atd_members_folder *folder);

/* False when it is not there. The list is the caller's. */
bool atd_members_folder_load(struct atd_members_folder *folder,
                             const struct atd_member_index_of *of,
                             struct atd_member_list *ret_list);
void atd_members_folder_store(struct atd_members_folder *folder,
                              const struct atd_member_index_of *of,
                              const struct atd_member_list *list);

#endif
