#include "dataset/sample_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "atdata/array.h"
#include "atdata/sample.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/limits.h"
#include "codec/file_name.h"
#include "dataset/sample_json.h"
#include "dataset/sniff.h"

/* A name of "~", up to 5 digits, and the longest suffix. */
#define SUFFIX_BYTES_MAX 32

struct maker {
    struct atd_arena *arena;
    const struct atd_schema *schema;
    struct atd_sample_json json;
    struct atd_sample_file *files;
    const char **suffixes;  /* of each, static text */
    struct atd_str *fields; /* the name of each */
    size_t count;
    struct atd_error *err;
};

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory for the files of a sample");
}

/* ------------------------------------------------------------------ names */

/* The name in the arena; ptr NULL: out of memory. `number` 0 or what follows the "~". */
static struct atd_str file_name(struct atd_arena *arena, struct atd_str field, unsigned number,
                                const char *suffix)
{
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT((size_t)4 * ATD_FILE_NAME_MAX);
    uint8_t digest[ATD_SHA256_BYTES] = {0};
    char all[SUFFIX_BYTES_MAX];
    char hash[9];

    if (field.len + SUFFIX_BYTES_MAX > ATD_FILE_NAME_MAX / 3) /* it may be cut */
        atd_sha256_of(field.ptr, field.len, digest);
    (void)snprintf(hash, sizeof(hash), "%02x%02x%02x%02x", digest[0], digest[1], digest[2],
                   digest[3]);
    if (number)
        (void)snprintf(all, sizeof(all), "~%u%s", number, suffix);
    else
        (void)snprintf(all, sizeof(all), "%s", suffix);
    atd_file_name_encode(field, atd_str_from(hash), atd_str_from(all), &name);
    if (name.failed)
        return (struct atd_str){NULL, 0};
    return atd_arena_str(arena, atd_buf_str(&name));
}

static int compare_files(const void *a, const void *b)
{
    const struct atd_sample_file *left = a;
    const struct atd_sample_file *right = b;

    return atd_str_compare(left->name, right->name);
}

/*
 * Only names that were cut can be equal (a digest of 32 bits tells them apart otherwise), so this
 * is for those who try: quadratic in the number of equal ones would be their gain.
 */
static void drop_equal(struct atd_sample_files *files, struct atd_sample_file *list)
{
    size_t kept = 0;

    for (size_t i = 0; i < files->count; i++) {
        if (kept == 0 || !atd_str_equal(list[kept - 1].name, list[i].name))
            list[kept++] = list[i];
    }
    files->count = kept;
}

struct named {
    struct atd_str name;
    size_t place;
};

static int compare_named(const void *a, const void *b)
{
    const struct named *left = a;
    const struct named *right = b;
    int order = atd_str_compare(left->name, right->name);

    return order ? order : (left->place > right->place) - (left->place < right->place);
}

/* Gives all but the first of equal names another. */
static int tell_apart(struct maker *maker)
{
    struct named *named = atd_arena_alloc_array(maker->arena, maker->count, sizeof(*named));
    unsigned number = 2;

    if (!named)
        return no_memory(maker->err);
    for (size_t i = 0; i < maker->count; i++)
        named[i] = (struct named){maker->files[i].name, i};
    qsort(named, maker->count, sizeof(*named), compare_named);
    for (size_t i = 1; i < maker->count; i++) {
        size_t place = named[i].place;

        if (!atd_str_equal(named[i].name, named[i - 1].name)) {
            number = 2;
            continue;
        }
        maker->files[place].name =
            file_name(maker->arena, maker->fields[place], number++, maker->suffixes[place]);
        if (!maker->files[place].name.ptr)
            return no_memory(maker->err);
    }
    return 0;
}

/* ------------------------------------------------------------------ contents */

static int add_file(struct maker *maker, struct atd_str field, const char *suffix,
                    struct atd_bytes head, struct atd_bytes body)
{
    struct atd_str name = file_name(maker->arena, field, 0, suffix);

    if (!name.ptr)
        return no_memory(maker->err);
    maker->fields[maker->count] = field;
    maker->suffixes[maker->count] = suffix;
    maker->files[maker->count++] = (struct atd_sample_file){name, head, body};
    return 0;
}

static const struct atd_field_type *type_of(const struct maker *maker, struct atd_str name)
{
    for (size_t i = 0; maker->schema && i < maker->schema->field_count; i++) {
        if (atd_str_equal(maker->schema->fields[i].name, name))
            return &maker->schema->fields[i].type;
    }
    return NULL;
}

/* Whether bytes are an array, as far as can be said without reading them as one. */
static bool may_be_array(const struct atd_field_type *type, struct atd_bytes bytes)
{
    if (!type || type->kind == ATD_KIND_UNKNOWN)
        return atd_array_sniff(bytes);
    return type->kind == ATD_KIND_NDARRAY || type->kind == ATD_KIND_STRUCTURED;
}

/* An .npy header for the compact form, whose data follow as they are. */
static int add_array(struct maker *maker, struct atd_str field, const struct atd_array *array)
{
    atd_auto_buf struct atd_buf header = ATD_BUF_INIT(1u << 20);
    struct atd_array without_data = *array;
    struct atd_bytes head;

    without_data.data = (struct atd_bytes){NULL, 0};
    atd_array_encode_npy(&without_data, &header);
    head = header.failed ? (struct atd_bytes){NULL, 0}
                         : atd_arena_bytes(maker->arena, atd_buf_bytes(&header));
    if (!head.ptr)
        return no_memory(maker->err);
    return add_file(maker, field, ".npy", head, array->data);
}

static int add_bytes(struct maker *maker, struct atd_str field, struct atd_bytes bytes)
{
    static const struct atd_bytes none = {NULL, 0};
    const struct atd_field_type *type = type_of(maker, field);
    struct atd_array array;

    if (!may_be_array(type, bytes) || atd_array_decode(bytes, &array, NULL) != 0) {
        /* No magic says that it is one of these. */
        bool is_arrow = type && type->kind == ATD_KIND_ARROW_TENSOR && bytes.len >= 4 &&
                        memcmp(bytes.ptr, "\xff\xff\xff\xff", 4) == 0;

        return add_file(maker, field, is_arrow ? ".arrow" : atd_sniff_suffix(bytes), none, bytes);
    }
    if (array.form == ATD_ARRAY_NPY)
        return add_file(maker, field, ".npy", none, bytes);
    return add_array(maker, field, &array);
}

static int add_field(struct maker *maker, const struct atd_sample_field *field)
{
    static const struct atd_bytes none = {NULL, 0};

    switch (field->value.type) {
    case ATD_VALUE_STR:
        return add_file(maker, field->name, ".txt", none, atd_str_bytes(field->value.str));
    case ATD_VALUE_BIN:
        return add_bytes(maker, field->name, field->value.bin);
    default:
        if (atd_sample_json_add(&maker->json, field->name, &field->value))
            return 0;
        return add_file(maker, field->name, ".msgpack", none, field->value.raw);
    }
}

/* ------------------------------------------------------------------ the whole */

static int add_fields(struct maker *maker, const struct atd_sample *sample)
{
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(ATD_SAMPLE_JSON_BYTES_MAX);
    static const struct atd_bytes none = {NULL, 0};
    struct atd_bytes text;
    int rc = 0;

    atd_sample_json_begin(&maker->json, &json);
    for (size_t i = 0; rc == 0 && i < sample->field_count; i++)
        rc = add_field(maker, &sample->fields[i]);
    atd_sample_json_end(&maker->json);
    if (rc)
        return rc;
    text = json.failed ? none : atd_arena_bytes(maker->arena, atd_buf_bytes(&json));
    if (!text.ptr)
        return no_memory(maker->err);
    return add_file(maker, ATD_STR("sample"), ".json", none, text);
}

/* What does not decode. */
static int add_undecoded(struct maker *maker, struct atd_bytes msgpack, const struct atd_error *why)
{
    static const struct atd_bytes none = {NULL, 0};
    char text[ATD_ERROR_TEXT_MAX + 64];
    struct atd_str copy;
    int rc;

    (void)snprintf(text, sizeof(text), "This sample does not decode: %s.\n", why->text);
    copy = atd_arena_str(maker->arena, atd_str_from(text));
    if (!copy.ptr)
        return no_memory(maker->err);
    rc = add_file(maker, ATD_STR("why"), ".txt", none, atd_str_bytes(copy));
    return rc ? rc : add_file(maker, ATD_STR("sample"), ".msgpack", none, msgpack);
}

int atd_sample_files_make(struct atd_bytes msgpack, const struct atd_schema *schema,
                          struct atd_arena *arena, struct atd_sample_files *ret_files,
                          struct atd_error *err)
{
    struct maker maker = {.arena = arena, .schema = schema, .err = err};
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_sample_files made;
    struct atd_sample sample = {0};
    int rc = atd_sample_decode(msgpack, arena, &sample, &why);
    size_t most = rc ? 2 : sample.field_count + 1;

    if (rc == -ENOMEM)
        return no_memory(err);
    maker.files = atd_arena_alloc_array(arena, most, sizeof(*maker.files));
    maker.fields = atd_arena_alloc_array(arena, most, sizeof(*maker.fields));
    maker.suffixes = atd_arena_alloc_array(arena, most, sizeof(*maker.suffixes));
    if (!maker.files || !maker.fields || !maker.suffixes)
        return no_memory(err);
    rc = rc ? add_undecoded(&maker, msgpack, &why) : add_fields(&maker, &sample);
    if (rc == 0)
        rc = tell_apart(&maker);
    if (rc)
        return rc;
    qsort(maker.files, maker.count, sizeof(*maker.files), compare_files);
    made = (struct atd_sample_files){maker.files, maker.count};
    drop_equal(&made, maker.files);
    *ret_files = made;
    return 0;
}

static int compare_name(const void *name, const void *file)
{
    return atd_str_compare(*(const struct atd_str *)name,
                           ((const struct atd_sample_file *)file)->name);
}

const struct atd_sample_file *atd_sample_files_find(const struct atd_sample_files *files,
                                                    struct atd_str name)
{
    return bsearch(&name, files->files, files->count, sizeof(*files->files), compare_name);
}
