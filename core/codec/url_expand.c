#include <errno.h>
#include <stdlib.h>

#include "atdata/shard_url.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "codec/brace_pattern.h"
#include "codec/shard_url_scheme.h"

/* One element with braces, blanks or backslashes. 100,000 shards of 100 bytes are 10 MB. */
#define PATTERN_BYTES_MAX (16u << 20)
/* All texts that patterns of one call expand to. */
#define EXPANDED_BYTES_MAX (64u << 20)
/* Steps of atd_brace_pattern_text in one call: a second at most. 64 MiB of plain URLs take less
 * than half of them. */
#define EXPANSION_WORK_MAX (4 * (uint64_t)EXPANDED_BYTES_MAX)
/* What reading one pattern may take: a list of a million texts takes 48 MB. */
#define SCRATCH_BYTES_MAX (64u << 20)

struct expansion {
    size_t max_count;
    struct atd_arena *arena;
    struct atd_error *err;
    struct atd_str *urls; /* malloc'ed until the count is known */
    size_t count;
    size_t cap;
    size_t expanded_bytes;
    uint64_t work_left;
};

static int out_of_memory(const struct expansion *expansion)
{
    return atd_error_set(expansion->err, ENOMEM, "data_urls: out of memory");
}

/* `url` is borrowed: from the caller's elements or from the arena. */
static int add_url(struct expansion *expansion, struct atd_str url)
{
    if (expansion->count == expansion->max_count)
        return atd_error_set(expansion->err, E2BIG, "data_urls stand for more than %zu shards",
                             expansion->max_count);
    if (expansion->count == expansion->cap) {
        size_t cap = expansion->cap ? 2 * expansion->cap : 16;
        struct atd_str *grown = reallocarray(expansion->urls, cap, sizeof(*grown));

        if (!grown)
            return out_of_memory(expansion);
        expansion->urls = grown;
        expansion->cap = cap;
    }
    expansion->urls[expansion->count++] = url;
    return 0;
}

/* Adds every text of a pattern, copied into the arena. */
static int add_texts(struct expansion *expansion, struct atd_brace_pattern *pattern)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(EXPANDED_BYTES_MAX);
    size_t count = atd_brace_pattern_count(pattern);

    for (size_t i = 0; i < count; i++) {
        struct atd_str copy;
        int rc;

        atd_buf_clear(&text);
        if (!atd_brace_pattern_text(pattern, i, &expansion->work_left, &text))
            return atd_error_set(expansion->err, E2BIG,
                                 "data_urls: pattern takes too long to expand");
        if (text.failed == ENOMEM)
            return out_of_memory(expansion);
        expansion->expanded_bytes += text.len;
        if (text.failed || expansion->expanded_bytes > EXPANDED_BYTES_MAX)
            return atd_error_set(expansion->err, E2BIG,
                                 "data_urls stand for more than %u bytes of URLs",
                                 EXPANDED_BYTES_MAX);
        copy = atd_arena_str(expansion->arena, atd_buf_str(&text));
        if (!copy.ptr)
            return out_of_memory(expansion);
        rc = add_url(expansion, copy);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Expands one URL or pattern. */
static int expand_braces(struct expansion *expansion, struct atd_str text)
{
    atd_auto_arena struct atd_arena scratch = ATD_ARENA_INIT(SCRATCH_BYTES_MAX);
    bool has_backslash = atd_str_find(text, '\\') >= 0;
    struct atd_brace_pattern *pattern = NULL;
    int rc;

    if ((atd_str_find(text, '{') < 0 && !has_backslash) || !atd_brace_is_balanced(text, NULL))
        return add_url(expansion, text);
    rc = atd_brace_pattern_read(text, expansion->max_count, &scratch, &pattern, expansion->err);
    if (rc != 0)
        return rc;
    /* The library takes s3:// keys as they are; only a pattern that means several is expanded. */
    if (!atd_brace_pattern_varies(pattern) &&
        (!has_backslash || atd_shard_url_scheme_is(atd_shard_url_scheme(text), "s3")))
        return add_url(expansion, text);
    return add_texts(expansion, pattern);
}

/* May `part`, a piece between blanks, be a URL of its own? Then its name has an extension. */
static bool stands_alone(struct atd_str part)
{
    struct atd_str scheme = atd_shard_url_scheme(part);
    struct atd_str rest = atd_str_from_byte(part, scheme.len ? scheme.len + 1 : 0);
    struct atd_str last = atd_str_from_byte(part, (size_t)(atd_str_find_last(part, '/') + 1));

    if (scheme.len == 0 || atd_shard_url_scheme_is(scheme, "file"))
        return atd_str_starts_with(rest, ATD_STR("/")) && atd_str_find(last, '.') >= 0;
    return atd_str_starts_with(rest, ATD_STR("//")) && atd_str_find(last, '.') >= 0;
}

/* The part that begins at *at, up to a blank outside braces; *at moves behind that blank. */
static struct atd_str next_part(struct atd_str text, size_t *at)
{
    size_t start = *at;
    size_t i = start;
    ptrdiff_t depth = 0;

    for (; i < text.len; i++) {
        if (text.ptr[i] == '\\')
            i++;
        else if (text.ptr[i] == '{')
            depth++;
        else if (text.ptr[i] == '}')
            depth--;
        else if (text.ptr[i] == ' ' && depth == 0)
            break;
    }
    if (i > text.len)
        i = text.len;
    *at = i + 1;
    return (struct atd_str){text.ptr + start, i - start};
}

/*
 * A list joined with blanks is what the library makes of URLs that have neither a beginning nor an
 * end in common (ATDATA-FORMATS 6.5). It is taken apart before braces are expanded, so that a
 * pattern among the parts belongs to its own part only.
 */
static int expand_element(struct expansion *expansion, struct atd_str element)
{
    bool is_list = atd_str_find(element, ' ') >= 0;

    for (size_t at = 0; is_list && at <= element.len;)
        is_list = stands_alone(next_part(element, &at));
    if (!is_list)
        return expand_braces(expansion, element);
    for (size_t at = 0; at <= element.len;) {
        int rc = expand_braces(expansion, next_part(element, &at));

        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Has the element anything to expand? */
static bool is_special(struct atd_str element)
{
    return atd_str_find(element, '{') >= 0 || atd_str_find(element, ' ') >= 0 ||
           atd_str_find(element, '\\') >= 0;
}

static bool is_local(struct atd_str element)
{
    return atd_str_starts_with(element, ATD_STR("/")) ||
           atd_shard_url_scheme_is(atd_shard_url_scheme(element), "file");
}

static int expand_all(struct expansion *expansion, const struct atd_str *elements,
                      size_t element_count, atd_url_is_literal is_literal, void *ctx)
{
    for (size_t i = 0; i < element_count; i++) {
        bool special = is_special(elements[i]);
        int rc;

        if (!special || (is_literal && is_local(elements[i]) && is_literal(ctx, elements[i])))
            rc = add_url(expansion, elements[i]);
        else if (elements[i].len > PATTERN_BYTES_MAX)
            rc = atd_error_set(expansion->err, E2BIG,
                               "data_urls element %zu: pattern is longer than %u bytes", i,
                               PATTERN_BYTES_MAX);
        else
            rc = expand_element(expansion, elements[i]);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int atd_shard_urls_expand(const struct atd_str *elements, size_t element_count, size_t max_count,
                          atd_url_is_literal is_literal, void *ctx, struct atd_arena *arena,
                          struct atd_str **ret_urls, size_t *ret_count, struct atd_error *err)
{
    struct expansion expansion = {
        .max_count = max_count, .arena = arena, .err = err, .work_left = EXPANSION_WORK_MAX};
    struct atd_str *urls = NULL;
    int rc;

    atd_assert(max_count > 0 && max_count <= UINT32_MAX);
    rc = expand_all(&expansion, elements, element_count, is_literal, ctx);
    if (rc == 0) {
        urls = atd_arena_alloc_array(arena, expansion.count, sizeof(*urls));
        if (!urls)
            rc = out_of_memory(&expansion);
    }
    if (rc == 0) {
        if (expansion.count)
            memcpy(urls, expansion.urls, expansion.count * sizeof(*urls));
        *ret_urls = urls;
        *ret_count = expansion.count;
    }
    free(expansion.urls);
    return rc;
}
