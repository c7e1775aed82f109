/* Holds: the watch over the configuration files. Invariant: a file is read whole and logged only
 * when its inode, size or time differs from the last look; all four replace their files by rename.
 */
#include "config_files.h"

#include "postgres.h"

#include "commit_guard.h"
#include "shared.h"
#include "wait.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/message.h"
#include "replication/syncrep.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX_BYTES (1u << 20)
#define WAIT_SLICE_MS  10

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

/* False when the file cannot be read now. */
static bool log_file(const char *path, size_t size)
{
    char *contents = palloc(size + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = -1;

    if (fd >= 0) {
        got = read(fd, contents, size);
        (void)close(fd);
    }
    if (got == (ssize_t)size) {
        loch_config_file_log(path, loch_slice_of(contents, size));
        ereport(LOG, (errmsg("loch: %s has changed and is kept in storage", path)));
    }
    pfree(contents);
    return got == (ssize_t)size;
}

void loch_config_files_look(void)
{
    uint64 wanted = loch_shared == NULL ? 0 : pg_atomic_read_u64(&loch_shared->config_wanted);
    struct stat now;

    /* The server's working directory is its data directory. */
    for (size_t i = 0; i < lengthof(paths); i++) {
        if (stat(paths[i], &now) != 0 || (noted && same(&now, &seen[i])))
            continue;
        if (noted && (size_t)now.st_size > FILE_MAX_BYTES)
            ereport(WARNING,
                    (errmsg("loch: %s is larger than 1 MiB and will not survive this compute",
                            paths[i])));
        else if (noted && !log_file(paths[i], (size_t)now.st_size))
            continue;
        seen[i] = now;
    }
    noted = true;
    if (loch_shared != NULL)
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
