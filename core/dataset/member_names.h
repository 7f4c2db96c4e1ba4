/*
 * What the members of a shard are called as files, in the shard's directory in samples/.
 *
 * KEY.msgpack is a directory KEY, unless it is too large to be decoded; any other member is a file.
 * Members that webdataset skips (ATDATA-FORMATS 5.4) have no name here. Slashes and what else a
 * file name cannot hold are encoded (codec/file_name.h), a "./" in front is left out, names that
 * are too long are cut before their extension, and of equal ones the later get ~2, ~3 before it.
 *
 * Immutable, shared by reference. Threads: any.
 */
#ifndef ATD_DATASET_MEMBER_NAMES_H
#define ATD_DATASET_MEMBER_NAMES_H

#include "dataset/members.h"

/* A larger KEY.msgpack is a file: a sample is decoded from memory. */
#define ATD_SAMPLE_BYTES_MAX (256u << 20)
/* Of all names of a shard. */
#define ATD_MEMBER_NAMES_BYTES_MAX (512u << 20)

struct atd_member_names;

struct atd_member_name {
    struct atd_str name;
    bool is_sample;           /* a directory */
    struct atd_member member; /* valid as long as the names */
};

/* Keeps a reference on the members. CPU only. Errors: EFBIG, ENOMEM. */
int atd_member_names_new(struct atd_members *members, struct atd_member_names **ret_names,
                         struct atd_error *err) ATD_MUST_USE;
struct atd_member_names *atd_member_names_ref(struct atd_member_names *names);
void atd_member_names_unref(struct atd_member_names *names); /* NULL is fine */

struct atd_members *atd_member_names_members(const struct atd_member_names *names);
/* What it takes, the members not counted. */
size_t atd_member_names_footprint(const struct atd_member_names *names);

/* Sorted by name. */
size_t atd_member_names_count(const struct atd_member_names *names);
struct atd_member_name atd_member_names_at(const struct atd_member_names *names, size_t place);
/* False: there is none. */
bool atd_member_names_find(const struct atd_member_names *names, struct atd_str name,
                           struct atd_member_name *ret_found);

/* How many samples webdataset makes of the members: runs of one key. */
uint64_t atd_members_samples(const struct atd_members *members);

#endif
