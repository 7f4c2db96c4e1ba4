#include "index/redis_commit.h"

#include <errno.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "index/redis_plan.h"
#include "index/redis_script.h"
#include "index/redis_watch.h"

/* All of these steps or none. Errors: ESTALE too. */
static int run(struct atd_redis_link *link, const struct atd_redis_step *steps, size_t count,
               bool *ret_crossslot, size_t *ret_which, struct atd_error *err)
{
    enum atd_redis_verdict verdict = ATD_REDIS_DONE;
    size_t which = 0;
    int rc = atd_redis_script_run(link, steps, count, &verdict, &which, err);

    if (rc == 0 && verdict == ATD_REDIS_REFUSED)
        rc = atd_redis_watch_run(link, steps, count, &verdict, &which, err);
    if (rc)
        return rc;
    *ret_crossslot = verdict == ATD_REDIS_CROSSSLOT;
    if (verdict == ATD_REDIS_CONFLICT)
        return atd_index_not_as_expected(steps[which].operation, ret_which, err);
    return 0;
}

/* ------------------------------------------------------------------ clusters */

enum phase {
    PHASE_NEW,    /* under new keys: nothing points to them yet */
    PHASE_LABELS, /* now something does */
    PHASE_OLD,    /* what nothing points to any more */
    PHASE_COUNT,
};

static enum phase phase_of(const struct atd_index_operation *operation)
{
    switch (operation->action) {
    case ATD_INDEX_PUT_ENTRY:
    case ATD_INDEX_PUT_SCHEMA:
        return PHASE_NEW;
    case ATD_INDEX_PUT_LABEL:
    case ATD_INDEX_DELETE_LABEL:
        return PHASE_LABELS;
    case ATD_INDEX_CHECK:
        return PHASE_COUNT;
    default:
        return PHASE_OLD;
    }
}

struct cluster {
    struct atd_redis_link *link;
    const struct atd_index_operation *operations;
    const struct atd_redis_step *steps;
    size_t count;
    struct atd_redis_step *group; /* room for all */
    bool begun;                   /* something was changed */
};

/* The steps with the key of the one at `first`, which has none before it; 0: it has one. */
static size_t gather(struct cluster *cluster, size_t first, bool with_effects,
                     enum phase *ret_phase)
{
    size_t count = 0;

    *ret_phase = PHASE_COUNT;
    for (size_t i = 0; i < cluster->count; i++) {
        if (!atd_str_equal(cluster->steps[i].key, cluster->steps[first].key))
            continue;
        if (i < first)
            return 0;
        if (phase_of(&cluster->operations[i]) < *ret_phase)
            *ret_phase = phase_of(&cluster->operations[i]);
        cluster->group[count] = cluster->steps[i];
        if (!with_effects) {
            cluster->group[count].effect = ATD_REDIS_NONE;
            cluster->group[count].pair_count = 0;
        }
        count++;
    }
    return count;
}

/* One key's operations, one after the other by the caller; `phase` PHASE_COUNT: conditions only. */
static int run_phase(struct cluster *cluster, enum phase phase, size_t *ret_which,
                     struct atd_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < cluster->count && rc == 0; i++) {
        bool crossslot = false;
        enum phase own;
        size_t count = gather(cluster, i, phase != PHASE_COUNT, &own);

        if (count == 0 || (phase != PHASE_COUNT && own != phase))
            continue;
        rc = run(cluster->link, cluster->group, count, &crossslot, ret_which, err);
        if (rc == 0 && crossslot)
            rc = atd_error_set(err, EPROTO, "the server finds one key in several slots");
        cluster->begun = cluster->begun || (rc == 0 && phase != PHASE_COUNT);
    }
    return rc;
}

static int run_on_cluster(struct cluster *cluster, size_t *ret_which, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc = run_phase(cluster, PHASE_COUNT, ret_which, &why);

    for (int phase = PHASE_NEW; phase < PHASE_COUNT && rc == 0; phase++)
        rc = run_phase(cluster, (enum phase)phase, ret_which, &why);
    /* Whatever it was, also that others were faster: who goes on has to read first. */
    if (rc && cluster->begun)
        return atd_error_set(err, EREMOTEIO, "the change was made in part: %s", why.text);
    if (rc && err)
        *err = why;
    return rc;
}

/* ------------------------------------------------------------------ the change */

int atd_redis_commit(struct atd_redis_link *link, const struct atd_index_operation *operations,
                     size_t count, size_t *ret_which, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(ATD_REDIS_PLAN_BYTES_MAX);
    struct atd_redis_step *steps = atd_arena_alloc_array(&arena, count, sizeof(*steps));
    struct cluster cluster = {.link = link, .operations = operations, .steps = steps};
    bool crossslot = false;
    int rc = 0;

    cluster.count = count;
    cluster.group = atd_arena_alloc_array(&arena, count, sizeof(*steps));
    if (!steps || !cluster.group)
        return atd_error_set(err, ENOMEM, "a change: out of memory");
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = atd_redis_plan(&arena, &operations[i], i, &steps[i], err);
    if (rc == 0)
        rc = run(link, steps, count, &crossslot, ret_which, err);
    return rc || !crossslot ? rc : run_on_cluster(&cluster, ret_which, err);
}
