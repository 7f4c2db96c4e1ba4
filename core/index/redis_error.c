#include "index/redis_error.h"

#include <errno.h>
#include <stddef.h>

#include "base/check.h"

static const struct kind {
    const char *code; /* the first word of the reply */
    int error;
    bool retryable;
    const char *sentence;
} kinds[] = {
    {"LOADING", EAGAIN, true, "the server is still loading its data after a start"},
    {"BUSY", EAGAIN, true, "the server is busy running a script"},
    {"BUSYKEY", EIO, false, "a key exists already"},
    {"MASTERDOWN", EAGAIN, true, "the server is a replica that has lost its master"},
    {"CLUSTERDOWN", EAGAIN, true, "the cluster is down"},
    {"TRYAGAIN", EAGAIN, true, "the cluster is moving the key"},
    {"NOREPLICAS", EAGAIN, true, "the server has too few replicas"},
    {"UNKILLABLE", EAGAIN, true, "the server is busy running a script"},
    {"NOAUTH", EACCES, false,
     "the server wants a password: set $ATDATA_REDIS_PASSWORD (and $ATDATA_REDIS_USERNAME)"},
    {"WRONGPASS", EACCES, false, "the server does not accept the user name or password"},
    {"NOPERM", EACCES, false,
     "the Redis user lacks a right: reading takes +scan +hgetall +get +select +info and "
     "~LocalDatasetEntry:* ~LocalSchema:* ~Label:*"},
    {"DENIED", EACCES, false,
     "the server is in protected mode: it answers only on its own machine until it has a password"},
    {"MOVED", ENOTSUP, false,
     "the server is one node of a Redis Cluster, which is not supported: use a server that holds "
     "all keys"},
    {"ASK", ENOTSUP, false,
     "the server is one node of a Redis Cluster, which is not supported: use a server that holds "
     "all keys"},
    {"CROSSSLOT", ENOTSUP, false,
     "the server is one node of a Redis Cluster, which is not supported: use a server that holds "
     "all keys"},
    {"OOM", ENOSPC, false,
     "the server's memory is used up: its maxmemory must be raised, or keys deleted"},
    {"MISCONF", EIO, false,
     "the server is up but cannot save to its disk, and refuses commands until it can"},
    {"READONLY", EROFS, false, "the server is a read-only replica: use the master"},
    {"EXECABORT", EIO, false, "a transaction was refused"},
    {"NOSCRIPT", EIO, false, "a script is not there"},
    {"NOPROTO", EIO, false, "the server does not speak this version of the protocol"},
    {"WRONGTYPE", EIO, false, "a key is of another type"},
    {"ERR", EIO, false, NULL}, /* the text says it all */
};

/* What comes as plain ERR: told apart by how the text begins, the longest first. */
static const struct kind texts[] = {
    {"ERR invalid password", EACCES, false, "the server does not accept the password"},
    {"ERR Client sent AUTH, but no password is set", EACCES, false,
     "the URL or the environment gives a password and the server has none: leave it out"},
    {"ERR AUTH <password> called without any password configured", EACCES, false,
     "the URL or the environment gives a password and the server has none: leave it out"},
    {"ERR wrong number of arguments for 'auth'", EACCES, false,
     "the server is older than Redis 6, which knows no user names: give the password alone"},
    {"ERR DB index is out of range", EINVAL, false, "the server has no database of that number"},
    {"ERR invalid DB index", EINVAL, false, "the server has no database of that number"},
    {"ERR SELECT is not allowed in cluster mode", ENOTSUP, false,
     "the server is one node of a Redis Cluster, which is not supported: use a server that holds "
     "all keys"},
    {"ERR max number of clients reached", EAGAIN, true,
     "the server has as many clients as it allows"},
    {"ERR operation not permitted", EACCES, false,
     "the server wants a password: set $ATDATA_REDIS_PASSWORD"},
    {"ERR WAIT cannot be used with replica instances", EROFS, false,
     "the server is a read-only replica: use the master"},
    {"ERR Protocol error", EPROTO, false, "the server did not understand: is TLS expected there?"},
};

static struct atd_str first_word(struct atd_str text)
{
    ptrdiff_t space = atd_str_find(text, ' ');

    return space < 0 ? text : atd_str_head(text, (size_t)space);
}

static const struct kind *find(struct atd_str text)
{
    struct atd_str code = first_word(text);

    for (size_t i = 0; i < ATD_ARRAY_LEN(texts); i++) {
        if (atd_str_starts_with(text, atd_str_from(texts[i].code)))
            return &texts[i];
    }
    for (size_t i = 0; i < ATD_ARRAY_LEN(kinds); i++) {
        if (atd_str_equal(code, atd_str_from(kinds[i].code)))
            return &kinds[i];
    }
    return NULL;
}

int atd_redis_error_set(struct atd_str text, const char *what, enum atd_redis_quote quote,
                        struct atd_error *err)
{
    const struct kind *kind = find(text);
    const char *sentence = kind && kind->sentence ? kind->sentence : "the server answers an error";
    int code = kind ? kind->error : EIO;
    int rc;

    if (quote == ATD_REDIS_QUOTE)
        rc = atd_error_set(err, code, "%s: %s ('" ATD_STR_FMT "')", what, sentence,
                           ATD_STR_ARG(text));
    else
        rc = atd_error_set(err, code, "%s: %s", what, sentence);
    if (err)
        err->retryable = kind && kind->retryable;
    return rc;
}

bool atd_redis_error_is_refusal(struct atd_str text)
{
    return atd_str_equal(first_word(text), ATD_STR("NOPERM")) ||
           atd_str_starts_with(text, ATD_STR("ERR unknown command")) ||
           atd_str_starts_with(text, ATD_STR("ERR Unknown subcommand")) ||
           atd_str_starts_with(text, ATD_STR("ERR unknown subcommand")) ||
           atd_str_starts_with(text, ATD_STR("ERR syntax error"));
}

bool atd_redis_error_is(struct atd_str text, struct atd_str code)
{
    return atd_str_equal(first_word(text), code);
}

bool atd_redis_error_is_wrong_type(struct atd_str text)
{
    return atd_redis_error_is(text, ATD_STR("WRONGTYPE"));
}

/* ------------------------------------------------------------------ changes */

static bool contains(struct atd_str text, struct atd_str part)
{
    return text.len > 0 && memmem(text.ptr, text.len, part.ptr, part.len) != NULL;
}

bool atd_redis_error_refuses_script(struct atd_str text)
{
    return atd_redis_error_is_refusal(text) ||
           /* From inside the script: 7.0 on, and 6. */
           contains(text, ATD_STR("ACL failure in script")) ||
           contains(text, ATD_STR("can't run this command"));
}

/* Servers before 7.0 wrap what a script met: "ERR Error running script (...): ... : -OOM ...". */
static struct atd_str inner_error(struct atd_str text)
{
    static const char *const codes[] = {"-READONLY ", "-OOM ", "-MISCONF ", "-NOREPLICAS ",
                                        "-MASTERDOWN "};

    if (!atd_str_starts_with(text, ATD_STR("ERR Error running script")))
        return text;
    for (size_t i = 0; i < ATD_ARRAY_LEN(codes); i++) {
        const char *at = memmem(text.ptr, text.len, codes[i], strlen(codes[i]));

        if (at)
            return atd_str_from_byte(text, (size_t)(at - text.ptr) + 1);
    }
    return text;
}

int atd_redis_change_error_set(struct atd_str text, struct atd_error *err)
{
    text = inner_error(text);
    if (atd_redis_error_is(text, ATD_STR("NOPERM")))
        return atd_error_set(err, EACCES,
                             "the Redis user lacks a right: publishing takes "
                             "~LocalDatasetEntry:* ~LocalSchema:* ~LocalLens:* ~Label:* +ping "
                             "+select +client|setname +scan +type +hgetall +hget +hset +get +set "
                             "+del +watch +unwatch +multi +exec +eval +evalsha ('" ATD_STR_FMT "')",
                             ATD_STR_ARG(text));
    return atd_redis_error_set(text, "making the change", ATD_REDIS_QUOTE, err);
}
