#include "base/check.h"
#include "codec/python_name.h"
#include "codec/schema_infer.h"

#define PREFIX "Dataset"
#define NOTHING_LEFT "DatasetSample"

/* What the module of a class calls by these names (schema_python.c). */
static const char *const taken[] = {"NDArray", "PackableSample"};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Words begin behind what is neither letter nor digit; bytes past ASCII separate nothing. */
static size_t camel_case(struct atd_str dataset, char *ret_name, size_t room)
{
    bool begins = true;
    size_t len = 0;

    for (size_t i = 0; i < dataset.len && len < room; i++) {
        char c = dataset.ptr[i];

        if ((unsigned char)c >= 0x80)
            continue;
        if (!is_letter(c) && !is_digit(c)) {
            begins = true;
            continue;
        }
        ret_name[len++] = begins && c >= 'a' && c <= 'z' ? (char)(c - ('a' - 'A')) : c;
        begins = false;
    }
    return len;
}

static bool is_class_name(struct atd_str name)
{
    if (!atd_python_is_identifier(name))
        return false;
    for (size_t i = 0; i < ATD_ARRAY_LEN(taken); i++) {
        if (atd_str_equal(name, atd_str_from(taken[i])))
            return false;
    }
    return true;
}

void atd_class_name_of(struct atd_str dataset, char ret_name[ATD_CLASS_NAME_SIZE])
{
    size_t prefix = strlen(PREFIX);
    size_t len = camel_case(dataset, ret_name, ATD_CLASS_NAME_SIZE - 1);

    if (len == 0) {
        memcpy(ret_name, NOTHING_LEFT, sizeof(NOTHING_LEFT));
        return;
    }
    if (!is_class_name((struct atd_str){ret_name, len})) {
        len = len < ATD_CLASS_NAME_SIZE - 1 - prefix ? len : ATD_CLASS_NAME_SIZE - 1 - prefix;
        memmove(ret_name + prefix, ret_name, len);
        memcpy(ret_name, PREFIX, prefix);
        len += prefix;
    }
    ret_name[len] = '\0';
    atd_assert(is_class_name((struct atd_str){ret_name, len}));
}
