/* How transfers end: deadlines, callbacks, cancelling, starting again, stopping. */
#include "http_scene.h"

/* Nothing at all, two bytes and then nothing, or "hello". */
static void answer(void *ctx, const struct fake_request *request, struct fake_reply *reply)
{
    bool is_silent = strcmp(request->target, "/silent") == 0;

    (void)ctx;
    text_reply(reply, 200, "hello");
    reply->end = FAKE_KEEP;
    if (!is_silent && strcmp(request->target, "/stops") != 0)
        return;
    reply->cut = true;
    reply->cut_at = is_silent ? SIZE_MAX : 2;
    reply->end = FAKE_STALL;
}

Test(http_ends, no_answer_and_silence_within_it_time_out)
{
    struct get *get;

    open_scene(answer);
    get = new_get("/silent");
    get->transfer.first_byte_timeout_ms = 150;
    expect_error(get, ETIMEDOUT, "no answer for 150 ms");
    cr_assert(get->result.error.retryable);
    cr_assert_geq(get->result.total_ms, 150);
    cr_assert_eq(get->result.first_byte_ms, -1);
    free(get);
    get = new_get("/stops");
    get->transfer.idle_timeout_ms = 150;
    expect_error(get, ETIMEDOUT, "the answer stopped for 150 ms");
    cr_assert_geq(get->result.total_ms, 150);
    cr_assert_eq(get->body_len, 2);
    free(get);
    close_scene();
}

Test(http_ends, callbacks_end_a_transfer)
{
    struct get *get;

    open_scene(answer);
    get = new_get("/x");
    get->refuse_head = -ESTALE;
    expect_error(get, ESTALE, "");
    cr_assert_eq(get->body_len, 0);
    free(get);
    get = new_get("/x");
    get->refuse_data = -EFBIG;
    expect_error(get, EFBIG, "");
    free(get);
    get = new_get("/x");
    get->cancel_in_head = true;
    expect_error(get, ECANCELED, "cancelled");
    cr_assert_eq(get->body_len, 0);
    free(get);
    get = new_get("/x");
    get->cancel_at_once = true;
    expect_error(get, ECANCELED, "cancelled");
    cr_assert_eq(get->heads, 0);
    free(get);
    get = new_get("/x");
    get->transfer.head = NULL;
    get->transfer.data = NULL;
    run(get);
    cr_assert_eq(get->result.error.code, 0);
    cr_assert_eq(get->result.status, 200);
    cr_assert_eq(atomic_load(&atd_http_stats(engine)->discarded_bytes), 5);
    free(get);
    close_scene();
}

Test(http_ends, done_may_start_the_transfer_again)
{
    struct get *get;

    open_scene(answer);
    get = new_get("/x");
    get->again = 20;
    expect_ok(get, 200, "hello");
    cr_assert_eq(fake_http_requests(server), 21);
    cr_assert_eq(fake_http_connections(server), 1);
    free(get);
    close_scene();
}

Test(http_ends, stop_ends_transfers)
{
    struct get *gets[3];

    open_scene(answer);
    for (int i = 0; i < 3; i++) {
        gets[i] = new_get(i == 1 ? "/stops" : "/silent");
        atd_http_post(loop, &gets[i]->task);
    }
    UNTIL(fake_http_busy(server) == 3);
    cr_assert(atd_http_stop(engine, PATIENCE_MS));
    engine = NULL;
    for (int i = 0; i < 3; i++) {
        cr_assert(atomic_load(&gets[i]->done));
        cr_assert_eq(gets[i]->result.error.code, ECANCELED);
        free(gets[i]);
    }
    close_scene();
}

Test(http_ends, idle_loop_does_not_wake_up)
{
    uint64_t before;
    struct get *get;

    open_scene(answer);
    get = new_get("/x"); /* an idle connection stays behind */
    expect_ok(get, 200, "hello");
    free(get);
    (void)usleep(200000); /* what is left over from the transfer */
    before = atomic_load(&loop->wakeups);
    (void)usleep(1500000);
    cr_assert_leq(atomic_load(&loop->wakeups) - before, 1);
    close_scene();
}
