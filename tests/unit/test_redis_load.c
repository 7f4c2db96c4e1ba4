/* A server that answers whatever the test says: the provider against what no Redis does. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "index/redis.h"
#include "index/redis_session.h"
#include "index_seen.h"

/* AUTH, CLIENT SETNAME, INFO twice. */
#define HELLO "+OK\r\n+OK\r\n$0\r\n\r\n$0\r\n\r\n"

/* How the server goes on when its script is at its end: REPEAT says what follows HELLO again. */
enum after { CLOSE, SILENCE, REPEAT, LIST_FOR_EVER };

struct fake {
    char dir[64];
    char path[96];
    int listener;
    pthread_t thread;
    const char *const *scripts; /* one a connection; the last one again for those that follow */
    size_t script_count;
    enum after after;
};

static struct fake fake;
static struct seen seen;

/* Reads all the time, so that the other side is never in the way. */
static void drain(int fd)
{
    char bytes[4096];

    while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        ;
}

static void wait_until_closed(int fd)
{
    char bytes[4096];

    while (recv(fd, bytes, sizeof(bytes), 0) > 0)
        ;
}

static bool say(int fd, const char *text)
{
    size_t len = strlen(text);

    while (len > 0) {
        ssize_t done = send(fd, text, len, MSG_NOSIGNAL);

        drain(fd);
        if (done <= 0)
            return false;
        text += done;
        len -= (size_t)done;
    }
    return true;
}

/* Pages without end, one for each thing that is asked. */
static void list_for_ever(int fd)
{
    char bytes[4096];

    for (size_t i = 0; recv(fd, bytes, sizeof(bytes), 0) > 0; i++) {
        if (send(fd, i % 2 ? "*2\r\n$1\r\n8\r\n*0\r\n" : "*2\r\n$1\r\n9\r\n*0\r\n", 15,
                 MSG_NOSIGNAL) <= 0)
            return;
    }
}

static void serve(int fd, const char *script)
{
    const char *start = script;

    do {
        if (!say(fd, start))
            return;
        start = script + (strncmp(script, HELLO, strlen(HELLO)) == 0 ? strlen(HELLO) : 0);
    } while (fake.after == REPEAT);
    if (fake.after == LIST_FOR_EVER)
        list_for_ever(fd);
    /* The end, not a reset: what was sent must arrive. */
    if (fake.after == CLOSE)
        (void)shutdown(fd, SHUT_WR);
    wait_until_closed(fd);
}

static void *serve_all(void *ctx)
{
    int fd;

    (void)ctx;
    for (size_t i = 0; (fd = accept(fake.listener, NULL, NULL)) >= 0; i++) {
        serve(fd, fake.scripts[i < fake.script_count ? i : fake.script_count - 1]);
        (void)close(fd);
    }
    return NULL;
}

static struct atd_index *start(const char *const *scripts, size_t count, enum after after)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct atd_redis_url url;
    struct atd_index *index = NULL;
    char text[160];

    (void)strcpy(fake.dir, "/tmp/atd-fake-XXXXXX");
    cr_assert_not_null(mkdtemp(fake.dir));
    (void)snprintf(fake.path, sizeof(fake.path), "%s/sock", fake.dir);
    (void)strcpy(address.sun_path, fake.path);
    fake.listener = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(bind(fake.listener, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(fake.listener, 8), 0);
    fake.scripts = scripts;
    fake.script_count = count;
    fake.after = after;
    cr_assert_eq(pthread_create(&fake.thread, NULL, serve_all, NULL), 0);
    (void)snprintf(text, sizeof(text), "unix://user:S3cret@%s", fake.path);
    cr_assert_eq(atd_redis_url_parse(text, &url, NULL), 0);
    cr_assert_eq(atd_index_redis_open(&url, NULL, &index, NULL), 0);
    /* The script is one connection's. */
    atd_index_redis_set_ways(index, 0);
    return index;
}

static void stop(struct atd_index *index)
{
    atd_index_free(index);
    (void)shutdown(fake.listener, SHUT_RDWR);
    (void)pthread_join(fake.thread, NULL);
    (void)close(fake.listener);
    (void)unlink(fake.path);
    (void)rmdir(fake.dir);
}

#define EMPTY_PAGE "*2\r\n$1\r\n0\r\n*0\r\n"
#define ONE_KEY(key_with_length) HELLO "*2\r\n$1\r\n0\r\n*1\r\n" key_with_length "\r\n"

static void expect_failure(const char *script, enum after after, int code, const char *says)
{
    struct atd_index *index = start(&script, 1, after);
    struct atd_error err = ATD_ERROR_INIT;
    int rc = see(index, &seen, &err);

    cr_expect_eq(rc, -code, "'%.60s': %d '%s'", script, rc, err.text);
    cr_expect_not_null(strstr(err.text, says), "'%.60s': '%s'", script, err.text);
    cr_expect_null(strstr(err.text, "S3cret"), "%s", err.text);
    stop(index);
}

/* What a load of each script reports. */
static void expect_seen(const char *const *scripts, const char *const *wanted, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct atd_index *index = start(&scripts[i], 1, SILENCE);
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(see(index, &seen, &err), 0, "%zu: %s", i, err.text);
        cr_expect_str_eq(seen.text, wanted[i], "%zu: %s", i, seen.text);
        stop(index);
    }
}

Test(redis_load, a_sound_script_loads)
{
    static const char *const scripts[] = {
        HELLO EMPTY_PAGE,
        HELLO "*2\r\n$20\r\n18446744073709551615\r\n*1\r\n$15\r\nLocalSchema:S@1\r\n" EMPTY_PAGE
              "$2\r\n{}\r\n",
        HELLO "*2\r\n$1\r\n0\r\n*1\r\n$15\r\nLocalSchema:S@1\r\n$-1\r\n",
        HELLO "*2\r\n$1\r\n0\r\n*1\r\n$8\r\nLabel:x@\r\n*0\r\n",
        HELLO "*2\r\n$1\r\n0\r\n*1\r\n$8\r\nLabel:x@\r\n*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
        HELLO "*2\r\n$1\r\n0\r\n*1\r\n$8\r\nLabel:x@\r\n:1\r\n",
        HELLO "*2\r\n$1\r\n0\r\n*1\r\n$8\r\nLabel:x@\r\n*8\r\n$3\r\ncid\r\n$1\r\nc\r\n$4\r\nname"
              "\r\n$1\r\nx\r\n$7\r\nversion\r\n$0\r\n\r\n$3\r\ncid\r\n$1\r\nd\r\n",
        HELLO "*2\r\n$1\r\n0\r\n*1\r\n:5\r\n",
    };
    static const char *const wanted[] = {
        "",
        "schema:S@1={}\n",
        "",
        "",
        "!label:x@ (the server's answer is of an unexpected form)\n",
        "!label:x@ (the server's answer is of an unexpected form)\n",
        "!label:x@ (its field 'cid' is there twice)\n",
        "!key: (a key is too long to be read)\n",
    };

    expect_seen(scripts, wanted, ATD_ARRAY_LEN(scripts));
}

#define LABEL_OF(cid_with_length)                                                           \
    "*6\r\n$3\r\ncid\r\n" cid_with_length "\r\n$4\r\nname\r\n$1\r\nx\r\n$7\r\nversion\r\n$" \
    "0\r\n\r\n"
#define ENTRY                                                                             \
    "*6\r\n$4\r\nname\r\n$1\r\nx\r\n$10\r\nschema_ref\r\n$1\r\ns\r\n$9\r\ndata_urls\r\n$" \
    "1\r\n\x90\r\n"
#define TWO_LABELS "*2\r\n$1\r\n0\r\n*2\r\n$8\r\nLabel:x@\r\n$8\r\nLabel:x@\r\n"

/* A publish between SCAN and the reading of its label. */
Test(redis_load, an_entry_that_only_its_label_knows_is_read)
{
    static const char *const scripts[] = {
        ONE_KEY("$8\r\nLabel:x@") LABEL_OF("$1\r\nc") ENTRY,
        ONE_KEY("$8\r\nLabel:x@") LABEL_OF("$1\r\nc") "*0\r\n*0\r\n",
        HELLO TWO_LABELS LABEL_OF("$1\r\nc") LABEL_OF("$1\r\nc") ENTRY,
        HELLO "*2\r\n$1\r\n0\r\n*2\r\n$8\r\nLabel:x@\r\n$19\r\nLocalDatasetEntry:c\r\n" LABEL_OF(
            "$1\r\nc") ENTRY,
    };
    static const char *const wanted[] = {
        "entry:c=x,s,1\nlabel:x@=c\n",
        "label:x@=c\n",
        "entry:c=x,s,1\nlabel:x@=c\nlabel:x@=c\n",
        "entry:c=x,s,1\nlabel:x@=c\n",
    };

    expect_seen(scripts, wanted, ATD_ARRAY_LEN(scripts));
}

/* ------------------------------------------------------------------ one state of a dataset */

#define ENTRY_NAMED(name_with_length)                                         \
    "*6\r\n$4\r\nname\r\n" name_with_length "\r\n$10\r\nschema_ref\r\n$1\r\n" \
    "s\r\n$9\r\ndata_urls\r\n$1\r\n\x90\r\n"
#define LABEL_THEN_ENTRY \
    HELLO "*2\r\n$1\r\n0\r\n*2\r\n$8\r\nLabel:x@\r\n$19\r\nLocalDatasetEntry:c\r\n"
#define ENTRY_THEN_LABEL \
    HELLO "*2\r\n$1\r\n0\r\n*2\r\n$19\r\nLocalDatasetEntry:c\r\n$8\r\nLabel:x@\r\n"
#define SUPERSEDED(cid) ENTRY_NAMED("$14\r\nx@superseded:" cid)

/* Which entry x@ leads to in the end, and what that is called. */
struct meant {
    char label[8];
    struct {
        char cid[8];
        char name[32];
    } entries[8];
    size_t count;
};

static int note_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    struct meant *meant = ctx;

    (void)err;
    cr_assert_lt(meant->count, ATD_ARRAY_LEN(meant->entries));
    (void)snprintf(meant->entries[meant->count].cid, 8, "%.*s", ATD_STR_ARG(entry->cid));
    (void)snprintf(meant->entries[meant->count++].name, 32, "%.*s", ATD_STR_ARG(entry->name));
    return 0;
}

static int note_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    (void)err;
    (void)snprintf(((struct meant *)ctx)->label, 8, "%.*s", ATD_STR_ARG(label->cid));
    return 0;
}

static void note_problem(void *ctx, const char *what, struct atd_str key, const char *reason)
{
    (void)ctx;
    cr_expect_fail("%s '%.*s': %s", what, ATD_STR_ARG(key), reason);
}

static void expect_meant(const char *script, const char *cid, const char *name)
{
    struct atd_index *index = start(&script, 1, SILENCE);
    struct atd_error err = ATD_ERROR_INIT;
    struct meant meant = {0};
    const struct atd_index_sink sink = {&meant,     note_entry, note_label,
                                        see_schema, NULL,       note_problem};
    const char *found = "";

    cr_assert_eq(atd_index_load(index, &sink, &err), 0, "%s", err.text);
    for (size_t i = 0; i < meant.count; i++) {
        if (strcmp(meant.entries[i].cid, meant.label) == 0)
            found = meant.entries[i].name;
    }
    cr_expect_str_eq(meant.label, cid, "'%s', not '%s'", meant.label, cid);
    cr_expect_str_eq(found, name, "'%s', not '%s'", found, name);
    stop(index);
}

/* The old label, and after a publish its entry: superseded, or deleted. */
Test(redis_load, a_label_that_was_read_before_a_publish_is_read_again)
{
    expect_meant(LABEL_THEN_ENTRY LABEL_OF("$1\r\nc") SUPERSEDED("c") LABEL_OF("$1\r\nd")
                     ENTRY_NAMED("$1\r\nx"),
                 "d", "x");
    expect_meant(LABEL_THEN_ENTRY LABEL_OF("$1\r\nc") ENTRY_NAMED("$7\r\nx@1.0.0")
                     LABEL_OF("$1\r\nd") ENTRY_NAMED("$1\r\nx"),
                 "d", "x");
    expect_meant(ENTRY_THEN_LABEL SUPERSEDED("c") LABEL_OF("$1\r\nc") LABEL_OF("$1\r\nd")
                     ENTRY_NAMED("$1\r\nx"),
                 "d", "x");
    expect_meant(ONE_KEY("$8\r\nLabel:x@") LABEL_OF("$1\r\nc") "*0\r\n" LABEL_OF("$1\r\nd")
                     ENTRY_NAMED("$1\r\nx"),
                 "d", "x");
    /* Deleted and published again meanwhile. */
    expect_meant(ONE_KEY("$8\r\nLabel:x@") LABEL_OF("$1\r\nc") "*0\r\n" LABEL_OF("$1\r\nc")
                     ENTRY_NAMED("$1\r\nx"),
                 "c", "x");
}

/* The dataset had no label before: SCAN did not know the one that the publish made. */
Test(redis_load, the_label_of_a_superseded_entry_is_looked_for)
{
    expect_meant(ONE_KEY("$19\r\nLocalDatasetEntry:c") SUPERSEDED("c") LABEL_OF("$1\r\nd")
                     ENTRY_NAMED("$1\r\nx"),
                 "d", "x");
    expect_meant(ONE_KEY("$19\r\nLocalDatasetEntry:c") SUPERSEDED("c") "*0\r\n", "", "");
}

/* One publish after the other. */
Test(redis_load, labels_are_read_again_a_few_times_and_no_more)
{
    expect_meant(LABEL_THEN_ENTRY LABEL_OF("$1\r\nc") SUPERSEDED("c") LABEL_OF("$1\r\nd")
                     SUPERSEDED("d") LABEL_OF("$1\r\ne") ENTRY_NAMED("$1\r\nx"),
                 "e", "x");
    expect_meant(LABEL_THEN_ENTRY LABEL_OF("$1\r\nc") SUPERSEDED("c") LABEL_OF("$1\r\nd")
                     SUPERSEDED("d") LABEL_OF("$1\r\ne") SUPERSEDED("e") LABEL_OF("$1\r\nf")
                         SUPERSEDED("f") LABEL_OF("$1\r\ng") SUPERSEDED("g"),
                 "g", "x@superseded:g");
}

/* A label that leads to nothing, or to a former state, for good. */
Test(redis_load, a_label_that_stays_the_same_is_read_again_once)
{
    expect_meant(ONE_KEY("$8\r\nLabel:x@")
                     LABEL_OF("$1\r\nc") "*0\r\n" LABEL_OF("$1\r\nc") "*0\r\n",
                 "c", "");
    expect_meant(LABEL_THEN_ENTRY LABEL_OF("$1\r\nc") SUPERSEDED("c") LABEL_OF("$1\r\nc"), "c",
                 "x@superseded:c");
}

Test(redis_load, loading_first_then_well)
{
    static const char *const scripts[] = {
        "+OK\r\n+OK\r\n-LOADING\r\n-LOADING\r\n-LOADING Redis is loading\r\n", HELLO EMPTY_PAGE};
    struct atd_index *index = start(scripts, 2, SILENCE);
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(see(index, &seen, &err), -EAGAIN);
    cr_assert(err.retryable);
    cr_assert_not_null(strstr(err.text, "still loading"), "%s", err.text);
    cr_assert_eq(see(index, &seen, &err), 0, "%s", err.text);
    stop(index);
}

Test(redis_load, error_replies_become_sentences)
{
    expect_failure("-NOAUTH Authentication required.\r\n", SILENCE, EACCES, "ATDATA_REDIS");
    expect_failure("-WRONGPASS invalid S3cret\r\n", SILENCE, EACCES, "user name or password");
    expect_failure("-ERR unknown command `AUTH`, with args beginning with: `S3cret`, \r\n", SILENCE,
                   EIO, "logging in");
    expect_failure("+OK\r\n-MISCONF Redis is configured to save\r\n", SILENCE, EIO, "is up");
    expect_failure("-DENIED Redis is running in protected mode\r\n", CLOSE, EACCES,
                   "protected mode");
    expect_failure("-ERR max number of clients reached\r\n", CLOSE, EAGAIN, "as many clients");
    expect_failure(HELLO "-MOVED 1 h:1\r\n", SILENCE, ENOTSUP, "Redis Cluster");
    expect_failure(HELLO "-NOPERM no\r\n", SILENCE, EACCES, "+scan");
    expect_failure(ONE_KEY("$8\r\nLabel:x@") "-NOPERM no\r\n", SILENCE, EACCES, "~Label:*");
}

Test(redis_load, what_is_no_redis_is_said)
{
    expect_failure("HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE, EPROTO, "web server");
    expect_failure("\x15\x03\x03\x01\x02\x02\x0a", CLOSE, EPROTO, "rediss://");
    expect_failure("SSH-2.0-x\r\n", CLOSE, EPROTO, "no Redis server");
    expect_failure("", CLOSE, ECONNRESET, "without an answer");
    expect_failure("+OK\r\n+O", CLOSE, ECONNRESET, "closed the connection");
    expect_failure(HELLO "*2\r\n$1\r\n0\r\n*1\r\n$15\r\nLocalSch", CLOSE, ECONNRESET, "closed");
    expect_failure(ONE_KEY("$15\r\nLocalSchema:S@1"), CLOSE, ECONNRESET, "closed");
}

Test(redis_load, garbage_and_absurd_lengths_end_the_connection)
{
    static const char *const scripts[] = {
        HELLO "*2147483647\r\n",
        HELLO "*4294967297\r\n",
        HELLO "*99999999999999999999\r\n",
        HELLO "$99999999999\r\n",
        HELLO "$536870913\r\n",
        HELLO "*-2\r\n",
        HELLO "$-2\r\n",
        HELLO "*\r\n",
        HELLO "*2x\r\n",
        HELLO "$ 2\r\n",
        HELLO "*2\n",
        HELLO "\r\n",
        HELLO ":12345678901234567890123\r\n",
        HELLO ":1-2\r\n",
        HELLO "*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        HELLO "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        HELLO "$2\r\nabc\r\n",
        HELLO "$2\r\nab\rx",
        HELLO "%1\r\n",
        HELLO ":1\r\n",
        HELLO "$-1\r\n",
        HELLO "*0\r\n",
        HELLO "*2\r\n$1\r\nx\r\n*0\r\n",
        HELLO "*2\r\n$0\r\n\r\n*0\r\n",
        HELLO "*2\r\n$21\r\n184467440737095516150\r\n*0\r\n",
        HELLO "*2\r\n$1\r\n0\r\n$1\r\n0\r\n",
        HELLO "*2\r\n*0\r\n*0\r\n",
        /* A walk that stands still. */
        HELLO "*2\r\n$1\r\n7\r\n*0\r\n*2\r\n$1\r\n7\r\n*0\r\n",
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(scripts); i++)
        expect_failure(scripts[i], SILENCE, EPROTO, "server");
    expect_failure(HELLO "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", SILENCE, EPROTO, "too deeply");
}

Test(redis_load, a_line_without_end)
{
    static char script[8192];

    (void)strcpy(script, HELLO "+");
    memset(script + strlen(script), 'x', 6000);
    expect_failure(script, SILENCE, EPROTO, "no end");
}

/* A walk that goes round in a circle for ever. */
Test(redis_load, an_endless_list_of_keys_ends)
{
    expect_failure(HELLO, LIST_FOR_EVER, EPROTO, "has no end");
}

/* Whichever bound it meets first: the questions that pile up, or the pages. */
Test(redis_load, answers_before_questions)
{
    expect_failure(HELLO "*2\r\n$1\r\n8\r\n*0\r\n*2\r\n$1\r\n9\r\n*0\r\n", REPEAT, EPROTO,
                   "the server");
}

Test(redis_load, silence_in_the_middle_has_a_deadline)
{
    int64_t start_ms = atd_clock_monotonic_ms();
    int64_t took_ms;

    expect_failure(HELLO "*2\r\n$1\r\n0\r\n*1\r\n$15\r\nLocalSch", SILENCE, ETIMEDOUT,
                   "silent for 10 s");
    took_ms = atd_clock_monotonic_ms() - start_ms;
    cr_assert(took_ms >= 9000 && took_ms < 60000, "%lld ms", (long long)took_ms);
}

/* Servers before 7.0 do not count saves: two in one second, and what came between, look like one.
 */
Test(redis_load, a_save_that_may_hide_a_change_is_looked_at_again)
{
#define COUNTERS "$56\r\nrdb_changes_since_last_save:0\r\nrdb_last_save_time:1234\r\n\r\n$0\r\n\r\n"
    static char script[(size_t)2000 * sizeof(COUNTERS) + 256];
    const char *const scripts[] = {script};
    struct atd_index *index;
    struct atd_error err = ATD_ERROR_INIT;
    int64_t start_ms;

    (void)strcpy(script, "+OK\r\n+OK\r\n" COUNTERS EMPTY_PAGE);
    for (int i = 0; i < 2000; i++)
        memcpy(script + strlen("+OK\r\n+OK\r\n" COUNTERS EMPTY_PAGE) +
                   (size_t)i * (sizeof(COUNTERS) - 1),
               COUNTERS, sizeof(COUNTERS));
    index = start(scripts, 1, SILENCE);
    start_ms = atd_clock_monotonic_ms();
    cr_assert_eq(see(index, &seen, &err), 0, "%s", err.text);
    cr_assert_eq(atd_index_wait(index, 60000), ATD_NEWS_ALL);
    cr_assert_geq(atd_clock_monotonic_ms() - start_ms, 2000);
    cr_assert_eq(atd_index_wait(index, 0), ATD_NEWS_NONE, "once");
    stop(index);
}

/* SIGPIPE would end the program of whoever uses the library. */
Test(redis_load, writing_to_who_has_gone_raises_no_signal)
{
    static const struct atd_redis_url url = {.password = "p"};
    struct atd_redis_link *link = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    unsigned round_trip_us;
    int sockets[2];

    (void)signal(SIGPIPE, SIG_DFL);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    cr_assert_eq(atd_redis_link_over(sockets[0], &link, &err), 0);
    cr_assert_not(atd_redis_link_is_dead(link));
    (void)close(sockets[1]);
    cr_assert(atd_redis_link_is_dead(link));
    cr_assert_eq(atd_redis_login(link, &url, &round_trip_us, &err), -ECONNRESET, "%s", err.text);
    cr_assert(err.retryable);
    atd_redis_link_free(link);
}
