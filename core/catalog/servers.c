#include "catalog/servers.h"

#include "base/clock.h"

/* A server that did not answer is not asked again for so long. */
#define DOWN_MS 3000
#define NO_LIST_MS (10 * 60 * 1000)

void atd_servers_init(struct atd_servers *servers)
{
    atd_lock_init(&servers->lock, ATD_RANK_LOCATOR);
    atd_cond_init(&servers->given);
    atd_arena_init(&servers->arena, 1u << 20);
}

void atd_servers_release(struct atd_servers *servers)
{
    atd_arena_release(&servers->arena);
    (void)pthread_cond_destroy(&servers->given);
    atd_lock_destroy(&servers->lock);
}

/* Where a new server goes: a free place, or that of one nobody asks now. NULL: all are asked. */
static struct atd_server *free_place_locked(struct atd_servers *servers)
{
    struct atd_server *oldest = NULL;

    if (servers->count < ATD_SERVERS_MAX)
        return &servers->servers[servers->count++];
    for (unsigned i = 0; i < ATD_SERVERS_MAX; i++) {
        struct atd_server *server = &servers->servers[i];

        if (server->users == 0 && (!oldest || server->down_until_ms < oldest->down_until_ms))
            oldest = server;
    }
    return oldest;
}

/* Waits for the server's turn. False: it is down, *ret_why says why. */
bool atd_servers_take(struct atd_servers *servers, struct atd_str name,
                      struct atd_server **ret_server, struct atd_error *ret_why)
{
    struct atd_server *server = NULL;
    bool is_down;

    atd_lock_take(&servers->lock);
    for (unsigned i = 0; i < servers->count && !server; i++) {
        if (atd_str_equal(atd_str_from(servers->servers[i].name), name))
            server = &servers->servers[i];
    }
    while (!server && !(server = free_place_locked(servers)))
        atd_cond_wait(&servers->given, &servers->lock);
    if (!atd_str_equal(atd_str_from(server->name), name)) {
        *server = (struct atd_server){0};
        memcpy(server->name, name.ptr, name.len);
    }
    server->users++;
    for (;;) {
        is_down = atd_clock_monotonic_ms() < server->down_until_ms;
        if (is_down || !server->taken)
            break;
        atd_cond_wait(&servers->given, &servers->lock);
    }
    if (is_down) {
        *ret_why = server->down;
        server->users--;
    } else {
        server->taken = true;
        *ret_server = server;
    }
    atd_lock_give(&servers->lock);
    return !is_down;
}

/* `why` not NULL: the server did not answer and is left alone for a while. */
void atd_servers_give(struct atd_servers *servers, struct atd_server *server,
                      const struct atd_error *why)
{

    atd_lock_take(&servers->lock);
    server->taken = false;
    server->users--;
    if (why) {
        server->down = *why;
        server->down_until_ms = atd_clock_monotonic_ms() + DOWN_MS;
    }
    (void)pthread_cond_broadcast(&servers->given);
    atd_lock_give(&servers->lock);
}

bool atd_servers_refuses_list(struct atd_servers *servers, struct atd_str bucket)
{
    bool refuses = false;

    atd_lock_take(&servers->lock);
    for (unsigned i = 0; i < servers->refusal_count && !refuses; i++)
        refuses = atd_str_equal(servers->refusals[i].bucket, bucket) &&
                  atd_clock_monotonic_ms() < servers->refusals[i].until_ms;
    atd_lock_give(&servers->lock);
    return refuses;
}

void atd_servers_note_refusal(struct atd_servers *servers, struct atd_str bucket)
{
    struct atd_list_refusal *refusal = NULL;

    atd_lock_take(&servers->lock);
    for (unsigned i = 0; i < servers->refusal_count && !refusal; i++) {
        if (atd_str_equal(servers->refusals[i].bucket, bucket))
            refusal = &servers->refusals[i];
    }
    if (!refusal && servers->refusal_count < ATD_REFUSING_BUCKETS_MAX) {
        struct atd_str copy = atd_arena_str(&servers->arena, bucket);

        if (copy.ptr) {
            refusal = &servers->refusals[servers->refusal_count++];
            refusal->bucket = copy;
        }
    }
    if (refusal)
        refusal->until_ms = atd_clock_monotonic_ms() + NO_LIST_MS;
    atd_lock_give(&servers->lock);
}
