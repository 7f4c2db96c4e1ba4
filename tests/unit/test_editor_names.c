#include "editor_rig.h"

/* ------------------------------------------------------------------ schemas */

Test(editor_names, a_schema_is_taken_found_again_or_counted_up)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result result;
    struct atd_schema other = schema_of("D", "1.0.0", "number");
    struct atd_schema same;

    rig_open(&rig);
    WORKS(atd_edit_publish_schema(rig.editor, &other, err));
    WORKS(atd_edit_publish_schema(rig.editor, &other, err));
    cr_assert_eq(rig.hook.commits, 1);
    same = schema_of("D", "1.0.0", "letter");
    FAILS(EEXIST, atd_edit_publish_schema(rig.editor, &same, err));
    rig_refresh(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &result, err));
    cr_assert_str_eq(result.schema_ref, "atdata://local/schema/D@1.0.1");
    rig_refresh(&rig);
    /* Another dataset whose class has the same name and fields. */
    WORKS(rig_add(rig.editor, "D", "a.tar", 'a', &result, err));
    cr_assert_str_eq(result.schema_ref, "atdata://local/schema/D@1.0.1");
    /* The catalog does not know the next one yet. */
    other = schema_of("D", "1.0.2", "other");
    WORKS(atd_edit_publish_schema(rig.editor, &other, err));
    other = schema_of("D", "1.0.0", "third");
    WORKS(atd_edit_set_schema(rig.editor, S("d"), &other, &result, err));
    cr_assert_str_eq(result.schema_ref, "atdata://local/schema/D@1.0.3");
    rows_expect(&rig, "d", "s3://b/d/a.tar");
    WORKS(atd_edit_set_schema(rig.editor, S("d"), &other, &result, err));
    cr_assert_str_eq(result.schema_ref, "atdata://local/schema/D@1.0.3");
    cr_assert(result.was_there);
    rows_take(&rig, &rows);
    cr_assert_eq(rows.schema_count, 4);
    rows_release(&rows);
    FAILS(ENOENT, atd_edit_set_schema(rig.editor, S("none"), &other, &result, err));
    rig_close(&rig);
}

Test(editor_names, versions_are_counted_as_python_counts)
{
    static const char json[] = "{\"name\": \"C\", \"version\": \"1\", \"fields\": []}";
    const struct atd_bytes record = {(const uint8_t *)json, sizeof(json) - 1};
    const struct atd_index_schema schemas[] = {
        {.name = S("C"), .version = S("1.0.9"), .json = record},
        {.name = S("m.C"), .version = S("1.0.10"), .json = record},
        {.name = S("C"), .version = S("v9.0.0"), .json = record},
        {.name = S("Big"), .version = S("1.2.99999999999999999999"), .json = record},
    };
    struct rig rig;
    char version[64];

    rig_open(&rig);
    atd_index_memory_set(rig.index, NULL, 0, NULL, 0, schemas, 4);
    rig_refresh(&rig);
    atd_edit_next_version(rig.editor, S("C"), version);
    cr_assert_str_eq(version, "1.0.11");
    atd_edit_next_version(rig.editor, S("None"), version);
    cr_assert_str_eq(version, "1.0.0");
    atd_edit_next_version(rig.editor, S("Big"), version);
    cr_assert_str_eq(version, "1.3.0");
    rig_close(&rig);
}

Test(editor_names, a_schema_that_python_cannot_decode_is_refused)
{
    static const char *const names[] = {"a.B", "1x", "class", "", "_x y"};
    static const char *const versions[] = {"", "1@2", "1/2", "1 0", "\n"};
    struct atd_field fields[2];
    struct atd_schema schema = schema_of("Good", "1.0.0", "x");

    WORKS(atd_edit_schema_check(&schema, err));
    for (size_t i = 0; i < 5; i++) {
        schema = schema_of(names[i], "1.0.0", "x");
        FAILS(EINVAL, atd_edit_schema_check(&schema, err));
        schema = schema_of("Good", versions[i], "x");
        FAILS(EINVAL, atd_edit_schema_check(&schema, err));
    }
    schema = schema_of("Good", "1.0.0", "_x");
    FAILS(EINVAL, atd_edit_schema_check(&schema, err));
    schema.field_count = 0;
    FAILS(EINVAL, atd_edit_schema_check(&schema, err));
    fields[0] = schema_of("A", "1", "optional").fields[0];
    fields[0].optional = true;
    fields[1] = schema_of("A", "1", "required").fields[0];
    schema = (struct atd_schema){
        .name = S("A"), .version = S("1.0.0"), .fields = fields, .field_count = 2};
    FAILS(EINVAL, atd_edit_schema_check(&schema, err));
}

Test(editor_names, a_shard_without_schema_gets_one_or_is_refused)
{
    struct rig rig;
    struct atd_schema_inferrer *nothing = atd_schema_inferrer_new();
    struct atd_schema_inferrer *number = rig_seen("cls");
    struct atd_edit_shard shard = {
        .record = {.url = S("s3://b/n/x.tar"), .samples = -1, .mtime_ns = INT64_MIN}};
    struct atd_schema chosen = schema_of("Chosen", "2.0.0", "x");
    struct atd_edit_result result;

    rig_open(&rig);
    FAILS(EINVAL, atd_edit_add_shard(rig.editor, S("n"), S("x.tar"), &shard, &result, err));
    shard.seen = nothing;
    WORKS(atd_edit_add_shard(rig.editor, S("n"), S("x.tar"), &shard, &result, err));
    cr_assert_str_eq(result.schema_ref, "atdata://local/schema/N@1.0.0");
    shard.schema = &chosen;
    WORKS(atd_edit_add_shard(rig.editor, S("m"), S("x.tar"), &shard, &result, err));
    cr_assert_str_eq(result.schema_ref, "atdata://local/schema/Chosen@2.0.0");
    /* Somebody else's shard gave the dataset its schema while this one was copied. */
    shard.schema = NULL;
    shard.seen = number;
    shard.record.url = S("s3://b/m/y.tar");
    FAILS(EINVAL, atd_edit_add_shard(rig.editor, S("m"), S("y.tar"), &shard, &result, err));
    rows_expect(&rig, "m", "s3://b/n/x.tar");
    shard.seen = NULL; /* it was inspected with the schema */
    WORKS(atd_edit_add_shard(rig.editor, S("m"), S("y.tar"), &shard, &result, err));
    atd_schema_inferrer_free(nothing);
    atd_schema_inferrer_free(number);
    rig_close(&rig);
}

/* ------------------------------------------------------------------ names and labels */

Test(editor_names, another_name_takes_labels_and_former_entries_along)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;
    struct atd_edit_result second;
    char former[256];

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &first, err));
    rig_refresh(&rig);
    WORKS(atd_edit_label(rig.editor, S("d"), S("1.0.0"), atd_str_from(first.cid.text), err));
    rig_refresh(&rig);
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', &second, err));
    rig_refresh(&rig);
    WORKS(rig_add(rig.editor, "d", "c.tar", 'c', NULL, err));
    rig_refresh(&rig);
    WORKS(rig_add(rig.editor, "x", "x.tar", 'x', NULL, err));
    rig_refresh(&rig);
    FAILS(EEXIST, atd_edit_rename(rig.editor, S("d"), S("x"), err));
    FAILS(ENOENT, atd_edit_rename(rig.editor, S("none"), S("y"), err));
    WORKS(atd_edit_rename(rig.editor, S("d"), S("e"), err));
    rows_expect(&rig, "d", NULL);
    rows_expect(&rig, "e", "s3://b/d/a.tar s3://b/d/b.tar s3://b/d/c.tar");
    rows_take(&rig, &rows);
    cr_assert_null(rows_label_of(&rows, "d", "1.0.0"));
    cr_assert(atd_str_equal(rows_label_of(&rows, "e", "1.0.0")->cid, atd_str_from(first.cid.text)));
    cr_assert_not_null(rows_named(&rows, "e@1.0.0", NULL));
    (void)snprintf(former, sizeof(former), "e@superseded:%s", second.cid.text);
    cr_assert_not_null(rows_named(&rows, former, NULL));
    rows_release(&rows);
    rig_refresh(&rig);
    {
        struct atd_catalog *catalog = atd_live_get(rig.live);

        cr_assert_eq(atd_catalog_dataset_count(catalog), 2);
        atd_catalog_unref(catalog);
    }
    rig_close(&rig);
}

Test(editor_names, labels_are_made_once_and_NAME_stays_the_latest)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;
    struct atd_edit_result second;
    struct atd_str cid;

    rig_open(&rig);
    FAILS(ENOENT, atd_edit_label(rig.editor, S("d"), S("1"), S("nothing"), err));
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &first, err));
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', &second, err));
    rig_refresh(&rig);
    cid = atd_str_from(first.cid.text);
    WORKS(atd_edit_label(rig.editor, S("d"), S("1.0.0"), cid, err));
    WORKS(atd_edit_label(rig.editor, S("d"), S("1.0.0"), cid, err));
    FAILS(EEXIST,
          atd_edit_label(rig.editor, S("d"), S("1.0.0"), atd_str_from(second.cid.text), err));
    rows_take(&rig, &rows);
    cr_assert_gt(atd_str_compare(rows_label_of(&rows, "d", "")->created_at,
                                 rows_label_of(&rows, "d", "1.0.0")->created_at),
                 0);
    /* It was superseded: now it is a version. */
    cr_assert(atd_str_equal(rows_named(&rows, "d@1.0.0", NULL)->cid, cid));
    rows_release(&rows);
    rig_refresh(&rig);
    /* Back to that version, and forward again. */
    WORKS(atd_edit_label(rig.editor, S("d"), S(""), cid, err));
    rows_expect(&rig, "d", "s3://b/d/a.tar");
    rig_refresh(&rig);
    WORKS(atd_edit_label(rig.editor, S("d"), S(""), atd_str_from(second.cid.text), err));
    rows_expect(&rig, "d", "s3://b/d/a.tar s3://b/d/b.tar");
    rows_take(&rig, &rows);
    cr_assert(atd_str_equal(rows_named(&rows, "d@1.0.0", NULL)->cid, cid));
    rows_release(&rows);
    rig_refresh(&rig);
    WORKS(atd_edit_remove_label(rig.editor, S("d"), S("1.0.0"), err));
    FAILS(ENOENT, atd_edit_remove_label(rig.editor, S("d"), S("1.0.0"), err));
    rig_refresh(&rig);
    {
        struct atd_catalog *catalog = atd_live_get(rig.live);

        cr_assert_eq(atd_catalog_dataset_count(catalog), 1, "the former version does not show");
        atd_catalog_unref(catalog);
    }
    rig_close(&rig);
}

Test(editor_names, a_dataset_is_removed_when_it_is_empty)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;
    struct atd_str a = S("s3://b/d/a.tar");

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &first, err));
    rig_refresh(&rig);
    FAILS(ENOTEMPTY, atd_edit_remove_dataset(rig.editor, S("d"), err));
    WORKS(atd_edit_label(rig.editor, S("d"), S("1"), atd_str_from(first.cid.text), err));
    rig_refresh(&rig);
    WORKS(atd_edit_remove_shards(rig.editor, S("d"), &a, 1, err));
    rig_refresh(&rig);
    FAILS(ENOTEMPTY, atd_edit_remove_dataset(rig.editor, S("d"), err));
    WORKS(atd_edit_remove_label(rig.editor, S("d"), S("1"), err));
    rig_refresh(&rig);
    WORKS(atd_edit_remove_dataset(rig.editor, S("d"), err));
    rows_take(&rig, &rows);
    cr_assert_eq(rows.label_count, 0);
    cr_assert_eq(rows.entry_count, 0, "what we superseded went along");
    rows_release(&rows);
    rig_refresh(&rig);
    FAILS(ENOENT, atd_edit_remove_dataset(rig.editor, S("d"), err));
    rig_close(&rig);
}

/* ------------------------------------------------------------------ tidying */

/* Each commit that deletes fails a list of the library that is under way. */
Test(editor_names, superseded_entries_go_together)
{
    struct rig rig;
    struct rows rows;
    int64_t next_s;

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', NULL, err));
    for (int i = 0; i < 2; i++) {
        const char name[] = {(char)('b' + i), '.', 't', 'a', 'r', '\0'};

        WORKS(rig_add(rig.editor, "d", name, name[0], NULL, err));
        rig_refresh(&rig);
        WORKS(atd_edit_sweep(rig.editor, &next_s, err));
        rig.now_us += 2 * INT64_C(1000000);
    }
    rig.now_us += (ATD_SUPERSEDED_KEEP_S - 4) * INT64_C(1000000);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    cr_assert_eq(next_s, -1);
    rows_take(&rig, &rows);
    cr_assert_eq(rows.entry_count, 1);
    rows_release(&rows);
    rig_close(&rig);
}

Test(editor_names, superseded_entries_go_after_a_minute_unless_labelled_or_in_use)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;
    int64_t next_s;

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &first, err));
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', NULL, err));
    WORKS(rig_add(rig.editor, "d", "c.tar", 'c', NULL, err));
    rig_refresh(&rig);
    WORKS(atd_edit_label(rig.editor, S("d"), S("1"), atd_str_from(first.cid.text), err));
    rig_refresh(&rig);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    cr_assert_eq(next_s, ATD_SUPERSEDED_KEEP_S);
    rig.now_us += (ATD_SUPERSEDED_KEEP_S - 1) * INT64_C(1000000);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    cr_assert_eq(next_s, 1);
    rows_take(&rig, &rows);
    cr_assert_eq(rows.entry_count, 3);
    rows_release(&rows);
    rig.now_us += INT64_C(1000000);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    cr_assert_eq(next_s, -1);
    rows_take(&rig, &rows);
    cr_assert_eq(rows.entry_count, 2);
    cr_assert_not_null(rows_named(&rows, "d@1", NULL));
    rows_release(&rows);
    rows_expect(&rig, "d", "s3://b/d/a.tar s3://b/d/b.tar s3://b/d/c.tar");
    rig_close(&rig);
}

/* A label of any name keeps an entry, whatever that is called. */
Test(editor_names, a_superseded_entry_that_somebody_labelled_stays)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;
    int64_t next_s;

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &first, err));
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', NULL, err));
    WORKS(atd_edit_label(rig.editor, S("paper"), S("1"), atd_str_from(first.cid.text), err));
    rig_refresh(&rig);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    cr_assert_eq(next_s, -1);
    rig.now_us += ATD_SUPERSEDED_KEEP_S * INT64_C(1000000);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    rows_take(&rig, &rows);
    cr_assert_eq(rows.entry_count, 2);
    rows_release(&rows);
    rig_close(&rig);
}

/* What a publisher left that is gone by now: only when nothing is lost by it. */
Test(editor_names, the_sweep_deletes_for_others_only_what_the_successor_has)
{
    struct rig rig;
    struct rows rows;
    struct atd_editor *other;
    struct atd_str b = S("s3://b/d/b.tar");
    int64_t next_s;

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', NULL, err));
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', NULL, err));
    WORKS(atd_edit_remove_shards(rig.editor, S("d"), &b, 1,
                                 err));                       /* a+b is superseded, not covered */
    WORKS(rig_add(rig.editor, "d", "c.tar", 'c', NULL, err)); /* a is, and it is covered */
    rig_refresh(&rig);
    other = rig_editor(&rig, rig.hook.inner, false);
    WORKS(atd_edit_sweep(other, &next_s, err));
    rig.now_us += ATD_SUPERSEDED_KEEP_S * INT64_C(1000000);
    WORKS(atd_edit_sweep(other, &next_s, err));
    cr_assert_eq(next_s, -1);
    rows_take(&rig, &rows);
    cr_assert_eq(rows.entry_count, 2);
    rows_release(&rows);
    rows_expect(&rig, "d", "s3://b/d/a.tar s3://b/d/c.tar");
    atd_editor_free(other);
    rig_close(&rig);
}
