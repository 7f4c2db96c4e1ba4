#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "catalog/live.h"
#include "catalog/snapshot.h"

#define DEADLINE_MS 10000u

/* An index that never says it changed, loads when it may, and fails when told so. */
struct gate {
    struct atd_index base;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    /* guarded by mutex */
    unsigned loads; /* begun */
    bool closed;    /* a load waits at the gate */
    bool fails;
    int code; /* of the failure; 0: EIO */
};

static int gate_load(struct atd_index *index, const struct atd_index_sink *sink,
                     struct atd_error *err)
{
    struct gate *gate = (struct gate *)index;
    bool fails;
    int code;

    (void)sink;
    (void)pthread_mutex_lock(&gate->mutex);
    gate->loads++;
    (void)pthread_cond_broadcast(&gate->cond);
    while (gate->closed)
        (void)pthread_cond_wait(&gate->cond, &gate->mutex);
    fails = gate->fails;
    code = gate->code ? gate->code : EIO;
    (void)pthread_mutex_unlock(&gate->mutex);
    return fails ? atd_error_set(err, code, "the index cannot be read") : 0;
}

static bool gate_changed(struct atd_index *index)
{
    (void)index;
    return false;
}

static void gate_free(struct atd_index *index)
{
    (void)index;
}

static const struct atd_index_ops gate_ops = {
    .provider = "gate", .load = gate_load, .changed = gate_changed, .free = gate_free};

/* It tells of changes, of which there are none, and cannot be read again before a while. */
static enum atd_index_news gate_wait(struct atd_index *index, int wake_fd, unsigned timeout_ms)
{
    (void)wake_fd;
    (void)atd_index_was_woken(index, timeout_ms);
    return ATD_NEWS_NONE;
}

static enum atd_index_news gate_sync(struct atd_index *index)
{
    (void)index;
    return ATD_NEWS_ALL;
}

static const struct atd_index_ops waiting_ops = {.provider = "gate",
                                                 .load = gate_load,
                                                 .changed = gate_changed,
                                                 .wait = gate_wait,
                                                 .sync = gate_sync,
                                                 .free = gate_free};

static void gate_set(struct gate *gate, bool closed, bool fails)
{
    (void)pthread_mutex_lock(&gate->mutex);
    gate->closed = closed;
    gate->fails = fails;
    (void)pthread_cond_broadcast(&gate->cond);
    (void)pthread_mutex_unlock(&gate->mutex);
}

static void gate_await_loads(struct gate *gate, unsigned loads)
{
    (void)pthread_mutex_lock(&gate->mutex);
    while (gate->loads < loads)
        (void)pthread_cond_wait(&gate->cond, &gate->mutex);
    (void)pthread_mutex_unlock(&gate->mutex);
}

static unsigned gate_loads(struct gate *gate)
{
    unsigned loads;

    (void)pthread_mutex_lock(&gate->mutex);
    loads = gate->loads;
    (void)pthread_mutex_unlock(&gate->mutex);
    return loads;
}

struct scene {
    struct gate gate;
    struct atd_file_store *files;
    struct atd_locator *locator;
    struct atd_live *live;
};

static const struct atd_live_watcher no_watcher = {0};

static void make_scene(struct scene *scene)
{
    static const char *const roots[] = {"/data"};

    memset(scene, 0, sizeof(*scene));
    cr_assert_eq(atd_index_init(&scene->gate.base, &gate_ops, "gate:", NULL), 0);
    (void)pthread_mutex_init(&scene->gate.mutex, NULL);
    (void)pthread_cond_init(&scene->gate.cond, NULL);
    cr_assert_eq(atd_file_store_new(roots, 1, &scene->files, NULL), 0);
    cr_assert_eq(atd_locator_new(&(struct atd_locator_options){.files = scene->files},
                                 &scene->locator, NULL),
                 0);
}

static int open_live(struct scene *scene, const char *snapshot, struct atd_error *err)
{
    return atd_live_open(&(struct atd_live_options){.index = &scene->gate.base,
                                                    .locator = scene->locator,
                                                    .snapshot_path = snapshot},
                         &scene->live, err);
}

static void open_scene(struct scene *scene, bool start)
{
    make_scene(scene);
    cr_assert_eq(open_live(scene, NULL, NULL), 0);
    if (start)
        cr_assert_eq(atd_live_start(scene->live, &no_watcher, NULL), 0);
}

static void close_scene(struct scene *scene)
{
    gate_set(&scene->gate, false, false);
    cr_assert(atd_live_close(scene->live));
    cr_assert(atd_locator_free(scene->locator));
    atd_file_store_free(scene->files);
    atd_index_free(&scene->gate.base);
}

Test(live, a_load_that_is_asked_for_comes_whatever_the_index_says)
{
    struct scene scene;
    uint64_t generation;

    open_scene(&scene, true);
    generation = atd_live_generation(scene.live);
    cr_assert(atd_live_await(scene.live, atd_live_request(scene.live), DEADLINE_MS));
    cr_assert_gt(atd_live_generation(scene.live), generation);
    close_scene(&scene);
}

/* One that began before the request may have read the index before the change. */
Test(live, a_load_that_is_under_way_already_does_not_count, .timeout = 60)
{
    struct scene scene;
    uint64_t first;
    uint64_t second;

    open_scene(&scene, true);
    gate_set(&scene.gate, true, false);
    first = atd_live_request(scene.live);
    gate_await_loads(&scene.gate, 2);
    second = atd_live_request(scene.live);
    cr_assert_not(atd_live_await(scene.live, first, 20), "it waits at the gate");
    gate_set(&scene.gate, false, false);
    cr_assert(atd_live_await(scene.live, second, DEADLINE_MS));
    gate_await_loads(&scene.gate, 3);
    cr_assert_geq(atd_live_generation(scene.live), 3);
    cr_assert(atd_live_await(scene.live, first, 0), "it is served for good");
    close_scene(&scene);
}

Test(live, a_load_that_fails_is_told_at_once, .timeout = 60)
{
    struct scene scene;
    int64_t start_ms;

    open_scene(&scene, true);
    gate_set(&scene.gate, false, true);
    start_ms = atd_clock_monotonic_ms();
    cr_assert_not(atd_live_await(scene.live, atd_live_request(scene.live), DEADLINE_MS));
    cr_assert_lt(atd_clock_monotonic_ms() - start_ms, DEADLINE_MS / 2);
    gate_set(&scene.gate, false, false);
    cr_assert(atd_live_await(scene.live, atd_live_request(scene.live), DEADLINE_MS),
              "the next one does not wait for the pause after the failure");
    close_scene(&scene);
}

/* A server that is still loading, or no master any more, is no file that will be whole in a moment:
 * nobody may take what is shown for live meanwhile. */
Test(live, a_server_that_says_try_again_is_stale_at_once, .timeout = 60)
{
    struct atd_live_status status;
    struct scene scene;
    int64_t start_ms;

    make_scene(&scene);
    scene.gate.base.ops = &waiting_ops;
    cr_assert_eq(open_live(&scene, NULL, NULL), 0);
    cr_assert_eq(atd_live_start(scene.live, &no_watcher, NULL), 0);
    scene.gate.code = EAGAIN;
    gate_set(&scene.gate, false, true);
    start_ms = atd_clock_monotonic_ms();
    cr_assert_not(atd_live_await(scene.live, atd_live_request(scene.live), DEADLINE_MS));
    cr_assert_lt(atd_clock_monotonic_ms() - start_ms, 3000);
    atd_live_status(scene.live, &status);
    cr_assert(status.stale);
    close_scene(&scene);
}

static atomic_bool is_asked;

/* A server that answers only when it is too late. */
static enum atd_index_news late_sync(struct atd_index *index)
{
    atomic_store(&is_asked, true);
    while (is_asked)
        (void)usleep(1000);
    return gate_sync(index);
}

static void *answer_late(void *ctx)
{
    (void)ctx;
    (void)usleep(200000); /* the end has begun by then, or the test says nothing */
    atomic_store(&is_asked, false);
    return NULL;
}

Test(live, no_load_begins_after_the_end, .timeout = 60)
{
    struct atd_index_ops ops = waiting_ops;
    struct scene scene;
    pthread_t thread;

    make_scene(&scene);
    ops.sync = late_sync;
    scene.gate.base.ops = &ops;
    cr_assert_eq(open_live(&scene, NULL, NULL), 0);
    cr_assert_eq(atd_live_start(scene.live, &no_watcher, NULL), 0);
    (void)atd_live_barrier(scene.live);
    while (!atomic_load(&is_asked))
        (void)usleep(1000);
    cr_assert_eq(pthread_create(&thread, NULL, answer_late, NULL), 0);
    cr_assert(atd_live_close(scene.live));
    (void)pthread_join(thread, NULL);
    cr_assert_eq(gate_loads(&scene.gate), 1);
    cr_assert(atd_locator_free(scene.locator));
    atd_file_store_free(scene.files);
    atd_index_free(&scene.gate.base);
}

/* One that has a wait of its own is not tried more often than it says. */
Test(live, a_server_that_refuses_is_left_alone, .timeout = 60)
{
    struct scene scene;

    make_scene(&scene);
    scene.gate.base.ops = &waiting_ops;
    cr_assert_eq(open_live(&scene, NULL, NULL), 0);
    cr_assert_eq(atd_live_start(scene.live, &no_watcher, NULL), 0);
    scene.gate.code = EACCES;
    gate_set(&scene.gate, false, true);
    cr_assert_not(atd_live_await(scene.live, atd_live_request(scene.live), DEADLINE_MS));
    (void)usleep(3000000);
    cr_assert_eq(gate_loads(&scene.gate), 2);
    /* That it has no news for long means that it is well. */
    gate_set(&scene.gate, false, false);
    gate_await_loads(&scene.gate, 3);
    close_scene(&scene);
}

Test(live, a_barrier_before_an_index_without_news_loads_nothing)
{
    struct scene scene;

    open_scene(&scene, true);
    cr_assert(atd_live_await(scene.live, atd_live_barrier(scene.live), DEADLINE_MS));
    cr_assert(atd_live_await(scene.live, atd_live_barrier(scene.live), DEADLINE_MS));
    cr_assert_eq(atd_live_generation(scene.live), 1);
    cr_assert_eq(scene.gate.loads, 1);
    close_scene(&scene);
}

/* What is shown is old: an index that says that nothing has changed since does not make it new. */
Test(live, a_barrier_of_a_stale_view_fails_at_once, .timeout = 60)
{
    struct scene scene;
    int64_t start_ms;

    open_scene(&scene, true);
    gate_set(&scene.gate, false, true);
    cr_assert_not(atd_live_await(scene.live, atd_live_request(scene.live), DEADLINE_MS));
    start_ms = atd_clock_monotonic_ms();
    cr_assert_not(atd_live_await(scene.live, atd_live_barrier(scene.live), DEADLINE_MS));
    cr_assert_lt(atd_clock_monotonic_ms() - start_ms, DEADLINE_MS / 2);
    gate_set(&scene.gate, false, false);
    cr_assert(atd_live_await(scene.live, atd_live_request(scene.live), DEADLINE_MS));
    cr_assert(atd_live_await(scene.live, atd_live_barrier(scene.live), DEADLINE_MS));
    close_scene(&scene);
}

Test(live, before_the_start_the_waiting_thread_loads)
{
    struct scene scene;

    open_scene(&scene, false);
    cr_assert(atd_live_await(scene.live, atd_live_request(scene.live), 0));
    cr_assert_eq(atd_live_generation(scene.live), 2);
    gate_set(&scene.gate, false, true);
    cr_assert_not(atd_live_await(scene.live, atd_live_request(scene.live), 0));
    close_scene(&scene);
}

/* ------------------------------------------------------------------ from a snapshot */

#define SNAPSHOT_DIR "/tmp/atd-live-XXXXXX"

struct snapshot_place {
    char directory[sizeof(SNAPSHOT_DIR)];
    char path[sizeof(SNAPSHOT_DIR) + 8];
};

/* A snapshot of what the gate's index was: a dataset. */
static void save_dataset(struct snapshot_place *place)
{
    static const struct atd_index_entry entry = {
        {"cid1", 4}, {"digits", 6}, {"r", 1}, {(const uint8_t *)"\x90", 1}, {NULL, 0}, {NULL, 0}};
    struct atd_index *index = atd_index_memory_new();
    struct atd_catalog *catalog = NULL;

    (void)strcpy(place->directory, SNAPSHOT_DIR);
    cr_assert_not_null(mkdtemp(place->directory));
    (void)snprintf(place->path, sizeof(place->path), "%s/it", place->directory);
    atd_index_memory_set(index, &entry, 1, NULL, 0, NULL, 0);
    cr_assert_eq(atd_catalog_load(index, 1, &catalog, NULL), 0);
    cr_assert_eq(atd_snapshot_save(catalog, place->path, atd_str_from("gate:"), NULL), 0);
    atd_catalog_unref(catalog);
    atd_index_free(index);
}

static void drop_snapshot(struct snapshot_place *place)
{
    (void)unlink(place->path);
    cr_assert_eq(rmdir(place->directory), 0);
}

static size_t datasets_shown(struct scene *scene)
{
    struct atd_catalog *catalog = atd_live_get(scene->live);
    size_t count = atd_catalog_dataset_count(catalog);

    atd_catalog_unref(catalog);
    return count;
}

static size_t datasets_saved(const struct snapshot_place *place)
{
    struct atd_catalog *catalog = NULL;
    size_t count;

    cr_assert_eq(atd_snapshot_load(place->path, atd_str_from("gate:"), 1, &catalog, NULL), 0);
    count = atd_catalog_dataset_count(catalog);
    atd_catalog_unref(catalog);
    return count;
}

Test(live, a_snapshot_is_shown_at_once_and_the_index_loaded_behind_it, .timeout = 60)
{
    struct atd_live_status status;
    struct snapshot_place place;
    struct scene scene;

    save_dataset(&place);
    make_scene(&scene);
    gate_set(&scene.gate, true, false);
    cr_assert_eq(open_live(&scene, place.path, NULL), 0);
    cr_assert_eq(scene.gate.loads, 0);
    cr_assert_eq(datasets_shown(&scene), 1);
    cr_assert_eq(atd_live_start(scene.live, &no_watcher, NULL), 0);
    gate_await_loads(&scene.gate, 1);
    cr_assert_not(atd_live_catch_up(scene.live, 20), "it waits at the gate");
    atd_live_status(scene.live, &status);
    cr_assert(status.stale && status.catching_up && status.from_snapshot);
    cr_assert_not_null(strstr(status.error, "shown from a snapshot of 20"));
    cr_assert_not_null(strstr(status.error, "being loaded"));
    gate_set(&scene.gate, false, false);
    cr_assert(atd_live_catch_up(scene.live, DEADLINE_MS));
    atd_live_status(scene.live, &status);
    cr_assert_not(status.stale || status.catching_up || status.from_snapshot);
    cr_assert_str_eq(status.error, "");
    cr_assert_eq(atd_live_generation(scene.live), 2);
    cr_assert_eq(datasets_shown(&scene), 0, "the index is empty now");
    close_scene(&scene);
    cr_assert_eq(datasets_saved(&place), 0, "which is saved");
    drop_snapshot(&place);
}

Test(live, a_snapshot_is_shown_while_the_index_cannot_be_read, .timeout = 60)
{
    struct atd_live_status status;
    struct snapshot_place place;
    struct scene scene;

    save_dataset(&place);
    make_scene(&scene);
    gate_set(&scene.gate, false, true);
    cr_assert_eq(open_live(&scene, place.path, NULL), 0);
    cr_assert_eq(atd_live_start(scene.live, &no_watcher, NULL), 0);
    cr_assert_not(atd_live_catch_up(scene.live, DEADLINE_MS));
    atd_live_status(scene.live, &status);
    cr_assert(status.stale && status.from_snapshot && !status.catching_up);
    cr_assert_not_null(strstr(status.error, "shown from a snapshot of 20"));
    cr_assert_not_null(strstr(status.error, "cannot be read"));
    cr_assert_eq(status.load_failures, 1);
    cr_assert_eq(datasets_shown(&scene), 1);
    close_scene(&scene);
    cr_assert_eq(datasets_saved(&place), 1, "what was not read is not saved");
    /* Once loaded, a failure is told as ever. */
    make_scene(&scene);
    cr_assert_eq(open_live(&scene, place.path, NULL), 0);
    cr_assert_eq(atd_live_start(scene.live, &no_watcher, NULL), 0);
    cr_assert(atd_live_catch_up(scene.live, DEADLINE_MS));
    gate_set(&scene.gate, false, true);
    cr_assert_not(atd_live_await(scene.live, atd_live_request(scene.live), DEADLINE_MS));
    atd_live_status(scene.live, &status);
    cr_assert(status.stale && !status.from_snapshot);
    cr_assert_null(strstr(status.error, "snapshot"));
    close_scene(&scene);
    drop_snapshot(&place);
}

Test(live, without_a_good_snapshot_the_index_must_be_read)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct snapshot_place place;
    struct scene scene;

    save_dataset(&place);
    cr_assert_eq(truncate(place.path, 80), 0);
    make_scene(&scene);
    gate_set(&scene.gate, false, true);
    cr_assert_eq(open_live(&scene, place.path, &err), -EIO);
    cr_assert_str_eq(err.text, "index 'gate:': the index cannot be read");
    gate_set(&scene.gate, false, false);
    cr_assert_eq(open_live(&scene, place.path, NULL), 0);
    cr_assert(atd_live_catch_up(scene.live, 0), "there is nothing to wait for");
    cr_assert_eq(atd_live_start(scene.live, &no_watcher, NULL), 0);
    close_scene(&scene);
    cr_assert_eq(datasets_saved(&place), 0);
    drop_snapshot(&place);
}
