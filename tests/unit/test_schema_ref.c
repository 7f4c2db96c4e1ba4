#include <criterion/criterion.h>
#include <errno.h>

#include "atdata/schema_ref.h"
#include "base/cleanup.h"

Test(schema_ref, parse)
{
    static const struct {
        const char *text;
        enum atd_schema_ref_form form;
        const char *name;
        const char *version;
    } cases[] = {
        {"atdata://local/schema/T@1.0.0", ATD_REF_NEW, "T", "1.0.0"},
        {"atdata://local/sampleSchema/T@1.0.0", ATD_REF_MID, "T", "1.0.0"},
        {"local://schemas/T@1.0.0", ATD_REF_LEGACY, "T", "1.0.0"},
        {"local://schemas/__main__.T@1.0.0", ATD_REF_LEGACY, "T", "1.0.0"},
        {"local://schemas/a.b.C@1.0.0-beta+x", ATD_REF_LEGACY, "C", "1.0.0-beta+x"},
        {"atdata://local/schema/m.T@1", ATD_REF_NEW, "T", "1"}, /* the rule is for all three */
        {"atdata://local/sampleSchema/m.T@1", ATD_REF_MID, "T", "1"},
        {"atdata://local/schema/a@b@2", ATD_REF_NEW, "a@b", "2"},
        {"atdata://local/schema/a.b@c@2", ATD_REF_NEW, "b@c", "2"},
        {"atdata://local/schema/%41@1%2E0", ATD_REF_NEW, "%41", "1%2E0"},
        {"atdata://local/schema/a/b@1", ATD_REF_NEW, "a/b", "1"},
        {"atdata://local/schema/T@", ATD_REF_NEW, "T", ""},
        {"atdata://local/schema/@1", ATD_REF_NEW, "", "1"},
        {"local://schemas/x.@1", ATD_REF_LEGACY, "", "1"},
        {"at://did:plc:x/science.alt.dataset.schema/3k", ATD_REF_NETWORK, "", ""},
        {"@alice.example/Type@1.0.0", ATD_REF_NETWORK, "", ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_schema_ref ref;
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_schema_ref_parse(atd_str_from(cases[i].text), &ref, &err), 0, "%s: %s",
                     cases[i].text, err.text);
        cr_assert_eq(ref.form, cases[i].form, "%s", cases[i].text);
        cr_assert(atd_str_equal(ref.name, atd_str_from(cases[i].name)), "%s", cases[i].text);
        cr_assert(atd_str_equal(ref.version, atd_str_from(cases[i].version)), "%s", cases[i].text);
    }
}

Test(schema_ref, what_is_none)
{
    static const char *const cases[] = {
        "",
        "T@1.0.0",
        "Local://schemas/T@1.0.0",
        "atdata://other/schema/T@1.0.0",
        "atdata://local/schemas/T@1.0.0",
        "atdata://local/lens/T@1.0.0",
        "local://schemas",
        "@alice",
        "at:/x",
        " local://schemas/T@1",
        "https://x/T@1",
    };
    struct atd_schema_ref ref;
    struct atd_error err = ATD_ERROR_INIT;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char want[256];

        cr_assert_eq(atd_schema_ref_parse(atd_str_from(cases[i]), &ref, &err), -EINVAL, "%s",
                     cases[i]);
        (void)snprintf(want, sizeof(want),
                       "schema reference '%s' is none, expected "
                       "atdata://local/schema/NAME@VERSION",
                       cases[i]);
        cr_assert_str_eq(err.text, want);
    }
    cr_assert_eq(atd_schema_ref_parse(ATD_STR("local://schemas/T"), &ref, &err), -EINVAL);
    cr_assert_str_eq(err.text, "schema reference 'local://schemas/T' has no version, expected '@' "
                               "and a version at its end");
}

Test(schema_ref, format)
{
    static const struct {
        enum atd_schema_ref_form form;
        const char *text;
    } cases[] = {
        {ATD_REF_NEW, "atdata://local/schema/T@1.0.0"},
        {ATD_REF_MID, "atdata://local/sampleSchema/T@1.0.0"},
        {ATD_REF_LEGACY, "local://schemas/T@1.0.0"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        atd_auto_buf struct atd_buf out = ATD_BUF_INIT(100);

        atd_schema_ref_format(cases[i].form, ATD_STR("T"), ATD_STR("1.0.0"), &out);
        cr_assert_str_eq((const char *)out.ptr, cases[i].text);
    }
}

/* Each verdict is Python 3.12's: three parts, each through int(). */
Test(schema_ref, semver)
{
    static const struct {
        const char *text;
        bool good;
        int64_t part[3];
    } cases[] = {
        {"1.0.0", true, {1, 0, 0}},
        {"01.002.3", true, {1, 2, 3}},
        {" 1 . 0 .\t5\n", true, {1, 0, 5}},
        {"\x0b"
         "1.\x0c"
         "2.\r\n3",
         true,
         {1, 2, 3}},
        {"\x1c"
         "1.2.3",
         false,
         {0}},
        {"1.0.1_0", true, {1, 0, 10}},
        {"-1.+2.-0", true, {-1, 2, 0}},
        {"9223372036854775807.9223372036854775808.99999999999999999999",
         true,
         {INT64_MAX, INT64_MAX, INT64_MAX}},
        {"-9223372036854775808.0.0", true, {-INT64_MAX, 0, 0}},
        {"1.0", false, {0}},
        {"1.0.0.0", false, {0}},
        {"", false, {0}},
        {"..", false, {0}},
        {"1..0", false, {0}},
        {"v1.0.0", false, {0}},
        {"1.0.0-beta", false, {0}},
        {"1.0.0 beta", false, {0}},
        {"1.0.1__0", false, {0}},
        {"1.0._1", false, {0}},
        {"1.0.1_", false, {0}},
        {"1.0.-_1", false, {0}},
        {"1.0.- 1", false, {0}},
        {"1.0.--1", false, {0}},
        {"1.0.-", false, {0}},
        {"1.0.0x1", false, {0}},
        {"1.0.1e3", false, {0}},
        {"1.0.\x1b"
         "1",
         false,
         {0}},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_semver version;

        cr_assert_eq(atd_semver_parse(atd_str_from(cases[i].text), &version), cases[i].good, "'%s'",
                     cases[i].text);
        if (cases[i].good)
            cr_assert_arr_eq(version.part, cases[i].part, sizeof(version.part), "'%s'",
                             cases[i].text);
    }
}

Test(schema_ref, semver_of_very_many_digits)
{
    static char text[4400];
    struct atd_semver version;

    memset(text, '0', sizeof(text));
    memcpy(text, "1.1.", 4);
    cr_assert(atd_semver_parse((struct atd_str){text, 4 + 4300}, &version));
    cr_assert_not(atd_semver_parse((struct atd_str){text, 4 + 4301}, &version));
}

Test(schema_ref, semver_order)
{
    static const char *const rising[] = {"-1.0.0", "0.0.0", "0.0.1", "0.1.0", "1.0.9",
                                         "1.0.10", "1.2.0", "2.0.0", "10.0.0"};

    for (size_t i = 0; i < sizeof(rising) / sizeof(rising[0]); i++) {
        for (size_t j = 0; j < sizeof(rising) / sizeof(rising[0]); j++) {
            struct atd_semver a;
            struct atd_semver b;

            cr_assert(atd_semver_parse(atd_str_from(rising[i]), &a));
            cr_assert(atd_semver_parse(atd_str_from(rising[j]), &b));
            cr_assert_eq(atd_semver_compare(&a, &b), (i > j) - (i < j));
        }
    }
}
