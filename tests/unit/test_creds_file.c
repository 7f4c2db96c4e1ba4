/*
 * The INI files of the AWS tools, and the plans that are made of them.
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "base/cleanup.h"
#include "net/creds_profile.h"
#include "net/creds_value.h"

static struct atd_arena arena;

static void setup(void)
{
    atd_arena_init(&arena, 64u << 20);
}

static void teardown(void)
{
    atd_arena_wipe(&arena);
}

TestSuite(creds_file, .init = setup, .fini = teardown);

static struct atd_creds_file parse(const char *text, bool is_config)
{
    struct atd_creds_file file;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_creds_file_parse(atd_str_from(text), is_config, &arena, &file, &err), 0, "%s",
                 err.text);
    return file;
}

static const char *find(const struct atd_creds_file *file, const char *profile, const char *key)
{
    return atd_creds_file_find(file, ATD_CREDS_PROFILE, atd_str_from(profile), key);
}

Test(creds_file, sections_and_properties)
{
    struct atd_creds_file file = parse("\xef\xbb\xbf# comment\r\n"
                                       "  ; comment\r\n"
                                       "[profile a]\r\n"
                                       "Region = eu-west-1  \r\n"
                                       "role_arn: arn:aws:iam::1:role/x\r\n"
                                       "with_hash = a#b ;c\r\n"
                                       "empty =\r\n"
                                       "[profile \"two words\"] ; behind\r\n"
                                       "region=2\n"
                                       "[a]\nregion = not a profile here\n"
                                       "[profile a]\nregion = last",
                                       true);

    cr_assert_str_eq(find(&file, "a", "region"), "last");
    cr_assert_str_eq(find(&file, "a", "role_arn"), "arn:aws:iam::1:role/x");
    cr_assert_str_eq(find(&file, "a", "with_hash"), "a#b ;c");
    cr_assert_null(find(&file, "a", "empty"));
    cr_assert_null(find(&file, "a", "absent"));
    cr_assert_str_eq(find(&file, "two words", "region"), "2");
    cr_assert_eq(file.bad_line_count, 0);
    file = parse("[a]\nk=1\n[ b ]\n k=2\n[profile c]\nk=3\n[d]\n", false);
    cr_assert_str_eq(find(&file, "a", "k"), "1");
    cr_assert_str_eq(find(&file, "b", "k"), "2");
    cr_assert_null(find(&file, "c", "k"));
    cr_assert(atd_creds_file_has(&file, ATD_CREDS_PROFILE, ATD_STR("d")));
    cr_assert_not(atd_creds_file_has(&file, ATD_CREDS_PROFILE, ATD_STR("e")));
}

Test(creds_file, the_default_profile)
{
    struct atd_creds_file file =
        parse("[profile default]\na=full\n[default]\na=short\nb=short\n", true);

    cr_assert_str_eq(find(&file, "default", "a"), "full");
    cr_assert_null(find(&file, "default", "b"));
    file = parse("[default]\na=short\n", true);
    cr_assert_str_eq(find(&file, "default", "a"), "short");
    file = parse("[default]\na=c\n", false);
    cr_assert_str_eq(find(&file, "default", "a"), "c");
}

Test(creds_file, nested_and_continued)
{
    struct atd_creds_file file = parse("[profile a]\n"
                                       "  region = x\n"
                                       "  s3 =\n"
                                       "    addressing_style = path\n"
                                       "    max = 5\n"
                                       "  long = first\n"
                                       "     second = no property\n"
                                       "     [no section]\n"
                                       "  output = json\n"
                                       "[services v]\n"
                                       "s3 =\n"
                                       "  endpoint_url = http://minio:9000\n",
                                       true);

    cr_assert_str_eq(find(&file, "a", "region"), "x");
    cr_assert_str_eq(find(&file, "a", "s3.addressing_style"), "path");
    cr_assert_str_eq(find(&file, "a", "s3.max"), "5");
    cr_assert_str_eq(find(&file, "a", "long"), "first");
    cr_assert_null(find(&file, "a", "second"));
    cr_assert_str_eq(find(&file, "a", "output"), "json");
    cr_assert_str_eq(
        atd_creds_file_find(&file, ATD_CREDS_SERVICES, ATD_STR("v"), "s3.endpoint_url"),
        "http://minio:9000");
}

Test(creds_file, lines_that_are_none)
{
    struct atd_creds_file file =
        parse("stray = 1\n[a\nk = in no section\n[b]\nnonsense\n= x\n", false);

    cr_assert_eq(file.bad_line_count, 5);
    cr_assert_eq(file.first_bad_line, 1);
    cr_assert(atd_creds_file_has(&file, ATD_CREDS_PROFILE, ATD_STR("b")));
}

Test(creds_file, hostile)
{
    struct atd_creds_file file;
    struct atd_error err = ATD_ERROR_INIT;
    atd_auto_buf struct atd_buf many = ATD_BUF_INIT(1u << 20);

    cr_assert_eq(atd_creds_file_parse(ATD_STR("[a]\nsecret=\xff"), false, &arena, &file, &err),
                 -EINVAL);
    cr_assert_str_eq(err.text, "line 2 is not UTF-8 text");
    cr_assert_eq(atd_creds_file_parse(ATD_STR("[a]\ns\0=1"), false, &arena, &file, &err), -EINVAL);
    atd_buf_append_text(&many, "[a]\n");
    for (unsigned i = 0; i < ATD_CREDS_PROPERTIES_MAX; i++)
        atd_buf_append_text(&many, "k=\n");
    cr_assert_eq(atd_creds_file_parse(atd_buf_str(&many), false, &arena, &file, &err), -E2BIG);
}

/* ------------------------------------------------------------------ plans */

static int plan(const char *config, const char *credentials, const char *profile,
                struct atd_creds_plan *ret_plan, struct atd_error *err)
{
    static struct atd_creds_profiles profiles;
    struct atd_creds_env env = {.profile = profile, .profile_is_named = true};

    env.vars[ATD_VAR_AWS_ACCESS_KEY_ID] = "IDENV";
    env.vars[ATD_VAR_AWS_SECRET_ACCESS_KEY] = "SECRETENV";
    profiles.config = parse(config, true);
    profiles.credentials = parse(credentials, false);
    *ret_plan = (struct atd_creds_plan){.source = "none"};
    return atd_creds_profile_plan(&profiles, &env, ret_plan, err);
}

static struct atd_creds_plan must_plan(const char *config, const char *credentials,
                                       const char *profile)
{
    struct atd_creds_plan made;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(plan(config, credentials, profile, &made, &err), 0, "%s", err.text);
    return made;
}

Test(creds_file, what_goes_first_in_a_profile)
{
    struct atd_creds_plan made =
        must_plan("[profile p]\ncredential_process=x\naws_access_key_id=C\n"
                  "aws_secret_access_key=c\nregion=r\nservices=v\nendpoint_url=http://all\n"
                  "[services v]\ns3=\n endpoint_url=http://s3\n",
                  "[p]\naws_access_key_id=K\naws_secret_access_key=k\n", "p");

    cr_assert_eq(made.root, ATD_CREDS_ROOT_STATIC);
    cr_assert(atd_str_equal(made.texts.access_key_id, ATD_STR("K")));
    cr_assert_str_eq(made.region, "r");
    cr_assert_str_eq(made.endpoint, "http://s3");
    cr_assert_not(made.may_change);
    made = must_plan("[profile p]\ncredential_process=x y\naws_access_key_id=C\n"
                     "aws_secret_access_key=c\nendpoint_url=http://all\n",
                     "", "p");
    cr_assert_eq(made.root, ATD_CREDS_ROOT_PROCESS);
    cr_assert_str_eq(made.command, "x y");
    cr_assert_str_eq(made.endpoint, "http://all");
    made = must_plan("[profile p]\naws_access_key_id=C\naws_secret_access_key=c\n"
                     "aws_session_token=t\n",
                     "", "p");
    cr_assert(atd_str_equal(made.texts.session_token, ATD_STR("t")));
    cr_assert(made.may_change);
    made = must_plan("[profile p]\nregion=r\n", "[p]\nregion=s\n", "p");
    cr_assert_str_eq(made.region, "s");
    cr_assert_eq(made.root, ATD_CREDS_ROOT_NONE);
    made = must_plan("[profile p]\nweb_identity_token_file=/t\nrole_arn=arn:x\n"
                     "role_session_name=n\n",
                     "[p]\naws_access_key_id=K\naws_secret_access_key=k\n", "p");
    cr_assert_eq(made.root, ATD_CREDS_ROOT_WEB_IDENTITY);
    cr_assert_str_eq(made.token_file, "/t");
    cr_assert_str_eq(made.web_role.arn, "arn:x");
    cr_assert_eq(made.role_count, 0);
}

Test(creds_file, roles)
{
    struct atd_creds_plan made =
        must_plan("[profile a]\nrole_arn=arn:a\nsource_profile=b\nexternal_id=e\n"
                  "duration_seconds=900\nrole_session_name=me\n"
                  "[profile b]\nrole_arn=arn:b\nsource_profile=c\n",
                  "[c]\naws_access_key_id=K\naws_secret_access_key=k\n", "a");

    cr_assert_eq(made.root, ATD_CREDS_ROOT_STATIC);
    cr_assert_eq(made.role_count, 2);
    cr_assert_str_eq(made.roles[0].arn, "arn:a");
    cr_assert_str_eq(made.roles[0].external_id, "e");
    cr_assert_str_eq(made.roles[0].session_name, "me");
    cr_assert_eq(made.roles[0].duration_s, 900);
    cr_assert_str_eq(made.roles[1].arn, "arn:b");
    made = must_plan("[profile a]\nrole_arn=arn:a\nsource_profile=a\n",
                     "[a]\naws_access_key_id=K\naws_secret_access_key=k\n", "a");
    cr_assert_eq(made.root, ATD_CREDS_ROOT_STATIC);
    cr_assert_eq(made.role_count, 1);
    made = must_plan("[profile a]\nrole_arn=arn:a\ncredential_source=Environment\n", "", "a");
    cr_assert(atd_str_equal(made.texts.access_key_id, ATD_STR("IDENV")));
    made = must_plan("[profile a]\nrole_arn=arn:a\ncredential_source=EcsContainer\n", "", "a");
    cr_assert_eq(made.root, ATD_CREDS_ROOT_CONTAINER);
    made =
        must_plan("[profile a]\nrole_arn=arn:a\ncredential_source=Ec2InstanceMetadata\n", "", "a");
    cr_assert_eq(made.root, ATD_CREDS_ROOT_METADATA);
}

Test(creds_file, profiles_that_cannot_work)
{
    static const struct {
        const char *config;
        const char *says;
    } cases[] = {
        {"[profile b]\n", "profile 'a' is in neither"},
        {"nonsense\n[profile b]\n", "(line 1 of "},
        {"[profile a]\nrole_arn=x\n", "neither source_profile nor credential_source"},
        {"[profile a]\nrole_arn=x\nsource_profile=b\ncredential_source=Environment\n",
         "both source_profile and credential_source"},
        {"[profile a]\nrole_arn=x\nsource_profile=b\n", "source_profile of 'a': profile 'b'"},
        {"[profile a]\nrole_arn=x\nsource_profile=b\n[profile b]\nrole_arn=y\nsource_profile=c\n"
         "[profile c]\nrole_arn=z\nsource_profile=a\n",
         "in a circle"},
        {"[profile a]\nrole_arn=x\nsource_profile=b\n[profile b]\nregion=r\n",
         "at the end of its source_profile has no credentials"},
        {"[profile a]\nrole_arn=x\nsource_profile=a\n", "has no credentials"},
        {"[profile a]\nrole_arn=x\nsource_profile=b\nmfa_serial=m\n[profile b]\n", "mfa_serial"},
        {"[profile a]\nrole_arn=x\ncredential_source=Magic\n", "'Magic' is none of"},
        {"[profile a]\nrole_arn=x\ncredential_source=Environment\nduration_seconds=899\n",
         "duration_seconds '899'"},
        {"[profile a]\nrole_arn=x\ncredential_source=Environment\nduration_seconds=1h\n",
         "duration_seconds '1h'"},
        {"[profile a]\nsso_start_url=x\n", "credential_process = aws configure export-credentials"},
        {"[profile a]\nweb_identity_token_file=x\n", "no role_arn"},
        {"[profile a]\naws_access_key_id=K\n", "no aws_secret_access_key"},
        {"[profile a]\nrole_arn=x\nsource_profile=b\n[profile b]\nrole_arn=x\nsource_profile=c\n"
         "[profile c]\nrole_arn=x\nsource_profile=d\n[profile d]\nrole_arn=x\nsource_profile=e\n"
         "[profile e]\nrole_arn=x\nsource_profile=f\n[profile f]\nrole_arn=x\nsource_profile=g\n"
         "[profile g]\nrole_arn=x\nsource_profile=h\n[profile h]\nrole_arn=x\nsource_profile=i\n"
         "[profile i]\nrole_arn=x\nsource_profile=j\n[profile j]\n",
         "more than 8 roles"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_creds_plan made;
        struct atd_error err = ATD_ERROR_INIT;
        int rc = plan(cases[i].config, "", "a", &made, &err);

        cr_assert(rc == -EINVAL || rc == -ENOENT, "case %zu", i);
        cr_assert_not_null(strstr(err.text, cases[i].says), "case %zu: %s", i, err.text);
    }
}

Test(creds_file, what_gives_a_secret_away)
{
    struct atd_str secret = ATD_STR("0123456789abcdefXYZ");

    cr_assert(atd_creds_tells(ATD_STR("a 0123456789abcdefXYZ b"), secret));
    cr_assert(atd_creds_tells(ATD_STR("456789abcdef"), secret));
    cr_assert_not(atd_creds_tells(ATD_STR("456789abcde"), secret));
    cr_assert_not(atd_creds_tells(ATD_STR("abc"), ATD_STR("abc")));
    cr_assert_not(atd_creds_tells(ATD_STR("abc"), (struct atd_str){NULL, 0}));
}
