/* A basebackup over a connection: the control state at its LSN is found, then a thread of its own
 * makes the tar stream and posts it to the loop in frames, never more than a few MiB ahead of the
 * socket. Of its own, because it waits for whoever receives: pool threads are everybody's.
 */
#include "page_conn.h"

#include "basebackup/basebackup.h"

#include "loch/base/check.h"
#include "loch/base/stack.h"
#include "loch/host/keys.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* At a time; the others stand in line. */
#define THREADS_MAX        32u
#define TENANT_THREADS_MAX 8u
#define AHEAD_MAX_BYTES    ((size_t)2 << 20)
#define HISTORY_TIMEOUT_MS 60000u
#define STALL_MAX_S        60u

struct basebackup {
    struct page_request *request;
    struct basebackup *next, **link; /* in the pageserver's list; link NULL: not yet in it */
    bool running;                    /* on `thread`; else in line for one */
    pthread_t thread;
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
    if (b->link != NULL) {
        *b->link = b->next;
        if (b->next != NULL)
            b->next->link = b->link;
    }
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->changed);
    free(b);
    page_request_destroy(request);
}

/* On the loop: hands posted frames to the socket. The lease may have run out since it began. */
static void deliver(void *arg)
{
    struct posted_frames *p = arg;
    struct basebackup *b = p->backup;
    struct page_conn *conn = b->request->conn;
    if (conn->stream != NULL && !conn->closing) {
        loch_status st = page_conn_usable(conn);
        if (!loch_is_ok(st))
            page_conn_error(conn, 0, st);
    }
    page_conn_send(conn, &p->frames); /* not if it closes */
    pthread_mutex_lock(&b->lock);
    b->posted -= p->len;
    b->aborted = b->aborted || conn->stream == NULL || conn->closing;
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
    b->aborted = b->aborted || conn->stream == NULL || conn->closing;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
    if (conn->stream == NULL && b->history != NULL) {
        struct loch_history *history = b->history;
        b->history = NULL;
        loch_history_cancel(history);
        destroy(b);
    } else if (conn->stream == NULL && b->link != NULL && !b->running) {
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

/* Lock held. False when the socket took nothing for too long: others may stand in line. */
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

/* On the thread: takes the next bytes of the tar stream. */
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

static void backup_work(struct basebackup *b)
{
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

static void next_in_line(struct loch_pageserver *ps);

/* Posted by the thread as its last step, so behind every delivery. */
static void backup_end(void *arg)
{
    struct basebackup *b = arg;
    struct page_conn *conn = b->request->conn;
    struct loch_pageserver *ps = conn->ps;
    LOCH_ASSERT(pthread_join(b->thread, NULL) == 0);
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
    if (!loch_is_ok(st) && conn->stream != NULL && !conn->closing)
        page_conn_error(conn, b->wanted.request_id, st);
    destroy(b);
    next_in_line(ps);
}

static void *backup_thread(void *arg)
{
    struct basebackup *b = arg;
    backup_work(b);
    loch_stack_wipe();
    loch_env_post(b->env, backup_end, b);
    return NULL;
}

/* ---- threads, and the line for them ---- */

static void fail(struct basebackup *b, loch_status st)
{
    page_conn_error(b->request->conn, b->wanted.request_id, st);
    destroy(b);
}

static void start(struct basebackup *b)
{
    struct page_conn *conn = b->request->conn;
    loch_status st = LOCH_OK;
    if (conn->served == NULL)
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is no longer served here");
    if (loch_is_ok(st))
        st = loch_view_create(loch_served_timeline(conn->served), &b->request->view);
    if (loch_is_ok(st))
        st = loch_view_readable(b->request->view, b->point.lsn);
    b->time = loch_env_wall_us(b->env) / 1000000;
    if (loch_is_ok(st))
        st = loch_pageserver_thread(backup_thread, b, &b->thread);
    b->running = loch_is_ok(st);
    if (!b->running) {
        loch_view_destroy(b->request->view);
        b->request->view = NULL;
        fail(b, st);
    }
}

/* tenant NULL: of all. */
static unsigned count_running(const struct loch_pageserver *ps, const struct loch_id *tenant)
{
    unsigned n = 0;
    for (const struct basebackup *b = ps->backups; b != NULL; b = b->next)
        n += b->running && /* NOLINT(clang-analyzer-unix.Malloc): destroy unlinks */
             (tenant == NULL || loch_id_equal(&b->request->conn->identity.tenant, tenant));
    return n;
}

/* The first in line whose tenant may have another thread; NULL: none. */
static struct basebackup *first_in_line(const struct loch_pageserver *ps)
{
    struct basebackup *b = count_running(ps, NULL) < THREADS_MAX ? ps->backups : NULL;
    for (; b != NULL; b = b->next)
        if (!b->running && /* NOLINT(clang-analyzer-unix.Malloc): destroy unlinks */
            count_running(ps, &b->request->conn->identity.tenant) < TENANT_THREADS_MAX)
            break;
    return b;
}

static void next_in_line(struct loch_pageserver *ps)
{
    for (struct basebackup *b; (b = first_in_line(ps)) != NULL;)
        start(b);
}

static void join_line(struct loch_pageserver *ps, struct basebackup *b)
{
    struct basebackup **end = &ps->backups;
    while (*end != NULL)
        end = &(*end)->next;
    b->link = end;
    *end = b;
    next_in_line(ps);
}

static void found(void *arg, loch_status st, const struct loch_history_point *point)
{
    struct basebackup *b = arg;
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
                       LOCH_LSN_ARG(b->wanted.lsn), LOCH_LSN_ARG(point->prev_lsn),
                       LOCH_LSN_ARG(b->wanted.prev_lsn));
    if (!loch_is_ok(st)) {
        fail(b, st);
        return;
    }
    b->point = *point;
    join_line(b->request->conn->ps, b);
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
