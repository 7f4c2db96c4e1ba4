#include "net/creds_value.h"

#include <errno.h>

/* Shorter ones are no secrets and stand in any text by chance. */
#define SECRET_MIN 4
/* A run of so many bytes of a longer one gives it away. */
#define SECRET_RUN 12

bool atd_creds_is_plain(struct atd_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < '!' || text.ptr[i] > '~')
            return false;
    return text.len > 0;
}

bool atd_creds_tells(struct atd_str text, struct atd_str secret)
{
    size_t run = secret.len < SECRET_RUN ? secret.len : SECRET_RUN;

    if (run < SECRET_MIN)
        return false;
    for (size_t at = 0; at + run <= secret.len; at++)
        if (memmem(text.ptr, text.len, secret.ptr + at, run))
            return true;
    return false;
}

static int take(struct atd_str text, const char *what, char *place, size_t max,
                struct atd_error *err)
{
    if (!text.len)
        return atd_error_set(err, EINVAL, "the %s is missing", what);
    if (text.len >= max)
        return atd_error_set(err, EINVAL, "the %s is longer than %zu bytes", what, max - 1);
    if (!atd_creds_is_plain(text))
        return atd_error_set(
            err, EINVAL, "the %s has other characters than printable ASCII without blanks", what);
    memcpy(place, text.ptr, text.len);
    return 0;
}

int atd_creds_value_make(const struct atd_creds_texts *texts, struct atd_credential *ret_value,
                         struct atd_error *err)
{
    atd_auto_credential struct atd_credential value = {.expires_s = texts->expires_s};
    int rc = take(texts->access_key_id, "access key id", value.access_key_id,
                  sizeof(value.access_key_id), err);

    if (rc == 0)
        rc = take(texts->secret_access_key, "secret access key", value.secret_access_key,
                  sizeof(value.secret_access_key), err);
    if (rc == 0 && texts->session_token.len)
        rc = take(texts->session_token, "session token", value.session_token,
                  sizeof(value.session_token), err);
    if (rc == 0)
        *ret_value = value;
    return rc;
}

bool atd_creds_value_same(const struct atd_credential *a, const struct atd_credential *b)
{
    return strcmp(a->access_key_id, b->access_key_id) == 0 &&
           strcmp(a->secret_access_key, b->secret_access_key) == 0 &&
           strcmp(a->session_token, b->session_token) == 0;
}

void atd_creds_value_wipe(struct atd_credential *value)
{
    explicit_bzero(value, sizeof(*value));
}
