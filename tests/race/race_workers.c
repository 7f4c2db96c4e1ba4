/*
 * Several threads submit to one pool, then it stops: whatever was taken ran exactly once.
 */
#include <stdatomic.h>

#include "base/workers.h"
#include "race.h"

static struct atd_workers *workers;
static atomic_int taken;
static atomic_int ran;

static void run(struct atd_work *work)
{
    (void)atomic_fetch_add(&ran, 1);
    free(work);
}

static void *submit(void *ctx)
{
    (void)ctx;
    for (int i = 0; i < 5000; i++) {
        struct atd_work *work = calloc(1, sizeof(*work));

        MUST(work);
        work->run = run;
        if (atd_workers_submit(workers, work, NULL) == 0)
            (void)atomic_fetch_add(&taken, 1);
        else
            free(work);
    }
    return NULL;
}

int main(void)
{
    MUST(atd_workers_start("race", 4, &workers, NULL) == 0);
    race(submit, NULL);
    MUST(atd_workers_stop(workers, 20000));
    MUST(atomic_load(&taken) == RACE_THREADS * 5000);
    MUST(atomic_load(&ran) == atomic_load(&taken));
    return 0;
}
