/* What the pageserver does when a tenant's key goes and comes back. Loop's thread.
 *
 * Goes: nothing of the tenant is served any more, at once; its connections are closed with the
 * reason, its redo workers killed (with a branch's CMK, too: they remember pages of all of the
 * tenant's timelines; what others had asked of them goes to new ones), its pages, frames and open
 * layers wiped as soon as no thread reads them. Comes back: its timelines are opened again, as at
 * start-up, and WAL that was only in memory comes again from the safekeepers.
 */
#ifndef LOCH_PAGESERVER_CARE_REVOCATION_H
#define LOCH_PAGESERVER_CARE_REVOCATION_H

#include "../pageserver.h"

#include "loch/host/console.h"

/* Begins to keep leases on the keys of all tenants. After loch_tenants_open. */
LOCH_STATUS loch_revocation_start(struct loch_pageserver *ps);
/* A timeline that is not served because of `why` is opened again, by and by, if that may pass and
 * its key is there. Before the start it does nothing: that looks at all of them itself. */
void loch_revocation_retry(struct loch_pageserver *ps, const struct loch_id *tenant,
                           const struct loch_id *timeline, loch_status why);
/* For the console: true while a command about a sleeping tenant waits for it, or for the branch
 * that it names. */
bool loch_revocation_hold(void *state, const struct loch_console_request *request);

/* What becomes of a timeline when keys are back. */
struct loch_return_facts {
    bool of_rest;        /* what a branch's CMK holds, or was not to be opened before; else all of
                            a tenant that was dark */
    bool given;          /* other keys hold it: it stands as it stood */
    bool there;          /* something stands in its place, */
    bool there_serves;   /* which serves it, */
    bool there_archived; /* or says that it is archived; else only why it is not served */
    bool archived;       /* by the tenant's manifest */
    bool opened;
};
enum loch_return_act {
    LOCH_RETURN_LEAVE = 1, /* as it is */
    LOCH_RETURN_ARCHIVED,  /* to be remembered as archived */
    LOCH_RETURN_SERVE,
    LOCH_RETURN_BROKEN /* the reason takes its place */
};
enum loch_return_act loch_return_plan(const struct loch_return_facts *facts);

#endif
