/*
 * The files of .atdatafs/: status.json, metrics, events.jsonl, config.json.
 */
#ifndef ATD_FS_CONTROL_H
#define ATD_FS_CONTROL_H

#include "atdata/buf.h"
#include "fs.h"

#define CONTROL_FILES 4
extern const char *const control_names[CONTROL_FILES];

/* Renders one by its name. Errors: ENOENT, EFBIG, ENOMEM. */
int control_render(struct fs *fs, struct atd_catalog *catalog, struct atd_str name,
                   struct atd_buf *out, struct atd_error *err);

#endif
