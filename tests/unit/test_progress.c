#include <criterion/criterion.h>
#include <string.h>

#include "commands/progress.h"

static const struct progress_facts facts = {.done_files = 3,
                                            .files = 8,
                                            .done_bytes = (uint64_t)3 << 30,
                                            .bytes = (uint64_t)8 << 30,
                                            .bytes_per_s = (uint64_t)100 << 20};

Test(progress, sizes)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {1536, "1.5 KiB"},
        {((uint64_t)1 << 20) - 1, "1.0 MiB"},
        {(uint64_t)3 << 30, "3.0 GiB"},
        {UINT64_MAX, "16384.0 PiB"},
    };
    char text[PROGRESS_SIZE_TEXT_MAX];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        cr_expect_str_eq(progress_size_text(cases[i].bytes, text), cases[i].text, "%s", text);
}

Test(progress, times)
{
    static const struct {
        uint64_t seconds;
        const char *text;
    } cases[] = {
        {0, "0:00"},          {7, "0:07"},       {720, "12:00"},
        {3599, "59:59"},      {3600, "1:00:00"}, {11109, "3:05:09"},
        {359999, "99:59:59"}, {360000, ">99 h"}, {UINT64_MAX, ">99 h"},
    };
    char text[PROGRESS_TIME_TEXT_MAX];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        cr_expect_str_eq(progress_time_text(cases[i].seconds, text), cases[i].text, "%s", text);
}

Test(progress, a_wide_terminal_shows_everything)
{
    char line[PROGRESS_LINE_MAX];

    progress_format(&facts, 120, line);
    cr_expect_str_eq(line, "[#########               ]  37%  3.0 GiB of 8.0 GiB  100.0 MiB/s  "
                           "0:51 left  3 of 8 files");
}

Test(progress, no_terminal_is_so_narrow_that_the_line_wraps)
{
    static const struct progress_facts most = {.done_files = UINT32_MAX,
                                               .files = UINT32_MAX,
                                               .done_bytes = UINT64_MAX - 1,
                                               .bytes = UINT64_MAX,
                                               .bytes_per_s = 1};
    char line[PROGRESS_LINE_MAX];

    for (unsigned columns = 0; columns < 400; columns++) {
        progress_format(&facts, columns, line);
        cr_expect(strlen(line) < columns || (columns == 0 && !line[0]), "%u: %s", columns, line);
        progress_format(&most, columns, line);
        cr_expect(strlen(line) < columns || (columns == 0 && !line[0]), "%u: %s", columns, line);
    }
}

Test(progress, what_is_least_needed_goes_first)
{
    static const struct {
        unsigned columns;
        const char *line;
    } cases[] = {
        {70, " 37%  3.0 GiB of 8.0 GiB  100.0 MiB/s  0:51 left  3 of 8 files"},
        {60, " 37%  3.0 GiB of 8.0 GiB  100.0 MiB/s  0:51 left"},
        {44, " 37%  3.0 GiB of 8.0 GiB  100.0 MiB/s"},
        {30, " 37%  3.0 GiB of 8.0 GiB"},
        {10, " 37%"},
        {4, ""},
    };
    char line[PROGRESS_LINE_MAX];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        progress_format(&facts, cases[i].columns, line);
        cr_expect_str_eq(line, cases[i].line, "%u: '%s'", cases[i].columns, line);
    }
}

Test(progress, nothing_to_send_goes_by_the_files)
{
    static const struct progress_facts there = {.done_files = 1, .files = 2};
    static const struct progress_facts whole = {
        .done_files = 2, .files = 2, .done_bytes = 10, .bytes = 9};
    char line[PROGRESS_LINE_MAX];

    progress_format(&there, 80, line);
    cr_expect_str_eq(line, "[############            ]  50%  0 B of 0 B  1 of 2 files");
    progress_format(&whole, 80, line);
    cr_expect_str_eq(line, "[########################] 100%  10 B of 9 B  2 of 2 files");
}

Test(progress, the_rate_is_that_of_the_last_seconds)
{
    struct progress_rate rate = {0};
    uint64_t bytes = 0;
    uint64_t got = 0;

    cr_expect_eq(progress_rate_add(&rate, 1000, 0), 0);
    for (int64_t at_ms = 1100; at_ms <= 60000; at_ms += 100) {
        bytes += 1000;
        got = progress_rate_add(&rate, at_ms, bytes);
    }
    cr_expect(got > 9900 && got < 10100, "%lu", (unsigned long)got);
    /* Then nothing moves: a long average would go on to promise an end. */
    for (int64_t at_ms = 60100; at_ms <= 66000; at_ms += 100)
        got = progress_rate_add(&rate, at_ms, bytes);
    cr_expect_eq(got, 0);
    cr_expect_eq(progress_rate_add(&rate, 66100, 5), 0, "less than before is no rate");
}
