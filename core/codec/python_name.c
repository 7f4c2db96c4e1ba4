#include "codec/python_name.h"

#include "base/check.h"
#include "base/utf8.h"

/* Source: keyword.kwlist of Python 3.12; soft keywords (match, case, type, _) are names. */
static const char *const keywords[] = {
    "False", "None",     "True",  "and",    "as",   "assert", "async",  "await",    "break",
    "class", "continue", "def",   "del",    "elif", "else",   "except", "finally",  "for",
    "from",  "global",   "if",    "import", "in",   "is",     "lambda", "nonlocal", "not",
    "or",    "pass",     "raise", "return", "try",  "while",  "with",   "yield",
};

/*
 * Letters (XID_Start) that NFKC leaves alone in any company: their quick check is Yes, not Maybe,
 * and their combining class is 0. Source: Unicode 15.0, the blocks Latin-1 to Latin Extended-B,
 * Greek, Cyrillic, Hebrew and Arabic letters, Hiragana, Katakana, CJK Unified Ideographs, Hangul
 * Syllables.
 */
static const struct {
    uint32_t first;
    uint32_t last;
} letters[] = {
    {0x00c0, 0x00d6}, {0x00d8, 0x00f6}, {0x00f8, 0x0131}, {0x0134, 0x013e}, {0x0141, 0x0148},
    {0x014a, 0x017e}, {0x0180, 0x01c3}, {0x01cd, 0x01f0}, {0x01f4, 0x024f}, {0x0370, 0x0373},
    {0x0376, 0x0377}, {0x037b, 0x037d}, {0x037f, 0x037f}, {0x0386, 0x0386}, {0x0388, 0x038a},
    {0x038c, 0x038c}, {0x038e, 0x03a1}, {0x03a3, 0x03cf}, {0x03d7, 0x03ef}, {0x03f3, 0x03f3},
    {0x03f7, 0x03f8}, {0x03fa, 0x0481}, {0x048a, 0x052f}, {0x05d0, 0x05ea}, {0x0620, 0x064a},
    {0x3041, 0x3096}, {0x309d, 0x309e}, {0x30a1, 0x30fa}, {0x30fc, 0x30fe}, {0x4e00, 0x9fff},
    {0xac00, 0xd7a3},
};

static bool is_letter(uint32_t code)
{
    if (code < 0x80)
        return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z') || code == '_';
    for (size_t i = 0; i < ATD_ARRAY_LEN(letters); i++) {
        if (code >= letters[i].first && code <= letters[i].last)
            return true;
    }
    return false;
}

bool atd_python_is_identifier(struct atd_str text)
{
    size_t at = 0;

    while (at < text.len) {
        uint32_t code;
        size_t step = atd_utf8_decode((const uint8_t *)text.ptr + at, text.len - at, &code);

        if (step == 0)
            return false;
        if (!is_letter(code) && !(at > 0 && code >= '0' && code <= '9'))
            return false;
        at += step;
    }
    for (size_t i = 0; i < ATD_ARRAY_LEN(keywords); i++) {
        if (atd_str_equal(text, atd_str_from(keywords[i])))
            return false;
    }
    return text.len > 0;
}

/*
 * Attributes that the base class or its metaclass already has: a field of that name takes the
 * attribute for its default. Source: ATDATA-FORMATS 4.7; `mro` and `register` come with ABCMeta.
 */
static bool is_reserved(struct atd_str name)
{
    static const char *const reserved[] = {"packed",     "as_wds", "from_data",
                                           "from_bytes", "mro",    "register"};

    if (atd_str_starts_with(name, ATD_STR("_")))
        return true;
    for (size_t i = 0; i < ATD_ARRAY_LEN(reserved); i++) {
        if (atd_str_equal(name, atd_str_from(reserved[i])))
            return true;
    }
    return false;
}

const char *atd_python_field_problem(struct atd_str name)
{
    if (!atd_python_is_identifier(name))
        return "has a name that is no Python identifier, or that cannot be checked here";
    if (is_reserved(name))
        return "has a name that the sample class reserves";
    return NULL;
}
