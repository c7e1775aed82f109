/* Everything in the redo worker that depends on PostgreSQL's major version. Only 15 is built.
 *
 * Source: PostgreSQL 15 src/backend/storage/smgr/smgr.c (struct f_smgr, which has no header).
 */
#ifndef LOCH_REDO_WORKER_COMPAT_H
#define LOCH_REDO_WORKER_COMPAT_H

#include "postgres.h"

#include "storage/md.h"
#include "storage/smgr.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "the redo worker is written for PostgreSQL 15"
#endif

/* The order of smgrsw's members in 15.x; truncate got old_blocks within 15.x, and the table's
 * function pointers are only compared and replaced, so its prototype must fit the headers'. */
struct smgr_table {
    void (*init)(void);
    void (*shutdown)(void);
    void (*open)(SMgrRelation);
    void (*close)(SMgrRelation, ForkNumber);
    void (*create)(SMgrRelation, ForkNumber, bool);
    bool (*exists)(SMgrRelation, ForkNumber);
    void (*unlink)(RelFileNodeBackend, ForkNumber, bool);
    void (*extend)(SMgrRelation, ForkNumber, BlockNumber, char *, bool);
    bool (*prefetch)(SMgrRelation, ForkNumber, BlockNumber);
    void (*read)(SMgrRelation, ForkNumber, BlockNumber, char *);
    void (*write)(SMgrRelation, ForkNumber, BlockNumber, char *, bool);
    void (*writeback)(SMgrRelation, ForkNumber, BlockNumber, BlockNumber);
    BlockNumber (*nblocks)(SMgrRelation, ForkNumber);
    void (*truncate)(SMgrRelation, ForkNumber, BlockNumber, BlockNumber);
    void (*immedsync)(SMgrRelation, ForkNumber);
};

#define SMGR_TABLE_MD                                                                              \
    {                                                                                              \
        mdinit, NULL, mdopen, mdclose, mdcreate, mdexists, mdunlink, mdextend, mdprefetch, mdread, \
            mdwrite, mdwriteback, mdnblocks, mdtruncate, mdimmedsync                               \
    }

typedef RelFileNode compat_rel;

static inline bool compat_rel_is(const DecodedBkpBlock *ref, uint32 spc, uint32 db, uint32 rel)
{
    return ref->rnode.spcNode == spc && ref->rnode.dbNode == db && ref->rnode.relNode == rel;
}

static inline void compat_rel_set(DecodedBkpBlock *ref, compat_rel to)
{
    ref->rnode = to;
}

static inline compat_rel compat_ref_rel(const DecodedBkpBlock *ref)
{
    return ref->rnode;
}

static inline uint32 compat_smgr_relnumber(SMgrRelation reln)
{
    return reln->smgr_rnode.node.relNode;
}

static inline compat_rel compat_rel_make(uint32 spc, uint32 db, uint32 rel)
{
    compat_rel made = {.spcNode = spc, .dbNode = db, .relNode = rel};
    return made;
}

#endif
