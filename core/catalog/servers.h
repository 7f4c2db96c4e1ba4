/*
 * The servers that shards lie on, as the locator asks them: one lesson at a time each, those that
 * did not answer left alone for a while, and who refuses LIST.
 *
 * Threads: any. Private to catalog.
 */
#ifndef ATD_CATALOG_SERVERS_H
#define ATD_CATALOG_SERVERS_H

#include "atdata/arena.h"
#include "atdata/error.h"
#include "base/lock.h"

#define ATD_SERVERS_MAX 64
#define ATD_SERVER_NAME_MAX 256
#define ATD_REFUSING_BUCKETS_MAX 64

/* The S3 endpoint, or one host of http(s) shards. Guarded by the lock of atd_servers. */
struct atd_server {
    char name[ATD_SERVER_NAME_MAX]; /* "" the endpoint */
    unsigned users;                 /* lessons that wait for it or ask it */
    bool taken;
    int64_t down_until_ms;
    struct atd_error down; /* why it is left alone */
};

struct atd_list_refusal {
    struct atd_str bucket; /* in the arena */
    int64_t until_ms;
};

struct atd_servers {
    struct atd_lock lock;
    pthread_cond_t given;
    /* guarded by lock */
    struct atd_server servers[ATD_SERVERS_MAX];
    unsigned count;
    struct atd_list_refusal refusals[ATD_REFUSING_BUCKETS_MAX];
    unsigned refusal_count;
    struct atd_arena arena;
};

void atd_servers_init(struct atd_servers *servers);
void atd_servers_release(struct atd_servers *servers);

/*
 * Waits for the server's turn: what somebody else learns meanwhile need not be asked again.
 * `name` shorter than ATD_SERVER_NAME_MAX. False: it is down, *ret_why says why. Blocks: on whoever
 * asks it now.
 */
bool atd_servers_take(struct atd_servers *servers, struct atd_str name,
                      struct atd_server **ret_server, struct atd_error *ret_why) ATD_MUST_USE;
/* `why` not NULL: it did not answer and is left alone for a while. */
void atd_servers_give(struct atd_servers *servers, struct atd_server *server,
                      const struct atd_error *why);

/* A bucket that refused LIST is not asked for one again for some minutes. */
bool atd_servers_refuses_list(struct atd_servers *servers, struct atd_str bucket);
void atd_servers_note_refusal(struct atd_servers *servers, struct atd_str bucket);

#endif
