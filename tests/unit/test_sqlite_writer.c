#include <fcntl.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "support/child.h"
#include "writer_suite.h"

static char dir[64];
static char path[128];
static struct atd_index_writer *writer;
static struct atd_index *reader;

static void open_both(const char *where)
{
    cr_assert_eq(atd_index_sqlite_writer(where, &writer, NULL), 0);
    cr_assert_eq(atd_index_sqlite_open(where, &reader, NULL), 0);
}

static void close_both(void)
{
    atd_index_writer_free(writer);
    atd_index_free(reader);
}

static void setup(void)
{
    (void)umask(022);
    (void)strcpy(dir, "/tmp/atd-writer-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(chmod(dir, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/sub/dir/index.db", dir);
    open_both(path);
}

static void teardown(void)
{
    char command[128];

    close_both();
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(sqlite_writer, .init = setup, .fini = teardown, .timeout = 120);

static sqlite3 *open_db(void)
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

/* The first column of all rows. */
static const char *ask(const char *sql)
{
    static char text[8192];
    sqlite3 *db = open_db();
    sqlite3_stmt *row = NULL;
    size_t len = 0;

    text[0] = '\0';
    cr_assert_eq(sqlite3_prepare_v2(db, sql, -1, &row, NULL), SQLITE_OK, "%s", sqlite3_errmsg(db));
    while (sqlite3_step(row) == SQLITE_ROW)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s\n",
                                (const char *)sqlite3_column_text(row, 0));
    (void)sqlite3_finalize(row);
    (void)sqlite3_close(db);
    return text;
}

static struct atd_index_operation an_entry(void)
{
    return put(ATD_INDEX_PUT_ENTRY, entry("c", "n", "u", NULL));
}

static bool exists(const char *suffix)
{
    char name[256];

    (void)snprintf(name, sizeof(name), "%s%s", path, suffix);
    return access(name, F_OK) == 0;
}

Test(sqlite_writer, every_action)
{
    suite_every_action(writer, reader);
}

Test(sqlite_writer, every_expectation)
{
    suite_every_expectation(writer, reader);
}

Test(sqlite_writer, reads_single_records)
{
    suite_reads(writer);
}

Test(sqlite_writer, refuses_what_is_no_text)
{
    struct atd_index_operation one = an_entry();

    suite_refuses_what_is_no_text(writer, reader);
    one.after.entry.name = ATD_STR("a\0b");
    expect_error(writer, &one, 1, EINVAL, "NUL");
    one = put(ATD_INDEX_PUT_SCHEMA, schema("S", "1", "{}"));
    one.after.schema.json = atd_str_bytes(ATD_STR("{\0}"));
    expect_error(writer, &one, 1, EINVAL, "NUL");
}

Test(sqlite_writer, the_file_is_made_by_the_first_change_and_as_the_library_makes_it)
{
    struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    const struct atd_index_operation one = an_entry();
    struct atd_index_operation stale = an_entry();
    struct atd_index_entry found;
    struct stat st;
    char sub[96];

    (void)snprintf(sub, sizeof(sub), "%s/sub", dir);
    cr_assert_eq(atd_index_writer_check(writer, NULL), 0);
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, NULL), -ENOENT);
    stale.expect = ATD_INDEX_SAME;
    expect_conflict(writer, reader, &stale, 1, 0);
    suite_holds(writer, ATD_INDEX_ENTRY, ATD_INDEX_ABSENT, one.before);
    cr_assert_neq(access(sub, F_OK), 0);

    expect_done(writer, &one, 1);
    cr_assert_eq(stat(sub, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0755);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0644);
    cr_assert_not(exists("-wal") || exists("-shm") || exists("-journal"));
    cr_assert_str_eq(ask("PRAGMA journal_mode"), "wal\n");
    cr_assert_str_eq(ask("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY "
                         "rowid"),
                     "dataset_entries\nidx_entries_name\nschemas\nlenses\nlabels\n"
                     "idx_labels_cid\n");
    cr_assert_str_eq(ask("SELECT sql FROM sqlite_schema WHERE name = 'labels'"),
                     "CREATE TABLE labels (\n    name        TEXT NOT NULL,\n"
                     "    cid         TEXT NOT NULL,\n    version     TEXT NOT NULL DEFAULT '',\n"
                     "    description TEXT,\n    created_at  TEXT DEFAULT (datetime('now')),\n"
                     "    PRIMARY KEY (name, version)\n)\n");
    cr_assert_str_eq(ask("SELECT typeof(cid) || typeof(name) || typeof(schema_ref) || "
                         "typeof(data_urls) || typeof(metadata) || typeof(legacy_uuid) || "
                         "(abs(julianday('now') - julianday(created_at)) < 0.01) FROM "
                         "dataset_entries"),
                     "texttexttextblobnullnull1\n");
    atd_arena_release(&arena);
}

/* The library's lookups go by rowid and by the text of created_at. */
Test(sqlite_writer, a_put_is_a_new_row_and_a_set_is_not)
{
    struct atd_index_operation one = an_entry();
    sqlite3 *db;

    expect_done(writer, &one, 1);
    db = open_db();
    run(db, "INSERT INTO dataset_entries (cid, name, schema_ref, data_urls, legacy_uuid) VALUES "
            "('d', 'n', 'r', x'90', 'uuid'); UPDATE dataset_entries SET created_at = 'then';"
            "INSERT INTO labels (name, cid, description) VALUES ('l', 'c', 'words')");
    (void)sqlite3_close(db);
    one = operation(ATD_INDEX_SET_ENTRY_NAME, ATD_INDEX_ANY, entry("d", "", NULL, NULL),
                    entry("d", "m", NULL, NULL));
    expect_done(writer, &one, 1);
    one.action = ATD_INDEX_SET_ENTRY_METADATA;
    one.after.entry.metadata = blob("m");
    expect_done(writer, &one, 1);
    cr_assert_str_eq(ask("SELECT rowid || name || created_at || legacy_uuid || metadata FROM "
                         "dataset_entries WHERE cid = 'd'"),
                     "2mthenuuidm\n");
    one = an_entry();
    expect_done(writer, &one, 1);
    cr_assert_str_eq(ask("SELECT rowid || (created_at = 'then') FROM dataset_entries WHERE cid = "
                         "'c'"),
                     "30\n");
    one = put(ATD_INDEX_PUT_LABEL, label("l", "", "d", NULL, "2026-11-24T13:14:15.5+01:00"));
    expect_done(writer, &one, 1);
    cr_assert_str_eq(ask("SELECT cid || description || created_at FROM labels"),
                     "dwords2026-11-24 12:14:15\n");
    one = put(ATD_INDEX_PUT_LABEL, label("l", "", "d", NULL, ""));
    expect_done(writer, &one, 1);
    cr_assert_str_eq(ask("SELECT abs(julianday('now') - julianday(created_at)) < 0.01 FROM labels"),
                     "1\n");
}

Test(sqlite_writer, a_row_of_other_types_is_not_as_expected)
{
    struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_index_operation one = an_entry();
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_index_entry found;
    sqlite3 *db;

    expect_done(writer, &one, 1);
    db = open_db();
    run(db, "UPDATE dataset_entries SET data_urls = 'u'");
    (void)sqlite3_close(db);
    one.expect = ATD_INDEX_SAME;
    expect_conflict(writer, reader, &one, 1, 0);
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "data_urls is TEXT"), "%s", err.text);
    atd_arena_release(&arena);
}

static void expect_refused(const char *sql)
{
    const struct atd_index_operation one = an_entry();
    sqlite3 *db;
    char command[256];

    (void)snprintf(command, sizeof(command), "rm -f %s*; mkdir -p %s/sub/dir", path, dir);
    cr_assert_eq(system(command), 0);
    db = open_db();
    run(db, sql);
    (void)sqlite3_close(db);
    expect_error(writer, &one, 1, EINVAL, "its table");
    cr_assert_str_eq(ask("SELECT count(*) FROM sqlite_schema WHERE name = 'lenses'"), "0\n");
}

Test(sqlite_writer, a_file_that_runs_code_of_its_own_is_not_written)
{
#define ENTRIES                                                                        \
    "CREATE TABLE dataset_entries (cid TEXT PRIMARY KEY, name TEXT, schema_ref TEXT, " \
    "data_urls BLOB, metadata BLOB, legacy_uuid TEXT, created_at TEXT"
    expect_refused("CREATE VIEW dataset_entries AS SELECT 1 AS cid");
    expect_refused("CREATE VIEW Labels AS SELECT 1 AS cid");
    expect_refused("CREATE VIRTUAL TABLE schemas USING fts5(name, version, schema_json)");
    expect_refused(ENTRIES ", more TEXT AS (name || 'x'))");
    expect_refused(ENTRIES "); CREATE TABLE t (x); CREATE TRIGGER tr AFTER INSERT ON "
                           "Dataset_Entries BEGIN INSERT INTO t VALUES (new.cid); END");
    expect_refused("CREATE TABLE dataset_entries (cid TEXT, name TEXT)");
}

Test(sqlite_writer, an_older_files_missing_tables_are_made)
{
    const struct atd_index_operation one =
        put(ATD_INDEX_PUT_LABEL, label("l", "", "c", NULL, NULL));
    struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_index_label found;
    char command[256];
    sqlite3 *db;

    (void)snprintf(command, sizeof(command), "mkdir -p %s/sub/dir", dir);
    cr_assert_eq(system(command), 0);
    db = open_db();
    run(db,
        ENTRIES "); INSERT INTO dataset_entries VALUES ('a', 'b', 'c', x'90', NULL, NULL, 'd')");
    (void)sqlite3_close(db);
    cr_assert_eq(atd_index_read_label(writer, ATD_STR("l"), ATD_STR(""), &arena, &found, NULL),
                 -ENOENT);
    expect_done(writer, &one, 1);
    cr_assert_not_null(strstr(contents(reader), "entry:a=b"));
    cr_assert_not_null(strstr(suite_seen.text, "label:l@=c"));
    atd_arena_release(&arena);
}

Test(sqlite_writer, a_link_leads_to_the_real_file)
{
    const struct atd_index_operation one = an_entry();
    char name[128];

    expect_done(writer, &one, 1);
    close_both();
    (void)snprintf(name, sizeof(name), "%s/link.db", dir);
    cr_assert_eq(symlink(path, name), 0);
    open_both(name);
    cr_assert_eq(atd_index_writer_check(writer, NULL), 0);
    expect_done(
        writer,
        (struct atd_index_operation[]){put(ATD_INDEX_PUT_ENTRY, entry("by-link", "n", "u", NULL))},
        1);
    cr_assert_not_null(strstr(contents(reader), "entry:by-link"));
    cr_assert_str_eq(ask("SELECT count(*) FROM dataset_entries"), "2\n");
    /* No file: it could hang who opens it. */
    cr_assert_eq(unlink(name), 0);
    cr_assert_eq(mkfifo(name, 0600), 0);
    expect_error(writer, &one, 1, EINVAL, "not a regular file");
    cr_assert_eq(atd_index_writer_check(writer, NULL), -EINVAL);
}

/* Another program that has begun so, and commits after 300 ms; when this returns it has begun. */
static pid_t hold_for_a_while(const char *sql)
{
    int ready[2];
    pid_t child;
    char byte;

    cr_assert_eq(pipe(ready), 0);
    child = child_fork();
    if (child == 0) {
        sqlite3 *db = open_db();

        run(db, sql);
        (void)!write(ready[1], "", 1);
        (void)usleep(300000);
        run(db, "COMMIT");
        (void)sqlite3_close(db);
        _exit(0);
    }
    (void)close(ready[1]);
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    return child;
}

Test(sqlite_writer, waits_for_another_programs_lock_but_not_for_ever)
{
    const struct atd_index_operation one = an_entry();
    struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_index_entry found;
    int64_t start_ms;
    sqlite3 *db;
    pid_t child;

    expect_done(writer, &one, 1);
    child = hold_for_a_while("BEGIN IMMEDIATE; DELETE FROM dataset_entries");
    expect_done(writer, &one, 1);
    cr_assert_eq(child_join(child), 0);
    db = open_db();
    run(db, "BEGIN IMMEDIATE");
    start_ms = atd_clock_monotonic_ms();
    cr_assert_eq(atd_index_commit(writer, &one, 1, NULL, &err), -EBUSY);
    cr_assert(err.retryable);
    cr_assert_not_null(strstr(err.text, "another program"), "%s", err.text);
    cr_assert_lt(atd_clock_monotonic_ms() - start_ms, ATD_INDEX_WRITE_MS + 2000);
    /* Reading goes on. */
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, &err), 0);
    atd_arena_release(&arena);
    (void)sqlite3_close(db);
}

/* SQLite itself waits for no lock when the mode of a file is changed. */
Test(sqlite_writer, a_file_in_another_mode_that_is_locked_is_waited_for)
{
    const struct atd_index_operation one = an_entry();
    char command[256];
    pid_t child;

    (void)snprintf(command, sizeof(command), "mkdir -p %s/sub/dir", dir);
    cr_assert_eq(system(command), 0);
    child = hold_for_a_while("CREATE TABLE t (x); BEGIN EXCLUSIVE; INSERT INTO t VALUES (1)");
    expect_done(writer, &one, 1);
    cr_assert_eq(child_join(child), 0);
    cr_assert_str_eq(ask("PRAGMA journal_mode"), "wal\n");
}

/* What a crash left is played back; a file that it names would be deleted. */
Test(sqlite_writer, a_journal_that_names_a_file_is_not_played_back)
{
    const struct atd_index_operation one = an_entry();
    char command[512];
    pid_t child;

    (void)snprintf(command, sizeof(command), "mkdir -p %s/sub/dir", dir);
    cr_assert_eq(system(command), 0);
    child = child_fork();
    if (child == 0) {
        sqlite3 *db = open_db();

        run(db, "CREATE TABLE t (x); INSERT INTO t VALUES (1); PRAGMA cache_size = 1; BEGIN; "
                "UPDATE t SET x = 2; INSERT INTO t SELECT randomblob(10000) FROM "
                "pragma_function_list");
        _exit(0); /* a hot journal stays */
    }
    cr_assert_eq(child_join(child), 0);
    cr_assert(exists("-journal"));
    (void)snprintf(command, sizeof(command),
                   "cp %s-journal %s/saved && printf "
                   "'\\331\\325\\005\\371\\040\\241\\143\\327' >> %s-journal",
                   path, dir, path);
    cr_assert_eq(system(command), 0);
    expect_error(writer, &one, 1, EBUSY, "several databases");
    (void)snprintf(command, sizeof(command), "cp %s/saved %s-journal", dir, path);
    cr_assert_eq(system(command), 0);
    expect_done(writer, &one, 1);
    cr_assert_str_eq(ask("SELECT x FROM t"), "1\n");
    cr_assert_not(exists("-journal"));
}

Test(sqlite_writer, broken_files_are_told_apart)
{
    const struct atd_index_operation one = an_entry();
    char command[512];
    int fd;

    (void)snprintf(command, sizeof(command),
                   "mkdir -p %s/sub/dir && yes 'this is no database' | head -c 8192 > %s", dir,
                   path);
    cr_assert_eq(system(command), 0);
    expect_error(writer, &one, 1, EINVAL, "not an SQLite database");
    cr_assert_eq(unlink(path), 0);
    expect_done(writer, &one, 1);
    fd = open(path, O_WRONLY);
    for (int page = 1; page < 9; page++)
        cr_assert_eq(pwrite(fd, "garbage garbage garbage garbage", 31, page * 4096), 31);
    (void)close(fd);
    expect_error(writer, &one, 1, EIO, "damaged");
}

/* In a child, so that the test itself keeps its rights. */
static void as_nobody(const char *says, int code)
{
    pid_t child = child_fork();

    if (child == 0) {
        const struct atd_index_operation one = an_entry();
        struct atd_error err = ATD_ERROR_INIT;
        int rc;

        if (seteuid(65534) != 0)
            _exit(0); /* not root: nobody already */
        rc = atd_index_writer_check(writer, &err);
        if (rc != -code || !strstr(err.text, says))
            _exit(1);
        rc = atd_index_commit(writer, &one, 1, NULL, &err);
        _exit(rc == -code && strstr(err.text, says) ? 0 : 2);
    }
    cr_assert_eq(child_join(child), 0);
}

Test(sqlite_writer, whose_rights_are_missing_is_told)
{
    const struct atd_index_operation one = an_entry();

    as_nobody("cannot", EACCES);
    expect_done(writer, &one, 1);
    as_nobody("cannot be written", EACCES);
    cr_assert_eq(chmod(path, 0666), 0);
    as_nobody("beside the index", EACCES);
}

Test(sqlite_writer, a_full_disk_is_told_and_changes_nothing)
{
    const struct atd_index_operation small = an_entry();
    struct atd_index_operation large = an_entry();
    static char urls[4 << 20];
    char where[96];

    (void)snprintf(where, sizeof(where), "%s/sub", dir);
    cr_assert_eq(mkdir(where, 0755), 0);
    /* A mount namespace of its own: nothing is left over, whatever becomes of the test. */
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", where, "tmpfs", 0, "size=1m") != 0)
        cr_skip_test("mounting takes root");
    expect_done(writer, &small, 1);
    memset(urls, 'u', sizeof(urls) - 1);
    large.before.entry.cid = large.after.entry.cid = ATD_STR("large");
    large.after.entry.data_urls = blob(urls);
    expect_error(writer, &large, 1, ENOSPC, "make room");
    cr_assert_not_null(strstr(contents(reader), "entry:c=n"));
    cr_assert_null(strstr(suite_seen.text, "large"));
    expect_done(writer, &small, 1);
    cr_assert_eq(mount(NULL, where, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    expect_error(writer, &small, 1, EROFS, "cannot be written");
    cr_assert_eq(atd_index_writer_check(writer, NULL), -EROFS);
    cr_assert_eq(umount(where), 0);
}

Test(sqlite_writer, large_entries_come_back_whole)
{
    struct atd_index_operation one = an_entry();
    struct atd_arena arena = ATD_ARENA_INIT(64u << 20);
    struct atd_index_entry found;
    size_t len = 9u << 20;
    char *urls = malloc(len);

    for (size_t i = 0; i < len; i++)
        urls[i] = (char)(i * 2654435761u >> 13);
    one.after.entry.data_urls = (struct atd_bytes){(const uint8_t *)urls, len};
    expect_done(writer, &one, 1);
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, NULL), 0);
    cr_assert(found.data_urls.len == len && memcmp(found.data_urls.ptr, urls, len) == 0);
    atd_arena_release(&arena);
    free(urls);
}

Test(sqlite_writer, many_make_the_file_at_once)
{
    for (int round = 0; round < 12; round++) {
        pid_t children[6];
        char command[256];
        int go[2];
        char byte;

        (void)snprintf(command, sizeof(command), "rm -rf %s/sub", dir);
        cr_assert_eq(system(command), 0);
        cr_assert_eq(pipe(go), 0);
        for (size_t i = 0; i < 6; i++) {
            children[i] = child_fork();
            if (children[i] == 0) {
                const struct atd_index_operation one = an_entry();

                (void)close(go[1]);
                (void)!read(go[0], &byte, 1);
                _exit(-atd_index_commit(writer, &one, 1, NULL, NULL));
            }
        }
        (void)close(go[0]);
        (void)close(go[1]);
        for (size_t i = 0; i < 6; i++)
            cr_assert_eq(child_join(children[i]), 0);
    }
}

Test(sqlite_writer, nobodys_work_is_lost_when_many_write)
{
    const unsigned commits = 15;
    pid_t children[SUITE_PROCESSES];
    char wanted[64];

    /* All of them make the file. */
    for (size_t i = 0; i < SUITE_PROCESSES; i++) {
        children[i] = child_fork();
        if (children[i] == 0)
            _exit(suite_count_up(writer, commits));
    }
    for (size_t i = 0; i < SUITE_PROCESSES; i++)
        cr_assert_eq(child_join(children[i]), 0);
    (void)snprintf(wanted, sizeof(wanted), "label:counter@=%u,", SUITE_PROCESSES * commits);
    cr_assert_not_null(strstr(contents(reader), wanted), "%s", suite_seen.text);
}
