/*
 * What every writer has in common: what may be written at all, checked before a provider sees it.
 */
#include "index/writer.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/utf8.h"

static int named(const struct atd_index_writer *writer, int rc, struct atd_error *err)
{
    if (rc == 0 || !writer->location)
        return rc;
    return atd_error_wrap(err, rc, "index '%s'", writer->location);
}

/* ------------------------------------------------------------------ reading one record */

int atd_index_read_entry(struct atd_index_writer *writer, struct atd_str cid,
                         struct atd_arena *arena, struct atd_index_entry *ret_entry,
                         struct atd_error *err)
{
    const union atd_index_record key = {.entry = {.cid = cid}};
    union atd_index_record found;
    int rc = writer->ops->read(writer, ATD_INDEX_ENTRY, &key, arena, &found, err);

    if (rc == 0)
        *ret_entry = found.entry;
    return named(writer, rc, err);
}

int atd_index_read_label(struct atd_index_writer *writer, struct atd_str name,
                         struct atd_str version, struct atd_arena *arena,
                         struct atd_index_label *ret_label, struct atd_error *err)
{
    const union atd_index_record key = {.label = {.name = name, .version = version}};
    union atd_index_record found;
    int rc = writer->ops->read(writer, ATD_INDEX_LABEL, &key, arena, &found, err);

    if (rc == 0)
        *ret_label = found.label;
    return named(writer, rc, err);
}

int atd_index_read_schema(struct atd_index_writer *writer, struct atd_str name,
                          struct atd_str version, struct atd_arena *arena,
                          struct atd_index_schema *ret_schema, struct atd_error *err)
{
    const union atd_index_record key = {.schema = {.name = name, .version = version}};
    union atd_index_record found;
    int rc = writer->ops->read(writer, ATD_INDEX_SCHEMA, &key, arena, &found, err);

    if (rc == 0)
        *ret_schema = found.schema;
    return named(writer, rc, err);
}

/* ------------------------------------------------------------------ what may be written */

/* Python decodes every text strictly; one bad byte ends every listing (ATDATA-FORMATS 8). */
static int check_text(struct atd_str text, const char *what, struct atd_error *err)
{
    size_t position = 0;

    if (text.len > ATD_NAME_BYTES_MAX)
        return atd_error_set(err, EFBIG, "%s is longer than %u bytes", what, ATD_NAME_BYTES_MAX);
    if (!atd_utf8_is_valid(text, &position))
        return atd_error_set(err, EINVAL, "%s '" ATD_STR_FMT "' is not UTF-8 at byte %zu", what,
                             ATD_STR_ARG(text), position);
    return 0;
}

static int check_bytes(struct atd_bytes bytes, size_t max, const char *what, struct atd_error *err)
{
    if (bytes.len == 0)
        return atd_error_set(err, EINVAL, "%s: no bytes", what);
    if (bytes.len > max)
        return atd_error_set(err, EFBIG, "%s: more than %zu MiB", what, max >> 20);
    return 0;
}

static int check_entry_metadata(struct atd_bytes metadata, struct atd_error *err)
{
    return metadata.ptr ? check_bytes(metadata, ATD_METADATA_BYTES_MAX, "metadata of an entry", err)
                        : 0;
}

static int check_entry(const struct atd_index_entry *entry, struct atd_error *err)
{
    int rc = check_text(entry->cid, "the CID of an entry", err);

    if (rc == 0 && entry->cid.len == 0)
        rc = atd_error_set(err, EINVAL, "an entry without a CID");
    if (rc == 0)
        rc = check_text(entry->name, "the name of an entry", err);
    if (rc == 0)
        rc = check_text(entry->schema_ref, "the schema reference of an entry", err);
    if (rc == 0)
        rc = check_bytes(entry->data_urls, ATD_URLS_BYTES_MAX, "URLs of an entry", err);
    return rc ? rc : check_entry_metadata(entry->metadata, err);
}

static int check_label(const struct atd_index_label *label, struct atd_error *err)
{
    int rc = check_text(label->name, "the name of a label", err);

    if (rc == 0)
        rc = check_text(label->version, "the version of a label", err);
    if (rc == 0)
        rc = check_text(label->cid, "the CID of a label", err);
    if (rc == 0)
        rc = check_text(label->created_at, "the time of a label", err);
    return rc ? rc : check_text(label->description, "the description of a label", err);
}

static int check_schema(const struct atd_index_schema *schema, struct atd_error *err)
{
    size_t position = 0;
    int rc = check_text(schema->name, "the name of a schema", err);

    if (rc == 0)
        rc = check_text(schema->version, "the version of a schema", err);
    /* Name and version are split at the last one: such a record could not be found again. */
    if (rc == 0 && atd_str_find(schema->version, '@') >= 0)
        rc = atd_error_set(err, EINVAL, "the version '" ATD_STR_FMT "' of a schema has an '@'",
                           ATD_STR_ARG(schema->version));
    if (rc == 0)
        rc = check_bytes(schema->json, ATD_SCHEMA_BYTES_MAX, "a schema", err);
    if (rc == 0 && !atd_utf8_is_valid(atd_bytes_str(schema->json), &position))
        rc = atd_error_set(err, EINVAL, "a schema is not UTF-8 at byte %zu", position);
    return rc;
}

static bool same_key(enum atd_index_kind kind, const union atd_index_record *a,
                     const union atd_index_record *b)
{
    switch (kind) {
    case ATD_INDEX_ENTRY:
        return atd_str_equal(a->entry.cid, b->entry.cid);
    case ATD_INDEX_LABEL:
        return atd_str_equal(a->label.name, b->label.name) &&
               atd_str_equal(a->label.version, b->label.version);
    default:
        return atd_str_equal(a->schema.name, b->schema.name) &&
               atd_str_equal(a->schema.version, b->schema.version);
    }
}

static int check_operation(const struct atd_index_operation *operation, struct atd_error *err)
{
    const enum atd_index_kind kind = operation->kind;

    switch (operation->action) {
    case ATD_INDEX_CHECK:
        atd_assert(kind <= ATD_INDEX_SCHEMA);
        return 0;
    case ATD_INDEX_DELETE_ENTRY:
        atd_assert(kind == ATD_INDEX_ENTRY);
        return 0;
    case ATD_INDEX_DELETE_LABEL:
        atd_assert(kind == ATD_INDEX_LABEL);
        return 0;
    case ATD_INDEX_DELETE_SCHEMA:
        atd_assert(kind == ATD_INDEX_SCHEMA);
        return 0;
    default:
        atd_assert(same_key(kind, &operation->before, &operation->after));
        break;
    }
    switch (operation->action) {
    case ATD_INDEX_PUT_ENTRY:
        atd_assert(kind == ATD_INDEX_ENTRY);
        return check_entry(&operation->after.entry, err);
    case ATD_INDEX_SET_ENTRY_NAME:
        atd_assert(kind == ATD_INDEX_ENTRY);
        return check_text(operation->after.entry.name, "the name of an entry", err);
    case ATD_INDEX_SET_ENTRY_METADATA:
        atd_assert(kind == ATD_INDEX_ENTRY);
        return check_entry_metadata(operation->after.entry.metadata, err);
    case ATD_INDEX_PUT_LABEL:
        atd_assert(kind == ATD_INDEX_LABEL);
        return check_label(&operation->after.label, err);
    default:
        atd_assert(operation->action == ATD_INDEX_PUT_SCHEMA && kind == ATD_INDEX_SCHEMA);
        return check_schema(&operation->after.schema, err);
    }
}

/* ------------------------------------------------------------------ changing several */

int atd_index_commit(struct atd_index_writer *writer, const struct atd_index_operation *operations,
                     size_t count, size_t *ret_which, struct atd_error *err)
{
    size_t which = 0;
    int rc = 0;

    if (count > ATD_INDEX_OPERATIONS_MAX)
        rc = atd_error_set(err, EINVAL, "a change of %zu records: %u at once are the most", count,
                           ATD_INDEX_OPERATIONS_MAX);
    for (size_t i = 0; i < count && rc == 0; i++) {
        atd_assert(operations[i].expect <= ATD_INDEX_SAME);
        rc = check_operation(&operations[i], err);
    }
    if (rc == 0 && count > 0)
        rc = writer->ops->commit(writer, operations, count, &which, err);
    if (rc == -ESTALE && ret_which)
        *ret_which = which;
    return named(writer, rc, err);
}

int atd_index_not_as_expected(size_t which, size_t *ret_which, struct atd_error *err)
{
    *ret_which = which;
    return atd_error_set(err, ESTALE,
                         "record %zu of the change is not as expected: somebody else has changed "
                         "it meanwhile",
                         which + 1);
}

int atd_index_settle(struct atd_index_writer *writer, struct atd_error *err)
{
    return writer->ops->settle ? named(writer, writer->ops->settle(writer, err), err) : 0;
}

uint64_t atd_index_writer_epoch(const struct atd_index_writer *writer)
{
    return writer->ops->epoch ? writer->ops->epoch(writer) : 0;
}

int atd_index_writer_check(struct atd_index_writer *writer, struct atd_error *err)
{
    return named(writer, writer->ops->check(writer, err), err);
}

void atd_index_writer_free(struct atd_index_writer *writer)
{
    if (!writer)
        return;
    free(writer->location);
    writer->ops->free(writer);
}
