#include <errno.h>

#include "tar_walks.h"

Test(tar_header, bad_headers)
{
    const struct {
        size_t at;
        struct atd_str bytes;
        int rc;
        const char *error;
    } cases[] = {
        {124, ATD_STR("0000000000x\0"), -EINVAL, "tar header at byte 512: bad size"},
        {124, ATD_STR("0000 0000000"), -EINVAL, "tar header at byte 512: bad size"},
        {124, ATD_STR("000000000008"), -EINVAL, "tar header at byte 512: bad size"},
        {124, ATD_STR("-00000000001"), -EINVAL, "tar header at byte 512: bad size"},
        {124, ATD_STR("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), -EINVAL,
         "tar header at byte 512: negative size"},
        {124, ATD_STR("\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), -EINVAL,
         "tar header at byte 512: bad size"},
        {124, ATD_STR("\x80\0\0\0\x80\0\0\0\0\0\0\0"), -EINVAL, "tar header at byte 512: bad size"},
        {124, ATD_STR("\x80\x01\0\0\0\0\0\0\0\0\0\x05"), -EINVAL,
         "tar header at byte 512: bad size"},
        {124, ATD_STR("\x81\0\0\0\0\0\0\0\0\0\0\0"), -EINVAL, "tar header at byte 512: bad size"},
        {124, ATD_STR("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), -EINVAL,
         "tar member at byte 512: size of 9223372036854775807 bytes is too large"},
        {124, ATD_STR("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xfb\xff"), -EINVAL,
         "tar member at byte 512: size of 9223372036854774783 bytes is too large"},
        {136, ATD_STR("9"), -EINVAL, "tar header at byte 512: bad mtime"},
        {100, ATD_STR("rw-"), -EINVAL, "tar header at byte 512: bad mode"},
        {108, ATD_STR("x"), -EINVAL, "tar header at byte 512: bad uid"},
        {116, ATD_STR("\xfe"), -EINVAL, "tar header at byte 512: bad gid"},
        {329, ATD_STR("/"), -EINVAL, "tar header at byte 512: bad devmajor"},
        {337, ATD_STR("1x"), -EINVAL, "tar header at byte 512: bad devminor"},
        {156, ATD_STR("S"), -EINVAL, "tar header at byte 512: sparse files are not supported"},
        /* These are fine: negative times, numbers that end the field. */
        {136, ATD_STR("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), 0, NULL},
        {136, ATD_STR("777777777777"), 0, NULL},
        {124, ATD_STR("            "), 0, NULL},
        {124, ATD_STR("\0xxxxxxxxxxx"), 0, NULL},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        uint8_t blocks[2 * BLOCK];
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_tar_walk *walk;
        struct seen seen;
        int rc;

        make_header(blocks, "first", '0');
        make_header(blocks + BLOCK, "second", '0');
        set_field(blocks + BLOCK, cases[i].at, cases[i].bytes.ptr, cases[i].bytes.len);
        seen_init(&seen);
        walk = walk_bytes(blocks, sizeof(blocks), 300, &seen, &rc, &err);
        cr_assert_eq(rc, cases[i].rc, "case %zu: %d %s", i, rc, err.text);
        cr_assert_eq(seen.count, rc ? 1 : 2);
        if (rc)
            cr_assert_str_eq(err.text, cases[i].error);
        atd_tar_walk_free(walk);
        atd_buf_release(&seen.text);
    }
}

Test(tar_header, a_flipped_bit_breaks_the_checksum)
{
    for (size_t at = 0; at < BLOCK; at++) {
        uint8_t blocks[2 * BLOCK];
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_tar_walk *walk;
        struct seen seen;
        int rc;

        make_header(blocks, "first", '0');
        make_header(blocks + BLOCK, "second", '0');
        blocks[BLOCK + at] ^= 0x04;
        seen_init(&seen);
        walk = walk_bytes(blocks, sizeof(blocks), 0, &seen, &rc, &err);
        /* The last byte of the checksum field is after its NUL: nobody reads it. */
        cr_assert_eq(rc, at == 155 ? 0 : -EINVAL, "byte %zu", at);
        if (rc)
            cr_assert_str_eq(err.text, "tar header at byte 512: bad checksum");
        atd_tar_walk_free(walk);
        atd_buf_release(&seen.text);
    }
}

/* An extended header of `type` with `body`, then a member "m". Returns the length. */
static size_t make_extended(struct atd_buf *tar, char type, struct atd_str body)
{
    uint8_t block[BLOCK];
    char size[13];

    make_header(block, "././@ext", type);
    (void)snprintf(size, sizeof(size), "%011zo", body.len);
    set_field(block, 124, size, 12);
    atd_buf_append(tar, block, BLOCK);
    atd_buf_append_str(tar, body);
    atd_buf_append_zeros(tar, (BLOCK - body.len % BLOCK) % BLOCK);
    return tar->len;
}

static void append_member(struct atd_buf *tar, const char *name)
{
    uint8_t block[BLOCK];

    make_header(block, name, '0');
    atd_buf_append(tar, block, BLOCK);
}

Test(tar_header, bad_pax_records)
{
    const struct {
        struct atd_str body;
        int rc;
        const char *error;
    } cases[] = {
        {ATD_STR("x"), -EINVAL, "pax record at byte 512: bad length"},
        {ATD_STR(" 6 a=b\n"), -EINVAL, "pax record at byte 512: bad length"},
        {ATD_STR("-6 a=b\n"), -EINVAL, "pax record at byte 512: bad length"},
        {ATD_STR("6\ta=b\n"), -EINVAL, "pax record at byte 512: bad length"},
        {ATD_STR("99999999999999999999 a=b\n"), -EINVAL, "pax record at byte 512: bad length"},
        {ATD_STR("5 a=b\n"), -EINVAL,
         "pax record at byte 512: no newline where its length of 5 says"},
        {ATD_STR("7 a=b\n"), -EINVAL,
         "pax record at byte 512: no newline where its length of 7 says"},
        {ATD_STR("0 a=b\n"), -EINVAL,
         "pax record at byte 512: no newline where its length of 0 says"},
        {ATD_STR("2 \n"), -EINVAL, "pax record at byte 512: no newline where its length of 2 says"},
        {ATD_STR("5 ab\n"), -EINVAL, "pax record at byte 512: no key"},
        {ATD_STR("5 =b\n"), -EINVAL, "pax record at byte 512: no key"},
        {ATD_STR("6 a=b\n6 a=bx"), -EINVAL,
         "pax record at byte 518: no newline where its length of 6 says"},
        {ATD_STR("6 a=b\n\0"), -EINVAL, "pax record at byte 518: bad length"},
        {ATD_STR("8 size=\n"), -EINVAL, "pax record at byte 512: bad size"},
        {ATD_STR("10 size=x\n"), -EINVAL, "pax record at byte 512: bad size"},
        {ATD_STR("11 size=-1\n"), -EINVAL, "pax record at byte 512: bad size"},
        {ATD_STR("28 size=9223372036854775808\n"), -EINVAL, "pax record at byte 512: bad size"},
        {ATD_STR("28 size=9223372036854775807\n"), -EINVAL,
         "tar member at byte 1024: size of 9223372036854775807 bytes is too large"},
        {ATD_STR("12 path=a\0b\n"), -EINVAL, "pax record at byte 512: path with NUL"},
        {ATD_STR("22 GNU.sparse.major=1\n"), -EINVAL,
         "pax record at byte 512: sparse files are not supported"},
        {ATD_STR(""), 0, NULL},
        {ATD_STR("6 a=b\n"), 0, NULL},
        {ATD_STR("11 mtime=x\n"), 0, NULL},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(1 << 20);
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_tar_walk *walk;
        struct seen seen;
        int rc;

        (void)make_extended(&tar, 'x', cases[i].body);
        append_member(&tar, "m");
        seen_init(&seen);
        walk = walk_bytes(tar.ptr, tar.len, 0, &seen, &rc, &err);
        cr_assert_eq(rc, cases[i].rc, "case %zu: %s", i, err.text);
        if (rc)
            cr_assert_str_eq(err.text, cases[i].error, "case %zu: %s", i, err.text);
        atd_tar_walk_free(walk);
        atd_buf_release(&seen.text);
    }
}

/* The lines that a sequence of extended headers leads to; members are "m" and "n". */
static void check_extended(const char *types, const struct atd_str *bodies, const char *expected)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(1 << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_tar_walk *walk;
    struct seen seen;
    int rc;

    for (size_t i = 0; types[i]; i++)
        (void)make_extended(&tar, types[i], bodies[i]);
    append_member(&tar, "m");
    append_member(&tar, "n");
    seen_init(&seen);
    walk = walk_bytes(tar.ptr, tar.len, 0, &seen, &rc, &err);
    cr_assert_eq(rc, 0, "%s", err.text);
    cr_assert_str_eq((char *)seen.text.ptr, expected, "%s: %s", types, (char *)seen.text.ptr);
    atd_tar_walk_free(walk);
    atd_buf_release(&seen.text);
}

/* Names in hex: a is 61, m 6d, n 6e. What Python's tarfile does with the same bytes. */
Test(tar_header, precedence_of_extended_headers)
{
    const struct atd_str a = ATD_STR("10 path=a\n"), b = ATD_STR("10 path=b\n");
    const struct atd_str c = ATD_STR("c\0"), none = ATD_STR("8 path=\n");

    check_extended("x", (struct atd_str[]){a}, "61 01 0 1536 0 0\n6e 01 1536 2048 0 0\n");
    check_extended("X", (struct atd_str[]){a}, "61 01 0 1536 0 0\n6e 01 1536 2048 0 0\n");
    check_extended("xx", (struct atd_str[]){a, b}, "61 01 0 2560 0 0\n6e 01 2560 3072 0 0\n");
    check_extended("xL", (struct atd_str[]){a, c}, "61 01 0 2560 0 0\n6e 01 2560 3072 0 0\n");
    check_extended("Lx", (struct atd_str[]){c, a}, "63 01 0 2560 0 0\n6e 01 2560 3072 0 0\n");
    check_extended("KL", (struct atd_str[]){a, c}, "63 01 0 2560 0 0\n6e 01 2560 3072 0 0\n");
    check_extended("g", (struct atd_str[]){a}, "61 01 1024 1536 0 0\n61 01 1536 2048 0 0\n");
    check_extended("gx", (struct atd_str[]){a, b}, "62 01 1024 2560 0 0\n61 01 2560 3072 0 0\n");
    check_extended("gg", (struct atd_str[]){a, b}, "62 01 2048 2560 0 0\n62 01 2560 3072 0 0\n");
    check_extended("gg", (struct atd_str[]){a, none}, "6d 01 2048 2560 0 0\n6e 01 2560 3072 0 0\n");
    check_extended("gx", (struct atd_str[]){a, none}, "6d 01 1024 2560 0 0\n61 01 2560 3072 0 0\n");
    check_extended("x", (struct atd_str[]){ATD_STR("20 mtime=1700000000\n17 mtime=-12.500\n")},
                   "6d 01 0 1536 0 -13\n6e 01 1536 2048 0 0\n");
}

/* Links, devices and directories have no data, even where an old writer left a size. */
Test(tar_header, sizes_of_what_has_no_data)
{
    for (char type = '1'; type <= '6'; type++) {
        atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(1 << 20);
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_tar_walk *walk;
        struct seen seen;
        char expected[64];
        int rc;

        append_member(&tar, "m");
        set_field(tar.ptr, 156, &type, 1);
        set_field(tar.ptr, 124, "00000001130", 12);
        append_member(&tar, "n");
        seen_init(&seen);
        walk = walk_bytes(tar.ptr, tar.len, 0, &seen, &rc, &err);
        (void)snprintf(expected, sizeof(expected), "6d %c0 0 512 0 0\n6e 01 512 1024 0 0\n", type);
        cr_assert_str_eq((char *)seen.text.ptr, expected);
        atd_tar_walk_free(walk);
        atd_buf_release(&seen.text);
    }
}

/* What stands where ustar has its prefix is a time in GNU's format. */
Test(tar_header, a_prefix_is_ustars_only)
{
    static const struct {
        const char *magic;
        const char *expected;
    } cases[] = {
        {"ustar\0"
         "00",
         "702f6d 01 0 512 0 0\n"},
        {"ustar  ", "6d 01 0 512 0 0\n"},
        {"\0\0\0\0\0\0\0", "6d 01 0 512 0 0\n"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(1 << 20);
        struct atd_tar_walk *walk;
        struct seen seen;
        int rc;

        append_member(&tar, "m");
        set_field(tar.ptr, 345, "p", 1);
        set_field(tar.ptr, 257, cases[i].magic, 8);
        seen_init(&seen);
        walk = walk_bytes(tar.ptr, tar.len, 0, &seen, &rc, NULL);
        cr_assert_eq(rc, 0);
        cr_assert_str_eq((char *)seen.text.ptr, cases[i].expected);
        atd_tar_walk_free(walk);
        atd_buf_release(&seen.text);
    }
}

Test(tar_header, oversized_names_and_records)
{
    static const struct {
        char type;
        size_t size;
        const char *error;
    } cases[] = {
        {'L', 65537, NULL},
        {'L', 65538, "tar extended header at byte 0: 65538 bytes are more than 65537"},
        {'x', 1048577, "tar extended header at byte 0: 1048577 bytes are more than 1048576"},
        {'g', 1048577, "tar extended header at byte 0: 1048577 bytes are more than 1048576"},
    };
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf body = ATD_BUF_INIT(1 << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_tar_walk *walk;
    struct seen seen;
    int rc;

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf text = ATD_BUF_INIT(2 << 20);
        uint8_t block[BLOCK];
        char size[13];

        make_header(block, "x", cases[i].type);
        (void)snprintf(size, sizeof(size), "%011zo", cases[i].size);
        set_field(block, 124, size, 12);
        seen_init(&seen);
        walk = walk_bytes(block, BLOCK, 0, &seen, &rc, &err);
        cr_assert_eq(rc, cases[i].error ? -E2BIG : 0);
        if (rc)
            cr_assert_str_eq(err.text, cases[i].error);
        atd_tar_walk_free(walk);
        atd_buf_release(&seen.text);
    }
    atd_buf_append_text(&body, "65548 path=");
    while (body.len < 65547)
        atd_buf_append_byte(&body, 'p');
    atd_buf_append_byte(&body, '\n');
    (void)make_extended(&tar, 'x', atd_buf_str(&body));
    append_member(&tar, "m");
    seen_init(&seen);
    walk = walk_bytes(tar.ptr, tar.len, 0, &seen, &rc, &err);
    cr_assert_eq(rc, 0, "%s", err.text);
    cr_assert_eq(seen.count, 1);
    atd_tar_walk_free(walk);
    atd_buf_release(&seen.text);
    /* One more byte. */
    atd_buf_clear(&tar);
    body.len--;
    atd_buf_append_text(&body, "p\n");
    body.ptr[4] = '9';
    (void)make_extended(&tar, 'x', atd_buf_str(&body));
    seen_init(&seen);
    walk = walk_bytes(tar.ptr, tar.len, 0, &seen, &rc, &err);
    cr_assert_eq(rc, -E2BIG);
    cr_assert_str_eq(err.text, "pax record at byte 512: path of 65537 bytes is longer than 65536");
    atd_tar_walk_free(walk);
    atd_buf_release(&seen.text);
}
