/*
 * Any bytes, line by line, as the heads of replies.
 */
#include <stdlib.h>

#include "net/http_exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char block[ATD_HTTP_HEADER_BYTES_MAX];
static struct atd_http_intake intake;

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool is_in_block(struct atd_str text)
{
    return text.ptr >= block && text.ptr + text.len < block + sizeof(block) &&
           text.ptr[text.len] == '\0';
}

static void look(const struct atd_http_head *head)
{
    require(head->status >= 0 && head->status <= 999);
    require(head->header_count <= ATD_HTTP_HEADERS_MAX);
    require(head->content_length >= -1 && head->date_s >= 0);
    for (size_t i = 0; i < head->header_count; i++) {
        require(is_in_block(head->headers[i].name) && is_in_block(head->headers[i].value));
        require(head->headers[i].name.len == 0 || head->headers[i].name.ptr[0] != ' ');
    }
    require(!head->header_count || atd_http_head_find(head, head->headers[0].name.ptr).ptr ||
            memchr(head->headers[0].name.ptr, '\0', head->headers[0].name.len));
    (void)atd_http_head_find(head, "content-range");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_str left = {(const char *)data, size};

    intake.bytes = block;
    atd_http_intake_reset(&intake);
    while (left.len > 0) {
        ptrdiff_t end = atd_str_find(left, '\n');
        size_t len = end < 0 ? left.len : (size_t)end + 1;
        /* Its own allocation, so that a look past its end shows. */
        char *line = malloc(len);
        const char *why = NULL;
        enum atd_http_intake_step step;

        require(line);
        memcpy(line, left.ptr, len);
        step = atd_http_intake_line(&intake, (struct atd_str){line, len}, &why);
        free(line);
        look(&intake.head);
        if (step == ATD_INTAKE_BAD) {
            require(why && why[0]);
            return 0;
        }
        left = atd_str_from_byte(left, len);
    }
    return 0;
}
