#include "dataset/member_names.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "atdata/tar_index.h"
#include "base/digest.h"
#include "base/limits.h"
#include "codec/file_name.h"

/* Longer extensions, and those of other characters, are cut and encoded like the rest. */
#define EXTENSION_BYTES_MAX 24u
#define SUFFIX_BYTES (EXTENSION_BYTES_MAX + 16u)

struct row {
    uint32_t name_at; /* in the text */
    uint32_t member;
    uint16_t name_len;
    bool is_sample;
};

struct atd_member_names {
    atomic_uint references;
    struct atd_members *members;
    struct row *rows;
    size_t count;
    uint8_t *text;
    size_t text_len;
};

/* While it is being made. */
struct maker {
    const struct atd_members *members;
    struct row *rows;
    size_t count;
    struct atd_buf text;
};

static struct atd_str name_of(const uint8_t *text, const struct row *row)
{
    return (struct atd_str){(const char *)text + row->name_at, row->name_len};
}

/* ------------------------------------------------------------------ one name */

static bool is_plain_extension(struct atd_str extension)
{
    if (extension.len > EXTENSION_BYTES_MAX)
        return false;
    for (size_t i = 0; i < extension.len; i++) {
        char c = extension.ptr[i];

        if (c <= ' ' || c > '~' || c == '%' || c == '/')
            return false;
    }
    return true;
}

/* False: it is not shown. */
static bool split(const struct atd_member *member, struct atd_str *ret_key,
                  struct atd_str *ret_suffix, bool *ret_is_sample)
{
    char extension[16];
    struct atd_str key;

    if (!atd_tar_split_name(member->name, &key, extension, sizeof(extension)))
        return false;
    *ret_suffix = atd_str_from_byte(member->name, key.len);
    *ret_is_sample = atd_str_equal(atd_str_from(extension), ATD_STR("msgpack")) &&
                     member->size_bytes <= ATD_SAMPLE_BYTES_MAX;
    if (*ret_is_sample) {
        *ret_suffix = ATD_STR("");
    } else if (!is_plain_extension(*ret_suffix)) {
        key = member->name;
        *ret_suffix = ATD_STR("");
    }
    while (key.len > 2 && atd_str_starts_with(key, ATD_STR("./")))
        key = atd_str_from_byte(key, 2);
    *ret_key = key;
    return true;
}

/* Appends the name and fills in the row. `number` 0, or what follows the "~". */
static void spell(struct maker *maker, struct row *row, struct atd_str key, struct atd_str suffix,
                  unsigned number)
{
    uint8_t digest[ATD_SHA256_BYTES] = {0};
    size_t before = maker->text.len;
    char all[SUFFIX_BYTES];
    char hash[9];

    if (key.len + SUFFIX_BYTES > ATD_FILE_NAME_MAX / 3) /* it may be cut */
        atd_sha256_of(key.ptr, key.len, digest);
    (void)snprintf(hash, sizeof(hash), "%02x%02x%02x%02x", digest[0], digest[1], digest[2],
                   digest[3]);
    if (number)
        (void)snprintf(all, sizeof(all), "~%u%.*s", number, (int)suffix.len, suffix.ptr);
    else
        (void)snprintf(all, sizeof(all), "%.*s", (int)suffix.len, suffix.ptr);
    atd_file_name_encode(key, atd_str_from(hash), atd_str_from(all), &maker->text);
    row->name_at = (uint32_t)before;
    row->name_len = (uint16_t)(maker->text.len - before);
}

static void add(struct maker *maker, size_t place)
{
    struct atd_member member = atd_members_at(maker->members, place);
    struct row *row = &maker->rows[maker->count];
    struct atd_str suffix;
    struct atd_str key;

    if (!split(&member, &key, &suffix, &row->is_sample))
        return;
    row->member = (uint32_t)place;
    spell(maker, row, key, suffix, 0);
    maker->count++;
}

/* ------------------------------------------------------------------ all of them */

static int compare_rows(const void *a, const void *b, void *text)
{
    const struct row *left = a;
    const struct row *right = b;
    int order = atd_str_compare(name_of(text, left), name_of(text, right));

    return order ? order : (left->member > right->member) - (left->member < right->member);
}

static const struct row *find_row(const uint8_t *text, const struct row *rows, size_t count,
                                  struct atd_str name)
{
    size_t first = 0;
    size_t end = count;

    while (first < end) {
        size_t middle = first + (end - first) / 2;
        int order = atd_str_compare(name_of(text, &rows[middle]), name);

        if (order == 0)
            return &rows[middle];
        if (order < 0)
            first = middle + 1;
        else
            end = middle;
    }
    return NULL;
}

static void sort(struct maker *maker)
{
    if (maker->count)
        qsort_r(maker->rows, maker->count, sizeof(*maker->rows), compare_rows, maker->text.ptr);
}

/* Another name for a row, one that no row had before; numbers go on from `*number`. */
static void rename_row(struct maker *maker, struct row *row, unsigned *number)
{
    struct atd_member member = atd_members_at(maker->members, row->member);
    struct atd_str suffix;
    struct atd_str key;
    bool is_sample;

    if (!split(&member, &key, &suffix, &is_sample))
        return;
    for (;;) {
        size_t before = maker->text.len;

        spell(maker, row, key, suffix, (*number)++);
        if (maker->text.failed ||
            !find_row(maker->text.ptr, maker->rows, maker->count, name_of(maker->text.ptr, row)))
            return;
        maker->text.len = before;
    }
}

/*
 * Of equal names all but the first, in stored order, get another. The rows are sorted and stay so
 * until all are done: `renamed` holds what becomes of those.
 */
static int tell_apart(struct maker *maker, struct atd_error *err)
{
    struct row *renamed;
    size_t equal = 0;
    size_t done = 0;
    unsigned number = 2;

    for (size_t i = 1; i < maker->count; i++)
        equal += atd_str_equal(name_of(maker->text.ptr, &maker->rows[i]),
                               name_of(maker->text.ptr, &maker->rows[i - 1]));
    if (equal == 0)
        return 0;
    renamed = calloc(equal, sizeof(*renamed));
    if (!renamed)
        return atd_error_set(err, ENOMEM, "out of memory");
    for (size_t i = 1; i < maker->count; i++) {
        if (!atd_str_equal(name_of(maker->text.ptr, &maker->rows[i]),
                           name_of(maker->text.ptr, &maker->rows[i - 1]))) {
            number = 2;
            continue;
        }
        renamed[done] = maker->rows[i];
        rename_row(maker, &renamed[done++], &number);
    }
    done = 0;
    for (size_t i = maker->count - 1; i > 0; i--) {
        if (atd_str_equal(name_of(maker->text.ptr, &maker->rows[i]),
                          name_of(maker->text.ptr, &maker->rows[i - 1])))
            maker->rows[i] = renamed[equal - ++done];
    }
    free(renamed);
    sort(maker);
    return 0;
}

/* Names that are equal even so (cut in the same place by somebody who tried) show once. */
static void drop_equal(struct maker *maker)
{
    size_t kept = 0;

    for (size_t i = 0; i < maker->count; i++) {
        if (kept == 0 || !atd_str_equal(name_of(maker->text.ptr, &maker->rows[kept - 1]),
                                        name_of(maker->text.ptr, &maker->rows[i])))
            maker->rows[kept++] = maker->rows[i];
    }
    maker->count = kept;
}

static int make(struct maker *maker, struct atd_error *err)
{
    size_t members = atd_members_count(maker->members);
    int rc;

    maker->rows = calloc(members ? members : 1, sizeof(*maker->rows));
    if (!maker->rows)
        return atd_error_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < members; i++)
        add(maker, i);
    rc = atd_buf_finish(&maker->text, "the names of a shard's members", err);
    if (rc)
        return rc;
    sort(maker);
    rc = tell_apart(maker, err);
    if (rc == 0)
        rc = atd_buf_finish(&maker->text, "the names of a shard's members", err);
    if (rc == 0)
        drop_equal(maker);
    return rc;
}

int atd_member_names_new(struct atd_members *members, struct atd_member_names **ret_names,
                         struct atd_error *err)
{
    struct maker maker = {.members = members};
    struct atd_member_names *names = calloc(1, sizeof(*names));
    int rc;

    atd_buf_init(&maker.text, ATD_MEMBER_NAMES_BYTES_MAX);
    if (!names)
        return atd_error_set(err, ENOMEM, "out of memory");
    rc = make(&maker, err);
    if (rc) {
        free(maker.rows);
        atd_buf_release(&maker.text);
        free(names);
        return rc;
    }
    atomic_init(&names->references, 1);
    names->members = atd_members_ref(members);
    names->rows = maker.rows;
    names->count = maker.count;
    names->text = atd_buf_take(&maker.text, &names->text_len);
    *ret_names = names;
    return 0;
}

struct atd_member_names *atd_member_names_ref(struct atd_member_names *names)
{
    atomic_fetch_add(&names->references, 1);
    return names;
}

void atd_member_names_unref(struct atd_member_names *names)
{
    if (!names || atomic_fetch_sub(&names->references, 1) != 1)
        return;
    atd_members_unref(names->members);
    free(names->rows);
    free(names->text);
    free(names);
}

struct atd_members *atd_member_names_members(const struct atd_member_names *names)
{
    return names->members;
}

size_t atd_member_names_footprint(const struct atd_member_names *names)
{
    return sizeof(*names) + atd_members_count(names->members) * sizeof(struct row) +
           names->text_len;
}

size_t atd_member_names_count(const struct atd_member_names *names)
{
    return names->count;
}

static struct atd_member_name shown(const struct atd_member_names *names, const struct row *row)
{
    return (struct atd_member_name){
        .name = name_of(names->text, row),
        .is_sample = row->is_sample,
        .member = atd_members_at(names->members, row->member),
    };
}

struct atd_member_name atd_member_names_at(const struct atd_member_names *names, size_t place)
{
    return shown(names, &names->rows[place]);
}

bool atd_member_names_find(const struct atd_member_names *names, struct atd_str name,
                           struct atd_member_name *ret_found)
{
    const struct row *row = find_row(names->text, names->rows, names->count, name);

    if (row)
        *ret_found = shown(names, row);
    return row != NULL;
}

uint64_t atd_members_samples(const struct atd_members *members)
{
    struct atd_str last = {NULL, 0};
    uint64_t samples = 0;

    for (size_t i = 0; i < atd_members_count(members); i++) {
        struct atd_member member = atd_members_at(members, i);
        char ignored[1];
        struct atd_str key;

        if (!atd_tar_split_name(member.name, &key, ignored, sizeof(ignored)))
            continue;
        samples += samples == 0 || !atd_str_equal(key, last);
        last = key;
    }
    return samples;
}
