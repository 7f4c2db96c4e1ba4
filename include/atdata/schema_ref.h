/*
 * Schema references and versions. Source: ATDATA-FORMATS 4.4, 4.5.
 */
#ifndef ATDATA_SCHEMA_REF_H
#define ATDATA_SCHEMA_REF_H

#include "atdata/buf.h"
#include "atdata/error.h"
#include "atdata/str.h"

ATD_BEGIN_DECLS

enum atd_schema_ref_form {
    ATD_REF_NEW,     /* atdata://local/schema/Class@1.0.0        (v0.3.1b1 and later) */
    ATD_REF_MID,     /* atdata://local/sampleSchema/Class@1.0.0  (up to v0.3.0b2) */
    ATD_REF_LEGACY,  /* local://schemas/Class@1.0.0              (every release) */
    ATD_REF_NETWORK, /* at://did/collection/rkey, @handle/Type@version: not in this index */
};

struct atd_schema_ref {
    enum atd_schema_ref_form form;
    struct atd_str name;    /* bare class name: what follows the last dot; empty for network */
    struct atd_str version; /* empty for network */
};

/*
 * Views into `text`. The last '@' splits; a dotted name keeps what follows its last dot; no
 * percent-decoding. Errors: EINVAL, the sentence says what was expected.
 */
int atd_schema_ref_parse(struct atd_str text, struct atd_schema_ref *ret_ref,
                         struct atd_error *err) ATD_MUST_USE;

/* Appends the reference in the given form (not ATD_REF_NETWORK). */
void atd_schema_ref_format(enum atd_schema_ref_form form, struct atd_str name,
                           struct atd_str version, struct atd_buf *out);

/*
 * A version of three parts that Python's int() takes (4.5): sign, surrounding blanks and inner
 * underscores count, ASCII digits and blanks only here, 4300 digits at most as there. Values
 * saturate at INT64_MAX.
 */
struct atd_semver {
    int64_t part[3];
};
bool atd_semver_parse(struct atd_str text, struct atd_semver *ret_version);
int atd_semver_compare(const struct atd_semver *a, const struct atd_semver *b);

ATD_END_DECLS

#endif
