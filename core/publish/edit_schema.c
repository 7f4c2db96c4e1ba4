/*
 * Schemas: published, found again by their fields, given to a dataset.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "atdata/entry.h"
#include "atdata/schema_ref.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/schema_infer.h"
#include "codec/schema_problem.h"
#include "publish/edit.h"

#define VERSION_BYTES_MAX 64u
/* Versions that are tried in a row when others take them at the same time. */
#define VERSION_TRIES 16u

/* ------------------------------------------------------------------ what may be published */

static int check_version(struct atd_str version, struct atd_error *err)
{
    bool is_fine = version.len > 0 && version.len < VERSION_BYTES_MAX;

    /* One with '@' cannot be read back (1.7); blanks and slashes are nothing but trouble. */
    for (size_t i = 0; i < version.len; i++) {
        unsigned char c = (unsigned char)version.ptr[i];

        is_fine = is_fine && c > ' ' && c < 0x7f && c != '@' && c != '/';
    }
    return is_fine ? 0
                   : atd_error_set(err, EINVAL,
                                   "'" ATD_STR_FMT "' is no version: write one like \"1.0.0\"",
                                   ATD_STR_ARG(version));
}

int atd_edit_schema_check(const struct atd_schema *schema, struct atd_error *err)
{
    atd_auto_buf struct atd_buf reason = ATD_BUF_INIT(ATD_ERROR_TEXT_MAX);
    const struct atd_field *optional = NULL;

    if (atd_str_find(schema->name, '.') >= 0)
        return atd_error_set(err, EINVAL,
                             "the schema's name '" ATD_STR_FMT
                             "' has a dot, and the library looks for what follows it",
                             ATD_STR_ARG(schema->name));
    atd_schema_class_problem(schema, &reason);
    if (reason.len || reason.failed)
        return atd_error_set(err, EINVAL, "Python cannot decode the schema: %s",
                             reason.ptr ? (const char *)reason.ptr : "its names are too long");
    for (size_t i = 0; i < schema->field_count; i++) {
        if (schema->fields[i].optional)
            optional = &schema->fields[i];
        else if (optional)
            return atd_error_set(err, EINVAL,
                                 "Python cannot decode the schema: field '" ATD_STR_FMT
                                 "' is required and stands after '" ATD_STR_FMT
                                 "', which is optional: put it before",
                                 ATD_STR_ARG(schema->fields[i].name), ATD_STR_ARG(optional->name));
    }
    return check_version(schema->version, err);
}

/* ------------------------------------------------------------------ reading */

/* The record at a key. *ret_exists without *ret_schema: it is not readable. */
static int read_schema(struct atd_editor *editor, struct atd_str name, struct atd_str version,
                       struct atd_arena *arena, bool *ret_exists,
                       const struct atd_schema **ret_schema, struct atd_error *err)
{
    struct atd_index_schema record;
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_index_read_schema(editor->options.writer, name, version, arena, &record, &why);

    *ret_schema = NULL;
    *ret_exists = rc != -ENOENT;
    if (rc == 0)
        rc = atd_schema_decode(record.json, arena, ret_schema, &why);
    if (rc == 0 || rc == -ENOENT || rc == -EINVAL || rc == -E2BIG)
        return 0;
    if (err)
        *err = why;
    return rc;
}

int atd_edit_schema_of(struct atd_editor *editor, struct atd_str ref, struct atd_arena *arena,
                       const struct atd_schema **ret_schema, struct atd_error *err)
{
    struct atd_schema_ref parsed;
    bool exists;

    *ret_schema = NULL;
    if (atd_schema_ref_parse(ref, &parsed, NULL) != 0 || parsed.form == ATD_REF_NETWORK)
        return 0;
    return read_schema(editor, parsed.name, parsed.version, arena, &exists, ret_schema, err);
}

/* ------------------------------------------------------------------ versions */

static void print_version(const struct atd_semver *version, char ret_text[VERSION_BYTES_MAX])
{
    (void)snprintf(ret_text, VERSION_BYTES_MAX, "%" PRId64 ".%" PRId64 ".%" PRId64,
                   version->part[0], version->part[1], version->part[2]);
}

/* The next patch; where a part cannot be counted on, the part before it. */
static void bump(struct atd_semver *version)
{
    for (size_t i = 3; i-- > 0;) {
        if (version->part[i] < INT64_MAX) {
            version->part[i]++;
            return;
        }
        version->part[i] = 0;
    }
}

/* The greatest version of a bare name; false when there is none. */
static bool greatest_version(const struct atd_catalog *catalog, struct atd_str class_name,
                             struct atd_semver *ret_version)
{
    bool found = false;

    for (size_t i = 0; i < atd_catalog_schema_count(catalog); i++) {
        const struct atd_catalog_schema *schema = atd_catalog_schema_at(catalog, i);
        struct atd_semver version;

        if (!atd_str_equal(schema->bare, class_name) ||
            !atd_semver_parse(schema->version, &version))
            continue;
        if (!found || atd_semver_compare(&version, ret_version) > 0)
            *ret_version = version;
        found = true;
    }
    return found;
}

void atd_edit_next_version(struct atd_editor *editor, struct atd_str class_name,
                           char ret_version[64])
{
    struct atd_catalog *catalog = atd_live_get(editor->options.live);
    struct atd_semver version = {{1, 0, 0}};

    if (greatest_version(catalog, class_name, &version))
        bump(&version);
    print_version(&version, ret_version);
    atd_catalog_unref(catalog);
}

/* ------------------------------------------------------------------ registering */

static int refer(struct atd_edit *edit, struct atd_str name, struct atd_str version,
                 struct atd_str *ret_ref, struct atd_error *err)
{
    atd_auto_buf struct atd_buf ref = ATD_BUF_INIT(2 * ATD_NAME_BYTES_MAX);
    int rc;

    atd_schema_ref_format(edit->editor->options.universal ? ATD_REF_LEGACY : ATD_REF_NEW, name,
                          version, &ref);
    rc = atd_buf_finish(&ref, "the schema's reference", err);
    if (rc)
        return rc;
    *ret_ref = atd_arena_str(&edit->arena, atd_buf_str(&ref));
    return ret_ref->ptr ? 0 : atd_edit_no_memory(err);
}

/* The operation that makes the record, at a version that is free. */
static int put_schema(struct atd_edit *edit, const struct atd_schema *schema,
                      struct atd_str version, struct atd_error *err)
{
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(ATD_SCHEMA_BYTES_MAX);
    struct atd_index_schema record = {0};
    struct atd_schema copy = *schema;
    char time[ATD_EDIT_TIME_MAX];
    int rc;

    copy.version = version;
    if (!copy.created_at.len) {
        atd_edit_time(atd_editor_now_us(edit->editor), time);
        copy.created_at = atd_str_from(time);
    }
    atd_schema_encode(&copy, &json);
    rc = atd_buf_finish(&json, "the schema", err);
    if (rc)
        return rc;
    record.name = atd_arena_str(&edit->arena, copy.name);
    record.version = atd_arena_str(&edit->arena, version);
    record.json = atd_arena_bytes(&edit->arena, atd_buf_bytes(&json));
    if (!record.name.ptr || !record.version.ptr || !record.json.ptr)
        return atd_edit_no_memory(err);
    return atd_edit_put_schema(edit, &record, err);
}

enum version_state { VERSION_FREE, VERSION_SAME, VERSION_OTHER };

static int look_at_version(struct atd_edit *edit, const struct atd_schema *schema,
                           struct atd_str version, enum version_state *ret_state,
                           struct atd_error *err)
{
    const struct atd_schema *there;
    bool exists;
    int rc = read_schema(edit->editor, schema->name, version, &edit->arena, &exists, &there, err);

    if (rc)
        return rc;
    *ret_state = !exists                                          ? VERSION_FREE
                 : there && atd_schema_same_fields(there, schema) ? VERSION_SAME
                                                                  : VERSION_OTHER;
    return 0;
}

/* A version of the name with the same fields, as far as the catalog has one. */
static int find_same(struct atd_edit *edit, const struct atd_schema *schema, bool *ret_found,
                     struct atd_str *ret_version, struct atd_error *err)
{
    *ret_found = false;
    for (size_t i = 0; i < atd_catalog_schema_count(edit->catalog); i++) {
        const struct atd_catalog_schema *known = atd_catalog_schema_at(edit->catalog, i);
        const struct atd_schema *there;
        enum version_state state;
        int rc;

        if (!atd_str_equal(known->name, schema->name) ||
            atd_schema_decode(known->json, &edit->arena, &there, NULL) != 0 ||
            !atd_schema_same_fields(there, schema))
            continue;
        rc = look_at_version(edit, schema, known->version, &state, err);
        if (rc)
            return rc;
        if (state == VERSION_SAME) {
            *ret_found = true;
            *ret_version = known->version;
            return 0;
        }
    }
    return 0;
}

int atd_edit_register(struct atd_edit *edit, const struct atd_schema *schema,
                      struct atd_str *ret_ref, struct atd_error *err)
{
    struct atd_semver next = {{1, 0, 0}};
    struct atd_str version = schema->version;
    enum version_state state;
    char text[VERSION_BYTES_MAX];
    bool found = false;
    int rc = atd_edit_schema_check(schema, err);

    if (rc == 0)
        rc = look_at_version(edit, schema, version, &state, err);
    if (rc == 0 && state == VERSION_OTHER)
        rc = find_same(edit, schema, &found, &version, err);
    if (rc)
        return rc;
    if (found)
        state = VERSION_SAME;
    else if (state == VERSION_OTHER && !greatest_version(edit->catalog, schema->name, &next) &&
             !atd_semver_parse(schema->version, &next))
        next = (struct atd_semver){{1, 0, -1}};
    /* The catalog may be behind: what it says is free is looked at. */
    for (unsigned i = 0; state == VERSION_OTHER; i++) {
        if (i == VERSION_TRIES)
            return atd_error_set_retryable(err, ESTALE, "others publish the same schema meanwhile");
        bump(&next);
        print_version(&next, text);
        version = atd_str_from(text);
        rc = look_at_version(edit, schema, version, &state, err);
        if (rc)
            return rc;
    }
    if (state == VERSION_FREE)
        rc = put_schema(edit, schema, version, err);
    return rc ? rc : refer(edit, schema->name, version, ret_ref, err);
}

/* ------------------------------------------------------------------ publishing one */

static int plan_publish(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    const struct atd_schema *schema = ctx;
    enum version_state state;
    int rc = look_at_version(edit, schema, schema->version, &state, err);

    if (rc || state == VERSION_SAME)
        return rc;
    if (state == VERSION_OTHER)
        return atd_error_set(err, EEXIST,
                             "that version has other fields, and is never changed: publish the "
                             "next version");
    return put_schema(edit, schema, schema->version, err);
}

int atd_edit_publish_schema(struct atd_editor *editor, const struct atd_schema *schema,
                            struct atd_error *err)
{
    struct atd_schema copy = *schema;
    int rc = atd_edit_schema_check(schema, err);

    if (rc == 0)
        rc = atd_edit_run(editor, plan_publish, &copy, err);
    return rc ? atd_error_wrap(err, rc, "publishing schema '" ATD_STR_FMT "@" ATD_STR_FMT "'",
                               ATD_STR_ARG(schema->name), ATD_STR_ARG(schema->version))
              : 0;
}

/* ------------------------------------------------------------------ a dataset's */

struct set_edit {
    struct atd_str name;
    const struct atd_schema *schema;
    struct atd_edit_result result;
};

/* Two forms of reference to one record are no difference. */
static bool means_the_same(struct atd_str a, struct atd_str b)
{
    struct atd_schema_ref left;
    struct atd_schema_ref right;

    return atd_schema_ref_parse(a, &left, NULL) == 0 &&
           atd_schema_ref_parse(b, &right, NULL) == 0 && left.form != ATD_REF_NETWORK &&
           right.form != ATD_REF_NETWORK && atd_str_equal(left.name, right.name) &&
           atd_str_equal(left.version, right.version);
}

static int plan_set(struct atd_edit *edit, void *ctx, struct atd_error *err)
{
    struct set_edit *want = ctx;
    struct atd_edit_successor successor = {0};
    struct atd_edit_now now;
    struct atd_str *urls;
    struct atd_str ref;
    int rc = atd_edit_meaning(edit->editor, edit->catalog, want->name, &edit->arena, &now, err);

    if (rc == 0 && !now.exists)
        rc = atd_error_set(err, ENOENT, "there is no such dataset");
    if (rc == 0)
        rc = atd_edit_register(edit, want->schema, &ref, err);
    if (rc)
        return rc;
    want->result = (struct atd_edit_result){0};
    if (means_the_same(ref, now.entry.schema_ref)) {
        want->result.was_there = !edit->was_sent;
        ref = now.entry.schema_ref;
        (void)snprintf(
            want->result.cid.text, sizeof(want->result.cid.text), "%.*s",
            (int)(now.entry.cid.len < ATD_CID_TEXT_LEN ? now.entry.cid.len : ATD_CID_TEXT_LEN),
            now.entry.cid.ptr);
    } else {
        rc = atd_urls_decode(now.entry.data_urls, &edit->arena, &urls, &successor.url_count, err);
        successor.schema_ref = ref;
        successor.urls = urls;
        successor.metadata = now.entry.metadata;
        if (rc == 0)
            rc = atd_edit_succeed(edit, want->name, &now, &successor, &want->result.cid, err);
    }
    (void)snprintf(want->result.schema_ref, sizeof(want->result.schema_ref), "%.*s",
                   (int)(ref.len < sizeof(want->result.schema_ref)
                             ? ref.len
                             : sizeof(want->result.schema_ref) - 1),
                   ref.ptr);
    return rc;
}

int atd_edit_set_schema(struct atd_editor *editor, struct atd_str name,
                        const struct atd_schema *schema, struct atd_edit_result *ret_result,
                        struct atd_error *err)
{
    struct set_edit want = {.name = name, .schema = schema};
    int rc = atd_edit_run(editor, plan_set, &want, err);

    if (rc)
        return atd_error_wrap(err, rc, "giving dataset '" ATD_STR_FMT "' another schema",
                              ATD_STR_ARG(name));
    *ret_result = want.result;
    return 0;
}
