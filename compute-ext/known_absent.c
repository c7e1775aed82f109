/* Holds: the table of absent forks, under one lock that is never held over I/O. */
#include "known_absent.h"

#include "shared.h"

static void clear_locked(void)
{
    HASH_SEQ_STATUS scan;
    struct known_absent *e;

    hash_seq_init(&scan, loch_absent_table);
    while ((e = hash_seq_search(&scan)) != NULL)
        (void)hash_search(loch_absent_table, &e->rnode, HASH_REMOVE, NULL);
}

bool loch_absent_known(RelFileNode rnode, ForkNumber fork)
{
    const struct known_absent *e;
    bool known;

    LWLockAcquire(loch_absent_lock, LW_SHARED);
    e = hash_search(loch_absent_table, &rnode, HASH_FIND, NULL);
    known = e != NULL && (e->forks & LOCH_FORK_BIT(fork)) != 0;
    LWLockRelease(loch_absent_lock);
    return known;
}

void loch_absent_add(RelFileNode rnode, uint32 forks)
{
    struct known_absent *e;
    bool found;

    LWLockAcquire(loch_absent_lock, LW_EXCLUSIVE);
    if (hash_get_num_entries(loch_absent_table) >= LOCH_ABSENT_MAX - 1)
        clear_locked();
    e = hash_search(loch_absent_table, &rnode, HASH_ENTER_NULL, &found);
    if (e != NULL)
        e->forks = found ? e->forks | forks : forks;
    LWLockRelease(loch_absent_lock);
}

void loch_absent_remove(RelFileNode rnode, ForkNumber fork)
{
    struct known_absent *e;

    LWLockAcquire(loch_absent_lock, LW_EXCLUSIVE);
    e = hash_search(loch_absent_table, &rnode, HASH_FIND, NULL);
    if (e != NULL)
        e->forks &= ~LOCH_FORK_BIT(fork);
    LWLockRelease(loch_absent_lock);
}

void loch_absent_clear(void)
{
    LWLockAcquire(loch_absent_lock, LW_EXCLUSIVE);
    clear_locked();
    LWLockRelease(loch_absent_lock);
}
