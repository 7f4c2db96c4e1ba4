/*
 * The one way to make a credential: whatever a source says is checked here before it can become
 * a header line. Error texts never quote a value.
 */
#ifndef ATD_NET_CREDS_VALUE_H
#define ATD_NET_CREDS_VALUE_H

#include "net/credentials.h"

/* Texts as a source gives them; ptr NULL or empty: not there. */
struct atd_creds_texts {
    struct atd_str access_key_id;
    struct atd_str secret_access_key;
    struct atd_str session_token; /* optional */
    int64_t expires_s;            /* 0: never */
};

/*
 * Errors: EINVAL one is missing, too long, or has other characters than printable ASCII; the
 * sentence goes "the secret access key is missing".
 */
int atd_creds_value_make(const struct atd_creds_texts *texts, struct atd_credential *ret_value,
                         struct atd_error *err) ATD_MUST_USE;

bool atd_creds_value_same(const struct atd_credential *a, const struct atd_credential *b);
void atd_creds_value_wipe(struct atd_credential *value);

/* Printable ASCII without blanks, as a header value or a form field without surprises. */
bool atd_creds_is_plain(struct atd_str text);
/* True when `secret` (of 4 bytes or more), or 12 bytes of it, stand somewhere in `text`. */
bool atd_creds_tells(struct atd_str text, struct atd_str secret);

#define atd_auto_credential __attribute__((cleanup(atd_creds_value_wipe)))

#endif
