#include "reply.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "layout.h"

/* A reader that opens a missing shard in a loop must not fill the log. */
#define LOG_LINES_A_SECOND 10

static bool may_log(void)
{
    static atomic_int_fast64_t second;
    static atomic_int lines;
    int64_t now = atd_clock_monotonic_ms() / 1000;

    if (atomic_exchange(&second, now) != now)
        atomic_store(&lines, 0);
    return atomic_fetch_add(&lines, 1) < LOG_LINES_A_SECOND;
}

void reply_error(struct fs *fs, fuse_req_t req, const char *what, const struct atd_error *why)
{
    if (why->code != ENOENT && why->code != ESTALE) {
        METRICS_ADD(&fs->metrics, errors, 1);
        events_note(fs->events, what, why);
        if (may_log())
            atd_log(ATD_LOG_WARNING, "%s: %s", what, why->text);
    } else {
        atd_log(ATD_LOG_DEBUG, "%s: %s", what, why->text);
    }
    (void)fuse_reply_err(req, why->code);
}

void reply_node_error(struct fs *fs, fuse_req_t req, const char *operation, const struct node *node,
                      const struct atd_error *why)
{
    char path[800];
    char what[860];

    layout_path(fs, node, path, sizeof(path));
    (void)snprintf(what, sizeof(what), "%s %s", operation, path);
    reply_error(fs, req, what, why);
}

/* It may be something else at the next look, without a notification. */
static bool node_is_staged(const struct node *node)
{
    return node->kind == NODE_STAGED || node->kind == NODE_STAGED_DIR;
}

double reply_attr_keep(const struct node *node)
{
    if (node->kind == NODE_CONTROL_FILE || node_is_staged(node))
        return 0;
    /* An object's version is what its name means until a new generation says otherwise. */
    return node->kind == NODE_SHARD && !node->is_remote ? KEEP_SHARD_ATTR_S : KEEP_S;
}

void reply_fill_entry(struct fs *fs, const struct node *node, const struct item *item,
                      bool is_current, struct fuse_entry_param *ret_entry)
{
    double attr_keep = reply_attr_keep(node) - (double)item->age_ms / 1000.0;

    *ret_entry = (struct fuse_entry_param){
        .ino = node->number,
        .entry_timeout = is_current && !node_is_staged(node) && !item->is_empty ? KEEP_S : 0,
        .attr_timeout = is_current && attr_keep > 0 ? attr_keep : 0,
    };
    if (!layout_stat(fs, node, &ret_entry->attr))
        ret_entry->attr = (struct stat){.st_ino = node->st_ino, .st_mode = S_IFREG};
}
