/*
 * The INI files of the AWS tools: ~/.aws/config and ~/.aws/credentials. Pure.
 *
 * Rules are botocore's, which the library's users' files are written for: a '#' or ';' begins a
 * comment only at the start of a line; a line that is indented deeper than the property before it
 * belongs to that property; names of properties have no case. A line that is nothing of this is
 * passed over, as the other SDKs do, and counted. Source: S3-REDIS 4.
 */
#ifndef ATD_NET_CREDS_FILE_H
#define ATD_NET_CREDS_FILE_H

#include "atdata/arena.h"
#include "atdata/error.h"
#include "atdata/str.h"

#define ATD_CREDS_PROPERTIES_MAX 65536u

enum atd_creds_section { ATD_CREDS_PROFILE, ATD_CREDS_SERVICES, ATD_CREDS_OTHER };

struct atd_creds_property {
    enum atd_creds_section section;
    struct atd_str name;  /* of the profile or the services */
    struct atd_str key;   /* in lower case; of a nested one: "s3.endpoint_url" */
    struct atd_str value; /* terminated in the arena */
};

struct atd_creds_file {
    bool is_config; /* [profile x]; else [x] */
    struct atd_creds_property *properties;
    size_t count;
    size_t bad_line_count;
    size_t first_bad_line; /* counts from 1; 0: none */
};

/*
 * Everything is in `arena`. A section without properties is there as one with an empty key.
 * Errors: EINVAL not UTF-8 or a NUL byte (line); E2BIG; ENOMEM. Texts quote nothing of the file.
 */
int atd_creds_file_parse(struct atd_str text, bool is_config, struct atd_arena *arena,
                         struct atd_creds_file *ret_file, struct atd_error *err) ATD_MUST_USE;

/* The last one wins; in a config file "[profile default]" goes before "[default]". NULL: none. */
const char *atd_creds_file_find(const struct atd_creds_file *file, enum atd_creds_section section,
                                struct atd_str name, const char *key);
bool atd_creds_file_has(const struct atd_creds_file *file, enum atd_creds_section section,
                        struct atd_str name);

#endif
