/*
 * index.json of wids, webdataset's indexed reader: which shards, and how many samples in each.
 * As `widsindex create` writes it, without the MD5 sums, which nobody knows without reading all.
 * Source: webdataset 0.2.100, wids/wids_index.py and wids_specs.py.
 */
#ifndef ATD_DATASET_WIDS_H
#define ATD_DATASET_WIDS_H

#include "atdata/buf.h"
#include "atdata/str.h"

struct atd_wids_shard {
    struct atd_str url; /* relative ones are to where the index lies */
    uint64_t samples;
    uint64_t size_bytes;
};

/* Appends the whole text. wids sorts by URL; this sorts the array. Failures are `out`'s. */
void atd_wids_write(struct atd_str name, struct atd_wids_shard *shards, size_t count,
                    struct atd_buf *out);

#endif
