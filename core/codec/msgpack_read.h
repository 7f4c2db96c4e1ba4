/*
 * A bounded msgpack reader: one token at a time, no allocation, no recursion, every error with its
 * byte position.
 *
 * Why not msgpack-c's unpacker: it builds the whole tree, nests 32 levels at most (Python reads
 * about 1000) and allocates an array's claimed length before it has seen one element, so that five
 * hostile bytes ask for gigabytes. msgpack-c writes here, and checks this reader in the tests.
 */
#ifndef ATD_CODEC_MSGPACK_READ_H
#define ATD_CODEC_MSGPACK_READ_H

#include "atdata/error.h"
#include "atdata/str.h"

enum atd_mp_type {
    ATD_MP_NIL,
    ATD_MP_BOOL,
    ATD_MP_INT,  /* negative */
    ATD_MP_UINT, /* zero or positive, whatever width it was stored in */
    ATD_MP_FLOAT,
    ATD_MP_STR,
    ATD_MP_BIN,
    ATD_MP_EXT,
    ATD_MP_ARRAY,
    ATD_MP_MAP,
};

struct atd_mp_token {
    enum atd_mp_type type;
    bool b;
    int64_t i;
    uint64_t u;
    double f;
    int8_t ext_type;
    struct atd_bytes body; /* str, bin, ext: the payload */
    uint32_t count;        /* array: items; map: pairs */
    size_t offset;         /* of its first byte in the document */
};

struct atd_mp_reader {
    struct atd_bytes doc;
    size_t at; /* next unread byte */
};

void atd_mp_reader_init(struct atd_mp_reader *reader, struct atd_bytes doc);

/*
 * Reads one token. A container's token says how many values follow; a count that the bytes left
 * cannot hold is an error at once. Errors: EINVAL with the position.
 */
int atd_mp_next(struct atd_mp_reader *reader, struct atd_mp_token *ret_token,
                struct atd_error *err) ATD_MUST_USE;

/* What a document may hold; the flags are the differences between Python's two readers. */
struct atd_mp_rules {
    bool allow_bin_keys; /* msgpack-python: yes; ormsgpack: no */
    bool allow_ext;      /* msgpack-python: yes; ormsgpack: no */
    const char *what;    /* begins the error sentence: "data_urls", "metadata", "sample" */
};

/*
 * Reads one whole value, nested ones included, and checks it: str are UTF-8, map keys are str (or
 * bin), at most ATD_MSGPACK_DEPTH_MAX levels and ATD_MSGPACK_VALUES_MAX values. The reader stands
 * behind it afterwards. Errors: EINVAL, E2BIG, each with the position.
 */
int atd_mp_skip_checked(struct atd_mp_reader *reader, const struct atd_mp_rules *rules,
                        struct atd_error *err) ATD_MUST_USE;

/* Reads past one value that was checked before. */
void atd_mp_skip(struct atd_mp_reader *reader);

#endif
