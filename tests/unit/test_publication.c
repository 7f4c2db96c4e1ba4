#include "publish_rig.h"

#define URL PREFIX "/d/x.tar"
#define LINE URL "\n"

/* As d/x.tar, the only object there is. */
static void end_published(struct rig *rig, struct atd_publication *publication,
                          struct atd_bytes tar)
{
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
    check_object(rig, URL, tar);
    finish(rig, publication);
    check_tidy(rig, 1);
    rig_close(rig);
    drop_tar(tar);
}

/* ------------------------------------------------------------------ what goes well */

Test(publication, publishes_what_was_copied)
{
    static const size_t sizes[] = {2048,     16 * MIB - 512, 16 * MIB,       16 * MIB + 512,
                                   32 * MIB, 32 * MIB + 512, 48 * MIB - 512, 100 * MIB + 1024};

    for (size_t i = 0; i < ATD_ARRAY_LEN(sizes); i++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(sizes[i], i);
        struct atd_publication *publication;
        struct atd_publication_status status;

        rig_open(&rig);
        publication = begin(&rig, "d", "x.tar");
        cr_assert(!status_of(publication).is_dirty);
        put_bytes(publication, 0, tar);
        cr_assert(status_of(publication).is_dirty);
        cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
        status = status_of(publication);
        cr_assert_eq(status.state, ATD_PUBLICATION_PUBLISHED);
        cr_assert_str_eq(status.url, URL);
        cr_assert_eq(strlen(status.cid.text), 59);
        cr_assert(!status.is_dirty);
        LISTS(&rig, "d", LINE);
        check_object(&rig, URL, tar);
        cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0); /* again: nothing to do */
        finish(&rig, publication);
        check_tidy(&rig, 1);
        cr_assert_eq(atomic_load(&rig.events[0]), 1);
        cr_assert_eq(atomic_load(&rig.steps[ATD_WRITE_BEGIN]), sizes[i] > 16 * MIB);
        rig_close(&rig);
        drop_tar(tar);
    }
}

Test(publication, sends_while_it_is_written)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(80 * MIB, 1);
    struct atd_publication *publication;

    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, (struct atd_bytes){tar.ptr, 64 * MIB});
    COMES(status_of(publication).sent_bytes == 64 * MIB);
    put_bytes(publication, 64 * MIB, (struct atd_bytes){tar.ptr + 64 * MIB, 16 * MIB});
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
    cr_assert_eq(atomic_load(&rig.steps[ATD_WRITE_PART]), 5);
    check_object(&rig, URL, tar);
    finish(&rig, publication);
    check_tidy(&rig, 1);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication, holds_a_writer_that_is_too_far_ahead)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(96 * MIB, 2);
    struct atd_publication *publication;
    struct waiter waiter;
    uint64_t offset = 0;
    int rc = 0;

    atomic_store(&rig.stalls, true);
    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, (struct atd_bytes){tar.ptr, 32 * MIB});
    COMES(atomic_load(&rig.steps[ATD_WRITE_PART]) > 0);
    for (offset = 32 * MIB; rc == 0 && offset < tar.len; offset += MIB)
        rc = atd_publication_write(publication, offset, (struct atd_bytes){tar.ptr + offset, MIB},
                                   waiter_start(&waiter), &(struct atd_error)ATD_ERROR_INIT);
    cr_assert_eq(rc, -EINPROGRESS);
    cr_assert_eq(offset, 65 * MIB);
    cr_assert(!atomic_load(&waiter.done));
    /* Somebody killed it: the wait ends, the copy may go on. */
    (void)atd_publication_cancel(publication);
    cr_assert_eq(waiter_code(&waiter), 0);
    atomic_store(&rig.stalls, false);
    put_bytes(publication, offset, (struct atd_bytes){tar.ptr + offset, tar.len - offset});
    end_published(&rig, publication, tar);
}

Test(publication, a_writer_who_waits_hears_of_another_ones_failure)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(96 * MIB, 19);
    struct atd_publication *publication;
    struct waiter waiter;
    struct waiter other;
    int rc = 0;

    atomic_store(&rig.stalls, true);
    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, (struct atd_bytes){tar.ptr, 32 * MIB});
    COMES(atomic_load(&rig.steps[ATD_WRITE_PART]) > 0);
    for (uint64_t at = 32 * MIB; rc == 0 && at < tar.len; at += MIB)
        rc = atd_publication_write(publication, at, (struct atd_bytes){tar.ptr + at, MIB},
                                   waiter_start(&waiter), &(struct atd_error)ATD_ERROR_INIT);
    cr_assert_eq(rc, -EINPROGRESS);
    cr_assert_eq(atd_publication_write(publication, (uint64_t)2 << 30,
                                       (struct atd_bytes){tar.ptr, 512}, waiter_start(&other),
                                       &(struct atd_error)ATD_ERROR_INIT),
                 -EFBIG);
    cr_assert_eq(waiter_code(&waiter), EIO);
    atomic_store(&rig.stalls, false);
    finish(&rig, publication);
    check_tidy(&rig, 0);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication, takes_ends_that_are_only_a_size)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(20 * MIB, 3);
    struct atd_publication *publication;

    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, (struct atd_bytes){tar.ptr, tar.len - 1024});
    WORKS(atd_publication_truncate(publication, tar.len, err));
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
    check_object(&rig, URL, tar);
    finish(&rig, publication);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication, begins_again_when_it_is_written_anew)
{
    struct rig rig = {0};
    struct atd_bytes first = make_tar(40 * MIB, 4);
    struct atd_bytes second = make_tar(40 * MIB, 5);
    struct atd_publication *publication;

    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, (struct atd_bytes){first.ptr, 36 * MIB});
    COMES(status_of(publication).sent_bytes >= 16 * MIB);
    put_bytes(publication, 0, second);
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
    LISTS(&rig, "d", LINE);
    check_object(&rig, URL, second);
    finish(&rig, publication);
    check_tidy(&rig, 1);
    rig_close(&rig);
    drop_tar(first);
    drop_tar(second);
}

Test(publication, the_same_bytes_again_are_sent_once)
{
    static const size_t sizes[] = {4096, 40 * MIB};

    for (size_t i = 0; i < ATD_ARRAY_LEN(sizes); i++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(sizes[i], 6);
        struct atd_bytes other = make_tar(sizes[i], 7);

        rig_open(&rig);
        cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
        cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
        LISTS(&rig, "d", LINE);
        check_tidy(&rig, 1);
        cr_assert_eq(copy_in(&rig, "d", "x.tar", other), EEXIST);
        LISTS(&rig, "d", LINE);
        check_object(&rig, URL, tar);
        check_tidy(&rig, 1);
        rig_close(&rig);
        drop_tar(tar);
        drop_tar(other);
    }
}

Test(publication, never_takes_a_key_that_is_in_use)
{
    static const size_t sizes[] = {4096, 40 * MIB};

    for (size_t i = 0; i < ATD_ARRAY_LEN(sizes); i++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(sizes[i], 8);
        uint8_t digest[ATD_SHA256_BYTES];
        char url[256];

        rig_open(&rig);
        WORKS(atd_store_memory_put(rig.memory, ATD_STR(URL), atd_str_bytes(ATD_STR("other")), err));
        atd_sha256_of(tar.ptr, tar.len, digest);
        (void)snprintf(url, sizeof(url), PREFIX "/d/%02x%02x%02x%02x%02x%02x/x.tar", digest[0],
                       digest[1], digest[2], digest[3], digest[4], digest[5]);
        cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
        check_object(&rig, url, tar);
        check_object(&rig, URL, atd_str_bytes(ATD_STR("other")));
        cr_assert_eq(atomic_load(&rig.steps[ATD_WRITE_BEGIN]), i);
        check_tidy(&rig, 2);
        rig_close(&rig);
        drop_tar(tar);
    }
}

Test(publication, unguarded_stores_get_new_keys)
{
    struct rig rig = {.rules = {{ATD_WRITE_GUARDS, 0, {ATD_WRITE_FAULT_UNGUARDED, 0}}}};
    struct atd_bytes tar = make_tar(40 * MIB, 9);
    struct atd_publication *publication;
    const char *name;

    rig_open(&rig);
    publication = begin(&rig, "team/d", "x.tar");
    put_bytes(publication, 0, tar);
    cr_assert_eq(ask_publish(publication, "team/d", "x.tar"), 0);
    name = status_of(publication).url;
    cr_assert_eq(strlen(name), strlen(PREFIX "/team/d/0123456789abcdef/x.tar"));
    check_object(&rig, status_of(publication).url, tar);
    finish(&rig, publication);
    check_tidy(&rig, 1);
    rig_close(&rig);
    drop_tar(tar);
}

/* ------------------------------------------------------------------ names */

Test(publication, a_rename_publishes_what_was_checked)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(40 * MIB, 10);
    struct atd_publication *publication;

    rig_open(&rig);
    /* rsync: .x.tar.a1b2c3, known to become x.tar */
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, tar);
    cr_assert_eq(ask_check(publication, false), 0);
    cr_assert_eq(status_of(publication).state, ATD_PUBLICATION_SENT);
    cr_assert(!status_of(publication).is_dirty);
    LISTS(&rig, "d", "");
    cr_assert_eq(ask_check(publication, false), 0);
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
    cr_assert_eq(atomic_load(&rig.steps[ATD_WRITE_FINISH]), 1);
    LISTS(&rig, "d", LINE);
    finish(&rig, publication);
    check_tidy(&rig, 1);

    /* Another name than it was sent under. */
    publication = begin(&rig, "d", "y.tar");
    put_bytes(publication, 0, tar);
    cr_assert_eq(ask_check(publication, false), 0);
    cr_assert_eq(ask_publish(publication, "e", "z.tar"), 0);
    LISTS(&rig, "e", PREFIX "/e/z.tar\n");
    check_object(&rig, PREFIX "/e/z.tar", tar);
    finish(&rig, publication);
    check_tidy(&rig, 2);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication, a_name_that_comes_late)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(20 * MIB, 11);
    struct atd_publication *publication;

    rig_open(&rig);
    publication = begin(&rig, "d", "");
    put_bytes(publication, 0, tar);
    cr_assert_eq(ask_check(publication, true), 0);
    cr_assert_eq(status_of(publication).state, ATD_PUBLICATION_SPOOLING);
    cr_assert(!status_of(publication).is_dirty);
    cr_assert_eq(objects(&rig), 0);
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
    check_object(&rig, URL, tar);
    finish(&rig, publication);
    /* Not a tar: the writer hears it, and may go on. */
    publication = begin(&rig, "d", "");
    put_bytes(publication, 0, atd_str_bytes(ATD_STR("{\"some\": \"json\"}")));
    cr_assert_eq(ask_check(publication, false), EINVAL);
    cr_assert_eq(status_of(publication).state, ATD_PUBLICATION_SPOOLING);
    finish(&rig, publication);
    check_tidy(&rig, 1);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication, two_of_one_name_at_once)
{
    static const size_t sizes[] = {4096, 40 * MIB};

    for (size_t i = 0; i < ATD_ARRAY_LEN(sizes); i++) {
        for (int same = 0; same < 2; same++) {
            struct rig rig = {0};
            struct atd_bytes a = make_tar(sizes[i], 12);
            struct atd_bytes b = make_tar(sizes[i], same ? 12 : 13);
            struct atd_publication *first;
            struct atd_publication *second;
            struct waiter waiters[2];

            rig_open(&rig);
            first = begin(&rig, "d", "x.tar");
            second = begin(&rig, "d", "x.tar");
            put_bytes(first, 0, a);
            put_bytes(second, 0, b);
            atd_publication_publish(first, ATD_STR("d"), ATD_STR("x.tar"), ATD_STR(""),
                                    waiter_start(&waiters[0]));
            atd_publication_publish(second, ATD_STR("d"), ATD_STR("x.tar"), ATD_STR(""),
                                    waiter_start(&waiters[1]));
            (void)waiter_code(&waiters[0]);
            (void)waiter_code(&waiters[1]);
            if (same)
                cr_assert(waiters[0].code == 0 && waiters[1].code == 0);
            else
                cr_assert_eq(waiters[0].code + waiters[1].code, EEXIST);
            check_object(&rig, status_of(waiters[0].code ? second : first).url,
                         waiters[0].code ? b : a);
            finish(&rig, first);
            finish(&rig, second);
            check_tidy(&rig, 1);
            rig_close(&rig);
            drop_tar(a);
            drop_tar(b);
        }
    }
}

/* ------------------------------------------------------------------ what is refused */

Test(publication, an_incomplete_file_is_refused_and_healed_by_truncation)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(40 * MIB, 14);
    struct atd_publication *publication;
    struct waiter waiter;

    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, (struct atd_bytes){tar.ptr, 30 * MIB + 5});
    cr_assert_eq(ask_check(publication, true), 0); /* a hint says nothing */
    cr_assert_eq(status_of(publication).state, ATD_PUBLICATION_SPOOLING);
    cr_assert(status_of(publication).is_dirty);
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), EINVAL);
    cr_assert_eq(status_of(publication).state, ATD_PUBLICATION_REFUSED);
    cr_assert_eq(status_of(publication).why.code, EINVAL);
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), EINVAL);
    cr_assert_eq(ask_check(publication, true), EINVAL);
    cr_assert_eq(atd_publication_write(publication, 0, (struct atd_bytes){tar.ptr, 512},
                                       waiter_start(&waiter), &(struct atd_error)ATD_ERROR_INIT),
                 -EIO);
    LISTS(&rig, "d", "");
    COMES(objects(&rig) == 0 && atd_store_memory_uploads(rig.memory) == 0);
    WORKS(atd_publication_truncate(publication, 0, err));
    put_bytes(publication, 0, tar);
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), 0);
    check_object(&rig, URL, tar);
    cr_assert_eq(atd_publication_write(publication, 0, (struct atd_bytes){tar.ptr, 512},
                                       waiter_start(&waiter), &(struct atd_error)ATD_ERROR_INIT),
                 -EPERM);
    cr_assert_eq(status_of(publication).state, ATD_PUBLICATION_PUBLISHED);
    finish(&rig, publication);
    check_tidy(&rig, 1);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication, poisoned_until_truncated)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(3 * MIB, 15);
    struct atd_publication *publication;
    struct atd_error failure = ATD_ERROR_INIT;
    struct waiter waiter;

    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, tar);
    /* Over the limit of a spool. */
    cr_assert_eq(atd_publication_write(publication, (uint64_t)2 << 30,
                                       (struct atd_bytes){tar.ptr, 512}, waiter_start(&waiter),
                                       &failure),
                 -EFBIG);
    cr_assert_eq(status_of(publication).state, ATD_PUBLICATION_POISONED);
    cr_assert_eq(ask_check(publication, true), EIO);
    cr_assert_eq(ask_publish(publication, "d", "x.tar"), EIO);
    cr_assert_eq(atd_publication_truncate(publication, 512, &failure), -EIO);
    WORKS(atd_publication_truncate(publication, 0, err));
    put_bytes(publication, 0, tar);
    end_published(&rig, publication, tar);
}

/* Healed before any turn took the failure in, or after: nobody can tell which it will be. */
Test(publication, healed_as_soon_as_poisoned)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(4096, 17);
    struct atd_publication *publication;
    struct atd_error failure = ATD_ERROR_INIT;
    struct waiter waiter;

    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    for (int i = 0; i < 500; i++) {
        put_bytes(publication, 0, tar);
        cr_assert_eq(atd_publication_write(publication, (uint64_t)2 << 30,
                                           (struct atd_bytes){tar.ptr, 512}, waiter_start(&waiter),
                                           &failure),
                     -EFBIG);
        WORKS(atd_publication_truncate(publication, 0, err));
    }
    put_bytes(publication, 0, tar);
    end_published(&rig, publication, tar);
}

/* ------------------------------------------------------------------ on the disk */

Test(publication, a_disk_store_takes_the_file_over)
{
    struct rig rig = {0};
    char root[] = "/tmp/atd-shards-XXXXXX";
    const char *roots[] = {root};
    struct atd_bytes tar = make_tar(3 * MIB, 16);
    struct atd_publication *publication;
    struct atd_file_store *files;
    struct atd_store *store;
    char url[128];
    char line[130];
    struct stat st;
    struct stat spooled;

    cr_assert_not_null(mkdtemp(root));
    WORKS(atd_file_store_new(roots, 1, &files, err));
    WORKS(atd_store_file_new(files, &store, err));
    rig_open_over(&rig, store, root, root);
    (void)snprintf(url, sizeof(url), "%s/team/d/x.tar", root);
    (void)snprintf(line, sizeof(line), "%s\n", url);
    publication = begin(&rig, "team/d", "x.tar");
    put_bytes(publication, 0, tar);
    cr_assert_eq(fstat(atd_spool_fd(publication->spool), &spooled), 0);
    cr_assert_eq(ask_publish(publication, "team/d", "x.tar"), 0);
    LISTS(&rig, "team/d", line);
    check_object(&rig, url, tar);
    cr_assert_eq(stat(url, &st), 0);
    cr_assert_eq(st.st_ino, spooled.st_ino); /* no byte was copied */
    finish(&rig, publication);
    cr_assert_eq(stat(url, &st), 0);
    COMES(rig_leftovers(&rig) == 0);
    /* Taken over, then written again: the object goes, the new bytes come. */
    publication = begin(&rig, "team/d", "y.tar");
    put_bytes(publication, 0, tar);
    cr_assert_eq(ask_check(publication, false), 0);
    put_bytes(publication, 0, tar);
    cr_assert_eq(ask_publish(publication, "team/d", "y.tar"), 0);
    check_object(&rig, status_of(publication).url, tar);
    finish(&rig, publication);
    COMES(rig_leftovers(&rig) == 0);
    rig_close(&rig);
    atd_file_store_free(files);
    remove_tree(root);
    drop_tar(tar);
}

Test(publication, a_dataset_cannot_lead_out_of_the_prefix)
{
    static const char *const names[] = {"../d", "a/../../d", "/d", "a//d", ".d", "a\nb"};
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(2048, 17);

    rig_open(&rig);
    for (size_t i = 0; i < ATD_ARRAY_LEN(names); i++) {
        struct atd_publication *publication = begin(&rig, names[i], "x.tar");
        char url[ATD_PUBLICATION_URL_MAX];

        put_bytes(publication, 0, tar);
        cr_assert_eq(ask_publish(publication, names[i], "x.tar"), 0);
        (void)snprintf(url, sizeof(url), "%s", status_of(publication).url);
        cr_assert_null(strstr(url, "/.."), "%s", url);
        cr_assert_null(strstr(url + 5, "//"), "%s", url);
        check_object(&rig, url, tar);
        finish(&rig, publication);
    }
    cr_assert_eq(copy_in(&rig, "d", "x{1,2}.tar", tar), EINVAL);
    check_tidy(&rig, ATD_ARRAY_LEN(names));
    {
        struct atd_publication *publication;

        cr_assert_eq(atd_publication_new(rig.publisher, ATD_STR("d"), ATD_STR("a/b.tar"),
                                         &publication, NULL),
                     -EACCES);
        cr_assert_eq(atd_publication_new(rig.publisher, ATD_STR("d\0e"), ATD_STR("b.tar"),
                                         &publication, NULL),
                     -EACCES);
    }
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication, a_scratch_file_is_small_or_a_tar)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(4 * MIB, 18);
    uint8_t *zeros = calloc(1, 2 * MIB);
    struct atd_publication *publication;
    struct waiter waiter;

    rig_open(&rig);
    publication = begin(&rig, "d", "");
    put_bytes(publication, 0, tar);
    cr_assert_eq(ask_check(publication, true), 0);
    finish(&rig, publication);
    publication = begin(&rig, "d", "");
    put_bytes(publication, 0, (struct atd_bytes){zeros, MIB});
    cr_assert_eq(atd_publication_write(publication, MIB, (struct atd_bytes){zeros, 1},
                                       waiter_start(&waiter), &(struct atd_error)ATD_ERROR_INIT),
                 -EFBIG);
    cr_assert_eq(status_of(publication).state, ATD_PUBLICATION_POISONED);
    finish(&rig, publication);
    check_tidy(&rig, 0);
    rig_close(&rig);
    free(zeros);
    drop_tar(tar);
}
