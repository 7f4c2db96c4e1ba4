/*
 * SHA-256 through OpenSSL.
 */
#ifndef ATD_BASE_DIGEST_H
#define ATD_BASE_DIGEST_H

#include "atdata/error.h"
#include "atdata/str.h"

#define ATD_SHA256_BYTES 32

struct atd_sha256; /* one running digest; owned by whoever made it */

/* NULL when out of memory. */
struct atd_sha256 *atd_sha256_new(void) ATD_MUST_USE;
void atd_sha256_free(struct atd_sha256 *sha);
void atd_sha256_add(struct atd_sha256 *sha, const void *data, size_t len);
/* Stores the digest; the object may only be freed afterwards. */
void atd_sha256_finish(struct atd_sha256 *sha, uint8_t ret_digest[ATD_SHA256_BYTES]);

/* The digest of one piece of memory. */
void atd_sha256_of(const void *data, size_t len, uint8_t ret_digest[ATD_SHA256_BYTES]);

static inline void atd_cleanup_sha256(struct atd_sha256 **sha)
{
    atd_sha256_free(*sha);
}

#define atd_auto_sha256 __attribute__((cleanup(atd_cleanup_sha256)))

#endif
