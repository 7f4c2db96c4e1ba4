#include "dataset/sample_files.h"

#include <errno.h>
#include <stdio.h>

#include <criterion/criterion.h>

#include "atdata/array.h"
#include "atdata/sample.h"
#include "base/cleanup.h"
#include "dataset/sniff.h"
#include "dataset/wids.h"

#define ARENA_BYTES (64u << 20)

static struct atd_arena arena;
static struct atd_buf packed;

static void setup(void)
{
    atd_arena_init(&arena, ARENA_BYTES);
    atd_buf_init(&packed, 64u << 20);
}

static void teardown(void)
{
    atd_buf_release(&packed);
    atd_arena_release(&arena);
}

TestSuite(sample_files, .init = setup, .fini = teardown);

static struct atd_sample_files make(const struct atd_schema *schema)
{
    struct atd_sample_files files;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_sample_files_make(atd_buf_bytes(&packed), schema, &arena, &files, &err), 0,
                 "%s", err.text);
    return files;
}

/* What reading the file gives. */
static struct atd_str contents(const struct atd_sample_files *files, const char *name)
{
    const struct atd_sample_file *file = atd_sample_files_find(files, atd_str_from(name));
    atd_auto_buf struct atd_buf all = ATD_BUF_INIT(64u << 20);

    cr_assert_not_null(file, "there is no '%s'", name);
    atd_buf_append(&all, file->head.ptr, file->head.len);
    atd_buf_append(&all, file->body.ptr, file->body.len);
    cr_assert_eq(all.len, atd_sample_file_size(file));
    return atd_arena_str(&arena, atd_buf_str(&all));
}

static void expect_text(const struct atd_sample_files *files, const char *name, const char *text)
{
    struct atd_str got = contents(files, name);

    cr_assert(atd_str_equal(got, atd_str_from(text)), "%s is '%.*s'", name, (int)got.len, got.ptr);
}

static void put_field(const char *name, struct atd_bytes bytes)
{
    atd_sample_put_str(&packed, atd_str_from(name));
    atd_sample_put_bin(&packed, bytes);
}

static const uint8_t four_floats[16] = {0, 0, 0, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40};
static const uint8_t compact[] = {3, '<', 'f', '4', 1,    4,    0, 0, 0, 0,    0, 0, 0, 0, 0,
                                  0, 0,   0,   0,   0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0, 0};

Test(sample_files, every_type_has_its_place)
{
    struct atd_sample_files files;

    atd_sample_put_map(&packed, 9);
    atd_sample_put_str(&packed, ATD_STR("text"));
    atd_sample_put_str(&packed, ATD_STR("na\xc3\xafve"));
    put_field("raw", atd_str_bytes(ATD_STR("\0\1")));
    put_field("none", (struct atd_bytes){NULL, 0});
    atd_sample_put_str(&packed, ATD_STR("nil"));
    atd_sample_put_nil(&packed);
    atd_sample_put_str(&packed, ATD_STR("yes"));
    atd_sample_put_bool(&packed, true);
    atd_sample_put_str(&packed, ATD_STR("low"));
    atd_sample_put_int(&packed, INT64_MIN);
    atd_sample_put_str(&packed, ATD_STR("high"));
    atd_sample_put_uint(&packed, UINT64_MAX);
    atd_sample_put_str(&packed, ATD_STR("half"));
    atd_sample_put_float(&packed, 0.5);
    atd_sample_put_str(&packed, ATD_STR("list"));
    atd_sample_put_array(&packed, 2);
    atd_sample_put_map(&packed, 1);
    atd_sample_put_str(&packed, ATD_STR("b"));
    atd_sample_put_bin(&packed, atd_str_bytes(ATD_STR("\xff")));
    atd_sample_put_array(&packed, 0);
    files = make(NULL);
    cr_assert_eq(files.count, 4);
    expect_text(&files, "text.txt", "na\xc3\xafve");
    cr_assert(atd_str_equal(contents(&files, "raw.bin"), ATD_STR("\0\1")));
    expect_text(&files, "none.bin", "");
    expect_text(&files, "sample.json",
                "{\n  \"nil\": null,\n  \"yes\": true,\n  \"low\": -9223372036854775808,\n"
                "  \"high\": 18446744073709551615,\n  \"half\": 0.5,\n  \"list\": [\n    {\n"
                "      \"b\": {\n        \"$base64\": \"/w==\"\n      }\n    },\n    []\n  ]\n}\n");
}

/* The bytes that np.save would write, from both forms. */
Test(sample_files, arrays_are_npy)
{
    const struct atd_bytes as_compact = {compact, sizeof(compact)};
    atd_auto_buf struct atd_buf npy = ATD_BUF_INIT(1 << 20);
    struct atd_sample_files files;
    struct atd_array array;

    cr_assert_eq(atd_array_decode(as_compact, &array, NULL), 0);
    cr_assert_eq(array.data.len, sizeof(four_floats));
    atd_array_encode_npy(&array, &npy);
    atd_sample_put_map(&packed, 2);
    put_field("a", as_compact);
    put_field("b", atd_buf_bytes(&npy));
    files = make(NULL);
    cr_assert(atd_str_equal(contents(&files, "a.npy"), atd_buf_str(&npy)));
    cr_assert(atd_str_equal(contents(&files, "b.npy"), atd_buf_str(&npy)));
    expect_text(&files, "sample.json", "{}\n");
}

Test(sample_files, the_schema_decides)
{
    const struct atd_bytes as_compact = {compact, sizeof(compact)};
    const struct atd_field fields[] = {
        {.name = ATD_STR("raw"),
         .type = {.kind = ATD_KIND_PRIMITIVE, .primitive = ATD_PRIMITIVE_BYTES}},
        {.name = ATD_STR("array"), .type = {.kind = ATD_KIND_NDARRAY}},
        {.name = ATD_STR("broken"), .type = {.kind = ATD_KIND_NDARRAY}},
        {.name = ATD_STR("tensor"), .type = {.kind = ATD_KIND_ARROW_TENSOR}},
    };
    const struct atd_schema schema = {.fields = fields, .field_count = 4};
    struct atd_sample_files files;

    atd_sample_put_map(&packed, 5);
    put_field("raw", as_compact);
    put_field("array", as_compact);
    put_field("broken", atd_str_bytes(ATD_STR("no array")));
    put_field("tensor", atd_str_bytes(ATD_STR("\xff\xff\xff\xff....")));
    put_field("other", as_compact);
    files = make(&schema);
    cr_assert_eq(files.count, 6);
    cr_assert_eq(contents(&files, "raw.bin").len, sizeof(compact));
    (void)contents(&files, "array.npy");
    expect_text(&files, "broken.bin", "no array");
    (void)contents(&files, "tensor.arrow");
    (void)contents(&files, "other.npy");
}

Test(sample_files, what_does_not_decode_says_why)
{
    static const struct atd_str bad[] = {{"", 0}, {"\xc1", 1}, {"\x81\xa1k", 3}, {"\x91\x01", 2}};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct atd_sample_files files;

        atd_buf_clear(&packed);
        atd_buf_append_str(&packed, bad[i]);
        files = make(NULL);
        cr_assert_eq(files.count, 2);
        cr_assert(atd_str_equal(contents(&files, "sample.msgpack"), bad[i]));
        cr_assert(atd_str_starts_with(contents(&files, "why.txt"),
                                      ATD_STR("This sample does not decode: ")));
    }
}

Test(sample_files, names)
{
    char first[400];
    char second[400];
    struct atd_sample_files files;
    size_t longest = 0;

    memset(first, 'n', sizeof(first));
    memset(second, 'n', sizeof(second));
    second[399] = 'm'; /* another one, cut in the same place */
    atd_sample_put_map(&packed, 7);
    put_field("a/b", atd_str_bytes(ATD_STR("1")));
    put_field(".", atd_str_bytes(ATD_STR("2")));
    put_field("", atd_str_bytes(ATD_STR("3")));
    put_field("50%41", atd_str_bytes(ATD_STR("4")));
    put_field("\n", atd_str_bytes(ATD_STR("5")));
    atd_sample_put_str(&packed, (struct atd_str){first, sizeof(first)});
    atd_sample_put_bin(&packed, atd_str_bytes(ATD_STR("6")));
    atd_sample_put_str(&packed, (struct atd_str){second, sizeof(second)});
    atd_sample_put_bin(&packed, atd_str_bytes(ATD_STR("7")));
    files = make(NULL);
    cr_assert_eq(files.count, 8);
    expect_text(&files, "a%2Fb.bin", "1");
    expect_text(&files, "%2E.bin", "2");
    expect_text(&files, "%.bin", "3");
    expect_text(&files, "50%2541.bin", "4");
    expect_text(&files, "%0A.bin", "5");
    for (size_t i = 0; i < files.count; i++) {
        cr_assert(i == 0 || atd_str_compare(files.files[i - 1].name, files.files[i].name) < 0);
        longest += files.files[i].name.len == 255;
    }
    cr_assert_eq(longest, 2);
}

/* Lists that JSON would make too much of are files as they are stored. */
Test(sample_files, large_lists_are_msgpack)
{
    struct atd_sample_files files;

    atd_sample_put_map(&packed, 2);
    for (int field = 0; field < 2; field++) {
        atd_sample_put_str(&packed, field ? ATD_STR("more") : ATD_STR("much"));
        atd_sample_put_array(&packed, 200000);
        for (int i = 0; i < 200000; i++)
            atd_sample_put_uint(&packed, 1);
    }
    files = make(NULL);
    cr_assert_eq(files.count, 2);
    cr_assert_eq(contents(&files, "more.msgpack").len, 200005);
    cr_assert(contents(&files, "sample.json").len > 200000);
}

Test(sample_files, deep_lists)
{
    struct atd_sample_files files;

    atd_sample_put_map(&packed, 1);
    atd_sample_put_str(&packed, ATD_STR("k"));
    for (int i = 0; i < 500; i++)
        atd_sample_put_array(&packed, 1);
    atd_sample_put_nil(&packed);
    files = make(NULL);
    cr_assert_eq(files.count, 1);
}

/* Every way in which memory can run out. */
Test(sample_files, out_of_memory)
{
    struct atd_sample_files files;
    size_t max;
    int rc = -ENOMEM;

    atd_sample_put_map(&packed, 3);
    put_field("a", (struct atd_bytes){compact, sizeof(compact)});
    put_field("b", atd_str_bytes(ATD_STR("x")));
    atd_sample_put_str(&packed, ATD_STR("c"));
    atd_sample_put_uint(&packed, 1);
    for (max = 0; rc != 0 && max < 10000; max += 8) {
        atd_auto_arena struct atd_arena small = ATD_ARENA_INIT(max);
        struct atd_error err = ATD_ERROR_INIT;

        rc = atd_sample_files_make(atd_buf_bytes(&packed), NULL, &small, &files, &err);
        cr_assert(rc == 0 || (rc == -ENOMEM && err.code == ENOMEM));
    }
    cr_assert_eq(rc, 0);
    cr_assert(max > 500);
}

Test(sample_files, sniffing)
{
    static const struct {
        struct atd_str bytes;
        const char *suffix;
    } cases[] = {
        {{"\x89PNG\r\n\x1a\n....", 12}, ".png"},
        {{"\xff\xd8\xff\xe0", 4}, ".jpg"},
        {{"GIF89a", 6}, ".gif"},
        {{"RIFF....WEBP", 12}, ".webp"},
        {{"RIFF....WAVE", 12}, ".wav"},
        {{"RIFF....AVI ", 12}, ".bin"},
        {{"II*\0", 4}, ".tif"},
        {{"MM\0*", 4}, ".tif"},
        {{"....ftypavif", 12}, ".avif"},
        {{"....ftypmp42", 12}, ".mp4"},
        {{"BM\x1a\0\0\0....................", 26}, ".bmp"},
        {{"BM\x1b\0\0\0....................", 26}, ".bin"},
        {{"PK\x03\x04......................\x05\0..a.npy", 35}, ".npz"},
        {{"PK\x03\x04......................\xff\xff..a.npy", 35}, ".zip"},
        {{"PAR1....PAR1", 12}, ".parquet"},
        {{"PAR1....PAR2", 12}, ".bin"},
        {{"\x04\0\0\0\0\0\0\0{}  ", 12}, ".safetensors"},
        {{"\x05\0\0\0\0\0\0\0{}  ", 12}, ".bin"},
        {{"\xff\xff\xff\xff\xff\xff\xff\xff{}  ", 12}, ".bin"},
        {{"\x89PN", 3}, ".bin"},
        {{"", 0}, ".bin"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *suffix = atd_sniff_suffix(atd_str_bytes(cases[i].bytes));

        cr_assert_str_eq(suffix, cases[i].suffix, "case %zu", i);
    }
}

/* Byte for byte what wids' own tool writes, but for the MD5 sums and the newline at the end. */
Test(sample_files, wids)
{
    struct atd_wids_shard shards[] = {{ATD_STR("../b.tar"), 7, 2048}, {ATD_STR("../a.tar"), 9, 1}};

    atd_wids_write(ATD_STR("team/x"), shards, 2, &packed);
    cr_assert_eq(packed.failed, 0);
    cr_assert_str_eq((const char *)packed.ptr,
                     "{\n  \"__kind__\": \"wids-shard-index-v1\",\n  \"wids_version\": 1,\n"
                     "  \"shardlist\": [\n    {\n      \"url\": \"../a.tar\",\n"
                     "      \"nsamples\": 9,\n      \"filesize\": 1\n    },\n    {\n"
                     "      \"url\": \"../b.tar\",\n      \"nsamples\": 7,\n"
                     "      \"filesize\": 2048\n    }\n  ],\n  \"name\": \"team/x\"\n}\n");
}
