#include <criterion/criterion.h>
#include <errno.h>

#include "base/cleanup.h"
#include "dataset/batch.h"

#define SAMPLES_MAX 4

/* Samples of one field `a`, and what they live in. */
struct rig {
    struct atd_batch_memory *memory;
    struct atd_buf bytes[SAMPLES_MAX];
    struct atd_sample_field fields[SAMPLES_MAX][2];
    struct atd_loaded samples[SAMPLES_MAX];
    const struct atd_loaded *pointers[SAMPLES_MAX];
    size_t count;
};

static void setup(struct rig *rig)
{
    *rig = (struct rig){.memory = atd_batch_memory_new()};
    cr_assert_not_null(rig->memory);
}

static void teardown(struct rig *rig)
{
    for (size_t i = 0; i < SAMPLES_MAX; i++)
        atd_buf_release(&rig->bytes[i]);
    atd_batch_memory_free(rig->memory);
}

static void add(struct rig *rig, struct atd_value value)
{
    size_t i = rig->count++;

    rig->fields[i][0] = (struct atd_sample_field){ATD_STR("a"), value};
    rig->samples[i].key = ATD_STR("k");
    rig->samples[i].sample = (struct atd_sample){rig->fields[i], 1};
    rig->pointers[i] = &rig->samples[i];
}

static void add_array(struct rig *rig, const char *dtype, unsigned ndim, const uint64_t *shape,
                      bool fortran, const void *data, size_t len)
{
    struct atd_buf *out = &rig->bytes[rig->count];
    struct atd_array array = {
        .dtype = atd_str_from(dtype), .ndim = ndim, .fortran = fortran, .data = {data, len}};

    cr_assert_eq(atd_dtype_item_size(array.dtype, &array.item_size, NULL), 0);
    memcpy(array.shape, shape, ndim * sizeof(*shape));
    atd_buf_init(out, 1 << 20);
    atd_array_encode_npy(&array, out);
    cr_assert_eq(atd_buf_finish(out, "an array", NULL), 0);
    add(rig, (struct atd_value){.type = ATD_VALUE_BIN, .bin = atd_buf_bytes(out)});
}

static const struct atd_batch *stack(struct rig *rig)
{
    const struct atd_batch *batch;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_batch_stack(rig->memory, rig->pointers, rig->count, NULL, &batch, &err), 0,
                 "%s", err.text);
    return batch;
}

static void fails(struct rig *rig, const char *word)
{
    const struct atd_batch *batch;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_batch_stack(rig->memory, rig->pointers, rig->count, NULL, &batch, &err),
                 -EINVAL);
    cr_assert_not_null(strstr(err.text, word), "%s", err.text);
}

Test(batch, stacks_in_c_order)
{
    static const uint64_t shape[] = {2, 3};
    static const uint8_t c[] = {1, 2, 3, 4, 5, 6};
    static const uint8_t fortran[] = {1, 4, 2, 5, 3, 6};
    const struct atd_batch_column *column;
    struct rig rig;

    setup(&rig);
    add_array(&rig, "|u1", 2, shape, false, c, sizeof(c));
    add_array(&rig, "|u1", 2, shape, true, fortran, sizeof(fortran));
    column = atd_batch_find(stack(&rig), ATD_STR("a"));
    cr_assert(column && column->is_stacked);
    cr_assert_eq(column->array.ndim, 3);
    cr_assert_eq(column->array.shape[0], 2);
    cr_assert_eq(column->array.shape[1], 2);
    cr_assert_eq(column->array.shape[2], 3);
    cr_assert_eq((uintptr_t)column->array.data.ptr % 64, 0);
    cr_assert_eq(column->array.data.len, 12);
    cr_assert_arr_eq(column->array.data.ptr, c, 6);
    cr_assert_arr_eq(column->array.data.ptr + 6, c, 6);
    cr_assert_null(atd_batch_find(stack(&rig), ATD_STR("b")));
    teardown(&rig);
}

Test(batch, turns_round_what_is_swapped)
{
    static const uint64_t shape[] = {1};
    static const uint8_t big[] = {0, 0, 1, 2};
    static const uint8_t little[] = {2, 1, 0, 0};
    static const uint8_t complex_big[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t complex_little[] = {4, 3, 2, 1, 8, 7, 6, 5};
    const struct atd_batch_column *column;
    struct rig rig;

    setup(&rig);
    add_array(&rig, ">i4", 1, shape, false, big, sizeof(big));
    add_array(&rig, "<i4", 1, shape, false, little, sizeof(little));
    column = &stack(&rig)->columns[0];
    cr_assert(atd_str_equal(column->array.dtype, ATD_STR("<i4")));
    cr_assert_arr_eq(column->array.data.ptr, little, 4);
    cr_assert_arr_eq(column->array.data.ptr + 4, little, 4);
    teardown(&rig);
    setup(&rig);
    add_array(&rig, ">c8", 1, shape, false, complex_big, sizeof(complex_big));
    column = &stack(&rig)->columns[0];
    cr_assert(atd_str_equal(column->array.dtype, ATD_STR("<c8")));
    cr_assert_arr_eq(column->array.data.ptr, complex_little, 8);
    teardown(&rig);
}

Test(batch, texts_take_the_widest)
{
    static const uint64_t shape[] = {2};
    const struct atd_batch_column *column;
    struct rig rig;

    setup(&rig);
    add_array(&rig, "|S1", 1, shape, false, "ab", 2);
    add_array(&rig, "|S3", 1, shape, false, "cdefgh", 6);
    column = &stack(&rig)->columns[0];
    cr_assert(atd_str_equal(column->array.dtype, ATD_STR("|S3")));
    cr_assert_arr_eq(column->array.data.ptr, "a\0\0b\0\0cdefgh", 12);
    teardown(&rig);
}

Test(batch, nothing_and_points)
{
    static const uint64_t none[] = {0};
    const struct atd_batch_column *column;
    struct rig rig;

    setup(&rig);
    add_array(&rig, "<f4", 1, none, false, "", 0);
    add_array(&rig, "<f4", 1, none, false, "", 0);
    column = &stack(&rig)->columns[0];
    cr_assert(column->is_stacked && column->array.data.len == 0 && column->array.ndim == 2);
    teardown(&rig);
    setup(&rig);
    add_array(&rig, "|u1", 0, none, false, "x", 1);
    add_array(&rig, "|u1", 0, none, false, "y", 1);
    column = &stack(&rig)->columns[0];
    cr_assert(column->array.ndim == 1 && column->array.shape[0] == 2);
    cr_assert_arr_eq(column->array.data.ptr, "xy", 2);
    teardown(&rig);
}

Test(batch, what_cannot_be_stacked)
{
    static const uint64_t two[] = {2};
    static const uint64_t three[] = {3};
    struct rig rig;

    setup(&rig);
    add_array(&rig, "|u1", 1, two, false, "ab", 2);
    add_array(&rig, "|u1", 1, three, false, "abc", 3);
    fails(&rig, "another shape");
    teardown(&rig);
    setup(&rig);
    add_array(&rig, "|u1", 1, two, false, "ab", 2);
    add_array(&rig, "|i1", 1, two, false, "ab", 2);
    fails(&rig, "another dtype");
    teardown(&rig);
    setup(&rig);
    add_array(&rig, "|u1", 1, two, false, "ab", 2);
    add(&rig, (struct atd_value){.type = ATD_VALUE_NIL});
    fails(&rig, "no array");
    teardown(&rig);
}

Test(batch, other_values_stay_a_list)
{
    const struct atd_batch *batch;
    struct rig rig;

    setup(&rig);
    add(&rig, (struct atd_value){.type = ATD_VALUE_UINT, .u = 7});
    add(&rig, (struct atd_value){.type = ATD_VALUE_STR, .str = ATD_STR("x")});
    rig.samples[1].sample.field_count = 0; /* lacks the field */
    batch = stack(&rig);
    cr_assert(!batch->columns[0].is_stacked);
    cr_assert_eq(batch->columns[0].values[0].u, 7);
    cr_assert_eq(batch->columns[0].values[1].type, ATD_VALUE_NIL);
    cr_assert_eq(batch->count, 2);
    teardown(&rig);
}
