/*
 * Shards that were unlinked and not yet taken out of the index.
 */
#include <errno.h>
#include <stdlib.h>

#include "staging_table.h"

struct hidden {
    struct hidden *next;
    size_t subject_len;
    size_t leaf_len;
    size_t url_len;
    char text[]; /* subject, leaf, url */
};

static struct hidden **find_locked(struct staging *staging, struct atd_str subject,
                                   struct atd_str leaf)
{
    struct hidden **at = &staging->hidden[staging_bucket(subject, leaf, HIDDEN_BUCKETS)];

    while (*at) {
        const struct hidden *hidden = *at;

        if (atd_str_equal(subject, (struct atd_str){hidden->text, hidden->subject_len}) &&
            atd_str_equal(leaf,
                          (struct atd_str){hidden->text + hidden->subject_len, hidden->leaf_len}))
            break;
        at = &(*at)->next;
    }
    return at;
}

static struct hidden *make(struct atd_str subject, struct atd_str leaf, struct atd_str url)
{
    struct hidden *hidden = malloc(sizeof(*hidden) + subject.len + leaf.len + url.len);

    if (!hidden)
        return NULL;
    *hidden = (struct hidden){.subject_len = subject.len, .leaf_len = leaf.len, .url_len = url.len};
    if (subject.len)
        memcpy(hidden->text, subject.ptr, subject.len);
    if (leaf.len)
        memcpy(hidden->text + subject.len, leaf.ptr, leaf.len);
    if (url.len)
        memcpy(hidden->text + subject.len + leaf.len, url.ptr, url.len);
    return hidden;
}

int staging_hide(struct staging *staging, struct atd_str subject, struct atd_str leaf,
                 struct atd_str url, struct atd_error *err)
{
    struct hidden *hidden = make(subject, leaf, url);
    struct hidden **bucket;
    int code = 0;

    if (!hidden)
        return atd_error_set(err, ENOMEM, "out of memory");
    atd_lock_take(&staging->lock);
    if (*find_locked(staging, subject, leaf)) {
        code = EEXIST;
    } else if (staging->hidden_count >= STAGED_HIDDEN_MAX) {
        code = EACCES;
    } else {
        bucket = &staging->hidden[staging_bucket(subject, leaf, HIDDEN_BUCKETS)];
        hidden->next = *bucket;
        *bucket = hidden;
        staging->hidden_count++;
        staging_changed_locked(staging);
    }
    atd_lock_give(&staging->lock);
    if (code == 0)
        return 0;
    free(hidden);
    if (code == EEXIST)
        return atd_error_set(err, EEXIST, "'" ATD_STR_FMT "' is being deleted already",
                             ATD_STR_ARG(leaf));
    return atd_error_set(err, EACCES, "more than %u shards are being deleted; wait a few seconds",
                         STAGED_HIDDEN_MAX);
}

bool staging_is_hidden(struct staging *staging, struct atd_str subject, struct atd_str leaf)
{
    bool is_hidden;

    atd_lock_take(&staging->lock);
    is_hidden = staging->hidden_count && *find_locked(staging, subject, leaf);
    atd_lock_give(&staging->lock);
    return is_hidden;
}

bool staging_hidden_url(struct staging *staging, struct atd_str subject, struct atd_str leaf,
                        struct atd_buf *ret_url)
{
    const struct hidden *hidden;

    atd_lock_take(&staging->lock);
    hidden = *find_locked(staging, subject, leaf);
    if (hidden)
        atd_buf_append(ret_url, hidden->text + hidden->subject_len + hidden->leaf_len,
                       hidden->url_len);
    atd_lock_give(&staging->lock);
    return hidden != NULL;
}

bool staging_unhide(struct staging *staging, struct atd_str subject, struct atd_str leaf)
{
    struct hidden **at;
    struct hidden *hidden;

    atd_lock_take(&staging->lock);
    at = find_locked(staging, subject, leaf);
    hidden = *at;
    if (hidden) {
        *at = hidden->next;
        staging->hidden_count--;
        staging_changed_locked(staging);
    }
    atd_lock_give(&staging->lock);
    free(hidden);
    return hidden != NULL;
}

void staging_hidden_urls(struct staging *staging, struct atd_str subject, struct atd_buf *ret_urls)
{
    atd_lock_take(&staging->lock);
    for (size_t i = 0; i < HIDDEN_BUCKETS; i++) {
        for (const struct hidden *hidden = staging->hidden[i]; hidden; hidden = hidden->next) {
            if (!atd_str_equal(subject, (struct atd_str){hidden->text, hidden->subject_len}))
                continue;
            atd_buf_append(ret_urls, hidden->text + hidden->subject_len + hidden->leaf_len,
                           hidden->url_len);
            atd_buf_append_byte(ret_urls, '\0');
        }
    }
    atd_lock_give(&staging->lock);
}

void staging_unhide_all(struct staging *staging, struct atd_str subject)
{
    struct hidden *found = NULL;

    atd_lock_take(&staging->lock);
    for (size_t i = 0; i < HIDDEN_BUCKETS; i++) {
        struct hidden **at = &staging->hidden[i];

        while (*at) {
            struct hidden *hidden = *at;

            if (!atd_str_equal(subject, (struct atd_str){hidden->text, hidden->subject_len})) {
                at = &hidden->next;
                continue;
            }
            *at = hidden->next;
            hidden->next = found;
            found = hidden;
            staging->hidden_count--;
            staging_changed_locked(staging);
        }
    }
    atd_lock_give(&staging->lock);
    while (found) {
        struct hidden *hidden = found;

        found = hidden->next;
        free(hidden);
    }
}

void staging_free_hidden(struct staging *staging)
{
    for (size_t i = 0; i < HIDDEN_BUCKETS; i++) {
        while (staging->hidden[i]) {
            struct hidden *hidden = staging->hidden[i];

            staging->hidden[i] = hidden->next;
            free(hidden);
        }
    }
}
