/*
 * Children of a test, which end with codes that the test asserts. An assertion that fails in one
 * would wait for ever: Criterion's runner answers to nobody whom it did not start. Where this is
 * included it prints what failed and ends the child instead, in any of its threads.
 *
 * One file of a program includes it.
 */
#ifndef ATD_TESTS_SUPPORT_CHILD_H
#define ATD_TESTS_SUPPORT_CHILD_H

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The code of a child in which an assertion failed. */
#define CHILD_FAILED 97

static bool is_child;

/* In the place of Criterion's, to which it goes on. */
void criterion_send_assert(struct criterion_assert_stats *told)
{
    /* POSIX lets an object pointer be a function's. */
    union {
        void *found;
        void (*send)(struct criterion_assert_stats *stats);
    } next;

    if (is_child) {
        (void)fprintf(stderr, "%s:%u: in a child: %s\n", told->file, told->line, told->message);
        _exit(CHILD_FAILED);
    }
    next.found = dlsym(RTLD_NEXT, "criterion_send_assert");
    next.send(told);
}

/* As fork(); the child ends with the test, however that ends. */
static inline pid_t child_fork(void)
{
    pid_t parent = getpid();
    pid_t child = fork();

    cr_assert_geq(child, 0);
    if (child > 0)
        return child;
    is_child = true;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(CHILD_FAILED);
    return 0;
}

/* Its code, when it has ended; the signal that ended it, negative. */
static inline int child_join(pid_t child)
{
    int status = 0;

    cr_assert_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline void child_kill(pid_t child)
{
    cr_assert_eq(kill(child, SIGKILL), 0);
    cr_assert_eq(child_join(child), -SIGKILL);
}

#endif
