#include "atdata/dali_idx.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/check.h"
#include "codec/tar_header.h"

struct atd_dali_idx {
    struct atd_buf lines; /* without the last newline */
    struct atd_buf key;   /* of the sample being added to */
    size_t sample_count;
};

struct atd_dali_idx *atd_dali_idx_new(size_t max_bytes)
{
    struct atd_dali_idx *idx = calloc(1, sizeof(*idx));

    if (!idx)
        return NULL;
    atd_buf_init(&idx->lines, max_bytes);
    atd_buf_init(&idx->key, ATD_TAR_NAME_BYTES_MAX);
    return idx;
}

void atd_dali_idx_free(struct atd_dali_idx *idx)
{
    if (!idx)
        return;
    atd_buf_release(&idx->lines);
    atd_buf_release(&idx->key);
    free(idx);
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool has_blank(struct atd_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (is_blank(text.ptr[i]) || text.ptr[i] == '\0')
            return true;
    return false;
}

int atd_dali_idx_add(struct atd_dali_idx *idx, const struct atd_tar_member *member,
                     struct atd_error *err)
{
    char ignored[1];
    struct atd_str key;
    struct atd_str extension;

    if (!member->is_file || !atd_tar_split_name(member->name, &key, ignored, sizeof(ignored)))
        return 0;
    /* As NVIDIA's wds2idx writes it: the extension keeps its case. */
    extension = atd_str_from_byte(member->name, key.len + 1);
    if (has_blank(member->name))
        return atd_error_set(err, EINVAL,
                             "member name '" ATD_STR_FMT "' has a blank, which a DALI index "
                             "cannot hold",
                             ATD_STR_ARG(member->name));
    if (extension.len == 0)
        return atd_error_set(err, EINVAL,
                             "member name '" ATD_STR_FMT "' has an empty extension, which a DALI "
                             "index cannot hold",
                             ATD_STR_ARG(member->name));
    if (idx->sample_count == 0 || !atd_str_equal(atd_buf_str(&idx->key), key)) {
        if (idx->sample_count)
            atd_buf_append_byte(&idx->lines, '\n');
        idx->sample_count++;
        atd_buf_clear(&idx->key);
        atd_buf_append_str(&idx->key, key);
        if (idx->key.failed)
            return atd_buf_finish(&idx->key, "DALI index key", err);
    } else {
        atd_buf_append_byte(&idx->lines, ' ');
    }
    atd_buf_append_str(&idx->lines, extension);
    atd_buf_printf(&idx->lines, " %" PRIu64 " %" PRIu64 " ", member->data_offset,
                   member->size_bytes);
    atd_buf_append_str(&idx->lines, member->name);
    return atd_buf_finish(&idx->lines, "DALI index", err);
}

int atd_dali_idx_write(const struct atd_dali_idx *idx, struct atd_buf *out, struct atd_error *err)
{
    int rc = atd_buf_finish(&idx->lines, "DALI index", err);

    if (rc != 0)
        return rc;
    atd_buf_printf(out, "v1.2 %zu\n", idx->sample_count);
    atd_buf_append_str(out, atd_buf_str(&idx->lines));
    if (idx->sample_count)
        atd_buf_append_byte(out, '\n');
    return atd_buf_finish(out, "DALI index", err);
}

/* Reads line by line, and words of one line. */
struct reader {
    struct atd_str rest;
    struct atd_str line;
    size_t line_number; /* from 1 */
    struct atd_error *err;
};

static bool next_line(struct reader *reader)
{
    ptrdiff_t newline = atd_str_find(reader->rest, '\n');

    if (reader->rest.len == 0)
        return false;
    reader->line_number++;
    reader->line = newline < 0 ? reader->rest : atd_str_head(reader->rest, (size_t)newline);
    reader->rest =
        atd_str_from_byte(reader->rest, newline < 0 ? reader->rest.len : (size_t)newline + 1);
    if (atd_str_ends_with(reader->line, ATD_STR("\r")))
        reader->line.len--;
    return true;
}

static int bad_line(const struct reader *reader, const char *what)
{
    return atd_error_set(reader->err, EINVAL, "DALI index line %zu: %s", reader->line_number, what);
}

/* The next word of the line; false when there is none. */
static bool next_word(struct reader *reader, struct atd_str *ret_word)
{
    size_t start = 0;
    size_t end;

    while (start < reader->line.len && is_blank(reader->line.ptr[start]))
        start++;
    end = start;
    while (end < reader->line.len && !is_blank(reader->line.ptr[end]))
        end++;
    *ret_word = (struct atd_str){reader->line.len ? reader->line.ptr + start : NULL, end - start};
    reader->line = atd_str_from_byte(reader->line, end);
    return ret_word->len > 0;
}

static bool next_number(struct reader *reader, uint64_t *ret_value)
{
    struct atd_str word;
    uint64_t value = 0;

    if (!next_word(reader, &word))
        return false;
    for (size_t i = 0; i < word.len; i++) {
        unsigned digit = (unsigned)(word.ptr[i] - '0');

        if (word.ptr[i] < '0' || word.ptr[i] > '9' || value > ((uint64_t)INT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *ret_value = value;
    return true;
}

/* One sample: (extension, offset, size[, name]) once or more. */
static int read_sample(struct reader *reader, bool has_names, size_t sample,
                       atd_dali_component_fn fn, void *ctx)
{
    struct atd_dali_component component = {0};
    size_t count = 0;

    while (next_word(reader, &component.extension)) {
        int rc;

        if (!next_number(reader, &component.data_offset))
            return bad_line(reader, "no offset behind an extension");
        /* DALI itself refuses other offsets: data begin at a tar block. */
        if (component.data_offset % ATD_TAR_BLOCK_BYTES != 0)
            return bad_line(reader, "an offset is no multiple of 512");
        if (!next_number(reader, &component.size_bytes))
            return bad_line(reader, "no size behind an offset");
        if (component.size_bytes > INT64_MAX - component.data_offset)
            return bad_line(reader, "a component ends too far out");
        if (has_names && !next_word(reader, &component.name))
            return bad_line(reader, "no name behind a size");
        rc = fn(ctx, sample, &component, reader->err);
        if (rc != 0)
            return rc;
        count++;
    }
    return count ? 0 : bad_line(reader, "a sample without components");
}

int atd_dali_idx_read(struct atd_str text, atd_dali_component_fn fn, void *ctx,
                      struct atd_error *err)
{
    struct reader reader = {.rest = text, .err = err};
    struct atd_str version = {NULL, 0};
    uint64_t count = 0;
    size_t sample = 0;
    bool has_names;

    if (!next_line(&reader))
        return atd_error_set(err, EINVAL, "DALI index is empty");
    (void)next_word(&reader, &version);
    has_names = atd_str_equal(version, ATD_STR("v1.2"));
    if (!has_names && !atd_str_equal(version, ATD_STR("v1.1")))
        return bad_line(&reader, "neither v1.1 nor v1.2");
    if (!next_number(&reader, &count) || next_word(&reader, &version))
        return bad_line(&reader, "no number of samples");
    for (; sample < count && next_line(&reader); sample++) {
        int rc = read_sample(&reader, has_names, sample, fn, ctx);

        if (rc != 0)
            return rc;
    }
    if (sample < count)
        return atd_error_set(err, EINVAL,
                             "DALI index ends behind line %zu with %zu of %" PRIu64 " samples",
                             reader.line_number, sample, count);
    if (next_line(&reader))
        return bad_line(&reader, "more samples than the first line says");
    return 0;
}
