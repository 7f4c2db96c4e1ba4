/*
 * What the tests of credentials share: a directory, an environment, a clock, the server.
 */
#ifndef ATD_TESTS_CREDS_FIXTURE_H
#define ATD_TESTS_CREDS_FIXTURE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/credentials.h"
#include "net/credentials_testing.h"
#include "support/creds_server.h"

#define SECRET "sEcReT/that+is/never+told0123456789abcdef"
#define TOKEN "tOkEn/that+is/never+told=="
#define VARS_MAX 32
#define DEADLINE_MS 60000

static char dir[64];
static struct server server;
static struct {
    char name[64];
    char value[512];
} vars[VARS_MAX];
static int var_count;
static atomic_llong now_s;

static inline int64_t test_now(void *ctx)
{
    (void)ctx;
    return atomic_load(&now_s);
}

static inline const char *test_getenv(void *ctx, const char *name)
{
    (void)ctx;
    for (int i = 0; i < var_count; i++)
        if (strcmp(vars[i].name, name) == 0)
            return vars[i].value;
    return NULL;
}

/* "" unsets. */
static inline void set(const char *name, const char *value)
{
    int i = 0;

    while (i < var_count && strcmp(vars[i].name, name) != 0)
        i++;
    cr_assert(i < VARS_MAX && strlen(value) < sizeof(vars[i].value));
    (void)strcpy(vars[i].name, name);
    (void)strcpy(vars[i].value, value);
    if (i == var_count)
        var_count++;
}

static inline const char *path_in_dir(const char *name)
{
    static char paths[8][256];
    static int turn;
    char *path = paths[turn++ % 8];

    (void)snprintf(path, 256, "%s/%s", dir, name);
    return path;
}

static inline void make_file(const char *name, const char *text)
{
    FILE *file = fopen(path_in_dir(name), "w");

    cr_assert_not_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static inline void make_script(const char *name, const char *text)
{
    make_file(name, text);
    cr_assert_eq(chmod(path_in_dir(name), 0700), 0);
}

static inline void fixture_setup(void)
{
    (void)strcpy(dir, "/tmp/atd-creds-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    var_count = 0;
    atomic_store(&now_s, 1795514400); /* 2026-11-24T10:00:00Z */
    server_start(&server);
    set("HOME", dir);
    cr_assert_eq(mkdir(path_in_dir(".aws"), 0700), 0);
    set("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url);
    set("AWS_ENDPOINT_URL_STS", server.url);
    set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "");
}

static inline void fixture_teardown(void)
{
    char command[128];

    server_stop(&server);
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

static inline void no_secret_in(const char *text)
{
    cr_assert_null(strstr(text, "sEcReT"), "told: %s", text);
    cr_assert_null(strstr(text, "tOkEn"), "told: %s", text);
}

static inline int try_open(const char *env_file, const char *profile,
                           struct atd_credentials **ret_credentials, struct atd_error *err)
{
    struct atd_credentials_options options = {
        .env_file = env_file,
        .profile = profile,
        .getenv = test_getenv,
        .container_host_url = server.url,
    };
    int rc = atd_credentials_new(&options, ret_credentials, err);

    if (rc == 0) {
        atd_credentials_set_clock(*ret_credentials, test_now, NULL);
        atd_credentials_set_patience(*ret_credentials, 50);
    } else {
        no_secret_in(err->text);
    }
    return rc;
}

static inline struct atd_credentials *must_open(const char *env_file, const char *profile)
{
    struct atd_credentials *credentials = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(try_open(env_file, profile, &credentials, &err), 0, "%s", err.text);
    return credentials;
}

/* Asks until it is no longer EAGAIN. */
static inline int await(struct atd_credentials *credentials, struct atd_credential *ret_value,
                        struct atd_error *err)
{
    int64_t until_ms = atd_clock_monotonic_ms() + DEADLINE_MS;
    int rc;

    while ((rc = atd_credentials_get(credentials, ret_value, err)) == -EAGAIN) {
        no_secret_in(err->text);
        cr_assert(err->retryable);
        cr_assert(atd_clock_monotonic_ms() < until_ms, "still EAGAIN");
        (void)usleep(2000);
    }
    if (rc)
        no_secret_in(err->text);
    return rc;
}

static inline void must_get(struct atd_credentials *credentials, const char *id, const char *secret,
                            const char *token)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_credential value;

    cr_assert_eq(await(credentials, &value, &err), 0, "%s", err.text);
    cr_assert_str_eq(value.access_key_id, id);
    cr_assert_str_eq(value.secret_access_key, secret);
    cr_assert_str_eq(value.session_token, token);
}

/* The text of the failure; static. */
static inline const char *must_fail(struct atd_credentials *credentials)
{
    static struct atd_error err;
    struct atd_credential value;

    cr_assert_eq(await(credentials, &value, &err), -EACCES, "%s", err.text);
    cr_assert_eq(err.code, EACCES);
    return err.text;
}

static inline void must_close(struct atd_credentials *credentials)
{
    cr_assert(atd_credentials_free(credentials, 30000));
}

static inline void must_say(const char *text, const char *part)
{
    cr_assert_not_null(strstr(text, part), "'%s' does not say '%s'", text, part);
}

static inline void expect_count(int count)
{
    cr_assert_eq(server_count(&server), count, "%d requests", server_count(&server));
}

/* The n-th request is exactly this, the port put in for "PORT". */
static inline void expect_request(int n, const char *want)
{
    char port[16];
    char text[16384];
    const char *at;
    size_t len = 0;

    (void)snprintf(port, sizeof(port), "%d", server.port);
    while ((at = strstr(want, "PORT"))) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%.*s%s", (int)(at - want), want,
                                port);
        want = at + 4;
    }
    (void)snprintf(text + len, sizeof(text) - len, "%s", want);
    cr_assert(n < server_count(&server) && n < SERVER_REQUESTS_MAX, "only %d requests",
              server_count(&server));
    cr_assert_str_eq(server.requests[n], text);
}

static inline const char *metadata_json(const char *id, const char *expiration)
{
    static char text[1024];

    (void)snprintf(text, sizeof(text),
                   "{\"Code\": \"Success\", \"Type\": \"AWS-HMAC\", \"Nested\": {\"a\": [1]}, "
                   "\"AccessKeyId\": \"%s\", \"SecretAccessKey\": \"%s\", \"Token\": \"%s\", "
                   "\"Expiration\": \"%s\"}",
                   id, SECRET, TOKEN, expiration);
    return text;
}

#endif
