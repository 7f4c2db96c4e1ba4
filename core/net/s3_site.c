#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "net/s3_place.h"

#define PORT_MAX 65535u
#define BUCKET_BYTES_MAX 1024u
/* What a DNS label may have, so what a bucket in a host may. */
#define BUCKET_LABEL_MIN 3u
#define BUCKET_LABEL_MAX 63u

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || is_digit(c);
}

/* ------------------------------------------------------------------ endpoint */

static bool take_scheme(struct atd_str *rest, const char *scheme)
{
    size_t len = strlen(scheme);

    if (rest->len < len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (lower(rest->ptr[i]) != scheme[i])
            return false;
    *rest = atd_str_from_byte(*rest, len);
    return true;
}

/* Not quoted: what is wrong may be a password. */
static int check_characters(struct atd_str endpoint, struct atd_error *err)
{
    for (size_t i = 0; i < endpoint.len; i++) {
        unsigned char c = (unsigned char)endpoint.ptr[i];

        if (c == '@')
            return atd_error_set(err, EINVAL,
                                 "endpoint has a user name in it: credentials do not belong there");
        if (c == '?' || c == '#')
            return atd_error_set(
                err, EINVAL, "endpoint has a '%c' in it: only a host and a path may stand there",
                c);
        if (c <= ' ' || c >= 0x7f || c == '\\' || c == '"' || c == '<' || c == '>' || c == '^' ||
            c == '`' || c == '{' || c == '|' || c == '}')
            return atd_error_set(err, EINVAL, "endpoint has a character that a URL cannot have");
    }
    return 0;
}

/* "127.1", "0x7f.1", "2130706433": what libcurl and resolvers take for an address. */
static bool is_number(const char *host)
{
    for (const char *at = host; *at;) {
        size_t len = strcspn(at, ".");
        bool hex = at[0] == '0' && at[1] == 'x';

        if (strspn(at, hex ? "0123456789abcdefx" : "0123456789") < len)
            return false;
        at += len + (at[len] == '.');
    }
    return true;
}

/*
 * Only hosts that libcurl sends as they are: it rewrites "127.1" and "[0::1]", and a Host header
 * that differs from the signed one is refused.
 */
static bool copy_host(struct atd_str host, char *to, size_t size)
{
    char text[INET6_ADDRSTRLEN + 2];
    struct in6_addr v6;
    struct in_addr v4;

    if (host.len == 0 || host.len >= size)
        return false;
    if (host.ptr[0] == '[') {
        if (host.len < 4 || host.len > sizeof(text) || host.ptr[host.len - 1] != ']')
            return false;
        memcpy(text, host.ptr + 1, host.len - 2);
        text[host.len - 2] = '\0';
        if (inet_pton(AF_INET6, text, &v6) != 1 || !inet_ntop(AF_INET6, &v6, text, sizeof(text)))
            return false;
        (void)snprintf(to, size, "[%s]", text);
        return true;
    }
    for (size_t i = 0; i < host.len; i++) {
        to[i] = lower(host.ptr[i]);
        if (!is_lower_or_digit(to[i]) && to[i] != '-' && to[i] != '_' && to[i] != '.')
            return false;
        if (to[i] == '.' && (i == 0 || to[i - 1] == '.' || i + 1 == host.len))
            return false;
    }
    to[host.len] = '\0';
    return !is_number(to) || inet_pton(AF_INET, to, &v4) == 1;
}

/* "" is none. */
static bool read_port(struct atd_str text, unsigned *ret_port)
{
    unsigned port = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (!is_digit(text.ptr[i]))
            return false;
        port = port * 10 + (unsigned)(text.ptr[i] - '0');
        if (port > PORT_MAX)
            return false;
    }
    *ret_port = port;
    return text.len == 0 || port > 0;
}

/* Of a host without its port, in lower case. */
static bool is_loopback(const char *host)
{
    struct in_addr v4;

    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

static int take_authority(struct atd_str authority, struct atd_s3_site *site, struct atd_error *err)
{
    ptrdiff_t colon = atd_str_find_last(authority, ':');
    ptrdiff_t bracket = atd_str_find_last(authority, ']');
    struct atd_str host = authority;
    struct atd_str port_text = {NULL, 0};
    unsigned port = 0;
    size_t len;

    if (colon > bracket) {
        host = atd_str_head(authority, (size_t)colon);
        port_text = atd_str_from_byte(authority, (size_t)colon + 1);
    }
    /* Room for a port. */
    if (!copy_host(host, site->host, sizeof(site->host) - sizeof(":65535")))
        return atd_error_set(err, EINVAL,
                             "endpoint: '" ATD_STR_FMT "' is not the name or address of a host",
                             ATD_STR_ARG(host));
    if (!read_port(port_text, &port))
        return atd_error_set(err, EINVAL, "endpoint: '" ATD_STR_FMT "' is not a port",
                             ATD_STR_ARG(port_text));
    site->is_this_machine = is_loopback(site->host);
    len = strlen(site->host);
    /* libcurl leaves a default port out of the Host header. */
    if (port != 0 && port != (site->https ? 443u : 80u))
        (void)snprintf(site->host + len, sizeof(site->host) - len, ":%u", port);
    return 0;
}

static bool is_hex(char c)
{
    return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'f');
}

/* Servers compare with what they decoded and encoded again: "%7e" or a raw '+' would not fit. */
static int take_path(struct atd_str path, struct atd_s3_site *site, struct atd_error *err)
{
    char decoded[sizeof(site->path)];
    size_t len = 0;
    struct atd_str rest;
    struct atd_buf encoded = ATD_BUF_INIT(sizeof(site->path) - 1);

    while (path.len > 0 && path.ptr[path.len - 1] == '/')
        path.len--;
    if (path.len >= sizeof(site->path))
        return atd_error_set(err, EINVAL, "endpoint has a path longer than %zu bytes",
                             sizeof(site->path) - 1);
    for (size_t i = 0; i < path.len; i++) {
        unsigned byte = (unsigned char)path.ptr[i];

        if (byte == '%') {
            if (i + 2 >= path.len || !is_hex(path.ptr[i + 1]) || !is_hex(path.ptr[i + 2]) ||
                sscanf(path.ptr + i + 1, "%2x", &byte) != 1)
                return atd_error_set(err, EINVAL, "endpoint has a '%%' without two hex digits");
            i += 2;
        }
        decoded[len++] = (char)byte;
    }
    for (rest = (struct atd_str){decoded, len}; rest.len > 0;) {
        ptrdiff_t slash;
        struct atd_str segment;

        rest = atd_str_from_byte(rest, 1);
        slash = atd_str_find(rest, '/');
        segment = atd_str_head(rest, slash < 0 ? rest.len : (size_t)slash);
        if (atd_str_equal(segment, ATD_STR(".")) || atd_str_equal(segment, ATD_STR("..")))
            return atd_error_set(err, EINVAL, "endpoint has a '.' or '..' in its path");
        rest = atd_str_from_byte(rest, segment.len);
    }
    atd_uri_encode((struct atd_str){decoded, len}, true, &encoded);
    if (encoded.failed) {
        int code = encoded.failed;

        atd_buf_release(&encoded);
        return atd_error_set(err, code == ENOMEM ? ENOMEM : EINVAL,
                             code == ENOMEM ? "endpoint: out of memory"
                                            : "endpoint has a path that is too long");
    }
    if (encoded.len)
        memcpy(site->path, encoded.ptr, encoded.len);
    site->path[encoded.len] = '\0';
    atd_buf_release(&encoded);
    return 0;
}

static bool is_amazon(struct atd_str host, struct atd_str *ret_head)
{
    static const char *const suffixes[] = {".amazonaws.com", ".amazonaws.com.cn"};

    for (size_t i = 0; i < ATD_ARRAY_LEN(suffixes); i++) {
        struct atd_str suffix = atd_str_from(suffixes[i]);

        if (atd_str_ends_with(host, suffix)) {
            *ret_head = atd_str_head(host, host.len - suffix.len);
            return true;
        }
    }
    return false;
}

/* AWS's own addresses of a region are AWS, so that a bucket elsewhere is found there. */
static void recognise_aws(struct atd_s3_site *site)
{
    struct atd_str head;

    if (!is_amazon(atd_str_from(site->host), &head)) {
        if (site->style == ATD_S3_STYLE_AUTO)
            site->style = ATD_S3_STYLE_PATH;
        return;
    }
    if (site->path[0] == '\0' &&
        (atd_str_equal(head, ATD_STR("s3")) ||
         (atd_str_starts_with(head, ATD_STR("s3.")) && atd_str_find_last(head, '.') == 2))) {
        site->is_aws = true;
        site->host[0] = '\0';
        return;
    }
    if (site->style == ATD_S3_STYLE_AUTO)
        site->style = ATD_S3_STYLE_VIRTUAL;
}

int atd_s3_site_init(struct atd_s3_site *ret_site, const char *endpoint, enum atd_s3_style style,
                     struct atd_error *err)
{
    struct atd_s3_site site = {.https = true, .is_aws = !endpoint, .style = style};
    struct atd_str rest = atd_str_from(endpoint ? endpoint : "");
    ptrdiff_t slash;
    int rc;

    if (!endpoint) {
        *ret_site = site;
        return 0;
    }
    rc = check_characters(rest, err);
    if (rc != 0)
        return rc;
    if (take_scheme(&rest, "http://"))
        site.https = false;
    else if (!take_scheme(&rest, "https://"))
        return atd_error_set(err, EINVAL, "endpoint '%s' does not begin with https:// or http://",
                             endpoint);
    slash = atd_str_find(rest, '/');
    if (slash >= 0) {
        rc = take_path(atd_str_from_byte(rest, (size_t)slash), &site, err);
        if (rc != 0)
            return rc;
        rest = atd_str_head(rest, (size_t)slash);
    }
    rc = take_authority(rest, &site, err);
    if (rc != 0)
        return rc;
    if (atd_str_starts_with(atd_str_from(site.host), ATD_STR("s3express")))
        return atd_error_set(err, EINVAL,
                             "endpoint '%s' is one of S3 Express, which signs another "
                             "way: use a bucket of a usual kind",
                             endpoint);
    recognise_aws(&site);
    *ret_site = site;
    return 0;
}

/* ------------------------------------------------------------------ place */

int atd_s3_region_check(const struct atd_s3_site *site, struct atd_str region,
                        struct atd_error *err)
{
    bool ok = region.len > 0 && region.len <= ATD_S3_REGION_MAX;

    for (size_t i = 0; ok && i < region.len; i++) {
        char c = region.ptr[i];

        ok = site->is_aws ? is_lower_or_digit(c) || c == '-'
                          : is_lower_or_digit(lower(c)) || c == '-' || c == '_' || c == '.';
    }
    if (!ok)
        return atd_error_set(err, EINVAL, "'" ATD_STR_FMT "' is not the name of a region",
                             ATD_STR_ARG(region));
    return 0;
}

static int check_bucket(struct atd_str bucket, struct atd_error *err)
{
    const char *wrong = NULL;

    if (bucket.len == 0)
        return atd_error_set(err, EINVAL, "bucket name is empty");
    if (bucket.len > BUCKET_BYTES_MAX)
        wrong = "is too long for a bucket name";
    else if (memchr(bucket.ptr, '\0', bucket.len))
        wrong = "is not a bucket name: there is a NUL in it";
    else if (memchr(bucket.ptr, '/', bucket.len))
        wrong = "is not a bucket name: there is a '/' in it";
    else if (atd_str_equal(bucket, ATD_STR(".")) || atd_str_equal(bucket, ATD_STR("..")))
        wrong = "is not a bucket name";
    else if (atd_str_ends_with(bucket, ATD_STR("--x-s3")))
        wrong = "is a directory bucket of S3 Express, which signs another way: use a bucket of a "
                "usual kind";
    if (wrong)
        return atd_error_set(err, EINVAL, "'" ATD_STR_FMT "' %s", ATD_STR_ARG(bucket), wrong);
    return 0;
}

/* Wildcard certificates hold for one label; old names have upper case or '_'. */
static bool fits_in_host(const struct atd_s3_site *site, struct atd_str bucket)
{
    if (bucket.len < BUCKET_LABEL_MIN || bucket.len > BUCKET_LABEL_MAX)
        return false;
    for (size_t i = 0; i < bucket.len; i++) {
        char c = bucket.ptr[i];
        bool edge = i == 0 || i + 1 == bucket.len;

        if (is_lower_or_digit(c))
            continue;
        if (edge || (c != '-' && (c != '.' || site->https)))
            return false;
        if (c == '.' &&
            (!is_lower_or_digit(bucket.ptr[i - 1]) || !is_lower_or_digit(bucket.ptr[i + 1])))
            return false;
    }
    return true;
}

static bool is_address(const char *host)
{
    char name[sizeof(((struct atd_s3_site *)0)->host)];

    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(host, ":"), host);
    return host[0] == '[' || (host[0] && is_number(name));
}

int atd_s3_place_find(const struct atd_s3_site *site, struct atd_str bucket, struct atd_str region,
                      struct atd_s3_place *ret_place, struct atd_error *err)
{
    struct atd_s3_place place = {.bucket_in_path = true};
    int rc = check_bucket(bucket, err);
    size_t len = 0;

    if (rc != 0)
        return rc;
    if (site->style != ATD_S3_STYLE_PATH && fits_in_host(site, bucket) && !is_address(site->host)) {
        place.bucket_in_path = false;
        memcpy(place.host, bucket.ptr, bucket.len);
        len = bucket.len;
        place.host[len++] = '.';
    }
    if (site->is_aws)
        (void)snprintf(place.host + len, sizeof(place.host) - len,
                       "s3." ATD_STR_FMT ".amazonaws.com%s", ATD_STR_ARG(region),
                       atd_str_starts_with(region, ATD_STR("cn-")) ? ".cn" : "");
    else
        (void)snprintf(place.host + len, sizeof(place.host) - len, "%s", site->host);
    *ret_place = place;
    return 0;
}
