#include <criterion/criterion.h>
#include <errno.h>

#include "atdata/arena.h"
#include "atdata/buf.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/utf8.h"

Test(error, set_wrap_and_forged_lines)
{
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_error_set(&err, EINVAL, "name '%s' is bad", "a\nb\xff\xc3\xa9"), -EINVAL);
    cr_assert_eq(err.code, EINVAL);
    cr_assert_not(err.retryable);
    cr_assert_str_eq(err.text, "name 'a?b?\xc3\xa9' is bad");
    cr_assert_eq(atd_error_wrap(&err, -EIO, "entry %d", 7), -EINVAL);
    cr_assert_str_eq(err.text, "entry 7: name 'a?b?\xc3\xa9' is bad");
    cr_assert_eq(atd_error_wrap(NULL, -EIO, "x"), -EIO);
    cr_assert_eq(atd_error_set_retryable(&err, ETIMEDOUT, "slow"), -ETIMEDOUT);
    cr_assert(err.retryable);
}

Test(error, long_text_is_cut_and_stays_utf8)
{
    struct atd_error err = ATD_ERROR_INIT;
    char text[2000];
    size_t at;

    for (size_t i = 0; i + 2 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    text[sizeof(text) - 2] = '\0';
    (void)atd_error_set(&err, EINVAL, "x%s", text);
    cr_assert_eq(strlen(err.text), ATD_ERROR_TEXT_MAX - 1);
    cr_assert(atd_utf8_is_valid(atd_str_from(err.text), &at), "bad byte at %zu", at);
    (void)atd_error_wrap(&err, -EIO, "%s", text);
    cr_assert_eq(strlen(err.text), ATD_ERROR_TEXT_MAX - 1);
}

Test(buf, grows_to_its_maximum_and_stays_failed)
{
    atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(1000);
    struct atd_error err = ATD_ERROR_INIT;

    for (int i = 0; i < 100; i++)
        atd_buf_append_text(&buf, "0123456789");
    cr_assert_eq(buf.len, 1000);
    cr_assert_eq(atd_buf_finish(&buf, "it", &err), 0);
    atd_buf_append_byte(&buf, 'x');
    atd_buf_clear(&buf);
    atd_buf_printf(&buf, "%01001d", 7);
    cr_assert_eq(atd_buf_finish(&buf, "it", &err), -EFBIG);
    cr_assert_str_eq(err.text, "it is larger than the limit of 1000 bytes");
    atd_buf_append_text(&buf, "y");
    cr_assert_eq(buf.len, 0);
}

Test(buf, little_endian)
{
    atd_auto_buf struct atd_buf buf = ATD_BUF_INIT(64);

    atd_buf_append_u16le(&buf, 0x1234);
    atd_buf_append_u64le(&buf, 0x0102030405060708u);
    atd_buf_append_zeros(&buf, 2);
    cr_assert_eq(buf.len, 12);
    cr_assert_arr_eq(buf.ptr, "\x34\x12\x08\x07\x06\x05\x04\x03\x02\x01\0\0", 12);
}

Test(arena, aligned_zeroed_and_bounded)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(100000);
    struct atd_str name = atd_arena_str(&arena, ATD_STR("abc"));

    cr_assert_str_eq(name.ptr, "abc");
    for (int i = 0; i < 100; i++) {
        uint64_t *numbers = atd_arena_alloc_array(&arena, 7, sizeof(*numbers));

        cr_assert_eq((uintptr_t)numbers % _Alignof(max_align_t), 0);
        for (int j = 0; j < 7; j++)
            cr_assert_eq(numbers[j], 0);
        memset(numbers, 0xff, 7 * sizeof(*numbers));
        cr_assert_eq(atd_arena_str(&arena, ATD_STR("x")).len, 1);
    }
    cr_assert_null(atd_arena_alloc(&arena, 100000));
    cr_assert_null(atd_arena_alloc_array(&arena, SIZE_MAX / 2, 4));
    cr_assert_str_eq(name.ptr, "abc");
}

Test(arena, takes_no_more_than_was_reserved)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(100000);
    size_t footprint;

    cr_assert_eq(atd_arena_footprint(&arena), 0);
    cr_assert(atd_arena_reserve(&arena, 100));
    footprint = atd_arena_footprint(&arena);
    cr_assert_geq(footprint, 100);
    cr_assert_leq(footprint, 200);
    for (int i = 0; i < 50; i++)
        cr_assert_not_null(atd_arena_str(&arena, ATD_STR("x")).ptr);
    cr_assert_eq(atd_arena_footprint(&arena), footprint);
    cr_assert_not_null(atd_arena_str(&arena, ATD_STR("y")).ptr);
    cr_assert_gt(atd_arena_footprint(&arena), footprint);
}

/* ASCII is read in words: what is bad is found wherever it stands in one. */
Test(utf8, bad_byte_at_any_place)
{
    for (size_t len = 1; len < 30; len++) {
        for (size_t bad = 0; bad < len; bad++) {
            char text[32];
            size_t at = len;

            memset(text, 'a', sizeof(text));
            cr_assert(atd_utf8_is_valid((struct atd_str){text, len}, &at));
            text[bad] = (char)0xff;
            cr_assert_not(atd_utf8_is_valid((struct atd_str){text, len}, &at));
            cr_assert_eq(at, bad);
            /* a whole character, or one that the end cuts */
            text[bad] = (char)0xc3;
            text[bad + 1] = (char)0xa9;
            cr_assert_eq(atd_utf8_is_valid((struct atd_str){text, len}, &at), bad + 1 < len);
        }
    }
}

Test(utf8, strict)
{
    static const struct {
        const char *text;
        bool valid;
        size_t bad_at;
    } cases[] = {
        {"plain", true, 0},
        {"caf\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x9a\x80", true, 0},
        {"a\xc0\x80", false, 1},          /* overlong NUL */
        {"\xed\xa0\x80", false, 0},       /* surrogate */
        {"ab\xf4\x90\x80\x80", false, 2}, /* above U+10FFFF */
        {"abc\xe4\xb8", false, 3},        /* cut */
        {"\xff", false, 0},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t at = 99;

        cr_assert_eq(atd_utf8_is_valid(atd_str_from(cases[i].text), &at), cases[i].valid);
        if (!cases[i].valid)
            cr_assert_eq(at, cases[i].bad_at, "case %zu: %zu", i, at);
    }
}

Test(digest, sha256_of_abc)
{
    static const uint8_t expected[4] = {0xba, 0x78, 0x16, 0xbf};
    atd_auto_sha256 struct atd_sha256 *sha = atd_sha256_new();
    uint8_t digest[ATD_SHA256_BYTES];
    uint8_t again[ATD_SHA256_BYTES];

    cr_assert_not_null(sha);
    atd_sha256_add(sha, "a", 1);
    atd_sha256_add(sha, "bc", 2);
    atd_sha256_finish(sha, digest);
    cr_assert_arr_eq(digest, expected, 4);
    atd_sha256_of("abc", 3, again);
    cr_assert_arr_eq(digest, again, sizeof(digest));
}
