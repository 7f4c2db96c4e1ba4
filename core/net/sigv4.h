/*
 * AWS Signature Version 4, pure. Why not libcurl's: S3-REDIS 1.1. Rules: S3-REDIS 1.2, 1.3; pinned
 * by all of vectors/sigv4.json at each level.
 *
 * Threads: any.
 */
#ifndef ATD_NET_SIGV4_H
#define ATD_NET_SIGV4_H

#include "atdata/buf.h"
#include "net/credentials.h"
#include "net/http.h"

#define ATD_SIGV4_TIME_LEN 16 /* "20130524T000000Z" */
#define ATD_SIGV4_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ATD_SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"
#define ATD_SIGV4_EXPIRES_MAX 604800

/* What is signed. */
struct atd_sigv4_request {
    const char *method;
    struct atd_str
        canonical_uri;    /* the path exactly as sent, percent-encoded once: "/bucket/a%20b" */
    struct atd_str query; /* canonical: encoded, sorted, "name=" for valueless; may be empty */
    const struct atd_http_header *headers; /* to be signed, among them host; any order, repeats */
    size_t header_count;
    struct atd_str payload_hash; /* hex, or ATD_SIGV4_UNSIGNED, or "STREAMING-..." */
    struct atd_str region;
    struct atd_str service; /* "s3", "sts" */
    char time[ATD_SIGV4_TIME_LEN + 1];
};

void atd_sigv4_time(int64_t seconds, char ret_time[ATD_SIGV4_TIME_LEN + 1]);

/*
 * The three levels; tests check each. `ret_signed_headers` gets "host;x-amz-date"; what the buffers
 * held is replaced. Errors: ENOMEM; EFBIG past their maxima.
 */
int atd_sigv4_canonical_request(const struct atd_sigv4_request *request, struct atd_buf *ret_text,
                                struct atd_buf *ret_signed_headers,
                                struct atd_error *err) ATD_MUST_USE;
int atd_sigv4_string_to_sign(const struct atd_sigv4_request *request,
                             struct atd_str canonical_request, struct atd_buf *ret_text,
                             struct atd_error *err) ATD_MUST_USE;
int atd_sigv4_signature(const struct atd_sigv4_request *request, struct atd_str string_to_sign,
                        struct atd_str secret_access_key, char ret_hex[65],
                        struct atd_error *err) ATD_MUST_USE;

#define ATD_SIGV4_KEY_LEN 32
/*
 * The key that atd_sigv4_signature signs with; `day` is "20130524". Errors: EINVAL a secret longer
 * than ATD_CREDENTIAL_KEY_MAX; ENOMEM.
 */
int atd_sigv4_signing_key(struct atd_str secret_access_key, struct atd_str day,
                          struct atd_str region, struct atd_str service,
                          uint8_t ret_key[ATD_SIGV4_KEY_LEN], struct atd_error *err) ATD_MUST_USE;

/*
 * The whole: the value of the Authorization header. x-amz-date, x-amz-content-sha256 and
 * x-amz-security-token must be among the headers already. Appends. Errors: ENOMEM, EFBIG.
 */
int atd_sigv4_authorization(const struct atd_sigv4_request *request,
                            const struct atd_credential *credential, struct atd_buf *ret_value,
                            struct atd_error *err) ATD_MUST_USE;

/*
 * A presigned URL's query, signature last, appended. `request->query` holds other parameters (or
 * nothing), `headers` the ones that whoever uses the URL must send: host alone as a rule. An empty
 * `payload_hash` stands for ATD_SIGV4_UNSIGNED, which S3 wants. `expires_s` 1 to
 * ATD_SIGV4_EXPIRES_MAX. Errors: EINVAL, ENOMEM, EFBIG.
 */
int atd_sigv4_presign(const struct atd_sigv4_request *request,
                      const struct atd_credential *credential, unsigned expires_s,
                      struct atd_buf *ret_query, struct atd_error *err) ATD_MUST_USE;

#endif
