/* What a daemon's work leaves behind in the heap goes back to the system: an import or a merge
 * fills tens of megabytes in the arena of each pool thread, and a daemon that holds thousands of
 * idle timelines is to cost what they hold. */
#ifndef LOCH_HOST_HEAP_H
#define LOCH_HOST_HEAP_H

#include "loch/io/env.h"

struct loch_heap {
    struct loch_env *env; /* private, as is all of it */
    struct loch_timer *timer;
};

/* How the heap of this process grows: call before there are threads. */
void loch_heap_setup(void);
/* Looks at the heap from time to time, on a pool thread, as long as the loop runs. `heap` lives as
 * long as the environment. LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_heap_tend(struct loch_heap *heap, struct loch_env *env);
/* Gives back what is free, if it is much and this process has grown by as much since that was done
 * last. Returns whether it was. Any thread. */
bool loch_heap_give_back(void);

#endif
