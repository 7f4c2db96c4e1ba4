/*
 * A new entry in the place of the one that a name means, in one change: whoever looks the name up
 * finds the old one or the new one, never none and never both.
 */
#include <errno.h>
#include <stdio.h>

#include "atdata/cid.h"
#include "atdata/entry.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "publish/edit.h"

#define SUPERSEDED "@superseded:"
/* Others of a name that are renamed along; a thousand of them take some commits. */
#define OTHERS_MAX 100u

bool atd_edit_is_superseded(struct atd_str entry_name, struct atd_str cid, struct atd_str *ret_name)
{
    size_t tail = strlen(SUPERSEDED) + cid.len;

    if (entry_name.len < tail || !atd_str_ends_with(entry_name, cid) ||
        !atd_str_starts_with(atd_str_from_byte(entry_name, entry_name.len - tail),
                             ATD_STR(SUPERSEDED)))
        return false;
    if (ret_name)
        *ret_name = atd_str_head(entry_name, entry_name.len - tail);
    return true;
}

int atd_edit_find_former(struct atd_edit *edit, struct atd_str name,
                         const struct atd_index_entry *entry, bool *ret_former,
                         struct atd_error *err)
{
    struct atd_index_label label;
    struct atd_str base;
    int rc;

    *ret_former = false;
    if (!atd_str_starts_with(entry->name, name) || entry->name.len <= name.len + 1 ||
        entry->name.ptr[name.len] != '@')
        return 0;
    if (atd_edit_is_superseded(entry->name, entry->cid, &base) && atd_str_equal(base, name)) {
        *ret_former = true;
        return 0;
    }
    rc = atd_edit_find_label(edit->editor, name, atd_str_from_byte(entry->name, name.len + 1),
                             &edit->arena, ret_former, &label, err);
    *ret_former = rc == 0 && *ret_former && atd_str_equal(label.cid, entry->cid);
    return rc;
}

/*
 * A versioned label of the name that points to the entry: *ret_found, and an operation that checks
 * that it still does when the entry is renamed after it.
 */
static int find_version(struct atd_edit *edit, struct atd_str name, struct atd_str cid,
                        bool *ret_found, struct atd_str *ret_version, struct atd_error *err)
{
    const struct atd_catalog_entry *known = atd_catalog_find_cid(edit->catalog, cid);

    *ret_found = false;
    for (size_t i = 0; known && i < known->label_count; i++) {
        const struct atd_catalog_label *label = atd_catalog_label_of(edit->catalog, known, i);
        struct atd_index_label fresh;
        bool is_there;
        int rc;

        if (!atd_label_version(label).len || !atd_str_equal(atd_label_name(label), name))
            continue;
        rc = atd_edit_find_label(edit->editor, name, atd_label_version(label), &edit->arena,
                                 &is_there, &fresh, err);
        if (rc)
            return rc;
        if (!is_there || !atd_str_equal(fresh.cid, cid))
            continue;
        *ret_found = true;
        *ret_version = fresh.version;
        return atd_edit_check_label(edit, &fresh, err);
    }
    return 0;
}

/* NAME, a mark, and what follows it. */
static int set_marked_name(struct atd_edit *edit, const struct atd_index_entry *entry,
                           struct atd_str name, const char *mark, struct atd_str rest,
                           struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(2 * ATD_NAME_BYTES_MAX);
    int rc;

    atd_buf_append_str(&text, name);
    atd_buf_append_text(&text, mark);
    atd_buf_append_str(&text, rest);
    rc = atd_buf_finish(&text, "the name", err);
    return rc ? rc : atd_edit_set_name(edit, entry, atd_buf_str(&text), err);
}

int atd_edit_set_superseded(struct atd_edit *edit, struct atd_str name,
                            const struct atd_index_entry *entry, struct atd_error *err)
{
    return set_marked_name(edit, entry, name, SUPERSEDED, entry->cid, err);
}

int atd_edit_supersede(struct atd_edit *edit, struct atd_str name,
                       const struct atd_index_entry *entry, struct atd_error *err)
{
    struct atd_str version;
    bool has_version;
    int rc = find_version(edit, name, entry->cid, &has_version, &version, err);

    if (rc == 0 && has_version)
        return set_marked_name(edit, entry, name, "@", version, err);
    return rc ? rc : atd_edit_set_superseded(edit, name, entry, err);
}

int atd_edit_supersede_others(struct atd_edit *edit, struct atd_str name, struct atd_str but,
                              struct atd_str and_but, struct atd_error *err)
{
    const struct atd_catalog *catalog = edit->catalog;
    unsigned renamed = 0;
    int rc = 0;

    for (size_t i = atd_catalog_first_named(catalog, name);
         rc == 0 && i < atd_catalog_entry_count(catalog) && renamed < OTHERS_MAX; i++) {
        const struct atd_catalog_entry *known = atd_catalog_named_at(catalog, i);
        struct atd_index_entry entry;
        bool is_there;

        if (!atd_str_equal(atd_entry_name(known), name))
            break;
        if (atd_str_equal(atd_entry_cid(known), but) ||
            atd_str_equal(atd_entry_cid(known), and_but))
            continue;
        rc = atd_edit_find_entry(edit->editor, atd_entry_cid(known), &edit->arena, &is_there,
                                 &entry, err);
        if (rc || !is_there || !atd_str_equal(entry.name, name))
            continue;
        rc = atd_edit_supersede(edit, name, &entry, err);
        renamed++;
    }
    return rc;
}

/* Entries that earlier tries of this edit left under the name (on a cluster). */
static int supersede_sent(struct atd_edit *edit, struct atd_str name, struct atd_str but,
                          struct atd_str and_but, struct atd_error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < edit->sent_count && i < ATD_EDIT_SENT_MAX; i++) {
        struct atd_str cid = atd_str_from(edit->sent[i]);
        struct atd_index_entry entry;
        bool is_there;

        /* The catalog's are done with (supersede_others). */
        if (atd_str_equal(cid, but) || atd_str_equal(cid, and_but) ||
            atd_catalog_find_cid(edit->catalog, cid))
            continue;
        rc = atd_edit_find_entry(edit->editor, cid, &edit->arena, &is_there, &entry, err);
        if (rc == 0 && is_there && atd_str_equal(entry.name, name))
            rc = atd_edit_set_superseded(edit, name, &entry, err);
    }
    return rc;
}

/* ------------------------------------------------------------------ the new entry */

/*
 * An entry with the successor's CID that is there already: an earlier state of this dataset, or
 * another dataset that lists the same shards under the same schema (the index has one record for
 * both, ATDATA-FORMATS 0.8). *ret_is_shared: that one keeps its name, and a label leads to it.
 */
static int take_existing(struct atd_edit *edit, struct atd_str name,
                         const struct atd_index_entry *there, struct atd_bytes metadata,
                         bool *ret_is_shared, struct atd_error *err)
{
    const struct atd_catalog_entry *known = atd_catalog_find_cid(edit->catalog, there->cid);
    bool is_former;
    int rc = atd_edit_find_former(edit, name, there, &is_former, err);

    *ret_is_shared = false;
    if (rc || is_former || atd_str_equal(there->name, name) ||
        atd_edit_is_superseded(there->name, there->cid, NULL))
        return rc;
    /* A version of another dataset: its label leads there whatever it is called. */
    if (known && atd_str_equal(atd_entry_name(known), there->name) &&
        atd_catalog_is_superseded(edit->catalog, known))
        return 0;
    *ret_is_shared = true;
    if (!metadata.ptr || atd_str_equal(atd_bytes_str(metadata), atd_bytes_str(there->metadata)))
        return 0;
    return atd_error_set(err, EEXIST,
                         "dataset '" ATD_STR_FMT "' has the same shards and the same schema, and "
                         "an index cannot hold both: publish under another schema",
                         ATD_STR_ARG(there->name));
}

static int put_entry(struct atd_edit *edit, struct atd_str name,
                     const struct atd_edit_successor *successor, struct atd_str cid,
                     struct atd_error *err)
{
    atd_auto_buf struct atd_buf urls = ATD_BUF_INIT(ATD_URLS_BYTES_MAX);
    struct atd_index_entry after = {.cid = cid,
                                    .name = name,
                                    .schema_ref = successor->schema_ref,
                                    .metadata = successor->metadata};
    struct atd_index_entry there;
    bool is_there;
    bool is_shared = false;
    int rc = atd_edit_find_entry(edit->editor, cid, &edit->arena, &is_there, &there, err);

    if (rc == 0 && is_there)
        rc = take_existing(edit, name, &there, successor->metadata, &is_shared, err);
    if (rc)
        return rc;
    atd_editor_disown(edit->editor, cid);
    if (is_shared)
        return atd_edit_check_entry(edit, &there, err);
    atd_urls_encode(successor->urls, successor->url_count, &urls);
    rc = atd_buf_finish(&urls, "the list of shards", err);
    if (rc)
        return rc;
    after.data_urls = atd_arena_bytes(&edit->arena, atd_buf_bytes(&urls));
    if (!after.data_urls.ptr)
        return atd_edit_no_memory(err);
    return atd_edit_put_entry(edit, is_there ? &there : NULL, &after, err);
}

static int replace(struct atd_edit *edit, struct atd_str name, const struct atd_index_entry *entry,
                   struct atd_error *err)
{
    int rc;

    /* An entry of another name, which only a label brought here, stays that one's. */
    if (!atd_str_equal(entry->name, name))
        return atd_edit_check_entry(edit, entry, err);
    rc = atd_edit_supersede(edit, name, entry, err);
    if (rc == 0 && entry->cid.len == ATD_CID_TEXT_LEN)
        (void)snprintf(edit->superseded, sizeof(edit->superseded), ATD_STR_FMT,
                       ATD_STR_ARG(entry->cid));
    return rc;
}

int atd_edit_succeed(struct atd_edit *edit, struct atd_str name, const struct atd_edit_now *now,
                     const struct atd_edit_successor *successor, struct atd_cid *ret_cid,
                     struct atd_error *err)
{
    struct atd_index_label label = {.name = name, .version = ATD_STR("")};
    struct atd_str old_cid = now->exists ? now->entry.cid : ATD_STR("");
    struct atd_cid cid;
    int rc =
        atd_cid_compute(successor->schema_ref, successor->urls, successor->url_count, &cid, err);

    if (rc)
        return rc;
    label.cid = atd_arena_str(&edit->arena, atd_str_from(cid.text));
    if (!label.cid.ptr)
        return atd_edit_no_memory(err);
    /* New keys first, then labels, then old entries: the order that a cluster takes. */
    rc = put_entry(edit, name, successor, label.cid, err);
    if (rc == 0)
        rc = atd_edit_put_label(edit, now->has_label ? &now->label : NULL, &label, err);
    if (rc == 0 && now->exists && !atd_str_equal(old_cid, label.cid))
        rc = replace(edit, name, &now->entry, err);
    if (rc == 0)
        rc = atd_edit_supersede_others(edit, name, old_cid, label.cid, err);
    if (rc == 0)
        rc = supersede_sent(edit, name, old_cid, label.cid, err);
    if (rc == 0)
        *ret_cid = cid;
    return rc;
}
