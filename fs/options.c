#include "options.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dirs.h"

/* The library's defaults: ~/.atdata/index.db and ~/.atdata/data (ATDATA-FORMATS 2.1, 2.3). */
#define DEFAULT_INDEX ".atdata/index.db"
#define DEFAULT_DATA "data"

int options_no_memory(struct atd_error *err)
{
    return atd_error_set(err, ENOMEM, "out of memory");
}

static int default_index(char **ret_path, struct atd_error *err)
{
    const char *home = getenv("HOME");
    const struct passwd *user;

    if (!home || home[0] != '/') {
        /* Mounted from fstab or systemd: no HOME in the environment. */
        user = getpwuid(getuid());
        home = user ? user->pw_dir : NULL;
    }
    if (!home || home[0] != '/')
        return atd_error_set(err, EINVAL,
                             "HOME is not set: name the index, as in atdatafs sqlite:/PATH DIR");
    if (asprintf(ret_path, "%s/%s", home, DEFAULT_INDEX) < 0)
        return options_no_memory(err);
    return 0;
}

static int set_index(struct options *options, const char *url, struct atd_error *err)
{
    options->index_named = true;
    return atd_index_url_parse(url, &options->index, err);
}

static int add_root(struct options *options, const char *path, struct atd_error *err)
{
    int rc;

    if (options->data_root_count == ATD_FILE_ROOTS_MAX)
        return atd_error_set(err, E2BIG, "more than %d data roots", ATD_FILE_ROOTS_MAX);
    if (!*path)
        return atd_error_set(err, EINVAL, "option data_root= lacks a directory");
    rc = atd_path_absolute(path, &options->data_roots[options->data_root_count], err);
    if (rc == 0)
        options->data_root_count++;
    return rc;
}

static int read_number(const char *name, const char *text, int base, unsigned long most,
                       unsigned long *ret_number, struct atd_error *err)
{
    char *end;
    unsigned long number;

    errno = 0;
    number = strtoul(text, &end, base);
    if (errno || *end || end == text || text[0] == '-' || number > most)
        return atd_error_set(err, EINVAL, "option %s=%s is not a number that fits", name, text);
    *ret_number = number;
    return 0;
}

/* What mount(8), fstab and systemd add, and what says nothing new here. */
static bool is_ignored(const char *name)
{
    static const char *const ignored[] = {
        "rw",      "defaults", "auto",   "noauto",  "user",  "nouser", "users",
        "nofail",  "async",    "nosuid", "nodev",   "dev",   "suid",   "exec",
        "_netdev", "relatime", "atime",  "noatime", "owner", "group",  "nodiratime"};

    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        if (strcmp(name, ignored[i]) == 0)
            return true;
    }
    return strncmp(name, "x-", 2) == 0 || strncmp(name, "comment=", 8) == 0;
}

static int read_valued_option(struct options *options, const char *name, const char *value,
                              struct atd_error *err)
{
    unsigned long number;
    int rc;

    if (strcmp(name, "uid") == 0) {
        rc = read_number(name, value, 10, UINT_MAX - 1, &number, err);
        if (rc == 0)
            options->uid = (uid_t)number;
        return rc;
    }
    if (strcmp(name, "gid") == 0) {
        rc = read_number(name, value, 10, UINT_MAX - 1, &number, err);
        if (rc == 0)
            options->gid = (gid_t)number;
        return rc;
    }
    if (strcmp(name, "umask") == 0) {
        rc = read_number(name, value, 8, 0777, &number, err);
        if (rc == 0)
            options->umask = (mode_t)number;
        return rc;
    }
    if (strcmp(name, "data_root") == 0)
        return add_root(options, value, err);
    if (strcmp(name, "consistency") == 0) {
        options->barrier = strcmp(value, "barrier") == 0;
        if (!options->barrier && strcmp(value, "eventual") != 0)
            return atd_error_set(err, EINVAL,
                                 "option consistency=%s is neither barrier nor eventual", value);
        return 0;
    }
    if (options_read_remote(options, name, value, &rc, err) ||
        options_read_publish(options, name, value, &rc, err))
        return rc;
    return atd_error_set(err, EINVAL, "option '%s' is unknown; see atdatafs --help", name);
}

static int read_option(struct options *options, char *text, struct atd_error *err)
{
    char *value = strchr(text, '=');
    int rc;

    if (!*text || is_ignored(text))
        return 0;
    if (strcmp(text, "allow_other") == 0) {
        /* Without default_permissions allow_other means no permission check at all (FUSE 7.4). */
        options->allow_other = true;
        options->default_permissions = true;
        return 0;
    }
    if (strcmp(text, "list_samples") == 0) {
        options->list_samples = true;
        return 0;
    }
    if (strcmp(text, "default_permissions") == 0) {
        options->default_permissions = true;
        return 0;
    }
    if (strcmp(text, "noexec") == 0) {
        options->noexec = true;
        return 0;
    }
    if (strcmp(text, "debug") == 0) {
        options->debug = true;
        return 0;
    }
    if (!value && (options_read_remote(options, text, NULL, &rc, err) ||
                   options_read_publish(options, text, NULL, &rc, err)))
        return rc;
    if (!value)
        return atd_error_set(err, EINVAL, "option '%s' is unknown; see atdatafs --help", text);
    *value = '\0';
    return read_valued_option(options, text, value + 1, err);
}

/* A comma separates; "\," is a comma in a value, as for libfuse's own options. */
static int read_option_list(struct options *options, const char *list, struct atd_error *err)
{
    atd_auto_free char *copy = strdup(list);
    char *from = copy;
    char *to = copy;
    char *start = copy;
    int rc = 0;

    if (!copy)
        return options_no_memory(err);
    while (rc == 0) {
        if (*from == '\\' && (from[1] == ',' || from[1] == '\\')) {
            *to++ = from[1];
            from += 2;
        } else if (*from == ',' || !*from) {
            bool last = !*from;

            from++;
            *to++ = '\0';
            rc = read_option(options, start, err);
            start = to;
            if (last)
                break;
        } else {
            *to++ = *from++;
        }
    }
    return rc;
}

static int read_argument(struct options *options, const char *argument, bool *ret_has_index,
                         struct atd_error *err)
{
    if (!*ret_has_index && !options->mountpoint && atd_is_index_url(argument)) {
        *ret_has_index = true;
        return set_index(options, argument, err);
    }
    if (options->mountpoint)
        return atd_error_set(err, EINVAL,
                             "'%s' is one argument too many: atdatafs [INDEX-URL] MOUNTPOINT",
                             argument);
    return atd_path_absolute(argument, &options->mountpoint, err);
}

static int read_arguments(struct options *options, int argc, char **argv, bool *ret_has_index,
                          struct atd_error *err)
{
    int rc = 0;

    for (int i = 1; i < argc && rc == 0; i++) {
        const char *arg = argv[i];

        if (strcmp(arg, "-f") == 0)
            options->foreground = true;
        else if (strcmp(arg, "-d") == 0)
            options->debug = options->foreground = true;
        else if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0)
            options->show_help = true;
        else if (strcmp(arg, "-V") == 0 || strcmp(arg, "--version") == 0)
            options->show_version = true;
        else if (strcmp(arg, "-o") == 0 && i + 1 < argc)
            rc = read_option_list(options, argv[++i], err);
        else if (strncmp(arg, "-o", 2) == 0 && arg[2])
            rc = read_option_list(options, arg + 2, err);
        else if (arg[0] == '-' && arg[1])
            rc = atd_error_set(err, EINVAL, "option '%s' is unknown; see atdatafs --help", arg);
        else
            rc = read_argument(options, arg, ret_has_index, err);
    }
    return rc;
}

/* The disk store's root stands beside the index file, as it does in ~/.atdata. */
static int add_default_root(struct options *options, struct atd_error *err)
{
    atd_auto_free char *root = NULL;
    const char *slash = strrchr(options->index.path, '/');

    if (asprintf(&root, "%.*s/%s", (int)(slash - options->index.path), options->index.path,
                 DEFAULT_DATA) < 0)
        return options_no_memory(err);
    return add_root(options, root, err);
}

int options_parse(int argc, char **argv, struct options *ret_options, struct atd_error *err)
{
    const char *url = getenv("ATDATA_INDEX");
    bool has_index = false;
    int rc;

    *ret_options = (struct options){.uid = getuid(),
                                    .gid = getgid(),
                                    .umask = 022,
                                    .cache_size_bytes = DEFAULT_CACHE_BYTES,
                                    .cache_floor_bytes = DEFAULT_FLOOR_BYTES,
                                    .memory_bytes = DEFAULT_MEMORY_BYTES,
                                    .scratch_limit_bytes = DEFAULT_SCRATCH_BYTES,
                                    .spool_floor_bytes = DEFAULT_SPOOL_FLOOR_BYTES,
                                    .timeout_s = DEFAULT_TIMEOUT_S};
    rc = read_arguments(ret_options, argc, argv, &has_index, err);
    if (rc || ret_options->show_help || ret_options->show_version)
        return rc;
    if (!ret_options->mountpoint)
        return atd_error_set(err, EINVAL, "a mount point is missing; see atdatafs --help");
    if (!has_index && url && *url) {
        rc = set_index(ret_options, url, err);
        if (rc)
            return atd_error_wrap(err, rc, "ATDATA_INDEX");
    } else if (!has_index) {
        rc = default_index(&ret_options->index.path, err);
    }
    /* Beside a SQLite index the default root is always there; data_root= adds to it. */
    if (rc == 0 && ret_options->index.path)
        rc = add_default_root(ret_options, err);
    if (rc == 0)
        rc = options_complete_remote(ret_options, err);
    if (rc == 0)
        rc = options_complete_publish(ret_options, err);
    return rc;
}

void options_release(struct options *options)
{
    atd_index_url_release(&options->index);
    free(options->mountpoint);
    free(options->bucket);
    free(options->prefix);
    free(options->endpoint);
    free(options->region);
    free(options->env_file);
    free(options->profile);
    free(options->ca_file);
    free(options->password_file);
    free(options->cache_dir);
    free(options->state_dir);
    for (size_t i = 0; i < options->data_root_count; i++)
        free(options->data_roots[i]);
    *options = (struct options){0};
}

void options_print_help(const char *program)
{
    (void)printf(
        "usage: %s [INDEX-URL] MOUNTPOINT [-o OPTION,...] [-f]\n"
        "       %s COMMAND ...\n"
        "\n"
        "Mounts an atdata index: datasets, schemas and labels as files.\n"
        "\n"
        "INDEX-URL            redis://HOST[:PORT]/DB, rediss://..., unix:///SOCKET?db=N,\n"
        "                     redis+sentinel://HOST[:PORT],HOST.../MASTER[/DB] or\n"
        "                     sqlite:PATH; left out: $ATDATA_INDEX, else ~/.atdata/index.db\n"
        "\n"
        "  -f                 stay in the foreground and log to standard error\n"
        "  -d                 as -f, and log every failed request\n"
        "  -h, --help         this text\n"
        "  -V, --version      the version\n"
        "\n"
        "shards in object storage (-o):\n"
        "  store=s3://BUCKET/PREFIX   where the team's shards lie\n"
        "  endpoint=URL       the server (MinIO, R2, ...); left out: $AWS_ENDPOINT_URL_S3, else "
        "AWS\n"
        "  env_file=PATH      AWS_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, as atdata's\n"
        "                     .env; left out: the usual AWS chain (environment, profiles, roles)\n"
        "  profile=NAME  region=NAME  unsigned  path_style  virtual_style  ca_file=PATH\n"
        "  cache_dir=DIR      left out: ~/.cache/atdatafs; cache=none: memory only\n"
        "  cache_size=SIZE    room it may take (default 20G)\n"
        "  memory=SIZE        buffers for shards (default 256M)\n"
        "  timeout=SECONDS    a read fails when nothing came for so long (default 30)\n"
        "  password_file=PATH the Redis password; or $ATDATA_REDIS_PASSWORD\n"
        "\n"
        "publishing: cp X.tar MOUNTPOINT/datasets/NAME/ (-o):\n"
        "  allow_delete       rm and rmdir take shards and datasets out of the index\n"
        "  compat=universal   write what every release of atdata reads\n"
        "  state_dir=DIR      left out: ~/.local/state/atdatafs; spool files and a journal\n"
        "  spool_limit=SIZE  scratch_limit=SIZE   of one shard, of one scratch file (default 1G)\n"
        "\n"
        "the mount (-o):\n"
        "  ro                 read only\n"
        "  allow_other        let other users in, by the permissions that ls shows\n"
        "  default_permissions  uid=N  gid=N  umask=OCTAL\n"
        "  data_root=DIR      read local shards below DIR too; may be repeated\n"
        "  list_samples       list samples/ in datasets; without it it is reached by its name\n"
        "  consistency=barrier   ask the index before each listing, for all committed till then\n"
        "\n"
        "Unmount with: fusermount3 -u MOUNTPOINT\n"
        "\n"
        "examples:\n"
        "  %s ~/datasets\n"
        "  %s redis://index.example/0 /mnt/team -o store=s3://team/datasets,env_file=.env\n"
        "  %s sqlite:/srv/team/index.db /mnt/team -o ro,allow_other,data_root=/srv/shards\n",
        program, program, program, program, program);
}
