/* Holds: the growth of a layer's versions: the first block doubles, then whole ones follow. */
#include "nodes.h"

#include <stdlib.h>
#include <string.h>

#define LEAST        16u
#define BLOCKS_LEAST 4u

static uint32_t blocks_of(const struct loch_nodes *nodes)
{
    return (nodes->cap + LOCH_NODES_A_BLOCK - 1) / LOCH_NODES_A_BLOCK;
}

/* The directory has room for BLOCKS_LEAST blocks, or a power of two of them. */
static loch_status reserve_block(struct loch_nodes *nodes)
{
    const uint32_t n = blocks_of(nodes);
    if (n != 0 && (n < BLOCKS_LEAST || (n & (n - 1)) != 0))
        return LOCH_OK;
    struct loch_chunk **blocks = reallocarray(nodes->blocks, n == 0 ? BLOCKS_LEAST : (size_t)n * 2,
                                              sizeof(struct loch_chunk *));
    if (blocks == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of blocks");
    nodes->blocks = blocks;
    return LOCH_OK;
}

LOCH_STATUS loch_nodes_reserve(struct loch_nodes *nodes, size_t *more)
{
    const uint32_t old = nodes->cap;
    *more = 0;
    if (nodes->count < old)
        return LOCH_OK;
    if (old > LOCH_NODE_NONE - 2 * LOCH_NODES_A_BLOCK)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "a layer of %u versions in memory", old);
    const bool first = old < LOCH_NODES_A_BLOCK;
    if (old == 0 || !first)
        LOCH_TRY(reserve_block(nodes));
    const uint32_t here = first ? old : 0; /* nodes of the block that becomes larger */
    uint32_t cap = first && old <= LOCH_NODES_A_BLOCK / 4 ? old * 2 : LOCH_NODES_A_BLOCK;
    cap = old == 0 ? LEAST : cap;
    struct loch_chunk *block = loch_chunk_create(
        cap == LOCH_NODES_A_BLOCK ? LOCH_CHUNK_MOST_BYTES : cap * sizeof(struct loch_node));
    if (block == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %u versions", cap);
    if (here > 0) {
        memcpy(block->bytes, nodes->blocks[0]->bytes, here * sizeof(struct loch_node));
        loch_chunk_destroy(nodes->blocks[0]);
    }
    nodes->blocks[first ? 0 : blocks_of(nodes)] = block;
    nodes->cap = old - here + cap;
    *more = (cap - here) * sizeof(struct loch_node);
    return LOCH_OK;
}

void loch_nodes_fini(struct loch_nodes *nodes)
{
    for (uint32_t i = 0; i < blocks_of(nodes); i++)
        loch_chunk_destroy(nodes->blocks[i]);
    free(nodes->blocks);
    *nodes = (struct loch_nodes){0};
}
