/*
 * Looking a shard through while it is being written: is it whole, what is in it, does it fit.
 *
 * Fed every byte in order; knows at the end the SHA-256 of the file, the members and samples, and
 * what schema the samples have. Plain tars are walked by codec/tar_index; compressed ones (gzip,
 * bzip2, xz by content) are unpacked on the way (inspect_unpack). atdata samples (KEY.msgpack) are
 * decoded; plain WebDataset members count by their extensions (inspect_members).
 *
 * What is refused is what webdataset would stumble over, or would pass over in silence so that
 * samples were lost: it reads the first tar of a file only, and of that the first compressed
 * stream.
 *
 * Speed: made for 500 MB/s and more. Memory: bounded; one sample at a time, at most
 * ATD_INSPECT_SAMPLE_MAX, and the member index. Threads: one at a time. Blocks: never (CPU only).
 * Source: ATDATA-FORMATS 5; DESIGN 4.3.
 */
#ifndef ATD_PUBLISH_INSPECT_H
#define ATD_PUBLISH_INSPECT_H

#include "atdata/schema.h"
#include "base/digest.h"
#include "codec/member_index.h"
#include "codec/schema_infer.h"

/* A sample is decoded from memory; larger ones are refused. */
#define ATD_INSPECT_SAMPLE_MAX ((size_t)1 << 30)
/* A compressed tar may unpack to so much for every byte of it, and to 1 GiB in any case. */
#define ATD_INSPECT_RATIO_MAX 1100u
/* Zeros behind the end of a tar: writers pad to 10 KiB, tapes to some MiB. More is what a
 * preallocated file has that was never filled: it looks like a good tar otherwise. */
#define ATD_INSPECT_PADDING_MAX (8u << 20)
/* A shard with more members, or more bytes of names, has no member index, and is fine otherwise. */
#define ATD_INSPECT_MEMBERS_MAX ATD_MEMBER_INDEX_MEMBERS_MAX
#define ATD_INSPECT_NAMES_BYTES_MAX ATD_MEMBER_INDEX_NAMES_BYTES_MAX

struct atd_inspection;

struct atd_inspect_member {
    struct atd_str name;
    uint64_t data_offset;
    uint64_t size_bytes;
};

/*
 * `schema` (borrowed, may be NULL): what every sample must conform to; the samples of a plain
 * WebDataset in the names of their fields only. NULL when out of memory.
 */
struct atd_inspection *atd_inspection_new(const struct atd_schema *schema) ATD_MUST_USE;
void atd_inspection_free(struct atd_inspection *inspection);

/*
 * Takes the next bytes in. After an error every later call gives the same one; but the error is
 * told at the finish too, so that a caller may go on feeding (a copy is not interrupted for a bad
 * sample: its tool would say only half of it).
 * Errors: EINVAL not a tar, an undecodable sample, one that contradicts the schema, or two samples
 * that contradict each other: the member is named; E2BIG; ENOMEM.
 */
int atd_inspection_feed(struct atd_inspection *inspection, struct atd_bytes bytes,
                        struct atd_error *err) ATD_MUST_USE;

/* How many bytes were fed. */
uint64_t atd_inspection_fed(const struct atd_inspection *inspection);

struct atd_inspect_result {
    uint64_t size_bytes;
    uint8_t sha256[ATD_SHA256_BYTES];
    char sha256_hex[65];
    uint64_t samples;   /* msgpack samples, or keys of a plain WebDataset */
    uint64_t members;   /* that have data: not directories, links and the like */
    bool is_msgpack;    /* atdata samples; else a plain WebDataset, or no sample at all */
    bool is_compressed; /* no member index */
    /* The inspection's; of no field when samples is 0, or when atdata samples had a schema to
     * conform to. */
    const struct atd_schema_inferrer *seen;
};

/* Whether what was fed is a whole tar as it stands, or has failed: the finish would not say that it
 * is incomplete. */
bool atd_inspection_is_whole(const struct atd_inspection *inspection);

/*
 * The verdict on the whole file; once, nothing can be fed afterwards. Errors: EINVAL the tar is not
 * complete ("it ends inside 'x'": a killed copy looks like a good one, TOOLS 4.5), or empty, or
 * holds members that webdataset stumbles over (5.4: a sample without msgpack among msgpack samples,
 * a key with a dot in its basename, two adjacent members of one name): which; and what feed said.
 */
int atd_inspection_finish(struct atd_inspection *inspection, struct atd_inspect_result *ret_result,
                          struct atd_error *err) ATD_MUST_USE;

/* The members with data of a plain tar, in order, after a good finish: for the member index. 0 when
 * it is compressed, or has too many. */
size_t atd_inspection_member_count(const struct atd_inspection *inspection);
const struct atd_inspect_member *atd_inspection_member(const struct atd_inspection *inspection,
                                                       size_t place);

#endif
