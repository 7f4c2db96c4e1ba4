/*
 * The named maxima that more than one module must agree on. A limit that only one module knows
 * stands in that module.
 */
#ifndef ATD_BASE_LIMITS_H
#define ATD_BASE_LIMITS_H

/* msgpack: Python's reader stops at about 1000 levels (ATDATA-FORMATS 1.2: 500 passed, 2000
 * failed). */
#define ATD_MSGPACK_DEPTH_MAX 512
/* Tokens in one msgpack document: 8 Mi values are more than any entry or sample has. */
#define ATD_MSGPACK_VALUES_MAX (8u << 20)

/* One entry's data_urls and metadata fields, and one schema record, as stored. */
#define ATD_URLS_BYTES_MAX (256u << 20)
#define ATD_METADATA_BYTES_MAX (64u << 20)
#define ATD_SCHEMA_BYTES_MAX (4u << 20)

/* Fields of one schema, and lists in each other in one of them. */
#define ATD_SCHEMA_FIELDS_MAX 1024u
#define ATD_SCHEMA_LIST_DEPTH_MAX 8u

/* Names of datasets, schemas, labels and versions in an index. */
#define ATD_NAME_BYTES_MAX 65536u

/* Shards of one entry after brace expansion. The CID vectors go up to 100,000 URLs. */
#define ATD_SHARDS_MAX (1u << 20)

/* A text file that the mount renders (entry.json of a dataset with a million shards is ~300 MB). */
#define ATD_RENDER_BYTES_MAX (1u << 30)

/* A file name on Linux, without the terminator (NAME_MAX). */
#define ATD_FILE_NAME_MAX 255u

#endif
