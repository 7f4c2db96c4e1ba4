/*
 * S3 operations as HTTP messages: where a bucket is, how a key is spelled, what is signed.
 * Pure: whoever calls it hashes a body that must be signed (2 GB/s). Source: S3-REDIS 1.2, 1.5, 2.1
 * to 2.5.
 */
#ifndef ATD_NET_S3_REQUEST_H
#define ATD_NET_S3_REQUEST_H

#include "atdata/buf.h"
#include "net/credentials.h"
#include "net/http.h"
#include "net/object_info.h"

enum atd_s3_style { ATD_S3_STYLE_AUTO, ATD_S3_STYLE_PATH, ATD_S3_STYLE_VIRTUAL };

/* A service: AWS itself, or an endpoint. Filled by atd_s3_site_init. */
struct atd_s3_site {
    bool https;
    bool is_this_machine; /* "localhost", 127.0.0.0/8 or [::1]: nobody is on the line */
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

enum atd_s3_operation {
    ATD_S3_GET,
    ATD_S3_HEAD,
    ATD_S3_LIST,
    ATD_S3_PUT,
    ATD_S3_CREATE_UPLOAD,
    ATD_S3_UPLOAD_PART,
    ATD_S3_COMPLETE_UPLOAD,
    ATD_S3_ABORT_UPLOAD,
    ATD_S3_LIST_UPLOADS,
    ATD_S3_DELETE,
};

#define ATD_S3_UPLOAD_ID_MAX 1024
#define ATD_S3_PARTS_MAX 10000u
/* A CRC-32C, big-endian, in base64: "yZRlqg==". */
#define ATD_S3_CRC32C_LEN 8

/* The user metadata that says who made an object. */
#define ATD_S3_MAKER_HEADER "x-amz-meta-atdatafs"

struct atd_s3_request {
    enum atd_s3_operation operation;
    struct atd_str bucket;
    struct atd_str key; /* all but the lists */
    /* GET: both or neither */
    bool has_range;
    uint64_t first_byte;
    uint64_t last_byte;      /* inclusive */
    struct atd_str if_match; /* with quotes; empty: none. Also of PUT, DELETE */
    bool wants_checksum;     /* GET, HEAD: x-amz-checksum-mode: ENABLED */
    /* LIST (version 2), LIST_UPLOADS; both with encoding-type=url */
    struct atd_str prefix;
    struct atd_str start_after;        /* LIST; empty: none */
    struct atd_str continuation_token; /* LIST; empty: none */
    unsigned max_keys;                 /* 0: the server's default, which is 1000 */
    struct atd_str key_marker;         /* LIST_UPLOADS; empty: none */
    struct atd_str upload_id_marker;   /* LIST_UPLOADS; empty: none */
    /* PUT, UPLOAD_PART: the bytes. COMPLETE_UPLOAD: what atd_s3_complete_body wrote. Borrowed as
     * long as the message. */
    struct atd_bytes body;
    /*
     * NULL: computed here, over the whole body, when it must be signed (atd_s3_signs_payload).
     * Otherwise UNSIGNED-PAYLOAD is signed.
     */
    const char *payload_sha256_hex;
    bool sign_payload;
    struct atd_str crc32c_base64; /* PUT, UPLOAD_PART: x-amz-checksum-crc32c; empty: none */
    bool if_none_match;           /* PUT, COMPLETE_UPLOAD: "If-None-Match: *" */
    struct atd_str content_type;  /* PUT, CREATE_UPLOAD; empty: none */
    struct atd_str maker;         /* PUT, CREATE_UPLOAD: ATD_S3_MAKER_HEADER; empty: none */
    /* CREATE_UPLOAD: x-amz-checksum-algorithm: CRC32C. Then every part must have one (MinIO: 400
     * InvalidArgument), and the body that completes names them. */
    bool wants_crc32c;
    struct atd_str upload_id; /* UPLOAD_PART, COMPLETE_UPLOAD, ABORT_UPLOAD */
    unsigned part_number;     /* UPLOAD_PART: 1 to ATD_S3_PARTS_MAX */
};

/*
 * Whether the SHA-256 of the body is signed, which costs as much as sending it on this machine:
 * over plain http, with `sign_payload`, and always of COMPLETE_UPLOAD, which is small. Not over
 * TLS, nor to this machine with a CRC-32C, which is signed and finds what a wire may do.
 */
bool atd_s3_signs_payload(const struct atd_s3_site *site, const struct atd_s3_request *request);

/*
 * Builds and signs; everything in `arena`. `credential` NULL: unsigned. `region` also for signing
 * at custom endpoints ("auto" for R2); empty: us-east-1. The Host header is signed but not in the
 * message: libcurl makes it of the URL. Errors: EINVAL a bucket or key that cannot be sent (empty,
 * NUL, over 1024 bytes; '.' or '..' segments are sent as they are), no name of a region, an upload
 * id or part number that cannot be one, a header value with control characters; ENOMEM.
 */
int atd_s3_request_build(const struct atd_s3_site *site, const struct atd_s3_request *request,
                         struct atd_str region, const struct atd_credential *credential,
                         int64_t now_s, struct atd_arena *arena,
                         struct atd_http_message *ret_message, struct atd_error *err) ATD_MUST_USE;

/* "GET", "PUT", "POST", "DELETE", "HEAD". */
const char *atd_s3_method(enum atd_s3_operation operation);

struct atd_s3_part {
    unsigned number;
    char etag[ATD_ETAG_MAX + 1];               /* as atd_etag_copy() gave it */
    char crc32c_base64[ATD_S3_CRC32C_LEN + 4]; /* "": none was sent, or the store takes none */
};

/*
 * The body of COMPLETE_UPLOAD, appended: parts in ascending order, ETags in quotes (Ceph once
 * wanted them). Errors: those of `out` (its `failed`).
 */
void atd_s3_complete_body(const struct atd_s3_part *parts, size_t count, struct atd_buf *out);

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
