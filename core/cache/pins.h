/*
 * Pins: versions of objects that eviction leaves where they are.
 *
 * One small file a name (a dataset's) lies in DIR/v1/pins/: a line that says what it is, then the
 * hash and size of each version. It is written anew whole, and read by every scan of every process
 * that shares the directory, so that a pin made here holds there. A pin says nothing of whether the
 * bytes are there; a line that makes no sense is no pin.
 *
 * Threads: any. Blocks: on the disk.
 */
#ifndef ATD_CACHE_PINS_H
#define ATD_CACHE_PINS_H

#include "base/digest.h"
#include "cache/cache_dir.h"

#define ATD_PINS_MAX (1u << 20) /* of all names; beyond it none is read */

struct atd_pin {
    uint8_t hash[ATD_SHA256_BYTES];
    uint64_t size_bytes;
};

/* What the reader calls an object in the cache directory: "SCOPE URL"; free() it. NULL when out of
 * memory. */
char *atd_cache_scoped_name(const char *scope, struct atd_str url, size_t *ret_len) ATD_MUST_USE;

/* The pin of one version. Errors: ENOMEM. */
int atd_cache_pin_of(const char *scope, struct atd_str url, const struct atd_object_info *info,
                     struct atd_pin *ret_pin, struct atd_error *err) ATD_MUST_USE;

/* Puts the pins of a name in the place of those that it had. Errors: E2BIG; those of the disk. */
int atd_cache_pins_put(struct atd_cache_dir *dir, struct atd_str name, const struct atd_pin *pins,
                       size_t count, struct atd_error *err) ATD_MUST_USE;
/* Errors: ENOENT the name has none; those of the disk. */
int atd_cache_pins_remove(struct atd_cache_dir *dir, struct atd_str name,
                          struct atd_error *err) ATD_MUST_USE;

/* Each name that has pins, in no order; `name` is valid during the call. Errors: those of the disk.
 */
typedef void (*atd_cache_pins_fn)(void *ctx, struct atd_str name, size_t count,
                                  uint64_t size_bytes);
int atd_cache_pins_each(struct atd_cache_dir *dir, atd_cache_pins_fn fn, void *ctx,
                        struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ for eviction */

struct atd_pin_set {
    struct atd_pin *pins; /* sorted */
    size_t count;
    size_t cap;
};

/* Reads all pins of the directory `dir_fd` (DIR/v1). False when that could not be done: then
 * nobody knows what is pinned. */
bool atd_pin_set_load(int dir_fd, struct atd_pin_set *ret_set) ATD_MUST_USE;
void atd_pin_set_release(struct atd_pin_set *set);
bool atd_pin_set_has(const struct atd_pin_set *set, const uint8_t hash[ATD_SHA256_BYTES]);

#endif
