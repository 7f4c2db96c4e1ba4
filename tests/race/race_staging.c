/*
 * The same few names added, found, listed, renamed and removed from several threads, with
 * generations and sweeps in between: afterwards every file is gone.
 */
#include "publication_double.h"
#include "race.h"
#include "staging.h"

#define ROUNDS 4000

static const char *const leaves[] = {"a.tar", ".a.tar.a1b2c3", "b.tar", "b.tar.part"};

static struct staged_place place_of(unsigned number)
{
    return (struct staged_place){NODE_DATASET, ATD_STR("d"), atd_str_from(leaves[number % 4])};
}

static void use_one(struct staging *staging, unsigned round)
{
    const struct staged_place place = place_of(round);
    const struct staged_place to = place_of(round / 4 + 1);
    struct atd_publication *publication = publication_double_new("bytes");
    struct staged *staged;
    struct staged_look look;

    MUST(publication);
    if (staging_add(staging, &place, STAGED_FILE, publication, &staged, NULL) != 0) {
        atd_publication_unref(publication);
        staged = staging_find(staging, &place);
    }
    if (!staged)
        return;
    staging_look(staging, staged, &look);
    MUST(look.where.leaf[0]);
    staging_touch(staging, staged);
    staging_set_mode(staging, staged, 0600);
    if (round % 3 == 0)
        (void)!staging_rename(staging, staged, &to, NULL);
    if (round % 5 == 0)
        staging_set_published(staging, staged);
    if (round % 2 == 0)
        (void)staging_remove(staging, staged);
    {
        struct staged *same = staging_find_id(staging, staged->id);

        MUST(same == staged && same->publication);
        staged_unref(staging, same);
    }
    staged_unref(staging, staged);
}

static void use_all(struct staging *staging, unsigned round)
{
    static const struct atd_str subject = {"d", 1};
    const struct staged_place place = place_of(round);
    struct staged_list list;
    char url[16];
    struct atd_buf hidden = ATD_BUF_INIT(sizeof(url));

    MUST(staging_list(staging, NODE_DATASET, subject, &list, NULL) == 0);
    for (size_t i = 0; i < list.count; i++)
        MUST(list.items[i].leaf[0]);
    staging_list_free(staging, &list);
    staging_put_note(staging, &place, "why");
    (void)staging_drop_note(staging, &place);
    (void)!staging_hide(staging, subject, place.leaf, ATD_STR("url"), NULL);
    (void)staging_is_hidden(staging, subject, place.leaf);
    (void)staging_hidden_url(staging, subject, place.leaf, &hidden);
    atd_buf_release(&hidden);
    (void)staging_unhide(staging, subject, place.leaf);
    (void)staging_has_dataset(staging, subject);
    staging_sweep(staging);
}

struct shared {
    struct staging *staging;
    struct atd_catalog *catalog;
};

static void *body(void *ctx)
{
    const struct shared *shared = ctx;

    for (unsigned i = 0; i < ROUNDS; i++) {
        use_one(shared->staging, i);
        use_all(shared->staging, i);
        if (i % 16 == 0)
            staging_settle(shared->staging, shared->catalog);
    }
    return NULL;
}

int main(void)
{
    struct atd_index *index = atd_index_memory_new();
    struct shared shared = {.staging = staging_new()};

    MUST(index && shared.staging);
    MUST(atd_catalog_load(index, 1, &shared.catalog, NULL) == 0);
    race(body, &shared);
    staging_free(shared.staging);
    MUST(publication_double_count() == 0);
    atd_catalog_unref(shared.catalog);
    atd_index_free(index);
    return 0;
}
