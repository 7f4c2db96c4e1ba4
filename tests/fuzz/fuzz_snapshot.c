/*
 * Any bytes as the file of a snapshot, as they are and with the digest that belongs to them (which
 * whoever writes such a file can compute too): a catalog or an error, and what was made of it can
 * be saved and is the same again.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/digest.h"
#include "catalog/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct atd_str identity = {"i", 1};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void require_same(const struct atd_catalog *a, const struct atd_catalog *b)
{
    require(atd_catalog_loaded_at_s(a) == atd_catalog_loaded_at_s(b));
    require(atd_catalog_dataset_count(a) == atd_catalog_dataset_count(b));
    require(atd_catalog_entry_count(a) == atd_catalog_entry_count(b));
    require(atd_catalog_label_count(a) == atd_catalog_label_count(b));
    require(atd_catalog_shown_label_count(a) == atd_catalog_shown_label_count(b));
    require(atd_catalog_schema_count(a) == atd_catalog_schema_count(b));
    require(atd_catalog_problem_count(a) == atd_catalog_problem_count(b));
    for (size_t i = 0; i < atd_catalog_entry_count(a); i++)
        require(memcmp(atd_catalog_entry_at(a, i)->fingerprint,
                       atd_catalog_entry_at(b, i)->fingerprint, ATD_FINGERPRINT_BYTES) == 0);
    for (size_t i = 0; i < atd_catalog_dataset_count(a); i++)
        require(atd_catalog_dataset_at(a, i)->entry == atd_catalog_dataset_at(b, i)->entry);
}

static void try_file(const char *path)
{
    struct atd_catalog *catalog = NULL;
    struct atd_catalog *again = NULL;

    if (atd_snapshot_load(path, identity, 1, &catalog, NULL) != 0)
        return;
    require(atd_snapshot_save(catalog, path, identity, NULL) == 0);
    require(atd_snapshot_load(path, identity, 1, &again, NULL) == 0);
    require_same(catalog, again);
    atd_catalog_unref(catalog);
    atd_catalog_unref(again);
}

static void write_file(const char *path, const uint8_t *data, size_t size, const uint8_t *digest)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    if (digest)
        require(write(fd, digest, ATD_SHA256_BYTES) == ATD_SHA256_BYTES);
    (void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[] = "/tmp/atd-fuzz-snapshot-XXXXXX";
    uint8_t digest[ATD_SHA256_BYTES];
    int fd = mkstemp(path);

    require(fd >= 0);
    (void)close(fd);
    write_file(path, data, size, NULL);
    try_file(path);
    atd_sha256_of(data, size, digest);
    write_file(path, data, size, digest);
    try_file(path);
    (void)unlink(path);
    return 0;
}
