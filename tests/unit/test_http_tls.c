/* Certificates are always checked. The server is the openssl command's, with one made here. */
#include <criterion/criterion.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/http.h"

#define PATIENCE_MS 60000

static char dir[] = "/tmp/atd-tls-XXXXXX";
static char cert[64];
static char key[64];
static pid_t server;
static unsigned port;
static FILE *server_output; /* stays open: the server writes to it now and then */

/* Starts it with its output in a pipe; -1 for no pipe. */
static pid_t spawn(const char *const argv[], int output)
{
    pid_t child = fork();

    cr_assert(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);

        (void)dup2(null, 0);
        (void)dup2(output >= 0 ? output : null, 1);
        (void)dup2(null, 2);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when this test fails */
        (void)execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return child;
}

static void make_certificate(void)
{
    const char *argv[] = {"openssl",  "req",
                          "-x509",    "-newkey",
                          "ec",       "-nodes",
                          "-days",    "2",
                          "-keyout",  key,
                          "-out",     cert,
                          "-subj",    "/CN=only-me",
                          "-pkeyopt", "ec_paramgen_curve:prime256v1",
                          "-addext",  "subjectAltName=IP:127.0.0.1",
                          NULL};
    int status = 0;
    pid_t child;

    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
    (void)snprintf(key, sizeof(key), "%s/key.pem", dir);
    child = spawn(argv, -1);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0, "openssl req: %x", status);
}

static void start_server(void)
{
    const char *argv[] = {"openssl", "s_server", "-accept", "127.0.0.1:0", "-www",
                          "-cert",   cert,       "-key",    key,           NULL};
    char line[256];
    int pipe_fds[2];

    make_certificate();
    cr_assert_eq(pipe(pipe_fds), 0);
    server = spawn(argv, pipe_fds[1]);
    (void)close(pipe_fds[1]);
    server_output = fdopen(pipe_fds[0], "r");
    while (port == 0 && fgets(line, sizeof(line), server_output))
        (void)sscanf(line, "ACCEPT 127.0.0.1:%u", &port);
    cr_assert_neq(port, 0, "openssl s_server says no port");
}

static void stop_server(void)
{
    (void)kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
    (void)fclose(server_output);
    (void)unlink(cert);
    (void)unlink(key);
    (void)rmdir(dir);
}

static struct atd_http_result last;
static atomic_int ended;
static struct atd_http_loop *loop;
static struct atd_http_transfer transfer;

static void on_done(struct atd_http_transfer *t, const struct atd_http_result *result)
{
    (void)t;
    last = *result;
    atomic_store(&ended, 1);
}

static void start(struct atd_http_task *task)
{
    (void)task;
    atd_http_transfer_start(loop, &transfer);
}

static void fetch(const char *host, const char *ca_file)
{
    struct atd_http_options options = {.threads = 1, .ca_file = ca_file};
    struct atd_http_message message = {.method = "GET"};
    struct atd_http_task task = {.run = start};
    struct atd_http_engine *engine;
    struct atd_error err = ATD_ERROR_INIT;
    int64_t until_ms = atd_clock_monotonic_ms() + PATIENCE_MS;
    char url[128];

    (void)snprintf(url, sizeof(url), "https://%s:%u/", host, port);
    message.url = url;
    transfer = (struct atd_http_transfer){.message = &message,
                                          .connect_timeout_ms = PATIENCE_MS,
                                          .first_byte_timeout_ms = PATIENCE_MS,
                                          .idle_timeout_ms = PATIENCE_MS,
                                          .done = on_done};
    atomic_store(&ended, 0);
    cr_assert_eq(atd_http_start(&options, &engine, &err), 0, "%s", err.text);
    loop = atd_http_pick_loop(engine);
    atd_http_post(loop, &task);
    while (!atomic_load(&ended) && atd_clock_monotonic_ms() < until_ms)
        (void)usleep(1000);
    cr_assert(atomic_load(&ended));
    cr_assert(atd_http_stop(engine, PATIENCE_MS));
}

Test(http_tls, only_certificates_of_the_ca_file_and_for_the_host_are_taken)
{
    (void)setenv("no_proxy", "*", 1);
    start_server();
    cr_assert_eq(curl_global_init(CURL_GLOBAL_DEFAULT), CURLE_OK);
    fetch("127.0.0.1", cert);
    cr_assert_eq(last.error.code, 0, "%s", last.error.text);
    cr_assert_eq(last.status, 200);
    fetch("127.0.0.1", NULL);
    cr_assert_eq(last.error.code, EACCES, "%d %s", last.error.code, last.error.text);
    cr_assert(!last.error.retryable);
    fetch("localhost", cert);
    cr_assert_eq(last.error.code, EACCES, "%d %s", last.error.code, last.error.text);
    fetch("127.0.0.1", "/nonexistent/ca.pem");
    cr_assert_eq(last.error.code, EACCES, "%d %s", last.error.code, last.error.text);
    curl_global_cleanup();
    stop_server();
}
