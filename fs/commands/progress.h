/*
 * A progress line on a terminal: bytes, rate, what remains. Silent elsewhere.
 */
#ifndef ATD_FS_PROGRESS_H
#define ATD_FS_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How far the whole has come. Bytes are those that have to be sent. */
struct progress_facts {
    unsigned done_files;
    unsigned files;
    uint64_t done_bytes;
    uint64_t bytes;
    uint64_t bytes_per_s; /* 0: not known yet */
};

/* The rate of the last seconds: an average hides that nothing moves any more. */
#define PROGRESS_RATE_STEP_MS 250
#define PROGRESS_RATE_SAMPLES 16u

struct progress_rate {
    struct {
        int64_t at_ms;
        uint64_t bytes;
    } samples[PROGRESS_RATE_SAMPLES];
    unsigned count; /* ever taken */
};

struct progress {
    bool shown; /* standard error is a terminal that can redraw, and nobody asked for quiet */
    bool is_drawn;
    int64_t drawn_ms;
    struct progress_rate rate;
};

/* ------------------------------------------------------------------ pure */

/* "1.5 GiB". Returns its argument. */
#define PROGRESS_SIZE_TEXT_MAX 32
char *progress_size_text(uint64_t bytes, char ret_text[PROGRESS_SIZE_TEXT_MAX]);

/* "0:07", "12:00", "3:05:09"; above 99 hours ">99 h". Returns its argument. */
#define PROGRESS_TIME_TEXT_MAX 16
char *progress_time_text(uint64_t seconds, char ret_text[PROGRESS_TIME_TEXT_MAX]);

/*
 * The line for a terminal of `columns`: ASCII, always shorter than that, so that it never wraps.
 * What is least needed goes first: the bar, the files, what remains, the rate, the sizes.
 */
#define PROGRESS_LINE_MAX 256
void progress_format(const struct progress_facts *facts, unsigned columns,
                     char ret_line[PROGRESS_LINE_MAX]);

/* `done_bytes` at `now_ms`; returns bytes a second over the samples that are kept, 0 at first. */
uint64_t progress_rate_add(struct progress_rate *rate, int64_t now_ms, uint64_t done_bytes);

/* ------------------------------------------------------------------ on standard error */

void progress_start(struct progress *progress, bool quiet);
/* Draws at most ten times a second; fills in the rate. */
void progress_draw(struct progress *progress, struct progress_facts *facts);
/* Takes the line away, so that a message can be printed. */
void progress_clear(struct progress *progress);
/* What a signal handler writes to take the line away. */
#define PROGRESS_CLEAR_TEXT "\r\033[K"

#endif
