/*
 * The whole workflow of an atdata registry, in C: describe a sample type, write shards, publish
 * them, find the dataset again, read it back in batches, share it.
 *
 *   tutorial DIR INDEX-URL [STORE [ENDPOINT ENV_FILE]]
 *   tutorial /tmp/work sqlite:/tmp/work/index.db
 *   tutorial /tmp/work redis://localhost/0 s3://team/data http://localhost:9000 .env
 *
 *   cc tutorial.c $(pkg-config --cflags --libs libatdata) -o tutorial
 */
#include <atdata/entry.h>
#include <atdata/loader.h>
#include <atdata/shard_writer.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME "tutorial"
#define SAMPLES 100
#define PER_SHARD 40
#define SIDE 4

/* Every function says what went wrong in one sentence; this program gives up then (and not by
 * exit(), whose handlers would run beside the registry's threads). */
static struct atd_error why;
#define TRY(call)                                        \
    do {                                                 \
        if ((call) != 0) {                               \
            fprintf(stderr, "tutorial: %s\n", why.text); \
            _Exit(1);                                    \
        }                                                \
    } while (0)

/* ---- 1. the sample type: a picture, what it shows, and how sure we are ---- */

static const struct atd_field fields[] = {
    {.name = ATD_STR_INIT("image"),
     .type = {.kind = ATD_KIND_NDARRAY, .dtype = ATD_STR_INIT("float32")}},
    {.name = ATD_STR_INIT("label"),
     .type = {.kind = ATD_KIND_PRIMITIVE, .primitive = ATD_PRIMITIVE_STR}},
    {.name = ATD_STR_INIT("confidence"),
     .type = {.kind = ATD_KIND_PRIMITIVE, .primitive = ATD_PRIMITIVE_FLOAT}},
};
static const struct atd_schema schema = {
    .name = ATD_STR_INIT("TutorialSample"),
    .version = ATD_STR_INIT("1.0.0"),
    .fields = fields,
    .field_count = 3,
    .description = ATD_STR_INIT("A small picture, written from C."),
};

/* ---- 2. a sample ---- */

static void encode_sample(unsigned number, struct atd_buf *out)
{
    struct atd_buf image = ATD_BUF_INIT(4096);
    char label[32];
    float pixels[SIDE * SIDE];
    struct atd_array array = {.dtype = ATD_STR_INIT("<f4"),
                              .item_size = sizeof(float),
                              .ndim = 2,
                              .shape = {SIDE, SIDE},
                              .data = {(const uint8_t *)pixels, sizeof(pixels)}};

    for (unsigned i = 0; i < SIDE * SIDE; i++)
        pixels[i] = (float)(number + i) / 8;
    snprintf(label, sizeof(label), "class %u", number % 10);
    atd_array_encode_npy(&array, &image); /* every release of atdata reads .npy */

    atd_buf_clear(out);
    atd_sample_put_map(out, 3);
    atd_sample_put_str(out, ATD_STR("image"));
    atd_sample_put_bin(out, atd_buf_bytes(&image));
    atd_sample_put_str(out, ATD_STR("label"));
    atd_sample_put_str(out, atd_str_from(label));
    atd_sample_put_str(out, ATD_STR("confidence"));
    atd_sample_put_float(out, number / 100.0);
    TRY(atd_buf_finish(out, "the sample", &why));
    atd_buf_release(&image);
}

/* ---- 3. shards, and the dataset ---- */

static void publish(struct atd_registry *registry, const char *directory, struct atd_arena *arena)
{
    char stem[4096];
    const struct atd_shard_writer_options options = {.stem = stem, .samples_max = PER_SHARD};
    struct atd_shard_writer *writer;
    struct atd_buf sample = ATD_BUF_INIT(65536);
    struct atd_buf metadata = ATD_BUF_INIT(65536);
    struct atd_published published;
    struct atd_str ref;
    struct atd_cid cid;

    snprintf(stem, sizeof(stem), "%s/train", directory);
    TRY(atd_shard_writer_new(&options, &writer, &why));
    for (unsigned i = 0; i < SAMPLES; i++) {
        encode_sample(i, &sample);
        TRY(atd_shard_writer_put(writer, ATD_STR(""), atd_buf_bytes(&sample), &why));
    }
    TRY(atd_shard_writer_finish(writer, &why));

    TRY(atd_registry_publish_schema(registry, &schema, arena, &ref, &why));
    printf("schema %.*s\n", (int)ref.len, ref.ptr);
    for (size_t i = 0; i < atd_shard_writer_count(writer); i++) {
        TRY(atd_registry_publish_shard(registry, ATD_STR(NAME), atd_shard_writer_path(writer, i),
                                       &schema, arena, &published, &why));
        printf("shard %.*s\n", (int)published.url.len, published.url.ptr);
    }
    TRY(atd_metadata_from_json(ATD_STR("{\"source\": \"the tutorial\"}"), &metadata, &why));
    TRY(atd_registry_set_metadata(registry, ATD_STR(NAME), atd_buf_bytes(&metadata), &why));
    TRY(atd_registry_label(registry, ATD_STR(NAME), ATD_STR("1.0.0"),
                           atd_str_from(published.cid.text), &why));
    /* Shards that lie somewhere already make a dataset without being copied. */
    TRY(atd_registry_insert(registry, ATD_STR(NAME "-part"), ref, &published.url, 1,
                            atd_buf_bytes(&metadata), &cid, &why));

    atd_buf_release(&metadata);
    atd_buf_release(&sample);
    atd_shard_writer_free(writer);
}

/* ---- 4. what is there ---- */

static void look_around(struct atd_registry *registry, struct atd_arena *arena)
{
    const struct atd_entry *entries;
    const struct atd_schema *decoded;
    struct atd_schema_record record;
    struct atd_buf python = ATD_BUF_INIT(65536);
    struct atd_buf url = ATD_BUF_INIT(8192);
    struct atd_entry entry;
    size_t count;

    TRY(atd_registry_list_entries(registry, arena, &entries, &count, &why));
    for (size_t i = 0; i < count; i++)
        printf("dataset %.*s, %zu shards, %s\n", (int)entries[i].name.len, entries[i].name.ptr,
               entries[i].url_count, entries[i].cid.ptr);
    TRY(atd_registry_resolve(registry, ATD_STR("@local/" NAME "@1.0.0"), arena, &entry, &why));
    printf("resolved %s\n", entry.cid.ptr);

    TRY(atd_registry_get_schema(registry, entry.schema_ref, arena, &record, &why));
    TRY(atd_schema_decode(record.json, arena, &decoded, &why));
    atd_schema_python(decoded, record.ref, &python);
    TRY(atd_buf_finish(&python, "the class", &why));
    printf("%s", (const char *)python.ptr);

    if (atd_str_starts_with(entry.data_urls[0], ATD_STR("s3://"))) {
        TRY(atd_registry_sign_url(registry, entry.data_urls[0], 3600, &url, &why));
        printf("signed %s\n", (const char *)url.ptr);
    }
    atd_buf_release(&url);
    atd_buf_release(&python);
}

/* ---- 5. reading it back, in batches ---- */

static void load(struct atd_registry *registry)
{
    const struct atd_loader_options options = {.shuffle_samples = 50, .seed = 42};
    const struct atd_batch *batch;
    struct atd_loader *loader;

    TRY(atd_loader_open(registry, ATD_STR("@local/" NAME), &options, &loader, &why));
    for (;;) {
        const struct atd_batch_column *image;

        TRY(atd_loader_next_batch(loader, 32, &batch, &why));
        if (!batch)
            break;
        image = atd_batch_find(batch, ATD_STR("image"));
        printf("batch of %zu: image %llux%llux%llu, first pixel %g\n", batch->count,
               (unsigned long long)image->array.shape[0], (unsigned long long)image->array.shape[1],
               (unsigned long long)image->array.shape[2],
               (double)((const float *)(const void *)image->array.data.ptr)[0]);
    }
    atd_loader_close(loader);
}

int main(int argc, char **argv)
{
    struct atd_registry_options options = {0};
    struct atd_registry *registry;
    struct atd_arena arena = ATD_ARENA_INIT((size_t)1 << 30);

    if (argc < 3) {
        fprintf(stderr, "usage: %s DIR INDEX-URL [STORE [ENDPOINT ENV_FILE]]\n", argv[0]);
        return 2;
    }
    options.index_url = argv[2];
    options.store = argc > 3 ? argv[3] : NULL;
    options.endpoint = argc > 5 ? argv[4] : NULL;
    options.env_file = argc > 5 ? argv[5] : NULL;
    options.state_dir = argv[1];
    TRY(atd_registry_open(&options, &registry, &why));
    publish(registry, argv[1], &arena);
    look_around(registry, &arena);
    load(registry);
    atd_arena_release(&arena);
    return atd_registry_close(registry) ? 0 : 1;
}
