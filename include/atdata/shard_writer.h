/*
 * Writing shards: tar files of samples, a new one when one is full.
 *
 * Files are STEM-000000.tar, STEM-000001.tar, ... Each has its name only once it is whole: before
 * that it is a temporary file beside it. The same samples give the same bytes.
 *
 * Threads: one at a time. Blocks: on the disk. Source: ATDATA-FORMATS 5.1.
 */
#ifndef ATDATA_SHARD_WRITER_H
#define ATDATA_SHARD_WRITER_H

#include "atdata/error.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

/* As the Python library has it. */
#define ATD_SHARD_SAMPLES_DEFAULT 100000u
#define ATD_SHARD_BYTES_DEFAULT 3000000000u
/* A sample's key; longer member names than tar's 100 bytes get a pax record. */
#define ATD_SAMPLE_KEY_MAX 1024u
#define ATD_SHARDS_WRITTEN_MAX 1000000u

struct atd_shard_writer;

struct atd_shard_writer_options {
    const char *stem;     /* path without "-000000.tar"; its directory exists */
    uint64_t samples_max; /* of one shard; 0: ATD_SHARD_SAMPLES_DEFAULT */
    uint64_t bytes_max;   /* samples' bytes before a new one begins; 0: ATD_SHARD_BYTES_DEFAULT */
};

/* Nothing is created yet. Errors: EINVAL, ENOMEM. */
int atd_shard_writer_new(const struct atd_shard_writer_options *options,
                         struct atd_shard_writer **ret_writer, struct atd_error *err) ATD_MUST_USE;

/*
 * Writes one sample: the msgpack of sample.h, checked. `key` empty: its number in eight digits,
 * counted over all shards. Errors: EINVAL not a sample; a key that webdataset would not read back:
 * a dot behind its last slash, a NUL, a control character, empty behind a slash, or that of the
 * sample before; EEXIST a file of the shard's name is there; those of the system. After an error
 * other than EINVAL the writer can only be freed.
 */
int atd_shard_writer_put(struct atd_shard_writer *writer, struct atd_str key,
                         struct atd_bytes msgpack, struct atd_error *err) ATD_MUST_USE;

/* Completes the last shard: on the disk, under its name. Nothing can be put any more. */
int atd_shard_writer_finish(struct atd_shard_writer *writer, struct atd_error *err) ATD_MUST_USE;

/* The shards that are complete; paths are valid until the writer is freed. */
size_t atd_shard_writer_count(const struct atd_shard_writer *writer);
const char *atd_shard_writer_path(const struct atd_shard_writer *writer, size_t number);

/* A shard that was not completed is removed. NULL is fine. */
void atd_shard_writer_free(struct atd_shard_writer *writer);

ATD_END_DECLS

#endif
