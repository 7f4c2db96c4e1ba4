/*
 * The members of a tar file: where each begins and how long it is.
 *
 * The walker is fed bytes from the beginning on, by whoever has them: it never does I/O. It asks
 * for the next range it needs, so that a reader with random access can skip the members' data and
 * fetch headers only, and a writer that sees every byte can feed everything.
 *
 * Understood: ustar (with prefix), pax `x` and `g` records (path, size, mtime; `g` until replaced),
 * GNU long names (`L`, `K`), base-256 numbers, v7. Source: POSIX pax; ATDATA-FORMATS 5.1, 5.4.
 */
#ifndef ATDATA_TAR_INDEX_H
#define ATDATA_TAR_INDEX_H

#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

#define ATD_TAR_NAME_BYTES_MAX 65536u
#define ATD_TAR_PAX_BYTES_MAX (1u << 20)

struct atd_tar_member {
    struct atd_str name;    /* bytes as stored, not checked for UTF-8; valid during the callback */
    char type;              /* the typeflag; NUL is given as '0' */
    bool is_file;           /* '0' or '7': has data that webdataset would read */
    uint64_t header_offset; /* of its first header block, pax and long-name blocks included */
    uint64_t data_offset;
    uint64_t size_bytes; /* of the data; 0 for links and directories */
    int64_t mtime_s;
};

/* Returns 0, or a negative errno with `err` set, which ends the walk and is returned by the feed.
 */
typedef int (*atd_tar_member_fn)(void *ctx, const struct atd_tar_member *member,
                                 struct atd_error *err);

struct atd_tar_walk;

/* NULL when out of memory. `fn` is called once a member, in order, when its headers were read. */
struct atd_tar_walk *atd_tar_walk_new(atd_tar_member_fn fn, void *ctx) ATD_MUST_USE;
void atd_tar_walk_free(struct atd_tar_walk *walk);

/* The offset of the next byte the walker wants to look at; everything before is not needed.
 * UINT64_MAX once the end blocks were seen. */
uint64_t atd_tar_walk_next_offset(const struct atd_tar_walk *walk);

/*
 * Feeds `bytes` that lie at `offset` of the file. Bytes before the next wanted offset are skipped;
 * a gap (offset beyond it) is EINVAL. Bytes after the end blocks are ignored.
 * Errors: EINVAL "not a tar", a bad checksum, size, pax record or name, with its offset; E2BIG a
 * name, a pax record or a member larger than the limits; what the callback returned.
 */
int atd_tar_walk_feed(struct atd_tar_walk *walk, uint64_t offset, struct atd_bytes bytes,
                      struct atd_error *err) ATD_MUST_USE;

enum atd_tar_end {
    ATD_TAR_COMPLETE,  /* two zero blocks were seen, or one followed by the end of the file */
    ATD_TAR_NO_END,    /* ends after a whole member, without end blocks, or with one that other data
                          follow (readable) */
    ATD_TAR_TRUNCATED, /* ends inside a header or a member's data */
    ATD_TAR_EMPTY,     /* no byte at all */
};

/*
 * Says how a file of `file_size` bytes ended, once everything wanted was fed (or skipped because
 * it lies beyond file_size). `err` gets the sentence for NO_END, TRUNCATED and EMPTY.
 */
enum atd_tar_end atd_tar_walk_end(const struct atd_tar_walk *walk, uint64_t file_size,
                                  struct atd_error *err);

/*
 * webdataset's split of a member name: key up to the first dot after the last slash, extension
 * the rest, lower-cased (ASCII) into `extension` (cut at its size). False for names it skips: no
 * dot, `__x__` and `__x__/...` (5.4), and a leading dot in the basename, unless the directory above
 * is there and has no dot: of "a/.x" it makes the key "a/".
 */
bool atd_tar_split_name(struct atd_str name, struct atd_str *ret_key, char *extension,
                        size_t extension_size);

ATD_END_DECLS

#endif
