#include <strings.h>

#include "net/http.h"

struct atd_str atd_http_head_find(const struct atd_http_head *head, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < head->header_count; i++) {
        const struct atd_http_header *header = &head->headers[i];

        if (header->name.len == len && strncasecmp(header->name.ptr, name, len) == 0)
            return header->value;
    }
    return (struct atd_str){NULL, 0};
}
