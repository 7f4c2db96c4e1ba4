#include "atdata/shard_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "atdata/loader.h"
#include "atdata/tar_index.h"
#include "base/cleanup.h"
#include "base/utf8.h"
#include "codec/tar_write.h"

#define SUFFIX ".msgpack"
/* Written at once; a larger sample goes out by itself. */
#define BLOCK_BYTES ((size_t)1 << 20)
/* Of the fields of a sample that is checked. */
#define CHECK_BYTES_MAX ((size_t)64 << 20)
/* Members have one time, so that the same samples give the same bytes. */
#define MEMBER_MTIME_S 0
#define FILE_MODE 0666 /* less the umask */

struct atd_shard_writer {
    char *stem;
    uint64_t samples_max;
    uint64_t bytes_max;
    uint64_t put_count; /* samples, all shards */
    char **paths;       /* of the complete ones */
    size_t path_count;
    char last_key[ATD_SAMPLE_KEY_MAX];
    size_t last_key_len;
    bool is_finished;
    int failed; /* -errno */
    /* the shard that is written; fd -1: none */
    int fd;
    char *path;
    char *part_path;
    uint64_t samples;
    uint64_t sample_bytes;
    uint64_t size_bytes; /* of the file, the buffer included */
    struct atd_buf buffer;
};

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory");
}

int atd_shard_writer_new(const struct atd_shard_writer_options *options,
                         struct atd_shard_writer **ret_writer, struct atd_error *err)
{
    struct atd_shard_writer *writer;

    if (!options->stem || !options->stem[0] || options->stem[strlen(options->stem) - 1] == '/')
        return atd_error_set(err, EINVAL, "shards need a stem, such as DIR/train");
    writer = calloc(1, sizeof(*writer));
    if (!writer)
        return no_memory(err);
    writer->fd = -1;
    writer->samples_max = options->samples_max ? options->samples_max : ATD_SHARD_SAMPLES_DEFAULT;
    writer->bytes_max = options->bytes_max ? options->bytes_max : ATD_SHARD_BYTES_DEFAULT;
    atd_buf_init(&writer->buffer, ATD_LOADED_BYTES_MAX + 2 * BLOCK_BYTES);
    writer->stem = strdup(options->stem);
    if (!writer->stem) {
        atd_shard_writer_free(writer);
        return no_memory(err);
    }
    *ret_writer = writer;
    return 0;
}

static void abandon(struct atd_shard_writer *writer)
{
    if (writer->fd >= 0) {
        (void)close(writer->fd);
        (void)unlink(writer->part_path);
    }
    writer->fd = -1;
    free(atd_steal(writer->path));
    free(atd_steal(writer->part_path));
    atd_buf_clear(&writer->buffer);
}

void atd_shard_writer_free(struct atd_shard_writer *writer)
{
    if (!writer)
        return;
    abandon(writer);
    atd_buf_release(&writer->buffer);
    for (size_t i = 0; i < writer->path_count; i++)
        free(writer->paths[i]);
    free(writer->paths);
    free(writer->stem);
    free(writer);
}

size_t atd_shard_writer_count(const struct atd_shard_writer *writer)
{
    return writer->path_count;
}

const char *atd_shard_writer_path(const struct atd_shard_writer *writer, size_t number)
{
    return number < writer->path_count ? writer->paths[number] : NULL;
}

/* ------------------------------------------------------------------ one shard */

static int system_error(const struct atd_shard_writer *writer, struct atd_error *err)
{
    return atd_error_set(err, errno, "shard '%s' cannot be written: %s", writer->path,
                         strerror(errno));
}

static int make_file(struct atd_shard_writer *writer, struct atd_error *err)
{
    char **grown = realloc(writer->paths, (writer->path_count + 1) * sizeof(*grown));
    unsigned random;

    if (grown)
        writer->paths = grown;
    if (!grown || asprintf(&writer->path, "%s-%06zu.tar", writer->stem, writer->path_count) < 0) {
        writer->path = NULL;
        return no_memory(err);
    }
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return system_error(writer, err);
    if (asprintf(&writer->part_path, "%s.%08x.part", writer->path, random) < 0) {
        writer->part_path = NULL;
        return no_memory(err);
    }
    if (access(writer->path, F_OK) == 0)
        return atd_error_set(err, EEXIST, "shard '%s' is there already", writer->path);
    writer->fd = open(writer->part_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
    return writer->fd < 0 ? system_error(writer, err) : 0;
}

static int begin(struct atd_shard_writer *writer, struct atd_error *err)
{
    int rc;

    if (writer->path_count == ATD_SHARDS_WRITTEN_MAX)
        return atd_error_set(err, E2BIG, "more than %u shards", ATD_SHARDS_WRITTEN_MAX);
    rc = make_file(writer, err);
    writer->samples = writer->sample_bytes = writer->size_bytes = 0;
    return rc;
}

static int flush(struct atd_shard_writer *writer, struct atd_error *err)
{
    size_t at = 0;
    int rc = atd_buf_finish(&writer->buffer, "the shard", err);

    while (rc == 0 && at < writer->buffer.len) {
        ssize_t put = write(writer->fd, writer->buffer.ptr + at, writer->buffer.len - at);

        if (put < 0 && errno != EINTR)
            rc = system_error(writer, err);
        at += put > 0 ? (size_t)put : 0;
    }
    writer->size_bytes += writer->buffer.len;
    atd_buf_clear(&writer->buffer);
    return rc;
}

static int complete(struct atd_shard_writer *writer, struct atd_error *err)
{
    int rc;

    atd_tar_write_end(writer->size_bytes + writer->buffer.len, &writer->buffer);
    rc = flush(writer, err);
    if (rc)
        return rc;
    if (fsync(writer->fd) != 0)
        return system_error(writer, err);
    /* A link, not a rename: what somebody else put there meanwhile stays. */
    if (link(writer->part_path, writer->path) != 0 &&
        (errno == EEXIST || rename(writer->part_path, writer->path) != 0))
        return system_error(writer, err);
    writer->paths[writer->path_count++] = atd_steal(writer->path);
    abandon(writer);
    return 0;
}

/* ------------------------------------------------------------------ samples */

static int bad_key(struct atd_str key, const char *why, struct atd_error *err)
{
    return atd_error_set(err, EINVAL, "key '" ATD_STR_FMT "' %s", ATD_STR_ARG(key), why);
}

static int check_key(const struct atd_shard_writer *writer, struct atd_str key,
                     struct atd_str member_name, struct atd_error *err)
{
    struct atd_str read_back;
    char extension[sizeof(SUFFIX)];

    if (key.len > ATD_SAMPLE_KEY_MAX)
        return bad_key(key, "is too long", err);
    for (size_t i = 0; i < key.len; i++) {
        if ((unsigned char)key.ptr[i] < 0x20)
            return bad_key(key, "has a control character", err);
    }
    if (!atd_utf8_is_valid(key, NULL))
        return bad_key(key, "is not UTF-8", err);
    if (!atd_tar_split_name(member_name, &read_back, extension, sizeof(extension)) ||
        !atd_str_equal(read_back, key) || key.ptr[key.len - 1] == '/')
        return bad_key(key,
                       "would not be read back: it has a dot behind its last slash, or is "
                       "empty there",
                       err);
    if (writer->samples > 0 && key.len == writer->last_key_len &&
        memcmp(key.ptr, writer->last_key, key.len) == 0)
        return bad_key(key, "is that of the sample before", err);
    return 0;
}

static int check_sample(struct atd_str key, struct atd_bytes msgpack, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(CHECK_BYTES_MAX);
    struct atd_sample sample;
    int rc;

    if (msgpack.len > ATD_LOADED_BYTES_MAX)
        return atd_error_set(err, EINVAL, "sample '" ATD_STR_FMT "' has more than %zu MiB",
                             ATD_STR_ARG(key), (size_t)ATD_LOADED_BYTES_MAX >> 20);
    rc = atd_sample_decode(msgpack, &arena, &sample, err);
    return rc ? atd_error_wrap(err, rc, "sample '" ATD_STR_FMT "'", ATD_STR_ARG(key)) : 0;
}

static int write_sample(struct atd_shard_writer *writer, struct atd_str member_name,
                        struct atd_bytes msgpack, struct atd_error *err)
{
    int rc = 0;

    if (writer->fd >= 0 &&
        (writer->samples >= writer->samples_max || writer->sample_bytes >= writer->bytes_max))
        rc = complete(writer, err);
    if (rc == 0 && writer->fd < 0)
        rc = begin(writer, err);
    if (rc)
        return rc;
    atd_tar_write_header(member_name, msgpack.len, MEMBER_MTIME_S, &writer->buffer);
    atd_buf_append(&writer->buffer, msgpack.ptr, msgpack.len);
    atd_buf_append_zeros(&writer->buffer, atd_tar_padding(msgpack.len));
    if (writer->buffer.len >= BLOCK_BYTES || writer->buffer.failed)
        rc = flush(writer, err);
    writer->samples++;
    writer->sample_bytes += msgpack.len;
    return rc;
}

int atd_shard_writer_put(struct atd_shard_writer *writer, struct atd_str key,
                         struct atd_bytes msgpack, struct atd_error *err)
{
    char name[ATD_SAMPLE_KEY_MAX + sizeof(SUFFIX)];
    char number[24];
    struct atd_str member_name = {name, 0};
    int rc;

    if (writer->failed || writer->is_finished)
        return atd_error_set(err, writer->failed ? -writer->failed : EINVAL,
                             writer->failed ? "the shards could not be written before"
                                            : "the shards are finished");
    if (!key.len) {
        (void)snprintf(number, sizeof(number), "%08llu", (unsigned long long)writer->put_count);
        key = atd_str_from(number);
    }
    if (key.len <= ATD_SAMPLE_KEY_MAX) {
        memcpy(name, key.ptr, key.len);
        memcpy(name + key.len, SUFFIX, sizeof(SUFFIX));
        member_name.len = key.len + strlen(SUFFIX);
    }
    rc = check_key(writer, key, member_name, err);
    if (rc == 0)
        rc = check_sample(key, msgpack, err);
    if (rc)
        return rc;
    rc = write_sample(writer, member_name, msgpack, err);
    if (rc) {
        writer->failed = rc;
        abandon(writer);
        return rc;
    }
    memcpy(writer->last_key, key.ptr, key.len);
    writer->last_key_len = key.len;
    writer->put_count++;
    return 0;
}

int atd_shard_writer_finish(struct atd_shard_writer *writer, struct atd_error *err)
{
    int rc = 0;

    if (writer->failed)
        return atd_error_set(err, -writer->failed, "the shards could not be written before");
    if (writer->fd >= 0)
        rc = complete(writer, err);
    if (rc) {
        writer->failed = rc;
        abandon(writer);
    }
    writer->is_finished = true;
    return rc;
}
