/*
 * What directories show while something is staged in them: the same through lookup and listing.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "events.h"
#include "layout.h"
#include "store/stores.h"
#include "support/publication_double.h"

/* A memory store that counts the LISTs. */
struct counting {
    struct atd_store base;
    struct atd_store *inner;
    unsigned asked;
};

static int counting_list(struct atd_store *base, struct atd_str prefix, struct atd_str after,
                         unsigned timeout_ms, atd_store_list_fn fn, void *ctx, bool *ret_more,
                         struct atd_error *err)
{
    struct counting *counting = (struct counting *)base;

    counting->asked++;
    return atd_store_list(counting->inner, prefix, after, timeout_ms, fn, ctx, ret_more, err);
}

static int counting_stat(struct atd_store *base, struct atd_str url, unsigned timeout_ms,
                         struct atd_object_info *ret_info, struct atd_error *err)
{
    struct counting *counting = (struct counting *)base;

    counting->asked++;
    return atd_store_stat(counting->inner, url, timeout_ms, ret_info, err);
}

static const struct atd_store_ops counting_ops = {
    .kind = "counting", .stat = counting_stat, .list = counting_list};

static struct counting counting;
static struct atd_object_table *table;
static struct options options;
static struct fs fs;
static struct atd_error err;
static char state[] = "/tmp/atd-layout-XXXXXX";

/* datasets/d: x.tar, y.tar and z.part; schemas/A@1.0.0. */
static const char urls[] = "\x93\xacs3://b/x.tar\xacs3://b/y.tar\xads3://b/z.part";
static const char schema_json[] =
    "{\"name\": \"A\", \"version\": \"1.0.0\", \"fields\": [{\"name\": "
    "\"x\", \"fieldType\": {\"$type\": \"local#primitive\", "
    "\"primitive\": \"int\"}, \"optional\": false}]}";

static void start(void)
{
    const struct atd_index_entry entry = {
        .cid = ATD_STR("cid1"),
        .name = ATD_STR("d"),
        .schema_ref = ATD_STR("atdata://local/schema/A@1.0.0"),
        .data_urls = {(const uint8_t *)urls, sizeof(urls) - 1},
    };
    const struct atd_index_schema schema = {
        .name = ATD_STR("A"),
        .version = ATD_STR("1.0.0"),
        .json = {(const uint8_t *)schema_json, sizeof(schema_json) - 1},
    };
    struct atd_locator_options locator = {
        .s3 = &counting.base, .s3_scope = "test", .timeout_ms = 1000};

    counting = (struct counting){.base = {&counting_ops}};
    cr_assert_eq(atd_store_memory_new(&counting.inner, NULL), 0);
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"s3://b/x.tar", "s3://b/y.tar", "s3://b/z.part"};

        cr_assert_eq(atd_store_memory_put(counting.inner, atd_str_from(names[i]),
                                          (struct atd_bytes){(const uint8_t *)urls, 5}, NULL),
                     0);
    }
    cr_assert_eq(atd_object_table_open(NULL, &table, NULL, NULL), 0);
    locator.table = table;
    fs = (struct fs){.options = &options, .started_at_s = 1000};
    options.umask = 022;
    fs.index = atd_index_memory_new();
    atd_index_memory_set(fs.index, &entry, 1, NULL, 0, &schema, 1);
    cr_assert_eq(atd_locator_new(&locator, &fs.locator, NULL), 0);
    cr_assert_eq(atd_live_open(&(struct atd_live_options){.index = fs.index, .locator = fs.locator},
                               &fs.live, &err),
                 0, "%s", err.text);
    fs.nodes = nodes_new();
    fs.events = events_new();
    fs.staging = staging_new();
    cr_assert(mkdtemp(state));
    cr_assert_eq(staging_load_datasets(fs.staging, state, &err), 0, "%s", err.text);
}

static void stop(void)
{
    char command[64];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", state);
    cr_assert_eq(system(command), 0);
    staging_free(fs.staging);
    cr_assert_eq(publication_double_count(), 0);
    events_free(fs.events);
    nodes_free(fs.nodes);
    cr_assert(atd_live_close(fs.live));
    cr_assert(atd_locator_free(fs.locator));
    atd_index_free(fs.index);
    atd_object_table_close(table);
    atd_store_free(counting.inner);
}

TestSuite(layout_staged, .init = start, .fini = stop);

static struct staged *add(enum node_kind directory, const char *subject, const char *leaf,
                          enum staged_kind kind, const char *text)
{
    const struct staged_place place = {directory, atd_str_from(subject), atd_str_from(leaf)};
    struct staged *staged = NULL;

    cr_assert_eq(staging_add(fs.staging, &place, kind, text ? publication_double_new(text) : NULL,
                             &staged, &err),
                 0, "%s", err.text);
    return staged;
}

static void put(enum node_kind directory, const char *subject, const char *leaf)
{
    staged_unref(fs.staging, add(directory, subject, leaf, STAGED_FILE, "bytes"));
}

/* The kind of what a lookup finds; -1: nothing. */
static int find(enum node_kind kind, const char *subject, const char *name, enum atd_effort effort,
                struct node **ret_node)
{
    struct view_names names;
    struct view view;
    struct item item;
    int found = -1;
    int rc =
        view_open_for(&fs, kind, atd_str_from(subject), atd_str_from(name), effort, &view, &err);

    if (rc)
        return rc == -ENOENT ? -1 : rc;
    if (view_find(&fs, &view, atd_str_from(name), &names, &item)) {
        found = (int)item.kind;
        if (ret_node)
            *ret_node = nodes_remember(fs.nodes, &item);
    }
    view_close(&view);
    return found;
}

static int found(enum node_kind kind, const char *subject, const char *name)
{
    return find(kind, subject, name, ATD_EFFORT_NETWORK, NULL);
}

/* What a listing shows; each name must be what a lookup finds, too. */
static void expect_names(enum node_kind kind, const char *subject, const char *expected)
{
    char text[1024] = "";
    struct view_names names;
    struct view view;
    struct item item;

    cr_assert_eq(
        view_open(&fs, kind, atd_str_from(subject), VIEW_SHARDS, ATD_EFFORT_NETWORK, &view, &err),
        0, "%s", err.text);
    for (size_t i = 0; i < view_count(&view); i++) {
        char name[256];

        if (!view_at(&fs, &view, i, &names, &item))
            continue;
        (void)snprintf(name, sizeof(name), "%.*s", (int)item.leaf.len, item.leaf.ptr);
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", text[0] ? " " : "",
                       name);
        cr_assert_eq(found(kind, subject, name), (int)item.kind, "'%s'", name);
    }
    cr_assert_str_eq(text, expected);
    view_close(&view);
}

#define RECORDS "schema.json schema.py schema.jsonschema metadata.json entry.json"

Test(layout_staged, nothing_staged_is_as_it_was)
{
    expect_names(NODE_DATASETS, "", "d");
    expect_names(NODE_DATASET, "d", RECORDS " x.tar y.tar z.part");
    expect_names(NODE_CID, "cid1", RECORDS " x.tar y.tar z.part");
    expect_names(NODE_SCHEMAS, "", "A@1.0.0.json A@1.0.0.py A@1.0.0.jsonschema");
}

Test(layout_staged, staged_names_go_before_the_catalogs_and_show_once)
{
    const struct staged_place failed = {NODE_DATASET, ATD_STR("d"), ATD_STR("b.tar")};

    put(NODE_DATASET, "d", "x.tar");
    put(NODE_DATASET, "d", ".a.tar.a1b2c3");
    put(NODE_DATASET, "d", "schema.json");
    put(NODE_SCHEMAS, "", "A@1.0.0.json");
    staging_put_note(fs.staging, &failed, "why");
    expect_names(
        NODE_DATASET, "d",
        ".a.tar.a1b2c3 b.tar.error.txt schema.json x.tar schema.py schema.jsonschema metadata.json "
        "entry.json y.tar z.part");
    expect_names(NODE_SCHEMAS, "", "A@1.0.0.json A@1.0.0.py A@1.0.0.jsonschema");
    cr_assert_eq(found(NODE_DATASET, "d", "x.tar"), NODE_STAGED);
    cr_assert_eq(found(NODE_DATASET, "d", "schema.json"), NODE_STAGED);
    cr_assert_eq(found(NODE_SCHEMAS, "", "A@1.0.0.json"), NODE_STAGED);
    expect_names(NODE_CID, "cid1", RECORDS " x.tar y.tar z.part");
}

Test(layout_staged, hidden_shards_show_in_by_cid_only)
{
    cr_assert_eq(staging_hide(fs.staging, ATD_STR("d"), ATD_STR("x.tar"), ATD_STR("u"), &err), 0);
    expect_names(NODE_DATASET, "d", RECORDS " y.tar z.part");
    cr_assert_eq(found(NODE_DATASET, "d", "x.tar"), -1);
    cr_assert_eq(found(NODE_CID, "cid1", "x.tar"), NODE_SHARD);
    put(NODE_DATASET, "d", "x.tar");
    expect_names(NODE_DATASET, "d", "x.tar " RECORDS " y.tar z.part");
}

Test(layout_staged, no_store_is_asked_for_what_is_no_shards_name)
{
    static const char *const names[] = {
        ".X.tar.a1b2c3", "X.tar.part", ".Trash-1000", ".hidden",      ".directory",
        ".~tmp~",        "4913",       "X.tar",       "schema.json~", ".goutputstream-AB12CD"};

    put(NODE_DATASET, "d", "X.tar");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int kind = find(NODE_DATASET, "d", names[i], ATD_EFFORT_DISK, NULL);

        cr_assert_eq(kind, strcmp(names[i], "X.tar") == 0 ? NODE_STAGED : -1, "'%s': %d", names[i],
                     kind);
        /* What begins with a dot, or is staged, is answered from memory. */
        if (names[i][0] == '.' || strcmp(names[i], "X.tar") == 0)
            cr_assert_neq(find(NODE_DATASET, "d", names[i], ATD_EFFORT_MEMORY, NULL), -EWOULDBLOCK,
                          "'%s'", names[i]);
    }
    cr_assert_eq(counting.asked, 0);
    cr_assert_eq(find(NODE_DATASET, "d", "w.tar", ATD_EFFORT_DISK, NULL), -EWOULDBLOCK);
    /* Unless a shard is called so. */
    cr_assert_eq(find(NODE_DATASET, "d", "z.part", ATD_EFFORT_DISK, NULL), -EWOULDBLOCK);
    cr_assert_eq(found(NODE_DATASET, "d", "z.part"), NODE_SHARD);
    cr_assert_gt(counting.asked, 0);
}

Test(layout_staged, a_dataset_without_a_shard_is_a_directory)
{
    cr_assert_eq(found(NODE_DATASETS, "", "e"), -1);
    cr_assert_eq(staging_add_dataset(fs.staging, ATD_STR("e"), &err), 0);
    cr_assert_eq(staging_add_dataset(fs.staging, ATD_STR("d"), &err), 0); /* no doubles */
    expect_names(NODE_DATASETS, "", "d e");
    expect_names(NODE_DATASET, "e", "");
    cr_assert_eq(found(NODE_DATASET, "e", "x.tar"), -1);
    cr_assert_eq(found(NODE_DATASET, "e", "entry.json"), -1);
    put(NODE_DATASET, "e", "x.tar");
    cr_assert_eq(staging_put_record(fs.staging, ATD_STR("e"), STAGED_SCHEMA,
                                    atd_str_bytes(ATD_STR("{\"a\": 1}")), &err),
                 0);
    expect_names(NODE_DATASET, "e", "x.tar schema.json");
    {
        atd_auto_buf struct atd_buf text = ATD_BUF_INIT(100);
        struct view view;

        cr_assert_eq(view_open(&fs, NODE_DATASET, ATD_STR("e"), VIEW_RECORDS, ATD_EFFORT_MEMORY,
                               &view, &err),
                     0);
        cr_assert_eq(view_render(&fs, &view, NODE_SCHEMA_JSON, ATD_STR("schema.json"), &text, &err),
                     0);
        cr_assert(atd_str_equal(atd_buf_str(&text), ATD_STR("{\"a\": 1}")));
        cr_assert_eq(view_render(&fs, &view, NODE_ENTRY, ATD_STR("entry.json"), &text, &err),
                     -ENOENT);
        cr_assert_null(view_shard(&view, ATD_STR("x.tar")));
        view_close(&view);
    }
    cr_assert(staging_remove_dataset(fs.staging, ATD_STR("e")));
    cr_assert_eq(found(NODE_DATASET, "e", "x.tar"), -1);
}

Test(layout_staged, a_scratch_directory_shows_what_is_in_it)
{
    struct node *node = NULL;
    struct node *file = NULL;
    enum node_kind kind;
    struct atd_str subject;
    char path[800];

    cr_assert_eq(found(NODE_STAGED_DIR, "d/.~tmp~", "x.tar"), -1);
    staged_unref(fs.staging, add(NODE_DATASET, "d", ".~tmp~", STAGED_DIR, NULL));
    staged_unref(fs.staging, add(NODE_DATASET, "d", ".other", STAGED_DIR, NULL));
    put(NODE_STAGED_DIR, "d", ".~tmp~/b.tar");
    put(NODE_STAGED_DIR, "d", ".~tmp~/a.tar");
    put(NODE_STAGED_DIR, "d", ".other/c.tar");
    cr_assert_eq(find(NODE_DATASET, "d", ".~tmp~", ATD_EFFORT_MEMORY, &node), NODE_STAGED_DIR);
    cr_assert(node_kind_is_directory(node->kind));
    cr_assert(atd_str_equal(node_subject(node), ATD_STR("d/.~tmp~")));
    cr_assert_eq(nodes_number_of_directory(fs.nodes, NODE_STAGED_DIR, ATD_STR("d/.~tmp~")),
                 node->number);
    node_directory(node, &kind, &subject);
    cr_assert(kind == NODE_DATASET && atd_str_equal(subject, ATD_STR("d")));
    layout_path(&fs, node, path, sizeof(path));
    cr_assert_str_eq(path, "datasets/d/.~tmp~");
    expect_names(NODE_STAGED_DIR, "d/.~tmp~", "a.tar b.tar");
    expect_names(NODE_STAGED_DIR, "d/.other", "c.tar");
    cr_assert_eq(find(NODE_STAGED_DIR, "d/.~tmp~", "a.tar", ATD_EFFORT_MEMORY, &file), NODE_STAGED);
    layout_path(&fs, file, path, sizeof(path));
    cr_assert_str_eq(path, "datasets/d/.~tmp~/a.tar");
}

Test(layout_staged, a_file_keeps_its_node_through_renames_and_its_st_ino_when_it_becomes_a_shard)
{
    struct staged *staged = add(NODE_DATASET, "d", ".x.tar.a1b2c3", STAGED_FILE, "12345678");
    const struct staged_place to = {NODE_DATASET, ATD_STR("d"), ATD_STR("x.tar")};
    struct node *before = NULL;
    struct node *after = NULL;
    struct node *shard = NULL;
    struct stat st;
    struct stat shard_st;
    char path[800];

    cr_assert_eq(find(NODE_DATASET, "d", ".x.tar.a1b2c3", ATD_EFFORT_MEMORY, &before), NODE_STAGED);
    cr_assert_eq(staging_rename(fs.staging, staged, &to, &err), 0);
    cr_assert_eq(find(NODE_DATASET, "d", "x.tar", ATD_EFFORT_MEMORY, &after), NODE_STAGED);
    cr_assert_eq(before, after);
    layout_path(&fs, after, path, sizeof(path));
    cr_assert_str_eq(path, "datasets/d/x.tar");
    cr_assert(layout_stat(&fs, after, &st));
    cr_assert_eq(st.st_size, 8);
    cr_assert_eq(st.st_mode, S_IFREG | 0644);
    cr_assert_eq(st.st_nlink, 1);
    staging_set_mode(fs.staging, staged, 0600);
    cr_assert(layout_stat(&fs, after, &st));
    cr_assert_eq(st.st_mode, S_IFREG | 0600);

    cr_assert(staging_remove(fs.staging, staged));
    cr_assert_eq(find(NODE_DATASET, "d", "x.tar", ATD_EFFORT_NETWORK, &shard), NODE_SHARD);
    cr_assert_neq(shard->number, after->number);
    cr_assert(layout_stat(&fs, shard, &shard_st));
    cr_assert_eq(shard_st.st_ino, st.st_ino);
    cr_assert(layout_stat(&fs, after, &st)); /* somebody has it open */
    cr_assert_eq(st.st_nlink, 0);
    staged_unref(fs.staging, staged);
    cr_assert_not(layout_stat(&fs, after, &st));
}

Test(layout_staged, records_keep_their_st_ino_while_they_are_written)
{
    static const char *const names[] = {"schema.json", "metadata.json"};
    struct node *record = NULL;
    struct node *staged = NULL;
    struct stat st;

    for (size_t i = 0; i < 2; i++) {
        cr_assert_neq(find(NODE_DATASET, "d", names[i], ATD_EFFORT_MEMORY, &record), -1);
        put(NODE_DATASET, "d", names[i]);
        cr_assert_eq(find(NODE_DATASET, "d", names[i], ATD_EFFORT_MEMORY, &staged), NODE_STAGED);
        cr_assert(layout_stat(&fs, staged, &st));
        cr_assert_eq(st.st_ino, record->st_ino, "%s", names[i]);
    }
    cr_assert_neq(find(NODE_SCHEMAS, "", "A@1.0.0.json", ATD_EFFORT_MEMORY, &record), -1);
    put(NODE_SCHEMAS, "", "A@1.0.0.json");
    cr_assert_eq(find(NODE_SCHEMAS, "", "A@1.0.0.json", ATD_EFFORT_MEMORY, &staged), NODE_STAGED);
    cr_assert(layout_stat(&fs, staged, &st));
    cr_assert_eq(st.st_ino, record->st_ino);
}

static mode_t mode_at(enum node_kind kind, const char *subject, const char *name)
{
    struct node *node = NULL;
    struct stat st;

    cr_assert_geq(find(kind, subject, name, ATD_EFFORT_NETWORK, &node), 0, "%s", name);
    cr_assert(layout_stat(&fs, node, &st));
    return st.st_mode & 0777;
}

Test(layout_staged, modes_say_what_can_be_written)
{
    const struct staged_place failed = {NODE_DATASET, ATD_STR("d"), ATD_STR("b.tar")};

    staging_put_note(fs.staging, &failed, "why");
    cr_assert_eq(mode_at(NODE_ROOT, "", "datasets"), 0755);
    cr_assert_eq(mode_at(NODE_DATASET, "d", "schema.json"), 0444);
    fs.publisher = (struct atd_publisher *)&fs; /* only looked at */
    cr_assert_eq(mode_at(NODE_ROOT, "", "datasets"), 0755);
    cr_assert_eq(mode_at(NODE_ROOT, "", "labels"), 0755);
    cr_assert_eq(mode_at(NODE_ROOT, "", "schemas"), 0755);
    cr_assert_eq(mode_at(NODE_ROOT, "", "by-cid"), 0555);
    cr_assert_eq(mode_at(NODE_ROOT, "", ".atdatafs"), 0555);
    cr_assert_eq(mode_at(NODE_DATASETS, "", "d"), 0755);
    cr_assert_eq(mode_at(NODE_BY_CID, "", "cid1"), 0555);
    cr_assert_eq(mode_at(NODE_DATASET, "d", "schema.json"), 0644);
    cr_assert_eq(mode_at(NODE_DATASET, "d", "metadata.json"), 0644);
    cr_assert_eq(mode_at(NODE_DATASET, "d", "entry.json"), 0444);
    cr_assert_eq(mode_at(NODE_DATASET, "d", "x.tar"), 0444);
    cr_assert_eq(mode_at(NODE_DATASET, "d", "b.tar.error.txt"), 0444);
    cr_assert_eq(mode_at(NODE_CID, "cid1", "schema.json"), 0444);
    cr_assert_eq(mode_at(NODE_SCHEMAS, "", "A@1.0.0.json"), 0444);
}

Test(layout_staged, a_view_knows_when_it_is_out_of_date)
{
    struct view view;
    struct view top;

    cr_assert_eq(
        view_open(&fs, NODE_DATASET, ATD_STR("d"), VIEW_SHARDS, ATD_EFFORT_NETWORK, &view, &err),
        0);
    cr_assert_eq(
        view_open(&fs, NODE_BY_CID, ATD_STR(""), VIEW_SHARDS, ATD_EFFORT_NETWORK, &top, &err), 0);
    cr_assert(view_is_settled(&view));
    put(NODE_DATASET, "d", "x.tar");
    cr_assert_not(view_is_settled(&view));
    cr_assert(view_is_settled(&top));
    view_close(&view);
    view_close(&top);
}
