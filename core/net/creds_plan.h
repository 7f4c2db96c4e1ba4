/*
 * A plan: where a credential comes from, and which roles are then assumed with it. Made from
 * variables and files without any network (creds_profile.h, creds_chain.h), then run.
 */
#ifndef ATD_NET_CREDS_PLAN_H
#define ATD_NET_CREDS_PLAN_H

#include "net/creds_env.h"
#include "net/creds_value.h"

/* Profiles that assume a role with the next one's credentials. */
#define ATD_CREDS_ROLES_MAX 8u

enum atd_creds_root {
    ATD_CREDS_ROOT_NONE, /* nothing is configured */
    ATD_CREDS_ROOT_STATIC,
    ATD_CREDS_ROOT_PROCESS,
    ATD_CREDS_ROOT_WEB_IDENTITY,
    ATD_CREDS_ROOT_CONTAINER,
    ATD_CREDS_ROOT_METADATA,
};

struct atd_creds_role {
    const char *arn;
    const char *session_name; /* NULL: made up */
    const char *external_id;  /* NULL: none */
    unsigned duration_s;      /* 0: what STS does */
};

struct atd_creds_plan {
    const char *source; /* "profile", ...: a literal */
    enum atd_creds_root root;
    struct atd_creds_texts texts; /* STATIC */
    bool may_change;              /* STATIC: of a file, and with a session token */
    const char *command;          /* PROCESS */
    const char *token_file;       /* WEB_IDENTITY */
    struct atd_creds_role web_role;
    struct atd_creds_role roles[ATD_CREDS_ROLES_MAX]; /* the last one is assumed first */
    size_t role_count;
    const char *region;   /* NULL: not told */
    const char *endpoint; /* for S3; NULL: not told */
};

#endif
