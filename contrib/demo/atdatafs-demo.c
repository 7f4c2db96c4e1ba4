/*
 * Makes a small index from the digits table: DIRECTORY/index.db and the shards it names below
 * DIRECTORY/data, the places where the Python library keeps its own below ~/.atdata.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "atdata/entry.h"
#include "atdata/sample.h"
#include "atdata/schema.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/limits.h"
#include "demo.h"

#define DATASET "handwritten-digits"
#define SCHEMA "DigitSample"
#define VERSION "1.0.0"
#define SAMPLES_PER_SHARD 600
#define SHARDS_MAX 64
#define SHARD_BYTES_MAX (16u << 20)

struct shard {
    char path[PATH_MAX]; /* what the index records: absolute, no scheme (ATDATA-FORMATS 2.3) */
    char sha256[2 * ATD_SHA256_BYTES + 1];
};

struct demo {
    char *directory; /* resolved; owned */
    struct digits digits;
    struct shard shards[SHARDS_MAX];
    size_t shard_count;
};

static int make_directory(const char *path, struct atd_error *err)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return 0;
    return atd_error_set(err, errno, "directory '%s' cannot be made: %s", path, strerror(errno));
}

/* Writes a file and waits until it is on the disk: the index must not name what may vanish. */
static int write_file(const char *path, struct atd_bytes content, struct atd_error *err)
{
    atd_auto_fd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    size_t done = 0;

    if (fd < 0)
        return atd_error_set(err, errno, "file '%s' cannot be made: %s", path, strerror(errno));
    while (done < content.len) {
        ssize_t wrote = write(fd, content.ptr + done, content.len - done);

        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return atd_error_set(err, wrote ? errno : EIO, "file '%s' cannot be written: %s", path,
                                 strerror(errno));
        done += (size_t)wrote;
    }
    if (fsync(fd) != 0)
        return atd_error_set(err, errno, "file '%s' cannot be written: %s", path, strerror(errno));
    return 0;
}

static void print_hex(const uint8_t *bytes, size_t len, char *ret_text)
{
    for (size_t i = 0; i < len; i++)
        (void)snprintf(ret_text + 2 * i, 3, "%02x", bytes[i]);
}

/* Where Python puts eight figures of a random UUID into the name, eight of the table's checksum
 * stand here: making the demo again gives the same files. */
static int write_shard(struct demo *demo, size_t first, size_t count, struct atd_error *err)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct shard *shard = &demo->shards[demo->shard_count];
    uint8_t digest[ATD_SHA256_BYTES];
    char mark[9];
    int failed = shard_encode(demo->digits.rows + first, count, first, &tar, err);

    if (failed)
        return failed;
    print_hex(demo->digits.text_sha256, 4, mark);
    if (snprintf(shard->path, sizeof(shard->path), "%s/data/" DATASET "/data--%s--%06zu.tar",
                 demo->directory, mark, demo->shard_count) >= (int)sizeof(shard->path))
        return atd_error_set(err, ENAMETOOLONG, "directory '%s' has too long a name",
                             demo->directory);
    failed = write_file(shard->path, atd_buf_bytes(&tar), err);
    if (failed)
        return failed;
    atd_sha256_of(tar.ptr, tar.len, digest);
    print_hex(digest, sizeof(digest), shard->sha256);
    demo->shard_count++;
    return 0;
}

static int write_shards(struct demo *demo, struct atd_error *err)
{
    static const char *const folders[] = {"data", "data/" DATASET};
    char path[PATH_MAX + sizeof("/data/" DATASET)];
    int failed = 0;

    for (size_t i = 0; i < ATD_ARRAY_LEN(folders) && !failed; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", demo->directory, folders[i]);
        failed = make_directory(path, err);
    }
    for (size_t first = 0; first < demo->digits.count && !failed; first += SAMPLES_PER_SHARD) {
        size_t left = demo->digits.count - first;

        if (demo->shard_count == SHARDS_MAX)
            return atd_error_set(err, EFBIG, "table has more than %d rows",
                                 SHARDS_MAX * SAMPLES_PER_SHARD);
        failed = write_shard(demo, first, left < SAMPLES_PER_SHARD ? left : SAMPLES_PER_SHARD, err);
    }
    return failed;
}

static void encode_schema(struct atd_buf *out)
{
    static const int64_t shape[] = {DIGIT_SIDE, DIGIT_SIDE};
    static const struct atd_field fields[] = {
        {.name = {"image", 5},
         .type = {.kind = ATD_KIND_NDARRAY,
                  .kind_text = {"ndarray", 7},
                  .dtype = {"uint8", 5},
                  .has_shape = true,
                  .shape = shape,
                  .shape_len = ATD_ARRAY_LEN(shape)}},
        {.name = {"label", 5},
         .type = {.kind = ATD_KIND_PRIMITIVE,
                  .kind_text = {"primitive", 9},
                  .primitive = ATD_PRIMITIVE_INT,
                  .primitive_text = {"int", 3}}},
    };
    struct atd_schema schema = {
        .name = ATD_STR(SCHEMA),
        .version = ATD_STR(VERSION),
        .fields = fields,
        .field_count = ATD_ARRAY_LEN(fields),
        .description = ATD_STR("A handwritten digit, 8x8 pixels of 0 to 16, and which one it is"),
    };
    time_t now = time(NULL);
    char created_at[64] = "";
    struct tm utc;

    if (gmtime_r(&now, &utc))
        (void)strftime(created_at, sizeof(created_at), "%Y-%m-%dT%H:%M:%S+00:00", &utc);
    schema.created_at = atd_str_from(created_at);
    atd_schema_encode(&schema, out);
}

static void put_text_pair(struct atd_buf *out, const char *key, const char *text)
{
    atd_sample_put_str(out, atd_str_from(key));
    atd_sample_put_str(out, atd_str_from(text));
}

/* The user's metadata and, merged in as the library does, the checksums (ATDATA-FORMATS 6.6). */
static void encode_metadata(const struct demo *demo, struct atd_buf *out)
{
    atd_sample_put_map(out, 5);
    put_text_pair(out, "description",
                  "Test set of the Optical Recognition of Handwritten Digits data set");
    put_text_pair(out, "creators", "E. Alpaydin, C. Kaynak");
    put_text_pair(out, "license", "CC BY 4.0");
    put_text_pair(out, "source", "https://doi.org/10.24432/C50P49");
    atd_sample_put_str(out, ATD_STR("checksums"));
    atd_sample_put_map(out, (uint32_t)demo->shard_count);
    for (size_t i = 0; i < demo->shard_count; i++)
        put_text_pair(out, demo->shards[i].path, demo->shards[i].sha256);
}

static int write_index(const struct demo *demo, struct atd_error *err)
{
    atd_auto_buf struct atd_buf schema = ATD_BUF_INIT(ATD_SCHEMA_BYTES_MAX);
    atd_auto_buf struct atd_buf data_urls = ATD_BUF_INIT(ATD_URLS_BYTES_MAX);
    atd_auto_buf struct atd_buf metadata = ATD_BUF_INIT(ATD_METADATA_BYTES_MAX);
    struct index_content content = {
        .schema_name = ATD_STR(SCHEMA),
        .schema_version = ATD_STR(VERSION),
        .name = ATD_STR(DATASET),
        .schema_ref = ATD_STR("atdata://local/schema/" SCHEMA "@" VERSION),
        .label_version = ATD_STR(VERSION),
        .label_description = ATD_STR("As published in 1998"),
    };
    struct atd_str urls[SHARDS_MAX];
    int failed;

    for (size_t i = 0; i < demo->shard_count; i++)
        urls[i] = atd_str_from(demo->shards[i].path);
    encode_schema(&schema);
    atd_urls_encode(urls, demo->shard_count, &data_urls);
    encode_metadata(demo, &metadata);
    failed = atd_buf_finish(&schema, "the schema", err);
    if (!failed)
        failed = atd_buf_finish(&data_urls, "the list of shards", err);
    if (!failed)
        failed = atd_buf_finish(&metadata, "the metadata", err);
    if (!failed)
        failed = atd_cid_compute(content.schema_ref, urls, demo->shard_count, &content.cid, err);
    if (failed)
        return failed;
    content.schema_json = atd_buf_str(&schema);
    content.data_urls = atd_buf_bytes(&data_urls);
    content.metadata = atd_buf_bytes(&metadata);
    failed = index_write(demo->directory, &content, err);
    if (!failed)
        (void)printf("%s/index.db: dataset " DATASET ", %zu samples in %zu shards\n%s\n",
                     demo->directory, demo->digits.count, demo->shard_count, content.cid.text);
    return failed;
}

static int make_demo(struct demo *demo, const char *table, const char *directory,
                     struct atd_error *err)
{
    char index[PATH_MAX + sizeof("/index.db")];
    int failed = make_directory(directory, err);

    if (failed)
        return failed;
    demo->directory = realpath(directory, NULL);
    if (!demo->directory)
        return atd_error_set(err, errno, "directory '%s' cannot be used: %s", directory,
                             strerror(errno));
    /* index_write would refuse too, but only after the shards were written. */
    (void)snprintf(index, sizeof(index), "%s/index.db", demo->directory);
    if (access(index, F_OK) == 0)
        return atd_error_set(err, EEXIST, "index '%s' exists already and is left alone", index);
    failed = digits_read(table, &demo->digits, err);
    if (!failed)
        failed = write_shards(demo, err);
    return failed ? failed : write_index(demo, err);
}

int main(int argc, char **argv)
{
    static struct demo demo;
    struct atd_error err = ATD_ERROR_INIT;
    int failed;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: atdatafs-demo DIGITS.csv.gz DIRECTORY\n");
        return 2;
    }
    failed = make_demo(&demo, argv[1], argv[2], &err);
    if (failed)
        (void)fprintf(stderr, "atdatafs-demo: %s\n", err.text);
    free(demo.digits.rows);
    free(demo.directory);
    return failed ? 1 : 0;
}
