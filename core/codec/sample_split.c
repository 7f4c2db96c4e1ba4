#include "codec/sample_split.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

#define TAR_BLOCK 512u

struct part {
    struct atd_sample_part seen; /* first */
    struct atd_buf bytes;
};

struct atd_sample_split {
    struct atd_sample_sink sink;
    struct atd_tar_walk *walk;
    uint64_t at; /* bytes that were fed */
    bool has_key;
    struct atd_buf key;
    struct part *parts; /* of the sample that is being read */
    size_t count;
    size_t cap;
    bool is_inside;      /* a member whose data is being read */
    struct part *into;   /* where to; NULL: passed over */
    uint64_t data_begin; /* of that member */
    uint64_t data_end;
    struct atd_sample_part *told; /* for the callback */
};

/* ------------------------------------------------------------------ samples */

static void forget_parts(struct atd_sample_split *split)
{
    for (size_t i = 0; i < split->count; i++)
        atd_buf_release(&split->parts[i].bytes);
    split->count = 0;
    split->has_key = false;
}

static int report(struct atd_sample_split *split, struct atd_error *err)
{
    int rc;

    if (!split->has_key)
        return 0;
    for (size_t i = 0; i < split->count; i++) {
        split->told[i] = split->parts[i].seen;
        split->told[i].bytes = atd_buf_bytes(&split->parts[i].bytes);
    }
    rc = split->sink.sample(split->sink.ctx, atd_buf_str(&split->key), split->told, split->count,
                            err);
    forget_parts(split);
    return rc;
}

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "a sample: out of memory");
}

static int grow(struct atd_sample_split *split, struct atd_error *err)
{
    size_t cap = split->cap ? split->cap * 2 : 8;
    struct part *parts;
    struct atd_sample_part *told;

    if (split->count >= ATD_SAMPLE_PARTS_MAX)
        return atd_error_set(err, E2BIG, "the sample '" ATD_STR_FMT "' has more than %u members",
                             ATD_STR_ARG(atd_buf_str(&split->key)), ATD_SAMPLE_PARTS_MAX);
    if (split->count < split->cap)
        return 0;
    parts = reallocarray(split->parts, cap, sizeof(*parts));
    if (!parts)
        return no_memory(err);
    split->parts = parts;
    told = reallocarray(split->told, cap, sizeof(*told));
    if (!told)
        return no_memory(err);
    split->told = told;
    split->cap = cap;
    return 0;
}

static bool has_extension(const struct atd_sample_split *split, const char *extension)
{
    for (size_t i = 0; i < split->count; i++) {
        if (strcmp(split->parts[i].seen.extension, extension) == 0)
            return true;
    }
    return false;
}

/* A member whose headers were read. */
static int on_member(void *ctx, const struct atd_tar_member *member, struct atd_error *err)
{
    struct atd_sample_split *split = ctx;
    char extension[ATD_SAMPLE_EXTENSION_MAX + 1];
    struct atd_str key;
    struct part *part;
    size_t most;
    int rc = 0;

    split->is_inside = true;
    split->into = NULL;
    split->data_begin = member->data_offset;
    split->data_end = member->data_offset + member->size_bytes;
    if (!member->is_file || !atd_tar_split_name(member->name, &key, extension, sizeof(extension)))
        return 0;
    /* The same member twice is another sample: nothing is lost. */
    if (split->has_key &&
        (!atd_str_equal(atd_buf_str(&split->key), key) || has_extension(split, extension)))
        rc = report(split, err);
    if (rc == 0 && !split->has_key) {
        atd_buf_clear(&split->key);
        atd_buf_append_str(&split->key, key);
        rc = atd_buf_finish(&split->key, "the key of a sample", err);
        split->has_key = rc == 0;
    }
    if (rc == 0)
        rc = grow(split, err);
    if (rc)
        return rc;
    part = &split->parts[split->count++];
    *part = (struct part){.seen = {.size_bytes = member->size_bytes}};
    memcpy(part->seen.extension, extension, sizeof(extension));
    most = split->sink.keep(split->sink.ctx, extension);
    part->seen.is_kept = most > 0 && member->size_bytes <= most;
    atd_buf_init(&part->bytes, most);
    split->into = part->seen.is_kept ? part : NULL;
    return 0;
}

struct atd_sample_split *atd_sample_split_new(const struct atd_sample_sink *sink)
{
    struct atd_sample_split *split = calloc(1, sizeof(*split));

    if (!split)
        return NULL;
    split->sink = *sink;
    atd_buf_init(&split->key, ATD_TAR_NAME_BYTES_MAX);
    split->walk = atd_tar_walk_new(on_member, split);
    if (!split->walk) {
        free(split);
        return NULL;
    }
    return split;
}

void atd_sample_split_free(struct atd_sample_split *split)
{
    if (!split)
        return;
    forget_parts(split);
    atd_buf_release(&split->key);
    atd_tar_walk_free(split->walk);
    free(split->parts);
    free(split->told);
    free(split);
}

/* ------------------------------------------------------------------ bytes */

/* Takes data of the member in; returns how many bytes that were. */
static size_t take_data(struct atd_sample_split *split, struct atd_bytes bytes)
{
    uint64_t left = split->data_end - split->at;
    size_t len = left < bytes.len ? (size_t)left : bytes.len;

    if (split->into)
        atd_buf_append(&split->into->bytes, bytes.ptr, len);
    return len;
}

static bool is_in_data(struct atd_sample_split *split)
{
    if (split->is_inside && split->at >= split->data_end)
        split->is_inside = false;
    return split->is_inside && split->at >= split->data_begin;
}

/* One step; *ret_len bytes of it were used. */
static int step(struct atd_sample_split *split, struct atd_bytes bytes, size_t *ret_len,
                struct atd_error *err)
{
    uint64_t next = atd_tar_walk_next_offset(split->walk);
    /* One header at a time: its member's data is taken before the next one is looked for. */
    size_t block = (size_t)(TAR_BLOCK - split->at % TAR_BLOCK);

    if (is_in_data(split)) {
        *ret_len = take_data(split, bytes);
        return split->into ? atd_buf_finish(&split->into->bytes, "a member", err) : 0;
    }
    if (next > split->at) { /* padding, and all that follows the end */
        uint64_t left = next - split->at;

        *ret_len = left < bytes.len ? (size_t)left : bytes.len;
        return 0;
    }
    *ret_len = block < bytes.len ? block : bytes.len;
    return atd_tar_walk_feed(split->walk, split->at, (struct atd_bytes){bytes.ptr, *ret_len}, err);
}

int atd_sample_split_feed(struct atd_sample_split *split, struct atd_bytes bytes,
                          struct atd_error *err)
{
    int rc = 0;

    while (rc == 0 && bytes.len > 0) {
        size_t len = 0;

        rc = step(split, bytes, &len, err);
        split->at += len;
        bytes.ptr += len;
        bytes.len -= len;
    }
    return rc;
}

int atd_sample_split_finish(struct atd_sample_split *split, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    enum atd_tar_end end = atd_tar_walk_end(split->walk, split->at, &why);
    bool is_cut = split->is_inside && split->at < split->data_end;
    int rc;

    if (is_cut)
        forget_parts(split); /* what is there of it is no sample */
    rc = report(split, err);
    if (rc || end == ATD_TAR_COMPLETE || end == ATD_TAR_NO_END)
        return rc;
    if (err)
        *err = why;
    return -EINVAL;
}
