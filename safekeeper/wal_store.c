/* Holds: the queue of disk effects of one timeline. Invariants: one operation is in flight at a
 * time; effects reach the disk in token order; a WAL file is synced before the next one begins;
 * frames are sealed in order, when their WAL is received if its file is known by then, else when
 * they are written; `written` is where the next write begins, `received` where the next WRITE must.
 */
#include "wal_store_impl.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define OP_BYTES    (1u << 20) /* unsealed WRITEs are joined up to this; one frame each */
#define BATCH_BYTES (4u << 20) /* most in one write call */
#define PAGE_BYTES  UINT64_C(4096)
#define POINTS_MAX  65536u

void sk_store_fail(struct sk_store *s, loch_status st)
{
    if (s->failed)
        return;
    s->failed = true;
    s->events->failed(s->arg, st);
}

/* ---- life ---- */

loch_status sk_store_add_point(struct sk_store *s, loch_lsn lsn, loch_lsn prev)
{
    if (s->point_count > 0 && s->points[s->point_count - 1].lsn >= lsn)
        return LOCH_OK;
    if (s->point_count == POINTS_MAX) {
        size_t kept = 0;
        for (size_t i = 0; i < s->point_count; i += 2)
            s->points[kept++] = s->points[i];
        s->point_count = kept;
    }
    if (s->point_count == s->point_cap) {
        size_t cap = s->point_cap == 0 ? 64 : s->point_cap * 2;
        struct point *more = realloc(s->points, cap * sizeof *more);
        if (more == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for record boundaries");
        s->points = more;
        s->point_cap = cap;
    }
    s->points[s->point_count++] = (struct point){lsn, prev};
    return LOCH_OK;
}

loch_status sk_store_create(const struct sk_store_options *options, struct sk_wal_found *take_found,
                            loch_lsn anchor_lsn, loch_lsn anchor_prev_lsn, struct sk_store **out)
{
    struct sk_store *s = calloc(1, sizeof *s);
    struct sk_wal_found found = *take_found;
    loch_status st;

    *take_found = (struct sk_wal_found){0};
    if (s == NULL) {
        sk_wal_files_fini(&found.files);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a WAL store");
    }
    s->files = found.files;
    if (s->files.next_seq == 0)
        s->files.next_seq = 1;
    s->sealer = options->sealer;
    s->segment_bytes = options->segment_bytes;
    s->file_bytes = options->file_bytes;
    if (options->stats != NULL)
        s->stats = *options->stats;
    s->events = options->events;
    s->arg = options->arg;
    sk_journal_enter(&s->client, options->journal, &s->sealer.tenant, &s->sealer.timeline);
    s->written = s->received = s->written_boundary = found.flush_lsn;
    sk_tail_init(&s->tail, SK_TAIL_BYTES, options->memory, found.flush_lsn);
    s->dir = strdup(options->dir);
    if (s->dir == NULL) {
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a WAL store");
        goto out;
    }
    LOCH_TRY_OUT(st, loch_wal_scan_init(&s->scan, LOCH_WAL_SCAN_BOUNDARIES, found.flush_lsn,
                                        found.prev_lsn, s->segment_bytes));
    LOCH_TRY_OUT(st, sk_store_add_point(s, anchor_lsn, anchor_prev_lsn));
    LOCH_TRY_OUT(st, sk_store_add_point(s, found.flush_lsn, found.prev_lsn));
    *out = s;
    return LOCH_OK;
out:
    sk_store_destroy(s);
    return st;
}

void sk_op_free(struct op *op)
{
    sk_wal_wipe(&op->bytes);
    free(op);
}

void sk_store_destroy(struct sk_store *s)
{
    if (s == NULL)
        return;
    LOCH_ASSERT(!s->busy);
    LOCH_ASSERT(!s->posted);
    LOCH_ASSERT(s->reads == 0);
    LOCH_ASSERT(s->trims == 0);
    sk_ahead_close(s);
    sk_journal_leave(&s->client);
    while (s->head != NULL) {
        struct op *op = s->head;
        s->head = op->next;
        sk_op_free(op);
    }
    loch_wal_writer_destroy(s->writer);
    loch_file_close(s->file);
    loch_buf_fini(&s->out);
    loch_buf_fini(&s->spare);
    loch_wal_scan_fini(&s->scan);
    sk_tail_fini(&s->tail);
    sk_wal_files_fini(&s->files);
    free(s->points);
    free(s->dir);
    free(s);
}

bool sk_store_idle(const struct sk_store *s)
{
    return (s->head == NULL || s->failed) && !s->busy && !s->posted && s->reads == 0 &&
           s->trims == 0 && !s->ahead.running;
}

/* ---- the queue ---- */

static void pump_later(void *arg)
{
    struct sk_store *s = arg;

    s->posted = false;
    sk_store_pump(s);
}

/* Starts work on the queue's head after the caller has returned. */
static void wake(struct sk_store *s)
{
    if (s->busy || s->posted || s->failed)
        return;
    s->posted = true;
    loch_env_post(s->sealer.env, pump_later, s);
}

static struct op *enqueue(struct sk_store *s, enum op_kind kind, uint64_t token)
{
    struct op *op = calloc(1, sizeof *op);

    if (op == NULL) {
        sk_store_fail(s, LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a disk operation"));
        return NULL;
    }
    op->kind = kind;
    op->token = token;
    op->boundary = s->scan.last_end;
    op->prev = s->scan.last_start;
    if (s->tail_op == NULL)
        s->head = op;
    else
        s->tail_op->next = op;
    s->tail_op = op;
    return op;
}

struct op *sk_store_dequeue(struct sk_store *s)
{
    struct op *op = s->head;

    s->head = op->next;
    if (s->head == NULL)
        s->tail_op = NULL;
    return op;
}

void sk_store_persist(struct sk_store *s, uint64_t token, struct loch_buf *take_sealed)
{
    struct op *op = enqueue(s, OP_PERSIST, token);

    if (op != NULL) {
        op->bytes = *take_sealed;
        *take_sealed = (struct loch_buf){0};
        wake(s);
    } else {
        loch_buf_fini(take_sealed);
    }
}

void sk_store_truncate(struct sk_store *s, uint64_t token, loch_lsn begin, uint64_t term)
{
    struct op *op = enqueue(s, OP_TRUNCATE, token);

    if (op != NULL) {
        op->begin = begin;
        op->term = term;
        s->truncations++;
        wake(s);
    }
}

/* May what is received next be sealed now? All before it was, and it does not begin a file. */
static bool seals_now(const struct sk_store *s, loch_lsn begin)
{
    return s->writer != NULL && s->truncations == 0 && loch_wal_writer_lsn(s->writer) == begin &&
           loch_wal_writer_bytes(s->writer) < s->file_bytes;
}

/* A frame more at the end of *out. */
static loch_status seal(struct sk_store *s, loch_lsn begin, uint64_t term, loch_lsn boundary,
                        struct loch_slice bytes, struct loch_buf *out)
{
    LOCH_TRY(loch_wal_writer_seal(s->writer, begin, term, boundary, s->unsynced_frames, bytes, out,
                                  NULL));
    s->unsynced_frames++;
    return LOCH_OK;
}

/* The queue's last WRITE, if it may be joined, or a new one. NULL: out of memory, and failed. */
static struct op *write_op(struct sk_store *s, loch_lsn begin, uint64_t term, size_t len)
{
    const bool sealed = seals_now(s, begin);
    struct op *op = s->tail_op;

    if (op != NULL && op->kind == OP_WRITE && op->sealed == sealed) {
        if (sealed && op->bytes.len + len + LOCH_WAL_FRAME_OVERHEAD_BYTES <= BATCH_BYTES)
            return op;
        if (!sealed && op->term == term && op->bytes.len + len <= OP_BYTES)
            return op;
    }
    op = enqueue(s, OP_WRITE, 0);
    if (op == NULL)
        return NULL;
    op->begin = begin;
    op->term = term;
    op->sealed = sealed;
    if (sealed) {
        op->bytes = s->spare;
        s->spare = (struct loch_buf){0};
    }
    return op;
}

loch_lsn sk_store_end(const struct sk_store *s)
{
    return s->received;
}

/* Feeds the scanner. *untouched: the bytes are refused, and as they began at a record boundary all
 * is as it was before them; else what is refused may be a fault of earlier bytes. */
static loch_status scan(struct sk_store *s, struct loch_slice bytes, bool *untouched)
{
    const bool at_boundary = s->scan.position == s->scan.last_end;
    const loch_lsn end = s->scan.last_end;
    const loch_lsn start = s->scan.last_start;
    struct loch_wal_scan again;

    loch_status st = loch_wal_scan_feed(&s->scan, bytes);
    *untouched = !loch_is_ok(st) && at_boundary &&
                 loch_is_ok(loch_wal_scan_init(&again, LOCH_WAL_SCAN_BOUNDARIES, end, start,
                                               s->segment_bytes));
    if (*untouched) {
        loch_wal_scan_fini(&s->scan);
        s->scan = again;
    }
    return st;
}

loch_status sk_store_write(struct sk_store *s, uint64_t token, loch_lsn begin, uint64_t term,
                           struct loch_slice bytes)
{
    bool untouched;

    LOCH_ASSERT(begin == s->received);
    loch_status st = scan(s, bytes, &untouched);
    if (untouched)
        return st;
    sk_tail_append(&s->tail, bytes);
    struct op *op = write_op(s, begin, term, bytes.len);
    if (op == NULL)
        return LOCH_OK;
    op->token = token;
    op->boundary = s->scan.last_end;
    op->prev = s->scan.last_start;
    op->wal_bytes += bytes.len;
    loch_status kept = op->sealed ? seal(s, begin, term, op->boundary, bytes, &op->bytes)
                                  : loch_buf_append(&op->bytes, bytes.data, bytes.len);
    if (!loch_is_ok(kept)) {
        sk_store_fail(s, kept);
        return LOCH_OK;
    }
    op->frames += op->sealed;
    s->queued += bytes.len;
    s->received += bytes.len;
    return st; /* the SYNC that follows, or the one in flight, sets it going */
}

void sk_store_sync(struct sk_store *s, uint64_t token)
{
    struct op *op = enqueue(s, OP_SYNC, token);

    if (op == NULL)
        return;
    loch_status st = sk_store_add_point(s, op->boundary, op->prev);
    if (!loch_is_ok(st))
        sk_store_fail(s, st);
    /* A write can start in this turn: its event comes later. Other work may end at once, and events
     * must not run before this returns. */
    if (s->head->kind == OP_WRITE && !s->posted)
        sk_store_pump(s);
    else
        wake(s);
}

/* ---- persist ---- */

static void persist_done(void *arg, loch_status st)
{
    struct sk_store *s = arg;
    struct op *op = sk_store_dequeue(s);
    uint64_t token = op->token;

    sk_op_free(op);
    s->busy = false;
    if (!loch_is_ok(st)) {
        sk_store_fail(s, st);
        return;
    }
    s->events->persisted(s->arg, token);
    sk_store_pump(s);
}

static loch_status start_persist(struct sk_store *s)
{
    char path[SK_PATH_BYTES];

    (void)snprintf(path, sizeof path, "%s/" SK_CONTROL_NAME, s->dir);
    return loch_env_replace_file_async(s->sealer.env, path, &s->head->bytes, persist_done, s);
}

/* ---- write and sync ---- */

static void all_synced(struct sk_store *s)
{
    s->unsynced_frames -= s->written_frames;
    s->written_frames = 0;
}

static void sync_before_begin_done(void *arg, loch_status st)
{
    struct sk_store *s = arg;

    s->busy = false;
    if (!loch_is_ok(st)) {
        sk_store_fail(s, st);
        return;
    }
    all_synced(s);
    sk_store_pump(s);
}

static void sync_event(struct sk_store *s);

static void count_sync(struct sk_store *s)
{
    if (s->stats.syncs == NULL)
        return;
    loch_metric_add(s->stats.syncs, 1);
    loch_metric_observe_ns(s->stats.sync_latency, loch_env_now_ns(s->sealer.env) - s->started_ns);
}

/* What was in flight is written. */
static bool written(struct sk_store *s, loch_status st)
{
    s->busy = false;
    if (!loch_is_ok(st)) {
        sk_store_fail(s, st);
        return false;
    }
    s->write_offset += s->out.len;
    s->written_frames += s->out_frames;
    if (!s->journaled) /* else nobody waits for this file's syncs */
        sk_ahead_go_on(s, s->out.len);
    s->out.len = 0;
    return !s->failed;
}

/* The write and the SYNC behind it, as one operation. */
static void write_sync_done(void *arg, loch_status st)
{
    struct sk_store *s = arg;

    if (!written(s, st))
        return;
    all_synced(s);
    count_sync(s);
    sync_event(s);
    sk_store_pump(s);
}

static void write_done(void *arg, loch_status st)
{
    struct sk_store *s = arg;

    if (written(s, st))
        sk_store_pump(s);
}

/* May the WRITE be added to those that are written at once? */
static bool fits(const struct sk_store *s, const struct op *op, uint64_t room)
{
    const uint64_t stored =
        op->sealed ? op->bytes.len : op->bytes.len + LOCH_WAL_FRAME_OVERHEAD_BYTES;

    return s->out.len < BATCH_BYTES && s->out.len + stored <= room;
}

/* Moves the WRITE at the head of the queue to what is written next. */
static loch_status take_write(struct sk_store *s)
{
    struct op *op = s->head;

    LOCH_ASSERT(op->begin == s->written);
    if (op->sealed) {
        loch_buf_fini(&s->spare);
        s->spare = s->out;
        s->out = op->bytes;
        op->bytes = (struct loch_buf){0};
        s->out_frames = op->frames;
    } else {
        LOCH_TRY(seal(s, op->begin, op->term, op->boundary, loch_buf_slice(&op->bytes), &s->out));
        s->out_frames++;
    }
    s->written += op->wal_bytes;
    s->written_boundary = op->boundary;
    s->queued -= op->wal_bytes;
    if (s->stats.write_bytes != NULL)
        loch_metric_add(s->stats.write_bytes, op->wal_bytes);
    sk_op_free(sk_store_dequeue(s));
    return LOCH_OK;
}

/* What is written next. Behind the end of a recycled file lies what it was before: the rest of the
 * last page is zeroed, for a page that is written whole need not be read first. (Not through the
 * journal, which may be replayed over what came later.) */
static loch_status bytes_out(struct sk_store *s, struct loch_slice *out)
{
    const uint64_t end = s->write_offset + s->out.len;
    const size_t pad = s->recycled ? (size_t)(-end % PAGE_BYTES) : 0;

    LOCH_TRY(loch_buf_reserve(&s->out, pad));
    memset(s->out.data + s->out.len, 0, pad);
    *out = loch_slice_of(s->out.data, s->out.len + pad);
    return LOCH_OK;
}

/* Writes what is at the head of the queue: WRITEs sealed already, or those that are not, a frame
 * each. */
static loch_status start_write(struct sk_store *s)
{
    const uint64_t room = sk_ahead_room(s);
    struct loch_slice bytes;

    LOCH_ASSERT(s->out.len == 0);
    s->out_frames = 0;
    if (s->head->sealed) {
        LOCH_TRY(take_write(s));
    } else {
        while (s->head != NULL && s->head->kind == OP_WRITE && !s->head->sealed &&
               fits(s, s->head, room))
            LOCH_TRY(take_write(s));
    }
    if (s->stats.writes != NULL)
        loch_metric_add(s->stats.writes, 1);
    s->busy = true;
    s->started_ns = loch_env_now_ns(s->sealer.env);
    s->journaled = false;
    if (s->written_frames == 0 && s->head != NULL && s->head->kind == OP_SYNC) {
        s->journaled = sk_journal_takes(&s->client, s->out.len);
        if (s->journaled) {
            sk_journal_write(&s->client, s->write_offset, loch_buf_slice(&s->out), write_sync_done,
                             s);
            return LOCH_OK;
        }
        LOCH_TRY(bytes_out(s, &bytes));
        return loch_file_write_sync(s->file, s->write_offset, bytes, write_sync_done, s);
    }
    LOCH_TRY(bytes_out(s, &bytes));
    return loch_file_write(s->file, s->write_offset, bytes, write_done, s);
}

static bool is_full(const struct sk_store *s)
{
    return s->writer != NULL && loch_wal_writer_bytes(s->writer) >= s->file_bytes;
}

static loch_status step_write(struct sk_store *s)
{
    if (s->head->sealed || (s->writer != NULL && !is_full(s)))
        return start_write(s);
    if (s->written_frames > 0) {
        s->busy = true;
        return loch_file_sync(s->file, sync_before_begin_done, s);
    }
    struct loch_wal_begin begin = {
        .start_lsn = s->written, .boundary_lsn = s->written_boundary, .term = s->head->term};
    return sk_begin_start(s, begin, false);
}

static void sync_event(struct sk_store *s)
{
    struct op *op = sk_store_dequeue(s);
    uint64_t token = op->token;
    loch_lsn boundary = op->boundary;
    loch_lsn prev = op->prev;

    sk_op_free(op);
    s->events->synced(s->arg, token, boundary, prev);
}

static void sync_done(void *arg, loch_status st)
{
    struct sk_store *s = arg;

    s->busy = false;
    if (!loch_is_ok(st)) {
        sk_store_fail(s, st);
        return;
    }
    all_synced(s);
    count_sync(s);
    sync_event(s);
    sk_store_pump(s);
}

static loch_status step_sync(struct sk_store *s)
{
    if (s->written_frames == 0) { /* nothing was written since the last one */
        sync_event(s);
        return LOCH_OK;
    }
    s->busy = true;
    s->started_ns = loch_env_now_ns(s->sealer.env);
    return loch_file_sync(s->file, sync_done, s);
}

static loch_status step_truncate(struct sk_store *s)
{
    struct loch_wal_begin begin = {
        .start_lsn = s->head->begin, .boundary_lsn = s->head->begin, .term = s->head->term};

    if (s->written_frames > 0) {
        s->busy = true;
        return loch_file_sync(s->file, sync_before_begin_done, s);
    }
    return sk_begin_start(s, begin, true);
}

/* A file is not left, nor are zeros overwritten, while zeros are under way in it. */
static bool waits_for_zeros(const struct sk_store *s)
{
    if (!s->ahead.running)
        return false;
    if (s->head->kind == OP_WRITE)
        return (is_full(s) && !s->head->sealed) || !fits(s, s->head, sk_ahead_room(s));
    return s->head->kind == OP_TRUNCATE;
}

/* Runs the queue until something is in flight. */
void sk_store_pump(struct sk_store *s)
{
    while (!s->busy && !s->failed && s->head != NULL && !waits_for_zeros(s)) {
        loch_status st = LOCH_OK;
        switch (s->head->kind) {
        case OP_PERSIST:
            s->busy = true;
            st = start_persist(s);
            break;
        case OP_TRUNCATE:
            st = step_truncate(s);
            break;
        case OP_WRITE:
            st = step_write(s);
            break;
        case OP_SYNC:
            st = step_sync(s);
            break;
        }
        if (!loch_is_ok(st)) {
            s->busy = false;
            sk_store_fail(s, st);
        }
    }
}
