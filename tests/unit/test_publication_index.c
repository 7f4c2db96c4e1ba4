/*
 * The member index beside a published shard: when there is one, what its record says, and that none
 * outlives its shard.
 */
#include "codec/member_index.h"
#include "publish_rig.h"

#define URL PREFIX "/d/x.tar"
#define INDEX_URL URL ATD_MEMBERS_SUFFIX
#define SMALL (12 * MIB) /* one PUT */
#define LARGE (20 * MIB) /* in parts */
#define TINY (100 * 1024)

static void on_record(void *ctx, const struct atd_shard_record *record)
{
    *(uint64_t *)ctx = record->index_bytes;
}

static uint64_t recorded_index(struct rig *rig)
{
    struct atd_catalog *catalog = atd_live_get(rig->live);
    const struct atd_catalog_entry *entry = atd_catalog_meaning(catalog, ATD_STR("d"));
    uint64_t index_bytes = UINT64_MAX;

    cr_assert_not_null(entry);
    atd_metadata_each_shard(atd_entry_metadata(entry), on_record, &index_bytes);
    atd_catalog_unref(catalog);
    return index_bytes;
}

static int list_member(void *ctx, const struct atd_tar_member *member, struct atd_error *err)
{
    return member->is_file ? atd_member_list_add(ctx, member->name, member->data_offset,
                                                 member->size_bytes, err)
                           : 0;
}

/* What lies beside `url` lists the members of these bytes. */
static void check_index(struct rig *rig, const char *url, struct atd_bytes tar)
{
    struct atd_tar_walk *walk;
    struct atd_member_list want = {0};
    struct atd_member_list list;
    struct atd_member_index_of of = {.kind = ATD_MEMBERS_OF_CONTENT, .shard_bytes = tar.len};
    struct atd_object_info info;
    struct waited_get get;
    uint8_t *bytes;

    walk = atd_tar_walk_new(list_member, &want);
    WORKS(atd_tar_walk_feed(walk, 0, tar, err));
    atd_tar_walk_free(walk);
    atd_sha256_of(tar.ptr, tar.len, of.subject);
    WORKS(atd_store_stat(rig->memory, atd_str_from(url), 1000, &info, err));
    bytes = malloc((size_t)info.size_bytes);
    waited_start(&get, rig->memory, url, 0, info.size_bytes, bytes, NULL);
    cr_assert(waited_ends(&get));
    cr_assert_eq(get.why.code, 0);
    WORKS(atd_member_index_decode((struct atd_bytes){bytes, (size_t)info.size_bytes}, &of, &list,
                                  err));
    cr_assert_eq(list.count, want.count);
    cr_assert_gt(list.count, 3);
    for (size_t i = 0; i < list.count; i++) {
        cr_assert(atd_str_equal(atd_member_list_name(&list, i), atd_member_list_name(&want, i)));
        cr_assert_eq(list.members[i].data_offset, want.members[i].data_offset);
        cr_assert_eq(list.members[i].size_bytes, want.members[i].size_bytes);
    }
    cr_assert_eq(recorded_index(rig), info.size_bytes);
    atd_member_list_release(&list);
    atd_member_list_release(&want);
    free(bytes);
}

Test(publication_index, lies_beside_what_was_published)
{
    static const size_t sizes[] = {SMALL, LARGE};

    for (size_t i = 0; i < ATD_ARRAY_LEN(sizes); i++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(sizes[i], 1);

        rig_open(&rig);
        cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
        check_object(&rig, URL, tar);
        check_index(&rig, INDEX_URL, tar);
        /* The same bytes again: its record goes on telling of it. */
        cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
        check_index(&rig, INDEX_URL, tar);
        check_tidy(&rig, 1);
        cr_assert_eq(count_objects(&rig).indexes, 1);
        rig_close(&rig);
        drop_tar(tar);
    }
}

Test(publication_index, is_not_worth_it_for_little)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(TINY, 1);
    struct atd_buf few = ATD_BUF_INIT(SHARD_BYTES_MAX);
    uint8_t *data = calloc(1, MIB);

    put_member(&few, "0.bin", '0', (struct atd_bytes){data, MIB});
    put_member(&few, "1.bin", '0', (struct atd_bytes){data, MIB});
    put_member(&few, "2.bin", '0', (struct atd_bytes){data, MIB});
    put_end(&few);
    rig_open(&rig);
    cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
    cr_assert_eq(recorded_index(&rig), 0);
    cr_assert_eq(copy_in(&rig, "d", "y.tar", atd_buf_bytes(&few)), 0);
    cr_assert_eq(recorded_index(&rig), 0);
    check_tidy(&rig, 2);
    cr_assert_eq(count_objects(&rig).indexes, 0);
    rig_close(&rig);
    atd_buf_release(&few);
    free(data);
    drop_tar(tar);
}

Test(publication_index, its_failure_is_not_the_publishs)
{
    static const struct atd_write_fault_rule faults[] = {
        {ATD_WRITE_FAULT_FORBIDDEN, 0}, {ATD_WRITE_FAULT_UNAVAILABLE, 0},
        {ATD_WRITE_FAULT_EXISTS, 0},    {ATD_WRITE_FAULT_UNKNOWN, 0},
        {ATD_WRITE_FAULT_UNKNOWN, 1},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(faults); i++) {
        struct rig rig = {0};
        struct atd_bytes tar = make_tar(SMALL, 1);

        rig.rules[0] = (struct rule){ATD_WRITE_PUT, 2, faults[i]};
        rig_open(&rig);
        cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0, "fault %zu", i);
        check_object(&rig, URL, tar);
        cr_assert_eq(recorded_index(&rig), 0);
        check_tidy(&rig, 1);
        rig_close(&rig);
        drop_tar(tar);
    }
}

Test(publication_index, never_writes_over_what_is_there)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(SMALL, 1);
    struct atd_bytes other = atd_str_bytes(ATD_STR("somebody's"));

    rig_open(&rig);
    WORKS(atd_store_memory_put(rig.memory, ATD_STR(INDEX_URL), other, err));
    cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
    cr_assert_eq(recorded_index(&rig), 0);
    check_object(&rig, INDEX_URL, other);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication_index, goes_with_what_is_taken_back)
{
    static const size_t sizes[] = {SMALL, LARGE};

    for (size_t i = 0; i < ATD_ARRAY_LEN(sizes); i++) {
        /* Also one of which nobody knows whether it is there. */
        for (unsigned is_lost = 0; is_lost < 2; is_lost++) {
            struct rig rig = {0};
            struct atd_bytes tar = make_tar(sizes[i], 1);
            struct atd_publication *publication;

            if (is_lost)
                rig.rules[0] = (struct rule){
                    ATD_WRITE_PUT, sizes[i] == SMALL ? 2 : 1, {ATD_WRITE_FAULT_UNKNOWN, 1}};
            rig_open(&rig);
            publication = begin(&rig, "d", "x.tar");
            put_bytes(publication, 0, tar);
            cr_assert_eq(ask_check(publication, false), 0);
            COMES(count_objects(&rig).indexes == 1);
            finish(&rig, publication);
            check_tidy(&rig, 0);
            cr_assert_eq(count_objects(&rig).indexes, 0);
            rig_close(&rig);
            drop_tar(tar);
        }
    }
}

Test(publication_index, goes_when_taking_back_has_to_be_tried_again)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(SMALL, 1);

    /* The first delete is the index's: its shard waits for it. */
    rig.rules[0] = (struct rule){ATD_WRITE_DELETE, 1, {ATD_WRITE_FAULT_UNAVAILABLE, 0}};
    rig_open(&rig);
    atomic_store(&rig.hook.fault, INDEX_REFUSES);
    cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), EROFS);
    check_tidy(&rig, 0);
    cr_assert_eq(count_objects(&rig).indexes, 0);
    rig_close(&rig);
    drop_tar(tar);
}

/* Neither is deleted while the index may name the shard; afterwards both. */
Test(publication_index, goes_with_what_was_never_named)
{
    struct rig rig = {0};
    struct atd_bytes tar = make_tar(SMALL, 1);

    rig_open(&rig);
    atomic_store(&rig.hook.fault, INDEX_LOST);
    atomic_store(&rig.hook.is_deaf, false);
    cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), EREMOTEIO);
    atomic_store(&rig.hook.fault, INDEX_NONE);
    check_tidy(&rig, 0);
    cr_assert_eq(count_objects(&rig).indexes, 0);
    rig_close(&rig);
    drop_tar(tar);
}

Test(publication_index, lies_beside_a_file)
{
    struct rig rig = {0};
    char root[] = "/tmp/atd-shards-XXXXXX";
    const char *roots[] = {root};
    struct atd_bytes tar = make_tar(SMALL, 1);
    struct atd_publication *publication;
    struct atd_file_store *files;
    struct atd_store *store;
    char index[128];
    struct stat st;

    cr_assert_not_null(mkdtemp(root));
    WORKS(atd_file_store_new(roots, 1, &files, err));
    WORKS(atd_store_file_new(files, &store, err));
    rig_open_over(&rig, store, root, root);
    (void)snprintf(index, sizeof(index), "%s/d/x.tar" ATD_MEMBERS_SUFFIX, root);
    cr_assert_eq(copy_in(&rig, "d", "x.tar", tar), 0);
    check_index(&rig, index, tar);
    COMES(rig_leftovers(&rig) == 0);
    (void)snprintf(index, sizeof(index), "%s/d/y.tar" ATD_MEMBERS_SUFFIX, root);
    publication = begin(&rig, "d", "y.tar");
    put_bytes(publication, 0, tar);
    cr_assert_eq(ask_check(publication, false), 0);
    cr_assert_eq(stat(index, &st), 0);
    finish(&rig, publication);
    COMES(rig_leftovers(&rig) == 0);
    cr_assert_neq(stat(index, &st), 0);
    index[strlen(index) - strlen(ATD_MEMBERS_SUFFIX)] = '\0';
    cr_assert_neq(stat(index, &st), 0);
    rig_close(&rig);
    atd_file_store_free(files);
    remove_tree(root);
    drop_tar(tar);
}
