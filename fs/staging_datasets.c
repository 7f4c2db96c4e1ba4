/*
 * Datasets that have no shard yet: directories in STATE/datasets/, and what was put into them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/dirs.h"
#include "base/log.h"
#include "codec/file_name.h"
#include "staging_table.h"

static const char *const record_files[STAGED_RECORDS] = {
    [STAGED_SCHEMA] = "schema.json",
    [STAGED_METADATA] = "metadata.json",
};

struct record_text {
    uint8_t *text; /* NULL: none */
    size_t len;
    int64_t mtime_s;
};

struct empty_dataset {
    char *file_name;
    struct record_text records[STAGED_RECORDS];
};

static void free_dataset(struct empty_dataset *dataset)
{
    if (!dataset)
        return;
    for (size_t i = 0; i < STAGED_RECORDS; i++)
        free(dataset->records[i].text);
    free(dataset->file_name);
    free(dataset);
}

static struct empty_dataset *make_dataset(struct atd_str file_name)
{
    struct empty_dataset *dataset = calloc(1, sizeof(*dataset));

    if (dataset)
        dataset->file_name = strndup(file_name.ptr, file_name.len);
    if (dataset && !dataset->file_name) {
        free(dataset);
        return NULL;
    }
    return dataset;
}

/* ------------------------------------------------------------------ in memory */

/* Its place, or where it would be. */
static bool find_locked(const struct staging *staging, struct atd_str file_name, size_t *ret_place)
{
    size_t low = 0;
    size_t high = staging->dataset_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = atd_str_compare(atd_str_from(staging->datasets[middle]->file_name), file_name);

        if (order == 0) {
            *ret_place = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_place = low;
    return false;
}

/* 0 or an errno; the dataset is taken on success. */
static int insert_locked(struct staging *staging, struct empty_dataset *dataset)
{
    size_t place;

    if (find_locked(staging, atd_str_from(dataset->file_name), &place))
        return EEXIST;
    if (staging->dataset_count == staging->dataset_room) {
        size_t room = staging->dataset_room ? staging->dataset_room * 2 : 16;
        struct empty_dataset **grown =
            reallocarray(staging->datasets, room, sizeof(struct empty_dataset *));

        if (!grown)
            return ENOMEM;
        staging->datasets = grown;
        staging->dataset_room = room;
    }
    memmove(&staging->datasets[place + 1], &staging->datasets[place],
            (staging->dataset_count - place) * sizeof(struct empty_dataset *));
    staging->datasets[place] = dataset;
    staging->dataset_count++;
    staging_changed_locked(staging);
    return 0;
}

static struct empty_dataset *take_locked(struct staging *staging, size_t place)
{
    struct empty_dataset *dataset = staging->datasets[place];

    staging->dataset_count--;
    memmove(&staging->datasets[place], &staging->datasets[place + 1],
            (staging->dataset_count - place) * sizeof(struct empty_dataset *));
    staging_changed_locked(staging);
    return dataset;
}

static int insert(struct staging *staging, struct empty_dataset *dataset)
{
    int code;

    atd_lock_take(&staging->lock);
    code = insert_locked(staging, dataset);
    atd_lock_give(&staging->lock);
    return code;
}

static struct empty_dataset *take(struct staging *staging, struct atd_str file_name)
{
    struct empty_dataset *dataset = NULL;
    size_t place;

    atd_lock_take(&staging->lock);
    if (find_locked(staging, file_name, &place))
        dataset = take_locked(staging, place);
    atd_lock_give(&staging->lock);
    return dataset;
}

size_t staging_dataset_count(struct staging *staging)
{
    size_t count;

    atd_lock_take(&staging->lock);
    count = staging->dataset_count;
    atd_lock_give(&staging->lock);
    return count;
}

bool staging_has_dataset(struct staging *staging, struct atd_str file_name)
{
    size_t place;
    bool is_there;

    atd_lock_take(&staging->lock);
    is_there = find_locked(staging, file_name, &place);
    atd_lock_give(&staging->lock);
    return is_there;
}

void staging_datasets_free(char **names, size_t count)
{
    for (size_t i = 0; names && i < count; i++)
        free(names[i]);
    free(names);
}

int staging_datasets(struct staging *staging, char ***ret_names, size_t *ret_count,
                     struct atd_error *err)
{
    char **names = NULL;
    size_t count = 0;
    bool failed;

    atd_lock_take(&staging->lock);
    if (staging->dataset_count)
        names = calloc(staging->dataset_count, sizeof(*names));
    failed = staging->dataset_count && !names;
    while (!failed && count < staging->dataset_count) {
        names[count] = strdup(staging->datasets[count]->file_name);
        failed = !names[count];
        count += !failed;
    }
    atd_lock_give(&staging->lock);
    if (failed) {
        staging_datasets_free(names, count);
        return atd_error_set(err, ENOMEM, "out of memory");
    }
    *ret_names = names;
    *ret_count = count;
    return 0;
}

void staging_free_datasets(struct staging *staging)
{
    for (size_t i = 0; i < staging->dataset_count; i++)
        free_dataset(staging->datasets[i]);
    free(staging->datasets);
    if (staging->datasets_fd >= 0)
        (void)close(staging->datasets_fd);
    free(staging->datasets_path);
}

/* ------------------------------------------------------------------ on the disk */

/* Whatever it is, the disk's name of a dataset is its file name: what an encoding yields. */
static bool is_dataset_name(struct atd_str file_name)
{
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT(ATD_FILE_NAME_MAX);

    return file_name.len > 0 && file_name.len <= ATD_FILE_NAME_MAX &&
           memchr(file_name.ptr, '\0', file_name.len) == NULL &&
           atd_file_name_decode(file_name, &name, NULL) == 0;
}

static int fail(struct atd_str file_name, int code, struct atd_error *err)
{
    return atd_error_set(err, code, "empty dataset '" ATD_STR_FMT "': %s", ATD_STR_ARG(file_name),
                         strerror(code));
}

static int open_directory(const struct staging *staging, const char *file_name)
{
    return openat(staging->datasets_fd, file_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* What cannot be removed shows again after a remount, no more. */
static void remove_from_disk(const struct staging *staging, const char *file_name)
{
    int fd = open_directory(staging, file_name);
    DIR *files = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *file;

    if (!files && fd >= 0)
        (void)close(fd);
    while (files && (file = readdir(files))) {
        if (strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0)
            (void)unlinkat(dirfd(files), file->d_name, 0);
    }
    if (files)
        (void)closedir(files);
    if (unlinkat(staging->datasets_fd, file_name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        atd_log(ATD_LOG_DEBUG, "empty dataset '%s': %s", file_name, strerror(errno));
}

/* Reads a regular file of bounded size; anything else is no record. */
static void load_record(int directory, const char *name, struct record_text *record)
{
    atd_auto_fd int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    atd_auto_free uint8_t *text = NULL;
    struct stat st;
    size_t done = 0;
    ssize_t got = 1;

    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > STAGED_TEXT_MAX)
        return;
    text = malloc((size_t)st.st_size + 1);
    while (text && done < (size_t)st.st_size && got > 0) {
        got = read(fd, text + done, (size_t)st.st_size - done);
        if (got > 0)
            done += (size_t)got;
    }
    if (!text || got < 0)
        return;
    *record = (struct record_text){atd_steal(text), done, (int64_t)st.st_mtim.tv_sec};
}

static int load_dataset(struct staging *staging, const char *file_name)
{
    atd_auto_fd int fd = -1;
    struct empty_dataset *dataset;
    int code;

    if (!is_dataset_name(atd_str_from(file_name)))
        return 0;
    fd = open_directory(staging, file_name);
    if (fd < 0)
        return 0; /* no directory: not ours */
    dataset = make_dataset(atd_str_from(file_name));
    if (!dataset)
        return ENOMEM;
    for (size_t i = 0; i < STAGED_RECORDS; i++)
        load_record(fd, record_files[i], &dataset->records[i]);
    code = insert(staging, dataset);
    if (code)
        free_dataset(dataset);
    return code == EEXIST ? 0 : code;
}

static int no_state(const struct staging *staging, int code, struct atd_error *err)
{
    return atd_error_set(err, code, "state directory '%s': %s", staging->datasets_path,
                         strerror(code));
}

/* The directory, made now if need be: who makes no dataset leaves no trace. */
static int make_directory(struct staging *staging, struct atd_error *err)
{
    int none = -1;
    int rc;
    int fd;

    if (!staging->datasets_path)
        return atd_error_set(err, EROFS, "no state directory: datasets cannot be made here");
    if (staging->datasets_fd >= 0)
        return 0;
    rc = atd_make_dirs(staging->datasets_path);
    fd = rc ? -1 : open(staging->datasets_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return no_state(staging, rc ? -rc : errno, err);
    if (!atomic_compare_exchange_strong(&staging->datasets_fd, &none, fd))
        (void)close(fd);
    return 0;
}

int staging_load_datasets(struct staging *staging, const char *state_dir, struct atd_error *err)
{
    DIR *directories;
    const struct dirent *directory;
    size_t count = 0;
    int code = 0;
    int fd;

    if (asprintf(&staging->datasets_path, "%s/datasets", state_dir) < 0) {
        staging->datasets_path = NULL;
        return atd_error_set(err, ENOMEM, "out of memory");
    }
    fd = open(staging->datasets_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : no_state(staging, errno, err);
    staging->datasets_fd = fd;
    fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    directories = fd >= 0 ? fdopendir(fd) : NULL;
    if (!directories) {
        code = errno;
        if (fd >= 0)
            (void)close(fd);
        return no_state(staging, code, err);
    }
    while (code == 0 && count < STAGED_DATASETS_MAX && (directory = readdir(directories))) {
        code = load_dataset(staging, directory->d_name);
        count++;
    }
    (void)closedir(directories);
    return code ? atd_error_set(err, code, "out of memory") : 0;
}

int staging_add_dataset(struct staging *staging, struct atd_str file_name, struct atd_error *err)
{
    struct empty_dataset *dataset;
    int code = 0;
    int rc = make_directory(staging, err);

    if (rc)
        return rc;
    if (!is_dataset_name(file_name))
        return fail(file_name, EINVAL, err);
    if (staging_dataset_count(staging) >= STAGED_DATASETS_MAX)
        return atd_error_set(err, EACCES, "more than %u empty datasets", STAGED_DATASETS_MAX);
    if (staging_has_dataset(staging, file_name))
        return fail(file_name, EEXIST, err);
    dataset = make_dataset(file_name);
    if (!dataset)
        return fail(file_name, ENOMEM, err);
    /* One that is there already is what a failed removal left, or another mount's: it is taken. */
    if (mkdirat(staging->datasets_fd, dataset->file_name, 0700) != 0 && errno != EEXIST)
        code = errno;
    if (code == 0 && fsync(staging->datasets_fd) != 0)
        code = errno;
    if (code == 0)
        code = insert(staging, dataset);
    if (code == 0)
        return 0;
    if (code != EEXIST)
        (void)unlinkat(staging->datasets_fd, dataset->file_name, AT_REMOVEDIR);
    free_dataset(dataset);
    return fail(file_name, code, err);
}

bool staging_remove_dataset(struct staging *staging, struct atd_str file_name)
{
    struct empty_dataset *dataset = take(staging, file_name);

    if (!dataset)
        return false;
    remove_from_disk(staging, dataset->file_name);
    free_dataset(dataset);
    return true;
}

int staging_rename_dataset(struct staging *staging, struct atd_str from, struct atd_str to,
                           struct atd_error *err)
{
    struct empty_dataset *dataset;
    char *new_name;
    int code = 0;

    if (!is_dataset_name(to))
        return fail(to, EINVAL, err);
    if (staging_has_dataset(staging, to))
        return fail(to, EEXIST, err);
    new_name = strndup(to.ptr, to.len);
    dataset = new_name ? take(staging, from) : NULL;
    if (!dataset) {
        code = new_name ? ENOENT : ENOMEM;
        free(new_name);
        return fail(from, code, err);
    }
    if (renameat(staging->datasets_fd, dataset->file_name, staging->datasets_fd, new_name) != 0)
        code = errno == ENOTEMPTY ? EEXIST : errno;
    if (code == 0) {
        free(dataset->file_name);
        dataset->file_name = new_name;
    } else {
        free(new_name);
    }
    /* Under the new name, or the old one again; somebody may have made another of it meanwhile. */
    if (insert(staging, dataset) != 0) {
        free_dataset(dataset);
        code = code ? code : EEXIST;
    }
    return code ? fail(from, code, err) : 0;
}

/* ------------------------------------------------------------------ records */

/* Whole or not at all. 0 or an errno. */
static int write_record(int directory, enum staged_record record, uint64_t id,
                        struct atd_bytes text)
{
    char temporary[32];
    atd_auto_fd int fd = -1;
    size_t done = 0;
    int code = 0;

    (void)snprintf(temporary, sizeof(temporary), ".new-%llu", (unsigned long long)id);
    fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    while (code == 0 && done < text.len) {
        ssize_t put = write(fd, text.ptr + done, text.len - done);

        if (put < 0 && errno != EINTR)
            code = errno;
        else if (put > 0)
            done += (size_t)put;
    }
    if (code == 0 && fsync(fd) != 0)
        code = errno;
    if (code == 0 && renameat(directory, temporary, directory, record_files[record]) != 0)
        code = errno;
    if (code)
        (void)unlinkat(directory, temporary, 0);
    else
        (void)fsync(directory);
    return code;
}

/* Into the table; *record gets what was there before. 0 or an errno. */
static int put_in_memory(struct staging *staging, struct atd_str file_name,
                         enum staged_record which, struct record_text *record)
{
    struct record_text before;
    int code = ENOENT;
    size_t place;

    atd_lock_take(&staging->lock);
    if (find_locked(staging, file_name, &place)) {
        before = staging->datasets[place]->records[which];
        staging->datasets[place]->records[which] = *record;
        *record = before;
        staging_changed_locked(staging);
        code = 0;
    }
    atd_lock_give(&staging->lock);
    return code;
}

int staging_put_record(struct staging *staging, struct atd_str file_name, enum staged_record record,
                       struct atd_bytes text, struct atd_error *err)
{
    atd_auto_free char *name = strndup(file_name.ptr, file_name.len);
    struct record_text stored = {malloc(text.len + 1), text.len, (int64_t)time(NULL)};
    atd_auto_fd int directory = -1;
    uint64_t id;
    int code = 0;

    atd_assert(record < STAGED_RECORDS);
    if (text.len > STAGED_TEXT_MAX)
        code = EFBIG;
    else if (!name || !stored.text)
        code = ENOMEM;
    else if (!staging_has_dataset(staging, file_name))
        code = ENOENT;
    if (code == 0) {
        if (text.len)
            memcpy(stored.text, text.ptr, text.len);
        directory = open_directory(staging, name);
        code = directory < 0 ? errno : 0;
    }
    if (code == 0) {
        atd_lock_take(&staging->lock);
        id = ++staging->last_id;
        atd_lock_give(&staging->lock);
        code = write_record(directory, record, id, text);
    }
    if (code == 0)
        code = put_in_memory(staging, file_name, record, &stored);
    free(stored.text);
    return code ? fail(file_name, code, err) : 0;
}

bool staging_get_record(struct staging *staging, struct atd_str file_name,
                        enum staged_record record, struct atd_buf *out, int64_t *ret_mtime_s)
{
    const struct record_text *text = NULL;
    bool is_there;
    size_t place;

    atd_assert(record < STAGED_RECORDS);
    atd_lock_take(&staging->lock);
    if (find_locked(staging, file_name, &place))
        text = &staging->datasets[place]->records[record];
    is_there = text && text->text;
    if (is_there) {
        atd_buf_append(out, text->text, text->len);
        *ret_mtime_s = text->mtime_s;
    }
    atd_lock_give(&staging->lock);
    return is_there;
}

/* ------------------------------------------------------------------ giving way */

/* The next one that the catalog has, from *place on; NULL: none. */
static struct empty_dataset *take_settled(struct staging *staging, struct atd_catalog *catalog,
                                          size_t *place)
{
    struct empty_dataset *settled = NULL;

    atd_lock_take(&staging->lock);
    while (!settled && *place < staging->dataset_count) {
        if (atd_catalog_find_dataset(catalog, atd_str_from(staging->datasets[*place]->file_name)))
            settled = take_locked(staging, *place);
        else
            ++*place;
    }
    atd_lock_give(&staging->lock);
    return settled;
}

void staging_settle_datasets(struct staging *staging, struct atd_catalog *catalog)
{
    struct empty_dataset *settled;
    size_t place = 0;

    while ((settled = take_settled(staging, catalog, &place))) {
        remove_from_disk(staging, settled->file_name);
        free_dataset(settled);
    }
}
