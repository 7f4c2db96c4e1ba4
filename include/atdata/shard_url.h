/*
 * Shard URLs as they stand in data_urls. Source: ATDATA-FORMATS 6.2, 6.5.
 */
#ifndef ATDATA_SHARD_URL_H
#define ATDATA_SHARD_URL_H

#include "atdata/arena.h"
#include "atdata/error.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

enum atd_url_scheme {
    ATD_URL_S3,       /* s3://bucket/key */
    ATD_URL_HTTP,     /* http:// or https:// */
    ATD_URL_LOCAL,    /* an absolute path, or file: with an absolute path and no foreign host */
    ATD_URL_RELATIVE, /* a path that depends on somebody's working directory: never opened */
    ATD_URL_OTHER,    /* pipe:, gs:, hf:, at:, ... : never opened */
};

struct atd_shard_url {
    enum atd_url_scheme scheme;
    struct atd_str text;        /* the whole URL */
    struct atd_str scheme_text; /* "s3", "pipe", ...; empty for paths */
    struct atd_str bucket;      /* S3 */
    struct atd_str key;         /* S3: everything after "s3://bucket/", unescaped */
    struct atd_str path;        /* LOCAL, RELATIVE: the path; file: URLs are percent-decoded when
                                   they hold %XX, into `arena` */
    struct atd_str last;        /* the last path segment: what the shard's file is called. For
                                   http(s) without query and fragment. May be empty. */
};

/*
 * Classifies a URL. Views point into `text` (or `arena` where said). Scheme names compare without
 * case and have at least two letters: "C:\x" is a relative path. Errors: EINVAL: empty, a NUL, s3
 * without a bucket or key, http(s) without a host, file: without a path or with a foreign host,
 * invalid UTF-8, before or after percent-decoding; ENOMEM.
 */
int atd_shard_url_parse(struct atd_str text, struct atd_arena *arena, struct atd_shard_url *ret_url,
                        struct atd_error *err) ATD_MUST_USE;

/*
 * Asked for an element that could be one name or a pattern (a local path with braces or blanks):
 * true when it exists as it stands, and is then not expanded. May block; never called with a lock.
 */
typedef bool (*atd_url_is_literal)(void *ctx, struct atd_str element);

/*
 * Expands the elements of data_urls into shards. First space-joined lists (split at blanks outside
 * braces, only when every part is an absolute path or has "scheme://", and its last segment holds a
 * dot), then brace patterns by the rules of braceexpand 0.1.7 ({a,b}, {1..5}, {01..10}, {a..e},
 * ..step, descending, nested, backslash escapes; a group that is neither list nor range stays as it
 * is, and so does a range of numbers over 18 digits; unbalanced braces: the text stays literal).
 * An s3:// text that has neither list nor range keeps its backslashes: the library takes it as it
 * stands. `is_literal` may be NULL (nothing is) and is asked for absolute paths and file: only.
 * Order kept; duplicates kept.
 * Errors: E2BIG more than `max_count` shards, 64 levels of braces, 16 MiB in one pattern or 64 MiB
 * of expanded URLs, or more work than those may take (escapes shrink a text by thousands); ENOMEM.
 * On success the array and its texts are in `arena` or are parts of the elements themselves.
 */
int atd_shard_urls_expand(const struct atd_str *elements, size_t element_count, size_t max_count,
                          atd_url_is_literal is_literal, void *ctx, struct atd_arena *arena,
                          struct atd_str **ret_urls, size_t *ret_count,
                          struct atd_error *err) ATD_MUST_USE;

ATD_END_DECLS

#endif
