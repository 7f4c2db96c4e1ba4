#include "store/stream.h"

#include <errno.h>
#include <stdlib.h>

#include "base/lock.h"

/*
 * A part is a range that is read into memory of its own. Part n lies in slot n % ATD_STREAM_PARTS.
 *
 *     FREE --start--> READING --done--> READ --taken, and the next one wanted--> FREE
 *                                   \--> FAILED (the stream ends there)
 */
enum slot_state { SLOT_FREE, SLOT_READING, SLOT_READ, SLOT_FAILED };

struct slot {
    struct atd_store_get get; /* first */
    struct atd_stream *stream;
    uint8_t *bytes;
    /* guarded by the stream's lock */
    enum slot_state state;
    struct atd_error why;
};

struct atd_stream {
    /* fixed */
    struct atd_store *store;
    char *url;
    size_t url_len;
    struct atd_object_info info;
    unsigned timeout_ms;

    /* the reader's */
    uint64_t taken;   /* parts handed out */
    uint64_t started; /* parts asked for */

    struct atd_lock lock;
    pthread_cond_t wake;
    /* guarded by lock */
    struct slot slots[ATD_STREAM_PARTS];
    bool is_cancelled;
};

int atd_stream_open(struct atd_store *store, struct atd_str url, const struct atd_object_info *info,
                    unsigned timeout_ms, struct atd_stream **ret_stream, struct atd_error *err)
{
    struct atd_stream *stream = calloc(1, sizeof(*stream));

    if (stream)
        stream->url = strndup(url.ptr, url.len);
    if (!stream || !stream->url) {
        free(stream);
        return atd_error_set(err, ENOMEM, "reading an object: out of memory");
    }
    stream->store = store;
    stream->url_len = url.len;
    stream->info = *info;
    stream->timeout_ms = timeout_ms;
    atd_lock_init(&stream->lock, ATD_RANK_STREAM);
    atd_cond_init(&stream->wake);
    for (unsigned i = 0; i < ATD_STREAM_PARTS; i++)
        stream->slots[i].stream = stream;
    *ret_stream = stream;
    return 0;
}

uint64_t atd_stream_offset(const struct atd_stream *stream)
{
    uint64_t offset = stream->taken * ATD_STREAM_PART_BYTES;

    return offset < stream->info.size_bytes ? offset : stream->info.size_bytes;
}

/* From a thread of the store's. */
static void on_done(struct atd_store_get *get, const struct atd_error *why)
{
    struct slot *slot = (struct slot *)(void *)get;
    struct atd_stream *stream = slot->stream;

    atd_lock_take(&stream->lock);
    slot->state = why ? SLOT_FAILED : SLOT_READ;
    if (why)
        slot->why = *why;
    (void)pthread_cond_broadcast(&stream->wake);
    atd_lock_give(&stream->lock);
}

/* Asks for parts as far ahead as there are slots. */
static int ask_ahead(struct atd_stream *stream, struct atd_error *err)
{
    while (stream->started < stream->taken + ATD_STREAM_PARTS &&
           stream->started * ATD_STREAM_PART_BYTES < stream->info.size_bytes) {
        struct slot *slot = &stream->slots[stream->started % ATD_STREAM_PARTS];
        uint64_t first = stream->started * ATD_STREAM_PART_BYTES;
        uint64_t left = stream->info.size_bytes - first;

        if (!slot->bytes)
            slot->bytes =
                malloc(left < ATD_STREAM_PART_BYTES ? (size_t)left : ATD_STREAM_PART_BYTES);
        if (!slot->bytes)
            return atd_error_set(err, ENOMEM, "reading an object: out of memory");
        slot->get = (struct atd_store_get){
            .url = {stream->url, stream->url_len},
            .first = first,
            .end = first + (left < ATD_STREAM_PART_BYTES ? left : ATD_STREAM_PART_BYTES),
            .expect = &stream->info,
            .into = slot->bytes,
            .urgent = true,
            .stall_timeout_ms = stream->timeout_ms,
            .done = on_done,
        };
        atd_lock_take(&stream->lock);
        slot->state = SLOT_READING;
        atd_lock_give(&stream->lock);
        stream->started++;
        atd_store_get_start(stream->store, &slot->get);
    }
    return 0;
}

/* Waits for a part. */
static int await(struct atd_stream *stream, struct slot *slot, struct atd_error *err)
{
    int rc = 0;

    atd_lock_take(&stream->lock);
    while (slot->state == SLOT_READING && !stream->is_cancelled)
        atd_cond_wait(&stream->wake, &stream->lock);
    if (stream->is_cancelled)
        rc = atd_error_set(err, ECANCELED, "the reading was cancelled");
    else if (slot->state == SLOT_FAILED) {
        rc = -slot->why.code;
        if (err)
            *err = slot->why;
    }
    atd_lock_give(&stream->lock);
    return rc;
}

int atd_stream_next(struct atd_stream *stream, struct atd_bytes *ret_bytes, struct atd_error *err)
{
    struct slot *slot = &stream->slots[stream->taken % ATD_STREAM_PARTS];
    int rc;

    if (stream->taken * ATD_STREAM_PART_BYTES >= stream->info.size_bytes) {
        *ret_bytes = (struct atd_bytes){NULL, 0};
        return 0;
    }
    /* The part handed out last is asked for anew only now: its bytes were valid till this call. */
    rc = ask_ahead(stream, err);
    if (rc == 0)
        rc = await(stream, slot, err);
    if (rc)
        return rc;
    *ret_bytes = (struct atd_bytes){slot->bytes, (size_t)(slot->get.end - slot->get.first)};
    stream->taken++;
    return 0;
}

void atd_stream_cancel(struct atd_stream *stream)
{
    atd_lock_take(&stream->lock);
    stream->is_cancelled = true;
    (void)pthread_cond_broadcast(&stream->wake);
    atd_lock_give(&stream->lock);
}

void atd_stream_free(struct atd_stream *stream)
{
    if (!stream)
        return;
    atd_lock_take(&stream->lock);
    for (unsigned i = 0; i < ATD_STREAM_PARTS; i++) {
        /* Before done was called only, which this lock decides; the store takes its own locks in
         * it, which come later in the order. */
        if (stream->slots[i].state == SLOT_READING)
            atd_store_get_cancel(stream->store, &stream->slots[i].get);
    }
    for (unsigned i = 0; i < ATD_STREAM_PARTS; i++) {
        while (stream->slots[i].state == SLOT_READING)
            atd_cond_wait(&stream->wake, &stream->lock);
    }
    atd_lock_give(&stream->lock);
    for (unsigned i = 0; i < ATD_STREAM_PARTS; i++)
        free(stream->slots[i].bytes);
    (void)pthread_cond_destroy(&stream->wake);
    atd_lock_destroy(&stream->lock);
    free(stream->url);
    free(stream);
}
