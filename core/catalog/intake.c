#include "catalog/intake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "atdata/entry.h"
#include "atdata/schema.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/limits.h"
#include "catalog/generation.h"
#include "codec/file_name.h"

#define SCRATCH_BYTES_MAX ((size_t)8 << 30)
/* ".json", the longer of the suffixes that a schema's stem is shown with. */
#define SCHEMA_SUFFIX ".json"
/* Into so many names and versions one key is split; beyond it loading all costs less. */
#define GONE_PAIRS_MAX 64u
/* The texts of one record, put together. */
#define RECORD_BYTES_MAX ((size_t)4 << 30)

_Static_assert(ATD_NAME_BYTES_MAX < 1u << 24, "a name's length fits a row");

void atd_intake_init(struct atd_intake *intake, struct atd_texts *texts)
{
    *intake = (struct atd_intake){.texts = texts};
    atd_arena_init(&intake->scratch, SCRATCH_BYTES_MAX);
    atd_buf_init(&intake->buf, RECORD_BYTES_MAX);
}

void atd_intake_release(struct atd_intake *intake)
{
    atd_fresh_release(&intake->entries);
    atd_fresh_release(&intake->labels);
    atd_fresh_release(&intake->schemas);
    free(intake->refusals.all);
    free(intake->gone);
    atd_buf_release(&intake->buf);
    atd_arena_release(&intake->scratch);
}

static int no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "the catalog needs more memory than there is");
}

/* `key` stands for the record, as index.h spells it. */
static void refuse(struct atd_intake *intake, const char *what, struct atd_str key,
                   struct atd_str shown, const char *reason)
{
    if (!atd_refusals_add(&intake->refusals, intake->texts, what, key, shown, reason,
                          ++intake->turn))
        intake->out_of_memory = true;
}

static int64_t seconds_of(struct atd_str created_at)
{
    int64_t seconds;

    return created_at.ptr && atd_clock_parse(created_at, &seconds) ? seconds : 0;
}

/* Why a record cannot be kept whose names these are; NULL: it can. */
static const char *names_fault(struct atd_str a, struct atd_str b, struct atd_str c, char *storage,
                               size_t size)
{
    if (a.len <= ATD_NAME_BYTES_MAX && b.len <= ATD_NAME_BYTES_MAX && c.len <= ATD_NAME_BYTES_MAX)
        return NULL;
    (void)snprintf(storage, size, "a name is longer than %u bytes", ATD_NAME_BYTES_MAX);
    return storage;
}

/* ------------------------------------------------------------------ entries */

/* Appends the file name of `name`, if it is another; how long it is then. */
static uint8_t append_file_name(struct atd_buf *buf, struct atd_str name, struct atd_str identity)
{
    size_t before = buf->len;

    if (atd_file_name_is_plain(name))
        return 0;
    atd_file_name_encode(name, identity, ATD_STR(""), buf);
    atd_assert(buf->failed || (buf->len > before && buf->len - before <= ATD_FILE_NAME_MAX));
    return (uint8_t)(buf->len - before);
}

/* Fills in all but created_at_s and url_count; the texts are kept in `arena`, or NULL: for good. */
static bool pack_entry(struct atd_intake *intake, const struct atd_index_entry *from,
                       struct atd_arena *arena, struct atd_catalog_entry *entry)
{
    struct atd_buf *buf = &intake->buf;

    atd_buf_clear(buf);
    atd_buf_append_str(buf, from->cid);
    atd_buf_append_byte(buf, '\0');
    atd_buf_append_str(buf, from->name);
    atd_buf_append_byte(buf, '\0');
    atd_buf_append(buf, from->data_urls.ptr, from->data_urls.len);
    if (from->metadata.ptr)
        atd_buf_append(buf, from->metadata.ptr, from->metadata.len);
    entry->cid_len = (uint32_t)from->cid.len & 0xffffff;
    entry->name_len = (uint32_t)from->name.len;
    entry->data_urls_len = (uint32_t)from->data_urls.len;
    entry->metadata_len = from->metadata.ptr ? (uint32_t)from->metadata.len : ATD_NONE;
    entry->file_name_len = append_file_name(buf, from->cid, from->cid);
    if (buf->failed)
        return false;
    entry->text = arena ? atd_arena_str(arena, atd_buf_str(buf)).ptr
                        : atd_texts_keep(intake->texts, atd_buf_str(buf)).ptr;
    entry->ref = atd_texts_share(intake->texts, from->schema_ref);
    return entry->text && entry->ref;
}

static int add_entry(void *ctx, const struct atd_index_entry *from, struct atd_error *err)
{
    struct atd_intake *intake = ctx;
    struct atd_error why = ATD_ERROR_INIT;
    struct atd_catalog_entry entry = {.schema = ATD_NONE};
    struct atd_index_entry record = *from;
    bool no_metadata = false;
    size_t url_count = 0;
    char storage[96];
    const char *fault =
        names_fault(from->cid, from->name, from->schema_ref, storage, sizeof(storage));

    if (!fault &&
        (atd_urls_check(from->data_urls, &url_count, &why) != 0 ||
         (from->metadata.ptr && atd_metadata_check(from->metadata, &no_metadata, &why) != 0)))
        fault = why.text;
    if (fault) {
        refuse(intake, "entry", from->cid, from->cid, fault);
        return 0;
    }
    if (no_metadata)
        record.metadata = (struct atd_bytes){NULL, 0};
    entry.url_count = (uint32_t)url_count;
    entry.created_at_s = seconds_of(from->created_at);
    if (!pack_entry(intake, &record, NULL, &entry) ||
        !atd_fresh_add(&intake->entries, &atd_entry_rows, &entry, false))
        return no_memory(err);
    return 0;
}

/* ------------------------------------------------------------------ labels */

/* In scratch: what an entry has too is not kept twice (atd_label_settle). */
static bool pack_label(struct atd_intake *intake, const struct atd_index_label *from,
                       struct atd_catalog_label *label)
{
    struct atd_buf *buf = &intake->buf;
    size_t text;
    const char *kept;

    atd_buf_clear(buf);
    atd_buf_append_str(buf, from->name);
    atd_buf_append_byte(buf, '\0');
    atd_buf_append_str(buf, from->cid);
    atd_buf_append_byte(buf, '\0');
    text = buf->len;
    atd_buf_append_str(buf, from->version);
    atd_buf_append_byte(buf, '\0');
    if (from->created_at.ptr) {
        atd_buf_append_str(buf, from->created_at);
        atd_buf_append_byte(buf, '\0');
    }
    if (from->description.ptr) {
        atd_buf_append_str(buf, from->description);
        atd_buf_append_byte(buf, '\0');
    }
    label->name_len = (uint32_t)from->name.len & 0xffffff;
    label->cid_len = (uint32_t)from->cid.len;
    label->version_len = (uint32_t)from->version.len;
    label->created_at_len = from->created_at.ptr ? (uint32_t)from->created_at.len : ATD_NONE;
    label->description_len = from->description.ptr ? (uint32_t)from->description.len : ATD_NONE;
    if (from->version.len) {
        atd_auto_buf struct atd_buf whole = ATD_BUF_INIT(4 * (size_t)ATD_NAME_BYTES_MAX);
        size_t before = buf->len;

        atd_buf_append_str(&whole, from->name);
        atd_buf_append_byte(&whole, '@');
        atd_buf_append_str(&whole, from->version);
        if (whole.failed)
            return false;
        atd_file_name_encode(atd_buf_str(&whole), from->cid, ATD_STR(""), buf);
        label->file_name_len = (uint8_t)(buf->len - before);
    }
    kept = buf->failed ? NULL : atd_arena_str(&intake->scratch, atd_buf_str(buf)).ptr;
    if (!kept)
        return false;
    label->name = kept;
    label->cid = kept + from->name.len + 1;
    label->text = kept + text;
    return true;
}

bool atd_label_settle(struct atd_texts *texts, const struct atd_catalog_entry *entry,
                      struct atd_catalog_label *label)
{
    bool shares_name = entry && atd_str_equal(atd_entry_name(entry), atd_label_name(label));

    label->name =
        shares_name ? atd_entry_name(entry).ptr : atd_texts_keep(texts, atd_label_name(label)).ptr;
    label->cid = entry ? atd_entry_cid(entry).ptr : atd_texts_keep(texts, atd_label_cid(label)).ptr;
    label->text = atd_texts_keep(texts, atd_label_own_text(label)).ptr;
    return label->name && label->cid && label->text;
}

/* "NAME@VERSION", in scratch; ptr NULL when out of memory. */
static struct atd_str versioned(struct atd_intake *intake, struct atd_str name,
                                struct atd_str version)
{
    atd_buf_clear(&intake->buf);
    atd_buf_append_str(&intake->buf, name);
    atd_buf_append_byte(&intake->buf, '@');
    atd_buf_append_str(&intake->buf, version);
    return intake->buf.failed ? (struct atd_str){NULL, 0}
                              : atd_arena_str(&intake->scratch, atd_buf_str(&intake->buf));
}

static int add_label(void *ctx, const struct atd_index_label *from, struct atd_error *err)
{
    struct atd_intake *intake = ctx;
    struct atd_catalog_label label = {.entry = ATD_NONE};
    char storage[96];
    const char *fault = names_fault(from->name, from->version, from->cid, storage, sizeof(storage));

    if (fault) {
        struct atd_str whole = versioned(intake, from->name, from->version);

        if (!whole.ptr)
            return no_memory(err);
        refuse(intake, "label", whole, from->name, fault);
        return 0;
    }
    if (from->description.len >= ATD_NONE || from->created_at.len >= ATD_NONE ||
        !pack_label(intake, from, &label) ||
        !atd_fresh_add(&intake->labels, &atd_label_rows, &label, false))
        return no_memory(err);
    return 0;
}

/* ------------------------------------------------------------------ schemas */

/* The stem of "NAME@VERSION", in the buffer. A schema has no CID: the digest of its name tells cut
 * file names apart. False when out of memory. */
static bool make_stem(struct atd_intake *intake, struct atd_str whole)
{
    uint8_t digest[ATD_SHA256_BYTES];
    char hex[17];

    atd_sha256_of(whole.ptr, whole.len, digest);
    for (size_t i = 0; i < 8; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    atd_buf_clear(&intake->buf);
    atd_file_name_encode(whole, atd_str_from(hex), atd_str_from(SCHEMA_SUFFIX), &intake->buf);
    if (intake->buf.failed)
        return false;
    intake->buf.len -= strlen(SCHEMA_SUFFIX);
    return true;
}

static bool pack_schema(struct atd_intake *intake, struct atd_str name, struct atd_str version,
                        struct atd_bytes json, struct atd_catalog_schema *schema)
{
    struct atd_str whole = versioned(intake, name, version);

    if (!whole.ptr || !make_stem(intake, whole))
        return false;
    schema->stem = atd_texts_keep(intake->texts, atd_buf_str(&intake->buf));
    schema->name = atd_texts_keep(intake->texts, name);
    schema->version = atd_texts_keep(intake->texts, version);
    schema->json = atd_str_bytes(atd_texts_keep(intake->texts, atd_bytes_str(json)));
    if (!schema->name.ptr || !schema->version.ptr || !schema->json.ptr || !schema->stem.ptr)
        return false;
    schema->bare =
        atd_str_from_byte(schema->name, (size_t)(atd_str_find_last(schema->name, '.') + 1));
    return true;
}

static int add_schema(void *ctx, const struct atd_index_schema *from, struct atd_error *err)
{
    struct atd_intake *intake = ctx;
    atd_auto_arena struct atd_arena scratch = ATD_ARENA_INIT(8 * (size_t)ATD_SCHEMA_BYTES_MAX);
    struct atd_catalog_schema schema = {0};
    const struct atd_schema *decoded = NULL;
    struct atd_error why = ATD_ERROR_INIT;
    char storage[96];
    const char *fault =
        names_fault(from->name, from->version, ATD_STR(""), storage, sizeof(storage));
    bool is_nameless = fault;

    if (!fault && atd_schema_decode(from->json, &scratch, &decoded, &why) != 0)
        fault = why.text;
    if (fault) {
        struct atd_str whole = versioned(intake, from->name, from->version);

        if (!whole.ptr)
            return no_memory(err);
        refuse(intake, "schema", whole, is_nameless ? from->name : whole, fault);
        return 0;
    }
    schema.created_at_s = seconds_of(from->created_at);
    if (!schema.created_at_s)
        schema.created_at_s = seconds_of(decoded->created_at);
    if (!pack_schema(intake, from->name, from->version, from->json, &schema) ||
        !atd_fresh_add(&intake->schemas, &atd_schema_rows, &schema, false))
        return no_memory(err);
    return 0;
}

/* ------------------------------------------------------------------ what is gone */

static void add_problem(void *ctx, const char *what, struct atd_str key, const char *reason)
{
    refuse(ctx, what, key, key, reason);
}

static bool add_gone_key(struct atd_intake *intake, const char *what, struct atd_str key)
{
    if (intake->gone_count == intake->gone_cap) {
        struct atd_gone_key *grown =
            reallocarray(intake->gone, intake->gone_cap * 2 + 16, sizeof(*grown));

        if (!grown)
            return false;
        intake->gone = grown;
        intake->gone_cap = intake->gone_cap * 2 + 16;
    }
    intake->gone[intake->gone_count++] =
        (struct atd_gone_key){atd_refusal_identity(what, key), ++intake->turn};
    return true;
}

/* Rows that only say that there is none of that key, one for each way to read it. */
static bool add_gone_pairs(struct atd_intake *intake, enum atd_index_kind kind, struct atd_str key)
{
    struct atd_str stem = {NULL, 0};
    bool fine = true;

    key = atd_arena_str(&intake->scratch, key);
    if (!key.ptr)
        return false;
    if (kind == ATD_INDEX_SCHEMA) {
        if (!make_stem(intake, key))
            return false;
        stem = atd_arena_str(&intake->scratch, atd_buf_str(&intake->buf));
        if (!stem.ptr)
            return false;
    }
    for (size_t i = 0; i < key.len && fine; i++) {
        struct atd_str name = atd_str_head(key, i);
        struct atd_str version = atd_str_from_byte(key, i + 1);
        const struct atd_catalog_label label = {.name = name.ptr,
                                                .name_len = (uint32_t)name.len & 0xffffff,
                                                .text = version.ptr,
                                                .version_len = (uint32_t)version.len,
                                                .entry = ATD_NONE};
        const struct atd_catalog_schema schema = {.name = name, .version = version, .stem = stem};

        if (key.ptr[i] != '@' || name.len > ATD_NAME_BYTES_MAX || version.len > ATD_NAME_BYTES_MAX)
            continue;
        fine = kind == ATD_INDEX_LABEL
                   ? atd_fresh_add(&intake->labels, &atd_label_rows, &label, true)
                   : atd_fresh_add(&intake->schemas, &atd_schema_rows, &schema, true);
    }
    return fine;
}

static bool add_gone_entry(struct atd_intake *intake, struct atd_str cid)
{
    struct atd_index_entry key = {.cid = cid,
                                  .name = ATD_STR(""),
                                  .schema_ref = ATD_STR(""),
                                  .data_urls = {(const uint8_t *)"", 0}};
    struct atd_catalog_entry entry = {.schema = ATD_NONE};

    return pack_entry(intake, &key, &intake->scratch, &entry) &&
           atd_fresh_add(&intake->entries, &atd_entry_rows, &entry, true);
}

static int add_gone(void *ctx, enum atd_index_kind kind, struct atd_str key, struct atd_error *err)
{
    static const char *const whats[] = {
        [ATD_INDEX_ENTRY] = "entry", [ATD_INDEX_LABEL] = "label", [ATD_INDEX_SCHEMA] = "schema"};
    struct atd_intake *intake = ctx;
    size_t at_signs = 0;

    if (!add_gone_key(intake, whats[kind], key))
        return no_memory(err);
    if (kind == ATD_INDEX_ENTRY)
        /* One with a longer CID was refused. */
        return key.len > ATD_NAME_BYTES_MAX || add_gone_entry(intake, key) ? 0 : no_memory(err);
    for (size_t i = 0; i < key.len; i++)
        at_signs += key.ptr[i] == '@';
    if (at_signs > GONE_PAIRS_MAX)
        return atd_error_set(err, E2BIG, "a key can be read in %zu ways", at_signs);
    return add_gone_pairs(intake, kind, key) ? 0 : no_memory(err);
}

struct atd_index_sink atd_intake_sink(struct atd_intake *intake)
{
    return (struct atd_index_sink){intake, add_entry, add_label, add_schema, add_gone, add_problem};
}

/* ------------------------------------------------------------------ a catalog again */

static bool copy_entry(struct atd_intake *intake, const struct atd_catalog_entry *from)
{
    const struct atd_index_entry record = {.cid = atd_entry_cid(from),
                                           .name = atd_entry_name(from),
                                           .schema_ref = atd_entry_schema_ref(from),
                                           .data_urls = atd_entry_data_urls(from),
                                           .metadata = atd_entry_metadata(from)};
    struct atd_catalog_entry entry = {
        .schema = ATD_NONE, .created_at_s = from->created_at_s, .url_count = from->url_count};

    return pack_entry(intake, &record, NULL, &entry) &&
           atd_fresh_add(&intake->entries, &atd_entry_rows, &entry, false);
}

static bool copy_label(struct atd_intake *intake, const struct atd_catalog_label *from)
{
    const struct atd_index_label record = {.name = atd_label_name(from),
                                           .version = atd_label_version(from),
                                           .cid = atd_label_cid(from),
                                           .description = atd_label_description(from),
                                           .created_at = atd_label_created_at(from)};
    struct atd_catalog_label label = {.entry = ATD_NONE};

    return pack_label(intake, &record, &label) &&
           atd_fresh_add(&intake->labels, &atd_label_rows, &label, false);
}

static bool copy_schema(struct atd_intake *intake, const struct atd_catalog_schema *from)
{
    struct atd_catalog_schema schema = {.created_at_s = from->created_at_s};

    return pack_schema(intake, from->name, from->version, from->json, &schema) &&
           atd_fresh_add(&intake->schemas, &atd_schema_rows, &schema, false);
}

static bool copy_refusal(struct atd_intake *intake, const struct atd_refusal *from)
{
    const struct atd_problem *problem = &from->problem;

    if (!atd_refusals_add(&intake->refusals, intake->texts, problem->what, problem->key,
                          problem->key, problem->reason.ptr, ++intake->turn))
        return false;
    /* The key may have been longer. */
    intake->refusals.all[intake->refusals.count - 1].identity = from->identity;
    return true;
}

int atd_intake_copy(struct atd_intake *intake, const struct atd_catalog *catalog,
                    struct atd_error *err)
{
    bool fine = true;

    for (size_t i = 0; i < catalog->entry_count && fine; i++)
        fine = copy_entry(intake, &catalog->entries[i]);
    for (size_t i = 0; i < catalog->hidden_entry_count && fine; i++)
        fine = copy_entry(intake, &catalog->hidden_entries[i]);
    for (size_t i = 0; i < catalog->label_count && fine; i++)
        fine = copy_label(intake, &catalog->labels[i]);
    for (size_t i = 0; i < catalog->schema_count && fine; i++)
        fine = copy_schema(intake, &catalog->schemas[i]);
    for (size_t i = 0; i < catalog->hidden_schema_count && fine; i++)
        fine = copy_schema(intake, &catalog->hidden_schemas[i]);
    for (size_t i = 0; i < catalog->refusals.count && fine; i++)
        fine = copy_refusal(intake, &catalog->refusals.all[i]);
    return fine ? 0 : no_memory(err);
}
