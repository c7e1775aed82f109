/* PostgreSQL's replication protocol: stock pg_receivewal archives a branch's committed WAL.
 *
 * Off unless [export] listen is set. TLS with client certificates: the certificate's common name is
 * the tenant's id, the user is "exporter", and options='-c loch.timeline=<id>' names the branch.
 * IDENTIFY_SYSTEM, SHOW, START_REPLICATION PHYSICAL, TIMELINE_HISTORY; every replication slot "is
 * there" and begins where the branch's WAL begins, for nothing is ever removed from the archive.
 * Loop thread only.
 */
#ifndef LOCH_SAFEKEEPER_EXPORT_H
#define LOCH_SAFEKEEPER_EXPORT_H

#include "loch/base/status.h"

#include <stdbool.h>

struct sk_daemon;
struct sk_timeline;
struct loch_config;

/* Listens when it is configured. */
LOCH_STATUS sk_export_start(struct sk_daemon *daemon, const struct loch_config *config);
/* Ends all of it. */
void sk_export_stop(struct sk_daemon *daemon);
/* WAL of the timeline was committed. */
void sk_export_kick(struct sk_timeline *tl);
/* The timeline is no longer served: its readers end. */
void sk_export_drop(struct sk_timeline *tl, const char *why);
/* The same at once: what is queued for a client that does not read never leaves. */
void sk_export_cut(struct sk_timeline *tl, const char *why);
/* True when one still reads from the timeline, or is not closed yet after a cut. */
bool sk_export_uses(const struct sk_timeline *tl);
/* Once a second: keepalives; who waits for memory is looked at again. */
void sk_export_tick(struct sk_daemon *daemon);

#endif
