/* Holds: saving at a stop, and the rule that what was saved serves once.
 *
 * Nobody writes between the saving and the shutdown checkpoint: the worker waits for all sessions,
 * and the postmaster for the worker. After the start no session begins, and no other process that
 * reads or writes a database gets past its first transaction, before a quorum has the record that
 * empties what was saved; so whoever starts later finds either what nobody has touched since, or
 * nothing. The pageserver hands it out only directly after a shutdown checkpoint, which alone would
 * not do: the record that the next server begins with is one as well.
 */
#include "stop_state.h"

#include "config_files.h"
#include "local_file.h"
#include "newest.h"
#include "settings.h"
#include "shared.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/pmsignal.h"
#include "replication/walsender_private.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/backend_status.h"
#include "utils/pgstat_internal.h"
#include "utils/pidfile.h"

#include "loch/wire/stop_state.h"

#include <sys/stat.h>
#include <unistd.h>

#define WAIT_SLICE_US    10000
#define SESSIONS_WAIT_US (60 * 1000 * 1000)
#define START_SLICE_US   1000
#define AHEAD_MOST_BYTES (UINT64_C(16) << 20) /* of the quorum */
#define STALL_MOST_US    (10 * 1000 * 1000)
#define NOTHING_LEFT     ((XLogRecPtr)1) /* of the last stop */

/* What is being saved. */
struct saving {
    struct loch_stop_head head;
    uint64 pages, parts;
    bool failed;
};

/* ---- the stop ---- */

/* The postmaster says so in its file before it signals anybody. */
bool loch_server_is_stopping(void)
{
    char text[1024], *line = text;
    int fd = BasicOpenFile("postmaster.pid", O_RDONLY | PG_BINARY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (fd >= 0)
        (void)close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    for (int i = 1; i < LOCK_FILE_LINE_PM_STATUS && line != NULL; i++) {
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return line != NULL && strncmp(line, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
}

static bool sessions_are_left(void)
{
    pgstat_clear_backend_activity_snapshot();
    for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++) {
        BackendType type = pgstat_fetch_stat_local_beentry(i)->backendStatus.st_backendType;

        if (type == B_BACKEND || type == B_BG_WORKER || type == B_AUTOVAC_WORKER ||
            type == B_AUTOVAC_LAUNCHER)
            return true;
    }
    return false;
}

static bool wait_for_sessions(void)
{
    for (int slept = 0; sessions_are_left(); slept += WAIT_SLICE_US) {
        if (slept >= SESSIONS_WAIT_US || !PostmasterIsAlive())
            return false;
        pg_usleep(WAIT_SLICE_US);
    }
    return true;
}

static XLogRecPtr quorum_has(void)
{
    XLogRecPtr flushed;

    LWLockAcquire(SyncRepLock, LW_SHARED);
    flushed = WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH];
    LWLockRelease(SyncRepLock);
    return flushed;
}

/* WAL that no quorum has yet lies on the scratch, which is small. False when none of it leaves. */
static bool wait_for_quorum(void)
{
    XLogRecPtr before = quorum_has();

    for (int slept = 0; GetXLogInsertRecPtr() > before + AHEAD_MOST_BYTES; slept += WAIT_SLICE_US) {
        XLogRecPtr now = quorum_has();

        if (now > before)
            slept = 0;
        before = Max(before, now);
        if (slept >= STALL_MOST_US || !PostmasterIsAlive()) {
            ereport(LOG, (errmsg("loch: the safekeepers do not take what is to be kept")));
            return false;
        }
        pg_usleep(WAIT_SLICE_US);
    }
    return true;
}

static void log_part(struct saving *s, struct loch_stop_part *part)
{
    struct loch_buf bytes = {0};
    struct loch_writer w;
    char name[32];

    if (s->failed || s->head.part_count == LOCH_STOP_PARTS_MAX || !wait_for_quorum()) {
        s->failed = true;
        return;
    }
    part->id = s->head.id;
    part->number = s->head.part_count;
    loch_writer_init(&w, &bytes);
    loch_stop_part_encode(&w, part);
    if (loch_is_ok(loch_writer_finish(&w))) {
        snprintf(name, sizeof name, LOCH_STOP_FILE ".%u", s->head.part_count++);
        loch_config_file_log(name, loch_buf_slice(&bytes));
    } else {
        s->failed = true;
    }
    loch_buf_fini(&bytes);
}

/* PostgreSQL's own writer, as if the server were down; what still counts goes on counting. */
static void write_statistics(void)
{
    pgstat_before_server_shutdown(0, (Datum)0);
    pgStatLocal.shmem->is_shutdown = false;
}

static void save_statistics(struct saving *s)
{
    struct loch_stop_part part = {.kind = LOCH_STOP_STATISTICS};
    char *bytes = palloc(LOCH_STOP_BYTES_MAX);
    ssize_t n = -1;
    int fd;

    write_statistics();
    fd = BasicOpenFile(PGSTAT_STAT_PERMANENT_FILENAME, O_RDONLY | PG_BINARY);
    while (fd >= 0 && (n = read(fd, bytes, LOCH_STOP_BYTES_MAX)) > 0) {
        if (part.offset + (uint64)n > LOCH_STOP_STATS_MAX) {
            s->failed = true;
            break;
        }
        part.bytes = loch_slice_of(bytes, (size_t)n);
        log_part(s, &part);
        part.offset += (uint64)n;
    }
    if (n < 0)
        ereport(LOG,
                (errcode_for_file_access(), errmsg("loch: the statistics cannot be kept: %m")));
    s->failed = s->failed || n < 0;
    if (fd >= 0)
        (void)close(fd);
    pfree(bytes);
}

static void count_pages(RelFileNode rnode, void *arg)
{
    struct saving *s = arg;

    const BlockNumber blocks = loch_local_blocks(rnode, MAIN_FORKNUM);

    s->pages += blocks;
    s->parts += Max(1, (blocks + LOCH_STOP_PAGES_MAX - 1) / LOCH_STOP_PAGES_MAX);
}

static void save_relation(RelFileNode rnode, void *arg)
{
    struct saving *s = arg;
    BlockNumber blocks = loch_local_blocks(rnode, MAIN_FORKNUM), block = 0;
    char *pages = palloc((Size)LOCH_STOP_PAGES_MAX * BLCKSZ);

    if (!loch_local_exists(rnode, MAIN_FORKNUM)) {
        pfree(pages);
        return;
    }
    do {
        struct loch_stop_part part = {.kind = LOCH_STOP_PAGES,
                                      .rel = {rnode.spcNode, rnode.dbNode, rnode.relNode},
                                      .block = block};
        uint32 count = Min(blocks - block, LOCH_STOP_PAGES_MAX);

        for (uint32 i = 0; i < count; i++)
            loch_newest_read(rnode, MAIN_FORKNUM, block + i, pages + (size_t)i * BLCKSZ);
        part.bytes = loch_slice_of(pages, (size_t)count * BLCKSZ);
        log_part(s, &part);
        block += count;
    } while (block < blocks && !s->failed);
    pfree(pages);
}

static void save_unlogged(struct saving *s)
{
    uint64 limit = (uint64)loch_settings.unlogged_max_mb << 20;

    loch_newest_forks(INIT_FORKNUM, count_pages, s);
    if (s->pages * BLCKSZ > limit) {
        ereport(LOG, (errmsg("loch: unlogged relations will be empty after the next start: they "
                             "have " UINT64_FORMAT " MB",
                             s->pages * BLCKSZ >> 20),
                      errhint("loch.unlogged_max_size is %d MB.", loch_settings.unlogged_max_mb)));
        return;
    }
    if (s->parts + LOCH_STOP_STATS_MAX / LOCH_STOP_BYTES_MAX + 1 > LOCH_STOP_PARTS_MAX) {
        ereport(LOG, (errmsg("loch: unlogged relations will be empty after the next start: there "
                             "are too many of them")));
        return;
    }
    loch_newest_forks(INIT_FORKNUM, save_relation, s);
}

void loch_stop_state_save(void)
{
    struct saving s = {0};
    struct loch_buf bytes = {0};
    struct loch_writer w;

    if (loch_settings.read_only || RecoveryInProgress() || !loch_server_is_stopping())
        return;
    if (!wait_for_sessions()) {
        ereport(LOG, (errmsg("loch: sessions do not end: statistics and unlogged relations are not "
                             "kept")));
        return;
    }
    s.head.tenant = loch_settings.tenant_id;
    s.head.timeline = loch_settings.timeline_id;
    s.head.id = GetXLogInsertRecPtr();
    save_unlogged(&s);
    save_statistics(&s);
    s.head.unlogged_lsn = GetFakeLSNForUnloggedRel();
    loch_writer_init(&w, &bytes);
    loch_stop_head_encode(&w, &s.head);
    if (!s.failed && loch_is_ok(loch_writer_finish(&w)))
        loch_config_file_log(LOCH_STOP_FILE, loch_buf_slice(&bytes));
    else
        ereport(LOG, (errmsg("loch: statistics and unlogged relations are not kept")));
    loch_buf_fini(&bytes);
}

/* ---- the start ---- */

/* Whatever there is, also what was not fit to be used. */
void loch_stop_state_consume(void)
{
    struct stat st;
    XLogRecPtr end = NOTHING_LEFT;

    if (loch_settings.read_only || loch_settings.test_keep_stop_state)
        return;
    if (stat(LOCH_STOP_FILE, &st) == 0) {
        loch_config_file_log(LOCH_STOP_FILE, loch_slice_of("", 0));
        end = pg_atomic_read_u64(&loch_shared->config_lsn);
    }
    if (pg_atomic_read_u64(&loch_shared->stop_state_lsn) == InvalidXLogRecPtr)
        pg_atomic_write_u64(&loch_shared->stop_state_lsn, end);
    (void)unlink(LOCH_STOP_FILE);
    for (uint32 i = 0; i < LOCH_STOP_PARTS_MAX; i++) {
        char name[32];

        snprintf(name, sizeof name, LOCH_STOP_FILE ".%u", i);
        if (stat(name, &st) != 0)
            continue;
        loch_config_file_log(name, loch_slice_of("", 0));
        (void)unlink(name);
    }
}

void loch_stop_state_make(void)
{
    struct stat st;
    bool left = !loch_settings.read_only && stat(LOCH_STOP_FILE, &st) == 0;

    pg_atomic_init_u64(&loch_shared->stop_state_lsn, left ? InvalidXLogRecPtr : NOTHING_LEFT);
}

static bool is_over(void)
{
    XLogRecPtr wanted = pg_atomic_read_u64(&loch_shared->stop_state_lsn);

    if (wanted == NOTHING_LEFT || wanted == InvalidXLogRecPtr)
        return wanted == NOTHING_LEFT;
    if (quorum_has() < wanted)
        return false;
    pg_atomic_write_u64(&loch_shared->stop_state_lsn, NOTHING_LEFT);
    return true;
}

void loch_stop_state_wait(void)
{
    while (!is_over() && PostmasterIsAlive()) {
        CHECK_FOR_INTERRUPTS();
        pg_usleep(START_SLICE_US);
    }
}

/* Each of them has a transaction before it does anything: to find its database, or the databases.
 * They may have no handler that ends a wait, and a stop must not wait for a quorum that is away. */
void loch_stop_state_hold(void)
{
    if ((MyBackendType != B_BG_WORKER && MyBackendType != B_AUTOVAC_LAUNCHER &&
         MyBackendType != B_AUTOVAC_WORKER) ||
        !loch_fix_on(stop_state) || is_over())
        return;
    ereport(DEBUG1, (errmsg_internal("loch: %s waits until what the last stop left is used up",
                                     GetBackendTypeDesc(MyBackendType))));
    while (!is_over() && PostmasterIsAlive()) {
        if (loch_server_is_stopping())
            proc_exit(0);
        CHECK_FOR_INTERRUPTS();
        pg_usleep(START_SLICE_US);
    }
}
