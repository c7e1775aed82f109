/* The memory of what is not written yet, over all timelines: open and frozen layers, and WAL that
 * waits to be ingested.
 *
 * From three quarters of the limit on, the largest open layers are written early, a few at a time.
 * At the limit no timeline takes in more WAL until some are written; but waiting WAL that alone
 * keeps it there is ingested, for nothing else would make room: of long records that are here in
 * part one at a time, so that the bound is passed by one record and not by all of them. One that
 * does not come on while others wait gives its memory up, and is asked for again. What a timeline
 * that cannot go on holds counts, but it is not waited for. Loop's thread.
 */
#ifndef LOCH_PAGESERVER_CARE_MEMORY_H
#define LOCH_PAGESERVER_CARE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A record of which more is here in part is a long one. */
#define LOCH_MEMORY_PART_BYTES ((uint64_t)1 << 20)

struct loch_metric;
struct loch_pageserver;

/* What one timeline holds, in bytes. Embedded in it; zero-initialised is nothing. */
struct loch_memory_share {
    uint64_t open, frozen, wal; /* wal: also the part of a long record, in ingest */
    uint64_t part;              /* of wal: of a record that is here in part, in ingest */
    uint64_t since_ns;          /* the open layer's first version, about */
    bool ordered;               /* to be written early */
    bool lasting;               /* it cannot go on: nothing of it leaves */
    bool resting;               /* frozen, but not being written yet: a branch's first layer */
};

/* Embedded in the pageserver. */
struct loch_memory {
    uint64_t used;    /* by all shares */
    uint64_t movable; /* of it: layers of timelines that go on */
    uint64_t leaving; /* of that: frozen, or ordered to be */
    size_t writers;   /* shares with something that is leaving */
    bool full;        /* no WAL is received, and none is ingested unless: */
    bool only_wal;    /* nothing is movable: who has no WAL waiting receives more, too */
    bool relieving;
    const struct loch_memory_share *turn; /* whose long record goes on then; NULL: nobody's */
    uint64_t turn_ns;                     /* more of it came, or could not have */
    struct loch_metric *m_used, *m_early, *m_pauses;
};

/* Whether the share's timeline must not ingest; or not receive, when it has WAL waiting. */
static inline bool loch_memory_stops(const struct loch_memory *m,
                                     const struct loch_memory_share *share, bool waiting)
{
    return m->full &&
           (!m->only_wal || waiting || (share->part > LOCH_MEMORY_PART_BYTES && share != m->turn));
}

void loch_memory_init(struct loch_pageserver *ps);
/* Sets the share to `now`, and does what the sum asks for: may order flushes (loch_served_relieve)
 * and stop or resume every timeline (loch_served_flow). */
void loch_memory_note(struct loch_pageserver *ps, struct loch_memory_share *share,
                      const struct loch_memory_share *now);

#endif
