#include "index/redis_missed.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define ENTRY_PREFIX "LocalDatasetEntry:"
#define LABEL_PREFIX "Label:"
#define SUPERSEDED "superseded:"
#define CAPACITY_LEAST 1024u
/* Instead of the length of its name: a label with a version. */
#define NO_NAME UINT32_MAX

/* What a digest stands for. */
enum known {
    KNOWN_ENTRY,   /* key: it was read */
    KNOWN_ASKED,   /* round, key: it was asked for */
    KNOWN_AGAIN,   /* round, NAME: the label NAME@ is asked for */
    KNOWN_GONE,    /* key: it is not there */
    KNOWN_FORMER,  /* NAME, key: it is called NAME@ and something */
    KNOWN_DOUBTED, /* NAME, key: the label NAME@ that leads there was read again already */
};

void atd_redis_missed_init(struct atd_redis_missed *missed)
{
    memset(missed, 0, sizeof(*missed));
    missed->seed = atd_hash_seed();
    atd_buf_init(&missed->labels, ATD_REDIS_MISSED_BYTES_MAX);
    atd_buf_init(&missed->names, ATD_REDIS_MISSED_BYTES_MAX);
    atd_buf_init(&missed->again, ATD_REDIS_MISSED_BYTES_MAX);
}

void atd_redis_missed_release(struct atd_redis_missed *missed)
{
    free(missed->seen);
    atd_buf_release(&missed->labels);
    atd_buf_release(&missed->names);
    atd_buf_release(&missed->again);
}

/* ------------------------------------------------------------------ digests */

/* Two of one digest cost a torn state, until the next load. */
static uint64_t digest_of(const struct atd_redis_missed *missed, enum known what,
                          struct atd_str name, struct atd_str key)
{
    const char kind = (char)what;
    uint64_t sum = atd_hash(missed->seed, (struct atd_str){&kind, 1});

    sum = atd_hash(atd_hash(sum, name), key);
    return sum ? sum : 1;
}

static uint64_t *place_of(const struct atd_redis_missed *missed, uint64_t digest)
{
    size_t at = (size_t)digest & (missed->capacity - 1);

    while (missed->seen[at] && missed->seen[at] != digest)
        at = (at + 1) & (missed->capacity - 1);
    return &missed->seen[at];
}

static bool grow(struct atd_redis_missed *missed)
{
    struct atd_redis_missed larger = *missed;

    larger.capacity = missed->capacity ? 2 * missed->capacity : CAPACITY_LEAST;
    larger.seen = calloc(larger.capacity, sizeof(*larger.seen));
    if (!larger.seen)
        return false;
    for (size_t i = 0; i < missed->capacity; i++) {
        if (missed->seen[i])
            *place_of(&larger, missed->seen[i]) = missed->seen[i];
    }
    free(missed->seen);
    *missed = larger;
    return true;
}

/* True when it was not there. */
static bool add(struct atd_redis_missed *missed, enum known what, struct atd_str name,
                struct atd_str key)
{
    uint64_t digest = digest_of(missed, what, name, key);
    uint64_t *place;

    if (missed->incomplete)
        return false;
    if (2 * missed->count >= missed->capacity && !grow(missed)) {
        missed->incomplete = true;
        return false;
    }
    place = place_of(missed, digest);
    if (*place)
        return false;
    *place = digest;
    missed->count++;
    return true;
}

static bool has(const struct atd_redis_missed *missed, enum known what, struct atd_str name,
                struct atd_str key)
{
    return missed->capacity && *place_of(missed, digest_of(missed, what, name, key)) != 0;
}

/* ------------------------------------------------------------------ what was read */

void atd_redis_missed_note_entry(struct atd_redis_missed *missed, struct atd_str key)
{
    (void)add(missed, KNOWN_ENTRY, ATD_STR(""), key);
}

static bool has_room(const struct atd_buf *buf, size_t len)
{
    return !buf->failed && buf->len + len <= ATD_REDIS_MISSED_BYTES_MAX;
}

static void append_length(struct atd_buf *buf, size_t len)
{
    uint32_t text_len = (uint32_t)len;

    atd_buf_append(buf, &text_len, sizeof(text_len));
}

/* The u32 at `at`, which moves behind it. */
static uint32_t take_length(const struct atd_buf *buf, size_t *at)
{
    uint32_t len;

    memcpy(&len, buf->ptr + *at, sizeof(len));
    *at += sizeof(len);
    return len;
}

static struct atd_str take_text(const struct atd_buf *buf, size_t len, size_t *at)
{
    struct atd_str text = {(const char *)buf->ptr + *at, len};

    *at += len;
    return text;
}

void atd_redis_missed_note_name(struct atd_redis_missed *missed, struct atd_str key,
                                struct atd_str name)
{
    ptrdiff_t at = atd_str_find_last(name, '@');
    struct atd_str base = at < 0 ? name : atd_str_head(name, (size_t)at);
    struct atd_str rest = at < 0 ? ATD_STR("") : atd_str_from_byte(name, (size_t)at + 1);

    if (at < 0)
        return;
    (void)add(missed, KNOWN_FORMER, base, key);
    if (!atd_str_starts_with(rest, ATD_STR(SUPERSEDED)) ||
        !atd_str_ends_with(key, atd_str_from_byte(rest, strlen(SUPERSEDED))) ||
        !has_room(&missed->names, sizeof(uint32_t) + base.len))
        return;
    append_length(&missed->names, base.len);
    atd_buf_append_str(&missed->names, base);
}

void atd_redis_missed_note_gone(struct atd_redis_missed *missed, struct atd_str key)
{
    (void)add(missed, KNOWN_GONE, ATD_STR(""), key);
}

/* A label: u32 length of the entry's key, u32 length of its own name or NO_NAME; the two texts. */
bool atd_redis_missed_note_label(struct atd_redis_missed *missed,
                                 const struct atd_index_label *label)
{
    size_t key_len = strlen(ENTRY_PREFIX) + label->cid.len;
    size_t name_len = label->version.len ? 0 : label->name.len;
    size_t start = missed->labels.len + 2 * sizeof(uint32_t);
    struct atd_str key;

    if (!has_room(&missed->labels, 2 * sizeof(uint32_t) + key_len + name_len))
        return true;
    append_length(&missed->labels, key_len);
    append_length(&missed->labels, label->version.len ? NO_NAME : name_len);
    atd_buf_append_text(&missed->labels, ENTRY_PREFIX);
    atd_buf_append_str(&missed->labels, label->cid);
    if (name_len)
        atd_buf_append_str(&missed->labels, label->name);
    if (missed->rounds == 0 || missed->labels.failed)
        return true;
    key = (struct atd_str){(const char *)missed->labels.ptr + start, key_len};
    return !has(missed, KNOWN_DOUBTED, label->name, key);
}

/* The label at `at`, which moves behind it; false: it has a version, so that *ret_name is none. */
static bool take_label(const struct atd_redis_missed *missed, size_t *at, struct atd_str *ret_key,
                       struct atd_str *ret_name)
{
    uint32_t key_len = take_length(&missed->labels, at);
    uint32_t name_len = take_length(&missed->labels, at);

    *ret_key = take_text(&missed->labels, key_len, at);
    *ret_name = take_text(&missed->labels, name_len == NO_NAME ? 0 : name_len, at);
    return name_len != NO_NAME;
}

/* ------------------------------------------------------------------ what is to be read */

static struct atd_str round_of(const struct atd_redis_missed *missed)
{
    return (struct atd_str){(const char *)&missed->rounds, sizeof(missed->rounds)};
}

bool atd_redis_missed_next_entry(struct atd_redis_missed *missed, struct atd_str *ret_key)
{
    while (!missed->labels.failed && missed->next_label < missed->labels.len) {
        struct atd_str name;

        (void)take_label(missed, &missed->next_label, ret_key, &name);
        if (!has(missed, KNOWN_ENTRY, ATD_STR(""), *ret_key) &&
            add(missed, KNOWN_ASKED, round_of(missed), *ret_key))
            return true;
    }
    return false;
}

/* `key`: where the label led; empty: it was not read. */
static void read_again(struct atd_redis_missed *missed, struct atd_str name, struct atd_str key)
{
    size_t len = strlen(LABEL_PREFIX) + name.len + 1;

    if (!has_room(&missed->again, sizeof(uint32_t) + len) ||
        !add(missed, KNOWN_DOUBTED, name, key) || !add(missed, KNOWN_AGAIN, round_of(missed), name))
        return;
    append_length(&missed->again, len);
    atd_buf_append_text(&missed->again, LABEL_PREFIX);
    atd_buf_append_str(&missed->again, name);
    atd_buf_append_byte(&missed->again, '@');
}

bool atd_redis_missed_begin_round(struct atd_redis_missed *missed)
{
    atd_buf_clear(&missed->again);
    missed->next_again = 0;
    if (++missed->rounds > ATD_REDIS_MISSED_ROUNDS_MAX || missed->labels.failed ||
        missed->names.failed)
        return false;
    while (missed->next_doubt < missed->labels.len) {
        struct atd_str name;
        struct atd_str key;

        if (take_label(missed, &missed->next_doubt, &key, &name) &&
            (has(missed, KNOWN_GONE, ATD_STR(""), key) || has(missed, KNOWN_FORMER, name, key)))
            read_again(missed, name, key);
    }
    while (missed->next_name < missed->names.len) {
        uint32_t len = take_length(&missed->names, &missed->next_name);

        read_again(missed, take_text(&missed->names, len, &missed->next_name), ATD_STR(""));
    }
    return !missed->again.failed && missed->again.len > 0;
}

bool atd_redis_missed_next_label(struct atd_redis_missed *missed, struct atd_str *ret_key)
{
    uint32_t len;

    if (missed->next_again == missed->again.len)
        return false;
    len = take_length(&missed->again, &missed->next_again);
    *ret_key = take_text(&missed->again, len, &missed->next_again);
    return true;
}
