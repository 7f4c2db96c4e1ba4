#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/stores.h"

#define PART ((size_t)5000)
#define SIZE ((size_t)12345)

static char dir[64];
static char url[256];
static char id[ATD_UPLOAD_ID_MAX + 1];
static uint8_t source[SIZE];
static struct atd_file_store *files;
static struct atd_store *store;
static struct atd_error err;
static bool lacks_tmpfile;

/* Takes the place of libc's, so that a file system can be one that has no files without names. */
int openat(int dir_fd, const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = va_arg(args, mode_t);
    va_end(args);
    if (lacks_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, dir_fd, path, flags, mode);
}

static void set_up(void)
{
    const char *roots[] = {dir};

    (void)strcpy(dir, "/tmp/atd-upload-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(atd_file_store_new(roots, 1, &files, &err), 0, "%s", err.text);
    cr_assert_eq(atd_store_file_new(files, &store, &err), 0, "%s", err.text);
    for (size_t i = 0; i < SIZE; i++)
        source[i] = (uint8_t)(i * 31 + (i >> 8));
    (void)snprintf(url, sizeof(url), "%s/new/data set/a.tar", dir);
    (void)umask(022);
}

static void tear_down(void)
{
    char command[128];

    atd_store_free(store);
    atd_file_store_free(files);
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(disk_upload, .init = set_up, .fini = tear_down);

static struct atd_bytes piece(size_t first, size_t len)
{
    return (struct atd_bytes){source + first, len};
}

static struct atd_store_upload *begin_at(const char *where)
{
    struct atd_store_upload *upload = NULL;

    cr_assert_eq(atd_store_upload_begin(store, atd_str_from(where), PART, 1000, id, &upload, &err),
                 0, "%s", err.text);
    return upload;
}

/* The last one first; one part is replaced; a last one that was longer before. */
static void send_all(struct atd_store_upload *upload)
{
    cr_assert_eq(atd_store_upload_part(upload, 3, piece(0, PART), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_part(upload, 3, piece(2 * PART, SIZE - 2 * PART), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_part(upload, 2, piece(PART, PART), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_part(upload, 1, piece(9, PART), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_part(upload, 1, piece(0, PART), 1000, &err), 0);
}

static void check_file(const char *path, const uint8_t *bytes, size_t len)
{
    static uint8_t found[SIZE + 1];
    FILE *file = fopen(path, "r");

    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fread(found, 1, sizeof(found), file), len);
    cr_assert_eq(memcmp(found, bytes, len), 0);
    (void)fclose(file);
}

/* Of the directory of the object, without dots. */
static unsigned entries(void)
{
    char path[256];
    DIR *open_dir;
    unsigned count = 0;

    (void)snprintf(path, sizeof(path), "%s/new/data set", dir);
    open_dir = opendir(path);
    if (!open_dir)
        return 0;
    for (struct dirent *entry; (entry = readdir(open_dir));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    (void)closedir(open_dir);
    return count;
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    cr_assert_eq(stat(path, &st), 0, "%s", path);
    return st.st_mode & 07777;
}

static void check_whole_upload(bool named)
{
    struct atd_object_info info;
    struct atd_object_info found;
    char path[256];
    struct atd_store_upload *upload;

    lacks_tmpfile = named;
    upload = begin_at(url);
    cr_assert_eq(id[0] != '\0', named);
    send_all(upload);
    cr_assert_neq(access(url, F_OK), 0);
    cr_assert_eq(entries(), named ? 1 : 0);
    cr_assert_eq(atd_store_upload_finish(upload, 3, 1000, &info, &err), 0, "%s", err.text);
    atd_store_upload_free(upload);
    cr_assert_eq(entries(), 1);
    check_file(url, source, SIZE);
    cr_assert_eq(info.size_bytes, SIZE);
    cr_assert_str_eq(info.etag, "");
    cr_assert_eq(atd_store_stat(store, atd_str_from(url), 1000, &found, &err), 0);
    cr_assert(atd_object_info_same(&info, &found));
    cr_assert_eq(mode_of(url), 0644);
    (void)snprintf(path, sizeof(path), "%s/new", dir);
    cr_assert_eq(mode_of(path), 0755);

    /* And once more: what is there stays. */
    upload = begin_at(url);
    cr_assert_eq(atd_store_upload_part(upload, 1, piece(1, 10), 1000, &err), 0);
    cr_assert_eq(atd_store_upload_finish(upload, 1, 1000, &info, &err), -EEXIST);
    cr_assert_eq(atd_store_upload_abort(upload, 1000, &err), 0);
    atd_store_upload_free(upload);
    check_file(url, source, SIZE);
    cr_assert_eq(entries(), 1);
}

Test(disk_upload, a_file_appears_whole)
{
    check_whole_upload(false);
}

Test(disk_upload, a_file_appears_whole_where_every_file_has_a_name)
{
    check_whole_upload(true);
}

Test(disk_upload, the_umask_counts)
{
    struct atd_object_info info;

    (void)umask(027);
    cr_assert_eq(atd_store_put(store, atd_str_from(url), piece(0, 10), 1000, &info, &err), 0, "%s",
                 err.text);
    cr_assert_eq(mode_of(url), 0640);
}

Test(disk_upload, what_is_aborted_leaves_nothing)
{
    for (int named = 0; named < 2; named++) {
        struct atd_object_info info;
        struct atd_store_upload *upload;

        lacks_tmpfile = named;
        upload = begin_at(url);
        cr_assert_eq(atd_store_upload_part(upload, 1, piece(0, PART), 1000, &err), 0);
        atd_store_upload_cancel(upload);
        cr_assert_eq(atd_store_upload_part(upload, 2, piece(0, 5), 1000, &err), -ECANCELED);
        cr_assert_eq(atd_store_upload_finish(upload, 1, 1000, &info, &err), -ECANCELED);
        cr_assert_eq(atd_store_upload_abort(upload, 1000, &err), 0, "%s", err.text);
        atd_store_upload_free(upload);
        cr_assert_eq(entries(), 0);
    }
}

Test(disk_upload, what_a_dead_process_left_is_taken_back)
{
    char other[256];
    char old[ATD_UPLOAD_ID_MAX + 1];

    cr_assert_eq(atd_store_upload_discard(store, atd_str_from(url), "", 1000, &err), 0);
    cr_assert_eq(entries(), 0);
    lacks_tmpfile = true;
    (void)snprintf(other, sizeof(other), "%s/new/data set/b.tar", dir);
    atd_store_upload_free(begin_at(url));
    memcpy(old, id, sizeof(old));
    atd_store_upload_free(begin_at(url));
    atd_store_upload_free(begin_at(other));
    cr_assert_eq(entries(), 3);
    cr_assert_eq(atd_store_upload_discard(store, atd_str_from(url), old, 1000, &err), 0);
    cr_assert_eq(entries(), 2);
    cr_assert_eq(atd_store_upload_discard(store, atd_str_from(url), old, 1000, &err), 0);
    /* Only of this URL, and nothing else whatever the journal says. */
    cr_assert_eq(atd_store_upload_discard(store, atd_str_from(url), "b.tar", 1000, &err), -EINVAL);
    cr_assert_eq(atd_store_upload_discard(store, atd_str_from(url), id, 1000, &err), -EINVAL);
    cr_assert_eq(atd_store_upload_discard(store, atd_str_from(url), "../x", 1000, &err), -EINVAL);
    cr_assert_eq(atd_store_upload_discard(store, atd_str_from(url), "", 1000, &err), 0);
    cr_assert_eq(entries(), 1);
}

Test(disk_upload, a_small_object_is_put_and_deleted)
{
    struct atd_object_info info;
    bool guards = false;

    cr_assert_eq(
        atd_store_guards(store, atd_str_from(dir), ATD_STR(".scratch"), 1000, &guards, &err), 0);
    cr_assert(guards);
    cr_assert_eq(atd_store_put(store, atd_str_from(url), piece(0, SIZE), 1000, &info, &err), 0);
    check_file(url, source, SIZE);
    cr_assert_eq(atd_store_put(store, atd_str_from(url), piece(1, 5), 1000, &info, &err), -EEXIST);
    check_file(url, source, SIZE);
    cr_assert_eq(entries(), 1);
    cr_assert_eq(atd_store_delete(store, atd_str_from(url), 1000, &err), 0);
    cr_assert_eq(atd_store_delete(store, atd_str_from(url), 1000, &err), 0);
    cr_assert_eq(entries(), 0);
    cr_assert_eq(atd_store_put(store, atd_str_from(url), piece(0, 0), 1000, &info, &err), 0);
    check_file(url, source, 0);
}

Test(disk_upload, nothing_is_written_out_of_the_roots)
{
    static const struct {
        const char *format; /* of the root */
        int code;
    } cases[] = {
        {"/tmp/atd-elsewhere.tar", EACCES},
        {"%s/../atd-elsewhere.tar", EINVAL},
        {"%s/a/../b.tar", EINVAL},
        {"%s/./b.tar", EINVAL},
        {"%s/out/b.tar", EACCES},
        {"%s/out/c/b.tar", EACCES},
        {"%s/file/b.tar", ENOTDIR},
        {"%s/", EACCES},
        {"%s", EACCES},
        {"%s/a/", EINVAL},
        {"%s/a/..", EINVAL},
    };
    char path[256];
    struct atd_object_info info;
    struct atd_store_upload *upload = NULL;

    (void)snprintf(path, sizeof(path), "%s/out", dir);
    cr_assert_eq(symlink("/tmp", path), 0);
    (void)snprintf(path, sizeof(path), "%s/file", dir);
    (void)close(open(path, O_CREAT | O_WRONLY, 0644));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(path, sizeof(path), cases[i].format, dir);
#pragma GCC diagnostic pop
        cr_assert_eq(
            atd_store_upload_begin(store, atd_str_from(path), PART, 1000, id, &upload, &err),
            -cases[i].code, "'%s': %s", path, err.text);
        cr_assert_eq(atd_store_put(store, atd_str_from(path), piece(0, 5), 1000, &info, &err),
                     -cases[i].code, "'%s': %s", path, err.text);
        cr_assert_neq(atd_store_delete(store, atd_str_from(path), 1000, NULL), 1);
    }
    cr_assert_neq(access("/tmp/b.tar", F_OK), 0);
    cr_assert_neq(access("/tmp/atd-elsewhere.tar", F_OK), 0);
}

Test(disk_upload, directories_are_no_objects_and_links_stay_below)
{
    char path[256];
    char link[256];
    struct atd_object_info info;

    (void)snprintf(path, sizeof(path), "%s/real", dir);
    cr_assert_eq(mkdir(path, 0755), 0);
    cr_assert_eq(atd_store_delete(store, atd_str_from(path), 1000, &err), -EINVAL);
    (void)snprintf(link, sizeof(link), "%s/link", dir);
    cr_assert_eq(symlink("real", link), 0);
    (void)snprintf(path, sizeof(path), "%s/link/deep/er//x.tar", dir);
    cr_assert_eq(atd_store_put(store, atd_str_from(path), piece(0, 5), 1000, &info, &err), 0, "%s",
                 err.text);
    (void)snprintf(path, sizeof(path), "%s/real/deep/er/x.tar", dir);
    check_file(path, source, 5);
}

Test(disk_upload, a_missing_root_is_made)
{
    char root[128];
    char path[256];
    const char *roots[] = {root};
    struct atd_file_store *more;
    struct atd_store *other;
    struct atd_object_info info;

    (void)snprintf(root, sizeof(root), "%s/home/.atdata/data/", dir);
    cr_assert_eq(atd_file_store_new(roots, 1, &more, &err), 0);
    cr_assert_eq(atd_store_file_new(more, &other, &err), 0);
    (void)snprintf(path, sizeof(path), "%sx.tar", root);
    cr_assert_eq(atd_store_delete(other, atd_str_from(path), 1000, &err), 0);
    cr_assert_neq(access(root, F_OK), 0);
    cr_assert_eq(atd_store_put(other, atd_str_from(path), piece(0, 5), 1000, &info, &err), 0, "%s",
                 err.text);
    check_file(path, source, 5);
    cr_assert_eq(mode_of(root), 0755);
    atd_store_free(other);
    atd_file_store_free(more);
}

/* ------------------------------------------------------------------ taking a file over */

static int spool(char *path, size_t size)
{
    int fd;

    (void)snprintf(path, size, "%s/spool", dir);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, source, SIZE), (ssize_t)SIZE);
    return fd;
}

Test(disk_upload, a_file_is_taken_over)
{
    char path[256];
    struct atd_object_info info;
    struct stat before;
    struct stat after;
    int fd = spool(path, sizeof(path));

    cr_assert_eq(fstat(fd, &before), 0);
    cr_assert_eq(atd_store_adopt(store, atd_str_from(url), fd, path, &info, &err), 0, "%s",
                 err.text);
    cr_assert_eq(stat(url, &after), 0);
    cr_assert_eq(before.st_ino, after.st_ino);
    cr_assert_eq(after.st_nlink, 1);
    cr_assert_eq(after.st_mode & 07777, 0644);
    cr_assert_neq(access(path, F_OK), 0);
    cr_assert_eq(info.size_bytes, SIZE);
    (void)close(fd);

    /* What is there stays, and so does the spool. */
    fd = spool(path, sizeof(path));
    cr_assert_eq(ftruncate(fd, 5), 0);
    cr_assert_eq(atd_store_adopt(store, atd_str_from(url), fd, path, &info, &err), -EEXIST);
    cr_assert_eq(access(path, F_OK), 0);
    check_file(url, source, SIZE);
    (void)close(fd);
}

Test(disk_upload, a_file_of_another_file_system_is_not_taken_over)
{
    char path[] = "/dev/shm/atd-spool-XXXXXX";
    struct atd_object_info info;
    struct stat here;
    struct stat there;
    int fd = mkstemp(path);

    cr_assert(fd >= 0);
    cr_assert_eq(stat(dir, &here), 0);
    cr_assert_eq(fstat(fd, &there), 0);
    if (here.st_dev != there.st_dev) {
        cr_assert_eq(atd_store_adopt(store, atd_str_from(url), fd, path, &info, &err), -EXDEV, "%s",
                     err.text);
        cr_assert_eq(entries(), 0);
    }
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(atd_store_adopt(store, atd_str_from(url), fd, path, &info, &err), -ENOTSUP);
    (void)close(fd);
}

Test(disk_upload, somebody_elses_file_of_the_old_name_stays)
{
    char path[256];
    char moved[256];
    struct atd_object_info info;
    int fd = spool(path, sizeof(path));

    (void)snprintf(moved, sizeof(moved), "%s/moved", dir);
    cr_assert_eq(rename(path, moved), 0);
    (void)close(open(path, O_CREAT | O_WRONLY, 0600));
    cr_assert_eq(atd_store_adopt(store, atd_str_from(url), fd, path, &info, &err), 0, "%s",
                 err.text);
    cr_assert_eq(access(path, F_OK), 0);
    (void)close(fd);
}
