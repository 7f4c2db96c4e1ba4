#include "dataset/sample_stream.h"

#include <errno.h>
#include <stdlib.h>

#include "atdata/tar_index.h"
#include "base/cleanup.h"
#include "dataset/member_stream.h"

#define PACKED_EXTENSION "msgpack"
#define EXTENSION_BYTES_MAX 256u
/* Of one sample's decoded fields; their texts stay in the member. */
#define FIELDS_BYTES_MAX ((size_t)64 << 20)

struct atd_sample_stream {
    const struct atd_shard_source *sources;
    size_t count;
    size_t at; /* the shard that is read: `stream`'s when there is one */
    struct atd_stream_options options;
    struct atd_shard_stream *stream;
    struct atd_shard_stream *ahead; /* of the next shard, begun early */
    struct atd_member_stream *members;
    bool has_packed; /* a sample of this shard had a msgpack member */
    /* the first member of the next sample; views of `members` */
    bool is_pending;
    struct atd_str name;
    struct atd_bytes data;
};

void atd_loaded_memory_free(struct atd_loaded_memory *memory)
{
    if (!memory)
        return;
    atd_buf_release(&memory->bytes);
    atd_arena_release(&memory->arena);
    free(memory->members);
    free(memory->places);
    free(memory);
}

int atd_sample_stream_new(const struct atd_shard_source *sources, size_t count,
                          const struct atd_stream_options *options,
                          struct atd_sample_stream **ret_samples, struct atd_error *err)
{
    struct atd_sample_stream *samples = calloc(1, sizeof(*samples));

    if (!samples)
        return atd_error_set(err, ENOMEM, "out of memory");
    samples->sources = sources;
    samples->count = count;
    samples->options = *options;
    /* Two shards may be read at once, the second one ahead. */
    samples->options.window_bytes /= 2;
    *ret_samples = samples;
    return 0;
}

void atd_sample_stream_free(struct atd_sample_stream *samples)
{
    if (!samples)
        return;
    atd_member_stream_free(samples->members);
    atd_shard_stream_close(samples->stream);
    atd_shard_stream_close(samples->ahead);
    free(samples);
}

/* ------------------------------------------------------------------ shards */

static int next_bytes(void *ctx, struct atd_bytes *ret_bytes, struct atd_error *err)
{
    struct atd_sample_stream *samples = ctx;
    int rc = atd_shard_stream_next(samples->stream, ret_bytes, err);

    /* What is wrong with the next one is told when its turn comes. */
    if (rc == 0 && !samples->ahead && samples->at + 1 < samples->count &&
        !samples->sources[samples->at + 1].path.ptr && samples->sources[samples->at + 1].is_known &&
        atd_shard_stream_is_asked(samples->stream))
        (void)!atd_shard_stream_open(&samples->sources[samples->at + 1], &samples->options,
                                     &samples->ahead, NULL);
    return rc;
}

static int open_shard(struct atd_sample_stream *samples, struct atd_error *err)
{
    samples->stream = atd_steal(samples->ahead);
    if (!samples->stream) {
        int rc = atd_shard_stream_open(&samples->sources[samples->at], &samples->options,
                                       &samples->stream, err);

        if (rc)
            return rc;
    }
    samples->has_packed = false;
    samples->members = atd_member_stream_new(next_bytes, samples);
    return samples->members ? 0 : atd_error_set(err, ENOMEM, "out of memory");
}

static void close_shard(struct atd_sample_stream *samples)
{
    atd_member_stream_free(atd_steal(samples->members));
    atd_shard_stream_close(atd_steal(samples->stream));
    samples->at++;
}

/* ------------------------------------------------------------------ one sample */

static void begin(struct atd_loaded_memory *memory, struct atd_str key)
{
    memory->bytes.max_bytes = ATD_LOADED_BYTES_MAX + ATD_TAR_NAME_BYTES_MAX;
    atd_buf_clear(&memory->bytes);
    atd_arena_release(&memory->arena);
    atd_arena_init(&memory->arena, FIELDS_BYTES_MAX);
    memory->loaded = (struct atd_loaded){.key = {NULL, key.len}};
    atd_buf_append_str(&memory->bytes, key);
}

static bool make_room(struct atd_loaded_memory *memory)
{
    size_t cap = memory->member_cap ? 2 * memory->member_cap : 4;
    struct atd_loaded_member *members;
    struct atd_loaded_place *places;

    if (memory->loaded.member_count < memory->member_cap)
        return true;
    members = realloc(memory->members, cap * sizeof(*members));
    if (members)
        memory->members = members;
    places = realloc(memory->places, cap * sizeof(*places));
    if (places)
        memory->places = places;
    if (!members || !places)
        return false;
    memory->member_cap = cap;
    return true;
}

/* Texts are pointed to when all of them are there: the buffer moves as it grows. */
static int add_member(struct atd_loaded_memory *memory, const char *extension,
                      struct atd_bytes data, struct atd_error *err)
{
    size_t place = memory->loaded.member_count;
    struct atd_str text = atd_str_from(extension);

    if (place == ATD_LOADED_MEMBERS_MAX)
        return atd_error_set(err, E2BIG, "more than %u members", ATD_LOADED_MEMBERS_MAX);
    if (!make_room(memory))
        return atd_error_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < place; i++) {
        const struct atd_loaded_member *other = &memory->members[i];

        if (other->extension.len == text.len &&
            memcmp(memory->bytes.ptr + memory->places[i].extension, text.ptr, text.len) == 0)
            return atd_error_set(err, EINVAL, "it has two members '%s'", extension);
    }
    memory->members[place].extension.len = text.len;
    memory->members[place].bytes.len = data.len;
    memory->places[place].extension = memory->bytes.len;
    atd_buf_append_str(&memory->bytes, text);
    memory->places[place].data = memory->bytes.len;
    atd_buf_append(&memory->bytes, data.ptr, data.len);
    memory->loaded.member_count++;
    return atd_buf_finish(&memory->bytes, "it", err);
}

static int finish(struct atd_sample_stream *samples, struct atd_loaded_memory *memory,
                  struct atd_error *err)
{
    const struct atd_loaded_member *packed = NULL;

    memory->loaded.key.ptr = (const char *)memory->bytes.ptr;
    memory->loaded.members = memory->members;
    for (size_t i = 0; i < memory->loaded.member_count; i++) {
        struct atd_loaded_member *member = &memory->members[i];

        member->extension.ptr = (const char *)memory->bytes.ptr + memory->places[i].extension;
        member->bytes.ptr = memory->bytes.ptr + memory->places[i].data;
        if (atd_str_equal(member->extension, ATD_STR(PACKED_EXTENSION)))
            packed = member;
    }
    if (packed) {
        samples->has_packed = true;
        return atd_sample_decode(packed->bytes, &memory->arena, &memory->loaded.sample, err);
    }
    if (!samples->has_packed)
        return 0;
    return atd_error_set(err, EINVAL,
                         "it has no member '" PACKED_EXTENSION "', as those before "
                         "it have");
}

/* The next member that counts; false in *ret_is_there: the shard has no more. */
static int look_ahead(struct atd_sample_stream *samples, struct atd_str *ret_key, char *extension,
                      bool *ret_is_there, struct atd_error *err)
{
    for (;;) {
        int rc = samples->is_pending ? 0
                                     : atd_member_stream_next(samples->members, &samples->name,
                                                              &samples->data, err);

        if (rc)
            return rc;
        samples->is_pending = false;
        *ret_is_there = samples->name.ptr != NULL;
        if (!*ret_is_there)
            return 0;
        if (atd_tar_split_name(samples->name, ret_key, extension, EXTENSION_BYTES_MAX))
            break;
    }
    samples->is_pending = true;
    return 0;
}

/* Takes the members of one key. *ret_is_there false: the shard has none any more. */
static int take_sample(struct atd_sample_stream *samples, struct atd_loaded_memory *memory,
                       bool *ret_is_there, struct atd_error *err)
{
    char extension[EXTENSION_BYTES_MAX];
    struct atd_str key;
    bool more;
    int rc = look_ahead(samples, &key, extension, &more, err);

    *ret_is_there = rc == 0 && more;
    if (!*ret_is_there)
        return rc;
    begin(memory, key);
    do {
        samples->is_pending = false;
        rc = add_member(memory, extension, samples->data, err);
        if (rc)
            break;
        rc = look_ahead(samples, &key, extension, &more, err);
        if (rc)
            return rc;
    } while (more && key.len == memory->loaded.key.len &&
             (key.len == 0 || memcmp(key.ptr, memory->bytes.ptr, key.len) == 0));
    if (rc == 0)
        rc = finish(samples, memory, err);
    key = (struct atd_str){(const char *)memory->bytes.ptr, memory->loaded.key.len};
    return rc ? atd_error_wrap(err, rc, "sample '" ATD_STR_FMT "'", ATD_STR_ARG(key)) : 0;
}

int atd_sample_stream_next(struct atd_sample_stream *samples, struct atd_loaded_memory *memory,
                           bool *ret_is_there, struct atd_error *err)
{
    *ret_is_there = false;
    while (samples->at < samples->count) {
        int rc = samples->members ? 0 : open_shard(samples, err);

        if (rc == 0)
            rc = take_sample(samples, memory, ret_is_there, err);
        if (rc)
            return atd_error_wrap(err, rc, "shard '" ATD_STR_FMT "'",
                                  ATD_STR_ARG(samples->sources[samples->at].url));
        if (*ret_is_there)
            return 0;
        close_shard(samples);
    }
    return 0;
}
