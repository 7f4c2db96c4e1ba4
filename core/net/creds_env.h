/*
 * What the sources of credentials take from the machine: variables of the environment, read once,
 * and small files.
 */
#ifndef ATD_NET_CREDS_ENV_H
#define ATD_NET_CREDS_ENV_H

#include "atdata/arena.h"
#include "net/credentials.h"

#define ATD_CREDS_FILE_MAX (1u << 20)
#define ATD_CREDS_VAR_MAX 65536u

#define ATD_CREDS_VARS(X)                     \
    X(AWS_ACCESS_KEY_ID)                      \
    X(AWS_SECRET_ACCESS_KEY)                  \
    X(AWS_SESSION_TOKEN)                      \
    X(AWS_PROFILE)                            \
    X(AWS_REGION)                             \
    X(AWS_DEFAULT_REGION)                     \
    X(AWS_ENDPOINT_URL_S3)                    \
    X(AWS_ENDPOINT_URL)                       \
    X(AWS_ENDPOINT_URL_STS)                   \
    X(AWS_SHARED_CREDENTIALS_FILE)            \
    X(AWS_CONFIG_FILE)                        \
    X(AWS_CA_BUNDLE)                          \
    X(AWS_WEB_IDENTITY_TOKEN_FILE)            \
    X(AWS_ROLE_ARN)                           \
    X(AWS_ROLE_SESSION_NAME)                  \
    X(AWS_CONTAINER_CREDENTIALS_RELATIVE_URI) \
    X(AWS_CONTAINER_CREDENTIALS_FULL_URI)     \
    X(AWS_CONTAINER_AUTHORIZATION_TOKEN)      \
    X(AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE) \
    X(AWS_EC2_METADATA_DISABLED)              \
    X(AWS_EC2_METADATA_V1_DISABLED)           \
    X(AWS_EC2_METADATA_SERVICE_ENDPOINT)      \
    X(AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE) \
    X(HOME)

enum atd_creds_var {
#define X(name) ATD_VAR_##name,
    ATD_CREDS_VARS(X)
#undef X
        ATD_CREDS_VAR_COUNT
};

/* Fixed after init, but for clock and patience, which tests set before anything is fetched. */
struct atd_creds_env {
    const char *vars[ATD_CREDS_VAR_COUNT]; /* NULL: unset or empty */
    const char *env_file;                  /* NULL: none */
    const char *profile;                   /* never NULL */
    bool profile_is_named;                 /* by the option or AWS_PROFILE */
    const char *config_path;               /* NULL: there is no home */
    const char *credentials_path;
    const char *ca_file;
    const char *container_host_url;
    const char *(*getenv)(void *ctx, const char *name);
    void *getenv_ctx;
    int64_t (*now_s)(void *ctx);
    void *now_ctx;
    unsigned patience; /* factor of time-outs */
    int stop_fd;       /* readable when the fetch shall end; -1: never */
};

/* Copies all it keeps into `arena`. Errors: E2BIG a variable that is too long; ENOMEM. */
int atd_creds_env_init(struct atd_creds_env *env, const struct atd_credentials_options *options,
                       struct atd_arena *arena, struct atd_error *err) ATD_MUST_USE;

int64_t atd_creds_now_s(const struct atd_creds_env *env);
/* True for "true", "TRUE", "1". */
bool atd_creds_var_is_true(const struct atd_creds_env *env, enum atd_creds_var var);
/* Waits; true when it was told to stop. Blocks: `timeout_ms`. */
bool atd_creds_stopped(const struct atd_creds_env *env, unsigned timeout_ms);

/*
 * The whole of a file, at most `max` bytes, in `arena` and terminated. Never waits for a pipe.
 * Errors: the system's; EINVAL not a file; EFBIG; ENOMEM. The texts quote the path only.
 */
int atd_creds_read_file(const char *path, size_t max, struct atd_arena *arena,
                        struct atd_str *ret_text, struct atd_error *err) ATD_MUST_USE;

#endif
