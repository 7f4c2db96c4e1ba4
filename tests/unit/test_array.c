#include "atdata/array.h"

#include <errno.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "vectors.h"

static struct atd_bytes bytes_of(const char *text, size_t len)
{
    return (struct atd_bytes){(const uint8_t *)text, len};
}

/* The array must be what the JSON case says, in whatever form it was stored. */
static void check_array(const struct atd_array *array, const json_t *item, struct atd_bytes data)
{
    const json_t *shape = json_object_get(item, "shape");
    struct atd_str dtype = json_member_str(item, "dtype");

    cr_assert_eq(array->ndim, json_array_size(shape), "%s", dtype.ptr);
    for (unsigned i = 0; i < array->ndim; i++)
        cr_assert_eq(array->shape[i], (uint64_t)json_integer_value(json_array_get(shape, i)));
    cr_assert_eq(array->item_size, (uint64_t)json_integer_value(json_object_get(item, "item_size")),
                 "%s: %zu", dtype.ptr, (size_t)array->item_size);
    assert_bytes_eq(array->data, data, "%s", dtype.ptr);
}

static void check_npy(const json_t *item, struct atd_bytes npy, struct atd_bytes data)
{
    atd_auto_buf struct atd_buf again = ATD_BUF_INIT(1 << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_array array;

    cr_assert_eq(atd_array_decode(npy, &array, &err), 0, "%s", err.text);
    cr_assert_eq(array.form, ATD_ARRAY_NPY);
    cr_assert_eq(array.fortran, json_is_true(json_object_get(item, "fortran")));
    check_array(&array, item, data);
    cr_assert(atd_array_sniff(npy));
    /* Compound types with names of Latin-1 are the one thing that is written otherwise. */
    if (!atd_str_equal(json_member_str(item, "dtype"), ATD_STR("[('\xc3\xa9', '<i4')]"))) {
        cr_assert(atd_str_equal(array.dtype, json_member_str(item, "dtype")));
        atd_array_encode_npy(&array, &again);
        cr_assert_eq(atd_buf_finish(&again, "npy", &err), 0);
        assert_bytes_eq(atd_buf_bytes(&again), npy, "%.*s", (int)array.dtype.len, array.dtype.ptr);
    }
}

static void check_compact(const json_t *item, struct atd_bytes compact, struct atd_bytes data)
{
    atd_auto_buf struct atd_buf again = ATD_BUF_INIT(1 << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_array array;

    cr_assert_eq(atd_array_decode(compact, &array, &err), 0, "%s", err.text);
    cr_assert_eq(array.form, ATD_ARRAY_COMPACT);
    cr_assert_not(array.fortran);
    cr_assert(atd_str_equal(array.dtype, json_member_str(item, "dtype")));
    check_array(&array, item, data);
    cr_assert(atd_array_sniff(compact));
    cr_assert_eq(atd_array_encode_compact(&array, &again, &err), 0);
    assert_bytes_eq(atd_buf_bytes(&again), compact, "compact");
}

Test(array, as_numpy_saves_them)
{
    json_t *cases = load_json("vectors/arrays.json");
    atd_auto_buf struct atd_buf npy = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf data = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf compact = ATD_BUF_INIT(1 << 20);
    size_t with_compact = 0;
    size_t i;
    json_t *item;

    json_array_foreach(cases, i, item)
    {
        (void)from_hex(json_member_str(item, "data"), &data);
        (void)from_hex(json_member_str(item, "npy"), &npy);
        atd_buf_append(&npy, data.ptr, data.len);
        check_npy(item, atd_buf_bytes(&npy), atd_buf_bytes(&data));
        if (json_is_string(json_object_get(item, "compact"))) {
            (void)from_hex(json_member_str(item, "compact"), &compact);
            check_compact(item, atd_buf_bytes(&compact), atd_buf_bytes(&data));
            with_compact++;
        }
    }
    cr_assert_gt(json_array_size(cases), 120);
    cr_assert_gt(with_compact, 90);
    json_decref(cases);
}

/* Shapes (123456789012345678, 1, ..., 1, 2): where NumPy's padding jumps, and by which axis. */
Test(array, headers_are_padded_as_numpy_pads)
{
    json_t *cases = load_json("vectors/npy_headers.json");
    atd_auto_buf struct atd_buf npy = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf expected = ATD_BUF_INIT(1 << 20);
    size_t i;
    json_t *item;

    json_array_foreach(cases, i, item)
    {
        struct atd_array array = {.dtype = ATD_STR("<f8"), .item_size = 8};

        array.ndim = 2 + (unsigned)json_integer_value(json_object_get(item, "ones"));
        array.fortran = json_is_true(json_object_get(item, "fortran"));
        for (unsigned axis = 0; axis < array.ndim; axis++)
            array.shape[axis] = axis == 0 ? 123456789012345678 : 1;
        array.shape[array.ndim - 1] = 2;
        atd_buf_clear(&npy);
        atd_array_encode_npy(&array, &npy);
        assert_bytes_eq(atd_buf_bytes(&npy), from_hex(json_member_str(item, "npy"), &expected),
                        "case %zu", i);
    }
    cr_assert_eq(json_array_size(cases), 88);
    json_decref(cases);
}

/* Every cut and every extra byte of a real array is refused. */
Test(array, wrong_lengths_are_refused)
{
    static const char compact[] = "\x03<f4\x01\x02\0\0\0\0\0\0\0abcdefgh";
    atd_auto_buf struct atd_buf npy = ATD_BUF_INIT(1000);
    struct atd_array array;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_array_decode(bytes_of(compact, sizeof(compact) - 1), &array, &err), 0);
    atd_array_encode_npy(&array, &npy);
    cr_assert_eq(npy.len, 136);
    for (size_t len = 0; len < sizeof(compact) - 1; len++) {
        uint8_t *copy = exact_copy(compact, len);

        cr_assert_eq(atd_array_decode((struct atd_bytes){copy, len}, &array, &err), -EINVAL);
        free(copy);
    }
    cr_assert_eq(atd_array_decode(bytes_of(compact, sizeof(compact)), &array, &err), -EINVAL);
    cr_assert_str_eq(err.text, "array data are 9 bytes at byte 13, but the header announces 8");
    for (size_t len = 0; len < npy.len; len++) {
        uint8_t *copy = exact_copy(npy.ptr, len);

        cr_assert_eq(atd_array_decode((struct atd_bytes){copy, len}, &array, &err), -EINVAL);
        free(copy);
    }
    atd_buf_append_byte(&npy, 'x');
    cr_assert_eq(atd_array_decode(atd_buf_bytes(&npy), &array, &err), -EINVAL);
    cr_assert_str_eq(err.text, "array data are 9 bytes at byte 128, but the header announces 8");
}

/* A version 1.0 .npy with the header as given and `data_len` zero bytes. */
static int decode_header(const char *header, size_t data_len, struct atd_array *ret_array,
                         struct atd_buf *npy, struct atd_error *err)
{
    atd_buf_clear(npy);
    atd_buf_append(npy, "\x93NUMPY\x01\0", 8);
    atd_buf_append_u16le(npy, (uint16_t)strlen(header));
    atd_buf_append_text(npy, header);
    atd_buf_append_zeros(npy, data_len);
    return atd_array_decode(atd_buf_bytes(npy), ret_array, err);
}

Test(array, headers_in_any_python_spelling)
{
    static const struct {
        const char *header;
        size_t data_len;
    } cases[] = {
        {"{'descr':'<f4','fortran_order':False,'shape':(2,)}", 8},
        {"{'shape': (2,), 'descr': '<f4', 'fortran_order': False}", 8},
        {" {\n \"shape\" : ( 2 , 3 , ) ,\t'fortran_order' : True , 'descr' : \"<f4\" , } \n\n", 24},
        {"{'descr': 'f4', 'fortran_order': False, 'shape': (2L, 3L)}", 24},
        {"{'descr': '=f4', 'fortran_order': False, 'shape': ()}", 4},
        {"{'descr': '|S0', 'fortran_order': False, 'shape': (7,)}", 0},
        {"{'descr': [], 'fortran_order': False, 'shape': (7,)}", 0},
        {"{'descr': [('a', '<f4'),], 'fortran_order': False, 'shape': (2,)}", 8},
        {"{'descr': [('a', '<f4', (2, 0)), (('t', 'b'), '|u1', (3,),)], 'fortran_order': False, "
         "'shape': (2,)}",
         6},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1152921504606846976)}", 0},
    };
    atd_auto_buf struct atd_buf npy = ATD_BUF_INIT(1000);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_array array;

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++)
        cr_assert_eq(decode_header(cases[i].header, cases[i].data_len, &array, &npy, &err), 0,
                     "%s: %s", cases[i].header, err.text);
}

Test(array, bad_headers_are_refused_with_their_position)
{
    static const struct {
        const char *header;
        const char *error;
    } cases[] = {
        {"", "npy header: '{' expected at byte 10"},
        {"[]", "npy header: '{' expected at byte 10"},
        {"{}", "npy header: no 'descr' at byte 12"},
        {"{'descr': '<f4'}", "npy header: no 'fortran_order' at byte 26"},
        {"{'descr': '<f4', 'fortran_order': False}", "npy header: no 'shape' at byte 50"},
        {"{'descr': '<f4', 'descr': '<f4'}", "npy header: unexpected key at byte 27"},
        {"{'descr': '<f4', 'x': 1}", "npy header: unexpected key at byte 27"},
        {"{descr: 1}", "npy header: a string expected at byte 11"},
        {"{'descr' '<f4'}", "npy header: ':' expected at byte 19"},
        {"{'descr': '<f4' 'shape': ()}", "npy header: ',' or '}' expected at byte 26"},
        {"{'descr': '<f4", "npy header: string without an end at byte 20"},
        {"{'descr': '<f\n4'}", "npy header: string without an end at byte 20"},
        {"{'descr': '|O'}", "npy header: objects at byte 20 are pickled, and never unpickled here"},
        {"{'descr': [('a', '<f4'), ('b', 'O')]}",
         "npy header: objects at byte 41 are pickled, and never unpickled here"},
        {"{'descr': '<f3'}", "npy header at byte 20: array dtype '<f3' is not supported"},
        {"{'descr': ('<f4', (2,))}", "npy header: a string expected at byte 20"},
        {"{'descr': [('a', '<f4') ('b', '<f4')]}", "npy header: ',' or ']' expected at byte 34"},
        {"{'descr': [('a',)]}", "npy header: a string expected at byte 26"},
        {"{'descr': [('a', '<f4', 2)]}", "npy header: '(' expected at byte 34"},
        {"{'descr': [('a', '|V2147483647', (2,))]}", "npy header: field too large at byte 48"},
        {"{'descr': [('a', '|V2147483647'), ('b', '|V1')]}",
         "npy header: item too large at byte 56"},
        {"{'descr': [('a', [('a', [('a', [('a', [('a', [('a', [('a', [('a', [('a', "
         "'<f4')])])])])])])])"
         "])]}",
         "npy header: dtype nests deeper than 8 at byte 77"},
        {"{'shape': 2}", "npy header: '(' expected at byte 20"},
        {"{'shape': (2)}", "npy header: a number and no tuple ends at byte 22"},
        {"{'shape': (2 3)}", "npy header: ',' or ')' expected at byte 23"},
        {"{'shape': (,)}", "npy header: an axis length expected at byte 21"},
        {"{'shape': (-1,)}", "npy header: an axis length expected at byte 21"},
        {"{'shape': (02,)}", "npy header: number with leading zeros at byte 21"},
        {"{'shape': (9223372036854775808,)}", "npy header: number too large at byte 21"},
        {"{'fortran_order': 0}", "npy header: True or False expected at byte 28"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': ()} x",
         "npy header: the end of the header expected at byte 64"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807,)}",
         "array is too large: axis 0 has length 9223372036854775807 at byte 83"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
         "array is too large: axis 1 has length 4294967296 at byte 85"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296)}",
         "array is too large: axis 2 has length 4294967296 at byte 88"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 2305843009213693952)}",
         "array is too large: axis 1 has length 2305843009213693952 at byte 85"},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}",
         "array data are 0 bytes at byte 65, but the header announces 8"},
    };
    atd_auto_buf struct atd_buf npy = ATD_BUF_INIT(1000);
    atd_auto_buf struct atd_buf axes = ATD_BUF_INIT(1000);
    struct atd_array array = {.ndim = 77};

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(decode_header(cases[i].header, 0, &array, &npy, &err), -EINVAL, "%s",
                     cases[i].header);
        cr_assert_str_eq(err.text, cases[i].error, "%s", cases[i].header);
    }
    cr_assert_eq(array.ndim, 77);
    atd_buf_append_text(&axes, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int i = 0; i < 65; i++)
        atd_buf_append_text(&axes, "1,");
    atd_buf_append_text(&axes, ")}");
    cr_assert_eq(decode_header((char *)axes.ptr, 4, &array, &npy, NULL), -EINVAL);
}

Test(array, bad_beginnings_are_refused)
{
    const struct {
        struct atd_str bytes;
        const char *error;
    } cases[] = {
        {ATD_STR("\x93NUMPY\x04\0\x02\0{}"), "npy version 4.0 at byte 6 is not supported"},
        {ATD_STR("\x93NUMPY\x01\x01\x02\0{}"), "npy version 1.1 at byte 6 is not supported"},
        {ATD_STR("\x93NUMPY\x01\0\x03\0{}"), "npy of 12 bytes announces a header of 3 at byte 8"},
        {ATD_STR("\x93NUMPY\x02\0\xff\xff\xff\xff{}"),
         "npy of 14 bytes announces a header of 4294967295 at byte 8"},
        {ATD_STR("\x93NUMPY\x02\0\x02\0\0"), "npy of 11 bytes ends inside its header at byte 11"},
        {ATD_STR("\x93NUMPY\x03\0\x02\0\0\0\xff}"), "npy header: invalid UTF-8 at byte 12"},
        {ATD_STR(""), "array of 0 bytes ends inside its header at byte 0"},
        {ATD_STR("\0\0"), "array header at byte 1: array dtype '' is not supported"},
        {ATD_STR("\x03<f4"), "array of 4 bytes ends inside its header at byte 4"},
        {ATD_STR("\x02|O\x01"), "array header at byte 1: array dtype '|O' is not supported"},
        {ATD_STR("\x03|S0\0"), "array header at byte 1: the compact form has no items of 0 bytes"},
        {ATD_STR("\x03<f4\x41"), "array has 65 axes at byte 4, more than 64"},
        {ATD_STR("\x03<f4\x02\0\0\0\0\0\0\0\0\0"),
         "array of 14 bytes ends inside its shape at byte 5"},
        {ATD_STR("\x03<f4\x01\xff\xff\xff\xff\xff\xff\xff\xff"),
         "array has an axis of negative length at byte 5"},
        {ATD_STR("\x03<f4\x01\xff\xff\xff\xff\xff\xff\xff\x7f"),
         "array is too large: axis 0 has length 9223372036854775807 at byte 13"},
    };
    struct atd_array array;

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_array_decode(atd_str_bytes(cases[i].bytes), &array, &err), -EINVAL);
        cr_assert_str_eq(err.text, cases[i].error);
        cr_assert_not(atd_array_sniff(atd_str_bytes(cases[i].bytes)));
    }
}

Test(array, item_sizes)
{
    static const struct {
        const char *dtype;
        uint64_t size;
    } good[] = {
        {"<f4", 4},
        {"|b1", 1},
        {">c16", 16},
        {"<U3", 12},
        {"|S7", 7},
        {"|V100", 100},
        {"<M8[ns]", 8},
        {"<m8", 8},
        {"<M8[25s]", 8},
        {"<M8[D]", 8},
        {"i8", 8},
        {"=u2", 2},
        {"<f16", 16},
        {"<U536870911", 2147483644},
        {"|S0", 0},
        {"<U0", 0},
        {"|V2147483647", 2147483647},
    };
    static const char *const bad[] = {"",
                                      "<",
                                      "<f",
                                      "f",
                                      "<f3",
                                      "<f12",
                                      "|b2",
                                      "<i16",
                                      "|O",
                                      "|O8",
                                      "<x4",
                                      "<f4 ",
                                      "<f4[s]",
                                      "<M4[s]",
                                      "<M8[]",
                                      "<M8[x]",
                                      "<M8[s",
                                      "<M8[s]]",
                                      "<M8[-1s]",
                                      "<M8[1234567890s]",
                                      "<f04",
                                      "|S-1",
                                      "|V2147483648",
                                      "<U536870912",
                                      "|S99999999999999999999",
                                      "<<f4",
                                      "<f4\n",
                                      "float32",
                                      "[('a', '<f4')]"};
    struct atd_error err = ATD_ERROR_INIT;
    uint64_t size = 77;

    for (size_t i = 0; i < ATD_ARRAY_LEN(bad); i++)
        cr_assert_eq(atd_dtype_item_size(atd_str_from(bad[i]), &size, &err), -EINVAL, "%s", bad[i]);
    cr_assert_eq(size, 77);
    for (size_t i = 0; i < ATD_ARRAY_LEN(good); i++) {
        cr_assert_eq(atd_dtype_item_size(atd_str_from(good[i].dtype), &size, &err), 0, "%s",
                     good[i].dtype);
        cr_assert_eq(size, good[i].size, "%s", good[i].dtype);
    }
}

Test(array, only_arrays_are_sniffed)
{
    const struct atd_str others[] = {
        ATD_STR(""),
        ATD_STR("\x03<f4"),
        ATD_STR("\x02"
                "f4"
                "\0"
                "abcd"), /* decodes, but names no byte order */
        ATD_STR("\x89PNG\r\n\x1a\n"),
        ATD_STR("PK\x03\x04"),
        ATD_STR("{\"a\": 1}"),
        ATD_STR("\x93NUMPY"),
        ATD_STR("\x04<f4\0\0"),
    };
    struct atd_array array;

    for (size_t i = 0; i < ATD_ARRAY_LEN(others); i++)
        cr_assert_not(atd_array_sniff(atd_str_bytes(others[i])), "case %zu", i);
    cr_assert_eq(atd_array_decode(atd_str_bytes(others[2]), &array, NULL), 0);
    cr_assert(atd_array_sniff(bytes_of("\x03<f4\0abcd", 9)));
}

Test(array, what_compact_cannot_say)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1000);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_array array = {.dtype = ATD_STR("<f4"), .fortran = true};

    cr_assert_eq(atd_array_encode_compact(&array, &out, &err), -EINVAL);
    array = (struct atd_array){.dtype = ATD_STR("[('a', '<f4')]")};
    cr_assert_eq(atd_array_encode_compact(&array, &out, &err), -EINVAL);
    array = (struct atd_array){.dtype = ATD_STR("|S0")};
    cr_assert_eq(atd_array_encode_compact(&array, &out, &err), -EINVAL);
    cr_assert_eq(out.len, 0);
}

/* A header that 65535 bytes cannot hold is version 2.0. The lengths are what NumPy 2.5 saves for
 * np.zeros(3, [("n" * name_len, "<f4")]). */
Test(array, long_headers_are_version_2)
{
    static const struct {
        size_t name_len;
        size_t npy_len;
        const char *prefix;
    } cases[] = {
        {65439, 65548, "\x93NUMPY\x01\0\xf6\xff{'"},
        {65440, 65612, "\x93NUMPY\x02\0\x34\0\x01\0"},
        {69901, 70028, "\x93NUMPY\x02\0\x74\x11\x01\0"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf dtype = ATD_BUF_INIT(100000);
        atd_auto_buf struct atd_buf npy = ATD_BUF_INIT(200000);
        struct atd_array array = {.ndim = 1, .shape = {3}, .item_size = 4};
        struct atd_array back;
        struct atd_error err = ATD_ERROR_INIT;

        atd_buf_append_text(&dtype, "[('");
        for (size_t n = 0; n < cases[i].name_len; n++)
            atd_buf_append_byte(&dtype, 'n');
        atd_buf_append_text(&dtype, "', '<f4')]");
        array.dtype = atd_buf_str(&dtype);
        array.data = bytes_of("abcdefghijkl", 12);
        atd_array_encode_npy(&array, &npy);
        cr_assert_eq(npy.len, cases[i].npy_len, "%zu", npy.len);
        cr_assert_arr_eq(npy.ptr, cases[i].prefix, 12);
        cr_assert_eq(atd_array_decode(atd_buf_bytes(&npy), &back, &err), 0, "%s", err.text);
        cr_assert(atd_str_equal(back.dtype, array.dtype));
        cr_assert_eq(back.item_size, 4);
        cr_assert_eq(back.data.len, 12);
    }
}
