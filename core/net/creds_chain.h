/*
 * Which source it is, and how it is asked.
 */
#ifndef ATD_NET_CREDS_CHAIN_H
#define ATD_NET_CREDS_CHAIN_H

#include "net/creds_plan.h"

/* An env file, the profile files, replies: all that one fetch holds. */
#define ATD_CREDS_ARENA_MAX (32u << 20)

/*
 * Picks the first source that is configured; reads files, nothing else. What is configured and
 * broken is an error, not a reason to go on to the next: somebody else's identity is worse than
 * none. Region and endpoint are set even then. Everything is in `arena` or env's. Errors: ENOENT,
 * EINVAL and the system's: which file or profile, why, what to do.
 */
int atd_creds_plan_make(const struct atd_creds_env *env, struct atd_arena *arena,
                        struct atd_creds_plan *ret_plan, struct atd_error *err) ATD_MUST_USE;

/* True when running the plan takes neither a network nor a process. */
bool atd_creds_plan_is_static(const struct atd_creds_plan *plan);

/* Blocks: as the source does. Errors: the source's, its name in front. */
int atd_creds_plan_run(const struct atd_creds_plan *plan, const struct atd_creds_env *env,
                       struct atd_arena *arena, struct atd_credential *ret_value,
                       struct atd_error *err) ATD_MUST_USE;

#endif
