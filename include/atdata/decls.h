/*
 * Declaration helpers shared by the public headers of libatdata.
 */
#ifndef ATDATA_DECLS_H
#define ATDATA_DECLS_H

#ifdef __cplusplus
#define ATD_BEGIN_DECLS \
    extern "C" {        \
    _Pragma("GCC visibility push(default)")
#define ATD_END_DECLS             \
    _Pragma("GCC visibility pop") \
    }
#else
#define ATD_BEGIN_DECLS _Pragma("GCC visibility push(default)")
#define ATD_END_DECLS _Pragma("GCC visibility pop")
#endif

/* The result must be looked at. */
#define ATD_MUST_USE __attribute__((warn_unused_result))
#define ATD_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#endif
