#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "store/file_store.h"

static char dir[64];

static void make_file(const char *name, const char *text)
{
    char path[256];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    cr_assert_not_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static void setup(void)
{
    char path[128];

    (void)strcpy(dir, "/tmp/atd-store-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/root", dir);
    cr_assert_eq(mkdir(path, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/root/d", dir);
    cr_assert_eq(mkdir(path, 0755), 0);
    (void)snprintf(path, sizeof(path), "%s/rootling", dir);
    cr_assert_eq(mkdir(path, 0755), 0);
    make_file("root/d/a.tar", "inside");
    make_file("secret", "outside");
    make_file("rootling/b.tar", "a neighbour whose name begins alike");
}

static void teardown(void)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}

static struct atd_file_store *open_store(const char *name)
{
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_file_store *store = NULL;
    char root[128];
    const char *roots[] = {root};

    (void)snprintf(root, sizeof(root), "%s/%s", dir, name);
    cr_assert_eq(atd_file_store_new(roots, 1, &store, &err), 0, "%s", err.text);
    return store;
}

static int look(const struct atd_file_store *store, const char *name, struct atd_error *err)
{
    char path[256];
    struct atd_file_identity identity = {0};
    int rc;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    rc = atd_file_store_stat(store, atd_str_from(path), &identity, err);
    if (rc == 0)
        cr_assert_eq(identity.size_bytes, 6);
    return rc;
}

TestSuite(file_store, .init = setup, .fini = teardown, .timeout = 20);

Test(file_store, opens_what_lies_below_a_root)
{
    struct atd_file_store *store = open_store("root/");
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_file_identity seen;
    struct atd_file_identity opened;
    char path[256];
    char text[16];
    int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/root//d/../d/a.tar", dir);
    cr_assert_eq(atd_file_store_stat(store, atd_str_from(path), &seen, &err), 0, "%s", err.text);
    cr_assert_eq(atd_file_store_open(store, atd_str_from(path), &fd, &opened, &err), 0);
    cr_assert(atd_file_identity_equal(&seen, &opened));
    cr_assert_eq(read(fd, text, sizeof(text)), 6);
    cr_assert_arr_eq(text, "inside", 6);
    (void)close(fd);
    atd_file_store_free(store);
}

Test(file_store, refuses_every_way_out)
{
    struct atd_file_store *store = open_store("root");
    struct atd_error err = ATD_ERROR_INIT;
    char from[256];

    (void)snprintf(from, sizeof(from), "%s/root/link", dir);
    cr_assert_eq(symlink("../secret", from), 0);
    (void)snprintf(from, sizeof(from), "%s/root/abs", dir);
    cr_assert_eq(symlink("/etc/passwd", from), 0);
    (void)snprintf(from, sizeof(from), "%s/root/dirlink", dir);
    cr_assert_eq(symlink("..", from), 0);
    (void)snprintf(from, sizeof(from), "%s/root/good", dir);
    cr_assert_eq(symlink("d/a.tar", from), 0);

    cr_assert_eq(look(store, "root/good", &err), 0, "%s", err.text);
    cr_assert_eq(look(store, "secret", &err), -EACCES);
    cr_assert_eq(look(store, "root/../secret", &err), -EACCES);
    cr_assert_eq(look(store, "root/link", &err), -EACCES);
    cr_assert_eq(look(store, "root/abs", &err), -EACCES);
    cr_assert_eq(look(store, "root/dirlink/secret", &err), -EACCES);
    cr_assert_eq(look(store, "rootling/b.tar", &err), -EACCES);
    cr_assert_not_null(strstr(err.text, "data_root"));
    cr_assert_eq(look(store, "root", &err), -EACCES);
    cr_assert_eq(atd_file_store_stat(store, ATD_STR("d/a.tar"), NULL, &err), -EACCES);
    cr_assert_eq(atd_file_store_stat(store, ATD_STR(""), NULL, &err), -EINVAL);
    cr_assert_eq(atd_file_store_stat(store, (struct atd_str){"/a\0b", 4}, NULL, &err), -EINVAL);
    atd_file_store_free(store);
}

Test(file_store, refuses_what_is_no_regular_file_without_opening_it)
{
    struct atd_file_store *store = open_store("root");
    struct atd_error err = ATD_ERROR_INIT;
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/root/fifo", dir);
    cr_assert_eq(mkfifo(path, 0644), 0);
    cr_assert_eq(look(store, "root/fifo", &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "a FIFO"));
    cr_assert_eq(look(store, "root/d", &err), -EINVAL);
    cr_assert_not_null(strstr(err.text, "a directory"));
    cr_assert_eq(look(store, "root/d/missing.tar", &err), -ENOENT);
    cr_assert_eq(look(store, "root/d/a.tar/x", &err), -ENOENT);
    atd_file_store_free(store);
}

Test(file_store, root_may_be_a_link_and_may_come_later)
{
    struct atd_file_store *linked = open_store("alias");
    struct atd_file_store *later = open_store("later");
    struct atd_error err = ATD_ERROR_INIT;
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/alias", dir);
    cr_assert_eq(symlink("root", path), 0);
    cr_assert_eq(look(linked, "alias/d/a.tar", &err), 0, "%s", err.text);
    cr_assert_eq(look(linked, "root/d/a.tar", &err), 0, "the library records resolved paths");
    cr_assert_eq(look(later, "later/a.tar", &err), -ENOENT);
    (void)snprintf(path, sizeof(path), "%s/later", dir);
    cr_assert_eq(mkdir(path, 0755), 0);
    make_file("later/a.tar", "inside");
    cr_assert_eq(look(later, "later/a.tar", &err), 0);
    atd_file_store_free(linked);
    atd_file_store_free(later);
}

Test(file_store, identity_tells_every_way_of_writing)
{
    struct atd_file_identity first = {1, 2, 3, 4, 5, 6, 7};
    struct atd_file_identity other = first;

    cr_assert(atd_file_identity_equal(&first, &other));
    other.mtime_ns++;
    cr_assert_not(atd_file_identity_same_bytes(&first, &other));
    other = first;
    other.inode++;
    cr_assert_not(atd_file_identity_same_bytes(&first, &other));
    other = first;
    other.ctime_ns++; /* a write whose time was set back; or only a chmod under a reader */
    cr_assert_not(atd_file_identity_equal(&first, &other));
    cr_assert(atd_file_identity_same_bytes(&first, &other));
}

Test(file_store, needs_absolute_roots)
{
    const char *roots[] = {"data"};
    struct atd_file_store *store = NULL;
    struct atd_error err = ATD_ERROR_INIT;

    cr_assert_eq(atd_file_store_new(roots, 1, &store, &err), -EINVAL);
    cr_assert_null(store);
}
