/*
 * The inside of a registry, for core/dataset only.
 */
#ifndef ATD_DATASET_REGISTRY_PRIVATE_H
#define ATD_DATASET_REGISTRY_PRIVATE_H

#include "atdata/registry.h"
#include "base/lock.h"
#include "catalog/live.h"
#include "dataset/sites.h"
#include "publish/publication.h"

struct atd_registry {
    /* fixed after the open */
    struct atd_index_url url;
    char *bucket;
    char *prefix;
    char *disk_root; /* beside a SQLite index; NULL: Redis */
    char *state_dir;
    unsigned timeout_s;
    uint64_t memory_bytes;
    bool universal;
    struct atd_file_store *files;
    struct atd_index *index;
    struct atd_sites sites;
    struct atd_object_table *table;
    struct atd_locator *locator;
    struct atd_live *live;
    struct atd_index_writer *writer; /* NULL, like the two below: read only */
    struct atd_new_place place;
    struct atd_publisher *publisher;
};

/* ------------------------------------------------------------------ waiting for the publisher */

/*
 * One thread waits for one answer of the publisher's threads. On the stack of the waiting thread,
 * which leaves only when it has been told.
 */
struct atd_answer {
    struct atd_lock lock;
    pthread_cond_t told_cond;
    bool is_told;
    struct atd_error why; /* code 0: it worked */
};

void atd_answer_init(struct atd_answer *answer);
void atd_answer_tell(struct atd_answer *answer, const struct atd_error *why);
/* Blocks. Returns -why.code, with the sentence in `err`. */
int atd_answer_await(struct atd_answer *answer, struct atd_error *err) ATD_MUST_USE;
void atd_answer_release(struct atd_answer *answer);

/* ------------------------------------------------------------------ reading the view */

int atd_registry_no_memory(struct atd_error *err);
/* Copies what a row says into `arena`. Errors: ENOMEM, EINVAL. */
int atd_registry_copy_entry(const struct atd_catalog_entry *row, struct atd_arena *arena,
                            struct atd_entry *ret_entry, struct atd_error *err) ATD_MUST_USE;
/* The row that a reference means, of this generation (atd_registry_resolve). */
int atd_registry_find(const struct atd_catalog *catalog, struct atd_str reference,
                      const struct atd_catalog_entry **ret_row, struct atd_error *err) ATD_MUST_USE;
/* The stored record that a reference means; NULL: none in this index. */
const struct atd_catalog_schema *atd_registry_find_schema(const struct atd_catalog *catalog,
                                                          struct atd_str text);

#endif
