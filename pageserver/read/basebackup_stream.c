/* A basebackup over a connection: the control state at its LSN is found, then a pool thread makes
 * the tar stream and posts it to the loop in frames, never more than a few MiB ahead of the socket.
 */
#include "page_conn.h"

#include "basebackup/basebackup.h"

#include "loch/base/check.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <string.h>

#define AHEAD_MAX_BYTES    ((size_t)8 << 20)
#define HISTORY_TIMEOUT_MS 60000u
#define STALL_MAX_S        60u

struct basebackup {
    struct page_request *request;
    struct loch_env *env;
    struct loch_page_basebackup wanted;
    struct loch_history *history;
    struct loch_history_point point;
    int64_t time;
    loch_lsn checkpoint_end;
    struct loch_failure result;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t posted; /* bytes on their way to the loop */
    bool full;     /* the socket lags behind */
    bool aborted;  /* the connection is gone */
};

struct posted_frames {
    struct basebackup *backup;
    struct loch_buf frames;
    size_t len;
};

static void destroy(struct basebackup *b)
{
    struct page_request *request = b->request;
    request->conn->backup = NULL;
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->changed);
    free(b);
    page_request_destroy(request);
}

/* On the loop: hands posted frames to the socket. */
static void deliver(void *arg)
{
    struct posted_frames *p = arg;
    struct basebackup *b = p->backup;
    struct page_conn *conn = b->request->conn;
    page_conn_send(conn, &p->frames);
    pthread_mutex_lock(&b->lock);
    b->posted -= p->len;
    b->aborted = b->aborted || conn->stream == NULL;
    b->full = conn->stream != NULL && loch_stream_queued(conn->stream) > AHEAD_MAX_BYTES;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
    free(p);
}

void page_basebackup_moved(struct page_conn *conn)
{
    struct basebackup *b = conn->backup;
    if (b == NULL)
        return;
    pthread_mutex_lock(&b->lock);
    b->full = false;
    b->aborted = b->aborted || conn->stream == NULL;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
    if (conn->stream == NULL && b->history != NULL) {
        struct loch_history *history = b->history;
        b->history = NULL;
        loch_history_cancel(history);
        destroy(b);
    }
}

/* Most of a fresh WAL segment, for one, is zeros: they need not travel. */
static bool all_zero(struct loch_slice bytes)
{
    return bytes.len > 0 && bytes.data[0] == 0 &&
           memcmp(bytes.data, bytes.data + 1, bytes.len - 1) == 0;
}

static loch_status encode_part(struct loch_buf *frames, uint64_t request_id,
                               struct loch_slice bytes)
{
    const struct loch_page_basebackup_data data = {request_id, bytes};
    const struct loch_page_basebackup_zeros zeros = {request_id, (uint32_t)bytes.len};
    struct loch_writer w;
    loch_writer_init(&w, frames);
    if (bytes.len <= LOCH_BASEBACKUP_ZEROS_MAX && all_zero(bytes))
        loch_page_basebackup_zeros_encode(&w, &zeros);
    else
        loch_page_basebackup_data_encode(&w, &data);
    return loch_writer_finish(&w);
}

/* Lock held. False when the socket took nothing for too long: the pool thread is wanted elsewhere.
 */
static bool wait_for_room(struct basebackup *b)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STALL_MAX_S;
    while (!b->aborted && (b->full || b->posted > AHEAD_MAX_BYTES)) {
        if (pthread_cond_timedwait(&b->changed, &b->lock, &until) == ETIMEDOUT)
            return false;
    }
    return true;
}

/* On the pool thread: takes the next bytes of the tar stream. */
static loch_status write_bytes(void *arg, struct loch_slice bytes)
{
    struct basebackup *b = arg;
    struct posted_frames *p = calloc(1, sizeof *p);
    if (p == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a part of a basebackup");
    loch_status st = encode_part(&p->frames, b->wanted.request_id, bytes);
    pthread_mutex_lock(&b->lock);
    if (!wait_for_room(b) && loch_is_ok(st))
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the receiver of a basebackup took nothing for %u s",
                       STALL_MAX_S);
    if (loch_is_ok(st) && b->aborted)
        st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "the connection is gone");
    if (loch_is_ok(st)) {
        p->backup = b;
        p->len = p->frames.len;
        b->posted += p->len;
        loch_env_post(b->env, deliver, p);
    }
    pthread_mutex_unlock(&b->lock);
    if (!loch_is_ok(st)) {
        loch_buf_fini(&p->frames);
        free(p);
    }
    return st;
}

static void backup_work(void *arg)
{
    struct basebackup *b = arg;
    struct loch_basebackup_source source = loch_basebackup_view_source(b->request->view);
    struct loch_basebackup_request request = {.lsn = b->point.lsn,
                                              .prev_lsn = b->point.prev_lsn,
                                              .control = &b->point.control,
                                              .time = b->time,
                                              .full =
                                                  (b->wanted.flags & LOCH_BASEBACKUP_FULL) != 0};
    loch_status st = loch_basebackup_forgotten_until(b->request->view, b->point.lsn,
                                                     &request.forget_prepared_until);
    if (loch_is_ok(st))
        st = loch_basebackup_send(&source, &request, write_bytes, b, &b->checkpoint_end);
    loch_failure_set(&b->result, st);
    loch_view_destroy(b->request->view);
    b->request->view = NULL;
}

/* Runs behind every delivery: posts and the end of work come to the loop in order, but not among
 * each other, so the end is posted too. */
static void backup_end(void *arg)
{
    struct basebackup *b = arg;
    struct page_conn *conn = b->request->conn;
    loch_status st = loch_failure_raise(&b->result);
    LOCH_ASSERT(b->posted == 0);
    if (loch_is_ok(st)) {
        struct loch_page_basebackup_end m = {b->wanted.request_id, b->checkpoint_end};
        struct loch_buf buf = {0};
        struct loch_writer w;
        loch_writer_init(&w, &buf);
        loch_page_basebackup_end_encode(&w, &m);
        st = loch_writer_finish(&w);
        page_conn_send(conn, &buf);
    }
    if (!loch_is_ok(st) && conn->stream != NULL)
        page_conn_error(conn, b->wanted.request_id, st);
    destroy(b);
}

static void backup_done(void *arg)
{
    struct basebackup *b = arg;
    loch_env_post(b->env, backup_end, b);
}

static void fail(struct basebackup *b, loch_status st)
{
    page_conn_error(b->request->conn, b->wanted.request_id, st);
    destroy(b);
}

static void found(void *arg, loch_status st, const struct loch_history_point *point)
{
    struct basebackup *b = arg;
    struct page_conn *conn = b->request->conn;
    b->history = NULL;
    if (loch_is_ok(st) && point->lsn != b->wanted.lsn)
        st =
            LOCH_FAIL(LOCH_E_INVALID, LOCH_LSN_FMT " is inside a record; one ends at " LOCH_LSN_FMT,
                      LOCH_LSN_ARG(b->wanted.lsn), LOCH_LSN_ARG(point->lsn));
    if (loch_is_ok(st) && b->wanted.prev_lsn != LOCH_LSN_NONE &&
        b->wanted.prev_lsn != point->prev_lsn)
        st = LOCH_FAIL(LOCH_E_INVALID,
                       "the record that ends at " LOCH_LSN_FMT " starts at " LOCH_LSN_FMT
                       ", not " LOCH_LSN_FMT,
                       LOCH_LSN_ARG(point->lsn), LOCH_LSN_ARG(point->prev_lsn),
                       LOCH_LSN_ARG(b->wanted.prev_lsn));
    if (loch_is_ok(st) && conn->served == NULL)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is no longer served here");
    if (loch_is_ok(st))
        st = loch_view_create(loch_served_timeline(conn->served), &b->request->view);
    if (loch_is_ok(st))
        st = loch_view_readable(b->request->view, point->lsn);
    if (!loch_is_ok(st)) {
        loch_view_destroy(b->request->view);
        b->request->view = NULL;
        fail(b, st);
        return;
    }
    b->point = *point;
    b->time = loch_env_wall_us(b->env) / 1000000;
    st = loch_env_work(b->env, backup_work, backup_done, b);
    if (!loch_is_ok(st)) {
        loch_view_destroy(b->request->view);
        b->request->view = NULL;
        fail(b, st);
    }
}

void page_basebackup(struct page_conn *conn, const struct loch_page_basebackup *m)
{
    if (conn->backup != NULL) {
        page_conn_error(conn, m->request_id,
                        LOCH_FAIL(LOCH_E_LIMIT, "one basebackup at a time on a connection"));
        return;
    }
    struct page_request *r = page_request_create(conn, LOCH_PAGE_BASEBACKUP, m->request_id);
    if (r == NULL)
        return;
    struct basebackup *b = calloc(1, sizeof *b);
    if (b == NULL) {
        page_conn_error(conn, m->request_id,
                        LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a basebackup"));
        page_request_destroy(r);
        return;
    }
    b->request = r;
    b->env = conn->ps->env;
    b->wanted = *m;
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->changed, &attr);
    pthread_condattr_destroy(&attr);
    conn->backup = b;
    loch_status st = loch_history_find(conn->served, conn->ps, m->lsn, HISTORY_TIMEOUT_MS, found, b,
                                       &b->history);
    if (!loch_is_ok(st))
        fail(b, st);
}
