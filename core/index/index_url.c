#include "index/index_url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/dirs.h"
#include "index/redis.h"

static const char *const redis_schemes[] = {
    "redis:", "rediss:", "unix:", "redis+sentinel:", "rediss+sentinel:"};
/* Not read, but told apart from a directory. */
static const char *const other_schemes[] = {"sqlite:", "postgres:", "postgresql:"};

static bool has_scheme(const char *text, const char *const *schemes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strncmp(text, schemes[i], strlen(schemes[i])) == 0)
            return true;
    }
    return false;
}

static bool is_redis(const char *text)
{
    return has_scheme(text, redis_schemes, sizeof(redis_schemes) / sizeof(redis_schemes[0]));
}

bool atd_is_index_url(const char *text)
{
    return is_redis(text) ||
           has_scheme(text, other_schemes, sizeof(other_schemes) / sizeof(other_schemes[0]));
}

static int set_sqlite(struct atd_index_url *url, const char *path, struct atd_error *err)
{
    if (strncmp(path, "//", 2) == 0 && path[2] == '/')
        path += 2; /* sqlite:///abs/path, as SQLAlchemy writes it */
    if (!*path)
        return atd_error_set(err, EINVAL, "the index 'sqlite:' lacks a path");
    return atd_path_absolute(path, &url->path, err);
}

int atd_index_url_parse(const char *text, struct atd_index_url *ret_url, struct atd_error *err)
{
    *ret_url = (struct atd_index_url){0};
    if (strncmp(text, "sqlite:", strlen("sqlite:")) == 0)
        return set_sqlite(ret_url, text + strlen("sqlite:"), err);
    if (!is_redis(text))
        /* Only the scheme is quoted: the rest may hold a password. */
        return atd_error_set(
            err, EINVAL,
            "the index '%.*s:...' is of a kind this version cannot read; use "
            "redis://HOST/DB, rediss://, unix:///SOCKET, redis+sentinel://HOST,.../MASTER "
            "or sqlite:PATH",
            (int)strcspn(text, ":"), text);
    ret_url->redis = calloc(1, sizeof(*ret_url->redis));
    if (!ret_url->redis)
        return atd_error_set(err, ENOMEM, "out of memory");
    return atd_redis_url_parse(text, ret_url->redis, err);
}

void atd_index_url_release(struct atd_index_url *url)
{
    free(url->path);
    if (url->redis)
        explicit_bzero(url->redis, sizeof(*url->redis));
    free(url->redis);
    *url = (struct atd_index_url){0};
}

const char *atd_index_url_shown(const struct atd_index_url *url)
{
    return url->redis ? url->redis->shown : url->path;
}

int atd_index_url_open(const struct atd_index_url *url, const char *ca_file,
                       struct atd_index **ret_index, struct atd_error *err)
{
    return url->redis ? atd_index_redis_open(url->redis, ca_file, ret_index, err)
                      : atd_index_sqlite_open(url->path, ret_index, err);
}

int atd_index_url_writer(const struct atd_index_url *url, const char *ca_file,
                         struct atd_index_writer **ret_writer, struct atd_error *err)
{
    return url->redis ? atd_index_redis_writer(url->redis, ca_file, ret_writer, err)
                      : atd_index_sqlite_writer(url->path, ret_writer, err);
}
