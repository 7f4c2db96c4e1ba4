/*
 * Schema records as Python modules.
 *
 * Remote text reaches the module in three ways only: as a name that passed
 * atd_python_is_identifier(), inside a string literal, or behind '#'. The two latter go through
 * write_escaped(), which leaves no character that could end either.
 */
#include <errno.h>

#include "atdata/schema.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "codec/python_name.h"
#include "codec/schema_kind.h"
#include "codec/schema_problem.h"

#define REASON_BYTES_MAX 4096u
#define REPLACEMENT 0xfffdu

/* ---- remote text inside literals ---- */

/* Controls, and format characters that make text look like other text (Trojan Source). */
static bool is_invisible(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code <= 0xa0) || code == 0xad || code == 0x61c ||
           code == 0x180e || (code >= 0x200b && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) ||
           code == 0xfeff || (code >= 0xfff9 && code <= 0xfffb) ||
           (code >= 0xe0000 && code <= 0xe0fff);
}

/* Inside a literal or a comment. `keep_lines`: a literal in triple quotes, where "\n" may stand. */
static void write_escaped(struct atd_buf *out, struct atd_str text, bool keep_lines)
{
    size_t at = 0;

    while (at < text.len) {
        const uint8_t *here = (const uint8_t *)text.ptr + at;
        uint32_t code = REPLACEMENT;
        size_t step = atd_utf8_decode(here, text.len - at, &code);

        if (step == 0)
            atd_buf_append_text(out, "\\ufffd");
        else if (code == '\n')
            atd_buf_append_text(out, keep_lines ? "\n" : "\\n");
        else if (code == '"' || code == '\\')
            atd_buf_printf(out, "\\%c", (int)code);
        else if (!is_invisible(code))
            atd_buf_append(out, here, step);
        else if (code < 0x100)
            atd_buf_printf(out, "\\x%02x", (unsigned)code);
        else
            atd_buf_printf(out, code < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)code);
        at += step ? step : 1;
    }
}

static void write_literal(struct atd_buf *out, struct atd_str text)
{
    atd_buf_append_byte(out, '"');
    write_escaped(out, text, false);
    atd_buf_append_byte(out, '"');
}

/* ---- may there be a class at all? ---- */

/* The class's own name: what follows the last dot of a qualified one. */
static struct atd_str class_name(const struct atd_schema *schema)
{
    return atd_str_from_byte(schema->name, (size_t)(atd_str_find_last(schema->name, '.') + 1));
}

static bool name_parts_are_good(struct atd_str name)
{
    for (;;) {
        ptrdiff_t dot = atd_str_find(name, '.');

        if (!atd_python_is_identifier(dot < 0 ? name : atd_str_head(name, (size_t)dot)))
            return false;
        if (dot < 0)
            return true;
        name = atd_str_from_byte(name, (size_t)dot + 1);
    }
}

/* What follows "field 'x' " when the type has no Python counterpart, else NULL. */
static const char *type_problem(const struct atd_field_type *type)
{
    while (type->kind == ATD_KIND_ARRAY && type->items)
        type = type->items;
    if (type->kind == ATD_KIND_REF)
        return "refers to another schema, which the library does not decode";
    if (type->kind == ATD_KIND_UNKNOWN)
        return "is of an unknown kind";
    if (type->kind == ATD_KIND_PRIMITIVE && type->primitive == ATD_PRIMITIVE_UNKNOWN)
        return "is of an unknown primitive type";
    return NULL;
}

static const char *field_problem(const struct atd_schema *schema, size_t number)
{
    const struct atd_field *field = &schema->fields[number];
    const char *problem = atd_python_field_problem(field->name);

    if (problem)
        return problem;
    for (size_t i = 0; i < number; i++) {
        if (atd_str_equal(schema->fields[i].name, field->name))
            return "is there twice";
    }
    return type_problem(&field->type);
}

void atd_schema_class_problem(const struct atd_schema *schema, struct atd_buf *reason)
{
    if (!name_parts_are_good(schema->name) ||
        atd_str_starts_with(class_name(schema), ATD_STR("__"))) {
        atd_buf_append_text(reason, "the schema's name is no Python class name");
        return;
    }
    if (schema->field_count == 0) {
        atd_buf_append_text(reason, "the schema has no fields");
        return;
    }
    for (size_t i = 0; i < schema->field_count; i++) {
        const char *problem = field_problem(schema, i);

        if (problem) {
            atd_buf_printf(reason, "field '" ATD_STR_FMT "' %s",
                           ATD_STR_ARG(schema->fields[i].name), problem);
            return;
        }
    }
}

/* ---- the class ---- */

/*
 * Names of types that a field takes away: an optional field is an assignment in the class's body,
 * and annotations after it would see None. The module then calls the type by another name.
 */
static bool is_shadowed(const struct atd_schema *schema, const char *type_name)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        if (atd_str_equal(schema->fields[i].name, atd_str_from(type_name)))
            return true;
    }
    return false;
}

static void write_type_name(struct atd_buf *out, const struct atd_schema *schema, const char *name)
{
    if (is_shadowed(schema, name))
        atd_buf_append_byte(out, '_');
    atd_buf_append_text(out, name);
}

static bool is_array_kind(const struct atd_field_type *type)
{
    return type->kind == ATD_KIND_NDARRAY || type->kind == ATD_KIND_STRUCTURED;
}

/* Source: ATDATA-FORMATS 4.2, the column of decoded annotations. */
static void write_annotation(struct atd_buf *out, const struct atd_schema *schema,
                             const struct atd_field_type *type)
{
    unsigned open = 0;

    while (type->kind == ATD_KIND_ARRAY && type->items) {
        write_type_name(out, schema, "list");
        atd_buf_append_byte(out, '[');
        type = type->items;
        open++;
    }
    if (type->kind == ATD_KIND_ARRAY) {
        write_type_name(out, schema, "list");
    } else if (is_array_kind(type)) {
        write_type_name(out, schema, "NDArray");
    } else if (type->kind == ATD_KIND_PRIMITIVE) {
        struct atd_str name = atd_primitive_text(type);

        atd_assert(type->primitive < ATD_PRIMITIVE_UNKNOWN);
        write_type_name(out, schema, name.ptr);
    } else {
        write_type_name(out, schema, "bytes");
    }
    while (open-- > 0)
        atd_buf_append_byte(out, ']');
}

/* dtype and shape as registered: for people, Python ignores them. */
static void write_remark(struct atd_buf *out, const struct atd_field_type *type)
{
    if (!is_array_kind(type) || (!type->dtype.ptr && !type->has_shape))
        return;
    atd_buf_append_text(out, "  #");
    if (type->dtype.ptr) {
        atd_buf_append_byte(out, ' ');
        write_escaped(out, type->dtype, false);
    }
    if (!type->has_shape)
        return;
    atd_buf_append_text(out, " (");
    for (size_t i = 0; i < type->shape_len; i++) {
        if (i > 0)
            atd_buf_append_text(out, ", ");
        if (type->shape[i] == ATD_DIM_FREE)
            atd_buf_append_text(out, "None");
        else
            atd_buf_printf(out, "%lld", (long long)type->shape[i]);
    }
    atd_buf_append_byte(out, ')');
}

static void write_fields(struct atd_buf *out, const struct atd_schema *schema, bool optional)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        const struct atd_field *field = &schema->fields[i];

        if (field->optional != optional)
            continue;
        atd_buf_append_text(out, "    ");
        atd_buf_append_str(out, field->name);
        atd_buf_append_text(out, ": ");
        write_annotation(out, schema, &field->type);
        if (optional)
            atd_buf_append_text(out, " | None = None");
        write_remark(out, &field->type);
        atd_buf_append_byte(out, '\n');
    }
}

static bool has_binary_format(const struct atd_field_type *type)
{
    return type->kind == ATD_KIND_SPARSE || type->kind == ATD_KIND_STRUCTURED ||
           type->kind == ATD_KIND_ARROW_TENSOR || type->kind == ATD_KIND_SAFETENSORS ||
           type->kind == ATD_KIND_DATAFRAME;
}

/* What the library (v0.7 and later) looks at to undo the five binary kinds; older ones ignore it.
 */
static void write_formats(struct atd_buf *out, const struct atd_schema *schema)
{
    bool any = false;

    for (size_t i = 0; i < schema->field_count; i++) {
        if (!has_binary_format(&schema->fields[i].type))
            continue;
        atd_buf_append_text(out, any ? "" : "\n    __field_formats__ = {\n");
        atd_buf_append_text(out, "        ");
        write_literal(out, schema->fields[i].name);
        atd_buf_append_text(out, ": ");
        write_literal(out, atd_field_kind_text(&schema->fields[i].type));
        atd_buf_append_text(out, ",\n");
        any = true;
    }
    atd_buf_append_text(out, any ? "    }\n" : "");
}

/* `NDArray` only where a field uses it: Python warns of nothing, but readers wonder. */
static bool uses_arrays(const struct atd_schema *schema)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        const struct atd_field_type *type = &schema->fields[i].type;

        while (type->kind == ATD_KIND_ARRAY && type->items)
            type = type->items;
        if (is_array_kind(type))
            return true;
    }
    return false;
}

static void write_imports(struct atd_buf *out, const struct atd_schema *schema)
{
    static const char *const builtins[] = {"str", "int", "float", "bool", "bytes", "list"};
    bool any = false;

    atd_buf_append_text(out, "from dataclasses import dataclass\n\n"
                             "from atdata import PackableSample\n");
    if (uses_arrays(schema))
        atd_buf_append_text(out, is_shadowed(schema, "NDArray")
                                     ? "from numpy.typing import NDArray as _NDArray\n"
                                     : "from numpy.typing import NDArray\n");
    for (size_t i = 0; i < ATD_ARRAY_LEN(builtins); i++) {
        if (!is_shadowed(schema, builtins[i]))
            continue;
        atd_buf_printf(out, "%s_%s = %s\n", any ? "" : "\n", builtins[i], builtins[i]);
        any = true;
    }
}

static void write_class(struct atd_buf *out, const struct atd_schema *schema, struct atd_str ref)
{
    struct atd_str name = class_name(schema);

    write_imports(out, schema);
    atd_buf_append_text(out, "\n\n@dataclass\nclass ");
    atd_buf_append_str(out, name);
    atd_buf_append_text(out, "(PackableSample):\n    \"\"\"");
    if (schema->description.len) {
        write_escaped(out, schema->description, true);
    } else {
        atd_buf_append_text(out, "Sample type ");
        write_escaped(out, schema->name, false);
        atd_buf_append_byte(out, '.');
    }
    atd_buf_append_text(out, "\"\"\"\n\n");
    write_fields(out, schema, false);
    write_fields(out, schema, true);
    atd_buf_append_text(out, "\n    __schema_version__ = ");
    write_literal(out, schema->version);
    atd_buf_append_byte(out, '\n');
    if (ref.len) {
        atd_buf_append_text(out, "    __schema_ref__ = ");
        write_literal(out, ref);
        atd_buf_append_byte(out, '\n');
    }
    write_formats(out, schema);
    atd_buf_append_text(out, "\n\n__all__ = [");
    write_literal(out, name);
    atd_buf_append_text(out, "]\n");
}

/* The first line is ours, so that no remote text can pose as an encoding declaration (PEP 263). */
static void write_docstring(struct atd_buf *out, const struct atd_schema *schema,
                            struct atd_str ref, struct atd_str reason)
{
    atd_buf_append_text(out, "\"\"\"Sample type generated from its schema record.\n\nSchema: ");
    if (ref.len) {
        write_escaped(out, ref, false);
    } else {
        write_escaped(out, schema->name, false);
        atd_buf_append_byte(out, '@');
        write_escaped(out, schema->version, false);
    }
    atd_buf_append_byte(out, '\n');
    if (reason.len) {
        atd_buf_append_text(out, "\nNo class can be made: ");
        write_escaped(out, reason, false);
        atd_buf_append_text(out, ".\n");
    }
    atd_buf_append_text(out, "\"\"\"\n\n");
}

void atd_schema_python(const struct atd_schema *schema, struct atd_str ref, struct atd_buf *out)
{
    atd_auto_buf struct atd_buf reason = ATD_BUF_INIT(REASON_BYTES_MAX);

    atd_schema_class_problem(schema, &reason);
    write_docstring(out, schema, ref, atd_buf_str(&reason));
    if (reason.failed) {
        out->failed = reason.failed;
    } else if (reason.len) {
        atd_buf_append_text(out, "raise ImportError(");
        write_literal(out, atd_buf_str(&reason));
        atd_buf_append_text(out, ")\n");
    } else {
        write_class(out, schema, ref);
    }
}
