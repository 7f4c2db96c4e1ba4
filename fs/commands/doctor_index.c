/*
 * The index as such: can it be loaded, what is wrong in it, how are changes noticed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "catalog/catalog.h"
#include "doctor.h"
#include "index/redis.h"

/* statfs(2): file systems on which SQLite's locks are not to be relied on. */
#define NFS_MAGIC 0x6969u
#define SMB_MAGIC 0x517bu
#define CIFS_MAGIC 0xff534d42u
#define SMB2_MAGIC 0xfe534d42u

static void look_at_catalog(struct doctor *doctor, const struct atd_catalog *catalog,
                            int64_t took_ms)
{
    size_t problems = atd_catalog_problem_count(catalog);

    (void)doctor_say(doctor, "index", CHECK_OK, "%zu datasets, %zu entries, loaded in %lld ms",
                     atd_catalog_dataset_count(catalog), atd_catalog_entry_count(catalog),
                     (long long)took_ms);
    if (problems)
        doctor_advise(doctor_say(doctor, "index records", CHECK_WARNING,
                                 "%zu are odd; the first: '" ATD_STR_FMT "': " ATD_STR_FMT,
                                 problems, ATD_STR_ARG(atd_catalog_problem_at(catalog, 0)->key),
                                 ATD_STR_ARG(atd_catalog_problem_at(catalog, 0)->reason)),
                      "atdatafs verify --quick all names them");
}

static void look_at_coherence(struct doctor *doctor, struct atd_index *index)
{
    const char *how = atd_index_coherence(index);

    if (strcmp(how, "polling") != 0)
        (void)doctor_say(doctor, "redis tracking", CHECK_OK, "changes are told: %s", how);
    else
        doctor_advise(
            doctor_say(doctor, "redis tracking", CHECK_WARNING,
                       "the server does not tell of changes: it is asked again and again"),
            "use Redis 6 or later, and let the user do CLIENT TRACKING and SUBSCRIBE "
            "(ACL: +client +subscribe)");
}

static void look_at_file(struct doctor *doctor)
{
    const char *path = doctor->options->index.path;
    struct statfs fs;
    unsigned type;

    if (access(path, R_OK | W_OK) != 0)
        doctor_advise(doctor_say(doctor, "index file", CHECK_WARNING,
                                 "'%s' cannot be written: nothing can be published", path),
                      "correct its permissions, or mount with -o ro");
    if (statfs(path, &fs) != 0)
        return;
    type = (unsigned)fs.f_type;
    if (type == NFS_MAGIC || type == SMB_MAGIC || type == CIFS_MAGIC || type == SMB2_MAGIC)
        doctor_advise(doctor_say(doctor, "index file", CHECK_WARNING,
                                 "'%s' lies on a network file system, where SQLite's locks are not "
                                 "to be relied on",
                                 path),
                      "for a team use Redis as the index: -i redis://HOST/0");
}

static bool is_missing(struct doctor *doctor)
{
    const struct options *options = doctor->options;

    if (options->index.redis || access(options->index.path, F_OK) == 0)
        return false;
    if (options->index_named)
        doctor_advise(
            doctor_say(doctor, "index", CHECK_PROBLEM, "'%s' does not exist", options->index.path),
            "correct the path; the first atdatafs publish makes a new one");
    else
        doctor_advise(doctor_say(doctor, "index", CHECK_OK, "'%s' does not exist yet: it is empty",
                                 options->index.path),
                      "the first publish makes it; a team's index is named with -i redis://HOST/0");
    return true;
}

void doctor_look_at_index(struct doctor *doctor)
{
    const struct options *options = doctor->options;
    struct atd_index *index = NULL;
    struct atd_catalog *catalog = NULL;
    struct atd_error why = ATD_ERROR_INIT;
    int64_t start_ms = atd_clock_monotonic_ms();
    int rc;

    /* What is wrong with the server was said. */
    if (is_missing(doctor) ||
        (options->index.redis && doctor->count > 0 && doctor->checks[0].state == CHECK_PROBLEM))
        return;
    rc = atd_index_url_open(&options->index, options->ca_file, &index, &why);
    if (rc == 0)
        rc = atd_catalog_load(index, 1, &catalog, &why);
    if (rc == 0) {
        look_at_catalog(doctor, catalog, atd_clock_monotonic_ms() - start_ms);
        if (options->index.redis)
            look_at_coherence(doctor, index);
        else
            look_at_file(doctor);
        atd_catalog_unref(catalog);
    } else {
        doctor_advise(doctor_say(doctor, "index", CHECK_PROBLEM, "%s", why.text),
                      why.retryable
                          ? "try again; if it stays so, look into the server's log"
                          : "correct what the message says: no mount shows anything before");
    }
    if (index)
        atd_index_free(index);
}
