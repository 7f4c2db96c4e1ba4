/*
 * Replies of S3: XML to structs (expat), headers to facts, and the one table from S3 errors to
 * errno. Everything is hostile: bounded depth, text and counts. Source: S3-REDIS 1.4, 1.5, 2.
 */
#ifndef ATD_NET_S3_REPLY_H
#define ATD_NET_S3_REPLY_H

#include "net/call.h"
#include "net/http.h"
#include "net/object_info.h"
#include "net/s3_request.h"

#define ATD_S3_LIST_KEYS_MAX 1000u

struct atd_s3_listed {
    struct atd_str key;
    struct atd_object_info info;
};

struct atd_s3_list {
    struct atd_s3_listed *keys;
    size_t key_count;
    bool is_truncated;
    struct atd_str next_token;
};

/*
 * A ListBucketResult, in `arena`; keys are decoded when the reply says EncodingType url. Errors:
 * EPROTO not such XML, or truncated without a token, or past a bound (position); ENOMEM.
 */
int atd_s3_list_parse(struct atd_bytes body, struct atd_arena *arena, struct atd_s3_list *ret_list,
                      struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ uploads in parts */

#define ATD_S3_UPLOADS_MAX 1000u

/*
 * The UploadId of an InitiateMultipartUploadResult. Errors: EPROTO not such XML, no id, or one that
 * is empty or longer than ATD_S3_UPLOAD_ID_MAX; ENOMEM.
 */
int atd_s3_upload_id_parse(struct atd_bytes body, char ret_id[ATD_S3_UPLOAD_ID_MAX + 1],
                           struct atd_error *err) ATD_MUST_USE;

struct atd_s3_error;

/*
 * What a 200 to COMPLETE_UPLOAD says, possibly after blanks that kept the connection alive. 0: the
 * object was made; *ret_etag as atd_etag_copy(), "" when the reply has none. Errors: EREMOTEIO it
 * is an <Error>, and *ret_error is filled (atd_s3_write_error_classify says what to do about it);
 * EPROTO anything else, cut off or empty: nobody knows; ENOMEM.
 */
int atd_s3_complete_parse(struct atd_bytes body, char ret_etag[ATD_ETAG_MAX + 1],
                          struct atd_s3_error *ret_error, struct atd_error *err) ATD_MUST_USE;

struct atd_s3_unfinished {
    struct atd_str key;
    struct atd_str upload_id;
    int64_t begun_s; /* 0: not told */
};

struct atd_s3_uploads {
    struct atd_s3_unfinished *uploads;
    size_t count;
    bool is_truncated;
    struct atd_str next_key_marker; /* to be sent back as they are */
    struct atd_str next_upload_id_marker;
};

/*
 * A ListMultipartUploadsResult, in `arena`; keys (and the key marker) are decoded when the reply
 * says EncodingType url. Errors: as atd_s3_list_parse().
 */
int atd_s3_uploads_parse(struct atd_bytes body, struct atd_arena *arena,
                         struct atd_s3_uploads *ret_uploads, struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ errors */

struct atd_s3_error {
    char code[64];     /* "NoSuchKey"; "" when the body has none */
    char message[256]; /* cleaned of control characters */
    char region[64];
};

/* Never fails: what is not an <Error> document leaves all fields empty. Never secrets. */
void atd_s3_error_parse(struct atd_bytes body, struct atd_s3_error *ret_error);

/* What to do about an error reply; the one table. */
enum atd_s3_trouble {
    ATD_S3_TROUBLE_FINAL,
    ATD_S3_TROUBLE_PASSING,     /* 5xx, RequestTimeout, ... */
    ATD_S3_TROUBLE_THROTTLED,   /* SlowDown, 429, 503, ... */
    ATD_S3_TROUBLE_CLOCK,       /* RequestTimeTooSkewed (or a bare 403 with a Date far off) */
    ATD_S3_TROUBLE_REGION,      /* ret_region is set */
    ATD_S3_TROUBLE_CREDENTIALS, /* ExpiredToken, InvalidToken, ... */
};

/*
 * Classifies an error reply (status outside 2xx) and sets err: its code (ENOENT, EACCES, ESTALE
 * for 412, EIO, ...) and a sentence naming `what` (such as "'s3://b/k'"), the S3 code and what to
 * do. `local_now_s` is the clock the request was signed with.
 */
enum atd_s3_trouble atd_s3_error_classify(const struct atd_http_head *head, struct atd_bytes body,
                                          const char *what, int64_t local_now_s,
                                          char ret_region[64], struct atd_error *err);

/*
 * The same for the operations that write (PUT to ABORT_UPLOAD, DELETE), with sentences that fit;
 * also of an <Error> inside a 200. What differs: 412 is EEXIST ("exists already"). It may be this
 * call's own doing: atd_call_may_have_arrived(). NoSuchUpload is ENOENT: it was aborted, or has
 * been completed. 409 ConditionalRequestConflict is PASSING.
 */
enum atd_s3_trouble atd_s3_write_error_classify(enum atd_s3_operation operation,
                                                const struct atd_http_head *head,
                                                struct atd_bytes body, const char *what,
                                                int64_t local_now_s, char ret_region[64],
                                                struct atd_error *err);

/*
 * True: an error reply to a request with an x-amz-checksum-* header that looks as if the server
 * does not know it (501, NotImplemented; 400 InvalidRequest or InvalidArgument, which has other
 * causes too). Repeat once without; if that succeeds, remember. A checksum that did not fit
 * (BadDigest and the like) is not this: it is PASSING, as the bytes were damaged on their way.
 */
bool atd_s3_checksum_refused(const struct atd_http_head *head, struct atd_bytes body);

/* ------------------------------------------------------------------ headers */

/*
 * "bytes FIRST-LAST/TOTAL" (or "bytes * /TOTAL" of a 416, then *ret_first > *ret_last). False when
 * it is anything else, TOTAL "*" included.
 */
bool atd_content_range_parse(struct atd_str value, uint64_t *ret_first, uint64_t *ret_last,
                             uint64_t *ret_total);

/*
 * An ETag as object_info keeps it: without quotes, "W/" kept. "" when it is too long or could not
 * be sent back in a header.
 */
void atd_etag_copy(struct atd_str text, char ret_etag[ATD_ETAG_MAX + 1]);

/* Size, ETag and Last-Modified of a 200 or 206. False when the size is not told. */
bool atd_object_info_from_head(const struct atd_http_head *head, struct atd_object_info *ret_info);

#endif
