#include <criterion/criterion.h>
#include <errno.h>

#include "atdata/cid.h"
#include "base/cleanup.h"
#include "vectors.h"

struct input {
    struct atd_arena arena;
    struct atd_str schema_ref;
    struct atd_str *urls;
    size_t url_count;
};

static struct atd_str repeat(struct input *in, char c, size_t len, const char *before,
                             const char *behind)
{
    size_t before_len = strlen(before);
    size_t total = before_len + len + strlen(behind);
    char *text = atd_arena_alloc(&in->arena, total + 1);

    cr_assert_not_null(text);
    memcpy(text, before, before_len);
    memset(text + before_len, c, len);
    memcpy(text + before_len + len, behind, strlen(behind));
    return (struct atd_str){text, total};
}

static void generate_urls(struct input *in, const json_t *gen)
{
    const char *kind = json_string_value(json_object_get(gen, "kind"));

    if (strcmp(kind, "repeat") == 0) {
        in->url_count = 1;
        in->urls = atd_arena_alloc(&in->arena, sizeof(*in->urls));
        in->urls[0] = repeat(in, json_string_value(json_object_get(gen, "char"))[0],
                             (size_t)json_integer_value(json_object_get(gen, "length")), "", "");
        return;
    }
    in->url_count = (size_t)json_integer_value(json_object_get(gen, "count"));
    in->urls = atd_arena_alloc_array(&in->arena, in->url_count, sizeof(*in->urls));
    for (size_t i = 0; i < in->url_count; i++) {
        char url[128];

        if (strcmp(kind, "shards") == 0)
            (void)snprintf(url, sizeof(url),
                           "s3://my-bucket/datasets/data--00000000-0000-4000-8000-000000000000--"
                           "%06zu.tar",
                           i);
        else
            (void)snprintf(url, sizeof(url), "%zu", i);
        in->urls[i] = atd_arena_str(&in->arena, atd_str_from(url));
    }
}

static void load_input(struct input *in, const json_t *vector)
{
    json_t *ref_gen = json_object_get(vector, "schema_ref_gen");
    json_t *url_gen = json_object_get(vector, "data_urls_gen");

    atd_arena_init(&in->arena, 1 << 28);
    if (ref_gen) {
        const char *before = json_string_value(json_object_get(ref_gen, "prefix"));
        const char *behind = json_string_value(json_object_get(ref_gen, "suffix"));

        in->schema_ref = repeat(in, json_string_value(json_object_get(ref_gen, "char"))[0],
                                (size_t)json_integer_value(json_object_get(ref_gen, "length")),
                                before ? before : "", behind ? behind : "");
    } else {
        in->schema_ref = json_member_str(vector, "schema_ref");
    }
    if (url_gen) {
        generate_urls(in, url_gen);
    } else {
        json_t *urls = json_object_get(vector, "data_urls");
        json_t *url;
        size_t i;

        in->url_count = json_array_size(urls);
        in->urls = atd_arena_alloc_array(&in->arena, in->url_count, sizeof(*in->urls));
        json_array_foreach(urls, i, url) in->urls[i] =
            (struct atd_str){json_string_value(url), json_string_length(url)};
    }
}

Test(cid, every_vector)
{
    json_t *file = load_json("vectors/cid.json");
    json_t *vector;
    size_t i;

    json_array_foreach(json_object_get(file, "vectors"), i, vector)
    {
        struct input in = {0};
        struct atd_cid cid;
        struct atd_error err = ATD_ERROR_INIT;

        load_input(&in, vector);
        cr_assert_eq(atd_cid_compute(in.schema_ref, in.urls, in.url_count, &cid, &err), 0, "%s: %s",
                     json_member_str(vector, "name").ptr, err.text);
        cr_assert_str_eq(cid.text, json_member_str(vector, "cid").ptr, "%s",
                         json_member_str(vector, "name").ptr);
        cr_assert(atd_cid_is_valid(atd_str_from(cid.text)));
        atd_arena_release(&in.arena);
    }
    cr_assert_geq(i, 52);
    json_decref(file);
}

Test(cid, empty_list_and_empty_reference)
{
    struct atd_cid cid;

    cr_assert_eq(atd_cid_compute(ATD_STR(""), NULL, 0, &cid, NULL), 0);
    cr_assert_str_eq(cid.text, "bafyreigmrfzvbhlg2v2tzguixdiadso3cu36r2s6hbsipqc2iilyz34oc4");
}

Test(cid, text_that_is_not_utf8)
{
    struct atd_str urls[] = {ATD_STR("a"), ATD_STR("b\xed\xa0\x80")};
    struct atd_cid cid = {"untouched"};
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_cid_compute(ATD_STR("r"), urls, 2, &cid, &err), -EINVAL);
    cr_assert_str_eq(err.text, "url 1 is not valid utf-8 at byte 1");
    cr_assert_eq(atd_cid_compute(ATD_STR("\xff"), urls, 1, &cid, &err), -EINVAL);
    cr_assert_str_eq(err.text, "schema reference is not valid utf-8 at byte 0");
    cr_assert_str_eq(cid.text, "untouched");
}

Test(cid, is_valid)
{
    char cid[] = "bafyreigmrfzvbhlg2v2tzguixdiadso3cu36r2s6hbsipqc2iilyz34oc4";
    static const char wrong[] = "ABZ0189-_= \n\xff";

    cr_assert(atd_cid_is_valid(atd_str_from(cid)));
    cr_assert_not(atd_cid_is_valid(atd_str_head(atd_str_from(cid), ATD_CID_TEXT_LEN - 1)));
    cr_assert_not(atd_cid_is_valid((struct atd_str){cid, sizeof(cid)}));
    cr_assert_not(atd_cid_is_valid(ATD_STR("")));
    for (size_t i = 0; i < sizeof(wrong); i++) {
        cid[40] = wrong[i];
        cr_assert_not(atd_cid_is_valid((struct atd_str){cid, ATD_CID_TEXT_LEN}));
    }
    cid[40] = 'a';
    cid[6] = 'h';
    cr_assert_not(atd_cid_is_valid(atd_str_from(cid)));
}
