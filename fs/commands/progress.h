/*
 * A progress line on a terminal: bytes, rate, what remains. Silent elsewhere.
 */
#ifndef ATD_FS_PROGRESS_H
#define ATD_FS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool shown; /* standard error is a terminal, and nobody asked for quiet */
    int64_t start_ms;
    int64_t drawn_ms;
};

void progress_start(struct progress *progress, bool quiet);
/* Draws at most ten times a second. */
void progress_draw(struct progress *progress, unsigned done_files, unsigned files,
                   uint64_t done_bytes, uint64_t bytes);
/* Takes the line away, so that a message can be printed. */
void progress_clear(struct progress *progress);

/* "1.5 GiB". Returns its argument. */
#define PROGRESS_SIZE_TEXT_MAX 32
char *progress_size_text(uint64_t bytes, char ret_text[PROGRESS_SIZE_TEXT_MAX]);

#endif
