#include "catalog/problems.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/digest.h"
#include "catalog/generation.h"

/* Only the start of a key of megabytes is of use to anybody. */
#define KEY_SHOWN_MAX 256u

uint64_t atd_refusal_identity(const char *what, struct atd_str key)
{
    uint8_t digest[ATD_SHA256_BYTES];
    uint64_t identity;

    atd_sha256_of(key.ptr, key.len, digest);
    memcpy(&identity, digest, sizeof(identity));
    return identity ^ (uint64_t)(uint8_t)what[0];
}

bool atd_refusals_add(struct atd_refusals *refusals, struct atd_texts *texts, const char *what,
                      struct atd_str key, struct atd_str shown, const char *reason, uint32_t turn)
{
    struct atd_refusal refusal = {.problem.what = what, .turn = turn};

    if (refusals->count == refusals->cap) {
        struct atd_refusal *grown =
            reallocarray(refusals->all, refusals->cap * 2 + 16, sizeof(*grown));

        if (!grown)
            return false;
        refusals->all = grown;
        refusals->cap = refusals->cap * 2 + 16;
    }
    if (shown.len > KEY_SHOWN_MAX)
        shown.len = KEY_SHOWN_MAX;
    refusal.identity = atd_refusal_identity(what, key);
    refusal.problem.key = atd_texts_keep(texts, shown);
    refusal.problem.reason = atd_texts_keep(texts, atd_str_from(reason));
    if (!refusal.problem.key.ptr || !refusal.problem.reason.ptr)
        return false;
    refusals->all[refusals->count++] = refusal;
    return true;
}

static int by_text(const void *a, const void *b)
{
    const struct atd_refusal *left = a;
    const struct atd_refusal *right = b;
    int order = strcmp(left->problem.what, right->problem.what);

    if (order == 0)
        order = atd_str_compare(left->problem.key, right->problem.key);
    if (order == 0)
        order = atd_str_compare(left->problem.reason, right->problem.reason);
    return order ? order : (left->identity > right->identity) - (left->identity < right->identity);
}

/* The latest of one key first. */
static int by_identity(const void *a, const void *b)
{
    const struct atd_gone_key *left = a;
    const struct atd_gone_key *right = b;
    int order = (left->identity > right->identity) - (left->identity < right->identity);

    return order ? order : (left->turn < right->turn) - (left->turn > right->turn);
}

/* True when the record was said to be gone after `turn`. */
static bool is_gone(const struct atd_gone_key *gone, size_t count, uint64_t identity, uint32_t turn)
{
    size_t low = 0;
    size_t high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (gone[middle].identity < identity)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && gone[low].identity == identity && gone[low].turn > turn;
}

bool atd_refusals_merge(const struct atd_refusals *base, const struct atd_refusals *fresh,
                        struct atd_gone_key *gone, size_t gone_count,
                        struct atd_refusals *ret_merged, size_t *ret_dropped_bytes)
{
    const struct atd_refusals *const sources[] = {base, fresh};
    struct atd_refusals merged = {.cap = base->count + fresh->count + 1};
    size_t kept = 0;

    merged.all = reallocarray(NULL, merged.cap, sizeof(*merged.all));
    if (!merged.all)
        return false;
    if (gone_count)
        qsort(gone, gone_count, sizeof(*gone), by_identity);
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < sources[i]->count; k++) {
            const struct atd_refusal *refusal = &sources[i]->all[k];

            if (is_gone(gone, gone_count, refusal->identity, i == 0 ? 0 : refusal->turn))
                *ret_dropped_bytes += refusal->problem.key.len + refusal->problem.reason.len + 2;
            else
                merged.all[merged.count++] = *refusal;
        }
    }
    if (fresh->count)
        qsort(merged.all, merged.count, sizeof(*merged.all), by_text);
    /* A scan may report one record several times. */
    for (size_t i = 0; i < merged.count; i++) {
        if (kept == 0 || by_text(&merged.all[kept - 1], &merged.all[i]) != 0)
            merged.all[kept++] = merged.all[i];
    }
    merged.count = kept;
    *ret_merged = merged;
    return true;
}

void atd_catalog_note_problem(struct atd_catalog *catalog, const char *what, struct atd_str key,
                              const char *reason)
{
    struct atd_problem *problems;

    catalog->derived_count++;
    if (catalog->derived_kept == ATD_PROBLEMS_KEPT_MAX)
        return;
    if (key.len > KEY_SHOWN_MAX)
        key.len = KEY_SHOWN_MAX;
    problems = realloc(catalog->derived, (catalog->derived_kept + 1) * sizeof(*problems));
    if (!problems)
        return;
    catalog->derived = problems;
    problems[catalog->derived_kept++] = (struct atd_problem){what, key, atd_str_from(reason)};
}

size_t atd_catalog_problem_count(const struct atd_catalog *catalog)
{
    return catalog->refusals.count + catalog->derived_count;
}

size_t atd_catalog_problem_kept(const struct atd_catalog *catalog)
{
    size_t kept = catalog->refusals.count + catalog->derived_kept;

    return kept < ATD_PROBLEMS_KEPT_MAX ? kept : ATD_PROBLEMS_KEPT_MAX;
}

const struct atd_problem *atd_catalog_problem_at(const struct atd_catalog *catalog, size_t place)
{
    atd_assert(place < atd_catalog_problem_kept(catalog));
    return place < catalog->refusals.count ? &catalog->refusals.all[place].problem
                                           : &catalog->derived[place - catalog->refusals.count];
}
