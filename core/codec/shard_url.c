#include "atdata/shard_url.h"

#include <errno.h>

#include "base/check.h"
#include "base/hex.h"
#include "base/utf8.h"
#include "codec/shard_url_scheme.h"

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool equal_without_case(struct atd_str a, struct atd_str lower)
{
    if (a.len != lower.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (ascii_lower(a.ptr[i]) != lower.ptr[i])
            return false;
    return true;
}

struct atd_str atd_shard_url_scheme(struct atd_str text)
{
    size_t len = 0;

    if (text.len == 0 || !is_alpha(text.ptr[0]))
        return (struct atd_str){text.ptr, 0};
    while (len < text.len && (is_alpha(text.ptr[len]) || is_digit(text.ptr[len]) ||
                              text.ptr[len] == '+' || text.ptr[len] == '-' || text.ptr[len] == '.'))
        len++;
    if (len < 2 || len == text.len || text.ptr[len] != ':')
        return (struct atd_str){text.ptr, 0};
    return atd_str_head(text, len);
}

bool atd_shard_url_scheme_is(struct atd_str scheme, const char *lower_name)
{
    return equal_without_case(scheme, atd_str_from(lower_name));
}

struct atd_url_quote atd_shard_url_quote(struct atd_str text)
{
    size_t start = atd_shard_url_scheme(text).len;
    struct atd_url_quote quote = {{text.ptr, 0}, "", text};
    struct atd_str authority;
    ptrdiff_t slash;
    ptrdiff_t at;
    size_t end = 0;

    if (start > 0) {
        start++; /* the colon */
        while (start < text.len && text.ptr[start] == '/')
            start++;
        authority = atd_str_from_byte(text, start);
        slash = atd_str_find(authority, '/');
        if (slash >= 0)
            authority = atd_str_head(authority, (size_t)slash);
        at = atd_str_find_last(authority, '@');
        if (at >= 0) {
            quote.head = atd_str_head(text, start);
            quote.stars = "***";
            quote.tail = atd_str_from_byte(text, start + (size_t)at);
        }
    }
    while (end < quote.tail.len && quote.tail.ptr[end] != '?' && quote.tail.ptr[end] != '#')
        end++;
    quote.tail = atd_str_head(quote.tail, end);
    return quote;
}

/* `complaint` follows the quoted URL. */
static int refuse(struct atd_str text, int code, const char *complaint, struct atd_error *err)
{
    struct atd_url_quote quote = atd_shard_url_quote(text);

    return atd_error_set(err, code, "url '" ATD_URL_QUOTE_FMT "'%s", ATD_URL_QUOTE_ARG(quote),
                         complaint);
}

static int refuse_utf8(struct atd_str text, size_t bad_at, struct atd_error *err)
{
    struct atd_url_quote quote = atd_shard_url_quote(text);

    return atd_error_set(err, EINVAL, "url '" ATD_URL_QUOTE_FMT "' is not UTF-8 at byte %zu",
                         ATD_URL_QUOTE_ARG(quote), bad_at);
}

static struct atd_str last_segment(struct atd_str path)
{
    return atd_str_from_byte(path, (size_t)(atd_str_find_last(path, '/') + 1));
}

/* `rest` is what follows "s3:". */
static int parse_s3(struct atd_str rest, struct atd_shard_url *url, struct atd_error *err)
{
    ptrdiff_t slash;

    if (!atd_str_starts_with(rest, ATD_STR("//")))
        return refuse(url->text, EINVAL, " has no // after its scheme", err);
    rest = atd_str_from_byte(rest, 2);
    slash = atd_str_find(rest, '/');
    url->bucket = slash < 0 ? rest : atd_str_head(rest, (size_t)slash);
    if (url->bucket.len == 0)
        return refuse(url->text, EINVAL, " names no bucket", err);
    if (slash < 0 || (size_t)slash + 1 == rest.len)
        return refuse(url->text, EINVAL, " names no object in its bucket", err);
    url->key = atd_str_from_byte(rest, (size_t)slash + 1);
    url->last = last_segment(url->key);
    url->scheme = ATD_URL_S3;
    return 0;
}

/* Splits "host/rest" (what follows "//"): true when there is a slash, which stays in *rest. */
static bool split_host(struct atd_str *rest, struct atd_str *ret_host)
{
    ptrdiff_t slash = atd_str_find(*rest, '/');

    if (slash < 0)
        return false;
    *ret_host = atd_str_head(*rest, (size_t)slash);
    *rest = atd_str_from_byte(*rest, (size_t)slash);
    return true;
}

/* `rest` is what follows "http:" or "https:". */
static int parse_http(struct atd_str rest, struct atd_shard_url *url, struct atd_error *err)
{
    struct atd_str host = {rest.ptr, 0};
    size_t end = 0;

    if (!atd_str_starts_with(rest, ATD_STR("//")))
        return refuse(url->text, EINVAL, " has no // after its scheme", err);
    rest = atd_str_from_byte(rest, 2);
    while (end < rest.len && rest.ptr[end] != '?' && rest.ptr[end] != '#')
        end++;
    rest = atd_str_head(rest, end);
    if (!split_host(&rest, &host)) {
        host = rest;
        rest = (struct atd_str){rest.ptr + rest.len, 0};
    }
    if (host.len == 0)
        return refuse(url->text, EINVAL, " names no host", err);
    url->last = last_segment(rest);
    url->scheme = ATD_URL_HTTP;
    return 0;
}

/* Undoes %XX; a '%' without two hex digits stays. */
static int percent_decode(struct atd_str *path, struct atd_arena *arena, struct atd_str url_text,
                          struct atd_error *err)
{
    char *decoded;
    size_t len = 0;

    if (atd_str_find(*path, '%') < 0)
        return 0;
    decoded = atd_arena_alloc(arena, path->len);
    if (!decoded)
        return refuse(url_text, ENOMEM, ": out of memory", err);
    for (size_t at = 0; at < path->len; at++) {
        int high = path->len - at > 2 ? atd_hex_value(path->ptr[at + 1]) : -1;
        int low = path->len - at > 2 ? atd_hex_value(path->ptr[at + 2]) : -1;

        if (path->ptr[at] == '%' && high >= 0 && low >= 0) {
            decoded[len++] = (char)(high << 4 | low);
            at += 2;
        } else {
            decoded[len++] = path->ptr[at];
        }
    }
    *path = (struct atd_str){decoded, len};
    if (memchr(decoded, '\0', len) || !atd_utf8_is_valid(*path, NULL))
        return refuse(url_text, EINVAL, " stands for a path with NUL or invalid UTF-8", err);
    return 0;
}

/* `rest` is what follows "file:". Source: RFC 8089, sections 2 and 3. */
static int parse_file(struct atd_str rest, struct atd_arena *arena, struct atd_shard_url *url,
                      struct atd_error *err)
{
    int rc;

    if (atd_str_starts_with(rest, ATD_STR("//"))) {
        struct atd_str host = {rest.ptr, 0};

        rest = atd_str_from_byte(rest, 2);
        if (!split_host(&rest, &host))
            return refuse(url->text, EINVAL, " names no path", err);
        if (host.len && !equal_without_case(host, ATD_STR("localhost")))
            return refuse(url->text, EINVAL, " names a file of another host", err);
    }
    if (rest.len == 0)
        return refuse(url->text, EINVAL, " names no path", err);
    /* Decided before %2F is undone: what was not written absolute is not. */
    url->scheme = rest.ptr[0] == '/' ? ATD_URL_LOCAL : ATD_URL_RELATIVE;
    url->path = rest;
    rc = percent_decode(&url->path, arena, url->text, err);
    url->last = last_segment(url->path);
    return rc;
}

static int parse_checked(struct atd_arena *arena, struct atd_shard_url *url, struct atd_error *err)
{
    struct atd_str rest;

    url->scheme_text = atd_shard_url_scheme(url->text);
    if (url->scheme_text.len == 0) {
        url->scheme = url->text.ptr[0] == '/' ? ATD_URL_LOCAL : ATD_URL_RELATIVE;
        url->path = url->text;
        url->last = last_segment(url->text);
        return 0;
    }
    rest = atd_str_from_byte(url->text, url->scheme_text.len + 1);
    if (atd_shard_url_scheme_is(url->scheme_text, "s3"))
        return parse_s3(rest, url, err);
    if (atd_shard_url_scheme_is(url->scheme_text, "http") ||
        atd_shard_url_scheme_is(url->scheme_text, "https"))
        return parse_http(rest, url, err);
    if (atd_shard_url_scheme_is(url->scheme_text, "file"))
        return parse_file(rest, arena, url, err);
    url->scheme = ATD_URL_OTHER;
    url->last = last_segment(rest);
    return 0;
}

int atd_shard_url_parse(struct atd_str text, struct atd_arena *arena, struct atd_shard_url *ret_url,
                        struct atd_error *err)
{
    struct atd_shard_url url = {.text = text};
    size_t bad_at = 0;
    int rc;

    if (text.len == 0)
        return atd_error_set(err, EINVAL, "url is empty");
    if (memchr(text.ptr, '\0', text.len))
        return refuse(text, EINVAL, " holds a NUL", err);
    if (!atd_utf8_is_valid(text, &bad_at))
        return refuse_utf8(text, bad_at, err);
    rc = parse_checked(arena, &url, err);
    if (rc == 0)
        *ret_url = url;
    return rc;
}
