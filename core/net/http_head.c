#include "net/http.h"

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool equal_without_case(struct atd_str a, const char *b)
{
    size_t i = 0;

    while (i < a.len && b[i] && lower(a.ptr[i]) == lower(b[i]))
        i++;
    return i == a.len && b[i] == '\0';
}

struct atd_str atd_http_head_find(const struct atd_http_head *head, const char *name)
{
    for (size_t i = 0; i < head->header_count; i++)
        if (equal_without_case(head->headers[i].name, name))
            return head->headers[i].value;
    return (struct atd_str){NULL, 0};
}
