#include "atdata/sample.h"

#include <errno.h>
#include <msgpack.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "codec/msgpack_read.h"

/* Fields of one sample; a dataclass has some dozens. */
#define FIELDS_MAX 65536u

/* ormsgpack's rules (ATDATA-FORMATS 5.2). */
static const struct atd_mp_rules sample_rules = {
    .allow_bin_keys = false, .allow_ext = false, .what = "sample"};

/* Reads one value that was checked before, nested ones included. */
static struct atd_value read_value(struct atd_mp_reader *reader)
{
    static const enum atd_value_type types[] = {
        [ATD_MP_NIL] = ATD_VALUE_NIL,     [ATD_MP_BOOL] = ATD_VALUE_BOOL,
        [ATD_MP_INT] = ATD_VALUE_INT,     [ATD_MP_UINT] = ATD_VALUE_UINT,
        [ATD_MP_FLOAT] = ATD_VALUE_FLOAT, [ATD_MP_STR] = ATD_VALUE_STR,
        [ATD_MP_BIN] = ATD_VALUE_BIN,     [ATD_MP_EXT] = ATD_VALUE_NIL,
        [ATD_MP_ARRAY] = ATD_VALUE_ARRAY, [ATD_MP_MAP] = ATD_VALUE_MAP,
    };
    size_t start = reader->at;
    struct atd_mp_reader whole = *reader;
    struct atd_value value = {0};
    struct atd_mp_token token = {0};
    int rc = atd_mp_next(reader, &token, NULL);

    atd_assert(rc == 0 && token.type != ATD_MP_EXT);
    value.type = types[token.type];
    switch (token.type) {
    case ATD_MP_BOOL:
        value.b = token.b;
        break;
    case ATD_MP_INT:
        value.i = token.i;
        break;
    case ATD_MP_UINT:
        value.u = token.u;
        break;
    case ATD_MP_FLOAT:
        value.f = token.f;
        break;
    case ATD_MP_STR:
        value.str = atd_bytes_str(token.body);
        break;
    case ATD_MP_BIN:
        value.bin = token.body;
        break;
    case ATD_MP_ARRAY:
    case ATD_MP_MAP:
        value.count = token.count;
        atd_mp_skip(&whole);
        *reader = whole;
        break;
    case ATD_MP_NIL:
    case ATD_MP_EXT:
        break;
    }
    value.raw = (struct atd_bytes){reader->doc.ptr + start, reader->at - start};
    return value;
}

/* Reads a key and its value; both were checked before. */
static void read_pair(struct atd_mp_reader *reader, struct atd_str *ret_name,
                      struct atd_value *ret_value)
{
    struct atd_mp_token key = {0};
    int rc = atd_mp_next(reader, &key, NULL);

    atd_assert(rc == 0 && key.type == ATD_MP_STR);
    *ret_name = atd_bytes_str(key.body);
    *ret_value = read_value(reader);
}

/* By name, and the fields of one name in stored order: names point into one document. */
static int compare_fields(const void *a, const void *b)
{
    const struct atd_sample_field *left = *(struct atd_sample_field *const *)a;
    const struct atd_sample_field *right = *(struct atd_sample_field *const *)b;
    int order = atd_str_compare(left->name, right->name);

    return order ? order : (left > right) - (left < right);
}

/*
 * As in a Python dict, a key that comes again keeps its place and gets the later value. Sorting
 * keeps that cheap for a document made of nothing but equal keys.
 */
static int drop_duplicates(struct atd_sample *sample, struct atd_error *err)
{
    atd_auto_free struct atd_sample_field **sorted = NULL;
    size_t kept = 0;

    if (sample->field_count < 2)
        return 0;
    sorted = malloc(sample->field_count * sizeof(struct atd_sample_field *));
    if (!sorted)
        return atd_error_set(err, ENOMEM, "sample: out of memory");
    for (size_t i = 0; i < sample->field_count; i++)
        sorted[i] = &sample->fields[i];
    qsort(sorted, sample->field_count, sizeof(struct atd_sample_field *), compare_fields);
    for (size_t i = 0; i < sample->field_count;) {
        size_t end = i + 1;

        while (end < sample->field_count && atd_str_equal(sorted[i]->name, sorted[end]->name))
            end++;
        sorted[i]->value = sorted[end - 1]->value;
        for (size_t later = i + 1; later < end; later++)
            sorted[later]->value.raw.ptr = NULL; /* no value is empty: dropped */
        i = end;
    }
    for (size_t i = 0; i < sample->field_count; i++)
        if (sample->fields[i].value.raw.ptr)
            sample->fields[kept++] = sample->fields[i];
    sample->field_count = kept;
    return 0;
}

int atd_sample_decode(struct atd_bytes msgpack, struct atd_arena *arena,
                      struct atd_sample *ret_sample, struct atd_error *err)
{
    struct atd_mp_reader reader;
    struct atd_mp_reader checker;
    struct atd_mp_token map = {0};
    struct atd_sample sample;
    int rc;

    atd_mp_reader_init(&reader, msgpack);
    checker = reader;
    rc = atd_mp_next(&reader, &map, err);
    if (rc != 0)
        return atd_error_wrap(err, rc, "sample");
    if (map.type != ATD_MP_MAP)
        return atd_error_set(err, EINVAL, "sample is not a map at byte 0");
    if (map.count > FIELDS_MAX)
        return atd_error_set(err, E2BIG, "sample has %u fields at byte 0, more than %u", map.count,
                             FIELDS_MAX);
    rc = atd_mp_skip_checked(&checker, &sample_rules, err);
    if (rc != 0)
        return rc;
    sample.field_count = map.count;
    sample.fields = atd_arena_alloc_array(arena, map.count, sizeof(*sample.fields));
    if (!sample.fields)
        return atd_error_set(err, ENOMEM, "sample: out of memory");
    for (size_t i = 0; i < sample.field_count; i++)
        read_pair(&reader, &sample.fields[i].name, &sample.fields[i].value);
    atd_paranoid(reader.at == checker.at);
    rc = drop_duplicates(&sample, err);
    if (rc == 0)
        *ret_sample = sample;
    return rc;
}

const struct atd_value *atd_sample_find(const struct atd_sample *sample, struct atd_str name)
{
    for (size_t i = 0; i < sample->field_count; i++)
        if (atd_str_equal(sample->fields[i].name, name))
            return &sample->fields[i].value;
    return NULL;
}

void atd_value_iter_init(struct atd_value_iter *iter, const struct atd_value *container)
{
    struct atd_mp_reader reader;
    struct atd_mp_token token = {0};
    int rc;

    atd_assert(container->type == ATD_VALUE_ARRAY || container->type == ATD_VALUE_MAP);
    atd_mp_reader_init(&reader, container->raw);
    rc = atd_mp_next(&reader, &token, NULL);
    atd_assert(rc == 0);
    iter->rest = (struct atd_bytes){container->raw.ptr + reader.at, container->raw.len - reader.at};
    iter->left = container->count;
    iter->is_map = container->type == ATD_VALUE_MAP;
}

bool atd_value_iter_next(struct atd_value_iter *iter, struct atd_str *ret_key,
                         struct atd_value *ret_value)
{
    struct atd_mp_reader reader;

    if (iter->left == 0)
        return false;
    iter->left--;
    atd_mp_reader_init(&reader, iter->rest);
    if (iter->is_map) {
        struct atd_str key;

        read_pair(&reader, &key, ret_value);
        if (ret_key)
            *ret_key = key;
    } else {
        *ret_value = read_value(&reader);
    }
    iter->rest = (struct atd_bytes){iter->rest.ptr + reader.at, iter->rest.len - reader.at};
    return true;
}

static int append_packed(void *data, const char *packed, size_t len)
{
    struct atd_buf *out = data;

    atd_buf_append(out, packed, len);
    return out->failed ? -1 : 0;
}

/* msgpack-c's packer is two pointers: made anew for each value. */
static msgpack_packer packer(struct atd_buf *out)
{
    return (msgpack_packer){.data = out, .callback = append_packed};
}

/* msgpack has no longer str or bin. */
static bool fits_u32(size_t len, struct atd_buf *out)
{
    if (len <= UINT32_MAX)
        return true;
    out->failed = out->failed ? out->failed : EFBIG;
    return false;
}

void atd_sample_put_map(struct atd_buf *out, uint32_t count)
{
    msgpack_packer pk = packer(out);

    (void)msgpack_pack_map(&pk, count);
}

void atd_sample_put_array(struct atd_buf *out, uint32_t count)
{
    msgpack_packer pk = packer(out);

    (void)msgpack_pack_array(&pk, count);
}

void atd_sample_put_nil(struct atd_buf *out)
{
    msgpack_packer pk = packer(out);

    (void)msgpack_pack_nil(&pk);
}

void atd_sample_put_bool(struct atd_buf *out, bool value)
{
    msgpack_packer pk = packer(out);

    (void)(value ? msgpack_pack_true(&pk) : msgpack_pack_false(&pk));
}

void atd_sample_put_int(struct atd_buf *out, int64_t value)
{
    msgpack_packer pk = packer(out);

    (void)msgpack_pack_int64(&pk, value);
}

void atd_sample_put_uint(struct atd_buf *out, uint64_t value)
{
    msgpack_packer pk = packer(out);

    (void)msgpack_pack_uint64(&pk, value);
}

void atd_sample_put_float(struct atd_buf *out, double value)
{
    msgpack_packer pk = packer(out);

    (void)msgpack_pack_double(&pk, value);
}

void atd_sample_put_str(struct atd_buf *out, struct atd_str text)
{
    msgpack_packer pk = packer(out);

    if (fits_u32(text.len, out) && msgpack_pack_str(&pk, text.len) == 0)
        (void)msgpack_pack_str_body(&pk, text.ptr, text.len);
}

void atd_sample_put_bin(struct atd_buf *out, struct atd_bytes bytes)
{
    msgpack_packer pk = packer(out);

    if (fits_u32(bytes.len, out) && msgpack_pack_bin(&pk, bytes.len) == 0)
        (void)msgpack_pack_bin_body(&pk, bytes.ptr, bytes.len);
}
