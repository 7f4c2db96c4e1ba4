/*
 * The walker's states:
 *
 *     HEADER --header of x, g, L--> BODY --body read--> HEADER
 *     HEADER --any other header--> HEADER (behind the member's data)
 *     HEADER --zero block--> SECOND_END --any block--> ENDED
 *
 * take_header(), take_body() and take_second_end() make these transitions.
 */
#include "atdata/tar_index.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/utf8.h"
#include "codec/tar_header.h"
#include "codec/tar_pax.h"

enum state { HEADER, BODY, SECOND_END, ENDED };

/* What extended headers said; a name is NUL-free text of its own. */
struct extension {
    bool has_name;
    struct atd_buf name; /* empty: the header's own name counts */
    bool has_size;
    uint64_t size_bytes;
    bool has_mtime;
    int64_t mtime_s;
};

struct atd_tar_walk {
    atd_tar_member_fn fn;
    void *ctx;
    int failed; /* 0, or what the feed that failed returned */
    enum state state;
    uint64_t next; /* offset of the next wanted byte */

    uint8_t block[ATD_TAR_BLOCK_BYTES]; /* HEADER, SECOND_END: the block being collected */
    size_t block_len;

    struct atd_buf body; /* BODY */
    uint64_t body_bytes;
    char body_type;

    bool pending; /* extended headers were read whose member is still to come */
    uint64_t pending_offset;
    struct extension local;  /* for the next member */
    struct extension global; /* until replaced */

    bool lone_end; /* ENDED: the first zero block was not followed by a second */
};

struct atd_tar_walk *atd_tar_walk_new(atd_tar_member_fn fn, void *ctx)
{
    struct atd_tar_walk *walk = calloc(1, sizeof(*walk));

    if (!walk)
        return NULL;
    walk->fn = fn;
    walk->ctx = ctx;
    atd_buf_init(&walk->body, ATD_TAR_PAX_BYTES_MAX);
    atd_buf_init(&walk->local.name, ATD_TAR_NAME_BYTES_MAX);
    atd_buf_init(&walk->global.name, ATD_TAR_NAME_BYTES_MAX);
    return walk;
}

void atd_tar_walk_free(struct atd_tar_walk *walk)
{
    if (!walk)
        return;
    atd_buf_release(&walk->body);
    atd_buf_release(&walk->local.name);
    atd_buf_release(&walk->global.name);
    free(walk);
}

uint64_t atd_tar_walk_next_offset(const struct atd_tar_walk *walk)
{
    return walk->state == ENDED ? UINT64_MAX : walk->next;
}

/* Data are padded to whole blocks. `size` at most INT64_MAX. */
static uint64_t padded(uint64_t size)
{
    return (size + ATD_TAR_BLOCK_BYTES - 1) / ATD_TAR_BLOCK_BYTES * ATD_TAR_BLOCK_BYTES;
}

/* Moves behind `size` bytes of data that begin at walk->next. */
static int skip_data(struct atd_tar_walk *walk, uint64_t size, struct atd_error *err)
{
    if (size > INT64_MAX - ATD_TAR_BLOCK_BYTES || padded(size) > INT64_MAX - walk->next)
        return atd_error_set(err, EINVAL,
                             "tar member at byte %" PRIu64 ": size of %" PRIu64 " bytes is too "
                             "large",
                             walk->next - ATD_TAR_BLOCK_BYTES, size);
    walk->next += padded(size);
    return 0;
}

/*
 * Takes over what a header of the next member said. Of several such headers the first counts, as
 * in Python's tarfile, which reads these shards.
 */
static void extend_local(struct extension *local, const struct atd_tar_pax *pax)
{
    if (pax->has_path && !local->has_name) {
        local->has_name = true;
        atd_buf_append_str(&local->name, pax->path);
    }
    if (pax->has_size && !local->has_size) {
        local->has_size = true;
        local->size_bytes = pax->size_bytes;
    }
    if (pax->has_mtime && !local->has_mtime) {
        local->has_mtime = true;
        local->mtime_s = pax->mtime_s;
    }
}

static void extend_global(struct extension *global, const struct atd_tar_pax *pax)
{
    if (pax->has_path) {
        global->has_name = true;
        atd_buf_clear(&global->name);
        atd_buf_append_str(&global->name, pax->path);
    }
    if (pax->has_size) {
        global->has_size = true;
        global->size_bytes = pax->size_bytes;
    }
    if (pax->has_mtime) {
        global->has_mtime = true;
        global->mtime_s = pax->mtime_s;
    }
}

/* The body of an extended header is complete. */
static int finish_body(struct atd_tar_walk *walk, struct atd_error *err)
{
    uint64_t offset = walk->next - walk->body_bytes;
    struct atd_tar_pax pax = {0};
    int rc = atd_buf_finish(&walk->body, "tar extended header", err);

    if (rc == 0 && walk->body_type == 'L') {
        /* GNU's long name ends with a NUL. */
        pax.has_path = true;
        pax.path = atd_str_head(atd_buf_str(&walk->body),
                                strnlen((const char *)walk->body.ptr, walk->body.len));
        if (pax.path.len > ATD_TAR_NAME_BYTES_MAX)
            rc = atd_error_set(err, E2BIG,
                               "tar long name at byte %" PRIu64 " is longer than %u bytes", offset,
                               ATD_TAR_NAME_BYTES_MAX);
    } else if (rc == 0) {
        rc = atd_tar_pax_read(atd_buf_bytes(&walk->body), offset, &pax, err);
    }
    if (rc != 0)
        return rc;
    if (walk->body_type == 'g')
        extend_global(&walk->global, &pax);
    else
        extend_local(&walk->local, &pax);
    if (walk->local.name.failed || walk->global.name.failed)
        return atd_error_set(err, ENOMEM, "tar member name: out of memory");
    walk->next = padded(walk->next);
    walk->state = HEADER;
    return 0;
}

/* A header was read whose body says something about the next member, or about all. */
static int begin_body(struct atd_tar_walk *walk, const struct atd_tar_header *header,
                      struct atd_error *err)
{
    uint64_t limit = header->type == 'L' ? ATD_TAR_NAME_BYTES_MAX + 1 : ATD_TAR_PAX_BYTES_MAX;

    if (header->type != 'g' && !walk->pending) {
        walk->pending = true;
        walk->pending_offset = walk->next - ATD_TAR_BLOCK_BYTES;
    }
    if (header->type == 'K') /* where a link points to is of no use here */
        return skip_data(walk, header->size_bytes, err);
    if (header->size_bytes > limit)
        return atd_error_set(err, E2BIG,
                             "tar extended header at byte %" PRIu64 ": %" PRIu64 " bytes are more "
                             "than %" PRIu64,
                             walk->next - ATD_TAR_BLOCK_BYTES, header->size_bytes, limit);
    if (walk->next > INT64_MAX - 2 * (uint64_t)ATD_TAR_PAX_BYTES_MAX)
        return atd_error_set(err, EINVAL, "tar header at byte %" PRIu64 " lies too far out",
                             walk->next - ATD_TAR_BLOCK_BYTES);
    atd_buf_clear(&walk->body);
    atd_buf_append(&walk->body, NULL, 0);
    walk->body_bytes = header->size_bytes;
    walk->body_type = header->type;
    walk->state = BODY;
    return header->size_bytes ? 0 : finish_body(walk, err);
}

static void forget_local(struct atd_tar_walk *walk)
{
    atd_buf_clear(&walk->local.name);
    walk->local.has_name = walk->local.has_size = walk->local.has_mtime = false;
    walk->pending = false;
}

/* Types without data, whatever their size field says. All others are skipped by it, as Python's
 * tarfile does. Links 1 and 2, devices 3 and 4, directory 5, FIFO 6. */
static bool has_data(char type)
{
    return type < '1' || type > '6';
}

static int finish_member(struct atd_tar_walk *walk, const struct atd_tar_header *header,
                         struct atd_error *err)
{
    const struct extension *local = &walk->local;
    const struct extension *global = &walk->global;
    uint64_t header_at = walk->next - ATD_TAR_BLOCK_BYTES;
    struct atd_tar_member member = {
        .name = {header->name, header->name_len},
        .type = header->type,
        .is_file = header->type == '0' || header->type == '7',
        .header_offset = walk->pending ? walk->pending_offset : header_at,
        .data_offset = walk->next,
        .size_bytes = header->size_bytes,
        .mtime_s = header->mtime_s,
    };
    int rc;

    if (header->type == 'S')
        return atd_error_set(err, EINVAL,
                             "tar header at byte %" PRIu64 ": sparse files are not supported",
                             header_at);
    if (local->has_name ? local->name.len : global->name.len)
        member.name = atd_buf_str(local->has_name ? &local->name : &global->name);
    if (local->has_size || global->has_size)
        member.size_bytes = local->has_size ? local->size_bytes : global->size_bytes;
    if (local->has_mtime || global->has_mtime)
        member.mtime_s = local->has_mtime ? local->mtime_s : global->mtime_s;
    if (!has_data(header->type))
        member.size_bytes = 0;
    rc = skip_data(walk, member.size_bytes, err);
    if (rc == 0)
        rc = walk->fn(walk->ctx, &member, err);
    forget_local(walk);
    return rc;
}

static int take_header(struct atd_tar_walk *walk, struct atd_error *err)
{
    struct atd_tar_header header;
    int rc;

    if (atd_tar_is_zero_block(walk->block)) {
        walk->state = SECOND_END;
        return 0;
    }
    rc = atd_tar_header_read(walk->block, walk->next - ATD_TAR_BLOCK_BYTES, &header, err);
    if (rc != 0)
        return rc;
    if (header.type == 'X') /* Solaris's own x */
        header.type = 'x';
    if (memchr("xgLK", header.type, 4))
        return begin_body(walk, &header, err);
    return finish_member(walk, &header, err);
}

static int take_second_end(struct atd_tar_walk *walk)
{
    walk->lone_end = !atd_tar_is_zero_block(walk->block);
    walk->state = ENDED;
    return 0;
}

/* Takes bytes that lie at walk->next; *ret_taken of them, at least one. */
static int take(struct atd_tar_walk *walk, struct atd_bytes bytes, size_t *ret_taken,
                struct atd_error *err)
{
    bool is_body = walk->state == BODY;
    uint64_t wanted =
        is_body ? walk->body_bytes - walk->body.len : ATD_TAR_BLOCK_BYTES - walk->block_len;
    size_t taken = bytes.len < wanted ? bytes.len : (size_t)wanted;

    if (is_body) {
        atd_buf_append(&walk->body, bytes.ptr, taken);
        if (walk->body.failed)
            return atd_error_set(err, ENOMEM, "tar extended header: out of memory");
    } else {
        memcpy(walk->block + walk->block_len, bytes.ptr, taken);
        walk->block_len += taken;
    }
    walk->next += taken;
    *ret_taken = taken;
    if (taken < wanted)
        return 0;
    walk->block_len = 0;
    if (is_body)
        return finish_body(walk, err);
    return walk->state == HEADER ? take_header(walk, err) : take_second_end(walk);
}

int atd_tar_walk_feed(struct atd_tar_walk *walk, uint64_t offset, struct atd_bytes bytes,
                      struct atd_error *err)
{
    if (walk->failed)
        return atd_error_set(err, -walk->failed, "tar could not be read before byte %" PRIu64,
                             walk->next);
    if (offset > INT64_MAX || bytes.len > INT64_MAX - offset)
        return atd_error_set(err, EINVAL, "tar bytes at %" PRIu64 " lie too far out", offset);
    while (bytes.len && walk->state != ENDED) {
        size_t taken = bytes.len;
        int rc = 0;

        if (offset > walk->next)
            return atd_error_set(err, EINVAL,
                                 "tar bytes at %" PRIu64 " leave a gap behind byte %" PRIu64,
                                 offset, walk->next);
        if (offset < walk->next)
            taken = walk->next - offset < taken ? (size_t)(walk->next - offset) : taken;
        else
            rc = take(walk, bytes, &taken, err);
        if (rc != 0) {
            walk->failed = rc;
            return rc;
        }
        offset += taken;
        bytes = (struct atd_bytes){bytes.ptr + taken, bytes.len - taken};
    }
    return 0;
}

enum atd_tar_end atd_tar_walk_end(const struct atd_tar_walk *walk, uint64_t file_size,
                                  struct atd_error *err)
{
    if (file_size == 0) {
        (void)atd_error_set(err, EINVAL, "file is empty: not even a tar without members");
        return ATD_TAR_EMPTY;
    }
    if (walk->failed) {
        (void)atd_error_set(err, -walk->failed, "tar could not be read before byte %" PRIu64,
                            walk->next);
        return ATD_TAR_TRUNCATED;
    }
    if (file_size < walk->next - (walk->state == ENDED ? 0 : walk->block_len)) {
        (void)atd_error_set(err, EINVAL,
                            "tar of %" PRIu64 " bytes ends inside a member's data, which go on to "
                            "byte %" PRIu64,
                            file_size, walk->next);
        return ATD_TAR_TRUNCATED;
    }
    if (walk->state == ENDED && walk->lone_end) {
        (void)atd_error_set(err, EINVAL,
                            "tar has one end block only, followed by other data at byte %" PRIu64,
                            walk->next - ATD_TAR_BLOCK_BYTES);
        return ATD_TAR_NO_END;
    }
    if (walk->state == ENDED ||
        (walk->state == SECOND_END && walk->block_len == 0 && file_size == walk->next))
        return ATD_TAR_COMPLETE;
    if (walk->state == HEADER && walk->block_len == 0 && !walk->pending &&
        file_size == walk->next) {
        (void)atd_error_set(err, EINVAL,
                            "tar of %" PRIu64 " bytes has no end blocks: more may be missing",
                            file_size);
        return ATD_TAR_NO_END;
    }
    (void)atd_error_set(err, EINVAL,
                        "tar of %" PRIu64 " bytes ends inside the header before byte %" PRIu64,
                        file_size,
                        walk->next + (walk->state == BODY ? walk->body_bytes - walk->body.len
                                                          : ATD_TAR_BLOCK_BYTES - walk->block_len));
    return ATD_TAR_TRUNCATED;
}

/* "__x__" and what lies below such a directory. */
static bool is_meta(struct atd_str name)
{
    ptrdiff_t slash = atd_str_find(name, '/');
    struct atd_str first = slash < 0 ? name : atd_str_head(name, (size_t)slash);

    return first.len >= 4 && atd_str_starts_with(first, ATD_STR("__")) &&
           atd_str_ends_with(first, ATD_STR("__"));
}

/* Copies as many whole characters as fit, in lower case. */
static void copy_lower(struct atd_str text, char *ret, size_t size)
{
    size_t len = 0;

    while (len < text.len) {
        size_t step = atd_utf8_step((const uint8_t *)text.ptr + len, text.len - len);

        step = step ? step : 1;
        if (step >= size - len)
            break;
        for (; step > 0; step--, len++)
            ret[len] = text.ptr[len] >= 'A' && text.ptr[len] <= 'Z' ? (char)(text.ptr[len] | 0x20)
                                                                    : text.ptr[len];
    }
    ret[len] = '\0';
}

/*
 * webdataset's regular expression is ^((?:.*\/|)[^.]+)[.]([^/]*)$, whose [^.]+ may hold slashes: a
 * basename with a leading dot is skipped only when the directory just above has a dot too or there
 * is none; otherwise the key is the directory with its slash.
 */
bool atd_tar_split_name(struct atd_str name, struct atd_str *ret_key, char *extension,
                        size_t extension_size)
{
    size_t base = (size_t)(atd_str_find_last(name, '/') + 1);
    ptrdiff_t dot = atd_str_find(atd_str_from_byte(name, base), '.');
    size_t at = base + (size_t)dot;

    atd_assert(extension_size > 0);
    if (dot < 0 || is_meta(name))
        return false;
    if (dot == 0) {
        struct atd_str above = atd_str_head(name, base ? base - 1 : 0);
        struct atd_str last = atd_str_from_byte(above, (size_t)(atd_str_find_last(above, '/') + 1));

        if (base == 0 || atd_str_find(last, '.') >= 0)
            return false;
    }
    *ret_key = atd_str_head(name, at);
    copy_lower(atd_str_from_byte(name, at + 1), extension, extension_size);
    return true;
}
