/* Holds: what a daemon says when it takes a keyring over: that rows of a tenant whose CMK is
 * customer-held may be swapped to a disk in the clear. */
#include "keys_internal.h"
#include "loch/base/log.h"
#include "loch/io/swap.h"

static bool is_customer_held(const struct loch_keyring *ring)
{
    for (uint32_t i = 0; i < ring->count; i++)
        if (ring->entries[i].level == LOCH_LEVEL_KEK &&
            ring->entries[i].state == LOCH_STATE_ACTIVE &&
            ring->entries[i].provider != LOCH_PROVIDER_FILE)
            return true;
    return false;
}

bool keys_notice_swap(struct loch_keys *keys, const struct loch_keyring *ring, const char *proc,
                      const char *sys)
{
    if (!is_customer_held(ring) || atomic_exchange(&keys->swap_judged, true) ||
        loch_is_ok(loch_swap_check(proc, sys)))
        return false;
    LOCH_WARN("this process holds rows of tenants whose CMK is customer-held: %s",
              loch_error_text());
    return true;
}
