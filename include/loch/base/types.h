/* Small values every room speaks of: LSN, 16-byte ids, and their text forms. */
#ifndef LOCH_BASE_TYPES_H
#define LOCH_BASE_TYPES_H

#include "loch/base/status.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* A byte position in a timeline's WAL, as PostgreSQL's XLogRecPtr. 0 is "none". */
typedef uint64_t loch_lsn;

#define LOCH_LSN_NONE   UINT64_C(0)
#define LOCH_LSN_MAX    UINT64_MAX
#define LOCH_PAGE_BYTES 8192u

/* printf("%X/%X") in PostgreSQL's manner: printf(LOCH_LSN_FMT, LOCH_LSN_ARG(lsn)) */
#define LOCH_LSN_FMT       "%" PRIX32 "/%" PRIX32
#define LOCH_LSN_ARG(lsn_) (uint32_t)((lsn_) >> 32), (uint32_t)(lsn_)

/* Parses "16/B374D848"; fails with LOCH_E_INVALID. */
LOCH_STATUS loch_lsn_parse(const char *text, loch_lsn *out);

/* A random 128-bit name of a tenant, timeline, cluster, file, boot or session. All zero is "none".
 */
struct loch_id {
    uint8_t bytes[16];
};

#define LOCH_ID_TEXT_BYTES 33u /* 32 hex digits and the terminating NUL */

static inline bool loch_id_equal(const struct loch_id *a, const struct loch_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static inline bool loch_id_is_none(const struct loch_id *id)
{
    static const struct loch_id none;
    return loch_id_equal(id, &none);
}

/* Writes 32 lower-case hex digits and NUL; returns `text`. */
const char *loch_id_format(const struct loch_id *id, char text[static LOCH_ID_TEXT_BYTES]);
/* Wants exactly 32 hex digits; fails with LOCH_E_INVALID. */
LOCH_STATUS loch_id_parse(const char *text, struct loch_id *out);

/* Hex of any bytes; `text` has room for 2 * len + 1. */
void loch_hex_format(const void *bytes, size_t len, char *text);
/* Wants exactly 2 * len digits; fails with LOCH_E_INVALID. */
LOCH_STATUS loch_hex_parse(const char *text, void *bytes, size_t len);

#endif
