#include "sample_json.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "atdata/array.h"
#include "base/cleanup.h"
#include "base/utf8.h"
#include "codec/json_read.h"
#include "output.h"

#define ARENA_MAX ((size_t)256 << 20)

/* ------------------------------------------------------------------ values */

static void put_size(struct atd_json_writer *json, uint64_t bytes)
{
    atd_json_object_begin(json);
    atd_json_put_uint(json, "bytes", bytes);
    atd_json_object_end(json);
}

static void put_bytes(struct atd_json_writer *json, struct atd_bytes bytes)
{
    struct atd_array array;

    if (!atd_array_sniff(bytes) || atd_array_decode(bytes, &array, NULL) != 0) {
        put_size(json, bytes.len);
        return;
    }
    atd_json_object_begin(json);
    output_json_str(json, "dtype", array.dtype);
    atd_json_key(json, "shape");
    atd_json_array_begin(json);
    for (unsigned i = 0; i < array.ndim; i++)
        atd_json_uint(json, array.shape[i]);
    atd_json_array_end(json);
    atd_json_object_end(json);
}

static void put_float(struct atd_json_writer *json, double value)
{
    if (isfinite(value)) {
        atd_json_float(json, value);
        return;
    }
    atd_json_object_begin(json);
    atd_json_put_text(json, "$float", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
    atd_json_object_end(json);
}

static void put_value(struct atd_json_writer *json, const struct atd_value *value, unsigned depth);

static void put_container(struct atd_json_writer *json, const struct atd_value *value,
                          unsigned depth)
{
    bool is_map = value->type == ATD_VALUE_MAP;
    struct atd_value_iter iter;
    struct atd_value item;
    struct atd_str key;

    if (depth >= SAMPLE_JSON_DEPTH_MAX) {
        atd_json_object_begin(json);
        atd_json_put_uint(json, is_map ? "pairs" : "items", value->count);
        atd_json_object_end(json);
        return;
    }
    if (is_map)
        atd_json_object_begin(json);
    else
        atd_json_array_begin(json);
    atd_value_iter_init(&iter, value);
    while (atd_value_iter_next(&iter, is_map ? &key : NULL, &item)) {
        if (is_map)
            atd_json_key_str(json, key);
        put_value(json, &item, depth + 1);
    }
    if (is_map)
        atd_json_object_end(json);
    else
        atd_json_array_end(json);
}

static void put_value(struct atd_json_writer *json, const struct atd_value *value, unsigned depth)
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
    case ATD_VALUE_ARRAY:
    case ATD_VALUE_MAP:
        put_container(json, value, depth);
        break;
    }
}

/* ------------------------------------------------------------------ text members */

bool sample_json_is_text(const char *extension)
{
    static const char *const all[] = {"json", "txt", "text", "cls", "cls2"};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(extension, all[i]) == 0)
            return true;
    }
    return false;
}

static bool is_json(struct atd_str text)
{
    struct atd_json_reader reader;
    struct atd_json_token token = {.type = ATD_JSON_NULL};

    atd_json_reader_init(&reader, text, 0, false);
    while (token.type != ATD_JSON_END) {
        if (atd_json_next(&reader, &token, NULL) != 0)
            return false;
    }
    return true;
}

/* JSON text on one line: token by token. `text` is good JSON. */
static void copy_json(struct atd_json_writer *json, struct atd_str text)
{
    atd_auto_buf struct atd_buf plain = ATD_BUF_INIT(2 * SAMPLE_TEXT_BYTES_MAX);
    struct atd_json_reader reader;
    struct atd_json_token token = {.type = ATD_JSON_NULL};

    atd_json_reader_init(&reader, text, 0, false);
    while (atd_json_next(&reader, &token, NULL) == 0 && token.type != ATD_JSON_END) {
        atd_buf_clear(&plain);
        switch (token.type) {
        case ATD_JSON_OBJECT:
            atd_json_object_begin(json);
            break;
        case ATD_JSON_OBJECT_END:
            atd_json_object_end(json);
            break;
        case ATD_JSON_ARRAY:
            atd_json_array_begin(json);
            break;
        case ATD_JSON_ARRAY_END:
            atd_json_array_end(json);
            break;
        case ATD_JSON_KEY:
            atd_json_unescape(token.raw, &plain);
            atd_json_key_str(json, atd_buf_str(&plain));
            break;
        case ATD_JSON_STRING:
            atd_json_unescape(token.raw, &plain);
            atd_json_str(json, atd_buf_str(&plain));
            break;
        default:
            atd_json_raw(json, token.raw);
            break;
        }
    }
}

static void put_text(struct atd_json_writer *json, const struct atd_sample_part *part)
{
    struct atd_str text = atd_bytes_str(part->bytes);
    bool is_number = strncmp(part->extension, "cls", 3) == 0;

    if ((is_number || strcmp(part->extension, "json") == 0) && is_json(text))
        copy_json(json, text);
    else if (atd_utf8_is_valid(text, NULL))
        atd_json_str(json, text);
    else
        put_size(json, part->size_bytes);
}

/* ------------------------------------------------------------------ the sample */

static void put_fields(struct atd_json_writer *json, const struct atd_sample *sample)
{
    for (size_t i = 0; i < sample->field_count; i++) {
        if (atd_str_equal(sample->fields[i].name, ATD_STR("__key__")))
            continue; /* the member's name says it */
        atd_json_key_str(json, sample->fields[i].name);
        put_value(json, &sample->fields[i].value, 0);
    }
}

int sample_json_write(struct atd_json_writer *json, struct atd_str key,
                      const struct atd_sample_part *parts, size_t count, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_MAX);
    struct atd_sample sample = {0};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (strcmp(parts[i].extension, "msgpack") != 0)
            continue;
        rc = parts[i].is_kept
                 ? atd_sample_decode(parts[i].bytes, &arena, &sample, err)
                 : atd_error_set(err, E2BIG, "it is too large to be decoded in memory");
    }
    if (rc)
        return atd_error_wrap(err, rc, "sample '" ATD_STR_FMT "'", ATD_STR_ARG(key));
    atd_json_object_begin(json);
    output_json_str(json, "__key__", key);
    put_fields(json, &sample);
    for (size_t i = 0; i < count; i++) {
        struct atd_str extension = atd_str_from(parts[i].extension);

        /* A field of the same name is told already. */
        if (strcmp(parts[i].extension, "msgpack") == 0 || atd_sample_find(&sample, extension) ||
            atd_str_equal(extension, ATD_STR("__key__")))
            continue;
        atd_json_key_str(json, extension);
        if (parts[i].is_kept && sample_json_is_text(parts[i].extension))
            put_text(json, &parts[i]);
        else
            put_size(json, parts[i].size_bytes);
    }
    atd_json_object_end(json);
    return 0;
}
