#include "net/creds_env.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"

#define PASSWD_TEXT_MAX 16384

static const char *const var_names[ATD_CREDS_VAR_COUNT] = {
#define X(name) [ATD_VAR_##name] = #name,
    ATD_CREDS_VARS(X)
#undef X
};

static const char *real_getenv(void *ctx, const char *name)
{
    (void)ctx;
    return getenv(name);
}

static int64_t real_now_s(void *ctx)
{
    (void)ctx;
    return (int64_t)time(NULL);
}

static int copy(struct atd_arena *arena, const char *text, const char **ret_copy,
                struct atd_error *err)
{
    *ret_copy = NULL;
    if (!text || !*text)
        return 0;
    *ret_copy = atd_arena_str(arena, atd_str_from(text)).ptr;
    return *ret_copy ? 0 : atd_error_set(err, ENOMEM, "credentials: out of memory");
}

/* A daemon started by systemd has no HOME; Python, whose files these are, asks passwd then. */
static int home_of_user(struct atd_arena *arena, const char **ret_home, struct atd_error *err)
{
    char text[PASSWD_TEXT_MAX];
    struct passwd entry;
    struct passwd *found = NULL;

    if (getpwuid_r(getuid(), &entry, text, sizeof(text), &found) != 0 || !found)
        return 0;
    return copy(arena, found->pw_dir, ret_home, err);
}

/* `named`, a leading "~/" resolved, or `below` in the home. */
static int path_of(struct atd_arena *arena, const char *named, const char *home, const char *below,
                   const char **ret_path, struct atd_error *err)
{
    atd_auto_buf struct atd_buf path = ATD_BUF_INIT(ATD_CREDS_VAR_MAX);
    int rc;

    *ret_path = NULL;
    if (named && strncmp(named, "~/", 2) != 0) {
        *ret_path = named;
        return 0;
    }
    if (!home)
        return 0;
    atd_buf_printf(&path, "%s/%s", home, named ? named + 2 : below);
    rc = atd_buf_finish(&path, "path of the credentials", err);
    return rc ? rc : copy(arena, (const char *)path.ptr, ret_path, err);
}

static int read_vars(struct atd_creds_env *env, struct atd_arena *arena, struct atd_error *err)
{
    for (int i = 0; i < ATD_CREDS_VAR_COUNT; i++) {
        const char *value = env->getenv(env->getenv_ctx, var_names[i]);
        int rc;

        if (value && strlen(value) > ATD_CREDS_VAR_MAX)
            return atd_error_set(err, E2BIG, "the value of %s is longer than %u bytes",
                                 var_names[i], ATD_CREDS_VAR_MAX);
        rc = copy(arena, value, &env->vars[i], err);
        if (rc)
            return rc;
    }
    return 0;
}

int atd_creds_env_init(struct atd_creds_env *env, const struct atd_credentials_options *options,
                       struct atd_arena *arena, struct atd_error *err)
{
    const char *profile;
    const char *ca_file;
    int rc;

    *env = (struct atd_creds_env){
        .getenv = options->getenv ? options->getenv : real_getenv,
        .getenv_ctx = options->getenv_ctx,
        .now_s = real_now_s,
        .patience = 1,
        .stop_fd = -1,
    };
    rc = read_vars(env, arena, err);
    if (rc == 0)
        rc = copy(arena, options->env_file, &env->env_file, err);
    if (rc == 0)
        rc = copy(arena, options->container_host_url, &env->container_host_url, err);
    ca_file = options->ca_file ? options->ca_file : env->vars[ATD_VAR_AWS_CA_BUNDLE];
    if (rc == 0)
        rc = copy(arena, ca_file, &env->ca_file, err);
    profile = options->profile ? options->profile : env->vars[ATD_VAR_AWS_PROFILE];
    env->profile_is_named = profile != NULL;
    if (rc == 0)
        rc = copy(arena, profile ? profile : "default", &env->profile, err);
    if (rc == 0 && !env->profile)
        return atd_error_set(err, EINVAL, "the name of the profile is empty");
    if (rc == 0 && !env->vars[ATD_VAR_HOME] && !options->getenv)
        rc = home_of_user(arena, &env->vars[ATD_VAR_HOME], err);
    if (rc == 0)
        rc = path_of(arena, env->vars[ATD_VAR_AWS_CONFIG_FILE], env->vars[ATD_VAR_HOME],
                     ".aws/config", &env->config_path, err);
    if (rc == 0)
        rc = path_of(arena, env->vars[ATD_VAR_AWS_SHARED_CREDENTIALS_FILE], env->vars[ATD_VAR_HOME],
                     ".aws/credentials", &env->credentials_path, err);
    return rc;
}

int64_t atd_creds_now_s(const struct atd_creds_env *env)
{
    return env->now_s(env->now_ctx);
}

bool atd_creds_var_is_true(const struct atd_creds_env *env, enum atd_creds_var var)
{
    const char *value = env->vars[var];

    return value && (strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

bool atd_creds_stopped(const struct atd_creds_env *env, unsigned timeout_ms)
{
    struct pollfd stop = {.fd = env->stop_fd, .events = POLLIN};

    return poll(&stop, 1, (int)timeout_ms) > 0;
}

int atd_creds_read_file(const char *path, size_t max, struct atd_arena *arena,
                        struct atd_str *ret_text, struct atd_error *err)
{
    /* O_NONBLOCK: opening a pipe must not wait for a writer. */
    atd_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    char *text;
    size_t cap;
    size_t len = 0;

    if (fd < 0 || fstat(fd, &st) != 0) {
        int code = errno;

        return atd_error_set(err, code, "cannot read '%s': %s", path, strerror(code));
    }
    if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
        return atd_error_set(err, EINVAL, "'%s' is not a file", path);
    if (st.st_size > (off_t)max)
        return atd_error_set(err, EFBIG, "'%s' is larger than %zu bytes", path, max);
    /* A file of /proc or a device says 0; one page is enough for what is meant by such. */
    cap = st.st_size > 0 ? (size_t)st.st_size + 1 : max < 4096 ? max + 1 : 4096;
    text = atd_arena_alloc(arena, cap + 1);
    if (!text)
        return atd_error_set(err, ENOMEM, "cannot read '%s': out of memory", path);
    while (len < cap) {
        ssize_t got = read(fd, text + len, cap - len);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int code = errno;

            return atd_error_set(err, code, "cannot read '%s': %s", path, strerror(code));
        }
        if (got == 0)
            break;
        len += (size_t)got;
    }
    if (len == cap)
        return atd_error_set_retryable(err, EFBIG, "'%s' grew while it was read", path);
    text[len] = '\0';
    *ret_text = (struct atd_str){text, len};
    return 0;
}
