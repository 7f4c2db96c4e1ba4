/*
 * Where something is staged: names of directories and files, valid or not.
 */
#include <stdio.h>

#include "base/utf8.h"
#include "staging_table.h"

#define NOTE_SUFFIX ".error.txt"

struct staged_place staged_where_place(const struct staged_where *where)
{
    return (struct staged_place){where->directory, atd_str_from(where->subject),
                                 atd_str_from(where->leaf)};
}

struct atd_str staged_leaf_name(struct atd_str leaf)
{
    return atd_str_from_byte(leaf, (size_t)(atd_str_find_last(leaf, '/') + 1));
}

/* The length of "DIRECTORY/" in a leaf of a scratch directory, else 0. */
size_t staged_prefix(struct atd_str leaf)
{
    return leaf.len - staged_leaf_name(leaf).len;
}

bool staged_place_is_valid(const struct staged_place *place)
{
    size_t prefix = staged_prefix(place->leaf);

    return place->subject.len <= ATD_FILE_NAME_MAX && place->leaf.len > prefix &&
           place->leaf.len - prefix <= ATD_FILE_NAME_MAX && prefix <= ATD_FILE_NAME_MAX + 1 &&
           prefix != 1 && (prefix > 0) == (place->directory == NODE_STAGED_DIR);
}

/* Of a valid place. */
void staged_place_copy(const struct staged_place *place, struct staged_where *ret_where)
{
    *ret_where = (struct staged_where){.directory = place->directory};
    if (place->subject.len)
        memcpy(ret_where->subject, place->subject.ptr, place->subject.len);
    memcpy(ret_where->leaf, place->leaf.ptr, place->leaf.len);
}

bool staged_place_in(enum node_kind directory, struct atd_str subject, struct atd_str name,
                     struct staged_where *storage, struct staged_place *ret_place)
{
    struct staged_place place = {directory, subject, name};
    ptrdiff_t slash;

    if (directory == NODE_SCHEMAS) {
        place.subject = ATD_STR("");
    } else if (directory == NODE_STAGED_DIR) {
        slash = atd_str_find(subject, '/');
        if (slash < 0 || subject.len + 1 + name.len - (size_t)slash > sizeof(storage->leaf))
            return false;
        (void)snprintf(storage->leaf, sizeof(storage->leaf), "%.*s/%.*s",
                       (int)(subject.len - (size_t)slash - 1), subject.ptr + slash + 1,
                       (int)name.len, name.ptr);
        place.subject = atd_str_head(subject, (size_t)slash);
        place.leaf = atd_str_from(storage->leaf);
    } else if (directory != NODE_DATASET) {
        return false;
    }
    if (!staged_place_is_valid(&place))
        return false;
    *ret_place = place;
    return true;
}

void staged_note_place(const struct staged_place *place, struct staged_where *ret_where)
{
    size_t prefix = staged_prefix(place->leaf);
    size_t len = place->leaf.len - prefix;
    size_t room = ATD_FILE_NAME_MAX - (sizeof(NOTE_SUFFIX) - 1);
    const uint8_t *name = (const uint8_t *)place->leaf.ptr + prefix;
    size_t kept = len;

    if (len > room) {
        /* Cut at a character; bytes that are none are cut anywhere. */
        for (kept = 0; kept < len;) {
            size_t step = atd_utf8_step(name + kept, len - kept);

            if (kept + (step ? step : 1) > room)
                break;
            kept += step ? step : 1;
        }
    }
    staged_place_copy(place, ret_where);
    memcpy(ret_where->leaf + prefix + kept, NOTE_SUFFIX, sizeof(NOTE_SUFFIX));
}

enum atd_upload_name staged_place_name_kind(const struct staged_place *place)
{
    if (place->directory == NODE_SCHEMAS)
        return place->leaf.ptr[0] != '.' && place->leaf.len > 5 &&
                       atd_str_ends_with(place->leaf, ATD_STR(".json"))
                   ? ATD_UPLOAD_RECORD
                   : ATD_UPLOAD_SCRATCH;
    return atd_upload_name_classify(staged_leaf_name(place->leaf), NULL, NULL);
}
