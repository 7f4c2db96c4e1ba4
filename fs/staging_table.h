/*
 * The inside of the staging table, for its files.
 */
#ifndef ATD_FS_STAGING_TABLE_H
#define ATD_FS_STAGING_TABLE_H

#include <stdatomic.h>

#include "base/lock.h"
#include "staging.h"

/* Chains of 16 when full; powers of two. */
#define STAGED_BUCKETS 4096u
#define HIDDEN_BUCKETS 4096u

struct hidden;        /* staging_hidden.c */
struct empty_dataset; /* staging_datasets.c */

/* Renamed datasets that are remembered. */
#define STAGED_RENAMES_KEPT 32u

struct staging_rename {
    char from[ATD_FILE_NAME_MAX + 1];
    char to[ATD_FILE_NAME_MAX + 1];
};

struct staging {
    struct atd_lock lock;

    char
        *datasets_path; /* STATE/datasets; fixed once staging_load_datasets returned; NULL before */
    atomic_int datasets_fd; /* the same, or -1: made with the first dataset */

    _Atomic uint64_t version; /* changed with the lock held */

    /* guarded by lock */
    struct staged *by_name[STAGED_BUCKETS]; /* those that are named: the table's references */
    struct staged *by_id[STAGED_BUCKETS];   /* all */
    size_t named_count;
    uint64_t last_id;
    struct hidden *hidden[HIDDEN_BUCKETS];
    size_t hidden_count;
    struct empty_dataset **datasets; /* by name */
    size_t dataset_count;
    size_t dataset_room;
    struct staging_rename renames[STAGED_RENAMES_KEPT]; /* a ring */
    size_t rename_count;                                /* of all that there were */
};

/* staging_place.c. The length of "DIRECTORY/" in a leaf of a scratch directory, else 0. */
size_t staged_prefix(struct atd_str leaf);
bool staged_place_is_valid(const struct staged_place *place);
/* Of a valid place. */
void staged_place_copy(const struct staged_place *place, struct staged_where *ret_where);
enum atd_upload_name staged_place_name_kind(const struct staged_place *place);

/* staging.c. With the table's lock held: the caller has the table's reference from now on. */
void staging_take_name_locked(struct staging *staging, struct staged *staged);
/* Whether a scratch directory holds names. */
bool staging_holds_names_locked(struct staging *staging, const struct staged *directory);
bool staged_is_in(const struct staged *staged, enum node_kind directory, struct atd_str subject);

/* The bucket of a name, of `bucket_count`. */
size_t staging_bucket(struct atd_str subject, struct atd_str leaf, size_t bucket_count);

/* With the table's lock held: a listing that was made before is not to be kept. */
static inline void staging_changed_locked(struct staging *staging)
{
    (void)atomic_fetch_add(&staging->version, 1);
}

/* staging_hidden.c, staging_datasets.c: for staging_free and staging_settle. */
void staging_free_hidden(struct staging *staging);
void staging_free_datasets(struct staging *staging);
void staging_settle_datasets(struct staging *staging, struct atd_catalog *catalog);

#endif
