/* Between the keyring's rules and its codec. */
#ifndef LOCH_KEYRING_INTERNAL_H
#define LOCH_KEYRING_INTERNAL_H

#include "loch/keyring/keyring.h"

void keyring_entry_fini(struct loch_keyring_entry *entry);
/* LOCH_E_INVALID unless the entry may stand after those of the ring. */
LOCH_STATUS keyring_entry_check(const struct loch_keyring *ring,
                                const struct loch_keyring_entry *e);
/* Checks and adds, in whatever state it has; takes the buffers also on failure. */
LOCH_STATUS keyring_entry_append(struct loch_keyring *ring, struct loch_keyring_entry *take_entry);

#endif
