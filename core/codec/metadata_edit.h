/*
 * An entry's metadata, changed: the user's part, `checksums` and our own `atdatafs` map.
 *
 *     {..the user's.., "checksums": {URL: sha256 hex},
 *      "atdatafs": {"shards": {URL: {"size": n, "etag": text, "samples": n, "mtime_ns": n,
 *                                    "index": n}}}}
 *
 * and "leaving": true in the record of a shard that somebody has just unlinked.
 *
 * What Python wrote stays byte for byte: values are copied as they are, keys keep their order, new
 * ones come last. Source: ATDATA-FORMATS 1.2, 1.8, 6.6; DESIGN 4. Pure.
 */
#ifndef ATD_CODEC_METADATA_EDIT_H
#define ATD_CODEC_METADATA_EDIT_H

#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"

struct atd_shard_record {
    struct atd_str url;
    char sha256[65];      /* hex; "" unknown: no checksum is written */
    uint64_t size_bytes;  /* UINT64_MAX: unknown, not written */
    struct atd_str etag;  /* without quotes; empty: unknown, not written */
    int64_t samples;      /* -1: unknown, not written */
    int64_t mtime_ns;     /* INT64_MIN: unknown, not written */
    uint64_t index_bytes; /* of the member index beside it; 0: none, not written */
};

/*
 * All edits take any bytes, and append nothing when they fail. `metadata` ptr NULL or nil: there
 * was none. Of a key that is there twice Python reads the last value, in the first place: so does
 * an edit of it, and leaves one. Errors of all: EINVAL what atd_metadata_check says; E2BIG the
 * result is over its limits; EFBIG, ENOMEM.
 *
 * Appends metadata with the shard's record added or replaced; without a hash, a checksum that is
 * there stays. Errors: EINVAL the metadata is no map, or `checksums`, `atdatafs` or its `shards` is
 * neither map nor nil: what to do.
 */
int atd_metadata_put_shard(struct atd_bytes metadata, const struct atd_shard_record *record,
                           struct atd_buf *out, struct atd_error *err) ATD_MUST_USE;

/* Only its time; the rest of its record stays. A shard without a record gets one of it alone.
 * Errors: as above. */
int atd_metadata_put_mtime(struct atd_bytes metadata, struct atd_str url, int64_t mtime_ns,
                           struct atd_buf *out, struct atd_error *err) ATD_MUST_USE;

/* Marks the shard's record, or takes the mark away: it was unlinked, and goes in a moment unless
 * somebody publishes it again (atd_metadata_put_shard writes records without the mark). Errors: as
 * above. */
int atd_metadata_set_leaving(struct atd_bytes metadata, struct atd_str url, bool leaving,
                             struct atd_buf *out, struct atd_error *err) ATD_MUST_USE;
/* `metadata` must have passed atd_metadata_check; ptr NULL: there is none. */
bool atd_metadata_is_leaving(struct atd_bytes metadata, struct atd_str url);

/*
 * Without the shard's records; maps that become empty go too, so that nothing may be appended: no
 * metadata at all. What has no records stays byte for byte, even when it is no map.
 */
int atd_metadata_drop_shard(struct atd_bytes metadata, struct atd_str url, struct atd_buf *out,
                            struct atd_error *err) ATD_MUST_USE;

/*
 * The user's part replaced by `user` (msgpack of a map, as atd_metadata_from_json makes it), with
 * `checksums` and `atdatafs` of the old metadata kept when they are maps and the user did not write
 * maps of these names. Nothing is appended when there is no key: no metadata at all.
 * Errors: EINVAL `user` is no map.
 */
int atd_metadata_replace_user(struct atd_bytes metadata, struct atd_bytes user, struct atd_buf *out,
                              struct atd_error *err) ATD_MUST_USE;

/*
 * Calls `fn` for each shard record of metadata["atdatafs"]["shards"]; what is malformed is passed
 * over: a record that is no map wholly, a value that makes no sense as if it were not there. A URL
 * that is there twice comes twice: the last one counts. `sha256` is not filled in (checksums has
 * it). Views into `metadata`, which must have passed atd_metadata_check.
 */
typedef void (*atd_shard_record_fn)(void *ctx, const struct atd_shard_record *record);
void atd_metadata_each_shard(struct atd_bytes metadata, atd_shard_record_fn fn, void *ctx);

/*
 * Where a new URL belongs in the list: before the first that is greater when the list is sorted
 * (byte order), else at its end. So the same files give the same list in whatever order they come.
 */
size_t atd_urls_place(const struct atd_str *urls, size_t count, struct atd_str url);

#endif
