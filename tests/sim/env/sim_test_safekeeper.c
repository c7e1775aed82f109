/* Three safekeepers, whole (daemon, timelines, acceptors, stores, services, recovery from peers),
 * computes that propose synthetic WAL, and a reader of what is committed, in the simulated world.
 * Every seed is a story in which safekeepers are killed or lose their power (and what they had not
 * synced), computes take over from one another, networks part and join. Held against every seed:
 * nothing acknowledged is lost or changed, two leaders never acknowledge different bytes, what the
 * reader was given is final, no crash is taken for damage, and in the end all logs are equal and
 * complete.
 */
#include "../unit.h"
#include "sim_env.h"
#include "sim_reader.h"
#include "timeline.h"
#include "wal_gen.h"

#include "loch/base/log.h"
#include "loch/consensus/proposer.h"
#include "loch/crypto/tls.h"

#include <stdio.h>
#include <unistd.h>

#define SAFEKEEPERS 3u
#define START_LSN   UINT64_C(0x1500140)
#define START_PREV  UINT64_C(0x15000C8)
#define SYSTEM_ID   UINT64_C(7300000000000000001)
#define TRUTH_BYTES (32u << 20)
#define PIECE_BYTES (32u << 10)
#define WINDOW      (48u << 10) /* WAL a compute keeps: who is below recovers from its peers */
#define AHEAD       (96u << 10) /* most WAL not yet acknowledged */

static const struct loch_id cluster = {{9}}, tenant = {{1}}, timeline = {{2}};

struct safekeeper {
    struct sim_node *node;
    char name[16], address[32];
    struct loch_id id;
    struct sk_daemon *d; /* NULL: down */
};

struct compute;

struct member {
    struct compute *c;
    uint32_t index;
    struct loch_tls_client *tls;
    struct loch_stream *stream;
    struct loch_timer *timer;
};

struct compute {
    struct sim_node *node;
    struct loch_env *env;
    const char *name;
    unsigned machine;
    uint64_t epoch;
    struct loch_keys *keys;
    struct loch_id boot;
    struct loch_proposer *proposer;
    struct loch_proposer_effects effects;
    struct member members[SAFEKEEPERS];
    struct wal_gen gen;
    struct loch_buf wal; /* all of it since `l` */
    loch_lsn l, acked;
    bool leading, over;
};

static struct {
    struct sim_world *sim;
    struct sim_reader *reader; /* a pageserver's half */
    struct loch_env *reader_env;
    struct loch_keys *reader_keys;
    struct safekeeper sks[SAFEKEEPERS];
    struct loch_member members[SAFEKEEPERS];
    struct compute *current, *former;
    struct sim_node *machines[2]; /* that computes run on */
    bool taken[2];
    uint64_t epochs;
    loch_lsn acked;
    uint8_t *truth, *known;
    unsigned elections, commits, kills, power_cuts, fenced;
} story;

/* Outside the simulation: the object store with the keyring, and the CMK. */
static struct {
    char dir[64];
    struct loch_env *env;
    struct loch_objstore *store;
    struct loch_kms *kms;
    struct loch_metrics *metrics;
} real;

static uint64_t draw(uint64_t n)
{
    return sim_world_draw(story.sim, n);
}

static struct loch_keys *open_keys(const struct loch_id *node, uint8_t role)
{
    struct loch_keys_options options = {
        .store = real.store, .kms = real.kms, .cluster = cluster, .role = role};
    struct loch_keys *keys = NULL;

    if (node != NULL)
        options.node = *node;
    assert_ok(loch_keys_create(&options, &keys));
    return keys;
}

/* Committed WAL is final: whoever tells it first tells the truth. */
static void believe(loch_lsn begin, struct loch_slice bytes, const char *who)
{
    assert_true(begin - START_LSN + bytes.len <= TRUTH_BYTES);
    for (size_t i = 0; i < bytes.len; i++) {
        size_t at = begin - START_LSN + i;
        if (story.known[at] && story.truth[at] != bytes.data[i])
            fail_msg("%s: what was final has changed at %lx", who, begin + i);
        story.known[at] = 1;
        story.truth[at] = bytes.data[i];
    }
}

/* ---- safekeepers ---- */

static void sk_start(struct safekeeper *s)
{
    struct sk_daemon *d = calloc(1, sizeof *d);

    assert_non_null(d);
    d->env = sim_node_start(s->node);
    d->dir = "/sk";
    d->cluster = cluster;
    d->node = s->id;
    d->file_bytes = 64u << 10;
    d->piece_bytes = PIECE_BYTES;
    d->journal_busy = 1 + (uint32_t)sim_world_draw(story.sim, 2); /* 2: never, for one timeline */
    d->journal_half_bytes = 192u << 10;
    d->journal_slow_ns = UINT64_MAX;
    d->store = real.store;
    d->metrics = real.metrics;
    d->keys = open_keys(&s->id, LOCH_ROLE_SAFEKEEPER);
    for (uint32_t i = 0; i < SAFEKEEPERS; i++)
        if (&story.sks[i] != s)
            d->peers[d->peer_count++] =
                (struct sk_peer){.node = story.sks[i].id, .address = story.sks[i].address};
    assert_ok(loch_tls_server_create(loch_keys_psk_lookup, d->keys, &d->tls));
    assert_ok(loch_env_mkdirs(d->env, d->dir));
    assert_ok(sk_daemon_serve(d, s->address));
    s->d = d;
}

static void sk_stop(struct safekeeper *s, bool power)
{
    if (power)
        sim_node_power_cut(s->node);
    else
        sim_node_kill(s->node);
    *(power ? &story.power_cuts : &story.kills) += 1;
    loch_keys_destroy(s->d->keys);
    s->d = NULL; /* a dead process frees nothing */
}

static struct sk_timeline *sk_timeline_of(const struct safekeeper *s)
{
    return s->d == NULL ? NULL : sk_daemon_find(s->d, &tenant, &timeline);
}

static void sk_check(const struct safekeeper *s)
{
    const struct sk_timeline *tl = sk_timeline_of(s);

    if (s->d != NULL)
        assert_non_null(tl);
    if (tl != NULL && tl->state == SK_BROKEN)
        fail_msg("%s: a crash was taken for damage: %s", s->name, tl->why);
}

/* ---- computes ---- */

static struct loch_proposer_now now(struct compute *c)
{
    struct loch_proposer_now n = {.ms = loch_env_now_ns(c->env) / 1000000};
    assert_ok(loch_env_random(c->env, &n.random, sizeof n.random));
    return n;
}

static void run_effects(struct compute *c);

static void propose(struct compute *c)
{
    if (!c->leading || c->over)
        return;
    while (c->gen.lsn - c->acked < AHEAD && draw(8) != 0)
        (void)wal_gen_record(&c->gen, &c->wal, (uint32_t)(1 + draw(draw(6) == 0 ? 20000 : 900)));
    loch_lsn start = c->gen.lsn - c->l > WINDOW ? c->gen.lsn - WINDOW : c->l;
    assert_ok(loch_proposer_wal(c->proposer, now(c), start, c->gen.lsn, &c->effects));
}

static void send_message(struct compute *c, const struct loch_proposer_effect *e)
{
    const struct loch_proposer_message *m = &e->message;
    struct loch_buf out = {0};
    struct loch_writer w;

    if (c->members[e->member].stream == NULL)
        return;
    loch_writer_init(&w, &out);
    if (m->type == LOCH_WAL_HELLO) {
        loch_wal_hello_encode(&w, &m->u.hello);
    } else if (m->type == LOCH_WAL_VOTE) {
        loch_wal_vote_encode(&w, &m->u.vote);
    } else if (m->type == LOCH_WAL_ELECTED) {
        loch_wal_elected_encode(&w, &m->u.elected);
    } else {
        struct loch_wal_append a = m->u.append;
        if (m->append_len > 0)
            a.bytes = loch_slice_of(c->wal.data + (a.begin - c->l), m->append_len);
        loch_wal_append_encode(&w, &a);
    }
    assert_ok(loch_writer_finish(&w));
    loch_stream_send(c->members[e->member].stream, &out);
}

static void elected(struct compute *c)
{
    struct loch_proposer_view v;

    loch_proposer_look(c->proposer, &v);
    if (v.start_lsn < story.acked)
        fail_msg("elected at %lx, acknowledged up to %lx", v.start_lsn, story.acked);
    c->l = c->acked = v.start_lsn;
    c->wal.len = 0;
    wal_gen_init(&c->gen, v.start_lsn, v.start_prev_lsn, SYSTEM_ID, v.term);
    c->leading = false;
    story.elections++;
}

/* What is acknowledged is the truth from then on. */
static void committed(struct compute *c, loch_lsn lsn)
{
    assert_true(lsn >= c->acked);
    assert_true(lsn - START_LSN <= TRUTH_BYTES);
    if (lsn > c->acked)
        believe(c->acked, loch_slice_of(c->wal.data + (c->acked - c->l), lsn - c->acked),
                "a leader");
    c->acked = lsn;
    if (lsn > story.acked)
        story.acked = lsn;
    c->leading = true;
    story.commits++;
}

static void carry_out(struct compute *c, const struct loch_proposer_effect *e)
{
    switch (e->kind) {
    case LOCH_PROPOSER_SEND:
        send_message(c, e);
        break;
    case LOCH_PROPOSER_CLOSE:
        if (c->members[e->member].stream != NULL)
            loch_stream_close(c->members[e->member].stream);
        break;
    case LOCH_PROPOSER_ELECTED:
        elected(c);
        break;
    case LOCH_PROPOSER_COMMIT:
        committed(c, e->lsn);
        break;
    case LOCH_PROPOSER_FENCED:
        c->over = true;
        story.fenced++;
        break;
    }
}

static void run_effects(struct compute *c)
{
    bool grew = false;

    for (size_t i = 0; i < c->effects.count; i++) {
        struct loch_proposer_effect e = c->effects.items[i];
        grew |= e.kind == LOCH_PROPOSER_COMMIT;
        carry_out(c, &e);
    }
    c->effects.count = 0;
    if (grew) {
        propose(c);
        for (size_t i = 0; i < c->effects.count; i++) {
            struct loch_proposer_effect e = c->effects.items[i];
            assert_int_equal(e.kind, LOCH_PROPOSER_SEND);
            carry_out(c, &e);
        }
        c->effects.count = 0;
    }
}

static loch_status frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct member *m = arg;
    struct compute *c = m->c;
    struct loch_wal_hello_reply hello;
    struct loch_wal_vote_reply vote;
    struct loch_wal_elected_reply done;
    struct loch_wal_append_reply append;
    struct loch_wal_fenced fenced;

    if (c->over)
        return LOCH_OK;
    if (type == LOCH_WAL_HELLO_REPLY) {
        assert_ok(loch_wal_hello_reply_decode(payload, &hello));
        assert_ok(loch_proposer_hello_reply(c->proposer, now(c), m->index, &hello, &c->effects));
    } else if (type == LOCH_WAL_VOTE_REPLY) {
        assert_ok(loch_wal_vote_reply_decode(payload, &vote));
        assert_ok(loch_proposer_vote_reply(c->proposer, now(c), m->index, &vote, &c->effects));
        loch_term_history_fini(&vote.history);
    } else if (type == LOCH_WAL_ELECTED_REPLY) {
        assert_ok(loch_wal_elected_reply_decode(payload, &done));
        assert_ok(loch_proposer_elected_reply(c->proposer, now(c), m->index, &done, &c->effects));
    } else if (type == LOCH_WAL_APPEND_REPLY) {
        assert_ok(loch_wal_append_reply_decode(payload, &append));
        assert_ok(loch_proposer_append_reply(c->proposer, now(c), m->index, &append, &c->effects));
    } else if (type == LOCH_WAL_FENCED) {
        assert_ok(loch_wal_fenced_decode(payload, &fenced));
        assert_ok(loch_proposer_fenced(c->proposer, m->index, &fenced, &c->effects));
    } else {
        assert_int_equal(type, LOCH_WAL_ERROR); /* a timeline that is not open yet */
    }
    run_effects(c);
    return LOCH_OK;
}

static void connect_now(void *arg);

static void closed(void *arg, loch_status st)
{
    struct member *m = arg;

    (void)st;
    m->stream = NULL;
    if (m->c->over)
        return;
    loch_proposer_disconnected(m->c->proposer, m->index);
    assert_ok(loch_env_timer(m->c->env, 50, &m->timer, connect_now, m));
}

static const struct loch_stream_events events = {.frame = frame, .closed = closed};

static void connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct member *m = arg;

    loch_tls_client_destroy(m->tls);
    m->tls = NULL;
    if (!loch_is_ok(st)) {
        assert_ok(loch_env_timer(m->c->env, 50, &m->timer, connect_now, m));
        return;
    }
    m->stream = stream;
    loch_stream_attach(stream, &events, m);
    if (m->c->over)
        return;
    assert_ok(loch_proposer_connected(m->c->proposer, now(m->c), m->index, &m->c->effects));
    run_effects(m->c);
}

static void connect_now(void *arg)
{
    struct member *m = arg;
    struct compute *c = m->c;
    struct loch_psk_identity id = {.version = 1,
                                   .client_role = LOCH_ROLE_COMPUTE,
                                   .server_role = LOCH_ROLE_SAFEKEEPER,
                                   .rights = LOCH_RIGHT_WAL_PUSH,
                                   .cluster = cluster,
                                   .tenant = tenant,
                                   .timeline = timeline,
                                   .client_id = {{7}},
                                   .client_boot = c->boot,
                                   .server_node = story.sks[m->index].id,
                                   .compute_epoch = c->epoch};
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};

    m->timer = NULL;
    if (c->over)
        return;
    assert_ok(loch_keys_psk(c->keys, &id, &psk));
    assert_ok(loch_psk_identity_encode(&id, &encoded));
    assert_ok(loch_tls_client_create(loch_buf_slice(&encoded), &psk, &m->tls));
    assert_ok(loch_env_connect(c->env, story.sks[m->index].address, m->tls, 500, connected, m));
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
}

static void tick(void *arg)
{
    struct compute *c = arg;
    struct loch_timer *timer;

    if (c->over)
        return;
    propose(c);
    assert_ok(loch_proposer_tick(c->proposer, now(c), &c->effects));
    run_effects(c);
    assert_ok(loch_env_timer(c->env, 100, &timer, tick, c));
}

static struct compute *compute_start(void)
{
    struct compute *c = calloc(1, sizeof *c);
    struct loch_proposer_config config = {.hello = {.version = LOCH_WIRE_WAL_VERSION,
                                                    .tenant = tenant,
                                                    .timeline = timeline,
                                                    .system_id = SYSTEM_ID,
                                                    .pg_version = 150020,
                                                    .segment_bytes = WAL_GEN_SEGMENT_BYTES},
                                          .window_bytes = 32u << 10,
                                          .reply_timeout_ms = 2000,
                                          .election_timeout_ms = 1000,
                                          .heartbeat_ms = 200};

    assert_non_null(c);
    c->epoch = config.compute_epoch = ++story.epochs;
    c->machine = story.taken[0];
    assert_false(story.taken[c->machine]);
    story.taken[c->machine] = true;
    c->name = c->machine == 0 ? "compute-a" : "compute-b";
    c->node = story.machines[c->machine];
    c->env = sim_node_start(c->node);
    c->keys = open_keys(NULL, LOCH_ROLE_TOOL);
    assert_ok(loch_keys_tenant_load(c->keys, &tenant));
    assert_ok(loch_env_random(c->env, c->boot.bytes, sizeof c->boot.bytes));
    config.membership =
        (struct loch_membership){.generation = 1, .members = story.members, .count = SAFEKEEPERS};
    assert_ok(loch_proposer_create(&config, &c->proposer));
    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        c->members[i] = (struct member){.c = c, .index = i};
        assert_ok(loch_env_timer(c->env, 1, &c->members[i].timer, connect_now, &c->members[i]));
    }
    struct loch_timer *timer;
    assert_ok(loch_env_timer(c->env, 100, &timer, tick, c));
    return c;
}

static void compute_stop(struct compute **c)
{
    if (*c == NULL)
        return;
    sim_node_kill((*c)->node);
    story.taken[(*c)->machine] = false;
    loch_keys_destroy((*c)->keys);
    loch_proposer_destroy((*c)->proposer);
    loch_proposer_effects_fini(&(*c)->effects);
    loch_buf_fini(&(*c)->wal);
    free(*c);
    *c = NULL;
}

/* ---- the reader ---- */

static void reader_got(void *arg, loch_lsn begin, struct loch_slice bytes)
{
    (void)arg;
    believe(begin, bytes, "the reader");
}

static void reader_start(void)
{
    story.reader_env = sim_node_start(sim_node_create(story.sim, "pageserver"));
    story.reader_keys = open_keys(NULL, LOCH_ROLE_TOOL);
    assert_ok(loch_keys_tenant_load(story.reader_keys, &tenant));
    struct sim_reader_options options = {.world = story.sim,
                                         .env = story.reader_env,
                                         .keys = story.reader_keys,
                                         .cluster = cluster,
                                         .tenant = tenant,
                                         .timeline = timeline,
                                         .start = START_LSN,
                                         .count = SAFEKEEPERS,
                                         .got = reader_got};
    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        options.nodes[i] = story.sks[i].id;
        options.addresses[i] = story.sks[i].address;
    }
    story.reader = sim_reader_start(&options);
}

/* ---- the story ---- */

static bool forget_object(void *arg, const char *name, uint64_t size)
{
    (void)arg;
    (void)size;
    assert_ok(loch_objstore_delete(real.store, name));
    return true;
}

/* The archive of the story before. */
static void forget_archive(void)
{
    char id[2][LOCH_ID_TEXT_BYTES];
    char prefix[160];

    (void)snprintf(prefix, sizeof prefix, "tenants/%s/timelines/%s/wal/",
                   loch_id_format(&tenant, id[0]), loch_id_format(&timeline, id[1]));
    assert_ok(loch_objstore_list(real.store, prefix, forget_object, NULL));
}

/* The first configuration is handed round. */
static void form_membership(void)
{
    const struct loch_membership m = {
        .generation = 1, .members = story.members, .count = SAFEKEEPERS};

    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        struct safekeeper *s = &story.sks[i];
        story.members[i] = (struct loch_member){
            .id = sk_timeline_of(s)->control.member, .node = s->id, .in = LOCH_MEMBER_BOTH};
        (void)snprintf(story.members[i].address, sizeof story.members[i].address, "%s", s->address);
    }
    for (uint32_t i = 0; i < SAFEKEEPERS; i++)
        assert_ok(sk_timeline_configure(sk_timeline_of(&story.sks[i]), &m));
    sim_world_run(story.sim, 1000000);
}

static void begin(uint64_t seed)
{
    const struct sk_timeline_spec spec = {.start_lsn = START_LSN,
                                          .prev_lsn = START_PREV,
                                          .system_id = SYSTEM_ID,
                                          .pg_version = 150020,
                                          .segment_bytes = WAL_GEN_SEGMENT_BYTES};

    forget_archive();
    memset(&story, 0, sizeof story);
    story.sim = sim_world_create(&(struct sim_options){.seed = seed});
    story.acked = START_LSN;
    story.truth = malloc(TRUTH_BYTES);
    story.known = calloc(1, TRUTH_BYTES);
    assert_true(story.truth != NULL && story.known != NULL);
    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        struct safekeeper *s = &story.sks[i];
        (void)snprintf(s->name, sizeof s->name, "sk%u", i);
        (void)snprintf(s->address, sizeof s->address, "sk%u:7000", i);
        s->id = (struct loch_id){{(uint8_t)(20 + i)}};
        s->node = sim_node_create(story.sim, s->name);
    }
    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        struct sk_timeline *tl = NULL;
        sk_start(&story.sks[i]);
        assert_ok(sk_timeline_new(story.sks[i].d, &tenant, &timeline, &tl));
        assert_ok(sk_daemon_adopt(story.sks[i].d, tl));
        assert_ok(sk_timeline_open(tl, &spec));
    }
    story.machines[0] = sim_node_create(story.sim, "compute-a");
    story.machines[1] = sim_node_create(story.sim, "compute-b");
    sim_world_run(story.sim, 1000000);
    for (uint32_t i = 0; i < SAFEKEEPERS; i++)
        assert_int_equal(sk_timeline_of(&story.sks[i])->state, SK_ACTIVE);
    form_membership();
    story.current = compute_start();
    reader_start();
}

static void join_all(void)
{
    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        for (uint32_t k = i + 1; k < SAFEKEEPERS; k++)
            sim_join(story.sim, story.sks[i].name, story.sks[k].name);
        sim_join(story.sim, story.sks[i].name, "pageserver");
        if (story.current != NULL)
            sim_join(story.sim, story.current->name, story.sks[i].name);
        if (story.former != NULL)
            sim_join(story.sim, story.former->name, story.sks[i].name);
    }
}

static void misfortune(void)
{
    struct safekeeper *s = &story.sks[draw(SAFEKEEPERS)];
    struct safekeeper *other = &story.sks[draw(SAFEKEEPERS)];

    switch (draw(10)) {
    case 0:
    case 1:
        if (s->d != NULL)
            sk_stop(s, draw(3) != 0);
        break;
    case 2:
        for (uint32_t i = 0; i < SAFEKEEPERS && draw(4) == 0; i++)
            if (story.sks[i].d != NULL)
                sk_stop(&story.sks[i], true);
        break;
    case 3: /* a successor; the one before may live on and not know it */
        compute_stop(&story.former);
        story.former = story.current;
        story.current = compute_start();
        if (draw(2) == 0)
            compute_stop(&story.former);
        break;
    case 4:
        if (story.current != NULL)
            sim_part(story.sim, story.current->name, s->name);
        break;
    case 5:
        sim_part(story.sim, s->name, s != other ? other->name : "pageserver");
        break;
    case 6:
        (void)sim_reset_one(story.sim);
        break;
    default:
        join_all();
        break;
    }
    for (uint32_t i = 0; i < SAFEKEEPERS; i++)
        if (story.sks[i].d == NULL && draw(3) != 0)
            sk_start(&story.sks[i]);
}

struct reading {
    struct loch_buf wal;
    bool done;
};

static void got(void *arg, loch_status st, struct loch_buf *take_wal)
{
    struct reading *r = arg;

    assert_ok(st);
    assert_ok(loch_buf_append(&r->wal, take_wal->data, take_wal->len));
    r->done = true;
}

static void compare(const struct safekeeper *s)
{
    struct sk_timeline *tl = sk_timeline_of(s);
    struct reading r = {0};

    while (START_LSN + r.wal.len < story.acked) {
        loch_lsn from = START_LSN + r.wal.len;
        r.done = false;
        if (from < sk_store_first_lsn(tl->store))
            assert_ok(sk_archive_read(tl, from, got, &r));
        else
            assert_ok(sk_store_read(tl->store, from, story.acked, 1u << 20, got, &r));
        while (!r.done)
            assert_true(sim_world_step(story.sim));
    }
    believe(START_LSN, loch_buf_slice(&r.wal), s->name);
    loch_buf_fini(&r.wal);
}

static bool settled(void)
{
    for (uint32_t i = 0; i < SAFEKEEPERS; i++) {
        const struct sk_timeline *tl = sk_timeline_of(&story.sks[i]);
        struct loch_acceptor_view v;
        if (tl == NULL || tl->state != SK_ACTIVE)
            return false;
        loch_acceptor_look(tl->acceptor, &v);
        if (v.commit_lsn < story.acked || v.flush_lsn < story.acked)
            return false;
    }
    return story.current->leading && sim_reader_position(story.reader) >= story.acked;
}

static void end(void)
{
    compute_stop(&story.former);
    compute_stop(&story.current);
    story.current = compute_start();
    join_all();
    for (uint32_t i = 0; i < SAFEKEEPERS; i++)
        if (story.sks[i].d == NULL)
            sk_start(&story.sks[i]);
    sim_world_run(story.sim, 5000000);
    if (!story.current->leading)
        sim_world_run(story.sim, 60000000);
    assert_true(story.current->leading); /* all is well again, and it goes on */
    story.current->leading = false;      /* proposes nothing more */
    for (int i = 0; i < 200; i++) {
        sim_world_run(story.sim, 500000);
        story.current->leading = true;
        bool is = settled();
        story.current->leading = false;
        if (is)
            break;
        assert_true(i < 199);
    }
    for (uint32_t i = 0; i < SAFEKEEPERS; i++)
        compare(&story.sks[i]);
    compute_stop(&story.current);
    for (uint32_t i = 0; i < SAFEKEEPERS; i++)
        sk_stop(&story.sks[i], false);
    loch_keys_destroy(story.reader_keys);
    free(story.reader);
    free(story.truth);
    free(story.known);
    sim_world_destroy(story.sim);
}

static void run_seed(uint64_t seed)
{
    begin(seed);
    for (int i = 0; i < 60; i++) {
        sim_world_run(story.sim, 20000 + draw(draw(4) == 0 ? 4000000 : 600000));
        for (uint32_t k = 0; k < SAFEKEEPERS; k++)
            sk_check(&story.sks[k]);
        misfortune();
    }
    end();
}

static void setup(void)
{
    char text[128];

    (void)snprintf(real.dir, sizeof real.dir, "/tmp/sim-safekeeper-XXXXXX");
    assert_non_null(mkdtemp(real.dir));
    assert_ok(loch_env_real_create(&real.env));
    (void)snprintf(text, sizeof text, "%s/cmk.key", real.dir);
    assert_ok(loch_kms_file_create(text));
    (void)snprintf(text, sizeof text, "file:%s/cmk.key", real.dir);
    assert_ok(loch_kms_open(text, NULL, &real.kms));
    (void)snprintf(text, sizeof text, "%s/store", real.dir);
    assert_ok(loch_objstore_open_local(real.env, text, &real.store));
    assert_ok(loch_metrics_create("sim", &real.metrics));
    struct loch_keys *keys = open_keys(NULL, LOCH_ROLE_TOOL);
    assert_ok(loch_keys_tenant_create(keys, &tenant));
    assert_ok(loch_keys_tenant_load(keys, &tenant));
    assert_ok(loch_keys_add_timeline(keys, &tenant, &timeline));
    loch_keys_destroy(keys);
}

static void teardown(void)
{
    char command[128];

    loch_metrics_destroy(real.metrics);
    loch_objstore_close(real.store);
    loch_kms_close(real.kms);
    loch_env_real_destroy(real.env);
    (void)snprintf(command, sizeof command, "rm -rf %s", real.dir);
    assert_int_equal(system(command), 0);
}

static int64_t counted(const char *name)
{
    return loch_metric_value(loch_metrics_counter(real.metrics, name, "", NULL, 0));
}

static void seeds(void **state)
{
    const char *from = getenv("LOCH_SIM_FROM");
    const char *count = getenv("LOCH_SIM_COUNT");
    uint64_t first = from != NULL ? strtoull(from, NULL, 10) : 1;
    uint64_t n = count != NULL ? strtoull(count, NULL, 10) : 20;
    unsigned elections = 0, commits = 0, kills = 0, power_cuts = 0, fenced = 0;

    (void)state;
    loch_log_init("sim", getenv("LOCH_SIM_VERBOSE") != NULL ? LOCH_LOG_INFO : LOCH_LOG_ERROR);
    setup();
    for (uint64_t seed = first; seed < first + n; seed++) {
        (void)fprintf(stderr, "seed %lu\r", seed);
        run_seed(seed);
        elections += story.elections;
        commits += story.commits;
        kills += story.kills;
        power_cuts += story.power_cuts;
        fenced += story.fenced;
    }
    (void)fprintf(stderr,
                  "%lu seeds: %u elections, %u commits, %u kills, %u power cuts, %u fenced\n", n,
                  elections, commits, kills, power_cuts, fenced);
    int64_t recovered = counted("loch_safekeeper_recovered_bytes_total");
    int64_t archived = counted("loch_safekeeper_archived_bytes_total");
    int64_t trimmed = counted("loch_safekeeper_trimmed_bytes_total");
    int64_t archive_reads = counted("loch_safekeeper_archive_reads_total");
    int64_t zeroed = counted("loch_safekeeper_zeroed_bytes_total");
    (void)fprintf(stderr,
                  "%ld bytes recovered from peers, %ld archived, %ld trimmed, %ld zeros ahead\n",
                  recovered, archived, trimmed, zeroed);
    if (count == NULL) { /* the stories are about something */
        assert_true(elections > 40);
        assert_true(commits > 1000);
        assert_true(power_cuts > 40);
        assert_true(recovered > 10000);
        assert_true(archived > 1000000);
        assert_true(trimmed > 100000);
        assert_true(archive_reads > 0);
        assert_true(zeroed > 100000);
    }
    teardown();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(seeds)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
