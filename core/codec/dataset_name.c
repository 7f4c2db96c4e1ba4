#include <errno.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "codec/file_name.h"
#include "codec/upload_name.h"

static bool has_control(struct atd_str name)
{
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.ptr[i] < 0x20 || name.ptr[i] == 0x7f)
            return true;
    return false;
}

/* The first of the characters with which some release matches or expands; 0: none. */
static char pattern_character(struct atd_str name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] && strchr("*?[]\\{},", name.ptr[i]))
            return name.ptr[i];
    return '\0';
}

/* An empty, "." or ".." component. */
static bool has_bad_component(struct atd_str name)
{
    for (;;) {
        ptrdiff_t slash = atd_str_find(name, '/');
        struct atd_str part = slash < 0 ? name : atd_str_head(name, (size_t)slash);

        if (part.len == 0 || atd_str_equal(part, ATD_STR(".")) ||
            atd_str_equal(part, ATD_STR("..")))
            return true;
        if (slash < 0)
            return false;
        name = atd_str_from_byte(name, (size_t)slash + 1);
    }
}

/* What follows the quoted name when Python's get_dataset() takes it for something else. */
static const char *routing_problem(struct atd_str name)
{
    if (atd_str_starts_with(name, ATD_STR("local/")))
        return "begins with 'local/', which Python takes off";
    if (atd_str_starts_with(name, ATD_STR("at://")) ||
        atd_str_starts_with(name, ATD_STR("atdata://")))
        return "is an address, which Python looks up elsewhere";
    if (atd_str_find(name, '@') >= 0)
        return "holds '@', behind which Python takes a version";
    return NULL;
}

/* NULL: every release can load a dataset of this name. */
static const char *problem_of(struct atd_str name)
{
    if (name.len == 0)
        return "is empty";
    if (!atd_utf8_is_valid(name, NULL))
        return "is not valid UTF-8";
    if (has_control(name))
        return "holds a control character";
    if (name.ptr[0] == '.')
        return "begins with a dot";
    if (routing_problem(name))
        return routing_problem(name);
    if (has_bad_component(name))
        return "has an empty part, '.' or '..' between slashes";
    if (!atd_file_name_fits(name))
        return "is longer than the 255 bytes that a file name may have";
    return NULL;
}

int atd_dataset_name_check(struct atd_str name, struct atd_error *err)
{
    const char *problem = problem_of(name);
    char c = pattern_character(name);

    if (problem)
        return atd_error_set(err, EACCES, "dataset name '" ATD_STR_FMT "' %s", ATD_STR_ARG(name),
                             problem);
    if (c)
        return atd_error_set(err, EACCES,
                             "dataset name '" ATD_STR_FMT "' holds '%c', which readers take for a "
                             "pattern",
                             ATD_STR_ARG(name), c);
    return 0;
}
