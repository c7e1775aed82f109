/* OpenSSL's own memory: key schedules, TLS states and buffers come from locked pages that no core
 * dump holds, and are wiped when freed.
 */
#ifndef LOCH_CRYPTO_MEMORY_H
#define LOCH_CRYPTO_MEMORY_H

#include "loch/base/status.h"

#include <stdint.h>

/* Once, at the start of a process, before anything has used OpenSSL. LOCH_E_INVALID when OpenSSL is
 * in use already: then it keeps the ordinary heap. Where RLIMIT_MEMLOCK does not suffice, pages are
 * still kept out of dumps and wiped, but not locked. */
LOCH_STATUS loch_crypto_memory_init(void);

struct loch_crypto_memory {
    uint64_t held_bytes;   /* taken from the system */
    uint64_t locked_bytes; /* of these, locked */
    uint64_t used_bytes;   /* handed out now */
};

/* All zero before init. Any thread. */
struct loch_crypto_memory loch_crypto_memory_now(void);

#endif
