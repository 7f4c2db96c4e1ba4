/*
 * The contents of text files and links, through the view of their directory.
 */
#include <errno.h>

#include "control.h"
#include "layout_staged.h"
#include "render.h"

const struct atd_catalog_schema *view_schema(const struct view *view)
{
    return !view->entry || view->entry->schema == ATD_NONE
               ? NULL
               : atd_catalog_schema_at(view->catalog, view->entry->schema);
}

/* A record in one of its forms, in schemas/ or in a dataset's directory. */
static int render_schema(const struct atd_catalog_schema *schema, enum node_kind kind,
                         struct atd_buf *out, struct atd_error *err)
{
    switch (kind) {
    case NODE_SCHEMA_PY:
    case NODE_SCHEMAS_PY:
        return render_schema_py(schema, out, err);
    case NODE_SCHEMA_JSONSCHEMA:
    case NODE_SCHEMAS_JSONSCHEMA:
        return render_schema_jsonschema(schema, out, err);
    default:
        return render_schema_json(schema, out, err);
    }
}

static int render_in_schemas(const struct view *view, enum node_kind kind, struct atd_str leaf,
                             struct atd_buf *out, struct atd_error *err)
{
    size_t suffix = strlen(kind == NODE_SCHEMAS_JSON ? ".json"
                           : kind == NODE_SCHEMAS_PY ? ".py"
                                                     : ".jsonschema");
    const struct atd_catalog_schema *schema =
        leaf.len > suffix
            ? atd_catalog_find_schema(view->catalog, atd_str_head(leaf, leaf.len - suffix))
            : NULL;

    if (!schema)
        return atd_error_set(err, ENOENT, "the schema is not in the index any more");
    return render_schema(schema, kind, out, err);
}

static int render_link(const struct view *view, struct atd_str leaf, struct atd_buf *out,
                       struct atd_error *err)
{
    const struct atd_catalog_label *label = atd_catalog_find_label(view->catalog, leaf);

    if (!label)
        return atd_error_set(err, ENOENT, "the label is not in the index any more");
    atd_buf_append_text(out, "../by-cid/");
    atd_buf_append_str(out, atd_entry_file_name(atd_catalog_entry_at(view->catalog, label->entry)));
    return atd_buf_finish(out, "a link", err);
}

static int render_in_empty(const struct view *view, enum node_kind kind, struct atd_buf *out,
                           struct atd_error *err)
{
    int64_t mtime_s;

    if (!view_empty_record(view, kind, out, &mtime_s))
        return atd_error_set(err, ENOENT, "the dataset has no such record yet");
    return atd_buf_finish(out, "a record", err);
}

int view_render(struct fs *fs, const struct view *view, enum node_kind kind, struct atd_str leaf,
                struct atd_buf *out, struct atd_error *err)
{
    if (view->kind == NODE_DATASET && !view->entry)
        return render_in_empty(view, kind, out, err);
    switch (kind) {
    case NODE_SCHEMAS_JSON:
    case NODE_SCHEMAS_PY:
    case NODE_SCHEMAS_JSONSCHEMA:
        return render_in_schemas(view, kind, leaf, out, err);
    case NODE_LABEL:
        return render_link(view, leaf, out, err);
    case NODE_CONTROL_FILE:
        return control_render(fs, view->catalog, leaf, out, err);
    case NODE_METADATA:
        return render_metadata(view->entry, out, err);
    case NODE_ENTRY:
        return render_entry(view->catalog, view->dataset, view->entry, view->shards, out, err);
    case NODE_SCHEMA_JSON:
    case NODE_SCHEMA_PY:
    case NODE_SCHEMA_JSONSCHEMA:
        if (!view_schema(view))
            return atd_error_set(err, ENOENT, "the schema is not in the index any more");
        return render_schema(view_schema(view), kind, out, err);
    case NODE_SAMPLES_TEXT:
        return samples_render(view, leaf, out, err);
    default:
        return atd_error_set(err, EINVAL, "not a text file");
    }
}
