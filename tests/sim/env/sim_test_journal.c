/* Many timelines over one journal, on a disk that loses and tears what was not synced.
 *
 * Every seed is a story of several lives of one safekeeper's disk: some timelines append, sync, cut
 * and come and go; at some event the process is killed or the power goes; the journal is replayed
 * and all are opened again. Held against every seed: what was reported as synced is there, byte for
 * byte, in every timeline, and nothing that was never written; what a start takes for synced counts
 * as reported. The journal is small, so that its halves change often; in some seeds it damages or
 * loses its file, and the start must refuse.
 */
#include "store_world.h"

#include "journal.h"
#include "node_file.h"
#include "sim_env.h"

#include "loch/base/log.h"

#define LINES 6u

struct line {
    struct world w;
    struct wal_gen *marks; /* the generator after each record */
    size_t mark_count, mark_cap;
    loch_lsn acked;
};

static struct {
    struct sim_world *sim;
    struct sim_node *node;
    struct loch_env *env;
    struct sk_journal *journal;
    struct loch_metrics *metrics;
    struct line lines[LINES];
    uint64_t steps_left, incarnation;
    bool crashed, failed;
    unsigned syncs, shared, lives;
} story;

static const struct loch_id cluster = {{8}};
static const struct loch_id node_id = {{3}};

static uint64_t draw(uint64_t n)
{
    return sim_world_draw(story.sim, n);
}

static void mark(struct line *l)
{
    if (l->mark_count == l->mark_cap) {
        l->mark_cap = l->mark_cap == 0 ? 256 : l->mark_cap * 2;
        l->marks = realloc(l->marks, l->mark_cap * sizeof *l->marks);
        assert_non_null(l->marks);
    }
    l->marks[l->mark_count++] = l->w.gen;
}

static void back_to(struct line *l, loch_lsn lsn)
{
    while (l->mark_count > 0 && l->marks[l->mark_count - 1].lsn > lsn)
        l->mark_count--;
    assert_true(l->mark_count > 0);
    assert_true(l->marks[l->mark_count - 1].lsn == lsn);
    l->w.gen = l->marks[l->mark_count - 1];
    l->w.gen.seed = draw(UINT64_MAX);
    l->marks[l->mark_count - 1] = l->w.gen;
    l->w.wal.len = lsn - START_LSN;
    l->w.written = lsn;
}

static bool goes_on(void)
{
    return !story.crashed && !story.failed;
}

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
    assert_true(sim_world_step(story.sim));
}

static void synced(void *arg, uint64_t token, loch_lsn flush, loch_lsn prev)
{
    struct line *l = arg;

    assert_true(flush >= l->acked);
    assert_true(flush <= l->w.written);
    l->acked = flush;
    l->w.prev = prev;
    l->w.done_token = token;
    story.syncs++;
}

static void truncated(void *arg, uint64_t token, loch_lsn prev)
{
    struct line *l = arg;

    l->w.prev = prev;
    l->w.done_token = token;
}

static void failed(void *arg, loch_status st)
{
    (void)arg;
    (void)st;
    story.failed = true;
}

static const struct sk_store_events events = {
    .persisted = world_persisted, .truncated = truncated, .synced = synced, .failed = failed};

/* ---- reading back ---- */

struct reading {
    struct line *line;
    loch_lsn at;
};

static void read_back(void *arg, loch_status st, struct loch_buf *take_wal)
{
    struct reading *r = arg;

    assert_ok(st);
    assert_true(take_wal->len > 0);
    assert_memory_equal(take_wal->data, r->line->w.wal.data + (r->at - START_LSN), take_wal->len);
    r->at += take_wal->len;
}

static void check_all(struct line *l)
{
    struct reading r = {l, START_LSN};

    while (r.at < l->acked) {
        loch_lsn before = r.at;
        assert_ok(sk_store_read(l->w.store, before, l->acked, 1u << 20, read_back, &r));
        while (r.at == before)
            assert_true(sim_world_step(story.sim));
    }
}

/* ---- lives ---- */

static void open_line(struct line *l)
{
    struct sk_wal_found found = {0};
    struct sk_store_options options = {.dir = l->w.dir,
                                       .sealer = l->w.sealer,
                                       .segment_bytes = WAL_GEN_SEGMENT_BYTES,
                                       .file_bytes = l->w.file_bytes,
                                       .journal = story.journal,
                                       .events = &events,
                                       .arg = l};

    l->w.env = l->w.sealer.env = options.sealer.env = story.env;
    assert_ok(sk_wal_recover(l->w.dir, &l->w.sealer, &l->w.control, &found));
    if (found.flush_lsn < l->acked)
        fail_msg("synced up to %lx, found up to %lx", l->acked, found.flush_lsn);
    assert_true(found.flush_lsn <= l->w.written);
    back_to(l, found.flush_lsn);
    l->acked = found.flush_lsn;
    l->w.prev = found.prev_lsn;
    l->w.token = l->w.done_token = 0;
    assert_ok(sk_store_create(&options, &found, l->w.control.anchor_lsn,
                              l->w.control.anchor_prev_lsn, &l->w.store));
    check_all(l);
}

/* As the daemon enters its directory. */
static void enter(void)
{
    struct loch_id id;

    story.env = sim_node_start(story.node);
    assert_ok(sk_node_file_enter(story.env, "/sk", &cluster, &node_id, &story.incarnation, &id));
    assert_ok(sk_journal_replay(story.env, "/sk", &node_id, &id));
    if (draw(4) == 0) /* once more, as after a crash before the next step */
        assert_ok(sk_journal_replay(story.env, "/sk", &node_id, &id));
    assert_ok(sk_node_file_write(story.env, "/sk", &cluster, &node_id, story.incarnation, NULL));
    assert_ok(sk_journal_discard(story.env, "/sk"));
    const struct sk_journal_options options = {
        .env = story.env,
        .dir = "/sk",
        .cluster = cluster,
        .node = node_id,
        .incarnation = story.incarnation,
        .half_bytes = 96u << 10,
        .slow_ns = UINT64_MAX,
        .least_busy = 1 + (uint32_t)draw(3),
        .records = loch_metrics_counter(story.metrics, "records_total", "Records.", NULL, 0)};
    assert_ok(sk_journal_create(&options, &story.journal));
    for (size_t i = 0; i < LINES; i++)
        open_line(&story.lines[i]);
}

static void act_write(struct line *l)
{
    struct world *w = &l->w;
    size_t before = w->wal.len;

    for (uint64_t n = 1 + draw(4); n > 0; n--) {
        (void)wal_gen_record(&w->gen, &w->wal, (uint32_t)(1 + draw(draw(6) == 0 ? 9000 : 300)));
        mark(l);
    }
    assert_ok(world_write(w, 1, loch_slice_of(w->wal.data + before, w->wal.len - before),
                          1 + (size_t)draw(8000)));
    sk_store_sync(w->store, ++w->token);
}

/* Cuts off what is not acknowledged, or all that is; then other records follow. */
static void act_cut(struct line *l)
{
    while (goes_on() && l->w.done_token < l->w.token)
        step();
    if (!goes_on())
        return;
    size_t chosen = (size_t)draw(l->mark_count);
    loch_lsn at = l->marks[chosen].lsn;
    l->acked = at; /* it may come to pass from now on */
    sk_store_truncate(l->w.store, ++l->w.token, at, 2);
    while (goes_on() && l->w.done_token < l->w.token)
        step();
    if (goes_on())
        back_to(l, at);
}

static void live(void)
{
    story.crashed = story.failed = false;
    enter();
    story.steps_left = 1 + draw(draw(2) == 0 ? 60 : 1500);
    if (draw(6) == 0)
        sim_node_fail_disk(story.node, 1 + draw(80));
    while (goes_on()) {
        struct line *l = &story.lines[draw(LINES)];
        uint64_t what = draw(24);
        if (what < 20) {
            if (sk_store_queued(l->w.store) < 60000)
                act_write(l);
        } else if (what == 20) {
            act_cut(l);
        }
        for (uint64_t n = draw(12); n > 0 && goes_on(); n--)
            if (!sk_store_idle(l->w.store))
                step();
    }
    if (!story.crashed && draw(2) == 0)
        sim_node_kill(story.node);
    else if (!story.crashed)
        sim_node_power_cut(story.node);
    sim_node_fail_disk(story.node, 0);
    for (size_t i = 0; i < LINES; i++)
        story.lines[i].w.store = NULL;
    story.lives++;
}

static void line_init(struct line *l, size_t index, uint64_t seed)
{
    struct world *w = &l->w;
    char a[LOCH_ID_TEXT_BYTES];
    char b[LOCH_ID_TEXT_BYTES];

    *l = (struct line){.w = {.file_bytes = 96u << 10}};
    w->sealer = (struct sk_sealer){.wrap_key = world_wrap_key,
                                   .keys = {.find = world_find_key},
                                   .tenant = {{(uint8_t)(1 + index % 2)}},
                                   .timeline = {{(uint8_t)(1 + index)}},
                                   .node = node_id,
                                   .incarnation = 1};
    (void)snprintf(w->dir, sizeof w->dir, "/sk/tenants/%s/timelines/%s",
                   loch_id_format(&w->sealer.tenant, a), loch_id_format(&w->sealer.timeline, b));
    w->control = (struct sk_control){.system_id = SYSTEM_ID,
                                     .pg_version = 150020,
                                     .segment_bytes = WAL_GEN_SEGMENT_BYTES,
                                     .incarnation = 1,
                                     .sequence = 1,
                                     .anchor_lsn = START_LSN,
                                     .anchor_prev_lsn = START_PREV,
                                     .trim_lsn = START_LSN};
    assert_ok(loch_acceptor_control_init(&w->control.acceptor, START_LSN, START_PREV));
    w->control.acceptor.term = 1000;
    wal_gen_init(&w->gen, START_LSN, START_PREV, SYSTEM_ID, seed * LINES + index);
    w->written = l->acked = START_LSN;
    mark(l);
    assert_ok(loch_env_mkdirs(story.env, w->dir));
}

static void begin_story(uint64_t seed)
{
    memset(&story, 0, sizeof story);
    story.sim = sim_world_create(&(struct sim_options){.seed = seed});
    story.node = sim_node_create(story.sim, "safekeeper");
    assert_ok(loch_metrics_create("sim", &story.metrics));
    story.env = sim_node_start(story.node);
    for (size_t i = 0; i < LINES; i++)
        line_init(&story.lines[i], i, seed);
    sim_node_kill(story.node);
}

static void end_story(void)
{
    for (size_t i = 0; i < LINES; i++) {
        sk_store_destroy(story.lines[i].w.store);
        sk_control_fini(&story.lines[i].w.control);
        loch_buf_fini(&story.lines[i].w.wal);
        free(story.lines[i].marks);
    }
    sk_journal_destroy(story.journal);
    loch_metrics_destroy(story.metrics);
    sim_world_destroy(story.sim);
}

static void seeds(void **state)
{
    const char *from = getenv("LOCH_SIM_FROM");
    const char *count = getenv("LOCH_SIM_COUNT");
    uint64_t first = from != NULL ? strtoull(from, NULL, 10) : 1;
    uint64_t n = count != NULL ? strtoull(count, NULL, 10) : 60;
    uint64_t syncs = 0;
    uint64_t shared = 0;

    (void)state;
    loch_log_init("sim", LOCH_LOG_ERROR);
    for (uint64_t seed = first; seed < first + n; seed++) {
        (void)fprintf(stderr, "seed %lu\r", seed);
        begin_story(seed);
        for (int life = 0; life < 6; life++)
            live();
        enter(); /* and once more, to the end */
        syncs += story.syncs;
        shared += (uint64_t)loch_metric_value(
            loch_metrics_counter(story.metrics, "records_total", "Records.", NULL, 0));
        end_story();
    }
    (void)fprintf(stderr, "%lu seeds, %lu syncs, %lu records\n", n, syncs, shared);
    if (count == NULL) { /* the stories are about something */
        assert_true(syncs > 500);
        assert_true(shared > 500);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(seeds)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
