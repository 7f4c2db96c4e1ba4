/* Sentinels and servers that answer whatever the test says: how the master is found. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "index/redis_sentinel.h"
#include "index/redis_session.h"

#define FAKES_MAX 4
#define MASTER_ROLE "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
#define SLAVE_ROLE "*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n$9\r\nconnected\r\n:0\r\n"
#define NOPERM "-NOPERM this user has no permissions\r\n"
#define SLACK_MS 2000

/* One server, and what it says to each command; a text that is NULL: nothing, ever. */
struct fake {
    int listener;
    unsigned port;
    pthread_t thread;
    const char *to_sentinel;
    const char *to_role;
    const char *to_hello;
    const char *to_auth;
    atomic_uint asked; /* for the master */
    atomic_uint roles; /* asked for its role */
    pthread_mutex_t lock;
    char auth[256]; /* the arguments of the last AUTH, a blank before each */
};

static struct fake fakes[FAKES_MAX];
static size_t fake_count;
static char answers[FAKES_MAX][128];

static const char *answer_to(struct fake *fake, const redisReply *command)
{
    const char *name = command->element[0]->str;

    if (strcasecmp(name, "SENTINEL") == 0) {
        atomic_fetch_add(&fake->asked, 1);
        return fake->to_sentinel;
    }
    if (strcasecmp(name, "ROLE") == 0) {
        atomic_fetch_add(&fake->roles, 1);
        return fake->to_role;
    }
    if (strcasecmp(name, "HELLO") == 0)
        return fake->to_hello;
    if (strcasecmp(name, "AUTH") != 0)
        return "+OK\r\n";
    (void)pthread_mutex_lock(&fake->lock);
    fake->auth[0] = '\0';
    for (size_t i = 1; i < command->elements; i++) {
        (void)strcat(fake->auth, " ");
        (void)strcat(fake->auth, command->element[i]->str);
    }
    (void)pthread_mutex_unlock(&fake->lock);
    return fake->to_auth;
}

static void serve(struct fake *fake, int fd)
{
    redisReader *reader = redisReaderCreate();
    char bytes[4096];
    ssize_t len;

    while ((len = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
        void *command = NULL;

        (void)redisReaderFeed(reader, bytes, (size_t)len);
        while (redisReaderGetReply(reader, &command) == REDIS_OK && command) {
            const char *answer = answer_to(fake, command);

            freeReplyObject(command);
            if (answer && send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
                break;
            if (answer && !strstr(answer, "\r\n"))
                (void)shutdown(fd, SHUT_WR); /* half an answer, and the end */
        }
    }
    redisReaderFree(reader);
    (void)close(fd);
}

static void *serve_all(void *ctx)
{
    struct fake *fake = ctx;
    int fd;

    while ((fd = accept(fake->listener, NULL, NULL)) >= 0)
        serve(fake, fd);
    return NULL;
}

static struct fake *start(const char *host, const char *to_sentinel, const char *to_role)
{
    struct fake *fake = &fakes[fake_count++];
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    bool is_v6 = strchr(host, ':') != NULL;
    socklen_t len = is_v6 ? sizeof(v6) : sizeof(v4);
    struct sockaddr *address = is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;

    (void)inet_pton(address->sa_family, host, is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr);
    (void)pthread_mutex_init(&fake->lock, NULL);
    fake->listener = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fake->listener, address, len) != 0) {
        (void)close(fake->listener);
        fake_count--;
        return NULL; /* a machine without IPv6 */
    }
    cr_assert_eq(listen(fake->listener, 16), 0);
    cr_assert_eq(getsockname(fake->listener, address, &len), 0);
    fake->port = ntohs(is_v6 ? v6.sin6_port : v4.sin_port);
    fake->to_sentinel = to_sentinel;
    fake->to_role = to_role;
    fake->to_hello = NOPERM;
    fake->to_auth = "+OK\r\n";
    cr_assert_eq(pthread_create(&fake->thread, NULL, serve_all, fake), 0);
    return fake;
}

static struct fake *sentinel(const char *answer)
{
    return start("127.0.0.1", answer, "*2\r\n$8\r\nsentinel\r\n*0\r\n");
}

static struct fake *server(const char *role)
{
    return start("127.0.0.1", "-ERR unknown command 'SENTINEL'\r\n", role);
}

/* What a sentinel says of the server; `slot` is the text's own place. */
static const char *names(size_t slot, const char *host, unsigned port)
{
    char text[16];

    (void)snprintf(text, sizeof(text), "%u", port);
    (void)snprintf(answers[slot], sizeof(answers[slot]), "*2\r\n$%zu\r\n%s\r\n$%zu\r\n%s\r\n",
                   strlen(host), host, strlen(text), text);
    return answers[slot];
}

static void setup(void)
{
    (void)signal(SIGPIPE, SIG_DFL);
}

/* The threads end with the process: one of them may wait for somebody who never comes. */
static void teardown(void)
{
    for (size_t i = 0; i < fake_count; i++)
        (void)shutdown(fakes[i].listener, SHUT_RDWR);
}

TestSuite(redis_sentinel, .init = setup, .fini = teardown, .timeout = 120);

static struct atd_redis_url url_of(const char *format, ...)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_redis_url url;
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    cr_assert_eq(atd_redis_url_parse(text, &url, &err), 0, "%s: %s", text, err.text);
    return url;
}

/* The port that the link leads to. */
static unsigned opens(struct atd_redis_url *url)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_redis_place master = {.port = 0};
    struct atd_redis_link *link = NULL;
    unsigned round_trip_us;

    cr_assert_eq(atd_redis_sentinel_open(url, NULL, &link, &master, &err), 0, "%s", err.text);
    cr_assert_eq(atd_redis_login(link, url, &round_trip_us, &err), 0, "%s", err.text);
    atd_redis_link_free(link);
    return master.port;
}

static int fails(struct atd_redis_url *url, struct atd_error *ret_err)
{
    struct atd_redis_place master;
    struct atd_redis_link *link = NULL;
    int rc;

    *ret_err = (struct atd_error)ATD_ERROR_INIT;
    rc = atd_redis_sentinel_open(url, NULL, &link, &master, ret_err);
    cr_assert_neq(rc, 0);
    cr_assert_null(link);
    cr_assert_eq(ret_err->code, -rc);
    return rc;
}

/* A port that refuses. */
static unsigned dead_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    cr_assert_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

Test(redis_sentinel, the_master_is_where_they_say)
{
    struct fake *master = server(MASTER_ROLE);
    struct fake *one = sentinel(names(0, "127.0.0.1", master->port));
    struct atd_redis_url url = url_of("redis+sentinel://127.0.0.1:%u/m", one->port);

    cr_assert_eq(opens(&url), master->port);
    one->to_sentinel = names(0, "localhost", master->port);
    cr_assert_eq(opens(&url), master->port);
}

Test(redis_sentinel, each_gets_its_own_password)
{
    struct fake *master = server(MASTER_ROLE);
    struct fake *one = sentinel(names(0, "127.0.0.1", master->port));
    struct atd_redis_url url = url_of(
        "redis+sentinel://u:p@127.0.0.1:%u/m?sentinel_username=v&sentinel_password=q", one->port);

    cr_assert_eq(opens(&url), master->port);
    cr_assert_str_eq(master->auth, " u p");
    cr_assert_str_eq(one->auth, " v q");
    one->to_auth = "-WRONGPASS invalid q\r\n";
    {
        struct atd_error err;

        cr_assert_eq(fails(&url, &err), -EACCES);
        cr_assert_null(strstr(err.text, "invalid q"), "%s", err.text);
    }
}

Test(redis_sentinel, one_that_refuses_is_passed_over)
{
    struct fake *master = server(MASTER_ROLE);
    struct fake *one = sentinel(names(0, "127.0.0.1", master->port));
    struct atd_redis_url url =
        url_of("redis+sentinel://127.0.0.1:%u,127.0.0.1:%u/m", dead_port(), one->port);

    cr_assert_eq(opens(&url), master->port);
    cr_assert_eq(url.sentinels[0].port, one->port, "it answered: it comes first");
}

Test(redis_sentinel, one_that_is_silent_costs_little_and_once)
{
    struct fake *master = server(MASTER_ROLE);
    struct fake *silent = sentinel(NULL);
    struct fake *one = sentinel(names(0, "127.0.0.1", master->port));
    struct atd_redis_url url =
        url_of("redis+sentinel://127.0.0.1:%u,127.0.0.1:%u/m", silent->port, one->port);
    int64_t began_ms = atd_clock_monotonic_ms();

    cr_assert_eq(opens(&url), master->port);
    cr_assert_geq(atd_clock_monotonic_ms() - began_ms, ATD_REDIS_SENTINEL_MS);
    cr_assert_lt(atd_clock_monotonic_ms() - began_ms, ATD_REDIS_SENTINEL_MS + SLACK_MS);
    cr_assert_eq(opens(&url), master->port);
    cr_assert_eq(silent->asked, 1);
    cr_assert_eq(one->asked, 2);
}

Test(redis_sentinel, when_all_are_silent_it_ends)
{
    struct fake *silent = sentinel(NULL);
    struct atd_redis_url url = url_of("redis+sentinel://127.0.0.1:%u/m", silent->port);
    int64_t began_ms = atd_clock_monotonic_ms();
    struct atd_error err;

    cr_assert_eq(fails(&url, &err), -ETIMEDOUT);
    cr_assert(err.retryable);
    cr_assert_lt(atd_clock_monotonic_ms() - began_ms,
                 ATD_REDIS_SENTINEL_MS + ATD_REDIS_SENTINEL_AGAIN_MS + SLACK_MS);
    cr_assert_eq(silent->asked, 2, "a slow one gets more time");
}

Test(redis_sentinel, a_name_that_only_some_know)
{
    struct fake *master = server(MASTER_ROLE);
    struct fake *none = sentinel("*-1\r\n");
    struct fake *one = sentinel(names(0, "127.0.0.1", master->port));
    struct atd_redis_url both =
        url_of("redis+sentinel://127.0.0.1:%u,127.0.0.1:%u/m", none->port, one->port);
    struct atd_redis_url url =
        url_of("redis+sentinel://127.0.0.1:%u,127.0.0.1:%u/unknown", none->port, dead_port());
    struct atd_error err;

    cr_assert_eq(opens(&both), master->port);
    none->to_sentinel = "$-1\r\n";
    cr_assert_eq(opens(&both), master->port);
    cr_assert_eq(fails(&url, &err), -ENXIO);
    cr_assert_not_null(strstr(err.text, "no master of the name 'unknown'"), "%s", err.text);
    cr_assert_not(err.retryable);
}

Test(redis_sentinel, what_they_name_must_be_a_master)
{
    struct fake *old = server(SLAVE_ROLE);
    struct fake *master = server(MASTER_ROLE);
    struct fake *late = sentinel(names(0, "127.0.0.1", old->port));
    struct fake *one = sentinel(names(1, "127.0.0.1", master->port));
    struct atd_redis_url url =
        url_of("redis+sentinel://127.0.0.1:%u,127.0.0.1:%u/m", late->port, one->port);
    struct atd_error err;

    cr_assert_eq(opens(&url), master->port);
    cr_assert_eq(url.sentinels[0].port, one->port);
    one->to_sentinel = names(1, "127.0.0.1", old->port);
    cr_assert_eq(old->roles, 1);
    cr_assert_eq(fails(&url, &err), -EAGAIN);
    cr_assert_eq(old->roles, 2, "two name it: it is asked once");
    cr_assert(err.retryable);
    cr_assert_not_null(strstr(err.text, "no master"), "%s", err.text);
    one->to_sentinel = names(1, "127.0.0.1", late->port);
    cr_assert_eq(fails(&url, &err), -EAGAIN, "a sentinel is none");
    one->to_sentinel = names(1, "127.0.0.1", dead_port());
    late->to_sentinel = one->to_sentinel;
    cr_assert_eq(fails(&url, &err), -ECONNREFUSED);
    cr_assert(err.retryable);
}

Test(redis_sentinel, the_role_of_who_may_not_ask)
{
    struct fake *master = server(NOPERM);
    struct fake *one = sentinel(names(0, "127.0.0.1", master->port));
    struct atd_redis_url url = url_of("redis+sentinel://127.0.0.1:%u/m", one->port);
    struct atd_error err;

    cr_assert_eq(opens(&url), master->port, "who tells nothing counts as one");
    master->to_hello = "*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$4\r\nrole\r\n$6\r\nmaster\r\n";
    cr_assert_eq(opens(&url), master->port);
    master->to_hello = "*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$4\r\nrole\r\n$7\r\nreplica\r\n";
    cr_assert_eq(fails(&url, &err), -EAGAIN);
    master->to_role = "-LOADING Redis is loading the dataset in memory\r\n";
    cr_assert_eq(fails(&url, &err), -EAGAIN);
    cr_assert(err.retryable);
    master->to_role = NULL;
    cr_assert_eq(fails(&url, &err), -ETIMEDOUT);
}

Test(redis_sentinel, ipv6)
{
    struct fake *master = start("::1", "-ERR x\r\n", MASTER_ROLE);
    struct fake *one;
    struct atd_redis_url url;

    if (!master)
        return;
    one = start("::1", names(0, "::1", master->port), "-ERR x\r\n");
    url = url_of("redis+sentinel://[::1]:%u/m", one->port);
    cr_assert_eq(opens(&url), master->port);
    cr_assert_not_null(strstr(url.shown, "//[::1]:"), "%s", url.shown);
}

Test(redis_sentinel, whatever_they_answer)
{
    static const struct {
        const char *says;
        int code;
    } cases[] = {
        {"+OK\r\n", EPROTO},
        {":1\r\n", EPROTO},
        {"$2\r\nhi\r\n", EPROTO},
        {"*0\r\n", EPROTO},
        {"*1\r\n$1\r\nh\r\n", EPROTO},
        {"*3\r\n$1\r\nh\r\n$1\r\n1\r\n$1\r\n1\r\n", EPROTO},
        {"*2\r\n$-1\r\n$-1\r\n", EPROTO},
        {"*2\r\n*0\r\n*0\r\n", EPROTO},
        {"*2\r\n$1\r\nh\r\n:1\r\n", EPROTO},
        {"*2\r\n$0\r\n\r\n$4\r\n6379\r\n", EPROTO},
        {"*2\r\n$9\r\n127.0.0.1\r\n$0\r\n\r\n", EPROTO},
        {"*2\r\n$9\r\n127.0.0.1\r\n$1\r\n0\r\n", EPROTO},
        {"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n65536\r\n", EPROTO},
        {"*2\r\n$9\r\n127.0.0.1\r\n$2\r\n-1\r\n", EPROTO},
        {"*2\r\n$9\r\n127.0.0.1\r\n$3\r\n80x\r\n", EPROTO},
        {"*2\r\n$9\r\n127.0.0.1\r\n$30\r\n111111111111111111111111111111\r\n", EPROTO},
        {"*2\r\n$3\r\na b\r\n$2\r\n80\r\n", EPROTO},
        {"*2\r\n$3\r\n/a/\r\n$2\r\n80\r\n", EPROTO},
        {"*2\r\n$3\r\n:::\r\n$2\r\n80\r\n", EPROTO},
        {"*2\r\n$5\r\n[::1]\r\n$2\r\n80\r\n", EPROTO},
        {"-NOAUTH Authentication required.\r\n", EACCES},
        {"-NOPERM no\r\n", EPROTO},
        {"-ERR unknown command 'SENTINEL'\r\n", EPROTO},
        {"-IDONTKNOW x\r\n", EIO},
        {"$999999999999\r\n", EPROTO},
        {"*1000000000\r\n", EPROTO},
        {"HTTP/1.1 400 Bad Request\r\n", EPROTO},
        {"*2\r\n$9\r\n127.0.0.1\r\n", ETIMEDOUT},
        {"*", ECONNRESET}, /* and closed */
    };
    char long_host[420];
    struct fake *one = sentinel(NULL);
    struct atd_redis_url url = url_of("redis+sentinel://127.0.0.1:%u/m", one->port);
    struct atd_error err;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        one->to_sentinel = cases[i].says;
        cr_assert_eq(fails(&url, &err), -cases[i].code, "%s: %d %s", cases[i].says, err.code,
                     err.text);
        cr_assert_not_null(strstr(err.text, "sentinel 127.0.0.1:"), "%s", err.text);
    }
    (void)snprintf(long_host, sizeof(long_host), "*2\r\n$256\r\n%0256d\r\n$2\r\n80\r\n", 0);
    one->to_sentinel = long_host;
    cr_assert_eq(fails(&url, &err), -EPROTO, "%s", err.text);
}

/* ------------------------------------------------------------------ links that have had their day
 */

Test(redis_sentinel, a_link_notices_that_its_master_is_none_any_more)
{
    struct fake *master = server(MASTER_ROLE);
    struct fake *next = server(MASTER_ROLE);
    struct fake *one = sentinel(names(0, "127.0.0.1", master->port));
    struct atd_redis_url url = url_of("redis+sentinel://127.0.0.1:%u/m", one->port);
    struct atd_redis_link *link = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_redis_link_open(&url, NULL, &link, &err), 0, "%s", err.text);
    cr_assert_not(atd_redis_link_has_moved(link, &url, NULL, 0));
    cr_assert_eq(atd_redis_link_confirm(link, &url, NULL, true, &err), 0, "%s", err.text);
    one->to_sentinel = names(1, "127.0.0.1", next->port);
    cr_assert_not(atd_redis_link_has_moved(link, &url, NULL, 60000), "asked a moment ago");
    cr_assert(atd_redis_link_has_moved(link, &url, NULL, 0));
    cr_assert_eq(atd_redis_link_confirm(link, &url, NULL, false, &err), -EREMOTEIO);
    cr_assert(err.retryable);
    /* Nobody knows: reading goes on, and what was written may be lost. */
    one->to_sentinel = "*-1\r\n";
    cr_assert_not(atd_redis_link_has_moved(link, &url, NULL, 0));
    cr_assert_eq(atd_redis_link_confirm(link, &url, NULL, false, &err), 0);
    cr_assert_eq(atd_redis_link_confirm(link, &url, NULL, true, &err), -EREMOTEIO);
    atd_redis_link_free(link);
}

Test(redis_sentinel, a_link_without_sentinels_never_moves)
{
    struct fake *master = server(MASTER_ROLE);
    struct atd_redis_url url = url_of("redis://127.0.0.1:%u", master->port);
    struct atd_redis_link *link = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_redis_link_open(&url, NULL, &link, &err), 0, "%s", err.text);
    cr_assert_not(atd_redis_link_has_moved(link, &url, NULL, 0));
    cr_assert_eq(atd_redis_link_confirm(link, &url, NULL, true, &err), 0);
    atd_redis_link_free(link);
}
