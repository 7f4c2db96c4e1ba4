/*
 * What publishing takes, in a mount and in a command: the index's writer, the store that new shards
 * go to, the publisher.
 */
#ifndef ATD_FS_PUBLISH_PARTS_H
#define ATD_FS_PUBLISH_PARTS_H

#include "parts.h"
#include "publish/publisher.h"

struct publish_parts {
    struct atd_index_writer *writer;
    struct atd_new_place place;
    struct atd_publisher *publisher;
};

/* Who is told; the publisher's own (publisher.h), each may be NULL. */
struct publish_told {
    void (*event)(void *ctx, const char *what, struct atd_str dataset, struct atd_str file_name,
                  struct atd_str url, struct atd_str cid, const struct atd_error *why);
    void (*lost)(void *ctx, struct atd_str dataset, struct atd_str file_name, struct atd_str url,
                 const struct atd_error *why);
    void *ctx;
};

/* Whatever fails, the parts are to be closed. Blocks on the disk. */
int publish_parts_open(const struct parts *parts, const struct publish_told *told,
                       struct publish_parts *ret_parts, struct atd_error *err) ATD_MUST_USE;
/* False when a thread hangs. */
bool publish_parts_close(struct publish_parts *parts, unsigned timeout_ms);

#endif
