/* Shredding: a branch or a tenant is made unreadable by destroying its wrapped keys, after a delay
 * and a second confirmation. Loop's thread.
 *
 * An order lives in memory until it is carried out: a restart forgets it, and it has to be given
 * again.
 */
#ifndef LOCH_PAGESERVER_CARE_SHRED_H
#define LOCH_PAGESERVER_CARE_SHRED_H

#include "../pageserver.h"

#include "loch/host/console.h"

#define LOCH_SHRED_WORDS         "SHRED <tenant> [<timeline>]"
#define LOCH_SHRED_HELP          "Orders it; the answer holds the token that confirms it later."
#define LOCH_CONFIRM_SHRED_WORDS "CONFIRM SHRED <token> OF <tenant> [<timeline>]"
#define LOCH_CONFIRM_SHRED_HELP                                                                    \
    "Destroys the keys of the order, which must be for exactly that, and what they sealed, for "   \
    "good."
#define LOCH_CANCEL_SHRED_WORDS "CANCEL SHRED <token>"
#define LOCH_CANCEL_SHRED_HELP  "Forgets the order."
#define LOCH_SHOW_SHREDS_WORDS  "SHOW SHREDS"
#define LOCH_SHOW_SHREDS_HELP   "Orders that wait for their confirmation (without their tokens)."

/* Handlers; the tenant and the timeline are given as ids or names. */
void loch_shred_order(void *ps, struct loch_console_request *request);
void loch_shred_confirm(void *ps, struct loch_console_request *request);
void loch_shred_cancel(void *ps, struct loch_console_request *request);
void loch_shred_show(void *ps, struct loch_console_request *request);
/* The tenant of the order with that token, or NULL. */
const struct loch_id *loch_shred_tenant(struct loch_pageserver *ps, const char *token);
void loch_shreds_free(struct loch_pageserver *ps);

#endif
