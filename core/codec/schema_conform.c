/*
 * Whether a sample fits a schema, and whether two schemas read the same.
 */
#include <errno.h>

#include "atdata/array.h"
#include "base/check.h"
#include "base/limits.h"
#include "codec/schema_infer.h"
#include "codec/schema_kind.h"

/* ------------------------------------------------------------------ a value */

static const char *value_text(const struct atd_value *value)
{
    static const char *const texts[] = {
        [ATD_VALUE_NIL] = "nil",     [ATD_VALUE_BOOL] = "a bool",   [ATD_VALUE_INT] = "an int",
        [ATD_VALUE_UINT] = "an int", [ATD_VALUE_FLOAT] = "a float", [ATD_VALUE_STR] = "text",
        [ATD_VALUE_BIN] = "bytes",   [ATD_VALUE_ARRAY] = "a list",  [ATD_VALUE_MAP] = "a map",
    };

    return texts[value->type];
}

static bool primitive_takes(enum atd_primitive primitive, enum atd_value_type type)
{
    bool is_int = type == ATD_VALUE_INT || type == ATD_VALUE_UINT ||
                  type == ATD_VALUE_BOOL; /* as in Python */

    switch (primitive) {
    case ATD_PRIMITIVE_STR:
        return type == ATD_VALUE_STR;
    case ATD_PRIMITIVE_INT:
        return is_int;
    case ATD_PRIMITIVE_FLOAT:
        return is_int || type == ATD_VALUE_FLOAT;
    case ATD_PRIMITIVE_BOOL:
        return type == ATD_VALUE_BOOL;
    case ATD_PRIMITIVE_BYTES:
        return type == ATD_VALUE_BIN;
    case ATD_PRIMITIVE_UNKNOWN:
        return true;
    }
    return true;
}

static int refuse(struct atd_str name, const struct atd_value *value, bool in_list,
                  struct atd_str wanted, struct atd_error *err)
{
    return atd_error_set(
        err, EINVAL, "field '" ATD_STR_FMT "' %s %s, but the schema says " ATD_STR_FMT,
        ATD_STR_ARG(name), in_list ? "holds" : "is", value_text(value), ATD_STR_ARG(wanted));
}

/* What `type` says of the value alone, not of what a list holds. */
static int check_shallow(struct atd_str name, const struct atd_field_type *type,
                         const struct atd_value *value, bool in_list, struct atd_error *err)
{
    struct atd_array array;
    struct atd_error why = ATD_ERROR_INIT;

    switch (type->kind) {
    case ATD_KIND_PRIMITIVE:
        return primitive_takes(type->primitive, value->type)
                   ? 0
                   : refuse(name, value, in_list, atd_primitive_text(type), err);
    case ATD_KIND_ARRAY:
        return value->type == ATD_VALUE_ARRAY
                   ? 0
                   : refuse(name, value, in_list, ATD_STR("a list"), err);
    case ATD_KIND_NDARRAY:
        if (value->type != ATD_VALUE_BIN)
            return refuse(name, value, in_list, ATD_STR("ndarray"), err);
        if (atd_array_decode(value->bin, &array, &why) < 0)
            return atd_error_set(err, EINVAL,
                                 "field '" ATD_STR_FMT "' %s bytes that are no array, but the "
                                 "schema says ndarray: %s",
                                 ATD_STR_ARG(name), in_list ? "holds" : "is", why.text);
        return 0;
    case ATD_KIND_SPARSE:
    case ATD_KIND_STRUCTURED:
    case ATD_KIND_ARROW_TENSOR:
    case ATD_KIND_SAFETENSORS:
    case ATD_KIND_DATAFRAME:
        return value->type == ATD_VALUE_BIN
                   ? 0
                   : refuse(name, value, in_list, atd_field_kind_text(type), err);
    case ATD_KIND_REF:
    case ATD_KIND_UNKNOWN:
        break;
    }
    return 0;
}

static bool takes_anything(const struct atd_field_type *type)
{
    return type->kind == ATD_KIND_REF || type->kind == ATD_KIND_UNKNOWN ||
           (type->kind == ATD_KIND_PRIMITIVE && type->primitive == ATD_PRIMITIVE_UNKNOWN);
}

/* Recursion is as deep as the schema, ATD_SCHEMA_LIST_DEPTH_MAX lists. */
static int check_value(struct atd_str name, const struct atd_field_type *type,
                       const struct atd_value *value, bool in_list, struct atd_error *err)
{
    struct atd_value_iter iter;
    struct atd_value item;
    int rc = check_shallow(name, type, value, in_list, err);

    if (rc < 0 || type->kind != ATD_KIND_ARRAY || !type->items || takes_anything(type->items))
        return rc;
    atd_value_iter_init(&iter, value);
    while (rc == 0 && atd_value_iter_next(&iter, NULL, &item)) {
        if (item.type != ATD_VALUE_NIL)
            rc = check_value(name, type->items, &item, true, err);
    }
    return rc;
}

/* ------------------------------------------------------------------ a sample */

/*
 * Where a field is looked for first. Samples have their fields in the order of the class that wrote
 * them, a schema may have the optional ones moved to its end: each of the two groups is in order.
 */
struct guesses {
    size_t next[2]; /* after the last required field that was met, and the last optional one */
};

static const struct atd_field *find_field(const struct atd_schema *schema, struct atd_str name,
                                          struct guesses *guesses)
{
    size_t place = schema->field_count;

    for (size_t i = 0; i < ATD_ARRAY_LEN(guesses->next) && place == schema->field_count; i++) {
        size_t guess = guesses->next[i];

        if (guess < schema->field_count && atd_str_equal(schema->fields[guess].name, name))
            place = guess;
    }
    if (place == schema->field_count) {
        place = 0;
        while (place < schema->field_count && !atd_str_equal(schema->fields[place].name, name))
            place++;
        if (place == schema->field_count)
            return NULL;
    }
    guesses->next[schema->fields[place].optional] = place + 1;
    return &schema->fields[place];
}

static int find_missing(const struct atd_schema *schema, const struct atd_sample *sample,
                        struct atd_error *err)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        const struct atd_field *field = &schema->fields[i];

        if (!field->optional && !atd_sample_find(sample, field->name))
            return atd_error_set(err, EINVAL,
                                 "field '" ATD_STR_FMT "' is missing, which the schema requires",
                                 ATD_STR_ARG(field->name));
    }
    return 0;
}

int atd_schema_conforms(const struct atd_schema *schema, const struct atd_sample *sample,
                        struct atd_error *err)
{
    struct guesses guesses = {{0, 0}};
    size_t required = 0;

    for (size_t i = 0; i < schema->field_count; i++)
        required += !schema->fields[i].optional;
    for (size_t i = 0; i < sample->field_count; i++) {
        struct atd_str name = sample->fields[i].name;
        const struct atd_value *value = &sample->fields[i].value;
        const struct atd_field *field = find_field(schema, name, &guesses);
        int rc = 0;

        if (!field)
            return atd_error_set(err, EINVAL,
                                 "field '" ATD_STR_FMT "' is not one that the schema has",
                                 ATD_STR_ARG(name));
        if (value->type != ATD_VALUE_NIL)
            rc = check_value(name, &field->type, value, false, err);
        else if (!field->optional)
            rc = atd_error_set(err, EINVAL,
                               "field '" ATD_STR_FMT "' is nil, but the schema requires it",
                               ATD_STR_ARG(name));
        if (rc < 0)
            return rc;
        required -= !field->optional;
    }
    /* Names are unique in a sample: with all met there is nothing to look for. */
    return required == 0 ? 0 : find_missing(schema, sample, err);
}

/* ------------------------------------------------------------------ two schemas */

static bool same_type(const struct atd_field_type *a, const struct atd_field_type *b)
{
    while (a && b) {
        if (a->kind != b->kind || !atd_str_equal(atd_field_kind_text(a), atd_field_kind_text(b)))
            return false;
        if (a->kind == ATD_KIND_PRIMITIVE &&
            !atd_str_equal(atd_primitive_text(a), atd_primitive_text(b)))
            return false;
        if ((a->kind == ATD_KIND_NDARRAY || a->kind == ATD_KIND_STRUCTURED) &&
            !atd_str_equal(a->dtype, b->dtype))
            return false;
        if (a->kind == ATD_KIND_REF && !atd_str_equal(a->ref, b->ref))
            return false;
        if (a->kind != ATD_KIND_ARRAY)
            return true;
        a = a->items;
        b = b->items;
    }
    return !a && !b;
}

bool atd_schema_same_fields(const struct atd_schema *a, const struct atd_schema *b)
{
    if (a->field_count != b->field_count)
        return false;
    for (size_t i = 0; i < a->field_count; i++) {
        if (!atd_str_equal(a->fields[i].name, b->fields[i].name) ||
            a->fields[i].optional != b->fields[i].optional ||
            !same_type(&a->fields[i].type, &b->fields[i].type))
            return false;
    }
    return true;
}
