#include "index/redis_plan.h"

#include <errno.h>

#include "base/check.h"

/* ------------------------------------------------------------------ keys */

static struct atd_str join(struct atd_arena *arena, const struct atd_str *parts, size_t count)
{
    size_t len = 0;
    char *text;

    for (size_t i = 0; i < count; i++)
        len += parts[i].len;
    text = atd_arena_alloc(arena, len + 1);
    if (!text)
        return (struct atd_str){NULL, 0};
    len = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len > 0)
            memcpy(text + len, parts[i].ptr, parts[i].len);
        len += parts[i].len;
    }
    return (struct atd_str){text, len};
}

struct atd_str atd_redis_key_of(struct atd_arena *arena, enum atd_index_kind kind,
                                const union atd_index_record *key)
{
    switch (kind) {
    case ATD_INDEX_ENTRY:
        return join(arena, (struct atd_str[]){ATD_STR("LocalDatasetEntry:"), key->entry.cid}, 2);
    case ATD_INDEX_LABEL:
        return join(arena,
                    (struct atd_str[]){ATD_STR("Label:"), key->label.name, ATD_STR("@"),
                                       key->label.version},
                    4);
    default:
        return join(arena,
                    (struct atd_str[]){ATD_STR("LocalSchema:"), key->schema.name, ATD_STR("@"),
                                       key->schema.version},
                    4);
    }
}

/* ------------------------------------------------------------------ conditions */

static struct atd_bytes text_value(struct atd_str text)
{
    /* An empty text is no missing field. */
    return text.ptr ? atd_str_bytes(text) : atd_str_bytes(ATD_STR(""));
}

static void want(struct atd_redis_step *step, struct atd_str field, struct atd_bytes value)
{
    atd_assert(step->wanted_count < ATD_REDIS_PAIRS_MAX);
    step->wanted[step->wanted_count++] = (struct atd_redis_pair){field, value};
}

static void plan_same(struct atd_redis_step *step, enum atd_index_kind kind,
                      const union atd_index_record *before)
{
    step->condition = ATD_REDIS_IF_HASH;
    switch (kind) {
    case ATD_INDEX_ENTRY:
        want(step, ATD_STR("name"), text_value(before->entry.name));
        want(step, ATD_STR("schema_ref"), text_value(before->entry.schema_ref));
        want(step, ATD_STR("data_urls"), before->entry.data_urls);
        want(step, ATD_STR("metadata"), before->entry.metadata);
        break;
    case ATD_INDEX_LABEL:
        want(step, ATD_STR("cid"), text_value(before->label.cid));
        break;
    default:
        step->condition = ATD_REDIS_IF_STRING;
        want(step, ATD_STR(""), text_value(atd_bytes_str(before->schema.json)));
        break;
    }
}

static void plan_condition(struct atd_redis_step *step, const struct atd_index_operation *operation)
{
    const bool is_set = operation->action == ATD_INDEX_SET_ENTRY_NAME ||
                        operation->action == ATD_INDEX_SET_ENTRY_METADATA;

    switch (operation->expect) {
    case ATD_INDEX_ANY:
        step->condition = is_set ? ATD_REDIS_IF_HASH : ATD_REDIS_IF_ANY;
        break;
    case ATD_INDEX_ABSENT:
        step->condition = is_set ? ATD_REDIS_IF_NEVER : ATD_REDIS_IF_ABSENT;
        break;
    default:
        plan_same(step, operation->kind, &operation->before);
        break;
    }
}

/* ------------------------------------------------------------------ effects */

static void put(struct atd_redis_step *step, struct atd_str field, struct atd_bytes value)
{
    atd_assert(step->pair_count < ATD_REDIS_PAIRS_MAX);
    step->pairs[step->pair_count++] = (struct atd_redis_pair){field, value};
}

/* Only what is there. */
static void put_if(struct atd_redis_step *step, struct atd_str field, struct atd_bytes value)
{
    if (value.ptr)
        put(step, field, value);
}

static void plan_effect(struct atd_redis_step *step, const struct atd_index_operation *operation)
{
    const union atd_index_record *after = &operation->after;

    switch (operation->action) {
    case ATD_INDEX_CHECK:
        step->effect = ATD_REDIS_NONE;
        break;
    case ATD_INDEX_PUT_ENTRY:
        step->effect = ATD_REDIS_RENEW;
        put(step, ATD_STR("name"), text_value(after->entry.name));
        put(step, ATD_STR("schema_ref"), text_value(after->entry.schema_ref));
        put(step, ATD_STR("data_urls"), after->entry.data_urls);
        put(step, ATD_STR("cid"), text_value(after->entry.cid));
        put_if(step, ATD_STR("metadata"), after->entry.metadata);
        break;
    case ATD_INDEX_SET_ENTRY_NAME:
        step->effect = ATD_REDIS_MERGE;
        put(step, ATD_STR("name"), text_value(after->entry.name));
        break;
    case ATD_INDEX_SET_ENTRY_METADATA:
        step->effect = after->entry.metadata.ptr ? ATD_REDIS_MERGE : ATD_REDIS_WITHOUT;
        put(step, ATD_STR("metadata"), after->entry.metadata);
        break;
    case ATD_INDEX_PUT_LABEL:
        step->effect = ATD_REDIS_MERGE;
        put(step, ATD_STR("cid"), text_value(after->label.cid));
        put(step, ATD_STR("name"), text_value(after->label.name));
        put(step, ATD_STR("version"), text_value(after->label.version));
        put_if(step, ATD_STR("description"), atd_str_bytes(after->label.description));
        if (after->label.created_at.len > 0)
            put(step, ATD_STR("created_at"), atd_str_bytes(after->label.created_at));
        break;
    case ATD_INDEX_PUT_SCHEMA:
        step->effect = ATD_REDIS_SET;
        put(step, ATD_STR(""), after->schema.json);
        break;
    default:
        step->effect = ATD_REDIS_DELETE;
        break;
    }
}

int atd_redis_plan(struct atd_arena *arena, const struct atd_index_operation *operation,
                   size_t place, struct atd_redis_step *ret_step, struct atd_error *err)
{
    struct atd_redis_step step = {.operation = place};

    step.key = atd_redis_key_of(arena, operation->kind, &operation->before);
    if (!step.key.ptr)
        return atd_error_set(err, ENOMEM, "a change: out of memory");
    plan_condition(&step, operation);
    plan_effect(&step, operation);
    *ret_step = step;
    return 0;
}
