#include "records.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atdata/entry.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/file_name.h"
#include "reply.h"
#include "verdict.h"

#define SCHEMA_ARENA_MAX (64u << 20)

struct record_edit {
    struct atd_publisher_edit edit; /* first */
    struct fs *fs;
    fuse_req_t req;        /* NULL: nobody to answer */
    struct staged *staged; /* a reference; NULL: the text is `kept` */
    struct atd_buf kept;
    enum records_name name;
    enum node_kind directory;
    struct atd_buf dataset;
    char subject[ATD_FILE_NAME_MAX + 1];
    char leaf[ATD_FILE_NAME_MAX + 1]; /* "schema.json", "metadata.json", "NAME@VERSION.json" */
};

/* ------------------------------------------------------------------ on the commit thread */

static int read_text(struct record_edit *edit, struct atd_buf *out, struct atd_error *err)
{
    uint8_t piece[64 << 10];
    size_t got = edit->staged != NULL;
    int rc = 0;

    atd_buf_append(out, edit->kept.ptr, edit->kept.len);
    while (rc == 0 && got > 0) {
        rc = atd_publication_read(edit->staged->publication, out->len, piece, sizeof(piece), &got,
                                  err);
        if (rc == 0)
            atd_buf_append(out, piece, got);
    }
    return rc ? rc : atd_buf_finish(out, edit->leaf, err);
}

/* A dataset that has no shard yet keeps it here until there is one. */
static int keep(struct record_edit *edit, enum staged_record record, struct atd_bytes text,
                struct atd_error *err)
{
    return staging_put_record(edit->fs->staging, atd_str_from(edit->subject), record, text, err);
}

static int apply_schema(struct record_edit *edit, struct atd_editor *editor, struct atd_bytes text,
                        struct atd_error *err)
{
    struct atd_arena arena = ATD_ARENA_INIT(SCHEMA_ARENA_MAX);
    const struct atd_schema *schema;
    struct atd_edit_result result;
    int rc = atd_schema_decode(text, &arena, &schema, err);

    if (rc == 0)
        rc = atd_edit_schema_check(schema, err);
    if (rc == 0) {
        rc = atd_edit_set_schema(editor, atd_buf_str(&edit->dataset), schema, &result, err);
        if (rc == -ENOENT)
            rc = keep(edit, STAGED_SCHEMA, text, err);
    }
    atd_arena_release(&arena);
    return rc;
}

static int apply_metadata(struct record_edit *edit, struct atd_editor *editor,
                          struct atd_bytes text, struct atd_error *err)
{
    atd_auto_buf struct atd_buf user = ATD_BUF_INIT(ATD_METADATA_BYTES_MAX);
    int rc = atd_metadata_from_json(atd_bytes_str(text), &user, err);

    if (rc)
        return rc;
    rc = atd_edit_set_metadata(editor, atd_buf_str(&edit->dataset), atd_buf_bytes(&user), err);
    return rc == -ENOENT ? keep(edit, STAGED_METADATA, text, err) : rc;
}

/* The file's name must say what is in it, or nobody would find it. */
static int check_stem(const struct record_edit *edit, const struct atd_schema *schema,
                      struct atd_error *err)
{
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT(2 * ATD_NAME_BYTES_MAX + 2);
    atd_auto_buf struct atd_buf file = ATD_BUF_INIT(4096);

    atd_buf_append_str(&name, schema->name);
    atd_buf_append_byte(&name, '@');
    atd_buf_append_str(&name, schema->version);
    if (atd_buf_finish(&name, "the schema's name", err) != 0)
        return -ENOMEM;
    atd_file_name_encode(atd_buf_str(&name), (struct atd_str){"", 0}, ATD_STR(".json"), &file);
    if (atd_buf_finish(&file, "the schema's file name", err) != 0)
        return -ENOMEM;
    if (!atd_str_equal(atd_buf_str(&file), atd_str_from(edit->leaf)))
        return atd_error_set(err, EINVAL,
                             "the schema in it calls itself '" ATD_STR_FMT "': name the file '%s'",
                             ATD_STR_ARG(atd_buf_str(&name)), (const char *)file.ptr);
    return 0;
}

static int publish_schema(struct record_edit *edit, struct atd_editor *editor,
                          struct atd_bytes text, struct atd_error *err)
{
    struct atd_arena arena = ATD_ARENA_INIT(SCHEMA_ARENA_MAX);
    const struct atd_schema *schema;
    int rc = atd_schema_decode(text, &arena, &schema, err);

    if (rc == 0)
        rc = check_stem(edit, schema, err);
    if (rc == 0)
        rc = atd_edit_publish_schema(editor, schema, err);
    atd_arena_release(&arena);
    return rc;
}

static int run_edit(struct atd_publisher_edit *base, struct atd_editor *editor,
                    struct atd_error *err)
{
    struct record_edit *edit = (struct record_edit *)base;
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(STAGED_TEXT_MAX);
    int rc = read_text(edit, &text, err);

    if (rc)
        return rc;
    if (edit->directory == NODE_SCHEMAS)
        return publish_schema(edit, editor, atd_buf_bytes(&text), err);
    if (strcmp(edit->leaf, "schema.json") == 0)
        return apply_schema(edit, editor, atd_buf_bytes(&text), err);
    return apply_metadata(edit, editor, atd_buf_bytes(&text), err);
}

/* ------------------------------------------------------------------ what follows */

static struct staged_place place_of(const struct record_edit *edit)
{
    return (struct staged_place){.directory = edit->directory,
                                 .subject = atd_str_from(edit->subject),
                                 .leaf = atd_str_from(edit->leaf)};
}

static void free_edit(struct record_edit *edit)
{
    staged_unref(edit->fs->staging, edit->staged);
    atd_buf_release(&edit->kept);
    atd_buf_release(&edit->dataset);
    free(edit);
}

static void drop_name(struct record_edit *edit, const struct staged_place *place)
{
    struct fs *fs = edit->fs;
    struct staged_look look;
    struct staged_place from;

    if (!edit->staged)
        return;
    staging_look(fs->staging, edit->staged, &look);
    from = staged_where_place(&look.where);
    notify_place(fs, &from);
    atomic_store(&edit->staged->is_settled, true);
    (void)staging_remove(fs->staging, edit->staged);
    notify_place(fs, place);
}

static void on_done(struct atd_publisher_edit *base, const struct atd_error *why)
{
    struct record_edit *edit = (struct record_edit *)base;
    struct fs *fs = edit->fs;
    struct staged_place place = place_of(edit);
    struct atd_error shown;
    char path[TARGET_PATH_MAX];
    char what[TARGET_PATH_MAX + 16];
    char note[ATD_ERROR_TEXT_MAX + 2];

    target_path(&place, path);
    (void)snprintf(what, sizeof(what), "write %s", path);
    if (why) {
        shown = *why;
        if (why->code != EEXIST)
            shown.code = verdict_errno(why);
        if (edit->name == RECORDS_KEEP_NAME)
            drop_name(edit, &place); /* the old one is back */
        (void)snprintf(note, sizeof(note), "%s\n", why->text);
        staging_put_note(fs->staging, &place, note);
        notify_note(fs, &place);
        if (edit->req)
            reply_error(fs, edit->req, what, &shown);
        else
            events_note(fs->events, what, &shown);
    } else {
        drop_name(edit, &place);
        if (staging_drop_note(fs->staging, &place))
            notify_note(fs, &place);
        if (edit->req)
            (void)fuse_reply_err(edit->req, 0);
    }
    free_edit(edit);
}

/* ------------------------------------------------------------------ asking */

static struct record_edit *make_edit(struct fs *fs, fuse_req_t req, struct staged *staged,
                                     const struct target *target, enum records_name name)
{
    struct record_edit *edit = calloc(1, sizeof(*edit));

    if (!edit)
        return NULL;
    edit->edit.run = run_edit;
    edit->edit.done = on_done;
    edit->fs = fs;
    edit->req = req;
    edit->staged = staged ? staged_ref(fs->staging, staged) : NULL;
    atd_buf_init(&edit->kept, STAGED_TEXT_MAX);
    edit->name = name;
    edit->directory = target->place.directory;
    atd_buf_init(&edit->dataset, ATD_NAME_BYTES_MAX);
    atd_buf_append(&edit->dataset, target->dataset.ptr, target->dataset.len);
    (void)snprintf(edit->subject, sizeof(edit->subject), ATD_STR_FMT,
                   ATD_STR_ARG(target->place.subject));
    (void)snprintf(edit->leaf, sizeof(edit->leaf), ATD_STR_FMT, ATD_STR_ARG(target->place.leaf));
    return edit;
}

void records_apply(struct fs *fs, fuse_req_t req, struct staged *staged,
                   const struct target *target, enum records_name name)
{
    struct atd_publication_status status;
    struct atd_error why = ATD_ERROR_INIT;
    struct record_edit *edit;

    atd_publication_status(staged->publication, &status);
    if (status.size_bytes == 0 && name == RECORDS_KEEP_NAME) {
        if (req)
            (void)fuse_reply_err(req, 0);
        return;
    }
    if (status.state == ATD_PUBLICATION_POISONED)
        (void)atd_error_set(&why, EIO, "a write to it failed: %s", status.why.text);
    else if (status.size_bytes > STAGED_TEXT_MAX)
        (void)atd_error_set(&why, EFBIG, "it is larger than %u MiB", STAGED_TEXT_MAX >> 20);
    edit = make_edit(fs, req, staged, target, name);
    if (!edit)
        (void)atd_error_set(&why, ENOMEM, "out of memory");
    if (edit && !why.code && atd_publisher_edit(fs->publisher, &edit->edit, &why) == 0)
        return;
    if (edit)
        on_done(&edit->edit, &why);
    else if (req)
        (void)fuse_reply_err(req, ENOMEM);
}

void records_apply_kept(struct fs *fs, const struct target *target, struct atd_buf *text)
{
    static const char leaf[] = "metadata.json";
    struct record_edit *edit = make_edit(fs, NULL, NULL, target, RECORDS_KEEP_NAME);
    struct atd_error why = ATD_ERROR_INIT;

    if (!edit)
        return;
    memcpy(edit->leaf, leaf, sizeof(leaf));
    edit->kept = *text;
    atd_buf_init(text, STAGED_TEXT_MAX);
    if (atd_publisher_edit(fs->publisher, &edit->edit, &why) != 0)
        on_done(&edit->edit, &why);
}

int records_keep_schema(struct fs *fs, const struct target *target, struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(STAGED_TEXT_MAX);
    struct atd_bytes bytes;
    int64_t when_s;

    if (target->place.directory == NODE_SCHEMAS ||
        !staging_get_record(fs->staging, target->place.subject, STAGED_SCHEMA, &text, &when_s))
        return 0;
    bytes = atd_buf_bytes(&text);
    return atd_publisher_keep_schema(fs->publisher, atd_buf_str(&target->dataset), &bytes, err);
}

int records_stage(struct fs *fs, const struct node *node, const struct staged_place *place,
                  bool with_content, struct staged **ret_staged, struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(STAGED_TEXT_MAX);
    atd_auto_buf struct atd_buf dataset = ATD_BUF_INIT(ATD_NAME_BYTES_MAX);
    struct atd_publication *publication = NULL;
    enum node_kind directory;
    struct atd_str subject;
    struct view view = {0};
    int rc;

    node_directory(node, &directory, &subject);
    rc = target_dataset_name(fs, subject, &dataset, err);
    if (rc == 0 && with_content) {
        rc = view_open_for(fs, directory, subject, node_leaf(node), ATD_EFFORT_MEMORY, &view, err);
        if (rc == 0)
            rc = view_render(fs, &view, node->kind, node_leaf(node), &text, err);
        if (view.catalog)
            view_close(&view);
    }
    if (rc == 0)
        rc = atd_publication_new(fs->publisher, atd_buf_str(&dataset), (struct atd_str){"", 0},
                                 &publication, err);
    if (rc == 0 && text.len)
        rc = atd_publication_write(publication, 0, atd_buf_bytes(&text), NULL, err);
    if (rc == 0)
        rc = staging_add(fs->staging, place,
                         atd_upload_name_classify(place->leaf, NULL, NULL) == ATD_UPLOAD_RECORD
                             ? STAGED_TEXT
                             : STAGED_FILE,
                         publication, ret_staged, err);
    if (rc && publication)
        atd_publication_unref(publication);
    return rc;
}
