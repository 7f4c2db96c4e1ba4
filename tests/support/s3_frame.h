/*
 * An S3 store over a scripted server, with scripted credentials.
 */
#ifndef ATD_TESTS_S3_FRAME_H
#define ATD_TESTS_S3_FRAME_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/stores.h"
#include "support/one_get.h"
#include "support/store_server.h"

/* ------------------------------------------------------------------ credentials, scripted */

/*
 * The real module has threads and sources; what the store asks of it is this. The definitions here
 * take the place of the library's.
 */
#define KEY_ID "AKIDTEST"
#define SECRET "wJalrXUtnFEMISECRETKEY"
#define TOKEN "session-token-SECRET"

struct atd_credentials {
    unsigned pending;  /* so many _get say EAGAIN */
    unsigned renewals; /* so many _refuse are worth it */
    unsigned refused;
    bool has_none;
    const char *region;
    char token[64];
};

int atd_credentials_get(struct atd_credentials *credentials, struct atd_credential *ret_value,
                        struct atd_error *err)
{
    if (credentials->has_none)
        return atd_error_set(err, EACCES, "no credentials were found");
    if (credentials->pending > 0) {
        credentials->pending--;
        return atd_error_set_retryable(err, EAGAIN, "credentials are being fetched");
    }
    *ret_value = (struct atd_credential){.access_key_id = KEY_ID, .secret_access_key = SECRET};
    (void)strcpy(ret_value->session_token, credentials->token);
    return 0;
}

bool atd_credentials_refuse(struct atd_credentials *credentials, const struct atd_credential *used)
{
    cr_assert_str_eq(used->access_key_id, KEY_ID);
    cr_assert_str_eq(used->session_token, credentials->token);
    credentials->refused++;
    if (credentials->renewals == 0)
        return false;
    credentials->renewals--;
    credentials->pending = 2;
    (void)snprintf(credentials->token, sizeof(credentials->token), TOKEN "-%u",
                   credentials->refused);
    return true;
}

const char *atd_credentials_region(const struct atd_credentials *credentials)
{
    return credentials->region;
}

/* ------------------------------------------------------------------ frame */

static struct atd_credentials credentials;
static struct atd_store *store;

/* What a server may know of us and what it sent itself: never in a sentence. */
static void check_no_secret(const char *text)
{
    cr_assert_null(strstr(text, SECRET), "%s", text);
    cr_assert_null(strstr(text, "SECRET"), "%s", text);
    cr_assert_null(strstr(text, "Signature"), "%s", text);
}

static void open_store(bool is_signed)
{
    char endpoint[64];
    struct atd_s3_options options = {
        .endpoint = endpoint,
        .credentials = is_signed ? &credentials : NULL,
        .limits = &server_limits,
    };
    struct atd_error err = ATD_ERROR_INIT;

    server_url(endpoint, sizeof(endpoint), "");
    cr_assert_eq(atd_store_s3_new(engine, &options, &store, &err), 0, "%s", err.text);
}

static void setup(void)
{
    server_setup();
    open_store(true);
}

static void teardown(void)
{
    atd_store_free(store);
    server_teardown();
}

#define URL "s3://bucket/dir/a.tar"
#define PART "HTTP/1.1 206 Partial Content\r\n"
#define OK "HTTP/1.1 200 OK\r\n"

static const struct atd_object_info expected = {.size_bytes = 100, .etag = "abc"};
#define MALFORMED_BODY \
    "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
#define MALFORMED "HTTP/1.1 400 Bad Request\r\nContent-Length: 82\r\n\r\n" MALFORMED_BODY
#define HI PART "Content-Range: bytes 0-1/2\r\nContent-Length: 2\r\nETag: \"x\"\r\n\r\nhi"

#endif
