/*
 * A reader over the memory store (and the fault store), with contents of which every byte is known.
 */
#ifndef ATD_TESTS_READER_RIG_H
#define ATD_TESTS_READER_RIG_H

#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/reader.h"
#include "content.h"
#include "store/stores.h"

#define MIB (1ULL << 20)
#define KIB (1ULL << 10)
#define RIG_VERSIONS 4

struct rig;

struct rig_content {
    unsigned object;
    unsigned version;
    struct rig *rig;
};

struct rig {
    struct atd_store *memory;
    struct atd_store *store; /* what the reader uses */
    struct atd_cache_stats stats;
    struct atd_cache_dir *dir;
    struct atd_reader *reader;
    char path[64];
    unsigned timeout_ms;
    uint64_t memory_bytes;
    uint64_t cache_bytes;
    unsigned step_delay_us; /* of the store, every 64 KiB */
    struct rig_content contents[64][RIG_VERSIONS];
    struct atd_fault_rule (*decide)(void *ctx, const struct atd_store_get *get);
    atomic_int local_changes;
    uint8_t *fetched; /* a count a block of object 0, when set: what gets asked for */
};

static inline void rig_local_changed(void *ctx, struct atd_str url,
                                     const struct atd_object_info *info)
{
    struct rig *rig = ctx;

    (void)url;
    (void)info;
    atomic_fetch_add(&rig->local_changes, 1);
}

static inline void rig_fill(void *ctx, uint64_t offset, uint8_t *into, size_t len)
{
    const struct rig_content *content = ctx;

    if (content->rig->step_delay_us)
        (void)usleep(content->rig->step_delay_us);
    content_fill(content->object, content->version, offset, into, len);
}

static inline void rig_url(unsigned object, char ret_url[32])
{
    (void)snprintf(ret_url, 32, "mem://b/%04u.tar", object);
}

/* Returns 0 or an error, as everything here. */
static inline int rig_put(struct rig *rig, unsigned object, unsigned version, uint64_t size)
{
    struct rig_content *content = &rig->contents[object][version];
    char url[32];

    *content = (struct rig_content){object, version, rig};
    rig_url(object, url);
    return atd_store_memory_put_made(rig->memory, atd_str_from(url), size, rig_fill, content, NULL);
}

static inline int rig_start_reader(struct rig *rig)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_reader_options options = {
        .memory_bytes = rig->memory_bytes ? rig->memory_bytes : 256 * MIB,
        .timeout_ms = rig->timeout_ms ? rig->timeout_ms : 20000,
        .stats = &rig->stats,
        .local_changed = rig_local_changed,
        .ctx = rig,
    };
    int rc = 0;

    if (rig->path[0]) {
        struct atd_cache_dir_options dir = {
            .path = rig->path,
            .size_max_bytes = rig->cache_bytes ? rig->cache_bytes : 4096 * MIB,
            .free_floor_bytes = 0,
            .stats = &rig->stats,
        };

        rc = atd_cache_dir_open(&dir, &rig->dir, &err);
        options.dir = rig->dir;
    }
    if (rc == 0)
        rc = atd_reader_new(&options, &rig->reader, &err);
    if (rc)
        (void)fprintf(stderr, "%s\n", err.text);
    return rc;
}

/* `with_dir`: a new directory in /tmp. */
static inline int rig_start(struct rig *rig, bool with_dir)
{
    int rc = atd_store_memory_new(&rig->memory, NULL);

    rig->store = rig->memory;
    if (rc == 0 && rig->decide)
        rc = atd_store_fault_new(rig->memory, rig->decide, rig, &rig->store, NULL);
    if (with_dir) {
        (void)snprintf(rig->path, sizeof(rig->path), "/tmp/atd-reader-XXXXXX");
        if (!mkdtemp(rig->path))
            return -1;
    }
    return rc ? rc : rig_start_reader(rig);
}

static inline bool rig_stop_reader(struct rig *rig)
{
    bool ended = atd_reader_stop(rig->reader);

    if (ended)
        atd_reader_free(rig->reader);
    rig->reader = NULL;
    if (rig->dir)
        ended = atd_cache_dir_close(rig->dir) && ended;
    rig->dir = NULL;
    return ended;
}

static inline int rig_remove(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static inline bool rig_stop(struct rig *rig)
{
    bool ended = rig_stop_reader(rig);

    atd_store_free(rig->store);
    if (rig->path[0])
        (void)nftw(rig->path, rig_remove, 8, FTW_DEPTH | FTW_PHYS);
    return ended;
}

static inline int rig_open(struct rig *rig, unsigned object, const char *sha256_hex,
                           struct atd_reader_handle **ret_handle)
{
    struct atd_object_info info;
    struct atd_error err = ATD_ERROR_INIT;
    char url[32];
    int rc;

    rig_url(object, url);
    rc = atd_store_stat(rig->memory, atd_str_from(url), 1000, &info, &err);
    if (rc == 0) {
        struct atd_reader_source source = {
            .store = rig->store,
            .url = atd_str_from(url),
            .info = &info,
            .sha256_hex = atd_str_from(sha256_hex ? sha256_hex : ""),
        };

        rc = atd_reader_open(rig->reader, &source, ret_handle, &err);
    }
    return rc;
}

static inline bool rig_is_local(struct rig *rig, unsigned object)
{
    struct atd_object_info info;
    char url[32];

    rig_url(object, url);
    return atd_store_stat(rig->memory, atd_str_from(url), 1000, &info, NULL) == 0 &&
           atd_reader_is_local(rig->reader, atd_str_from(url), &info);
}

/* A read that is waited for; its bytes are checked as they come. */
struct rig_read {
    struct atd_read read;
    unsigned object;
    unsigned version;
    atomic_bool ended;
    bool wrong; /* a byte is not what it must be, or the length */
    int code;
    char text[ATD_ERROR_TEXT_MAX];
};

static inline void rig_read_done(struct atd_read *read, const struct iovec *pieces, int count,
                                 const struct atd_error *why)
{
    struct rig_read *rig_read = (struct rig_read *)(void *)read;
    uint64_t at = read->offset;

    if (why) {
        rig_read->code = why->code;
        memcpy(rig_read->text, why->text, sizeof(why->text));
    } else {
        rig_read->wrong = count > ATD_READ_IOV_MAX;
        for (int i = 0; i < count; i++) {
            if (content_check(rig_read->object, rig_read->version, at, pieces[i].iov_base,
                              pieces[i].iov_len) != pieces[i].iov_len)
                rig_read->wrong = true;
            at += pieces[i].iov_len;
        }
        if (at != read->offset + read->size)
            rig_read->wrong = true;
    }
    atomic_store(&rig_read->ended, true);
}

static inline void rig_read_start(struct rig_read *read, struct atd_reader_handle *handle,
                                  unsigned object, unsigned version, uint64_t offset, size_t size)
{
    memset(read, 0, sizeof(*read));
    read->object = object;
    read->version = version;
    read->read.offset = offset;
    read->read.size = size;
    read->read.done = rig_read_done;
    atd_reader_read(handle, &read->read);
}

/* The error's code, 0, or -1 for wrong bytes, or -2 when it hangs. */
static inline int rig_read_wait(struct rig_read *read)
{
    int64_t until = atd_clock_monotonic_ms() + 120000;

    while (!atomic_load(&read->ended)) {
        if (atd_clock_monotonic_ms() > until)
            return -2;
        (void)usleep(50);
    }
    return read->wrong ? -1 : read->code;
}

static inline int rig_read(struct atd_reader_handle *handle, unsigned object, unsigned version,
                           uint64_t offset, size_t size)
{
    struct rig_read read;

    rig_read_start(&read, handle, object, version, offset, size);
    return rig_read_wait(&read);
}

/* Polls a condition for at most a minute. */
#define RIG_EVENTUALLY(condition)                                 \
    __extension__({                                               \
        int64_t until_ = atd_clock_monotonic_ms() + 60000;        \
        while (!(condition) && atd_clock_monotonic_ms() < until_) \
            (void)usleep(500);                                    \
        (condition);                                              \
    })

#endif
