#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "index/redis.h"
#include "index/redis_commit.h"
#include "redis_server.h"
#include "writer_suite.h"

/* S3-REDIS 6.4: what the documentation tells a server's owner to allow. */
#define ACL_BEFORE                                                                           \
    "ACL SETUSER atd on >p resetkeys resetchannels -@all ~LocalDatasetEntry:* "              \
    "~LocalSchema:* ~LocalLens:* ~Label:* &__redis__:invalidate +ping +select +client|id "   \
    "+client|tracking +client|trackinginfo +client|setname +subscribe +scan +type +hgetall " \
    "+hget +hlen +hset +get +set +del +unlink +watch +unwatch +multi +exec +discard"
#define ACL_SCRIPTS " +eval +evalsha +script|load +script|exists"

static struct redis_server server;
static redisContext *direct;
static struct atd_index_writer *writer;
static struct atd_index *reader;

static void setup(void)
{
    (void)signal(SIGPIPE, SIG_DFL);
    server_make_dir(&server);
}

static void teardown(void)
{
    if (direct)
        redisFree(direct);
    atd_index_writer_free(writer);
    atd_index_free(reader);
    server_remove(&server);
}

TestSuite(redis_writer, .init = setup, .fini = teardown, .timeout = 120);

static struct atd_redis_url url_of(const char *secrets, const char *socket)
{
    struct atd_redis_url url;
    struct atd_error err = ATD_ERROR_INIT;
    char text[256];

    (void)snprintf(text, sizeof(text), "unix://%s%s", secrets, socket);
    cr_assert_eq(atd_redis_url_parse(text, &url, &err), 0, "%s", err.text);
    return url;
}

static void open_writer(const char *secrets, const char *socket)
{
    const struct atd_redis_url url = url_of(secrets, socket);

    atd_index_writer_free(writer);
    cr_assert_eq(atd_index_redis_writer(&url, NULL, &writer, NULL), 0);
}

static void start(void)
{
    const struct atd_redis_url url = url_of("", server.socket);

    server_start(&server);
    direct = server_connect(&server);
    cr_assert_eq(atd_index_redis_open(&url, NULL, &reader, NULL), 0);
    open_writer("", server.socket);
}

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

/* A command's reply as text: elements parted by blanks. */
static const char *ask(const char *fmt, ...)
{
    static char text[4096];
    va_list args;
    redisReply *reply;
    size_t len = 0;

    va_start(args, fmt);
    reply = redisvCommand(direct, fmt, args);
    va_end(args);
    cr_assert_not_null(reply, "%s", direct->errstr);
    text[0] = '\0';
    if (reply->type == REDIS_REPLY_INTEGER)
        (void)snprintf(text, sizeof(text), "%lld", reply->integer);
    else if (reply->str)
        (void)snprintf(text, sizeof(text), "%s", reply->str);
    for (size_t i = 0; i < reply->elements && len < sizeof(text); i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s ", reply->element[i]->str);
    freeReplyObject(reply);
    return text;
}

static struct atd_index_operation an_entry(void)
{
    return put(ATD_INDEX_PUT_ENTRY, entry("c", "n", "u", NULL));
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

/* ------------------------------------------------------------------ links and servers */

Test(redis_writer, a_link_that_broke_is_made_again)
{
    const struct atd_index_operation one = an_entry();
    struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_index_entry found;
    struct atd_error err = ATD_ERROR_INIT;

    start();
    expect_done(writer, &one, 1);
    RUN(direct, "CLIENT KILL TYPE normal SKIPME yes");
    expect_done(writer, &one, 1);
    RUN(direct, "SCRIPT FLUSH");
    expect_done(writer, &one, 1);
    RUN(direct, "CLIENT KILL TYPE normal SKIPME yes");
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, &err), 0, "%s",
                 err.text);
    atd_arena_release(&arena);
    redisFree(direct);
    direct = NULL;
    server_kill(&server);
    cr_assert_eq(atd_index_commit(writer, &one, 1, NULL, &err), -ECONNREFUSED, "%s", err.text);
    cr_assert(err.retryable);
    cr_assert_eq(atd_index_writer_check(writer, &err), -ECONNREFUSED);
    /* No socket is no missing record. */
    cr_assert_eq(unlink(server.socket), 0);
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, &err), -ECONNREFUSED);
    cr_assert_eq(err.code, ECONNREFUSED);
    server_start(&server);
    cr_assert_eq(atd_index_writer_check(writer, NULL), 0);
    expect_done(writer, &one, 1);
}

enum mischief {
    LOSE_ANSWERS, /* to changes */
    CUT_FIRST,    /* change, before it has come whole */
};

/* Passes on what goes between one client and the server, until one of them ends it. */
static void pass_on(int client, int upstream, enum mischief mischief, bool *ret_cut)
{
    static char bytes[65536];
    struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = upstream, .events = POLLIN}};
    bool is_change = false;

    for (;;) {
        ssize_t got;

        (void)poll(fds, 2, -1);
        for (int from = 0; from < 2; from++) {
            if (!fds[from].revents)
                continue;
            got = read(fds[from].fd, bytes, sizeof(bytes));
            if (got <= 0)
                return;
            is_change = is_change || (from == 0 && memmem(bytes, (size_t)got, "EVALSHA", 7));
            if (is_change && mischief == CUT_FIRST && !*ret_cut) {
                *ret_cut = true;
                return;
            }
            if (from == 1 && is_change && mischief == LOSE_ANSWERS)
                return;
            for (ssize_t sent = 0; sent < got;) {
                ssize_t step = write(fds[1 - from].fd, bytes + sent, (size_t)(got - sent));

                if (step <= 0)
                    return;
                sent += step;
            }
        }
    }
}

static pid_t start_proxy(const char *path, enum mischief mischief)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    bool has_cut = false;
    pid_t proxy;

    (void)strcpy(address.sun_path, path);
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(listener, 8), 0);
    proxy = fork();
    if (proxy != 0) {
        (void)close(listener);
        return proxy;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)strcpy(address.sun_path, server.socket);
    for (;;) {
        int client = accept(listener, NULL, NULL);
        int upstream = socket(AF_UNIX, SOCK_STREAM, 0);

        if (client < 0 || connect(upstream, (struct sockaddr *)&address, sizeof(address)))
            _exit(1);
        pass_on(client, upstream, mischief, &has_cut);
        (void)close(client);
        (void)close(upstream);
    }
}

static void stop_proxy(pid_t proxy)
{
    (void)kill(proxy, SIGKILL);
    (void)waitpid(proxy, NULL, 0);
}

Test(redis_writer, a_lost_answer_is_no_failure_and_no_success)
{
    const struct atd_index_operation one = an_entry();
    struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_index_entry found;
    char path[128];
    pid_t proxy;

    start();
    expect_done(writer, &one, 1); /* the script is there from now on */
    RUN(direct, "DEL LocalDatasetEntry:c");
    (void)snprintf(path, sizeof(path), "%s/proxy", server.dir);
    proxy = start_proxy(path, LOSE_ANSWERS);
    open_writer("", path);
    err = (struct atd_error)ATD_ERROR_INIT;
    cr_assert_eq(atd_index_commit(writer, &one, 1, NULL, &err), -EREMOTEIO, "%s", err.text);
    cr_assert_not(err.retryable);
    cr_assert_not_null(strstr(err.text, "not known"), "%s", err.text);
    /* Who reads finds out, by the same writer. */
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, &err), 0, "%s",
                 err.text);
    atd_arena_release(&arena);
    stop_proxy(proxy);
}

/* A change that went out in part is made on another link, unless that one breaks too. */
Test(redis_writer, a_link_that_breaks_under_a_change_is_made_again)
{
    struct atd_index_operation one = an_entry();
    size_t len = 4u << 20;
    char *urls = calloc(1, len);
    char path[128];
    pid_t proxy;

    start();
    one.after.entry.data_urls = (struct atd_bytes){(const uint8_t *)urls, len};
    (void)snprintf(path, sizeof(path), "%s/proxy", server.dir);
    proxy = start_proxy(path, CUT_FIRST);
    open_writer("", path);
    cr_assert_eq(atd_index_writer_check(writer, NULL), 0);
    expect_done(writer, &one, 1);
    cr_assert_str_eq(ask("HSTRLEN LocalDatasetEntry:c data_urls"), "4194304");
    stop_proxy(proxy);
    free(urls);
}

Test(redis_writer, a_replica_is_not_written)
{
    const struct atd_index_operation one = an_entry();

    server.options[0] = "--replicaof";
    server.options[1] = "127.0.0.1 1";
    start();
    RUN(direct, ACL_BEFORE);
    expect_error(writer, &one, 1, EROFS, "use the master");
    cr_assert_eq(atd_index_writer_check(writer, NULL), -EROFS);
    open_writer("atd:p@", server.socket);
    expect_error(writer, &one, 1, EROFS, "use the master");
    cr_assert_eq(atd_index_writer_check(writer, NULL), -EROFS);
}

Test(redis_writer, a_server_without_memory_is_not_written_by_halves)
{
    const struct atd_index_operation two[] = {
        put(ATD_INDEX_PUT_LABEL, label("n", "", "c", NULL, NULL)),
        put(ATD_INDEX_PUT_ENTRY, entry("c", "m", "u", "m")),
    };

    start();
    RUN(direct, ACL_BEFORE);
    expect_done(writer, (struct atd_index_operation[]){an_entry()}, 1);
    RUN(direct, "CONFIG SET maxmemory 1");
    expect_error(writer, two, 2, ENOSPC, "maxmemory");
    open_writer("atd:p@", server.socket);
    expect_error(writer, two, 2, ENOSPC, "maxmemory");
    cr_assert_str_eq(contents(reader), "entry:c=n,ref,1\n");
    RUN(direct, "CONFIG SET maxmemory 0");
    expect_done(writer, two, 2);
}

Test(redis_writer, a_server_that_cannot_save_is_told)
{
    const struct atd_index_operation one = an_entry();
    int64_t until_ms = atd_clock_monotonic_ms() + 20000;
    char name[96];

    start();
    (void)snprintf(name, sizeof(name), "%s/dump.rdb", server.dir);
    cr_assert_eq(mkdir(name, 0755), 0);
    RUN(direct, "CONFIG SET save %s", "3600 1");
    RUN(direct, "BGSAVE");
    while (!strstr(ask("INFO persistence"), "rdb_last_bgsave_status:err")) {
        cr_assert_lt(atd_clock_monotonic_ms(), until_ms);
        (void)usleep(10000);
    }
    expect_error(writer, &one, 1, EIO, "cannot save");
    cr_assert_eq(atd_index_writer_check(writer, NULL), -EIO);
}

Test(redis_writer, a_missing_right_is_told_and_changes_nothing)
{
    const struct atd_index_operation two[] = {
        put(ATD_INDEX_PUT_LABEL, label("n", "", "c", NULL, NULL)),
        put(ATD_INDEX_PUT_ENTRY, entry("c", "n", "u", NULL)),
    };

    start();
    RUN(direct, "ACL SETUSER ro on >p ~* -@all +select +client +scan +type +hgetall +hget +get");
    RUN(direct, "ACL SETUSER delless on >p ~* +@all -del");
    RUN(direct, "ACL SETUSER blind on >p ~Label:* +@all");
    open_writer("ro:p@", server.socket);
    expect_error(writer, two, 2, EACCES, "+evalsha");
    open_writer("delless:p@", server.socket);
    expect_error(writer, two, 2, EACCES, "+del");
    open_writer("blind:p@", server.socket);
    expect_error(writer, two, 2, EACCES, "~LocalDatasetEntry:*");
    cr_assert_str_eq(ask("DBSIZE"), "0");
}

/* ------------------------------------------------------------------ hostile servers */

/* What comes of a change when the server says this, and then no more. */
static int commit_against(const char *says, bool ends, struct atd_error *ret_err)
{
    const struct atd_index_operation one = an_entry();
    struct atd_redis_link *link = NULL;
    size_t which = 0;
    int sockets[2];
    int rc;

    *ret_err = (struct atd_error)ATD_ERROR_INIT;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    cr_assert_eq(atd_redis_link_over(sockets[0], &link, ret_err), 0);
    atd_redis_link_set_deadline(link, atd_clock_monotonic_ms() + 300);
    cr_assert_eq(write(sockets[1], says, strlen(says)), (ssize_t)strlen(says));
    if (ends)
        cr_assert_eq(shutdown(sockets[1], SHUT_WR), 0);
    rc = atd_redis_commit(link, &one, 1, &which, ret_err);
    atd_redis_link_free(link);
    (void)close(sockets[1]);
    cr_assert_eq(ret_err->code, -rc);
    return rc;
}

Test(redis_writer, whatever_a_server_answers)
{
    static const struct {
        const char *says;
        int code;
    } cases[] = {
        {":0\r\n", 0},
        {":1\r\n", ESTALE},
        {":2\r\n", EREMOTEIO},
        {":-1\r\n", EREMOTEIO},
        {":9223372036854775807\r\n", EREMOTEIO},
        {"+OK\r\n", EREMOTEIO},
        {"$-1\r\n", EREMOTEIO},
        {"*0\r\n", EREMOTEIO},
        {"$2\r\nOK\r\n", EREMOTEIO},
        {"HTTP/1.1 400 Bad Request\r\n", EREMOTEIO},
        {"$999999999999\r\n", EREMOTEIO},
        {"*2\r\n:0\r\n", EREMOTEIO},
        {"", EREMOTEIO},
        {"-ERR what\r\n", EIO},
        {"-NOSCRIPT no\r\n:0\r\n", 0},
        {"-NOSCRIPT no\r\n-NOSCRIPT no\r\n", EIO},
        {"-NOSCRIPT no\r\n", EREMOTEIO},
        {"-MOVED 1 127.0.0.1:1\r\n", ENOTSUP},
        {"-BUSY script\r\n", EAGAIN},
        {"-READONLY x\r\n", EROFS},
        {"-ERR Error running script (call to f_1): @user_script:9: -READONLY You can't\r\n", EROFS},
        {"-ERR Error running script (call to f_1): @user_script:9: -OOM command not\r\n", ENOSPC},
        {"-CROSSSLOT x\r\n:0\r\n:0\r\n", 0},
        {"-CROSSSLOT x\r\n-CROSSSLOT x\r\n", EPROTO},
        {"-CROSSSLOT x\r\n:0\r\n-OOM x\r\n", ENOSPC},
        {"-CROSSSLOT x\r\n:1\r\n", ESTALE},
        /* Watching: WATCH, TYPE; MULTI, DEL, HSET, EXEC. */
        {"-NOPERM eval\r\n+OK\r\n+none\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:0\r\n:4\r\n", 0},
        {"-NOPERM eval\r\n-NOPERM watch\r\n+none\r\n", EACCES},
        {"-NOPERM eval\r\n:1\r\n+none\r\n", EPROTO},
        {"-NOPERM eval\r\n+OK\r\n*0\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*0\r\n", ESTALE},
        {"-NOPERM eval\r\n+OK\r\n+none\r\n+OK\r\n+QUEUED\r\n-OOM x\r\n-EXECABORT x\r\n", ENOSPC},
        {"-NOPERM eval\r\n+OK\r\n+none\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n-EXECABORT x\r\n", EIO},
        {"-NOPERM eval\r\n+OK\r\n+none\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n:1\r\n", EREMOTEIO},
        {"-NOPERM eval\r\n+OK\r\n+none\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*1\r\n-ERR x\r\n", EIO},
        {"-NOPERM eval\r\n+OK\r\n+none\r\n+OK\r\n+QUEUED\r\n", EREMOTEIO},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_error err;
        int rc = commit_against(cases[i].says, true, &err);

        cr_assert_eq(rc, -cases[i].code, "%s: %d %s", cases[i].says, rc, err.text);
    }
    {
        struct atd_error err;

        /* Silence, and half an answer. */
        cr_assert_eq(commit_against("", false, &err), -EREMOTEIO, "%s", err.text);
        cr_assert_eq(commit_against("*2\r\n:0\r\n", false, &err), -EREMOTEIO, "%s", err.text);
    }
}

static void *read_some_and_leave(void *ctx)
{
    static char bytes[100000];
    int *fd = ctx;

    cr_assert_gt(read(*fd, bytes, sizeof(bytes)), 0);
    (void)close(*fd);
    return NULL;
}

/* Half a command cannot have been carried out, and the caller may simply try again. */
Test(redis_writer, what_did_not_go_out_was_not_done)
{
    struct atd_index_operation one = an_entry();
    struct atd_redis_link *link = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    size_t len = 4u << 20;
    char *urls = calloc(1, len);
    pthread_t thread;
    size_t which;
    int sockets[2];

    one.after.entry.data_urls = (struct atd_bytes){(const uint8_t *)urls, len};
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    cr_assert_eq(atd_redis_link_over(sockets[0], &link, &err), 0);
    atd_redis_link_set_deadline(link, atd_clock_monotonic_ms() + 10000);
    cr_assert_eq(pthread_create(&thread, NULL, read_some_and_leave, &sockets[1]), 0);
    cr_assert_eq(atd_redis_commit(link, &one, 1, &which, &err), -ECONNRESET, "%s", err.text);
    cr_assert(err.retryable);
    (void)pthread_join(thread, NULL);
    atd_redis_link_free(link);
    /* Nobody reads: the deadline ends it, and nothing was done either. */
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    cr_assert_eq(atd_redis_link_over(sockets[0], &link, &err), 0);
    atd_redis_link_set_deadline(link, atd_clock_monotonic_ms() + 200);
    cr_assert_eq(atd_redis_commit(link, &one, 1, &which, &err), -ETIMEDOUT, "%s", err.text);
    atd_redis_link_free(link);
    (void)close(sockets[1]);
    free(urls);
}

/* ------------------------------------------------------------------ several at once */

static void expect_nothing_lost(const char *secrets, unsigned commits)
{
    pid_t children[SUITE_PROCESSES];
    char wanted[64];

    for (size_t i = 0; i < SUITE_PROCESSES; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            const struct atd_redis_url url = url_of(secrets, server.socket);
            struct atd_index_writer *own = NULL;

            if (atd_index_redis_writer(&url, NULL, &own, NULL) != 0)
                _exit(1);
            _exit(suite_count_up(own, commits));
        }
    }
    for (size_t i = 0; i < SUITE_PROCESSES; i++) {
        int status = 0;

        (void)waitpid(children[i], &status, 0);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
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
