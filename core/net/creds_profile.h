/*
 * From a profile of the shared files to a plan. Source: S3-REDIS 4.
 */
#ifndef ATD_NET_CREDS_PROFILE_H
#define ATD_NET_CREDS_PROFILE_H

#include "net/creds_file.h"
#include "net/creds_plan.h"

struct atd_creds_profiles {
    struct atd_creds_file config;
    struct atd_creds_file credentials;
};

/*
 * Reads both files; one that does not exist is empty. Blocks: on the disk. Errors: those of
 * atd_creds_read_file and atd_creds_file_parse, with the path.
 */
int atd_creds_profiles_load(const struct atd_creds_env *env, struct atd_arena *arena,
                            struct atd_creds_profiles *ret_profiles,
                            struct atd_error *err) ATD_MUST_USE;

/*
 * Fills `plan` with what env->profile says; its root stays NONE when there is no such profile or
 * it has nothing about credentials. Region and endpoint are set in any case. Strings are the
 * profiles' and env's. Errors: ENOENT a profile that was named is nowhere; EINVAL one that cannot
 * work: which, why, what to do.
 */
int atd_creds_profile_plan(const struct atd_creds_profiles *profiles,
                           const struct atd_creds_env *env, struct atd_creds_plan *plan,
                           struct atd_error *err) ATD_MUST_USE;

#endif
