/* One registry, several threads: each writes and publishes, lists, resolves and loads. */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "atdata/loader.h"
#include "atdata/shard_writer.h"
#include "race.h"

#define ROUNDS 3
#define SAMPLES 40u

static struct atd_registry *registry;
static char directory[64];
static atomic_uint turns;

static void write_shards(const char *stem, struct atd_shard_writer **ret_writer)
{
    const struct atd_shard_writer_options options = {stem, SAMPLES / 2, 0};
    struct atd_buf sample = ATD_BUF_INIT(4096);

    MUST(atd_shard_writer_new(&options, ret_writer, NULL) == 0);
    for (unsigned i = 0; i < SAMPLES; i++) {
        atd_buf_clear(&sample);
        atd_sample_put_map(&sample, 1);
        atd_sample_put_str(&sample, ATD_STR("n"));
        atd_sample_put_uint(&sample, i);
        MUST(atd_shard_writer_put(*ret_writer, ATD_STR(""), atd_buf_bytes(&sample), NULL) == 0);
    }
    MUST(atd_shard_writer_finish(*ret_writer, NULL) == 0);
    atd_buf_release(&sample);
}

static void load(const char *name)
{
    const struct atd_loader_options options = {.shuffle_samples = 7};
    const struct atd_batch *batch;
    struct atd_loader *loader;
    size_t count = 0;

    MUST(atd_loader_open(registry, atd_str_from(name), &options, &loader, NULL) == 0);
    do {
        MUST(atd_loader_next_batch(loader, 16, &batch, NULL) == 0);
        count += batch ? batch->count : 0;
    } while (batch);
    MUST(count == SAMPLES);
    atd_loader_close(loader);
}

static void *use(void *ctx)
{
    (void)ctx;
    for (int i = 0; i < ROUNDS; i++) {
        struct atd_arena arena = ATD_ARENA_INIT(1 << 26);
        const struct atd_entry *entries;
        const struct atd_label *labels;
        struct atd_published published;
        struct atd_shard_writer *writer;
        struct atd_entry entry;
        struct atd_error err = ATD_ERROR_INIT;
        unsigned turn = atomic_fetch_add(&turns, 1);
        char name[32];
        char stem[128];
        size_t count;

        (void)snprintf(name, sizeof(name), "set-%u", turn);
        (void)snprintf(stem, sizeof(stem), "%s/part-%u", directory, turn);
        write_shards(stem, &writer);
        for (size_t k = 0; k < atd_shard_writer_count(writer); k++) {
            if (atd_registry_publish_shard(registry, atd_str_from(name),
                                           atd_shard_writer_path(writer, k), NULL, &arena,
                                           &published, &err) != 0) {
                (void)fprintf(stderr, "%s\n", err.text);
                MUST(false);
            }
        }
        MUST(atd_registry_label(registry, atd_str_from(name), ATD_STR("1.0.0"),
                                atd_str_from(published.cid.text), NULL) == 0);
        MUST(atd_registry_refresh(registry, NULL) == 0);
        MUST(atd_registry_list_entries(registry, &arena, &entries, &count, NULL) == 0);
        MUST(atd_registry_list_labels(registry, &arena, &labels, &count, NULL) == 0);
        MUST(atd_registry_resolve(registry, atd_str_from(name), &arena, &entry, NULL) == 0);
        MUST(strcmp(entry.cid.ptr, published.cid.text) == 0 && entry.url_count == 2);
        load(name);
        atd_shard_writer_free(writer);
        atd_arena_release(&arena);
    }
    return NULL;
}

int main(void)
{
    char index[96];
    char command[96];
    struct atd_registry_options options = {.index_url = index, .state_dir = directory};

    (void)snprintf(directory, sizeof(directory), "/tmp/atd-race-XXXXXX");
    MUST(mkdtemp(directory));
    (void)snprintf(index, sizeof(index), "sqlite:%s/index.db", directory);
    MUST(atd_registry_open(&options, &registry, NULL) == 0);
    race(use, NULL);
    MUST(atd_registry_close(registry));
    (void)snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command) == 0 ? 0 : 1;
}
