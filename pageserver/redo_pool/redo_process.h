/* One redo worker seen from the pool: a child process, its socket and its small data directory.
 *
 * Used by one thread at a time, but for the pid, which the pool's lock guards.
 */
#ifndef LOCH_PAGESERVER_REDO_WORKER_PROCESS_H
#define LOCH_PAGESERVER_REDO_WORKER_PROCESS_H

#include "redo_pool/redo_pool.h"
#include "redo_pool/redo_protocol.h"

#include <sys/types.h>

struct redo_launch {
    char *postgres; /* path of the binary */
    char *library;  /* path of loch_redo.so */
    char *scratch;
    uid_t uid; /* 0: as we are */
    gid_t gid;
    uint8_t control[LOCH_PAGE_BYTES];
    bool hint_lsn;
    unsigned timeout_ms;
};

struct redo_process {
    pid_t pid; /* 0: none */
    int fd;    /* -1: none */
    char *dir;
    struct loch_buf request; /* reused */
};

/* What a request came to, besides the status. */
enum redo_end {
    REDO_END_OK,
    REDO_END_REFUSED, /* the worker said why: `text` and `at` */
    REDO_END_DIED,
    REDO_END_HUNG
};

struct redo_answer {
    uint32_t checked, differing;
    loch_lsn at; /* start LSN of the record that failed, or LOCH_LSN_NONE */
    char text[LOCH_REDO_TEXT_MAX + 1];
};

/* Starts a worker and waits for its greeting. LOCH_E_UNAVAILABLE with the end of its log. */
LOCH_STATUS redo_process_start(const struct redo_launch *launch, struct redo_process *out);
/* Kills, reaps, removes the directory. Takes an empty one. */
void redo_process_end(struct redo_process *p);
/* Sends p->request and waits for the answer; the worker is good for another only after REDO_END_OK.
 */
enum redo_end redo_process_ask(struct redo_process *p, unsigned timeout_ms,
                               uint8_t page_out[static LOCH_PAGE_BYTES],
                               struct redo_answer *answer);

#endif
