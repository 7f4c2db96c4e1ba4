/* Who may not be told of changes, or not in each way: another way is found. */
#include "base/check.h"
#include "redis_tracked.h"

TestSuite(redis_track_rights, .init = setup, .fini = teardown, .timeout = 120);

#define READS "-@all ~* +select +client|setname +scan +hgetall +get "

static void expect_coherence(const char *user, const char *coherence)
{
    struct atd_index *index = open_as(user, ATD_REDIS_WAYS_ALL);
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(see(index, &seen, &err), 0, "%s: %s", user, err.text);
    cr_assert_str_eq(atd_index_coherence(index), coherence, "%s", user);
    RUN(writer, "SET LocalSchema:S@1 x");
    cr_assert_neq(atd_index_sync(index), ATD_NEWS_NONE, "%s", user);
    atd_index_free(index);
}

Test(redis_track_rights, each_right_that_lacks_has_a_way_round)
{
    start();
    RUN(writer, "ACL SETUSER all on >p resetchannels &__redis__:invalidate " READS
                "+ping +client|id +client|tracking +subscribe");
    RUN(writer, "ACL SETUSER nochannel on >p resetchannels " READS
                "+ping +client|id +client|tracking +subscribe");
    RUN(writer, "ACL SETUSER nosubscribe on >p &* " READS "+client|id +client|tracking");
    RUN(writer, "ACL SETUSER notracking on >p &* " READS
                "+info +ping +client|id +subscribe +psubscribe +config|get");
    RUN(writer, "ACL SETUSER noinfo on >p &* " READS "+ping +psubscribe +config|get");
    RUN(writer, "ACL SETUSER info on >p resetchannels " READS "+info");
    RUN(writer, "ACL SETUSER bare on >p resetchannels " READS);
    expect_coherence("all:p@", "tracking (RESP2)");
    expect_coherence("nochannel:p@", "tracking (RESP3)");
    expect_coherence("nosubscribe:p@", "tracking (RESP3)");
    expect_coherence("notracking:p@", "polling");
    expect_coherence("info:p@", "polling");
    expect_coherence("bare:p@", "polling");
    RUN(writer, "CONFIG SET notify-keyspace-events KEA");
    expect_coherence("notracking:p@", "keyspace notifications");
    /* FLUSHALL would go by unnoticed. */
    expect_coherence("noinfo:p@", "polling");
    RUN(writer, "CONFIG SET notify-keyspace-events Kg$");
    expect_coherence("notracking:p@", "polling");
}

/* No room for a second connection: polled, and tracked as soon as there is. */
Test(redis_track_rights, a_server_that_is_full)
{
    struct atd_index *index;

    start();
    RUN(writer, "CONFIG SET maxclients 2");
    index = open_loaded(ATD_REDIS_WAYS_ALL);
    cr_assert_str_eq(atd_index_coherence(index), "polling");
    RUN(writer, "CONFIG SET maxclients 100");
    cr_assert_eq(atd_index_wait(index, 30000), ATD_NEWS_ALL);
    cr_assert_eq(see(index, &seen, NULL), 0);
    cr_assert_str_eq(atd_index_coherence(index), "tracking (RESP2)");
    atd_index_free(index);
}
