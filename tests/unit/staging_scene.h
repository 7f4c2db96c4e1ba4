/*
 * What the tests of staging share: a table of staged files, and what is in it.
 */
#ifndef ATD_TESTS_UNIT_STAGING_SCENE_H
#define ATD_TESTS_UNIT_STAGING_SCENE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "staging.h"
#include "support/publication_double.h"

static struct staging *staging;
static struct atd_error err;

static inline void start(void)
{
    staging = staging_new();
    cr_assert(staging);
    err = (struct atd_error)ATD_ERROR_INIT;
}

/* Everything that was added is gone with the table. */
static inline void stop(void)
{
    staging_free(staging);
    cr_assert_eq(publication_double_count(), 0);
}

static inline struct staged_place in_dataset(const char *dataset, const char *leaf)
{
    return (struct staged_place){NODE_DATASET, atd_str_from(dataset), atd_str_from(leaf)};
}

static inline struct staged_place in_scratch(const char *dataset, const char *leaf)
{
    return (struct staged_place){NODE_STAGED_DIR, atd_str_from(dataset), atd_str_from(leaf)};
}

/* With the caller's reference. */
static inline struct staged *add_at(struct staged_place place)
{
    struct staged *staged = NULL;

    cr_assert_eq(
        staging_add(staging, &place, STAGED_FILE, publication_double_new("bytes"), &staged, &err),
        0, "%s", err.text);
    return staged;
}

static inline uint64_t add(const char *dataset, const char *leaf)
{
    struct staged *staged = add_at(in_dataset(dataset, leaf));
    uint64_t id = staged->id;

    staged_unref(staging, staged);
    return id;
}

/* 0: no such name. */
static inline uint64_t id_of(struct staged_place place)
{
    struct staged *staged = staging_find(staging, &place);
    uint64_t id = staged ? staged->id : 0;

    staged_unref(staging, staged);
    return id;
}

static inline uint64_t id_at(const char *dataset, const char *leaf)
{
    return id_of(in_dataset(dataset, leaf));
}

static inline void expect_list(enum node_kind directory, const char *subject, const char *expected)
{
    struct staged_list list;
    char text[1024] = "";

    cr_assert_eq(staging_list(staging, directory, atd_str_from(subject), &list, &err), 0);
    for (size_t i = 0; i < list.count; i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "",
                       list.items[i].leaf);
    cr_assert_str_eq(text, expected);
    staging_list_free(staging, &list);
}

/* A catalog of one entry. */
static inline struct atd_catalog *load(const char *dataset, struct atd_bytes urls)
{
    const struct atd_index_entry entry = {
        .cid = ATD_STR("cid"),
        .name = atd_str_from(dataset),
        .schema_ref = ATD_STR("atdata://local/schema/A@1.0.0"),
        .data_urls = urls,
    };
    struct atd_index *index = atd_index_memory_new();
    struct atd_catalog *catalog = NULL;

    atd_index_memory_set(index, &entry, 1, NULL, 0, NULL, 0);
    cr_assert_eq(atd_catalog_load(index, 1, &catalog, &err), 0, "%s", err.text);
    atd_index_free(index);
    return catalog;
}

/* ["/data/x.tar"] */
static const struct atd_bytes x_urls = {(const uint8_t *)"\x91\xab/data/x.tar", 13};

#endif
