#include "metrics.h"

#include <inttypes.h>

void metrics_write(struct metrics *metrics, struct atd_buf *out)
{
#define X(name, help)                                            \
    atd_buf_printf(out,                                          \
                   "# HELP atdatafs_" #name "_total " help "\n"  \
                   "# TYPE atdatafs_" #name "_total counter\n"   \
                   "atdatafs_" #name "_total %" PRIuFAST64 "\n", \
                   atomic_load(&metrics->name));
    METRICS_COUNTERS(X)
#undef X
}
