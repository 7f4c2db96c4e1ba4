#include "store/places.h"

#include <stdlib.h>

struct atd_place {
    size_t name_len;
    char name[ATD_PLACE_NAME_MAX];
    char region[ATD_REGION_MAX + 1]; /* "": unknown */
    bool head_refused;
    bool guards_known;
    bool guards;
};

void atd_places_init(struct atd_places *places)
{
    *places = (struct atd_places){0};
    atd_lock_init(&places->lock, ATD_RANK_STORE);
}

void atd_places_release(struct atd_places *places)
{
    free(places->all);
    atd_lock_destroy(&places->lock);
}

/* Only places with something to remember are here, so there are few. */
static struct atd_place *find_locked(struct atd_places *places, struct atd_str name)
{
    for (size_t i = 0; i < places->count; i++) {
        struct atd_place *place = &places->all[i];

        if (atd_str_equal((struct atd_str){place->name, place->name_len}, name))
            return place;
    }
    return NULL;
}

/* NULL: it will not be remembered, which costs a request each time and nothing else. */
static struct atd_place *find_or_add_locked(struct atd_places *places, struct atd_str name)
{
    struct atd_place *place = find_locked(places, name);

    if (place || name.len > ATD_PLACE_NAME_MAX)
        return place;
    if (places->count == places->cap && places->cap < ATD_PLACES_MAX) {
        size_t cap = places->cap ? places->cap * 2 : 8;
        struct atd_place *grown = realloc(places->all, cap * sizeof(*grown));

        if (!grown)
            return NULL;
        places->all = grown;
        places->cap = cap;
    }
    if (places->count < places->cap) {
        place = &places->all[places->count++];
    } else {
        place = &places->all[places->oldest];
        places->oldest = (places->oldest + 1) % places->count;
    }
    *place = (struct atd_place){.name_len = name.len};
    memcpy(place->name, name.ptr, name.len);
    return place;
}

bool atd_places_region(struct atd_places *places, struct atd_str name,
                       char ret_region[ATD_REGION_MAX + 1])
{
    const struct atd_place *place;
    bool known;

    atd_lock_take(&places->lock);
    place = find_locked(places, name);
    known = place && place->region[0];
    if (known)
        memcpy(ret_region, place->region, sizeof(place->region));
    atd_lock_give(&places->lock);
    return known;
}

bool atd_places_set_region(struct atd_places *places, struct atd_str name, const char *region)
{
    size_t len =
        strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    struct atd_place *place;

    if (len == 0 || len > ATD_REGION_MAX || region[len] != '\0')
        return false;
    atd_lock_take(&places->lock);
    place = find_or_add_locked(places, name);
    if (place)
        memcpy(place->region, region, len + 1);
    atd_lock_give(&places->lock);
    return place != NULL;
}

bool atd_places_head_refused(struct atd_places *places, struct atd_str name)
{
    const struct atd_place *place;
    bool refused;

    atd_lock_take(&places->lock);
    place = find_locked(places, name);
    refused = place && place->head_refused;
    atd_lock_give(&places->lock);
    return refused;
}

void atd_places_set_head_refused(struct atd_places *places, struct atd_str name)
{
    struct atd_place *place;

    atd_lock_take(&places->lock);
    place = find_or_add_locked(places, name);
    if (place)
        place->head_refused = true;
    atd_lock_give(&places->lock);
}

bool atd_places_guards(struct atd_places *places, struct atd_str name, bool *ret_guards)
{
    const struct atd_place *place;
    bool known;

    atd_lock_take(&places->lock);
    place = find_locked(places, name);
    known = place && place->guards_known;
    if (known)
        *ret_guards = place->guards;
    atd_lock_give(&places->lock);
    return known;
}

void atd_places_set_guards(struct atd_places *places, struct atd_str name, bool guards)
{
    struct atd_place *place;

    atd_lock_take(&places->lock);
    place = find_or_add_locked(places, name);
    if (place) {
        place->guards_known = true;
        place->guards = guards;
    }
    atd_lock_give(&places->lock);
}
