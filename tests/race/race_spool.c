/*
 * Writers of one spool, and a reader that follows them: what it reads between two questions of one
 * epoch is what was written, whole and of one pass.
 */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "publish/spool.h"
#include "race.h"

#define PIECE 4096u
#define PIECES 256u
#define WRITERS 3
#define PASSES 40

static struct atd_spool *spool;
static atomic_uint next_piece;
static atomic_bool is_over;
static unsigned blocks_checked; /* the reader's */

/* Every piece of a pass is made of its number. */
static void write_piece(unsigned piece, unsigned pass)
{
    uint8_t bytes[PIECE];

    memset(bytes, (int)(pass + 1), sizeof(bytes));
    MUST(atd_spool_write(spool, (uint64_t)piece * PIECE, (struct atd_bytes){bytes, PIECE}, NULL) ==
         0);
}

static void *write_ahead(void *arg)
{
    unsigned piece;

    (void)arg;
    while ((piece = atomic_fetch_add(&next_piece, 1)) < PIECES)
        write_piece(piece, 0);
    return NULL;
}

static void check_epoch(uint64_t *epoch, unsigned *pass, uint64_t *at)
{
    struct atd_spool_progress before, after;
    uint8_t bytes[PIECE];
    size_t len = 0;

    atd_spool_progress(spool, &before);
    MUST(before.ordered_end <= before.size_bytes);
    if (before.epoch != *epoch) {
        *epoch = before.epoch;
        *pass = 0;
        *at = 0;
    }
    if (*at + PIECE > before.ordered_end)
        *at = 0;
    if (before.ordered_end < PIECE)
        return;
    MUST(atd_spool_read(spool, *at, bytes, PIECE, &len, NULL) == 0);
    atd_spool_progress(spool, &after);
    if (after.epoch != before.epoch)
        return;
    MUST(len == PIECE && bytes[0] != 0 && memcmp(bytes, bytes + 1, PIECE - 1) == 0);
    MUST(*pass == 0 || *pass == bytes[0]);
    *pass = bytes[0];
    *at += PIECE;
    blocks_checked++;
}

static void *follow(void *arg)
{
    uint64_t epoch = 0;
    unsigned pass = 0;
    uint64_t at = 0;

    (void)arg;
    while (!atomic_load(&is_over))
        check_epoch(&epoch, &pass, &at);
    return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *))
{
    MUST(pthread_create(thread, NULL, run, NULL) == 0);
}

int main(void)
{
    char path[] = "/tmp/race-spool-XXXXXX";
    pthread_t writers[WRITERS];
    pthread_t reader;
    struct atd_spool_progress progress;
    int fd = mkstemp(path);

    MUST(fd >= 0 && close(fd) == 0 && unlink(path) == 0);
    MUST(atd_spool_new(path, 0, 1, &spool, NULL) == 0);
    start(&reader, follow);
    for (int i = 0; i < WRITERS; i++)
        start(&writers[i], write_ahead);
    for (int i = 0; i < WRITERS; i++)
        MUST(pthread_join(writers[i], NULL) == 0);
    atd_spool_progress(spool, &progress);
    MUST(progress.ordered_end == (uint64_t)PIECE * PIECES && progress.epoch == 0);
    /* Rewritten from 0 again and again, at times after a truncation. */
    for (unsigned pass = 1; pass < PASSES; pass++) {
        if (pass % 3 == 0)
            MUST(atd_spool_truncate(spool, 0, NULL) == 0);
        for (unsigned piece = 0; piece < PIECES; piece++)
            write_piece(piece, pass);
    }
    atomic_store(&is_over, true);
    MUST(pthread_join(reader, NULL) == 0);
    atd_spool_progress(spool, &progress);
    MUST(progress.ordered_end == (uint64_t)PIECE * PIECES && progress.changing == 0);
    atd_spool_free(spool);
    (void)printf("%u blocks\n", blocks_checked);
    return 0;
}
