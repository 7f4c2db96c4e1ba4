/*
 * Writes to a real S3 endpoint as the publisher does, and says what went wrong (tests/e2e).
 *
 *     store_writer ENDPOINT BUCKET guards|open
 *
 * Credentials come from the environment. Leaves the objects "w/parts" (PARTS parts of PART_BYTES
 * and a last one of LAST_BYTES, bytes made by byte_at) and "w/one", and no unfinished upload.
 */
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/stores.h"

#define PARTS 3u
#define PART_BYTES ((size_t)5 << 20)
#define LAST_BYTES ((size_t)12345)
#define TIMEOUT_MS 30000u

static struct atd_store *store;
static struct atd_error err;
static const char *bucket;
static uint8_t *bytes;

static void need(bool holds, const char *what)
{
    if (holds)
        return;
    (void)fprintf(stderr, "%s: %s\n", what, err.text);
    exit(1);
}

#define NEED(expression) need((expression), #expression)

static struct atd_str url_of(const char *key)
{
    static char url[256];

    (void)snprintf(url, sizeof(url), "s3://%s/%s", bucket, key);
    return atd_str_from(url);
}

struct sender {
    pthread_t thread;
    struct atd_store_upload *upload;
    unsigned number;
    int rc;
    struct atd_error err;
};

static void *send_part(void *ctx)
{
    struct sender *sender = ctx;
    size_t first = (sender->number - 1) * PART_BYTES;
    size_t len = sender->number > PARTS ? LAST_BYTES : PART_BYTES;

    sender->rc =
        atd_store_upload_part(sender->upload, sender->number,
                              (struct atd_bytes){bytes + first, len}, TIMEOUT_MS, &sender->err);
    return NULL;
}

static struct atd_store_upload *send_all(const char *key)
{
    struct sender senders[PARTS + 1] = {0};
    char id[ATD_UPLOAD_ID_MAX + 1];
    struct atd_store_upload *upload = NULL;

    NEED(atd_store_upload_begin(store, url_of(key), PART_BYTES, TIMEOUT_MS, id, &upload, &err) ==
         0);
    for (unsigned i = 0; i <= PARTS; i++) {
        senders[i].upload = upload;
        senders[i].number = i + 1;
        NEED(pthread_create(&senders[i].thread, NULL, send_part, &senders[i]) == 0);
    }
    for (unsigned i = 0; i <= PARTS; i++) {
        (void)pthread_join(senders[i].thread, NULL);
        if (senders[i].rc)
            err = senders[i].err;
        NEED(senders[i].rc == 0);
    }
    return upload;
}

static void write_parts(void)
{
    struct atd_object_info info;
    struct atd_object_info found;
    struct atd_store_upload *upload = send_all("w/parts");
    char id[ATD_UPLOAD_ID_MAX + 1];

    NEED(atd_store_stat(store, url_of("w/parts"), TIMEOUT_MS, &info, &err) == -ENOENT);
    NEED(atd_store_upload_finish(upload, PARTS + 1, TIMEOUT_MS, &info, &err) == 0);
    atd_store_upload_free(upload);
    NEED(info.size_bytes == PARTS * PART_BYTES + LAST_BYTES && info.etag[0]);
    NEED(atd_store_stat(store, url_of("w/parts"), TIMEOUT_MS, &found, &err) == 0);
    NEED(atd_object_info_same(&info, &found));
    /* Real servers keep the label, of both kinds of objects. */
    NEED(found.maker[0] && strcmp(found.maker, atd_store_maker(store)) == 0);

    /* It is there now. */
    upload = send_all("w/parts");
    NEED(atd_store_upload_finish(upload, PARTS + 1, TIMEOUT_MS, &info, &err) == -EEXIST);
    NEED(atd_store_upload_abort(upload, TIMEOUT_MS, &err) == 0);
    NEED(atd_store_upload_abort(upload, TIMEOUT_MS, &err) == 0);
    /* Whoever's it is: an upload that is gone. */
    NEED(atd_store_upload_part(upload, 1, (struct atd_bytes){bytes, 10}, TIMEOUT_MS, &err) ==
         -EAGAIN);
    atd_store_upload_free(upload);

    /* Left behind by a process that died: its id is known, or is not. */
    NEED(atd_store_upload_begin(store, url_of("w/left"), PART_BYTES, TIMEOUT_MS, id, &upload,
                                &err) == 0);
    atd_store_upload_free(upload);
    NEED(atd_store_upload_discard(store, url_of("w/left"), id, TIMEOUT_MS, &err) == 0);
    NEED(atd_store_upload_discard(store, url_of("w/left"), id, TIMEOUT_MS, &err) == 0);
    for (int i = 0; i < 2; i++) {
        NEED(atd_store_upload_begin(store, url_of("w/left"), PART_BYTES, TIMEOUT_MS, id, &upload,
                                    &err) == 0);
        atd_store_upload_free(upload);
    }
    NEED(atd_store_upload_discard(store, url_of("w/left"), "", TIMEOUT_MS, &err) == 0);
}

static void write_one(void)
{
    struct atd_object_info info;

    NEED(atd_store_put(store, url_of("w/one"), (struct atd_bytes){bytes, 1000}, TIMEOUT_MS, &info,
                       &err) == 0);
    NEED(info.size_bytes == 1000 && info.etag[0]);
    NEED(strcmp(info.maker, atd_store_maker(store)) == 0);
    NEED(atd_store_put(store, url_of("w/one"), (struct atd_bytes){bytes, 999}, TIMEOUT_MS, &info,
                       &err) == -EEXIST);
    NEED(atd_store_put(store, url_of("w/gone"), (struct atd_bytes){bytes, 0}, TIMEOUT_MS, &info,
                       &err) == 0);
    NEED(atd_store_delete(store, url_of("w/gone"), TIMEOUT_MS, &err) == 0);
    NEED(atd_store_delete(store, url_of("w/gone"), TIMEOUT_MS, &err) == 0);
    NEED(atd_store_stat(store, url_of("w/gone"), TIMEOUT_MS, &info, &err) == -ENOENT);
}

static const char *environment(void *ctx, const char *name)
{
    (void)ctx;
    return getenv(name);
}

int main(int argc, char **argv)
{
    struct atd_http_options http = {.threads = 2, .user_agent = "atdatafs-test"};
    struct atd_credentials_options chain = {.getenv = environment};
    struct atd_s3_options options = {0};
    struct atd_http_engine *engine = NULL;
    bool guards = false;

    if (argc != 4)
        return 2;
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    options.endpoint = argv[1];
    bucket = argv[2];
    bytes = malloc((PARTS + 1) * PART_BYTES);
    NEED(bytes);
    for (size_t i = 0; i < PARTS * PART_BYTES + LAST_BYTES; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8) * 7);
    NEED(atd_http_start(&http, &engine, &err) == 0);
    NEED(atd_credentials_new(&chain, &options.credentials, &err) == 0);
    NEED(atd_store_s3_new(engine, &options, &store, &err) == 0);
    NEED(atd_store_guards(store, url_of("w"), ATD_STR(".scratch"), TIMEOUT_MS, &guards, &err) == 0);
    NEED(guards == (strcmp(argv[3], "guards") == 0));
    write_parts();
    write_one();
    atd_store_free(store);
    NEED(atd_http_stop(engine, 10000));
    NEED(atd_credentials_free(options.credentials, 10000));
    free(bytes);
    return 0;
}
