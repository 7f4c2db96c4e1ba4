#include "atdata/schema_ref.h"

#include <errno.h>

#include "base/check.h"

/* More digits than Python's int() takes from text. Source: sys.int_info.default_max_str_digits. */
#define INT_DIGITS_MAX 4300u

static const struct {
    enum atd_schema_ref_form form;
    struct atd_str prefix;
} local_forms[] = {
    {ATD_REF_NEW, {"atdata://local/schema/", 22}},
    {ATD_REF_MID, {"atdata://local/sampleSchema/", 28}},
    {ATD_REF_LEGACY, {"local://schemas/", 16}},
};

static bool is_network(struct atd_str text)
{
    if (atd_str_starts_with(text, ATD_STR("at://")))
        return true;
    return atd_str_starts_with(text, ATD_STR("@")) && atd_str_find(text, '/') >= 0;
}

int atd_schema_ref_parse(struct atd_str text, struct atd_schema_ref *ret_ref, struct atd_error *err)
{
    for (size_t i = 0; i < ATD_ARRAY_LEN(local_forms); i++) {
        struct atd_str path;
        struct atd_str name;
        ptrdiff_t at;
        ptrdiff_t dot;

        if (!atd_str_starts_with(text, local_forms[i].prefix))
            continue;
        path = atd_str_from_byte(text, local_forms[i].prefix.len);
        at = atd_str_find_last(path, '@');
        if (at < 0)
            return atd_error_set(err, EINVAL,
                                 "schema reference '" ATD_STR_FMT
                                 "' has no version, expected '@' and a version at its end",
                                 ATD_STR_ARG(text));
        name = atd_str_head(path, (size_t)at);
        dot = atd_str_find_last(name, '.');
        *ret_ref = (struct atd_schema_ref){
            .form = local_forms[i].form,
            .name = atd_str_from_byte(name, (size_t)(dot + 1)),
            .version = atd_str_from_byte(path, (size_t)at + 1),
        };
        return 0;
    }
    if (is_network(text)) {
        *ret_ref = (struct atd_schema_ref){.form = ATD_REF_NETWORK};
        return 0;
    }
    return atd_error_set(err, EINVAL,
                         "schema reference '" ATD_STR_FMT
                         "' is none, expected atdata://local/schema/NAME@VERSION",
                         ATD_STR_ARG(text));
}

void atd_schema_ref_format(enum atd_schema_ref_form form, struct atd_str name,
                           struct atd_str version, struct atd_buf *out)
{
    atd_assert(form != ATD_REF_NETWORK);
    for (size_t i = 0; i < ATD_ARRAY_LEN(local_forms); i++) {
        if (local_forms[i].form == form)
            atd_buf_append_str(out, local_forms[i].prefix);
    }
    atd_buf_append_str(out, name);
    atd_buf_append_byte(out, '@');
    atd_buf_append_str(out, version);
}

/* What Python's int() passes over, as far as it is ASCII. */
static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool parse_int(struct atd_str text, int64_t *ret_value)
{
    bool negative = false;
    bool after_digit = false;
    size_t digits = 0;
    int64_t value = 0;

    while (text.len && is_blank(text.ptr[0]))
        text = atd_str_from_byte(text, 1);
    while (text.len && is_blank(text.ptr[text.len - 1]))
        text.len--;
    if (text.len && (text.ptr[0] == '-' || text.ptr[0] == '+')) {
        negative = text.ptr[0] == '-';
        text = atd_str_from_byte(text, 1);
    }
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if (c == '_' && after_digit) {
            after_digit = false;
            continue;
        }
        if (c < '0' || c > '9')
            return false;
        after_digit = true;
        digits++;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, c - '0', &value))
            value = INT64_MAX;
    }
    if (!after_digit || digits > INT_DIGITS_MAX)
        return false;
    *ret_value = negative ? -value : value;
    return true;
}

bool atd_semver_parse(struct atd_str text, struct atd_semver *ret_version)
{
    struct atd_semver version;

    for (size_t i = 0; i < 3; i++) {
        ptrdiff_t dot = atd_str_find(text, '.');
        bool is_last = i == 2;

        if (is_last != (dot < 0))
            return false;
        if (!parse_int(is_last ? text : atd_str_head(text, (size_t)dot), &version.part[i]))
            return false;
        if (!is_last)
            text = atd_str_from_byte(text, (size_t)dot + 1);
    }
    *ret_version = version;
    return true;
}

int atd_semver_compare(const struct atd_semver *a, const struct atd_semver *b)
{
    for (size_t i = 0; i < 3; i++) {
        if (a->part[i] != b->part[i])
            return a->part[i] < b->part[i] ? -1 : 1;
    }
    return 0;
}
