#include "catalog/doubts.h"

#include <string.h>

#include "base/digest.h"

static uint64_t hash(struct atd_str url)
{
    uint8_t digest[ATD_SHA256_BYTES];
    uint64_t number;

    atd_sha256_of(url.ptr, url.len, digest);
    memcpy(&number, digest, sizeof(number));
    return number;
}

void atd_doubts_init(struct atd_doubts *doubts)
{
    atd_lock_init(&doubts->lock, ATD_RANK_LOCATOR);
    doubts->count = 0;
}

void atd_doubts_release(struct atd_doubts *doubts)
{
    atd_lock_destroy(&doubts->lock);
}

void atd_doubts_add(struct atd_doubts *doubts, struct atd_str url)
{
    uint64_t number = hash(url);

    atd_lock_take(&doubts->lock);
    doubts->urls[doubts->count++ % ATD_DOUBTS_MAX] = number;
    atd_lock_give(&doubts->lock);
}

bool atd_doubts_has(struct atd_doubts *doubts, struct atd_str url)
{
    uint64_t number = 0;
    bool found = false;
    size_t count;

    atd_lock_take(&doubts->lock);
    count = doubts->count < ATD_DOUBTS_MAX ? doubts->count : ATD_DOUBTS_MAX;
    if (count) {
        number = hash(url);
        for (size_t i = 0; i < count && !found; i++)
            found = doubts->urls[i] == number;
    }
    atd_lock_give(&doubts->lock);
    return found;
}
