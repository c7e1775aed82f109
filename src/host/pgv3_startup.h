/* The startup packet of PostgreSQL's protocol, as bytes of somebody who is not known yet. Pure.
 * Source: PostgreSQL 15 documentation, chapter 55.7. */
#ifndef LOCH_HOST_PGV3_STARTUP_H
#define LOCH_HOST_PGV3_STARTUP_H

#include "loch/base/buf.h"

#define PGV3_STARTUP_MAX_BYTES 10000u

enum pgv3_startup {
    PGV3_STARTUP_MORE,   /* not whole yet */
    PGV3_STARTUP_TAKEN,  /* *len bytes; the parameters are all behind the first 8 */
    PGV3_STARTUP_ABSURD, /* a length that no packet has */
    PGV3_STARTUP_FOREIGN /* another protocol, or no end */
};
enum pgv3_startup pgv3_startup_take(struct loch_slice in, size_t *len);

/* params: "name NUL value NUL ... NUL", ending in NUL, or empty. The value's text within, or NULL.
 */
const char *pgv3_startup_param(struct loch_slice params, const char *name);

#endif
