/* What the redo pool and a redo worker say to each other over one stream socket (the worker's fd
 * 3).
 *
 * Little-endian. The worker speaks first: a greeting, once it is sandboxed. Then one answer for
 * each request, in order. After an error answer the worker ends.
 *
 * greeting (16 bytes)            request header (40 bytes)         answer header (24 bytes)
 *  0 u64 LOCH_REDO_MAGIC          0 u32 whole length of the frame   0 u32 LOCH_REDO_DONE or _FAILED
 *  8 u32 protocol version         4 u32 flags                       4 u32 bytes that follow: the
 * page 12 u32 PG_VERSION_NUM           8 u32 spc                               (8192) or the
 * error's text 12 u32 db                          8 u32 images checked record (24 bytes, then the
 * 16 u32 rel                        12 u32 images that differ record, padded with zeros      20 u32
 * fork                       16 u64 of a failure: the record's to a multiple of 8)            24
 * u32 block                             start LSN, 0 when unknown 0 u64 start LSN               28
 * u32 records 8 u64 end LSN                 32 u64 zero 16 u32 length                  then the
 * base page if flags say so, then the records 20 u32 zero
 */
#ifndef LOCH_PAGESERVER_REDO_PROTOCOL_H
#define LOCH_PAGESERVER_REDO_PROTOCOL_H

#include <stdint.h>

#define LOCH_REDO_MAGIC    UINT64_C(0x31306f646572636c)
#define LOCH_REDO_PROTOCOL 1u
#define LOCH_REDO_FD       3
#define LOCH_REDO_ENV      "LOCH_REDO_FD" /* "3": _PG_init becomes the worker, never returns */
#define LOCH_REDO_ENV_HINTS                                                                        \
    "LOCH_REDO_HINT_LSN" /* "1": the origin had checksums or wal_log_hints */

#define LOCH_REDO_GREETING_BYTES 16u
#define LOCH_REDO_REQUEST_BYTES  40u
#define LOCH_REDO_RECORD_BYTES   24u
#define LOCH_REDO_ANSWER_BYTES   24u
/* The largest request frame: the sandbox has no brk and no mmap, so memory is set aside before. */
#define LOCH_REDO_FRAME_MAX (3u << 20)
#define LOCH_REDO_TEXT_MAX  1024u

enum loch_redo_flags {
    LOCH_REDO_HAS_BASE = 1, /* a base page follows the header; else the page starts as zeros */
    LOCH_REDO_VERIFY = 2    /* compare the page with the records' consistency images */
};

enum loch_redo_answer { LOCH_REDO_DONE = 0, LOCH_REDO_FAILED = 1 };

#endif
