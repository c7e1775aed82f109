/* Holds: what a timeline's disk looks like to others: positions, reads, trimming. Invariant: a file
 * is forgotten here before it is deleted, and never the one that holds the trim point. */
#include "wal_store_impl.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <stdlib.h>

#define IDLE_TICKS 60u

/* ---- looking ---- */

size_t sk_store_queued(const struct sk_store *s)
{
    return s->queued;
}

void sk_store_anchor(struct sk_store *s, loch_lsn commit, loch_lsn *lsn, loch_lsn *prev_lsn)
{
    size_t keep = s->point_count;

    while (keep > 1 && s->points[keep - 1].lsn > commit)
        keep--;
    keep--;
    LOCH_ASSERT(s->points[keep].lsn <= commit);
    if (keep > 0) {
        s->point_count -= keep;
        memmove(s->points, s->points + keep, s->point_count * sizeof *s->points);
    }
    *lsn = s->points[0].lsn;
    *prev_lsn = s->points[0].prev;
}

struct read_job {
    struct read_job *next;
    struct sk_store *s;
    struct sk_wal_files files;
    loch_lsn from, upto;
    size_t max;
    struct loch_buf wal;
    struct sk_failure failure;
    sk_store_read_fn done;
    void *arg;
};

struct rest_job {
    struct sk_store *s;
    uint64_t seq, bytes;
    struct sk_failure failure;
};

static void rest_work(void *arg)
{
    struct rest_job *job = arg;
    char path[SK_PATH_BYTES];

    sk_wal_file_path(job->s->dir, job->seq, path);
    sk_failure_take(&job->failure, loch_env_truncate_file(job->s->sealer.env, path, job->bytes));
}

static void start_read(struct read_job *job);

static void rest_done(void *arg)
{
    struct rest_job *job = arg;
    struct sk_store *s = job->s;

    s->reads--;
    s->resting = false;
    while (s->after_rest != NULL) {
        struct read_job *read = s->after_rest;
        s->after_rest = read->next;
        start_read(read);
    }
    if (!loch_is_ok(sk_failure_raise(&job->failure)))
        loch_log_failure("cannot give back the rest of a WAL file");
    free(job);
}

/* Ends the session: its file is closed, and what was preallocated given back; nobody reads the file
 * meanwhile, for a reader goes by the size that it found. A session is never resumed, so the next
 * write begins a file. */
static void rest(struct sk_store *s)
{
    struct rest_job *job = calloc(1, sizeof *job);

    if (job == NULL)
        return;
    struct sk_wal_file *last = &s->files.items[s->files.count - 1];
    job->s = s;
    job->seq = last->seq;
    job->bytes = loch_wal_writer_bytes(s->writer);
    if (!loch_is_ok(loch_env_work(s->sealer.env, rest_work, rest_done, job))) {
        free(job);
        return;
    }
    s->reads++;
    s->resting = true;
    last->bytes = job->bytes;
    loch_wal_writer_destroy(s->writer);
    s->writer = NULL;
    sk_journal_file_left(&s->client);
    loch_file_close(s->file);
    s->file = NULL;
    sk_ahead_close(s);
    loch_buf_fini(&s->out);
    loch_buf_fini(&s->spare);
}

void sk_store_tick(struct sk_store *s)
{
    s->idle_ticks = s->ticked == s->received ? s->idle_ticks + 1 : 0;
    s->ticked = s->received;
    sk_tail_tick(&s->tail);
    if (s->idle_ticks < IDLE_TICKS)
        return;
    if (s->tail.bytes != NULL)
        sk_tail_release(&s->tail);
    sk_store_drop_spares(s);
    if (s->writer != NULL && s->head == NULL && !s->busy && s->unsynced_frames == 0 &&
        !s->ahead.running && s->reads == 0)
        rest(s);
}

uint64_t sk_store_last_seq(const struct sk_store *s)
{
    return s->files.count == 0 ? 0 : s->files.items[s->files.count - 1].seq;
}

size_t sk_store_file_count(const struct sk_store *s)
{
    return s->files.count;
}

uint64_t sk_store_disk_bytes(const struct sk_store *s)
{
    uint64_t sum = sk_store_spare_bytes(s);

    for (size_t i = 0; i < s->files.count; i++)
        sum += s->files.items[i].bytes;
    if (s->writer != NULL) { /* the last write may go beyond what was preallocated */
        const uint64_t counted = s->files.items[s->files.count - 1].bytes;
        sum += loch_max_u64(loch_wal_writer_bytes(s->writer), counted) - counted;
    }
    return sum;
}

uint64_t sk_store_pending_bytes(const struct sk_store *s, size_t more)
{
    const uint64_t used = s->writer == NULL
                              ? s->file_bytes
                              : loch_min_u64(loch_wal_writer_bytes(s->writer), s->file_bytes);
    const uint64_t room = s->file_bytes - used + sk_store_spare_bytes(s);
    const uint64_t due = s->queued + more;
    uint64_t files = s->allocating;

    if (due > room)
        files += (due - room + s->file_bytes - 1) / s->file_bytes;
    return files * s->file_bytes;
}

loch_lsn sk_store_first_lsn(const struct sk_store *s)
{
    return s->files.count == 0 ? s->written : s->files.items[0].begin;
}

/* ---- trimming ---- */

loch_lsn sk_store_trim_point(const struct sk_store *s, loch_lsn lsn)
{
    size_t i = s->files.count;

    while (i > 1 && s->files.items[i - 1].begin > lsn)
        i--;
    return i == 0 ? s->written : s->files.items[i - 1].begin;
}

struct trim_job {
    struct sk_store *s;
    struct sk_wal_files gone;
    size_t spare; /* so many of the first ones are kept; less where that fails */
    struct sk_failure failure;
};

/* Not every file system can; then the file is deleted. */
static bool make_spare(const struct sk_store *s, const char *path, uint64_t seq)
{
    char spare[SK_PATH_BYTES];

    sk_spare_path(s->dir, seq, spare);
    return loch_is_ok(loch_env_rename(s->sealer.env, path, spare));
}

/* What fails here is left to the next start: the files are void already. */
static void trim_work(void *arg)
{
    struct trim_job *job = arg;
    char path[SK_PATH_BYTES];
    loch_status st = LOCH_OK;

    for (size_t i = 0; i < job->gone.count; i++) {
        sk_wal_file_path(job->s->dir, job->gone.items[i].seq, path);
        if (i < job->spare) {
            if (make_spare(job->s, path, job->gone.items[i].seq))
                continue;
            job->spare = i;
        }
        loch_status one = loch_env_unlink(job->s->sealer.env, path);
        if (!loch_is_ok(one) && one.code != LOCH_E_NOT_FOUND)
            st = one;
    }
    sk_failure_take(&job->failure, st);
}

static void trim_done(void *arg)
{
    struct trim_job *job = arg;

    job->s->trims--;
    for (size_t i = 0; i < job->spare; i++)
        sk_spares_add(job->s, (struct sk_spare){job->gone.items[i].seq, job->gone.items[i].bytes});
    if (!loch_is_ok(sk_failure_raise(&job->failure)))
        loch_log_failure("cannot delete WAL files that are no longer needed");
    sk_wal_files_fini(&job->gone);
    free(job);
}

loch_status sk_store_trim(struct sk_store *s, loch_lsn lsn, uint64_t spare_bytes)
{
    struct trim_job *job = calloc(1, sizeof *job);
    loch_lsn first = sk_store_first_lsn(s);
    loch_status st;

    if (job == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to trim WAL");
    job->s = s;
    LOCH_TRY_OUT(st, sk_wal_files_trim(&s->files, lsn, &job->gone));
    if (job->gone.count == 0)
        goto out;
    if (s->stats.trimmed_bytes != NULL)
        loch_metric_add(s->stats.trimmed_bytes, sk_store_first_lsn(s) - first);
    if (s->trims == 0) /* those under way are not counted */
        job->spare = sk_spares_wanted(s, &job->gone, spare_bytes);
    LOCH_TRY_OUT(st, loch_env_work(s->sealer.env, trim_work, trim_done, job));
    s->trims++;
    return LOCH_OK;
out:
    sk_wal_files_fini(&job->gone);
    free(job);
    return st;
}

loch_status sk_store_files(const struct sk_store *s, struct sk_wal_files *out)
{
    LOCH_TRY(sk_wal_files_copy(out, &s->files));
    if (s->writer != NULL) /* the rest of it may be cut off, by a truncation or at rest */
        out->items[out->count - 1].bytes = s->write_offset;
    return LOCH_OK;
}

/* ---- reading ---- */

bool sk_store_tail(const struct sk_store *s, loch_lsn from, loch_lsn upto, size_t max,
                   struct loch_slice *out)
{
    return sk_tail_read(&s->tail, from, upto, max, out);
}

uint64_t sk_store_cuts(const struct sk_store *s)
{
    return s->cuts;
}

static void read_work(void *arg)
{
    struct read_job *job = arg;

    sk_failure_take(&job->failure, sk_wal_read(job->s->dir, &job->s->sealer, &job->files, job->from,
                                               job->upto, job->max, &job->wal));
}

static void read_done(void *arg)
{
    struct read_job *job = arg;

    job->s->reads--;
    loch_status st = sk_failure_raise(&job->failure);
    if (st.code == LOCH_E_CORRUPT && job->from < sk_store_first_lsn(job->s))
        st = LOCH_FAIL(LOCH_E_NOT_FOUND, "WAL at " LOCH_LSN_FMT " was trimmed meanwhile",
                       LOCH_LSN_ARG(job->from)); /* its file is another one by now */
    job->done(job->arg, st, &job->wal);
    sk_wal_wipe(&job->wal);
    sk_wal_files_fini(&job->files);
    free(job);
}

/* On the loop's thread; counted in s->reads already. */
static void start_read(struct read_job *job)
{
    loch_status st = loch_env_work(job->s->sealer.env, read_work, read_done, job);

    if (!loch_is_ok(st)) {
        sk_failure_take(&job->failure, st);
        read_done(job);
    }
}

loch_status sk_store_read(struct sk_store *s, loch_lsn from, loch_lsn upto, size_t max,
                          sk_store_read_fn done, void *arg)
{
    struct read_job *job = calloc(1, sizeof *job);
    loch_status st;

    if (job == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a read");
    *job =
        (struct read_job){.s = s, .from = from, .upto = upto, .max = max, .done = done, .arg = arg};
    LOCH_TRY_OUT(st, sk_store_files(s, &job->files));
    if (s->resting) {
        job->next = s->after_rest;
        s->after_rest = job;
    } else {
        LOCH_TRY_OUT(st, loch_env_work(s->sealer.env, read_work, read_done, job));
    }
    s->reads++;
    return LOCH_OK;
out:
    sk_wal_files_fini(&job->files);
    free(job);
    return st;
}
