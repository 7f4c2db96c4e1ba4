#include "dataset/members.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "dataset/members_folder.h"
#include "store/stores.h"
#include "support/cache_setup.h"

#undef BLOCK /* the cache's: here a tar's counts */
#include "shards.h"

#define URL "s3://bucket/a.tar"
#define MIB ((uint64_t)1 << 20)

static char path[PATH_MAX];
static struct atd_store *memory;
static struct atd_store *owner; /* memory, or what is in front of it */

static void setup(void)
{
    make_temp_dir(path);
    cr_assert_eq(atd_store_memory_new(&memory, NULL), 0);
    owner = memory;
}

static void teardown(void)
{
    atd_store_free(owner);
    remove_tree(path);
}

TestSuite(members, .init = setup, .fini = teardown);

/* ------------------------------------------------------------------ what they share */

static struct atd_members_cache *new_cache(const char *dir, size_t memory_bytes)
{
    const struct atd_members_cache_options options = {
        .dir = dir, .scope = "here", .memory_bytes = memory_bytes, .timeout_ms = 20000};
    struct atd_members_cache *cache = NULL;

    cr_assert_eq(atd_members_cache_new(&options, &cache, NULL), 0);
    return cache;
}

/* A remote shard as the catalog makes it; its version is of the ETag. */
static struct atd_shard shard_of(struct atd_store *store, const char *url,
                                 struct atd_object_info *info)
{
    struct atd_shard shard = {.file_name = ATD_STR("a.tar"), .url = atd_str_from(url)};
    uint8_t digest[ATD_SHA256_BYTES];

    cr_assert_eq(atd_store_stat(store, shard.url, 20000, info, NULL), 0);
    shard.store = store;
    shard.etag = atd_str_from(info->etag);
    shard.size_bytes = info->size_bytes;
    atd_sha256_of(info->etag, strlen(info->etag), digest);
    memcpy(shard.version, digest, sizeof(shard.version));
    return shard;
}

static void put(const char *url, struct atd_bytes bytes)
{
    cr_assert_eq(atd_store_memory_put(memory, atd_str_from(url), bytes, NULL), 0);
}

static uint64_t gets(void)
{
    uint64_t count;
    uint64_t bytes;

    atd_store_memory_counts(memory, &count, &bytes);
    return count;
}

static void fill_tar(struct atd_buf *tar, unsigned samples, size_t data_bytes)
{
    uint8_t *data = calloc(1, data_bytes + 1);

    for (unsigned i = 0; i < samples; i++) {
        char name[64];

        (void)snprintf(name, sizeof(name), "%06u.jpg", i);
        put_member(tar, name, '0', (struct atd_bytes){data, data_bytes});
        (void)snprintf(name, sizeof(name), "%06u.cls", i);
        put_text_member(tar, name, "7");
        if (i % 10 == 0)
            put_member(tar, "directory/", '5', (struct atd_bytes){NULL, 0});
    }
    put_end(tar);
    free(data);
}

/* What the walker says of the same bytes when it gets all of them. */
static int compare_member(void *ctx, const struct atd_tar_member *member, struct atd_error *err)
{
    struct atd_member_list *list = ctx;

    return member->is_file ? atd_member_list_add(list, member->name, member->data_offset,
                                                 member->size_bytes, err)
                           : 0;
}

static void list_of(struct atd_bytes tar, struct atd_member_list *ret_list)
{
    struct atd_tar_walk *walk = atd_tar_walk_new(compare_member, ret_list);

    cr_assert_eq(atd_tar_walk_feed(walk, 0, tar, NULL), 0);
    atd_tar_walk_free(walk);
}

static void assert_lists(const struct atd_members *members, struct atd_bytes tar)
{
    struct atd_member_list list = {0};

    list_of(tar, &list);
    cr_assert_eq(atd_members_count(members), list.count);
    for (size_t i = 0; i < list.count; i++) {
        struct atd_member member = atd_members_at(members, i);

        cr_assert(atd_str_equal(member.name, atd_member_list_name(&list, i)));
        cr_assert_eq(member.data_offset, list.members[i].data_offset);
        cr_assert_eq(member.size_bytes, list.members[i].size_bytes);
    }
    atd_member_list_release(&list);
}

static void get_and_compare(struct atd_members_cache *cache, const struct atd_shard *shard,
                            struct atd_bytes tar)
{
    struct atd_members *members = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_members_get(cache, shard, &members, &err), 0, "%s", err.text);
    assert_lists(members, tar);
    atd_members_unref(members);
}

static struct atd_members_stats stats_of(struct atd_members_cache *cache)
{
    struct atd_members_stats stats;

    atd_members_cache_stats(cache, &stats);
    return stats;
}

/* ------------------------------------------------------------------ headers */

Test(members, a_small_shard_takes_one_get)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct atd_members_cache *cache = new_cache(NULL, MIB);
    struct atd_object_info info;
    struct atd_shard shard;

    fill_tar(&tar, 100, 3000);
    put(URL, atd_buf_bytes(&tar));
    shard = shard_of(memory, URL, &info);
    cr_assert_null(atd_members_peek(cache, &shard));
    get_and_compare(cache, &shard, atd_buf_bytes(&tar));
    cr_assert_eq(gets(), 1);
    get_and_compare(cache, &shard, atd_buf_bytes(&tar));
    cr_assert_eq(gets(), 1);
    cr_assert_eq(stats_of(cache).walked, 1);
    cr_assert_eq(stats_of(cache).from_memory, 1);
    atd_members_cache_free(cache);
}

Test(members, of_small_members_ranges_grow)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct atd_members_cache *cache = new_cache(NULL, MIB);
    struct atd_object_info info;
    struct atd_shard shard;

    fill_tar(&tar, 20000, 700);
    cr_assert_gt(tar.len, 40 * MIB);
    put(URL, atd_buf_bytes(&tar));
    shard = shard_of(memory, URL, &info);
    get_and_compare(cache, &shard, atd_buf_bytes(&tar));
    cr_assert_lt(gets(), 25);
    atd_members_cache_free(cache);
}

struct made {
    uint64_t member_bytes;
    uint64_t count;
};

/* A tar of equal members, made where it is read. */
static void fill_made(void *ctx, uint64_t offset, uint8_t *into, size_t len)
{
    const struct made *made = ctx;
    uint64_t stride = BLOCK + made->member_bytes;

    for (size_t i = 0; i < len;) {
        uint64_t number = (offset + i) / stride;
        uint64_t within = (offset + i) % stride;
        uint64_t left = within < BLOCK ? BLOCK - within : stride - within;
        size_t piece = left < len - i ? (size_t)left : len - i;

        memset(into + i, 0, piece);
        if (within < BLOCK && number < made->count) {
            uint8_t block[BLOCK];
            char text[40];

            (void)snprintf(text, sizeof(text), "%06llu.bin", (unsigned long long)number);
            make_header(block, text, '0');
            (void)snprintf(text, sizeof(text), "%011llo", (unsigned long long)made->member_bytes);
            set_field(block, 124, text, 11);
            memcpy(into + i, block + within, piece);
        }
        i += piece;
    }
}

static uint64_t fetched_of(uint64_t member_bytes, uint64_t count, uint64_t *ret_gets)
{
    struct made made = {member_bytes, count};
    struct atd_members_cache *cache = new_cache(NULL, MIB);
    struct atd_members *members = NULL;
    struct atd_object_info info;
    struct atd_shard shard;
    struct atd_error err = ATD_ERROR_INIT;
    uint64_t before;
    uint64_t bytes;

    cr_assert_eq(atd_store_memory_put_made(memory, ATD_STR(URL),
                                           count * (BLOCK + member_bytes) + 2 * BLOCK, fill_made,
                                           &made, NULL),
                 0);
    atd_store_memory_counts(memory, ret_gets, &before);
    shard = shard_of(memory, URL, &info);
    cr_assert_eq(atd_members_get(cache, &shard, &members, &err), 0, "%s", err.text);
    cr_assert_eq(atd_members_count(members), count);
    cr_assert_eq(atd_members_at(members, count - 1).data_offset,
                 (count - 1) * (BLOCK + member_bytes) + BLOCK);
    atd_members_unref(members);
    atd_members_cache_free(cache);
    atd_store_memory_counts(memory, ret_gets, &bytes);
    return bytes - before;
}

Test(members, the_data_of_large_members_are_skipped)
{
    uint64_t count;
    uint64_t bytes = fetched_of(4 * MIB, 256, &count);

    cr_assert_lt(bytes, 256 * 4 * MIB / 100 * 3, "%llu bytes", (unsigned long long)bytes);
    cr_assert_lt(bytes, 2 * MIB);
    cr_assert_leq(count, 257);
    bytes = fetched_of(16 * MIB, 3, &count);
    cr_assert_lt(bytes, 48 * MIB / 100 * 3);
}

/* ------------------------------------------------------------------ the folder */

static unsigned files_in(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    unsigned count = 0;

    while (dir && (entry = readdir(dir)))
        count += entry->d_name[0] != '.';
    if (dir)
        (void)closedir(dir);
    return count;
}

/* Changes the last byte of each file. */
static void damage_files(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        int fd = openat(dirfd(dir), entry->d_name, O_RDWR);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) != 0)
            continue;
        cr_assert_eq(pwrite(fd, "?", 1, st.st_size / 2), 1);
        (void)close(fd);
    }
    if (dir)
        (void)closedir(dir);
}

Test(members, what_the_folder_has_takes_no_get)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    atd_auto_free char *folder = NULL;
    struct atd_members_cache *cache;
    struct atd_object_info info;
    struct atd_shard shard;

    cr_assert_gt(asprintf(&folder, "%s/members", path), 0);
    fill_tar(&tar, 100, 3000);
    put(URL, atd_buf_bytes(&tar));
    shard = shard_of(memory, URL, &info);
    for (unsigned round = 0; round < 4; round++) {
        cache = new_cache(path, MIB);
        get_and_compare(cache, &shard, atd_buf_bytes(&tar));
        /* The third meets a damaged file, discards it, and makes it again. */
        cr_assert_eq(gets(), round < 2 ? 1 : 2);
        cr_assert_eq(files_in(folder), 1);
        atd_members_cache_free(cache);
        if (round == 1)
            damage_files(folder);
    }
}

Test(members, another_version_is_another_file)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    atd_auto_buf struct atd_buf other = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct atd_members_cache *cache = new_cache(path, MIB);
    struct atd_members *members = NULL;
    struct atd_object_info info;
    struct atd_object_info now;
    struct atd_shard shard;
    struct atd_error err = ATD_ERROR_INIT;

    fill_tar(&tar, 10, 3000);
    fill_tar(&other, 20, 1000);
    put(URL, atd_buf_bytes(&tar));
    shard = shard_of(memory, URL, &info);
    put(URL, atd_buf_bytes(&other));
    cr_assert_eq(atd_members_get(cache, &shard, &members, &err), -ESTALE, "%s", err.text);
    cr_assert_null(members);
    shard = shard_of(memory, URL, &now);
    get_and_compare(cache, &shard, atd_buf_bytes(&other));
    atd_members_cache_free(cache);
}

static struct atd_member_index_of numbered(unsigned number)
{
    struct atd_member_index_of of = {.kind = ATD_MEMBERS_OF_VERSION, .shard_bytes = 10000};

    of.subject[0] = (uint8_t)number;
    return of;
}

Test(members, the_oldest_files_go)
{
    struct atd_members_folder folder;
    struct atd_member_list list = {0};
    struct atd_member_list found;

    cr_assert_eq(atd_members_folder_init(&folder, path, NULL), 0);
    folder.files_max = 8;
    cr_assert_eq(atd_member_list_add(&list, ATD_STR("x.jpg"), 512, 7, NULL), 0);
    for (unsigned i = 0; i < 9; i++) {
        struct atd_member_index_of of = numbered(i);
        struct timespec times[2] = {{.tv_sec = 1000 + i}, {.tv_sec = 1000 + i}};
        char name[PATH_MAX];

        atd_members_folder_store(&folder, &of, &list);
        (void)snprintf(name, sizeof(name), "%s/%02x%062d", folder.path, i, 0);
        if (i < 8)
            cr_assert_eq(utimensat(AT_FDCWD, name, times, 0), 0);
        if (i == 7) { /* used again: not the oldest any more */
            of = numbered(0);
            cr_assert(atd_members_folder_load(&folder, &of, &found));
            atd_member_list_release(&found);
        }
    }
    cr_assert_eq(files_in(folder.path), 7);
    for (unsigned i = 0; i < 9; i++) {
        struct atd_member_index_of of = numbered(i);
        bool there = atd_members_folder_load(&folder, &of, &found);

        cr_assert_eq(there, i != 1 && i != 2, "file %u", i);
        if (there)
            atd_member_list_release(&found);
    }
    atd_member_list_release(&list);
    atd_members_folder_release(&folder);
}

/* ------------------------------------------------------------------ beside the shard */

static void make_index(struct atd_bytes tar, char ret_hex[65], struct atd_buf *out)
{
    struct atd_member_list list = {0};
    struct atd_member_index_of of;
    uint8_t digest[ATD_SHA256_BYTES];

    atd_sha256_of(tar.ptr, tar.len, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        (void)snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
    cr_assert(atd_member_index_of_content(atd_str_from(ret_hex), tar.len, &of));
    list_of(tar, &list);
    atd_member_index_encode(&list, &of, out);
    atd_member_list_release(&list);
}

Test(members, what_lies_beside_takes_one_get)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    atd_auto_buf struct atd_buf index = ATD_BUF_INIT(MIB);
    struct atd_members_cache *cache = new_cache(path, MIB);
    struct atd_object_info info;
    struct atd_shard shard;
    char hex[65];

    fill_tar(&tar, 1000, 8000);
    make_index(atd_buf_bytes(&tar), hex, &index);
    put(URL, atd_buf_bytes(&tar));
    put(URL ATD_MEMBERS_SUFFIX, atd_buf_bytes(&index));
    shard = shard_of(memory, URL, &info);
    shard.sha256 = atd_str_from(hex);
    shard.index_bytes = index.len;
    get_and_compare(cache, &shard, atd_buf_bytes(&tar));
    cr_assert_eq(gets(), 1);
    cr_assert_eq(stats_of(cache).from_beside, 1);
    atd_members_cache_free(cache);
    cache = new_cache(path, MIB);
    get_and_compare(cache, &shard, atd_buf_bytes(&tar));
    cr_assert_eq(gets(), 1);
    atd_members_cache_free(cache);
}

Test(members, what_lies_beside_and_is_wrong_is_not_believed)
{
    enum { MISSING, DAMAGED, OF_OTHERS, UNRECORDED, NO_HASH, WRONG_SIZE, HUGE_SIZE, CASES };
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    atd_auto_buf struct atd_buf other = ATD_BUF_INIT(SHARD_BYTES_MAX);
    atd_auto_buf struct atd_buf index = ATD_BUF_INIT(MIB);
    atd_auto_buf struct atd_buf of_others = ATD_BUF_INIT(MIB);
    struct atd_object_info info;
    struct atd_shard shard;
    char hex[65];
    char unused[65];

    fill_tar(&tar, 100, 800);
    fill_tar(&other, 100, 801);
    make_index(atd_buf_bytes(&tar), hex, &index);
    make_index(atd_buf_bytes(&other), unused, &of_others);
    cr_assert_eq(index.len, of_others.len);
    put(URL, atd_buf_bytes(&tar));
    shard = shard_of(memory, URL, &info);
    for (int i = 0; i < CASES; i++) {
        struct atd_members_cache *cache = new_cache(NULL, MIB);

        shard.sha256 = i == NO_HASH ? (struct atd_str){NULL, 0} : atd_str_from(hex);
        shard.index_bytes = index.len;
        if (i == DAMAGED || i == WRONG_SIZE)
            index.ptr[index.len / 2] ^= 1;
        if (i == WRONG_SIZE || i == UNRECORDED)
            shard.index_bytes = i == WRONG_SIZE ? index.len - 1 : 0;
        if (i == HUGE_SIZE)
            shard.index_bytes = UINT64_MAX;
        if (i != MISSING)
            put(URL ATD_MEMBERS_SUFFIX,
                i == OF_OTHERS ? atd_buf_bytes(&of_others) : atd_buf_bytes(&index));
        get_and_compare(cache, &shard, atd_buf_bytes(&tar));
        cr_assert_eq(stats_of(cache).walked, 1, "case %d", i);
        atd_members_cache_free(cache);
    }
}

/* ------------------------------------------------------------------ local files */

struct local {
    struct atd_file_store *files;
    struct atd_members_cache *cache;
    char name[PATH_MAX];
    struct atd_shard shard;
};

static void write_file(const char *name, struct atd_bytes bytes)
{
    FILE *file = fopen(name, "w");

    cr_assert_eq(fwrite(bytes.ptr, 1, bytes.len, file), bytes.len);
    cr_assert_eq(fclose(file), 0);
}

static void look(struct local *local)
{
    struct atd_shard *shard = &local->shard;

    *shard = (struct atd_shard){.file_name = ATD_STR("a.tar"),
                                .url = atd_str_from(local->name),
                                .path = atd_str_from(local->name)};
    cr_assert_eq(atd_file_store_stat(local->files, shard->path, &shard->identity, NULL), 0);
    shard->size_bytes = shard->identity.size_bytes;
    memcpy(shard->version, &shard->identity.ctime_ns, 8);
}

static void open_local(struct local *local, struct atd_bytes tar)
{
    const char *roots[] = {path};
    struct atd_members_cache_options options = {.memory_bytes = MIB, .timeout_ms = 1000};

    cr_assert_eq(atd_file_store_new(roots, 1, &local->files, NULL), 0);
    options.files = local->files;
    cr_assert_eq(atd_members_cache_new(&options, &local->cache, NULL), 0);
    (void)snprintf(local->name, sizeof(local->name), "%.1000s/a.tar", path);
    write_file(local->name, tar);
    look(local);
}

static void close_local(struct local *local)
{
    atd_members_cache_free(local->cache);
    atd_file_store_free(local->files);
}

Test(members, a_local_file_is_read_in_place)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct atd_members *members = NULL;
    struct local local;

    fill_tar(&tar, 1000, 5000);
    open_local(&local, atd_buf_bytes(&tar));
    get_and_compare(local.cache, &local.shard, atd_buf_bytes(&tar));
    write_file(local.name, atd_buf_bytes(&tar));
    local.shard.version[15] ^= 1; /* or memory has it */
    cr_assert_eq(atd_members_get(local.cache, &local.shard, &members, NULL), -ESTALE);
    cr_assert_eq(unlink(local.name), 0);
    cr_assert_eq(atd_members_get(local.cache, &local.shard, &members, NULL), -ENOENT);
    close_local(&local);
}

Test(members, a_local_index_counts_while_it_is_newer)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    atd_auto_buf struct atd_buf index = ATD_BUF_INIT(MIB);
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    char beside[PATH_MAX];
    char hex[65];
    struct local local;

    fill_tar(&tar, 100, 5000);
    make_index(atd_buf_bytes(&tar), hex, &index);
    open_local(&local, atd_buf_bytes(&tar));
    (void)snprintf(beside, sizeof(beside), "%.2000s" ATD_MEMBERS_SUFFIX, local.name);
    write_file(beside, atd_buf_bytes(&index));
    local.shard.sha256 = atd_str_from(hex);
    local.shard.index_bytes = index.len;
    get_and_compare(local.cache, &local.shard, atd_buf_bytes(&tar));
    cr_assert_eq(stats_of(local.cache).from_beside, 1);
    cr_assert_eq(utimensat(AT_FDCWD, beside, old, 0), 0);
    local.shard.version[15] ^= 1;
    get_and_compare(local.cache, &local.shard, atd_buf_bytes(&tar));
    cr_assert_eq(stats_of(local.cache).walked, 1);
    close_local(&local);
}

/* ------------------------------------------------------------------ what is no shard */

static void assert_refused(struct atd_bytes bytes, int rc, const char *sentence)
{
    struct atd_members_cache *cache = new_cache(path, MIB);
    struct atd_members *members = NULL;
    struct atd_object_info info;
    struct atd_shard shard;
    struct atd_error err = ATD_ERROR_INIT;

    put(URL, bytes);
    shard = shard_of(memory, URL, &info);
    cr_assert_eq(atd_members_get(cache, &shard, &members, &err), rc, "%s", err.text);
    cr_assert_not_null(strstr(err.text, sentence), "%s", err.text);
    cr_assert_eq(strncmp(err.text, "the members of 'a.tar': ", 24), 0, "%s", err.text);
    atd_members_cache_free(cache);
}

Test(members, what_has_none_says_why)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    atd_auto_buf struct atd_buf junk = ATD_BUF_INIT(MIB);

    fill_tar(&tar, 3, 5000);
    for (int packer = 0; packer < PACKERS; packer++) {
        atd_auto_buf struct atd_buf packed = ATD_BUF_INIT(SHARD_BYTES_MAX);

        put_packed(&packed, (enum packer)packer, atd_buf_bytes(&tar));
        assert_refused(atd_buf_bytes(&packed), -ENOTSUP, "compressed");
    }
    for (unsigned i = 0; i < 3000; i++)
        atd_buf_append_byte(&junk, (uint8_t)(i * 7 + 1));
    assert_refused(atd_buf_bytes(&junk), -EINVAL, "tar");
    assert_refused((struct atd_bytes){tar.ptr, 3000}, -EINVAL, "ends inside");
    assert_refused((struct atd_bytes){tar.ptr, 0}, -EINVAL, "empty");
    cr_assert_eq(files_in(path), 0);
}

/* ------------------------------------------------------------------ several callers */

struct caller {
    pthread_t thread;
    struct atd_members_cache *cache;
    const struct atd_shard *shard;
    struct atd_members *members;
    struct atd_error why;
    int rc;
};

static void *call(void *ctx)
{
    struct caller *caller = ctx;

    caller->rc = atd_members_get(caller->cache, caller->shard, &caller->members, &caller->why);
    return NULL;
}

static void call_all(struct caller *callers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
}

static struct atd_fault_rule slow(void *ctx, const struct atd_store_get *get)
{
    (void)ctx;
    (void)get;
    return (struct atd_fault_rule){.fault = ATD_FAULT_DELAY, .value = 200};
}

static struct atd_fault_rule stalled(void *ctx, const struct atd_store_get *get)
{
    atomic_bool *asked = ctx;

    (void)get;
    atomic_store(asked, true);
    return (struct atd_fault_rule){.fault = ATD_FAULT_STALL, .value = 0};
}

Test(members, several_callers_share_one_pass)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct atd_members_cache *cache = new_cache(NULL, MIB);
    struct caller callers[8] = {0};
    struct atd_object_info info;
    struct atd_shard shard;

    fill_tar(&tar, 100, 3000);
    put(URL, atd_buf_bytes(&tar));
    cr_assert_eq(atd_store_fault_new(memory, slow, NULL, &owner, NULL), 0);
    shard = shard_of(owner, URL, &info);
    for (size_t i = 0; i < ATD_ARRAY_LEN(callers); i++)
        callers[i] = (struct caller){.cache = cache, .shard = &shard};
    call_all(callers, ATD_ARRAY_LEN(callers));
    for (size_t i = 0; i < ATD_ARRAY_LEN(callers); i++) {
        (void)pthread_join(callers[i].thread, NULL);
        cr_assert_eq(callers[i].rc, 0);
        assert_lists(callers[i].members, atd_buf_bytes(&tar));
        cr_assert_eq(callers[i].members, callers[0].members);
    }
    cr_assert_eq(gets(), 1);
    for (size_t i = 0; i < ATD_ARRAY_LEN(callers); i++)
        atd_members_unref(callers[i].members);
    atd_members_cache_free(cache);
}

Test(members, an_interruption_ends_who_waits)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct atd_members_cache *cache = new_cache(NULL, MIB);
    struct caller callers[3] = {0};
    struct atd_object_info info;
    struct atd_shard shard;
    atomic_bool asked = false;

    fill_tar(&tar, 100, 3000);
    put(URL, atd_buf_bytes(&tar));
    cr_assert_eq(atd_store_fault_new(memory, stalled, &asked, &owner, NULL), 0);
    shard = shard_of(owner, URL, &info);
    for (size_t i = 0; i < ATD_ARRAY_LEN(callers); i++)
        callers[i] = (struct caller){.cache = cache, .shard = &shard};
    call_all(callers, ATD_ARRAY_LEN(callers));
    for (unsigned i = 0; i < 20000 && !atomic_load(&asked); i++)
        (void)usleep(1000);
    cr_assert(atomic_load(&asked));
    atd_members_cache_interrupt(cache);
    for (size_t i = 0; i < ATD_ARRAY_LEN(callers); i++) {
        (void)pthread_join(callers[i].thread, NULL);
        cr_assert_eq(callers[i].rc, -ECANCELED, "%d %s", callers[i].rc, callers[i].why.text);
    }
    cr_assert_eq(atd_members_get(cache, &shard, &callers[0].members, NULL), -ECANCELED);
    atd_members_cache_free(cache);
}

Test(members, what_nobody_uses_is_dropped)
{
    atd_auto_buf struct atd_buf tar = ATD_BUF_INIT(SHARD_BYTES_MAX);
    struct atd_members_cache *cache = new_cache(NULL, 25000);
    struct atd_members *held[10];
    struct atd_object_info infos[10];
    struct atd_shard shards[10];
    unsigned there = 0;

    fill_tar(&tar, 100, 10); /* some 7 KB in memory */
    for (unsigned i = 0; i < 10; i++) {
        char *url = NULL;

        cr_assert_gt(asprintf(&url, URL "%u", i), 0);
        put(url, atd_buf_bytes(&tar));
        shards[i] = shard_of(memory, url, &infos[i]);
        cr_assert_eq(atd_members_get(cache, &shards[i], &held[i], NULL), 0);
        free(url);
    }
    for (unsigned i = 0; i < 10; i++) {
        struct atd_members *members = atd_members_peek(cache, &shards[i]);

        cr_assert_eq(members, held[i]);
        atd_members_unref(members);
        atd_members_unref(held[i]);
    }
    cr_assert_gt(stats_of(cache).memory_bytes, 50000);
    put(URL, atd_buf_bytes(&tar));
    shards[0] = shard_of(memory, URL, &infos[0]);
    get_and_compare(cache, &shards[0], atd_buf_bytes(&tar));
    cr_assert_leq(stats_of(cache).memory_bytes, 25000);
    for (unsigned i = 0; i < 10; i++) {
        struct atd_members *members = atd_members_peek(cache, &shards[i]);

        there += members != NULL;
        atd_members_unref(members);
    }
    cr_assert(there >= 2 && there <= 4);
    atd_members_cache_free(cache);
}
