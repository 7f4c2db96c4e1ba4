/*
 * Calls started, urged and cancelled from several threads, against a server that cuts, resets,
 * throttles and delays, on an endpoint that lets only a few through at a time: every call ends
 * exactly once, a call that succeeded has its bytes, and stopping the engine with calls in every
 * state leaves none behind.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/call.h"
#include "race.h"
#include "support/fake_http.h"

#define RUN_MS 1500
#define ENOUGH 50         /* calls that succeed */
#define PATIENCE_MS 60000 /* for that, on a busy machine */
#define OBJECT_BYTES 20000
#define SLOTS 8 /* calls that a thread has under way */

static uint8_t object[OBJECT_BYTES];
static struct fake_http *server;
static struct atd_http_engine *engine;
static struct atd_endpoint *endpoint;
static char url[128];
static atomic_bool stop;
static atomic_uint succeeded;
static atomic_uint cancelled;
static atomic_uint failed;

struct slot {
    struct atd_call call;
    uint8_t into[OBJECT_BYTES];
    unsigned not_ready;
    pthread_mutex_t lock;
    bool running; /* guarded by lock */
};

static int prepare(struct atd_call *call, size_t done_bytes, struct atd_arena *arena,
                   struct atd_http_message *ret_message, struct atd_error *err)
{
    struct slot *slot = call->ctx;
    char text[64];
    struct atd_str range;

    if (slot->not_ready > 0) {
        slot->not_ready--;
        return -EAGAIN;
    }
    ret_message->method = "GET";
    ret_message->url = url;
    (void)snprintf(text, sizeof(text), "bytes=%zu-", done_bytes);
    range = atd_arena_str(arena, atd_str_from(text));
    if (!range.ptr)
        return atd_error_set(err, ENOMEM, "no memory");
    ret_message->headers[0] = (struct atd_http_header){ATD_STR("Range"), range};
    ret_message->header_count = 1;
    return 0;
}

static bool accept_reply(struct atd_call *call, size_t done_bytes, const struct atd_http_head *head)
{
    (void)call;
    return head->status == 206 && head->content_length == (int64_t)(OBJECT_BYTES - done_bytes);
}

static enum atd_verdict judge(struct atd_call *call, const struct atd_http_head *head,
                              struct atd_bytes body, struct atd_error *err)
{
    (void)call;
    (void)body;
    (void)atd_error_set_retryable(err, EIO, "status %d", head->status);
    return head->status == 503 ? ATD_VERDICT_THROTTLED : ATD_VERDICT_RETRY;
}

static void done(struct atd_call *call, const struct atd_error *why)
{
    struct slot *slot = call->ctx;

    if (!why)
        MUST(memcmp(slot->into, object, OBJECT_BYTES) == 0);
    (void)atomic_fetch_add(!why ? &succeeded : why->code == ECANCELED ? &cancelled : &failed, 1);
    (void)pthread_mutex_lock(&slot->lock);
    MUST(slot->running);
    slot->running = false;
    (void)pthread_mutex_unlock(&slot->lock);
}

static const struct atd_call_ops ops = {
    .prepare = prepare, .accept = accept_reply, .judge = judge, .done = done};

static void answer(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    (void)ctx;
    fake_http_object(request, reply, object, sizeof(object));
    switch (request->number % 13) {
    case 3:
        reply->cut = true;
        reply->cut_at = 777;
        reply->end = FAKE_CLOSE;
        break;
    case 5:
        reply->cut = true;
        reply->cut_at = request->number % 2 ? SIZE_MAX : 3000;
        reply->end = FAKE_RESET;
        break;
    case 7:
        if (request->number % 4 == 0) /* not so often that one at a time is all that is left */
            reply->status = 503;
        break;
    case 9:
        reply->delay_ms = 3;
        break;
    case 11:
        reply->pause_ms = 3;
        break;
    default:
        break;
    }
}

static void begin(struct slot *slot, unsigned dice)
{
    memset(slot->into, 0, sizeof(slot->into));
    slot->not_ready = dice % 11 == 0 ? 1 : 0;
    slot->call = (struct atd_call){
        .endpoint = endpoint,
        .ops = &ops,
        .kind = ATD_CALL_GET,
        .into = slot->into,
        .into_len = sizeof(slot->into),
        .stall_timeout_ms = 30000,
        .urgent = dice % 3 == 0,
        .may_hedge = dice % 2 == 0,
        .ctx = slot,
    };
    slot->running = true;
    MUST(atd_call_start(&slot->call, NULL) == 0);
}

/* Does something with one call; the lock makes sure that it has not ended. */
static void touch(struct slot *slot, unsigned dice)
{
    (void)pthread_mutex_lock(&slot->lock);
    if (!slot->running) {
        if (!atomic_load(&stop))
            begin(slot, dice);
    } else if (dice % 32 == 0) {
        atd_call_cancel(&slot->call);
    } else if (dice % 4 == 1) {
        atd_call_make_urgent(&slot->call);
    }
    (void)pthread_mutex_unlock(&slot->lock);
}

static struct slot slots[RACE_THREADS][SLOTS];
static atomic_uint thread_number;

static void *play(void *ctx)
{
    unsigned self = atomic_fetch_add(&thread_number, 1);
    unsigned seed = self + 1;

    (void)ctx;
    while (!atomic_load(&stop)) {
        unsigned dice = (unsigned)rand_r(&seed);
        unsigned first_byte_ms;
        uint64_t bytes_per_s;

        /* Mostly its own, sometimes another thread's. */
        touch(&slots[dice % 16 == 0 ? (self + 1) % RACE_THREADS : self][dice / 16 % SLOTS],
              dice / 256);
        atd_endpoint_speed(endpoint, &first_byte_ms, &bytes_per_s);
        if (dice % 4 == 0)
            (void)usleep(200);
    }
    return NULL;
}

static void *race_players(void *ctx)
{
    race(play, ctx);
    return NULL;
}

int main(void)
{
    static const struct atd_endpoint_limits limits = {
        .concurrency_first = 6,
        .concurrency_max = 6,
        .connect_timeout_ms = 30000,
        .first_byte_timeout_ms = 30000,
        .idle_timeout_ms = 30000,
        .retry_tokens = 500,
        .backoff_base_ms = 2,
        .backoff_throttled_ms = 2,
        .backoff_max_ms = 10,
        .hedge_percent = 20,
    };
    struct atd_http_options options = {.threads = 2, .user_agent = "race"};
    pthread_t players;
    int64_t until_ms;

    for (size_t i = 0; i < sizeof(object); i++)
        object[i] = (uint8_t)(i * 31 + i / 256);
    for (int i = 0; i < RACE_THREADS; i++) {
        for (int j = 0; j < SLOTS; j++)
            (void)pthread_mutex_init(&slots[i][j].lock, NULL);
    }
    (void)setenv("no_proxy", "*", 1);
    MUST(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    server = fake_http_start(answer, NULL);
    fake_http_url(server, "/object", url, sizeof(url));
    MUST(atd_http_start(&options, &engine, NULL) == 0);
    MUST(atd_endpoint_new(engine, &limits, &endpoint, NULL) == 0);
    MUST(pthread_create(&players, NULL, race_players, NULL) == 0);
    until_ms = atd_clock_monotonic_ms() + RUN_MS;
    while (atd_clock_monotonic_ms() < until_ms ||
           (atomic_load(&succeeded) < ENOUGH && atd_clock_monotonic_ms() < until_ms + PATIENCE_MS))
        (void)usleep(10000);
    atomic_store(&stop, true);
    MUST(pthread_join(players, NULL) == 0);
    /* Many are still under way. */
    MUST(atd_http_stop(engine, PATIENCE_MS));
    for (int i = 0; i < RACE_THREADS; i++) {
        for (int j = 0; j < SLOTS; j++)
            MUST(!slots[i][j].running);
    }
    atd_endpoint_free(endpoint);
    fake_http_stop(server);
    curl_global_cleanup();
    (void)printf("%u succeeded, %u cancelled, %u failed\n", atomic_load(&succeeded),
                 atomic_load(&cancelled), atomic_load(&failed));
    MUST(atomic_load(&succeeded) >= ENOUGH);
    MUST(atomic_load(&cancelled) > 0);
    return 0;
}
