/*
 * The msgpack fields of an entry. What reads must come back: URLs through their encoder, metadata
 * through JSON.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "atdata/cid.h"
#include "atdata/entry.h"
#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void fuzz_urls(struct atd_bytes doc)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 26);
    atd_auto_buf struct atd_buf once = ATD_BUF_INIT(1 << 26);
    atd_auto_buf struct atd_buf twice = ATD_BUF_INIT(1 << 26);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_str *urls;
    struct atd_str *again;
    size_t checked;
    size_t count;
    struct atd_cid cid;
    int rc = atd_urls_check(doc, &checked, &err);

    require((rc == 0) == (err.code == 0) && rc == -err.code);
    require(atd_urls_decode(doc, &arena, &urls, &count, &err) == rc);
    if (rc < 0)
        return;
    require(count == checked);
    atd_urls_encode(urls, count, &once);
    require(once.len <= doc.len);
    require(atd_urls_decode(atd_buf_bytes(&once), &arena, &again, &checked, &err) == 0);
    require(checked == count);
    for (size_t i = 0; i < count; i++)
        require(atd_str_equal(urls[i], again[i]));
    atd_urls_encode(again, count, &twice);
    require(atd_str_equal(atd_buf_str(&once), atd_buf_str(&twice)));
    require(atd_cid_compute(ATD_STR("r"), urls, count, &cid, &err) == 0);
    require(atd_cid_is_valid(atd_str_from(cid.text)));
}

static void fuzz_metadata(struct atd_bytes doc)
{
    static const char *const leave_out[] = {"checksums", NULL};
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(1 << 26);
    atd_auto_buf struct atd_buf other = ATD_BUF_INIT(1 << 26);
    atd_auto_buf struct atd_buf msgpack = ATD_BUF_INIT(1 << 26);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_bytes value;
    struct atd_str text;
    uint64_t number;
    int rc = atd_metadata_check(doc, NULL, &err);

    require(rc == -err.code);
    /* These look before they leap, whatever they are given. */
    (void)atd_msgpack_as_text(doc, &text);
    (void)atd_msgpack_as_u64(doc, &number);
    if (rc < 0)
        return;
    if (atd_metadata_find(doc, ATD_STR("checksums"), &value))
        require(atd_metadata_check(value, NULL, &err) == 0);
    atd_metadata_to_json(doc, leave_out, 4, &json);
    require(json.failed == 0);
    atd_buf_clear(&json);
    atd_metadata_to_json(doc, NULL, 0, &json);
    require(json.failed == 0);
    rc = atd_metadata_from_json(atd_buf_str(&json), &msgpack, &err);
    if (rc < 0) {
        bool is_map = atd_msgpack_is_map(doc);

        require(rc == -EINVAL);
        require(strstr(err.text, is_map ? "given twice" : "top level is no object") != NULL);
        return;
    }
    require(msgpack.len >= 1 && atd_metadata_check(atd_buf_bytes(&msgpack), NULL, &err) == 0);
    atd_metadata_to_json(atd_buf_bytes(&msgpack), NULL, 0, &other);
    require(atd_str_equal(atd_buf_str(&json), atd_buf_str(&other)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_bytes doc = {data, size};

    fuzz_urls(doc);
    fuzz_metadata(doc);
    return 0;
}
