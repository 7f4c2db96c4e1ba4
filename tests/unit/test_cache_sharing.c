#include <sys/file.h>

#include "base/clock.h"
#include "cache_files.h"
#include "support/child.h"

TestSuite(cache_sharing, .init = setup, .fini = teardown);

/* Writes blocks and reports each over the pipe, until it is killed. */
static void write_until_killed(int report)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    const struct atd_object_info info = object_info(1024 * BLOCK, "e");
    struct atd_cache_file *file = open_object(dir, URL, &info);

    for (uint32_t i = 0; i < 1024; i++) {
        uint32_t block = i * 389 % 1024;

        if (write_blocks(file, 1, block, 1) != 0 ||
            write(report, &block, sizeof(block)) != sizeof(block))
            _exit(1);
    }
    pause();
}

Test(cache_sharing, a_killed_writer_leaves_all_that_it_reported)
{
    const struct atd_object_info info = object_info(1024 * BLOCK, "e");
    struct atd_cache_dir *dir;
    struct atd_cache_file *file;
    uint32_t reported[1024];
    size_t count = 0;
    int pipes[2];
    pid_t child;

    cr_assert_eq(pipe(pipes), 0);
    child = child_fork();
    if (child == 0) {
        write_until_killed(pipes[1]);
        _exit(1);
    }
    (void)close(pipes[1]);
    while (count < 300) {
        cr_assert_eq(read(pipes[0], &reported[count], sizeof(uint32_t)), 4);
        count++;
    }
    child_kill(child);
    while (count < 1024 && read(pipes[0], &reported[count], sizeof(uint32_t)) == 4)
        count++;
    (void)close(pipes[0]);

    dir = open_dir(1u << 30);
    file = open_object(dir, URL, &info);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(read_blocks(file, 1, reported[i], 1, false), 0);
    for (uint64_t block = 0; block < 1024; block++) {
        if (atd_cache_file_has(file, block))
            cr_assert_eq(read_blocks(file, 1, block, 1, false), 0);
    }
    cr_assert_eq(stats.bad_blocks, 0);
    atd_cache_file_close(file);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_sharing, what_another_process_fetched_is_seen)
{
    struct atd_cache_dir *dir = open_dir(1u << 30);
    struct atd_cache_dir *other = open_dir(1u << 30);
    const struct atd_object_info info = object_info(SIZE, "e1");
    struct atd_cache_file *file = open_object(dir, URL, &info);
    struct atd_cache_file *theirs = open_object(other, URL, &info);

    cr_assert_eq(write_blocks(theirs, 1, 0, 5), 0);
    cr_assert_eq(read_blocks(file, 1, 2, 1, false), 0); /* reading asks the file */
    cr_assert(atd_cache_file_has(file, 2));
    cr_assert_eq(write_blocks(file, 1, 5, 1), 0); /* fetching looks what there is */
    cr_assert(atd_cache_file_is_complete(file));
    cr_assert(!atd_cache_file_is_complete(theirs));
    cr_assert_eq(atd_cache_file_verify(theirs, NULL, NULL), 0); /* so does checking */
    atd_cache_file_close(file);
    atd_cache_file_close(theirs);
    cr_assert(atd_cache_dir_close(dir));
    cr_assert(atd_cache_dir_close(other));
}

/* True once somebody waits for the flock of this very file: "N: -> FLOCK" in /proc/locks. */
static bool is_waiting_for_lock(int fd)
{
    struct stat st;
    char inode[32];

    cr_assert_eq(fstat(fd, &st), 0);
    (void)snprintf(inode, sizeof(inode), ":%lu ", (unsigned long)st.st_ino);
    for (int i = 0; i < 2000; i++) {
        FILE *locks = fopen("/proc/locks", "re");
        char line[256];
        bool found = false;

        cr_assert(locks);
        while (fgets(line, sizeof(line), locks))
            found = found || (strstr(line, "-> FLOCK") && strstr(line, inode));
        (void)fclose(locks);
        if (found)
            return true;
        (void)usleep(5000);
    }
    return false;
}

struct opening {
    struct atd_cache_dir *dir;
    struct atd_cache_file *file;
};

static void *open_once(void *ctx)
{
    struct opening *opening = ctx;
    const struct atd_object_info info = object_info(SIZE, "e1");

    opening->file = open_object(opening->dir, URL, &info);
    return NULL;
}

/* As another process evicts: locked, unlinked, let go. */
Test(cache_sharing, an_open_during_an_eviction_makes_a_new_file)
{
    struct opening opening = {.dir = open_dir(1u << 30)};
    const struct atd_object_info info = object_info(SIZE, "e1");
    char data[PATH_MAX];
    char map[PATH_MAX];
    struct stat st;
    pthread_t thread;
    int fd;

    object_path(path, URL, &info, ".data", data);
    object_path(path, URL, &info, ".map", map);
    put_object(opening.dir, 1, URL, &info);
    fd = open(data, O_RDWR | O_CLOEXEC);
    cr_assert_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
    cr_assert_eq(pthread_create(&thread, NULL, open_once, &opening), 0);
    cr_assert(is_waiting_for_lock(fd));
    cr_assert_eq(unlink(map), 0);
    cr_assert_eq(unlink(data), 0);
    (void)close(fd);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(atd_cache_file_present_blocks(opening.file), 0);
    cr_assert_eq(write_blocks(opening.file, 1, 0, 6), 0);
    cr_assert_eq(stat(data, &st), 0);
    cr_assert_eq(st.st_ino, opening.file->inode);
    atd_cache_file_close(opening.file);
    cr_assert(atd_cache_dir_close(opening.dir));
}

/* Of two processes that fetch the same the slower one changes nothing: what the other one has
 * verified meanwhile the kernel may be reading. */
Test(cache_sharing, who_comes_second_leaves_the_bytes_alone)
{
    struct atd_cache_dir *dirs[2] = {open_dir(1u << 30), open_dir(1u << 30)};
    const struct atd_object_info info = object_info(SIZE, "e");
    struct atd_cache_file *first = open_object(dirs[0], URL, &info);
    struct atd_cache_file *second = open_object(dirs[1], URL, &info);
    uint8_t *bytes = malloc(SIZE);
    int fd = -1;

    cr_assert_eq(write_blocks(first, 1, 0, 6), 0);
    cr_assert_eq(atd_cache_file_verify(first, NULL, NULL), 0);
    cr_assert_eq(atd_cache_file_dup(first, &fd, NULL), 0);
    cr_assert(!atd_cache_file_has(second, 2), "it has not looked");
    cr_assert_eq(write_blocks(second, 9, 1, 5), 0, "what a lying store sent it");
    cr_assert_eq(pread(fd, bytes, SIZE, 0), SIZE);
    cr_assert(object_is(1, 0, bytes, SIZE));
    cr_assert(atd_cache_file_is_complete(second) || atd_cache_file_has(second, 5));
    cr_assert_eq(read_blocks(second, 1, 0, 6, false), 0);
    free(bytes);
    (void)close(fd);
    atd_cache_file_close(first);
    atd_cache_file_close(second);
    cr_assert(atd_cache_dir_close(dirs[0]));
    cr_assert(atd_cache_dir_close(dirs[1]));
}

#define SHARED_OBJECTS 12u
#define SHARED_BLOCKS 8u

/* Reads and writes at random in a directory too small for all, with damage from outside. */
static void use_at_random(unsigned seed)
{
    struct atd_cache_dir *dir = open_dir(48 * BLOCK);
    const struct atd_object_info info = object_info(SHARED_BLOCKS * BLOCK - 99, "e");
    int64_t until_ms = atd_clock_monotonic_ms() + 1500;
    unsigned rounds = 0;

    /* On a busy machine it takes longer. */
    while (atd_clock_monotonic_ms() < until_ms || rounds <= 20) {
        unsigned object = (unsigned)rand_r(&seed) % SHARED_OBJECTS;
        char text[64];
        struct atd_str url = numbered_url(object, text);
        struct atd_cache_file *file = NULL;
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atd_cache_file_open(dir, url, &info, &file, &err);

        cr_assert(rc == 0 || rc == -EBUSY, "%s", err.text);
        if (rc)
            continue;
        for (unsigned i = 0; i < 6; i++) {
            uint64_t block = (uint64_t)rand_r(&seed) % SHARED_BLOCKS;

            rc = read_blocks(file, object, block, 1, false);
            cr_assert(rc == 0 || rc == -ENODATA);
            if (rc == -ENODATA) {
                rc = write_blocks(file, object, block, 1);
                cr_assert(rc == 0 || rc == -EFBIG);
            }
        }
        if (atd_cache_file_is_complete(file)) {
            rc = atd_cache_file_verify(file, NULL, NULL);
            cr_assert(rc == 0 || rc == -ENODATA);
        }
        atd_cache_file_close(file);
        rounds++;
    }
    cr_assert_eq(stats.bad_blocks, 0);
    cr_assert(atd_cache_dir_close(dir));
}

Test(cache_sharing, processes_share_it_while_it_evicts)
{
    struct atd_cache_dir *dir;
    pid_t children[3];

    for (unsigned i = 0; i < 3; i++) {
        children[i] = child_fork();
        if (children[i] == 0) {
            use_at_random(i + 1);
            _exit(stats.evicted_files > 0 ? 0 : 3);
        }
    }
    for (unsigned i = 0; i < 3; i++) {
        int code = child_join(children[i]);

        cr_assert(code == 0 || code == 3, "%d", code);
    }
    dir = open_dir(48 * BLOCK);
    cr_assert(!pending(dir, 1));
    /* Each knew late what the others wrote; who looks now makes it right. */
    for (int i = 0; i < 2000 && atd_cache_dir_used_bytes(dir) > 48 * BLOCK; i++)
        (void)usleep(10000);
    cr_assert_leq(atd_cache_dir_used_bytes(dir), 48 * BLOCK);
    cr_assert(atd_cache_dir_close(dir));
}

/* ------------------------------------------------------------------ ending a verification */

struct verification {
    struct atd_cache_file *file;
    atomic_int rc;
};

static void *verify_again_and_again(void *ctx)
{
    struct verification *verification = ctx;
    int rc = 0;

    /* Until it is told to stop: being verified is undone, so that each has work to do. */
    while (rc == 0) {
        rc = atd_cache_file_verify(verification->file, NULL, NULL);
        atomic_store(&verification->file->verified, false);
    }
    atomic_store(&verification->rc, rc);
    return NULL;
}

Test(cache_sharing, a_verification_ends_with_the_directory_or_its_last_other_user)
{
    for (int by_close = 0; by_close < 2; by_close++) {
        struct atd_cache_dir *dir = open_dir(1u << 30);
        const struct atd_object_info info = object_info(400 * BLOCK, "e");
        struct verification verification = {.file = open_object(dir, URL, &info)};
        struct atd_cache_file *user = open_object(dir, URL, &info);
        pthread_t thread;

        cr_assert_eq(write_blocks(user, 1, 0, 400), 0);
        cr_assert_eq(pthread_create(&thread, NULL, verify_again_and_again, &verification), 0);
        while (atomic_load(&stats.verified_objects) < 2)
            (void)usleep(1000);
        if (by_close) {
            bool verifying = false;

            while (!verifying) {
                atd_lock_take(&dir->lock);
                verifying = user->verifiers > 0;
                atd_lock_give(&dir->lock);
            }
            atd_cache_file_close(user);
            /* It may have ended just before, and goes on alone then: that is fine too. */
            for (int i = 0; i < 200 && atomic_load(&verification.rc) == 0; i++)
                (void)usleep(1000);
        }
        atd_cache_dir_interrupt(dir);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        cr_assert_eq(atomic_load(&verification.rc), -ECANCELED);
        if (!by_close)
            atd_cache_file_close(user);
        atd_cache_file_close(verification.file);
        cr_assert(atd_cache_dir_close(dir));
    }
}
