/*
 * What a catalog costs: CPU time (others may be busy) of a load, of one publish applied, of the
 * difference and of taking over shard lists, and memory an entry, of an index of COUNT one-shard
 * datasets with a label each that is made up as it is read, so that only the catalog is measured.
 *
 * usage: bench_catalog [COUNT [PUBLISHES]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "catalog/diff.h"
#include "catalog/shards.h"

#define PUBLISHES 20ul
#define CID_LEN 59

static unsigned long count;
static unsigned long published; /* how often: which records are reported as changed */

static double now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static double resident_mib(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long pages = 0;

    if (!file || fscanf(file, "%*u %lu", &pages) != 1)
        abort();
    (void)fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

struct record {
    char cid[CID_LEN + 1];
    char name[192];
    char ref[64];
    char urls[256];
    char metadata[128];
    struct atd_index_entry entry;
};

/* The `version`-th state of dataset `number`; about 240 bytes of texts. */
static void make_record(struct record *record, unsigned long number, unsigned long version)
{
    uint64_t seed = mix(number * 1000003 + version + 1);
    int len;

    memcpy(record->cid, "bafyrei", 7);
    for (size_t i = 7; i < CID_LEN; i++) {
        seed = mix(seed + i);
        record->cid[i] = "abcdefghijklmnopqrstuvwxyz234567"[seed % 32];
    }
    record->cid[CID_LEN] = '\0';
    record->entry.cid = atd_str_from(record->cid);
    (void)snprintf(record->name, sizeof(record->name), "dataset-%07lu", number);
    record->entry.name = atd_str_from(record->name);
    (void)snprintf(record->ref, sizeof(record->ref), "atdata://local/schema/Sample%02lu@1.0.0",
                   number % 20);
    record->entry.schema_ref = atd_str_from(record->ref);
    len = snprintf(record->urls + 3, sizeof(record->urls) - 3,
                   "s3://team-bucket/shards/%s/data-%06lu.tar", record->name, version);
    record->urls[0] = (char)0x91;
    record->urls[1] = (char)0xd9;
    record->urls[2] = (char)len;
    record->entry.data_urls = (struct atd_bytes){(const uint8_t *)record->urls, (size_t)len + 3};
    len = snprintf(record->metadata, sizeof(record->metadata),
                   "\x82\xa5split\xa5train\xa4note\xd9%c%s", 30, "a note of thirty bytes is here");
    record->entry.metadata = (struct atd_bytes){(const uint8_t *)record->metadata, (size_t)len};
    record->entry.created_at = ATD_STR("2026-01-01 00:00:00");
}

static int report_label(const struct atd_index_sink *sink, const struct record *record,
                        struct atd_error *err)
{
    const struct atd_index_label label = {.name = record->entry.name,
                                          .version = ATD_STR(""),
                                          .cid = record->entry.cid,
                                          .created_at = ATD_STR("2026-01-01T00:00:00.000000")};

    return sink->label(sink->ctx, &label, err);
}

static int load(struct atd_index *index, const struct atd_index_sink *sink, struct atd_error *err)
{
    struct record record;
    int rc = 0;

    (void)index;
    /* In no order, labels before and after their entries, as a scan finds them. */
    for (unsigned long i = 0; i < 2 * count && rc == 0; i++) {
        unsigned long which = (i * 7368787) % (2 * count);

        make_record(&record, which / 2, 0);
        rc = which % 2 ? report_label(sink, &record, err)
                       : sink->entry(sink->ctx, &record.entry, err);
    }
    return rc;
}

/* A new entry, the label points at it, the old entry is renamed. */
static int changes(struct atd_index *index, const struct atd_index_sink *sink,
                   struct atd_error *err)
{
    unsigned long number = mix(published) % count;
    struct record before;
    struct record after;
    char label_key[256];
    int rc;

    (void)index;
    make_record(&before, number, 0);
    make_record(&after, number, published);
    (void)snprintf(label_key, sizeof(label_key), "%s@", after.name);
    rc = sink->gone(sink->ctx, ATD_INDEX_ENTRY, before.entry.cid, err);
    if (rc == 0)
        rc = sink->gone(sink->ctx, ATD_INDEX_ENTRY, after.entry.cid, err);
    if (rc == 0)
        rc = sink->gone(sink->ctx, ATD_INDEX_LABEL, atd_str_from(label_key), err);
    (void)snprintf(before.name, sizeof(before.name), "%.30s@superseded:%.*s", after.name, CID_LEN,
                   before.cid);
    before.entry.name = atd_str_from(before.name);
    if (rc == 0)
        rc = sink->entry(sink->ctx, &before.entry, err);
    if (rc == 0)
        rc = sink->entry(sink->ctx, &after.entry, err);
    return rc ? rc : report_label(sink, &after, err);
}

static bool changed(struct atd_index *index)
{
    (void)index;
    return false;
}

static enum atd_index_news news(struct atd_index *index)
{
    (void)index;
    return ATD_NEWS_SOME;
}

static enum atd_index_news wait_for(struct atd_index *index, int wake_fd, unsigned timeout_ms)
{
    (void)wake_fd;
    (void)timeout_ms;
    return news(index);
}

static const char *coherence(struct atd_index *index)
{
    (void)index;
    return "made up";
}

static void nothing(struct atd_index *index)
{
    (void)index;
}

static const struct atd_index_ops ops = {"made up", load,    changed,   wait_for,
                                         news,      changes, coherence, nothing};

static void count_one(void *ctx, enum atd_diff_table table, enum atd_diff_kind kind,
                      struct atd_str file_name)
{
    (void)table;
    (void)kind;
    (void)file_name;
    ++*(size_t *)ctx;
}

static int skip_entry(void *ctx, const struct atd_index_entry *entry, struct atd_error *err)
{
    (void)ctx;
    (void)entry;
    (void)err;
    return 0;
}

static int skip_label(void *ctx, const struct atd_index_label *label, struct atd_error *err)
{
    (void)ctx;
    (void)label;
    (void)err;
    return 0;
}

/* What the making up takes, to be taken off. */
static double made_up_ms(struct atd_index *index)
{
    const struct atd_index_sink sink = {.entry = skip_entry, .label = skip_label};
    double start_ms = now_ms();

    if (load(index, &sink, NULL) != 0)
        abort();
    return now_ms() - start_ms;
}

struct spent {
    double apply_ms;
    double worst_ms;
    double diff_ms;
    double inherit_ms;
    size_t differences;
};

static struct atd_catalog *publish_once(struct atd_index *index, struct atd_catalog *before,
                                        struct spent *spent)
{
    struct atd_catalog *after;
    double start_ms = now_ms();
    double applied_ms;
    double inherited_ms;

    published++;
    if (atd_catalog_apply(before, index, published, &after, NULL) != 0)
        abort();
    applied_ms = now_ms();
    atd_catalog_shards_inherit(after, before);
    inherited_ms = now_ms();
    atd_catalog_diff(before, after, count_one, &spent->differences);
    spent->diff_ms += now_ms() - inherited_ms;
    spent->inherit_ms += inherited_ms - applied_ms;
    spent->apply_ms += applied_ms - start_ms;
    if (applied_ms - start_ms > spent->worst_ms)
        spent->worst_ms = applied_ms - start_ms;
    atd_catalog_unref(before);
    return after;
}

int main(int argc, char **argv)
{
    struct atd_index index;
    struct atd_catalog *catalog;
    struct spent spent = {0};
    double before_mib = resident_mib();
    double loaded_mib;
    double start_ms;
    double load_ms;
    unsigned long publishes;

    count = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    publishes = argc > 2 ? strtoul(argv[2], NULL, 10) : PUBLISHES;
    if (count == 0 || publishes == 0 || atd_index_init(&index, &ops, "made up", NULL) != 0)
        return 1;
    load_ms = -made_up_ms(&index);
    start_ms = now_ms();
    if (atd_catalog_load(&index, 1, &catalog, NULL) != 0)
        return 1;
    load_ms += now_ms() - start_ms;
    loaded_mib = resident_mib();
    for (unsigned long i = 0; i < publishes; i++)
        catalog = publish_once(&index, catalog, &spent);
    (void)printf("%lu entries: load %.0f ms, %.1f MiB (%.0f bytes an entry); one publish: apply "
                 "%.2f ms (worst %.2f), lists %.2f ms, difference %.2f ms (%zu); %.1f MiB then\n",
                 count, load_ms, loaded_mib - before_mib,
                 (loaded_mib - before_mib) * (1 << 20) / (double)count,
                 spent.apply_ms / (double)publishes, spent.worst_ms,
                 spent.inherit_ms / (double)publishes, spent.diff_ms / (double)publishes,
                 spent.differences / publishes, resident_mib() - before_mib);
    atd_catalog_unref(catalog);
    return 0;
}
