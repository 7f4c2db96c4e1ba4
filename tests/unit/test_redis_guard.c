/* What is let through to hiredis, in pieces of any size. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "index/redis_guard.h"

struct fed {
    char bytes[512];
    size_t len;
};

static bool feed(void *ctx, const char *bytes, size_t len)
{
    struct fed *fed = ctx;

    cr_assert_leq(fed->len + len, sizeof(fed->bytes));
    memcpy(fed->bytes + fed->len, bytes, len);
    fed->len += len;
    return true;
}

/* What hiredis gets of one reply that comes in pieces of `step` bytes. */
static void expect_fed_as(bool resp3, struct atd_str input, size_t step, const char *wanted,
                          bool wanted_cut)
{
    struct atd_redis_guard guard;
    struct fed fed = {0};
    const struct atd_redis_guard_sink sink = {&fed, feed};
    bool done = false;
    bool cut = false;
    size_t at = 0;

    atd_redis_guard_init(&guard);
    if (resp3)
        atd_redis_guard_allow_resp3(&guard);
    while (at < input.len) {
        size_t len = input.len - at < step ? input.len - at : step;
        size_t used = 0;
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_not(done, "it ends too soon");
        /* A copy of its own, so that ASan sees what is read beyond it. */
        char *piece = malloc(len);

        memcpy(piece, input.ptr + at, len);
        cr_assert_eq(atd_redis_guard_pass(&guard, (struct atd_str){piece, len}, &sink, &used, &done,
                                          &cut, &err),
                     0, "%s", err.text);
        free(piece);
        cr_assert_eq(used, len);
        at += used;
    }
    cr_assert(done);
    cr_assert_eq(cut, wanted_cut);
    cr_assert_eq(fed.len, strlen(wanted), "%.*s", (int)fed.len, fed.bytes);
    cr_assert_eq(memcmp(fed.bytes, wanted, fed.len), 0, "%.*s", (int)fed.len, fed.bytes);
}

static void expect_fed(struct atd_str input, size_t step, const char *wanted, bool wanted_cut)
{
    expect_fed_as(false, input, step, wanted, wanted_cut);
}

Test(redis_guard, passes_on_what_is_sound_in_any_pieces)
{
    static const char *const replies[] = {
        "+OK\r\n",
        "-ERR x\r\n",
        ":-12\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "$0\r\n\r\n",
        "$4\r\n\r\n\r\n\r\n",
        "*3\r\n$2\r\nab\r\n*2\r\n:1\r\n*1\r\n+x\r\n$-1\r\n",
        /* As HELLO's modules. */
        "*2\r\n+modules\r\n*1\r\n*2\r\n+args\r\n*1\r\n+x\r\n",
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(replies); i++) {
        for (size_t step = 1; step <= strlen(replies[i]); step++)
            expect_fed(atd_str_from(replies[i]), step, replies[i], false);
    }
}

/* What old releases of hiredis cannot read. */
Test(redis_guard, says_resp3_in_resp2)
{
    static const struct {
        const char *input;
        const char *wanted;
    } cases[] = {
        {">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", "*2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n"},
        {">2\r\n+invalidate\r\n_\r\n", "*2\r\n+invalidate\r\n$-1\r\n"},
        {"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n+c\r\n", "*4\r\n+a\r\n:1\r\n+b\r\n*1\r\n+c\r\n"},
        {"%0\r\n", "*0\r\n"},
        {"=7\r\ntxt:abc\r\n", "$7\r\ntxt:abc\r\n"},
        {"*3\r\n#t\r\n,1.5\r\n(12345678901234567890123\r\n", "*3\r\n$-1\r\n$-1\r\n$-1\r\n"},
        {"+x\r\n", "+x\r\n"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        for (size_t step = 1; step <= strlen(cases[i].input); step++)
            expect_fed_as(true, atd_str_from(cases[i].input), step, cases[i].wanted, false);
    }
}

static bool count_bytes(void *ctx, const char *bytes, size_t len)
{
    (void)bytes;
    *(size_t *)ctx += len;
    return true;
}

/* Each element of four bytes takes hiredis some seventy. */
Test(redis_guard, counts_the_elements_of_all_arrays_of_a_reply)
{
    enum { ARRAYS = 8 };
    struct atd_redis_guard guard;
    size_t fed = 0;
    size_t used = 0;
    size_t len = 0;
    char *bytes = malloc((ARRAYS + 1) * 16 + (size_t)ARRAYS * ATD_REDIS_ELEMENTS_MAX * 4);
    const struct atd_redis_guard_sink sink = {&fed, count_bytes};
    bool done = false;
    bool cut = false;

    cr_assert_not_null(bytes);
    len += (size_t)sprintf(bytes, "*%u\r\n", ARRAYS);
    for (unsigned i = 0; i < ARRAYS; i++) {
        len += (size_t)sprintf(bytes + len, "*%u\r\n", ATD_REDIS_ELEMENTS_MAX);
        for (unsigned k = 0; k < ATD_REDIS_ELEMENTS_MAX; k++, len += 4)
            memcpy(bytes + len, ":1\r\n", 4);
    }
    atd_redis_guard_init(&guard);
    cr_assert_eq(
        atd_redis_guard_pass(&guard, (struct atd_str){bytes, len}, &sink, &used, &done, &cut, NULL),
        0);
    cr_assert(done && cut);
    cr_assert_eq(used, len);
    cr_assert_leq(fed, (size_t)2 * ATD_REDIS_ELEMENTS_MAX * 4 + 256);
    /* The next reply has all of it again. */
    len = (size_t)sprintf(bytes, "*1\r\n:1\r\n");
    cr_assert_eq(
        atd_redis_guard_pass(&guard, (struct atd_str){bytes, len}, &sink, &used, &done, &cut, NULL),
        0);
    cr_assert(done && !cut);
    free(bytes);
}

Test(redis_guard, turns_what_is_too_large_into_nil)
{
    static char array[ATD_REDIS_ELEMENTS_MAX * 4 + 4 * 16 + 32];
    size_t string_len = ATD_REDIS_STRING_BYTES_MAX + 1;
    char *string = malloc(string_len + 64);
    size_t head;
    size_t len;

    len = (size_t)sprintf(array, "*2\r\n+a\r\n*%u\r\n", ATD_REDIS_ELEMENTS_MAX + 1);
    for (unsigned i = 0; i < ATD_REDIS_ELEMENTS_MAX + 1; i++) {
        memcpy(array + len, ":1\r\n", 4);
        len += 4;
    }
    expect_fed((struct atd_str){array, len}, 1000, "*2\r\n+a\r\n*-1\r\n", true);
    cr_assert_not_null(string);
    head = (size_t)sprintf(string, "*2\r\n$%zu\r\n", string_len);
    memset(string + head, 'x', string_len);
    memcpy(string + head + string_len, "\r\n:7\r\n", 6);
    expect_fed((struct atd_str){string, head + string_len + 6}, 65536, "*2\r\n$-1\r\n:7\r\n", true);
    free(string);
}
