#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "net/http_loop.h"

static void place(struct atd_http_heap *heap, size_t at, struct atd_http_timer *timer)
{
    heap->timers[at - 1] = timer;
    timer->heap_place = at;
}

static struct atd_http_timer *timer_at(const struct atd_http_heap *heap, size_t at)
{
    return heap->timers[at - 1];
}

/* Moves the hole at `at` to where `timer` belongs, and puts it there. */
static void settle(struct atd_http_heap *heap, size_t at, struct atd_http_timer *timer)
{
    while (at > 1 && timer_at(heap, at / 2)->due_ms > timer->due_ms) {
        place(heap, at, timer_at(heap, at / 2));
        at /= 2;
    }
    while (2 * at <= heap->count) {
        size_t child = 2 * at;

        if (child < heap->count &&
            timer_at(heap, child + 1)->due_ms < timer_at(heap, child)->due_ms)
            child++;
        if (timer_at(heap, child)->due_ms >= timer->due_ms)
            break;
        place(heap, at, timer_at(heap, child));
        at = child;
    }
    place(heap, at, timer);
}

static int grow(struct atd_http_heap *heap, struct atd_error *err)
{
    size_t capacity = heap->capacity ? 2 * heap->capacity : 64;
    struct atd_http_timer **timers;

    if (heap->count < heap->capacity)
        return 0;
    timers = capacity <= ATD_HTTP_TIMERS_MAX
                 ? reallocarray(heap->timers, capacity, sizeof(struct atd_http_timer *))
                 : NULL;
    if (!timers)
        return atd_error_set(err, ENOMEM, "no memory for a timer");
    heap->timers = timers;
    heap->capacity = capacity;
    return 0;
}

int atd_http_heap_put(struct atd_http_heap *heap, struct atd_http_timer *timer,
                      struct atd_error *err)
{
    int rc = grow(heap, err);

    atd_assert(timer->heap_place == 0);
    if (rc)
        return rc;
    heap->count++;
    settle(heap, heap->count, timer);
    return 0;
}

void atd_http_heap_take(struct atd_http_heap *heap, struct atd_http_timer *timer)
{
    size_t at = timer->heap_place;
    struct atd_http_timer *last;

    if (at == 0)
        return;
    atd_assert(at <= heap->count && timer_at(heap, at) == timer);
    last = timer_at(heap, heap->count);
    heap->count--;
    if (last != timer)
        settle(heap, at, last);
    timer->heap_place = 0;
}

struct atd_http_timer *atd_http_heap_first(const struct atd_http_heap *heap)
{
    return heap->count ? timer_at(heap, 1) : NULL;
}

void atd_http_heap_release(struct atd_http_heap *heap)
{
    free(heap->timers);
    *heap = (struct atd_http_heap){NULL, 0, 0};
}

int atd_http_timer_arm(struct atd_http_loop *loop, struct atd_http_timer *timer, unsigned delay_ms,
                       struct atd_error *err)
{
    atd_http_heap_take(&loop->heap, timer);
    timer->due_ms = atd_clock_monotonic_ms() + delay_ms;
    return atd_http_heap_put(&loop->heap, timer, err);
}

void atd_http_timer_disarm(struct atd_http_loop *loop, struct atd_http_timer *timer)
{
    atd_http_heap_take(&loop->heap, timer);
}
