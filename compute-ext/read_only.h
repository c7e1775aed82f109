#ifndef LOCH_EXT_READ_ONLY_H
#define LOCH_EXT_READ_ONLY_H

/* Makes every statement run in a read-only transaction when loch.read_only is on; call after all
 * other hooks are in place. */
void loch_read_only_register(void);

#endif
