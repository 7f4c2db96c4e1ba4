/*
 * Whether two catalogs say the same, through every function of catalog.h. For tests.
 */
#ifndef ATD_TESTS_CATALOG_EQUAL_H
#define ATD_TESTS_CATALOG_EQUAL_H

#include <criterion/criterion.h>

#include "catalog/catalog.h"
#include "catalog/diff.h"

/* Text that is there in both, or in neither. */
static void same_text(struct atd_str a, struct atd_str b, const char *what)
{
    cr_assert((a.ptr == NULL) == (b.ptr == NULL) && atd_str_equal(a, b),
              "%s: '" ATD_STR_FMT "' and '" ATD_STR_FMT "'", what, ATD_STR_ARG(a), ATD_STR_ARG(b));
}

static void same_bytes(struct atd_bytes a, struct atd_bytes b, const char *what)
{
    same_text(atd_bytes_str(a), atd_bytes_str(b), what);
}

static void same_label(const struct atd_catalog_label *a, const struct atd_catalog_label *b)
{
    cr_assert_eq(a == NULL, b == NULL);
    if (!a)
        return;
    same_text(atd_label_name(a), atd_label_name(b), "a label's name");
    same_text(atd_label_version(a), atd_label_version(b), "a label's version");
    same_text(atd_label_cid(a), atd_label_cid(b), "a label's CID");
    same_text(atd_label_description(a), atd_label_description(b), "a label's description");
    same_text(atd_label_created_at(a), atd_label_created_at(b), "a label's time");
    same_text(atd_label_file_name(a), atd_label_file_name(b), "a label's file name");
    cr_assert_eq(atd_label_created_at_s(a), atd_label_created_at_s(b));
    cr_assert_eq(a->entry, b->entry);
}

static void same_entry(const struct atd_catalog *in_a, const struct atd_catalog_entry *a,
                       const struct atd_catalog *in_b, const struct atd_catalog_entry *b)
{
    cr_assert_eq(a == NULL, b == NULL);
    if (!a)
        return;
    cr_assert_eq(atd_catalog_place_of(in_a, a), atd_catalog_place_of(in_b, b));
    same_text(atd_entry_cid(a), atd_entry_cid(b), "a CID");
    same_text(atd_entry_name(a), atd_entry_name(b), "an entry's name");
    same_text(atd_entry_file_name(a), atd_entry_file_name(b), "an entry's file name");
    same_text(atd_entry_schema_ref(a), atd_entry_schema_ref(b), "a reference");
    same_bytes(atd_entry_data_urls(a), atd_entry_data_urls(b), "URLs");
    same_bytes(atd_entry_metadata(a), atd_entry_metadata(b), "metadata");
    cr_assert_eq(a->created_at_s, b->created_at_s);
    cr_assert_eq(a->url_count, b->url_count);
    cr_assert_eq(a->schema, b->schema);
    cr_assert_eq(a->label_count, b->label_count);
    for (size_t i = 0; i < a->label_count; i++)
        same_label(atd_catalog_label_of(in_a, a, i), atd_catalog_label_of(in_b, b, i));
    cr_assert_eq(memcmp(a->fingerprint, b->fingerprint, sizeof(a->fingerprint)), 0,
                 "the fingerprint of '" ATD_STR_FMT "'", ATD_STR_ARG(atd_entry_cid(a)));
    cr_assert_eq(atd_catalog_is_superseded(in_a, a), atd_catalog_is_superseded(in_b, b));
}

static void same_dataset(const struct atd_catalog *in_a, const struct atd_dataset *a,
                         const struct atd_catalog *in_b, const struct atd_dataset *b)
{
    cr_assert_eq(a == NULL, b == NULL);
    if (!a)
        return;
    same_text(atd_dataset_name(a), atd_dataset_name(b), "a dataset's name");
    same_text(atd_dataset_file_name(a), atd_dataset_file_name(b), "a dataset's file name");
    cr_assert_eq(a->entry, b->entry);
    cr_assert_eq(a->other_count, b->other_count);
    for (size_t i = 0; i < a->other_count; i++)
        same_entry(in_a, atd_catalog_other_of(in_a, a, i), in_b, atd_catalog_other_of(in_b, b, i));
}

static void same_schema(const struct atd_catalog_schema *a, const struct atd_catalog_schema *b)
{
    cr_assert_eq(a == NULL, b == NULL);
    if (!a)
        return;
    same_text(a->name, b->name, "a schema's name");
    same_text(a->bare, b->bare, "a schema's bare name");
    same_text(a->version, b->version, "a schema's version");
    same_text(a->stem, b->stem, "a stem");
    same_bytes(a->json, b->json, "a schema");
    cr_assert_eq(a->created_at_s, b->created_at_s);
}

static void no_difference(void *ctx, enum atd_diff_table table, enum atd_diff_kind kind,
                          struct atd_str file_name)
{
    (void)ctx;
    cr_assert_fail("table %d, kind %d: '" ATD_STR_FMT "'", (int)table, (int)kind,
                   ATD_STR_ARG(file_name));
}

static void same_tables(const struct atd_catalog *a, const struct atd_catalog *b)
{
    cr_assert_eq(atd_catalog_entry_count(a), atd_catalog_entry_count(b));
    cr_assert_eq(atd_catalog_label_count(a), atd_catalog_label_count(b));
    cr_assert_eq(atd_catalog_shown_label_count(a), atd_catalog_shown_label_count(b));
    cr_assert_eq(atd_catalog_schema_count(a), atd_catalog_schema_count(b));
    cr_assert_eq(atd_catalog_dataset_count(a), atd_catalog_dataset_count(b));
    for (size_t i = 0; i < atd_catalog_entry_count(a); i++) {
        const struct atd_catalog_entry *entry = atd_catalog_entry_at(a, i);

        same_entry(a, entry, b, atd_catalog_entry_at(b, i));
        same_entry(a, atd_catalog_named_at(a, i), b, atd_catalog_named_at(b, i));
        cr_assert_eq(atd_catalog_find_entry(a, atd_entry_file_name(entry)), entry);
        cr_assert_eq(atd_catalog_find_cid(a, atd_entry_cid(entry)), entry);
    }
    for (size_t i = 0; i < atd_catalog_label_count(a); i++)
        same_label(atd_catalog_label_at(a, i), atd_catalog_label_at(b, i));
    for (size_t i = 0; i < atd_catalog_shown_label_count(a); i++) {
        const struct atd_catalog_label *label = atd_catalog_shown_label_at(a, i);

        same_label(label, atd_catalog_shown_label_at(b, i));
        cr_assert_eq(atd_catalog_find_label(a, atd_label_file_name(label)), label);
    }
    for (size_t i = 0; i < atd_catalog_schema_count(a); i++) {
        const struct atd_catalog_schema *schema = atd_catalog_schema_at(a, i);

        same_schema(schema, atd_catalog_schema_at(b, i));
        cr_assert_eq(atd_catalog_find_schema(a, schema->stem), schema);
    }
    for (size_t i = 0; i < atd_catalog_dataset_count(a); i++) {
        const struct atd_dataset *dataset = atd_catalog_dataset_at(a, i);

        same_dataset(a, dataset, b, atd_catalog_dataset_at(b, i));
        cr_assert_eq(atd_catalog_find_dataset(a, atd_dataset_file_name(dataset)), dataset);
    }
}

/* `a` was applied, `b` loaded; `names` are asked for whether they are there or not. */
static void same_catalogs(const struct atd_catalog *a, const struct atd_catalog *b,
                          const struct atd_str *names, size_t name_count)
{
    same_tables(a, b);
    cr_assert_eq(atd_catalog_problem_count(a), atd_catalog_problem_count(b));
    cr_assert_eq(atd_catalog_problem_kept(a), atd_catalog_problem_kept(b));
    for (size_t i = 0; i < atd_catalog_problem_kept(a); i++) {
        const struct atd_problem *problem = atd_catalog_problem_at(a, i);

        cr_assert_str_eq(problem->what, atd_catalog_problem_at(b, i)->what);
        same_text(problem->key, atd_catalog_problem_at(b, i)->key, "a problem's key");
        same_text(problem->reason, atd_catalog_problem_at(b, i)->reason, "a problem's reason");
    }
    for (size_t i = 0; i < name_count; i++) {
        cr_assert_eq(atd_catalog_first_named(a, names[i]), atd_catalog_first_named(b, names[i]));
        cr_assert_eq(atd_catalog_first_label_named(a, names[i]),
                     atd_catalog_first_label_named(b, names[i]));
        same_entry(a, atd_catalog_meaning(a, names[i]), b, atd_catalog_meaning(b, names[i]));
        same_entry(a, atd_catalog_find_cid(a, names[i]), b, atd_catalog_find_cid(b, names[i]));
        same_entry(a, atd_catalog_find_entry(a, names[i]), b, atd_catalog_find_entry(b, names[i]));
        same_dataset(a, atd_catalog_find_dataset(a, names[i]), b,
                     atd_catalog_find_dataset(b, names[i]));
        same_label(atd_catalog_find_label(a, names[i]), atd_catalog_find_label(b, names[i]));
        same_schema(atd_catalog_find_schema(a, names[i]), atd_catalog_find_schema(b, names[i]));
    }
    atd_catalog_diff(a, b, no_difference, NULL);
    atd_catalog_diff(b, a, no_difference, NULL);
}

#endif
