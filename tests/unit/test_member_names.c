#include "dataset/member_names.h"

#include <stdio.h>
#include <stdlib.h>

#include <criterion/criterion.h>

#include "base/check.h"

/* Members by their names alone; in place of dataset/members.c. */
struct atd_members {
    const struct atd_str *names;
    size_t count;
    uint64_t size_bytes;
};

struct atd_members *atd_members_ref(struct atd_members *members)
{
    return members;
}

void atd_members_unref(struct atd_members *members)
{
    (void)members;
}

size_t atd_members_count(const struct atd_members *members)
{
    return members->count;
}

struct atd_member atd_members_at(const struct atd_members *members, size_t place)
{
    return (struct atd_member){members->names[place], 512 * (1 + 2 * place), members->size_bytes};
}

static struct atd_member_names *make(const struct atd_str *list, size_t count, uint64_t size_bytes)
{
    static struct atd_members members;
    struct atd_member_names *names;
    struct atd_error err = ATD_ERROR_INIT;

    members = (struct atd_members){list, count, size_bytes};
    cr_assert_eq(atd_member_names_new(&members, &names, &err), 0, "%s", err.text);
    for (size_t i = 1; i < atd_member_names_count(names); i++)
        cr_assert(atd_str_compare(atd_member_names_at(names, i - 1).name,
                                  atd_member_names_at(names, i).name) < 0);
    for (size_t i = 0; i < atd_member_names_count(names); i++) {
        struct atd_member_name at = atd_member_names_at(names, i);
        struct atd_member_name found;

        cr_assert(at.name.len > 0 && at.name.len <= 255);
        cr_assert(atd_member_names_find(names, at.name, &found));
        cr_assert_eq(found.member.data_offset, at.member.data_offset);
    }
    return names;
}

Test(member_names, what_each_member_is_called)
{
    static const struct {
        struct atd_str member;
        const char *shown; /* NULL: it is not */
        bool is_sample;
    } cases[] = {
        {{"a.jpg", 5}, "a.jpg", false},
        {{"b.msgpack", 9}, "b", true},
        {{"c.MSGPACK", 9}, "c", true},
        {{"d.x.msgpack", 11}, "d.x.msgpack", false},
        {{"./e.jpg", 7}, "e.jpg", false},
        {{"f/g.jpg", 7}, "f%2Fg.jpg", false},
        {{"f/h.msgpack", 11}, "f%2Fh", true},
        {{"/i.jpg", 6}, "%2Fi.jpg", false},
        {{"../j.jpg", 8}, "%2E.%2Fj.jpg", false},
        {{"k.a b", 5}, "k.a b", false},
        {{"l.\xff", 3}, "l.%FF", false},
        {{"m\n.jpg", 6}, "m%0A.jpg", false},
        {{"README", 6}, NULL, false},
        {{".hidden", 7}, NULL, false},
        {{"__n__/o.jpg", 11}, NULL, false},
        {{"p.", 2}, "p.", false},
    };
    struct atd_str list[sizeof(cases) / sizeof(cases[0])];
    struct atd_member_names *names;
    struct atd_member_name found;
    size_t shown = 0;

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++)
        list[i] = cases[i].member;
    names = make(list, ATD_ARRAY_LEN(list), 10);
    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        if (!cases[i].shown)
            continue;
        shown++;
        cr_assert(atd_member_names_find(names, atd_str_from(cases[i].shown), &found), "%s",
                  cases[i].shown);
        cr_assert(found.is_sample == cases[i].is_sample &&
                  atd_str_equal(found.member.name, cases[i].member));
    }
    cr_assert_eq(atd_member_names_count(names), shown);
    cr_assert_not(atd_member_names_find(names, ATD_STR("none"), &found));
    atd_member_names_unref(names);
}

Test(member_names, equal_names_get_numbers_that_are_free)
{
    static const struct atd_str list[] = {{"a.jpg", 5},    {"a.jpg", 5}, {"a~2.jpg", 7},
                                          {"./a.jpg", 7},  {"b.c", 3},   {"b.msgpack", 9},
                                          {"b.msgpack", 9}};
    static const char *const wanted[] = {"a.jpg", "a~2.jpg", "a~3.jpg", "a~4.jpg",
                                         "b",     "b.c",     "b~2"};
    struct atd_member_names *names = make(list, ATD_ARRAY_LEN(list), 10);

    cr_assert_eq(atd_member_names_count(names), ATD_ARRAY_LEN(wanted));
    for (size_t i = 0; i < ATD_ARRAY_LEN(wanted); i++)
        cr_assert(atd_str_equal(atd_member_names_at(names, i).name, atd_str_from(wanted[i])), "%s",
                  wanted[i]);
    /* In stored order. */
    cr_assert_eq(atd_member_names_at(names, 0).member.data_offset, 512);
    cr_assert_eq(atd_member_names_at(names, 2).member.data_offset, 512 * 3);
    cr_assert_eq(atd_member_names_at(names, 3).member.data_offset, 512 * 7);
    atd_member_names_unref(names);
}

Test(member_names, long_names_keep_their_extension)
{
    char text[3][400];
    struct atd_str list[3];
    struct atd_member_names *names;

    for (int i = 0; i < 3; i++) {
        memset(text[i], 'x', sizeof(text[i]));
        memcpy(text[i] + 396, ".jpg", 4);
        text[i][395] = (char)('a' + i);
        list[i] = (struct atd_str){text[i], sizeof(text[i])};
    }
    memset(text[2] + 300, '.', 100); /* an extension that is too long to be kept */
    names = make(list, 3, 10);
    cr_assert_eq(atd_member_names_count(names), 3);
    for (size_t i = 0; i < 2; i++)
        cr_assert_eq(atd_member_names_at(names, i).name.len, 255);
    atd_member_names_unref(names);
}

Test(member_names, what_is_too_large_to_decode_is_a_file)
{
    static const struct atd_str list[] = {{"a.msgpack", 9}};
    struct atd_member_names *names = make(list, 1, ATD_SAMPLE_BYTES_MAX + 1ull);

    cr_assert(atd_str_equal(atd_member_names_at(names, 0).name, ATD_STR("a.msgpack")));
    cr_assert_not(atd_member_names_at(names, 0).is_sample);
    atd_member_names_unref(names);
}

/* 100,000 members of one name, and the names that they would get: no quadratic work. */
Test(member_names, many_equal_names, .timeout = 60)
{
    enum { COUNT = 100000 };
    struct atd_str *list = calloc(2 * COUNT, sizeof(*list));
    char *text = malloc((size_t)COUNT * 16);
    struct atd_member_names *names;

    for (int i = 0; i < COUNT; i++) {
        int len = snprintf(text + 16 * i, 16, "a~%d.b", i + 2);

        list[2 * i] = ATD_STR("a.b");
        list[2 * i + 1] = (struct atd_str){text + 16 * i, (size_t)len};
    }
    names = make(list, 2 * COUNT, 1);
    cr_assert_eq(atd_member_names_count(names), 2 * COUNT);
    atd_member_names_unref(names);
    free(list);
    free(text);
}

Test(member_names, samples_are_runs_of_one_key)
{
    static const struct atd_str list[] = {{"a.x", 3}, {"a.y", 3}, {"README", 6},
                                          {"a.z", 3}, {"b.x", 3}, {"a.x", 3}};
    struct atd_members members = {list, ATD_ARRAY_LEN(list), 1};

    cr_assert_eq(atd_members_samples(&members), 3);
    members.count = 0;
    cr_assert_eq(atd_members_samples(&members), 0);
}
