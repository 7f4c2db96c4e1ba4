/*
 * Roles of AWS's Security Token Service. Source: S3-REDIS 4; the API references of
 * sts:AssumeRole and sts:AssumeRoleWithWebIdentity.
 */
#ifndef ATD_NET_CREDS_WEB_H
#define ATD_NET_CREDS_WEB_H

#include "net/creds_plan.h"

#define ATD_CREDS_STS_TRIES 3u
#define ATD_CREDS_STS_TIMEOUT_MS 10000u

/*
 * Both block: the tries' time-outs. `region` NULL: us-east-1. Errors: EINVAL what was configured;
 * EACCES refused (STS's code and message); EPROTO; those of atd_http_fetch; ECANCELED.
 */

/* Signed with `with`. */
int atd_creds_assume_role(const struct atd_creds_env *env, const char *region,
                          const struct atd_creds_role *role, const struct atd_credential *with,
                          struct atd_arena *arena, struct atd_credential *ret_value,
                          struct atd_error *err) ATD_MUST_USE;

/* Unsigned; the token is read from its file anew. */
int atd_creds_assume_web_role(const struct atd_creds_env *env, const char *region,
                              const struct atd_creds_role *role, const char *token_file,
                              struct atd_arena *arena, struct atd_credential *ret_value,
                              struct atd_error *err) ATD_MUST_USE;

#endif
