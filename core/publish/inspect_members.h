/*
 * What the members of a shard are to webdataset: which are skipped, which belong together as one
 * sample, and whether each sample is one that the reader and the schema take.
 *
 * A shard's samples are either all atdata's (with a member KEY.msgpack, decoded here) or all plain
 * WebDataset ones (no such member; their extensions are the fields): a reader of the first kind
 * stops at a sample of the second. Threads: one at a time. Source: ATDATA-FORMATS 5.2, 5.4.
 */
#ifndef ATD_PUBLISH_INSPECT_MEMBERS_H
#define ATD_PUBLISH_INSPECT_MEMBERS_H

#include "atdata/schema.h"
#include "atdata/tar_index.h"
#include "codec/schema_infer.h"

/* Members of one sample: as many as a schema has fields. */
#define ATD_SAMPLE_MEMBERS_MAX 1024u
/* A longer extension than this is no field's. */
#define ATD_SAMPLE_EXTENSION_MAX 255u

struct atd_inspect_members;

/* `schema` is borrowed and may be NULL. NULL when out of memory. */
struct atd_inspect_members *atd_inspect_members_new(const struct atd_schema *schema) ATD_MUST_USE;
void atd_inspect_members_free(struct atd_inspect_members *members);

/*
 * The next member, in order. *ret_wanted: it is a sample, whose bytes must be given next. Errors:
 * EINVAL the sample before it does not fit, or this member makes webdataset stumble; E2BIG; ENOMEM.
 */
int atd_inspect_members_add(struct atd_inspect_members *members,
                            const struct atd_tar_member *member, bool *ret_wanted,
                            struct atd_error *err) ATD_MUST_USE;

/* All the bytes of the member that was wanted. Errors: EINVAL undecodable, or it contradicts the
 * schema, or the samples before it; E2BIG; ENOMEM. The member is named. */
int atd_inspect_members_decode(struct atd_inspect_members *members, struct atd_bytes msgpack,
                               struct atd_error *err) ATD_MUST_USE;

/* After the last member. Errors: as atd_inspect_members_add. */
int atd_inspect_members_finish(struct atd_inspect_members *members,
                               struct atd_error *err) ATD_MUST_USE;

uint64_t atd_inspect_members_samples(const struct atd_inspect_members *members);
bool atd_inspect_members_are_msgpack(const struct atd_inspect_members *members);
const struct atd_schema_inferrer *
atd_inspect_members_seen(const struct atd_inspect_members *members);

#endif
