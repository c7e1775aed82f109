/* Connections of the page port: greeting, requests in, answers out. */
#include "page_service.h"

#include "page_cache.h"
#include "page_conn.h"

#include "care/tenants.h"
#include "store/retention.h"

#include "loch/base/check.h"
#include "loch/base/frame.h"
#include "loch/base/log.h"
#include "loch/base/secret.h"
#include "loch/host/keys.h"
#include "loch/host/metrics.h"
#include "loch/host/refused.h"
#include "loch/wire/packed_page.h"

#include <stdio.h>
#include <stdlib.h>

/* Requests of one connection in flight: above it nothing is read from it. */
#define REQUESTS_MAX 512u
/* Of answers that the kernel does not take. */
#define QUEUED_MAX_BYTES (4u << 20)
/* Of a connection: requests in one piece of pool work, and pieces at a time. */
#define JOB_REQUESTS_MAX 16u
#define JOBS_MAX         2u
#define ANSWER_BYTES     (LOCH_PAGE_BYTES + 64u)
/* Answers that leave together; more go out before the last frame was given. */
#define ANSWERS_BYTES (128u << 10)
/* A scan is so many requests upwards, none of them further from the last than a parallel scan's
 * next part may be. */
#define SCAN_FROM      64u
#define SCAN_MOST_STEP 4096u
/* After a page that does not pack well so many are not tried. */
#define PACK_REST 63u

/* ---- connection ---- */

/* Whoever has many requests under way, or does not fetch its answers, is not read from. */
static void steer(struct page_conn *conn)
{
    const unsigned most = conn->paused ? REQUESTS_MAX / 2 : REQUESTS_MAX;
    const bool pause = conn->count >= most || conn->clogged;

    if (pause == conn->paused || conn->stream == NULL)
        return;
    conn->paused = pause;
    loch_stream_read(conn->stream, !pause);
}

static void sent(struct page_conn *conn)
{
    conn->clogged = conn->clogged || loch_stream_queued(conn->stream) >= QUEUED_MAX_BYTES;
    steer(conn);
}

/* Takes back what was gathered from `mark` on; nothing of a page that was begun stays. */
static void drop_answers(struct page_conn *conn, size_t mark)
{
    if (conn->answers.len > mark)
        loch_wipe(conn->answers.data + mark, conn->answers.len - mark);
    conn->answers.len = mark;
}

/* The answers leave; their memory, or that of some before, is for the next. */
static void send_answers(struct page_conn *conn)
{
    if (conn->answers.len == 0)
        return;
    if (conn->stream == NULL || conn->closing) {
        drop_answers(conn, 0);
        return;
    }
    loch_stream_trade(conn->stream, &conn->answers);
    sent(conn);
}

void page_conn_send(struct page_conn *conn, struct loch_buf *take_frames)
{
    send_answers(conn);
    if (conn->stream == NULL || take_frames->len == 0 || conn->closing) {
        loch_buf_fini(take_frames);
        return;
    }
    loch_stream_send(conn->stream, take_frames);
    sent(conn);
}

static void drop_view(struct page_conn *conn)
{
    loch_view_destroy(conn->view);
    conn->view = NULL;
}

static void on_given(void *arg)
{
    struct page_conn *conn = arg;
    struct loch_pageserver *ps = conn->ps;
    drop_view(conn);
    send_answers(conn);
    if (conn->answers.len == 0 && ps->spare_answers.cap == 0) { /* for whoever is next */
        ps->spare_answers = conn->answers;
        conn->answers = (struct loch_buf){0};
    } else if (conn->answers.len == 0) {
        loch_buf_fini(&conn->answers);
    }
}

/* An error goes out first, if the peer still reads. */
static void close_soon(struct page_conn *conn)
{
    conn->closing = true;
    conn->since_ns = loch_env_now_ns(conn->ps->env);
    page_basebackup_moved(conn); /* nothing of it leaves any more */
    if (conn->stream != NULL && loch_stream_queued(conn->stream) == 0)
        loch_stream_close(conn->stream);
}

void page_conn_error(struct page_conn *conn, uint64_t request_id, loch_status st)
{
    const char *text = loch_error_text();
    struct loch_page_error m = {.request_id = request_id,
                                .code = (uint32_t)st.code,
                                .text = loch_slice_of(text, strnlen(text, 1000))};
    struct loch_buf buf = {0};
    struct loch_writer w;
    loch_writer_init(&w, &buf);
    loch_page_error_encode(&w, &m);
    loch_metric_add(conn->ps->m_errors, 1);
    if (request_id == 0 || st.code != LOCH_E_STALE)
        page_limits_say(conn->ps, text);
    page_conn_send(conn, &buf);
    if (request_id == 0)
        close_soon(conn);
}

static void consider_free(struct page_conn *conn)
{
    if (conn->stream != NULL || conn->requests != NULL || conn->held)
        return;
    loch_served_watch_remove(&conn->watch);
    page_limits_end(conn);
    free(conn);
}

static void on_closed(void *arg, loch_status st)
{
    struct page_conn *conn = arg;
    (void)st;
    conn->stream = NULL;
    page_wait_end(conn);
    drop_view(conn);
    drop_answers(conn, 0);
    loch_buf_fini(&conn->answers);
    loch_passing_fini(&conn->passing);
    loch_served_watch_remove(&conn->watch);
    conn->held = true;
    for (struct page_request *r; (r = page_queue_pop(&conn->ready)) != NULL;)
        page_request_destroy(r);
    page_turn_drop(conn);
    for (struct page_request *r = conn->requests, *next; r != NULL; r = next) {
        next = r->next;
        if (!r->waiting)
            continue;
        loch_served_unwait(&r->waiter);
        page_request_destroy(r);
    }
    page_basebackup_moved(conn);
    conn->held = false;
    consider_free(conn);
}

static void on_drained(void *arg)
{
    struct page_conn *conn = arg;
    conn->clogged = false;
    steer(conn);
    page_basebackup_moved(conn);
    if (conn->closing && conn->stream != NULL)
        loch_stream_close(conn->stream);
}

/* A revocation closes connections itself; here a lease waits for its next Decrypt. */
loch_status page_conn_usable(const struct page_conn *conn)
{
    if (!loch_is_ok(loch_keys_usable(conn->ps->keys, &conn->identity.tenant,
                                     loch_served_timeline_id(conn->served))))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s", loch_error_text());
    return LOCH_OK;
}

/* LOCH_E_STALE when a newer compute is known; LOCH_E_UNAVAILABLE while a lease has run out. */
static loch_status check_fresh(struct page_conn *conn)
{
    uint64_t term = loch_served_term(conn->served), epoch = loch_served_min_epoch(conn->served);
    LOCH_TRY(page_conn_usable(conn));
    if (!page_conn_epoch_lives(conn))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the connection's wire epoch has ended: connect anew");
    if (conn->term != 0 && conn->term < term)
        return LOCH_FAIL(LOCH_E_STALE, "a compute of term %" PRIu64 " asks, but %" PRIu64 " began",
                         conn->term, term);
    if (conn->identity.client_role == LOCH_ROLE_COMPUTE && conn->identity.compute_epoch < epoch)
        return LOCH_FAIL(LOCH_E_STALE,
                         "a compute of epoch %" PRIu64 " asks, but %" PRIu64 " is the least",
                         conn->identity.compute_epoch, epoch);
    return LOCH_OK;
}

static void on_term(void *arg)
{
    struct page_conn *conn = arg;
    loch_status st = check_fresh(conn);
    if (!loch_is_ok(st) && !conn->closing)
        page_conn_error(conn, 0, st);
}

static void on_gone(void *arg, loch_status st)
{
    struct page_conn *conn = arg;
    conn->served = NULL;
    page_conn_error(conn, 0, st);
    /* What is queued behind a peer that does not read must not leave later. */
    if ((st.code == LOCH_E_KEY_REVOKED || st.code == LOCH_E_KMS_UNAVAILABLE) &&
        conn->stream != NULL)
        loch_stream_cut(conn->stream);
}

/* ---- requests ---- */

struct page_request *page_request_create(struct page_conn *conn, uint8_t type, uint64_t id)
{
    struct page_request *r = calloc(1, sizeof *r);
    if (r == NULL) {
        page_conn_error(conn, id, LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a request"));
        return NULL;
    }
    r->conn = conn;
    r->type = type;
    r->id = id;
    r->began_ns = loch_env_now_ns(conn->ps->env);
    r->next = conn->requests;
    r->prev = &conn->requests;
    if (r->next != NULL)
        r->next->prev = &r->next;
    conn->requests = r;
    conn->ps->requests++;
    conn->count++;
    steer(conn);
    return r;
}

void page_request_destroy(struct page_request *r)
{
    struct page_conn *conn = r->conn;
    *r->prev = r->next;
    if (r->next != NULL)
        r->next->prev = r->prev;
    if (r->page != NULL)
        loch_wipe(r->page, LOCH_PAGE_BYTES);
    free(r->page);
    free(r);
    conn->ps->requests--;
    loch_pageserver_consider_end(conn->ps);
    conn->count--;
    steer(conn);
    consider_free(conn);
}

/* One piece of pool work: several requests of a connection over one view. */
struct page_job {
    struct page_conn *conn;
    bool turn; /* it may ask a redo process */
    struct loch_view *view;
    size_t count;
    struct page_request *requests[JOB_REQUESTS_MAX];
};

static void job_work(void *arg)
{
    struct page_job *job = arg;
    for (size_t i = 0; i < job->count; i++)
        loch_failure_set(&job->requests[i]->result,
                         page_request_read(job->requests[i], job->view, job->turn));
    loch_view_destroy(job->view);
}

static void encode_answer(struct page_request *r, struct loch_writer *w)
{
    if (r->type == LOCH_PAGE_GET) {
        struct loch_page_get_reply m = {r->id, r->lsn, loch_slice_of(r->page, LOCH_PAGE_BYTES)};
        loch_page_get_reply_encode(w, &m);
    } else if (r->type == LOCH_PAGE_REL_SIZE) {
        struct loch_page_rel_size_reply m = {r->id, r->exists, r->blocks};
        loch_page_rel_size_reply_encode(w, &m);
    } else {
        struct loch_page_db_size_reply m = {r->id, r->bytes};
        loch_page_db_size_reply_encode(w, &m);
    }
}

static void fail_request(struct page_request *r, loch_status st)
{
    page_conn_error(r->conn, r->id, st);
    page_request_destroy(r);
}

/* Appends the answer to the job's frames, or sends the error, or has the request read in a turn. */
static void answer_request(struct page_request *r, struct loch_writer *w)
{
    struct page_conn *conn = r->conn;
    loch_status st = loch_failure_raise(&r->result);
    /* Dropped or darkened: nothing leaves any more. */
    if (conn->served == NULL || conn->closing || conn->stream == NULL) {
        page_request_destroy(r);
        return;
    }
    if (r->wants_redo) {
        page_turn_learn(r);
        page_turn_wait(r);
        return;
    }
    if (loch_is_ok(st))
        st = check_fresh(conn); /* a newer term may have begun while it was read */
    if (!loch_is_ok(st)) {
        fail_request(r, st);
        return;
    }
    loch_metric_observe_ns(conn->ps->m_get_seconds, loch_env_now_ns(conn->ps->env) - r->began_ns);
    encode_answer(r, w);
    page_request_destroy(r);
}

static void pump(struct page_conn *conn);

static void job_done(void *arg)
{
    struct page_job *job = arg;
    struct page_conn *conn = job->conn;
    struct loch_buf buf = {0};
    struct loch_writer w;
    loch_writer_init(&w, &buf);
    conn->jobs -= !job->turn;
    conn->held = true;
    for (size_t i = 0; i < job->count; i++)
        answer_request(job->requests[i], &w);
    if (loch_is_ok(loch_writer_finish(&w)))
        page_conn_send(conn, &buf);
    else if (conn->stream != NULL)
        loch_stream_close(conn->stream);
    if (job->turn)
        page_turn_end(conn->ps, &conn->identity.tenant);
    free(job);
    pump(conn);
    conn->held = false;
    consider_free(conn);
}

/* What has to be ingested before it is read. */
static loch_lsn wanted_lsn(const struct loch_timeline *t, const struct loch_page_at *at)
{
    return at->request_lsn == LOCH_LSN_MAX
               ? loch_max_u64(at->not_modified_since, loch_timeline_last_record_lsn(t))
               : at->request_lsn;
}

/* At which LSN it is read then. */
static loch_lsn read_lsn(const struct loch_view *view, const struct loch_page_at *at)
{
    return at->request_lsn == LOCH_LSN_MAX ? loch_view_last_record_lsn(view) : at->request_lsn;
}

static bool is_before_all(const struct loch_timeline *t, loch_lsn lsn)
{
    const struct loch_timeline_info *info = loch_timeline_info(t);
    return lsn < info->start_lsn && loch_id_is_none(&info->ancestor);
}

/* Takes the front of the queue into the job. */
static void fill_job(struct page_queue *queue, struct page_job *job)
{
    while (queue->first != NULL && job->count < JOB_REQUESTS_MAX) {
        struct page_request *r = page_queue_pop(queue);
        r->lsn = read_lsn(job->view, &r->at);
        job->requests[job->count++] = r;
    }
}

bool page_job_start(struct page_conn *conn, bool turn)
{
    struct page_queue *queue = turn ? &conn->redo : &conn->ready;
    struct page_job *job = calloc(1, sizeof *job);
    loch_status st = LOCH_OK;
    if (job == NULL)
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a read");
    else if (conn->served == NULL)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is no longer served here");
    else
        st = loch_view_create(loch_served_timeline(conn->served), &job->view);
    if (loch_is_ok(st)) {
        job->conn = conn;
        job->turn = turn;
        fill_job(queue, job);
        st = loch_env_work(conn->ps->env, job_work, job_done, job);
        if (loch_is_ok(st)) {
            conn->jobs += !turn;
            return true;
        }
        for (size_t i = 0; i < job->count; i++)
            fail_request(job->requests[i], st);
        loch_view_destroy(job->view);
    }
    free(job);
    for (struct page_request *r; (r = page_queue_pop(queue)) != NULL;)
        fail_request(r, st);
    return false;
}

/* Requests that arrive while two pieces of work run gather for the next: a burst costs few
 * wake-ups. */
static void pump(struct page_conn *conn)
{
    while (conn->ready.first != NULL && conn->jobs < JOBS_MAX)
        (void)page_job_start(conn, false);
}

static void start_read(struct page_request *r)
{
    struct page_conn *conn = r->conn;
    if (page_turn_likely(r)) {
        page_turn_wait(r);
        return;
    }
    page_queue_push(&conn->ready, r);
    pump(conn);
}

static void waited(void *arg, loch_status st)
{
    struct page_request *r = arg;
    r->waiting = false;
    loch_metric_observe_ns(r->conn->ps->m_wait_seconds,
                           loch_env_now_ns(r->conn->ps->env) - r->began_ns);
    if (!loch_is_ok(st))
        fail_request(r, st);
    else
        start_read(r);
}

static void begin_request(struct page_request *r)
{
    const struct loch_timeline *t = loch_served_timeline(r->conn->served);
    const loch_lsn wanted = wanted_lsn(t, &r->at);
    const struct loch_timeline_info *info = loch_timeline_info(t);
    loch_metric_add(r->conn->ps->m_gets, 1);
    if (is_before_all(t, wanted)) {
        fail_request(r, LOCH_FAIL(LOCH_E_INVALID,
                                  LOCH_LSN_FMT " lies before the timeline's "
                                               "beginning at " LOCH_LSN_FMT,
                                  LOCH_LSN_ARG(wanted), LOCH_LSN_ARG(info->start_lsn)));
        return;
    }
    if (loch_timeline_ready(t, wanted)) {
        start_read(r);
        return;
    }
    if (loch_served_problem(r->conn->served)[0] != '\0') {
        fail_request(r, LOCH_FAIL(LOCH_E_UNAVAILABLE, "the timeline stands still: %s",
                                  loch_served_problem(r->conn->served)));
        return;
    }
    r->waiting = true;
    r->waiter = (struct loch_waiter){.lsn = wanted, .fn = waited, .arg = r};
    loch_served_wait(r->conn->served, &r->waiter);
    page_wait_begin(r->conn);
}

/* ---- messages ---- */

static loch_status on_hello(struct page_conn *conn, struct loch_slice payload)
{
    struct loch_page_hello m;
    const struct loch_psk_identity *id = &conn->identity;
    LOCH_TRY(loch_page_hello_decode(payload, &m));
    if (m.version != LOCH_WIRE_PAGE_VERSION && m.version != LOCH_WIRE_PAGE_VERSION_PLAIN)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "page protocol version %u, not %u", m.version,
                         LOCH_WIRE_PAGE_VERSION);
    if (!loch_id_equal(&m.tenant, &id->tenant) ||
        (!loch_id_is_none(&id->timeline) && !loch_id_equal(&m.timeline, &id->timeline)) ||
        m.compute_epoch != id->compute_epoch)
        return LOCH_FAIL(LOCH_E_DENIED, "a greeting and the key it came with disagree");
    if (conn->greeted && m.term < conn->term)
        return LOCH_FAIL(LOCH_E_INVALID, "a connection's term cannot go back");
    struct loch_served *served = loch_served_find(conn->ps, &m.tenant, &m.timeline);
    const struct loch_tenant *tenant = loch_tenant_find(conn->ps, &m.tenant);
    if (served == NULL && tenant != NULL && tenant->dark)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the tenant's keys have only just come back");
    if (served == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no such timeline here");
    LOCH_TRY(loch_served_usable(served));
    if (conn->greeted && conn->served != served)
        return LOCH_FAIL(LOCH_E_INVALID, "a connection cannot change its timeline");
    conn->served = served;
    conn->unpacks = m.version != LOCH_WIRE_PAGE_VERSION_PLAIN;
    conn->term = m.term;
    LOCH_TRY(check_fresh(conn));
    if (!conn->greeted)
        loch_served_watch_add(served, &conn->watch);
    conn->greeted = true;
    struct loch_page_hello_reply reply = {
        loch_served_term(served), loch_timeline_last_record_lsn(loch_served_timeline(served))};
    struct loch_buf buf = {0};
    struct loch_writer w;
    loch_writer_init(&w, &buf);
    loch_page_hello_reply_encode(&w, &reply);
    LOCH_TRY(loch_writer_finish(&w));
    page_conn_send(conn, &buf);
    return LOCH_OK;
}

/* Room for an answer's page among those that go out from the loop; NULL: no memory. */
static uint8_t *begin_answer(struct page_conn *conn, const struct loch_page_get *m,
                             struct loch_writer *w, size_t *mark)
{
    if (conn->answers.cap == 0) {
        conn->answers = conn->ps->spare_answers;
        conn->ps->spare_answers = (struct loch_buf){0};
    }
    loch_writer_init(w, &conn->answers);
    *mark = conn->answers.len;
    if (conn->answers.cap == 0 && !loch_is_ok(loch_buf_reserve(&conn->answers, ANSWER_BYTES)))
        return NULL;
    return loch_page_get_reply_begin(w, m->request_id, mark);
}

/* The page that stands at the end of the answers, begun at `mark`, packed instead. False where it
 * does not pay: it goes as it is. */
static bool end_packed(struct page_conn *conn, struct loch_writer *w, size_t mark,
                       uint64_t request_id, loch_lsn lsn)
{
    uint8_t packed[LOCH_PACKED_PAGE_MAX_BYTES];
    if (conn->scan.pack_rest > 0) {
        conn->scan.pack_rest--;
        return false;
    }
    const size_t len =
        loch_page_pack(conn->answers.data + conn->answers.len - LOCH_PAGE_BYTES, packed);
    if (len > 0) {
        drop_answers(conn, mark);
        const struct loch_page_get_reply_packed m = {request_id, lsn, loch_slice_of(packed, len)};
        loch_page_get_reply_packed_encode(w, &m); /* there is room: it is shorter */
        loch_metric_add(conn->ps->m_packed, 1);
    } else {
        conn->scan.pack_rest = PACK_REST;
    }
    loch_wipe(packed, sizeof packed); /* it has rows in clear, tried or done */
    return len > 0;
}

/* Pages of a scan leave packed, if its reader can: who reads much waits for the network and the
 * cipher. */
static void end_answer(struct page_conn *conn, struct loch_writer *w, size_t mark,
                       const struct loch_page_get *m, loch_lsn lsn, bool scanned)
{
    if (!scanned || !conn->unpacks || !end_packed(conn, w, mark, m->request_id, lsn))
        loch_page_get_reply_end(w, mark, lsn);
    loch_metric_add(conn->ps->m_gets, 1);
    if (conn->answers.len > ANSWERS_BYTES - ANSWER_BYTES)
        send_answers(conn);
}

/* A page that the cache has whole is answered at once, on the loop: no view, no hand-over to a
 * thread. "The newest" is any state at or above not_modified_since. */
static bool answer_from_cache(struct page_conn *conn, const struct loch_page_get *m,
                              const struct loch_key *key, bool scanned)
{
    struct loch_timeline *t = loch_served_timeline(conn->served);
    const struct loch_timeline_info *info = loch_timeline_info(t);
    bool latest = m->at.request_lsn == LOCH_LSN_MAX;
    loch_lsn since = latest ? m->at.not_modified_since : m->at.request_lsn, lsn = LOCH_LSN_NONE;
    struct loch_writer w;
    size_t mark = 0;
    if (conn->ps->cache == NULL || since == LOCH_LSN_NONE ||
        (!latest && !loch_is_ok(loch_timeline_readable(t, since))))
        return false;
    uint8_t *page = begin_answer(conn, m, &w, &mark);
    if (page == NULL || !loch_page_cache_answer(conn->ps->cache, &info->tenant, &info->timeline,
                                                key, since, m->at.request_lsn, &lsn, page)) {
        drop_answers(conn, mark);
        return false;
    }
    end_answer(conn, &w, mark, m, lsn, scanned);
    loch_metric_add(conn->ps->m_cached, 1);
    return true;
}

/* What requests that came together are read from: it may lack what was ingested since the first of
 * them, but nothing that the asker knows of, nor anything of an ancestor that was behind when the
 * first was read at an older LSN. NULL: not without waiting. */
static struct loch_view *view_of(struct page_conn *conn, const struct loch_page_at *at)
{
    const bool latest = at->request_lsn == LOCH_LSN_MAX;
    const loch_lsn needed = latest ? at->not_modified_since : at->request_lsn;
    struct loch_timeline *t = loch_served_timeline(conn->served);
    if (conn->view != NULL && needed <= loch_view_last_record_lsn(conn->view) &&
        loch_view_ready(conn->view, read_lsn(conn->view, at)))
        return conn->view;
    drop_view(conn);
    if (!loch_timeline_ready(t, wanted_lsn(t, at)) || !loch_is_ok(loch_view_create(t, &conn->view)))
        return NULL;
    return conn->view;
}

/* Whether the requests go through a relation: its pages will hardly be asked for again soon. */
static bool is_scan(struct page_scan *scan, const struct loch_key *key)
{
    struct loch_key same = scan->last;
    const uint32_t before = same.block;
    same.block = key->block;
    const bool on = loch_key_compare(&same, key) == 0 && key->block > before &&
                    key->block - before <= SCAN_MOST_STEP;
    scan->run = on ? scan->run + 1 : 0;
    scan->pack_rest = on ? scan->pack_rest : 0;
    scan->last = *key;
    return scan->run >= SCAN_FROM;
}

/* A page that takes neither a disk nor a redo process is read on the loop: that costs less than to
 * hand it to a thread and back. */
static bool answer_at_once(struct page_conn *conn, const struct loch_page_get *m, bool scanned)
{
    const uint64_t began_ns = loch_env_now_ns(conn->ps->env);
    const struct loch_timeline *t = loch_served_timeline(conn->served);
    struct loch_view *view = NULL;
    struct loch_writer w;
    size_t mark = 0;
    if (is_before_all(t, wanted_lsn(t, &m->at)) || (view = view_of(conn, &m->at)) == NULL)
        return false;
    const loch_lsn lsn = read_lsn(view, &m->at);
    loch_view_set_passing(view, scanned ? &conn->passing : NULL);
    uint8_t *page = begin_answer(conn, m, &w, &mark);
    if (page == NULL || !loch_is_ok(loch_view_readable(view, lsn)) ||
        !loch_view_page_at_once(view, &m->rel, m->fork, m->block, lsn, page)) {
        drop_answers(conn, mark);
        return false;
    }
    end_answer(conn, &w, mark, m, lsn, scanned);
    loch_metric_add(conn->ps->m_at_once, 1);
    loch_metric_observe_ns(conn->ps->m_get_seconds, loch_env_now_ns(conn->ps->env) - began_ns);
    return true;
}

static loch_status on_get(struct page_conn *conn, struct loch_slice payload)
{
    struct loch_page_get m;
    LOCH_TRY(loch_page_get_decode(payload, &m));
    const struct loch_key key = {.kind = LOCH_KEY_PAGE,
                                 .fork = m.fork,
                                 .spc = m.rel.spc,
                                 .db = m.rel.db,
                                 .rel = m.rel.rel,
                                 .block = m.block};
    const bool scanned = is_scan(&conn->scan, &key);
    if (answer_from_cache(conn, &m, &key, scanned) || answer_at_once(conn, &m, scanned))
        return LOCH_OK;
    struct page_request *r = page_request_create(conn, LOCH_PAGE_GET, m.request_id);
    if (r == NULL)
        return LOCH_OK;
    r->at = m.at;
    r->key = key;
    begin_request(r);
    return LOCH_OK;
}

static loch_status on_rel_size(struct page_conn *conn, struct loch_slice payload)
{
    struct loch_page_rel_size m;
    LOCH_TRY(loch_page_rel_size_decode(payload, &m));
    struct page_request *r = page_request_create(conn, LOCH_PAGE_REL_SIZE, m.request_id);
    if (r == NULL)
        return LOCH_OK;
    r->at = m.at;
    r->key = (struct loch_key){.kind = LOCH_KEY_REL_SIZE,
                               .fork = m.fork,
                               .spc = m.rel.spc,
                               .db = m.rel.db,
                               .rel = m.rel.rel};
    begin_request(r);
    return LOCH_OK;
}

static loch_status on_db_size(struct page_conn *conn, struct loch_slice payload)
{
    struct loch_page_db_size m;
    LOCH_TRY(loch_page_db_size_decode(payload, &m));
    struct page_request *r = page_request_create(conn, LOCH_PAGE_DB_SIZE, m.request_id);
    if (r == NULL)
        return LOCH_OK;
    r->at = m.at;
    r->key = (struct loch_key){.kind = LOCH_KEY_REL_SIZE, .spc = m.spc, .db = m.db};
    begin_request(r);
    return LOCH_OK;
}

static loch_status on_status(struct page_conn *conn, struct loch_slice payload)
{
    struct loch_page_status m;
    LOCH_TRY(loch_page_status_decode(payload, &m));
    const struct loch_timeline *t = loch_served_timeline(conn->served);
    loch_lsn disk = loch_timeline_disk_consistent_lsn(t);
    struct loch_page_status_reply reply = {m.request_id, loch_timeline_last_record_lsn(t), disk,
                                           disk};
    struct loch_buf buf = {0};
    struct loch_writer w;
    loch_writer_init(&w, &buf);
    loch_page_status_reply_encode(&w, &reply);
    LOCH_TRY(loch_writer_finish(&w));
    page_conn_send(conn, &buf);
    return LOCH_OK;
}

static loch_status on_basebackup(struct page_conn *conn, struct loch_slice payload)
{
    struct loch_page_basebackup m;
    LOCH_TRY(loch_page_basebackup_decode(payload, &m));
    if ((conn->identity.rights & LOCH_RIGHT_BASEBACKUP) == 0)
        return LOCH_FAIL(LOCH_E_DENIED, "the key does not allow basebackups");
    page_basebackup(conn, &m);
    return LOCH_OK;
}

static loch_status on_request(struct page_conn *conn, uint8_t type, struct loch_slice payload)
{
    if (!conn->greeted || conn->served == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "a request before the greeting");
    LOCH_TRY(check_fresh(conn));
    if (type == LOCH_PAGE_BASEBACKUP)
        return on_basebackup(conn, payload);
    if ((conn->identity.rights & LOCH_RIGHT_PAGES) == 0)
        return LOCH_FAIL(LOCH_E_DENIED, "the key does not allow reading pages");
    if (type == LOCH_PAGE_GET)
        return on_get(conn, payload);
    if (type == LOCH_PAGE_REL_SIZE)
        return on_rel_size(conn, payload);
    if (type == LOCH_PAGE_DB_SIZE)
        return on_db_size(conn, payload);
    if (type == LOCH_PAGE_STATUS)
        return on_status(conn, payload);
    return LOCH_FAIL(LOCH_E_CORRUPT, "an unexpected message of type %u", type);
}

static loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct page_conn *conn = arg;
    if (conn->closing)
        return LOCH_OK;
    struct loch_refused *refused = conn->ps->refused;
    const struct loch_id tenant = conn->identity.tenant;
    const struct loch_id client = conn->identity.client_id;
    loch_status st =
        type == LOCH_PAGE_HELLO ? on_hello(conn, payload) : on_request(conn, type, payload);
    if (loch_is_ok(st))
        return st;
    page_conn_error(conn, 0, st);
    loch_refused_code(refused, st.code, &tenant, &client);
    return LOCH_OK;
}

void loch_page_service_accept(void *arg, struct loch_stream *stream)
{
    static const struct loch_stream_events events = {on_frame, on_closed, on_drained, on_given};
    struct loch_pageserver *ps = arg;
    struct page_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL ||
        !loch_is_ok(loch_psk_identity_decode(loch_stream_identity(stream), &conn->identity))) {
        free(conn);
        loch_stream_close(stream);
        return;
    }
    if (!page_limits_admit(ps, &conn->identity.tenant, stream)) {
        free(conn);
        return;
    }
    conn->ps = ps;
    conn->stream = stream;
    conn->watch = (struct loch_served_watch){.term = on_term, .gone = on_gone, .arg = conn};
    page_limits_begin(conn);
    loch_stream_attach(stream, &events, conn);
}
