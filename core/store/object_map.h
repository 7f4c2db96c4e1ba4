/*
 * The object table's memory: (scope, URL) to facts, packed: 40 bytes an object, its URL and its
 * ETag; scopes are stored once.
 *
 * Threads: one at a time.
 */
#ifndef ATD_STORE_OBJECT_MAP_H
#define ATD_STORE_OBJECT_MAP_H

#include "net/object_info.h"
#include "store/object_records.h"

#define ATD_OBJECT_SCOPES_MAX 1024u

struct atd_object_map;

struct atd_object_map *atd_object_map_new(void) ATD_MUST_USE; /* NULL: out of memory */
void atd_object_map_free(struct atd_object_map *map);

bool atd_object_map_find(const struct atd_object_map *map, struct atd_str scope, struct atd_str url,
                         struct atd_object_info *ret_info);

/* Adds, replaces or drops. Errors: ENOMEM; EFBIG ATD_OBJECTS_MAX or ATD_OBJECT_SCOPES_MAX. What
 * cannot be kept is not found afterwards. */
int atd_object_map_apply(struct atd_object_map *map, const struct atd_record *record);

size_t atd_object_map_count(const struct atd_object_map *map);

/* The objects in the order in which they came: *position 0 at first; false at the end. */
bool atd_object_map_next(const struct atd_object_map *map, size_t *position,
                         struct atd_record *ret_record);

#endif
