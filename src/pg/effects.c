/* Holds: the dispatch from a record to its effects; block references; the small resource managers.
 * Source: the rm_redo functions of PostgreSQL 15. */
#include "loch/pg/effects.h"

#include "effect_list.h"

#include "loch/base/check.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"
#include "v15.h"

#include <stdlib.h>
#include <string.h>

void loch_effects_fini(struct loch_effects *effects)
{
    free(effects->items);
    loch_buf_fini(&effects->bytes);
    *effects = (struct loch_effects){0};
}

LOCH_STATUS effect_add(struct loch_effects *list, enum loch_effect_kind kind,
                       struct loch_effect **out)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 16 : list->capacity * 2;
        struct loch_effect *items = reallocarray(list->items, capacity, sizeof *items);
        if (items == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu effects", capacity);
        list->items = items;
        list->capacity = capacity;
    }
    *out = &list->items[list->count++];
    memset(*out, 0, sizeof **out);
    (*out)->kind = kind;
    return LOCH_OK;
}

void effect_op_begin(struct loch_effects *list, struct effect_op *op)
{
    loch_writer_init(&op->w, &list->bytes);
    op->start = list->bytes.len;
}

/* Until finish_ops, an op's slice is {NULL, length}: ops lie in list->bytes in the list's order. */
static struct loch_slice op_slice(const struct loch_effects *list, const struct effect_op *op)
{
    return loch_slice_of(NULL, list->bytes.len - op->start);
}

LOCH_STATUS effect_op_end_slru(struct loch_effects *list, struct effect_op *op, uint8_t slru,
                               uint32_t page)
{
    struct loch_effect *e = NULL;

    LOCH_TRY(loch_writer_finish(&op->w));
    LOCH_TRY(effect_add(list, LOCH_EFFECT_SLRU_OP, &e));
    e->slru.slru = slru;
    e->slru.page = page;
    e->slru.op = op_slice(list, op);
    return LOCH_OK;
}

LOCH_STATUS effect_op_end_vm(struct loch_effects *list, struct effect_op *op, struct loch_rel rel,
                             uint32_t block)
{
    struct loch_effect *e = NULL;

    LOCH_TRY(loch_writer_finish(&op->w));
    LOCH_TRY(effect_add(list, LOCH_EFFECT_VM_OP, &e));
    e->vm.rel = rel;
    e->vm.block = block;
    e->vm.op = op_slice(list, op);
    return LOCH_OK;
}

LOCH_STATUS effect_op_end_twophase(struct loch_effects *list, struct effect_op *op, uint32_t xid)
{
    struct loch_effect *e = NULL;

    LOCH_TRY(loch_writer_finish(&op->w));
    LOCH_TRY(effect_add(list, LOCH_EFFECT_TWOPHASE_PUT, &e));
    e->twophase.xid = xid;
    e->twophase.file = op_slice(list, op);
    return LOCH_OK;
}

static void finish_ops(struct loch_effects *list)
{
    const uint8_t *at = list->bytes.data;

    for (size_t i = 0; i < list->count; i++) {
        struct loch_effect *e = &list->items[i];
        struct loch_slice *op = NULL;

        if (e->kind == LOCH_EFFECT_SLRU_OP)
            op = &e->slru.op;
        else if (e->kind == LOCH_EFFECT_VM_OP)
            op = &e->vm.op;
        else if (e->kind == LOCH_EFFECT_TWOPHASE_PUT)
            op = &e->twophase.file;
        if (op != NULL) {
            op->data = at;
            at += op->len;
        }
    }
}

LOCH_STATUS effect_add_rel(struct loch_effects *list, enum loch_effect_kind kind,
                           struct loch_rel rel, uint8_t fork, uint32_t blocks)
{
    struct loch_effect *e = NULL;

    LOCH_TRY(effect_add(list, kind, &e));
    e->rel.rel = rel;
    e->rel.fork = fork;
    e->rel.blocks = blocks;
    return LOCH_OK;
}

LOCH_STATUS effect_add_slru_zero(struct loch_effects *list, uint8_t slru, uint32_t page)
{
    struct effect_op op;

    effect_op_begin(list, &op);
    loch_write_u8(&op.w, LOCH_SLRU_ZERO);
    return effect_op_end_slru(list, &op, slru, page);
}

LOCH_STATUS effect_add_slru_cut(struct loch_effects *list, uint8_t slru, struct loch_slru_cut cut)
{
    struct loch_effect *e = NULL;

    LOCH_TRY(effect_add(list, LOCH_EFFECT_SLRU_CUT, &e));
    e->slru.slru = slru;
    e->slru.cut = cut;
    return LOCH_OK;
}

static LOCH_STATUS short_data(const struct loch_wal_record *record)
{
    return LOCH_FAIL(LOCH_E_CORRUPT, "a %s record of kind %02X has %zu bytes of data",
                     loch_rmgr_name(record->rmid), record->info, record->main_data.len);
}

static LOCH_STATUS unknown_kind(const struct loch_wal_record *record)
{
    return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a %s record of unknown kind %02X",
                     loch_rmgr_name(record->rmid), record->info);
}

/* Every block reference is a page the record applies to. */
static LOCH_STATUS add_pages(struct loch_effects *list, const struct loch_wal_record *record,
                             bool images_only)
{
    for (uint32_t i = 0; i < record->block_count; i++) {
        const struct loch_wal_block *b = &record->blocks[i];
        struct loch_effect *e = NULL;
        bool is_image = b->has_image && b->apply_image;

        if (images_only && !is_image)
            continue;
        LOCH_TRY(effect_add(list, LOCH_EFFECT_PAGE, &e));
        e->page.rel = b->rel;
        e->page.fork = b->fork;
        e->page.block = b->block;
        e->page.block_id = b->id;
        e->page.will_init = b->will_init;
        e->page.is_image = is_image;
    }
    return LOCH_OK;
}

static LOCH_STATUS effects_of_checkpoint(struct loch_effects *list, const struct effect_source *src)
{
    struct loch_checkpoint cp;
    struct loch_effect *e = NULL;

    LOCH_TRY(loch_checkpoint_parse(src->record->main_data, &cp));
    LOCH_TRY(effect_add(list, LOCH_EFFECT_CHECKPOINT, &e));
    e->checkpoint.shutdown = src->info == V15_XLOG_CHECKPOINT_SHUTDOWN;
    e->checkpoint.redo = cp.redo;
    return LOCH_OK;
}

/* Turning commit timestamps on creates their current page, off removes them all; neither is logged
 * by itself. */
static LOCH_STATUS effects_of_parameters(struct loch_effects *list, const struct effect_source *src)
{
    /* A running server's pg_control says "on" already while its checkpoint does not. */
    bool before = src->before->parameters.track_commit_timestamp &&
                  src->before->checkpoint.oldest_commit_ts_xid != 0;
    bool after;
    uint32_t xid = (uint32_t)src->before->checkpoint.next_xid;

    if (src->record->main_data.len < V15_PARAMETER_CHANGE_BYTES)
        return short_data(src->record);
    after = src->record->main_data.data[25] != 0;
    if (after && !before)
        return effect_add_slru_zero(list, LOCH_SLRU_COMMIT_TS, xid / LOCH_XIDS_PER_COMMIT_TS_PAGE);
    if (!after && src->before->parameters.track_commit_timestamp)
        return effect_add_slru_cut(list, LOCH_SLRU_COMMIT_TS, (struct loch_slru_cut){.all = true});
    return LOCH_OK;
}

static LOCH_STATUS effects_of_xlog(struct loch_effects *list, const struct effect_source *src)
{
    switch (src->info) {
    case V15_XLOG_CHECKPOINT_SHUTDOWN:
    case V15_XLOG_CHECKPOINT_ONLINE:
        return effects_of_checkpoint(list, src);
    case V15_XLOG_PARAMETER_CHANGE:
        return effects_of_parameters(list, src);
    case V15_XLOG_FPI:
        for (uint32_t i = 0; i < src->record->block_count; i++)
            if (!src->record->blocks[i].has_image || !src->record->blocks[i].apply_image)
                return LOCH_FAIL(LOCH_E_CORRUPT, "a full-page image record without an image");
        return add_pages(list, src->record, true);
    case V15_XLOG_FPI_FOR_HINT:
        /* Without an image there is nothing to do. */
        return add_pages(list, src->record, true);
    case V15_XLOG_NOOP:
    case V15_XLOG_NEXTOID:
    case V15_XLOG_SWITCH:
    case V15_XLOG_BACKUP_END:
    case V15_XLOG_RESTORE_POINT:
    case V15_XLOG_FPW_CHANGE:
    case V15_XLOG_END_OF_RECOVERY:
    case V15_XLOG_OVERWRITE_CONTRECORD:
        return LOCH_OK;
    default:
        return unknown_kind(src->record);
    }
}

static struct loch_rel read_rel(struct loch_reader *r)
{
    struct loch_rel rel;

    rel.spc = loch_read_u32(r);
    rel.db = loch_read_u32(r);
    rel.rel = loch_read_u32(r);
    return rel;
}

static LOCH_STATUS effects_of_truncate(struct loch_effects *list, const struct effect_source *src)
{
    struct loch_reader r;
    uint32_t blocks, flags;
    struct loch_rel rel;
    struct effect_op op;

    loch_reader_init(&r, src->record->main_data);
    blocks = loch_read_u32(&r);
    rel = read_rel(&r);
    flags = loch_read_u32(&r);
    if (r.bad || blocks == UINT32_MAX)
        return short_data(src->record);
    LOCH_TRY(effect_add_rel(list, LOCH_EFFECT_REL_CREATE, rel, LOCH_FORK_MAIN, 0));
    if ((flags & V15_SMGR_TRUNCATE_HEAP) != 0)
        LOCH_TRY(effect_add_rel(list, LOCH_EFFECT_REL_TRUNCATE, rel, LOCH_FORK_MAIN, blocks));
    if ((flags & V15_SMGR_TRUNCATE_FSM) != 0)
        LOCH_TRY(effect_add_rel(list, LOCH_EFFECT_REL_TRUNCATE, rel, LOCH_FORK_FSM,
                                loch_fsm_blocks_after_truncate(blocks)));
    if ((flags & V15_SMGR_TRUNCATE_VM) == 0)
        return LOCH_OK;
    LOCH_TRY(effect_add_rel(list, LOCH_EFFECT_REL_TRUNCATE, rel, LOCH_FORK_VM,
                            loch_vm_blocks_after_truncate(blocks)));
    if (blocks % LOCH_VM_HEAP_BLOCKS_PER_PAGE == 0)
        return LOCH_OK;
    effect_op_begin(list, &op);
    loch_write_u8(&op.w, LOCH_VM_TRUNCATE);
    loch_write_u32(&op.w, blocks);
    return effect_op_end_vm(list, &op, rel, loch_vm_block_of(blocks));
}

static LOCH_STATUS effects_of_smgr(struct loch_effects *list, const struct effect_source *src)
{
    struct loch_reader r;
    struct loch_rel rel;
    uint32_t fork;

    switch (src->info) {
    case V15_SMGR_CREATE:
        loch_reader_init(&r, src->record->main_data);
        rel = read_rel(&r);
        fork = loch_read_u32(&r);
        if (r.bad || fork > LOCH_FORK_INIT)
            return short_data(src->record);
        return effect_add_rel(list, LOCH_EFFECT_REL_CREATE, rel, (uint8_t)fork, 0);
    case V15_SMGR_TRUNCATE:
        return effects_of_truncate(list, src);
    default:
        return unknown_kind(src->record);
    }
}

static LOCH_STATUS effects_of_dbase_drop(struct loch_effects *list, const struct effect_source *src)
{
    struct loch_reader r;
    struct loch_effect *e = NULL;
    uint32_t db, count;

    loch_reader_init(&r, src->record->main_data);
    db = loch_read_u32(&r);
    count = loch_read_u32(&r);
    if (r.bad || count > loch_reader_left(&r) / 4)
        return short_data(src->record);
    for (uint32_t i = 0; i < count; i++) {
        LOCH_TRY(effect_add(list, LOCH_EFFECT_DB_DROP, &e));
        e->db.spc = loch_read_u32(&r);
        e->db.db = db;
    }
    return LOCH_OK;
}

static LOCH_STATUS effects_of_dbase(struct loch_effects *list, const struct effect_source *src)
{
    const uint8_t *d = src->record->main_data.data;
    size_t len = src->record->main_data.len;
    struct loch_effect *e = NULL;

    switch (src->info) {
    case V15_DBASE_CREATE_FILE_COPY:
        if (len < 16)
            return short_data(src->record);
        LOCH_TRY(effect_add(list, LOCH_EFFECT_DB_COPY, &e));
        e->db.src_db = loch_get_u32(d + 8);
        e->db.src_spc = loch_get_u32(d + 12);
        break;
    case V15_DBASE_CREATE_WAL_LOG:
        if (len < 8)
            return short_data(src->record);
        LOCH_TRY(effect_add(list, LOCH_EFFECT_DB_CREATE, &e));
        break;
    case V15_DBASE_DROP:
        return effects_of_dbase_drop(list, src);
    default:
        return unknown_kind(src->record);
    }
    e->db.db = loch_get_u32(d);
    e->db.spc = loch_get_u32(d + 4);
    return LOCH_OK;
}

static LOCH_STATUS effects_of_tablespace(struct loch_effects *list, const struct effect_source *src)
{
    struct loch_slice d = src->record->main_data;
    struct loch_effect *e = NULL;
    const uint8_t *nul;

    if (d.len < 4)
        return short_data(src->record);
    switch (src->info) {
    case V15_TBLSPC_CREATE:
        nul = memchr(d.data + 4, 0, d.len - 4);
        if (nul == NULL)
            return short_data(src->record);
        LOCH_TRY(effect_add(list, LOCH_EFFECT_TABLESPACE_CREATE, &e));
        e->tablespace.path = loch_slice_of(d.data + 4, (size_t)(nul - d.data) - 4);
        break;
    case V15_TBLSPC_DROP:
        LOCH_TRY(effect_add(list, LOCH_EFFECT_TABLESPACE_DROP, &e));
        break;
    default:
        return unknown_kind(src->record);
    }
    e->tablespace.spc = loch_get_u32(d.data);
    return LOCH_OK;
}

static LOCH_STATUS effects_of_relmap(struct loch_effects *list, const struct effect_source *src)
{
    struct loch_slice d = src->record->main_data;
    struct loch_effect *e = NULL;
    uint32_t bytes;

    if (src->info != V15_RELMAP_UPDATE)
        return unknown_kind(src->record);
    if (d.len < 12)
        return short_data(src->record);
    bytes = loch_get_u32(d.data + 8);
    if (bytes > d.len - 12)
        return short_data(src->record);
    LOCH_TRY(effect_add(list, LOCH_EFFECT_RELMAP, &e));
    e->relmap.db = loch_get_u32(d.data);
    e->relmap.spc = loch_get_u32(d.data + 4);
    e->relmap.file = loch_slice_of(d.data + 12, bytes);
    return LOCH_OK;
}

static LOCH_STATUS effects_of_origin(struct loch_effects *list, const struct effect_source *src)
{
    struct loch_slice d = src->record->main_data;
    struct loch_effect *e = NULL;

    switch (src->info) {
    case V15_REPLORIGIN_SET:
        if (d.len < 11)
            return short_data(src->record);
        LOCH_TRY(effect_add(list, LOCH_EFFECT_ORIGIN_SET, &e));
        e->origin.remote_lsn = loch_get_u64(d.data);
        e->origin.origin = loch_get_u16(d.data + 8);
        e->origin.force = d.data[10] != 0;
        e->origin.local_lsn = src->end;
        return LOCH_OK;
    case V15_REPLORIGIN_DROP:
        if (d.len < 2)
            return short_data(src->record);
        LOCH_TRY(effect_add(list, LOCH_EFFECT_ORIGIN_DROP, &e));
        e->origin.origin = loch_get_u16(d.data);
        return LOCH_OK;
    default:
        return unknown_kind(src->record);
    }
}

/* A configuration file that the extension logged (docs/protocol/wal_messages.md). Only a process
 * without a database can have logged it: no SQL function can. Source: replication/message.h,
 * xl_logical_message. */
static LOCH_STATUS effects_of_message(struct loch_effects *list,
                                      const struct loch_wal_record *record)
{
    static const char prefix[] = "loch.file";
    struct loch_effect *e = NULL;
    struct loch_reader r;

    loch_reader_init(&r, record->main_data);
    uint32_t db = loch_read_u32(&r);
    bool transactional = loch_read_u32(&r) & 0xff;
    uint64_t prefix_bytes = loch_read_u64(&r);
    uint64_t message_bytes = loch_read_u64(&r);
    if (r.bad || db != 0 || transactional || prefix_bytes != sizeof prefix ||
        loch_reader_left(&r) < sizeof prefix || memcmp(r.at, prefix, sizeof prefix) != 0)
        return LOCH_OK;
    (void)loch_read_bytes(&r, sizeof prefix);
    if (loch_reader_left(&r) != message_bytes)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a logged file has %zu bytes, not %llu",
                         loch_reader_left(&r), (unsigned long long)message_bytes);
    size_t path = strnlen((const char *)r.at, message_bytes);
    if (path == 0 || path == message_bytes)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a logged file has no path");
    LOCH_TRY(effect_add(list, LOCH_EFFECT_FILE, &e));
    e->file.path = loch_slice_of(r.at, path);
    e->file.contents = loch_slice_of(r.at + path + 1, message_bytes - path - 1);
    return LOCH_OK;
}

static LOCH_STATUS derive(struct loch_effects *list, const struct effect_source *src)
{
    switch ((enum loch_rmgr)src->record->rmid) {
    case LOCH_RM_XLOG:
        return effects_of_xlog(list, src);
    case LOCH_RM_XACT:
        return effects_of_xact(list, src);
    case LOCH_RM_SMGR:
        return effects_of_smgr(list, src);
    case LOCH_RM_CLOG:
        return effects_of_clog(list, src);
    case LOCH_RM_DBASE:
        return effects_of_dbase(list, src);
    case LOCH_RM_TBLSPC:
        return effects_of_tablespace(list, src);
    case LOCH_RM_MULTIXACT:
        return effects_of_multixact(list, src);
    case LOCH_RM_RELMAP:
        return effects_of_relmap(list, src);
    case LOCH_RM_HEAP:
    case LOCH_RM_HEAP2:
        return effects_of_heap(list, src);
    case LOCH_RM_BTREE:
    case LOCH_RM_HASH:
    case LOCH_RM_GIN:
    case LOCH_RM_GIST:
    case LOCH_RM_SEQ:
    case LOCH_RM_SPGIST:
    case LOCH_RM_BRIN:
    case LOCH_RM_GENERIC:
        return add_pages(list, src->record, false);
    case LOCH_RM_COMMIT_TS:
        return effects_of_commit_ts(list, src);
    case LOCH_RM_REPLORIGIN:
        return effects_of_origin(list, src);
    case LOCH_RM_LOGICALMSG:
        return effects_of_message(list, src->record);
    case LOCH_RM_STANDBY:
        return LOCH_OK;
    case LOCH_RM_CUSTOM_FIRST:
        break;
    }
    return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a record of custom resource manager %u",
                     src->record->rmid);
}

LOCH_STATUS loch_effects_derive(struct loch_effects *effects, const struct loch_wal_record *record,
                                loch_lsn end, const struct loch_control *before)
{
    struct effect_source src = {record, record->info & V15_XLR_RMGR_INFO_MASK, end, before};
    loch_status st;

    effects->count = 0;
    effects->bytes.len = 0;
    st = derive(effects, &src);
    if (!loch_is_ok(st)) {
        effects->count = 0;
        return st;
    }
    finish_ops(effects);
    return LOCH_OK;
}
