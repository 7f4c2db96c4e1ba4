/*
 * What sources of credentials answer: JSON of processes, containers and instance metadata, XML of
 * STS. Pure. Everything is hostile; no error text quotes the reply. Source: S3-REDIS 4.
 */
#ifndef ATD_NET_CREDS_REPLY_H
#define ATD_NET_CREDS_REPLY_H

#include "atdata/arena.h"
#include "net/creds_value.h"

#define ATD_CREDS_REPLY_MAX 65536u

enum atd_creds_json { ATD_CREDS_JSON_PROCESS, ATD_CREDS_JSON_METADATA };

/*
 * PROCESS wants "Version": 1 and has "SessionToken"; METADATA has "Token" and, from an instance,
 * "Code": "Success". Errors: EPROTO not such JSON, or a credential that cannot be used; ENOMEM.
 */
int atd_creds_reply_json(struct atd_str text, enum atd_creds_json kind, struct atd_arena *arena,
                         struct atd_credential *ret_value, struct atd_error *err) ATD_MUST_USE;

struct atd_creds_sts_error {
    char code[64];     /* "AccessDenied"; "" when the reply is no ErrorResponse */
    char message[256]; /* may quote the request */
};

/* The Credentials of an AssumeRole... reply. Errors: EPROTO, ENOMEM. */
int atd_creds_reply_sts(struct atd_bytes xml, struct atd_credential *ret_value,
                        struct atd_error *err) ATD_MUST_USE;
void atd_creds_reply_sts_error(struct atd_bytes xml, struct atd_creds_sts_error *ret_error);

#endif
