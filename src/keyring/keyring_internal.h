/* Between the keyring's rules and its codec. */
#ifndef LOCH_KEYRING_INTERNAL_H
#define LOCH_KEYRING_INTERNAL_H

#include "loch/keyring/keyring.h"

void keyring_entry_fini(struct loch_keyring_entry *entry);
/* LOCH_E_INVALID unless the entry may stand after those of the ring. is_new: it is made now, and so
 * its key's next version; else it is read. */
LOCH_STATUS keyring_entry_check(const struct loch_keyring *ring, const struct loch_keyring_entry *e,
                                bool is_new);
/* Checks and adds, in whatever state it has; takes the buffers also on failure. LOCH_E_LIMIT. */
LOCH_STATUS keyring_entry_append(struct loch_keyring *ring, struct loch_keyring_entry *take_entry,
                                 bool is_new);
/* Whether versions of K_wire have left. */
bool keyring_is_gapped(const struct loch_keyring *ring);

#endif
