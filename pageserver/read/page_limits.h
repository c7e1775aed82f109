/* The page port's bound on connections. Loop's thread. */
#ifndef LOCH_PAGESERVER_READ_PAGE_LIMITS_H
#define LOCH_PAGESERVER_READ_PAGE_LIMITS_H

#include <stddef.h>

/* Connections of the page port; a tenant may have a quarter of them while half are taken. Tests
 * change it. */
extern size_t page_conns_max;

#endif
