/*
 * Reading a snapshot: a provider of the records in the file, which the builder makes a catalog of
 * as of any other's. One pass; the digest at the end decides whether what was made of it counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "catalog/generation.h"
#include "catalog/snapshot.h"
#include "catalog/snapshot_format.h"

#define YEAR_MAX 9999
/* The largest offset that a time's text may have. */
#define OFFSET_MAX_S ((23 * 60 + 59) * 60)

struct head {
    int64_t loaded_at_s;
    uint64_t entries;
    uint64_t labels;
    uint64_t schemas;
    uint64_t problems;
};

struct snapshot {
    struct atd_index base; /* first */
    FILE *file;
    struct atd_sha256 *sha;
    uint64_t left_bytes; /* before the digest */
    struct atd_str identity;
    struct head head;
    struct atd_buf record;
};

static int not_whole(struct atd_error *err)
{
    return atd_error_set(err, EBADMSG, "the snapshot is damaged");
}

/* ------------------------------------------------------------------ bytes */

static int take(struct snapshot *snapshot, void *into, size_t len, struct atd_error *err)
{
    if (len > snapshot->left_bytes || fread(into, 1, len, snapshot->file) != len)
        return not_whole(err);
    atd_sha256_add(snapshot->sha, into, len);
    snapshot->left_bytes -= len;
    return 0;
}

/* The next `len` bytes as the current record. */
static int take_bytes(struct snapshot *snapshot, size_t len, struct atd_error *err)
{
    if (len > snapshot->left_bytes)
        return not_whole(err);
    atd_buf_clear(&snapshot->record);
    atd_buf_append_zeros(&snapshot->record, len);
    if (snapshot->record.failed)
        return atd_buf_finish(&snapshot->record, "a record of the snapshot", err);
    return len ? take(snapshot, snapshot->record.ptr, len, err) : 0;
}

static int take_record(struct snapshot *snapshot, struct atd_bytes *ret_rest, struct atd_error *err)
{
    uint8_t bytes[4];
    uint64_t len;
    int rc = take(snapshot, bytes, sizeof(bytes), err);

    if (rc)
        return rc;
    len = snapshot_get(bytes, sizeof(bytes));
    if (len > SNAPSHOT_RECORD_BYTES_MAX)
        return not_whole(err);
    rc = take_bytes(snapshot, (size_t)len, err);
    if (rc == 0)
        *ret_rest = atd_buf_bytes(&snapshot->record);
    return rc;
}

/* ------------------------------------------------------------------ fields */

static bool get_number(struct atd_bytes *rest, size_t width, uint64_t *ret_value)
{
    if (rest->len < width)
        return false;
    *ret_value = snapshot_get(rest->ptr, width);
    rest->ptr += width;
    rest->len -= width;
    return true;
}

/* `may_be_none`: the text may be missing, which is not the same as empty. */
static bool get_text(struct atd_bytes *rest, bool may_be_none, struct atd_str *ret_text)
{
    uint64_t len;

    *ret_text = (struct atd_str){NULL, 0};
    if (!get_number(rest, 4, &len))
        return false;
    if (len == SNAPSHOT_NO_TEXT)
        return may_be_none;
    if (len > rest->len)
        return false;
    *ret_text = (struct atd_str){(const char *)rest->ptr, (size_t)len};
    rest->ptr += len;
    rest->len -= (size_t)len;
    return true;
}

/* The text that atd_clock_parse() makes this number of; a year of five digits, or before the year
 * 0, is there only by its offset. False: there is none. */
static bool time_text(int64_t seconds, char ret_text[ATD_CLOCK_TEXT_MAX])
{
    static const struct {
        int shift_s;
        const char *offset;
    } forms[] = {{0, "+00:00"}, {OFFSET_MAX_S, "+23:59"}, {-OFFSET_MAX_S, "-23:59"}};

    if (seconds > INT64_MAX - OFFSET_MAX_S || seconds < INT64_MIN + OFFSET_MAX_S)
        return false;
    for (size_t i = 0; i < ATD_ARRAY_LEN(forms); i++) {
        time_t when = (time_t)(seconds + forms[i].shift_s);
        struct tm tm;

        if (!gmtime_r(&when, &tm) || tm.tm_year < -1900 || tm.tm_year > YEAR_MAX - 1900)
            continue;
        (void)snprintf(ret_text, ATD_CLOCK_TEXT_MAX, "%04u-%02u-%02uT%02u:%02u:%02u%s",
                       (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
                       (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100,
                       (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100, forms[i].offset);
        return true;
    }
    return false;
}

/* 0 is unknown, in a catalog as in its file. */
static bool get_time(struct atd_bytes *rest, char storage[ATD_CLOCK_TEXT_MAX],
                     struct atd_str *ret_text)
{
    uint64_t seconds;

    *ret_text = (struct atd_str){NULL, 0};
    if (!get_number(rest, 8, &seconds))
        return false;
    if (seconds == 0)
        return true;
    if (!time_text((int64_t)seconds, storage))
        return false;
    *ret_text = atd_str_from(storage);
    return true;
}

/* ------------------------------------------------------------------ records */

static int report_entry(struct atd_bytes rest, const struct atd_index_sink *sink,
                        struct atd_error *err)
{
    char created_at[ATD_CLOCK_TEXT_MAX];
    struct atd_index_entry entry;
    struct atd_str urls;
    struct atd_str metadata;

    if (!get_text(&rest, false, &entry.cid) || !get_text(&rest, false, &entry.name) ||
        !get_text(&rest, false, &entry.schema_ref) || !get_text(&rest, false, &urls) ||
        !get_text(&rest, true, &metadata) || !get_time(&rest, created_at, &entry.created_at) ||
        rest.len > 0)
        return not_whole(err);
    entry.data_urls = atd_str_bytes(urls);
    entry.metadata = atd_str_bytes(metadata);
    return sink->entry(sink->ctx, &entry, err);
}

static int report_label(struct atd_bytes rest, const struct atd_index_sink *sink,
                        struct atd_error *err)
{
    struct atd_index_label label;

    if (!get_text(&rest, false, &label.name) || !get_text(&rest, false, &label.version) ||
        !get_text(&rest, false, &label.cid) || !get_text(&rest, true, &label.description) ||
        !get_text(&rest, true, &label.created_at) || rest.len > 0)
        return not_whole(err);
    return sink->label(sink->ctx, &label, err);
}

static int report_schema(struct atd_bytes rest, const struct atd_index_sink *sink,
                         struct atd_error *err)
{
    char created_at[ATD_CLOCK_TEXT_MAX];
    struct atd_index_schema schema;
    struct atd_str json;

    if (!get_text(&rest, false, &schema.name) || !get_text(&rest, false, &schema.version) ||
        !get_text(&rest, false, &json) || !get_time(&rest, created_at, &schema.created_at) ||
        rest.len > 0)
        return not_whole(err);
    schema.json = atd_str_bytes(json);
    return sink->schema(sink->ctx, &schema, err);
}

/* A problem's kind is a word of the program's own, whatever the file says. */
static const char *known_what(struct atd_str what)
{
    static const char *const words[] = {"entry", "label", "schema", "table", "name", "key"};

    for (size_t i = 0; i < ATD_ARRAY_LEN(words); i++) {
        if (atd_str_equal(what, atd_str_from(words[i])))
            return words[i];
    }
    return "record";
}

static int report_problem(struct atd_bytes rest, const struct atd_index_sink *sink,
                          struct atd_error *err)
{
    struct atd_str what;
    struct atd_str key;
    struct atd_str reason;

    if (!get_text(&rest, false, &what) || !get_text(&rest, false, &key) ||
        !get_text(&rest, false, &reason) || rest.len > 0)
        return not_whole(err);
    /* The last field of a record: the buffer's terminator follows it. */
    sink->problem(sink->ctx, known_what(what), key, reason.ptr);
    return 0;
}

static int report(struct snapshot *snapshot, uint64_t count,
                  int (*one)(struct atd_bytes rest, const struct atd_index_sink *sink,
                             struct atd_error *err),
                  const struct atd_index_sink *sink, struct atd_error *err)
{
    struct atd_bytes record;
    int rc = 0;

    /* Each takes bytes of the file, however many there are said to be. */
    for (uint64_t i = 0; i < count && rc == 0; i++) {
        rc = take_record(snapshot, &record, err);
        if (rc == 0)
            rc = one(record, sink, err);
    }
    return rc;
}

/* ------------------------------------------------------------------ the file */

static int take_head(struct snapshot *snapshot, struct atd_error *err)
{
    uint8_t bytes[SNAPSHOT_HEAD_BYTES];
    struct head *head = &snapshot->head;
    uint64_t identity_len;
    int rc = take(snapshot, bytes, sizeof(bytes), err);

    if (rc)
        return rc;
    if (memcmp(bytes, SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_BYTES) != 0)
        return atd_error_set(err, EBADMSG, "it is no snapshot");
    if (snapshot_get(bytes + SNAPSHOT_AT_VERSION, 4) != SNAPSHOT_VERSION)
        return atd_error_set(err, EBADMSG, "the snapshot is of another version of the format");
    identity_len = snapshot_get(bytes + SNAPSHOT_AT_IDENTITY_LEN, 4);
    if (identity_len > ATD_SNAPSHOT_IDENTITY_MAX)
        return not_whole(err);
    head->loaded_at_s = (int64_t)snapshot_get(bytes + SNAPSHOT_AT_LOADED, 8);
    head->entries = snapshot_get(bytes + SNAPSHOT_AT_ENTRIES, 8);
    head->labels = snapshot_get(bytes + SNAPSHOT_AT_LABELS, 8);
    head->schemas = snapshot_get(bytes + SNAPSHOT_AT_SCHEMAS, 8);
    head->problems = snapshot_get(bytes + SNAPSHOT_AT_PROBLEMS, 8);
    rc = take_bytes(snapshot, (size_t)identity_len, err);
    if (rc == 0 && !atd_str_equal(atd_buf_str(&snapshot->record), snapshot->identity))
        rc = atd_error_set(err, EBADMSG, "the snapshot is of another index");
    return rc;
}

/* The records have ended: now the digest tells whether they were what was saved. */
static int check_digest(struct snapshot *snapshot, struct atd_error *err)
{
    uint8_t wanted[ATD_SHA256_BYTES];
    uint8_t digest[ATD_SHA256_BYTES];

    if (snapshot->left_bytes > 0 ||
        fread(wanted, 1, sizeof(wanted), snapshot->file) != sizeof(wanted))
        return not_whole(err);
    atd_sha256_finish(snapshot->sha, digest);
    return memcmp(wanted, digest, sizeof(digest)) == 0 ? 0 : not_whole(err);
}

static int snapshot_load(struct atd_index *index, const struct atd_index_sink *sink,
                         struct atd_error *err)
{
    struct snapshot *snapshot = (struct snapshot *)index;
    int rc = take_head(snapshot, err);

    if (rc == 0)
        rc = report(snapshot, snapshot->head.entries, report_entry, sink, err);
    if (rc == 0)
        rc = report(snapshot, snapshot->head.labels, report_label, sink, err);
    if (rc == 0)
        rc = report(snapshot, snapshot->head.schemas, report_schema, sink, err);
    if (rc == 0)
        rc = report(snapshot, snapshot->head.problems, report_problem, sink, err);
    return rc ? rc : check_digest(snapshot, err);
}

static bool snapshot_changed(struct atd_index *index)
{
    (void)index;
    return false;
}

static void snapshot_free(struct atd_index *index)
{
    struct snapshot *snapshot = (struct snapshot *)index;

    if (snapshot->file)
        (void)fclose(snapshot->file);
    atd_sha256_free(snapshot->sha);
    atd_buf_release(&snapshot->record);
    free(snapshot);
}

static const struct atd_index_ops snapshot_ops = {
    .provider = "snapshot",
    .load = snapshot_load,
    .changed = snapshot_changed,
    .free = snapshot_free,
};

static int open_file(struct snapshot *snapshot, const char *path, struct atd_error *err)
{
    atd_auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return atd_error_set(err, errno, "snapshot '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > SNAPSHOT_FILE_BYTES_MAX ||
        (uint64_t)st.st_size < ATD_SHA256_BYTES)
        return atd_error_set(err, EBADMSG, "'%s' is no snapshot", path);
    if (st.st_uid != geteuid() || (st.st_mode & 022))
        return atd_error_set(err, EACCES,
                             "snapshot '%s' belongs to somebody else or can be written by others",
                             path);
    snapshot->left_bytes = (uint64_t)st.st_size - ATD_SHA256_BYTES;
    snapshot->sha = atd_sha256_new();
    snapshot->file = fdopen(fd, "rb");
    if (!snapshot->sha || !snapshot->file)
        return atd_error_set(err, ENOMEM, "snapshot '%s': out of memory", path);
    (void)atd_steal_fd(&fd);
    (void)setvbuf(snapshot->file, NULL, _IOFBF, SNAPSHOT_PIECE_BYTES);
    return 0;
}

/* What the builder cannot know is when these records were loaded. */
static int restore(struct atd_catalog *catalog, const struct head *head, struct atd_error *err)
{
    if (catalog->entry_count + catalog->hidden_entry_count != head->entries ||
        catalog->label_count != head->labels ||
        catalog->schema_count + catalog->hidden_schema_count != head->schemas)
        return atd_error_set(err, EBADMSG,
                             "the snapshot has records that are unsound for this version");
    catalog->loaded_at_s = head->loaded_at_s;
    return 0;
}

int atd_snapshot_load(const char *path, struct atd_str identity, uint64_t generation,
                      struct atd_catalog **ret_catalog, struct atd_error *err)
{
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
    struct atd_catalog *catalog = NULL;
    int rc;

    if (!snapshot)
        return atd_error_set(err, ENOMEM, "snapshot '%s': out of memory", path);
    atd_buf_init(&snapshot->record, SNAPSHOT_RECORD_BYTES_MAX);
    snapshot->identity = identity;
    rc = atd_index_init(&snapshot->base, &snapshot_ops, path, err);
    if (rc) {
        free(snapshot);
        return rc;
    }
    rc = open_file(snapshot, path, err);
    if (rc == 0)
        rc = atd_catalog_load(&snapshot->base, generation, &catalog, err);
    if (rc == 0)
        rc = restore(catalog, &snapshot->head, err);
    atd_index_free(&snapshot->base);
    if (rc) {
        atd_catalog_unref(catalog);
        return rc;
    }
    *ret_catalog = catalog;
    return 0;
}
