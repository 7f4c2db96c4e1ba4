/*
 * A sink that writes down what a provider reports, in an order of its own.
 */
#ifndef ATD_TESTS_INDEX_SEEN_H
#define ATD_TESTS_INDEX_SEEN_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/index.h"

#define SEEN_LINES_MAX 4096
#define SEEN_LINE_BYTES 400

struct seen {
    size_t count;
    char lines[SEEN_LINES_MAX][SEEN_LINE_BYTES];
    size_t entries; /* all, also those that are not written down */
    char text[16384];
};

static inline char *seen_line(struct seen *seen)
{
    cr_assert_lt(seen->count, SEEN_LINES_MAX);
    return seen->lines[seen->count++];
}

static inline int see_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    struct seen *seen = ctx;

    (void)err;
    if (++seen->entries > 1000)
        return 0;
    (void)snprintf(seen_line(seen), SEEN_LINE_BYTES, "entry:%.*s=%.*s,%.*s,%zu%s%s",
                   ATD_STR_ARG(entry->cid), ATD_STR_ARG(entry->name),
                   ATD_STR_ARG(entry->schema_ref), entry->data_urls.len,
                   entry->metadata.ptr ? "+m" : "", entry->created_at.ptr ? "+t" : "");
    return 0;
}

static inline int see_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    (void)err;
    (void)snprintf(seen_line(ctx), SEEN_LINE_BYTES, "label:%.*s@%.*s=%.*s%s%.*s%s%.*s",
                   ATD_STR_ARG(label->name), ATD_STR_ARG(label->version), ATD_STR_ARG(label->cid),
                   label->description.ptr ? "," : "", ATD_STR_ARG(label->description),
                   label->created_at.ptr ? "," : "", ATD_STR_ARG(label->created_at));
    return 0;
}

static inline int see_schema(void *ctx, const struct atd_index_schema *schema,
                             struct atd_error *err)
{
    (void)err;
    (void)snprintf(seen_line(ctx), SEEN_LINE_BYTES, "schema:%.*s@%.*s=%.*s",
                   ATD_STR_ARG(schema->name), ATD_STR_ARG(schema->version),
                   ATD_STR_ARG(atd_bytes_str(schema->json)));
    return 0;
}

static inline void see_problem(void *ctx, const char *what, struct atd_str key, const char *reason)
{
    (void)snprintf(seen_line(ctx), SEEN_LINE_BYTES, "!%s:%.*s (%s)", what, ATD_STR_ARG(key),
                   reason);
}

static inline int seen_compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Loads and puts all lines, sorted, into `text`. */
static inline int see(struct atd_index *index, struct seen *seen, struct atd_error *err)
{
    const struct atd_index_sink sink = {seen, see_entry, see_label, see_schema, NULL, see_problem};
    size_t len = 0;
    int rc;

    memset(seen, 0, sizeof(*seen));
    rc = atd_index_load(index, &sink, err);
    qsort(seen->lines, seen->count, SEEN_LINE_BYTES, seen_compare);
    for (size_t i = 0; i < seen->count && len < sizeof(seen->text); i++)
        len += (size_t)snprintf(seen->text + len, sizeof(seen->text) - len, "%s\n", seen->lines[i]);
    return rc;
}

#endif
