/*
 * Another name for a dataset: its entry, its labels, and what was superseded under the old one.
 */
#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "publish/edit.h"

/* Operations that rename what hangs on a name leave room for the others of their commit. */
#define HANGERS_MAX (ATD_INDEX_OPERATIONS_MAX - 16u)

struct rename_edit {
    struct atd_str from;
    struct atd_str to;
    struct atd_cid cid; /* what was sent under the new name; empty: nothing yet */
};

/* A version of the old name, to the new one; it keeps its time. */
static int move_version(struct atd_edit *edit, const struct atd_index_label *label,
                        struct atd_str to, struct atd_error *err)
{
    struct atd_index_label after = *label;
    struct atd_index_label there;
    struct atd_index_entry other;
    bool is_there;
    bool is_alive = false;
    int rc =
        atd_edit_find_label(edit->editor, to, label->version, &edit->arena, &is_there, &there, err);

    if (rc == 0 && is_there)
        rc = atd_edit_find_entry(edit->editor, there.cid, &edit->arena, &is_alive, &other, err);
    if (rc == 0 && is_alive)
        rc =
            atd_error_set(err, EEXIST, "there is a label '" ATD_STR_FMT "@" ATD_STR_FMT "' already",
                          ATD_STR_ARG(to), ATD_STR_ARG(label->version));
    if (rc)
        return rc;
    after.name = to;
    rc = atd_edit_put_label_as_it_is(edit, is_there ? &there : NULL, &after, err);
    return rc ? rc : atd_edit_delete_label(edit, label, err);
}

static int move_versions(struct atd_edit *edit, const struct rename_edit *want,
                         struct atd_error *err)
{
    const struct atd_catalog *catalog = edit->catalog;
    int rc = 0;

    for (size_t i = atd_catalog_first_label_named(catalog, want->from);
         rc == 0 && i < atd_catalog_label_count(catalog); i++) {
        const struct atd_catalog_label *known = atd_catalog_label_at(catalog, i);
        struct atd_index_label label;
        bool is_there;

        if (!atd_str_equal(atd_label_name(known), want->from))
            break;
        if (!atd_label_version(known).len)
            continue;
        rc = atd_edit_find_label(edit->editor, atd_label_name(known), atd_label_version(known),
                                 &edit->arena, &is_there, &label, err);
        if (rc == 0 && is_there)
            rc = move_version(edit, &label, want->to, err);
    }
    return rc;
}

/* What an entry that hung on the old name is called under the new one; ptr NULL: as it was. */
static int hanger_name(struct atd_edit *edit, const struct rename_edit *want,
                       const struct atd_catalog_entry *known, const struct atd_index_entry *entry,
                       struct atd_str *ret_name, struct atd_error *err)
{
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT(2 * ATD_NAME_BYTES_MAX);
    struct atd_str base;
    bool is_superseded =
        atd_edit_is_superseded(entry->name, entry->cid, &base) && atd_str_equal(base, want->from);
    /* Others may be called NAME@something too: only what we renamed. */
    bool is_version = atd_str_equal(entry->name, atd_entry_name(known)) &&
                      !atd_str_equal(entry->name, want->from) &&
                      atd_catalog_is_superseded(edit->catalog, known);
    int rc;

    *ret_name = (struct atd_str){NULL, 0};
    if (!is_superseded && !is_version)
        return 0;
    atd_buf_append_str(&name, want->to);
    atd_buf_append_str(&name, atd_str_from_byte(entry->name, want->from.len));
    rc = atd_buf_finish(&name, "the name", err);
    if (rc)
        return rc;
    *ret_name = atd_arena_str(&edit->arena, atd_buf_str(&name));
    return ret_name->ptr ? 0 : atd_edit_no_memory(err);
}

/*
 * Others of the old name, and entries that were superseded under it: under the new one they stay
 * hidden. The catalog may not know yet that they were.
 */
static int move_hangers(struct atd_edit *edit, const struct rename_edit *want, struct atd_str but,
                        struct atd_error *err)
{
    const struct atd_catalog *catalog = edit->catalog;
    int rc = 0;

    for (size_t i = atd_catalog_first_named(catalog, want->from);
         rc == 0 && i < atd_catalog_entry_count(catalog) && edit->count < HANGERS_MAX; i++) {
        const struct atd_catalog_entry *known = atd_catalog_named_at(catalog, i);
        struct atd_index_entry entry;
        struct atd_str name;
        bool is_there;

        if (!atd_str_starts_with(atd_entry_name(known), want->from))
            break;
        if (atd_str_equal(atd_entry_cid(known), but) ||
            (atd_entry_name(known).len > want->from.len &&
             atd_entry_name(known).ptr[want->from.len] != '@'))
            continue;
        rc = atd_edit_find_entry(edit->editor, atd_entry_cid(known), &edit->arena, &is_there,
                                 &entry, err);
        if (rc || !is_there)
            continue;
        if (atd_str_equal(entry.name, want->from)) {
            rc = atd_edit_supersede(edit, want->to, &entry, err);
            continue;
        }
        rc = hanger_name(edit, want, known, &entry, &name, err);
        if (rc == 0 && name.ptr)
            rc = atd_edit_set_name(edit, &entry, name, err);
    }
    return rc;
}

/*
 * Whether the try whose answer was lost did it: the new name means what the old one meant, or its
 * entry bears the new name, now that others went on from there.
 */
static int find_done(struct atd_edit *edit, const struct rename_edit *want,
                     const struct atd_edit_now *to, bool *ret_done, struct atd_error *err)
{
    struct atd_str cid = atd_str_from(want->cid.text);
    struct atd_index_entry entry;
    bool is_there;
    int rc;

    *ret_done = atd_str_equal(to->entry.cid, cid);
    if (*ret_done)
        return 0;
    rc = atd_edit_find_entry(edit->editor, cid, &edit->arena, &is_there, &entry, err);
    *ret_done = rc == 0 && is_there && atd_str_starts_with(entry.name, want->to) &&
                (entry.name.len == want->to.len || entry.name.ptr[want->to.len] == '@');
    return rc;
}

static int plan_rename(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    struct rename_edit *want = ctx;
    struct atd_edit_now from;
    struct atd_edit_now to;
    struct atd_index_label label;
    bool is_done;
    int rc = atd_edit_meaning(edit->editor, edit->catalog, want->from, &edit->arena, &from, err);

    if (rc == 0)
        rc = atd_edit_meaning(edit->editor, edit->catalog, want->to, &edit->arena, &to, err);
    if (rc)
        return rc;
    if (edit->was_sent && to.exists) {
        rc = find_done(edit, want, &to, &is_done, err);
        if (rc || is_done)
            return rc;
    }
    if (!from.exists)
        return atd_error_set(err, ENOENT, "there is no such dataset");
    if (to.exists)
        return atd_error_set(err, EEXIST, "there is a dataset '" ATD_STR_FMT "' already",
                             ATD_STR_ARG(want->to));
    (void)snprintf(
        want->cid.text, sizeof(want->cid.text), "%.*s",
        (int)(from.entry.cid.len < ATD_CID_TEXT_LEN ? from.entry.cid.len : ATD_CID_TEXT_LEN),
        from.entry.cid.ptr);
    if (atd_str_equal(from.entry.name, want->from))
        rc = atd_edit_set_name(edit, &from.entry, want->to, err);
    /* The label of the new name is expected as it was when the name meant nothing. */
    label = (struct atd_index_label){.name = want->to, .version = ATD_STR("")};
    if (from.has_label && atd_str_equal(from.label.cid, from.entry.cid))
        label.description = from.label.description;
    label.cid = from.entry.cid;
    if (rc == 0)
        rc = move_versions(edit, want, err);
    /* Behind its versions, so that it is later than they are. */
    if (rc == 0)
        rc = atd_edit_put_label(edit, to.has_label ? &to.label : NULL, &label, err);
    if (rc == 0 && from.has_label)
        rc = atd_edit_delete_label(edit, &from.label, err);
    return rc ? rc : move_hangers(edit, want, from.entry.cid, err);
}

int atd_edit_rename(struct atd_editor *editor, struct atd_str from, struct atd_str to,
                    struct atd_error *err)
{
    struct rename_edit want = {.from = from, .to = to};
    int rc = atd_str_equal(from, to) ? 0 : atd_edit_run(editor, plan_rename, &want, err);

    return rc ? atd_error_wrap(err, rc, "renaming dataset '" ATD_STR_FMT "'", ATD_STR_ARG(from))
              : 0;
}
