#include "codec/schema_kind.h"

#include "base/check.h"

static const char *const kinds[] = {
    [ATD_KIND_PRIMITIVE] = "primitive",
    [ATD_KIND_NDARRAY] = "ndarray",
    [ATD_KIND_ARRAY] = "array",
    [ATD_KIND_REF] = "ref",
    [ATD_KIND_SPARSE] = "sparse",
    [ATD_KIND_STRUCTURED] = "structured",
    [ATD_KIND_ARROW_TENSOR] = "arrow_tensor",
    [ATD_KIND_SAFETENSORS] = "safetensors",
    [ATD_KIND_DATAFRAME] = "dataframe",
};

static const char *const primitives[] = {
    [ATD_PRIMITIVE_STR] = "str",   [ATD_PRIMITIVE_INT] = "int",     [ATD_PRIMITIVE_FLOAT] = "float",
    [ATD_PRIMITIVE_BOOL] = "bool", [ATD_PRIMITIVE_BYTES] = "bytes",
};

_Static_assert(ATD_ARRAY_LEN(kinds) == ATD_KIND_UNKNOWN, "a kind lacks its name");
_Static_assert(ATD_ARRAY_LEN(primitives) == ATD_PRIMITIVE_UNKNOWN, "a primitive lacks its name");

enum atd_field_kind atd_field_kind_from_text(struct atd_str text)
{
    unsigned kind = 0;

    while (kind < ATD_KIND_UNKNOWN && !atd_str_equal(text, atd_str_from(kinds[kind])))
        kind++;
    return (enum atd_field_kind)kind;
}

enum atd_primitive atd_primitive_from_text(struct atd_str text)
{
    unsigned primitive = 0;

    while (primitive < ATD_PRIMITIVE_UNKNOWN &&
           !atd_str_equal(text, atd_str_from(primitives[primitive])))
        primitive++;
    return (enum atd_primitive)primitive;
}

struct atd_str atd_field_kind_text(const struct atd_field_type *type)
{
    return type->kind < ATD_KIND_UNKNOWN ? atd_str_from(kinds[type->kind]) : type->kind_text;
}

struct atd_str atd_primitive_text(const struct atd_field_type *type)
{
    return type->primitive < ATD_PRIMITIVE_UNKNOWN ? atd_str_from(primitives[type->primitive])
                                                   : type->primitive_text;
}
