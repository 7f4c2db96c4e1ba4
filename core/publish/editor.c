#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "publish/edit.h"

/* Pauses between tries grow to this; each is a random part of its greatest. */
#define PAUSE_MAX_MS 64u
/* ... or to so many times what the try took, where that is more. */
#define PAUSE_FACTOR 8u
#define LONG_PAUSE_MAX_MS 1000u
/* An index that does not answer gets more time to come back. */
#define DOWN_PAUSE_MAX_MS 256u
/* Times after the year 9999 do not compare as text. */
#define LAST_SECOND 253402300799

int atd_edit_no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "the edit needs more memory than there is");
}

int atd_editor_new(const struct atd_editor_options *options, struct atd_editor **ret_editor,
                   struct atd_error *err)
{
    struct atd_editor *editor = calloc(1, sizeof(*editor));
    struct timespec now;

    if (!editor)
        return atd_edit_no_memory(err);
    editor->options = *options;
    if (!editor->options.patience_ms)
        editor->options.patience_ms = ATD_EDIT_PATIENCE_MS;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    editor->random = ((uint64_t)now.tv_nsec << 32 ^ (uint64_t)getpid() ^ (uintptr_t)editor) | 1;
    editor->own = calloc(ATD_EDIT_OWN_MAX, sizeof(*editor->own));
    editor->waiting = calloc(ATD_EDIT_WAITING_MAX, sizeof(*editor->waiting));
    if (!editor->own || !editor->waiting) {
        atd_editor_free(editor);
        return atd_edit_no_memory(err);
    }
    *ret_editor = editor;
    return 0;
}

void atd_editor_free(struct atd_editor *editor)
{
    if (!editor)
        return;
    free(editor->own);
    free(editor->waiting);
    free(editor);
}

void atd_editor_counts(const struct atd_editor *editor, uint64_t *ret_commits,
                       uint64_t *ret_conflicts)
{
    *ret_commits = atomic_load(&editor->commits);
    *ret_conflicts = atomic_load(&editor->conflicts);
}

int64_t atd_editor_now_us(struct atd_editor *editor)
{
    struct timespec now;

    if (editor->options.now_us)
        return editor->options.now_us(editor->options.now_ctx);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ------------------------------------------------------------------ tries */

/* So that two who met do not meet again. */
static void pause_randomly(struct atd_editor *editor, unsigned tries, unsigned most_ms)
{
    uint64_t us;

    if (tries < 16 && 1u << tries < most_ms)
        most_ms = 1u << tries;

    editor->random ^= editor->random << 13;
    editor->random ^= editor->random >> 7;
    editor->random ^= editor->random << 17;
    us = 200 + editor->random % ((uint64_t)most_ms * 1000);
    (void)nanosleep(&(struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000}, NULL);
}

/* The more a try takes, the more of others' fit between: a large dataset is tried less often. */
static unsigned pause_after_conflict(int64_t began_ms)
{
    int64_t took_ms = atd_clock_monotonic_ms() - began_ms;

    if (took_ms * PAUSE_FACTOR <= PAUSE_MAX_MS)
        return PAUSE_MAX_MS;
    return took_ms * PAUSE_FACTOR < LONG_PAUSE_MAX_MS ? (unsigned)took_ms * PAUSE_FACTOR
                                                      : LONG_PAUSE_MAX_MS;
}

/* Errors that say something about the edit, and not about whether the index could be asked. */
static bool is_about_the_edit(int rc)
{
    switch (-rc) {
    case EEXIST:
    case ENOENT:
    case ENOTEMPTY:
    case EINVAL:
    case E2BIG:
    case EFBIG:
    case ENOMEM:
        return true;
    default:
        return false;
    }
}

/* Nobody knows whether it was done, or how much of it. */
static void note_sent(struct atd_edit *edit)
{
    edit->was_sent = true;
    memcpy(edit->superseded_when_sent, edit->superseded, sizeof(edit->superseded));
    for (size_t i = 0; i < edit->count; i++) {
        const struct atd_index_operation *operation = &edit->operations[i];

        if (operation->action == ATD_INDEX_PUT_ENTRY && operation->expect == ATD_INDEX_ABSENT)
            (void)snprintf(edit->sent[edit->sent_count++ % ATD_EDIT_SENT_MAX],
                           sizeof(edit->sent[0]), ATD_STR_FMT,
                           ATD_STR_ARG(operation->after.entry.cid));
    }
}

/* One try, with the memory of the one before gone. *ret_sent: a commit was tried. */
static int try_once(struct atd_edit *edit, atd_edit_plan plan, void *ctx, bool *ret_sent,
                    struct atd_error *err)
{
    struct atd_editor *editor = edit->editor;
    int rc;

    edit->count = 0;
    edit->superseded[0] = '\0';
    atd_arena_init(&edit->arena, ATD_EDIT_BYTES_MAX);
    edit->catalog = atd_live_get(editor->options.live);
    rc = plan(edit, ctx, err);
    *ret_sent = rc == 0 && edit->count > 0;
    if (*ret_sent)
        rc = atd_index_commit(editor->options.writer, edit->operations, edit->count, NULL, err);
    if (rc == -EREMOTEIO && *ret_sent)
        note_sent(edit);
    else if (rc == 0 && !*ret_sent && edit->was_sent)
        atd_editor_own(editor, atd_str_from(edit->superseded_when_sent)); /* it was done */
    if (rc == 0)
        atd_editor_own(editor, atd_str_from(edit->superseded));
    atd_catalog_unref(edit->catalog);
    edit->catalog = NULL;
    atd_arena_release(&edit->arena);
    return rc;
}

int atd_edit_run(struct atd_editor *editor, atd_edit_plan plan, void *ctx, struct atd_error *err)
{
    struct atd_edit *edit = calloc(1, sizeof(*edit));
    int64_t until_ms = atd_clock_monotonic_ms() + editor->options.patience_ms;
    unsigned conflicts = 0;
    struct atd_error why;
    int rc;

    if (!edit)
        return atd_edit_no_memory(err);
    edit->editor = editor;
    for (unsigned tries = 1;; tries++) {
        bool sent;
        bool again;

        int64_t began_ms = atd_clock_monotonic_ms();

        why = (struct atd_error)ATD_ERROR_INIT;
        rc = try_once(edit, plan, ctx, &sent, &why);
        if (rc == 0 && sent)
            (void)atomic_fetch_add(&editor->commits, 1);
        if (rc == -ESTALE) {
            (void)atomic_fetch_add(&editor->conflicts, 1);
            conflicts++;
        }
        /* The next plan finds out whether it was done: it has nothing to do then. */
        again = edit->was_sent ? !is_about_the_edit(rc) : rc == -ESTALE || why.retryable;
        if (rc == 0 || !again)
            break;
        if (atd_clock_monotonic_ms() >= until_ms &&
            (rc != -ESTALE || conflicts >= ATD_EDIT_TRIES)) {
            if (edit->was_sent)
                rc = atd_error_set(&why, EREMOTEIO,
                                   "the index did not answer, and cannot be asked whether the "
                                   "change was made");
            else if (rc == -ESTALE)
                rc = atd_error_set_retryable(&why, EAGAIN,
                                             "others changed the same records %u times meanwhile: "
                                             "try again",
                                             conflicts);
            break;
        }
        pause_randomly(editor, tries,
                       edit->was_sent || rc != -ESTALE ? DOWN_PAUSE_MAX_MS
                                                       : pause_after_conflict(began_ms));
    }
    /* Asked again it refuses, perhaps because of what was done: so nothing may be taken back. */
    if (rc && edit->was_sent && rc != -EREMOTEIO) {
        char refused[ATD_ERROR_TEXT_MAX];

        (void)snprintf(refused, sizeof(refused), "%s", why.text);
        rc = atd_error_set(&why, EREMOTEIO,
                           "the index did not answer whether the change was made; asked again: %s",
                           refused);
    }
    free(edit);
    if (rc && err)
        *err = why;
    return rc;
}

/* ------------------------------------------------------------------ reading */

int atd_edit_find_entry(struct atd_editor *editor, struct atd_str cid, struct atd_arena *arena,
                        bool *ret_exists, struct atd_index_entry *ret_entry, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_index_read_entry(editor->options.writer, cid, arena, ret_entry, &why);

    if (rc && rc != -ENOENT) {
        if (err)
            *err = why;
        return rc;
    }
    *ret_exists = rc == 0;
    return 0;
}

int atd_edit_find_label(struct atd_editor *editor, struct atd_str name, struct atd_str version,
                        struct atd_arena *arena, bool *ret_exists,
                        struct atd_index_label *ret_label, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_index_read_label(editor->options.writer, name, version, arena, ret_label, &why);

    if (rc && rc != -ENOENT) {
        if (err)
            *err = why;
        return rc;
    }
    *ret_exists = rc == 0;
    return 0;
}

/* ------------------------------------------------------------------ operations */

static int add(struct atd_edit *edit, const struct atd_index_operation *operation,
               struct atd_error *err)
{
    if (edit->count == ATD_INDEX_OPERATIONS_MAX)
        return atd_error_set(err, E2BIG, "more than %u records would have to change at once",
                             ATD_INDEX_OPERATIONS_MAX);
    edit->operations[edit->count++] = *operation;
    return 0;
}

static struct atd_index_operation entry_operation(enum atd_index_action action,
                                                  const struct atd_index_entry *before,
                                                  const struct atd_index_entry *after)
{
    struct atd_index_operation operation = {.action = action, .kind = ATD_INDEX_ENTRY};

    operation.expect = before ? ATD_INDEX_SAME : ATD_INDEX_ABSENT;
    if (before)
        operation.before.entry = *before;
    else
        operation.before.entry.cid = after->cid;
    operation.after.entry = after ? *after : *before;
    return operation;
}

int atd_edit_check_entry(struct atd_edit *edit, const struct atd_index_entry *before,
                         struct atd_error *err)
{
    struct atd_index_operation operation = entry_operation(ATD_INDEX_CHECK, before, NULL);

    return add(edit, &operation, err);
}

int atd_edit_put_entry(struct atd_edit *edit, const struct atd_index_entry *before,
                       const struct atd_index_entry *after, struct atd_error *err)
{
    struct atd_index_operation operation = entry_operation(ATD_INDEX_PUT_ENTRY, before, after);

    return add(edit, &operation, err);
}

int atd_edit_set_name(struct atd_edit *edit, const struct atd_index_entry *before,
                      struct atd_str name, struct atd_error *err)
{
    struct atd_index_operation operation =
        entry_operation(ATD_INDEX_SET_ENTRY_NAME, before, before);

    operation.after.entry.name = atd_arena_str(&edit->arena, name);
    return operation.after.entry.name.ptr ? add(edit, &operation, err) : atd_edit_no_memory(err);
}

int atd_edit_put_metadata(struct atd_edit *edit, const struct atd_index_entry *before,
                          struct atd_bytes metadata, struct atd_error *err)
{
    struct atd_index_operation operation =
        entry_operation(ATD_INDEX_SET_ENTRY_METADATA, before, before);

    if ((before->metadata.ptr == NULL) == (metadata.ptr == NULL) &&
        atd_str_equal(atd_bytes_str(before->metadata), atd_bytes_str(metadata)))
        return 0;
    operation.after.entry.metadata = metadata;
    if (metadata.ptr)
        operation.after.entry.metadata = atd_arena_bytes(&edit->arena, metadata);
    if (metadata.ptr && !operation.after.entry.metadata.ptr)
        return atd_edit_no_memory(err);
    return add(edit, &operation, err);
}

int atd_edit_put_metadata_of(struct atd_edit *edit, struct atd_str name,
                             const struct atd_edit_now *now, struct atd_bytes metadata,
                             struct atd_error *err)
{
    size_t before = edit->count;
    int rc = atd_edit_put_metadata(edit, &now->entry, metadata, err);

    /* An entry of that name is renamed when another takes its place; one that only the label
     * brought here stays as it is. */
    if (rc || edit->count == before || !now->has_label || atd_str_equal(now->entry.name, name))
        return rc;
    return atd_edit_check_label(edit, &now->label, err);
}

int atd_edit_delete_entry(struct atd_edit *edit, const struct atd_index_entry *before,
                          struct atd_error *err)
{
    struct atd_index_operation operation = entry_operation(ATD_INDEX_DELETE_ENTRY, before, NULL);

    return add(edit, &operation, err);
}

static struct atd_index_operation label_operation(enum atd_index_action action,
                                                  const struct atd_index_label *before,
                                                  const struct atd_index_label *after)
{
    struct atd_index_operation operation = {.action = action, .kind = ATD_INDEX_LABEL};

    operation.expect = before ? ATD_INDEX_SAME : ATD_INDEX_ABSENT;
    operation.before.label = before ? *before : *after;
    operation.after.label = after ? *after : *before;
    return operation;
}

int atd_edit_check_label(struct atd_edit *edit, const struct atd_index_label *before,
                         struct atd_error *err)
{
    struct atd_index_operation operation = label_operation(ATD_INDEX_CHECK, before, NULL);

    return add(edit, &operation, err);
}

int atd_edit_put_label_as_it_is(struct atd_edit *edit, const struct atd_index_label *before,
                                const struct atd_index_label *after, struct atd_error *err)
{
    struct atd_index_operation operation = label_operation(ATD_INDEX_PUT_LABEL, before, after);

    return add(edit, &operation, err);
}

void atd_edit_time(int64_t us, char ret_text[ATD_EDIT_TIME_MAX])
{
    char text[ATD_CLOCK_TEXT_MAX];

    atd_clock_format(us / 1000000, text);
    (void)snprintf(ret_text, ATD_EDIT_TIME_MAX, "%.19s.%06u+00:00", text, (unsigned)(us % 1000000));
}

/* A time that is later than `text` says, at least `us`. */
static int64_t later_than(struct atd_str text, int64_t us)
{
    ptrdiff_t dot = text.len ? atd_str_find(text, '.') : -1;
    int64_t seconds;
    int64_t fraction_us = 0;

    if (!text.ptr || !atd_clock_parse(text, &seconds) || seconds < 0 || seconds >= LAST_SECOND)
        return us;
    /* Digits after the sixth are left out: one more microsecond is later anyway. */
    for (size_t i = 1, digits = dot >= 0 ? 6 : 0; i <= 6; i++) {
        size_t at = (size_t)dot + i;

        if (i > digits || at >= text.len || text.ptr[at] < '0' || text.ptr[at] > '9')
            digits = 0;
        fraction_us = fraction_us * 10 + (digits ? text.ptr[at] - '0' : 0);
    }
    if (seconds * 1000000 + fraction_us >= us)
        us = seconds * 1000000 + fraction_us + 1;
    return us;
}

int atd_edit_put_label(struct atd_edit *edit, const struct atd_index_label *before,
                       const struct atd_index_label *after, struct atd_error *err)
{
    const struct atd_catalog *catalog = edit->catalog;
    struct atd_index_label label = *after;
    int64_t us = atd_editor_now_us(edit->editor);
    char text[ATD_EDIT_TIME_MAX];

    if (before)
        us = later_than(before->created_at, us);
    for (size_t i = atd_catalog_first_label_named(catalog, after->name);
         i < atd_catalog_label_count(catalog) &&
         atd_str_equal(atd_label_name(atd_catalog_label_at(catalog, i)), after->name);
         i++)
        us = later_than(atd_label_created_at(atd_catalog_label_at(catalog, i)), us);
    for (size_t i = 0; i < edit->count; i++) {
        const struct atd_index_operation *other = &edit->operations[i];

        if (other->action == ATD_INDEX_PUT_LABEL &&
            atd_str_equal(other->after.label.name, after->name))
            us = later_than(other->after.label.created_at, us);
    }
    atd_edit_time(us, text);
    label.created_at = atd_arena_str(&edit->arena, atd_str_from(text));
    if (!label.created_at.ptr)
        return atd_edit_no_memory(err);
    return atd_edit_put_label_as_it_is(edit, before, &label, err);
}

int atd_edit_delete_label(struct atd_edit *edit, const struct atd_index_label *before,
                          struct atd_error *err)
{
    struct atd_index_operation operation = label_operation(ATD_INDEX_DELETE_LABEL, before, NULL);

    return add(edit, &operation, err);
}

int atd_edit_put_schema(struct atd_edit *edit, const struct atd_index_schema *after,
                        struct atd_error *err)
{
    struct atd_index_operation operation = {.action = ATD_INDEX_PUT_SCHEMA,
                                            .kind = ATD_INDEX_SCHEMA,
                                            .expect = ATD_INDEX_ABSENT,
                                            .before.schema = *after,
                                            .after.schema = *after};

    return add(edit, &operation, err);
}
