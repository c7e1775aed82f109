/* A proposer without a PostgreSQL: drives safekeepers with synthetic, valid WAL and knows
 * afterwards what was acknowledged.
 *
 *   setup  makes the CMK file, the tenant's keyring and the timeline's keys
 *   run    is elected, keeps `--clients` records outstanding for `--seconds`, or until `--mib` MiB
 *          or `--commits` of them are acknowledged, or SIGTERM comes; then tells every member what
 *          is committed. Writes what it proposed into the truth file (offset = LSN - start) and
 *          the acknowledged LSN into the journal
 *   check  pulls the WAL from every safekeeper given and compares it with the truth
 *   junk   sends frames that make no sense, under a valid credential
 *
 * --as-tenant, --as-timeline: the credential is of another tenant or timeline than the messages
 * say.
 *
 * Exit: 0 good, 1 usage or failure, 7 fenced, 8 so much was not acknowledged in --seconds, 9
 * acknowledged WAL is lost or differs.
 */
#include "../unit/safekeeper/wal_gen.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/consensus/proposer.h"
#include "loch/crypto/psk.h"
#include "loch/crypto/tls.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define EXIT_FENCED  7
#define EXIT_FEWER   8
#define EXIT_LOST    9
#define WINDOW_BYTES (4u << 20)
#define CLIENTS_MAX  4096

struct tool;

struct member {
    struct tool *tool;
    uint32_t index;
    struct loch_id node;
    char address[64];
    struct loch_tls_client *tls;
    struct loch_stream *stream;
    struct loch_timer *timer;
    loch_lsn pulled; /* check */
    bool done;
};

struct tool {
    const char *mode, *store_path, *kms_uri, *truth_path, *journal_path;
    struct loch_id cluster, tenant, timeline, compute, boot;
    struct loch_id as_tenant, as_timeline; /* of the credential, when it is another's */
    uint64_t system_id, epoch, seconds, clients, record_bytes, most_bytes, most_commits;
    loch_lsn start_lsn, prev_lsn;
    uint32_t member_count;
    struct member members[LOCH_MEMBERS_MAX];
    struct loch_env *env;
    struct loch_keys *keys;
    struct loch_proposer *proposer;
    struct loch_proposer_effects effects;
    struct wal_gen gen;
    struct loch_buf window; /* [window_start, gen.lsn) */
    loch_lsn window_start;
    bool leading;
    loch_lsn ends[CLIENTS_MAX]; /* outstanding, a queue */
    size_t first, outstanding;
    int truth_fd, journal_fd;
    loch_lsn acked;
    uint64_t commits, started_ns, last_ack_ns, longest_stall_ns, ends_ns;
    unsigned late_ticks; /* since the load has ended */
    bool told_to_end;
    int exit_code;
};

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "sk_proposer: %s: %s\n", what, loch_error_text());
    exit(1);
}

static void must(loch_status st, const char *what)
{
    if (!loch_is_ok(st))
        die(what);
}

static void stop(struct tool *t, int code)
{
    if (t->exit_code == 0)
        t->exit_code = code;
    loch_env_stop(t->env);
}

static struct loch_proposer_now now(struct tool *t)
{
    struct loch_proposer_now n = {.ms = loch_env_now_ns(t->env) / 1000000};
    must(loch_env_random(t->env, &n.random, sizeof n.random), "random");
    return n;
}

/* ---- sending ---- */

static void send_message(struct tool *t, const struct loch_proposer_effect *e)
{
    struct member *m = &t->members[e->member];
    struct loch_buf out = {0};
    struct loch_writer w;

    if (m->stream == NULL)
        return;
    loch_writer_init(&w, &out);
    if (e->message.type == LOCH_WAL_HELLO) {
        loch_wal_hello_encode(&w, &e->message.u.hello);
    } else if (e->message.type == LOCH_WAL_VOTE) {
        loch_wal_vote_encode(&w, &e->message.u.vote);
    } else if (e->message.type == LOCH_WAL_ELECTED) {
        loch_wal_elected_encode(&w, &e->message.u.elected);
    } else {
        struct loch_wal_append a = e->message.u.append;
        a.bytes = loch_slice_of(NULL, 0);
        if (e->message.append_len > 0)
            a.bytes =
                loch_slice_of(t->window.data + (a.begin - t->window_start), e->message.append_len);
        loch_wal_append_encode(&w, &a);
    }
    must(loch_writer_finish(&w), "encode");
    loch_stream_send(m->stream, &out);
}

static void run_effects(struct tool *t);

/* Keeps `clients` records outstanding. */
static void refill(struct tool *t)
{
    if (!t->leading || t->clients == 0)
        return;
    size_t before = t->window.len;
    loch_lsn from = t->gen.lsn;
    while (t->outstanding < t->clients) {
        uint32_t payload =
            (uint32_t)(1 + (t->gen.count * 7919 + t->gen.seed) % (2 * t->record_bytes));
        loch_lsn end = wal_gen_record(&t->gen, &t->window, payload);
        t->ends[(t->first + t->outstanding) % CLIENTS_MAX] = end;
        t->outstanding++;
    }
    if (t->window.len == before)
        return;
    if (pwrite(t->truth_fd, t->window.data + before, t->window.len - before,
               (off_t)(from - t->start_lsn)) != (ssize_t)(t->window.len - before)) {
        perror("truth");
        exit(1);
    }
    struct loch_proposer_view view;
    loch_proposer_look(t->proposer, &view);
    if (t->window.len > WINDOW_BYTES) {
        loch_lsn keep = view.needed_from;
        if (t->gen.lsn - keep > WINDOW_BYTES)
            keep = t->gen.lsn - WINDOW_BYTES;
        if (keep > t->window_start) {
            loch_buf_consume(&t->window, (size_t)(keep - t->window_start));
            t->window_start = keep;
        }
    }
    must(loch_proposer_wal(t->proposer, now(t), t->window_start, t->gen.lsn, &t->effects), "wal");
    run_effects(t);
}

static void elected(struct tool *t)
{
    struct loch_proposer_view view;

    loch_proposer_look(t->proposer, &view);
    (void)printf("elected term %" PRIu64 " at " LOCH_LSN_FMT ", acknowledged " LOCH_LSN_FMT "\n",
                 view.term, LOCH_LSN_ARG(view.start_lsn), LOCH_LSN_ARG(t->acked));
    (void)fflush(stdout);
    if (view.start_lsn < t->acked) {
        (void)printf("LOST: acknowledged up to " LOCH_LSN_FMT "\n", LOCH_LSN_ARG(t->acked));
        stop(t, EXIT_LOST);
        return;
    }
    t->first = t->outstanding = 0;
    t->window.len = 0;
    t->window_start = view.start_lsn;
    wal_gen_init(&t->gen, view.start_lsn, view.start_prev_lsn, t->system_id, view.term);
    t->leading = false;
}

/* As much as the command line wants. */
static bool is_enough(const struct tool *t)
{
    return t->commits * t->record_bytes >= t->most_bytes && t->commits >= t->most_commits;
}

static void committed(struct tool *t, loch_lsn lsn)
{
    uint64_t at = loch_env_now_ns(t->env);

    if (lsn > t->acked)
        t->acked = lsn;
    if (pwrite(t->journal_fd, &t->acked, sizeof t->acked, 0) != (ssize_t)sizeof t->acked) {
        perror("journal");
        exit(1);
    }
    while (t->outstanding > 0 && t->ends[t->first] <= lsn) {
        t->first = (t->first + 1) % CLIENTS_MAX;
        t->outstanding--;
        t->commits++;
    }
    if (t->last_ack_ns != 0 && at - t->last_ack_ns > t->longest_stall_ns)
        t->longest_stall_ns = at - t->last_ack_ns;
    t->last_ack_ns = at;
    t->leading = true;
    if (t->most_bytes + t->most_commits != 0 && is_enough(t))
        t->ends_ns = loch_min_u64(t->ends_ns, at);
}

static void reconnect(struct member *m, uint64_t delay_ms);

static void run_effects(struct tool *t)
{
    bool fill = false;

    for (size_t i = 0; i < t->effects.count; i++) {
        struct loch_proposer_effect e = t->effects.items[i];
        switch (e.kind) {
        case LOCH_PROPOSER_SEND:
            send_message(t, &e);
            break;
        case LOCH_PROPOSER_CLOSE:
            if (t->members[e.member].stream != NULL)
                loch_stream_close(t->members[e.member].stream);
            break;
        case LOCH_PROPOSER_ELECTED:
            elected(t);
            break;
        case LOCH_PROPOSER_COMMIT:
            committed(t, e.lsn);
            fill = true;
            break;
        case LOCH_PROPOSER_MEMBERS: /* the membership of this tool's timelines stays */
            break;
        case LOCH_PROPOSER_FENCED:
            (void)printf("fenced: %s\n", e.text);
            stop(t, EXIT_FENCED);
            break;
        }
    }
    t->effects.count = 0;
    if (fill && t->exit_code == 0 && loch_env_now_ns(t->env) < t->ends_ns)
        refill(t);
}

/* ---- receiving ---- */

static loch_status run_frame(struct member *m, uint8_t type, struct loch_slice payload)
{
    struct tool *t = m->tool;

    if (type == LOCH_WAL_HELLO_REPLY) {
        struct loch_wal_hello_reply r;
        LOCH_TRY(loch_wal_hello_reply_decode(payload, &r));
        LOCH_TRY(loch_proposer_hello_reply(t->proposer, now(t), m->index, &r, &t->effects));
    } else if (type == LOCH_WAL_VOTE_REPLY) {
        struct loch_wal_vote_reply r;
        LOCH_TRY(loch_wal_vote_reply_decode(payload, &r));
        loch_status st = loch_proposer_vote_reply(t->proposer, now(t), m->index, &r, &t->effects);
        loch_term_history_fini(&r.history);
        LOCH_TRY(st);
    } else if (type == LOCH_WAL_ELECTED_REPLY) {
        struct loch_wal_elected_reply r;
        LOCH_TRY(loch_wal_elected_reply_decode(payload, &r));
        LOCH_TRY(loch_proposer_elected_reply(t->proposer, now(t), m->index, &r, &t->effects));
    } else if (type == LOCH_WAL_APPEND_REPLY) {
        struct loch_wal_append_reply r;
        LOCH_TRY(loch_wal_append_reply_decode(payload, &r));
        LOCH_TRY(loch_proposer_append_reply(t->proposer, now(t), m->index, &r, &t->effects));
    } else if (type == LOCH_WAL_FENCED) {
        struct loch_wal_fenced r;
        LOCH_TRY(loch_wal_fenced_decode(payload, &r));
        LOCH_TRY(loch_proposer_fenced(t->proposer, m->index, &r, &t->effects));
    } else if (type == LOCH_WAL_MEMBERS) {
        struct loch_wal_members r;
        LOCH_TRY(loch_wal_members_decode(payload, &r));
        loch_status st =
            loch_proposer_members(t->proposer, now(t), m->index, &r.membership, &t->effects);
        loch_membership_fini(&r.membership);
        LOCH_TRY(st);
    } else {
        return LOCH_FAIL(LOCH_E_CORRUPT, "frame of type %u", type);
    }
    run_effects(t);
    return LOCH_OK;
}

static void member_done(struct member *m)
{
    struct tool *t = m->tool;

    m->done = true;
    for (uint32_t i = 0; i < t->member_count; i++)
        if (!t->members[i].done)
            return;
    stop(t, 0);
}

/* Compares what came with the truth. */
static loch_status check_data(struct member *m, const struct loch_wal_pull_data *d)
{
    struct tool *t = m->tool;
    static uint8_t truth[LOCH_WAL_CHUNK_BYTES];

    if (d->begin != m->pulled || d->bytes.len > sizeof truth)
        return LOCH_FAIL(LOCH_E_CORRUPT, "data begins at " LOCH_LSN_FMT, LOCH_LSN_ARG(d->begin));
    ssize_t n = pread(t->truth_fd, truth, d->bytes.len, (off_t)(d->begin - t->start_lsn));
    if (n != (ssize_t)d->bytes.len || memcmp(truth, d->bytes.data, d->bytes.len) != 0) {
        (void)printf("DIFFERS: member %u near " LOCH_LSN_FMT "\n", m->index,
                     LOCH_LSN_ARG(d->begin));
        stop(t, EXIT_LOST);
        return LOCH_FAIL(LOCH_E_CORRUPT, "differs");
    }
    m->pulled += d->bytes.len;
    return LOCH_OK;
}

static loch_status check_frame(struct member *m, uint8_t type, struct loch_slice payload)
{
    struct tool *t = m->tool;

    if (type == LOCH_WAL_PULL_DATA) {
        struct loch_wal_pull_data d;
        LOCH_TRY(loch_wal_pull_data_decode(payload, &d));
        LOCH_TRY(check_data(m, &d));
    } else if (type == LOCH_WAL_PULL_STATE) {
        struct loch_wal_pull_state s;
        LOCH_TRY(loch_wal_pull_state_decode(payload, &s));
        loch_wal_pull_state_fini(&s);
    } else if (type == LOCH_WAL_PULL_POSITIONS) {
        struct loch_wal_pull_positions p;
        LOCH_TRY(loch_wal_pull_positions_decode(payload, &p));
    } else {
        return LOCH_FAIL(LOCH_E_CORRUPT, "frame of type %u", type);
    }
    if (m->pulled >= t->acked && !m->done) {
        (void)printf("member %u holds all " LOCH_LSN_FMT " acknowledged, pulled to " LOCH_LSN_FMT
                     "\n",
                     m->index, LOCH_LSN_ARG(t->acked), LOCH_LSN_ARG(m->pulled));
        member_done(m);
    }
    return LOCH_OK;
}

static loch_status frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct member *m = arg;

    if (type == LOCH_WAL_ERROR) {
        struct loch_wire_error e;
        LOCH_TRY(loch_wire_error_decode(payload, &e));
        (void)printf("member %u says %s: %.*s\n", m->index, loch_code_name((enum loch_code)e.code),
                     (int)e.text.len, e.text.data);
        return LOCH_OK;
    }
    if (strcmp(m->tool->mode, "check") == 0)
        return check_frame(m, type, payload);
    if (strcmp(m->tool->mode, "junk") == 0)
        return LOCH_OK;
    return run_frame(m, type, payload);
}

static void closed(void *arg, loch_status st)
{
    struct member *m = arg;
    struct tool *t = m->tool;

    (void)st;
    m->stream = NULL;
    if (strcmp(t->mode, "junk") == 0) {
        (void)printf("member %u closed the connection\n", m->index);
        member_done(m);
        return;
    }
    if (t->proposer != NULL)
        loch_proposer_disconnected(t->proposer, m->index);
    reconnect(m, 100);
}

static const struct loch_stream_events events = {.frame = frame, .closed = closed};

static void send_pull(struct member *m)
{
    struct tool *t = m->tool;
    struct loch_wal_pull pull = {.version = LOCH_WIRE_PULL_VERSION,
                                 .tenant = t->tenant,
                                 .timeline = t->timeline,
                                 .mode = LOCH_PULL_COMMITTED,
                                 .from = m->pulled};
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_writer_init(&w, &out);
    loch_wal_pull_encode(&w, &pull);
    must(loch_writer_finish(&w), "encode");
    loch_stream_send(m->stream, &out);
}

static void send_junk(struct member *m)
{
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_writer_init(&w, &out);
    loch_write_u32(&w, 40);
    loch_write_u8(&w, (uint8_t)m->tool->epoch); /* the frame's type */
    for (uint8_t i = 0; i < 39; i++)
        loch_write_u8(&w, (uint8_t)(i * 37 + 11));
    must(loch_writer_finish(&w), "encode");
    loch_stream_send(m->stream, &out);
}

static void connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct member *m = arg;
    struct tool *t = m->tool;

    loch_tls_client_destroy(m->tls);
    m->tls = NULL;
    if (!loch_is_ok(st)) {
        if (strcmp(t->mode, "junk") == 0)
            (void)printf("member %u: no connection: %s\n", m->index, loch_error_text());
        reconnect(m, 100);
        return;
    }
    m->stream = stream;
    loch_stream_attach(stream, &events, m);
    if (strcmp(t->mode, "check") == 0) {
        send_pull(m);
    } else if (strcmp(t->mode, "junk") == 0) {
        send_junk(m);
    } else {
        must(loch_proposer_connected(t->proposer, now(t), m->index, &t->effects), "connected");
        run_effects(t);
    }
}

static void connect_now(void *arg)
{
    struct member *m = arg;
    struct tool *t = m->tool;
    struct loch_psk_identity id = {.version = 1,
                                   .client_role = LOCH_ROLE_COMPUTE,
                                   .server_role = LOCH_ROLE_SAFEKEEPER,
                                   .rights = LOCH_RIGHT_WAL_PUSH | LOCH_RIGHT_WAL_PULL,
                                   .cluster = t->cluster,
                                   .tenant = t->as_tenant,
                                   .timeline = t->as_timeline,
                                   .client_id = t->compute,
                                   .client_boot = t->boot,
                                   .server_node = m->node,
                                   .compute_epoch = t->epoch};
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};

    m->timer = NULL;
    must(loch_keys_psk(t->keys, &id, &psk), "psk");
    must(loch_psk_identity_encode(&id, &encoded), "identity");
    must(loch_tls_client_create(loch_buf_slice(&encoded), &psk, &m->tls), "tls");
    must(loch_env_connect(t->env, m->address, m->tls, 2000, connected, m), "connect");
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
}

static void reconnect(struct member *m, uint64_t delay_ms)
{
    if (m->timer == NULL && m->tool->exit_code == 0)
        must(loch_env_timer(m->tool->env, delay_ms, &m->timer, connect_now, m), "timer");
}

/* ---- modes ---- */

static void end_load(void *arg)
{
    struct tool *t = arg;

    t->told_to_end = true;
    t->ends_ns = loch_min_u64(t->ends_ns, loch_env_now_ns(t->env));
}

/* The load is over: has the last commit_lsn got round? Counted in ticks, for between two of them
 * the loop has listened, however late they come. Who does not answer is not waited for for ever. */
static bool told_all(struct tool *t)
{
    struct loch_proposer_view view;
    bool owes = false;

    if (t->proposer == NULL)
        return true;
    t->late_ticks++;
    loch_proposer_look(t->proposer, &view);
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        const struct loch_proposer_member_view *m = &view.members[i];
        owes =
            owes || (m->connected && m->installed && (m->recovering || m->sent_lsn > m->flush_lsn));
    }
    return t->late_ticks > 7 && (t->late_ticks > 50 || !(owes || view.news));
}

static void tick(void *arg)
{
    struct tool *t = arg;
    struct loch_timer *timer;
    uint64_t at = loch_env_now_ns(t->env);

    if (t->leading && t->outstanding > 0 && at - t->last_ack_ns > t->longest_stall_ns)
        t->longest_stall_ns = at - t->last_ack_ns;
    if (at > t->ends_ns && told_all(t)) {
        if (strcmp(t->mode, "run") != 0) {
            (void)printf("timed out\n");
            stop(t, 1);
        } else {
            stop(t, 0);
        }
        return;
    }
    if (t->proposer != NULL) {
        must(loch_proposer_tick(t->proposer, now(t), &t->effects), "tick");
        run_effects(t);
    }
    must(loch_env_timer(t->env, 100, &timer, tick, t), "timer");
}

static void open_keys(struct tool *t, struct loch_objstore **store, struct loch_kms **kms)
{
    must(loch_objstore_open_local(t->env, t->store_path, store), "store");
    must(loch_kms_open(t->kms_uri, NULL, kms), "kms");
    struct loch_keys_options options = {
        .store = *store, .kms = *kms, .cluster = t->cluster, .role = LOCH_ROLE_TOOL};
    must(loch_keys_create(&options, &t->keys), "keys");
}

static void setup(struct tool *t)
{
    struct loch_objstore *store;
    struct loch_kms *kms;

    if (access(t->kms_uri + 5, F_OK) != 0)
        must(loch_kms_file_create(t->kms_uri + 5), "cmk");
    open_keys(t, &store, &kms);
    loch_status st = loch_keys_tenant_create(t->keys, &t->tenant);
    if (st.code != LOCH_E_EXISTS)
        must(st, "tenant");
    must(loch_keys_tenant_load(t->keys, &t->tenant), "tenant");
    must(loch_keys_add_timeline(t->keys, &t->tenant, &t->timeline), "timeline");
}

static void make_proposer(struct tool *t)
{
    struct loch_proposer_config config = {.hello = {.version = LOCH_WIRE_WAL_VERSION,
                                                    .tenant = t->tenant,
                                                    .timeline = t->timeline,
                                                    .system_id = t->system_id,
                                                    .pg_version = 150020,
                                                    .segment_bytes = WAL_GEN_SEGMENT_BYTES},
                                          .compute_epoch = t->epoch,
                                          .window_bytes = 1u << 20,
                                          .reply_timeout_ms = 5000,
                                          .election_timeout_ms = 1000,
                                          .heartbeat_ms = 200};
    struct loch_member contacts[LOCH_MEMBERS_MAX] = {0};
    for (uint32_t i = 0; i < t->member_count; i++)
        contacts[i] = (struct loch_member){
            .id = t->members[i].node, .node = t->members[i].node, .in = LOCH_MEMBER_BOTH};
    config.membership = (struct loch_membership){.members = contacts, .count = t->member_count};
    must(loch_proposer_create(&config, &t->proposer), "proposer");
}

static int run(struct tool *t)
{
    struct loch_objstore *store;
    struct loch_kms *kms;
    struct loch_timer *timer;

    open_keys(t, &store, &kms);
    if (loch_id_is_none(&t->as_tenant))
        t->as_tenant = t->tenant;
    if (loch_id_is_none(&t->as_timeline))
        t->as_timeline = t->timeline;
    must(loch_keys_tenant_load(t->keys, &t->as_tenant), "keyring");
    must(loch_env_random(t->env, t->boot.bytes, sizeof t->boot.bytes), "random");
    must(loch_env_random(t->env, t->compute.bytes, sizeof t->compute.bytes), "random");
    if (t->truth_path != NULL) {
        t->truth_fd = open(t->truth_path, O_RDWR | O_CREAT, 0600);
        t->journal_fd = open(t->journal_path, O_RDWR | O_CREAT, 0600);
        if (t->truth_fd < 0 || t->journal_fd < 0) {
            perror("truth or journal");
            return 1;
        }
        if (pread(t->journal_fd, &t->acked, sizeof t->acked, 0) != (ssize_t)sizeof t->acked)
            t->acked = 0;
    }
    if (strcmp(t->mode, "run") == 0)
        make_proposer(t);
    t->started_ns = loch_env_now_ns(t->env);
    t->ends_ns = t->started_ns + t->seconds * UINT64_C(1000000000);
    for (uint32_t i = 0; i < t->member_count; i++) {
        t->members[i].pulled = t->start_lsn;
        reconnect(&t->members[i], 0);
    }
    must(loch_env_timer(t->env, 100, &timer, tick, t), "timer");
    must(loch_env_on_signal(t->env, SIGTERM, end_load, t), "signal");
    loch_env_run(t->env);
    if (t->exit_code == 0 && t->proposer != NULL && !t->told_to_end && !is_enough(t))
        t->exit_code = EXIT_FEWER;
    (void)printf("commits %" PRIu64 " acknowledged " LOCH_LSN_FMT " longest_stall_ms %" PRIu64 "\n",
                 t->commits, LOCH_LSN_ARG(t->acked), t->longest_stall_ns / 1000000);
    (void)fflush(stdout);
    return t->exit_code;
}

static void add_member(struct tool *t, const char *text)
{
    struct member *m = &t->members[t->member_count];
    char hex[33] = "";

    if (t->member_count == LOCH_MEMBERS_MAX || strlen(text) < 35 || text[32] != '=' ||
        strlen(text + 33) >= sizeof m->address) {
        (void)fprintf(stderr, "want --member NODE=ADDRESS\n");
        exit(1);
    }
    memcpy(hex, text, 32);
    must(loch_id_parse(hex, &m->node), "node");
    (void)strcpy(m->address, text + 33);
    m->tool = t;
    m->index = t->member_count++;
}

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

static void check_options(const struct tool *t, bool has_mode)
{
    if (!has_mode || t->store_path == NULL || t->kms_uri == NULL ||
        strncmp(t->kms_uri, "file:", 5) != 0 || t->clients > CLIENTS_MAX) {
        (void)fprintf(stderr,
                      "usage: sk_proposer setup|run|check|junk --store D --kms file:F ...\n");
        exit(1);
    }
}

static bool number_option(struct tool *t, int c)
{
    const struct {
        int c;
        uint64_t *to;
    } table[] = {{'e', &t->epoch},       {'y', &t->system_id},    {'n', &t->seconds},
                 {'C', &t->clients},     {'r', &t->record_bytes}, {'M', &t->most_bytes},
                 {'N', &t->most_commits}};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].c != c)
            continue;
        *table[i].to = number(optarg) << (c == 'M' ? 20 : 0);
        return true;
    }
    return false;
}

static void options(struct tool *t, int argc, char **argv)
{
    static const struct option table[] = {
        {"store", 1, NULL, 's'},     {"kms", 1, NULL, 'k'},
        {"cluster", 1, NULL, 'c'},   {"tenant", 1, NULL, 't'},
        {"timeline", 1, NULL, 'l'},  {"member", 1, NULL, 'm'},
        {"epoch", 1, NULL, 'e'},     {"sysid", 1, NULL, 'y'},
        {"start", 1, NULL, 'S'},     {"truth", 1, NULL, 'T'},
        {"journal", 1, NULL, 'j'},   {"seconds", 1, NULL, 'n'},
        {"clients", 1, NULL, 'C'},   {"record", 1, NULL, 'r'},
        {"as-tenant", 1, NULL, 'A'}, {"as-timeline", 1, NULL, 'B'},
        {"mib", 1, NULL, 'M'},       {"commits", 1, NULL, 'N'},
        {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (c) {
        case 's':
            t->store_path = optarg;
            break;
        case 'k':
            t->kms_uri = optarg;
            break;
        case 'c':
            must(loch_id_parse(optarg, &t->cluster), "cluster");
            break;
        case 't':
            must(loch_id_parse(optarg, &t->tenant), "tenant");
            break;
        case 'l':
            must(loch_id_parse(optarg, &t->timeline), "timeline");
            break;
        case 'm':
            add_member(t, optarg);
            break;
        case 'S':
            must(loch_lsn_parse(optarg, &t->start_lsn), "start");
            break;
        case 'T':
            t->truth_path = optarg;
            break;
        case 'j':
            t->journal_path = optarg;
            break;
        case 'A':
            must(loch_id_parse(optarg, &t->as_tenant), "tenant");
            break;
        case 'B':
            must(loch_id_parse(optarg, &t->as_timeline), "timeline");
            break;
        default:
            if (!number_option(t, c))
                exit(1);
        }
    }
    check_options(t, optind < argc);
    t->mode = argv[optind];
}

int main(int argc, char **argv)
{
    static struct tool t = {.clients = 16,
                            .record_bytes = 200,
                            .seconds = 5,
                            .epoch = 1,
                            .system_id = 7300000000000000001,
                            .truth_fd = -1,
                            .journal_fd = -1};

    loch_log_init("sk_proposer", LOCH_LOG_WARN);
    options(&t, argc, argv);
    must(loch_env_real_create(&t.env), "env");
    if (strcmp(t.mode, "setup") == 0) {
        setup(&t);
        return 0;
    }
    return run(&t);
}
