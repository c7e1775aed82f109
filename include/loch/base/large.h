/* Large pages of memory. Source: madvise(2), MADV_HUGEPAGE. */
#ifndef LOCH_BASE_LARGE_H
#define LOCH_BASE_LARGE_H

#include <stddef.h>

/* What the kernel gives at a time where it is asked to; less is not worth asking for. */
#define LOCH_LARGE_PAGE_BYTES ((size_t)2 << 20)

/* A hint: [p, p + len), which is about to be written for the first time, may be made of large
 * pages, so that it takes one page fault for two megabytes instead of 512. Nothing depends on it.
 * Keeps errno. Any thread. */
void loch_large_pages(void *p, size_t len);

#endif
