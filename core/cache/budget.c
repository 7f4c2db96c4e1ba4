#include "cache/budget.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/lock.h"
#include "cache/cursor.h"

#define ROUND_BYTES 4096u

struct atd_budget {
    /* fixed */
    uint64_t limit_bytes;
    uint64_t ahead_limit_bytes;
    struct atd_cache_stats *stats;
    void (*wake)(void *ctx);
    void *ctx;

    atomic_uint_fast64_t drops;
    struct atd_lock lock;
    /* guarded by lock */
    uint64_t used_bytes;  /* charged by buffers with memory; with the spares never over the limit */
    uint64_t ahead_bytes; /* of these, unread read-ahead */
    struct atd_buffer *oldest; /* kept ones, by last use */
    struct atd_buffer *newest;
    struct atd_budget_claim *first;
    struct atd_budget_claim *last;
    unsigned spare_count;
    uint8_t *spares[ATD_BUDGET_SPARES_MAX];
};

int atd_budget_new(uint64_t memory_bytes, struct atd_cache_stats *stats, void (*wake)(void *ctx),
                   void *ctx, struct atd_budget **ret_budget, struct atd_error *err)
{
    struct atd_budget *budget = calloc(1, sizeof(*budget));

    if (!budget)
        return atd_error_set(err, ENOMEM, "memory budget: out of memory");
    budget->limit_bytes = memory_bytes / 4 * ATD_BUDGET_QUARTERS;
    if (budget->limit_bytes < 2 * ATD_PART_BYTES)
        budget->limit_bytes = 2 * ATD_PART_BYTES;
    budget->ahead_limit_bytes = budget->limit_bytes / 2;
    budget->stats = stats;
    budget->wake = wake;
    budget->ctx = ctx;
    atd_lock_init(&budget->lock, ATD_RANK_BUDGET);
    atomic_store(&stats->memory_limit_bytes, budget->limit_bytes);
    *ret_budget = budget;
    return 0;
}

void atd_budget_free(struct atd_budget *budget)
{
    if (!budget)
        return;
    atd_assert(budget->used_bytes == 0 && !budget->oldest && !budget->first);
    for (unsigned i = 0; i < budget->spare_count; i++)
        (void)munmap(budget->spares[i], ATD_PART_BYTES);
    atomic_store(&budget->stats->memory_used_bytes, 0);
    atd_lock_destroy(&budget->lock);
    free(budget);
}

uint64_t atd_budget_limit_bytes(const struct atd_budget *budget)
{
    return budget->limit_bytes;
}

uint64_t atd_budget_ahead_limit_bytes(const struct atd_budget *budget)
{
    return budget->ahead_limit_bytes;
}

static uint64_t taken_locked(const struct atd_budget *budget)
{
    return budget->used_bytes + (uint64_t)budget->spare_count * ATD_PART_BYTES;
}

static void show_locked(struct atd_budget *budget)
{
    atd_assert(taken_locked(budget) <= budget->limit_bytes);
    atomic_store(&budget->stats->memory_used_bytes, taken_locked(budget));
}

static void wake_locked(struct atd_budget *budget)
{
    if (budget->first)
        budget->wake(budget->ctx);
}

/* ------------------------------------------------------------------ kept buffers */

static void unlink_locked(struct atd_budget *budget, struct atd_buffer *buffer)
{
    if (buffer->older)
        buffer->older->newer = buffer->newer;
    else
        budget->oldest = buffer->newer;
    if (buffer->newer)
        buffer->newer->older = buffer->older;
    else
        budget->newest = buffer->older;
    buffer->older = NULL;
    buffer->newer = NULL;
}

static void link_newest_locked(struct atd_budget *budget, struct atd_buffer *buffer)
{
    buffer->older = budget->newest;
    buffer->newer = NULL;
    if (budget->newest)
        budget->newest->newer = buffer;
    else
        budget->oldest = buffer;
    budget->newest = buffer;
}

static void count_as_read_locked(struct atd_budget *budget, struct atd_buffer *buffer)
{
    if (!buffer->ahead)
        return;
    buffer->ahead = false;
    budget->ahead_bytes -= buffer->charged;
}

/* Takes the memory away; the buffer itself stays while somebody owns or holds it. */
static void drop_memory_locked(struct atd_budget *budget, struct atd_buffer *buffer)
{
    if (!buffer->bytes)
        return;
    if (buffer->lost > buffer->consumed)
        ATD_CACHE_COUNT(budget->stats, wasted_bytes, buffer->lost - buffer->consumed);
    count_as_read_locked(budget, buffer);
    budget->used_bytes -= buffer->charged;
    if (buffer->charged < ATD_PART_BYTES)
        free(buffer->bytes);
    else if (budget->spare_count < ATD_BUDGET_SPARES_MAX)
        budget->spares[budget->spare_count++] = buffer->bytes;
    else
        (void)munmap(buffer->bytes, ATD_PART_BYTES);
    buffer->bytes = NULL;
    if (buffer->kept)
        unlink_locked(budget, buffer);
    buffer->kept = false;
    show_locked(budget);
}

static bool is_passed(const struct atd_buffer *buffer)
{
    return buffer->consumed_end >= buffer->size;
}

static bool drop_one_locked(struct atd_budget *budget, bool only_passed)
{
    for (struct atd_buffer *buffer = budget->oldest; buffer; buffer = buffer->newer) {
        if (buffer->holds == 0 && (!only_passed || is_passed(buffer))) {
            drop_memory_locked(budget, buffer);
            (void)atomic_fetch_add(&budget->drops, 1);
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ taking */

/* Makes `charged` fit below the limit; *ret_spare: a recycled part, which is not a spare any more.
 */
static bool charge_locked(struct atd_budget *budget, size_t charged, bool ahead,
                          uint8_t **ret_spare)
{
    bool part = charged == ATD_PART_BYTES;

    if (ahead && budget->ahead_bytes + charged > budget->ahead_limit_bytes)
        return false;
    *ret_spare = NULL;
    for (;;) {
        if (part && budget->spare_count > 0) {
            *ret_spare = budget->spares[--budget->spare_count];
            break;
        }
        if (taken_locked(budget) + charged <= budget->limit_bytes)
            break;
        if (budget->spare_count > 0)
            (void)munmap(budget->spares[--budget->spare_count], ATD_PART_BYTES);
        else if (!drop_one_locked(budget, true) && (ahead || !drop_one_locked(budget, false)))
            return false;
    }
    budget->used_bytes += charged;
    if (ahead)
        budget->ahead_bytes += charged;
    show_locked(budget);
    return true;
}

static void uncharge(struct atd_budget *budget, size_t charged, bool ahead)
{
    atd_lock_take(&budget->lock);
    budget->used_bytes -= charged;
    if (ahead)
        budget->ahead_bytes -= charged;
    show_locked(budget);
    atd_lock_give(&budget->lock);
}

static size_t charge_of(size_t size)
{
    atd_assert(size > 0 && size <= ATD_PART_BYTES);
    return size > ATD_PART_BYTES / 2 ? ATD_PART_BYTES
                                     : (size + ROUND_BYTES - 1) / ROUND_BYTES * ROUND_BYTES;
}

/* The buffer for memory that was charged; NULL when the system has none. */
static struct atd_buffer *new_buffer(struct atd_budget *budget, size_t size, size_t charged,
                                     bool ahead, uint8_t *spare)
{
    struct atd_buffer *buffer = calloc(1, sizeof(*buffer));

    if (buffer) {
        buffer->size = size;
        buffer->charged = charged;
        buffer->owned = true;
        buffer->ahead = ahead;
        if (spare) {
            buffer->bytes = spare;
        } else if (charged == ATD_PART_BYTES) {
            void *bytes =
                mmap(NULL, charged, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            buffer->bytes = bytes == MAP_FAILED ? NULL : bytes;
        } else {
            buffer->bytes = malloc(charged);
        }
        if (buffer->bytes)
            return buffer;
    } else if (spare) {
        (void)munmap(spare, ATD_PART_BYTES);
    }
    free(buffer);
    uncharge(budget, charged, ahead);
    return NULL;
}

struct atd_buffer *atd_budget_take(struct atd_budget *budget, size_t size, bool ahead)
{
    size_t charged = charge_of(size);
    uint8_t *spare = NULL;
    bool fits;

    atd_lock_take(&budget->lock);
    fits = !budget->first && charge_locked(budget, charged, ahead, &spare);
    atd_lock_give(&budget->lock);
    return fits ? new_buffer(budget, size, charged, ahead, spare) : NULL;
}

void atd_budget_claim(struct atd_budget *budget, struct atd_budget_claim *claim)
{
    atd_assert(charge_of(claim->size) <= budget->limit_bytes);
    atd_lock_take(&budget->lock);
    claim->next = NULL;
    claim->in_line = true;
    if (budget->last)
        budget->last->next = claim;
    else
        budget->first = claim;
    budget->last = claim;
    wake_locked(budget);
    atd_lock_give(&budget->lock);
}

static void pop_locked(struct atd_budget *budget, struct atd_budget_claim *claim)
{
    struct atd_budget_claim *before = NULL;

    for (struct atd_budget_claim *at = budget->first; at != claim; at = at->next)
        before = at;
    if (before)
        before->next = claim->next;
    else
        budget->first = claim->next;
    if (budget->last == claim)
        budget->last = before;
    claim->in_line = false;
}

bool atd_budget_withdraw(struct atd_budget *budget, struct atd_budget_claim *claim)
{
    bool was_in_line;

    atd_lock_take(&budget->lock);
    was_in_line = claim->in_line;
    if (was_in_line) {
        pop_locked(budget, claim);
        wake_locked(budget); /* the next may be smaller */
    }
    atd_lock_give(&budget->lock);
    return was_in_line;
}

void atd_budget_grant(struct atd_budget *budget)
{
    for (;;) {
        struct atd_budget_claim *claim;
        struct atd_buffer *buffer;
        uint8_t *spare = NULL;
        size_t size = 0;

        atd_lock_take(&budget->lock);
        claim = budget->first;
        if (claim && charge_locked(budget, charge_of(claim->size), false, &spare)) {
            size = claim->size;
            pop_locked(budget, claim);
        } else {
            claim = NULL;
        }
        atd_lock_give(&budget->lock);
        if (!claim)
            return;
        /* Without memory the claim gets NULL, and says ENOMEM. */
        buffer = new_buffer(budget, size, charge_of(size), false, spare);
        claim->granted(claim, buffer);
    }
}

/* ------------------------------------------------------------------ using */

void atd_budget_demand(struct atd_budget *budget, struct atd_buffer *buffer)
{
    atd_lock_take(&budget->lock);
    count_as_read_locked(budget, buffer);
    atd_lock_give(&budget->lock);
}

void atd_budget_keep(struct atd_budget *budget, struct atd_buffer *buffer, uint64_t lost)
{
    atd_lock_take(&budget->lock);
    atd_assert(buffer->owned && !buffer->kept);
    buffer->lost = lost;
    buffer->kept = true;
    link_newest_locked(budget, buffer);
    wake_locked(budget);
    atd_lock_give(&budget->lock);
}

void atd_budget_pass(struct atd_budget *budget, struct atd_buffer *buffer)
{
    atd_lock_take(&budget->lock);
    buffer->consumed_end = buffer->size;
    count_as_read_locked(budget, buffer);
    atd_lock_give(&budget->lock);
}

uint64_t atd_budget_drops(const struct atd_budget *budget)
{
    return atomic_load(&budget->drops);
}

bool atd_budget_is_dropped(struct atd_budget *budget, const struct atd_buffer *buffer)
{
    bool dropped;

    atd_lock_take(&budget->lock);
    dropped = !buffer->bytes;
    atd_lock_give(&budget->lock);
    return dropped;
}

bool atd_budget_hold(struct atd_budget *budget, struct atd_buffer *buffer)
{
    bool there;

    atd_lock_take(&budget->lock);
    there = buffer->bytes != NULL;
    if (there) {
        buffer->holds++;
        if (buffer->kept) {
            unlink_locked(budget, buffer);
            link_newest_locked(budget, buffer);
        }
    }
    atd_lock_give(&budget->lock);
    return there;
}

void atd_budget_unhold(struct atd_budget *budget, struct atd_buffer *buffer, uint64_t from,
                       uint64_t to)
{
    bool last = false;

    atd_lock_take(&budget->lock);
    atd_assert(buffer->holds > 0);
    buffer->holds--;
    buffer->consumed += to - from;
    if (to > buffer->consumed_end)
        buffer->consumed_end = to;
    if (is_passed(buffer))
        count_as_read_locked(budget, buffer);
    if (buffer->holds == 0) {
        last = !buffer->owned;
        if (last)
            drop_memory_locked(budget, buffer);
        wake_locked(budget);
    }
    atd_lock_give(&budget->lock);
    if (last)
        free(buffer);
}

void atd_budget_release(struct atd_budget *budget, struct atd_buffer *buffer, uint64_t lost)
{
    bool last;

    atd_lock_take(&budget->lock);
    atd_assert(buffer->owned);
    buffer->owned = false;
    buffer->lost = lost;
    if (buffer->kept)
        unlink_locked(budget, buffer);
    buffer->kept = false;
    last = buffer->holds == 0;
    if (last)
        drop_memory_locked(budget, buffer);
    wake_locked(budget);
    atd_lock_give(&budget->lock);
    if (last)
        free(buffer);
}
