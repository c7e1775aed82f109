/* Holds: making the list, and fetching what the last one says.
 *
 * The list: pages of permanent relations in shared buffers and the local cache, the hottest of the
 * cache only if there are too many. Fetching is a read without the buffer's lock, so the order
 * matters (local_cache.h): the cache's mark, then whether the file keeps the page, then its
 * last-written LSN, then the request. What is stale by the time it arrives is a miss for ever. A
 * relation that is gone, shorter or unlogged now is left out. No file is made: the relation may be
 * on its way out. */
#include "prewarm.h"

#include "postgres.h"

#include "compat/export.h"

#include "config_files.h"
#include "free_space.h"
#include "last_lsn.h"
#include "local_cache.h"
#include "local_file.h"
#include "page_client.h"
#include "readahead.h"
#include "report.h"
#include "settings.h"
#include "shared.h"
#include "stop_state.h"
#include "wait.h"

#include "access/xlog.h"
#include "catalog/pg_tablespace_d.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/buf_internals.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "loch/wire/hot_pages.h"

#include <unistd.h>

#define HOT_FILE "loch.hot"
#define TAGS_MAX (128 * 1024) /* a gigabyte of pages */
#define CHUNK    32u          /* pages fetched at a time */

PGDLLEXPORT void loch_prewarm_main(Datum arg) pg_attribute_noreturn();

/* ---- the list ---- */

static size_t add_shared_buffers(struct loch_cache_tag *tags, size_t max)
{
    size_t count = 0;

    for (int i = 0; i < NBuffers && count < max; i++) {
        BufferDesc *buffer = GetBufferDescriptor(i);
        uint32 state = LockBufHdr(buffer);
        BufferTag tag = buffer->tag;

        UnlockBufHdr(buffer, state);
        if ((state & (BM_VALID | BM_TAG_VALID | BM_PERMANENT)) ==
                (BM_VALID | BM_TAG_VALID | BM_PERMANENT) &&
            tag.forkNum == MAIN_FORKNUM && tag.rnode.spcNode != GLOBALTABLESPACE_OID)
            tags[count++] = (struct loch_cache_tag){tag.rnode.spcNode, tag.rnode.dbNode,
                                                    tag.rnode.relNode, tag.blockNum};
    }
    return count;
}

static int compare_tags(const void *a, const void *b)
{
    const struct loch_cache_tag *x = a, *y = b;

    if (x->spc != y->spc)
        return x->spc < y->spc ? -1 : 1;
    if (x->db != y->db)
        return x->db < y->db ? -1 : 1;
    if (x->rel != y->rel)
        return x->rel < y->rel ? -1 : 1;
    if (x->block != y->block)
        return x->block < y->block ? -1 : 1;
    return 0;
}

/* Sorts the tags; false when they make too many runs. */
static bool make_runs(struct loch_cache_tag *tags, size_t count, struct loch_hot_run *runs,
                      uint32 *run_count)
{
    *run_count = 0;
    qsort(tags, count, sizeof *tags, compare_tags);
    for (size_t i = 0; i < count; i++) {
        struct loch_hot_run *last = *run_count == 0 ? NULL : &runs[*run_count - 1];
        bool same = last != NULL && last->rel.spc == tags[i].spc && last->rel.db == tags[i].db &&
                    last->rel.rel == tags[i].rel;

        if (same && tags[i].block < last->block + last->count)
            continue; /* in both caches */
        if (same && tags[i].block == last->block + last->count) {
            last->count++;
            continue;
        }
        if (*run_count == LOCH_HOT_RUNS_MAX)
            return false;
        runs[(*run_count)++] =
            (struct loch_hot_run){{tags[i].spc, tags[i].db, tags[i].rel}, tags[i].block, 1};
    }
    return true;
}

/* As many pages as the list can hold. */
static uint32 collect(struct loch_hot_run *runs)
{
    struct loch_cache_tag *tags = palloc((Size)TAGS_MAX * sizeof *tags);
    uint32 run_count = 0;

    for (size_t max = TAGS_MAX; max > 0; max /= 2) {
        size_t count = add_shared_buffers(tags, max);

        count += loch_cache_list(tags + count, max - count);
        if (make_runs(tags, count, runs, &run_count))
            break;
    }
    pfree(tags);
    return run_count;
}

void loch_prewarm_save(void)
{
    static struct loch_buf saved; /* what was logged last */
    struct loch_hot_run *runs;
    struct loch_buf list = {0};
    struct loch_writer w;
    uint32 count;
    uint64 pages = 0;

    /* Half of what was hot must not take the place of the whole. */
    if (!loch_settings.prewarm || loch_settings.read_only || RecoveryInProgress() ||
        pg_atomic_read_u64(&loch_shared->prewarm_over) == 0)
        return;
    runs = palloc((Size)LOCH_HOT_RUNS_MAX * sizeof *runs);
    count = collect(runs);
    for (uint32 i = 0; i < count; i++)
        pages += runs[i].count;
    loch_writer_init(&w, &list);
    loch_hot_pages_encode(&w, runs, count);
    pfree(runs);
    if (!loch_is_ok(loch_writer_finish(&w)) ||
        (list.len == saved.len && list.len > 0 && memcmp(list.data, saved.data, list.len) == 0)) {
        loch_buf_fini(&list);
        return;
    }
    loch_config_file_log(HOT_FILE, loch_buf_slice(&list));
    loch_count_add(LOCH_C_prewarm_saved, pages);
    loch_buf_fini(&saved);
    saved = list;
}

void loch_prewarm_look(void)
{
    static TimestampTz last;
    TimestampTz now = GetCurrentTimestamp();

    if (last == 0)
        last = now;
    if (loch_settings.prewarm_interval_s == 0 ||
        !TimestampDifferenceExceeds(last, now, loch_settings.prewarm_interval_s * 1000))
        return;
    last = now;
    loch_prewarm_save();
    loch_free_space_save(true);
}

/* ---- fetching ---- */

/* Pages of one relation. */
struct chunk {
    RelFileNode rnode;
    uint32 span, count; /* blocks looked at, and asked for */
    BlockNumber blocks[CHUNK];
    uint32 marks[CHUNK];
    XLogRecPtr lsns[CHUNK];
};

/* One is asked for before the other is taken: storage has always something to do. */
static struct chunk chunks[2];
static struct chunk *gathering = &chunks[0], *under_way = &chunks[1];

static void choose(struct chunk *c, BlockNumber from, uint32 span)
{
    uint32 marks[CHUNK];
    XLogRecPtr newest = InvalidXLogRecPtr;
    uint64 holes = UINT64_MAX;

    for (uint32 i = 0; i < span; i++)
        marks[i] = loch_cache_mark(c->rnode, from + i);
    if (loch_local_exists(c->rnode, INIT_FORKNUM))
        holes = 0;
    else if (loch_local_exists(c->rnode, MAIN_FORKNUM))
        holes = loch_local_holes(c->rnode, MAIN_FORKNUM, from, span);
    for (uint32 i = 0; i < span; i++) {
        XLogRecPtr lsn = loch_last_lsn_get(c->rnode, MAIN_FORKNUM, from + i);

        if ((holes >> i & 1) == 0 || loch_cache_has(c->rnode, from + i, lsn))
            continue;
        c->blocks[c->count] = from + i;
        c->marks[c->count] = marks[i];
        c->lsns[c->count++] = lsn;
        newest = Max(newest, lsn);
    }
    c->span += span;
    if (newest != InvalidXLogRecPtr)
        loch_wal_flush_to(newest);
}

static void take(struct chunk *c)
{
    uint32 loaded = 0;

    for (uint32 i = 0; i < c->count; i++) {
        PGAlignedBlock page;
        uint64 posted_id;

        if (!loch_readahead_take(c->rnode, MAIN_FORKNUM, c->blocks[i], c->lsns[i], page.data,
                                 &posted_id))
            loch_page_client_get_posted(c->rnode, MAIN_FORKNUM, c->blocks[i], c->lsns[i], posted_id,
                                        page.data);
        if (!PageIsNew((Page)page.data) &&
            loch_cache_put_marked(c->rnode, c->blocks[i], c->lsns[i], page.data, c->marks[i]))
            loaded++;
    }
    loch_count_add(LOCH_C_prewarm_loaded, loaded);
    loch_count_add(LOCH_C_prewarm_left_out, c->span - loaded);
    c->span = c->count = 0;
}

/* Asks for what is gathered, and takes what was under way. */
static void turn_over(void)
{
    struct chunk *taken = under_way;

    for (uint32 i = 0; i < gathering->count; i++)
        loch_readahead_ask(gathering->rnode, gathering->blocks[i], gathering->lsns[i]);
    loch_page_client_post_send(1);
    take(taken);
    under_way = gathering;
    gathering = taken;
}

static void gather(RelFileNode rnode, BlockNumber from, uint32 span)
{
    gathering->rnode = rnode;
    choose(gathering, from, span);
    if (gathering->span == CHUNK)
        turn_over();
}

static void reload_if_asked(void)
{
    CHECK_FOR_INTERRUPTS();
    if (!ConfigReloadPending)
        return;
    ConfigReloadPending = false;
    ProcessConfigFile(PGC_SIGHUP);
}

static void fetch_run(RelFileNode rnode, const struct loch_hot_run *run, BlockNumber blocks)
{
    BlockNumber from = run->block, end = run->block + run->count;

    for (; loch_settings.prewarm && from < Min(end, blocks); reload_if_asked()) {
        uint32 span = Min(Min(end, blocks) - from, CHUNK - gathering->span);

        gather(rnode, from, span);
        from += span;
    }
    loch_count_add(LOCH_C_prewarm_left_out, end - from);
}

/* The runs of one relation, which lie together in the list. */
struct hot_relation {
    uint32 first, count;
    uint64 pages;
};

static void fetch_relation(const struct loch_hot_pages *list, const struct hot_relation *r)
{
    const struct loch_hot_run head = loch_hot_pages_at(list, r->first);
    RelFileNode rnode = {head.rel.spc, head.rel.db, head.rel.rel};
    XLogRecPtr lsn = loch_last_lsn_get(rnode, MAIN_FORKNUM, InvalidBlockNumber);
    BlockNumber blocks = 0;

    loch_wal_flush_to(lsn);
    if (!loch_page_client_size(rnode, MAIN_FORKNUM, lsn, &blocks))
        blocks = 0;
    for (uint32 i = 0; i < r->count; i++) {
        struct loch_hot_run run = loch_hot_pages_at(list, r->first + i);

        fetch_run(rnode, &run, blocks);
    }
    if (gathering->span > 0)
        turn_over();
}

static int compare_pages(const void *a, const void *b)
{
    const struct hot_relation *x = a, *y = b;

    return x->pages < y->pages ? -1 : x->pages > y->pages;
}

/* Small relations first: catalogs, and indexes before their tables. Returns the pages listed. */
static uint64 sort_relations(const struct loch_hot_pages *list, struct hot_relation *relations,
                             uint32 *count)
{
    struct loch_rel last = {0};
    uint64 pages = 0;

    *count = 0;
    for (uint32 i = 0; i < list->count; i++) {
        struct loch_hot_run run = loch_hot_pages_at(list, i);

        if (*count == 0 || memcmp(&run.rel, &last, sizeof last) != 0)
            relations[(*count)++] = (struct hot_relation){.first = i};
        last = run.rel;
        relations[*count - 1].count++;
        relations[*count - 1].pages += run.count;
        pages += run.count;
    }
    qsort(relations, *count, sizeof *relations, compare_pages);
    return pages;
}

static void fetch_all(const struct loch_hot_pages *list)
{
    struct hot_relation *relations = palloc(Max(list->count, 1) * sizeof *relations);
    uint32 count;
    uint64 pages = sort_relations(list, relations, &count);

    loch_count_add(LOCH_C_prewarm_listed, pages);
    for (uint32 i = 0; i < count; i++)
        fetch_relation(list, &relations[i]);
    take(under_way);
    pfree(relations);
    ereport(
        LOG,
        (errmsg("loch: of " UINT64_FORMAT " hot pages " UINT64_FORMAT
                " were brought into the local cache",
                pages, pg_atomic_read_u64(&loch_own_process()->counters[LOCH_C_prewarm_loaded]))));
}

/* The list that came with the data directory; false: there is none. */
static bool read_list(struct loch_buf *bytes, struct loch_hot_pages *list)
{
    int fd = BasicOpenFile(HOT_FILE, O_RDONLY | PG_BINARY);
    loch_status st = LOCH_OK;
    uint8_t piece[8192];
    ssize_t n = 0;

    if (fd < 0)
        return false;
    while (loch_is_ok(st) && (n = read(fd, piece, sizeof piece)) > 0)
        st = loch_buf_append(bytes, piece, (size_t)n);
    (void)close(fd);
    if (loch_is_ok(st))
        st = loch_hot_pages_decode(loch_buf_slice(bytes), list);
    if (!loch_is_ok(st))
        loch_report(LOG, st, "the list of hot pages");
    return loch_is_ok(st);
}

/* Also when it failed; not when the server stops in the middle of it, for half of what was hot must
 * not take the place of the whole. */
static void note_end(int code, Datum arg)
{
    (void)arg;
    if (code != 0 && loch_server_is_stopping())
        return;
    pg_atomic_write_u64(&loch_shared->prewarm_over, 1);
}

void loch_prewarm_main(Datum arg)
{
    struct loch_hot_pages list = {0};
    struct loch_buf bytes = {0};
    struct loch_cache_state cache;

    (void)arg;
    before_shmem_exit(note_end, 0);
    pqsignal(SIGTERM, die);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    loch_cache_state(&cache);
    if (loch_settings.prewarm && cache.on && read_list(&bytes, &list))
        fetch_all(&list);
    loch_buf_fini(&bytes);
    proc_exit(0);
}

void loch_prewarm_register(void)
{
    BackgroundWorker worker;

    memset(&worker, 0, sizeof worker);
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    strlcpy(worker.bgw_library_name, "loch", sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, "loch_prewarm_main", sizeof worker.bgw_function_name);
    strlcpy(worker.bgw_name, "loch prewarm", sizeof worker.bgw_name);
    strlcpy(worker.bgw_type, "loch prewarm", sizeof worker.bgw_type);
    RegisterBackgroundWorker(&worker);
}
