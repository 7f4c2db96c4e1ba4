/*
 * Pieces of a length (two bytes, low first) and so many bytes: samples, each of which is an
 * extension and a schema's JSON too. Every sample conforms to what was inferred from it; the record
 * reads back the same and makes a class.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "codec/python_name.h"
#include "codec/schema_infer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES (64u << 20)
#define PIECES_MAX 8u

static void require(bool condition)
{
    if (!condition)
        abort();
}

static size_t split(const uint8_t *data, size_t size, struct atd_bytes *pieces)
{
    size_t count = 0;

    while (size >= 2 && count < PIECES_MAX) {
        size_t len = (size_t)data[0] | (size_t)data[1] << 8;

        if (len > size - 2)
            len = size - 2;
        pieces[count++] = (struct atd_bytes){data + 2, len};
        data += 2 + len;
        size -= 2 + len;
    }
    return count;
}

/* The record of what was seen; NULL when nothing was. */
static const struct atd_schema *finish(const struct atd_schema_inferrer *inferrer,
                                       struct atd_arena *arena)
{
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(ARENA_BYTES);
    atd_auto_buf struct atd_buf python = ATD_BUF_INIT(ARENA_BYTES);
    struct atd_schema *schema = atd_arena_alloc(arena, sizeof(*schema));
    const struct atd_schema *again;
    struct atd_error err = ATD_ERROR_INIT;
    int rc = atd_schema_inferrer_finish(inferrer, ATD_STR("X"), ATD_STR("1.0.0"),
                                        ATD_STR("2026-01-02T03:04:05+00:00"), arena, schema, &err);

    if (rc < 0)
        return NULL;
    for (size_t i = 1; i < schema->field_count; i++)
        require(!schema->fields[i - 1].optional || schema->fields[i].optional);
    atd_schema_encode(schema, &json);
    require(atd_schema_decode(atd_buf_bytes(&json), arena, &again, &err) == 0);
    require(atd_schema_same_fields(schema, again) && atd_schema_same_fields(again, schema));
    atd_schema_python(schema, ATD_STR(""), &python);
    require(!memmem(python.ptr, python.len, "ImportError", 11));
    return schema;
}

static void members(const struct atd_bytes *pieces, size_t count)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
    struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
    bool is_good = true;

    for (size_t i = 0; i < count && is_good; i++) {
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atd_schema_inferrer_add_member(inferrer, i / 2, atd_bytes_str(pieces[i]), &err);

        require(rc == -err.code);
        is_good = rc == 0;
    }
    if (is_good)
        (void)finish(inferrer, &arena);
    atd_schema_inferrer_free(inferrer);
}

static void samples(const struct atd_bytes *pieces, size_t count)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
    struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
    struct atd_sample decoded[PIECES_MAX];
    const struct atd_schema *inferred;
    const struct atd_schema *other = NULL;
    size_t taken = 0;
    bool is_good = true;

    for (size_t i = 0; i < count; i++) {
        struct atd_error err = ATD_ERROR_INIT;
        int rc;

        if (atd_sample_decode(pieces[i], &arena, &decoded[taken], NULL) < 0) {
            if (atd_schema_decode(pieces[i], &arena, &other, NULL) < 0)
                other = NULL;
            continue;
        }
        if (is_good) {
            rc = atd_schema_inferrer_add(inferrer, &decoded[taken], &err);
            require(rc == -err.code);
            is_good = rc == 0;
        }
        taken++;
    }
    inferred = is_good ? finish(inferrer, &arena) : NULL;
    for (size_t i = 0; i < taken; i++) {
        struct atd_error err = ATD_ERROR_INIT;

        if (inferred)
            require(atd_schema_conforms(inferred, &decoded[i], NULL) == 0);
        if (other)
            require(atd_schema_conforms(other, &decoded[i], &err) == -err.code);
    }
    if (other)
        require(atd_schema_same_fields(other, other));
    atd_schema_inferrer_free(inferrer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_bytes pieces[PIECES_MAX];
    size_t count = split(data, size, pieces);

    samples(pieces, count);
    members(pieces, count);
    return 0;
}
