#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

#define DRAW_MS 100
#define BAR_CELLS_MAX 24u
#define BAR_CELLS_MIN 6u
#define COLUMNS_DEFAULT 80u
#define HOURS_MAX 99u

/* ------------------------------------------------------------------ texts */

char *progress_size_text(uint64_t bytes, char ret_text[PROGRESS_SIZE_TEXT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    size_t unit = 0;

    /* 1023.96 would be rounded to "1024.0". */
    while (value >= 1023.95 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(ret_text, PROGRESS_SIZE_TEXT_MAX, unit ? "%.1f %s" : "%.0f %s", value,
                   units[unit]);
    return ret_text;
}

char *progress_time_text(uint64_t seconds, char ret_text[PROGRESS_TIME_TEXT_MAX])
{
    unsigned hours = seconds / 3600 > HOURS_MAX ? HOURS_MAX + 1 : (unsigned)(seconds / 3600);
    unsigned minutes = (unsigned)(seconds / 60 % 60);

    if (hours > HOURS_MAX)
        (void)snprintf(ret_text, PROGRESS_TIME_TEXT_MAX, ">%u h", HOURS_MAX);
    else if (hours)
        (void)snprintf(ret_text, PROGRESS_TIME_TEXT_MAX, "%u:%02u:%02u", hours, minutes,
                       (unsigned)(seconds % 60));
    else
        (void)snprintf(ret_text, PROGRESS_TIME_TEXT_MAX, "%u:%02u", minutes,
                       (unsigned)(seconds % 60));
    return ret_text;
}

/* ------------------------------------------------------------------ the line */

#define PIECE_MAX 64
enum piece { PIECE_PERCENT, PIECE_SIZES, PIECE_RATE, PIECE_LEFT, PIECE_FILES, PIECE_COUNT };

static double share_of(const struct progress_facts *facts)
{
    double share = 0;

    if (facts->bytes)
        share = (double)facts->done_bytes / (double)facts->bytes;
    else if (facts->files)
        share = (double)facts->done_files / (double)facts->files;
    return share < 1 ? share : 1;
}

static void fill_pieces(const struct progress_facts *facts, char pieces[PIECE_COUNT][PIECE_MAX])
{
    char sizes[2][PROGRESS_SIZE_TEXT_MAX];
    char time[PROGRESS_TIME_TEXT_MAX];

    /* Rounded down: 100% is all of it. */
    (void)snprintf(pieces[PIECE_PERCENT], PIECE_MAX, "%3u%%", (unsigned)(share_of(facts) * 100));
    (void)snprintf(pieces[PIECE_SIZES], PIECE_MAX, "  %s of %s",
                   progress_size_text(facts->done_bytes, sizes[0]),
                   progress_size_text(facts->bytes, sizes[1]));
    (void)snprintf(pieces[PIECE_FILES], PIECE_MAX, "  %u of %u files", facts->done_files,
                   facts->files);
    pieces[PIECE_RATE][0] = pieces[PIECE_LEFT][0] = '\0';
    if (facts->bytes_per_s) {
        (void)snprintf(pieces[PIECE_RATE], PIECE_MAX, "  %s/s",
                       progress_size_text(facts->bytes_per_s, sizes[0]));
        if (facts->done_bytes < facts->bytes)
            (void)snprintf(
                pieces[PIECE_LEFT], PIECE_MAX, "  %s left",
                progress_time_text((facts->bytes - facts->done_bytes) / facts->bytes_per_s, time));
    }
}

void progress_format(const struct progress_facts *facts, unsigned columns,
                     char ret_line[PROGRESS_LINE_MAX])
{
    char pieces[PIECE_COUNT][PIECE_MAX];
    size_t room = columns ? columns - 1 : 0; /* the last column would move to the next line */
    size_t len = 0;
    size_t at = 0;
    unsigned kept;
    size_t cells;

    if (room > PROGRESS_LINE_MAX - 1)
        room = PROGRESS_LINE_MAX - 1;
    fill_pieces(facts, pieces);
    for (kept = 0; kept < PIECE_COUNT && len + strlen(pieces[kept]) <= room; kept++)
        len += strlen(pieces[kept]);
    if (kept == PIECE_COUNT && room - len >= BAR_CELLS_MIN + 3) {
        cells = room - len - 3 < BAR_CELLS_MAX ? room - len - 3 : BAR_CELLS_MAX;
        ret_line[at++] = '[';
        for (size_t i = 0; i < cells; i++)
            ret_line[at++] = (double)i < share_of(facts) * (double)cells ? '#' : ' ';
        ret_line[at++] = ']';
        ret_line[at++] = ' ';
    }
    for (unsigned i = 0; i < kept; i++) {
        memcpy(ret_line + at, pieces[i], strlen(pieces[i]));
        at += strlen(pieces[i]);
    }
    ret_line[at] = '\0';
}

uint64_t progress_rate_add(struct progress_rate *rate, int64_t now_ms, uint64_t done_bytes)
{
    unsigned newest = (rate->count + PROGRESS_RATE_SAMPLES - 1) % PROGRESS_RATE_SAMPLES;
    unsigned oldest = rate->count > PROGRESS_RATE_SAMPLES ? rate->count % PROGRESS_RATE_SAMPLES : 0;
    int64_t took_ms;

    if (rate->count == 0 || now_ms - rate->samples[newest].at_ms >= PROGRESS_RATE_STEP_MS) {
        newest = rate->count++ % PROGRESS_RATE_SAMPLES;
        rate->samples[newest].at_ms = now_ms;
        rate->samples[newest].bytes = done_bytes;
        oldest = rate->count > PROGRESS_RATE_SAMPLES ? rate->count % PROGRESS_RATE_SAMPLES : 0;
    }
    took_ms = now_ms - rate->samples[oldest].at_ms;
    /* Less than before: a file was begun again, or failed. */
    if (took_ms <= 0 || done_bytes <= rate->samples[oldest].bytes)
        return 0;
    return (uint64_t)((double)(done_bytes - rate->samples[oldest].bytes) * 1000 / (double)took_ms);
}

/* ------------------------------------------------------------------ on standard error */

static bool can_redraw(void)
{
    const char *term = getenv("TERM");

    return isatty(STDERR_FILENO) == 1 && term && *term && strcmp(term, "dumb") != 0;
}

void progress_start(struct progress *progress, bool quiet)
{
    *progress = (struct progress){.shown = !quiet && can_redraw()};
}

static unsigned terminal_columns(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col
                                                                       : COLUMNS_DEFAULT;
}

void progress_draw(struct progress *progress, struct progress_facts *facts)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    char line[PROGRESS_LINE_MAX];

    if (!progress->shown || (progress->is_drawn && now_ms - progress->drawn_ms < DRAW_MS))
        return;
    progress->is_drawn = true;
    progress->drawn_ms = now_ms;
    facts->bytes_per_s = progress_rate_add(&progress->rate, now_ms, facts->done_bytes);
    progress_format(facts, terminal_columns(), line);
    (void)fprintf(stderr, "\r%s\033[K", line);
    (void)fflush(stderr);
}

void progress_clear(struct progress *progress)
{
    if (progress->shown && progress->is_drawn) {
        (void)fputs(PROGRESS_CLEAR_TEXT, stderr);
        (void)fflush(stderr);
        progress->is_drawn = false;
    }
}
