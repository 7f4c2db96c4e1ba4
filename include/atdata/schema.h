/*
 * Schema records: the JSON text that describes a sample type.
 *
 * Source: ATDATA-FORMATS 4.1 to 4.3 (record, kinds, which JSON readers accept), 4.7 (what makes a
 * record decodable), 4.8 (generated modules).
 */
#ifndef ATDATA_SCHEMA_H
#define ATDATA_SCHEMA_H

#include "atdata/arena.h"
#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

enum atd_field_kind {
    ATD_KIND_PRIMITIVE,
    ATD_KIND_NDARRAY,
    ATD_KIND_ARRAY, /* a list; `items` may be NULL: a bare list */
    ATD_KIND_REF,
    ATD_KIND_SPARSE,
    ATD_KIND_STRUCTURED,
    ATD_KIND_ARROW_TENSOR,
    ATD_KIND_SAFETENSORS,
    ATD_KIND_DATAFRAME,
    ATD_KIND_UNKNOWN, /* listed and shown, never decoded; `kind_text` says what it was */
};

enum atd_primitive {
    ATD_PRIMITIVE_STR,
    ATD_PRIMITIVE_INT,
    ATD_PRIMITIVE_FLOAT,
    ATD_PRIMITIVE_BOOL,
    ATD_PRIMITIVE_BYTES,
    ATD_PRIMITIVE_UNKNOWN,
};

#define ATD_DIM_FREE (-1)

struct atd_field_type {
    enum atd_field_kind kind;
    struct atd_str kind_text;      /* what followed the last '#' of $type, or `kind` */
    enum atd_primitive primitive;  /* ATD_KIND_PRIMITIVE */
    struct atd_str primitive_text; /* as written */
    struct atd_str dtype;          /* ndarray, structured; ptr NULL when absent or null */
    bool has_shape;                /* ndarray, structured */
    const int64_t *shape;          /* `shape_len` lengths, ATD_DIM_FREE for null */
    size_t shape_len;
    const struct atd_str *dim_names; /* `dim_name_count`; NULL when absent */
    size_t dim_name_count;
    const struct atd_field_type *items; /* ATD_KIND_ARRAY */
    struct atd_str ref;                 /* ATD_KIND_REF */
};

struct atd_field {
    struct atd_str name;
    struct atd_field_type type;
    bool optional;
};

struct atd_schema {
    struct atd_str name;
    struct atd_str version;
    const struct atd_field *fields;
    size_t field_count;
    struct atd_str description; /* ptr NULL when absent or null */
    struct atd_str created_at;  /* as written; ptr NULL when absent */
};

/*
 * Reads a record that any release wrote, with what Python's json lets pass besides (NaN,
 * infinities, lone surrogates, duplicate keys: the last one). Everything is in `arena`. A shape or
 * dimensionNames that makes no sense is passed over, since no release looks at them. Errors: EINVAL
 * with line and column (JSON) or the field's name (structure): not UTF-8, a BOM, trailing text, a
 * top level that is no object, `name`, `version` or a field's `name` or `fieldType` missing or of a
 * wrong type; E2BIG over 4 MiB, 1024 fields, or a nesting of 8 lists; ENOMEM.
 */
int atd_schema_decode(struct atd_bytes json, struct atd_arena *arena,
                      const struct atd_schema **ret_schema, struct atd_error *err) ATD_MUST_USE;

/*
 * Appends the record as Python's json.dumps writes it (4.1): one line, ", " and ": ", non-ASCII
 * as \uxxxx, keys in the library's order, no final newline. Failures are `out`'s.
 */
void atd_schema_encode(const struct atd_schema *schema, struct atd_buf *out);

/*
 * Rewrites stored JSON for people: two blanks of indentation, keys in stored order, every key
 * kept, numbers as they were spelled, non-ASCII as itself, a final newline; when `ref` is not
 * empty, "$ref" is its last key (replacing a stored one), as get_schema() answers. Errors: EINVAL,
 * E2BIG, EFBIG when `out` is too small, ENOMEM.
 */
int atd_schema_pretty(struct atd_bytes json, struct atd_str ref, struct atd_buf *out,
                      struct atd_error *err) ATD_MUST_USE;

/*
 * Appends a Python module with one @dataclass class derived from atdata.PackableSample, fields in
 * record order except that optional ones come last (4.7), types as the library's own decoder and
 * generated modules have them, so that importing it with the real library gives a class which
 * decodes the dataset's samples: array fields are annotated plain `NDArray` (only that spelling
 * makes the library convert them; optional ones `NDArray | None`). One difference: this class
 * converts optional arrays too, where the one that the library itself decodes leaves them bytes.
 * The text is always valid Python that cannot run anything the schema's author smuggled in: names
 * that are no identifiers, are keywords, or are reserved (4.7), duplicate fields, unknown kinds
 * and empty records give a module whose import raises ImportError with the reason, and which
 * says it in its docstring. `ref` stands in the docstring. Fields named `mro` or `register` are
 * refused as reserved, though the library itself decodes such a record: its class then has a method
 * of the metaclass for the field's default.
 * Failures are `out`'s.
 */
void atd_schema_python(const struct atd_schema *schema, struct atd_str ref, struct atd_buf *out);

/*
 * Appends a JSON Schema (draft 2020-12) of the record's samples as JSON objects: for readers that
 * are not Python. "$comment" says how arrays and bytes are rendered; kind, dtype, shape, version
 * and `ref` stand under "x-atdata-...". Always valid JSON, for any names; what has an unknown kind
 * is anything. Failures are `out`'s.
 */
void atd_schema_jsonschema(const struct atd_schema *schema, struct atd_str ref,
                           struct atd_buf *out);

ATD_END_DECLS

#endif
