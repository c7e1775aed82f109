/* Holds: zeros written ahead of where a WAL file ends.
 *
 * A file is preallocated, and the first synced write into preallocated blocks makes the file system
 * journal that they hold something now, at more than the price of the write. Zeros written ahead,
 * in pieces and beside the WAL, pay that price once for many writes; a reader sees zeros there
 * either way.
 *
 * Invariants: zeros and WAL of two writes under way never overlap: a write that would reach the
 * piece under way waits; only a file in use, by small writes, gets them, so idle and bulk-loaded
 * timelines cost nothing; a failed write of zeros is final, as any is.
 */
#include "wal_store_impl.h"

#include "loch/base/check.h"

#include <fcntl.h>

#define ALIGN_BYTES UINT64_C(4096)
#define PIECE_MAX   (512u << 10)
/* Shares of the file: what is written before the first piece, and the largest write that is called
 * small; the distance of a piece from the end; how far ahead zeros are kept; a piece. */
#define SMALL_SHARE 256u
#define LEAD_SHARE  128u
#define AHEAD_SHARE 8u
#define PIECE_SHARE 32u

static uint8_t zeros[PIECE_MAX];

static uint64_t align_up(uint64_t offset)
{
    return (offset + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static void piece_done(void *arg, loch_status st)
{
    struct sk_store *s = arg;

    s->ahead.running = false;
    if (!loch_is_ok(st)) {
        sk_store_fail(s, st);
        return;
    }
    sk_store_pump(s);
}

/* Its own descriptor: the kernel reports a failure to write back once per descriptor, and the WAL's
 * must not be taken by the zeros' sync. */
static loch_status start_piece(struct sk_store *s, uint64_t from, uint64_t end)
{
    struct sk_ahead *a = &s->ahead;

    if (a->file == NULL) {
        char path[SK_PATH_BYTES];
        sk_wal_file_path(s->dir, sk_store_last_seq(s), path);
        LOCH_TRY(loch_file_open(s->sealer.env, path, O_RDWR, &a->file));
    }
    LOCH_TRY(loch_file_write_sync(a->file, from, loch_slice_of(zeros, (size_t)(end - from)),
                                  piece_done, s));
    a->running = true;
    a->from = from;
    a->end = end;
    if (s->stats.zeroed_bytes != NULL)
        loch_metric_add(s->stats.zeroed_bytes, end - from);
    return LOCH_OK;
}

void sk_ahead_go_on(struct sk_store *s, size_t written_bytes)
{
    struct sk_ahead *a = &s->ahead;
    const uint64_t at = loch_wal_writer_bytes(s->writer);
    const uint64_t small = loch_max_u64(s->file_bytes / SMALL_SHARE, ALIGN_BYTES);

    if (s->recycled || a->running || at < small || written_bytes > small || at >= s->file_bytes ||
        (a->end > at && a->end - at >= s->file_bytes / AHEAD_SHARE))
        return;
    const uint64_t from = loch_max_u64(a->end, align_up(at + s->file_bytes / LEAD_SHARE));
    const uint64_t piece = loch_min_u64(s->file_bytes / PIECE_SHARE, PIECE_MAX);
    const uint64_t end = loch_min_u64(align_up(from + piece), s->file_bytes);
    if (from >= end)
        return;
    loch_status st = start_piece(s, from, end);
    if (!loch_is_ok(st))
        sk_store_fail(s, st);
}

uint64_t sk_ahead_room(const struct sk_store *s)
{
    const uint64_t at = s->write_offset;

    if (!s->ahead.running || at >= s->ahead.end)
        return UINT64_MAX;
    return s->ahead.from > at ? s->ahead.from - at : 0;
}

void sk_ahead_close(struct sk_store *s)
{
    LOCH_ASSERT(!s->ahead.running);
    loch_file_close(s->ahead.file);
    s->ahead = (struct sk_ahead){0};
}
