/*
 * What a command prints on standard output: text safe for a terminal, tables, JSON documents.
 *
 * Names come from an index that anybody may write to. In text a control character, one that turns
 * the direction of writing, and a byte that is no UTF-8 are shown as \xNN, on a terminal and
 * elsewhere: a row stays a row. In JSON every name is exact, but for invalid UTF-8.
 */
#ifndef ATD_FS_OUTPUT_H
#define ATD_FS_OUTPUT_H

#include "atdata/buf.h"
#include "atdata/error.h"
#include "codec/json_write.h"
#include "progress.h" /* progress_size_text */

/* Of one document or table. */
#define OUTPUT_BYTES_MAX ((size_t)2 << 30)

enum output_style {
    OUTPUT_PLAIN,
    OUTPUT_STRONG, /* a heading, a name */
    OUTPUT_FAINT,  /* what is not known */
    OUTPUT_GOOD,
    OUTPUT_WARNING,
    OUTPUT_BAD,
};

/* Standard output is a terminal that has colours, and NO_COLOR (no-color.org) is not set. Threads:
 * the main one only, as all of this. */
bool output_has_colours(void);

/* ------------------------------------------------------------------ text */

/* Appends `text`, its unsafe characters escaped. */
void output_escape(struct atd_buf *out, struct atd_str text);
/* The same, in a style where colours are shown. */
void output_styled(struct atd_buf *out, enum output_style style, struct atd_str text);
/* Columns that `text` takes on a terminal, escaped. */
size_t output_width(struct atd_str text);
/* "1 shard", "3 shards". */
void output_count(struct atd_buf *out, uint64_t count, const char *one, const char *many);

/* ------------------------------------------------------------------ tables */

#define OUTPUT_COLUMNS_MAX 12u

/* Cells are added row by row; the columns' widths are known at the end. Columns are separated by
 * two blanks, the last one is not filled up. */
struct output_table {
    unsigned columns;
    bool right[OUTPUT_COLUMNS_MAX]; /* aligned so: numbers */
    size_t widths[OUTPUT_COLUMNS_MAX];
    struct atd_buf cells; /* style, length, bytes of each */
    size_t count;
};

/* `titles`: "NAME", or ">SIZE" to align it right; NULL: no heading, all left. */
void output_table_init(struct output_table *table, unsigned columns, const char *const *titles);
void output_table_release(struct output_table *table);
void output_cell(struct output_table *table, enum output_style style, struct atd_str text);
void output_cell_text(struct output_table *table, enum output_style style, const char *text);
/* "1.5 GiB", "12": "-" when it is not `known`. */
void output_cell_size(struct output_table *table, bool known, uint64_t bytes);
void output_cell_number(struct output_table *table, bool known, uint64_t number);
/* Appends all rows, a line each. */
void output_table_end(struct output_table *table, struct atd_buf *out);

/* ------------------------------------------------------------------ JSON members */

void output_json_text(struct atd_json_writer *json, const char *key, const char *text);
void output_json_str(struct atd_json_writer *json, const char *key, struct atd_str text);
void output_json_uint(struct atd_json_writer *json, const char *key, uint64_t value);
void output_json_bool(struct atd_json_writer *json, const char *key, bool value);
/* "errno" and "reason". */
void output_json_error(struct atd_json_writer *json, const struct atd_error *why);

/* ------------------------------------------------------------------ standard output */

/* Writes `text` and empties it. Errors: ENOMEM, EFBIG of the buffer; what writing failed with is
 * left to output_flush(). */
int output_print(struct atd_buf *text, struct atd_error *err) ATD_MUST_USE;

/* A full disk, a reader that left: what was not told must not look as if it were. Returns
 * `exit_code`, or a failure, which it tells on standard error. */
int output_flush(int exit_code) ATD_MUST_USE;

/* The same for who was only asked to print: when the reader left (`| head`) and SIGPIPE is ignored,
 * the process ends by that signal after all, without a word, as other tools do. */
int output_end(int exit_code) ATD_MUST_USE;

#endif
