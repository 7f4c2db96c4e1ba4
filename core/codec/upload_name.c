/*
 * Names that tools use while they write. A pattern is what stands around the name of the file that
 * is to be; that name is what decides. Source: TOOLS 1 and 4 ("Names to tolerate"), and what the
 * tools named below document.
 */
#include "codec/upload_name.h"

#include <errno.h>

#include "base/check.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "codec/file_name.h"

#define SHARD_ENDINGS ".tar, .tar.gz, .tgz, .tar.bz2, .tbz2, .tar.xz or .txz"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_alnum(char c)
{
    return is_digit(c) || is_lower(c) || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* What Python's tempfile takes. */
static bool is_python_random(char c)
{
    return is_lower(c) || is_digit(c) || c == '_';
}

static bool all(struct atd_str text, bool (*is)(char))
{
    for (size_t i = 0; i < text.len; i++)
        if (!is(text.ptr[i]))
            return false;
    return true;
}

static struct atd_str tail(struct atd_str text, size_t len)
{
    return atd_str_from_byte(text, text.len - len);
}

/* `suffix` is in lower case. */
static bool ends_without_case(struct atd_str text, struct atd_str suffix)
{
    if (text.len < suffix.len)
        return false;
    text = tail(text, suffix.len);
    for (size_t i = 0; i < suffix.len; i++) {
        char c = text.ptr[i];

        if ((c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c) != suffix.ptr[i])
            return false;
    }
    return true;
}

/* ------------------------------------------------------------------ what may be here for good */

static const struct {
    struct atd_str ending;
    bool is_compressed;
} shard_endings[] = {
    {{".tar", 4}, false}, {{".tar.gz", 7}, true}, {{".tgz", 4}, true}, {{".tar.bz2", 8}, true},
    {{".tbz2", 5}, true}, {{".tar.xz", 7}, true}, {{".txz", 4}, true},
};

static const struct atd_str records[] = {{"schema.json", 11}, {"metadata.json", 13}};

bool atd_upload_name_is_compressed(struct atd_str shard_name)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(shard_endings); i++)
        if (ends_without_case(shard_name, shard_endings[i].ending))
            return shard_endings[i].is_compressed;
    return false;
}

static bool has_shard_ending(struct atd_str name)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(shard_endings); i++)
        if (name.len > shard_endings[i].ending.len &&
            ends_without_case(name, shard_endings[i].ending))
            return true;
    return false;
}

static bool is_record(struct atd_str name)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(records); i++)
        if (atd_str_equal(name, records[i]))
            return true;
    return false;
}

/* NULL, or why no shard can have the name, to be put after it. */
static const char *shard_problem(struct atd_str name)
{
    if (name.len == 0)
        return "is empty";
    if (!atd_utf8_is_valid(name, NULL))
        return "is not valid UTF-8";
    if (name.len > ATD_FILE_NAME_MAX)
        return "is longer than 255 bytes";
    if (name.ptr[0] == '.')
        return "begins with a dot";
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.ptr[i] < 0x20 || name.ptr[i] == 0x7f || name.ptr[i] == '/')
            return "holds a control character or a slash";
    if (!atd_file_name_is_plain(name))
        return "holds '%' and two hex digits, which would be shown as something else";
    for (size_t i = 0; i < name.len; i++)
        if (memchr("{}\\", name.ptr[i], 3))
            return "holds a brace or a backslash, with which readers write patterns";
    return has_shard_ending(name) ? NULL : "is no shard";
}

/* ------------------------------------------------------------------ patterns */

/* How `name` becomes what is inside of a pattern. */
struct pattern {
    struct atd_str inner; /* ptr NULL: none matched */
    bool is_content;      /* the bytes are those of what it will be; else notes of a tool */
};

static struct pattern inside(struct atd_str name, size_t before, size_t after, bool is_content)
{
    return (struct pattern){{name.ptr + before, name.len - before - after}, is_content};
}

/* Suffixes of a file that is being written, and of what a tool keeps beside it. */
static const struct {
    struct atd_str suffix;
    bool is_content;
} suffixes[] = {
    {{".part.minio", 11}, true}, /* mc */
    {{".part", 5}, true},        /* KIO, Firefox, yt-dlp */
    {{".partial", 8}, true},     /* rclone puts eight hex digits before it */
    {{".partial~", 9}, true},    /* thunar */
    {{".crdownload", 11}, true}, /* Chromium */
    {{".opdownload", 11}, true}, /* Opera */
    {{".download", 9}, true},    /* Safari */
    {{".filepart", 9}, true},    /* WinSCP */
    {{".incomplete", 11}, true}, /* huggingface_hub, Transmission */
    {{"_.gstmp", 7}, true},      /* gsutil */
    {{".tmp", 4}, true},         /* many */
    {{".temp", 5}, true},        /* yt-dlp; webdataset puts a process id behind it */
    {{".aria2", 6}, false},      /* aria2's control file, and how it is renewed */
    {{".aria2__temp", 12}, false}, {{".lftp-pget-status", 17}, false},
    {{"___jb_tmp___", 12}, true}, /* JetBrains */
    {{"___jb_old___", 12}, false},
};

/* Prefixes of the same kind. */
static const struct atd_str prefixes[] = {
    {".in.", 4},         /* ProFTPD's HiddenStores puts a dot behind, too */
    {".syncthing.", 11}, /* with .tmp behind */
    {"~syncthing~", 11},
};

/* What follows ".tar." and looks random, but is the name of a sum: nobody would share it. */
static bool is_sum_ending(struct atd_str text)
{
    static const char *const endings[] = {"sha224", "sha256", "sha384", "sha512", "md5sum"};

    for (size_t i = 0; i < ATD_ARRAY_LEN(endings); i++)
        if (ends_without_case(text, atd_str_from(endings[i])) && text.len == strlen(endings[i]))
            return true;
    return false;
}

/* NAME.XXXXXX (g_file_set_contents, QSaveFile), NAME.XXXXXXXX (boto3 and aws: hex digits). */
static size_t random_ending(struct atd_str name)
{
    size_t len = name.len - (size_t)(atd_str_find_last(name, '.') + 1);
    struct atd_str random = tail(name, len);

    if (len == name.len || !all(random, is_alnum) || is_sum_ending(random))
        return 0;
    return len == 6 || (len == 8 && all(random, is_hex)) ? len + 1 : 0;
}

/* ".temp" and digits: webdataset's cache. */
static size_t process_ending(struct atd_str name)
{
    size_t digits = 0;

    while (digits < name.len && is_digit(name.ptr[name.len - 1 - digits]))
        digits++;
    return digits && atd_str_ends_with(atd_str_head(name, name.len - digits), ATD_STR(".temp"))
               ? digits + strlen(".temp")
               : 0;
}

/* .azDownload-GUID-NAME */
static size_t azcopy_prefix(struct atd_str name)
{
    size_t len = strlen(".azDownload-") + 36 + 1;

    return atd_str_starts_with(name, ATD_STR(".azDownload-")) && name.len > len &&
                   name.ptr[len - 1] == '-'
               ? len
               : 0;
}

/* One layer of writing that is around a name. */
static struct pattern writing_pattern(struct atd_str name)
{
    size_t len = azcopy_prefix(name);

    if (len)
        return inside(name, len, 0, true);
    for (size_t i = 0; i < ATD_ARRAY_LEN(prefixes); i++)
        if (atd_str_starts_with(name, prefixes[i]))
            return inside(name, prefixes[i].len, 0, true);
    for (size_t i = 0; i < ATD_ARRAY_LEN(suffixes); i++)
        if (atd_str_ends_with(name, suffixes[i].suffix))
            return inside(name, 0, suffixes[i].suffix.len, suffixes[i].is_content);
    len = process_ending(name);
    if (len == 0)
        len = random_ending(name);
    if (len)
        return inside(name, 0, len, true);
    return (struct pattern){{NULL, 0}, false};
}

/* At most so many layers: rclone's NAME.a1b2c3d4.partial, a dot before NAME.tmp. */
#define LAYERS_MAX 3u

static bool could_be_shared(struct atd_str name)
{
    return is_record(name) || !shard_problem(name);
}

/* Takes writing patterns off until a name is left that may be here for good. */
static struct pattern peel(struct atd_str name)
{
    struct pattern found = {name, true};

    for (unsigned i = 0; i < LAYERS_MAX; i++) {
        struct pattern layer = writing_pattern(found.inner);

        if (!layer.inner.ptr)
            break;
        found.inner = layer.inner;
        found.is_content = found.is_content && layer.is_content;
        if (could_be_shared(found.inner))
            return found;
        /* A hidden file: .NAME.XXXXXX (rsync), .NAME.tmp, .in.NAME. */
        if (atd_str_starts_with(found.inner, ATD_STR("."))) {
            struct atd_str shown = atd_str_from_byte(found.inner, 1);

            if (could_be_shared(shown)) {
                found.inner = shown;
                return found;
            }
        }
        if (atd_str_ends_with(found.inner, ATD_STR(".")) &&
            could_be_shared(atd_str_head(found.inner, found.inner.len - 1))) {
            found.inner.len--;
            return found;
        }
    }
    return (struct pattern){{NULL, 0}, false};
}

/* ------------------------------------------------------------------ notes of editors and tools */

/* .NAME.swp of vim and nano: swp, swo .. swa, svz .. sva, when those before are taken. */
static bool is_vim_swap(struct atd_str ending)
{
    return ending.len == 3 && ending.ptr[0] == 's' &&
           (ending.ptr[1] == 'v' || ending.ptr[1] == 'w') && is_lower(ending.ptr[2]);
}

/* NAME~, NAME.~1~ (cp --backup) */
static size_t backup_suffix(struct atd_str name)
{
    size_t len = 1;

    if (!atd_str_ends_with(name, ATD_STR("~")))
        return 0;
    while (len < name.len && is_digit(name.ptr[name.len - 1 - len]))
        len++;
    return len > 1 && atd_str_ends_with(atd_str_head(name, name.len - len), ATD_STR(".~")) ? len + 2
                                                                                           : 1;
}

/* What an editor keeps beside a file, whatever that file is. */
static struct atd_str editor_pattern(struct atd_str name)
{
    ptrdiff_t dot = atd_str_find_last(name, '.');
    size_t len = backup_suffix(name);

    if (len && name.len > len)
        return inside(name, 0, len, false).inner;
    if (name.len > 2 && name.ptr[0] == '#' && name.ptr[name.len - 1] == '#') /* emacs */
        return inside(name, 1, 1, false).inner;
    if (atd_str_starts_with(name, ATD_STR(".#")) && name.len > 2) /* emacs, mc: a lock */
        return inside(name, 2, 0, false).inner;
    if (atd_str_starts_with(name, ATD_STR(".~lock.")) && name.ptr[name.len - 1] == '#' &&
        name.len > 8) /* LibreOffice */
        return inside(name, 7, 1, false).inner;
    if (name.len > 1 && name.ptr[0] == '.' && dot > 1) {
        struct atd_str ending = atd_str_from_byte(name, (size_t)dot + 1);

        if (is_vim_swap(ending) || atd_str_equal(ending, ATD_STR("kate-swp")))
            return inside(name, 1, name.len - (size_t)dot, false).inner;
    }
    return (struct atd_str){NULL, 0};
}

/* The number that vim tests a directory with: 4913, and 123 more while that is taken. */
static bool is_vim_probe(struct atd_str name)
{
    unsigned number = 0;

    if (name.len < 4 || name.len > 5 || !all(name, is_digit) || name.ptr[0] == '0')
        return false;
    for (size_t i = 0; i < name.len; i++)
        number = number * 10 + (unsigned)(name.ptr[i] - '0');
    return number >= 4913 && (number - 4913) % 123 == 0;
}

/* Names that say nothing of what they will be: a prefix and so many random characters. */
static bool is_anonymous(struct atd_str name)
{
    static const struct {
        struct atd_str prefix;
        size_t min;
        size_t max;
        bool (*is)(char);
    } patterns[] = {
        {{".goutputstream-", 15}, 6, 6, is_alnum}, /* GIO, gedit */
        {{".fuse_hidden", 12}, 8, 64, is_hex},     /* libfuse's high-level interface */
        {{".nfs", 4}, 16, 64, is_hex},             /* NFS clients */
        {{"sed", 3}, 6, 6, is_alnum},              /* sed -i */
        {{"XX", 2}, 6, 6, is_alnum},               /* perl -i */
        {{"tmp", 3}, 8, 8, is_python_random},      /* Python's tempfile */
        {{"tmp.", 4}, 6, 10, is_alnum},            /* mktemp */
        {{".tmp", 4}, 6, 8, is_alnum},             /* Rust's tempfile */
        {{".com.google.Chrome.", 19}, 6, 6, is_alnum},
        {{".org.chromium.Chromium.", 23}, 6, 6, is_alnum},
    };
    size_t chrome = strlen("Unconfirmed ") + strlen(".crdownload");

    for (size_t i = 0; i < ATD_ARRAY_LEN(patterns); i++) {
        struct atd_str random;

        if (!atd_str_starts_with(name, patterns[i].prefix))
            continue;
        random = atd_str_from_byte(name, patterns[i].prefix.len);
        if (random.len >= patterns[i].min && random.len <= patterns[i].max &&
            all(random, patterns[i].is))
            return true;
    }
    return is_vim_probe(name) ||
           (name.len > chrome && atd_str_starts_with(name, ATD_STR("Unconfirmed ")) &&
            atd_str_ends_with(name, ATD_STR(".crdownload")) &&
            all(inside(name, strlen("Unconfirmed "), strlen(".crdownload"), false).inner,
                is_digit));
}

/* Copies that sed -i.bak and people make of a record; of a shard they would be shared for one. */
static struct atd_str record_copy(struct atd_str name)
{
    static const struct atd_str endings[] = {{".bak", 4}, {".old", 4}, {".orig", 5}, {".new", 4}};

    for (size_t i = 0; i < ATD_ARRAY_LEN(endings); i++) {
        struct atd_str inner;

        if (!atd_str_ends_with(name, endings[i]))
            continue;
        inner = inside(name, 0, endings[i].len, false).inner;
        if (is_record(inner))
            return inner;
    }
    return (struct atd_str){NULL, 0};
}

/* ------------------------------------------------------------------ */

static enum atd_upload_name classify(struct atd_str name, struct atd_str *ret_final)
{
    struct pattern pattern;
    struct atd_str inner;

    if (is_record(name) || !shard_problem(name)) {
        *ret_final = name;
        return is_record(name) ? ATD_UPLOAD_RECORD : ATD_UPLOAD_SHARD;
    }
    if (is_anonymous(name))
        return ATD_UPLOAD_SCRATCH;
    pattern = peel(name);
    if (pattern.inner.ptr && !is_record(pattern.inner)) {
        if (pattern.is_content)
            *ret_final = pattern.inner;
        return pattern.is_content ? ATD_UPLOAD_TEMP : ATD_UPLOAD_SCRATCH;
    }
    inner = pattern.inner.ptr ? pattern.inner : editor_pattern(name);
    if (!inner.ptr)
        inner = record_copy(name);
    if (!inner.ptr)
        return ATD_UPLOAD_REFUSED;
    if (is_record(inner))
        *ret_final = inner;
    return ATD_UPLOAD_SCRATCH;
}

/* A name that the kernel could create at all; no pattern excuses another. */
static bool is_readable(struct atd_str name)
{
    if (name.len == 0 || name.len > ATD_FILE_NAME_MAX || !atd_utf8_is_valid(name, NULL))
        return false;
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.ptr[i] < 0x20 || name.ptr[i] == 0x7f || name.ptr[i] == '/')
            return false;
    return true;
}

enum atd_upload_name atd_upload_name_classify(struct atd_str name, struct atd_str *ret_final,
                                              struct atd_error *err)
{
    struct atd_str final = {name.ptr, 0};
    enum atd_upload_name kind = is_readable(name) ? classify(name, &final) : ATD_UPLOAD_REFUSED;

    if (ret_final)
        *ret_final = final;
    if (kind == ATD_UPLOAD_REFUSED)
        (void)atd_error_set(err, EACCES,
                            "'" ATD_STR_FMT "' %s: shards (" SHARD_ENDINGS "), schema.json and "
                            "metadata.json may be put here",
                            ATD_STR_ARG(name), shard_problem(name));
    return kind;
}

bool atd_upload_name_is_scratch_dir(struct atd_str name)
{
    return atd_str_equal(name, ATD_STR(".~tmp~"));
}
