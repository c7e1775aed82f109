/* Comparing a page that redo built with the one a server left on disk: everything that may lawfully
 * differ (hint bits, unused space, command ids, dead-line-pointer hints) is blanked on both. */
#ifndef LOCH_TESTS_PAGE_MASK_H
#define LOCH_TESTS_PAGE_MASK_H

#include "loch/base/types.h"

enum page_verdict {
    PAGE_EQUAL,
    PAGE_SKIPPED, /* a sequence: up to 32 values ahead of the WAL */
    PAGE_VM_LESS, /* a VM page that lacks bits the server's has: safe, counted */
    PAGE_DIFFERENT
};

/* Both pages are overwritten by their masked forms. fork: enum loch_fork. */
enum page_verdict page_compare(uint8_t fork, uint8_t ours[LOCH_PAGE_BYTES],
                               uint8_t theirs[LOCH_PAGE_BYTES]);

#endif
