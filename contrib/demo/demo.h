/*
 * The parts of atdatafs-demo, which turns the digits table into what the Python library would have
 * left behind: shards in a disk store and an index that names them.
 */
#ifndef ATD_DEMO_H
#define ATD_DEMO_H

#include "atdata/buf.h"
#include "atdata/cid.h"
#include "atdata/error.h"
#include "atdata/str.h"

#define DIGIT_SIDE 8

struct digit {
    uint8_t image[DIGIT_SIDE * DIGIT_SIDE]; /* row by row, 0 to 16 */
    uint8_t label;
};

struct digits {
    struct digit *rows; /* owned by the caller: free() */
    size_t count;
    uint8_t text_sha256[32]; /* of the uncompressed table */
};

/*
 * Reads the table: 65 numbers a line, 64 pixels and the label; any compression that libarchive
 * knows. Blocks: disk. Errors: those of opening; EINVAL with the line; EFBIG; ENOMEM.
 */
int digits_read(const char *path, struct digits *ret_digits, struct atd_error *err) ATD_MUST_USE;

/*
 * Appends one whole shard, a ustar archive, to `out`: a member KEY.msgpack for each digit, where
 * KEY counts from `first_key` in eight figures. The same input gives the same bytes.
 * Errors: ENOMEM, EFBIG.
 */
int shard_encode(const struct digit *digits, size_t count, size_t first_key, struct atd_buf *out,
                 struct atd_error *err) ATD_MUST_USE;

struct index_content {
    struct atd_str schema_name;
    struct atd_str schema_version;
    struct atd_str schema_json;
    struct atd_cid cid;
    struct atd_str name;
    struct atd_str schema_ref;
    struct atd_bytes data_urls; /* msgpack */
    struct atd_bytes metadata;  /* msgpack */
    struct atd_str label_version;
    struct atd_str label_description;
};

/*
 * Writes an index with one schema, one entry and its two labels (with and without version), as
 * DIRECTORY/index.db; it appears there complete or not at all.
 * Blocks: disk. Errors: EEXIST there is one; EIO and the sentence of SQLite.
 */
int index_write(const char *directory, const struct index_content *content,
                struct atd_error *err) ATD_MUST_USE;

#endif
