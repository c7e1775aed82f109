/* The journal file of a safekeeper: small appends of many timelines, made durable by one sync.
 * Format: docs/format/wal-journal.md. Pure functions; any thread.
 *
 *   head (one page) | first half: record | record | ...  | second half: record | ...
 *
 * A record holds pieces: bytes and where in which WAL file they belong. They are sealed frames
 * already; the journal has no key. A record's `needed` says from which number on records were still
 * needed when it was written: those before it are settled in their WAL files and may be
 * overwritten.
 */
#ifndef LOCH_SAFEKEEPER_JOURNAL_FILE_H
#define LOCH_SAFEKEEPER_JOURNAL_FILE_H

#include "loch/base/buf.h"

#define SK_JOURNAL_NAME          "journal"
#define SK_JOURNAL_PAGE          4096u /* records begin at its multiples: none shares one */
#define SK_JOURNAL_HALF_MAX      (64u << 20)
#define SK_JOURNAL_RECORD_MAX    (1u << 20)
#define SK_JOURNAL_PIECE_BYTES   64u /* before a piece's bytes, which are padded to 8 */
#define SK_JOURNAL_RECORD_HEAD   56u
#define SK_JOURNAL_FILE_HEAD_MAX 384u /* of a WAL file, for sk_journal_file_hash */

struct sk_journal_head {
    struct loch_id node;
    struct loch_id id;   /* random: of this journal */
    uint32_t half_bytes; /* a multiple of the page */
};

struct sk_journal_piece {
    struct loch_id tenant, timeline;
    uint64_t seq;       /* of the WAL file */
    uint64_t file_hash; /* of its head, so that a later file of that name is not taken for it */
    uint64_t offset;    /* in it */
    struct loch_slice bytes;
};

void sk_journal_head_encode(const struct sk_journal_head *head, uint8_t out[SK_JOURNAL_PAGE]);
/* LOCH_E_CORRUPT; LOCH_E_UNSUPPORTED for a version from the future. */
LOCH_STATUS sk_journal_head_decode(struct loch_slice file, struct sk_journal_head *out);

/* What a record of these pieces takes in the file, at most. */
size_t sk_journal_piece_stored(size_t bytes);
/* Builds one record in *out, which it empties first: begin, pieces, end. */
LOCH_STATUS sk_journal_record_begin(struct loch_buf *out);
LOCH_STATUS sk_journal_record_add(struct loch_buf *out, const struct sk_journal_piece *piece);
/* Pads it to whole pages. */
LOCH_STATUS sk_journal_record_end(struct loch_buf *out, const struct loch_id *id, uint64_t number,
                                  uint64_t needed);

/* Calls fn for each piece of those records that are needed, in their order. `file` is the whole
 * file. LOCH_E_CORRUPT when one of them is damaged: it was durable, for a later one stands. A
 * failure of fn ends it and is returned. */
typedef LOCH_STATUS (*sk_journal_piece_fn)(void *arg, const struct sk_journal_piece *piece);
LOCH_STATUS sk_journal_pieces(struct loch_slice file, const struct sk_journal_head *head,
                              sk_journal_piece_fn fn, void *arg);

/* Of the first bytes of a WAL file: its header, which names a random key. */
uint64_t sk_journal_file_hash(struct loch_slice head);

#endif
