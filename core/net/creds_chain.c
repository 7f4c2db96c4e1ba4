#include "net/creds_chain.h"

#include <errno.h>

#include "base/cleanup.h"
#include "codec/dotenv.h"
#include "net/creds_metadata.h"
#include "net/creds_process.h"
#include "net/creds_profile.h"
#include "net/creds_web.h"

/* ------------------------------------------------------------------ env file */

/* NULL when the key is absent, stands alone or is empty. */
static const char *pair_value(const struct atd_dotenv *pairs, const char *key,
                              struct atd_arena *arena)
{
    const struct atd_dotenv_pair *pair = atd_dotenv_find(pairs, atd_str_from(key));

    if (!pair || !pair->value.ptr || !pair->value.len)
        return NULL;
    return atd_arena_str(arena, pair->value).ptr;
}

/* Source: ATDATA-FORMATS 6.3, with the region and the token that boto3 would take besides. */
static int plan_env_file(const struct atd_creds_env *env, struct atd_arena *arena,
                         struct atd_creds_plan *plan, struct atd_error *err)
{
    atd_auto_buf struct atd_buf missing = ATD_BUF_INIT(256);
    struct atd_dotenv pairs;
    struct atd_str text;
    const char *id;
    const char *secret;
    const char *token;
    int rc;

    plan->source = "env file";
    rc = atd_creds_read_file(env->env_file, ATD_CREDS_FILE_MAX, arena, &text, err);
    if (rc)
        return atd_error_wrap(err, rc, "env file");
    rc = atd_dotenv_parse(text, env->getenv, env->getenv_ctx, arena, &pairs, err);
    if (rc)
        return atd_error_wrap(err, rc, "env file '%s'", env->env_file);
    plan->endpoint = pair_value(&pairs, "AWS_ENDPOINT", arena);
    plan->region = pair_value(&pairs, "AWS_REGION", arena);
    id = pair_value(&pairs, "AWS_ACCESS_KEY_ID", arena);
    secret = pair_value(&pairs, "AWS_SECRET_ACCESS_KEY", arena);
    token = pair_value(&pairs, "AWS_SESSION_TOKEN", arena);
    if (!plan->endpoint)
        atd_buf_append_text(&missing, ", AWS_ENDPOINT");
    if (!id)
        atd_buf_append_text(&missing, ", AWS_ACCESS_KEY_ID");
    if (!secret)
        atd_buf_append_text(&missing, ", AWS_SECRET_ACCESS_KEY");
    if (missing.len)
        return atd_error_set(err, EINVAL, "env file '%s' lacks %s", env->env_file,
                             (const char *)missing.ptr + 2);
    if (!plan->endpoint || !id || !secret)
        return atd_error_set(err, ENOMEM, "env file '%s': out of memory", env->env_file);
    plan->root = ATD_CREDS_ROOT_STATIC;
    plan->may_change = token != NULL;
    plan->texts = (struct atd_creds_texts){
        .access_key_id = atd_str_from(id),
        .secret_access_key = atd_str_from(secret),
        .session_token = token ? atd_str_from(token) : (struct atd_str){NULL, 0},
    };
    return 0;
}

/* ------------------------------------------------------------------ the others */

static int plan_environment(const struct atd_creds_env *env, struct atd_creds_plan *plan,
                            struct atd_error *err)
{
    const char *id = env->vars[ATD_VAR_AWS_ACCESS_KEY_ID];
    const char *secret = env->vars[ATD_VAR_AWS_SECRET_ACCESS_KEY];
    const char *token = env->vars[ATD_VAR_AWS_SESSION_TOKEN];

    if (!id)
        return 0;
    plan->source = "environment";
    if (!secret)
        return atd_error_set(err, EINVAL,
                             "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not");
    plan->root = ATD_CREDS_ROOT_STATIC;
    plan->texts = (struct atd_creds_texts){
        .access_key_id = atd_str_from(id),
        .secret_access_key = atd_str_from(secret),
        .session_token = token ? atd_str_from(token) : (struct atd_str){NULL, 0},
    };
    return 0;
}

static int plan_web_identity(const struct atd_creds_env *env, struct atd_creds_plan *plan,
                             struct atd_error *err)
{
    const char *token_file = env->vars[ATD_VAR_AWS_WEB_IDENTITY_TOKEN_FILE];

    if (!token_file)
        return 0;
    plan->source = "web identity";
    if (!env->vars[ATD_VAR_AWS_ROLE_ARN])
        return atd_error_set(err, EINVAL,
                             "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not");
    plan->root = ATD_CREDS_ROOT_WEB_IDENTITY;
    plan->token_file = token_file;
    plan->web_role = (struct atd_creds_role){
        .arn = env->vars[ATD_VAR_AWS_ROLE_ARN],
        .session_name = env->vars[ATD_VAR_AWS_ROLE_SESSION_NAME],
    };
    return 0;
}

static void plan_surroundings(const struct atd_creds_env *env, struct atd_creds_plan *plan)
{
    if (env->vars[ATD_VAR_AWS_CONTAINER_CREDENTIALS_RELATIVE_URI] ||
        env->vars[ATD_VAR_AWS_CONTAINER_CREDENTIALS_FULL_URI]) {
        plan->source = "container";
        plan->root = ATD_CREDS_ROOT_CONTAINER;
    } else if (!atd_creds_var_is_true(env, ATD_VAR_AWS_EC2_METADATA_DISABLED)) {
        plan->source = "instance metadata";
        plan->root = ATD_CREDS_ROOT_METADATA;
    }
}

/* Variables go before the profile. */
static void set_place(const struct atd_creds_env *env, struct atd_creds_plan *plan)
{
    if (env->vars[ATD_VAR_AWS_REGION])
        plan->region = env->vars[ATD_VAR_AWS_REGION];
    else if (env->vars[ATD_VAR_AWS_DEFAULT_REGION])
        plan->region = env->vars[ATD_VAR_AWS_DEFAULT_REGION];
    if (env->vars[ATD_VAR_AWS_ENDPOINT_URL_S3])
        plan->endpoint = env->vars[ATD_VAR_AWS_ENDPOINT_URL_S3];
    else if (env->vars[ATD_VAR_AWS_ENDPOINT_URL])
        plan->endpoint = env->vars[ATD_VAR_AWS_ENDPOINT_URL];
}

static int plan_profile(const struct atd_creds_env *env, struct atd_arena *arena,
                        struct atd_creds_plan *plan, struct atd_error *err)
{
    struct atd_creds_profiles profiles;
    int rc = atd_creds_profiles_load(env, arena, &profiles, err);

    return rc ? rc : atd_creds_profile_plan(&profiles, env, plan, err);
}

int atd_creds_plan_make(const struct atd_creds_env *env, struct atd_arena *arena,
                        struct atd_creds_plan *ret_plan, struct atd_error *err)
{
    struct atd_creds_plan keys = {.source = "none"};
    int rc;
    int profile_rc;
    struct atd_error profile_err = ATD_ERROR_INIT;

    *ret_plan = (struct atd_creds_plan){.source = "none"};
    if (env->env_file)
        return plan_env_file(env, arena, ret_plan, err);
    /* The profile is read even when the environment has keys: for region and endpoint. */
    profile_rc = plan_profile(env, arena, ret_plan, &profile_err);
    set_place(env, ret_plan);
    if (!env->profile_is_named) {
        rc = plan_environment(env, &keys, err);
        if (rc || keys.root != ATD_CREDS_ROOT_NONE) {
            keys.region = ret_plan->region;
            keys.endpoint = ret_plan->endpoint;
            *ret_plan = keys;
            return rc;
        }
    }
    if (profile_rc) {
        if (err)
            *err = profile_err;
        ret_plan->source = "profile";
        return profile_rc;
    }
    if (ret_plan->root != ATD_CREDS_ROOT_NONE)
        return 0;
    ret_plan->source = "none";
    rc = plan_web_identity(env, ret_plan, err);
    if (rc == 0 && ret_plan->root == ATD_CREDS_ROOT_NONE)
        plan_surroundings(env, ret_plan);
    return rc;
}

/* ------------------------------------------------------------------ running it */

bool atd_creds_plan_is_static(const struct atd_creds_plan *plan)
{
    return plan->root == ATD_CREDS_ROOT_STATIC && plan->role_count == 0;
}

static int run_root(const struct atd_creds_plan *plan, const struct atd_creds_env *env,
                    struct atd_arena *arena, struct atd_credential *ret_value,
                    struct atd_error *err)
{
    switch (plan->root) {
    case ATD_CREDS_ROOT_STATIC:
        return atd_creds_value_make(&plan->texts, ret_value, err);
    case ATD_CREDS_ROOT_PROCESS:
        return atd_creds_process_run(env, plan->command, ATD_CREDS_PROCESS_TIMEOUT_MS, arena,
                                     ret_value, err);
    case ATD_CREDS_ROOT_WEB_IDENTITY:
        return atd_creds_assume_web_role(env, plan->region, &plan->web_role, plan->token_file,
                                         arena, ret_value, err);
    case ATD_CREDS_ROOT_CONTAINER:
        return atd_creds_container(env, arena, ret_value, err);
    case ATD_CREDS_ROOT_METADATA:
        return atd_creds_instance(env, arena, ret_value, err);
    case ATD_CREDS_ROOT_NONE:
        break;
    }
    return atd_error_set(err, ENOENT, "nothing is configured");
}

int atd_creds_plan_run(const struct atd_creds_plan *plan, const struct atd_creds_env *env,
                       struct atd_arena *arena, struct atd_credential *ret_value,
                       struct atd_error *err)
{
    atd_auto_credential struct atd_credential value;
    atd_auto_credential struct atd_credential next;
    int rc = run_root(plan, env, arena, &value, err);

    for (size_t i = plan->role_count; i-- > 0 && rc == 0;) {
        rc = atd_creds_assume_role(env, plan->region, &plan->roles[i], &value, arena, &next, err);
        if (rc == 0)
            value = next;
    }
    if (rc == 0)
        *ret_value = value;
    else if (strcmp(plan->source, "profile") == 0)
        return atd_error_wrap(err, rc, "profile '%s'", env->profile);
    else
        return atd_error_wrap(err, rc, "%s", plan->source);
    return rc;
}
