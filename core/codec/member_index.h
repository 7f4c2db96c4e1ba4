/*
 * Which members a shard has: the list, and the form in which it is stored, in an object beside the
 * shard and in the cache directory.
 *
 *     "ATDMEMB1"  magic, 8 bytes
 *     u32 version (1), u32 kind of the subject
 *     u64 size of the shard, 32 bytes subject: which bytes the list is of
 *     u32 members, u32 bytes of all names
 *     a member: four varints and text: blocks of 512 bytes from the end of the data before (padded)
 *         to this one's, size, how many bytes the name shares with the one before, how many are its
 *         own, and these
 *     u32 CRC-32C of everything before
 *
 * Integers are little-endian, varints LEB128 of at most 64 bits in their shortest form. About ten
 * bytes a member. Pure. Threads: one at a time (a list that does not change: any).
 */
#ifndef ATD_CODEC_MEMBER_INDEX_H
#define ATD_CODEC_MEMBER_INDEX_H

#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"
#include "base/digest.h"

/* What the object beside a shard is called: the shard's URL and this. It belongs to the shard, and
 * no shard can be called so. */
#define ATD_MEMBERS_SUFFIX ".atdatafs-members"

/* A shard with more members, or more bytes of names, has no index. */
#define ATD_MEMBER_INDEX_MEMBERS_MAX (1u << 20)
#define ATD_MEMBER_INDEX_NAMES_BYTES_MAX (64u << 20)
/* The longest form of the longest list. */
#define ATD_MEMBER_INDEX_BYTES_MAX (128u << 20)

/* Beside a shard it is stored only where that saves its readers something: the headers of a smaller
 * shard come with one GET anyway, and so few members with few. */
#define ATD_MEMBER_INDEX_SHARD_MIN ((uint64_t)1 << 20)
#define ATD_MEMBER_INDEX_WORTH_MEMBERS 4u

/* ------------------------------------------------------------------ the list */

struct atd_listed_member {
    uint64_t data_offset;
    uint64_t size_bytes;
    uint32_t name_at; /* in names */
    uint32_t name_len;
};

/* In the order of the shard. {0} is an empty one. */
struct atd_member_list {
    struct atd_listed_member *members;
    size_t count;
    size_t cap;
    char *names;
    size_t names_len;
    size_t names_cap;
};

void atd_member_list_release(struct atd_member_list *list);

/*
 * Appends one. Errors: E2BIG too many members or bytes of names; EINVAL the place is not whole
 * blocks behind the member before, or the name is too long for a tar; ENOMEM.
 */
int atd_member_list_add(struct atd_member_list *list, struct atd_str name, uint64_t data_offset,
                        uint64_t size_bytes, struct atd_error *err) ATD_MUST_USE;

static inline struct atd_str atd_member_list_name(const struct atd_member_list *list, size_t place)
{
    const struct atd_listed_member *member = &list->members[place];

    return (struct atd_str){list->names + member->name_at, member->name_len};
}

/* Gives back what was allocated for more. */
void atd_member_list_fit(struct atd_member_list *list);
/* What it takes in memory. */
size_t atd_member_list_bytes(const struct atd_member_list *list);

/* ------------------------------------------------------------------ its stored form */

enum atd_member_subject {
    ATD_MEMBERS_OF_CONTENT = 1, /* the SHA-256 of the shard's bytes */
    ATD_MEMBERS_OF_VERSION = 2, /* the digest of a name of this version of the shard */
};

/* Which bytes a list is of. */
struct atd_member_index_of {
    enum atd_member_subject kind;
    uint64_t shard_bytes;
    uint8_t subject[ATD_SHA256_BYTES];
};

/* False when it is not 64 digits of lower case. */
bool atd_member_index_of_content(struct atd_str sha256_hex, uint64_t shard_bytes,
                                 struct atd_member_index_of *ret_of);

/* Failures are `out`'s. The members lie inside the shard. */
void atd_member_index_encode(const struct atd_member_list *list,
                             const struct atd_member_index_of *of, struct atd_buf *out);

/*
 * Any bytes. Errors: EBADMSG damaged, or not an index; ESTALE one of other bytes than `of`; ENOTSUP
 * of a later version; ENOMEM. The list is the caller's on success.
 */
int atd_member_index_decode(struct atd_bytes bytes, const struct atd_member_index_of *of,
                            struct atd_member_list *ret_list, struct atd_error *err) ATD_MUST_USE;

#endif
