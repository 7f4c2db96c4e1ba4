/*
 * The publisher inside: what publications share. The files that belong to it:
 *
 *     publisher.c          open and close, what is known of the index and the store
 *     publisher_edit.c     the commit thread, and the thread that answers when a catalog shows it
 *     publisher_recover.c  what dead processes, and our own failures, left behind
 *     publisher_parts.c    memory of parts, whose turn it is
 *     publisher_names.c    URLs in use, schemas kept for datasets to come
 */
#ifndef ATD_PUBLISH_PUBLISHER_PRIVATE_H
#define ATD_PUBLISH_PUBLISHER_PRIVATE_H

#include <stdatomic.h>

#include "base/lock.h"
#include "base/workers.h"
#include "publish/journal.h"
#include "publish/publication.h"

#define ATD_PUBLISH_PUMPS 2u
#define ATD_PUBLISH_SENDERS 8u
#define ATD_PUBLICATIONS_MAX 16384u
#define ATD_EDITS_MAX 1024u
#define ATD_KEPT_SCHEMAS_MAX 4096u
/* How long a change may take to show before its maker is answered anyway. */
#define ATD_PUBLISH_SHOW_MS 3000u
/* A failure of the index or the store counts for so long as what the next publish would meet. */
#define ATD_PUBLISH_FAILED_MS 5000
#define ATD_RECOVER_EVERY_MS 60000u
/* So much less than from one look to the next an object must stay unnamed: clocks are steered. */
#define ATD_ORPHAN_LEEWAY 64u

/* Which of two servers was heard of last, and what it said. Guarded by the publisher's lock. */
struct atd_contact {
    int64_t failed_ms; /* 0: well, or not asked yet */
    struct atd_error why;
};

/* A URL that a publication uses, or a key whose fate is not known yet. */
struct atd_url_claim {
    struct atd_url_claim *next;
    char url[];
};

struct atd_kept_schema {
    struct atd_kept_schema *next;
    struct atd_str dataset; /* both behind it */
    struct atd_bytes json;
};

/* A part that waits for memory; the first member of what is sent. */
struct atd_part_claim {
    struct atd_work work; /* run by a sender when the memory is granted */
    struct atd_part_claim *next;
    uint64_t bytes;
};

/* A job of this process that could not be taken back, or whose outcome is unknown. */
struct atd_left_job {
    struct atd_left_job *next;
    struct atd_job job; /* owned */
};

struct atd_publisher {
    /* fixed from _open to _close */
    struct atd_publisher_options options; /* its texts are ours */
    bool is_disk;                         /* shards lie in a directory: nothing is streamed */
    unsigned timeout_ms;
    struct atd_journal *journal;
    struct atd_editor *editor; /* the commit thread's, and of whom it lets */
    struct atd_workers *pump;
    struct atd_workers *send;
    unsigned long commit_thread;
    unsigned long answer_thread;
    unsigned long recover_thread;
    unsigned started; /* of the three */
    unsigned recover_every_ms;

    atomic_bool closing;

    struct atd_lock lock;
    /* guarded by lock */
    bool stopping; /* the three threads end */
    struct atd_publication *publications;
    unsigned publication_count;
    pthread_cond_t idle; /* the last publication went */
    struct atd_publisher_edit *first_edit;
    struct atd_publisher_edit *last_edit;
    unsigned edit_count;
    pthread_cond_t edit_wake;
    struct atd_publisher_edit *first_answer;
    struct atd_publisher_edit *last_answer;
    bool no_more_answers;
    pthread_cond_t answer_wake;
    struct atd_left_job *left;
    bool recover_soon;
    bool recovered_once; /* what dead processes left was looked at */
    pthread_cond_t recover_wake;
    struct atd_url_claim *urls;
    struct atd_kept_schema *kept;
    unsigned kept_count;
    uint64_t part_bytes; /* granted */
    struct atd_part_claim *first_part;
    struct atd_part_claim *last_part;
    struct atd_contact index;
    struct atd_contact store;
    bool guards_known;
    bool guards;
    struct atd_publisher_stats stats;
};

/* ------------------------------------------------------------------ publisher.c */

/* What a call to the index or the store came to: for atd_publisher_ready(). */
void atd_publisher_note_index(struct atd_publisher *publisher, int rc, const struct atd_error *why);
void atd_publisher_note_store(struct atd_publisher *publisher, int rc, const struct atd_error *why);
void atd_publisher_count(struct atd_publisher *publisher, uint64_t *counter, uint64_t more);
void atd_publisher_tell(struct atd_publisher *publisher, const char *what, struct atd_str dataset,
                        struct atd_str file_name, struct atd_str url, struct atd_str cid,
                        const struct atd_error *why);

/* ------------------------------------------------------------------ publisher_edit.c */

/* As atd_publisher_edit(), never refused: for publications, whose number has a limit of its own. */
void atd_publisher_edit_own(struct atd_publisher *publisher, struct atd_publisher_edit *edit);
void *atd_publisher_commit_thread(void *publisher);
void *atd_publisher_answer_thread(void *publisher);
/* Lets both end when nothing waits any more. */
void atd_publisher_end_edits(struct atd_publisher *publisher);

/* ------------------------------------------------------------------ publisher_recover.c */

void *atd_publisher_recover_thread(void *publisher);
/* Settles the job in the background, and at the next start if need be. Its texts are taken; the
 * claim of its URL too. Without memory only the next start settles it. */
void atd_publisher_leave(struct atd_publisher *publisher, const struct atd_job *job);
void atd_publisher_free_left(struct atd_publisher *publisher);

/* ------------------------------------------------------------------ publisher_parts.c */

/* Queues a part until its memory is granted; then its work runs on a sender. */
void atd_publisher_send_part(struct atd_publisher *publisher, struct atd_part_claim *part);
/* The part's memory is free again. */
void atd_publisher_part_sent(struct atd_publisher *publisher, uint64_t bytes);

/* ------------------------------------------------------------------ publication_index.c */

/* Deletes what may lie beside the object of this URL. Errors: those of a delete. */
int atd_publisher_drop_index(struct atd_publisher *publisher, const char *url, unsigned timeout_ms,
                             struct atd_error *err) ATD_MUST_USE;

/* ------------------------------------------------------------------ publisher_names.c */

/* Errors: EBUSY somebody in this process uses it; ENOMEM. */
int atd_publisher_claim_url(struct atd_publisher *publisher, const char *url,
                            struct atd_error *err) ATD_MUST_USE;
void atd_publisher_release_url(struct atd_publisher *publisher, const char *url);

/* The schema kept for a dataset, decoded into `arena`; NULL: none, or it cannot be read. */
const struct atd_schema *atd_publisher_kept_schema(struct atd_publisher *publisher,
                                                   struct atd_str dataset, struct atd_arena *arena);
void atd_publisher_drop_schema(struct atd_publisher *publisher, struct atd_str dataset);
void atd_publisher_free_names(struct atd_publisher *publisher);

/* How a shard's URL begins: "PREFIX/DATASET/"; what a path cannot hold is encoded. */
void atd_publisher_append_place(const struct atd_publisher *publisher, struct atd_str dataset,
                                struct atd_buf *out);

#endif
