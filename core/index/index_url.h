/*
 * Which index a URL names, and how it is opened.
 *
 *   sqlite:PATH, sqlite:///PATH                      the library's SQLite file
 *   redis://, rediss://, unix://, redis+sentinel://  redis_url.h
 */
#ifndef ATD_INDEX_INDEX_URL_H
#define ATD_INDEX_INDEX_URL_H

#include "index/index.h"
#include "index/redis_url.h"
#include "index/writer.h"

struct atd_index_url {
    char *path;                  /* absolute path of the SQLite file; NULL: Redis */
    struct atd_redis_url *redis; /* NULL: SQLite */
};

/* True for text that names an index rather than a file or a directory. */
bool atd_is_index_url(const char *text);

/*
 * `ret_url` is to be released, also after a failure. Secrets that the URL leaves out are not looked
 * for (atd_redis_url_add_secrets). Errors: EINVAL with what to write instead, quoting nothing that
 * may hold a password; ENOMEM.
 */
int atd_index_url_parse(const char *text, struct atd_index_url *ret_url,
                        struct atd_error *err) ATD_MUST_USE;
/* Overwrites what was secret. */
void atd_index_url_release(struct atd_index_url *url);

/* For people, without secrets: what tells one index from another. */
const char *atd_index_url_shown(const struct atd_index_url *url);

/* `ca_file` is for Redis; NULL: the system's. Nothing is connected or created yet. Errors: as the
 * providers'. */
int atd_index_url_open(const struct atd_index_url *url, const char *ca_file,
                       struct atd_index **ret_index, struct atd_error *err) ATD_MUST_USE;
int atd_index_url_writer(const struct atd_index_url *url, const char *ca_file,
                         struct atd_index_writer **ret_writer, struct atd_error *err) ATD_MUST_USE;

#endif
