/*
 * Any bytes as the two shared files, and as a command line.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "net/creds_process.h"
#include "net/creds_profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_file(const struct atd_creds_file *file, size_t lines)
{
    require(file->bad_line_count <= lines && file->first_bad_line <= lines);
    require((file->bad_line_count == 0) == (file->first_bad_line == 0));
    for (size_t i = 0; i < file->count; i++) {
        const struct atd_creds_property *property = &file->properties[i];

        require(atd_utf8_is_valid(property->key, NULL));
        require(atd_utf8_is_valid(property->value, NULL));
        require(property->value.ptr[property->value.len] == '\0');
        require(strlen(property->value.ptr) == property->value.len);
    }
}

/* Whatever profile there is gives a plan or a sentence. */
static void check_plan(const struct atd_creds_profiles *profiles, const char *profile)
{
    struct atd_creds_env env = {.profile = profile, .profile_is_named = true};
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_creds_plan plan = {.source = "none"};
    int rc = atd_creds_profile_plan(profiles, &env, &plan, &err);

    require((rc == 0) == (err.code == 0));
    require(plan.role_count <= ATD_CREDS_ROLES_MAX);
    require(rc != 0 || plan.root != ATD_CREDS_ROOT_NONE || plan.role_count == 0);
}

static void check_words(const uint8_t *data, size_t size, struct atd_arena *arena)
{
    struct atd_error err = ATD_ERROR_INIT;
    const char *text = (const char *)atd_arena_bytes(arena, (struct atd_bytes){data, size}).ptr;
    size_t words_len = 0;
    char **argv;

    require(text != NULL);
    if (atd_creds_split_words(text, arena, &argv, &err) != 0) {
        require(err.code != 0);
        return;
    }
    require(argv[0] && argv[0][0]);
    for (size_t i = 0; argv[i]; i++)
        words_len += strlen(argv[i]);
    require(words_len <= strlen(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_str text = {(const char *)data, size};
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(64u << 20);
    struct atd_creds_profiles profiles;
    struct atd_error err = ATD_ERROR_INIT;
    size_t lines = 1;
    int rc;

    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    check_words(data, size, &arena);
    rc = atd_creds_file_parse(text, true, &arena, &profiles.config, &err);
    require((rc == 0) == (err.code == 0));
    if (rc != 0)
        return 0;
    check_file(&profiles.config, lines);
    require(atd_creds_file_parse(text, false, &arena, &profiles.credentials, &err) == 0);
    check_file(&profiles.credentials, lines);
    check_plan(&profiles, "default");
    for (size_t i = 0; i < profiles.config.count && i < 16; i++) {
        struct atd_str name = atd_arena_str(&arena, profiles.config.properties[i].name);

        if (name.len)
            check_plan(&profiles, name.ptr);
    }
    return 0;
}
