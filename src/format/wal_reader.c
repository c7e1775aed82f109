/* Holds: opening WAL files, single frames of them, and the scan after a crash.
 *
 * The verdict (docs/format/wal.md): good frames, then only zeros: CLEAN. Otherwise the rest is
 * searched for frames of this session; one that was sealed when the missing frame was known durable
 * proves damage: CORRUPT. So does an end below must_have_lsn. Else the last write was cut off:
 * TORN.
 */
#include "loch/base/check.h"
#include "wal_frame.h"

#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (1u << 20)

#ifdef LOCH_SIM_MUTATIONS
bool wal_takes_stale_frames;
#endif

static loch_status begin_open(struct loch_wal_reader *r, struct loch_slice stored)
{
    struct wal_prefix p;
    struct loch_aead *aead = NULL;
    uint8_t payload[WAL_BEGIN_PAYLOAD_BYTES];

    if (!wal_prefix_decode(stored.data, &p) || p.mark != r->mark || p.seq != 0 ||
        p.type != WAL_FRAME_BEGIN || p.len != WAL_BEGIN_PAYLOAD_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a WAL file does not start with its BEGIN frame");
    LOCH_TRY(loch_aead_pool_take(&r->pool, &aead));
    loch_status st = wal_frame_open(aead, r->hash, &p, stored, payload);
    loch_aead_pool_give(&r->pool, aead);
    LOCH_TRY(st);
    r->begin = (struct loch_wal_begin){p.lsn, p.boundary_lsn, p.term, loch_get_u64(payload)};
    memcpy(r->begin_tag, stored.data + LOCH_WAL_FRAME_PREFIX_BYTES + WAL_BEGIN_PAYLOAD_BYTES,
           sizeof r->begin_tag);
    return LOCH_OK;
}

loch_status loch_wal_reader_open(const struct loch_place *expected,
                                 const struct loch_key_source *keys, struct loch_slice head,
                                 struct loch_wal_reader **out)
{
    struct header_opened h = {0};
    loch_status st;

    LOCH_ASSERT(expected->kind == LOCH_KIND_WAL);
    if (head.len < LOCH_WAL_HEAD_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a WAL file of %zu bytes is too short", head.len);
    struct loch_wal_reader *r = calloc(1, sizeof *r);
    if (r == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a WAL reader");
    LOCH_TRY_OUT(st, header_open(expected, true, keys, head, &h));
    LOCH_TRY_OUT(st, loch_aead_pool_init(&r->pool, &h.data_key, LOCH_AEAD_OPEN));
    memcpy(r->hash, h.hash, sizeof r->hash);
    r->mark = wal_mark_of(r->hash);
    LOCH_TRY_OUT(st, begin_open(r, loch_slice_of(head.data + LOCH_FILE_HEADER_BYTES,
                                                 WAL_BEGIN_STORED_BYTES)));
    *out = r;
    r = NULL;
out:
    header_opened_fini(&h);
    loch_wal_reader_destroy(r);
    return st;
}

void loch_wal_reader_destroy(struct loch_wal_reader *reader)
{
    if (reader == NULL)
        return;
    loch_aead_pool_fini(&reader->pool);
    free(reader);
}

const struct loch_wal_begin *loch_wal_reader_begin(const struct loch_wal_reader *reader)
{
    return &reader->begin;
}

loch_status loch_wal_reader_frame(struct loch_wal_reader *reader,
                                  const struct loch_wal_frame_ref *ref, struct loch_slice stored,
                                  struct loch_buf *wal)
{
    struct wal_prefix p;
    struct loch_aead *aead = NULL;

    if (stored.len < LOCH_WAL_FRAME_PREFIX_BYTES || stored.len != ref->stored_bytes)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a WAL frame of %zu bytes", stored.len);
    if (!wal_prefix_decode(stored.data, &p) || p.type != WAL_FRAME_DATA || p.seq != ref->seq ||
        p.lsn != ref->lsn || p.len != ref->len)
        return LOCH_FAIL(LOCH_E_CORRUPT, "not the WAL frame that belongs at " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(ref->lsn));
    LOCH_TRY(loch_buf_reserve(wal, p.len));
    LOCH_TRY(loch_aead_pool_take(&reader->pool, &aead));
    loch_status st = wal_frame_open(aead, reader->hash, &p, stored, wal->data + wal->len);
    loch_aead_pool_give(&reader->pool, aead);
    LOCH_TRY(st);
    wal->len += p.len;
    return LOCH_OK;
}

/* ---- the scan ---- */

struct scan {
    struct loch_wal_reader *reader;
    struct loch_aead *aead;
    uint64_t file_bytes;
    loch_wal_read_at_fn read_at;
    void *read_arg;
    struct loch_buf window; /* file bytes [base, base + window.len) */
    uint64_t base;
    struct loch_buf plain;
    uint64_t seq; /* expected next */
    uint8_t last_tag[LOCH_AEAD_TAG_BYTES];
    struct loch_wal_file_scan result;
};

/* Makes [offset, offset + len) available; the caller has checked it against the file's size. */
static loch_status window_at(struct scan *s, uint64_t offset, size_t len, const uint8_t **out)
{
    LOCH_ASSERT(offset + len <= s->file_bytes);
    if (offset < s->base || offset + len > s->base + s->window.len) {
        const size_t want = len > WINDOW_BYTES ? len : WINDOW_BYTES;
        const size_t n = (size_t)loch_min_u64(want, s->file_bytes - offset);
        s->window.len = 0;
        LOCH_TRY(loch_buf_reserve(&s->window, n));
        LOCH_TRY(s->read_at(s->read_arg, offset, s->window.data, n));
        s->window.len = n;
        s->base = offset;
    }
    *out = s->window.data + (offset - s->base);
    return LOCH_OK;
}

/* Tries the frame at `offset`: *good when it is one of this session's DATA frames, in s->plain. */
static loch_status try_frame(struct scan *s, uint64_t offset, struct wal_prefix *p, bool *good)
{
    const uint8_t *bytes;

    *good = false;
    if (s->file_bytes - offset < LOCH_WAL_FRAME_PREFIX_BYTES)
        return LOCH_OK;
    LOCH_TRY(window_at(s, offset, LOCH_WAL_FRAME_PREFIX_BYTES, &bytes));
    if (!wal_prefix_decode(bytes, p) || p->type != WAL_FRAME_DATA ||
        (p->mark != s->reader->mark && !wal_takes_stale_frames))
        return LOCH_OK;
    const uint32_t stored = wal_stored_bytes(p->len);
    if (s->file_bytes - offset < stored)
        return LOCH_OK;
    LOCH_TRY(window_at(s, offset, stored, &bytes));
    s->plain.len = 0;
    LOCH_TRY(loch_buf_reserve(&s->plain, p->len));
    const loch_status st =
        wal_frame_open(s->aead, s->reader->hash, p, loch_slice_of(bytes, stored), s->plain.data);
    if (st.code == LOCH_E_CORRUPT && !wal_takes_stale_frames)
        return LOCH_OK;
    if (st.code != LOCH_E_CORRUPT)
        LOCH_TRY(st);
    s->plain.len = p->len;
    memcpy(p->previous_tag, bytes + 40, LOCH_AEAD_TAG_BYTES);
    *good = true;
    return LOCH_OK;
}

/* Does the frame continue the good ones before it? */
static bool continues(const struct scan *s, const struct wal_prefix *p)
{
    if (wal_takes_stale_frames)
        return true;
    return p->seq == s->seq && p->lsn == s->result.end_lsn &&
           p->boundary_lsn >= s->result.boundary_lsn && p->boundary_lsn <= p->lsn + p->len &&
           memcmp(p->previous_tag, s->last_tag, sizeof s->last_tag) == 0;
}

static loch_status accept_frame(struct scan *s, const struct wal_prefix *p, loch_wal_scan_fn fn,
                                void *arg)
{
    const struct loch_wal_frame_ref ref = {s->result.offset, p->seq, p->lsn, p->len,
                                           wal_stored_bytes(p->len)};
    const uint8_t *bytes;

    LOCH_TRY(window_at(s, ref.offset, ref.stored_bytes, &bytes));
    memcpy(s->last_tag, bytes + LOCH_WAL_FRAME_PREFIX_BYTES + p->len, sizeof s->last_tag);
    s->seq++;
    s->result.offset += ref.stored_bytes;
    s->result.end_lsn = p->lsn + p->len;
    s->result.boundary_lsn = p->boundary_lsn;
    s->result.term = p->term;
    s->result.frames++;
    if (fn != NULL)
        return fn(arg, &ref, loch_slice_of(bytes, ref.stored_bytes), p->term, p->boundary_lsn,
                  loch_buf_slice(&s->plain));
    return LOCH_OK;
}

/* What follows the last good frame: only zeros, a cut-off write, or proof of damage. */
static loch_status judge_rest(struct scan *s)
{
    uint64_t at = s->result.offset;
    const uint8_t *bytes;
    bool zeros = true;

    s->result.verdict = LOCH_WAL_CLEAN;
    while (at < s->file_bytes) {
        const size_t n = (size_t)loch_min_u64(8, s->file_bytes - at);
        LOCH_TRY(window_at(s, at, n, &bytes));
        for (size_t i = 0; i < n; i++)
            zeros = zeros && bytes[i] == 0;
        struct wal_prefix p;
        bool good = false;
        if (n == 8 && loch_get_u32(bytes) == s->reader->mark)
            LOCH_TRY(try_frame(s, at, &p, &good));
        /* Frames below seq - unsynced were durable when this one was sealed. */
        if (good && p.seq >= s->seq && p.seq - loch_min_u64(p.unsynced, p.seq) > s->seq) {
            s->result.verdict = LOCH_WAL_CORRUPT;
            return LOCH_OK;
        }
        at += n;
    }
    if (!zeros)
        s->result.verdict = LOCH_WAL_TORN;
    return LOCH_OK;
}

static loch_status scan_frames(struct scan *s, loch_wal_scan_fn fn, void *arg)
{
    for (;;) {
        struct wal_prefix p;
        bool good = false;
        if (s->result.offset >= s->file_bytes)
            return LOCH_OK;
        LOCH_TRY(try_frame(s, s->result.offset, &p, &good));
        if (!good || !continues(s, &p))
            return LOCH_OK;
        LOCH_TRY(accept_frame(s, &p, fn, arg));
    }
}

loch_status loch_wal_scan_file(struct loch_wal_reader *reader, uint64_t file_bytes,
                               loch_wal_read_at_fn read_at, void *read_arg, loch_lsn must_have_lsn,
                               struct loch_wal_file_scan *out, loch_wal_scan_fn fn, void *arg)
{
    struct scan s = {
        .reader = reader,
        .file_bytes = file_bytes,
        .read_at = read_at,
        .read_arg = read_arg,
        .seq = 1,
        .result = {.offset = LOCH_WAL_HEAD_BYTES,
                   .end_lsn = reader->begin.start_lsn,
                   .boundary_lsn = reader->begin.boundary_lsn,
                   .term = reader->begin.term},
    };
    loch_status st;

    memcpy(s.last_tag, reader->begin_tag, sizeof s.last_tag);
    LOCH_TRY(loch_aead_pool_take(&reader->pool, &s.aead));
    LOCH_TRY_OUT(st, scan_frames(&s, fn, arg));
    LOCH_TRY_OUT(st, judge_rest(&s));
    if (s.result.end_lsn < must_have_lsn)
        s.result.verdict = LOCH_WAL_CORRUPT;
    *out = s.result;
out:
    loch_aead_pool_give(&reader->pool, s.aead);
    loch_buf_fini(&s.window);
    loch_buf_fini(&s.plain);
    return st;
}
