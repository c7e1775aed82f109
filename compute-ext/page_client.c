/* Holds: requests, their answers and the patience between them.
 *
 * Answers carry the request's id: one that belongs to a request given up by an ERROR is dropped, so
 * the connection need not be. One that bears the id and is not what was asked for, or is older than
 * was asked for, ends the connection: nothing of it is believed. */
#include "page_client.h"

#include "page_conn.h"
#include "readahead.h"
#include "report.h"
#include "shared.h"
#include "wait.h"

#include "miscadmin.h"
#include "portability/instr_time.h"

#include "loch/wire/packed_page.h"

#define PAUSE_FIRST_MS     20
#define PAUSE_MOST_MS      1000
#define COMPLAIN_AFTER_MS  5000
#define STATUS_PATIENCE_MS 1000

enum kind { ASK_PAGE, ASK_SIZE, ASK_DB_BYTES, ASK_STATUS };

/* One request and where its answer goes. */
struct exchange {
    enum kind kind;
    struct loch_page_at at;
    struct loch_rel rel;
    uint8_t fork;
    uint32_t block;
    char *page;
    bool exists;
    uint32_t blocks;
    uint64_t bytes;
    struct loch_page_status_reply *status;
    uint64_t posted_id; /* already sent under this id, 0: not */
};

static uint64_t last_request_id;
static struct loch_buf posted; /* whole frames that wait to be sent */
static uint32 posted_count;
static bool post_failed;  /* memory ran out: a frame in `posted` is not whole */
static uint32 unanswered; /* requests sent on this connection and not answered yet */

static struct loch_rel rel_of(RelFileNode rnode)
{
    return (struct loch_rel){rnode.spcNode, rnode.dbNode, rnode.relNode};
}

static struct loch_page_at latest(XLogRecPtr lsn)
{
    return (struct loch_page_at){LOCH_LSN_MAX, lsn};
}

/* One whole frame. */
static void encode_request(struct loch_writer *w, const struct exchange *x, uint64_t id)
{
    switch (x->kind) {
    case ASK_PAGE: {
        struct loch_page_get m = {id, x->at, x->rel, x->fork, x->block};
        loch_page_get_encode(w, &m);
        break;
    }
    case ASK_SIZE: {
        struct loch_page_rel_size m = {id, x->at, x->rel, x->fork};
        loch_page_rel_size_encode(w, &m);
        break;
    }
    case ASK_DB_BYTES: {
        struct loch_page_db_size m = {id, x->at, x->rel.spc, x->rel.db};
        loch_page_db_size_encode(w, &m);
        break;
    }
    case ASK_STATUS: {
        struct loch_page_status m = {id};
        loch_page_status_encode(w, &m);
        break;
    }
    }
}

static loch_status check_kind(const struct exchange *x, enum kind kind)
{
    if (x->kind != kind)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the pageserver answers something else than was asked");
    return LOCH_OK;
}

/* To who waits for it, or to what was asked for ahead. */
static loch_status give_page(struct exchange *x, uint64_t id, loch_lsn lsn, const uint8_t *page,
                             uint64_t wanted)
{
    if (id != wanted) {
        loch_readahead_arrived(id, lsn, page);
        return LOCH_OK;
    }
    LOCH_TRY(check_kind(x, ASK_PAGE));
    if (lsn < x->at.not_modified_since)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "the pageserver answers with a page as of " LOCH_LSN_FMT
                         ", not of " LOCH_LSN_FMT " or later",
                         LOCH_LSN_ARG(lsn), LOCH_LSN_ARG(x->at.not_modified_since));
    memcpy(x->page, page, BLCKSZ);
    return LOCH_OK;
}

static loch_status take_page(struct exchange *x, struct loch_slice payload, uint64_t *id,
                             uint64_t wanted)
{
    struct loch_page_get_reply m;

    LOCH_TRY(loch_page_get_reply_decode(payload, &m));
    if (m.page.len != BLCKSZ)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a page of %zu bytes", m.page.len);
    *id = m.request_id;
    return give_page(x, m.request_id, m.lsn, m.page.data, wanted);
}

static loch_status take_packed_page(struct exchange *x, struct loch_slice payload, uint64_t *id,
                                    uint64_t wanted)
{
    static uint8_t page[BLCKSZ];
    struct loch_page_get_reply_packed m;

    LOCH_TRY(loch_page_get_reply_packed_decode(payload, &m));
    LOCH_TRY(loch_page_unpack(m.packed, page));
    *id = m.request_id;
    return give_page(x, m.request_id, m.lsn, page, wanted);
}

static loch_status take_size(struct exchange *x, struct loch_slice payload, uint64_t *id,
                             uint64_t wanted)
{
    struct loch_page_rel_size_reply m;

    LOCH_TRY(loch_page_rel_size_reply_decode(payload, &m));
    *id = m.request_id;
    if (m.request_id != wanted)
        return LOCH_OK;
    x->exists = m.exists;
    x->blocks = m.blocks;
    return check_kind(x, ASK_SIZE);
}

static loch_status take_db_bytes(struct exchange *x, struct loch_slice payload, uint64_t *id,
                                 uint64_t wanted)
{
    struct loch_page_db_size_reply m;

    LOCH_TRY(loch_page_db_size_reply_decode(payload, &m));
    *id = m.request_id;
    if (m.request_id != wanted)
        return LOCH_OK;
    x->bytes = m.bytes;
    return check_kind(x, ASK_DB_BYTES);
}

static loch_status take_status(struct exchange *x, struct loch_slice payload, uint64_t *id,
                               uint64_t wanted)
{
    struct loch_page_status_reply m;

    LOCH_TRY(loch_page_status_reply_decode(payload, &m));
    *id = m.request_id;
    if (m.request_id != wanted)
        return LOCH_OK;
    LOCH_TRY(check_kind(x, ASK_STATUS));
    *x->status = m;
    return LOCH_OK;
}

static loch_status take_error(struct loch_slice payload, uint64_t *id, uint64_t wanted)
{
    struct loch_page_error m;

    LOCH_TRY(loch_page_error_decode(payload, &m));
    *id = m.request_id;
    if (m.request_id != 0 && m.request_id != wanted) {
        /* Of a request that was given up, or asked ahead: whoever needs that page asks anew. */
        loch_readahead_refused(m.request_id);
        return LOCH_OK;
    }
    if (m.code == LOCH_E_OK || m.code > LOCH_E_LAST)
        return LOCH_FAIL(LOCH_E_CORRUPT, "unknown error code %u from the pageserver", m.code);
    return LOCH_FAIL((enum loch_code)m.code, "%.*s", (int)m.text.len, (const char *)m.text.data);
}

/* Decodes one frame; *id says whose answer it was. */
static loch_status take_reply(struct exchange *x, uint8_t type, struct loch_slice payload,
                              uint64_t *id, uint64_t wanted)
{
    switch (type) {
    case LOCH_PAGE_GET_REPLY:
        return take_page(x, payload, id, wanted);
    case LOCH_PAGE_GET_REPLY_PACKED:
        return take_packed_page(x, payload, id, wanted);
    case LOCH_PAGE_REL_SIZE_REPLY:
        return take_size(x, payload, id, wanted);
    case LOCH_PAGE_DB_SIZE_REPLY:
        return take_db_bytes(x, payload, id, wanted);
    case LOCH_PAGE_STATUS_REPLY:
        return take_status(x, payload, id, wanted);
    case LOCH_PAGE_ERROR:
        return take_error(payload, id, wanted);
    default:
        return LOCH_FAIL(LOCH_E_CORRUPT, "unexpected frame type %u", type);
    }
}

static void forget_posted(void)
{
    posted.len = 0;
    posted_count = 0;
    post_failed = false;
}

static uint64 post_request(const struct exchange *x)
{
    struct loch_writer w;

    loch_writer_init(&w, &posted);
    encode_request(&w, x, ++last_request_id);
    if (!loch_is_ok(loch_writer_finish(&w)))
        post_failed = true;
    posted_count++;
    unanswered++;
    return last_request_id;
}

static loch_status send_posted(void)
{
    const struct loch_slice frames = loch_buf_slice(&posted);
    bool whole = !post_failed;

    if (posted.len == 0 && whole)
        return LOCH_OK;
    forget_posted(); /* first: sending may end in an ERROR */
    if (!whole)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a request");
    return loch_page_conn_send(frames);
}

/* One attempt. *answered tells a refusal by the pageserver (keep the connection) from a failure of
 * the connection. */
static loch_status attempt(struct exchange *x, bool *answered)
{
    uint64_t id = 0, wanted = x->posted_id;

    *answered = false;
    if (!loch_page_conn_is_ready()) {
        forget_posted();
        unanswered = 0;
        wanted = 0;
        LOCH_TRY(loch_page_conn_ready());
    }
    if (wanted == 0)
        wanted = post_request(x);
    LOCH_TRY(send_posted());
    x->posted_id = 0;
    while (id != wanted) {
        struct loch_slice payload;
        uint8_t type;
        loch_status st;

        LOCH_TRY(loch_page_conn_receive(&type, &payload));
        st = take_reply(x, type, payload, &id, wanted);
        if (id != 0 && unanswered > 0)
            unanswered--;
        *answered = type == LOCH_PAGE_ERROR && id == wanted;
        LOCH_TRY(st);
    }
    *answered = true;
    return LOCH_OK;
}

/* Ends the process or the statement for what repeating cannot mend. */
static void give_up_if_final(loch_status st)
{
    switch (st.code) {
    case LOCH_E_STALE:
        ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN),
                        errmsg("loch: this compute is fenced: another one has taken over"),
                        errdetail_internal("%s", loch_error_text())));
        break;
    case LOCH_E_KEY_REVOKED:
    case LOCH_E_KMS_UNAVAILABLE:
        ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN),
                        errmsg("loch: this compute goes down: its tenant's key is gone"),
                        errdetail_internal("%s", loch_error_text())));
        break;
    case LOCH_E_CORRUPT:
    case LOCH_E_INVALID:
    case LOCH_E_NOT_FOUND:
    case LOCH_E_EXISTS:
    case LOCH_E_UNSUPPORTED:
        if (CritSectionCount == 0)
            loch_report(ERROR, st, "the pageserver refused a request");
        break;
    case LOCH_E_OK:
    case LOCH_E_IO:
    case LOCH_E_DENIED:
    case LOCH_E_UNAVAILABLE:
    case LOCH_E_LIMIT:
    case LOCH_E_NO_MEMORY:
        break;
    }
}

static void ask(struct exchange *x)
{
    long pause_ms = PAUSE_FIRST_MS, waited_ms = 0;

    for (;;) {
        bool answered;
        loch_status st = attempt(x, &answered);

        if (loch_is_ok(st))
            break;
        if (!answered) {
            if (st.code == LOCH_E_CORRUPT)
                loch_report(LOG, st, "asking the pageserver again");
            loch_page_conn_close();
        }
        if (answered || st.code == LOCH_E_STALE)
            give_up_if_final(st);
        if (waited_ms / COMPLAIN_AFTER_MS != (waited_ms + pause_ms) / COMPLAIN_AFTER_MS)
            loch_report(LOG, st, "waiting for the pageserver");
        loch_wait_socket(-1, false, pause_ms);
        waited_ms += pause_ms;
        pause_ms = Min(pause_ms * 2, PAUSE_MOST_MS);
    }
    loch_wait_done();
}

static void count_read(const instr_time *start)
{
    struct loch_process *own = loch_own_process();
    instr_time end;
    uint64 us;

    INSTR_TIME_SET_CURRENT(end);
    INSTR_TIME_SUBTRACT(end, *start);
    us = INSTR_TIME_GET_MICROSEC(end);
    loch_count(read_remote);
    loch_count_add(LOCH_C_read_wait_us, us);
    pg_atomic_write_u64(&own->last_read_us, us);
    if (us > pg_atomic_read_u64(&own->longest_read_us))
        pg_atomic_write_u64(&own->longest_read_us, us);
    if (CritSectionCount > 0)
        loch_count(read_in_critical_section);
    else if (InterruptHoldoffCount > 0)
        loch_count(read_under_lock);
}

void loch_page_client_get_posted(RelFileNode rnode, ForkNumber fork, BlockNumber block,
                                 XLogRecPtr lsn, uint64 posted_id, char *page)
{
    struct exchange x = {.kind = ASK_PAGE, .at = latest(lsn), .rel = rel_of(rnode)};
    instr_time start;

    x.fork = (uint8_t)fork;
    x.block = block;
    x.page = page;
    x.posted_id = posted_id;
    INSTR_TIME_SET_CURRENT(start);
    ask(&x);
    count_read(&start);
}

void loch_page_client_get(RelFileNode rnode, ForkNumber fork, BlockNumber block, XLogRecPtr lsn,
                          char *page)
{
    loch_page_client_get_posted(rnode, fork, block, lsn, 0, page);
}

uint32 loch_page_client_room(void)
{
    if (!loch_page_conn_is_ready() || unanswered >= LOCH_PAGE_CLIENT_UNANSWERED_MAX)
        return 0;
    return LOCH_PAGE_CLIENT_UNANSWERED_MAX - unanswered;
}

uint64 loch_page_client_post(RelFileNode rnode, ForkNumber fork, BlockNumber block, XLogRecPtr lsn)
{
    struct exchange x = {.kind = ASK_PAGE, .at = latest(lsn), .rel = rel_of(rnode)};

    x.fork = (uint8_t)fork;
    x.block = block;
    return post_request(&x);
}

void loch_page_client_post_send(uint32 least)
{
    if (posted_count >= least && !loch_is_ok(send_posted()))
        loch_page_conn_close();
}

bool loch_page_client_size(RelFileNode rnode, ForkNumber fork, XLogRecPtr lsn, BlockNumber *blocks)
{
    struct exchange x = {.kind = ASK_SIZE, .at = latest(lsn), .rel = rel_of(rnode)};

    x.fork = (uint8_t)fork;
    ask(&x);
    loch_count(size_asked);
    if (x.exists)
        *blocks = x.blocks;
    return x.exists;
}

uint64 loch_page_client_db_bytes(Oid spc, Oid db, XLogRecPtr lsn)
{
    struct exchange x = {.kind = ASK_DB_BYTES, .at = latest(lsn)};

    x.rel = (struct loch_rel){spc, db, 0};
    ask(&x);
    return x.bytes;
}

bool loch_page_client_try_status(struct loch_page_status_reply *out)
{
    struct exchange x = {.kind = ASK_STATUS};
    bool answered;
    loch_status st;

    x.status = out;
    loch_page_conn_patience(STATUS_PATIENCE_MS);
    st = attempt(&x, &answered);
    loch_page_conn_patience(0);
    loch_wait_done();
    if (st.code == LOCH_E_STALE)
        give_up_if_final(st);
    if (!loch_is_ok(st) && !answered)
        loch_page_conn_close();
    return loch_is_ok(st);
}
