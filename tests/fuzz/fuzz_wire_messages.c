/* Every decoder of the wire: the first byte chooses it, the rest is the payload. What decodes must
 * encode to the same bytes. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/base/frame.h"
#include "loch/wire/packed_page.h"
#include "loch/wire/page.h"
#include "loch/wire/wal.h"

#include <string.h>

static void same(const struct loch_writer *w, struct loch_slice payload)
{
    LOCH_ASSERT(!w->bad);
    LOCH_ASSERT(w->buf->len == payload.len + LOCH_FRAME_HEADER_BYTES);
    LOCH_ASSERT(payload.len == 0 ||
                memcmp(w->buf->data + LOCH_FRAME_HEADER_BYTES, payload.data, payload.len) == 0);
}

#define KEEP(m_)         ((void)(m_))
#define DROP(m_)         loch_term_history_fini(&(m_)->history)
#define DROP_MEMBERS(m_) loch_membership_fini(&(m_)->membership)
#define TRY(prefix_, name_, fini_)                                                                 \
    do {                                                                                           \
        struct loch_##prefix_##_##name_ m_ = {0};                                                  \
        if (loch_is_ok(loch_##prefix_##_##name_##_decode(payload, &m_))) {                         \
            loch_##prefix_##_##name_##_encode(&w, &m_);                                            \
            same(&w, payload);                                                                     \
            fini_(&m_);                                                                            \
        }                                                                                          \
    } while (0)

static void try_wal(unsigned which, struct loch_writer writer, struct loch_slice payload)
{
    struct loch_writer w = writer;

    switch (which) {
    case 0:
        TRY(wal, hello, KEEP);
        break;
    case 1:
        TRY(wal, hello_reply, KEEP);
        break;
    case 2:
        TRY(wal, vote, KEEP);
        break;
    case 3:
        TRY(wal, vote_reply, DROP);
        break;
    case 4:
        TRY(wal, elected, DROP);
        break;
    case 5:
        TRY(wal, elected_reply, KEEP);
        break;
    case 6:
        TRY(wal, append, KEEP);
        break;
    case 7:
        TRY(wal, append_reply, KEEP);
        break;
    case 8:
        TRY(wal, fenced, KEEP);
        break;
    case 9:
        TRY(wal, pull, KEEP);
        break;
    case 10:
        TRY(wal, pull_data, KEEP);
        break;
    case 11:
        TRY(wal, pull_state, loch_wal_pull_state_fini);
        break;
    case 12:
        TRY(wal, members, DROP_MEMBERS);
        break;
    case 13:
        TRY(wal, keys, KEEP);
        break;
    case 14:
        TRY(wal, pull_feedback, KEEP);
        break;
    default:
        TRY(wal, pull_positions, KEEP);
        break;
    }
}

static void try_unpack(struct loch_slice payload)
{
    static uint8_t page[LOCH_PAGE_BYTES];
    struct loch_page_get_reply_packed m;

    if (loch_is_ok(loch_page_get_reply_packed_decode(payload, &m)))
        (void)loch_page_unpack(m.packed, page).code;
}

static void try_page(unsigned which, struct loch_writer writer, struct loch_slice payload)
{
    struct loch_writer w = writer;

    switch (which) {
    case 0:
        TRY(page, hello, KEEP);
        break;
    case 1:
        TRY(page, hello_reply, KEEP);
        break;
    case 2:
        TRY(page, get, KEEP);
        break;
    case 3:
        TRY(page, get_reply, KEEP);
        break;
    case 4:
        TRY(page, rel_size, KEEP);
        break;
    case 5:
        TRY(page, rel_size_reply, KEEP);
        break;
    case 6:
        TRY(page, db_size, KEEP);
        break;
    case 7:
        TRY(page, db_size_reply, KEEP);
        break;
    case 8:
        TRY(page, status, KEEP);
        break;
    case 9:
        TRY(page, status_reply, KEEP);
        break;
    case 10:
        TRY(page, basebackup, KEEP);
        break;
    case 11:
        TRY(page, basebackup_data, KEEP);
        break;
    case 12:
        TRY(page, basebackup_end, KEEP);
        break;
    case 13:
        TRY(page, basebackup_zeros, KEEP);
        break;
    case 14:
        TRY(page, get_reply_packed, KEEP);
        try_unpack(payload);
        break;
    default:
        TRY(page, error, KEEP);
        break;
    }
}

/* Where a term history or a text has its length, random bytes never fit: help them. */
static void help(uint8_t *payload, size_t len, size_t count_at, size_t entry)
{
    if (len >= count_at + 4)
        loch_put_u32(payload + count_at, (uint32_t)((len - count_at - 4) / entry));
}

/* A packed page's length, and zeros behind it; returns how much of the payload that is. */
static size_t help_packed(uint8_t *payload, size_t len)
{
    if (len < 20 + 512)
        return len;
    const size_t padded = (len - 20) / 512 < 6 ? (len - 20) / 512 * 512 : 6 * 512;
    const size_t packed = padded - payload[16];

    loch_put_u32(payload + 16, (uint32_t)packed);
    memset(payload + 20 + packed, 0, padded - packed);
    return 20 + padded;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t copy[1u << 16];
    struct loch_buf out = {0};
    struct loch_writer w;

    if (size == 0 || size > sizeof copy)
        return 0;
    unsigned which = data[0] % 32;
    size_t len = size - 1;
    memcpy(copy, data + 1, len);
    if ((data[0] & 128) != 0) {
        if (which < 29)
            help(copy, len, which == 3 ? 41 : which == 4 ? 16 : 48, 16);
        if (which == 29)
            len = help_packed(copy, len);
        if (which == 30)
            help(copy, len, 12, 1);
    }
    loch_writer_init(&w, &out);
    if (which < 15 || which == 31)
        try_wal(which, w, loch_slice_of(copy, len));
    else
        try_page(which - 15, w, loch_slice_of(copy, len));
    loch_buf_fini(&out);
    return 0;
}
