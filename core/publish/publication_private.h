/*
 * A publication inside: an actor. Whoever wants something leaves a request under the lock and
 * kicks; its run, on one pump thread at a time, is the only one that decides and changes states.
 * What blocks on a server is done elsewhere and reports back the same way:
 *
 *     publication.c         what callers do: bytes, requests
 *     publication_state.c   the states: table, invariants, answers
 *     publication_pump.c    the run: requests and reports, what comes next
 *     publication_check.c   reading along, the check
 *     publication_send.c    what lies in the store: parts, when to begin, when to take back
 *     publication_step.c    one thing at the store, on a sender: key, begin, finish, delete
 *     publication_index.c   the member index beside the object
 *     publication_commit.c  what the commit thread does for it: look, commit, time
 *
 * What lies in the store (enum atd_sending_state), the actor's too:
 *
 *     NONE --open--> OPENING --begun--> OPEN --all parts sent--> FINISHING --made--> MADE -->
 * (entry) |                |                |  (void, failed)           | failed          | void |
 * | failed         v                           v                 v
 *      +--put, adopt--> FINISHING     UNDOING <---------------------(+)<---------------+
 *      ^                |                |
 *      +----------------+----------------+
 */
#ifndef ATD_PUBLISH_PUBLICATION_PRIVATE_H
#define ATD_PUBLISH_PUBLICATION_PRIVATE_H

#include "base/clock.h"
#include "publish/inspect.h"
#include "publish/publisher_private.h"

#define ATD_FEED_BYTES ((size_t)1 << 20)
/* A turn of one publication; then others have theirs. */
#define ATD_TURN_FEEDS 16u
/* Parts of one publication on their way: what its writer may be ahead, and the next. */
#define ATD_PARTS_OUT_MAX 6u
/* The dataset is looked up ahead of the check when so much came, else only then. */
#define ATD_LOOK_EARLY_BYTES ((uint64_t)1 << 20)
/* Sendings of one content: a stream, and what goes wrong at a key. */
#define ATD_SEND_TRIES 4u
/* A check begins again when somebody wrote meanwhile: so many times, and for the timeout, in any
 * case. */
#define ATD_CHECK_TRIES 64u
#define ATD_PUBLICATION_URL_MAX 2048u
#define ATD_LOOK_ARENA_MAX ((size_t)512 << 20)

enum atd_turn { ATD_TURN_IDLE, ATD_TURN_QUEUED, ATD_TURN_RUNNING, ATD_TURN_AGAIN };

/* ------------------------------------------------------------------ what lies in the store */

enum atd_sending_state {
    ATD_SENDING_NONE,
    ATD_SENDING_OPENING,
    ATD_SENDING_OPEN,
    ATD_SENDING_FINISHING,
    ATD_SENDING_MADE,
    ATD_SENDING_UNDOING,
};

/* Which key: each is tried when the one before it is in use. */
enum atd_key { ATD_KEY_PLAIN, ATD_KEY_HASHED, ATD_KEY_RANDOM, ATD_KEY_COUNT };

enum atd_step { ATD_STEP_OPEN, ATD_STEP_PUT, ATD_STEP_ADOPT, ATD_STEP_FINISH, ATD_STEP_UNDO };

struct atd_sending {
    enum atd_sending_state state;
    bool is_void;   /* to be taken back: cancelled, changed, another name */
    bool cancelled; /* the upload was told */
    bool is_stream; /* begun before the check */
    bool is_last;   /* parts up to the end of the file may go */
    int rc;         /* what became of it: 0, or why it failed */
    struct atd_error why;
    enum atd_key key;   /* the one that was taken */
    struct atd_job job; /* number, dataset and url are ours */
    struct atd_store_upload *upload;
    uint64_t epoch; /* of the spool's bytes */
    uint64_t part_bytes;
    unsigned next_part; /* from 1 */
    unsigned parts_out;
    uint8_t arrived[(ATD_UPLOAD_PARTS_MAX + 8) / 8]; /* bit `number`: the part was sent */
    unsigned arrived_upto;                           /* parts 1 to it were */
    bool may_have_index;  /* one was sent: whoever takes the object back, takes it too */
    uint64_t index_bytes; /* of the member index beside the object; 0: none */
};

/* One thing at the store, done by a sender; one at a time. */
struct atd_sending_step {
    struct atd_part_claim claim; /* first: its work */
    enum atd_step what;
    enum atd_key first_key;
    bool may_try_keys; /* the others too: with the whole file's hash known */
    uint64_t size_bytes;
    unsigned part_count;
    char sha256_hex[65];
    struct atd_buf index; /* of the object to be made; empty: it gets none */
    int rc;
    struct atd_error why;
    int64_t took_ms;
};

struct atd_part {
    struct atd_part_claim claim; /* first */
    struct atd_publication *publication;
    struct atd_store_upload *upload;
    struct atd_part *next;
    unsigned number;
    uint64_t offset;
    size_t len;
    int rc;
    struct atd_error why;
};

/* ------------------------------------------------------------------ the commit thread's part */

/* The dataset as it was read, with what the publication has to know of it. */
struct atd_look {
    unsigned refs; /* the actor's */
    struct atd_arena arena;
    bool is_kept; /* the schema is one that waited for its dataset's first shard */
    const struct atd_schema *schema; /* what samples must conform to; NULL: anything */
    struct atd_str twin_url;         /* a shard of our file name; empty: none */
    struct atd_str twin_sha256;      /* empty: unknown */
    struct atd_str twin_etag;
    uint64_t twin_size;
    uint64_t twin_index_bytes;
};

struct atd_publication_edit {
    struct atd_publisher_edit edit; /* first */
    struct atd_publication *publication;
    bool is_out;  /* the actor's: queued or being done */
    bool is_back; /* guarded by the publication's lock */
    int rc;
    struct atd_error why;
};

/* ------------------------------------------------------------------ the publication */

struct atd_publication {
    struct atd_work work; /* first: on the pump */
    struct atd_publisher *publisher;
    struct atd_spool *spool;
    atomic_int turn; /* enum atd_turn */

    /* guarded by the publisher's lock */
    struct atd_publication *next;
    struct atd_publication *previous;

    struct atd_lock lock;
    /* guarded by lock; the state is written by the actor only */
    enum atd_publication_state state;
    struct atd_error why;
    unsigned users;
    unsigned writers;        /* changing the spool just now */
    uint64_t change;         /* goes up with every change of the bytes */
    uint64_t checked_change; /* of the last verdict */
    bool has_name;
    bool poison;        /* a write failed */
    bool heal;          /* truncated to 0 since it was spoiled */
    bool is_given_away; /* an entry may name the spool file itself: it is never written again */
    bool cancel;
    bool looks_like_tar; /* a scratch file over its limit */
    int64_t mtime_ns;
    uint64_t kicked_end; /* the ordered end that the actor was told of */
    bool holding;        /* writers must not be too far ahead of sent_bytes */
    uint64_t sent_bytes;
    struct atd_publication_wait *held;
    struct atd_publication_wait *hints;
    struct atd_publication_wait *checks;
    struct atd_publication_wait *publishes;
    char *asked_dataset; /* the names of the last publish, until the actor takes them */
    char *asked_file_name;
    char *asked_replaces;
    bool asked_lost; /* there was no memory for them */
    struct atd_part *parts_back;
    bool step_back;
    char published_url[ATD_PUBLICATION_URL_MAX];
    struct atd_cid cid;

    /* the actor's; while a step or an edit is out, some are its */
    char *dataset;
    char *file_name; /* "" not known */
    char *replaces;
    bool ended;
    uint64_t now_change; /* as of this turn */
    unsigned now_writers;
    bool now_leaving; /* nobody uses it any more, or the publisher closes */

    struct atd_look *look;      /* the newest */
    struct atd_look *look_new;  /* the commit thread's while looking is out */
    struct atd_look *look_used; /* whose schema the inspection has */
    struct atd_publication_edit looking;
    bool look_failed;
    bool named_anew; /* since the last check began */

    struct atd_inspection *inspection;
    uint64_t inspected_epoch;
    bool has_feed_error;
    bool has_verdict; /* on the content of verdict_change */
    uint64_t verdict_change;
    int verdict_rc;
    struct atd_error verdict_why;
    struct atd_inspect_result result; /* verdict_rc 0 */

    uint64_t check_change; /* the content that is being checked */
    unsigned check_tries;
    int64_t check_began_ms;
    bool check_looked; /* the dataset was read for this check */

    bool no_stream; /* not before the check */
    bool no_adopt;  /* the store could not take the spool file over */
    unsigned send_tries;
    enum atd_key first_key;
    struct atd_sending sending;
    struct atd_sending_step step;
    bool step_out;
    bool is_reused; /* the same bytes are listed already: nothing of ours is in the store */

    struct atd_publication_edit committing;
    struct atd_edit_result commit_result;
    bool commit_unknown;
    bool commit_not_needed; /* somebody else's object of the same bytes is listed */
    char commit_url[ATD_PUBLICATION_URL_MAX];
    int64_t committed_mtime_ns;

    struct atd_publication_edit timing;
    int64_t timing_mtime_ns;
};

/* ------------------------------------------------------------------ publication.c */

/* Has the actor run. Any thread, with any lock below ATD_RANK_WORKERS. */
void atd_publication_kick(struct atd_publication *publication);
/* The publisher does not know it any more. */
void atd_publication_delist(struct atd_publication *publication);

/* ------------------------------------------------------------------ publication_state.c */

void atd_publication_move(struct atd_publication *publication, enum atd_publication_state to,
                          const struct atd_error *why);
/* Only when nobody changed the content that was checked, nor does now; else false. */
bool atd_publication_move_unchanged(struct atd_publication *publication,
                                    enum atd_publication_state to);
bool atd_publication_is_unchanged(struct atd_publication *publication);
/* Spoiled for writers: POISONED or REFUSED and not truncated since. */
bool atd_publication_is_spoiled_locked(const struct atd_publication *publication);
/* Somebody who waits for a verdict or a publish was given up for, or all of them were. */
bool atd_publication_is_cancelled_locked(const struct atd_publication *publication);
/* The same of a writer who is held. */
bool atd_publication_is_held_in_vain_locked(const struct atd_publication *publication);
void atd_publication_check_locked(const struct atd_publication *publication);
/* Answers everybody who waits for a verdict or a publish. `why` NULL: fine. */
void atd_publication_answer(struct atd_publication *publication, const struct atd_error *why);
/* Only those who wait for a check (hints with them), or only for a hint. */
void atd_publication_answer_checks(struct atd_publication *publication,
                                   const struct atd_error *why);
void atd_publication_answer_hints(struct atd_publication *publication);
/* Writers who need not wait any more; with an error when the file is spoiled. */
void atd_publication_answer_held(struct atd_publication *publication);

/* REFUSED, and everybody is told; what was sent is taken back. */
void atd_publication_refuse(struct atd_publication *publication, const struct atd_error *why,
                            bool is_news);

/* ------------------------------------------------------------------ publication_check.c */

/* While it is being written: what is there in order. True: more to do at once. */
bool atd_check_read_along(struct atd_publication *publication,
                          const struct atd_spool_progress *progress);
void atd_check_begin(struct atd_publication *publication);
/* CHECKING. `only_hint`: nobody wants a verdict on a file that is not whole. True: more at once. */
bool atd_check_go_on(struct atd_publication *publication, bool only_hint);
/* The dataset was looked up. */
void atd_check_take_look(struct atd_publication *publication);
/* What was inspected is void. */
void atd_check_drop(struct atd_publication *publication);

/* ------------------------------------------------------------------ publication_pump.c */

void atd_publication_run(struct atd_work *work);
/* ------------------------------------------------------------------ publication_send.c */

/* Takes the reports of steps and parts in. */
void atd_sending_take_reports(struct atd_publication *publication, bool step_back,
                              struct atd_part *parts_back);
/* What is under way is of no use any more; it will be taken back. */
void atd_sending_void(struct atd_publication *publication);
/* Does what is due by itself: queues parts, takes back. */
void atd_sending_drive(struct atd_publication *publication,
                       const struct atd_spool_progress *progress);
/* In a check with a good verdict: brings it on to MADE, a bit with every turn. Errors: it cannot be
 * sent. */
int atd_sending_complete(struct atd_publication *publication, bool *ret_made,
                         struct atd_error *err) ATD_MUST_USE;
/* The entry names the object: it is not ours to take back any more. */
void atd_sending_forget(struct atd_publication *publication);
/* Others must find out what became of it. */
void atd_sending_leave(struct atd_publication *publication);
bool atd_sending_is_idle(const struct atd_publication *publication);

/* ------------------------------------------------------------------ publication_step.c */

void atd_sending_run_step(struct atd_work *work);

/* ------------------------------------------------------------------ publication_index.c */

/* The actor's, before the step that makes the object: the bytes of its index. */
void atd_sending_make_index(struct atd_publication *publication);
/* The step's, when the object is there. */
void atd_sending_put_index(struct atd_publication *publication);

/* ------------------------------------------------------------------ publication_commit.c */

void atd_publication_start_look(struct atd_publication *publication);
void atd_publication_start_commit(struct atd_publication *publication);
void atd_publication_start_timing(struct atd_publication *publication, int64_t mtime_ns);
void atd_look_unref(struct atd_look *look);

#endif
