/* Holds: the writer of one WAL session.
 *
 * Invariants: the DEK is drawn in create and never leaves this object, so a frame number is sealed
 * once under it; frames are contiguous in LSN; boundaries never go back.
 */
#include "loch/base/check.h"
#include "wal_frame.h"

#include <stdlib.h>
#include <string.h>

struct loch_wal_writer {
    struct loch_aead *aead;
    uint8_t hash[LOCH_SHA256_BYTES];
    uint8_t last_tag[LOCH_AEAD_TAG_BYTES];
    uint32_t mark;
    uint64_t seq; /* of the next frame */
    uint64_t bytes;
    loch_lsn lsn; /* of the next frame */
    loch_lsn boundary_lsn;
};

/* Seals one frame at the end of *out; p->seq, mark and previous tag are set here. */
static loch_status frame_seal(struct loch_wal_writer *w, struct wal_prefix *p,
                              struct loch_slice bytes, struct loch_buf *out)
{
    const uint32_t stored = wal_stored_bytes(p->len);

    LOCH_TRY(loch_buf_reserve(out, stored));
    uint8_t *at = out->data + out->len;
    p->mark = w->mark;
    p->seq = w->seq;
    memcpy(p->previous_tag, w->last_tag, sizeof p->previous_tag);
    wal_prefix_encode(p, at);
    const struct loch_slice aad[2] = {loch_slice_of(w->hash, sizeof w->hash),
                                      loch_slice_of(at, LOCH_WAL_FRAME_PREFIX_BYTES)};
    /* The number is spent even when the seal fails: it is never tried again. */
    w->seq++;
    LOCH_TRY(loch_aead_seal(w->aead, (struct loch_nonce){DOMAIN_WAL, p->seq}, aad, 2, bytes,
                            at + LOCH_WAL_FRAME_PREFIX_BYTES));
    const uint32_t end = LOCH_WAL_FRAME_PREFIX_BYTES + p->len + LOCH_AEAD_TAG_BYTES;
    memcpy(w->last_tag, at + end - LOCH_AEAD_TAG_BYTES, LOCH_AEAD_TAG_BYTES);
    memset(at + end, 0, stored - end);
    out->len += stored;
    w->bytes += stored;
    return LOCH_OK;
}

loch_status loch_wal_writer_create(const struct loch_place *place, const struct loch_wrap_key *key,
                                   const struct loch_wal_begin *begin, struct loch_buf *out,
                                   struct loch_wal_writer **writer)
{
    const struct header_spec spec = {CODEC_NONE, 0, LOCH_WAL_FRAME_MAX_BYTES};
    const size_t mark = out->len;
    uint8_t payload[WAL_BEGIN_PAYLOAD_BYTES] = {0};
    struct header_opened h = {0};
    struct wal_prefix p = {
        .len = WAL_BEGIN_PAYLOAD_BYTES,
        .lsn = begin->start_lsn,
        .term = begin->term,
        .boundary_lsn = begin->boundary_lsn,
        .type = WAL_FRAME_BEGIN,
    };
    loch_status st;

    LOCH_ASSERT(place->kind == LOCH_KIND_WAL);
    if (begin->boundary_lsn > begin->start_lsn)
        return LOCH_FAIL(LOCH_E_INVALID, "a WAL file's record boundary lies after its start");
    struct loch_wal_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a WAL writer");
    LOCH_TRY_OUT(st, header_seal(place, &spec, key, out, &h));
    LOCH_TRY_OUT(st, loch_aead_create(&h.data_key, LOCH_AEAD_SEAL, &w->aead));
    memcpy(w->hash, h.hash, sizeof w->hash);
    w->mark = wal_mark_of(w->hash);
    w->bytes = LOCH_FILE_HEADER_BYTES;
    w->lsn = begin->start_lsn;
    w->boundary_lsn = begin->boundary_lsn;
    loch_put_u64(payload, begin->incarnation);
    LOCH_TRY_OUT(st, frame_seal(w, &p, loch_slice_of(payload, sizeof payload), out));
    LOCH_ASSERT(w->bytes == LOCH_WAL_HEAD_BYTES);
    *writer = w;
    w = NULL;
out:
    if (!loch_is_ok(st))
        out->len = mark;
    header_opened_fini(&h);
    loch_wal_writer_destroy(w);
    return st;
}

void loch_wal_writer_destroy(struct loch_wal_writer *writer)
{
    if (writer == NULL)
        return;
    loch_aead_destroy(writer->aead);
    free(writer);
}

loch_status loch_wal_writer_seal(struct loch_wal_writer *writer, loch_lsn lsn, uint64_t term,
                                 loch_lsn boundary_lsn, uint32_t unsynced, struct loch_slice bytes,
                                 struct loch_buf *out, struct loch_wal_frame_ref *ref)
{
    const uint64_t before = writer->seq;
    const uint64_t offset = writer->bytes;

    if (bytes.len == 0 || bytes.len > LOCH_WAL_FRAME_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_LIMIT, "a WAL frame of %zu bytes", bytes.len);
    if (lsn != writer->lsn || lsn > UINT64_MAX - bytes.len)
        return LOCH_FAIL(LOCH_E_INVALID, "WAL at " LOCH_LSN_FMT " does not continue " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(lsn), LOCH_LSN_ARG(writer->lsn));
    if (boundary_lsn < writer->boundary_lsn || boundary_lsn > lsn + bytes.len)
        return LOCH_FAIL(LOCH_E_INVALID, "record boundary " LOCH_LSN_FMT " is out of order",
                         LOCH_LSN_ARG(boundary_lsn));
    struct wal_prefix p = {
        .len = (uint32_t)bytes.len,
        .lsn = lsn,
        .term = term,
        .boundary_lsn = boundary_lsn,
        .unsynced = before < unsynced ? (uint32_t)before : unsynced,
        .type = WAL_FRAME_DATA,
    };
    LOCH_TRY(frame_seal(writer, &p, bytes, out));
    writer->lsn = lsn + bytes.len;
    writer->boundary_lsn = boundary_lsn;
    if (ref != NULL)
        *ref = (struct loch_wal_frame_ref){offset, p.seq, lsn, p.len, wal_stored_bytes(p.len)};
    return LOCH_OK;
}

uint64_t loch_wal_writer_bytes(const struct loch_wal_writer *writer)
{
    return writer->bytes;
}

loch_lsn loch_wal_writer_lsn(const struct loch_wal_writer *writer)
{
    return writer->lsn;
}
