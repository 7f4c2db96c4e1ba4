#include "net/s3_reply.h"

#include <curl/curl.h>
#include <stdint.h>

#define DATE_BYTES_MAX 64u

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static void skip_blanks(struct atd_str *rest)
{
    while (rest->len && (rest->ptr[0] == ' ' || rest->ptr[0] == '\t'))
        *rest = atd_str_from_byte(*rest, 1);
}

static bool take_byte(struct atd_str *rest, char byte)
{
    if (rest->len == 0 || rest->ptr[0] != byte)
        return false;
    *rest = atd_str_from_byte(*rest, 1);
    return true;
}

/* No more than a file offset can be. */
static bool take_number(struct atd_str *rest, uint64_t *ret_number)
{
    uint64_t number = 0;
    size_t len = 0;

    for (; len < rest->len && rest->ptr[len] >= '0' && rest->ptr[len] <= '9'; len++) {
        unsigned digit = (unsigned)(rest->ptr[len] - '0');

        if (number > ((uint64_t)INT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    *rest = atd_str_from_byte(*rest, len);
    *ret_number = number;
    return len > 0;
}

bool atd_content_range_parse(struct atd_str value, uint64_t *ret_first, uint64_t *ret_last,
                             uint64_t *ret_total)
{
    static const char unit[] = "bytes";
    struct atd_str rest = value;
    uint64_t first = 1;
    uint64_t last = 0;
    uint64_t total;
    bool unsatisfied;

    skip_blanks(&rest);
    for (size_t i = 0; unit[i]; i++) {
        if (rest.len == 0 || lower(rest.ptr[0]) != unit[i])
            return false;
        rest = atd_str_from_byte(rest, 1);
    }
    if (rest.len == 0 || (rest.ptr[0] != ' ' && rest.ptr[0] != '\t'))
        return false;
    skip_blanks(&rest);
    unsatisfied = take_byte(&rest, '*');
    if (!unsatisfied &&
        (!take_number(&rest, &first) || !take_byte(&rest, '-') || !take_number(&rest, &last)))
        return false;
    if (!take_byte(&rest, '/') || !take_number(&rest, &total))
        return false;
    skip_blanks(&rest);
    if (rest.len > 0 || (!unsatisfied && (first > last || last >= total)))
        return false;
    *ret_first = first;
    *ret_last = last;
    *ret_total = total;
    return true;
}

void atd_etag_copy(struct atd_str text, char ret_etag[ATD_ETAG_MAX + 1])
{
    bool weak = atd_str_starts_with(text, ATD_STR("W/"));
    struct atd_str tag = atd_str_from_byte(text, weak ? 2 : 0);
    size_t start = weak ? 2 : 0;

    ret_etag[0] = '\0';
    if (tag.len >= 2 && tag.ptr[0] == '"' && tag.ptr[tag.len - 1] == '"')
        tag = (struct atd_str){tag.ptr + 1, tag.len - 2};
    if (tag.len == 0 || start + tag.len > ATD_ETAG_MAX)
        return;
    /* What could not stand between quotes in If-Match is of no use. */
    for (size_t i = 0; i < tag.len; i++)
        if (tag.ptr[i] <= ' ' || tag.ptr[i] >= 0x7f || tag.ptr[i] == '"')
            return;
    memcpy(ret_etag, text.ptr, start);
    memcpy(ret_etag + start, tag.ptr, tag.len);
    ret_etag[start + tag.len] = '\0';
}

/* 0 when it is not a date. */
static int64_t read_date(struct atd_str value)
{
    char text[DATE_BYTES_MAX];
    time_t when;

    if (value.len == 0 || value.len >= sizeof(text))
        return 0;
    memcpy(text, value.ptr, value.len);
    text[value.len] = '\0';
    when = curl_getdate(text, NULL);
    return when > 0 ? (int64_t)when : 0;
}

/* Of another length it is nobody's of ours. */
static void read_maker(struct atd_str value, char ret_maker[ATD_MAKER_LEN + 1])
{
    if (value.len != ATD_MAKER_LEN)
        return;
    memcpy(ret_maker, value.ptr, value.len);
    ret_maker[value.len] = '\0';
}

bool atd_object_info_from_head(const struct atd_http_head *head, struct atd_object_info *ret_info)
{
    struct atd_object_info info = {.size_bytes = 0};

    if (head->status == 206) {
        uint64_t first;
        uint64_t last;

        if (!atd_content_range_parse(atd_http_head_find(head, "content-range"), &first, &last,
                                     &info.size_bytes) ||
            first > last)
            return false;
    } else {
        if (head->status != 200 || head->content_length < 0)
            return false;
        info.size_bytes = (uint64_t)head->content_length;
    }
    atd_etag_copy(atd_http_head_find(head, "etag"), info.etag);
    info.mtime_s = read_date(atd_http_head_find(head, "last-modified"));
    read_maker(atd_http_head_find(head, ATD_S3_MAKER_HEADER), info.maker);
    *ret_info = info;
    return true;
}
