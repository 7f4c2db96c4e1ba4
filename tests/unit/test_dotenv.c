#include "codec/dotenv.h"

#include <errno.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "vectors.h"

#define ARENA_BYTES (16u << 20)

/* The environment that the vectors were made with. */
static const char *environment(void *ctx, const char *name)
{
    cr_assert_null(ctx);
    if (strcmp(name, "FROM_ENV") == 0)
        return "outer";
    if (strcmp(name, "BOTH") == 0)
        return "outer-both";
    return strcmp(name, "EMPTY_ENV") == 0 ? "" : NULL;
}

static void check_pairs(struct atd_str text, const struct atd_dotenv *env, const json_t *expected)
{
    cr_assert_eq(env->count, json_array_size(expected), "'%s': %zu", text.ptr, env->count);
    for (size_t i = 0; i < env->count; i++) {
        const json_t *key = json_array_get(json_array_get(expected, i), 0);
        const json_t *value = json_array_get(json_array_get(expected, i), 1);
        const struct atd_dotenv_pair *pair = &env->pairs[i];

        cr_assert(atd_str_equal(pair->key,
                                (struct atd_str){json_string_value(key), json_string_length(key)}),
                  "'%s'", text.ptr);
        cr_assert_eq(pair->value.ptr == NULL, json_is_null(value), "'%s'", text.ptr);
        if (pair->value.ptr)
            cr_assert(atd_str_equal(pair->value, (struct atd_str){json_string_value(value),
                                                                  json_string_length(value)}),
                      "'%s': '%s', not '%s'", text.ptr, pair->value.ptr, json_string_value(value));
        cr_assert_eq(atd_dotenv_find(env, pair->key), pair);
    }
}

Test(dotenv, as_python_dotenv_reads)
{
    json_t *cases = load_json("vectors/dotenv.json");
    size_t i;
    json_t *item;

    json_array_foreach(cases, i, item)
    {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
        struct atd_str text = json_member_str(item, "text");
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_dotenv env;

        cr_assert_eq(atd_dotenv_parse(text, environment, NULL, &arena, &env, &err), 0, "'%s': %s",
                     text.ptr, err.text);
        check_pairs(text, &env, json_object_get(item, "pairs"));
        cr_assert_eq(env.bad_line_count,
                     (size_t)json_integer_value(json_object_get(item, "bad_lines")), "'%s': %zu",
                     text.ptr, env.bad_line_count);
        cr_assert_eq(env.bad_line_count == 0, env.first_bad_line == 0);
    }
    cr_assert_gt(json_array_size(cases), 600);
    json_decref(cases);
}

Test(dotenv, the_first_bad_line_is_counted_from_one)
{
    static const struct {
        const char *text;
        size_t count, first;
    } cases[] = {
        {"A=1\n", 0, 0},         {"=\n", 1, 1},       {"A=1\n\n\n  x y\n=\n", 2, 4},
        {"A='1\n2'\r\n=", 1, 3}, {"A=1\n'x\n", 1, 2},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
        struct atd_dotenv env;

        cr_assert_eq(atd_dotenv_parse(atd_str_from(cases[i].text), NULL, NULL, &arena, &env, NULL),
                     0);
        cr_assert_eq(env.bad_line_count, cases[i].count, "case %zu", i);
        cr_assert_eq(env.first_bad_line, cases[i].first, "case %zu: %zu", i, env.first_bad_line);
    }
}

Test(dotenv, absent_and_without_value)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
    struct atd_dotenv env;

    cr_assert_eq(atd_dotenv_parse(ATD_STR("A\nB=\nC=${HOME}"), NULL, NULL, &arena, &env, NULL), 0);
    cr_assert_null(atd_dotenv_find(&env, ATD_STR("D")));
    cr_assert_null(atd_dotenv_find(&env, ATD_STR("A"))->value.ptr);
    cr_assert_not_null(atd_dotenv_find(&env, ATD_STR("B"))->value.ptr);
    cr_assert_eq(atd_dotenv_find(&env, ATD_STR("C"))->value.len, 0);
}

/* `unit` repeated `count` times between the other two; errors must quote nothing of it. */
static int parse_repeated(const char *before, const char *unit, size_t count, const char *after,
                          struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(4u << 20);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
    struct atd_dotenv env;

    atd_buf_append_text(&text, before);
    for (size_t i = 0; i < count; i++)
        atd_buf_append_text(&text, unit);
    atd_buf_append_text(&text, after);
    cr_assert_eq(text.failed, 0);
    return atd_dotenv_parse(atd_buf_str(&text), NULL, NULL, &arena, &env, err);
}

Test(dotenv, hostile_files_end_fast, .timeout = 30)
{
    struct atd_error err = ATD_ERROR_INIT;
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 20);
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ARENA_BYTES);
    struct atd_arena none = ATD_ARENA_INIT(0);
    struct atd_dotenv env;

    cr_assert_eq(parse_repeated("A=", "x", (1u << 20) - 2, "", &err), 0, "%s", err.text);
    cr_assert_eq(parse_repeated("A=", "x", (1u << 20) - 1, "", &err), -E2BIG);
    cr_assert_str_eq(err.text, "env file is longer than 1048576 bytes");
    cr_assert_eq(parse_repeated("A=secret\xff", "", 0, "", &err), -EINVAL);
    cr_assert_str_eq(err.text, "env file is not UTF-8 at byte 8");
    cr_assert_eq(parse_repeated("A=xxxxxxxxxx\n", "A=${A}${A}\n", 40, "", &err), -E2BIG);
    cr_assert_str_eq(err.text, "env file: values are longer than 4194304 bytes");
    /* No value is long, all of them together are: 5 times 1,000,000 bytes. */
    cr_assert_eq(
        parse_repeated("A=", "x", 1000000, "\nB=$A\nC=${A}\nD=${A}\nE=${A}\nF=${A}\n", &err),
        -E2BIG);
    cr_assert_str_eq(err.text, "env file: values are longer than 4194304 bytes");
    cr_assert_eq(parse_repeated("A=", "x", 1000000, "\nB=$A\nC=${A}\nD=${A}\nE=${A}\n", &err), 0);
    /* What could take a pass over the rest for each beginning. */
    cr_assert_eq(parse_repeated("A=", "${", 500000, "", &err), 0);
    cr_assert_eq(parse_repeated("A=", "${", 500000, ":x}", &err), 0);
    cr_assert_eq(parse_repeated("A=}", "${:-", 250000, "", &err), 0);
    cr_assert_eq(parse_repeated("A=", "${:", 340000, "}", &err), 0);
    cr_assert_eq(parse_repeated("", "A='\n", 250000, "", &err), 0);
    cr_assert_eq(parse_repeated("", "A=\"\n", 250000, "", &err), 0);
    cr_assert_eq(parse_repeated("", "'\n", 500000, "", &err), 0);
    cr_assert_eq(parse_repeated("", "=\n", 500000, "", &err), 0);
    cr_assert_eq(parse_repeated("", "A\n", 500000, "", &err), 0);
    cr_assert_eq(parse_repeated("A=", " ", 1000000, "", &err), 0);
    for (int i = 0; i < 4097; i++)
        atd_buf_printf(&text, "K%d=%d\n", i, i);
    cr_assert_eq(atd_dotenv_parse(atd_buf_str(&text), NULL, NULL, &arena, &env, &err), -E2BIG);
    cr_assert_str_eq(err.text, "env file has more than 4096 keys");
    text.len -= strlen("K4096=4096\n");
    cr_assert_eq(atd_dotenv_parse(atd_buf_str(&text), NULL, NULL, &arena, &env, &err), 0);
    cr_assert_eq(env.count, 4096);
    cr_assert(atd_str_equal(atd_dotenv_find(&env, ATD_STR("K4095"))->value, ATD_STR("4095")));
    cr_assert_eq(atd_dotenv_parse(ATD_STR("A=1"), NULL, NULL, &none, &env, &err), -ENOMEM);
}
