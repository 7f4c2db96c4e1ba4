/*
 * The keys of metadata that are not the user's. Source: ATDATA-FORMATS 6.6; DESIGN 4.
 */
#ifndef ATD_CODEC_METADATA_KEYS_H
#define ATD_CODEC_METADATA_KEYS_H

#include "atdata/str.h"

#define ATD_METADATA_CHECKSUMS ATD_STR("checksums") /* {URL: sha256 hex}, as the library writes */
#define ATD_METADATA_OURS ATD_STR("atdatafs")
#define ATD_METADATA_SHARDS ATD_STR("shards") /* in ours: {URL: a record of these} */
#define ATD_SHARD_SIZE ATD_STR("size")
#define ATD_SHARD_ETAG ATD_STR("etag")
#define ATD_SHARD_SAMPLES ATD_STR("samples")
#define ATD_SHARD_MTIME ATD_STR("mtime_ns")
#define ATD_SHARD_INDEX ATD_STR("index") /* bytes of the member index beside it */
#define ATD_SHARD_LEAVING                                                     \
    ATD_STR("leaving") /* true: somebody unlinked it, and is about to take it \
                          out; whoever publishes it again writes it anew */

#endif
