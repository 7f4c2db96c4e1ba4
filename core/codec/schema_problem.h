/*
 * Why Python can make no class of a schema record, apart from the order of its fields (which a
 * generated module mends). Source: ATDATA-FORMATS 4.7.
 */
#ifndef ATD_CODEC_SCHEMA_PROBLEM_H
#define ATD_CODEC_SCHEMA_PROBLEM_H

#include "atdata/schema.h"

/* Appends the reason; nothing when a class can be made. */
void atd_schema_class_problem(const struct atd_schema *schema, struct atd_buf *reason);

#endif
