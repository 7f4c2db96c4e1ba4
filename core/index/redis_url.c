#include "index/redis_url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <strings.h>

#include "base/check.h"

/* Longer than any sum of the parts, percent-encoded. */
#define URL_BYTES_MAX 16384
#define PORT_DEFAULT 6379

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* `what` names the part in errors; its text is never quoted: it may be, or sit beside, a secret. */
static int decode(struct atd_str from, const char *what, char *ret_text, size_t size,
                  struct atd_error *err)
{
    size_t len = 0;

    for (size_t i = 0; i < from.len; i++) {
        char c = from.ptr[i];

        if (c == '%') {
            int high = i + 1 < from.len ? hex_digit(from.ptr[i + 1]) : -1;
            int low = i + 2 < from.len ? hex_digit(from.ptr[i + 2]) : -1;

            if (high < 0 || low < 0)
                return atd_error_set(err, EINVAL,
                                     "Redis URL: a '%%' in the %s is not followed by two hex "
                                     "digits; the character itself is written %%25",
                                     what);
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0')
            return atd_error_set(err, EINVAL, "Redis URL: the %s holds a NUL character", what);
        if (len + 1 == size)
            return atd_error_set(err, EINVAL, "Redis URL: the %s is longer than %zu bytes", what,
                                 size - 1);
        ret_text[len++] = c;
    }
    ret_text[len] = '\0';
    return 0;
}

static int read_number(struct atd_str text, const char *what, unsigned least, unsigned most,
                       unsigned *ret_number, struct atd_error *err)
{
    unsigned long number = 0;
    bool fits = text.len > 0;

    for (size_t i = 0; i < text.len && fits; i++) {
        fits = text.ptr[i] >= '0' && text.ptr[i] <= '9';
        number = number * 10 + (unsigned long)(text.ptr[i] - '0');
        fits = fits && number <= most;
    }
    if (!fits || number < least)
        return atd_error_set(err, EINVAL, "Redis URL: the %s is not a number from %u to %u", what,
                             least, most);
    *ret_number = (unsigned)number;
    return 0;
}

static int parse_user_info(struct atd_str text, struct atd_redis_url *url, struct atd_error *err)
{
    ptrdiff_t colon = atd_str_find(text, ':');
    struct atd_str password = text;
    int rc = 0;

    /* redis-cli: without ':' it is the password alone (S3-REDIS 6.6). */
    if (colon >= 0) {
        rc = decode(atd_str_head(text, (size_t)colon), "user name", url->user, sizeof(url->user),
                    err);
        password = atd_str_from_byte(text, (size_t)colon + 1);
    }
    if (rc == 0)
        rc = decode(password, "password", url->password, sizeof(url->password), err);
    return rc;
}

static bool is_host_name(struct atd_str host)
{
    for (size_t i = 0; i < host.len; i++) {
        unsigned char c = (unsigned char)host.ptr[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';

        if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '.' && c != '_')
            return false;
    }
    return host.len > 0;
}

static bool is_ipv6(const char *host)
{
    struct in6_addr address;
    char bare[INET6_ADDRSTRLEN];
    size_t len = strcspn(host, "%"); /* a zone may follow */

    if (len >= sizeof(bare))
        return false;
    memcpy(bare, host, len);
    bare[len] = '\0';
    return inet_pton(AF_INET6, bare, &address) == 1;
}

static int parse_host(struct atd_str text, struct atd_redis_url *url, struct atd_error *err)
{
    struct atd_str host = text;
    struct atd_str port = {NULL, 0};
    ptrdiff_t end;
    int rc;

    if (text.len > 0 && text.ptr[0] == '[') {
        end = atd_str_find(text, ']');
        if (end < 0)
            return atd_error_set(err, EINVAL, "Redis URL: the host has '[' without ']'");
        rc = decode((struct atd_str){text.ptr + 1, (size_t)end - 1}, "host", url->host,
                    sizeof(url->host), err);
        if (rc)
            return rc;
        if (!is_ipv6(url->host))
            return atd_error_set(err, EINVAL,
                                 "Redis URL: what is between '[' and ']' is no IPv6 address");
        text = atd_str_from_byte(text, (size_t)end + 1);
        if (text.len > 0 && text.ptr[0] != ':')
            return atd_error_set(err, EINVAL, "Redis URL: only ':PORT' can follow ']'");
        host = (struct atd_str){NULL, 0};
        end = text.len > 0 ? 0 : -1;
    } else {
        end = atd_str_find(text, ':');
        if (end >= 0)
            host = atd_str_head(text, (size_t)end);
        if (host.len == 0)
            host = ATD_STR("localhost");
        if (!is_host_name(host) || host.len >= sizeof(url->host))
            return atd_error_set(err, EINVAL,
                                 "Redis URL: the host is no host name (a '/', '?', '#' or '@' in "
                                 "a password is written %%2F, %%3F, %%23, %%40; an IPv6 address "
                                 "stands in brackets)");
        memcpy(url->host, host.ptr, host.len);
        url->host[host.len] = '\0';
    }
    url->port = PORT_DEFAULT;
    if (end < 0)
        return 0;
    port = atd_str_from_byte(text, (size_t)end + 1);
    return port.len > 0 ? read_number(port, "port", 1, 65535, &url->port, err) : 0;
}

/* Parameter names are quoted only when they cannot be a piece of a password with a '?' in it. */
static bool is_plain_name(struct atd_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        if ((name.ptr[i] < 'a' || name.ptr[i] > 'z') && name.ptr[i] != '_')
            return false;
    }
    return name.len > 0 && name.len <= 32;
}

static int parse_parameter(struct atd_str name, struct atd_str value, struct atd_redis_url *url,
                           bool *has_db, bool quotable, struct atd_error *err)
{
    char text[16];
    unsigned db;
    int rc;

    if (atd_str_equal(name, ATD_STR("db"))) {
        rc = read_number(value, "database number", 0, INT_MAX, &db, err);
        if (rc == 0 && *has_db && db != url->db)
            rc = atd_error_set(err, EINVAL, "Redis URL: it names two database numbers");
        if (rc == 0)
            url->db = db;
        *has_db = true;
        return rc;
    }
    if (url->tls && atd_str_equal(name, ATD_STR("ssl_ca_certs")))
        return decode(value, "value of 'ssl_ca_certs'", url->ca_file, sizeof(url->ca_file), err);
    if (url->tls && atd_str_equal(name, ATD_STR("ssl_cert_reqs"))) {
        rc = decode(value, "value of 'ssl_cert_reqs'", text, sizeof(text), err);
        if (rc)
            return rc;
        url->tls_insecure = strcmp(text, "none") == 0;
        /* Python's "optional" is "required" for a client. */
        if (url->tls_insecure || strcmp(text, "required") == 0 || strcmp(text, "optional") == 0)
            return 0;
        return atd_error_set(err, EINVAL,
                             "Redis URL: 'ssl_cert_reqs' is neither 'required' nor 'none'");
    }
    if (!quotable || !is_plain_name(name))
        return atd_error_set(err, EINVAL,
                             "Redis URL: after '?' come parameters NAME=VALUE (a '?' in a "
                             "password is written %%3F)");
    return atd_error_set(
        err, EINVAL, "Redis URL: the parameter '" ATD_STR_FMT "' is not known here (%s)",
        ATD_STR_ARG(name), url->tls ? "known: db, ssl_cert_reqs, ssl_ca_certs" : "known: db");
}

static int parse_parameters(struct atd_str text, struct atd_redis_url *url, bool has_db,
                            struct atd_error *err)
{
    bool quotable = atd_str_find(text, '@') < 0;
    int rc = 0;

    while (text.len > 0 && rc == 0) {
        ptrdiff_t end = atd_str_find(text, '&');
        struct atd_str one = end < 0 ? text : atd_str_head(text, (size_t)end);
        ptrdiff_t equals = atd_str_find(one, '=');
        struct atd_str name = equals < 0 ? one : atd_str_head(one, (size_t)equals);
        struct atd_str value = {NULL, 0};

        if (equals >= 0)
            value = atd_str_from_byte(one, (size_t)equals + 1);
        if (one.len > 0)
            rc = parse_parameter(name, value, url, &has_db, quotable, err);
        text = atd_str_from_byte(text, end < 0 ? text.len : (size_t)end + 1);
    }
    return rc;
}

static int parse_tcp_path(struct atd_str path, struct atd_redis_url *url, bool *ret_has_db,
                          struct atd_error *err)
{
    *ret_has_db = false;
    if (path.len > 0)
        path = atd_str_from_byte(path, 1);
    if (path.len == 0)
        return 0;
    *ret_has_db = true;
    return read_number(path, "database number", 0, INT_MAX, &url->db, err);
}

static int parse_unix_path(struct atd_str path, struct atd_redis_url *url, struct atd_error *err)
{
    if (path.len < 2 || path.ptr[0] != '/')
        return atd_error_set(
            err, EINVAL, "Redis URL: unix:// takes an absolute path, as unix:///run/redis.sock");
    return decode(path, "path", url->path, sizeof(url->path), err);
}

/* Appends with everything encoded that could confuse a terminal or the eye. */
static size_t show_path(char *text, size_t at, size_t size, const char *path)
{
    for (; *path && at + 4 < size; path++) {
        if (*path > 0x20 && *path < 0x7f && *path != '%' && *path != '?' && *path != '#')
            text[at++] = *path;
        else
            at += (size_t)snprintf(text + at, size - at, "%%%02X", (unsigned)(unsigned char)*path);
    }
    text[at] = '\0';
    return at;
}

static void show(struct atd_redis_url *url)
{
    bool bracketed = strchr(url->host, ':') != NULL;
    size_t at;

    if (url->path[0]) {
        at = show_path(url->shown, strlen("unix://"), sizeof(url->shown) - 16, url->path);
        memcpy(url->shown, "unix://", strlen("unix://"));
        if (url->db)
            (void)snprintf(url->shown + at, sizeof(url->shown) - at, "?db=%u", url->db);
        return;
    }
    at = (size_t)snprintf(url->shown, sizeof(url->shown), "%s://%s%s%s:%u",
                          url->tls ? "rediss" : "redis", bracketed ? "[" : "", url->host,
                          bracketed ? "]" : "", url->port);
    if (url->db)
        (void)snprintf(url->shown + at, sizeof(url->shown) - at, "/%u", url->db);
}

static bool take_scheme(struct atd_str *text, const char *scheme)
{
    size_t len = strlen(scheme);

    if (text->len < len || strncasecmp(text->ptr, scheme, len) != 0)
        return false;
    *text = atd_str_from_byte(*text, len);
    return true;
}

/* What follows "SCHEME://". */
static int parse_rest(struct atd_str rest, bool is_unix, struct atd_redis_url *url,
                      struct atd_error *err)
{
    ptrdiff_t question = atd_str_find(rest, '?');
    struct atd_str parameters = {NULL, 0};
    struct atd_str path = {NULL, 0};
    ptrdiff_t slash;
    ptrdiff_t at;
    bool has_db = false;
    int rc = 0;

    if (atd_str_find(rest, '#') >= 0)
        return atd_error_set(err, EINVAL, "Redis URL: a '#' is written %%23");
    if (question >= 0) {
        parameters = atd_str_from_byte(rest, (size_t)question + 1);
        rest = atd_str_head(rest, (size_t)question);
    }
    slash = atd_str_find(rest, '/');
    if (slash >= 0) {
        path = atd_str_from_byte(rest, (size_t)slash);
        rest = atd_str_head(rest, (size_t)slash);
    }
    if (!is_unix && atd_str_find(path, '@') >= 0)
        return atd_error_set(err, EINVAL,
                             "Redis URL: '@' after '/': a '/' in a password is written %%2F");
    at = atd_str_find_last(rest, '@');
    if (at >= 0) {
        rc = parse_user_info(atd_str_head(rest, (size_t)at), url, err);
        rest = atd_str_from_byte(rest, (size_t)at + 1);
    }
    if (rc == 0 && is_unix && rest.len > 0)
        rc = atd_error_set(err, EINVAL,
                           "Redis URL: unix:// takes an absolute path, as unix:///run/redis.sock");
    if (rc == 0)
        rc = is_unix ? parse_unix_path(path, url, err) : parse_host(rest, url, err);
    if (rc == 0 && !is_unix)
        rc = parse_tcp_path(path, url, &has_db, err);
    if (rc == 0)
        rc = parse_parameters(parameters, url, has_db, err);
    return rc;
}

int atd_redis_url_parse(const char *text, struct atd_redis_url *ret_url, struct atd_error *err)
{
    struct atd_redis_url url = {0};
    struct atd_str rest = atd_str_from(text);
    bool is_unix = false;
    int rc;

    if (rest.len > URL_BYTES_MAX)
        return atd_error_set(err, EINVAL, "Redis URL: it is longer than %d bytes", URL_BYTES_MAX);
    if (take_scheme(&rest, "rediss://")) {
        url.tls = true;
    } else if (take_scheme(&rest, "unix:")) {
        is_unix = true;
        (void)take_scheme(&rest, "//");
    } else if (!take_scheme(&rest, "redis://")) {
        return atd_error_set(err, EINVAL,
                             "Redis URL: it does not begin with redis://, rediss:// or unix://");
    }
    rc = parse_rest(rest, is_unix, &url, err);
    if (rc == 0) {
        show(&url);
        *ret_url = url;
    }
    explicit_bzero(&url, sizeof(url));
    return rc;
}

static int add_secret(const char *name, char *(*get)(const char *name), char *text, size_t size,
                      struct atd_error *err)
{
    const char *value = text[0] ? NULL : get(name);
    size_t len = value ? strlen(value) : 0;

    if (len >= size)
        return atd_error_set(err, EINVAL, "$%s is longer than %zu bytes", name, size - 1);
    if (len > 0)
        memcpy(text, value, len + 1);
    return 0;
}

int atd_redis_url_add_secrets(struct atd_redis_url *url, char *(*get)(const char *name),
                              struct atd_error *err)
{
    int rc = add_secret(ATD_REDIS_USERNAME_VARIABLE, get, url->user, sizeof(url->user), err);

    if (rc == 0)
        rc =
            add_secret(ATD_REDIS_PASSWORD_VARIABLE, get, url->password, sizeof(url->password), err);
    return rc;
}
