/* Notes of the newest manifests (loch/host/witness.h), written by a thread of their own: whoever
 * puts a manifest does not wait for the two syncs of a note. Of several notes for one object the
 * newest is written. A process that ends before a note is written remembers the one before it, as
 * when it had ended between the put and the note.
 */
#ifndef LOCH_PAGESERVER_STORE_WITNESSES_H
#define LOCH_PAGESERVER_STORE_WITNESSES_H

#include "loch/host/witness.h"

struct loch_witnesses;

/* Starts the thread. `env` is borrowed. LOCH_E_NO_MEMORY, LOCH_E_IO. */
LOCH_STATUS loch_witnesses_create(struct loch_env *env, struct loch_witnesses **out);
/* Writes what is due first. Takes NULL. */
void loch_witnesses_destroy(struct loch_witnesses *w);
/* As loch_witness_note, but later; a failure is logged. Any thread. LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_witnesses_note(struct loch_witnesses *w, const char *dir, const char *path,
                                uint64_t generation,
                                const uint8_t hash[static LOCH_WITNESS_HASH_BYTES]);
/* Returns when nothing of `path` is due or being written any more, and nothing will be until it is
 * noted again: a note that is due is dropped. */
void loch_witnesses_drop(struct loch_witnesses *w, const char *path);

#endif
