/* The redo worker's parts: they live inside a stock `postgres --single` that never gets past
 * _PG_init.
 *
 * One thread, one request at a time. The target is the one page that is being rebuilt; every other
 * page that a record mentions is made to look newer than any record, so that redo leaves it alone.
 */
#ifndef LOCH_REDO_WORKER_H
#define LOCH_REDO_WORKER_H

#include "postgres.h"

#include "access/rmgr.h"
#include "access/xlogreader.h"

#include "compat.h"

/* Redo sees the target's relation as TARGET_REL and every other one as OTHER_REL: with real numbers
 * the smgr's hash table would grow for ever. */
#define FAKE_SPC   1663u
#define FAKE_DB    1u
#define TARGET_REL 1u
#define OTHER_REL  2u

struct target {
    ForkNumber fork;
    BlockNumber block;
    PGAlignedBlock page; /* the base; after an eviction, the page as it was then */
};

extern struct target target;

/* ---- pages.c ---- */
/* Replaces smgr's table by the in-memory one. FATAL when it is not found. */
void pages_install(void);

/* ---- sandbox.c ---- */
/* After this only read, write, futex and exit_group work, and the heap cannot grow. */
void sandbox_enter(void);

/* ---- apply.c ---- */
/* Before the sandbox: the WAL reader, the memory context, room for the largest record. */
void apply_init(void);

struct apply_request {
    uint32 spc, db, rel;
    bool verify;
    uint32 checked, differing; /* out */
};

/* Applies one record (8-aligned, `length` bytes) to the target. Does not return on failure. */
void apply_record(struct apply_request *request, const char *bytes, uint32 length, XLogRecPtr start,
                  XLogRecPtr end);
/* Reads the rebuilt page out and forgets everything about the request. */
void apply_finish(char *page_out);
void apply_begin(void);
/* Start LSN of the record being applied; 0 between records. */
extern volatile uint64 apply_at;

/* ---- serve.c ---- */
/* Never returns. */
void serve(void) pg_attribute_noreturn();
/* Answers with a failure and ends the process. */
void serve_fail(const char *text) pg_attribute_noreturn();
/* From here on errors are answered instead of logged; installed before the sandbox. */
void serve_catch_errors(void);

#endif
