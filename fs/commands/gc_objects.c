/*
 * What lies in the store: the objects below a prefix, the files below a directory, unfinished
 * uploads.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "gc.h"

#define DEPTH_MAX 64u /* of directories; what is deeper nobody made through this */
#define PATH_BYTES_MAX (64u << 10)
/* Of the disk store's own: a file that is being written (store/disk_upload.c). */
#define TEMP_PREFIX ".atdatafs-"
#define TEMP_AGE_S 86400

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "the list of objects needs more memory than there is");
}

static bool is_old(const struct gc *gc, int64_t changed_s, int64_t least_s)
{
    int64_t age = least_s > gc->older_than_s ? least_s : gc->older_than_s;

    /* Of unknown age: never old enough, unless everything is. */
    return age == 0 || (changed_s > 0 && gc->now_s - changed_s >= age);
}

static int add(struct gc *gc, struct atd_str url, const char *upload_id,
               const struct atd_object_info *info, int64_t changed_s, struct atd_error *err)
{
    struct gc_object *object;

    if (gc->count >= GC_OBJECTS_MAX)
        return atd_error_set(err, E2BIG, "more than %u objects that no entry names",
                             GC_OBJECTS_MAX);
    if (gc->count == gc->cap) {
        size_t cap = gc->cap ? gc->cap * 2 : 64;
        struct gc_object *grown = reallocarray(gc->objects, cap, sizeof(*grown));

        if (!grown)
            return no_memory(err);
        gc->objects = grown;
        gc->cap = cap;
    }
    object = &gc->objects[gc->count];
    *object = (struct gc_object){.url = (char *)(uintptr_t)atd_arena_str(&gc->arena, url).ptr,
                                 .url_len = url.len,
                                 .changed_s = changed_s};
    if (info) {
        object->info = *info;
        object->size_bytes = info->size_bytes;
    }
    if (upload_id)
        object->upload_id = atd_arena_str(&gc->arena, atd_str_from(upload_id)).ptr;
    if (!object->url || (upload_id && !object->upload_id))
        return no_memory(err);
    gc->count++;
    return 0;
}

/* ------------------------------------------------------------------ an object store */

struct listing {
    struct gc *gc;
    const struct atd_named *named;
    struct atd_buf last;
    int rc;
    struct atd_error *err;
};

static int on_listed(void *ctx, struct atd_str url, const struct atd_object_info *info)
{
    struct listing *listing = ctx;
    struct gc *gc = listing->gc;

    atd_buf_clear(&listing->last);
    atd_buf_append_str(&listing->last, url);
    gc->looked_at++;
    if (atd_named_has(listing->named, url))
        return 0;
    if (!is_old(gc, info->mtime_s, 0)) {
        gc->young++;
        return 0;
    }
    listing->rc = add(gc, url, NULL, info, info->mtime_s, listing->err);
    return listing->rc;
}

static int list_objects(struct gc *gc, const struct atd_named *named, struct atd_error *err)
{
    struct listing listing = {
        .gc = gc, .named = named, .last = ATD_BUF_INIT(PATH_BYTES_MAX), .err = err};
    atd_auto_buf struct atd_buf after = ATD_BUF_INIT(PATH_BYTES_MAX);
    bool more = true;
    int rc = 0;

    while (rc == 0 && more) {
        atd_buf_clear(&after);
        atd_buf_append(&after, listing.last.ptr, listing.last.len);
        rc = atd_store_list(gc->store, atd_str_from(gc->prefix_url), atd_buf_str(&after),
                            gc->timeout_ms, on_listed, &listing, &more, err);
        if (rc == 0)
            rc = listing.rc;
        if (rc == 0)
            rc = atd_buf_finish(&listing.last, "a listed URL", err);
    }
    atd_buf_release(&listing.last);
    return rc;
}

static int on_upload(void *ctx, struct atd_str url, const char *id, int64_t begun_s)
{
    struct listing *listing = ctx;

    if (is_old(listing->gc, begun_s, 0))
        listing->rc = add(listing->gc, url, id, NULL, begun_s, listing->err);
    return listing->rc;
}

/* That uploads cannot be listed says nothing about objects. */
static int list_uploads(struct gc *gc, struct atd_error *err)
{
    struct listing listing = {.gc = gc, .err = err};
    int rc = atd_store_uploads(gc->store, atd_str_from(gc->prefix_url), gc->timeout_ms, on_upload,
                               &listing, &gc->uploads_why);

    return rc && listing.rc ? listing.rc : 0;
}

/* ------------------------------------------------------------------ a directory */

struct walk {
    struct gc *gc;
    const struct atd_named *named;
    struct atd_buf path; /* of where it is */
};

static int disk_error(const struct walk *walk, int code, struct atd_error *err)
{
    return atd_error_set(err, code, "reading '" ATD_STR_FMT "': %s",
                         ATD_STR_ARG(atd_buf_str(&walk->path)), strerror(code));
}

static int look_at_file(struct walk *walk, const char *name, const struct stat *st,
                        struct atd_error *err)
{
    struct gc *gc = walk->gc;
    struct atd_str path = atd_buf_str(&walk->path);
    /* Linked into place, renamed, restored: the later of the two. */
    int64_t changed_s = st->st_mtim.tv_sec > st->st_ctim.tv_sec ? (int64_t)st->st_mtim.tv_sec
                                                                : (int64_t)st->st_ctim.tv_sec;
    bool is_temp = strncmp(name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0;
    struct atd_object_info info;

    gc->looked_at++;
    if (atd_named_has(walk->named, path))
        return 0;
    if (!is_old(gc, changed_s, is_temp ? TEMP_AGE_S : 0)) {
        gc->young++;
        return 0;
    }
    if (atd_store_stat(gc->store, path, gc->timeout_ms, &info, NULL) != 0)
        return 0; /* gone by now, or nothing that a shard may be */
    return add(gc, path, NULL, &info, changed_s, err);
}

static int walk_dir(struct walk *walk, int at_fd, const char *dir_name, unsigned depth,
                    struct atd_error *err)
{
    int fd = openat(at_fd, dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (depth ? O_NOFOLLOW : 0));
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    size_t len = walk->path.len;
    int rc = 0;

    if (!listing) {
        /* The root may not be there yet, a directory not be there any more. */
        rc = errno == ENOENT ? 0 : disk_error(walk, errno, err);
        if (fd >= 0)
            (void)close(fd);
        return rc;
    }
    while (rc == 0 && (errno = 0, entry = readdir(listing))) {
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(listing), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        atd_buf_append_text(&walk->path, "/");
        atd_buf_append_text(&walk->path, entry->d_name);
        rc = atd_buf_finish(&walk->path, "a path", err);
        if (rc == 0 && S_ISREG(st.st_mode))
            rc = look_at_file(walk, entry->d_name, &st, err);
        else if (rc == 0 && S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
            rc = walk_dir(walk, dirfd(listing), entry->d_name, depth + 1, err);
        walk->path.len = len;
    }
    if (rc == 0 && errno)
        rc = disk_error(walk, errno, err);
    (void)closedir(listing);
    return rc;
}

static int walk_files(struct gc *gc, const struct atd_named *named, struct atd_error *err)
{
    struct walk walk = {.gc = gc, .named = named, .path = ATD_BUF_INIT(PATH_BYTES_MAX)};
    int rc;

    atd_buf_append_text(&walk.path, gc->prefix_url);
    rc = walk_dir(&walk, AT_FDCWD, gc->prefix_url, 0, err);
    atd_buf_release(&walk.path);
    return rc;
}

int gc_collect(struct gc *gc, const struct atd_named *named, struct atd_error *err)
{
    int rc = gc->is_disk ? walk_files(gc, named, err) : list_objects(gc, named, err);

    return rc || gc->is_disk ? rc : list_uploads(gc, err);
}
