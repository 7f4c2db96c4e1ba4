#include "base/digest.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>

#include "base/check.h"

struct atd_sha256 {
    EVP_MD_CTX *ctx;
};

struct atd_sha256 *atd_sha256_new(void)
{
    struct atd_sha256 *sha = calloc(1, sizeof(*sha));

    if (!sha)
        return NULL;
    sha->ctx = EVP_MD_CTX_new();
    if (!sha->ctx || EVP_DigestInit_ex(sha->ctx, EVP_sha256(), NULL) != 1) {
        atd_sha256_free(sha);
        return NULL;
    }
    return sha;
}

void atd_sha256_free(struct atd_sha256 *sha)
{
    if (!sha)
        return;
    EVP_MD_CTX_free(sha->ctx);
    free(sha);
}

void atd_sha256_add(struct atd_sha256 *sha, const void *data, size_t len)
{
    int ok = EVP_DigestUpdate(sha->ctx, data, len);

    atd_assert(ok == 1);
}

void atd_sha256_finish(struct atd_sha256 *sha, uint8_t ret_digest[ATD_SHA256_BYTES])
{
    int ok = EVP_DigestFinal_ex(sha->ctx, ret_digest, NULL);

    atd_assert(ok == 1);
}

void atd_sha256_of(const void *data, size_t len, uint8_t ret_digest[ATD_SHA256_BYTES])
{
    (void)SHA256(data, len, ret_digest);
}
