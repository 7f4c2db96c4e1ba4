#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "index/index.h"
#include "support/child.h"

/* The library's own script, as far as it matters here (ATDATA-FORMATS 2.1). */
static const char tables[] =
    "PRAGMA journal_mode=WAL;"
    "CREATE TABLE dataset_entries (cid TEXT PRIMARY KEY, name TEXT NOT NULL, schema_ref TEXT NOT "
    "NULL, data_urls BLOB NOT NULL, metadata BLOB, legacy_uuid TEXT, created_at TEXT DEFAULT "
    "(datetime('now')));"
    "CREATE TABLE schemas (name TEXT NOT NULL, version TEXT NOT NULL, schema_json TEXT NOT NULL, "
    "created_at TEXT DEFAULT (datetime('now')), PRIMARY KEY (name, version));"
    "CREATE TABLE labels (name TEXT NOT NULL, cid TEXT NOT NULL, version TEXT NOT NULL DEFAULT '',"
    "description TEXT, created_at TEXT DEFAULT (datetime('now')), PRIMARY KEY (name, version));";

static char dir[64];
static char path[128];

static void setup(void)
{
    (void)strcpy(dir, "/tmp/atd-index-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/index.db", dir);
}

static void teardown(void)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(index_sqlite, .init = setup, .fini = teardown, .timeout = 60);

static sqlite3 *open_writer(void)
{
    sqlite3 *db;

    cr_assert_eq(sqlite3_open(path, &db), SQLITE_OK);
    return db;
}

static void run(sqlite3 *db, const char *sql)
{
    char *text = NULL;

    cr_assert_eq(sqlite3_exec(db, sql, NULL, NULL, &text), SQLITE_OK, "%s: %s", sql, text);
}

struct seen {
    char text[4096];
};

static void add(struct seen *seen, const char *kind, struct atd_str key, const char *more)
{
    size_t len = strlen(seen->text);

    (void)snprintf(seen->text + len, sizeof(seen->text) - len, "%s:" ATD_STR_FMT "%s ", kind,
                   ATD_STR_ARG(key), more);
}

static int see_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    (void)err;
    add(ctx, "entry", entry->cid, entry->metadata.ptr ? "+m" : "");
    return 0;
}

static int see_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    (void)err;
    add(ctx, "label", label->name, "");
    return 0;
}

static int see_schema(void *ctx, const struct atd_index_schema *schema, struct atd_error *err)
{
    (void)err;
    add(ctx, "schema", schema->name, "");
    return 0;
}

static void see_problem(void *ctx, const char *what, struct atd_str key, const char *reason)
{
    (void)reason;
    add(ctx, what, key, "!");
}

static int load(struct atd_index *index, struct seen *seen, struct atd_error *err)
{
    const struct atd_index_sink sink = {seen, see_entry, see_label, see_schema, NULL, see_problem};
    int rc = -EAGAIN;

    /* EAGAIN: the file was written within the last clock ticks. */
    for (int tries = 0; tries < 100 && rc == -EAGAIN; tries++) {
        seen->text[0] = '\0';
        rc = atd_index_load(index, &sink, err);
        if (rc == -EAGAIN)
            (void)usleep(20000);
    }
    return rc;
}

static struct atd_index *open_index(void)
{
    struct atd_index *index = NULL;

    cr_assert_eq(atd_index_sqlite_open(path, &index, NULL), 0);
    return index;
}

static void expect(struct atd_index *index, const char *wanted)
{
    struct seen seen;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(load(index, &seen, &err), 0, "%s", err.text);
    cr_assert_str_eq(seen.text, wanted);
}

/* Names, sizes and times of everything in the directory. */
static void describe(char *ret_text, size_t size)
{
    static const char *const names[] = {"", "-wal", "-shm", "-journal"};
    size_t len = 0;

    ret_text[0] = '\0';
    for (size_t i = 0; i < 4; i++) {
        char name[256];
        struct stat st;

        (void)snprintf(name, sizeof(name), "%s%s", path, names[i]);
        if (stat(name, &st) == 0)
            len += (size_t)snprintf(ret_text + len, size - len, "%s %ld %ld.%ld; ", name,
                                    (long)st.st_size, (long)st.st_mtim.tv_sec,
                                    (long)st.st_mtim.tv_nsec);
    }
}

static void insert(sqlite3 *db, const char *cid)
{
    char sql[256];

    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO dataset_entries (cid, name, schema_ref, data_urls) VALUES ('%s', "
                   "'n', 'r', x'90')",
                   cid);
    run(db, sql);
}

Test(index_sqlite, nothing_there_is_an_empty_index_and_stays_nothing)
{
    struct atd_index *index = open_index();
    char text[1024];

    cr_assert(atd_index_changed(index));
    expect(index, "");
    cr_assert_not(atd_index_changed(index));
    describe(text, sizeof(text));
    cr_assert_str_eq(text, "");
    atd_index_free(index);
}

Test(index_sqlite, reads_while_a_writer_is_open_and_after_it_left_without_a_trace)
{
    sqlite3 *db = open_writer();
    struct atd_index *index = open_index();
    char before[1024];
    char after[1024];

    run(db, tables);
    insert(db, "c1");
    run(db, "INSERT INTO labels (name, cid) VALUES ('l', 'c1'); INSERT INTO schemas (name, "
            "version, schema_json) VALUES ('S', '1.0.0', '{}'); UPDATE dataset_entries SET "
            "metadata = x''");
    describe(before, sizeof(before));
    expect(index, "entry:c1+m label:l schema:S ");
    describe(after, sizeof(after));
    cr_assert_str_eq(before, after);

    insert(db, "c2");
    cr_assert(atd_index_changed(index));
    expect(index, "entry:c1+m entry:c2 label:l schema:S ");

    /* An uncommitted change is not there, and the writer's lock stops nobody. */
    run(db, "BEGIN IMMEDIATE");
    insert(db, "c3");
    expect(index, "entry:c1+m entry:c2 label:l schema:S ");
    run(db, "ROLLBACK");

    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    describe(before, sizeof(before));
    cr_assert_null(strstr(before, "-wal"), "the last writer could clean up: %s", before);
    expect(index, "entry:c1+m entry:c2 label:l schema:S ");
    describe(after, sizeof(after));
    cr_assert_str_eq(before, after);
    atd_index_free(index);
}

Test(index_sqlite, change_is_noticed_and_quiet_is_quiet)
{
    sqlite3 *db = open_writer();
    struct atd_index *index = open_index();
    int64_t until_ms;

    run(db, tables);
    expect(index, "");
    /* "May have changed" while the last write is fresh; soon it must say no. */
    until_ms = atd_clock_monotonic_ms() + 5000;
    while (atd_index_changed(index)) {
        cr_assert(atd_clock_monotonic_ms() < until_ms);
        expect(index, "");
        (void)usleep(20000);
    }
    for (int i = 0; i < 20; i++) {
        char cid[16];
        struct seen seen;

        (void)snprintf(cid, sizeof(cid), "c%02d", i);
        insert(db, cid);
        cr_assert(atd_index_changed(index), "commit %d was missed", i);
        cr_assert_eq(load(index, &seen, NULL), 0);
        cr_assert_not_null(strstr(seen.text, cid));
    }
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    atd_index_free(index);
}

/* Copies index.db and its -wal as a crash leaves them: the -shm is gone. */
Test(index_sqlite, commits_left_in_a_wal_by_a_crash_are_seen_and_the_files_stay)
{
    sqlite3 *db = open_writer();
    struct atd_index *index;
    char command[512];
    char before[1024];
    char after[1024];

    run(db, tables);
    insert(db, "c1");
    (void)snprintf(command, sizeof(command), "mkdir %s/crash && cp %s %s-wal %s/crash/", dir, path,
                   path, dir);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    (void)snprintf(path, sizeof(path), "%s/crash/index.db", dir);
    index = open_index();
    describe(before, sizeof(before));
    cr_assert_not_null(strstr(before, "-wal"));
    expect(index, "entry:c1 ");
    describe(after, sizeof(after));
    cr_assert_str_eq(before, after);
    atd_index_free(index);
}

Test(index_sqlite, rows_of_wrong_types_are_reported_and_skipped)
{
    sqlite3 *db = open_writer();
    struct atd_index *index = open_index();

    run(db, tables);
    insert(db, "good");
    run(db, "INSERT INTO dataset_entries (cid, name, schema_ref, data_urls) VALUES ('text-urls', "
            "'n', 'r', '[]'), (x'62', 'n', 'r', x'90'), ('blob-name', x'6e', 'r', x'90'), "
            "('int-ref', 'n', CAST('r' AS BLOB), x'90')");
    run(db, "INSERT INTO dataset_entries (cid, name, schema_ref, data_urls, metadata) VALUES "
            "('text-metadata', 'n', 'r', x'90', '{}')");
    run(db, "INSERT INTO labels (name, cid, version) VALUES ('l', x'00', '')");
    expect(index, "entry:good entry:text-urls! entry:! entry:blob-name! entry:int-ref! "
                  "entry:text-metadata! label:l! ");
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    atd_index_free(index);
}

Test(index_sqlite, views_virtual_tables_and_missing_columns_are_refused)
{
    sqlite3 *db = open_writer();
    struct atd_index *index = open_index();

    run(db, "CREATE VIEW dataset_entries AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 "
            "FROM n) SELECT 'c' || i AS cid, 'n' AS name, 'r' AS schema_ref, x'90' AS data_urls, "
            "NULL AS metadata, NULL AS created_at FROM n");
    run(db, "CREATE TABLE labels (name TEXT)");
    expect(index, "table:dataset_entries! table:labels! ");
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    atd_index_free(index);
}

Test(index_sqlite, other_files_are_refused_with_a_sentence)
{
    struct atd_index *index = open_index();
    struct atd_error err = ATD_ERROR_INIT;
    struct seen seen;
    FILE *file = fopen(path, "w");

    for (int i = 0; i < 4096; i++)
        (void)fputc("not a database "[i % 15], file);
    (void)fclose(file);
    cr_assert_eq(load(index, &seen, &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "it is not an SQLite database"), "%s", err.text);
    cr_assert_not_null(strstr(err.text, path));
    atd_index_free(index);
}

Test(index_sqlite, awkward_file_names_are_quoted_in_the_uri)
{
    sqlite3 *db;
    struct atd_index *index;

    (void)snprintf(path, sizeof(path), "%s/a%%20b?mode=rw#c.db", dir);
    db = open_writer();
    run(db, tables);
    insert(db, "c1");
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
    index = open_index();
    expect(index, "entry:c1 ");
    atd_index_free(index);
}

/* Whether another process finds a lock on the main file. */
static bool is_locked(void)
{
    pid_t child = child_fork();
    int code;

    if (child == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(path, O_RDWR | O_CLOEXEC);

        _exit(fd < 0 || fcntl(fd, F_GETLK, &lock) != 0 ? 2 : lock.l_type != F_UNLCK);
    }
    code = child_join(child);
    cr_assert(code == 0 || code == 1, "%d", code);
    return code == 1;
}

/* A mount reads and writes the same database. Without its lock, another process that closes the
 * database takes itself for the last one and deletes the -wal: what is just being committed is
 * lost. */
Test(index_sqlite, a_load_takes_no_lock_from_a_writer_of_this_process)
{
    sqlite3 *db = open_writer();
    struct atd_index *index = NULL;
    struct seen seen = {0};

    run(db, tables);
    run(db, "INSERT INTO labels (name, cid) VALUES ('a', 'c')");
    cr_assert_eq(atd_index_sqlite_open(path, &index, NULL), 0);
    for (int i = 0; i < 3; i++) {
        run(db, "BEGIN IMMEDIATE; INSERT OR REPLACE INTO labels (name, cid) VALUES ('b', 'c')");
        cr_assert(is_locked());
        cr_assert_eq(load(index, &seen, NULL), 0);
        cr_assert(is_locked(), "load %d", i);
        run(db, "COMMIT");
    }
    cr_assert(is_locked());
    atd_index_free(index);
    cr_assert_eq(sqlite3_close(db), SQLITE_OK);
}
