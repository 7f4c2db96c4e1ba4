#include "dataset/batch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"

#define ALIGNMENT 64u
/* Of keys, columns and values; not of arrays. */
#define ARENA_BYTES_MAX ((size_t)8 << 30)
#define NATIVE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? '<' : '>')

struct atd_batch_memory {
    struct atd_arena arena;
    struct atd_batch batch;
    void **arrays; /* of columns, each its own memory; `array_count` */
    size_t array_count;
};

bool atd_field_is_array(const struct atd_schema *schema, const struct atd_sample_field *field)
{
    if (field->value.type != ATD_VALUE_BIN)
        return false;
    if (!schema)
        return atd_array_sniff(field->value.bin);
    for (size_t i = 0; i < schema->field_count; i++) {
        if (atd_str_equal(schema->fields[i].name, field->name))
            return schema->fields[i].type.kind == ATD_KIND_NDARRAY ||
                   schema->fields[i].type.kind == ATD_KIND_STRUCTURED;
    }
    return false;
}

static void clear(struct atd_batch_memory *memory)
{
    for (size_t i = 0; i < memory->array_count; i++)
        free(memory->arrays[i]);
    memory->arrays = NULL;
    memory->array_count = 0;
    atd_arena_release(&memory->arena);
    atd_arena_init(&memory->arena, ARENA_BYTES_MAX);
}

struct atd_batch_memory *atd_batch_memory_new(void)
{
    struct atd_batch_memory *memory = calloc(1, sizeof(*memory));

    if (memory)
        atd_arena_init(&memory->arena, ARENA_BYTES_MAX);
    return memory;
}

void atd_batch_memory_free(struct atd_batch_memory *memory)
{
    if (!memory)
        return;
    clear(memory);
    atd_arena_release(&memory->arena);
    free(memory);
}

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory");
}

/* ------------------------------------------------------------------ dtypes */

static bool is_compound(struct atd_str dtype)
{
    return dtype.len > 0 && dtype.ptr[0] == '[';
}

/* Texts and bytes: items of other widths are padded with zeros, as NumPy does. */
static bool is_text(struct atd_str dtype)
{
    return dtype.len > 1 && (dtype.ptr[1] == 'U' || dtype.ptr[1] == 'S');
}

static bool is_swapped(struct atd_str dtype)
{
    return dtype.len > 1 && (dtype.ptr[0] == '<' || dtype.ptr[0] == '>') && dtype.ptr[0] != NATIVE;
}

/* What is turned round when the byte order is another. */
static size_t swap_unit(struct atd_str dtype, uint64_t item_size)
{
    switch (dtype.ptr[1]) {
    case 'U':
        return 4;
    case 'c':
        return (size_t)item_size / 2;
    default:
        return (size_t)item_size;
    }
}

/* All but the byte order, and a text's width. */
static bool is_same_kind(const struct atd_array *a, const struct atd_array *b)
{
    if (is_compound(a->dtype) || is_compound(b->dtype) || a->dtype.len < 2 || b->dtype.len < 2)
        return atd_str_equal(a->dtype, b->dtype);
    if (is_text(a->dtype))
        return a->dtype.ptr[1] == b->dtype.ptr[1];
    return atd_str_equal(atd_str_from_byte(a->dtype, 1), atd_str_from_byte(b->dtype, 1));
}

static void copy_swapped(uint8_t *to, const uint8_t *from, size_t len, size_t unit)
{
    for (size_t at = 0; at + unit <= len; at += unit) {
        for (size_t i = 0; i < unit; i++)
            to[at + i] = from[at + unit - 1 - i];
    }
}

/* ------------------------------------------------------------------ one array into the stack */

static void copy_item(const struct atd_array *from, uint64_t place, uint8_t *to)
{
    const uint8_t *item = from->data.ptr + place * from->item_size;

    if (!is_compound(from->dtype) && is_swapped(from->dtype))
        copy_swapped(to, item, (size_t)from->item_size, swap_unit(from->dtype, from->item_size));
    else
        memcpy(to, item, (size_t)from->item_size);
}

static uint64_t count_items(const struct atd_array *array)
{
    uint64_t count = 1;

    for (unsigned i = 0; i < array->ndim; i++)
        count *= array->shape[i]; /* atd_array_decode() has checked that it fits */
    return count;
}

/* `to` takes items of `item_size`: `from`'s, or more, and then it is zero. */
static void copy_array(const struct atd_array *from, uint64_t item_size, uint8_t *to)
{
    uint64_t count = count_items(from);
    uint64_t index[ATD_ARRAY_NDIM_MAX] = {0};
    bool as_it_is = !from->fortran && from->item_size == item_size &&
                    (is_compound(from->dtype) || !is_swapped(from->dtype));

    if (as_it_is) {
        if (count * item_size > 0)
            memcpy(to, from->data.ptr, (size_t)(count * item_size));
        return;
    }
    for (uint64_t i = 0; i < count && from->item_size > 0; i++) {
        uint64_t place = i;

        /* In C order the last index runs fastest, in Fortran's the first. */
        if (from->fortran) {
            place = 0;
            for (unsigned d = from->ndim; d-- > 0;)
                place = place * from->shape[d] + index[d];
        }
        copy_item(from, place, to + i * item_size);
        for (unsigned d = from->ndim; d-- > 0 && ++index[d] == from->shape[d];)
            index[d] = 0;
    }
}

/* ------------------------------------------------------------------ one column */

static const struct atd_sample_field *find_field(const struct atd_loaded *sample,
                                                 struct atd_str name)
{
    for (size_t i = 0; i < sample->sample.field_count; i++) {
        if (atd_str_equal(sample->sample.fields[i].name, name))
            return &sample->sample.fields[i];
    }
    return NULL;
}

static int uneven(struct atd_str name, const struct atd_loaded *sample, const char *what,
                  struct atd_error *err)
{
    return atd_error_set(err, EINVAL,
                         "field '" ATD_STR_FMT "' of sample '" ATD_STR_FMT "' %s that of the first "
                         "sample of the batch: they cannot be stacked",
                         ATD_STR_ARG(name), ATD_STR_ARG(sample->key), what);
}

static int decode_all(const struct atd_loaded *const *samples, size_t count, struct atd_str name,
                      const struct atd_schema *schema, struct atd_array *arrays,
                      struct atd_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct atd_sample_field *field = find_field(samples[i], name);
        int rc;

        if (!field || field->value.type != ATD_VALUE_BIN ||
            (!schema && i > 0 && !atd_field_is_array(schema, field)))
            return uneven(name, samples[i], "is no array, as is", err);
        rc = atd_array_decode(field->value.bin, &arrays[i], err);
        if (rc)
            return atd_error_wrap(err, rc, "field '" ATD_STR_FMT "' of sample '" ATD_STR_FMT "'",
                                  ATD_STR_ARG(name), ATD_STR_ARG(samples[i]->key));
        if (arrays[i].ndim != arrays[0].ndim ||
            memcmp(arrays[i].shape, arrays[0].shape, arrays[0].ndim * sizeof(arrays[0].shape[0])) !=
                0)
            return uneven(name, samples[i], "has another shape than", err);
        if (!is_same_kind(&arrays[i], &arrays[0]))
            return uneven(name, samples[i], "has another dtype than", err);
    }
    return 0;
}

/* The stack's dtype: in this machine's byte order, a text's as wide as the widest. */
static int choose_dtype(struct atd_batch_memory *memory, const struct atd_array *widest,
                        struct atd_str *ret_dtype, struct atd_error *err)
{
    struct atd_str copy = atd_arena_str(&memory->arena, widest->dtype);
    char text[ATD_DTYPE_LEN_MAX + 1];

    if (!copy.ptr)
        return no_memory(err);
    if (!is_compound(copy) && is_swapped(copy)) {
        (void)snprintf(text, sizeof(text), "%c" ATD_STR_FMT, NATIVE,
                       ATD_STR_ARG(atd_str_from_byte(copy, 1)));
        copy = atd_arena_str(&memory->arena, atd_str_from(text));
        if (!copy.ptr)
            return no_memory(err);
    }
    *ret_dtype = copy;
    return 0;
}

static int make_stack(struct atd_batch_memory *memory, const struct atd_array *arrays, size_t count,
                      uint64_t *bytes_left, struct atd_batch_column *column, struct atd_error *err)
{
    const struct atd_array *widest = &arrays[0];
    struct atd_array *stack = &column->array;
    uint64_t each;
    uint64_t bytes;
    int rc;

    for (size_t i = 1; i < count; i++) {
        if (arrays[i].item_size > widest->item_size)
            widest = &arrays[i];
    }
    rc = choose_dtype(memory, widest, &stack->dtype, err);
    if (rc)
        return rc;
    if (arrays[0].ndim == ATD_ARRAY_NDIM_MAX)
        return atd_error_set(err, E2BIG, "field '" ATD_STR_FMT "' has %d dimensions already",
                             ATD_STR_ARG(column->name), ATD_ARRAY_NDIM_MAX);
    if (__builtin_mul_overflow(count_items(&arrays[0]), widest->item_size, &each) ||
        __builtin_mul_overflow(each, (uint64_t)count, &bytes) || bytes > *bytes_left)
        return atd_error_set(err, E2BIG, "the arrays of the batch have more than %u GiB",
                             (unsigned)(ATD_BATCH_BYTES_MAX >> 30));
    *bytes_left -= bytes;
    stack->form = ATD_ARRAY_NPY;
    stack->item_size = widest->item_size;
    stack->ndim = arrays[0].ndim + 1;
    stack->shape[0] = count;
    memcpy(&stack->shape[1], arrays[0].shape, arrays[0].ndim * sizeof(arrays[0].shape[0]));
    /* A multiple of the alignment, and never nothing: a pointer of its own. */
    stack->data.ptr = aligned_alloc(ALIGNMENT, (size_t)(bytes / ALIGNMENT + 1) * ALIGNMENT);
    if (!stack->data.ptr)
        return no_memory(err);
    stack->data.len = (size_t)bytes;
    memory->arrays[memory->array_count++] = (void *)(uintptr_t)stack->data.ptr;
    if (is_text(widest->dtype)) /* narrower items leave zeros behind them */
        memset(memory->arrays[memory->array_count - 1], 0, (size_t)bytes);
    for (size_t i = 0; i < count; i++)
        copy_array(&arrays[i], widest->item_size,
                   (uint8_t *)memory->arrays[memory->array_count - 1] + i * each);
    column->is_stacked = true;
    return 0;
}

static int make_values(struct atd_batch_memory *memory, const struct atd_loaded *const *samples,
                       size_t count, struct atd_batch_column *column, struct atd_error *err)
{
    struct atd_value *values = atd_arena_alloc_array(&memory->arena, count, sizeof(*values));

    if (!values)
        return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        const struct atd_sample_field *field = find_field(samples[i], column->name);

        values[i] = field ? field->value : (struct atd_value){.type = ATD_VALUE_NIL};
    }
    column->values = values;
    return 0;
}

/* As the Python library has it, the first sample decides whether a column is stacked. */
static int make_column(struct atd_batch_memory *memory, const struct atd_loaded *const *samples,
                       size_t count, const struct atd_schema *schema, uint64_t *bytes_left,
                       struct atd_batch_column *column, struct atd_error *err)
{
    const struct atd_sample_field *first = find_field(samples[0], column->name);
    atd_auto_free struct atd_array *arrays = NULL;
    int rc;

    if (!first || !atd_field_is_array(schema, first))
        return make_values(memory, samples, count, column, err);
    arrays = calloc(count, sizeof(*arrays));
    if (!arrays)
        return no_memory(err);
    rc = decode_all(samples, count, column->name, schema, arrays, err);
    return rc ? rc : make_stack(memory, arrays, count, bytes_left, column, err);
}

/* ------------------------------------------------------------------ all of them */

static int name_columns(struct atd_batch_memory *memory, const struct atd_loaded *first,
                        const struct atd_schema *schema, struct atd_batch_column **ret_columns,
                        size_t *ret_count, struct atd_error *err)
{
    size_t count = schema ? schema->field_count : first->sample.field_count;
    struct atd_batch_column *columns =
        atd_arena_alloc_array(&memory->arena, count, sizeof(*columns));

    memory->arrays = atd_arena_alloc_array(&memory->arena, count, sizeof(*memory->arrays));
    if (!columns || !memory->arrays)
        return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        struct atd_str name = schema ? schema->fields[i].name : first->sample.fields[i].name;

        columns[i].name = atd_arena_str(&memory->arena, name);
        if (!columns[i].name.ptr)
            return no_memory(err);
    }
    *ret_columns = columns;
    *ret_count = count;
    return 0;
}

int atd_batch_stack(struct atd_batch_memory *memory, const struct atd_loaded *const *samples,
                    size_t count, const struct atd_schema *schema,
                    const struct atd_batch **ret_batch, struct atd_error *err)
{
    uint64_t bytes_left = ATD_BATCH_BYTES_MAX;
    struct atd_batch_column *columns = NULL;
    struct atd_str *keys;
    size_t column_count = 0;
    int rc;

    atd_assert(count > 0);
    clear(memory);
    rc = name_columns(memory, samples[0], schema, &columns, &column_count, err);
    if (rc)
        return rc;
    keys = atd_arena_alloc_array(&memory->arena, count, sizeof(*keys));
    if (!keys)
        return no_memory(err);
    for (size_t i = 0; i < count; i++)
        keys[i] = samples[i]->key;
    for (size_t i = 0; rc == 0 && i < column_count; i++)
        rc = make_column(memory, samples, count, schema, &bytes_left, &columns[i], err);
    if (rc)
        return rc;
    memory->batch = (struct atd_batch){
        .count = count, .keys = keys, .columns = columns, .column_count = column_count};
    *ret_batch = &memory->batch;
    return 0;
}

const struct atd_batch_column *atd_batch_find(const struct atd_batch *batch, struct atd_str name)
{
    for (size_t i = 0; i < batch->column_count; i++) {
        if (atd_str_equal(batch->columns[i].name, name))
            return &batch->columns[i];
    }
    return NULL;
}
