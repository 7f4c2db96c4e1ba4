/*
 * Writing objects: in parts, several at once, and never over an object that is there.
 *
 *     begin -> part, part, ... (any thread, any order) -> finish -> free
 *                                                    \--> abort  -> free
 *
 * Nothing is visible under the URL before finish returned 0. Implementations: s3 (multipart), disk
 * (a file without a name, linked into place), memory and fault (tests).
 *
 * Blocks: every function but _cancel and _free; they are for worker threads. `timeout_ms` is the
 * longest time without progress. Source: S3-REDIS 2.1 to 2.4; TOOLS 4.
 */
#ifndef ATD_STORE_UPLOAD_H
#define ATD_STORE_UPLOAD_H

#include "store/store.h"

#define ATD_UPLOAD_SIZE_UNKNOWN UINT64_MAX
#define ATD_UPLOAD_PARTS_MAX 10000u
#define ATD_UPLOAD_ID_MAX 1024
#define ATD_STORE_PUT_BYTES_MAX (64u << 20)

/*
 * How large the parts of an object are: all but the last one are equal (R2 insists). Of known
 * length: the least of at least 8 MiB, in whole MiB, that makes no more than PARTS_MAX parts; of
 * unknown length 16 MiB. Pure.
 */
uint64_t atd_upload_part_bytes(uint64_t size_bytes);

struct atd_store_upload;

/*
 * Begins one whose parts are `part_bytes` long (atd_upload_part_bytes(); a store that is told where
 * a part lies needs it before the last one comes). An object that stands there already is not
 * noticed here (finish does), unless the store cannot tell then: *see* atd_store_guards. `ret_id`
 * gets what atd_store_upload_discard() wants after a crash ("" when that needs nothing, or there
 * may be more than one). Errors: EREMOTEIO nobody can say whether it was begun: _discard() is due;
 * EACCES, ENOTSUP the store is read only, EINVAL not a URL of this store, ENOSPC, those of a
 * request: it was not.
 */
int atd_store_upload_begin(struct atd_store *store, struct atd_str url, uint64_t part_bytes,
                           unsigned timeout_ms, char ret_id[ATD_UPLOAD_ID_MAX + 1],
                           struct atd_store_upload **ret_upload,
                           struct atd_error *err) ATD_MUST_USE;

/*
 * Sends part `number`, from 1. Parts are part_bytes long but the last, which is shorter or as long,
 * never empty. A number sent again replaces the earlier one, but not while that one is under way.
 * `bytes` stay unchanged until it returns. Any thread, several parts at once. Errors: ECANCELED;
 * EAGAIN as finish; EFBIG more than PARTS_MAX parts; those of a request, tried several times.
 */
int atd_store_upload_part(struct atd_store_upload *upload, unsigned number, struct atd_bytes bytes,
                          unsigned timeout_ms, struct atd_error *err) ATD_MUST_USE;

/*
 * Makes the object of parts 1 to `part_count` and confirms it: size, and checksum where the store
 * has one. No part is under way. *ret_info: the ETag is "" where the store has none of its own.
 * Errors: EEXIST an object is there already, and stays as it was; EIO what is there is not what
 * was sent (it is deleted); EREMOTEIO nobody can say whether it was made; EAGAIN the store dropped
 * the upload: begin again (retryable); ECANCELED; others: it was not made. After any error but
 * EREMOTEIO abort is due; after EREMOTEIO free.
 */
int atd_store_upload_finish(struct atd_store_upload *upload, unsigned part_count,
                            unsigned timeout_ms, struct atd_object_info *ret_info,
                            struct atd_error *err) ATD_MUST_USE;

/* Parts under way and later ones fail with ECANCELED. Any thread, never blocks. */
void atd_store_upload_cancel(struct atd_store_upload *upload);

/* Takes back what was sent; nothing is under way. What cannot be taken back is reported. */
int atd_store_upload_abort(struct atd_store_upload *upload, unsigned timeout_ms,
                           struct atd_error *err) ATD_MUST_USE;

/* NULL is fine. Finished or aborted before, or finish said EREMOTEIO. */
void atd_store_upload_free(struct atd_store_upload *upload);

/*
 * Takes back the upload of a process that died: `id` is what begin gave, or "" when it is not known
 * whether it had begun (then every unfinished upload of exactly this URL is taken back). One that
 * is gone already is fine.
 */
int atd_store_upload_discard(struct atd_store *store, struct atd_str url, const char *id,
                             unsigned timeout_ms, struct atd_error *err) ATD_MUST_USE;

/*
 * Every unfinished upload whose URL begins with `prefix`, in no order; `begun_s` 0: not told. Views
 * are valid during the call; what `fn` returns, if not 0, ends it. A store may not tell of all
 * (MinIO: only of those whose whole key is asked for). Errors: ENOTSUP this store has none to tell
 * of; EACCES; those of a request.
 */
typedef int (*atd_store_uploads_fn)(void *ctx, struct atd_str url, const char *id, int64_t begun_s);
int atd_store_uploads(struct atd_store *store, struct atd_str prefix, unsigned timeout_ms,
                      atd_store_uploads_fn fn, void *ctx, struct atd_error *err) ATD_MUST_USE;

/*
 * An object of one piece, with the same promises as finish (and nothing to abort). `bytes` at most
 * ATD_STORE_PUT_BYTES_MAX.
 */
int atd_store_put(struct atd_store *store, struct atd_str url, struct atd_bytes bytes,
                  unsigned timeout_ms, struct atd_object_info *ret_info,
                  struct atd_error *err) ATD_MUST_USE;

/*
 * Takes a whole local file over as the object, without copying it: `path` (open as `fd`) becomes
 * the object's file and loses its old name. Promises as finish. Errors: ENOTSUP, EXDEV this store
 * cannot, or not this file: send parts.
 */
int atd_store_adopt(struct atd_store *store, struct atd_str url, int fd, const char *path,
                    struct atd_object_info *ret_info, struct atd_error *err) ATD_MUST_USE;

/* Deletes an object; one that is gone is fine. Errors: EACCES, ENOTSUP, those of a request. */
int atd_store_delete(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                     struct atd_error *err) ATD_MUST_USE;

/*
 * The same, but not tried again once the store may have done it: somebody may have made an object
 * of that URL since, which is not meant. After a retryable error look again first.
 */
int atd_store_delete_once(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                          struct atd_error *err) ATD_MUST_USE;

/*
 * Whether the store itself refuses to write over an object (If-None-Match enforced; link(2)). Found
 * out once per bucket, by writing a small scratch object below `prefix_url` twice and deleting it;
 * `scratch_name` is what it is called (a name nobody has), so that who dies meanwhile can be
 * cleaned up after: atd_store_upload_discard() and atd_store_delete(). *ret_guards false: every URL
 * must be new to the world, so put something random into it. Errors: those of a request.
 */
int atd_store_guards(struct atd_store *store, struct atd_str prefix_url,
                     struct atd_str scratch_name, unsigned timeout_ms, bool *ret_guards,
                     struct atd_error *err) ATD_MUST_USE;

/*
 * What the objects that this store makes are labelled with, so that they are told from others' of
 * the same URL and the same bytes: new with every store that is opened; see atd_object_info.maker.
 * "": they are not.
 */
const char *atd_store_maker(struct atd_store *store);

/* ------------------------------------------------------------------ for implementations */

struct atd_store_write_ops {
    int (*begin)(struct atd_store *store, struct atd_str url, uint64_t part_bytes,
                 unsigned timeout_ms, char ret_id[ATD_UPLOAD_ID_MAX + 1],
                 struct atd_store_upload **ret_upload, struct atd_error *err);
    int (*part)(struct atd_store_upload *upload, unsigned number, struct atd_bytes bytes,
                unsigned timeout_ms, struct atd_error *err);
    int (*finish)(struct atd_store_upload *upload, unsigned part_count, unsigned timeout_ms,
                  struct atd_object_info *ret_info, struct atd_error *err);
    void (*cancel)(struct atd_store_upload *upload);
    int (*abort)(struct atd_store_upload *upload, unsigned timeout_ms, struct atd_error *err);
    void (*free_upload)(struct atd_store_upload *upload);
    int (*discard)(struct atd_store *store, struct atd_str url, const char *id, unsigned timeout_ms,
                   struct atd_error *err);
    int (*uploads)(struct atd_store *store, struct atd_str prefix, unsigned timeout_ms,
                   atd_store_uploads_fn fn, void *ctx, struct atd_error *err); /* NULL: ENOTSUP */
    int (*put)(struct atd_store *store, struct atd_str url, struct atd_bytes bytes,
               unsigned timeout_ms, struct atd_object_info *ret_info, struct atd_error *err);
    int (*adopt)(struct atd_store *store, struct atd_str url, int fd, const char *path,
                 struct atd_object_info *ret_info, struct atd_error *err); /* NULL: ENOTSUP */
    int (*remove)(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                  struct atd_error *err);
    int (*remove_once)(struct atd_store *store, struct atd_str url, unsigned timeout_ms,
                       struct atd_error *err); /* NULL: remove never tries again */
    int (*guards)(struct atd_store *store, struct atd_str prefix_url, struct atd_str scratch_name,
                  unsigned timeout_ms, bool *ret_guards, struct atd_error *err);
    const char *(*maker)(struct atd_store *store); /* NULL: "" */
};

/* The first member of every implementation's upload; filled by atd_store_upload_begin(). */
struct atd_store_upload {
    /* fixed */
    struct atd_store *store;
    uint64_t part_bytes;
};

#endif
