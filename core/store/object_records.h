/*
 * The records of an object table's file, as bytes.
 *
 *   file    8 bytes "ATDOBJ1\n", then records
 *   record  magic u32, CRC32C u32 of all that follows, length u32 of the whole record,
 *           kind u8 (1 put, 2 drop), length of the ETag u8, of the scope u16, of the URL u32,
 *           size u64, time i64, scope, URL, ETag; little endian
 *
 * Pure. Any bytes may stand in the file: what is no record is passed over to the next one.
 */
#ifndef ATD_STORE_OBJECT_RECORDS_H
#define ATD_STORE_OBJECT_RECORDS_H

#include "atdata/buf.h"
#include "net/object_info.h"

#define ATD_RECORDS_MAGIC "ATDOBJ1\n"
#define ATD_RECORDS_MAGIC_BYTES 8u
#define ATD_RECORD_HEAD_BYTES 36u
#define ATD_RECORD_SCOPE_MAX 1024u
#define ATD_RECORD_URL_MAX 8192u
#define ATD_RECORD_BYTES_MAX \
    (ATD_RECORD_HEAD_BYTES + ATD_RECORD_SCOPE_MAX + ATD_RECORD_URL_MAX + ATD_ETAG_MAX)

struct atd_record {
    bool is_drop;
    struct atd_str scope; /* into the bytes it was read from */
    struct atd_str url;
    struct atd_object_info info;
};

/* True when both are within their maxima. An ETag with control characters is never read back. */
bool atd_record_fits(struct atd_str scope, struct atd_str url);

void atd_record_append(struct atd_buf *buf, const struct atd_record *record);

enum atd_record_found {
    ATD_RECORD_OK,    /* *ret_used bytes are a record */
    ATD_RECORD_SHORT, /* it goes on behind the end of the bytes, or there are none */
    ATD_RECORD_BAD,   /* none begins here; one may begin *ret_used bytes further on */
};

/* Looks at the beginning of the bytes. Never more than ATD_RECORD_BYTES_MAX of them are needed. */
enum atd_record_found atd_record_read(struct atd_bytes bytes, struct atd_record *ret_record,
                                      size_t *ret_used);

#endif
