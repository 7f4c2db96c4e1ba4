/*
 * Several threads get and refuse while the source gives one value after another: what is given
 * out is always whole, and there is always one.
 */
#include <errno.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/credentials_testing.h"
#include "race.h"
#include "support/creds_server.h"

#define ROUNDS 40
#define DEADLINE_MS 120000
#define START_S 1795514400LL /* 2026-11-24T10:00:00Z */
#define REPLY                                                                  \
    "{\"AccessKeyId\":\"ID%d\",\"SecretAccessKey\":\"S%d\",\"Token\":\"T%d\"," \
    "\"Expiration\":\"%s\"}"

static struct server server;
static struct atd_credentials *credentials;
static atomic_llong now_s = START_S;
static atomic_int ended;

static int64_t test_now(void *ctx)
{
    (void)ctx;
    return atomic_load(&now_s);
}

static const char *test_getenv(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") == 0 ? "/c" : NULL;
}

/* All parts of one reply carry its number. */
static void check(const struct atd_credential *value)
{
    MUST(strncmp(value->access_key_id, "ID", 2) == 0);
    MUST(strncmp(value->secret_access_key, "S", 1) == 0);
    MUST(strcmp(value->access_key_id + 2, value->secret_access_key + 1) == 0);
    MUST(strcmp(value->access_key_id + 2, value->session_token + 1) == 0);
}

static void *use(void *ctx)
{
    struct atd_credential *value = malloc(sizeof(*value));
    unsigned turn = 0;

    (void)ctx;
    MUST(value);
    while (!atomic_load(&ended)) {
        int rc = atd_credentials_get(credentials, value, NULL);

        MUST(rc == 0 || rc == -EAGAIN);
        if (rc == 0) {
            check(value);
            if (turn++ % 64 == 0)
                (void)atd_credentials_refuse(credentials, value);
        }
        MUST(atd_credentials_source(credentials) != NULL);
        MUST(atd_credentials_region(credentials) == NULL);
    }
    free(value);
    return NULL;
}

/*
 * Each round has a reply of its own; the clock jumps to where the one before is due and lives on.
 */
static void *turn_the_clock(void *ctx)
{
    static char bodies[ROUNDS][512];
    int64_t until_ms = atd_clock_monotonic_ms() + DEADLINE_MS;

    (void)ctx;
    for (int i = 0; i < ROUNDS; i++) {
        char expires[ATD_CLOCK_TEXT_MAX];
        int before;

        atd_clock_format(START_S + (i + 2) * 2000, expires);
        (void)snprintf(bodies[i], sizeof(bodies[i]), REPLY, i, i, i, expires);
        server_only_rule(&server, "GET /c ", 200, bodies[i]);
        atomic_store(&now_s, START_S + (i + 1) * 2000 - 500);
        before = server_count(&server); /* who asks from here on gets this reply */
        while (server_count(&server) == before) {
            MUST(atd_clock_monotonic_ms() < until_ms);
            (void)usleep(500);
        }
    }
    atomic_store(&ended, 1);
    return NULL;
}

int main(void)
{
    struct atd_credentials_options options = {.getenv = test_getenv};
    char first[512];
    pthread_t clock;

    server_start(&server);
    (void)snprintf(first, sizeof(first), REPLY, -1, -1, -1, "2026-11-24T10:33:20Z");
    server_only_rule(&server, "GET /c ", 200, first);
    options.container_host_url = server.url;
    MUST(atd_credentials_new(&options, &credentials, NULL) == 0);
    atd_credentials_set_clock(credentials, test_now, NULL);
    atd_credentials_set_patience(credentials, 50);
    MUST(pthread_create(&clock, NULL, turn_the_clock, NULL) == 0);
    race(use, NULL);
    MUST(pthread_join(clock, NULL) == 0);
    MUST(atd_credentials_free(credentials, 30000));
    server_stop(&server);
    return 0;
}
