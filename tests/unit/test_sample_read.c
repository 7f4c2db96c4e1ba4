#include "dataset/sample_read.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/cleanup.h"
#include "support/sample_scene.h"

#define EACH 1000u

static struct sample_scene scene;

static void setup(void)
{
    scene_open(&scene, EACH);
}

static void teardown(void)
{
    scene_close(&scene);
}

TestSuite(sample_read, .init = setup, .fini = teardown, .timeout = 60);

static uint64_t gets(uint64_t *ret_bytes)
{
    uint64_t count;
    uint64_t bytes;

    atd_store_memory_counts(scene.store, &count, &bytes);
    if (ret_bytes)
        *ret_bytes = bytes;
    return count;
}

Test(sample_read, a_sample_is_one_request_of_its_bytes)
{
    struct atd_sample_cache *cache = atd_sample_cache_new(&scene.source, 1u << 20);
    struct atd_read_sample *sample;
    struct atd_error err = ATD_ERROR_INIT;
    uint64_t bytes;

    for (int again = 0; again < 3; again++) {
        cr_assert_eq(scene_get(&scene, cache, 5, &sample, &err), 0, "%s", err.text);
        cr_assert(scene_is_right(sample, 5, EACH));
        atd_read_sample_unref(sample);
        cr_assert_eq(gets(&bytes), 1);
        cr_assert_eq(bytes, scene.members[5].size_bytes);
    }
    atd_sample_cache_free(cache);
}

Test(sample_read, memory_is_bounded_and_the_oldest_goes)
{
    struct atd_sample_cache *cache = atd_sample_cache_new(&scene.source, 20000);
    struct atd_read_sample *held;
    struct atd_read_sample *sample;
    uint64_t first;

    cr_assert_eq(scene_get(&scene, cache, 0, &held, NULL), 0);
    for (unsigned i = 1; i < SCENE_SAMPLES; i++) {
        cr_assert_eq(scene_get(&scene, cache, i, &sample, NULL), 0);
        atd_read_sample_unref(sample);
    }
    first = gets(NULL);
    cr_assert_eq(first, SCENE_SAMPLES);
    cr_assert_eq(scene_get(&scene, cache, SCENE_SAMPLES - 1, &sample, NULL), 0);
    atd_read_sample_unref(sample);
    cr_assert_eq(gets(NULL), first, "the newest is there");
    cr_assert_eq(scene_get(&scene, cache, 0, &sample, NULL), 0);
    cr_assert_eq(gets(NULL), first + 1, "the oldest is not");
    atd_read_sample_unref(sample);
    atd_sample_cache_free(cache);
    /* Who has one may keep it. */
    cr_assert(scene_is_right(held, 0, EACH));
    atd_read_sample_unref(held);
}

Test(sample_read, one_that_is_larger_than_all_the_room)
{
    struct atd_sample_cache *cache = atd_sample_cache_new(&scene.source, 1);
    struct atd_read_sample *sample;

    cr_assert_eq(scene_get(&scene, cache, 3, &sample, NULL), 0);
    cr_assert(scene_is_right(sample, 3, EACH));
    atd_read_sample_unref(sample);
    atd_sample_cache_free(cache);
}

/* Another version is never shown as this one; and what fails is not remembered. */
Test(sample_read, a_shard_that_was_replaced_is_stale)
{
    struct atd_sample_cache *cache = atd_sample_cache_new(&scene.source, 1u << 20);
    struct atd_read_sample *sample;
    struct atd_error err = ATD_ERROR_INIT;

    scene_put(&scene, EACH);
    cr_assert_eq(scene_get(&scene, cache, 3, &sample, &err), -ESTALE);
    cr_assert_eq(err.code, ESTALE);
    cr_assert_eq(atd_store_stat(scene.store, ATD_STR(SCENE_URL), 1000, &scene.info, NULL), 0);
    scene.shard.etag = atd_str_from(scene.info.etag);
    cr_assert_eq(scene_get(&scene, cache, 3, &sample, &err), 0);
    atd_read_sample_unref(sample);
    atd_sample_cache_free(cache);
}

Test(sample_read, beyond_the_end)
{
    uint8_t byte;

    cr_assert_eq(
        atd_member_read(&scene.source, &scene.shard, scene.shard.size_bytes, 1, &byte, NULL),
        -EINVAL);
    cr_assert_eq(atd_member_read(&scene.source, &scene.shard, UINT64_MAX, 2, &byte, NULL), -EINVAL);
    cr_assert_eq(
        atd_member_read(&scene.source, &scene.shard, scene.shard.size_bytes, 0, &byte, NULL), 0);
    cr_assert_eq(gets(NULL), 0);
}

/* A local file is read in place, and only as the version that it was. */
Test(sample_read, local_files)
{
    char directory[] = "/tmp/test_sample_read.XXXXXX";
    const char *const roots[] = {mkdtemp(directory)};
    struct atd_file_store *files;
    char path[64];
    uint8_t bytes[4];
    struct atd_shard shard;
    atd_auto_fd int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/s.tar", directory);
    fd = open(path, O_CREAT | O_RDWR, 0600);
    cr_assert_eq(write(fd, "0123456789", 10), 10);
    cr_assert_eq(atd_file_store_new(roots, 1, &files, NULL), 0);
    shard = (struct atd_shard){
        .file_name = ATD_STR("s.tar"), .path = atd_str_from(path), .size_bytes = 10};
    cr_assert_eq(atd_file_store_stat(files, shard.path, &shard.identity, NULL), 0);
    scene.source.files = files;
    cr_assert_eq(atd_member_read(&scene.source, &shard, 3, 4, bytes, NULL), 0);
    cr_assert_eq(memcmp(bytes, "3456", 4), 0);
    cr_assert_eq(ftruncate(fd, 5), 0);
    cr_assert_eq(atd_member_read(&scene.source, &shard, 3, 4, bytes, NULL), -ESTALE);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(atd_member_read(&scene.source, &shard, 3, 4, bytes, NULL), -ESTALE);
    cr_assert_eq(rmdir(directory), 0);
    atd_file_store_free(files);
}
