/* By which ways a change is made, and what it leaves on the server. */
#include <criterion/criterion.h>
#include <errno.h>

#include "redis_writing.h"
#include "support/child.h"

TestSuite(redis_writer, .init = setup, .fini = teardown, .timeout = 120);

static void start_cluster(void)
{
    static char port[16];
    static const char *options[] = {"--cluster-enabled", "yes", "--port", port, NULL};
    int64_t until_ms = atd_clock_monotonic_ms() + 20000;
    bool up = false;

    /* The bus has a port 10,000 higher. */
    do
        (void)snprintf(port, sizeof(port), "%u", free_port());
    while (atoi(port) > 55000);
    memcpy(server.options, options, sizeof(options));
    start();
    RUN(direct, "CLUSTER ADDSLOTSRANGE 0 16383");
    while (!up) {
        redisReply *reply = redisCommand(direct, "CLUSTER INFO");

        up = strstr(reply->str, "cluster_state:ok") != NULL;
        freeReplyObject(reply);
        cr_assert_lt(atd_clock_monotonic_ms(), until_ms);
        (void)usleep(10000);
    }
}

static void run_suites(void)
{
    suite_every_action(writer, reader);
    suite_reads(writer);
    RUN(direct, "FLUSHALL");
    suite_every_expectation(writer, reader);
    RUN(direct, "FLUSHALL");
    suite_refuses_what_is_no_text(writer, reader);
    RUN(direct, "FLUSHALL");
}

/* Which commands made the change, by the server's own count. */
static bool was_called(const char *command)
{
    char line[64];

    (void)snprintf(line, sizeof(line), "cmdstat_%s:", command);
    return strstr(ask("INFO commandstats"), line) != NULL;
}

/* ------------------------------------------------------------------ the ways to commit */

Test(redis_writer, by_a_script)
{
    start();
    run_suites();
    cr_assert(was_called("evalsha"));
    cr_assert_not(was_called("multi"));
}

Test(redis_writer, by_a_script_with_the_rights_that_are_documented)
{
    start();
    RUN(direct, ACL_BEFORE ACL_SCRIPTS);
    open_writer("atd:p@", server.socket);
    run_suites();
    cr_assert_eq(atd_index_writer_check(writer, NULL), 0);
    cr_assert_not(was_called("multi"));
}

Test(redis_writer, by_watching_where_scripts_are_not_allowed)
{
    start();
    RUN(direct, ACL_BEFORE);
    open_writer("atd:p@", server.socket);
    run_suites();
    cr_assert(was_called("multi"));
    cr_assert_eq(atd_index_writer_check(writer, NULL), 0);
}

Test(redis_writer, by_watching_where_a_scripts_commands_are_not_allowed)
{
    start();
    /* The script itself may run; TYPE, which it begins with, may not. */
    RUN(direct, "ACL SETUSER atd on >p ~* +@all -type -rename");
    open_writer("atd:p@", server.socket);
    {
        const struct atd_index_operation one = an_entry();

        expect_error(writer, &one, 1, EACCES, "+watch");
    }
    cr_assert_str_eq(ask("DBSIZE"), "0");
}

Test(redis_writer, by_steps_on_a_cluster)
{
    start_cluster();
    run_suites();
}

Test(redis_writer, by_steps_on_a_cluster_without_scripts)
{
    start_cluster();
    RUN(direct, ACL_BEFORE);
    open_writer("atd:p@", server.socket);
    run_suites();
}

/* A key that another node holds. */
Test(redis_writer, a_cluster_of_several_nodes_is_told)
{
    const struct atd_index_operation one = an_entry();

    start_cluster();
    RUN(direct, "CLUSTER DELSLOTS %s", ask("CLUSTER KEYSLOT LocalDatasetEntry:c"));
    {
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_index_commit(writer, &one, 1, NULL, &err), -EAGAIN, "%s", err.text);
        cr_assert(err.retryable);
    }
}

/* ------------------------------------------------------------------ what is written */

Test(redis_writer, writes_what_the_library_writes)
{
    const struct atd_index_operation all[] = {
        put(ATD_INDEX_PUT_ENTRY, entry("c", "n", "u", "m")),
        put(ATD_INDEX_PUT_LABEL, label("n", "", "c", "d", "2026-11-24T00:00:00+00:00")),
        put(ATD_INDEX_PUT_SCHEMA, schema("S", "1.0.0", "{}")),
    };
    struct atd_index_operation one = an_entry();

    start();
    expect_done(writer, all, 3);
    cr_assert_str_eq(ask("HGETALL LocalDatasetEntry:c"),
                     "name n schema_ref ref data_urls u cid c metadata m ");
    cr_assert_str_eq(ask("HGETALL Label:n@"), "cid c name n version  description d created_at "
                                              "2026-11-24T00:00:00+00:00 ");
    cr_assert_str_eq(ask("GET LocalSchema:S@1.0.0"), "{}");
    cr_assert_str_eq(ask("DBSIZE"), "3");
    /* What we do not know stays, but where the whole is put. */
    RUN(direct, "HSET LocalDatasetEntry:c legacy_uuid x more y");
    RUN(direct, "HSET Label:n@ more y");
    one = operation(ATD_INDEX_SET_ENTRY_NAME, ATD_INDEX_SAME, all[0].after,
                    entry("c", "m", NULL, NULL));
    expect_done(writer, &one, 1);
    one = operation(ATD_INDEX_SET_ENTRY_METADATA, ATD_INDEX_ANY, all[0].after,
                    entry("c", "", NULL, NULL));
    expect_done(writer, &one, 1);
    cr_assert_str_eq(ask("HGETALL LocalDatasetEntry:c"),
                     "name m schema_ref ref data_urls u cid c legacy_uuid x more y ");
    expect_done(writer, &all[1], 1);
    cr_assert_str_eq(ask("HGET Label:n@ more"), "y");
    expect_done(writer, &all[0], 1);
    cr_assert_str_eq(ask("HGETALL LocalDatasetEntry:c"),
                     "name n schema_ref ref data_urls u cid c metadata m ");
    /* Any bytes but those that are no text. */
    one = an_entry();
    one.after.entry.name = ATD_STR("a\0b\r\n$3\r\nDEL");
    expect_done(writer, &one, 1);
    cr_assert_str_eq(ask("HSTRLEN LocalDatasetEntry:c name"), "12");
}

static void expect_other_types_are_conflicts(void)
{
    struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_index_operation one = an_entry();
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_index_entry found;

    RUN(direct, "SET LocalDatasetEntry:c x");
    RUN(direct, "RPUSH Label:n@ x");
    RUN(direct, "HSET LocalSchema:S@1 a b");
    for (int expect = ATD_INDEX_ABSENT; expect <= ATD_INDEX_SAME; expect++) {
        one.expect = (enum atd_index_expect)expect;
        expect_conflict(writer, reader, &one, 1, 0);
    }
    one = operation(ATD_INDEX_SET_ENTRY_NAME, ATD_INDEX_ANY, one.before, one.after);
    expect_conflict(writer, reader, &one, 1, 0);
    one.action = ATD_INDEX_SET_ENTRY_METADATA;
    expect_conflict(writer, reader, &one, 1, 0);
    suite_refuses(writer, reader, ATD_INDEX_LABEL, ATD_INDEX_SAME, label("n", "", "x", NULL, NULL));
    suite_refuses(writer, reader, ATD_INDEX_SCHEMA, ATD_INDEX_SAME, schema("S", "1", "b"));
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "it is no hash"), "%s", err.text);
    /* Putting a whole record mends them. */
    expect_done(writer,
                (struct atd_index_operation[]){
                    an_entry(), put(ATD_INDEX_PUT_LABEL, label("n", "", "c", NULL, NULL)),
                    put(ATD_INDEX_PUT_SCHEMA, schema("S", "1", "{}"))},
                3);
    cr_assert_str_eq(contents(reader), "entry:c=n,ref,1\nlabel:n@=c\nschema:S@1={}\n");
    RUN(direct, "HDEL LocalDatasetEntry:c name");
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "'name' is missing"), "%s", err.text);
    atd_arena_release(&arena);
    RUN(direct, "FLUSHALL");
}

static void expect_large_and_many(void)
{
    struct atd_index_operation one = an_entry();
    struct atd_arena arena = ATD_ARENA_INIT(64u << 20);
    struct atd_index_entry found;
    size_t len = 9u << 20;
    char *urls = malloc(len);

    for (size_t i = 0; i < len; i++)
        urls[i] = (char)(i * 2654435761u >> 13);
    one.after.entry.data_urls = (struct atd_bytes){(const uint8_t *)urls, len};
    expect_done(writer, &one, 1);
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, NULL), 0);
    cr_assert(found.data_urls.len == len && memcmp(found.data_urls.ptr, urls, len) == 0);
    suite_holds(writer, ATD_INDEX_ENTRY, ATD_INDEX_SAME, one.after);
    urls[len - 1]++;
    suite_refuses(writer, reader, ATD_INDEX_ENTRY, ATD_INDEX_SAME, one.after);
    atd_arena_release(&arena);
    free(urls);
    /* Lua's unpack() takes some 8000. */
    RUN(direct, "EVAL %s 1 LocalDatasetEntry:c",
        "for i=1,20000 do redis.call('HSET', KEYS[1], 'f'..i, i) end "
        "redis.call('HSET', KEYS[1], 'metadata', 'm')");
    one = operation(ATD_INDEX_SET_ENTRY_METADATA, ATD_INDEX_ANY, an_entry().before,
                    an_entry().before);
    expect_done(writer, &one, 1);
    cr_assert_str_eq(ask("HLEN LocalDatasetEntry:c"), "20004");
    cr_assert_str_eq(ask("HGET LocalDatasetEntry:c f19999"), "19999");
    RUN(direct, "FLUSHALL");
}

Test(redis_writer, other_types_and_large_ones_by_a_script)
{
    start();
    expect_other_types_are_conflicts();
    expect_large_and_many();
}

Test(redis_writer, other_types_and_large_ones_by_watching)
{
    start();
    RUN(direct, ACL_BEFORE);
    open_writer("atd:p@", server.socket);
    expect_other_types_are_conflicts();
    expect_large_and_many();
}

/* ------------------------------------------------------------------ several at once */

static void expect_nothing_lost(const char *secrets, unsigned commits)
{
    pid_t children[SUITE_PROCESSES];
    char wanted[64];

    for (size_t i = 0; i < SUITE_PROCESSES; i++) {
        children[i] = child_fork();
        if (children[i] == 0) {
            const struct atd_redis_url url = url_of(secrets, server.socket);
            struct atd_index_writer *own = NULL;

            if (atd_index_redis_writer(&url, NULL, &own, NULL) != 0)
                _exit(1);
            _exit(suite_count_up(own, commits));
        }
    }
    for (size_t i = 0; i < SUITE_PROCESSES; i++)
        cr_assert_eq(child_join(children[i]), 0);
    (void)snprintf(wanted, sizeof(wanted), "label:counter@=%u\n", SUITE_PROCESSES * commits);
    cr_assert_str_eq(contents(reader), wanted);
    RUN(direct, "FLUSHALL");
}

Test(redis_writer, nobodys_work_is_lost_when_many_write)
{
    start();
    RUN(direct, ACL_BEFORE);
    expect_nothing_lost("", 200);
    expect_nothing_lost("atd:p@", 100);
}
