/* The one place where a Loch status becomes a PostgreSQL error. */
#ifndef LOCH_EXT_REPORT_H
#define LOCH_EXT_REPORT_H

#include "postgres.h"

#include "loch/base/status.h"

/* Reports the thread's last recorded failure at `elevel`, prefixed by what was being done. Does not
 * return for ERROR and above. */
void loch_report(int elevel, loch_status st, const char *doing);
/* ereport(FATAL) unless ok: for the start of the server. */
void loch_require(loch_status st, const char *doing);

#endif
