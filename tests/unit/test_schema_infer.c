#include "codec/schema_infer.h"

#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/python_name.h"
#include "schema_text.h"
#include "vectors.h"

#define ARENA_BYTES (64u << 20)

static struct atd_schema finish(const struct atd_schema_inferrer *inferrer, struct atd_arena *arena)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_schema schema;

    cr_assert_eq(atd_schema_inferrer_finish(inferrer, ATD_STR("X"), ATD_STR("1.0.0"),
                                            ATD_STR("2026-01-02T03:04:05+00:00"), arena, &schema,
                                            &err),
                 0, "%s", err.text);
    return schema;
}

/* An array of 3 floats, 4 bytes each, in the compact form; 2 of 8 bytes as .npy is in the vectors.
 */
#define ARRAY_F4 "{\"$bytes\": \"AzxmNAEBAAAAAAAAAAAAAAA=\"}"
#define ARRAY_I8 "{\"$bytes\": \"AzxpOAAFAAAAAAAAAA==\"}"
#define ARRAY_BIG_I2 "{\"$bytes\": \"Az5pMgAAAQ==\"}"
#define BYTES "{\"$bytes\": \"AAEC\"}"

Test(schema_infer, what_the_library_publishes_of_the_class)
{
    json_t *cases = load_json("vectors/infer.json");
    atd_auto_buf struct atd_buf got = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf wanted = ATD_BUF_INIT(1 << 20);
    atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(1 << 20);
    size_t i;
    json_t *item;

    cr_assert_gt(json_array_size(cases), 30);
    json_array_foreach(cases, i, item)
    {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
        struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
        struct atd_error err = ATD_ERROR_INIT;
        const struct atd_schema *published;
        struct atd_schema inferred;
        struct atd_sample samples[4];
        json_t *sample;
        size_t n;

        json_array_foreach(json_object_get(item, "samples"), n, sample)
        {
            struct atd_bytes bytes = from_base64(
                (struct atd_str){json_string_value(sample), json_string_length(sample)}, &packed);

            cr_assert_lt(n, ATD_ARRAY_LEN(samples));
            bytes = atd_arena_bytes(&arena, bytes);
            cr_assert_eq(atd_sample_decode(bytes, &arena, &samples[n], &err), 0, "%s", err.text);
            cr_assert_eq(atd_schema_inferrer_add(inferrer, &samples[n], &err), 0, "%s", err.text);
        }
        cr_assert_eq(atd_schema_decode(atd_str_bytes(json_member_str(item, "schema")), &arena,
                                       &published, &err),
                     0, "%s", err.text);
        inferred = finish(inferrer, &arena);
        cr_assert_str_eq(schema_text(&inferred, &got), schema_text(published, &wanted));
        cr_assert(atd_schema_same_fields(&inferred, published));
        for (size_t s = 0; s < n; s++) {
            cr_assert_eq(atd_schema_conforms(published, &samples[s], &err), 0, "%s", err.text);
            cr_assert_eq(atd_schema_conforms(&inferred, &samples[s], &err), 0, "%s", err.text);
        }
        atd_schema_inferrer_free(inferrer);
    }
    json_decref(cases);
}

/* Samples on lines of their own. */
static const struct {
    const char *samples;
    const char *schema; /* NULL: the last sample fails, with this in its sentence: */
    const char *complaint;
} inferences[] = {
    {"{\"a\": 1}", "a:int", NULL},
    {"{\"b\": 1, \"a\": \"x\"}\n{\"a\": \"y\", \"b\": 2}", "b:int a:str", NULL},
    {"{\"a\": 1}\n{\"a\": 1.5}", "a:float", NULL},
    {"{\"a\": true}\n{\"a\": 7}", "a:int", NULL},
    {"{\"a\": 0.5}\n{\"a\": false}", "a:float", NULL},
    {"{\"a\": true}\n{\"a\": false}", "a:bool", NULL},
    /* optional: nil, absent before, absent after */
    {"{\"a\": null, \"b\": 1}\n{\"a\": 1, \"b\": 1}", "b:int a:int?", NULL},
    {"{\"b\": 1}\n{\"a\": 1, \"b\": 1}", "b:int a:int?", NULL},
    {"{\"a\": 1, \"b\": 1}\n{\"b\": 1}", "b:int a:int?", NULL},
    {"{\"c\": null}\n{}\n{\"d\": 1}", "c:str? d:int?", NULL},
    {"{\"z\": 1, \"y\": null, \"x\": 1, \"w\": null}", "z:int x:int y:str? w:str?", NULL},
    /* lists */
    {"{\"a\": []}", "a:list", NULL},
    {"{\"a\": [null]}", "a:list", NULL},
    {"{\"a\": [null, 1]}", "a:list[int]", NULL},
    {"{\"a\": []}\n{\"a\": [\"x\"]}\n{\"a\": []}", "a:list[str]", NULL},
    {"{\"a\": [1, 2.5]}", "a:list[float]", NULL},
    {"{\"a\": [1, \"x\", 2]}", "a:list", NULL},
    {"{\"a\": [1]}\n{\"a\": [\"x\"]}\n{\"a\": [1]}", "a:list", NULL},
    {"{\"a\": [[1], [\"x\"]]}", "a:list[list]", NULL},
    {"{\"a\": [[1], 1]}", "a:list", NULL},
    {"{\"a\": [1, [1]]}", "a:list", NULL},
    {"{\"a\": [[]]}", "a:list[list]", NULL},
    {"{\"a\": [[], [[2]]]}\n{\"a\": []}", "a:list[list[list[int]]]", NULL},
    {"{\"a\": [{\"k\": 1}]}", "a:list", NULL},
    {"{\"a\": [" ARRAY_F4 "]}", "a:list[bytes]", NULL},
    {"{\"a\": [[[[[[[[1]]]]]]]]}", "a:list[list[list[list[list[list[list[list[int]]]]]]]]", NULL},
    {"{\"a\": [[[[[[[[[1]]]]]]]]]}", "a:list[list[list[list[list[list[list[list]]]]]]]", NULL},
    {"{\"a\": [[[[[[[[[[\"x\", 1]]]]]]]]]]}", "a:list[list[list[list[list[list[list[list]]]]]]]",
     NULL},
    /* arrays */
    {"{\"a\": " ARRAY_F4 "}\n{\"a\": " ARRAY_F4 "}", "a:ndarray(float32)", NULL},
    {"{\"a\": " ARRAY_I8 "}", "a:ndarray(int64)", NULL},
    {"{\"a\": " ARRAY_BIG_I2 "}", "a:ndarray(int16)", NULL},
    {"{\"a\": " ARRAY_I8 "}\n{\"a\": " ARRAY_BIG_I2 "}\n{\"a\": " ARRAY_I8 "}",
     "a:ndarray(float32)", NULL},
    {"{\"a\": " ARRAY_I8 "}\n{\"a\": " BYTES "}", "a:bytes", NULL},
    {"{\"a\": " BYTES "}\n{\"a\": " ARRAY_I8 "}\n{\"a\": null}", "a:bytes?", NULL},
    /* what no schema has */
    {"{\"a\": {}}", NULL, "field 'a' is a map"},
    {"{\"a\": null}\n{\"a\": {\"k\": 1}}", NULL, "field 'a' is a map"},
    {"{\"ok\": 1, \"a\": 1}\n{\"ok\": 1, \"a\": \"x\"}", NULL,
     "field 'a' is text here and was an int"},
    {"{\"a\": [1]}\n{\"a\": 1}", NULL, "field 'a' is an int here and was a list"},
    {"{\"a\": []}\n{\"a\": \"x\"}", NULL, "field 'a' is text here and was a list"},
    {"{\"a\": \"x\"}\n{\"a\": " BYTES "}", NULL, "field 'a' is bytes here and was text"},
    {"{\"a\": " ARRAY_I8 "}\n{\"a\": 0.5}", NULL, "field 'a' is a float here and was an array"},
    {"{\"a b\": 1}", NULL, "field 'a b' has a name that is no Python identifier"},
    {"{\"class\": 1}", NULL, "field 'class' has a name"},
    {"{\"\": 1}", NULL, "field '' has a name"},
    {"{\"_a\": 1}", NULL, "field '_a' has a name that the sample class reserves"},
    {"{\"as_wds\": 1}", NULL, "reserves"},
    {"{\"e\\u0301\": 1}", NULL, "identifier"},
};

/* Adds every line; the first error ends it. */
static int add_lines(struct atd_schema_inferrer *inferrer, const char *lines, bool backwards,
                     struct atd_arena *arena, struct atd_error *err)
{
    const char *starts[8];
    size_t count = 0;
    int rc = 0;

    for (const char *line = lines; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        starts[count++] = line;
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        const char *line = starts[backwards ? count - 1 - i : i];
        struct atd_sample sample =
            sample_from_json((struct atd_str){line, strcspn(line, "\n")}, arena);

        rc = atd_schema_inferrer_add(inferrer, &sample, err);
    }
    return rc;
}

Test(schema_infer, table)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 16);

    for (size_t i = 0; i < ATD_ARRAY_LEN(inferences); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
        struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
        struct atd_error err = ATD_ERROR_INIT;
        int rc = add_lines(inferrer, inferences[i].samples, false, &arena, &err);

        if (inferences[i].schema) {
            struct atd_schema schema;

            cr_assert_eq(rc, 0, "%s: %s", inferences[i].samples, err.text);
            schema = finish(inferrer, &arena);
            cr_assert_str_eq(schema_text(&schema, &text), inferences[i].schema, "%s",
                             inferences[i].samples);
        } else {
            cr_assert_eq(rc, -EINVAL, "%s", inferences[i].samples);
            cr_assert(strstr(err.text, inferences[i].complaint), "%s: %s", inferences[i].samples,
                      err.text);
        }
        atd_schema_inferrer_free(inferrer);
    }
}

/* Types and optionality do not depend on the order of samples; and each conforms to the result. */
/* A file of its own for each sample. */
static int merge_lines(struct atd_schema_inferrer *inferrer, const char *lines,
                       struct atd_arena *arena, struct atd_error *err)
{
    int rc = 0;

    for (const char *line = lines; line && rc == 0; line = strchr(line, '\n')) {
        struct atd_schema_inferrer *other = atd_schema_inferrer_new();
        struct atd_sample sample;

        line += *line == '\n';
        sample = sample_from_json((struct atd_str){line, strcspn(line, "\n")}, arena);
        rc = atd_schema_inferrer_add(other, &sample, err);
        if (rc == 0)
            rc = atd_schema_inferrer_merge(inferrer, other, err);
        atd_schema_inferrer_free(other);
    }
    return rc;
}

Test(schema_infer, several_files_are_as_one)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 16);

    for (size_t i = 0; i < ATD_ARRAY_LEN(inferences); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
        struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
        struct atd_error err = ATD_ERROR_INIT;
        int rc = merge_lines(inferrer, inferences[i].samples, &arena, &err);

        if (inferences[i].schema) {
            struct atd_schema schema;

            cr_assert_eq(rc, 0, "%s: %s", inferences[i].samples, err.text);
            schema = finish(inferrer, &arena);
            cr_expect_str_eq(schema_text(&schema, &text), inferences[i].schema, "%s",
                             inferences[i].samples);
        } else {
            cr_assert_eq(rc, -EINVAL, "%s", inferences[i].samples);
            cr_expect(strstr(err.text, inferences[i].complaint), "%s: %s", inferences[i].samples,
                      err.text);
        }
        atd_schema_inferrer_free(inferrer);
    }
}

/* Several samples in the first of two files: what is missing in one of them is optional. */
Test(schema_infer, files_of_several_samples_count_them_all)
{
    static const struct {
        const char *files[2];
        const char *schema;
    } cases[] = {
        {{"{\"a\": 1}\n{\"a\": 2}", "{\"a\": 3}\n{\"a\": 4}"}, "a:int"},
        {{"{\"a\": 1, \"b\": 1}\n{\"a\": 2}", "{\"a\": 3, \"b\": 1}"}, "a:int b:int?"},
        {{"{\"a\": 1}", "{\"a\": 3, \"b\": 1}\n{\"a\": 3, \"b\": 1}"}, "a:int b:int?"},
        {{"{\"a\": 1, \"b\": 1}\n{\"a\": 2, \"b\": 1}", "{\"a\": 3}"}, "a:int b:int?"},
    };
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 16);

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
        struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
        struct atd_schema schema;

        for (size_t j = 0; j < 2; j++) {
            struct atd_schema_inferrer *other = atd_schema_inferrer_new();

            cr_assert_eq(add_lines(other, cases[i].files[j], false, &arena, NULL), 0);
            cr_assert_eq(atd_schema_inferrer_merge(inferrer, other, NULL), 0);
            atd_schema_inferrer_free(other);
        }
        schema = finish(inferrer, &arena);
        cr_expect_str_eq(schema_text(&schema, &text), cases[i].schema);
        atd_schema_inferrer_free(inferrer);
    }
}

Test(schema_infer, backwards_it_is_the_same_but_for_the_order_of_fields)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(inferences); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
        struct atd_schema_inferrer *forwards = atd_schema_inferrer_new();
        struct atd_schema_inferrer *backwards = atd_schema_inferrer_new();
        struct atd_error err = ATD_ERROR_INIT;
        int rc = add_lines(forwards, inferences[i].samples, false, &arena, NULL);

        cr_assert_eq(add_lines(backwards, inferences[i].samples, true, &arena, &err), rc, "%s",
                     err.text);
        if (rc == 0) {
            struct atd_schema a = finish(forwards, &arena);
            struct atd_schema b = finish(backwards, &arena);

            cr_assert_eq(a.field_count, b.field_count);
            for (size_t f = 0; f < a.field_count; f++) {
                struct atd_schema one = {.fields = &a.fields[f], .field_count = 1};
                bool found = false;

                for (size_t g = 0; g < b.field_count; g++) {
                    struct atd_schema other = {.fields = &b.fields[g], .field_count = 1};

                    found = found || atd_schema_same_fields(&one, &other);
                }
                cr_assert(found, "%s", inferences[i].samples);
            }
            for (const char *line = inferences[i].samples; line; line = strchr(line, '\n')) {
                struct atd_sample sample;

                line += *line == '\n';
                sample = sample_from_json((struct atd_str){line, strcspn(line, "\n")}, &arena);
                cr_assert_eq(atd_schema_conforms(&b, &sample, &err), 0, "%s: %s", line, err.text);
            }
        }
        atd_schema_inferrer_free(forwards);
        atd_schema_inferrer_free(backwards);
    }
}

Test(schema_infer, the_record_is_complete_and_stands_alone)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(1 << 16);
    struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_schema schema;

    cr_assert_eq(
        add_lines(inferrer, "{\"b\": null, \"a\": " ARRAY_F4 ", \"c\": [[]]}", false, &arena, &err),
        0);
    schema = finish(inferrer, &arena);
    atd_schema_inferrer_free(inferrer);
    atd_schema_encode(&schema, &json);
    cr_assert_str_eq(
        (char *)json.ptr,
        "{\"name\": \"X\", \"version\": \"1.0.0\", \"fields\": [{\"name\": \"a\", \"fieldType\": "
        "{\"$type\": \"local#ndarray\", \"dtype\": \"float32\"}, \"optional\": false}, {\"name\": "
        "\"c\", \"fieldType\": {\"$type\": \"local#array\", \"items\": {\"$type\": "
        "\"local#array\"}}, \"optional\": false}, {\"name\": \"b\", \"fieldType\": {\"$type\": "
        "\"local#primitive\", \"primitive\": \"str\"}, \"optional\": true}], \"description\": "
        "null, \"createdAt\": \"2026-01-02T03:04:05+00:00\"}");
}

Test(schema_infer, nothing_seen_is_no_schema)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
    struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_schema schema;

    cr_assert_eq(add_lines(inferrer, "{}\n{}", false, &arena, &err), 0);
    cr_assert_eq(atd_schema_inferrer_finish(inferrer, ATD_STR("X"), ATD_STR("1.0.0"), ATD_STR("t"),
                                            &arena, &schema, &err),
                 -EINVAL);
    atd_schema_inferrer_free(inferrer);
    atd_schema_inferrer_free(NULL);
}

Test(schema_infer, fields_are_limited)
{
    struct atd_sample_field *fields = calloc(ATD_SCHEMA_FIELDS_MAX + 1, sizeof(*fields));
    char(*names)[8] = calloc(ATD_SCHEMA_FIELDS_MAX + 1, sizeof(*names));
    struct atd_sample sample = {.fields = fields, .field_count = ATD_SCHEMA_FIELDS_MAX};
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
    struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
    char long_name[1025];
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_schema schema;

    for (size_t i = 0; i <= ATD_SCHEMA_FIELDS_MAX; i++) {
        /* in no order */
        (void)snprintf(names[i], sizeof(names[i]), "f%zu", i * 709 % 1031);
        fields[i].name = atd_str_from(names[i]);
        fields[i].value.type = ATD_VALUE_UINT;
    }
    cr_assert_eq(atd_schema_inferrer_add(inferrer, &sample, &err), 0, "%s", err.text);
    cr_assert_eq(atd_schema_inferrer_add(inferrer, &sample, &err), 0, "%s", err.text);
    schema = finish(inferrer, &arena);
    cr_assert_eq(schema.field_count, ATD_SCHEMA_FIELDS_MAX);
    for (size_t i = 0; i < schema.field_count; i++)
        cr_assert(atd_str_equal(schema.fields[i].name, fields[i].name));
    cr_assert_eq(atd_schema_conforms(&schema, &sample, &err), 0);
    sample.field_count++;
    cr_assert_eq(atd_schema_inferrer_add(inferrer, &sample, &err), -E2BIG);
    atd_schema_inferrer_free(inferrer);

    memset(long_name, 'a', sizeof(long_name));
    inferrer = atd_schema_inferrer_new();
    sample.field_count = 1;
    fields[0].name = (struct atd_str){long_name, 1024};
    cr_assert_eq(atd_schema_inferrer_add(inferrer, &sample, &err), 0);
    fields[0].name.len = 1025;
    cr_assert_eq(atd_schema_inferrer_add(inferrer, &sample, &err), -EINVAL);
    atd_schema_inferrer_free(inferrer);
    free(fields);
    free(names);
}

/* ------------------------------------------------------------------ plain WebDataset members */

/* Extensions of one sample with blanks between them, samples with bars. */
static const struct {
    const char *members;
    const char *schema;
} plain[] = {
    {"jpg json cls | jpg json cls", "jpg:bytes json:str cls:int"},
    {"txt text transcript jsonl | txt text transcript jsonl",
     "txt:str text:str transcript:str jsonl:str"},
    {"cls2 index count inx id npy", "cls2:int index:int count:int inx:int id:int npy:bytes"},
    {"seg.png a.b.txt x.cls", "seg_png:bytes a_b_txt:str x_cls:int"},
    {"JPG Json", "jpg:bytes json:str"},
    {"jpg | jpg txt | jpg", "jpg:bytes txt:str?"},
    {"txt jpg | jpg", "jpg:bytes txt:str?"},
    {"jpg jpg | txt", "jpg:bytes? txt:str?"},
    {"0.jpg 7z class a-b _x", "field_0_jpg:bytes field_7z:bytes field_class:bytes a_b:bytes "
                              "field__x:bytes"},
    {"\xff\xfe", "field___:bytes"},
    {"packed mro", "field_packed:bytes field_mro:bytes"},
};

Test(schema_infer, members_of_a_plain_webdataset)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 16);

    for (size_t i = 0; i < ATD_ARRAY_LEN(plain); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
        struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_schema schema;
        uint64_t number = 0;

        for (const char *at = plain[i].members; *at; at += strspn(at, " ")) {
            size_t len = strcspn(at, " ");

            if (*at == '|')
                number++;
            else
                cr_assert_eq(atd_schema_inferrer_add_member(inferrer, number,
                                                            (struct atd_str){at, len}, &err),
                             0, "%s", err.text);
            at += len;
        }
        schema = finish(inferrer, &arena);
        cr_assert_str_eq(schema_text(&schema, &text), plain[i].schema);
        for (size_t f = 0; f < schema.field_count; f++)
            cr_assert_null(atd_python_field_problem(schema.fields[f].name));
        atd_schema_inferrer_free(inferrer);
    }
}

Test(schema_infer, members_that_cannot_be)
{
    struct atd_schema_inferrer *inferrer = atd_schema_inferrer_new();
    char name[1025];
    struct atd_error err = ATD_ERROR_INIT;

    memset(name, 'a', sizeof(name));
    cr_assert_eq(atd_schema_inferrer_add_member(inferrer, 0, ATD_STR(""), &err), -EINVAL);
    cr_assert_eq(
        atd_schema_inferrer_add_member(inferrer, 0, (struct atd_str){name, sizeof(name)}, &err),
        -EINVAL);
    name[0] = '0';
    cr_assert_eq(atd_schema_inferrer_add_member(inferrer, 0, (struct atd_str){name, 1018}, &err), 0,
                 "%s", err.text);
    cr_assert_eq(atd_schema_inferrer_add_member(inferrer, 0, ATD_STR("a.txt"), &err), 0);
    cr_assert_eq(atd_schema_inferrer_add_member(inferrer, 1, ATD_STR("a_txt"), &err), -EINVAL);
    cr_assert(strstr(err.text, "field 'a_txt' is bytes here and was text"), "%s", err.text);
    atd_schema_inferrer_free(inferrer);
}

/* ------------------------------------------------------------------ conforming */

static const struct {
    const char *schema;
    const char *sample;
    const char *complaint; /* NULL: it conforms */
} conforming[] = {
    {"a:int b:str?", "{\"a\": 1, \"b\": \"x\"}", NULL},
    {"a:int b:str?", "{\"b\": \"x\", \"a\": 1}", NULL},
    {"a:int b:str?", "{\"a\": 1}", NULL},
    {"a:int b:str?", "{\"a\": 1, \"b\": null}", NULL},
    {"a:int b:str?", "{\"b\": \"x\"}", "field 'a' is missing"},
    {"a:int b:str?", "{}", "field 'a' is missing"},
    {"a:int b:str?", "{\"a\": null}", "field 'a' is nil"},
    {"a:int b:str?", "{\"a\": 1, \"c\": 1}", "field 'c' is not one"},
    {"a:int b:str?", "{\"A\": 1}", "field 'A' is not one"},
    {"a:int b:str?", "{\"a\": \"x\"}", "field 'a' is text, but the schema says int"},
    {"a:int", "{\"a\": -1}", NULL},
    {"a:int", "{\"a\": true}", NULL},
    {"a:int", "{\"a\": 1.5}", "a float"},
    {"a:float", "{\"a\": 1}", NULL},
    {"a:float", "{\"a\": false}", NULL},
    {"a:float", "{\"a\": {\"$float\": \"nan\"}}", NULL},
    {"a:float", "{\"a\": \"1\"}", "text"},
    {"a:bool", "{\"a\": true}", NULL},
    {"a:bool", "{\"a\": 1}", "an int, but the schema says bool"},
    {"a:str", "{\"a\": " BYTES "}", "bytes, but the schema says str"},
    {"a:bytes", "{\"a\": " BYTES "}", NULL},
    {"a:bytes", "{\"a\": " ARRAY_F4 "}", NULL},
    {"a:bytes", "{\"a\": \"x\"}", "text, but the schema says bytes"},
    {"a:ndarray(int8)", "{\"a\": " ARRAY_F4 "}", NULL},
    {"a:ndarray", "{\"a\": " ARRAY_I8 "}", NULL},
    {"a:ndarray", "{\"a\": " BYTES "}", "bytes that are no array"},
    {"a:ndarray", "{\"a\": \"x\"}", "text, but the schema says ndarray"},
    {"a:ndarray", "{\"a\": [1, 2]}", "a list, but the schema says ndarray"},
    {"a:ndarray?", "{\"a\": " BYTES "}", "no array"},
    {"a:list", "{\"a\": [1, \"x\", {}, [null]]}", NULL},
    {"a:list", "{\"a\": \"x\"}", "text, but the schema says a list"},
    {"a:list[int]", "{\"a\": [1, null, 2]}", NULL},
    {"a:list[int]", "{\"a\": []}", NULL},
    {"a:list[int]", "{\"a\": [1, \"x\"]}", "field 'a' holds text, but the schema says int"},
    {"a:list[list[str]]", "{\"a\": [[\"x\"], []]}", NULL},
    {"a:list[list[str]]", "{\"a\": [[\"x\"], [1]]}", "holds an int"},
    {"a:list[list[str]]", "{\"a\": [\"x\"]}", "holds text, but the schema says a list"},
    {"a:list[ndarray]", "{\"a\": [" ARRAY_I8 "]}", NULL},
    {"a:list[ndarray]", "{\"a\": [" BYTES "]}", "holds bytes that are no array"},
    {"a:sparse b:structured c:arrow_tensor d:safetensors e:dataframe",
     "{\"a\": " BYTES ", \"b\": " BYTES ", \"c\": " BYTES ", \"d\": " BYTES ", \"e\": " BYTES "}",
     NULL},
    {"a:dataframe", "{\"a\": 1}", "an int, but the schema says dataframe"},
    {"a:ref b:novelty c:list[novelty]", "{\"a\": 1, \"b\": {}, \"c\": [1, \"x\"]}", NULL},
    {"a:novelty", "{\"a\": null}", "field 'a' is nil"},
    {"a:int", "{\"a\": {}}", "a map"},
    /* A record that no class can be made of must not break anything. */
    {"a:int a:int", "{\"a\": 1}", NULL},
    {"", "{}", NULL},
    {"", "{\"a\": 1}", "field 'a' is not one"},
};

Test(schema_infer, conforming_table)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(conforming); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
        struct atd_schema schema = schema_from_text(conforming[i].schema, &arena);
        struct atd_sample sample = sample_from_json(atd_str_from(conforming[i].sample), &arena);
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atd_schema_conforms(&schema, &sample, &err);

        cr_assert_eq(rc, conforming[i].complaint ? -EINVAL : 0, "%s %s: %s", conforming[i].schema,
                     conforming[i].sample, err.text);
        if (rc < 0)
            cr_assert(strstr(err.text, conforming[i].complaint), "%s", err.text);
    }
}

Test(schema_infer, same_fields)
{
    /* All of these differ from each other. */
    static const char *const different[] = {
        "a:int",
        "b:int",
        "a:int?",
        "a:float",
        "a:list",
        "a:list[int]",
        "a:list[float]",
        "a:list[list[int]]",
        "a:list[list]",
        "a:ndarray(float32)",
        "a:ndarray(int8)",
        "a:ndarray",
        "a:structured(int8)",
        "a:sparse",
        "a:bytes",
        "a:novelty",
        "a:other",
        "a:int b:int",
        "b:int a:int",
        "",
    };
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);

    for (size_t i = 0; i < ATD_ARRAY_LEN(different); i++) {
        struct atd_schema a = schema_from_text(different[i], &arena);

        for (size_t k = 0; k < ATD_ARRAY_LEN(different); k++) {
            struct atd_schema b = schema_from_text(different[k], &arena);

            b.name = ATD_STR("Other");
            b.version = ATD_STR("2.0.0");
            b.description = ATD_STR("other");
            cr_assert_eq(atd_schema_same_fields(&a, &b), i == k, "'%s' '%s'", different[i],
                         different[k]);
        }
    }
}

/* ------------------------------------------------------------------ class names */

Test(schema_infer, class_names)
{
    static const char *const names[][2] = {
        {"mnist", "Mnist"},
        {"mnist-train v2", "MnistTrainV2"},
        {"team/2024", "Team2024"},
        {"2024", "Dataset2024"},
        {"2024/x", "Dataset2024X"},
        {"my_data.set", "MyDataSet"},
        {"myDataSET", "MyDataSET"},
        {"", "DatasetSample"},
        {"---", "DatasetSample"},
        {"\xe6\x95\xb0\xe6\x8d\xae", "DatasetSample"},
        {"caf\xc3\xa9-1", "Caf1"},
        {"na\xc3\xafve", "Nave"},
        {"none", "DatasetNone"},
        {"True", "DatasetTrue"},
        {"false", "DatasetFalse"},
        {"class", "Class"},
        {"NDArray", "DatasetNDArray"},
        {"packable sample", "DatasetPackableSample"},
        {"\xff\xfe x", "X"},
        {"_private", "Private"},
        {"a\nb", "AB"},
    };
    char long_name[300];
    char got[ATD_CLASS_NAME_SIZE];

    for (size_t i = 0; i < ATD_ARRAY_LEN(names); i++) {
        atd_class_name_of(atd_str_from(names[i][0]), got);
        cr_assert_str_eq(got, names[i][1]);
    }
    memset(long_name, 'a', sizeof(long_name));
    atd_class_name_of((struct atd_str){long_name, sizeof(long_name)}, got);
    cr_assert_eq(strlen(got), 127);
    long_name[0] = '1';
    atd_class_name_of((struct atd_str){long_name, sizeof(long_name)}, got);
    cr_assert_eq(strlen(got), 127);
    cr_assert_eq(strncmp(got, "Dataset1aa", 10), 0);
}
