/*
 * redis://, rediss:// and unix:// URLs, as redis-cli and redis-py take them (S3-REDIS 6.6), and
 * those of a master that sentinels know, redis+sentinel://, as several Python and Java clients do.
 */
#ifndef ATD_INDEX_REDIS_URL_H
#define ATD_INDEX_REDIS_URL_H

#include <limits.h>

#include "atdata/error.h"
#include "atdata/str.h"

#define ATD_REDIS_TEXT_MAX 1024
#define ATD_REDIS_HOST_MAX 256
#define ATD_REDIS_SENTINELS_MAX 16u
#define ATD_REDIS_MASTER_MAX 128
#define ATD_REDIS_WAIT_MAX 100u
/* Of `wait`: one replica, while the master has any. */
#define ATD_REDIS_WAIT_AUTO UINT_MAX

struct atd_redis_place {
    char host[ATD_REDIS_HOST_MAX];
    unsigned port;
};

struct atd_redis_url {
    bool tls;
    bool tls_insecure;             /* ?ssl_cert_reqs=none: the user says so, for tests */
    char host[ATD_REDIS_HOST_MAX]; /* TCP; "" for a Unix socket, and with sentinels */
    unsigned port;
    char path[108]; /* Unix socket */
    unsigned db;
    char user[ATD_REDIS_TEXT_MAX];     /* "": none */
    char password[ATD_REDIS_TEXT_MAX]; /* "": none; a secret */
    char ca_file[ATD_REDIS_TEXT_MAX];  /* ?ssl_ca_certs=; "": none */
    char shown[512];                   /* the URL for people: no user, no password */
    unsigned wait; /* ?wait=: replicas that must have a change before it counts; or _WAIT_AUTO */
    unsigned sentinel_count; /* 0: the server is where the URL says */
    /* The one that answered last comes first. */
    struct atd_redis_place sentinels[ATD_REDIS_SENTINELS_MAX];
    char master[ATD_REDIS_MASTER_MAX]; /* what the sentinels call it */
    char sentinel_user[ATD_REDIS_TEXT_MAX];
    char sentinel_password[ATD_REDIS_TEXT_MAX]; /* a secret */
};

/*
 *   redis://[[USER]:PASSWORD@]HOST[:PORT][/DB][?db=N]    no ':' before '@': a password, no user
 *   rediss://... with ?ssl_cert_reqs=none|required and ?ssl_ca_certs=FILE too
 *   unix://[[USER]:PASSWORD@]/PATH[?db=N] and unix:/PATH
 *   redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/MASTER[/DB], with
 *       ?sentinel_username= and ?sentinel_password= too; user and password are the servers'
 *   rediss+sentinel://... TLS to the sentinels and to the servers
 *
 * All with ?wait=N: a change counts when N replicas have it (0: at once). With sentinels it is
 * ATD_REDIS_WAIT_AUTO when it is left out, else 0.
 *
 * No host: localhost; no port: 6379, a sentinel's 26379; no DB: 0. User, password, paths and
 * values are percent-decoded. What is not known is refused rather than ignored.
 *
 * Errors: EINVAL with what is wrong, without quoting what may hold a secret. A password is better
 * kept out of the command line: $ATDATA_REDIS_PASSWORD, or a file (option password_file).
 */
int atd_redis_url_parse(const char *text, struct atd_redis_url *ret_url,
                        struct atd_error *err) ATD_MUST_USE;

#define ATD_REDIS_PASSWORD_VARIABLE "ATDATA_REDIS_PASSWORD"
#define ATD_REDIS_USERNAME_VARIABLE "ATDATA_REDIS_USERNAME"
#define ATD_SENTINEL_PASSWORD_VARIABLE "ATDATA_SENTINEL_PASSWORD"
#define ATD_SENTINEL_USERNAME_VARIABLE "ATDATA_SENTINEL_USERNAME"

/*
 * Fills in what the URL leaves out, user names and passwords each by itself, from the variables
 * above; `get` is getenv() or a stand-in. Errors: EINVAL when a value is too long.
 */
int atd_redis_url_add_secrets(struct atd_redis_url *url, char *(*get)(const char *name),
                              struct atd_error *err) ATD_MUST_USE;

/*
 * A place as a sentinel names it: both texts are somebody else's. Errors: EPROTO when the host is
 * neither a host name nor an IP address, or the port none.
 */
int atd_redis_place_set(struct atd_redis_place *ret_place, struct atd_str host, struct atd_str port,
                        struct atd_error *err) ATD_MUST_USE;

/* "HOST:PORT" for people. */
#define ATD_REDIS_PLACE_TEXT_MAX (ATD_REDIS_HOST_MAX + 16)
void atd_redis_place_show(const struct atd_redis_place *place,
                          char ret_text[ATD_REDIS_PLACE_TEXT_MAX]);

#endif
