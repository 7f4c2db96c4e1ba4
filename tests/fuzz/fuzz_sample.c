/*
 * Any bytes as a sample. One that decodes is written again, decodes again, and is then written the
 * same.
 */
#include <stdint.h>
#include <stdlib.h>

#include "atdata/sample.h"
#include "base/cleanup.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (64u << 20)

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Recursion is as deep as the reader lets a sample be. */
static void put_value(const struct atd_value *value, struct atd_buf *out)
{
    struct atd_value_iter iter;
    struct atd_value item;
    struct atd_str key;

    require(value->raw.len > 0);
    switch (value->type) {
    case ATD_VALUE_NIL:
        atd_sample_put_nil(out);
        return;
    case ATD_VALUE_BOOL:
        atd_sample_put_bool(out, value->b);
        return;
    case ATD_VALUE_INT:
        require(value->i < 0);
        atd_sample_put_int(out, value->i);
        return;
    case ATD_VALUE_UINT:
        atd_sample_put_uint(out, value->u);
        return;
    case ATD_VALUE_FLOAT:
        atd_sample_put_float(out, value->f);
        return;
    case ATD_VALUE_STR:
        require(atd_utf8_is_valid(value->str, NULL));
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
        if (value->type == ATD_VALUE_MAP) {
            require(atd_utf8_is_valid(key, NULL));
            atd_sample_put_str(out, key);
        }
        put_value(&item, out);
    }
    require(iter.rest.len == 0);
}

static void put_sample(const struct atd_sample *sample, struct atd_buf *out)
{
    atd_sample_put_map(out, (uint32_t)sample->field_count);
    for (size_t i = 0; i < sample->field_count; i++) {
        const struct atd_sample_field *field = &sample->fields[i];

        require(atd_sample_find(sample, field->name) == &field->value);
        atd_sample_put_str(out, field->name);
        put_value(&field->value, out);
    }
    require(out->failed == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
    atd_auto_buf struct atd_buf once = ATD_BUF_INIT(64u << 20);
    atd_auto_buf struct atd_buf twice = ATD_BUF_INIT(64u << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_sample sample;
    int rc = atd_sample_decode((struct atd_bytes){data, size}, &arena, &sample, &err);

    require((rc == 0) == (err.code == 0));
    if (rc != 0)
        return 0;
    put_sample(&sample, &once);
    require(atd_sample_decode(atd_buf_bytes(&once), &arena, &sample, NULL) == 0);
    put_sample(&sample, &twice);
    require(atd_str_equal(atd_buf_str(&once), atd_buf_str(&twice)));
    return 0;
}
