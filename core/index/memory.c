#include "index/memory.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

struct memory_index {
    struct atd_index base;
    struct atd_lock lock;
    struct atd_memory_state *state; /* guarded by lock */
    bool changed;                   /* guarded by lock */
    struct atd_memory_state
        *told; /* guarded by lock: what was reported last, if it tells changes */
};

static const struct atd_index_ops telling_ops;

struct atd_memory_state *atd_memory_state_new(void)
{
    struct atd_memory_state *state = calloc(1, sizeof(*state));

    if (!state)
        return NULL;
    atomic_init(&state->refs, 1);
    atd_arena_init(&state->arena, ATD_MEMORY_INDEX_BYTES_MAX);
    return state;
}

void atd_memory_state_unref(struct atd_memory_state *state)
{
    if (!state || atomic_fetch_sub(&state->refs, 1) != 1)
        return;
    atd_arena_release(&state->arena);
    free(state);
}

struct atd_memory_state *atd_memory_state_get(struct atd_index *index)
{
    struct memory_index *memory = (struct memory_index *)index;
    struct atd_memory_state *state;

    atd_lock_take(&memory->lock);
    state = memory->state;
    (void)atomic_fetch_add(&state->refs, 1);
    atd_lock_give(&memory->lock);
    return state;
}

bool atd_memory_state_swap(struct atd_index *index, const struct atd_memory_state *before,
                           struct atd_memory_state *after)
{
    struct memory_index *memory = (struct memory_index *)index;
    struct atd_memory_state *dropped = NULL;

    atd_lock_take(&memory->lock);
    if (memory->state == before) {
        dropped = memory->state;
        memory->state = after;
        memory->changed = true;
    }
    atd_lock_give(&memory->lock);
    if (dropped && index->ops == &telling_ops)
        atd_index_wake(index);
    atd_memory_state_unref(dropped);
    return dropped != NULL;
}

static int report_all(const struct atd_memory_state *state, const struct atd_index_sink *sink,
                      struct atd_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < state->entry_count && rc == 0; i++)
        rc = sink->entry(sink->ctx, &state->entries[i], err);
    for (size_t i = 0; i < state->label_count && rc == 0; i++)
        rc = sink->label(sink->ctx, &state->labels[i], err);
    for (size_t i = 0; i < state->schema_count && rc == 0; i++)
        rc = sink->schema(sink->ctx, &state->schemas[i], err);
    return rc;
}

static int memory_load(struct atd_index *index, const struct atd_index_sink *sink,
                       struct atd_error *err)
{
    struct memory_index *memory = (struct memory_index *)index;
    struct atd_memory_state *state;
    int rc;

    /* Before the state is taken: what is changed after that shows in the next load. */
    atd_lock_take(&memory->lock);
    memory->changed = false;
    atd_lock_give(&memory->lock);
    state = atd_memory_state_get(index);
    rc = report_all(state, sink, err);
    atd_memory_state_unref(state);
    return rc;
}

/* From now on changes are those since `state`. */
static void note_told(struct memory_index *memory, struct atd_memory_state *state)
{
    struct atd_memory_state *dropped;

    (void)atomic_fetch_add(&state->refs, 1);
    atd_lock_take(&memory->lock);
    dropped = memory->told;
    memory->told = state;
    atd_lock_give(&memory->lock);
    atd_memory_state_unref(dropped);
}

static int telling_load(struct atd_index *index, const struct atd_index_sink *sink,
                        struct atd_error *err)
{
    struct atd_memory_state *state = atd_memory_state_get(index);
    int rc = report_all(state, sink, err);

    if (rc == 0)
        note_told((struct memory_index *)index, state);
    atd_memory_state_unref(state);
    return rc;
}

static enum atd_index_news telling_sync(struct atd_index *index)
{
    struct memory_index *memory = (struct memory_index *)index;
    enum atd_index_news news = ATD_NEWS_ALL;

    atd_lock_take(&memory->lock);
    if (memory->told)
        news = memory->told == memory->state ? ATD_NEWS_NONE : ATD_NEWS_SOME;
    atd_lock_give(&memory->lock);
    return news;
}

static enum atd_index_news telling_wait(struct atd_index *index, int wake_fd, unsigned timeout_ms)
{
    struct pollfd wake = {.fd = wake_fd, .events = POLLIN};
    enum atd_index_news news = telling_sync(index);
    uint64_t count;

    if (news == ATD_NEWS_NONE && poll(&wake, 1, (int)timeout_ms) > 0 &&
        read(wake_fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
        news = telling_sync(index);
    return news;
}

static int telling_changes(struct atd_index *index, const struct atd_index_sink *sink,
                           struct atd_error *err)
{
    struct memory_index *memory = (struct memory_index *)index;
    struct atd_memory_state *state = atd_memory_state_get(index);
    struct atd_memory_state *told;
    int rc;

    /* Asked by one at a time: nobody else drops it. */
    atd_lock_take(&memory->lock);
    told = memory->told;
    atd_lock_give(&memory->lock);
    atd_assert(told);
    rc = atd_memory_report_changes(told, state, sink, err);
    if (rc == 0)
        note_told(memory, state);
    atd_memory_state_unref(state);
    return rc;
}

static const char *telling_coherence(struct atd_index *index)
{
    (void)index;
    return "telling";
}

static bool memory_changed(struct atd_index *index)
{
    struct memory_index *memory = (struct memory_index *)index;
    bool changed;

    atd_lock_take(&memory->lock);
    changed = memory->changed;
    atd_lock_give(&memory->lock);
    return changed;
}

static void memory_free(struct atd_index *index)
{
    struct memory_index *memory = (struct memory_index *)index;

    atd_memory_state_unref(memory->state);
    atd_memory_state_unref(memory->told);
    atd_lock_destroy(&memory->lock);
    free(memory);
}

static const struct atd_index_ops memory_ops = {
    .provider = "memory",
    .load = memory_load,
    .changed = memory_changed,
    .free = memory_free,
};

static const struct atd_index_ops telling_ops = {
    .provider = "memory",
    .load = telling_load,
    .changed = memory_changed,
    .wait = telling_wait,
    .sync = telling_sync,
    .changes = telling_changes,
    .coherence = telling_coherence,
    .free = memory_free,
};

void atd_memory_index_check(const struct atd_index *index)
{
    atd_assert(index->ops == &memory_ops || index->ops == &telling_ops);
}

static struct atd_index *new_index(const struct atd_index_ops *ops)
{
    struct memory_index *memory = calloc(1, sizeof(*memory));

    if (!memory)
        return NULL;
    memory->state = atd_memory_state_new();
    if (!memory->state || atd_index_init(&memory->base, ops, "memory:", NULL) != 0) {
        atd_memory_state_unref(memory->state);
        free(memory);
        return NULL;
    }
    atd_lock_init(&memory->lock, ATD_RANK_INDEX);
    memory->changed = true;
    return &memory->base;
}

struct atd_index *atd_index_memory_new(void)
{
    return new_index(&memory_ops);
}

struct atd_index *atd_index_memory_new_telling(void)
{
    return new_index(&telling_ops);
}

void atd_index_memory_set(struct atd_index *index, const struct atd_index_entry *entries,
                          size_t entry_count, const struct atd_index_label *labels,
                          size_t label_count, const struct atd_index_schema *schemas,
                          size_t schema_count)
{
    bool done = false;

    atd_memory_index_check(index);
    while (!done) {
        struct atd_memory_state *before = atd_memory_state_get(index);
        struct atd_memory_state *after = atd_memory_state_new();

        atd_assert(after); /* for tests: nothing to tell the caller by */
        after->entries = entries;
        after->entry_count = entry_count;
        after->labels = labels;
        after->label_count = label_count;
        after->schemas = schemas;
        after->schema_count = schema_count;
        done = atd_memory_state_swap(index, before, after);
        if (!done)
            atd_memory_state_unref(after);
        atd_memory_state_unref(before);
    }
}
