/* The seam: swaps the server's storage manager switch for ours, and proves by probing that the
 * binary really calls through it. */
#ifndef LOCH_EXT_SEAM_H
#define LOCH_EXT_SEAM_H

#include "postgres.h"

enum seam_op {
    SEAM_CLOSE,
    SEAM_CREATE,
    SEAM_EXISTS,
    SEAM_UNLINK,
    SEAM_EXTEND,
    SEAM_PREFETCH,
    SEAM_READ,
    SEAM_WRITE,
    SEAM_WRITEBACK,
    SEAM_NBLOCKS,
    SEAM_TRUNCATE,
    SEAM_OP_COUNT
};

/* In the postmaster, once, before anything forks. FATAL when the switch cannot be found or a call
 * does not come through it. */
void loch_seam_install(void);
/* The two operations that need shared memory; FATAL likewise. */
void loch_seam_probe_shared(void);

/* Every operation begins with this: true while probing, when it must do nothing else. */
bool loch_seam_probed(enum seam_op op);

#endif
