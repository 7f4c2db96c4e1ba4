/*
 * A schema from samples.
 *
 * The types that a field was seen with form a lattice: each new sample joins its own to what is
 * there, so that the order of samples does not count. A type is a number of lists in each other and
 * what the innermost holds:
 *
 *     int          {0, INT}        list[list[str]]   {2, STR}
 *     list         {1, ANY}        an empty list     {1, NONE}: any list at all
 *
 * ANY outside of all lists is a contradiction: no schema has a field of two types.
 */
#include "codec/schema_infer.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/limits.h"
#include "codec/array_npy.h"
#include "codec/python_name.h"

/* A field's name. Python has no limit; a class of names this long is nobody's. */
#define FIELD_NAME_MAX 1024u
#define NAMES_BYTES_MAX (2u * ATD_SCHEMA_FIELDS_MAX * FIELD_NAME_MAX)
/* What a name gets in front that no class can have as it is. */
#define MEMBER_PREFIX "field_"

enum leaf {
    LEAF_NONE,
    LEAF_BOOL, /* these three in this order: the greater holds the smaller */
    LEAF_INT,
    LEAF_FLOAT,
    LEAF_STR,
    LEAF_ARRAY, /* bytes that are an array, never in a list; together with other bytes: bytes */
    LEAF_BYTES,
    LEAF_ANY,
};

struct seen_type {
    uint8_t depth;
    uint8_t leaf;
    uint8_t dtype; /* LEAF_ARRAY: place in dtypes */
};

struct seen_field {
    struct atd_str name;
    struct seen_type type; /* {0, NONE}: it was nil wherever it was */
    bool was_nil;
    uint64_t present;        /* in so many samples */
    uint64_t present_before; /* the number of the last of them, and one */
};

struct atd_schema_inferrer {
    struct seen_field *fields; /* in the order of first sight */
    size_t count;
    size_t cap;
    uint16_t by_name[ATD_SCHEMA_FIELDS_MAX]; /* places in `fields`, sorted */
    uint64_t samples;
    struct atd_arena names;
};

/* ------------------------------------------------------------------ types */

/*
 * What Python's publishing calls a dtype; anything else is float32 there. Source: ATDATA-FORMATS
 * 4.2; NUMPY_DTYPE_MAP in atdata's _type_utils.py.
 */
static const struct {
    const char *code; /* after the byte order */
    struct atd_str name;
} dtypes[] = {
    {"", {"float32", 7}},   {"f4", {"float32", 7}},   {"f8", {"float64", 7}},
    {"f2", {"float16", 7}}, {"i1", {"int8", 4}},      {"i2", {"int16", 5}},
    {"i4", {"int32", 5}},   {"i8", {"int64", 5}},     {"u1", {"uint8", 5}},
    {"u2", {"uint16", 6}},  {"u4", {"uint32", 6}},    {"u8", {"uint64", 6}},
    {"b1", {"bool", 4}},    {"c8", {"complex64", 9}}, {"c16", {"complex128", 10}},
};

/* None of these, or several. */
#define DTYPE_OTHER 0

static uint8_t dtype_place(struct atd_str dtype)
{
    if (dtype.len && memchr("<>|=", dtype.ptr[0], 4))
        dtype = atd_str_from_byte(dtype, 1);
    for (size_t i = 1; i < ATD_ARRAY_LEN(dtypes); i++) {
        if (atd_str_equal(dtype, atd_str_from(dtypes[i].code)))
            return (uint8_t)i;
    }
    return DTYPE_OTHER;
}

static bool is_number(uint8_t leaf)
{
    return leaf >= LEAF_BOOL && leaf <= LEAF_FLOAT;
}

static bool is_bin(uint8_t leaf)
{
    return leaf == LEAF_ARRAY || leaf == LEAF_BYTES;
}

/* The least type that holds both. */
static struct seen_type join(struct seen_type a, struct seen_type b)
{
    if (a.depth > b.depth) {
        struct seen_type swap = a;

        a = b;
        b = swap;
    }
    if (a.leaf == LEAF_NONE)
        return b;
    if (a.depth < b.depth) {
        a.leaf = LEAF_ANY;
        return a;
    }
    if (b.leaf == LEAF_NONE)
        return a;
    if (a.dtype != b.dtype)
        a.dtype = DTYPE_OTHER;
    if (a.leaf != b.leaf) {
        if ((is_number(a.leaf) && is_number(b.leaf)) || (is_bin(a.leaf) && is_bin(b.leaf)))
            a.leaf = a.leaf > b.leaf ? a.leaf : b.leaf;
        else
            a.leaf = LEAF_ANY;
    }
    return a;
}

static struct seen_type type_of_bin(struct atd_bytes bytes, uint8_t depth)
{
    struct seen_type type = {.depth = depth, .leaf = LEAF_BYTES};
    struct atd_array array;

    /* The library writes no arrays inside lists, and reads them as bytes (ATDATA-FORMATS 5.2). */
    if (depth == 0 && atd_array_recognize(bytes, &array)) {
        type.leaf = LEAF_ARRAY;
        type.dtype = dtype_place(array.dtype);
    }
    return type;
}

/* Of a value inside `depth` lists. Recursion is as deep as a schema can say. */
static struct seen_type type_of(const struct atd_value *value, uint8_t depth)
{
    static const uint8_t leaves[] = {
        [ATD_VALUE_NIL] = LEAF_NONE,  [ATD_VALUE_BOOL] = LEAF_BOOL,   [ATD_VALUE_INT] = LEAF_INT,
        [ATD_VALUE_UINT] = LEAF_INT,  [ATD_VALUE_FLOAT] = LEAF_FLOAT, [ATD_VALUE_STR] = LEAF_STR,
        [ATD_VALUE_BIN] = LEAF_BYTES, [ATD_VALUE_ARRAY] = LEAF_ANY,   [ATD_VALUE_MAP] = LEAF_ANY,
    };
    struct seen_type type = {.depth = depth, .leaf = leaves[value->type]};
    struct atd_value_iter iter;
    struct atd_value item;

    if (value->type == ATD_VALUE_BIN)
        return type_of_bin(value->bin, depth);
    if (value->type != ATD_VALUE_ARRAY || depth == ATD_SCHEMA_LIST_DEPTH_MAX)
        return type;
    type.depth = (uint8_t)(depth + 1);
    type.leaf = LEAF_NONE;
    atd_value_iter_init(&iter, value);
    /* A bare list holds everything: nothing that follows can change it. */
    while ((type.depth > depth + 1 || type.leaf != LEAF_ANY) &&
           atd_value_iter_next(&iter, NULL, &item))
        type = join(type, type_of(&item, (uint8_t)(depth + 1)));
    return type;
}

static const char *describe(struct seen_type type)
{
    static const char *const leaves[] = {"nothing", "a bool",   "an int", "a float",
                                         "text",    "an array", "bytes",  "anything"};

    return type.depth ? "a list" : leaves[type.leaf];
}

/* ------------------------------------------------------------------ fields by name */

struct atd_schema_inferrer *atd_schema_inferrer_new(void)
{
    struct atd_schema_inferrer *inferrer = calloc(1, sizeof(*inferrer));

    if (inferrer)
        atd_arena_init(&inferrer->names, NAMES_BYTES_MAX);
    return inferrer;
}

void atd_schema_inferrer_free(struct atd_schema_inferrer *inferrer)
{
    if (!inferrer)
        return;
    atd_arena_release(&inferrer->names);
    free(inferrer->fields);
    free(inferrer);
}

/* Where the name stands in by_name, or would. */
static size_t place_of(const struct atd_schema_inferrer *inferrer, struct atd_str name,
                       bool *ret_found)
{
    size_t low = 0;
    size_t high = inferrer->count;

    *ret_found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = atd_str_compare(inferrer->fields[inferrer->by_name[middle]].name, name);

        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int out_of_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "schema: out of memory");
}

static int add_field(struct atd_schema_inferrer *inferrer, struct atd_str name, size_t place,
                     struct atd_error *err)
{
    const char *problem = name.len > FIELD_NAME_MAX ? "has a name longer than 1024 bytes"
                                                    : atd_python_field_problem(name);
    struct seen_field *field;

    if (problem)
        return atd_error_set(err, EINVAL, "field '" ATD_STR_FMT "' %s", ATD_STR_ARG(name), problem);
    if (inferrer->count == ATD_SCHEMA_FIELDS_MAX)
        return atd_error_set(err, E2BIG, "more than %u fields, '" ATD_STR_FMT "' among them",
                             ATD_SCHEMA_FIELDS_MAX, ATD_STR_ARG(name));
    if (inferrer->count == inferrer->cap) {
        size_t cap = inferrer->cap ? 2 * inferrer->cap : 16;
        struct seen_field *grown = reallocarray(inferrer->fields, cap, sizeof(*grown));

        if (!grown)
            return out_of_memory(err);
        inferrer->fields = grown;
        inferrer->cap = cap;
    }
    field = &inferrer->fields[inferrer->count];
    *field = (struct seen_field){.name = atd_arena_str(&inferrer->names, name)};
    if (!field->name.ptr)
        return out_of_memory(err);
    memmove(&inferrer->by_name[place + 1], &inferrer->by_name[place],
            (inferrer->count - place) * sizeof(inferrer->by_name[0]));
    inferrer->by_name[place] = (uint16_t)inferrer->count++;
    return 0;
}

/* Samples mostly have their fields in one order: `guess` is where the next one should be. */
static int find_field(struct atd_schema_inferrer *inferrer, struct atd_str name, size_t guess,
                      struct seen_field **ret_field, struct atd_error *err)
{
    bool found;
    size_t place;
    int rc = 0;

    if (guess < inferrer->count && atd_str_equal(inferrer->fields[guess].name, name)) {
        *ret_field = &inferrer->fields[guess];
        return 0;
    }
    place = place_of(inferrer, name, &found);
    if (!found)
        rc = add_field(inferrer, name, place, err);
    if (rc == 0)
        *ret_field = &inferrer->fields[inferrer->by_name[place]];
    return rc;
}

/* ------------------------------------------------------------------ samples and members */

/* The field was seen in sample `number`, with a value of this type. */
static int see(struct seen_field *field, uint64_t number, struct seen_type type,
               struct atd_error *err)
{
    struct seen_type joined = join(field->type, type);

    if (joined.depth == 0 && joined.leaf == LEAF_ANY)
        return atd_error_set(err, EINVAL,
                             "field '" ATD_STR_FMT "' is %s here and was %s before: a field has "
                             "one type",
                             ATD_STR_ARG(field->name), describe(type), describe(field->type));
    field->type = joined;
    if (field->present_before != number + 1) {
        field->present++;
        field->present_before = number + 1;
    }
    return 0;
}

int atd_schema_inferrer_add(struct atd_schema_inferrer *inferrer, const struct atd_sample *sample,
                            struct atd_error *err)
{
    size_t guess = 0;
    uint64_t number = inferrer->samples++;

    for (size_t i = 0; i < sample->field_count; i++) {
        const struct atd_value *value = &sample->fields[i].value;
        struct seen_field *field;
        int rc = find_field(inferrer, sample->fields[i].name, guess, &field, err);

        if (rc == 0 && value->type == ATD_VALUE_MAP)
            rc = atd_error_set(err, EINVAL,
                               "field '" ATD_STR_FMT "' is a map, for which schemas have no type",
                               ATD_STR_ARG(field->name));
        if (rc == 0)
            rc = see(field, number, type_of(value, 0), err);
        if (rc < 0)
            return rc;
        field->was_nil = field->was_nil || value->type == ATD_VALUE_NIL;
        guess = (size_t)(field - inferrer->fields) + 1;
    }
    return 0;
}

/*
 * Source: webdataset's autodecode.py and writer.py. JSON is taken as the text that it is.
 */
static uint8_t leaf_of_member(struct atd_str extension)
{
    static const char *const texts[] = {"txt", "text", "transcript", "json", "jsonl"};
    static const char *const ints[] = {"cls", "cls2", "index", "count", "inx", "id"};
    struct atd_str last =
        atd_str_from_byte(extension, (size_t)(atd_str_find_last(extension, '.') + 1));

    for (size_t i = 0; i < ATD_ARRAY_LEN(texts); i++)
        if (atd_str_equal(last, atd_str_from(texts[i])))
            return LEAF_STR;
    for (size_t i = 0; i < ATD_ARRAY_LEN(ints); i++)
        if (atd_str_equal(last, atd_str_from(ints[i])))
            return LEAF_INT;
    return LEAF_BYTES;
}

/* `lower` is overwritten by the field's name; it has room for the prefix before it. */
static struct atd_str member_field_name(char *lower, size_t len)
{
    struct atd_str name = {lower, len};

    for (size_t i = 0; i < len; i++) {
        char c = lower[i];

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
            lower[i] = '_';
    }
    if (!atd_python_field_problem(name))
        return name;
    memcpy(lower - strlen(MEMBER_PREFIX), MEMBER_PREFIX, strlen(MEMBER_PREFIX));
    return (struct atd_str){lower - strlen(MEMBER_PREFIX), len + strlen(MEMBER_PREFIX)};
}

int atd_schema_inferrer_add_member(struct atd_schema_inferrer *inferrer, uint64_t sample_number,
                                   struct atd_str extension, struct atd_error *err)
{
    char text[sizeof(MEMBER_PREFIX) + FIELD_NAME_MAX];
    char *lower = text + strlen(MEMBER_PREFIX);
    struct seen_type type = {0};
    struct seen_field *field;
    int rc;

    if (extension.len == 0 || extension.len > FIELD_NAME_MAX - strlen(MEMBER_PREFIX))
        return atd_error_set(err, EINVAL,
                             "extension of %zu bytes cannot be a field's name, which have 1 to "
                             "1024",
                             extension.len);
    for (size_t i = 0; i < extension.len; i++) {
        char c = extension.ptr[i];

        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    type.leaf = leaf_of_member((struct atd_str){lower, extension.len});
    rc = find_field(inferrer, member_field_name(lower, extension.len), 0, &field, err);
    if (rc == 0)
        rc = see(field, sample_number, type, err);
    if (rc == 0 && sample_number >= inferrer->samples)
        inferrer->samples = sample_number + 1;
    return rc;
}

int atd_schema_inferrer_merge(struct atd_schema_inferrer *inferrer,
                              const struct atd_schema_inferrer *other, struct atd_error *err)
{
    uint64_t before = inferrer->samples;

    for (size_t i = 0; i < other->count; i++) {
        const struct seen_field *from = &other->fields[i];
        struct seen_field *field;
        int rc = find_field(inferrer, from->name, i, &field, err);

        if (rc == 0)
            rc = see(field, before + from->present_before - 1, from->type, err);
        if (rc < 0)
            return rc;
        field->present += from->present - 1; /* see() has counted one of them */
        field->was_nil = field->was_nil || from->was_nil;
    }
    inferrer->samples += other->samples;
    return 0;
}

/* ------------------------------------------------------------------ the record */

/* The lists are made from the outermost on; a bare one has no items. */
static int fill_type(struct seen_type seen, struct atd_arena *arena, struct atd_field_type *type)
{
    static const enum atd_primitive primitives[] = {
        [LEAF_NONE] = ATD_PRIMITIVE_STR,    [LEAF_BOOL] = ATD_PRIMITIVE_BOOL,
        [LEAF_INT] = ATD_PRIMITIVE_INT,     [LEAF_FLOAT] = ATD_PRIMITIVE_FLOAT,
        [LEAF_STR] = ATD_PRIMITIVE_STR,     [LEAF_ARRAY] = ATD_PRIMITIVE_UNKNOWN,
        [LEAF_BYTES] = ATD_PRIMITIVE_BYTES,
    };
    bool is_bare = seen.depth > 0 && (seen.leaf == LEAF_NONE || seen.leaf == LEAF_ANY);

    for (unsigned i = 0; i < seen.depth; i++) {
        struct atd_field_type *items;

        type->kind = ATD_KIND_ARRAY;
        if (is_bare && i + 1 == seen.depth)
            return 0;
        items = atd_arena_alloc(arena, sizeof(*items));
        if (!items)
            return -ENOMEM;
        type->items = items;
        type = items;
    }
    if (seen.leaf == LEAF_ARRAY) {
        type->kind = ATD_KIND_NDARRAY;
        type->dtype = dtypes[seen.dtype].name;
    } else {
        type->kind = ATD_KIND_PRIMITIVE;
        type->primitive = primitives[seen.leaf];
    }
    return 0;
}

static bool is_optional(const struct atd_schema_inferrer *inferrer, const struct seen_field *field)
{
    return field->was_nil || field->present < inferrer->samples;
}

/* Fields that are optional, or those that are not: Python wants the latter first. */
static int fill_fields(const struct atd_schema_inferrer *inferrer, bool optional,
                       struct atd_arena *arena, struct atd_field *fields, size_t *count)
{
    for (size_t i = 0; i < inferrer->count; i++) {
        const struct seen_field *seen = &inferrer->fields[i];
        struct atd_field *field = &fields[*count];

        if (is_optional(inferrer, seen) != optional)
            continue;
        field->name = atd_arena_str(arena, seen->name);
        field->optional = optional;
        if (!field->name.ptr || fill_type(seen->type, arena, &field->type) < 0)
            return -ENOMEM;
        ++*count;
    }
    return 0;
}

int atd_schema_inferrer_finish(const struct atd_schema_inferrer *inferrer, struct atd_str name,
                               struct atd_str version, struct atd_str created_at,
                               struct atd_arena *arena, struct atd_schema *ret_schema,
                               struct atd_error *err)
{
    struct atd_field *fields;
    struct atd_schema schema = {0};

    if (inferrer->count == 0)
        return atd_error_set(err, EINVAL,
                             "no schema can be made: there is no sample that has a field");
    fields = atd_arena_alloc_array(arena, inferrer->count, sizeof(*fields));
    if (!fields || fill_fields(inferrer, false, arena, fields, &schema.field_count) < 0 ||
        fill_fields(inferrer, true, arena, fields, &schema.field_count) < 0)
        return out_of_memory(err);
    schema.fields = fields;
    schema.name = atd_arena_str(arena, name);
    schema.version = atd_arena_str(arena, version);
    schema.created_at = atd_arena_str(arena, created_at);
    if (!schema.name.ptr || !schema.version.ptr || !schema.created_at.ptr)
        return out_of_memory(err);
    *ret_schema = schema;
    return 0;
}
