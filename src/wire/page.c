/* Holds: encoding of the page service's messages. Invariant: decode(encode(m)) == m, and a decoder
 * accepts nothing but whole, well-formed payloads. */
#include "loch/wire/page.h"

#include "loch/base/check.h"
#include "loch/base/frame.h"
#include "loch/wire/packed_page.h"
#include "loch/wire/wal.h"

#include <assert.h>
#include <string.h>

static_assert((int)LOCH_PAGE_ERROR == (int)LOCH_WAL_ERROR, "one error type for both protocols");

/* Packed pages have lengths of multiples of this. */
#define PACKED_PAD_TO 512u

static void write_at(struct loch_writer *w, const struct loch_page_at *at)
{
    loch_write_u64(w, at->request_lsn);
    loch_write_u64(w, at->not_modified_since);
}

static struct loch_page_at read_at(struct loch_reader *r)
{
    struct loch_page_at at;
    at.request_lsn = loch_read_u64(r);
    at.not_modified_since = loch_read_u64(r);
    return at;
}

static void write_rel(struct loch_writer *w, const struct loch_rel *rel)
{
    loch_write_u32(w, rel->spc);
    loch_write_u32(w, rel->db);
    loch_write_u32(w, rel->rel);
}

static struct loch_rel read_rel(struct loch_reader *r)
{
    struct loch_rel rel;
    rel.spc = loch_read_u32(r);
    rel.db = loch_read_u32(r);
    rel.rel = loch_read_u32(r);
    return rel;
}

static bool read_bool(struct loch_reader *r)
{
    uint8_t v = loch_read_u8(r);
    if (v > 1)
        r->bad = true;
    return v == 1;
}

void loch_page_hello_encode(struct loch_writer *w, const struct loch_page_hello *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_HELLO);
    loch_write_u32(w, m->version);
    loch_write_id(w, &m->tenant);
    loch_write_id(w, &m->timeline);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->compute_epoch);
    loch_frame_end(w, mark);
}

loch_status loch_page_hello_decode(struct loch_slice payload, struct loch_page_hello *out)
{
    struct loch_reader r;
    struct loch_page_hello m = {0};
    loch_reader_init(&r, payload);
    m.version = loch_read_u32(&r);
    m.tenant = loch_read_id(&r);
    m.timeline = loch_read_id(&r);
    m.term = loch_read_u64(&r);
    m.compute_epoch = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "HELLO"));
    *out = m;
    return LOCH_OK;
}

void loch_page_hello_reply_encode(struct loch_writer *w, const struct loch_page_hello_reply *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_HELLO_REPLY);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->last_record_lsn);
    loch_frame_end(w, mark);
}

loch_status loch_page_hello_reply_decode(struct loch_slice payload,
                                         struct loch_page_hello_reply *out)
{
    struct loch_reader r;
    struct loch_page_hello_reply m = {0};
    loch_reader_init(&r, payload);
    m.term = loch_read_u64(&r);
    m.last_record_lsn = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "HELLO_REPLY"));
    *out = m;
    return LOCH_OK;
}

void loch_page_get_encode(struct loch_writer *w, const struct loch_page_get *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_GET);
    loch_write_u64(w, m->request_id);
    write_at(w, &m->at);
    write_rel(w, &m->rel);
    loch_write_u8(w, m->fork);
    loch_write_u32(w, m->block);
    loch_frame_end(w, mark);
}

loch_status loch_page_get_decode(struct loch_slice payload, struct loch_page_get *out)
{
    struct loch_reader r;
    struct loch_page_get m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.at = read_at(&r);
    m.rel = read_rel(&r);
    m.fork = loch_read_u8(&r);
    m.block = loch_read_u32(&r);
    if (m.fork > LOCH_FORK_INIT)
        r.bad = true;
    LOCH_TRY(loch_reader_finish(&r, "GET"));
    *out = m;
    return LOCH_OK;
}

void loch_page_get_reply_encode(struct loch_writer *w, const struct loch_page_get_reply *m)
{
    LOCH_ASSERT(m->page.len == LOCH_PAGE_BYTES);
    size_t mark = loch_frame_begin(w, LOCH_PAGE_GET_REPLY);
    loch_write_u64(w, m->request_id);
    loch_write_u64(w, m->lsn);
    loch_write_bytes(w, m->page.data, m->page.len);
    loch_frame_end(w, mark);
}

uint8_t *loch_page_get_reply_begin(struct loch_writer *w, uint64_t request_id, size_t *mark)
{
    *mark = loch_frame_begin(w, LOCH_PAGE_GET_REPLY);
    loch_write_u64(w, request_id);
    loch_write_u64(w, LOCH_LSN_NONE);
    if (!w->bad && !loch_is_ok(loch_buf_reserve(w->buf, LOCH_PAGE_BYTES)))
        w->bad = true;
    if (w->bad)
        return NULL;
    w->buf->len += LOCH_PAGE_BYTES;
    return w->buf->data + w->buf->len - LOCH_PAGE_BYTES;
}

void loch_page_get_reply_end(struct loch_writer *w, size_t mark, loch_lsn lsn)
{
    loch_put_u64(w->buf->data + w->buf->len - LOCH_PAGE_BYTES - sizeof lsn, lsn);
    loch_frame_end(w, mark);
}

loch_status loch_page_get_reply_decode(struct loch_slice payload, struct loch_page_get_reply *out)
{
    struct loch_reader r;
    struct loch_page_get_reply m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.lsn = loch_read_u64(&r);
    m.page = loch_read_bytes(&r, LOCH_PAGE_BYTES);
    LOCH_TRY(loch_reader_finish(&r, "GET_REPLY"));
    *out = m;
    return LOCH_OK;
}

static const uint8_t zeros[PACKED_PAD_TO];

static size_t padding(size_t len)
{
    return (PACKED_PAD_TO - len % PACKED_PAD_TO) % PACKED_PAD_TO;
}

void loch_page_get_reply_packed_encode(struct loch_writer *w,
                                       const struct loch_page_get_reply_packed *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_GET_REPLY_PACKED);
    loch_write_u64(w, m->request_id);
    loch_write_u64(w, m->lsn);
    loch_write_lp(w, m->packed);
    loch_write_bytes(w, zeros, padding(m->packed.len));
    loch_frame_end(w, mark);
}

loch_status loch_page_get_reply_packed_decode(struct loch_slice payload,
                                              struct loch_page_get_reply_packed *out)
{
    struct loch_reader r;
    struct loch_page_get_reply_packed m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.lsn = loch_read_u64(&r);
    m.packed = loch_read_lp(&r, LOCH_PACKED_PAGE_MAX_BYTES);
    const struct loch_slice pad = loch_read_bytes(&r, padding(m.packed.len));
    if (m.packed.len == 0 || (!r.bad && pad.len > 0 && memcmp(pad.data, zeros, pad.len) != 0))
        r.bad = true;
    LOCH_TRY(loch_reader_finish(&r, "GET_REPLY_PACKED"));
    *out = m;
    return LOCH_OK;
}

void loch_page_rel_size_encode(struct loch_writer *w, const struct loch_page_rel_size *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_REL_SIZE);
    loch_write_u64(w, m->request_id);
    write_at(w, &m->at);
    write_rel(w, &m->rel);
    loch_write_u8(w, m->fork);
    loch_frame_end(w, mark);
}

loch_status loch_page_rel_size_decode(struct loch_slice payload, struct loch_page_rel_size *out)
{
    struct loch_reader r;
    struct loch_page_rel_size m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.at = read_at(&r);
    m.rel = read_rel(&r);
    m.fork = loch_read_u8(&r);
    if (m.fork > LOCH_FORK_INIT)
        r.bad = true;
    LOCH_TRY(loch_reader_finish(&r, "REL_SIZE"));
    *out = m;
    return LOCH_OK;
}

void loch_page_rel_size_reply_encode(struct loch_writer *w,
                                     const struct loch_page_rel_size_reply *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_REL_SIZE_REPLY);
    loch_write_u64(w, m->request_id);
    loch_write_u8(w, m->exists);
    loch_write_u32(w, m->blocks);
    loch_frame_end(w, mark);
}

loch_status loch_page_rel_size_reply_decode(struct loch_slice payload,
                                            struct loch_page_rel_size_reply *out)
{
    struct loch_reader r;
    struct loch_page_rel_size_reply m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.exists = read_bool(&r);
    m.blocks = loch_read_u32(&r);
    LOCH_TRY(loch_reader_finish(&r, "REL_SIZE_REPLY"));
    *out = m;
    return LOCH_OK;
}

void loch_page_db_size_encode(struct loch_writer *w, const struct loch_page_db_size *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_DB_SIZE);
    loch_write_u64(w, m->request_id);
    write_at(w, &m->at);
    loch_write_u32(w, m->spc);
    loch_write_u32(w, m->db);
    loch_frame_end(w, mark);
}

loch_status loch_page_db_size_decode(struct loch_slice payload, struct loch_page_db_size *out)
{
    struct loch_reader r;
    struct loch_page_db_size m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.at = read_at(&r);
    m.spc = loch_read_u32(&r);
    m.db = loch_read_u32(&r);
    LOCH_TRY(loch_reader_finish(&r, "DB_SIZE"));
    *out = m;
    return LOCH_OK;
}

void loch_page_db_size_reply_encode(struct loch_writer *w, const struct loch_page_db_size_reply *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_DB_SIZE_REPLY);
    loch_write_u64(w, m->request_id);
    loch_write_u64(w, m->bytes);
    loch_frame_end(w, mark);
}

loch_status loch_page_db_size_reply_decode(struct loch_slice payload,
                                           struct loch_page_db_size_reply *out)
{
    struct loch_reader r;
    struct loch_page_db_size_reply m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.bytes = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "DB_SIZE_REPLY"));
    *out = m;
    return LOCH_OK;
}

void loch_page_status_encode(struct loch_writer *w, const struct loch_page_status *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_STATUS);
    loch_write_u64(w, m->request_id);
    loch_frame_end(w, mark);
}

loch_status loch_page_status_decode(struct loch_slice payload, struct loch_page_status *out)
{
    struct loch_reader r;
    struct loch_page_status m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "STATUS"));
    *out = m;
    return LOCH_OK;
}

void loch_page_status_reply_encode(struct loch_writer *w, const struct loch_page_status_reply *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_STATUS_REPLY);
    loch_write_u64(w, m->request_id);
    loch_write_u64(w, m->last_record_lsn);
    loch_write_u64(w, m->disk_consistent_lsn);
    loch_write_u64(w, m->remote_consistent_lsn);
    loch_frame_end(w, mark);
}

loch_status loch_page_status_reply_decode(struct loch_slice payload,
                                          struct loch_page_status_reply *out)
{
    struct loch_reader r;
    struct loch_page_status_reply m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.last_record_lsn = loch_read_u64(&r);
    m.disk_consistent_lsn = loch_read_u64(&r);
    m.remote_consistent_lsn = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "STATUS_REPLY"));
    *out = m;
    return LOCH_OK;
}

void loch_page_basebackup_encode(struct loch_writer *w, const struct loch_page_basebackup *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_BASEBACKUP);
    loch_write_u64(w, m->request_id);
    loch_write_u64(w, m->lsn);
    loch_write_u64(w, m->prev_lsn);
    loch_write_u32(w, m->flags);
    loch_frame_end(w, mark);
}

loch_status loch_page_basebackup_decode(struct loch_slice payload, struct loch_page_basebackup *out)
{
    struct loch_reader r;
    struct loch_page_basebackup m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.lsn = loch_read_u64(&r);
    m.prev_lsn = loch_read_u64(&r);
    m.flags = loch_read_u32(&r);
    if ((m.flags & ~(uint32_t)LOCH_BASEBACKUP_FULL) != 0)
        r.bad = true;
    LOCH_TRY(loch_reader_finish(&r, "BASEBACKUP"));
    *out = m;
    return LOCH_OK;
}

void loch_page_basebackup_data_encode(struct loch_writer *w,
                                      const struct loch_page_basebackup_data *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_BASEBACKUP_DATA);
    loch_write_u64(w, m->request_id);
    loch_write_bytes(w, m->bytes.data, m->bytes.len);
    loch_frame_end(w, mark);
}

loch_status loch_page_basebackup_data_decode(struct loch_slice payload,
                                             struct loch_page_basebackup_data *out)
{
    struct loch_reader r;
    struct loch_page_basebackup_data m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.bytes = loch_read_bytes(&r, loch_reader_left(&r));
    LOCH_TRY(loch_reader_finish(&r, "BASEBACKUP_DATA"));
    *out = m;
    return LOCH_OK;
}

void loch_page_basebackup_zeros_encode(struct loch_writer *w,
                                       const struct loch_page_basebackup_zeros *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_BASEBACKUP_ZEROS);
    loch_write_u64(w, m->request_id);
    loch_write_u32(w, m->count);
    loch_frame_end(w, mark);
}

loch_status loch_page_basebackup_zeros_decode(struct loch_slice payload,
                                              struct loch_page_basebackup_zeros *out)
{
    struct loch_reader r;
    struct loch_page_basebackup_zeros m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.count = loch_read_u32(&r);
    if (m.count == 0 || m.count > LOCH_BASEBACKUP_ZEROS_MAX)
        r.bad = true;
    LOCH_TRY(loch_reader_finish(&r, "BASEBACKUP_ZEROS"));
    *out = m;
    return LOCH_OK;
}

void loch_page_basebackup_end_encode(struct loch_writer *w,
                                     const struct loch_page_basebackup_end *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_BASEBACKUP_END);
    loch_write_u64(w, m->request_id);
    loch_write_u64(w, m->checkpoint_end);
    loch_frame_end(w, mark);
}

loch_status loch_page_basebackup_end_decode(struct loch_slice payload,
                                            struct loch_page_basebackup_end *out)
{
    struct loch_reader r;
    struct loch_page_basebackup_end m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.checkpoint_end = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "BASEBACKUP_END"));
    *out = m;
    return LOCH_OK;
}

void loch_page_error_encode(struct loch_writer *w, const struct loch_page_error *m)
{
    size_t mark = loch_frame_begin(w, LOCH_PAGE_ERROR);
    loch_write_u64(w, m->request_id);
    loch_write_u32(w, m->code);
    loch_write_lp(w, loch_wire_error_text(m->text));
    loch_frame_end(w, mark);
}

loch_status loch_page_error_decode(struct loch_slice payload, struct loch_page_error *out)
{
    struct loch_reader r;
    struct loch_page_error m = {0};
    loch_reader_init(&r, payload);
    m.request_id = loch_read_u64(&r);
    m.code = loch_read_u32(&r);
    m.text = loch_read_lp(&r, LOCH_WIRE_ERROR_TEXT_BYTES);
    LOCH_TRY(loch_reader_finish(&r, "ERROR"));
    *out = m;
    return LOCH_OK;
}
