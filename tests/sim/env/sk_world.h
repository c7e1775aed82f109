/* Three whole safekeepers in the simulated world, told by hand what a leader would say. */
#ifndef LOCH_TESTS_SIM_SK_WORLD_H
#define LOCH_TESTS_SIM_SK_WORLD_H

#include "../unit.h"
#include "service.h"
#include "sim_env.h"
#include "wal_gen.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/crypto/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SAFEKEEPERS 3u
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

static inline struct loch_id timeline_of(uint32_t i)
{
    return (struct loch_id){{2, (uint8_t)i}};
}

static inline struct loch_keys *open_keys(const struct loch_id *node, uint8_t role)
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
static inline void setup(uint32_t count)
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

static inline void teardown(void)
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

static inline void sk_start(struct safekeeper *s)
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

static inline struct sk_timeline *timeline_on(const struct safekeeper *s, uint32_t i)
{
    const struct loch_id timeline = timeline_of(i);

    return sk_daemon_find(s->d, &tenant, &timeline);
}

static inline void create(const struct safekeeper *s, uint32_t i)
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
static inline void form(uint32_t timeline)
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

static inline void lead_on(const struct safekeeper *s, uint32_t i)
{
    struct loch_term_start h[] = {{0, START_LSN}, {term, START_LSN}};
    const struct loch_wal_vote vote = {.term = term, .compute_epoch = 1, .generation = 1};
    const struct loch_wal_elected elected = {
        .term = term, .generation = 1, .history = {.entries = h, .count = 2}};

    sk_timeline_vote(timeline_on(s, i), from, &vote);
    sim_world_run(w.sim, SECOND_US);
    sk_timeline_elected(timeline_on(s, i), from, &elected);
    sim_world_run(w.sim, SECOND_US);
}

static inline void lead(const struct safekeeper *s)
{
    lead_on(s, 0);
}

static inline void append_on(const struct safekeeper *s, uint32_t i, loch_lsn begin,
                             struct loch_slice bytes)
{
    const struct loch_wal_append m = {
        .term = term, .generation = 1, .begin = begin, .bytes = bytes};

    sk_timeline_append(timeline_on(s, i), from, &m);
}

static inline void append(const struct safekeeper *s, loch_lsn begin, struct loch_slice bytes)
{
    append_on(s, 0, begin, bytes);
}

static inline loch_lsn flush_on(const struct safekeeper *s, uint32_t i)
{
    struct loch_acceptor_view v;

    loch_acceptor_look(timeline_on(s, i)->acceptor, &v);
    return v.flush_lsn;
}

static inline loch_lsn flush_of(const struct safekeeper *s)
{
    return flush_on(s, 0);
}

/* WAL_BYTES to the first `count` safekeepers; returns where it ends. */
static inline loch_lsn write_to(uint32_t count)
{
    struct loch_buf wal = {0};
    struct wal_gen gen;

    wal_gen_init(&gen, START_LSN, START_PREV, SYSTEM_ID, 42);
    while (wal.len < WAL_BYTES)
        (void)wal_gen_record(&gen, &wal, 8000);
    for (size_t at = 0; at < wal.len; at += LOCH_WAL_CHUNK_BYTES) {
        const size_t len = (size_t)loch_min_u64(LOCH_WAL_CHUNK_BYTES, wal.len - at);
        for (uint32_t i = 0; i < count; i++)
            append(&w.sks[i], START_LSN + at, loch_slice_of(wal.data + at, len));
        sim_world_run(w.sim, 20000);
    }
    sim_world_run(w.sim, SECOND_US);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(flush_of(&w.sks[i]), gen.lsn);
    loch_buf_fini(&wal);
    return gen.lsn;
}

/* Two have all, the third is told how far the leader is. */
static inline loch_lsn write_to_two(void)
{
    const loch_lsn end = write_to(2);

    append(&w.sks[2], end, (struct loch_slice){0});
    return end;
}

static inline int64_t given(uint32_t i)
{
    return loch_metric_value(w.sks[i].d->stats.pulled_bytes);
}

static inline void all_lead(void)
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

#endif
