#include "net/creds_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "net/creds_reply.h"

extern char **environ;

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

/* Copies one word behind *text to *place, both moved; false at an open quote or escape. */
static bool take_word(const char **text, char **place)
{
    const char *at = *text;
    char *to = *place;

    while (*at && !is_blank(*at)) {
        char quote = *at;

        if (quote == '\\') {
            if (!at[1])
                return false;
            *to++ = at[1];
            at += 2;
        } else if (quote == '\'' || quote == '"') {
            for (at++; *at && *at != quote; at++) {
                if (quote == '"' && *at == '\\' && (at[1] == '"' || at[1] == '\\'))
                    at++;
                *to++ = *at;
            }
            if (!*at)
                return false;
            at++;
        } else {
            *to++ = *at++;
        }
    }
    *to++ = '\0';
    *text = at;
    *place = to;
    return true;
}

int atd_creds_split_words(const char *text, struct atd_arena *arena, char ***ret_argv,
                          struct atd_error *err)
{
    char **argv = atd_arena_alloc_array(arena, ATD_CREDS_PROCESS_ARGS_MAX + 1, sizeof(*argv));
    char *place = atd_arena_alloc(arena, strlen(text) + 2); /* a word is no longer than its text */
    size_t count = 0;

    if (!argv || !place)
        return atd_error_set(err, ENOMEM, "out of memory");
    for (;;) {
        while (is_blank(*text))
            text++;
        if (!*text)
            break;
        if (count == ATD_CREDS_PROCESS_ARGS_MAX)
            return atd_error_set(err, E2BIG, "more than %u words", ATD_CREDS_PROCESS_ARGS_MAX);
        argv[count++] = place;
        if (!take_word(&text, &place))
            return atd_error_set(err, EINVAL, "a quote is not closed or a backslash ends the line");
    }
    if (count == 0 || !argv[0][0])
        return atd_error_set(err, EINVAL, "there is no command");
    *ret_argv = argv;
    return 0;
}

/* A child with nothing but /dev/null and `output`, and none of our thread's signal settings. */
static int spawn(char **argv, int output, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;
    int rc = posix_spawn_file_actions_init(&actions);

    if (rc)
        return rc;
    rc = posix_spawnattr_init(&attributes);
    if (rc) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return rc;
    }
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    rc = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                   POSIX_SPAWN_SETSIGDEF);
    if (rc == 0)
        rc = posix_spawnattr_setpgroup(&attributes, 0);
    if (rc == 0)
        rc = posix_spawnattr_setsigmask(&attributes, &none);
    if (rc == 0)
        rc = posix_spawnattr_setsigdefault(&attributes, &all);
    /* The output first: it may have one of the numbers 0 and 2 when ours are closed. */
    if (rc == 0)
        rc = posix_spawn_file_actions_adddup2(&actions, output, 1);
    if (rc == 0)
        rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    if (rc == 0)
        rc = posix_spawnp(ret_pid, argv[0], &actions, &attributes, argv, environ);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    return rc;
}

enum step { STEP_MORE, STEP_END, STEP_TOO_MUCH };

/* Reads what is there now. */
static enum step drain(int fd, char *text, size_t *len)
{
    for (;;) {
        ssize_t got;

        if (*len > ATD_CREDS_REPLY_MAX)
            return STEP_TOO_MUCH;
        got = read(fd, text + *len, ATD_CREDS_REPLY_MAX + 1 - *len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno == EAGAIN ? STEP_MORE : STEP_END;
        if (got == 0)
            return STEP_END;
        *len += (size_t)got;
    }
}

/*
 * Reads until the child has ended. A grandchild may hold the pipe open for ever: what it prints
 * after its parent's end is not waited for.
 */
static int collect(const struct atd_creds_env *env, int output, int child, unsigned timeout_ms,
                   char *text, size_t *ret_len, struct atd_error *err)
{
    int64_t deadline_ms = atd_clock_monotonic_ms() + timeout_ms;
    bool is_open = true;

    for (;;) {
        int64_t left_ms = deadline_ms - atd_clock_monotonic_ms();
        struct pollfd fds[] = {
            {.fd = child, .events = POLLIN},
            {.fd = env->stop_fd, .events = POLLIN},
            {.fd = is_open ? output : -1, .events = POLLIN},
        };
        enum step step;

        if (left_ms <= 0)
            return atd_error_set_retryable(err, ETIMEDOUT, "it did not end within %u seconds",
                                           timeout_ms / 1000);
        if (poll(fds, 3, (int)left_ms) < 0 && errno != EINTR)
            return atd_error_set(err, errno, "cannot wait for it: %s", strerror(errno));
        if (fds[1].revents)
            return atd_error_set(err, ECANCELED, "stopped");
        step = is_open ? drain(output, text, ret_len) : STEP_END;
        if (step == STEP_TOO_MUCH)
            return atd_error_set(err, EACCES, "it printed more than %u bytes", ATD_CREDS_REPLY_MAX);
        is_open = step == STEP_MORE;
        if (fds[0].revents)
            return 0;
    }
}

/* Exit status 0. Where somebody else takes children's statuses (SIGCHLD ignored): believed. */
static int reap(pid_t pid, struct atd_error *err)
{
    int status = 0;
    pid_t got;

    do {
        got = waitpid(pid, &status, 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        return 0;
    if (WIFSIGNALED(status))
        return atd_error_set(err, EACCES, "it ended by signal %d; run it by hand to see why",
                             WTERMSIG(status));
    return atd_error_set(err, EACCES, "it ended with status %d; run it by hand to see why",
                         WEXITSTATUS(status));
}

/* Owns the child: when this returns it is gone. */
static int read_child(const struct atd_creds_env *env, pid_t pid, int output, unsigned timeout_ms,
                      char *text, size_t *ret_len, struct atd_error *err)
{
    atd_auto_fd int child = (int)syscall(SYS_pidfd_open, pid, 0);
    int rc;

    *ret_len = 0;
    if (child < 0)
        rc = atd_error_set(err, errno, "cannot wait for it: %s", strerror(errno));
    else
        rc = collect(env, output, child, timeout_ms, text, ret_len, err);
    if (rc) {
        (void)kill(-pid, SIGKILL);
        (void)reap(pid, NULL);
        return rc;
    }
    rc = reap(pid, err);
    if (rc == 0 && drain(output, text, ret_len) == STEP_TOO_MUCH)
        rc = atd_error_set(err, EACCES, "it printed more than %u bytes", ATD_CREDS_REPLY_MAX);
    return rc;
}

static int run(const struct atd_creds_env *env, char **argv, unsigned timeout_ms, char *text,
               size_t *ret_len, struct atd_error *err)
{
    int ends[2];
    pid_t pid;
    int rc;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return atd_error_set(err, errno, "cannot make a pipe: %s", strerror(errno));
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    rc = spawn(argv, ends[1], &pid);
    (void)close(ends[1]);
    if (rc)
        rc = atd_error_set(err, rc, "cannot run it: %s", strerror(rc));
    else
        rc = read_child(env, pid, ends[0], timeout_ms, text, ret_len, err);
    (void)close(ends[0]);
    return rc;
}

int atd_creds_process_run(const struct atd_creds_env *env, const char *command, unsigned timeout_ms,
                          struct atd_arena *arena, struct atd_credential *ret_value,
                          struct atd_error *err)
{
    char *text = atd_arena_alloc(arena, ATD_CREDS_REPLY_MAX + 2);
    char **argv;
    size_t len;
    int rc;

    if (!text)
        return atd_error_set(err, ENOMEM, "credential_process: out of memory");
    rc = atd_creds_split_words(command, arena, &argv, err);
    if (rc)
        return atd_error_wrap(err, rc, "credential_process");
    /* Only the program's name: arguments may be secrets. */
    rc = run(env, argv, timeout_ms, text, &len, err);
    if (rc == 0) {
        rc = atd_creds_reply_json((struct atd_str){text, len}, ATD_CREDS_JSON_PROCESS, arena,
                                  ret_value, err);
        if (rc == -EPROTO && err)
            err->code = EACCES;
        if (rc == -EPROTO)
            rc = -EACCES;
    }
    return rc ? atd_error_wrap(err, rc, "credential_process '%s'", argv[0]) : 0;
}
