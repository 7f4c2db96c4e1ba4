#include "dataset/members_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dirs.h"

#define FOLDER "members"
#define HASH_DIGITS (2 * ATD_SHA256_BYTES)
#define TEMP_PREFIX ".new-"
/* What a writer that died left is removed when it is so old. */
#define TEMP_KEEP_S 3600
/* After a trim there is room for so many parts of the whole. */
#define TRIM_TO(max) ((max) - (max) / 8)

static void hash_name(const struct atd_member_index_of *of, char ret_name[HASH_DIGITS + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < ATD_SHA256_BYTES; i++) {
        ret_name[2 * i] = digits[of->subject[i] >> 4];
        ret_name[2 * i + 1] = digits[of->subject[i] & 15];
    }
    ret_name[HASH_DIGITS] = '\0';
}

int atd_members_folder_init(struct atd_members_folder *folder, const char *dir,
                            struct atd_error *err)
{
    *folder = (struct atd_members_folder){.files_max = ATD_MEMBERS_FILES_MAX,
                                          .bytes_max = ATD_MEMBERS_FOLDER_BYTES_MAX};
    if (dir && asprintf(&folder->path, "%s/" FOLDER, dir) < 0) {
        folder->path = NULL;
        return atd_error_set(err, ENOMEM, "a folder of member indexes: out of memory");
    }
    atd_lock_init(&folder->lock, ATD_RANK_MEMBERS);
    return 0;
}

void atd_members_folder_release(struct atd_members_folder *folder)
{
    free(atd_steal(folder->path));
    atd_lock_destroy(&folder->lock);
}

/* The folder's descriptor, or -1. Somebody else's is not used: what lies there is believed. */
static int open_folder(const struct atd_members_folder *folder, bool make)
{
    atd_auto_fd int fd = -1;
    struct stat st;

    if (!folder->path || (make && atd_make_dirs(folder->path) != 0))
        return -1;
    fd = open(folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_uid != geteuid() || (st.st_mode & 022))
        return -1;
    return atd_steal_fd(&fd);
}

/* ------------------------------------------------------------------ reading */

/* NULL: not to be had, or of a size that none has. */
static uint8_t *read_whole(int fd, size_t *ret_len)
{
    atd_auto_free uint8_t *bytes = NULL;
    struct stat st;
    size_t at = 0;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 ||
        st.st_size > (off_t)ATD_MEMBER_INDEX_BYTES_MAX)
        return NULL;
    bytes = malloc((size_t)st.st_size);
    while (bytes && at < (size_t)st.st_size) {
        ssize_t got = pread(fd, bytes + at, (size_t)st.st_size - at, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return NULL;
        at += (size_t)got;
    }
    *ret_len = at;
    return atd_steal(bytes);
}

bool atd_members_folder_load(struct atd_members_folder *folder,
                             const struct atd_member_index_of *of, struct atd_member_list *ret_list)
{
    static const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
    atd_auto_fd int dir = open_folder(folder, false);
    atd_auto_fd int fd = -1;
    atd_auto_free uint8_t *bytes = NULL;
    char name[HASH_DIGITS + 1];
    size_t len = 0;
    int rc;

    if (dir < 0)
        return false;
    hash_name(of, name);
    fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    bytes = read_whole(fd, &len);
    rc = bytes ? atd_member_index_decode((struct atd_bytes){bytes, len}, of, ret_list, NULL)
               : -EBADMSG;
    if (rc == -EBADMSG || rc == -ESTALE)
        (void)unlinkat(dir, name, 0);
    if (rc == 0)
        (void)futimens(fd, now); /* used: the oldest go first */
    return rc == 0;
}

/* ------------------------------------------------------------------ not too many */

struct aged_file {
    char name[HASH_DIGITS + 1];
    int64_t used_s;
    uint64_t bytes;
};

static int compare_age(const void *a, const void *b)
{
    const struct aged_file *x = a;
    const struct aged_file *y = b;

    return (x->used_s > y->used_s) - (x->used_s < y->used_s);
}

/* Lists the folder; *ret_count files of it, the oldest first. NULL: out of memory, or unreadable.
 */
static struct aged_file *list_folder(int dir_fd, size_t *ret_count, uint64_t *ret_bytes)
{
    int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    struct aged_file *files = malloc(sizeof(*files));
    size_t room = 1;
    size_t count = 0;
    struct dirent *entry;

    if (!dir && copy >= 0)
        (void)close(copy);
    *ret_bytes = 0;
    while (dir && files && (entry = readdir(dir))) {
        struct stat st;

        if (fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
            continue;
        if (strncmp(entry->d_name, TEMP_PREFIX, sizeof(TEMP_PREFIX) - 1) == 0 &&
            st.st_mtime < time(NULL) - TEMP_KEEP_S)
            (void)unlinkat(dir_fd, entry->d_name, 0);
        if (strlen(entry->d_name) != HASH_DIGITS)
            continue;
        if (count == room) {
            struct aged_file *grown = reallocarray(files, room *= 2, sizeof(*files));

            if (!grown)
                break;
            files = grown;
        }
        memcpy(files[count].name, entry->d_name, HASH_DIGITS + 1);
        files[count].used_s = st.st_mtime;
        files[count].bytes = (uint64_t)st.st_size;
        *ret_bytes += files[count++].bytes;
    }
    if (dir)
        (void)closedir(dir);
    if (files)
        qsort(files, count, sizeof(*files), compare_age);
    *ret_count = count;
    return files;
}

/* Counts what is there and deletes the oldest. */
static void trim(struct atd_members_folder *folder, int dir)
{
    size_t count;
    uint64_t bytes;
    atd_auto_free struct aged_file *files = list_folder(dir, &count, &bytes);
    bool too_many = count > folder->files_max || bytes > folder->bytes_max;
    size_t gone = 0;

    while (files && too_many && gone < count &&
           (count - gone > TRIM_TO(folder->files_max) || bytes > TRIM_TO(folder->bytes_max))) {
        (void)unlinkat(dir, files[gone].name, 0);
        bytes -= files[gone++].bytes;
    }
    atd_lock_take(&folder->lock);
    folder->is_counted = true;
    folder->is_trimming = false;
    folder->files = count - gone;
    folder->bytes = bytes;
    atd_lock_give(&folder->lock);
}

static void note_stored(struct atd_members_folder *folder, int dir, uint64_t bytes)
{
    bool due;

    atd_lock_take(&folder->lock);
    folder->files++;
    folder->bytes += bytes;
    due = !folder->is_trimming && (!folder->is_counted || folder->files > folder->files_max ||
                                   folder->bytes > folder->bytes_max);
    folder->is_trimming = folder->is_trimming || due;
    atd_lock_give(&folder->lock);
    if (due)
        trim(folder, dir);
}

/* ------------------------------------------------------------------ writing */

static bool write_whole(int fd, struct atd_bytes bytes)
{
    while (bytes.len > 0) {
        ssize_t got = write(fd, bytes.ptr, bytes.len);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        bytes = (struct atd_bytes){bytes.ptr + got, bytes.len - (size_t)got};
    }
    return true;
}

void atd_members_folder_store(struct atd_members_folder *folder,
                              const struct atd_member_index_of *of,
                              const struct atd_member_list *list)
{
    atd_auto_fd int dir = open_folder(folder, true);
    atd_auto_buf struct atd_buf bytes = ATD_BUF_INIT(ATD_MEMBER_INDEX_BYTES_MAX);
    atd_auto_free char *path = NULL;
    atd_auto_fd int fd = -1;
    char name[HASH_DIGITS + 1];
    const char *temp;

    if (dir < 0)
        return;
    atd_member_index_encode(list, of, &bytes);
    if (bytes.failed || bytes.len > folder->bytes_max)
        return;
    if (asprintf(&path, "%s/" TEMP_PREFIX "XXXXXX", folder->path) < 0) {
        path = NULL;
        return;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return;
    temp = strrchr(path, '/') + 1;
    hash_name(of, name);
    /* No fsync: what a power cut leaves has a wrong checksum, and is made again. */
    if (!write_whole(fd, atd_buf_bytes(&bytes)) || renameat(dir, temp, dir, name) != 0) {
        (void)unlinkat(dir, temp, 0);
        return;
    }
    note_stored(folder, dir, bytes.len);
}
