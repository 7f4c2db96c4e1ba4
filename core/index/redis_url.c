#include "index/redis_url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/check.h"
#include "base/hex.h"

/* Longer than any sum of the parts, percent-encoded. */
#define URL_BYTES_MAX 16384
#define PORT_DEFAULT 6379
#define SENTINEL_PORT_DEFAULT 26379
/* Of the sentinels, so many bytes are shown: the sentence of an error shall have room beside. */
#define SHOWN_PLACES_MAX 192

/* `what` names the part in errors; its text is never quoted: it may be, or sit beside, a secret. */
static int decode(struct atd_str from, const char *what, char *ret_text, size_t size,
                  struct atd_error *err)
{
    size_t len = 0;

    for (size_t i = 0; i < from.len; i++) {
        char c = from.ptr[i];

        if (c == '%') {
            int high = i + 1 < from.len ? atd_hex_value(from.ptr[i + 1]) : -1;
            int low = i + 2 < from.len ? atd_hex_value(from.ptr[i + 2]) : -1;

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

static int parse_place(struct atd_str text, unsigned port_default, struct atd_redis_place *place,
                       struct atd_error *err)
{
    struct atd_str host = text;
    struct atd_str port = {NULL, 0};
    ptrdiff_t end;
    int rc;

    if (text.len > 0 && text.ptr[0] == '[') {
        end = atd_str_find(text, ']');
        if (end < 0)
            return atd_error_set(err, EINVAL, "Redis URL: the host has '[' without ']'");
        rc = decode((struct atd_str){text.ptr + 1, (size_t)end - 1}, "host", place->host,
                    sizeof(place->host), err);
        if (rc)
            return rc;
        if (!is_ipv6(place->host))
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
        if (!is_host_name(host) || host.len >= sizeof(place->host))
            return atd_error_set(err, EINVAL,
                                 "Redis URL: the host is no host name (a '/', '?', '#' or '@' in "
                                 "a password is written %%2F, %%3F, %%23, %%40; an IPv6 address "
                                 "stands in brackets)");
        memcpy(place->host, host.ptr, host.len);
        place->host[host.len] = '\0';
    }
    place->port = port_default;
    if (end < 0)
        return 0;
    port = atd_str_from_byte(text, (size_t)end + 1);
    return port.len > 0 ? read_number(port, "port", 1, 65535, &place->port, err) : 0;
}

static int parse_host(struct atd_str text, struct atd_redis_url *url, struct atd_error *err)
{
    struct atd_redis_place place;
    int rc = parse_place(text, PORT_DEFAULT, &place, err);

    if (rc)
        return rc;
    memcpy(url->host, place.host, sizeof(url->host));
    url->port = place.port;
    return 0;
}

/* HOST[:PORT][,HOST[:PORT]...]; none: one on this machine. */
static int parse_sentinels(struct atd_str text, struct atd_redis_url *url, struct atd_error *err)
{
    bool is_list = atd_str_find(text, ',') >= 0;
    int rc = 0;

    for (bool more = true; more && rc == 0;) {
        ptrdiff_t end = atd_str_find(text, ',');
        struct atd_str one = end < 0 ? text : atd_str_head(text, (size_t)end);

        more = end >= 0;
        if (is_list && one.len == 0)
            return atd_error_set(err, EINVAL, "Redis URL: a sentinel between commas has no name");
        if (url->sentinel_count == ATD_REDIS_SENTINELS_MAX)
            return atd_error_set(err, EINVAL, "Redis URL: it names more than %u sentinels",
                                 ATD_REDIS_SENTINELS_MAX);
        rc = parse_place(one, SENTINEL_PORT_DEFAULT, &url->sentinels[url->sentinel_count++], err);
        if (more)
            text = atd_str_from_byte(text, (size_t)end + 1);
    }
    return rc;
}

int atd_redis_place_set(struct atd_redis_place *ret_place, struct atd_str host, struct atd_str port,
                        struct atd_error *err)
{
    struct atd_redis_place place = {0};

    if (host.len >= sizeof(place.host) || atd_str_find(host, '\0') >= 0)
        return atd_error_set(err, EPROTO, "the host is no host name");
    if (host.len > 0)
        memcpy(place.host, host.ptr, host.len);
    if (!is_host_name(host) && !is_ipv6(place.host))
        return atd_error_set(err, EPROTO, "the host is no host name");
    if (read_number(port, "port", 1, 65535, &place.port, NULL) != 0)
        return atd_error_set(err, EPROTO, "the port is no number from 1 to 65535");
    *ret_place = place;
    return 0;
}

void atd_redis_place_show(const struct atd_redis_place *place,
                          char ret_text[ATD_REDIS_PLACE_TEXT_MAX])
{
    bool bracketed = strchr(place->host, ':') != NULL;

    (void)snprintf(ret_text, ATD_REDIS_PLACE_TEXT_MAX, "%s%s%s:%u", bracketed ? "[" : "",
                   place->host, bracketed ? "]" : "", place->port);
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
    if (atd_str_equal(name, ATD_STR("wait")))
        return read_number(value, "value of 'wait'", 0, ATD_REDIS_WAIT_MAX, &url->wait, err);
    if (url->sentinel_count && atd_str_equal(name, ATD_STR("sentinel_username")))
        return decode(value, "value of 'sentinel_username'", url->sentinel_user,
                      sizeof(url->sentinel_user), err);
    if (url->sentinel_count && atd_str_equal(name, ATD_STR("sentinel_password")))
        return decode(value, "value of 'sentinel_password'", url->sentinel_password,
                      sizeof(url->sentinel_password), err);
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
    return atd_error_set(err, EINVAL,
                         "Redis URL: the parameter '" ATD_STR_FMT "' is not known here (%s%s%s)",
                         ATD_STR_ARG(name), "known: db, wait",
                         url->sentinel_count ? ", sentinel_username, sentinel_password" : "",
                         url->tls ? ", ssl_cert_reqs, ssl_ca_certs" : "");
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

/* What sentinel.conf allows in the name of a master. */
static bool is_master_name(const char *name)
{
    return name[0] && name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                        "0123456789._-")] == '\0';
}

/* "/MASTER[/DB]" */
static int parse_sentinel_path(struct atd_str path, struct atd_redis_url *url, bool *ret_has_db,
                               struct atd_error *err)
{
    ptrdiff_t slash;
    int rc;

    if (path.len > 0)
        path = atd_str_from_byte(path, 1);
    slash = atd_str_find(path, '/');
    rc = decode(slash < 0 ? path : atd_str_head(path, (size_t)slash), "name of the master",
                url->master, sizeof(url->master), err);
    if (rc)
        return rc;
    if (!is_master_name(url->master))
        return atd_error_set(err, EINVAL,
                             "Redis URL: after the sentinels comes the name of their master, of "
                             "letters, digits, '.', '_' and '-', as "
                             "redis+sentinel://HOST1,HOST2/mymaster/0");
    *ret_has_db = false;
    return slash < 0 ? 0
                     : parse_tcp_path(atd_str_from_byte(path, (size_t)slash), url, ret_has_db, err);
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

/* As many sentinels as there is room for: what is shown is a good URL too. */
static void show_sentinels(struct atd_redis_url *url)
{
    size_t at = (size_t)snprintf(url->shown, sizeof(url->shown), "%s+sentinel://",
                                 url->tls ? "rediss" : "redis");
    size_t end = at + SHOWN_PLACES_MAX;

    for (unsigned i = 0; i < url->sentinel_count; i++) {
        char place[ATD_REDIS_PLACE_TEXT_MAX];

        atd_redis_place_show(&url->sentinels[i], place);
        if (i > 0 && at + strlen(place) >= end)
            break;
        at +=
            (size_t)snprintf(url->shown + at, sizeof(url->shown) - at, "%s%s", i ? "," : "", place);
    }
    at += (size_t)snprintf(url->shown + at, sizeof(url->shown) - at, "/%s", url->master);
    if (url->db)
        (void)snprintf(url->shown + at, sizeof(url->shown) - at, "/%u", url->db);
}

static void show(struct atd_redis_url *url)
{
    bool bracketed = strchr(url->host, ':') != NULL;
    size_t at;

    if (url->sentinel_count) {
        show_sentinels(url);
        return;
    }
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

enum form {
    FORM_TCP,
    FORM_UNIX,
    FORM_SENTINEL,
};

static int parse_place_and_path(struct atd_str rest, struct atd_str path, enum form form,
                                struct atd_redis_url *url, bool *ret_has_db, struct atd_error *err)
{
    int rc;

    if (form == FORM_UNIX && rest.len > 0)
        return atd_error_set(
            err, EINVAL, "Redis URL: unix:// takes an absolute path, as unix:///run/redis.sock");
    if (form == FORM_UNIX)
        return parse_unix_path(path, url, err);
    if (form == FORM_TCP) {
        rc = parse_host(rest, url, err);
        return rc ? rc : parse_tcp_path(path, url, ret_has_db, err);
    }
    url->wait = ATD_REDIS_WAIT_AUTO;
    rc = parse_sentinels(rest, url, err);
    return rc ? rc : parse_sentinel_path(path, url, ret_has_db, err);
}

/* What follows "SCHEME://". */
static int parse_rest(struct atd_str rest, enum form form, struct atd_redis_url *url,
                      struct atd_error *err)
{
    bool is_unix = form == FORM_UNIX;

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
    if (rc == 0)
        rc = parse_place_and_path(rest, path, form, url, &has_db, err);
    if (rc == 0)
        rc = parse_parameters(parameters, url, has_db, err);
    return rc;
}

int atd_redis_url_parse(const char *text, struct atd_redis_url *ret_url, struct atd_error *err)
{
    struct atd_redis_url url = {0};
    struct atd_str rest = atd_str_from(text);
    enum form form = FORM_TCP;
    int rc;

    if (rest.len > URL_BYTES_MAX)
        return atd_error_set(err, EINVAL, "Redis URL: it is longer than %d bytes", URL_BYTES_MAX);
    if (take_scheme(&rest, "rediss://")) {
        url.tls = true;
    } else if (take_scheme(&rest, "unix:")) {
        form = FORM_UNIX;
        (void)take_scheme(&rest, "//");
    } else if (take_scheme(&rest, "redis+sentinel://")) {
        form = FORM_SENTINEL;
    } else if (take_scheme(&rest, "rediss+sentinel://")) {
        form = FORM_SENTINEL;
        url.tls = true;
    } else if (!take_scheme(&rest, "redis://")) {
        return atd_error_set(err, EINVAL,
                             "Redis URL: it does not begin with redis://, rediss://, unix:// or "
                             "redis+sentinel://");
    }
    rc = parse_rest(rest, form, &url, err);
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
    if (rc == 0 && url->sentinel_count)
        rc = add_secret(ATD_SENTINEL_USERNAME_VARIABLE, get, url->sentinel_user,
                        sizeof(url->sentinel_user), err);
    if (rc == 0 && url->sentinel_count)
        rc = add_secret(ATD_SENTINEL_PASSWORD_VARIABLE, get, url->sentinel_password,
                        sizeof(url->sentinel_password), err);
    return rc;
}
