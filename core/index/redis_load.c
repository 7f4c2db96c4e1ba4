#include "index/redis_load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/limits.h"
#include "index/redis_missed.h"
#include "index/redis_record.h"

/* Commands under way; a hint of 1000 gives the server work for about 3 ms. */
#define WINDOW_MAX 2048u
/* More is sent as soon as this few are under way, so that the server never runs dry. */
#define WINDOW_REFILL (WINDOW_MAX / 2)
#define CURSOR_BYTES_MAX 20 /* an unsigned 64-bit number */

/* One reply of SCAN: its keys are read while the next page is asked for. */
struct page {
    redisReply *reply;
    const redisReply *keys; /* within reply */
    size_t next;            /* the first key that was not asked for */
    size_t users;           /* replies that are to come, and one while `next` goes on */
};

struct pending {
    enum atd_redis_kind kind;
    struct page *page; /* NULL: a reply of SCAN, or what is read behind the walk */
    struct atd_str key;
};

struct load {
    struct atd_redis_link *link;
    const struct atd_index_sink *sink;
    struct atd_redis_load_result result;
    char count[16];
    char cursor[CURSOR_BYTES_MAX + 1]; /* for the next SCAN */
    bool scan_asked;
    bool scan_done;
    uint64_t pages;
    struct page *current; /* whose keys are being asked for */
    struct page *following;
    struct atd_redis_missed missed;
    struct pending pending[WINDOW_MAX]; /* a ring, in the order of asking */
    size_t first;
    size_t under_way;
};

static void leave_page(struct page *page)
{
    if (!page || --page->users > 0)
        return;
    freeReplyObject(page->reply);
    free(page);
}

/* ------------------------------------------------------------------ asking */

static void note_pending(struct load *load, struct pending pending)
{
    atd_assert(load->under_way < WINDOW_MAX);
    load->pending[(load->first + load->under_way) % WINDOW_MAX] = pending;
    load->under_way++;
}

static int ask_scan(struct load *load, struct atd_error *err)
{
    const struct atd_str command[] = {ATD_STR("SCAN"),  atd_str_from(load->cursor),
                                      ATD_STR("MATCH"), ATD_STR(ATD_REDIS_KEYS_PATTERN),
                                      ATD_STR("COUNT"), atd_str_from(load->count)};
    int rc = atd_redis_link_ask(load->link, command, ATD_ARRAY_LEN(command), err);

    if (rc)
        return rc;
    load->scan_asked = true;
    note_pending(load, (struct pending){ATD_REDIS_OTHER, NULL, {NULL, 0}});
    return 0;
}

static int ask_key(struct load *load, struct page *page, const redisReply *reply,
                   struct atd_error *err)
{
    struct atd_str key = atd_redis_reply_text(reply);
    enum atd_redis_kind kind;
    int rc;

    if (reply->type != REDIS_REPLY_STRING) {
        load->sink->problem(load->sink->ctx, "key", ATD_STR(""), "a key is too long to be read");
        return 0;
    }
    kind = atd_redis_kind_of(key);
    if (kind == ATD_REDIS_OTHER)
        return 0;
    if (++load->result.keys > ATD_REDIS_KEYS_MAX)
        return atd_error_set(err, EFBIG, "it has more than %u keys", ATD_REDIS_KEYS_MAX);
    if (key.len > ATD_REDIS_ARGUMENT_BYTES_MAX) {
        atd_redis_record_refuse(kind, key, "its key is too long", load->sink);
        return 0;
    }
    rc =
        atd_redis_link_ask(load->link, (struct atd_str[]){atd_redis_command_of(kind), key}, 2, err);
    if (rc)
        return rc;
    page->users++;
    note_pending(load, (struct pending){kind, page, key});
    return 0;
}

/* Asks for as much as the window takes. */
static int refill(struct load *load, struct atd_error *err)
{
    int rc = 0;

    while (rc == 0 && load->under_way < WINDOW_MAX && atd_redis_link_has_room(load->link)) {
        struct page *page = load->current;

        if (!load->scan_asked && !load->scan_done && !load->following) {
            rc = ask_scan(load, err);
        } else if (page && page->next < page->keys->elements) {
            rc = ask_key(load, page, page->keys->element[page->next], err);
            page->next++;
        } else if (page || load->following) {
            load->current = load->following;
            load->following = NULL;
            leave_page(page);
        } else {
            break;
        }
    }
    return rc;
}

/* ------------------------------------------------------------------ taking in */

static bool is_cursor(const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_STRING || reply->len == 0 || reply->len > CURSOR_BYTES_MAX)
        return false;
    for (size_t i = 0; i < reply->len; i++) {
        if (reply->str[i] < '0' || reply->str[i] > '9')
            return false;
    }
    return true;
}

static bool is_page(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
           is_cursor(reply->element[0]) && reply->element[1]->type == REDIS_REPLY_ARRAY;
}

/* Notes where the walk goes on, or that it has ended. */
static int take_cursor(struct load *load, const redisReply *cursor, struct atd_error *err)
{
    load->scan_asked = false;
    load->scan_done = strcmp(cursor->str, "0") == 0;
    if (load->scan_done)
        return 0;
    if (strcmp(cursor->str, load->cursor) == 0 || ++load->pages > ATD_REDIS_PAGES_MAX)
        return atd_error_set(err, EPROTO, "the server's list of keys has no end");
    memcpy(load->cursor, cursor->str, cursor->len + 1);
    return 0;
}

/* The reply is taken, whatever comes of it. */
static int take_page(struct load *load, redisReply *reply, struct atd_error *err)
{
    struct page *page;
    int rc = 0;

    if (reply->type == REDIS_REPLY_ERROR)
        rc = atd_redis_error_set(atd_redis_reply_text(reply), "listing the keys", ATD_REDIS_QUOTE,
                                 err);
    else if (!is_page(reply))
        rc = atd_error_set(err, EPROTO, "the server's answer to SCAN is of an unexpected form");
    else
        rc = take_cursor(load, reply->element[0], err);
    page = rc ? NULL : calloc(1, sizeof(*page));
    if (rc == 0 && !page)
        rc = atd_error_set(err, ENOMEM, "out of memory");
    if (rc) {
        freeReplyObject(reply);
        return rc;
    }
    atd_assert(!load->following);
    *page = (struct page){.reply = reply, .keys = reply->element[1], .users = 1};
    load->following = page;
    return 0;
}

static uint64_t mix(uint64_t sum, struct atd_str text)
{
    uint64_t word;

    sum ^= text.len;
    for (; text.len >= sizeof(word); text = atd_str_from_byte(text, sizeof(word))) {
        memcpy(&word, text.ptr, sizeof(word));
        sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 29;
    }
    for (size_t i = 0; i < text.len; i++)
        sum = (sum ^ (unsigned char)text.ptr[i]) * 0x9e3779b97f4a7c15u;
    return sum * 0xff51afd7ed558ccdu;
}

/* Adds the record; addition, so that the order of SCAN does not matter. */
static void add_to_digest(struct load *load, struct atd_str key, const redisReply *reply)
{
    uint64_t sum = mix(0, key);
    uint64_t fields = mix(sum, atd_redis_reply_text(reply));

    for (size_t i = 0; i + 1 < reply->elements; i += 2)
        fields += mix(mix(sum, atd_redis_reply_text(reply->element[i])),
                      atd_redis_reply_text(reply->element[i + 1]));
    load->result.digest += mix(fields, ATD_STR("record"));
}

/* Entries and labels pass through here, so that what the walk missed is known (redis_missed.h). */
struct report {
    struct load *load;
    struct atd_str key;
};

static int on_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    const struct report *report = ctx;
    struct load *load = report->load;

    atd_redis_missed_note_name(&load->missed, report->key, entry->name);
    return load->sink->entry(load->sink->ctx, entry, err);
}

static int on_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    struct load *load = ((const struct report *)ctx)->load;

    if (!atd_redis_missed_note_label(&load->missed, label))
        return 0;
    return load->sink->label(load->sink->ctx, label, err);
}

static int on_schema(void *ctx, const struct atd_index_schema *schema, struct atd_error *err)
{
    const struct load *load = ((const struct report *)ctx)->load;

    return load->sink->schema(load->sink->ctx, schema, err);
}

static void on_problem(void *ctx, const char *what, struct atd_str key, const char *reason)
{
    const struct load *load = ((const struct report *)ctx)->load;

    load->sink->problem(load->sink->ctx, what, key, reason);
}

static int report(struct load *load, const struct pending *pending, const redisReply *reply,
                  bool cut, struct atd_error *err)
{
    struct report ctx = {load, pending->key};
    const struct atd_index_sink sink = {&ctx, on_entry, on_label, on_schema, NULL, on_problem};

    if (pending->kind == ATD_REDIS_ENTRY && reply->type == REDIS_REPLY_ARRAY) {
        if (reply->elements)
            atd_redis_missed_note_entry(&load->missed, pending->key);
        else
            atd_redis_missed_note_gone(&load->missed, pending->key);
    }
    return atd_redis_record_report(pending->kind, pending->key, reply, cut, &sink, err);
}

static int take_reply(struct load *load, struct atd_error *err)
{
    struct pending pending = load->pending[load->first];
    redisReply *reply = NULL;
    bool cut = false;
    int rc = atd_redis_link_next(load->link, &reply, &cut, err);

    if (rc)
        return rc;
    load->first = (load->first + 1) % WINDOW_MAX;
    load->under_way--;
    if (pending.kind == ATD_REDIS_OTHER)
        return take_page(load, reply, err);
    add_to_digest(load, pending.key, reply);
    rc = report(load, &pending, reply, cut, err);
    freeReplyObject(reply);
    leave_page(pending.page);
    return rc;
}

/* ------------------------------------------------------------------ the load */

/* S3-REDIS 7: larger pages when the way is long. */
static unsigned count_for(unsigned round_trip_us)
{
    if (round_trip_us <= 300)
        return 1000;
    return round_trip_us <= 1000 ? 2000 : 5000;
}

static int walk(struct load *load, struct atd_error *err)
{
    int rc = refill(load, err);

    while (rc == 0 && load->under_way > 0) {
        rc = take_reply(load, err);
        if (rc == 0 && load->under_way <= WINDOW_REFILL)
            rc = refill(load, err);
    }
    /* Its answers came before the questions were out. */
    if (rc == 0 && (!load->scan_done || load->current || load->following))
        rc = atd_error_set(err, EPROTO, "the server answers what it was not asked");
    return rc;
}

static int ask_missed(struct load *load, enum atd_redis_kind kind, struct atd_str key,
                      struct atd_error *err)
{
    int rc;

    if (key.len > ATD_REDIS_ARGUMENT_BYTES_MAX)
        return 0;
    rc =
        atd_redis_link_ask(load->link, (struct atd_str[]){atd_redis_command_of(kind), key}, 2, err);
    if (rc == 0)
        note_pending(load, (struct pending){kind, NULL, key});
    return rc;
}

/* Reads all that `next` names, in the window. */
static int read_missed(struct load *load, enum atd_redis_kind kind,
                       bool (*next)(struct atd_redis_missed *, struct atd_str *),
                       struct atd_error *err)
{
    struct atd_str key;
    bool more = true;
    int rc = 0;

    while (rc == 0 && (more || load->under_way > 0)) {
        while (rc == 0 && more && load->under_way < WINDOW_MAX &&
               (load->under_way == 0 || atd_redis_link_has_room(load->link))) {
            more = next(&load->missed, &key);
            if (more)
                rc = ask_missed(load, kind, key, err);
        }
        if (rc == 0 && load->under_way > 0)
            rc = take_reply(load, err);
    }
    return rc;
}

/* What came or went during the walk (redis_missed.h). */
static int follow_labels(struct load *load, struct atd_error *err)
{
    int rc = read_missed(load, ATD_REDIS_ENTRY, atd_redis_missed_next_entry, err);

    while (rc == 0 && atd_redis_missed_begin_round(&load->missed)) {
        rc = read_missed(load, ATD_REDIS_LABEL, atd_redis_missed_next_label, err);
        if (rc == 0)
            rc = read_missed(load, ATD_REDIS_ENTRY, atd_redis_missed_next_entry, err);
    }
    return rc;
}

static void release(struct load *load)
{
    for (; load->under_way > 0; load->under_way--) {
        leave_page(load->pending[load->first].page);
        load->first = (load->first + 1) % WINDOW_MAX;
    }
    leave_page(load->current);
    leave_page(load->following);
    atd_redis_missed_release(&load->missed);
    free(load);
}

int atd_redis_load(struct atd_redis_link *link, unsigned round_trip_us,
                   const struct atd_index_sink *sink, struct atd_redis_load_result *ret_result,
                   struct atd_error *err)
{
    struct load *load = calloc(1, sizeof(*load));
    int rc;

    if (!load)
        return atd_error_set(err, ENOMEM, "out of memory");
    load->link = link;
    load->sink = sink;
    atd_redis_missed_init(&load->missed);
    (void)strcpy(load->cursor, "0");
    (void)snprintf(load->count, sizeof(load->count), "%u", count_for(round_trip_us));
    atd_redis_link_set_deadline(link, atd_clock_monotonic_ms() + ATD_REDIS_LOAD_MS);
    rc = walk(load, err);
    if (rc == 0)
        rc = follow_labels(load, err);
    if (rc == 0)
        *ret_result = load->result;
    release(load);
    return rc;
}
