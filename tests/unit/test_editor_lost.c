/*
 * Edits that meet others in ways that could lose what others did: behind a label, under another
 * name, in the tidying.
 */
#include "editor_rig.h"

#define CLASS_REF "local://schemas/D@1.0.0"
#define FIRST_CID "bafyreiffffffffffffffffffffffffffffffffffffffffffffffffffff"
#define SECOND_CID "bafyreigggggggggggggggggggggggggggggggggggggggggggggggggggg"

static const uint8_t x_url[] = "\x91\xab/data/x.tar";
static const uint8_t y_url[] = "\x91\xab/data/y.tar";
static const uint8_t user_text[] = "\x81\xa1k\xa1v";
static const struct atd_bytes user = {user_text, 5};

static void pass(struct rig *rig, int64_t seconds)
{
    rig->now_us += seconds * INT64_C(1000000);
}

static size_t count_entries(struct rig *rig)
{
    struct rows rows;
    size_t count;

    rows_take(rig, &rows);
    count = rows.entry_count;
    rows_release(&rows);
    return count;
}

/* ------------------------------------------------------------------ what the sweep deletes */

static const struct atd_index_entry python_entries[] = {
    {.cid = {FIRST_CID, 59},
     .name = {"d", 1},
     .schema_ref = {CLASS_REF, 23},
     .data_urls = {x_url, 13}},
    {.cid = {SECOND_CID, 59},
     .name = {"d", 1},
     .schema_ref = {CLASS_REF, 23},
     .data_urls = {y_url, 13}},
};
static const struct atd_index_label python_labels[] = {
    {.name = {"d", 1}, .version = {"", 0}, .cid = {FIRST_CID, 59}},
    {.name = {"d", 1}, .version = {"", 0}, .cid = {SECOND_CID, 59}},
};

static void insert_second(void *ctx)
{
    struct rig *rig = ctx;

    atd_index_memory_set(rig->index, python_entries, 2, &python_labels[1], 1, NULL, 0);
}

/* Between plan and commit Python puts another entry in the first one's place: the successor takes
 * over what the second lists, and not what the first does. */
Test(editor_lost, what_a_vain_plan_wanted_to_supersede_is_not_the_editors_to_delete)
{
    struct rig rig;
    struct rows rows;
    int64_t next_s;

    rig_open(&rig);
    atd_index_memory_set(rig.index, python_entries, 1, &python_labels[0], 1, NULL, 0);
    rig_refresh(&rig);
    rig.hook.before = insert_second;
    rig.hook.before_ctx = &rig;
    WORKS(rig_add(rig.editor, "probe", "p.tar", 'p', NULL, err)); /* how many steps a plan has */
    rig.hook.before_at = 2 * rig.hook.steps;
    WORKS(rig_add(rig.editor, "d", "z.tar", 'z', NULL, err));
    cr_assert_eq(rig.hook.commits, 3, "%u: it was planned twice", rig.hook.commits);
    rows_expect(&rig, "d", "/data/y.tar s3://b/d/z.tar");
    rig_refresh(&rig);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    pass(&rig, ATD_SUPERSEDED_KEEP_S);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    rows_take(&rig, &rows);
    cr_assert_not_null(rows_named(&rows, "d@superseded:" FIRST_CID, NULL));
    cr_assert_null(rows_named(&rows, "d@superseded:" SECOND_CID, NULL));
    rows_release(&rows);
    rig_close(&rig);
}

/* The sweep goes by a catalog that does not know the label yet. */
static void expect_kept(const char *name, const char *version, const char *entry_name)
{
    struct rig rig;
    struct rows rows;
    struct atd_editor *other;
    struct atd_edit_result first;
    int64_t next_s;

    rig_open(&rig);
    other = rig_editor(&rig, rig.hook.inner, false);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &first, err));
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', NULL, err));
    rig_refresh(&rig);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    pass(&rig, ATD_SUPERSEDED_KEEP_S);
    WORKS(atd_edit_label(other, atd_str_from(name), atd_str_from(version),
                         atd_str_from(first.cid.text), err));
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    rows_take(&rig, &rows);
    cr_assert_not_null(rows_named(&rows, entry_name, NULL), "%s@%s leads to nothing", name,
                       version);
    rows_release(&rows);
    atd_editor_free(other);
    rig_close(&rig);
}

Test(editor_lost, a_superseded_entry_that_gets_a_label_just_now_is_not_deleted)
{
    expect_kept("d", "1", "d@1");
    expect_kept("d", "", "d");
    expect_kept("paper", "1", "paper@1");
    expect_kept("paper", "", "paper");
}

/* ------------------------------------------------------------------ behind a label */

static const struct atd_index_entry other_entry = {.cid = {"c1", 2},
                                                   .name = {"other", 5},
                                                   .schema_ref = {CLASS_REF, 23},
                                                   .data_urls = {x_url, 13}};
static const struct atd_index_label other_label = {
    .name = {"d", 1}, .version = {"", 0}, .cid = {"c1", 2}};

struct meeting {
    struct rig *rig;
    struct atd_editor *editor;
    int (*run)(struct atd_editor *editor, struct atd_error *err);
    bool met;
};

static int add_shard(struct atd_editor *editor, struct atd_error *err)
{
    return rig_add(editor, "d", "z.tar", 'z', NULL, err);
}

static int set_metadata(struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_set_metadata(editor, S("d"), user, err);
}

static int set_mtime(struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_set_mtime(editor, S("d"), S("/data/x.tar"), 99, err);
}

static void meet(void *ctx)
{
    struct meeting *meeting = ctx;

    meeting->met = true;
    WORKS(meeting->run(meeting->editor, err));
}

/* The entry is another dataset's by name, so that it is not renamed when a successor comes. */
static bool run_meeting(int (*first)(struct atd_editor *, struct atd_error *),
                        int (*second)(struct atd_editor *, struct atd_error *), unsigned step,
                        const char *wanted)
{
    struct rig rig;
    struct meeting meeting = {.rig = &rig, .run = second};
    char json[4096];
    struct rows rows;
    const struct atd_index_label *label;

    rig_open(&rig);
    atd_index_memory_set(rig.index, &other_entry, 1, &other_label, 1, NULL, 0);
    rig_refresh(&rig);
    meeting.editor = rig_editor(&rig, rig.hook.inner, false);
    rig.hook.before = meet;
    rig.hook.before_ctx = &meeting;
    rig.hook.before_at = step;
    WORKS(first(rig.editor, err));
    if (!meeting.met)
        WORKS(second(meeting.editor, err));
    rows_take(&rig, &rows);
    label = rows_label_of(&rows, "d", "");
    cr_assert(atd_str_equal(rows_named(&rows, "d", NULL)->cid, label->cid));
    rows_release(&rows);
    rows_metadata(&rig, "d", json);
    cr_assert_not_null(strstr(json, wanted), "step %u: '%s' lacks '%s'", step, json, wanted);
    atd_editor_free(meeting.editor);
    rig_close(&rig);
    return meeting.met;
}

Test(editor_lost, metadata_behind_a_label_follows_the_dataset)
{
    for (unsigned step = 1; run_meeting(set_metadata, add_shard, step, "\"k\":"); step++)
        ;
    for (unsigned step = 1; run_meeting(add_shard, set_metadata, step, "\"k\":"); step++)
        ;
    for (unsigned step = 1; run_meeting(set_mtime, add_shard, step, "99"); step++)
        ;
    for (unsigned step = 1; run_meeting(add_shard, set_mtime, step, "99"); step++)
        ;
}

/* ------------------------------------------------------------------ the latest label */

Test(editor_lost, after_a_rename_NAME_is_still_the_latest_of_its_labels)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;

    rig_open(&rig);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &first, err));
    rig_refresh(&rig);
    WORKS(atd_edit_label(rig.editor, S("d"), S("1.0.0"), atd_str_from(first.cid.text), err));
    rig_refresh(&rig);
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', NULL, err));
    rig_refresh(&rig);
    WORKS(atd_edit_rename(rig.editor, S("d"), S("e"), err));
    rows_take(&rig, &rows);
    cr_assert_gt(atd_str_compare(rows_label_of(&rows, "e", "")->created_at,
                                 rows_label_of(&rows, "e", "1.0.0")->created_at),
                 0);
    rows_release(&rows);
    rig_close(&rig);
}

/* ------------------------------------------------------------------ back to an earlier state */

/* The index has one record for both: the dataset takes it back, the label still leads to it. */
Test(editor_lost, a_state_that_became_another_names_version_can_be_gone_back_to)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;
    struct atd_str b = S("s3://b/d/b.tar");

    rig_open_with_two(&rig, &first);
    WORKS(atd_edit_label(rig.editor, S("paper"), S("1"), atd_str_from(first.cid.text), err));
    rig_refresh(&rig);
    WORKS(atd_edit_set_metadata(rig.editor, S("d"), user, err));
    WORKS(atd_edit_remove_shards(rig.editor, S("d"), &b, 1, err));
    rows_expect(&rig, "d", "s3://b/d/a.tar");
    rows_take(&rig, &rows);
    cr_assert(atd_str_equal(rows_label_of(&rows, "paper", "1")->cid, atd_str_from(first.cid.text)));
    rows_release(&rows);
    rig_close(&rig);
}

/* The reply to a change is lost, and what it superseded is the editor's all the same: Python's
 * entry, without our records, whose shards the successor has. */
Test(editor_lost, what_a_change_superseded_whose_answer_was_lost_is_deleted_too)
{
    struct rig rig;
    int64_t next_s;

    rig_open(&rig);
    atd_index_memory_set(rig.index, python_entries, 1, &python_labels[0], 1, NULL, 0);
    rig_refresh(&rig);
    rig.hook.fault = HOOK_LOST_DONE;
    rig.hook.fault_at = 1;
    rig.hook.fault_count = 1;
    WORKS(rig_add(rig.editor, "d", "z.tar", 'z', NULL, err));
    rig_refresh(&rig);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    pass(&rig, ATD_SUPERSEDED_KEEP_S);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    cr_assert_eq(count_entries(&rig), 1);
    rig_close(&rig);
}

/* ------------------------------------------------------------------ unlinked, published again */

static bool has_shard(struct rig *rig, const char *url)
{
    struct atd_arena arena;
    struct atd_edit_dataset dataset;
    bool found = false;

    atd_arena_init(&arena, (size_t)1 << 20);
    WORKS(atd_edit_read(rig->editor, S("d"), &arena, &dataset, err));
    for (size_t i = 0; i < dataset.url_count; i++)
        found = found || atd_str_equal(dataset.urls[i], atd_str_from(url));
    atd_arena_release(&arena);
    return found;
}

/* Within the grace: with the same record, as another's of another URL, by a pattern's shard. */
Test(editor_lost, an_unlinked_shard_that_is_published_again_stays)
{
    struct rig rig;
    struct atd_editor *other;
    struct atd_edit_result result;
    char before[4096];
    char after[4096];
    const struct atd_str urls[] = {S("s3://b/d/c.tar"), S("s3://b/d/a.tar"), S("s3://b/d/b.tar"),
                                   S("s3://b/d/none.tar")};

    rig_open(&rig);
    other = rig_editor(&rig, rig.hook.inner, false);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', NULL, err));
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', NULL, err));
    WORKS(rig_add(rig.editor, "d", "c.tar", 'c', NULL, err));
    rows_metadata(&rig, "d", before);
    WORKS(atd_edit_remove_leaving(rig.editor, S("d"), urls, 4, err));
    rows_expect(&rig, "d", "s3://b/d/a.tar s3://b/d/b.tar s3://b/d/c.tar");
    WORKS(atd_edit_mark_leaving(rig.editor, S("d"), urls, 4, err));
    WORKS(atd_edit_mark_leaving(rig.editor, S("none"), urls, 4, err));
    WORKS(rig_add(other, "d", "a.tar", 'a', &result, err));
    cr_assert(result.was_there);
    {
        /* The same bytes, sent elsewhere. */
        struct atd_edit_shard again = {.record = {.url = S("s3://b/elsewhere/b.tar")}};

        memset(again.record.sha256, 'b', 64);
        WORKS(atd_edit_add_shard(other, S("d"), S("b.tar"), &again, &result, err));
        cr_assert(result.was_there);
    }
    WORKS(atd_edit_remove_leaving(rig.editor, S("d"), urls, 4, err));
    rows_expect(&rig, "d", "s3://b/d/a.tar s3://b/d/b.tar");
    WORKS(rig_add(rig.editor, "d", "c.tar", 'c', NULL, err));
    rows_metadata(&rig, "d", after);
    cr_assert_str_eq(after, before, "%s", after);
    atd_editor_free(other);
    rig_close(&rig);
}

Test(editor_lost, a_shard_of_a_pattern_is_marked_too)
{
    static const uint8_t pattern[] = "\x91\xb0/data/{0..2}.tar";
    const struct atd_str one = S("/data/1.tar");
    const struct atd_index_entry entry = {
        .cid = S("c1"), .name = S("d"), .schema_ref = S(CLASS_REF), .data_urls = {pattern, 18}};
    struct rig rig;

    rig_open(&rig);
    atd_index_memory_set(rig.index, &entry, 1, NULL, 0, NULL, 0);
    rig_refresh(&rig);
    WORKS(atd_edit_mark_leaving(rig.editor, S("d"), &one, 1, err));
    WORKS(atd_edit_remove_leaving(rig.editor, S("d"), &one, 1, err));
    cr_assert(has_shard(&rig, "/data/0.tar") && has_shard(&rig, "/data/2.tar"));
    cr_assert_not(has_shard(&rig, "/data/1.tar"));
    rig_close(&rig);
}

/* ------------------------------------------------------------------ honest answers */

static int add_to_e(struct atd_editor *editor, struct atd_error *err)
{
    struct atd_schema_inferrer *seen = rig_seen("txt");
    struct atd_edit_shard shard = {.record = {.url = S("s3://b/e/new.tar")}, .seen = seen};
    struct atd_edit_result result;
    int rc = atd_edit_add_shard(editor, S("e"), S("new.tar"), &shard, &result, err);

    atd_schema_inferrer_free(seen);
    return rc;
}

static int add_to_d(struct atd_editor *editor, struct atd_error *err)
{
    return rig_add(editor, "d", "new.tar", 'n', NULL, err);
}

/* The dataset "d" of one shard. The answer to the next commit is lost, and before the editor looks
 * another one runs. */
static void open_meeting(struct rig *rig, struct meeting *meeting)
{
    rig_open(rig);
    WORKS(rig_add(rig->editor, "d", "a.tar", 'a', NULL, err));
    rig_refresh(rig);
    meeting->editor = rig_editor(rig, rig->hook.inner, false);
    rig->hook.fault = HOOK_LOST_DONE;
    rig->hook.fault_at = rig->hook.commits + 1;
    rig->hook.fault_count = 1;
    rig->hook.after = meet;
    rig->hook.after_ctx = meeting;
}

static void end_meeting(struct rig *rig, struct meeting *meeting)
{
    cr_assert(meeting->met);
    atd_editor_free(meeting->editor);
    rig_close(rig);
}

/* The answer to a rename is lost, and before the editor looks somebody publishes to the new name,
 * or to the old one. */
static void rename_and_meet(int (*second)(struct atd_editor *, struct atd_error *))
{
    struct rig rig;
    struct meeting meeting = {.rig = &rig, .run = second};

    open_meeting(&rig, &meeting);
    WORKS(atd_edit_rename(rig.editor, S("d"), S("e"), err));
    end_meeting(&rig, &meeting);
}

Test(editor_lost, a_rename_whose_answer_was_lost_is_no_failure_because_others_went_on)
{
    rename_and_meet(add_to_e);
    rename_and_meet(add_to_d);
}

static int rename_d(struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_rename(editor, S("d"), S("e"), err);
}

/* What was done may be why it is refused now: who takes a definite no for "not done" would take
 * back what the index names. */
Test(editor_lost, a_refusal_after_a_lost_answer_is_no_definite_one)
{
    struct rig rig;
    struct meeting meeting = {.rig = &rig, .run = rename_d};
    struct atd_error why = ATD_ERROR_INIT;

    open_meeting(&rig, &meeting);
    cr_assert_eq(set_metadata(rig.editor, &why), -EREMOTEIO, "%s", why.text);
    end_meeting(&rig, &meeting);
}

/* An index that was away for a while, and then one conflict. */
static void conflict_once(void *ctx)
{
    struct rig *rig = ctx;

    rig->hook.fault = HOOK_CONFLICT;
}

Test(editor_lost, a_conflict_after_an_outage_is_not_the_last_of_many)
{
    struct atd_editor_options options = {.patience_ms = 60000};
    struct atd_editor *editor;
    struct rig rig;
    unsigned steps;

    rig_open(&rig);
    options.writer = &rig.hook.base;
    options.live = rig.live;
    options.now_us = rig_now;
    options.now_ctx = &rig;
    WORKS(atd_editor_new(&options, &editor, err));
    WORKS(rig_add(editor, "probe", "p.tar", 'p', NULL, err));
    steps = rig.hook.steps;
    rig.hook.fault = HOOK_DOWN;
    rig.hook.fault_at = 2;
    rig.hook.fault_count = ATD_EDIT_TRIES + 2;
    rig.hook.before = conflict_once;
    rig.hook.before_ctx = &rig;
    rig.hook.before_at = steps + steps * (ATD_EDIT_TRIES + 2);
    WORKS(rig_add(editor, "d", "a.tar", 'a', NULL, err));
    rows_expect(&rig, "d", "s3://b/d/a.tar");
    atd_editor_free(editor);
    rig_close(&rig);
}

/* Each conflict is somebody's success: with many publishers there are many in a row. */
Test(editor_lost, many_conflicts_in_a_row_are_no_failure_while_there_is_time)
{
    struct atd_editor_options options = {.patience_ms = 60000};
    struct atd_editor *editor;
    struct rig rig;

    rig_open(&rig);
    options.writer = &rig.hook.base;
    options.live = rig.live;
    WORKS(atd_editor_new(&options, &editor, err));
    rig.hook.fault = HOOK_CONFLICT;
    rig.hook.fault_at = 1;
    rig.hook.fault_count = ATD_EDIT_TRIES + 10;
    WORKS(rig_add(editor, "d", "a.tar", 'a', NULL, err));
    rows_expect(&rig, "d", "s3://b/d/a.tar");
    atd_editor_free(editor);
    rig_close(&rig);
}

/* ------------------------------------------------------------------ one entry for a name */

static void add_in_between(void *ctx)
{
    struct meeting *meeting = ctx;

    if (!meeting->met)
        meet(ctx);
}

/* What is left under a new key is not found under the dataset's name. */
Test(editor_lost, a_change_that_a_cluster_made_in_part_leaves_no_second_entry)
{
    struct rig rig;
    struct meeting meeting = {.rig = &rig, .run = add_to_d};
    struct rows rows;
    unsigned steps;
    int64_t next_s;

    rig_open(&rig);
    meeting.editor = rig_editor(&rig, rig.hook.inner, false);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', NULL, err));
    rig_refresh(&rig);
    steps = rig.hook.steps;
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', NULL, err));
    rig_refresh(&rig);
    rig.hook.before = add_in_between;
    rig.hook.before_ctx = &meeting;
    rig.hook.before_at = 2 * rig.hook.steps - steps; /* the commit */
    rig.hook.fault = HOOK_TORN;
    rig.hook.fault_at = 3;
    rig.hook.fault_count = 1;
    WORKS(rig_add(rig.editor, "d", "c.tar", 'c', NULL, err));
    cr_assert(meeting.met);
    rows_expect(&rig, "d", "s3://b/d/a.tar s3://b/d/b.tar s3://b/d/c.tar s3://b/d/new.tar");
    rig_refresh(&rig);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    pass(&rig, ATD_SUPERSEDED_KEEP_S);
    WORKS(atd_edit_sweep(rig.editor, &next_s, err));
    rows_take(&rig, &rows);
    cr_assert_eq(rows.entry_count, 1, "%zu entries", rows.entry_count);
    rows_release(&rows);
    atd_editor_free(meeting.editor);
    rig_close(&rig);
}

/* Python's names may have an '@': what is called NAME@x is a version of NAME only when the label of
 * that version leads there. */
Test(editor_lost, a_dataset_whose_name_begins_with_anothers_is_not_taken_for_its_version)
{
    struct rig rig;
    struct rows rows;
    struct atd_edit_result first;
    struct atd_str b = S("s3://b/d/b.tar");
    struct atd_index_entry there;
    struct atd_index_label label = {.name = S("d@x"), .version = S("")};
    struct atd_arena arena;

    rig_open(&rig);
    atd_arena_init(&arena, (size_t)1 << 20);
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &first, err));
    WORKS(atd_index_read_entry(rig.hook.inner, atd_str_from(first.cid.text), &arena, &there, err));
    WORKS(rig_add(rig.editor, "d", "b.tar", 'b', NULL, err));
    rig_refresh(&rig);
    {
        /* Python inserts the same shards under another name: one record (ATDATA-FORMATS 0.8). */
        struct atd_index_operation operations[2] = {
            {.action = ATD_INDEX_PUT_ENTRY, .kind = ATD_INDEX_ENTRY, .before.entry = there},
            {.action = ATD_INDEX_PUT_LABEL, .kind = ATD_INDEX_LABEL},
        };

        operations[0].after.entry = there;
        operations[0].after.entry.name = S("d@x");
        operations[0].after.entry.metadata = user;
        label.cid = there.cid;
        operations[1].before.label = operations[1].after.label = label;
        WORKS(atd_index_commit(rig.hook.inner, operations, 2, NULL, err));
    }
    rig_refresh(&rig);
    FAILS(EEXIST, atd_edit_remove_shards(rig.editor, S("d"), &b, 1, err));
    WORKS(atd_edit_label(rig.editor, S("d"), S(""), there.cid, err));
    rows_take(&rig, &rows);
    cr_assert(atd_str_equal(rows_named(&rows, "d@x", NULL)->cid, there.cid));
    rows_release(&rows);
    atd_arena_release(&arena);
    rig_close(&rig);
}
