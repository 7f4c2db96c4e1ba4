#include <criterion/criterion.h>
#include <errno.h>

#include "index/redis_error.h"

static const struct {
    const char *reply;
    int code;
    bool retryable;
    const char *says;
} cases[] = {
    {"LOADING Redis is loading the dataset in memory", EAGAIN, true, "still loading"},
    {"BUSY Redis is busy running a script. You can only call SCRIPT KILL.", EAGAIN, true, "script"},
    {"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", EAGAIN,
     true, "lost its master"},
    {"CLUSTERDOWN Hash slot not served", EAGAIN, true, "cluster is down"},
    {"TRYAGAIN Multiple keys request during rehashing of slot", EAGAIN, true, "moving"},
    {"NOAUTH Authentication required.", EACCES, false, "$ATDATA_REDIS_PASSWORD"},
    {"WRONGPASS invalid username-password pair or user is disabled.", EACCES, false,
     "user name or password"},
    {"ERR invalid password", EACCES, false, "does not accept the password"},
    {"NOPERM this user has no permissions to run the 'scan' command", EACCES, false, "+scan"},
    {"DENIED Redis is running in protected mode because", EACCES, false, "protected mode"},
    {"ERR Client sent AUTH, but no password is set", EACCES, false, "leave it out"},
    {"ERR AUTH <password> called without any password configured for the default user. Are you "
     "sure your configuration is correct?",
     EACCES, false, "leave it out"},
    {"ERR wrong number of arguments for 'auth' command", EACCES, false, "older than Redis 6"},
    {"ERR DB index is out of range", EINVAL, false, "no database of that number"},
    {"ERR max number of clients reached", EAGAIN, true, "as many clients"},
    {"MOVED 3999 127.0.0.1:6381", ENOTSUP, false, "Redis Cluster"},
    {"ASK 3999 127.0.0.1:6381", ENOTSUP, false, "Redis Cluster"},
    {"CROSSSLOT Keys in request don't hash to the same slot", ENOTSUP, false, "Redis Cluster"},
    {"ERR SELECT is not allowed in cluster mode", ENOTSUP, false, "Redis Cluster"},
    {"MISCONF Redis is configured to save RDB snapshots, but", EIO, false, "is up but cannot save"},
    {"OOM command not allowed when used memory > 'maxmemory'.", ENOSPC, false, "memory"},
    {"READONLY You can't write against a read only replica.", EROFS, false, "use the master"},
    {"ERR unknown command", EIO, false, "'ERR unknown command'"},
    {"SOMETHING new", EIO, false, "'SOMETHING new'"},
    {"", EIO, false, "error"},
    {"LOADINGX", EIO, false, "'LOADINGX'"},
};

Test(redis_error, each_reply_has_its_code_and_its_remedy)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atd_redis_error_set(atd_str_from(cases[i].reply), "asking", ATD_REDIS_QUOTE, &err);

        cr_expect_eq(rc, -cases[i].code, "%s: %d", cases[i].reply, rc);
        cr_expect_eq(err.code, cases[i].code, "%s", cases[i].reply);
        cr_expect_eq(err.retryable, cases[i].retryable, "%s", cases[i].reply);
        cr_expect_not_null(strstr(err.text, cases[i].says), "%s: %s", cases[i].reply, err.text);
        cr_expect_eq(strncmp(err.text, "asking: ", 8), 0, "%s", err.text);
        cr_expect_not_null(strstr(err.text, cases[i].reply), "%s", err.text);
    }
}

Test(redis_error, a_reply_to_a_login_is_never_quoted)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_redis_error_set(ATD_STR("ERR unknown command `AUTH`, with args beginning "
                                             "with: `S3cret`, "),
                                     "logging in", ATD_REDIS_QUOTE_NOT, &err),
                 -EIO);
    cr_assert_null(strstr(err.text, "S3cret"), "%s", err.text);
    cr_assert_eq(atd_redis_error_set(ATD_STR("S3cret"), "x", ATD_REDIS_QUOTE_NOT, &err), -EIO);
    cr_assert_null(strstr(err.text, "S3cret"), "%s", err.text);
}

Test(redis_error, refusals_and_types_are_told_apart)
{
    cr_assert(atd_redis_error_is_refusal(ATD_STR("NOPERM this user")));
    cr_assert(atd_redis_error_is_refusal(ATD_STR("ERR unknown command 'CLIENT'")));
    cr_assert_not(atd_redis_error_is_refusal(ATD_STR("NOAUTH Authentication required.")));
    cr_assert_not(atd_redis_error_is_refusal(ATD_STR("LOADING")));
    cr_assert(atd_redis_error_is_wrong_type(ATD_STR("WRONGTYPE Operation against a key")));
    cr_assert_not(atd_redis_error_is_wrong_type(ATD_STR("ERR WRONGTYPE")));
}

Test(redis_error, a_change_has_its_own_remedies)
{
    static const struct {
        const char *reply;
        int code;
        const char *says;
    } changes[] = {
        {"NOPERM this user has no permissions to run the 'evalsha' command", EACCES, "+evalsha ("},
        {"OOM command not allowed when used memory > 'maxmemory'.", ENOSPC, "raised"},
        {"READONLY You can't write against a read only replica. script: 1, on @user_script:9.",
         EROFS, "use the master"},
        {"ERR Error running script (call to f_1): @user_script:9: @user_script: 9: -READONLY You "
         "can't write against a read only replica.",
         EROFS, "use the master"},
        {"ERR Error running script (call to f_1): @user_script:9: -MISCONF Redis is", EIO,
         "cannot save"},
        {"ERR something of -OOM else", EIO, "'ERR something"},
    };

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atd_redis_change_error_set(atd_str_from(changes[i].reply), &err);

        cr_expect_eq(rc, -changes[i].code, "%s: %d", changes[i].reply, rc);
        cr_expect_not_null(strstr(err.text, changes[i].says), "%s: %s", changes[i].reply, err.text);
    }
    cr_assert(atd_redis_error_refuses_script(ATD_STR("NOPERM x")));
    cr_assert(atd_redis_error_refuses_script(
        ATD_STR("ERR ACL failure in script: User a has no permissions to run the 'type' command")));
    cr_assert(atd_redis_error_refuses_script(
        ATD_STR("ERR Error running script (call to f_1): @user_script:1: The user executing the "
                "script can't run this command or subcommand")));
    cr_assert_not(atd_redis_error_refuses_script(ATD_STR("NOSCRIPT No matching script.")));
    cr_assert_not(atd_redis_error_refuses_script(ATD_STR("")));
}
