#include <criterion/criterion.h>
#include <errno.h>

#include "base/cleanup.h"
#include "index/writer.h"

#define S(literal) ATD_STR(literal)

static const uint8_t urls[] = "\x90";
#define NO_URLS \
    {           \
        urls, 1 \
    }

struct seen {
    size_t entries;
    size_t labels;
    size_t schemas;
};

static int on_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    (void)entry;
    (void)err;
    ((struct seen *)ctx)->entries++;
    return 0;
}

static int on_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    (void)label;
    (void)err;
    ((struct seen *)ctx)->labels++;
    return 0;
}

static int on_schema(void *ctx, const struct atd_index_schema *schema, struct atd_error *err)
{
    (void)schema;
    (void)err;
    ((struct seen *)ctx)->schemas++;
    return 0;
}

static struct seen look(struct atd_index *index)
{
    struct seen seen = {0};
    const struct atd_index_sink sink = {
        .ctx = &seen, .entry = on_entry, .label = on_label, .schema = on_schema};

    cr_assert_eq(atd_index_load(index, &sink, NULL), 0);
    return seen;
}

static struct atd_index_operation put_entry(const char *cid, const char *name,
                                            enum atd_index_expect expect)
{
    struct atd_index_operation operation = {
        .action = ATD_INDEX_PUT_ENTRY, .kind = ATD_INDEX_ENTRY, .expect = expect};

    operation.before.entry = (struct atd_index_entry){
        .cid = atd_str_from(cid), .name = S("old"), .schema_ref = S("r"), .data_urls = NO_URLS};
    operation.after.entry = operation.before.entry;
    operation.after.entry.name = atd_str_from(name);
    return operation;
}

static struct atd_index_operation put_label(const char *cid, struct atd_str description)
{
    struct atd_index_operation operation = {.action = ATD_INDEX_PUT_LABEL, .kind = ATD_INDEX_LABEL};

    operation.after.label = (struct atd_index_label){.name = S("n"),
                                                     .version = S(""),
                                                     .cid = atd_str_from(cid),
                                                     .description = description,
                                                     .created_at = S("t")};
    operation.before.label = operation.after.label;
    return operation;
}

Test(memory_writer, changes_all_or_nothing_and_the_load_shows_it)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_index *index = atd_index_memory_new();
    struct atd_index_writer *writer;
    struct atd_index_operation operations[3];
    struct atd_index_entry entry;
    size_t which = 99;

    cr_assert_eq(atd_index_memory_writer(index, &writer, NULL), 0);
    cr_assert_eq(atd_index_writer_check(writer, NULL), 0);
    (void)look(index);
    cr_assert_not(atd_index_changed(index));
    operations[0] = put_entry("c1", "one", ATD_INDEX_ABSENT);
    operations[1] = put_label("c1", (struct atd_str){NULL, 0});
    operations[2] = put_entry("c2", "two", ATD_INDEX_SAME);
    cr_assert_eq(atd_index_commit(writer, operations, 3, &which, NULL), -ESTALE);
    cr_assert_eq(which, 2);
    cr_assert_eq(look(index).entries, 0);
    cr_assert_eq(atd_index_commit(writer, operations, 2, &which, NULL), 0);
    cr_assert(atd_index_changed(index));
    cr_assert_eq(look(index).entries, 1);
    cr_assert_eq(look(index).labels, 1);
    cr_assert_eq(atd_index_read_entry(writer, S("c1"), &arena, &entry, NULL), 0);
    cr_assert(atd_str_equal(entry.name, S("one")));
    cr_assert_null(entry.metadata.ptr);
    cr_assert_eq(atd_index_read_entry(writer, S("c2"), &arena, &entry, NULL), -ENOENT);
    cr_assert_eq(atd_index_commit(writer, operations, 1, &which, NULL), -ESTALE, "it is there now");
    atd_index_writer_free(writer);
    atd_index_free(index);
}

Test(memory_writer, sets_deletes_and_keeps_descriptions)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    static const uint8_t metadata[] = "\x80";
    struct atd_index *index = atd_index_memory_new();
    struct atd_index_writer *writer;
    struct atd_index_operation operation = put_entry("c1", "old", ATD_INDEX_ABSENT);
    struct atd_index_entry entry;
    struct atd_index_label label;

    cr_assert_eq(atd_index_memory_writer(index, &writer, NULL), 0);
    cr_assert_eq(atd_index_commit(writer, &operation, 1, NULL, NULL), 0);
    operation.action = ATD_INDEX_SET_ENTRY_METADATA;
    operation.expect = ATD_INDEX_SAME;
    operation.after.entry.metadata = (struct atd_bytes){metadata, 1};
    cr_assert_eq(atd_index_commit(writer, &operation, 1, NULL, NULL), 0);
    /* No metadata is another thing than an empty map. */
    cr_assert_eq(atd_index_commit(writer, &operation, 1, NULL, NULL), -ESTALE);
    operation.before.entry.metadata = operation.after.entry.metadata;
    operation.action = ATD_INDEX_SET_ENTRY_NAME;
    operation.after.entry.name = S("new");
    cr_assert_eq(atd_index_commit(writer, &operation, 1, NULL, NULL), 0);
    cr_assert_eq(atd_index_read_entry(writer, S("c1"), &arena, &entry, NULL), 0);
    cr_assert(atd_str_equal(entry.name, S("new")));
    cr_assert_eq(entry.metadata.len, 1);
    operation = put_label("c1", S("text"));
    cr_assert_eq(atd_index_commit(writer, &operation, 1, NULL, NULL), 0);
    operation = put_label("c2", (struct atd_str){NULL, 0});
    cr_assert_eq(atd_index_commit(writer, &operation, 1, NULL, NULL), 0);
    cr_assert_eq(atd_index_read_label(writer, S("n"), S(""), &arena, &label, NULL), 0);
    cr_assert(atd_str_equal(label.description, S("text")));
    cr_assert(atd_str_equal(label.cid, S("c2")));
    operation.action = ATD_INDEX_DELETE_LABEL;
    operation.expect = ATD_INDEX_SAME;
    operation.before.label.cid = S("c1");
    cr_assert_eq(atd_index_commit(writer, &operation, 1, NULL, NULL), -ESTALE);
    operation.before.label.cid = S("c2");
    cr_assert_eq(atd_index_commit(writer, &operation, 1, NULL, NULL), 0);
    cr_assert_eq(look(index).labels, 0);
    /* Half a record must not come to be. */
    operation = put_entry("c9", "x", ATD_INDEX_ANY);
    operation.action = ATD_INDEX_SET_ENTRY_NAME;
    cr_assert_eq(atd_index_commit(writer, &operation, 1, NULL, NULL), -ESTALE);
    atd_index_writer_free(writer);
    atd_index_free(index);
}
