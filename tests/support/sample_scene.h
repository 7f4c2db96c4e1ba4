/*
 * A shard of samples in a store in memory: its members lie one behind the other, without headers.
 */
#ifndef ATD_TESTS_SAMPLE_SCENE_H
#define ATD_TESTS_SAMPLE_SCENE_H

#include <stdio.h>
#include <stdlib.h>

#include "atdata/sample.h"
#include "dataset/sample_read.h"
#include "store/stores.h"

#define SCENE_SAMPLES 16u
#define SCENE_URL "memory://shard"

struct sample_scene {
    struct atd_store *store;
    struct atd_members_fetches fetches;
    struct atd_member_source source;
    struct atd_shard shard;
    struct atd_object_info info; /* whose ETag the shard has */
    struct atd_member members[SCENE_SAMPLES];
};

#define SCENE_MUST(condition)                                                     \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

/* Sample i is {"n": i, "data": bytes_each times its low byte}. */
static inline void scene_put(struct sample_scene *scene, size_t bytes_each)
{
    struct atd_buf all = ATD_BUF_INIT(64u << 20);
    uint8_t *data = malloc(bytes_each);

    SCENE_MUST(data);
    for (unsigned i = 0; i < SCENE_SAMPLES; i++) {
        size_t before = all.len;

        memset(data, (int)i, bytes_each);
        atd_sample_put_map(&all, 2);
        atd_sample_put_str(&all, ATD_STR("n"));
        atd_sample_put_uint(&all, i);
        atd_sample_put_str(&all, ATD_STR("data"));
        atd_sample_put_bin(&all, (struct atd_bytes){data, bytes_each});
        scene->members[i] = (struct atd_member){ATD_STR("s"), before, all.len - before};
    }
    SCENE_MUST(!all.failed && atd_store_memory_put(scene->store, ATD_STR(SCENE_URL),
                                                   atd_buf_bytes(&all), NULL) == 0);
    free(data);
    atd_buf_release(&all);
}

static inline void scene_open(struct sample_scene *scene, size_t bytes_each)
{
    *scene = (struct sample_scene){0};
    SCENE_MUST(atd_store_memory_new(&scene->store, NULL) == 0);
    atd_members_fetches_init(&scene->fetches);
    scene_put(scene, bytes_each);
    SCENE_MUST(atd_store_stat(scene->store, ATD_STR(SCENE_URL), 1000, &scene->info, NULL) == 0);
    scene->source = (struct atd_member_source){.fetches = &scene->fetches, .timeout_ms = 5000};
    scene->shard = (struct atd_shard){.file_name = ATD_STR("shard.tar"),
                                      .url = ATD_STR(SCENE_URL),
                                      .store = scene->store,
                                      .etag = atd_str_from(scene->info.etag),
                                      .size_bytes = scene->info.size_bytes};
}

static inline void scene_close(struct sample_scene *scene)
{
    atd_members_fetches_release(&scene->fetches);
    atd_store_free(scene->store);
}

static inline int scene_get(struct sample_scene *scene, struct atd_sample_cache *cache, unsigned i,
                            struct atd_read_sample **ret_sample, struct atd_error *err)
{
    uint8_t key[ATD_SAMPLE_KEY_BYTES] = {(uint8_t)(i * 37), (uint8_t)i};

    return atd_sample_cache_get(cache, key, &scene->shard, &scene->members[i],
                                (struct atd_bytes){NULL, 0}, ret_sample, err);
}

/* The right sample, whole. */
static inline bool scene_is_right(const struct atd_read_sample *sample, unsigned i,
                                  size_t bytes_each)
{
    const struct atd_sample_files *files = atd_read_sample_files(sample);
    const struct atd_sample_file *data = atd_sample_files_find(files, ATD_STR("data.bin"));

    return files->count == 2 && data && data->body.len == bytes_each && data->body.ptr[0] == i &&
           data->body.ptr[bytes_each - 1] == i;
}

#endif
