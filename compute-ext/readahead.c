/* Holds: the slots, their ring, and the recogniser of sequential reads. */
#include "readahead.h"

#include "last_lsn.h"
#include "page_client.h"
#include "settings.h"
#include "shared.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/md.h"
#include "utils/memutils.h"

#define SLOTS             64
#define WINDOW_FIRST      4u
#define WINDOW_MOST       32u
#define RUN_BEFORE_ASKING 2u

enum slot_state { SLOT_FREE, SLOT_ASKED, SLOT_HERE };

struct slot {
    enum slot_state state;
    RelFileNode rnode;
    ForkNumber fork;
    BlockNumber block;
    XLogRecPtr lsn;
    uint64 id;
};

static struct slot slots[SLOTS];
static char *slot_pages; /* SLOTS pages, made on first use */
static size_t next_slot; /* the oldest: overwritten next */

static struct {
    RelFileNode rnode;
    ForkNumber fork;
    BlockNumber last;      /* block read last */
    BlockNumber asked_end; /* blocks below were asked for */
    uint32 run, window;
} sequence = {.last = InvalidBlockNumber};

static struct slot *find_slot(RelFileNode rnode, ForkNumber fork, BlockNumber block)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].state != SLOT_FREE && slots[i].block == block && slots[i].fork == fork &&
            RelFileNodeEquals(slots[i].rnode, rnode))
            return &slots[i];
    return NULL;
}

bool loch_readahead_take(RelFileNode rnode, ForkNumber fork, BlockNumber block, XLogRecPtr lsn,
                         char *page, uint64 *posted_id)
{
    struct slot *slot = find_slot(rnode, fork, block);
    enum slot_state state;

    *posted_id = 0;
    if (slot == NULL)
        return false;
    state = slot->state;
    slot->state = SLOT_FREE;
    if (slot->lsn != lsn && loch_fix_on(readahead)) {
        loch_count(readahead_stale);
        return false;
    }
    loch_count(readahead_used);
    if (state == SLOT_ASKED) {
        *posted_id = slot->id;
        return false;
    }
    memcpy(page, slot_pages + (size_t)(slot - slots) * BLCKSZ, BLCKSZ);
    return true;
}

void loch_readahead_arrived(uint64 id, const uint8_t *page)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].state == SLOT_ASKED && slots[i].id == id) {
            memcpy(slot_pages + i * BLCKSZ, page, BLCKSZ);
            slots[i].state = SLOT_HERE;
            return;
        }
}

void loch_readahead_refused(uint64 id)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].state == SLOT_ASKED && slots[i].id == id)
            slots[i].state = SLOT_FREE;
}

void loch_readahead_connection_lost(void)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].state == SLOT_ASKED)
            slots[i].state = SLOT_FREE;
}

/* Asks for blocks [from, end) that are not asked for yet, in one send. */
static void post(RelFileNode rnode, ForkNumber fork, BlockNumber from, BlockNumber end)
{
    XLogRecPtr newest = InvalidXLogRecPtr;
    size_t first_new = next_slot, count = 0;

    if (slot_pages == NULL)
        slot_pages = MemoryContextAlloc(TopMemoryContext, (Size)SLOTS * BLCKSZ);
    for (BlockNumber b = from; b < end && count < SLOTS / 2; b++) {
        struct slot *slot = &slots[next_slot];

        if (find_slot(rnode, fork, b) != NULL)
            continue;
        *slot = (struct slot){SLOT_FREE, rnode, fork, b, loch_last_lsn_get(rnode, fork, b), 0};
        newest = Max(newest, slot->lsn);
        next_slot = (next_slot + 1) % SLOTS;
        count++;
    }
    if (count == 0)
        return;
    loch_wal_flush_to(newest);
    for (size_t i = 0; i < count; i++) {
        struct slot *slot = &slots[(first_new + i) % SLOTS];

        slot->id = loch_page_client_post(slot->rnode, slot->fork, slot->block, slot->lsn);
        slot->state = SLOT_ASKED;
    }
    loch_count_add(LOCH_C_readahead_asked, count);
    loch_page_client_post_send();
}

static bool may_ask(void)
{
    return CritSectionCount == 0 && loch_page_client_connected();
}

/* A parallel scan hands its workers runs of this many blocks (access/table/tableam.c: about 2048
 * runs a table, a power of two). */
static BlockNumber parallel_run_blocks(BlockNumber blocks)
{
    BlockNumber run = 1;

    while (run < blocks / 2048 && run < 8192)
        run *= 2;
    return run;
}

static void begin_sequence(RelFileNode rnode, ForkNumber fork, BlockNumber block, uint32 run,
                           uint32 window)
{
    sequence.rnode = rnode;
    sequence.fork = fork;
    sequence.last = block;
    sequence.asked_end = block + 1;
    sequence.run = run;
    sequence.window = window;
}

void loch_readahead_continue(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
    RelFileNode rnode = reln->smgr_rnode.node;
    bool parallel = IsInParallelMode();
    bool same_fork = sequence.last != InvalidBlockNumber && sequence.fork == fork &&
                     RelFileNodeEquals(sequence.rnode, rnode);
    BlockNumber blocks, end;

    if (same_fork && block == sequence.last + 1) {
        sequence.last = block;
        sequence.run++;
    } else if (same_fork && parallel && block > sequence.last) {
        begin_sequence(rnode, fork, block, RUN_BEFORE_ASKING, WINDOW_MOST);
    } else {
        begin_sequence(rnode, fork, block, 0, WINDOW_FIRST);
    }
    if (sequence.run < RUN_BEFORE_ASKING || !may_ask() ||
        sequence.asked_end > block + 1 + sequence.window / 2)
        return;
    blocks = mdnblocks(reln, fork);
    end = Min(blocks, block + 1 + sequence.window);
    if (parallel) {
        BlockNumber run = parallel_run_blocks(blocks);

        end = Min(end, (block / run + 1) * run);
    }
    if (end > sequence.asked_end)
        post(rnode, fork, Max(sequence.asked_end, block + 1), end);
    sequence.asked_end = Max(end, block + 1);
    sequence.window = Min(sequence.window * 2, WINDOW_MOST);
}

void loch_readahead_one(RelFileNode rnode, ForkNumber fork, BlockNumber block)
{
    if (may_ask())
        post(rnode, fork, block, block + 1);
}
