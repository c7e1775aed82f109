/* Holds: the countdown of injected file faults. */
#include "loch/io/fault.h"

#include <stdatomic.h>

static _Atomic uint64_t fault_at;
static _Atomic int fault_errno;
static _Atomic uint64_t fault_seen;

void loch_io_fault_set(uint64_t n, int err)
{
    atomic_store(&fault_errno, err);
    atomic_store(&fault_seen, 0);
    atomic_store(&fault_at, n);
}

uint64_t loch_io_fault_count(void)
{
    return atomic_load(&fault_seen);
}

int loch_io_fault(void)
{
    uint64_t n = atomic_fetch_add_explicit(&fault_seen, 1, memory_order_relaxed) + 1;

    return n == atomic_load_explicit(&fault_at, memory_order_relaxed) ? atomic_load(&fault_errno)
                                                                      : 0;
}
