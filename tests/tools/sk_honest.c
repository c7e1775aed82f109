/* Holds: an honest compute's side of the WAL protocol, a step at a time. */
#include "sk_honest.h"

#include "loch/base/check.h"
#include "loch/consensus/proposer.h"
#include "loch/crypto/tls.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WAIT_MS 60000u

_Noreturn void honest_die(const struct tool *t, const char *what)
{
    (void)printf("FAIL  %s: %s (%s)\n", t->name == NULL ? "-" : t->name, what, loch_error_text());
    exit(1);
}

void honest_must(const struct tool *t, loch_status st, const char *what)
{
    if (!loch_is_ok(st))
        honest_die(t, what);
}

/* ---- a connection, used step by step ---- */

static loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct client *c = arg;

    if (type == LOCH_WAL_KEYS) /* for whoever has an older epoch's; no answer to anything */
        return LOCH_OK;
    if (c->got)
        return LOCH_FAIL(LOCH_E_CORRUPT, "two answers, of type %u and %u", c->type, type);
    c->got = true;
    c->type = type;
    c->payload.len = 0;
    honest_must(c->tool, loch_buf_append(&c->payload, payload.data, payload.len), "memory");
    loch_env_stop(c->tool->env);
    return LOCH_OK;
}

static void on_closed(void *arg, loch_status st)
{
    struct client *c = arg;

    (void)st;
    c->closed = true;
    c->stream = NULL;
    loch_env_stop(c->tool->env);
}

static const struct loch_stream_events events = {.frame = on_frame, .closed = on_closed};

static void on_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct client *c = arg;

    honest_must(c->tool, st, "connect");
    c->stream = stream;
    c->connected = true;
    loch_stream_attach(stream, &events, c);
    loch_env_stop(c->tool->env);
}

static void too_late(void *arg)
{
    honest_die(arg, "no answer");
}

/* Runs the loop until the flag is set. */
void honest_wait(struct tool *t, const bool *flag)
{
    struct loch_timer *timer;

    honest_must(t, loch_env_timer(t->env, WAIT_MS, &timer, too_late, t), "timer");
    while (!*flag)
        loch_env_run(t->env);
    loch_timer_cancel(timer);
}

struct loch_psk_identity honest_identity(const struct tool *t)
{
    return (struct loch_psk_identity){.version = 1,
                                      .client_role = LOCH_ROLE_COMPUTE,
                                      .server_role = LOCH_ROLE_SAFEKEEPER,
                                      .rights = LOCH_RIGHT_WAL_PUSH | LOCH_RIGHT_WAL_PULL,
                                      .cluster = t->cluster,
                                      .tenant = t->tenant,
                                      .timeline = t->timeline,
                                      .client_id = t->compute,
                                      .client_boot = t->boot,
                                      .server_node = t->node,
                                      .compute_epoch = t->epoch};
}

void honest_connect(struct client *c, struct loch_psk_identity id)
{
    struct tool *t = c->tool;
    struct loch_tls_client *tls = NULL;
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};

    c->connected = c->closed = c->got = false;
    honest_must(t, loch_keys_psk(t->keys, &id, &psk), "psk");
    honest_must(t, loch_psk_identity_encode(&id, &encoded), "identity");
    honest_must(t, loch_tls_client_create(loch_buf_slice(&encoded), &psk, &tls), "tls");
    honest_must(t, loch_env_connect(t->env, t->address, tls, 2000, on_connected, c), "connect");
    honest_wait(t, &c->connected);
    loch_tls_client_destroy(tls);
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
}

void honest_hang_up(struct client *c)
{
    if (c->closed)
        return;
    loch_stream_close(c->stream);
    honest_wait(c->tool, &c->closed);
}

void honest_send(struct client *c, struct loch_buf *take)
{
    c->got = false;
    if (c->stream == NULL)
        honest_die(c->tool, "the connection is gone");
    loch_stream_send(c->stream, take);
}

struct loch_slice honest_answer(struct client *c, uint8_t type)
{
    honest_wait(c->tool, &c->got);
    if (c->type != type) {
        (void)printf("      an answer of type %u\n", c->type);
        honest_die(c->tool, "another answer");
    }
    return loch_buf_slice(&c->payload);
}

/* ---- an honest leader ---- */

struct loch_wal_hello honest_hello(const struct tool *t)
{
    return (struct loch_wal_hello){.version = LOCH_WIRE_WAL_VERSION,
                                   .tenant = t->tenant,
                                   .timeline = t->timeline,
                                   .generation = GENERATION,
                                   .system_id = t->system_id,
                                   .pg_version = 150020,
                                   .segment_bytes = WAL_GEN_SEGMENT_BYTES};
}

uint64_t honest_greet(struct client *c)
{
    struct loch_wal_hello_reply r;

    SEND(c, hello, honest_hello(c->tool));
    honest_must(c->tool, loch_wal_hello_reply_decode(honest_answer(c, LOCH_WAL_HELLO_REPLY), &r),
                "HELLO_REPLY");
    return r.term;
}

/* As the leader of t->term; again after a reconnect. Its WAL has to end at `end`. */
void honest_install(struct tool *t, loch_lsn end)
{
    struct loch_wal_elected_reply r;

    SEND(&t->leader, elected, {.term = t->term, .generation = GENERATION, .history = t->history});
    honest_must(
        t, loch_wal_elected_reply_decode(honest_answer(&t->leader, LOCH_WAL_ELECTED_REPLY), &r),
        "ELECTED_REPLY");
    if (r.term != t->term || r.flush_lsn != end)
        honest_die(t, "the WAL ends elsewhere");
}

void honest_lead(struct tool *t)
{
    struct loch_wal_vote_reply r;

    honest_connect(&t->leader, honest_identity(t));
    t->term = loch_max_u64(honest_greet(&t->leader) + 1, t->epoch << LOCH_TERM_EPOCH_SHIFT);
    SEND(&t->leader, vote, {.term = t->term, .compute_epoch = t->epoch, .generation = GENERATION});
    honest_must(t, loch_wal_vote_reply_decode(honest_answer(&t->leader, LOCH_WAL_VOTE_REPLY), &r),
                "VOTE_REPLY");
    if (!r.granted)
        honest_die(t, "no vote");
    t->start = r.start_lsn;
    loch_term_history_fini(&t->history);
    t->history = r.history;
    honest_must(t, loch_term_history_add(&t->history, t->term, r.flush_lsn), "history");
    wal_gen_init(&t->gen, r.flush_lsn, r.prev_lsn, t->system_id, t->term);
    honest_install(t, r.flush_lsn);
}

/* One good record; with `commit` it is committed too, and told so. */
void honest_write(struct tool *t, bool commit)
{
    const loch_lsn begin = t->gen.lsn;
    struct loch_buf wal = {0};
    struct loch_wal_append_reply r;

    (void)wal_gen_record(&t->gen, &wal, 300);
    SEND(
        &t->leader, append,
        {.term = t->term, .generation = GENERATION, .begin = begin, .bytes = loch_buf_slice(&wal)});
    honest_must(t,
                loch_wal_append_reply_decode(honest_answer(&t->leader, LOCH_WAL_APPEND_REPLY), &r),
                "APPEND_REPLY");
    loch_buf_fini(&wal);
    if (r.flush_lsn != t->gen.lsn)
        honest_die(t, "a good record is not taken");
    if (commit)
        SEND(&t->leader, append,
             {.term = t->term,
              .generation = GENERATION,
              .begin = t->gen.lsn,
              .commit_lsn = t->gen.lsn});
}

/* ---- the directory ---- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static uint32_t add_file(const struct tool *t, const char *name, uint32_t crc)
{
    static uint8_t bytes[1u << 20];
    char path[4096];
    size_t n;

    (void)snprintf(path, sizeof path, "%s/%s", t->dir, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        honest_die(t, "a file cannot be read");
    while ((n = fread(bytes, 1, sizeof bytes, f)) > 0)
        crc = loch_crc32c_update(crc, bytes, n);
    (void)fclose(f);
    return crc;
}

/* A checksum of the names and, unless `names_only`, the bytes of all files. */
uint32_t honest_sum(const struct tool *t, bool names_only)
{
    struct dirent **found;
    const int count = scandir(t->dir, &found, NULL, by_name);
    uint32_t crc = LOCH_CRC32C_INIT;

    if (count < 4) /* . and .., control, a WAL file */
        honest_die(t, "the directory is not the timeline's");
    for (int i = 0; i < count; i++) {
        const char *name = found[i]->d_name;
        crc = loch_crc32c_update(crc, name, strlen(name) + 1);
        if (name[0] != '.' && !names_only)
            crc = add_file(t, name, crc);
        free(found[i]);
    }
    free(found);
    return crc;
}

void honest_open(struct tool *t)
{
    struct loch_objstore *store;
    struct loch_kms *kms;

    honest_must(t, loch_env_real_create(&t->env), "env");
    honest_must(t, loch_objstore_open_local(t->env, t->store_path, &store), "store");
    honest_must(t, loch_kms_open(t->kms_uri, NULL, &kms), "kms");
    struct loch_keys_options options = {
        .store = store, .kms = kms, .cluster = t->cluster, .role = LOCH_ROLE_TOOL};
    honest_must(t, loch_keys_create(&options, &t->keys), "keys");
    honest_must(t, loch_keys_tenant_load(t->keys, &t->tenant), "keyring");
    honest_must(t, loch_keys_tenant_load(t->keys, &t->other_tenant), "the other's keyring");
    honest_must(t, loch_env_random(t->env, t->boot.bytes, sizeof t->boot.bytes), "random");
    honest_must(t, loch_env_random(t->env, t->compute.bytes, sizeof t->compute.bytes), "random");
    t->leader = t->second = (struct client){.tool = t, .closed = true};
}
