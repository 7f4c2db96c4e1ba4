#include "index/index.h"

#include <stdlib.h>

int atd_index_load(struct atd_index *index, const struct atd_index_sink *sink,
                   struct atd_error *err)
{
    int rc = index->ops->load(index, sink, err);

    return rc ? atd_error_wrap(err, rc, "index '%s'", index->location) : 0;
}

bool atd_index_changed(struct atd_index *index)
{
    return index->ops->changed(index);
}

void atd_index_free(struct atd_index *index)
{
    if (!index)
        return;
    free(index->location);
    index->ops->free(index);
}
