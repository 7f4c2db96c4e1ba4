/*
 * The XML of uploads in parts: what completes one, and what the server says. Source: S3-REDIS 2.1.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "net/s3_reply.h"
#include "net/s3_xml.h"

/* ------------------------------------------------------------------ the body that completes */

static void append_escaped(const char *text, struct atd_buf *out)
{
    for (; *text; text++) {
        switch (*text) {
        case '&':
            atd_buf_append_text(out, "&amp;");
            break;
        case '<':
            atd_buf_append_text(out, "&lt;");
            break;
        case '>':
            atd_buf_append_text(out, "&gt;");
            break;
        case '"':
            atd_buf_append_text(out, "&quot;");
            break;
        default:
            atd_buf_append_byte(out, (uint8_t)*text);
        }
    }
}

void atd_s3_complete_body(const struct atd_s3_part *parts, size_t count, struct atd_buf *out)
{
    atd_buf_append_text(
        out, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (size_t i = 0; i < count; i++) {
        const struct atd_s3_part *part = &parts[i];
        bool weak = strncmp(part->etag, "W/", 2) == 0;

        atd_buf_printf(out, "<Part><PartNumber>%u</PartNumber><ETag>%s&quot;", part->number,
                       weak ? "W/" : "");
        append_escaped(part->etag + (weak ? 2 : 0), out);
        atd_buf_append_text(out, "&quot;</ETag>");
        if (part->crc32c_base64[0]) {
            atd_buf_append_text(out, "<ChecksumCRC32C>");
            append_escaped(part->crc32c_base64, out);
            atd_buf_append_text(out, "</ChecksumCRC32C>");
        }
        atd_buf_append_text(out, "</Part>");
    }
    atd_buf_append_text(out, "</CompleteMultipartUpload>");
}

/* ------------------------------------------------------------------ begun */

#define WHAT_BEGUN "answer to the begin of an upload"

struct begun {
    bool has_id;
    char id[ATD_S3_UPLOAD_ID_MAX + 1];
};

/* It goes into a query and into a journal of lines. */
static bool is_upload_id(struct atd_str text)
{
    if (text.len == 0 || text.len > ATD_S3_UPLOAD_ID_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] <= ' ' || text.ptr[i] >= 0x7f)
            return false;
    return true;
}

static int on_begun_close(void *ctx, const struct atd_xml_element *element, struct atd_error *err)
{
    struct begun *begun = ctx;
    struct atd_str text = atd_xml_trim(element->text);

    if (strcmp(element->path, "InitiateMultipartUploadResult/UploadId") != 0)
        return 0;
    if (element->is_cut || !is_upload_id(text))
        return atd_error_set(err, EPROTO, WHAT_BEGUN " has no usable id");
    memcpy(begun->id, text.ptr, text.len);
    begun->id[text.len] = '\0';
    begun->has_id = true;
    return 0;
}

int atd_s3_upload_id_parse(struct atd_bytes body, char ret_id[ATD_S3_UPLOAD_ID_MAX + 1],
                           struct atd_error *err)
{
    static const struct atd_xml_ops ops = {NULL, on_begun_close};
    struct begun begun = {.has_id = false};
    int rc = atd_xml_walk(body, WHAT_BEGUN, &ops, &begun, err);

    if (rc == 0 && !begun.has_id)
        rc = atd_error_set(err, EPROTO, WHAT_BEGUN " has no id: is this an S3 service?");
    if (rc == 0)
        memcpy(ret_id, begun.id, sizeof(begun.id));
    return rc;
}

/* ------------------------------------------------------------------ completed */

#define WHAT_COMPLETED "answer to the end of an upload"

struct completed {
    bool is_result;
    bool is_error;
    char etag[ATD_ETAG_MAX + 1];
};

static void on_completed_open(void *ctx, const char *path)
{
    struct completed *completed = ctx;

    if (strcmp(path, "CompleteMultipartUploadResult") == 0)
        completed->is_result = true;
    else if (strcmp(path, "Error") == 0)
        completed->is_error = true;
}

static int on_completed_close(void *ctx, const struct atd_xml_element *element,
                              struct atd_error *err)
{
    struct completed *completed = ctx;

    (void)err;
    if (strcmp(element->path, "CompleteMultipartUploadResult/ETag") == 0 && !element->is_cut)
        atd_etag_copy(atd_xml_trim(element->text), completed->etag);
    return 0;
}

int atd_s3_complete_parse(struct atd_bytes body, char ret_etag[ATD_ETAG_MAX + 1],
                          struct atd_s3_error *ret_error, struct atd_error *err)
{
    static const struct atd_xml_ops ops = {on_completed_open, on_completed_close};
    struct completed completed = {.is_result = false};
    int rc = atd_xml_walk(body, WHAT_COMPLETED, &ops, &completed, err);

    if (rc != 0)
        return rc;
    if (completed.is_error) {
        atd_s3_error_parse(body, ret_error);
        return atd_error_set(err, EREMOTEIO, WHAT_COMPLETED " is an error (%s)",
                             ret_error->code[0] ? ret_error->code : "without a code");
    }
    if (!completed.is_result)
        return atd_error_set(err, EPROTO,
                             WHAT_COMPLETED " is another kind of XML: is this an S3 service?");
    memcpy(ret_etag, completed.etag, sizeof(completed.etag));
    return 0;
}

/* ------------------------------------------------------------------ unfinished ones */

#define WHAT "list of unfinished uploads"
#define UPLOADS_FIRST 16u

struct reading {
    struct atd_arena *arena;
    struct atd_s3_unfinished *uploads; /* UPLOADS_FIRST doubled, ATD_S3_UPLOADS_MAX at most */
    size_t count;
    size_t cap;
    struct atd_s3_unfinished now; /* the <Upload> being read */

    bool has_root;
    bool is_error;
    bool is_encoded;
    bool is_truncated;
    struct atd_str key_marker;
    struct atd_str id_marker;
};

static int add_upload(struct reading *reading, struct atd_error *err)
{
    if (reading->now.key.len == 0 || !is_upload_id(reading->now.upload_id))
        return atd_error_set(err, EPROTO, WHAT " has an upload without %s",
                             reading->now.key.len == 0 ? "a key" : "a usable id");
    if (reading->count == ATD_S3_UPLOADS_MAX)
        return atd_error_set(err, EPROTO, WHAT " has more than %u uploads", ATD_S3_UPLOADS_MAX);
    if (reading->count == reading->cap) {
        size_t cap = reading->cap ? reading->cap * 2 : UPLOADS_FIRST;
        struct atd_s3_unfinished *grown = realloc(reading->uploads, cap * sizeof(*grown));

        if (!grown)
            return atd_error_set(err, ENOMEM, WHAT ": out of memory");
        reading->uploads = grown;
        reading->cap = cap;
    }
    reading->uploads[reading->count++] = reading->now;
    return 0;
}

static void on_open(void *ctx, const char *path)
{
    struct reading *reading = ctx;

    if (strcmp(path, "ListMultipartUploadsResult") == 0)
        reading->has_root = true;
    else if (strcmp(path, "Error") == 0)
        reading->is_error = true;
    else if (strcmp(path, "ListMultipartUploadsResult/Upload") == 0)
        memset(&reading->now, 0, sizeof(reading->now));
}

static int on_close(void *ctx, const struct atd_xml_element *element, struct atd_error *err)
{
    static const char root[] = "ListMultipartUploadsResult/";
    struct reading *reading = ctx;
    struct atd_str text = atd_xml_trim(element->text);
    struct atd_str *to = NULL;
    const char *name;

    if (strncmp(element->path, root, strlen(root)) != 0)
        return 0;
    name = element->path + strlen(root);
    if (strcmp(name, "Upload") == 0)
        return add_upload(reading, err);
    if (strcmp(name, "Upload/Key") == 0)
        to = &reading->now.key;
    else if (strcmp(name, "Upload/UploadId") == 0)
        to = &reading->now.upload_id;
    else if (strcmp(name, "Upload/Initiated") == 0 &&
             !atd_clock_parse(text, &reading->now.begun_s))
        reading->now.begun_s = 0;
    else if (strcmp(name, "NextKeyMarker") == 0)
        to = &reading->key_marker;
    else if (strcmp(name, "NextUploadIdMarker") == 0)
        to = &reading->id_marker;
    else if (strcmp(name, "EncodingType") == 0)
        reading->is_encoded = atd_str_equal(text, ATD_STR("url"));
    else if (strcmp(name, "IsTruncated") == 0)
        reading->is_truncated = atd_str_equal(text, ATD_STR("true"));
    return to ? atd_xml_copy(element, WHAT, reading->arena, to, err) : 0;
}

static int finish(struct reading *reading, struct atd_s3_uploads *ret_uploads,
                  struct atd_error *err)
{
    struct atd_s3_uploads list = {NULL, reading->count, reading->is_truncated, reading->key_marker,
                                  reading->id_marker};
    bool ok = true;

    if (!reading->has_root)
        return atd_error_set(err, EPROTO, WHAT " is %s",
                             reading->is_error ? "an error"
                                               : "another kind of XML: is this an S3 service?");
    if (list.is_truncated && list.next_key_marker.len == 0)
        return atd_error_set(err, EPROTO, WHAT " says that it goes on, but not where");
    list.uploads = atd_arena_alloc_array(reading->arena, reading->count, sizeof(*list.uploads));
    if (!list.uploads)
        return atd_error_set(err, ENOMEM, WHAT ": out of memory");
    if (reading->count)
        memcpy(list.uploads, reading->uploads, reading->count * sizeof(*list.uploads));
    for (size_t i = 0; ok && reading->is_encoded && i < list.count; i++)
        ok = atd_xml_decode_form(list.uploads[i].key, reading->arena, &list.uploads[i].key);
    if (ok && reading->is_encoded)
        ok = atd_xml_decode_form(list.next_key_marker, reading->arena, &list.next_key_marker);
    if (!ok)
        return atd_error_set(err, ENOMEM, WHAT ": out of memory");
    *ret_uploads = list;
    return 0;
}

int atd_s3_uploads_parse(struct atd_bytes body, struct atd_arena *arena,
                         struct atd_s3_uploads *ret_uploads, struct atd_error *err)
{
    static const struct atd_xml_ops ops = {on_open, on_close};
    struct reading reading = {.arena = arena};
    int rc = atd_xml_walk(body, WHAT, &ops, &reading, err);

    if (rc == 0)
        rc = finish(&reading, ret_uploads, err);
    free(reading.uploads);
    return rc;
}
