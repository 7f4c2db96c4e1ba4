/*
 * Brace patterns, by the rules of the Python library braceexpand 0.1.7 (ATDATA-FORMATS 6.2), each
 * checked by running it.
 */
#ifndef ATD_CODEC_BRACE_PATTERN_H
#define ATD_CODEC_BRACE_PATTERN_H

#include "atdata/arena.h"
#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"

#define ATD_BRACE_DEPTH_MAX 64u

struct atd_brace_pattern;

/* True when the braces pair up; *ret_depth (may be NULL) is the deepest level. */
bool atd_brace_is_balanced(struct atd_str text, size_t *ret_depth);

/*
 * Reads a pattern whose braces are balanced. One pass, no recursion; the result is in `arena` and
 * points into `text`. Errors: E2BIG more than ATD_BRACE_DEPTH_MAX levels or `max_count` results,
 * or more nodes than the arena may hold; ENOMEM.
 */
int atd_brace_pattern_read(struct atd_str text, size_t max_count, struct atd_arena *arena,
                           struct atd_brace_pattern **ret_pattern,
                           struct atd_error *err) ATD_MUST_USE;

/* How many texts it stands for, at least 1. */
size_t atd_brace_pattern_count(const struct atd_brace_pattern *pattern);

/* False when the pattern has neither a list nor a range: it stands for one text. */
bool atd_brace_pattern_varies(const struct atd_brace_pattern *pattern);

/*
 * Appends the text number `index`, escapes undone. Cheapest in ascending order. Takes from
 * *work_left what that costs, as a text that shrinks by its escapes costs more than its length.
 * False when it did not suffice; `out` then holds a part of the text.
 */
bool atd_brace_pattern_text(struct atd_brace_pattern *pattern, size_t index, uint64_t *work_left,
                            struct atd_buf *out) ATD_MUST_USE;

#endif
