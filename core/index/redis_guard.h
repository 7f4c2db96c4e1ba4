/*
 * Stands between a server's bytes and hiredis: follows the protocol (RESP2) just far enough to know
 * where a reply ends and how large its parts say they are. RESP3's types, where it was asked for,
 * reach hiredis as RESP2's, because old releases read no others.
 *
 * hiredis allocates an array as soon as its length is announced, and collects a string however long
 * it is. So a part that is larger than anything an index holds reaches hiredis as nil, and its
 * bytes go nowhere: one monstrous key of a shared server costs its own record and not the whole
 * load. What is no protocol at all ends the connection.
 *
 * Threads: one at a time. No allocations.
 */
#ifndef ATD_INDEX_REDIS_GUARD_H
#define ATD_INDEX_REDIS_GUARD_H

#include "atdata/error.h"
#include "atdata/str.h"
#include "base/limits.h"

/* The deepest reply that is asked for: HELLO, its modules, one of them, its arguments. */
#define ATD_REDIS_DEPTH_MAX 4u
/* A page of SCAN, or a hash with its names and values. */
#define ATD_REDIS_ELEMENTS_MAX 131072u
/* All arrays of one reply together: each element costs memory, however few bytes it has. */
#define ATD_REDIS_REPLY_ELEMENTS_MAX (2 * ATD_REDIS_ELEMENTS_MAX)
/* A string is one field, a reply one hash. */
#define ATD_REDIS_STRING_BYTES_MAX ATD_URLS_BYTES_MAX
#define ATD_REDIS_REPLY_BYTES_MAX (ATD_URLS_BYTES_MAX + ATD_METADATA_BYTES_MAX + (4u << 20))
/* What a server can hold at all; a longer announcement is nonsense. */
#define ATD_REDIS_SKIP_BYTES_MAX (512u << 20)
#define ATD_REDIS_SKIP_ELEMENTS_MAX (64u << 20)
/* A status, an error, an integer, or the header of a string or an array. */
#define ATD_REDIS_LINE_BYTES_MAX 4096u

struct atd_redis_guard {
    struct {
        uint64_t left; /* elements that are to come */
        bool skipped;  /* hiredis knows it as nil */
    } levels[ATD_REDIS_DEPTH_MAX];
    unsigned depth;
    uint64_t string_left; /* with the CR LF that ends it; 0: a line comes */
    bool string_skipped;
    uint64_t reply_bytes;    /* of strings that hiredis got */
    uint64_t reply_elements; /* of arrays, the same */
    bool cut;                /* something of this reply was skipped */
    bool speaks_resp3;
    size_t line_len;
    char line[ATD_REDIS_LINE_BYTES_MAX]; /* a line that has come in part */
};

struct atd_redis_guard_sink {
    void *ctx;
    bool (*feed)(void *ctx, const char *bytes, size_t len); /* false: out of memory */
};

void atd_redis_guard_init(struct atd_redis_guard *guard);

/* From now on the server may use RESP3: maps, sets and pushes become arrays, verbatim texts
 * strings, and scalars that RESP2 does not have, nil. */
void atd_redis_guard_allow_resp3(struct atd_redis_guard *guard);

/*
 * Passes on what of `bytes` belongs to the current reply. *ret_used tells how many bytes that was,
 * *ret_done whether the reply is whole, *ret_cut whether a part of it became nil.
 * Errors: EPROTO, ENOMEM; the connection is of no use any more.
 */
int atd_redis_guard_pass(struct atd_redis_guard *guard, struct atd_str bytes,
                         const struct atd_redis_guard_sink *sink, size_t *ret_used, bool *ret_done,
                         bool *ret_cut, struct atd_error *err) ATD_MUST_USE;

#endif
