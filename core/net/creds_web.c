#include "net/creds_web.h"

#include <errno.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "net/creds_reply.h"
#include "net/http.h"
#include "net/sigv4.h"

#define ROLE_ARN_MAX 2048u
#define SESSION_NAME_MIN 2u
#define SESSION_NAME_MAX 64u
#define EXTERNAL_ID_MAX 1224u
#define WEB_TOKEN_MAX 20000u
#define ENDPOINT_MAX 1024u
#define FORM_MAX 131072u
#define RETRY_PAUSE_MS 250u
#define FORM_TYPE "application/x-www-form-urlencoded; charset=utf-8"

struct sts_call {
    const struct atd_creds_env *env;
    struct atd_arena *arena;
    struct atd_str region;
    char url[ENDPOINT_MAX];
    struct atd_str host; /* into url */
    struct atd_str path;
    struct atd_bytes form;
    struct atd_str secret; /* never to be told, whatever STS answers */
};

/* ------------------------------------------------------------------ the form */

static size_t encode(struct atd_str value, char *place)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t len = 0;

    for (size_t i = 0; i < value.len; i++) {
        unsigned char byte = (unsigned char)value.ptr[i];
        bool is_plain = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
                        (byte >= '0' && byte <= '9') || byte == '-' || byte == '_' || byte == '.' ||
                        byte == '~';

        if (is_plain) {
            place[len++] = (char)byte;
        } else {
            place[len++] = '%';
            place[len++] = hex[byte >> 4];
            place[len++] = hex[byte & 15];
        }
    }
    return len;
}

struct form_field {
    const char *name;
    struct atd_str value; /* empty: left out */
};

/* Written into the arena at once: a growing buffer would leave copies of the token behind. */
static int make_form(const struct form_field *fields, size_t count, struct sts_call *call,
                     struct atd_error *err)
{
    size_t most = 1;
    size_t len = 0;
    char *text;

    for (size_t i = 0; i < count; i++)
        most += strlen(fields[i].name) + 2 + 3 * fields[i].value.len;
    text = most <= FORM_MAX ? atd_arena_alloc(call->arena, most) : NULL;
    if (!text)
        return atd_error_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++) {
        if (!fields[i].value.len)
            continue;
        if (len)
            text[len++] = '&';
        memcpy(text + len, fields[i].name, strlen(fields[i].name));
        len += strlen(fields[i].name);
        text[len++] = '=';
        len += encode(fields[i].value, text + len);
    }
    call->form = (struct atd_bytes){(const uint8_t *)text, len};
    return 0;
}

/* Source: the pattern of RoleSessionName. */
static bool is_session_name(struct atd_str name)
{
    if (name.len < SESSION_NAME_MIN || name.len > SESSION_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char byte = name.ptr[i];

        if (!((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
              (byte >= '0' && byte <= '9') || strchr("_+=,.@-", byte)))
            return false;
    }
    return true;
}

static int check_role(const struct atd_creds_env *env, const struct atd_creds_role *role,
                      char made_up[SESSION_NAME_MAX + 1], struct atd_str *ret_session,
                      struct atd_error *err)
{
    struct atd_str arn = atd_str_from(role->arn);

    if (arn.len > ROLE_ARN_MAX || !atd_creds_is_plain(arn) ||
        !atd_str_starts_with(arn, ATD_STR("arn:")))
        return atd_error_set(err, EINVAL, "'" ATD_STR_FMT "' is no role_arn", ATD_STR_ARG(arn));
    if (role->external_id && strlen(role->external_id) > EXTERNAL_ID_MAX)
        return atd_error_set(err, EINVAL, "the external_id is longer than %u bytes",
                             EXTERNAL_ID_MAX);
    if (!role->session_name) {
        (void)snprintf(made_up, SESSION_NAME_MAX + 1, "atdatafs-%lld",
                       (long long)atd_creds_now_s(env));
        *ret_session = atd_str_from(made_up);
        return 0;
    }
    *ret_session = atd_str_from(role->session_name);
    if (!is_session_name(*ret_session))
        return atd_error_set(err, EINVAL,
                             "role_session_name '" ATD_STR_FMT
                             "' is not %u to %u letters, digits and _+=,.@-",
                             ATD_STR_ARG(*ret_session), SESSION_NAME_MIN, SESSION_NAME_MAX);
    return 0;
}

/* ------------------------------------------------------------------ where to */

static int find_endpoint(const struct atd_creds_env *env, const char *region, struct sts_call *call,
                         struct atd_error *err)
{
    const char *given = env->vars[ATD_VAR_AWS_ENDPOINT_URL_STS];
    const char *from;
    size_t len;
    int printed;

    call->region = atd_str_from(region ? region : "us-east-1");
    for (size_t i = 0; i < call->region.len; i++) {
        char byte = call->region.ptr[i];

        if (!((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-'))
            return atd_error_set(err, EINVAL, "'" ATD_STR_FMT "' is no region",
                                 ATD_STR_ARG(call->region));
    }
    if (given) {
        len = strlen(given);
        while (len > 0 && given[len - 1] == '/')
            len--;
        printed = snprintf(call->url, sizeof(call->url), "%.*s/", (int)len, given);
    } else {
        printed =
            snprintf(call->url, sizeof(call->url), "https://sts." ATD_STR_FMT ".amazonaws.com%s/",
                     ATD_STR_ARG(call->region),
                     atd_str_starts_with(call->region, ATD_STR("cn-")) ? ".cn" : "");
    }
    if (printed < 0 || (size_t)printed >= sizeof(call->url) ||
        (strncmp(call->url, "http://", 7) != 0 && strncmp(call->url, "https://", 8) != 0) ||
        strpbrk(call->url, "@?# \t\r\n"))
        return atd_error_set(err, EINVAL,
                             "AWS_ENDPOINT_URL_STS is no URL as in 'https://sts.example.com'");
    from = strstr(call->url, "://") + 3;
    call->host = (struct atd_str){from, strcspn(from, "/")};
    call->path = atd_str_from(from + call->host.len);
    if (call->host.len == 0)
        return atd_error_set(err, EINVAL, "AWS_ENDPOINT_URL_STS has no host");
    return 0;
}

/* ------------------------------------------------------------------ the request */

static void add_header(struct atd_http_message *message, struct atd_str name, struct atd_str value)
{
    message->headers[message->header_count++] = (struct atd_http_header){name, value};
}

static void hex_sha256(struct atd_bytes data, char ret_hex[2 * ATD_SHA256_BYTES + 1])
{
    uint8_t digest[ATD_SHA256_BYTES];

    atd_sha256_of(data.ptr, data.len, digest);
    for (size_t i = 0; i < ATD_SHA256_BYTES; i++)
        (void)snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
}

static int sign(const struct sts_call *call, const struct atd_credential *with,
                struct atd_http_message *message, struct atd_error *err)
{
    struct atd_sigv4_request request = {
        .method = "POST",
        .canonical_uri = call->path,
        .region = call->region,
        .service = ATD_STR("sts"),
    };
    char hash[2 * ATD_SHA256_BYTES + 1];
    atd_auto_buf struct atd_buf value = ATD_BUF_INIT(4096);
    struct atd_str kept;
    int rc;

    atd_sigv4_time(atd_creds_now_s(call->env), request.time);
    kept = atd_arena_str(call->arena, atd_str_from(request.time));
    if (!kept.ptr)
        return atd_error_set(err, ENOMEM, "out of memory");
    add_header(message, ATD_STR("x-amz-date"), kept);
    if (with->session_token[0])
        add_header(message, ATD_STR("x-amz-security-token"), atd_str_from(with->session_token));
    hex_sha256(message->body, hash);
    request.payload_hash = atd_str_from(hash);
    request.headers = message->headers;
    request.header_count = message->header_count;
    rc = atd_sigv4_authorization(&request, with, &value, err);
    if (rc == 0)
        rc = atd_buf_finish(&value, "authorization", err);
    if (rc)
        return rc;
    kept = atd_arena_str(call->arena, atd_buf_str(&value));
    if (!kept.ptr)
        return atd_error_set(err, ENOMEM, "out of memory");
    add_header(message, ATD_STR("authorization"), kept);
    return 0;
}

/* What STS says when it does not; which of it is worth another try. */
static int refused(const struct sts_call *call, int status, struct atd_bytes body,
                   const struct atd_credential *with, struct atd_error *err)
{
    struct atd_creds_sts_error said;
    struct atd_str message;
    bool is_passing;

    atd_creds_reply_sts_error(body, &said);
    message = atd_str_from(said.message);
    /* A server that sends back what it got must not get it into a log. */
    if (atd_creds_tells(message, call->secret) ||
        (with && (atd_creds_tells(message, atd_str_from(with->secret_access_key)) ||
                  atd_creds_tells(message, atd_str_from(with->session_token)))))
        said.message[0] = '\0';
    if (atd_creds_tells(atd_str_from(said.code), call->secret))
        said.code[0] = '\0';
    is_passing = status >= 500 || status == 429 || strcmp(said.code, "Throttling") == 0 ||
                 strcmp(said.code, "IDPCommunicationError") == 0 ||
                 strcmp(said.code, "InvalidIdentityToken") == 0;
    if (!said.code[0])
        return is_passing ? atd_error_set_retryable(err, EACCES, "STS answered status %d", status)
                          : atd_error_set(err, EACCES, "STS answered status %d", status);
    return is_passing ? atd_error_set_retryable(err, EACCES, "STS answered %s%s%s", said.code,
                                                said.message[0] ? ": " : "", said.message)
                      : atd_error_set(err, EACCES, "STS answered %s%s%s", said.code,
                                      said.message[0] ? ": " : "", said.message);
}

static int try_once(const struct sts_call *call, const struct atd_credential *with,
                    struct atd_credential *ret_value, struct atd_error *err)
{
    atd_auto_free struct atd_http_message *message = calloc(1, sizeof(*message));
    struct atd_http_head head;
    struct atd_bytes body;
    int rc = 0;

    if (!message)
        return atd_error_set(err, ENOMEM, "out of memory");
    message->method = "POST";
    message->url = call->url;
    message->body = call->form;
    add_header(message, ATD_STR("host"), call->host);
    add_header(message, ATD_STR("content-type"), ATD_STR(FORM_TYPE));
    if (with)
        rc = sign(call, with, message, err);
    if (rc == 0)
        rc =
            atd_http_fetch(message, ATD_CREDS_STS_TIMEOUT_MS * call->env->patience, false,
                           call->env->ca_file, ATD_CREDS_REPLY_MAX, call->arena, &head, &body, err);
    if (rc)
        return rc;
    if (head.status != 200)
        return refused(call, head.status, body, with, err);
    return atd_creds_reply_sts(body, ret_value, err);
}

static int call_sts(const struct sts_call *call, const struct atd_credential *with,
                    struct atd_credential *ret_value, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    int rc = 0;

    for (unsigned i = 0; i < ATD_CREDS_STS_TRIES; i++) {
        if (i > 0 && atd_creds_stopped(call->env, RETRY_PAUSE_MS << i))
            return atd_error_set(err, ECANCELED, "stopped");
        rc = try_once(call, with, ret_value, &why);
        if (rc == 0 || !why.retryable)
            break;
    }
    if (rc && err)
        *err = why;
    return rc;
}

int atd_creds_assume_role(const struct atd_creds_env *env, const char *region,
                          const struct atd_creds_role *role, const struct atd_credential *with,
                          struct atd_arena *arena, struct atd_credential *ret_value,
                          struct atd_error *err)
{
    struct sts_call call = {.env = env, .arena = arena};
    char made_up[SESSION_NAME_MAX + 1];
    char duration[16] = "";
    struct atd_str session;
    int rc = check_role(env, role, made_up, &session, err);

    if (rc == 0)
        rc = find_endpoint(env, region, &call, err);
    if (role->duration_s)
        (void)snprintf(duration, sizeof(duration), "%u", role->duration_s);
    if (rc == 0) {
        struct form_field fields[] = {
            {"Action", ATD_STR("AssumeRole")},
            {"Version", ATD_STR("2011-06-15")},
            {"RoleArn", atd_str_from(role->arn)},
            {"RoleSessionName", session},
            {"DurationSeconds", atd_str_from(duration)},
            {"ExternalId", atd_str_from(role->external_id ? role->external_id : "")},
        };

        call.secret = fields[5].value;
        rc = make_form(fields, sizeof(fields) / sizeof(fields[0]), &call, err);
    }
    if (rc == 0)
        rc = call_sts(&call, with, ret_value, err);
    return rc ? atd_error_wrap(err, rc, "role '%.200s'", role->arn) : 0;
}

static int read_token(const char *path, struct atd_arena *arena, struct atd_str *ret_token,
                      struct atd_error *err)
{
    int rc = atd_creds_read_file(path, WEB_TOKEN_MAX, arena, ret_token, err);

    if (rc)
        return rc;
    while (ret_token->len && strchr(" \t\r\n", ret_token->ptr[ret_token->len - 1]))
        ret_token->len--;
    if (!atd_creds_is_plain(*ret_token))
        return atd_error_set(err, EINVAL, "'%s' holds no web identity token", path);
    return 0;
}

int atd_creds_assume_web_role(const struct atd_creds_env *env, const char *region,
                              const struct atd_creds_role *role, const char *token_file,
                              struct atd_arena *arena, struct atd_credential *ret_value,
                              struct atd_error *err)
{
    struct sts_call call = {.env = env, .arena = arena};
    char made_up[SESSION_NAME_MAX + 1];
    struct atd_str session;
    struct atd_str token;
    int rc = check_role(env, role, made_up, &session, err);

    if (rc == 0)
        rc = find_endpoint(env, region, &call, err);
    if (rc == 0)
        rc = read_token(token_file, arena, &token, err);
    if (rc == 0) {
        struct form_field fields[] = {
            {"Action", ATD_STR("AssumeRoleWithWebIdentity")},
            {"Version", ATD_STR("2011-06-15")},
            {"RoleArn", atd_str_from(role->arn)},
            {"RoleSessionName", session},
            {"WebIdentityToken", token},
        };

        call.secret = token;
        rc = make_form(fields, sizeof(fields) / sizeof(fields[0]), &call, err);
    }
    if (rc == 0)
        rc = call_sts(&call, NULL, ret_value, err);
    return rc ? atd_error_wrap(err, rc, "role '%.200s'", role->arn) : 0;
}
