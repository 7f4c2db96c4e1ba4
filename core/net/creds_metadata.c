#include "net/creds_metadata.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/cleanup.h"
#include "net/creds_reply.h"
#include "net/http.h"

#define URL_MAX 4096u
#define TOKEN_MAX 16384u
#define ROLE_NAME_MAX 128u
#define RETRY_PAUSE_MS 250u
#define CONTAINER_HOST_URL "http://169.254.170.2"
#define IMDS_URL "http://169.254.169.254"
#define IMDS_URL_IPV6 "http://[fd00:ec2::254]"
#define IMDS_TOKEN_PATH "/latest/api/token"
#define IMDS_ROLE_PATH "/latest/meta-data/iam/security-credentials/"
#define IMDS_TOKEN_TTL_S "21600"

static bool has_control(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text <= ' ' || (unsigned char)*text == 0x7f)
            return true;
    return false;
}

/* `header` may have an empty name: none. */
static int fetch(const struct atd_creds_env *env, const char *method, const char *url,
                 struct atd_http_header header, unsigned timeout_ms, struct atd_arena *arena,
                 int *ret_status, struct atd_str *ret_body, struct atd_error *err)
{
    atd_auto_free struct atd_http_message *message = calloc(1, sizeof(*message));
    atd_auto_free struct atd_http_head *head = calloc(1, sizeof(*head));
    struct atd_bytes body;
    int rc;

    if (!message || !head)
        return atd_error_set(err, ENOMEM, "out of memory");
    message->method = method;
    message->url = url;
    if (header.name.len)
        message->headers[message->header_count++] = header;
    rc = atd_http_fetch(message, timeout_ms * env->patience, true, env->ca_file,
                        ATD_CREDS_REPLY_MAX, arena, head, &body, err);
    if (rc)
        return rc;
    *ret_status = head->status;
    *ret_body = atd_bytes_str(body);
    return 0;
}

/* ------------------------------------------------------------------ container */

/* Numbers as inet_pton reads them: no octal, no short forms that a client takes otherwise. */
static bool may_be_http(const char *host)
{
    static const char *const reserved[] = {"169.254.170.2", "169.254.170.23"};
    char inner[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;
    struct in6_addr eks;
    size_t len = strlen(host);

    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1) {
        if ((ntohl(v4.s_addr) >> 24) == 127)
            return true;
        for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
            if (strcmp(host, reserved[i]) == 0)
                return true;
        return false;
    }
    if (len < 3 || host[0] != '[' || host[len - 1] != ']' || len - 2 >= sizeof(inner))
        return false;
    memcpy(inner, host + 1, len - 2);
    inner[len - 2] = '\0';
    if (inet_pton(AF_INET6, inner, &v6) != 1 || inet_pton(AF_INET6, "fd00:ec2::23", &eks) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&v6) || memcmp(&v6, &eks, sizeof(v6)) == 0;
}

/* libcurl takes the URL apart: what is checked is what is asked. */
static bool is_safe_url(const char *url)
{
    CURLU *parts = curl_url();
    char *scheme = NULL;
    char *host = NULL;
    char *user = NULL;
    bool is_safe = false;

    if (parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_USER, &user, 0) == CURLUE_NO_USER)
        is_safe = strcasecmp(scheme, "https") == 0 ||
                  (strcasecmp(scheme, "http") == 0 && may_be_http(host));
    curl_free(scheme);
    curl_free(host);
    curl_free(user);
    curl_url_cleanup(parts);
    return is_safe;
}

static int container_url(const struct atd_creds_env *env, char ret_url[URL_MAX],
                         struct atd_error *err)
{
    const char *relative = env->vars[ATD_VAR_AWS_CONTAINER_CREDENTIALS_RELATIVE_URI];
    const char *full = env->vars[ATD_VAR_AWS_CONTAINER_CREDENTIALS_FULL_URI];
    int printed;

    if (relative) {
        if (relative[0] != '/' || has_control(relative))
            return atd_error_set(err, EINVAL, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is no path");
        printed = snprintf(ret_url, URL_MAX, "%s%s",
                           env->container_host_url ? env->container_host_url : CONTAINER_HOST_URL,
                           relative);
    } else if (full) {
        if (has_control(full) || !is_safe_url(full))
            return atd_error_set(err, EINVAL,
                                 "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither an https URL nor "
                                 "an http one of this machine or of 169.254.170.2, "
                                 "169.254.170.23 or [fd00:ec2::23]");
        printed = snprintf(ret_url, URL_MAX, "%s", full);
    } else {
        return atd_error_set(err, EINVAL,
                             "neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor "
                             "AWS_CONTAINER_CREDENTIALS_FULL_URI is set");
    }
    if (printed < 0 || (size_t)printed >= URL_MAX)
        return atd_error_set(err, EINVAL, "the container's URL is longer than %u bytes", URL_MAX);
    return 0;
}

/* The Authorization header; its name is empty when there is none. */
static int container_token(const struct atd_creds_env *env, struct atd_arena *arena,
                           struct atd_http_header *ret_header, struct atd_error *err)
{
    const char *path = env->vars[ATD_VAR_AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE];
    const char *token = env->vars[ATD_VAR_AWS_CONTAINER_AUTHORIZATION_TOKEN];
    const char *where = path ? path : "AWS_CONTAINER_AUTHORIZATION_TOKEN";
    struct atd_str value = {token, token ? strlen(token) : 0};

    *ret_header = (struct atd_http_header){.name = {"", 0}};
    if (path) {
        int rc = atd_creds_read_file(path, TOKEN_MAX, arena, &value, err);

        if (rc)
            return rc;
    } else if (!token) {
        return 0;
    }
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] == '\r' || value.ptr[i] == '\n')
            return atd_error_set(err, EINVAL, "the token of '%s' has a line break in it", where);
        else if (value.ptr[i] < ' ' || value.ptr[i] > '~')
            return atd_error_set(err, EINVAL, "the token of '%s' is not printable ASCII", where);
    if (value.len == 0 || value.len > TOKEN_MAX - 32)
        return atd_error_set(err, EINVAL, "the token of '%s' is empty or too long", where);
    *ret_header = (struct atd_http_header){ATD_STR("Authorization"), value};
    return 0;
}

static int container_once(const struct atd_creds_env *env, const char *url, struct atd_arena *arena,
                          struct atd_credential *ret_value, struct atd_error *err)
{
    struct atd_http_header header;
    struct atd_str body;
    int status;
    int rc = container_token(env, arena, &header, err);

    if (rc == 0)
        rc = fetch(env, "GET", url, header, ATD_CREDS_CONTAINER_TIMEOUT_MS, arena, &status, &body,
                   err);
    if (rc)
        return rc;
    if (status >= 500 || status == 429)
        return atd_error_set_retryable(err, EACCES, "the service answered status %d", status);
    if (status != 200)
        return atd_error_set(err, EACCES, "the service answered status %d", status);
    return atd_creds_reply_json(body, ATD_CREDS_JSON_METADATA, arena, ret_value, err);
}

int atd_creds_container(const struct atd_creds_env *env, struct atd_arena *arena,
                        struct atd_credential *ret_value, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    char url[URL_MAX];
    int rc = container_url(env, url, err);

    if (rc)
        return rc;
    for (unsigned i = 0; i < ATD_CREDS_CONTAINER_TRIES; i++) {
        if (i > 0 && atd_creds_stopped(env, RETRY_PAUSE_MS << i))
            return atd_error_set(err, ECANCELED, "stopped");
        rc = container_once(env, url, arena, ret_value, &why);
        if (rc == 0 || !why.retryable)
            break;
    }
    if (rc && err)
        *err = why;
    return rc;
}

/* ------------------------------------------------------------------ instance */

static int imds_base(const struct atd_creds_env *env, char ret_base[URL_MAX], struct atd_error *err)
{
    const char *given = env->vars[ATD_VAR_AWS_EC2_METADATA_SERVICE_ENDPOINT];
    const char *mode = env->vars[ATD_VAR_AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE];
    size_t len;

    if (!given)
        given = mode && strcasecmp(mode, "ipv6") == 0 ? IMDS_URL_IPV6 : IMDS_URL;
    len = strlen(given);
    while (len > 0 && given[len - 1] == '/')
        len--;
    if (has_control(given) || strpbrk(given, "?#@") || len + 512 > URL_MAX ||
        (strncmp(given, "http://", 7) != 0 && strncmp(given, "https://", 8) != 0))
        return atd_error_set(err, EINVAL, "AWS_EC2_METADATA_SERVICE_ENDPOINT is no URL as in '%s'",
                             IMDS_URL);
    (void)snprintf(ret_base, URL_MAX, "%.*s", (int)len, given);
    return 0;
}

/* Sets the header to send; its name is empty for v1. */
static int imds_token(const struct atd_creds_env *env, const char *base, struct atd_arena *arena,
                      struct atd_http_header *ret_header, struct atd_error *err)
{
    const struct atd_http_header ttl = {ATD_STR("X-aws-ec2-metadata-token-ttl-seconds"),
                                        ATD_STR(IMDS_TOKEN_TTL_S)};
    char url[URL_MAX];
    struct atd_str body;
    int status;
    int rc;

    (void)snprintf(url, sizeof(url), "%.3500s%s", base, IMDS_TOKEN_PATH);
    rc = fetch(env, "PUT", url, ttl, ATD_CREDS_IMDS_TIMEOUT_MS, arena, &status, &body, err);
    if (rc == -ETIMEDOUT)
        return atd_error_wrap(err, rc,
                              "no answer (in a container, the instance's hop limit may be 1)");
    if (rc)
        return rc;
    *ret_header = (struct atd_http_header){.name = {"", 0}};
    if (status == 403 || status == 404 || status == 405) {
        if (atd_creds_var_is_true(env, ATD_VAR_AWS_EC2_METADATA_V1_DISABLED))
            return atd_error_set(err, EACCES,
                                 "the service refused a token (status %d), and "
                                 "AWS_EC2_METADATA_V1_DISABLED forbids to do without",
                                 status);
        return 0;
    }
    if (status != 200)
        return atd_error_set(err, EACCES, "the service answered status %d to a token's request",
                             status);
    if (body.len > TOKEN_MAX - 64 || !atd_creds_is_plain(body))
        return atd_error_set(err, EPROTO, "the service sent a token that cannot be used");
    *ret_header = (struct atd_http_header){ATD_STR("X-aws-ec2-metadata-token"), body};
    return 0;
}

/* The first line. Source: IAM's characters of role names. */
static int role_name(struct atd_str body, struct atd_str *ret_name, struct atd_error *err)
{
    size_t len = 0;

    while (len < body.len && body.ptr[len] != '\n' && body.ptr[len] != '\r')
        len++;
    if (len == 0 || len > ROLE_NAME_MAX)
        return atd_error_set(err, EPROTO, "the service sent no role's name");
    for (size_t i = 0; i < len; i++) {
        char byte = body.ptr[i];

        if (!((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
              (byte >= '0' && byte <= '9') || (byte && strchr("_+=,.@-", byte))))
            return atd_error_set(err, EPROTO, "the service sent no role's name");
    }
    *ret_name = atd_str_head(body, len);
    return 0;
}

static int imds_get(const struct atd_creds_env *env, const char *base, struct atd_str below,
                    struct atd_http_header header, struct atd_arena *arena,
                    struct atd_str *ret_body, struct atd_error *err)
{
    char url[URL_MAX];
    int status;
    int rc;

    (void)snprintf(url, sizeof(url), "%.3500s%s%.*s", base, IMDS_ROLE_PATH, (int)below.len,
                   below.len ? below.ptr : "");
    rc = fetch(env, "GET", url, header, ATD_CREDS_IMDS_TIMEOUT_MS, arena, &status, ret_body, err);
    if (rc)
        return rc;
    if (status == 404)
        return atd_error_set(err, ENOENT, "the instance has no role");
    if (status != 200)
        return atd_error_set(err, EACCES, "the service answered status %d", status);
    return 0;
}

int atd_creds_instance(const struct atd_creds_env *env, struct atd_arena *arena,
                       struct atd_credential *ret_value, struct atd_error *err)
{
    struct atd_http_header header;
    struct atd_str body;
    struct atd_str role;
    char base[URL_MAX];
    int rc;

    if (atd_creds_var_is_true(env, ATD_VAR_AWS_EC2_METADATA_DISABLED))
        return atd_error_set(err, EINVAL, "AWS_EC2_METADATA_DISABLED is set");
    rc = imds_base(env, base, err);
    if (rc == 0)
        rc = imds_token(env, base, arena, &header, err);
    if (rc == 0)
        rc = imds_get(env, base, (struct atd_str){"", 0}, header, arena, &body, err);
    if (rc == 0)
        rc = role_name(body, &role, err);
    if (rc == 0)
        rc = imds_get(env, base, role, header, arena, &body, err);
    return rc ? rc : atd_creds_reply_json(body, ATD_CREDS_JSON_METADATA, arena, ret_value, err);
}
