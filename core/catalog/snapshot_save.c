#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/dirs.h"
#include "catalog/generation.h"
#include "catalog/snapshot.h"
#include "catalog/snapshot_format.h"

/* The file that is being written may be renamed away by who wrote it before us. */
#define REOPEN_TRIES 16

struct writer {
    int fd;
    int rc; /* the first failure; then nothing is written any more */
    uint64_t written_bytes;
    struct atd_sha256 *sha;
    size_t len; /* of what waits in the piece */
    uint8_t *piece;
};

static void write_out(struct writer *writer, const uint8_t *bytes, size_t len)
{
    while (len > 0 && !writer->rc) {
        ssize_t done = write(writer->fd, bytes, len);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0) {
            writer->rc = -errno;
            return;
        }
        bytes += done;
        len -= (size_t)done;
    }
}

static void flush(struct writer *writer)
{
    write_out(writer, writer->piece, writer->len);
    writer->len = 0;
}

static void put(struct writer *writer, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    writer->written_bytes += len;
    if (writer->written_bytes > SNAPSHOT_FILE_BYTES_MAX - ATD_SHA256_BYTES && !writer->rc)
        writer->rc = -EFBIG;
    atd_sha256_add(writer->sha, bytes, len);
    if (writer->len + len > SNAPSHOT_PIECE_BYTES)
        flush(writer);
    if (len > SNAPSHOT_PIECE_BYTES) {
        write_out(writer, bytes, len);
        return;
    }
    memcpy(writer->piece + writer->len, bytes, len);
    writer->len += len;
}

static void put_number(struct writer *writer, uint64_t value, size_t width)
{
    uint8_t bytes[8];

    snapshot_put(bytes, value, width);
    put(writer, bytes, width);
}

static size_t text_bytes(struct atd_str text)
{
    return 4 + (text.ptr ? text.len : 0);
}

static void put_text(struct writer *writer, struct atd_str text)
{
    put_number(writer, text.ptr ? text.len : SNAPSHOT_NO_TEXT, 4);
    put(writer, text.ptr, text.ptr ? text.len : 0);
}

/* A record of texts, and perhaps a time behind them. */
static void put_record(struct writer *writer, const struct atd_str *texts, size_t count,
                       const int64_t *seconds)
{
    size_t len = seconds ? 8 : 0;

    for (size_t i = 0; i < count; i++)
        len += text_bytes(texts[i]);
    if (len > SNAPSHOT_RECORD_BYTES_MAX) {
        if (!writer->rc)
            writer->rc = -EFBIG;
        return;
    }
    put_number(writer, len, 4);
    for (size_t i = 0; i < count; i++)
        put_text(writer, texts[i]);
    if (seconds)
        put_number(writer, (uint64_t)*seconds, 8);
}

static void put_head(struct writer *writer, const struct atd_catalog *catalog,
                     struct atd_str identity)
{
    uint8_t head[SNAPSHOT_HEAD_BYTES] = {0};

    memcpy(head, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_BYTES);
    snapshot_put(head + SNAPSHOT_AT_VERSION, SNAPSHOT_VERSION, 4);
    snapshot_put(head + SNAPSHOT_AT_IDENTITY_LEN, identity.len, 4);
    snapshot_put(head + SNAPSHOT_AT_LOADED, (uint64_t)atd_catalog_loaded_at_s(catalog), 8);
    snapshot_put(head + SNAPSHOT_AT_ENTRIES, catalog->entry_count + catalog->hidden_entry_count, 8);
    snapshot_put(head + SNAPSHOT_AT_LABELS, atd_catalog_label_count(catalog), 8);
    snapshot_put(head + SNAPSHOT_AT_SCHEMAS, catalog->schema_count + catalog->hidden_schema_count,
                 8);
    snapshot_put(head + SNAPSHOT_AT_PROBLEMS, catalog->refusals.count, 8);
    put(writer, head, sizeof(head));
    put(writer, identity.ptr, identity.len);
}

static void put_entry(struct writer *writer, const struct atd_catalog_entry *entry)
{
    const struct atd_str texts[] = {
        atd_entry_cid(entry), atd_entry_name(entry), atd_entry_schema_ref(entry),
        atd_bytes_str(atd_entry_data_urls(entry)), atd_bytes_str(atd_entry_metadata(entry))};

    put_record(writer, texts, sizeof(texts) / sizeof(*texts), &entry->created_at_s);
}

static void put_label(struct writer *writer, const struct atd_catalog_label *label)
{
    const struct atd_str texts[] = {atd_label_name(label), atd_label_version(label),
                                    atd_label_cid(label), atd_label_description(label),
                                    atd_label_created_at(label)};

    put_record(writer, texts, sizeof(texts) / sizeof(*texts), NULL);
}

static void put_schema(struct writer *writer, const struct atd_catalog_schema *schema)
{
    const struct atd_str texts[] = {schema->name, schema->version, atd_bytes_str(schema->json)};

    put_record(writer, texts, sizeof(texts) / sizeof(*texts), &schema->created_at_s);
}

/* With those that do not show: they may when the index is loaded again. */
static void put_all(struct writer *writer, const struct atd_catalog *catalog)
{
    for (size_t i = 0; i < catalog->entry_count && !writer->rc; i++)
        put_entry(writer, &catalog->entries[i]);
    for (size_t i = 0; i < catalog->hidden_entry_count && !writer->rc; i++)
        put_entry(writer, &catalog->hidden_entries[i]);
    for (size_t i = 0; i < catalog->label_count && !writer->rc; i++)
        put_label(writer, &catalog->labels[i]);
    for (size_t i = 0; i < catalog->schema_count && !writer->rc; i++)
        put_schema(writer, &catalog->schemas[i]);
    for (size_t i = 0; i < catalog->hidden_schema_count && !writer->rc; i++)
        put_schema(writer, &catalog->hidden_schemas[i]);
    for (size_t i = 0; i < catalog->refusals.count && !writer->rc; i++) {
        const struct atd_problem *problem = &catalog->refusals.all[i].problem;
        const struct atd_str texts[] = {atd_str_from(problem->what), problem->key, problem->reason};

        put_record(writer, texts, sizeof(texts) / sizeof(*texts), NULL);
    }
}

static int write_catalog(int fd, const struct atd_catalog *catalog, struct atd_str identity)
{
    atd_auto_sha256 struct atd_sha256 *sha = atd_sha256_new();
    atd_auto_free uint8_t *piece = malloc(SNAPSHOT_PIECE_BYTES);
    struct writer writer = {.fd = fd, .sha = sha, .piece = piece};
    uint8_t digest[ATD_SHA256_BYTES];

    if (!sha || !piece)
        return -ENOMEM;
    put_head(&writer, catalog, identity);
    put_all(&writer, catalog);
    flush(&writer);
    atd_sha256_finish(sha, digest);
    write_out(&writer, digest, sizeof(digest));
    return writer.rc;
}

/* ------------------------------------------------------------------ the file beside it */

static bool is_still_there(int fd, const char *path)
{
    struct stat mine;
    struct stat named;

    return fstat(fd, &mine) == 0 && stat(path, &named) == 0 && mine.st_dev == named.st_dev &&
           mine.st_ino == named.st_ino;
}

/*
 * Opens the one name under which all processes write, locked; what one that died left there is
 * written over. Returns the descriptor or -errno; -EAGAIN: somebody else is writing.
 */
static int open_new(const char *path)
{
    for (int tries = 0; tries < REOPEN_TRIES; tries++) {
        atd_auto_fd int fd =
            open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) != 0)
            return -errno;
        if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
            return -EACCES;
        if (flock(fd, LOCK_EX | LOCK_NB) != 0)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
        if (is_still_there(fd, path))
            return fchmod(fd, 0600) == 0 && ftruncate(fd, 0) == 0 ? atd_steal_fd(&fd) : -errno;
    }
    return -EAGAIN;
}

static int make_directory(const char *path)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (!slash || slash == path)
        return 0;
    if (snprintf(directory, sizeof(directory), "%.*s", (int)(slash - path), path) >=
        (int)sizeof(directory))
        return -ENAMETOOLONG;
    return atd_make_dirs(directory);
}

int atd_snapshot_save(const struct atd_catalog *catalog, const char *path, struct atd_str identity,
                      struct atd_error *err)
{
    char beside[PATH_MAX];
    atd_auto_fd int fd = -1;
    int rc = 0;

    if (identity.len > ATD_SNAPSHOT_IDENTITY_MAX ||
        snprintf(beside, sizeof(beside), "%s.new", path) >= (int)sizeof(beside))
        rc = -ENAMETOOLONG;
    if (rc == 0)
        rc = make_directory(path);
    if (rc == 0) {
        fd = open_new(beside);
        rc = fd < 0 ? fd : write_catalog(fd, catalog, identity);
    }
    if (rc == 0 && (fsync(fd) != 0 || rename(beside, path) != 0))
        rc = -errno;
    if (rc == 0)
        return 0;
    if (fd >= 0)
        (void)unlink(beside); /* while the lock is held: it is ours */
    return atd_error_set(err, -rc, "cannot save '%s': %s", path, strerror(-rc));
}
