#include "cache/pins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cache/cache_dir_private.h"
#include "codec/file_name.h"

#define PINS_DIR "pins"
#define FIRST_LINE "atdatafs-pins 1\n"
#define SUFFIX ".pins"
#define TEMP_NAME ".new-XXXXXX" /* never a name's: those do not begin with a dot */
#define HASH_DIGITS (2 * ATD_SHA256_BYTES)
#define LINE_MAX_BYTES (HASH_DIGITS + 32)
#define NAME_BYTES_MAX (4 * 65536u)

static int failed(int code, const char *doing, struct atd_error *err)
{
    return atd_error_set(err, code, "%s the pins in the cache directory: %s", doing,
                         strerror(code));
}

/* ------------------------------------------------------------------ names */

char *atd_cache_scoped_name(const char *scope, struct atd_str url, size_t *ret_len)
{
    size_t scope_len = scope ? strlen(scope) : 0;
    char *name = malloc(scope_len + 1 + url.len);

    if (!name)
        return NULL;
    if (scope_len)
        memcpy(name, scope, scope_len);
    name[scope_len] = ' ';
    memcpy(name + scope_len + 1, url.ptr, url.len);
    *ret_len = scope_len + 1 + url.len;
    return name;
}

int atd_cache_pin_of(const char *scope, struct atd_str url, const struct atd_object_info *info,
                     struct atd_pin *ret_pin, struct atd_error *err)
{
    size_t len = 0;
    atd_auto_free char *name = atd_cache_scoped_name(scope, url, &len);

    if (!name)
        return atd_error_set(err, ENOMEM, "a pin: out of memory");
    ret_pin->size_bytes = info->size_bytes;
    atd_block_map_hash((struct atd_str){name, len}, info, ret_pin->hash);
    return 0;
}

/* "NAME.pins", where a name too long for that is cut and told apart by its digest. */
static int file_name_of(struct atd_str name, struct atd_buf *out, struct atd_error *err)
{
    uint8_t digest[ATD_SHA256_BYTES];
    char hex[17];

    atd_sha256_of(name.ptr, name.len, digest);
    for (size_t i = 0; i < 8; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    atd_file_name_encode(name, atd_str_from(hex), ATD_STR(SUFFIX), out);
    return atd_buf_finish(out, "the name of a pin", err);
}

/* ------------------------------------------------------------------ reading */

static int by_hash(const void *a, const void *b)
{
    return memcmp(((const struct atd_pin *)a)->hash, ((const struct atd_pin *)b)->hash,
                  ATD_SHA256_BYTES);
}

static bool add(struct atd_pin_set *set, const struct atd_pin *pin)
{
    if (set->count >= ATD_PINS_MAX)
        return false;
    if (set->count == set->cap) {
        size_t cap = set->cap ? set->cap * 2 : 64;
        struct atd_pin *grown = reallocarray(set->pins, cap, sizeof(*grown));

        if (!grown)
            return false;
        set->pins = grown;
        set->cap = cap;
    }
    set->pins[set->count++] = *pin;
    return true;
}

static bool read_line(const char *line, struct atd_pin *ret_pin)
{
    char *end;

    for (size_t i = 0; i < ATD_SHA256_BYTES; i++) {
        unsigned byte;

        /* Two digits: "%2x" would take a sign or blanks. */
        if (strspn(line + 2 * i, "0123456789abcdef") < 2 || sscanf(line + 2 * i, "%2x", &byte) != 1)
            return false;
        ret_pin->hash[i] = (uint8_t)byte;
    }
    if (line[HASH_DIGITS] != ' ')
        return false;
    errno = 0;
    ret_pin->size_bytes = strtoull(line + HASH_DIGITS + 1, &end, 10);
    return !errno && end > line + HASH_DIGITS + 1 && *end == '\n';
}

/* What is no file of pins has none. False when out of memory, or of room. */
static bool read_file(int pins_fd, const char *name, struct atd_pin_set *set)
{
    int fd = openat(pins_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    atd_auto_file FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    char line[LINE_MAX_BYTES];
    struct atd_pin pin;

    if (!file) {
        bool is_gone = fd < 0 && (errno == ENOENT || errno == ELOOP);

        if (fd >= 0)
            (void)close(fd);
        return is_gone;
    }
    if (!fgets(line, sizeof(line), file) || strcmp(line, FIRST_LINE) != 0)
        return !ferror(file) || errno == EISDIR;
    while (fgets(line, sizeof(line), file)) {
        if (read_line(line, &pin) && !add(set, &pin))
            return false;
    }
    return !ferror(file);
}

/* Calls `each` for the files of pins; no directory: none. Returns 0 or an errno. */
static int each_file(int dir_fd, int (*each)(void *ctx, int pins_fd, const char *name), void *ctx)
{
    int fd = openat(dir_fd, PINS_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    int code = 0;

    if (!listing) {
        code = errno == ENOENT ? 0 : errno;
        if (fd >= 0)
            (void)close(fd);
        return code;
    }
    while (!code && (errno = 0, entry = readdir(listing))) {
        if (entry->d_name[0] != '.' &&
            atd_str_ends_with(atd_str_from(entry->d_name), ATD_STR(SUFFIX)))
            code = each(ctx, dirfd(listing), entry->d_name);
    }
    if (!code)
        code = errno;
    (void)closedir(listing);
    return code;
}

static int load_one(void *ctx, int pins_fd, const char *name)
{
    return read_file(pins_fd, name, ctx) ? 0 : ENOMEM;
}

bool atd_pin_set_load(int dir_fd, struct atd_pin_set *ret_set)
{
    *ret_set = (struct atd_pin_set){0};
    if (each_file(dir_fd, load_one, ret_set) != 0) {
        atd_pin_set_release(ret_set);
        return false;
    }
    if (ret_set->count)
        qsort(ret_set->pins, ret_set->count, sizeof(*ret_set->pins), by_hash);
    return true;
}

void atd_pin_set_release(struct atd_pin_set *set)
{
    free(set->pins);
    *set = (struct atd_pin_set){0};
}

bool atd_pin_set_has(const struct atd_pin_set *set, const uint8_t hash[ATD_SHA256_BYTES])
{
    struct atd_pin wanted;

    memcpy(wanted.hash, hash, ATD_SHA256_BYTES);
    return set->count > 0 &&
           bsearch(&wanted, set->pins, set->count, sizeof(*set->pins), by_hash) != NULL;
}

struct telling {
    atd_cache_pins_fn fn;
    void *ctx;
};

static int tell_one(void *ctx, int pins_fd, const char *file_name)
{
    const struct telling *telling = ctx;
    struct atd_str stem =
        atd_str_head(atd_str_from(file_name), strlen(file_name) - (sizeof(SUFFIX) - 1));
    atd_auto_buf struct atd_buf name = ATD_BUF_INIT(NAME_BYTES_MAX);
    struct atd_pin_set set = {0};
    uint64_t size_bytes = 0;
    bool is_good = read_file(pins_fd, file_name, &set);

    for (size_t i = 0; i < set.count; i++)
        size_bytes += set.pins[i].size_bytes;
    /* A name that was cut is told as its file is called. */
    if (is_good && atd_file_name_decode(stem, &name, NULL) == 0)
        telling->fn(telling->ctx, atd_buf_str(&name), set.count, size_bytes);
    else if (is_good)
        telling->fn(telling->ctx, stem, set.count, size_bytes);
    atd_pin_set_release(&set);
    return is_good ? 0 : ENOMEM;
}

int atd_cache_pins_each(struct atd_cache_dir *dir, atd_cache_pins_fn fn, void *ctx,
                        struct atd_error *err)
{
    struct telling telling = {fn, ctx};
    int rc = atd_cache_dir_made(dir, err);
    int code;

    if (rc)
        return rc;
    code = each_file(dir->fd, tell_one, &telling);
    return code ? failed(code, "reading", err) : 0;
}

/* ------------------------------------------------------------------ writing */

static void encode(const struct atd_pin *pins, size_t count, struct atd_buf *out)
{
    atd_buf_append_text(out, FIRST_LINE);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < ATD_SHA256_BYTES; k++)
            atd_buf_printf(out, "%02x", pins[i].hash[k]);
        atd_buf_printf(out, " %" PRIu64 "\n", pins[i].size_bytes);
    }
}

/* 0 or an errno. */
static int write_whole(int fd, struct atd_bytes bytes)
{
    while (bytes.len > 0) {
        ssize_t put = write(fd, bytes.ptr, bytes.len);

        if (put < 0 && errno != EINTR)
            return errno;
        if (put > 0) {
            bytes.ptr += put;
            bytes.len -= (size_t)put;
        }
    }
    return fsync(fd) == 0 ? 0 : errno;
}

/* The file appears whole or not at all: it is written under another name. */
static int put_file(const struct atd_cache_dir *dir, const char *name, struct atd_bytes text)
{
    atd_auto_free char *temp = NULL;
    atd_auto_fd int pins_fd = -1;
    atd_auto_fd int fd = -1;
    int code;

    if (mkdirat(dir->fd, PINS_DIR, 0700) != 0 && errno != EEXIST)
        return errno;
    pins_fd = openat(dir->fd, PINS_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (pins_fd < 0)
        return errno;
    if (asprintf(&temp, "/proc/self/fd/%d/" TEMP_NAME, pins_fd) < 0) {
        temp = NULL;
        return ENOMEM;
    }
    fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0)
        return errno;
    code = write_whole(fd, text);
    if (!code && renameat(AT_FDCWD, temp, pins_fd, name) != 0)
        code = errno;
    if (code)
        (void)unlink(temp);
    return code;
}

int atd_cache_pins_put(struct atd_cache_dir *dir, struct atd_str name, const struct atd_pin *pins,
                       size_t count, struct atd_error *err)
{
    atd_auto_buf struct atd_buf file_name = ATD_BUF_INIT(NAME_BYTES_MAX);
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT((size_t)ATD_PINS_MAX * LINE_MAX_BYTES);
    int rc = atd_cache_dir_made(dir, err);
    int code;

    if (count > ATD_PINS_MAX)
        return atd_error_set(err, E2BIG, "more than %u pinned shards", ATD_PINS_MAX);
    if (rc == 0)
        rc = file_name_of(name, &file_name, err);
    encode(pins, count, &text);
    if (rc == 0)
        rc = atd_buf_finish(&text, "a list of pins", err);
    if (rc)
        return rc;
    code = put_file(dir, (const char *)file_name.ptr, atd_buf_bytes(&text));
    return code ? failed(code, "writing", err) : 0;
}

int atd_cache_pins_remove(struct atd_cache_dir *dir, struct atd_str name, struct atd_error *err)
{
    atd_auto_buf struct atd_buf path = ATD_BUF_INIT(NAME_BYTES_MAX);
    int rc = atd_cache_dir_made(dir, err);

    if (rc)
        return rc;
    atd_buf_append_text(&path, PINS_DIR "/");
    rc = file_name_of(name, &path, err);
    if (rc)
        return rc;
    if (unlinkat(dir->fd, (const char *)path.ptr, 0) == 0)
        return 0;
    if (errno == ENOENT)
        return atd_error_set(err, ENOENT, "'" ATD_STR_FMT "' is not pinned", ATD_STR_ARG(name));
    return failed(errno, "removing", err);
}
