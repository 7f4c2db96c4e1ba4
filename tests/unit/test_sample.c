#include "atdata/sample.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "atdata/array.h"
#include "atdata/tar_index.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "vectors.h"

/* Writes a value again, nested ones included. */
static void put_value(const struct atd_value *value, struct atd_buf *out)
{
    struct atd_value_iter iter;
    struct atd_value item;
    struct atd_str key;

    switch (value->type) {
    case ATD_VALUE_NIL:
        atd_sample_put_nil(out);
        return;
    case ATD_VALUE_BOOL:
        atd_sample_put_bool(out, value->b);
        return;
    case ATD_VALUE_INT:
        atd_sample_put_int(out, value->i);
        return;
    case ATD_VALUE_UINT:
        atd_sample_put_uint(out, value->u);
        return;
    case ATD_VALUE_FLOAT:
        atd_sample_put_float(out, value->f);
        return;
    case ATD_VALUE_STR:
        atd_sample_put_str(out, value->str);
        return;
    case ATD_VALUE_BIN:
        atd_sample_put_bin(out, value->bin);
        return;
    case ATD_VALUE_ARRAY:
        atd_sample_put_array(out, value->count);
        break;
    case ATD_VALUE_MAP:
        atd_sample_put_map(out, value->count);
        break;
    }
    atd_value_iter_init(&iter, value);
    while (atd_value_iter_next(&iter, &key, &item)) {
        if (value->type == ATD_VALUE_MAP)
            atd_sample_put_str(out, key);
        put_value(&item, out);
    }
    cr_assert_eq(iter.rest.len, 0);
}

static void put_sample(const struct atd_sample *sample, struct atd_buf *out)
{
    atd_sample_put_map(out, (uint32_t)sample->field_count);
    for (size_t i = 0; i < sample->field_count; i++) {
        atd_sample_put_str(out, sample->fields[i].name);
        put_value(&sample->fields[i].value, out);
    }
    cr_assert_eq(out->failed, 0);
}

/*
 * samples.json: what ormsgpack accepts, and how msgpack-python writes what it read. Deeper maps
 * with duplicate keys are the one thing that does not come back: they are passed on as they stand.
 */
Test(sample, as_ormsgpack_reads_and_msgpack_python_writes)
{
    json_t *cases = load_json("vectors/samples.json");
    atd_auto_buf struct atd_buf in = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf again = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf expected = ATD_BUF_INIT(1 << 20);
    size_t accepted = 0;
    size_t i;
    json_t *item;

    json_array_foreach(cases, i, item)
    {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
        struct atd_bytes bytes = from_hex(json_member_str(item, "msgpack"), &in);
        uint8_t *copy = exact_copy(bytes.ptr, bytes.len);
        const json_t *repacked = json_object_get(item, "repacked");
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_sample sample;
        int rc = atd_sample_decode((struct atd_bytes){copy, bytes.len}, &arena, &sample, &err);

        cr_assert_eq(rc == 0, json_is_string(repacked), "%s: %s",
                     json_member_str(item, "msgpack").ptr, err.text);
        if (rc == 0) {
            atd_buf_clear(&again);
            put_sample(&sample, &again);
            if (strcmp(json_string_value(repacked), "same") != 0)
                bytes = from_hex(json_member_str(item, "repacked"), &expected);
            assert_bytes_eq(atd_buf_bytes(&again), bytes, "%s",
                            json_member_str(item, "msgpack").ptr);
            accepted++;
        }
        free(copy);
    }
    cr_assert_gt(json_array_size(cases), 400);
    cr_assert_gt(accepted, 100);
    json_decref(cases);
}

Test(sample, shortest_forms_of_long_values)
{
    static const struct {
        size_t len;
        const char *str_head;
        const char *bin_head;
        size_t head_len;
    } cases[] = {
        {65535, "\xda\xff\xff", "\xc5\xff\xff", 3},
        {65536, "\xdb\0\x01\0\0", "\xc6\0\x01\0\0", 5},
    };
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 20);

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_buf_clear(&text);
        atd_buf_append_zeros(&text, cases[i].len);
        atd_buf_clear(&out);
        atd_sample_put_str(&out, atd_buf_str(&text));
        cr_assert_eq(out.len, cases[i].len + cases[i].head_len);
        cr_assert_arr_eq(out.ptr, cases[i].str_head, cases[i].head_len);
        atd_buf_clear(&out);
        atd_sample_put_bin(&out, atd_buf_bytes(&text));
        cr_assert_eq(out.len, cases[i].len + cases[i].head_len);
        cr_assert_arr_eq(out.ptr, cases[i].bin_head, cases[i].head_len);
    }
    atd_buf_clear(&out);
    atd_sample_put_map(&out, 65536);
    atd_sample_put_array(&out, 65536);
    atd_sample_put_int(&out, INT64_MIN);
    atd_sample_put_int(&out, 200);
    cr_assert_eq(out.len, 5 + 5 + 9 + 2);
    cr_assert_arr_eq(out.ptr, "\xdf\0\x01\0\0\xdd\0\x01\0\0\xd3\x80\0\0\0\0\0\0\0\xcc\xc8", 21);
}

Test(sample, a_full_buffer_is_the_buffers_failure)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(3);

    atd_sample_put_str(&out, ATD_STR("abcd"));
    cr_assert_eq(out.failed, EFBIG);
    atd_sample_put_nil(&out);
    cr_assert_lt(out.len, 3);
}

Test(sample, errors_say_where)
{
    const struct {
        struct atd_str msgpack;
        int rc;
        const char *error;
    } cases[] = {
        {ATD_STR(""), -EINVAL, "sample: msgpack ends at byte 0 where a value is due"},
        {ATD_STR("\x90"), -EINVAL, "sample is not a map at byte 0"},
        {ATD_STR("\x81\xa1k"), -EINVAL, "sample: msgpack ends at byte 3 where a value is due"},
        {ATD_STR("\xdf\xff\xff\xff\xff"), -EINVAL,
         "sample: map at byte 0 is cut short: it claims 8589934590 values and 0 bytes are left"},
        {ATD_STR("\x81\x01\x02"), -EINVAL, "sample: map key at byte 1 is no text"},
        {ATD_STR("\x81\xa1k\x81\xc4\x01x\xc0"), -EINVAL, "sample: map key at byte 4 is no text"},
        {ATD_STR("\x81\xa1k\xd4\x01\x02"), -EINVAL,
         "sample: extension value at byte 3 is not allowed here"},
        {ATD_STR("\x81\xa1k\xa1\xff"), -EINVAL,
         "sample: text at byte 3 is not valid utf-8 at its byte 0"},
    };
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1000);
    struct atd_sample sample = {.field_count = 77};

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_sample_decode(atd_str_bytes(cases[i].msgpack), &arena, &sample, &err),
                     cases[i].rc);
        cr_assert_str_eq(err.text, cases[i].error);
    }
    cr_assert_eq(sample.field_count, 77);
}

/* A map of `count` pairs of an equal or different key of two bytes, and nil. */
static void make_fields(struct atd_buf *out, uint32_t count, bool equal)
{
    atd_buf_clear(out);
    atd_sample_put_map(out, count);
    for (uint32_t i = 0; i < count; i++) {
        char key[16];

        (void)snprintf(key, sizeof(key), "%x", equal ? 0 : i);
        atd_sample_put_str(out, atd_str_from(key));
        atd_sample_put_uint(out, i);
    }
}

Test(sample, many_fields_are_bounded_and_fast, .timeout = 20)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(16 << 20);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(64 << 20);
    struct atd_arena small = ATD_ARENA_INIT(100);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_sample sample;

    make_fields(&out, 65536, false);
    cr_assert_eq(atd_sample_decode(atd_buf_bytes(&out), &arena, &sample, &err), 0, "%s", err.text);
    cr_assert_eq(sample.field_count, 65536);
    cr_assert_eq(atd_sample_find(&sample, ATD_STR("ffff"))->u, 65535);
    cr_assert_null(atd_sample_find(&sample, ATD_STR("10000")));
    cr_assert_eq(atd_sample_decode(atd_buf_bytes(&out), &small, &sample, &err), -ENOMEM);
    make_fields(&out, 65536, true);
    cr_assert_eq(atd_sample_decode(atd_buf_bytes(&out), &arena, &sample, &err), 0);
    cr_assert_eq(sample.field_count, 1);
    cr_assert_eq(sample.fields[0].value.u, 65535);
    make_fields(&out, 65537, false);
    cr_assert_eq(atd_sample_decode(atd_buf_bytes(&out), &arena, &sample, &err), -E2BIG);
    cr_assert_str_eq(err.text, "sample has 65537 fields at byte 0, more than 65536");
}

/* ---- The shards that real releases wrote. ---- */

static void check_bytes_field(struct atd_bytes bytes, const json_t *hex, const char *name)
{
    atd_auto_buf struct atd_buf expected = ATD_BUF_INIT(1 << 20);

    assert_bytes_eq(
        bytes,
        from_hex((struct atd_str){json_string_value(hex), json_string_length(hex)}, &expected),
        "%s", name);
}

/* Turns Fortran order into C order, element by element. */
static void to_c_order(const struct atd_array *array, struct atd_buf *out)
{
    uint64_t count = array->item_size ? array->data.len / array->item_size : 0;

    for (uint64_t number = 0; number < count; number++) {
        uint64_t rest = number;
        uint64_t place = 0;
        uint64_t stride = count;

        /* The last axis varies fastest in C order, and has the greatest stride here. */
        for (unsigned axis = array->ndim; axis-- > 0;) {
            stride /= array->shape[axis];
            place += rest % array->shape[axis] * stride;
            rest /= array->shape[axis];
        }
        atd_buf_append(out, array->data.ptr + place * array->item_size, array->item_size);
    }
}

static void check_array_field(const struct atd_value *value, const json_t *expected,
                              enum atd_array_form form, const char *name)
{
    atd_auto_buf struct atd_buf c_order = ATD_BUF_INIT(1 << 20);
    const json_t *shape = json_object_get(expected, "shape");
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_array array;

    cr_assert_eq(value->type, ATD_VALUE_BIN, "%s", name);
    cr_assert_eq(atd_array_decode(value->bin, &array, &err), 0, "%s: %s", name, err.text);
    cr_assert(atd_array_sniff(value->bin), "%s", name);
    cr_assert_eq(array.form, form);
    cr_assert(atd_str_equal(array.dtype, json_member_str(expected, "dtype")), "%s", name);
    cr_assert_eq(array.ndim, json_array_size(shape));
    for (unsigned i = 0; i < array.ndim; i++)
        cr_assert_eq(array.shape[i], (uint64_t)json_integer_value(json_array_get(shape, i)));
    if (array.fortran)
        to_c_order(&array, &c_order);
    else
        atd_buf_append(&c_order, array.data.ptr, array.data.len);
    check_bytes_field(atd_buf_bytes(&c_order), json_object_get(expected, "c_order_hex"), name);
}

/* Python's repr of a float; `text` has room for 40 characters. */
static void float_repr(double value, char *text)
{
    if (isnan(value)) {
        (void)strcpy(text, "nan");
        return;
    }
    if (isinf(value)) {
        (void)strcpy(text, value < 0 ? "-inf" : "inf");
        return;
    }
    /* The shortest digits that read back as the same number. */
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(text, 40, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    if (!strpbrk(text, ".e"))
        (void)strcat(text, ".0");
}

static void check_json_value(const struct atd_value *value, const json_t *expected,
                             const char *name)
{
    if (json_is_null(expected)) {
        cr_assert_eq(value->type, ATD_VALUE_NIL, "%s", name);
    } else if (json_is_boolean(expected)) {
        cr_assert_eq(value->type, ATD_VALUE_BOOL, "%s", name);
        cr_assert_eq(value->b, json_is_true(expected), "%s", name);
    } else if (json_is_integer(expected)) {
        cr_assert_eq(value->type, ATD_VALUE_UINT, "%s", name);
        cr_assert_eq(value->u, (uint64_t)json_integer_value(expected), "%s", name);
    } else if (json_is_string(expected)) {
        cr_assert_eq(value->type, ATD_VALUE_STR, "%s", name);
        cr_assert(atd_str_equal(value->str, (struct atd_str){json_string_value(expected),
                                                             json_string_length(expected)}),
                  "%s", name);
    } else {
        struct atd_value_iter iter;
        struct atd_value item;
        size_t i = 0;

        cr_assert(json_is_array(expected));
        cr_assert_eq(value->type, ATD_VALUE_ARRAY, "%s", name);
        cr_assert_eq(value->count, json_array_size(expected), "%s", name);
        atd_value_iter_init(&iter, value);
        while (atd_value_iter_next(&iter, NULL, &item))
            check_json_value(&item, json_array_get(expected, i++), name);
    }
}

/* Integers of field "i" are decimal text, since JSON's are not wide enough. */
static void check_wide_integer(const struct atd_value *value, const char *expected)
{
    char text[32];

    cr_assert(value->type == ATD_VALUE_INT || value->type == ATD_VALUE_UINT);
    if (value->type == ATD_VALUE_INT)
        (void)snprintf(text, sizeof(text), "%lld", (long long)value->i);
    else
        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value->u);
    cr_assert_str_eq(text, expected);
}

static void check_field(const char *name, const struct atd_value *value, const json_t *expected,
                        enum atd_array_form form)
{
    char text[40];

    cr_assert_not_null(value, "no field '%s'", name);
    if (json_is_object(expected)) {
        check_array_field(value, expected, form, name);
    } else if (strcmp(name, "i") == 0) {
        check_wide_integer(value, json_string_value(expected));
    } else if (strcmp(name, "f") == 0) {
        cr_assert_eq(value->type, ATD_VALUE_FLOAT);
        float_repr(value->f, text);
        /* Python writes 1e+308 where the shortest %g says 1e+308 too. */
        cr_assert_str_eq(text, json_string_value(expected));
    } else if (strcmp(name, "raw") == 0) {
        cr_assert_eq(value->type, ATD_VALUE_BIN);
        check_bytes_field(value->bin, expected, name);
    } else {
        check_json_value(value, expected, name);
    }
}

struct golden {
    const uint8_t *tar;
    size_t tar_len;
    const json_t *expected;
    enum atd_array_form form;
    size_t samples;
};

static int check_golden_member(void *ctx, const struct atd_tar_member *member,
                               struct atd_error *err)
{
    struct golden *golden = ctx;
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
    atd_auto_buf struct atd_buf again = ATD_BUF_INIT(1 << 20);
    const json_t *expected = json_array_get(golden->expected, golden->samples++);
    struct atd_bytes bytes = {golden->tar + member->data_offset, member->size_bytes};
    struct atd_sample sample;
    const char *name;
    const json_t *field;
    size_t fields = 0;

    cr_assert(member->is_file && atd_str_ends_with(member->name, ATD_STR(".msgpack")));
    cr_assert_leq(member->data_offset + member->size_bytes, golden->tar_len);
    cr_assert_not_null(expected);
    cr_assert_eq(atd_sample_decode(bytes, &arena, &sample, err), 0, "%s", err->text);
    for (void *it = json_object_iter((json_t *)(uintptr_t)expected); it;
         it = json_object_iter_next((json_t *)(uintptr_t)expected, it)) {
        name = json_object_iter_key(it);
        field = json_object_iter_value(it);
        check_field(name, atd_sample_find(&sample, atd_str_from(name)), field, golden->form);
        fields++;
    }
    cr_assert_eq(fields, sample.field_count);
    put_sample(&sample, &again);
    assert_bytes_eq(atd_buf_bytes(&again), bytes, "written again");
    return 0;
}

static void check_golden(const char *release, enum atd_array_form form)
{
    char name[128];
    char path[512];
    struct golden golden = {.form = form};
    json_t *expected;
    struct atd_tar_walk *walk = atd_tar_walk_new(check_golden_member, &golden);
    uint8_t *tar = malloc(1 << 20);
    struct atd_error err = ATD_ERROR_INIT;
    FILE *file;

    (void)snprintf(name, sizeof(name), "golden/%.32s/alltypes.expected.json", release);
    expected = load_json(name);
    (void)snprintf(path, sizeof(path), "%s/golden/%s/alltypes.tar", ATD_TEST_DATA, release);
    file = fopen(path, "rb");
    cr_assert(file && tar && walk);
    golden.tar_len = fread(tar, 1, 1 << 20, file);
    golden.tar = tar;
    golden.expected = expected;
    (void)fclose(file);
    cr_assert_eq(atd_tar_walk_feed(walk, 0, (struct atd_bytes){tar, golden.tar_len}, &err), 0, "%s",
                 err.text);
    cr_assert_eq(atd_tar_walk_end(walk, golden.tar_len, &err), ATD_TAR_COMPLETE);
    cr_assert_eq(golden.samples, 20);
    cr_assert_eq(json_array_size(expected), 20);
    atd_tar_walk_free(walk);
    free(tar);
    json_decref(expected);
}

Test(sample, shards_of_real_releases)
{
    check_golden("v0.2.3b1", ATD_ARRAY_NPY);
    check_golden("v0.3.2b3", ATD_ARRAY_COMPACT);
    check_golden("v0.5.1b1", ATD_ARRAY_COMPACT);
    check_golden("v0.7.0b1", ATD_ARRAY_COMPACT);
}
