/*
 * `atdatafs gc`: objects that no entry names, and uploads that nobody finished.
 *
 * Why nothing that is named, or is about to be, goes. A publish does, in this order:
 *
 *     job in the journal -> object -> commit (an entry names it) -> job out of the journal
 *
 * and gc looks in this order, anew before each batch of deletions:
 *
 *     object (the version that was listed is there) -> journal -> index -> delete
 *
 * An object that was there when it was looked at had a job before; so the journal, looked at later,
 * has the job still, or the commit is done, and the index, loaded later, names it. A request to
 * delete that may have arrived is not sent again without all of that: somebody may have made an
 * object in the place of the deleted one. Publishes from
 * other machines have their journals there: for them, and for the Python library, which has none,
 * there is the age.
 */
#ifndef ATD_FS_GC_H
#define ATD_FS_GC_H

#include "base/cleanup.h"
#include "parts.h"
#include "publish/named.h"
#include "store/upload.h"

/* Deletions between two looks at the index. */
#define GC_BATCH 200u
/* Of a batch, when requests to delete were lost on their way. */
#define GC_TRIES 3u
#define GC_OBJECTS_MAX (64u << 20)

enum gc_outcome {
    GC_FOUND,   /* nobody names it */
    GC_DELETED, /* by this run */
    GC_KEPT,    /* named, changed or gone by now: nothing to say */
    GC_FAILED,  /* `why` */
};

struct gc_object {
    char *url; /* in the arena, like the id */
    size_t url_len;
    const char *upload_id; /* NULL: an object */
    uint64_t size_bytes;   /* of an object */
    struct atd_object_info info;
    int64_t changed_s; /* 0: unknown */
    bool was_tried; /* to delete: when it is gone now, it was that */
    enum gc_outcome outcome;
    struct atd_error *why; /* FAILED; owned, NULL when there was no memory for it */
};

struct gc {
    /* fixed */
    const struct options *options;
    struct parts *parts;
    struct atd_store *store;
    char *prefix_url; /* "s3://BUCKET/PREFIX/" or an absolute directory */
    bool is_disk;
    unsigned timeout_ms;
    unsigned jobs;
    int64_t older_than_s;
    int64_t now_s;

    struct atd_arena arena;
    struct gc_object *objects; /* objects, then uploads */
    size_t count;
    size_t cap;
    size_t looked_at;             /* objects that there are */
    size_t young;                 /* unnamed, and not old enough */
    struct atd_error uploads_why; /* code not 0: unfinished uploads could not be listed */
};

/* gc_objects.c: finds what `named` does not name and is old enough. Errors: the store's; ENOMEM. */
int gc_collect(struct gc *gc, const struct atd_named *named, struct atd_error *err) ATD_MUST_USE;

static inline struct atd_str gc_url(const struct gc_object *object)
{
    return (struct atd_str){object->url, object->url_len};
}

#endif
