/*
 * Hashes for tables of keys that others choose: who does not know the seed cannot choose many of
 * one place, which would make each search of the table a walk through all of them.
 */
#ifndef ATD_BASE_HASH_H
#define ATD_BASE_HASH_H

#include "atdata/str.h"

/* One for each table; nothing that somebody outside the process can tell. Never blocks. */
uint64_t atd_hash_seed(void);

/* Differs from process to process: not for files. A hash is a seed too, for what belongs to the
 * same key. */
uint64_t atd_hash(uint64_t seed, struct atd_str text);

#endif
