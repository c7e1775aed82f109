/* Holds: the whole WAL path before an ordinary PostgreSQL: its walsender, our client, the proposer,
 * TLS streams, three acceptors that scan every byte. Commits must wait for a quorum, and for
 * nothing else. */
#include "../unit.h"
#include "quorum.h"
#include "quorum_file.h"
#include "wal_source.h"

#include "loch/base/check.h"
#include "loch/consensus/acceptor.h"
#include "loch/crypto/psk.h"
#include "loch/io/env.h"
#include "loch/pg/wal_scan.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PG_BIN  "/usr/lib/postgresql/15/bin"
#define PORT    21390 /* of a socket in a directory of our own */
#define SEGMENT (16u << 20)

struct keeper {
    struct loch_env *env;
    char address[32];
    struct loch_tls_server *tls;
    struct loch_listener *listener;
    struct loch_stream *stream;
    uint64_t conn;
    uint64_t stamp_ms; /* of the newest APPEND on it */
    struct loch_acceptor *acceptor;
    struct loch_wal_scan scan;
};

static struct world {
    char dir[64];
    struct loch_env *env;
    struct loch_secret psk;
    struct loch_credential credential;
    struct keeper keepers[3];
    struct loch_member members[3];
    struct loch_membership membership;
    struct loch_quorum *quorum;
    struct loch_wal_source *source;
    struct loch_child *postgres;
    uint64_t system_id;
    loch_lsn start_lsn, commit_lsn;
    bool fenced, source_ok, exited;
    pthread_t client;
    atomic_int rows;      /* released commits */
    atomic_bool all_done; /* the client has gone */
    int blocked_rows;
    struct loch_timer *timer;
} w;

/* ---- three safekeepers in memory ---- */

static void carry_out(struct keeper *k, struct loch_acceptor_effects *effects,
                      struct loch_slice bytes);

static void encode_append_reply(struct loch_writer *out, const struct keeper *k,
                                struct loch_wal_append_reply m)
{
    m.echo_ms = k->stamp_ms;
    loch_wal_append_reply_encode(out, &m);
}

static void send_message(struct keeper *k, const struct loch_acceptor_message *m)
{
    struct loch_buf buf = {0};
    struct loch_writer out;

    loch_writer_init(&out, &buf);
    if (m->type == LOCH_WAL_HELLO_REPLY)
        loch_wal_hello_reply_encode(&out, &m->u.hello_reply);
    else if (m->type == LOCH_WAL_VOTE_REPLY)
        loch_wal_vote_reply_encode(&out, &m->u.vote_reply);
    else if (m->type == LOCH_WAL_ELECTED_REPLY)
        loch_wal_elected_reply_encode(&out, &m->u.elected_reply);
    else if (m->type == LOCH_WAL_APPEND_REPLY)
        encode_append_reply(&out, k, m->u.append_reply);
    else if (m->type == LOCH_WAL_MEMBERS)
        loch_wal_members_encode(&out, &(struct loch_wal_members){.membership = m->u.members});
    else
        loch_wal_fenced_encode(&out, &m->u.fenced);
    if (k->stream != NULL)
        loch_stream_send(k->stream, &buf);
    else
        loch_buf_fini(&buf);
}

static void done(struct keeper *k, const struct loch_acceptor_effect *e)
{
    struct loch_acceptor_effects next = {0};

    if (e->kind == LOCH_ACCEPTOR_PERSIST)
        assert_ok(loch_acceptor_persisted(k->acceptor, e->token, &next));
    else if (e->kind == LOCH_ACCEPTOR_SYNC)
        assert_ok(loch_acceptor_synced(k->acceptor, e->token, k->scan.last_end, k->scan.last_start,
                                       &next));
    carry_out(k, &next, loch_slice_of(NULL, 0));
}

static void carry_out(struct keeper *k, struct loch_acceptor_effects *effects,
                      struct loch_slice bytes)
{
    for (size_t i = 0; i < effects->count; i++) {
        const struct loch_acceptor_effect *e = &effects->items[i];
        if (e->kind == LOCH_ACCEPTOR_WRITE)
            assert_ok(loch_wal_scan_feed(&k->scan,
                                         loch_slice_of(bytes.data + e->skip, e->end - e->begin)));
        else if (e->kind == LOCH_ACCEPTOR_SEND)
            send_message(k, &e->message);
        assert_true(e->kind != LOCH_ACCEPTOR_CLOSE && e->kind != LOCH_ACCEPTOR_TRUNCATE);
        done(k, e);
    }
    loch_acceptor_effects_fini(effects);
}

static loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct keeper *k = arg;
    struct loch_acceptor_effects effects = {0};
    const struct loch_acceptor_from from = {.conn = k->conn, .compute_epoch = 1};
    struct loch_wal_hello hello;
    struct loch_wal_vote vote;
    struct loch_wal_elected elected;
    struct loch_wal_append append = {0};

    if (type == LOCH_WAL_HELLO) {
        LOCH_TRY(loch_wal_hello_decode(payload, &hello));
        LOCH_TRY(loch_acceptor_hello(k->acceptor, from, &hello, &effects));
    } else if (type == LOCH_WAL_VOTE) {
        LOCH_TRY(loch_wal_vote_decode(payload, &vote));
        LOCH_TRY(loch_acceptor_vote(k->acceptor, from, &vote, &effects));
    } else if (type == LOCH_WAL_ELECTED) {
        LOCH_TRY(loch_wal_elected_decode(payload, &elected));
        LOCH_TRY(loch_acceptor_elected(k->acceptor, from, &elected, &effects));
        loch_term_history_fini(&elected.history);
    } else {
        LOCH_TRY(loch_wal_append_decode(payload, &append));
        k->stamp_ms = append.stamp_ms;
        LOCH_TRY(loch_acceptor_append(k->acceptor, from, &append, &effects));
    }
    carry_out(k, &effects, append.bytes);
    return LOCH_OK;
}

static void on_closed(void *arg, loch_status st)
{
    struct keeper *k = arg;
    (void)st;
    loch_acceptor_closed(k->acceptor, k->conn);
    k->stream = NULL;
}

static const struct loch_stream_events keeper_events = {.frame = on_frame, .closed = on_closed};

static void accepted(void *arg, struct loch_stream *stream)
{
    struct keeper *k = arg;
    k->stream = stream;
    k->conn++;
    k->stamp_ms = 0;
    loch_stream_attach(stream, &keeper_events, k);
}

static bool lookup(void *arg, struct loch_slice identity, struct loch_secret *psk)
{
    (void)arg;
    (void)identity;
    return loch_is_ok(loch_secret_copy(psk, &w.psk));
}

static loch_status keeper_listen(struct keeper *k)
{
    return loch_env_listen(w.env, k->address, k->tls, &k->listener, accepted, k);
}

/* On a port that is free, and below those that connections get: it is given up and taken again. */
static void keeper_listen_somewhere(struct keeper *k)
{
    static uint32_t taken;
    loch_status st = LOCH_OK;

    for (int tries = 0; tries < 100; tries++) {
        (void)snprintf(k->address, sizeof k->address, "127.0.0.1:%u",
                       24000 + ((uint32_t)getpid() * 7 + taken++) % 6000);
        st = keeper_listen(k);
        if (loch_is_ok(st))
            break;
    }
    assert_ok(st);
}

static void keeper_down(struct keeper *k)
{
    loch_listener_close(k->listener);
    k->listener = NULL;
    if (k->stream != NULL)
        loch_stream_close(k->stream);
}

static void keeper_start(struct keeper *k, uint32_t i)
{
    struct loch_acceptor_control control;
    const struct loch_id node = {{(uint8_t)(i + 1)}};

    assert_ok(loch_acceptor_control_init(&control, w.start_lsn, LOCH_LSN_NONE));
    assert_ok(loch_membership_copy(&control.membership, &w.membership));
    assert_ok(loch_acceptor_create(&control, &node, w.start_lsn, LOCH_LSN_NONE, &k->acceptor));
    loch_acceptor_control_fini(&control);
    assert_ok(loch_wal_scan_init(&k->scan, LOCH_WAL_SCAN_BOUNDARIES, w.start_lsn, LOCH_LSN_NONE,
                                 SEGMENT));
}

/* ---- PostgreSQL ---- */

static const char *as_postgres(void)
{
    return geteuid() == 0 ? "setpriv --reuid=postgres --regid=postgres --clear-groups " : "";
}

static void shell(const char *command)
{
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

static void read_control(void)
{
    char command[300], line[200];
    unsigned hi, lo;

    (void)snprintf(command, sizeof command, "%s%s/pg_controldata %s/data", as_postgres(), PG_BIN,
                   w.dir);
    FILE *f = popen(command, "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "Latest checkpoint location: %X/%X", &hi, &lo) == 2)
            w.start_lsn = (uint64_t)hi << 32 | lo;
        (void)sscanf(line, "Database system identifier: %" SCNu64, &w.system_id);
    }
    assert_int_equal(pclose(f), 0);
    assert_true(w.start_lsn != 0 && w.system_id != 0);
}

static void make_cluster(void)
{
    char command[600];

    (void)snprintf(w.dir, sizeof w.dir, "/dev/shm/loch-test-agent-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    assert_int_equal(chmod(w.dir, 0755), 0);
    (void)snprintf(command, sizeof command,
                   "mkdir %s/data %s/sock && { [ $(id -u) != 0 ] || chown postgres %s/data "
                   "%s/sock; } && cd / && %s%s/initdb -D %s/data -U postgres -A trust -E UTF8 "
                   "--locale=C -N >/dev/null",
                   w.dir, w.dir, w.dir, w.dir, as_postgres(), PG_BIN, w.dir);
    shell(command);
    read_control();
}

static void postgres_exited(void *arg, int wait_status)
{
    (void)arg;
    (void)wait_status;
    w.exited = true;
    w.postgres = NULL;
}

static void start_postgres(void)
{
    char data[100], sock[120], port[40];
    (void)snprintf(data, sizeof data, "%s/data", w.dir);
    (void)snprintf(sock, sizeof sock, "unix_socket_directories=%s/sock", w.dir);
    (void)snprintf(port, sizeof port, "port=%d", PORT);
    const char *argv[] = {PG_BIN "/postgres",
                          "-D",
                          data,
                          "-c",
                          sock,
                          "-c",
                          port,
                          "-c",
                          "fsync=off",
                          "-c",
                          "listen_addresses=",
                          "-c",
                          "synchronous_standby_names=loch_proposer",
                          "-c",
                          "restart_after_crash=off",
                          "-c",
                          "log_destination=stderr",
                          NULL};
    struct stat st;
    assert_int_equal(stat(data, &st), 0);
    const struct loch_child_options options = {.argv = argv,
                                               .cwd = "/",
                                               .uid = geteuid() == 0 ? st.st_uid : 0,
                                               .gid = 0,
                                               .stdin_fd = -1,
                                               .stdout_fd = -1,
                                               .stderr_fd = -1,
                                               .pass_fd = -1,
                                               .die_with_parent = true};
    assert_ok(loch_env_spawn(w.env, &options, &w.postgres, postgres_exited, NULL));
}

/* ---- the agent's side ---- */

static loch_status on_wal(void *arg, loch_lsn begin, struct loch_slice bytes)
{
    (void)arg;
    LOCH_TRY(loch_quorum_push(w.quorum, begin, bytes));
    if (loch_quorum_full(w.quorum))
        loch_wal_source_pause(w.source, true);
    return LOCH_OK;
}

static void on_batch(void *arg)
{
    (void)arg;
    loch_quorum_propose(w.quorum);
}

static void *client_main(void *arg);

static bool is_ready(void *arg)
{
    (void)arg;
    return true;
}

static void on_streaming(void *arg)
{
    (void)arg;
    assert_int_equal(pthread_create(&w.client, NULL, client_main, NULL), 0);
}

static void on_ended(void *arg, loch_status st)
{
    (void)arg;
    w.source = NULL;
    w.source_ok = loch_is_ok(st);
}

static void on_elected(void *arg, uint64_t term, loch_lsn lsn, loch_lsn prev_lsn)
{
    (void)arg;
    (void)prev_lsn;
    assert_int_equal(term >> 16, 1); /* the first of its epoch, or a later one on a slow machine */
    assert_int_equal(lsn, w.start_lsn);
}

static void on_committed(void *arg, loch_lsn lsn)
{
    char sock[100];
    (void)arg;

    w.commit_lsn = lsn;
    if (w.source != NULL)
        loch_wal_source_report(w.source, lsn);
    if (w.postgres != NULL || w.exited)
        return;
    assert_int_equal(lsn, w.start_lsn); /* L itself is told at once */
    start_postgres();
    (void)snprintf(sock, sizeof sock, "%s/sock", w.dir);
    const struct loch_wal_source_order order = {.env = w.env,
                                                .socket_dir = sock,
                                                .port = PORT,
                                                .user = "postgres",
                                                .system_id = w.system_id,
                                                .start_lsn = w.start_lsn,
                                                .ready = is_ready,
                                                .streaming = on_streaming,
                                                .wal = on_wal,
                                                .batch = on_batch,
                                                .ended = on_ended};
    assert_ok(loch_wal_source_create(&order, &w.source));
}

static void on_fenced(void *arg, const char *why)
{
    (void)arg;
    (void)why;
    w.fenced = true;
    loch_env_stop(w.env);
}

static void on_room(void *arg)
{
    (void)arg;
    if (w.source != NULL)
        loch_wal_source_pause(w.source, false);
}

static void on_lost(void *arg)
{
    (void)arg;
    fail_msg("no record is lost here");
}

static void on_dark(void *arg, loch_status st)
{
    (void)arg;
    (void)st;
    fail_msg("no key is revoked here");
}

static const struct loch_quorum_events quorum_events = {on_elected, on_committed, on_fenced,
                                                        on_room,    on_lost,      on_dark};

/* ---- the client, and what is done to the safekeepers meanwhile ---- */

static void two_down(void *arg)
{
    (void)arg;
    keeper_down(&w.keepers[0]);
    keeper_down(&w.keepers[1]);
}

static void one_up(void *arg)
{
    (void)arg;
    w.timer = NULL;
    w.blocked_rows = atomic_load(&w.rows);
    assert_ok(keeper_listen(&w.keepers[1]));
}

static void up_again_later(void *arg)
{
    (void)arg;
    assert_ok(loch_env_timer(w.env, 500, &w.timer, one_up, NULL));
}

static void fence(void *arg)
{
    struct loch_acceptor_effects effects = {0};
    const struct loch_wal_vote vote = {
        .term = UINT64_C(2) << 16, .compute_epoch = 2, .generation = 1};
    (void)arg;
    assert_ok(loch_acceptor_vote(w.keepers[1].acceptor,
                                 (struct loch_acceptor_from){.conn = 9999, .compute_epoch = 2},
                                 &vote, &effects));
    carry_out(&w.keepers[1], &effects, loch_slice_of(NULL, 0));
}

static void watch_end(void *arg)
{
    (void)arg;
    if (w.exited && w.source == NULL) {
        fence(NULL);
        return;
    }
    assert_ok(loch_env_timer(w.env, 20, &w.timer, watch_end, NULL));
}

static void shut_down(void *arg)
{
    (void)arg;
    loch_child_kill(w.postgres, SIGINT);
    watch_end(NULL);
}

static bool run(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);
    const ExecStatusType st = PQresultStatus(res);
    if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK)
        (void)fprintf(stderr, "%s: %s", sql, PQerrorMessage(conn));
    PQclear(res);
    return st == PGRES_COMMAND_OK || st == PGRES_TUPLES_OK;
}

static void *client_main(void *arg)
{
    char conninfo[200];
    const struct timespec pause = {.tv_nsec = 50000000};
    (void)arg;

    (void)snprintf(conninfo, sizeof conninfo, "host=%s/sock port=%d user=postgres dbname=postgres",
                   w.dir, PORT);
    PGconn *conn = PQconnectdb(conninfo);
    bool ok = run(conn, "CREATE TABLE t(a int, b text)");
    for (int i = 0; i < 200 && ok; i++) {
        ok = run(conn, "INSERT INTO t VALUES (1, 'x')");
        atomic_fetch_add(&w.rows, ok);
    }
    /* More than the window holds. */
    ok =
        ok && run(conn, "INSERT INTO t SELECT g, repeat('y', 1000) FROM generate_series(1,8000) g");
    /* One record longer than the window. */
    ok = ok && run(conn, "SELECT pg_logical_emit_message(true, 'x', repeat('z', 7000000))");
    atomic_fetch_add(&w.rows, ok);
    loch_env_post(w.env, two_down, NULL);
    (void)nanosleep(&pause, NULL);
    loch_env_post(w.env, up_again_later, NULL);
    ok = ok && run(conn, "INSERT INTO t VALUES (2, 'z')"); /* waits for one of the two */
    atomic_fetch_add(&w.rows, ok);
    PQfinish(conn);
    atomic_store(&w.all_done, ok);
    loch_env_post(w.env, shut_down, NULL);
    return NULL;
}

static void set_up_credential(void)
{
    struct loch_psk_identity identity = {.version = 1,
                                         .client_role = LOCH_ROLE_COMPUTE,
                                         .server_role = LOCH_ROLE_SAFEKEEPER,
                                         .rights = LOCH_RIGHT_WAL_PUSH,
                                         .wire_epoch = 1,
                                         .cluster = {{1}},
                                         .tenant = {{2}},
                                         .timeline = {{3}},
                                         .client_id = {{4}},
                                         .client_boot = {{5}},
                                         .server_node = {{6}},
                                         .compute_epoch = 1};
    struct loch_buf encoded = {0};

    w.credential.compute_epoch = 1;
    w.credential.system_id = w.system_id;
    w.credential.pg_version = 150020;
    w.credential.segment_bytes = SEGMENT;
    w.credential.safekeeper_count = 3;
    assert_ok(loch_psk_identity_encode(&identity, &encoded));
    for (uint32_t i = 0; i < 3; i++) {
        struct loch_credential_server *s = &w.credential.safekeepers[i];
        s->node.bytes[0] = (uint8_t)(i + 1);
        (void)snprintf(s->address, sizeof s->address, "%s", w.keepers[i].address);
        assert_ok(loch_tls_client_create(loch_buf_slice(&encoded), &w.psk, &s->tls));
    }
    loch_buf_fini(&encoded);
}

/* The account of the safekeepers that the server's users see. */
static void check_quorum_file(void)
{
    struct loch_quorum_member_view m;
    char path[100], line[1024], address[64], state[64];
    unsigned number = 0, lines = 0;

    assert_false(loch_quorum_member(w.quorum, 3, &m));
    assert_code(loch_quorum_file_write("/nowhere", w.quorum), LOCH_E_IO);
    assert_ok(loch_quorum_file_write(w.dir, w.quorum));
    (void)snprintf(path, sizeof path, "%s/loch.quorum", w.dir);
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        assert_true(loch_quorum_member(w.quorum, lines++, &m));
        assert_int_equal(sscanf(line, "%u\t%63[^\t]\t%63[^\t]\t", &number, address, state), 3);
        assert_int_equal(number, lines);
        assert_string_equal(address, m.address);
        assert_string_equal(state, m.state);
    }
    (void)fclose(f);
    assert_int_equal(lines, 3);
}

/* Known to the keepers; the agent starts with contacts only. */
static void form_membership(void)
{
    for (uint32_t i = 0; i < 3; i++) {
        w.members[i] = (struct loch_member){
            .id = {{(uint8_t)(i + 1)}}, .node = {{(uint8_t)(i + 1)}}, .in = LOCH_MEMBER_BOTH};
        (void)snprintf(w.members[i].address, sizeof w.members[i].address, "%s",
                       w.keepers[i].address);
    }
    w.membership = (struct loch_membership){.generation = 1, .members = w.members, .count = 3};
}

static void commits_wait_for_a_quorum(void **state)
{
    uint8_t key[LOCH_PSK_BYTES] = {7};
    char command[200];

    (void)state;
    if (access(PG_BIN "/postgres", X_OK) != 0)
        skip();
    make_cluster();
    assert_ok(loch_env_real_create(&w.env));
    assert_ok(loch_secret_from(&w.psk, key, sizeof key));
    for (uint32_t i = 0; i < 3; i++) {
        assert_ok(loch_tls_server_create(lookup, NULL, &w.keepers[i].tls));
        keeper_listen_somewhere(&w.keepers[i]);
    }
    form_membership();
    for (uint32_t i = 0; i < 3; i++)
        keeper_start(&w.keepers[i], i);
    set_up_credential();
    const struct loch_quorum_order order = {.env = w.env,
                                            .credential = &w.credential,
                                            .window_bytes = 2u << 20,
                                            .events = &quorum_events};
    assert_ok(loch_quorum_create(&order, &w.quorum));
    loch_env_run(w.env);
    assert_int_equal(pthread_join(w.client, NULL), 0);
    assert_true(atomic_load(&w.all_done));
    assert_int_equal(w.blocked_rows, 201); /* the last commit had to wait */
    assert_int_equal(atomic_load(&w.rows), 202);
    assert_true(w.source_ok); /* the stream ended after the shutdown checkpoint */
    assert_true(w.fenced);
    /* Everything up to the shutdown checkpoint is committed: what the server's own control file
     * says. */
    struct loch_acceptor_view view;
    loch_acceptor_look(w.keepers[2].acceptor, &view);
    assert_int_equal(view.flush_lsn, w.commit_lsn);
    read_control();
    assert_int_equal(view.prev_lsn, w.start_lsn);
    check_quorum_file();
    loch_quorum_close(w.quorum);
    for (uint32_t i = 0; i < 3; i++)
        loch_acceptor_destroy(w.keepers[i].acceptor);
    (void)snprintf(command, sizeof command, "rm -rf %s", w.dir);
    shell(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(commits_wait_for_a_quorum)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
