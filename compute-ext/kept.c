/* Holds: the bits of pages that were kept. Invariant: a bit is set before its page has bytes. */
#include "kept.h"

#include "settings.h"
#include "shared.h"

#include "common/hashfn.h"

/* Neighbouring blocks have neighbouring bits. */
static uint32 bit_of(RelFileNode rnode, BlockNumber block)
{
    return (murmurhash32(rnode.relNode) + block) & (LOCH_KEPT_BITS - 1);
}

void loch_kept_note(RelFileNode rnode, BlockNumber block)
{
    const uint32 bit = bit_of(rnode, block);

    pg_atomic_fetch_or_u32(&loch_shared->kept[bit / 32], UINT32_C(1) << bit % 32);
}

bool loch_kept_maybe(RelFileNode rnode, BlockNumber block)
{
    const uint32 bit = bit_of(rnode, block);

    if (!loch_fix_on(kept))
        return false;
    return (pg_atomic_read_u32(&loch_shared->kept[bit / 32]) >> bit % 32 & 1) != 0;
}
