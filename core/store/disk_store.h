/*
 * Inside of the disk store: what its reading (disk_store.c) and writing (disk_upload.c) share.
 */
#ifndef ATD_STORE_DISK_STORE_H
#define ATD_STORE_DISK_STORE_H

#include "atdata/arena.h"
#include "store/file_store.h"
#include "store/upload.h"

#define ATD_DISK_PATH_ARENA_MAX (64u << 10) /* one decoded file: URL; longer ones are no path */

const struct atd_file_store *atd_disk_files(const struct atd_store *store);

/* The path that a URL means; `arena` holds it when it had to be decoded. Errors: EINVAL. */
int atd_disk_path(struct atd_str url, struct atd_arena *arena, struct atd_str *ret_path,
                  struct atd_error *err) ATD_MUST_USE;

extern const struct atd_store_write_ops atd_disk_write_ops;

#endif
