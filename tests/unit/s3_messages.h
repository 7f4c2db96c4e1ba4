/*
 * What the tests of requests to S3 share: where they go, when, and what is in them.
 */
#ifndef ATD_TESTS_UNIT_S3_MESSAGES_H
#define ATD_TESTS_UNIT_S3_MESSAGES_H

#include <criterion/criterion.h>

#include "net/s3_request.h"

#define NOW 1709251198 /* 20240229T235958Z */

static inline struct atd_s3_site site_of(const char *endpoint, enum atd_s3_style style)
{
    struct atd_s3_site site;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_s3_site_init(&site, endpoint, style, &err), 0, "%s: %s", endpoint, err.text);
    return site;
}

static inline struct atd_str header(const struct atd_http_message *message, const char *name)
{
    for (size_t i = 0; i < message->header_count; i++)
        if (atd_str_equal(message->headers[i].name, atd_str_from(name)))
            return message->headers[i].value;
    return (struct atd_str){NULL, 0};
}

#endif
