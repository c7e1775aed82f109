/* Holds: the beginning of a WAL file, and with it truncation. Invariants: the file before is
 * synced; a file is under its name, durably, before anything is written behind its head; a spare
 * one (see wal_spares.c) has its new head, durably, before it gets that name. */
#include "wal_store_impl.h"

#include "loch/base/check.h"

#include <fcntl.h>
#include <stdlib.h>

#ifdef LOCH_SIM_MUTATIONS
bool sk_head_comes_last;
#endif

struct begin_job {
    struct sk_store *s;
    struct loch_wal_begin begin;
    uint64_t seq;
    struct sk_wal_files before; /* the list as it was */
    struct sk_wal_files gone;   /* superseded whole */
    struct point anchor;        /* truncation: the best point at or below the cut */
    bool truncation;
    bool uncut; /* the cut is no record boundary: nothing was changed */
    loch_lsn prev;
    struct sk_spare spare;       /* what becomes the file; seq 0: none, it is made */
    uint64_t old_seq, old_bytes; /* a file that is left before it is full: its rest is given back */
    struct loch_wal_writer *writer;
    uint64_t head_hash;
    struct sk_failure failure;
};

static void begin_free(struct begin_job *job)
{
    loch_wal_writer_destroy(job->writer);
    sk_wal_files_fini(&job->before);
    sk_wal_files_fini(&job->gone);
    free(job);
}

/* The new file under its name, with its head. */
static loch_status make_file(const struct begin_job *job, struct loch_slice head)
{
    const struct sk_store *s = job->s;
    char path[SK_PATH_BYTES];
    char spare[SK_PATH_BYTES];

    sk_wal_file_path(s->dir, job->seq, path);
    if (job->spare.seq == 0)
        return loch_env_create_file(s->sealer.env, path, head);
    sk_spare_path(s->dir, job->spare.seq, spare);
    if (sk_head_comes_last) {
        LOCH_TRY(loch_env_rename(s->sealer.env, spare, path));
        return loch_env_patch_file(s->sealer.env, path, 0, head);
    }
    LOCH_TRY(loch_env_patch_file(s->sealer.env, spare, 0, head));
    return loch_env_rename(s->sealer.env, spare, path);
}

/* The cut is durable when the new file is; what it supersedes is tidied up after. */
static loch_status begin_steps(struct begin_job *job)
{
    const struct sk_store *s = job->s;
    const struct sk_sealer *sealer = &s->sealer;
    struct loch_place place = sk_sealer_place(sealer, LOCH_KIND_WAL, job->seq);
    struct loch_wrap_key key = {0};
    struct loch_buf head = {0};
    char path[SK_PATH_BYTES];
    loch_status st;

    if (job->truncation) {
        st = sk_wal_find_prev(s->dir, sealer, &job->before, s->segment_bytes, job->anchor.lsn,
                              job->anchor.prev, job->begin.start_lsn, &job->prev);
        job->uncut = st.code == LOCH_E_CORRUPT;
        if (!loch_is_ok(st))
            goto out;
    }
    LOCH_TRY_OUT(st,
                 sealer->wrap_key(sealer->wrap_key_arg, &sealer->tenant, &sealer->timeline, &key));
    LOCH_TRY_OUT(st, loch_wal_writer_create(&place, &key, &job->begin, &head, &job->writer));
    job->head_hash = sk_journal_file_hash(loch_buf_slice(&head));
    LOCH_TRY_OUT(st, make_file(job, loch_buf_slice(&head)));
    if (job->old_seq != 0) {
        sk_wal_file_path(s->dir, job->old_seq, path);
        LOCH_TRY_OUT(st, loch_env_truncate_file(sealer->env, path, job->old_bytes));
    }
    for (size_t i = 0; i < job->gone.count; i++) {
        sk_wal_file_path(s->dir, job->gone.items[i].seq, path);
        LOCH_TRY_OUT(st, loch_env_unlink(sealer->env, path));
    }
out:
    loch_wrap_key_fini(&key);
    loch_buf_fini(&head);
    return st;
}

static void begin_work(void *arg)
{
    struct begin_job *job = arg;

    sk_failure_take(&job->failure, begin_steps(job));
}

/* The new file is preallocated: whatever comes next may go on. */
static void begin_allocated(void *arg, loch_status st)
{
    struct begin_job *job = arg;
    struct sk_store *s = job->s;

    s->busy = s->allocating = false;
    if (!loch_is_ok(st)) {
        begin_free(job);
        sk_store_fail(s, st);
        return;
    }
    if (!job->truncation) {
        begin_free(job);
        sk_store_pump(s);
        return;
    }
    struct op *op = sk_store_dequeue(s);
    uint64_t token = op->token;
    loch_lsn prev = job->prev;
    s->truncations--;
    sk_op_free(op);
    begin_free(job);
    s->events->truncated(s->arg, token, prev);
    sk_store_pump(s);
}

/* What was asked for cannot be done to this WAL. The disk is sound. */
static void give_up(struct sk_store *s, loch_status st)
{
    if (s->events->uncut == NULL) {
        sk_store_fail(s, st);
    } else if (!s->failed) {
        s->failed = true;
        s->events->uncut(s->arg, st);
    }
}

static loch_status begin_adopt(struct begin_job *job)
{
    struct sk_store *s = job->s;
    loch_lsn at = job->begin.start_lsn;
    char path[SK_PATH_BYTES];

    LOCH_TRY(sk_failure_raise(&job->failure));
    if (s->files.count > 0 && s->writer != NULL) {
        struct sk_wal_file *left = &s->files.items[s->files.count - 1];
        const uint64_t counted = job->old_seq != 0 ? 0 : left->bytes;
        left->bytes = loch_max_u64(loch_wal_writer_bytes(s->writer), counted);
    }
    LOCH_TRY(sk_wal_files_add(&s->files, job->seq, at, NULL));
    s->files.items[s->files.count - 1].bytes = loch_max_u64(s->file_bytes, job->spare.bytes);
    s->recycled = job->spare.seq != 0;
    s->spares.begun++;
    loch_wal_writer_destroy(s->writer);
    loch_file_close(s->file);
    sk_ahead_close(s);
    s->writer = job->writer;
    job->writer = NULL;
    s->file = NULL;
    s->write_offset = loch_wal_writer_bytes(s->writer);
    LOCH_ASSERT(s->unsynced_frames == 0);
    if (job->truncation) {
        while (s->point_count > 0 && s->points[s->point_count - 1].lsn > at)
            s->point_count--;
        LOCH_TRY(sk_store_add_point(s, at, job->prev));
        sk_tail_cut(&s->tail, at);
        LOCH_ASSERT(s->tail.end == at);
        s->cuts++;
        s->written = s->received = s->written_boundary = at;
        loch_wal_scan_fini(&s->scan);
        LOCH_TRY(loch_wal_scan_init(&s->scan, LOCH_WAL_SCAN_BOUNDARIES, at, job->prev,
                                    s->segment_bytes));
    }
    sk_wal_file_path(s->dir, job->seq, path);
    LOCH_TRY(loch_file_open(s->sealer.env, path, O_RDWR, &s->file));
    LOCH_TRY(sk_journal_file(&s->client, s->file, path, job->seq, job->head_hash));
    if (s->stats.files != NULL)
        loch_metric_add(s->stats.files, 1);
    if (s->recycled) {
        if (s->stats.recycled != NULL)
            loch_metric_add(s->stats.recycled, 1);
        begin_allocated(job, LOCH_OK);
        return LOCH_OK;
    }
    LOCH_TRY(loch_file_allocate(s->file, s->file_bytes, begin_allocated, job));
    s->allocating = true;
    return LOCH_OK;
}

static void begin_done(void *arg)
{
    struct begin_job *job = arg;
    struct sk_store *s = job->s;
    loch_status st = begin_adopt(job);

    if (!loch_is_ok(st)) {
        const bool uncut = job->uncut;
        s->busy = false;
        begin_free(job);
        if (uncut)
            give_up(s, st);
        else
            sk_store_fail(s, st);
    }
}

static struct point best_point(const struct sk_store *s, loch_lsn at)
{
    size_t i = s->point_count;

    while (i > 1 && s->points[i - 1].lsn > at)
        i--;
    LOCH_ASSERT(i > 0);
    LOCH_ASSERT(s->points[i - 1].lsn <= at);
    return s->points[i - 1];
}

loch_status sk_begin_start(struct sk_store *s, struct loch_wal_begin begin, bool truncation)
{
    struct begin_job *job = calloc(1, sizeof *job);
    struct sk_wal_files after = {0};
    loch_status st;

    if (job == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to begin a WAL file");
    job->s = s;
    job->begin = begin;
    job->begin.incarnation = s->sealer.incarnation;
    job->truncation = truncation;
    job->seq = s->files.next_seq;
    sk_spares_take(s, &job->spare);
    if (truncation)
        job->anchor = best_point(s, begin.start_lsn);
    if (s->writer != NULL && loch_wal_writer_bytes(s->writer) < s->file_bytes) {
        job->old_seq = job->seq - 1;
        job->old_bytes = loch_wal_writer_bytes(s->writer);
    }
    LOCH_TRY_OUT(st, sk_store_files(s, &job->before));
    LOCH_TRY_OUT(st, sk_wal_files_copy(&after, &s->files));
    LOCH_TRY_OUT(st, sk_wal_files_add(&after, job->seq, begin.start_lsn, &job->gone));
    LOCH_TRY_OUT(st, loch_env_work(s->sealer.env, begin_work, begin_done, job));
    s->busy = true;
    s->cuts += truncation; /* files go before it is adopted */
    job = NULL;
out:
    sk_wal_files_fini(&after);
    if (job != NULL)
        begin_free(job);
    return st;
}
