/*
 * Any bytes as one element of data_urls: expanded, and every result classified.
 */
#include <stdint.h>
#include <stdlib.h>

#include "atdata/shard_url.h"
#include "base/cleanup.h"
#include "codec/brace_pattern.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COUNT_MAX 1000u

static void require(bool condition)
{
    if (!condition)
        abort();
}

static bool is_inside(struct atd_str view, struct atd_str text)
{
    return view.len == 0 || (view.ptr >= text.ptr && view.ptr + view.len <= text.ptr + text.len);
}

static void classify(struct atd_str text)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(1u << 20);
    struct atd_shard_url url;

    if (atd_shard_url_parse(text, &arena, &url, NULL) != 0)
        return;
    require(atd_str_equal(url.text, text) && !memchr(text.ptr, 0, text.len));
    require(is_inside(url.scheme_text, text) && is_inside(url.bucket, text) &&
            is_inside(url.key, text));
    require(!memchr(url.last.ptr, '/', url.last.len));
    require(url.path.len == 0 || !memchr(url.path.ptr, 0, url.path.len));
    switch (url.scheme) {
    case ATD_URL_S3:
        require(url.bucket.len && url.key.len && atd_str_find(url.bucket, '/') < 0);
        break;
    case ATD_URL_LOCAL:
        require(url.path.len && url.path.ptr[0] == '/');
        require(atd_str_ends_with(url.path, url.last));
        break;
    case ATD_URL_RELATIVE:
        require(url.path.len > 0);
        break;
    case ATD_URL_HTTP:
    case ATD_URL_OTHER:
        require(url.path.len == 0 && url.bucket.len == 0);
        break;
    }
}

static bool exists_when_even(void *ctx, struct atd_str element)
{
    (void)ctx;
    return element.len % 2 == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atd_str element = {(const char *)data, size};
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(8u << 20);
    struct atd_str *urls = NULL;
    size_t count = 0;
    struct atd_error err = ATD_ERROR_INIT;

    classify(element);
    if (atd_shard_urls_expand(&element, 1, COUNT_MAX, NULL, NULL, &arena, &urls, &count, &err) ==
        0) {
        require(count > 0 && count <= COUNT_MAX);
        for (size_t i = 0; i < count; i++)
            classify(urls[i]);
        if (!atd_brace_is_balanced(element, NULL) && atd_str_find(element, ' ') < 0)
            require(count == 1 && atd_str_equal(urls[0], element));
    } else {
        require(err.code > 0 && err.text[0]);
    }
    if (atd_shard_urls_expand(&element, 1, COUNT_MAX, exists_when_even, NULL, &arena, &urls, &count,
                              NULL) == 0)
        require(count > 0 && count <= COUNT_MAX);
    return 0;
}
