/*
 * The numbers of a snapshot's file, for the two files that write and read it only; see snapshot.h.
 */
#ifndef ATD_CATALOG_SNAPSHOT_FORMAT_H
#define ATD_CATALOG_SNAPSHOT_FORMAT_H

#include <stdint.h>

#include "base/digest.h"
#include "base/limits.h"

#define SNAPSHOT_MAGIC "atdsnap\n"
#define SNAPSHOT_MAGIC_BYTES 8u
#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_NO_TEXT UINT32_MAX

enum {
    SNAPSHOT_AT_VERSION = 8,
    SNAPSHOT_AT_IDENTITY_LEN = 12,
    SNAPSHOT_AT_LOADED = 16,
    SNAPSHOT_AT_ENTRIES = 24,
    SNAPSHOT_AT_LABELS = 32,
    SNAPSHOT_AT_SCHEMAS = 40,
    SNAPSHOT_AT_PROBLEMS = 48,
    SNAPSHOT_HEAD_BYTES = 64,
};

/* The largest record is an entry with the most of everything. */
#define SNAPSHOT_RECORD_BYTES_MAX                                                 \
    ((size_t)ATD_URLS_BYTES_MAX + ATD_METADATA_BYTES_MAX + ATD_SCHEMA_BYTES_MAX + \
     8 * (size_t)ATD_NAME_BYTES_MAX)
/* As many bytes as a catalog may have in memory. */
#define SNAPSHOT_FILE_BYTES_MAX (8ull << 30)
#define SNAPSHOT_PIECE_BYTES (256u << 10)

static inline void snapshot_put(uint8_t *at, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t snapshot_get(const uint8_t *at, size_t width)
{
    uint64_t value = 0;

    for (size_t i = 0; i < width; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

#endif
