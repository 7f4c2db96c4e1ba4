#include <errno.h>

#include "tar_walks.h"

static size_t load(const char *name, uint8_t **ret_data)
{
    char path[512];
    FILE *file;
    size_t len;

    (void)snprintf(path, sizeof(path), "%s/%s", ATD_TEST_DATA, name);
    file = fopen(path, "rb");
    *ret_data = malloc(1 << 20);
    cr_assert(file && *ret_data, "%s", path);
    len = fread(*ret_data, 1, 1 << 20, file);
    (void)fclose(file);
    return len;
}

/* Walks as a reader with random access does: only what is wanted, one block at a time. */
static struct atd_tar_walk *walk_wanted(const uint8_t *data, size_t len, struct seen *seen,
                                        uint64_t *ret_fed)
{
    struct atd_tar_walk *walk = atd_tar_walk_new(see_member, seen);

    cr_assert_not_null(walk);
    *ret_fed = 0;
    while (atd_tar_walk_next_offset(walk) < len) {
        uint64_t at = atd_tar_walk_next_offset(walk);
        size_t size = len - at < BLOCK ? len - at : BLOCK;

        cr_assert_eq(atd_tar_walk_feed(walk, at, (struct atd_bytes){data + at, size}, NULL), 0);
        *ret_fed += size;
    }
    return walk;
}

static void expected_lines(const json_t *members, struct atd_buf *out)
{
    size_t i;
    json_t *item;

    json_array_foreach(members, i, item)
    {
        const char *type = json_string_value(json_object_get(item, "type"));

        atd_buf_printf(out, "%s %c%d %lld %lld %lld %lld\n",
                       json_string_value(json_object_get(item, "name")), type[0],
                       json_is_true(json_object_get(item, "is_file")),
                       (long long)json_integer_value(json_object_get(item, "header_offset")),
                       (long long)json_integer_value(json_object_get(item, "data_offset")),
                       (long long)json_integer_value(json_object_get(item, "size")),
                       (long long)json_number_value(json_object_get(item, "mtime")));
    }
}

static void check_tar(const char *name, const json_t *members)
{
    static const size_t pieces[] = {0, 1, 7, 511, 512, 513, 5000};
    atd_auto_buf struct atd_buf expected = ATD_BUF_INIT(4u << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_tar_walk *walk;
    struct seen seen;
    char path[256];
    uint8_t *data;
    uint64_t fed;
    size_t len;

    (void)snprintf(path, sizeof(path), "tar/%s", name);
    len = load(path, &data);
    atd_buf_append(&expected, "", 0);
    expected_lines(members, &expected);
    for (size_t i = 0; i < ATD_ARRAY_LEN(pieces); i++) {
        int rc;

        seen_init(&seen);
        walk = walk_bytes(data, len, pieces[i], &seen, &rc, &err);
        cr_assert_eq(rc, 0, "%s: %s", name, err.text);
        cr_assert(atd_str_equal(atd_buf_str(&seen.text), atd_buf_str(&expected)),
                  "%s in pieces of %zu:\n%s\nnot\n%s", name, pieces[i], (char *)seen.text.ptr,
                  (char *)expected.ptr);
        cr_assert_eq(atd_tar_walk_end(walk, len, &err), ATD_TAR_COMPLETE, "%s: %s", name, err.text);
        cr_assert_eq(atd_tar_walk_next_offset(walk), UINT64_MAX);
        atd_tar_walk_free(walk);
        atd_buf_release(&seen.text);
    }
    seen_init(&seen);
    walk = walk_wanted(data, len, &seen, &fed);
    cr_assert(atd_str_equal(atd_buf_str(&seen.text), atd_buf_str(&expected)), "%s", name);
    cr_assert_leq(fed, len);
    atd_tar_walk_free(walk);
    atd_buf_release(&seen.text);
    free(data);
}

Test(tar_index, members_are_those_of_pythons_tarfile)
{
    json_t *all = load_json("tar/tars.json");
    json_t *tars = json_object_get(all, "tars");
    const char *name;
    json_t *members;

    json_object_foreach(tars, name, members) check_tar(name, members);
    cr_assert_gt(json_object_size(tars), 15);
    json_decref(all);
}

Test(tar_index, sparse_files_are_refused)
{
    static const struct {
        const char *name;
        const char *error;
    } cases[] = {
        {"tar/sparse_gnu.tar", "tar header at byte 1024: sparse files are not supported"},
        {"tar/sparse_pax_0.0.tar", "pax record at byte 3144: sparse files are not supported"},
        {"tar/sparse_pax_0.1.tar", "pax record at byte 3144: sparse files are not supported"},
        {"tar/sparse_pax_1.0.tar", "pax record at byte 3144: sparse files are not supported"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_tar_walk *walk;
        struct seen seen;
        uint8_t *data;
        size_t len = load(cases[i].name, &data);
        int rc;

        seen_init(&seen);
        walk = walk_bytes(data, len, 100, &seen, &rc, &err);
        cr_assert_eq(rc, -EINVAL);
        cr_assert(strstr(err.text, "sparse files are not supported"), "%s", err.text);
        cr_assert_eq(strncmp(err.text, cases[i].error, 14), 0, "%s", err.text);
        cr_assert_eq(seen.count, 1);
        /* A walk that failed stays failed. */
        cr_assert_eq(atd_tar_walk_feed(walk, 0, (struct atd_bytes){data, 1}, &err), -EINVAL);
        cr_assert_eq(atd_tar_walk_end(walk, len, &err), ATD_TAR_TRUNCATED);
        atd_tar_walk_free(walk);
        atd_buf_release(&seen.text);
        free(data);
    }
}

Test(tar_index, members_beyond_8_gib_by_jumping)
{
    json_t *all = load_json("tar/tars.json");
    const json_t *huge = json_object_get(all, "huge");
    const json_t *pieces = json_object_get(huge, "pieces");
    uint64_t file_size = (uint64_t)json_integer_value(json_object_get(huge, "file_size"));
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf expected = ATD_BUF_INIT(1 << 20);
    struct seen seen;
    struct atd_tar_walk *walk = atd_tar_walk_new(see_member, &seen);
    struct atd_error err = ATD_ERROR_INIT;

    seen_init(&seen);
    for (size_t i = 0; i < json_array_size(pieces); i++) {
        const json_t *piece = json_array_get(pieces, i);
        uint64_t offset = (uint64_t)json_integer_value(json_object_get(piece, "offset"));

        (void)from_hex(json_member_str(piece, "bytes"), &bytes);
        cr_assert_eq(atd_tar_walk_next_offset(walk), offset);
        cr_assert_eq(atd_tar_walk_feed(walk, offset, atd_buf_bytes(&bytes), &err), 0, "%s",
                     err.text);
        if (i + 1 < json_array_size(pieces)) {
            struct atd_str name = json_member_str(piece, "name");

            for (size_t at = 0; at < name.len; at++)
                atd_buf_printf(&expected, "%02x", (unsigned char)name.ptr[at]);
            atd_buf_printf(&expected, " 01 %llu %llu %lld 1700000000\n", (unsigned long long)offset,
                           (unsigned long long)offset + bytes.len,
                           (long long)json_integer_value(json_object_get(piece, "size")));
        }
    }
    cr_assert_str_eq((char *)seen.text.ptr, (char *)expected.ptr);
    cr_assert_eq(atd_tar_walk_end(walk, file_size, &err), ATD_TAR_COMPLETE);
    cr_assert_eq(atd_tar_walk_end(walk, file_size - 1, &err), ATD_TAR_TRUNCATED);
    atd_tar_walk_free(walk);
    atd_buf_release(&seen.text);
    json_decref(all);
}

/* How a tar cut to `len` bytes must end, from where its members end. */
static enum atd_tar_end expected_end(const json_t *members, size_t len)
{
    size_t end = 0;

    if (len == 0)
        return ATD_TAR_EMPTY;
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *member = json_array_get(members, i);

        end = (size_t)(json_integer_value(json_object_get(member, "data_offset")) +
                       json_integer_value(json_object_get(member, "size")) + BLOCK - 1) /
              BLOCK * BLOCK;
        if (len == end)
            return ATD_TAR_NO_END;
    }
    return len == end + BLOCK || len >= end + 2 * BLOCK ? ATD_TAR_COMPLETE : ATD_TAR_TRUNCATED;
}

Test(tar_index, every_cut_is_seen, .timeout = 60)
{
    static const char *const names[] = {"pax_float_mtime.tar", "types_gnu.tar", "gnu.tar"};
    json_t *all = load_json("tar/tars.json");

    for (size_t i = 0; i < ATD_ARRAY_LEN(names); i++) {
        const json_t *members = json_object_get(json_object_get(all, "tars"), names[i]);
        char path[256];
        uint8_t *data;
        size_t whole;

        (void)snprintf(path, sizeof(path), "tar/%s", names[i]);
        whole = load(path, &data);
        for (size_t len = 0; len <= whole; len++) {
            struct atd_error err = ATD_ERROR_INIT;
            struct atd_tar_walk *walk;
            enum atd_tar_end end;
            struct seen seen;
            int rc;

            seen_init(&seen);
            walk = walk_bytes(data, len, 1000, &seen, &rc, &err);
            cr_assert_eq(rc, 0, "%s", err.text);
            end = atd_tar_walk_end(walk, len, &err);
            cr_assert_eq(end, expected_end(members, len), "%s cut to %zu: %d", names[i], len, end);
            cr_assert_eq(end == ATD_TAR_COMPLETE, err.code == 0);
            atd_tar_walk_free(walk);
            atd_buf_release(&seen.text);
        }
        free(data);
    }
    json_decref(all);
}

/* The first bytes of a file that is no tar. */
static void check_no_tar(struct atd_str content, const char *error)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_tar_walk *walk;
    struct seen seen;
    int rc;

    seen_init(&seen);
    walk = walk_bytes((const uint8_t *)content.ptr, content.len, 100, &seen, &rc, &err);
    if (rc == 0)
        cr_assert_eq(atd_tar_walk_end(walk, content.len, &err), ATD_TAR_TRUNCATED);
    else
        cr_assert_eq(rc, -EINVAL);
    cr_assert_str_eq(err.text, error);
    cr_assert_eq(seen.count, 0);
    atd_tar_walk_free(walk);
    atd_buf_release(&seen.text);
}

Test(tar_index, other_files_are_no_tars)
{
    static const char *const heads[] = {"\xff\xd8\xff\xe0\0\x10JFIF", "PK\x03\x04", "\x1f\x8b\x08",
                                        "# text\n", "\x93NUMPY"};
    char content[2048];
    uint64_t state = 99;

    for (size_t i = 0; i < ATD_ARRAY_LEN(heads); i++) {
        for (size_t at = 0; at < sizeof(content); at++)
            content[at] = (char)next_random(&state);
        memcpy(content, heads[i], strlen(heads[i]));
        check_no_tar((struct atd_str){content, sizeof(content)},
                     "file is not a tar: no valid header at byte 0");
        check_no_tar((struct atd_str){content, 100},
                     "tar of 100 bytes ends inside the header before byte 512");
    }
}

Test(tar_index, one_end_block_and_then_other_data)
{
    uint8_t blocks[3 * BLOCK] = {0};
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_tar_walk *walk;
    struct seen seen;
    int rc;

    make_header(blocks, "a", '0');
    make_header(blocks + 2 * BLOCK, "b", '0');
    seen_init(&seen);
    walk = walk_bytes(blocks, sizeof(blocks), 0, &seen, &rc, &err);
    cr_assert_eq(rc, 0);
    cr_assert_eq(seen.count, 1);
    cr_assert_eq(atd_tar_walk_end(walk, sizeof(blocks), &err), ATD_TAR_NO_END);
    cr_assert_str_eq(err.text, "tar has one end block only, followed by other data at byte 1024");
    /* Behind the end nothing is looked at. */
    cr_assert_eq(atd_tar_walk_feed(walk, 1u << 30, (struct atd_bytes){blocks, 100}, &err), 0);
    atd_tar_walk_free(walk);
    atd_buf_release(&seen.text);
}

Test(tar_index, feeding_rules)
{
    uint8_t block[BLOCK];
    struct atd_error err = ATD_ERROR_INIT;
    struct seen seen;
    struct atd_tar_walk *walk = atd_tar_walk_new(see_member, &seen);

    seen_init(&seen);
    seen.fail_at = 1;
    make_header(block, "a", '0');
    cr_assert_eq(atd_tar_walk_feed(walk, 1, (struct atd_bytes){block, 1}, &err), -EINVAL);
    cr_assert_str_eq(err.text, "tar bytes at 1 leave a gap behind byte 0");
    cr_assert_eq(atd_tar_walk_feed(walk, 0, (struct atd_bytes){block, 100}, &err), 0);
    cr_assert_eq(atd_tar_walk_next_offset(walk), 100);
    /* Overlap is skipped. */
    cr_assert_eq(atd_tar_walk_feed(walk, 50, (struct atd_bytes){block + 50, 100}, &err), 0);
    cr_assert_eq(atd_tar_walk_next_offset(walk), 150);
    cr_assert_eq(atd_tar_walk_feed(walk, 0, (struct atd_bytes){block, 10}, &err), 0);
    cr_assert_eq(atd_tar_walk_feed(walk, UINT64_MAX, (struct atd_bytes){block, 10}, &err), -EINVAL);
    cr_assert_eq(atd_tar_walk_feed(walk, 150, (struct atd_bytes){block + 150, 362}, &err), -EDOM);
    cr_assert_str_eq(err.text, "enough");
    cr_assert_eq(seen.count, 1);
    atd_tar_walk_free(walk);
    atd_tar_walk_free(NULL);
    atd_buf_release(&seen.text);
}

Test(tar_split_name, as_webdataset_splits)
{
    json_t *cases = load_json("vectors/webdataset_names.json");
    char extension[64];
    size_t i;
    json_t *item;

    json_array_foreach(cases, i, item)
    {
        struct atd_str name = json_member_str(item, "name");
        const json_t *split = json_object_get(item, "split");
        struct atd_str key = {NULL, 0};
        bool found = atd_tar_split_name(name, &key, extension, sizeof(extension));

        cr_assert_eq(found, json_is_array(split), "'%s'", name.ptr);
        if (found) {
            cr_assert_str_eq(extension, json_string_value(json_array_get(split, 1)), "'%s'",
                             name.ptr);
            cr_assert(atd_str_equal(key, atd_str_from(json_string_value(json_array_get(split, 0)))),
                      "'%s'", name.ptr);
        }
    }
    cr_assert_gt(json_array_size(cases), 300);
    json_decref(cases);
}

Test(tar_split_name, extension_is_cut_at_a_character)
{
    char extension[4];
    struct atd_str key;

    cr_assert(atd_tar_split_name(ATD_STR("k.JPEG"), &key, extension, sizeof(extension)));
    cr_assert_str_eq(extension, "jpe");
    cr_assert(atd_tar_split_name(ATD_STR("k.a\xe4\xb8\xad"), &key, extension, sizeof(extension)));
    cr_assert_str_eq(extension, "a");
    cr_assert(atd_tar_split_name(ATD_STR("k.\xff\xfe"), &key, extension, sizeof(extension)));
    cr_assert_str_eq(extension, "\xff\xfe");
    cr_assert(atd_tar_split_name(ATD_STR("k.x"), &key, extension, 1));
    cr_assert_str_eq(extension, "");
}
