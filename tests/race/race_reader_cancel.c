/*
 * Reads are taken back at any moment, while their store misbehaves and, in the end, the reader is
 * stopped under them: each read ends exactly once, by its answer or by being the caller's again.
 */
#include "../unit/reader_rig.h"
#include "race.h"

#define OBJECTS 4u
#define ROUNDS 150
#define READS 3
#define STOP_AFTER_US 300000

static struct rig rig;
static atomic_uint_fast64_t gets;
static atomic_uint seed;
static atomic_uint served;
static atomic_uint taken_back;

static struct atd_fault_rule decide(void *ctx, const struct atd_store_get *get)
{
    uint64_t state = atomic_fetch_add(&gets, 1) * 0x9e3779b97f4a7c15ULL + 99;
    uint64_t random = content_random(&state);

    (void)ctx;
    switch (random % 12) {
    case 0:
        return (struct atd_fault_rule){ATD_FAULT_SHORT, random / 20 % (get->end - get->first)};
    case 1:
    case 2:
    case 3:
        return (struct atd_fault_rule){ATD_FAULT_DELAY, random / 20 % 10};
    case 4:
        return (struct atd_fault_rule){ATD_FAULT_STALL, random / 20 % (get->end - get->first)};
    case 5:
        return (struct atd_fault_rule){ATD_FAULT_CHANGED, 0};
    default:
        return (struct atd_fault_rule){ATD_FAULT_NONE, 0};
    }
}

static uint64_t size_of(unsigned object)
{
    return (object + 1) * 3500001ULL;
}

static void start_and_take_back(struct atd_reader_handle *handle, unsigned object, uint64_t *state)
{
    struct rig_read reads[READS];
    bool mine[READS] = {false};

    for (int i = 0; i < READS; i++) {
        uint64_t offset = content_random(state) % size_of(object);
        uint64_t size = 1 + content_random(state) % 600000;

        if (size > size_of(object) - offset)
            size = size_of(object) - offset;
        rig_read_start(&reads[i], handle, object, 0, offset, size);
    }
    for (int i = 0; i < READS; i++) {
        if (content_random(state) % 2)
            continue;
        (void)usleep((useconds_t)(content_random(state) % 2 * (content_random(state) % 3000)));
        mine[i] = atd_reader_cancel(handle, &reads[i].read);
        (void)atomic_fetch_add(&taken_back, mine[i]);
    }
    for (int i = 0; i < READS; i++) {
        int code = mine[i] ? -1 : rig_read_wait(&reads[i]);

        MUST(mine[i] ? !atomic_load(&reads[i].ended) : code >= 0);
        (void)atomic_fetch_add(&served, code == 0);
    }
}

static void *use(void *ctx)
{
    uint64_t state = 1234567 + 7919 * atomic_fetch_add(&seed, 1);
    struct atd_reader_handle *handle;

    (void)ctx;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned object = (unsigned)(content_random(&state) % OBJECTS);

        if (rig_open(&rig, object, NULL, &handle) != 0)
            break; /* stopped */
        start_and_take_back(handle, object, &state);
        atd_reader_close(handle);
    }
    return NULL;
}

static void *stop_reader(void *ctx)
{
    (void)ctx;
    (void)usleep(STOP_AFTER_US);
    MUST(atd_reader_stop(rig.reader));
    return NULL;
}

static void run(bool with_dir, bool stops)
{
    pthread_t thread;

    memset(&rig, 0, sizeof(rig));
    rig.decide = decide;
    rig.timeout_ms = 300;
    rig.memory_bytes = 32 * MIB;
    rig.cache_bytes = 20 * MIB;
    MUST(rig_start(&rig, with_dir) == 0);
    for (unsigned i = 0; i < OBJECTS; i++)
        MUST(rig_put(&rig, i, 0, size_of(i)) == 0);
    if (stops)
        MUST(pthread_create(&thread, NULL, stop_reader, NULL) == 0);
    race(use, NULL);
    if (stops) {
        (void)pthread_join(thread, NULL);
        atd_reader_free(rig.reader);
        rig.reader = NULL; /* stopping nothing is fine */
    }
    MUST(rig_stop(&rig));
    MUST(atomic_load(&rig.stats.memory_used_bytes) == 0);
    MUST(atomic_load(&rig.stats.waiters) == 0);
    MUST(atomic_load(&rig.stats.open_objects) == 0);
}

int main(void)
{
    run(false, false);
    run(true, false);
    run(false, true);
    run(true, true);
    MUST(atomic_load(&served) > ROUNDS);
    MUST(atomic_load(&taken_back) > ROUNDS);
    return 0;
}
