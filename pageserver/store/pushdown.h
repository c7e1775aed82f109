/* Image pushdown: images within a page's history, so that no read applies more records than a
 * stated number, at whatever LSN it reads. */
#ifndef LOCH_PAGESERVER_STORE_PUSHDOWN_H
#define LOCH_PAGESERVER_STORE_PUSHDOWN_H

#include "layer.h"

/* How images come about; read/imager.h makes one out of a view. */
struct loch_imager {
    void *arg;
    uint32_t records_max; /* what a read may apply on top of an image */
    uint64_t bytes_max;   /* or so many bytes of records, whatever comes first */
    uint32_t tip_max;     /* the same for the newest version alone; 0: no other than records_max */
    uint64_t tip_bytes;   /* 0: no other than bytes_max */
    uint64_t *tip_images; /* counts those that only tip_* asked for; may be NULL */
    /* What a read of the key at `lsn` applies, out of layers that end at or below it; none where
     * that cannot be read. Fails for want of memory alone. */
    LOCH_STATUS(*below)
    (void *arg, const struct loch_key *key, loch_lsn lsn, struct loch_chain *out);
    /* The page as of items[0].lsn. items[0..count) are its newest versions, newest first, on top of
     * `base`, the page as of base_lsn (NULL: items[count - 1] makes it from nothing; count 0 of
     * them known: see `lsn`). *made false: none can be made, the records stay. */
    LOCH_STATUS(*image)
    (void *arg, const struct loch_key *key, const struct loch_version *items, size_t count,
     const uint8_t *base, loch_lsn base_lsn, uint8_t page[static LOCH_PAGE_BYTES], bool *made);
    /* The page as of `lsn`, out of all layers. */
    LOCH_STATUS(*read)
    (void *arg, const struct loch_key *key, loch_lsn lsn, uint8_t page[static LOCH_PAGE_BYTES],
     bool *made);
    /* Nothing older than *floor is visible at `lsn` (cuts). */
    LOCH_STATUS (*floor)(void *arg, const struct loch_key *key, loch_lsn lsn, loch_lsn *floor);
};

/* Adds images to the versions of `key` (newest first; a layer that starts at start_lsn). *chain:
 * what a read of the newest applies afterwards. */
LOCH_STATUS loch_push_images(const struct loch_imager *imager, const struct loch_key *key,
                             loch_lsn start_lsn, struct loch_versions *list,
                             struct loch_chain *chain);

#endif
