/*
 * The public API from the command line, for e2e/test_api.py. What is read comes out as msgpack, one
 * document a sample or batch.
 *
 *   api_tool [OPTION=VALUE ...] COMMAND ARGUMENT ...
 */
#include <atdata/entry.h>
#include <atdata/loader.h>
#include <atdata/shard_writer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUT_BYTES_MAX ((size_t)1 << 30)
#define ALL_SAMPLES 5u

static struct atd_error why;
static struct atd_arena arena = ATD_ARENA_INIT((size_t)1 << 30);
static struct atd_registry *registry;
static struct atd_loader_options loading;
static struct atd_loader *loader;

/* Closed also then: exit handlers must not run beside the registry's threads. */
static void fail(void)
{
    (void)fprintf(stderr, "%s\n", why.text);
    atd_loader_close(loader);
    exit(atd_registry_close(registry) ? 1 : 3);
}

#define TRY(call)        \
    do {                 \
        if ((call) != 0) \
            fail();      \
    } while (0)

/* ------------------------------------------------------------------ what is read */

static void put_text(struct atd_buf *out, const char *text)
{
    atd_sample_put_str(out, atd_str_from(text));
}

static void put_array(struct atd_buf *out, const struct atd_array *array)
{
    atd_sample_put_map(out, 4);
    put_text(out, "dtype");
    atd_sample_put_str(out, array->dtype);
    put_text(out, "fortran");
    atd_sample_put_bool(out, array->fortran);
    put_text(out, "shape");
    atd_sample_put_array(out, array->ndim);
    for (unsigned i = 0; i < array->ndim; i++)
        atd_sample_put_uint(out, array->shape[i]);
    put_text(out, "data");
    atd_sample_put_bin(out, array->data);
}

static void put_raw(struct atd_buf *out, const struct atd_value *value)
{
    if (value->raw.len)
        atd_buf_append(out, value->raw.ptr, value->raw.len);
    else
        atd_sample_put_nil(out);
}

static void write_out(struct atd_buf *out)
{
    TRY(atd_buf_finish(out, "the output", &why));
    (void)fwrite(out->ptr, 1, out->len, stdout);
    atd_buf_clear(out);
}

static void write_sample(const struct atd_loaded *loaded, struct atd_buf *out)
{
    atd_sample_put_map(out, 3);
    put_text(out, "key");
    atd_sample_put_str(out, loaded->key);
    put_text(out, "members");
    atd_sample_put_map(out, (uint32_t)loaded->member_count);
    for (size_t i = 0; i < loaded->member_count; i++) {
        atd_sample_put_str(out, loaded->members[i].extension);
        atd_sample_put_bin(out, loaded->members[i].bytes);
    }
    put_text(out, "fields");
    atd_sample_put_map(out, (uint32_t)loaded->sample.field_count);
    for (size_t i = 0; i < loaded->sample.field_count; i++) {
        const struct atd_sample_field *field = &loaded->sample.fields[i];
        struct atd_array array;

        atd_sample_put_str(out, field->name);
        if (atd_loader_is_array(loader, field)) {
            TRY(atd_array_decode(field->value.bin, &array, &why));
            put_array(out, &array);
        } else {
            put_raw(out, &field->value);
        }
    }
    write_out(out);
}

static void write_batch(const struct atd_batch *batch, struct atd_buf *out)
{
    atd_sample_put_map(out, 2);
    put_text(out, "keys");
    atd_sample_put_array(out, (uint32_t)batch->count);
    for (size_t i = 0; i < batch->count; i++)
        atd_sample_put_str(out, batch->keys[i]);
    put_text(out, "columns");
    atd_sample_put_map(out, (uint32_t)batch->column_count);
    for (size_t i = 0; i < batch->column_count; i++) {
        const struct atd_batch_column *column = &batch->columns[i];

        atd_sample_put_str(out, column->name);
        if (column->is_stacked) {
            put_array(out, &column->array);
            continue;
        }
        atd_sample_put_array(out, (uint32_t)batch->count);
        for (size_t k = 0; k < batch->count; k++)
            put_raw(out, &column->values[k]);
    }
    write_out(out);
}

static void read_all(size_t batch_size)
{
    struct atd_buf out = ATD_BUF_INIT(OUT_BYTES_MAX);
    const struct atd_loaded *loaded = NULL;
    const struct atd_batch *batch = NULL;

    for (;;) {
        if (batch_size)
            TRY(atd_loader_next_batch(loader, batch_size, &batch, &why));
        else
            TRY(atd_loader_next(loader, &loaded, &why));
        if (batch)
            write_batch(batch, &out);
        else if (loaded)
            write_sample(loaded, &out);
        else
            break;
    }
    atd_buf_release(&out);
}

/* ------------------------------------------------------------------ one array of each dtype */

static const struct {
    const char *name;
    const char *dtype;
    unsigned ndim;
    uint64_t shape[3];
    bool fortran; /* npy only */
} kinds[] = {
    {"flags", "|b1", 1, {5}, false},        {"i1", "|i1", 2, {2, 3}, false},
    {"i2", "<i2", 2, {2, 3}, false},        {"i4", "<i4", 2, {2, 3}, false},
    {"i8", "<i8", 2, {2, 3}, false},        {"u1", "|u1", 3, {2, 3, 4}, false},
    {"u2", "<u2", 2, {2, 3}, false},        {"u4", "<u4", 2, {2, 3}, false},
    {"u8", "<u8", 2, {2, 3}, false},        {"f2", "<f2", 2, {2, 3}, false},
    {"f4", "<f4", 2, {2, 3}, false},        {"f8", "<f8", 2, {2, 3}, false},
    {"c8", "<c8", 2, {2, 3}, false},        {"c16", "<c16", 2, {2, 3}, false},
    {"big_i2", ">i2", 2, {2, 3}, false},    {"big_f8", ">f8", 2, {2, 3}, false},
    {"big_c8", ">c8", 2, {2, 3}, false},    {"texts", "<U3", 1, {4}, false},
    {"big_texts", ">U3", 1, {4}, false},    {"octets", "|S4", 1, {4}, false},
    {"times", "<M8[ns]", 1, {4}, false},    {"spans", "<m8[s]", 1, {4}, false},
    {"point", "<f4", 0, {0}, false},        {"nothing", "<f4", 1, {0}, false},
    {"columns", "<f8", 3, {2, 3, 4}, true}, {"big_columns", ">i4", 2, {3, 4}, true},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* test_api.py makes the same bytes. */
static void fill(uint8_t *bytes, size_t len, const char *dtype, unsigned number)
{
    for (size_t i = 0; i < len; i++) {
        if (dtype[1] == 'b')
            bytes[i] = (uint8_t)((i + number) % 2);
        else if (dtype[1] == 'U')
            bytes[i] = i % 4 == (dtype[0] == '<' ? 0 : 3) ? (uint8_t)('A' + (i + number) % 26) : 0;
        else if (dtype[1] == 'S')
            bytes[i] = (uint8_t)('a' + (i + number) % 26);
        else
            bytes[i] = (uint8_t)((i * 7 + number * 13 + 1) % 120);
    }
}

static void encode_all(unsigned number, bool compact, struct atd_buf *out)
{
    struct atd_buf text = ATD_BUF_INIT(65536);

    atd_sample_put_map(out, KINDS + 6);
    for (size_t i = 0; i < KINDS; i++) {
        struct atd_array array = {.dtype = atd_str_from(kinds[i].dtype),
                                  .ndim = kinds[i].ndim,
                                  .fortran = kinds[i].fortran && !compact};
        uint8_t bytes[4096];

        TRY(atd_dtype_item_size(array.dtype, &array.item_size, &why));
        array.data = (struct atd_bytes){bytes, (size_t)array.item_size};
        for (unsigned d = 0; d < array.ndim; d++) {
            array.shape[d] = kinds[i].shape[d];
            array.data.len *= (size_t)array.shape[d];
        }
        fill(bytes, array.data.len, kinds[i].dtype, number);
        atd_buf_clear(&text);
        if (compact)
            TRY(atd_array_encode_compact(&array, &text, &why));
        else
            atd_array_encode_npy(&array, &text);
        atd_sample_put_str(out, atd_str_from(kinds[i].name));
        atd_sample_put_bin(out, atd_buf_bytes(&text));
    }
    put_text(out, "text");
    put_text(out, "na\xc3\xafve \xe6\x95\xb0\n");
    put_text(out, "number");
    atd_sample_put_int(out, number % 2 ? INT64_MIN : -(int64_t)number);
    put_text(out, "ratio");
    atd_sample_put_float(out, number / 3.0);
    put_text(out, "flag");
    atd_sample_put_bool(out, number % 2);
    put_text(out, "raw");
    atd_sample_put_bin(out, (struct atd_bytes){(const uint8_t *)"\0\xff", 2});
    put_text(out, "tags");
    atd_sample_put_array(out, number);
    for (unsigned i = 0; i < number; i++)
        atd_sample_put_uint(out, (uint64_t)1 << i);
    TRY(atd_buf_finish(out, "the sample", &why));
    atd_buf_release(&text);
}

static const struct atd_schema *all_schema(void)
{
    static const struct atd_field_type integer = {.kind = ATD_KIND_PRIMITIVE,
                                                  .primitive = ATD_PRIMITIVE_INT};
    static const struct {
        const char *name;
        struct atd_field_type type;
    } others[] = {
        {"text", {.kind = ATD_KIND_PRIMITIVE, .primitive = ATD_PRIMITIVE_STR}},
        {"number", {.kind = ATD_KIND_PRIMITIVE, .primitive = ATD_PRIMITIVE_INT}},
        {"ratio", {.kind = ATD_KIND_PRIMITIVE, .primitive = ATD_PRIMITIVE_FLOAT}},
        {"flag", {.kind = ATD_KIND_PRIMITIVE, .primitive = ATD_PRIMITIVE_BOOL}},
        {"raw", {.kind = ATD_KIND_PRIMITIVE, .primitive = ATD_PRIMITIVE_BYTES}},
        {"tags", {.kind = ATD_KIND_ARRAY, .items = &integer}},
    };
    static struct atd_field fields[KINDS + 6];
    static struct atd_schema schema = {
        .name = ATD_STR_INIT("Everything"), .fields = fields, .field_count = KINDS + 6};

    for (size_t i = 0; i < KINDS; i++) {
        fields[i].name = atd_str_from(kinds[i].name);
        fields[i].type = (struct atd_field_type){.kind = ATD_KIND_NDARRAY};
    }
    for (size_t i = 0; i < 6; i++)
        fields[KINDS + i] =
            (struct atd_field){.name = atd_str_from(others[i].name), .type = others[i].type};
    return &schema;
}

/* write NAME STEM npy|compact: five samples in shards of two. */
static void command_write(char **args)
{
    const struct atd_shard_writer_options options = {.stem = args[1], .samples_max = 2};
    struct atd_buf sample = ATD_BUF_INIT(OUT_BYTES_MAX);
    struct atd_schema schema = *all_schema();
    struct atd_shard_writer *writer;
    struct atd_schema_record record;
    struct atd_str ref;

    /* Without a version: the next one. */
    TRY(atd_registry_publish_schema(registry, &schema, &arena, &ref, &why));
    TRY(atd_registry_get_schema(registry, ref, &arena, &record, &why));
    schema.version = record.version;
    TRY(atd_shard_writer_new(&options, &writer, &why));
    for (unsigned i = 0; i < ALL_SAMPLES; i++) {
        atd_buf_clear(&sample);
        encode_all(i, strcmp(args[2], "compact") == 0, &sample);
        TRY(atd_shard_writer_put(writer, ATD_STR(""), atd_buf_bytes(&sample), &why));
    }
    TRY(atd_shard_writer_finish(writer, &why));
    for (size_t i = 0; i < atd_shard_writer_count(writer); i++) {
        struct atd_published published;

        TRY(atd_registry_publish_shard(registry, atd_str_from(args[0]),
                                       atd_shard_writer_path(writer, i), &schema, &arena,
                                       &published, &why));
        (void)printf("%s %s %d\n", published.url.ptr, published.cid.text, published.was_there);
    }
    atd_shard_writer_free(writer);
    atd_buf_release(&sample);
}

/* ------------------------------------------------------------------ commands */

static void command_samples(char **args)
{
    TRY(atd_loader_open(registry, atd_str_from(args[0]), &loading, &loader, &why));
    read_all(0);
}

static void command_batches(char **args)
{
    TRY(atd_loader_open(registry, atd_str_from(args[0]), &loading, &loader, &why));
    read_all((size_t)atoi(args[1]));
}

static void command_url(char **args)
{
    struct atd_str url = atd_str_from(args[0]);
    TRY(atd_loader_open_urls(registry, &url, 1, NULL, &loading, &loader, &why));
    read_all((size_t)atoi(args[1]));
}

static void command_resolve(char **args)
{
    struct atd_entry entry;

    TRY(atd_registry_resolve(registry, atd_str_from(args[0]), &arena, &entry, &why));
    (void)printf("%s %s %s\n", entry.cid.ptr, entry.name.ptr, entry.schema_ref.ptr);
}

static void command_list(char **args)
{
    const struct atd_entry *entries;
    const struct atd_label *labels;
    const struct atd_schema_record *records;
    size_t count;

    (void)args;
    TRY(atd_registry_list_entries(registry, &arena, &entries, &count, &why));
    for (size_t i = 0; i < count; i++)
        (void)printf("entry %s %s\n", entries[i].cid.ptr, entries[i].name.ptr);
    TRY(atd_registry_list_labels(registry, &arena, &labels, &count, &why));
    for (size_t i = 0; i < count; i++)
        (void)printf("label %s %s@%s\n", labels[i].cid.ptr, labels[i].name.ptr,
                     labels[i].version.ptr);
    TRY(atd_registry_list_schemas(registry, &arena, &records, &count, &why));
    for (size_t i = 0; i < count; i++)
        (void)printf("schema %s\n", records[i].ref.ptr);
}

static void command_insert(char **args)
{
    struct atd_str url = atd_str_from(args[2]);
    struct atd_cid cid;

    TRY(atd_registry_insert(registry, atd_str_from(args[0]), atd_str_from(args[1]), &url, 1,
                            (struct atd_bytes){NULL, 0}, &cid, &why));
    (void)printf("%s\n", cid.text);
}

static void command_label(char **args)
{
    TRY(atd_registry_label(registry, atd_str_from(args[0]), atd_str_from(args[1]),
                           atd_str_from(args[2]), &why));
}

static void command_sign(char **args)
{
    struct atd_buf url = ATD_BUF_INIT(65536);

    TRY(atd_registry_sign_url(registry, atd_str_from(args[0]), 60, &url, &why));
    (void)printf("%s\n", (const char *)url.ptr);
    atd_buf_release(&url);
}

static const struct {
    const char *name;
    int arguments;
    void (*run)(char **args);
} commands[] = {
    {"write", 3, command_write},   {"samples", 1, command_samples}, {"batches", 2, command_batches},
    {"url", 2, command_url},       {"resolve", 1, command_resolve}, {"list", 0, command_list},
    {"insert", 3, command_insert}, {"label", 3, command_label},     {"sign", 1, command_sign},
};

static bool take_option(struct atd_registry_options *options, const char **root, char *arg)
{
    char *value = strchr(arg, '=');

    if (!value)
        return false;
    *value++ = '\0';
    if (strcmp(arg, "index") == 0)
        options->index_url = value;
    else if (strcmp(arg, "store") == 0)
        options->store = value;
    else if (strcmp(arg, "endpoint") == 0)
        options->endpoint = value;
    else if (strcmp(arg, "env_file") == 0)
        options->env_file = value;
    else if (strcmp(arg, "state_dir") == 0)
        options->state_dir = value;
    else if (strcmp(arg, "universal") == 0)
        options->universal = true;
    else if (strcmp(arg, "read_only") == 0)
        options->read_only = true;
    else if (strcmp(arg, "timeout") == 0)
        options->timeout_s = (unsigned)atoi(value);
    else if (strcmp(arg, "root") == 0)
        *root = value;
    else if (strcmp(arg, "shuffle") == 0)
        loading.shuffle_samples = (size_t)atoi(value), loading.shuffle_shards = true;
    else if (strcmp(arg, "seed") == 0)
        loading.seed = (uint64_t)atoi(value);
    else if (strcmp(arg, "memory") == 0)
        loading.memory_bytes = (uint64_t)atoi(value);
    return true;
}

int main(int argc, char **argv)
{
    struct atd_registry_options options = {0};
    const char *root = NULL;
    int at = 1;

    while (at < argc && take_option(&options, &root, argv[at]))
        at++;
    options.data_roots = &root;
    options.data_root_count = root != NULL;
    for (size_t i = 0; at < argc && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[at], commands[i].name) != 0 || argc - at - 1 != commands[i].arguments)
            continue;
        TRY(atd_registry_open(&options, &registry, &why));
        commands[i].run(argv + at + 1);
        atd_loader_close(loader);
        atd_arena_release(&arena);
        return atd_registry_close(registry) ? 0 : 3;
    }
    return 2;
}
