#include <criterion/criterion.h>
#include <jansson.h>

#include "atdata/schema.h"
#include "base/cleanup.h"

/* The JSON Schema of a record with these fields, parsed. */
static json_t *render(const char *fields)
{
    atd_auto_buf struct atd_buf record = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 20);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
    const struct atd_schema *schema;
    json_t *parsed;

    atd_buf_printf(&record, "{\"name\": \"T\\\"\", \"version\": \"1.0.0\", \"fields\": [%s]}",
                   fields);
    cr_assert_eq(atd_schema_decode(atd_buf_bytes(&record), &arena, &schema, NULL), 0);
    atd_schema_jsonschema(schema, ATD_STR("ref"), &out);
    cr_assert_eq(atd_buf_finish(&out, "it", NULL), 0);
    cr_assert_eq(out.ptr[out.len - 1], '\n');
    parsed = json_loadb((const char *)out.ptr, out.len, JSON_DECODE_INT_AS_REAL, NULL);
    cr_assert_not_null(parsed, "%s", (const char *)out.ptr);
    return parsed;
}

static const char *text_at(const json_t *json, const char *first, const char *second)
{
    const json_t *at = json_object_get(json_object_get(json, first), second);

    return json_string_value(at);
}

Test(schema_jsonschema, every_kind)
{
    json_t *schema = render(
        "{\"name\": \"s\", \"fieldType\": {\"$type\": \"local#primitive\", \"primitive\": "
        "\"str\"}},"
        "{\"name\": \"n\", \"fieldType\": {\"$type\": \"local#primitive\", \"primitive\": "
        "\"int\"}},"
        "{\"name\": \"a\", \"fieldType\": {\"$type\": \"local#ndarray\", \"dtype\": \"float32\","
        " \"shape\": [null, 3]}},"
        "{\"name\": \"d\", \"fieldType\": {\"$type\": \"local#dataframe\"}},"
        "{\"name\": \"l\", \"fieldType\": {\"$type\": \"local#array\", \"items\":"
        " {\"$type\": \"local#primitive\", \"primitive\": \"bool\"}}},"
        "{\"name\": \"u\", \"fieldType\": {\"$type\": \"local#hologram\"}},"
        "{\"name\": \"o\", \"fieldType\": {\"$type\": \"local#primitive\", \"primitive\": "
        "\"bytes\"},"
        " \"optional\": true}");
    const json_t *properties = json_object_get(schema, "properties");

    cr_assert_str_eq(json_string_value(json_object_get(schema, "$schema")),
                     "https://json-schema.org/draft/2020-12/schema");
    cr_assert_str_eq(json_string_value(json_object_get(schema, "title")), "T\"");
    cr_assert_str_eq(json_string_value(json_object_get(schema, "x-atdata-ref")), "ref");
    cr_assert(json_is_false(json_object_get(schema, "additionalProperties")));
    cr_assert_eq(json_array_size(json_object_get(schema, "required")), 6);
    cr_assert_str_eq(text_at(properties, "s", "type"), "string");
    cr_assert_str_eq(text_at(properties, "n", "type"), "integer");
    cr_assert_str_eq(text_at(properties, "a", "contentMediaType"), "application/x-npy");
    cr_assert_str_eq(text_at(properties, "a", "x-atdata-dtype"), "float32");
    cr_assert_str_eq(text_at(properties, "d", "contentMediaType"),
                     "application/vnd.apache.parquet");
    cr_assert_str_eq(text_at(properties, "d", "x-atdata-kind"), "dataframe");
    cr_assert_str_eq(text_at(json_object_get(properties, "l"), "items", "type"), "boolean");
    cr_assert_null(text_at(properties, "u", "type"));
    cr_assert_eq(json_array_size(json_object_get(json_object_get(properties, "o"), "anyOf")), 2);
    json_decref(schema);
}

Test(schema_jsonschema, no_fields_and_equal_names)
{
    json_t *schema = render("");

    cr_assert_eq(json_object_size(json_object_get(schema, "properties")), 0);
    json_decref(schema);
    schema = render("{\"name\": \"x\", \"fieldType\": {\"$type\": \"local#primitive\", "
                    "\"primitive\": \"int\"}},"
                    "{\"name\": \"x\", \"fieldType\": {\"$type\": \"local#primitive\", "
                    "\"primitive\": \"str\"}}");
    cr_assert_eq(json_object_size(json_object_get(schema, "properties")), 1);
    cr_assert_str_eq(text_at(json_object_get(schema, "properties"), "x", "type"), "string");
    cr_assert_eq(json_array_size(json_object_get(schema, "required")), 1);
    json_decref(schema);
}
