#include "editor_rig.h"

#define CLASS_REF "atdata://local/schema/D@1.0.0"

/* ------------------------------------------------------------------ shards */

Test(editor, a_new_dataset_gets_schema_entry_and_label_at_once)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result result;
    const struct atd_index_label *label;
    char json[4096];

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &result, err));
    cr_assert_eq(rig.hook.commits, 1);
    cr_assert(result.is_new_dataset);
    cr_assert_not(result.was_there);
    cr_assert_str_eq(result.schema_ref, CLASS_REF);
    rows_expect(&rig, "d", "s3://b/d/a.tar");
    rows_take(&rig, &rows);
    cr_assert_eq(rows.schema_count, 1);
    cr_assert(atd_str_equal(rows.schemas[0].name, S("D")));
    cr_assert(atd_str_equal(rows.entries[0].cid, atd_str_from(result.cid.text)));
    label = rows_label_of(&rows, "d", "");
    cr_assert(atd_str_equal(label->created_at, S("2026-09-21T14:13:20.000000+00:00")), ATD_STR_FMT,
              ATD_STR_ARG(label->created_at));
    rows_release(&rows);
    rows_metadata(&rig, "d", json);
    cr_assert_not_null(strstr(json, "\"samples\": 3"));
    cr_assert_not_null(strstr(json, "\"s3://b/d/a.tar\": \"aaaaaaaa"));
    rig_close(&rig);
}

Test(editor, the_predecessor_is_renamed_and_the_label_later)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;
    struct atd_edit_result second;
    char superseded[256];

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &first, err));
    rig_refresh(&rig);
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', &second, err));
    cr_assert_not(second.is_new_dataset);
    cr_assert_eq(rig.hook.commits, 2);
    rows_expect(&rig, "d", "s3://b/d/a.tar s3://b/d/b.tar");
    (void)snprintf(superseded, sizeof(superseded), "d@superseded:%s", first.cid.text);
    rows_take(&rig, &rows);
    cr_assert_eq(rows.entry_count, 2);
    cr_assert_not_null(rows_named(&rows, superseded, NULL));
    /* The clock stood still. */
    cr_assert(atd_str_equal(rows_label_of(&rows, "d", "")->created_at,
                            S("2026-09-21T14:13:20.000001+00:00")));
    rows_release(&rows);
    rig_close(&rig);
}

/* The order does not count; the library's own CIDs (libipld, atdata 0.7). */
Test(editor, the_same_files_in_any_order_give_the_cid_that_python_computes)
{
    static const unsigned char orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1},
                                              {1, 3, 0, 2}, {0, 2, 1, 3}, {3, 0, 1, 2}};

    for (size_t i = 0; i < 2 * sizeof(orders) / sizeof(orders[0]); i++) {
        bool universal = i % 2;
        struct rig rig;
        struct atd_editor *editor;
        struct atd_edit_result result;

        rig_open(&rig);
        editor = rig_editor(&rig, &rig.hook.base, universal);
        for (size_t j = 0; j < 4; j++) {
            char url[64];
            char file[32];
            struct atd_schema_inferrer *seen = rig_seen("txt");
            struct atd_edit_shard shard = {.record = {.samples = -1, .mtime_ns = INT64_MIN},
                                           .seen = seen};

            (void)snprintf(file, sizeof(file), "data-00000%d.tar", orders[i / 2][j]);
            (void)snprintf(url, sizeof(url), "s3://b/p/mnist-train/%s", file);
            shard.record.url = atd_str_from(url);
            WORKS(atd_edit_add_shard(editor, S("mnist-train"), atd_str_from(file), &shard, &result,
                                     err));
            atd_schema_inferrer_free(seen);
            if (i % 3 == 0)
                rig_refresh(&rig);
        }
        cr_assert_str_eq(result.cid.text,
                         universal ? "bafyreie7wdu2dawqabssdrqxgegnqkkxrc777oj472yws6wsjlfkoyzg6i"
                                   : "bafyreihlwy5k2z7vitzzcwohmarxrhmm2mggj4cx5cpocmcfkmdn5f6llm");
        atd_editor_free(editor);
        rig_close(&rig);
    }
}

Test(editor, the_same_shard_again_changes_its_record_alone)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;
    struct atd_edit_result again;

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &first, err));
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &again, err));
    cr_assert(again.was_there);
    cr_assert_str_eq(again.cid.text, first.cid.text);
    cr_assert_eq(rig.hook.commits, 1, "there was nothing to change");
    WORKS(rig_add(rig.editor, "d", "a.tar", 'c', &again, err));
    cr_assert(again.was_there);
    cr_assert_eq(rig.hook.commits, 2);
    rows_take(&rig, &rows);
    cr_assert_eq(rows.entry_count, 1);
    cr_assert(atd_str_equal(rows.entries[0].cid, atd_str_from(first.cid.text)));
    rows_release(&rows);
    rig_close(&rig);
}

Test(editor, a_name_that_is_taken_at_another_url)
{
    struct rig rig;
    struct atd_edit_result result;
    struct atd_edit_shard shard = {
        .record = {.url = S("s3://other/x/a.tar"), .samples = -1, .mtime_ns = INT64_MIN}};

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', NULL, err));
    memset(shard.record.sha256, 'b', 64);
    FAILS(EEXIST, atd_edit_add_shard(rig.editor, S("d"), S("a.tar"), &shard, &result, err));
    memset(shard.record.sha256, 'a', 64);
    WORKS(atd_edit_add_shard(rig.editor, S("d"), S("a.tar"), &shard, &result, err));
    cr_assert(result.was_there);
    rows_expect(&rig, "d", "s3://b/d/a.tar");
    /* In the place of the old one it may come. */
    memset(shard.record.sha256, 'b', 64);
    shard.replaces = S("s3://b/d/a.tar");
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', NULL, err));
    WORKS(atd_edit_add_shard(rig.editor, S("d"), S("a.tar"), &shard, &result, err));
    rows_expect(&rig, "d", "s3://other/x/a.tar s3://b/d/b.tar");
    {
        char json[4096];

        rows_metadata(&rig, "d", json);
        cr_assert_null(strstr(json, "s3://b/d/a.tar"));
    }
    rig_close(&rig);
}

Test(editor, shards_are_taken_out_also_of_a_pattern)
{
    static const struct atd_str pattern[] = {{"s3://b/p/x-{0..2}.tar", 21}, {"s3://b/p/y.tar", 14}};
    atd_auto_buf struct atd_buf urls = ATD_BUF_INIT(1024);
    struct rig rig;
    struct atd_str gone[] = {S("s3://b/p/x-1.tar"), S("s3://b/p/nothing.tar")};
    struct atd_index_entry entry = {
        .cid = S("foreign"), .name = S("p"), .schema_ref = S(CLASS_REF)};

    rig_open(&rig);
    atd_urls_encode(pattern, 2, &urls);
    entry.data_urls = atd_buf_bytes(&urls);
    atd_index_memory_set(rig.index, &entry, 1, NULL, 0, NULL, 0);
    rig_refresh(&rig);
    WORKS(atd_edit_remove_shards(rig.editor, S("p"), &gone[1], 1, err));
    cr_assert_eq(rig.hook.commits, 0);
    WORKS(atd_edit_remove_shards(rig.editor, S("p"), gone, 2, err));
    rows_expect(&rig, "p", "s3://b/p/x-0.tar s3://b/p/x-2.tar s3://b/p/y.tar");
    /* A shard inside a pattern is listed. */
    WORKS(atd_edit_set_mtime(rig.editor, S("p"), S("s3://b/p/y.tar"), 77, err));
    FAILS(ENOENT, atd_edit_set_mtime(rig.editor, S("p"), gone[0], 77, err));
    rig_close(&rig);
}

Test(editor, going_back_to_an_earlier_state_takes_its_entry_again)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;
    struct atd_str b = S("s3://b/d/b.tar");

    rig_open_with_two(&rig, &first);
    WORKS(atd_edit_remove_shards(rig.editor, S("d"), &b, 1, err));
    rows_expect(&rig, "d", "s3://b/d/a.tar");
    rows_take(&rig, &rows);
    cr_assert(atd_str_equal(rows_named(&rows, "d", NULL)->cid, atd_str_from(first.cid.text)));
    rows_release(&rows);
    rig_close(&rig);
}

/* ------------------------------------------------------------------ others of the name */

#define FOREIGN_CID "bafyreiffffffffffffffffffffffffffffffffffffffffffffffffffff"

Test(editor, what_python_left_under_the_name_is_renamed_and_kept)
{
    static const uint8_t one[] = "\x91\xab/data/x.tar";
    static const uint8_t users[] = "\x81\xa1k\xa1v";
    static const uint8_t two[] = "\x91\xab/data/y.tar";
    const struct atd_index_entry entries[] = {
        {.cid = S("c1"), .name = S("d"), .schema_ref = S(CLASS_REF), .data_urls = {one, 13}},
        {.cid = S("c2"), .name = S("d"), .schema_ref = S(CLASS_REF), .data_urls = {two, 13}},
        {.cid = S(FOREIGN_CID),
         .name = S("d"),
         .schema_ref = S(CLASS_REF),
         .data_urls = {two, 13},
         .metadata = {users, 5}},
    };
    const struct atd_index_label labels[] = {
        {.name = S("d"), .version = S("1.0.0"), .cid = S("c1")},
        {.name = S("d"),
         .version = S(""),
         .cid = S("c2"),
         .description = S("text"),
         .created_at = S("2030-01-01T00:00:00.5+00:00")},
    };
    struct rig rig;
    struct rows rows;
    int64_t next_s;

    rig_open(&rig);
    atd_index_memory_set(rig.index, entries, 3, labels, 2, NULL, 0);
    rig_refresh(&rig);
    WORKS(rig_add(rig.editor, "d", "z.tar", 'z', NULL, err));
    rows_expect(&rig, "d", "/data/y.tar s3://b/d/z.tar");
    rows_take(&rig, &rows);
    cr_assert(atd_str_equal(rows_named(&rows, "d@1.0.0", NULL)->cid, S("c1")));
    cr_assert(atd_str_equal(rows_named(&rows, "d@superseded:c2", NULL)->cid, S("c2")));
    cr_assert(
        atd_str_equal(rows_named(&rows, "d@superseded:" FOREIGN_CID, NULL)->cid, S(FOREIGN_CID)));
    cr_assert(atd_str_equal(rows_label_of(&rows, "d", "")->description, S("text")));
    cr_assert(atd_str_equal(rows_label_of(&rows, "d", "")->created_at,
                            S("2030-01-01T00:00:00.500001+00:00")));
    rows_release(&rows);
    /* Not ours, though all that they list is there: they stay for ever. */
    rig_refresh(&rig);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    rig.now_us += 3600 * INT64_C(1000000);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    rows_take(&rig, &rows);
    cr_assert_eq(rows.entry_count, 4);
    rows_release(&rows);
    rig_close(&rig);
}

Test(editor, a_label_that_leads_nowhere_is_mended_by_name)
{
    static const uint8_t one[] = "\x91\xab/data/x.tar";
    const struct atd_index_entry entry = {
        .cid = S("c1"), .name = S("d"), .schema_ref = S(CLASS_REF), .data_urls = {one, 13}};
    const struct atd_index_label label = {.name = S("d"), .version = S(""), .cid = S("gone")};
    struct rig rig;

    rig_open(&rig);
    atd_index_memory_set(rig.index, &entry, 1, &label, 1, NULL, 0);
    rig_refresh(&rig);
    WORKS(rig_add(rig.editor, "d", "z.tar", 'z', NULL, err));
    rows_expect(&rig, "d", "/data/x.tar s3://b/d/z.tar");
    rig_close(&rig);
}

Test(editor, an_entry_of_another_name_behind_the_label_keeps_it)
{
    static const uint8_t one[] = "\x91\xab/data/x.tar";
    const struct atd_index_entry entry = {
        .cid = S("c1"), .name = S("other"), .schema_ref = S(CLASS_REF), .data_urls = {one, 13}};
    const struct atd_index_label label = {.name = S("d"), .version = S(""), .cid = S("c1")};
    struct rig rig;
    struct rows rows;

    rig_open(&rig);
    atd_index_memory_set(rig.index, &entry, 1, &label, 1, NULL, 0);
    rig_refresh(&rig);
    WORKS(rig_add(rig.editor, "d", "z.tar", 'z', NULL, err));
    rows_expect(&rig, "d", "/data/x.tar s3://b/d/z.tar");
    rows_take(&rig, &rows);
    cr_assert_not_null(rows_named(&rows, "other", NULL));
    rows_release(&rows);
    rig_close(&rig);
}

Test(editor, two_datasets_of_the_same_content_share_a_record_or_refuse)
{
    struct rig rig;
    struct atd_str a = S("s3://b/d/a.tar");
    struct atd_str b = S("s3://b/e/b.tar");
    struct atd_schema schema = schema_of("Same", "1.0.0", "x");
    struct atd_edit_result result;
    struct rows rows;

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', NULL, err));
    WORKS(rig_add(rig.editor, "e", "b.tar", 'b', NULL, err));
    WORKS(atd_edit_set_schema(rig.editor, S("d"), &schema, &result, err));
    WORKS(atd_edit_set_schema(rig.editor, S("e"), &schema, &result, err));
    WORKS(atd_edit_remove_shards(rig.editor, S("d"), &a, 1, err));
    WORKS(atd_edit_remove_shards(rig.editor, S("e"), &b, 1, err));
    rows_expect(&rig, "d", "");
    rows_take(&rig, &rows);
    cr_assert(
        atd_str_equal(rows_label_of(&rows, "d", "")->cid, rows_label_of(&rows, "e", "")->cid));
    rows_release(&rows);
    rig_refresh(&rig);
    /* What is shared goes with the last. */
    WORKS(atd_edit_remove_dataset(rig.editor, S("d"), err));
    rows_expect(&rig, "d", NULL);
    rows_expect(&rig, "e", "");
    rig_close(&rig);
}

/* ------------------------------------------------------------------ metadata */

Test(editor, metadata_is_the_users_and_records_stay)
{
    atd_auto_buf struct atd_buf user = ATD_BUF_INIT(1024);
    struct rig rig;
    char json[4096];

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', NULL, err));
    WORKS(atd_metadata_from_json(S("{\"description\": \"mine\"}"), &user, err));
    WORKS(atd_edit_set_metadata(rig.editor, S("d"), atd_buf_bytes(&user), err));
    WORKS(atd_edit_set_mtime(rig.editor, S("d"), S("s3://b/d/a.tar"), 123456789, err));
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', NULL, err));
    rows_metadata(&rig, "d", json);
    cr_assert_not_null(strstr(json, "\"description\": \"mine\""));
    cr_assert_not_null(strstr(json, "123456789"));
    cr_assert_not_null(strstr(json, "bbbbbbbb"));
    FAILS(ENOENT, atd_edit_set_metadata(rig.editor, S("none"), atd_buf_bytes(&user), err));
    rig_close(&rig);
}

Test(editor, a_dataset_read_fresh)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct rig rig;
    struct atd_edit_dataset dataset;

    rig_open(&rig);
    WORKS(atd_edit_read(rig.editor, S("d"), &arena, &dataset, err));
    cr_assert_not(dataset.exists);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', NULL, err));
    WORKS(atd_edit_read(rig.editor, S("d"), &arena, &dataset, err));
    cr_assert(dataset.exists);
    cr_assert_eq(dataset.url_count, 1);
    cr_assert_eq(dataset.schema->field_count, 1);
    rig_close(&rig);
}

/* Whatever stands in the index, an edit says what is wrong and changes nothing. */
Test(editor, records_that_make_no_sense_are_refused)
{
    static const uint8_t list[] = "\x93\x01\x02\x03";
    static const uint8_t cut[] = "\x92\xab/da";
    static const uint8_t one[] = "\x91\xab/data/x.tar";
    static const uint8_t sums[] = "\x81\xa9"
                                  "checksums\x01";
    const struct atd_index_entry entries[] = {
        {.cid = S("c1"),
         .name = S("list"),
         .schema_ref = S("r"),
         .data_urls = {one, 13},
         .metadata = {list, 4}},
        {.cid = S("c2"), .name = S("cut"), .schema_ref = S("r"), .data_urls = {cut, 5}},
        {.cid = S("c3"),
         .name = S("half"),
         .schema_ref = S("r"),
         .data_urls = {one, 13},
         .metadata = {cut, 5}},
        {.cid = S("c4"),
         .name = S("sums"),
         .schema_ref = S("r"),
         .data_urls = {one, 13},
         .metadata = {sums, 12}},
    };
    const struct atd_index_label labels[] = {
        {.name = S("list"), .version = S(""), .cid = S("c1")},
        {.name = S("cut"), .version = S(""), .cid = S("c2")},
        {.name = S("half"), .version = S(""), .cid = S("c3")},
        {.name = S("sums"), .version = S(""), .cid = S("c4")},
    };
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_edit_dataset dataset;
    struct atd_str url = S("/data/x.tar");
    struct rig rig;

    rig_open(&rig);
    atd_index_memory_set(rig.index, entries, 4, labels, 4, NULL, 0);
    rig_refresh(&rig);
    for (size_t i = 0; i < 4; i++)
        FAILS(EINVAL, rig_add(rig.editor, entries[i].name.ptr, "z.tar", 'z', NULL, err));
    FAILS(EINVAL, atd_edit_set_mtime(rig.editor, S("list"), url, 1, err));
    FAILS(EINVAL, atd_edit_remove_shards(rig.editor, S("half"), &url, 1, err));
    FAILS(EINVAL, atd_edit_remove_shards(rig.editor, S("cut"), &url, 1, err));
    FAILS(EINVAL, atd_edit_remove_dataset(rig.editor, S("cut"), err));
    FAILS(EINVAL, atd_edit_read(rig.editor, S("cut"), &arena, &dataset, err));
    cr_assert_eq(rig.hook.commits, 0);
    /* What does not touch the senseless part works. */
    WORKS(atd_edit_remove_shards(rig.editor, S("list"), &url, 1, err));
    WORKS(atd_edit_rename(rig.editor, S("cut"), S("tuc"), err));
    rig_close(&rig);
}
