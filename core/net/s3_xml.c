#include "net/s3_xml.h"

#include <errno.h>
#include <expat.h>

#include "base/check.h"
#include "base/hex.h"
#include "net/xml_position.h"

#define NAME_BYTES_MAX 32u
#define PATH_BYTES_MAX (ATD_XML_DEPTH_MAX * (NAME_BYTES_MAX + 1))

struct walk {
    XML_Parser parser;
    const struct atd_xml_ops *ops;
    void *ctx;
    const char *what;
    struct atd_error *err;
    int rc; /* non-zero: stopped, nothing more is reported */
    char path[PATH_BYTES_MAX + 1];
    size_t ends[ATD_XML_DEPTH_MAX + 1]; /* of the path at each depth */
    size_t depth;
    char text[ATD_XML_TEXT_MAX];
    size_t text_len;
    bool is_cut;
};

static void stop(struct walk *walk, int rc)
{
    walk->rc = rc;
    (void)XML_StopParser(walk->parser, XML_FALSE);
}

static void refuse(struct walk *walk, const char *why)
{
    if (walk->rc == 0)
        stop(walk, atd_error_set(walk->err, EPROTO, "%s %s at byte %lld", walk->what, why,
                                 atd_xml_position(walk->parser)));
}

static void XMLCALL on_start(void *ctx, const XML_Char *name, const XML_Char **attributes)
{
    struct walk *walk = ctx;
    const char *colon = strrchr(name, ':');
    const char *local = colon ? colon + 1 : name;
    size_t len = strlen(local);
    size_t end = walk->ends[walk->depth];

    (void)attributes;
    if (walk->rc != 0)
        return;
    if (walk->depth == ATD_XML_DEPTH_MAX) {
        refuse(walk, "is nested too deeply");
        return;
    }
    if (end > 0)
        walk->path[end++] = '/';
    /* No name that we know is so long. */
    if (len > NAME_BYTES_MAX - 1) {
        local = "?";
        len = 1;
    }
    memcpy(walk->path + end, local, len + 1);
    walk->ends[++walk->depth] = end + len;
    walk->text_len = 0;
    walk->is_cut = false;
    if (walk->ops->open)
        walk->ops->open(walk->ctx, walk->path);
}

static void XMLCALL on_end(void *ctx, const XML_Char *name)
{
    struct walk *walk = ctx;
    struct atd_xml_element element = {walk->path, {walk->text, walk->text_len}, walk->is_cut};
    int rc;

    (void)name;
    if (walk->rc != 0)
        return;
    rc = walk->ops->close(walk->ctx, &element, walk->err);
    atd_assert(walk->depth > 0);
    walk->path[walk->ends[--walk->depth]] = '\0';
    walk->text_len = 0;
    walk->is_cut = false;
    if (rc != 0)
        stop(walk, rc);
}

static void XMLCALL on_text(void *ctx, const XML_Char *text, int len)
{
    struct walk *walk = ctx;
    size_t room = sizeof(walk->text) - walk->text_len;
    size_t taken = (size_t)len < room ? (size_t)len : room;

    memcpy(walk->text + walk->text_len, text, taken);
    walk->text_len += taken;
    walk->is_cut = walk->is_cut || taken < (size_t)len;
}

/* Entities are declared there: a kilobyte of them makes gigabytes. */
static void XMLCALL on_doctype(void *ctx, const XML_Char *name, const XML_Char *system,
                               const XML_Char *public, int has_internal_subset)
{
    (void)name;
    (void)system;
    (void)public;
    (void)has_internal_subset;
    refuse(ctx, "has a document type, which S3 never sends,");
}

static int parse(struct walk *walk, struct atd_bytes body)
{
    enum XML_Error error;

    XML_SetUserData(walk->parser, walk);
    XML_SetElementHandler(walk->parser, on_start, on_end);
    XML_SetCharacterDataHandler(walk->parser, on_text);
    XML_SetStartDoctypeDeclHandler(walk->parser, on_doctype);
    if (XML_Parse(walk->parser, (const char *)body.ptr, (int)body.len, 1) == XML_STATUS_OK)
        return 0;
    if (walk->rc != 0)
        return walk->rc;
    error = XML_GetErrorCode(walk->parser);
    if (error == XML_ERROR_NO_MEMORY)
        return atd_error_set(walk->err, ENOMEM, "%s: out of memory", walk->what);
    return atd_error_set(walk->err, EPROTO, "%s is not XML at byte %lld: %s", walk->what,
                         atd_xml_position(walk->parser), XML_ErrorString(error));
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int atd_xml_walk(struct atd_bytes body, const char *what, const struct atd_xml_ops *ops, void *ctx,
                 struct atd_error *err)
{
    struct walk walk = {.ops = ops, .ctx = ctx, .what = what, .err = err};
    int rc;

    while (body.len > 0 && is_blank(body.ptr[0])) {
        body.ptr++;
        body.len--;
    }
    if (body.len == 0)
        return atd_error_set(err, EPROTO, "%s is empty", what);
    if (body.len > ATD_XML_BYTES_MAX)
        return atd_error_set(err, EPROTO, "%s is longer than %u bytes", what, ATD_XML_BYTES_MAX);
    walk.parser = XML_ParserCreate(NULL);
    if (!walk.parser)
        return atd_error_set(err, ENOMEM, "%s: out of memory", what);
    rc = parse(&walk, body);
    XML_ParserFree(walk.parser);
    return rc;
}

/* ------------------------------------------------------------------ texts */

struct atd_str atd_xml_trim(struct atd_str text)
{
    while (text.len && is_blank((uint8_t)text.ptr[0]))
        text = atd_str_from_byte(text, 1);
    while (text.len && is_blank((uint8_t)text.ptr[text.len - 1]))
        text.len--;
    return text;
}

int atd_xml_copy(const struct atd_xml_element *element, const char *what, struct atd_arena *arena,
                 struct atd_str *ret_text, struct atd_error *err)
{
    if (element->is_cut)
        return atd_error_set(err, EPROTO, "%s has a %s longer than %u bytes", what, element->path,
                             ATD_XML_TEXT_MAX);
    *ret_text = atd_arena_str(arena, element->text);
    if (!ret_text->ptr)
        return atd_error_set(err, ENOMEM, "%s: out of memory", what);
    return 0;
}

bool atd_xml_decode_form(struct atd_str text, struct atd_arena *arena, struct atd_str *ret_text)
{
    char *to = atd_arena_alloc(arena, text.len + 1);
    size_t len = 0;

    if (!to)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        bool room = text.ptr[i] == '%' && i + 2 < text.len;
        int high = room ? atd_hex_value(text.ptr[i + 1]) : -1;
        int low = room ? atd_hex_value(text.ptr[i + 2]) : -1;

        if (high >= 0 && low >= 0) {
            to[len++] = (char)(high * 16 + low);
            i += 2;
        } else {
            to[len++] = text.ptr[i] == '+' ? ' ' : text.ptr[i];
        }
    }
    *ret_text = (struct atd_str){to, len};
    return true;
}
