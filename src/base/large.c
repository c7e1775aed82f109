/* Holds: the request for large pages. */
#include "loch/base/large.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

void loch_large_pages(void *p, size_t len)
{
    if (len < LOCH_LARGE_PAGE_BYTES)
        return;
    const uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    const uintptr_t from = (uintptr_t)p & ~mask, end = ((uintptr_t)p + len + mask) & ~mask;
    const int before = errno;

    /* Outwards: all of the mapping that malloc made for it, or realloc could not move it any more.
     */
    (void)madvise((void *)from, end - from, MADV_HUGEPAGE);
    errno = before;
}
