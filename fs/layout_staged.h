/*
 * What layout.c shows of staging.h: names before the catalog's, datasets that have no entry.
 */
#ifndef ATD_FS_LAYOUT_STAGED_H
#define ATD_FS_LAYOUT_STAGED_H

#include "layout.h"

/*
 * Puts into the view what is staged in its directory: all, or what is called `name` (ptr not NULL).
 * To be called before the view's catalog is taken: what gives way to a shard does so only once the
 * catalog has it. *ret_only_staged: a NODE_DATASET that staging knows. Errors: ENOENT the scratch
 * directory is gone; ENOMEM.
 */
int view_take_staged(struct view *view, struct atd_str subject, struct atd_str name,
                     bool *ret_only_staged, struct atd_error *err) ATD_MUST_USE;
void view_give_staged(struct view *view);

/* The item of a staged name by its place in the list. */
void view_staged_item(const struct view *view, size_t place, struct view_names *storage,
                      struct item *ret_item);
/* Its place; false: no such. `name` is a file name. */
bool view_find_staged(const struct view *view, struct atd_str name, size_t *ret_place);

/* The item of an empty dataset. */
void view_empty_item(const struct view *view, size_t place, struct item *ret_item);
bool view_find_empty(const struct view *view, struct atd_str name, size_t *ret_place);

/* A record that was put into an empty dataset; false: none. */
bool view_empty_record(const struct view *view, enum node_kind kind, struct atd_buf *out,
                       int64_t *ret_mtime_s);

#endif
