/*
 * atdatafs ls: the datasets of an index, or the shards of one.
 */
#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "commands.h"
#include "look.h"
#include "output.h"
#include "render.h"

/* A name's URLs, expanded. */
#define URLS_BYTES_MAX ((size_t)1 << 30)

static const struct command_usage usage = {
    .name = "ls",
    .synopsis = "[--names] [NAME | @local/NAME[@VERSION] | CID]",
    .about =
        "Lists the datasets of an index: shards, size, samples, schema, and since when it is as\n"
        "it is. No store is asked, so that a size or a number that only the objects would tell is\n"
        "a dash. With a dataset (or a label NAME@VERSION, or a CID): its shards.",
    .options = "  --names           only the names, one a line, as they are called in a mount\n",
    .examples = "  atdatafs ls\n"
                "  atdatafs ls mnist\n"
                "  atdatafs ls -i redis://index.example/0 --json | jq -r '.datasets[].name'\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON,
    .words_most = 1,
};

/* ------------------------------------------------------------------ what is known of a dataset */

struct facts {
    size_t shards;
    bool shards_known;
    uint64_t size_bytes;
    bool size_known;
    uint64_t samples;
    bool samples_known;
    int64_t updated_s; /* 0: unknown */
};

static void add_shards(const struct atd_shard_list *list, struct facts *facts)
{
    facts->shards = atd_shard_list_count(list);
    facts->shards_known = facts->size_known = facts->samples_known = !atd_shard_list_error(list);
    for (size_t i = 0; i < facts->shards; i++) {
        const struct atd_shard *shard = atd_shard_list_at(list, i);

        if (shard->error_code)
            facts->size_known = false;
        else
            facts->size_bytes += shard->size_bytes;
        if (shard->samples < 0)
            facts->samples_known = false;
        else
            facts->samples += (uint64_t)shard->samples;
    }
}

/* What a store would have to be asked for stays unknown. */
static int find_shards(struct look *look, const struct atd_catalog_entry *entry,
                       struct facts *facts, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(URLS_BYTES_MAX);
    struct atd_shard_list *list = NULL;
    struct atd_str *urls;
    int rc = atd_catalog_shards_look(look->catalog, entry, look->parts.locator, &list, err);

    if (rc == 0) {
        add_shards(list, facts);
        atd_shard_list_unref(list);
    } else if (rc == -EWOULDBLOCK) {
        rc =
            atd_catalog_shard_urls(entry, look->parts.locator, &arena, &urls, &facts->shards, NULL);
        facts->shards_known = rc == 0;
        rc = rc == -ENOMEM ? atd_error_set(err, ENOMEM, "out of memory") : 0;
    }
    return rc;
}

/* When the name began to mean this entry: its record's time, or its label's. */
static int64_t updated_s(const struct atd_catalog *catalog, const struct atd_dataset *dataset,
                         const struct atd_catalog_entry *entry)
{
    int64_t latest_s = entry->created_at_s;

    for (size_t i = 0; i < entry->label_count; i++) {
        const struct atd_catalog_label *label = atd_catalog_label_of(catalog, entry, i);
        int64_t at_s = atd_label_created_at_s(label);

        if (label->version_len == 0 && at_s > latest_s &&
            atd_str_equal(atd_label_name(label), atd_dataset_name(dataset)))
            latest_s = at_s;
    }
    return latest_s;
}

static int find_facts(struct look *look, const struct atd_dataset *dataset,
                      const struct atd_catalog_entry *entry, struct facts *ret_facts,
                      struct atd_error *err)
{
    *ret_facts = (struct facts){.updated_s = updated_s(look->catalog, dataset, entry)};
    return find_shards(look, entry, ret_facts, err);
}

/* ------------------------------------------------------------------ datasets */

/* "2026-11-24 18:40", in UTC. */
static void cell_time(struct output_table *table, int64_t seconds)
{
    char text[ATD_CLOCK_TEXT_MAX];

    if (seconds) {
        atd_clock_format(seconds, text);
        text[10] = ' ';
        text[16] = '\0';
    }
    output_cell_text(table, seconds ? OUTPUT_PLAIN : OUTPUT_FAINT, seconds ? text : "-");
}

/* "Class@1.0.0": what stands behind the last slash of a reference. */
static struct atd_str short_reference(const struct atd_catalog_entry *entry)
{
    struct atd_str ref = atd_entry_schema_ref(entry);

    return atd_str_from_byte(ref, (size_t)(atd_str_find_last(ref, '/') + 1));
}

static void put_row(struct output_table *table, const struct atd_dataset *dataset,
                    const struct atd_catalog_entry *entry, const struct facts *facts)
{
    output_cell(table, OUTPUT_STRONG, atd_dataset_name(dataset));
    output_cell_number(table, facts->shards_known, facts->shards);
    output_cell_size(table, facts->size_known, facts->size_bytes);
    output_cell_number(table, facts->samples_known, facts->samples);
    output_cell(table, OUTPUT_PLAIN, short_reference(entry));
    cell_time(table, facts->updated_s);
}

static void put_number(struct atd_json_writer *json, const char *key, bool known, uint64_t number)
{
    atd_json_key(json, key);
    if (known)
        atd_json_uint(json, number);
    else
        atd_json_null(json);
}

static void put_object(struct atd_json_writer *json, const struct atd_dataset *dataset,
                       const struct atd_catalog_entry *entry, const struct facts *facts)
{
    char text[ATD_CLOCK_TEXT_MAX];

    atd_json_object_begin(json);
    output_json_str(json, "name", atd_dataset_name(dataset));
    output_json_str(json, "file", atd_dataset_file_name(dataset));
    output_json_str(json, "cid", atd_entry_cid(entry));
    output_json_str(json, "schema_ref", atd_entry_schema_ref(entry));
    put_number(json, "shards", facts->shards_known, facts->shards);
    put_number(json, "size_bytes", facts->size_known, facts->size_bytes);
    put_number(json, "samples", facts->samples_known, facts->samples);
    if (facts->updated_s) {
        atd_clock_format(facts->updated_s, text);
        output_json_text(json, "updated", text);
    }
    atd_json_object_end(json);
}

static int list_datasets(struct look *look, struct output_table *table,
                         struct atd_json_writer *json, struct atd_error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < atd_catalog_dataset_count(look->catalog); i++) {
        const struct atd_dataset *dataset = atd_catalog_dataset_at(look->catalog, i);
        const struct atd_catalog_entry *entry = atd_catalog_entry_at(look->catalog, dataset->entry);
        struct facts facts;

        rc = find_facts(look, dataset, entry, &facts, err);
        if (rc == 0 && json)
            put_object(json, dataset, entry, &facts);
        else if (rc == 0)
            put_row(table, dataset, entry, &facts);
    }
    return rc;
}

static void list_names(struct look *look)
{
    for (size_t i = 0; i < atd_catalog_dataset_count(look->catalog); i++) {
        output_escape(&look->out, atd_dataset_file_name(atd_catalog_dataset_at(look->catalog, i)));
        atd_buf_append_byte(&look->out, '\n');
    }
}

/* ------------------------------------------------------------------ shards */

static void put_shard_row(struct output_table *table, const struct atd_shard *shard)
{
    bool is_there = shard->error_code == 0;

    output_cell(table, OUTPUT_STRONG, shard->file_name.len ? shard->file_name : shard->url);
    output_cell_size(table, is_there, shard->size_bytes);
    output_cell_number(table, shard->samples >= 0, (uint64_t)shard->samples);
    cell_time(table, is_there ? shard->mtime_s : 0);
    output_cell(table, OUTPUT_BAD, is_there ? ATD_STR("") : shard->reason);
}

static void put_shards(struct look *look, const struct atd_catalog_entry *entry,
                       const struct atd_shard_list *list)
{
    static const char *const titles[] = {"FILE", ">SIZE", ">SAMPLES", "MODIFIED", ""};
    struct output_table table;
    struct atd_json_writer json;

    if (!look->arguments->json) {
        output_table_init(&table, ATD_ARRAY_LEN(titles), titles);
        for (size_t i = 0; i < atd_shard_list_count(list); i++)
            put_shard_row(&table, atd_shard_list_at(list, i));
        output_table_end(&table, &look->out);
        output_table_release(&table);
        return;
    }
    atd_json_init(&json, &look->out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    output_json_str(&json, "name", atd_entry_name(entry));
    output_json_str(&json, "cid", atd_entry_cid(entry));
    atd_json_key(&json, "shards");
    atd_json_array_begin(&json);
    for (size_t i = 0; i < atd_shard_list_count(list); i++)
        render_shard(atd_shard_list_at(list, i), &json);
    atd_json_array_end(&json);
    atd_json_object_end(&json);
    atd_buf_append_byte(&look->out, '\n');
}

static int list_shards(struct look *look, const char *word, bool only_names, struct atd_error *err)
{
    const struct atd_catalog_entry *entry;
    const struct atd_dataset *dataset;
    struct atd_shard_list *list;
    int rc = look_find(look, word, &entry, &dataset, err);

    if (rc == 0)
        rc = atd_catalog_shards_get(look->catalog, entry, look->parts.locator, ATD_EFFORT_NETWORK,
                                    &list, err);
    if (rc)
        return rc;
    if (atd_shard_list_error(list)) {
        rc = atd_error_set(err, EINVAL, "'%.200s': %s", word, atd_shard_list_error(list));
    } else if (only_names) {
        for (size_t i = 0; i < atd_shard_list_count(list); i++) {
            output_escape(&look->out, atd_shard_list_at(list, i)->file_name);
            atd_buf_append_byte(&look->out, '\n');
        }
    } else {
        put_shards(look, entry, list);
    }
    atd_shard_list_unref(list);
    return rc;
}

static int run(struct look *look, struct atd_error *err)
{
    static const char *const titles[] = {"NAME",     ">SHARDS", ">SIZE",
                                         ">SAMPLES", "SCHEMA",  "UPDATED (UTC)"};
    const bool *only_names = look->own;
    struct output_table table;
    struct atd_json_writer json;
    int rc;

    if (look->arguments->word_count)
        return list_shards(look, look->arguments->words[0], *only_names, err);
    if (*only_names) {
        list_names(look);
        return 0;
    }
    output_table_init(&table, ATD_ARRAY_LEN(titles), titles);
    if (look->arguments->json) {
        atd_json_init(&json, &look->out, ATD_JSON_PRETTY);
        atd_json_object_begin(&json);
        atd_json_key(&json, "datasets");
        atd_json_array_begin(&json);
    }
    rc = list_datasets(look, &table, look->arguments->json ? &json : NULL, err);
    if (look->arguments->json) {
        atd_json_array_end(&json);
        atd_json_object_end(&json);
        atd_buf_append_byte(&look->out, '\n');
    } else {
        output_table_end(&table, &look->out);
    }
    output_table_release(&table);
    return rc;
}

int command_ls(int argc, char **argv)
{
    bool only_names = false;
    const struct argument_option own[] = {{.name = "--names", .flag = &only_names}};

    return look_main(&usage, argc, argv, own, ATD_ARRAY_LEN(own), run, &only_names);
}
