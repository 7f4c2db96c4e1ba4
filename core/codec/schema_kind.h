/*
 * The names of field kinds and primitives in schema records. Source: ATDATA-FORMATS 4.2.
 */
#ifndef ATD_CODEC_SCHEMA_KIND_H
#define ATD_CODEC_SCHEMA_KIND_H

#include "atdata/schema.h"

/* ..._UNKNOWN for any other text. */
enum atd_field_kind atd_field_kind_from_text(struct atd_str text);
enum atd_primitive atd_primitive_from_text(struct atd_str text);

/* The name; for what is unknown, the text as it was written. */
struct atd_str atd_field_kind_text(const struct atd_field_type *type);
struct atd_str atd_primitive_text(const struct atd_field_type *type);

#endif
