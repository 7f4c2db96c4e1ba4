#include "events.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/lock.h"
#include "codec/json_write.h"

#define EVENTS_MAX 256
#define EVENT_BYTES_MAX 8192

struct events {
    struct atd_lock lock;
    char *lines[EVENTS_MAX]; /* guarded by lock: a ring */
    size_t next;
};

struct events *events_new(void)
{
    struct events *events = calloc(1, sizeof(*events));

    if (events)
        atd_lock_init(&events->lock, ATD_RANK_EVENTS);
    return events;
}

void events_free(struct events *events)
{
    if (!events)
        return;
    for (size_t i = 0; i < EVENTS_MAX; i++)
        free(events->lines[i]);
    atd_lock_destroy(&events->lock);
    free(events);
}

static void begin(struct atd_json_writer *json, struct atd_buf *line, const char *event)
{
    char now[ATD_CLOCK_TEXT_MAX];

    atd_clock_format((int64_t)time(NULL), now);
    atd_json_init(json, line, ATD_JSON_TIGHT);
    atd_json_object_begin(json);
    atd_json_put_text(json, "time", now);
    atd_json_put_text(json, "event", event);
}

/* Takes the line. */
static void end(struct events *events, struct atd_json_writer *json, struct atd_buf *line)
{
    size_t len;
    char *old;

    atd_json_object_end(json);
    atd_buf_append_byte(line, '\n');
    if (line->failed) {
        atd_buf_release(line);
        return;
    }
    atd_lock_take(&events->lock);
    old = events->lines[events->next];
    events->lines[events->next] = (char *)atd_buf_take(line, &len);
    events->next = (events->next + 1) % EVENTS_MAX;
    atd_lock_give(&events->lock);
    free(old);
}

void events_note(struct events *events, const char *what, const struct atd_error *why)
{
    struct atd_buf line = ATD_BUF_INIT(EVENT_BYTES_MAX);
    struct atd_json_writer json;
    const char *name = strerrorname_np(why->code);

    begin(&json, &line, "error");
    atd_json_put_text(&json, "what", what);
    atd_json_put_text(&json, "errno", name ? name : "?");
    atd_json_put_text(&json, "reason", why->text);
    end(events, &json, &line);
}

void events_note_published(struct events *events, const char *path, const char *url,
                           const char *cid, uint64_t size_bytes)
{
    struct atd_buf line = ATD_BUF_INIT(EVENT_BYTES_MAX);
    struct atd_json_writer json;

    begin(&json, &line, "published");
    atd_json_put_text(&json, "path", path);
    atd_json_put_text(&json, "url", url);
    atd_json_put_text(&json, "cid", cid);
    atd_json_key(&json, "size_bytes");
    atd_json_uint(&json, size_bytes);
    end(events, &json, &line);
}

void events_write(struct events *events, struct atd_buf *out)
{
    atd_lock_take(&events->lock);
    for (size_t i = 0; i < EVENTS_MAX; i++) {
        const char *line = events->lines[(events->next + i) % EVENTS_MAX];

        if (line)
            atd_buf_append_text(out, line);
    }
    atd_lock_give(&events->lock);
}
