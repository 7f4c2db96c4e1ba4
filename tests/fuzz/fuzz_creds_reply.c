/*
 * Any bytes as the answer of a process, of a metadata service and of STS.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "net/creds_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

/* What comes out can go into a header as it is. */
static void check(int rc, const struct atd_credential *value, const struct atd_error *err)
{
    require((rc == 0) == (err->code == 0) && rc == -err->code);
    require(rc == 0 || rc == -EPROTO);
    if (rc != 0)
        return;
    require(atd_creds_is_plain(atd_str_from(value->access_key_id)));
    require(atd_creds_is_plain(atd_str_from(value->secret_access_key)));
    require(!value->session_token[0] || atd_creds_is_plain(atd_str_from(value->session_token)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(4u << 20);
    struct atd_str text = {(const char *)data, size};
    struct atd_bytes bytes = {data, size};
    struct atd_creds_sts_error said;
    struct atd_credential value;

    for (int kind = ATD_CREDS_JSON_PROCESS; kind <= ATD_CREDS_JSON_METADATA; kind++) {
        struct atd_error err = ATD_ERROR_INIT;

        check(atd_creds_reply_json(text, (enum atd_creds_json)kind, &arena, &value, &err), &value,
              &err);
    }
    {
        struct atd_error err = ATD_ERROR_INIT;

        check(atd_creds_reply_sts(bytes, &value, &err), &value, &err);
    }
    atd_creds_reply_sts_error(bytes, &said);
    require(strlen(said.code) < sizeof(said.code) && strlen(said.message) < sizeof(said.message));
    return 0;
}
