/* Holds: the export of WAL by PostgreSQL's replication protocol. Invariants: only committed WAL
 * goes out, and only to the tenant that the certificate names; bytes read from files before a cut
 * are read again; what stands before the branch's first byte in its first segment is made up, as
 * the continuation of a record that nobody will look for; what was read goes out as what was asked
 * for. Source: PostgreSQL 15 documentation, chapter 55.4 (Streaming Replication Protocol). */
#include "export.h"

#include "export_command.h"
#include "timeline.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/host/pgv3.h"
#include "loch/pg/wal_scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define QUEUE_BYTES   (1u << 20)
#define READ_BYTES    (4u << 20)
#define LEAST_BYTES   (128u << 10) /* read at once while memory is short */
#define CHUNK_BYTES   (128u << 10)
#define KEEPALIVE_NS  UINT64_C(5000000000)
#define STALLED_NS    UINT64_C(5000000000) /* nothing could be sent: it may read its piece again */
#define EPOCH_DIFF_US INT64_C(946684800000000) /* 1970 to 2000 */
#define WAL_MAGIC     0xD110u                  /* PostgreSQL 15 */
#define CONTRECORD    1u
#define LONG_HEADER   2u
#define OPTION        "loch.timeline="
#define TLI           1u

struct sk_export {
    struct sk_export *next, **link;
    struct sk_daemon *daemon;
    struct sk_timeline *tl;      /* NULL: it went away */
    struct loch_pgv3_conn *conn; /* NULL: the client left while a read was under way */
    bool streaming, reading, archived, dropped, holds_piece;
    loch_lsn position;
    struct loch_buf wal; /* read from files or the archive: begins at wal_lsn */
    size_t wal_counted;  /* in the daemon's memory; before it is there, too */
    loch_lsn wal_lsn, read_lsn;
    uint64_t wal_cuts, said_ns, sent_ns;
};

/* What its WAL takes, or will when it is read. */
static void count_wal(struct sk_export *e, size_t bytes)
{
    struct sk_daemon *d = e->daemon;

    sk_memory_count(&d->memory, &e->wal_counted, bytes);
    d->export_pieces -= e->holds_piece;
    e->holds_piece = bytes > 0 && e->archived;
    d->export_pieces += e->holds_piece;
}

/* Not while a read is under way: that is counted. */
static void keep_wal(struct sk_export *e, struct loch_buf *take_wal)
{
    sk_wal_wipe(&e->wal);
    e->wal = *take_wal;
    *take_wal = (struct loch_buf){0};
    e->sent_ns = loch_env_now_ns(e->daemon->env);
    count_wal(e, e->wal.cap);
}

static void forget_wal(struct sk_export *e)
{
    if (!e->reading)
        keep_wal(e, &(struct loch_buf){0});
}

static void export_free(struct sk_export *e)
{
    *e->link = e->next;
    if (e->next != NULL)
        e->next->link = e->link;
    forget_wal(e);
    free(e);
}

static void finish(struct sk_export *e, const char *severity, const char *sqlstate,
                   const char *text)
{
    struct loch_buf out = {0};
    struct loch_writer w;
    char line[SK_TEXT_BYTES];

    if (e->conn == NULL)
        return;
    (void)snprintf(line, sizeof line, "export: %s", text);
    if (loch_refusals_news(&e->daemon->refusals, line, loch_env_now_ns(e->daemon->env)))
        LOCH_WARN("%s", line);
    loch_writer_init(&w, &out);
    loch_pgv3_error(&w, severity, sqlstate, text, NULL);
    loch_pgv3_send(e->conn, &out);
    loch_pgv3_finish(e->conn);
    e->streaming = false;
    forget_wal(e);
}

/* ---- what stands before the first byte ---- */

static loch_lsn segment_start(const struct sk_timeline *tl)
{
    loch_lsn start = tl->control.acceptor.start_lsn;

    return start - start % tl->control.segment_bytes;
}

/* The page at `lsn` of the first segment, up to where the branch's WAL begins: a record that began
 * before the segment and ends there. */
static size_t made_up_page(const struct sk_timeline *tl, loch_lsn lsn,
                           uint8_t page[static LOCH_WAL_PAGE_BYTES])
{
    bool first = lsn % tl->control.segment_bytes == 0;
    size_t header = first ? 40 : 24;
    loch_lsn start = tl->control.acceptor.start_lsn;
    size_t len = (size_t)loch_min_u64(start - lsn, LOCH_WAL_PAGE_BYTES);
    bool last = start - lsn < LOCH_WAL_PAGE_BYTES;

    memset(page, 0, LOCH_WAL_PAGE_BYTES);
    loch_put_u16(page, WAL_MAGIC);
    loch_put_u16(page + 2, (uint16_t)(CONTRECORD | (first ? LONG_HEADER : 0u)));
    loch_put_u32(page + 4, TLI);
    loch_put_u64(page + 8, lsn);
    loch_put_u32(page + 16, last ? (uint32_t)(len - loch_min_u64(len, header))
                                 : (uint32_t)LOCH_WAL_PAGE_BYTES);
    if (first) {
        loch_put_u64(page + 24, tl->control.system_id);
        loch_put_u32(page + 32, tl->control.segment_bytes);
        loch_put_u32(page + 36, (uint32_t)LOCH_WAL_PAGE_BYTES);
    }
    return len;
}

/* ---- streaming ---- */

static void write_u64(struct loch_writer *w, uint64_t v)
{
    loch_pgv3_u32(w, (uint32_t)(v >> 32));
    loch_pgv3_u32(w, (uint32_t)v);
}

static uint64_t pg_now(const struct sk_export *e)
{
    return (uint64_t)(loch_env_wall_us(e->daemon->env) - EPOCH_DIFF_US);
}

static void send_wal(struct sk_export *e, struct loch_slice bytes)
{
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_writer_init(&w, &out);
    size_t mark = loch_pgv3_begin(&w, 'd');
    loch_write_u8(&w, 'w');
    write_u64(&w, e->position);
    write_u64(&w, e->tl->seen_commit);
    write_u64(&w, pg_now(e));
    loch_write_bytes(&w, bytes.data, bytes.len);
    loch_pgv3_end(&w, mark);
    e->position += bytes.len;
    e->said_ns = e->sent_ns = loch_env_now_ns(e->daemon->env);
    loch_metric_add(e->daemon->stats.exported_bytes, bytes.len);
    loch_pgv3_send(e->conn, &out);
}

static void keepalive(struct sk_export *e)
{
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_writer_init(&w, &out);
    size_t mark = loch_pgv3_begin(&w, 'd');
    loch_write_u8(&w, 'k');
    write_u64(&w, e->tl->seen_commit);
    write_u64(&w, pg_now(e));
    loch_write_u8(&w, 0);
    loch_pgv3_end(&w, mark);
    e->said_ns = loch_env_now_ns(e->daemon->env);
    loch_pgv3_send(e->conn, &out);
}

static void pump(struct sk_export *e);

static bool trimmed(const struct sk_export *e)
{
    return e->position < sk_store_first_lsn(e->tl->store);
}

static void read_done(void *arg, loch_status st, struct loch_buf *take_wal)
{
    struct sk_export *e = arg;

    e->reading = false;
    forget_wal(e);
    if (e->conn == NULL) {
        export_free(e);
        return;
    }
    if (e->dropped)
        e->tl = NULL;
    if (e->tl == NULL || e->tl->state != SK_ACTIVE || !e->streaming)
        return;
    /* Else the client has ended that stream meanwhile, and begun one elsewhere. */
    bool good =
        e->position == e->read_lsn && (e->archived || e->wal_cuts == sk_store_cuts(e->tl->store));
    if (!loch_is_ok(st) && good && !(st.code == LOCH_E_NOT_FOUND && !e->archived && trimmed(e))) {
        finish(e, "FATAL", loch_pgv3_sqlstate(st.code), loch_error_text());
        return;
    }
    if (loch_is_ok(st) && good) {
        keep_wal(e, take_wal);
        e->wal_lsn = e->read_lsn;
    }
    pump(e);
}

/* A piece of the archive is read whole. Who reads it may be slow, so exports take no more than a
 * share of what is left for all, or one at a time. */
static bool has_room(const struct sk_daemon *d)
{
    return d->export_pieces == 0 || sk_memory_has(&d->memory, 4 * d->piece_bytes);
}

/* One that waits for room is looked at again by the tick. */
static loch_status begin_to_read(struct sk_export *e, loch_lsn upto)
{
    struct sk_daemon *d = e->daemon;
    size_t bytes = sk_memory_share(&d->memory, LEAST_BYTES, READ_BYTES);

    e->wal_cuts = sk_store_cuts(e->tl->store);
    e->archived = trimmed(e);
    e->read_lsn = e->position;
    if (e->archived) {
        bytes = d->piece_bytes;
        if (!has_room(d))
            return LOCH_OK;
        LOCH_TRY(sk_archive_read(e->tl, e->position, read_done, e));
    } else {
        LOCH_TRY(sk_store_read(e->tl->store, e->position, upto, bytes, read_done, e));
    }
    e->reading = true;
    count_wal(e, bytes);
    return LOCH_OK;
}

/* The next committed piece from memory or from what was read; else *out is empty, and it may have
 * begun to read. */
static loch_status next_piece(struct sk_export *e, loch_lsn upto, struct loch_slice *out)
{
    struct sk_store *store = e->tl->store;

    *out = (struct loch_slice){0};
    if (sk_store_tail(store, e->position, upto, CHUNK_BYTES, out))
        return LOCH_OK;
    if (e->wal.len > 0 && e->position >= e->wal_lsn && e->position < e->wal_lsn + e->wal.len) {
        size_t skip = (size_t)(e->position - e->wal_lsn);
        size_t len = (size_t)loch_min_u64(e->wal.len - skip, upto - e->position);
        *out = loch_slice_of(e->wal.data + skip, (size_t)loch_min_u64(len, CHUNK_BYTES));
        return LOCH_OK;
    }
    forget_wal(e);
    return begin_to_read(e, upto);
}

static void pump(struct sk_export *e)
{
    while (e->streaming && !e->reading && e->tl != NULL && e->tl->state == SK_ACTIVE &&
           e->position < e->tl->seen_commit && loch_pgv3_queued(e->conn) < QUEUE_BYTES) {
        struct loch_slice piece;
        uint8_t page[LOCH_WAL_PAGE_BYTES];
        if (e->position < e->tl->control.acceptor.start_lsn) {
            loch_lsn at = e->position - e->position % LOCH_WAL_PAGE_BYTES;
            size_t len = made_up_page(e->tl, at, page);
            size_t skip = (size_t)(e->position - at);
            send_wal(e, loch_slice_of(page + skip, len - skip));
            continue;
        }
        if (!loch_is_ok(sk_timeline_lease(e->tl)) ||
            !loch_is_ok(next_piece(e, e->tl->seen_commit, &piece))) {
            finish(e, "FATAL", "58000", loch_error_text());
            return;
        }
        if (piece.len == 0)
            break;
        send_wal(e, piece);
        if (e->wal.cap > 0 && e->position >= e->wal_lsn + e->wal.len)
            forget_wal(e); /* all of it was sent */
    }
}

/* ---- commands ---- */

/* A row of text; NULL is SQL's null. */
static void answer(struct sk_export *e, const char *const *names, const char *const *values,
                   size_t count, const char *tag)
{
    struct loch_buf out = {0};
    struct loch_writer w;
    size_t mark;

    loch_writer_init(&w, &out);
    if (count > 0) {
        mark = loch_pgv3_begin(&w, 'T');
        loch_pgv3_u16(&w, (uint16_t)count);
        for (size_t i = 0; i < count; i++) {
            loch_pgv3_text(&w, names[i]);
            loch_pgv3_u32(&w, 0);
            loch_pgv3_u16(&w, 0);
            loch_pgv3_u32(&w, 25); /* text */
            loch_pgv3_u16(&w, UINT16_MAX);
            loch_pgv3_u32(&w, UINT32_MAX);
            loch_pgv3_u16(&w, 0);
        }
        loch_pgv3_end(&w, mark);
        mark = loch_pgv3_begin(&w, 'D');
        loch_pgv3_u16(&w, (uint16_t)count);
        for (size_t i = 0; i < count; i++) {
            size_t len = values[i] != NULL ? strlen(values[i]) : 0;
            loch_pgv3_u32(&w, values[i] != NULL ? (uint32_t)len : UINT32_MAX);
            loch_write_bytes(&w, values[i] != NULL ? values[i] : "", len);
        }
        loch_pgv3_end(&w, mark);
    }
    mark = loch_pgv3_begin(&w, 'C');
    loch_pgv3_text(&w, tag);
    loch_pgv3_end(&w, mark);
    loch_pgv3_ready(&w);
    loch_pgv3_send(e->conn, &out);
}

static void complain(struct sk_export *e, const char *sqlstate, const char *text)
{
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_writer_init(&w, &out);
    loch_pgv3_error(&w, "ERROR", sqlstate, text, NULL);
    loch_pgv3_ready(&w);
    loch_pgv3_send(e->conn, &out);
}

static void identify(struct sk_export *e)
{
    static const char *const names[] = {"systemid", "timeline", "xlogpos", "dbname"};
    char system[24];
    char lsn[24];

    (void)snprintf(system, sizeof system, "%" PRIu64, e->tl->control.system_id);
    (void)snprintf(lsn, sizeof lsn, LOCH_LSN_FMT, LOCH_LSN_ARG(e->tl->seen_commit));
    answer(e, names, (const char *const[]){system, "1", lsn, NULL}, 4, "IDENTIFY_SYSTEM");
}

/* Nothing is removed from the archive, so every slot begins where the branch's WAL begins. */
static void read_slot(struct sk_export *e)
{
    static const char *const names[] = {"slot_type", "restart_lsn", "restart_tli"};
    char lsn[24];

    (void)snprintf(lsn, sizeof lsn, LOCH_LSN_FMT, LOCH_LSN_ARG(segment_start(e->tl)));
    answer(e, names, (const char *const[]){"physical", lsn, "1"}, 3, "READ_REPLICATION_SLOT");
}

static void create_slot(struct sk_export *e, const char *name)
{
    static const char *const names[] = {"slot_name", "consistent_point", "snapshot_name",
                                        "output_plugin"};

    answer(e, names, (const char *const[]){name, "0/0", NULL, NULL}, 4, "CREATE_REPLICATION_SLOT");
}

static void show(struct sk_export *e, const char *value)
{
    answer(e, (const char *const[]){"value"}, (const char *const[]){value}, 1, "SHOW");
}

static void start_replication(struct sk_export *e, loch_lsn lsn)
{
    struct loch_buf out = {0};
    struct loch_writer w;

    if (lsn < segment_start(e->tl) || lsn > e->tl->seen_commit) {
        complain(e, "58P01",
                 "the branch's WAL does not reach there: it begins at its first "
                 "segment and ends at what is committed");
        return;
    }
    LOCH_INFO("export: timeline %s of tenant %s from " LOCH_LSN_FMT " on", e->tl->timeline_text,
              e->tl->tenant_text, LOCH_LSN_ARG(lsn));
    loch_writer_init(&w, &out);
    size_t mark = loch_pgv3_begin(&w, 'W');
    loch_write_u8(&w, 0);
    loch_pgv3_u16(&w, 0);
    loch_pgv3_end(&w, mark);
    loch_pgv3_send(e->conn, &out);
    e->position = lsn;
    e->streaming = true;
    pump(e);
}

static void query(struct sk_export *e, const char *text)
{
    loch_status st = sk_timeline_check(e->tl);
    struct sk_export_command command;
    char size[32];

    if (!loch_is_ok(st)) {
        complain(e, loch_pgv3_sqlstate(st.code), loch_error_text());
        return;
    }
    sk_export_command_parse(text, &command);
    switch (command.verb) {
    case SK_EXPORT_REFUSED:
        complain(e, command.sqlstate, command.complaint);
        return;
    case SK_EXPORT_IDENTIFY:
        identify(e);
        return;
    case SK_EXPORT_SHOW_SEGMENT_SIZE:
        (void)snprintf(size, sizeof size, "%" PRIu32 "MB", e->tl->control.segment_bytes >> 20);
        show(e, size);
        return;
    case SK_EXPORT_SHOW_DIRECTORY_MODE:
        show(e, "0700");
        return;
    case SK_EXPORT_READ_SLOT:
        read_slot(e);
        return;
    case SK_EXPORT_CREATE_SLOT:
        create_slot(e, command.slot);
        return;
    case SK_EXPORT_DROP_SLOT:
        answer(e, NULL, NULL, 0, "DROP_REPLICATION_SLOT");
        return;
    case SK_EXPORT_START:
        start_replication(e, command.lsn);
        return;
    }
}

/* ---- the connection's events ---- */

static void message(void *state, char type, struct loch_slice body)
{
    struct sk_export *e = state;
    struct loch_buf out = {0};
    struct loch_writer w;

    if (e->tl == NULL) {
        finish(e, "FATAL", "57P01", "the timeline has gone away");
    } else if (type == 'Q' && !e->streaming && body.len > 0 && body.data[body.len - 1] == 0) {
        query(e, (const char *)body.data);
    } else if (type == 'c' && e->streaming) { /* CopyDone: the stream ends, both ways */
        e->streaming = false;
        forget_wal(e);
        loch_writer_init(&w, &out);
        loch_pgv3_end(&w, loch_pgv3_begin(&w, 'c'));
        size_t mark = loch_pgv3_begin(&w, 'C');
        loch_pgv3_text(&w, "START_STREAMING");
        loch_pgv3_end(&w, mark);
        loch_pgv3_ready(&w);
        loch_pgv3_send(e->conn, &out);
    } else if (type == 'd' && e->streaming) { /* a status update; one byte may ask for an answer */
        if (body.len == 34 && body.data[0] == 'r' && body.data[33] != 0)
            keepalive(e);
    } else if (type != 'd' && type != 'c') {
        finish(e, "FATAL", "08P01", "a message that has no place here");
    }
}

static void drained(void *state)
{
    pump(state);
}

static void closed(void *state)
{
    struct sk_export *e = state;

    loch_metric_move(e->daemon->stats.exports, -1);
    e->conn = NULL;
    e->streaming = false;
    if (!e->reading) /* else the read's end frees it */
        export_free(e);
}

static loch_status begin(void *arg, struct loch_pgv3_conn *conn, void **state)
{
    struct sk_daemon *d = arg;
    const char *user = loch_pgv3_param(conn, "user");
    const char *replication = loch_pgv3_param(conn, "replication");
    const char *options = loch_pgv3_param(conn, "options");
    const char *at = options != NULL ? strstr(options, OPTION) : NULL;
    char hex[33] = "";
    struct loch_id tenant;
    struct loch_id timeline;

    if (user == NULL || strcmp(user, "exporter") != 0 || replication == NULL ||
        !loch_is_ok(loch_id_parse(loch_pgv3_peer(conn), &tenant)))
        return LOCH_FAIL(LOCH_E_DENIED,
                         "want user exporter, a replication connection, and a certificate whose "
                         "common name is the tenant's id");
    if (at == NULL || sscanf(at + strlen(OPTION), "%32[0-9a-f]", hex) != 1 ||
        !loch_is_ok(loch_id_parse(hex, &timeline)))
        return LOCH_FAIL(LOCH_E_INVALID, "name the branch: options='-c loch.timeline=<its id>'");
    struct sk_timeline *tl = sk_daemon_find(d, &tenant, &timeline);
    if (tl == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant has no such timeline here");
    LOCH_TRY(sk_timeline_check(tl));
    struct sk_export *e = calloc(1, sizeof *e);
    if (e == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a reader of WAL");
    e->daemon = d;
    e->tl = tl;
    e->conn = conn;
    e->next = d->exports;
    e->link = &d->exports;
    if (e->next != NULL)
        e->next->link = &e->next;
    d->exports = e;
    loch_metric_move(d->stats.exports, 1);
    *state = e;
    return LOCH_OK;
}

static const struct loch_pgv3_events events = {begin, message, drained, closed};

/* ---- life ---- */

loch_status sk_export_start(struct sk_daemon *d, const struct loch_config *config)
{
    struct loch_pgv3_options options = {.env = d->env,
                                        .address = loch_config_string(config, "export", "listen"),
                                        .cert = loch_config_string(config, "export", "cert"),
                                        .key = loch_config_string(config, "export", "key"),
                                        .client_ca =
                                            loch_config_string(config, "export", "client_ca"),
                                        .events = &events,
                                        .arg = d};

    if (options.address[0] == '\0')
        return LOCH_OK;
    LOCH_TRY(loch_pgv3_listen(&options, &d->export_port));
    LOCH_INFO("WAL is exported on %s to clients of %s", options.address, options.client_ca);
    return LOCH_OK;
}

void sk_export_stop(struct sk_daemon *d)
{
    loch_pgv3_close(d->export_port);
    d->export_port = NULL;
}

void sk_export_kick(struct sk_timeline *tl)
{
    struct sk_export *next;

    for (struct sk_export *e = tl->daemon->exports; e != NULL; e = next) {
        next = e->next;
        if (e->tl == tl && e->conn != NULL)
            pump(e);
    }
}

void sk_export_drop(struct sk_timeline *tl, const char *why)
{
    for (struct sk_export *e = tl->daemon->exports; e != NULL; e = e->next) {
        if (e->tl != tl || e->conn == NULL)
            continue;
        finish(e, "FATAL", "57P01", why);
        e->dropped = true;
        if (!e->reading)
            e->tl = NULL;
    }
}

void sk_export_cut(struct sk_timeline *tl, const char *why)
{
    struct sk_export *next;

    for (struct sk_export *e = tl->daemon->exports; e != NULL; e = next) {
        next = e->next;
        if (e->tl != tl || e->conn == NULL)
            continue;
        finish(e, "FATAL", "57P01", why);
        e->dropped = true;
        loch_pgv3_cut(e->conn); /* frees e unless it reads */
    }
}

bool sk_export_uses(const struct sk_timeline *tl)
{
    for (const struct sk_export *e = tl->daemon->exports; e != NULL; e = e->next)
        if (e->tl == tl && (e->reading || e->dropped))
            return true;
    return false;
}

void sk_export_tick(struct sk_daemon *d)
{
    uint64_t now = loch_env_now_ns(d->env);

    for (struct sk_export *e = d->exports; e != NULL; e = e->next) {
        if (!e->streaming || e->tl == NULL)
            continue;
        if (e->holds_piece && now - e->sent_ns >= STALLED_NS && !has_room(d))
            forget_wal(e);
        if (now - e->said_ns >= KEEPALIVE_NS && loch_pgv3_queued(e->conn) < QUEUE_BYTES)
            keepalive(e);
        pump(e);
    }
}
