/*
 * Which schema a dataset has once a shard was added: its own; else the one that was chosen, or one
 * inferred from the samples.
 */
#include <errno.h>

#include "base/cleanup.h"
#include "codec/schema_infer.h"
#include "publish/edit.h"

/* ------------------------------------------------------------------ the schema of a new dataset */

/* What a dataset of no field at all gets: a class needs one (ATDATA-FORMATS 4.7). */
static const struct atd_field only_field = {
    .name = {"data", 4},
    .type = {.kind = ATD_KIND_PRIMITIVE,
             .kind_text = {"primitive", 9},
             .primitive = ATD_PRIMITIVE_BYTES,
             .primitive_text = {"bytes", 5}},
    .optional = true,
};

static int infer(struct atd_edit *edit, struct atd_str dataset, const struct atd_edit_shard *shard,
                 struct atd_schema *ret_schema, struct atd_error *err)
{
    struct atd_error why = ATD_ERROR_INIT;
    char class_name[128];
    char time[ATD_EDIT_TIME_MAX];
    struct atd_str name;
    struct atd_str created_at;
    int rc;

    atd_class_name_of(dataset, class_name);
    atd_edit_time(atd_editor_now_us(edit->editor), time);
    name = atd_arena_str(&edit->arena, atd_str_from(class_name));
    created_at = atd_arena_str(&edit->arena, atd_str_from(time));
    if (!name.ptr || !created_at.ptr)
        return atd_edit_no_memory(err);
    rc = atd_schema_inferrer_finish(shard->seen, name, ATD_STR("1.0.0"), created_at, &edit->arena,
                                    ret_schema, &why);
    if (rc == -EINVAL) {
        *ret_schema = (struct atd_schema){.name = name,
                                          .version = ATD_STR("1.0.0"),
                                          .fields = &only_field,
                                          .field_count = 1,
                                          .created_at = created_at};
        return 0;
    }
    if (rc && err)
        *err = why;
    return rc;
}

static int choose_schema(struct atd_edit *edit, struct atd_str dataset,
                         const struct atd_edit_shard *shard, struct atd_schema *ret_schema,
                         struct atd_error *err)
{
    if (shard->seen && !shard->schema)
        return infer(edit, dataset, shard, ret_schema, err);
    if (!shard->schema)
        return atd_error_set(err, EINVAL, "the dataset has no schema, and none was given");
    *ret_schema = *shard->schema;
    return 0;
}

/* ------------------------------------------------------------------ does it fit? */

/* Whether samples of one type can be read as the other; the inspection looks closer. */
static bool type_fits(const struct atd_field_type *schema, const struct atd_field_type *seen)
{
    switch (schema->kind) {
    case ATD_KIND_PRIMITIVE:
        if (schema->primitive == ATD_PRIMITIVE_UNKNOWN)
            return true;
        if (seen->kind == ATD_KIND_NDARRAY)
            return schema->primitive == ATD_PRIMITIVE_BYTES;
        return seen->kind == ATD_KIND_PRIMITIVE &&
               (seen->primitive == schema->primitive ||
                (schema->primitive == ATD_PRIMITIVE_FLOAT && seen->primitive == ATD_PRIMITIVE_INT));
    case ATD_KIND_ARRAY:
        return seen->kind == ATD_KIND_ARRAY &&
               (!schema->items || !seen->items || type_fits(schema->items, seen->items));
    case ATD_KIND_NDARRAY:
    case ATD_KIND_STRUCTURED:
        return seen->kind == ATD_KIND_NDARRAY || seen->kind == ATD_KIND_STRUCTURED;
    case ATD_KIND_UNKNOWN:
    case ATD_KIND_REF:
        return true;
    default: /* the binary kinds of v0.7 */
        return seen->kind == schema->kind || seen->kind == ATD_KIND_NDARRAY ||
               (seen->kind == ATD_KIND_PRIMITIVE && seen->primitive == ATD_PRIMITIVE_BYTES);
    }
}

static const struct atd_field *find_field(const struct atd_schema *schema, struct atd_str name)
{
    for (size_t i = 0; i < schema->field_count; i++) {
        if (atd_str_equal(schema->fields[i].name, name))
            return &schema->fields[i];
    }
    return NULL;
}

/* A field that was nil in every sample is inferred as an optional text: it says nothing. */
static bool says_nothing(const struct atd_field *seen)
{
    return seen->optional && seen->type.kind == ATD_KIND_PRIMITIVE &&
           seen->type.primitive == ATD_PRIMITIVE_STR;
}

/*
 * The dataset got a schema while the shard was being copied: the shard's samples were not checked
 * against it.
 */
static int check_fits(const struct atd_schema *schema, const struct atd_schema *seen,
                      struct atd_error *err)
{
    for (size_t i = 0; i < seen->field_count; i++) {
        const struct atd_field *field = &seen->fields[i];
        const struct atd_field *known = find_field(schema, field->name);

        if (!known)
            return atd_error_set(err, EINVAL,
                                 "its field '" ATD_STR_FMT "' is not in the dataset's schema",
                                 ATD_STR_ARG(field->name));
        if (!type_fits(&known->type, &field->type) && !(known->optional && says_nothing(field)))
            return atd_error_set(err, EINVAL,
                                 "its field '" ATD_STR_FMT
                                 "' is of another type in the dataset's schema",
                                 ATD_STR_ARG(field->name));
        if (field->optional && !known->optional)
            return atd_error_set(err, EINVAL,
                                 "some samples lack the field '" ATD_STR_FMT
                                 "', which the dataset's schema requires",
                                 ATD_STR_ARG(field->name));
    }
    for (size_t i = 0; i < schema->field_count; i++) {
        if (!schema->fields[i].optional && !find_field(seen, schema->fields[i].name))
            return atd_error_set(err, EINVAL,
                                 "its samples lack the field '" ATD_STR_FMT
                                 "', which the dataset's schema requires",
                                 ATD_STR_ARG(schema->fields[i].name));
    }
    return 0;
}

int atd_edit_settle_schema(struct atd_edit *edit, struct atd_str name,
                           const struct atd_edit_now *now, const struct atd_edit_shard *shard,
                           struct atd_str *ret_ref, struct atd_error *err)
{
    const struct atd_schema *there = NULL;
    struct atd_schema schema;
    int rc;

    if (!now->exists || !now->entry.schema_ref.len) {
        rc = choose_schema(edit, name, shard, &schema, err);
        return rc ? rc : atd_edit_register(edit, &schema, ret_ref, err);
    }
    *ret_ref = now->entry.schema_ref;
    if (!shard->schema && !shard->seen)
        return 0;
    rc = atd_edit_schema_of(edit->editor, *ret_ref, &edit->arena, &there, err);
    if (rc || !there)
        return rc;
    rc = choose_schema(edit, name, shard, &schema, err);
    /* A shard without any sample contradicts nothing. */
    if (rc == 0 && schema.fields != &only_field && !atd_schema_same_fields(there, &schema))
        rc = check_fits(there, &schema, err);
    return rc;
}
