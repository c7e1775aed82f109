/* Holds: reading past the buffer manager without I/O through it, and the walk over the files. */
#include "newest.h"

#include "local_file.h"

#include "catalog/pg_tablespace_d.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "utils/resowner.h"

#include <stdlib.h>

static bool read_buffer(RelFileNode rnode, ForkNumber fork, BlockNumber block, char *page)
{
    BufferTag tag;
    LWLock *lock;
    uint32 hash;
    int id;

    INIT_BUFFERTAG(tag, rnode, fork, block);
    hash = BufTableHashCode(&tag);
    lock = BufMappingPartitionLock(hash);
    LWLockAcquire(lock, LW_SHARED);
    id = BufTableLookup(&tag, hash);
    LWLockRelease(lock);
    if (id < 0 || !ReadRecentBuffer(rnode, fork, block, id + 1))
        return false;
    LockBuffer(id + 1, BUFFER_LOCK_SHARE);
    memcpy(page, BufferGetPage(id + 1), BLCKSZ);
    UnlockReleaseBuffer(id + 1);
    return true;
}

/* What leaves a buffer between the two looks is in the file by then. */
void loch_newest_read(RelFileNode rnode, ForkNumber fork, BlockNumber block, char *page)
{
    if (CurrentResourceOwner == NULL)
        CurrentResourceOwner = ResourceOwnerCreate(NULL, "loch");
    if (!read_buffer(rnode, fork, block, page) && !loch_local_read(rnode, fork, block, page))
        memset(page, 0, BLCKSZ);
}

/* The number before "_fsm", "_init"; InvalidOid for every other name. */
static Oid number_of(const char *name, ForkNumber fork)
{
    char *end;
    unsigned long number;

    if (name[0] < '1' || name[0] > '9')
        return InvalidOid;
    number = strtoul(name, &end, 10);
    if (*end != '_' || strcmp(end + 1, forkNames[fork]) != 0 || number > PG_UINT32_MAX)
        return InvalidOid;
    return (Oid)number;
}

static void walk_database(const char *path, Oid spc, Oid db, ForkNumber fork,
                          void (*each)(RelFileNode rnode, void *arg), void *arg)
{
    DIR *dir = AllocateDir(path);
    struct dirent *entry;

    while (dir != NULL && (entry = ReadDirExtended(dir, path, LOG)) != NULL) {
        RelFileNode rnode = {spc, db, number_of(entry->d_name, fork)};

        if (OidIsValid(rnode.relNode))
            each(rnode, arg);
    }
    if (dir != NULL)
        FreeDir(dir);
}

static void walk_tablespace(const char *path, Oid spc, ForkNumber fork,
                            void (*each)(RelFileNode rnode, void *arg), void *arg)
{
    DIR *dir = AllocateDir(path);
    struct dirent *entry;

    while (dir != NULL && (entry = ReadDirExtended(dir, path, LOG)) != NULL) {
        unsigned long db = strtoul(entry->d_name, NULL, 10);
        char below[MAXPGPATH];

        if (db == 0)
            continue;
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        walk_database(below, spc, (Oid)db, fork, each, arg);
    }
    if (dir != NULL)
        FreeDir(dir);
}

void loch_newest_forks(ForkNumber fork, void (*each)(RelFileNode rnode, void *arg), void *arg)
{
    DIR *dir = AllocateDir("pg_tblspc");
    struct dirent *entry;

    walk_tablespace("base", DEFAULTTABLESPACE_OID, fork, each, arg);
    while (dir != NULL && (entry = ReadDirExtended(dir, "pg_tblspc", LOG)) != NULL) {
        unsigned long spc = strtoul(entry->d_name, NULL, 10);
        char path[MAXPGPATH];

        if (spc == 0)
            continue;
        snprintf(path, sizeof path, "pg_tblspc/%lu/%s", spc, TABLESPACE_VERSION_DIRECTORY);
        walk_tablespace(path, (Oid)spc, fork, each, arg);
    }
    if (dir != NULL)
        FreeDir(dir);
}
