#include "codec/upload_name.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "base/check.h"

static const char *const kinds[] = {
    [ATD_UPLOAD_SHARD] = "shard",     [ATD_UPLOAD_TEMP] = "temp",
    [ATD_UPLOAD_RECORD] = "record",   [ATD_UPLOAD_SCRATCH] = "scratch",
    [ATD_UPLOAD_REFUSED] = "refused",
};

#define S "shard-000001.tar"

static const struct {
    const char *name;
    enum atd_upload_name kind;
    const char *final;
} names[] = {
    /* shards */
    {S, ATD_UPLOAD_SHARD, S},
    {"a.tar.gz", ATD_UPLOAD_SHARD, "a.tar.gz"},
    {"a.tgz", ATD_UPLOAD_SHARD, "a.tgz"},
    {"a.tar.bz2", ATD_UPLOAD_SHARD, "a.tar.bz2"},
    {"a.tbz2", ATD_UPLOAD_SHARD, "a.tbz2"},
    {"a.tar.xz", ATD_UPLOAD_SHARD, "a.tar.xz"},
    {"a.txz", ATD_UPLOAD_SHARD, "a.txz"},
    {"A.TAR", ATD_UPLOAD_SHARD, "A.TAR"},
    {"shard-000001 (copy).tar", ATD_UPLOAD_SHARD, "shard-000001 (copy).tar"},
    {"shard-000001 (copy 1).tar", ATD_UPLOAD_SHARD, "shard-000001 (copy 1).tar"},
    {"my.data.v2.tar", ATD_UPLOAD_SHARD, "my.data.v2.tar"},
    {"100%.tar", ATD_UPLOAD_SHARD, "100%.tar"},
    {"\xe6\x95\xb0.tar", ATD_UPLOAD_SHARD, "\xe6\x95\xb0.tar"},
    {"-.tar", ATD_UPLOAD_SHARD, "-.tar"},
    {"tmp_shard.tar", ATD_UPLOAD_SHARD, "tmp_shard.tar"},
    {"tmpabcdefgh.tar", ATD_UPLOAD_SHARD, "tmpabcdefgh.tar"},
    {"x.part.tar", ATD_UPLOAD_SHARD, "x.part.tar"},
    {"x~.tar", ATD_UPLOAD_SHARD, "x~.tar"},
    {"x~2.tar", ATD_UPLOAD_SHARD, "x~2.tar"},
    {"#x.tar", ATD_UPLOAD_SHARD, "#x.tar"},
    /* records */
    {"schema.json", ATD_UPLOAD_RECORD, "schema.json"},
    {"metadata.json", ATD_UPLOAD_RECORD, "metadata.json"},
    /* will be shards */
    {"." S ".a1b2c3", ATD_UPLOAD_TEMP, S}, /* rsync */
    {"." S ".AbCdEf", ATD_UPLOAD_TEMP, S},
    {".a.tar.gz.a1b2c3", ATD_UPLOAD_TEMP, "a.tar.gz"},
    {".a b (copy).tar.000000", ATD_UPLOAD_TEMP, "a b (copy).tar"},
    {S ".part", ATD_UPLOAD_TEMP, S},     /* KIO, Firefox */
    {S ".partial~", ATD_UPLOAD_TEMP, S}, /* thunar */
    {S ".AbCdEf", ATD_UPLOAD_TEMP, S},   /* g_file_set_contents */
    {S ".8F2D4A", ATD_UPLOAD_TEMP, S},
    {S ".crdownload", ATD_UPLOAD_TEMP, S},
    {S ".opdownload", ATD_UPLOAD_TEMP, S},
    {S ".download", ATD_UPLOAD_TEMP, S},
    {S ".filepart", ATD_UPLOAD_TEMP, S},
    {S ".incomplete", ATD_UPLOAD_TEMP, S},
    {S ".tmp", ATD_UPLOAD_TEMP, S},
    {"." S ".tmp", ATD_UPLOAD_TEMP, S},
    {S ".temp", ATD_UPLOAD_TEMP, S},
    {S ".temp12345", ATD_UPLOAD_TEMP, S}, /* webdataset's cache */
    {S ".partial", ATD_UPLOAD_TEMP, S},
    {S ".a1b2c3d4.partial", ATD_UPLOAD_TEMP, S}, /* rclone */
    {S ".6eF5aB12", ATD_UPLOAD_TEMP, S},         /* aws s3 cp, boto3 */
    {S ".part.minio", ATD_UPLOAD_TEMP, S},       /* mc */
    {S "_.gstmp", ATD_UPLOAD_TEMP, S},           /* gsutil */
    {".in." S, ATD_UPLOAD_TEMP, S},              /* ProFTPD */
    {".in." S ".", ATD_UPLOAD_TEMP, S},
    {".syncthing." S ".tmp", ATD_UPLOAD_TEMP, S},
    {"~syncthing~" S ".tmp", ATD_UPLOAD_TEMP, S},
    {".azDownload-01234567-89ab-cdef-0123-456789abcdef-" S, ATD_UPLOAD_TEMP, S},
    {"AbCdEf12.tar.part", ATD_UPLOAD_TEMP, "AbCdEf12.tar"},
    {"A.TAR.part", ATD_UPLOAD_TEMP, "A.TAR"},
    /* tools' own */
    {S ".aria2", ATD_UPLOAD_SCRATCH, ""},
    {S ".aria2__temp", ATD_UPLOAD_SCRATCH, ""},
    {S ".lftp-pget-status", ATD_UPLOAD_SCRATCH, ""},
    {S "~", ATD_UPLOAD_SCRATCH, ""},
    {S ".~1~", ATD_UPLOAD_SCRATCH, ""},
    {"notes.txt~", ATD_UPLOAD_SCRATCH, ""},
    {".goutputstream-A1B2C3", ATD_UPLOAD_SCRATCH, ""},
    {".fuse_hidden0000000100000002", ATD_UPLOAD_SCRATCH, ""},
    {".nfs00000000006a1b2c00000001", ATD_UPLOAD_SCRATCH, ""},
    {"4913", ATD_UPLOAD_SCRATCH, ""},
    {"5036", ATD_UPLOAD_SCRATCH, ""},
    {"sedAbC123", ATD_UPLOAD_SCRATCH, ""},
    {"XXaBcDeF", ATD_UPLOAD_SCRATCH, ""},
    {"tmpabc_1234", ATD_UPLOAD_SCRATCH, ""},
    {"tmp.AbCdEf1234", ATD_UPLOAD_SCRATCH, ""},
    {".tmpA1b2C3", ATD_UPLOAD_SCRATCH, ""},
    {".com.google.Chrome.AbCdEf", ATD_UPLOAD_SCRATCH, ""},
    {"Unconfirmed 123456.crdownload", ATD_UPLOAD_SCRATCH, ""},
    {"." S ".swp", ATD_UPLOAD_SCRATCH, ""},
    {".schema.py.swp", ATD_UPLOAD_SCRATCH, ""},
    {"#notes#", ATD_UPLOAD_SCRATCH, ""},
    {"#" S "#", ATD_UPLOAD_SCRATCH, ""},
    /* made from a record */
    {"schema.json~", ATD_UPLOAD_SCRATCH, "schema.json"},
    {"schema.json.~12~", ATD_UPLOAD_SCRATCH, "schema.json"},
    {".schema.json.swp", ATD_UPLOAD_SCRATCH, "schema.json"},
    {".schema.json.swx", ATD_UPLOAD_SCRATCH, "schema.json"},
    {".schema.json.swo", ATD_UPLOAD_SCRATCH, "schema.json"},
    {".schema.json.svz", ATD_UPLOAD_SCRATCH, "schema.json"},
    {".metadata.json.kate-swp", ATD_UPLOAD_SCRATCH, "metadata.json"},
    {".schema.json.a1b2c3", ATD_UPLOAD_SCRATCH, "schema.json"}, /* rsync */
    {"metadata.json.Q7XKZ1", ATD_UPLOAD_SCRATCH, "metadata.json"},
    {"metadata.json.part", ATD_UPLOAD_SCRATCH, "metadata.json"},
    {"metadata.json.tmp", ATD_UPLOAD_SCRATCH, "metadata.json"},
    {"metadata.json.bak", ATD_UPLOAD_SCRATCH, "metadata.json"},
    {"#schema.json#", ATD_UPLOAD_SCRATCH, "schema.json"},
    {".#schema.json", ATD_UPLOAD_SCRATCH, "schema.json"},
    {".~lock.schema.json#", ATD_UPLOAD_SCRATCH, "schema.json"},
    {"schema.json___jb_tmp___", ATD_UPLOAD_SCRATCH, "schema.json"},
    /* nobody would share these */
    {"notes.txt", ATD_UPLOAD_REFUSED, ""},
    {"README.md", ATD_UPLOAD_REFUSED, ""},
    {S ".error.txt", ATD_UPLOAD_REFUSED, ""},
    {S ".error.txt.part", ATD_UPLOAD_REFUSED, ""},
    {"." S ".error.txt.a1b2c3", ATD_UPLOAD_REFUSED, ""},
    {"schema.py", ATD_UPLOAD_REFUSED, ""},
    {"entry.json", ATD_UPLOAD_REFUSED, ""},
    {"SCHEMA.JSON", ATD_UPLOAD_REFUSED, ""},
    {"samples", ATD_UPLOAD_REFUSED, ""},
    {"tar", ATD_UPLOAD_REFUSED, ""},
    {".tar", ATD_UPLOAD_REFUSED, ""},
    {".tar.gz", ATD_UPLOAD_REFUSED, ""},
    {"." S, ATD_UPLOAD_REFUSED, ""},
    {".hidden", ATD_UPLOAD_REFUSED, ""},
    {".Trash-1000", ATD_UPLOAD_REFUSED, ""},
    {".DS_Store", ATD_UPLOAD_REFUSED, ""},
    {"._" S, ATD_UPLOAD_REFUSED, ""},
    {".notes.txt.a1b2c3", ATD_UPLOAD_REFUSED, ""},
    {".query.sql", ATD_UPLOAD_REFUSED, ""},
    {"notes.txt.part", ATD_UPLOAD_REFUSED, ""},
    {S ".sha256", ATD_UPLOAD_REFUSED, ""},
    {S ".SHA512", ATD_UPLOAD_REFUSED, ""},
    {S ".md5sum", ATD_UPLOAD_REFUSED, ""},
    {S ".idx", ATD_UPLOAD_REFUSED, ""},
    {S ".bak", ATD_UPLOAD_REFUSED, ""},
    {S ".zst", ATD_UPLOAD_REFUSED, ""},
    {"a.tar.zip", ATD_UPLOAD_REFUSED, ""},
    {"4914", ATD_UPLOAD_REFUSED, ""},
    {"04913", ATD_UPLOAD_REFUSED, ""},
    {"tmpabcdefghi", ATD_UPLOAD_REFUSED, ""},
    {"tmpABCDEFGH", ATD_UPLOAD_REFUSED, ""},
    {"sedan", ATD_UPLOAD_REFUSED, ""},
    {"a%20b.tar", ATD_UPLOAD_REFUSED, ""},
    {"a%2Fb.tar", ATD_UPLOAD_REFUSED, ""},
    {"a{1..3}.tar", ATD_UPLOAD_REFUSED, ""},
    {"a\\b.tar", ATD_UPLOAD_REFUSED, ""},
    {"a{1..3}.tar.part", ATD_UPLOAD_REFUSED, ""},
    {"a\nb.tar", ATD_UPLOAD_REFUSED, ""},
    {"a\x7f.tar", ATD_UPLOAD_REFUSED, ""},
    {"a\xff.tar", ATD_UPLOAD_REFUSED, ""},
    {"a\xff.tar~", ATD_UPLOAD_REFUSED, ""},
    {"a/b.tar", ATD_UPLOAD_REFUSED, ""},
    {"", ATD_UPLOAD_REFUSED, ""},
    {".", ATD_UPLOAD_REFUSED, ""},
    {"..", ATD_UPLOAD_REFUSED, ""},
    {"~", ATD_UPLOAD_REFUSED, ""},
    {"#", ATD_UPLOAD_REFUSED, ""},
    {"##", ATD_UPLOAD_REFUSED, ""},
    {".#", ATD_UPLOAD_REFUSED, ""},
    {".part", ATD_UPLOAD_REFUSED, ""},
    {".swp", ATD_UPLOAD_REFUSED, ""},
    {"..swp", ATD_UPLOAD_REFUSED, ""},
    {".temp1", ATD_UPLOAD_REFUSED, ""},
    {".~tmp~x", ATD_UPLOAD_REFUSED, ""},
};

Test(upload_name, table)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(names); i++) {
        struct atd_str name = atd_str_from(names[i].name);
        struct atd_error err = ATD_ERROR_INIT;
        struct atd_str final;
        enum atd_upload_name kind = atd_upload_name_classify(name, &final, &err);

        cr_assert_eq(kind, names[i].kind, "'%s' is %s", names[i].name, kinds[kind]);
        cr_assert(atd_str_equal(final, atd_str_from(names[i].final)), "'%s' becomes '%.*s'",
                  names[i].name, (int) final.len, final.ptr);
        cr_assert(final.ptr >= name.ptr && final.ptr + final.len <= name.ptr + name.len);
        cr_assert_eq(err.code, kind == ATD_UPLOAD_REFUSED ? EACCES : 0);
        cr_assert_eq(atd_upload_name_classify(name, NULL, NULL), kind);
    }
}

Test(upload_name, length)
{
    char name[300];

    memset(name, 'a', sizeof(name));
    memcpy(name + 251, ".tar", 5);
    cr_assert_eq(atd_upload_name_classify(atd_str_from(name), NULL, NULL), ATD_UPLOAD_SHARD);
    memcpy(name + 251, "a.tar", 6);
    cr_assert_eq(atd_upload_name_classify(atd_str_from(name), NULL, NULL), ATD_UPLOAD_REFUSED);
    memcpy(name + 246, ".tar.part", 10);
    cr_assert_eq(atd_upload_name_classify(atd_str_from(name), NULL, NULL), ATD_UPLOAD_TEMP);
    memcpy(name + 246, "a.tar.part", 11);
    cr_assert_eq(atd_upload_name_classify(atd_str_from(name), NULL, NULL), ATD_UPLOAD_REFUSED);
}

Test(upload_name, the_sentence_says_what_may_be_put_here)
{
    static const char *const cases[][2] = {
        {"notes.txt", "'notes.txt' is no shard: shards (.tar, "},
        {"a%20.tar", "'a%20.tar' holds '%' and two hex digits"},
        {"a{}.tar", "holds a brace"},
        {".x", "'.x' begins with a dot: shards"},
        {"a\xff.tar", "is not valid UTF-8"},
        {"", "'' is empty: "},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(cases); i++) {
        struct atd_error err = ATD_ERROR_INIT;

        cr_assert_eq(atd_upload_name_classify(atd_str_from(cases[i][0]), NULL, &err),
                     ATD_UPLOAD_REFUSED);
        cr_assert(strstr(err.text, cases[i][1]), "%s", err.text);
        cr_assert(strstr(err.text, "schema.json and metadata.json may be put here"), "%s",
                  err.text);
    }
}

Test(upload_name, compressed)
{
    cr_assert_not(atd_upload_name_is_compressed(ATD_STR("a.tar")));
    cr_assert_not(atd_upload_name_is_compressed(ATD_STR("a.gz.tar")));
    cr_assert(atd_upload_name_is_compressed(ATD_STR("a.tar.gz")));
    cr_assert(atd_upload_name_is_compressed(ATD_STR("a.TGZ")));
    cr_assert(atd_upload_name_is_compressed(ATD_STR("a.tar.bz2")));
    cr_assert(atd_upload_name_is_compressed(ATD_STR("a.tbz2")));
    cr_assert(atd_upload_name_is_compressed(ATD_STR("a.tar.xz")));
    cr_assert(atd_upload_name_is_compressed(ATD_STR("a.txz")));
}

Test(upload_name, scratch_directories)
{
    cr_assert(atd_upload_name_is_scratch_dir(ATD_STR(".~tmp~")));
    cr_assert_not(atd_upload_name_is_scratch_dir(ATD_STR(".~tmp")));
    cr_assert_not(atd_upload_name_is_scratch_dir(ATD_STR("sub")));
    cr_assert_not(atd_upload_name_is_scratch_dir(ATD_STR(".Trash-1000")));
}

/* ------------------------------------------------------------------ datasets */

Test(upload_name, dataset_names)
{
    const struct {
        struct atd_str name;
        const char *complaint; /* NULL: fine */
    } datasets[] = {
        {ATD_STR("mnist"), NULL},
        {ATD_STR("mnist-train v2"), NULL},
        {ATD_STR("team/mnist"), NULL},
        {ATD_STR("a/b/c"), NULL},
        {ATD_STR("local"), NULL},
        {ATD_STR("locale/x"), NULL},
        {ATD_STR("a..b"), NULL},
        {ATD_STR("a/.b"), NULL},
        {ATD_STR("100%"), NULL},
        {ATD_STR("a:b"), NULL},
        {ATD_STR("\xe6\x95\xb0\xe6\x8d\xae"), NULL},
        {ATD_STR(""), "is empty"},
        {ATD_STR("@x"), "'@'"},
        {ATD_STR("a@1.0.0"), "'@'"},
        {ATD_STR("a@superseded:bafy"), "'@'"},
        {ATD_STR("local/x"), "local/"},
        {ATD_STR("at://did/x"), "an address"},
        {ATD_STR("atdata://a/b"), "an address"},
        {ATD_STR("a*"), "'*'"},
        {ATD_STR("a?"), "'?'"},
        {ATD_STR("a[b"), "'['"},
        {ATD_STR("a]b"), "']'"},
        {ATD_STR("a\\b"), "'\\'"},
        {ATD_STR("a{b"), "'{'"},
        {ATD_STR("a}b"), "'}'"},
        {ATD_STR("a,b"), "','"},
        {ATD_STR("/a"), "an empty part"},
        {ATD_STR("a/"), "an empty part"},
        {ATD_STR("a//b"), "an empty part"},
        {ATD_STR("/"), "an empty part"},
        {ATD_STR("a/../b"), "an empty part"},
        {ATD_STR("a/."), "an empty part"},
        {ATD_STR("."), "begins with a dot"},
        {ATD_STR(".."), "begins with a dot"},
        {ATD_STR(".hidden"), "begins with a dot"},
        {ATD_STR("a\nb"), "control"},
        {ATD_STR("a\0b"), "control"},
        {ATD_STR("a\x7f"), "control"},
        {ATD_STR("a\xff"), "UTF-8"},
    };

    for (size_t i = 0; i < ATD_ARRAY_LEN(datasets); i++) {
        struct atd_error err = ATD_ERROR_INIT;
        int rc = atd_dataset_name_check(datasets[i].name, &err);

        cr_assert_eq(rc, datasets[i].complaint ? -EACCES : 0, "%s: %s", datasets[i].name.ptr,
                     err.text);
        if (rc < 0)
            cr_assert(strstr(err.text, datasets[i].complaint), "%s", err.text);
    }
}

Test(upload_name, dataset_names_as_long_as_file_names)
{
    char name[256];

    memset(name, 'a', sizeof(name));
    cr_assert_eq(atd_dataset_name_check((struct atd_str){name, 255}, NULL), 0);
    cr_assert_eq(atd_dataset_name_check((struct atd_str){name, 256}, NULL), -EACCES);
    name[100] = '/'; /* %2F */
    cr_assert_eq(atd_dataset_name_check((struct atd_str){name, 253}, NULL), 0);
    cr_assert_eq(atd_dataset_name_check((struct atd_str){name, 254}, NULL), -EACCES);
}
