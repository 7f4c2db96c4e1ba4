#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/file_name.h"
#include "publish/publisher_private.h"

/* ------------------------------------------------------------------ URLs in use */

int atd_publisher_claim_url(struct atd_publisher *publisher, const char *url, struct atd_error *err)
{
    size_t len = strlen(url);
    struct atd_url_claim *claim = malloc(sizeof(*claim) + len + 1);
    bool taken = false;

    if (!claim)
        return atd_error_set(err, ENOMEM, "cannot publish: out of memory");
    memcpy(claim->url, url, len + 1);
    atd_lock_take(&publisher->lock);
    for (struct atd_url_claim *at = publisher->urls; at && !taken; at = at->next)
        taken = strcmp(at->url, url) == 0;
    if (!taken) {
        claim->next = publisher->urls;
        publisher->urls = claim;
    }
    atd_lock_give(&publisher->lock);
    if (!taken)
        return 0;
    free(claim);
    return atd_error_set(err, EBUSY, "'%s' is being written by another copy", url);
}

void atd_publisher_release_url(struct atd_publisher *publisher, const char *url)
{
    struct atd_url_claim *found = NULL;

    atd_lock_take(&publisher->lock);
    for (struct atd_url_claim **at = &publisher->urls; *at && !found; at = &(*at)->next) {
        if (strcmp((*at)->url, url) == 0) {
            found = *at;
            *at = found->next;
            break;
        }
    }
    atd_lock_give(&publisher->lock);
    free(found);
}

/* ------------------------------------------------------------------ where shards go */

/* Whether the name can be a path as it is: no component leads elsewhere. */
static bool is_plain_path(struct atd_str name)
{
    while (name.len > 0) {
        ptrdiff_t slash = atd_str_find(name, '/');
        struct atd_str part = slash < 0 ? name : atd_str_head(name, (size_t)slash);

        if (!atd_file_name_is_plain(part))
            return false;
        if (slash < 0)
            return true;
        name = atd_str_from_byte(name, (size_t)slash + 1);
    }
    return false;
}

void atd_publisher_append_place(const struct atd_publisher *publisher, struct atd_str dataset,
                                struct atd_buf *out)
{
    struct atd_str prefix = atd_str_from(publisher->options.prefix_url);

    while (prefix.len > 1 && prefix.ptr[prefix.len - 1] == '/')
        prefix.len--;
    atd_buf_append_str(out, prefix);
    atd_buf_append_byte(out, '/');
    if (is_plain_path(dataset))
        atd_buf_append_str(out, dataset);
    else
        atd_file_name_encode(dataset, ATD_STR(""), ATD_STR(""), out);
    atd_buf_append_byte(out, '/');
}

/* ------------------------------------------------------------------ kept schemas */

static struct atd_kept_schema *take_kept_locked(struct atd_publisher *publisher,
                                                struct atd_str dataset)
{
    for (struct atd_kept_schema **at = &publisher->kept; *at; at = &(*at)->next) {
        struct atd_kept_schema *kept = *at;

        if (atd_str_equal(kept->dataset, dataset)) {
            *at = kept->next;
            publisher->kept_count--;
            return kept;
        }
    }
    return NULL;
}

int atd_publisher_keep_schema(struct atd_publisher *publisher, struct atd_str dataset,
                              const struct atd_bytes *json, struct atd_error *err)
{
    struct atd_kept_schema *kept;
    struct atd_kept_schema *old;
    uint8_t *texts;
    bool full;

    if (!json) {
        atd_publisher_drop_schema(publisher, dataset);
        return 0;
    }
    if (json->len > ATD_SCHEMA_BYTES_MAX)
        return atd_error_set(err, E2BIG, "a schema of more than %u bytes", ATD_SCHEMA_BYTES_MAX);
    kept = malloc(sizeof(*kept) + dataset.len + json->len);
    if (!kept)
        return atd_error_set(err, ENOMEM, "cannot keep the schema: out of memory");
    texts = (uint8_t *)(kept + 1);
    if (dataset.len)
        memcpy(texts, dataset.ptr, dataset.len);
    if (json->len)
        memcpy(texts + dataset.len, json->ptr, json->len);
    kept->dataset = (struct atd_str){(const char *)texts, dataset.len};
    kept->json = (struct atd_bytes){texts + dataset.len, json->len};
    atd_lock_take(&publisher->lock);
    old = take_kept_locked(publisher, dataset);
    full = publisher->kept_count >= ATD_KEPT_SCHEMAS_MAX;
    if (!full) {
        kept->next = publisher->kept;
        publisher->kept = kept;
        publisher->kept_count++;
    }
    atd_lock_give(&publisher->lock);
    free(old);
    if (!full)
        return 0;
    free(kept);
    return atd_error_set(err, EDQUOT, "more than %u datasets wait for their first shard",
                         ATD_KEPT_SCHEMAS_MAX);
}

void atd_publisher_drop_schema(struct atd_publisher *publisher, struct atd_str dataset)
{
    struct atd_kept_schema *old;

    atd_lock_take(&publisher->lock);
    old = take_kept_locked(publisher, dataset);
    atd_lock_give(&publisher->lock);
    free(old);
}

const struct atd_schema *atd_publisher_kept_schema(struct atd_publisher *publisher,
                                                   struct atd_str dataset, struct atd_arena *arena)
{
    struct atd_bytes json = {NULL, 0};
    const struct atd_schema *schema;

    atd_lock_take(&publisher->lock);
    for (const struct atd_kept_schema *at = publisher->kept; at; at = at->next) {
        if (atd_str_equal(at->dataset, dataset)) {
            json = atd_arena_bytes(arena, at->json);
            break;
        }
    }
    atd_lock_give(&publisher->lock);
    if (!json.ptr || atd_schema_decode(json, arena, &schema, NULL))
        return NULL;
    return schema;
}

void atd_publisher_free_names(struct atd_publisher *publisher)
{
    while (publisher->urls) {
        struct atd_url_claim *next = publisher->urls->next;

        free(publisher->urls);
        publisher->urls = next;
    }
    while (publisher->kept) {
        struct atd_kept_schema *next = publisher->kept->next;

        free(publisher->kept);
        publisher->kept = next;
    }
}
