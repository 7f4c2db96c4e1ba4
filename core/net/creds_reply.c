#include "net/creds_reply.h"

#include <errno.h>
#include <expat.h>

#include "base/check.h"
#include "base/clock.h"
#include "codec/json_read.h"
#include "net/xml_position.h"

/* ------------------------------------------------------------------ JSON */

struct json_fields {
    struct atd_str code;
    struct atd_str access_key_id;
    struct atd_str secret_access_key;
    struct atd_str session_token;
    struct atd_str expiration;
    bool has_version;
    int64_t version;
};

static struct atd_str *field_of(struct json_fields *fields, enum atd_creds_json kind,
                                struct atd_str key)
{
    if (atd_json_raw_equals(key, "AccessKeyId"))
        return &fields->access_key_id;
    if (atd_json_raw_equals(key, "SecretAccessKey"))
        return &fields->secret_access_key;
    if (atd_json_raw_equals(key, kind == ATD_CREDS_JSON_PROCESS ? "SessionToken" : "Token"))
        return &fields->session_token;
    if (atd_json_raw_equals(key, "Expiration"))
        return &fields->expiration;
    if (atd_json_raw_equals(key, "Code"))
        return &fields->code;
    return NULL;
}

static int read_value(struct atd_json_reader *reader, struct json_fields *fields,
                      struct atd_str key, struct atd_str *place, struct atd_arena *arena,
                      struct atd_error *err)
{
    struct atd_json_token token;
    int rc = atd_json_next(reader, &token, err);

    if (rc)
        return rc;
    if (token.type == ATD_JSON_OBJECT || token.type == ATD_JSON_ARRAY)
        return place ? atd_json_error(reader->text, token.offset, EINVAL, err, "not a text")
                     : atd_json_skip_rest(reader, err);
    if (token.type == ATD_JSON_NUMBER && atd_json_raw_equals(key, "Version"))
        fields->has_version = atd_json_as_i64(token.raw, &fields->version);
    if (!place || token.type == ATD_JSON_NULL)
        return 0;
    if (token.type != ATD_JSON_STRING)
        return atd_json_error(reader->text, token.offset, EINVAL, err, "not a text");
    *place = atd_json_unescape_in(token.raw, arena);
    return place->ptr ? 0 : atd_error_set(err, ENOMEM, "out of memory");
}

static int read_fields(struct atd_str text, enum atd_creds_json kind, struct atd_arena *arena,
                       struct json_fields *fields, struct atd_error *err)
{
    struct atd_json_reader reader;
    struct atd_json_token token;
    int rc;

    atd_json_reader_init(&reader, text, 0, false);
    rc = atd_json_next(&reader, &token, err);
    if (rc == 0 && token.type != ATD_JSON_OBJECT)
        return atd_json_error(text, token.offset, EINVAL, err, "not an object");
    while (rc == 0) {
        rc = atd_json_next(&reader, &token, err);
        if (rc || token.type == ATD_JSON_OBJECT_END)
            break;
        rc = read_value(&reader, fields, token.raw, field_of(fields, kind, token.raw), arena, err);
    }
    return rc ? rc : atd_json_next(&reader, &token, err); /* the end: nothing may follow */
}

static int check_fields(const struct json_fields *fields, enum atd_creds_json kind,
                        struct atd_credential *ret_value, struct atd_error *err)
{
    struct atd_creds_texts texts = {
        .access_key_id = fields->access_key_id,
        .secret_access_key = fields->secret_access_key,
        .session_token = fields->session_token,
    };

    if (kind == ATD_CREDS_JSON_PROCESS && !fields->has_version)
        return atd_error_set(err, EPROTO, "the reply has no \"Version\": 1");
    if (kind == ATD_CREDS_JSON_PROCESS && fields->version != 1)
        return atd_error_set(err, EPROTO, "the reply's \"Version\" is %lld, not 1",
                             (long long)fields->version);
    if (fields->code.ptr && !atd_str_equal(fields->code, ATD_STR("Success")))
        return atd_error_set(err, EPROTO, "the reply's \"Code\" is not \"Success\"");
    if (fields->expiration.len && !atd_clock_parse(fields->expiration, &texts.expires_s))
        return atd_error_set(err, EPROTO, "the reply's \"Expiration\" is no time");
    if (atd_creds_value_make(&texts, ret_value, err) != 0) {
        if (err)
            err->code = EPROTO;
        return -EPROTO;
    }
    return 0;
}

int atd_creds_reply_json(struct atd_str text, enum atd_creds_json kind, struct atd_arena *arena,
                         struct atd_credential *ret_value, struct atd_error *err)
{
    struct json_fields fields = {.has_version = false};
    int rc;

    if (text.len > ATD_CREDS_REPLY_MAX)
        return atd_error_set(err, EPROTO, "the reply is longer than %u bytes", ATD_CREDS_REPLY_MAX);
    rc = read_fields(text, kind, arena, &fields, err);
    if (rc == -ENOMEM)
        return rc;
    if (rc) {
        rc = atd_error_wrap(err, rc, "the reply is not JSON as expected");
        if (err)
            err->code = EPROTO;
        return -EPROTO;
    }
    return check_fields(&fields, kind, ret_value, err);
}

/* ------------------------------------------------------------------ XML */

#define XML_DEPTH_MAX 16u
#define XML_ELEMENTS_MAX 256u

enum xml_field {
    XML_ACCESS_KEY_ID,
    XML_SECRET_ACCESS_KEY,
    XML_SESSION_TOKEN,
    XML_EXPIRATION,
    XML_CODE,
    XML_MESSAGE,
    XML_FIELDS,
};

static const struct {
    const char *parent;
    const char *name;
} xml_names[XML_FIELDS] = {
    [XML_ACCESS_KEY_ID] = {"Credentials", "AccessKeyId"},
    [XML_SECRET_ACCESS_KEY] = {"Credentials", "SecretAccessKey"},
    [XML_SESSION_TOKEN] = {"Credentials", "SessionToken"},
    [XML_EXPIRATION] = {"Credentials", "Expiration"},
    [XML_CODE] = {"Error", "Code"},
    [XML_MESSAGE] = {"Error", "Message"},
};

/* The longest text that is of use is a session token; longer ones are refused. */
struct xml_state {
    XML_Parser parser;
    unsigned depth;
    unsigned elements;
    unsigned parent_depth;
    const char *parent;
    int field; /* -1: of no interest */
    unsigned field_depth;
    bool refused;
    size_t lens[XML_FIELDS];
    char texts[XML_FIELDS][ATD_CREDENTIAL_TOKEN_MAX + 1];
};

static void refuse(struct xml_state *state)
{
    state->refused = true;
    (void)XML_StopParser(state->parser, XML_FALSE);
}

static void XMLCALL on_start(void *ctx, const XML_Char *name, const XML_Char **attributes)
{
    struct xml_state *state = ctx;

    (void)attributes;
    state->depth++;
    if (state->depth > XML_DEPTH_MAX || ++state->elements > XML_ELEMENTS_MAX) {
        refuse(state);
        return;
    }
    for (int i = 0; state->parent && state->field < 0 && i < XML_FIELDS; i++) {
        if (state->depth == state->parent_depth + 1 &&
            strcmp(state->parent, xml_names[i].parent) == 0 &&
            strcmp(name, xml_names[i].name) == 0) {
            state->field = i;
            state->field_depth = state->depth;
            state->lens[i] = 0;
            return;
        }
    }
    for (int i = 0; !state->parent && i < XML_FIELDS; i++) {
        if (strcmp(name, xml_names[i].parent) == 0) {
            state->parent = xml_names[i].parent;
            state->parent_depth = state->depth;
        }
    }
}

static void XMLCALL on_end(void *ctx, const XML_Char *name)
{
    struct xml_state *state = ctx;

    (void)name;
    if (state->field >= 0 && state->depth == state->field_depth)
        state->field = -1;
    if (state->parent && state->depth == state->parent_depth)
        state->parent = NULL;
    state->depth--;
}

static void XMLCALL on_text(void *ctx, const XML_Char *text, int len)
{
    struct xml_state *state = ctx;
    size_t *have;

    if (state->field < 0 || state->depth != state->field_depth)
        return;
    have = &state->lens[state->field];
    if (*have + (size_t)len > ATD_CREDENTIAL_TOKEN_MAX) {
        refuse(state);
        return;
    }
    memcpy(state->texts[state->field] + *have, text, (size_t)len);
    *have += (size_t)len;
}

/* A document type could define entities that grow without end; STS sends none. */
static void XMLCALL on_doctype(void *ctx, const XML_Char *name, const XML_Char *system_id,
                               const XML_Char *public_id, int has_subset)
{
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)has_subset;
    refuse(ctx);
}

static int parse_xml(struct atd_bytes xml, struct xml_state *state, struct atd_error *err)
{
    enum XML_Status status;

    *state = (struct xml_state){.field = -1};
    if (xml.len > ATD_CREDS_REPLY_MAX)
        return atd_error_set(err, EPROTO, "the reply is longer than %u bytes", ATD_CREDS_REPLY_MAX);
    state->parser = XML_ParserCreate("UTF-8");
    if (!state->parser)
        return atd_error_set(err, ENOMEM, "out of memory");
    XML_SetUserData(state->parser, state);
    XML_SetElementHandler(state->parser, on_start, on_end);
    XML_SetCharacterDataHandler(state->parser, on_text);
    XML_SetStartDoctypeDeclHandler(state->parser, on_doctype);
    status = XML_Parse(state->parser, xml.ptr ? (const char *)xml.ptr : "", (int)xml.len, 1);
    if (status == XML_STATUS_OK && !state->refused) {
        XML_ParserFree(state->parser);
        return 0;
    }
    {
        bool no_memory = XML_GetErrorCode(state->parser) == XML_ERROR_NO_MEMORY;
        long long position = atd_xml_position(state->parser);

        XML_ParserFree(state->parser);
        if (no_memory)
            return atd_error_set(err, ENOMEM, "out of memory");
        return atd_error_set(err, EPROTO, "the reply is not XML as STS sends it (byte %lld)",
                             position);
    }
}

static struct atd_str xml_text(const struct xml_state *state, enum xml_field field)
{
    return (struct atd_str){state->texts[field], state->lens[field]};
}

static void wipe_state(struct xml_state *state)
{
    explicit_bzero(state, sizeof(*state));
}

int atd_creds_reply_sts(struct atd_bytes xml, struct atd_credential *ret_value,
                        struct atd_error *err)
{
    __attribute__((cleanup(wipe_state))) struct xml_state state;
    struct atd_creds_texts texts;
    int rc = parse_xml(xml, &state, err);

    if (rc)
        return rc;
    texts = (struct atd_creds_texts){
        .access_key_id = xml_text(&state, XML_ACCESS_KEY_ID),
        .secret_access_key = xml_text(&state, XML_SECRET_ACCESS_KEY),
        .session_token = xml_text(&state, XML_SESSION_TOKEN),
    };
    if (!texts.session_token.len || !texts.access_key_id.len)
        return atd_error_set(err, EPROTO, "the reply has no credentials");
    if (!atd_clock_parse(xml_text(&state, XML_EXPIRATION), &texts.expires_s))
        return atd_error_set(err, EPROTO, "the reply's Expiration is no time");
    if (atd_creds_value_make(&texts, ret_value, err) != 0) {
        if (err)
            err->code = EPROTO;
        return -EPROTO;
    }
    return 0;
}

static void copy_text(struct atd_str text, char *place, size_t max)
{
    size_t len = text.len < max ? text.len : max - 1;

    memcpy(place, text.ptr, len);
    place[len] = '\0';
}

void atd_creds_reply_sts_error(struct atd_bytes xml, struct atd_creds_sts_error *ret_error)
{
    __attribute__((cleanup(wipe_state))) struct xml_state state;

    *ret_error = (struct atd_creds_sts_error){.code = ""};
    if (parse_xml(xml, &state, NULL) != 0)
        return;
    copy_text(xml_text(&state, XML_CODE), ret_error->code, sizeof(ret_error->code));
    copy_text(xml_text(&state, XML_MESSAGE), ret_error->message, sizeof(ret_error->message));
}
