/*
 * What somebody wants to make, name or take away: a name in a directory, and what it means.
 */
#ifndef ATD_FS_TARGET_H
#define ATD_FS_TARGET_H

#include "layout.h"
#include "staging.h"

struct target {
    struct staged_place place; /* views into this struct and the directory's node */
    enum atd_upload_name name_kind;
    struct atd_str final;   /* the shard's or record's name that it is or will be; may be empty */
    struct atd_buf dataset; /* the index's name of the dataset; empty in schemas/ */
    struct staged_where where;
};

/*
 * Understands `name` in `directory` (the node of a dataset, a scratch directory or schemas/). In
 * schemas/ every "X.json" is a RECORD, tools' temporary names are SCRATCH. Release it in any case.
 * Errors: EACCES nothing can be made there (also: a name nobody would share), EROFS by-cid/,
 * ENAMETOOLONG, ENOMEM, ESTALE the dataset is gone.
 */
int target_find(struct fs *fs, const struct node *directory, const char *name,
                struct target *ret_target, struct atd_error *err) ATD_MUST_USE;
/* The staged file, note or directory of a name, with a reference; NULL when there is none. */
struct staged *target_find_staged(struct fs *fs, const struct node *directory, const char *name);
/* The target that a staged file's own place is. Errors: ENOENT it has no name any more. */
int target_of_staged(struct fs *fs, struct staged *staged, struct target *ret_target,
                     struct atd_error *err) ATD_MUST_USE;
/* A copy that needs neither directory nor node. Errors: ENOMEM. */
int target_copy(const struct target *target, struct target *ret_copy,
                struct atd_error *err) ATD_MUST_USE;
void target_release(struct target *target);

/* The index's name of a dataset's file name, appended. Errors: EACCES a name no dataset can have.
 */
int target_dataset_name(struct fs *fs, struct atd_str file_name, struct atd_buf *out,
                        struct atd_error *err) ATD_MUST_USE;

/*
 * 0 when no shard of the target's final name is published (or it is hidden, about to be deleted),
 * else -EEXIST with the sentence. -EWOULDBLOCK: more effort is needed.
 */
int target_is_free(struct fs *fs, const struct target *target, enum atd_effort effort,
                   struct atd_error *err) ATD_MUST_USE;

/* Have the kernel forget the place's name and its directory's listing; the same for the note of the
 * place. */
void notify_place(struct fs *fs, const struct staged_place *place);
void notify_note(struct fs *fs, const struct staged_place *place);

/* "datasets/x/y.tar", for messages. */
#define TARGET_PATH_MAX 640
void target_path(const struct staged_place *place, char ret_path[TARGET_PATH_MAX]);

#endif
