/* Waiting for replicas, against a server that answers what the test says. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "index/redis_replicas.h"

#define AUTO ATD_REDIS_WAIT_AUTO
#define NOPERM "-NOPERM this user has no permissions\r\n"
#define ONE ",state=online,offset=100,lag=0\r\n"

static char infos[8][512];
static size_t info_count;

/* INFO's answer, as a reply. */
static const char *info(const char *lines)
{
    char *text = infos[info_count++ % 8];

    (void)snprintf(text, sizeof(infos[0]), "$%zu\r\n%s\r\n", strlen(lines), lines);
    return text;
}

#define MASTER "# Replication\r\nrole:master\r\nmaster_repl_offset:100\r\n"

static struct atd_redis_link *link_that_says(const char *first, const char *second, int *ret_other)
{
    struct atd_redis_link *link = NULL;
    int sockets[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    cr_assert_eq(atd_redis_link_over(sockets[0], &link, NULL), 0);
    atd_redis_link_set_deadline(link, atd_clock_monotonic_ms() + 3000);
    cr_assert_eq(write(sockets[1], first, strlen(first)), (ssize_t)strlen(first));
    cr_assert_eq(write(sockets[1], second, strlen(second)), (ssize_t)strlen(second));
    (void)shutdown(sockets[1], SHUT_WR);
    *ret_other = sockets[1];
    return link;
}

Test(redis_replicas, what_info_says)
{
    static const struct {
        const char *info;
        uint64_t wanted;
        struct atd_redis_replication is;
    } cases[] = {
        {"", 0, {false, 0, 0, 0}},
        {"role:slave\r\nmaster_repl_offset:7\r\n", 0, {false, 7, 0, 0}},
        {"role:master\r\nmaster_repl_offset:7\r\n", 0, {true, 7, 0, 0}},
        {"role:master\r\nslave0:ip=::1,port=1" ONE "slave1:ip=h,port=2" ONE, 100, {true, 0, 2, 2}},
        {"role:master\r\nslave0:ip=::1,port=1" ONE, 101, {true, 0, 1, 0}},
        {"role:master\r\nslave0:ip=h,port=1,state=wait_bgsave,offset=0,lag=0\r\n",
         0,
         {true, 0, 0, 0}},
        {"role:master\r\nslaves:ip=h,port=1" ONE, 0, {true, 0, 0, 0}},
        {"role:master\r\nslave0:state=online,offset=1\r\nslave", 0, {true, 0, 0, 0}},
        {"role:master\r\nslave10:ip=h,state=online,offset=,lag=0", 0, {true, 0, 0, 0}},
        {"master_repl_offset:", 0, {false, 0, 0, 0}},
        {"\n\n\r\n:\nrole:master", 0, {true, 0, 0, 0}},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_redis_replication found;

        atd_redis_replication_read(atd_str_from(cases[i].info), cases[i].wanted, &found);
        cr_expect_eq(found.is_master, cases[i].is.is_master, "%s", cases[i].info);
        cr_expect_eq(found.offset, cases[i].is.offset, "%s", cases[i].info);
        cr_expect_eq(found.online, cases[i].is.online, "%s", cases[i].info);
        cr_expect_eq(found.arrived, cases[i].is.arrived, "%s", cases[i].info);
    }
}

Test(redis_replicas, before_a_change)
{
    const char *alone = info(MASTER);
    const char *one = info(MASTER "slave0:ip=h,port=1" ONE);
    const char *slave = info("role:slave\r\n");
    const struct {
        unsigned wait;
        const char *info;
        const char *count;
        int code;
        unsigned wanted;
    } cases[] = {
        {0, "", "", 0, 0},
        {AUTO, alone, "", 0, 0},
        {AUTO, one, ":0\r\n", 0, 1},
        {1, one, ":0\r\n", 0, 1},
        {1, alone, "", EAGAIN, 0},
        {2, one, "", EAGAIN, 0},
        {AUTO, NOPERM, "", 0, 0},
        {1, NOPERM, "", EACCES, 0},
        {AUTO, one, NOPERM, 0, 0},
        {1, one, NOPERM, EACCES, 0},
        {1, slave, "", EROFS, 0},
        {AUTO, slave, "", EROFS, 0},
        {1, one, "-ERR WAIT cannot be used with replica instances.\r\n", EROFS, 0},
        {1, "-LOADING x\r\n", "", EAGAIN, 0},
        {1, ":1\r\n", "", EPROTO, 0},
        {1, "", "", ECONNRESET, 0},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        unsigned wanted = 7;
        int other;
        struct atd_redis_link *link = link_that_says(cases[i].info, cases[i].count, &other);
        int rc = atd_redis_replicas_look(link, cases[i].wait, &wanted, &err);

        cr_expect_eq(rc, -cases[i].code, "%zu: %d %s", i, rc, err.text);
        if (rc == 0)
            cr_expect_eq(wanted, cases[i].wanted, "%zu: %u", i, wanted);
        atd_redis_link_free(link);
        (void)close(other);
    }
}

Test(redis_replicas, after_a_change)
{
    static const struct {
        unsigned wanted;
        const char *says;
        int code;
    } cases[] = {
        {0, "", 0},
        {1, ":1\r\n", 0},
        {1, ":2\r\n", 0},
        {1, ":0\r\n", EREMOTEIO},
        {2, ":1\r\n", EREMOTEIO},
        {1, ":-1\r\n", EREMOTEIO},
        {1, "+OK\r\n", EREMOTEIO},
        {1, "-UNBLOCKED force unblock from blocking operation\r\n", EREMOTEIO},
        {1, NOPERM, EREMOTEIO},
        {1, "", EREMOTEIO},
        {1, ":1", EREMOTEIO},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        int other;
        struct atd_redis_link *link = link_that_says(cases[i].says, "", &other);
        int rc = atd_redis_replicas_wait(link, cases[i].wanted, &err);

        cr_expect_eq(rc, -cases[i].code, "%zu: %d %s", i, rc, err.text);
        cr_expect_eq(err.retryable, rc != 0);
        atd_redis_link_free(link);
        (void)close(other);
    }
}

Test(redis_replicas, everything_that_is_there)
{
    const char *alone = info(MASTER);
    const char *one = info(MASTER "slave0:ip=h,port=1" ONE);
    const char *behind = info("role:master\r\nmaster_repl_offset:101\r\nslave0:ip=h,port=1" ONE);
    const struct {
        unsigned wait;
        const char *first;
        const char *second;
        int code;
        bool confirmed;
    } cases[] = {
        {0, "", "", 0, false},
        {AUTO, alone, alone, 0, false},
        {AUTO, one, one, 0, true},
        {1, one, one, 0, true},
        {1, behind, info(MASTER "slave0:ip=h,port=1,state=online,offset=101,lag=0\r\n"), 0, true},
        {1, behind, behind, ECONNRESET, false}, /* asked a third time */
        {AUTO, NOPERM, "", 0, false},
        {1, NOPERM, "", EACCES, false},
        {1, info("role:slave\r\n"), "", EROFS, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        int other;
        struct atd_redis_link *link = link_that_says(cases[i].first, cases[i].second, &other);
        bool confirmed = true;
        int rc = atd_redis_replicas_settle(link, cases[i].wait, &confirmed, &err);

        cr_expect_eq(rc, -cases[i].code, "%zu: %d %s", i, rc, err.text);
        cr_expect_eq(confirmed, cases[i].confirmed, "%zu", i);
        atd_redis_link_free(link);
        (void)close(other);
    }
}
