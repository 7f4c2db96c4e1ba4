/* Snapshots that are not whole, or not of this index: they count as none. */
#include "catalog/snapshot_format.h"
#include "snapshot_files.h"

/* In a new place; *ret_bytes is the caller's. */
static size_t save_and_read(const struct atd_catalog *catalog, struct place *ret_place,
                            uint8_t **ret_bytes)
{
    make_place(ret_place);
    save(catalog, ret_place);
    return read_file(ret_place, ret_bytes);
}

Test(snapshot_damage, every_damaged_byte_is_noticed)
{
    struct atd_catalog *catalog = load_all_kinds();
    struct place place;
    uint8_t *bytes;
    size_t len = save_and_read(catalog, &place, &bytes);

    for (size_t i = 0; i < len; i++) {
        static const uint8_t flips[] = {0x01, 0x80, 0xff};

        for (size_t j = 0; j < ATD_ARRAY_LEN(flips); j++) {
            bytes[i] ^= flips[j];
            write_file(&place, bytes, len);
            cr_assert_eq(try_to_load(&place), -EBADMSG, "byte %zu", i);
            bytes[i] ^= flips[j];
        }
    }
    write_file(&place, bytes, len);
    cr_assert_eq(try_to_load(&place), 0);
    free(bytes);
    atd_catalog_unref(catalog);
    drop_place(&place);
}

Test(snapshot_damage, every_cut_and_every_byte_too_many_is_noticed)
{
    struct atd_catalog *catalog = load_all_kinds();
    struct place place;
    uint8_t *bytes;
    size_t len = save_and_read(catalog, &place, &bytes);

    for (size_t i = 0; i < len; i++) {
        write_file(&place, bytes, i);
        cr_assert_eq(try_to_load(&place), -EBADMSG, "%zu bytes", i);
    }
    bytes = realloc(bytes, len + 1);
    bytes[len] = 0;
    write_file(&place, bytes, len + 1);
    cr_assert_eq(try_to_load(&place), -EBADMSG);
    free(bytes);
    atd_catalog_unref(catalog);
    drop_place(&place);
}

/* Whoever makes the digest right too gets no further: lengths are not believed. */
static void write_signed(const struct place *place, uint8_t *bytes, size_t len)
{
    atd_sha256_of(bytes, len - ATD_SHA256_BYTES, bytes + len - ATD_SHA256_BYTES);
    write_file(place, bytes, len);
}

Test(snapshot_damage, lengths_and_counts_are_not_believed)
{
    struct atd_catalog *catalog = load_all_kinds();
    struct place place;
    uint8_t *bytes;
    size_t len = save_and_read(catalog, &place, &bytes);

    for (size_t i = 0; i + 4 <= len - ATD_SHA256_BYTES; i++) {
        static const uint32_t values[] = {0, 1, 0x7fffffff, 0xfffffffe, 0xffffffff};
        uint8_t before[4];

        memcpy(before, bytes + i, 4);
        for (size_t j = 0; j < ATD_ARRAY_LEN(values); j++) {
            int rc;

            snapshot_put(bytes + i, values[j], 4);
            write_signed(&place, bytes, len);
            rc = try_to_load(&place); /* a text may have become another one */
            cr_assert(rc == 0 || rc == -EBADMSG, "%zu: %s", i, strerror(-rc));
            if (i == SNAPSHOT_AT_VERSION && values[j] != SNAPSHOT_VERSION)
                cr_assert_eq(rc, -EBADMSG);
            if (i >= SNAPSHOT_AT_ENTRIES && i < SNAPSHOT_AT_PROBLEMS + 8 &&
                memcmp(before, bytes + i, 4) != 0)
                cr_assert_eq(rc, -EBADMSG, "%zu", i);
        }
        memcpy(bytes + i, before, 4);
    }
    free(bytes);
    atd_catalog_unref(catalog);
    drop_place(&place);
}

Test(snapshot_damage, another_index_s_is_none)
{
    static const struct atd_str others[] = {T("redis://127.0.0.1:6379/1"), T(""),
                                            T("redis://127.0.0.1:6379/00"),
                                            T("redis://127.0.0.1:6379/")};
    struct atd_catalog *catalog = load_all_kinds();
    struct atd_catalog *none = NULL;
    struct place place;

    make_place(&place);
    save(catalog, &place);
    for (size_t i = 0; i < ATD_ARRAY_LEN(others); i++)
        cr_assert_eq(atd_snapshot_load(place.path, others[i], 1, &none, NULL), -EBADMSG);
    cr_assert_null(none);
    atd_catalog_unref(catalog);
    drop_place(&place);
}
