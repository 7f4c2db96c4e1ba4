#include <errno.h>
#include <stdlib.h>

#include "atdata/loader.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "catalog/shards.h"
#include "dataset/batch.h"
#include "dataset/registry_private.h"
#include "dataset/sample_stream.h"
#include "dataset/shuffle.h"

#define DEFAULT_MEMORY_BYTES ((uint64_t)32 << 20)
/* Names of shards and the schema. */
#define ARENA_BYTES_MAX ((size_t)1 << 30)

struct atd_loader {
    struct atd_registry *registry;
    struct atd_arena arena;
    const struct atd_schema *schema;
    struct atd_shard_source *sources;
    size_t source_count;
    struct atd_sample_stream *samples;
    struct atd_shuffle shuffle; /* of struct atd_loaded_memory */
    struct atd_loaded_memory *free;
    struct atd_loaded_memory *given; /* those that the caller has */
    struct atd_batch_memory *batch;
    int failed; /* -errno of the first failure */
};

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory");
}

/* ------------------------------------------------------------------ sources */

static bool exists_literally(void *ctx, struct atd_str element)
{
    const struct atd_loader *loader = ctx;
    struct atd_arena arena = ATD_ARENA_INIT(ATD_NAME_BYTES_MAX);
    struct atd_file_identity identity;
    struct atd_shard_url url;
    bool exists = atd_shard_url_parse(element, &arena, &url, NULL) == 0 &&
                  url.scheme == ATD_URL_LOCAL &&
                  atd_file_store_stat(loader->registry->files, url.path, &identity, NULL) == 0;

    atd_arena_release(&arena);
    return exists;
}

static int take_url(struct atd_loader *loader, struct atd_str text,
                    struct atd_shard_source *ret_source, struct atd_error *err)
{
    struct atd_shard_url url;
    int rc;

    text = atd_arena_str(&loader->arena, text);
    if (!text.ptr)
        return no_memory(err);
    rc = atd_shard_url_parse(text, &loader->arena, &url, err);
    if (rc)
        return rc;
    ret_source->url = text;
    switch (url.scheme) {
    case ATD_URL_LOCAL:
        ret_source->path = url.path;
        return 0;
    case ATD_URL_RELATIVE:
        return atd_error_set(err, EINVAL, "shard '" ATD_STR_FMT "' is no absolute path",
                             ATD_STR_ARG(text));
    default:
        ret_source->store = atd_locator_store(loader->registry->locator, &url, err);
        ret_source->is_known = ret_source->store &&
                               atd_locator_find(loader->registry->locator, &url, &ret_source->info);
        return ret_source->store ? 0 : -ENOTSUP;
    }
}

static int take_urls(struct atd_loader *loader, const struct atd_str *elements, size_t count,
                     struct atd_error *err)
{
    struct atd_str *urls;
    int rc = atd_shard_urls_expand(elements, count, ATD_SHARDS_MAX, exists_literally, loader,
                                   &loader->arena, &urls, &loader->source_count, err);

    if (rc)
        return rc;
    loader->sources =
        atd_arena_alloc_array(&loader->arena, loader->source_count, sizeof(*loader->sources));
    if (!loader->sources)
        return no_memory(err);
    for (size_t i = 0; rc == 0 && i < loader->source_count; i++)
        rc = take_url(loader, urls[i], &loader->sources[i], err);
    return rc;
}

static int take_shard(struct atd_loader *loader, const struct atd_shard *shard,
                      struct atd_shard_source *ret_source, struct atd_error *err)
{
    if (shard->error_code)
        return atd_error_set(err, shard->error_code, "shard '" ATD_STR_FMT "': " ATD_STR_FMT,
                             ATD_STR_ARG(shard->url), ATD_STR_ARG(shard->reason));
    ret_source->url = atd_arena_str(&loader->arena, shard->url);
    if (shard->path.ptr && !shard->store)
        ret_source->path = atd_arena_str(&loader->arena, shard->path);
    if (!ret_source->url.ptr || (!shard->store && !ret_source->path.ptr))
        return no_memory(err);
    ret_source->store = shard->store;
    ret_source->identity = shard->identity;
    if (shard->store)
        atd_shard_info(shard, &ret_source->info);
    ret_source->is_known = true;
    return 0;
}

static int take_shards(struct atd_loader *loader, const struct atd_shard_list *list,
                       struct atd_error *err)
{
    int rc = 0;

    if (atd_shard_list_error(list))
        return atd_error_set(err, EINVAL, "%s", atd_shard_list_error(list));
    loader->source_count = atd_shard_list_count(list);
    loader->sources =
        atd_arena_alloc_array(&loader->arena, loader->source_count, sizeof(*loader->sources));
    if (!loader->sources)
        return no_memory(err);
    for (size_t i = 0; rc == 0 && i < loader->source_count; i++)
        rc = take_shard(loader, atd_shard_list_at(list, i), &loader->sources[i], err);
    return rc;
}

/* A record that cannot be read is as good as none: arrays are known by themselves then. */
static int take_schema(struct atd_loader *loader, const struct atd_catalog *catalog,
                       struct atd_str ref, struct atd_error *err)
{
    const struct atd_catalog_schema *row = atd_registry_find_schema(catalog, ref);
    struct atd_bytes json;
    int rc;

    if (!row)
        return 0;
    json = atd_arena_bytes(&loader->arena, row->json);
    if (!json.ptr)
        return no_memory(err);
    rc = atd_schema_decode(json, &loader->arena, &loader->schema, NULL);
    if (rc)
        loader->schema = NULL;
    return rc == -ENOMEM ? no_memory(err) : 0;
}

static int take_entry(struct atd_loader *loader, struct atd_str reference, struct atd_error *err)
{
    struct atd_catalog *catalog = atd_live_get(loader->registry->live);
    const struct atd_catalog_entry *row = NULL;
    struct atd_shard_list *list = NULL;
    int rc = atd_registry_find(catalog, reference, &row, err);

    if (rc == 0)
        rc = atd_catalog_shards_get(catalog, row, loader->registry->locator, ATD_EFFORT_NETWORK,
                                    &list, err);
    if (rc == 0)
        rc = take_shards(loader, list, err);
    if (rc == 0)
        rc = take_schema(loader, catalog, atd_entry_schema_ref(row), err);
    if (list)
        atd_shard_list_unref(list);
    atd_catalog_unref(catalog);
    return rc;
}

/* ------------------------------------------------------------------ opening */

static int begin(struct atd_loader *loader, const struct atd_loader_options *options,
                 struct atd_error *err)
{
    const struct atd_stream_options streams = {
        .files = loader->registry->files,
        .window_bytes = options->memory_bytes ? options->memory_bytes : DEFAULT_MEMORY_BYTES,
        .timeout_ms = loader->registry->timeout_s * 1000,
    };
    int rc = atd_shuffle_init(&loader->shuffle, options->shuffle_samples, options->seed, err);

    if (rc == 0 && loader->source_count == 0)
        rc = atd_error_set(err, EINVAL, "it has no shards");
    if (rc)
        return rc;
    for (size_t left = loader->source_count; options->shuffle_shards && left > 1; left--) {
        size_t place = (size_t)atd_shuffle_below(&loader->shuffle, left);
        struct atd_shard_source last = loader->sources[left - 1];

        loader->sources[left - 1] = loader->sources[place];
        loader->sources[place] = last;
    }
    loader->batch = atd_batch_memory_new();
    if (!loader->batch)
        return no_memory(err);
    return atd_sample_stream_new(loader->sources, loader->source_count, &streams, &loader->samples,
                                 err);
}

static struct atd_loader *make(struct atd_registry *registry)
{
    struct atd_loader *loader = calloc(1, sizeof(*loader));

    if (!loader)
        return NULL;
    loader->registry = registry;
    atd_arena_init(&loader->arena, ARENA_BYTES_MAX);
    return loader;
}

static int made(struct atd_loader *loader, int rc, struct atd_loader **ret_loader)
{
    if (rc)
        atd_loader_close(loader);
    else
        *ret_loader = loader;
    return rc;
}

int atd_loader_open(struct atd_registry *registry, struct atd_str reference,
                    const struct atd_loader_options *options, struct atd_loader **ret_loader,
                    struct atd_error *err)
{
    struct atd_loader *loader = make(registry);
    int rc;

    if (!loader)
        return no_memory(err);
    rc = take_entry(loader, reference, err);
    if (rc == 0)
        rc = begin(loader, options, err);
    if (rc)
        rc = atd_error_wrap(err, rc, "loading '" ATD_STR_FMT "'", ATD_STR_ARG(reference));
    return made(loader, rc, ret_loader);
}

int atd_loader_open_urls(struct atd_registry *registry, const struct atd_str *urls,
                         size_t url_count, const struct atd_schema *schema,
                         const struct atd_loader_options *options, struct atd_loader **ret_loader,
                         struct atd_error *err)
{
    struct atd_loader *loader = make(registry);
    int rc;

    if (!loader)
        return no_memory(err);
    loader->schema = schema;
    rc = take_urls(loader, urls, url_count, err);
    if (rc == 0)
        rc = begin(loader, options, err);
    return made(loader, rc, ret_loader);
}

static void free_list(struct atd_loaded_memory *first)
{
    while (first) {
        struct atd_loaded_memory *next = first->next;

        atd_loaded_memory_free(first);
        first = next;
    }
}

void atd_loader_close(struct atd_loader *loader)
{
    struct atd_loaded_memory *waiting;

    if (!loader)
        return;
    atd_sample_stream_free(loader->samples);
    while ((waiting = atd_shuffle_draw(&loader->shuffle)))
        atd_loaded_memory_free(waiting);
    atd_shuffle_release(&loader->shuffle);
    free_list(loader->free);
    free_list(loader->given);
    atd_batch_memory_free(loader->batch);
    atd_arena_release(&loader->arena);
    free(loader);
}

const struct atd_schema *atd_loader_schema(const struct atd_loader *loader)
{
    return loader->schema;
}

size_t atd_loader_shard_count(const struct atd_loader *loader)
{
    return loader->source_count;
}

bool atd_loader_is_array(const struct atd_loader *loader, const struct atd_sample_field *field)
{
    return atd_field_is_array(loader->schema, field);
}

/* ------------------------------------------------------------------ samples */

static void take_back(struct atd_loader *loader)
{
    while (loader->given) {
        struct atd_loaded_memory *memory = loader->given;

        loader->given = memory->next;
        memory->next = loader->free;
        loader->free = memory;
    }
}

/* One more sample into the shuffle buffer; *ret_is_there false: the shards have no more. */
static int read_one(struct atd_loader *loader, bool *ret_is_there, struct atd_error *err)
{
    struct atd_loaded_memory *memory = loader->free;
    int rc;

    if (memory)
        loader->free = memory->next;
    else
        memory = calloc(1, sizeof(*memory));
    if (!memory)
        return no_memory(err);
    rc = atd_sample_stream_next(loader->samples, memory, ret_is_there, err);
    if (rc == 0 && *ret_is_there) {
        atd_shuffle_put(&loader->shuffle, memory);
        return 0;
    }
    memory->next = loader->free;
    loader->free = memory;
    return rc;
}

/* NULL: there are no more. It is the caller's till take_back(). */
static int give_one(struct atd_loader *loader, struct atd_loaded_memory **ret_memory,
                    struct atd_error *err)
{
    bool is_there = true;
    int rc = 0;

    if (loader->failed)
        return atd_error_set(err, -loader->failed, "the loader has failed before");
    while (rc == 0 && is_there && !atd_shuffle_is_full(&loader->shuffle))
        rc = read_one(loader, &is_there, err);
    if (rc) {
        loader->failed = rc;
        return rc;
    }
    *ret_memory = atd_shuffle_draw(&loader->shuffle);
    if (*ret_memory) {
        (*ret_memory)->next = loader->given;
        loader->given = *ret_memory;
    }
    return 0;
}

int atd_loader_next(struct atd_loader *loader, const struct atd_loaded **ret_loaded,
                    struct atd_error *err)
{
    struct atd_loaded_memory *memory = NULL;
    int rc;

    take_back(loader);
    rc = give_one(loader, &memory, err);
    if (rc == 0)
        *ret_loaded = memory ? &memory->loaded : NULL;
    return rc;
}

static int take_batch(struct atd_loader *loader, const struct atd_loaded **samples, size_t size,
                      size_t *ret_count, struct atd_error *err)
{
    for (*ret_count = 0; *ret_count < size; (*ret_count)++) {
        struct atd_loaded_memory *memory = NULL;
        int rc = give_one(loader, &memory, err);

        if (rc || !memory)
            return rc;
        if (memory->loaded.member_count && !memory->loaded.sample.fields)
            return atd_error_set(err, EINVAL,
                                 "sample '" ATD_STR_FMT "' has no fields to make a batch of",
                                 ATD_STR_ARG(memory->loaded.key));
        samples[*ret_count] = &memory->loaded;
    }
    return 0;
}

int atd_loader_next_batch(struct atd_loader *loader, size_t size,
                          const struct atd_batch **ret_batch, struct atd_error *err)
{
    atd_auto_free const struct atd_loaded **samples = NULL;
    const struct atd_batch *batch = NULL;
    size_t count;
    int rc;

    if (size == 0 || size > ATD_BATCH_MAX)
        return atd_error_set(err, EINVAL, "a batch has 1 to %u samples", ATD_BATCH_MAX);
    take_back(loader);
    samples = calloc(size, sizeof(const struct atd_loaded *));
    if (!samples)
        return no_memory(err);
    rc = take_batch(loader, samples, size, &count, err);
    if (rc == 0 && count > 0)
        rc = atd_batch_stack(loader->batch, samples, count, loader->schema, &batch, err);
    if (rc) {
        loader->failed = rc;
        return rc;
    }
    *ret_batch = batch;
    return 0;
}
