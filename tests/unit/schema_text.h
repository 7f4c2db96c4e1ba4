/*
 * Schemas and samples in tests, short: "a:int b:list[str]? c:ndarray(float32)", and samples as the
 * JSON that metadata is written in.
 */
#ifndef ATD_TESTS_UNIT_SCHEMA_TEXT_H
#define ATD_TESTS_UNIT_SCHEMA_TEXT_H

#include <criterion/criterion.h>

#include "atdata/entry.h"
#include "atdata/sample.h"
#include "atdata/schema.h"
#include "codec/schema_kind.h"

static inline void put_type_text(const struct atd_field_type *type, struct atd_buf *out)
{
    unsigned open = 0;

    while (type->kind == ATD_KIND_ARRAY && type->items) {
        atd_buf_append_text(out, "list[");
        type = type->items;
        open++;
    }
    if (type->kind == ATD_KIND_ARRAY) {
        atd_buf_append_text(out, "list");
    } else if (type->kind == ATD_KIND_PRIMITIVE) {
        atd_buf_append_str(out, atd_primitive_text(type));
    } else {
        atd_buf_append_str(out, atd_field_kind_text(type));
        if (type->dtype.len)
            atd_buf_printf(out, "(" ATD_STR_FMT ")", ATD_STR_ARG(type->dtype));
    }
    while (open-- > 0)
        atd_buf_append_byte(out, ']');
}

static inline const char *schema_text(const struct atd_schema *schema, struct atd_buf *out)
{
    atd_buf_clear(out);
    for (size_t i = 0; i < schema->field_count; i++) {
        atd_buf_printf(out, "%s" ATD_STR_FMT ":", i ? " " : "",
                       ATD_STR_ARG(schema->fields[i].name));
        put_type_text(&schema->fields[i].type, out);
        atd_buf_append_text(out, schema->fields[i].optional ? "?" : "");
    }
    cr_assert_eq(out->failed, 0);
    return out->len ? (const char *)out->ptr : "";
}

static inline struct atd_field_type type_from_text(const char *text, size_t len,
                                                   struct atd_arena *arena)
{
    struct atd_field_type type = {0};
    struct atd_str whole = {text, len};

    if (atd_str_starts_with(whole, ATD_STR("list["))) {
        struct atd_field_type *items = atd_arena_alloc(arena, sizeof(*items));

        type.kind = ATD_KIND_ARRAY;
        *items = type_from_text(text + 5, len - 6, arena);
        type.items = items;
        return type;
    }
    if (atd_str_equal(whole, ATD_STR("list"))) {
        type.kind = ATD_KIND_ARRAY;
        return type;
    }
    if (atd_str_find(whole, '(') > 0) {
        size_t open = (size_t)atd_str_find(whole, '(');

        type.dtype = (struct atd_str){text + open + 1, len - open - 2};
        whole.len = open;
    }
    type.primitive = atd_primitive_from_text(whole);
    type.primitive_text = whole;
    type.kind = type.primitive == ATD_PRIMITIVE_UNKNOWN ? atd_field_kind_from_text(whole)
                                                        : ATD_KIND_PRIMITIVE;
    type.kind_text = whole;
    return type;
}

/* The reverse of schema_text. `text` must outlive the schema. */
static inline struct atd_schema schema_from_text(const char *text, struct atd_arena *arena)
{
    struct atd_field *fields = atd_arena_alloc_array(arena, 64, sizeof(*fields));
    struct atd_schema schema = {.name = ATD_STR("X"), .version = ATD_STR("1.0.0")};

    while (*text) {
        size_t len = strcspn(text, " ");
        size_t colon = strcspn(text, ":");
        bool optional = text[len - 1] == '?';

        fields[schema.field_count].name = (struct atd_str){text, colon};
        fields[schema.field_count].optional = optional;
        fields[schema.field_count++].type =
            type_from_text(text + colon + 1, len - colon - 1 - optional, arena);
        text += len + (text[len] == ' ');
    }
    schema.fields = fields;
    return schema;
}

/* A sample of JSON; it lives in `arena`. */
static inline struct atd_sample sample_from_json(struct atd_str json, struct atd_arena *arena)
{
    struct atd_buf msgpack = ATD_BUF_INIT(1 << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_sample sample;
    struct atd_bytes bytes;

    cr_assert_eq(atd_metadata_from_json(json, &msgpack, &err), 0, "%.*s: %s", (int)json.len,
                 json.ptr, err.text);
    bytes = atd_arena_bytes(arena, atd_buf_bytes(&msgpack));
    atd_buf_release(&msgpack);
    cr_assert_eq(atd_sample_decode(bytes, arena, &sample, &err), 0, "%s", err.text);
    return sample;
}

#endif
