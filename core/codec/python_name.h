/*
 * Python identifiers, decided without Python.
 */
#ifndef ATD_CODEC_PYTHON_NAME_H
#define ATD_CODEC_PYTHON_NAME_H

#include "atdata/str.h"

/*
 * True for text that Python 3.12 takes as an identifier and reads as itself: no hard keyword, and
 * already in the form (NFKC) to which Python brings identifiers. ASCII is exact. Of the rest only
 * letters of common scripts are known here, so that a rare name is refused and none is wrongly let
 * through.
 */
bool atd_python_is_identifier(struct atd_str text);

/*
 * NULL when a sample class can have a field of that name; else why it cannot, to be put after
 * "field 'x' ". Source: ATDATA-FORMATS 4.7.
 */
const char *atd_python_field_problem(struct atd_str name);

#endif
