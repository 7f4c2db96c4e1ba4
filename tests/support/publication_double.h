/*
 * A publication that is only what a test says it is.
 */
#ifndef ATD_TESTS_PUBLICATION_DOUBLE_H
#define ATD_TESTS_PUBLICATION_DOUBLE_H

#include "publish/publication.h"

/* With one reference. NULL when out of memory. */
struct atd_publication *publication_double_new(const char *text);
/* What _status says from now on. */
void publication_double_publish(struct atd_publication *publication, const char *url);
/* How many there are. */
int publication_double_count(void);

#endif
