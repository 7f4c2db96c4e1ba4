/*
 * Where shards lie: the server, the bucket, what may be done there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/cleanup.h"
#include "doctor.h"
#include "net/http.h"
#include "remote.h"
#include "store/stores.h"

#define TIMEOUT_MS 8000u
#define REPLY_BYTES_MAX ((size_t)1 << 20)
#define AWS_URL "https://s3.amazonaws.com/"

/* ------------------------------------------------------------------ the server */

/* Any answer will do: what counts is that there is one, and its Date. */
static bool look_at_endpoint(struct doctor *doctor, const char *endpoint)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(4 * REPLY_BYTES_MAX);
    const struct atd_http_message message = {
        .method = "GET", .url = strcmp(endpoint, "aws") == 0 ? AWS_URL : endpoint};
    struct atd_http_head head = {0};
    struct atd_bytes body;
    struct atd_error why = ATD_ERROR_INIT;
    int rc = atd_http_fetch(&message, TIMEOUT_MS, false, doctor->options->ca_file, REPLY_BYTES_MAX,
                            &arena, &head, &body, &why);

    if (rc && rc != -EFBIG) {
        struct check *check =
            doctor_say(doctor, "store", CHECK_PROBLEM, "%s: %s", message.url, why.text);

        if (why.code == EACCES)
            doctor_advise(check, "give the server's certificate authority: -o ca_file=PATH");
        else
            doctor_advise(check, "start the server, or correct -o endpoint=URL (env_file: "
                                 "AWS_ENDPOINT)");
        return false;
    }
    (void)doctor_say(doctor, "store", CHECK_OK, "%s answers", message.url);
    if (head.date_s)
        doctor_say_clock(doctor, "store clock", "the object store",
                         head.date_s - (int64_t)time(NULL));
    return true;
}

/* ------------------------------------------------------------------ the bucket */

static int on_listed(void *ctx, struct atd_str url, const struct atd_object_info *info)
{
    size_t *count = ctx;

    (void)url;
    (void)info;
    ++*count;
    return 0;
}

static void say_refused(struct doctor *doctor, const char *name, const char *url,
                        const struct atd_error *why)
{
    struct check *check = doctor_say(doctor, name, CHECK_PROBLEM, "%s", why->text);

    switch (why->code) {
    case ENOENT:
        doctor_advise(check, "make the bucket '%s', or correct -o store=s3://BUCKET/PREFIX",
                      doctor->options->bucket);
        break;
    case EACCES:
        doctor_advise(check,
                      "correct the keys (env_file=, profile= or the environment), or give their "
                      "user the right to list, read, write and delete below %s",
                      url);
        break;
    case EIO:
        doctor_advise(check, "name the bucket's region (-o region=NAME) and endpoint");
        break;
    case ENOSPC:
        doctor_advise(check, "free room on the server's disks, or raise the bucket's quota");
        break;
    default:
        doctor_advise(check, "correct -o store=s3://BUCKET/PREFIX,endpoint=URL,region=NAME");
        break;
    }
}

static void look_at_region(struct doctor *doctor, struct remote *remote)
{
    const struct options *options = doctor->options;
    char region[ATD_REGION_MAX + 1];

    if (!atd_store_s3_region(remote_sites(remote)->s3, atd_str_from(options->bucket), region) ||
        (options->region && strcmp(options->region, region) == 0))
        return;
    doctor_advise(
        doctor_say(doctor, "region", CHECK_WARNING,
                   "the bucket is in '%s', and requests are signed for '%s' at first", region,
                   options->region ? options->region : "us-east-1"),
        "give -o region=%s (or AWS_REGION): other programs with these settings are refused",
        region);
}

static bool look_at_bucket(struct doctor *doctor, struct remote *remote, const char *url)
{
    struct atd_error why = ATD_ERROR_INIT;
    size_t count = 0;
    bool more = false;
    int rc = atd_store_list(remote_sites(remote)->s3, atd_str_from(url), ATD_STR(""), TIMEOUT_MS,
                            on_listed, &count, &more, &why);

    look_at_region(doctor, remote);
    if (rc) {
        say_refused(doctor, "bucket", url, &why);
        return false;
    }
    (void)doctor_say(doctor, "bucket", CHECK_OK, "'%s' can be listed: %s%zu objects", url,
                     more ? "more than " : "", count);
    return true;
}

static void look_at_writing(struct doctor *doctor, struct remote *remote, const char *url)
{
    struct atd_error why = ATD_ERROR_INIT;
    char name[64];
    uint64_t random = 0;
    bool guards = false;

    if (doctor->options->read_only) {
        (void)doctor_say(doctor, "conditional writes", CHECK_NOTE, "not tried: option ro");
        return;
    }
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = (uint64_t)time(NULL);
    (void)snprintf(name, sizeof(name), ".atdatafs-probe-%016llx", (unsigned long long)random);
    if (atd_store_guards(remote_sites(remote)->s3, atd_str_from(url), atd_str_from(name),
                         TIMEOUT_MS, &guards, &why) != 0)
        say_refused(doctor, "conditional writes", url, &why);
    else if (guards)
        (void)doctor_say(doctor, "conditional writes", CHECK_OK,
                         "the store refuses to write over an object");
    else
        doctor_advise(doctor_say(doctor, "conditional writes", CHECK_WARNING,
                                 "the store writes over objects whatever it is told: new objects "
                                 "get names with something random in them"),
                      "nothing is in danger; newer servers know If-None-Match");
}

static void look_at_s3(struct doctor *doctor, struct remote *remote)
{
    const struct options *options = doctor->options;
    atd_auto_free char *url = NULL;

    if (!look_at_endpoint(doctor, remote_sites(remote)->endpoint))
        return;
    if (asprintf(&url, "s3://%s/%s%s", options->bucket, options->prefix,
                 options->prefix[0] ? "/" : "") < 0) {
        url = NULL;
        return;
    }
    if (look_at_bucket(doctor, remote, url))
        look_at_writing(doctor, remote, url);
}

void doctor_look_at_store(struct doctor *doctor)
{
    /* Without the cache directory, which is looked at by itself. */
    struct options options = *doctor->options;
    struct remote *remote = NULL;
    struct atd_error why = ATD_ERROR_INIT;

    if (!options.bucket) {
        struct check *check = options.index.redis
                                  ? doctor_say(doctor, "store", CHECK_WARNING,
                                               "no store is named: nothing can be published")
                                  : doctor_say(doctor, "store", CHECK_OK, "shards lie in '%s'",
                                               options.data_roots[options.data_root_count - 1]);

        if (options.index.redis)
            doctor_advise(check, "give -o store=s3://BUCKET/PREFIX");
        return;
    }
    options.cache_dir = NULL;
    options.cache_named = false;
    if (remote_start(&options, NULL, NULL, &remote, &why) != 0)
        doctor_advise(doctor_say(doctor, "store", CHECK_PROBLEM, "%s", why.text),
                      "give keys with -o env_file=PATH, profile=NAME or the environment, or "
                      "-o unsigned for a public bucket; and correct endpoint=");
    else
        look_at_s3(doctor, remote);
    if (remote_stop(remote))
        (void)remote_free(remote);
}
