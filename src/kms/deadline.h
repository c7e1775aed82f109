/* Calls that may hang (PKCS#11 has no time-outs) run in a thread of their own, waited for only so
 * long. */
#ifndef LOCH_KMS_DEADLINE_H
#define LOCH_KMS_DEADLINE_H

#include "loch/base/status.h"

#include <stdatomic.h>

/* Runs run(arg) in another thread. Ok: it has run, and arg is the caller's. LOCH_E_UNAVAILABLE: not
 * within timeout_ms, or KMS_AT_ONCE_MAX calls of the same key service, which *at_once counts, are
 * under way or hang; drop(arg) is or will be called when it is done. The caller must not touch arg
 * then. *at_once is touched until the call before drop. */
#define KMS_AT_ONCE_MAX 64
LOCH_STATUS kms_run_within(atomic_int *at_once, unsigned timeout_ms, void (*run)(void *arg),
                           void (*drop)(void *arg), void *arg);

#endif
