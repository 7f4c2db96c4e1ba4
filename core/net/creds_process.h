/*
 * credential_process: a program that prints credentials. Its command line is split as a shell
 * would, without a shell. Source: S3-REDIS 4.
 */
#ifndef ATD_NET_CREDS_PROCESS_H
#define ATD_NET_CREDS_PROCESS_H

#include "net/creds_env.h"

#define ATD_CREDS_PROCESS_ARGS_MAX 256u
#define ATD_CREDS_PROCESS_TIMEOUT_MS 60000u

/*
 * Words as Python's shlex.split() finds them: blanks part, quotes and backslashes hold together.
 * *ret_argv ends with NULL. Errors: EINVAL an open quote, a backslash at the end, or no word;
 * E2BIG; ENOMEM.
 */
int atd_creds_split_words(const char *text, struct atd_arena *arena, char ***ret_argv,
                          struct atd_error *err) ATD_MUST_USE;

/*
 * Runs the command in a process group of its own, with nothing but its output open to us, and
 * reads the credentials. Its error output is thrown away, for it may hold secrets. Blocks: at
 * most `timeout_ms`; the group is killed then, and when env says stop. Errors: EINVAL the command
 * line; EACCES it failed or printed no credentials; ETIMEDOUT; ECANCELED; the system's.
 */
int atd_creds_process_run(const struct atd_creds_env *env, const char *command, unsigned timeout_ms,
                          struct atd_arena *arena, struct atd_credential *ret_value,
                          struct atd_error *err) ATD_MUST_USE;

#endif
