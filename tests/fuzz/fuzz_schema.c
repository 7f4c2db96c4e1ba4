/*
 * Schema records: reading, both ways of writing, and the Python module.
 */
#include <stdint.h>
#include <stdlib.h>

#include "atdata/schema.h"
#include "base/cleanup.h"
#include "base/utf8.h"
#include "codec/json_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void require_decode(const struct atd_buf *json, struct atd_arena *arena,
                           const struct atd_schema **schema)
{
    struct atd_error err = ATD_ERROR_INIT;

    require(atd_schema_decode(atd_buf_bytes(json), arena, schema, &err) == 0);
}

/*
 * Outside literals and comments a module has only what this file's author expects: the lines are
 * of known shapes, and no literal ends early. Quotes inside literals are always escaped, so the
 * first bare one ends it.
 */
static void check_module(const struct atd_buf *out)
{
    struct atd_str text = atd_buf_str(out);
    size_t at = 0;

    require(atd_utf8_is_valid(text, NULL));
    while (at < text.len) {
        bool is_triple = atd_str_starts_with(atd_str_from_byte(text, at), ATD_STR("\"\"\""));
        size_t quotes = is_triple ? 3 : 1;

        require(text.ptr[at] == '\n' || (uint8_t)text.ptr[at] >= 0x20);
        if (text.ptr[at] == '#') {
            while (text.ptr[at] != '\n')
                at++;
        } else if (text.ptr[at] == '"') {
            for (at += quotes; text.ptr[at] != '"'; at++) {
                require(is_triple || text.ptr[at] != '\n');
                at += text.ptr[at] == '\\';
            }
            at += quotes;
            require(text.ptr[at] == '\n' || text.ptr[at] == ',' || text.ptr[at] == ':' ||
                    text.ptr[at] == ']' || text.ptr[at] == ')');
        } else {
            require(!strchr("\\'$%&;!?@{}", text.ptr[at]) || text.ptr[at] == '{' ||
                    text.ptr[at] == '}' || text.ptr[at] == '@');
            at++;
        }
    }
}

/* Whatever the record says, its JSON Schema is one JSON document. */
static void check_jsonschema(const struct atd_schema *schema)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(1 << 27);
    struct atd_json_reader reader;
    struct atd_json_token token;

    atd_schema_jsonschema(schema, ATD_STR("\"\\"), &text);
    require(text.failed == 0);
    atd_json_reader_init(&reader, atd_buf_str(&text), 0, false);
    require(atd_json_next(&reader, &token, NULL) == 0 && token.type == ATD_JSON_OBJECT);
    require(atd_json_skip_rest(&reader, NULL) == 0);
    require(atd_json_next(&reader, &token, NULL) == 0 && token.type == ATD_JSON_END);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct atd_str ref = {"atdata://local/schema/T\"\n\\@1", 27};
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1 << 26);
    atd_auto_buf struct atd_buf once = ATD_BUF_INIT(1 << 26);
    atd_auto_buf struct atd_buf twice = ATD_BUF_INIT(1 << 26);
    atd_auto_buf struct atd_buf pretty = ATD_BUF_INIT(1 << 26);
    struct atd_error err = ATD_ERROR_INIT;
    const struct atd_schema *schema;
    struct atd_bytes json = {data, size};
    int rc = atd_schema_decode(json, &arena, &schema, &err);
    int pretty_rc;

    require(rc == -err.code);
    pretty_rc = atd_schema_pretty(json, ref, &pretty, NULL);
    require(pretty_rc == 0 || pretty.len == 0);
    if (rc < 0)
        return 0;
    require(pretty_rc == 0);
    atd_schema_encode(schema, &once);
    require(once.failed == 0);
    atd_schema_python(schema, ref, &twice);
    require(twice.failed == 0);
    check_module(&twice);
    check_jsonschema(schema);
    atd_buf_clear(&twice);
    require_decode(&once, &arena, &schema);
    atd_schema_encode(schema, &twice);
    require(atd_str_equal(atd_buf_str(&once), atd_buf_str(&twice)));
    require_decode(&pretty, &arena, &schema);
    atd_buf_clear(&twice);
    atd_schema_encode(schema, &twice);
    require(atd_str_equal(atd_buf_str(&once), atd_buf_str(&twice)));
    return 0;
}
