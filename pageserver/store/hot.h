/* Pages that change often while they are in memory: they get images there, before anybody can read
 * a chain that is longer than the bound. Private to store/. */
#ifndef LOCH_PAGESERVER_STORE_HOT_H
#define LOCH_PAGESERVER_STORE_HOT_H

#include "mem_layer.h"
#include "timeline.h"

/* A record or operation at `lsn` has been put for the page (`at`: what the put said) and is not
 * visible yet: puts an image behind it if its chain has become too long. Writer. An image that
 * cannot be made is no failure. */
LOCH_STATUS loch_timeline_bound_chain(struct loch_timeline *t, const struct loch_key *key,
                                      loch_lsn lsn, const struct loch_mem_chain *at);

#endif
