/* Which evicted pages the pageserver could not give back as they are, so that they stay here.
 *
 * One small function per fact; each recogniser may keep too much (always correct), never too
 * little. Every fact and its negative test: README.md. */
#ifndef LOCH_EXT_RULES_H
#define LOCH_EXT_RULES_H

#include "postgres.h"

#include "access/htup.h"
#include "common/relpath.h"
#include "storage/bufpage.h"
#include "storage/off.h"

enum keep_reason {
    KEEP_NOT,        /* the pageserver can make this page from WAL */
    KEEP_COMMAND_ID, /* an overlay may say it instead */
    KEEP_SPECULATIVE,
    KEEP_NOT_LOGGED,
    KEEP_BTREE_CYCLE,
    KEEP_SEQUENCE,
    KEEP_FSM,
    KEEP_VM,
    KEEP_ODD /* a header that is none of the known ones */
};

bool loch_page_is_zero(const char *page);
enum keep_reason loch_rules_keep(ForkNumber fork, Page page);
void loch_rules_count(enum keep_reason why);

/* The LSN a later read of this page must see: the page's own, unless it changed without moving it.
 */
XLogRecPtr loch_rules_page_lsn(ForkNumber fork, Page page);

/* The page's last line pointer; 0 when its header makes no sense. */
OffsetNumber loch_heap_last_offset(Page page);
/* The tuple at a line pointer when it is a normal one within the page, else NULL. */
HeapTupleHeader loch_heap_tuple_at(Page page, OffsetNumber off);

#endif
