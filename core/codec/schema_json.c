/*
 * Schema records read from JSON.
 */
#include <errno.h>

#include "atdata/schema.h"
#include "base/check.h"
#include "base/limits.h"
#include "codec/json_read.h"
#include "codec/schema_kind.h"

#define SHAPE_MAX 64u /* NumPy's own limit of dimensions */

struct decoder {
    struct atd_str text;
    struct atd_arena *arena;
    struct atd_error *err;
};

/* The last value of one key of an object; `is_there` false when the object lacks it. */
struct member {
    const char *key;
    bool is_there;
    struct atd_json_token token; /* the value's first */
};

static int fail(const struct decoder *d, size_t offset, const char *what)
{
    return atd_json_error(d->text, offset, EINVAL, d->err, what);
}

static int no_memory(const struct decoder *d)
{
    return atd_error_set(d->err, ENOMEM, "schema: out of memory");
}

static bool is_container(const struct atd_json_token *token)
{
    return token->type == ATD_JSON_OBJECT || token->type == ATD_JSON_ARRAY;
}

/*
 * Finds the values of the wanted keys of the object at `start`. Later ones replace earlier ones, as
 * in Python; that is why a value is only looked at when the whole object has been seen.
 */
static int find_members(const struct decoder *d, size_t start, struct member *members, size_t count)
{
    struct atd_json_reader reader;
    struct atd_json_token key;
    struct atd_json_token value;
    int rc;

    atd_json_reader_init(&reader, d->text, start, true);
    rc = atd_json_next(&reader, &key, d->err);
    while (rc == 0) {
        rc = atd_json_next(&reader, &key, d->err);
        if (rc < 0 || key.type == ATD_JSON_OBJECT_END)
            return rc;
        rc = atd_json_next(&reader, &value, d->err);
        if (rc == 0 && is_container(&value))
            rc = atd_json_skip_rest(&reader, d->err);
        for (size_t i = 0; i < count; i++) {
            if (atd_json_raw_equals(key.raw, members[i].key)) {
                members[i].is_there = true;
                members[i].token = value;
            }
        }
    }
    return rc;
}

static bool is_text(const struct member *member)
{
    return member->is_there && member->token.type == ATD_JSON_STRING;
}

/* Text of a string member; ptr NULL (and success) when it is absent or something else. */
static int take_text(const struct decoder *d, const struct member *member, struct atd_str *ret_text)
{
    *ret_text = (struct atd_str){NULL, 0};
    if (!is_text(member))
        return 0;
    *ret_text = atd_json_unescape_in(member->token.raw, d->arena);
    return ret_text->ptr ? 0 : no_memory(d);
}

static int take_required_text(const struct decoder *d, const struct member *member, size_t start,
                              const char *complaint, struct atd_str *ret_text)
{
    if (!is_text(member))
        return fail(d, member->is_there ? member->token.offset : start, complaint);
    return take_text(d, member, ret_text);
}

/* Python's truth value of a JSON value. */
static bool is_true(const struct decoder *d, const struct member *member)
{
    struct atd_json_reader reader;
    struct atd_json_token token;
    double number;

    if (!member->is_there)
        return false;
    switch (member->token.type) {
    case ATD_JSON_FALSE:
    case ATD_JSON_NULL:
        return false;
    case ATD_JSON_STRING:
        return member->token.raw.len > 0;
    case ATD_JSON_NUMBER:
        return !atd_json_as_double(member->token.raw, &number) || number != 0;
    case ATD_JSON_OBJECT:
    case ATD_JSON_ARRAY:
        atd_json_reader_init(&reader, d->text, member->token.offset, true);
        return atd_json_next(&reader, &token, NULL) == 0 &&
               atd_json_next(&reader, &token, NULL) == 0 && token.type != ATD_JSON_OBJECT_END &&
               token.type != ATD_JSON_ARRAY_END;
    default:
        return true;
    }
}

/* The number of items of the array at `start`, which was read before. */
static int count_items(const struct decoder *d, size_t start, size_t *ret_count)
{
    struct atd_json_reader reader;
    struct atd_json_token token;
    size_t count = 0;
    int rc;

    atd_json_reader_init(&reader, d->text, start, true);
    rc = atd_json_next(&reader, &token, d->err);
    while (rc == 0) {
        rc = atd_json_next(&reader, &token, d->err);
        if (rc == 0 && token.type == ATD_JSON_ARRAY_END)
            break;
        if (rc == 0 && is_container(&token))
            rc = atd_json_skip_rest(&reader, d->err);
        count++;
    }
    *ret_count = count;
    return rc;
}

/* One length of a shape; false for what is none. */
static bool take_length(const struct atd_json_token *token, int64_t *ret_length)
{
    if (token->type == ATD_JSON_NULL) {
        *ret_length = ATD_DIM_FREE;
        return true;
    }
    return token->type == ATD_JSON_NUMBER && atd_json_is_integer(token->raw) &&
           atd_json_as_i64(token->raw, ret_length) && *ret_length >= ATD_DIM_FREE;
}

/*
 * Shape and names of dimensions only describe: no Python release looks at them, so one that makes
 * no sense is passed over and the record stays readable.
 */
static int take_shape(const struct decoder *d, const struct member *member,
                      struct atd_field_type *type)
{
    struct atd_json_reader reader;
    struct atd_json_token token;
    int64_t *shape;
    size_t count;
    int rc;

    if (!member->is_there || member->token.type != ATD_JSON_ARRAY)
        return 0;
    rc = count_items(d, member->token.offset, &count);
    if (rc < 0 || count > SHAPE_MAX)
        return rc;
    shape = atd_arena_alloc_array(d->arena, count, sizeof(*shape));
    if (!shape)
        return no_memory(d);
    atd_json_reader_init(&reader, d->text, member->token.offset, true);
    rc = atd_json_next(&reader, &token, d->err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = atd_json_next(&reader, &token, d->err);
        if (rc == 0 && !take_length(&token, &shape[i]))
            return 0;
    }
    if (rc < 0)
        return rc;
    type->has_shape = true;
    type->shape = shape;
    type->shape_len = count;
    return 0;
}

static int take_dim_names(const struct decoder *d, const struct member *member,
                          struct atd_field_type *type)
{
    struct atd_json_reader reader;
    struct atd_json_token token;
    struct atd_str *names;
    size_t count;
    int rc;

    if (!member->is_there || member->token.type != ATD_JSON_ARRAY)
        return 0;
    rc = count_items(d, member->token.offset, &count);
    if (rc < 0 || count > SHAPE_MAX)
        return rc;
    names = atd_arena_alloc_array(d->arena, count, sizeof(*names));
    if (!names)
        return no_memory(d);
    atd_json_reader_init(&reader, d->text, member->token.offset, true);
    rc = atd_json_next(&reader, &token, d->err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = atd_json_next(&reader, &token, d->err);
        if (rc == 0 && token.type != ATD_JSON_STRING)
            return 0;
        if (rc == 0) {
            names[i] = atd_json_unescape_in(token.raw, d->arena);
            if (!names[i].ptr)
                return no_memory(d);
        }
    }
    if (rc < 0)
        return rc;
    type->dim_names = names;
    type->dim_name_count = count;
    return 0;
}

/* After the last '#' of $type, whatever stands before it; without '#', the key `kind`. */
static int take_kind(const struct decoder *d, const struct member *dollar_type,
                     const struct member *kind, struct atd_field_type *type)
{
    struct atd_str text;
    ptrdiff_t hash;
    int rc;

    if (dollar_type->is_there && dollar_type->token.type != ATD_JSON_STRING)
        return fail(d, dollar_type->token.offset, "$type is no text");
    rc = take_text(d, dollar_type, &text);
    if (rc < 0)
        return rc;
    hash = atd_str_find_last(text, '#');
    if (hash >= 0) {
        type->kind_text = atd_str_from_byte(text, (size_t)hash + 1);
    } else {
        rc = take_text(d, kind, &type->kind_text);
        if (rc < 0)
            return rc;
        if (!type->kind_text.ptr)
            type->kind_text = ATD_STR("");
    }
    type->kind = atd_field_kind_from_text(type->kind_text);
    return 0;
}

/* An absent `primitive` is read as "str" by the library's decoder. */
static int take_primitive(const struct decoder *d, const struct member *member,
                          struct atd_field_type *type)
{
    int rc = take_text(d, member, &type->primitive_text);

    if (rc < 0)
        return rc;
    if (!type->primitive_text.ptr)
        type->primitive_text = member->is_there ? ATD_STR("") : ATD_STR("str");
    type->primitive = atd_primitive_from_text(type->primitive_text);
    return 0;
}

enum { TYPE, KIND, PRIMITIVE, DTYPE, SHAPE, DIM_NAMES, ITEMS, REF };

/* Recursion is bounded: items nest ATD_SCHEMA_LIST_DEPTH_MAX times at most. Each level reads its
 * text again. */
static int decode_type(const struct decoder *d, size_t start, unsigned depth,
                       struct atd_field_type *type)
{
    struct member m[] = {
        [TYPE] = {.key = "$type"},          [KIND] = {.key = "kind"},
        [PRIMITIVE] = {.key = "primitive"}, [DTYPE] = {.key = "dtype"},
        [SHAPE] = {.key = "shape"},         [DIM_NAMES] = {.key = "dimensionNames"},
        [ITEMS] = {.key = "items"},         [REF] = {.key = "ref"},
    };
    struct atd_field_type *items;
    int rc = find_members(d, start, m, ATD_ARRAY_LEN(m));

    if (rc == 0)
        rc = take_kind(d, &m[TYPE], &m[KIND], type);
    if (rc < 0)
        return rc;
    if (type->kind == ATD_KIND_PRIMITIVE)
        return take_primitive(d, &m[PRIMITIVE], type);
    if (type->kind == ATD_KIND_REF)
        return take_text(d, &m[REF], &type->ref);
    if (type->kind == ATD_KIND_NDARRAY || type->kind == ATD_KIND_STRUCTURED) {
        rc = take_text(d, &m[DTYPE], &type->dtype);
        if (rc == 0)
            rc = take_shape(d, &m[SHAPE], type);
        return rc == 0 ? take_dim_names(d, &m[DIM_NAMES], type) : rc;
    }
    if (type->kind != ATD_KIND_ARRAY || !is_true(d, &m[ITEMS]))
        return 0;
    if (m[ITEMS].token.type != ATD_JSON_OBJECT)
        return fail(d, m[ITEMS].token.offset, "items is no object");
    if (depth == ATD_SCHEMA_LIST_DEPTH_MAX)
        return atd_json_error(d->text, m[ITEMS].token.offset, E2BIG, d->err,
                              "more than 8 lists in each other");
    items = atd_arena_alloc(d->arena, sizeof(*items));
    if (!items)
        return no_memory(d);
    type->items = items;
    return decode_type(d, m[ITEMS].token.offset, depth + 1, items);
}

static int decode_field(const struct decoder *d, const struct atd_json_token *token,
                        struct atd_field *field)
{
    enum { NAME, FIELD_TYPE, OPTIONAL };
    struct member m[] = {
        [NAME] = {.key = "name"},
        [FIELD_TYPE] = {.key = "fieldType"},
        [OPTIONAL] = {.key = "optional"},
    };
    int rc;

    if (token->type != ATD_JSON_OBJECT)
        return fail(d, token->offset, "a field is no object");
    rc = find_members(d, token->offset, m, ATD_ARRAY_LEN(m));
    if (rc == 0)
        rc = take_required_text(d, &m[NAME], token->offset, "a field's name is missing or no text",
                                &field->name);
    if (rc < 0)
        return rc;
    field->optional = is_true(d, &m[OPTIONAL]);
    if (!m[FIELD_TYPE].is_there || m[FIELD_TYPE].token.type != ATD_JSON_OBJECT)
        rc = fail(d, m[FIELD_TYPE].is_there ? m[FIELD_TYPE].token.offset : token->offset,
                  "fieldType is missing or no object");
    else
        rc = decode_type(d, m[FIELD_TYPE].token.offset, 0, &field->type);
    if (rc < 0)
        return atd_error_wrap(d->err, rc, "field '" ATD_STR_FMT "'", ATD_STR_ARG(field->name));
    return 0;
}

static int decode_fields(const struct decoder *d, const struct member *member,
                         struct atd_schema *schema)
{
    struct atd_json_reader reader;
    struct atd_json_token token;
    struct atd_field *fields;
    size_t count;
    int rc;

    if (!member->is_there)
        return 0;
    if (member->token.type != ATD_JSON_ARRAY)
        return fail(d, member->token.offset, "fields is no array");
    rc = count_items(d, member->token.offset, &count);
    if (rc < 0)
        return rc;
    if (count > ATD_SCHEMA_FIELDS_MAX)
        return atd_json_error(d->text, member->token.offset, E2BIG, d->err,
                              "more than 1024 fields");
    fields = atd_arena_alloc_array(d->arena, count, sizeof(*fields));
    if (!fields)
        return no_memory(d);
    atd_json_reader_init(&reader, d->text, member->token.offset, true);
    rc = atd_json_next(&reader, &token, d->err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = atd_json_next(&reader, &token, d->err);
        if (rc == 0)
            rc = decode_field(d, &token, &fields[i]);
        if (rc == 0)
            rc = atd_json_skip_rest(&reader, d->err);
    }
    if (rc < 0)
        return rc;
    schema->fields = fields;
    schema->field_count = count;
    return 0;
}

/* The whole text is one JSON object within the limits; stores where it begins. */
static int check_text(struct atd_str text, size_t *ret_start, struct atd_error *err)
{
    struct atd_json_reader reader;
    struct atd_json_token token;
    int rc;

    if (text.len > ATD_SCHEMA_BYTES_MAX)
        return atd_error_set(err, E2BIG, "record is larger than the limit of %u bytes",
                             ATD_SCHEMA_BYTES_MAX);
    atd_json_reader_init(&reader, text, 0, true);
    rc = atd_json_next(&reader, &token, err);
    if (rc < 0)
        return rc;
    if (token.type != ATD_JSON_OBJECT)
        return atd_json_error(text, token.offset, EINVAL, err, "the top level is no object");
    *ret_start = token.offset;
    do {
        rc = atd_json_next(&reader, &token, err);
    } while (rc == 0 && token.type != ATD_JSON_END);
    return rc;
}

static int decode(struct atd_str text, struct atd_arena *arena, struct atd_schema *schema,
                  struct atd_error *err)
{
    enum { NAME, VERSION, FIELDS, DESCRIPTION, CREATED_AT };
    struct member m[] = {
        [NAME] = {.key = "name"},
        [VERSION] = {.key = "version"},
        [FIELDS] = {.key = "fields"},
        [DESCRIPTION] = {.key = "description"},
        [CREATED_AT] = {.key = "createdAt"},
    };
    struct decoder d = {text, arena, err};
    size_t start = 0;
    int rc = check_text(text, &start, err);

    if (rc == 0)
        rc = find_members(&d, start, m, ATD_ARRAY_LEN(m));
    if (rc == 0)
        rc = take_required_text(&d, &m[NAME], start, "name is missing or no text", &schema->name);
    if (rc == 0)
        rc = take_required_text(&d, &m[VERSION], start, "version is missing or no text",
                                &schema->version);
    if (rc == 0)
        rc = decode_fields(&d, &m[FIELDS], schema);
    if (rc == 0)
        rc = take_text(&d, &m[DESCRIPTION], &schema->description);
    if (rc == 0)
        rc = take_text(&d, &m[CREATED_AT], &schema->created_at);
    return rc;
}

int atd_schema_decode(struct atd_bytes json, struct atd_arena *arena,
                      const struct atd_schema **ret_schema, struct atd_error *err)
{
    struct atd_schema *schema = atd_arena_alloc(arena, sizeof(*schema));
    int rc;

    if (!schema)
        return atd_error_set(err, ENOMEM, "schema: out of memory");
    rc = decode(atd_bytes_str(json), arena, schema, err);
    if (rc < 0)
        return atd_error_wrap(err, rc, "schema");
    *ret_schema = schema;
    return 0;
}
