#include "publish/named.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "atdata/entry.h"
#include "atdata/shard_url.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/limits.h"
#include "dataset/members.h"

#define KEY_BYTES 16u
#define SLOTS_FIRST 1024u
#define ARENA_MAX ((size_t)1 << 30) /* of one entry: its URLs, expanded */
#define LOAD_TRIES 40u
#define LOAD_PAUSE_MS 50
#define TEXT_MAX ((size_t)1 << 20) /* of one URL; longer ones are no object's */

/* What a key is of. */
enum tag { TAG_S3 = 's', TAG_PATH = 'p', TAG_FILE = 'i', TAG_LOOSE = 'l', TAG_LONE = 'n' };

struct key {
    uint8_t bytes[KEY_BYTES]; /* of a SHA-256; all 0: no key */
};

struct key_set {
    struct key *slots; /* a power of two; at most half are used */
    size_t cap;
    size_t count;
};

struct atd_named {
    struct key_set keys;
    /* while an index is loaded */
    struct key_set entries; /* that were reported */
    struct key_set refused; /* of the kind that may name something */
    size_t entry_count;
    struct atd_error why; /* of the first record that hides names for sure */
    size_t hidden;
    bool out_of_memory;
};

/* ------------------------------------------------------------------ sets of digests */

static struct key key_of(enum tag tag, struct atd_str a, struct atd_str b)
{
    struct atd_sha256 *sha = atd_sha256_new();
    uint8_t digest[ATD_SHA256_BYTES] = {0};
    const uint8_t first = (uint8_t)tag;
    struct key key;

    if (sha) {
        atd_sha256_add(sha, &first, 1);
        atd_sha256_add(sha, a.ptr, a.len);
        atd_sha256_add(sha, "", 1);
        atd_sha256_add(sha, b.ptr, b.len);
        atd_sha256_finish(sha, digest);
        atd_sha256_free(sha);
    }
    memcpy(key.bytes, digest, sizeof(key.bytes));
    return key;
}

static bool is_no_key(const struct key *key)
{
    static const struct key none;

    return memcmp(key, &none, sizeof(none)) == 0;
}

static size_t slot_of(const struct key_set *set, const struct key *key)
{
    uint64_t hash;
    size_t at;

    memcpy(&hash, key->bytes, sizeof(hash));
    for (at = (size_t)hash & (set->cap - 1); !is_no_key(&set->slots[at]);
         at = (at + 1) & (set->cap - 1)) {
        if (memcmp(&set->slots[at], key, sizeof(*key)) == 0)
            break;
    }
    return at;
}

static bool set_has(const struct key_set *set, const struct key *key)
{
    return set->count > 0 && !is_no_key(&set->slots[slot_of(set, key)]);
}

static bool set_grow(struct key_set *set)
{
    struct key_set grown = {.cap = set->cap ? set->cap * 2 : SLOTS_FIRST, .count = set->count};

    grown.slots = calloc(grown.cap, sizeof(*grown.slots));
    if (!grown.slots)
        return false;
    for (size_t i = 0; i < set->cap; i++) {
        if (!is_no_key(&set->slots[i]))
            grown.slots[slot_of(&grown, &set->slots[i])] = set->slots[i];
    }
    free(set->slots);
    *set = grown;
    return true;
}

/* False when out of memory (a digest that could not be made is that too). */
static bool set_add(struct key_set *set, struct key key)
{
    size_t at;

    if (is_no_key(&key) || (set->count * 2 >= set->cap && !set_grow(set)))
        return false;
    at = slot_of(set, &key);
    if (is_no_key(&set->slots[at])) {
        set->slots[at] = key;
        set->count++;
    }
    return true;
}

struct atd_named *atd_named_new(void)
{
    return calloc(1, sizeof(struct atd_named));
}

void atd_named_free(struct atd_named *named)
{
    if (!named)
        return;
    free(named->keys.slots);
    free(named->entries.slots);
    free(named->refused.slots);
    free(named);
}

size_t atd_named_entry_count(const struct atd_named *named)
{
    return named->entry_count;
}

/* ------------------------------------------------------------------ spellings */

/* A path with what means nothing taken out: repeated slashes, "." steps. */
static bool tidy_path(struct atd_str path, struct atd_buf *out)
{
    for (size_t at = 0; at < path.len;) {
        struct atd_str rest = atd_str_from_byte(path, at);
        ptrdiff_t slash = atd_str_find(rest, '/');
        size_t len = slash < 0 ? rest.len : (size_t)slash;

        if (len > 0 && !(len == 1 && rest.ptr[0] == '.')) {
            atd_buf_append_text(out, "/");
            atd_buf_append(out, rest.ptr, len);
        }
        at += len + 1;
    }
    return !out->failed;
}

/* The file itself, whatever leads to it. False when there is none. */
static bool file_key(struct atd_str path, struct key *ret_key)
{
    atd_auto_free char *copy = strndup(path.ptr, path.len);
    char text[2 * 17];
    struct stat st;

    if (!copy || stat(copy, &st) != 0 || !S_ISREG(st.st_mode))
        return false;
    (void)snprintf(text, sizeof(text), "%" PRIx64 "-%" PRIx64, (uint64_t)st.st_dev,
                   (uint64_t)st.st_ino);
    *ret_key = key_of(TAG_FILE, atd_str_from(text), ATD_STR(""));
    return true;
}

static bool ends_segment(char c)
{
    return (unsigned char)c <= ' ' || strchr("/?#&=;|\"'<>(),", c) != NULL;
}

static int hex_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static void append_decoded(struct atd_str text, struct atd_buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        int high = text.ptr[i] == '%' && i + 2 < text.len ? hex_of(text.ptr[i + 1]) : -1;
        int low = high >= 0 ? hex_of(text.ptr[i + 2]) : -1;

        if (low >= 0) {
            atd_buf_append_byte(out, (uint8_t)(high << 4 | low));
            i += 2;
        } else {
            atd_buf_append_byte(out, (uint8_t)text.ptr[i]);
        }
    }
}

/* `above` ptr NULL: the segment stands alone. As it is, and percent-decoded. */
static bool add_segment(struct key_set *set, struct atd_str above, struct atd_str segment)
{
    atd_auto_buf struct atd_buf decoded_first = ATD_BUF_INIT(TEXT_MAX);
    atd_auto_buf struct atd_buf decoded_second = ATD_BUF_INIT(TEXT_MAX);
    enum tag tag = above.ptr ? TAG_LOOSE : TAG_LONE;
    struct atd_str first = above.ptr ? above : segment;
    struct atd_str second = above.ptr ? segment : ATD_STR("");
    bool good = set_add(set, key_of(tag, first, second));

    if (good && (atd_str_find(first, '%') >= 0 || atd_str_find(second, '%') >= 0)) {
        append_decoded(first, &decoded_first);
        append_decoded(second, &decoded_second);
        good = !decoded_first.failed && !decoded_second.failed &&
               set_add(set, key_of(tag, atd_buf_str(&decoded_first), atd_buf_str(&decoded_second)));
    }
    return good;
}

/* Every pair of segments that follow each other, and each that stands alone. */
static bool add_loose(struct key_set *set, struct atd_str text)
{
    struct atd_str above = {NULL, 0};
    bool good = true;

    for (size_t at = 0; good && at < text.len;) {
        size_t end = at;
        struct atd_str segment;

        while (end < text.len && !ends_segment(text.ptr[end]))
            end++;
        segment = (struct atd_str){text.ptr + at, end - at};
        if (segment.len > 0) {
            good = add_segment(set, above, segment);
            above = segment;
        }
        if (end < text.len && text.ptr[end] != '/')
            above.ptr = NULL;
        at = end + 1;
    }
    return good;
}

/* The last two segments of an object's key or path. */
static bool is_loosely_named(const struct key_set *set, struct atd_str key)
{
    ptrdiff_t slash = atd_str_find_last(key, '/');
    struct atd_str last = atd_str_from_byte(key, (size_t)(slash + 1));
    struct atd_str above = atd_str_head(key, slash > 0 ? (size_t)slash : 0);
    struct key lone = key_of(TAG_LONE, last, ATD_STR(""));
    struct key pair;

    if (last.len == 0)
        return true; /* "a directory": no shard, and nobody's to delete */
    above = atd_str_from_byte(above, (size_t)(atd_str_find_last(above, '/') + 1));
    pair = key_of(TAG_LOOSE, above, last);
    return is_no_key(&lone) || is_no_key(&pair) || set_has(set, &lone) ||
           (above.len > 0 && set_has(set, &pair));
}

/* ------------------------------------------------------------------ adding */

static bool add_path(struct atd_named *named, struct atd_str path)
{
    atd_auto_buf struct atd_buf tidy = ATD_BUF_INIT(TEXT_MAX);
    struct key file;

    if (path.len >= TEXT_MAX || memchr(path.ptr, '\0', path.len))
        return true; /* no file's */
    return tidy_path(path, &tidy) &&
           set_add(&named->keys, key_of(TAG_PATH, atd_buf_str(&tidy), ATD_STR(""))) &&
           (!file_key(path, &file) || set_add(&named->keys, file));
}

int atd_named_add(struct atd_named *named, struct atd_str text, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(2 * TEXT_MAX);
    struct atd_shard_url url;
    bool good;

    /* What is no URL may still be what somebody opens. */
    if (atd_shard_url_parse(text, &arena, &url, NULL) != 0)
        good = add_loose(&named->keys, text);
    else if (url.scheme == ATD_URL_S3)
        good = set_add(&named->keys, key_of(TAG_S3, url.bucket, url.key));
    else if (url.scheme == ATD_URL_LOCAL)
        good = add_path(named, url.path);
    else
        good = add_loose(&named->keys, text);
    return good ? 0 : atd_error_set(err, ENOMEM, "what the index names: out of memory");
}

static int add_all(struct atd_named *named, const struct atd_str *urls, size_t count,
                   struct atd_error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = atd_named_add(named, urls[i], err);
    return rc;
}

static int hides(struct atd_named *named, struct atd_str cid, const struct atd_error *why)
{
    if (named->hidden++ == 0)
        (void)atd_error_set(&named->why, EBADMSG, "entry '" ATD_STR_FMT "': %s", ATD_STR_ARG(cid),
                            why->text);
    return 0;
}

static int on_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    struct atd_named *named = ctx;
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_MAX);
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_str *elements;
    struct atd_str *urls;
    size_t element_count;
    size_t count;
    int rc = atd_urls_decode(entry->data_urls, &arena, &elements, &element_count, &why);

    named->entry_count++;
    if (!set_add(&named->entries, key_of(TAG_LONE, entry->cid, ATD_STR(""))))
        return atd_error_set(err, ENOMEM, "what the index names: out of memory");
    if (rc == 0)
        rc = atd_shard_urls_expand(elements, element_count, ATD_SHARDS_MAX, NULL, NULL, &arena,
                                   &urls, &count, &why);
    if (rc)
        return hides(named, entry->cid, &why);
    /* As they stand, too: a pattern may be a name. */
    rc = add_all(named, elements, element_count, err);
    return rc ? rc : add_all(named, urls, count, err);
}

static int on_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    (void)ctx;
    (void)label;
    (void)err;
    return 0;
}

static int on_schema(void *ctx, const struct atd_index_schema *schema, struct atd_error *err)
{
    (void)ctx;
    (void)schema;
    (void)err;
    return 0;
}

static int on_gone(void *ctx, enum atd_index_kind kind, struct atd_str key, struct atd_error *err)
{
    (void)ctx;
    (void)kind;
    (void)key;
    (void)err;
    return 0;
}

/* Labels and schemas name no object. */
static void on_problem(void *ctx, const char *what, struct atd_str key, const char *reason)
{
    struct atd_named *named = ctx;

    if (strcmp(what, "label") == 0 || strcmp(what, "schema") == 0)
        return;
    if (named->why.code == 0)
        (void)atd_error_set(&named->why, EBADMSG, "%s '" ATD_STR_FMT "': %s", what,
                            ATD_STR_ARG(key), reason);
    if (strcmp(what, "entry") != 0)
        named->hidden++;
    else if (!set_add(&named->refused, key_of(TAG_LONE, key, ATD_STR(""))))
        named->out_of_memory = true;
}

/* Entries that were refused, and not only complained of. */
static size_t count_refused(const struct atd_named *named)
{
    size_t count = 0;

    for (size_t i = 0; i < named->refused.cap; i++) {
        if (!is_no_key(&named->refused.slots[i]) &&
            !set_has(&named->entries, &named->refused.slots[i]))
            count++;
    }
    return count;
}

static void forget(struct key_set *set)
{
    free(set->slots);
    *set = (struct key_set){0};
}

static int load_once(struct atd_named *named, struct atd_index *index, struct atd_error *err)
{
    const struct atd_index_sink sink = {named, on_entry, on_label, on_schema, on_gone, on_problem};
    int rc;

    named->entry_count = 0;
    named->hidden = 0;
    named->why = (struct atd_error)ATD_ERROR_INIT;
    named->out_of_memory = false;
    rc = atd_index_load(index, &sink, err);
    if (rc == 0 && named->out_of_memory)
        rc = atd_error_set(err, ENOMEM, "what the index names: out of memory");
    named->hidden += count_refused(named);
    forget(&named->entries);
    forget(&named->refused);
    return rc;
}

int atd_named_load(struct atd_named *named, struct atd_index *index, struct atd_error *err)
{
    static const struct timespec pause = {0, 1000000L * LOAD_PAUSE_MS};
    int rc = load_once(named, index, err);

    /* A file that others write to meanwhile is read again. What earlier tries added stays. */
    for (unsigned tries = 1; rc == -EAGAIN && tries < LOAD_TRIES; tries++) {
        (void)nanosleep(&pause, NULL);
        rc = load_once(named, index, err);
    }
    if (rc)
        return rc;
    if (named->hidden > 0)
        return atd_error_set(err, EBADMSG,
                             "%zu records of the index cannot be read, so that nobody knows what "
                             "they name; the first is %s",
                             named->hidden, named->why.text);
    if (named->entry_count == 0)
        return atd_error_set(err, ENODATA, "the index has no entries: is it the right one?");
    return 0;
}

/* ------------------------------------------------------------------ asking */

static bool has_path(const struct atd_named *named, struct atd_str path)
{
    atd_auto_buf struct atd_buf tidy = ATD_BUF_INIT(TEXT_MAX);
    struct key key;

    if (!tidy_path(path, &tidy))
        return true;
    key = key_of(TAG_PATH, atd_buf_str(&tidy), ATD_STR(""));
    return is_no_key(&key) || set_has(&named->keys, &key) ||
           (file_key(path, &key) && (is_no_key(&key) || set_has(&named->keys, &key))) ||
           is_loosely_named(&named->keys, atd_buf_str(&tidy));
}

static bool has(const struct atd_named *named, struct atd_str text)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(2 * TEXT_MAX);
    struct atd_shard_url url;
    struct key key;

    if (atd_shard_url_parse(text, &arena, &url, NULL) != 0)
        return true; /* nobody knows */
    if (url.scheme == ATD_URL_LOCAL)
        return has_path(named, url.path);
    if (url.scheme != ATD_URL_S3)
        return true;
    key = key_of(TAG_S3, url.bucket, url.key);
    return is_no_key(&key) || set_has(&named->keys, &key) ||
           is_loosely_named(&named->keys, url.key);
}

bool atd_named_has(const struct atd_named *named, struct atd_str url)
{
    struct atd_str suffix = ATD_STR(ATD_MEMBERS_SUFFIX);

    return has(named, url) || (url.len > suffix.len && atd_str_ends_with(url, suffix) &&
                               has(named, atd_str_head(url, url.len - suffix.len)));
}
