/* Holds: the watch over the configuration files. Invariant: a file is read whole and logged only
 * when its inode, size or time differs from the last look; all four replace their files by rename.
 */
#include "config_files.h"

#include "postgres.h"

#include "commit_guard.h"
#include "settings.h"
#include "shared.h"
#include "wait.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/message.h"
#include "replication/syncrep.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (1u << 20)
#define WAIT_SLICE_MS  10
#define ALTER_SYSTEMS  0 /* which of them that statement changes, and waits for */

static const char *const paths[] = {"postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf",
                                    "postgresql.conf"};

static struct stat seen[lengthof(paths)];
static bool noted;

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

void loch_config_file_log(const char *path, struct loch_slice contents)
{
    size_t head = strlen(path) + 1;
    char *message = palloc(head + contents.len);
    XLogRecPtr end;

    Assert(contents.len <= FILE_MAX_BYTES);
    memcpy(message, path, head);
    memcpy(message + head, contents.data, contents.len);
    end = LogLogicalMessage("loch.file", message, head + contents.len, false);
    XLogFlush(end);
    pg_atomic_write_u64(&loch_shared->config_lsn, end);
    pfree(message);
}

#ifdef LOCH_TEST_SWITCHES
/* Time for another ALTER SYSTEM between a look at a file and the reading of it. */
static void pause_for_test(void)
{
    for (int ms = 0; ms < loch_settings.test_config_pause_ms; ms++)
        pg_usleep(1000);
}
#else
static void pause_for_test(void)
{
}
#endif

/* What `now` was asked of; NULL when that cannot be read, or was changed meanwhile. */
static char *read_whole(int fd, const struct stat *now)
{
    size_t size = (size_t)now->st_size;
    char *contents = palloc(size + 1);
    struct stat after;

    pause_for_test();
    if (read(fd, contents, size + 1) == (ssize_t)size && fstat(fd, &after) == 0 &&
        same(now, &after))
        return contents;
    pfree(contents);
    return NULL;
}

/* False when the file cannot be looked at now. Size and contents are those of one open file,
 * whatever is renamed into its place meanwhile: that is for the next look. */
static bool look_at(const char *path, struct stat *last)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *contents = NULL;
    bool changed, fits;
    struct stat now;

    if (fd < 0)
        return errno == ENOENT;
    if (fstat(fd, &now) != 0) {
        (void)close(fd);
        return false;
    }
    changed = noted && !same(&now, last);
    fits = (size_t)now.st_size <= FILE_MAX_BYTES;
    if (changed && fits)
        contents = read_whole(fd, &now);
    (void)close(fd);
    if (changed && !fits)
        ereport(WARNING,
                (errmsg("loch: %s is larger than 1 MiB and will not survive this compute", path)));
    if (changed && fits && contents == NULL)
        return false;
    if (contents != NULL) {
        loch_config_file_log(path, loch_slice_of(contents, (size_t)now.st_size));
        ereport(LOG, (errmsg("loch: %s has changed and is kept in storage", path)));
        pfree(contents);
    }
    *last = now;
    return true;
}

void loch_config_files_look(void)
{
    uint64 wanted = loch_shared == NULL ? 0 : pg_atomic_read_u64(&loch_shared->config_wanted);
    bool looked = true;

    /* The server's working directory is its data directory. */
    for (size_t i = 0; i < lengthof(paths); i++) {
        bool ok = look_at(paths[i], &seen[i]);

        if (i == ALTER_SYSTEMS)
            looked = ok;
    }
    noted = true;
    if (loch_shared != NULL && looked)
        pg_atomic_write_u64(&loch_shared->config_done, wanted);
}

void loch_config_files_wait(void)
{
    uint64 mine = pg_atomic_add_fetch_u64(&loch_shared->config_wanted, 1);

    while (pg_atomic_read_u64(&loch_shared->config_done) < mine)
        loch_wait_socket(-1, false, WAIT_SLICE_MS);
    loch_wait_done();
    loch_commit_guard_begin();
    HOLD_INTERRUPTS(); /* as SyncRepWaitForLSN demands */
    SyncRepWaitForLSN(pg_atomic_read_u64(&loch_shared->config_lsn), true);
    RESUME_INTERRUPTS();
    loch_commit_guard_end();
}
