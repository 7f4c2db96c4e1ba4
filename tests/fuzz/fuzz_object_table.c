/*
 * Any bytes as the file of an object table: whatever is found in it fits the bounds, the table is
 * usable afterwards, and a second opening finds the same.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/object_records.h"
#include "store/object_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* Every step goes on, and what is taken for a record is one: written again it is the same. */
static void walk(struct atd_bytes bytes)
{
    while (bytes.len > 0) {
        struct atd_record record;
        size_t used = 0;
        enum atd_record_found found = atd_record_read(bytes, &record, &used);

        if (found == ATD_RECORD_SHORT)
            break;
        require(used > 0 && used <= bytes.len);
        if (found == ATD_RECORD_OK)
            require(used <= ATD_RECORD_BYTES_MAX && atd_record_fits(record.scope, record.url) &&
                    strlen(record.info.etag) <= ATD_ETAG_MAX);
        bytes = (struct atd_bytes){bytes.ptr + used, bytes.len - used};
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct atd_object_info info = {.size_bytes = 42, .etag = "mine"};
    struct atd_object_info found;
    char path[] = "/tmp/atd-fuzz-objects-XXXXXX";
    int fd = mkstemp(path);
    struct atd_object_table *table = NULL;
    struct atd_error warning = ATD_ERROR_INIT;
    size_t count;

    walk((struct atd_bytes){data, size});
    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    (void)close(fd);
    require(atd_object_table_open(path, &table, &warning, NULL) == 0);
    atd_object_table_put(table, ATD_STR("scope"), ATD_STR("url"), &info);
    require(atd_object_table_find(table, ATD_STR("scope"), ATD_STR("url"), &found));
    require(found.size_bytes == 42 && strcmp(found.etag, "mine") == 0);
    count = atd_object_table_count(table);
    atd_object_table_close(table);
    if (warning.code == 0) {
        require(atd_object_table_open(path, &table, NULL, NULL) == 0);
        require(atd_object_table_count(table) == count);
        require(atd_object_table_find(table, ATD_STR("scope"), ATD_STR("url"), &found));
        atd_object_table_close(table);
    }
    (void)unlink(path);
    return 0;
}
