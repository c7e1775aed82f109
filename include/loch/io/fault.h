/* Test hook: makes one file operation of the real world fail.
 *
 * Counted are the operations that could fail on a real disk: open, read, write, allocate, sync,
 * rename, link, unlink, truncate, mkdir, directory sync; on any thread, in the order they begin.
 */
#ifndef LOCH_IO_FAULT_H
#define LOCH_IO_FAULT_H

#include <stdint.h>

/* The n-th operation from now (1: the next) fails with `err` (an errno); later ones work again. n
 * 0: no fault, counting only. */
void loch_io_fault_set(uint64_t n, int err);
/* Operations begun since the last loch_io_fault_set. */
uint64_t loch_io_fault_count(void);
/* Called by io at every such operation: 0, or the errno to fail with. */
int loch_io_fault(void);

#endif
