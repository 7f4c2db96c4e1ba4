#include "index/redis_record.h"

#include <stdio.h>

#include "base/check.h"
#include "base/limits.h"

static const struct {
    struct atd_str prefix;
    const char *what; /* as the other providers name it */
} kinds[] = {
    [ATD_REDIS_ENTRY] = {{"LocalDatasetEntry:", 18}, "entry"},
    [ATD_REDIS_LABEL] = {{"Label:", 6}, "label"},
    [ATD_REDIS_SCHEMA] = {{"LocalSchema:", 12}, "schema"},
};

enum atd_redis_kind atd_redis_kind_of(struct atd_str key)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(kinds); i++) {
        if (atd_str_starts_with(key, kinds[i].prefix))
            return (enum atd_redis_kind)i;
    }
    return ATD_REDIS_OTHER;
}

struct atd_str atd_redis_subject_of(enum atd_redis_kind kind, struct atd_str key)
{
    atd_assert(kind != ATD_REDIS_OTHER);
    return atd_str_from_byte(key, kinds[kind].prefix.len);
}

struct atd_str atd_redis_command_of(enum atd_redis_kind kind)
{
    return kind == ATD_REDIS_SCHEMA ? ATD_STR("GET") : ATD_STR("HGETALL");
}

void atd_redis_record_refuse(enum atd_redis_kind kind, struct atd_str key, const char *reason,
                             const struct atd_index_sink *sink)
{
    atd_assert(kind != ATD_REDIS_OTHER);
    sink->problem(sink->ctx, kinds[kind].what, atd_str_from_byte(key, kinds[kind].prefix.len),
                  reason);
}

/* ------------------------------------------------------------------ hashes */

struct field {
    struct atd_str name;
    bool required;
    size_t max_bytes;
    struct atd_bytes value; /* ptr NULL: not there */
};

/*
 * Fills the fields from what HGETALL gave; others are left alone, as the library does. False, and
 * reported, when one that is required is missing, or comes twice, or is too large.
 */
static bool read_fields(enum atd_redis_kind kind, struct atd_str key, const redisReply *reply,
                        struct field *fields, size_t count, const struct atd_index_sink *sink)
{
    char reason[160];

    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        const redisReply *name = reply->element[i];
        const redisReply *value = reply->element[i + 1];
        struct field *field = NULL;

        if (name->type != REDIS_REPLY_STRING || value->type != REDIS_REPLY_STRING)
            continue;
        for (size_t k = 0; k < count && !field; k++) {
            if (atd_str_equal(atd_redis_reply_text(name), fields[k].name))
                field = &fields[k];
        }
        if (!field)
            continue;
        if (field->value.ptr || value->len > field->max_bytes) {
            (void)snprintf(reason, sizeof(reason), "its field '%.*s' %s", ATD_STR_ARG(field->name),
                           field->value.ptr ? "is there twice" : "is too large");
            atd_redis_record_refuse(kind, key, reason, sink);
            return false;
        }
        field->value = atd_str_bytes(atd_redis_reply_text(value));
    }
    for (size_t k = 0; k < count; k++) {
        if (fields[k].required && !fields[k].value.ptr) {
            (void)snprintf(reason, sizeof(reason), "its field '%.*s' is missing",
                           ATD_STR_ARG(fields[k].name));
            atd_redis_record_refuse(kind, key, reason, sink);
            return false;
        }
    }
    return true;
}

static int report_entry(struct atd_str key, const redisReply *reply,
                        const struct atd_index_sink *sink, struct atd_error *err)
{
    enum { NAME, SCHEMA_REF, DATA_URLS, METADATA, CID };
    struct field fields[] = {
        [NAME] = {ATD_STR("name"), true, ATD_NAME_BYTES_MAX, {NULL, 0}},
        [SCHEMA_REF] = {ATD_STR("schema_ref"), true, ATD_NAME_BYTES_MAX, {NULL, 0}},
        [DATA_URLS] = {ATD_STR("data_urls"), true, ATD_URLS_BYTES_MAX, {NULL, 0}},
        [METADATA] = {ATD_STR("metadata"), false, ATD_METADATA_BYTES_MAX, {NULL, 0}},
        [CID] = {ATD_STR("cid"), false, ATD_NAME_BYTES_MAX, {NULL, 0}},
    };
    struct atd_str cid = atd_str_from_byte(key, kinds[ATD_REDIS_ENTRY].prefix.len);
    struct atd_index_entry entry = {.cid = cid};

    if (!read_fields(ATD_REDIS_ENTRY, key, reply, fields, ATD_ARRAY_LEN(fields), sink))
        return 0;
    /*
     * The key's CID counts: labels lead to keys, and the library's get_entry() goes by them. A
     * field that says otherwise is what its listings show, so that labels made from those dangle
     * (8): worth a word, but no reason to hide what can be read.
     */
    if (fields[CID].value.len > 0 && !atd_str_equal(atd_bytes_str(fields[CID].value), cid))
        atd_redis_record_refuse(ATD_REDIS_ENTRY, key,
                                "its field 'cid' differs from its key; the key is shown", sink);
    entry.name = atd_bytes_str(fields[NAME].value);
    entry.schema_ref = atd_bytes_str(fields[SCHEMA_REF].value);
    entry.data_urls = fields[DATA_URLS].value;
    entry.metadata = fields[METADATA].value;
    return sink->entry(sink->ctx, &entry, err);
}

static int report_label(struct atd_str key, const redisReply *reply,
                        const struct atd_index_sink *sink, struct atd_error *err)
{
    enum { CID, NAME, VERSION, DESCRIPTION, CREATED_AT };
    struct field fields[] = {
        [CID] = {ATD_STR("cid"), true, ATD_NAME_BYTES_MAX, {NULL, 0}},
        [NAME] = {ATD_STR("name"), true, ATD_NAME_BYTES_MAX, {NULL, 0}},
        [VERSION] = {ATD_STR("version"), true, ATD_NAME_BYTES_MAX, {NULL, 0}},
        [DESCRIPTION] = {ATD_STR("description"), false, ATD_METADATA_BYTES_MAX, {NULL, 0}},
        [CREATED_AT] = {ATD_STR("created_at"), false, ATD_NAME_BYTES_MAX, {NULL, 0}},
    };
    struct atd_str whole = atd_str_from_byte(key, kinds[ATD_REDIS_LABEL].prefix.len);
    struct atd_index_label label = {0};

    if (!read_fields(ATD_REDIS_LABEL, key, reply, fields, ATD_ARRAY_LEN(fields), sink))
        return 0;
    label.name = atd_bytes_str(fields[NAME].value);
    label.version = atd_bytes_str(fields[VERSION].value);
    label.cid = atd_bytes_str(fields[CID].value);
    label.description = atd_bytes_str(fields[DESCRIPTION].value);
    label.created_at = atd_bytes_str(fields[CREATED_AT].value);
    /* The library looks labels up by key and lists them by field: such a one is two labels. */
    if (whole.len != label.name.len + 1 + label.version.len ||
        !atd_str_starts_with(whole, label.name) || whole.ptr[label.name.len] != '@' ||
        !atd_str_ends_with(whole, label.version)) {
        atd_redis_record_refuse(ATD_REDIS_LABEL, key,
                                "its fields 'name' and 'version' differ from its key", sink);
        return 0;
    }
    return sink->label(sink->ctx, &label, err);
}

/* ------------------------------------------------------------------ strings */

static int report_schema(struct atd_str key, const redisReply *reply,
                         const struct atd_index_sink *sink, struct atd_error *err)
{
    struct atd_str whole = atd_str_from_byte(key, kinds[ATD_REDIS_SCHEMA].prefix.len);
    ptrdiff_t at = atd_str_find_last(whole, '@');
    struct atd_index_schema schema = {0};

    if (at < 0) {
        atd_redis_record_refuse(ATD_REDIS_SCHEMA, key, "its key has no '@' and version", sink);
        return 0;
    }
    if (reply->len > ATD_SCHEMA_BYTES_MAX) {
        atd_redis_record_refuse(ATD_REDIS_SCHEMA, key, "its record is too large", sink);
        return 0;
    }
    schema.name = atd_str_head(whole, (size_t)at);
    schema.version = atd_str_from_byte(whole, (size_t)at + 1);
    schema.json = atd_str_bytes(atd_redis_reply_text(reply));
    return sink->schema(sink->ctx, &schema, err);
}

int atd_redis_record_report(enum atd_redis_kind kind, struct atd_str key, const redisReply *reply,
                            bool cut, const struct atd_index_sink *sink, struct atd_error *err)
{
    bool is_hash = kind != ATD_REDIS_SCHEMA;

    if (cut) {
        atd_redis_record_refuse(kind, key, "it is too large to be read", sink);
        return 0;
    }
    if (reply->type == REDIS_REPLY_ERROR &&
        atd_redis_error_is_wrong_type(atd_redis_reply_text(reply))) {
        atd_redis_record_refuse(kind, key, is_hash ? "it is no hash" : "it is no string", sink);
        return 0;
    }
    if (reply->type == REDIS_REPLY_ERROR)
        return atd_redis_error_set(atd_redis_reply_text(reply), "reading a key", ATD_REDIS_QUOTE,
                                   err);
    /* Gone since SCAN saw it. */
    if (reply->type == REDIS_REPLY_NIL ||
        (is_hash && reply->type == REDIS_REPLY_ARRAY && reply->elements == 0))
        return 0;
    if (reply->type != (is_hash ? REDIS_REPLY_ARRAY : REDIS_REPLY_STRING) ||
        (is_hash && reply->elements % 2 != 0)) {
        atd_redis_record_refuse(kind, key, "the server's answer is of an unexpected form", sink);
        return 0;
    }
    if (kind == ATD_REDIS_ENTRY)
        return report_entry(key, reply, sink, err);
    if (kind == ATD_REDIS_LABEL)
        return report_label(key, reply, sink, err);
    return report_schema(key, reply, sink, err);
}
