/*
 * S3 operations as HTTP messages: where a bucket is, how a key is spelled, what is signed.
 * Pure. Source: S3-REDIS 1.2, 1.5, 2.5.
 */
#ifndef ATD_NET_S3_REQUEST_H
#define ATD_NET_S3_REQUEST_H

#include "atdata/buf.h"
#include "net/credentials.h"
#include "net/http.h"

enum atd_s3_style { ATD_S3_STYLE_AUTO, ATD_S3_STYLE_PATH, ATD_S3_STYLE_VIRTUAL };

/* A service: AWS itself, or an endpoint. Filled by atd_s3_site_init. */
struct atd_s3_site {
    bool https;
    bool is_aws;
    enum atd_s3_style style; /* never AUTO once initialised for a custom endpoint */
    char host[256];          /* as in the URL, with a non-default port, IPv6 in brackets; AWS: "" */
    char path[256];          /* the endpoint's own path, "" or "/x", no trailing slash */
};

/*
 * `endpoint` NULL: AWS, and so are its own addresses "https://s3[.REGION].amazonaws.com". Errors:
 * EINVAL with what is wrong (scheme, user info, query, spaces, an address that libcurl would spell
 * otherwise, S3 Express).
 */
int atd_s3_site_init(struct atd_s3_site *ret_site, const char *endpoint, enum atd_s3_style style,
                     struct atd_error *err) ATD_MUST_USE;

enum atd_s3_operation { ATD_S3_GET, ATD_S3_HEAD, ATD_S3_LIST };

struct atd_s3_request {
    enum atd_s3_operation operation;
    struct atd_str bucket;
    struct atd_str key; /* GET, HEAD */
    /* GET: both or neither */
    bool has_range;
    uint64_t first_byte;
    uint64_t last_byte; /* inclusive */
    struct atd_str if_match; /* with quotes; empty: none */
    /* LIST (version 2, encoding-type=url) */
    struct atd_str prefix;
    struct atd_str start_after;        /* empty: none */
    struct atd_str continuation_token; /* empty: none */
    unsigned max_keys;                 /* 0: the server's default, which is 1000 */
};

/*
 * Builds and signs; everything in `arena`. `credential` NULL: unsigned. `region` also for signing
 * at custom endpoints ("auto" for R2); empty: us-east-1. The Host header is signed but not in the
 * message: libcurl makes it of the URL. Errors: EINVAL a bucket or key that cannot be sent (empty,
 * NUL, over 1024 bytes; '.' or '..' segments are sent as they are), no name of a region; ENOMEM.
 */
int atd_s3_request_build(const struct atd_s3_site *site, const struct atd_s3_request *request,
                         struct atd_str region, const struct atd_credential *credential,
                         int64_t now_s, struct atd_arena *arena,
                         struct atd_http_message *ret_message, struct atd_error *err) ATD_MUST_USE;

/*
 * A presigned GET URL, appended; valid no longer than the credential is. Errors: as above; EINVAL
 * without a credential, or when it has expired.
 */
int atd_s3_presign(const struct atd_s3_site *site, struct atd_str bucket, struct atd_str key,
                   struct atd_str region, const struct atd_credential *credential, int64_t now_s,
                   unsigned expires_s, struct atd_buf *ret_url, struct atd_error *err) ATD_MUST_USE;

/* RFC 3986 percent-encoding as SigV4 wants it; '/' too unless keep_slash. */
void atd_uri_encode(struct atd_str text, bool keep_slash, struct atd_buf *out);

#endif
