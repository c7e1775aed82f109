/* Memory of open layers. While WAL comes in, one layer's goes and the next one's is taken, over and
 * over: whole chunks are kept in between, for to have the kernel make their pages anew costs more
 * than to fill them.
 *
 * Any thread.
 */
#ifndef LOCH_PAGESERVER_STORE_CHUNK_H
#define LOCH_PAGESERVER_STORE_CHUNK_H

#include "loch/base/large.h"

#include <stddef.h>
#include <stdint.h>

struct loch_chunk {
    struct loch_chunk *next; /* of its owner */
    size_t size;             /* of `bytes` */
    uint8_t bytes[];
};

/* The size of those that are kept: a large page with its head. */
#define LOCH_CHUNK_MOST_BYTES (LOCH_LARGE_PAGE_BYTES - sizeof(struct loch_chunk))
/* So many are kept at most. */
#define LOCH_CHUNKS_KEPT_MAX 128u

/* `next` and what is in it are the caller's to set; NULL: no memory. */
struct loch_chunk *loch_chunk_create(size_t size);
/* Wiped first. Takes NULL. */
void loch_chunk_destroy(struct loch_chunk *chunk);
/* Those that nobody has needed since the last call go back to the system; says how many. */
size_t loch_chunks_give_back(void);

#endif
