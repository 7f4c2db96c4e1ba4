#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "atdata/shard_url.h"
#include "base/cleanup.h"
#include "codec/shard_url_scheme.h"
#include "store/hosts.h"
#include "store/remote.h"
#include "store/stores.h"

#define KIND "http"
/* As long as any server takes (most stop at 8 KiB); presigned URLs with a session token are 2. */
#define URL_MAX 16384u

struct http_store {
    struct atd_remote remote; /* first */
    struct atd_hosts hosts;
};

static int refuse_url(struct atd_str url, const char *complaint, struct atd_error *err)
{
    char what[ATD_REMOTE_WHAT_MAX];

    atd_remote_what(url, what);
    return atd_error_set(err, EINVAL, "%s %s", what, complaint);
}

/* "host:port" of a parsed URL; user info is still in it. */
static struct atd_str authority_of(const struct atd_shard_url *parts)
{
    struct atd_str rest =
        atd_str_from_byte(parts->text, parts->scheme_text.len + sizeof("://") - 1);
    size_t end = 0;

    while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?' && rest.ptr[end] != '#')
        end++;
    return atd_str_head(rest, end);
}

static struct http_store *of_call(const struct atd_remote_call *call)
{
    return (struct http_store *)call->remote;
}

static int http_open(struct atd_remote_call *call, struct atd_error *err)
{
    struct atd_arena unused = ATD_ARENA_INIT(0); /* for file: URLs only */
    struct atd_shard_url parts;
    int rc = atd_shard_url_parse(call->url, &unused, &parts, err);

    atd_arena_release(&unused);
    if (rc)
        return rc;
    if (parts.scheme != ATD_URL_HTTP)
        return refuse_url(call->url, "is not an http:// or https:// URL", err);
    if (call->url.len > URL_MAX)
        return refuse_url(call->url, "is too long", err);
    call->place = authority_of(&parts);
    if (atd_str_find(call->place, '@') >= 0)
        return refuse_url(call->url, "holds a user or password, which are not sent", err);
    for (size_t i = 0; i < call->place.len; i++) {
        uint8_t byte = (uint8_t)call->place.ptr[i];

        /* A '\' ends the host in some readers of URLs and not in others. */
        if (byte <= 0x20 || byte >= 0x7f || byte == '\\' || byte == '%')
            return refuse_url(call->url, "has a host name that is not plain ASCII", err);
    }
    call->call.endpoint = atd_hosts_endpoint(&of_call(call)->hosts, call->place);
    return 0;
}

/*
 * The URL as it is sent: without the fragment, which is not for the server; what cannot stand in
 * one (blanks, control characters, bytes beyond ASCII) is escaped, all else stays: the server's own
 * spelling is what it knows.
 */
static const char *wire_url(struct atd_str url, struct atd_arena *arena)
{
    static const char hex[] = "0123456789ABCDEF";
    ptrdiff_t fragment = atd_str_find(url, '#');
    size_t len = fragment >= 0 ? (size_t)fragment : url.len;
    char *text = atd_arena_alloc(arena, 3 * len + 1);
    size_t at = 0;

    if (!text)
        return NULL;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)url.ptr[i];

        if (byte > 0x20 && byte < 0x7f) {
            text[at++] = (char)byte;
        } else {
            text[at++] = '%';
            text[at++] = hex[byte >> 4];
            text[at++] = hex[byte & 15];
        }
    }
    text[at] = '\0';
    return text;
}

static void add_header(struct atd_http_message *message, const char *name, struct atd_str value)
{
    message->headers[message->header_count++] = (struct atd_http_header){atd_str_from(name), value};
}

static int http_prepare(struct atd_remote_call *call, bool has_range, uint64_t first_byte,
                        uint64_t last_byte, const char *if_match, struct atd_arena *arena,
                        struct atd_http_message *ret_message, struct atd_error *err)
{
    char range[64]; /* two numbers of 20 digits */
    struct atd_str range_value;
    struct atd_str if_match_value = atd_arena_str(arena, atd_str_from(if_match));
    const char *url = wire_url(call->url, arena);

    (void)snprintf(range, sizeof(range), "bytes=%" PRIu64 "-%" PRIu64, first_byte, last_byte);
    range_value = atd_arena_str(arena, atd_str_from(range));
    if (!url || !range_value.ptr || !if_match_value.ptr)
        return atd_error_set(err, ENOMEM, "a request could not be made: out of memory");
    *ret_message = (struct atd_http_message){
        .method = call->operation == ATD_REMOTE_HEAD ? "HEAD" : "GET",
        .url = url,
    };
    /* A packed form of the object has other bytes at the same place. */
    add_header(ret_message, "accept-encoding", ATD_STR("identity"));
    if (has_range)
        add_header(ret_message, "range", range_value);
    if (if_match_value.len)
        add_header(ret_message, "if-match", if_match_value);
    return 0;
}

static enum atd_verdict http_judge_error(struct atd_remote_call *call,
                                         const struct atd_http_head *head, struct atd_bytes body,
                                         struct atd_error *err)
{
    char what[ATD_REMOTE_WHAT_MAX];
    int status = head->status;

    (void)body; /* a page for people */
    atd_remote_what(call->url, what);
    switch (status) {
    case 404:
    case 410:
        (void)atd_error_set(err, ENOENT, "%s is not at the server any more (status %d)", what,
                            status);
        return ATD_VERDICT_FAIL;
    case 401:
    case 403:
    case 407:
    case 451:
        (void)atd_error_set(err, EACCES,
                            "%s: the server refuses it (status %d); a signed URL may have expired",
                            what, status);
        return ATD_VERDICT_FAIL;
    case 412:
        (void)atd_error_set(err, ESTALE,
                            "%s is another version now than the one that was looked up", what);
        return ATD_VERDICT_FAIL;
    case 429:
    case 503:
        (void)atd_error_set_retryable(err, EIO, "%s: the server asks to slow down (status %d)",
                                      what, status);
        return ATD_VERDICT_THROTTLED;
    case 408:
    case 425:
        break;
    default:
        if (status >= 500 && status != 501 && status != 505)
            break;
        (void)atd_error_set(err, EIO, "%s: the server answered with status %d", what, status);
        return ATD_VERDICT_FAIL;
    }
    (void)atd_error_set_retryable(err, EIO, "%s: the server is in trouble (status %d)", what,
                                  status);
    return ATD_VERDICT_RETRY;
}

static const struct atd_remote_ops remote_ops = {
    .call_size = sizeof(struct atd_remote_call),
    .open = http_open,
    .prepare = http_prepare,
    .judge_error = http_judge_error,
};

static void http_speed(struct atd_store *store, unsigned *ret_first_byte_ms,
                       uint64_t *ret_bytes_per_s)
{
    atd_hosts_speed(&((struct http_store *)store)->hosts, ret_first_byte_ms, ret_bytes_per_s);
}

static void http_free(struct atd_store *base)
{
    struct http_store *store = (struct http_store *)base;

    if (!atd_remote_release(&store->remote))
        return;
    atd_hosts_release(&store->hosts);
    free(store);
}

static const struct atd_store_ops store_ops = {
    .kind = KIND,
    .get_start = atd_remote_get_start,
    .get_cancel = atd_remote_get_cancel,
    .get_make_urgent = atd_remote_get_make_urgent,
    .stat = atd_remote_stat,
    .speed = http_speed,
    .free = http_free,
};

int atd_store_http_new(struct atd_http_engine *engine, const struct atd_endpoint_limits *limits,
                       struct atd_store **ret_store, struct atd_error *err)
{
    struct http_store *store = calloc(1, sizeof(*store));
    struct atd_remote *remote;
    int rc;

    if (!store)
        return atd_error_set(err, ENOMEM, "http store: out of memory");
    remote = &store->remote;
    rc = atd_remote_init(remote, &store_ops, &remote_ops, engine, limits, err);
    if (rc) {
        free(store);
        return rc;
    }
    atd_hosts_init(&store->hosts, engine, limits ? limits : &atd_endpoint_limits_default,
                   remote->endpoint);
    remote->follow_redirects = true;
    remote->refuse_link_local = true;
    remote->doubts_empty_heads = true;
    remote->may_ignore_ranges = true;
    *ret_store = &remote->store;
    return 0;
}
