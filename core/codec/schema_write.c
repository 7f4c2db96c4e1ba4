/*
 * Schema records written: as the library stores them, and for people.
 */
#include <errno.h>

#include "atdata/schema.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/json_read.h"
#include "codec/json_write.h"
#include "codec/schema_kind.h"

static void write_kind(struct atd_json_writer *json, struct atd_str kind)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_SCHEMA_BYTES_MAX);

    /* Readers cut at the last '#': a kind with one of its own fits only the other spelling. */
    if (atd_str_find(kind, '#') >= 0) {
        atd_json_key(json, "kind");
        atd_json_str(json, kind);
        return;
    }
    atd_buf_append_text(&text, "local#");
    atd_buf_append_str(&text, kind);
    if (text.failed)
        json->out->failed = text.failed;
    atd_json_key(json, "$type");
    atd_json_str(json, atd_buf_str(&text));
}

static void write_array_facts(struct atd_json_writer *json, const struct atd_field_type *type)
{
    if (type->dtype.ptr) {
        atd_json_key(json, "dtype");
        atd_json_str(json, type->dtype);
    }
    if (type->has_shape) {
        atd_json_key(json, "shape");
        atd_json_array_begin(json);
        for (size_t i = 0; i < type->shape_len; i++) {
            if (type->shape[i] == ATD_DIM_FREE)
                atd_json_null(json);
            else
                atd_json_int(json, type->shape[i]);
        }
        atd_json_array_end(json);
    }
    if (type->dim_names) {
        atd_json_key(json, "dimensionNames");
        atd_json_array_begin(json);
        for (size_t i = 0; i < type->dim_name_count; i++)
            atd_json_str(json, type->dim_names[i]);
        atd_json_array_end(json);
    }
}

/* `items` is the last key of its object, so that nested types close together at the end. */
static void write_type(struct atd_json_writer *json, const struct atd_field_type *type)
{
    unsigned open = 0;

    while (type) {
        const struct atd_field_type *items = NULL;

        atd_json_object_begin(json);
        open++;
        write_kind(json, atd_field_kind_text(type));
        if (type->kind == ATD_KIND_PRIMITIVE) {
            atd_json_key(json, "primitive");
            atd_json_str(json, atd_primitive_text(type));
        } else if (type->kind == ATD_KIND_NDARRAY || type->kind == ATD_KIND_STRUCTURED) {
            write_array_facts(json, type);
        } else if (type->kind == ATD_KIND_REF) {
            atd_json_key(json, "ref");
            atd_json_str(json, type->ref);
        } else if (type->kind == ATD_KIND_ARRAY && type->items) {
            atd_json_key(json, "items");
            items = type->items;
        }
        type = items;
    }
    while (open-- > 0)
        atd_json_object_end(json);
}

void atd_schema_encode(const struct atd_schema *schema, struct atd_buf *out)
{
    struct atd_json_writer json;

    atd_json_init(&json, out, ATD_JSON_LINE);
    atd_json_object_begin(&json);
    atd_json_key(&json, "name");
    atd_json_str(&json, schema->name);
    atd_json_key(&json, "version");
    atd_json_str(&json, schema->version);
    atd_json_key(&json, "fields");
    atd_json_array_begin(&json);
    for (size_t i = 0; i < schema->field_count; i++) {
        atd_json_object_begin(&json);
        atd_json_key(&json, "name");
        atd_json_str(&json, schema->fields[i].name);
        atd_json_key(&json, "fieldType");
        write_type(&json, &schema->fields[i].type);
        atd_json_key(&json, "optional");
        atd_json_bool(&json, schema->fields[i].optional);
        atd_json_object_end(&json);
    }
    atd_json_array_end(&json);
    atd_json_key(&json, "description");
    if (schema->description.ptr)
        atd_json_str(&json, schema->description);
    else
        atd_json_null(&json);
    if (schema->created_at.ptr) {
        atd_json_key(&json, "createdAt");
        atd_json_str(&json, schema->created_at);
    }
    atd_json_object_end(&json);
}

/* Reads past a value, of which one token or none was read. */
static int skip_value(struct atd_json_reader *reader, struct atd_error *err)
{
    struct atd_json_token token;
    int rc = atd_json_next(reader, &token, err);

    if (rc == 0 && (token.type == ATD_JSON_OBJECT || token.type == ATD_JSON_ARRAY))
        rc = atd_json_skip_rest(reader, err);
    return rc;
}

struct pretty {
    struct atd_json_reader reader;
    struct atd_json_writer json;
    struct atd_buf scratch; /* one key or string, unescaped */
    struct atd_str ref;
};

static struct atd_str unescape(struct pretty *p, struct atd_str raw)
{
    atd_buf_clear(&p->scratch);
    atd_json_unescape(raw, &p->scratch);
    if (p->scratch.failed)
        p->json.out->failed = p->scratch.failed;
    return atd_buf_str(&p->scratch);
}

static int copy_token(struct pretty *p, const struct atd_json_token *token, struct atd_error *err)
{
    switch (token->type) {
    case ATD_JSON_OBJECT:
        atd_json_object_begin(&p->json);
        break;
    case ATD_JSON_ARRAY:
        atd_json_array_begin(&p->json);
        break;
    case ATD_JSON_ARRAY_END:
        atd_json_array_end(&p->json);
        break;
    case ATD_JSON_OBJECT_END:
        if (p->reader.depth == 0 && p->ref.len) {
            atd_json_key(&p->json, "$ref");
            atd_json_str(&p->json, p->ref);
        }
        atd_json_object_end(&p->json);
        break;
    case ATD_JSON_KEY:
        if (p->reader.depth == 1 && p->ref.len && atd_json_raw_equals(token->raw, "$ref"))
            return skip_value(&p->reader, err);
        atd_json_key_str(&p->json, unescape(p, token->raw));
        break;
    case ATD_JSON_STRING:
        atd_json_str(&p->json, unescape(p, token->raw));
        break;
    default:
        atd_json_raw(&p->json, token->raw); /* a number stays as it was spelled */
        break;
    }
    return 0;
}

static int copy_pretty(struct pretty *p, struct atd_error *err)
{
    struct atd_json_token token;
    int rc = atd_json_next(&p->reader, &token, err);

    if (rc == 0 && token.type != ATD_JSON_OBJECT)
        rc =
            atd_json_error(p->reader.text, token.offset, EINVAL, err, "the top level is no object");
    while (rc == 0 && token.type != ATD_JSON_END) {
        rc = copy_token(p, &token, err);
        if (rc == 0)
            rc = atd_json_next(&p->reader, &token, err);
    }
    return rc < 0 ? atd_error_wrap(err, rc, "schema") : 0;
}

int atd_schema_pretty(struct atd_bytes json, struct atd_str ref, struct atd_buf *out,
                      struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(out->max_bytes);
    struct pretty p = {.scratch = ATD_BUF_INIT(ATD_SCHEMA_BYTES_MAX), .ref = ref};
    int rc;

    if (json.len > ATD_SCHEMA_BYTES_MAX)
        return atd_error_set(err, E2BIG, "schema is larger than the limit of %u bytes",
                             ATD_SCHEMA_BYTES_MAX);
    atd_json_reader_init(&p.reader, atd_bytes_str(json), 0, true);
    atd_json_init(&p.json, &text, ATD_JSON_PRETTY);
    rc = copy_pretty(&p, err);
    atd_buf_release(&p.scratch);
    if (rc < 0)
        return rc;
    atd_buf_append_byte(&text, '\n');
    rc = atd_buf_finish(&text, "schema", err);
    if (rc < 0)
        return rc;
    atd_buf_append_str(out, atd_buf_str(&text));
    return atd_buf_finish(out, "schema", err);
}
