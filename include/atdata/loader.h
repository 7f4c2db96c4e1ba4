/*
 * Reading a dataset: sample by sample or in batches, in order or shuffled, over all its shards,
 * straight from the store.
 *
 * Shards are read from their beginning to their end, parts ahead of the reader, within
 * `memory_bytes`; gzip, bzip2 and xz by content, as webdataset does. What webdataset skips is
 * skipped; a shard that ends too early is an error, also where webdataset says nothing.
 *
 * Threads: a loader is for one thread at a time; several loaders of one registry for several. Each
 * must be closed before its registry. Blocks: next and next_batch, on the disk and the network.
 * Source: ATDATA-FORMATS 5.2 to 5.4.
 */
#ifndef ATDATA_LOADER_H
#define ATDATA_LOADER_H

#include "atdata/array.h"
#include "atdata/registry.h"
#include "atdata/sample.h"

ATD_BEGIN_DECLS

/* What one sample may hold, all its members together. */
#define ATD_LOADED_BYTES_MAX ((size_t)1 << 30)
#define ATD_LOADED_MEMBERS_MAX 256u
#define ATD_BATCH_MAX 1048576u
/* Samples that wait in a shuffle buffer. */
#define ATD_SHUFFLE_MAX 1048576u

struct atd_loader;

/* Begin with all of it zero. */
struct atd_loader_options {
    size_t
        shuffle_samples;   /* a buffer of so many, from which one is drawn at random; 0: in order */
    bool shuffle_shards;   /* their order too */
    uint64_t seed;         /* the same seed gives the same order. Not Python's order */
    uint64_t memory_bytes; /* for parts that are read ahead; 0: 32 MiB */
};

/* `reference`: as atd_registry_resolve(). Blocks. Errors: ENOENT; a shard that cannot be read, with
 * why; EINVAL no shards. */
int atd_loader_open(struct atd_registry *registry, struct atd_str reference,
                    const struct atd_loader_options *options, struct atd_loader **ret_loader,
                    struct atd_error *err) ATD_MUST_USE;

/* Shards that need not be in an index; URLs, absolute paths (below the registry's data roots) and
 * brace patterns, expanded as data_urls are. `schema` (may be NULL; must outlive the loader) says
 * which fields are arrays. */
int atd_loader_open_urls(struct atd_registry *registry, const struct atd_str *urls,
                         size_t url_count, const struct atd_schema *schema,
                         const struct atd_loader_options *options, struct atd_loader **ret_loader,
                         struct atd_error *err) ATD_MUST_USE;

/* NULL is fine. */
void atd_loader_close(struct atd_loader *loader);

/* The dataset's schema; NULL: none that can be read. Valid as long as the loader. */
const struct atd_schema *atd_loader_schema(const struct atd_loader *loader);
size_t atd_loader_shard_count(const struct atd_loader *loader);

struct atd_loaded_member {
    struct atd_str extension; /* what follows the key's dot, in lower case */
    struct atd_bytes bytes;
};

struct atd_loaded {
    struct atd_str key; /* as webdataset's __key__ */
    const struct atd_loaded_member *members;
    size_t member_count;
    /* The fields of the member `msgpack`. None when no sample of the shard so far had one: a plain
     * WebDataset, whose members are all there is. */
    struct atd_sample sample;
};

/* *ret_loaded: the next sample, valid until the next call; NULL: there are no more. Errors: EINVAL
 * a bad shard or sample: which; ESTALE a shard changed; those of the store. After an error the
 * loader can only be closed. */
int atd_loader_next(struct atd_loader *loader, const struct atd_loaded **ret_loaded,
                    struct atd_error *err) ATD_MUST_USE;

/*
 * A field's array: .npy or the compact form. Fields that the schema says are arrays (kinds ndarray
 * and structured), and, without a schema, what is one beyond reasonable doubt. False: it is none.
 */
bool atd_loader_is_array(const struct atd_loader *loader, const struct atd_sample_field *field);

/* ------------------------------------------------------------------ batches */

struct atd_batch_column {
    struct atd_str name;
    /* Arrays of equal shape, stacked as numpy.stack does: C order, `array.shape[0]` samples, in the
     * machine's byte order (but compound dtypes, which stay as they are), data aligned to 64. Texts
     * of several widths take the widest. */
    bool is_stacked;
    struct atd_array array;
    /* Else a value for each sample; nil where the sample lacks the field. */
    const struct atd_value *values;
};

struct atd_batch {
    size_t count; /* samples; less than asked for only at the end */
    const struct atd_str *keys;
    const struct atd_batch_column *columns; /* of the schema, else of the first sample */
    size_t column_count;
};

/*
 * The next `size` samples; NULL: there are no more. Valid until the next call. Errors: as next;
 * EINVAL arrays of unequal shape, or of kinds that numpy.stack would convert, in one batch: the
 * field is named; a plain WebDataset.
 */
int atd_loader_next_batch(struct atd_loader *loader, size_t size,
                          const struct atd_batch **ret_batch, struct atd_error *err) ATD_MUST_USE;

/* NULL: there is no such column. */
const struct atd_batch_column *atd_batch_find(const struct atd_batch *batch, struct atd_str name);

ATD_END_DECLS

#endif
