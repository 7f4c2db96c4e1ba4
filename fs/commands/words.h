/*
 * A JSON document (entry.json, status.json) in words: a line a member, a block or a table for a
 * list of objects. Nothing is left out, whatever a later version adds to the document.
 */
#ifndef ATD_FS_WORDS_H
#define ATD_FS_WORDS_H

#include "atdata/buf.h"
#include "atdata/error.h"

/* Deeper is shown as it stands. */
#define WORDS_DEPTH_MAX 8u

/* Errors: EINVAL the text is no JSON object, with line and column; E2BIG; ENOMEM. */
int words_write(struct atd_str json, struct atd_buf *out, struct atd_error *err) ATD_MUST_USE;

#endif
