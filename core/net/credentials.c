#include "net/credentials.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "base/workers.h"
#include "net/credentials_testing.h"
#include "net/creds_chain.h"

/* A new value is fetched so long before the old one expires, or half its life if that is less. */
#define REFRESH_AHEAD_S 900
#define REFRESH_LEAST_S 30
#define FORCED_LEAST_S 10
#define BACKOFF_FIRST_S 1
#define BACKOFF_MAX_S 120
#define BACKOFF_DOUBLINGS_MAX 7u
/* The thread never sleeps longer: a suspended machine's monotonic clock stands still. */
#define NAP_MAX_S 3600
#define NEVER INT64_MAX

/*
 *             get, retry_at_s over
 *   NOTHING ------------------------> AWAITED --- settle: fetched ----------> SERVED
 *      ^                               |   ^ \--- settle: failed, value lives --> ^
 *      \--- settle: failed, no value --/   \--- refuse; get, expired, retry_at_s over --- SERVED
 *
 * SERVED with a fetch under way beside it (due_s was reached) goes on being served. Expired, and
 * the last fetch failed less than its backoff ago: SERVED, but get says why.
 */
enum state { STATE_NOTHING, STATE_AWAITED, STATE_SERVED };

struct atd_credentials {
    struct atd_lock lock;
    pthread_cond_t wake;

    /* guarded by lock */
    enum state state;
    struct atd_credential value; /* SERVED: what is given out; else an old one or empty */
    bool may_change;             /* another fetch may give another value */
    const char *source;
    bool is_wanted;     /* a fetch shall begin now */
    bool is_fetching;   /* one is under way */
    int64_t due_s;      /* the thread fetches by itself then; NEVER */
    int64_t retry_at_s; /* after a failure: nothing is asked before */
    unsigned failures;  /* in a row */
    int64_t forced_s;   /* when a refusal last forced a fetch */
    bool was_forced;
    struct atd_error why; /* of the last failure */
    bool has_thread;
    bool is_starting;
    bool is_stopping;

    /* fixed */
    struct atd_creds_env env;
    struct atd_arena arena; /* of env and the next two; has secrets */
    const char *region;
    const char *endpoint;
    unsigned long thread;
    int stop_fd;
};

static void check_locked(const struct atd_credentials *credentials)
{
    atd_paranoid(credentials->state != STATE_SERVED || credentials->value.access_key_id[0]);
    atd_paranoid(credentials->state != STATE_AWAITED || credentials->is_wanted ||
                 credentials->is_fetching);
    atd_paranoid(credentials->state != STATE_NOTHING || !credentials->is_wanted);
    (void)credentials;
}

static bool is_alive(const struct atd_credential *value, int64_t now_s)
{
    return value->access_key_id[0] && (value->expires_s == 0 || now_s < value->expires_s);
}

/* ------------------------------------------------------------------ one fetch */

struct fetched {
    struct atd_credential value;
    const char *source;
    bool may_change;
    struct atd_error why; /* code 0: there is a value */
};

/* The sentence when the chain came to its end: everything that was looked at. */
static void tell_all(const struct atd_creds_env *env, const struct atd_creds_plan *plan,
                     struct atd_error *why)
{
    struct atd_error last = *why;
    const char *config = env->config_path ? env->config_path : "~/.aws/config";
    const char *keys = env->credentials_path ? env->credentials_path : "~/.aws/credentials";

    (void)atd_error_set(
        why, EACCES,
        "no credentials: nothing in %sprofile '%.64s' of '%.80s' and '%.80s', "
        "AWS_WEB_IDENTITY_TOKEN_FILE, AWS_CONTAINER_CREDENTIALS_*; %s",
        env->profile_is_named ? "" : "AWS_ACCESS_KEY_ID, ", env->profile, config, keys,
        plan->root == ATD_CREDS_ROOT_NONE ? "instance metadata is off (AWS_EC2_METADATA_DISABLED)"
                                          : last.text);
    why->retryable = last.retryable;
}

/* Files are read anew each time: whoever edits a profile means it. */
static void fetch(const struct atd_creds_env *env, struct fetched *ret_fetched)
{
    struct atd_arena arena = ATD_ARENA_INIT(ATD_CREDS_ARENA_MAX);
    struct atd_creds_plan plan;
    int rc = atd_creds_plan_make(env, &arena, &plan, &ret_fetched->why);
    bool is_last = rc == 0 && plan.role_count == 0 &&
                   (plan.root == ATD_CREDS_ROOT_NONE ||
                    (plan.root == ATD_CREDS_ROOT_METADATA && strcmp(plan.source, "profile") != 0));

    if (rc == 0)
        rc = atd_creds_plan_run(&plan, env, &arena, &ret_fetched->value, &ret_fetched->why);
    if (rc && is_last)
        tell_all(env, &plan, &ret_fetched->why);
    ret_fetched->source = plan.source;
    ret_fetched->may_change = !atd_creds_plan_is_static(&plan) || plan.may_change;
    ret_fetched->why.code = rc ? EACCES : 0;
    atd_arena_wipe(&arena);
}

/* ------------------------------------------------------------------ the thread */

static int64_t due_of(const struct atd_credential *value, int64_t now_s)
{
    int64_t life_s = value->expires_s - now_s;
    int64_t due_s = value->expires_s - REFRESH_AHEAD_S;

    if (value->expires_s == 0)
        return NEVER;
    if (life_s < 2 * REFRESH_AHEAD_S)
        due_s = now_s + life_s / 2;
    if (due_s < now_s + REFRESH_LEAST_S)
        due_s = now_s + REFRESH_LEAST_S;
    return due_s < value->expires_s ? due_s : value->expires_s;
}

static void fail_locked(struct atd_credentials *credentials, const struct atd_error *why,
                        int64_t now_s)
{
    unsigned doublings = credentials->failures < BACKOFF_DOUBLINGS_MAX ? credentials->failures
                                                                       : BACKOFF_DOUBLINGS_MAX;
    int64_t backoff_s = (int64_t)BACKOFF_FIRST_S << doublings;
    bool lives = is_alive(&credentials->value, now_s);

    credentials->failures++;
    credentials->why = *why;
    credentials->retry_at_s = now_s + (backoff_s < BACKOFF_MAX_S ? backoff_s : BACKOFF_MAX_S);
    /* Without a value to keep alive, only who asks for one makes us try. */
    credentials->due_s = lives ? credentials->retry_at_s : NEVER;
    credentials->state = lives ? STATE_SERVED : STATE_NOTHING;
}

static void settle_locked(struct atd_credentials *credentials, const struct fetched *fetched,
                          int64_t now_s)
{
    struct atd_error expired = ATD_ERROR_INIT;

    credentials->is_fetching = false;
    credentials->is_wanted = false;
    credentials->source = fetched->source;
    if (fetched->why.code) {
        fail_locked(credentials, &fetched->why, now_s);
    } else if (!is_alive(&fetched->value, now_s)) {
        (void)atd_error_set(&expired, EACCES,
                            "%s: the credentials that it gave had expired already; is this "
                            "machine's clock right?",
                            fetched->source);
        fail_locked(credentials, &expired, now_s);
    } else {
        credentials->value = fetched->value;
        credentials->may_change = fetched->may_change;
        credentials->failures = 0;
        credentials->retry_at_s = now_s;
        credentials->due_s = due_of(&fetched->value, now_s);
        credentials->state = STATE_SERVED;
    }
    check_locked(credentials);
}

static void nap_locked(struct atd_credentials *credentials, int64_t now_s)
{
    int64_t left_s;

    if (credentials->due_s == NEVER) {
        atd_cond_wait(&credentials->wake, &credentials->lock);
        return;
    }
    left_s = credentials->due_s - now_s;
    atd_cond_wait_ms(&credentials->wake, &credentials->lock,
                     (unsigned)(left_s < NAP_MAX_S ? left_s : NAP_MAX_S) * 1000u);
}

static void *run(void *ctx)
{
    struct atd_credentials *credentials = ctx;
    struct fetched fetched;

    atd_lock_take(&credentials->lock);
    while (!credentials->is_stopping) {
        int64_t now_s = atd_creds_now_s(&credentials->env);

        if (!credentials->is_wanted && now_s < credentials->due_s) {
            nap_locked(credentials, now_s);
            continue;
        }
        credentials->is_wanted = false;
        credentials->is_fetching = true;
        atd_lock_give(&credentials->lock);
        memset(&fetched, 0, sizeof(fetched));
        fetch(&credentials->env, &fetched);
        atd_lock_take(&credentials->lock);
        settle_locked(credentials, &fetched, atd_creds_now_s(&credentials->env));
    }
    atd_lock_give(&credentials->lock);
    explicit_bzero(&fetched, sizeof(fetched));
    return NULL;
}

/* Not in _new: a daemon forks after it, and threads do not come along. */
static int start_thread(struct atd_credentials *credentials, struct atd_error *err)
{
    unsigned long thread = 0;
    int rc = atd_thread_start("credentials", run, credentials, &thread, err);

    atd_lock_take(&credentials->lock);
    credentials->is_starting = false;
    credentials->has_thread = rc == 0;
    credentials->thread = thread;
    atd_lock_give(&credentials->lock);
    if (rc == 0)
        return 0;
    return atd_error_set_retryable(err, EAGAIN, "credentials: cannot start a thread: %s",
                                   strerror(-rc));
}

/* Has the thread look; true when the caller must start it first. */
static bool wake_locked(struct atd_credentials *credentials)
{
    bool must_start = !credentials->has_thread && !credentials->is_starting;

    credentials->is_starting |= must_start;
    (void)pthread_cond_signal(&credentials->wake);
    return must_start;
}

static void await_locked(struct atd_credentials *credentials)
{
    credentials->state = STATE_AWAITED;
    credentials->is_wanted = !credentials->is_fetching;
}

/* ------------------------------------------------------------------ made and freed */

static int keep(struct atd_arena *arena, const char *text, const char **ret_text,
                struct atd_error *err)
{
    *ret_text = text ? atd_arena_str(arena, atd_str_from(text)).ptr : NULL;
    return !text || *ret_text ? 0 : atd_error_set(err, ENOMEM, "credentials: out of memory");
}

/*
 * The first plan. What was named must work now; what was only found is complained about when
 * somebody needs it, for a broken default profile must not keep local files from being mounted.
 */
static int first_plan(struct atd_credentials *credentials, struct atd_error *err)
{
    struct atd_arena arena = ATD_ARENA_INIT(ATD_CREDS_ARENA_MAX);
    const struct atd_creds_env *env = &credentials->env;
    struct atd_creds_plan plan;
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_creds_plan_make(env, &arena, &plan, &why);
    int kept = keep(&credentials->arena, plan.region, &credentials->region, err);

    if (kept == 0)
        kept = keep(&credentials->arena, plan.endpoint, &credentials->endpoint, err);
    credentials->source = plan.source;
    credentials->may_change = rc != 0 || !atd_creds_plan_is_static(&plan) || plan.may_change;
    if (rc == 0 && atd_creds_plan_is_static(&plan)) {
        rc = atd_creds_plan_run(&plan, env, &arena, &credentials->value, &why);
        if (rc == 0)
            credentials->state = STATE_SERVED;
    }
    atd_arena_wipe(&arena);
    if (kept)
        return kept;
    if (rc && (env->env_file || env->profile_is_named)) {
        if (err)
            *err = why;
        return rc;
    }
    return 0;
}

int atd_credentials_new(const struct atd_credentials_options *options,
                        struct atd_credentials **ret_credentials, struct atd_error *err)
{
    struct atd_credentials *credentials = calloc(1, sizeof(*credentials));
    int rc;

    if (!credentials)
        return atd_error_set(err, ENOMEM, "credentials: out of memory");
    atd_lock_init(&credentials->lock, ATD_RANK_CREDENTIALS);
    atd_cond_init(&credentials->wake);
    atd_arena_init(&credentials->arena, ATD_CREDS_ARENA_MAX);
    credentials->due_s = NEVER;
    credentials->retry_at_s = INT64_MIN;
    credentials->source = "none";
    credentials->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = credentials->stop_fd >= 0 ? 0
                                   : atd_error_set(err, errno, "credentials: %s", strerror(errno));
    if (rc == 0)
        rc = atd_creds_env_init(&credentials->env, options, &credentials->arena, err);
    credentials->env.stop_fd = credentials->stop_fd;
    if (rc == 0)
        rc = first_plan(credentials, err);
    if (rc) {
        (void)atd_credentials_free(credentials, 0);
        return rc;
    }
    *ret_credentials = credentials;
    return 0;
}

void atd_credentials_set_clock(struct atd_credentials *credentials, int64_t (*now_s)(void *ctx),
                               void *ctx)
{
    credentials->env.now_s = now_s;
    credentials->env.now_ctx = ctx;
}

bool atd_credentials_is_idle(struct atd_credentials *credentials)
{
    bool is_idle;

    atd_lock_take(&credentials->lock);
    is_idle = !credentials->is_wanted && !credentials->is_fetching;
    atd_lock_give(&credentials->lock);
    return is_idle;
}

void atd_credentials_set_patience(struct atd_credentials *credentials, unsigned factor)
{
    atd_assert(factor >= 1 && factor <= 100);
    credentials->env.patience = factor;
}

bool atd_credentials_free(struct atd_credentials *credentials, unsigned timeout_ms)
{
    bool has_thread;

    if (!credentials)
        return true;
    atd_lock_take(&credentials->lock);
    credentials->is_stopping = true;
    has_thread = credentials->has_thread;
    (void)pthread_cond_broadcast(&credentials->wake);
    atd_lock_give(&credentials->lock);
    if (has_thread) {
        (void)eventfd_write(credentials->stop_fd, 1);
        if (!atd_thread_join(credentials->thread, timeout_ms))
            return false;
    }
    if (credentials->stop_fd >= 0)
        (void)close(credentials->stop_fd);
    atd_arena_wipe(&credentials->arena);
    (void)pthread_cond_destroy(&credentials->wake);
    atd_lock_destroy(&credentials->lock);
    explicit_bzero(credentials, sizeof(*credentials));
    free(credentials);
    return true;
}

/* ------------------------------------------------------------------ used */

enum answer { ANSWER_VALUE, ANSWER_WAIT, ANSWER_WHY };

static enum answer answer_locked(struct atd_credentials *credentials, int64_t now_s)
{
    if (credentials->state == STATE_SERVED && is_alive(&credentials->value, now_s))
        return ANSWER_VALUE;
    if (credentials->state == STATE_AWAITED)
        return ANSWER_WAIT;
    if (!credentials->is_fetching && now_s < credentials->retry_at_s)
        return ANSWER_WHY;
    await_locked(credentials);
    return ANSWER_WAIT;
}

int atd_credentials_get(struct atd_credentials *credentials, struct atd_credential *ret_value,
                        struct atd_error *err)
{
    bool must_start = false;
    const char *source;
    enum answer answer;
    struct atd_error why;
    int64_t now_s;

    atd_lock_take(&credentials->lock);
    now_s = atd_creds_now_s(&credentials->env);
    answer = answer_locked(credentials, now_s);
    if (answer == ANSWER_VALUE)
        *ret_value = credentials->value;
    if (answer == ANSWER_WHY)
        why = credentials->why;
    if (answer == ANSWER_WAIT || (now_s >= credentials->due_s && !credentials->is_fetching))
        must_start = wake_locked(credentials);
    source = credentials->source;
    check_locked(credentials);
    atd_lock_give(&credentials->lock);

    if (must_start) {
        int rc = start_thread(credentials, answer == ANSWER_WAIT ? err : NULL);

        if (rc && answer == ANSWER_WAIT)
            return rc;
    }
    switch (answer) {
    case ANSWER_VALUE:
        return 0;
    case ANSWER_WAIT:
        return atd_error_set_retryable(err, EAGAIN, "credentials are being fetched (%s)", source);
    case ANSWER_WHY:
        break;
    }
    if (err)
        *err = why;
    return -why.code;
}

bool atd_credentials_refuse(struct atd_credentials *credentials, const struct atd_credential *used)
{
    bool may_hope = true;
    bool must_start = false;
    int64_t now_s;

    atd_lock_take(&credentials->lock);
    now_s = atd_creds_now_s(&credentials->env);
    if (credentials->state == STATE_NOTHING) {
        may_hope = false;
    } else if (credentials->state == STATE_SERVED &&
               atd_creds_value_same(used, &credentials->value)) {
        may_hope = credentials->may_change &&
                   (!credentials->was_forced || now_s - credentials->forced_s >= FORCED_LEAST_S);
        if (may_hope) {
            credentials->was_forced = true;
            credentials->forced_s = now_s;
            await_locked(credentials);
            must_start = wake_locked(credentials);
        }
    }
    check_locked(credentials);
    atd_lock_give(&credentials->lock);
    /* Where that fails, the next _get tries it again. */
    if (must_start)
        (void)start_thread(credentials, NULL);
    return may_hope;
}

const char *atd_credentials_source(struct atd_credentials *credentials)
{
    const char *source;

    atd_lock_take(&credentials->lock);
    source = credentials->source;
    atd_lock_give(&credentials->lock);
    return source;
}

const char *atd_credentials_region(const struct atd_credentials *credentials)
{
    return credentials->region;
}

const char *atd_credentials_endpoint(const struct atd_credentials *credentials)
{
    return credentials->endpoint;
}
