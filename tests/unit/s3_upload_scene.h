/*
 * What the tests of writing to S3 share: replies, and what was asked.
 */
#ifndef ATD_TESTS_UNIT_S3_UPLOAD_SCENE_H
#define ATD_TESTS_UNIT_S3_UPLOAD_SCENE_H

#include <criterion/criterion.h>
#include <string.h>

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

static struct atd_error err;
static struct atd_object_info info;
static char id[ATD_UPLOAD_ID_MAX + 1];
static struct atd_store_upload *upload;
static unsigned seen; /* requests that were looked at */

/* ------------------------------------------------------------------ helpers */

/* The replies that are written down here know it. */
static inline void setup_maker(void)
{
    setup();
    cr_assert_eq(strlen(atd_store_maker(store)), ATD_MAKER_LEN);
    memcpy(((struct atd_s3_store *)store)->maker, MAKER, sizeof(MAKER));
}

/* The next request is this, and has these headers (value NULL: must not be there). */
static inline void asked(const char *line)
{
    cr_assert_lt(seen, server_asked(), "nobody asked: %s", line);
    cr_assert_str_eq(server_request_line(seen), line);
    seen++;
}

static inline void asked_nothing_more(void)
{
    cr_assert_eq(server_asked(), seen, "%s", server_request_line(seen));
}

static inline void with_header(const char *name, const char *value)
{
    char found[256];

    if (!value) {
        cr_assert_null(server_header(seen - 1, name, found), "%s: %s", name, found);
        return;
    }
    cr_assert_not_null(server_header(seen - 1, name, found), "no %s", name);
    cr_assert_str_eq(found, value);
}

static inline void guarded(bool guards)
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

static inline void begin_upload(void)
{
    server_say(CREATED);
    cr_assert_eq(atd_store_upload_begin(store, ATD_STR(URL), 5, 20000, id, &upload, &err), 0, "%s",
                 err.text);
    cr_assert_str_eq(id, "id/1+");
    asked("POST /bucket/dir/a.tar?uploads= HTTP/1.1");
    with_header("x-amz-meta-atdatafs", MAKER);
}

static inline int send_part(unsigned number, const char *text)
{
    return atd_store_upload_part(upload, number, atd_str_bytes(atd_str_from(text)), 20000, &err);
}

static inline void send_parts(void)
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

static inline int finish(void)
{
    err = (struct atd_error)ATD_ERROR_INIT;
    int rc = atd_store_upload_finish(upload, 2, 20000, &info, &err);

    check_no_secret(err.text);
    return rc;
}

static inline void ready(void)
{
    guarded(true);
    begin_upload();
    send_parts();
}

#endif
