/*
 * Schema records as JSON Schema (draft 2020-12), for readers in other languages.
 *
 * It describes a sample rendered as one JSON object, the fields by their names. What JSON cannot
 * say is said as in metadata.json (entry.h): bytes are base64, numbers that are none are tagged.
 */
#include "atdata/schema.h"
#include "codec/json_write.h"
#include "codec/schema_kind.h"

#define DRAFT "https://json-schema.org/draft/2020-12/schema"
#define COMMENT                                                                                \
    "A sample as one JSON object. Arrays and bytes are base64 text; an array is a NumPy .npy " \
    "file. Not-a-number and infinities are {\"$float\": \"nan\"|\"inf\"|\"-inf\"}. The "       \
    "library refuses other fields than these, but does not look at the types of values."

static void put_text(struct atd_json_writer *json, const char *key, const char *text)
{
    atd_json_key(json, key);
    atd_json_text(json, text);
}

/* ------------------------------------------------------------------ types */

/* What the bytes of a field are; NULL: nothing that has a name. */
static const char *media_type(enum atd_field_kind kind)
{
    switch (kind) {
    case ATD_KIND_NDARRAY:
    case ATD_KIND_STRUCTURED:
        return "application/x-npy";
    case ATD_KIND_SPARSE:
        return "application/x-npz";
    case ATD_KIND_DATAFRAME:
        return "application/vnd.apache.parquet";
    default:
        return NULL;
    }
}

/* dtype and shape as registered: for people, nobody enforces them (4.2). */
static void put_remark(struct atd_json_writer *json, const struct atd_field_type *type)
{
    atd_json_key(json, "x-atdata-kind");
    atd_json_str(json, atd_field_kind_text(type));
    if (type->dtype.ptr) {
        atd_json_key(json, "x-atdata-dtype");
        atd_json_str(json, type->dtype);
    }
    if (!type->has_shape)
        return;
    atd_json_key(json, "x-atdata-shape");
    atd_json_array_begin(json);
    for (size_t i = 0; i < type->shape_len; i++) {
        if (type->shape[i] == ATD_DIM_FREE)
            atd_json_null(json);
        else
            atd_json_int(json, type->shape[i]);
    }
    atd_json_array_end(json);
}

static void put_bytes(struct atd_json_writer *json, const char *media)
{
    put_text(json, "type", "string");
    put_text(json, "contentEncoding", "base64");
    if (media)
        put_text(json, "contentMediaType", media);
}

static void put_primitive(struct atd_json_writer *json, enum atd_primitive primitive)
{
    switch (primitive) {
    case ATD_PRIMITIVE_STR:
        put_text(json, "type", "string");
        break;
    case ATD_PRIMITIVE_INT:
        put_text(json, "type", "integer");
        atd_json_key(json, "minimum");
        atd_json_int(json, INT64_MIN);
        atd_json_key(json, "maximum");
        atd_json_uint(json, UINT64_MAX);
        break;
    case ATD_PRIMITIVE_FLOAT:
        put_text(json, "$ref", "#/$defs/float");
        break;
    case ATD_PRIMITIVE_BOOL:
        put_text(json, "type", "boolean");
        break;
    case ATD_PRIMITIVE_BYTES:
        put_bytes(json, NULL);
        break;
    case ATD_PRIMITIVE_UNKNOWN:
        put_text(json, "$comment", "of an unknown primitive type: anything");
        break;
    }
}

/* One schema object; lists are as deep as ATD_SCHEMA_LIST_DEPTH_MAX. */
static void put_type(struct atd_json_writer *json, const struct atd_field_type *type)
{
    atd_json_object_begin(json);
    switch (type->kind) {
    case ATD_KIND_PRIMITIVE:
        put_primitive(json, type->primitive);
        break;
    case ATD_KIND_ARRAY:
        put_text(json, "type", "array");
        if (type->items) {
            atd_json_key(json, "items");
            put_type(json, type->items);
        }
        break;
    case ATD_KIND_REF:
        put_text(json, "$comment", "refers to another schema, which the library does not decode");
        break;
    case ATD_KIND_UNKNOWN:
        put_text(json, "$comment", "of an unknown kind: anything");
        break;
    default:
        put_bytes(json, media_type(type->kind));
        put_remark(json, type);
        break;
    }
    atd_json_object_end(json);
}

static void put_field(struct atd_json_writer *json, const struct atd_field *field)
{
    atd_json_key_str(json, field->name);
    if (!field->optional) {
        put_type(json, &field->type);
        return;
    }
    atd_json_object_begin(json);
    atd_json_key(json, "anyOf");
    atd_json_array_begin(json);
    put_type(json, &field->type);
    atd_json_object_begin(json);
    put_text(json, "type", "null");
    atd_json_object_end(json);
    atd_json_array_end(json);
    atd_json_object_end(json);
}

/* ------------------------------------------------------------------ the whole */

/* Of a name that is there twice, the last field counts: a JSON object has a key once. */
static bool is_last_of_its_name(const struct atd_schema *schema, size_t number)
{
    for (size_t i = number + 1; i < schema->field_count; i++) {
        if (atd_str_equal(schema->fields[i].name, schema->fields[number].name))
            return false;
    }
    return true;
}

static void put_fields(struct atd_json_writer *json, const struct atd_schema *schema)
{
    atd_json_key(json, "properties");
    atd_json_object_begin(json);
    for (size_t i = 0; i < schema->field_count; i++) {
        if (is_last_of_its_name(schema, i))
            put_field(json, &schema->fields[i]);
    }
    atd_json_object_end(json);
    atd_json_key(json, "required");
    atd_json_array_begin(json);
    for (size_t i = 0; i < schema->field_count; i++) {
        if (!schema->fields[i].optional && is_last_of_its_name(schema, i))
            atd_json_str(json, schema->fields[i].name);
    }
    atd_json_array_end(json);
    atd_json_key(json, "additionalProperties");
    atd_json_bool(json, false);
}

/* "$defs": {"float": a number, or the tag of what is none}. */
static void put_float(struct atd_json_writer *json)
{
    static const char *const tags[] = {"nan", "inf", "-inf"};

    atd_json_key(json, "$defs");
    atd_json_object_begin(json);
    atd_json_key(json, "float");
    atd_json_object_begin(json);
    atd_json_key(json, "anyOf");
    atd_json_array_begin(json);
    atd_json_object_begin(json);
    put_text(json, "type", "number");
    atd_json_object_end(json);
    atd_json_object_begin(json);
    put_text(json, "type", "object");
    atd_json_key(json, "properties");
    atd_json_object_begin(json);
    atd_json_key(json, "$float");
    atd_json_object_begin(json);
    atd_json_key(json, "enum");
    atd_json_array_begin(json);
    for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
        atd_json_text(json, tags[i]);
    atd_json_array_end(json);
    atd_json_object_end(json);
    atd_json_object_end(json);
    atd_json_key(json, "required");
    atd_json_array_begin(json);
    atd_json_text(json, "$float");
    atd_json_array_end(json);
    atd_json_key(json, "additionalProperties");
    atd_json_bool(json, false);
    atd_json_object_end(json);
    atd_json_array_end(json);
    atd_json_object_end(json);
    atd_json_object_end(json);
}

void atd_schema_jsonschema(const struct atd_schema *schema, struct atd_str ref, struct atd_buf *out)
{
    struct atd_json_writer json;

    atd_json_init(&json, out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    put_text(&json, "$schema", DRAFT);
    atd_json_key(&json, "title");
    atd_json_str(&json, schema->name);
    if (schema->description.len) {
        atd_json_key(&json, "description");
        atd_json_str(&json, schema->description);
    }
    put_text(&json, "$comment", COMMENT);
    atd_json_key(&json, "x-atdata-version");
    atd_json_str(&json, schema->version);
    if (ref.len) {
        atd_json_key(&json, "x-atdata-ref");
        atd_json_str(&json, ref);
    }
    put_text(&json, "type", "object");
    put_fields(&json, schema);
    put_float(&json);
    atd_json_object_end(&json);
    atd_buf_append_byte(out, '\n');
}
