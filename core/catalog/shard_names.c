/*
 * What the shards of an entry are called as files (DESIGN 2.1).
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/limits.h"
#include "catalog/shard_list.h"
#include "codec/file_name.h"

/* ".tar.gz" and the like; a longer "extension" is part of the name. */
#define EXTENSION_MAX 16

/* The names a dataset's directory has already (DESIGN 2). */
static const char *const taken_names[] = {"schema.json",   "schema.py",  "schema.jsonschema",
                                          "metadata.json", "entry.json", "samples"};

static int compare_last(const void *a, const void *b, void *ctx)
{
    const struct atd_str *names = ctx;
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    int order = atd_str_compare(names[left], names[right]);

    return order ? order : (left > right) - (left < right);
}

static int compare_file_names(const void *a, const void *b, void *ctx)
{
    const struct atd_shard *shards = ctx;

    return atd_str_compare(shards[*(const uint32_t *)a].file_name,
                           shards[*(const uint32_t *)b].file_name);
}

/* Length of the name before its extension: "x" of "x.tar.gz", "x.v1" of "x.v1.tar". */
static size_t stem_length(struct atd_str name)
{
    ptrdiff_t dot = atd_str_find_last(name, '.');

    for (size_t at = name.len; at-- > 1;) {
        if (name.len - at <= EXTENSION_MAX &&
            atd_str_starts_with(atd_str_from_byte(name, at), ATD_STR(".tar"))) {
            dot = (ptrdiff_t)at;
            break;
        }
    }
    if (dot <= 0 || name.len - (size_t)dot > EXTENSION_MAX)
        return name.len;
    for (size_t i = (size_t)dot; i < name.len; i++) {
        char c = name.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-' || c == '_'))
            return name.len;
    }
    return (size_t)dot;
}

#define URL_DIGEST_LEN 16

/* What tells cut names of one dataset apart: its CID is the same for all of them. */
static void digest_url(struct atd_str url, char ret_hex[URL_DIGEST_LEN + 1])
{
    uint8_t digest[ATD_SHA256_BYTES];

    atd_sha256_of(url.ptr, url.len, digest);
    for (size_t i = 0; i < URL_DIGEST_LEN / 2; i++)
        (void)snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
}

/* `copy` 1 is the name itself, 2 its first duplicate ("x~2.tar"). */
static struct atd_str spell(struct atd_arena *arena, struct atd_str name, struct atd_str identity,
                            unsigned copy)
{
    atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
    size_t stem = stem_length(name);
    char suffix[EXTENSION_MAX + 16];

    if (copy == 1 && atd_file_name_is_plain(name))
        return atd_arena_str(arena, name);
    if (copy == 1)
        (void)snprintf(suffix, sizeof(suffix), "%.*s", (int)(name.len - stem), name.ptr + stem);
    else
        (void)snprintf(suffix, sizeof(suffix), "~%u%.*s", copy, (int)(name.len - stem),
                       name.ptr + stem);
    atd_file_name_encode(atd_str_head(name, stem), identity, atd_str_from(suffix), &buf);
    return buf.failed ? (struct atd_str){NULL, 0} : atd_arena_str(arena, atd_buf_str(&buf));
}

static bool is_fixed_name(struct atd_str name)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(taken_names); i++) {
        if (atd_str_equal(name, atd_str_from(taken_names[i])))
            return true;
    }
    return false;
}

/* True when a file name is one that the directory or a first shard of some name has. */
static bool is_taken(struct atd_str file_name, const struct atd_str *names, const uint32_t *sorted,
                     size_t count)
{
    size_t low = 0;
    size_t high = count;

    if (is_fixed_name(file_name))
        return true;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (atd_str_compare(names[sorted[middle]], file_name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && atd_str_equal(names[sorted[low]], file_name);
}

bool atd_shard_list_name(struct atd_shard_list *list, const struct atd_str *names)
{
    atd_auto_free uint32_t *sorted =
        reallocarray(NULL, list->count ? list->count : 1, sizeof(*sorted));

    if (!sorted)
        return false;
    for (size_t i = 0; i < list->count; i++)
        sorted[i] = (uint32_t)i;
    qsort_r(sorted, list->count, sizeof(*sorted), compare_last, (void *)(uintptr_t)names);
    for (size_t at = 0; at < list->count;) {
        struct atd_str name = names[sorted[at]];
        unsigned copy = is_fixed_name(name) ? 2 : 1;

        for (; at < list->count && atd_str_equal(names[sorted[at]], name); at++) {
            struct atd_shard *shard = &list->shards[sorted[at]];
            char digest[URL_DIGEST_LEN + 1];

            digest_url(shard->url, digest);
            do {
                shard->file_name = spell(&list->arena, name, atd_str_from(digest), copy);
                if (!shard->file_name.ptr)
                    return false;
            } while (copy++ > 1 && is_taken(shard->file_name, names, sorted, list->count));
        }
    }
    list->by_name = atd_arena_alloc_array(&list->arena, list->count, sizeof(*list->by_name));
    if (!list->by_name)
        return false;
    memcpy(list->by_name, sorted, list->count * sizeof(*sorted));
    qsort_r(list->by_name, list->count, sizeof(*list->by_name), compare_file_names, list->shards);
    return true;
}
