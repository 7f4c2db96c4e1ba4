#include "base/check.h"
#include "publish/publisher_private.h"

/* One always fits, however small the budget is. */
static bool fits_locked(const struct atd_publisher *publisher, uint64_t bytes)
{
    return publisher->part_bytes == 0 ||
           publisher->part_bytes + bytes <= publisher->options.memory_bytes;
}

/* Takes those whose turn it is off the line, in its order: a large one is not overtaken for ever.
 */
static struct atd_part_claim *grant_locked(struct atd_publisher *publisher)
{
    struct atd_part_claim *granted = publisher->first_part;
    struct atd_part_claim *last = NULL;

    while (publisher->first_part && fits_locked(publisher, publisher->first_part->bytes)) {
        last = publisher->first_part;
        publisher->part_bytes += last->bytes;
        publisher->first_part = last->next;
    }
    if (!publisher->first_part)
        publisher->last_part = NULL;
    if (!last)
        return NULL;
    last->next = NULL;
    return granted;
}

static void submit(struct atd_publisher *publisher, struct atd_part_claim *granted)
{
    while (granted) {
        struct atd_part_claim *next = granted->next;
        /* The senders' queue holds a few steps and parts of each publication: it cannot be full. */
        int rc = atd_workers_submit(publisher->send, &granted->work, NULL);

        atd_assert(rc == 0);
        granted = next;
    }
}

void atd_publisher_send_part(struct atd_publisher *publisher, struct atd_part_claim *part)
{
    struct atd_part_claim *granted;

    part->next = NULL;
    atd_lock_take(&publisher->lock);
    if (publisher->last_part)
        publisher->last_part->next = part;
    else
        publisher->first_part = part;
    publisher->last_part = part;
    granted = grant_locked(publisher);
    atd_lock_give(&publisher->lock);
    submit(publisher, granted);
}

void atd_publisher_part_sent(struct atd_publisher *publisher, uint64_t bytes)
{
    struct atd_part_claim *granted;

    atd_lock_take(&publisher->lock);
    atd_assert(publisher->part_bytes >= bytes);
    publisher->part_bytes -= bytes;
    granted = grant_locked(publisher);
    atd_lock_give(&publisher->lock);
    submit(publisher, granted);
}
