#include "store/range_check.h"

#include "net/s3_reply.h"

static bool is_weak(const char *etag)
{
    return etag[0] == 'W' && etag[1] == '/';
}

/* Without "W/" and the quotes that a weak one may have kept. */
static struct atd_str opaque_part(const char *etag)
{
    struct atd_str part = atd_str_from(is_weak(etag) ? etag + 2 : etag);

    if (part.len >= 2 && part.ptr[0] == '"' && part.ptr[part.len - 1] == '"')
        part = (struct atd_str){part.ptr + 1, part.len - 2};
    return part;
}

bool atd_same_version(const struct atd_object_info *a, const struct atd_object_info *b)
{
    if (a->size_bytes != b->size_bytes)
        return false;
    if (a->etag[0] && b->etag[0]) {
        if (!atd_str_equal(opaque_part(a->etag), opaque_part(b->etag)))
            return false;
        if (!is_weak(a->etag) && !is_weak(b->etag))
            return true;
    }
    return !a->mtime_s || !b->mtime_s || a->mtime_s == b->mtime_s;
}

void atd_if_match_text(const struct atd_object_info *info, char ret_text[ATD_ETAG_MAX + 3])
{
    size_t len = strnlen(info->etag, ATD_ETAG_MAX);

    ret_text[0] = '\0';
    if (len == 0 || is_weak(info->etag))
        return;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)info->etag[i];

        if (byte <= 0x20 || byte == '"' || byte == 0x7f)
            return;
    }
    ret_text[0] = '"';
    memcpy(ret_text + 1, info->etag, len);
    ret_text[len + 1] = '"';
    ret_text[len + 2] = '\0';
}

/* Not every server says in a 416 how long the object is (MinIO does not). */
static enum atd_range_outcome check_unsatisfied(const struct atd_http_head *head, uint64_t end,
                                                const struct atd_object_info *expect,
                                                struct atd_object_info *info)
{
    struct atd_str value = atd_http_head_find(head, "content-range");
    uint64_t first;
    uint64_t last;

    if (value.ptr && (!atd_content_range_parse(value, &first, &last, &info->size_bytes) ||
                      info->size_bytes >= end))
        return ATD_RANGE_WRONG;
    return expect ? ATD_RANGE_CHANGED : ATD_RANGE_SHORT;
}

static enum atd_range_outcome check_part(const struct atd_http_head *head, uint64_t first,
                                         uint64_t end, const struct atd_object_info *expect,
                                         struct atd_object_info *info)
{
    struct atd_str value = atd_http_head_find(head, "content-range");
    uint64_t got_first;
    uint64_t got_last;

    if (!value.ptr || !atd_content_range_parse(value, &got_first, &got_last, &info->size_bytes))
        return ATD_RANGE_WRONG;
    if (expect && !atd_same_version(info, expect))
        return ATD_RANGE_CHANGED;
    if (info->size_bytes < end)
        return ATD_RANGE_SHORT;
    if (got_first != first || got_last != end - 1)
        return ATD_RANGE_WRONG;
    if (head->content_length >= 0 && (uint64_t)head->content_length != end - first)
        return ATD_RANGE_WRONG;
    return ATD_RANGE_RIGHT;
}

enum atd_range_outcome atd_range_check(const struct atd_http_head *head, uint64_t first,
                                       uint64_t end, const struct atd_object_info *expect,
                                       struct atd_object_info *ret_info)
{
    bool has_size;

    *ret_info = (struct atd_object_info){0};
    has_size = atd_object_info_from_head(head, ret_info);
    if (head->status == 206)
        return check_part(head, first, end, expect, ret_info);
    if (head->status == 416)
        return check_unsatisfied(head, end, expect, ret_info);
    if (head->status != 200)
        return ATD_RANGE_WRONG;
    /* The whole object. Without its length nothing of it can be checked before it is too late. */
    if (!has_size || head->content_length < 0)
        return ATD_RANGE_IGNORED;
    ret_info->size_bytes = (uint64_t)head->content_length;
    if (expect && ret_info->size_bytes != expect->size_bytes) {
        /* Only its ETag says that this is the object, and not a page of some proxy or an error
         * that was called a success. */
        return ret_info->etag[0] && expect->etag[0] &&
                       !atd_str_equal(opaque_part(ret_info->etag), opaque_part(expect->etag))
                   ? ATD_RANGE_CHANGED
                   : ATD_RANGE_WRONG;
    }
    if (expect && !atd_same_version(ret_info, expect))
        return ATD_RANGE_CHANGED;
    if (ret_info->size_bytes < end)
        return ATD_RANGE_SHORT;
    return first == 0 && ret_info->size_bytes == end ? ATD_RANGE_RIGHT : ATD_RANGE_IGNORED;
}
