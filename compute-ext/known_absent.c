/* Holds: the table of absent forks, under one lock that is never held over I/O. */
#include "known_absent.h"

#include "shared.h"

/* Of what may be under construction only the forks are forgotten. */
static void clear_locked(void)
{
    HASH_SEQ_STATUS scan;
    struct known_absent *e;

    hash_seq_init(&scan, loch_absent_table);
    while ((e = hash_seq_search(&scan)) != NULL) {
        e->forks = 0;
        if (e->born == InvalidXLogRecPtr)
            (void)hash_search(loch_absent_table, &e->rnode, HASH_REMOVE, NULL);
    }
}

/* NULL: there is no room. */
static struct known_absent *enter_locked(RelFileNode rnode)
{
    struct known_absent *e;
    bool found;

    if (hash_get_num_entries(loch_absent_table) >= LOCH_ABSENT_MAX - 1)
        clear_locked();
    e = hash_search(loch_absent_table, &rnode, HASH_ENTER_NULL, &found);
    if (e != NULL && !found) {
        e->forks = 0;
        e->born = InvalidXLogRecPtr;
    }
    return e;
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

    LWLockAcquire(loch_absent_lock, LW_EXCLUSIVE);
    e = enter_locked(rnode);
    if (e != NULL)
        e->forks |= forks;
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

/* Who makes a relation gives it all its forks before it makes the next. */
void loch_absent_born(RelFileNode rnode, uint32 forks, XLogRecPtr lsn)
{
    RelFileNode *making = &loch_own_process()->making;
    struct known_absent *e;

    LWLockAcquire(loch_absent_lock, LW_EXCLUSIVE);
    e = hash_search(loch_absent_table, making, HASH_FIND, NULL);
    if (e != NULL)
        e->born = InvalidXLogRecPtr;
    *making = rnode;
    e = enter_locked(rnode);
    if (e != NULL) {
        e->forks = forks;
        e->born = lsn;
    }
    if (pg_atomic_read_u64(&loch_shared->last_born) < lsn)
        pg_atomic_write_u64(&loch_shared->last_born, lsn);
    LWLockRelease(loch_absent_lock);
}

bool loch_absent_born_after(RelFileNode rnode, XLogRecPtr lsn)
{
    const struct known_absent *e;
    bool after;

    if (lsn >= pg_atomic_read_u64(&loch_shared->last_born)) /* most are newer than any relation */
        return false;
    LWLockAcquire(loch_absent_lock, LW_SHARED);
    e = hash_search(loch_absent_table, &rnode, HASH_FIND, NULL);
    after = e != NULL && lsn < e->born;
    LWLockRelease(loch_absent_lock);
    return after;
}

void loch_absent_clear(void)
{
    LWLockAcquire(loch_absent_lock, LW_EXCLUSIVE);
    clear_locked();
    LWLockRelease(loch_absent_lock);
}
