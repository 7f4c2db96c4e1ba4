/*
 * What a walk over the keys missed: it is no look at one moment.
 *
 * A publish writes an entry, moves the label to it and renames the old entry, in one transaction. A
 * walk that listed the keys before it and reads the label after it would find the label pointing at
 * nothing; one that read the label before it and the old entry after it would find an older list of
 * shards under the dataset's name, although the new one is there. So, behind the walk:
 *
 *   entries that labels lead to and that were not read are read;
 *   labels NAME@ are read again when what they lead to is gone or bears a name that superseded
 *   entries get (NAME@superseded:CID, NAME@VERSION), and when a superseded entry of NAME was met;
 *   and so on with what these lead to, a few times.
 *
 * What changed meanwhile is reported again, and counts for more than what was reported first.
 */
#ifndef ATD_INDEX_REDIS_MISSED_H
#define ATD_INDEX_REDIS_MISSED_H

#include "atdata/buf.h"
#include "index/index.h"

/* Of what is kept of the labels; those beyond are not looked after. */
#define ATD_REDIS_MISSED_BYTES_MAX (64u << 20)
/* Readings of labels behind the walk: as many publishes of one dataset may come in between. */
#define ATD_REDIS_MISSED_ROUNDS_MAX 4u

struct atd_redis_missed {
    uint64_t *seen; /* digests of what is known, of all kinds; 0: free */
    size_t count;
    size_t capacity;       /* a power of two */
    uint64_t seed;         /* of the digests */
    struct atd_buf labels; /* that were read: redis_missed.c says how */
    size_t next_label;     /* whose entry is looked for */
    size_t next_doubt;     /* which may have to be read again */
    struct atd_buf names;  /* NAME of superseded entries: u32 length, bytes */
    size_t next_name;
    struct atd_buf again; /* keys of labels that are read again: u32 length, bytes */
    size_t next_again;
    unsigned rounds;
    bool incomplete; /* out of memory: then nothing is followed */
};

void atd_redis_missed_init(struct atd_redis_missed *missed);
void atd_redis_missed_release(struct atd_redis_missed *missed);

/* ------------------------------------------------------------------ what was read */

/* `key`: of an entry that was read, whatever it is like. */
void atd_redis_missed_note_entry(struct atd_redis_missed *missed, struct atd_str key);
/* Its name, when it has a sound one. */
void atd_redis_missed_note_name(struct atd_redis_missed *missed, struct atd_str key,
                                struct atd_str name);
/* `key`: of an entry that was asked for and is not there. */
void atd_redis_missed_note_gone(struct atd_redis_missed *missed, struct atd_str key);
/* Not while entries are asked for. False: it was read again, and leads where it led before. */
bool atd_redis_missed_note_label(struct atd_redis_missed *missed,
                                 const struct atd_index_label *label);

/* ------------------------------------------------------------------ what is to be read */

/* The next key of an entry that was not read, each once a round; false: that was all. Valid until
 * the next label is noted. */
bool atd_redis_missed_next_entry(struct atd_redis_missed *missed, struct atd_str *ret_key);

/* When all entries were answered: whether labels are to be read (again). */
bool atd_redis_missed_begin_round(struct atd_redis_missed *missed);
/* The next key of those; false: that was all. Valid until the next round. */
bool atd_redis_missed_next_label(struct atd_redis_missed *missed, struct atd_str *ret_key);

#endif
