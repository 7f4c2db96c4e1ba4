#include <criterion/criterion.h>
#include <errno.h>

#include "atdata/schema.h"
#include "base/cleanup.h"
#include "base/utf8.h"
#include "codec/python_name.h"
#include "vectors.h"

static const char *const releases[] = {"v0.2.3b1", "v0.3.2b3", "v0.5.1b1", "v0.7.0b1"};

static int decode(struct atd_str text, struct atd_arena *arena, const struct atd_schema **schema,
                  struct atd_error *err)
{
    atd_auto_free uint8_t *copy = exact_copy(text.ptr, text.len);

    /* Everything is in the arena: the text may go before the schema does. */
    return atd_schema_decode((struct atd_bytes){copy, text.len}, arena, schema, err);
}

static const struct atd_schema *must_decode(const char *text, struct atd_arena *arena)
{
    const struct atd_schema *schema = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(decode(atd_str_from(text), arena, &schema, &err), 0, "%s: %s", text, err.text);
    return schema;
}

static void assert_str(struct atd_str actual, const char *expected)
{
    if (!expected)
        cr_assert_null(actual.ptr);
    else
        cr_assert(actual.ptr && atd_str_equal(actual, atd_str_from(expected)),
                  "'" ATD_STR_FMT "' is not '%s'", ATD_STR_ARG(actual), expected);
}

Test(schema, golden_records_come_back_byte_for_byte)
{
    size_t records = 0;

    for (size_t r = 0; r < sizeof(releases) / sizeof(releases[0]); r++) {
        char path[100];
        const char *key;
        json_t *file;
        json_t *value;

        (void)snprintf(path, sizeof(path), "golden/%s/redis.json", releases[r]);
        file = load_json(path);
        json_object_foreach(file, key, value)
        {
            atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
            atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 20);
            atd_auto_buf struct atd_buf again = ATD_BUF_INIT(1 << 20);
            atd_auto_buf struct atd_buf full = ATD_BUF_INIT(1 << 20);
            const struct atd_schema *schema;

            if (strncmp(key, "LocalSchema:", 12) != 0)
                continue;
            (void)from_base64(json_member_str(value, "value"), &text);
            schema = must_decode((const char *)text.ptr, &arena);
            atd_buf_append_str(&full, schema->name);
            atd_buf_append_byte(&full, '@');
            atd_buf_append_str(&full, schema->version);
            cr_assert_str_eq((const char *)full.ptr, key + 12);
            atd_schema_encode(schema, &again);
            assert_bytes_eq(atd_buf_bytes(&again), atd_buf_bytes(&text), "%s: %s", path, key);
            records++;
        }
        json_decref(file);
    }
    cr_assert_eq(records, 12);
}

Test(schema, golden_alltypes_in_detail)
{
    static const struct {
        const char *name;
        enum atd_field_kind kind;
        enum atd_primitive primitive;
        bool optional;
    } want[] = {
        {"s", ATD_KIND_PRIMITIVE, ATD_PRIMITIVE_STR, false},
        {"i", ATD_KIND_PRIMITIVE, ATD_PRIMITIVE_INT, false},
        {"f", ATD_KIND_PRIMITIVE, ATD_PRIMITIVE_FLOAT, false},
        {"b", ATD_KIND_PRIMITIVE, ATD_PRIMITIVE_BOOL, false},
        {"raw", ATD_KIND_PRIMITIVE, ATD_PRIMITIVE_BYTES, false},
        {"arr", ATD_KIND_NDARRAY, ATD_PRIMITIVE_STR, false},
        {"tags", ATD_KIND_ARRAY, ATD_PRIMITIVE_STR, false},
        {"nums", ATD_KIND_ARRAY, ATD_PRIMITIVE_STR, false},
        {"os", ATD_KIND_PRIMITIVE, ATD_PRIMITIVE_STR, true},
        {"oi", ATD_KIND_PRIMITIVE, ATD_PRIMITIVE_INT, true},
        {"oarr", ATD_KIND_NDARRAY, ATD_PRIMITIVE_STR, true},
    };
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 20);
    json_t *file = load_json("golden/v0.7.0b1/redis.json");
    const struct atd_schema *schema;

    (void)from_base64(json_member_str(json_object_get(file, "LocalSchema:AllTypes@1.0.0"), "value"),
                      &text);
    schema = must_decode((const char *)text.ptr, &arena);
    assert_str(schema->name, "AllTypes");
    assert_str(schema->version, "1.0.0");
    assert_str(schema->description, "d\xc3\xa9");
    assert_str(schema->created_at, "2026-11-22T10:36:33.633174+00:00");
    cr_assert_eq(schema->field_count, sizeof(want) / sizeof(want[0]));
    for (size_t i = 0; i < schema->field_count; i++) {
        const struct atd_field *field = &schema->fields[i];

        assert_str(field->name, want[i].name);
        cr_assert_eq(field->type.kind, want[i].kind);
        cr_assert_eq(field->optional, want[i].optional);
        if (want[i].kind == ATD_KIND_PRIMITIVE)
            cr_assert_eq(field->type.primitive, want[i].primitive);
        if (want[i].kind == ATD_KIND_NDARRAY)
            assert_str(field->type.dtype, "float32");
    }
    cr_assert_eq(schema->fields[6].type.items->primitive, ATD_PRIMITIVE_STR);
    cr_assert_eq(schema->fields[7].type.items->kind, ATD_KIND_ARRAY);
    cr_assert_eq(schema->fields[7].type.items->items->primitive, ATD_PRIMITIVE_INT);
    json_decref(file);
}

#define FIELD(type) \
    "{\"name\":\"T\",\"version\":\"1\",\"fields\":[{\"name\":\"x\",\"fieldType\":" type "}]}"

/* ATDATA-FORMATS 4.2 and 4.3: what only other writers than the library make. */
Test(schema, kinds_in_every_spelling)
{
    static const struct {
        const char *type;
        enum atd_field_kind kind;
        const char *kind_text;
    } cases[] = {
        {FIELD("{\"$type\":\"local#primitive\",\"primitive\":\"int\"}"), ATD_KIND_PRIMITIVE,
         "primitive"},
        {FIELD("{\"$type\":\"science.alt.dataset.schemaType#ndarray\"}"), ATD_KIND_NDARRAY,
         "ndarray"},
        {FIELD("{\"$type\":\"a#b#sparse\"}"), ATD_KIND_SPARSE, "sparse"},
        {FIELD("{\"$type\":\"#array\"}"), ATD_KIND_ARRAY, "array"},
        {FIELD("{\"$type\":\"local#ref\",\"ref\":\"r\"}"), ATD_KIND_REF, "ref"},
        {FIELD("{\"$type\":\"local#structured\"}"), ATD_KIND_STRUCTURED, "structured"},
        {FIELD("{\"$type\":\"local#arrow_tensor\"}"), ATD_KIND_ARROW_TENSOR, "arrow_tensor"},
        {FIELD("{\"$type\":\"local#safetensors\"}"), ATD_KIND_SAFETENSORS, "safetensors"},
        {FIELD("{\"$type\":\"local#dataframe\"}"), ATD_KIND_DATAFRAME, "dataframe"},
        {FIELD("{\"kind\":\"ndarray\"}"), ATD_KIND_NDARRAY, "ndarray"},
        {FIELD("{\"$type\":\"plain\",\"kind\":\"ndarray\"}"), ATD_KIND_NDARRAY, "ndarray"},
        {FIELD("{\"$type\":\"local#Primitive\"}"), ATD_KIND_UNKNOWN, "Primitive"},
        {FIELD("{\"$type\":\"local#\",\"kind\":\"ndarray\"}"), ATD_KIND_UNKNOWN, ""},
        {FIELD("{\"$type\":\"ndarray\"}"), ATD_KIND_UNKNOWN, ""},
        {FIELD("{\"kind\":\"a#ndarray\"}"), ATD_KIND_UNKNOWN, "a#ndarray"},
        {FIELD("{\"kind\":7}"), ATD_KIND_UNKNOWN, ""},
        {FIELD("{}"), ATD_KIND_UNKNOWN, ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
        atd_auto_buf struct atd_buf again = ATD_BUF_INIT(1 << 20);
        const struct atd_schema *schema = must_decode(cases[i].type, &arena);

        cr_assert_eq(schema->fields[0].type.kind, cases[i].kind, "%s", cases[i].type);
        assert_str(schema->fields[0].type.kind_text, cases[i].kind_text);
        cr_assert_not(schema->fields[0].optional);
        atd_schema_encode(schema, &again);
        schema = must_decode((const char *)again.ptr, &arena);
        cr_assert_eq(schema->fields[0].type.kind, cases[i].kind, "%s", cases[i].type);
        assert_str(schema->fields[0].type.kind_text, cases[i].kind_text);
    }
}

Test(schema, what_other_writers_may_do)
{
    static const char text[] =
        "\t{ \"extra\" : [NaN, -Infinity, 1e999, 123456789012345678901234567890, "
        "{\"deep\":[[]]}],\n"
        "\"name\":5, \"version\":[], \"fields\":\"no\", \"description\":\"no\",\n"
        "\"n\\u0061me\":\"T\xc3\xa9\", \"version\":\"\", \"createdAt\":7, \"description\":null,\n"
        "\"fields\":[{\"optional\":1,\"fieldType\":5,\"fieldType\":{\"$type\":\"local#ndarray\","
        "\"dtype\":null,\"shape\":[null,3,0],\"dimensionNames\":[\"a\",\"\"],\"more\":0},"
        "\"name\":\"x\\u0000\"},\n"
        "{\"name\":\"y\",\"fieldType\":{\"$type\":\"local#primitive\"},\"optional\":\"\"},\n"
        "{\"name\":\"z\",\"fieldType\":{\"$type\":\"local#primitive\",\"primitive\":\"complex\"},"
        "\"optional\":[0]},\n"
        "{\"name\":\"l\",\"fieldType\":{\"$type\":\"local#array\",\"items\":{}},\"optional\":-0.0}]"
        "}\n ";
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
    const struct atd_schema *schema = must_decode(text, &arena);

    assert_str(schema->name, "T\xc3\xa9");
    assert_str(schema->version, "");
    assert_str(schema->description, NULL);
    assert_str(schema->created_at, NULL);
    cr_assert_eq(schema->field_count, 4);
    cr_assert(atd_str_equal(schema->fields[0].name, (struct atd_str){"x\0", 2}));
    cr_assert(schema->fields[0].optional);
    assert_str(schema->fields[0].type.dtype, NULL);
    cr_assert(schema->fields[0].type.has_shape);
    cr_assert_eq(schema->fields[0].type.shape_len, 3);
    cr_assert_eq(schema->fields[0].type.shape[0], ATD_DIM_FREE);
    cr_assert_eq(schema->fields[0].type.shape[1], 3);
    cr_assert_eq(schema->fields[0].type.shape[2], 0);
    cr_assert_eq(schema->fields[0].type.dim_name_count, 2);
    assert_str(schema->fields[0].type.dim_names[1], "");
    cr_assert_eq(schema->fields[1].type.primitive, ATD_PRIMITIVE_STR); /* the decoder's default */
    cr_assert_not(schema->fields[1].optional);
    cr_assert_eq(schema->fields[2].type.primitive, ATD_PRIMITIVE_UNKNOWN);
    assert_str(schema->fields[2].type.primitive_text, "complex");
    cr_assert(schema->fields[2].optional);
    cr_assert_eq(schema->fields[3].type.kind, ATD_KIND_ARRAY);
    cr_assert_null(schema->fields[3].type.items);
    cr_assert_not(schema->fields[3].optional);
    schema = must_decode("{\"name\":\"\",\"version\":\"v\"}", &arena);
    cr_assert_eq(schema->field_count, 0);
    /* a shape that makes no sense is passed over */
    schema = must_decode(
        FIELD("{\"$type\":\"local#ndarray\",\"shape\":[1.5],\"dimensionNames\":[1]}"), &arena);
    cr_assert_not(schema->fields[0].type.has_shape);
    cr_assert_null(schema->fields[0].type.dim_names);
}

Test(schema, refusals)
{
    static const struct {
        const char *json;
        const char *text;
    } cases[] = {
        {"", "text ends where a value is due at line 1 column 1"},
        {"\xef\xbb\xbf{\"name\":\"T\",\"version\":\"1\"}", "no json value at line 1 column 1"},
        {"[]", "the top level is no object at line 1 column 1"},
        {"\"x\"", "the top level is no object at line 1 column 1"},
        {"{\"name\":\"T\",\"version\":\"1\"} x",
         "text after the end of the json value at line 1 column 28"},
        {"{\"name\":\"T\xff\",\"version\":\"1\"}", "invalid utf-8 at line 1 column 11"},
        {"{\"version\":\"1\"}", "name is missing or no text at line 1 column 1"},
        {"{\"name\":1,\"version\":\"1\"}", "name is missing or no text at line 1 column 9"},
        {"{\"name\":\"T\",\n \"version\":1.0}",
         "version is missing or no text at line 2 column 12"},
        {"{\"name\":\"T\"}", "version is missing or no text at line 1 column 1"},
        {"{\"name\":\"T\",\"version\":\"1\",\"fields\":null}",
         "fields is no array at line 1 column 36"},
        {"{\"name\":\"T\",\"version\":\"1\",\"fields\":[1]}",
         "a field is no object at line 1 column 37"},
        {"{\"name\":\"T\",\"version\":\"1\",\"fields\":[{\"fieldType\":{}}]}",
         "a field's name is missing or no text at line 1 column 37"},
        {"{\"name\":\"T\",\"version\":\"1\",\"fields\":[{\"name\":\"x\"}]}",
         "field 'x': fieldType is missing or no object at line 1 column 37"},
        {FIELD("\"local#ndarray\""),
         "field 'x': fieldType is missing or no object at line 1 column 61"},
        {FIELD("{\"$type\":5}"), "field 'x': $type is no text at line 1 column 70"},
        {FIELD("{\"$type\":\"local#array\",\"items\":1}"),
         "field 'x': items is no object at line 1 column 92"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
        const struct atd_schema *schema = NULL;
        struct atd_error err = ATD_ERROR_INIT;
        char want[300];

        cr_assert_eq(decode(atd_str_from(cases[i].json), &arena, &schema, &err), -EINVAL, "%s",
                     cases[i].json);
        (void)snprintf(want, sizeof(want), "schema: %s", cases[i].text);
        cr_assert_str_eq(err.text, want);
        cr_assert_null(schema);
    }
}

Test(schema, limits)
{
    for (size_t lists = 8; lists <= 9; lists++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
        atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 20);
        const struct atd_schema *schema;
        struct atd_error err = ATD_ERROR_INIT;

        atd_buf_append_text(&text, "{\"name\":\"T\",\"version\":\"1\",\"fields\":[{\"name\":\"x\","
                                   "\"fieldType\":");
        for (size_t i = 0; i < lists; i++)
            atd_buf_append_text(&text, "{\"$type\":\"local#array\",\"items\":");
        atd_buf_append_text(&text, "{\"$type\":\"local#sparse\"}");
        for (size_t i = 0; i < lists; i++)
            atd_buf_append_text(&text, "}");
        atd_buf_append_text(&text, "}]}");
        cr_assert_eq(decode(atd_buf_str(&text), &arena, &schema, &err), lists > 8 ? -E2BIG : 0,
                     "%zu: %s", lists, err.text);
    }
    for (size_t fields = 1024; fields <= 1025; fields++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
        atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 20);
        const struct atd_schema *schema;
        struct atd_error err = ATD_ERROR_INIT;

        atd_buf_append_text(&text, "{\"name\":\"T\",\"version\":\"1\",\"fields\":[");
        for (size_t i = 0; i < fields; i++)
            atd_buf_printf(&text, "%s{\"name\":\"x%zu\",\"fieldType\":{\"kind\":\"sparse\"}}",
                           i ? "," : "", i);
        atd_buf_append_text(&text, "]}");
        cr_assert_eq(decode(atd_buf_str(&text), &arena, &schema, &err), fields > 1024 ? -E2BIG : 0,
                     "%zu: %s", fields, err.text);
    }
}

Test(schema, an_arena_too_small)
{
    static const char text[] =
        FIELD("{\"$type\":\"local#array\",\"items\":{\"$type\":\"local#ndarray\","
              "\"shape\":[1],\"dimensionNames\":[\"a\"],\"dtype\":\"f\"}}");

    for (size_t max = 0; max < 2000; max++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(max);
        const struct atd_schema *schema;
        struct atd_error err = ATD_ERROR_INIT;
        int rc = decode(atd_str_from(text), &arena, &schema, &err);

        cr_assert(rc == 0 || rc == -ENOMEM, "%zu: %d %s", max, rc, err.text);
        cr_assert(max < 1500 || rc == 0, "%zu: %s", max, err.text);
        cr_assert(max > 100 || rc == -ENOMEM);
    }
}

Test(schema, encode_of_a_record_made_here)
{
    static const int64_t shape[] = {ATD_DIM_FREE, 3};
    static const struct atd_str names[] = {{"h", 1}, {"\xc3\xa9", 2}};
    static const struct atd_field_type item = {.kind = ATD_KIND_REF, .ref = {"at://x", 6}};
    static const struct atd_field fields[] = {
        {.name = {"a", 1},
         .type = {.kind = ATD_KIND_NDARRAY,
                  .dtype = {"int8", 4},
                  .has_shape = true,
                  .shape = shape,
                  .shape_len = 2,
                  .dim_names = names,
                  .dim_name_count = 2}},
        {.name = {"b", 1}, .type = {.kind = ATD_KIND_ARRAY, .items = &item}, .optional = true},
        {.name = {"c", 1}, .type = {.kind = ATD_KIND_ARRAY}},
        {.name = {"d", 1}, .type = {.kind = ATD_KIND_PRIMITIVE, .primitive = ATD_PRIMITIVE_BYTES}},
    };
    static const struct atd_schema schema = {
        .name = {"T", 1}, .version = {"1.0.0", 5}, .fields = fields, .field_count = 4};
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(4096);

    atd_schema_encode(&schema, &out);
    cr_assert_str_eq(
        (const char *)out.ptr,
        "{\"name\": \"T\", \"version\": \"1.0.0\", \"fields\": [{\"name\": \"a\", \"fieldType\": "
        "{\"$type\": \"local#ndarray\", \"dtype\": \"int8\", \"shape\": [null, 3], "
        "\"dimensionNames\": [\"h\", \"\\u00e9\"]}, \"optional\": false}, {\"name\": \"b\", "
        "\"fieldType\": {\"$type\": \"local#array\", \"items\": {\"$type\": \"local#ref\", "
        "\"ref\": "
        "\"at://x\"}}, \"optional\": true}, {\"name\": \"c\", \"fieldType\": {\"$type\": "
        "\"local#array\"}, \"optional\": false}, {\"name\": \"d\", \"fieldType\": {\"$type\": "
        "\"local#primitive\", \"primitive\": \"bytes\"}, \"optional\": false}], \"description\": "
        "null}");
}

Test(schema, pretty)
{
    static const struct {
        const char *json;
        const char *ref;
        const char *text;
    } cases[] = {
        {"{}", "", "{}\n"},
        {"{}", "r", "{\n  \"$ref\": \"r\"\n}\n"},
        {"{\"b\":1.50,\"a\":\"d\\u00e9\\n\"}", "",
         "{\n  \"b\": 1.50,\n  \"a\": \"d\xc3\xa9\\n\"\n}\n"},
        {"{\"$ref\":{\"x\":[1]},\"a\":{\"$ref\":[123456789012345678901234567890,NaN]}}", "new",
         "{\n  \"a\": {\n    \"$ref\": [\n      123456789012345678901234567890,\n      NaN\n    ]\n"
         "  },\n  \"$ref\": \"new\"\n}\n"},
        {"{\"$ref\":1}", "", "{\n  \"$ref\": 1\n}\n"},
        {"{\"a\":[],\"b\":{},\"k\\u0000\":null}", "",
         "{\n  \"a\": [],\n  \"b\": {},\n  \"k\\u0000\": null\n}\n"},
    };
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(4096);
    struct atd_error err = ATD_ERROR_INIT;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_bytes json = atd_str_bytes(atd_str_from(cases[i].json));

        atd_buf_clear(&out);
        cr_assert_eq(atd_schema_pretty(json, atd_str_from(cases[i].ref), &out, &err), 0, "%s",
                     err.text);
        cr_assert_str_eq((const char *)out.ptr, cases[i].text);
    }
    atd_buf_clear(&out);
    atd_buf_append_text(&out, "x");
    cr_assert_eq(atd_schema_pretty(atd_str_bytes(ATD_STR("{\"a\":1,}")), ATD_STR(""), &out, &err),
                 -EINVAL);
    cr_assert_str_eq(err.text, "schema: no key in double quotes at line 1 column 8");
    cr_assert_eq(atd_schema_pretty(atd_str_bytes(ATD_STR("[1]")), ATD_STR(""), &out, &err),
                 -EINVAL);
    cr_assert_str_eq((const char *)out.ptr, "x");
}

Test(schema, python_identifiers)
{
    static const char *const good[] = {
        "a",
        "_",
        "A9",
        "match",
        "case",
        "type",
        "print",
        "self",
        "None_",
        "\xc3\xa9t\xc3\xa9",
        "\xce\xb1",
        "\xe4\xb8\xad\xe6\x96\x87",
        "\xd0\xb8\xd0\xbc\xd1\x8f"
        "1",
        "\xed\x95\x9c",
    };
    static const char *const bad[] = {
        "",
        "9",
        "a b",
        "a-b",
        "a.b",
        "a\n",
        "a=1",
        "a:int",
        "a;b",
        "a#",
        "\"",
        "a\"",
        "\\",
        "a\\",
        "None",
        "True",
        "class",
        "async",
        "lambda",
        "yield",
        "e\xcc\x81" /* NFD */,
        "\xef\xbc\xa1" /* full-width A, NFKC "A" */,
        "\xc2\xaa" /* NFKC "a" */,
        "\xc2\xb5",
        "\xf0\x9f\x9a\x80",
        "\xff",
        "a\xc3",
        "\xe2\x80\x8b",
        "\xc4\xb3" /* ij */,
        "a\xc2\xb7",
        "\xc7\x84" /* DZ with caron */,
        "\xc3\x97" /* multiplication sign */,
    };

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        cr_assert(atd_python_is_identifier(atd_str_from(good[i])), "%s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_not(atd_python_is_identifier(atd_str_from(bad[i])), "%s", bad[i]);
    cr_assert_not(atd_python_is_identifier((struct atd_str){"a\0b", 3}));
}

static const char *python_of(const char *json, const char *ref, struct atd_buf *out)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
    struct atd_error err = ATD_ERROR_INIT;

    atd_buf_clear(out);
    atd_schema_python(must_decode(json, &arena), atd_str_from(ref), out);
    cr_assert_eq(atd_buf_finish(out, "module", &err), 0, "%s", err.text);
    cr_assert(atd_utf8_is_valid(atd_buf_str(out), NULL));
    cr_assert_eq(strlen((const char *)out->ptr), out->len);
    return (const char *)out->ptr;
}

Test(schema, python_module)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);
    const char *module = python_of(
        "{\"name\": \"m.T\", \"version\": \"1.0\\\"\", \"fields\": [{\"name\": \"os\", "
        "\"fieldType\": "
        "{\"$type\": \"local#primitive\", \"primitive\": \"str\"}, \"optional\": true}, {\"name\": "
        "\"x\", \"fieldType\": {\"$type\": \"local#ndarray\", \"dtype\": \"float32\\n\", "
        "\"shape\": "
        "[null, 3]}}, {\"name\": \"y\", \"fieldType\": {\"$type\": \"local#ndarray\"}, "
        "\"optional\": "
        "true}, {\"name\": \"n\", \"fieldType\": {\"$type\": \"local#array\", \"items\": "
        "{\"$type\": "
        "\"local#array\", \"items\": {\"$type\": \"local#primitive\", \"primitive\": \"int\"}}}}, "
        "{\"name\": \"l\", \"fieldType\": {\"$type\": \"local#array\"}}, {\"name\": \"d\", "
        "\"fieldType\": {\"$type\": \"local#dataframe\"}}], \"description\": "
        "\"one\\n\\\"\\\"\\\"two\\\\\"}",
        "r\n\"", &out);

    cr_assert_str_eq(module, "\"\"\"Sample type generated from its schema record.\n\n"
                             "Schema: r\\n\\\"\n\"\"\"\n\n"
                             "from dataclasses import dataclass\n\n"
                             "from atdata import PackableSample\n"
                             "from numpy.typing import NDArray\n\n\n"
                             "@dataclass\nclass T(PackableSample):\n"
                             "    \"\"\"one\n\\\"\\\"\\\"two\\\\\"\"\"\n\n"
                             "    x: NDArray  # float32\\n (None, 3)\n"
                             "    n: list[list[int]]\n"
                             "    l: list\n"
                             "    d: bytes\n"
                             "    os: str | None = None\n"
                             "    y: NDArray | None = None\n\n"
                             "    __schema_version__ = \"1.0\\\"\"\n"
                             "    __schema_ref__ = \"r\\n\\\"\"\n\n"
                             "    __field_formats__ = {\n        \"d\": \"dataframe\",\n    }\n\n\n"
                             "__all__ = [\"T\"]\n");
}

Test(schema, python_module_whose_fields_are_named_like_types)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);
    const char *module = python_of(
        "{\"name\": \"NDArray\", \"version\": \"1\", \"fields\": [{\"name\": \"str\", "
        "\"fieldType\": "
        "{\"kind\": \"primitive\"}, \"optional\": true}, {\"name\": \"NDArray\", \"fieldType\": "
        "{\"kind\": \"ndarray\"}, \"optional\": true}, {\"name\": \"z\", \"fieldType\": {\"kind\": "
        "\"structured\"}, \"optional\": true}]}",
        "", &out);

    cr_assert_not_null(
        strstr(module, "from numpy.typing import NDArray as _NDArray\n\n_str = str\n"));
    cr_assert_not_null(strstr(module, "class NDArray(PackableSample):\n"
                                      "    \"\"\"Sample type NDArray.\"\"\"\n\n"
                                      "    str: _str | None = None\n"
                                      "    NDArray: _NDArray | None = None\n"
                                      "    z: _NDArray | None = None\n"));
    cr_assert_not_null(strstr(module, "\n\nSchema: NDArray@1\n"));
}

#define NAMED(name, fields) "{\"name\":" name ",\"version\":\"1\",\"fields\":[" fields "]}"
#define INT_FIELD(name) \
    "{\"name\":" name ",\"fieldType\":{\"kind\":\"primitive\",\"primitive\":\"int\"}}"

Test(schema, python_refuses_what_it_cannot_say)
{
    static const struct {
        const char *json;
        const char *reason; /* as it stands in the literal */
    } cases[] = {
        {NAMED("\"T\"", ""), "the schema has no fields"},
        {NAMED("\"\"", INT_FIELD("\"a\"")), "the schema's name is no Python class name"},
        {NAMED("\"class\"", INT_FIELD("\"a\"")), "the schema's name is no Python class name"},
        {NAMED("\"a.1.T\"", INT_FIELD("\"a\"")), "the schema's name is no Python class name"},
        {NAMED("\"T(object): pass\\nimport os\\nclass U\"", INT_FIELD("\"a\"")),
         "the schema's name is no Python class name"},
        {NAMED("\"__debug__\"", INT_FIELD("\"a\"")), "the schema's name is no Python class name"},
        {NAMED("\"T\"", INT_FIELD("\"a\\\"\\nimport os\"")),
         "field 'a\\\"\\nimport os' has a name that is no Python identifier, or that cannot be "
         "checked "
         "here"},
        {NAMED("\"T\"", INT_FIELD("\"None\"")),
         "field 'None' has a name that is no Python identifier, or that cannot be checked here"},
        {NAMED("\"T\"", INT_FIELD("\"_x\"")),
         "field '_x' has a name that the sample class reserves"},
        {NAMED("\"T\"", INT_FIELD("\"packed\"")),
         "field 'packed' has a name that the sample class reserves"},
        {NAMED("\"T\"", INT_FIELD("\"register\"")),
         "field 'register' has a name that the sample class reserves"},
        {NAMED("\"T\"", INT_FIELD("\"mro\"")),
         "field 'mro' has a name that the sample class reserves"},
        {NAMED("\"T\"", INT_FIELD("\"a\"") "," INT_FIELD("\"b\"") "," INT_FIELD("\"a\"")),
         "field 'a' is there twice"},
        {FIELD("{\"kind\":\"ref\",\"ref\":\"r\"}"),
         "field 'x' refers to another schema, which the library does not decode"},
        {FIELD("{\"kind\":\"array\",\"items\":{\"kind\":\"tensor\"}}"),
         "field 'x' is of an unknown kind"},
        {FIELD("{\"kind\":\"primitive\",\"primitive\":\"complex\"}"),
         "field 'x' is of an unknown primitive type"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);
        const char *module = python_of(cases[i].json, "", &out);
        char want[400];

        (void)snprintf(want, sizeof(want), "\"\"\"\n\nraise ImportError(\"%s\")\n",
                       cases[i].reason);
        cr_assert(atd_str_ends_with(atd_str_from(module), atd_str_from(want)), "%s", module);
        (void)snprintf(want, sizeof(want), "\nNo class can be made: %s.\n", cases[i].reason);
        cr_assert_not_null(strstr(module, want), "%s", module);
        cr_assert_null(strstr(module, "\nclass "));
    }
}

/* Whatever stands in a description, nothing of it gets out of its literal or hides. */
Test(schema, python_description_is_escaped)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);
    const char *module = python_of(
        "{\"name\": \"T\", \"version\": \"1\", \"fields\": [" INT_FIELD(
            "\"a\"") "], \"description\": \"\\u0000\\r\\f\\u001b\\u007f\\u0085\\u202e\\u2028"
                     "\\ufeff\\udb40\\udc41\\\\u0041 '\xc3\xa9 # -*- coding: utf-7 -*-\"}",
        "", &out);

    cr_assert_not_null(strstr(module,
                              "\"\"\"\\x00\\x0d\\x0c\\x1b\\x7f\\x85\\u202e\\u2028\\ufeff"
                              "\\U000e0041\\\\u0041 '\xc3\xa9 # -*- coding: utf-7 -*-\"\"\"\n"),
                       "%s", module);
}
