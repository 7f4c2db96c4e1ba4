#include "creds_fixture.h"

#define COMMON "User-Agent: atdatafs\r\nAccept: */*\r\n"

TestSuite(credentials, .init = fixture_setup, .fini = fixture_teardown);

/* ------------------------------------------------------------------ static sources */

Test(credentials, env_file_alone)
{
    struct atd_credentials *credentials;

    make_file("env", "export AWS_ENDPOINT='http://minio:9000'\nAWS_ACCESS_KEY_ID=IDFILE\n"
                     "AWS_SECRET_ACCESS_KEY=\"" SECRET "\"\nAWS_REGION=eu-west-1\n");
    set("AWS_ACCESS_KEY_ID", "IDENV");
    set("AWS_SECRET_ACCESS_KEY", "other");
    set("AWS_REGION", "us-west-2");
    credentials = must_open(path_in_dir("env"), NULL);
    must_get(credentials, "IDFILE", SECRET, "");
    cr_assert_str_eq(atd_credentials_source(credentials), "env file");
    cr_assert_str_eq(atd_credentials_region(credentials), "eu-west-1");
    cr_assert_str_eq(atd_credentials_endpoint(credentials), "http://minio:9000");
    must_close(credentials);
    expect_count(0);
}

Test(credentials, env_file_names_what_it_lacks)
{
    struct atd_credentials *credentials;
    struct atd_error err = ATD_ERROR_INIT;

    make_file("env", "AWS_SECRET_ACCESS_KEY=" SECRET "\nAWS_ENDPOINT=\n");
    cr_assert_eq(try_open(path_in_dir("env"), NULL, &credentials, &err), -EINVAL);
    must_say(err.text, "lacks AWS_ENDPOINT, AWS_ACCESS_KEY_ID");
    must_say(err.text, path_in_dir("env"));
    cr_assert_eq(try_open(path_in_dir("absent"), NULL, &credentials, &err), -ENOENT);
    must_say(err.text, "absent");
    make_file("env", "AWS_SECRET_ACCESS_KEY='" SECRET " " TOKEN "'\nAWS_ENDPOINT=http://x\n"
                     "AWS_ACCESS_KEY_ID=ID\n");
    cr_assert_eq(try_open(path_in_dir("env"), NULL, &credentials, &err), -EINVAL);
    must_say(err.text, "the secret access key has other characters");
    cr_assert_eq(mkfifo(path_in_dir("pipe"), 0600), 0);
    cr_assert_eq(try_open(path_in_dir("pipe"), NULL, &credentials, &err), -EINVAL);
    must_say(err.text, "is not a file");
}

Test(credentials, environment_before_default_profile)
{
    struct atd_credentials *credentials;

    make_file(".aws/credentials", "[default]\naws_access_key_id=IDFILE\naws_secret_access_key=x\n");
    make_file(".aws/config", "[default]\nregion = eu-north-1\nendpoint_url = http://profile\n");
    set("AWS_ACCESS_KEY_ID", "IDENV");
    set("AWS_SECRET_ACCESS_KEY", SECRET);
    set("AWS_SESSION_TOKEN", TOKEN);
    credentials = must_open(NULL, NULL);
    must_get(credentials, "IDENV", SECRET, TOKEN);
    cr_assert_str_eq(atd_credentials_source(credentials), "environment");
    cr_assert_str_eq(atd_credentials_region(credentials), "eu-north-1");
    cr_assert_str_eq(atd_credentials_endpoint(credentials), "http://profile");
    must_close(credentials);

    /* a named profile goes before the environment's keys */
    set("AWS_PROFILE", "default");
    set("AWS_DEFAULT_REGION", "us-west-1");
    set("AWS_ENDPOINT_URL", "http://variable");
    credentials = must_open(NULL, NULL);
    must_get(credentials, "IDFILE", "x", "");
    cr_assert_str_eq(atd_credentials_source(credentials), "profile");
    cr_assert_str_eq(atd_credentials_region(credentials), "us-west-1");
    cr_assert_str_eq(atd_credentials_endpoint(credentials), "http://variable");
    must_close(credentials);
    set("AWS_PROFILE", "absent");
    set("AWS_ENDPOINT_URL_S3", "http://s3");
    set("AWS_REGION", "eu-west-3");
    credentials = must_open(NULL, "default");
    cr_assert_str_eq(atd_credentials_endpoint(credentials), "http://s3");
    cr_assert_str_eq(atd_credentials_region(credentials), "eu-west-3");
    must_close(credentials);
}

Test(credentials, broken_configuration)
{
    struct atd_credentials *credentials;
    struct atd_error err = ATD_ERROR_INIT;

    /* named: at once */
    cr_assert_eq(try_open(NULL, "nowhere", &credentials, &err), -ENOENT);
    must_say(err.text, "profile 'nowhere' is in neither");
    make_file(".aws/config", "[profile s]\nsso_session = x\nsso_account_id = 1\n"
                             "[default]\naws_access_key_id = ID\n");
    cr_assert_eq(try_open(NULL, "s", &credentials, &err), -EINVAL);
    must_say(err.text, "aws configure export-credentials");
    must_say(err.text, "--format process");
    /* found: when it is needed */
    credentials = must_open(NULL, NULL);
    must_say(must_fail(credentials), "profile 'default' has aws_access_key_id and no");
    must_close(credentials);
    set("AWS_ACCESS_KEY_ID", "ID");
    credentials = must_open(NULL, NULL);
    must_say(must_fail(credentials), "AWS_SECRET_ACCESS_KEY is not");
    must_close(credentials);
    expect_count(0);
}

Test(credentials, an_edited_profile_is_read_again_when_refused)
{
    struct atd_credentials *credentials;
    struct atd_credential value;

    make_file(".aws/credentials", "[default]\naws_access_key_id=ID1\naws_secret_access_key=a\n"
                                  "aws_session_token=t1\n");
    credentials = must_open(NULL, NULL);
    must_get(credentials, "ID1", "a", "t1");
    cr_assert_eq(atd_credentials_get(credentials, &value, NULL), 0);
    make_file(".aws/credentials", "[default]\naws_access_key_id=ID2\naws_secret_access_key=b\n"
                                  "aws_session_token=t2\n");
    cr_assert(atd_credentials_refuse(credentials, &value));
    must_get(credentials, "ID2", "b", "t2");
    must_close(credentials);

    make_file(".aws/credentials", "[default]\naws_access_key_id=ID1\naws_secret_access_key=a\n");
    credentials = must_open(NULL, NULL);
    cr_assert_eq(atd_credentials_get(credentials, &value, NULL), 0);
    cr_assert_not(atd_credentials_refuse(credentials, &value)); /* keys do not expire */
    must_get(credentials, "ID1", "a", "");
    must_close(credentials);
}

Test(credentials, nothing_names_all_that_was_asked)
{
    struct atd_credentials *credentials;
    const char *text;

    set("AWS_EC2_METADATA_DISABLED", "true");
    credentials = must_open(NULL, NULL);
    text = must_fail(credentials);
    must_say(text, "AWS_ACCESS_KEY_ID");
    must_say(text, "profile 'default'");
    must_say(text, ".aws/config");
    must_say(text, ".aws/credentials");
    must_say(text, "AWS_WEB_IDENTITY_TOKEN_FILE");
    must_say(text, "AWS_CONTAINER_CREDENTIALS");
    must_say(text, "instance metadata is off");
    must_close(credentials);
    expect_count(0);

    set("AWS_EC2_METADATA_DISABLED", "false");
    server_rule(&server, "PUT /latest/api/token", 500, SECRET, 0);
    credentials = must_open(NULL, NULL);
    text = must_fail(credentials);
    must_say(text, "profile 'default'");
    must_say(text, "instance metadata: ");
    must_say(text, "status 500");
    must_close(credentials);
}

/* ------------------------------------------------------------------ container */

Test(credentials, container_relative)
{
    struct atd_credentials *credentials;

    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials?id=7");
    server_rule(&server, "GET /v2/credentials?id=7 ", 200,
                metadata_json("IDECS", "2026-11-24T16:00:00Z"), 0);
    credentials = must_open(NULL, NULL);
    cr_assert_str_eq(atd_credentials_source(credentials), "container");
    expect_count(0); /* the network is for the thread */
    must_get(credentials, "IDECS", SECRET, TOKEN);
    expect_count(1);
    expect_request(0,
                   "GET /v2/credentials?id=7 HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n" COMMON "\r\n");
    must_close(credentials);
}

Test(credentials, container_full_with_token_file)
{
    struct atd_credentials *credentials;
    struct atd_credential value;
    char url[128];

    (void)snprintf(url, sizeof(url), "http://localhost:%d/v1/credentials", server.port);
    set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "not this");
    set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path_in_dir("token"));
    make_file("token", "Bearer one");
    server_rule(&server, "GET /v1/credentials ", 200,
                metadata_json("IDEKS", "2026-11-24T16:00:00Z"), 0);
    credentials = must_open(NULL, NULL);
    must_get(credentials, "IDEKS", SECRET, TOKEN);
    expect_request(0, "GET /v1/credentials HTTP/1.1\r\nHost: localhost:PORT\r\n" COMMON
                      "Authorization: Bearer one\r\n\r\n");
    make_file("token", "two"); /* read anew each time */
    cr_assert_eq(atd_credentials_get(credentials, &value, NULL), 0);
    cr_assert(atd_credentials_refuse(credentials, &value));
    must_get(credentials, "IDEKS", SECRET, TOKEN);
    expect_request(1, "GET /v1/credentials HTTP/1.1\r\nHost: localhost:PORT\r\n" COMMON
                      "Authorization: two\r\n\r\n");
    must_close(credentials);
}

Test(credentials, container_token_with_line_break)
{
    struct atd_credentials *credentials;

    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c");
    set("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN "\r\nX-Evil: 1");
    credentials = must_open(NULL, NULL);
    must_say(must_fail(credentials), "has a line break");
    must_close(credentials);
    set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path_in_dir("token"));
    make_file("token", TOKEN "\n");
    credentials = must_open(NULL, NULL);
    must_say(must_fail(credentials), "has a line break");
    must_close(credentials);
    expect_count(0);
}

Test(credentials, container_hosts)
{
    static const char *const refused[] = {
        "http://example.com/c",
        "http://169.254.170.3/c",
        "http://10.0.0.1/c",
        "http://[fd00:ec2::24]/c",
        "http://localhost.evil/c",
        "http://127.0.0.1@evil/c",
        "http://u:p@127.0.0.1/c",
        "ftp://127.0.0.1/c",
        "file:///etc/passwd",
        "http://127.0.0.1 /c",
        "/relative",
        "http://127.0.0.1\r\nX: y/",
        "http://169.254.169.254/c",
        "gopher://localhost/",
        "http://",
    };

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct atd_credentials *credentials;

        set("AWS_CONTAINER_CREDENTIALS_FULL_URI", refused[i]);
        credentials = must_open(NULL, NULL);
        must_say(must_fail(credentials), "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither");
        must_close(credentials);
    }
    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil/");
    {
        struct atd_credentials *credentials = must_open(NULL, NULL);

        must_say(must_fail(credentials), "RELATIVE_URI is no path");
        must_close(credentials);
    }
    expect_count(0);
}

Test(credentials, container_tries_three_times)
{
    struct atd_credentials *credentials;

    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c");
    server_rule(&server, "GET /c ", 503, SECRET, 1);
    server_rule(&server, "GET /c ", SERVER_CLOSE, "", 1);
    server_rule(&server, "GET /c ", 200, metadata_json("ID3", "2026-11-24T16:00:00Z"), 1);
    server_rule(&server, "GET /c ", 403, SECRET, 0);
    credentials = must_open(NULL, NULL);
    must_get(credentials, "ID3", SECRET, TOKEN);
    expect_count(3);
    must_close(credentials);
    /* a refusal is not tried again */
    credentials = must_open(NULL, NULL);
    must_say(must_fail(credentials), "container: the service answered status 403");
    expect_count(4);
    must_close(credentials);
}

/* ------------------------------------------------------------------ instance metadata */

#define IMDS_TOKEN_REQUEST                                              \
    "PUT /latest/api/token HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n" COMMON \
    "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\nContent-Length: 0\r\n\r\n"
#define IMDS_PATH "/latest/meta-data/iam/security-credentials/"

Test(credentials, instance_v2)
{
    struct atd_credentials *credentials;

    server_rule(&server, "PUT /latest/api/token ", 200, "mdtoken==", 0);
    server_rule(&server, "GET " IMDS_PATH " ", 200, "my-role\nother", 0);
    server_rule(&server, "GET " IMDS_PATH "my-role ", 200,
                metadata_json("IDIMDS", "2026-11-24T16:00:00Z"), 0);
    credentials = must_open(NULL, NULL);
    cr_assert_str_eq(atd_credentials_source(credentials), "instance metadata");
    must_get(credentials, "IDIMDS", SECRET, TOKEN);
    expect_count(3);
    expect_request(0, IMDS_TOKEN_REQUEST);
    expect_request(1, "GET " IMDS_PATH " HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n" COMMON
                      "X-aws-ec2-metadata-token: mdtoken==\r\n\r\n");
    expect_request(2, "GET " IMDS_PATH "my-role HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n" COMMON
                      "X-aws-ec2-metadata-token: mdtoken==\r\n\r\n");
    must_close(credentials);
}

Test(credentials, instance_v1_only_where_there_is_no_v2)
{
    static const int statuses[] = {403, 404, 405};
    struct atd_credentials *credentials;

    for (int i = 0; i < 3; i++) {
        int before = server_count(&server);

        server_forget_rules(&server);
        server_rule(&server, "PUT ", statuses[i], "", 0);
        server_rule(&server, "GET " IMDS_PATH " ", 200, "r", 0);
        server_rule(&server, "GET " IMDS_PATH "r ", 200,
                    metadata_json("IDV1", "2026-11-24T16:00:00Z"), 0);
        credentials = must_open(NULL, NULL);
        must_get(credentials, "IDV1", SECRET, TOKEN);
        expect_count(before + 3);
        expect_request(before + 1,
                       "GET " IMDS_PATH " HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n" COMMON "\r\n");
        must_close(credentials);
    }
    {
        int before = server_count(&server);

        set("AWS_EC2_METADATA_V1_DISABLED", "true");
        credentials = must_open(NULL, NULL);
        must_say(must_fail(credentials), "AWS_EC2_METADATA_V1_DISABLED");
        expect_count(before + 1);
        must_close(credentials);
    }
}

Test(credentials, instance_that_does_not_answer)
{
    struct atd_credentials *credentials;

    server_rule(&server, "PUT ", SERVER_HANG, "", 0);
    credentials = must_open(NULL, NULL);
    atd_credentials_set_patience(credentials, 1);
    must_say(must_fail(credentials), "hop limit");
    expect_count(1); /* one try, and no v1 */
    must_close(credentials);
}

Test(credentials, instance_nonsense)
{
    static const struct {
        const char *role;
        int status;
        const char *body;
        const char *says;
    } cases[] = {
        {"", 200, "", "no role's name"},
        {"../../x", 200, "", "no role's name"},
        {"r", 404, "", "no role"},
        {"r", 200, "{\"Code\": \"AssumeRoleUnauthorizedAccess\"}", "\"Code\""},
        {"r", 200, "{\"AccessKeyId\": \"" SECRET "\"", "line 1"},
        {"r", 200, "{\"AccessKeyId\": \"a\", \"Token\": \"" TOKEN "\"}",
         "secret access key is missing"},
        {"r", 200, "{\"AccessKeyId\": \"a\\nb\", \"SecretAccessKey\": \"" SECRET "\"}",
         "access key id has other characters"},
        {"r", 200, "[\"" SECRET "\"]", "not an object"},
        {"r", 200,
         "{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"" SECRET "\",\"Expiration\":\"soon\"}",
         "no time"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_credentials *credentials;

        server_forget_rules(&server);
        server_rule(&server, "PUT ", 200, "t", 0);
        server_rule(&server, "GET " IMDS_PATH " ", 200, cases[i].role, 0);
        server_rule(&server, "GET " IMDS_PATH "r ", cases[i].status, cases[i].body, 0);
        credentials = must_open(NULL, NULL);
        must_say(must_fail(credentials), cases[i].says);
        must_close(credentials);
    }
}

/* ------------------------------------------------------------------ refresh */

/* "2026-11-24T10:00:00Z" and seconds after. */
static const char *time_text(int64_t after_s)
{
    static char texts[4][ATD_CLOCK_TEXT_MAX];
    static int turn;
    char *text = texts[turn++ % 4];

    atd_clock_format(1795514400 + after_s, text);
    return text;
}

static void serve(const char *id, int64_t expires_after_s)
{
    static char bodies[8][1024];
    static int turn;
    char *body = bodies[turn++ % 8];

    (void)strcpy(body, metadata_json(id, time_text(expires_after_s)));
    server_only_rule(&server, "GET /c ", 200, body);
}

static void advance_to(int64_t after_s)
{
    atomic_store(&now_s, 1795514400 + after_s);
}

/* Gets until the id is this one; nothing but values may come meanwhile. */
static void serves_until(struct atd_credentials *credentials, const char *before, const char *after)
{
    int64_t until_ms = atd_clock_monotonic_ms() + DEADLINE_MS;
    struct atd_credential value;

    do {
        cr_assert_eq(atd_credentials_get(credentials, &value, NULL), 0);
        cr_assert(strcmp(value.access_key_id, before) == 0 ||
                  strcmp(value.access_key_id, after) == 0);
        cr_assert(atd_clock_monotonic_ms() < until_ms, "still %s", value.access_key_id);
        (void)usleep(1000);
    } while (strcmp(value.access_key_id, after) != 0);
}

/* Until so many came and the last one's answer was taken in. */
static void await_requests(struct atd_credentials *credentials, int count)
{
    int64_t until_ms = atd_clock_monotonic_ms() + DEADLINE_MS;
    struct atd_credential value;

    while (server_count(&server) < count || !atd_credentials_is_idle(credentials)) {
        cr_assert_eq(atd_credentials_get(credentials, &value, NULL), 0);
        cr_assert(atd_clock_monotonic_ms() < until_ms, "no request");
        (void)usleep(1000);
    }
}

Test(credentials, refresh_ahead_of_expiry)
{
    struct atd_credentials *credentials;

    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c");
    serve("ID1", 3600);
    credentials = must_open(NULL, NULL);
    must_get(credentials, "ID1", SECRET, TOKEN);
    advance_to(3600 - 901);
    must_get(credentials, "ID1", SECRET, TOKEN);
    (void)usleep(20000); /* time to do what it should not */
    must_get(credentials, "ID1", SECRET, TOKEN);
    expect_count(1);
    serve("ID2", 7200);
    advance_to(3600 - 900);
    serves_until(credentials, "ID1", "ID2");
    expect_count(2);
    must_close(credentials);
}

Test(credentials, a_failing_source_and_a_living_value)
{
    struct atd_credentials *credentials;
    struct atd_credential value;

    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c");
    serve("ID1", 3600);
    credentials = must_open(NULL, NULL);
    must_get(credentials, "ID1", SECRET, TOKEN);
    server_only_rule(&server, "GET /c ", 400, SECRET);
    advance_to(3000);
    await_requests(credentials, 2);
    must_get(credentials, "ID1", SECRET, TOKEN); /* goes on being served */
    advance_to(3200);                            /* past any backoff */
    await_requests(credentials, 3);
    must_get(credentials, "ID1", SECRET, TOKEN);
    advance_to(3600); /* expired: why is told */
    must_say(must_fail(credentials), "container: the service answered status 400");
    /* within the backoff nobody is asked */
    {
        int before = server_count(&server);

        for (int i = 0; i < 50; i++)
            cr_assert_eq(atd_credentials_get(credentials, &value, NULL), -EACCES);
        expect_count(before);
    }
    serve("ID2", 9000);
    advance_to(4000); /* the backoff is over */
    must_get(credentials, "ID2", SECRET, TOKEN);
    must_close(credentials);
}

Test(credentials, expired_on_arrival)
{
    struct atd_credentials *credentials;

    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c");
    serve("ID1", 0);
    credentials = must_open(NULL, NULL);
    must_say(must_fail(credentials), "expired already");
    must_close(credentials);
}

Test(credentials, short_lives_do_not_spin)
{
    struct atd_credentials *credentials;

    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c");
    serve("ID1", 600); /* less than the fifteen minutes ahead */
    credentials = must_open(NULL, NULL);
    must_get(credentials, "ID1", SECRET, TOKEN);
    advance_to(299);
    must_get(credentials, "ID1", SECRET, TOKEN);
    expect_count(1);
    serve("ID2", 900);
    advance_to(300);
    serves_until(credentials, "ID1", "ID2");
    expect_count(2);
    must_close(credentials);
}

Test(credentials, refused_by_the_server)
{
    struct atd_credentials *credentials;
    struct atd_credential first;
    struct atd_credential second;
    struct atd_error err = ATD_ERROR_INIT;

    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c");
    serve("ID1", 36000);
    credentials = must_open(NULL, NULL);
    cr_assert_eq(await(credentials, &first, &err), 0);
    serve("ID2", 36000);
    cr_assert(atd_credentials_refuse(credentials, &first));
    cr_assert(atd_credentials_refuse(credentials, &first)); /* the same news again */
    cr_assert_eq(await(credentials, &second, &err), 0);
    cr_assert_str_eq(second.access_key_id, "ID2");
    expect_count(2);
    cr_assert(atd_credentials_refuse(credentials, &first));      /* old news */
    cr_assert_not(atd_credentials_refuse(credentials, &second)); /* within ten seconds */
    must_get(credentials, "ID2", SECRET, TOKEN);
    expect_count(2);
    advance_to(9);
    cr_assert_not(atd_credentials_refuse(credentials, &second));
    advance_to(10);
    serve("ID3", 36000);
    cr_assert(atd_credentials_refuse(credentials, &second));
    must_get(credentials, "ID3", SECRET, TOKEN);
    expect_count(3);
    /* a forced fetch that fails leaves the old value */
    advance_to(30);
    server_forget_rules(&server);
    cr_assert_eq(atd_credentials_get(credentials, &first, NULL), 0);
    server_rule(&server, "GET /c ", 400, "", 0);
    cr_assert(atd_credentials_refuse(credentials, &first));
    must_get(credentials, "ID3", SECRET, TOKEN);
    must_close(credentials);
}

Test(credentials, get_never_blocks_and_free_does_not_wait_for_ever)
{
    struct atd_credentials *credentials;
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_credential value;
    int64_t start_ms = atd_clock_monotonic_ms();
    int gets = 0;

    set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c");
    server_rule(&server, "GET /c ", SERVER_HANG, "", 0);
    credentials = must_open(NULL, NULL);
    atd_credentials_set_patience(credentials, 1);
    while (server_count(&server) == 0) {
        cr_assert_eq(atd_credentials_get(credentials, &value, &err), -EAGAIN);
        cr_assert(atd_clock_monotonic_ms() - start_ms < DEADLINE_MS);
        (void)usleep(1000);
        gets++;
    }
    must_say(err.text, "container");
    /* one try ends by itself, the pause before the next is cut short */
    cr_assert(atd_credentials_free(credentials, 30000));
    expect_count(1);
    cr_assert_gt(gets, 0);
}
