/* Who may connect, over what: passwords, ACLs, TCP, TLS. */
#include <errno.h>

#include "index/redis.h"
#include "index/writer.h"
#include "index_seen.h"
#include "redis_server.h"

static struct redis_server server;
static struct seen seen;
static char port_text[16];
static unsigned port;

static void setup(void)
{
    (void)signal(SIGPIPE, SIG_DFL);
    server_make_dir(&server);
    port = free_port();
    (void)snprintf(port_text, sizeof(port_text), "%u", port);
}

static void teardown(void)
{
    server_remove(&server);
}

TestSuite(redis_access, .init = setup, .fini = teardown);

/* A URL with %u for the port. */
static struct atd_index *open_url(const char *fmt, const char *ca_file)
{
    struct atd_redis_url url;
    struct atd_index *index = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    char text[512];
    const char *at = strstr(fmt, "PORT");

    (void)snprintf(text, sizeof(text), "%.*s%u%s", (int)(at - fmt), fmt, port, at + 4);
    cr_assert_eq(atd_redis_url_parse(text, &url, &err), 0, "%s", err.text);
    cr_assert_eq(atd_index_redis_open(&url, ca_file, &index, &err), 0, "%s", err.text);
    cr_assert_null(strstr(index->location, "S3cret"));
    return index;
}

static void expect_loads(const char *fmt, const char *ca_file)
{
    struct atd_index *index = open_url(fmt, ca_file);
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(see(index, &seen, &err), 0, "%s: %s", fmt, err.text);
    cr_assert_str_eq(seen.text, "schema:S@1={}\n");
    cr_assert_eq(atd_index_wait(index, 0), ATD_NEWS_NONE);
    atd_index_free(index);
}

/* `code` 0: any. */
static void expect_fails(const char *fmt, const char *ca_file, int code, const char *says)
{
    struct atd_index *index = open_url(fmt, ca_file);
    struct atd_error err = ATD_ERROR_INIT;
    int rc;

    rc = see(index, &seen, &err);
    cr_assert(rc < 0 && (rc == -code || !code), "%s: %s", fmt, err.text);
    cr_assert_not_null(strstr(err.text, says), "%s: %s", fmt, err.text);
    cr_assert_null(strstr(err.text, "S3cret"), "%s", err.text);
    cr_assert_not_null(strstr(err.text, "redis"), "%s", err.text);
    atd_index_free(index);
}

static void set_options(const char *const *options)
{
    for (size_t i = 0; options[i]; i++)
        server.options[i] = options[i];
}

Test(redis_access, tcp_without_a_password)
{
    redisContext *writer;

    set_options((const char *const[]){"--port", port_text, NULL});
    server_start(&server);
    writer = server_connect(&server);
    RUN(writer, "SET LocalSchema:S@1 {}");
    expect_loads("redis://127.0.0.1:PORT", NULL);
    expect_loads("redis://localhost:PORT/0", NULL);
    /* A password for a server that has none: the default user takes any with AUTH user pass. */
    expect_fails("redis://:S3cret@127.0.0.1:PORT", NULL, EACCES, "leave it out");
    /* At once or after 5 s, as the random bytes of the greeting hold the end of a line or not. */
    expect_fails("rediss://127.0.0.1:PORT", NULL, 0, "speak TLS on this port");
    expect_fails("redis://no-such-host.invalid:PORT", NULL, EHOSTUNREACH, "no address");
    redisFree(writer);
    server_kill(&server);
    expect_fails("redis://127.0.0.1:PORT", NULL, ECONNREFUSED, "no server answers there");
}

Test(redis_access, passwords_and_users)
{
    redisContext *writer;
    redisReply *reply;

    set_options((const char *const[]){"--port", port_text, NULL});
    server_start(&server);
    writer = server_connect(&server);
    RUN(writer, "SET LocalSchema:S@1 {}");
    RUN(writer, "SET secret x");
    RUN(writer, "CONFIG SET requirepass S3cret@/1");
    RUN(writer, "AUTH S3cret@/1");
    /* S3-REDIS 6.4, the read-only mount. */
    RUN(writer, "ACL SETUSER atd on >S3cret resetkeys resetchannels -@all ~LocalDatasetEntry:* "
                "~LocalSchema:* ~LocalLens:* ~Label:* +ping +select +client|id +client|tracking "
                "+client|setname +subscribe +scan +type +hgetall +get");
    RUN(writer, "ACL SETUSER bare on >S3cret -@all ~* +scan +hgetall +get");
    RUN(writer, "ACL SETUSER scanless on >S3cret -@all ~* +get +hgetall");
    RUN(writer, "ACL SETUSER blind on >S3cret resetkeys ~Label:* +@all");
    RUN(writer, "ACL SETUSER open on nopass ~* +@all");
    expect_loads("redis://:S3cret%40%2F1@127.0.0.1:PORT", NULL);
    expect_loads("redis://S3cret%40%2F1@127.0.0.1:PORT", NULL);
    expect_loads("redis://default:S3cret%40%2F1@127.0.0.1:PORT", NULL);
    expect_loads("redis://atd:S3cret@127.0.0.1:PORT", NULL);
    expect_loads("redis://bare:S3cret@127.0.0.1:PORT", NULL);
    expect_loads("redis://open:@127.0.0.1:PORT", NULL);
    expect_fails("redis://127.0.0.1:PORT", NULL, EACCES, "$ATDATA_REDIS_PASSWORD");
    expect_fails("redis://:S3cretx@127.0.0.1:PORT", NULL, EACCES, "user name or password");
    expect_fails("redis://atd:S3cretx@127.0.0.1:PORT", NULL, EACCES, "user name or password");
    expect_fails("redis://scanless:S3cret@127.0.0.1:PORT", NULL, EACCES, "+scan");
    expect_fails("redis://blind:S3cret@127.0.0.1:PORT", NULL, EACCES, "~LocalSchema:*");
    /* Without the right to be told, or to ask for counters, the index is loaded from time to time.
     */
    {
        struct atd_index *index = open_url("redis://bare:S3cret@127.0.0.1:PORT", NULL);
        int64_t start_ms;

        cr_assert_eq(see(index, &seen, NULL), 0);
        cr_assert_str_eq(atd_index_coherence(index), "polling");
        start_ms = atd_clock_monotonic_ms();
        /* Who asks may not trust that nothing happened. */
        cr_assert_eq(atd_index_sync(index), ATD_NEWS_ALL);
        cr_assert_eq(atd_index_wait(index, 30000), ATD_NEWS_ALL);
        cr_assert_geq(atd_clock_monotonic_ms() - start_ms, 5000);
        cr_assert_eq(see(index, &seen, NULL), 0);
        atd_index_free(index);
    }
    /* Enough to be told; with the channel it would be RESP2. */
    {
        struct atd_index *index = open_url("redis://atd:S3cret@127.0.0.1:PORT", NULL);

        cr_assert_eq(see(index, &seen, NULL), 0);
        cr_assert_str_eq(atd_index_coherence(index), "tracking (RESP3)");
        reply = redisCommand(writer, "CLIENT LIST");
        cr_assert_not_null(strstr(reply->str, "name=atdatafs"));
        freeReplyObject(reply);
        atd_index_free(index);
    }
    redisFree(writer);
}

/* ------------------------------------------------------------------ TLS */

/* A CA, a certificate for localhost and 127.0.0.1 (not ::1), and one for another name. */
static const char make_certificates[] =
    "cd %s && exec >/dev/null 2>&1 && "
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out "
    "ca.pem -days 2 -subj /CN=test-ca && "
    "for name in localhost other; do "
    "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key -out "
    "$name.csr -subj /CN=$name && "
    "if [ $name = localhost ]; then san=DNS:localhost,IP:127.0.0.1; else san=DNS:other.test; fi && "
    "printf 'subjectAltName=%%s' $san > $name.ext && "
    "openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile "
    "$name.ext -out $name.pem || exit 1; done";

static char ca[128];
static char certificate[128];
static char key[128];

static void start_tls(const char *name)
{
    redisContext *writer;

    (void)snprintf(certificate, sizeof(certificate), "%s/%s.pem", server.dir, name);
    (void)snprintf(key, sizeof(key), "%s/%s.key", server.dir, name);
    set_options((const char *const[]){"--tls-port", port_text, "--tls-cert-file", certificate,
                                      "--tls-key-file", key, "--tls-ca-cert-file", ca,
                                      "--tls-auth-clients", "no", NULL});
    server_start(&server);
    writer = server_connect(&server);
    RUN(writer, "SET LocalSchema:S@1 {}");
    redisFree(writer);
}

Test(redis_access, tls_takes_only_the_right_certificate)
{
    char command[1024];
    char with_ca[256];

    (void)snprintf(ca, sizeof(ca), "%s/ca.pem", server.dir);
    (void)snprintf(command, sizeof(command), make_certificates, server.dir);
    cr_assert_eq(system(command), 0);
    start_tls("localhost");
    expect_loads("rediss://localhost:PORT", ca);
    expect_loads("rediss://127.0.0.1:PORT", ca);
    expect_loads("rediss://127.0.0.1:PORT?ssl_cert_reqs=none", NULL);
    (void)snprintf(with_ca, sizeof(with_ca), "rediss://localhost:PORT?ssl_ca_certs=%s", ca);
    expect_loads(with_ca, NULL);
    expect_fails("rediss://localhost:PORT", NULL, EACCES, "?ssl_ca_certs=FILE");
    expect_fails("rediss://localhost:PORT", "/no/such/file", EINVAL, "'/no/such/file'");
    expect_fails("redis://localhost:PORT", NULL, 0, "rediss://");
    server_kill(&server);
    memset(server.options, 0, sizeof(server.options));
    start_tls("other");
    expect_fails("rediss://localhost:PORT", ca, EACCES, "ostname mismatch");
    expect_fails("rediss://127.0.0.1:PORT", ca, EACCES, "IP address mismatch");
    expect_loads("rediss://127.0.0.1:PORT?ssl_cert_reqs=none", ca);
}

static void expect_large_change(const char *ca_file)
{
    struct atd_redis_url url;
    struct atd_index_writer *own = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_arena arena = ATD_ARENA_INIT(64u << 20);
    struct atd_index_entry found;
    struct atd_index_operation one = {.action = ATD_INDEX_PUT_ENTRY};
    size_t len = 9u << 20;
    char *urls = malloc(len);
    char text[64];

    for (size_t i = 0; i < len; i++)
        urls[i] = (char)(i * 2654435761u >> 13);
    one.after.entry = (struct atd_index_entry){.cid = ATD_STR("large"),
                                               .name = ATD_STR("n"),
                                               .schema_ref = ATD_STR("r"),
                                               .data_urls = {(const uint8_t *)urls, len}};
    one.before = one.after;
    (void)snprintf(text, sizeof(text), "rediss://localhost:%u", port);
    cr_assert_eq(atd_redis_url_parse(text, &url, &err), 0);
    cr_assert_eq(atd_index_redis_writer(&url, ca_file, &own, &err), 0);
    cr_assert_eq(atd_index_commit(own, &one, 1, NULL, &err), 0, "%s", err.text);
    cr_assert_eq(atd_index_read_entry(own, ATD_STR("large"), &arena, &found, &err), 0);
    cr_assert(found.data_urls.len == len && memcmp(found.data_urls.ptr, urls, len) == 0);
    atd_arena_release(&arena);
    atd_index_writer_free(own);
    free(urls);
}

/* Far more than one record, both ways. */
Test(redis_access, tls_carries_many_keys)
{
    char command[1024];
    struct atd_index *index;
    redisContext *writer;
    struct atd_error err = ATD_ERROR_INIT;

    (void)snprintf(ca, sizeof(ca), "%s/ca.pem", server.dir);
    (void)snprintf(command, sizeof(command), make_certificates, server.dir);
    cr_assert_eq(system(command), 0);
    start_tls("localhost");
    writer = server_connect(&server);
    RUN(writer, "EVAL %s 0",
        "for i=1,20000 do redis.call('HSET', 'LocalDatasetEntry:'..string.rep('k', 200)..i, "
        "'name', 'n', 'schema_ref', 'r', 'data_urls', string.rep('u', 1000)) end");
    index = open_url("rediss://localhost:PORT", ca);
    cr_assert_eq(see(index, &seen, &err), 0, "%s", err.text);
    cr_assert_eq(seen.entries, 20000);
    expect_large_change(ca);
    RUN(writer, "DEL LocalDatasetEntry:large");
    server_kill(&server);
    cr_assert(atd_index_changed(index));
    cr_assert_eq(see(index, &seen, &err), -ECONNREFUSED, "%s", err.text);
    atd_index_free(index);
    redisFree(writer);
}
