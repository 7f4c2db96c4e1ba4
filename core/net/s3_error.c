/*
 * Errors of S3: the document, and what it means. Source: S3-REDIS 1.4, 1.5, 2.6, 4.
 */
#include <errno.h>
#include <stdio.h>

#include "base/check.h"
#include "base/utf8.h"
#include "net/s3_reply.h"
#include "net/s3_xml.h"

#define SKEW_MAX_S (15 * 60)

/* ------------------------------------------------------------------ the document */

static bool is_name(struct atd_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!memchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._",
                    text.ptr[i], 65))
            return false;
    return text.len > 0;
}

/* All or nothing: half a name is another name. */
static void copy_name(struct atd_str text, char *to, size_t size)
{
    to[0] = '\0';
    if (text.len >= size || !is_name(text))
        return;
    memcpy(to, text.ptr, text.len);
    to[text.len] = '\0';
}

static bool contains(struct atd_str text, const char *part)
{
    return text.len && memmem(text.ptr, text.len, part, strlen(part));
}

static void copy_message(struct atd_str text, char *to, size_t size)
{
    size_t len = 0;

    /* Some servers send back what they got. */
    if (contains(text, "Signature=") || contains(text, "AWS4-HMAC") ||
        contains(text, "ecurity-Token") || contains(text, "ecurity-token"))
        text.len = 0;
    for (size_t i = 0; i < text.len;) {
        size_t step = atd_utf8_step((const uint8_t *)text.ptr + i, text.len - i);
        unsigned char c = (unsigned char)text.ptr[i];

        if (len + (step ? step : 1) >= size)
            break;
        if (step > 1)
            memcpy(to + len, text.ptr + i, step);
        else
            to[len] = (char)(step == 0 || c < ' ' || c == 0x7f ? ' ' : c);
        step = step ? step : 1;
        len += step;
        i += step;
    }
    to[len] = '\0';
}

struct reading {
    struct atd_s3_error error;
};

static int on_close(void *ctx, const struct atd_xml_element *element, struct atd_error *err)
{
    struct reading *reading = ctx;
    const char *path = element->path;

    (void)err;
    /* STS puts one more element around. */
    if (strncmp(path, "ErrorResponse/", 14) == 0)
        path += 14;
    if (strcmp(path, "Error/Code") == 0)
        copy_name(element->text, reading->error.code, sizeof(reading->error.code));
    else if (strcmp(path, "Error/Message") == 0)
        copy_message(element->text, reading->error.message, sizeof(reading->error.message));
    else if (strcmp(path, "Error/Region") == 0)
        copy_name(element->text, reading->error.region, sizeof(reading->error.region));
    return 0;
}

void atd_s3_error_parse(struct atd_bytes body, struct atd_s3_error *ret_error)
{
    static const struct atd_xml_ops ops = {NULL, on_close};
    struct reading reading = {{"", "", ""}};

    memset(ret_error, 0, sizeof(*ret_error));
    if (body.len > 0 && atd_xml_walk(body, "error reply", &ops, &reading, NULL) == 0)
        *ret_error = reading.error;
}

/* ------------------------------------------------------------------ what it means */

/* What follows the name of the object, or of its bucket. */
struct meaning {
    const char *code; /* of S3; NULL: any, by the status */
    int status;       /* 0: any */
    enum atd_s3_trouble trouble;
    int error;
    bool about_bucket;
    const char *text;
};

#define FINAL ATD_S3_TROUBLE_FINAL
#define PASSING ATD_S3_TROUBLE_PASSING
#define THROTTLED ATD_S3_TROUBLE_THROTTLED
#define CLOCK ATD_S3_TROUBLE_CLOCK
#define REGION ATD_S3_TROUBLE_REGION
#define CREDENTIALS ATD_S3_TROUBLE_CREDENTIALS

#define FORBIDDEN "may not be @ with these credentials"
#define BUSY "cannot be @ now: the server asks to slow down"
#define FAILED "cannot be @ now: the server failed"
#define KEYS_WRONG ": check the access key and its secret"
#define EXPIRED "cannot be @: the credentials have expired; renew them"
#define DAMAGED "cannot be @ now: it was damaged on its way"
#define ELSEWHERE "cannot be @: it is in another region than the one configured"

/* The one table; '@' stands for what was wanted, "read" or "written". Codes first, then what a
 * status alone says; the first that fits counts. */
static const struct meaning meanings[] = {
    {"NoSuchKey", 0, FINAL, ENOENT, false, "does not exist"},
    {"NoSuchVersion", 0, FINAL, ENOENT, false, "does not exist in this version"},
    {"NoSuchBucket", 0, FINAL, ENOENT, true, "does not exist"},
    {"InvalidBucketName", 0, FINAL, EINVAL, true, "cannot exist: the server refuses the name"},
    {"KeyTooLongError", 0, FINAL, ENAMETOOLONG, false, "has a key that is too long"},
    {"XMinioInvalidObjectName", 0, FINAL, EINVAL, false,
     "cannot exist: MinIO refuses keys with '.', '..' or nothing between slashes"},
    {"XMinioInvalidResourceName", 0, FINAL, EINVAL, false,
     "cannot exist: MinIO refuses keys with '.', '..' or nothing between slashes"},

    {"AccessDenied", 0, FINAL, EACCES, false, FORBIDDEN},
    {"AllAccessDisabled", 0, FINAL, EACCES, false, "may not be @: the owner disabled access"},
    {"AccountProblem", 0, FINAL, EACCES, false,
     "may not be @: there is a problem with the account of these credentials"},
    {"NotSignedUp", 0, FINAL, EACCES, false,
     "may not be @: the account of these credentials has no S3"},
    {"InvalidAccessKeyId", 0, FINAL, EACCES, false,
     "may not be @: the server does not know the access key; check it, and that it belongs to "
     "this endpoint"},
    {"SignatureDoesNotMatch", 0, FINAL, EACCES, false,
     "may not be @: the secret does not fit the access key" KEYS_WRONG},
    {"InvalidSecurity", 0, FINAL, EACCES, false,
     "may not be @: the credentials are refused" KEYS_WRONG},
    {"InvalidObjectState", 0, FINAL, EIO, false,
     "is archived (Glacier or the like): restore it before it can be read"},

    {"ExpiredToken", 0, CREDENTIALS, EACCES, false, EXPIRED},
    {"ExpiredTokenException", 0, CREDENTIALS, EACCES, false, EXPIRED},
    {"TokenRefreshRequired", 0, CREDENTIALS, EACCES, false, EXPIRED},
    {"InvalidToken", 0, CREDENTIALS, EACCES, false,
     "may not be @: the session token is refused; renew the credentials"},

    {"RequestTimeTooSkewed", 0, CLOCK, EACCES, false,
     "cannot be @: the clock of this machine is wrong; set it"},

    {"PermanentRedirect", 0, REGION, EIO, true, ELSEWHERE},
    {"AuthorizationHeaderMalformed", 0, REGION, EIO, true, ELSEWHERE},
    {"IllegalLocationConstraintException", 0, REGION, EIO, true, ELSEWHERE},
    {"InvalidRegion", 0, REGION, EIO, true, ELSEWHERE},

    {"PreconditionFailed", 0, FINAL, ESTALE, false, "has changed since it was looked up"},
    {"InvalidRange", 0, FINAL, ESTALE, false, "is shorter than it was when it was looked up"},

    {"SlowDown", 0, THROTTLED, EIO, false, BUSY},
    {"SlowDownRead", 0, THROTTLED, EIO, false, BUSY},
    {"SlowDownWrite", 0, THROTTLED, EIO, false, BUSY},
    {"Throttling", 0, THROTTLED, EIO, false, BUSY},
    {"ThrottlingException", 0, THROTTLED, EIO, false, BUSY},
    {"ThrottledException", 0, THROTTLED, EIO, false, BUSY},
    {"RequestThrottled", 0, THROTTLED, EIO, false, BUSY},
    {"RequestThrottledException", 0, THROTTLED, EIO, false, BUSY},
    {"RequestLimitExceeded", 0, THROTTLED, EIO, false, BUSY},
    {"BandwidthLimitExceeded", 0, THROTTLED, EIO, false, BUSY},
    {"TooManyRequests", 0, THROTTLED, EIO, false, BUSY},
    {"TooManyRequestsException", 0, THROTTLED, EIO, false, BUSY},
    {"ServiceUnavailable", 0, THROTTLED, EIO, false, BUSY},
    {"InternalError", 0, PASSING, EIO, false, FAILED},
    {"InternalErrors", 0, PASSING, EIO, false, FAILED},
    {"RequestTimeout", 0, PASSING, EIO, false, "cannot be @ now: the server waited too long"},
    {"RequestTimeoutException", 0, PASSING, EIO, false,
     "cannot be @ now: the server waited too long"},
    {"PriorRequestNotComplete", 0, PASSING, EIO, false, FAILED},
    {"OperationAborted", 0, PASSING, EIO, false,
     "cannot be @ now: something else is being done to it"},
    {"ConditionalRequestConflict", 0, PASSING, EIO, false,
     "cannot be @ now: something else is being done to it"},
    {"XMinioServerNotInitialized", 0, PASSING, EIO, false,
     "cannot be @ now: the server is starting"},
    {"TemporaryRedirect", 0, PASSING, EIO, true,
     "cannot be @ now: the name of its server is not known everywhere yet"},
    {"NotImplemented", 0, FINAL, EOPNOTSUPP, false, "cannot be @: the server lacks the function"},

    {NULL, 301, REGION, EIO, true, ELSEWHERE},
    {NULL, 307, REGION, EIO, true, ELSEWHERE},
    {NULL, 401, FINAL, EACCES, false, FORBIDDEN},
    {NULL, 403, FINAL, EACCES, false, FORBIDDEN},
    {NULL, 404, FINAL, ENOENT, false, "does not exist"},
    {NULL, 410, FINAL, ENOENT, false, "does not exist any more"},
    {NULL, 412, FINAL, ESTALE, false, "has changed since it was looked up"},
    {NULL, 416, FINAL, ESTALE, false, "is shorter than it was when it was looked up"},
    {NULL, 408, PASSING, EIO, false, "cannot be @ now: the server waited too long"},
    {NULL, 429, THROTTLED, EIO, false, BUSY},
    {NULL, 499, PASSING, EIO, false, FAILED},
    {NULL, 501, FINAL, EOPNOTSUPP, false, "cannot be @: the server lacks the function"},
    {NULL, 503, THROTTLED, EIO, false, BUSY},
};

/* Of operations that write, looked at before the other one. */
static const struct meaning write_meanings[] = {
    {"PreconditionFailed", 0, FINAL, EEXIST, false, "exists already"},
    {"NoSuchUpload", 0, FINAL, ENOENT, false,
     "has no such upload any more: it was aborted, or is complete"},
    {"InvalidPart", 0, FINAL, EIO, false, "cannot be @: the server lacks one of its parts"},
    {"InvalidPartOrder", 0, FINAL, EIO, false, "cannot be @: its parts are out of order"},
    {"EntityTooSmall", 0, FINAL, EIO, false,
     "cannot be @: the server wants larger parts than it was sent"},
    {"EntityTooLarge", 0, FINAL, EFBIG, false, "cannot be @: it is too large for the server"},
    {"XMinioStorageFull", 0, FINAL, ENOSPC, false, "cannot be @: the server's disks are full"},
    {"XMinioAdminBucketQuotaExceeded", 0, FINAL, ENOSPC, true, "has used up its quota"},
    {"QuotaExceeded", 0, FINAL, ENOSPC, true, "has used up its quota"},
    {"QuotaExceededException", 0, FINAL, ENOSPC, true, "has used up its quota"},
    {"MethodNotAllowed", 0, FINAL, EACCES, false, "may not be @: the server refuses the method"},
    /* Damaged on its way: sent again it may come whole. */
    {"BadDigest", 0, PASSING, EIO, false, DAMAGED},
    {"InvalidDigest", 0, PASSING, EIO, false, DAMAGED},
    {"XAmzContentChecksumMismatch", 0, PASSING, EIO, false, DAMAGED},
    {"XAmzContentSHA256Mismatch", 0, PASSING, EIO, false, DAMAGED},
    {"IncompleteBody", 0, PASSING, EIO, false, DAMAGED},

    /* 304: MinIO before 2024-04-18. */
    {NULL, 304, FINAL, EEXIST, false, "exists already"},
    {NULL, 412, FINAL, EEXIST, false, "exists already"},
    {NULL, 405, FINAL, EACCES, false, "may not be @: the server refuses the method"},
    {NULL, 413, FINAL, EFBIG, false, "cannot be @: it is too large for the server"},
    {NULL, 507, FINAL, ENOSPC, false, "cannot be @: the server has no space left"},
};

static const struct meaning server_failed = {NULL, 0, PASSING, EIO, false, FAILED};
static const struct meaning refused = {NULL, 0,     FINAL,
                                       EIO,  false, "cannot be @: the server refuses the request"};

static const struct meaning *find_in(const struct meaning *table, size_t count, const char *code,
                                     int status)
{
    for (size_t i = 0; i < count; i++) {
        const struct meaning *meaning = &table[i];

        if (meaning->code ? strcmp(meaning->code, code) == 0 : meaning->status == status)
            return meaning;
    }
    return NULL;
}

static bool is_write(enum atd_s3_operation operation)
{
    return operation != ATD_S3_GET && operation != ATD_S3_HEAD && operation != ATD_S3_LIST &&
           operation != ATD_S3_LIST_UPLOADS;
}

static const struct meaning *find_meaning(enum atd_s3_operation operation, const char *code,
                                          int status)
{
    const struct meaning *meaning = NULL;

    if (is_write(operation))
        meaning = find_in(write_meanings, ATD_ARRAY_LEN(write_meanings), code, status);
    if (!meaning)
        meaning = find_in(meanings, ATD_ARRAY_LEN(meanings), code, status);
    if (meaning)
        return meaning;
    return status >= 500 ? &server_failed : &refused;
}

/* Only the reply to a HEAD, or a server's that says nothing. */
static bool clock_is_off(const struct atd_http_head *head, int64_t local_now_s)
{
    int64_t off;

    if (head->date_s <= 0)
        return false;
    off = head->date_s > local_now_s ? head->date_s - local_now_s : local_now_s - head->date_s;
    return off > SKEW_MAX_S;
}

static const struct meaning *by_code(const char *code)
{
    const struct meaning *meaning = find_meaning(ATD_S3_GET, code, 0);

    atd_assert(meaning->code);
    return meaning;
}

/* The region that the reply names, header before document; "" for none. */
static void find_region(const struct atd_http_head *head, const struct atd_s3_error *error,
                        char ret_region[64])
{
    copy_name(atd_http_head_find(head, "x-amz-bucket-region"), ret_region, 64);
    if (!ret_region[0])
        (void)snprintf(ret_region, 64, "%s", error->region);
}

/* "bucket 'b' of 's3://b/k'", when `what` is that; else `what`. */
static void name_bucket(const char *what, char *to, size_t size)
{
    static const char scheme[] = "'s3://";
    const char *bucket = what + strlen(scheme);

    if (strncmp(what, scheme, strlen(scheme)) == 0)
        (void)snprintf(to, size, "bucket '%.*s' of %s", (int)strcspn(bucket, "/'"), bucket, what);
    else
        (void)snprintf(to, size, "the bucket of %s", what);
}

static const char *participle(enum atd_s3_operation operation)
{
    if (operation == ATD_S3_DELETE)
        return "deleted";
    return is_write(operation) ? "written" : "read";
}

static void set_error(enum atd_s3_operation operation, const struct meaning *meaning,
                      const struct atd_http_head *head, const struct atd_s3_error *error,
                      const char *what, const char *region, struct atd_error *err)
{
    char subject[ATD_ERROR_TEXT_MAX];
    char source[80];
    bool passing = meaning->trouble == PASSING || meaning->trouble == THROTTLED;
    bool told = !meaning->code && error->message[0];
    int before = (int)strcspn(meaning->text, "@");
    const char *after = meaning->text + before;
    const char *verb = after[0] ? participle(operation) : "";

    if (meaning->about_bucket)
        name_bucket(what, subject, sizeof(subject));
    else
        (void)snprintf(subject, sizeof(subject), "%s", what);
    if (error->code[0])
        (void)snprintf(source, sizeof(source), "%s", error->code);
    else
        (void)snprintf(source, sizeof(source), "HTTP status %d", head->status);
    (passing ? atd_error_set_retryable
             : atd_error_set)(err, meaning->error, "%s %.*s%s%s%s%s (%s%s%s)", subject, before,
                              meaning->text, verb, after[0] ? after + 1 : "", region[0] ? ", " : "",
                              region, source, told ? ": " : "", told ? error->message : "");
}

static enum atd_s3_trouble classify(enum atd_s3_operation operation,
                                    const struct atd_http_head *head, struct atd_bytes body,
                                    const char *what, int64_t local_now_s, char ret_region[64],
                                    struct atd_error *err)
{
    struct atd_s3_error error;
    const struct meaning *meaning;
    enum atd_s3_trouble trouble;

    atd_s3_error_parse(body, &error);
    meaning = find_meaning(operation, error.code, head->status);
    ret_region[0] = '\0';
    if (!error.code[0] && head->status == 403 && clock_is_off(head, local_now_s))
        meaning = by_code("RequestTimeTooSkewed");
    if (meaning->trouble == REGION || (!error.code[0] && head->status == 400)) {
        find_region(head, &error, ret_region);
        if (ret_region[0])
            meaning = meaning->trouble == REGION ? meaning : by_code("PermanentRedirect");
    }
    trouble = meaning->trouble;
    /* Without knowing what to correct there is nothing to correct. */
    if ((trouble == REGION && !ret_region[0]) || (trouble == CLOCK && head->date_s <= 0))
        trouble = FINAL;
    set_error(operation, meaning, head, &error, what, ret_region, err);
    return trouble;
}

enum atd_s3_trouble atd_s3_error_classify(const struct atd_http_head *head, struct atd_bytes body,
                                          const char *what, int64_t local_now_s,
                                          char ret_region[64], struct atd_error *err)
{
    return classify(ATD_S3_GET, head, body, what, local_now_s, ret_region, err);
}

enum atd_s3_trouble atd_s3_write_error_classify(enum atd_s3_operation operation,
                                                const struct atd_http_head *head,
                                                struct atd_bytes body, const char *what,
                                                int64_t local_now_s, char ret_region[64],
                                                struct atd_error *err)
{
    return classify(operation, head, body, what, local_now_s, ret_region, err);
}

bool atd_s3_checksum_refused(const struct atd_http_head *head, struct atd_bytes body)
{
    struct atd_s3_error error;

    atd_s3_error_parse(body, &error);
    return head->status == 501 || strcmp(error.code, "NotImplemented") == 0 ||
           (head->status == 400 && (strcmp(error.code, "InvalidRequest") == 0 ||
                                    strcmp(error.code, "InvalidArgument") == 0));
}
