/*
 * Streams of one object read, cancelled by another thread, and freed in the middle by several
 * threads at once.
 */
#include <errno.h>
#include <string.h>

#include "race.h"
#include "store/stores.h"
#include "store/stream.h"

#define ROUNDS 12
#define SIZE (6 * ATD_STREAM_PART_BYTES + 1000)

static struct atd_store *store;

static void fill(void *ctx, uint64_t offset, uint8_t *into, size_t len)
{
    (void)ctx;
    memset(into, (int)(offset >> 16), len);
}

static void *cancel(void *stream)
{
    atd_stream_cancel(stream);
    return NULL;
}

static void *read_streams(void *ctx)
{
    struct atd_object_info info;
    struct atd_error err;

    (void)ctx;
    MUST(atd_store_stat(store, ATD_STR("mem://a"), 1000, &info, &err) == 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct atd_stream *stream;
        struct atd_bytes bytes = {NULL, 0};
        pthread_t thread;
        uint64_t got = 0;
        int rc;

        MUST(atd_stream_open(store, ATD_STR("mem://a"), &info, 60000, &stream, &err) == 0);
        if (i % 3 == 0)
            MUST(pthread_create(&thread, NULL, cancel, stream) == 0);
        do {
            rc = atd_stream_next(stream, &bytes, &err);
            got += rc ? 0 : bytes.len;
        } while (rc == 0 && bytes.len > 0 && !(i % 3 == 1 && got > SIZE / 2));
        MUST(i % 3 != 2 || (rc == 0 && got == SIZE));
        MUST(rc == 0 || (i % 3 == 0 && rc == -ECANCELED));
        if (i % 3 == 0)
            MUST(pthread_join(thread, NULL) == 0);
        atd_stream_free(stream);
    }
    return NULL;
}

int main(void)
{
    struct atd_error err;

    MUST(atd_store_memory_new(&store, &err) == 0);
    MUST(atd_store_memory_put_made(store, ATD_STR("mem://a"), SIZE, fill, NULL, &err) == 0);
    race(read_streams, NULL);
    atd_store_free(store);
    return 0;
}
