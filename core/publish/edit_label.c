/*
 * Labels: pointed at an entry, taken away. The entry's name follows: what a versioned label of its
 * name points to is called NAME@VERSION, so that lookup by name finds only the one that NAME means.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "publish/edit.h"

struct label_edit {
    struct atd_str name;
    struct atd_str version;
    struct atd_str cid;
};

/* "NAME@VERSION", in the arena. */
static int spell(struct atd_edit *edit, struct atd_str name, struct atd_str version,
                 struct atd_str *ret_text, struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(2 * ATD_NAME_BYTES_MAX);
    int rc;

    atd_buf_append_str(&text, name);
    atd_buf_append_byte(&text, '@');
    atd_buf_append_str(&text, version);
    rc = atd_buf_finish(&text, "the name", err);
    if (rc)
        return rc;
    *ret_text = atd_arena_str(&edit->arena, atd_buf_str(&text));
    return ret_text->ptr ? 0 : atd_edit_no_memory(err);
}

/* ------------------------------------------------------------------ pointing */

/* Whoever takes the latest label of a name must still get NAME@: it becomes later than the new one.
 */
static int touch_unversioned(struct atd_edit *edit, struct atd_str name, struct atd_error *err)
{
    struct atd_index_label label;
    bool is_there;
    int rc =
        atd_edit_find_label(edit->editor, name, ATD_STR(""), &edit->arena, &is_there, &label, err);

    return rc || !is_there ? rc : atd_edit_put_label(edit, &label, &label, err);
}

/* A version of the name. */
static int point_version(struct atd_edit *edit, const struct label_edit *want,
                         const struct atd_index_entry *entry, const struct atd_index_label *after,
                         struct atd_error *err)
{
    struct atd_index_label there;
    struct atd_index_entry other;
    struct atd_str text;
    bool is_there;
    bool is_alive = false;
    int rc = atd_edit_find_label(edit->editor, want->name, want->version, &edit->arena, &is_there,
                                 &there, err);

    if (rc == 0 && is_there && atd_str_equal(there.cid, want->cid))
        return 0;
    if (rc == 0 && is_there)
        rc = atd_edit_find_entry(edit->editor, there.cid, &edit->arena, &is_alive, &other, err);
    if (rc == 0 && is_alive)
        rc = atd_error_set(err, EEXIST,
                           "that version is there and means another entry: choose another version, "
                           "or remove the label first");
    if (rc == 0)
        rc = atd_edit_put_label(edit, is_there ? &there : NULL, after, err);
    if (rc == 0)
        rc = touch_unversioned(edit, want->name, err);
    /* Else it would be deleted in a minute by who does not know the label yet, or show as a dataset
     * of its own. */
    if (rc == 0 && atd_edit_is_superseded(entry->name, entry->cid, NULL)) {
        rc = spell(edit, want->name, want->version, &text, err);
        if (rc == 0)
            rc = atd_edit_set_name(edit, entry, text, err);
    } else if (rc == 0) {
        rc = atd_edit_check_entry(edit, entry, err);
    }
    return rc;
}

/* NAME@ itself: the dataset is another state of it from now on. */
static int point_name(struct atd_edit *edit, const struct label_edit *want,
                      const struct atd_index_entry *entry, const struct atd_index_label *after,
                      struct atd_error *err)
{
    struct atd_edit_now now;
    int rc = atd_edit_meaning(edit->editor, edit->catalog, want->name, &edit->arena, &now, err);
    bool is_former_state = false;

    if (rc == 0)
        rc = atd_edit_find_former(edit, want->name, entry, &is_former_state, err);
    is_former_state = is_former_state || atd_edit_is_superseded(entry->name, entry->cid, NULL);
    if (rc == 0 && now.has_label && atd_str_equal(now.label.cid, want->cid))
        return 0;
    if (rc == 0)
        rc = atd_edit_put_label(edit, now.has_label ? &now.label : NULL, after, err);
    if (rc == 0)
        rc = is_former_state ? atd_edit_set_name(edit, entry, want->name, err)
                             : atd_edit_check_entry(edit, entry, err);
    /* An entry of another name does not become this one's, so ours stays what the name finds. */
    if (rc || (!is_former_state && !atd_str_equal(entry->name, want->name)))
        return rc;
    if (now.exists && atd_str_equal(now.entry.name, want->name) &&
        !atd_str_equal(now.entry.cid, want->cid))
        rc = atd_edit_supersede(edit, want->name, &now.entry, err);
    if (rc == 0)
        rc = atd_edit_supersede_others(edit, want->name, want->cid,
                                       now.exists ? now.entry.cid : ATD_STR(""), err);
    return rc;
}

static int plan_label(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    const struct label_edit *want = ctx;
    const struct atd_index_label after = {
        .name = want->name, .version = want->version, .cid = want->cid};
    struct atd_index_entry entry;
    bool exists;
    int rc = atd_edit_find_entry(edit->editor, want->cid, &edit->arena, &exists, &entry, err);

    if (rc == 0 && !exists)
        rc = atd_error_set(err, ENOENT, "there is no entry '" ATD_STR_FMT "'",
                           ATD_STR_ARG(want->cid));
    if (rc)
        return rc;
    return want->version.len ? point_version(edit, want, &entry, &after, err)
                             : point_name(edit, want, &entry, &after, err);
}

int atd_edit_label(struct atd_editor *editor, struct atd_str name, struct atd_str version,
                   struct atd_str cid, struct atd_error *err)
{
    struct label_edit want = {name, version, cid};
    int rc = atd_edit_run(editor, plan_label, &want, err);

    return rc ? atd_error_wrap(err, rc, "labelling '" ATD_STR_FMT "@" ATD_STR_FMT "'",
                               ATD_STR_ARG(name), ATD_STR_ARG(version))
              : 0;
}

/* ------------------------------------------------------------------ taking away */

/*
 * The entry that was hidden under NAME@VERSION would show as a dataset of that name. It stays
 * hidden: under another version of it, else as superseded, and then the sweep has its say.
 */
static int rename_former(struct atd_edit *edit, const struct atd_index_label *label,
                         struct atd_error *err)
{
    const struct atd_catalog_entry *known = atd_catalog_find_cid(edit->catalog, label->cid);
    struct atd_edit_now now;
    struct atd_index_entry entry;
    struct atd_str text;
    bool exists;
    int rc = spell(edit, label->name, label->version, &text, err);

    if (rc == 0)
        rc = atd_edit_find_entry(edit->editor, label->cid, &edit->arena, &exists, &entry, err);
    if (rc || !exists || !atd_str_equal(entry.name, text))
        return rc;
    for (size_t i = 0; known && i < known->label_count; i++) {
        const struct atd_catalog_label *other = atd_catalog_label_of(edit->catalog, known, i);
        struct atd_index_label fresh;

        if (!atd_str_equal(atd_label_name(other), label->name) || !atd_label_version(other).len ||
            atd_str_equal(atd_label_version(other), label->version))
            continue;
        rc = atd_edit_find_label(edit->editor, atd_label_name(other), atd_label_version(other),
                                 &edit->arena, &exists, &fresh, err);
        if (rc)
            return rc;
        if (!exists || !atd_str_equal(fresh.cid, label->cid))
            continue;
        rc = atd_edit_check_label(edit, &fresh, err);
        if (rc == 0)
            rc = spell(edit, fresh.name, fresh.version, &text, err);
        return rc ? rc : atd_edit_set_name(edit, &entry, text, err);
    }
    rc = atd_edit_meaning(edit->editor, edit->catalog, label->name, &edit->arena, &now, err);
    if (rc)
        return rc;
    /* The last that carries the name is the dataset. */
    if (!now.exists || atd_str_equal(now.entry.cid, entry.cid))
        return atd_edit_set_name(edit, &entry, label->name, err);
    return atd_edit_set_superseded(edit, label->name, &entry, err);
}

static int plan_remove_label(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    const struct label_edit *want = ctx;
    struct atd_index_label label;
    bool is_there;
    int rc = atd_edit_find_label(edit->editor, want->name, want->version, &edit->arena, &is_there,
                                 &label, err);

    if (rc)
        return rc;
    if (!is_there)
        return edit->was_sent ? 0 : atd_error_set(err, ENOENT, "there is no such label");
    rc = atd_edit_delete_label(edit, &label, err);
    return rc || !label.version.len ? rc : rename_former(edit, &label, err);
}

int atd_edit_remove_label(struct atd_editor *editor, struct atd_str name, struct atd_str version,
                          struct atd_error *err)
{
    struct label_edit want = {name, version, {"", 0}};
    int rc = atd_edit_run(editor, plan_remove_label, &want, err);

    return rc ? atd_error_wrap(err, rc, "removing label '" ATD_STR_FMT "@" ATD_STR_FMT "'",
                               ATD_STR_ARG(name), ATD_STR_ARG(version))
              : 0;
}
