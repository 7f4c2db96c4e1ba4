#include "cache/pins.h"
#include "cache_files.h"

TestSuite(pins, .init = setup, .fini = teardown);

static struct atd_error err;

static struct atd_pin pin_of(const char *url, uint64_t size)
{
    const struct atd_object_info info = object_info(size, "e");
    struct atd_pin pin;

    cr_assert_eq(atd_cache_pin_of("scope", atd_str_from(url), &info, &pin, &err), 0);
    return pin;
}

struct seen {
    size_t names;
    size_t pins;
    uint64_t bytes;
    char last[300];
};

static void see(void *ctx, struct atd_str name, size_t count, uint64_t size_bytes)
{
    struct seen *seen = ctx;

    seen->names++;
    seen->pins += count;
    seen->bytes += size_bytes;
    (void)snprintf(seen->last, sizeof(seen->last), "%.*s", (int)name.len, name.ptr);
}

static struct seen look(struct atd_cache_dir *dir)
{
    struct seen seen = {0};

    cr_assert_eq(atd_cache_pins_each(dir, see, &seen, &err), 0, "%s", err.text);
    return seen;
}

Test(pins, are_put_replaced_and_removed)
{
    struct atd_cache_dir *dir = open_dir(40 * BLOCK);
    const struct atd_pin pins[2] = {pin_of("s3://b/1", 10), pin_of("s3://b/2", 20)};
    struct atd_pin_set set;
    struct seen seen;

    cr_assert_eq(look(dir).names, 0);
    cr_assert_eq(atd_cache_pins_put(dir, ATD_STR("team/a\n"), pins, 2, &err), 0, "%s", err.text);
    seen = look(dir);
    cr_assert(seen.names == 1 && seen.pins == 2 && seen.bytes == 30);
    cr_assert_str_eq(seen.last, "team/a\n");
    cr_assert(atd_pin_set_load(dir->fd, &set));
    cr_assert(atd_pin_set_has(&set, pins[0].hash) && atd_pin_set_has(&set, pins[1].hash));
    cr_assert_not(atd_pin_set_has(&set, pin_of("s3://b/3", 10).hash));
    cr_assert_not(atd_pin_set_has(&set, pin_of("s3://b/1", 11).hash)); /* another version */
    atd_pin_set_release(&set);
    cr_assert_eq(atd_cache_pins_put(dir, ATD_STR("team/a\n"), pins + 1, 1, &err), 0);
    cr_assert_eq(atd_cache_pins_put(dir, ATD_STR("b"), pins, 1, &err), 0);
    seen = look(dir);
    cr_assert(seen.names == 2 && seen.pins == 2 && seen.bytes == 30);
    cr_assert_eq(atd_cache_pins_remove(dir, ATD_STR("b"), &err), 0);
    cr_assert_eq(atd_cache_pins_remove(dir, ATD_STR("b"), &err), -ENOENT);
    cr_assert_eq(look(dir).names, 1);
    cr_assert(atd_cache_dir_close(dir));
}

Test(pins, what_makes_no_sense_pins_nothing)
{
    struct atd_cache_dir *dir = open_dir(40 * BLOCK);
    const struct atd_pin pin = pin_of("s3://b/1", 10);
    static const char *const bad[] = {
        "",
        "something else\n",
        "atdatafs-pins 1\nzz\n-1 -1\n",
        "atdatafs-pins 1\n+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1+1 5\n",
        "atdatafs-pins 1\n"
        "0000000000000000000000000000000000000000000000000000000000000000 "
        "99999999999999999999999\n",
        "atdatafs-pins 1\n0000000000000000000000000000000000000000000000000000000000000000 5",
    };
    struct atd_pin_set set;
    char name[PATH_MAX + 64];

    cr_assert_eq(atd_cache_pins_put(dir, ATD_STR("good"), &pin, 1, &err), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        FILE *file;

        (void)snprintf(name, sizeof(name), "%s/v1/pins/bad%zu.pins", path, i);
        file = fopen(name, "w");
        (void)fputs(bad[i], file);
        (void)fclose(file);
    }
    (void)snprintf(name, sizeof(name), "%s/v1/pins/dir.pins", path);
    cr_assert_eq(mkdir(name, 0700), 0);
    (void)snprintf(name, sizeof(name), "%s/v1/pins/link.pins", path);
    cr_assert_eq(symlink("/dev/zero", name), 0);
    cr_assert(atd_pin_set_load(dir->fd, &set));
    cr_assert_eq(set.count, 1);
    cr_assert(atd_pin_set_has(&set, pin.hash));
    atd_pin_set_release(&set);
    cr_assert(atd_cache_dir_close(dir));
}

/* What was used longest ago goes first, but not when it is pinned. */
Test(pins, eviction_passes_them_over)
{
    struct atd_cache_dir *dir = open_dir(40 * BLOCK);
    const struct atd_object_info info = object_info(10 * BLOCK, "e");
    struct atd_cache_file *file;
    struct atd_pin pin;
    char names[4][PATH_MAX];
    size_t len = 0;

    for (unsigned i = 0; i < 4; i++) {
        char url[32];
        char *scoped;

        (void)snprintf(url, sizeof(url), "s3://b/%u", i);
        scoped = atd_cache_scoped_name("scope", atd_str_from(url), &len);
        object_path(path, (struct atd_str){scoped, len}, &info, ".map", names[i]);
        file = open_object(dir, (struct atd_str){scoped, len}, &info);
        if (i == 3) {
            /* The oldest of those that are there is pinned. */
            pin = pin_of("s3://b/0", info.size_bytes);
            cr_assert_eq(atd_cache_pins_put(dir, ATD_STR("n"), &pin, 1, &err), 0);
        }
        cr_assert_eq(write_blocks(file, i, 0, 10), 0);
        atd_cache_file_close(file);
        set_age(names[i], 10000 - 1000 * (time_t)i);
        free(scoped);
    }
    for (int i = 0; i < 2000 && access(names[1], F_OK) == 0; i++)
        (void)usleep(10000);
    cr_assert_neq(access(names[1], F_OK), 0);
    cr_assert_eq(access(names[0], F_OK), 0);
    cr_assert_eq(access(names[2], F_OK), 0);
    cr_assert(atd_cache_dir_close(dir));
}
