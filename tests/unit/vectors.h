/*
 * What tests of decoders share: files and hex or base64 fields of the test data.
 */
#ifndef ATD_TESTS_UNIT_VECTORS_H
#define ATD_TESTS_UNIT_VECTORS_H

#include <criterion/criterion.h>
#include <jansson.h>

#include "atdata/buf.h"
#include "codec/base64.h"

/* A JSON file under tests/data; the caller drops the reference. */
static inline json_t *load_json(const char *path)
{
    char full[512];
    json_error_t error;
    json_t *json;

    (void)snprintf(full, sizeof(full), ATD_TEST_DATA "/%s", path);
    json = json_load_file(full, JSON_ALLOW_NUL, &error);
    cr_assert_not_null(json, "%s: %s", full, error.text);
    return json;
}

static inline struct atd_str json_member_str(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    cr_assert(json_is_string(value), "no text '%s'", key);
    return (struct atd_str){json_string_value(value), json_string_length(value)};
}

/* Replaces what `out` holds by the bytes of a base64 or hex text. */
static inline struct atd_bytes from_base64(struct atd_str text, struct atd_buf *out)
{
    atd_buf_clear(out);
    cr_assert(atd_base64_decode(text, out));
    return atd_buf_bytes(out);
}

static inline struct atd_bytes from_hex(struct atd_str text, struct atd_buf *out)
{
    atd_buf_clear(out);
    for (size_t i = 0; i + 1 < text.len; i += 2) {
        char pair[3] = {text.ptr[i], text.ptr[i + 1], '\0'};

        atd_buf_append_byte(out, (uint8_t)strtoul(pair, NULL, 16));
    }
    return atd_buf_bytes(out);
}

/*
 * A copy of exactly as many bytes in memory of its own, so that ASan sees a read past the end; free
 * it.
 */
static inline uint8_t *exact_copy(const void *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);

    cr_assert_not_null(copy);
    if (len)
        memcpy(copy, data, len);
    return copy;
}

#define assert_bytes_eq(actual, expected, ...)                                      \
    do {                                                                            \
        struct atd_bytes a_ = (actual);                                             \
        struct atd_bytes e_ = (expected);                                           \
        cr_assert_eq(a_.len, e_.len, __VA_ARGS__);                                  \
        cr_assert(a_.len == 0 || memcmp(a_.ptr, e_.ptr, a_.len) == 0, __VA_ARGS__); \
    } while (0)

#endif
