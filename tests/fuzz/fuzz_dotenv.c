/*
 * Any bytes as a .env file.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "codec/dotenv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static const char *environment(void *ctx, const char *name)
{
    (void)ctx;
    return name[0] == 'E' ? "from outside" : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_str text = {(const char *)data, size};
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(16u << 20);
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_dotenv env;
    size_t newlines = 0;
    int rc = atd_dotenv_parse(text, environment, NULL, &arena, &env, &err);

    require((rc == 0) == (err.code == 0));
    if (rc != 0)
        return 0;
    for (size_t i = 0; i < size; i++)
        newlines += data[i] == '\n' || data[i] == '\r';
    require(env.bad_line_count <= newlines + 1 && env.first_bad_line <= newlines + 1);
    require((env.bad_line_count == 0) == (env.first_bad_line == 0));
    for (size_t i = 0; i < env.count; i++) {
        require(env.pairs[i].key.len > 0 && atd_utf8_is_valid(env.pairs[i].key, NULL));
        require(atd_utf8_is_valid(env.pairs[i].value, NULL));
        require(atd_dotenv_find(&env, env.pairs[i].key) == &env.pairs[i]);
    }
    return 0;
}
