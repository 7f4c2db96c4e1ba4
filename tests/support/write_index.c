/*
 * Writes a few records to an index (an absolute path: SQLite; else a Redis URL), as a publication
 * and a later change would: for e2e/test_index_writers.py, which lets the real library read them.
 */
#include <stdio.h>

#include "base/check.h"
#include "index/redis_url.h"
#include "index/writer.h"

#define CID_1 "bafyreib3azrylquzdxzz3vpnyk2hvlx2ysu5qbsjqx5emd6sclknlmyyui"
#define CID_2 "bafyreiabltrd5zm73pvi7plq25pef3hm7jxhbi3kv4hapegrkfpkqtkbme"
#define REFERENCE "atdata://local/schema/Point@1.0.0"

static const uint8_t urls[] = {0x92, 0xa3, 'a', '/', 'b', 0xa3, 'c', '/', 'd'};
static const uint8_t metadata[] = {0x81, 0xa1, 'k', 0x01};
static const char json[] =
    "{\"name\": \"Point\", \"version\": \"1.0.0\", \"fields\": [{\"name\": \"x\", \"fieldType\": "
    "{\"$type\": \"local#primitive\", \"primitive\": \"int\"}, \"optional\": false}], "
    "\"description\": null, \"createdAt\": \"2026-01-01T00:00:00+00:00\"}";

static union atd_index_record entry(const char *cid, const char *name)
{
    return (union atd_index_record){.entry = {.cid = atd_str_from(cid),
                                              .name = atd_str_from(name),
                                              .schema_ref = ATD_STR(REFERENCE),
                                              .data_urls = {urls, sizeof(urls)},
                                              .metadata = {metadata, sizeof(metadata)}}};
}

/* The library's default label is, in SQLite, the one with the greatest time. */
static union atd_index_record label(const char *version, const char *cid, const char *description,
                                    const char *created_at)
{
    return (union atd_index_record){.label = {.name = ATD_STR("näme"),
                                              .version = atd_str_from(version),
                                              .cid = atd_str_from(cid),
                                              .description = atd_str_from(description),
                                              .created_at = atd_str_from(created_at)}};
}

static struct atd_index_operation operation(enum atd_index_action action, enum atd_index_kind kind,
                                            enum atd_index_expect expect,
                                            union atd_index_record before,
                                            union atd_index_record after)
{
    return (struct atd_index_operation){action, kind, expect, before, after};
}

static int write_records(struct atd_index_writer *writer, struct atd_error *err)
{
    const union atd_index_record schema = {
        .schema = {.name = ATD_STR("Point"),
                   .version = ATD_STR("1.0.0"),
                   .json = {(const uint8_t *)json, sizeof(json) - 1}}};
    const union atd_index_record one = entry(CID_1, "näme");
    const union atd_index_record two = entry(CID_2, "other");
    const union atd_index_record latest = label("", CID_1, "", "2026-01-02T10:00:00+00:00");
    const union atd_index_record old = label("0.9.0", CID_2, "d", "2026-01-02T09:00:00+00:00");
    union atd_index_record renamed = entry(CID_2, "näme@0.9.0");
    const struct atd_index_operation first[] = {
        operation(ATD_INDEX_PUT_SCHEMA, ATD_INDEX_SCHEMA, ATD_INDEX_ABSENT, schema, schema),
        operation(ATD_INDEX_PUT_ENTRY, ATD_INDEX_ENTRY, ATD_INDEX_ABSENT, one, one),
        operation(ATD_INDEX_PUT_ENTRY, ATD_INDEX_ENTRY, ATD_INDEX_ABSENT, two, two),
        operation(ATD_INDEX_PUT_LABEL, ATD_INDEX_LABEL, ATD_INDEX_ABSENT, latest, latest),
        operation(ATD_INDEX_PUT_LABEL, ATD_INDEX_LABEL, ATD_INDEX_ABSENT, old, old),
    };
    struct atd_index_operation second[] = {
        operation(ATD_INDEX_SET_ENTRY_NAME, ATD_INDEX_ENTRY, ATD_INDEX_SAME, two, renamed),
        operation(ATD_INDEX_SET_ENTRY_METADATA, ATD_INDEX_ENTRY, ATD_INDEX_SAME, two, renamed),
    };
    int rc = atd_index_commit(writer, first, ATD_ARRAY_LEN(first), NULL, err);

    second[1].after.entry.metadata = (struct atd_bytes){NULL, 0};
    return rc ? rc : atd_index_commit(writer, second, ATD_ARRAY_LEN(second), NULL, err);
}

int main(int argc, char **argv)
{
    struct atd_index_writer *writer = NULL;
    struct atd_error err = ATD_ERROR_INIT;
    struct atd_redis_url url;
    int rc;

    if (argc != 2)
        return 2;
    if (argv[1][0] == '/') {
        rc = atd_index_sqlite_writer(argv[1], &writer, &err);
    } else {
        rc = atd_redis_url_parse(argv[1], &url, &err);
        if (rc == 0)
            rc = atd_index_redis_writer(&url, NULL, &writer, &err);
    }
    if (rc == 0)
        rc = write_records(writer, &err);
    atd_index_writer_free(writer);
    if (rc)
        (void)fprintf(stderr, "%s\n", err.text);
    return rc ? 1 : 0;
}
