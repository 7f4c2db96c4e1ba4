#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "index/redis_url.h"

struct good {
    const char *text;
    bool tls;
    const char *host;
    unsigned port;
    const char *path;
    unsigned db;
    const char *user;
    const char *password;
    const char *shown;
};

static const struct good goods[] = {
    {"redis://", false, "localhost", 6379, "", 0, "", "", "redis://localhost:6379"},
    {"redis://h", false, "h", 6379, "", 0, "", "", "redis://h:6379"},
    {"REDIS://h/", false, "h", 6379, "", 0, "", "", "redis://h:6379"},
    {"redis://h:1/0", false, "h", 1, "", 0, "", "", "redis://h:1"},
    {"redis://h:65535/15", false, "h", 65535, "", 15, "", "", "redis://h:65535/15"},
    {"redis://h?db=3", false, "h", 6379, "", 3, "", "", "redis://h:6379/3"},
    {"redis://h/3?db=3", false, "h", 6379, "", 3, "", "", "redis://h:6379/3"},
    {"redis://:7000", false, "localhost", 7000, "", 0, "", "", "redis://localhost:7000"},
    {"redis://my-host_1.example:", false, "my-host_1.example", 6379, "", 0, "", "",
     "redis://my-host_1.example:6379"},
    /* redis-cli: user information without ':' is a password. */
    {"redis://pw@h", false, "h", 6379, "", 0, "", "pw", "redis://h:6379"},
    {"redis://:pw@h", false, "h", 6379, "", 0, "", "pw", "redis://h:6379"},
    {"redis://u:pw@h", false, "h", 6379, "", 0, "u", "pw", "redis://h:6379"},
    {"redis://u:@h", false, "h", 6379, "", 0, "u", "", "redis://h:6379"},
    {"redis://@h", false, "h", 6379, "", 0, "", "", "redis://h:6379"},
    {"redis://u:p:q@h", false, "h", 6379, "", 0, "u", "p:q", "redis://h:6379"},
    {"redis://u:p@q@h", false, "h", 6379, "", 0, "u", "p@q", "redis://h:6379"},
    {"redis://%75%40:%2f%3F%23%25+@h", false, "h", 6379, "", 0, "u@", "/?#%+", "redis://h:6379"},
    {"redis://[::1]", false, "::1", 6379, "", 0, "", "", "redis://[::1]:6379"},
    {"redis://u:p@[fe80::1%25eth0]:7/2", false, "fe80::1%eth0", 7, "", 2, "u", "p",
     "redis://[fe80::1%eth0]:7/2"},
    {"rediss://h", true, "h", 6379, "", 0, "", "", "rediss://h:6379"},
    {"unix:///run/r.sock", false, "", 0, "/run/r.sock", 0, "", "", "unix:///run/r.sock"},
    {"unix:/run/r.sock", false, "", 0, "/run/r.sock", 0, "", "", "unix:///run/r.sock"},
    {"unix:///run/r.sock?db=2", false, "", 0, "/run/r.sock", 2, "", "", "unix:///run/r.sock?db=2"},
    {"unix://u:p@/run/a@b%20c%3f", false, "", 0, "/run/a@b c?", 0, "u", "p",
     "unix:///run/a@b%20c%3F"},
    {"unix://pw@/s/t", false, "", 0, "/s/t", 0, "", "pw", "unix:///s/t"},
};

Test(redis_url, every_form_is_understood)
{
    for (size_t i = 0; i < sizeof(goods) / sizeof(goods[0]); i++) {
        const struct good *good = &goods[i];
        struct atd_redis_url url;
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_redis_url_parse(good->text, &url, &err), 0, "%s: %s", good->text,
                     err.text);
        cr_expect_eq(url.tls, good->tls, "%s", good->text);
        cr_expect_str_eq(url.host, good->host, "%s", good->text);
        cr_expect_eq(url.port, good->port, "%s: %u", good->text, url.port);
        cr_expect_str_eq(url.path, good->path, "%s", good->text);
        cr_expect_eq(url.db, good->db, "%s", good->text);
        cr_expect_str_eq(url.user, good->user, "%s", good->text);
        cr_expect_str_eq(url.password, good->password, "%s", good->text);
        cr_expect_str_eq(url.shown, good->shown, "%s", good->text);
    }
}

/* S3cret stands for what must not be in the sentence. */
static const char *const bads[] = {
    "",
    "h",
    "http://h",
    "redis:/h",
    "redis://S3cret:p@h:0",
    "redis://S3cret:p@h:65536",
    "redis://S3cret:p@h:12x",
    "redis://h:-1",
    "redis://h/x",
    "redis://h/1/2",
    "redis://h/2147483648",
    "redis://h/99999999999999999999",
    "redis://h/1?db=2",
    "redis://h?db=",
    "redis://h?db=1&db=2",
    "redis://h?S3cret=1",
    "redis://:x?secret=y&z@S3cret",
    "redis://h?password=S3cret",
    "redis://h?socket_timeout=3",
    "redis://h?ssl_cert_reqs=none",
    "rediss://h?ssl_cert_reqs=S3cret",
    "rediss://h?ssl_cert_reqs=Optionally-and-longer-than-that",
    "redis://:S3cret/x@h",
    "redis://:x/S3cret@h",
    "redis://:x?S3cret@h",
    "redis://:S3cret#x@h",
    "redis://:S3cret%zz@h",
    "redis://:S3cret%4@h",
    "redis://:S3cret%00x@h",
    "redis://a b",
    "redis://S3cret h",
    "redis://h\n",
    "redis://h%41",
    "redis://[::1",
    "redis://[::1]x",
    "redis://[h]",
    "redis://[]",
    "redis://::1",
    "unix://",
    "unix:///",
    "unix:run/r.sock",
    "unix://run/r.sock",
    "unix:///a%00b",
    "unix:///a?x=1",
};

Test(redis_url, what_is_wrong_is_said_without_secrets)
{
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        struct atd_redis_url url = {.port = 4711};
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_redis_url_parse(bads[i], &url, &err), -EINVAL, "%s", bads[i]);
        cr_expect(err.text[0]);
        cr_expect_eq(url.port, 4711, "written on failure");
        cr_expect_null(strstr(err.text, "S3cret"), "%s: %s", bads[i], err.text);
        cr_expect_null(strstr(err.text, "secret"), "%s: %s", bads[i], err.text);
    }
}

Test(redis_url, parameters_of_tls)
{
    struct atd_redis_url url;

    cr_assert_eq(atd_redis_url_parse("rediss://h/1?ssl_cert_reqs=none&ssl_ca_certs=%2Fa%20b.pem",
                                     &url, NULL),
                 0);
    cr_assert(url.tls && url.tls_insecure);
    cr_assert_str_eq(url.ca_file, "/a b.pem");
    cr_assert_eq(url.db, 1);
    cr_assert_eq(atd_redis_url_parse("rediss://h?ssl_cert_reqs=required", &url, NULL), 0);
    cr_assert_not(url.tls_insecure);
}

/* A text of `count` times `c` between two others. */
static char *long_url(const char *before, char c, size_t count, const char *after)
{
    char *text = malloc(strlen(before) + count + strlen(after) + 1);

    (void)strcpy(text, before);
    memset(text + strlen(before), c, count);
    (void)strcpy(text + strlen(before) + count, after);
    return text;
}

Test(redis_url, bounds)
{
    static const struct {
        const char *before;
        size_t fits;
        const char *after;
    } cases[] = {
        {"redis://", 255, ""},
        {"redis://:", 1023, "@h"},
        {"redis://", 1023, ":p@h"},
        {"unix:///", 106, ""},
        {"rediss://h?ssl_ca_certs=", 1023, ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_redis_url url;
        char *fits = long_url(cases[i].before, 'x', cases[i].fits, cases[i].after);
        char *too_long = long_url(cases[i].before, 'x', cases[i].fits + 1, cases[i].after);

        cr_expect_eq(atd_redis_url_parse(fits, &url, NULL), 0, "%s", cases[i].before);
        cr_expect_lt(strlen(url.shown), sizeof(url.shown));
        cr_expect_eq(atd_redis_url_parse(too_long, &url, NULL), -EINVAL, "%s", cases[i].before);
        free(fits);
        free(too_long);
    }
    {
        struct atd_redis_url url;
        char *control = long_url("unix:///", '\x01', 106, "?db=2147483647");

        cr_expect_eq(atd_redis_url_parse(control, &url, NULL), 0);
        cr_expect_not_null(strstr(url.shown, "%01?db=2147483647"));
        free(control);
    }
}

static char *both(const char *name)
{
    static char user[] = "env-user";
    static char password[] = "env-password";

    return strcmp(name, "ATDATA_REDIS_PASSWORD") == 0   ? password
           : strcmp(name, "ATDATA_REDIS_USERNAME") == 0 ? user
                                                        : NULL;
}

static char *none(const char *name)
{
    (void)name;
    return NULL;
}

static char *endless(const char *name)
{
    static char text[4096];

    (void)name;
    memset(text, 'x', sizeof(text) - 1);
    return text;
}

Test(redis_url, the_environment_fills_in_what_the_url_leaves_out)
{
    struct atd_redis_url url;

    cr_assert_eq(atd_redis_url_parse("redis://h", &url, NULL), 0);
    cr_assert_eq(atd_redis_url_add_secrets(&url, none, NULL), 0);
    cr_assert_str_eq(url.password, "");
    cr_assert_eq(atd_redis_url_add_secrets(&url, endless, NULL), -EINVAL);
    cr_assert_eq(atd_redis_url_parse("redis://h", &url, NULL), 0);
    cr_assert_eq(atd_redis_url_add_secrets(&url, both, NULL), 0);
    cr_assert_str_eq(url.user, "env-user");
    cr_assert_str_eq(url.password, "env-password");
    cr_assert_eq(atd_redis_url_parse("redis://u:p@h", &url, NULL), 0);
    cr_assert_eq(atd_redis_url_add_secrets(&url, both, NULL), 0);
    cr_assert_str_eq(url.user, "u");
    cr_assert_str_eq(url.password, "p");
}
