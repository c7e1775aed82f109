/* Holds: the safekeeper's console commands. */
#include "daemon.h"
#include "drop.h"
#include "members_commands.h"
#include "timeline.h"

#include "loch/host/key_command.h"

#include "loch/base/log.h"
#include "loch/base/secret.h"
#include "loch/host/pin_command.h"
#include "loch/pg/wal_scan.h"

#include <stdio.h>

static loch_status ids(struct loch_console_request *request, struct loch_id *tenant,
                       struct loch_id *timeline)
{
    LOCH_TRY(loch_console_arg_id(request, "tenant", tenant));
    return loch_console_arg_id(request, "timeline", timeline);
}

/* Could WAL be scanned from there on? What the scanner refuses must not come to be: it could not be
 * opened. */
static loch_status check_start(const struct sk_timeline_spec *s)
{
    struct loch_wal_scan scan;

    if (s->prev_lsn % 8 != 0 ||
        !loch_is_ok(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, s->start_lsn, s->prev_lsn,
                                       s->segment_bytes)))
        return LOCH_FAIL(LOCH_E_INVALID,
                         "START " LOCH_LSN_FMT " PREV " LOCH_LSN_FMT
                         " cannot be the end and the start of a record",
                         LOCH_LSN_ARG(s->start_lsn), LOCH_LSN_ARG(s->prev_lsn));
    loch_wal_scan_fini(&scan);
    return LOCH_OK;
}

static loch_status read_spec(struct loch_console_request *request, struct sk_timeline_spec *out)
{
    struct sk_timeline_spec s = {0};
    uint64_t version;
    uint64_t segment;

    LOCH_TRY(loch_console_arg_lsn(request, "start", &s.start_lsn));
    LOCH_TRY(loch_console_arg_lsn(request, "prev", &s.prev_lsn));
    LOCH_TRY(loch_console_arg_u64(request, "sysid", &s.system_id));
    LOCH_TRY(loch_console_arg_u64(request, "pgversion", &version));
    LOCH_TRY(loch_console_arg_u64(request, "segment", &segment));
    if (version / 10000 != 15)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "PostgreSQL version %" PRIu64 " is not known here",
                         version);
    if (segment < (1u << 20) || segment > (1u << 30) || (segment & (segment - 1)) != 0)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "a WAL segment of %" PRIu64 " bytes: want a power of two from 1 MiB to "
                         "1 GiB",
                         segment);
    s.pg_version = (uint32_t)version;
    s.segment_bytes = (uint32_t)segment;
    LOCH_TRY(check_start(&s));
    *out = s;
    return LOCH_OK;
}

/* The same again is fine; anything else of that name is not. */
static loch_status check_same(const struct sk_timeline *tl, const struct sk_timeline_spec *spec)
{
    LOCH_TRY(sk_timeline_check(tl));
    if (tl->control.acceptor.start_lsn != spec->start_lsn ||
        tl->control.acceptor.start_prev_lsn != spec->prev_lsn ||
        tl->control.system_id != spec->system_id || tl->control.pg_version != spec->pg_version ||
        tl->control.segment_bytes != spec->segment_bytes)
        return LOCH_FAIL(
            LOCH_E_EXISTS,
            "timeline %s is there already, and begins at " LOCH_LSN_FMT " of system %" PRIu64,
            tl->timeline_text, LOCH_LSN_ARG(tl->control.acceptor.start_lsn), tl->control.system_id);
    return LOCH_OK;
}

static loch_status create(struct sk_daemon *d, struct loch_console_request *request, bool *later)
{
    struct sk_timeline_spec spec;
    struct sk_timeline *tl;
    struct loch_id tenant;
    struct loch_id timeline;

    LOCH_TRY(ids(request, &tenant, &timeline));
    LOCH_TRY(read_spec(request, &spec));
    if (d->stopping)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the safekeeper stops");
    tl = sk_daemon_find(d, &tenant, &timeline);
    if (tl != NULL)
        return check_same(tl, &spec);
    LOCH_TRY(sk_timeline_new(d, &tenant, &timeline, &tl));
    loch_status st = sk_daemon_adopt(d, tl);
    if (loch_is_ok(st)) {
        tl->request = request;
        st = sk_timeline_open(tl, &spec);
        if (!loch_is_ok(st))
            sk_daemon_forget(d, tl);
    }
    if (!loch_is_ok(st)) {
        tl->request = NULL;
        sk_timeline_destroy(tl);
        return st;
    }
    *later = true;
    return LOCH_OK;
}

static void create_timeline(void *arg, struct loch_console_request *request)
{
    bool later = false;
    loch_status st = create(arg, request, &later);

    if (!loch_is_ok(st))
        loch_console_fail(request, st);
    else if (!later)
        loch_console_done(request, "CREATE TIMELINE");
}

static void drop_timeline(void *arg, struct loch_console_request *request)
{
    struct sk_daemon *d = arg;
    struct loch_id tenant;
    struct loch_id timeline;

    loch_status st = ids(request, &tenant, &timeline);
    if (loch_is_ok(st))
        st = sk_drop(d, &tenant, &timeline, request);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

static void drop_tenant(void *arg, struct loch_console_request *request)
{
    struct sk_daemon *d = arg;
    struct loch_id tenant;

    loch_status st = loch_console_arg_id(request, "tenant", &tenant);
    if (loch_is_ok(st))
        st = sk_drop(d, &tenant, NULL, request);
    if (!loch_is_ok(st))
        loch_console_fail(request, st);
}

static void pin_tenant(void *arg, struct loch_console_request *request)
{
    struct sk_daemon *d = arg;

    loch_pin_command(d->env, d->kms, request);
}

static void show_pins(void *arg, struct loch_console_request *request)
{
    struct sk_daemon *d = arg;

    loch_show_pins_command(d->kms, request);
}

static void unpin_tenant(void *arg, struct loch_console_request *request)
{
    struct sk_daemon *d = arg;

    loch_unpin_command(d->env, d->kms, request);
}

struct texts {
    char lsn[8][24];
    char number[4][24];
};

static const char *lsn_text(char out[static 24], loch_lsn lsn)
{
    (void)snprintf(out, 24, LOCH_LSN_FMT, LOCH_LSN_ARG(lsn));
    return out;
}

static const char *number_text(char out[static 24], uint64_t n)
{
    (void)snprintf(out, 24, "%" PRIu64, n);
    return out;
}

static void timeline_row(struct loch_console_request *request, const struct sk_timeline *tl)
{
    struct texts t;

    if (tl->state != SK_ACTIVE) {
        const char *const values[] = {tl->tenant_text,
                                      tl->timeline_text,
                                      sk_state_name(tl->state),
                                      NULL,
                                      NULL,
                                      NULL,
                                      NULL,
                                      NULL,
                                      NULL,
                                      NULL,
                                      NULL,
                                      NULL,
                                      NULL,
                                      NULL,
                                      NULL,
                                      tl->why};
        loch_console_row(request, values);
        return;
    }
    struct loch_acceptor_view v;
    loch_acceptor_look(tl->acceptor, &v);
    const uint64_t wal_bytes = sk_store_disk_bytes(tl->store) - sk_store_spare_bytes(tl->store);
    const char *const values[] = {tl->tenant_text,
                                  tl->timeline_text,
                                  sk_state_name(tl->state),
                                  number_text(t.number[0], v.term),
                                  number_text(t.number[1], v.min_compute_epoch),
                                  lsn_text(t.lsn[0], v.start_lsn),
                                  lsn_text(t.lsn[1], v.write_lsn),
                                  lsn_text(t.lsn[2], v.flush_lsn),
                                  lsn_text(t.lsn[3], v.commit_lsn),
                                  lsn_text(t.lsn[4], tl->reader_lsn),
                                  lsn_text(t.lsn[5], tl->persisted_lsn),
                                  lsn_text(t.lsn[6], tl->archive.lsn),
                                  lsn_text(t.lsn[7], tl->control.trim_lsn),
                                  number_text(t.number[2], sk_store_file_count(tl->store)),
                                  number_text(t.number[3], wal_bytes),
                                  tl->hold[0] != '\0' ? tl->hold : tl->archive.why};
    loch_console_row(request, values);
}

static void show_timelines(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {
        "tenant",      "timeline",  "state",      "term",       "compute_epoch", "start_lsn",
        "write_lsn",   "flush_lsn", "commit_lsn", "reader_lsn", "persisted_lsn", "archived_lsn",
        "trimmed_lsn", "files",     "wal_bytes",  "detail"};
    const struct sk_daemon *d = arg;

    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    for (size_t i = 0; i < d->timeline_count; i++)
        timeline_row(request, d->timelines[i]);
    loch_console_done(request, NULL);
}

static void fact(struct loch_console_request *request, const char *name, const char *value)
{
    const char *const values[] = {name, value};

    loch_console_row(request, values);
}

static void show_status(void *arg, struct loch_console_request *request)
{
    static const char *const names[] = {"name", "value"};
    const struct sk_daemon *d = arg;
    char text[LOCH_ID_TEXT_BYTES];
    char number[24];
    size_t active = 0;

    for (size_t i = 0; i < d->timeline_count; i++)
        active += d->timelines[i]->state == SK_ACTIVE;
    loch_console_columns(request, names, 2);
    fact(request, "version", LOCH_VERSION);
    fact(request, "node", loch_id_format(&d->node, text));
    fact(request, "cluster", loch_id_format(&d->cluster, text));
    fact(request, "dir", d->dir);
    fact(request, "incarnation", number_text(number, d->incarnation));
    fact(request, "peers", number_text(number, d->peer_count));
    fact(request, "timelines", number_text(number, d->timeline_count));
    fact(request, "timelines_active", number_text(number, active));
    fact(request, "connections", number_text(number, d->conn_count));
    fact(request, "wal_bytes", number_text(number, d->limits.wal_bytes));
    fact(request, "timeline_limit", number_text(number, d->limits.timeline_bytes));
    fact(request, "node_limit", number_text(number, d->limits.node_bytes));
    fact(request, "least_free", number_text(number, d->limits.least_free_bytes));
    if (d->limits.free_bytes != UINT64_MAX)
        fact(request, "free", number_text(number, d->limits.free_bytes));
    fact(request, "secret_memory", loch_secret_backing());
    fact(request, "keys", loch_kms_customer_held(d->kms) ? "customer-held" : "not customer-held");
    loch_console_done(request, NULL);
}

static void show_keys(void *arg, struct loch_console_request *request)
{
    const struct sk_daemon *d = arg;

    loch_show_keys_command(d->keys, request);
}

static void reload_keys(void *arg, struct loch_console_request *request)
{
    struct sk_daemon *d = arg;

    loch_reload_keys_command(d->env, d->keys, request);
}

static void show_receipt(void *arg, struct loch_console_request *request)
{
    struct sk_daemon *d = arg;

    loch_receipt_command(d->env, d->dir, request);
}

static void show_leases(void *arg, struct loch_console_request *request)
{
    const struct sk_daemon *d = arg;

    loch_leases_show(d->leases, request);
}

/* Its hold has done it. */
static void wake_tenant(void *arg, struct loch_console_request *request)
{
    (void)arg;
    loch_console_done(request, "WAKE TENANT");
}

static const struct loch_console_command commands[] = {
    {"CREATE TIMELINE <tenant> <timeline> START <start> PREV <prev> SYSID <sysid> PGVERSION "
     "<pgversion> SEGMENT <segment>",
     "Begins to keep a timeline's WAL from START on; the same again does nothing.",
     create_timeline},
    {"DROP TIMELINE <tenant> <timeline>", "Deletes a timeline's WAL for good.", drop_timeline},
    {"DROP TENANT <tenant>", "Deletes all timelines of a tenant.", drop_tenant},
    {LOCH_PIN_WORDS, LOCH_PIN_HELP, pin_tenant},
    {LOCH_UNPIN_WORDS, LOCH_UNPIN_HELP, unpin_tenant},
    {"SHOW MEMBERS <tenant> <timeline>",
     "Who keeps the timeline's WAL, by the authority; this safekeeper comes to know it.",
     sk_command_show_members},
    {"SHOW MEMBER STATES [OF <tenant> <timeline>]",
     "One row a timeline, or of this one: how this safekeeper stands as a member.",
     sk_command_show_member},
    {"FORM MEMBERS <tenant> <timeline> <members>",
     "The first membership, id@node@address,...; does nothing when there is one.",
     sk_command_form_members},
    {"CHANGE MEMBERS <tenant> <timeline> FROM <generation> TO <members>",
     "Begins a change: from now on quorums of the old and of the new members are needed.",
     sk_command_change_members},
    {"FINISH MEMBERS <tenant> <timeline> FROM <generation>",
     "Ends a change in its new members; only `loch safekeeper` knows when that is safe.",
     sk_command_finish_members},
    {"ABORT MEMBERS <tenant> <timeline> FROM <generation>", "Ends a change in its old members.",
     sk_command_abort_members},
    {LOCH_SHOW_PINS_WORDS, LOCH_SHOW_PINS_HELP, show_pins},
    {"SHOW TIMELINES", "One row a timeline: positions and state.", show_timelines},
    {"SHOW STATUS", "What this safekeeper is.", show_status},
    {LOCH_RECEIPT_WORDS, LOCH_RECEIPT_HELP, show_receipt},
    {LOCH_SHOW_KEYS_WORDS, LOCH_SHOW_KEYS_HELP, show_keys},
    {LOCH_RELOAD_KEYS_WORDS, LOCH_RELOAD_KEYS_HELP, reload_keys},
    {LOCH_WAKE_WORDS, LOCH_WAKE_HELP, wake_tenant},
    {"SHOW LEASES", "One row a tenant: whether its key may be used, and why not.", show_leases},
};

const struct loch_daemon_hooks sk_hooks = {.commands = commands,
                                           .command_count = sizeof commands / sizeof commands[0],
                                           .hold = sk_daemon_hold,
                                           .start = sk_daemon_start,
                                           .stop = sk_daemon_stop,
                                           .finish = sk_daemon_finish};
