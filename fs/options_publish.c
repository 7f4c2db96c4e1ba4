/*
 * The options of publishing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataset/sites.h"
#include "options.h"

#define DEFAULT_STATE ".local/state/atdatafs"
/* Without a home directory: the system's place for state. */
#define SYSTEM_STATE "/var/lib/atdatafs"
#define LIMIT_LEAST ((uint64_t)1 << 20)
#define LIMIT_MOST (UINT64_MAX >> 12)

static int take_compat(struct options *options, const char *value, struct atd_error *err)
{
    if (strcmp(value, "universal") != 0 && strcmp(value, "modern") != 0)
        return atd_error_set(err, EINVAL, "option compat= takes 'universal' or 'modern'");
    options->universal = strcmp(value, "universal") == 0;
    return 0;
}

bool options_read_publish(struct options *options, const char *name, const char *value, int *ret_rc,
                          struct atd_error *err)
{
    *ret_rc = 0;
    if (!value) {
        if (strcmp(name, "ro") == 0)
            options->read_only = true;
        else if (strcmp(name, "rw") == 0)
            options->read_only = false;
        else if (strcmp(name, "allow_delete") == 0)
            options->allow_delete = true;
        else
            return false;
        return true;
    }
    if (strcmp(name, "compat") == 0)
        *ret_rc = take_compat(options, value, err);
    else if (strcmp(name, "state_dir") == 0)
        *ret_rc = options_take_path(&options->state_dir, name, value, err);
    else if (strcmp(name, "spool_limit") == 0)
        *ret_rc = options_take_size(&options->spool_limit_bytes, name, value, LIMIT_LEAST,
                                    LIMIT_MOST, err);
    else if (strcmp(name, "spool_floor") == 0)
        *ret_rc = options_take_size(&options->spool_floor_bytes, name, value, 0, LIMIT_MOST, err);
    else if (strcmp(name, "scratch_limit") == 0)
        *ret_rc = options_take_size(&options->scratch_limit_bytes, name, value, LIMIT_LEAST,
                                    LIMIT_MOST, err);
    else
        return false;
    return true;
}

static int add_index(struct options *options, struct atd_error *err)
{
    char *path;
    int rc = atd_state_dir_of(options->state_dir, &options->index, &path, err);

    if (rc)
        return rc;
    free(options->state_dir);
    options->state_dir = path;
    return 0;
}

int options_complete_publish(struct options *options, struct atd_error *err)
{
    const char *state_home = getenv("XDG_STATE_HOME");
    const char *home = options_home();
    int len;

    options->state_named = options->state_dir != NULL;
    if (!options->state_named) {
        if (state_home && state_home[0] == '/')
            len = asprintf(&options->state_dir, "%s/atdatafs", state_home);
        else if (home)
            len = asprintf(&options->state_dir, "%s/%s", home, DEFAULT_STATE);
        else
            len = asprintf(&options->state_dir, "%s", SYSTEM_STATE);
        if (len < 0) {
            options->state_dir = NULL;
            return options_no_memory(err);
        }
    }
    if (options->read_only && (options->allow_delete || options->universal))
        return atd_error_set(err, EINVAL,
                             "option ro publishes nothing: leave out allow_delete and compat=");
    return add_index(options, err);
}
