/* Holds: the archive of committed WAL. Invariants: a piece is put only when all of it is committed
 * and lies on our own disk; an object that is there is never put again; one piece is made at a time
 * in the whole daemon, so that memory stays bounded. */
#include "archive.h"

#include "timeline.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/format/sealed_object.h"
#include "loch/format/wal_archive.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOK_NS    UINT64_C(2000000000)  /* between looks for a piece that another one makes */
#define RANK_NS    UINT64_C(10000000000) /* what each rank waits before it steps in */
#define FAILED_NS  UINT64_C(5000000000)
#define NAME_BYTES 160u
#define READ_BYTES (4u << 20)

static_assert(SK_PIECE_BYTES <= LOCH_WAL_ARCHIVE_MAX_BYTES, "a piece fits an object");

enum outcome { ABSENT, FOUND, PUT };

struct archive_job {
    struct sk_timeline *tl;
    char name[NAME_BYTES];
    struct loch_wal_piece piece;
    struct sk_wal_files files;
    bool may_put;
    enum outcome outcome;
    struct sk_failure failure;
};

static uint64_t piece_bytes(const struct sk_timeline *tl)
{
    return tl->daemon->piece_bytes;
}

/* Where the piece that holds `lsn` begins and ends. */
static loch_lsn piece_begin(const struct sk_timeline *tl, loch_lsn lsn)
{
    return loch_max_u64(lsn - lsn % piece_bytes(tl), tl->control.acceptor.start_lsn);
}

static loch_lsn piece_end(const struct sk_timeline *tl, loch_lsn lsn)
{
    return lsn - lsn % piece_bytes(tl) + piece_bytes(tl);
}

static void piece_name(const struct sk_timeline *tl, loch_lsn lsn, char out[static NAME_BYTES])
{
    (void)snprintf(out, NAME_BYTES, "tenants/%s/timelines/%s/wal/%016" PRIx64, tl->tenant_text,
                   tl->timeline_text, lsn - lsn % piece_bytes(tl));
}

void sk_archive_open(struct sk_timeline *tl)
{
    LOCH_ASSERT(sk_archive_idle(tl));
    tl->archive = (struct sk_archive){.lsn = piece_begin(tl, tl->control.trim_lsn)};
}

bool sk_archive_idle(const struct sk_timeline *tl)
{
    return !tl->archive.busy && tl->archive.reads == 0;
}

/* Our place among the safekeepers, another one for every timeline: 0 archives at once. */
static uint64_t rank(const struct sk_timeline *tl)
{
    const struct sk_daemon *d = tl->daemon;
    uint64_t count = d->peer_count + 1;
    uint64_t smaller = 0;

    for (size_t i = 0; i < d->peer_count; i++)
        smaller += memcmp(&d->peers[i].node, &d->node, sizeof d->node) < 0;
    return (smaller + tl->timeline.bytes[0]) % count;
}

/* ---- making a piece ---- */

static loch_status put_piece(struct archive_job *job)
{
    const struct sk_timeline *tl = job->tl;
    const struct sk_sealer *sealer = &tl->sealer;
    struct loch_place place = {
        .kind = LOCH_KIND_WAL_ARCHIVE, .tenant = sealer->tenant, .timeline = sealer->timeline};
    struct loch_wrap_key key = {0};
    struct loch_buf wal = {0};
    struct loch_buf sealed = {0};
    loch_status st;

    while (wal.len < job->piece.end - job->piece.begin)
        LOCH_TRY_OUT(st, sk_wal_read(tl->dir, sealer, &job->files, job->piece.begin + wal.len,
                                     job->piece.end, READ_BYTES, &wal));
    LOCH_TRY_OUT(st,
                 sealer->wrap_key(sealer->wrap_key_arg, &sealer->tenant, &sealer->timeline, &key));
    LOCH_TRY_OUT(st,
                 loch_wal_archive_seal(&place, &key, &job->piece, loch_buf_slice(&wal), &sealed));
    st = loch_objstore_put_if_absent(tl->daemon->store, job->name, loch_buf_slice(&sealed), NULL);
out:
    loch_wrap_key_fini(&key);
    sk_wal_wipe(&wal);
    loch_buf_fini(&sealed);
    return st;
}

static loch_status make_piece(struct archive_job *job)
{
    loch_status st = loch_objstore_head(job->tl->daemon->store, job->name, NULL, NULL);

    if (loch_is_ok(st)) {
        job->outcome = FOUND;
        return LOCH_OK;
    }
    if (st.code != LOCH_E_NOT_FOUND)
        return st;
    job->outcome = ABSENT;
    if (!job->may_put)
        return LOCH_OK;
    st = put_piece(job);
    if (!loch_is_ok(st) && st.code != LOCH_E_EXISTS)
        return st;
    job->outcome = loch_is_ok(st) ? PUT : FOUND;
    return LOCH_OK;
}

static void work(void *arg)
{
    struct archive_job *job = arg;

    sk_failure_take(&job->failure, make_piece(job));
}

static void failed(struct sk_timeline *tl, uint64_t now)
{
    if (tl->archive.why[0] == '\0')
        LOCH_WARN("timeline %s: WAL from " LOCH_LSN_FMT " cannot be archived, tried again: %s",
                  tl->timeline_text, LOCH_LSN_ARG(tl->archive.lsn), loch_error_text());
    (void)snprintf(tl->archive.why, sizeof tl->archive.why, "%s", loch_error_text());
    tl->archive.next_ns = now + FAILED_NS;
    loch_metric_add(tl->daemon->stats.archive_failures, 1);
}

static void pump(struct sk_daemon *d);

static void done(void *arg)
{
    struct archive_job *job = arg;
    struct sk_timeline *tl = job->tl;
    struct sk_daemon *d = tl->daemon;
    struct sk_archive *a = &tl->archive;
    uint64_t now = loch_env_now_ns(d->env);

    a->busy = false;
    d->archiving = false;
    loch_status st = sk_failure_raise(&job->failure);
    if (!loch_is_ok(st)) {
        failed(tl, now);
    } else if (job->outcome == ABSENT) {
        if (a->put_ns == 0)
            a->put_ns = now + rank(tl) * RANK_NS;
        a->next_ns = now + LOOK_NS;
    } else {
        a->lsn = job->piece.end;
        a->why[0] = '\0';
        if (job->outcome == PUT) /* whoever stepped in goes on until another one is seen to */
            loch_metric_add(d->stats.archived_bytes, job->piece.end - job->piece.begin);
        else
            a->put_ns = 0;
    }
    sk_wal_files_fini(&job->files);
    free(job);
    pump(d);
}

static loch_status begin(struct sk_timeline *tl, uint64_t now)
{
    struct archive_job *job = calloc(1, sizeof *job);
    struct sk_archive *a = &tl->archive;
    loch_status st;

    if (job == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to archive WAL");
    job->tl = tl;
    job->piece = (struct loch_wal_piece){.begin = a->lsn,
                                         .end = piece_end(tl, a->lsn),
                                         .system_id = tl->control.system_id,
                                         .pg_version = tl->control.pg_version,
                                         .segment_bytes = tl->control.segment_bytes};
    piece_name(tl, a->lsn, job->name);
    /* What lies below our first file can only be found. */
    job->may_put = (rank(tl) == 0 || (a->put_ns != 0 && now >= a->put_ns)) &&
                   sk_store_first_lsn(tl->store) <= a->lsn;
    LOCH_TRY_OUT(st, sk_store_files(tl->store, &job->files));
    LOCH_TRY_OUT(st, loch_env_work(tl->daemon->env, work, done, job));
    a->busy = true;
    tl->daemon->archiving = true;
    return LOCH_OK;
out:
    sk_wal_files_fini(&job->files);
    free(job);
    return st;
}

static bool due(const struct sk_timeline *tl, uint64_t now)
{
    return tl->state == SK_ACTIVE && !tl->dropping && now >= tl->archive.next_ns &&
           tl->seen_commit >= piece_end(tl, tl->archive.lsn);
}

bool sk_archive_owes(const struct sk_timeline *tl)
{
    return tl->daemon->store != NULL && due(tl, UINT64_MAX);
}

/* Begins with the next timeline that has a whole piece, in turn. */
static void pump(struct sk_daemon *d)
{
    uint64_t now = loch_env_now_ns(d->env);

    if (d->archiving || d->stopping || d->store == NULL)
        return;
    for (size_t i = 0; i < d->timeline_count; i++) {
        struct sk_timeline *tl = d->timelines[(d->archive_turn + i) % d->timeline_count];
        if (!due(tl, now))
            continue;
        d->archive_turn = (d->archive_turn + i + 1) % d->timeline_count;
        if (!loch_is_ok(begin(tl, now)))
            failed(tl, now);
        return;
    }
}

void sk_archive_tick(struct sk_daemon *d)
{
    pump(d);
}

/* ---- reading ---- */

struct read_job {
    struct sk_timeline *tl;
    char name[NAME_BYTES];
    loch_lsn from, begin;
    struct loch_buf wal;
    struct sk_failure failure;
    sk_store_read_fn done;
    void *arg;
};

static loch_status read_piece(struct read_job *job)
{
    const struct sk_sealer *sealer = &job->tl->sealer;
    struct loch_place place = {.kind = LOCH_KIND_WAL_ARCHIVE,
                               .tenant = sealer->tenant,
                               .timeline = sealer->timeline,
                               .generation = job->begin};
    struct loch_wal_piece piece;
    struct loch_buf sealed = {0};
    loch_status st;

    LOCH_TRY_OUT(st, loch_objstore_get(job->tl->daemon->store, job->name,
                                       LOCH_SEALED_OBJECT_MAX_BYTES, &sealed, NULL));
    LOCH_TRY_OUT(st, loch_wal_archive_open(&place, &sealer->keys, loch_buf_slice(&sealed), &piece,
                                           &job->wal));
    if (piece.end <= job->from)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "it ends at " LOCH_LSN_FMT, LOCH_LSN_ARG(piece.end));
    else
        loch_buf_consume(&job->wal, (size_t)(job->from - job->begin));
out:
    loch_buf_fini(&sealed);
    if (!loch_is_ok(st)) {
        struct sk_failure why;
        sk_failure_take(&why, st);
        return LOCH_FAIL(st.code, "archived WAL %s: %s", job->name, why.text);
    }
    return LOCH_OK;
}

static void read_work(void *arg)
{
    struct read_job *job = arg;

    sk_failure_take(&job->failure, read_piece(job));
}

static void read_done(void *arg)
{
    struct read_job *job = arg;

    job->tl->archive.reads--;
    job->done(job->arg, sk_failure_raise(&job->failure), &job->wal);
    sk_wal_wipe(&job->wal);
    free(job);
}

loch_status sk_archive_read(struct sk_timeline *tl, loch_lsn from, sk_store_read_fn fn, void *arg)
{
    struct read_job *job;

    if (tl->daemon->store == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "WAL at " LOCH_LSN_FMT " was trimmed here",
                         LOCH_LSN_ARG(from));
    job = calloc(1, sizeof *job);
    if (job == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a read");
    job->tl = tl;
    job->from = from;
    job->begin = piece_begin(tl, from);
    job->done = fn;
    job->arg = arg;
    piece_name(tl, from, job->name);
    loch_status st = loch_env_work(tl->daemon->env, read_work, read_done, job);
    if (!loch_is_ok(st)) {
        free(job);
        return st;
    }
    tl->archive.reads++;
    loch_metric_add(tl->daemon->stats.archive_reads, 1);
    return LOCH_OK;
}
