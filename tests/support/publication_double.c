#include "publication_double.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct atd_publication {
    atomic_int refs;
    char *text;
    char url[256];
};

static atomic_int alive;

struct atd_publication *publication_double_new(const char *text)
{
    struct atd_publication *publication = calloc(1, sizeof(*publication));

    if (!publication)
        return NULL;
    atomic_init(&publication->refs, 1);
    publication->text = strdup(text);
    (void)atomic_fetch_add(&alive, 1);
    return publication;
}

void publication_double_publish(struct atd_publication *publication, const char *url)
{
    (void)snprintf(publication->url, sizeof(publication->url), "%s", url);
}

int publication_double_count(void)
{
    return atomic_load(&alive);
}

struct atd_publication *atd_publication_ref(struct atd_publication *publication)
{
    (void)atomic_fetch_add(&publication->refs, 1);
    return publication;
}

void atd_publication_unref(struct atd_publication *publication)
{
    if (atomic_fetch_sub(&publication->refs, 1) > 1)
        return;
    (void)atomic_fetch_sub(&alive, 1);
    free(publication->text);
    free(publication);
}

void atd_publication_status(struct atd_publication *publication,
                            struct atd_publication_status *ret_status)
{
    *ret_status = (struct atd_publication_status){.size_bytes = strlen(publication->text)};
    ret_status->state = publication->url[0] ? ATD_PUBLICATION_PUBLISHED : ATD_PUBLICATION_SPOOLING;
    (void)snprintf(ret_status->url, sizeof(ret_status->url), "%s", publication->url);
}

int atd_publication_read(struct atd_publication *publication, uint64_t offset, void *into,
                         size_t len, size_t *ret_len, struct atd_error *err)
{
    size_t size = strlen(publication->text);
    size_t left = offset < size ? size - (size_t)offset : 0;

    (void)err;
    *ret_len = len < left ? len : left;
    if (*ret_len)
        memcpy(into, publication->text + offset, *ret_len);
    return 0;
}
