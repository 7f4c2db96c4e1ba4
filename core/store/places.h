/*
 * What was learned of places (buckets, hosts) while talking to them: a bucket's region, that HEAD
 * is refused there, whether it refuses to write over an object. Bounded: beyond ATD_PLACES_MAX the
 * oldest is forgotten and learned again.
 *
 * Threads: any. Never blocks.
 */
#ifndef ATD_STORE_PLACES_H
#define ATD_STORE_PLACES_H

#include "atdata/str.h"
#include "base/lock.h"

#define ATD_PLACES_MAX 1024u
#define ATD_PLACE_NAME_MAX 255u
#define ATD_REGION_MAX 63u

struct atd_place;

struct atd_places {
    struct atd_lock lock;
    /* guarded by lock */
    struct atd_place *all;
    size_t count;
    size_t cap;
    size_t oldest; /* the next to be forgotten, once all are in use */
};

void atd_places_init(struct atd_places *places);
void atd_places_release(struct atd_places *places);

/* False when none was learned. */
bool atd_places_region(struct atd_places *places, struct atd_str name,
                       char ret_region[ATD_REGION_MAX + 1]);
/*
 * False when it is no name of a region (letters, digits, "-_."): it comes from a server, and goes
 * into a host name.
 */
bool atd_places_set_region(struct atd_places *places, struct atd_str name, const char *region);

bool atd_places_head_refused(struct atd_places *places, struct atd_str name);
void atd_places_set_head_refused(struct atd_places *places, struct atd_str name);

/* False when nobody asked yet. */
bool atd_places_guards(struct atd_places *places, struct atd_str name, bool *ret_guards);
void atd_places_set_guards(struct atd_places *places, struct atd_str name, bool guards);

#endif
