/*
 * A statement begins after any white space, reads [export] KEY [= VALUE] [# comment] up to the end
 * of its line, and is skipped to the end of the line where it stops making sense. "White space" is
 * Python's \s, line ends are \n: Python opens the file as text, which turns \r\n and \r into \n.
 * Source: ATDATA-FORMATS 6.3; python-dotenv 1.2, each rule checked by running it.
 */
#include "codec/dotenv.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/utf8.h"

#define TEXT_BYTES_MAX (1u << 20)
#define KEYS_MAX 4096u
/* Values grow by ${NAME}: ten lines could ask for gigabytes. */
#define VALUES_BYTES_MAX (4u << 20)
#define SLOTS (2 * KEYS_MAX)

struct parser {
    struct atd_str text; /* valid UTF-8, line ends are \n */
    size_t at;
    atd_dotenv_getenv get;
    void *ctx;
    struct atd_arena *arena;
    struct atd_error *err;
    struct atd_buf value; /* scratch: the value being read */
    struct atd_buf expanded;
    size_t values_bytes;
    struct atd_dotenv_pair *pairs; /* KEYS_MAX */
    uint16_t *slots;               /* hash table of pair numbers plus 1; 0 is free */
    size_t count;
    size_t bad_line_count;
    size_t first_bad_line;
};

/* Python's str.isspace() and \s agree on these. */
static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Length of the white space character at `at`, or 0. */
static size_t space_at(struct atd_str text, size_t at)
{
    uint32_t code = 0;
    size_t step;

    if (at >= text.len)
        return 0;
    step = atd_utf8_decode((const uint8_t *)text.ptr + at, text.len - at, &code);
    return is_space(code) ? step : 0;
}

static char peek(const struct parser *parser)
{
    return parser->at < parser->text.len ? parser->text.ptr[parser->at] : '\0';
}

static bool at_end(const struct parser *parser)
{
    return parser->at == parser->text.len;
}

static void skip_space(struct parser *parser, bool newlines)
{
    size_t step;

    while ((step = space_at(parser->text, parser->at)) != 0 && (newlines || peek(parser) != '\n'))
        parser->at += step;
}

static void skip_to_newline(struct parser *parser)
{
    while (!at_end(parser) && peek(parser) != '\n')
        parser->at++;
}

/* "export" and at least one blank. */
static void skip_export(struct parser *parser)
{
    struct atd_str rest = atd_str_from_byte(parser->text, parser->at);
    size_t start = parser->at;

    if (!atd_str_starts_with(rest, ATD_STR("export")))
        return;
    parser->at += 6;
    skip_space(parser, false);
    if (parser->at == start + 6)
        parser->at = start;
}

/* False where no key can be. */
static bool read_key(struct parser *parser, struct atd_str *ret_key)
{
    size_t start = parser->at;

    if (peek(parser) == '\'') {
        struct atd_str rest = atd_str_from_byte(parser->text, start + 1);
        ptrdiff_t end = atd_str_find(rest, '\'');

        if (end < 1)
            return false;
        *ret_key = atd_str_head(rest, (size_t)end);
        parser->at += (size_t)end + 2;
        return true;
    }
    while (!at_end(parser) && peek(parser) != '=' && peek(parser) != '#' &&
           space_at(parser->text, parser->at) == 0)
        parser->at++;
    *ret_key = (struct atd_str){parser->text.ptr + start, parser->at - start};
    return parser->at > start;
}

/* What an escape stands for, or NUL when the backslash stays. */
static char unescape(char quote, char c)
{
    static const char from[] = "\\'\"abfnrtv";
    static const char to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *hit = c ? strchr(from, c) : NULL;

    if (!hit || (quote == '\'' && c != '\\' && c != '\''))
        return '\0';
    return to[hit - from];
}

/* False without a closing quote; the parser then stands on the opening one. */
static bool read_quoted(struct parser *parser)
{
    char quote = peek(parser);
    size_t at = parser->at + 1;

    for (; at < parser->text.len && parser->text.ptr[at] != quote; at++) {
        char c = parser->text.ptr[at];

        if (c == '\\' && at + 1 < parser->text.len) {
            char meant = unescape(quote, parser->text.ptr[at + 1]);

            /* Any character after a backslash is taken with it, a quote too. */
            if (meant == '\0')
                atd_buf_append_byte(&parser->value, (uint8_t)c);
            at++;
            c = meant ? meant : parser->text.ptr[at];
        }
        atd_buf_append_byte(&parser->value, (uint8_t)c);
    }
    if (at >= parser->text.len)
        return false;
    parser->at = at + 1;
    return true;
}

/* Up to the end of the line, or to white space before a '#'; white space at the end is cut. */
static void read_unquoted(struct parser *parser)
{
    size_t start = parser->at;
    size_t end = start; /* behind the last character that is no white space */
    size_t at = start;

    while (at < parser->text.len && parser->text.ptr[at] != '\n') {
        size_t step = space_at(parser->text, at);

        if (step == 0) {
            if (parser->text.ptr[at] == '#' && end < at)
                break;
            end = at + 1;
        }
        at += step ? step : 1;
    }
    atd_buf_append(&parser->value, parser->text.ptr + start, end - start);
    skip_to_newline(parser);
}

/* Reads "= VALUE" into parser->value. */
static bool read_value(struct parser *parser)
{
    size_t start = ++parser->at;

    skip_space(parser, false);
    if (peek(parser) == '#' && parser->at > start)
        return true; /* a comment: the value is empty */
    if (peek(parser) == '\'' || peek(parser) == '"')
        return read_quoted(parser);
    read_unquoted(parser);
    return true;
}

/* FNV-1a. */
static uint32_t hash_of(struct atd_str key)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (uint8_t)key.ptr[i]) * 16777619u;
    return hash;
}

/* The slot that holds the key, or the free one where it belongs. */
static uint16_t *slot_of(const struct parser *parser, struct atd_str key)
{
    size_t slot = hash_of(key) % SLOTS;

    while (parser->slots[slot] && !atd_str_equal(parser->pairs[parser->slots[slot] - 1].key, key))
        slot = (slot + 1) % SLOTS;
    return &parser->slots[slot];
}

/* What ${name} stands for. A key of the file counts before the environment, even without value. */
static void append_variable(struct parser *parser, struct atd_str name, struct atd_str fallback)
{
    uint16_t number = *slot_of(parser, name);
    char text[1024];

    if (number) {
        atd_buf_append_str(&parser->expanded, parser->pairs[number - 1].value);
        return;
    }
    if (parser->get && name.len > 0 && name.len < sizeof(text) && !memchr(name.ptr, 0, name.len)) {
        const char *value;

        memcpy(text, name.ptr, name.len);
        text[name.len] = '\0';
        value = parser->get(parser->ctx, text);
        if (value) {
            atd_buf_append_text(&parser->expanded, value);
            return;
        }
    }
    atd_buf_append_str(&parser->expanded, fallback);
}

/* The first '}' or ':' at or behind `at`, or the length. */
static size_t find_name_end(struct atd_str value, size_t at)
{
    while (at < value.len && value.ptr[at] != '}' && value.ptr[at] != ':')
        at++;
    return at;
}

/*
 * Takes "${NAME}" or "${NAME:-default}", whose name ends at `name_end` and which some '}' follows:
 * a name holds neither '}' nor ':', a default no '}'. Returns its length, or 0.
 */
static size_t take_variable(struct parser *parser, struct atd_str value, size_t at, size_t name_end)
{
    struct atd_str name = {value.ptr + at + 2, name_end - at - 2};
    struct atd_str fallback = atd_str_from_byte(value, name_end);
    ptrdiff_t end;

    if (atd_str_starts_with(fallback, ATD_STR("}"))) {
        append_variable(parser, name, ATD_STR(""));
        return name_end + 1 - at;
    }
    if (!atd_str_starts_with(fallback, ATD_STR(":-")))
        return 0;
    fallback = atd_str_from_byte(fallback, 2);
    end = atd_str_find(fallback, '}');
    atd_assert(end >= 0);
    append_variable(parser, name, atd_str_head(fallback, (size_t)end));
    return name_end + 2 + (size_t)end + 1 - at;
}

/* Both searches are remembered, so that a value full of "${" takes one pass. */
static void expand_variables(struct parser *parser)
{
    struct atd_str value = atd_buf_str(&parser->value);
    ptrdiff_t last_close = atd_str_find_last(value, '}');
    size_t name_end = 0;

    atd_buf_clear(&parser->expanded);
    for (size_t at = 0; at < value.len && !parser->expanded.failed;) {
        size_t taken = 0;

        if ((ptrdiff_t)at < last_close &&
            atd_str_starts_with(atd_str_from_byte(value, at), ATD_STR("${"))) {
            if (name_end < at + 2)
                name_end = find_name_end(value, at + 2);
            taken = take_variable(parser, value, at, name_end);
        }
        if (taken == 0)
            atd_buf_append_byte(&parser->expanded, (uint8_t)value.ptr[at++]);
        at += taken;
    }
}

static int add_pair(struct parser *parser, struct atd_str key, bool has_value)
{
    struct atd_dotenv_pair pair = {key, {NULL, 0}};
    uint16_t *slot = slot_of(parser, key);

    if (has_value) {
        expand_variables(parser);
        if (parser->value.failed == ENOMEM || parser->expanded.failed == ENOMEM)
            return atd_error_set(parser->err, ENOMEM, "env file: out of memory");
        parser->values_bytes += parser->expanded.len;
        if (parser->value.failed || parser->expanded.failed ||
            parser->values_bytes > VALUES_BYTES_MAX)
            return atd_error_set(parser->err, E2BIG, "env file: values are longer than %u bytes",
                                 VALUES_BYTES_MAX);
        pair.value = atd_arena_str(parser->arena, atd_buf_str(&parser->expanded));
        if (!pair.value.ptr)
            return atd_error_set(parser->err, ENOMEM, "env file: out of memory");
    }
    if (*slot) {
        parser->pairs[*slot - 1].value = pair.value;
        return 0;
    }
    if (parser->count == KEYS_MAX)
        return atd_error_set(parser->err, E2BIG, "env file has more than %u keys", KEYS_MAX);
    parser->pairs[parser->count++] = pair;
    *slot = (uint16_t)parser->count;
    return 0;
}

static void skip_bad_line(struct parser *parser, size_t start)
{
    skip_to_newline(parser);
    if (!at_end(parser))
        parser->at++;
    if (parser->bad_line_count++ > 0)
        return;
    parser->first_bad_line = 1;
    for (size_t at = 0; at < start; at++)
        parser->first_bad_line += parser->text.ptr[at] == '\n';
}

static int read_statement(struct parser *parser)
{
    struct atd_str key = {NULL, 0};
    bool has_value = false;
    size_t start;

    skip_space(parser, true);
    if (at_end(parser))
        return 0;
    start = parser->at;
    atd_buf_clear(&parser->value);
    skip_export(parser);
    if (peek(parser) != '#' && !read_key(parser, &key)) {
        skip_bad_line(parser, start);
        return 0;
    }
    skip_space(parser, false);
    if (peek(parser) == '=') {
        has_value = true;
        if (!read_value(parser)) {
            skip_bad_line(parser, start);
            return 0;
        }
    }
    skip_space(parser, false);
    if (peek(parser) == '#')
        skip_to_newline(parser);
    if (!at_end(parser) && peek(parser) != '\n') {
        skip_bad_line(parser, start);
        return 0;
    }
    return key.ptr ? add_pair(parser, key, has_value) : 0;
}

/* A copy without a byte order mark and with \n for every line end; keys are views into it. */
static struct atd_str copy_text(struct atd_str text, struct atd_arena *arena)
{
    struct atd_str copy;
    char *to;
    size_t len = 0;

    if (atd_str_starts_with(text, ATD_STR("\xef\xbb\xbf")))
        text = atd_str_from_byte(text, 3);
    to = atd_arena_alloc(arena, text.len + 1);
    if (!to)
        return (struct atd_str){NULL, 0};
    for (size_t at = 0; at < text.len; at++) {
        if (text.ptr[at] != '\r')
            to[len++] = text.ptr[at];
        else if (at + 1 == text.len || text.ptr[at + 1] != '\n')
            to[len++] = '\n';
    }
    copy = (struct atd_str){to, len};
    return copy;
}

static int parse_all(struct parser *parser)
{
    int rc = 0;

    while (rc == 0 && !at_end(parser))
        rc = read_statement(parser);
    return rc;
}

int atd_dotenv_parse(struct atd_str text, atd_dotenv_getenv get, void *ctx, struct atd_arena *arena,
                     struct atd_dotenv *ret_env, struct atd_error *err)
{
    atd_auto_free uint16_t *slots = calloc(SLOTS, sizeof(*slots));
    atd_auto_free struct atd_dotenv_pair *pairs = calloc(KEYS_MAX, sizeof(*pairs));
    struct parser parser = {.get = get, .ctx = ctx, .arena = arena, .err = err, .slots = slots};
    struct atd_dotenv_pair *kept;
    size_t bad_at = 0;
    int rc;

    if (text.len > TEXT_BYTES_MAX)
        return atd_error_set(err, E2BIG, "env file is longer than %u bytes", TEXT_BYTES_MAX);
    if (!atd_utf8_is_valid(text, &bad_at))
        return atd_error_set(err, EINVAL, "env file is not UTF-8 at byte %zu", bad_at);
    parser.text = copy_text(text, arena);
    if (!slots || !pairs || !parser.text.ptr)
        return atd_error_set(err, ENOMEM, "env file: out of memory");
    parser.pairs = pairs;
    atd_buf_init(&parser.value, TEXT_BYTES_MAX);
    atd_buf_init(&parser.expanded, VALUES_BYTES_MAX);
    rc = parse_all(&parser);
    atd_buf_release(&parser.value);
    atd_buf_release(&parser.expanded);
    if (rc != 0)
        return rc;
    kept = atd_arena_alloc_array(arena, parser.count, sizeof(*kept));
    if (!kept)
        return atd_error_set(err, ENOMEM, "env file: out of memory");
    memcpy(kept, pairs, parser.count * sizeof(*kept));
    *ret_env =
        (struct atd_dotenv){kept, parser.count, parser.bad_line_count, parser.first_bad_line};
    return 0;
}

const struct atd_dotenv_pair *atd_dotenv_find(const struct atd_dotenv *env, struct atd_str key)
{
    for (size_t i = 0; i < env->count; i++)
        if (atd_str_equal(env->pairs[i].key, key))
            return &env->pairs[i];
    return NULL;
}
