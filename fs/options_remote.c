/*
 * The options of remote shards: where they are, who may read them, what they may take here.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dirs.h"
#include "dataset/sites.h"
#include "options.h"

#define DEFAULT_CACHE ".cache/atdatafs"
/* Without a home directory: the system's place for caches. */
#define SYSTEM_CACHE "/var/cache/atdatafs"
#define CACHE_LEAST ((uint64_t)1 << 20)
#define MEMORY_LEAST ((uint64_t)32 << 20)
#define MEMORY_MOST ((uint64_t)64 << 30)
#define TIMEOUT_MOST_S 3600u

static int take_text(char **ret_text, const char *name, const char *value, struct atd_error *err)
{
    if (!*value)
        return atd_error_set(err, EINVAL, "option %s= lacks a value", name);
    free(*ret_text);
    *ret_text = strdup(value);
    return *ret_text ? 0 : options_no_memory(err);
}

int options_take_path(char **ret_path, const char *name, const char *value, struct atd_error *err)
{
    if (!*value)
        return atd_error_set(err, EINVAL, "option %s= lacks a path", name);
    free(*ret_path);
    *ret_path = NULL;
    return atd_path_absolute(value, ret_path, err);
}

/* "512", "64K", "256M", "10G", "2T": powers of 1024. */
int options_take_size(uint64_t *ret_bytes, const char *name, const char *value, uint64_t least,
                      uint64_t most, struct atd_error *err)
{
    static const char units[] = "KMGT";
    const char *unit;
    char *end;
    unsigned long long number;

    errno = 0;
    number = strtoull(value, &end, 10);
    unit = *end ? strchr(units, *end & ~0x20) : NULL;
    if (errno || end == value || value[0] == '-' || (*end && (!unit || end[1])))
        return atd_error_set(err, EINVAL, "option %s=%s is not a size such as 512M or 20G", name,
                             value);
    for (const char *at = units; unit && at <= unit; at++) {
        if (number > most)
            break;
        number <<= 10;
    }
    if (number < least || number > most)
        return atd_error_set(err, EINVAL, "option %s=%s must be from %llu to %llu bytes", name,
                             value, (unsigned long long)least, (unsigned long long)most);
    *ret_bytes = number;
    return 0;
}

static int take_timeout(struct options *options, const char *value, struct atd_error *err)
{
    char *end;
    unsigned long number;

    errno = 0;
    number = strtoul(value, &end, 10);
    if (errno || end == value || *end || number < 1 || number > TIMEOUT_MOST_S)
        return atd_error_set(err, EINVAL, "option timeout=%s is not a number of seconds up to %u",
                             value, TIMEOUT_MOST_S);
    options->timeout_s = (unsigned)number;
    return 0;
}

/* s3://BUCKET[/PREFIX] */
static int take_store(struct options *options, const char *value, struct atd_error *err)
{
    char *bucket;
    char *prefix;
    int rc = atd_store_name_parse(value, &bucket, &prefix, err);

    if (rc == -EINVAL)
        return atd_error_set(err, EINVAL,
                             "option store= takes s3://BUCKET/PREFIX; the server is named by "
                             "endpoint=URL");
    if (rc)
        return rc;
    free(options->bucket);
    free(options->prefix);
    options->bucket = bucket;
    options->prefix = prefix;
    return 0;
}

static int take_endpoint(struct options *options, const char *value, struct atd_error *err)
{
    struct atd_s3_site site;
    int rc = atd_s3_site_init(&site, value, options->style, err);

    return rc ? rc : take_text(&options->endpoint, "endpoint", value, err);
}

static int take_cache(struct options *options, const char *value, struct atd_error *err)
{
    if (strcmp(value, "none") != 0)
        return atd_error_set(err, EINVAL, "option cache= takes 'none'; see cache_dir=");
    options->cache_none = true;
    return 0;
}

static bool read_flag(struct options *options, const char *name)
{
    if (strcmp(name, "unsigned") == 0)
        options->unsigned_requests = true;
    else if (strcmp(name, "path_style") == 0)
        options->style = ATD_S3_STYLE_PATH;
    else if (strcmp(name, "virtual_style") == 0)
        options->style = ATD_S3_STYLE_VIRTUAL;
    else
        return false;
    return true;
}

bool options_read_remote(struct options *options, const char *name, const char *value, int *ret_rc,
                         struct atd_error *err)
{
    int rc;

    *ret_rc = 0;
    if (!value)
        return read_flag(options, name);
    if (strcmp(name, "store") == 0)
        rc = take_store(options, value, err);
    else if (strcmp(name, "endpoint") == 0)
        rc = take_endpoint(options, value, err);
    else if (strcmp(name, "region") == 0)
        rc = take_text(&options->region, name, value, err);
    else if (strcmp(name, "profile") == 0)
        rc = take_text(&options->profile, name, value, err);
    else if (strcmp(name, "env_file") == 0)
        rc = options_take_path(&options->env_file, name, value, err);
    else if (strcmp(name, "ca_file") == 0)
        rc = options_take_path(&options->ca_file, name, value, err);
    else if (strcmp(name, "password_file") == 0)
        rc = options_take_path(&options->password_file, name, value, err);
    else if (strcmp(name, "cache_dir") == 0)
        rc = options_take_path(&options->cache_dir, name, value, err);
    else if (strcmp(name, "cache") == 0)
        rc = take_cache(options, value, err);
    else if (strcmp(name, "cache_size") == 0)
        rc = options_take_size(&options->cache_size_bytes, name, value, CACHE_LEAST,
                               UINT64_MAX >> 12, err);
    else if (strcmp(name, "cache_floor") == 0)
        rc = options_take_size(&options->cache_floor_bytes, name, value, 0, UINT64_MAX >> 12, err);
    else if (strcmp(name, "memory") == 0)
        rc = options_take_size(&options->memory_bytes, name, value, MEMORY_LEAST, MEMORY_MOST, err);
    else if (strcmp(name, "timeout") == 0)
        rc = take_timeout(options, value, err);
    else
        return false;
    *ret_rc = rc;
    return true;
}

/* ------------------------------------------------------------------ what was left out */

const char *options_home(void)
{
    const char *home = getenv("HOME");
    const struct passwd *user;

    if (home && home[0] == '/')
        return home;
    /* Mounted from fstab or systemd: no HOME in the environment. */
    user = getpwuid(getuid());
    return user && user->pw_dir[0] == '/' && user->pw_dir[1] ? user->pw_dir : NULL;
}

static int default_cache(struct options *options, struct atd_error *err)
{
    const char *cache_home = getenv("XDG_CACHE_HOME");
    const char *home = options_home();
    int len;

    if (cache_home && cache_home[0] == '/')
        len = asprintf(&options->cache_dir, "%s/atdatafs", cache_home);
    else if (home)
        len = asprintf(&options->cache_dir, "%s/%s", home, DEFAULT_CACHE);
    else
        len = asprintf(&options->cache_dir, "%s", SYSTEM_CACHE);
    if (len < 0)
        options->cache_dir = NULL;
    return len < 0 ? options_no_memory(err) : 0;
}

/* The first line of the file. */
static int read_password(struct options *options, struct atd_error *err)
{
    char *password = options->index.redis->password;
    atd_auto_fd int fd = open(options->password_file, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, password, sizeof(options->index.redis->password) - 1);

    if (got < 0)
        return atd_error_set(err, errno, "password_file '%s': %s", options->password_file,
                             strerror(errno));
    password[got] = '\0';
    password[strcspn(password, "\r\n")] = '\0';
    if (!password[0])
        return atd_error_set(err, EINVAL, "password_file '%s' is empty", options->password_file);
    return 0;
}

int options_complete_remote(struct options *options, struct atd_error *err)
{
    int rc = 0;

    if (options->cache_none) {
        free(options->cache_dir);
        options->cache_dir = NULL;
    } else if (options->cache_dir) {
        options->cache_named = true;
    } else {
        rc = default_cache(options, err);
    }
    /* Else nothing says so before the first request, which may be much later. */
    if (rc == 0 && options->ca_file && access(options->ca_file, R_OK) != 0)
        rc = atd_error_set(err, errno, "ca_file '%s': %s", options->ca_file, strerror(errno));
    if (rc == 0 && options->password_file && !options->index.redis)
        rc = atd_error_set(err, EINVAL, "option password_file= goes with a redis:// index");
    if (rc == 0 && options->password_file)
        rc = read_password(options, err);
    if (rc == 0 && options->index.redis)
        rc = atd_redis_url_add_secrets(options->index.redis, getenv, err);
    if (rc == 0 && options->unsigned_requests && (options->env_file || options->profile))
        rc = atd_error_set(err, EINVAL,
                           "option unsigned does without credentials: leave out env_file= and "
                           "profile=");
    return rc;
}
