#include "output.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/utf8.h"
#include "options.h"

static bool find_colours(void)
{
    const char *never = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    return isatty(STDOUT_FILENO) == 1 && !(never && *never) && term && *term &&
           strcmp(term, "dumb") != 0;
}

bool output_has_colours(void)
{
    static bool is_known;
    static bool has_colours;

    /* Asked for each text of a document. */
    if (!is_known)
        has_colours = find_colours();
    is_known = true;
    return has_colours;
}

/* ------------------------------------------------------------------ characters */

struct code_range {
    uint32_t first;
    uint32_t last;
};

static bool is_in(const struct code_range *ranges, size_t count, uint32_t code)
{
    for (size_t i = 0; i < count; i++) {
        if (code >= ranges[i].first && code <= ranges[i].last)
            return true;
    }
    return false;
}

/* What moves a terminal's cursor, breaks a line, or makes text read as other text than it is: C0,
 * DEL, C1, line separators, and the marks of Unicode's bidirectional algorithm (UAX 9, 2). */
static bool is_unsafe(uint32_t code)
{
    static const struct code_range ranges[] = {
        {0x00, 0x1f},     {0x7f, 0x9f},     {0x61c, 0x61c},   {0x200e, 0x200f},
        {0x2028, 0x202e}, {0x2066, 0x2069}, {0xfeff, 0xfeff},
    };

    return is_in(ranges, sizeof(ranges) / sizeof(ranges[0]), code);
}

/* Columns of a character, near enough for tables: East Asian wide ones and pictures take two (UAX
 * 11), marks none. Not wcwidth(), which knows only the locale's characters. */
static size_t width_of(uint32_t code)
{
    static const struct code_range none[] = {
        {0x300, 0x36f}, {0x200b, 0x200d}, {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}};
    static const struct code_range two[] = {
        {0x1100, 0x115f},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},   {0xac00, 0xd7a3},
        {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},   {0xffe0, 0xffe6},
        {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd},
    };

    if (is_in(none, sizeof(none) / sizeof(none[0]), code))
        return 0;
    return is_in(two, sizeof(two) / sizeof(two[0]), code) ? 2 : 1;
}

/* Escapes into `out` (may be NULL), and returns the columns that it takes. */
static size_t escape(struct atd_buf *out, struct atd_str text)
{
    size_t width = 0;
    size_t at = 0;

    while (at < text.len) {
        const uint8_t *ptr = (const uint8_t *)text.ptr + at;
        uint32_t code = 0;
        size_t step = atd_utf8_decode(ptr, text.len - at, &code);
        size_t bytes = step ? step : 1;

        if (step && !is_unsafe(code)) {
            if (out)
                atd_buf_append(out, ptr, step);
            width += width_of(code);
        } else {
            for (size_t i = 0; i < bytes && out; i++)
                atd_buf_printf(out, "\\x%02x", ptr[i]);
            width += 4 * bytes;
        }
        at += bytes;
    }
    return width;
}

void output_escape(struct atd_buf *out, struct atd_str text)
{
    (void)escape(out, text);
}

size_t output_width(struct atd_str text)
{
    return escape(NULL, text);
}

static void append_in_style(struct atd_buf *out, enum output_style style, bool colours,
                            struct atd_str text)
{
    static const char *const codes[] = {
        [OUTPUT_PLAIN] = "",  [OUTPUT_STRONG] = "1",   [OUTPUT_FAINT] = "2",
        [OUTPUT_GOOD] = "32", [OUTPUT_WARNING] = "33", [OUTPUT_BAD] = "31",
    };
    bool is_styled = colours && style != OUTPUT_PLAIN && text.len;

    if (is_styled)
        atd_buf_printf(out, "\033[%sm", codes[style]);
    (void)escape(out, text);
    if (is_styled)
        atd_buf_append_text(out, "\033[0m");
}

void output_styled(struct atd_buf *out, enum output_style style, struct atd_str text)
{
    append_in_style(out, style, output_has_colours(), text);
}

void output_count(struct atd_buf *out, uint64_t count, const char *one, const char *many)
{
    atd_buf_printf(out, "%llu %s", (unsigned long long)count, count == 1 ? one : many);
}

/* ------------------------------------------------------------------ tables */

struct cell {
    enum output_style style;
    size_t len;
    size_t width;
};

void output_table_init(struct output_table *table, unsigned columns, const char *const *titles)
{
    atd_assert(columns > 0 && columns <= OUTPUT_COLUMNS_MAX);
    *table = (struct output_table){.columns = columns};
    atd_buf_init(&table->cells, OUTPUT_BYTES_MAX);
    for (unsigned i = 0; titles && i < columns; i++) {
        table->right[i] = titles[i][0] == '>';
        output_cell_text(table, OUTPUT_FAINT, titles[i] + table->right[i]);
    }
}

void output_table_release(struct output_table *table)
{
    atd_buf_release(&table->cells);
}

void output_cell(struct output_table *table, enum output_style style, struct atd_str text)
{
    struct cell cell = {style, text.len, output_width(text)};
    size_t column = table->count++ % table->columns;

    if (table->widths[column] < cell.width)
        table->widths[column] = cell.width;
    atd_buf_append(&table->cells, &cell, sizeof(cell));
    atd_buf_append_str(&table->cells, text);
}

void output_cell_text(struct output_table *table, enum output_style style, const char *text)
{
    output_cell(table, style, atd_str_from(text));
}

void output_cell_size(struct output_table *table, bool known, uint64_t bytes)
{
    char text[PROGRESS_SIZE_TEXT_MAX];

    output_cell_text(table, known ? OUTPUT_PLAIN : OUTPUT_FAINT,
                     known ? progress_size_text(bytes, text) : "-");
}

void output_cell_number(struct output_table *table, bool known, uint64_t number)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    output_cell_text(table, known ? OUTPUT_PLAIN : OUTPUT_FAINT, known ? text : "-");
}

static void append_blanks(struct atd_buf *out, size_t count)
{
    while (count-- > 0)
        atd_buf_append_byte(out, ' ');
}

void output_table_end(struct output_table *table, struct atd_buf *out)
{
    bool colours = output_has_colours();
    size_t at = 0;

    atd_assert(table->cells.failed || table->count % table->columns == 0);
    if (table->cells.failed && !out->failed)
        out->failed = table->cells.failed;
    for (size_t i = 0; i < table->count && !out->failed; i++) {
        size_t column = i % table->columns;
        bool is_last = column + 1 == table->columns;
        struct cell cell;
        size_t filler;

        memcpy(&cell, table->cells.ptr + at, sizeof(cell));
        at += sizeof(cell);
        filler = table->widths[column] - cell.width;
        if (table->right[column])
            append_blanks(out, filler);
        append_in_style(out, cell.style, colours,
                        (struct atd_str){(const char *)table->cells.ptr + at, cell.len});
        at += cell.len;
        if (is_last) {
            while (out->len && out->ptr[out->len - 1] == ' ')
                out->len--; /* the last cells are empty */
            atd_buf_append_byte(out, '\n');
        }
        if (!is_last)
            append_blanks(out, (table->right[column] ? 0 : filler) + 2);
    }
}

/* ------------------------------------------------------------------ JSON members */

void output_json_text(struct atd_json_writer *json, const char *key, const char *text)
{
    atd_json_key(json, key);
    atd_json_text(json, text);
}

void output_json_str(struct atd_json_writer *json, const char *key, struct atd_str text)
{
    atd_json_key(json, key);
    atd_json_str(json, text);
}

void output_json_uint(struct atd_json_writer *json, const char *key, uint64_t value)
{
    atd_json_key(json, key);
    atd_json_uint(json, value);
}

void output_json_bool(struct atd_json_writer *json, const char *key, bool value)
{
    atd_json_key(json, key);
    atd_json_bool(json, value);
}

void output_json_error(struct atd_json_writer *json, const struct atd_error *why)
{
    const char *name = strerrorname_np(why->code);

    output_json_text(json, "errno", name ? name : "?");
    output_json_text(json, "reason", why->text);
}

/* ------------------------------------------------------------------ standard output */

/* Why an earlier write failed: by the end errno is another's. */
static int failed_errno;

int output_print(struct atd_buf *text, struct atd_error *err)
{
    int rc = atd_buf_finish(text, "the output", err);

    if (rc == 0 && text->len && fwrite(text->ptr, 1, text->len, stdout) != text->len &&
        !failed_errno)
        failed_errno = errno;
    atd_buf_clear(text);
    return rc;
}

/* 0, or why standard output could not be written. */
static int flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    return failed_errno ? failed_errno : errno;
}

int output_flush(int exit_code)
{
    int failure = flush();

    if (!failure)
        return exit_code;
    (void)fprintf(stderr, "atdatafs: cannot write to standard output: %s\n", strerror(failure));
    return exit_code == ATD_EXIT_OK ? ATD_EXIT_FAILED : exit_code;
}

int output_end(int exit_code)
{
    if (flush() == EPIPE && exit_code == ATD_EXIT_OK) {
        (void)signal(SIGPIPE, SIG_DFL);
        (void)raise(SIGPIPE);
    }
    return output_flush(exit_code);
}
