#include "dataset/shard_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/lock.h"

#define LOCAL_PART_BYTES ((size_t)1 << 20)
#define PARTS_MAX 256u

struct part {
    struct atd_store_get get; /* first */
    struct atd_shard_stream *stream;
    uint8_t *bytes;       /* ATD_STREAM_PART_BYTES, or the whole shard when that is less */
    bool is_under_way;    /* guarded */
    struct atd_error why; /* guarded; code 0: it came */
};

struct atd_shard_stream {
    const struct atd_shard_source *source;
    struct atd_object_info info;
    uint64_t size_bytes;
    uint64_t taken; /* bytes that were handed out */
    /* local */
    int fd; /* -1: remote */
    uint8_t *local_bytes;
    /* remote */
    struct part *parts;
    size_t part_count;
    size_t part_bytes;
    uint64_t asked; /* parts asked for, and taken, ever: the ring's ends */
    uint64_t done;
    bool holds_part; /* the one at `done` is in the caller's hands */
    struct atd_lock lock;
    pthread_cond_t ended_cond;
};

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory");
}

/* ------------------------------------------------------------------ remote */

static void on_done(struct atd_store_get *get, const struct atd_error *why)
{
    struct part *part = (struct part *)get;
    struct atd_shard_stream *stream = part->stream;

    atd_lock_take(&stream->lock);
    if (why)
        part->why = *why;
    part->is_under_way = false;
    (void)pthread_cond_signal(&stream->ended_cond);
    atd_lock_give(&stream->lock);
}

static uint64_t parts_of(const struct atd_shard_stream *stream)
{
    return (stream->size_bytes + stream->part_bytes - 1) / stream->part_bytes;
}

static void ask_on(struct atd_shard_stream *stream)
{
    while (stream->asked < parts_of(stream) && stream->asked - stream->done < stream->part_count) {
        struct part *part = &stream->parts[stream->asked % stream->part_count];
        uint64_t first = stream->asked * stream->part_bytes;
        uint64_t left = stream->size_bytes - first;

        part->why = (struct atd_error)ATD_ERROR_INIT;
        part->is_under_way = true;
        part->get = (struct atd_store_get){
            .url = stream->source->url,
            .first = first,
            .end = first + (left < stream->part_bytes ? left : stream->part_bytes),
            .expect = &stream->info,
            .into = part->bytes,
            .urgent = true,
            .stall_timeout_ms = part->get.stall_timeout_ms,
            .done = on_done,
        };
        stream->asked++;
        atd_store_get_start(stream->source->store, &part->get);
    }
}

static int next_remote(struct atd_shard_stream *stream, struct atd_bytes *ret_bytes,
                       struct atd_error *err)
{
    struct part *part;
    struct atd_error why;

    if (stream->holds_part) {
        stream->done++;
        stream->holds_part = false;
        ask_on(stream);
    }
    if (stream->done == parts_of(stream)) {
        *ret_bytes = (struct atd_bytes){NULL, 0};
        return 0;
    }
    part = &stream->parts[stream->done % stream->part_count];
    atd_lock_take(&stream->lock);
    while (part->is_under_way)
        atd_cond_wait(&stream->ended_cond, &stream->lock);
    why = part->why;
    atd_lock_give(&stream->lock);
    if (why.code) {
        if (err)
            *err = why;
        return -why.code;
    }
    stream->holds_part = true;
    *ret_bytes = (struct atd_bytes){part->bytes, (size_t)(part->get.end - part->get.first)};
    return 0;
}

static int open_remote(struct atd_shard_stream *stream, const struct atd_stream_options *options,
                       struct atd_error *err)
{
    uint64_t window = options->window_bytes / ATD_STREAM_PART_BYTES;
    int rc = 0;

    stream->info = stream->source->info;
    if (!stream->source->is_known)
        rc = atd_store_stat(stream->source->store, stream->source->url, options->timeout_ms,
                            &stream->info, err);
    if (rc)
        return rc;
    stream->size_bytes = stream->info.size_bytes;
    stream->part_bytes = ATD_STREAM_PART_BYTES;
    if (stream->size_bytes < stream->part_bytes)
        stream->part_bytes = stream->size_bytes ? (size_t)stream->size_bytes : 1;
    window = window < 1 ? 1 : window > PARTS_MAX ? PARTS_MAX : window;
    stream->part_count = (size_t)(window < parts_of(stream) ? window : parts_of(stream));
    if (stream->part_count == 0)
        return 0;
    stream->parts = calloc(stream->part_count, sizeof(*stream->parts));
    if (!stream->parts)
        return no_memory(err);
    for (size_t i = 0; i < stream->part_count; i++) {
        stream->parts[i].stream = stream;
        stream->parts[i].get.stall_timeout_ms = options->timeout_ms;
        stream->parts[i].bytes = malloc(stream->part_bytes);
        if (!stream->parts[i].bytes)
            return no_memory(err);
    }
    ask_on(stream);
    return 0;
}

static void close_remote(struct atd_shard_stream *stream)
{
    atd_lock_take(&stream->lock);
    for (size_t i = 0; stream->parts && i < stream->part_count; i++) {
        if (stream->parts[i].is_under_way)
            atd_store_get_cancel(stream->source->store, &stream->parts[i].get);
    }
    for (size_t i = 0; stream->parts && i < stream->part_count; i++) {
        while (stream->parts[i].is_under_way)
            atd_cond_wait(&stream->ended_cond, &stream->lock);
    }
    atd_lock_give(&stream->lock);
    for (size_t i = 0; stream->parts && i < stream->part_count; i++)
        free(stream->parts[i].bytes);
    free(stream->parts);
}

/* ------------------------------------------------------------------ local */

static int open_local(struct atd_shard_stream *stream, const struct atd_stream_options *options,
                      struct atd_error *err)
{
    const struct atd_shard_source *source = stream->source;
    struct atd_file_identity identity;
    int rc = atd_file_store_open(options->files, source->path, &stream->fd, &identity, err);

    if (rc == 0 && source->is_known && !atd_file_identity_same_bytes(&identity, &source->identity))
        rc = atd_error_set(err, ESTALE, "it was replaced by another file");
    if (rc)
        return rc;
    stream->size_bytes = identity.size_bytes;
    stream->local_bytes = malloc(LOCAL_PART_BYTES);
    return stream->local_bytes ? 0 : no_memory(err);
}

static int next_local(struct atd_shard_stream *stream, struct atd_bytes *ret_bytes,
                      struct atd_error *err)
{
    uint64_t left = stream->size_bytes - stream->taken;
    size_t want = left < LOCAL_PART_BYTES ? (size_t)left : LOCAL_PART_BYTES;
    ssize_t got;

    do
        got = pread(stream->fd, stream->local_bytes, want, (off_t)stream->taken);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return atd_error_set(err, errno, "%s", strerror(errno));
    if (got == 0 && want > 0)
        return atd_error_set(err, ESTALE, "it became shorter while it was read");
    stream->taken += (uint64_t)got;
    *ret_bytes = (struct atd_bytes){stream->local_bytes, (size_t)got};
    return 0;
}

/* ------------------------------------------------------------------ both */

int atd_shard_stream_open(const struct atd_shard_source *source,
                          const struct atd_stream_options *options,
                          struct atd_shard_stream **ret_stream, struct atd_error *err)
{
    struct atd_shard_stream *stream = calloc(1, sizeof(*stream));
    int rc;

    if (!stream)
        return no_memory(err);
    stream->source = source;
    stream->fd = -1;
    atd_lock_init(&stream->lock, ATD_RANK_READ_AHEAD);
    atd_cond_init(&stream->ended_cond);
    rc = source->path.ptr ? open_local(stream, options, err) : open_remote(stream, options, err);
    if (rc) {
        atd_shard_stream_close(stream);
        return rc;
    }
    *ret_stream = stream;
    return 0;
}

void atd_shard_stream_close(struct atd_shard_stream *stream)
{
    if (!stream)
        return;
    close_remote(stream);
    if (stream->fd >= 0)
        (void)close(stream->fd);
    free(stream->local_bytes);
    (void)pthread_cond_destroy(&stream->ended_cond);
    atd_lock_destroy(&stream->lock);
    free(stream);
}

int atd_shard_stream_next(struct atd_shard_stream *stream, struct atd_bytes *ret_bytes,
                          struct atd_error *err)
{
    return stream->fd >= 0 ? next_local(stream, ret_bytes, err)
                           : next_remote(stream, ret_bytes, err);
}

bool atd_shard_stream_is_asked(const struct atd_shard_stream *stream)
{
    return stream->fd >= 0 || stream->asked == parts_of(stream);
}

uint64_t atd_shard_stream_size(const struct atd_shard_stream *stream)
{
    return stream->size_bytes;
}
