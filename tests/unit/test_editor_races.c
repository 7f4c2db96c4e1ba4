/*
 * Edits whose commits fail, each in turn, and edits that meet another one at any of their steps.
 */
#include "editor_rig.h"

#include "atdata/schema.h"
#include "base/check.h"

/*
 * The scene: `d` lists a.tar and b.tar, and its version 1 a.tar alone; `e` lists x.tar; `m` is
 * empty.
 */
static char version_cid[ATD_CID_TEXT_LEN + 1];
static char now_cid[ATD_CID_TEXT_LEN + 1];

static void set_scene(struct rig *rig)
{
    struct atd_edit_result result;
    struct atd_str gone = S("s3://b/m/y.tar");

    rig_open(rig);
    WORKS(rig_add(rig->editor, "d", "a.tar", 'a', &result, err));
    memcpy(version_cid, result.cid.text, sizeof(version_cid));
    rig_refresh(rig);
    WORKS(atd_edit_label(rig->editor, S("d"), S("1"), atd_str_from(version_cid), err));
    rig_refresh(rig);
    WORKS(rig_add(rig->editor, "d", "b.tar", 'b', &result, err));
    memcpy(now_cid, result.cid.text, sizeof(now_cid));
    WORKS(rig_add(rig->editor, "e", "x.tar", 'x', NULL, err));
    WORKS(rig_add(rig->editor, "m", "y.tar", 'y', NULL, err));
    WORKS(atd_edit_remove_shards(rig->editor, S("m"), &gone, 1, err));
    rig_refresh(rig);
    rig->hook.commits = 0;
    rig->hook.reads = 0;
    rig->hook.steps = 0;
}

/* ------------------------------------------------------------------ the edits */

static int add_c(struct atd_editor *editor, struct atd_error *err)
{
    return rig_add(editor, "d", "c.tar", 'c', NULL, err);
}

static int add_0(struct atd_editor *editor, struct atd_error *err)
{
    return rig_add(editor, "d", "0.tar", '0', NULL, err);
}

static int add_new(struct atd_editor *editor, struct atd_error *err)
{
    return rig_add(editor, "new", "n.tar", 'd', NULL, err);
}

static int add_new_too(struct atd_editor *editor, struct atd_error *err)
{
    return rig_add(editor, "new", "o.tar", 'e', NULL, err);
}

static int add_to_m(struct atd_editor *editor, struct atd_error *err)
{
    return rig_add(editor, "m", "z.tar", 'f', NULL, err);
}

static int remove_a(struct atd_editor *editor, struct atd_error *err)
{
    struct atd_str url = S("s3://b/d/a.tar");

    return atd_edit_remove_shards(editor, S("d"), &url, 1, err);
}

static int set_metadata(struct atd_editor *editor, struct atd_error *err)
{
    static const uint8_t user[] = "\x81\xa1k\xa1v";

    return atd_edit_set_metadata(editor, S("d"), (struct atd_bytes){user, 5}, err);
}

static int set_mtime(struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_set_mtime(editor, S("d"), S("s3://b/d/b.tar"), 99, err);
}

static const struct atd_field other_field = {
    .name = {"n", 1},
    .type = {.kind = ATD_KIND_PRIMITIVE,
             .kind_text = {"primitive", 9},
             .primitive = ATD_PRIMITIVE_STR,
             .primitive_text = {"str", 3}},
};
static const struct atd_schema other_schema = {
    .name = {"D", 1}, .version = {"1.0.0", 5}, .fields = &other_field, .field_count = 1};

static int set_schema(struct atd_editor *editor, struct atd_error *err)
{
    struct atd_edit_result result;

    return atd_edit_set_schema(editor, S("d"), &other_schema, &result, err);
}

static int publish_schema(struct atd_editor *editor, struct atd_error *err)
{
    struct atd_schema schema = other_schema;

    schema.version = S("7.0.0");
    return atd_edit_publish_schema(editor, &schema, err);
}

static int rename_d(struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_rename(editor, S("d"), S("f"), err);
}

static int rename_e(struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_rename(editor, S("e"), S("f"), err);
}

static int remove_m(struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_remove_dataset(editor, S("m"), err);
}

static int label_2(struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_label(editor, S("d"), S("2"), atd_str_from(now_cid), err);
}

static int label_back(struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_label(editor, S("d"), S(""), atd_str_from(version_cid), err);
}

static int unlabel(struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_remove_label(editor, S("d"), S("1"), err);
}

static const struct edit {
    const char *name;
    int (*run)(struct atd_editor *editor, struct atd_error *err);
    const char *adds;    /* a URL that is listed by a live entry after it */
    const char *removes; /* one that need not be any more */
} edits[] = {
    {"add c", add_c, "s3://b/d/c.tar", NULL},
    {"add 0", add_0, "s3://b/d/0.tar", NULL},
    {"add new", add_new, "s3://b/new/n.tar", NULL},
    {"add new too", add_new_too, "s3://b/new/o.tar", NULL},
    {"add to m", add_to_m, "s3://b/m/z.tar", NULL},
    {"remove a", remove_a, NULL, "s3://b/d/a.tar"},
    {"set metadata", set_metadata, NULL, NULL},
    {"set mtime", set_mtime, NULL, NULL},
    {"set schema", set_schema, NULL, NULL},
    {"publish schema", publish_schema, NULL, NULL},
    {"rename d", rename_d, NULL, NULL},
    {"rename e", rename_e, NULL, NULL},
    {"remove m", remove_m, NULL, NULL},
    {"label 2", label_2, NULL, NULL},
    {"label back", label_back, NULL, "s3://b/d/b.tar"},
    {"unlabel", unlabel, NULL, NULL},
};

/* ------------------------------------------------------------------ what always holds */

static bool is_live(const struct atd_index_entry *entry)
{
    return atd_str_find(entry->name, '@') < 0;
}

static bool is_listed(struct rows *rows, const char *url)
{
    for (size_t i = 0; i < rows->entry_count; i++) {
        struct atd_str *urls;
        size_t count;

        if (!is_live(&rows->entries[i]))
            continue;
        WORKS(atd_urls_decode(rows->entries[i].data_urls, &rows->arena, &urls, &count, err));
        for (size_t j = 0; j < count; j++) {
            if (atd_str_equal(urls[j], atd_str_from(url)))
                return true;
        }
    }
    return false;
}

/*
 * No name twice; a name without '@' has its label and it leads there; no label leads nowhere; what
 * was listed is, but for what is taken out.
 */
static void check_always(struct rig *rig, const char *what, const char *gone, const char *gone_too)
{
    static const char *const urls[] = {"s3://b/d/a.tar", "s3://b/d/b.tar", "s3://b/e/x.tar"};
    struct rows rows;

    rows_take(rig, &rows);
    for (size_t i = 0; i < rows.entry_count; i++) {
        const struct atd_index_entry *entry = &rows.entries[i];
        const struct atd_index_label *label = NULL;

        for (size_t j = 0; j < i; j++)
            cr_assert_not(atd_str_equal(entry->name, rows.entries[j].name), "%s: two are called %s",
                          what, entry->name.ptr);
        if (!is_live(entry))
            continue;
        label = rows_label_of(&rows, entry->name.ptr, "");
        cr_assert_not_null(label, "%s: %s has no label", what, entry->name.ptr);
        cr_assert(atd_str_equal(label->cid, entry->cid), "%s: the label of %s leads elsewhere",
                  what, entry->name.ptr);
    }
    for (size_t i = 0; i < rows.label_count; i++) {
        bool is_alive = false;

        for (size_t j = 0; j < rows.entry_count; j++)
            is_alive = is_alive || atd_str_equal(rows.entries[j].cid, rows.labels[i].cid);
        cr_assert(is_alive, "%s: label %s@%s leads nowhere", what, rows.labels[i].name.ptr,
                  rows.labels[i].version.ptr);
    }
    for (size_t i = 0; i < ATD_ARRAY_LEN(urls); i++) {
        if ((gone && strcmp(gone, urls[i]) == 0) || (gone_too && strcmp(gone_too, urls[i]) == 0))
            continue;
        cr_assert(is_listed(&rows, urls[i]), "%s: %s is lost", what, urls[i]);
    }
    rows_release(&rows);
}

/* Every live entry shows in datasets/, and (`exactly`) nothing else does. */
static void check_catalog(struct rig *rig, const char *what, bool exactly)
{
    struct atd_catalog *catalog;
    struct rows rows;
    size_t live = 0;
    size_t shown;

    rig_refresh(rig);
    catalog = atd_live_get(rig->live);
    shown = atd_catalog_dataset_count(catalog);
    rows_take(rig, &rows);
    for (size_t i = 0; i < rows.entry_count; i++)
        live += is_live(&rows.entries[i]);
    rows_release(&rows);
    cr_assert(exactly ? shown == live : shown >= live, "%s: %zu datasets show of %zu", what, shown,
              live);
    cr_assert_eq(atd_catalog_problem_count(catalog), 0, "%s", what);
    atd_catalog_unref(catalog);
}

struct meeting {
    struct rig *rig;
    struct atd_editor *other;
    const struct edit *first;
    const struct edit *second;
    bool refresh;
    bool met;
    int rc;
    char what[96];
};

static void after_commit(void *ctx)
{
    struct meeting *meeting = ctx;

    check_always(meeting->rig, meeting->what, meeting->first->removes,
                 meeting->second ? meeting->second->removes : NULL);
}

/* ------------------------------------------------------------------ commits that fail */

/* The edit with one fault, and what it does to the index without any must be the same. */
static void run_with_fault(const struct edit *edit, enum hook_fault fault, unsigned count,
                           int expected)
{
    struct rig rig;
    struct meeting meeting = {.rig = &rig, .first = edit};
    struct atd_error why = ATD_ERROR_INIT;
    struct rows rows;
    int rc;

    set_scene(&rig);
    (void)snprintf(meeting.what, sizeof(meeting.what), "%s, fault %d x %u", edit->name, (int)fault,
                   count);
    rig.hook.fault = fault;
    rig.hook.fault_at = fault == HOOK_NONE ? 0 : 1;
    rig.hook.fault_count = count;
    rig.hook.after = after_commit;
    rig.hook.after_ctx = &meeting;
    rc = edit->run(rig.editor, &why);
    cr_assert_eq(rc, -expected, "%s: %d %s", meeting.what, rc, why.text);
    cr_assert_eq(why.code, expected);
    check_always(&rig, meeting.what, edit->removes, NULL);
    check_catalog(&rig, meeting.what, true);
    rows_take(&rig, &rows);
    if (edit->adds)
        cr_assert_eq(is_listed(&rows, edit->adds), expected == 0, "%s", meeting.what);
    if (edit->removes)
        cr_assert_eq(is_listed(&rows, edit->removes), expected != 0, "%s", meeting.what);
    rows_release(&rows);
    rig_close(&rig);
}

Test(editor_races, a_commit_that_fails_is_made_good)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(edits); i++) {
        run_with_fault(&edits[i], HOOK_NONE, 0, 0);
        for (unsigned count = 1; count <= 3; count++) {
            run_with_fault(&edits[i], HOOK_CONFLICT, count, 0);
            run_with_fault(&edits[i], HOOK_LOST_DONE, count, 0);
            run_with_fault(&edits[i], HOOK_LOST, count, 0);
            run_with_fault(&edits[i], HOOK_DOWN, count, 0);
        }
    }
}

Test(editor_races, an_index_that_stays_away_is_told)
{
    run_with_fault(&edits[0], HOOK_CONFLICT, 1000, EAGAIN);
    run_with_fault(&edits[0], HOOK_LOST_DONE, 1000, 0);
    for (size_t i = 0; i < ATD_ARRAY_LEN(edits); i++) {
        run_with_fault(&edits[i], HOOK_LOST, 1000, EREMOTEIO);
        run_with_fault(&edits[i], HOOK_DOWN, 1000, ECONNREFUSED);
    }
}

Test(editor_races, a_read_that_fails_changes_nothing)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(edits); i++) {
        for (unsigned read = 1;; read++) {
            struct rig rig;
            struct atd_error why = ATD_ERROR_INIT;
            unsigned reads;
            int rc;

            set_scene(&rig);
            rig.hook.read_fault_at = read;
            rc = edits[i].run(rig.editor, &why);
            reads = rig.hook.reads;
            cr_assert_eq(rc, reads >= read ? -EIO : 0, "%s: read %u: %d %s", edits[i].name, read,
                         rc, why.text);
            if (rc)
                cr_assert_eq(rig.hook.commits, 0);
            rig_close(&rig);
            if (reads < read)
                break;
        }
    }
}

/* What was done by the try whose answer was lost is told as done by this call. */
Test(editor_races, a_lost_answer_is_told_as_the_call_that_did_it)
{
    struct rig rig;
    struct atd_edit_result result;
    uint64_t commits;
    uint64_t conflicts;

    set_scene(&rig);
    rig.hook.fault = HOOK_LOST_DONE;
    rig.hook.fault_at = 1;
    rig.hook.fault_count = 1;
    WORKS(rig_add(rig.editor, "new", "n.tar", 'n', &result, err));
    cr_assert(result.is_new_dataset);
    cr_assert_not(result.was_there);
    cr_assert_eq(strlen(result.cid.text), ATD_CID_TEXT_LEN);
    atd_editor_counts(rig.editor, &commits, &conflicts);
    cr_assert_eq(conflicts, 0);
    rig.hook.fault = HOOK_CONFLICT;
    rig.hook.fault_at = 2;
    rig.hook.fault_count = 2;
    WORKS(rig_add(rig.editor, "new", "o.tar", 'o', &result, err));
    cr_assert_not(result.is_new_dataset);
    atd_editor_counts(rig.editor, &commits, &conflicts);
    cr_assert_eq(conflicts, 2);
    rig_close(&rig);
}

/* After a lost answer the index is asked until it says what happened. */
Test(editor_races, a_read_that_fails_after_a_lost_answer_is_tried_again)
{
    struct rig rig;
    unsigned reads;

    set_scene(&rig);
    WORKS(add_c(rig.editor, err));
    reads = rig.hook.reads;
    rig_close(&rig);
    for (unsigned later = 1; later <= 2; later++) {
        set_scene(&rig);
        rig.hook.fault = HOOK_LOST_DONE;
        rig.hook.fault_at = 1;
        rig.hook.fault_count = 1;
        rig.hook.read_fault_at = reads + later; /* of the next plan */
        WORKS(add_c(rig.editor, err));
        rows_expect(&rig, "d", "s3://b/d/a.tar s3://b/d/b.tar s3://b/d/c.tar");
        cr_assert_eq(rig.hook.commits, 1);
        cr_assert_gt(rig.hook.reads, reads + later);
        rig_close(&rig);
    }
}

/* ------------------------------------------------------------------ two at the same time */

static void meet(void *ctx)
{
    struct meeting *meeting = ctx;
    struct atd_error why = ATD_ERROR_INIT;

    meeting->met = true;
    meeting->rc = meeting->second->run(meeting->other, &why);
    check_always(meeting->rig, meeting->what, meeting->first->removes, meeting->second->removes);
    if (meeting->refresh)
        rig_refresh(meeting->rig);
}

/* Errors that say truly what the other one did. */
static bool is_honest(int rc)
{
    return rc == 0 || rc == -ENOENT || rc == -EEXIST || rc == -ENOTEMPTY || rc == -EINVAL;
}

static bool run_meeting(const struct edit *first, const struct edit *second, unsigned step,
                        bool refresh)
{
    struct rig rig;
    struct meeting meeting = {.rig = &rig, .first = first, .second = second, .refresh = refresh};
    struct atd_error why = ATD_ERROR_INIT;
    struct rows rows;
    int rc;

    set_scene(&rig);
    (void)snprintf(meeting.what, sizeof(meeting.what), "%s, at step %u %s", first->name, step,
                   second->name);
    meeting.other = rig_editor(&rig, rig.hook.inner, false);
    rig.hook.before = meet;
    rig.hook.before_ctx = &meeting;
    rig.hook.before_at = step;
    rig.hook.after = after_commit;
    rig.hook.after_ctx = &meeting;
    rc = first->run(rig.editor, &why);
    cr_assert(is_honest(rc) && is_honest(meeting.rc), "%s: %d, %d %s", meeting.what, rc, meeting.rc,
              why.text);
    check_always(&rig, meeting.what, first->removes, second->removes);
    rows_take(&rig, &rows);
    if (first->adds && rc == 0)
        cr_assert(is_listed(&rows, first->adds) ||
                      (second->removes && !strcmp(second->name, "label back")),
                  "%s: %s is lost", meeting.what, first->adds);
    if (meeting.met && second->adds && meeting.rc == 0)
        cr_assert(is_listed(&rows, second->adds) || !strcmp(first->name, "label back"),
                  "%s: %s is lost", meeting.what, second->adds);
    rows_release(&rows);
    /* A label that the other made meanwhile keeps the old name in sight: nothing is hidden. */
    check_catalog(&rig, meeting.what, false);
    atd_editor_free(meeting.other);
    rig_close(&rig);
    return meeting.met;
}

Test(editor_races, two_editors_meet_at_every_step_and_nothing_is_lost)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(edits); i++) {
        for (size_t j = 0; j < ATD_ARRAY_LEN(edits); j++) {
            for (unsigned step = 1; run_meeting(&edits[i], &edits[j], step, false); step++)
                (void)run_meeting(&edits[i], &edits[j], step, true);
        }
    }
}
