/*
 * Assertions for programmer errors. They stay on in every build type; input is never asserted.
 */
#ifndef ATD_BASE_CHECK_H
#define ATD_BASE_CHECK_H

#include <assert.h>

#define atd_assert(condition) assert(condition)

/* Invariant walks too expensive for release; on in the dev and sanitizer presets. */
#ifdef ATD_PARANOID
#define atd_paranoid(condition) assert(condition)
#else
#define atd_paranoid(condition) ((void)0)
#endif

#define ATD_ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

#endif
