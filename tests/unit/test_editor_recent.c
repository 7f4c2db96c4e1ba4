/*
 * What an index acknowledged and forgot: another server took its place, and is a moment behind.
 */
#include "editor_rig.h"

/* ------------------------------------------------------------------ an index that changes servers
 */

static uint64_t epoch;
static int check_code; /* not 0: it cannot be reached */
static unsigned settled;
static unsigned unsettled; /* so many times no replica has it */

static int check(struct atd_index_writer *writer, struct atd_error *err)
{
    (void)writer;
    return check_code ? atd_error_set_retryable(err, check_code, "the index is down") : 0;
}

static int settle(struct atd_index_writer *writer, struct atd_error *err)
{
    (void)writer;
    settled++;
    if (unsettled == 0)
        return 0;
    unsettled--;
    return atd_error_set_retryable(err, EREMOTEIO, "no replica confirmed it");
}

static uint64_t get_epoch(const struct atd_index_writer *writer)
{
    (void)writer;
    return epoch;
}

static const struct atd_index_writer_ops watched_ops = {.provider = "hook",
                                                        .read = hook_read,
                                                        .commit = hook_commit,
                                                        .check = check,
                                                        .settle = settle,
                                                        .epoch = get_epoch,
                                                        .free = hook_free};

static struct rig rig;
static struct rows before;

static void open_rig(void)
{
    rig_open(&rig);
    rig.hook.base.ops = &watched_ops;
    epoch = 1;
}

static void close_rig(void)
{
    rig_close(&rig);
    rows_release(&before);
}

TestSuite(editor_recent, .init = open_rig, .fini = close_rig, .timeout = 60);

/* The replica has heard of everything until now. */
static void replicate(void)
{
    rows_release(&before);
    rows_take(&rig, &before);
}

/* And of nothing since. */
static void fail_over(void)
{
    atd_index_memory_set(rig.index, before.entries, before.entry_count, before.labels,
                         before.label_count, before.schemas, before.schema_count);
    epoch++;
    rig_refresh(&rig);
}

/* ------------------------------------------------------------------ what is told */

static struct {
    unsigned count;
    char last[256];
    int code;
} told;

static void on_lost(void *ctx, struct atd_str name, struct atd_str file_name, struct atd_str url,
                    const struct atd_error *why)
{
    cr_assert_eq(ctx, &told);
    told.count++;
    told.code = why ? why->code : 0;
    (void)snprintf(told.last, sizeof(told.last), "%.*s/%.*s %.*s", (int)name.len, name.ptr,
                   (int)file_name.len, file_name.ptr, (int)url.len, url.ptr);
}

/* How many were told of. */
static unsigned recheck(void)
{
    int64_t next_ms;
    unsigned count = told.count;

    WORKS(atd_edit_recheck(rig.editor, on_lost, &told, &next_ms, err));
    return told.count - count;
}

static void add(const char *name, const char *file_name, char letter)
{
    WORKS(rig_add(rig.editor, name, file_name, letter, NULL, err));
}

/* ------------------------------------------------------------------ the tests */

Test(editor_recent, while_nothing_happens_nothing_is_asked)
{
    int64_t next_ms = 0;
    unsigned reads;

    WORKS(atd_edit_recheck(rig.editor, on_lost, &told, &next_ms, err));
    cr_assert_eq(next_ms, -1);
    add("d", "a.tar", 'a');
    cr_assert_eq(recheck(), 0);
    reads = rig.hook.reads;
    WORKS(atd_edit_recheck(rig.editor, on_lost, &told, &next_ms, err));
    cr_assert_eq(next_ms, ATD_EDIT_RECHECK_MS);
    cr_assert_eq(rig.hook.reads, reads);
    epoch++; /* a link that broke, and nothing else */
    cr_assert_eq(recheck(), 0);
    cr_assert_gt(rig.hook.reads, reads);
    rows_expect(&rig, "d", "s3://b/d/a.tar");
}

Test(editor_recent, what_is_gone_is_put_back)
{
    add("d", "a.tar", 'a');
    replicate();
    add("d", "b.tar", 'b');
    add("d", "c.tar", 'c');
    fail_over();
    rows_expect(&rig, "d", "s3://b/d/a.tar");
    cr_assert_eq(recheck(), 2);
    cr_assert_eq(told.code, 0);
    cr_assert_str_eq(told.last, "d/c.tar s3://b/d/c.tar");
    rows_expect(&rig, "d", "s3://b/d/a.tar s3://b/d/b.tar s3://b/d/c.tar");
    cr_assert_eq(recheck(), 0);
    fail_over(); /* again, to the same */
    cr_assert_eq(recheck(), 2);
    rows_expect(&rig, "d", "s3://b/d/a.tar s3://b/d/b.tar s3://b/d/c.tar");
}

Test(editor_recent, with_the_schema_that_it_had)
{
    struct atd_edit_result result;
    struct rows rows;

    replicate();
    WORKS(rig_add(rig.editor, "d", "a.tar", 'a', &result, err));
    fail_over();
    rows_expect(&rig, "d", NULL);
    cr_assert_eq(recheck(), 1);
    cr_assert_eq(told.code, 0);
    rows_expect(&rig, "d", "s3://b/d/a.tar");
    rows_take(&rig, &rows);
    cr_assert_eq(rows.schema_count, 1);
    cr_assert(atd_str_equal(rows.entries[0].schema_ref, atd_str_from(result.schema_ref)));
    cr_assert(atd_str_equal(rows.entries[0].cid, atd_str_from(result.cid.text)));
    rows_release(&rows);
}

Test(editor_recent, what_somebody_changed_meanwhile_stays_so)
{
    struct atd_str a = S("s3://b/d/a.tar");
    struct atd_editor *other = rig_editor(&rig, rig.hook.inner, false);

    add("d", "a.tar", 'a');
    add("e", "e.tar", 'e');
    rig_refresh(&rig);
    /* A peer takes one out, and renames the other: their entries are there. */
    WORKS(atd_edit_remove_shards(other, S("d"), &a, 1, err));
    WORKS(atd_edit_rename(other, S("e"), S("f"), err));
    epoch++;
    rig_refresh(&rig);
    cr_assert_eq(recheck(), 0);
    rows_expect(&rig, "f", "s3://b/e/e.tar");
    rows_expect(&rig, "e", NULL);
    atd_editor_free(other);
}

Test(editor_recent, what_was_taken_out_again_is_not_put_back)
{
    struct atd_str b = S("s3://b/d/b.tar");

    add("d", "a.tar", 'a');
    add("e", "e.tar", 'e');
    replicate();
    add("d", "b.tar", 'b');
    WORKS(atd_edit_remove_shards(rig.editor, S("d"), &b, 1, err));
    fail_over();
    cr_assert_eq(recheck(), 0);
    rows_expect(&rig, "d", "s3://b/d/a.tar");
}

Test(editor_recent, an_index_that_is_away_is_asked_again)
{
    int64_t next_ms = 0;

    replicate();
    add("d", "a.tar", 'a');
    fail_over();
    check_code = ECONNREFUSED;
    FAILS(ECONNREFUSED, atd_edit_recheck(rig.editor, on_lost, &told, &next_ms, err));
    cr_assert_eq(next_ms, ATD_EDIT_RECHECK_MS);
    check_code = 0;
    rig.hook.fault_at = rig.hook.commits + 1;
    rig.hook.fault_count = 1000;
    rig.hook.fault = HOOK_DOWN;
    FAILS(ECONNREFUSED, atd_edit_recheck(rig.editor, on_lost, &told, &next_ms, err));
    cr_assert_eq(told.count, 0);
    rig.hook.fault_at = 0;
    cr_assert_eq(recheck(), 1);
    cr_assert_eq(told.code, 0);
    rows_expect(&rig, "d", "s3://b/d/a.tar");
}

Test(editor_recent, what_cannot_be_put_back_is_told_once)
{
    struct atd_editor *other = rig_editor(&rig, rig.hook.inner, false);

    add("d", "a.tar", 'a');
    replicate();
    add("d", "b.tar", 'b');
    fail_over();
    /* Somebody else's shard has the name now: other bytes, at another URL. */
    {
        struct atd_edit_shard shard = {.record = {.url = S("s3://other/b.tar"),
                                                  .size_bytes = 1,
                                                  .samples = -1,
                                                  .mtime_ns = INT64_MIN}};
        struct atd_edit_result result;

        memset(shard.record.sha256, 'f', 64);
        WORKS(atd_edit_add_shard(other, S("d"), S("b.tar"), &shard, &result, err));
    }
    cr_assert_eq(recheck(), 1);
    cr_assert_eq(told.code, EEXIST);
    epoch++;
    cr_assert_eq(recheck(), 0);
    atd_editor_free(other);
}

Test(editor_recent, an_index_that_forgets_nothing_is_not_watched)
{
    int64_t next_ms = 0;

    epoch = 0;
    add("d", "a.tar", 'a');
    WORKS(atd_edit_recheck(rig.editor, on_lost, &told, &next_ms, err));
    cr_assert_eq(next_ms, -1);
}

/* ------------------------------------------------------------------ replicas */

Test(editor_recent, what_is_found_done_must_be_safe_too)
{
    add("d", "a.tar", 'a');
    cr_assert_eq(settled, 0, "a commit waits by itself");
    add("d", "a.tar", 'a');
    cr_assert_eq(settled, 1);
    unsettled = 2;
    add("d", "a.tar", 'a');
    cr_assert_eq(settled, 4);
    unsettled = UINT_MAX;
    FAILS(EREMOTEIO, rig_add(rig.editor, "d", "a.tar", 'a', NULL, err));
    /* The answer to a commit was lost: it was made, and is not safe. */
    unsettled = UINT_MAX;
    rig.hook.fault_at = rig.hook.commits + 1;
    rig.hook.fault_count = 1;
    rig.hook.fault = HOOK_LOST_DONE;
    {
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(rig_add(rig.editor, "d", "b.tar", 'b', NULL, &err), -EREMOTEIO);
        cr_assert_not_null(strstr(err.text, "no replica confirmed it"), "%s", err.text);
    }
    unsettled = 0;
}
