/*
 * Opening what is in samples/: members and fields.
 */
#include <errno.h>
#include <stdlib.h>

#include "file.h"
#include "layout_staged.h"
#include "samples_private.h"

/* A sample in memory says nothing of the file that it was read from. */
static int check_local(struct fs *fs, const struct atd_shard *shard, struct atd_error *err)
{
    struct atd_file_identity identity;
    int rc = atd_file_store_stat(fs->store, shard->path, &identity, err);

    if (rc == -ENOENT || (rc == 0 && !atd_file_identity_equal(&identity, &shard->identity)))
        return atd_error_set(err, ESTALE, "shard '" ATD_STR_FMT "' has changed",
                             ATD_STR_ARG(shard->file_name));
    return rc;
}

static int open_field(struct fs *fs, const struct view *view, const struct node *node,
                      enum atd_effort effort, struct file *file, struct atd_error *err)
{
    const struct samples_view *samples = &view->samples;
    const struct atd_sample_file *found =
        atd_sample_files_find(atd_read_sample_files(samples->sample), node_leaf(node));
    int rc = 0;

    if (!found || memcmp(samples->sample_key, node->version, NODE_VERSION_BYTES) != 0)
        return file_stale(node, err);
    if (!samples->shard->store && effort == ATD_EFFORT_MEMORY)
        return -EWOULDBLOCK;
    if (!samples->shard->store)
        rc = check_local(fs, samples->shard, err);
    if (rc)
        return rc;
    file->sample = atd_read_sample_ref(samples->sample);
    file->head = found->head;
    file->body = found->body;
    return 0;
}

static int read_whole(struct fs *fs, const struct atd_shard *shard, const struct atd_member *member,
                      struct file *file, struct atd_error *err)
{
    size_t size = (size_t)member->size_bytes;
    uint8_t *bytes = malloc(size ? size : 1);
    int rc =
        bytes ? atd_member_read(&fs->samples->source, shard, member->data_offset, size, bytes, err)
              : atd_error_set(err, ENOMEM, "out of memory");

    if (rc) {
        free(bytes);
        return rc;
    }
    file->text = bytes;
    file->text_len = size;
    return 0;
}

/* Bytes that arrive as they are asked for: of the shard, from the member's place on. */
static int open_part(struct fs *fs, const struct atd_shard *shard, const struct atd_member *member,
                     struct file *file, struct atd_error *err)
{
    struct atd_object_info info;
    const struct atd_reader_source source = {
        .store = shard->store, .url = shard->url, .info = &info, .sha256_hex = shard->sha256};
    int rc;

    file->base = member->data_offset;
    file->size_bytes = member->size_bytes;
    if (!shard->store) {
        file->identity = shard->identity;
        return atd_member_open_local(&fs->samples->source, shard, &file->fd, err);
    }
    atd_shard_info(shard, &info);
    rc = atd_reader_open(fs->reader, &source, &file->reader, err);
    if (rc == -EBADMSG) {
        err->code = EIO; /* what read(2) says of bad data; the sentence says more */
        rc = -EIO;
    }
    return rc;
}

static int open_member(struct fs *fs, const struct view *view, const struct node *node,
                       enum atd_effort effort, struct file *file, struct atd_error *err)
{
    const struct samples_view *samples = &view->samples;
    uint8_t version[NODE_VERSION_BYTES];
    struct atd_member_name found;

    if (!samples->inside->names ||
        !atd_member_names_find(samples->inside->names, node_leaf(node), &found) || found.is_sample)
        return file_stale(node, err);
    samples_member_version(view, &found.member, version);
    if (memcmp(version, node->version, sizeof(version)) != 0)
        return file_stale(node, err);
    if (effort == ATD_EFFORT_MEMORY)
        return -EWOULDBLOCK;
    if (found.member.size_bytes > SAMPLES_WHOLE_BYTES_MAX)
        return open_part(fs, samples->shard, &found.member, file, err);
    if (effort == ATD_EFFORT_DISK && samples->shard->store)
        return -EWOULDBLOCK;
    return read_whole(fs, samples->shard, &found.member, file, err);
}

int samples_open(struct fs *fs, const struct view *view, const struct node *node,
                 enum atd_effort effort, struct file *file, struct atd_error *err)
{
    int rc = node->kind == NODE_FIELD ? open_field(fs, view, node, effort, file, err)
                                      : open_member(fs, view, node, effort, file, err);

    if (rc == -ESTALE)
        samples_forget(fs, view, view->samples.shard);
    else if (rc && rc != -EWOULDBLOCK && rc != -EACCES && rc != -ETIMEDOUT && rc != -ENOMEM)
        rc = -(err->code = EIO); /* what open(2) may say */
    return rc;
}

void samples_forget_node(struct fs *fs, enum node_kind parent, struct atd_str subject,
                         struct atd_str leaf, const uint8_t version[NODE_VERSION_BYTES])
{
    struct view_names names;
    struct view view;
    struct item item;

    if (samples_view_open(fs, parent, subject, leaf, ATD_EFFORT_DISK, &view, NULL) != 0)
        return;
    if (samples_find(&view, leaf, &names, &item) &&
        memcmp(item.version, version, NODE_VERSION_BYTES) == 0)
        samples_forget(fs, &view, view.samples.shard);
    view_close(&view);
}
