/*
 * Several threads read the same few samples while there is room for some of them only and the shard
 * is replaced: right bytes or ESTALE, and everybody is answered.
 */
#include <errno.h>
#include <stdatomic.h>

#include "race.h"
#include "support/sample_scene.h"

#define EACH 3000u
#define ROUNDS 10000
#define MEMORY_BYTES 60000u

static struct sample_scene scene;
static struct atd_sample_cache *cache;
static atomic_uint next;
static atomic_uint served;
static atomic_bool is_replaced;

static void *use(void *ctx)
{
    (void)ctx;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned number = atomic_fetch_add(&next, 1) * 7 / 3 % SCENE_SAMPLES;
        uint8_t key[ATD_SAMPLE_KEY_BYTES] = {(uint8_t)(number * 37), (uint8_t)number};
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_read_sample *sample = NULL;
        struct atd_read_sample *peeked = atd_sample_cache_peek(cache, key);
        int rc = scene_get(&scene, cache, number, &sample, &err);

        MUST(rc == 0 || (rc == -ESTALE && err.code == ESTALE && atomic_load(&is_replaced)));
        MUST(!peeked || scene_is_right(peeked, number, EACH));
        atd_read_sample_unref(peeked);
        if (rc == 0) {
            MUST(scene_is_right(sample, number, EACH));
            atd_read_sample_unref(sample);
            atomic_fetch_add(&served, 1);
        }
        if (i == ROUNDS - ROUNDS / 10 && !atomic_exchange(&is_replaced, true)) {
            struct sample_scene other = {.store = scene.store};

            scene_put(&other, EACH);
        }
    }
    return NULL;
}

int main(void)
{
    scene_open(&scene, EACH);
    cache = atd_sample_cache_new(&scene.source, MEMORY_BYTES);
    MUST(cache);
    race(use, NULL);
    MUST(atomic_load(&served) > ROUNDS);
    atd_sample_cache_free(cache);
    scene_close(&scene);
    return 0;
}
