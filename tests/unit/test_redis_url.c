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
    "redis://h?wait=",
    "redis://h?wait=101",
    "redis://h?wait=-1",
    "redis://h?sentinel_password=S3cret",
    "redis+sentinel:/h/m",
    "redis+sentinel://h",
    "redis+sentinel://h/",
    "redis+sentinel://h//1",
    "redis+sentinel://,/m",
    "redis+sentinel://a,/m",
    "redis+sentinel://,a/m",
    "redis+sentinel://a,,b/m",
    "redis+sentinel://a;b/m",
    "redis+sentinel://a:0/m",
    "redis+sentinel://a,S3cret:x/m",
    "redis+sentinel://a,[::1/m",
    "redis+sentinel://a/m x",
    "redis+sentinel://a/m%00",
    "redis+sentinel://a/m%2fn",
    "redis+sentinel://a/m,n",
    "redis+sentinel://a/m/x",
    "redis+sentinel://a/m/1/2",
    "redis+sentinel://a/m/1?db=2",
    "redis+sentinel://:S3cret/x@a/m",
    "redis+sentinel://a/m?sentinel_password=S3cret%zz",
    "redis+sentinel://a/m?S3cret=1",
    "redis+sentinel://a/m?ssl_cert_reqs=none",
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

/* ------------------------------------------------------------------ sentinels */

static const struct {
    const char *text;
    bool tls;
    const char *places; /* HOST PORT, ... */
    const char *master;
    unsigned db;
    const char *user;
    const char *password;
    const char *sentinel_user;
    const char *sentinel_password;
    unsigned wait;
    const char *shown;
} watched[] = {
    {"redis+sentinel://h/m", false, "h 26379,", "m", 0, "", "", "", "", ATD_REDIS_WAIT_AUTO,
     "redis+sentinel://h:26379/m"},
    {"redis+sentinel:///mymaster", false, "localhost 26379,", "mymaster", 0, "", "", "", "",
     ATD_REDIS_WAIT_AUTO, "redis+sentinel://localhost:26379/mymaster"},
    {"REDIS+sentinel://a,b:1,[::1]:2,[::2]/My.Master-1_x/3", false, "a 26379,b 1,::1 2,::2 26379,",
     "My.Master-1_x", 3, "", "", "", "", ATD_REDIS_WAIT_AUTO,
     "redis+sentinel://a:26379,b:1,[::1]:2,[::2]:26379/My.Master-1_x/3"},
    {"redis+sentinel://u:p%40q@a,b/m/?db=2&wait=1", false, "a 26379,b 26379,", "m", 2, "u", "p@q",
     "", "", 1, "redis+sentinel://a:26379,b:26379/m/2"},
    {"redis+sentinel://pw@a/m?sentinel_password=x%26y%3d&sentinel_username=s&wait=0", false,
     "a 26379,", "m", 0, "", "pw", "s", "x&y=", 0, "redis+sentinel://a:26379/m"},
    {"redis+sentinel://a:,b:/%6d", false, "a 26379,b 26379,", "m", 0, "", "", "", "",
     ATD_REDIS_WAIT_AUTO, "redis+sentinel://a:26379,b:26379/m"},
    {"rediss+sentinel://a/m?ssl_cert_reqs=none", true, "a 26379,", "m", 0, "", "", "", "",
     ATD_REDIS_WAIT_AUTO, "rediss+sentinel://a:26379/m"},
};

Test(redis_url, sentinels)
{
    for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++) {
        struct atd_redis_url url;
        struct atd_error err = ATD_ERROR_INIT;
        char places[1024] = "";

        cr_assert_eq(atd_redis_url_parse(watched[i].text, &url, &err), 0, "%s: %s", watched[i].text,
                     err.text);
        for (unsigned j = 0; j < url.sentinel_count; j++)
            (void)snprintf(places + strlen(places), sizeof(places) - strlen(places), "%s %u,",
                           url.sentinels[j].host, url.sentinels[j].port);
        cr_expect_str_eq(places, watched[i].places);
        cr_expect_eq(url.tls, watched[i].tls, "%s", watched[i].text);
        cr_expect_str_eq(url.master, watched[i].master);
        cr_expect_eq(url.db, watched[i].db, "%s", watched[i].text);
        cr_expect_str_eq(url.user, watched[i].user);
        cr_expect_str_eq(url.password, watched[i].password);
        cr_expect_str_eq(url.sentinel_user, watched[i].sentinel_user);
        cr_expect_str_eq(url.sentinel_password, watched[i].sentinel_password);
        cr_expect_eq(url.wait, watched[i].wait, "%s: %u", watched[i].text, url.wait);
        cr_expect_str_eq(url.shown, watched[i].shown);
        cr_expect_str_eq(url.host, "");
    }
}

Test(redis_url, replicas_that_are_waited_for)
{
    struct atd_redis_url url;

    cr_assert_eq(atd_redis_url_parse("redis://h", &url, NULL), 0);
    cr_assert_eq(url.wait, 0);
    cr_assert_eq(atd_redis_url_parse("unix:///s?wait=100&db=1", &url, NULL), 0);
    cr_assert_eq(url.wait, 100);
}

Test(redis_url, a_list_that_is_too_long_to_show_is_shown_in_part)
{
    char text[8192] = "redis+sentinel://";
    struct atd_redis_url url;
    struct atd_redis_url again;

    for (unsigned i = 0; i < ATD_REDIS_SENTINELS_MAX; i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%0250u", i ? "," : "",
                       i);
    (void)strcat(text, "/m/2147483647");
    cr_assert_eq(atd_redis_url_parse(text, &url, NULL), 0);
    cr_assert_eq(url.sentinel_count, ATD_REDIS_SENTINELS_MAX);
    cr_assert_eq(atd_redis_url_parse(url.shown, &again, NULL), 0, "%s", url.shown);
    cr_assert_eq(again.sentinel_count, 1);
    cr_assert_str_eq(again.sentinels[0].host, url.sentinels[0].host);
    cr_assert_eq(again.db, 2147483647);
    (void)strcpy(strchr(text, '/') + 2, "h");
    for (unsigned i = 0; i < ATD_REDIS_SENTINELS_MAX; i++)
        (void)strcat(text, ",h");
    (void)strcat(text, "/m");
    cr_assert_eq(atd_redis_url_parse(text, &url, NULL), -EINVAL, "one too many");
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
        {"redis+sentinel://", 255, "/m"},
        {"redis+sentinel://h/", 127, ""},
        {"redis+sentinel://h/m?sentinel_password=", 1023, ""},
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

    static char sentinel_user[] = "sentinel-user";
    static char sentinel_password[] = "sentinel-password";

    if (strcmp(name, "ATDATA_SENTINEL_PASSWORD") == 0)
        return sentinel_password;
    if (strcmp(name, "ATDATA_SENTINEL_USERNAME") == 0)
        return sentinel_user;
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
    cr_assert_str_eq(url.sentinel_password, "", "there is no sentinel");
    cr_assert_eq(atd_redis_url_parse("redis+sentinel://h/m", &url, NULL), 0);
    cr_assert_eq(atd_redis_url_add_secrets(&url, both, NULL), 0);
    cr_assert_str_eq(url.password, "env-password");
    cr_assert_str_eq(url.sentinel_user, "sentinel-user");
    cr_assert_str_eq(url.sentinel_password, "sentinel-password");
    cr_assert_eq(atd_redis_url_parse("redis+sentinel://h/m?sentinel_password=x", &url, NULL), 0);
    cr_assert_eq(atd_redis_url_add_secrets(&url, both, NULL), 0);
    cr_assert_str_eq(url.sentinel_password, "x");
}
