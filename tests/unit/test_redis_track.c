/* Being told of changes by a real server, in each of the ways there are. */
#include <errno.h>
#include <time.h>

#include "base/check.h"
#include "redis_tracked.h"
#include "support/child.h"

TestSuite(redis_track, .init = setup, .fini = teardown, .timeout = 120);

/* ------------------------------------------------------------------ what changes report */

static int see_gone(void *ctx, enum atd_index_kind kind, struct atd_str key, struct atd_error *err)
{
    static const char *const names[] = {"entry", "label", "schema"};

    (void)err;
    (void)snprintf(seen_line(ctx), SEEN_LINE_BYTES, "-%s:%.*s", names[kind], ATD_STR_ARG(key));
    return 0;
}

/* What a sink does when a key is told of. */
static void (*while_reporting)(void);

static int see_gone_and_act(void *ctx, enum atd_index_kind kind, struct atd_str key,
                            struct atd_error *err)
{
    if (while_reporting)
        while_reporting();
    while_reporting = NULL;
    return see_gone(ctx, kind, key, err);
}

static void see_changes(struct atd_index *index)
{
    const struct atd_index_sink sink = {&seen,      see_entry,        see_label,
                                        see_schema, see_gone_and_act, see_problem};
    struct atd_error err = ATD_ERROR_INIT;
    size_t len = 0;

    memset(&seen, 0, sizeof(seen));
    cr_assert_eq(atd_index_changes(index, &sink, &err), 0, "%s", err.text);
    qsort(seen.lines, seen.count, SEEN_LINE_BYTES, seen_compare);
    for (size_t i = 0; i < seen.count && len + SEEN_LINE_BYTES < sizeof(seen.text); i++)
        len += (size_t)snprintf(seen.text + len, sizeof(seen.text) - len, "%s\n", seen.lines[i]);
}

/* Somebody wrote: it is news by itself, and this is what it says. */
static void expect_told(struct atd_index *index, const char *wanted)
{
    cr_assert_eq(atd_index_wait(index, 5000), ATD_NEWS_SOME);
    see_changes(index);
    cr_assert_str_eq(seen.text, wanted);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_NONE);
}

static void expect_everything_is_told(unsigned ways, const char *coherence)
{
    struct atd_index *index;

    start();
    RUN(writer, "CONFIG SET notify-keyspace-events KA");
    index = open_loaded(ways);
    cr_assert_str_eq(atd_index_coherence(index), coherence);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_NONE);
    RUN(writer, "HSET LocalDatasetEntry:c1 name n schema_ref r data_urls %b", "\x90", 1);
    expect_told(index, "-entry:c1\nentry:c1=n,r,1\n");
    RUN(writer, "HSET LocalDatasetEntry:c1 metadata %b", "\x80", 1);
    expect_told(index, "-entry:c1\nentry:c1=n,r,1+m\n");
    RUN(writer, "HDEL LocalDatasetEntry:c1 metadata");
    expect_told(index, "-entry:c1\nentry:c1=n,r,1\n");
    RUN(writer, "HSET Label:a@b@1 name a@b version 1 cid c1");
    expect_told(index, "-label:a@b@1\nlabel:a@b@1=c1\n");
    RUN(writer, "SET LocalSchema:S@1 {}");
    expect_told(index, "-schema:S@1\nschema:S@1={}\n");
    RUN(writer, "RENAME LocalSchema:S@1 LocalSchema:T@2");
    expect_told(index, "-schema:S@1\n-schema:T@2\nschema:T@2={}\n");
    RUN(writer, "MULTI");
    RUN(writer, "DEL Label:a@b@1");
    RUN(writer, "HSET Label:l@ name l version %b cid c1", "", 0);
    RUN(writer, "UNLINK LocalDatasetEntry:c1");
    RUN(writer, "EXEC");
    expect_told(index, "-entry:c1\n-label:a@b@1\n-label:l@\nlabel:l@=c1\n");
    RUN(writer, "SET LocalDatasetEntry:x text");
    expect_told(index, "!entry:x (it is no hash)\n-entry:x\n");
    RUN(writer, "SET LocalSchema:U@1 {} PX 100");
    expect_told(index, "-schema:U@1\nschema:U@1={}\n");
    expect_told(index, "-schema:U@1\n"); /* it expired */
    atd_index_free(index);
}

Test(redis_track, resp2_tells_everything)
{
    expect_everything_is_told(ATD_REDIS_WAYS_ALL, "tracking (RESP2)");
}

Test(redis_track, resp3_tells_everything)
{
    expect_everything_is_told(ATD_REDIS_WAY_RESP3, "tracking (RESP3)");
}

Test(redis_track, notifications_tell_everything)
{
    expect_everything_is_told(ATD_REDIS_WAY_KEYSPACE, "keyspace notifications");
}

/* Other keys, junk that somebody publishes, commands that change nothing. */
Test(redis_track, what_is_no_change_is_no_news)
{
    struct atd_index *index;

    start();
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    RUN(writer, "SET other x");
    RUN(writer, "SET LocalLens:x@1 x");
    RUN(writer, "DEL LocalSchema:none@1");
    RUN(writer, "PUBLISH __redis__:invalidate LocalSchema:x@1");
    RUN(writer, "GET LocalSchema:none@1");
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_NONE);
    cr_assert_eq(atd_index_wait(index, 100), ATD_NEWS_NONE);
    atd_index_free(index);
}

static void expect_upheaval(struct atd_index *index, const char *command)
{
    RUN(writer, command);
    cr_assert_eq(atd_index_wait(index, 10000), ATD_NEWS_ALL, "%s", command);
    cr_assert_eq(see(index, &seen, NULL), 0);
    cr_assert_eq(atd_index_wait(index, 0), ATD_NEWS_NONE, "%s", command);
    RUN(writer, command);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_ALL, "%s", command);
    cr_assert_eq(see(index, &seen, NULL), 0);
}

Test(redis_track, emptied_databases)
{
    static const unsigned ways[] = {ATD_REDIS_WAY_RESP2, ATD_REDIS_WAY_RESP3,
                                    ATD_REDIS_WAY_KEYSPACE};

    start();
    RUN(writer, "CONFIG SET notify-keyspace-events Kg$hxe");
    for (size_t i = 0; i < ATD_ARRAY_LEN(ways); i++) {
        struct atd_index *index = open_loaded(ways[i]);

        expect_upheaval(index, "FLUSHALL");
        expect_upheaval(index, "FLUSHDB");
        /* The one that no tracking tells of; with notifications it is looked for all the time. */
        if (ways[i] == ATD_REDIS_WAY_KEYSPACE)
            expect_upheaval(index, "SWAPDB 0 1");
        atd_index_free(index);
    }
}

Test(redis_track, evicted_keys)
{
    struct atd_index *index;
    bool gone = false;

    start();
    RUN(writer, "SET LocalSchema:S@1 {}");
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    RUN(writer, "CONFIG SET maxmemory-policy volatile-lru");
    RUN(writer, "SET LocalSchema:T@1 {} EX 1000");
    expect_told(index, "-schema:T@1\nschema:T@1={}\n");
    RUN(writer, "CONFIG SET maxmemory 1");
    /* Refused, but not before room was made as far as that goes. */
    freeReplyObject(redisCommand(writer, "SET other x"));
    for (int i = 0; i < 20 && !gone; i++) {
        gone = atd_index_wait(index, 500) == ATD_NEWS_SOME;
        freeReplyObject(redisCommand(writer, "SET other x"));
    }
    see_changes(index);
    cr_assert_str_eq(seen.text, "-schema:T@1\n");
    atd_index_free(index);
}

/* ------------------------------------------------------------------ many, and races */

static void pipeline(const char *fmt, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        cr_assert_eq(redisAppendCommand(writer, fmt, i), REDIS_OK);
    for (unsigned i = 0; i < count; i++) {
        void *reply;

        cr_assert_eq(redisGetReply(writer, &reply), REDIS_OK);
        freeReplyObject(reply);
    }
}

Test(redis_track, three_thousand_keys_at_once)
{
    struct atd_index *index;

    start();
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    pipeline("HSET LocalDatasetEntry:c%u name n schema_ref r data_urls x", 3000);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_SOME);
    see_changes(index);
    cr_assert_eq(seen.entries, 3000);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_NONE);
    pipeline("DEL LocalDatasetEntry:c%u", 3000);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_SOME);
    see_changes(index);
    cr_assert_eq(seen.entries, 0);
    cr_assert_eq(seen.count, 3000);
    atd_index_free(index);
}

/* More than is noted, and in one message more than a reply may have. */
Test(redis_track, more_keys_than_are_noted)
{
    struct atd_index *index;

    start();
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    pipeline("HSET LocalDatasetEntry:c%u name n schema_ref r data_urls x",
             ATD_REDIS_DIRTY_KEYS_MAX + 1);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_ALL);
    cr_assert_eq(see(index, &seen, NULL), 0);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_NONE);
    RUN(writer, "EVAL %s 0",
        "for i=1,140000 do redis.call('HSET', 'LocalDatasetEntry:c'..i, 'name', 'n') end");
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_ALL);
    RUN(writer, "FLUSHALL");
    cr_assert_eq(see(index, &seen, NULL), 0);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_NONE);
    atd_index_free(index);
}

static int write_once(void *ctx, const struct atd_index_schema *schema, struct atd_error *err)
{
    bool *done = ctx;

    (void)schema;
    (void)err;
    if (!*done) {
        RUN(writer, "SET LocalSchema:New@1 {}");
        RUN(writer, "DEL LocalSchema:S@1");
    }
    *done = true;
    return 0;
}

Test(redis_track, what_changes_during_a_load_is_told_afterwards)
{
    struct atd_index *index;
    bool done = false;
    const struct atd_index_sink sink = {&done, NULL, NULL, write_once, NULL, NULL};

    start();
    RUN(writer, "SET LocalSchema:S@1 {}");
    index = open_as("", ATD_REDIS_WAYS_ALL);
    cr_assert_eq(atd_index_load(index, &sink, NULL), 0);
    cr_assert(done);
    expect_told(index, "-schema:New@1\n-schema:S@1\nschema:New@1={}\n");
    atd_index_free(index);
}

static void write_again(void)
{
    RUN(writer, "SET LocalSchema:S@1 again");
}

Test(redis_track, a_key_that_changes_while_it_is_reported_stays_dirty)
{
    struct atd_index *index;

    start();
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    RUN(writer, "SET LocalSchema:S@1 first");
    cr_assert_eq(atd_index_wait(index, 5000), ATD_NEWS_SOME);
    while_reporting = write_again;
    see_changes(index);
    cr_assert_str_eq(seen.text, "-schema:S@1\nschema:S@1=first\n");
    expect_told(index, "-schema:S@1\nschema:S@1=again\n");
    atd_index_free(index);
}

/* An entry takes another's place, and the label follows, a thousand times a second. */
static void publish_all_the_time(void)
{
    redisContext *own = server_connect(&server);

    for (unsigned i = 1;; i++) {
        redisReply *reply = redisCommand(
            own, "EVAL %s 0 %u",
            "redis.call('HSET', 'LocalDatasetEntry:c'..ARGV[1], 'name', 'n', 'schema_ref', 'r', "
            "'data_urls', 'x') redis.call('HSET', 'Label:n@', 'name', 'n', 'version', '', 'cid', "
            "'c'..ARGV[1]) redis.call('DEL', 'LocalDatasetEntry:c'..(ARGV[1]-1))",
            i);

        if (!reply)
            _exit(0);
        freeReplyObject(reply);
        (void)usleep(i % 7 * 100);
    }
}

/* What somebody who follows the changes knows. */
static struct {
    char cids[64][24];
    size_t count;
    char label[24];
} known;

static int know_gone(void *ctx, enum atd_index_kind kind, struct atd_str key, struct atd_error *err)
{
    (void)ctx;
    (void)err;
    for (size_t i = 0; kind == ATD_INDEX_ENTRY && i < known.count; i++) {
        if (atd_str_equal(atd_str_from(known.cids[i]), key))
            memcpy(known.cids[i], known.cids[--known.count], sizeof(known.cids[0]));
    }
    return 0;
}

static int know_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    (void)ctx;
    (void)err;
    cr_assert_lt(known.count, ATD_ARRAY_LEN(known.cids));
    (void)snprintf(known.cids[known.count++], sizeof(known.cids[0]), "%.*s",
                   ATD_STR_ARG(entry->cid));
    return 0;
}

static int know_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    (void)ctx;
    (void)err;
    (void)snprintf(known.label, sizeof(known.label), "%.*s", ATD_STR_ARG(label->cid));
    return 0;
}

static bool label_leads_somewhere(void)
{
    for (size_t i = 0; i < known.count; i++) {
        if (strcmp(known.cids[i], known.label) == 0)
            return true;
    }
    return false;
}

Test(redis_track, what_is_published_together_is_told_together)
{
    const struct atd_index_sink sink = {NULL, know_entry, know_label, NULL, know_gone, see_problem};
    struct atd_index *index;
    pid_t publisher;
    unsigned torn = 0;
    unsigned updates = 0;

    start();
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    publisher = child_fork();
    if (publisher == 0)
        publish_all_the_time();
    for (; updates < 1500; updates++) {
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_index_wait(index, 5000), ATD_NEWS_SOME);
        cr_assert_eq(atd_index_changes(index, &sink, &err), 0, "%s", err.text);
        torn += !label_leads_somewhere();
    }
    child_kill(publisher);
    /* Where it never ends the rounds do. */
    cr_assert_leq(torn, 1, "%u of %u", torn, updates);
    atd_index_free(index);
}

/* ------------------------------------------------------------------ broken links */

Test(redis_track, killed_connections)
{
    struct atd_index *index;

    start();
    RUN(writer, "SET LocalSchema:S@1 {}");
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    /* The one that is read from: nothing was missed. */
    RUN(writer, "CLIENT KILL TYPE normal SKIPME yes");
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_NONE);
    RUN(writer, "SET LocalSchema:T@1 {}");
    expect_told(index, "-schema:T@1\nschema:T@1={}\n");
    /* The one that tells. */
    for (int i = 0; i < 3; i++) {
        RUN(writer, "CLIENT KILL TYPE pubsub");
        RUN(writer, "SET LocalSchema:U@1 %d", i);
        cr_assert_eq(atd_index_wait(index, 5000), ATD_NEWS_ALL);
        cr_assert_eq(see(index, &seen, NULL), 0);
        cr_assert_not_null(strstr(seen.text, "schema:U@1="));
        cr_assert_str_eq(atd_index_coherence(index), "tracking (RESP2)");
    }
    RUN(writer, "CLIENT KILL TYPE pubsub");
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_ALL);
    atd_index_free(index);
}

/* Both, and the server: back within a second. */
Test(redis_track, a_server_that_restarts)
{
    struct atd_index *index;
    int64_t back_ms;

    start();
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    redisFree(writer);
    writer = NULL;
    server_kill(&server);
    for (int i = 0; i < 6; i++) {
        cr_assert_eq(atd_index_wait(index, 5000), ATD_NEWS_ALL);
        cr_assert_neq(see(index, &seen, NULL), 0);
    }
    cr_assert_str_eq(atd_index_coherence(index), "polling");
    server_start(&server);
    back_ms = atd_clock_monotonic_ms();
    writer = server_connect(&server);
    RUN(writer, "SET LocalSchema:S@1 {}");
    do {
        cr_assert_eq(atd_index_wait(index, 5000), ATD_NEWS_ALL);
    } while (see(index, &seen, NULL) != 0);
    cr_assert_str_eq(seen.text, "schema:S@1={}\n");
    cr_assert_lt(atd_clock_monotonic_ms() - back_ms, 1000);
    cr_assert_str_eq(atd_index_coherence(index), "tracking (RESP2)");
    RUN(writer, "SET LocalSchema:T@1 {}");
    expect_told(index, "-schema:T@1\nschema:T@1={}\n");
    atd_index_free(index);
}

/* It keeps its connections and says nothing. */
Test(redis_track, a_server_that_falls_silent)
{
    struct atd_index *index;
    int64_t start_ms;

    start();
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    start_ms = atd_clock_monotonic_ms();
    (void)kill(server.pid, SIGSTOP);
    cr_assert_eq(atd_index_wait(index, 30000), ATD_NEWS_ALL);
    cr_assert_leq(atd_clock_monotonic_ms() - start_ms,
                  ATD_REDIS_HEARTBEAT_MS + ATD_REDIS_DEAD_MS + 1000);
    (void)kill(server.pid, SIGCONT);
    cr_assert_eq(see(index, &seen, NULL), 0);
    /* The same for who asks. */
    (void)kill(server.pid, SIGSTOP);
    start_ms = atd_clock_monotonic_ms();
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_ALL);
    cr_assert_leq(atd_clock_monotonic_ms() - start_ms, ATD_REDIS_DEAD_MS + 1000);
    (void)kill(server.pid, SIGCONT);
    cr_assert_eq(see(index, &seen, NULL), 0);
    RUN(writer, "SET LocalSchema:T@1 {}");
    expect_told(index, "-schema:T@1\nschema:T@1={}\n");
    atd_index_free(index);
}

/* ------------------------------------------------------------------ waiting */

static void wake_later(union sigval index)
{
    atd_index_wake(index.sival_ptr);
}

Test(redis_track, a_wait_is_ended_by_whoever_wakes)
{
    static const unsigned ways[] = {0, ATD_REDIS_WAYS_ALL};

    start();
    for (size_t i = 0; i < ATD_ARRAY_LEN(ways); i++) {
        struct atd_index *index = open_loaded(ways[i]);
        struct sigevent event = {.sigev_notify = SIGEV_THREAD,
                                 .sigev_notify_function = wake_later,
                                 .sigev_value.sival_ptr = index};
        const struct itimerspec soon = {.it_value.tv_nsec = 50000000};
        int64_t start_ms = atd_clock_monotonic_ms();
        timer_t timer;

        cr_assert_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
        cr_assert_eq(timer_settime(timer, 0, &soon, NULL), 0);
        cr_assert_eq(atd_index_wait(index, 60000), ATD_NEWS_NONE);
        cr_assert_lt(atd_clock_monotonic_ms() - start_ms, 10000);
        /* One that came before the wait counts too, once. */
        atd_index_wake(index);
        cr_assert_eq(atd_index_wait(index, 60000), ATD_NEWS_NONE);
        start_ms = atd_clock_monotonic_ms();
        cr_assert_eq(atd_index_wait(index, 50), ATD_NEWS_NONE);
        cr_assert_geq(atd_clock_monotonic_ms() - start_ms, 50);
        (void)timer_delete(timer);
        atd_index_free(index);
    }
}

static long long commands_processed(void)
{
    redisReply *reply = redisCommand(writer, "INFO stats");
    const char *at = strstr(reply->str, "total_commands_processed:");
    long long count = atoll(at + strlen("total_commands_processed:"));

    freeReplyObject(reply);
    return count;
}

Test(redis_track, idle_is_a_heartbeat_now_and_then)
{
    struct atd_index *index;
    long long before;
    long long after;

    start();
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    before = commands_processed();
    cr_assert_eq(atd_index_wait(index, 2 * ATD_REDIS_HEARTBEAT_MS + 500), ATD_NEWS_NONE);
    after = commands_processed();
    /* Two of them, and our own question. */
    cr_assert(after - before >= 2 && after - before <= 3, "%lld", after - before);
    atd_index_free(index);
}

Test(redis_track, polling_answers_who_asks_without_a_rest)
{
    struct atd_index *index;

    start();
    index = open_loaded(0);
    for (int i = 0; i < 20; i++) {
        RUN(writer, "SET LocalSchema:S@1 %d", i);
        cr_assert_eq(atd_index_sync(index), ATD_NEWS_ALL);
        cr_assert_eq(see(index, &seen, NULL), 0);
        cr_assert_eq(atd_index_sync(index), ATD_NEWS_NONE);
    }
    atd_index_free(index);
}
