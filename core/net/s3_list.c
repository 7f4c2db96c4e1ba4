/*
 * ListObjectsV2. Source: S3-REDIS 2.5.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "net/s3_reply.h"
#include "net/s3_xml.h"

#define WHAT "list of objects"
#define KEYS_FIRST 16u

struct reading {
    struct atd_arena *arena;
    struct atd_s3_listed *keys; /* KEYS_FIRST doubled, ATD_S3_LIST_KEYS_MAX at most */
    size_t count;
    size_t cap;
    /* the <Contents> being read */
    struct atd_s3_listed now;
    bool has_size;

    bool has_root;
    bool is_error; /* an <Error> in a 200 */
    bool is_truncated;
    bool is_encoded;
    struct atd_str token;
};

/* A size that a file can have. */
static bool read_size(struct atd_str text, uint64_t *ret_size)
{
    uint64_t size = 0;

    text = atd_xml_trim(text);
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)(text.ptr[i] - '0');

        if (text.ptr[i] < '0' || digit > 9 || size > ((uint64_t)INT64_MAX - digit) / 10)
            return false;
        size = size * 10 + digit;
    }
    *ret_size = size;
    return text.len > 0;
}

static int add_key(struct reading *reading, struct atd_error *err)
{
    if (reading->now.key.len == 0 || !reading->has_size)
        return atd_error_set(err, EPROTO, WHAT " has an object without %s",
                             reading->has_size ? "a key" : "a size");
    if (reading->count == ATD_S3_LIST_KEYS_MAX)
        return atd_error_set(err, EPROTO, WHAT " has more than %u objects", ATD_S3_LIST_KEYS_MAX);
    if (reading->count == reading->cap) {
        size_t cap = reading->cap ? reading->cap * 2 : KEYS_FIRST;
        struct atd_s3_listed *grown = realloc(reading->keys, cap * sizeof(*grown));

        if (!grown)
            return atd_error_set(err, ENOMEM, WHAT ": out of memory");
        reading->keys = grown;
        reading->cap = cap;
    }
    reading->keys[reading->count++] = reading->now;
    return 0;
}

static void on_open(void *ctx, const char *path)
{
    struct reading *reading = ctx;

    if (strcmp(path, "ListBucketResult") == 0)
        reading->has_root = true;
    else if (strcmp(path, "Error") == 0)
        reading->is_error = true;
    else if (strcmp(path, "ListBucketResult/Contents") == 0) {
        memset(&reading->now, 0, sizeof(reading->now));
        reading->has_size = false;
    }
}

/* A member of <Contents>, named by the rest of its path. */
static int close_member(struct reading *reading, const char *name,
                        const struct atd_xml_element *element, struct atd_error *err)
{
    if (strcmp(name, "Key") == 0)
        return atd_xml_copy(element, WHAT, reading->arena, &reading->now.key, err);
    if (strcmp(name, "Size") == 0) {
        reading->has_size = read_size(element->text, &reading->now.info.size_bytes);
        if (!reading->has_size)
            return atd_error_set(err, EPROTO, WHAT ": '" ATD_STR_FMT "' is not a size",
                                 ATD_STR_ARG(element->text));
    } else if (strcmp(name, "ETag") == 0) {
        atd_etag_copy(element->is_cut ? ATD_STR("") : atd_xml_trim(element->text),
                      reading->now.info.etag);
    } else if (strcmp(name, "LastModified") == 0) {
        if (!atd_clock_parse(atd_xml_trim(element->text), &reading->now.info.mtime_s))
            reading->now.info.mtime_s = 0;
    }
    return 0;
}

static int on_close(void *ctx, const struct atd_xml_element *element, struct atd_error *err)
{
    static const char root[] = "ListBucketResult/";
    static const char contents[] = "Contents/";
    struct reading *reading = ctx;
    struct atd_str text = atd_xml_trim(element->text);
    const char *name;

    if (strncmp(element->path, root, strlen(root)) != 0)
        return 0;
    name = element->path + strlen(root);
    if (strncmp(name, contents, strlen(contents)) == 0)
        return close_member(reading, name + strlen(contents), element, err);
    if (strcmp(name, "Contents") == 0)
        return add_key(reading, err);
    if (strcmp(name, "NextContinuationToken") == 0)
        return atd_xml_copy(element, WHAT, reading->arena, &reading->token, err);
    if (strcmp(name, "EncodingType") == 0) {
        reading->is_encoded = atd_str_equal(text, ATD_STR("url"));
    } else if (strcmp(name, "IsTruncated") == 0) {
        reading->is_truncated = atd_str_equal(text, ATD_STR("true"));
        if (!reading->is_truncated && !atd_str_equal(text, ATD_STR("false")))
            return atd_error_set(err, EPROTO, WHAT ": IsTruncated is '" ATD_STR_FMT "'",
                                 ATD_STR_ARG(text));
    }
    return 0;
}

static int finish(struct reading *reading, struct atd_s3_list *ret_list, struct atd_error *err)
{
    struct atd_s3_list list = {NULL, reading->count, reading->is_truncated, reading->token};

    if (!reading->has_root)
        return atd_error_set(err, EPROTO, WHAT " is %s",
                             reading->is_error ? "an error"
                                               : "another kind of XML: is this an S3 service?");
    /* It would be asked for the first page for ever. */
    if (list.is_truncated && list.next_token.len == 0)
        return atd_error_set(err, EPROTO, WHAT " says that it goes on, but not where");
    list.keys = atd_arena_alloc_array(reading->arena, reading->count, sizeof(*list.keys));
    if (!list.keys)
        return atd_error_set(err, ENOMEM, WHAT ": out of memory");
    if (reading->count)
        memcpy(list.keys, reading->keys, reading->count * sizeof(*list.keys));
    for (size_t i = 0; reading->is_encoded && i < list.key_count; i++)
        if (!atd_xml_decode_form(list.keys[i].key, reading->arena, &list.keys[i].key))
            return atd_error_set(err, ENOMEM, WHAT ": out of memory");
    *ret_list = list;
    return 0;
}

int atd_s3_list_parse(struct atd_bytes body, struct atd_arena *arena, struct atd_s3_list *ret_list,
                      struct atd_error *err)
{
    static const struct atd_xml_ops ops = {on_open, on_close};
    struct reading reading = {.arena = arena};
    int rc = atd_xml_walk(body, WHAT, &ops, &reading, err);

    if (rc == 0)
        rc = finish(&reading, ret_list, err);
    free(reading.keys);
    return rc;
}
