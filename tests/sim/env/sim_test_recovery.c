/* Recovery from peers, and who else connects, directed: three whole safekeepers in the simulated
 * world, told by hand what a leader would say. A donor that goes silent in the middle is left for
 * the next long before its stream is reset; a peer whose history cannot be is followed once, in
 * vain; of many timelines that look around at once only so many do; one that is held looks all the
 * same, and what its donor has for it does not pile up there; what such a one says to a compute
 * whose WAL waits; a compute has only so many connections. What a timeline wrote before it was
 * parked is not taken from the page cache after.
 */
#include "../unit.h"
#include "service.h"
#include "sim_env.h"
#include "wal_gen.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/crypto/tls.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SAFEKEEPERS 3u
#define MANY        100u
#define START_LSN   UINT64_C(0x1500140)
#define START_PREV  UINT64_C(0x15000C8)
#define SYSTEM_ID   UINT64_C(7300000000000000001)
#define WAL_BYTES   (24u << 20)
#define CONN        1000u /* nobody's: what is answered to it is dropped */
#define SECOND_US   UINT64_C(1000000)

static const struct loch_id cluster = {{9}}, tenant = {{1}};

struct safekeeper {
    struct sim_node *node;
    struct loch_metrics *metrics;
    char name[16], address[32];
    struct loch_id id;
    struct sk_daemon *d;
};

static struct {
    char dir[64];
    struct loch_env *env;
    struct loch_objstore *store;
    struct loch_kms *kms;
    struct sim_world *sim;
    struct safekeeper sks[SAFEKEEPERS];
} w;

static struct loch_id timeline_of(uint32_t i)
{
    return (struct loch_id){{2, (uint8_t)i}};
}

static struct loch_keys *open_keys(const struct loch_id *node, uint8_t role)
{
    struct loch_keys_options options = {
        .store = w.store, .kms = w.kms, .cluster = cluster, .role = role};
    struct loch_keys *keys = NULL;

    if (node != NULL)
        options.node = *node;
    assert_ok(loch_keys_create(&options, &keys));
    return keys;
}

/* Keys of `count` timelines, in a real store. */
static void setup(uint32_t count)
{
    char text[128];

    memset(&w, 0, sizeof w);
    loch_log_init("sim", getenv("LOCH_SIM_VERBOSE") != NULL ? LOCH_LOG_INFO : LOCH_LOG_ERROR);
    (void)snprintf(w.dir, sizeof w.dir, "/tmp/sim-recovery-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    assert_ok(loch_env_real_create(&w.env));
    (void)snprintf(text, sizeof text, "%s/cmk.key", w.dir);
    assert_ok(loch_kms_file_create(text));
    (void)snprintf(text, sizeof text, "file:%s/cmk.key", w.dir);
    assert_ok(loch_kms_open(text, NULL, &w.kms));
    (void)snprintf(text, sizeof text, "%s/store", w.dir);
    assert_ok(loch_objstore_open_local(w.env, text, &w.store));
    struct loch_keys *keys = open_keys(NULL, LOCH_ROLE_TOOL);
    assert_ok(loch_keys_tenant_create(keys, &tenant));
    assert_ok(loch_keys_tenant_load(keys, &tenant));
    for (uint32_t i = 0; i < count; i++) {
        const struct loch_id timeline = timeline_of(i);
        assert_ok(loch_keys_add_timeline(keys, &tenant, &timeline));
    }
    loch_keys_destroy(keys);
    w.sim = sim_world_create(&(struct sim_options){.seed = 7});
    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        struct safekeeper *s = &w.sks[i];
        (void)snprintf(s->name, sizeof s->name, "sk%u", i);
        (void)snprintf(s->address, sizeof s->address, "sk%u:7000", i);
        s->id = (struct loch_id){{(uint8_t)(20 + i)}};
        s->node = sim_node_create(w.sim, s->name);
    }
}

static void teardown(void)
{
    char command[128];

    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        struct safekeeper *s = &w.sks[i];
        if (s->d == NULL)
            continue;
        sim_node_kill(s->node);
        loch_keys_destroy(s->d->keys);
        loch_metrics_destroy(s->metrics);
    }
    sim_world_destroy(w.sim);
    loch_objstore_close(w.store);
    loch_kms_close(w.kms);
    loch_env_real_destroy(w.env);
    (void)snprintf(command, sizeof command, "rm -rf %s", w.dir);
    assert_int_equal(system(command), 0);
}

static void sk_start(struct safekeeper *s)
{
    struct sk_daemon *d = calloc(1, sizeof *d);

    assert_non_null(d);
    d->env = sim_node_start(s->node);
    d->dir = "/sk";
    d->cluster = cluster;
    d->node = s->id;
    d->file_bytes = 1u << 20;
    d->piece_bytes = SK_PIECE_BYTES;
    d->journal_busy = UINT32_MAX;
    assert_ok(loch_metrics_create("sim", &s->metrics));
    d->metrics = s->metrics;
    d->keys = open_keys(&s->id, LOCH_ROLE_SAFEKEEPER);
    assert_ok(loch_tls_server_create(loch_keys_psk_lookup, d->keys, &d->tls));
    assert_ok(loch_env_mkdirs(d->env, d->dir));
    assert_ok(sk_daemon_serve(d, s->address));
    s->d = d;
}

static struct sk_timeline *timeline_on(const struct safekeeper *s, uint32_t i)
{
    const struct loch_id timeline = timeline_of(i);

    return sk_daemon_find(s->d, &tenant, &timeline);
}

static void create(const struct safekeeper *s, uint32_t i)
{
    const struct sk_timeline_spec spec = {.start_lsn = START_LSN,
                                          .prev_lsn = START_PREV,
                                          .system_id = SYSTEM_ID,
                                          .pg_version = 150020,
                                          .segment_bytes = WAL_GEN_SEGMENT_BYTES};
    const struct loch_id timeline = timeline_of(i);
    struct sk_timeline *tl = NULL;

    assert_ok(sk_timeline_new(s->d, &tenant, &timeline, &tl));
    assert_ok(sk_daemon_adopt(s->d, tl));
    assert_ok(sk_timeline_open(tl, &spec));
}

/* All three nodes are the members of the timeline; those that are down get made up names. */
static void form(uint32_t timeline)
{
    struct loch_member members[SAFEKEEPERS];
    const struct loch_membership m = {.generation = 1, .members = members, .count = SAFEKEEPERS};

    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        const struct safekeeper *s = &w.sks[i];
        members[i] = (struct loch_member){
            .id = {{(uint8_t)(90 + i)}}, .node = s->id, .in = LOCH_MEMBER_BOTH};
        if (s->d != NULL)
            members[i].id = timeline_on(s, timeline)->control.member;
        (void)snprintf(members[i].address, sizeof members[i].address, "%s", s->address);
    }
    for (uint32_t i = 0; i < SAFEKEEPERS; i++)
        if (w.sks[i].d != NULL)
            assert_ok(sk_timeline_configure(timeline_on(&w.sks[i], timeline), &m));
}

static const struct loch_acceptor_from from = {.conn = CONN, .compute_epoch = 1};
static const uint64_t term = UINT64_C(1) << 16;

static void lead(const struct safekeeper *s)
{
    struct loch_term_start h[] = {{0, START_LSN}, {term, START_LSN}};
    const struct loch_wal_vote vote = {.term = term, .compute_epoch = 1, .generation = 1};
    const struct loch_wal_elected elected = {
        .term = term, .generation = 1, .history = {.entries = h, .count = 2}};

    sk_timeline_vote(timeline_on(s, 0), from, &vote);
    sim_world_run(w.sim, SECOND_US);
    sk_timeline_elected(timeline_on(s, 0), from, &elected);
    sim_world_run(w.sim, SECOND_US);
}

static void append(const struct safekeeper *s, loch_lsn begin, struct loch_slice bytes)
{
    const struct loch_wal_append m = {
        .term = term, .generation = 1, .begin = begin, .bytes = bytes};

    sk_timeline_append(timeline_on(s, 0), from, &m);
}

static loch_lsn flush_of(const struct safekeeper *s)
{
    struct loch_acceptor_view v;

    loch_acceptor_look(timeline_on(s, 0)->acceptor, &v);
    return v.flush_lsn;
}

/* Two have all, the third is told how far the leader is. */
static loch_lsn write_to_two(void)
{
    struct loch_buf wal = {0};
    struct wal_gen gen;

    wal_gen_init(&gen, START_LSN, START_PREV, SYSTEM_ID, 42);
    while (wal.len < WAL_BYTES)
        (void)wal_gen_record(&gen, &wal, 8000);
    for (size_t at = 0; at < wal.len; at += LOCH_WAL_CHUNK_BYTES) {
        const size_t len = (size_t)loch_min_u64(LOCH_WAL_CHUNK_BYTES, wal.len - at);
        for (uint32_t i = 0; i < 2; i++)
            append(&w.sks[i], START_LSN + at, loch_slice_of(wal.data + at, len));
        sim_world_run(w.sim, 20000);
    }
    sim_world_run(w.sim, SECOND_US);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(flush_of(&w.sks[i]), gen.lsn);
    loch_buf_fini(&wal);
    append(&w.sks[2], gen.lsn, (struct loch_slice){0});
    return gen.lsn;
}

static int64_t given(uint32_t i)
{
    return loch_metric_value(w.sks[i].d->stats.pulled_bytes);
}

static void all_lead(void)
{
    setup(1);
    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        sk_start(&w.sks[i]);
        create(&w.sks[i], 0);
    }
    sim_world_run(w.sim, SECOND_US);
    form(0);
    sim_world_run(w.sim, 10 * SECOND_US);
    for (uint32_t i = 0; i < SAFEKEEPERS; i++)
        lead(&w.sks[i]);
}

static void a_silent_donor_is_left(void **state)
{
    (void)state;
    all_lead();
    const loch_lsn all = write_to_two();
    while (flush_of(&w.sks[2]) < START_LSN + WAL_BYTES / 4)
        assert_true(sim_world_step(w.sim));
    assert_true(flush_of(&w.sks[2]) < all - WAL_BYTES / 4); /* in the middle of it */
    const uint32_t donor = given(0) > given(1) ? 0 : 1;
    const int64_t before = given(1 - donor);
    sim_part(w.sim, w.sks[donor].name, w.sks[2].name);
    const uint64_t began_us = sim_world_now_us(w.sim);
    while (flush_of(&w.sks[2]) < all) {
        assert_true(sim_world_now_us(w.sim) - began_us < 12 * SECOND_US);
        assert_true(sim_world_step(w.sim));
    }
    assert_true(given(1 - donor) > before);
    teardown();
}

/* The first, alone, has some WAL. */
static void one_leads(struct wal_gen *gen, struct loch_buf *wal)
{
    struct safekeeper *s = &w.sks[0];

    setup(1);
    sk_start(s);
    create(s, 0);
    sim_world_run(w.sim, SECOND_US);
    form(0);
    sim_world_run(w.sim, SECOND_US);
    lead(s);
    wal_gen_init(gen, START_LSN, START_PREV, SYSTEM_ID, 42);
    for (int i = 0; i < 10; i++)
        (void)wal_gen_record(gen, wal, 8000);
    append(s, START_LSN, loch_buf_slice(wal));
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(flush_of(s), gen->lsn);
}

/* A term of a peer's that begins inside one of our records. */
static void hear_of_a_wrong_term(const struct safekeeper *s, loch_lsn at)
{
    struct loch_term_start h[] = {{0, START_LSN}, {term, START_LSN}, {term + 1, at}};
    struct loch_acceptor_view v;

    loch_acceptor_look(timeline_on(s, 0)->acceptor, &v);
    const struct loch_wal_pull_state m = {.term = term + 1,
                                          .promised = term + 1,
                                          .term_start = at,
                                          .compute_epoch = 1,
                                          .flush_lsn = at + 64,
                                          .commit_lsn = START_LSN,
                                          .start_lsn = START_LSN,
                                          .history = {.entries = h, .count = 3},
                                          .membership = *v.membership};
    sk_timeline_peer_state(timeline_on(s, 0), &m);
}

static void a_history_that_cannot_be_is_not_followed(void **state)
{
    struct safekeeper *s = &w.sks[0];
    struct loch_buf wal = {0};
    struct wal_gen gen;

    (void)state;
    one_leads(&gen, &wal);
    sk_timeline_gone(timeline_on(s, 0), CONN);
    hear_of_a_wrong_term(s, gen.lsn - 4000);
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(timeline_on(s, 0)->state, SK_WAITING);
    sim_world_run(w.sim, 6 * SECOND_US);
    for (int i = 0; i < 3; i++) { /* again: it stays, and whole */
        assert_int_equal(timeline_on(s, 0)->state, SK_ACTIVE);
        assert_int_equal(flush_of(s), gen.lsn);
        hear_of_a_wrong_term(s, gen.lsn - 4000);
        sim_world_run(w.sim, SECOND_US);
    }
    lead(s); /* the honest leader is back */
    const size_t before = wal.len;
    (void)wal_gen_record(&gen, &wal, 500);
    append(s, START_LSN + before, loch_slice_of(wal.data + before, wal.len - before));
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(flush_of(s), gen.lsn);
    loch_buf_fini(&wal);
    teardown();
}

static void only_so_many_look_at_a_time(void **state)
{
    struct safekeeper *s = &w.sks[0];
    uint32_t most = 0, idle = 0;

    (void)state;
    setup(MANY);
    sk_start(s);
    for (uint32_t i = 0; i < MANY; i++)
        create(s, i);
    sim_world_run(w.sim, 5 * SECOND_US);
    for (uint32_t i = 0; i < MANY; i++)
        form(i); /* its peers are down */
    const uint64_t began_us = sim_world_now_us(w.sim);
    while (idle < MANY || most == 0) {
        assert_true(sim_world_now_us(w.sim) - began_us < 600 * SECOND_US);
        assert_true(sim_world_step(w.sim));
        assert_true(s->d->looks.count <= SK_LOOKS_MAX);
        most = s->d->looks.count > most ? s->d->looks.count : most;
        for (idle = 0; idle < MANY && sk_recovery_idle(timeline_on(s, idle)); idle++)
            ;
    }
    assert_int_equal(most, SK_LOOKS_MAX);
    assert_int_equal(s->d->looks.count, 0);
    assert_null(s->d->looks.first);
    for (uint32_t i = 0; i < MANY; i++) { /* stopped while they stand in line */
        sk_recovery_look(timeline_on(s, i));
        sim_world_run(w.sim, 1000);
    }
    for (uint32_t i = 0; i < MANY; i++)
        (void)sk_recovery_stop(timeline_on(s, MANY - 1 - i));
    sim_world_run(w.sim, 10 * SECOND_US);
    assert_int_equal(s->d->looks.count, 0);
    assert_null(s->d->looks.first);
    assert_null(s->d->looks.last);
    teardown();
}

/* With some WAL, and over its limit. */
static void hold(const struct safekeeper *s)
{
    struct loch_buf wal = {0};
    struct wal_gen gen;

    wal_gen_init(&gen, START_LSN, START_PREV, SYSTEM_ID, 42); /* as write_to_two's begins */
    (void)wal_gen_record(&gen, &wal, 8000);
    append(s, START_LSN, loch_buf_slice(&wal));
    loch_buf_fini(&wal);
    s->d->limits.timeline_bytes = 1;
    sim_world_run(w.sim, 3 * SECOND_US);
    assert_true(timeline_on(s, 0)->hold[0] != '\0');
}

static struct sk_conn *follower_of(const struct safekeeper *s)
{
    for (struct sk_conn *c = s->d->conns; c != NULL; c = c->next)
        if (c->kind == SK_CONN_PULL && c->mode == LOCH_PULL_FLUSHED && !c->gone)
            return c;
    return NULL;
}

static void who_is_held_is_not_told_without_end(void **state)
{
    const struct safekeeper *donor = NULL;

    (void)state;
    all_lead();
    hold(&w.sks[2]);
    const loch_lsn all = write_to_two();
    sim_world_run(w.sim, 5 * SECOND_US);
    for (uint32_t i = 0; i < 2; i++)
        if (follower_of(&w.sks[i]) != NULL)
            donor = &w.sks[i];
    assert_non_null(donor);
    for (int i = 0; i < 30000; i++) /* as with every commit */
        sk_sender_kick(timeline_on(donor, 0), true);
    assert_true(loch_stream_queued(follower_of(donor)->stream) < (2u << 20));
    assert_true(follower_of(donor)->state_due);
    assert_true(flush_of(&w.sks[2]) < all);
    w.sks[2].d->limits.timeline_bytes = 0;
    const uint64_t began_us = sim_world_now_us(w.sim);
    while (flush_of(&w.sks[2]) < all) {
        assert_true(sim_world_now_us(w.sim) - began_us < 12 * SECOND_US);
        assert_true(sim_world_step(w.sim));
    }
    teardown();
}

static void who_is_held_looks(void **state)
{
    struct safekeeper *s = &w.sks[0];

    (void)state;
    all_lead();
    hold(s);
    sk_timeline_gone(timeline_on(s, 0), CONN);
    sk_recovery_look(timeline_on(s, 0));
    assert_false(sk_recovery_idle(timeline_on(s, 0)));
    sim_world_run(w.sim, 5 * SECOND_US);
    assert_true(timeline_on(s, 0)->hold[0] != '\0');
    assert_true(sk_recovery_idle(timeline_on(s, 0)));
    assert_int_equal(s->d->looks.count, 0);
    teardown();
}

/* ---- parked ---- */

static jmp_buf stopped;
static bool may_stop;

_Noreturn void __real_sk_daemon_fail_stop(const char *what, loch_status st);
_Noreturn void __wrap_sk_daemon_fail_stop(const char *what, loch_status st);

/* The linker puts it in the place of the product's own, which ends the process. */
_Noreturn void __wrap_sk_daemon_fail_stop(const char *what, loch_status st)
{
    if (!may_stop)
        __real_sk_daemon_fail_stop(what, st);
    may_stop = false;
    longjmp(stopped, 1);
}

/* Does the process end in the next ten seconds? */
static bool stops(void)
{
    if (setjmp(stopped) != 0)
        return true;
    may_stop = true;
    sim_world_run(w.sim, 10 * SECOND_US);
    may_stop = false;
    return false;
}

/* One more record is on its way to the disk when the timeline is parked; `fails`: and does not get
 * there. */
static void park_while_it_writes(bool fails)
{
    const struct safekeeper *s = &w.sks[0];
    struct loch_buf wal = {0};
    struct wal_gen gen;

    one_leads(&gen, &wal);
    const size_t before = wal.len;
    const loch_lsn at = gen.lsn;
    (void)wal_gen_record(&gen, &wal, 500);
    sim_node_fail_disk(s->node, fails ? 1 : 0);
    append(s, at, loch_slice_of(wal.data + before, wal.len - before));
    sk_timeline_park(timeline_on(s, 0), LOCH_E_KEY_REVOKED, "revoked");
    loch_buf_fini(&wal);
}

static void a_write_that_fails_after_the_park_ends_the_process(void **state)
{
    (void)state;
    park_while_it_writes(false);
    assert_false(stops());
    assert_int_equal(timeline_on(&w.sks[0], 0)->state, SK_ACTIVE);
    teardown();
    park_while_it_writes(true);
    assert_true(stops());
    teardown();
}

static void what_was_synced_before_the_park_must_be_there(void **state)
{
    const struct safekeeper *s = &w.sks[0];
    struct loch_buf wal = {0};
    char path[SK_PATH_BYTES];
    struct wal_gen gen;

    (void)state;
    one_leads(&gen, &wal);
    struct sk_timeline *tl = timeline_on(s, 0);
    sk_wal_file_path(tl->dir, sk_store_last_seq(tl->store), path);
    sk_timeline_park(tl, LOCH_E_KEY_REVOKED, "revoked");
    sim_world_run(w.sim, 6 * SECOND_US);
    assert_int_equal(tl->state, SK_ACTIVE);
    assert_int_equal(flush_of(s), gen.lsn);
    sk_timeline_park(tl, LOCH_E_KEY_REVOKED, "revoked");
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(tl->state, SK_WAITING);
    assert_ok(loch_env_truncate_file(s->d->env, path, LOCH_WAL_HEAD_BYTES));
    sim_world_run(w.sim, 6 * SECOND_US);
    assert_int_equal(tl->state, SK_BROKEN);
    assert_non_null(strstr(tl->why, "was synced up to"));
    loch_buf_fini(&wal);
    teardown();
}

/* ---- computes that connect ---- */

struct caller {
    struct loch_tls_client *tls;
    struct loch_stream *stream; /* NULL: not yet, or no longer */
    struct loch_env *env;
    uint32_t replies[LOCH_WAL_ERROR + 1]; /* that came, by type */
    struct loch_wal_append_reply reply;   /* the newest */
    uint64_t said_ms, most_gap_ms; /* what the APPEND_REPLYs prove; the longest without more */
};

/* Each answer proves more than the one before, and nothing of the future. */
static void take_reply(struct caller *c, struct loch_slice payload)
{
    const uint64_t now_ms = loch_env_now_ns(c->env) / 1000000u;

    assert_ok(loch_wal_append_reply_decode(payload, &c->reply));
    const uint64_t said_ms = loch_wal_said_ms(&c->reply, UINT64_MAX);
    assert_true(said_ms <= now_ms);
    assert_true(said_ms >= c->said_ms);
    if (c->said_ms != 0)
        c->most_gap_ms = loch_max_u64(c->most_gap_ms, now_ms - c->said_ms);
    c->said_ms = said_ms;
}

static loch_status caller_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct caller *c = arg;

    assert_true(type <= LOCH_WAL_ERROR);
    c->replies[type]++;
    if (type == LOCH_WAL_APPEND_REPLY)
        take_reply(c, payload);
    return LOCH_OK;
}

static void caller_closed(void *arg, loch_status st)
{
    (void)st;
    ((struct caller *)arg)->stream = NULL;
}

static const struct loch_stream_events caller_events = {.frame = caller_frame,
                                                        .closed = caller_closed};

static void caller_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct caller *c = arg;

    assert_ok(st);
    loch_tls_client_destroy(c->tls);
    c->stream = stream;
    loch_stream_attach(stream, &caller_events, c);
}

/* A connection of the compute of this epoch to the first safekeeper. */
static void call(struct caller *c, struct loch_env *env, struct loch_keys *keys, uint64_t epoch)
{
    struct loch_psk_identity id = {.version = 1,
                                   .client_role = LOCH_ROLE_COMPUTE,
                                   .server_role = LOCH_ROLE_SAFEKEEPER,
                                   .rights = LOCH_RIGHT_WAL_PUSH,
                                   .cluster = cluster,
                                   .tenant = tenant,
                                   .timeline = timeline_of(0),
                                   .client_id = {{7}},
                                   .client_boot = {{8}},
                                   .server_node = w.sks[0].id,
                                   .compute_epoch = epoch};
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};

    *c = (struct caller){.env = env};
    assert_ok(loch_keys_psk(keys, &id, &psk));
    assert_ok(loch_psk_identity_encode(&id, &encoded));
    assert_ok(loch_tls_client_create(loch_buf_slice(&encoded), &psk, &c->tls));
    assert_ok(loch_env_connect(env, w.sks[0].address, c->tls, 500, caller_connected, c));
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
    sim_world_run(w.sim, SECOND_US / 20);
    assert_non_null(c->stream);
}

static void a_compute_has_only_so_many_connections(void **state)
{
    struct caller others[2] = {{0}};
    struct caller callers[40] = {{0}};
    const uint32_t count = sizeof callers / sizeof callers[0];

    (void)state;
    setup(1);
    sk_start(&w.sks[0]);
    create(&w.sks[0], 0);
    sim_world_run(w.sim, SECOND_US);
    struct sim_node *node = sim_node_create(w.sim, "compute");
    struct loch_env *env = sim_node_start(node);
    struct loch_keys *keys = open_keys(NULL, LOCH_ROLE_TOOL);
    assert_ok(loch_keys_tenant_load(keys, &tenant));
    call(&others[0], env, keys, 1); /* computes before it and after it */
    call(&others[1], env, keys, 3);
    for (uint32_t i = 0; i < count; i++) {
        call(&callers[i], env, keys, 2);
        assert_true(w.sks[0].d->conn_count <= 2 + SK_COMPUTE_CONNECTIONS_MAX);
    }
    for (uint32_t i = 0; i < count; i++) /* the newest stay */
        assert_true((callers[i].stream != NULL) == (i >= count - SK_COMPUTE_CONNECTIONS_MAX));
    assert_true(others[0].stream != NULL && others[1].stream != NULL);
    sim_node_kill(node);
    loch_keys_destroy(keys);
    teardown();
}

/* ---- a compute whose WAL waits ---- */

#define ENCODE(out_, name_, ...)                                                                   \
    do {                                                                                           \
        struct loch_writer w_;                                                                     \
        loch_writer_init(&w_, out_);                                                               \
        loch_wal_##name_##_encode(&w_, &(struct loch_wal_##name_)__VA_ARGS__);                     \
        assert_ok(loch_writer_finish(&w_));                                                        \
    } while (0)

static void send_and_run(struct caller *c, struct loch_buf *frame)
{
    loch_stream_send(c->stream, frame);
    sim_world_run(w.sim, SECOND_US / 10);
}

/* Leads the first safekeeper's timeline over a connection of its own. */
static void lead_on(struct caller *c, struct loch_env *env, struct loch_keys *keys)
{
    struct loch_term_start h[] = {{0, START_LSN}, {term, START_LSN}};
    struct loch_buf frame = {0};

    call(c, env, keys, 1);
    ENCODE(&frame, hello,
           {.version = LOCH_WIRE_WAL_VERSION,
            .tenant = tenant,
            .timeline = timeline_of(0),
            .generation = 1,
            .system_id = SYSTEM_ID,
            .pg_version = 150020,
            .segment_bytes = WAL_GEN_SEGMENT_BYTES});
    send_and_run(c, &frame);
    assert_int_equal(c->replies[LOCH_WAL_HELLO_REPLY], 1);
    ENCODE(&frame, vote, {.term = term, .compute_epoch = 1, .generation = 1});
    send_and_run(c, &frame);
    ENCODE(&frame, elected, {.term = term, .generation = 1, .history = {h, 2}});
    send_and_run(c, &frame);
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(c->replies[LOCH_WAL_ELECTED_REPLY], 1);
}

static void append_on(struct caller *c, loch_lsn begin, struct loch_slice bytes)
{
    struct loch_buf frame = {0};

    ENCODE(&frame, append,
           {.term = term,
            .generation = 1,
            .begin = begin,
            .stamp_ms = loch_env_now_ns(c->env) / 1000000u,
            .bytes = bytes});
    send_and_run(c, &frame);
}

/* While its timeline is held a compute hears, several times in each second of its lease, that the
 * safekeeper lives; and its WAL is taken when there is room. */
static void who_waits_is_answered(void **state)
{
    struct loch_buf wal = {0};
    struct caller c;
    struct wal_gen gen;

    (void)state;
    setup(1);
    sk_start(&w.sks[0]);
    w.sks[0].d->lease_settings.poll_ms = 300;
    w.sks[0].d->lease_settings.lease_ms = 700;
    create(&w.sks[0], 0);
    sim_world_run(w.sim, SECOND_US);
    form(0);
    sim_world_run(w.sim, 10 * SECOND_US);
    struct sim_node *node = sim_node_create(w.sim, "compute");
    struct loch_env *env = sim_node_start(node);
    struct loch_keys *keys = open_keys(NULL, LOCH_ROLE_TOOL);
    assert_ok(loch_keys_tenant_load(keys, &tenant));
    wal_gen_init(&gen, START_LSN, START_PREV, SYSTEM_ID, 42);
    (void)wal_gen_record(&gen, &wal, 8000);
    const loch_lsn first = gen.lsn;
    const size_t first_bytes = wal.len;
    (void)wal_gen_record(&gen, &wal, 500);
    const struct loch_slice second = loch_slice_of(wal.data + first_bytes, wal.len - first_bytes);

    lead_on(&c, env, keys);
    append_on(&c, START_LSN, loch_slice_of(wal.data, first_bytes));
    sim_world_run(w.sim, SECOND_US);
    assert_int_equal(c.reply.flush_lsn, first);
    w.sks[0].d->limits.timeline_bytes = 1;
    sim_world_run(w.sim, 3 * SECOND_US);
    append_on(&c, START_LSN + first_bytes, second);
    assert_int_equal(c.replies[LOCH_WAL_ERROR], 1); /* it is told why */
    sim_world_run(w.sim, SECOND_US);
    for (int i = 0; i < 3; i++) { /* its next connections wait, a minute each */
        lead_on(&c, env, keys);
        append_on(&c, START_LSN + first_bytes, second);
        sim_world_run(w.sim, 55 * SECOND_US);
        assert_int_equal(c.replies[LOCH_WAL_ERROR], 0);
        assert_true(c.replies[LOCH_WAL_APPEND_REPLY] >= 150);
        assert_in_range(c.most_gap_ms, 1, 500);
        assert_int_equal(c.reply.flush_lsn, first);
        if (i == 2)
            break;
        sim_world_run(w.sim, 10 * SECOND_US);
        assert_int_equal(c.replies[LOCH_WAL_ERROR], 1);
        assert_null(c.stream);
    }
    w.sks[0].d->limits.timeline_bytes = 0;
    sim_world_run(w.sim, 3 * SECOND_US);
    assert_int_equal(c.reply.flush_lsn, gen.lsn);
    assert_null(w.sks[0].d->beats);
    loch_buf_fini(&wal);
    sim_node_kill(node);
    loch_keys_destroy(keys);
    teardown();
}

/* What comes behind much WAL does not make a safekeeper seem dead. */
static void a_late_append_proves_no_less(void **state)
{
    struct caller c;
    struct loch_buf frame = {0};

    (void)state;
    setup(1);
    sk_start(&w.sks[0]);
    create(&w.sks[0], 0);
    sim_world_run(w.sim, SECOND_US);
    form(0);
    sim_world_run(w.sim, 10 * SECOND_US);
    struct sim_node *node = sim_node_create(w.sim, "compute");
    struct loch_env *env = sim_node_start(node);
    struct loch_keys *keys = open_keys(NULL, LOCH_ROLE_TOOL);
    assert_ok(loch_keys_tenant_load(keys, &tenant));
    lead_on(&c, env, keys);
    append_on(&c, START_LSN, (struct loch_slice){0});
    for (uint64_t late_ms = 100; late_ms <= 5000; late_ms += 700) {
        const uint64_t now_ms = loch_env_now_ns(env) / 1000000u;
        ENCODE(&frame, append,
               {.term = term, .generation = 1, .begin = START_LSN, .stamp_ms = now_ms - late_ms});
        send_and_run(&c, &frame);
        assert_true(c.said_ms + 200 > now_ms);
        sim_world_run(w.sim, 5 * SECOND_US);
    }
    const uint64_t now_ms = loch_env_now_ns(env) / 1000000u;
    sim_world_run(w.sim, 2000 * SECOND_US); /* as the clocks have gone apart, maybe */
    append_on(&c, START_LSN, (struct loch_slice){0});
    assert_true(c.reply.echo_ms > now_ms);
    sim_node_kill(node);
    loch_keys_destroy(keys);
    teardown();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_silent_donor_is_left),
        cmocka_unit_test(a_history_that_cannot_be_is_not_followed),
        cmocka_unit_test(only_so_many_look_at_a_time),
        cmocka_unit_test(who_is_held_is_not_told_without_end),
        cmocka_unit_test(who_is_held_looks),
        cmocka_unit_test(who_waits_is_answered),
        cmocka_unit_test(a_late_append_proves_no_less),
        cmocka_unit_test(a_write_that_fails_after_the_park_ends_the_process),
        cmocka_unit_test(what_was_synced_before_the_park_must_be_there),
        cmocka_unit_test(a_compute_has_only_so_many_connections)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
