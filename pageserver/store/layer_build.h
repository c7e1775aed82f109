/* Building one layer file, key by key, in memory, then durable at once. One thread at a time. */
#ifndef LOCH_PAGESERVER_STORE_LAYER_BUILD_H
#define LOCH_PAGESERVER_STORE_LAYER_BUILD_H

#include "layer.h"

/* A frame is ended at this size, before compression; a value that is larger has one alone. */
#define LOCH_FRAME_TARGET_BYTES ((size_t)8 << 10)
/* Up to this size records still go into the frame of what they change. */
#define LOCH_FRAME_CHAIN_BYTES ((size_t)16 << 10)

struct loch_layer_builder;

/* What a version takes in a frame. */
static inline uint64_t loch_layer_version_bytes(const struct loch_version *v)
{
    return (uint64_t)v->bytes.len + 21; /* kind, two LSNs, length */
}

/* level and the LSNs of `span` are taken from `desc`. */
LOCH_STATUS loch_layer_builder_create(const struct loch_store *store, struct loch_keys *keys,
                                      const struct loch_timeline_info *info,
                                      const struct loch_layer_desc *desc,
                                      struct loch_layer_builder **out);
/* Takes NULL. A file that was not finished leaves nothing. */
void loch_layer_builder_destroy(struct loch_layer_builder *builder);
/* The versions of one key, newest first, at least one; keys ascend. held: bytes of them that only
 * branches and leases keep. */
LOCH_STATUS loch_layer_builder_add(struct loch_layer_builder *builder, const struct loch_key *key,
                                   const struct loch_version *items, size_t count,
                                   const struct loch_chain *chain, uint64_t held);
/* Bytes of the file so far, roughly. */
uint64_t loch_layer_builder_bytes(const struct loch_layer_builder *builder);
/* At least one key was added. Durable on return. */
LOCH_STATUS loch_layer_builder_finish(struct loch_layer_builder *builder,
                                      struct loch_layer_desc *out);

#endif
