/* Test helper: builds the bytes of one record, block references and all. */
#ifndef LOCH_TESTS_PG_RECORD_BUILDER_H
#define LOCH_TESTS_PG_RECORD_BUILDER_H

#include "loch/base/buf.h"
#include "loch/pg/key.h"
#include "loch/pg/wal_record.h"

#include <stdlib.h>

struct builder {
    struct loch_buf headers, payload, out;
    struct loch_writer h, p;
    uint8_t rmid, info;
    uint32_t xid;
};

static void build_begin(struct builder *b, uint8_t rmid, uint8_t info, uint32_t xid)
{
    memset(b, 0, sizeof *b);
    loch_writer_init(&b->h, &b->headers);
    loch_writer_init(&b->p, &b->payload);
    b->rmid = rmid;
    b->info = info;
    b->xid = xid;
}

/* flags: HAS_DATA and so on are the caller's; an image without a hole when image is not NULL. */
static void build_block(struct builder *b, uint8_t id, struct loch_rel rel, uint8_t fork,
                        uint32_t block, uint8_t flags, const uint8_t *image, bool apply)
{
    loch_write_u8(&b->h, id);
    loch_write_u8(&b->h, (uint8_t)(fork | flags | (image != NULL ? 0x10 : 0)));
    loch_write_u16(&b->h, 0);
    if (image != NULL) {
        loch_write_u16(&b->h, 8192);
        loch_write_u16(&b->h, 0);
        loch_write_u8(&b->h, apply ? 2 : 0);
        loch_write_bytes(&b->p, image, 8192);
    }
    if ((flags & 0x80) == 0) {
        loch_write_u32(&b->h, rel.spc);
        loch_write_u32(&b->h, rel.db);
        loch_write_u32(&b->h, rel.rel);
    }
    loch_write_u32(&b->h, block);
}

static struct loch_slice build_end(struct builder *b, const void *main_data, uint32_t len)
{
    struct loch_writer w;

    if (len > 0 && len < 256) {
        loch_write_u8(&b->h, 255);
        loch_write_u8(&b->h, (uint8_t)len);
    } else if (len > 0) {
        loch_write_u8(&b->h, 254);
        loch_write_u32(&b->h, len);
    }
    loch_write_bytes(&b->p, main_data, len);
    loch_writer_init(&w, &b->out);
    loch_write_u32(&w, (uint32_t)(24 + b->headers.len + b->payload.len));
    loch_write_u32(&w, b->xid);
    loch_write_u64(&w, 0x1000000);
    loch_write_u8(&w, b->info);
    loch_write_u8(&w, b->rmid);
    loch_write_zeros(&w, 6);
    loch_write_bytes(&w, b->headers.data, b->headers.len);
    loch_write_bytes(&w, b->payload.data, b->payload.len);
    return loch_buf_slice(&b->out);
}

static void build_fini(struct builder *b)
{
    loch_buf_fini(&b->headers);
    loch_buf_fini(&b->payload);
    loch_buf_fini(&b->out);
}

#endif
