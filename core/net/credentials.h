/*
 * Credentials for S3: found by the usual chain, kept fresh by a thread of their own.
 *
 * Order: an explicit env file (atdata's .env rules) alone; else environment, shared credentials
 * and config profiles (static, assume role, credential_process, web identity), web identity from
 * the environment, container, IMDSv2. Source: S3-REDIS 4; ATDATA-FORMATS 6.3.
 *
 * Secrets are never in an error, a log line or an argument of a process.
 */
#ifndef ATD_NET_CREDENTIALS_H
#define ATD_NET_CREDENTIALS_H

#include "atdata/error.h"
#include "atdata/str.h"

#define ATD_CREDENTIAL_KEY_MAX 256
#define ATD_CREDENTIAL_TOKEN_MAX 8192

struct atd_credential {
    char access_key_id[ATD_CREDENTIAL_KEY_MAX];
    char secret_access_key[ATD_CREDENTIAL_KEY_MAX];
    char session_token[ATD_CREDENTIAL_TOKEN_MAX]; /* "": none */
    int64_t expires_s;                            /* 0: never */
};

struct atd_credentials;

struct atd_credentials_options {
    const char *env_file; /* NULL: none */
    const char *profile;  /* NULL: AWS_PROFILE, else "default" */
    const char *ca_file;  /* for STS; NULL: the system's */
    /* The environment; NULL: getenv(). Called by _new and, for ${NAME} in an env file that is read
     * again, by the thread. */
    const char *(*getenv)(void *ctx, const char *name);
    void *getenv_ctx;
    /* For tests: where 169.254.170.2 is; NULL: there. (IMDS and STS have variables for that.) */
    const char *container_host_url;
};

/*
 * Reads the env file or the profile files now (blocks on the disk); what needs a network or a
 * process is done by the thread, at the first _get. Errors: EINVAL or the system's, when a file
 * that was named cannot be used: which, why, what to do.
 */
int atd_credentials_new(const struct atd_credentials_options *options,
                        struct atd_credentials **ret_credentials,
                        struct atd_error *err) ATD_MUST_USE;
/* NULL is fine. False, leaving it behind, when the thread hangs for more than `timeout_ms`. */
bool atd_credentials_free(struct atd_credentials *credentials, unsigned timeout_ms);

/*
 * The current value. Never blocks. Errors: EAGAIN while the first value or a forced one is being
 * fetched; EACCES none found, or the source failed and the old value has expired (the sentence
 * names every source that was asked). Any thread.
 */
int atd_credentials_get(struct atd_credentials *credentials, struct atd_credential *ret_value,
                        struct atd_error *err) ATD_MUST_USE;

/*
 * A server refused this value as expired or invalid: unless it was replaced meanwhile, one fetch
 * is forced (and _get says EAGAIN until it ended). Returns true when a newer value may be hoped
 * for, false for static ones and when the last forced fetch is less than ten seconds ago. Any
 * thread.
 */
bool atd_credentials_refuse(struct atd_credentials *credentials, const struct atd_credential *used);

/* "env file", "environment", "profile", ...: for people. Never blocks. */
const char *atd_credentials_source(struct atd_credentials *credentials);

/*
 * What the same sources say besides: "region" (AWS_REGION, AWS_DEFAULT_REGION, the profile's),
 * "endpoint" (env file: AWS_ENDPOINT; AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's
 * endpoint_url). NULL when they do not. Fixed after _new.
 */
const char *atd_credentials_region(const struct atd_credentials *credentials);
const char *atd_credentials_endpoint(const struct atd_credentials *credentials);

#endif
