#include "index/record_copy.h"

#include <errno.h>

/* What is not there stays so; false when out of memory. */
static bool copy_text(struct atd_arena *arena, struct atd_str *text)
{
    if (!text->ptr)
        return true;
    *text = atd_arena_str(arena, *text);
    return text->ptr != NULL;
}

static bool copy_bytes(struct atd_arena *arena, struct atd_bytes *bytes)
{
    if (!bytes->ptr)
        return true;
    *bytes = atd_arena_bytes(arena, *bytes);
    return bytes->ptr != NULL;
}

static int out_of_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "a record: out of memory");
}

int atd_index_entry_copy(struct atd_arena *arena, const struct atd_index_entry *entry,
                         struct atd_index_entry *ret_entry, struct atd_error *err)
{
    struct atd_index_entry copy = *entry;

    if (!copy_text(arena, &copy.cid) || !copy_text(arena, &copy.name) ||
        !copy_text(arena, &copy.schema_ref) || !copy_bytes(arena, &copy.data_urls) ||
        !copy_bytes(arena, &copy.metadata) || !copy_text(arena, &copy.created_at))
        return out_of_memory(err);
    *ret_entry = copy;
    return 0;
}

int atd_index_label_copy(struct atd_arena *arena, const struct atd_index_label *label,
                         struct atd_index_label *ret_label, struct atd_error *err)
{
    struct atd_index_label copy = *label;

    if (!copy_text(arena, &copy.name) || !copy_text(arena, &copy.version) ||
        !copy_text(arena, &copy.cid) || !copy_text(arena, &copy.description) ||
        !copy_text(arena, &copy.created_at))
        return out_of_memory(err);
    *ret_label = copy;
    return 0;
}

int atd_index_schema_copy(struct atd_arena *arena, const struct atd_index_schema *schema,
                          struct atd_index_schema *ret_schema, struct atd_error *err)
{
    struct atd_index_schema copy = *schema;

    if (!copy_text(arena, &copy.name) || !copy_text(arena, &copy.version) ||
        !copy_bytes(arena, &copy.json) || !copy_text(arena, &copy.created_at))
        return out_of_memory(err);
    *ret_schema = copy;
    return 0;
}
