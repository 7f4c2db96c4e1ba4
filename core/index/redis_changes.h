/*
 * Reads the records that may have changed: those whose keys a track has noted.
 *
 * What was published together is reported together. Its keys are told of one kind after the other,
 * and they are read one after the other; so after reading them all the track is asked for whatever
 * came before that (one round trip), and what is told of then is read (again) too, until nothing
 * is. What is reported has been the state of the server at one moment.
 */
#ifndef ATD_INDEX_REDIS_CHANGES_H
#define ATD_INDEX_REDIS_CHANGES_H

#include "index/redis_track.h"

/* Of replies, which are held till the last one is in; what is more is loaded rather. */
#define ATD_REDIS_CHANGES_BYTES_MAX (64u << 20)
/* Where somebody writes all the time, the rest is left for the next call, torn or not. */
#define ATD_REDIS_CHANGES_ROUNDS_MAX 24

/*
 * `data`: another link to the same server. Blocks: on the server. Errors: EFBIG; ESTALE when
 * anything may have changed meanwhile; the links', the error replies', the sink's. After any error
 * both links are of no use.
 */
int atd_redis_changes(struct atd_redis_link *data, struct atd_redis_track *track,
                      const struct atd_index_sink *sink, struct atd_error *err) ATD_MUST_USE;

#endif
