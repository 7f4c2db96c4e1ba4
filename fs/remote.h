/*
 * What remote shards take: the HTTP engine, credentials, stores, the object table, the cache
 * directory and the reader, started and stopped in the order of who uses whom.
 */
#ifndef ATD_FS_REMOTE_H
#define ATD_FS_REMOTE_H

#include "atdata/buf.h"
#include "atdata/error.h"
#include "cache/reader.h"
#include "catalog/locator.h"
#include "codec/json_write.h"
#include "options.h"

struct remote;

/*
 * Starts it all; nothing is asked of a server yet. `local_changed` is the reader's. A cache
 * directory that the user named must be usable; without the default one shards are read through
 * memory, and status says so. Errors: each with what to do.
 */
int remote_start(const struct options *options,
                 void (*local_changed)(void *ctx, struct atd_str url,
                                       const struct atd_object_info *info),
                 void *ctx, struct remote **ret_remote, struct atd_error *err) ATD_MUST_USE;

/* Ends every request and read. False when a thread hangs. NULL is fine. */
bool remote_stop(struct remote *remote);
/* After a stop that returned true, when every handle is closed. */
bool remote_free(struct remote *remote);

struct atd_reader *remote_reader(struct remote *remote);

/* Fills in the stores' part of the locator's options. */
void remote_fill_locator(struct remote *remote, struct atd_locator_options *options);

/* What publishing takes: the store of s3:// objects, its name in the object table, the table. */
struct atd_store *remote_s3(struct remote *remote);
const char *remote_scope(const struct remote *remote);
struct atd_object_table *remote_table(struct remote *remote);

/* Where the credentials come from, for people. Never blocks. */
const char *remote_credentials(struct remote *remote);

/* NULL: there is no cache directory. Also for NULL. */
const char *remote_cache_path(const struct remote *remote);

/* NULL: there is none. */
struct atd_cache_dir *remote_cache_dir(struct remote *remote);

/* For .atdatafs/: an object "store" and an object "cache"; Prometheus text. */
void remote_write_status(struct remote *remote, struct atd_json_writer *json);
void remote_write_metrics(struct remote *remote, struct atd_buf *out);

#endif
