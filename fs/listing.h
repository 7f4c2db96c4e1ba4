/*
 * The order in which a directory is listed: by a hash of the names.
 *
 * So a position in a listing means the same in every state of the directory: whoever reads on gets
 * each name that stays exactly once, whatever came and went meanwhile, and nothing has to be
 * remembered of those who read. That is what makes OPENDIR needless (op_dir.c).
 */
#ifndef ATD_FS_LISTING_H
#define ATD_FS_LISTING_H

#include "base/lock.h"
#include "layout.h"

/* Large directories whose order is kept. A small one's is made for each request. */
#define LISTINGS_KEPT 8u
#define LISTING_LARGE 256u

/* "." and ".." stand before everything, at 1 and 2; a position is that of the name before. */
#define LISTING_DOTS 2

struct listing_name {
    uint64_t position;
    size_t place; /* in the view */
};

/* One state of a directory, in order. Shared by reference, never changed. */
struct listing {
    atomic_uint refs;
    fuse_ino_t number;
    struct view view;
    int64_t made_ms;
    size_t count;
    struct listing_name names[];
};

struct listings {
    uint64_t seed;
    struct atd_lock lock;
    struct listing *kept[LISTINGS_KEPT]; /* guarded by lock; latest first */
};

void listings_init(struct listings *listings);
/* While the living view is there, which what is listed belongs to; before the release. */
void listings_drop(struct listings *listings);
void listings_release(struct listings *listings);

/*
 * Those that hold what is not there any more (a generation before `generation`, files that are
 * staged) are dropped when nobody reads on in them. Returns in how many milliseconds there is more
 * to drop; INT64_MAX: nothing yet.
 */
int64_t listings_tidy(struct listings *listings, uint64_t generation);

/*
 * The listing of a directory, from `position` on: of now at the beginning; further on one that is
 * a moment old will do. Blocks as far as `effort` goes. Errors: as view_open; EWOULDBLOCK also when
 * a large one has to be made and the effort is only memory.
 */
int listing_get(struct fs *fs, const struct node *directory, uint64_t position,
                enum atd_effort effort, struct listing **ret_listing,
                struct atd_error *err) ATD_MUST_USE;
void listing_unref(struct listing *listing);

/* The first name behind a position. */
size_t listing_after(const struct listing *listing, uint64_t position);

#endif
