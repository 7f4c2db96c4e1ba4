#include "codec/file_name.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/utf8.h"

#define CID "bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"

static struct atd_str encode(struct atd_str name, const char *suffix, struct atd_buf *out)
{
    atd_buf_clear(out);
    atd_file_name_encode(name, ATD_STR(CID), atd_str_from(suffix), out);
    cr_assert_eq(atd_buf_finish(out, "file name", NULL), 0);
    return atd_buf_str(out);
}

/* Can the kernel create it, and is it one name? */
static bool is_file_name(struct atd_str text)
{
    if (text.len == 0 || text.len > ATD_FILE_NAME_MAX || !atd_utf8_is_valid(text, NULL) ||
        text.ptr[0] == '.')
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] == '/' || (unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7f)
            return false;
    return true;
}

Test(file_name, literals)
{
    const struct {
        struct atd_str name;
        const char *file_name;
    } cases[] = {
        {ATD_STR("mnist"), "mnist"},
        {ATD_STR("team/mnist"), "team%2Fmnist"},
        {ATD_STR("%41"), "%2541"},
        {ATD_STR("%4"), "%4"},
        {ATD_STR("%4g"), "%4g"},
        {ATD_STR("%g4"), "%g4"},
        {ATD_STR("%aF"), "%25aF"},
        {ATD_STR("%%41"), "%%2541"},
        {ATD_STR("%2%41"), "%2%2541"},
        {ATD_STR("100%"), "100%"},
        {ATD_STR(""), "%"},
        {ATD_STR("%"), "%25"},
        {ATD_STR("%%"), "%%"},
        {ATD_STR("%25"), "%2525"},
        {ATD_STR("."), "%2E"},
        {ATD_STR(".."), "%2E."},
        {ATD_STR(".hidden"), "%2Ehidden"},
        {ATD_STR("a.b."), "a.b."},
        {ATD_STR("a\nb"), "a%0Ab"},
        {ATD_STR("a\0b"), "a%00b"},
        {ATD_STR("\x7f\x1f"), "%7F%1F"},
        {ATD_STR("%\n"), "%%0A"},
        {ATD_STR("%/"), "%%2F"},
        {ATD_STR("caf\xc3\xa9 \xf0\x9f\x9a\x80"), "caf\xc3\xa9 \xf0\x9f\x9a\x80"},
        {ATD_STR("caf\xe9"), "caf%E9"},
        {ATD_STR("\xc3"), "%C3"},
        {ATD_STR("\xed\xa0\x80"), "%ED%A0%80"},
        {ATD_STR("a\\b:c*?\"<>|~"), "a\\b:c*?\"<>|~"},
    };
    atd_auto_buf struct atd_buf file_name = ATD_BUF_INIT(1000);
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT(1000);

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_str got = encode(cases[i].name, "", &file_name);

        cr_assert_str_eq(got.ptr, cases[i].file_name, "case %zu: %s", i, got.ptr);
        cr_assert_eq(atd_file_name_is_plain(cases[i].name), atd_str_equal(cases[i].name, got),
                     "case %zu", i);
        atd_buf_clear(&name);
        cr_assert_eq(atd_file_name_decode(got, &name, &err), 0, "%s", err.text);
        cr_assert(atd_str_equal(atd_buf_str(&name), cases[i].name), "case %zu", i);
    }
    cr_assert_str_eq(encode(ATD_STR("a/b"), ".json", &file_name).ptr, "a%2Fb.json");
    cr_assert_str_eq(encode(ATD_STR(""), ".json", &file_name).ptr, "%.json");
    cr_assert_str_eq(encode(ATD_STR("%"), ".json", &file_name).ptr, "%25.json");
}

Test(file_name, nothing_else_decodes)
{
    static const char *const refused[] = {"",       ".",    "..",     ".a",     "a/b",  "%2f",
                                          "a%0a",   "%41",  "%C3%A9", "a%2Eb",  "%25a", "a%25",
                                          "%2E%2E", "a\nb", "\xff",   "%25%25", "%00/", "x%7fy%7F"};
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT(1000);
    char long_name[ATD_FILE_NAME_MAX + 1];
    struct atd_error err = ATD_ERROR_INIT;

    for (size_t i = 0; i < ATD_ARRAY_LEN(refused); i++) {
        cr_assert_eq(atd_file_name_decode(atd_str_from(refused[i]), &name, &err), -EINVAL, "'%s'",
                     refused[i]);
        cr_assert_eq(name.len, 0);
    }
    memset(long_name, 'a', sizeof(long_name));
    cr_assert_eq(atd_file_name_decode((struct atd_str){long_name, sizeof(long_name)}, &name, &err),
                 -EINVAL);
    cr_assert_eq(
        atd_file_name_decode((struct atd_str){long_name, sizeof(long_name) - 1}, &name, &err), 0);
    cr_assert_eq(atd_file_name_decode(ATD_STR("x%41"), &name, &err), -EINVAL);
    cr_assert_str_eq(err.text,
                     "file name 'x%41' is not an encoded name: byte 1 would be written 'A'");
}

/* `count` times `unit`, as name; the file name must keep `kept` whole units before "~". */
static void check_cut(const char *unit, size_t count, const char *encoded_unit, const char *suffix,
                      size_t kept)
{
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT(100000);
    atd_auto_buf struct atd_buf expected = ATD_BUF_INIT(100000);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1000);
    struct atd_str got;

    for (size_t i = 0; i < count; i++)
        atd_buf_append_text(&name, unit);
    for (size_t i = 0; i < kept; i++)
        atd_buf_append_text(&expected, encoded_unit);
    atd_buf_printf(&expected, "~nxquvyku%s", suffix);
    got = encode(atd_buf_str(&name), suffix, &out);
    cr_assert_str_eq(got.ptr, (char *)expected.ptr);
    cr_assert(is_file_name(got));
    cr_assert_not(atd_file_name_is_plain(atd_buf_str(&name)));
}

Test(file_name, long_names_are_cut_between_pieces)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1000);
    char name[300];
    struct atd_str got;

    check_cut("a", 300, "a", "", 246);
    check_cut("a", 300, "a", ".json", 241);
    check_cut("\xe4\xb8\xad", 100, "\xe4\xb8\xad", "", 82);
    check_cut("\xf0\x9f\x9a\x80", 100, "\xf0\x9f\x9a\x80", "", 61);
    check_cut("/", 100, "%2F", ".json", 80);
    check_cut("a", 256, "a", "", 246);
    memset(name, 'a', sizeof(name));
    got = encode((struct atd_str){name, 255}, "", &out);
    cr_assert_eq(got.len, 255);
    cr_assert(atd_file_name_is_plain((struct atd_str){name, 255}));
    got = encode((struct atd_str){name, 250}, ".json", &out);
    cr_assert_eq(got.len, 255);
    cr_assert_eq(memchr(got.ptr, '~', got.len), NULL);
    /* A CID is whatever the index says. */
    atd_buf_clear(&out);
    atd_file_name_encode((struct atd_str){name, 300}, ATD_STR("../../x\xff\n"), ATD_STR(""), &out);
    cr_assert_str_eq((char *)out.ptr + out.len - 17, "~.%2F..%2Fx%FF%0A");
    cr_assert_eq(out.len, 255);
    atd_buf_clear(&out);
    atd_file_name_encode((struct atd_str){name, 300}, ATD_STR(""), ATD_STR(""), &out);
    cr_assert_eq(out.len, 255);
    cr_assert_eq(out.ptr[254], '~');
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Names full of what needs care. */
static size_t random_name(uint64_t *state, char *name)
{
    static const char *const pieces[] = {
        "%", "%",    "2",  "F", "a", "/", ".", "\n", "\xc3", "\xa9", "\xc3\xa9", "\xf0\x9f\x9a\x80",
        "~", "\x7f", "41", " "};
    size_t count = next_random(state) % 12;
    size_t len = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t pick = next_random(state) % (ATD_ARRAY_LEN(pieces) + 1);

        if (pick == ATD_ARRAY_LEN(pieces)) {
            name[len++] = (char)next_random(state);
        } else {
            memcpy(name + len, pieces[pick], strlen(pieces[pick]));
            len += strlen(pieces[pick]);
        }
    }
    return len;
}

Test(file_name, every_name_has_one_file_name)
{
    atd_auto_buf struct atd_buf file_name = ATD_BUF_INIT(1000);
    atd_auto_buf struct atd_buf back = ATD_BUF_INIT(1000);
    uint64_t state = 0x9e3779b97f4a7c15u;

    for (int round = 0; round < 50000; round++) {
        char bytes[64];
        struct atd_str name = {bytes, random_name(&state, bytes)};
        struct atd_str encoded = encode(name, "", &file_name);

        cr_assert(is_file_name(encoded), "'%s'", encoded.ptr);
        /* Decoding gives the name back, so no two names share a file name. */
        atd_buf_clear(&back);
        cr_assert_eq(atd_file_name_decode(encoded, &back, NULL), 0, "'%s'", encoded.ptr);
        cr_assert(atd_str_equal(atd_buf_str(&back), name), "'%s'", encoded.ptr);
        /* And any text that decodes is the file name of what it decodes to. */
        atd_buf_clear(&back);
        if (atd_file_name_decode(name, &back, NULL) == 0)
            cr_assert(atd_str_equal(encode(atd_buf_str(&back), "", &file_name), name));
    }
}
