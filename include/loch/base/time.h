/* Points in time and their text: ISO 8601, as PostgreSQL and RFC 3339 write it. A point is
 * microseconds since 1970-01-01 00:00 UTC; years 1970 to 9999. */
#ifndef LOCH_BASE_TIME_H
#define LOCH_BASE_TIME_H

#include "loch/base/status.h"

#include <stdint.h>

#define LOCH_TIME_TEXT_BYTES 28u /* "2026-11-28T13:11:35.123456Z" and NUL */

/* A date, then optionally 'T' or a space and hh:mm[:ss[.fraction]], then optionally a zone: Z,
 * +hh[:mm] or -hh[:mm]. Without a zone: UTC. Digits of the fraction beyond the sixth are dropped.
 * LOCH_E_INVALID. */
LOCH_STATUS loch_time_parse(const char *text, int64_t *us);
/* Always UTC, to the microsecond; returns `text`. Out of range: the nearest point in range. */
const char *loch_time_format(int64_t us, char text[static LOCH_TIME_TEXT_BYTES]);

#endif
