#include "index/redis_changes.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "index/redis_load.h"
#include "index/redis_record.h"

#define WINDOW_MAX 1024u

struct item {
    redisReply *reply; /* NULL: to be read */
    bool cut;
};

struct changes {
    struct atd_redis_link *data;
    struct atd_redis_track *track;
    struct atd_redis_dirty keys; /* all that were taken, each once */
    struct item *items;          /* of the same numbers */
    size_t capacity;
    size_t bytes; /* of all replies so far */
};

static bool has_room(struct changes *changes)
{
    size_t capacity = changes->capacity ? changes->capacity : 16;
    struct item *items;

    while (capacity < changes->keys.count)
        capacity *= 2;
    if (capacity == changes->capacity)
        return true;
    items = reallocarray(changes->items, capacity, sizeof(*items));
    if (!items)
        return false;
    memset(items + changes->capacity, 0, (capacity - changes->capacity) * sizeof(*items));
    changes->items = items;
    changes->capacity = capacity;
    return true;
}

static int too_much(struct atd_error *err)
{
    return atd_error_set(err, EFBIG, "more has changed than is read record by record");
}

/* Whatever was read of them before counts no more. */
static int take_dirty(struct changes *changes, struct atd_error *err)
{
    struct atd_redis_dirty *dirty = atd_redis_track_dirty(changes->track);

    for (size_t i = 0; i < dirty->count; i++) {
        size_t number;

        if (!atd_redis_dirty_add(&changes->keys, atd_redis_dirty_at(dirty, i), &number))
            return too_much(err);
        if (!has_room(changes))
            return atd_error_set(err, ENOMEM, "out of memory");
        if (changes->items[number].reply)
            freeReplyObject(changes->items[number].reply);
        changes->items[number].reply = NULL;
    }
    atd_redis_dirty_clear(dirty);
    return 0;
}

/* ------------------------------------------------------------------ reading */

static bool is_askable(const struct changes *changes, size_t number)
{
    return atd_redis_dirty_at(&changes->keys, number).len <= ATD_REDIS_ARGUMENT_BYTES_MAX;
}

/* The next one from `number` on that is to be read; the count when there is none. */
static size_t next_unread(const struct changes *changes, size_t number)
{
    while (number < changes->keys.count &&
           (changes->items[number].reply || !is_askable(changes, number)))
        number++;
    return number;
}

static size_t size_of(const redisReply *reply)
{
    size_t size = sizeof(*reply) + reply->len;

    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
        size += sizeof(*reply) + reply->element[i]->len;
    return size;
}

static int ask(struct changes *changes, size_t number, struct atd_error *err)
{
    struct atd_str key = atd_redis_dirty_at(&changes->keys, number);

    return atd_redis_link_ask(changes->data,
                              (struct atd_str[]){atd_redis_command_of(atd_redis_kind_of(key)), key},
                              2, err);
}

static int take(struct changes *changes, size_t number, struct atd_error *err)
{
    struct item *item = &changes->items[number];
    int rc = atd_redis_link_next(changes->data, &item->reply, &item->cut, err);

    if (rc)
        return rc;
    changes->bytes += size_of(item->reply);
    return changes->bytes > ATD_REDIS_CHANGES_BYTES_MAX ? too_much(err) : 0;
}

/* Pipelined: asking runs ahead of taking by a window. */
static int read_all(struct changes *changes, struct atd_error *err)
{
    size_t asked = next_unread(changes, 0);
    size_t taken = asked;
    size_t under_way = 0;
    int rc = 0;

    atd_redis_link_set_deadline(changes->data, atd_clock_monotonic_ms() + ATD_REDIS_LOAD_MS);
    while (rc == 0 && taken < changes->keys.count) {
        while (rc == 0 && asked < changes->keys.count && under_way < WINDOW_MAX &&
               atd_redis_link_has_room(changes->data)) {
            rc = ask(changes, asked, err);
            asked = next_unread(changes, asked + 1);
            under_way++;
        }
        if (rc == 0)
            rc = take(changes, taken, err);
        under_way--;
        taken = next_unread(changes, taken + 1);
    }
    return rc;
}

/* Reads until what was read is one state, or there is no end to it. */
static int read_settled(struct changes *changes, struct atd_error *err)
{
    int rc = 0;

    for (int round = 0; rc == 0 && round < ATD_REDIS_CHANGES_ROUNDS_MAX; round++) {
        rc = take_dirty(changes, err);
        if (rc == 0)
            rc = read_all(changes, err);
        if (rc == 0)
            rc = atd_redis_track_barrier(changes->track, err);
        if (rc == 0 && atd_redis_track_news(changes->track) == ATD_NEWS_ALL)
            rc = atd_error_set(err, ESTALE, "everything has changed meanwhile");
        if (rc == 0 && atd_redis_track_news(changes->track) == ATD_NEWS_NONE)
            break;
    }
    return rc;
}

/* ------------------------------------------------------------------ reporting */

static enum atd_index_kind index_kind_of(enum atd_redis_kind kind)
{
    switch (kind) {
    case ATD_REDIS_ENTRY:
        return ATD_INDEX_ENTRY;
    case ATD_REDIS_LABEL:
        return ATD_INDEX_LABEL;
    default:
        return ATD_INDEX_SCHEMA;
    }
}

static int report(struct changes *changes, size_t number, const struct atd_index_sink *sink,
                  struct atd_error *err)
{
    struct atd_str key = atd_redis_dirty_at(&changes->keys, number);
    enum atd_redis_kind kind = atd_redis_kind_of(key);
    const struct item *item = &changes->items[number];
    int rc = sink->gone(sink->ctx, index_kind_of(kind), atd_redis_subject_of(kind, key), err);

    if (rc)
        return rc;
    if (item->reply)
        return atd_redis_record_report(kind, key, item->reply, item->cut, sink, err);
    atd_redis_record_refuse(kind, key, "its key is too long", sink);
    return 0;
}

int atd_redis_changes(struct atd_redis_link *data, struct atd_redis_track *track,
                      const struct atd_index_sink *sink, struct atd_error *err)
{
    struct changes changes = {.data = data, .track = track};
    int rc;

    atd_redis_dirty_init(&changes.keys);
    rc = read_settled(&changes, err);
    for (size_t i = 0; rc == 0 && i < changes.keys.count; i++)
        rc = report(&changes, i, sink, err);
    for (size_t i = 0; i < changes.capacity; i++) {
        if (changes.items[i].reply)
            freeReplyObject(changes.items[i].reply);
    }
    free(changes.items);
    atd_redis_dirty_release(&changes.keys);
    return rc;
}
