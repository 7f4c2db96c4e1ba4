#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/sample_split.h"

static struct atd_error err;

/* ------------------------------------------------------------------ a tar */

static uint8_t tar[64 << 10];
static size_t tar_len;

static void add_header(const char *name, size_t size, char type)
{
    uint8_t *block = tar + tar_len;
    unsigned sum = 0;

    memset(block, 0, 512);
    (void)snprintf((char *)block, 100, "%s", name);
    (void)snprintf((char *)block + 100, 8, "0000644");
    (void)snprintf((char *)block + 124, 12, "%011zo", size);
    memcpy(block + 257, "ustar\00000", 8);
    block[156] = (uint8_t)type;
    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < 512; i++)
        sum += block[i];
    (void)snprintf((char *)block + 148, 8, "%06o", sum);
    tar_len += 512;
}

static void add(const char *name, const char *text)
{
    add_header(name, strlen(text), '0');
    memcpy(tar + tar_len, text, strlen(text));
    tar_len += (strlen(text) + 511) / 512 * 512;
}

static void end(void)
{
    memset(tar + tar_len, 0, 1024);
    tar_len += 1024;
}

static void begin(void)
{
    memset(tar, 0, sizeof(tar));
    tar_len = 0;
}

/* ------------------------------------------------------------------ what comes of it */

static char told[4096];
static unsigned most; /* samples; then it is ended */
static unsigned samples;

static size_t keep(void *ctx, const char *extension)
{
    (void)ctx;
    return strcmp(extension, "skip") == 0 ? 0 : 8;
}

/* "KEY:EXT=TEXT,EXT(SIZE);" */
static int sample(void *ctx, struct atd_str key, const struct atd_sample_part *parts, size_t count,
                  struct atd_error *why)
{
    size_t at = strlen(told);

    (void)ctx;
    at += (size_t)snprintf(told + at, sizeof(told) - at, "%.*s:", (int)key.len, key.ptr);
    for (size_t i = 0; i < count; i++) {
        if (parts[i].is_kept)
            at += (size_t)snprintf(told + at, sizeof(told) - at, "%s=%.*s,", parts[i].extension,
                                   (int)parts[i].bytes.len, (const char *)parts[i].bytes.ptr);
        else
            at += (size_t)snprintf(told + at, sizeof(told) - at, "%s(%zu),", parts[i].extension,
                                   (size_t)parts[i].size_bytes);
    }
    (void)snprintf(told + at, sizeof(told) - at, ";");
    return ++samples == most ? atd_error_set(why, ECANCELED, "enough") : 0;
}

static int split(size_t len, size_t piece)
{
    const struct atd_sample_sink sink = {NULL, keep, sample};
    struct atd_sample_split *splitter = atd_sample_split_new(&sink);
    int rc = 0;

    cr_assert_not_null(splitter);
    told[0] = '\0';
    samples = 0;
    err = (struct atd_error)ATD_ERROR_INIT;
    for (size_t at = 0; rc == 0 && at < len; at += piece)
        rc = atd_sample_split_feed(
            splitter, (struct atd_bytes){tar + at, len - at < piece ? len - at : piece}, &err);
    if (rc == 0)
        rc = atd_sample_split_finish(splitter, &err);
    cr_assert_eq(rc, -err.code);
    atd_sample_split_free(splitter);
    return rc;
}

/* In pieces of any size it is the same. */
static int split_all_ways(size_t len)
{
    static const size_t pieces[] = {1, 7, 511, 512, 513, 2000, sizeof(tar)};
    char first[sizeof(told)];
    int first_rc = split(len, pieces[0]);

    memcpy(first, told, sizeof(first));
    for (size_t i = 1; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        cr_assert_eq(split(len, pieces[i]), first_rc);
        cr_assert_str_eq(told, first);
    }
    return first_rc;
}

TestSuite(sample_split, .init = begin);

Test(sample_split, members_of_one_key_are_a_sample)
{
    add("a.cls", "1");
    add("a.TXT", "one");
    add("a.skip", "xx");
    add("d/b.seg.txt", "two");
    add("d/b.txt", "too long to be kept");
    add("c.txt", "");
    end();
    cr_assert_eq(split_all_ways(tar_len), 0, "%s", err.text);
    cr_assert_str_eq(told, "a:cls=1,txt=one,skip(2),;d/b:seg.txt=two,txt(19),;c:txt=,;");
}

Test(sample_split, what_webdataset_passes_over_is_passed_over)
{
    add_header("dir/", 0, '5');
    add_header("link.txt", 0, '2');
    add("__meta__", "x");
    add("nodot", "x");
    add("a.txt", "1");
    end();
    cr_assert_eq(split_all_ways(tar_len), 0);
    cr_assert_str_eq(told, "a:txt=1,;");
}

Test(sample_split, the_same_member_again_is_another_sample)
{
    add("a.txt", "1");
    add("a.txt", "2");
    add("b.txt", "3");
    add("a.txt", "4");
    end();
    cr_assert_eq(split_all_ways(tar_len), 0);
    cr_assert_str_eq(told, "a:txt=1,;a:txt=2,;b:txt=3,;a:txt=4,;");
}

Test(sample_split, a_cut_tar_loses_only_what_is_cut)
{
    size_t whole;

    add("a.txt", "1");
    whole = tar_len;
    add("b.txt", "22222");
    cr_assert_eq(split_all_ways(tar_len), 0); /* no end blocks: readable */
    cr_assert_str_eq(told, "a:txt=1,;b:txt=22222,;");
    cr_assert_eq(split_all_ways(whole + 512 + 3), -EINVAL);
    cr_assert_str_eq(told, "a:txt=1,;");
    cr_assert_eq(split_all_ways(whole + 100), -EINVAL);
    cr_assert_str_eq(told, "a:txt=1,;");
    cr_assert_eq(split_all_ways(0), -EINVAL);
    cr_assert_str_eq(told, "");
}

Test(sample_split, the_callback_ends_it)
{
    add("a.txt", "1");
    add("b.txt", "2");
    add("c.txt", "3");
    end();
    most = 2;
    cr_assert_eq(split_all_ways(tar_len), -ECANCELED);
    cr_assert_str_eq(told, "a:txt=1,;b:txt=2,;");
}

Test(sample_split, too_many_members_are_refused)
{
    char name[32];

    for (unsigned i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof(name), "k.e%u", i);
        add(name, "");
    }
    end();
    cr_assert_eq(split_all_ways(tar_len), 0);
    begin();
    for (unsigned i = 0; i < 110; i++) {
        (void)snprintf(name, sizeof(name), "%s.e%u", i < 105 ? "k" : "l", i);
        add(name, "");
    }
    memcpy(tar + 100, "junk in a header", 16);
    cr_assert_eq(split_all_ways(tar_len), -EINVAL);
}
