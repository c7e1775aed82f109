/* The versions of a layer in memory, in the order in which they came, numbered from 0: blocks of
 * the size of a large page, of which no more than the first ever moves. (One array that grows is
 * moved by the kernel page by page, and each of them is a fault again for whoever reads it next.)
 *
 * One writer or many readers at a time, as the layer's lock has it.
 */
#ifndef LOCH_PAGESERVER_STORE_NODES_H
#define LOCH_PAGESERVER_STORE_NODES_H

#include "chunk.h"

#include "loch/base/status.h"
#include "loch/base/types.h"

#include <assert.h>

#define LOCH_NODE_NONE UINT32_MAX

struct loch_node {
    loch_lsn lsn, start_lsn;
    const uint8_t *data;
    uint32_t len;
    uint32_t older;    /* node of the same key, or NONE */
    uint32_t mark;     /* one further down, or NONE */
    uint32_t key : 28; /* index of it */
    uint32_t kind : 4;
};
static_assert(sizeof(struct loch_node) == 40, "one for each version in memory");

#define LOCH_NODES_A_BLOCK ((uint32_t)(LOCH_CHUNK_MOST_BYTES / sizeof(struct loch_node)))

/* Zero-initialised is empty and valid. */
struct loch_nodes {
    struct loch_chunk **blocks;
    uint32_t count;
    uint32_t cap; /* of all blocks together */
};

static inline struct loch_node *loch_node_at(const struct loch_nodes *nodes, uint32_t n)
{
    return (struct loch_node *)(void *)nodes->blocks[n / LOCH_NODES_A_BLOCK]->bytes +
           n % LOCH_NODES_A_BLOCK;
}

/* Room for one more; *more: bytes of memory that it took. */
LOCH_STATUS loch_nodes_reserve(struct loch_nodes *nodes, size_t *more);
void loch_nodes_fini(struct loch_nodes *nodes);

#endif
