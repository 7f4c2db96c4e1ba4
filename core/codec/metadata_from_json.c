/*
 * Metadata read from JSON.
 *
 * msgpack is made in two passes, because a container's header needs the number of its items first:
 * a draft with headers of the greatest width, patched at each container's end, and then a copy
 * with the shortest ones.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/base64.h"
#include "codec/json_read.h"
#include "codec/metadata_tag.h"
#include "codec/msgpack_read.h"
#include "codec/msgpack_write.h"

/* JSON text of metadata; generous beside ATD_METADATA_BYTES_MAX, as JSON says things at length. */
#define JSON_BYTES_MAX (2u * ATD_METADATA_BYTES_MAX)

/* In a draft: 0xdd or 0xdf and 32 bits of count. Source: msgpack spec, array 32, map 32. */
#define DRAFT_ARRAY 0xdd
#define DRAFT_MAP 0xdf
#define DRAFT_HEADER_BYTES 5

struct in_level {
    size_t header; /* where the container's header stands in the draft */
    uint32_t count;
    uint32_t object_number; /* tells the keys of different objects apart */
    bool is_array;
};

/* A key that was read, for finding one that an object has twice. */
struct seen_key {
    uint32_t object_number;
    size_t at; /* of its msgpack in the draft */
    size_t len;
    size_t offset; /* in the JSON text */
};

struct from_json {
    struct atd_json_reader reader;
    struct atd_buf draft;
    struct atd_buf scratch; /* the key or string at hand, unescaped */
    struct atd_buf bytes;   /* what base64 at hand says */
    struct atd_buf keys;    /* struct seen_key each */
    struct in_level levels[ATD_MSGPACK_DEPTH_MAX];
    size_t depth;
    uint32_t object_count;
    uint32_t value_count;
};

static int fail(const struct from_json *from, size_t offset, struct atd_error *err,
                const char *what)
{
    return atd_json_error(from->reader.text, offset, EINVAL, err, what);
}

static int fail_tag(const struct from_json *from, size_t offset, struct atd_error *err)
{
    return fail(from, offset, err,
                "'$bytes', '$float' or '$ext' stands alone in its object with the value that it "
                "tags (a key of that name is written with one more '$'): bad tag");
}

static void set_scratch(struct from_json *from, struct atd_str raw)
{
    atd_buf_clear(&from->scratch);
    atd_json_unescape(raw, &from->scratch);
}

static int add_number(struct from_json *from, const struct atd_json_token *token,
                      struct atd_error *err)
{
    uint64_t positive;
    int64_t negative;
    double real;

    if (!atd_json_is_integer(token->raw)) {
        if (!atd_json_as_double(token->raw, &real))
            return fail(from, token->offset, err, "number out of a float64's range");
        atd_mp_write_float(&from->draft, real);
    } else if (atd_json_as_u64(token->raw, &positive)) {
        atd_mp_write_uint(&from->draft, positive);
    } else if (atd_json_as_i64(token->raw, &negative)) {
        atd_mp_write_int(&from->draft, negative);
    } else {
        return fail(from, token->offset, err, "integer of more than 64 bits");
    }
    return 0;
}

/* Decodes a base64 string token into `bytes`. */
static bool take_base64(struct from_json *from, const struct atd_json_token *token)
{
    if (token->type != ATD_JSON_STRING)
        return false;
    set_scratch(from, token->raw);
    atd_buf_clear(&from->bytes);
    return atd_base64_decode(atd_buf_str(&from->scratch), &from->bytes);
}

static bool add_tagged_float(struct from_json *from, const struct atd_json_token *token)
{
    static const struct {
        const char *text;
        double value;
    } values[] = {{"nan", (double)NAN}, {"inf", HUGE_VAL}, {"-inf", -HUGE_VAL}};

    for (size_t i = 0; token->type == ATD_JSON_STRING && i < ATD_ARRAY_LEN(values); i++) {
        if (atd_json_raw_equals(token->raw, values[i].text)) {
            atd_mp_write_float(&from->draft, values[i].value);
            return true;
        }
    }
    return false;
}

/* What stands inside {"$ext": ...}: [type, "<base64>"]. */
static bool add_tagged_ext(struct from_json *from, struct atd_json_reader *reader)
{
    struct atd_json_token token;
    int64_t type;

    if (atd_json_next(reader, &token, NULL) < 0 || token.type != ATD_JSON_NUMBER ||
        !atd_json_as_i64(token.raw, &type) || type < INT8_MIN || type > INT8_MAX)
        return false;
    if (atd_json_next(reader, &token, NULL) < 0 || !take_base64(from, &token))
        return false;
    atd_mp_write_ext(&from->draft, (int8_t)type, atd_buf_bytes(&from->bytes));
    return atd_json_next(reader, &token, NULL) == 0 && token.type == ATD_JSON_ARRAY_END;
}

/*
 * The reader stands behind '{'. When a tag follows, reads it with its value to the closing '}' and
 * stores true.
 */
static int try_tag(struct from_json *from, bool *ret_was_tag, struct atd_error *err)
{
    struct atd_json_reader probe = from->reader;
    struct atd_json_token key;
    struct atd_json_token value;
    bool good = false;
    int rc = atd_json_next(&probe, &key, err);

    if (rc < 0)
        return rc;
    *ret_was_tag = key.type == ATD_JSON_KEY &&
                   (atd_json_raw_equals(key.raw, "$bytes") ||
                    atd_json_raw_equals(key.raw, "$float") || atd_json_raw_equals(key.raw, "$ext"));
    if (!*ret_was_tag)
        return 0;
    rc = atd_json_next(&probe, &value, err);
    if (rc < 0)
        return rc;
    if (atd_json_raw_equals(key.raw, "$float")) {
        good = add_tagged_float(from, &value);
    } else if (atd_json_raw_equals(key.raw, "$ext")) {
        good = value.type == ATD_JSON_ARRAY && add_tagged_ext(from, &probe);
    } else {
        good = take_base64(from, &value);
        if (good)
            atd_mp_write_bin(&from->draft, atd_buf_bytes(&from->bytes));
    }
    if (!good || atd_json_next(&probe, &value, NULL) < 0 || value.type != ATD_JSON_OBJECT_END)
        return fail_tag(from, key.offset, err);
    from->reader = probe;
    return 0;
}

static int open_container(struct from_json *from, const struct atd_json_token *token,
                          struct atd_error *err)
{
    bool is_object = token->type == ATD_JSON_OBJECT;

    if (from->depth == ATD_MSGPACK_DEPTH_MAX)
        return atd_json_error(from->reader.text, token->offset, E2BIG, err,
                              "too many levels of nesting");
    from->levels[from->depth++] = (struct in_level){
        .header = from->draft.len,
        .object_number = is_object ? from->object_count++ : 0,
        .is_array = !is_object,
    };
    atd_buf_append_byte(&from->draft, is_object ? DRAFT_MAP : DRAFT_ARRAY);
    atd_buf_append_zeros(&from->draft, DRAFT_HEADER_BYTES - 1);
    return 0;
}

static void close_container(struct from_json *from)
{
    const struct in_level *level = &from->levels[--from->depth];

    if (from->draft.failed)
        return;
    for (size_t i = 0; i < 4; i++)
        from->draft.ptr[level->header + 1 + i] = (uint8_t)(level->count >> (24 - 8 * i));
}

static int add_key(struct from_json *from, const struct atd_json_token *token,
                   struct atd_error *err)
{
    struct in_level *level = &from->levels[from->depth - 1];
    struct seen_key seen = {level->object_number, from->draft.len, 0, token->offset};
    struct atd_str key;

    level->count++;
    set_scratch(from, token->raw);
    key = atd_buf_str(&from->scratch);
    if (atd_str_starts_with(key, ATD_BYTES_KEY_PREFIX)) {
        atd_buf_clear(&from->bytes);
        if (!atd_base64_decode(atd_str_from_byte(key, ATD_BYTES_KEY_PREFIX.len), &from->bytes))
            return fail(from, token->offset, err, "key '$bytes:' without base64");
        atd_mp_write_bin(&from->draft, atd_buf_bytes(&from->bytes));
    } else if (atd_looks_like_tag(key)) {
        if (key.ptr[1] != '$')
            return fail_tag(from, token->offset, err);
        atd_mp_write_str(&from->draft, atd_str_from_byte(key, 1));
    } else {
        atd_mp_write_str(&from->draft, key);
    }
    seen.len = from->draft.len - seen.at;
    atd_buf_append(&from->keys, &seen, sizeof(seen));
    return 0;
}

static int add_object(struct from_json *from, const struct atd_json_token *token,
                      struct atd_error *err)
{
    bool was_tag = false;
    int rc = try_tag(from, &was_tag, err);

    if (rc < 0 || was_tag)
        return rc;
    return open_container(from, token, err);
}

static int add_token(struct from_json *from, const struct atd_json_token *token,
                     struct atd_error *err)
{
    if (token->type == ATD_JSON_OBJECT_END || token->type == ATD_JSON_ARRAY_END) {
        close_container(from);
        return 0;
    }
    if (++from->value_count > ATD_MSGPACK_VALUES_MAX)
        return atd_json_error(from->reader.text, token->offset, E2BIG, err, "too many values");
    if (token->type == ATD_JSON_KEY)
        return add_key(from, token, err);
    if (from->depth > 0 && from->levels[from->depth - 1].is_array)
        from->levels[from->depth - 1].count++;
    switch (token->type) {
    case ATD_JSON_OBJECT:
        return add_object(from, token, err);
    case ATD_JSON_ARRAY:
        return open_container(from, token, err);
    case ATD_JSON_STRING:
        set_scratch(from, token->raw);
        atd_mp_write_str(&from->draft, atd_buf_str(&from->scratch));
        return 0;
    case ATD_JSON_NUMBER:
        return add_number(from, token, err);
    case ATD_JSON_TRUE:
    case ATD_JSON_FALSE:
        atd_mp_write_bool(&from->draft, token->type == ATD_JSON_TRUE);
        return 0;
    default:
        atd_mp_write_nil(&from->draft);
        return 0;
    }
}

static int make_draft(struct from_json *from, struct atd_error *err)
{
    for (;;) {
        struct atd_json_token token;
        int rc = atd_json_next(&from->reader, &token, err);

        if (rc < 0)
            return rc;
        if (token.type == ATD_JSON_END)
            break;
        rc = add_token(from, &token, err);
        if (rc < 0)
            return rc;
        if (from->draft.failed || from->scratch.failed || from->bytes.failed || from->keys.failed)
            return atd_error_set(err, ENOMEM, "out of memory");
    }
    if (from->draft.ptr[0] != DRAFT_MAP)
        return fail(from, 0, err, "the top level is no object");
    return 0;
}

static int compare_keys(const void *a, const void *b, void *draft)
{
    const struct seen_key *x = a;
    const struct seen_key *y = b;
    const char *base = draft;
    int order;

    if (x->object_number != y->object_number)
        return x->object_number < y->object_number ? -1 : 1;
    order = atd_str_compare((struct atd_str){base + x->at, x->len},
                            (struct atd_str){base + y->at, y->len});
    if (order)
        return order;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* A key given twice is a slip of the pen; Python would keep the last one without a word. */
static int check_no_key_twice(struct from_json *from, struct atd_error *err)
{
    size_t count = from->keys.len / sizeof(struct seen_key);
    struct seen_key *keys;

    if (count < 2)
        return 0;
    keys = (struct seen_key *)(void *)from->keys.ptr;
    qsort_r(keys, count, sizeof(*keys), compare_keys, from->draft.ptr);
    for (size_t i = 1; i < count; i++) {
        if (keys[i].object_number == keys[i - 1].object_number && keys[i].len == keys[i - 1].len &&
            memcmp(from->draft.ptr + keys[i].at, from->draft.ptr + keys[i - 1].at, keys[i].len) ==
                0)
            return fail(from, keys[i].offset, err, "key given twice in one object");
    }
    return 0;
}

/* The draft with the shortest headers. */
static void copy_shortest(struct atd_bytes draft, struct atd_buf *out)
{
    struct atd_mp_reader reader;

    atd_mp_reader_init(&reader, draft);
    while (reader.at < draft.len) {
        struct atd_mp_token token;
        int rc = atd_mp_next(&reader, &token, NULL);

        atd_assert(rc == 0);
        if (token.type == ATD_MP_MAP)
            atd_mp_write_map(out, token.count);
        else if (token.type == ATD_MP_ARRAY)
            atd_mp_write_array(out, token.count);
        else
            atd_buf_append(out, draft.ptr + token.offset, reader.at - token.offset);
    }
}

static int convert(struct from_json *from, struct atd_buf *ret_msgpack, struct atd_error *err)
{
    int rc = make_draft(from, err);

    if (rc == 0)
        rc = check_no_key_twice(from, err);
    if (rc < 0)
        return atd_error_wrap(err, rc, "metadata");
    copy_shortest(atd_buf_bytes(&from->draft), ret_msgpack);
    rc = atd_buf_finish(ret_msgpack, "metadata", err);
    if (rc < 0)
        return rc == -EFBIG
                   ? atd_error_set(err, E2BIG, "metadata is larger than the limit of %u bytes",
                                   ATD_METADATA_BYTES_MAX)
                   : rc;
    /* What is published must be what is readable: timestamps of a tagged ext, above all. */
    return atd_metadata_check(atd_buf_bytes(ret_msgpack), NULL, err);
}

int atd_metadata_from_json(struct atd_str json, struct atd_buf *out, struct atd_error *err)
{
    atd_auto_buf struct atd_buf msgpack = ATD_BUF_INIT(ATD_METADATA_BYTES_MAX);
    struct from_json *from;
    int rc;

    if (json.len > JSON_BYTES_MAX)
        return atd_error_set(err, E2BIG, "metadata is larger than the limit of %u bytes of json",
                             JSON_BYTES_MAX);
    from = calloc(1, sizeof(*from));
    if (!from)
        return atd_error_set(err, ENOMEM, "metadata: out of memory");
    atd_json_reader_init(&from->reader, json, 0, false);
    atd_buf_init(&from->draft, (size_t)DRAFT_HEADER_BYTES * JSON_BYTES_MAX);
    atd_buf_init(&from->scratch, (size_t)2 * JSON_BYTES_MAX);
    atd_buf_init(&from->bytes, JSON_BYTES_MAX);
    atd_buf_init(&from->keys, sizeof(struct seen_key) * (size_t)ATD_MSGPACK_VALUES_MAX);
    rc = convert(from, &msgpack, err);
    atd_buf_release(&from->draft);
    atd_buf_release(&from->scratch);
    atd_buf_release(&from->bytes);
    atd_buf_release(&from->keys);
    free(from);
    if (rc < 0)
        return rc;
    atd_buf_append_str(out, atd_buf_str(&msgpack));
    return atd_buf_finish(out, "metadata", err);
}
