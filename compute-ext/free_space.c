/* Holds: the lists of free space: reading, restoring, making.
 *
 * A list is cut into files of at most 1 MiB, "loch.free_space.0" and so on. A map that has a file
 * here is listed as it is now; one that nobody used is listed as it was. Source of the maps'
 * layout: storage/freespace/freespace.c and fsmpage.c, PostgreSQL 15. */
#include "free_space.h"

#include "config_files.h"
#include "last_lsn.h"
#include "local_file.h"
#include "newest.h"
#include "page_client.h"
#include "report.h"
#include "settings.h"
#include "shared.h"
#include "throttle.h"
#include "wait.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/bufpage.h"
#include "storage/fd.h"
#include "storage/fsm_internals.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "loch/base/crc32c.h"
#include "loch/wire/free_space.h"

#include <assert.h>
#include <unistd.h>

#define FILE_NAME       "loch.free_space.%u"
#define FILES_MAX       16u
#define FILE_BYTES      (1u << 20)
#define LEAVES_MOST     8192u /* of a map made at once: a heap of 256 GB */
#define LEAF_BLOCK(n)   ((n) + (n) / LOCH_FREE_SPACE_SLOTS + 2)
#define MIDDLE_BLOCK(n) ((n) * (LOCH_FREE_SPACE_SLOTS + 1) + 1)

static_assert(SlotsPerFSMPage == LOCH_FREE_SPACE_SLOTS, "the format is of 8 kB pages");

/* What came from storage, sorted; the postmaster's memory, inherited by every process. */
static struct loch_free_space_leaf *listed;
static uint32 listed_count;
static struct loch_buf listed_bytes[FILES_MAX];
static pg_atomic_uint32 *gone; /* in shared memory, per leaf: 1 when the relation is no more */
static uint32 logged_crc[FILES_MAX];
static size_t logged_len[FILES_MAX];

/* ---- reading ---- */

static int compare_rels(const struct loch_rel *a, const struct loch_rel *b)
{
    if (a->spc != b->spc)
        return a->spc < b->spc ? -1 : 1;
    if (a->db != b->db)
        return a->db < b->db ? -1 : 1;
    if (a->rel != b->rel)
        return a->rel < b->rel ? -1 : 1;
    return 0;
}

static int compare_leaves(const void *a, const void *b)
{
    const struct loch_free_space_leaf *x = a, *y = b;
    int order = compare_rels(&x->rel, &y->rel);

    if (order != 0)
        return order;
    return x->leaf < y->leaf ? -1 : x->leaf > y->leaf;
}

/* The first leaf of a relation, listed_count when there is none. */
static uint32 find(RelFileNode rnode)
{
    const struct loch_rel rel = {rnode.spcNode, rnode.dbNode, rnode.relNode};
    uint32 low = 0, high = listed_count;

    while (low < high) {
        uint32 middle = low + (high - low) / 2;

        if (compare_rels(&listed[middle].rel, &rel) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < listed_count && compare_rels(&listed[low].rel, &rel) == 0 ? low : listed_count;
}

static bool is_of(uint32 i, RelFileNode rnode)
{
    return i < listed_count && listed[i].rel.spc == rnode.spcNode &&
           listed[i].rel.db == rnode.dbNode && listed[i].rel.rel == rnode.relNode;
}

/* Without a file, and of an empty one, the buffer stays empty. */
static loch_status read_file(uint32 number, struct loch_buf *out)
{
    char name[32];
    uint8_t piece[8192];
    loch_status st = LOCH_OK;
    ssize_t n;
    int fd;

    snprintf(name, sizeof name, FILE_NAME, number);
    fd = BasicOpenFile(name, O_RDONLY | PG_BINARY);
    if (fd < 0)
        return LOCH_OK;
    while (loch_is_ok(st) && (n = read(fd, piece, sizeof piece)) > 0)
        st = loch_buf_append(out, piece, (size_t)n);
    (void)close(fd);
    return st;
}

static loch_status add_leaves(struct loch_slice bytes, uint32 *capacity)
{
    struct loch_free_space_leaf leaf;
    struct loch_reader r;
    bool found = true;

    LOCH_TRY(loch_free_space_open(&r, bytes));
    for (;;) {
        LOCH_TRY(loch_free_space_next(&r, &leaf, &found));
        if (!found)
            return LOCH_OK;
        if (listed_count == *capacity) {
            *capacity = *capacity == 0 ? 256 : *capacity * 2;
            listed = listed == NULL ? palloc(*capacity * sizeof *listed)
                                    : repalloc(listed, *capacity * sizeof *listed);
        }
        listed[listed_count++] = leaf;
    }
}

void loch_free_space_read(void)
{
    MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
    uint32 capacity = 0;

    for (uint32 i = 0; i < FILES_MAX; i++) {
        struct loch_buf *bytes = &listed_bytes[i];
        uint32 had = listed_count;
        loch_status st = read_file(i, bytes);

        logged_len[i] = bytes->len;
        logged_crc[i] =
            loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, bytes->data, bytes->len));
        if (loch_is_ok(st) && bytes->len > 0)
            st = add_leaves(loch_buf_slice(bytes), &capacity);
        if (!loch_is_ok(st)) {
            loch_report(LOG, st, "the list of free space");
            listed_count = had;
        }
    }
    if (listed_count > 0)
        qsort(listed, listed_count, sizeof *listed, compare_leaves);
    MemoryContextSwitchTo(before);
}

Size loch_free_space_shared_bytes(void)
{
    return (Size)Max(listed_count, 1) * sizeof *gone;
}

void loch_free_space_make(void)
{
    bool found;

    gone = ShmemInitStruct("loch free space", loch_free_space_shared_bytes(), &found);
    for (uint32 i = 0; !found && i < Max(listed_count, 1); i++)
        pg_atomic_init_u32(&gone[i], 0);
}

void loch_free_space_forget(RelFileNode rnode)
{
    for (uint32 i = find(rnode); is_of(i, rnode); i++)
        pg_atomic_write_u32(&gone[i], 1);
}

/* ---- restoring ---- */

static uint8 *nodes_of(char *pages, BlockNumber block)
{
    Page page = pages + (size_t)block * BLCKSZ;

    if (PageIsNew(page))
        PageInit(page, BLCKSZ, 0);
    return ((FSMPage)PageGetContents(page))->fp_nodes + NonLeafNodesPerPage;
}

/* The root of a page that is complete below, for the slot above it. */
static uint8 rebuilt_root(char *pages, BlockNumber block)
{
    Page page = pages + (size_t)block * BLCKSZ;

    (void)nodes_of(pages, block);
    (void)fsm_rebuild_page(page);
    return fsm_get_max_avail(page);
}

static void put_leaf(char *pages, const struct loch_free_space_leaf *leaf, BlockNumber heap_blocks)
{
    BlockNumber left = heap_blocks - leaf->leaf * LOCH_FREE_SPACE_SLOTS;
    uint8_t categories[LOCH_FREE_SPACE_SLOTS];
    BlockNumber block = LEAF_BLOCK(leaf->leaf);
    BlockNumber middle = MIDDLE_BLOCK(leaf->leaf / LOCH_FREE_SPACE_SLOTS);

    loch_free_space_expand(leaf, categories);
    memcpy(nodes_of(pages, block), categories, Min(left, LOCH_FREE_SPACE_SLOTS));
    nodes_of(pages, middle)[leaf->leaf % LOCH_FREE_SPACE_SLOTS] = rebuilt_root(pages, block);
}

bool loch_free_space_restore(RelFileNode rnode, BlockNumber heap_blocks)
{
    uint32 first = find(rnode), end = first;
    BlockNumber blocks = 0;
    char *pages;

    if (first == listed_count || pg_atomic_read_u32(&gone[first]) != 0 || !loch_fix_on(free_space))
        return false;
    for (; is_of(end, rnode) && listed[end].leaf < LEAVES_MOST &&
           listed[end].leaf * LOCH_FREE_SPACE_SLOTS < heap_blocks;
         end++)
        blocks = LEAF_BLOCK(listed[end].leaf) + 1;
    if (end == first)
        return false;
    pages = palloc0((Size)blocks * BLCKSZ);
    for (uint32 i = first; i < end; i++)
        put_leaf(pages, &listed[i], heap_blocks);
    for (uint32 i = 0; MIDDLE_BLOCK(i) < blocks; i++)
        nodes_of(pages, 0)[i] = rebuilt_root(pages, MIDDLE_BLOCK(i));
    (void)rebuilt_root(pages, 0);
    loch_local_publish(rnode, FSM_FORKNUM, blocks, pages);
    pfree(pages);
    loch_count(free_space_restored);
    return true;
}

/* ---- making ---- */

/* The list under construction: the file that is being filled. */
struct making {
    uint32 number;
    struct loch_buf bytes;
    struct loch_writer w;
    bool full; /* no more files */
    bool ask;  /* the pageserver, and meanwhile how far it is */
};

static void begin_file(struct making *m)
{
    m->bytes.len = 0;
    loch_writer_init(&m->w, &m->bytes);
    loch_free_space_begin(&m->w);
}

/* Logged unless storage has the very same. */
static void log_file(uint32 number, struct loch_slice bytes)
{
    uint32 crc = loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, bytes.data, bytes.len));
    char name[32];

    if (bytes.len == logged_len[number] && crc == logged_crc[number])
        return;
    snprintf(name, sizeof name, FILE_NAME, number);
    loch_config_file_log(name, bytes);
    logged_len[number] = bytes.len;
    logged_crc[number] = crc;
}

/* Room for one more leaf. */
static bool has_room(struct making *m)
{
    if (m->full)
        return false;
    if (m->bytes.len + LOCH_FREE_SPACE_LEAF_MOST <= FILE_BYTES)
        return true;
    if (!loch_is_ok(loch_writer_finish(&m->w)) || m->number + 1 == FILES_MAX) {
        m->full = true;
        return false;
    }
    log_file(m->number++, loch_buf_slice(&m->bytes));
    begin_file(m);
    return true;
}

static void add_map(RelFileNode rnode, void *arg)
{
    struct making *m = arg;
    const struct loch_rel rel = {rnode.spcNode, rnode.dbNode, rnode.relNode};
    BlockNumber blocks = loch_local_blocks(rnode, FSM_FORKNUM);

    if (m->ask)
        loch_throttle_look_if_due();
    for (uint32 leaf = 0; LEAF_BLOCK(leaf) < blocks && has_room(m); leaf++) {
        PGAlignedBlock page;

        loch_newest_read(rnode, FSM_FORKNUM, LEAF_BLOCK(leaf), page.data);
        if (!PageIsNew((Page)page.data))
            loch_free_space_add(&m->w, &rel, leaf,
                                ((FSMPage)PageGetContents((Page)page.data))->fp_nodes +
                                    NonLeafNodesPerPage);
    }
}

#ifdef LOCH_TEST_SWITCHES
static void be_slow(void)
{
    for (int ms = 0; ms < loch_settings.test_slow_listing_ms; ms++)
        loch_wait_socket(-1, false, 1);
    loch_wait_done();
}
#else
#define be_slow()
#endif

static bool exists(RelFileNode rnode)
{
    XLogRecPtr lsn = loch_last_lsn_get(rnode, MAIN_FORKNUM, InvalidBlockNumber);
    BlockNumber blocks;

    if (loch_local_exists(rnode, MAIN_FORKNUM))
        return true;
    loch_wal_flush_to(lsn);
    be_slow();
    return loch_page_client_size(rnode, MAIN_FORKNUM, lsn, &blocks);
}

/* Maps that nobody used here, and that are not in files. */
static void add_unused(struct making *m)
{
    static bool asked; /* since then they tell us themselves */
    bool keep = false;

    for (uint32 i = 0; i < listed_count && has_room(m); i++) {
        RelFileNode rnode = {listed[i].rel.spc, listed[i].rel.db, listed[i].rel.rel};

        if (m->ask)
            loch_throttle_look_if_due();
        if (i == 0 || compare_rels(&listed[i].rel, &listed[i - 1].rel) != 0) {
            keep = pg_atomic_read_u32(&gone[i]) == 0 && !loch_local_exists(rnode, FSM_FORKNUM);
            if (keep && m->ask && !asked && !exists(rnode)) {
                loch_free_space_forget(rnode);
                keep = false;
            }
        }
        if (keep)
            loch_free_space_copy(&m->w, &listed[i]);
    }
    asked = asked || m->ask;
}

void loch_free_space_save(bool ask)
{
    struct making m = {.ask = ask};

    if (loch_settings.read_only || RecoveryInProgress())
        return;
    begin_file(&m);
    loch_newest_forks(FSM_FORKNUM, add_map, &m);
    add_unused(&m);
    if (loch_is_ok(loch_writer_finish(&m.w)))
        log_file(m.number++, loch_buf_slice(&m.bytes));
    for (; m.number < FILES_MAX; m.number++)
        log_file(m.number, loch_slice_of("", 0));
    loch_buf_fini(&m.bytes);
    loch_count(free_space_saved);
}
