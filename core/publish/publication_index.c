/*
 * The member index beside a shard: made of the check's inspection, stored once the shard itself is
 * there, and before any entry names it. It saves readers a pass over the headers, and is never a
 * reason to fail: without it the shard's record does not tell of one.
 *
 * Whoever takes the shard back takes the index back before it, so that none is left alone.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "publish/publication_private.h"

/* A store that does not answer must not hold the publish up. */
#define INDEX_TIMEOUT_MS 5000u

static bool is_worth_it(const struct atd_publication *publication)
{
    return publication->has_verdict && publication->verdict_rc == 0 &&
           publication->result.size_bytes >= ATD_MEMBER_INDEX_SHARD_MIN &&
           atd_inspection_member_count(publication->inspection) >= ATD_MEMBER_INDEX_WORTH_MEMBERS;
}

void atd_sending_make_index(struct atd_publication *publication)
{
    struct atd_sending_step *step = &publication->step;
    struct atd_member_list list = {0};
    struct atd_member_index_of of;
    int rc = 0;

    atd_buf_release(&step->index);
    atd_buf_init(&step->index, ATD_STORE_PUT_BYTES_MAX);
    if (!is_worth_it(publication) ||
        !atd_member_index_of_content(atd_str_from(publication->result.sha256_hex),
                                     publication->result.size_bytes, &of))
        return;
    for (size_t i = 0; rc == 0 && i < atd_inspection_member_count(publication->inspection); i++) {
        const struct atd_inspect_member *member = atd_inspection_member(publication->inspection, i);

        rc =
            atd_member_list_add(&list, member->name, member->data_offset, member->size_bytes, NULL);
    }
    if (rc == 0)
        atd_member_index_encode(&list, &of, &step->index);
    atd_member_list_release(&list);
    if (rc || step->index.failed)
        atd_buf_release(&step->index);
}

static char *name_index(const char *url)
{
    char *name;

    return asprintf(&name, "%s" ATD_MEMBERS_SUFFIX, url) < 0 ? NULL : name;
}

void atd_sending_put_index(struct atd_publication *publication)
{
    struct atd_publisher *publisher = publication->publisher;
    struct atd_sending *sending = &publication->sending;
    struct atd_bytes bytes = atd_buf_bytes(&publication->step.index);
    atd_auto_free char *url = NULL;
    struct atd_object_info info;
    unsigned timeout_ms =
        publisher->timeout_ms < INDEX_TIMEOUT_MS ? publisher->timeout_ms : INDEX_TIMEOUT_MS;

    if (bytes.len == 0 || atomic_load(&publisher->closing))
        return;
    url = name_index(sending->job.url);
    if (!url)
        return;
    sending->may_have_index = true;
    if (atd_store_put(publisher->options.store, atd_str_from(url), bytes, timeout_ms, &info,
                      NULL) == 0)
        sending->index_bytes = bytes.len;
}

int atd_publisher_drop_index(struct atd_publisher *publisher, const char *url, unsigned timeout_ms,
                             struct atd_error *err)
{
    atd_auto_free char *name = name_index(url);
    int rc = 0;

    if (!name)
        return atd_error_set(err, ENOMEM, "cannot take a shard back: out of memory");
    /* Of a disk without nameless files, what a writer that died had begun. */
    if (publisher->is_disk)
        rc = atd_store_upload_discard(publisher->options.store, atd_str_from(name), "", timeout_ms,
                                      err);
    return rc ? rc
              : atd_store_delete(publisher->options.store, atd_str_from(name), timeout_ms, err);
}
