/*
 * The rows of a catalog's tables, packed: what many rows share stands once, and a text that is
 * another one's file name too is not kept twice. Their texts are read through the functions below,
 * and are valid as long as the catalog. Texts end in a NUL that is not counted.
 */
#ifndef ATD_CATALOG_ROWS_H
#define ATD_CATALOG_ROWS_H

#include "atdata/str.h"

#define ATD_NONE UINT32_MAX
#define ATD_FINGERPRINT_BYTES 16

/* A text that many rows share. */
struct atd_shared_text {
    uint32_t number; /* 0.. in the order of arrival */
    uint32_t len;
    char bytes[];
};

struct atd_catalog_entry {
    const char *text; /* CID, name, URLs, metadata, and the file name if it is not the CID */
    const struct atd_shared_text *ref;
    int64_t created_at_s; /* 0: unknown */
    uint32_t cid_len : 24;
    uint32_t file_name_len : 8; /* 0: the CID is the file name */
    uint32_t name_len;
    uint32_t data_urls_len;
    uint32_t metadata_len; /* ATD_NONE: none */
    uint32_t url_count;
    uint32_t schema;      /* place of its schema, ATD_NONE when it is not in this index */
    uint32_t first_label; /* its labels, versioned and not: places in labels_by_cid */
    uint32_t label_count;
    uint8_t fingerprint[ATD_FINGERPRINT_BYTES]; /* of all that its directory shows */
};

struct atd_catalog_label {
    const char *name; /* often an entry's, like the CID */
    const char *cid;
    const char *text; /* version, created_at, description, file name */
    uint32_t name_len : 24;
    uint32_t file_name_len : 8; /* 0: unversioned */
    uint32_t cid_len;
    uint32_t version_len;
    uint32_t created_at_len;  /* ATD_NONE: unknown */
    uint32_t description_len; /* ATD_NONE: none */
    uint32_t entry;           /* ATD_NONE: no entry has that CID */
};

struct atd_dataset {
    const char *name;
    const char *file_name; /* in datasets/ */
    uint32_t name_len : 24;
    uint32_t file_name_len : 8;
    uint32_t entry;
    uint32_t first_other; /* entries of that name which are not shown (2.2, last case): places in */
    uint32_t other_count; /* entries_by_name */
};

static inline struct atd_str atd_entry_cid(const struct atd_catalog_entry *entry)
{
    return (struct atd_str){entry->text, entry->cid_len};
}

static inline struct atd_str atd_entry_name(const struct atd_catalog_entry *entry)
{
    return (struct atd_str){entry->text + entry->cid_len + 1, entry->name_len};
}

static inline struct atd_str atd_entry_schema_ref(const struct atd_catalog_entry *entry)
{
    return (struct atd_str){entry->ref->bytes, entry->ref->len};
}

static inline struct atd_bytes atd_entry_data_urls(const struct atd_catalog_entry *entry)
{
    struct atd_str name = atd_entry_name(entry);

    return atd_str_bytes((struct atd_str){name.ptr + name.len + 1, entry->data_urls_len});
}

/* ptr NULL: none. */
static inline struct atd_bytes atd_entry_metadata(const struct atd_catalog_entry *entry)
{
    struct atd_bytes urls = atd_entry_data_urls(entry);

    return entry->metadata_len == ATD_NONE
               ? (struct atd_bytes){NULL, 0}
               : (struct atd_bytes){urls.ptr + urls.len, entry->metadata_len};
}

/* In by-cid/. */
static inline struct atd_str atd_entry_file_name(const struct atd_catalog_entry *entry)
{
    struct atd_bytes urls = atd_entry_data_urls(entry);
    size_t metadata_len = entry->metadata_len == ATD_NONE ? 0 : entry->metadata_len;

    return entry->file_name_len == 0
               ? atd_entry_cid(entry)
               : (struct atd_str){(const char *)urls.ptr + urls.len + metadata_len,
                                  entry->file_name_len};
}

static inline struct atd_str atd_label_name(const struct atd_catalog_label *label)
{
    return (struct atd_str){label->name, label->name_len};
}

static inline struct atd_str atd_label_cid(const struct atd_catalog_label *label)
{
    return (struct atd_str){label->cid, label->cid_len};
}

/* Empty: unversioned. */
static inline struct atd_str atd_label_version(const struct atd_catalog_label *label)
{
    return (struct atd_str){label->text, label->version_len};
}

/* What stands behind a text that may be missing. */
static inline const char *atd_label_behind(const char *text, uint32_t len)
{
    return len == ATD_NONE ? text : text + len + 1;
}

/* ptr NULL: unknown. */
static inline struct atd_str atd_label_created_at(const struct atd_catalog_label *label)
{
    return label->created_at_len == ATD_NONE
               ? (struct atd_str){NULL, 0}
               : (struct atd_str){label->text + label->version_len + 1, label->created_at_len};
}

/* ptr NULL: none. */
static inline struct atd_str atd_label_description(const struct atd_catalog_label *label)
{
    const char *at = atd_label_behind(label->text + label->version_len + 1, label->created_at_len);

    return label->description_len == ATD_NONE ? (struct atd_str){NULL, 0}
                                              : (struct atd_str){at, label->description_len};
}

/* In labels/; len 0 for those that do not show. */
static inline struct atd_str atd_label_file_name(const struct atd_catalog_label *label)
{
    const char *at = atd_label_behind(label->text + label->version_len + 1, label->created_at_len);

    return label->entry == ATD_NONE ? (struct atd_str){NULL, 0}
                                    : (struct atd_str){atd_label_behind(at, label->description_len),
                                                       label->file_name_len};
}

/* All that stands at its text. */
static inline struct atd_str atd_label_own_text(const struct atd_catalog_label *label)
{
    const char *end = atd_label_behind(label->text + label->version_len + 1, label->created_at_len);

    end = atd_label_behind(end, label->description_len) + label->file_name_len;
    return (struct atd_str){label->text, (size_t)(end - label->text)};
}

static inline struct atd_str atd_dataset_name(const struct atd_dataset *dataset)
{
    return (struct atd_str){dataset->name, dataset->name_len};
}

static inline struct atd_str atd_dataset_file_name(const struct atd_dataset *dataset)
{
    return (struct atd_str){dataset->file_name, dataset->file_name_len};
}

#endif
