/* Objects of one piece, deleting, and which buckets refuse to write over. */
#include <errno.h>

#include "s3_upload_scene.h"

TestSuite(s3_put, .init = setup_maker, .fini = teardown);

/* ------------------------------------------------------------------ one piece */

static int put(void)
{
    err = (struct atd_error)ATD_ERROR_INIT;
    return atd_store_put(store, ATD_STR(URL), atd_str_bytes(ATD_STR("hello")), 20000, &info, &err);
}

Test(s3_put, an_object_of_one_piece)
{
    guarded(true);
    server_say(OK "ETag: \"one\"\r\nContent-Length: 0\r\n\r\n");
    server_say(HEAD_OF("5", "one", CRC_1));
    cr_assert_eq(put(), 0, "%s", err.text);
    asked("PUT /bucket/dir/a.tar HTTP/1.1");
    with_header("if-none-match", "*");
    with_header("x-amz-checksum-crc32c", CRC_1);
    with_header("x-amz-meta-atdatafs", MAKER);
    asked(HEAD_LINE);
    cr_assert_str_eq(info.etag, "one");
    cr_assert_str_eq(info.maker, MAKER);
    server_say(EXISTS);
    cr_assert_eq(put(), -EEXIST);
    seen++;
    asked_nothing_more();

    /* Our own first attempt, or somebody else's? */
    server_say_and_cut("");
    server_say(EXISTS);
    server_say(HEAD_OF("5", "one", CRC_1));
    cr_assert_eq(put(), 0, "%s", err.text);
    server_say_and_cut("");
    server_say(EXISTS);
    server_say(HEAD_OF("5", "one", "AAAAAA=="));
    cr_assert_eq(put(), -EEXIST, "%s", err.text);
    server_say_and_cut("");
    server_say(EXISTS);
    server_say(HEAD_WITHOUT("5", "one"));
    cr_assert_eq(put(), -EREMOTEIO, "%s", err.text);

    server_say(NO_SUCH_FUNCTION);
    server_say(OK "ETag: \"one\"\r\nContent-Length: 0\r\n\r\n");
    server_say(HEAD_WITHOUT("5", "one"));
    cr_assert_eq(put(), 0, "%s", err.text);
}

Test(s3_put, deleting_what_is_gone_is_fine)
{
    server_say(GONE_204);
    cr_assert_eq(atd_store_delete(store, ATD_STR(URL), 20000, &err), 0);
    server_say(XML("404 Not Found", "37", "<Error><Code>NoSuchKey</Code></Error>"));
    cr_assert_eq(atd_store_delete(store, ATD_STR(URL), 20000, &err), 0);
    server_say(XML("404 Not Found", "40", "<Error><Code>NoSuchBucket</Code></Error>"));
    cr_assert_eq(atd_store_delete(store, ATD_STR(URL), 20000, &err), -ENOENT);
    cr_assert_eq(atd_store_delete(store, ATD_STR("/a"), 20000, &err), -EINVAL);
    asked("DELETE /bucket/dir/a.tar HTTP/1.1");
}

/* ------------------------------------------------------------------ guards */

Test(s3_put, a_guard_is_found_out_once_a_bucket)
{
    bool guards = false;

    guarded(true);
    cr_assert(strncmp(server_request_line(0), "PUT /bucket/dir/.scratch ", 25) == 0);
    cr_assert(strncmp(server_request_line(7), "DELETE /bucket/dir/.scratch ", 28) == 0);
    cr_assert_eq(atd_store_guards(store, ATD_STR("s3://bucket/other"), ATD_STR(".scratch"), 20000,
                                  &guards, &err),
                 0);
    cr_assert(guards);
    asked_nothing_more();
}

Test(s3_put, only_412_is_a_guard)
{
    static const char *const seconds[] = {
        EMPTY, "HTTP/1.1 304 Not Modified\r\n\r\n", CONFLICT, NO_SUCH_FUNCTION,
        XML("400 Bad Request", "43", "<Error><Code>InvalidArgument</Code></Error>")};
    char prefix[32];
    bool guards;

    for (unsigned i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++) {
        (void)snprintf(prefix, sizeof(prefix), "s3://bucket-%u/", i);
        server_say(EMPTY);
        server_say(seconds[i]);
        server_say(GONE_204);
        guards = true;
        cr_assert_eq(atd_store_guards(store, atd_str_from(prefix), ATD_STR(".scratch"), 20000,
                                      &guards, &err),
                     0, "case %u: %s", i, err.text);
        cr_assert_not(guards, "case %u", i);
        cr_assert_eq(server_asked(), (i + 1) * 3, "case %u", i);
    }
    /* The header itself is refused. */
    server_say(NO_SUCH_FUNCTION);
    server_say(GONE_204);
    guards = true;
    cr_assert_eq(
        atd_store_guards(store, ATD_STR("s3://b"), ATD_STR(".scratch"), 20000, &guards, &err), 0);
    cr_assert_not(guards);
}

Test(s3_put, a_guard_of_single_puts_only_is_none)
{
    bool guards = true;

    server_say(EMPTY);
    server_say(EXISTS);
    server_say(CREATED);
    server_say(PART_MADE);
    server_say(COMPLETED);
    server_say(NO_UPLOAD);
    server_say(GONE_204);
    cr_assert_eq(
        atd_store_guards(store, ATD_STR("s3://bucket/"), ATD_STR(".scratch"), 20000, &guards, &err),
        0);
    cr_assert_not(guards);
    cr_assert_eq(server_asked(), 7);
}

Test(s3_put, a_probe_that_fails_says_why_and_is_done_again)
{
    bool guards = true;

    server_say(EMPTY);
    server_say(XML("403 Forbidden", "40", "<Error><Code>AccessDenied</Code></Error>"));
    server_say(GONE_204);
    cr_assert_eq(
        atd_store_guards(store, ATD_STR("s3://bucket/"), ATD_STR(".scratch"), 20000, &guards, &err),
        -EACCES);
    check_no_secret(err.text);
    seen = server_asked();
    cr_assert_eq(seen, 3);
    guarded(true);
}
