/*
 * A catalog in a file: what was last known of an index, for a mount that starts while the index is
 * out of reach, or large.
 *
 * Version 1; integers are little endian:
 *
 *     magic, version, identity's length, when the catalog was loaded, how many entries, labels,
 *     schemas, and problems, and 8 bytes that mean nothing yet           (SNAPSHOT_HEAD_BYTES)
 *     identity                                                          text
 *     entries, labels, schemas, problems    each a length, then its fields: length and bytes, or
 *                                           SNAPSHOT_NO_TEXT alone; times are 8 bytes
 *     SHA-256 of all of the above
 *
 * A file is whole or it is none: it is written beside its place and renamed there. What is read is
 * believed as little as an index is: the builder checks each record. Fields of what the builder
 * makes of records (names as files, joins, fingerprints) are not in it, nor the problems that
 * follow from those; the problems are of records that were refused.
 */
#ifndef ATD_CATALOG_SNAPSHOT_H
#define ATD_CATALOG_SNAPSHOT_H

#include "catalog/catalog.h"

/* What names an index: its URL without secrets. */
#define ATD_SNAPSHOT_IDENTITY_MAX 4096u

/*
 * Writes the catalog to `path` (absolute), with its directory if that is missing; only the user may
 * read it. `identity` says of which index it is. Several processes may save to one path: each file
 * is one process's. Blocks on the disk. Errors: EAGAIN another process is saving there; those of
 * the file system.
 */
int atd_snapshot_save(const struct atd_catalog *catalog, const char *path, struct atd_str identity,
                      struct atd_error *err) ATD_MUST_USE;

/*
 * Makes the catalog that was saved there: all of it but `generation` is as it was. Blocks on the
 * disk. Errors: ENOENT; EBADMSG not whole, not of this version, or of another index; EACCES it
 * belongs to somebody else or can be written by others; ENOMEM.
 */
int atd_snapshot_load(const char *path, struct atd_str identity, uint64_t generation,
                      struct atd_catalog **ret_catalog, struct atd_error *err) ATD_MUST_USE;

#endif
