/*
 * Building a catalog: collect what the provider reports, drop what is unsound (and say so), sort,
 * resolve, fingerprint.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "atdata/entry.h"
#include "atdata/schema.h"
#include "atdata/schema_ref.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/limits.h"
#include "catalog/generation.h"
#include "codec/file_name.h"

/* The texts of one generation; 100,000 datasets need about 50 MB. */
#define CATALOG_BYTES_MAX ((size_t)8 << 30)
/* ".json", the longer of the suffixes that a schema's stem is shown with. */
#define SCHEMA_SUFFIX ".json"

struct builder {
    struct atd_catalog *catalog;
    size_t entry_cap;
    size_t label_cap;
    size_t schema_cap;
};

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "the catalog needs more memory than there is");
}

void atd_catalog_note_problem(struct atd_catalog *catalog, const char *what, struct atd_str key,
                              const char *reason)
{
    struct atd_problem *problems;

    catalog->problem_count++;
    if (catalog->problem_kept == ATD_PROBLEMS_KEPT_MAX)
        return;
    /* Only the start of a key of megabytes is of use to anybody. */
    if (key.len > 256)
        key.len = 256;
    problems = realloc(catalog->problems, (catalog->problem_kept + 1) * sizeof(*problems));
    if (!problems)
        return;
    catalog->problems = problems;
    problems[catalog->problem_kept] = (struct atd_problem){
        .what = what,
        .key = atd_arena_str(&catalog->arena, key),
        .reason = atd_arena_str(&catalog->arena, atd_str_from(reason)),
    };
    if (problems[catalog->problem_kept].key.ptr && problems[catalog->problem_kept].reason.ptr)
        catalog->problem_kept++;
}

/* Room for one more element of a table that grows by half. */
static void *grow(void *table, size_t count, size_t *cap, size_t size)
{
    size_t wanted;
    void *grown;

    if (count < *cap)
        return table;
    wanted = *cap + *cap / 2 + 64;
    if (wanted >= ATD_NONE)
        return NULL;
    grown = reallocarray(table, wanted, size);
    if (grown)
        *cap = wanted;
    return grown;
}

static int64_t seconds_of(struct atd_str created_at)
{
    int64_t seconds;

    return created_at.ptr && atd_clock_parse(created_at, &seconds) ? seconds : 0;
}

/* A copy in the arena; NULL stays NULL. False when out of memory. */
static bool keep(struct atd_catalog *catalog, struct atd_str from, struct atd_str *ret_copy)
{
    *ret_copy = (struct atd_str){NULL, 0};
    if (!from.ptr)
        return true;
    *ret_copy = atd_arena_str(&catalog->arena, from);
    return ret_copy->ptr != NULL;
}

static bool keep_bytes(struct atd_catalog *catalog, struct atd_bytes from, struct atd_bytes *ret)
{
    struct atd_str copy;
    bool kept = keep(catalog, atd_bytes_str(from), &copy);

    *ret = atd_str_bytes(copy);
    return kept;
}

/*
 * The file name of `name`, in the arena; the name itself when it needs no change.
 * `identity` gives the characters that follow a cut.
 */
static bool keep_file_name(struct atd_catalog *catalog, struct atd_str name,
                           struct atd_str identity, const char *suffix, struct atd_str *ret_name)
{
    atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);

    if (!*suffix && atd_file_name_is_plain(name)) {
        *ret_name = name;
        return true;
    }
    atd_file_name_encode(name, identity, atd_str_from(suffix), &buf);
    if (buf.failed)
        return false;
    atd_assert(buf.len > 0 && buf.len <= ATD_FILE_NAME_MAX);
    return keep(catalog, atd_str_head(atd_buf_str(&buf), buf.len - strlen(suffix)), ret_name);
}

static bool names_fit(struct atd_catalog *catalog, const char *what, struct atd_str key,
                      struct atd_str a, struct atd_str b)
{
    char reason[96];

    if (a.len <= ATD_NAME_BYTES_MAX && b.len <= ATD_NAME_BYTES_MAX)
        return true;
    (void)snprintf(reason, sizeof(reason), "a name is longer than %u bytes", ATD_NAME_BYTES_MAX);
    atd_catalog_note_problem(catalog, what, key, reason);
    return false;
}

static int add_entry(void *ctx, const struct atd_index_entry *from, struct atd_error *err)
{
    struct builder *builder = ctx;
    struct atd_catalog *catalog = builder->catalog;
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_catalog_entry entry = {.schema = ATD_NONE};
    bool no_metadata = false;
    size_t url_count = 0;
    void *grown;

    if (!names_fit(catalog, "entry", from->cid, from->name, from->cid) ||
        !names_fit(catalog, "entry", from->cid, from->schema_ref, from->cid))
        return 0;
    if (atd_urls_check(from->data_urls, &url_count, &why) != 0 ||
        (from->metadata.ptr && atd_metadata_check(from->metadata, &no_metadata, &why) != 0)) {
        atd_catalog_note_problem(catalog, "entry", from->cid, why.text);
        return 0;
    }
    grown = grow(catalog->entries, catalog->entry_count, &builder->entry_cap, sizeof(entry));
    if (!grown)
        return no_memory(err);
    catalog->entries = grown;
    if (!keep(catalog, from->cid, &entry.cid) || !keep(catalog, from->name, &entry.name) ||
        !keep(catalog, from->schema_ref, &entry.schema_ref) ||
        !keep_bytes(catalog, from->data_urls, &entry.data_urls) ||
        !keep_bytes(catalog, no_metadata ? (struct atd_bytes){NULL, 0} : from->metadata,
                    &entry.metadata) ||
        !keep_file_name(catalog, entry.cid, entry.cid, "", &entry.file_name))
        return no_memory(err);
    entry.url_count = (uint32_t)url_count;
    entry.created_at_s = seconds_of(from->created_at);
    catalog->entries[catalog->entry_count++] = entry;
    return 0;
}

/* "NAME@VERSION", in the arena. */
static bool keep_versioned(struct atd_catalog *catalog, struct atd_str name, struct atd_str version,
                           struct atd_str *ret_whole)
{
    atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);

    atd_buf_append_str(&buf, name);
    atd_buf_append_byte(&buf, '@');
    atd_buf_append_str(&buf, version);
    return !buf.failed && keep(catalog, atd_buf_str(&buf), ret_whole);
}

static int add_label(void *ctx, const struct atd_index_label *from, struct atd_error *err)
{
    struct builder *builder = ctx;
    struct atd_catalog *catalog = builder->catalog;
    struct atd_catalog_label label = {.entry = ATD_NONE};
    struct atd_str whole;
    void *grown;

    if (!names_fit(catalog, "label", from->name, from->name, from->version) ||
        !names_fit(catalog, "label", from->name, from->cid, from->cid))
        return 0;
    grown = grow(catalog->labels, catalog->label_count, &builder->label_cap, sizeof(label));
    if (!grown)
        return no_memory(err);
    catalog->labels = grown;
    if (!keep(catalog, from->name, &label.name) || !keep(catalog, from->version, &label.version) ||
        !keep(catalog, from->cid, &label.cid) ||
        !keep(catalog, from->description, &label.description) ||
        !keep(catalog, from->created_at, &label.created_at))
        return no_memory(err);
    if (label.version.len > 0 && (!keep_versioned(catalog, label.name, label.version, &whole) ||
                                  !keep_file_name(catalog, whole, label.cid, "", &label.file_name)))
        return no_memory(err);
    label.created_at_s = seconds_of(from->created_at);
    catalog->labels[catalog->label_count++] = label;
    return 0;
}

/* A schema has no CID: the digest of its name tells cut file names apart. */
static bool keep_stem(struct atd_catalog *catalog, struct atd_str whole, struct atd_str *ret_stem)
{
    uint8_t digest[ATD_SHA256_BYTES];
    char hex[17];

    atd_sha256_of(whole.ptr, whole.len, digest);
    for (size_t i = 0; i < 8; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return keep_file_name(catalog, whole, atd_str_from(hex), SCHEMA_SUFFIX, ret_stem);
}

static int add_schema(void *ctx, const struct atd_index_schema *from, struct atd_error *err)
{
    struct builder *builder = ctx;
    struct atd_catalog *catalog = builder->catalog;
    atd_auto_arena struct atd_arena scratch = ATD_ARENA_INIT(8 * (size_t)ATD_SCHEMA_BYTES_MAX);
    struct atd_catalog_schema schema = {0};
    const struct atd_schema *decoded;
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_str whole;
    ptrdiff_t dot;
    void *grown;

    if (!names_fit(catalog, "schema", from->name, from->name, from->version) ||
        !keep_versioned(catalog, from->name, from->version, &whole))
        return 0;
    if (atd_schema_decode(from->json, &scratch, &decoded, &why) != 0) {
        atd_catalog_note_problem(catalog, "schema", whole, why.text);
        return 0;
    }
    grown = grow(catalog->schemas, catalog->schema_count, &builder->schema_cap, sizeof(schema));
    if (!grown)
        return no_memory(err);
    catalog->schemas = grown;
    if (!keep(catalog, from->name, &schema.name) ||
        !keep(catalog, from->version, &schema.version) ||
        !keep_bytes(catalog, from->json, &schema.json) || !keep_stem(catalog, whole, &schema.stem))
        return no_memory(err);
    dot = atd_str_find_last(schema.name, '.');
    schema.bare = atd_str_from_byte(schema.name, (size_t)(dot + 1));
    schema.created_at_s = seconds_of(from->created_at);
    if (!schema.created_at_s)
        schema.created_at_s = seconds_of(decoded->created_at);
    catalog->schemas[catalog->schema_count++] = schema;
    return 0;
}

static void add_problem(void *ctx, const char *what, struct atd_str key, const char *reason)
{
    struct builder *builder = ctx;

    atd_catalog_note_problem(builder->catalog, what, key, reason);
}

static int by_entry_file_name(const void *a, const void *b)
{
    return atd_str_compare(((const struct atd_catalog_entry *)a)->file_name,
                           ((const struct atd_catalog_entry *)b)->file_name);
}

static int by_label_name(const void *a, const void *b)
{
    const struct atd_catalog_label *left = a;
    const struct atd_catalog_label *right = b;
    int order = atd_str_compare(left->name, right->name);

    return order ? order : atd_str_compare(left->version, right->version);
}

static int by_stem(const void *a, const void *b)
{
    return atd_str_compare(((const struct atd_catalog_schema *)a)->stem,
                           ((const struct atd_catalog_schema *)b)->stem);
}

static int compare_entry_names(const void *a, const void *b, void *ctx)
{
    const struct atd_catalog *catalog = ctx;
    const struct atd_catalog_entry *left = &catalog->entries[*(const uint32_t *)a];
    const struct atd_catalog_entry *right = &catalog->entries[*(const uint32_t *)b];
    int order = atd_str_compare(left->name, right->name);

    return order ? order : atd_str_compare(left->cid, right->cid);
}

static int compare_label_cids(const void *a, const void *b, void *ctx)
{
    const struct atd_catalog *catalog = ctx;
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    int order = atd_str_compare(catalog->labels[left].cid, catalog->labels[right].cid);

    return order ? order : (left > right) - (left < right);
}

static int compare_label_files(const void *a, const void *b, void *ctx)
{
    const struct atd_catalog *catalog = ctx;

    return atd_str_compare(catalog->labels[*(const uint32_t *)a].file_name,
                           catalog->labels[*(const uint32_t *)b].file_name);
}

static int compare_schema_bares(const void *a, const void *b, void *ctx)
{
    const struct atd_catalog *catalog = ctx;
    const struct atd_catalog_schema *left = &catalog->schemas[*(const uint32_t *)a];
    const struct atd_catalog_schema *right = &catalog->schemas[*(const uint32_t *)b];
    int order = atd_str_compare(left->bare, right->bare);

    if (order == 0)
        order = atd_str_compare(left->version, right->version);
    /* The undotted name first: the one every release can get (ATDATA-FORMATS 1.3). */
    if (order == 0)
        order = (left->name.len > right->name.len) - (left->name.len < right->name.len);
    return order ? order : atd_str_compare(left->name, right->name);
}

/* A sorted table of places 0..count-1; NULL when out of memory. count 0 gives one element. */
static uint32_t *sorted_places(struct atd_catalog *catalog, size_t count,
                               int (*compare)(const void *, const void *, void *))
{
    uint32_t *places = reallocarray(NULL, count ? count : 1, sizeof(*places));

    if (!places)
        return NULL;
    for (size_t i = 0; i < count; i++)
        places[i] = (uint32_t)i;
    qsort_r(places, count, sizeof(*places), compare, catalog);
    return places;
}

/* Sorts a table by file name; of equal ones the last reported stays (a re-read of one key). */
static size_t sort_unique(void *table, size_t count, size_t size,
                          int (*compare)(const void *, const void *))
{
    uint8_t *bytes = table;
    size_t kept = 0;

    if (count == 0)
        return 0;
    qsort(table, count, size, compare);
    for (size_t i = 1; i < count; i++) {
        if (compare(bytes + kept * size, bytes + i * size) != 0)
            kept++;
        if (kept != i)
            memcpy(bytes + kept * size, bytes + i * size, size);
    }
    return kept + 1;
}

/* Labels that point at no entry are left out, as Python's get_label raises for them. */
static void join_labels(struct atd_catalog *catalog)
{
    for (size_t i = 0; i < catalog->label_count; i++) {
        struct atd_catalog_label *label = &catalog->labels[i];
        atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
        const struct atd_catalog_entry *entry;

        atd_file_name_encode(label->cid, label->cid, ATD_STR(""), &buf);
        entry = buf.failed ? NULL : atd_catalog_find_entry(catalog, atd_buf_str(&buf));
        if (entry && atd_str_equal(entry->cid, label->cid)) {
            label->entry = entry->number;
        } else {
            label->file_name = (struct atd_str){NULL, 0};
            atd_catalog_note_problem(catalog, "label", label->name,
                                     "it points at a CID that no sound entry has");
        }
    }
}

static void join_schema(struct atd_catalog *catalog, struct atd_catalog_entry *entry)
{
    struct atd_schema_ref ref;
    size_t low = 0;
    size_t high = catalog->schema_count;

    if (atd_schema_ref_parse(entry->schema_ref, &ref, NULL) != 0 || ref.form == ATD_REF_NETWORK)
        return;
    /* The first of (bare name, version) in the sorted places. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct atd_catalog_schema *schema =
            &catalog->schemas[catalog->schemas_by_bare[middle]];
        int order = atd_str_compare(schema->bare, ref.name);

        if (order == 0)
            order = atd_str_compare(schema->version, ref.version);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < catalog->schema_count) {
        const struct atd_catalog_schema *schema = &catalog->schemas[catalog->schemas_by_bare[low]];

        if (atd_str_equal(schema->bare, ref.name) && atd_str_equal(schema->version, ref.version))
            entry->schema = catalog->schemas_by_bare[low];
    }
}

static void digest_text(struct atd_sha256 *sha, struct atd_str s)
{
    uint64_t len = s.ptr ? s.len : UINT64_MAX;

    atd_sha256_add(sha, &len, sizeof(len));
    atd_sha256_add(sha, s.ptr, s.len);
}

/* Everything that the entry's directory shows but for what is on the disk. */
static bool fingerprint_entry(struct atd_catalog *catalog, struct atd_catalog_entry *entry)
{
    atd_auto_sha256 struct atd_sha256 *sha = atd_sha256_new();
    uint8_t digest[ATD_SHA256_BYTES];

    if (!sha)
        return false;
    digest_text(sha, entry->cid);
    digest_text(sha, entry->name);
    digest_text(sha, entry->schema_ref);
    digest_text(sha, atd_bytes_str(entry->data_urls));
    digest_text(sha, atd_bytes_str(entry->metadata));
    atd_sha256_add(sha, &entry->created_at_s, sizeof(entry->created_at_s));
    if (entry->schema != ATD_NONE) {
        digest_text(sha, catalog->schemas[entry->schema].stem);
        digest_text(sha, atd_bytes_str(catalog->schemas[entry->schema].json));
        atd_sha256_add(sha, &catalog->schemas[entry->schema].created_at_s, sizeof(int64_t));
    }
    for (size_t i = 0; i < entry->label_count; i++) {
        const struct atd_catalog_label *label = atd_catalog_label_of(catalog, entry, i);

        digest_text(sha, label->name);
        digest_text(sha, label->version);
        digest_text(sha, label->description);
        digest_text(sha, label->created_at);
    }
    atd_sha256_finish(sha, digest);
    memcpy(entry->fingerprint, digest, sizeof(entry->fingerprint));
    return true;
}

static int join_entries(struct atd_catalog *catalog, struct atd_error *err)
{
    for (size_t i = 0; i < catalog->entry_count; i++)
        join_schema(catalog, &catalog->entries[i]);
    for (size_t at = 0; at < catalog->label_count;) {
        uint32_t number = catalog->labels[catalog->labels_by_cid[at]].entry;
        size_t end = at;

        while (end < catalog->label_count &&
               catalog->labels[catalog->labels_by_cid[end]].entry == number)
            end++;
        if (number != ATD_NONE) {
            catalog->entries[number].first_label = (uint32_t)at;
            catalog->entries[number].label_count = (uint32_t)(end - at);
        }
        at = end;
    }
    for (size_t i = 0; i < catalog->entry_count; i++) {
        if (!fingerprint_entry(catalog, &catalog->entries[i]))
            return no_memory(err);
    }
    return 0;
}

/* Labels whose names were cut can share a file name: the first in order keeps it. */
static void drop_equal_label_files(struct atd_catalog *catalog)
{
    size_t kept = 0;

    for (size_t i = 0; i < catalog->shown_label_count; i++) {
        struct atd_catalog_label *label = &catalog->labels[catalog->shown_labels[i]];

        if (kept > 0 && atd_str_equal(catalog->labels[catalog->shown_labels[kept - 1]].file_name,
                                      label->file_name))
            atd_catalog_note_problem(catalog, "label", label->name,
                                     "another label's file name is the same");
        else
            catalog->shown_labels[kept++] = catalog->shown_labels[i];
    }
    catalog->shown_label_count = kept;
}

static int show_labels(struct atd_catalog *catalog, struct atd_error *err)
{
    catalog->shown_labels =
        reallocarray(NULL, catalog->label_count + 1, sizeof(*catalog->shown_labels));
    if (!catalog->shown_labels)
        return no_memory(err);
    for (size_t i = 0; i < catalog->label_count; i++) {
        if (catalog->labels[i].file_name.len)
            catalog->shown_labels[catalog->shown_label_count++] = (uint32_t)i;
    }
    qsort_r(catalog->shown_labels, catalog->shown_label_count, sizeof(*catalog->shown_labels),
            compare_label_files, catalog);
    drop_equal_label_files(catalog);
    return 0;
}

static int finish(struct atd_catalog *catalog, struct atd_error *err)
{
    int rc;

    catalog->entry_count = sort_unique(catalog->entries, catalog->entry_count,
                                       sizeof(*catalog->entries), by_entry_file_name);
    catalog->label_count =
        sort_unique(catalog->labels, catalog->label_count, sizeof(*catalog->labels), by_label_name);
    catalog->schema_count =
        sort_unique(catalog->schemas, catalog->schema_count, sizeof(*catalog->schemas), by_stem);
    for (size_t i = 0; i < catalog->entry_count; i++)
        catalog->entries[i].number = (uint32_t)i;
    join_labels(catalog);
    catalog->entries_by_name = sorted_places(catalog, catalog->entry_count, compare_entry_names);
    catalog->labels_by_cid = sorted_places(catalog, catalog->label_count, compare_label_cids);
    catalog->schemas_by_bare = sorted_places(catalog, catalog->schema_count, compare_schema_bares);
    catalog->shard_lists = calloc(catalog->entry_count + 1, sizeof(struct atd_shard_list *));
    if (!catalog->entries_by_name || !catalog->labels_by_cid || !catalog->schemas_by_bare ||
        !catalog->shard_lists)
        return no_memory(err);
    rc = join_entries(catalog, err);
    if (rc == 0)
        rc = show_labels(catalog, err);
    if (rc == 0)
        rc = atd_catalog_resolve_names(catalog, err);
    return rc;
}

int atd_catalog_apply(struct atd_catalog *base, struct atd_index *index, uint64_t generation,
                      struct atd_catalog **ret_catalog, struct atd_error *err)
{
    (void)base;
    return atd_catalog_load(index, generation, ret_catalog, err);
}

int atd_catalog_load(struct atd_index *index, uint64_t generation, struct atd_catalog **ret_catalog,
                     struct atd_error *err)
{
    struct builder builder = {.catalog = calloc(1, sizeof(struct atd_catalog))};
    const struct atd_index_sink sink = {&builder,   add_entry, add_label,
                                        add_schema, NULL,      add_problem};
    struct atd_catalog *catalog = builder.catalog;
    int rc;

    if (!catalog)
        return no_memory(err);
    atomic_init(&catalog->refs, 1);
    atd_arena_init(&catalog->arena, CATALOG_BYTES_MAX);
    atd_lock_init(&catalog->shards_lock, ATD_RANK_SHARDS);
    catalog->generation = generation;
    catalog->loaded_at_s = (int64_t)time(NULL);
    rc = atd_index_load(index, &sink, err);
    if (rc == 0)
        rc = finish(catalog, err);
    if (rc) {
        atd_catalog_unref(catalog);
        return rc;
    }
    *ret_catalog = catalog;
    return 0;
}
