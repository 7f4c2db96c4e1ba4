#include "notify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/workers.h"
#include "catalog/diff.h"
#include "fs.h"
#include "layout.h"
#include "listing.h"
#include "notify_device.h"
#include "samples.h"

#define JOIN_MS 5000
/* Directories that are waited for; of more the notifications wait in the kernel. */
#define LOCKED_MAX 32
/* Who waits in the kernel for the directory's lock asks us so soon after it was given. */
#define FOLLOWS_MS 20

struct notice {
    struct notice *next;
    fuse_ino_t parent;
    bool expire;
    uint64_t generation; /* not 0: all that it changed stands before this one; nothing to send */
    size_t name_len;     /* 0: the directory's own attributes and listing */
    char name[];
};

/* A directory of which nothing is told just now. */
struct locked {
    fuse_ino_t directory;
    unsigned requests;
    int64_t until_ms; /* no requests: the next one may come till then */
};

struct notify {
    struct fs *fs;
    unsigned long thread;
    atomic_uint_fast64_t told; /* the generation of which the kernel has been told all */
    struct atd_lock lock;
    pthread_cond_t wake;

    /* guarded by lock */
    struct notice *first;
    struct notice *last;
    struct locked locked[LOCKED_MAX];
    bool stopping;
};

/*
 * A directory may be somebody's working directory and must stay reachable (FUSE 5): its name is
 * looked up again at the next use, not forgotten. -ENOSYS on kernels before 6.2.
 */
static int expire_entry(struct fs *fs, const struct notice *notice)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 16)
    return fuse_lowlevel_notify_expire_entry(fs->session, notice->parent, notice->name,
                                             notice->name_len);
#else
    return fuse_lowlevel_notify_expire_entry(fs->session, notice->parent, notice->name,
                                             notice->name_len, FUSE_LL_EXPIRE_ONLY);
#endif
}

/* Failures are ordinary: the kernel may not know the name, or the mount may be gone. */
static void send_notice(struct fs *fs, const struct notice *notice)
{
    if (notice->generation) {
        atomic_store(&fs->notify->told, notice->generation);
        return;
    }
    METRICS_ADD(&fs->metrics, notifications, 1);
    if (notice->name_len == 0)
        (void)fuse_lowlevel_notify_inval_inode(fs->session, notice->parent, 0, 0);
    else if (!notice->expire || expire_entry(fs, notice) == -ENOSYS)
        (void)fuse_lowlevel_notify_inval_entry(fs->session, notice->parent, notice->name,
                                               notice->name_len);
}

static struct locked *find_locked(struct notify *notify, fuse_ino_t directory)
{
    for (size_t i = 0; i < LOCKED_MAX; i++) {
        if (notify->locked[i].directory == directory)
            return &notify->locked[i];
    }
    return NULL;
}

static struct locked *find_free(struct notify *notify)
{
    int64_t now_ms = atd_clock_monotonic_ms();

    for (size_t i = 0; i < LOCKED_MAX; i++) {
        if (notify->locked[i].requests == 0 && notify->locked[i].until_ms <= now_ms)
            return &notify->locked[i];
    }
    return NULL;
}

void notify_wait(struct notify *notify, fuse_ino_t directory)
{
    struct locked *locked;

    atd_lock_take(&notify->lock);
    locked = find_locked(notify, directory);
    if (!locked)
        locked = find_free(notify);
    if (locked) {
        locked->directory = directory;
        locked->requests++;
    }
    atd_lock_give(&notify->lock);
}

void notify_go_on(struct notify *notify, fuse_ino_t directory)
{
    struct locked *locked;

    atd_lock_take(&notify->lock);
    locked = find_locked(notify, directory);
    if (locked && locked->requests > 0 && --locked->requests == 0)
        locked->until_ms = atd_clock_monotonic_ms() + FOLLOWS_MS;
    (void)pthread_cond_signal(&notify->wake);
    atd_lock_give(&notify->lock);
}

/* Whether the notice has to wait; *wait_ms becomes less when that is known to end. */
static bool must_wait_locked(struct notify *notify, const struct notice *notice, int64_t *wait_ms)
{
    struct locked *locked = find_locked(notify, notice->parent);
    int64_t left;

    /* It tells of those before it: they have their own time. */
    if (notice->generation)
        return notice != notify->first;
    if (!locked)
        return false;
    if (locked->requests > 0)
        return true;
    left = locked->until_ms - atd_clock_monotonic_ms();
    if (left <= 0)
        return false;
    if (left < *wait_ms)
        *wait_ms = left;
    return true;
}

/* The first one that may be sent; else NULL, and how long to wait for one at the most. */
static struct notice *take_locked(struct notify *notify, int64_t *ret_wait_ms)
{
    struct notice *before = NULL;

    *ret_wait_ms = INT64_MAX;
    for (struct notice *at = notify->first; at; before = at, at = at->next) {
        if (must_wait_locked(notify, at, ret_wait_ms))
            continue;
        if (before)
            before->next = at->next;
        else
            notify->first = at->next;
        if (notify->last == at)
            notify->last = before;
        return at;
    }
    return NULL;
}

/* NULL also when `most_ms` are over. */
static struct notice *wait_for_notice(struct notify *notify, int64_t most_ms, bool *ret_over)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    int64_t until_ms = most_ms == INT64_MAX ? INT64_MAX : now_ms + most_ms;
    struct notice *notice = NULL;

    atd_lock_take(&notify->lock);
    for (; !notify->stopping && now_ms < until_ms; now_ms = atd_clock_monotonic_ms()) {
        int64_t wait_ms;

        notice = take_locked(notify, &wait_ms);
        if (notice)
            break;
        if (until_ms != INT64_MAX && until_ms - now_ms < wait_ms)
            wait_ms = until_ms - now_ms;
        if (wait_ms == INT64_MAX)
            atd_cond_wait(&notify->wake, &notify->lock);
        else
            atd_cond_wait_ms(&notify->wake, &notify->lock, (unsigned)wait_ms);
    }
    *ret_over = notify->stopping;
    atd_lock_give(&notify->lock);
    return notice;
}

static void *send_until_stopped(void *ctx)
{
    struct notify *notify = ctx;
    bool is_over = false;

    notify_device_own(fuse_session_fd(notify->fs->session), notify->fs->options->foreground);
    while (!is_over) {
        int64_t tidy_ms = listings_tidy(notify->fs->listings, atomic_load(&notify->told));
        struct notice *notice = wait_for_notice(notify, tidy_ms, &is_over);

        if (notice)
            send_notice(notify->fs, notice);
        free(notice);
    }
    return NULL;
}

int notify_start(struct fs *fs, struct notify **ret_notify, struct atd_error *err)
{
    struct notify *notify = calloc(1, sizeof(*notify));
    int rc;

    if (!notify)
        return atd_error_set(err, ENOMEM, "out of memory");
    notify->fs = fs;
    atomic_init(&notify->told, atd_live_generation(fs->live));
    atd_lock_init(&notify->lock, ATD_RANK_NOTIFY);
    atd_cond_init(&notify->wake);
    rc = atd_thread_start("atd-notify", send_until_stopped, notify, &notify->thread, err);
    if (rc) {
        atd_lock_destroy(&notify->lock);
        free(notify);
        return rc;
    }
    *ret_notify = notify;
    return 0;
}

bool notify_stop(struct notify *notify)
{
    if (!notify)
        return true;
    atd_lock_take(&notify->lock);
    notify->stopping = true;
    (void)pthread_cond_signal(&notify->wake);
    atd_lock_give(&notify->lock);
    if (!atd_thread_join(notify->thread, JOIN_MS))
        return false;
    while (notify->first) {
        struct notice *notice = notify->first;

        notify->first = notice->next;
        free(notice);
    }
    (void)pthread_cond_destroy(&notify->wake);
    atd_lock_destroy(&notify->lock);
    free(notify);
    return true;
}

static void queue(struct notify *notify, struct notice *notice)
{
    atd_lock_take(&notify->lock);
    if (notify->last)
        notify->last->next = notice;
    else
        notify->first = notice;
    notify->last = notice;
    (void)pthread_cond_signal(&notify->wake);
    atd_lock_give(&notify->lock);
}

void notify_name(struct notify *notify, fuse_ino_t parent, struct atd_str name, bool expire)
{
    struct notice *notice = malloc(sizeof(*notice) + name.len + 1);

    if (!notice)
        return; /* the kernel keeps the old answer until its time is up */
    *notice = (struct notice){.parent = parent, .expire = expire, .name_len = name.len};
    if (name.len)
        memcpy(notice->name, name.ptr, name.len);
    notice->name[name.len] = '\0';
    queue(notify, notice);
}

/* Behind all that a generation changed. */
static void queue_end(struct notify *notify, uint64_t generation)
{
    struct notice *notice = malloc(sizeof(*notice) + 1);

    if (!notice)
        return; /* listings are not kept until the next one */
    *notice = (struct notice){.generation = generation};
    notice->name[0] = '\0';
    queue(notify, notice);
}

bool notify_has_told(struct notify *notify, uint64_t generation)
{
    return atomic_load(&notify->told) >= generation;
}

/* The directory's attributes and its cached listing. */
static void notify_listing(struct notify *notify, fuse_ino_t directory)
{
    notify_name(notify, directory, (struct atd_str){"", 0}, false);
}

void notify_staged(struct fs *fs, enum node_kind directory, struct atd_str subject,
                   struct atd_str leaf)
{
    struct atd_str name = staged_leaf_name(leaf);
    char scratch[VIEW_SUBJECT_BYTES];
    fuse_ino_t number;

    if (directory == NODE_STAGED_DIR) {
        int len = snprintf(scratch, sizeof(scratch), "%.*s/%.*s", (int)subject.len, subject.ptr,
                           (int)(leaf.len - name.len - 1), leaf.ptr);

        if (len < 0 || (size_t)len >= sizeof(scratch))
            return;
        subject = (struct atd_str){scratch, (size_t)len};
    }
    number = nodes_number_of_directory(fs->nodes, directory, subject);
    if (!number)
        return;
    notify_name(fs->notify, number, name, directory == NODE_DATASETS);
    notify_listing(fs->notify, number);
}

/* ------------------------------------------------------------------ from a difference */

struct difference {
    struct fs *fs;
    struct atd_catalog *before;
    struct atd_catalog *after;
    bool listing_changed[NODE_BY_CID + 1];
};

/* The shards that a directory may have shown by name. */
static void notify_shards(struct fs *fs, fuse_ino_t directory, struct atd_catalog *catalog,
                          const struct atd_catalog_entry *entry)
{
    struct atd_shard_list *list = atd_catalog_shards_peek(catalog, entry);

    if (!list)
        return;
    for (size_t i = 0; i < atd_shard_list_count(list); i++)
        notify_name(fs->notify, directory, atd_shard_list_at(list, i)->file_name, false);
    atd_shard_list_unref(list);
}

static const struct atd_catalog_entry *entry_of(struct atd_catalog *catalog, enum node_kind kind,
                                                struct atd_str subject)
{
    const struct atd_dataset *dataset;

    if (kind == NODE_CID)
        return atd_catalog_find_entry(catalog, subject);
    dataset = atd_catalog_find_dataset(catalog, subject);
    return dataset ? atd_catalog_entry_at(catalog, dataset->entry) : NULL;
}

/*
 * What a dataset's directory holds has changed: nothing to do unless the kernel knows it. Of most
 * it knows only that they are there, since it listed the directory above: their time may be
 * another.
 */
static void notify_contents(const struct difference *difference, enum node_kind kind,
                            struct atd_str subject)
{
    static const char *const records[] = {"schema.json", "schema.py", "schema.jsonschema",
                                          "metadata.json", "entry.json"};
    struct fs *fs = difference->fs;
    fuse_ino_t directory = nodes_number_of_directory(fs->nodes, kind, subject);
    const struct atd_catalog_entry *old = entry_of(difference->before, kind, subject);
    const struct atd_catalog_entry *new = entry_of(difference->after, kind, subject);

    if (!directory)
        return;
    if (old)
        samples_notify(fs, kind, subject, difference->before, old);
    if (new)
        samples_notify(fs, kind, subject, difference->after, new);
    if (!nodes_number_of_looked_into(fs->nodes, kind, subject)) {
        notify_listing(fs->notify, directory);
        return;
    }
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++)
        notify_name(fs->notify, directory, atd_str_from(records[i]), false);
    if (old)
        notify_shards(fs, directory, difference->before, old);
    if (new)
        notify_shards(fs, directory, difference->after, new);
    notify_listing(fs->notify, directory);
}

void notify_entry_shards(void *ctx, struct atd_catalog *catalog,
                         const struct atd_catalog_entry *entry)
{
    const struct difference difference = {.fs = ctx, .before = catalog, .after = catalog};
    uint32_t place = atd_catalog_place_of(catalog, entry);

    notify_contents(&difference, NODE_CID, atd_entry_file_name(entry));
    for (size_t i = 0; i < atd_catalog_dataset_count(catalog); i++) {
        const struct atd_dataset *dataset = atd_catalog_dataset_at(catalog, i);

        if (dataset->entry == place)
            notify_contents(&difference, NODE_DATASET, atd_dataset_file_name(dataset));
    }
}

static void notify_in(struct difference *difference, enum node_kind top, struct atd_str name,
                      bool expire)
{
    static const struct atd_str no_subject = {"", 0};
    struct fs *fs = difference->fs;
    fuse_ino_t directory = nodes_number_of_directory(fs->nodes, top, no_subject);

    if (directory)
        notify_name(fs->notify, directory, name, expire);
    difference->listing_changed[top] = true;
}

static void notify_schema(struct difference *difference, struct atd_str stem)
{
    static const char *const suffixes[] = {".json", ".py", ".jsonschema"};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        char name[VIEW_NAME_BYTES + 16];
        int len = snprintf(name, sizeof(name), "%.*s%s", (int)stem.len, stem.ptr, suffixes[i]);

        notify_in(difference, NODE_SCHEMAS, (struct atd_str){name, (size_t)len}, false);
    }
}

static void notify_difference(void *ctx, enum atd_diff_table table, enum atd_diff_kind kind,
                              struct atd_str file_name)
{
    struct difference *difference = ctx;

    switch (table) {
    case ATD_DIFF_DATASET:
    case ATD_DIFF_ENTRY:
        /* Also of an added one: it may have been here, without a shard. */
        if (kind != ATD_DIFF_ADDED || table == ATD_DIFF_DATASET)
            notify_contents(difference, table == ATD_DIFF_DATASET ? NODE_DATASET : NODE_CID,
                            file_name);
        if (kind != ATD_DIFF_CHANGED)
            notify_in(difference, table == ATD_DIFF_DATASET ? NODE_DATASETS : NODE_BY_CID,
                      file_name, kind == ATD_DIFF_REMOVED);
        break;
    case ATD_DIFF_SCHEMA:
        notify_schema(difference, file_name);
        break;
    case ATD_DIFF_LABEL:
        notify_in(difference, NODE_LABELS, file_name, false);
        break;
    default:
        break;
    }
}

void notify_generation(void *ctx, struct atd_catalog *before, struct atd_catalog *after)
{
    static const struct atd_str no_subject = {"", 0};
    struct fs *fs = ctx;
    struct difference difference = {.fs = fs, .before = before, .after = after};

    atd_catalog_diff(before, after, notify_difference, &difference);
    for (enum node_kind top = NODE_DATASETS; top <= NODE_BY_CID; top++) {
        fuse_ino_t directory;

        if (!difference.listing_changed[top])
            continue;
        directory = nodes_number_of_directory(fs->nodes, top, no_subject);
        if (directory)
            notify_listing(fs->notify, directory);
    }
    queue_end(fs->notify, atd_catalog_generation(after));
}
