#include "publish/inspect_members.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/cleanup.h"

/* The fields of one decoded sample: at most 65,536 of them. */
#define SAMPLE_ARENA_BYTES_MAX (16u << 20)

/* Consecutive members of one key. */
struct group {
    struct atd_buf name; /* of its first member; its key is the beginning of it */
    size_t key_len;
    struct atd_buf extensions; /* each with a NUL behind it: names hold none */
    size_t count;
    bool has_msgpack;
};

struct atd_inspect_members {
    const struct atd_schema *schema;
    struct atd_schema_inferrer *seen;
    struct group group;        /* the one that may yet go on */
    struct atd_buf plain_name; /* the first member of the first sample without msgpack, or empty */
    struct atd_buf wanted;     /* name of the member whose bytes are due */
    uint64_t samples;
    bool is_msgpack;
};

struct atd_inspect_members *atd_inspect_members_new(const struct atd_schema *schema)
{
    struct atd_inspect_members *members = calloc(1, sizeof(*members));

    if (!members)
        return NULL;
    members->schema = schema;
    members->seen = atd_schema_inferrer_new();
    atd_buf_init(&members->group.name, ATD_TAR_NAME_BYTES_MAX);
    atd_buf_init(&members->group.extensions,
                 (size_t)ATD_SAMPLE_MEMBERS_MAX * (ATD_SAMPLE_EXTENSION_MAX + 1));
    atd_buf_init(&members->plain_name, ATD_TAR_NAME_BYTES_MAX);
    atd_buf_init(&members->wanted, ATD_TAR_NAME_BYTES_MAX);
    if (!members->seen) {
        free(members);
        return NULL;
    }
    return members;
}

void atd_inspect_members_free(struct atd_inspect_members *members)
{
    if (!members)
        return;
    atd_schema_inferrer_free(members->seen);
    atd_buf_release(&members->group.name);
    atd_buf_release(&members->group.extensions);
    atd_buf_release(&members->plain_name);
    atd_buf_release(&members->wanted);
    free(members);
}

static int keep_name(struct atd_buf *buf, struct atd_str name, struct atd_error *err)
{
    atd_buf_clear(buf);
    atd_buf_append_str(buf, name);
    return atd_buf_finish(buf, "tar member name", err);
}

/* Walks a group's extensions; `at` begins as 0. */
static bool next_extension(const struct group *group, size_t *at, struct atd_str *ret_extension)
{
    if (*at >= group->extensions.len)
        return false;
    *ret_extension = atd_str_from((const char *)group->extensions.ptr + *at);
    *at += ret_extension->len + 1;
    return true;
}

static bool has_extension(const struct group *group, struct atd_str extension)
{
    struct atd_str other;
    size_t at = 0;

    while (next_extension(group, &at, &other))
        if (atd_str_equal(other, extension))
            return true;
    return false;
}

/* ------------------------------------------------------------------ whole samples */

/* A sample without msgpack: each of its members is a field. */
static int finish_plain(struct atd_inspect_members *members, struct atd_error *err)
{
    const struct group *group = &members->group;
    struct atd_str name = atd_buf_str(&group->name);
    struct atd_str extension;
    size_t at = 0;
    int rc;

    if (members->is_msgpack)
        return atd_error_set(err, EINVAL,
                             "member '" ATD_STR_FMT "' is no part of an atdata sample, and others "
                             "are: webdataset stops there, leave it out",
                             ATD_STR_ARG(name));
    if (members->plain_name.len == 0) {
        rc = keep_name(&members->plain_name, name, err);
        if (rc != 0)
            return rc;
    }
    while (next_extension(group, &at, &extension)) {
        rc = atd_schema_inferrer_add_member(members->seen, members->samples, extension, err);
        if (rc != 0)
            return atd_error_wrap(err, rc, "sample '" ATD_STR_FMT "'",
                                  ATD_STR_ARG(atd_str_head(name, group->key_len)));
    }
    return 0;
}

static int finish_msgpack(struct atd_inspect_members *members, struct atd_error *err)
{
    if (members->plain_name.len)
        return atd_error_set(err, EINVAL,
                             "member '" ATD_STR_FMT "' is no part of an atdata sample, and others "
                             "are: webdataset stops there, leave it out",
                             ATD_STR_ARG(atd_buf_str(&members->plain_name)));
    members->is_msgpack = true;
    return 0;
}

/* The key changes, or the shard ends: the sample is whole. */
static int finish_group(struct atd_inspect_members *members, struct atd_error *err)
{
    int rc;

    if (members->group.count == 0)
        return 0;
    rc = members->group.has_msgpack ? finish_msgpack(members, err) : finish_plain(members, err);
    members->group.count = 0;
    members->samples += rc == 0;
    return rc;
}

/* ------------------------------------------------------------------ members */

/* What webdataset keeps in a sample beside its members. Source: webdataset, group_by_keys(). */
static bool is_reserved(struct atd_str extension)
{
    return atd_str_equal(extension, ATD_STR("__key__")) ||
           atd_str_equal(extension, ATD_STR("__url__")) ||
           atd_str_equal(extension, ATD_STR("__local_path__")) ||
           atd_str_equal(extension, ATD_STR("__bad__"));
}

static int check_extension(const struct atd_tar_member *member, struct atd_str key,
                           struct atd_str extension, struct atd_error *err)
{
    if (member->name.len - key.len - 1 > ATD_SAMPLE_EXTENSION_MAX)
        return atd_error_set(err, E2BIG,
                             "member '" ATD_STR_FMT "': what follows the first dot is longer than "
                             "%u bytes",
                             ATD_STR_ARG(member->name), ATD_SAMPLE_EXTENSION_MAX);
    if (atd_str_ends_with(extension, ATD_STR(".msgpack")))
        return atd_error_set(err, EINVAL,
                             "member '" ATD_STR_FMT "': webdataset takes the key for '" ATD_STR_FMT
                             "', up to the first dot, and finds no .msgpack: rename it",
                             ATD_STR_ARG(member->name), ATD_STR_ARG(key));
    if (is_reserved(extension))
        return atd_error_set(err, EINVAL,
                             "member '" ATD_STR_FMT "': webdataset uses that extension itself",
                             ATD_STR_ARG(member->name));
    return 0;
}

/* Puts a member into the group of its key, which it begins when the key is another. */
static int join_group(struct atd_inspect_members *members, const struct atd_tar_member *member,
                      struct atd_str key, struct atd_str extension, struct atd_error *err)
{
    struct group *group = &members->group;
    int rc = 0;

    if (group->count &&
        !atd_str_equal(key, atd_str_head(atd_buf_str(&group->name), group->key_len)))
        rc = finish_group(members, err);
    if (rc == 0 && group->count == 0) {
        rc = keep_name(&group->name, member->name, err);
        group->key_len = key.len;
        group->has_msgpack = false;
        atd_buf_clear(&group->extensions);
    }
    if (rc != 0)
        return rc;
    if (group->count && has_extension(group, extension))
        return atd_error_set(err, EINVAL,
                             "member '" ATD_STR_FMT "' is there twice in one sample, where "
                             "webdataset stops",
                             ATD_STR_ARG(member->name));
    if (group->count == ATD_SAMPLE_MEMBERS_MAX)
        return atd_error_set(err, E2BIG, "sample '" ATD_STR_FMT "' has more than %u members",
                             ATD_STR_ARG(key), ATD_SAMPLE_MEMBERS_MAX);
    atd_buf_append(&group->extensions, extension.ptr, extension.len + 1);
    group->count++;
    return atd_buf_finish(&group->extensions, "tar member name", err);
}

int atd_inspect_members_add(struct atd_inspect_members *members,
                            const struct atd_tar_member *member, bool *ret_wanted,
                            struct atd_error *err)
{
    char text[ATD_SAMPLE_EXTENSION_MAX + 1];
    struct atd_str extension;
    struct atd_str key;
    bool wanted;
    int rc;

    *ret_wanted = false;
    if (!member->is_file || !atd_tar_split_name(member->name, &key, text, sizeof(text)))
        return 0; /* webdataset skips it, within a sample too */
    extension = atd_str_from(text);
    rc = check_extension(member, key, extension, err);
    if (rc == 0)
        rc = join_group(members, member, key, extension, err);
    if (rc != 0)
        return rc;
    wanted = atd_str_equal(extension, ATD_STR("msgpack"));
    if (wanted) {
        members->group.has_msgpack = true;
        rc = keep_name(&members->wanted, member->name, err);
    }
    *ret_wanted = rc == 0 && wanted;
    return rc;
}

int atd_inspect_members_decode(struct atd_inspect_members *members, struct atd_bytes msgpack,
                               struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(SAMPLE_ARENA_BYTES_MAX);
    struct atd_sample sample;
    int rc = atd_sample_decode(msgpack, &arena, &sample, err);

    if (rc == 0)
        rc = members->schema ? atd_schema_conforms(members->schema, &sample, err)
                             : atd_schema_inferrer_add(members->seen, &sample, err);
    if (rc != 0)
        return atd_error_wrap(err, rc, "member '" ATD_STR_FMT "'",
                              ATD_STR_ARG(atd_buf_str(&members->wanted)));
    return 0;
}

static const struct atd_field *find_field(const struct atd_schema *schema, struct atd_str name)
{
    for (size_t i = 0; i < schema->field_count; i++)
        if (atd_str_equal(schema->fields[i].name, name))
            return &schema->fields[i];
    return NULL;
}

/* Plain samples fit when their members are the schema's fields: what is in them is not typed. */
static int conform_plain(const struct atd_inspect_members *members, struct atd_error *err)
{
    atd_auto_arena struct atd_arena arena = ATD_ARENA_INIT(SAMPLE_ARENA_BYTES_MAX);
    const struct atd_schema *schema = members->schema;
    struct atd_schema seen;
    int rc = atd_schema_inferrer_finish(members->seen, ATD_STR("Seen"), ATD_STR("1.0.0"),
                                        ATD_STR(""), &arena, &seen, err);

    for (size_t i = 0; rc == 0 && i < seen.field_count; i++)
        if (!find_field(schema, seen.fields[i].name))
            rc = atd_error_set(err, EINVAL,
                               "samples have members for '" ATD_STR_FMT "', and the schema has no "
                               "such field",
                               ATD_STR_ARG(seen.fields[i].name));
    for (size_t i = 0; rc == 0 && i < schema->field_count; i++) {
        const struct atd_field *field = find_field(&seen, schema->fields[i].name);

        if (!schema->fields[i].optional && (!field || field->optional))
            rc = atd_error_set(err, EINVAL,
                               "%s have no member for the field '" ATD_STR_FMT "', which the "
                               "schema requires",
                               field ? "some samples" : "samples",
                               ATD_STR_ARG(schema->fields[i].name));
    }
    return rc;
}

int atd_inspect_members_finish(struct atd_inspect_members *members, struct atd_error *err)
{
    int rc = finish_group(members, err);

    if (rc == 0 && members->schema && members->samples && !members->is_msgpack)
        rc = conform_plain(members, err);
    return rc;
}

uint64_t atd_inspect_members_samples(const struct atd_inspect_members *members)
{
    return members->samples;
}

bool atd_inspect_members_are_msgpack(const struct atd_inspect_members *members)
{
    return members->is_msgpack;
}

const struct atd_schema_inferrer *
atd_inspect_members_seen(const struct atd_inspect_members *members)
{
    return members->seen;
}
