/*
 * Metadata written as JSON.
 */
#include <math.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "base/check.h"
#include "base/limits.h"
#include "codec/base64.h"
#include "codec/json_write.h"
#include "codec/metadata_tag.h"
#include "codec/msgpack_read.h"

struct out_level {
    uint64_t left; /* values, a map's keys included */
    bool is_map;
};

/* A key of some map. Metadata are shorter than 4 GiB. */
struct stored_key {
    uint32_t group; /* twice the map's number, and 1 more for bin: text and bytes are never equal */
    uint32_t at;    /* where the key's msgpack begins */
    uint32_t body;  /* its text or bytes */
    uint32_t len;
};

struct to_json {
    struct atd_json_writer json;
    struct atd_mp_reader reader;
    struct atd_buf scratch; /* base64 and escaped keys */
    struct out_level levels[ATD_MSGPACK_DEPTH_MAX];
    size_t depth;
    const char *const *leave_out;
    struct atd_buf overridden; /* struct stored_key each, by position */
    size_t overridden_at;      /* first one not behind the reader */
};

static int compare_keys(const void *a, const void *b, void *doc)
{
    const struct stored_key *x = a;
    const struct stored_key *y = b;
    const char *base = doc;
    int order;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    order = atd_str_compare((struct atd_str){base + x->body, x->len},
                            (struct atd_str){base + y->body, y->len});
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

static int compare_places(const void *a, const void *b)
{
    const struct stored_key *x = a;
    const struct stored_key *y = b;

    return (x->at > y->at) - (x->at < y->at);
}

/* Appends every map's keys, in one pass over the document. */
static void collect_keys(struct atd_bytes msgpack, struct atd_buf *keys)
{
    struct {
        struct out_level level;
        uint32_t map_number;
    } levels[ATD_MSGPACK_DEPTH_MAX];
    struct atd_mp_reader reader;
    uint32_t map_count = 0;
    size_t depth = 0;

    atd_mp_reader_init(&reader, msgpack);
    do {
        struct atd_mp_token token = {0};
        bool is_key =
            depth && levels[depth - 1].level.is_map && levels[depth - 1].level.left % 2 == 0;
        int rc = atd_mp_next(&reader, &token, NULL);

        atd_assert(rc == 0);
        if (depth)
            levels[depth - 1].level.left--;
        if (is_key) {
            struct stored_key key = {
                .group = 2 * levels[depth - 1].map_number + (token.type == ATD_MP_BIN),
                .at = (uint32_t)token.offset,
                .body = (uint32_t)(token.body.ptr - msgpack.ptr),
                .len = (uint32_t)token.body.len,
            };

            atd_buf_append(keys, &key, sizeof(key));
        } else if (token.type == ATD_MP_MAP || token.type == ATD_MP_ARRAY) {
            bool is_map = token.type == ATD_MP_MAP;

            atd_assert(depth < ATD_MSGPACK_DEPTH_MAX);
            levels[depth].level = (struct out_level){(uint64_t)token.count << is_map, is_map};
            levels[depth++].map_number = map_count;
            map_count += is_map;
        }
        while (depth > 0 && levels[depth - 1].level.left == 0)
            depth--;
    } while (depth > 0 && !keys->failed);
}

/*
 * Stores the keys that a later equal one of the same map overrides, as in a Python dict. Sorting
 * keeps that cheap for a map made of nothing but equal keys.
 */
static void find_overridden(struct to_json *to, struct atd_bytes msgpack)
{
    struct stored_key *keys;
    size_t count;
    size_t kept = 0;

    collect_keys(msgpack, &to->overridden);
    count = to->overridden.len / sizeof(*keys);
    to->overridden.len = 0;
    if (to->overridden.failed) {
        to->json.out->failed = to->overridden.failed;
        return;
    }
    if (count < 2)
        return;
    keys = (struct stored_key *)(void *)to->overridden.ptr;
    qsort_r(keys, count, sizeof(*keys), compare_keys, (void *)(uintptr_t)msgpack.ptr);
    for (size_t i = 0; i + 1 < count; i++) {
        if (keys[i].group == keys[i + 1].group && keys[i].len == keys[i + 1].len &&
            memcmp(msgpack.ptr + keys[i].body, msgpack.ptr + keys[i + 1].body, keys[i].len) == 0)
            keys[kept++] = keys[i];
    }
    qsort(keys, kept, sizeof(*keys), compare_places);
    to->overridden.len = kept * sizeof(*keys);
}

/* Keys come in ascending order; those inside a value that was skipped do not come. */
static bool is_overridden(struct to_json *to, const struct atd_mp_token *key)
{
    const struct stored_key *keys = (const struct stored_key *)(const void *)to->overridden.ptr;
    size_t count = to->overridden.len / sizeof(*keys);

    while (to->overridden_at < count && keys[to->overridden_at].at < key->offset)
        to->overridden_at++;
    return to->overridden_at < count && keys[to->overridden_at].at == key->offset;
}

static void write_base64(struct to_json *to, struct atd_bytes bytes)
{
    atd_buf_clear(&to->scratch);
    atd_base64_encode(bytes, &to->scratch);
    if (to->scratch.failed)
        to->json.out->failed = to->scratch.failed;
    atd_json_str(&to->json, atd_buf_str(&to->scratch));
}

static void write_key(struct to_json *to, const struct atd_mp_token *token)
{
    struct atd_str text = atd_bytes_str(token->body);

    if (token->type == ATD_MP_STR && !atd_looks_like_tag(text)) {
        atd_json_key_str(&to->json, text);
        return;
    }
    atd_buf_clear(&to->scratch);
    if (token->type == ATD_MP_BIN) {
        atd_buf_append_str(&to->scratch, ATD_BYTES_KEY_PREFIX);
        atd_base64_encode(token->body, &to->scratch);
    } else {
        atd_buf_append_byte(&to->scratch, '$');
        atd_buf_append_str(&to->scratch, text);
    }
    if (to->scratch.failed)
        to->json.out->failed = to->scratch.failed;
    atd_json_key_str(&to->json, atd_buf_str(&to->scratch));
}

static void write_float(struct to_json *to, double value)
{
    if (isfinite(value)) {
        atd_json_float(&to->json, value);
        return;
    }
    atd_json_object_begin(&to->json);
    atd_json_key(&to->json, "$float");
    atd_json_text(&to->json, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
    atd_json_object_end(&to->json);
}

static void write_tagged(struct to_json *to, const struct atd_mp_token *token)
{
    atd_json_object_begin(&to->json);
    if (token->type == ATD_MP_BIN) {
        atd_json_key(&to->json, "$bytes");
        write_base64(to, token->body);
    } else {
        atd_json_key(&to->json, "$ext");
        atd_json_array_begin(&to->json);
        atd_json_int(&to->json, token->ext_type);
        write_base64(to, token->body);
        atd_json_array_end(&to->json);
    }
    atd_json_object_end(&to->json);
}

static void open_level(struct to_json *to, const struct atd_mp_token *token)
{
    bool is_map = token->type == ATD_MP_MAP;

    atd_assert(to->depth < ATD_MSGPACK_DEPTH_MAX);
    to->levels[to->depth++] =
        (struct out_level){is_map ? 2 * (uint64_t)token->count : token->count, is_map};
    if (is_map)
        atd_json_object_begin(&to->json);
    else
        atd_json_array_begin(&to->json);
}

static void write_value(struct to_json *to, const struct atd_mp_token *token)
{
    switch (token->type) {
    case ATD_MP_NIL:
        atd_json_null(&to->json);
        break;
    case ATD_MP_BOOL:
        atd_json_bool(&to->json, token->b);
        break;
    case ATD_MP_INT:
        atd_json_int(&to->json, token->i);
        break;
    case ATD_MP_UINT:
        atd_json_uint(&to->json, token->u);
        break;
    case ATD_MP_FLOAT:
        write_float(to, token->f);
        break;
    case ATD_MP_STR:
        atd_json_str(&to->json, atd_bytes_str(token->body));
        break;
    case ATD_MP_BIN:
    case ATD_MP_EXT:
        write_tagged(to, token);
        break;
    case ATD_MP_ARRAY:
    case ATD_MP_MAP:
        open_level(to, token);
        break;
    }
}

/* The reader stands behind a top-level key: is its value one that the caller shows elsewhere? */
static bool is_left_out(const struct to_json *to, const struct atd_mp_token *key)
{
    struct atd_mp_reader probe = to->reader;
    struct atd_mp_token value;

    if (!to->leave_out || to->depth != 1 || key->type != ATD_MP_STR ||
        atd_mp_next(&probe, &value, NULL) < 0 || value.type != ATD_MP_MAP)
        return false;
    for (const char *const *name = to->leave_out; *name; name++) {
        if (atd_str_equal(atd_str_from(*name), atd_bytes_str(key->body)))
            return true;
    }
    return false;
}

static void close_full_levels(struct to_json *to)
{
    while (to->depth > 0 && to->levels[to->depth - 1].left == 0) {
        to->depth--;
        if (to->levels[to->depth].is_map)
            atd_json_object_end(&to->json);
        else
            atd_json_array_end(&to->json);
    }
}

static void write_next(struct to_json *to)
{
    struct out_level *level = to->depth ? &to->levels[to->depth - 1] : NULL;
    struct atd_mp_token token;
    int rc = atd_mp_next(&to->reader, &token, NULL);

    atd_assert(rc == 0);
    if (level && level->is_map && level->left % 2 == 0) {
        level->left--;
        if (is_overridden(to, &token) || is_left_out(to, &token)) {
            atd_mp_skip(&to->reader);
            level->left--;
        } else {
            write_key(to, &token);
        }
    } else {
        if (level)
            level->left--;
        write_value(to, &token);
    }
    close_full_levels(to);
}

void atd_metadata_to_json(struct atd_bytes msgpack, const char *const *leave_out, unsigned indent,
                          struct atd_buf *out)
{
    struct to_json to = {
        .leave_out = leave_out,
        .scratch = ATD_BUF_INIT(2u * ATD_METADATA_BYTES_MAX),
        .overridden = ATD_BUF_INIT(sizeof(struct stored_key) * (size_t)ATD_MSGPACK_VALUES_MAX)};

    atd_assert(msgpack.len <= ATD_METADATA_BYTES_MAX);
    atd_json_init(&to.json, out, ATD_JSON_PRETTY);
    to.json.indent = indent;
    atd_mp_reader_init(&to.reader, msgpack);
    find_overridden(&to, msgpack);
    do {
        write_next(&to);
    } while (to.depth > 0 && !out->failed);
    atd_buf_release(&to.scratch);
    atd_buf_release(&to.overridden);
}
