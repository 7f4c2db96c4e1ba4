#include <errno.h>

#include "base/cleanup.h"
#include "staging_scene.h"

TestSuite(staging, .init = start, .fini = stop);

Test(staging, a_name_is_found_where_it_is_and_nowhere_else)
{
    uint64_t id = add("d", "x.tar");

    cr_assert_eq(id_at("d", "x.tar"), id);
    cr_assert_eq(id_at("e", "x.tar"), 0);
    cr_assert_eq(id_at("d", "y.tar"), 0);
    cr_assert_eq(id_at("", "dx.tar"), 0);
    cr_assert_eq(id_of((struct staged_place){NODE_SCHEMAS, ATD_STR("d"), ATD_STR("x.tar")}), 0);
}

Test(staging, a_second_file_of_the_name_is_refused_and_its_publication_stays_the_callers)
{
    struct staged_place place = in_dataset("d", "x.tar");
    struct atd_publication *publication = publication_double_new("other");
    struct staged *staged = NULL;

    (void)add("d", "x.tar");
    cr_assert_eq(staging_add(staging, &place, STAGED_FILE, publication, &staged, &err), -EEXIST);
    cr_assert_null(staged);
    cr_assert_eq(publication_double_count(), 2);
    atd_publication_unref(publication);
}

Test(staging, names_that_no_file_can_have_are_refused)
{
    char name[300] = "";
    struct staged *staged;
    struct staged_place places[] = {
        in_dataset("d", name),   in_dataset(name, "x.tar"), in_dataset("d", ""),
        in_dataset("d", "a/b"),  in_scratch("d", "x.tar"),  in_dataset("d", "/x"),
        in_scratch("d", "dir/"),
    };

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    places[0].leaf = places[1].subject = atd_str_from(name);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        cr_assert_eq(staging_add(staging, &places[i], STAGED_FILE, NULL, &staged, &err),
                     -ENAMETOOLONG, "%zu", i);
}

Test(staging, an_unlinked_file_lives_as_long_as_somebody_has_it)
{
    struct staged *staged = add_at(in_dataset("d", "x.tar"));
    uint64_t id = staged->id;
    struct staged_look look;
    struct staged *again;

    cr_assert(staging_remove(staging, staged));
    cr_assert_not(staging_remove(staging, staged));
    cr_assert_eq(id_at("d", "x.tar"), 0);
    again = staging_find_id(staging, id);
    cr_assert_eq(again, staged);
    staging_look(staging, again, &look);
    cr_assert_not(look.is_named);
    cr_assert_str_eq(look.where.leaf, "x.tar");
    staged_unref(staging, again);
    staged_unref(staging, staged);
    cr_assert_null(staging_find_id(staging, id));
    cr_assert_eq(publication_double_count(), 0);
}

Test(staging, a_new_file_of_an_old_name_has_another_id)
{
    struct staged *staged = add_at(in_dataset("d", "x.tar"));
    uint64_t id = staged->id;

    cr_assert(staging_remove(staging, staged));
    staged_unref(staging, staged);
    cr_assert_gt(add("d", "x.tar"), id);
}

Test(staging, rename_takes_the_name_of_another_and_keeps_the_file)
{
    struct staged *moved = add_at(in_dataset("d", ".x.tar.a1b2c3"));
    struct staged *replaced = add_at(in_dataset("d", "x.tar"));
    struct staged_place to = in_dataset("d", "x.tar");
    struct staged_look look;

    staging_look(staging, moved, &look);
    cr_assert_eq(look.name_kind, ATD_UPLOAD_TEMP);
    cr_assert_eq(staging_rename(staging, moved, &to, &err), 0, "%s", err.text);
    cr_assert_eq(id_at("d", "x.tar"), moved->id);
    cr_assert_eq(id_at("d", ".x.tar.a1b2c3"), 0);
    staging_look(staging, moved, &look);
    cr_assert_eq(look.name_kind, ATD_UPLOAD_SHARD);
    cr_assert_str_eq(look.where.leaf, "x.tar");
    staging_look(staging, replaced, &look);
    cr_assert_not(look.is_named);
    /* To itself: nothing happens. */
    cr_assert_eq(staging_rename(staging, moved, &to, &err), 0);
    cr_assert_eq(id_at("d", "x.tar"), moved->id);
    /* What has no name any more cannot get another one. */
    cr_assert_eq(staging_rename(staging, replaced, &to, &err), -ENOENT);
    staged_unref(staging, moved);
    staged_unref(staging, replaced);
    expect_list(NODE_DATASET, "d", "x.tar");
}

Test(staging, a_scratch_directory_holds_names_and_goes_only_when_empty)
{
    struct staged_place place = in_dataset("d", ".~tmp~");
    struct staged_place inside = in_scratch("d", ".~tmp~/x.tar");
    struct staged_place out = in_dataset("d", "x.tar");
    struct staged *directory;
    struct staged *file;

    cr_assert_eq(staging_add(staging, &inside, STAGED_FILE, NULL, &file, &err), -ENOENT);
    cr_assert_eq(staging_add(staging, &place, STAGED_DIR, NULL, &directory, &err), 0);
    file = add_at(out);
    cr_assert_eq(staging_rename(staging, file, &inside, &err), 0, "%s", err.text);
    expect_list(NODE_DATASET, "d", ".~tmp~");
    expect_list(NODE_STAGED_DIR, "d", ".~tmp~/x.tar");
    cr_assert_not(staging_remove(staging, directory));
    cr_assert_eq(staging_rename(staging, directory, &out, &err), -EPERM);
    cr_assert_eq(staging_rename(staging, file, &place, &err), -EEXIST);
    cr_assert_eq(staging_rename(staging, file, &out, &err), 0);
    cr_assert(staging_remove(staging, directory));
    cr_assert_eq(staging_rename(staging, file, &inside, &err), -ENOENT);
    staged_unref(staging, directory);
    staged_unref(staging, file);
}

Test(staging, places_in_a_directorys_node)
{
    struct staged_where storage;
    struct staged_place place;
    char long_name[257];

    memset(long_name, 'n', 256);
    long_name[256] = '\0';
    cr_assert(staged_place_in(NODE_DATASET, ATD_STR("d"), ATD_STR("x"), &storage, &place));
    cr_assert(atd_str_equal(place.subject, ATD_STR("d")));
    cr_assert(
        staged_place_in(NODE_STAGED_DIR, ATD_STR("d/.~tmp~"), ATD_STR("x"), &storage, &place));
    cr_assert(atd_str_equal(place.subject, ATD_STR("d")));
    cr_assert(atd_str_equal(place.leaf, ATD_STR(".~tmp~/x")));
    cr_assert(staged_place_in(NODE_SCHEMAS, ATD_STR(""), ATD_STR("x"), &storage, &place));
    cr_assert_not(staged_place_in(NODE_CID, ATD_STR("d"), ATD_STR("x"), &storage, &place));
    cr_assert_not(staged_place_in(NODE_ROOT, ATD_STR(""), ATD_STR("x"), &storage, &place));
    cr_assert_not(
        staged_place_in(NODE_DATASET, ATD_STR("d"), atd_str_from(long_name), &storage, &place));
    cr_assert_not(staged_place_in(NODE_STAGED_DIR, ATD_STR("d/.~tmp~"), atd_str_from(long_name),
                                  &storage, &place));
    cr_assert_not(staged_place_in(NODE_STAGED_DIR, ATD_STR("d"), ATD_STR("x"), &storage, &place));
}

Test(staging, lists_are_sorted_copies)
{
    struct staged_place to = in_dataset("d", "zz.tar");
    struct staged_list list;
    struct staged *moved;

    (void)add("d", "b.tar");
    (void)add("d", "a.tar");
    (void)add("d", "a.tar~");
    (void)add("e", "c.tar");
    expect_list(NODE_DATASET, "d", "a.tar a.tar~ b.tar");
    expect_list(NODE_DATASET, "none", "");
    cr_assert_eq(staging_list(staging, NODE_DATASET, ATD_STR("d"), &list, &err), 0);
    moved = list.items[0].staged;
    cr_assert_eq(staging_rename(staging, moved, &to, &err), 0);
    cr_assert(staging_remove(staging, moved));
    cr_assert_str_eq(list.items[0].leaf, "a.tar");
    cr_assert_eq(moved->id, list.items[0].staged->id);
    staging_list_free(staging, &list);
}

Test(staging, a_note_says_why_until_the_next_success)
{
    const struct staged_place shard = in_dataset("d", "x.tar");
    struct staged_place note_place = in_dataset("d", "x.tar.error.txt");
    struct staged *note;

    cr_assert_not(staging_drop_note(staging, &shard));
    staging_put_note(staging, &shard, "first");
    staging_put_note(staging, &shard, "no end blocks");
    expect_list(NODE_DATASET, "d", "x.tar.error.txt");
    note = staging_find(staging, &note_place);
    cr_assert_eq(note->kind, STAGED_NOTE);
    cr_assert_str_eq(note->text, "no end blocks");
    cr_assert_eq(staging_rename(staging, note, &shard, &err), -EPERM);
    staged_unref(staging, note);
    cr_assert(staging_drop_note(staging, &shard));
    cr_assert_eq(id_of(note_place), 0);
}

Test(staging, notes_go_with_their_dataset)
{
    const struct staged_place shards[] = {in_dataset("d", "x.tar"), in_dataset("d", "y.tar")};
    const struct staged_place there = in_dataset("e", "y.tar");

    staging_put_note(staging, &shards[0], "why x");
    staging_put_note(staging, &shards[1], "why y");
    staging_put_note(staging, &there, "old");
    (void)add("d", "z.tar");
    staging_move_notes(staging, ATD_STR("d"), ATD_STR("e"));
    expect_list(NODE_DATASET, "d", "z.tar");
    expect_list(NODE_DATASET, "e", "x.tar.error.txt y.tar.error.txt");
    cr_assert(staging_drop_note(staging, &there));
    expect_list(NODE_DATASET, "e", "x.tar.error.txt");
}

Test(staging, a_long_names_note_is_cut_at_a_character)
{
    char name[256];
    char expected[256];
    struct staged_place place;
    struct staged_where where;

    /* 127 two-byte characters and one byte: 244 would cut one in the middle. */
    name[0] = 'a';
    for (size_t i = 0; i < 127; i++)
        memcpy(name + 1 + 2 * i, "\xc3\xa4", 2);
    name[255] = '\0';
    memcpy(expected, name, 245);
    (void)snprintf(expected + 245, sizeof(expected) - 245, ".error.txt");
    place = in_dataset("d", name);
    staged_note_place(&place, &where);
    cr_assert_str_eq(where.leaf, expected);
    staging_put_note(staging, &place, "why");
    cr_assert(staging_drop_note(staging, &place));

    name[255 - 1] = '\0';
    name[1] = 'b'; /* characters at even places now: one byte of a half one, then whole ones */
    place = in_dataset("d", name);
    staged_note_place(&place, &where);
    cr_assert_leq(strlen(where.leaf), 255);
    staging_put_note(staging, &place, "why");
    cr_assert(staging_drop_note(staging, &place));
}

Test(staging, the_version_changes_with_names_only)
{
    uint64_t version = staging_version(staging);
    struct staged *staged = add_at(in_dataset("d", "x.tar"));

    cr_assert_neq(staging_version(staging), version);
    version = staging_version(staging);
    staging_touch(staging, staged);
    staging_set_mode(staging, staged, 0600);
    (void)id_at("d", "x.tar");
    expect_list(NODE_DATASET, "d", "x.tar");
    cr_assert_eq(staging_version(staging), version);
    cr_assert(staging_remove(staging, staged));
    cr_assert_neq(staging_version(staging), version);
    staged_unref(staging, staged);
}

/* ------------------------------------------------------------------ hidden */

Test(staging, a_hidden_shard_keeps_its_url_until_it_is_shown_again)
{
    atd_auto_buf struct atd_buf url = ATD_BUF_INIT(100);

    cr_assert_not(staging_is_hidden(staging, ATD_STR("d"), ATD_STR("x.tar")));
    cr_assert_eq(
        staging_hide(staging, ATD_STR("d"), ATD_STR("x.tar"), ATD_STR("s3://b/x.tar"), &err), 0);
    cr_assert_eq(staging_hide(staging, ATD_STR("d"), ATD_STR("x.tar"), ATD_STR("u"), &err),
                 -EEXIST);
    cr_assert(staging_is_hidden(staging, ATD_STR("d"), ATD_STR("x.tar")));
    cr_assert_not(staging_is_hidden(staging, ATD_STR("d"), ATD_STR("y.tar")));
    cr_assert_not(staging_is_hidden(staging, ATD_STR("e"), ATD_STR("x.tar")));
    cr_assert_not(staging_is_hidden(staging, ATD_STR("dx"), ATD_STR(".tar")));
    cr_assert(staging_hidden_url(staging, ATD_STR("d"), ATD_STR("x.tar"), &url));
    cr_assert(atd_str_equal(atd_buf_str(&url), ATD_STR("s3://b/x.tar")));
    cr_assert(staging_unhide(staging, ATD_STR("d"), ATD_STR("x.tar")));
    cr_assert_not(staging_unhide(staging, ATD_STR("d"), ATD_STR("x.tar")));
    cr_assert_not(staging_is_hidden(staging, ATD_STR("d"), ATD_STR("x.tar")));
    cr_assert_not(staging_hidden_url(staging, ATD_STR("d"), ATD_STR("x.tar"), &url));
    /* One is left for staging_free. */
    cr_assert_eq(staging_hide(staging, ATD_STR("d"), ATD_STR("z.tar"), ATD_STR(""), &err), 0);
}

Test(staging, of_many_hidden_shards_each_is_its_own)
{
    char name[16];

    for (int i = 0; i < 10000; i++) {
        (void)snprintf(name, sizeof(name), "s%d", i);
        cr_assert_eq(
            staging_hide(staging, atd_str_from(name), ATD_STR("x.tar"), ATD_STR("u"), &err), 0);
    }
    for (int i = 0; i < 10000; i++) {
        (void)snprintf(name, sizeof(name), "s%d", i);
        cr_assert(staging_is_hidden(staging, atd_str_from(name), ATD_STR("x.tar")));
        name[0] = 't';
        cr_assert_not(staging_is_hidden(staging, atd_str_from(name), ATD_STR("x.tar")));
    }
}

/* ------------------------------------------------------------------ giving way */

Test(staging, a_published_file_gives_way_when_a_catalog_shows_its_url)
{
    struct atd_catalog *other = load("e", x_urls);
    struct atd_catalog *catalog = load("d", x_urls);
    struct staged *published = add_at(in_dataset("d", "x.tar"));
    struct staged *longer = add_at(in_dataset("d", "x.tar.gz"));
    struct staged *written = add_at(in_dataset("d", "y.tar"));

    publication_double_publish(written->publication, "/data/x.tar");
    publication_double_publish(published->publication, "/data/x.tar");
    staging_settle(staging, catalog);
    expect_list(NODE_DATASET, "d", "x.tar x.tar.gz y.tar"); /* nobody said that it was published */
    staging_set_published(staging, published);
    publication_double_publish(longer->publication, "/data/x.tar.gz");
    staging_set_published(staging, longer);
    staging_settle(staging, other);
    expect_list(NODE_DATASET, "d", "x.tar x.tar.gz y.tar");
    staging_settle(staging, catalog);
    expect_list(NODE_DATASET, "d", "x.tar.gz y.tar");
    staged_unref(staging, published);
    staged_unref(staging, longer);
    staged_unref(staging, written);
    atd_catalog_unref(other);
    atd_catalog_unref(catalog);
}

Test(staging, only_what_nobody_touched_for_long_is_swept)
{
    struct staged *old = add_at(in_dataset("d", "old.part"));
    struct staged *open = add_at(in_dataset("d", "open.part"));

    (void)add("d", "fresh.part");
    staging_sweep(staging);
    expect_list(NODE_DATASET, "d", "fresh.part old.part open.part");
    /* A day ago. */
    old->touched_ms -= (STAGED_FORGOTTEN_S + 1) * 1000ll;
    open->touched_ms -= (STAGED_FORGOTTEN_S + 1) * 1000ll;
    staged_unref(staging, old);
    staging_sweep(staging);
    expect_list(NODE_DATASET, "d", "fresh.part open.part");
    staged_unref(staging, open);
}
