/*
 * A walk over an XML reply: each element with its path and text, bounded. Private to net.
 */
#ifndef ATD_NET_S3_XML_H
#define ATD_NET_S3_XML_H

#include "atdata/arena.h"
#include "atdata/error.h"
#include "atdata/str.h"

#define ATD_XML_BYTES_MAX (16u << 20)
#define ATD_XML_DEPTH_MAX 16u
/* A key of 1024 bytes, each of them encoded, and to spare. */
#define ATD_XML_TEXT_MAX 4096u

struct atd_xml_element {
    const char *path;    /* local names: "ListBucketResult/Contents/Key" */
    struct atd_str text; /* of a leaf; of another element what follows its last child */
    bool is_cut;         /* there was more text */
};

struct atd_xml_ops {
    /* An element begins; may be NULL. */
    void (*open)(void *ctx, const char *path);
    /* And ends. Non-zero (with err set) ends the walk. */
    int (*close)(void *ctx, const struct atd_xml_element *element, struct atd_error *err);
};

/*
 * White space before the document is skipped: S3 sends some to keep a connection alive. A document
 * type is refused, and with it every entity but the five. Errors: EPROTO not XML, or past a bound
 * (`what` and the position); ENOMEM; what `close` returned.
 */
int atd_xml_walk(struct atd_bytes body, const char *what, const struct atd_xml_ops *ops, void *ctx,
                 struct atd_error *err) ATD_MUST_USE;

/* Without the white space at both ends. */
struct atd_str atd_xml_trim(struct atd_str text);

/* An element's text, into `arena`. Errors: EPROTO it was cut (`what` and the path); ENOMEM. */
int atd_xml_copy(const struct atd_xml_element *element, const char *what, struct atd_arena *arena,
                 struct atd_str *ret_text, struct atd_error *err) ATD_MUST_USE;

/*
 * Text of a reply that says EncodingType url, decoded as a form: MinIO writes '+' for a space,
 * SeaweedFS %20 and %2B. What is no escape stays, as in botocore. False when out of memory.
 */
bool atd_xml_decode_form(struct atd_str text, struct atd_arena *arena,
                         struct atd_str *ret_text) ATD_MUST_USE;

#endif
