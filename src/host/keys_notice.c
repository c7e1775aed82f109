/* Holds: what a daemon says when it takes a keyring over: that rows of a tenant whose CMK is
 * customer-held may be swapped to a disk in the clear; that the keyring fills up. */
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

bool keys_notice_many(const struct loch_id *tenant, uint32_t before, uint32_t count)
{
    char id[LOCH_ID_TEXT_BYTES];

    if (count < LOCH_KEYRING_MANY || before >= LOCH_KEYRING_MANY)
        return false;
    LOCH_WARN("tenant %s: its keyring has %" PRIu32 " key versions; from %u on it takes no keys of "
              "timelines any more: " LOCH_KEYRING_CURE,
              loch_id_format(tenant, id), count, LOCH_KEYRING_ENTRIES_MAX - LOCH_KEYRING_RESERVE);
    return true;
}
