/*
 * Schema references, versions and CID texts, and the small text codecs beside them.
 */
#include <stdint.h>
#include <stdlib.h>

#include "atdata/cid.h"
#include "atdata/schema_ref.h"
#include "base/cleanup.h"
#include "codec/base64.h"
#include "codec/python_name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void fuzz_ref(struct atd_str text)
{
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(1 << 24);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_schema_ref ref;
    struct atd_schema_ref again;
    int rc = atd_schema_ref_parse(text, &ref, &err);

    require(rc == -err.code);
    if (rc < 0)
        return;
    if (ref.form == ATD_REF_NETWORK) {
        require(ref.name.len == 0 && ref.version.len == 0);
        return;
    }
    atd_schema_ref_format(ref.form, ref.name, ref.version, &out);
    require(out.len <= text.len);
    require(atd_schema_ref_parse(atd_buf_str(&out), &again, &err) == 0);
    require(again.form == ref.form && atd_str_equal(again.name, ref.name) &&
            atd_str_equal(again.version, ref.version));
}

static void fuzz_semver(struct atd_str text)
{
    struct atd_semver version;
    struct atd_semver again;
    char back[100];

    if (!atd_semver_parse(text, &version))
        return;
    require(atd_semver_compare(&version, &version) == 0);
    (void)snprintf(back, sizeof(back), "%lld.%lld.%lld", (long long)version.part[0],
                   (long long)version.part[1], (long long)version.part[2]);
    require(atd_semver_parse(atd_str_from(back), &again));
    require(atd_semver_compare(&version, &again) == 0);
}

static void fuzz_base64(struct atd_str text)
{
    atd_auto_buf struct atd_buf once = ATD_BUF_INIT(1 << 24);
    atd_auto_buf struct atd_buf twice = ATD_BUF_INIT(1 << 24);

    if (atd_base64_decode(text, &once)) {
        atd_base64_encode(atd_buf_bytes(&once), &twice);
        require(atd_str_equal(atd_buf_str(&twice), text));
    }
    atd_buf_clear(&once);
    atd_buf_clear(&twice);
    atd_base64_encode(atd_str_bytes(text), &once);
    require(atd_base64_decode(atd_buf_str(&once), &twice));
    require(atd_str_equal(atd_buf_str(&twice), text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_str text = {(const char *)data, size};

    fuzz_ref(text);
    fuzz_semver(text);
    fuzz_base64(text);
    (void)atd_python_is_identifier(text);
    if (atd_cid_is_valid(text))
        require(size == ATD_CID_TEXT_LEN);
    return 0;
}
