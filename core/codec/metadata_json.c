/*
 * Metadata written as JSON.
 */
#include <math.h>

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

struct to_json {
    struct atd_json_writer json;
    struct atd_mp_reader reader;
    struct atd_buf scratch; /* base64 and escaped keys */
    struct out_level levels[ATD_MSGPACK_DEPTH_MAX];
    size_t depth;
    const char *const *leave_out;
};

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
        if (is_left_out(to, &token)) {
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
    struct to_json to = {.leave_out = leave_out,
                         .scratch = ATD_BUF_INIT(2u * ATD_METADATA_BYTES_MAX)};

    atd_json_init(&to.json, out, ATD_JSON_PRETTY);
    to.json.indent = indent;
    atd_mp_reader_init(&to.reader, msgpack);
    do {
        write_next(&to);
    } while (to.depth > 0 && !out->failed);
    atd_buf_release(&to.scratch);
}
