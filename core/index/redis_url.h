/*
 * redis://, rediss:// and unix:// URLs, as redis-cli and redis-py take them. Source: S3-REDIS 6.6.
 */
#ifndef ATD_INDEX_REDIS_URL_H
#define ATD_INDEX_REDIS_URL_H

#include "atdata/error.h"
#include "atdata/str.h"

#define ATD_REDIS_TEXT_MAX 1024

struct atd_redis_url {
    bool tls;
    bool tls_insecure; /* ?ssl_cert_reqs=none: the user says so, for tests */
    char host[256];    /* TCP; "" for a Unix socket */
    unsigned port;
    char path[108]; /* Unix socket */
    unsigned db;
    char user[ATD_REDIS_TEXT_MAX];     /* "": none */
    char password[ATD_REDIS_TEXT_MAX]; /* "": none; a secret */
    char ca_file[ATD_REDIS_TEXT_MAX];  /* ?ssl_ca_certs=; "": none */
    char shown[512];                   /* the URL for people: no user, no password */
};

/*
 *   redis://[[USER]:PASSWORD@]HOST[:PORT][/DB][?db=N]    no ':' before '@': a password, no user
 *   rediss://... with ?ssl_cert_reqs=none|required and ?ssl_ca_certs=FILE too
 *   unix://[[USER]:PASSWORD@]/PATH[?db=N] and unix:/PATH
 *
 * No host: localhost; no port: 6379; no DB: 0. User, password, paths and values are
 * percent-decoded. What is not known is refused rather than ignored.
 *
 * Errors: EINVAL with what is wrong, without quoting what may hold a secret. A password is better
 * kept out of the command line: $ATDATA_REDIS_PASSWORD, or a file (option password_file).
 */
int atd_redis_url_parse(const char *text, struct atd_redis_url *ret_url,
                        struct atd_error *err) ATD_MUST_USE;

#define ATD_REDIS_PASSWORD_VARIABLE "ATDATA_REDIS_PASSWORD"
#define ATD_REDIS_USERNAME_VARIABLE "ATDATA_REDIS_USERNAME"

/*
 * Fills in what the URL leaves out, user name and password each by itself, from the two variables
 * above; `get` is getenv() or a stand-in. Errors: EINVAL when a value is too long.
 */
int atd_redis_url_add_secrets(struct atd_redis_url *url, char *(*get)(const char *name),
                              struct atd_error *err) ATD_MUST_USE;

#endif
