/*
 * The command line: atdatafs [INDEX-URL] MOUNTPOINT [-o options].
 */
#ifndef ATD_FS_OPTIONS_H
#define ATD_FS_OPTIONS_H

#include <sys/types.h>

#include "atdata/error.h"
#include "index/index_url.h"
#include "net/s3_request.h"
#include "store/file_store.h"

#define ATD_EXIT_OK 0
#define ATD_EXIT_FAILED 1 /* the index or the mount failed */
#define ATD_EXIT_USAGE 2  /* the command line is wrong */

#define DEFAULT_TIMEOUT_S 30u
#define DEFAULT_MEMORY_BYTES ((uint64_t)256 << 20)
#define DEFAULT_CACHE_BYTES ((uint64_t)20 << 30)
#define DEFAULT_FLOOR_BYTES ((uint64_t)1 << 30)
#define DEFAULT_SPOOL_FLOOR_BYTES ((uint64_t)256 << 20)
#define DEFAULT_SCRATCH_BYTES ((uint64_t)1 << 30)

struct options {
    struct atd_index_url index;
    bool index_named; /* the user named it: it must exist (a mistyped path is no empty
                         index) */
    char *mountpoint; /* absolute, resolved when it could be */
    char *data_roots[ATD_FILE_ROOTS_MAX];
    size_t data_root_count;
    bool foreground;
    bool debug;
    bool allow_other;
    bool default_permissions;
    bool noexec;
    uid_t uid;
    gid_t gid;
    mode_t umask;
    bool list_samples; /* samples/ shows where a dataset is listed */
    bool barrier;      /* consistency=barrier: a listing asks the index first */
    bool show_help;
    bool show_version;

    /* remote shards (options_remote.c) */
    char *bucket;   /* store=s3://BUCKET/PREFIX; NULL: not named */
    char *prefix;   /* without slashes at its ends; "" */
    char *endpoint; /* URL; NULL: the environment's, else AWS */
    char *region;
    char *env_file; /* absolute */
    char *profile;
    char *ca_file;       /* absolute; NULL: the system's */
    char *password_file; /* absolute; the Redis password */
    enum atd_s3_style style;
    bool unsigned_requests;
    char *cache_dir;  /* absolute; NULL: cache=none */
    bool cache_named; /* the user named it: it must be usable */
    bool cache_none;
    uint64_t cache_size_bytes;
    uint64_t cache_floor_bytes; /* the file system keeps so much free */
    uint64_t memory_bytes;
    unsigned timeout_s; /* a read fails when nothing came for so long */

    /* publishing (options_publish.c) */
    bool read_only;
    bool allow_delete;
    bool universal;               /* compat=universal: what is written, every release reads */
    char *state_dir;              /* absolute; spool files, the journal, empty datasets */
    bool state_named;             /* the user named it: it must be usable */
    uint64_t spool_limit_bytes;   /* of one shard; 0: as much as the disk has */
    uint64_t scratch_limit_bytes; /* of one scratch file */
    uint64_t spool_floor_bytes;   /* the state directory's file system keeps so much free */
};

/* Shared by options*.c. */
int options_no_memory(struct atd_error *err);
/* Sets an option of remote shards. False: `name` is none of them. `value` NULL: it had none. */
bool options_read_remote(struct options *options, const char *name, const char *value, int *ret_rc,
                         struct atd_error *err);
/* What was left out: the default cache directory, a password from its file or the environment.
 * Blocks on the disk. */
int options_complete_remote(struct options *options, struct atd_error *err);

/* "512", "64K", "256M", "10G", "2T": powers of 1024. */
int options_take_size(uint64_t *ret_bytes, const char *name, const char *value, uint64_t least,
                      uint64_t most, struct atd_error *err);
/* A path, made absolute. */
int options_take_path(char **ret_path, const char *name, const char *value, struct atd_error *err);
/* HOME, or the user's home directory when the environment has none; NULL: neither. Not thread
 * safe. */
const char *options_home(void);

/* The same for publishing. */
bool options_read_publish(struct options *options, const char *name, const char *value, int *ret_rc,
                          struct atd_error *err);
int options_complete_publish(struct options *options, struct atd_error *err);

/*
 * Reads the command line and the environment (HOME, ATDATA_INDEX). `ret_options` must be released
 * also after a failure. Errors: EINVAL, with what to write instead.
 */
int options_parse(int argc, char **argv, struct options *ret_options, struct atd_error *err);
void options_release(struct options *options);
void options_print_help(const char *program);

#endif
