#include "dataset/sample_json.h"

#include <math.h>

#include "base/cleanup.h"
#include "codec/base64.h"

static void put_value(struct atd_json_writer *json, const struct atd_value *value);

static void put_float(struct atd_json_writer *json, double value)
{
    if (isnan(value))
        atd_json_raw(json, ATD_STR("NaN"));
    else if (isinf(value))
        atd_json_raw(json, value > 0 ? ATD_STR("Infinity") : ATD_STR("-Infinity"));
    else
        atd_json_float(json, value);
}

static void put_bytes(struct atd_json_writer *json, struct atd_bytes bytes)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(2 * ATD_SAMPLE_JSON_NESTED_MAX);

    atd_base64_encode(bytes, &text);
    if (text.failed && !json->out->failed)
        json->out->failed = text.failed;
    atd_json_object_begin(json);
    atd_json_key(json, "$base64");
    atd_json_str(json, atd_buf_str(&text));
    atd_json_object_end(json);
}

static void put_container(struct atd_json_writer *json, const struct atd_value *value)
{
    struct atd_value_iter iter;
    struct atd_value item;
    struct atd_str key;

    atd_value_iter_init(&iter, value);
    if (value->type == ATD_VALUE_MAP) {
        atd_json_object_begin(json);
        while (atd_value_iter_next(&iter, &key, &item)) {
            atd_json_key_str(json, key);
            put_value(json, &item);
        }
        atd_json_object_end(json);
    } else {
        atd_json_array_begin(json);
        while (atd_value_iter_next(&iter, NULL, &item))
            put_value(json, &item);
        atd_json_array_end(json);
    }
}

/* Recursion is as deep as the decoder lets a sample be. */
static void put_value(struct atd_json_writer *json, const struct atd_value *value)
{
    switch (value->type) {
    case ATD_VALUE_NIL:
        atd_json_null(json);
        break;
    case ATD_VALUE_BOOL:
        atd_json_bool(json, value->b);
        break;
    case ATD_VALUE_INT:
        atd_json_int(json, value->i);
        break;
    case ATD_VALUE_UINT:
        atd_json_uint(json, value->u);
        break;
    case ATD_VALUE_FLOAT:
        put_float(json, value->f);
        break;
    case ATD_VALUE_STR:
        atd_json_str(json, value->str);
        break;
    case ATD_VALUE_BIN:
        put_bytes(json, value->bin);
        break;
    default:
        put_container(json, value);
        break;
    }
}

void atd_sample_json_begin(struct atd_sample_json *json, struct atd_buf *out)
{
    json->nested_bytes = 0;
    atd_json_init(&json->writer, out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json->writer);
}

bool atd_sample_json_add(struct atd_sample_json *json, struct atd_str name,
                         const struct atd_value *value)
{
    if (value->type == ATD_VALUE_ARRAY || value->type == ATD_VALUE_MAP) {
        if (value->raw.len > ATD_SAMPLE_JSON_NESTED_MAX - json->nested_bytes)
            return false;
        json->nested_bytes += value->raw.len;
    }
    atd_json_key_str(&json->writer, name);
    put_value(&json->writer, value);
    return true;
}

void atd_sample_json_end(struct atd_sample_json *json)
{
    atd_json_object_end(&json->writer);
    atd_buf_append_byte(json->writer.out, '\n');
}
