/*
 * Inside of the S3 store: what its reading (s3_store.c) and writing share.
 *
 *     s3_write.c    one request that writes: run it, judge its replies
 *     s3_confirm.c  what is there now, and is it what was sent
 *     s3_put.c      objects of one piece; deleting
 *     s3_upload.c   objects in parts
 *     s3_uploads.c  those that nobody finished
 *     s3_guards.c   whether a bucket refuses to write over an object
 */
#ifndef ATD_STORE_S3_STORE_H
#define ATD_STORE_S3_STORE_H

#include <stdatomic.h>

#include "net/s3_reply.h"
#include "net/s3_request.h"
#include "store/remote.h"
#include "store/stores.h"

struct atd_s3_store {
    struct atd_remote remote; /* first */
    /* fixed */
    struct atd_s3_site site;
    char region[ATD_REGION_MAX + 1]; /* of buckets about which nothing was learned */
    struct atd_credentials *credentials;
    char maker[ATD_MAKER_LEN + 1]; /* atd_store_maker() */

    atomic_bool refuses_crc32c; /* the endpoint does not know x-amz-checksum-crc32c */
};

struct atd_s3_call {
    struct atd_remote_call base; /* first */
    /* fixed */
    struct atd_str key; /* LIST: the prefix */
    struct atd_str start_after;
    struct atd_s3_write *write; /* WRITE: the waiting thread's, who waits to the end */
    /* on the loop: what the last attempt was signed with, to know what a complaint is about */
    struct atd_credential used;
    char region[ATD_REGION_MAX + 1];
    int64_t clock_offset_s;
    /* LIST: written by the loop, then the waiting thread's */
    struct atd_arena arena;
    struct atd_s3_list list;
};

/* Errors: EINVAL not "s3://BUCKET/KEY". */
int atd_s3_object(struct atd_str url, struct atd_str *ret_bucket, struct atd_str *ret_key,
                  struct atd_error *err) ATD_MUST_USE;
/* "s3://BUCKET/PREFIX", where the prefix may be empty, unlike a key. */
int atd_s3_prefix(struct atd_str url, struct atd_str *ret_bucket, struct atd_str *ret_prefix,
                  struct atd_error *err) ATD_MUST_USE;

/* What to do about a trouble, after correcting what can be corrected. On the loop. */
enum atd_verdict atd_s3_verdict(struct atd_s3_call *call, enum atd_s3_trouble trouble,
                                const char *region, const struct atd_http_head *head);

/* ------------------------------------------------------------------ one request (s3_write.c) */

/* How a request ended that got an answer; other ends are errors. */
enum atd_s3_outcome {
    ATD_S3_OUTCOME_MADE,      /* it did what was asked */
    ATD_S3_OUTCOME_EXISTS,    /* 412: there is an object; perhaps by our own doing */
    ATD_S3_OUTCOME_GONE,      /* there is no such upload or object; perhaps by our own doing */
    ATD_S3_OUTCOME_DROPPED,   /* COMPLETE: 409, and the upload is gone with it */
    ATD_S3_OUTCOME_NO_CRC32C, /* refused, and the checksum may be why */
    ATD_S3_OUTCOME_OTHER,     /* of a probe: refused for good */
};

/* A CRC-32C as a header has it, of parts ("yZRlqg==-12"). */
#define ATD_S3_CHECKSUM_MAX 31

struct atd_s3_write {
    /* set by the caller; bucket and key come from the URL */
    struct atd_s3_request request; /* also a HEAD */
    bool is_probe;
    bool is_once; /* atd_call.once */
    unsigned answer_timeout_ms;

    /* what came of it */
    enum atd_s3_outcome outcome;
    bool may_have_arrived;       /* an earlier attempt, which brought no answer; of an error: any */
    struct atd_object_info info; /* PUT, UPLOAD_PART, COMPLETE: the ETag; HEAD: all */
    char crc32c[ATD_S3_CHECKSUM_MAX + 1];     /* HEAD: "" not told */
    char upload_id[ATD_S3_UPLOAD_ID_MAX + 1]; /* CREATE_UPLOAD */
    struct atd_arena *arena;                  /* LIST_UPLOADS: set by the caller */
    struct atd_s3_uploads uploads;
};

/* Blocks. `group` may be NULL. Errors: EACCES, those of the URL and the request. */
int atd_s3_write_run(struct atd_s3_store *store, struct atd_str url, struct atd_s3_write *write,
                     struct atd_remote_group *group, unsigned timeout_ms,
                     struct atd_error *err) ATD_MUST_USE;

/* For s3_store.c. */
enum atd_verdict atd_s3_judge_write(struct atd_remote_call *call, const struct atd_http_head *head,
                                    struct atd_bytes body, struct atd_error *err);

/* ------------------------------------------------------------------ what is there (s3_confirm.c)
 */

/* What was sent. */
struct atd_s3_sent {
    uint64_t size_bytes;
    char etag[ATD_ETAG_MAX + 1];          /* "": not told */
    char crc32c[ATD_S3_CHECKSUM_MAX + 1]; /* as a HEAD says it; "": unknown */
};

/*
 * The object was made, says the store: confirms it. Errors: EIO it is not what was sent, and was
 * deleted, unless it is somebody else's by now; EREMOTEIO nobody can say, or whose it is.
 */
int atd_s3_confirm(struct atd_s3_store *store, struct atd_str url, const struct atd_s3_sent *sent,
                   unsigned timeout_ms, struct atd_object_info *ret_info,
                   struct atd_error *err) ATD_MUST_USE;

enum atd_s3_finding {
    ATD_S3_FOUND_OURS,
    ATD_S3_FOUND_LIKE_OURS, /* its bytes are, or at least its size; whose it is is not told */
    ATD_S3_FOUND_OTHER,
    ATD_S3_FOUND_NOTHING,
};

/* After a reply was lost: what is there? Errors: those of a request. */
int atd_s3_find(struct atd_s3_store *store, struct atd_str url, const struct atd_s3_sent *sent,
                unsigned timeout_ms, enum atd_s3_finding *ret_finding,
                struct atd_object_info *ret_info, struct atd_error *err) ATD_MUST_USE;

/*
 * Before writing where the store does not guard, or where that is unknown. *ret_guard: "If-None-
 * Match" is worth sending. Errors: EEXIST, those of a request.
 */
int atd_s3_look_first(struct atd_s3_store *store, struct atd_str url, unsigned timeout_ms,
                      bool *ret_guard, struct atd_error *err) ATD_MUST_USE;

int atd_s3_exists(struct atd_str url, struct atd_error *err);
/* EREMOTEIO; `reason` may be NULL. */
int atd_s3_unknown(struct atd_str url, const struct atd_error *reason, struct atd_error *err);

/* ------------------------------------------------------------------ the operations */

/* Big-endian, in base64. */
void atd_s3_crc32c_text(uint32_t crc, char ret_text[ATD_S3_CRC32C_LEN + 1]);

/* The digest of the body if it is to be signed, made here and not on the loop; else NULL. */
#define ATD_S3_SHA256_HEX_MAX 64
const char *atd_s3_payload_hash(const struct atd_s3_store *store,
                                const struct atd_s3_request *request,
                                char into[ATD_S3_SHA256_HEX_MAX + 1]);

/*
 * The unfinished uploads of the bucket that `url` is in, whose keys begin with `prefix`. `fn` gets
 * the key; what it returns, if not 0, ends the walk. Errors: those of a request; EPROTO.
 */
typedef int (*atd_s3_unfinished_fn)(void *ctx, const struct atd_s3_unfinished *upload,
                                    struct atd_error *err);
int atd_s3_each_upload(struct atd_s3_store *store, struct atd_str url, struct atd_str prefix,
                       unsigned timeout_ms, atd_s3_unfinished_fn fn, void *ctx,
                       struct atd_error *err) ATD_MUST_USE;
int atd_s3_uploads(struct atd_store *store, struct atd_str prefix, unsigned timeout_ms,
                   atd_store_uploads_fn fn, void *ctx, struct atd_error *err);

int atd_s3_put(struct atd_store *store, struct atd_str url, struct atd_bytes bytes,
               unsigned timeout_ms, struct atd_object_info *ret_info, struct atd_error *err);
int atd_s3_remove(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                  struct atd_error *err);
int atd_s3_remove_once(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                       struct atd_error *err);
int atd_s3_guards(struct atd_store *store, struct atd_str prefix_url, struct atd_str scratch_name,
                  unsigned timeout_ms, bool *ret_guards, struct atd_error *err);

extern const struct atd_store_write_ops atd_s3_write_ops;

#endif
