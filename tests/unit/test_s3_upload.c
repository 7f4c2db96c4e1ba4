#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/s3_store.h"
#include "support/s3_frame.h"

#define EMPTY OK "Content-Length: 0\r\n\r\n"
#define GONE_204 "HTTP/1.1 204 No Content\r\n\r\n"
#define XML(status, length, body) "HTTP/1.1 " status "\r\nContent-Length: " length "\r\n\r\n" body
#define CREATED                                                       \
    XML("200 OK", "89",                                               \
        "<InitiateMultipartUploadResult><UploadId>id/1+</UploadId></" \
        "InitiateMultipartUploadResult>")
#define NO_UPLOAD XML("404 Not Found", "40", "<Error><Code>NoSuchUpload</Code></Error>")
#define EXISTS \
    XML("412 Precondition Failed", "46", "<Error><Code>PreconditionFailed</Code></Error>")
#define CONFLICT XML("409 Conflict", "54", "<Error><Code>ConditionalRequestConflict</Code></Error>")
#define NO_SUCH_FUNCTION \
    XML("501 Not Implemented", "42", "<Error><Code>NotImplemented</Code></Error>")
#define PART_MADE OK "ETag: \"p\"\r\nContent-Length: 0\r\n\r\n"
#define COMPLETE_BODY \
    "<CompleteMultipartUploadResult><ETag>\"whole-2\"</ETag></CompleteMultipartUploadResult>"
#define COMPLETED XML("200 OK", "85", COMPLETE_BODY)
#define ABSENT "HTTP/1.1 404 Not Found\r\n\r\n"
/* The CRC-32C of "hello". That of its sum and the one of "wo" is MADE_CRC. */
#define MADE_CRC "cah5uQ==-2"
#define CRC_1 "mnG7TA=="
#define MAKER "0123456789abcdef"
#define SOMEBODY "fedcba9876543210"
#define HEAD_BY(maker, size, etag, crc)                                                       \
    OK "Content-Length: " size "\r\nETag: \"" etag "\"\r\nx-amz-checksum-crc32c: " crc "\r\n" \
       "x-amz-checksum-type: COMPOSITE\r\nx-amz-meta-atdatafs: " maker "\r\n\r\n"
#define HEAD_OF(size, etag, crc) HEAD_BY(MAKER, size, etag, crc)
#define HEAD_WITHOUT(size, etag) OK "Content-Length: " size "\r\nETag: \"" etag "\"\r\n\r\n"

static void setup_maker(void);

TestSuite(s3_upload, .init = setup_maker, .fini = teardown);

static struct atd_error err;
static struct atd_object_info info;
static char id[ATD_UPLOAD_ID_MAX + 1];
static struct atd_store_upload *upload;
static unsigned seen; /* requests that were looked at */

/* ------------------------------------------------------------------ helpers */

/* The replies that are written down here know it. */
static void setup_maker(void)
{
    setup();
    cr_assert_eq(strlen(atd_store_maker(store)), ATD_MAKER_LEN);
    memcpy(((struct atd_s3_store *)store)->maker, MAKER, sizeof(MAKER));
}

/* The next request is this, and has these headers (value NULL: must not be there). */
static void asked(const char *line)
{
    cr_assert_lt(seen, server_asked(), "nobody asked: %s", line);
    cr_assert_str_eq(server_request_line(seen), line);
    seen++;
}

static void asked_nothing_more(void)
{
    cr_assert_eq(server_asked(), seen, "%s", server_request_line(seen));
}

static void with_header(const char *name, const char *value)
{
    char found[256];

    if (!value) {
        cr_assert_null(server_header(seen - 1, name, found), "%s: %s", name, found);
        return;
    }
    cr_assert_not_null(server_header(seen - 1, name, found), "no %s", name);
    cr_assert_str_eq(found, value);
}

static void guarded(bool guards)
{
    bool found = !guards;

    server_say(EMPTY);
    if (guards) {
        server_say(EXISTS);
        server_say(CREATED);
        server_say(PART_MADE);
        server_say(EXISTS);
        server_say(GONE_204);
        server_say(NO_UPLOAD);
    } else {
        server_say(EMPTY);
    }
    server_say(GONE_204);
    cr_assert_eq(atd_store_guards(store, ATD_STR("s3://bucket/dir"), ATD_STR(".scratch"), 20000,
                                  &found, &err),
                 0, "%s", err.text);
    cr_assert_eq(found, guards);
    seen += guards ? 8 : 3;
    asked_nothing_more();
}

static void begin_upload(void)
{
    server_say(CREATED);
    cr_assert_eq(atd_store_upload_begin(store, ATD_STR(URL), 5, 20000, id, &upload, &err), 0, "%s",
                 err.text);
    cr_assert_str_eq(id, "id/1+");
    asked("POST /bucket/dir/a.tar?uploads= HTTP/1.1");
    with_header("x-amz-meta-atdatafs", MAKER);
}

static int send_part(unsigned number, const char *text)
{
    return atd_store_upload_part(upload, number, atd_str_bytes(atd_str_from(text)), 20000, &err);
}

static void send_parts(void)
{
    server_say(PART_MADE);
    cr_assert_eq(send_part(2, "wo"), 0, "%s", err.text);
    asked("PUT /bucket/dir/a.tar?partNumber=2&uploadId=id%2F1%2B HTTP/1.1");
    server_say(PART_MADE);
    cr_assert_eq(send_part(1, "hello"), 0, "%s", err.text);
    asked("PUT /bucket/dir/a.tar?partNumber=1&uploadId=id%2F1%2B HTTP/1.1");
}

#define COMPLETE_LINE "POST /bucket/dir/a.tar?uploadId=id%2F1%2B HTTP/1.1"
#define ABORT_LINE "DELETE /bucket/dir/a.tar?uploadId=id%2F1%2B HTTP/1.1"
#define HEAD_LINE "HEAD /bucket/dir/a.tar HTTP/1.1"

static int finish(void)
{
    err = (struct atd_error)ATD_ERROR_INIT;
    int rc = atd_store_upload_finish(upload, 2, 20000, &info, &err);

    check_no_secret(err.text);
    return rc;
}

static void ready(void)
{
    guarded(true);
    begin_upload();
    send_parts();
}

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

/* ------------------------------------------------------------------ one piece */

static int put(void)
{
    err = (struct atd_error)ATD_ERROR_INIT;
    return atd_store_put(store, ATD_STR(URL), atd_str_bytes(ATD_STR("hello")), 20000, &info, &err);
}

Test(s3_upload, an_object_of_one_piece)
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

Test(s3_upload, deleting_what_is_gone_is_fine)
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

Test(s3_upload, a_guard_is_found_out_once_a_bucket)
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

Test(s3_upload, only_412_is_a_guard)
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

Test(s3_upload, a_guard_of_single_puts_only_is_none)
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

Test(s3_upload, a_probe_that_fails_says_why_and_is_done_again)
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
