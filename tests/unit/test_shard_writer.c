#include <archive.h>
#include <archive_entry.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atdata/sample.h"
#include "atdata/shard_writer.h"
#include "base/cleanup.h"
#include "dataset/member_stream.h"
#include "publish/inspect.h"

static char directory[64];
static char stem[96];

static void setup(void)
{
    (void)snprintf(directory, sizeof(directory), "/tmp/atd-shards-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    (void)snprintf(stem, sizeof(stem), "%s/s", directory);
}

static void teardown(void)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(shard_writer, .init = setup, .fini = teardown);

static void encode(unsigned number, size_t filler, struct atd_buf *out)
{
    atd_auto_free char *text = calloc(1, filler + 1);

    memset(text, 'x', filler);
    atd_buf_clear(out);
    atd_sample_put_map(out, 2);
    atd_sample_put_str(out, ATD_STR("n"));
    atd_sample_put_uint(out, number);
    atd_sample_put_str(out, ATD_STR("t"));
    atd_sample_put_str(out, (struct atd_str){text, filler});
}

static struct atd_shard_writer *make(uint64_t samples_max, uint64_t bytes_max)
{
    const struct atd_shard_writer_options options = {stem, samples_max, bytes_max};
    struct atd_shard_writer *writer;

    cr_assert_eq(atd_shard_writer_new(&options, &writer, NULL), 0);
    return writer;
}

static int put(struct atd_shard_writer *writer, const char *key, unsigned number, size_t filler)
{
    atd_auto_buf struct atd_buf sample = ATD_BUF_INIT(1 << 24);
    struct atd_error err = ATD_ERROR_INIT;

    encode(number, filler, &sample);
    return atd_shard_writer_put(writer, atd_str_from(key), atd_buf_bytes(&sample), &err);
}

static void read_file(const char *path, struct atd_buf *out)
{
    atd_auto_file FILE *file = fopen(path, "rb");
    char bytes[4096];
    size_t got;

    cr_assert_not_null(file, "%s", path);
    while ((got = fread(bytes, 1, sizeof(bytes), file)) > 0)
        atd_buf_append(out, bytes, got);
}

/* How many files lie there: no temporary one is left. */
static unsigned count_files(void)
{
    char command[128];
    unsigned count = 0;
    FILE *pipe;

    (void)snprintf(command, sizeof(command), "ls -A %s | wc -l", directory);
    pipe = popen(command, "r");
    cr_assert_eq(fscanf(pipe, "%u", &count), 1);
    (void)pclose(pipe);
    return count;
}

Test(shard_writer, libarchive_reads_it)
{
    static const char *const keys[] = {"", "a/b", "x", "dir.d/k", NULL};
    atd_auto_buf struct atd_buf sample = ATD_BUF_INIT(1 << 24);
    char long_key[301] = {0};
    struct atd_shard_writer *writer = make(0, 0);
    struct archive *tar = archive_read_new();
    struct archive_entry *entry;
    unsigned number = 0;

    memset(long_key, 'k', 300);
    for (size_t i = 0; keys[i]; i++)
        cr_assert_eq(put(writer, keys[i], (unsigned)i, 600 * i), 0);
    cr_assert_eq(put(writer, long_key, 4, 5), 0);
    cr_assert_eq(count_files(), 1);
    cr_assert_eq(atd_shard_writer_count(writer), 0);
    cr_assert_eq(atd_shard_writer_finish(writer, NULL), 0);
    cr_assert_eq(atd_shard_writer_count(writer), 1);
    cr_assert_eq(put(writer, "y", 1, 1), -EINVAL);
    archive_read_support_format_tar(tar);
    cr_assert_eq(archive_read_open_filename(tar, atd_shard_writer_path(writer, 0), 10240),
                 ARCHIVE_OK);
    while (archive_read_next_header(tar, &entry) == ARCHIVE_OK) {
        char wanted[320];
        atd_auto_free char *bytes = NULL;

        (void)snprintf(wanted, sizeof(wanted), "%s.msgpack",
                       number == 4   ? long_key
                       : number == 0 ? "00000000"
                                     : keys[number]);
        cr_assert_str_eq(archive_entry_pathname(entry), wanted);
        encode(number, number == 4 ? 5 : 600 * number, &sample);
        cr_assert_eq((size_t)archive_entry_size(entry), sample.len);
        bytes = malloc(sample.len);
        cr_assert_eq((size_t)archive_read_data(tar, bytes, sample.len), sample.len);
        cr_assert_arr_eq(bytes, sample.ptr, sample.len);
        cr_assert_eq(archive_entry_perm(entry), 0444);
        number++;
    }
    cr_assert_eq(number, 5);
    (void)archive_read_free(tar);
    atd_shard_writer_free(writer);
    cr_assert_eq(count_files(), 1);
}

Test(shard_writer, rolls_by_count_and_by_bytes)
{
    struct atd_shard_writer *writer = make(3, 0);
    struct stat st;

    for (unsigned i = 0; i < 7; i++)
        cr_assert_eq(put(writer, "", i, 10), 0);
    cr_assert_eq(atd_shard_writer_finish(writer, NULL), 0);
    cr_assert_eq(atd_shard_writer_count(writer), 3);
    cr_assert_str_eq(strrchr(atd_shard_writer_path(writer, 2), '/'), "/s-000002.tar");
    cr_assert_eq(stat(atd_shard_writer_path(writer, 2), &st), 0);
    cr_assert_eq(st.st_size % 10240, 0);
    atd_shard_writer_free(writer);
    (void)snprintf(stem, sizeof(stem), "%s/b", directory);
    writer = make(0, 1000);
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(put(writer, "", i, 600), 0);
    cr_assert_eq(atd_shard_writer_finish(writer, NULL), 0);
    cr_assert_eq(atd_shard_writer_count(writer), 2);
    atd_shard_writer_free(writer);
}

Test(shard_writer, the_inspection_finds_it_good)
{
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(1 << 24);
    struct atd_shard_writer *writer = make(0, 0);
    struct atd_inspection *inspection = atd_inspection_new(NULL);
    struct atd_inspect_result result;

    for (unsigned i = 0; i < 100; i++)
        cr_assert_eq(put(writer, "", i, 100 * i), 0);
    cr_assert_eq(atd_shard_writer_finish(writer, NULL), 0);
    read_file(atd_shard_writer_path(writer, 0), &bytes);
    cr_assert_eq(atd_inspection_feed(inspection, atd_buf_bytes(&bytes), NULL), 0);
    cr_assert_eq(atd_inspection_finish(inspection, &result, NULL), 0);
    cr_assert_eq(result.samples, 100);
    cr_assert(result.is_msgpack);
    atd_inspection_free(inspection);
    atd_shard_writer_free(writer);
}

Test(shard_writer, refuses_what_would_not_be_read_back)
{
    static const char *const bad[] = {"a.b", ".a", "a/", "a\nb", "__x__/y", "\xff"};
    struct atd_shard_writer *writer = make(0, 0);
    char too_long[ATD_SAMPLE_KEY_MAX + 2] = {0};

    memset(too_long, 'k', ATD_SAMPLE_KEY_MAX + 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(put(writer, bad[i], 0, 1), -EINVAL, "%s", bad[i]);
    cr_assert_eq(put(writer, too_long, 0, 1), -EINVAL);
    cr_assert_eq(atd_shard_writer_put(writer, ATD_STR(""), atd_str_bytes(ATD_STR("\xc1")), NULL),
                 -EINVAL);
    cr_assert_eq(put(writer, "k", 0, 1), 0);
    cr_assert_eq(put(writer, "k", 0, 1), -EINVAL);
    cr_assert_eq(put(writer, "l", 0, 1), 0);
    atd_shard_writer_free(writer);
    cr_assert_eq(count_files(), 0);
}

Test(shard_writer, never_over_a_file)
{
    struct atd_shard_writer *writer = make(1, 0);
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s-000001.tar", stem);
    file = fopen(path, "w");
    (void)fclose(file);
    cr_assert_eq(put(writer, "", 0, 1), 0);
    cr_assert_eq(put(writer, "", 1, 1), -EEXIST);
    cr_assert_eq(put(writer, "", 2, 1), -EEXIST);
    cr_assert_eq(atd_shard_writer_finish(writer, NULL), -EEXIST);
    cr_assert_eq(atd_shard_writer_count(writer), 1);
    atd_shard_writer_free(writer);
    cr_assert_eq(count_files(), 2);
}

/* ------------------------------------------------------------------ read back in pieces */

struct pieces {
    struct atd_bytes left;
    size_t step;
};

static int next_piece(void *ctx, struct atd_bytes *ret_bytes, struct atd_error *err)
{
    struct pieces *pieces = ctx;

    (void)err;
    *ret_bytes = pieces->left;
    if (ret_bytes->len > pieces->step)
        ret_bytes->len = pieces->step;
    pieces->left.ptr += ret_bytes->len;
    pieces->left.len -= ret_bytes->len;
    return 0;
}

/* The result of the last call. */
static int read_members(struct atd_bytes tar, size_t step, unsigned *ret_count)
{
    struct pieces pieces = {tar, step};
    struct atd_member_stream *members = atd_member_stream_new(next_piece, &pieces);
    struct atd_error err = ATD_ERROR_INIT;
    int rc;

    for (*ret_count = 0;; (*ret_count)++) {
        atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 20);
        struct atd_sample sample;
        struct atd_bytes bytes;
        struct atd_str name;

        rc = atd_member_stream_next(members, &name, &bytes, &err);
        if (rc || !name.ptr)
            break;
        cr_assert_eq(atd_sample_decode(bytes, &arena, &sample, NULL), 0);
        cr_assert_eq(sample.fields[0].value.u, *ret_count);
    }
    cr_assert((rc == 0) == (err.code == 0));
    atd_member_stream_free(members);
    return rc;
}

Test(shard_writer, read_back_in_pieces_of_any_size)
{
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(1 << 24);
    struct atd_shard_writer *writer = make(0, 0);
    unsigned count;

    for (unsigned i = 0; i < 20; i++)
        cr_assert_eq(put(writer, "", i, 97 * i), 0);
    cr_assert_eq(atd_shard_writer_finish(writer, NULL), 0);
    read_file(atd_shard_writer_path(writer, 0), &bytes);
    for (size_t step = 11; step < 30000; step = step * 3 / 2) {
        cr_assert_eq(read_members(atd_buf_bytes(&bytes), step, &count), 0);
        cr_assert_eq(count, 20);
    }
    /* Cut anywhere it ends with an error, or where a member ends; never with a wrong sample. */
    for (size_t len = 0; len < bytes.len; len += 61) {
        int rc = read_members((struct atd_bytes){bytes.ptr, len}, 1000, &count);

        cr_assert(rc == -EINVAL || rc == 0);
        cr_assert(rc == -EINVAL || len % 512 == 0 || count == 20, "%zu", len);
    }
    atd_shard_writer_free(writer);
}
