#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

#define DRAW_MS 100
#define BAR_CELLS 24
#define WIDTH_DEFAULT 80

char *progress_size_text(uint64_t bytes, char ret_text[PROGRESS_SIZE_TEXT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(ret_text, PROGRESS_SIZE_TEXT_MAX, unit ? "%.1f %s" : "%.0f %s", value,
                   units[unit]);
    return ret_text;
}

void progress_start(struct progress *progress, bool quiet)
{
    progress->shown = !quiet && isatty(STDERR_FILENO) == 1;
    progress->start_ms = atd_clock_monotonic_ms();
    progress->drawn_ms = 0;
}

static unsigned terminal_width(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col
                                                                       : WIDTH_DEFAULT;
}

void progress_draw(struct progress *progress, unsigned done_files, unsigned files,
                   uint64_t done_bytes, uint64_t bytes)
{
    int64_t now_ms = atd_clock_monotonic_ms();
    int64_t took_ms = now_ms - progress->start_ms;
    double share = bytes ? (double)done_bytes / (double)bytes : 0;
    double rate = took_ms > 0 ? (double)done_bytes * 1000 / (double)took_ms : 0;
    unsigned cells = (unsigned)(share * BAR_CELLS);
    char bar[BAR_CELLS + 1];
    char line[256];
    char texts[3][PROGRESS_SIZE_TEXT_MAX];
    char remains[32] = "";

    if (!progress->shown || now_ms - progress->drawn_ms < DRAW_MS)
        return;
    progress->drawn_ms = now_ms;
    memset(bar, ' ', BAR_CELLS);
    memset(bar, '#', cells < BAR_CELLS ? cells : BAR_CELLS);
    bar[BAR_CELLS] = '\0';
    if (rate > 0 && done_bytes < bytes) {
        unsigned seconds = (unsigned)((double)(bytes - done_bytes) / rate);

        (void)snprintf(remains, sizeof(remains), "  %u:%02u left", seconds / 60, seconds % 60);
    }
    (void)snprintf(line, sizeof(line), "[%s] %3.0f%%  %s of %s  %s/s%s  %u of %u files", bar,
                   share * 100, progress_size_text(done_bytes, texts[0]),
                   progress_size_text(bytes, texts[1]),
                   progress_size_text((uint64_t)rate, texts[2]), remains, done_files, files);
    (void)fprintf(stderr, "\r%.*s\033[K", (int)terminal_width() - 1, line);
    (void)fflush(stderr);
}

void progress_clear(struct progress *progress)
{
    if (progress->shown) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
        progress->drawn_ms = 0;
    }
}
