/* Holds: what a start does with a journal. Invariants: a byte of a WAL file gets one value in the
 * file's life, so that replaying a record once more, or one whose bytes are in place, changes
 * nothing; a file that is gone, or another one under the same name, takes no part. */
#include "journal.h"

#include "sealer.h"
#include "wal_files.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

struct piece {
    struct sk_journal_piece p;
    size_t order;
};

struct replay {
    struct loch_env *env;
    const char *dir;
    struct piece *pieces;
    size_t count, cap, applied, skipped;
    struct loch_buf run;
};

static loch_status collect(void *arg, const struct sk_journal_piece *piece)
{
    struct replay *r = arg;

    if (r->count == r->cap) {
        size_t cap = r->cap == 0 ? 1024 : r->cap * 2;
        struct piece *more = realloc(r->pieces, cap * sizeof *more);
        if (more == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to replay a journal");
        r->pieces = more;
        r->cap = cap;
    }
    r->pieces[r->count] = (struct piece){*piece, r->count};
    r->count++;
    return LOCH_OK;
}

static int file_order(const struct sk_journal_piece *x, const struct sk_journal_piece *y)
{
    int c = memcmp(x->tenant.bytes, y->tenant.bytes, sizeof x->tenant.bytes);

    if (c == 0)
        c = memcmp(x->timeline.bytes, y->timeline.bytes, sizeof x->timeline.bytes);
    if (c == 0)
        c = (x->seq > y->seq) - (x->seq < y->seq);
    if (c == 0)
        c = (x->file_hash > y->file_hash) - (x->file_hash < y->file_hash);
    return c;
}

static int by_file(const void *a, const void *b)
{
    const struct piece *x = a;
    const struct piece *y = b;
    int c = file_order(&x->p, &y->p);

    if (c == 0)
        c = (x->p.offset > y->p.offset) - (x->p.offset < y->p.offset);
    return c != 0 ? c : (x->order > y->order) - (x->order < y->order);
}

static void file_path(const struct replay *r, const struct sk_journal_piece *p,
                      char out[static SK_PATH_BYTES])
{
    char dir[SK_PATH_BYTES];
    char tenant[LOCH_ID_TEXT_BYTES];
    char timeline[LOCH_ID_TEXT_BYTES];

    (void)snprintf(dir, sizeof dir, "%s/tenants/%s/timelines/%s", r->dir,
                   loch_id_format(&p->tenant, tenant), loch_id_format(&p->timeline, timeline));
    sk_wal_file_path(dir, p->seq, out);
}

/* Is the file there, and the one that was written to? */
static loch_status is_there(const struct replay *r, const char *path, uint64_t file_hash, bool *out)
{
    uint8_t head[SK_JOURNAL_FILE_HEAD_MAX];
    struct loch_file *file;
    uint64_t size = 0;

    *out = false;
    loch_status st = loch_file_open(r->env, path, O_RDONLY, &file);
    if (st.code == LOCH_E_NOT_FOUND)
        return LOCH_OK;
    LOCH_TRY(st);
    st = loch_file_size(file, &size);
    if (loch_is_ok(st) && size >= sizeof head) {
        st = loch_file_read(file, 0, head, sizeof head);
        *out =
            loch_is_ok(st) && sk_journal_file_hash(loch_slice_of(head, sizeof head)) == file_hash;
    }
    loch_file_close(file);
    return st;
}

/* The pieces [from, end) are of one file, by offset: what continues each other goes in one write.
 */
static loch_status replay_file(struct replay *r, size_t from, size_t end)
{
    char path[SK_PATH_BYTES];
    bool there = false;

    file_path(r, &r->pieces[from].p, path);
    LOCH_TRY(is_there(r, path, r->pieces[from].p.file_hash, &there));
    if (!there) {
        r->skipped += end - from;
        return LOCH_OK;
    }
    while (from < end) {
        const uint64_t begin = r->pieces[from].p.offset;
        r->run.len = 0;
        while (from < end && r->pieces[from].p.offset == begin + r->run.len) {
            LOCH_TRY(loch_buf_append(&r->run, r->pieces[from].p.bytes.data,
                                     r->pieces[from].p.bytes.len));
            from++;
        }
        LOCH_TRY(loch_env_patch_file(r->env, path, begin, loch_buf_slice(&r->run)));
        r->applied++;
    }
    return LOCH_OK;
}

static loch_status replay_all(struct replay *r, struct loch_slice file,
                              const struct sk_journal_head *head)
{
    LOCH_TRY(sk_journal_pieces(file, head, collect, r));
    if (r->count > 0)
        qsort(r->pieces, r->count, sizeof *r->pieces, by_file);
    for (size_t at = 0; at < r->count;) {
        size_t end = at + 1;
        while (end < r->count && file_order(&r->pieces[at].p, &r->pieces[end].p) == 0)
            end++;
        LOCH_TRY(replay_file(r, at, end));
        at = end;
    }
    LOCH_INFO("%s: the journal held %zu appends: %zu pieces put in place, %zu of files that are "
              "gone",
              r->dir, r->count, r->applied, r->skipped);
    return LOCH_OK;
}

static loch_status load(struct loch_env *env, const char *path, const struct loch_id *node,
                        const struct loch_id *id, struct loch_buf *bytes,
                        struct sk_journal_head *head)
{
    loch_status st =
        loch_env_read_file(env, path, SK_JOURNAL_PAGE + 2 * (size_t)SK_JOURNAL_HALF_MAX, bytes);

    if (st.code == LOCH_E_NOT_FOUND)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "%s is missing: WAL that this safekeeper has acknowledged was in it; "
                         "replace the safekeeper",
                         path);
    LOCH_TRY(st);
    st = sk_journal_head_decode(loch_buf_slice(bytes), head);
    if (st.code == LOCH_E_CORRUPT)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "%s: its head is damaged: WAL that this safekeeper has acknowledged was "
                         "in it; replace the safekeeper",
                         path);
    LOCH_TRY(st);
    if (!loch_id_equal(&head->node, node) || !loch_id_equal(&head->id, id))
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "%s is not the journal that this safekeeper wrote last: a copy, or from "
                         "an older state; replace the safekeeper",
                         path);
    return LOCH_OK;
}

loch_status sk_journal_replay(struct loch_env *env, const char *dir, const struct loch_id *node,
                              const struct loch_id *id)
{
    static const struct loch_id none;
    struct replay r = {.env = env, .dir = dir};
    struct sk_journal_head head;
    struct loch_buf bytes = {0};
    char path[SK_PATH_BYTES];
    loch_status st;

    if (loch_id_equal(id, &none)) /* one that nobody speaks of was never used */
        return LOCH_OK;
    (void)snprintf(path, sizeof path, "%s/" SK_JOURNAL_NAME, dir);
    LOCH_TRY_OUT(st, load(env, path, node, id, &bytes, &head));
    st = replay_all(&r, loch_buf_slice(&bytes), &head);
    if (st.code == LOCH_E_CORRUPT) {
        struct sk_failure why;
        sk_failure_take(&why, st);
        st = LOCH_FAIL(LOCH_E_CORRUPT, "%s: %s; replace the safekeeper", path, why.text);
    }
out:
    loch_buf_fini(&bytes);
    loch_buf_fini(&r.run);
    free(r.pieces);
    return st;
}

loch_status sk_journal_discard(struct loch_env *env, const char *dir)
{
    char path[SK_PATH_BYTES];

    (void)snprintf(path, sizeof path, "%s/" SK_JOURNAL_NAME, dir);
    loch_status st = loch_env_unlink(env, path);
    return st.code == LOCH_E_NOT_FOUND ? LOCH_OK : st;
}
