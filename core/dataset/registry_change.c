/*
 * What a registry changes: each a request to the publisher, whose answer the caller waits for.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atdata/schema_ref.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "codec/upload_name.h"
#include "dataset/registry_private.h"

/* ------------------------------------------------------------------ edits */

/* One edit of the index and what it takes; which of the texts, the edit's own function knows. */
struct change {
    struct atd_publisher_edit edit; /* first */
    struct atd_answer answer;
    struct atd_registry *registry;
    struct atd_str name;
    struct atd_str version;
    struct atd_str cid;
    struct atd_bytes metadata;
    const struct atd_edit_insertion *insertion;
    const struct atd_schema *schema;
    char next_version[64];
    struct atd_cid made;
};

static int check_writable(const struct atd_registry *registry, struct atd_error *err)
{
    return registry->publisher ? 0 : atd_error_set(err, EROFS, "the registry was opened read only");
}

static void on_edit_done(struct atd_publisher_edit *edit, const struct atd_error *why)
{
    atd_answer_tell(&((struct change *)edit)->answer, why);
}

static int run_change(struct atd_registry *registry, struct change *change,
                      int (*run)(struct atd_publisher_edit *, struct atd_editor *,
                                 struct atd_error *),
                      struct atd_error *err)
{
    int rc = check_writable(registry, err);

    if (rc)
        return rc;
    change->registry = registry;
    change->edit = (struct atd_publisher_edit){.run = run, .done = on_edit_done};
    atd_answer_init(&change->answer);
    rc = atd_publisher_edit(registry->publisher, &change->edit, err);
    if (rc == 0)
        rc = atd_answer_await(&change->answer, err);
    atd_answer_release(&change->answer);
    return rc;
}

static int run_insert(struct atd_publisher_edit *edit, struct atd_editor *editor,
                      struct atd_error *err)
{
    struct change *change = (struct change *)edit;

    return atd_edit_insert(editor, change->name, change->insertion, &change->made, err);
}

int atd_registry_insert(struct atd_registry *registry, struct atd_str name,
                        struct atd_str schema_ref, const struct atd_str *urls, size_t url_count,
                        struct atd_bytes metadata, struct atd_cid *ret_cid, struct atd_error *err)
{
    const struct atd_edit_insertion insertion = {schema_ref, urls, url_count, metadata};
    struct change change = {.name = name, .insertion = &insertion};
    int rc = run_change(registry, &change, run_insert, err);

    if (rc)
        return rc;
    *ret_cid = change.made;
    return 0;
}

static int run_metadata(struct atd_publisher_edit *edit, struct atd_editor *editor,
                        struct atd_error *err)
{
    struct change *change = (struct change *)edit;

    return atd_edit_set_metadata(editor, change->name, change->metadata, err);
}

int atd_registry_set_metadata(struct atd_registry *registry, struct atd_str name,
                              struct atd_bytes metadata, struct atd_error *err)
{
    struct change change = {.name = name, .metadata = metadata};

    return run_change(registry, &change, run_metadata, err);
}

static int run_label(struct atd_publisher_edit *edit, struct atd_editor *editor,
                     struct atd_error *err)
{
    struct change *change = (struct change *)edit;

    return atd_edit_label(editor, change->name, change->version, change->cid, err);
}

int atd_registry_label(struct atd_registry *registry, struct atd_str name, struct atd_str version,
                       struct atd_str cid, struct atd_error *err)
{
    struct change change = {.name = name, .version = version, .cid = cid};

    return run_change(registry, &change, run_label, err);
}

/* ------------------------------------------------------------------ schemas */

static int run_schema(struct atd_publisher_edit *edit, struct atd_editor *editor,
                      struct atd_error *err)
{
    struct change *change = (struct change *)edit;
    struct atd_schema schema = *change->schema;

    if (!schema.version.len) {
        atd_edit_next_version(editor, schema.name, change->next_version);
        schema.version = atd_str_from(change->next_version);
    }
    change->version = schema.version;
    return atd_edit_publish_schema(editor, &schema, err);
}

int atd_registry_publish_schema(struct atd_registry *registry, const struct atd_schema *schema,
                                struct atd_arena *arena, struct atd_str *ret_ref,
                                struct atd_error *err)
{
    atd_auto_buf struct atd_buf ref = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
    struct change change = {.schema = schema};
    struct atd_str bare =
        atd_str_from_byte(schema->name, (size_t)(atd_str_find_last(schema->name, '.') + 1));
    struct atd_str copy;
    int rc = run_change(registry, &change, run_schema, err);

    if (rc)
        return rc;
    atd_schema_ref_format(registry->universal ? ATD_REF_LEGACY : ATD_REF_NEW, bare, change.version,
                          &ref);
    rc = atd_buf_finish(&ref, "the reference", err);
    if (rc)
        return rc;
    copy = atd_arena_str(arena, atd_buf_str(&ref));
    if (!copy.ptr)
        return atd_registry_no_memory(err);
    *ret_ref = copy;
    return 0;
}

/* ------------------------------------------------------------------ shards */

struct publish_wait {
    struct atd_publication_wait wait; /* first */
    struct atd_answer answer;
};

static void on_published(struct atd_publication_wait *wait, const struct atd_error *why)
{
    atd_answer_tell(&((struct publish_wait *)wait)->answer, why);
}

static int open_shard(const char *path, int *ret_fd, struct stat *st, struct atd_error *err)
{
    /* Not waiting for the other end of a FIFO. */
    atd_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0 || fstat(fd, st) != 0)
        return atd_error_set(err, errno, "'%s': %s", path, strerror(errno));
    if (!S_ISREG(st->st_mode))
        return atd_error_set(err, EINVAL, "'%s' is no regular file", path);
    *ret_fd = atd_steal_fd(&fd);
    return 0;
}

/* Nobody else may have written to it since it was opened: other bytes than were sent. */
static int check_unchanged(const char *path, const struct stat *before, struct atd_error *err)
{
    struct atd_file_identity old = atd_file_identity_of(before);
    struct atd_file_identity now;
    struct stat st;

    if (stat(path, &st) != 0)
        return atd_error_set(err, errno, "'%s': %s", path, strerror(errno));
    now = atd_file_identity_of(&st);
    return atd_file_identity_same_bytes(&old, &now)
               ? 0
               : atd_error_set(err, EBUSY, "'%s' changed while it was being published", path);
}

/* The first shard of a dataset brings its schema along, and it is forgotten again. */
static int keep_schema(struct atd_registry *registry, struct atd_str dataset,
                       const struct atd_schema *schema, struct atd_error *err)
{
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(ATD_SCHEMA_BYTES_MAX);
    struct atd_bytes bytes;
    int rc;

    atd_schema_encode(schema, &json);
    rc = atd_buf_finish(&json, "the schema", err);
    bytes = atd_buf_bytes(&json);
    return rc ? rc : atd_publisher_keep_schema(registry->publisher, dataset, &bytes, err);
}

static int await_check(struct atd_publication *publication, struct atd_error *err)
{
    struct publish_wait wait = {.wait = {.done = on_published}};
    int rc;

    atd_answer_init(&wait.answer);
    atd_publication_check(publication, false, &wait.wait);
    rc = atd_answer_await(&wait.answer, err);
    atd_answer_release(&wait.answer);
    return rc;
}

static int await_publish(struct atd_publication *publication, struct atd_str dataset,
                         struct atd_str file_name, struct atd_error *err)
{
    struct publish_wait wait = {.wait = {.done = on_published}};
    int rc;

    atd_answer_init(&wait.answer);
    atd_publication_publish(publication, dataset, file_name, ATD_STR(""), &wait.wait);
    rc = atd_answer_await(&wait.answer, err);
    atd_answer_release(&wait.answer);
    return rc;
}

static int tell_published(struct atd_publication *publication, struct atd_arena *arena,
                          struct atd_published *ret_published, struct atd_error *err)
{
    struct atd_publication_status status;
    struct atd_str url;

    atd_publication_status(publication, &status);
    url = atd_arena_str(arena, atd_str_from(status.url));
    if (!url.ptr)
        return atd_registry_no_memory(err);
    *ret_published =
        (struct atd_published){.url = url, .cid = status.cid, .was_there = status.was_there};
    return 0;
}

/* `fd` is taken. */
static int publish_file(struct atd_registry *registry, struct atd_str dataset, const char *path,
                        struct atd_str file_name, int fd, const struct stat *st,
                        struct atd_arena *arena, struct atd_published *ret_published,
                        struct atd_error *err)
{
    int64_t mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    struct atd_publication *publication;
    int rc = atd_publication_over(registry->publisher, dataset, file_name, fd, mtime_ns,
                                  &publication, err);

    if (rc) {
        (void)close(fd);
        return rc;
    }
    rc = await_check(publication, err);
    if (rc == 0)
        rc = check_unchanged(path, st, err);
    if (rc == 0)
        rc = await_publish(publication, dataset, file_name, err);
    if (rc == 0)
        rc = tell_published(publication, arena, ret_published, err);
    atd_publication_unref(publication); /* takes back what is not published */
    return rc;
}

int atd_registry_publish_shard(struct atd_registry *registry, struct atd_str dataset,
                               const char *path, const struct atd_schema *schema,
                               struct atd_arena *arena, struct atd_published *ret_published,
                               struct atd_error *err)
{
    const char *slash = strrchr(path, '/');
    struct atd_str file_name = atd_str_from(slash ? slash + 1 : path);
    struct stat st = {0};
    int fd = -1;
    int rc = check_writable(registry, err);

    if (rc == 0)
        rc = atd_publisher_ready(registry->publisher, err);
    if (rc == 0 && atd_upload_name_classify(file_name, NULL, NULL) != ATD_UPLOAD_SHARD)
        rc = atd_error_set(err, EINVAL,
                           "'" ATD_STR_FMT "' is not named like a shard: NAME.tar, .tar.gz, "
                           ".tar.bz2, .tar.xz",
                           ATD_STR_ARG(file_name));
    if (rc == 0)
        rc = open_shard(path, &fd, &st, err);
    if (rc == 0 && schema)
        rc = keep_schema(registry, dataset, schema, err);
    if (rc == 0)
        rc = publish_file(registry, dataset, path, file_name, atd_steal_fd(&fd), &st, arena,
                          ret_published, err);
    if (fd >= 0)
        (void)close(fd);
    /* A dataset that is there now has a schema of its own. */
    if (schema && registry->publisher)
        (void)!atd_publisher_keep_schema(registry->publisher, dataset, NULL, NULL);
    return rc ? atd_error_wrap(err, rc, "publishing '%s'", path) : 0;
}
