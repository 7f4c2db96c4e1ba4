/*
 * Credentials that are asked of STS or of a process, through the whole chain.
 */
#include "creds_fixture.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

TestSuite(creds_roles, .init = fixture_setup, .fini = fixture_teardown);

#define STS_OK(ID)                                                                             \
    "<?xml version=\"1.0\"?>\n<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-" \
    "06-15/\">\n<AssumeRoleResult><AssumedRoleUser><Arn>a</Arn></AssumedRoleUser>"             \
    "<Credentials><AccessKeyId>" ID "</AccessKeyId>\n<SecretAccessKey>" SECRET                 \
    "</SecretAccessKey><SessionToken>" TOKEN "</SessionToken>"                                 \
    "<Expiration>2026-11-24T11:00:00Z</Expiration></Credentials></AssumeRoleResult>"           \
    "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"
#define STS_ERROR(CODE, MESSAGE)                                                       \
    "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>" \
    "Sender</Type><Code>" CODE "</Code><Message>" MESSAGE                              \
    "</Message></Error><RequestId>r</RequestId></ErrorResponse>"
#define STS_HEAD                                                                         \
    "POST / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nUser-Agent: atdatafs\r\nAccept: */*\r\n" \
    "content-type: application/x-www-form-urlencoded; charset=utf-8\r\n"

/* ------------------------------------------------------------------ a second opinion on SigV4 */

static void hmac(const void *key, size_t key_len, const char *text, unsigned char out[32])
{
    unsigned len = 0;

    cr_assert_not_null(HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text,
                            strlen(text), out, &len));
}

static void hex(const unsigned char *bytes, char out[65])
{
    for (int i = 0; i < 32; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static void sha256_hex(const char *text, char out[65])
{
    unsigned char digest[32];
    unsigned len;

    cr_assert(EVP_Digest(text, strlen(text), digest, &len, EVP_sha256(), NULL));
    hex(digest, out);
}

static void signature(const char *secret, const char *region, const char *token, const char *body,
                      char out[65])
{
    char payload[65];
    char canonical[4096];
    char hashed[65];
    char to_sign[512];
    char start[128];
    unsigned char key[32];
    unsigned char next[32];

    sha256_hex(body, payload);
    (void)snprintf(canonical, sizeof(canonical),
                   "POST\n/\n\ncontent-type:application/x-www-form-urlencoded; charset=utf-8\n"
                   "host:127.0.0.1:%d\nx-amz-date:20261124T100000Z\n%s%s%s\n"
                   "content-type;host;x-amz-date%s\n%s",
                   server.port, token ? "x-amz-security-token:" : "", token ? token : "",
                   token ? "\n" : "", token ? ";x-amz-security-token" : "", payload);
    sha256_hex(canonical, hashed);
    (void)snprintf(to_sign, sizeof(to_sign),
                   "AWS4-HMAC-SHA256\n20261124T100000Z\n20261124/%s/sts/aws4_request\n%s", region,
                   hashed);
    (void)snprintf(start, sizeof(start), "AWS4%s", secret);
    hmac(start, strlen(start), "20261124", key);
    hmac(key, 32, region, next);
    hmac(next, 32, "sts", key);
    hmac(key, 32, "aws4_request", next);
    hmac(next, 32, to_sign, key);
    hex(key, out);
}

static void expect_signed(int n, const char *id, const char *secret, const char *region,
                          const char *token, const char *body)
{
    char text[8192];
    char sum[65];

    signature(secret, region, token, body, sum);
    (void)snprintf(text, sizeof(text),
                   STS_HEAD "x-amz-date: 20261124T100000Z\r\n%s%s%s"
                            "authorization: AWS4-HMAC-SHA256 Credential=%s/20261124/%s/sts/"
                            "aws4_request, SignedHeaders=content-type;host;x-amz-date%s, "
                            "Signature=%s\r\nContent-Length: %zu\r\n\r\n%s",
                   token ? "x-amz-security-token: " : "", token ? token : "", token ? "\r\n" : "",
                   id, region, token ? ";x-amz-security-token" : "", sum, strlen(body), body);
    expect_request(n, text);
}

/* ------------------------------------------------------------------ assume role */

Test(creds_roles, one_role)
{
    struct atd_credentials *credentials;

    make_file(".aws/config", "[profile r]\nrole_arn = arn:aws:iam::123:role/a+b\n"
                             "source_profile = base\nregion = eu-west-1\n"
                             "role_session_name = me@host\nduration_seconds = 900\n"
                             "external_id = x y\n");
    make_file(".aws/credentials",
              "[base]\naws_access_key_id = IDBASE\naws_secret_access_key = " SECRET "\n");
    server_rule(&server, "POST / ", 200, STS_OK("IDROLE"), 0);
    credentials = must_open(NULL, "r");
    expect_count(0);
    must_get(credentials, "IDROLE", SECRET, TOKEN);
    expect_signed(0, "IDBASE", SECRET, "eu-west-1", NULL,
                  "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123%3Arole%2F"
                  "a%2Bb&RoleSessionName=me%40host&DurationSeconds=900&ExternalId=x%20y");
    must_close(credentials);
}

Test(creds_roles, a_role_after_a_role)
{
    struct atd_credentials *credentials;

    make_file(".aws/config", "[profile r]\nrole_arn = arn:r\nsource_profile = q\n"
                             "[profile q]\nrole_arn = arn:q\ncredential_source = Environment\n");
    set("AWS_ACCESS_KEY_ID", "IDENV");
    set("AWS_SECRET_ACCESS_KEY", "envsecret");
    set("AWS_SESSION_TOKEN", "envtoken");
    server_rule(&server, "POST / ", 200, STS_OK("IDQ"), 1);
    server_rule(&server, "POST / ", 200, STS_OK("IDR"), 1);
    credentials = must_open(NULL, "r");
    must_get(credentials, "IDR", SECRET, TOKEN);
    expect_signed(0, "IDENV", "envsecret", "us-east-1", "envtoken",
                  "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aq&RoleSessionName="
                  "atdatafs-1795514400");
    expect_signed(1, "IDQ", SECRET, "us-east-1", TOKEN,
                  "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Ar&RoleSessionName="
                  "atdatafs-1795514400");
    must_close(credentials);
}

Test(creds_roles, refused_by_sts)
{
    static const struct {
        int status;
        const char *body;
        const char *says;
        int tries;
    } cases[] = {
        {403, STS_ERROR("AccessDenied", "User: u may not sts:AssumeRole"),
         "role 'arn:r': STS answered AccessDenied: User: u may not sts:AssumeRole", 1},
        {403, STS_ERROR("InvalidClientTokenId", "bad " SECRET), "STS answered InvalidClientTokenId",
         1},
        {400, "<html>", "STS answered status 400", 1},
        {500, "", "STS answered status 500", 3},
        {400, STS_ERROR("Throttling", "Rate exceeded"), "Throttling", 3},
        {200, "<x/>", "the reply has no credentials", 1},
        {200, "<!DOCTYPE x [<!ENTITY a \"b\">]><x>&a;</x>", "not XML as STS sends it", 1},
        {200, "{}", "not XML as STS sends it", 1},
        {302, "", "STS answered status 302", 1},
    };

    make_file(".aws/config", "[profile r]\nrole_arn = arn:r\nsource_profile = base\n");
    make_file(".aws/credentials",
              "[base]\naws_access_key_id = IDBASE\naws_secret_access_key = " SECRET "\n");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_credentials *credentials;
        int before = server_count(&server);

        server_forget_rules(&server);
        server_rule(&server, "POST / ", cases[i].status, cases[i].body, 0);
        credentials = must_open(NULL, "r");
        must_say(must_fail(credentials), cases[i].says);
        expect_count(before + cases[i].tries);
        must_close(credentials);
    }
}

Test(creds_roles, what_is_not_sent)
{
    static const struct {
        const char *config;
        const char *says;
    } cases[] = {
        {"[profile r]\nrole_arn = nonsense\nsource_profile = base\n", "is no role_arn"},
        {"[profile r]\nrole_arn = arn:r\nrole_session_name = a/b\nsource_profile = base\n",
         "role_session_name 'a/b'"},
        {"[profile r]\nrole_arn = arn:r\nregion = evil.com/\nsource_profile = base\n",
         "is no region"},
    };
    static const char *const urls[] = {"sts.local", "ftp://sts",          "http://u:" SECRET "@sts",
                                       "http:///",  "http://sts?" SECRET, "http://a b"};

    make_file(".aws/credentials",
              "[base]\naws_access_key_id = IDBASE\naws_secret_access_key = " SECRET "\n");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct atd_credentials *credentials;

        make_file(".aws/config", cases[i].config);
        credentials = must_open(NULL, "r");
        must_say(must_fail(credentials), cases[i].says);
        must_close(credentials);
    }
    make_file(".aws/config", "[profile r]\nrole_arn = arn:r\nsource_profile = base\n");
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct atd_credentials *credentials;

        set("AWS_ENDPOINT_URL_STS", urls[i]);
        credentials = must_open(NULL, "r");
        must_say(must_fail(credentials), "AWS_ENDPOINT_URL_STS");
        must_close(credentials);
    }
    expect_count(0);
}

/* ------------------------------------------------------------------ web identity */

Test(creds_roles, web_identity_of_the_environment)
{
    struct atd_credentials *credentials;
    struct atd_credential value;

    set("AWS_WEB_IDENTITY_TOKEN_FILE", path_in_dir("jwt"));
    set("AWS_ROLE_ARN", "arn:w");
    set("AWS_ROLE_SESSION_NAME", "pod");
    make_file("jwt", "aaa.bbb-_=\n");
    server_rule(&server, "POST / ", 200, STS_OK("IDWEB"), 0);
    credentials = must_open(NULL, NULL);
    cr_assert_str_eq(atd_credentials_source(credentials), "web identity");
    must_get(credentials, "IDWEB", SECRET, TOKEN);
    expect_request(0, STS_HEAD "Content-Length: 117\r\n\r\n"
                               "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aw"
                               "&RoleSessionName=pod&WebIdentityToken=aaa.bbb-_%3D");
    make_file("jwt", "ccc"); /* read anew */
    cr_assert_eq(atd_credentials_get(credentials, &value, NULL), 0);
    cr_assert(atd_credentials_refuse(credentials, &value));
    must_get(credentials, "IDWEB", SECRET, TOKEN);
    must_say(server.requests[1], "&WebIdentityToken=ccc");
    must_close(credentials);
}

Test(creds_roles, web_identity_is_tried_again)
{
    struct atd_credentials *credentials;

    make_file("jwt", TOKEN "jwt");
    {
        char text[512];

        (void)snprintf(text, sizeof(text),
                       "[profile w]\nrole_arn = arn:w\nweb_identity_token_file = %s\n",
                       path_in_dir("jwt"));
        make_file(".aws/config", text);
    }
    server_rule(&server, "POST / ", 400, STS_ERROR("IDPCommunicationError", "try again"), 1);
    server_rule(&server, "POST / ", 400, STS_ERROR("InvalidIdentityToken", "no " TOKEN), 1);
    server_rule(&server, "POST / ", 200, STS_OK("IDWEB"), 1);
    server_rule(&server, "POST / ", 400, STS_ERROR("ExpiredTokenException", "no " TOKEN "jwt"), 0);
    credentials = must_open(NULL, "w");
    must_get(credentials, "IDWEB", SECRET, TOKEN);
    expect_count(3);
    must_close(credentials);
    credentials = must_open(NULL, "w");
    must_say(must_fail(credentials),
             "profile 'w': role 'arn:w': STS answered ExpiredTokenException");
    expect_count(4);
    must_close(credentials);
    make_file("jwt", "two " TOKEN);
    credentials = must_open(NULL, "w");
    must_say(must_fail(credentials), "holds no web identity token");
    must_close(credentials);
    expect_count(4);
}

/* ------------------------------------------------------------------ credential_process */

static struct atd_credentials *open_process(const char *command)
{
    char text[1024];

    (void)snprintf(text, sizeof(text), "[profile p]\ncredential_process = %s\n", command);
    make_file(".aws/config", text);
    return must_open(NULL, "p");
}

#define PROCESS_JSON(ID)                                                                  \
    "{\"Version\": 1, \"AccessKeyId\": \"" ID "\", \"SecretAccessKey\": \"" SECRET "\", " \
    "\"SessionToken\": \"" TOKEN "\", \"Expiration\": \"2026-11-24T12:00:00Z\"}"

Test(creds_roles, process)
{
    struct atd_credentials *credentials;
    char command[512];
    char seen[4096];
    FILE *file;
    size_t len;
    int leaked = fcntl(0, F_DUPFD, 700); /* without O_CLOEXEC */

    make_script("give creds",
                "#!/bin/sh\ncd \"$(dirname \"$0\")\"\n"
                "{ for a in \"$@\"; do echo \"<$a>\"; done; ls /proc/self/fd | tr '\\n' ' '; "
                "cat; } > seen\n"
                "echo '" SECRET "' >&2\n"
                "cat <<'X'\n" PROCESS_JSON("IDPROC") "\nX\n");
    (void)snprintf(command, sizeof(command), "'%s' a\\ b \"c \\\" 'd'\" $HOME '' ;e",
                   path_in_dir("give creds"));
    cr_assert_geq(leaked, 0);
    credentials = open_process(command);
    must_get(credentials, "IDPROC", SECRET, TOKEN);
    must_close(credentials);
    (void)close(leaked);
    file = fopen(path_in_dir("seen"), "r");
    cr_assert_not_null(file);
    len = fread(seen, 1, sizeof(seen) - 1, file);
    seen[len] = '\0';
    (void)fclose(file);
    must_say(seen, "<a b>\n<c \" 'd'>\n<$HOME>\n<>\n<;e>\n");
    cr_assert_null(strstr(seen, "700"), "%s", seen);
    no_secret_in(seen);
}

/* No shell here: shells set their signals themselves. Ours has all blocked in the thread. */
Test(creds_roles, a_process_with_no_signal_blocked_or_ignored)
{
    struct atd_credentials *credentials;
    char command[256];
    char seen[4096];
    char *at;
    FILE *file;
    size_t len;

    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(command, sizeof(command), "dd if=/proc/self/status of=%s", path_in_dir("seen"));
    credentials = open_process(command);
    must_say(must_fail(credentials), "'dd': the reply is not JSON");
    must_close(credentials);
    (void)signal(SIGPIPE, SIG_DFL);
    file = fopen(path_in_dir("seen"), "r");
    cr_assert_not_null(file);
    len = fread(seen, 1, sizeof(seen) - 1, file);
    seen[len] = '\0';
    (void)fclose(file);
    must_say(seen, "SigBlk:\t0000000000000000");
    at = strstr(seen, "SigIgn:");
    cr_assert_not_null(at);
    /* glibc ignores 32 and 33, its own, in such children */
    cr_assert_eq(strtoull(at + 7, NULL, 16) & 0x7fffffffu, 0, "%.40s", at);
}

Test(creds_roles, process_without_expiration_or_token)
{
    struct atd_credentials *credentials;
    struct atd_credential value;

    make_script("p", "#!/bin/sh\necho '{\"Version\":1,\"AccessKeyId\":\"ID\",\"SecretAccessKey\":"
                     "\"s\",\"SessionToken\":null}'\n");
    credentials = open_process(path_in_dir("p"));
    must_get(credentials, "ID", "s", "");
    cr_assert_eq(atd_credentials_get(credentials, &value, NULL), 0);
    cr_assert_eq(value.expires_s, 0);
    must_close(credentials);
}

Test(creds_roles, processes_that_fail)
{
    static const struct {
        const char *script;
        const char *says;
    } cases[] = {
        {"echo " SECRET " >&2; exit 3", "ended with status 3; run it by hand"},
        {"kill -9 $$", "ended by signal 9"},
        {"echo '" SECRET "'", "the reply is not JSON"},
        {"echo '{\"AccessKeyId\": \"ID\", \"SecretAccessKey\": \"" SECRET "\"}'", "\"Version\": 1"},
        {"echo '{\"Version\": 2}'", "\"Version\" is 2"},
        {"echo '{\"Version\": 1}'", "the access key id is missing"},
        {"yes " SECRET, "printed more than 65536 bytes"},
        {"true", "the reply is not JSON"},
        {"echo '{\"Version\": 1, \"SecretAccessKey\": {\"" SECRET "\": 1}}'", "not a text"},
    };
    struct atd_credentials *credentials;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char script[512];

        (void)snprintf(script, sizeof(script), "#!/bin/sh\n%s\n", cases[i].script);
        make_script("p", script);
        credentials = open_process(path_in_dir("p"));
        must_say(must_fail(credentials), cases[i].says);
        must_close(credentials);
    }
    credentials = open_process("/nonexistent/program --password=" SECRET);
    must_say(must_fail(credentials), "'/nonexistent/program': cannot run it");
    must_close(credentials);
    credentials = open_process("'open " SECRET);
    must_say(must_fail(credentials), "a quote is not closed");
    must_close(credentials);
    credentials = open_process("'' x");
    must_say(must_fail(credentials), "there is no command");
    must_close(credentials);
}

static int pid_in(const char *name)
{
    FILE *file = fopen(path_in_dir(name), "r");
    int pid = 0;

    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%d", &pid), 1);
    (void)fclose(file);
    cr_assert_gt(pid, 1);
    return pid;
}

/* Gone, or a zombie that its new parent has not seen yet. */
static void await_end_of(int pid)
{
    int64_t until_ms = atd_clock_monotonic_ms() + DEADLINE_MS;
    char path[64];
    char state = 'Z';

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    do {
        FILE *file = fopen(path, "r");

        cr_assert(atd_clock_monotonic_ms() < until_ms, "process %d runs on", pid);
        if (!file)
            return;
        (void)usleep(2000);
        if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
            state = 'Z';
        (void)fclose(file);
    } while (state != 'Z' && state != 'X');
}

static void await_file(const char *name)
{
    int64_t until_ms = atd_clock_monotonic_ms() + DEADLINE_MS;

    while (access(path_in_dir(name), F_OK) != 0) {
        cr_assert(atd_clock_monotonic_ms() < until_ms, "no %s", name);
        (void)usleep(2000);
    }
}

Test(creds_roles, a_process_that_hangs_ends_with_us)
{
    struct atd_credentials *credentials;
    struct atd_credential value;

    make_script("p", "#!/bin/sh\ncd \"$(dirname \"$0\")\"\nsleep 1000 &\necho $! > child.new\n"
                     "echo $$ > self\nmv child.new child\nwait\n");
    credentials = open_process(path_in_dir("p"));
    cr_assert_eq(atd_credentials_get(credentials, &value, NULL), -EAGAIN);
    await_file("child");
    must_close(credentials); /* long before the minute that it may take */
    await_end_of(pid_in("self"));
    await_end_of(pid_in("child"));
}

Test(creds_roles, a_grandchild_that_holds_the_pipe)
{
    struct atd_credentials *credentials;
    struct atd_credential value;

    make_script("p", "#!/bin/sh\ncd \"$(dirname \"$0\")\"\nsleep 1000 &\necho $! > child\n"
                     "cat <<'X'\n" PROCESS_JSON("IDPROC") "\nX\n");
    credentials = open_process(path_in_dir("p"));
    cr_assert_eq(atd_credentials_get(credentials, &value, NULL), -EAGAIN);
    must_get(credentials, "IDPROC", SECRET, TOKEN);
    must_close(credentials);
    cr_assert_eq(kill(pid_in("child"), SIGKILL), 0);
}
