/*
 * Room: how much the files take, and which of them go when it is too much.
 *
 * Used bytes are what the last scan of the directory found (allocated blocks, so that holes are
 * free and other processes' files count), plus what this process wrote since. A file goes when
 * nobody has it open and it is not pinned (pins.h), the longest unused first; the time of its map
 * is that of its last use.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cache/cache_dir_private.h"
#include "cache/pins.h"

/* The first look at a directory, unless something is written before. */
#define FIRST_SCAN_MS 2000
/* Between looks, as long as something is written. */
#define RESCAN_MS 60000
/* After a sub-directory of a scan that nobody waits for. */
#define POLITE_PAUSE_MS 5
/* When nothing could be evicted, it is not tried again for so long. */
#define FRUITLESS_MS 1000
/* The oldest files that one scan remembers. */
#define CANDIDATES_MAX 1024u
#define LEFTOVER_AGE_S 60
#define SHRINK_TRIES 2
/* Evict down to 15/16 of the limit, in the background from 31/32 on. */
#define LOW_SHARE 16u
#define HIGH_SHARE 32u

struct candidate {
    int64_t used_s, used_ns; /* last use */
    uint8_t hash[ATD_SHA256_BYTES];
};

struct scan {
    struct atd_cache_dir *dir;
    bool polite;
    uint64_t total_bytes;
    struct atd_pin_set pins;
    size_t count;
    struct candidate *oldest; /* a heap, the youngest on top */
};

/* ------------------------------------------------------------------ the oldest files */

static int compare_use(const void *left, const void *right)
{
    const struct candidate *a = left;
    const struct candidate *b = right;

    if (a->used_s != b->used_s)
        return a->used_s < b->used_s ? -1 : 1;
    if (a->used_ns != b->used_ns)
        return a->used_ns < b->used_ns ? -1 : 1;
    return memcmp(a->hash, b->hash, sizeof(a->hash));
}

static void swap(struct candidate *a, struct candidate *b)
{
    struct candidate kept = *a;

    *a = *b;
    *b = kept;
}

static void offer(struct scan *scan, const struct candidate *one)
{
    struct candidate *heap = scan->oldest;
    size_t at;

    if (scan->count < CANDIDATES_MAX) {
        heap[at = scan->count++] = *one;
        while (at > 0 && compare_use(&heap[at], &heap[(at - 1) / 2]) > 0) {
            swap(&heap[at], &heap[(at - 1) / 2]);
            at = (at - 1) / 2;
        }
        return;
    }
    if (compare_use(one, &heap[0]) >= 0)
        return;
    heap[at = 0] = *one;
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < scan->count && compare_use(&heap[child + 1], &heap[child]) > 0)
            child++;
        if (child >= scan->count || compare_use(&heap[child], &heap[at]) <= 0)
            return;
        swap(&heap[child], &heap[at]);
        at = child;
    }
}

/* ------------------------------------------------------------------ scanning */

static int hex_value(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "HASH.data" or "HASH.map" in its own sub-directory; anything else is not ours. */
static bool parse_name(const char *name, unsigned prefix, uint8_t ret_hash[ATD_SHA256_BYTES],
                       bool *ret_is_map)
{
    for (size_t i = 0; i < ATD_SHA256_BYTES; i++) {
        int high = hex_value(name[2 * i]);
        int low = high < 0 ? -1 : hex_value(name[2 * i + 1]);

        if (low < 0)
            return false;
        ret_hash[i] = (uint8_t)(high << 4 | low);
    }
    *ret_is_map = strcmp(name + 64, ".map") == 0;
    return ret_hash[0] == prefix && (*ret_is_map || strcmp(name + 64, ".data") == 0);
}

static bool is_old(const struct stat *st)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - st->st_mtim.tv_sec > LEFTOVER_AGE_S;
}

static bool stat_name(struct atd_cache_dir *dir, const uint8_t *hash, const char *suffix,
                      struct stat *ret_st)
{
    char name[ATD_CACHE_NAME_MAX];

    atd_cache_name(hash, suffix, name);
    return fstatat(dir->fd, name, ret_st, AT_SYMLINK_NOFOLLOW) == 0;
}

static uint64_t allocated(const struct stat *st)
{
    return (uint64_t)st->st_blocks * 512;
}

/*
 * Removes a file that nobody uses; returns what it took, 0 when it stays. `last` (may be NULL):
 * only if this is still the time of its last use.
 */
static uint64_t remove_unused(struct atd_cache_dir *dir, const uint8_t *hash,
                              const struct candidate *last)
{
    char data_name[ATD_CACHE_NAME_MAX];
    char map_name[ATD_CACHE_NAME_MAX];
    atd_auto_fd int fd = -1;
    struct stat data;
    struct stat map;
    uint64_t bytes;

    atd_cache_name(hash, ".data", data_name);
    atd_cache_name(hash, ".map", map_name);
    fd = openat(dir->fd, data_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &data) != 0)
        return 0;
    /* Under the lock: is it still that file, or was it replaced or used meanwhile? */
    if (!atd_cache_names(dir, data_name, data.st_dev, data.st_ino))
        return 0;
    bytes = allocated(&data);
    if (fstatat(dir->fd, map_name, &map, AT_SYMLINK_NOFOLLOW) == 0) {
        if (last && (map.st_mtim.tv_sec != last->used_s || map.st_mtim.tv_nsec != last->used_ns))
            return 0;
        bytes += allocated(&map);
        if (!last)
            return 0; /* meant for leftovers, and it has got its map now */
    }
    /* The map first: what is left after a crash is a leftover, not a file that lies. */
    if ((unlinkat(dir->fd, map_name, 0) != 0 && errno != ENOENT) ||
        unlinkat(dir->fd, data_name, 0) != 0)
        return 0;
    return bytes ? bytes : 1;
}

static void scan_name(struct scan *scan, const char *name, unsigned prefix)
{
    struct candidate one;
    struct stat data;
    struct stat map;
    bool is_map;

    if (!parse_name(name, prefix, one.hash, &is_map))
        return;
    if (is_map) {
        char map_name[ATD_CACHE_NAME_MAX];

        atd_cache_name(one.hash, ".map", map_name);
        if (!stat_name(scan->dir, one.hash, ".data", &data) && errno == ENOENT &&
            stat_name(scan->dir, one.hash, ".map", &map) && is_old(&map))
            (void)unlinkat(scan->dir->fd, map_name, 0);
        return;
    }
    if (!stat_name(scan->dir, one.hash, ".data", &data))
        return;
    if (!stat_name(scan->dir, one.hash, ".map", &map)) {
        if (errno == ENOENT && is_old(&data) && remove_unused(scan->dir, one.hash, NULL))
            return;
        scan->total_bytes += allocated(&data);
        return;
    }
    scan->total_bytes += allocated(&data) + allocated(&map);
    one.used_s = map.st_mtim.tv_sec;
    one.used_ns = map.st_mtim.tv_nsec;
    if (!atd_cache_is_open(scan->dir, one.hash) && !atd_pin_set_has(&scan->pins, one.hash))
        offer(scan, &one);
}

/* False when the directory is closing. */
static bool pause_between(struct scan *scan, bool pause)
{
    bool stopping;

    atd_lock_take(&scan->dir->lock);
    if (pause && scan->polite && !scan->dir->stopping && !scan->dir->evict_wanted)
        atd_cond_wait_ms(&scan->dir->wake, &scan->dir->lock, POLITE_PAUSE_MS);
    stopping = scan->dir->stopping;
    atd_lock_give(&scan->dir->lock);
    return !stopping;
}

/* False when the directory is closing. */
static bool scan_prefix(struct scan *scan, unsigned prefix)
{
    static const char digits[] = "0123456789abcdef";
    const char name[] = {digits[prefix >> 4], digits[prefix & 15], '\0'};
    int fd = openat(scan->dir->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    unsigned seen = 0;
    bool go_on = true;

    if (!listing) {
        if (fd >= 0)
            (void)close(fd);
        return true;
    }
    while (go_on && (entry = readdir(listing))) {
        scan_name(scan, entry->d_name, prefix);
        if (++seen % 256 == 0)
            go_on = pause_between(scan, true);
    }
    (void)closedir(listing);
    return go_on && pause_between(scan, seen > 2);
}

static bool scan_all(struct scan *scan)
{
    uint64_t before[ATD_CACHE_PREFIXES];
    uint64_t written = 0;

    scan->total_bytes = 0;
    scan->count = 0;
    for (unsigned prefix = 0; prefix < ATD_CACHE_PREFIXES; prefix++) {
        before[prefix] = atomic_load(&scan->dir->written_bytes[prefix]);
        if (!scan_prefix(scan, prefix))
            return false;
    }
    /* What was written where the scan had been already. */
    for (unsigned prefix = 0; prefix < ATD_CACHE_PREFIXES; prefix++)
        written += atomic_load(&scan->dir->written_bytes[prefix]) - before[prefix];
    atomic_store(&scan->dir->used_bytes, scan->total_bytes + written);
    return true;
}

/* ------------------------------------------------------------------ evicting */

struct want {
    uint64_t used_max;    /* evict until no more is used */
    uint64_t evict_bytes; /* and at least so much */
    uint64_t evict_share; /* and at least this share of what is used; 0: none */
    uint64_t bytes;       /* that shall be written: enough when another run made room */
    bool polite;
};

static void subtract(atomic_uint_fast64_t *from, uint64_t amount)
{
    uint_fast64_t before = atomic_load(from);

    while (!atomic_compare_exchange_weak(from, &before, before > amount ? before - amount : 0))
        ;
}

static uint64_t evict_candidates(struct scan *scan, const struct want *want, uint64_t evicted)
{
    struct atd_cache_dir *dir = scan->dir;
    uint64_t at_least = want->evict_bytes;

    if (want->evict_share && scan->total_bytes / want->evict_share > at_least)
        at_least = scan->total_bytes / want->evict_share;
    qsort(scan->oldest, scan->count, sizeof(*scan->oldest), compare_use);
    for (size_t i = 0; i < scan->count; i++) {
        uint64_t bytes;

        if (atomic_load(&dir->used_bytes) <= want->used_max && evicted >= at_least)
            break;
        bytes = remove_unused(dir, scan->oldest[i].hash, &scan->oldest[i]);
        if (!bytes)
            continue;
        evicted += bytes;
        subtract(&dir->used_bytes, bytes);
        ATD_CACHE_COUNT(dir->stats, evicted_files, 1);
        ATD_CACHE_COUNT(dir->stats, evicted_bytes, bytes);
    }
    return evicted;
}

/* Waits for its turn; false when there is nothing to do any more. */
static bool begin(struct atd_cache_dir *dir, const struct want *want)
{
    bool waited = false;
    bool mine;

    atd_lock_take(&dir->lock);
    while (dir->evicting && !dir->stopping) {
        waited = true;
        if (!want->polite) {
            /* A look that nobody waited for has somebody waiting now. */
            dir->evict_wanted = true;
            (void)pthread_cond_broadcast(&dir->wake);
        }
        atd_cond_wait(&dir->changed, &dir->lock);
    }
    mine = !dir->stopping && !(waited && want->bytes &&
                               atomic_load(&dir->used_bytes) + want->bytes <= dir->size_max_bytes);
    dir->evicting = dir->evicting || mine;
    atd_lock_give(&dir->lock);
    return mine;
}

static void end(struct atd_cache_dir *dir)
{
    atd_lock_take(&dir->lock);
    dir->evicting = false;
    (void)pthread_cond_broadcast(&dir->changed);
    atd_lock_give(&dir->lock);
}

/* Scans and evicts; returns how much went. One at a time. */
static uint64_t run(struct atd_cache_dir *dir, const struct want *want)
{
    struct scan scan = {.dir = dir, .polite = want->polite};
    uint64_t evicted = 0;
    uint64_t before;

    if (!begin(dir, want))
        return 0;
    scan.oldest = malloc(CANDIDATES_MAX * sizeof(*scan.oldest));
    /* When nobody knows what is pinned, nothing goes. */
    while (scan.oldest && atd_pin_set_load(dir->fd, &scan.pins)) {
        bool go_on = scan_all(&scan);

        before = evicted;
        atd_pin_set_release(&scan.pins);
        if (!go_on)
            break;
        evicted = evict_candidates(&scan, want, evicted);
        /* When all that the scan remembered went, there may be more. */
        if (evicted == before || scan.count < CANDIDATES_MAX ||
            (atomic_load(&dir->used_bytes) <= want->used_max && evicted >= want->evict_bytes))
            break;
    }
    free(scan.oldest);
    end(dir);
    return evicted;
}

uint64_t atd_cache_free_bytes(struct atd_cache_dir *dir)
{
    struct statvfs st;

    if (fstatvfs(dir->fd, &st) != 0)
        return UINT64_MAX;
    return (uint64_t)st.f_bavail * st.f_frsize;
}

static bool is_fruitless(struct atd_cache_dir *dir)
{
    return atd_clock_monotonic_ms() < atomic_load(&dir->fruitless_until_ms);
}

static void note_fruitless(struct atd_cache_dir *dir)
{
    atomic_store(&dir->fruitless_until_ms, atd_clock_monotonic_ms() + FRUITLESS_MS);
}

static void wake_thread(struct atd_cache_dir *dir, bool to_evict)
{
    atd_lock_take(&dir->lock);
    atomic_store(&dir->scan_wanted, true);
    dir->evict_wanted = dir->evict_wanted || to_evict;
    (void)pthread_cond_broadcast(&dir->wake);
    atd_lock_give(&dir->lock);
}

static int keep_limit(struct atd_cache_dir *dir, uint64_t bytes, struct atd_error *err)
{
    uint64_t max = dir->size_max_bytes;
    uint64_t margin = bytes > max / LOW_SHARE ? bytes : max / LOW_SHARE;

    if (bytes <= max && atomic_load(&dir->used_bytes) <= max - bytes)
        return 0;
    if (bytes <= max && !is_fruitless(dir)) {
        const struct want want = {.used_max = max - margin, .bytes = bytes};

        (void)run(dir, &want);
        if (atomic_load(&dir->used_bytes) <= max - bytes)
            return 0;
        note_fruitless(dir);
    }
    return atd_error_set(
        err, EFBIG,
        "the cache's limit of %llu bytes is reached, and every file is in use or pinned",
        (unsigned long long)max);
}

/* Takes what earlier evictions freed beyond their need: some file systems report it late. */
static bool take_credit(struct atd_cache_dir *dir, uint64_t bytes)
{
    int_fast64_t before = atomic_load(&dir->free_credit_bytes);

    while (before >= (int_fast64_t)bytes) {
        if (atomic_compare_exchange_weak(&dir->free_credit_bytes, &before,
                                         before - (int_fast64_t)bytes))
            return true;
    }
    return false;
}

static int keep_floor(struct atd_cache_dir *dir, uint64_t bytes, struct atd_error *err)
{
    uint64_t free_bytes;
    uint64_t floor = dir->free_floor_bytes;

    if (!floor || take_credit(dir, bytes))
        return 0;
    free_bytes = dir->free_bytes(dir);
    if (free_bytes >= bytes && free_bytes - bytes >= floor)
        return 0;
    if (!is_fruitless(dir)) {
        uint64_t need = floor + bytes - free_bytes;
        const struct want want = {.used_max = UINT64_MAX, .evict_bytes = need};
        uint64_t evicted = run(dir, &want);

        if (evicted >= need) {
            (void)atomic_fetch_add(&dir->free_credit_bytes, (int_fast64_t)(evicted - need));
            return 0;
        }
        note_fruitless(dir);
    }
    return atd_error_set(err, ENOSPC,
                         "the cache's disk has only %llu bytes left, of which %llu stay free",
                         (unsigned long long)free_bytes, (unsigned long long)floor);
}

int atd_cache_make_room(struct atd_cache_dir *dir, uint64_t bytes, struct atd_error *err)
{
    int rc;

    if (bytes == 0)
        return 0;
    rc = keep_limit(dir, bytes, err);
    return rc ? rc : keep_floor(dir, bytes, err);
}

bool atd_cache_evict_for_full_disk(struct atd_cache_dir *dir, uint64_t bytes)
{
    const struct want want = {
        .used_max = UINT64_MAX,
        .evict_bytes = bytes,
        .evict_share = LOW_SHARE,
    };

    if (is_fruitless(dir))
        return false;
    if (run(dir, &want) > 0)
        return true;
    note_fruitless(dir);
    return false;
}

void atd_cache_note_written(struct atd_cache_dir *dir, const uint8_t hash[ATD_SHA256_BYTES],
                            uint64_t bytes)
{
    uint64_t high = dir->size_max_bytes - dir->size_max_bytes / HIGH_SHARE;
    uint64_t used = atomic_fetch_add(&dir->used_bytes, bytes) + bytes;

    (void)atomic_fetch_add(&dir->written_bytes[hash[0]], bytes);
    /* The first write makes the first look due: until then other files' size is not known. */
    if (!atomic_exchange(&dir->has_written, true) || (used > high && !is_fruitless(dir)))
        wake_thread(dir, true);
    else if (!atomic_load(&dir->scan_wanted))
        wake_thread(dir, false);
}

void atd_cache_dir_trim(struct atd_cache_dir *dir)
{
    const struct want want = {.used_max = dir->size_max_bytes - dir->size_max_bytes / LOW_SHARE};

    if (atomic_load(&dir->made))
        (void)run(dir, &want);
}

/* ------------------------------------------------------------------ the thread */

/* Waits until a look is due; false when the directory is closing. */
static bool wait_for_work(struct atd_cache_dir *dir, int64_t due_ms)
{
    bool stopping;

    atd_lock_take(&dir->lock);
    while (!dir->stopping && !dir->evict_wanted) {
        int64_t left_ms = due_ms - atd_clock_monotonic_ms();

        if (!atomic_load(&dir->scan_wanted))
            atd_cond_wait(&dir->wake, &dir->lock);
        else if (left_ms > 0)
            atd_cond_wait_ms(&dir->wake, &dir->lock, (unsigned)left_ms);
        else
            break;
    }
    stopping = dir->stopping;
    dir->evict_wanted = false;
    atomic_store(&dir->scan_wanted, false);
    atd_lock_give(&dir->lock);
    return !stopping;
}

void *atd_cache_evict_until_stopped(void *ctx)
{
    struct atd_cache_dir *dir = ctx;
    uint64_t low = dir->size_max_bytes - dir->size_max_bytes / LOW_SHARE;
    uint64_t high = dir->size_max_bytes - dir->size_max_bytes / HIGH_SHARE;
    int64_t due_ms = atd_clock_monotonic_ms() + FIRST_SCAN_MS;

    while (wait_for_work(dir, due_ms)) {
        const struct want look = {.used_max = UINT64_MAX, .polite = true};
        const struct want shrink = {.used_max = low};

        (void)run(dir, &look);
        /* Again, because what is written meanwhile is known only roughly. */
        for (int tries = 0; tries < SHRINK_TRIES && atomic_load(&dir->used_bytes) > high; tries++)
            (void)run(dir, &shrink);
        if (atomic_load(&dir->used_bytes) > high)
            note_fruitless(dir);
        due_ms = atd_clock_monotonic_ms() + RESCAN_MS;
    }
    return NULL;
}
