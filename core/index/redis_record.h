/*
 * One key of a Redis index and the reply to its reading, as a record of the index.
 * Source: ATDATA-FORMATS 1.2 to 1.4.
 */
#ifndef ATD_INDEX_REDIS_RECORD_H
#define ATD_INDEX_REDIS_RECORD_H

#include "index/index.h"
#include "index/redis_link.h"

enum atd_redis_kind { ATD_REDIS_ENTRY, ATD_REDIS_LABEL, ATD_REDIS_SCHEMA, ATD_REDIS_OTHER };

/* A pattern that lets all keys of ours through, and few others, in one SCAN. */
#define ATD_REDIS_KEYS_PATTERN "L[ao][bc][ae]l*"

enum atd_redis_kind atd_redis_kind_of(struct atd_str key);

/* What a key names: an entry's CID, "NAME@VERSION" of the others. */
struct atd_str atd_redis_subject_of(enum atd_redis_kind kind, struct atd_str key);

/* The command that reads a key of this kind: "HGETALL" or "GET". */
struct atd_str atd_redis_command_of(enum atd_redis_kind kind);

/*
 * Reports the record, or what is wrong with it, or nothing when the key has gone meanwhile.
 * `cut`: a part of the reply was too large to read. Errors: the sink's.
 */
int atd_redis_record_report(enum atd_redis_kind kind, struct atd_str key, const redisReply *reply,
                            bool cut, const struct atd_index_sink *sink,
                            struct atd_error *err) ATD_MUST_USE;

/* A problem of a key that is not read at all. */
void atd_redis_record_refuse(enum atd_redis_kind kind, struct atd_str key, const char *reason,
                             const struct atd_index_sink *sink);

#endif
