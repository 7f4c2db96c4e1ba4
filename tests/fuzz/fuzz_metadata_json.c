/*
 * JSON that a person or a program wrote into metadata.json. What is accepted becomes msgpack that
 * reads and that comes back through JSON byte for byte; what jansson takes as JSON, our reader
 * takes.
 */
#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "base/cleanup.h"
#include "codec/json_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static int read_tokens(struct atd_str text, bool lenient, struct atd_buf *out)
{
    struct atd_json_reader reader;
    struct atd_json_token token;
    struct atd_error err = ATD_ERROR_INIT;
    int rc;

    atd_json_reader_init(&reader, text, 0, lenient);
    do {
        rc = atd_json_next(&reader, &token, &err);
        if (rc == 0 && (token.type == ATD_JSON_KEY || token.type == ATD_JSON_STRING)) {
            atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 26);

            atd_buf_clear(out);
            atd_json_unescape(token.raw, out);
            require(atd_str_equal(atd_buf_str(out), atd_json_unescape_in(token.raw, &arena)));
        }
    } while (rc == 0 && token.type != ATD_JSON_END);
    require(rc == -err.code);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    atd_auto_buf struct atd_buf msgpack = ATD_BUF_INIT(1 << 26);
    atd_auto_buf struct atd_buf again = ATD_BUF_INIT(1 << 26);
    atd_auto_buf struct atd_buf json = ATD_BUF_INIT(1 << 26);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_str text = {(const char *)data, size};
    json_t *tree = json_loadb((const char *)data, size, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
    int strict = read_tokens(text, false, &json);
    int rc;

    /* jansson drops a NUL that follows a number */
    if (tree && !memchr(data, 0, size))
        require(strict == 0 || strict == -E2BIG);
    json_decref(tree);
    if (strict == 0)
        require(read_tokens(text, true, &json) == 0);
    atd_buf_clear(&json);
    rc = atd_metadata_from_json(text, &msgpack, &err);
    require(rc == -err.code);
    if (rc < 0) {
        require(msgpack.len == 0);
        return 0;
    }
    require(strict == 0);
    require(atd_metadata_check(atd_buf_bytes(&msgpack), NULL, &err) == 0);
    atd_metadata_to_json(atd_buf_bytes(&msgpack), NULL, 0, &json);
    require(atd_metadata_from_json(atd_buf_str(&json), &again, &err) == 0);
    require(atd_str_equal(atd_buf_str(&msgpack), atd_buf_str(&again)));
    return 0;
}
