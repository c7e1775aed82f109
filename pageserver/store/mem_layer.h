/* A layer in memory: the newest versions of a timeline's keys, in the order of their LSNs.
 *
 * One writer at a time, any number of readers on other threads. Bytes never move: what a reader
 * collected stays valid for as long as it holds a reference on the layer. A frozen layer takes no
 * more versions; it is read until it has become a layer file.
 */
#ifndef LOCH_PAGESERVER_STORE_MEM_LAYER_H
#define LOCH_PAGESERVER_STORE_MEM_LAYER_H

#include "version.h"

struct loch_mem_layer;

/* Records that a read of a key's newest version applies. */
struct loch_chain {
    uint32_t records;
    uint32_t bytes; /* at most UINT32_MAX */
};

/* Versions put into it have LSNs above start_lsn (or equal to it, for an import). */
LOCH_STATUS loch_mem_layer_create(loch_lsn start_lsn, struct loch_mem_layer **out);
struct loch_mem_layer *loch_mem_layer_retain(struct loch_mem_layer *layer);
void loch_mem_layer_release(struct loch_mem_layer *layer);

/* Puts one version of each of `count` keys: version->bytes are copied once, and shared. kinds[i]
 * (of enum loch_version_kind) overrides version->kind when kinds is not NULL. version->lsn must not
 * be below an earlier one's. LOCH_E_NO_MEMORY (a part of the keys may have it then: it is to be
 * taken back before the layer is used any further). */
LOCH_STATUS loch_mem_layer_put(struct loch_mem_layer *layer, const struct loch_key *keys,
                               const uint8_t *kinds, size_t count,
                               const struct loch_version *version);
/* What a read of a key's newest version applies. */
struct loch_mem_chain {
    struct loch_chain chain;
    bool known; /* false: without what older layers have, which nobody has told yet */
};
/* The same; chains[i] is the key's with this version. */
LOCH_STATUS loch_mem_layer_put_chains(struct loch_mem_layer *layer, const struct loch_key *keys,
                                      const uint8_t *kinds, size_t count,
                                      const struct loch_version *version,
                                      struct loch_mem_chain *chains);
/* Takes out every version above `lsn`: the layer is as before they were put, but for memory that is
 * given back with the layer, or now if none is left. Nobody may hold what a collect returned of
 * them. Writer; not when frozen. */
void loch_mem_layer_take_back(struct loch_mem_layer *layer, loch_lsn lsn);
/* No more puts. end_lsn: the record boundary up to which it is complete. */
void loch_mem_layer_freeze(struct loch_mem_layer *layer, loch_lsn end_lsn);

loch_lsn loch_mem_layer_start_lsn(const struct loch_mem_layer *layer);
/* LOCH_LSN_MAX while open. */
loch_lsn loch_mem_layer_end_lsn(const struct loch_mem_layer *layer);
size_t
loch_mem_layer_bytes(const struct loch_mem_layer *layer); /* memory used, roughly; any thread */
size_t loch_mem_layer_versions(const struct loch_mem_layer *layer);

/* Appends the versions of `key` with floor <= lsn <= `lsn`, newest first, up to and including the
 * first base; *base tells whether one was met. */
LOCH_STATUS loch_mem_layer_collect(struct loch_mem_layer *layer, const struct loch_key *key,
                                   loch_lsn floor, loch_lsn lsn, struct loch_versions *out,
                                   bool *base);

/* What a read of the key's newest version applies. *known false: that rests on older layers, whose
 * part nobody has told yet; then *out is this layer's own. False: the key is not here. Any thread.
 */
bool loch_mem_layer_chain(struct loch_mem_layer *layer, const struct loch_key *key,
                          struct loch_chain *out, bool *known);
/* Tells the part of older layers, once, to be counted from now on. Writer. */
void loch_mem_layer_add_chain(struct loch_mem_layer *layer, const struct loch_key *key,
                              const struct loch_chain *below);

/* The distinct keys in [first, end), sorted, appended to *out (a malloc'ed array the caller frees).
 */
LOCH_STATUS loch_mem_layer_keys(struct loch_mem_layer *layer, const struct loch_key *first,
                                const struct loch_key *end, struct loch_key **out, size_t *count);

/* All that a frozen layer holds, in the order of its keys. It borrows the layer; many threads may
 * use one at once. */
struct loch_mem_scan;
LOCH_STATUS loch_mem_scan_create(const struct loch_mem_layer *layer, struct loch_mem_scan **out);
/* Takes NULL. */
void loch_mem_scan_destroy(struct loch_mem_scan *scan);
/* How many keys there are; i below counts them from 0. */
size_t loch_mem_scan_count(const struct loch_mem_scan *scan);
/* Borrowed. */
const struct loch_key *loch_mem_scan_key(const struct loch_mem_scan *scan, size_t i);
/* Appends every version of key i, newest first. Quickest if the next call is for the next key. */
LOCH_STATUS loch_mem_scan_history(const struct loch_mem_scan *scan, size_t i,
                                  struct loch_versions *out);
/* Divides the keys, of which there is one, into at most `parts` stretches of like size in bytes,
 * none of them empty: ends[i] is where the i-th ends. Returns how many. */
size_t loch_mem_scan_divide(const struct loch_mem_scan *scan, size_t parts, size_t *ends);
/* The bytes of keys begin to end (exclusive), of which there are two; *middle: where they divide
 * into two stretches of like size, neither of them empty. */
uint64_t loch_mem_scan_halve(const struct loch_mem_scan *scan, size_t begin, size_t end,
                             size_t *middle);

#endif
