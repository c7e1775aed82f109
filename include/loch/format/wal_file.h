/* WAL files of a safekeeper: one file is one writer session under its own DEK.
 *
 *   header | BEGIN frame | DATA frame | DATA frame | ... | zeros (preallocated)
 *
 * A session is never resumed: after a restart and after a truncation a new file with the next
 * sequence number begins, so that no (key, nonce) is ever used twice. A file's BEGIN frame says at
 * which LSN it starts; it supersedes whatever lower-numbered files hold at and after that LSN. A
 * cut in the middle of a frame is thus made by starting the new file at the cut: readers use of the
 * older frame only the bytes before it. Frames are contiguous in LSN; each authenticates length,
 * number, LSN, term, record boundary and the tag of the frame before it; the node stands in the
 * header. Format: docs/format/wal.md.
 *
 * How a safekeeper uses it: writer_create -> bytes of header and BEGIN to the file; writer_seal for
 * each append batch -> write, one fdatasync; remember the refs. A reader of the same file:
 * reader_open once on the header bytes, reader_frame on the bytes at a ref. After a crash: scan.
 */
#ifndef LOCH_FORMAT_WAL_FILE_H
#define LOCH_FORMAT_WAL_FILE_H

#include "loch/crypto/wrap.h"
#include "loch/format/place.h"

#define LOCH_WAL_FRAME_MAX_BYTES    (4u << 20) /* WAL bytes in one frame */
#define LOCH_WAL_FRAME_PREFIX_BYTES 64u
/* Upper bound of what a frame adds to its bytes: prefix, tag, alignment to 8. */
#define LOCH_WAL_FRAME_OVERHEAD_BYTES 88u

/* Where a DATA frame lies and what it holds: WAL [lsn, lsn + len). */
struct loch_wal_frame_ref {
    uint64_t offset; /* in the file */
    uint64_t seq;
    loch_lsn lsn;
    uint32_t len;          /* WAL bytes */
    uint32_t stored_bytes; /* at offset: prefix, ciphertext, tag, alignment */
};

/* What a session's BEGIN frame tells. */
struct loch_wal_begin {
    loch_lsn start_lsn; /* of the first byte this file will hold; what older files have from here is
                           void */
    loch_lsn boundary_lsn; /* end of the last whole record at or below start_lsn */
    uint64_t term;         /* the acceptor's when the session began */
    uint64_t incarnation;  /* of the node: its restarts */
};

struct loch_wal_writer;

/* Appends header and BEGIN frame to *out (offset 0 of a fresh file). place: kind WAL, tenant,
 * timeline, node, generation = the file's sequence number (never used before). One thread at a
 * time. */
LOCH_STATUS loch_wal_writer_create(const struct loch_place *place, const struct loch_wrap_key *key,
                                   const struct loch_wal_begin *begin, struct loch_buf *out,
                                   struct loch_wal_writer **writer);
void loch_wal_writer_destroy(struct loch_wal_writer *writer);
/* Seals WAL bytes that continue where the last frame ended, appends the frame to *out and fills
 * *ref (may be NULL). boundary_lsn: end of the last whole record at or below the frame's end.
 * unsynced: how many frames before this one are not yet known to be durable (UINT32_MAX or anything
 * above the frame's number counts as all): it tells the scanner whether this frame proves that an
 * earlier, damaged one had been durable. LOCH_E_LIMIT, LOCH_E_INVALID (lsn does not continue;
 * empty). */
LOCH_STATUS loch_wal_writer_seal(struct loch_wal_writer *writer, loch_lsn lsn, uint64_t term,
                                 loch_lsn boundary_lsn, uint32_t unsynced, struct loch_slice bytes,
                                 struct loch_buf *out, struct loch_wal_frame_ref *ref);
/* Length of the file so far, and the LSN the next frame must have. */
uint64_t loch_wal_writer_bytes(const struct loch_wal_writer *writer);
loch_lsn loch_wal_writer_lsn(const struct loch_wal_writer *writer);

struct loch_wal_reader;

/* `head`: the first bytes of the file, at least header and BEGIN frame (LOCH_WAL_HEAD_BYTES).
 * Checks both. LOCH_E_CORRUPT, LOCH_E_UNSUPPORTED, LOCH_E_NOT_FOUND/LOCH_E_DENIED (keys). */
#define LOCH_WAL_HEAD_BYTES 384u
LOCH_STATUS loch_wal_reader_open(const struct loch_place *expected,
                                 const struct loch_key_source *keys, struct loch_slice head,
                                 struct loch_wal_reader **out);
void loch_wal_reader_destroy(struct loch_wal_reader *reader);
const struct loch_wal_begin *loch_wal_reader_begin(const struct loch_wal_reader *reader);
/* `stored` is ref->stored_bytes at ref->offset; appends the WAL bytes to *wal. Checks that the
 * frame is the one the ref names. Any thread, many at once. */
LOCH_STATUS loch_wal_reader_frame(struct loch_wal_reader *reader,
                                  const struct loch_wal_frame_ref *ref, struct loch_slice stored,
                                  struct loch_buf *wal);

/* What follows the last good frame. TORN: the write that was under way at a crash is incomplete, or
 * the file is recycled and was another one there; dropped from `offset` on. */
enum loch_wal_verdict {
    LOCH_WAL_CLEAN = 1,  /* ends after a whole frame; zeros or nothing follow */
    LOCH_WAL_TORN = 2,   /* see above */
    LOCH_WAL_CORRUPT = 3 /* durable bytes are damaged or gone: no vote, no donor, peer recovery */
};

struct loch_wal_file_scan {
    enum loch_wal_verdict verdict;
    uint64_t offset;       /* end of the last good frame */
    loch_lsn end_lsn;      /* LSN after the last good frame's bytes */
    loch_lsn boundary_lsn; /* of the last good frame (or BEGIN) */
    uint64_t term;         /* of the last good frame (or BEGIN) */
    uint64_t frames;       /* good DATA frames */
};

/* One good DATA frame: as it stands in the file, and the WAL in it; both are borrowed for the call.
 * A failure ends the scan and is returned. */
typedef LOCH_STATUS (*loch_wal_scan_fn)(void *arg, const struct loch_wal_frame_ref *ref,
                                        struct loch_slice stored, uint64_t term,
                                        loch_lsn boundary_lsn, struct loch_slice wal);

typedef LOCH_STATUS (*loch_wal_read_at_fn)(void *arg, uint64_t offset, void *out, size_t len);

/* Checks every frame of the file behind the reader, in order, calling fn (may be NULL) for each
 * good one. must_have_lsn: durable for certain up to here (persisted commit_lsn; for an older file
 * also the next file's start_lsn); when the good frames end below it, the verdict is CORRUPT.
 * CORRUPT also: a damaged frame before a later good one that was sealed when the damaged one was
 * known durable. The call succeeds whatever the verdict; it fails on read_at's or fn's failure. */
LOCH_STATUS loch_wal_scan_file(struct loch_wal_reader *reader, uint64_t file_bytes,
                               loch_wal_read_at_fn read_at, void *read_arg, loch_lsn must_have_lsn,
                               struct loch_wal_file_scan *out, loch_wal_scan_fn fn, void *arg);

#endif
