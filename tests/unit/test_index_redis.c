#include <errno.h>
#include <jansson.h>
#include <sys/stat.h>

#include "atdata/buf.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "catalog/catalog.h"
#include "catalog/live.h"
#include "codec/base64.h"
#include "index/redis.h"
#include "index/redis_track.h"
#include "index_seen.h"
#include "redis_server.h"
#include "support/child.h"

static struct redis_server server;
static struct seen seen;

static void setup(void)
{
    /* A write to a server that has gone must not need this. */
    (void)signal(SIGPIPE, SIG_DFL);
    server_make_dir(&server);
}

static void teardown(void)
{
    server_remove(&server);
}

TestSuite(index_redis, .init = setup, .fini = teardown);

static struct atd_index *open_url(const char *text)
{
    struct atd_redis_url url;
    struct atd_index *index = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_redis_url_parse(text, &url, &err), 0, "%s", err.text);
    cr_assert_eq(atd_index_redis_open(&url, NULL, &index, &err), 0, "%s", err.text);
    return index;
}

static struct atd_index *open_socket(const char *more)
{
    char text[256];

    (void)snprintf(text, sizeof(text), "unix://%s%s", server.socket, more);
    return open_url(text);
}

static void expect(struct atd_index *index, const char *wanted)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(see(index, &seen, &err), 0, "%s", err.text);
    cr_assert_str_eq(seen.text, wanted);
}

static void expect_failure(struct atd_index *index, int code, const char *says)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(see(index, &seen, &err), -code, "%s", err.text);
    cr_assert_not_null(strstr(err.text, says), "%s", err.text);
    cr_assert_null(strstr(err.text, "S3cret"), "%s", err.text);
}

/* ------------------------------------------------------------------ records */

Test(index_redis, records_of_every_kind)
{
    struct atd_index *index;
    redisContext *writer;

    server_start(&server);
    writer = server_connect(&server);
    index = open_socket("");
    cr_assert_str_eq(index->ops->provider, "redis");
    cr_assert(atd_index_changed(index));
    expect(index, "");
    RUN(writer, "HSET LocalDatasetEntry:c1 name n schema_ref r data_urls %b cid c1", "\x90", 1);
    RUN(writer, "HSET LocalDatasetEntry:c2 name %b schema_ref r data_urls %b metadata %b other %b",
        "a\0b", 3, "\x91\xa1u", 3, "\x80", 1, "\xff", 1);
    RUN(writer, "HSET Label:l@ name l version %b cid c1", "", 0);
    RUN(writer, "HSET Label:a@b@1.0 name a@b version 1.0 cid c2 description d created_at t");
    RUN(writer, "SET LocalSchema:S@1.0.0 {}");
    RUN(writer, "SET LocalSchema:m.S@x@2 {}");
    /* Not ours, or none of our business. */
    RUN(writer, "SET LocalLens:x@1 {}");
    RUN(writer, "SET Labels:x x");
    RUN(writer, "SET Local x");
    RUN(writer, "SET xLabel:y@ x");
    RUN(writer, "SELECT 3");
    RUN(writer, "SET LocalSchema:Other@1 []");
    expect(index, "entry:c1=n,r,1\n"
                  "entry:c2=a,r,3+m\n"
                  "label:a@b@1.0=c2,d,t\n"
                  "label:l@=c1\n"
                  "schema:S@1.0.0={}\n"
                  "schema:m.S@x@2={}\n");
    atd_index_free(index);
    index = open_socket("?db=3");
    expect(index, "schema:Other@1=[]\n");
    atd_index_free(index);
    index = open_socket("?db=16");
    expect_failure(index, EINVAL, "no database of that number");
    atd_index_free(index);
    redisFree(writer);
}

Test(index_redis, malformed_keys_cost_themselves_only)
{
    struct atd_index *index;
    redisContext *writer;
    static char big[(4 << 20) + 1];

    server_start(&server);
    writer = server_connect(&server);
    memset(big, ' ', sizeof(big));
    RUN(writer, "HSET LocalDatasetEntry:good name n schema_ref r data_urls %b cid good", "\x90", 1);
    RUN(writer, "HSET LocalDatasetEntry:a-cid name n schema_ref r data_urls x cid other");
    RUN(writer, "HSET LocalDatasetEntry:b-cid name n schema_ref r data_urls x cid %b", "", 0);
    RUN(writer, "HSET LocalDatasetEntry:no-name schema_ref r data_urls x");
    RUN(writer, "HSET LocalDatasetEntry:no-ref name n data_urls x");
    RUN(writer, "HSET LocalDatasetEntry:no-urls name n schema_ref r");
    RUN(writer, "HSET LocalDatasetEntry:name name %b schema_ref r data_urls x", big, 70000);
    RUN(writer, "SET LocalDatasetEntry:string x");
    RUN(writer, "RPUSH LocalDatasetEntry:list x");
    RUN(writer, "HSET %b name n schema_ref r data_urls %b", "LocalDatasetEntry:", 18, "\x90", 1);
    RUN(writer, "HSET %b name n schema_ref r data_urls x", "LocalDatasetEntry:\xff\0:", 21);
    RUN(writer, "HSET Label:other@ name l version 1 cid c");
    RUN(writer, "HSET Label:l@2 name l version 1 cid c");
    RUN(writer, "HSET Label:l2 name l version 2 cid c");
    RUN(writer, "HSET Label:no-cid@ name no-cid version %b", "", 0);
    RUN(writer, "HSET Label:no-name@ cid c version %b", "", 0);
    RUN(writer, "HSET Label:no-version@ cid c name no-version");
    RUN(writer, "SADD Label:set@ x");
    RUN(writer, "SET LocalSchema:bare x");
    RUN(writer, "HSET LocalSchema:hash@1 x y");
    RUN(writer, "SET LocalSchema:big@1 %b", big, sizeof(big));
    index = open_socket("");
    expect(index, "!entry:a-cid (its field 'cid' differs from its key; the key is shown)\n"
                  "!entry:list (it is no hash)\n"
                  "!entry:name (its field 'name' is too large)\n"
                  "!entry:no-name (its field 'name' is missing)\n"
                  "!entry:no-ref (its field 'schema_ref' is missing)\n"
                  "!entry:no-urls (its field 'data_urls' is missing)\n"
                  "!entry:string (it is no hash)\n"
                  "!label:l2 (its fields 'name' and 'version' differ from its key)\n"
                  "!label:l@2 (its fields 'name' and 'version' differ from its key)\n"
                  "!label:no-cid@ (its field 'cid' is missing)\n"
                  "!label:no-name@ (its field 'name' is missing)\n"
                  "!label:no-version@ (its field 'version' is missing)\n"
                  "!label:other@ (its fields 'name' and 'version' differ from its key)\n"
                  "!label:set@ (it is no hash)\n"
                  "!schema:bare (its key has no '@' and version)\n"
                  "!schema:big@1 (its record is too large)\n"
                  "!schema:hash@1 (it is no string)\n"
                  "entry:=n,r,1\n"
                  "entry:a-cid=n,r,1\n"
                  "entry:b-cid=n,r,1\n"
                  "entry:good=n,r,1\n"
                  "entry:\xff=n,r,1\n");
    atd_index_free(index);
    redisFree(writer);
}

/* A hash of more fields, and a key longer, than anything an index holds. */
Test(index_redis, monsters_are_skipped)
{
    static char key[300000];
    struct atd_index *index;
    redisContext *writer;

    server_start(&server);
    writer = server_connect(&server);
    RUN(writer, "EVAL %s 0",
        "for i=1,70000 do redis.call('HSET', 'LocalDatasetEntry:monster', i, 'x') end");
    memset(key, 'k', sizeof(key));
    memcpy(key, "Label:", 6);
    RUN(writer, "SET %b x", key, sizeof(key));
    RUN(writer, "HSET LocalDatasetEntry:good name n schema_ref r data_urls %b", "\x90", 1);
    index = open_socket("");
    cr_assert_eq(see(index, &seen, NULL), 0);
    cr_assert_not_null(strstr(seen.text, "!entry:monster (it is too large to be read)\n"));
    cr_assert_not_null(strstr(seen.text, "(its key is too long)\n"));
    cr_assert_not_null(strstr(seen.text, "entry:good=n,r,1\n"));
    atd_index_free(index);
    redisFree(writer);
}

static void restore_golden(redisContext *writer, const char *tag, size_t *ret_keys)
{
    char path[512];
    json_t *keys;
    const char *key;
    json_t *value;

    (void)snprintf(path, sizeof(path), "%s/golden/%s/redis.json", ATD_TEST_DATA, tag);
    keys = json_load_file(path, 0, NULL);
    cr_assert_not_null(keys, "%s", path);
    *ret_keys = json_object_size(keys);
    json_object_foreach(keys, key, value)
    {
        const char *name;
        json_t *text;
        json_t *fields = json_object_get(value, "fields");

        if (!fields) {
            atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(1 << 20);

            text = json_object_get(value, "value");
            cr_assert(atd_base64_decode(atd_str_from(json_string_value(text)), &bytes));
            RUN(writer, "SET %s %b", key, bytes.ptr, bytes.len);
        }
        json_object_foreach(fields, name, text)
        {
            atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(1 << 20);

            cr_assert(atd_base64_decode(atd_str_from(json_string_value(text)), &bytes));
            RUN(writer, "HSET %s %s %b", key, name, bytes.ptr ? (char *)bytes.ptr : "", bytes.len);
        }
    }
    json_decref(keys);
}

Test(index_redis, what_real_releases_wrote_loads_without_a_problem)
{
    static const char *const tags[] = {"v0.2.3b1", "v0.3.2b3", "v0.5.1b1", "v0.7.0b1"};
    redisContext *writer;

    server_start(&server);
    writer = server_connect(&server);
    for (size_t i = 0; i < ATD_ARRAY_LEN(tags); i++) {
        struct atd_index *index = open_socket("");
        struct atd_catalog *catalog = NULL;
        struct atd_error err = ATD_ERROR_INIT;
        size_t keys;
        size_t lenses = 0;

        RUN(writer, "FLUSHALL");
        restore_golden(writer, tags[i], &keys);
        cr_assert_eq(see(index, &seen, &err), 0, "%s", err.text);
        cr_assert_null(strstr(seen.text, "!"), "%s: %s", tags[i], seen.text);
        cr_assert_not_null(strstr(seen.text, "=training-v1,"), "%s", seen.text);
        cr_assert_not_null(strstr(seen.text, "schema:TrainingSample@1.0.0="), "%s", seen.text);
        {
            redisReply *reply = redisCommand(writer, "KEYS LocalLens:*");

            lenses = reply->elements;
            freeReplyObject(reply);
        }
        cr_assert_eq(seen.count + lenses, keys, "%s: %s", tags[i], seen.text);
        cr_assert_eq(atd_catalog_load(index, 1, &catalog, &err), 0, "%s", err.text);
        cr_assert_eq(atd_catalog_entry_count(catalog), seen.entries);
        cr_assert_eq(atd_catalog_problem_count(catalog), 0);
        atd_catalog_unref(catalog);
        atd_index_free(index);
    }
    redisFree(writer);
}

/* ------------------------------------------------------------------ many */

static void fill(redisContext *writer, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        cr_assert_eq(redisAppendCommand(writer,
                                        "HSET LocalDatasetEntry:bafy%u name n%u schema_ref "
                                        "local://S@1.0.0 data_urls %b cid bafy%u",
                                        i, i, "\x91\xa5s3://", 7, i),
                     REDIS_OK);
        if (i % 1000 == 999 || i + 1 == first + count) {
            for (unsigned k = i - i % 1000 < first ? first : i - i % 1000; k <= i; k++) {
                void *reply;

                cr_assert_eq(redisGetReply(writer, &reply), REDIS_OK);
                freeReplyObject(reply);
            }
        }
    }
}

/* Many pages, sparse and dense: each key exactly once. */
Test(index_redis, every_key_of_many_is_reported)
{
    struct atd_index *index;
    redisContext *writer;

    server_start(&server);
    writer = server_connect(&server);
    RUN(writer, "EVAL %s 0", "for i=1,30000 do redis.call('SET', 'x'..i, 'x') end");
    fill(writer, 0, 12345);
    index = open_socket("");
    cr_assert_eq(see(index, &seen, NULL), 0);
    cr_assert_eq(seen.entries, 12345);
    /* Keys that another client takes away all the time are no error. */
    RUN(writer, "FLUSHALL");
    fill(writer, 0, 5000);
    cr_assert_eq(see(index, &seen, NULL), 0);
    cr_assert_eq(seen.entries, 5000);
    atd_index_free(index);
    redisFree(writer);
}

static void delete_all_the_time(void)
{
    redisContext *writer = server_connect(&server);

    for (;;) {
        for (int i = 0; i < 2000; i++)
            (void)redisAppendCommand(writer,
                                     i % 2 ? "DEL LocalDatasetEntry:v%d"
                                           : "HSET LocalDatasetEntry:v%d name n schema_ref "
                                             "r data_urls x",
                                     i / 2);
        for (int i = 0; i < 2000; i++) {
            void *reply = NULL;

            if (redisGetReply(writer, &reply) != REDIS_OK)
                _exit(0);
            freeReplyObject(reply);
        }
    }
}

Test(index_redis, keys_that_vanish_between_list_and_reading_are_left_out)
{
    struct atd_index *index;
    redisContext *writer;
    pid_t deleter;

    server_start(&server);
    writer = server_connect(&server);
    fill(writer, 0, 3000);
    deleter = child_fork();
    if (deleter == 0)
        delete_all_the_time();
    index = open_socket("");
    for (int i = 0; i < 20; i++) {
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(see(index, &seen, &err), 0, "%s", err.text);
        cr_assert_null(strstr(seen.text, "!"), "%s", strstr(seen.text, "!"));
        cr_assert_geq(seen.entries, 3000);
    }
    child_kill(deleter);
    atd_index_free(index);
    redisFree(writer);
}

/* ------------------------------------------------------------------ change */

/* True when changed() says so within `within_ms`. */
static bool becomes_changed(struct atd_index *index, int64_t within_ms)
{
    int64_t until_ms = atd_clock_monotonic_ms() + within_ms;

    while (atd_clock_monotonic_ms() < until_ms) {
        if (atd_index_changed(index))
            return true;
        (void)usleep(5000);
    }
    return false;
}

static void expect_changes_are_noticed(unsigned ways)
{
    struct atd_index *index;
    redisContext *writer;

    server_start(&server);
    writer = server_connect(&server);
    index = open_socket("");
    atd_index_redis_set_ways(index, ways);
    expect(index, "");
    cr_assert_not(becomes_changed(index, 300));
    RUN(writer, "SET LocalSchema:S@1 {}");
    cr_assert(becomes_changed(index, 5000));
    expect(index, "schema:S@1={}\n");
    cr_assert_not(becomes_changed(index, 300));
    /* The same value again is a change, as far as the server tells. */
    RUN(writer, "SET LocalSchema:S@1 []");
    cr_assert(becomes_changed(index, 5000));
    expect(index, "schema:S@1=[]\n");
    /* A key that expires is no write. */
    RUN(writer, "SET LocalSchema:T@1 {} PX 400");
    cr_assert(becomes_changed(index, 5000));
    expect(index, "schema:S@1=[]\nschema:T@1={}\n");
    cr_assert(becomes_changed(index, 5000));
    expect(index, "schema:S@1=[]\n");
    RUN(writer, "FLUSHALL");
    cr_assert(becomes_changed(index, 5000));
    expect(index, "");
    /* A save sets the counter back: that is not to hide a change. */
    RUN(writer, "SET LocalSchema:U@1 {}");
    RUN(writer, "SAVE");
    cr_assert(becomes_changed(index, 5000));
    expect(index, "schema:U@1={}\n");
    RUN(writer, "SET LocalSchema:U@1 []");
    RUN(writer, "SAVE");
    cr_assert(becomes_changed(index, 5000));
    expect(index, "schema:U@1=[]\n");
    atd_index_free(index);
    redisFree(writer);
}

Test(index_redis, change_is_noticed_and_quiet_is_quiet)
{
    expect_changes_are_noticed(ATD_REDIS_WAYS_ALL);
}

Test(index_redis, polling_notices_the_same)
{
    expect_changes_are_noticed(0);
}

/* A busy server is not kept busy by us: after a load comes a rest of several times its length. */
Test(index_redis, loads_of_a_large_index_keep_their_distance)
{
    struct atd_index *index;
    redisContext *writer;
    int64_t start_ms;
    int64_t loaded_ms;
    int64_t changed_ms;

    server_start(&server);
    writer = server_connect(&server);
    fill(writer, 0, 20000);
    index = open_socket("");
    atd_index_redis_set_ways(index, 0);
    start_ms = atd_clock_monotonic_ms();
    cr_assert_eq(see(index, &seen, NULL), 0);
    loaded_ms = atd_clock_monotonic_ms();
    RUN(writer, "SET other x");
    cr_assert_eq(atd_index_wait(index, 60000), ATD_NEWS_ALL);
    changed_ms = atd_clock_monotonic_ms();
    /* Three times; the sink's own time is in what is measured here, so less is asked. */
    cr_assert_geq(changed_ms - loaded_ms, loaded_ms - start_ms);
    atd_index_free(index);
    redisFree(writer);
}

Test(index_redis, a_server_that_dies_and_comes_back)
{
    struct atd_index *index;
    redisContext *writer;

    server_start(&server);
    writer = server_connect(&server);
    RUN(writer, "SET LocalSchema:S@1 {}");
    index = open_socket("");
    expect(index, "schema:S@1={}\n");
    server_kill(&server);
    redisFree(writer);
    cr_assert(becomes_changed(index, 5000));
    expect_failure(index, ECONNREFUSED, "no server answers there");
    cr_assert_eq(atd_index_wait(index, 0), ATD_NEWS_NONE, "no pause between attempts");
    cr_assert_eq(atd_index_wait(index, 5000), ATD_NEWS_ALL);
    expect_failure(index, ECONNREFUSED, "connection refused");
    server_start(&server);
    cr_assert(becomes_changed(index, 5000));
    expect(index, "");
    cr_assert_not(becomes_changed(index, 300));
    /* The connection that tells is cut: what happened meanwhile is unknown. */
    writer = server_connect(&server);
    RUN(writer, "CLIENT KILL TYPE pubsub");
    cr_assert(becomes_changed(index, 5000));
    expect(index, "");
    (void)unlink(server.socket);
    server_kill(&server);
    cr_assert(becomes_changed(index, 5000));
    (void)unlink(server.socket);
    expect_failure(index, ENOENT, "no such socket");
    atd_index_free(index);
    redisFree(writer);
}

static bool wait_for_status(struct atd_live *live, bool stale, uint64_t newer_than)
{
    int64_t until_ms = atd_clock_monotonic_ms() + 15000;
    struct atd_live_status status;

    while (atd_clock_monotonic_ms() < until_ms) {
        atd_live_status(live, &status);
        if (status.stale == stale && atd_live_generation(live) > newer_than)
            return true;
        (void)usleep(10000);
    }
    return false;
}

/* DESIGN: down is "stale" with a sentence, up again is a new generation, without anybody's help. */
Test(index_redis, a_living_view_over_a_restart)
{
    struct atd_live_watcher watcher = {0};
    struct atd_live_status status;
    struct atd_live *live = NULL;
    struct atd_file_store *store = NULL;
    struct atd_locator *locator = NULL;
    struct atd_index *index;
    redisContext *writer;
    uint64_t generation;

    server_start(&server);
    index = open_socket("");
    cr_assert_eq(atd_file_store_new(NULL, 0, &store, NULL), 0);
    cr_assert_eq(atd_locator_new(&(struct atd_locator_options){.files = store}, &locator, NULL), 0);
    cr_assert_eq(
        atd_live_open(&(struct atd_live_options){.index = index, .locator = locator}, &live, NULL),
        0);
    cr_assert_eq(atd_live_start(live, &watcher, NULL), 0);
    server_kill(&server);
    cr_assert(wait_for_status(live, true, 0));
    /* The first look may find a connection that was taken just before the end. */
    for (int64_t until_ms = atd_clock_monotonic_ms() + 15000;;) {
        atd_live_status(live, &status);
        if (strstr(status.error, "no server answers there"))
            break;
        cr_assert_lt(atd_clock_monotonic_ms(), until_ms, "%s", status.error);
        (void)usleep(10000);
    }
    cr_assert_not_null(strstr(status.error, "unix:///"), "%s", status.error);
    generation = atd_live_generation(live);
    server_start(&server);
    cr_assert(wait_for_status(live, false, generation));
    generation = atd_live_generation(live);
    writer = server_connect(&server);
    RUN(writer, "SET LocalSchema:S@1 {}");
    cr_assert(wait_for_status(live, false, generation));
    redisFree(writer);
    cr_assert(atd_live_close(live));
    atd_index_free(index);
    cr_assert(atd_locator_free(locator));
    atd_file_store_free(store);
}
