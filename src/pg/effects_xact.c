/* Holds: the effects of transaction ends, two-phase state and the SLRU resource managers.
 * Source: xact_redo, clog_redo, multixact_redo, commit_ts_redo (PostgreSQL 15.18). */
#include "effect_list.h"

#include "loch/base/check.h"
#include "loch/base/crc32c.h"
#include "loch/pg/slru.h"
#include "v15.h"
#include "xact_record.h"

/* The transaction itself, then its subtransactions. */
static uint32_t tree_xid(const struct loch_xact_end *x, uint64_t i)
{
    return i == 0 ? x->xid : loch_get_u32(x->subxacts + (size_t)(i - 1) * 4);
}

/* How many xids from the i-th on lie on one page: PostgreSQL gives subtransactions in ascending
 * order. */
static uint64_t tree_run(const struct loch_xact_end *x, uint64_t i, uint32_t per_page)
{
    uint64_t n = 1, total = (uint64_t)x->subxact_count + 1;

    while (i + n < total && tree_xid(x, i + n) / per_page == tree_xid(x, i) / per_page)
        n++;
    return n;
}

static void write_run(struct loch_writer *w, const struct loch_xact_end *x, uint64_t i, uint64_t n,
                      uint32_t per_page)
{
    for (uint64_t k = i; k < i + n; k++)
        loch_write_u16(w, (uint16_t)(tree_xid(x, k) % per_page));
}

static LOCH_STATUS add_status(struct loch_effects *list, const struct loch_xact_end *x)
{
    uint64_t total = (uint64_t)x->subxact_count + 1, n;

    for (uint64_t i = 0; i < total; i += n) {
        struct effect_op op;

        n = tree_run(x, i, LOCH_XIDS_PER_XACT_PAGE);
        effect_op_begin(list, &op);
        loch_write_u8(&op.w, LOCH_SLRU_XACT_STATUS);
        loch_write_u8(&op.w, x->committed ? LOCH_XACT_COMMITTED : LOCH_XACT_ABORTED);
        write_run(&op.w, x, i, n, LOCH_XIDS_PER_XACT_PAGE);
        LOCH_TRY(effect_op_end_slru(list, &op, LOCH_SLRU_XACT,
                                    tree_xid(x, i) / LOCH_XIDS_PER_XACT_PAGE));
    }
    return LOCH_OK;
}

static LOCH_STATUS add_commit_ts(struct loch_effects *list, const struct loch_xact_end *x,
                                 uint16_t origin)
{
    uint64_t total = (uint64_t)x->subxact_count + 1, n;
    int64_t time_us = x->has_origin ? x->origin_time_us : x->time_us;

    for (uint64_t i = 0; i < total; i += n) {
        struct effect_op op;

        n = tree_run(x, i, LOCH_XIDS_PER_COMMIT_TS_PAGE);
        effect_op_begin(list, &op);
        loch_write_u8(&op.w, LOCH_SLRU_COMMIT_TS_SET);
        loch_write_u64(&op.w, (uint64_t)time_us);
        loch_write_u16(&op.w, origin);
        write_run(&op.w, x, i, n, LOCH_XIDS_PER_COMMIT_TS_PAGE);
        LOCH_TRY(effect_op_end_slru(list, &op, LOCH_SLRU_COMMIT_TS,
                                    tree_xid(x, i) / LOCH_XIDS_PER_COMMIT_TS_PAGE));
    }
    return LOCH_OK;
}

/* How far the origin has been applied, where the record has one that is tracked. */
static LOCH_STATUS add_origin(struct loch_effects *list, const struct effect_source *src,
                              loch_lsn remote_lsn)
{
    const uint16_t origin = src->record->origin;
    struct loch_effect *e = NULL;

    if (origin == 0 || origin == V15_REPLORIGIN_DO_NOT_REPLICATE)
        return LOCH_OK;
    LOCH_TRY(effect_add(list, LOCH_EFFECT_ORIGIN_SET, &e));
    e->origin.origin = origin;
    e->origin.remote_lsn = remote_lsn;
    e->origin.local_lsn = src->end;
    return LOCH_OK;
}

static LOCH_STATUS effects_of_end(struct loch_effects *list, const struct effect_source *src)
{
    struct loch_xact_end x;
    struct loch_effect *e = NULL;

    LOCH_TRY(loch_xact_end_parse(src->record, &x));
    LOCH_TRY(add_status(list, &x));
    if (x.committed && src->before->parameters.track_commit_timestamp)
        LOCH_TRY(add_commit_ts(list, &x, src->record->origin));
    if (x.has_origin)
        LOCH_TRY(add_origin(list, src, x.origin_lsn));
    for (uint32_t i = 0; i < x.rel_count; i++) {
        const uint8_t *r = x.rels + (size_t)i * 12;
        struct loch_rel rel = {loch_get_u32(r), loch_get_u32(r + 4), loch_get_u32(r + 8)};
        LOCH_TRY(effect_add_rel(list, LOCH_EFFECT_REL_DROP, rel, 0, 0));
    }
    if (x.prepared) {
        LOCH_TRY(effect_add(list, LOCH_EFFECT_TWOPHASE_DROP, &e));
        e->twophase.xid = x.xid;
    }
    LOCH_TRY(effect_add(list, LOCH_EFFECT_XACT_END, &e));
    e->xact.xid = x.xid;
    e->xact.committed = x.committed;
    e->xact.time_us = x.time_us;
    return LOCH_OK;
}

/* The state file is the record's data and its CRC. */
static LOCH_STATUS effects_of_prepare(struct loch_effects *list, const struct effect_source *src)
{
    struct loch_slice state = src->record->main_data;
    struct loch_xact_prepare prepare;
    struct effect_op op;

    LOCH_TRY(loch_xact_prepare_parse(state, &prepare));
    effect_op_begin(list, &op);
    loch_write_bytes(&op.w, state.data, state.len);
    loch_write_u32(&op.w,
                   loch_crc32c_finish(loch_crc32c_update(LOCH_CRC32C_INIT, state.data, state.len)));
    LOCH_TRY(effect_op_end_twophase(list, &op, prepare.xid));
    return add_origin(list, src, prepare.origin_lsn);
}

static LOCH_STATUS unknown_kind(const struct loch_wal_record *record)
{
    return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a %s record of unknown kind %02X",
                     loch_rmgr_name(record->rmid), record->info);
}

LOCH_STATUS effects_of_xact(struct loch_effects *list, const struct effect_source *src)
{
    switch (src->record->info & V15_XACT_OPMASK) {
    case V15_XACT_COMMIT:
    case V15_XACT_ABORT:
    case V15_XACT_COMMIT_PREPARED:
    case V15_XACT_ABORT_PREPARED:
        return effects_of_end(list, src);
    case V15_XACT_PREPARE:
        return effects_of_prepare(list, src);
    case V15_XACT_ASSIGNMENT:
    case V15_XACT_INVALIDATIONS:
        return LOCH_OK;
    default:
        return unknown_kind(src->record);
    }
}

/* Main data that must hold at least n bytes. */
static LOCH_STATUS want(const struct effect_source *src, size_t n, const uint8_t **data)
{
    if (src->record->main_data.len < n)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a %s record of kind %02X has %zu bytes of data",
                         loch_rmgr_name(src->record->rmid), src->record->info,
                         src->record->main_data.len);
    *data = src->record->main_data.data;
    return LOCH_OK;
}

static LOCH_STATUS add_cut(struct loch_effects *list, uint8_t slru, uint32_t page)
{
    return effect_add_slru_cut(list, slru, (struct loch_slru_cut){.page = page});
}

LOCH_STATUS effects_of_clog(struct loch_effects *list, const struct effect_source *src)
{
    const uint8_t *d = NULL;

    LOCH_TRY(want(src, 4, &d));
    switch (src->info) {
    case V15_CLOG_ZEROPAGE:
        return effect_add_slru_zero(list, LOCH_SLRU_XACT, loch_get_u32(d));
    case V15_CLOG_TRUNCATE:
        return add_cut(list, LOCH_SLRU_XACT, loch_get_u32(d));
    default:
        return unknown_kind(src->record);
    }
}

LOCH_STATUS effects_of_commit_ts(struct loch_effects *list, const struct effect_source *src)
{
    const uint8_t *d = NULL;

    LOCH_TRY(want(src, 4, &d));
    switch (src->info) {
    case V15_COMMIT_TS_ZEROPAGE:
        return effect_add_slru_zero(list, LOCH_SLRU_COMMIT_TS, loch_get_u32(d));
    case V15_COMMIT_TS_TRUNCATE:
        return add_cut(list, LOCH_SLRU_COMMIT_TS, loch_get_u32(d));
    default:
        return unknown_kind(src->record);
    }
}

static void write_offset(struct effect_op *op, uint32_t multi, uint32_t offset)
{
    loch_write_u16(&op->w, (uint16_t)(multi % LOCH_OFFSETS_PER_PAGE));
    loch_write_u32(&op->w, offset);
}

/* Newer minors set the next multixact's offset too; replaying older WAL that way is what PostgreSQL
 * itself does. Multixact 0 and offset 0 are skipped where the counters wrap. */
static LOCH_STATUS add_offsets(struct loch_effects *list, uint32_t multi, uint32_t offset,
                               uint32_t count)
{
    uint32_t next = multi + 1 == 0 ? 1 : multi + 1;
    uint32_t next_offset = offset + count == 0 ? 1 : offset + count;
    uint32_t page = multi / LOCH_OFFSETS_PER_PAGE;
    struct effect_op op;

    effect_op_begin(list, &op);
    loch_write_u8(&op.w, LOCH_SLRU_OFFSET_SET);
    write_offset(&op, multi, offset);
    if (next / LOCH_OFFSETS_PER_PAGE != page) {
        LOCH_TRY(effect_op_end_slru(list, &op, LOCH_SLRU_MULTI_OFFSETS, page));
        page = next / LOCH_OFFSETS_PER_PAGE;
        effect_op_begin(list, &op);
        loch_write_u8(&op.w, LOCH_SLRU_OFFSET_SET);
    }
    write_offset(&op, next, next_offset);
    return effect_op_end_slru(list, &op, LOCH_SLRU_MULTI_OFFSETS, page);
}

static LOCH_STATUS add_members(struct loch_effects *list, uint32_t offset, uint32_t count,
                               const uint8_t *members)
{
    uint32_t i = 0;

    while (i < count) {
        uint32_t page = (offset + i) / LOCH_MEMBERS_PER_PAGE;
        struct effect_op op;

        effect_op_begin(list, &op);
        loch_write_u8(&op.w, LOCH_SLRU_MEMBER_SET);
        for (; i < count && (offset + i) / LOCH_MEMBERS_PER_PAGE == page; i++) {
            const uint8_t *m = members + (size_t)i * 8;
            loch_write_u16(&op.w, (uint16_t)((offset + i) % LOCH_MEMBERS_PER_PAGE));
            loch_write_u8(&op.w, m[4]);
            loch_write_u32(&op.w, loch_get_u32(m));
        }
        LOCH_TRY(effect_op_end_slru(list, &op, LOCH_SLRU_MULTI_MEMBERS, page));
    }
    return LOCH_OK;
}

static LOCH_STATUS effects_of_create_id(struct loch_effects *list, const struct effect_source *src)
{
    uint32_t count;
    const uint8_t *d = NULL;

    LOCH_TRY(want(src, 12, &d));
    count = loch_get_u32(d + 8);
    if (count > (src->record->main_data.len - 12) / 8)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a multixact of %u members is cut short", count);
    for (uint32_t i = 0; i < count; i++)
        if (loch_get_u32(d + 12 + (size_t)i * 8 + 4) > V15_MULTIXACT_MAX_STATUS)
            return LOCH_FAIL(LOCH_E_CORRUPT, "a multixact member of unknown status");
    LOCH_TRY(add_offsets(list, loch_get_u32(d), loch_get_u32(d + 4), count));
    return add_members(list, loch_get_u32(d + 4), count, d + 12);
}

/* Most truncations of multixacts free no file of members. */
static LOCH_STATUS cut_members(struct loch_effects *list, uint32_t start, uint32_t end)
{
    const struct loch_slru_cut cut = {.page = end / LOCH_MEMBERS_PER_PAGE,
                                      .ranged = true,
                                      .start = start / LOCH_MEMBERS_PER_PAGE};

    if (loch_slru_range_is_empty(cut.start, cut.page))
        return LOCH_OK;
    return effect_add_slru_cut(list, LOCH_SLRU_MULTI_MEMBERS, cut);
}

LOCH_STATUS effects_of_multixact(struct loch_effects *list, const struct effect_source *src)
{
    uint32_t oldest;
    const uint8_t *d = NULL;

    LOCH_TRY(want(src, 4, &d));
    switch (src->info) {
    case V15_MULTIXACT_ZERO_OFF_PAGE:
        return effect_add_slru_zero(list, LOCH_SLRU_MULTI_OFFSETS, loch_get_u32(d));
    case V15_MULTIXACT_ZERO_MEM_PAGE:
        return effect_add_slru_zero(list, LOCH_SLRU_MULTI_MEMBERS, loch_get_u32(d));
    case V15_MULTIXACT_CREATE_ID:
        return effects_of_create_id(list, src);
    case V15_MULTIXACT_TRUNCATE_ID:
        LOCH_TRY(want(src, 20, &d));
        LOCH_TRY(cut_members(list, loch_get_u32(d + 12), loch_get_u32(d + 16)));
        /* One multixact back, as PostgreSQL does; 0 is skipped. */
        oldest = loch_get_u32(d + 8);
        oldest = oldest <= 1 ? UINT32_MAX : oldest - 1;
        return add_cut(list, LOCH_SLRU_MULTI_OFFSETS, oldest / LOCH_OFFSETS_PER_PAGE);
    default:
        return unknown_kind(src->record);
    }
}
