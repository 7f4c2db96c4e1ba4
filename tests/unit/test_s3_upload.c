#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "s3_upload_scene.h"

TestSuite(s3_upload, .init = setup_maker, .fini = teardown);

/* ------------------------------------------------------------------ the whole way */

Test(s3_upload, parts_make_an_object)
{
    ready();
    server_say(COMPLETED);
    server_say(HEAD_OF("7", "whole-2", MADE_CRC));
    cr_assert_eq(finish(), 0, "%s", err.text);
    asked(COMPLETE_LINE);
    with_header("if-none-match", "*");
    asked(HEAD_LINE);
    with_header("x-amz-checksum-mode", "ENABLED");
    asked_nothing_more();
    cr_assert_eq(info.size_bytes, 7);
    cr_assert_str_eq(info.etag, "whole-2");
    atd_store_upload_free(upload);
}

Test(s3_upload, parts_carry_their_checksum)
{
    begin_upload();
    with_header("x-amz-checksum-algorithm", "CRC32C");
    server_say(PART_MADE);
    cr_assert_eq(send_part(1, "hello"), 0);
    asked("PUT /bucket/dir/a.tar?partNumber=1&uploadId=id%2F1%2B HTTP/1.1");
    with_header("x-amz-checksum-crc32c", CRC_1);
    with_header("content-length", "5");
    with_header("transfer-encoding", NULL);
    with_header("content-encoding", NULL);
    with_header("x-amz-content-sha256", "UNSIGNED-PAYLOAD"); /* the server is on this machine */
    atd_store_upload_free(upload);
}

Test(s3_upload, a_failed_part_is_sent_again)
{
    begin_upload();
    server_say(XML("503 Slow Down", "36", "<Error><Code>SlowDown</Code></Error>"));
    server_say_and_cut("");
    server_say(XML("400 Bad Request", "37", "<Error><Code>BadDigest</Code></Error>"));
    server_say(OK "ETag: \"second\"\r\nContent-Length: 0\r\n\r\n");
    cr_assert_eq(send_part(1, "hello"), 0, "%s", err.text);
    for (unsigned i = 0; i < 4; i++)
        asked("PUT /bucket/dir/a.tar?partNumber=1&uploadId=id%2F1%2B HTTP/1.1");
    server_say(NO_UPLOAD);
    cr_assert_eq(send_part(2, "wo"), -EAGAIN);
    cr_assert(err.retryable);
    atd_store_upload_free(upload);
}

Test(s3_upload, an_endpoint_without_checksums_is_remembered)
{
    server_say(NO_SUCH_FUNCTION);
    begin_upload(); /* which looks at the first request only */
    asked("POST /bucket/dir/a.tar?uploads= HTTP/1.1");
    with_header("x-amz-checksum-algorithm", NULL);
    server_say(PART_MADE);
    cr_assert_eq(send_part(1, "hello"), 0);
    asked("PUT /bucket/dir/a.tar?partNumber=1&uploadId=id%2F1%2B HTTP/1.1");
    with_header("x-amz-content-sha256",
                "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    with_header("x-amz-checksum-crc32c", NULL);
    atd_store_upload_free(upload);
    begin_upload();
    with_header("x-amz-checksum-algorithm", NULL);
    atd_store_upload_free(upload);
}

/* ------------------------------------------------------------------ an object is there */

Test(s3_upload, an_object_that_is_there_stays)
{
    ready();
    server_say(EXISTS);
    cr_assert_eq(finish(), -EEXIST);
    asked(COMPLETE_LINE);
    asked_nothing_more();
    server_say(GONE_204);
    server_say(GONE_204);
    cr_assert_eq(atd_store_upload_abort(upload, 20000, &err), 0);
    asked(ABORT_LINE);
    asked(ABORT_LINE);
    asked_nothing_more();
    atd_store_upload_free(upload);
}

Test(s3_upload, without_a_guard_somebody_looks_first)
{
    guarded(false);
    begin_upload();
    send_parts();
    server_say(HEAD_WITHOUT("3", "x"));
    cr_assert_eq(finish(), -EEXIST);
    asked(HEAD_LINE);
    asked_nothing_more();
    server_say(ABSENT);
    server_say(COMPLETED);
    server_say(HEAD_WITHOUT("7", "whole-2"));
    cr_assert_eq(finish(), 0, "%s", err.text);
    asked(HEAD_LINE);
    asked(COMPLETE_LINE);
    with_header("if-none-match", NULL);
    asked(HEAD_LINE);
    atd_store_upload_free(upload);
}

Test(s3_upload, with_a_guard_unknown_both_are_done)
{
    begin_upload();
    send_parts();
    server_say(ABSENT);
    server_say(EXISTS);
    cr_assert_eq(finish(), -EEXIST);
    asked(HEAD_LINE);
    asked(COMPLETE_LINE);
    with_header("if-none-match", "*");
    atd_store_upload_free(upload);
}

/* ------------------------------------------------------------------ lost replies */

/* Whoever knows only what begin told must find all that may have been begun. */
Test(s3_upload, a_lost_beginning_is_looked_for)
{
    server_say_and_cut("");
    server_say(CREATED);
    cr_assert_eq(atd_store_upload_begin(store, ATD_STR(URL), 5, 20000, id, &upload, &err), 0, "%s",
                 err.text);
    cr_assert_str_eq(id, "");
    atd_store_upload_free(upload);
}

static int begin_again(void)
{
    err = (struct atd_error)ATD_ERROR_INIT;
    return atd_store_upload_begin(store, ATD_STR(URL), 5, 20000, id, &upload, &err);
}

Test(s3_upload, a_lost_beginning_and_then_a_refusal_is_unknown)
{
    static const char refused[] =
        XML("403 Forbidden", "40", "<Error><Code>AccessDenied</Code></Error>");

    server_say_and_cut("");
    server_say(refused);
    cr_assert_eq(begin_again(), -EREMOTEIO, "%s", err.text);
    server_say(refused);
    cr_assert_eq(begin_again(), -EACCES, "%s", err.text);
    /* It says that it has begun, and not which. */
    server_say(EMPTY);
    server_say(EMPTY);
    cr_assert_eq(begin_again(), -EREMOTEIO, "%s", err.text);
}

static void lost_then(const char *second, const char *head, int code)
{
    ready();
    server_say_and_cut("");
    server_say(second);
    server_say(head);
    cr_assert_eq(finish(), -code, "%s", err.text);
    asked(COMPLETE_LINE);
    asked(COMPLETE_LINE);
    asked(HEAD_LINE);
    asked_nothing_more();
    atd_store_upload_free(upload);
}

Test(s3_upload, a_lost_reply_and_then_no_upload_may_be_success)
{
    lost_then(NO_UPLOAD, HEAD_OF("7", "whole-2", MADE_CRC), 0);
    cr_assert_str_eq(info.etag, "whole-2");
}

Test(s3_upload, a_lost_reply_and_then_no_upload_may_be_success_without_a_checksum)
{
    lost_then(NO_UPLOAD, HEAD_WITHOUT("7", "whole-2"), 0);
}

Test(s3_upload, a_lost_reply_and_then_no_upload_and_no_object_is_a_dropped_upload)
{
    lost_then(NO_UPLOAD, ABSENT, EAGAIN);
    cr_assert(err.retryable);
}

Test(s3_upload, a_lost_reply_and_then_somebody_elses_object)
{
    lost_then(NO_UPLOAD, HEAD_OF("7", "other-2", "AAAAAA==-2"), EEXIST);
}

Test(s3_upload, a_lost_reply_and_then_412_may_be_success)
{
    lost_then(EXISTS, HEAD_OF("7", "whole-2", MADE_CRC), 0);
}

Test(s3_upload, a_lost_reply_and_then_412_may_be_somebody_else)
{
    lost_then(EXISTS, HEAD_OF("8", "whole-2", MADE_CRC), EEXIST);
}

/* Two mounts send the same file at once: the faster one's object is not the other's to take back.
 */
Test(s3_upload, the_same_bytes_of_somebody_else_are_not_ours)
{
    lost_then(EXISTS, HEAD_BY(SOMEBODY, "7", "whole-2", MADE_CRC), EEXIST);
}

Test(s3_upload, nor_when_the_upload_is_gone)
{
    lost_then(NO_UPLOAD, HEAD_BY(SOMEBODY, "7", "whole-2", MADE_CRC), EEXIST);
}

Test(s3_upload, the_same_bytes_of_nobody_are_unknown)
{
    lost_then(EXISTS, HEAD_BY("", "7", "whole-2", MADE_CRC), EREMOTEIO);
}

Test(s3_upload, a_lost_reply_and_then_412_without_a_checksum_is_unknown)
{
    lost_then(EXISTS, HEAD_WITHOUT("7", "whole-2"), EREMOTEIO);
}

Test(s3_upload, silence_is_unknown_unless_the_object_is_there)
{
    ready();
    server_say_and_wait("");
    server_say(ABSENT);
    cr_assert_eq(atd_store_upload_finish(upload, 2, 300, &info, &err), -EREMOTEIO, "%s", err.text);
    asked(COMPLETE_LINE);
    asked(HEAD_LINE);
    server_say_and_wait("");
    server_say(HEAD_OF("7", "whole-2", MADE_CRC));
    cr_assert_eq(atd_store_upload_finish(upload, 2, 300, &info, &err), 0, "%s", err.text);
    atd_store_upload_free(upload);
}

Test(s3_upload, an_error_inside_a_200_is_an_error)
{
    ready();
    server_say(XML("200 OK", "46", "    \n<Error><Code>InternalError</Code></Error>"));
    server_say(COMPLETED);
    server_say(HEAD_OF("7", "whole-2", MADE_CRC));
    cr_assert_eq(finish(), 0, "%s", err.text);
    asked(COMPLETE_LINE);
    asked(COMPLETE_LINE);
    asked(HEAD_LINE);
    asked_nothing_more();
    atd_store_upload_free(upload);
}

Test(s3_upload, a_conflict_means_to_begin_again)
{
    ready();
    server_say(CONFLICT);
    cr_assert_eq(finish(), -EAGAIN);
    cr_assert(err.retryable);
    cr_assert_not_null(strstr(err.text, "again"), "%s", err.text);
    asked(COMPLETE_LINE);
    asked_nothing_more();
    atd_store_upload_free(upload);
}

Test(s3_upload, a_refusal_is_final)
{
    ready();
    server_say(XML("403 Forbidden", "40", "<Error><Code>AccessDenied</Code></Error>"));
    cr_assert_eq(finish(), -EACCES);
    asked(COMPLETE_LINE);
    asked_nothing_more();
    atd_store_upload_free(upload);
}

/* ------------------------------------------------------------------ confirming */

Test(s3_upload, what_is_not_what_was_sent_is_deleted)
{
    static const char *const heads[] = {
        HEAD_OF("8", "whole-2", MADE_CRC),
        HEAD_OF("7", "whole-2", "AAAAAA==-2"),
        HEAD_WITHOUT("8", "whole-2"),
    };

    ready();
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        server_say(COMPLETED);
        server_say(heads[i]);
        server_say(GONE_204);
        cr_assert_eq(finish(), -EIO, "case %zu", i);
        asked(COMPLETE_LINE);
        asked(HEAD_LINE);
        asked("DELETE /bucket/dir/a.tar HTTP/1.1");
        asked_nothing_more();
    }
    atd_store_upload_free(upload);
}

/* It was written over meanwhile, by somebody who asks nobody. */
Test(s3_upload, what_is_somebody_elses_by_now_is_not_deleted)
{
    static const struct {
        const char *head;
        int code;
    } cases[] = {
        {HEAD_BY(SOMEBODY, "8", "other-2", MADE_CRC), EIO},
        {HEAD_BY(SOMEBODY, "7", "whole-2", MADE_CRC), EIO},
        {HEAD_WITHOUT("7", "other-2"), EREMOTEIO}, /* or a proxy's answer */
        {HEAD_WITHOUT("8", "other"), EREMOTEIO},
    };

    ready();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        server_say(COMPLETED);
        server_say(cases[i].head);
        cr_assert_eq(finish(), -cases[i].code, "case %zu", i);
        asked(COMPLETE_LINE);
        asked(HEAD_LINE);
        asked_nothing_more();
    }
    atd_store_upload_free(upload);
}

Test(s3_upload, a_checksum_of_another_kind_tells_nothing)
{
    ready();
    server_say(COMPLETED);
    server_say(HEAD_OF("7", "whole-2", "AAAAAA=="));
    cr_assert_eq(finish(), 0, "%s", err.text);
    atd_store_upload_free(upload);
}

Test(s3_upload, a_made_object_that_cannot_be_looked_at_is_unknown)
{
    ready();
    server_say(COMPLETED);
    server_say_and_wait("");
    cr_assert_eq(atd_store_upload_finish(upload, 2, 300, &info, &err), -EREMOTEIO);
    atd_store_upload_free(upload);
}

/* ------------------------------------------------------------------ taking it back */

Test(s3_upload, unfinished_uploads_of_exactly_this_key_are_taken_back)
{
    static const char first[] =
        "<ListMultipartUploadsResult>"
        "<IsTruncated>true</IsTruncated><NextKeyMarker>dir/a.tar</NextKeyMarker>"
        "<NextUploadIdMarker>b</NextUploadIdMarker>"
        "<Upload><Key>dir/a.tar</Key><UploadId>b</UploadId></Upload>"
        "</ListMultipartUploadsResult>";
    static const char second[] = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>"
                                 "<Upload><Key>dir/a.tar.gz</Key><UploadId>c</UploadId></Upload>"
                                 "<Upload><Key>dir/a.tar</Key><UploadId>d</UploadId></Upload>"
                                 "</ListMultipartUploadsResult>";
    char reply[1024];

    (void)snprintf(reply, sizeof(reply), OK "Content-Length: %zu\r\n\r\n%s", strlen(first), first);
    server_say(reply);
    server_say(NO_UPLOAD);
    (void)snprintf(reply, sizeof(reply), OK "Content-Length: %zu\r\n\r\n%s", strlen(second),
                   second);
    server_say(reply);
    server_say(GONE_204);
    server_say(NO_UPLOAD);
    cr_assert_eq(atd_store_upload_discard(store, ATD_STR(URL), "", 20000, &err), 0, "%s", err.text);
    cr_assert_not_null(strstr(server_request_line(seen), "prefix=dir%2Fa.tar"));
    seen++;
    asked("DELETE /bucket/dir/a.tar?uploadId=b HTTP/1.1");
    cr_assert_not_null(strstr(server_request_line(seen), "upload-id-marker=b"));
    seen++;
    asked("DELETE /bucket/dir/a.tar?uploadId=d HTTP/1.1");
    asked("DELETE /bucket/dir/a.tar?uploadId=d HTTP/1.1");
    asked_nothing_more();
}

Test(s3_upload, a_list_of_uploads_that_repeats_itself_ends)
{
    static const char page[] = "<ListMultipartUploadsResult>"
                               "<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
                               "<NextUploadIdMarker>b</NextUploadIdMarker>"
                               "</ListMultipartUploadsResult>";
    char reply[1024];

    (void)snprintf(reply, sizeof(reply), OK "Content-Length: %zu\r\n\r\n%s", strlen(page), page);
    server_say(reply);
    server_say(reply);
    cr_assert_eq(atd_store_upload_discard(store, ATD_STR(URL), "", 20000, &err), -EPROTO);
}

Test(s3_upload, an_upload_is_taken_back_by_its_id)
{
    server_say(NO_UPLOAD);
    cr_assert_eq(atd_store_upload_discard(store, ATD_STR(URL), "id/1+", 20000, &err), 0);
    asked(ABORT_LINE);
    server_say(XML("403 Forbidden", "40", "<Error><Code>AccessDenied</Code></Error>"));
    cr_assert_eq(atd_store_upload_discard(store, ATD_STR(URL), "id/1+", 20000, &err), -EACCES);
}

static void *send_for_ever(void *ctx)
{
    static struct atd_error why;

    (void)ctx;
    return atd_store_upload_part(upload, 1, atd_str_bytes(ATD_STR("hello")), 60000, &why) ==
                   -ECANCELED
               ? upload
               : NULL;
}

Test(s3_upload, a_part_under_way_can_be_cancelled)
{
    int64_t start = atd_clock_monotonic_ms();
    pthread_t thread;
    void *outcome;

    begin_upload();
    server_say_and_wait("");
    cr_assert_eq(pthread_create(&thread, NULL, send_for_ever, NULL), 0);
    while (server_asked() < 2 && atd_clock_monotonic_ms() - start < 30000)
        (void)usleep(500);
    atd_store_upload_cancel(upload);
    atd_store_upload_cancel(upload);
    cr_assert_eq(pthread_join(thread, &outcome), 0);
    cr_assert_not_null(outcome);
    cr_assert_eq(send_part(1, "hello"), -ECANCELED);
    cr_assert_lt(atd_clock_monotonic_ms() - start, 30000);
    server_say(GONE_204);
    server_say(NO_UPLOAD);
    cr_assert_eq(atd_store_upload_abort(upload, 20000, &err), 0, "%s", err.text);
    cr_assert_eq(server_asked(), 4);
    atd_store_upload_free(upload);
}
