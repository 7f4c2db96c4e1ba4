/*
 * What the tests of the tar walker share: a walk whose members become lines of text, and headers
 * made by hand.
 */
#ifndef ATD_TESTS_UNIT_TAR_WALKS_H
#define ATD_TESTS_UNIT_TAR_WALKS_H

#include <stdio.h>

#include "atdata/tar_index.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "vectors.h"

#define BLOCK 512u

/* What a walk saw, one line a member. */
struct seen {
    struct atd_buf text;
    size_t count;
    uint64_t last_end; /* of the last member, padded */
    int fail_at;       /* the callback fails at this member, counted from 1 */
};

static inline int see_member(void *ctx, const struct atd_tar_member *member, struct atd_error *err)
{
    struct seen *seen = ctx;
    struct atd_str name = member->name;

    if (member->type == '5' && atd_str_ends_with(name, ATD_STR("/")))
        name.len--; /* as Python shows it */
    for (size_t i = 0; i < name.len; i++)
        atd_buf_printf(&seen->text, "%02x", (unsigned char)name.ptr[i]);
    atd_buf_printf(&seen->text, " %c%d %llu %llu %llu %lld\n", member->type, member->is_file,
                   (unsigned long long)member->header_offset,
                   (unsigned long long)member->data_offset, (unsigned long long)member->size_bytes,
                   (long long)member->mtime_s);
    seen->count++;
    seen->last_end = (member->data_offset + member->size_bytes + BLOCK - 1) / BLOCK * BLOCK;
    if (seen->fail_at && seen->count == (size_t)seen->fail_at)
        return atd_error_set(err, EDOM, "enough");
    return 0;
}

static inline void seen_init(struct seen *seen)
{
    *seen = (struct seen){.text = ATD_BUF_INIT(4u << 20)};
}

static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/*
 * Walks `len` bytes of a file, in pieces of at most `piece` bytes (0: all at once), each in memory
 * of its own. Stops at the first error. `walk` may be asked afterwards; the caller frees it.
 */
static inline struct atd_tar_walk *walk_bytes(const uint8_t *data, size_t len, size_t piece,
                                              struct seen *seen, int *ret_rc, struct atd_error *err)
{
    struct atd_tar_walk *walk = atd_tar_walk_new(see_member, seen);
    uint64_t state = piece * 77 + 1;

    cr_assert_not_null(walk);
    *ret_rc = 0;
    for (size_t at = 0; at < len && *ret_rc == 0;) {
        size_t size = piece ? 1 + next_random(&state) % piece : len;
        uint8_t *copy;

        size = size < len - at ? size : len - at;
        copy = exact_copy(data + at, size);
        *ret_rc = atd_tar_walk_feed(walk, at, (struct atd_bytes){copy, size}, err);
        free(copy);
        at += size;
    }
    return walk;
}

/* Makes a header of `name` whose size, or any other field, the caller has set; sums it up. */
static inline void make_header(uint8_t block[BLOCK], const char *name, char type)
{
    unsigned sum = 0;

    memset(block, 0, BLOCK);
    (void)snprintf((char *)block, 100, "%s", name);
    block[156] = (uint8_t)type;
    memcpy(block + 257,
           "ustar\0"
           "00",
           8);
    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += block[i];
    (void)snprintf((char *)block + 148, 8, "%06o", sum);
}

/* Sets a field of a finished header and mends its checksum. */
static inline void set_field(uint8_t block[BLOCK], size_t at, const char *bytes, size_t len)
{
    unsigned sum = 0;

    memcpy(block + at, bytes, len);
    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += block[i];
    (void)snprintf((char *)block + 148, 8, "%06o", sum);
}

#endif
