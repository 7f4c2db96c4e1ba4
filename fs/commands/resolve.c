/*
 * atdatafs resolve: where the shards of a dataset lie.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "atdata/shard_url.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "catalog/shards.h"
#include "commands.h"
#include "look.h"
#include "output.h"

#define SIGNED_S_DEFAULT 3600u
/* AWS takes no more (S3-REDIS 1: a week). */
#define SIGNED_S_MAX 604800u
#define URLS_BYTES_MAX ((size_t)1 << 30)
#define SIGNED_BYTES_MAX ((size_t)64 << 10)
/* Credentials that come from a server or a process are waited for. */
#define CREDENTIALS_MS 10000
#define CREDENTIALS_STEP_NS 20000000L
/* For a bucket's region and the server's clock, which a signature takes. */
#define PLACE_MS 5000u

static const struct command_usage usage = {
    .name = "resolve",
    .synopsis = "[--signed[=SECONDS]] NAME | @local/NAME[@VERSION] | CID",
    .about =
        "Prints the URL of each shard, a line each, in the dataset's order: as the index has "
        "them,\n"
        "patterns expanded. With --signed they are addresses that anybody can fetch for a while\n"
        "(an hour when no time is given); local files are paths. A version that is not there is\n"
        "refused.",
    .options = "  --signed[=SECONDS]  presigned URLs, valid so long (1 to 604800, default 3600)\n",
    .examples = "  atdatafs resolve @local/mnist\n"
                "  atdatafs resolve --signed=600 @local/mnist@1.0.0 | xargs -n 1 curl -sSO\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON,
    .words_least = 1,
    .words_most = 1,
    .words_missing = "@local/NAME, a name or a CID is missing",
};

struct resolve {
    bool is_signed;
    unsigned seconds;
    struct atd_str bucket; /* the last one that was asked */
};

/* One request a bucket, for its region and the server's clock: AWS refuses a signature for another
 * region. Without an answer those that are set must do. */
static void learn_place(const struct look *look, const struct atd_shard_url *url)
{
    struct resolve *resolve = look->own;
    struct atd_object_info info;
    int rc;

    if (atd_str_equal(url->bucket, resolve->bucket))
        return;
    resolve->bucket = url->bucket;
    rc = atd_store_stat(remote_s3(look->parts.remote), url->text, PLACE_MS, &info, NULL);
    (void)rc;
}

/* The first credentials may still be on their way. */
static int presign(struct atd_store *store, struct atd_str url, unsigned seconds,
                   struct atd_buf *out, struct atd_error *err)
{
    const struct timespec step = {.tv_nsec = CREDENTIALS_STEP_NS};
    int64_t until_ms = atd_clock_monotonic_ms() + CREDENTIALS_MS;
    int rc = atd_store_presign(store, url, seconds, out, err);

    while (rc == -EAGAIN && atd_clock_monotonic_ms() < until_ms) {
        (void)nanosleep(&step, NULL);
        rc = atd_store_presign(store, url, seconds, out, err);
    }
    return rc;
}

/* What to fetch a shard by, appended. */
static int put_address(const struct look *look, struct atd_str text, struct atd_buf *out,
                       struct atd_error *err)
{
    const struct resolve *resolve = look->own;
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(SIGNED_BYTES_MAX);
    struct atd_shard_url url;
    int rc = atd_shard_url_parse(text, &arena, &url, err);

    if (rc)
        return atd_error_wrap(err, rc, "'" ATD_STR_FMT "'", ATD_STR_ARG(text));
    switch (url.scheme) {
    case ATD_URL_S3:
        learn_place(look, &url);
        rc = presign(remote_s3(look->parts.remote), text, resolve->seconds, out, err);
        return rc ? atd_error_wrap(err, rc, "signing '" ATD_STR_FMT "'", ATD_STR_ARG(text)) : 0;
    case ATD_URL_HTTP:
        atd_buf_append_str(out, text);
        return 0;
    case ATD_URL_LOCAL:
        atd_buf_append_str(out, url.path);
        return 0;
    default:
        return atd_error_set(err, ENOTSUP,
                             "'" ATD_STR_FMT "' is neither in S3, nor on the web, nor an absolute "
                             "path: nobody can fetch it by an address",
                             ATD_STR_ARG(text));
    }
}

static bool has_line_end(struct atd_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] < ' ' || text.ptr[i] == 0x7f)
            return true;
    }
    return false;
}

/* A line has to be the URL exactly, and one only: who reads it fetches it. */
static int put_line(const struct look *look, struct atd_str text, struct atd_buf *out,
                    struct atd_error *err)
{
    atd_auto_buf struct atd_buf address = ATD_BUF_INIT(SIGNED_BYTES_MAX);
    const struct resolve *resolve = look->own;
    int rc = 0;

    if (resolve->is_signed) {
        rc = put_address(look, text, &address, err);
        text = atd_buf_str(&address);
    }
    if (rc == 0)
        rc = atd_buf_finish(&address, "an address", err);
    if (rc == 0 && has_line_end(text))
        rc = atd_error_set(err, EINVAL,
                           "'" ATD_STR_FMT "' has control characters: it cannot stand on a line; "
                           "use --json",
                           ATD_STR_ARG(text));
    atd_buf_append_str(out, text);
    atd_buf_append_byte(out, '\n');
    return rc;
}

static int put_object(const struct look *look, struct atd_str text, struct atd_json_writer *json,
                      struct atd_error *err)
{
    atd_auto_buf struct atd_buf address = ATD_BUF_INIT(SIGNED_BYTES_MAX);
    const struct resolve *resolve = look->own;
    int rc = resolve->is_signed ? put_address(look, text, &address, err) : 0;

    if (rc == 0)
        rc = atd_buf_finish(&address, "an address", err);
    atd_json_object_begin(json);
    output_json_str(json, "url", text);
    if (resolve->is_signed)
        output_json_str(json, "signed_url", atd_buf_str(&address));
    atd_json_object_end(json);
    return rc;
}

static int run(struct look *look, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(URLS_BYTES_MAX);
    const struct resolve *resolve = look->own;
    const struct atd_catalog_entry *entry;
    const struct atd_dataset *dataset;
    struct atd_json_writer json;
    struct atd_str *urls;
    size_t count = 0;
    int rc = look_find(look, look->arguments->words[0], &entry, &dataset, err);

    if (rc == 0)
        rc = atd_catalog_shard_urls(entry, look->parts.locator, &arena, &urls, &count, err);
    if (rc)
        return rc;
    if (!look->arguments->json) {
        for (size_t i = 0; rc == 0 && i < count; i++)
            rc = put_line(look, urls[i], &look->out, err);
        return rc;
    }
    atd_json_init(&json, &look->out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    output_json_str(&json, "name", atd_entry_name(entry));
    output_json_str(&json, "cid", atd_entry_cid(entry));
    output_json_str(&json, "schema_ref", atd_entry_schema_ref(entry));
    if (resolve->is_signed)
        output_json_uint(&json, "valid_seconds", resolve->seconds);
    atd_json_key(&json, "shards");
    atd_json_array_begin(&json);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = put_object(look, urls[i], &json, err);
    atd_json_array_end(&json);
    atd_json_object_end(&json);
    atd_buf_append_byte(&look->out, '\n');
    return rc;
}

int command_resolve(int argc, char **argv)
{
    struct resolve resolve = {.seconds = SIGNED_S_DEFAULT};
    const struct argument_option own[] = {
        {.name = "--signed",
         .flag = &resolve.is_signed,
         .number = &resolve.seconds,
         .least = 1,
         .most = SIGNED_S_MAX,
         .may_lack_value = true},
    };

    return look_main(&usage, argc, argv, own, ATD_ARRAY_LEN(own), run, &resolve);
}
