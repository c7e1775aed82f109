/* Healing: a layer file with a damaged block is written anew from its copy, and the other way round
 * (layer_copy.h). */
#ifndef LOCH_PAGESERVER_STORE_HEAL_H
#define LOCH_PAGESERVER_STORE_HEAL_H

#include "timeline.h"

struct loch_heal {
    bool everything; /* opens every block of every layer and copy; else what is known as damaged */
    /* Called between layers; a failure ends the work. NULL: never. */
    LOCH_STATUS (*pace)(void *arg);
    void *arg;
};

struct loch_heal_report {
    uint32_t layers, healed; /* looked at; files that are others now */
    uint64_t bytes;          /* of the layers looked at */
};

/* A read has found damage that is not healed yet. Any thread, cheap. */
bool loch_timeline_is_harmed(struct loch_timeline *t);
/* Not while the timeline is compacted. Goes on behind what cannot be healed, and fails in the end
 * with the first of these: LOCH_E_CORRUPT, LOCH_E_NOT_FOUND, LOCH_E_IO. Blocks: pool thread. */
LOCH_STATUS loch_timeline_heal(struct loch_timeline *t, const struct loch_heal *heal,
                               struct loch_heal_report *report);

#endif
