#include "publish_rig.h"

#define URL PREFIX "/d/x.tar"
#define SMALL 4096
#define LARGE (40 * MIB)

/* ------------------------------------------------------------------ the store fails */

struct store_case {
    size_t size;
    struct rule rules[3];
    int code; /* of the publish; 0: it worked all the same */
};

#define FAULT(name, value)            \
    {                                 \
        ATD_WRITE_FAULT_##name, value \
    }

static const struct store_case store_cases[] = {
    /* Once: a stream is sent again, another key is found. */
    {LARGE, {{ATD_WRITE_GUARDS, 1, FAULT(UNAVAILABLE, 0)}}, 0},
    {LARGE, {{ATD_WRITE_BEGIN, 1, FAULT(FORBIDDEN, 0)}}, 0},
    {LARGE, {{ATD_WRITE_BEGIN, 1, FAULT(UNAVAILABLE, 0)}}, 0},
    {LARGE, {{ATD_WRITE_BEGIN, 1, FAULT(UNKNOWN, 0)}}, 0},
    {LARGE, {{ATD_WRITE_BEGIN, 1, FAULT(UNKNOWN, 1)}}, 0},
    {LARGE,
     {{ATD_WRITE_BEGIN, 1, FAULT(UNKNOWN, 1)}, {ATD_WRITE_DISCARD, 1, FAULT(UNAVAILABLE, 0)}},
     0},
    {LARGE, {{ATD_WRITE_PART, 1, FAULT(UNAVAILABLE, 0)}}, 0},
    {LARGE, {{ATD_WRITE_PART, 2, FAULT(UNAVAILABLE, 0)}}, 0},
    {LARGE, {{ATD_WRITE_PART, 3, FAULT(UNAVAILABLE, 0)}}, 0},
    {LARGE, {{ATD_WRITE_PART, 1, FAULT(STALL, 0)}}, 0},
    {LARGE, {{ATD_WRITE_PART, 1, FAULT(DELAY, 100)}}, 0},
    {LARGE, {{ATD_WRITE_FINISH, 1, FAULT(EXISTS, 0)}}, 0},
    {LARGE, {{ATD_WRITE_FINISH, 1, FAULT(DROPPED, 0)}}, 0},
    {LARGE, {{ATD_WRITE_FINISH, 1, FAULT(DAMAGED, 0)}}, 0},
    {LARGE, {{ATD_WRITE_FINISH, 1, FAULT(UNKNOWN, 0)}}, 0},
    {LARGE, {{ATD_WRITE_FINISH, 1, FAULT(UNKNOWN, 1)}}, 0},
    {SMALL, {{ATD_WRITE_PUT, 1, FAULT(EXISTS, 0)}}, 0},
    {SMALL, {{ATD_WRITE_PUT, 1, FAULT(UNKNOWN, 0)}}, 0},
    {SMALL, {{ATD_WRITE_PUT, 1, FAULT(UNKNOWN, 1)}}, 0},
    {LARGE,
     {{ATD_WRITE_PART, 2, FAULT(UNAVAILABLE, 0)}, {ATD_WRITE_ABORT, 1, FAULT(UNAVAILABLE, 0)}},
     0},
    {LARGE,
     {{ATD_WRITE_PART, 2, FAULT(UNAVAILABLE, 0)},
      {ATD_WRITE_ABORT, 1, FAULT(UNAVAILABLE, 0)},
      {ATD_WRITE_DISCARD, 1, FAULT(UNAVAILABLE, 0)}},
     0},
    /* Always. */
    {SMALL, {{ATD_WRITE_GUARDS, 0, FAULT(UNAVAILABLE, 0)}}, EIO},
    {LARGE, {{ATD_WRITE_GUARDS, 0, FAULT(UNAVAILABLE, 0)}}, EIO},
    {LARGE, {{ATD_WRITE_BEGIN, 0, FAULT(FORBIDDEN, 0)}}, EACCES},
    {LARGE, {{ATD_WRITE_PART, 0, FAULT(UNAVAILABLE, 0)}}, EIO},
    {LARGE, {{ATD_WRITE_FINISH, 0, FAULT(DAMAGED, 0)}}, EIO},
    {LARGE, {{ATD_WRITE_FINISH, 0, FAULT(EXISTS, 0)}}, EEXIST},
    {LARGE, {{ATD_WRITE_FINISH, 0, FAULT(DROPPED, 0)}}, EAGAIN},
    {LARGE, {{ATD_WRITE_FINISH, 0, FAULT(UNKNOWN, 0)}}, EREMOTEIO},
    {LARGE, {{ATD_WRITE_FINISH, 0, FAULT(UNKNOWN, 1)}}, EREMOTEIO},
    {SMALL, {{ATD_WRITE_PUT, 0, FAULT(FORBIDDEN, 0)}}, EACCES},
    {SMALL, {{ATD_WRITE_PUT, 0, FAULT(EXISTS, 0)}}, EEXIST},
    {SMALL, {{ATD_WRITE_PUT, 0, FAULT(UNKNOWN, 1)}}, EREMOTEIO},
};

Test(publication_faults, of_the_store, .timeout = 240)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(store_cases); i++) {
        const struct store_case *one = &store_cases[i];
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(one->size, i);
        struct atd_publication *publication;

        memcpy(rig.rules, one->rules, sizeof(one->rules));
        rig_open(&rig);
        publication = begin(&rig, "d", "x.tar");
        put_bytes(publication, 0, tar);
        cr_assert_eq(ask_publish(publication, "d", "x.tar"), one->code, "case %zu", i);
        if (one->code == 0)
            check_object(&rig, status_of(publication).url, tar);
        else
            LISTS(&rig, "d", "");
        finish(&rig, publication);
        check_tidy(&rig, one->code == 0);
        rig_close(&rig);
        drop_tar(tar);
    }
}

/* ------------------------------------------------------------------ the journal fails */

static struct atd_publication *jammed; /* whose job cannot be written from some moment on */

/* A directory has the name of what is written first: as good as a full disk. */
static void jam(struct atd_publication *publication, char path[256])
{
    const char *spool = atd_spool_path(publication->spool);

    (void)snprintf(path, 256, "%.*s/job-%llu.new", (int)(strrchr(spool, '/') - spool), spool,
                   (unsigned long long)publication->sending.job.number);
    /* Another thread may be writing it just now. */
    while (mkdir(path, 0700) != 0) {
        cr_assert_eq(errno, EEXIST, "%s: %s", path, strerror(errno));
        (void)usleep(100);
    }
}

static char jam_path[256];
static enum atd_write_step jam_step;

static struct atd_write_fault_rule jam_at(void *ctx, const struct atd_write_event *event)
{
    if (jammed && event->step == jam_step) {
        jam(jammed, jam_path);
        jammed = NULL;
    }
    return rig_decide(ctx, event);
}

/* At each of its writes: the publish fails, and in the end nothing is left. */
Test(publication_faults, of_the_journal, .timeout = 60)
{
    static const struct {
        size_t size;
        enum atd_write_step step; /* in which it is jammed; ABORT: once it was sent */
    } cases[] = {{SMALL, ATD_WRITE_GUARDS}, {SMALL, ATD_WRITE_PUT},   {SMALL, ATD_WRITE_ABORT},
                 {LARGE, ATD_WRITE_GUARDS}, {LARGE, ATD_WRITE_BEGIN}, {LARGE, ATD_WRITE_PART},
                 {LARGE, ATD_WRITE_FINISH}, {LARGE, ATD_WRITE_ABORT}};

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(cases[i].size, i);
        struct atd_publication *publication;

        rig_open(&rig);
        atd_store_fault_writes(rig.store, jam_at, &rig);
        jam_step = cases[i].step;
        publication = begin(&rig, "d", "x.tar");
        jammed = jam_step == ATD_WRITE_ABORT ? NULL : publication;
        put_bytes(publication, 0, tar);
        if (jam_step == ATD_WRITE_ABORT) {
            cr_assert_eq(ask_check(publication, false), 0);
            jam(publication, jam_path);
        }
        cr_assert_neq(ask_publish(publication, "d", "x.tar"), 0, "case %zu", i);
        LISTS(&rig, "d", "");
        finish(&rig, publication);
        cr_assert_eq(rmdir(jam_path), 0, "case %zu", i);
        check_tidy(&rig, 0);
        cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
        check_tidy(&rig, 1);
        rig_close(&rig);
        drop_tar(tar);
    }
}

/* ------------------------------------------------------------------ the index fails */

Test(publication_faults, of_the_index)
{
    static const struct {
        enum index_fault fault;
        int code;
    } cases[] = {{INDEX_REFUSES, EROFS}, {INDEX_LOST, EREMOTEIO}};

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        for (int large = 0; large < 2; large++) {
            struct rig rig = {0};
            struct atd_bytes tar = make_tar(large ? LARGE : SMALL, i);
            struct atd_publication *publication;

            rig_open(&rig);
            WORKS(atd_publisher_ready(rig.publisher, err));
            atomic_store(&rig.hook.fault, cases[i].fault);
            publication = begin(&rig, "d", "x.tar");
            put_bytes(publication, 0, tar);
            cr_assert_eq(ask_publish(publication, "d", "x.tar"), cases[i].code);
            cr_assert_eq(status_of(publication).state, ATD_PUBLICATION_REFUSED);
            cr_assert_eq(atd_publisher_ready(rig.publisher, NULL), -EROFS);
            LISTS(&rig, "d", "");
            finish(&rig, publication);
            check_tidy(&rig, 0);
            atomic_store(&rig.hook.fault, INDEX_NONE);
            cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
            WORKS(atd_publisher_ready(rig.publisher, err));
            check_tidy(&rig, 1);
            rig_close(&rig);
            drop_tar(tar);
        }
    }
}

static void lose_first(void *ctx, bool after)
{
    struct rig *rig = ctx;

    if (after)
        atomic_store(&rig->hook.fault, INDEX_NONE);
}

Test(publication_faults, a_lost_answer_is_found_out)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(SMALL, 1);

    rig_open(&rig);
    rig.hook.at_commit = lose_first;
    rig.hook.at_commit_ctx = &rig;
    atomic_store(&rig.hook.fault, INDEX_LOST_DONE);
    cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
    LISTS(&rig, "d", URL "\n");
    check_object(&rig, URL, tar);
    check_tidy(&rig, 1);
    rig_close(&rig);
    drop_tar(tar);
}

static void go_deaf(void *ctx, bool after)
{
    struct rig *rig = ctx;

    if (after)
        atomic_store(&rig->hook.is_deaf, true);
}

/* Done or not, and nobody heard of it, nor can it be found out for long. */
Test(publication_faults, what_may_be_named_is_not_deleted)
{
    static const enum index_fault faults[] = {INDEX_LOST_DONE, INDEX_LOST};

    for (size_t i = 0; i < ATD_ARRAY_LEN(faults); i++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(SMALL, 1);
        struct atd_publisher_stats stats;

        rig_open(&rig);
        rig.hook.at_commit = go_deaf;
        rig.hook.at_commit_ctx = &rig;
        atomic_store(&rig.hook.fault, faults[i]);
        cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), EREMOTEIO);
        cr_assert_eq(objects(&rig), 1);
        if (faults[i] == INDEX_LOST)
            cr_assert_eq(rig_leftovers(&rig), 1); /* the job */
        if (i == 1) {
            /* The same key is not used meanwhile. */
            rig.hook.at_commit = NULL;
            atomic_store(&rig.hook.fault, INDEX_NONE);
            atomic_store(&rig.hook.is_deaf, false);
            cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
            check_tidy(&rig, 1);
        } else {
            atomic_store(&rig.hook.fault, INDEX_NONE);
            rig.hook.at_commit = NULL;
            atomic_store(&rig.hook.is_deaf, false);
            COMES(rig_leftovers(&rig) == 0);
            check_object(&rig, URL, tar);
            cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
            LISTS(&rig, "d", URL "\n");
            check_tidy(&rig, 1);
        }
        atd_publisher_stats(rig.publisher, &stats);
        cr_assert_eq(stats.recovered, 1);
        rig_close(&rig);
        drop_tar(tar);
    }
}

/*
 * On a disk the spool file itself becomes the shard. When the index may name it by now, who begins
 * again with the same handle must not write into it.
 */
Test(publication_faults, a_shard_that_may_be_named_is_not_written_again)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(SMALL, 1);
    struct atd_publication *publication;
    struct atd_file_store *files;
    struct atd_store *store;
    char root[] = "/tmp/atd-publish-disk-XXXXXX";
    const char *roots[] = {root};
    char url[128];
    struct waiter waiter;

    cr_assert_not_null(mkdtemp(root));
    WORKS(atd_file_store_new(roots, 1, &files, err));
    WORKS(atd_store_file_new(files, &store, err));
    rig_open_over(&rig, store, root, root);
    (void)snprintf(url, sizeof(url), "%s/d/x.tar", root);
    rig.hook.at_commit = go_deaf;
    rig.hook.at_commit_ctx = &rig;
    atomic_store(&rig.hook.fault, INDEX_LOST_DONE);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, tar);
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), EREMOTEIO);
    cr_assert_eq(atd_publication_truncate(publication, 0, &(struct atd_error)ATD_ERROR_INIT), -EIO);
    cr_assert_eq(atd_publication_write(publication, 0, (struct atd_bytes){tar.ptr, 512},
                                       waiter_start(&waiter), &(struct atd_error)ATD_ERROR_INIT),
                 -EIO);
    finish(&rig, publication);
    rig.hook.at_commit = NULL;
    atomic_store(&rig.hook.fault, INDEX_NONE);
    atomic_store(&rig.hook.is_deaf, false);
    COMES(rig_leftovers(&rig) == 0);
    check_object(&rig, url, tar);
    rig_close(&rig);
    atd_file_store_free(files);
    remove_tree(root);
    drop_tar(tar);
}

/* ------------------------------------------------------------------ while others write */

Test(publication_faults, written_while_it_is_checked)
{
    struct rig rig = {0};
    struct atd_bytes first = make_tar(LARGE, 5);
    struct atd_bytes second = make_tar(LARGE, 6);
    struct atd_publication *publication;
    struct waiter waiter;

    atomic_store(&rig.stalls, true);
    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, first);
    atd_publication_publish(publication, ATD_STR("d"), ATD_STR("x.tar"), ATD_STR(""),
                            waiter_start(&waiter));
    COMES(status_of(publication).state == ATD_PUBLICATION_CHECKING);
    put_bytes(publication, 0, second);
    atomic_store(&rig.stalls, false);
    if (waiter_code(&waiter)) {
        /* It was looked at when half of it was new. */
        cr_assert_eq(waiter.code, EINVAL);
        LISTS(&rig, "d", "");
        WORKS(atd_publication_truncate(publication, 0, err));
        put_bytes(publication, 0, second);
        cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
    }
    check_object(&rig, status_of(publication).url, second);
    finish(&rig, publication);
    check_tidy(&rig, 1);
    rig_close(&rig);
    drop_tar(first);
    drop_tar(second);
}

Test(publication_faults, written_after_it_was_sent)
{
    static const size_t sizes[] = {SMALL, LARGE};

    for (size_t i = 0; i < ATD_ARRAY_LEN(sizes); i++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(sizes[i], 7);
        struct atd_bytes more = make_tar(sizes[i] + 2048, 7);
        struct atd_publication *publication;

        rig_open(&rig);
        publication = begin(&rig, "d", "x.tar");
        put_bytes(publication, 0, tar);
        cr_assert_eq(ask_check(publication, false), 0);
        cr_assert_eq(objects(&rig), 1);
        put_bytes(publication, 0, more);
        cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
        check_object(&rig, status_of(publication).url, more);
        finish(&rig, publication);
        check_tidy(&rig, 1);
        rig_close(&rig);
        drop_tar(tar);
        drop_tar(more);
    }
}

/* ------------------------------------------------------------------ times and schemas */

static void find_mtime(void *ctx, const struct atd_shard_record *record)
{
    *(int64_t *)ctx = record->mtime_ns;
}

static int64_t recorded_mtime(struct rig *rig)
{
    struct atd_catalog *catalog = atd_live_get(rig->live);
    const struct atd_catalog_entry *entry = atd_catalog_meaning(catalog, ATD_STR("d"));
    int64_t mtime_ns = -1;

    cr_assert_not_null(entry);
    atd_metadata_each_shard(atd_entry_metadata(entry), find_mtime, &mtime_ns);
    atd_catalog_unref(catalog);
    return mtime_ns;
}

Test(publication_faults, times_before_and_after)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(SMALL, 8);
    struct atd_publication *publication;

    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, tar);
    atd_publication_set_mtime(publication, 1700000001000000000);
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
    cr_assert_eq(recorded_mtime(&rig), 1700000001000000000);
    for (int i = 1; i <= 100; i++)
        atd_publication_set_mtime(publication, 1700000001000000000 + i);
    cr_assert_eq(status_of(publication).mtime_ns, 1700000001000000100);
    atd_publication_unref(publication);
    COMES(recorded_mtime(&rig) == 1700000001000000100);
    COMES(under_way(&rig) == 0);
    cr_assert_lt(atomic_load(&rig.hook.commits), 50);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication_faults, a_kept_schema_is_for_the_first_shard)
{
    static const char json[] =
        "{\"name\": \"Mine\", \"version\": \"1.0.0\", \"fields\": [{\"name\": \"label\", "
        "\"fieldType\": {\"$type\": \"local#primitive\", \"primitive\": \"int\"}, \"optional\": "
        "false}, {\"name\": \"data\", \"fieldType\": {\"$type\": \"local#primitive\", "
        "\"primitive\": \"bytes\"}, \"optional\": false}], \"$type\": \"ac.foundation.dataset."
        "schema\", \"description\": null, \"createdAt\": \"2024-01-01T00:00:00+00:00\"}";
    struct rig rig = {0};
    atd_auto_buf struct atd_buf good = ATD_BUF_INIT(MIB);
    atd_auto_buf struct atd_buf bad = ATD_BUF_INIT(MIB);
    struct atd_bytes text = {(const uint8_t *)json, sizeof(json) - 1};
    struct atd_catalog *catalog;

    put_sample(&good, "a.msgpack", 1, 10);
    put_end(&good);
    put_text_member(&bad, "a.txt", "plain");
    put_end(&bad);
    rig_open(&rig);
    WORKS(atd_publisher_keep_schema(rig.publisher, ATD_STR("d"), &text, err));
    cr_assert_eq(copy_in(&rig, "d", "x.tar", atd_buf_bytes(&bad)), EINVAL);
    cr_assert_eq(copy_in(&rig, "d", "x.tar", atd_buf_bytes(&good)), 0);
    catalog = atd_live_get(rig.live);
    cr_assert_eq(atd_catalog_schema_count(catalog), 1);
    cr_assert(atd_str_equal(atd_catalog_schema_at(catalog, 0)->name, ATD_STR("Mine")));
    atd_catalog_unref(catalog);
    check_tidy(&rig, 1);
    rig_close(&rig);
}

Test(publication_faults, many_at_once)
{
    struct rig rig = {0};
    struct atd_publication *publications[40];
    struct waiter waiters[40];
    struct atd_bytes tar = make_tar(18 * MIB, 9);
    struct atd_publisher_stats stats;

    rig_open(&rig);
    for (int i = 0; i < 40; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "x%02d.tar", i);
        publications[i] = begin(&rig, "d", name);
        put_bytes(publications[i], 0, tar);
        atd_publication_publish(publications[i], ATD_STR("d"), atd_str_from(name), ATD_STR(""),
                                waiter_start(&waiters[i]));
    }
    for (int i = 0; i < 40; i++)
        cr_assert_eq(waiter_code(&waiters[i]), 0, "%s", waiters[i].text);
    for (int i = 0; i < 40; i++)
        atd_publication_unref(publications[i]);
    check_tidy(&rig, 40);
    COMES(under_way(&rig) == 0);
    atd_publisher_stats(rig.publisher, &stats);
    cr_assert_eq(stats.published, 40);
    cr_assert_eq(stats.failed, 0);
    cr_assert_eq(rig.publisher->part_bytes, 0);
    rig_close(&rig);
    drop_tar(tar);
}
