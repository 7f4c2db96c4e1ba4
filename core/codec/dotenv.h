/*
 * .env files with python-dotenv's rules. Source: ATDATA-FORMATS 6.3.
 */
#ifndef ATD_CODEC_DOTENV_H
#define ATD_CODEC_DOTENV_H

#include "atdata/arena.h"
#include "atdata/error.h"
#include "atdata/str.h"

struct atd_dotenv_pair {
    struct atd_str key;
    struct atd_str value; /* ptr NULL: the key stood alone */
};

struct atd_dotenv {
    struct atd_dotenv_pair *pairs; /* one a key: its last binding, in order of first sight */
    size_t count;
    size_t bad_line_count; /* lines that did not parse and were skipped, as python-dotenv does */
    size_t first_bad_line; /* counts from 1; 0 when none */
};

/* Looks a variable of the environment up for ${NAME}; NULL when unset. */
typedef const char *(*atd_dotenv_getenv)(void *ctx, const char *name);

/*
 * Parses the text of a file. Everything is in `arena`. Secrets: error texts quote no value.
 * `get` may be NULL: nothing is set. Names over 1023 bytes are never looked up.
 * Errors: EINVAL not UTF-8 (position); E2BIG over 1 MiB of text, 4096 keys or 4 MiB of values;
 * ENOMEM.
 */
int atd_dotenv_parse(struct atd_str text, atd_dotenv_getenv get, void *ctx, struct atd_arena *arena,
                     struct atd_dotenv *ret_env, struct atd_error *err) ATD_MUST_USE;

/* NULL when the key is absent. */
const struct atd_dotenv_pair *atd_dotenv_find(const struct atd_dotenv *env, struct atd_str key);

#endif
