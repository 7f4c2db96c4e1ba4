/*
 * What every index writer has to do, whatever it writes to: the two providers' tests run these
 * with a writer and a reader of the same, empty index.
 */
#ifndef ATD_TESTS_WRITER_SUITE_H
#define ATD_TESTS_WRITER_SUITE_H

#include <errno.h>
#include <unistd.h>

#include "atdata/arena.h"
#include "base/clock.h"
#include "index/writer.h"
#include "index_seen.h"

static struct seen suite_seen;

static inline struct atd_bytes blob(const char *text)
{
    return text ? atd_str_bytes(atd_str_from(text)) : (struct atd_bytes){NULL, 0};
}

static inline union atd_index_record entry(const char *cid, const char *name, const char *urls,
                                           const char *metadata)
{
    return (union atd_index_record){.entry = {.cid = atd_str_from(cid),
                                              .name = atd_str_from(name),
                                              .schema_ref = ATD_STR("ref"),
                                              .data_urls = blob(urls),
                                              .metadata = blob(metadata)}};
}

static inline union atd_index_record label(const char *name, const char *version, const char *cid,
                                           const char *description, const char *created_at)
{
    return (union atd_index_record){.label = {.name = atd_str_from(name),
                                              .version = atd_str_from(version),
                                              .cid = atd_str_from(cid),
                                              .description = atd_bytes_str(blob(description)),
                                              .created_at = atd_bytes_str(blob(created_at))}};
}

static inline union atd_index_record schema(const char *name, const char *version, const char *json)
{
    return (union atd_index_record){.schema = {.name = atd_str_from(name),
                                               .version = atd_str_from(version),
                                               .json = blob(json)}};
}

static inline enum atd_index_kind kind_of(enum atd_index_action action)
{
    switch (action) {
    case ATD_INDEX_PUT_LABEL:
    case ATD_INDEX_DELETE_LABEL:
        return ATD_INDEX_LABEL;
    case ATD_INDEX_PUT_SCHEMA:
    case ATD_INDEX_DELETE_SCHEMA:
        return ATD_INDEX_SCHEMA;
    default:
        return ATD_INDEX_ENTRY;
    }
}

static inline struct atd_index_operation operation(enum atd_index_action action,
                                                   enum atd_index_expect expect,
                                                   union atd_index_record before,
                                                   union atd_index_record after)
{
    return (struct atd_index_operation){action, kind_of(action), expect, before, after};
}

/* PUT of any of the three, whatever is there. */
static inline struct atd_index_operation put(enum atd_index_action action,
                                             union atd_index_record record)
{
    return operation(action, ATD_INDEX_ANY, record, record);
}

static inline void expect_done(struct atd_index_writer *writer,
                               const struct atd_index_operation *operations, size_t count)
{
    struct atd_error err = ATD_ERROR_INIT;
    size_t which = 77;

    cr_assert_eq(atd_index_commit(writer, operations, count, &which, &err), 0, "%s", err.text);
    cr_assert_eq(which, 77);
    cr_assert_eq(err.code, 0);
}

static inline void expect_error(struct atd_index_writer *writer,
                                const struct atd_index_operation *operations, size_t count,
                                int code, const char *says)
{
    struct atd_error err = ATD_ERROR_INIT;
    int rc = atd_index_commit(writer, operations, count, NULL, &err);

    cr_assert_eq(rc, -code, "%d: %s", rc, err.text);
    cr_assert_eq(err.code, code, "%s", err.text);
    cr_assert_not_null(strstr(err.text, says), "%s", err.text);
}

/* What the reader shows; the writer may just have been there. */
static inline const char *contents(struct atd_index *index)
{
    struct atd_error err = ATD_ERROR_INIT;
    int64_t until_ms = atd_clock_monotonic_ms() + 20000;
    int rc;

    while ((rc = see(index, &suite_seen, &err)) == -EAGAIN) {
        cr_assert_lt(atd_clock_monotonic_ms(), until_ms, "%s", err.text);
        (void)usleep(10000);
    }
    cr_assert_eq(rc, 0, "%s", err.text);
    return suite_seen.text;
}

static inline void expect_conflict(struct atd_index_writer *writer, struct atd_index *index,
                                   const struct atd_index_operation *operations, size_t count,
                                   size_t which)
{
    static char before[sizeof(suite_seen.text)];
    struct atd_error err = ATD_ERROR_INIT;
    size_t where = 77;
    int rc;

    (void)strcpy(before, contents(index));
    rc = atd_index_commit(writer, operations, count, &where, &err);
    cr_assert_eq(rc, -ESTALE, "%d: %s", rc, err.text);
    cr_assert_eq(where, which, "%zu", where);
    cr_assert_not_null(strstr(err.text, "not as expected"), "%s", err.text);
    cr_assert_str_eq(contents(index), before);
}

/* ------------------------------------------------------------------ the suite */

static inline void suite_every_action(struct atd_index_writer *writer, struct atd_index *index)
{
    const struct atd_index_operation first[] = {
        put(ATD_INDEX_PUT_SCHEMA, schema("S", "1.0.0", "{\"a\":1}")),
        put(ATD_INDEX_PUT_ENTRY, entry("c1", "n1", "urls", "meta")),
        put(ATD_INDEX_PUT_ENTRY, entry("c2", "n2", "u", NULL)),
        put(ATD_INDEX_PUT_LABEL, label("n1", "", "c1", NULL, NULL)),
        put(ATD_INDEX_PUT_LABEL, label("n1", "1.0.0", "c1", "words", NULL)),
    };
    struct atd_index_operation one;

    expect_done(writer, first, 5);
    cr_assert_not_null(strstr(contents(index), "entry:c1=n1,ref,4+m"));
    cr_assert_not_null(strstr(suite_seen.text, "entry:c2=n2,ref,1"));
    cr_assert_null(strstr(suite_seen.text, "entry:c2=n2,ref,1+m"));
    cr_assert_not_null(strstr(suite_seen.text, "label:n1@=c1"));
    cr_assert_not_null(strstr(suite_seen.text, "label:n1@1.0.0=c1,words"));
    cr_assert_not_null(strstr(suite_seen.text, "schema:S@1.0.0={\"a\":1}"));

    one = operation(ATD_INDEX_SET_ENTRY_NAME, ATD_INDEX_ANY, entry("c1", "", NULL, NULL),
                    entry("c1", "n1@superseded:c1", NULL, NULL));
    expect_done(writer, &one, 1);
    cr_assert_not_null(strstr(contents(index), "entry:c1=n1@superseded:c1,ref,4+m"));
    one = operation(ATD_INDEX_SET_ENTRY_METADATA, ATD_INDEX_ANY, entry("c2", "", NULL, NULL),
                    entry("c2", "", NULL, "m"));
    expect_done(writer, &one, 1);
    cr_assert_not_null(strstr(contents(index), "entry:c2=n2,ref,1+m"));
    /* None at all again, and a second change of the same record in the same commit. */
    expect_done(writer,
                (struct atd_index_operation[]){
                    operation(ATD_INDEX_SET_ENTRY_NAME, ATD_INDEX_ANY, entry("c2", "", NULL, NULL),
                              entry("c2", "n3", NULL, NULL)),
                    operation(ATD_INDEX_SET_ENTRY_METADATA, ATD_INDEX_ANY,
                              entry("c2", "", NULL, NULL), entry("c2", "", NULL, NULL))},
                2);
    cr_assert_not_null(strstr(contents(index), "entry:c2=n3,ref,1"));
    cr_assert_null(strstr(suite_seen.text, "entry:c2=n3,ref,1+m"));
    /* A whole record leaves nothing of the one before. */
    one = put(ATD_INDEX_PUT_ENTRY, entry("c1", "n1", "x", NULL));
    expect_done(writer, &one, 1);
    cr_assert_not_null(strstr(contents(index), "entry:c1=n1,ref,1"));
    cr_assert_null(strstr(suite_seen.text, "entry:c1=n1,ref,1+m"));
    /* A description stays when none is given, and goes over when one is. */
    one = put(ATD_INDEX_PUT_LABEL, label("n1", "1.0.0", "c2", NULL, NULL));
    expect_done(writer, &one, 1);
    cr_assert_not_null(strstr(contents(index), "label:n1@1.0.0=c2,words"));
    one = put(ATD_INDEX_PUT_LABEL, label("n1", "1.0.0", "c2", "", NULL));
    expect_done(writer, &one, 1);
    cr_assert_null(strstr(contents(index), "words"));
    one = put(ATD_INDEX_PUT_SCHEMA, schema("S", "1.0.0", "{}"));
    expect_done(writer, &one, 1);
    cr_assert_not_null(strstr(contents(index), "schema:S@1.0.0={}"));

    expect_done(writer,
                (struct atd_index_operation[]){
                    put(ATD_INDEX_DELETE_ENTRY, entry("c1", "", NULL, NULL)),
                    put(ATD_INDEX_DELETE_ENTRY, entry("c2", "", NULL, NULL)),
                    put(ATD_INDEX_DELETE_ENTRY, entry("never there", "", NULL, NULL)),
                    put(ATD_INDEX_DELETE_LABEL, label("n1", "", "", NULL, NULL)),
                    put(ATD_INDEX_DELETE_LABEL, label("n1", "1.0.0", "", NULL, NULL)),
                    put(ATD_INDEX_DELETE_SCHEMA, schema("S", "1.0.0", NULL))},
                6);
    cr_assert_str_eq(contents(index), "");
}

/* A change of label x that is fine by itself, behind a condition that is not. */
static inline void suite_refuses(struct atd_index_writer *writer, struct atd_index *index,
                                 enum atd_index_kind kind, enum atd_index_expect expect,
                                 union atd_index_record before)
{
    const struct atd_index_operation both[] = {
        put(ATD_INDEX_PUT_LABEL, label("x", "", "other", NULL, NULL)),
        {ATD_INDEX_CHECK, kind, expect, before, before},
    };

    expect_conflict(writer, index, both, 2, 1);
}

static inline void suite_holds(struct atd_index_writer *writer, enum atd_index_kind kind,
                               enum atd_index_expect expect, union atd_index_record before)
{
    const struct atd_index_operation one = {ATD_INDEX_CHECK, kind, expect, before, before};

    expect_done(writer, &one, 1);
}

static inline void suite_every_expectation(struct atd_index_writer *writer, struct atd_index *index)
{
    const union atd_index_record there = entry("c", "n", "urls", "meta");
    const union atd_index_record bare = entry("d", "n", "urls", NULL);
    union atd_index_record other = there;

    expect_done(writer,
                (struct atd_index_operation[]){
                    operation(ATD_INDEX_PUT_ENTRY, ATD_INDEX_ABSENT, there, there),
                    operation(ATD_INDEX_PUT_ENTRY, ATD_INDEX_ABSENT, bare, bare),
                    operation(ATD_INDEX_PUT_LABEL, ATD_INDEX_ABSENT,
                              label("l", "1", "c", "d", NULL), label("l", "1", "c", "d", NULL)),
                    operation(ATD_INDEX_PUT_SCHEMA, ATD_INDEX_ABSENT, schema("S", "1", "{}"),
                              schema("S", "1", "{}"))},
                4);
    suite_holds(writer, ATD_INDEX_ENTRY, ATD_INDEX_SAME, there);
    suite_holds(writer, ATD_INDEX_ENTRY, ATD_INDEX_SAME, bare);
    suite_holds(writer, ATD_INDEX_ENTRY, ATD_INDEX_ANY, entry("nowhere", "", NULL, NULL));
    suite_holds(writer, ATD_INDEX_ENTRY, ATD_INDEX_ABSENT, entry("nowhere", "", NULL, NULL));
    suite_holds(writer, ATD_INDEX_LABEL, ATD_INDEX_SAME, label("l", "1", "c", NULL, NULL));
    suite_holds(writer, ATD_INDEX_LABEL, ATD_INDEX_ABSENT, label("l", "", "", NULL, NULL));
    suite_holds(writer, ATD_INDEX_SCHEMA, ATD_INDEX_SAME, schema("S", "1", "{}"));
    suite_holds(writer, ATD_INDEX_SCHEMA, ATD_INDEX_ABSENT, schema("S", "2", NULL));

    suite_refuses(writer, index, ATD_INDEX_ENTRY, ATD_INDEX_ABSENT, there);
    suite_refuses(writer, index, ATD_INDEX_LABEL, ATD_INDEX_ABSENT,
                  label("l", "1", "", NULL, NULL));
    suite_refuses(writer, index, ATD_INDEX_SCHEMA, ATD_INDEX_ABSENT, schema("S", "1", NULL));
    suite_refuses(writer, index, ATD_INDEX_ENTRY, ATD_INDEX_SAME, entry("c", "m", "urls", "meta"));
    suite_refuses(writer, index, ATD_INDEX_ENTRY, ATD_INDEX_SAME, entry("c", "n", "urlx", "meta"));
    suite_refuses(writer, index, ATD_INDEX_ENTRY, ATD_INDEX_SAME, entry("c", "n", "urls", "metb"));
    suite_refuses(writer, index, ATD_INDEX_ENTRY, ATD_INDEX_SAME, entry("c", "n", "urls", NULL));
    suite_refuses(writer, index, ATD_INDEX_ENTRY, ATD_INDEX_SAME, entry("d", "n", "urls", "meta"));
    suite_refuses(writer, index, ATD_INDEX_ENTRY, ATD_INDEX_SAME, entry("e", "n", "urls", "meta"));
    other.entry.schema_ref = ATD_STR("other");
    suite_refuses(writer, index, ATD_INDEX_ENTRY, ATD_INDEX_SAME, other);
    suite_refuses(writer, index, ATD_INDEX_LABEL, ATD_INDEX_SAME, label("l", "1", "d", NULL, NULL));
    suite_refuses(writer, index, ATD_INDEX_LABEL, ATD_INDEX_SAME, label("l", "2", "c", NULL, NULL));
    suite_refuses(writer, index, ATD_INDEX_SCHEMA, ATD_INDEX_SAME, schema("S", "1", "{ }"));
    suite_refuses(writer, index, ATD_INDEX_SCHEMA, ATD_INDEX_SAME, schema("T", "1", "{}"));

    /* Half a record is never made. */
    for (int expect = ATD_INDEX_ANY; expect <= ATD_INDEX_SAME; expect++) {
        struct atd_index_operation set =
            operation(ATD_INDEX_SET_ENTRY_NAME, (enum atd_index_expect)expect,
                      entry("gone", "n", "urls", NULL), entry("gone", "m", NULL, NULL));

        expect_conflict(writer, index, &set, 1, 0);
        set.action = ATD_INDEX_SET_ENTRY_METADATA;
        set.after.entry.metadata = blob("m");
        expect_conflict(writer, index, &set, 1, 0);
    }
    /* Every condition is looked at first, against the state before. */
    expect_done(writer,
                (struct atd_index_operation[]){
                    operation(ATD_INDEX_SET_ENTRY_NAME, ATD_INDEX_SAME, there,
                              entry("c", "new", NULL, NULL)),
                    operation(ATD_INDEX_SET_ENTRY_METADATA, ATD_INDEX_SAME, there,
                              entry("c", "", NULL, "data")),
                    operation(ATD_INDEX_DELETE_ENTRY, ATD_INDEX_SAME, bare, bare)},
                3);
    suite_holds(writer, ATD_INDEX_ENTRY, ATD_INDEX_SAME, entry("c", "new", "urls", "data"));
    suite_holds(writer, ATD_INDEX_ENTRY, ATD_INDEX_ABSENT, bare);
}

static inline void suite_reads(struct atd_index_writer *writer)
{
    struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_index_entry found = {0};
    struct atd_index_label found_label = {0};
    struct atd_index_schema found_schema = {0};
    static const uint8_t binary[] = {0x91, 0xa3, 0, '\r', '\n'};
    union atd_index_record record = entry("c", "näme", "u", NULL);

    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, &err), -ENOENT, "%s",
                 err.text);
    cr_assert_eq(
        atd_index_read_label(writer, ATD_STR("c"), ATD_STR(""), &arena, &found_label, &err),
        -ENOENT);
    cr_assert_eq(
        atd_index_read_schema(writer, ATD_STR("c"), ATD_STR(""), &arena, &found_schema, &err),
        -ENOENT);
    record.entry.data_urls = (struct atd_bytes){binary, sizeof(binary)};
    record.entry.metadata = (struct atd_bytes){binary, 3};
    expect_done(writer,
                (struct atd_index_operation[]){
                    put(ATD_INDEX_PUT_ENTRY, record),
                    put(ATD_INDEX_PUT_LABEL, label("l", "", "c", "d", "2026-01-02T03:04:05+00:00")),
                    put(ATD_INDEX_PUT_SCHEMA, schema("mod.S", "1.0.0", "{}"))},
                3);
    err = (struct atd_error)ATD_ERROR_INIT;
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, &err), 0, "%s",
                 err.text);
    cr_assert(atd_str_equal(found.cid, ATD_STR("c")));
    cr_assert(atd_str_equal(found.name, ATD_STR("näme")));
    cr_assert(atd_str_equal(found.schema_ref, ATD_STR("ref")));
    cr_assert(found.data_urls.len == sizeof(binary) &&
              memcmp(found.data_urls.ptr, binary, sizeof(binary)) == 0);
    cr_assert(found.metadata.len == 3 && memcmp(found.metadata.ptr, binary, 3) == 0);
    cr_assert_eq(
        atd_index_read_label(writer, ATD_STR("l"), ATD_STR(""), &arena, &found_label, &err), 0,
        "%s", err.text);
    cr_assert(atd_str_equal(found_label.cid, ATD_STR("c")));
    cr_assert(atd_str_equal(found_label.description, ATD_STR("d")));
    cr_assert(atd_str_starts_with(found_label.created_at, ATD_STR("2026-01-02")));
    cr_assert_eq(atd_index_read_schema(writer, ATD_STR("mod.S"), ATD_STR("1.0.0"), &arena,
                                       &found_schema, &err),
                 0, "%s", err.text);
    cr_assert(atd_str_equal(atd_bytes_str(found_schema.json), ATD_STR("{}")));
    /* What was read is what a condition wants, and an arena that is full is no crash. */
    suite_holds(writer, ATD_INDEX_ENTRY, ATD_INDEX_SAME, (union atd_index_record){.entry = found});
    arena.max_bytes = arena.used_bytes;
    cr_assert_eq(atd_index_read_entry(writer, ATD_STR("c"), &arena, &found, &err), -ENOMEM);
    atd_arena_release(&arena);
}

static inline void suite_refuses_what_is_no_text(struct atd_index_writer *writer,
                                                 struct atd_index *index)
{
    static struct atd_index_operation many[ATD_INDEX_OPERATIONS_MAX + 1];
    static char long_name[70000];
    struct atd_index_operation one;

    one = put(ATD_INDEX_PUT_ENTRY, entry("c\xff", "n", "u", NULL));
    expect_error(writer, &one, 1, EINVAL, "not UTF-8");
    one = put(ATD_INDEX_PUT_ENTRY, entry("c", "\xc0\x80", "u", NULL));
    expect_error(writer, &one, 1, EINVAL, "not UTF-8");
    one = put(ATD_INDEX_PUT_ENTRY, entry("", "n", "u", NULL));
    expect_error(writer, &one, 1, EINVAL, "without a CID");
    one = put(ATD_INDEX_PUT_ENTRY, entry("c", "n", "", NULL));
    expect_error(writer, &one, 1, EINVAL, "no bytes");
    one = put(ATD_INDEX_PUT_ENTRY, entry("c", "n", "u", ""));
    expect_error(writer, &one, 1, EINVAL, "no bytes");
    one = operation(ATD_INDEX_SET_ENTRY_NAME, ATD_INDEX_ANY, entry("c", "", NULL, NULL),
                    entry("c", "\xed\xa0\x80", NULL, NULL));
    expect_error(writer, &one, 1, EINVAL, "not UTF-8");
    one = put(ATD_INDEX_PUT_LABEL, label("l", "", "c", "\xf5", NULL));
    expect_error(writer, &one, 1, EINVAL, "not UTF-8");
    one = put(ATD_INDEX_PUT_LABEL, label("l", "", "c", NULL, "\x80"));
    expect_error(writer, &one, 1, EINVAL, "not UTF-8");
    one = put(ATD_INDEX_PUT_SCHEMA, schema("S", "1", "{\"\xff\"}"));
    expect_error(writer, &one, 1, EINVAL, "not UTF-8");
    one = put(ATD_INDEX_PUT_SCHEMA, schema("S", "1@2", "{}"));
    expect_error(writer, &one, 1, EINVAL, "'@'");
    memset(long_name, 'n', sizeof(long_name) - 1);
    one = put(ATD_INDEX_PUT_ENTRY, entry("c", long_name, "u", NULL));
    expect_error(writer, &one, 1, EFBIG, "longer than");
    for (size_t i = 0; i <= ATD_INDEX_OPERATIONS_MAX; i++)
        many[i] = put(ATD_INDEX_PUT_LABEL, label("l", "", "c", NULL, NULL));
    expect_error(writer, many, ATD_INDEX_OPERATIONS_MAX + 1, EINVAL, "the most");
    cr_assert_str_eq(contents(index), "");
    expect_done(writer, many, ATD_INDEX_OPERATIONS_MAX);
    expect_done(writer, many, 0);
}

/* ------------------------------------------------------------------ several at once */

#define SUITE_PROCESSES 4

/* Adds one to a counter kept as a label's target, `commits` times; run in a process of its own. */
static inline int suite_count_up(struct atd_index_writer *writer, unsigned commits)
{
    int64_t until_ms = atd_clock_monotonic_ms() + 60000;

    while (commits > 0) {
        struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
        struct atd_index_label found = {0};
        union atd_index_record next = label("counter", "", "", NULL, NULL);
        struct atd_index_operation one;
        char number[24];
        int rc =
            atd_index_read_label(writer, ATD_STR("counter"), ATD_STR(""), &arena, &found, NULL);

        if (rc == 0 || rc == -ENOENT) {
            (void)snprintf(number, sizeof(number), "%d", rc ? 1 : atoi(found.cid.ptr) + 1);
            next.label.cid = atd_str_from(number);
            one =
                operation(ATD_INDEX_PUT_LABEL, rc ? ATD_INDEX_ABSENT : ATD_INDEX_SAME, next, next);
            if (rc == 0)
                one.before.label.cid = found.cid;
            rc = atd_index_commit(writer, &one, 1, NULL, NULL);
            if (rc == 0)
                commits--;
        }
        atd_arena_release(&arena);
        if ((rc && rc != -ESTALE && rc != -EBUSY) || atd_clock_monotonic_ms() > until_ms)
            return 1;
    }
    return 0;
}

#endif
