/*
 * The table of datasets: which names show (meaning.c) and how they are spelled as files. Names
 * that no change touched keep their row.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "catalog/generation.h"
#include "codec/file_name.h"

#define SUPERSEDED_MARK "@superseded:"

/* Rows that grow. */
struct rows {
    struct atd_dataset *all;
    size_t count;
    size_t cap;
};

static bool add_row(struct rows *rows, const struct atd_dataset *row)
{
    if (rows->count == rows->cap) {
        size_t wanted = rows->cap + rows->cap / 2 + 16;
        struct atd_dataset *grown =
            wanted < ATD_NONE ? reallocarray(rows->all, wanted, sizeof(*grown)) : NULL;

        if (!grown)
            return false;
        rows->all = grown;
        rows->cap = wanted;
    }
    rows->all[rows->count++] = *row;
    return true;
}

/* Appends what the name is called in datasets/ when it means `entry`. */
static bool spell(struct atd_str name, const struct atd_catalog_entry *entry, struct atd_buf *out)
{
    if (atd_file_name_is_plain(name))
        atd_buf_append_str(out, name);
    else
        atd_file_name_encode(name, atd_entry_cid(entry), ATD_STR(""), out);
    return !out->failed;
}

/* Makes the row of a name, if it shows. */
static bool make_row(struct atd_making *making, const struct atd_name_group *group,
                     struct rows *made)
{
    struct atd_catalog *catalog = making->catalog;
    atd_auto_buf struct atd_buf file_name = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
    struct atd_dataset row;

    if (!atd_name_group_show(catalog, group, &row))
        return true;
    row.file_name = row.name;
    row.file_name_len = (uint32_t)row.name_len & 0xff;
    if (!atd_file_name_is_plain(group->name)) {
        if (!spell(group->name, &catalog->entries[row.entry], &file_name))
            return false;
        row.file_name = atd_texts_keep(catalog->texts, atd_buf_str(&file_name)).ptr;
        row.file_name_len = (uint32_t)file_name.len & 0xff;
    }
    return row.file_name && add_row(made, &row);
}

static bool make_all(struct atd_making *making, struct rows *made)
{
    struct atd_name_group group;
    size_t entry_at = 0;
    size_t label_at = 0;

    while (atd_name_group_next(making->catalog, &entry_at, &label_at, &group)) {
        if (!make_row(making, &group, made))
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------ names that were touched */

static int by_text(const void *a, const void *b)
{
    return atd_str_compare(*(const struct atd_str *)a, *(const struct atd_str *)b);
}

static void sort_names(struct atd_making *making)
{
    size_t kept = 0;

    if (making->name_count)
        qsort(making->names, making->name_count, sizeof(*making->names), by_text);
    for (size_t i = 0; i < making->name_count; i++) {
        if (kept == 0 || !atd_str_equal(making->names[kept - 1], making->names[i]))
            making->names[kept++] = making->names[i];
    }
    making->name_count = kept;
}

/* NAME@superseded:CID shows or not as NAME is used or not. */
static bool touch_superseded(struct atd_making *making, struct atd_str name)
{
    const struct atd_catalog *catalog = making->catalog;
    atd_auto_buf struct atd_buf prefix = ATD_BUF_INIT(2 * (size_t)ATD_NAME_BYTES_MAX);

    atd_buf_append_str(&prefix, name);
    atd_buf_append_text(&prefix, SUPERSEDED_MARK);
    if (prefix.failed)
        return false;
    for (size_t i = atd_catalog_first_named(catalog, atd_buf_str(&prefix));
         i < catalog->entry_count; i++) {
        struct atd_str other = atd_entry_name(atd_catalog_named_at(catalog, i));

        if (!atd_str_starts_with(other, atd_buf_str(&prefix)))
            break;
        if (atd_str_find_last(other, '@') == (ptrdiff_t)name.len &&
            !atd_making_touch(making, other))
            return false;
    }
    return true;
}

static bool gather_names(struct atd_making *making)
{
    const struct atd_catalog *base = making->base;
    size_t count;

    for (size_t i = 0; i < base->hidden_dataset_count; i++) {
        if (!atd_making_touch(making, atd_dataset_name(&base->hidden_datasets[i])))
            return false;
    }
    sort_names(making);
    count = making->name_count;
    for (size_t i = 0; i < count; i++) {
        if (!touch_superseded(making, making->names[i]))
            return false;
    }
    sort_names(making);
    return true;
}

/* The base's row of a name; NULL: there is none. Its file name hangs on what it meant. */
static bool find_row(const struct atd_catalog *base, struct atd_str name,
                     const struct atd_dataset **ret_row)
{
    atd_auto_buf struct atd_buf file_name = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
    const struct atd_catalog_entry *entry = atd_catalog_meaning(base, name);
    const struct atd_dataset *row = NULL;

    if (entry) {
        if (!spell(name, entry, &file_name))
            return false;
        row = atd_catalog_find_dataset(base, atd_buf_str(&file_name));
    }
    *ret_row = row && atd_str_equal(atd_dataset_name(row), name) ? row : NULL;
    return true;
}

static bool make_touched(struct atd_making *making, struct rows *made, bool *is_lost)
{
    for (size_t i = 0; i < making->name_count; i++) {
        struct atd_name_group group = atd_name_group_find(making->catalog, making->names[i]);
        const struct atd_dataset *row;

        if (!find_row(making->base, making->names[i], &row) || !make_row(making, &group, made))
            return false;
        if (!row)
            continue;
        is_lost[row - making->base->datasets] = true;
        if (row->file_name != row->name)
            making->dropped_bytes += (size_t)row->file_name_len + 1;
    }
    return true;
}

/* ------------------------------------------------------------------ the table */

static int by_file_name(const void *a, const void *b)
{
    int order = atd_str_compare(atd_dataset_file_name(a), atd_dataset_file_name(b));

    return order ? order : atd_str_compare(atd_dataset_name(a), atd_dataset_name(b));
}

/* A row of the base where its entries stand now. */
static struct atd_dataset moved(const struct atd_making *making, const struct atd_dataset *before)
{
    struct atd_dataset row = *before;

    row.entry = making->entries.map[before->entry];
    atd_assert(row.entry != ATD_NONE); /* or its name would have been touched */
    if (row.other_count)
        row.first_other =
            (uint32_t)atd_catalog_first_named(making->catalog, atd_dataset_name(before)) + 1;
    return row;
}

struct table {
    struct rows rows;
    struct rows hidden;
    bool last_is_new;
};

/* Two names can share a file name only if one of them was cut: nobody meets it by accident. */
static bool put(struct table *table, const struct atd_dataset *row, bool is_new)
{
    const struct atd_dataset *last =
        table->rows.count ? &table->rows.all[table->rows.count - 1] : NULL;

    if (last && (is_new || table->last_is_new) &&
        atd_str_equal(atd_dataset_file_name(last), atd_dataset_file_name(row)))
        return add_row(&table->hidden, row);
    table->last_is_new = is_new;
    return add_row(&table->rows, row);
}

static bool merge(const struct atd_making *making, const bool *is_lost, const struct rows *made,
                  struct table *table)
{
    const struct atd_catalog *base = making->base;
    size_t at = 0;

    table->rows.cap = base->dataset_count + made->count + 1;
    table->rows.all = reallocarray(NULL, table->rows.cap, sizeof(*table->rows.all));
    if (!table->rows.all)
        return false;
    for (size_t i = 0; i <= made->count; i++) {
        size_t low = at;
        size_t high = base->dataset_count;

        while (i < made->count && low < high) {
            size_t middle = low + (high - low) / 2;

            if (by_file_name(&base->datasets[middle], &made->all[i]) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        for (low = i < made->count ? low : high; at < low; at++) {
            struct atd_dataset row;

            if (is_lost[at])
                continue;
            row = moved(making, &base->datasets[at]);
            if (!put(table, &row, false))
                return false;
        }
        if (i < made->count && !put(table, &made->all[i], true))
            return false;
    }
    return true;
}

bool atd_making_resolve_names(struct atd_making *making)
{
    struct atd_catalog *catalog = making->catalog;
    struct rows made = {0};
    struct table table = {0};
    bool *is_lost = calloc(making->base->dataset_count + 1, sizeof(bool));
    bool fine = is_lost &&
                (making->is_first ? make_all(making, &made)
                                  : gather_names(making) && make_touched(making, &made, is_lost));

    if (fine && made.count)
        qsort(made.all, made.count, sizeof(*made.all), by_file_name);
    fine = fine && merge(making, is_lost, &made, &table);
    free(made.all);
    free(is_lost);
    catalog->datasets = table.rows.all;
    catalog->dataset_count = table.rows.count;
    catalog->hidden_datasets = table.hidden.all;
    catalog->hidden_dataset_count = table.hidden.count;
    return fine;
}
