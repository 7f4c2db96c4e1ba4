/* What becomes of a change when links break, servers refuse, and answers make no sense. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "index/redis_commit.h"
#include "redis_writing.h"
#include "support/child.h"

TestSuite(redis_writer_links, .init = setup, .fini = teardown, .timeout = 120);

/* ------------------------------------------------------------------ links and servers */

Test(redis_writer_links, a_link_that_broke_is_made_again)
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
    proxy = child_fork();
    if (proxy != 0) {
        (void)close(listener);
        return proxy;
    }
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

Test(redis_writer_links, a_lost_answer_is_no_failure_and_no_success)
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
    child_kill(proxy);
}

/* A change that went out in part is made on another link, unless that one breaks too. */
Test(redis_writer_links, a_link_that_breaks_under_a_change_is_made_again)
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
    child_kill(proxy);
    free(urls);
}

Test(redis_writer_links, a_replica_is_not_written)
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

Test(redis_writer_links, a_server_without_memory_is_not_written_by_halves)
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

Test(redis_writer_links, a_server_that_cannot_save_is_told)
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

Test(redis_writer_links, a_missing_right_is_told_and_changes_nothing)
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

Test(redis_writer_links, whatever_a_server_answers)
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
Test(redis_writer_links, what_did_not_go_out_was_not_done)
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
