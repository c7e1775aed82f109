/* Holds: the slots, and the recogniser of sequential reads.
 *
 * Invariants: a slot that is ASKED has an answer still to come on the connection, so that waiting
 * for its id ends: an error answer or the connection's end frees it. Every page sent for is counted
 * once more when its slot becomes free: used, stale or dropped. */
#include "readahead.h"

#include "last_lsn.h"
#include "local_cache.h"
#include "local_file.h"
#include "page_client.h"
#include "settings.h"
#include "shared.h"

#include "access/xact.h"
#include "access/xlogutils.h"
#include "miscadmin.h"
#include "storage/md.h"
#include "utils/memutils.h"

#define SETS         64u
#define WAYS         4u
#define SLOTS        (SETS * WAYS)
#define IDS          1024u /* more than there are slots */
#define SPAN_MAX     64u   /* blocks looked at in one go */
#define WINDOW_FIRST 4u
#define SEQUENCES    4

StaticAssertDecl(SLOTS >= 2 * LOCH_READ_AHEAD_MAX, "two sequences fit side by side");

enum slot_state { SLOT_FREE, SLOT_ASKED, SLOT_HERE };

struct slot {
    enum slot_state state;
    RelFileNode rnode;
    BlockNumber block;
    XLogRecPtr lsn; /* not_modified_since of the request */
    uint64 id;
};

/* Neighbouring blocks lie in neighbouring sets. */
static struct slot slots[SLOTS];
static char *slot_pages; /* SLOTS pages, made on first use */
/* A hint: of the slot that was asked for under this id, or a later one. */
static uint16 slot_by_id[IDS];

/* Reads of one relation that go upwards. */
struct sequence {
    RelFileNode rnode;
    BlockNumber last;      /* block read last */
    BlockNumber asked_end; /* blocks below were asked for; greater than `last` */
    uint32 run, window;
    BlockNumber run_blocks; /* of a parallel scan's parts; 0: it is none */
    uint64 used_at;         /* 0: free */
};

static struct sequence sequences[SEQUENCES];
static uint64 sequence_clock;

static struct slot *set_of(RelFileNode rnode, BlockNumber block)
{
    uint32 set = (rnode.relNode * UINT32_C(0x9E3779B1) >> 16) + block;

    return &slots[(set % SETS) * WAYS];
}

static struct slot *find_slot(RelFileNode rnode, BlockNumber block)
{
    struct slot *set = set_of(rnode, block);

    for (size_t i = 0; i < WAYS; i++)
        if (set[i].state != SLOT_FREE && set[i].block == block &&
            RelFileNodeEquals(set[i].rnode, rnode))
            return &set[i];
    return NULL;
}

/* Answers come in any order: one that has to wait for WAL is overtaken by any number of others. */
static struct slot *find_asked(uint64 id)
{
    struct slot *slot = &slots[slot_by_id[id % IDS]];

    if (slot->state == SLOT_ASKED && slot->id == id)
        return slot;
    for (size_t i = 0; i < SLOTS && loch_fix_on(overtaken); i++)
        if (slots[i].state == SLOT_ASKED && slots[i].id == id)
            return &slots[i];
    return NULL;
}

static void drop_slot(struct slot *slot)
{
    if (slot->state == SLOT_FREE)
        return;
    slot->state = SLOT_FREE;
    loch_count(read_ahead_dropped);
}

/* A free one of the set, or the one that was asked for longest ago. */
static struct slot *make_slot(RelFileNode rnode, BlockNumber block)
{
    struct slot *set = set_of(rnode, block), *chosen = &set[0];

    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].state == SLOT_FREE) {
            chosen = &set[i];
            break;
        }
        if (set[i].id < chosen->id)
            chosen = &set[i];
    }
    drop_slot(chosen);
    return chosen;
}

bool loch_readahead_has(RelFileNode rnode, BlockNumber block)
{
    return find_slot(rnode, block) != NULL;
}

bool loch_readahead_take(RelFileNode rnode, ForkNumber fork, BlockNumber block, XLogRecPtr lsn,
                         char *page, uint64 *posted_id)
{
    struct slot *slot = fork == MAIN_FORKNUM ? find_slot(rnode, block) : NULL;
    enum slot_state state;

    *posted_id = 0;
    if (slot == NULL)
        return false;
    state = slot->state;
    slot->state = SLOT_FREE;
    if (lsn > slot->lsn && loch_fix_on(readahead)) {
        loch_count(read_ahead_stale);
        return false;
    }
    loch_count(read_ahead_used);
    if (state == SLOT_ASKED) {
        *posted_id = slot->id;
        return false;
    }
    memcpy(page, slot_pages + (size_t)(slot - slots) * BLCKSZ, BLCKSZ);
    return true;
}

void loch_readahead_arrived(uint64 id, XLogRecPtr lsn, const uint8_t *page)
{
    struct slot *slot = find_asked(id);

    if (slot == NULL)
        return;
    if (lsn < slot->lsn) { /* too old: whoever needs the page asks anew, and finds that out */
        drop_slot(slot);
        return;
    }
    memcpy(slot_pages + (size_t)(slot - slots) * BLCKSZ, page, BLCKSZ);
    slot->state = SLOT_HERE;
}

void loch_readahead_refused(uint64 id)
{
    struct slot *slot = find_asked(id);

    if (slot != NULL)
        drop_slot(slot);
}

void loch_readahead_connection_lost(void)
{
    for (size_t i = 0; i < SLOTS; i++)
        drop_slot(&slots[i]);
}

void loch_readahead_forget(RelFileNode rnode)
{
    for (size_t i = 0; i < SLOTS; i++)
        if (slots[i].state != SLOT_FREE && RelFileNodeEquals(slots[i].rnode, rnode))
            drop_slot(&slots[i]);
}

static void post_one(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn)
{
    struct slot *slot = make_slot(rnode, block);

    *slot = (struct slot){SLOT_ASKED, rnode, block, lsn, 0};
    slot->id = loch_page_client_post(rnode, MAIN_FORKNUM, block, lsn);
    slot_by_id[slot->id % IDS] = (uint16)(slot - slots);
}

static bool have_pages(void)
{
    if (slot_pages == NULL)
        slot_pages =
            MemoryContextAllocExtended(TopMemoryContext, (Size)SLOTS * BLCKSZ, MCXT_ALLOC_NO_OOM);
    return slot_pages != NULL;
}

/* Asks for the holes among [from, end), at most SPAN_MAX blocks, that are not asked for yet and not
 * in the local cache; fewer when too much is under way. Returns the end of what was looked at. */
static BlockNumber post_span(RelFileNode rnode, BlockNumber from, BlockNumber end)
{
    uint32 room = loch_page_client_room(), looked = 0, count = 0;
    uint32 span = Min(end - from, SPAN_MAX);
    BlockNumber blocks[SPAN_MAX];
    XLogRecPtr lsns[SPAN_MAX], newest = InvalidXLogRecPtr;
    uint64 holes = room == 0 ? 0 : loch_local_holes(rnode, MAIN_FORKNUM, from, span);

    for (; looked < span && count < room; looked++) {
        if ((holes >> looked & 1) == 0 || find_slot(rnode, from + looked) != NULL)
            continue;
        lsns[count] = loch_last_lsn_get(rnode, MAIN_FORKNUM, from + looked);
        if (loch_cache_has(rnode, from + looked, lsns[count]))
            continue;
        blocks[count] = from + looked;
        newest = Max(newest, lsns[count]);
        count++;
    }
    if (count == 0)
        return from + looked;
    loch_wal_flush_to(newest); /* may end in an ERROR: no slot is taken yet */
    for (uint32 i = 0; i < count; i++)
        post_one(rnode, blocks[i], lsns[i]);
    loch_count_add(LOCH_C_read_ahead_sent, count);
    return from + looked;
}

void loch_readahead_ask(RelFileNode rnode, BlockNumber block, XLogRecPtr lsn)
{
    if (loch_page_client_room() == 0 || find_slot(rnode, block) != NULL || !have_pages())
        return;
    post_one(rnode, block, lsn);
    loch_count(read_ahead_sent);
}

static BlockNumber post(RelFileNode rnode, BlockNumber from, BlockNumber end)
{
    while (from < end && have_pages()) {
        BlockNumber looked_to = post_span(rnode, from, end);

        if (looked_to == from)
            break;
        from = looked_to;
    }
    return from;
}

/* Not where an ERROR or a wait would do more harm than the read that is needed anyway. */
static bool may_ask(ForkNumber fork)
{
    return fork == MAIN_FORKNUM && loch_settings.read_ahead > 0 && CritSectionCount == 0 &&
           InterruptHoldoffCount == 0 && !InRecovery &&
           (MyBackendType == B_BACKEND || MyBackendType == B_AUTOVAC_WORKER ||
            MyBackendType == B_BG_WORKER);
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

/* The sequence that `block` goes on with; `parallel`: also one that has finished its part of a
 * parallel scan and begins the next. */
static struct sequence *find_sequence(RelFileNode rnode, BlockNumber block, bool parallel)
{
    for (size_t i = 0; i < SEQUENCES; i++) {
        struct sequence *s = &sequences[i];

        if (s->used_at == 0 || !RelFileNodeEquals(s->rnode, rnode) || block <= s->last)
            continue;
        if (block <= s->asked_end)
            return s;
        if (parallel && s->run_blocks != 0 && s->run > 0 && block % s->run_blocks == 0) {
            s->asked_end = block + 1;
            s->last = block - 1;
            return s;
        }
    }
    return NULL;
}

/* Takes the place of a lonely read of the same relation, else of the one used longest ago. */
static void begin_sequence(RelFileNode rnode, BlockNumber block, BlockNumber run_blocks)
{
    struct sequence *chosen = &sequences[0];

    for (size_t i = 0; i < SEQUENCES; i++) {
        struct sequence *s = &sequences[i];

        if (s->used_at != 0 && s->run == 0 && RelFileNodeEquals(s->rnode, rnode)) {
            chosen = s;
            break;
        }
        if (s->used_at < chosen->used_at)
            chosen = s;
    }
    *chosen = (struct sequence){.rnode = rnode,
                                .last = block,
                                .asked_end = block + 1,
                                .window = WINDOW_FIRST,
                                .run_blocks = run_blocks,
                                .used_at = ++sequence_clock};
}

void loch_readahead_continue(SMgrRelation reln, ForkNumber fork, BlockNumber block)
{
    RelFileNode rnode = reln->smgr_rnode.node;
    const bool parallel = IsInParallelMode();
    BlockNumber from, end;
    struct sequence *s;

    if (!may_ask(fork))
        return;
    s = find_sequence(rnode, block, parallel);
    if (s == NULL) {
        begin_sequence(rnode, block, parallel ? parallel_run_blocks(mdnblocks(reln, fork)) : 0);
        return;
    }
    if (block != s->last + 1)
        s->window = Max(s->window / 2, WINDOW_FIRST); /* some are found elsewhere or left out */
    s->last = block;
    s->run++;
    s->used_at = ++sequence_clock;
    s->window = Min(s->window, (uint32)loch_settings.read_ahead);
    from = s->asked_end = Max(s->asked_end, block + 1);
    if (from - (block + 1) > s->window / 2)
        return;
    end = block + 1 + s->window;
    if (parallel && s->run_blocks != 0)
        end = Min(end, (block / s->run_blocks + 1) * s->run_blocks);
    if (end > from)
        s->asked_end = post(rnode, from, end);
    s->window = s->window * 2;
    loch_page_client_post_send(LOCH_POST_BATCH);
}

void loch_readahead_one(RelFileNode rnode, ForkNumber fork, BlockNumber block)
{
    if (!may_ask(fork))
        return;
    (void)post(rnode, block, block + 1);
    loch_page_client_post_send(LOCH_POST_BATCH);
}
