/*
 * What a name that somebody wants to create in a dataset's directory means. Pure; the list of the
 * tools' temporary names is TOOLS 4 ("Names to tolerate").
 */
#ifndef ATD_CODEC_UPLOAD_NAME_H
#define ATD_CODEC_UPLOAD_NAME_H

#include "atdata/error.h"
#include "atdata/str.h"

enum atd_upload_name {
    ATD_UPLOAD_SHARD, /* X.tar, X.tar.gz, .tgz, .tar.bz2, .tbz2, .tar.xz, .txz; case is no matter */
    ATD_UPLOAD_TEMP,  /* will be a shard: .X.tar.a1b2c3, X.tar.part, X.tar.partial~, X.tar.AbCdEf */
    ATD_UPLOAD_RECORD,  /* schema.json, metadata.json */
    ATD_UPLOAD_SCRATCH, /* any other tool's own: .goutputstream-, .swp, 4913, sedXXXXXX, NAME~, ...
                         */
    ATD_UPLOAD_REFUSED, /* nobody would share it */
};

/*
 * *ret_final (may be NULL) is the shard's or record's name, a part of `name`: of a TEMP what it
 * will be called, of a SCRATCH that is made from a record ("schema.json~", ".schema.json.swp") that
 * record; else empty. A name that could not be a shard's is REFUSED; `err` (may be NULL) gets
 * EACCES and the sentence then: what may be put here. So are: over 255 bytes, control characters,
 * invalid UTF-8, a leading dot and no temporary pattern, what the file system would show under
 * another name
 * ("%" and two hex digits), what a list of URLs would read as a pattern ("{", "}", "\"), and a
 * temporary name of what could not be put here either (".notes.txt.a1b2c3"): refused before its
 * bytes move.
 */
enum atd_upload_name atd_upload_name_classify(struct atd_str name, struct atd_str *ret_final,
                                              struct atd_error *err);

/* A directory that tools make beside what they write: ".~tmp~" (rsync --delay-updates). */
bool atd_upload_name_is_scratch_dir(struct atd_str name);

/* True for the names of a compressed tar; else it is a plain one. */
bool atd_upload_name_is_compressed(struct atd_str shard_name);

/*
 * Whether a dataset may be called so when it is made here. The index takes any name; these are
 * those that every release can load by (ATDATA-FORMATS 1.9, 8). Errors: EACCES with what is wrong:
 * empty, a leading "@", "local/", "at://", "atdata://", '@' anywhere, one of * ? [ ] \ { } , an
 * empty or
 * "." or ".." component between slashes, control characters, invalid UTF-8, a leading dot, over 255
 * bytes when encoded, "NAME@superseded:..." of our own.
 */
int atd_dataset_name_check(struct atd_str name, struct atd_error *err) ATD_MUST_USE;

#endif
