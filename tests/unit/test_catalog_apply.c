/*
 * A generation that is made of another one and of what changed is the same, whatever was changed
 * and in whatever order, as one that was loaded.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "catalog/generation.h"
#include "catalog_equal.h"

#define ENTRIES 24u
#define LABELS 40u
#define SCHEMAS 12u
#define STEPS 1200u
#define LONG 300u
#define NAMES_MAX 40u
/* Of a step's generation another look is taken so many steps later. */
#define LATER 40u

static uint64_t random_state;

static uint32_t below(uint32_t end)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % end;
}

/* ------------------------------------------------------------------ what records are made of */

static char long_texts[6][LONG + 1];
static struct atd_str names[NAMES_MAX];
static size_t name_count;
static struct atd_str cids[ENTRIES];

/* Three that differ only where their file name is cut, three that differ before. */
static void make_long_texts(void)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(long_texts); i++) {
        memset(long_texts[i], 'x', LONG);
        long_texts[i][i < 3 ? LONG - 20 : 2] = (char)('a' + i);
    }
}

static void make_texts(void)
{
    static const char *const plain[] = {
        "a",
        "b",
        "n",
        "n@1",
        "a@b",
        "a@superseded:c1",
        "a@superseded:c2",
        "n@1@superseded:c3",
        "b@superseded:nobody",
        "a/b",
        "..",
        "",
        "%",
        "\xff\xfe",
        "\x01"
        "z",
        "c@2.0.0",
        "c",
        "n@1@2",
    };
    static const char *const of_cids[] = {
        "c1", "c2",  "c3", "c4", "c5",  "c6",  "c7",
        "c8", "d/1", ".d", "",   "d@1", "%41", "c1@superseded:c2"};

    make_long_texts();
    name_count = 0;
    for (size_t i = 0; i < ATD_ARRAY_LEN(plain); i++)
        names[name_count++] = atd_str_from(plain[i]);
    for (size_t i = 0; i < ATD_ARRAY_LEN(long_texts); i++)
        names[name_count++] = (struct atd_str){long_texts[i], LONG};
    /* What a cut name looks like is a name too: of CID c1, and of the long CIDs. */
    names[name_count++] = ATD_STR("c1~c1");
    for (size_t i = 0; i < ENTRIES; i++)
        cids[i] = i < ATD_ARRAY_LEN(of_cids) ? atd_str_from(of_cids[i])
                                             : (struct atd_str){long_texts[i % 6], LONG - i / 6};
}

static struct atd_str any_name(void)
{
    return names[below((uint32_t)name_count)];
}

static const uint8_t *const urls[] = {(const uint8_t *)"\x90",
                                      (const uint8_t *)"\x91\xab/data/x.tar",
                                      (const uint8_t *)"\x92\xab/data/x.tar\xab/data/y.tar",
                                      (const uint8_t *)"\x93", (const uint8_t *)"no urls"};
static const size_t url_lengths[] = {1, 13, 25, 1, 7};

static const char schema_a[] = "{\"name\": \"A\", \"version\": \"1.0.0\", \"fields\": [{\"name\": "
                               "\"x\", \"fieldType\": {\"$type\": \"local#primitive\", "
                               "\"primitive\": \"int\"}, \"optional\": false}]}";
static const char schema_b[] = "{\"name\": \"A\", \"version\": \"1.0.0\", \"fields\": [{\"name\": "
                               "\"y\", \"fieldType\": {\"$type\": \"local#primitive\", "
                               "\"primitive\": \"str\"}, \"optional\": true}]}";

/* ------------------------------------------------------------------ an index that is edited */

struct records {
    struct atd_index_entry entries[ENTRIES];
    size_t entry_count;
    struct atd_index_label labels[LABELS];
    size_t label_count;
    struct atd_index_schema schemas[SCHEMAS];
    size_t schema_count;
};

static struct atd_str any_time(void)
{
    static const char *const times[] = {"2026-01-01 00:00:00", "2026-02-02 00:00:00", "never", ""};
    uint32_t which = below(6);

    return which < 4 ? atd_str_from(times[which]) : (struct atd_str){NULL, 0};
}

static void edit_entry(struct records *records)
{
    static const char *const refs[] = {"atdata://local/schema/A@1.0.0",
                                       "atdata://local/schema/B@1.0.0",
                                       "atdata://local/schema/A@2.0.0", "junk", ""};
    struct atd_str cid = cids[below(ENTRIES)];
    uint32_t which = below(5);
    uint32_t metadata = below(6);
    size_t i = 0;

    while (i < records->entry_count && !atd_str_equal(records->entries[i].cid, cid))
        i++;
    if (i < records->entry_count && below(3) == 0) {
        records->entries[i] = records->entries[--records->entry_count];
        return;
    }
    /* Half of the URLs are sound. */
    if (below(2))
        which = 1;
    records->entry_count += i == records->entry_count;
    records->entries[i] = (struct atd_index_entry){
        .cid = cid,
        .name = any_name(),
        .schema_ref = atd_str_from(refs[below(5)]),
        .data_urls = {urls[which], url_lengths[which]},
        .created_at = any_time(),
    };
    if (metadata < 3)
        records->entries[i].metadata =
            (struct atd_bytes){(const uint8_t *)(metadata == 0   ? "\x80"
                                                 : metadata == 1 ? "\xc0"
                                                                 : "\x81"),
                               1};
}

static void edit_label(struct records *records)
{
    static const char *const versions[] = {"", "1", "2", "1.0.0", "1.10.0", "1@2", "b@1"};
    struct atd_str name = any_name();
    struct atd_str version = atd_str_from(versions[below(7)]);
    size_t i = 0;

    if (below(8) == 0)
        version = (struct atd_str){long_texts[below(6)], LONG};
    /* One of those that are there, more often than not. */
    if (records->label_count && below(3)) {
        i = below((uint32_t)records->label_count);
        name = records->labels[i].name;
        version = records->labels[i].version;
    }
    for (i = 0; i < records->label_count; i++) {
        if (atd_str_equal(records->labels[i].name, name) &&
            atd_str_equal(records->labels[i].version, version))
            break;
    }
    if (i < records->label_count && below(3) == 0) {
        records->labels[i] = records->labels[--records->label_count];
        return;
    }
    if (i == LABELS)
        return;
    records->label_count += i == records->label_count;
    records->labels[i] = (struct atd_index_label){
        .name = name,
        .version = version,
        .cid = cids[below(ENTRIES)],
        .description = below(2) ? ATD_STR("described") : (struct atd_str){NULL, 0},
        .created_at = any_time(),
    };
}

static void edit_schema(struct records *records)
{
    static const char *const of_schemas[] = {"A", "m.A", "k.A", "B", "A@1.0.0", "n@1"};
    static const char *const versions[] = {"1.0.0", "2.0.0", "1.0.0@2", "2"};
    struct atd_str name = atd_str_from(of_schemas[below(6)]);
    struct atd_str version = atd_str_from(versions[below(4)]);
    uint32_t which = below(5);
    size_t i = 0;

    if (below(10) == 0)
        name = (struct atd_str){long_texts[below(6)], LONG};
    while (i < records->schema_count && (!atd_str_equal(records->schemas[i].name, name) ||
                                         !atd_str_equal(records->schemas[i].version, version)))
        i++;
    if (i < records->schema_count && below(3) == 0) {
        records->schemas[i] = records->schemas[--records->schema_count];
        return;
    }
    if (i == SCHEMAS)
        return;
    records->schema_count += i == records->schema_count;
    records->schemas[i] = (struct atd_index_schema){
        .name = name,
        .version = version,
        .json = atd_str_bytes(atd_str_from(which == 0  ? "[]"
                                           : which < 3 ? schema_a
                                                       : schema_b)),
        .created_at = any_time(),
    };
}

static void edit(struct records *records, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t which = below(10);

        if (which < 5)
            edit_entry(records);
        else if (which < 9)
            edit_label(records);
        else
            edit_schema(records);
    }
}

static void set(struct atd_index *index, const struct records *records)
{
    atd_index_memory_set(index, records->entries, records->entry_count, records->labels,
                         records->label_count, records->schemas, records->schema_count);
}

/* ------------------------------------------------------------------ the property */

static struct atd_catalog *load(struct atd_index *index, uint64_t generation)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_catalog *catalog = NULL;

    cr_assert_eq(atd_catalog_load(index, generation, &catalog, &err), 0, "%s", err.text);
    return catalog;
}

/* Loads what changed while a copy of the records is kept for as long as the index views it. */
static struct atd_catalog *apply(struct atd_index *index, struct atd_catalog *base)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_catalog *catalog = NULL;

    cr_assert_eq(atd_index_sync(index), ATD_NEWS_SOME);
    cr_assert_eq(atd_catalog_apply(base, index, atd_catalog_generation(base) + 1, &catalog, &err),
                 0, "%s", err.text);
    cr_assert_eq(atd_catalog_generation(catalog), atd_catalog_generation(base) + 1);
    cr_assert_eq(atd_index_sync(index), ATD_NEWS_NONE);
    return catalog;
}

/* Differences of two generations, told in numbers. */
static void count_difference(void *ctx, enum atd_diff_table table, enum atd_diff_kind kind,
                             struct atd_str file_name)
{
    uint64_t *sum = ctx;

    *sum = *sum * 31 + (uint64_t)table * 7 + (uint64_t)kind;
    for (size_t i = 0; i < file_name.len; i++)
        *sum = *sum * 131 + (uint8_t)file_name.ptr[i];
}

static uint64_t difference(const struct atd_catalog *before, const struct atd_catalog *after)
{
    uint64_t sum = 1;

    atd_catalog_diff(before, after, count_difference, &sum);
    return sum;
}

/* What was met, so that the test is known to have tested it. */
struct met {
    size_t compactions;
    size_t hidden_entries;
    size_t hidden_labels;
    size_t hidden_schemas;
    size_t hidden_datasets;
    size_t superseded;
    size_t ambiguous;
    size_t refused;
};

static void see(const struct atd_catalog *before, const struct atd_catalog *catalog,
                struct met *met)
{
    met->compactions += before->texts != catalog->texts;
    met->hidden_entries += catalog->hidden_entry_count;
    met->hidden_labels += catalog->hidden_label_count;
    met->hidden_schemas += catalog->hidden_schema_count;
    met->hidden_datasets += catalog->hidden_dataset_count;
    met->refused += catalog->refusals.count;
    for (size_t i = 0; i < catalog->entry_count; i++)
        met->superseded += atd_catalog_is_superseded(catalog, &catalog->entries[i]);
    for (size_t i = 0; i < catalog->dataset_count; i++)
        met->ambiguous += catalog->datasets[i].other_count > 0;
}

static void check_seed(uint64_t seed, struct met *met)
{
    struct atd_index *index = atd_index_memory_new_telling();
    struct atd_index *plain = atd_index_memory_new();
    struct records *records = calloc(1, sizeof(*records));
    struct atd_catalog *applied;
    struct atd_catalog *loaded;
    struct atd_catalog *old_applied = NULL;
    struct atd_catalog *old_loaded = NULL;

    random_state = seed;
    set(index, records);
    applied = load(index, 1);
    loaded = load(index, 1);
    for (size_t step = 0; step < STEPS; step++) {
        struct records *next = malloc(sizeof(*next));
        struct atd_catalog *before_applied = applied;
        struct atd_catalog *before_loaded = loaded;

        *next = *records;
        edit(next, below(50) == 0 ? 200 : 1 + below(4));
        set(index, next);
        set(plain, next);
        applied = apply(index, before_applied);
        loaded = load(plain, 1);
        free(records);
        records = next;
        same_catalogs(applied, loaded, names, name_count);
        same_catalogs(applied, loaded, cids, ENTRIES);
        cr_assert_eq(difference(before_applied, applied), difference(before_loaded, loaded));
        see(before_applied, applied, met);
        if (step % LATER == 0) {
            if (old_applied)
                same_catalogs(old_applied, old_loaded, names, name_count);
            atd_catalog_unref(old_applied);
            atd_catalog_unref(old_loaded);
            old_applied = atd_catalog_ref(applied);
            old_loaded = atd_catalog_ref(loaded);
        }
        atd_catalog_unref(before_applied);
        atd_catalog_unref(before_loaded);
    }
    atd_catalog_unref(old_applied);
    atd_catalog_unref(old_loaded);
    atd_catalog_unref(applied);
    atd_catalog_unref(loaded);
    atd_index_free(index);
    atd_index_free(plain);
    free(records);
}

/* A change that cannot be applied leaves the base as it was, and what is loaded then has it. */
Test(catalog_apply, a_key_that_can_be_read_in_too_many_ways_is_loaded)
{
    static char name[101];
    const struct atd_index_label label = {
        .name = {name, 100}, .version = ATD_STR("1"), .cid = ATD_STR("nowhere")};
    struct atd_index *index = atd_index_memory_new_telling();
    struct atd_catalog *base = load(index, 1);
    struct atd_catalog *after = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    memset(name, '@', 100);
    atd_index_memory_set(index, NULL, 0, &label, 1, NULL, 0);
    cr_assert_eq(atd_catalog_apply(base, index, 2, &after, &err), -E2BIG);
    cr_expect_str_eq(err.text, "index 'memory:': a key can be read in 101 ways");
    cr_expect_eq(atd_index_sync(index), ATD_NEWS_SOME);
    cr_expect_eq(atd_catalog_label_count(base), 0);
    after = load(index, 2);
    cr_expect_eq(atd_catalog_label_count(after), 1);
    atd_catalog_unref(after);
    atd_catalog_unref(base);
    atd_index_free(index);
}

#define REFUSED 1500u

/* More than are kept to be told: those that are not told come up when others go. */
Test(catalog_apply, refused_records_are_told_until_they_are_repaired)
{
    static char keys[REFUSED][8];
    static struct atd_index_entry entries[REFUSED];
    struct atd_index *index = atd_index_memory_new_telling();
    struct atd_index *plain = atd_index_memory_new();
    struct atd_catalog *base;
    struct atd_catalog *after;
    struct atd_catalog *loaded;

    for (size_t i = 0; i < REFUSED; i++) {
        (void)snprintf(keys[i], sizeof(keys[i]), "c%zu", i);
        entries[i] = (struct atd_index_entry){.cid = atd_str_from(keys[i]),
                                              .name = ATD_STR("n"),
                                              .schema_ref = ATD_STR(""),
                                              .data_urls = {urls[4], url_lengths[4]}};
    }
    atd_index_memory_set(index, entries, REFUSED, NULL, 0, NULL, 0);
    base = load(index, 1);
    cr_expect_eq(atd_catalog_problem_count(base), REFUSED);
    cr_expect_eq(atd_catalog_problem_kept(base), ATD_PROBLEMS_KEPT_MAX);
    atd_index_memory_set(index, entries + 600, REFUSED - 600, NULL, 0, NULL, 0);
    atd_index_memory_set(plain, entries + 600, REFUSED - 600, NULL, 0, NULL, 0);
    after = apply(index, base);
    loaded = load(plain, 2);
    cr_expect_eq(atd_catalog_problem_count(after), REFUSED - 600);
    cr_expect_eq(atd_catalog_problem_kept(after), REFUSED - 600);
    same_catalogs(after, loaded, NULL, 0);
    atd_catalog_unref(base);
    atd_catalog_unref(after);
    atd_catalog_unref(loaded);
    atd_index_free(index);
    atd_index_free(plain);
}

/* Texts that no generation needs any more do not pile up. */
Test(catalog_apply, texts_are_copied_together_before_most_are_dead)
{
    static uint8_t note[40000];
    struct atd_index_entry entries[3] = {[2] = {.cid = ATD_STR("c"),
                                                .name = ATD_STR("n"),
                                                .schema_ref = ATD_STR("r"),
                                                .data_urls = {urls[0], url_lengths[0]},
                                                .metadata = {note, sizeof(note)}}};
    struct atd_index *index = atd_index_memory_new_telling();
    struct atd_catalog *catalog = load(index, 1);

    /* {"k": "..."} */
    memcpy(note, "\x81\xa1k\xda", 4);
    note[4] = (uint8_t)((sizeof(note) - 6) >> 8);
    note[5] = (uint8_t)(sizeof(note) - 6);
    for (size_t i = 0; i < 500; i++) {
        struct atd_catalog *before = catalog;

        /* Two records, as the one before is compared with the one after. */
        entries[i % 2] = entries[2];
        entries[i % 2].created_at =
            i % 2 ? ATD_STR("2026-01-01 00:00:00") : ATD_STR("2026-01-02 00:00:00");
        atd_index_memory_set(index, &entries[i % 2], 1, NULL, 0, NULL, 0);
        catalog = apply(index, before);
        cr_assert_eq(atd_catalog_entry_count(catalog), 1);
        cr_assert_eq(atd_entry_metadata(atd_catalog_entry_at(catalog, 0)).len, sizeof(note));
        cr_assert_leq(atd_texts_used_bytes(catalog->texts), 3u << 19);
        atd_catalog_unref(before);
    }
    atd_catalog_unref(catalog);
    atd_index_free(index);
}

/* Of those that many rows may share nobody knows which are dead. */
Test(catalog_apply, texts_that_are_shared_do_not_pile_up)
{
    static char long_ref[40000];
    struct atd_index_entry entry = {.cid = ATD_STR("c"),
                                    .name = ATD_STR("n"),
                                    .schema_ref = {long_ref, sizeof(long_ref)},
                                    .data_urls = {urls[0], url_lengths[0]}};
    struct atd_index_label label = {
        .name = {long_ref, sizeof(long_ref)}, .version = ATD_STR("1"), .cid = ATD_STR("c")};
    struct atd_index_entry entries[2];
    struct atd_index_label labels[2];
    struct atd_index *index = atd_index_memory_new_telling();
    struct atd_catalog *catalog = load(index, 1);
    size_t most = 0;

    memset(long_ref, 'r', sizeof(long_ref));
    for (size_t i = 0; i < 500; i++) {
        struct atd_catalog *before = catalog;
        static char texts[2][sizeof(long_ref)];
        char *text = texts[i % 2];

        memcpy(text, long_ref, sizeof(long_ref));
        (void)snprintf(text, 16, "%zu", i);
        entries[i % 2] = entry;
        entries[i % 2].schema_ref.ptr = text;
        labels[i % 2] = label;
        labels[i % 2].name.ptr = text;
        atd_index_memory_set(index, &entries[i % 2], 1, &labels[i % 2], 1, NULL, 0);
        catalog = apply(index, before);
        cr_assert_eq(atd_catalog_entry_count(catalog), 1);
        cr_assert_eq(atd_catalog_label_count(catalog), 1);
        if (atd_texts_used_bytes(catalog->texts) > most)
            most = atd_texts_used_bytes(catalog->texts);
        atd_catalog_unref(before);
    }
    cr_assert_leq(most, (size_t)2 << 20);
    atd_catalog_unref(catalog);
    atd_index_free(index);
}

Test(catalog_apply, is_what_a_load_gives)
{
    struct met met = {0};

    make_texts();
    for (uint64_t seed = 1; seed <= 4; seed++)
        check_seed(seed, &met);
    cr_expect_gt(met.compactions, 0);
    cr_expect_gt(met.hidden_entries, 0);
    cr_expect_gt(met.hidden_labels, 0);
    cr_expect_gt(met.hidden_schemas, 0);
    cr_expect_gt(met.hidden_datasets, 0);
    cr_expect_gt(met.superseded, 0);
    cr_expect_gt(met.ambiguous, 0);
    cr_expect_gt(met.refused, 0);
}
