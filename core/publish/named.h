/*
 * Which objects the entries of an index name: what must not be deleted.
 *
 * Made of the raw records, all of them: superseded entries, several of one name, those that no
 * directory shows. In doubt an object is named: patterns count as they stand and expanded, a local
 * file under every name that leads to it, and what the library would open in ways of its own
 * (https://, relative paths, pipe:, ...) names every object whose last two segments are in it.
 *
 * Threads: one at a time to add; any to ask.
 */
#ifndef ATD_PUBLISH_NAMED_H
#define ATD_PUBLISH_NAMED_H

#include "atdata/error.h"
#include "atdata/str.h"
#include "index/index.h"

struct atd_named;

/* NULL when out of memory. */
struct atd_named *atd_named_new(void) ATD_MUST_USE;
void atd_named_free(struct atd_named *named);

/*
 * Adds what every entry of the index names now. Blocks: on the index, and on the disk for local
 * files. Errors: EBADMSG a record that may name something cannot be read (which, and how many):
 * then nobody knows what is named; ENODATA the index has no entry at all; the provider's; ENOMEM.
 */
int atd_named_load(struct atd_named *named, struct atd_index *index,
                   struct atd_error *err) ATD_MUST_USE;

/* Adds one URL as it stands in data_urls, or in a journal. Errors: ENOMEM. */
int atd_named_add(struct atd_named *named, struct atd_str url, struct atd_error *err) ATD_MUST_USE;

/*
 * Whether an object may be named: "s3://BUCKET/KEY" or an absolute path. A member index goes with
 * its shard. Blocks: on the disk for paths.
 */
bool atd_named_has(const struct atd_named *named, struct atd_str url);

size_t atd_named_entry_count(const struct atd_named *named);

#endif
