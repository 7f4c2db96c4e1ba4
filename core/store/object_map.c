#include "store/object_map.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "store/object_table.h"

#define FIRST_SLOTS 256u
#define TEXT_FIRST_BYTES 4096u
/* Text of objects that were dropped or replaced is taken back when it is this much. */
#define WASTE_MIN_BYTES (1u << 20)

struct object {
    uint64_t text; /* where its URL stands, the ETag behind it */
    uint64_t size_bytes;
    int64_t mtime_s;
    uint32_t hash;
    uint32_t url_len;
    uint16_t scope;
    uint8_t etag_len;
    bool dropped; /* keeps its slot: a later put takes it again */
};

struct atd_object_map {
    uint32_t *slots; /* open addressing: number of the object plus 1, or 0 */
    size_t slot_count;
    struct object *objects;
    size_t object_count;
    size_t object_cap;
    size_t live_count;
    char *text;
    size_t text_len;
    size_t text_cap;
    size_t text_waste;
    struct atd_str scopes[ATD_OBJECT_SCOPES_MAX]; /* owned */
    size_t scope_count;
    uint64_t seed; /* of the hashes */
};

struct atd_object_map *atd_object_map_new(void)
{
    struct atd_object_map *map = calloc(1, sizeof(*map));

    if (!map)
        return NULL;
    map->seed = atd_hash_seed();
    map->slot_count = FIRST_SLOTS;
    map->slots = calloc(map->slot_count, sizeof(*map->slots));
    if (!map->slots) {
        free(map);
        return NULL;
    }
    return map;
}

static void release(struct atd_object_map *map)
{
    for (size_t i = 0; i < map->scope_count; i++) {
        union {
            const char *in;
            char *out;
        } scope = {map->scopes[i].ptr};

        free(scope.out);
    }
    free(map->slots);
    free(map->objects);
    free(map->text);
}

void atd_object_map_free(struct atd_object_map *map)
{
    if (!map)
        return;
    release(map);
    free(map);
}

/* ATD_OBJECT_SCOPES_MAX when there is none. */
static size_t find_scope(const struct atd_object_map *map, struct atd_str scope)
{
    for (size_t i = 0; i < map->scope_count; i++) {
        if (atd_str_equal(map->scopes[i], scope))
            return i;
    }
    return ATD_OBJECT_SCOPES_MAX;
}

static int add_scope(struct atd_object_map *map, struct atd_str scope, size_t *ret_number)
{
    char *copy;

    *ret_number = find_scope(map, scope);
    if (*ret_number < ATD_OBJECT_SCOPES_MAX)
        return 0;
    if (map->scope_count == ATD_OBJECT_SCOPES_MAX)
        return -EFBIG;
    copy = malloc(scope.len + 1);
    if (!copy)
        return -ENOMEM;
    if (scope.len)
        memcpy(copy, scope.ptr, scope.len);
    *ret_number = map->scope_count;
    map->scopes[map->scope_count++] = (struct atd_str){copy, scope.len};
    return 0;
}

static struct atd_str url_of(const struct atd_object_map *map, const struct object *object)
{
    return (struct atd_str){map->text + object->text, object->url_len};
}

static uint32_t hash_of(const struct atd_object_map *map, size_t scope, struct atd_str url)
{
    return (uint32_t)atd_hash(map->seed + scope, url);
}

/* The object, dropped ones too, or NULL; *ret_slot is where it is or would be. */
static struct object *find(const struct atd_object_map *map, size_t scope, struct atd_str url,
                           size_t *ret_slot)
{
    uint32_t hash = hash_of(map, scope, url);
    size_t slot = hash & (map->slot_count - 1);

    for (; map->slots[slot]; slot = (slot + 1) & (map->slot_count - 1)) {
        struct object *object = &map->objects[map->slots[slot] - 1];

        if (object->hash == hash && object->scope == scope &&
            atd_str_equal(url_of(map, object), url)) {
            *ret_slot = slot;
            return object;
        }
    }
    *ret_slot = slot;
    return NULL;
}

bool atd_object_map_find(const struct atd_object_map *map, struct atd_str scope, struct atd_str url,
                         struct atd_object_info *ret_info)
{
    size_t number = find_scope(map, scope);
    const struct object *object;
    size_t slot;

    if (number == ATD_OBJECT_SCOPES_MAX)
        return false;
    object = find(map, number, url, &slot);
    if (!object || object->dropped)
        return false;
    memset(ret_info, 0, sizeof(*ret_info));
    ret_info->size_bytes = object->size_bytes;
    ret_info->mtime_s = object->mtime_s;
    memcpy(ret_info->etag, map->text + object->text + object->url_len, object->etag_len);
    return true;
}

/* Room for one more object in slots and array, and for `len` bytes of text. */
static int reserve(struct atd_object_map *map, size_t len)
{
    if (map->object_count == map->object_cap) {
        size_t cap = map->object_cap ? 2 * map->object_cap : FIRST_SLOTS / 2;
        struct object *grown = realloc(map->objects, cap * sizeof(*grown));

        if (!grown)
            return -ENOMEM;
        map->objects = grown;
        map->object_cap = cap;
    }
    if (map->text_cap - map->text_len < len) {
        size_t cap = map->text_cap ? map->text_cap : TEXT_FIRST_BYTES;
        char *grown;

        while (cap - map->text_len < len)
            cap *= 2;
        grown = realloc(map->text, cap);
        if (!grown)
            return -ENOMEM;
        map->text = grown;
        map->text_cap = cap;
    }
    if (4 * (map->object_count + 1) > 3 * map->slot_count) {
        size_t count = 2 * map->slot_count;
        uint32_t *slots = calloc(count, sizeof(*slots));

        if (!slots)
            return -ENOMEM;
        for (size_t i = 0; i < map->object_count; i++) {
            size_t slot = map->objects[i].hash & (count - 1);

            while (slots[slot])
                slot = (slot + 1) & (count - 1);
            slots[slot] = (uint32_t)i + 1;
        }
        free(map->slots);
        map->slots = slots;
        map->slot_count = count;
    }
    return 0;
}

static uint64_t append_text(struct atd_object_map *map, struct atd_str url, const char *etag,
                            size_t etag_len)
{
    uint64_t at = map->text_len;

    atd_assert(map->text_cap - map->text_len >= url.len + etag_len);
    if (url.len)
        memcpy(map->text + at, url.ptr, url.len);
    memcpy(map->text + at + url.len, etag, etag_len);
    map->text_len += url.len + etag_len;
    return at;
}

static void drop(struct atd_object_map *map, struct object *object)
{
    if (object->dropped)
        return;
    object->dropped = true;
    map->live_count--;
    map->text_waste += object->url_len + object->etag_len;
}

/* Makes the map anew from what lives; keeps it as it is when there is no memory. */
static void repack(struct atd_object_map *map)
{
    struct atd_object_map *fresh = atd_object_map_new();
    struct atd_object_map kept;
    struct atd_record record;
    size_t position = 0;

    if (!fresh)
        return;
    while (atd_object_map_next(map, &position, &record)) {
        if (atd_object_map_apply(fresh, &record) != 0) {
            atd_object_map_free(fresh);
            return;
        }
    }
    kept = *map;
    *map = *fresh;
    *fresh = kept;
    atd_object_map_free(fresh);
}

static int put(struct atd_object_map *map, size_t scope, const struct atd_record *record)
{
    const struct atd_object_info *info = &record->info;
    size_t etag_len = strnlen(info->etag, ATD_ETAG_MAX);
    size_t slot;
    struct object *object;
    int rc = reserve(map, record->url.len + etag_len);

    object = find(map, scope, record->url, &slot);
    if (rc) {
        /* What was known is wrong now. */
        if (object)
            drop(map, object);
        return rc;
    }
    if ((!object || object->dropped) && map->live_count >= ATD_OBJECTS_MAX)
        return -EFBIG;
    if (object && !object->dropped && object->etag_len == etag_len) {
        memcpy(map->text + object->text + object->url_len, info->etag, etag_len);
    } else {
        if (object && !object->dropped)
            drop(map, object);
        if (!object) {
            object = &map->objects[map->object_count++];
            object->hash = hash_of(map, scope, record->url);
            object->scope = (uint16_t)scope;
            object->url_len = (uint32_t)record->url.len;
            map->slots[slot] = (uint32_t)map->object_count;
        }
        object->text = append_text(map, record->url, info->etag, etag_len);
        object->etag_len = (uint8_t)etag_len;
        object->dropped = false;
        map->live_count++;
    }
    object->size_bytes = info->size_bytes;
    object->mtime_s = info->mtime_s;
    return 0;
}

int atd_object_map_apply(struct atd_object_map *map, const struct atd_record *record)
{
    size_t scope;
    int rc = 0;

    if (record->is_drop) {
        size_t slot;
        struct object *object;

        scope = find_scope(map, record->scope);
        object = scope < ATD_OBJECT_SCOPES_MAX ? find(map, scope, record->url, &slot) : NULL;
        if (object)
            drop(map, object);
    } else {
        rc = add_scope(map, record->scope, &scope);
        if (rc == 0)
            rc = put(map, scope, record);
    }
    /* Dropped objects keep a slot each, so that they must not pile up either. */
    if ((map->text_waste > WASTE_MIN_BYTES && map->text_waste > map->text_len / 2) ||
        map->object_count - map->live_count > ATD_OBJECTS_MAX / 4)
        repack(map);
    return rc;
}

size_t atd_object_map_count(const struct atd_object_map *map)
{
    return map->live_count;
}

bool atd_object_map_next(const struct atd_object_map *map, size_t *position,
                         struct atd_record *ret_record)
{
    while (*position < map->object_count) {
        const struct object *object = &map->objects[(*position)++];

        if (object->dropped)
            continue;
        memset(ret_record, 0, sizeof(*ret_record));
        ret_record->scope = map->scopes[object->scope];
        ret_record->url = url_of(map, object);
        ret_record->info.size_bytes = object->size_bytes;
        ret_record->info.mtime_s = object->mtime_s;
        memcpy(ret_record->info.etag, map->text + object->text + object->url_len, object->etag_len);
        return true;
    }
    return false;
}
