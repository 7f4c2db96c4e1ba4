/*
 * Threads open, read, write, verify and close a few objects in a directory that is too small for
 * all of them, so that the eviction thread works too: every byte read is right.
 */
#include <stdatomic.h>

#include "base/clock.h"
#include "race.h"
#include "support/cache_setup.h"

#define RUN_MS 1500
#define OBJECTS 10u
#define BLOCKS 6u

static struct atd_cache_dir *dir;
static struct atd_cache_stats stats;
static atomic_uint seeds;
static atomic_uint reads;

static void use_object(unsigned object, unsigned *seed, uint8_t *bytes)
{
    const struct atd_object_info info = object_info(BLOCKS * BLOCK - 77, "e");
    struct atd_cache_file *file;
    char url[64];
    int rc;

    (void)snprintf(url, sizeof(url), "s3://bucket/%u.tar", object);
    MUST(atd_cache_file_open(dir, atd_str_from(url), &info, &file, NULL) == 0);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t block = (unsigned)rand_r(seed) % BLOCKS;
        size_t len = block == BLOCKS - 1 ? BLOCK - 77 : BLOCK;

        rc = atd_cache_file_read(file, block, 1, rand_r(seed) % 2 == 0, bytes, NULL);
        if (rc == 0) {
            MUST(object_is(object, block * BLOCK, bytes, len));
            (void)atomic_fetch_add(&reads, 1);
        } else if (rc == -ENODATA) {
            object_fill(object, block * BLOCK, bytes, len);
            rc = atd_cache_file_write(file, block, bytes, len, NULL);
            MUST(rc == 0 || rc == -EFBIG);
        } else {
            MUST(rc == -EAGAIN);
        }
        MUST(atd_cache_file_present_blocks(file) <= BLOCKS);
    }
    if (atd_cache_file_is_complete(file) && !atd_cache_file_is_verified(file)) {
        rc = atd_cache_file_verify(file, NULL, NULL);
        MUST(rc == 0 || rc == -ECANCELED);
    }
    atd_cache_file_close(file);
}

static void *use(void *ctx)
{
    unsigned seed = atomic_fetch_add(&seeds, 1);
    int64_t until_ms = atd_clock_monotonic_ms() + RUN_MS;
    uint8_t *bytes = malloc(BLOCK);

    (void)ctx;
    MUST(bytes);
    while (atd_clock_monotonic_ms() < until_ms) {
        use_object((unsigned)rand_r(&seed) % OBJECTS, &seed, bytes);
        (void)atd_cache_dir_used_bytes(dir);
    }
    free(bytes);
    return NULL;
}

int main(void)
{
    char path[PATH_MAX];
    struct atd_cache_dir_options options = {
        .path = path, .size_max_bytes = 40 * BLOCK, .stats = &stats};

    make_temp_dir(path);
    MUST(atd_cache_dir_open(&options, &dir, NULL) == 0);
    race(use, NULL);
    MUST(atd_cache_dir_close(dir));
    MUST(atomic_load(&reads) > 0);
    MUST(atomic_load(&stats.bad_blocks) == 0);
    MUST(atomic_load(&stats.evicted_files) > 0);
    remove_tree(path);
    return 0;
}
