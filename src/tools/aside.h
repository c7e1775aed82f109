/* Keyrings that were kept aside: whether keys of what was shredded can still be opened in one. */
#ifndef LOCH_TOOLS_ASIDE_H
#define LOCH_TOOLS_ASIDE_H

#include "loch/base/status.h"

#include <jansson.h>
#include <stdbool.h>

struct loch_aside {
    const char *dir;         /* what lies there, and below, is tried */
    const char *id;          /* the timeline's, or the tenant's, 32 digits */
    bool whole_tenant;       /* `id` is a tenant's */
    const char *cluster_kms; /* the CMKs that may be asked: this URI's, */
    const char *pins;        /* those of this file, if it is there, */
    const char *named;       /* and these URIs', with spaces between them; NULL: none */
};
/* A row in `out` for each keyring and for whatever could not be looked into; *good becomes false
 * where one opens, or where that cannot be said. Blocks. One thread at a time. */
LOCH_STATUS loch_aside_check(const struct loch_aside *what, json_t *out, bool *good);
/* Appends a row {what, result, detail}. */
void loch_aside_row(json_t *out, const char *what, const char *result, const char *detail);

#endif
