/* What differs between PostgreSQL versions in the storage manager's switch, and which servers this
 * build may enter. The only place for version differences of the seam.
 *
 * Source: src/backend/storage/smgr/smgr.c (struct f_smgr), PostgreSQL 15.18 to 15.20. The struct is
 * private to smgr.c; smgr_truncate gained old_blocks within 15.x, so older minors are not listed.
 */
#ifndef LOCH_COMPAT_SMGR_H
#define LOCH_COMPAT_SMGR_H

#include "postgres.h"

#include "storage/smgr.h"

#if PG_VERSION_NUM < 150018 || PG_VERSION_NUM >= 160000
#error "this build of the loch extension knows PostgreSQL 15.18 and later minors of 15 only"
#endif

struct smgr_table {
    void (*init)(void);
    void (*shutdown)(void);
    void (*open)(SMgrRelation reln);
    void (*close)(SMgrRelation reln, ForkNumber fork);
    void (*create)(SMgrRelation reln, ForkNumber fork, bool is_redo);
    bool (*exists)(SMgrRelation reln, ForkNumber fork);
    void (*unlink)(RelFileNodeBackend rnode, ForkNumber fork, bool is_redo);
    void (*extend)(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *buffer,
                   bool skip_fsync);
    bool (*prefetch)(SMgrRelation reln, ForkNumber fork, BlockNumber block);
    void (*read)(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *buffer);
    void (*write)(SMgrRelation reln, ForkNumber fork, BlockNumber block, char *buffer,
                  bool skip_fsync);
    void (*writeback)(SMgrRelation reln, ForkNumber fork, BlockNumber block, BlockNumber count);
    BlockNumber (*nblocks)(SMgrRelation reln, ForkNumber fork);
    void (*truncate)(SMgrRelation reln, ForkNumber fork, BlockNumber old_blocks,
                     BlockNumber blocks);
    void (*immedsync)(SMgrRelation reln, ForkNumber fork);
};

#define SMGR_TABLE_POINTERS 15u
StaticAssertDecl(sizeof(struct smgr_table) == SMGR_TABLE_POINTERS * sizeof(void *),
                 "the switch is an array of pointers");

/* True when a server that reports this version has the same struct as the headers compiled here. */
static inline bool loch_compat_server_ok(int server_version_num)
{
    static const int same_layout[] = {150018, 150020};

    if (server_version_num == PG_VERSION_NUM)
        return true;
    for (size_t i = 0; i < lengthof(same_layout); i++)
        if (server_version_num == same_layout[i])
            return true;
    return false;
}

#endif
