/* Puts a function of ours in the place of one that is built into the server. */
#ifndef LOCH_EXT_BUILTIN_H
#define LOCH_EXT_BUILTIN_H

#include "postgres.h"

#include "fmgr.h"

/* In the postmaster. *stock is what was there. FATAL when the server has no such function. */
void loch_builtin_replace(Oid function, PGFunction ours, PGFunction *stock);

#endif
