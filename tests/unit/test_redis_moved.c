/* An index whose two connections must not come to lead to two servers when sentinels name another
 * master: what one server is told of, the other one need not have. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "index/redis.h"
#include "index/writer.h"
#include "index_seen.h"
#include "redis_server.h"

static struct redis_server servers[2];
static char ports[2][8];
static redisContext *writers[2];
static struct seen seen;

/* A sentinel, which knows one answer. */
static int listener;
static pthread_t thread;
static atomic_uint master; /* place in servers */

static void *answer_all(void *ctx)
{
    int fd;

    (void)ctx;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        const char *port = ports[atomic_load(&master)];
        char text[128];
        int len = snprintf(text, sizeof(text), "*2\r\n$9\r\n127.0.0.1\r\n$%zu\r\n%s\r\n",
                           strlen(port), port);

        if (recv(fd, text + len, sizeof(text) - (size_t)len, 0) > 0)
            (void)send(fd, text, (size_t)len, MSG_NOSIGNAL);
        /* Who asked reads the answer before the end. */
        while (recv(fd, text, sizeof(text), 0) > 0)
            ;
        (void)close(fd);
    }
    return NULL;
}

static void setup(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(listener, 16), 0);
    cr_assert_eq(pthread_create(&thread, NULL, answer_all, NULL), 0);
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(ports[i], sizeof(ports[i]), "%u", free_port());
        server_make_dir(&servers[i]);
        servers[i].options[0] = "--port";
        servers[i].options[1] = ports[i];
        server_start(&servers[i]);
        writers[i] = server_connect(&servers[i]);
    }
}

static void teardown(void)
{
    (void)shutdown(listener, SHUT_RDWR);
    for (size_t i = 0; i < 2; i++) {
        if (writers[i])
            redisFree(writers[i]);
        server_remove(&servers[i]);
    }
}

TestSuite(redis_moved, .init = setup, .fini = teardown, .timeout = 120);

static struct atd_redis_url make_url(void)
{
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_redis_url url;
    char text[64];

    cr_assert_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(text, sizeof(text), "redis+sentinel://127.0.0.1:%u/m", ntohs(address.sin_port));
    cr_assert_eq(atd_redis_url_parse(text, &url, &err), 0, "%s", err.text);
    return url;
}

static struct atd_index *open_loaded(void)
{
    struct atd_redis_url url = make_url();
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_index *index = NULL;

    cr_assert_eq(atd_index_redis_open(&url, NULL, &index, &err), 0, "%s", err.text);
    cr_assert_eq(see(index, &seen, &err), 0, "%s", err.text);
    cr_assert_str_eq(atd_index_coherence(index), "tracking (RESP2)");
    return index;
}

static int no_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    (void)ctx, (void)entry, (void)err;
    return 0;
}

static int no_gone(void *ctx, enum atd_index_kind kind, struct atd_str key, struct atd_error *err)
{
    (void)ctx, (void)kind, (void)key, (void)err;
    return 0;
}

/* Servers close connections without traffic, but none on which something is subscribed to. */
static void lose_the_link_and_the_master(void)
{
    RUN(writers[0], "CLIENT KILL TYPE normal");
    atomic_store(&master, 1);
}

static void expect_told_by_the_new_master(struct atd_index *index)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(see(index, &seen, &err), 0, "%s", err.text);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_NONE);
    RUN(writers[1], "HSET LocalDatasetEntry:new name n schema_ref r data_urls %b", "\x90", 1);
    cr_assert_eq(atd_index_wait(index, 2000), ATD_NEWS_SOME, "nobody tells");
}

Test(redis_moved, changes_of_one_server_are_not_read_at_another)
{
    const struct atd_index_sink sink = {.entry = no_entry, .gone = no_gone};
    struct atd_index *index = open_loaded();

    RUN(writers[0], "HSET LocalDatasetEntry:old name n schema_ref r data_urls %b", "\x90", 1);
    cr_assert_eq(atd_index_wait(index, 5000), ATD_NEWS_SOME);
    lose_the_link_and_the_master();
    cr_assert_eq(atd_index_changes(index, &sink, NULL), -ESTALE);
    expect_told_by_the_new_master(index);
    atd_index_free(index);
}

Test(redis_moved, a_load_is_of_the_server_that_tells)
{
    struct atd_index *index = open_loaded();

    lose_the_link_and_the_master();
    expect_told_by_the_new_master(index);
    atd_index_free(index);
}

/* Also while there is news all the time. */
Test(redis_moved, a_busy_master_that_is_none_any_more_is_left)
{
    const struct atd_index_sink sink = {.entry = no_entry, .gone = no_gone};
    struct atd_index *index = open_loaded();
    int64_t until_ms = atd_clock_monotonic_ms() + 20000;
    enum atd_index_news news;

    atomic_store(&master, 1);
    do {
        RUN(writers[0], "HSET LocalDatasetEntry:old name n schema_ref r data_urls %b", "\x90", 1);
        news = atd_index_wait(index, 5000);
        cr_assert_neq(news, ATD_NEWS_NONE);
        if (news == ATD_NEWS_SOME)
            cr_assert_eq(atd_index_changes(index, &sink, NULL), 0);
    } while (news == ATD_NEWS_SOME && atd_clock_monotonic_ms() < until_ms);
    cr_assert_eq(news, ATD_NEWS_ALL);
    expect_told_by_the_new_master(index);
    atd_index_free(index);
}

/* What a change that was found made is worth at a master without replicas. */
Test(redis_moved, nothing_is_settled_at_a_master_that_is_none_any_more)
{
    struct atd_redis_url url = make_url();
    struct atd_index_writer *writer = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_index_redis_writer(&url, NULL, &writer, &err), 0, "%s", err.text);
    cr_assert_eq(atd_index_settle(writer, &err), 0, "%s", err.text);
    atomic_store(&master, 1);
    cr_assert_eq(atd_index_settle(writer, &err), -EREMOTEIO);
    cr_assert(err.retryable);
    cr_assert_eq(atd_index_settle(writer, &err), 0, "%s", err.text);
    atd_index_writer_free(writer);
}
