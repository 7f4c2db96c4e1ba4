#include "net/creds_profile.h"

#include <errno.h>
#include <stdlib.h>

/* Source of both: the API reference of sts:AssumeRole. */
#define ROLE_DURATION_MIN_S 900
#define ROLE_DURATION_MAX_S 43200

struct planner {
    const struct atd_creds_profiles *profiles;
    const struct atd_creds_env *env;
    struct atd_creds_plan *plan;
    struct atd_error *err;
};

static int load(const char *path, bool is_config, struct atd_arena *arena,
                struct atd_creds_file *ret_file, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_str text;
    int rc;

    *ret_file = (struct atd_creds_file){.is_config = is_config};
    if (!path)
        return 0;
    rc = atd_creds_read_file(path, ATD_CREDS_FILE_MAX, arena, &text, &why);
    if (rc == -ENOENT || rc == -ENOTDIR)
        return 0;
    if (rc == 0) {
        rc = atd_creds_file_parse(text, is_config, arena, ret_file, &why);
        if (rc)
            rc = atd_error_wrap(&why, rc, "'%s'", path);
    }
    if (rc && err)
        *err = why;
    return rc;
}

int atd_creds_profiles_load(const struct atd_creds_env *env, struct atd_arena *arena,
                            struct atd_creds_profiles *ret_profiles, struct atd_error *err)
{
    int rc = load(env->config_path, true, arena, &ret_profiles->config, err);

    return rc ? rc : load(env->credentials_path, false, arena, &ret_profiles->credentials, err);
}

/* The credentials file goes before the config file. */
static const char *get(const struct planner *planner, const char *profile, const char *key)
{
    struct atd_str name = atd_str_from(profile);
    const char *value =
        atd_creds_file_find(&planner->profiles->credentials, ATD_CREDS_PROFILE, name, key);

    return value ? value
                 : atd_creds_file_find(&planner->profiles->config, ATD_CREDS_PROFILE, name, key);
}

static bool exists(const struct planner *planner, const char *profile)
{
    struct atd_str name = atd_str_from(profile);

    return atd_creds_file_has(&planner->profiles->credentials, ATD_CREDS_PROFILE, name) ||
           atd_creds_file_has(&planner->profiles->config, ATD_CREDS_PROFILE, name);
}

static int missing(const struct planner *planner, const char *profile)
{
    const struct atd_creds_env *env = planner->env;
    const struct atd_creds_profiles *profiles = planner->profiles;
    const struct atd_creds_file *bad = profiles->config.bad_line_count ? &profiles->config
                                       : profiles->credentials.bad_line_count
                                           ? &profiles->credentials
                                           : NULL;

    if (bad)
        return atd_error_set(planner->err, ENOENT,
                             "profile '%s' is in neither '%s' nor '%s' (line %zu of '%s' is not "
                             "understood)",
                             profile, env->config_path ? env->config_path : "~/.aws/config",
                             env->credentials_path ? env->credentials_path : "~/.aws/credentials",
                             bad->first_bad_line,
                             bad->is_config ? env->config_path : env->credentials_path);
    return atd_error_set(planner->err, ENOENT,
                         "profile '%s' is in neither '%s' nor '%s'; in the first it is headed "
                         "[profile NAME], in the second [NAME]",
                         profile, env->config_path ? env->config_path : "~/.aws/config",
                         env->credentials_path ? env->credentials_path : "~/.aws/credentials");
}

/* Keys of `file` alone: botocore does not mix the two files' halves either. */
static int static_keys(const struct planner *planner, const struct atd_creds_file *file,
                       const char *profile)
{
    struct atd_str name = atd_str_from(profile);
    const char *id = atd_creds_file_find(file, ATD_CREDS_PROFILE, name, "aws_access_key_id");
    const char *secret =
        atd_creds_file_find(file, ATD_CREDS_PROFILE, name, "aws_secret_access_key");
    const char *token = atd_creds_file_find(file, ATD_CREDS_PROFILE, name, "aws_session_token");

    if (!token)
        token = atd_creds_file_find(file, ATD_CREDS_PROFILE, name, "aws_security_token");
    if (!id)
        return 0;
    if (!secret)
        return atd_error_set(planner->err, EINVAL,
                             "profile '%s' has aws_access_key_id and no aws_secret_access_key",
                             profile);
    planner->plan->root = ATD_CREDS_ROOT_STATIC;
    planner->plan->may_change = token != NULL;
    planner->plan->texts = (struct atd_creds_texts){
        .access_key_id = atd_str_from(id),
        .secret_access_key = atd_str_from(secret),
        .session_token = token ? atd_str_from(token) : (struct atd_str){NULL, 0},
    };
    return 0;
}

static bool has_sso(const struct planner *planner, const char *profile)
{
    return get(planner, profile, "sso_session") || get(planner, profile, "sso_start_url") ||
           get(planner, profile, "sso_account_id");
}

static int plain_profile(const struct planner *planner, const char *profile)
{
    struct atd_creds_plan *plan = planner->plan;
    const char *token_file = get(planner, profile, "web_identity_token_file");
    int rc;

    if (token_file) {
        const char *arn = get(planner, profile, "role_arn");

        if (!arn)
            return atd_error_set(planner->err, EINVAL,
                                 "profile '%s' has web_identity_token_file and no role_arn",
                                 profile);
        plan->root = ATD_CREDS_ROOT_WEB_IDENTITY;
        plan->token_file = token_file;
        plan->web_role = (struct atd_creds_role){
            .arn = arn,
            .session_name = get(planner, profile, "role_session_name"),
        };
        return 0;
    }
    rc = static_keys(planner, &planner->profiles->credentials, profile);
    if (rc || plan->root != ATD_CREDS_ROOT_NONE)
        return rc;
    if (has_sso(planner, profile))
        return atd_error_set(planner->err, EINVAL,
                             "profile '%s' signs in with SSO, which is not built in; give it the "
                             "line 'credential_process = aws configure export-credentials "
                             "--profile NAME --format process' in a profile of its own, and run "
                             "'aws sso login' before",
                             profile);
    plan->command = get(planner, profile, "credential_process");
    if (plan->command) {
        plan->root = ATD_CREDS_ROOT_PROCESS;
        return 0;
    }
    return static_keys(planner, &planner->profiles->config, profile);
}

static int role_duration(const struct planner *planner, const char *profile, unsigned *ret_s)
{
    const char *text = get(planner, profile, "duration_seconds");
    char *end;
    long seconds;

    *ret_s = 0;
    if (!text)
        return 0;
    seconds = strtol(text, &end, 10);
    if (*end || seconds < ROLE_DURATION_MIN_S || seconds > ROLE_DURATION_MAX_S)
        return atd_error_set(planner->err, EINVAL,
                             "profile '%s': duration_seconds '%s' is not a number from %d to %d",
                             profile, text, ROLE_DURATION_MIN_S, ROLE_DURATION_MAX_S);
    *ret_s = (unsigned)seconds;
    return 0;
}

static int add_role(const struct planner *planner, const char *profile, const char *arn)
{
    struct atd_creds_plan *plan = planner->plan;
    struct atd_creds_role *role;

    if (get(planner, profile, "mfa_serial"))
        return atd_error_set(planner->err, EINVAL,
                             "profile '%s' wants a code of an MFA device (mfa_serial), which a "
                             "mount cannot ask for; use 'aws configure export-credentials "
                             "--profile %s --format process' by hand",
                             profile, profile);
    if (plan->role_count == ATD_CREDS_ROLES_MAX)
        return atd_error_set(planner->err, EINVAL,
                             "profile '%s': more than %u roles are assumed one after another",
                             profile, ATD_CREDS_ROLES_MAX);
    role = &plan->roles[plan->role_count++];
    role->arn = arn;
    role->session_name = get(planner, profile, "role_session_name");
    role->external_id = get(planner, profile, "external_id");
    return role_duration(planner, profile, &role->duration_s);
}

static int credential_source(const struct planner *planner, const char *profile, const char *source)
{
    const struct atd_creds_env *env = planner->env;
    struct atd_creds_plan *plan = planner->plan;

    if (strcmp(source, "Environment") == 0) {
        const char *id = env->vars[ATD_VAR_AWS_ACCESS_KEY_ID];
        const char *secret = env->vars[ATD_VAR_AWS_SECRET_ACCESS_KEY];
        const char *token = env->vars[ATD_VAR_AWS_SESSION_TOKEN];

        if (!id || !secret)
            return atd_error_set(planner->err, EINVAL,
                                 "profile '%s' takes credential_source Environment, but "
                                 "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is not set",
                                 profile);
        plan->root = ATD_CREDS_ROOT_STATIC;
        plan->texts = (struct atd_creds_texts){
            .access_key_id = atd_str_from(id),
            .secret_access_key = atd_str_from(secret),
            .session_token = token ? atd_str_from(token) : (struct atd_str){NULL, 0},
        };
    } else if (strcmp(source, "EcsContainer") == 0) {
        plan->root = ATD_CREDS_ROOT_CONTAINER;
    } else if (strcmp(source, "Ec2InstanceMetadata") == 0) {
        plan->root = ATD_CREDS_ROOT_METADATA;
    } else {
        return atd_error_set(planner->err, EINVAL,
                             "profile '%s': credential_source '%s' is none of Environment, "
                             "EcsContainer, Ec2InstanceMetadata",
                             profile, source);
    }
    return 0;
}

/* Follows source_profile from role to role until something that has credentials of its own. */
static int follow(const struct planner *planner, const char *profile)
{
    const char *visited[ATD_CREDS_ROLES_MAX + 1];
    size_t visited_count = 0;

    for (;;) {
        const char *arn = get(planner, profile, "role_arn");
        const char *next = get(planner, profile, "source_profile");
        const char *source = get(planner, profile, "credential_source");
        int rc;

        if (!arn || get(planner, profile, "web_identity_token_file"))
            return plain_profile(planner, profile);
        rc = add_role(planner, profile, arn); /* bounds the loop */
        if (rc)
            return rc;
        visited[visited_count++] = profile;
        if (!next == !source)
            return atd_error_set(planner->err, EINVAL, "profile '%s' has role_arn and %s", profile,
                                 next ? "both source_profile and credential_source"
                                      : "neither source_profile nor credential_source");
        if (source)
            return credential_source(planner, profile, source);
        if (!exists(planner, next)) {
            rc = missing(planner, next);
            return atd_error_wrap(planner->err, rc, "source_profile of '%s'", profile);
        }
        /* One that names itself has keys to assume its role with. */
        if (strcmp(next, profile) == 0)
            break;
        for (size_t i = 0; i < visited_count; i++)
            if (strcmp(visited[i], next) == 0)
                return atd_error_set(planner->err, EINVAL,
                                     "profile '%s': source_profile '%s' leads round in a circle",
                                     profile, next);
        profile = next;
    }
    {
        int rc = static_keys(planner, &planner->profiles->credentials, profile);

        if (rc == 0 && planner->plan->root == ATD_CREDS_ROOT_NONE)
            rc = static_keys(planner, &planner->profiles->config, profile);
        return rc;
    }
}

/* endpoint_url, or the one for S3 of the profile's services section. */
static const char *endpoint_of(const struct planner *planner, const char *profile)
{
    const char *services = get(planner, profile, "services");
    const char *endpoint = NULL;

    if (services)
        endpoint = atd_creds_file_find(&planner->profiles->config, ATD_CREDS_SERVICES,
                                       atd_str_from(services), "s3.endpoint_url");
    return endpoint ? endpoint : get(planner, profile, "endpoint_url");
}

int atd_creds_profile_plan(const struct atd_creds_profiles *profiles,
                           const struct atd_creds_env *env, struct atd_creds_plan *plan,
                           struct atd_error *err)
{
    struct planner planner = {profiles, env, plan, err};
    int rc;

    plan->region = get(&planner, env->profile, "region");
    plan->endpoint = endpoint_of(&planner, env->profile);
    if (!exists(&planner, env->profile))
        return env->profile_is_named ? missing(&planner, env->profile) : 0;
    plan->source = "profile";
    rc = follow(&planner, env->profile);
    if (rc == 0 && plan->root == ATD_CREDS_ROOT_NONE && plan->role_count > 0)
        return atd_error_set(err, EINVAL,
                             "profile '%s': the profile at the end of its source_profile has no "
                             "credentials",
                             env->profile);
    return rc;
}
