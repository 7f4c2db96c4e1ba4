/* Publications that are cancelled, let go, or closed, whatever they are at. */
#include "publish_rig.h"

#define URL PREFIX "/d/x.tar"
#define SMALL 4096
#define LARGE (40 * MIB)

Test(publication_ends, cancelled_in_each_state)
{
    for (int large = 0; large < 2; large++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(large ? LARGE : SMALL, 2);
        struct atd_publication *publication;
        struct waiter waiter;

        rig_open(&rig);
        /* SPOOLING: nobody waits, nothing happens. */
        publication = begin(&rig, "d", "x.tar");
        put_bytes(publication, 0, tar);
        (void)atd_publication_cancel(publication);
        cr_assert_eq(ask_check(publication, false), 0);
        finish(&rig, publication); /* SENT, and let go */
        check_tidy(&rig, 0);
        if (large) {
            /* CHECKING: parts do not get on. */
            atomic_store(&rig.stalls, true);
            publication = begin(&rig, "d", "x.tar");
            put_bytes(publication, 0, tar);
            atd_publication_publish(publication, ATD_STR("d"), ATD_STR("x.tar"), ATD_STR(""),
                                    waiter_start(&waiter));
            COMES(status_of(publication).state == ATD_PUBLICATION_CHECKING);
            (void)atd_publication_cancel(publication);
            cr_assert_eq(waiter_code(&waiter), ECANCELED);
            cr_assert_eq(status_of(publication).state, ATD_PUBLICATION_REFUSED);
            atomic_store(&rig.stalls, false);
            finish(&rig, publication);
            check_tidy(&rig, 0);
        }
        /* COMMITTING: it goes on. */
        atomic_store(&rig.hook.stalls, true);
        publication = begin(&rig, "d", "x.tar");
        put_bytes(publication, 0, tar);
        atd_publication_publish(publication, ATD_STR("d"), ATD_STR("x.tar"), ATD_STR(""),
                                waiter_start(&waiter));
        COMES(status_of(publication).state == ATD_PUBLICATION_COMMITTING);
        (void)atd_publication_cancel(publication);
        {
            struct waiter written;

            cr_assert_eq(atd_publication_write(publication, 0, (struct atd_bytes){tar.ptr, 512},
                                               waiter_start(&written),
                                               &(struct atd_error)ATD_ERROR_INIT),
                         -EPERM);
        }
        atomic_store(&rig.hook.stalls, false);
        cr_assert_eq(waiter_code(&waiter), 0);
        finish(&rig, publication);
        check_tidy(&rig, 1);
        rig_close(&rig);
        drop_tar(tar);
    }
}

/* A signal comes when it likes: before what it is about was asked, or behind somebody else's. */
Test(publication_ends, given_up_before_it_asked)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(SMALL, 2);
    struct atd_bytes large = make_tar(LARGE, 2);
    struct atd_publication *publication;
    struct waiter killed;
    struct waiter other;

    rig_open(&rig);
    for (int as_check = 0; as_check < 2; as_check++) {
        publication = begin(&rig, "d", "x.tar");
        put_bytes(publication, 0, tar);
        atd_publication_give_up(publication, waiter_start(&killed));
        (void)usleep(1000); /* a turn: either order is right */
        if (as_check)
            atd_publication_check(publication, false, &killed.wait);
        else
            atd_publication_publish(publication, ATD_STR("d"), ATD_STR("x.tar"), ATD_STR(""),
                                    &killed.wait);
        cr_assert_eq(waiter_code(&killed), ECANCELED);
        finish(&rig, publication);
        check_tidy(&rig, 0);
    }
    /* One who asks later is not taken for a new beginning. */
    atomic_store(&rig.stalls, true);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, large);
    atd_publication_check(publication, false, waiter_start(&killed));
    atd_publication_give_up(publication, &killed.wait);
    atd_publication_check(publication, true, waiter_start(&other));
    cr_assert_eq(waiter_code(&killed), ECANCELED);
    (void)waiter_code(&other);
    atomic_store(&rig.stalls, false);
    finish(&rig, publication);
    LISTS(&rig, "d", "");
    check_tidy(&rig, 0);
    rig_close(&rig);
    drop_tar(large);
    drop_tar(tar);
}

/* The store is silent, and whoever is killed is not made to wait for it. */
Test(publication_ends, given_up_before_it_was_held)
{
    struct rig rig = {0};
    const size_t size = 112 * MIB;
    struct atd_bytes tar = make_tar(size, 2);
    struct atd_publication *publication;
    struct atd_error err = ATD_ERROR_INIT;
    struct waiter waiters[2];
    int64_t began;
    size_t at = 0;

    atomic_store(&rig.stalls, true);
    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    for (; at < size; at += MIB) {
        int rc = atd_publication_write(publication, at, (struct atd_bytes){tar.ptr + at, MIB},
                                       waiter_start(&waiters[0]), &err);

        if (rc == -EINPROGRESS)
            break;
        cr_assert_eq(rc, 0, "%s", err.text);
        (void)usleep(2000);
    }
    cr_assert_lt(at, size - MIB, "nobody was held");
    at += MIB;
    waiter_start(&waiters[1])->is_given_up = true;
    cr_assert_eq(atd_publication_write(publication, at, (struct atd_bytes){tar.ptr + at, MIB},
                                       &waiters[1].wait, &err),
                 0);
    cr_assert_not(atomic_load(&waiters[0].done));
    began = atd_clock_monotonic_ms();
    atd_publication_give_up(publication, &waiters[0].wait);
    cr_assert_eq(waiter_code(&waiters[0]), 0);
    cr_assert_lt(atd_clock_monotonic_ms() - began, 2000);
    atomic_store(&rig.stalls, false);
    finish(&rig, publication);
    check_tidy(&rig, 0);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication_ends, let_go_while_it_waits)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(LARGE, 3);
    struct atd_publication *publication;
    struct waiter waiter;

    rig_open(&rig);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, tar);
    finish(&rig, publication);
    check_tidy(&rig, 0);
    atomic_store(&rig.stalls, true);
    publication = begin(&rig, "d", "x.tar");
    put_bytes(publication, 0, tar);
    atd_publication_publish(publication, ATD_STR("d"), ATD_STR("x.tar"), ATD_STR(""),
                            waiter_start(&waiter));
    atd_publication_unref(publication);
    cr_assert_eq(waiter_code(&waiter), ECANCELED);
    atomic_store(&rig.stalls, false);
    check_tidy(&rig, 0);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication_ends, closing_ends_everything)
{
    static const struct rule stall = {ATD_WRITE_PART, 0, {ATD_WRITE_FAULT_STALL, 0}};
    struct rig rig = {.rules = {stall}};
    struct atd_bytes tar = make_tar(LARGE, 4);
    struct atd_publication *publications[8];
    struct waiter waiters[8];
    int64_t began;

    rig_open(&rig);
    for (int i = 0; i < 8; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "x%d.tar", i);
        publications[i] = begin(&rig, "d", name);
        put_bytes(publications[i], 0, tar);
        atd_publication_publish(publications[i], ATD_STR("d"), atd_str_from(name), ATD_STR(""),
                                waiter_start(&waiters[i]));
    }
    for (int i = 0; i < 8; i++)
        atd_publication_unref(publications[i]);
    began = atd_clock_monotonic_ms();
    cr_assert(atd_publisher_close(rig.publisher, 10000));
    cr_assert_lt(atd_clock_monotonic_ms() - began, 9000);
    for (int i = 0; i < 8; i++)
        cr_assert_neq(waiter_code(&waiters[i]), 0);
    rig.rules[0].fault.fault = ATD_WRITE_FAULT_NONE;
    rig_start(&rig); /* what could not be taken back then is now */
    check_tidy(&rig, 0);
    rig_close(&rig);
    drop_tar(tar);
}
