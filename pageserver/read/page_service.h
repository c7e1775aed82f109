/* The page port: computes ask for pages, sizes and basebackups at an LSN (loch/wire/page.h).
 *
 * A connection speaks for the tenant, timeline and compute that its PSK proved; a HELLO adds the
 * term. As soon as the WAL shows a higher term, or a safekeeper a higher epoch, connections of
 * older ones are told STALE and closed. A request waits for its LSN without holding up others, then
 * a pool thread reads.
 */
#ifndef LOCH_PAGESERVER_READ_PAGE_SERVICE_H
#define LOCH_PAGESERVER_READ_PAGE_SERVICE_H

struct loch_pageserver;
struct loch_stream;

/* loch_accept_fn for the page port's listener; arg is struct loch_pageserver. */
void loch_page_service_accept(void *arg, struct loch_stream *stream);

/* Before `ps` is freed: no timer of the page port comes any more. */
void loch_page_service_end(struct loch_pageserver *ps);

#endif
