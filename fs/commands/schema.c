/*
 * atdatafs schema list, show and python: the schema registry, looked at.
 */
#include "schema.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "atdata/schema.h"
#include "atdata/schema_ref.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "commands.h"
#include "look.h"
#include "output.h"
#include "render.h"

#define SCHEMA_ARENA_MAX (64u << 20)

/* ------------------------------------------------------------------ which command */

static const struct {
    const char *name;
    const char *words;
    const char *summary;
    int (*run)(int argc, char **argv);
} sub_commands[] = {
    {"list", "", "the schemas of an index", schema_list},
    {"show", "NAME[@VERSION]", "one, as schemas/NAME@VERSION.json has it", schema_show},
    {"python", "NAME[@VERSION]", "one as a Python class, as schemas/NAME@VERSION.py",
     schema_python},
    {"publish", "FILE.json", "register one", schema_publish},
    {"infer", "FILE.tar...", "make one of what is in shards", schema_infer},
};

static void print_help(void)
{
    (void)puts("usage: atdatafs schema SUB-COMMAND ...\n"
               "\n"
               "Looks at the schemas of an index, registers one, or makes one of shards.\n");
    for (size_t i = 0; i < ATD_ARRAY_LEN(sub_commands); i++)
        (void)printf("  %-8s %-16s %s\n", sub_commands[i].name, sub_commands[i].words,
                     sub_commands[i].summary);
    (void)puts("\natdatafs schema SUB-COMMAND --help tells the options of each\n"
               "\n"
               "examples:\n"
               "  atdatafs schema list\n"
               "  atdatafs schema infer --class Digit train-*.tar > digit.json\n"
               "  atdatafs schema publish digit.json\n"
               "  atdatafs schema python Digit > digit.py");
}

int command_schema(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    for (size_t i = 0; i < ATD_ARRAY_LEN(sub_commands); i++) {
        if (strcmp(name, sub_commands[i].name) == 0)
            return sub_commands[i].run(argc - 1, argv + 1);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help();
        return output_flush(ATD_EXIT_OK);
    }
    (void)fprintf(
        stderr, "atdatafs: schema takes list, show, python, publish or infer; see atdatafs schema "
                "--help\n");
    return ATD_EXIT_USAGE;
}

/* ------------------------------------------------------------------ list */

static const struct command_usage list_usage = {
    .name = "schema list",
    .synopsis = "[--names]",
    .about = "Lists the schemas of an index with their fields.",
    .options = "  --names           only NAME@VERSION, one a line, as they are called in a mount\n",
    .examples = "  atdatafs schema list\n"
                "  atdatafs schema list --json | jq -r '.schemas[] | .name + \"@\" + .version'\n",
    .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON,
};

/* "text, number, maybe?": what is optional has a mark. A record that cannot be read has none. */
static void put_fields(const struct atd_catalog_schema *schema, struct atd_buf *out)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(SCHEMA_ARENA_MAX);
    const struct atd_schema *decoded;

    if (atd_schema_decode(schema->json, &arena, &decoded, NULL) != 0)
        return;
    for (size_t i = 0; i < decoded->field_count; i++) {
        atd_buf_append_text(out, i ? ", " : "");
        atd_buf_append_str(out, decoded->fields[i].name);
        atd_buf_append_text(out, decoded->fields[i].optional ? "?" : "");
    }
}

static void put_schema_row(struct output_table *table, const struct atd_catalog_schema *schema)
{
    atd_auto_buf struct atd_buf fields = ATD_BUF_INIT(4 * (size_t)ATD_SCHEMA_BYTES_MAX);

    put_fields(schema, &fields);
    output_cell(table, OUTPUT_STRONG, schema->name);
    output_cell(table, OUTPUT_PLAIN, schema->version);
    output_cell(table, OUTPUT_PLAIN, atd_buf_str(&fields));
}

static int put_schema_object(struct atd_json_writer *json, const struct atd_catalog_schema *schema,
                             struct atd_error *err)
{
    atd_auto_buf struct atd_buf ref = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
    char text[ATD_CLOCK_TEXT_MAX];
    int rc;

    atd_schema_ref_format(ATD_REF_NEW, schema->bare, schema->version, &ref);
    rc = atd_buf_finish(&ref, "a reference", err);
    atd_json_object_begin(json);
    output_json_str(json, "name", schema->name);
    output_json_str(json, "version", schema->version);
    output_json_str(json, "ref", atd_buf_str(&ref));
    output_json_str(json, "file", schema->stem);
    if (schema->created_at_s) {
        atd_clock_format(schema->created_at_s, text);
        output_json_text(json, "created_at", text);
    }
    atd_json_object_end(json);
    return rc;
}

static int list_in_json(struct look *look, struct atd_error *err)
{
    struct atd_json_writer json;
    int rc = 0;

    atd_json_init(&json, &look->out, ATD_JSON_PRETTY);
    atd_json_object_begin(&json);
    atd_json_key(&json, "schemas");
    atd_json_array_begin(&json);
    for (size_t i = 0; rc == 0 && i < atd_catalog_schema_count(look->catalog); i++)
        rc = put_schema_object(&json, atd_catalog_schema_at(look->catalog, i), err);
    atd_json_array_end(&json);
    atd_json_object_end(&json);
    atd_buf_append_byte(&look->out, '\n');
    return rc;
}

static int run_list(struct look *look, struct atd_error *err)
{
    static const char *const titles[] = {"NAME", "VERSION", "FIELDS"};
    const bool *only_names = look->own;
    struct output_table table;

    if (look->arguments->json)
        return list_in_json(look, err);
    output_table_init(&table, ATD_ARRAY_LEN(titles), titles);
    for (size_t i = 0; i < atd_catalog_schema_count(look->catalog); i++) {
        const struct atd_catalog_schema *schema = atd_catalog_schema_at(look->catalog, i);

        if (*only_names) {
            output_escape(&look->out, schema->stem);
            atd_buf_append_byte(&look->out, '\n');
        } else {
            put_schema_row(&table, schema);
        }
    }
    if (!*only_names)
        output_table_end(&table, &look->out);
    output_table_release(&table);
    return 0;
}

int schema_list(int argc, char **argv)
{
    bool only_names = false;
    const struct argument_option own[] = {{.name = "--names", .flag = &only_names}};

    return look_main(&list_usage, argc, argv, own, ATD_ARRAY_LEN(own), run_list, &only_names);
}

/* ------------------------------------------------------------------ one schema */

/* By semver, else by bytes, as the library finds the latest one (ATDATA-FORMATS 4.5). */
static bool is_newer(const struct atd_catalog_schema *a, const struct atd_catalog_schema *b)
{
    struct atd_semver left;
    struct atd_semver right;
    bool left_is_semver = atd_semver_parse(a->version, &left);
    bool right_is_semver = atd_semver_parse(b->version, &right);

    if (left_is_semver && right_is_semver)
        return atd_semver_compare(&left, &right) > 0;
    if (left_is_semver != right_is_semver)
        return left_is_semver;
    return atd_str_compare(a->version, b->version) > 0;
}

/* "Digit", "Digit@1.0.0", "module.Digit@1.0.0", a reference, a file name in schemas/. */
static int find_schema(const struct look *look, const char *word,
                       const struct atd_catalog_schema **ret_schema, struct atd_error *err)
{
    struct atd_str name = atd_str_from(word);
    struct atd_str version = ATD_STR("");
    const struct atd_catalog_schema *found = atd_catalog_find_schema(look->catalog, name);
    struct atd_schema_ref ref;

    if (strstr(word, "://") && atd_schema_ref_parse(name, &ref, NULL) == 0) {
        name = ref.name;
        version = ref.version;
    } else {
        (void)look_split_version(name, &name, &version);
    }
    for (size_t i = 0; !found || !version.len; i++) {
        const struct atd_catalog_schema *schema;

        if (i == atd_catalog_schema_count(look->catalog))
            break;
        schema = atd_catalog_schema_at(look->catalog, i);
        if ((atd_str_equal(schema->name, name) || atd_str_equal(schema->bare, name)) &&
            (version.len ? atd_str_equal(schema->version, version)
                         : !found || is_newer(schema, found)))
            found = schema;
    }
    if (!found)
        return atd_error_set(
            err, ENOENT, "'%.200s' is no schema of the index '%.200s'; see atdatafs schema list",
            word, look->parts.index->location);
    *ret_schema = found;
    return 0;
}

static int run_show(struct look *look, struct atd_error *err)
{
    const struct atd_catalog_schema *schema;
    int rc = find_schema(look, look->arguments->words[0], &schema, err);

    return rc ? rc : render_schema_json(schema, &look->out, err);
}

static int run_python(struct look *look, struct atd_error *err)
{
    const struct atd_catalog_schema *schema;
    int rc = find_schema(look, look->arguments->words[0], &schema, err);

    return rc ? rc : render_schema_py(schema, &look->out, err);
}

#define NAME_MISSING "the name of a schema is missing"

int schema_show(int argc, char **argv)
{
    static const struct command_usage usage = {
        .name = "schema show",
        .synopsis = "NAME[@VERSION] | REFERENCE",
        .about = "Prints a schema's record as JSON, with its reference in \"$ref\", as\n"
                 "schemas/NAME@VERSION.json has it in a mount. Without a version, the latest.",
        .examples = "  atdatafs schema show Digit@1.0.0\n"
                    "  atdatafs schema show atdata://local/schema/Digit@1.0.0\n",
        .takes = ARGUMENTS_INDEX | ARGUMENTS_JSON,
        .words_least = 1,
        .words_most = 1,
        .words_missing = NAME_MISSING,
    };

    return look_main(&usage, argc, argv, NULL, 0, run_show, NULL);
}

int schema_python(int argc, char **argv)
{
    static const struct command_usage usage = {
        .name = "schema python",
        .synopsis = "NAME[@VERSION] | REFERENCE",
        .about =
            "Prints a schema as a Python module with one class, which decodes the samples, as\n"
            "schemas/NAME@VERSION.py has it in a mount. Without a version, the latest.",
        .examples = "  atdatafs schema python Digit > digit.py\n",
        .takes = ARGUMENTS_INDEX,
        .words_least = 1,
        .words_most = 1,
        .words_missing = NAME_MISSING,
    };

    return look_main(&usage, argc, argv, NULL, 0, run_python, NULL);
}
