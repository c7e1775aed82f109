/* Holds: wiping what returned calls left on a stack. */
#include "loch/base/stack.h"

#include <string.h>

/* Not inlined, so that the area is that of the calls before. */
__attribute__((noinline)) void loch_stack_wipe(void)
{
    unsigned char area[LOCH_STACK_WIPE_BYTES];

    memset(area, 0, sizeof area);
    __asm__ volatile("" : : "r"(area) : "memory"); /* somebody may look */
}
