#include "publish/inspect.h"

#include "shards.h"

static const size_t pieces[] = {1, 511, 512, 513, 4099, 1u << 20};

/* Feeds `bytes` in pieces, each in memory of its own, and finishes. The inspection is the caller's
 * when it went well. */
static int inspect(struct atd_bytes bytes, size_t piece, const struct atd_schema *schema,
                   struct atd_inspection **ret_inspection, struct atd_inspect_result *ret_result,
                   struct atd_error *err)
{
    struct atd_inspection *inspection = atd_inspection_new(schema);
    struct atd_error fed = ATD_ERROR_INIT;
    int fed_rc = 0;
    int rc;

    cr_assert_not_null(inspection);
    for (size_t at = 0; at < bytes.len;) {
        size_t len = bytes.len - at < piece ? bytes.len - at : piece;
        uint8_t *copy = exact_copy(bytes.ptr + at, len);

        rc = atd_inspection_feed(inspection, (struct atd_bytes){copy, len}, &fed);
        free(copy);
        cr_assert(fed_rc == 0 || fed_rc == rc);
        fed_rc = rc;
        at += len;
        cr_assert_eq(atd_inspection_fed(inspection), at);
    }
    rc = atd_inspection_finish(inspection, ret_result, err);
    cr_assert(fed_rc == 0 || (rc == fed_rc && strcmp(fed.text, err->text) == 0));
    if (rc != 0)
        cr_assert_eq(rc, -err->code);
    if (rc == 0 && ret_inspection)
        *ret_inspection = inspection;
    else
        atd_inspection_free(inspection);
    return rc;
}

/* Refused in every chunking, with the same sentence, which holds `why`. */
static void check_refused(struct atd_bytes bytes, const struct atd_schema *schema, const char *why)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(pieces); i++) {
        struct atd_inspect_result result = {.samples = 77};
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert(inspect(bytes, pieces[i], schema, NULL, &result, &err) < 0, "taken: %s", why);
        cr_assert(strstr(err.text, why), "'%s' is not in '%s'", why, err.text);
        cr_assert_eq(result.samples, 77);
    }
}

/* Taken in every chunking. */
static void check_taken(struct atd_bytes bytes, const struct atd_schema *schema, uint64_t samples,
                        bool is_msgpack, bool is_compressed)
{
    uint8_t digest[ATD_SHA256_BYTES];

    atd_sha256_of(bytes.len ? bytes.ptr : (const uint8_t *)"", bytes.len, digest);
    for (size_t i = 0; i < ATD_ARRAY_LEN(pieces); i++) {
        struct atd_inspect_result result;
        struct atd_error err = ATD_ERROR_INIT;
        char hex[65] = "";

        cr_assert_eq(inspect(bytes, pieces[i], schema, NULL, &result, &err), 0, "%s", err.text);
        cr_assert_eq(result.samples, samples, "%llu samples", (unsigned long long)result.samples);
        cr_assert_eq(result.is_msgpack, is_msgpack);
        cr_assert_eq(result.is_compressed, is_compressed);
        cr_assert_eq(result.size_bytes, bytes.len);
        cr_assert_eq(memcmp(digest, result.sha256, sizeof(digest)), 0);
        for (int at = 0; at < ATD_SHA256_BYTES; at++)
            (void)snprintf(hex + 2 * at, 3, "%02x", digest[at]);
        cr_assert_str_eq(hex, result.sha256_hex);
    }
}

static struct atd_bytes load(const char *path)
{
    char full[512];
    FILE *file;
    struct atd_bytes bytes = {NULL, 0};
    uint8_t *data = malloc(1u << 20);

    (void)snprintf(full, sizeof(full), ATD_TEST_DATA "/%s", path);
    file = fopen(full, "rb");
    cr_assert_not_null(file, "%s", full);
    bytes.len = fread(data, 1, 1u << 20, file);
    bytes.ptr = data;
    (void)fclose(file);
    return bytes;
}

static void drop(struct atd_bytes bytes)
{
    free((void *)(uintptr_t)bytes.ptr);
}

/* ------------------------------------------------------------------ what Python wrote */

static const char *const golden[] = {
    "golden/v0.2.3b1/alltypes.tar", "golden/v0.2.3b1/training.tar", "golden/v0.3.2b3/alltypes.tar",
    "golden/v0.3.2b3/training.tar", "golden/v0.5.1b1/alltypes.tar", "golden/v0.5.1b1/training.tar",
    "golden/v0.7.0b1/alltypes.tar", "golden/v0.7.0b1/training.tar",
};

Test(inspect, takes_every_releases_shards)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(golden); i++) {
        struct atd_bytes shard = load(golden[i]);
        struct atd_inspection *inspection;
        struct atd_inspect_result result;
        struct atd_error err = ATD_ERROR_INIT;
        struct seen seen;
        int rc;

        seen_init(&seen);
        atd_tar_walk_free(walk_bytes(shard.ptr, shard.len, 0, &seen, &rc, &err));
        cr_assert_gt(seen.count, 0);
        check_taken(shard, NULL, seen.count, true, false);
        cr_assert_eq(inspect(shard, 1000, NULL, &inspection, &result, &err), 0);
        cr_assert_eq(result.members, seen.count);
        cr_assert_eq(atd_inspection_member_count(inspection), seen.count);
        {
            atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
            struct atd_schema schema;

            cr_assert_eq(atd_schema_inferrer_finish(result.seen, ATD_STR("S"), ATD_STR("1.0.0"),
                                                    ATD_STR(""), &arena, &schema, &err),
                         0, "%s", err.text);
            cr_assert_gt(schema.field_count, 1);
            check_taken(shard, &schema, seen.count, true, false);
            schema.field_count--;
            check_refused(shard, &schema, ".msgpack'");
        }
        atd_inspection_free(inspection);
        atd_buf_release(&seen.text);
        drop(shard);
    }
}

Test(inspect, knows_where_the_members_are)
{
    struct atd_bytes shard = load("golden/v0.7.0b1/training.tar");
    struct atd_inspection *inspection;
    struct atd_inspect_result result;
    struct atd_error err = ATD_ERROR_INIT;
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1u << 20);
    struct seen seen;
    int rc;

    seen_init(&seen);
    atd_tar_walk_free(walk_bytes(shard.ptr, shard.len, 0, &seen, &rc, &err));
    cr_assert_eq(inspect(shard, 700, NULL, &inspection, &result, &err), 0);
    for (size_t i = 0; i < atd_inspection_member_count(inspection); i++) {
        const struct atd_inspect_member *member = atd_inspection_member(inspection, i);
        char place[64];

        for (size_t at = 0; at < member->name.len; at++)
            atd_buf_printf(&text, "%02x", (unsigned char)member->name.ptr[at]);
        (void)snprintf(place, sizeof(place), " %llu %llu ", (unsigned long long)member->data_offset,
                       (unsigned long long)member->size_bytes);
        cr_assert(strstr((char *)seen.text.ptr, (char *)text.ptr), "%s", text.ptr);
        cr_assert(strstr((char *)seen.text.ptr, place), "%s", place);
        atd_buf_clear(&text);
    }
    atd_inspection_free(inspection);
    atd_buf_release(&seen.text);
    drop(shard);
}

/* A killed copy looks like a good one. */
Test(inspect, every_cut_is_refused, .timeout = 120)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(golden); i++) {
        struct atd_bytes shard = load(golden[i]);
        struct atd_error err = ATD_ERROR_INIT;
        struct seen seen;
        int rc;

        seen_init(&seen);
        atd_tar_walk_free(walk_bytes(shard.ptr, shard.len, 0, &seen, &rc, &err));
        for (size_t len = 0; len <= shard.len; len++) {
            struct atd_bytes cut = {shard.ptr, len};
            struct atd_inspect_result result;
            size_t in_block = len % BLOCK;
            /* One zero block at the very end is an end. */
            bool whole = len == seen.last_end + BLOCK || len >= seen.last_end + 2 * BLOCK;

            if (in_block > 1 && in_block < BLOCK - 1 && len % 97 != 0)
                continue;
            err = (struct atd_error)ATD_ERROR_INIT;
            rc = inspect(cut, 600, NULL, NULL, &result, &err);
            cr_assert_eq(rc, whole ? 0 : -EINVAL, "%s cut to %zu: %s", golden[i], len, err.text);
        }
        atd_buf_release(&seen.text);
        drop(shard);
    }
}

Test(inspect, says_where_it_ends)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);

    put_sample(&tar, "a.msgpack", 1, 10);
    check_refused(atd_buf_bytes(&tar), NULL, "has no end blocks: more may be missing");
    put_sample(&tar, "b.msgpack", 1, 1000);
    check_refused((struct atd_bytes){tar.ptr, 1700}, NULL,
                  "tar of 1700 bytes ends inside 'b.msgpack', which goes on to byte 2560");
    /* Not padded: the copy was cut there, or webdataset would say so. */
    check_refused((struct atd_bytes){tar.ptr, tar.len - 1}, NULL, "ends inside 'b.msgpack'");
    check_refused((struct atd_bytes){tar.ptr, 1400}, NULL,
                  "ends inside the header before byte 1536");
    check_refused((struct atd_bytes){tar.ptr, 5}, NULL, "ends inside the header before byte 512");
    check_refused((struct atd_bytes){tar.ptr, 0}, NULL, "file is empty");
}

Test(inspect, empty_datasets_and_other_ends)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    atd_auto_buf struct atd_buf two = ATD_BUF_INIT(SHARD_BYTES_MAX);
    size_t whole;

    atd_buf_append_zeros(&tar, 10240);
    check_taken(atd_buf_bytes(&tar), NULL, 0, false, false);
    atd_buf_clear(&tar);
    put_sample(&tar, "a.msgpack", 1, 10);
    put_end(&tar);
    whole = tar.len;
    check_taken(atd_buf_bytes(&tar), NULL, 1, true, false);
    atd_buf_append_str(&two, atd_buf_str(&tar));
    atd_buf_append_zeros(&two, 700);
    atd_buf_append_str(&two, atd_buf_str(&tar));
    check_refused(atd_buf_bytes(&two), NULL,
                  "tar ends at byte 2048, and webdataset does not read what follows at byte 2748");
    atd_buf_append_zeros(&tar, ATD_INSPECT_PADDING_MAX);
    cr_assert_eq(tar.len, whole + ATD_INSPECT_PADDING_MAX);
    {
        struct atd_inspect_result result;
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(inspect(atd_buf_bytes(&tar), 100000, NULL, NULL, &result, &err), 0);
        atd_buf_append_zeros(&tar, 1);
        cr_assert_eq(inspect(atd_buf_bytes(&tar), 100000, NULL, NULL, &result, &err), -EINVAL);
        cr_assert(strstr(err.text, "not written to its end"), "%s", err.text);
    }
}

/* ------------------------------------------------------------------ what webdataset makes of it */

struct scene {
    const char *names; /* members, in order; "*.msgpack" are samples; "h:", "d:": link, directory */
    const char *error; /* NULL: taken */
    uint64_t samples;
    bool is_msgpack;
};

static void build(const char *names, struct atd_buf *tar)
{
    char copy[512];
    char *rest = NULL;

    (void)snprintf(copy, sizeof(copy), "%s", names);
    for (char *name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
        size_t len = strlen(name);

        if (strncmp(name, "h:", 2) == 0)
            put_member(tar, name + 2, '1', (struct atd_bytes){NULL, 0});
        else if (strncmp(name, "d:", 2) == 0)
            put_member(tar, name + 2, '5', (struct atd_bytes){NULL, 0});
        else if (len > 8 && strcasecmp(name + len - 8, ".msgpack") == 0)
            put_sample(tar, name, 1, len * 100);
        else
            put_text_member(tar, name, "text");
    }
    put_end(tar);
}

Test(inspect, groups_as_webdataset_does, .timeout = 60)
{
    static const struct scene scenes[] = {
        {"a.msgpack b.msgpack c.msgpack", NULL, 3, true},
        {"k.json k.msgpack k.meta.txt", NULL, 1, true},
        {"k.msgpack k.json l.msgpack", NULL, 2, true},
        {"K.MSGPACK", NULL, 1, true},
        {"a.b/k.msgpack ./k.msgpack /abs/k.msgpack ../k.msgpack", NULL, 4, true},
        {"k.msgpack l.msgpack k.msgpack", NULL, 3, true},
        /* skipped: no dot, a leading dot, meta names, links, directories; also within a sample */
        {"README k.msgpack .hidden.msgpack __a__ __d__/x.msgpack", NULL, 1, true},
        {"k.json README k.msgpack", NULL, 1, true},
        {"d:dir/ d:dir.d/ h:l.msgpack k.msgpack", NULL, 1, true},
        {"k.json __meta__ h:k.msgpack k.txt", NULL, 1, false},
        {"README LICENSE", NULL, 0, false},
        /* plain WebDatasets */
        {"a.jpg a.cls b.jpg b.cls", NULL, 2, false},
        {"a.seg.png a.jpg", NULL, 1, false},
        {"a.1.jpg a.2.jpg", NULL, 1, false},
        /* mixed */
        {"__a__.json k.msgpack", "member '__a__.json' is no part", 0, false},
        {"README.txt k.msgpack", "member 'README.txt' is no part of an atdata sample", 0, false},
        {"k.msgpack README.txt", "member 'README.txt' is no part of an atdata sample", 0, false},
        {"k.msgpack index.json l.msgpack", "member 'index.json' is no part", 0, false},
        {"a.jpg b.jpg c.msgpack d.jpg", "member 'a.jpg' is no part", 0, false},
        {"k1.msgpack k2.msgpack k1.json", "member 'k1.json' is no part", 0, false},
        {"k.msgpack k2.mp", "member 'k2.mp' is no part", 0, false},
        {"k.msgpack j.msgpack.gz", "member 'j.msgpack.gz' is no part", 0, false},
        /* what it stumbles over */
        {"k.1.msgpack", "member 'k.1.msgpack': webdataset takes the key for 'k'", 0, false},
        {"k.msgpack k.1.msgpack", "member 'k.1.msgpack': webdataset takes the key", 0, false},
        {"k.msgpack k.msgpack", "member 'k.msgpack' is there twice", 0, false},
        {"k.msgpack k.MSGPACK", "member 'k.MSGPACK' is there twice", 0, false},
        {"k.a k.b k.a", "member 'k.a' is there twice", 0, false},
        {"k.__key__", "webdataset uses that extension itself", 0, false},
        {"k.__bad__ k.msgpack", "webdataset uses that extension itself", 0, false},
        {"k.", "extension of 0 bytes cannot be a field's name", 0, false},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(scenes); i++) {
        atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);

        build(scenes[i].names, &tar);
        if (scenes[i].error)
            check_refused(atd_buf_bytes(&tar), NULL, scenes[i].error);
        else
            check_taken(atd_buf_bytes(&tar), NULL, scenes[i].samples, scenes[i].is_msgpack, false);
    }
}

Test(inspect, members_of_one_sample_are_limited)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct atd_inspect_result result;
    struct atd_error err = ATD_ERROR_INIT;
    char name[600];

    for (int i = 0; i <= 1024; i++) {
        (void)snprintf(name, sizeof(name), "k.e%d", i);
        put_text_member(&tar, name, "");
    }
    cr_assert_eq(inspect(atd_buf_bytes(&tar), 10000, NULL, NULL, &result, &err), -E2BIG);
    cr_assert_str_eq(err.text, "sample 'k' has more than 1024 members");
}

Test(inspect, plain_samples_have_fields)
{
    static const struct {
        const char *fields; /* with '?' optional */
        const char *error;
    } schemas[] = {
        {"jpg cls txt?", NULL},
        {"jpg cls? txt? more?", NULL},
        {"jpg cls txt", "some samples have no member for the field 'txt'"},
        {"jpg txt?", "samples have members for 'cls', and the schema has no such field"},
        {"jpg cls txt? more", "samples have no member for the field 'more', which the schema"},
    };
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);

    build("a.jpg a.cls a.txt b.jpg b.cls", &tar);
    for (size_t i = 0; i < ATD_ARRAY_LEN(schemas); i++) {
        struct atd_field fields[8] = {0};
        struct atd_schema schema = {.name = ATD_STR("S"), .fields = fields};
        char copy[100];
        char *rest = NULL;

        (void)snprintf(copy, sizeof(copy), "%s", schemas[i].fields);
        for (char *name = strtok_r(copy, " ", &rest); name; name = strtok_r(NULL, " ", &rest)) {
            struct atd_field *field = &fields[schema.field_count++];

            field->optional = name[strlen(name) - 1] == '?';
            field->name = (struct atd_str){name, strlen(name) - field->optional};
        }
        if (schemas[i].error)
            check_refused(atd_buf_bytes(&tar), &schema, schemas[i].error);
        else
            check_taken(atd_buf_bytes(&tar), &schema, 2, false, false);
    }
}

/* ------------------------------------------------------------------ samples */

Test(inspect, undecodable_samples_are_named)
{
    static const struct {
        struct atd_str msgpack;
        const char *error;
    } cases[] = {
        {{"", 0}, "member 'bad.msgpack': sample"},
        {{"\x93\x01\x02\x03", 4}, "member 'bad.msgpack': sample is not a map"},
        {{"\x81\x01\x02", 3}, "member 'bad.msgpack': sample: map key at byte 1 is no text"},
        {{"\x81\xa1x", 3}, "member 'bad.msgpack': sample"},
        {{"\x81\xa1x\xa1\xff", 5}, "not valid utf-8"},
        {{"\x81\xa1x\xdd\xff\xff\xff\xff", 8}, "is cut short"},
        {{"\x81\xa5label\xa1x", 9}, "member 'bad.msgpack': field 'label'"}, /* it was an int */
        {{"\x81\xa5"
          "class\x01",
          8},
         "member 'bad.msgpack': field 'class'"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);

        put_sample(&tar, "good.msgpack", 1, 100);
        put_member(&tar, "bad.msgpack", '0', atd_str_bytes(cases[i].msgpack));
        put_sample(&tar, "more.msgpack", 1, 100);
        put_end(&tar);
        check_refused(atd_buf_bytes(&tar), NULL, cases[i].error);
    }
}

Test(inspect, samples_conform_to_the_schema)
{
    struct atd_field fields[] = {
        {.name = ATD_STR("label"), .type = {.primitive = ATD_PRIMITIVE_INT}},
        {.name = ATD_STR("data"), .type = {.primitive = ATD_PRIMITIVE_BYTES}},
        {.name = ATD_STR("more"), .type = {.primitive = ATD_PRIMITIVE_STR}, .optional = true},
    };
    struct atd_schema schema = {.name = ATD_STR("S"), .fields = fields, .field_count = 3};
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);

    put_sample(&tar, "a.msgpack", 1, 5000);
    put_sample(&tar, "b.msgpack", 1, 100);
    put_end(&tar);
    check_taken(atd_buf_bytes(&tar), &schema, 2, true, false);
    fields[2].optional = false;
    check_refused(atd_buf_bytes(&tar), &schema, "member 'a.msgpack': ");
    fields[2].optional = true;
    fields[0].type.primitive = ATD_PRIMITIVE_STR;
    check_refused(atd_buf_bytes(&tar), &schema, "'label'");
}

Test(inspect, a_sample_over_the_limit_is_refused_at_its_header)
{
    uint8_t block[BLOCK];
    struct atd_inspect_result result;
    struct atd_error err = ATD_ERROR_INIT;

    make_header(block, "k.msgpack", '0');
    set_field(block, 124, "10000000001", 11); /* 1 GiB and one */
    cr_assert_eq(inspect((struct atd_bytes){block, BLOCK}, 100, NULL, NULL, &result, &err), -E2BIG);
    cr_assert(strstr(err.text, "larger than the limit"), "%s", err.text);
    /* One that only claims much takes no memory. */
    set_field(block, 124, "07777777777", 11);
    cr_assert_eq(inspect((struct atd_bytes){block, BLOCK}, 100, NULL, NULL, &result, &err),
                 -EINVAL);
}

Test(inspect, is_whole_says_when_a_verdict_makes_sense)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct atd_inspection *inspection = atd_inspection_new(NULL);
    size_t at = 0;

    build("a.msgpack b.msgpack", &tar);
    for (; at < tar.len - 2 * BLOCK; at += BLOCK) {
        cr_assert(!atd_inspection_is_whole(inspection));
        cr_assert_eq(atd_inspection_feed(inspection, (struct atd_bytes){tar.ptr + at, BLOCK}, NULL),
                     0);
    }
    cr_assert(!atd_inspection_is_whole(inspection));
    cr_assert_eq(atd_inspection_feed(inspection, (struct atd_bytes){tar.ptr + at, 2 * BLOCK}, NULL),
                 0);
    cr_assert(atd_inspection_is_whole(inspection));
    cr_assert_eq(atd_inspection_feed(inspection, (struct atd_bytes){tar.ptr, BLOCK}, NULL), 0);
    cr_assert(!atd_inspection_is_whole(inspection));
    atd_inspection_free(inspection);
    inspection = atd_inspection_new(NULL);
    cr_assert(!atd_inspection_is_whole(inspection));
    cr_assert_eq(atd_inspection_feed(inspection, (struct atd_bytes){tar.ptr + 1, 5000}, NULL),
                 -EINVAL);
    cr_assert(atd_inspection_is_whole(inspection)); /* the verdict is known */
    atd_inspection_free(inspection);
    atd_inspection_free(NULL);
}

Test(inspect, an_index_with_too_many_names_is_given_up, .timeout = 60)
{
    struct atd_inspection *inspection = atd_inspection_new(NULL);
    struct atd_inspect_result result;
    struct atd_error err = ATD_ERROR_INIT;
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    char *name = malloc(65001);
    unsigned count = ATD_INSPECT_NAMES_BYTES_MAX / 65000 + 2;

    memset(name, 'd', 65000);
    name[65000] = '\0';
    for (unsigned i = 0; i < count; i++) {
        (void)snprintf(name + 64980, 21, "/%08u.txt", i);
        atd_buf_clear(&tar);
        put_member(&tar, "././@LongLink", 'L', (struct atd_bytes){(uint8_t *)name, 65000});
        put_text_member(&tar, "short", "x");
        cr_assert_eq(atd_inspection_feed(inspection, atd_buf_bytes(&tar), &err), 0, "%s", err.text);
    }
    atd_buf_clear(&tar);
    put_end(&tar);
    cr_assert_eq(atd_inspection_feed(inspection, atd_buf_bytes(&tar), &err), 0);
    cr_assert_eq(atd_inspection_finish(inspection, &result, &err), 0, "%s", err.text);
    cr_assert_eq(result.members, count);
    cr_assert_eq(result.samples, count);
    cr_assert_eq(atd_inspection_member_count(inspection), 0);
    atd_inspection_free(inspection);
    free(name);
}

Test(inspect, other_files_are_refused)
{
    static const struct atd_str heads[] = {{"\xff\xd8\xff\xe0\0\x10JFIF", 10},
                                           {"PK\x03\x04", 4},
                                           {"BZh91AY is not the magic", 24},
                                           {"\x93NUMPY", 6}};
    uint8_t content[3000];
    uint64_t state = 99;

    for (size_t i = 0; i < ATD_ARRAY_LEN(heads); i++) {
        for (size_t at = 0; at < sizeof(content); at++)
            content[at] = (uint8_t)next_random(&state);
        memcpy(content, heads[i].ptr, heads[i].len);
        check_refused((struct atd_bytes){content, sizeof(content)}, NULL,
                      "file is not a tar: no valid header at byte 0");
    }
}
