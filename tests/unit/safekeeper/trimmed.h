/* A timeline whose WAL is all in the archive, and a read of that which ends when a test says so.
 * Include it before the file that reads. */
#ifndef LOCH_TESTS_TRIMMED_H
#define LOCH_TESTS_TRIMMED_H

#include "lease_world.h"

static uint32_t begun;
static sk_store_read_fn read_fn; /* of the newest */
static void *read_arg;

static inline bool no_tail(const struct sk_store *store, loch_lsn from, loch_lsn upto, size_t max,
                           struct loch_slice *out)
{
    (void)store;
    (void)from;
    (void)upto;
    (void)max;
    (void)out;
    return false;
}

static inline loch_lsn all_trimmed(const struct sk_store *store)
{
    (void)store;
    return UINT64_MAX;
}

static inline uint64_t no_cuts(const struct sk_store *store)
{
    (void)store;
    return 0;
}

static inline loch_status fake_archive_read(struct sk_timeline *tl, loch_lsn from,
                                            sk_store_read_fn done, void *arg)
{
    (void)tl;
    (void)from;
    begun++;
    read_fn = done;
    read_arg = arg;
    return LOCH_OK;
}

/* WAL that was read. */
static inline void fill(struct loch_buf *wal, size_t len)
{
    assert_true(loch_is_ok(loch_buf_reserve(wal, len)));
    memset(wal->data, 1, len);
    wal->len = len;
}

#define sk_store_tail      no_tail
#define sk_store_first_lsn all_trimmed
#define sk_store_cuts      no_cuts
#define sk_archive_read    fake_archive_read

#endif
