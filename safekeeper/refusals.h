/* What was refused and said so in the log lately (loch/host/refusals.h), by this room's names. */
#ifndef LOCH_SAFEKEEPER_REFUSALS_H
#define LOCH_SAFEKEEPER_REFUSALS_H

#include "loch/host/refusals.h"

static inline bool sk_refusals_news(struct loch_refusals *r, const char *text, uint64_t now_ns)
{
    return loch_refusals_news(r, text, now_ns);
}

static inline bool sk_refusals_over(struct loch_refusals *r, uint64_t now_ns, const char **out,
                                    uint32_t *more)
{
    return loch_refusals_over(r, now_ns, out, more);
}

#endif
