/* The head of a reply: status line and header lines, bounded and copied. */
#include <strings.h>

#include "net/http_exchange.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct atd_str trim(struct atd_str s)
{
    while (s.len > 0 && is_space(s.ptr[0]))
        s = atd_str_from_byte(s, 1);
    while (s.len > 0 && is_space(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

static bool name_is(struct atd_str name, const char *wanted)
{
    return name.len == strlen(wanted) && strncasecmp(name.ptr, wanted, name.len) == 0;
}

/* Digits only; false for anything else and above the range of int64_t. */
static bool read_length(struct atd_str text, int64_t *ret_length)
{
    int64_t length = 0;

    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9' || length > (INT64_MAX - 9) / 10)
            return false;
        length = 10 * length + (text.ptr[i] - '0');
    }
    *ret_length = length;
    return true;
}

/* "HTTP/1.1 206 Partial Content"; 0 when it says nothing. curl has checked the form. */
static int read_status(struct atd_str line)
{
    ptrdiff_t space = atd_str_find(line, ' ');
    int status = 0;

    if (space < 0)
        return 0;
    for (size_t i = (size_t)space + 1; i < line.len && i < (size_t)space + 4; i++) {
        if (line.ptr[i] < '0' || line.ptr[i] > '9')
            return 0;
        status = 10 * status + (line.ptr[i] - '0');
    }
    return status;
}

static void begin_reply(struct atd_http_intake *intake, struct atd_str line)
{
    intake->in_head = true;
    intake->head.status = read_status(line);
    intake->head.header_count = 0;
    intake->head.content_length = -1;
    intake->head.date_s = 0;
    intake->used = 0;
    intake->has_location = false;
    intake->has_transfer_encoding = false;
}

void atd_http_intake_reset(struct atd_http_intake *intake)
{
    begin_reply(intake, ATD_STR(""));
    intake->in_head = false;
    intake->all_bytes = 0;
}

/* What the engine itself wants to know of a header; its copy is terminated. */
static const char *note_header(struct atd_http_intake *intake, const struct atd_http_header *header)
{
    struct atd_http_head *head = &intake->head;
    int64_t length;

    if (name_is(header->name, "content-length")) {
        if (!read_length(header->value, &length))
            return "the reply's Content-Length is not a number";
        if (head->content_length >= 0 && head->content_length != length)
            return "the reply has two different lengths";
        head->content_length = length;
    } else if (name_is(header->name, "date")) {
        time_t date = curl_getdate(header->value.ptr, NULL);

        head->date_s = date > 0 ? (int64_t)date : 0;
    } else if (name_is(header->name, "location")) {
        intake->has_location = true;
    } else if (name_is(header->name, "transfer-encoding")) {
        intake->has_transfer_encoding = true;
    }
    return NULL;
}

/* A copy with a terminator, or NULL when the block is full. */
static char *keep(struct atd_http_intake *intake, struct atd_str text)
{
    char *place = intake->bytes + intake->used;

    if (text.len + 1 > ATD_HTTP_HEADER_BYTES_MAX - intake->used)
        return NULL;
    memcpy(place, text.ptr, text.len);
    place[text.len] = '\0';
    intake->used += text.len + 1;
    return place;
}

enum atd_http_intake_step atd_http_intake_line(struct atd_http_intake *intake, struct atd_str line,
                                               const char **ret_why)
{
    struct atd_http_head *head = &intake->head;
    struct atd_http_header *header;
    ptrdiff_t colon;

    intake->all_bytes += line.len;
    *ret_why = "the reply's headers are too long";
    if (intake->all_bytes > ATD_HTTP_ALL_HEADER_BYTES_MAX)
        return ATD_INTAKE_BAD;
    if (!intake->in_head) {
        begin_reply(intake, line);
        return ATD_INTAKE_MORE;
    }
    if (trim(line).len == 0) {
        intake->in_head = false;
        if (intake->has_transfer_encoding)
            head->content_length = -1; /* it does not count then */
        return ATD_INTAKE_END;
    }
    colon = atd_str_find(line, ':');
    if (colon <= 0 || is_space(line.ptr[0]))
        return ATD_INTAKE_MORE; /* a folded or broken line: nothing that we ask for */
    *ret_why = "the reply has too many headers";
    if (head->header_count == ATD_HTTP_HEADERS_MAX)
        return ATD_INTAKE_BAD;
    header = &head->headers[head->header_count];
    header->name = trim(atd_str_head(line, (size_t)colon));
    header->value = trim(atd_str_from_byte(line, (size_t)colon + 1));
    header->name.ptr = keep(intake, header->name);
    header->value.ptr = keep(intake, header->value);
    *ret_why = "the reply's headers are too long";
    if (!header->name.ptr || !header->value.ptr)
        return ATD_INTAKE_BAD;
    head->header_count++;
    *ret_why = note_header(intake, header);
    return *ret_why ? ATD_INTAKE_BAD : ATD_INTAKE_MORE;
}
