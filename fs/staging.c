#include "staging.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "staging_table.h"

size_t staging_bucket(struct atd_str subject, struct atd_str leaf, size_t bucket_count)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */

    for (size_t i = 0; i < subject.len; i++)
        hash = (hash ^ (uint8_t)subject.ptr[i]) * 0x100000001b3u;
    hash = (hash ^ '/') * 0x100000001b3u;
    for (size_t i = 0; i < leaf.len; i++)
        hash = (hash ^ (uint8_t)leaf.ptr[i]) * 0x100000001b3u;
    return (size_t)(hash ^ hash >> 32) & (bucket_count - 1);
}

static struct staged **name_bucket(struct staging *staging, struct atd_str subject,
                                   struct atd_str leaf)
{
    return &staging->by_name[staging_bucket(subject, leaf, STAGED_BUCKETS)];
}

static struct staged *find_locked(struct staging *staging, const struct staged_place *place)
{
    struct staged *staged = *name_bucket(staging, place->subject, place->leaf);

    while (staged && !(staged->directory == place->directory &&
                       atd_str_equal(atd_str_from(staged->subject), place->subject) &&
                       atd_str_equal(atd_str_from(staged->leaf), place->leaf)))
        staged = staged->next_by_name;
    return staged;
}

/* A file in a scratch directory needs that directory. */
static bool has_directory_locked(struct staging *staging, const struct staged_place *place)
{
    struct staged_place directory = {NODE_DATASET, place->subject, place->leaf};
    const struct staged *found;

    if (place->directory != NODE_STAGED_DIR)
        return true;
    directory.leaf.len = staged_prefix(place->leaf) - 1;
    found = find_locked(staging, &directory);
    return found && found->kind == STAGED_DIR;
}

bool staged_is_in(const struct staged *staged, enum node_kind directory, struct atd_str subject)
{
    return staged->directory == directory && atd_str_equal(atd_str_from(staged->subject), subject);
}

/* Whether a scratch directory holds names. */
bool staging_holds_names_locked(struct staging *staging, const struct staged *directory)
{
    struct atd_str subject = atd_str_from(directory->subject);
    size_t prefix = strlen(directory->leaf);

    for (size_t i = 0; i < STAGED_BUCKETS; i++) {
        for (const struct staged *at = staging->by_name[i]; at; at = at->next_by_name) {
            if (staged_is_in(at, NODE_STAGED_DIR, subject) &&
                strncmp(at->leaf, directory->leaf, prefix) == 0 && at->leaf[prefix] == '/')
                return true;
        }
    }
    return false;
}

static void put_name_locked(struct staging *staging, struct staged *staged)
{
    struct staged **bucket =
        name_bucket(staging, atd_str_from(staged->subject), atd_str_from(staged->leaf));

    staged->next_by_name = *bucket;
    *bucket = staged;
    staged->is_named = true;
    staging->named_count++;
    staging_changed_locked(staging);
}

/* The caller has the table's reference from now on. */
void staging_take_name_locked(struct staging *staging, struct staged *staged)
{
    struct staged **at =
        name_bucket(staging, atd_str_from(staged->subject), atd_str_from(staged->leaf));

    atd_assert(staged->is_named);
    while (*at != staged)
        at = &(*at)->next_by_name;
    *at = staged->next_by_name;
    staged->next_by_name = NULL;
    staged->is_named = false;
    staging->named_count--;
    staging_changed_locked(staging);
}

static void free_staged(struct staged *staged)
{
    if (staged->publication)
        atd_publication_unref(staged->publication);
    free(staged->text);
    free(staged->subject);
    free(staged->leaf);
    free(staged);
}

struct staging *staging_new(void)
{
    struct staging *staging = calloc(1, sizeof(*staging));

    if (!staging)
        return NULL;
    atd_lock_init(&staging->lock, ATD_RANK_STAGING);
    staging->datasets_fd = -1;
    return staging;
}

void staging_free(struct staging *staging)
{
    if (!staging)
        return;
    for (size_t i = 0; i < STAGED_BUCKETS; i++) {
        while (staging->by_id[i]) {
            struct staged *staged = staging->by_id[i];

            atd_paranoid(staged->refs == staged->is_named);
            staging->by_id[i] = staged->next_by_id;
            free_staged(staged);
        }
    }
    staging_free_hidden(staging);
    staging_free_datasets(staging);
    atd_lock_destroy(&staging->lock);
    free(staging);
}

uint64_t staging_version(struct staging *staging)
{
    return atomic_load(&staging->version);
}

struct staged *staged_ref(struct staging *staging, struct staged *staged)
{
    atd_lock_take(&staging->lock);
    atd_assert(staged->refs > 0);
    staged->refs++;
    atd_lock_give(&staging->lock);
    return staged;
}

void staged_unref(struct staging *staging, struct staged *staged)
{
    struct staged **at;
    bool is_last;

    if (!staged)
        return;
    atd_lock_take(&staging->lock);
    atd_assert(staged->refs > 0);
    is_last = --staged->refs == 0;
    if (is_last) {
        atd_assert(!staged->is_named);
        at = &staging->by_id[staged->id % STAGED_BUCKETS];
        while (*at != staged)
            at = &(*at)->next_by_id;
        *at = staged->next_by_id;
    }
    atd_lock_give(&staging->lock);
    if (is_last)
        free_staged(staged);
}

/* Without a name yet. */
static struct staged *make_staged(const struct staged_place *place, enum staged_kind kind,
                                  const char *text)
{
    struct staged *staged = calloc(1, sizeof(*staged));

    if (!staged)
        return NULL;
    staged->subject = strndup(place->subject.ptr, place->subject.len);
    staged->leaf = strndup(place->leaf.ptr, place->leaf.len);
    staged->text = text ? strdup(text) : NULL;
    if (!staged->subject || !staged->leaf || (text && !staged->text)) {
        free_staged(staged);
        return NULL;
    }
    staged->kind = kind;
    staged->directory = place->directory;
    staged->name_kind = staged_place_name_kind(place);
    staged->mode = STAGED_MODE_DEFAULT;
    staged->touched_ms = atd_clock_monotonic_ms();
    staged->made_s = (int64_t)time(NULL);
    return staged;
}

/* With the table's reference and one for the caller. */
static void insert_locked(struct staging *staging, struct staged *staged)
{
    struct staged **bucket;

    staged->id = ++staging->last_id;
    bucket = &staging->by_id[staged->id % STAGED_BUCKETS];
    staged->next_by_id = *bucket;
    *bucket = staged;
    staged->refs = 2;
    put_name_locked(staging, staged);
}

static int refuse_place(const struct staged_place *place, struct atd_error *err)
{
    return atd_error_set(err, ENAMETOOLONG, "'" ATD_STR_FMT "': no such name can be stored",
                         ATD_STR_ARG(place->leaf));
}

static int refuse_orphan(const struct staged_place *place, struct atd_error *err)
{
    return atd_error_set(err, ENOENT, "'" ATD_STR_FMT "': its directory is gone",
                         ATD_STR_ARG(place->leaf));
}

int staging_add(struct staging *staging, const struct staged_place *place, enum staged_kind kind,
                struct atd_publication *publication, struct staged **ret_staged,
                struct atd_error *err)
{
    struct staged *staged;
    int code = 0;

    if (!staged_place_is_valid(place))
        return refuse_place(place, err);
    staged = make_staged(place, kind, NULL);
    if (!staged)
        return atd_error_set(err, ENOMEM, "out of memory");
    staged->publication = publication;
    atd_lock_take(&staging->lock);
    if (find_locked(staging, place))
        code = EEXIST;
    else if (!has_directory_locked(staging, place))
        code = ENOENT;
    else if (staging->named_count >= STAGED_MAX)
        code = EACCES;
    else
        insert_locked(staging, staged);
    atd_lock_give(&staging->lock);
    if (code == 0) {
        *ret_staged = staged;
        return 0;
    }
    staged->publication = NULL; /* still the caller's */
    free_staged(staged);
    if (code == EEXIST)
        return atd_error_set(err, EEXIST, "'" ATD_STR_FMT "' is there already",
                             ATD_STR_ARG(place->leaf));
    return code == ENOENT
               ? refuse_orphan(place, err)
               : atd_error_set(err, EACCES, "more than %u files are on their way to be published",
                               STAGED_MAX);
}

struct staged *staging_find(struct staging *staging, const struct staged_place *place)
{
    struct staged *staged;

    atd_lock_take(&staging->lock);
    staged = find_locked(staging, place);
    if (staged)
        staged->refs++;
    atd_lock_give(&staging->lock);
    return staged;
}

struct staged *staging_find_id(struct staging *staging, uint64_t id)
{
    struct staged *staged;

    atd_lock_take(&staging->lock);
    staged = staging->by_id[id % STAGED_BUCKETS];
    while (staged && staged->id != id)
        staged = staged->next_by_id;
    if (staged)
        staged->refs++;
    atd_lock_give(&staging->lock);
    return staged;
}

void staging_look(struct staging *staging, struct staged *staged, struct staged_look *ret_look)
{
    struct staged_place place;

    *ret_look = (struct staged_look){0};
    atd_lock_take(&staging->lock);
    place = (struct staged_place){staged->directory, atd_str_from(staged->subject),
                                  atd_str_from(staged->leaf)};
    staged_place_copy(&place, &ret_look->where);
    ret_look->is_named = staged->is_named;
    ret_look->is_published = staged->is_published;
    ret_look->mode = staged->mode;
    ret_look->name_kind = staged->name_kind;
    atd_lock_give(&staging->lock);
}

void staging_set_mode(struct staging *staging, struct staged *staged, mode_t mode)
{
    atd_lock_take(&staging->lock);
    staged->mode = mode & 07777;
    atd_lock_give(&staging->lock);
}

void staging_touch(struct staging *staging, struct staged *staged)
{
    int64_t now_ms = atd_clock_monotonic_ms();

    atd_lock_take(&staging->lock);
    staged->touched_ms = now_ms;
    atd_lock_give(&staging->lock);
}

void staging_set_published(struct staging *staging, struct staged *staged)
{
    int64_t now_ms = atd_clock_monotonic_ms();

    atd_lock_take(&staging->lock);
    staged->is_published = true;
    staged->touched_ms = now_ms;
    atd_lock_give(&staging->lock);
}

/* The table's reference and the caller's. */
#define REFS_UNUSED 2u

static bool remove_name(struct staging *staging, struct staged *staged, unsigned refs_max)
{
    bool had_one;

    atd_lock_take(&staging->lock);
    had_one = staged->is_named && staged->refs <= refs_max &&
              !(staged->kind == STAGED_DIR && staging_holds_names_locked(staging, staged));
    if (had_one)
        staging_take_name_locked(staging, staged);
    atd_lock_give(&staging->lock);
    if (had_one)
        staged_unref(staging, staged);
    return had_one;
}

bool staging_remove(struct staging *staging, struct staged *staged)
{
    return remove_name(staging, staged, UINT_MAX);
}

bool staging_remove_unused(struct staging *staging, struct staged *staged)
{
    return remove_name(staging, staged, REFS_UNUSED);
}

/* ------------------------------------------------------------------ rename */

/* 0 or an errno; *ret_replaced is what had the name, its reference the caller's. */
static int rename_locked(struct staging *staging, struct staged *staged,
                         const struct staged_place *to, char **subject, char **leaf,
                         struct staged **ret_replaced)
{
    struct staged *there = find_locked(staging, to);

    if (!staged->is_named || !has_directory_locked(staging, to))
        return ENOENT;
    if (there && there->kind == STAGED_DIR)
        return EEXIST;
    if (there == staged)
        return 0;
    if (there)
        staging_take_name_locked(staging, there);
    staging_take_name_locked(staging, staged);
    free(staged->subject);
    free(staged->leaf);
    staged->subject = atd_steal(*subject);
    staged->leaf = atd_steal(*leaf);
    staged->directory = to->directory;
    staged->name_kind = staged_place_name_kind(to);
    staged->touched_ms = atd_clock_monotonic_ms();
    put_name_locked(staging, staged);
    *ret_replaced = there;
    return 0;
}

int staging_rename(struct staging *staging, struct staged *staged, const struct staged_place *to,
                   struct atd_error *err)
{
    struct staged *replaced = NULL;
    atd_auto_free char *subject = NULL;
    atd_auto_free char *leaf = NULL;
    int code;

    if (!staged_place_is_valid(to))
        return refuse_place(to, err);
    if (staged->kind == STAGED_DIR || staged->kind == STAGED_NOTE)
        return atd_error_set(err, EPERM, "only files on their way can be renamed");
    subject = strndup(to->subject.ptr, to->subject.len);
    leaf = strndup(to->leaf.ptr, to->leaf.len);
    if (!subject || !leaf)
        return atd_error_set(err, ENOMEM, "out of memory");
    atd_lock_take(&staging->lock);
    code = rename_locked(staging, staged, to, &subject, &leaf, &replaced);
    atd_lock_give(&staging->lock);
    staged_unref(staging, replaced);
    if (code == EEXIST)
        return atd_error_set(err, EEXIST, "'" ATD_STR_FMT "' is a directory",
                             ATD_STR_ARG(to->leaf));
    return code ? refuse_orphan(to, err) : 0;
}

/* ------------------------------------------------------------------ notes */

void staging_put_note(struct staging *staging, const struct staged_place *place, const char *text)
{
    struct staged_where where;
    struct staged_place note_place;
    struct staged *replaced = NULL;
    struct staged *there;
    struct staged *note;
    bool is_put = false;

    if (!staged_place_is_valid(place))
        return;
    staged_note_place(place, &where);
    note_place = staged_where_place(&where);
    note = make_staged(&note_place, STAGED_NOTE, text);
    if (!note)
        return; /* the reason is in events.jsonl too */
    atd_lock_take(&staging->lock);
    there = find_locked(staging, &note_place);
    if (there && there->kind == STAGED_NOTE) {
        staging_take_name_locked(staging, there);
        replaced = there;
        there = NULL;
    }
    if (!there && has_directory_locked(staging, &note_place) && staging->named_count < STAGED_MAX) {
        insert_locked(staging, note);
        is_put = true;
    }
    atd_lock_give(&staging->lock);
    staged_unref(staging, replaced);
    if (is_put)
        staged_unref(staging, note);
    else
        free_staged(note);
}

bool staging_drop_note(struct staging *staging, const struct staged_place *place)
{
    struct staged_where where;
    struct staged_place note_place;
    struct staged *note;
    bool had_one;

    if (!staged_place_is_valid(place))
        return false;
    staged_note_place(place, &where);
    note_place = staged_where_place(&where);
    note = staging_find(staging, &note_place);
    had_one = note && note->kind == STAGED_NOTE && staging_remove(staging, note);
    staged_unref(staging, note);
    return had_one;
}

static void move_note(struct staging *staging, struct staged *note, const struct staged_place *to)
{
    struct staged *replaced = NULL;
    atd_auto_free char *subject = strndup(to->subject.ptr, to->subject.len);
    atd_auto_free char *leaf = strndup(to->leaf.ptr, to->leaf.len);

    if (!subject || !leaf)
        return;
    atd_lock_take(&staging->lock);
    (void)rename_locked(staging, note, to, &subject, &leaf, &replaced); /* else it went meanwhile */
    atd_lock_give(&staging->lock);
    staged_unref(staging, replaced);
}

void staging_move_notes(struct staging *staging, struct atd_str from, struct atd_str to)
{
    struct staged_list list;

    if (staging_list(staging, NODE_DATASET, from, &list, NULL) != 0)
        return;
    for (size_t i = 0; i < list.count; i++) {
        const struct staged_place place = {NODE_DATASET, to, atd_str_from(list.items[i].leaf)};

        if (list.items[i].staged->kind == STAGED_NOTE)
            move_note(staging, list.items[i].staged, &place);
    }
    staging_list_free(staging, &list);
}
