/*
 * Several threads open, read and close the same few objects while their store misbehaves, memory is
 * short and one object is replaced: right bytes or an error, and everything ends.
 */
#include <errno.h>

#include "../unit/reader_rig.h"
#include "race.h"

#define OBJECTS 6u
#define READS 250

static struct rig rig;
static atomic_uint_fast64_t gets;
static atomic_uint served;
static atomic_uint seed;
static atomic_bool replaced;

static struct atd_fault_rule decide(void *ctx, const struct atd_store_get *get)
{
    uint64_t state = atomic_fetch_add(&gets, 1) * 0x9e3779b97f4a7c15ULL + 99;
    uint64_t random = content_random(&state);

    (void)ctx;
    switch (random % 20) {
    case 0:
        return (struct atd_fault_rule){ATD_FAULT_SHORT, random / 20 % (get->end - get->first)};
    case 1:
        return (struct atd_fault_rule){ATD_FAULT_DELAY, random / 20 % 10};
    case 2:
        return (struct atd_fault_rule){ATD_FAULT_UNAVAILABLE, 0};
    case 3:
        return (struct atd_fault_rule){ATD_FAULT_STALL, random / 20 % (get->end - get->first)};
    default:
        return (struct atd_fault_rule){ATD_FAULT_NONE, 0};
    }
}

static uint64_t size_of(unsigned object)
{
    return (object + 1) * 1500001ULL;
}

/* Object 0 is replaced while this runs: it is checked elsewhere that versions do not mix. */
static void *use(void *ctx)
{
    uint64_t state = 1234567 + 7919 * atomic_fetch_add(&seed, 1);

    (void)ctx;
    for (int i = 0; i < READS; i++) {
        unsigned object = (unsigned)(content_random(&state) % OBJECTS);
        struct atd_reader_handle *handle = NULL;
        struct rig_read reads[3];
        unsigned version;
        struct atd_object_info info;
        char url[32];

        rig_url(object, url);
        MUST(atd_store_stat(rig.memory, atd_str_from(url), 1000, &info, NULL) == 0);
        version = info.size_bytes == size_of(object) ? 0 : 1;
        struct atd_reader_source source = {rig.store, atd_str_from(url), &info, {NULL, 0}};
        MUST(atd_reader_open(rig.reader, &source, &handle, NULL) == 0);
        for (int r = 0; r < 3; r++) {
            uint64_t offset = content_random(&state) % size_of(object);
            uint64_t size = 1 + content_random(&state) % 300000;

            if (offset + size > info.size_bytes)
                size = info.size_bytes - offset;
            rig_read_start(&reads[r], handle, object, version, offset, size);
        }
        for (int r = 0; r < 3; r++) {
            int code = rig_read_wait(&reads[r]);

            MUST(code >= 0);
            if (code == 0)
                (void)atomic_fetch_add(&served, 1);
        }
        (void)rig_is_local(&rig, object);
        atd_reader_close(handle);
        if (i == READS / 2 && !atomic_exchange(&replaced, true))
            MUST(rig_put(&rig, 0, 1, size_of(0) + 10) == 0);
    }
    return NULL;
}

static void run(bool with_dir)
{
    memset(&rig, 0, sizeof(rig));
    atomic_store(&replaced, false);
    rig.decide = decide;
    rig.timeout_ms = 300;
    rig.memory_bytes = 32 * MIB;
    rig.cache_bytes = 24 * MIB;
    MUST(rig_start(&rig, with_dir) == 0);
    for (unsigned i = 0; i < OBJECTS; i++)
        MUST(rig_put(&rig, i, 0, size_of(i)) == 0);
    race(use, NULL);
    MUST(rig_stop(&rig));
    MUST(atomic_load(&rig.stats.memory_used_bytes) == 0);
    MUST(atomic_load(&rig.stats.waiters) == 0);
    MUST(atomic_load(&rig.stats.open_objects) == 0);
}

int main(void)
{
    run(false);
    run(true);
    MUST(atomic_load(&served) > READS * RACE_THREADS);
    return 0;
}
