/* Holds: finding, swapping and probing the switch. Source: storage/smgr/smgr.c, PostgreSQL 15.
 *
 * In Debian's binaries the compiler turns init, open and immedsync into direct calls to md.c (there
 * is one storage manager only), so those three are not ours. Everything else must come through. */
#include "seam.h"

#include "page_store.h"
#include "report.h"

#include "catalog/pg_tablespace_d.h"
#include "storage/bufpage.h"
#include "storage/md.h"

#include "loch/pg/seam.h"

static bool probing;
static uint32 reached;

bool loch_seam_probed(enum seam_op op)
{
    if (likely(!probing))
        return false;
    reached |= UINT32_C(1) << op;
    return true;
}

static void require_reached(uint32 wanted)
{
    if ((reached & wanted) != wanted)
        ereport(FATAL,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("loch: this server's binary does not call its storage manager through "
                        "the switch (reached %x of %x)",
                        reached & wanted, wanted),
                 errhint("Use the distribution's PostgreSQL package this extension was built "
                         "for (%s).",
                         PG_VERSION)));
}

/* No relation has this number in database 0. */
static SMgrRelation fake_relation(void)
{
    RelFileNode rnode = {DEFAULTTABLESPACE_OID, 0, (Oid)0x7ffffffe};

    return smgropen(rnode, InvalidBackendId);
}

static void probe_plain(void)
{
    SMgrRelation reln;
    PGAlignedBlock page;

    memset(page.data, 0, sizeof page.data);
    reached = 0;
    probing = true;
    reln = fake_relation();
    smgrcreate(reln, MAIN_FORKNUM, false);
    (void)smgrexists(reln, MAIN_FORKNUM);
    smgrextend(reln, MAIN_FORKNUM, 0, page.data, true);
    (void)smgrprefetch(reln, MAIN_FORKNUM, 0);
    smgrread(reln, MAIN_FORKNUM, 0, page.data);
    smgrwrite(reln, MAIN_FORKNUM, 0, page.data, true);
    smgrwriteback(reln, MAIN_FORKNUM, 0, 1);
    (void)smgrnblocks(reln, MAIN_FORKNUM);
    smgrclose(reln);
    probing = false;
    require_reached((UINT32_C(1) << SEAM_CLOSE) | (UINT32_C(1) << SEAM_CREATE) |
                    (UINT32_C(1) << SEAM_EXISTS) | (UINT32_C(1) << SEAM_EXTEND) |
                    (UINT32_C(1) << SEAM_PREFETCH) | (UINT32_C(1) << SEAM_READ) |
                    (UINT32_C(1) << SEAM_WRITE) | (UINT32_C(1) << SEAM_WRITEBACK) |
                    (UINT32_C(1) << SEAM_NBLOCKS));
}

void loch_seam_probe_shared(void)
{
    ForkNumber fork = MAIN_FORKNUM;
    BlockNumber blocks = 0, old_blocks = 0;
    SMgrRelation reln;

    reached = 0;
    probing = true;
    reln = fake_relation();
    smgrtruncate2(reln, &fork, 1, &old_blocks, &blocks);
    smgrdounlinkall(&reln, 1, false);
    smgrclose(reln);
    probing = false;
    require_reached((UINT32_C(1) << SEAM_TRUNCATE) | (UINT32_C(1) << SEAM_UNLINK));
}

void loch_seam_install(void)
{
    const struct smgr_table stock = {
        .init = mdinit,
        .shutdown = NULL,
        .open = mdopen,
        .close = mdclose,
        .create = mdcreate,
        .exists = mdexists,
        .unlink = mdunlink,
        .extend = mdextend,
        .prefetch = mdprefetch,
        .read = mdread,
        .write = mdwrite,
        .writeback = mdwriteback,
        .nblocks = mdnblocks,
        .truncate = mdtruncate,
        .immedsync = mdimmedsync,
    };
    struct smgr_table ours = stock;
    const void *pointers[SMGR_TABLE_POINTERS];
    void **table = NULL;

    loch_page_store_table(&ours);
    memcpy(pointers, &stock, sizeof stock);
    loch_require(loch_seam_find(pointers, SMGR_TABLE_POINTERS, &table),
                 "finding the storage manager switch");
    memcpy(pointers, &ours, sizeof ours);
    loch_require(loch_seam_write(table, pointers, SMGR_TABLE_POINTERS),
                 "replacing the storage manager switch");
    probe_plain();
}
