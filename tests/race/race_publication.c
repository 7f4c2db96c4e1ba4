/*
 * Many writers of shards at once: whole, half, rewritten, renamed, cancelled, let go at any
 * moment, while others look at them; every other round over a store that fails now and then. At the
 * end what is listed is there, and nothing else is left.
 */
#include <errno.h>
#include <ftw.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "catalog/live.h"
#include "publish/publication.h"
#include "race.h"
#include "store/stores.h"

#define ROUNDS 4
#define TIDY_MS 60000
#define ROUND_MS 1000
#define BLOCK 512u
#define SMALL (4 * BLOCK)
#define LARGE ((size_t)20 << 20)

static struct atd_live *live;
static struct atd_publisher *publisher;
static struct atd_store *memory;
static struct atd_store *faulty; /* over it */
static atomic_bool fails;
static atomic_bool has_failed;
static atomic_uint steps;
static uint8_t *large_tar;
static uint8_t small_tar[SMALL];
static atomic_uint numbers;
static atomic_uint published;
static atomic_bool stop;

/* Each kind of step fails every few times, in its own rhythm. */
static struct atd_write_fault_rule decide(void *ctx, const struct atd_write_event *event)
{
    static const struct {
        unsigned every;
        struct atd_write_fault_rule rule;
    } faults[] = {
        [ATD_WRITE_BEGIN] = {5, {ATD_WRITE_FAULT_UNKNOWN, 1}},
        [ATD_WRITE_PART] = {7, {ATD_WRITE_FAULT_UNAVAILABLE, 0}},
        [ATD_WRITE_FINISH] = {3, {ATD_WRITE_FAULT_UNKNOWN, 1}},
        [ATD_WRITE_ABORT] = {2, {ATD_WRITE_FAULT_UNAVAILABLE, 0}},
        [ATD_WRITE_DISCARD] = {2, {ATD_WRITE_FAULT_UNAVAILABLE, 0}},
        [ATD_WRITE_PUT] = {11, {ATD_WRITE_FAULT_UNKNOWN, 1}},
        [ATD_WRITE_ADOPT] = {0, {ATD_WRITE_FAULT_NONE, 0}},
        [ATD_WRITE_DELETE] = {3, {ATD_WRITE_FAULT_UNAVAILABLE, 0}},
        [ATD_WRITE_GUARDS] = {2, {ATD_WRITE_FAULT_UNAVAILABLE, 0}},
    };
    unsigned every = faults[event->step].every;

    (void)ctx;
    if (atomic_load(&fails) && every && atomic_fetch_add(&steps, 1) % every == 0)
        return faults[event->step].rule;
    return (struct atd_write_fault_rule){ATD_WRITE_FAULT_NONE, 0};
}

struct waiter {
    struct atd_publication_wait wait; /* first */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    int code;
};

static void waiter_done(struct atd_publication_wait *wait, const struct atd_error *why)
{
    struct waiter *waiter = (struct waiter *)(void *)wait;

    (void)pthread_mutex_lock(&waiter->lock);
    waiter->code = why ? why->code : 0;
    waiter->done = true;
    (void)pthread_cond_signal(&waiter->cond);
    (void)pthread_mutex_unlock(&waiter->lock);
}

static struct waiter *waiter_new(void)
{
    struct waiter *waiter = calloc(1, sizeof(*waiter));

    MUST(waiter);
    waiter->wait.done = waiter_done;
    (void)pthread_mutex_init(&waiter->lock, NULL);
    (void)pthread_cond_init(&waiter->cond, NULL);
    return waiter;
}

static int waiter_end(struct waiter *waiter)
{
    int code;

    (void)pthread_mutex_lock(&waiter->lock);
    while (!waiter->done)
        (void)pthread_cond_wait(&waiter->cond, &waiter->lock);
    code = waiter->code;
    (void)pthread_mutex_unlock(&waiter->lock);
    (void)pthread_cond_destroy(&waiter->cond);
    (void)pthread_mutex_destroy(&waiter->lock);
    free(waiter);
    return code;
}

/* One member of zeros, which takes up all but the end. */
static void make_tar(uint8_t *tar, size_t size)
{
    unsigned sum = 0;

    memset(tar, 0, size);
    (void)snprintf((char *)tar, 100, "k.bin");
    (void)snprintf((char *)tar + 124, 12, "%011zo", size - 3 * BLOCK);
    tar[156] = '0';
    memcpy(tar + 257, "ustar\0", 6);
    memcpy(tar + 263, "00", 2);
    memset(tar + 148, ' ', 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += tar[i];
    (void)snprintf((char *)tar + 148, 8, "%06o", sum);
}

static bool put(struct atd_publication *publication, const uint8_t *bytes, size_t len)
{
    int rc = 0;

    for (size_t at = 0; rc == 0 && at < len; at += 1u << 20) {
        size_t piece = len - at < (1u << 20) ? len - at : 1u << 20;
        struct waiter *waiter = waiter_new();

        rc = atd_publication_write(publication, at, (struct atd_bytes){bytes + at, piece},
                                   &waiter->wait, NULL);
        if (rc != -EINPROGRESS)
            waiter_done(&waiter->wait, NULL);
        else
            rc = 0;
        (void)waiter_end(waiter);
    }
    return rc == 0;
}

static void one_copy(unsigned number)
{
    bool is_large = number % 8 == 0;
    const uint8_t *tar = is_large ? large_tar : small_tar;
    size_t len = is_large ? LARGE : SMALL;
    struct atd_publication_status status;
    struct atd_publication *publication;
    struct atd_publication *second;
    struct waiter *check;
    struct waiter *publish;
    char name[32];
    bool healed = false;
    int code;

    (void)snprintf(name, sizeof(name), "x%u.tar", number % 5 == 0 ? number / 2 : number);
    if (atd_publication_new(publisher, ATD_STR("d"), number % 3 ? atd_str_from(name) : ATD_STR(""),
                            &publication, NULL))
        return;
    second = atd_publication_ref(publication);
    (void)put(publication, tar, number % 7 == 0 ? len / 2 : len);
    check = waiter_new();
    if (number % 17 == 0)
        atd_publication_give_up(second, &check->wait);
    atd_publication_check(publication, number % 2, &check->wait);
    if (number % 4 == 0)
        (void)put(second, tar, len);
    if (number % 11 == 0)
        atd_publication_cancel(second);
    if (number % 13 == 0)
        healed = atd_publication_truncate(second, 0, NULL) == 0;
    MUST(!healed || number % 13 == 0);
    (void)waiter_end(check);
    atd_publication_status(second, &status);
    publish = waiter_new();
    if (number % 19 == 0)
        atd_publication_give_up(second, &publish->wait);
    atd_publication_publish(publication, ATD_STR("d"), atd_str_from(name), ATD_STR(""),
                            &publish->wait);
    if (number % 6 == 0)
        atd_publication_unref(second);
    if (number % 9 == 0)
        atd_publication_set_mtime(publication, number);
    if (number % 10 == 0)
        atd_publication_unref(publication);
    code = waiter_end(publish);
    if (code == 0)
        (void)atomic_fetch_add(&published, 1);
    else
        MUST(code == EINVAL || code == ECANCELED || code == EEXIST || code == EIO ||
             code == EBUSY || (code == EREMOTEIO && atomic_load(&has_failed)));
    if (number % 9 == 0 && number % 10)
        atd_publication_set_mtime(publication, number + 1);
    if (number % 6)
        atd_publication_unref(second);
    if (number % 10)
        atd_publication_unref(publication);
}

static void *copy_until_stopped(void *ctx)
{
    (void)ctx;
    while (!atomic_load(&stop))
        one_copy(atomic_fetch_add(&numbers, 1) + 1);
    return NULL;
}

static void *run_copies(void *ctx)
{
    race(copy_until_stopped, ctx);
    return NULL;
}

static void run_round(void)
{
    pthread_t copies;

    atomic_store(&stop, false);
    MUST(pthread_create(&copies, NULL, run_copies, NULL) == 0);
    for (int64_t until_ms = atd_clock_monotonic_ms() + ROUND_MS;
         atd_clock_monotonic_ms() < until_ms;) {
        struct atd_publisher_stats stats;

        atd_publisher_stats(publisher, &stats);
        MUST(atd_publisher_ready(publisher, NULL) == 0 || atomic_load(&has_failed));
        (void)usleep(5000);
    }
    atomic_store(&stop, true);
    MUST(pthread_join(copies, NULL) == 0);
}

struct count {
    unsigned objects;
    char last[256];
};

static int count_one(void *ctx, struct atd_str url, const struct atd_object_info *info)
{
    struct count *count = ctx;

    (void)info;
    count->objects++;
    (void)snprintf(count->last, sizeof(count->last), ATD_STR_FMT, ATD_STR_ARG(url));
    return 0;
}

static unsigned count_objects(void)
{
    struct count count = {0, ""};
    char after[256];
    bool more = true;

    while (more) {
        memcpy(after, count.last, sizeof(after));
        MUST(atd_store_list(memory, ATD_STR("s3://bucket/pre"), atd_str_from(after), 1000,
                            count_one, &count, &more, NULL) == 0);
    }
    return count.objects;
}

static unsigned files;

static int count_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)st;
    (void)ftw;
    files += type == FTW_F;
    return 0;
}

/* What was left is settled; it may take a few rounds of the recovery. */
static bool is_tidy(const char *dir)
{
    files = 0;
    (void)nftw(dir, count_file, 16, FTW_PHYS);
    return files == 0;
}

static int count_and_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    files += type == FTW_F;
    return remove(path);
}

int main(void)
{
    static const char *const roots[] = {"/nowhere"};
    char dir[] = "/tmp/atd-race-publish-XXXXXX";
    struct atd_file_store *store;
    struct atd_object_table *table;
    struct atd_locator *locator;
    struct atd_index *index = atd_index_memory_new();
    struct atd_index_writer *writer;
    struct atd_publisher_options options;
    struct atd_catalog *catalog;

    MUST(index && mkdtemp(dir));
    large_tar = malloc(LARGE);
    MUST(large_tar);
    make_tar(large_tar, LARGE);
    make_tar(small_tar, SMALL);
    MUST(atd_file_store_new(roots, 1, &store, NULL) == 0);
    MUST(atd_store_memory_new(&memory, NULL) == 0);
    MUST(atd_store_fault_new(memory, NULL, NULL, &faulty, NULL) == 0);
    atd_store_fault_writes(faulty, decide, NULL);
    MUST(atd_object_table_open(NULL, &table, NULL, NULL) == 0);
    MUST(atd_locator_new(
             &(struct atd_locator_options){
                 .files = store, .s3 = memory, .table = table, .s3_scope = "t", .timeout_ms = 1000},
             &locator, NULL) == 0);
    MUST(atd_live_open(&(struct atd_live_options){.index = index, .locator = locator}, &live,
                       NULL) == 0);
    MUST(atd_live_start(live, &(struct atd_live_watcher){NULL, NULL, NULL}, NULL) == 0);
    MUST(atd_index_memory_writer(index, &writer, NULL) == 0);
    options = (struct atd_publisher_options){.live = live,
                                             .writer = writer,
                                             .store = faulty,
                                             .prefix_url = "s3://bucket/pre",
                                             .table = table,
                                             .scope = "t",
                                             .state_dir = dir,
                                             .memory_bytes = (uint64_t)32 << 20,
                                             .timeout_s = 5,
                                             .recover_every_ms = 50};
    for (int i = 0; i < ROUNDS; i++) {
        atomic_store(&fails, i % 2);
        if (i % 2)
            atomic_store(&has_failed, true);
        MUST(atd_publisher_open(&options, &publisher, NULL) == 0);
        run_round();
        MUST(atd_publisher_close(publisher, 20000)); /* some are still ending */
    }
    /* What the closing publisher could not settle is settled by the next. */
    atomic_store(&fails, false);
    MUST(atd_publisher_open(&options, &publisher, NULL) == 0);
    for (int64_t until_ms = atd_clock_monotonic_ms() + TIDY_MS; !is_tidy(dir);) {
        MUST(atd_clock_monotonic_ms() < until_ms);
        (void)usleep(5000);
    }
    MUST(atd_publisher_close(publisher, 20000));
    MUST(atd_store_memory_uploads(memory) == 0);
    MUST(atomic_load(&published) > 0);
    MUST(atd_live_await(live, atd_live_request(live), TIDY_MS));
    catalog = atd_live_get(live);
    MUST(atd_catalog_dataset_count(catalog) == 1);
    MUST(atd_catalog_entry_at(catalog, atd_catalog_dataset_at(catalog, 0)->entry)->url_count ==
         count_objects());
    atd_catalog_unref(catalog);
    MUST(nftw(dir, count_and_remove, 16, FTW_DEPTH | FTW_PHYS) == 0);
    MUST(files == 0);
    MUST(atd_live_close(live));
    MUST(atd_locator_free(locator));
    atd_object_table_close(table);
    atd_index_writer_free(writer);
    atd_index_free(index);
    atd_store_free(faulty);
    atd_file_store_free(store);
    free(large_tar);
    return 0;
}
