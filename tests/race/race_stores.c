/*
 * Reads of the http and disk stores started, hurried, cancelled and waited for by several threads,
 * beside stats that give up at once, while the server cuts connections; then the store is freed
 * right behind the last of them.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "race.h"
#include "store/stores.h"
#include "support/fake_http.h"
#include "support/one_get.h"

#define ROUNDS 6
#define READS 40
#define SIZE 300000

static uint8_t object[SIZE];
static char url[256];
static struct atd_store *store;
static atomic_uint number;

static void answer(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
    if (request->number % 5 == 1) {
        reply->cut = true;
        reply->cut_at = reply->body_len / 2;
        reply->end = FAKE_RESET;
    }
    if (request->number % 7 == 2)
        reply->delay_ms = 5;
}

static void cancel(struct one_get *one)
{
    (void)pthread_mutex_lock(&one->mutex);
    if (one->done_count == 0)
        atd_store_get_cancel(store, &one->get);
    (void)pthread_mutex_unlock(&one->mutex);
}

static void *read_and_stat(void *ctx)
{
    struct atd_object_info info;
    struct atd_error err;

    (void)ctx;
    for (unsigned i = 0; i < READS; i++) {
        unsigned turn = atomic_fetch_add(&number, 1);
        uint64_t first = turn * 997 % SIZE;
        struct one_get *one = one_get_start(store, url, first, SIZE, NULL, 60000);
        int rc;

        if (turn % 3 == 0)
            cancel(one);
        (void)pthread_mutex_lock(&one->mutex);
        if (one->done_count == 0)
            atd_store_get_make_urgent(store, &one->get);
        (void)pthread_mutex_unlock(&one->mutex);
        rc = atd_store_stat(store, atd_str_from(url), turn % 4 == 0 ? 1 : 60000, &info, &err);
        MUST(rc == 0 || (rc == -ETIMEDOUT && turn % 4 == 0));
        if (turn % 5 == 0)
            cancel(one);
        MUST(one_get_wait_done(one));
        MUST(one->why.code == 0 || one->why.code == ECANCELED);
        MUST(one->why.code == 0 || turn % 3 == 0 || turn % 5 == 0);
        MUST(!one->went_back);
        MUST(memcmp(one->get.into, object + first, one->received) == 0);
        MUST(one->why.code || one->received == SIZE - first);
        /* The thread that told us may still hold the mutex. */
        (void)pthread_mutex_lock(&one->mutex);
        (void)pthread_mutex_unlock(&one->mutex);
        one_get_free(one);
    }
    return NULL;
}

static void race_http(void)
{
    struct atd_http_options options = {.threads = 2, .user_agent = "race"};
    struct atd_endpoint_limits limits = atd_endpoint_limits_default;
    struct fake_http *server = fake_http_start(answer, NULL);
    struct atd_http_engine *engine;
    struct atd_error err;

    limits.backoff_base_ms = 1;
    limits.retry_tokens = 1000000;
    limits.first_byte_timeout_ms = 60000;
    limits.idle_timeout_ms = 60000;
    fake_http_url(server, "/object", url, sizeof(url));
    MUST(atd_http_start(&options, &engine, &err) == 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        MUST(atd_store_http_new(engine, &limits, &store, &err) == 0);
        race(read_and_stat, NULL);
        atd_store_free(store);
    }
    MUST(atd_http_stop(engine, 60000));
    fake_http_stop(server);
}

static void race_disk(void)
{
    char path[] = "/tmp/atd-race-XXXXXX";
    const char *roots[] = {"/tmp"};
    struct atd_file_store *files;
    struct atd_error err;
    int fd = mkstemp(path);

    MUST(fd >= 0 && write(fd, object, SIZE) == SIZE && close(fd) == 0);
    (void)strcpy(url, path);
    MUST(atd_file_store_new(roots, 1, &files, &err) == 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        MUST(atd_store_file_new(files, &store, &err) == 0);
        race(read_and_stat, NULL);
        atd_store_free(store);
    }
    atd_file_store_free(files);
    (void)unlink(path);
}

int main(void)
{
    for (size_t i = 0; i < SIZE; i++)
        object[i] = (uint8_t)(i * 31 + (i >> 8));
    race_disk();
    race_http();
    return 0;
}
