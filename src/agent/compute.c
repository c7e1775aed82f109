/* Holds: the life of a compute.
 *
 *   ELECTING -> FETCHING -> STARTING -> RUNNING -> (the server ends) -> ELECTING ...
 *
 * Nothing local survives a boot: whatever goes wrong with the server or its walsender, the server
 * is killed and the next boot begins with an election and a fresh directory. Two things end it: a
 * stop, and being fenced. Invariant: once fenced, no commit is reported to the server any more.
 */
#include "compute.h"

#include "basebackup.h"
#include "lease_file.h"
#include "postmaster.h"
#include "quorum.h"
#include "quorum_file.h"
#include "scratch.h"
#include "state_file.h"
#include "stop_state.h"
#include "wal_source.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WATCH_MS          10u
#define QUORUM_FILE_MS    1000u
#define COMPLAIN_FIRST_MS 3000u
#define COMPLAIN_AGAIN_MS 10000u
#define REBOOT_FIRST_MS   100u
#define REBOOT_LAST_MS    5000u
#define SETTLED_MS        60000u /* a boot that lived so long was a good one */
#define START_LIMIT_MS    120000u
#define KILL_MS           5000u /* after SIGQUIT */

enum phase { ELECTING, FETCHING, STARTING, RUNNING, ENDING, WAITING };
/* Why the server is on its way down, or nothing is to be started again. */
enum fate { GO_ON, STOPPING, FENCED, FAILED };

struct loch_compute {
    struct loch_env *env;
    const struct loch_agent_config *config;
    struct loch_credential *credential;
    enum phase phase;
    enum fate fate;
    bool stop_now;
    struct loch_quorum *quorum;
    struct loch_basebackup *basebackup;
    struct loch_postmaster *postmaster;
    struct loch_wal_source *source;
    bool server_alive, streaming;
    bool has_kept_log;   /* of a server that has ended, maybe of an agent before this one */
    enum loch_code dark; /* why the tenant's data may not be held; LOCH_E_OK: it may */
    struct loch_timer *watch, *reboot;
    uint64_t phase_ms, boot_ms, complained_ms, reboot_ms, quorum_file_ms;
    struct loch_lease_file *lease; /* NULL: none is kept, or no server runs */
    uint64_t term, highest_term;
    loch_lsn start_lsn, prev_lsn;
    loch_lsn seen_commit_lsn; /* when it was last looked whether commits move */
};

static void boot(void *arg);
static void wind_down(struct loch_compute *c);

static uint64_t now_ms(const struct loch_compute *c)
{
    return loch_env_now_ns(c->env) / 1000000u;
}

/* ---- state that others see ---- */

static const char *state_name(const struct loch_compute *c)
{
    switch (c->fate) {
    case FENCED:
        return "fenced";
    case FAILED:
        return "failed";
    case STOPPING:
        return "stopping";
    case GO_ON:
        break;
    }
    if (c->dark != LOCH_E_OK)
        return c->dark == LOCH_E_KEY_REVOKED       ? "revoked"
               : c->dark == LOCH_E_KMS_UNAVAILABLE ? "outage"
                                                   : "isolated";
    switch (c->phase) {
    case ELECTING:
        return "electing";
    case RUNNING:
        return "running";
    case FETCHING:
    case STARTING:
    case ENDING:
    case WAITING:
        break;
    }
    return "starting";
}

static void tell(struct loch_compute *c)
{
    const char *pgdata = c->postmaster != NULL ? loch_postmaster_pgdata(c->postmaster) : "";

    const struct loch_agent_state state = {.state = state_name(c),
                                           .pgdata = pgdata,
                                           .term = c->term,
                                           .start_lsn = c->start_lsn,
                                           .wire_epoch = c->credential->pageserver.wire_epoch};

    if (!loch_is_ok(loch_state_file_write(c->config, &state)))
        loch_log_failure("state file");
}

static void enter(struct loch_compute *c, enum phase phase)
{
    c->phase = phase;
    c->phase_ms = now_ms(c);
    c->complained_ms = 0;
    tell(c);
}

/* ---- the end of a boot, and the next one ---- */

static void drop_source(struct loch_compute *c)
{
    loch_wal_source_destroy(c->source);
    c->source = NULL;
    c->streaming = false;
}

static void drop_quorum(struct loch_compute *c)
{
    struct loch_quorum_view view;

    if (c->quorum == NULL)
        return;
    loch_quorum_look(c->quorum, &view);
    c->highest_term = loch_max_u64(c->highest_term, view.highest_term);
    loch_quorum_close(c->quorum);
    c->quorum = NULL;
}

static void leave(struct loch_compute *c)
{
    drop_source(c);
    drop_quorum(c);
    loch_basebackup_destroy(c->basebackup);
    c->basebackup = NULL;
    loch_postmaster_destroy(c->postmaster);
    loch_lease_file_close(c->lease);
    c->lease = NULL;
    c->postmaster = NULL;
}

/* Everything of this boot is gone or going: when the server is, either end or begin anew. */
static void wind_down(struct loch_compute *c)
{
    if (c->server_alive)
        return;
    leave(c);
    /* What an earlier removal left is tried again while the data may not be held. */
    if (c->dark != LOCH_E_OK && !loch_is_ok(loch_postmaster_remove_boots(c->config->scratch)))
        loch_log_failure("a boot's directory stays");
    if (c->fate != GO_ON) {
        tell(c);
        loch_env_stop(c->env);
        return;
    }
    if (c->reboot != NULL)
        return;
    if (now_ms(c) - c->boot_ms > SETTLED_MS)
        c->reboot_ms = 0;
    c->reboot_ms =
        c->reboot_ms == 0 ? REBOOT_FIRST_MS : loch_min_u64(c->reboot_ms * 2, REBOOT_LAST_MS);
    enter(c, WAITING);
    if (!loch_is_ok(loch_env_timer(c->env, c->reboot_ms, &c->reboot, boot, c))) {
        loch_log_failure("cannot start again");
        c->fate = FAILED;
        loch_env_stop(c->env);
    }
}

static void kill_server(struct loch_compute *c)
{
    enter(c, ENDING);
    drop_source(c);
    if (c->server_alive)
        loch_postmaster_signal(c->postmaster, SIGQUIT);
    wind_down(c);
}

static void give_up(struct loch_compute *c, enum fate fate, const char *what)
{
    LOCH_ERROR("%s: %s", what, loch_error_text());
    if (c->fate != FENCED)
        c->fate = fate;
    kill_server(c);
}

/* This boot has failed; the next one may do better. */
static void try_again(struct loch_compute *c, const char *what)
{
    LOCH_WARN("%s: %s; starting again from storage", what, loch_error_text());
    kill_server(c);
}

/* ---- the server ---- */

static void kept_log(const struct loch_compute *c, char path[static 600])
{
    (void)snprintf(path, 600, "%s/" LOCH_SCRATCH_KEPT_LOG, c->config->scratch);
}

/* It holds statements. */
static void destroy_kept_log(struct loch_compute *c)
{
    char path[600];

    if (!c->has_kept_log)
        return;
    c->has_kept_log = false;
    kept_log(c, path);
    if (unlink(path) != 0 && errno != ENOENT)
        LOCH_WARN("cannot remove %s: %s", path, strerror(errno));
}

/* The server's log outlives the boot's directory, for whoever looks for the cause; not a
 * revocation. */
static void keep_log(struct loch_compute *c)
{
    char from[600], to[600];

    if (c->dark != LOCH_E_OK)
        return;
    (void)snprintf(from, sizeof from, "%s/../postgres.log", loch_postmaster_pgdata(c->postmaster));
    kept_log(c, to);
    c->has_kept_log = true;
    if (rename(from, to) != 0)
        LOCH_WARN("cannot keep %s", from);
}

static void on_exited(void *arg, int wait_status)
{
    struct loch_compute *c = arg;
    const bool clean = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;

    c->server_alive = false;
    if (c->fate == STOPPING && !c->stop_now)
        LOCH_INFO("PostgreSQL has stopped%s", clean ? "" : ", not cleanly");
    else if (c->fate == GO_ON && c->phase != ENDING)
        LOCH_WARN("PostgreSQL has ended by itself (%s %d); its log is %s/" LOCH_SCRATCH_KEPT_LOG,
                  WIFSIGNALED(wait_status) ? "signal" : "exit code",
                  WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status),
                  c->config->scratch);
    if (!clean || c->phase == ENDING)
        keep_log(c);
    wind_down(c);
}

static void maybe_running(struct loch_compute *c)
{
    if (c->phase != STARTING || !c->streaming || !loch_postmaster_ready(c->postmaster))
        return;
    LOCH_INFO("running: port %u, pid %d, term %" PRIu64 ", %" PRIu64 " ms after its start",
              c->config->port, (int)loch_postmaster_pid(c->postmaster), c->term,
              now_ms(c) - c->boot_ms);
    c->dark = LOCH_E_OK;
    enter(c, RUNNING);
}

static void on_streaming(void *arg)
{
    struct loch_compute *c = arg;
    c->streaming = true;
    maybe_running(c);
}

static loch_status on_wal(void *arg, loch_lsn begin, struct loch_slice bytes)
{
    struct loch_compute *c = arg;

    LOCH_TRY(loch_quorum_push(c->quorum, begin, bytes));
    if (loch_quorum_full(c->quorum))
        loch_wal_source_pause(c->source, true);
    return LOCH_OK;
}

static void on_batch(void *arg)
{
    struct loch_compute *c = arg;
    loch_quorum_propose(c->quorum);
}

static void on_source_ended(void *arg, loch_status st)
{
    struct loch_compute *c = arg;

    c->source = NULL; /* it frees itself */
    c->streaming = false;
    if (c->fate == STOPPING && loch_is_ok(st))
        return; /* after the shutdown checkpoint; the postmaster's end follows */
    if (c->fate != GO_ON || c->phase == ENDING)
        return;
    if (loch_is_ok(st))
        (void)LOCH_FAIL(LOCH_E_UNAVAILABLE, "the server is shutting down");
    try_again(c, "the WAL stream has ended");
}

static bool server_is_ready(void *arg)
{
    const struct loch_compute *c = arg;
    return loch_postmaster_ready(c->postmaster);
}

static loch_status start_source(struct loch_compute *c)
{
    const struct loch_wal_source_order order = {.env = c->env,
                                                .socket_dir =
                                                    loch_postmaster_socket_dir(c->postmaster),
                                                .port = c->config->port,
                                                .user = c->config->superuser,
                                                .system_id = c->credential->system_id,
                                                .start_lsn = c->start_lsn,
                                                .ready = server_is_ready,
                                                .streaming = on_streaming,
                                                .wal = on_wal,
                                                .batch = on_batch,
                                                .ended = on_source_ended,
                                                .arg = c};
    return loch_wal_source_create(&order, &c->source);
}

/* Until when the server's processes may go on by themselves: one look of ours later than we would
 * have killed them. */
static uint64_t lease_until_ns(const struct loch_compute *c)
{
    const uint64_t lease_ms = c->credential->lease_ms;
    struct loch_quorum_view view;

    loch_quorum_look(c->quorum, &view);
    return (view.heard_ms + lease_ms + lease_ms / 5 + 1) * 1000000u;
}

static loch_status keep_lease(struct loch_compute *c)
{
    if (c->credential->lease_ms == 0 || c->quorum == NULL)
        return LOCH_OK;
    return loch_lease_file_create(loch_postmaster_pgdata(c->postmaster), lease_until_ns(c),
                                  &c->lease);
}

/* The tenant's data may not be held here any more: the server dies at once, its files go with the
 * boot, and boots are tried until storage takes us again. */
static void on_dark(void *arg, loch_status st)
{
    struct loch_compute *c = arg;

    destroy_kept_log(c); /* of an earlier boot, also when no server is alive */
    if (c->fate == FENCED || c->fate == FAILED)
        return;
    c->dark = st.code;
    LOCH_ERROR("%s; PostgreSQL is killed and its files destroyed", loch_error_text());
    if (c->server_alive)
        loch_postmaster_kill(c->postmaster);
    kill_server(c);
}

/* Without it the server starts as after a crash, which is always right. */
static loch_status restore_stop_state(const struct loch_compute *c)
{
    const struct loch_stop_state_order order = {.env = c->env,
                                                .pgdata = loch_postmaster_pgdata(c->postmaster),
                                                .tenant = c->credential->tenant,
                                                .timeline = c->credential->timeline,
                                                .uid = c->config->uid,
                                                .gid = c->config->gid};
    bool restored;

    if (c->config->read_only)
        return LOCH_OK;
    loch_status st = loch_stop_state_restore(&order, &restored);
    if (loch_is_ok(st) || restored)
        return st;
    if (st.code == LOCH_E_STALE)
        LOCH_INFO("what the last stop of the parent branch left is not used here");
    else
        LOCH_WARN("what the last stop left is not used: %s", loch_error_text());
    return LOCH_OK;
}

static void on_basebackup(void *arg, loch_status st, loch_lsn checkpoint_end)
{
    struct loch_compute *c = arg;

    if (st.code == LOCH_E_STALE) {
        give_up(c, FENCED, "another compute has taken over");
        return;
    }
    if (st.code == LOCH_E_KEY_REVOKED || st.code == LOCH_E_KMS_UNAVAILABLE) {
        on_dark(c, st);
        return;
    }
    if (st.code == LOCH_E_DENIED) { /* safekeepers have our key: the pageserver is on its way */
        try_again(c, "no basebackup yet");
        return;
    }
    if (!loch_is_ok(st)) {
        give_up(c, FAILED, "no basebackup");
        return;
    }
    if (!loch_is_ok(restore_stop_state(c))) {
        try_again(c, "what the last stop left");
        return;
    }
    LOCH_INFO("basebackup at " LOCH_LSN_FMT " unpacked, %" PRIu64
              " ms; the server writes from " LOCH_LSN_FMT,
              LOCH_LSN_ARG(c->start_lsn), now_ms(c) - c->phase_ms, LOCH_LSN_ARG(checkpoint_end));
    st = keep_lease(c);
    if (loch_is_ok(st))
        st = loch_postmaster_start(c->postmaster, c->term, c->start_lsn, on_exited, c);
    if (!loch_is_ok(st)) {
        give_up(c, FAILED, "PostgreSQL cannot be started");
        return;
    }
    c->server_alive = true;
    enter(c, STARTING);
    if (!loch_is_ok(start_source(c)))
        give_up(c, FAILED, "cannot read the server's WAL");
}

/* ---- the quorum ---- */

static void on_elected(void *arg, uint64_t term, loch_lsn lsn, loch_lsn prev_lsn)
{
    struct loch_compute *c = arg;

    c->term = term;
    c->start_lsn = lsn;
    c->prev_lsn = prev_lsn;
    LOCH_INFO("elected for term %" PRIu64 ", WAL goes on at " LOCH_LSN_FMT, term,
              LOCH_LSN_ARG(lsn));
    tell(c);
}

static loch_status clear_pgdata(void *arg)
{
    struct loch_compute *c = arg;
    return loch_postmaster_clear(c->postmaster);
}

static loch_status fetch(struct loch_compute *c)
{
    const struct loch_postmaster_order p = {
        .env = c->env, .config = c->config, .credential = c->credential};

    LOCH_TRY(loch_postmaster_prepare(&p, &c->postmaster));
    const struct loch_basebackup_order b = {.env = c->env,
                                            .credential = c->credential,
                                            .config = c->config,
                                            .term = c->term,
                                            .lsn = c->start_lsn,
                                            .prev_lsn = c->prev_lsn,
                                            .dir = loch_postmaster_pgdata(c->postmaster)};
    enter(c, FETCHING);
    return loch_basebackup_fetch(&b, &c->basebackup, clear_pgdata, on_basebackup, c);
}

static void on_committed(void *arg, loch_lsn lsn)
{
    struct loch_compute *c = arg;

    if (c->fate == FENCED)
        return;
    if (c->source != NULL)
        loch_wal_source_report(c->source, lsn);
    if (c->phase == ELECTING && c->fate == GO_ON && !loch_is_ok(fetch(c)))
        give_up(c, FAILED, "cannot prepare a boot");
}

static void on_fenced(void *arg, const char *why)
{
    struct loch_compute *c = arg;

    LOCH_ERROR("fenced: %s; PostgreSQL is killed, this agent ends", why);
    c->fate = FENCED;
    c->stop_now = true;
    kill_server(c);
}

static void on_room(void *arg)
{
    struct loch_compute *c = arg;

    if (c->source != NULL)
        loch_wal_source_pause(c->source, false);
}

/* It may say so again and again until the server is gone. */
static void on_lost(void *arg, const char *why)
{
    struct loch_compute *c = arg;

    (void)LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s", why);
    if (c->phase == ENDING)
        return;
    if (c->fate == GO_ON)
        try_again(c, "the quorum");
    else if (c->fate == STOPPING) /* its last WAL will never be committed */
        kill_server(c);
}

static const struct loch_quorum_events quorum_events = {on_elected, on_committed, on_fenced,
                                                        on_room,    on_lost,      on_dark};

static void boot(void *arg)
{
    struct loch_compute *c = arg;
    const struct loch_quorum_order order = {.env = c->env,
                                            .credential = c->credential,
                                            .window_bytes = c->config->wal_window_bytes,
                                            .highest_term = c->highest_term,
                                            .events = &quorum_events,
                                            .arg = c};

    c->reboot = NULL;
    c->boot_ms = now_ms(c);
    c->term = 0;
    c->start_lsn = c->prev_lsn = c->seen_commit_lsn = 0;
    enter(c, ELECTING);
    const loch_status st = loch_quorum_create(&order, &c->quorum);
    if (st.code == LOCH_E_NO_MEMORY && c->reboot_ms != 0) /* not the first */
        try_again(c, "cannot campaign");
    else if (!loch_is_ok(st))
        give_up(c, FAILED, "cannot campaign");
}

/* ---- watching ---- */

/* Says what is being waited for when it takes long. */
static void complain(struct loch_compute *c)
{
    struct loch_quorum_view view;
    char who[900];
    const uint64_t now = now_ms(c);
    const uint64_t since = c->complained_ms != 0 ? c->complained_ms : c->phase_ms;

    if (c->quorum == NULL ||
        now - since < (c->complained_ms != 0 ? COMPLAIN_AGAIN_MS : COMPLAIN_FIRST_MS))
        return;
    loch_quorum_look(c->quorum, &view);
    loch_quorum_describe(c->quorum, who, sizeof who);
    c->complained_ms = now;
    if (c->phase == ELECTING)
        LOCH_WARN("waiting for a quorum of safekeepers: %s",
                  who[0] != '\0' ? who : "the election is not over");
    else if (c->phase == STARTING)
        LOCH_WARN("waiting for PostgreSQL to accept connections; its log is %s/../postgres.log",
                  loch_postmaster_pgdata(c->postmaster));
    else if (c->phase == RUNNING && view.commit_lsn < view.end_lsn &&
             view.commit_lsn == c->seen_commit_lsn)
        LOCH_WARN("commits wait for a quorum of safekeepers, at " LOCH_LSN_FMT ": %s",
                  LOCH_LSN_ARG(view.commit_lsn), who);
    c->seen_commit_lsn = view.commit_lsn;
}

/* A compute that no safekeeper answers cannot know whether its tenant's key was revoked. */
static void check_lease(struct loch_compute *c)
{
    const uint64_t lease_ms = c->credential->lease_ms;
    struct loch_quorum_view view;

    if (lease_ms == 0 || c->quorum == NULL)
        return;
    if (c->server_alive && c->lease != NULL)
        loch_lease_file_renew(c->lease, lease_until_ns(c));
    if (c->server_alive && c->phase == ENDING)
        return;
    loch_quorum_look(c->quorum, &view);
    const uint64_t silent_ms = now_ms(c) - loch_min_u64(view.heard_ms, now_ms(c));
    if (silent_ms > lease_ms && !c->server_alive)
        destroy_kept_log(c); /* all that is left here of the tenant's */
    else if (silent_ms > lease_ms)
        on_dark(c, LOCH_FAIL(LOCH_E_UNAVAILABLE,
                             "no safekeeper has answered for %" PRIu64 " ms (the lease is %" PRIu64
                             " ms)",
                             silent_ms, lease_ms));
}

static uint64_t watch_ms(const struct loch_compute *c)
{
    const uint64_t lease_ms = c->credential->lease_ms;

    if (c->phase != RUNNING)
        return WATCH_MS;
    return lease_ms == 0 ? 20 * WATCH_MS : loch_min_u64(20 * WATCH_MS, lease_ms / 5 + 1);
}

/* For the server's users. */
static void tell_quorum(struct loch_compute *c)
{
    if (c->phase != RUNNING || c->quorum == NULL || now_ms(c) - c->quorum_file_ms < QUORUM_FILE_MS)
        return;
    c->quorum_file_ms = now_ms(c);
    if (!loch_is_ok(loch_quorum_file_write(loch_postmaster_pgdata(c->postmaster), c->quorum)))
        loch_log_failure("the file on the safekeepers");
}

static void watch(void *arg)
{
    struct loch_compute *c = arg;

    c->watch = NULL;
    if (!loch_is_ok(loch_env_timer(c->env, watch_ms(c), &c->watch, watch, c)))
        loch_log_failure("watching the server");
    maybe_running(c);
    if (c->phase == STARTING && now_ms(c) - c->phase_ms > START_LIMIT_MS) {
        (void)LOCH_FAIL(LOCH_E_UNAVAILABLE, "not ready after %u s", START_LIMIT_MS / 1000u);
        try_again(c, "PostgreSQL does not start");
    } else if (c->phase == ENDING && c->server_alive && now_ms(c) - c->phase_ms > KILL_MS) {
        loch_postmaster_signal(c->postmaster, SIGKILL);
    }
    if (c->postmaster != NULL && loch_postmaster_renew(c->postmaster))
        tell(c);
    check_lease(c);
    complain(c);
    tell_quorum(c);
}

/* ---- the face ---- */

loch_status loch_compute_create(struct loch_env *env, const struct loch_agent_config *config,
                                struct loch_credential *credential, struct loch_compute **out)
{
    struct loch_compute *c = calloc(1, sizeof *c);

    if (c == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a compute");
    c->env = env;
    c->config = config;
    c->credential = credential;
    c->has_kept_log = true;
    loch_status st = loch_env_timer(env, WATCH_MS, &c->watch, watch, c);
    if (!loch_is_ok(st)) {
        free(c);
        return st;
    }
    boot(c);
    if (c->fate == FAILED) {
        loch_compute_destroy(c);
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the compute cannot begin: %s", loch_error_text());
    }
    *out = c;
    return LOCH_OK;
}

void loch_compute_stop(struct loch_compute *c)
{
    if (c->fate != GO_ON) {
        loch_compute_stop_now(c);
        return;
    }
    c->fate = STOPPING;
    loch_timer_cancel(c->reboot);
    c->reboot = NULL;
    if (c->server_alive && c->phase != ENDING) {
        LOCH_INFO("stopping PostgreSQL");
        loch_postmaster_signal(c->postmaster, SIGINT);
        tell(c);
        return;
    }
    wind_down(c);
}

void loch_compute_stop_now(struct loch_compute *c)
{
    if (c->fate == GO_ON)
        c->fate = STOPPING;
    c->stop_now = true;
    loch_timer_cancel(c->reboot);
    c->reboot = NULL;
    kill_server(c);
}

enum loch_agent_exit loch_compute_exit_code(const struct loch_compute *c)
{
    if (c->fate == FENCED)
        return LOCH_AGENT_EXIT_FENCED;
    return c->fate == FAILED ? LOCH_AGENT_EXIT_FAILED : LOCH_AGENT_EXIT_OK;
}

void loch_compute_destroy(struct loch_compute *c)
{
    if (c == NULL)
        return;
    loch_timer_cancel(c->watch);
    loch_timer_cancel(c->reboot);
    leave(c);
    free(c);
}
