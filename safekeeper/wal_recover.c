/* Holds: what a restart makes of the WAL files. Invariants: nothing below the persisted commit_lsn
 * is ever dropped; damage is told from a torn tail, and then nothing is changed on disk; nothing is
 * believed that was only read. A kernel that could not write a page back keeps it all the same, as
 * if it were on the disk: reads bring it, and later syncs pass it over. So every frame that is not
 * known to have been synced, which are those above the persisted commit_lsn, is written and synced
 * once more. (https://wiki.postgresql.org/wiki/Fsync_Errors) */
#include "wal_files.h"
#include "wal_open.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/pg/wal_scan.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#define REWRITE_BYTES (4u << 20) /* at a time */

#ifdef LOCH_SIM_MUTATIONS
bool sk_recovery_trusts_cache;
#endif

struct names {
    struct loch_env *env;
    const char *dir;
    uint64_t *seqs;
    size_t count, cap;
    bool *spares;
    loch_status st;
};

static bool is_wal_name(const char *name, uint64_t *seq)
{
    if (strlen(name) != 20 || strcmp(name + 16, ".wal") != 0)
        return false;
    uint64_t v = 0;
    for (int i = 0; i < 16; i++) {
        int c = (unsigned char)name[i];
        if (!isdigit(c) && !(c >= 'a' && c <= 'f'))
            return false;
        v = v << 4 | (uint64_t)(isdigit(c) ? c - '0' : c - 'a' + 10);
    }
    *seq = v;
    return true;
}

static bool take_name(void *arg, const char *name)
{
    struct names *n = arg;
    uint64_t seq;

    *n->spares |= sk_spare_is_name(name);
    if (!is_wal_name(name, &seq))
        return true;
    if (n->count == n->cap) {
        size_t cap = n->cap == 0 ? 64 : n->cap * 2;
        uint64_t *more = realloc(n->seqs, cap * sizeof *more);
        if (more == NULL) {
            n->st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of WAL files");
            return false;
        }
        n->seqs = more;
        n->cap = cap;
    }
    n->seqs[n->count++] = seq; /* names come sorted, and they sort as the numbers do */
    return true;
}

/* Every file's begin, read from its proven head; void ones go to `gone`. */
static loch_status list_files(const char *dir, const struct sk_sealer *sealer,
                              struct sk_wal_files *files, struct sk_wal_files *gone, bool *spares)
{
    struct names names = {.env = sealer->env, .dir = dir, .spares = spares, .st = LOCH_OK};
    loch_status st;

    LOCH_TRY_OUT(st, loch_env_list_dir(sealer->env, dir, take_name, &names));
    LOCH_TRY_OUT(st, names.st);
    for (size_t i = 0; i < names.count; i++) {
        struct sk_wal_opened opened;
        LOCH_TRY_OUT(st, sk_wal_open(dir, sealer, names.seqs[i], &opened));
        loch_lsn begin = loch_wal_reader_begin(opened.reader)->start_lsn;
        uint64_t bytes = opened.bytes;
        sk_wal_opened_close(&opened);
        LOCH_TRY_OUT(st, sk_wal_files_add(files, names.seqs[i], begin, gone));
        files->items[files->count - 1].bytes = bytes;
    }
out:
    free(names.seqs);
    return st;
}

struct replay {
    struct loch_env *env;
    const char *path;
    struct loch_wal_scan *scan;
    loch_lsn next, upto;
    const struct loch_acceptor_control *known; /* by the control file */
    loch_status bad;       /* records that are not WAL, though the frame is good */
    struct loch_buf again; /* frames to be written once more */
    uint64_t again_offset;
};

/* Puts what was gathered where it was read, durably. Through a descriptor of now: what comes of
 * this write is reported to it. */
static loch_status write_again(struct replay *r)
{
    if (r->again.len == 0 || sk_recovery_trusts_cache)
        return LOCH_OK;
    LOCH_TRY(loch_env_patch_file(r->env, r->path, r->again_offset, loch_buf_slice(&r->again)));
    r->again_offset += r->again.len;
    r->again.len = 0;
    return LOCH_OK;
}

/* A frame that is believed from here on. Those of a file follow one another without a gap. */
static loch_status keep(struct replay *r, const struct loch_wal_frame_ref *ref,
                        struct loch_slice stored)
{
    if (ref->lsn + ref->len <= r->known->commit_lsn)
        return LOCH_OK;
    if (r->again_offset == 0)
        r->again_offset = ref->offset;
    LOCH_ASSERT(r->again_offset + r->again.len == ref->offset);
    LOCH_TRY(loch_buf_append(&r->again, stored.data, stored.len));
    return r->again.len < REWRITE_BYTES ? LOCH_OK : write_again(r);
}

static loch_status feed(void *arg, const struct loch_wal_frame_ref *ref, struct loch_slice stored,
                        uint64_t term, loch_lsn boundary_lsn, struct loch_slice wal)
{
    struct replay *r = arg;
    loch_lsn end = ref->lsn + wal.len;

    (void)boundary_lsn;
    if (term > r->known->term) /* nothing can have been written under a later one */
        return r->bad = LOCH_FAIL(LOCH_E_CORRUPT,
                                  "WAL of term %" PRIu64 ", but the control file knows of term "
                                  "%" PRIu64 " only: it is older than its WAL",
                                  term, r->known->term);
    if (end <= r->next || ref->lsn > r->next || r->next >= r->upto)
        return LOCH_OK;
    size_t skip = (size_t)(r->next - ref->lsn);
    size_t take = (size_t)(loch_min_u64(end, r->upto) - r->next);
    r->next += take;
    r->bad = loch_wal_scan_feed(r->scan, loch_slice_of(wal.data + skip, take));
    return loch_is_ok(r->bad) ? keep(r, ref, stored) : r->bad;
}

/* Scans one file from where the scanner is; *end: offset of its last good frame's end. */
static loch_status replay_file(const char *dir, const struct sk_sealer *sealer,
                               const struct loch_acceptor_control *known, struct sk_wal_file file,
                               loch_lsn upto, bool last, struct loch_wal_scan *scan, uint64_t *end)
{
    const loch_lsn must_have = last ? known->commit_lsn : upto;
    struct loch_wal_file_scan found;
    struct sk_wal_opened opened;

    LOCH_TRY(sk_wal_open(dir, sealer, file.seq, &opened));
    struct replay r = {.env = sealer->env,
                       .path = opened.path,
                       .scan = scan,
                       .next = scan->position,
                       .upto = upto,
                       .known = known,
                       .bad = LOCH_OK};
    loch_status st = loch_wal_scan_file(opened.reader, opened.bytes, sk_wal_read_at, opened.file,
                                        must_have, &found, feed, &r);
    if (!loch_is_ok(st) && st.code == LOCH_E_CORRUPT) {
        struct sk_failure why;
        sk_failure_take(&why, st);
        st = LOCH_FAIL(LOCH_E_CORRUPT, "%s: at " LOCH_LSN_FMT ": %s", opened.path,
                       LOCH_LSN_ARG(r.next), why.text);
    } else if (loch_is_ok(st) &&
               (found.end_lsn < must_have || (last && found.verdict == LOCH_WAL_CORRUPT))) {
        st = LOCH_FAIL(LOCH_E_CORRUPT,
                       "%s: offset %" PRIu64 ": damaged frame; good WAL ends at " LOCH_LSN_FMT
                       ", durable was at least " LOCH_LSN_FMT,
                       opened.path, found.offset, LOCH_LSN_ARG(found.end_lsn),
                       LOCH_LSN_ARG(must_have));
    }
    if (loch_is_ok(st))
        st = write_again(&r);
    if (loch_is_ok(st))
        *end = found.offset;
    loch_buf_fini(&r.again);
    sk_wal_opened_close(&opened);
    return st;
}

/* Drops void files and the bytes behind the last good frame. */
static loch_status settle(const char *dir, const struct sk_sealer *sealer,
                          const struct sk_wal_files *gone, uint64_t last_seq, uint64_t last_end)
{
    char path[SK_PATH_BYTES];

    sk_wal_file_path(dir, last_seq, path);
    LOCH_TRY(loch_env_truncate_file(sealer->env, path, last_end));
    for (size_t i = 0; i < gone->count; i++) {
        sk_wal_file_path(dir, gone->items[i].seq, path);
        loch_status st = loch_env_unlink(sealer->env, path);
        if (!loch_is_ok(st) && st.code != LOCH_E_NOT_FOUND)
            return st;
    }
    return LOCH_OK;
}

static loch_status replay_files(const char *dir, const struct sk_sealer *sealer,
                                const struct sk_control *control, const struct sk_wal_files *files,
                                struct loch_wal_scan *scan, uint64_t *last_end)
{
    const loch_lsn commit = control->acceptor.commit_lsn;

    for (size_t i = 0; i < files->count; i++) {
        bool last = i + 1 == files->count;
        loch_lsn upto = last ? LOCH_LSN_MAX : files->items[i + 1].begin;
        if (upto <= scan->position)
            continue;
        LOCH_TRY(replay_file(dir, sealer, &control->acceptor, files->items[i], upto, last, scan,
                             last_end));
    }
    if (scan->last_end < commit)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "%s: whole records end at " LOCH_LSN_FMT
                         ", but WAL was committed up to " LOCH_LSN_FMT,
                         dir, LOCH_LSN_ARG(scan->last_end), LOCH_LSN_ARG(commit));
    return LOCH_OK;
}

loch_status sk_wal_recover(const char *dir, const struct sk_sealer *sealer,
                           const struct sk_control *control, struct sk_wal_found *out)
{
    struct sk_wal_found found = {0};
    struct sk_wal_files gone = {0};
    struct loch_wal_scan scan = {0};
    uint64_t last_end = 0;
    bool spares = false;
    loch_status st;

    LOCH_TRY(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, control->anchor_lsn,
                                control->anchor_prev_lsn, control->segment_bytes));
    LOCH_TRY_OUT(st, list_files(dir, sealer, &found.files, &gone, &spares));
    if (found.files.next_seq == 0)
        found.files.next_seq = 1;
    LOCH_TRY_OUT(st, sk_wal_files_trim(&found.files, control->trim_lsn, &gone));
    if (found.files.count > 0 && found.files.items[0].begin != control->trim_lsn) {
        st = LOCH_FAIL(LOCH_E_CORRUPT,
                       "%s: the first WAL file (%016" PRIx64 ") begins at " LOCH_LSN_FMT
                       ", what was not trimmed at " LOCH_LSN_FMT,
                       dir, found.files.items[0].seq, LOCH_LSN_ARG(found.files.items[0].begin),
                       LOCH_LSN_ARG(control->trim_lsn));
        goto out;
    }
    if (found.files.next_seq <= control->last_seq) {
        st = LOCH_FAIL(LOCH_E_CORRUPT,
                       "%s: the newest WAL file is %016" PRIx64 ", but there was %016" PRIx64, dir,
                       found.files.next_seq - 1, control->last_seq);
        goto out;
    }
    LOCH_TRY_OUT(st, replay_files(dir, sealer, control, &found.files, &scan, &last_end));
    /* The names, the control file's among them, before anything is deleted for what they say. (What
     * a file holds was synced before it got its name.) */
    LOCH_TRY_OUT(st, loch_env_sync_dir(sealer->env, dir));
    if (found.files.count > 0) {
        struct sk_wal_file *last = &found.files.items[found.files.count - 1];
        LOCH_TRY_OUT(st, settle(dir, sealer, &gone, last->seq, last_end));
        last->bytes = last_end;
    }
    if (spares)
        LOCH_TRY_OUT(st, sk_spares_clear(sealer->env, dir));
    found.flush_lsn = scan.last_end;
    found.prev_lsn = scan.last_start;
    found.cut_bytes = scan.position - scan.last_end;
    *out = found;
out:
    loch_wal_scan_fini(&scan);
    sk_wal_files_fini(&gone);
    if (!loch_is_ok(st))
        sk_wal_files_fini(&found.files);
    return st;
}
