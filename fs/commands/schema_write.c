/*
 * atdatafs schema publish and infer: a schema from a file, a schema from shards.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "atdata/schema.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "change.h"
#include "codec/schema_infer.h"
#include "output.h"
#include "publish/inspect.h"
#include "publish_arguments.h"
#include "schema.h"

#define SCHEMA_ARENA_MAX (64u << 20)
#define READ_BYTES ((size_t)1 << 20)

/* Of a file, or of standard input ("-"). Errors: the system's; EFBIG. */
static int open_input(const char *path, int *ret_fd, struct atd_error *err)
{
    *ret_fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                     : open(path, O_RDONLY | O_CLOEXEC);
    return *ret_fd >= 0 ? 0 : atd_error_set(err, errno, "'%.300s': %s", path, strerror(errno));
}

/* *ret_got is 0 at the end. */
static int read_piece(int fd, const char *path, uint8_t *piece, size_t *ret_got,
                      struct atd_error *err)
{
    ssize_t got;

    do {
        got = read(fd, piece, READ_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return atd_error_set(err, errno, "'%.300s': %s", path, strerror(errno));
    *ret_got = (size_t)got;
    return 0;
}

/* ------------------------------------------------------------------ publish */

static const struct command_usage publish_usage = {
    .name = "schema publish",
    .synopsis = "[--name NAME] FILE.json",
    .about =
        "Registers the schema that a file describes (\"-\": standard input), as writing it to\n"
        "schemas/NAME@VERSION.json in a mount does. Published twice it is one; a version that is\n"
        "there with other fields is never changed, and the command refuses.",
    .options = "  --name NAME       under another class name than the file's\n",
    .examples = "  atdatafs schema publish digit.json\n"
                "  atdatafs schema infer --class Digit train-0.tar | atdatafs schema publish -\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON | ARGUMENTS_QUIET,
    .words_least = 1,
    .words_most = 1,
    .words_missing = "the schema's file is missing",
};

static int read_record(const char *path, struct atd_buf *out, struct atd_error *err)
{
    atd_auto_free uint8_t *piece = malloc(READ_BYTES);
    atd_auto_fd int fd = -1;
    size_t got = 1;
    int rc;

    if (!piece)
        return atd_error_set(err, ENOMEM, "out of memory");
    rc = open_input(path, &fd, err);
    while (rc == 0 && got > 0 && !out->failed) {
        rc = read_piece(fd, path, piece, &got, err);
        if (rc == 0)
            atd_buf_append(out, piece, got);
    }
    return rc ? rc : atd_buf_finish(out, path, err);
}

static int change(void *ctx, struct atd_editor *editor, struct atd_error *err)
{
    return atd_edit_publish_schema(editor, ctx, err);
}

static void tell_published(struct look *look, const struct atd_schema *schema)
{
    struct atd_json_writer json;

    if (look->arguments->json) {
        atd_json_init(&json, &look->out, ATD_JSON_PRETTY);
        atd_json_object_begin(&json);
        output_json_str(&json, "name", schema->name);
        output_json_str(&json, "version", schema->version);
        atd_json_object_end(&json);
        atd_buf_append_byte(&look->out, '\n');
    } else if (!look->arguments->quiet) {
        atd_buf_append_text(&look->out, "published ");
        output_escape(&look->out, schema->name);
        atd_buf_append_byte(&look->out, '@');
        output_escape(&look->out, schema->version);
        atd_buf_append_byte(&look->out, '\n');
    }
}

static int run_publish(struct look *look, struct atd_error *err)
{
    int rc = change_run(look, change, look->own, err);

    if (rc == 0)
        tell_published(look, look->own);
    return rc;
}

/* Before the index is opened: what is wrong with the file is the same anywhere. */
static int read_schema(const char *path, const char *name, struct atd_arena *arena,
                       struct atd_schema *ret_schema, struct atd_error *err)
{
    atd_auto_buf struct atd_buf text = ATD_BUF_INIT(ATD_SCHEMA_BYTES_MAX);
    const struct atd_schema *decoded;
    int rc = read_record(path, &text, err);

    if (rc)
        return rc;
    rc = atd_schema_decode(atd_buf_bytes(&text), arena, &decoded, err);
    if (rc)
        return atd_error_wrap(err, rc, "'%.300s'", path);
    *ret_schema = *decoded;
    if (name)
        ret_schema->name = atd_str_from(name);
    return 0;
}

int schema_publish(int argc, char **argv)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(SCHEMA_ARENA_MAX);
    const char *name = NULL;
    const struct argument_option own[] = {{.name = "--name", .text = &name}};
    struct atd_error why = ATD_ERROR_INIT;
    struct arguments arguments;
    struct atd_schema schema;
    struct options options;
    int exit_code;

    if (command_begin(&publish_usage, argc, argv, own, ATD_ARRAY_LEN(own), &arguments, &options,
                      &exit_code))
        exit_code = read_schema(arguments.words[0], name, &arena, &schema, &why) != 0
                        ? command_failed(&why)
                        : look_run(&arguments, &options, true, run_publish, &schema);
    return command_end(&arguments, &options, exit_code);
}

/* ------------------------------------------------------------------ infer */

static const struct command_usage infer_usage = {
    .name = "schema infer",
    .synopsis = "[--class NAME] [--schema-version VERSION] FILE.tar...",
    .about =
        "Looks the samples of shards through and prints a schema that all of them have, as\n"
        "publishing the first shard of a dataset registers it. Compressed tars too; no index is\n"
        "opened, and nothing is registered.",
    .options = "  --class NAME      its class name (else made of the first file's name)\n"
               "  --schema-version VERSION  (default " SCHEMA_VERSION_DEFAULT ")\n",
    .examples = "  atdatafs schema infer --class Digit train-*.tar > digit.json\n",
    .takes = ARGUMENTS_JSON,
    .words_least = 1,
    .words_most = ARGUMENTS_WORDS_MAX,
    .words_missing = "a tar file is missing",
};

struct infer {
    const char *class_name;
    const char *version;
    struct atd_schema_inferrer *seen;
    bool is_msgpack; /* of the shards that had samples */
    bool has_samples;
};

static int take_shard(struct infer *infer, const struct atd_inspect_result *result,
                      struct atd_error *err)
{
    if (result->samples == 0)
        return 0;
    if (infer->has_samples && infer->is_msgpack != result->is_msgpack)
        return atd_error_set(err, EINVAL,
                             "%s, and the shards before do not: they are no dataset together",
                             result->is_msgpack ? "it holds atdata samples (KEY.msgpack)"
                                                : "it holds plain WebDataset members");
    infer->has_samples = true;
    infer->is_msgpack = result->is_msgpack;
    return atd_schema_inferrer_merge(infer->seen, result->seen, err);
}

static int look_through(struct infer *infer, const char *path, uint8_t *piece,
                        struct atd_error *err)
{
    struct atd_inspection *inspection = atd_inspection_new(NULL);
    struct atd_inspect_result result;
    atd_auto_fd int fd = -1;
    size_t got = 1;
    int rc = inspection ? open_input(path, &fd, err) : atd_error_set(err, ENOMEM, "out of memory");

    while (rc == 0 && got > 0) {
        rc = read_piece(fd, path, piece, &got, err);
        if (rc == 0 && got > 0) {
            rc = atd_inspection_feed(inspection, (struct atd_bytes){piece, got}, err);
            if (rc)
                (void)atd_error_wrap(err, rc, "'%.300s'", path);
        }
    }
    if (rc == 0) {
        rc = atd_inspection_finish(inspection, &result, err);
        if (rc == 0)
            rc = take_shard(infer, &result, err);
        if (rc)
            (void)atd_error_wrap(err, rc, "'%.300s'", path);
    }
    atd_inspection_free(inspection);
    return rc;
}

/* "train-000000.tar" is of a class "Train". */
static struct atd_str stem_of(const char *path)
{
    struct atd_str name = atd_str_from(publish_file_name(path));
    ptrdiff_t dot = atd_str_find(name, '.');
    size_t len = dot > 0 ? (size_t)dot : name.len;

    while (len > 0 && ((name.ptr[len - 1] >= '0' && name.ptr[len - 1] <= '9') ||
                       name.ptr[len - 1] == '-' || name.ptr[len - 1] == '_'))
        len--;
    return len ? atd_str_head(name, len) : name;
}

static int print_schema(const struct infer *infer, const char *first_path, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(SCHEMA_ARENA_MAX);
    atd_auto_buf struct atd_buf record = ATD_BUF_INIT(ATD_SCHEMA_BYTES_MAX);
    atd_auto_buf struct atd_buf out = ATD_BUF_INIT(OUTPUT_BYTES_MAX);
    char made_name[ATD_CLASS_NAME_SIZE];
    char now[ATD_CLOCK_TEXT_MAX];
    struct atd_schema schema;
    int rc;

    atd_class_name_of(stem_of(first_path), made_name);
    atd_clock_format(atd_clock_wall_ms() / 1000, now);
    rc = atd_schema_inferrer_finish(
        infer->seen, atd_str_from(infer->class_name ? infer->class_name : made_name),
        atd_str_from(infer->version), atd_str_from(now), &arena, &schema, err);
    if (rc == 0)
        rc = atd_edit_schema_check(&schema, err);
    if (rc)
        return rc;
    atd_schema_encode(&schema, &record);
    rc = atd_buf_finish(&record, "the schema", err);
    if (rc == 0)
        rc = atd_schema_pretty(atd_buf_bytes(&record), ATD_STR(""), &out, err);
    return rc ? rc : output_print(&out, err);
}

static int run_infer(struct infer *infer, const struct arguments *arguments, struct atd_error *err)
{
    atd_auto_free uint8_t *piece = malloc(READ_BYTES);
    int rc = 0;

    infer->seen = atd_schema_inferrer_new();
    if (!piece || !infer->seen)
        rc = atd_error_set(err, ENOMEM, "out of memory");
    for (unsigned i = 0; rc == 0 && i < arguments->word_count; i++)
        rc = look_through(infer, arguments->words[i], piece, err);
    if (rc == 0)
        rc = print_schema(infer, arguments->words[0], err);
    atd_schema_inferrer_free(infer->seen);
    return rc;
}

int schema_infer(int argc, char **argv)
{
    struct infer infer = {.version = SCHEMA_VERSION_DEFAULT};
    const struct argument_option own[] = {
        {.name = "--class", .text = &infer.class_name},
        {.name = "--schema-version", .text = &infer.version},
    };
    struct atd_error why = ATD_ERROR_INIT;
    struct arguments arguments;
    struct options options;
    int exit_code;

    if (command_begin(&infer_usage, argc, argv, own, ATD_ARRAY_LEN(own), &arguments, &options,
                      &exit_code) &&
        run_infer(&infer, &arguments, &why) != 0)
        exit_code = command_failed(&why);
    return command_end(&arguments, &options, exit_code);
}
