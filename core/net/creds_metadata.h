/*
 * Credentials that the place where we run hands out: a container's (ECS, EKS Pod Identity) and an
 * instance's (IMDS). Never through a proxy. Source: S3-REDIS 4.
 */
#ifndef ATD_NET_CREDS_METADATA_H
#define ATD_NET_CREDS_METADATA_H

#include "net/creds_plan.h"

#define ATD_CREDS_CONTAINER_TRIES 3u
#define ATD_CREDS_CONTAINER_TIMEOUT_MS 2000u
#define ATD_CREDS_IMDS_TIMEOUT_MS 1000u

/*
 * Both block: the tries' time-outs. Errors: EINVAL what was configured; ENOENT the instance has
 * no role; EACCES another status; EPROTO; those of atd_http_fetch; ECANCELED.
 */

/*
 * The token for it is read from its file anew. http only to the loopback and the addresses that
 * AWS reserves for this, so that a variable cannot send the token to strangers in the clear.
 */
int atd_creds_container(const struct atd_creds_env *env, struct atd_arena *arena,
                        struct atd_credential *ret_value, struct atd_error *err) ATD_MUST_USE;

/* IMDSv2, or v1 when the service has no v2 (403, 404, 405) and nobody forbade it. */
int atd_creds_instance(const struct atd_creds_env *env, struct atd_arena *arena,
                       struct atd_credential *ret_value, struct atd_error *err) ATD_MUST_USE;

#endif
