/*
 * An entry for shards that lie somewhere already: what the library's insert_dataset() does.
 */
#include <errno.h>

#include "atdata/entry.h"
#include "atdata/schema_ref.h"
#include "base/limits.h"
#include "publish/edit.h"

struct insert_edit {
    struct atd_str name;
    const struct atd_edit_successor *successor;
    struct atd_cid cid;
};

/* A reference into a network is nobody's here to check. */
static int check_schema(struct atd_edit *edit, struct atd_str text, struct atd_error *err)
{
    const struct atd_schema *schema;
    struct atd_schema_ref ref;
    int rc = atd_schema_ref_parse(text, &ref, err);

    if (rc || ref.form == ATD_REF_NETWORK)
        return rc;
    rc = atd_edit_schema_of(edit->editor, text, &edit->arena, &schema, err);
    if (rc == 0 && !schema)
        rc = atd_error_set(err, ENOENT,
                           "schema '" ATD_STR_FMT "' is not in this index: publish it first",
                           ATD_STR_ARG(text));
    return rc;
}

static bool is_there_already(const struct atd_edit_now *now, struct atd_str name,
                             const struct atd_cid *cid, struct atd_bytes metadata)
{
    return now->exists && now->has_label && atd_str_equal(now->entry.name, name) &&
           atd_str_equal(now->entry.cid, atd_str_from(cid->text)) &&
           atd_str_equal(atd_bytes_str(now->entry.metadata), atd_bytes_str(metadata));
}

static int plan_insert(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    struct insert_edit *want = ctx;
    struct atd_edit_successor successor = *want->successor;
    struct atd_index_entry there;
    struct atd_edit_now now;
    bool exists;
    int rc = check_schema(edit, successor.schema_ref, err);

    if (rc == 0)
        rc = atd_edit_meaning(edit->editor, edit->catalog, want->name, &edit->arena, &now, err);
    if (rc == 0)
        rc = atd_cid_compute(successor.schema_ref, successor.urls, successor.url_count, &want->cid,
                             err);
    if (rc == 0)
        rc = atd_edit_find_entry(edit->editor, atd_str_from(want->cid.text), &edit->arena, &exists,
                                 &there, err);
    if (rc)
        return rc;
    if (!successor.metadata.ptr && exists)
        successor.metadata = there.metadata;
    if (is_there_already(&now, want->name, &want->cid, successor.metadata))
        return 0;
    return atd_edit_succeed(edit, want->name, &now, &successor, &want->cid, err);
}

int atd_edit_insert(struct atd_editor *editor, struct atd_str name,
                    const struct atd_edit_insertion *insertion, struct atd_cid *ret_cid,
                    struct atd_error *err)
{
    const struct atd_edit_successor successor = {.schema_ref = insertion->schema_ref,
                                                 .urls = insertion->urls,
                                                 .url_count = insertion->url_count,
                                                 .metadata = insertion->metadata};
    struct insert_edit want = {.name = name, .successor = &successor};
    int rc = 0;

    if (successor.url_count == 0)
        rc = atd_error_set(err, EINVAL, "no shards were named");
    if (rc == 0 && successor.metadata.ptr)
        rc = atd_metadata_check(successor.metadata, NULL, err);
    if (rc == 0 && successor.metadata.ptr && !atd_msgpack_is_map(successor.metadata))
        rc = atd_error_set(err, EINVAL, "the metadata is no map");
    if (rc == 0)
        rc = atd_edit_run(editor, plan_insert, &want, err);
    if (rc)
        return atd_error_wrap(err, rc, "inserting dataset '" ATD_STR_FMT "'", ATD_STR_ARG(name));
    *ret_cid = want.cid;
    return 0;
}
