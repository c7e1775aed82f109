/* Fetches the data directory a compute starts from: a basebackup at exactly L, over the page
 * protocol. */
#ifndef LOCH_AGENT_BASEBACKUP_H
#define LOCH_AGENT_BASEBACKUP_H

#include "config.h"
#include "credential.h"

#include "loch/io/env.h"

struct loch_basebackup;

struct loch_basebackup_order {
    struct loch_env *env;
    const struct loch_credential *credential;
    const struct loch_agent_config *config;
    uint64_t term;
    loch_lsn lsn;      /* L */
    loch_lsn prev_lsn; /* start of the record that ends at L */
    const char *dir;   /* an empty directory: the data directory */
    bool full;         /* every relation too: what a stock server starts on by itself */
};

/* Tries for as long as it takes while the pageserver cannot be reached or is behind, beginning with
 * an empty directory each time (`clear` is asked to empty it). done comes once: ok with the end of
 * the synthetic checkpoint, or a final refusal (LOCH_E_STALE: another compute has taken over). */
LOCH_STATUS loch_basebackup_fetch(const struct loch_basebackup_order *order,
                                  struct loch_basebackup **out, LOCH_STATUS (*clear)(void *arg),
                                  void (*done)(void *arg, loch_status st, loch_lsn checkpoint_end),
                                  void *arg);
/* Bytes of the data directory that have come so far, of all attempts. */
uint64_t loch_basebackup_received(const struct loch_basebackup *b);
/* Gives it up; done does not come. Also the way to free it after done. Takes NULL. */
void loch_basebackup_destroy(struct loch_basebackup *b);

#endif
