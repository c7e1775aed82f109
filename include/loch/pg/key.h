/* The page key: what a version of a value in the store is a version of.
 *
 * Keys are ordered by (kind, spc, db, rel, fork, block). Kinds on disk never change meaning.
 */
#ifndef LOCH_PG_KEY_H
#define LOCH_PG_KEY_H

#include "loch/base/buf.h"

#include <stdbool.h>
#include <stdint.h>

enum loch_key_kind {
    LOCH_KEY_PAGE = 1,      /* spc db rel fork block: an 8 KiB page */
    LOCH_KEY_REL_SIZE = 2,  /* spc db rel fork: u32 blocks, or absent */
    LOCH_KEY_REL_CUT = 3,   /* spc db rel fork: u32 first block cut (0: created or dropped), links
                               (pageserver/read/cuts.h) */
    LOCH_KEY_DATABASE = 4,  /* spc db: u8 1 exists, 0 dropped */
    LOCH_KEY_SLRU_PAGE = 5, /* rel = enum loch_slru, block = page number */
    LOCH_KEY_SLRU_CUT = 6,  /* rel = enum loch_slru: u32 first page kept, u8 1 all pages cut, for
                               members u32 first page cut */
    LOCH_KEY_RELMAP = 7,    /* spc db: the pg_filenode.map file (db 0: shared) */
    LOCH_KEY_TWOPHASE = 8,  /* rel = xid: the state file, or absent */
    LOCH_KEY_CONTROL = 9,   /* the control snapshot (pg/control.h) */
    LOCH_KEY_AUX_FILE =
        10, /* rel = hash of the name: small files (PG_VERSION, configuration, ...) */
    LOCH_KEY_XACT_TIME = 11, /* when transactions ended: pageserver/read/xact_time.h */
    LOCH_KEY_ORIGIN = 12     /* rel = replication origin id: u64 remote LSN, u64 local LSN */
};

enum loch_fork { LOCH_FORK_MAIN = 0, LOCH_FORK_FSM = 1, LOCH_FORK_VM = 2, LOCH_FORK_INIT = 3 };
enum loch_slru {
    LOCH_SLRU_XACT = 0,
    LOCH_SLRU_MULTI_OFFSETS = 1,
    LOCH_SLRU_MULTI_MEMBERS = 2,
    LOCH_SLRU_COMMIT_TS = 3
};

struct loch_rel {
    uint32_t spc, db, rel;
};

struct loch_key {
    uint8_t kind; /* enum loch_key_kind */
    uint8_t fork; /* enum loch_fork, or 0 */
    uint32_t spc, db, rel;
    uint32_t block;
};

#define LOCH_KEY_BYTES                                                                             \
    18u /* kind, spc, db, rel (big-endian), fork, block (big-endian): memcmp order */

static inline int loch_key_compare(const struct loch_key *a, const struct loch_key *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    if (a->spc != b->spc)
        return a->spc < b->spc ? -1 : 1;
    if (a->db != b->db)
        return a->db < b->db ? -1 : 1;
    if (a->rel != b->rel)
        return a->rel < b->rel ? -1 : 1;
    if (a->fork != b->fork)
        return a->fork < b->fork ? -1 : 1;
    if (a->block != b->block)
        return a->block < b->block ? -1 : 1;
    return 0;
}

void loch_key_encode(const struct loch_key *key, uint8_t out[static LOCH_KEY_BYTES]);
/* LOCH_E_CORRUPT for an unknown kind or fork. */
LOCH_STATUS loch_key_decode(const uint8_t in[static LOCH_KEY_BYTES], struct loch_key *out);

#endif
