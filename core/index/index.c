#include "index/index.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"

int atd_index_init(struct atd_index *index, const struct atd_index_ops *ops, const char *location,
                   struct atd_error *err)
{
    index->ops = ops;
    index->location = strdup(location);
    if (!index->location)
        return atd_error_set(err, ENOMEM, "index: out of memory");
    index->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (index->wake_fd < 0) {
        int code = errno;

        free(index->location);
        return atd_error_set(err, code, "index '%s': %s", location, strerror(code));
    }
    return 0;
}

int atd_index_load(struct atd_index *index, const struct atd_index_sink *sink,
                   struct atd_error *err)
{
    int rc = index->ops->load(index, sink, err);

    return rc ? atd_error_wrap(err, rc, "index '%s'", index->location) : 0;
}

int atd_index_changes(struct atd_index *index, const struct atd_index_sink *sink,
                      struct atd_error *err)
{
    int rc;

    atd_assert(index->ops->changes);
    rc = index->ops->changes(index, sink, err);
    return rc ? atd_error_wrap(err, rc, "index '%s'", index->location) : 0;
}

bool atd_index_was_woken(struct atd_index *index, unsigned timeout_ms)
{
    struct pollfd wake = {.fd = index->wake_fd, .events = POLLIN};
    uint64_t count;

    if (poll(&wake, 1, (int)timeout_ms) <= 0)
        return false;
    return read(index->wake_fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static enum atd_index_news ask(struct atd_index *index)
{
    return index->ops->changed(index) ? ATD_NEWS_ALL : ATD_NEWS_NONE;
}

enum atd_index_news atd_index_wait(struct atd_index *index, unsigned timeout_ms)
{
    int64_t until_ms = atd_clock_monotonic_ms() + timeout_ms;
    enum atd_index_news news;
    bool woken = false;

    if (index->ops->wait)
        return index->ops->wait(index, index->wake_fd, timeout_ms);
    while ((news = ask(index)) == ATD_NEWS_NONE && !woken) {
        int64_t left_ms = until_ms - atd_clock_monotonic_ms();

        if (left_ms <= 0)
            break;
        woken = atd_index_was_woken(index, left_ms < ATD_INDEX_POLL_MS ? (unsigned)left_ms
                                                                       : ATD_INDEX_POLL_MS);
    }
    return news;
}

enum atd_index_news atd_index_sync(struct atd_index *index)
{
    return index->ops->sync ? index->ops->sync(index) : ask(index);
}

bool atd_index_changed(struct atd_index *index)
{
    return atd_index_sync(index) != ATD_NEWS_NONE;
}

void atd_index_wake(struct atd_index *index)
{
    const uint64_t one = 1;
    ssize_t done;

    /* Full means that it wakes already. */
    do {
        done = write(index->wake_fd, &one, sizeof(one));
    } while (done < 0 && errno == EINTR);
}

const char *atd_index_coherence(struct atd_index *index)
{
    return index->ops->coherence ? index->ops->coherence(index) : "polling";
}

void atd_index_free(struct atd_index *index)
{
    if (!index)
        return;
    free(index->location);
    (void)close(index->wake_fd);
    index->ops->free(index);
}
