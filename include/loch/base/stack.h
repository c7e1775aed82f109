/* What a thread's calls leave on its stack. */
#ifndef LOCH_BASE_STACK_H
#define LOCH_BASE_STACK_H

/* How deep a piece of work goes at most: redo keeps a few pages on its stack, a compressor its
 * table. */
#define LOCH_STACK_WIPE_BYTES (64u << 10)

/* Zeroes so much of the calling thread's stack below the caller: what returned calls left there of
 * rows and keys. Takes about a microsecond; the stack must have the room. Any thread. */
void loch_stack_wipe(void);

#endif
