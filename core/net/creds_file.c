#include "net/creds_file.h"

#include <errno.h>

#include "base/utf8.h"

struct parser {
    struct atd_arena *arena;
    struct atd_creds_file *file;
    size_t cap;
    size_t line;

    /* the section that the line is in */
    bool in_section;
    enum atd_creds_section section;
    struct atd_str name;
    bool is_plain_default; /* "[default]" of a config file */

    /* the property that a deeper line belongs to; key.ptr NULL: none */
    struct atd_str key;
    size_t indent;
    bool nests; /* its own value was empty */
};

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\f' || byte == '\v';
}

static struct atd_str trim(struct atd_str s)
{
    while (s.len && is_blank(s.ptr[0]))
        s = atd_str_from_byte(s, 1);
    while (s.len && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static void bad_line(struct parser *parser)
{
    if (parser->file->bad_line_count++ == 0)
        parser->file->first_bad_line = parser->line;
}

/* "[default]" is kept under this name, so that "[profile default]" can go before it. */
#define PLAIN_DEFAULT ATD_STR("\ndefault")

static int add(struct parser *parser, struct atd_str key, struct atd_str value,
               struct atd_error *err)
{
    struct atd_creds_file *file = parser->file;
    struct atd_creds_property *property;

    if (file->count == parser->cap) {
        size_t cap = parser->cap ? parser->cap * 2 : 32;
        struct atd_creds_property *more;

        if (cap > ATD_CREDS_PROPERTIES_MAX)
            return atd_error_set(err, E2BIG, "more than %u properties", ATD_CREDS_PROPERTIES_MAX);
        more = atd_arena_alloc_array(parser->arena, cap, sizeof(*more));
        if (!more)
            return atd_error_set(err, ENOMEM, "out of memory");
        if (file->count)
            memcpy(more, file->properties, file->count * sizeof(*more));
        file->properties = more;
        parser->cap = cap;
    }
    property = &file->properties[file->count];
    property->section = parser->section;
    property->name = parser->is_plain_default ? PLAIN_DEFAULT : parser->name;
    property->key = key;
    property->value = atd_arena_str(parser->arena, value);
    if (!property->value.ptr)
        return atd_error_set(err, ENOMEM, "out of memory");
    file->count++;
    return 0;
}

/* What stands behind "profile" or "services", without its quotes. */
static bool kind_and_name(struct atd_str title, const char *kind, struct atd_str *ret_name)
{
    struct atd_str word = atd_str_from(kind);
    struct atd_str name;

    if (!atd_str_starts_with(title, word) || title.len == word.len ||
        !is_blank(title.ptr[word.len]))
        return false;
    name = trim(atd_str_from_byte(title, word.len));
    if (name.len >= 2 && (name.ptr[0] == '"' || name.ptr[0] == '\'') &&
        name.ptr[name.len - 1] == name.ptr[0])
        name = atd_str_head(atd_str_from_byte(name, 1), name.len - 2);
    *ret_name = name;
    return name.len > 0;
}

static int section_line(struct parser *parser, struct atd_str line, struct atd_error *err)
{
    ptrdiff_t end = atd_str_find(line, ']');
    struct atd_str title;

    parser->key = (struct atd_str){NULL, 0};
    parser->is_plain_default = false;
    parser->section = ATD_CREDS_OTHER;
    parser->in_section = end > 0;
    if (end < 0) {
        bad_line(parser);
        return 0;
    }
    title = trim((struct atd_str){line.ptr + 1, (size_t)end - 1});
    parser->name = title;
    if (!parser->file->is_config) {
        parser->section = title.len ? ATD_CREDS_PROFILE : ATD_CREDS_OTHER;
    } else if (kind_and_name(title, "profile", &parser->name)) {
        parser->section = ATD_CREDS_PROFILE;
    } else if (kind_and_name(title, "services", &parser->name)) {
        parser->section = ATD_CREDS_SERVICES;
    } else if (atd_str_equal(title, ATD_STR("default"))) {
        parser->section = ATD_CREDS_PROFILE;
        parser->is_plain_default = true;
    }
    return add(parser, ATD_STR(""), ATD_STR(""), err);
}

/* "KEY" or "PARENT.KEY" in lower case; ptr NULL when out of memory. */
static struct atd_str key_of(struct parser *parser, struct atd_str parent, struct atd_str key)
{
    size_t before = parent.ptr ? parent.len + 1 : 0;
    char *place = atd_arena_alloc(parser->arena, before + key.len + 1);

    if (!place)
        return (struct atd_str){NULL, 0};
    if (before) {
        memcpy(place, parent.ptr, parent.len);
        place[parent.len] = '.';
    }
    for (size_t i = 0; i < key.len; i++) {
        char byte = key.ptr[i];

        place[before + i] = byte >= 'A' && byte <= 'Z' ? (char)(byte - 'A' + 'a') : byte;
    }
    return (struct atd_str){place, before + key.len};
}

static int property_line(struct parser *parser, struct atd_str line, size_t indent,
                         struct atd_error *err)
{
    bool is_nested = parser->key.ptr && indent > parser->indent;
    size_t at = 0;
    struct atd_str key;
    struct atd_str value;

    /* More of a value: no property that is read here has several lines. */
    if (is_nested && !parser->nests)
        return 0;
    while (at < line.len && line.ptr[at] != '=' && line.ptr[at] != ':')
        at++;
    key = trim(atd_str_head(line, at));
    if (at == line.len || key.len == 0 || !parser->in_section) {
        bad_line(parser);
        return 0;
    }
    value = trim(atd_str_from_byte(line, at + 1));
    key = key_of(parser, is_nested ? parser->key : (struct atd_str){NULL, 0}, key);
    if (!key.ptr)
        return atd_error_set(err, ENOMEM, "out of memory");
    if (!is_nested) {
        parser->key = key;
        parser->indent = indent;
        parser->nests = value.len == 0;
    }
    return add(parser, key, value, err);
}

int atd_creds_file_parse(struct atd_str text, bool is_config, struct atd_arena *arena,
                         struct atd_creds_file *ret_file, struct atd_error *err)
{
    struct atd_creds_file file = {.is_config = is_config};
    struct parser parser = {.arena = arena, .file = &file};

    if (atd_str_starts_with(text, ATD_STR("\xef\xbb\xbf")))
        text = atd_str_from_byte(text, 3);
    while (text.len) {
        ptrdiff_t end = atd_str_find(text, '\n');
        struct atd_str line = atd_str_head(text, end < 0 ? text.len : (size_t)end);
        size_t indent = 0;
        int rc = 0;

        text = atd_str_from_byte(text, end < 0 ? text.len : (size_t)end + 1);
        parser.line++;
        if (!atd_utf8_is_valid(line, NULL) || atd_str_find(line, '\0') >= 0)
            return atd_error_set(err, EINVAL, "line %zu is not UTF-8 text", parser.line);
        while (indent < line.len && is_blank(line.ptr[indent]))
            indent++;
        line = trim(line);
        if (!line.len || line.ptr[0] == '#' || line.ptr[0] == ';')
            continue;
        /* Deeper than its property a '[' is no section: configparser's rule. */
        if (line.ptr[0] == '[' && !(parser.key.ptr && indent > parser.indent))
            rc = section_line(&parser, line, err);
        else
            rc = property_line(&parser, line, indent, err);
        if (rc)
            return rc;
    }
    *ret_file = file;
    return 0;
}

static const struct atd_creds_property *find(const struct atd_creds_file *file,
                                             enum atd_creds_section section, struct atd_str name,
                                             const char *key)
{
    for (size_t i = file->count; i-- > 0;) {
        const struct atd_creds_property *property = &file->properties[i];

        if (property->section == section && atd_str_equal(property->name, name) &&
            (!key || atd_str_equal(property->key, atd_str_from(key))))
            return property;
    }
    return NULL;
}

/* "[profile default]" hides "[default]" whole, as a name that is said in full should. */
static struct atd_str stored_name(const struct atd_creds_file *file, enum atd_creds_section section,
                                  struct atd_str name)
{
    if (file->is_config && section == ATD_CREDS_PROFILE &&
        atd_str_equal(name, ATD_STR("default")) && !find(file, section, name, NULL))
        return PLAIN_DEFAULT;
    return name;
}

const char *atd_creds_file_find(const struct atd_creds_file *file, enum atd_creds_section section,
                                struct atd_str name, const char *key)
{
    const struct atd_creds_property *property =
        find(file, section, stored_name(file, section, name), key);

    return property && property->value.len ? property->value.ptr : NULL;
}

bool atd_creds_file_has(const struct atd_creds_file *file, enum atd_creds_section section,
                        struct atd_str name)
{
    return find(file, section, stored_name(file, section, name), NULL) != NULL;
}
