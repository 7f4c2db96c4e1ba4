/*
 * Threads put, drop and find in two tables over one file, which is compacted meanwhile: what is
 * found was put.
 */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "race.h"
#include "store/object_table.h"

static struct atd_object_table *tables[2];
static atomic_uint seeds;
static atomic_uint found_count;

static void *use(void *ctx)
{
    unsigned seed = atomic_fetch_add(&seeds, 1);
    struct atd_object_table *table = tables[seed % 2];

    (void)ctx;
    for (int i = 0; i < 6000; i++) {
        unsigned number = (unsigned)rand_r(&seed) % 300;
        unsigned version = (unsigned)rand_r(&seed) % 1000;
        struct atd_object_info info = {.size_bytes = version};
        char url[64];

        (void)snprintf(url, sizeof(url), "s3://bucket/%u.tar", number);
        (void)snprintf(info.etag, sizeof(info.etag), "%u", version);
        if (i % 3 == 0)
            atd_object_table_put(table, ATD_STR("scope"), atd_str_from(url), &info);
        else if (i % 31 == 1)
            atd_object_table_drop(table, ATD_STR("scope"), atd_str_from(url));
        else if (atd_object_table_find(table, ATD_STR("scope"), atd_str_from(url), &info)) {
            MUST(strtoull(info.etag, NULL, 10) == info.size_bytes);
            (void)atomic_fetch_add(&found_count, 1);
        }
        MUST(atd_object_table_count(table) <= 300);
    }
    return NULL;
}

int main(void)
{
    char path[] = "/tmp/atd-race-objects-XXXXXX";
    int fd = mkstemp(path);

    MUST(fd >= 0);
    (void)close(fd);
    for (int i = 0; i < 2; i++)
        MUST(atd_object_table_open(path, &tables[i], NULL, NULL) == 0);
    race(use, NULL);
    MUST(atomic_load(&found_count) > 0);
    for (int i = 0; i < 2; i++)
        atd_object_table_close(tables[i]);
    (void)unlink(path);
    return 0;
}
