/* A world for tests of the store: the real environment, a scratch directory, a fixed key, and calls
 * that run the loop until the store has answered. */
#ifndef LOCH_TESTS_STORE_WORLD_H
#define LOCH_TESTS_STORE_WORLD_H

#include "../unit.h"
#include "wal_gen.h"
#include "wal_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define START_LSN  UINT64_C(0x1500140)
#define START_PREV UINT64_C(0x15000C8)
#define SYSTEM_ID  UINT64_C(7300000000000000001)

struct world {
    struct loch_env *env;
    char dir[256];
    struct sk_sealer sealer;
    struct sk_store *store;
    struct sk_journal *journal; /* NULL: none */
    struct sk_control control;
    uint64_t file_bytes;
    uint64_t token, done_token;
    loch_lsn flush, prev;
    loch_lsn written;
    struct loch_buf wal; /* what was appended, from START_LSN */
    struct loch_buf read;
    struct wal_gen gen;
    struct sk_store_stats stats;
    bool uncut;          /* a cut was refused; ends all waiting */
    bool faults, failed; /* faults: a failure is expected, and ends all waiting */
};

static const struct loch_id world_key_id = {{7}};
static loch_status (*world_at_key)(void); /* what happens when a file's key is looked for, if any */

static inline loch_status world_wrap_key(void *arg, const struct loch_id *tenant,
                                         const struct loch_id *timeline, struct loch_wrap_key *out)
{
    (void)arg;
    (void)tenant;
    (void)timeline;
    uint8_t bytes[32];
    memset(bytes, 0x5A, sizeof bytes);
    out->key_id = world_key_id;
    out->version = 1;
    return loch_secret_from(&out->secret, bytes, sizeof bytes);
}

static inline loch_status world_find_key(void *arg, const struct loch_place *expected,
                                         const struct loch_id *key_id, uint32_t version,
                                         struct loch_secret *out)
{
    uint8_t bytes[32];
    (void)arg;
    (void)expected;
    if (world_at_key != NULL)
        LOCH_TRY(world_at_key());
    memset(bytes, 0x5A, sizeof bytes);
    if (!loch_id_equal(key_id, &world_key_id) || version != 1)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "no such key");
    return loch_secret_from(out, bytes, sizeof bytes);
}

static inline void world_answer(struct world *w, uint64_t token)
{
    w->done_token = token;
    loch_env_stop(w->env);
}

static inline void world_persisted(void *arg, uint64_t token)
{
    world_answer(arg, token);
}

static inline void world_truncated(void *arg, uint64_t token, loch_lsn prev)
{
    struct world *w = arg;
    w->prev = prev;
    world_answer(w, token);
}

static inline void world_synced(void *arg, uint64_t token, loch_lsn flush, loch_lsn prev)
{
    struct world *w = arg;
    assert_false(w->failed); /* nothing is reported done after a failure */
    w->flush = flush;
    w->prev = prev;
    world_answer(w, token);
}

static inline void world_failed(void *arg, loch_status st)
{
    struct world *w = arg;

    (void)st;
    if (!w->faults)
        fail_msg("the store failed: %s", loch_error_text());
    assert_false(w->failed); /* once */
    w->failed = true;
    loch_env_stop(w->env);
}

static inline void world_uncut(void *arg, loch_status st)
{
    struct world *w = arg;

    assert_code(st, LOCH_E_CORRUPT);
    assert_false(w->uncut); /* once */
    w->uncut = true;
    loch_env_stop(w->env);
}

static const struct sk_store_events world_events = {.persisted = world_persisted,
                                                    .truncated = world_truncated,
                                                    .synced = world_synced,
                                                    .failed = world_failed,
                                                    .uncut = world_uncut};

static inline void world_wait(struct world *w, uint64_t token)
{
    while (w->done_token < token && !w->failed && !w->uncut)
        loch_env_run(w->env);
}

static inline void world_shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline void world_shell(const char *fmt, ...)
{
    char command[1200];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static inline void world_init(struct world *w, uint64_t file_bytes)
{
    *w = (struct world){.file_bytes = file_bytes};
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/safekeeper-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    assert_ok(loch_env_real_create(&w->env));
    w->sealer = (struct sk_sealer){.env = w->env,
                                   .wrap_key = world_wrap_key,
                                   .keys = {.find = world_find_key},
                                   .tenant = {{1}},
                                   .timeline = {{2}},
                                   .node = {{3}},
                                   .incarnation = 1};
    w->control = (struct sk_control){.system_id = SYSTEM_ID,
                                     .pg_version = 150020,
                                     .segment_bytes = WAL_GEN_SEGMENT_BYTES,
                                     .incarnation = 1,
                                     .sequence = 1,
                                     .anchor_lsn = START_LSN,
                                     .anchor_prev_lsn = START_PREV,
                                     .trim_lsn = START_LSN};
    w->control.member = (struct loch_id){{77}};
    assert_ok(loch_acceptor_control_init(&w->control.acceptor, START_LSN, START_PREV));
    w->control.acceptor.term = 1000; /* the acceptor knows of a term before it writes its WAL */
    wal_gen_init(&w->gen, START_LSN, START_PREV, SYSTEM_ID, 42);
}

/* Opens what is on disk; the found positions go to flush, prev, written. */
static inline loch_status world_open(struct world *w)
{
    struct sk_wal_found found = {0};
    struct sk_store_options options = {.dir = w->dir,
                                       .sealer = w->sealer,
                                       .segment_bytes = WAL_GEN_SEGMENT_BYTES,
                                       .file_bytes = w->file_bytes,
                                       .stats = &w->stats,
                                       .journal = w->journal,
                                       .events = &world_events,
                                       .arg = w};

    LOCH_TRY(sk_wal_recover(w->dir, &w->sealer, &w->control, &found));
    w->flush = w->written = found.flush_lsn;
    w->prev = found.prev_lsn;
    w->token = w->done_token = 0;
    return sk_store_create(&options, &found, w->control.anchor_lsn, w->control.anchor_prev_lsn,
                           &w->store);
}

static inline void world_stop(void *arg)
{
    loch_env_stop(arg);
}

static inline void world_idle(struct world *w)
{
    while (w->store != NULL && !sk_store_idle(w->store)) {
        struct loch_timer *timer;
        assert_ok(loch_env_timer(w->env, 1, &timer, world_stop, w->env));
        loch_env_run(w->env);
    }
}

static inline void world_close(struct world *w)
{
    world_idle(w);
    sk_store_destroy(w->store);
    w->store = NULL;
}

static inline void world_fini(struct world *w)
{
    world_close(w);
    sk_control_fini(&w->control);
    loch_buf_fini(&w->wal);
    loch_buf_fini(&w->read);
    loch_env_real_destroy(w->env);
    world_shell("rm -rf '%s'", w->dir);
}

/* Writes bytes at the end, in pieces of `piece`. */
static inline loch_status world_write(struct world *w, uint64_t term, struct loch_slice bytes,
                                      size_t piece)
{
    for (size_t at = 0; at < bytes.len; at += piece) {
        size_t len = bytes.len - at < piece ? bytes.len - at : piece;
        LOCH_TRY(sk_store_write(w->store, ++w->token, w->written, term,
                                loch_slice_of(bytes.data + at, len)));
        w->written += len;
    }
    return LOCH_OK;
}

static inline void world_sync(struct world *w)
{
    sk_store_sync(w->store, ++w->token);
    world_wait(w, w->token);
}

/* `records` more records of `payload` bytes each, written and synced. */
static inline void world_grow(struct world *w, int records, uint32_t payload, size_t piece)
{
    size_t before = w->wal.len;

    for (int i = 0; i < records; i++)
        (void)wal_gen_record(&w->gen, &w->wal, payload);
    assert_ok(world_write(w, 1, loch_slice_of(w->wal.data + before, w->wal.len - before), piece));
    world_sync(w);
    assert_int_equal(w->flush, w->gen.lsn);
    assert_int_equal(w->prev, w->gen.prev);
}

static inline void world_truncate(struct world *w, loch_lsn at)
{
    sk_store_truncate(w->store, ++w->token, at, 2);
    world_wait(w, w->token);
    w->written = at;
}

static inline void world_got(void *arg, loch_status st, struct loch_buf *take_wal)
{
    struct world *w = arg;

    assert_ok(st);
    assert_ok(loch_buf_append(&w->read, take_wal->data, take_wal->len));
    loch_env_stop(w->env);
}

/* Reads [from, upto) from files and compares it with what was written. */
static inline void world_check(struct world *w, loch_lsn from, loch_lsn upto)
{
    w->read.len = 0;
    while (from + w->read.len < upto) {
        size_t before = w->read.len;
        assert_ok(sk_store_read(w->store, from + before, upto, 1u << 20, world_got, w));
        while (w->read.len == before)
            loch_env_run(w->env);
    }
    assert_int_equal(w->read.len, upto - from);
    assert_memory_equal(w->read.data, w->wal.data + (from - START_LSN), upto - from);
}

/* The newest WAL file's name. */
static inline void world_newest(const struct world *w, char out[static SK_PATH_BYTES])
{
    sk_wal_file_path(w->dir, sk_store_last_seq(w->store), out);
}

#endif
