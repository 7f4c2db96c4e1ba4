#include "atdata/dali_idx.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "base/cleanup.h"

static struct atd_tar_member file_member(const char *name, uint64_t data_offset, uint64_t size)
{
    return (struct atd_tar_member){.name = atd_str_from(name),
                                   .type = '0',
                                   .is_file = true,
                                   .data_offset = data_offset,
                                   .size_bytes = size};
}

/* The text for some members; a NULL name ends them. */
static void check_text(const struct atd_tar_member *members, size_t count, const char *expected)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(10000);
    struct atd_dali_idx *idx = atd_dali_idx_new(10000);
    struct atd_error err = ATD_ERROR_INIT;

    for (size_t i = 0; i < count; i++)
        cr_assert_eq(atd_dali_idx_add(idx, &members[i], &err), 0, "%s", err.text);
    cr_assert_eq(atd_dali_idx_write(idx, &out, &err), 0);
    cr_assert_str_eq((char *)out.ptr, expected);
    atd_dali_idx_free(idx);
}

Test(dali_idx, a_line_a_sample)
{
    const struct atd_tar_member members[] = {
        file_member("d/0.jpg", 512, 100),        file_member("d/0.json", 1536, 7),
        file_member("d/0.cls", 2560, 0),         file_member("d/1.jpg", 3072, 99),
        file_member("README", 4096, 5),          file_member("d/1.seg.PNG", 5120, 3),
        file_member("__meta__/x.json", 6144, 3), file_member("d/0.jpg", 7168, 1),
    };
    struct atd_tar_member directory = file_member("d.x", 512, 0);

    directory.is_file = false;
    check_text(NULL, 0, "v1.2 0\n");
    check_text(&directory, 1, "v1.2 0\n");
    check_text(members, 3, "v1.2 1\njpg 512 100 d/0.jpg json 1536 7 d/0.json cls 2560 0 d/0.cls\n");
    check_text(members, ATD_ARRAY_LEN(members),
               "v1.2 3\n"
               "jpg 512 100 d/0.jpg json 1536 7 d/0.json cls 2560 0 d/0.cls\n"
               "jpg 3072 99 d/1.jpg seg.PNG 5120 3 d/1.seg.PNG\n"
               "jpg 7168 1 d/0.jpg\n");
}

Test(dali_idx, what_the_format_cannot_hold)
{
    static const char *const names[] = {"a b.jpg", "a.j pg", "a\n.jpg", "a.\tx", "a."};
    struct atd_dali_idx *idx = atd_dali_idx_new(20);
    struct atd_dali_idx *empty = atd_dali_idx_new(20);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(10000);
    atd_auto_buf struct atd_buf small = ATD_BUF_INIT(3);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_tar_member member;

    for (size_t i = 0; i < ATD_ARRAY_LEN(names); i++) {
        member = file_member(names[i], 512, 1);
        cr_assert_eq(atd_dali_idx_add(idx, &member, &err), -EINVAL, "%s", names[i]);
    }
    cr_assert_eq(atd_dali_idx_write(idx, &out, &err), 0);
    cr_assert_str_eq((char *)out.ptr, "v1.2 0\n");
    member = file_member("name.jpg", 512, 1);
    cr_assert_eq(atd_dali_idx_add(idx, &member, &err), 0);
    cr_assert_eq(atd_dali_idx_add(idx, &member, &err), -EFBIG);
    cr_assert_eq(atd_dali_idx_write(idx, &out, &err), -EFBIG);
    cr_assert_eq(atd_dali_idx_write(empty, &small, &err), -EFBIG);
    atd_dali_idx_free(idx);
    atd_dali_idx_free(empty);
    atd_dali_idx_free(NULL);
}

static int see_component(void *ctx, size_t sample, const struct atd_dali_component *component,
                         struct atd_error *err)
{
    struct atd_buf *out = ctx;

    if (atd_str_equal(component->extension, ATD_STR("stop")))
        return atd_error_set(err, EDOM, "enough");
    atd_buf_printf(out, "%zu:" ATD_STR_FMT "@%llu+%llu=" ATD_STR_FMT ";", sample,
                   ATD_STR_ARG(component->extension), (unsigned long long)component->data_offset,
                   (unsigned long long)component->size_bytes, ATD_STR_ARG(component->name));
    return 0;
}

Test(dali_idx, reading)
{
    static const struct {
        const char *text;
        const char *seen; /* or the error */
        int rc;
    } cases[] = {
        {"v1.2 0\n", "", 0},
        {"v1.2 2\njpg 512 100 d/0.jpg json 1536 7 d/0.json\njpg 3072 9 d/1.jpg\n",
         "0:jpg@512+100=d/0.jpg;0:json@1536+7=d/0.json;1:jpg@3072+9=d/1.jpg;", 0},
        {"v1.1 1\njpg 512 100 cls 1024 0\n", "0:jpg@512+100=;0:cls@1024+0=;", 0},
        {"v1.2 1\r\njpg 512 100 x.jpg\r\n", "0:jpg@512+100=x.jpg;", 0},
        {"v1.2 1\njpg 512 100 x.jpg", "0:jpg@512+100=x.jpg;", 0},
        {"v1.2 1\njpg 9223372036854775296 511 x.jpg", "0:jpg@9223372036854775296+511=x.jpg;", 0},
        {"", "DALI index is empty", -EINVAL},
        {"\n", "DALI index line 1: neither v1.1 nor v1.2", -EINVAL},
        {"v1.3 0\n", "DALI index line 1: neither v1.1 nor v1.2", -EINVAL},
        {"v1.2\n", "DALI index line 1: no number of samples", -EINVAL},
        {"v1.2 x\n", "DALI index line 1: no number of samples", -EINVAL},
        {"v1.2 -1\n", "DALI index line 1: no number of samples", -EINVAL},
        {"v1.2 1 1\n", "DALI index line 1: no number of samples", -EINVAL},
        {"v1.2 9223372036854775808\n", "DALI index line 1: no number of samples", -EINVAL},
        {"v1.2 9223372036854775807\njpg 512 1 x\n",
         "DALI index ends behind line 2 with 1 of 9223372036854775807 samples", -EINVAL},
        {"v1.2 1\n", "DALI index ends behind line 1 with 0 of 1 samples", -EINVAL},
        {"v1.2 1\n\n", "DALI index line 2: a sample without components", -EINVAL},
        {"v1.2 1\njpg 512 1 x\njpg 512 1 y\n",
         "DALI index line 3: more samples than the first line says", -EINVAL},
        {"v1.2 1\njpg\n", "DALI index line 2: no offset behind an extension", -EINVAL},
        {"v1.2 1\njpg 512\n", "DALI index line 2: no size behind an offset", -EINVAL},
        {"v1.2 1\njpg 512 1\n", "DALI index line 2: no name behind a size", -EINVAL},
        {"v1.2 1\njpg 513 1 x\n", "DALI index line 2: an offset is no multiple of 512", -EINVAL},
        {"v1.2 1\njpg 0x200 1 x\n", "DALI index line 2: no offset behind an extension", -EINVAL},
        {"v1.2 1\njpg 9223372036854775296 512 x\n",
         "DALI index line 2: a component ends too far out", -EINVAL},
        {"v1.2 1\nstop 512 1 x\n", "enough", -EDOM},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf seen = ATD_BUF_INIT(10000);
        struct atd_error err = ATD_ERROR_INIT;
        int rc;

        atd_buf_append(&seen, "", 0);
        rc = atd_dali_idx_read(atd_str_from(cases[i].text), see_component, &seen, &err);
        cr_assert_eq(rc, cases[i].rc, "case %zu: %s", i, err.text);
        cr_assert_str_eq(rc ? err.text : (char *)seen.ptr, cases[i].seen, "case %zu", i);
    }
}

/* The index of a real shard, from its tar. */
static int add_member(void *ctx, const struct atd_tar_member *member, struct atd_error *err)
{
    return atd_dali_idx_add(ctx, member, err);
}

Test(dali_idx, of_a_tar_of_three_parts_a_sample)
{
    struct atd_dali_idx *idx = atd_dali_idx_new(10000);
    struct atd_tar_walk *walk = atd_tar_walk_new(add_member, idx);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(10000);
    uint8_t *tar = malloc(1 << 16);
    FILE *file = fopen(ATD_TEST_DATA "/tar/ustar.tar", "rb");
    struct atd_error err = ATD_ERROR_INIT;
    size_t len;

    cr_assert(file && tar);
    len = fread(tar, 1, 1 << 16, file);
    (void)fclose(file);
    cr_assert_eq(atd_tar_walk_feed(walk, 0, (struct atd_bytes){tar, len}, &err), 0);
    cr_assert_eq(atd_dali_idx_write(idx, &out, &err), 0);
    cr_assert_str_eq((char *)out.ptr,
                     "v1.2 2\n"
                     "jpg 512 600 k0.jpg json 2048 7 k0.json cls 3072 1 k0.cls\n"
                     "jpg 4096 600 k1.jpg json 5632 7 k1.json cls 6656 1 k1.cls\n");
    atd_tar_walk_free(walk);
    atd_dali_idx_free(idx);
    free(tar);
}
