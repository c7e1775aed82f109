/* The safekeeper's own store on a disk that loses and tears what was not synced.
 *
 * Every seed is a story of several lives: records are written, synced, cut; at some event the
 * process is killed or the power goes; the store is opened again on what is left. Held against
 * every seed: what was reported as synced is there, whole, ends at a record and is byte for byte
 * what was written; nothing that was never written appears; a cut that was reported stays cut. What
 * a start takes for synced counts as reported, also where it followed a write that had failed.
 * Files are trimmed and recycled meanwhile, so behind the end of many lies what they were before.
 * At the end the disk lies to its readers: each read brings what was written, or fails.
 */
#include "store_world.h"

#include "sim_env.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/host/metrics.h"

#ifdef LOCH_SIM_MUTATIONS /* of wal_reader.c, wal_begin.c and wal_recover.c */
extern bool wal_takes_stale_frames, sk_head_comes_last, sk_recovery_trusts_cache;
#endif

struct mark { /* the generator after each record: a boundary one may come back to */
    struct wal_gen gen;
};

struct story {
    struct world w; /* of store_world.h, but with a simulated env */
    struct sim_world *sim;
    struct sim_node *node;
    struct mark *marks;
    size_t mark_count, mark_cap;
    uint64_t steps_left; /* events until the next crash */
    bool crashed;
    bool failed;
    loch_lsn acked;   /* reported as synced, not cut since */
    loch_lsn cutting; /* a cut under way: the crash may come before or after it */
    unsigned crashes, syncs, cuts, reads, trims;
};

static struct story story;
static struct loch_metric *recycled; /* files, over all stories */

static void synced(void *arg, uint64_t token, loch_lsn flush, loch_lsn prev)
{
    struct world *w = arg;
    assert_true(flush >= story.acked);
    assert_true(flush <= w->written);
    story.acked = flush;
    story.syncs++;
    w->flush = flush;
    w->prev = prev;
    w->done_token = token;
}

static void truncated(void *arg, uint64_t token, loch_lsn prev)
{
    struct world *w = arg;
    w->prev = prev;
    w->done_token = token;
}

static void failed(void *arg, loch_status st)
{
    (void)arg;
    (void)st;
    story.failed = true;
}

static const struct sk_store_events events = {
    .persisted = world_persisted, .truncated = truncated, .synced = synced, .failed = failed};

/* Is this the defect to be caught? Known ones: stale-frames, head-after-name, cache-trusted (of the
 * product's own code, in a build of its own), rename-not-durable, head-not-durable (of the disk).
 */
static bool mutated(const char *name)
{
    const char *chosen = getenv("LOCH_SIM_MUTATION");

    return chosen != NULL && strcmp(chosen, name) == 0;
}

static uint64_t draw(uint64_t n)
{
    return sim_world_draw(story.sim, n);
}

static void mark(void)
{
    if (story.mark_count == story.mark_cap) {
        story.mark_cap = story.mark_cap == 0 ? 256 : story.mark_cap * 2;
        story.marks = realloc(story.marks, story.mark_cap * sizeof *story.marks);
        assert_non_null(story.marks);
    }
    story.marks[story.mark_count++] = (struct mark){story.w.gen};
}

/* Back to the boundary at `lsn`; what is written from here on are other records. */
static void back_to(loch_lsn lsn)
{
    while (story.mark_count > 0 && story.marks[story.mark_count - 1].gen.lsn > lsn)
        story.mark_count--;
    assert_true(story.mark_count > 0);
    assert_true(story.marks[story.mark_count - 1].gen.lsn == lsn); /* a record's end */
    story.w.gen = story.marks[story.mark_count - 1].gen;
    story.w.gen.seed = draw(UINT64_MAX);
    story.marks[story.mark_count - 1].gen = story.w.gen;
    story.w.wal.len = lsn - START_LSN;
    story.w.written = lsn;
}

static bool goes_on(void)
{
    return !story.crashed && !story.failed;
}

/* One event of the world; at the chosen one the crash. */
static void step(void)
{
    if (story.steps_left-- == 0) {
        if (draw(3) == 0)
            sim_node_kill(story.node);
        else
            sim_node_power_cut(story.node);
        story.crashed = true;
        return;
    }
    /* Writes may wait for a sync; then there is nothing to happen. */
    if (!sim_world_step(story.sim))
        sk_store_sync(story.w.store, ++story.w.token);
}

static void wait_for(uint64_t token)
{
    while (goes_on() && story.w.done_token < token)
        step();
}

static void read_back(void *arg, loch_status st, struct loch_buf *take_wal)
{
    loch_lsn from = *(loch_lsn *)arg;
    assert_ok(st);
    assert_memory_equal(take_wal->data, story.w.wal.data + (from - START_LSN), take_wal->len);
    *(loch_lsn *)arg = from + take_wal->len;
}

/* What the store says it has is what was written. */
static void check_all(loch_lsn upto)
{
    loch_lsn at = sk_store_first_lsn(story.w.store);
    while (at < upto) {
        loch_lsn before = at;
        assert_ok(sk_store_read(story.w.store, at, upto, 1u << 20, read_back, &at));
        while (at == before)
            assert_true(sim_world_step(story.sim));
    }
    story.reads++;
}

struct lie {
    loch_lsn from;
    bool answered;
    unsigned good, refused;
};

static void read_of_liar(void *arg, loch_status st, struct loch_buf *take_wal)
{
    struct lie *lie = arg;

    lie->answered = true;
    if (loch_is_ok(st)) {
        assert_true(take_wal->len > 0);
        assert_memory_equal(take_wal->data, story.w.wal.data + (lie->from - START_LSN),
                            take_wal->len);
        lie->good++;
    } else {
        /* by whatever was wrong: the key's name or the version in a file's head, a frame */
        lie->refused++;
    }
}

/* One read of a file in three is wrong. */
static void check_liar(struct lie *sum, unsigned reads)
{
    const loch_lsn first = sk_store_first_lsn(story.w.store);
    struct lie lie = {0};

    sim_node_misread(story.node, 3);
    for (unsigned i = 0; i < reads && first < story.w.flush; i++) {
        lie.from = first + draw(story.w.flush - first);
        lie.answered = false;
        assert_ok(sk_store_read(story.w.store, lie.from, story.w.flush, 1 + draw(100000),
                                read_of_liar, &lie));
        while (!lie.answered)
            assert_true(sim_world_step(story.sim));
    }
    sim_node_misread(story.node, 0);
    sum->good += lie.good;
    sum->refused += lie.refused;
}

/* As a timeline does: what the disk refused is tried again, by the same process. */
static void recover(struct sk_wal_found *found)
{
    struct world *w = &story.w;

    sim_node_fail_disk(story.node, draw(4) == 0 ? 1 + draw(30) : 0);
    const loch_status st = sk_wal_recover(w->dir, &w->sealer, &w->control, found);
    sim_node_fail_disk(story.node, 0);
    if (loch_is_ok(st))
        return;
    assert_code(st, LOCH_E_IO);
    assert_ok(sk_wal_recover(w->dir, &w->sealer, &w->control, found));
}

static void open_store(void)
{
    struct world *w = &story.w;
    struct sk_wal_found found = {0};
    struct sk_store_options options = {.dir = w->dir,
                                       .sealer = w->sealer,
                                       .segment_bytes = WAL_GEN_SEGMENT_BYTES,
                                       .file_bytes = w->file_bytes,
                                       .stats = &w->stats,
                                       .events = &events,
                                       .arg = w};

    w->env = sim_node_start(story.node);
    w->sealer.env = options.sealer.env = w->env;
    recover(&found);
    loch_lsn least = story.acked;
    if (story.cutting != 0 && story.cutting < least)
        least = story.cutting;
    if (found.flush_lsn < least)
        fail_msg("synced up to %lx, found up to %lx", least, found.flush_lsn);
    assert_true(found.flush_lsn <= w->written);
    back_to(found.flush_lsn);
    w->flush = story.acked = found.flush_lsn;
    w->prev = found.prev_lsn;
    assert_int_equal(w->prev, w->gen.prev);
    w->token = w->done_token = 0;
    story.cutting = 0;
    assert_ok(sk_store_create(&options, &found, w->control.anchor_lsn, w->control.anchor_prev_lsn,
                              &w->store));
    check_all(w->flush);
}

static void act_write(void)
{
    struct world *w = &story.w;
    size_t before = w->wal.len;

    for (uint64_t n = 1 + draw(8); n > 0; n--) {
        (void)wal_gen_record(&w->gen, &w->wal, (uint32_t)(1 + draw(draw(4) == 0 ? 9000 : 300)));
        mark();
    }
    assert_ok(world_write(w, 1, loch_slice_of(w->wal.data + before, w->wal.len - before),
                          1 + (size_t)draw(8000)));
}

static void act_cut(void)
{
    struct world *w = &story.w;
    size_t least = 0;

    sk_store_sync(w->store, ++w->token);
    wait_for(w->token);
    if (!goes_on())
        return;
    while (story.marks[least].gen.lsn < w->control.anchor_lsn)
        least++;
    size_t chosen = least + (size_t)draw(story.mark_count - least);
    loch_lsn at = story.marks[chosen].gen.lsn;
    story.cutting = at;
    sk_store_truncate(w->store, ++w->token, at, 2);
    wait_for(w->token);
    if (!goes_on())
        return;
    assert_int_equal(w->prev, story.marks[chosen].gen.prev);
    story.acked = at;
    story.cutting = 0;
    story.cuts++;
    back_to(at);
}

/* Commits what is synced: from here on it is never cut, and damage to it would be corruption. */
static void act_commit(void)
{
    struct world *w = &story.w;
    loch_lsn lsn = 0;
    loch_lsn prev = 0;
    struct loch_buf sealed = {0};

    sk_store_anchor(w->store, story.acked, &lsn, &prev);
    struct sk_control next = w->control;
    next.acceptor.commit_lsn = story.acked;
    next.anchor_lsn = lsn;
    next.anchor_prev_lsn = prev;
    next.last_seq = sk_store_last_seq(w->store);
    next.sequence++;
    if (draw(2) == 0)
        next.trim_lsn = loch_max_u64(next.trim_lsn, sk_store_trim_point(w->store, lsn));
    assert_ok(sk_control_seal(&next, &w->sealer, &sealed));
    sk_store_persist(w->store, ++w->token, &sealed);
    wait_for(w->token);
    if (!goes_on())
        return;
    const bool trims = next.trim_lsn > w->control.trim_lsn;
    w->control = next; /* a crash before leaves the older one, which is as true */
    if (!trims)
        return;
    assert_ok(sk_store_trim(w->store, next.trim_lsn, draw(4) == 0 ? 0 : UINT64_MAX));
    assert_int_equal(sk_store_first_lsn(w->store), next.trim_lsn);
    story.trims++;
}

static void live(void)
{
    story.crashed = story.failed = false;
    story.steps_left = 1 + draw(draw(2) == 0 ? 40 : 600);
    open_store();
    if (draw(6) == 0)
        sim_node_fail_disk(story.node, 1 + draw(30));
    while (goes_on()) {
        uint64_t what = draw(20);
        if (what < 12) {
            act_write();
        } else if (what < 17) {
            sk_store_sync(story.w.store, ++story.w.token);
            if (what < 15)
                wait_for(story.w.token);
        } else if (what == 17) {
            act_cut();
        } else if (what == 18) {
            act_commit();
            if (goes_on() && draw(8) == 0)
                sk_store_drop_spares(story.w.store);
        } else if (goes_on()) {
            for (uint64_t n = draw(10); n > 0 && goes_on() && !sk_store_idle(story.w.store); n--)
                step();
        }
        if (goes_on() && sk_store_queued(story.w.store) > 200000)
            step();
    }
    /* A failed write or sync is final: the process ends, the machine may too. */
    if (!story.crashed && draw(2) == 0)
        sim_node_kill(story.node);
    else if (!story.crashed)
        sim_node_power_cut(story.node);
    sim_node_fail_disk(story.node, 0);
    story.crashes++;
    story.w.store = NULL; /* what a dead process held is nobody's */
}

static void run_seed(uint64_t seed, struct lie *lies)
{
    struct world *w = &story.w;

    story = (struct story){.sim = sim_world_create(
                               &(struct sim_options){.seed = seed,
                                                     .renames_late = mutated("rename-not-durable"),
                                                     .patches_late = mutated("head-not-durable")})};
    story.node = sim_node_create(story.sim, "safekeeper");
    *w = (struct world){.file_bytes = 96u << 10, .stats = {.recycled = recycled}};
    (void)strcpy(w->dir, "/sk");
    w->sealer = (struct sk_sealer){.wrap_key = world_wrap_key,
                                   .keys = {.find = world_find_key},
                                   .tenant = {{1}},
                                   .timeline = {{2}},
                                   .node = {{3}},
                                   .incarnation = 1};
    w->control = (struct sk_control){.system_id = SYSTEM_ID,
                                     .pg_version = 150020,
                                     .segment_bytes = WAL_GEN_SEGMENT_BYTES,
                                     .incarnation = 1,
                                     .sequence = 1,
                                     .anchor_lsn = START_LSN,
                                     .anchor_prev_lsn = START_PREV,
                                     .trim_lsn = START_LSN};
    assert_ok(loch_acceptor_control_init(&w->control.acceptor, START_LSN, START_PREV));
    w->control.acceptor.term = 1000; /* known before its WAL is written */
    wal_gen_init(&w->gen, START_LSN, START_PREV, SYSTEM_ID, seed);
    w->written = story.acked = START_LSN;
    mark();
    assert_ok(loch_env_mkdirs(sim_node_start(story.node), w->dir));
    sim_node_kill(story.node);
    for (int life = 0; life < 6; life++)
        live();
    open_store(); /* and once more, to the end */
    check_all(w->flush);
    check_liar(lies, 20);
    sk_store_destroy(w->store);
    sk_control_fini(&w->control);
    loch_buf_fini(&w->wal);
    loch_buf_fini(&w->read);
    free(story.marks);
    sim_world_destroy(story.sim);
}

static void seeds(void **state)
{
    const char *from = getenv("LOCH_SIM_FROM");
    const char *count = getenv("LOCH_SIM_COUNT");
    uint64_t first = from != NULL ? strtoull(from, NULL, 10) : 1;
    uint64_t n = count != NULL ? strtoull(count, NULL, 10) : 60;
    unsigned syncs = 0;
    unsigned cuts = 0;
    unsigned trims = 0;
    struct loch_metrics *metrics = NULL;
    struct lie lies = {0};

    (void)state;
#ifdef LOCH_SIM_MUTATIONS
    wal_takes_stale_frames = mutated("stale-frames");
    sk_head_comes_last = mutated("head-after-name");
    sk_recovery_trusts_cache = mutated("cache-trusted");
#endif
    assert_ok(loch_metrics_create("sim", &metrics));
    recycled = loch_metrics_counter(metrics, "recycled", "", NULL, 0);
    loch_log_init("sim", LOCH_LOG_ERROR);
    for (uint64_t seed = first; seed < first + n; seed++) {
        (void)fprintf(stderr, "seed %lu\r", seed);
        run_seed(seed, &lies);
        syncs += story.syncs;
        cuts += story.cuts;
        trims += story.trims;
    }
    const int64_t files = loch_metric_value(recycled);
    loch_metrics_destroy(metrics);
    (void)fprintf(stderr,
                  "%lu seeds, %u syncs, %u cuts, %u trims, %ld files recycled, %u reads good and "
                  "%u refused of a disk that lies\n",
                  n, syncs, cuts, trims, (long)files, lies.good, lies.refused);
    if (count == NULL) { /* the stories are about something */
        assert_true(syncs > 500);
        assert_true(cuts > 50);
        assert_true(trims > 50);
        assert_true(files > 50);
        assert_true(lies.good > 50);
        assert_true(lies.refused > 50);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(seeds)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
