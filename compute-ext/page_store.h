/* The storage manager that replaces md.c in the server's switch. */
#ifndef LOCH_EXT_PAGE_STORE_H
#define LOCH_EXT_PAGE_STORE_H

#include "compat/smgr.h"

/* The switch with our operations in place of those that we take over. */
void loch_page_store_table(struct smgr_table *out);

#endif
