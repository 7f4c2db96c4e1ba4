#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "store/places.h"
#include "store/range_check.h"

#define LAST_MODIFIED "Mon, 24 Nov 2025 10:00:00 GMT"
#define LAST_MODIFIED_S 1763978400

struct reply {
    int status;
    const char *content_range;
    int64_t content_length;
    const char *etag;
    const char *last_modified;
};

static struct atd_http_head head_of(const struct reply *reply)
{
    struct atd_http_head head = {.status = reply->status, .content_length = reply->content_length};
    const char *pairs[][2] = {{"Content-Range", reply->content_range},
                              {"ETag", reply->etag},
                              {"Last-Modified", reply->last_modified}};

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (pairs[i][1])
            head.headers[head.header_count++] =
                (struct atd_http_header){atd_str_from(pairs[i][0]), atd_str_from(pairs[i][1])};
    return head;
}

/* Bytes 10 to 19 of an object of 100. */
Test(range_check, part_of_an_object)
{
    static const struct {
        struct reply reply;
        enum atd_range_outcome any;    /* when any version will do */
        enum atd_range_outcome expect; /* when {100, "abc"} is expected */
    } cases[] = {
        {{206, "bytes 10-19/100", 10, "\"abc\"", NULL}, ATD_RANGE_RIGHT, ATD_RANGE_RIGHT},
        {{206, "bytes 10-19/100", -1, "\"abc\"", NULL}, ATD_RANGE_RIGHT, ATD_RANGE_RIGHT},
        {{206, "bytes 10-19/100", 10, NULL, NULL}, ATD_RANGE_RIGHT, ATD_RANGE_RIGHT},
        {{206, "bytes 10-19/100", 9, "\"abc\"", NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{206, "bytes 10-19/100", 11, "\"abc\"", NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{206, "bytes 10-19/100", 10, "\"abd\"", NULL}, ATD_RANGE_RIGHT, ATD_RANGE_CHANGED},
        {{206, "bytes 10-19/101", 10, "\"abc\"", NULL}, ATD_RANGE_RIGHT, ATD_RANGE_CHANGED},
        {{206, "bytes 10-19/*", 10, "\"abc\"", NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{206, "bytes 11-20/100", 10, "\"abc\"", NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{206, "bytes 10-20/100", 11, "\"abc\"", NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{206, "bytes 9-19/100", 10, "\"abc\"", NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{206, "bytes 9-19/100", -1, "\"abc\"", NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{206, "bytes 0-9/100", 10, "\"abc\"", NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{206, "bytes */100", 10, "\"abc\"", NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{206, NULL, 10, "\"abc\"", NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{206, "bytes 10-14/15", 5, "\"abc\"", NULL}, ATD_RANGE_SHORT, ATD_RANGE_CHANGED},
        {{416, "bytes */5", 0, NULL, NULL}, ATD_RANGE_SHORT, ATD_RANGE_CHANGED},
        {{416, "bytes */100", 0, NULL, NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{416, "bytes 0-9/100", 0, NULL, NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
        {{416, NULL, 0, NULL, NULL}, ATD_RANGE_SHORT, ATD_RANGE_CHANGED},
        {{200, NULL, 100, "\"abc\"", NULL}, ATD_RANGE_IGNORED, ATD_RANGE_IGNORED},
        {{200, NULL, 10, "\"abc\"", NULL}, ATD_RANGE_SHORT, ATD_RANGE_WRONG},
        {{200, NULL, 10, "\"abd\"", NULL}, ATD_RANGE_SHORT, ATD_RANGE_CHANGED},
        /* An error page that was called a success says nothing about the object. */
        {{200, NULL, 300, NULL, NULL}, ATD_RANGE_IGNORED, ATD_RANGE_WRONG},
        {{200, NULL, -1, "\"abc\"", NULL}, ATD_RANGE_IGNORED, ATD_RANGE_IGNORED},
        {{200, NULL, 100, "\"abd\"", NULL}, ATD_RANGE_IGNORED, ATD_RANGE_CHANGED},
        {{204, NULL, 0, NULL, NULL}, ATD_RANGE_WRONG, ATD_RANGE_WRONG},
    };
    struct atd_object_info expect = {.size_bytes = 100, .etag = "abc"};
    struct atd_object_info info;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_http_head head = head_of(&cases[i].reply);

        cr_assert_eq(atd_range_check(&head, 10, 20, NULL, &info), cases[i].any, "case %zu", i);
        cr_assert_eq(atd_range_check(&head, 10, 20, &expect, &info), cases[i].expect,
                     "case %zu, expected", i);
    }
}

Test(range_check, whole_object_may_come_as_200)
{
    struct reply reply = {200, NULL, 100, "\"abc\"", LAST_MODIFIED};
    struct atd_http_head head = head_of(&reply);
    struct atd_object_info expect = {.size_bytes = 100, .mtime_s = LAST_MODIFIED_S};
    struct atd_object_info info;

    cr_assert_eq(atd_range_check(&head, 0, 100, NULL, &info), ATD_RANGE_RIGHT);
    cr_assert_eq(info.size_bytes, 100);
    cr_assert_str_eq(info.etag, "abc");
    cr_assert_eq(info.mtime_s, LAST_MODIFIED_S);
    cr_assert_eq(atd_range_check(&head, 0, 100, &expect, &info), ATD_RANGE_RIGHT);
    cr_assert_eq(atd_range_check(&head, 50, 100, NULL, &info), ATD_RANGE_IGNORED);
    cr_assert_eq(atd_range_check(&head, 0, 99, NULL, &info), ATD_RANGE_IGNORED);
    cr_assert_eq(atd_range_check(&head, 0, 101, NULL, &info), ATD_RANGE_SHORT);
    expect.mtime_s++;
    cr_assert_eq(atd_range_check(&head, 0, 100, &expect, &info), ATD_RANGE_CHANGED);
}

#define INFO(size, tag, time)                            \
    {                                                    \
        .size_bytes = size, .etag = tag, .mtime_s = time \
    }

Test(range_check, same_version)
{
    static const struct {
        struct atd_object_info a;
        struct atd_object_info b;
        bool same;
    } cases[] = {
        {INFO(1, "a", 5), INFO(1, "a", 6), true}, /* strong: the time says nothing */
        {INFO(1, "a", 5), INFO(2, "a", 5), false},
        {INFO(1, "a", 5), INFO(1, "b", 5), false},
        {INFO(1, "", 5), INFO(1, "a", 5), true},
        {INFO(1, "", 5), INFO(1, "a", 6), false},
        {INFO(1, "", 0), INFO(1, "", 6), true},
        {INFO(1, "W/a", 5), INFO(1, "a", 5), true},
        {INFO(1, "W/a", 5), INFO(1, "W/\"a\"", 5), true},
        {INFO(1, "W/a", 5), INFO(1, "W/a", 6), false},
        {INFO(1, "W/a", 5), INFO(1, "W/b", 5), false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_eq(atd_same_version(&cases[i].a, &cases[i].b), cases[i].same, "case %zu", i);
        cr_assert_eq(atd_same_version(&cases[i].b, &cases[i].a), cases[i].same, "case %zu", i);
    }
}

Test(range_check, if_match_only_of_strong_etags)
{
    static const struct {
        const char *etag;
        const char *text;
    } cases[] = {
        {"", ""},    {"abc-12", "\"abc-12\""}, {"W/abc", ""}, {"a\r\nX: y", ""}, {"a\"b", ""},
        {"a b", ""},
    };
    struct atd_object_info info = {0};
    char text[ATD_ETAG_MAX + 3];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)strcpy(info.etag, cases[i].etag);
        atd_if_match_text(&info, text);
        cr_assert_str_eq(text, cases[i].text, "case %zu: %s", i, text);
    }
    memset(info.etag, 'x', ATD_ETAG_MAX);
    info.etag[ATD_ETAG_MAX] = '\0';
    atd_if_match_text(&info, text);
    cr_assert_eq(strlen(text), ATD_ETAG_MAX + 2);
}

Test(places, remember_regions_and_refusals)
{
    struct atd_places places;
    char region[ATD_REGION_MAX + 1] = "";
    char long_name[ATD_PLACE_NAME_MAX + 2];
    char long_region[ATD_REGION_MAX + 2];

    atd_places_init(&places);
    cr_assert_not(atd_places_region(&places, ATD_STR("b"), region));
    cr_assert_not(atd_places_head_refused(&places, ATD_STR("b")));
    atd_places_set_head_refused(&places, ATD_STR("b"));
    cr_assert(atd_places_head_refused(&places, ATD_STR("b")));
    cr_assert_not(atd_places_head_refused(&places, ATD_STR("bb")));
    cr_assert_not(atd_places_region(&places, ATD_STR("b"), region));
    cr_assert(atd_places_set_region(&places, ATD_STR("b"), "eu-west-1"));
    cr_assert(atd_places_set_region(&places, ATD_STR("c"), "auto"));
    cr_assert(atd_places_region(&places, ATD_STR("b"), region));
    cr_assert_str_eq(region, "eu-west-1");
    cr_assert(atd_places_head_refused(&places, ATD_STR("b")));

    /* It becomes part of a host name. */
    cr_assert_not(atd_places_set_region(&places, ATD_STR("d"), "evil.example/"));
    cr_assert_not(atd_places_set_region(&places, ATD_STR("d"), "a b"));
    cr_assert_not(atd_places_set_region(&places, ATD_STR("d"), ""));
    memset(long_region, 'a', sizeof(long_region));
    long_region[ATD_REGION_MAX + 1] = '\0';
    cr_assert_not(atd_places_set_region(&places, ATD_STR("d"), long_region));
    cr_assert_not(atd_places_region(&places, ATD_STR("d"), region));

    memset(long_name, 'n', sizeof(long_name));
    atd_places_set_head_refused(&places, (struct atd_str){long_name, ATD_PLACE_NAME_MAX + 1});
    cr_assert_not(
        atd_places_head_refused(&places, (struct atd_str){long_name, ATD_PLACE_NAME_MAX + 1}));
    atd_places_release(&places);
}

Test(places, forget_the_oldest)
{
    struct atd_places places;
    char name[16];
    unsigned known = 0;

    atd_places_init(&places);
    for (unsigned i = 0; i < ATD_PLACES_MAX + 10; i++) {
        (void)snprintf(name, sizeof(name), "p%u", i);
        atd_places_set_head_refused(&places, atd_str_from(name));
    }
    cr_assert_eq(places.count, ATD_PLACES_MAX);
    for (unsigned i = 0; i < ATD_PLACES_MAX + 10; i++) {
        (void)snprintf(name, sizeof(name), "p%u", i);
        if (atd_places_head_refused(&places, atd_str_from(name)))
            known++;
        else
            cr_assert(i < 10);
    }
    cr_assert_eq(known, ATD_PLACES_MAX);
    atd_places_release(&places);
}
