/* Size functions of SQL that look at files, which may not have been made yet. */
#ifndef LOCH_EXT_SIZES_H
#define LOCH_EXT_SIZES_H

/* Puts ours before the server's own in its table of built-in functions. FATAL when that fails. */
void loch_sizes_install(void);

#endif
