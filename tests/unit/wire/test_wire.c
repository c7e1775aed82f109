/* Both codecs: every message round trips; every truncation and every trailing byte is refused;
 * absurd lengths and values are refused without reading beyond the payload. */
#include "golden.h"

#include "loch/base/frame.h"
#include "loch/wire/packed_page.h"
#include "loch/wire/page.h"
#include "loch/wire/wal.h"

#include <stdio.h>
#include <stdlib.h>

static struct loch_term_start starts[2] = {{3, 0x1000}, {5, 0x2008}};
static const struct loch_id id_a = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const struct loch_id id_b = {{0xff, 0xee}};
static uint8_t page_bytes[LOCH_PAGE_BYTES];
static struct loch_buf golden_bytes;

static struct loch_slice payload_of(const struct loch_buf *buf, uint8_t want_type)
{
    bool found = false;
    uint8_t type = 0;
    size_t consumed = 0;
    struct loch_slice payload = {0};
    assert_ok(loch_frame_next(loch_buf_slice(buf), &found, &type, &payload, &consumed));
    assert_true(found);
    assert_int_equal(type, want_type);
    assert_int_equal(consumed, buf->len);
    return payload;
}

/* A copy in memory of exactly its size, so that a sanitizer sees any read beyond it. */
static struct loch_slice exact(struct loch_slice s, size_t len)
{
    uint8_t *p = malloc(len > 0 ? len : 1);
    assert_non_null(p);
    for (size_t i = 0; i < len; i++)
        p[i] = i < s.len ? s.data[i] : 0;
    return loch_slice_of(p, len);
}

static void release(struct loch_slice s)
{
    union {
        const uint8_t *borrowed;
        void *owned;
    } p = {s.data};
    free(p.owned);
}

/* Encodes, decodes, encodes the decoded again: same bytes. Then every truncation and one byte more;
 * `open_ended` messages end in a blob, so that only cuts of the fixed part can be noticed. */
#define CHECK(encode_, decode_, fini_, type_, fixed_len_, ...)                                     \
    do {                                                                                           \
        struct loch_buf a_ = {0};                                                                  \
        struct loch_buf b_ = {0};                                                                  \
        struct loch_writer w_;                                                                     \
        __typeof__(__VA_ARGS__) m_ = __VA_ARGS__;                                                  \
        __typeof__(m_) got_ = {0};                                                                 \
        loch_writer_init(&w_, &a_);                                                                \
        encode_(&w_, &m_);                                                                         \
        assert_ok(loch_writer_finish(&w_));                                                        \
        struct loch_slice p_ = payload_of(&a_, type_);                                             \
        assert_ok(decode_(p_, &got_));                                                             \
        loch_writer_init(&w_, &b_);                                                                \
        encode_(&w_, &got_);                                                                       \
        assert_ok(loch_writer_finish(&w_));                                                        \
        assert_int_equal(a_.len, b_.len);                                                          \
        assert_memory_equal(a_.data, b_.data, a_.len);                                             \
        assert_ok(loch_buf_append(&golden_bytes, a_.data, a_.len));                                \
        fini_(&got_);                                                                              \
        size_t limit_ = (fixed_len_) > 0 ? (size_t)(fixed_len_) : p_.len;                          \
        for (size_t n_ = 0; n_ < limit_; n_++) {                                                   \
            struct loch_slice cut_ = exact(p_, n_);                                                \
            assert_code(decode_(cut_, &got_), LOCH_E_CORRUPT);                                     \
            release(cut_);                                                                         \
        }                                                                                          \
        if ((fixed_len_) == 0) {                                                                   \
            struct loch_slice more_ = exact(p_, p_.len + 1);                                       \
            assert_code(decode_(more_, &got_), LOCH_E_CORRUPT);                                    \
            release(more_);                                                                        \
        }                                                                                          \
        loch_buf_fini(&a_);                                                                        \
        loch_buf_fini(&b_);                                                                        \
    } while (0)

#define KEEP(m_)         ((void)(m_))
#define DROP_HISTORY(m_) loch_term_history_fini(&(m_)->history)
#define DROP_MEMBERS(m_) loch_membership_fini(&(m_)->membership)
#define WAL(name_, fini_, type_, fixed_, ...)                                                      \
    CHECK(loch_wal_##name_##_encode, loch_wal_##name_##_decode, fini_, type_, fixed_,              \
          (struct loch_wal_##name_)__VA_ARGS__)
#define PAGE(name_, type_, fixed_, ...)                                                            \
    CHECK(loch_page_##name_##_encode, loch_page_##name_##_decode, KEEP, type_, fixed_,             \
          (struct loch_page_##name_)__VA_ARGS__)

static struct loch_member members[] = {
    {.id = {{1}}, .node = {{2}}, .in = LOCH_MEMBER_OLD, .address = "127.0.0.1:7001"},
    {.id = {{3}}, .node = {{2}}, .in = LOCH_MEMBER_NEW, .address = "sk-1.example:7001"}};

/* What no membership can be. */
static void memberships(void **state)
{
    struct loch_membership m = {9, members, 2}, copy = {0};
    struct loch_member bad[2];
    struct loch_buf buf = {0};
    struct loch_writer w;
    struct loch_reader r;

    (void)state;
    assert_ok(loch_membership_copy(&copy, &m));
    assert_int_equal(copy.generation, 9);
    assert_string_equal(copy.members[1].address, "sk-1.example:7001");
    loch_membership_fini(&copy);
    for (int kind = 0; kind < 5; kind++) {
        memcpy(bad, members, sizeof bad);
        m = (struct loch_membership){9, bad, 2};
        if (kind == 0)
            bad[1].id = bad[0].id; /* twice */
        else if (kind == 1)
            bad[1].in = LOCH_MEMBER_OLD; /* no new set */
        else if (kind == 2)
            bad[0].in = 4;
        else if (kind == 3)
            bad[0].address[3] = '\n';
        else
            m.generation = 0; /* knows nobody, and yet members */
        buf.len = 0;
        loch_writer_init(&w, &buf);
        loch_write_membership(&w, &m);
        assert_ok(loch_writer_finish(&w));
        loch_reader_init(&r, loch_buf_slice(&buf));
        assert_code(loch_read_membership(&r, &copy), LOCH_E_CORRUPT);
    }
    loch_buf_fini(&buf);
    char longest[LOCH_MEMBER_ADDRESS_BYTES];
    memset(longest, 'x', sizeof longest);
    assert_true(loch_member_address_valid(loch_slice_of(longest, sizeof longest - 1)));
    assert_false(loch_member_address_valid(loch_slice_of(longest, sizeof longest)));
    assert_true(loch_member_address_valid(loch_slice_of("[::1]:7001", 10)));
    assert_false(loch_member_address_valid(loch_slice_of("a b:7001", 8)));
    assert_false(loch_member_address_valid(loch_slice_of("a\x7f:1", 4)));
    assert_false(loch_member_address_valid(loch_slice_of("\xc3\xa9:1", 4)));
}

static void wal_messages(void **state)
{
    (void)state;
    WAL(hello, KEEP, LOCH_WAL_HELLO, 0, {4, id_a, id_b, 7, UINT64_MAX, 150020, 16u << 20, id_b});
    WAL(hello, KEEP, LOCH_WAL_HELLO, 0, {2, id_a, id_b, 7, UINT64_MAX, 150020, 16u << 20, {{0}}});
    WAL(hello_reply, KEEP, LOCH_WAL_HELLO_REPLY, 0, {id_a, 1, 2, 3, 4, 5, 6});
    WAL(vote, KEEP, LOCH_WAL_VOTE, 0, {1, 2, 3});
    WAL(vote_reply, DROP_HISTORY, LOCH_WAL_VOTE_REPLY, 0, {true, 1, 2, 3, 4, 5, 6, {starts, 2}});
    WAL(vote_reply, DROP_HISTORY, LOCH_WAL_VOTE_REPLY, 0, {false, 1, 2, 3, 4, 5, 6, {NULL, 0}});
    WAL(elected, DROP_HISTORY, LOCH_WAL_ELECTED, 0, {5, 1, {starts, 2}});
    WAL(elected_reply, KEEP, LOCH_WAL_ELECTED_REPLY, 0, {5, 6, 7});
    WAL(append, KEEP, LOCH_WAL_APPEND, 40, {1, 2, 0x1000, 4, 5, {page_bytes, 100}});
    WAL(append, KEEP, LOCH_WAL_APPEND, 40, {1, 2, 0x1000, 4, 5, {NULL, 0}});
    WAL(append_reply, KEEP, LOCH_WAL_APPEND_REPLY, 0, {1, 2, 3, 4, 5, 6, 7, 8, 9});
    WAL(fenced, KEEP, LOCH_WAL_FENCED, 0, {1, 2, 3});
    WAL(pull, KEEP, LOCH_WAL_PULL, 0, {1, id_a, id_b, LOCH_PULL_FLUSHED, 3, 5, 4});
    WAL(pull_data, KEEP, LOCH_WAL_PULL_DATA, 8, {9, {page_bytes, 77}});
    WAL(pull_state, loch_wal_pull_state_fini, LOCH_WAL_PULL_STATE, 0,
        {1, 7, 2, 3, 4, 5, 6, {starts, 2}, {9, members, 2}});
    WAL(pull_state, loch_wal_pull_state_fini, LOCH_WAL_PULL_STATE, 0,
        {1, 7, 2, 3, 4, 5, 6, {starts, 2}, {0, NULL, 0}});
    const struct loch_slice key = {page_bytes, 48};
    WAL(members, DROP_MEMBERS, LOCH_WAL_MEMBERS, 0,
        {{9, members, 2}, {{key, key}, {{NULL, 0}, {NULL, 0}}}});
    WAL(keys, KEEP, LOCH_WAL_KEYS, 0, {2, {{key, key}, {key, key}}});
    WAL(pull_feedback, KEEP, LOCH_WAL_PULL_FEEDBACK, 0, {1, 2, 3});
    WAL(pull_positions, KEEP, LOCH_WAL_PULL_POSITIONS, 0, {5, 4});
    CHECK(loch_wire_error_encode, loch_wire_error_decode, KEEP, LOCH_WAL_ERROR, 0,
          (struct loch_wire_error){5, {(const uint8_t *)"why", 3}});
}

static void page_messages(void **state)
{
    (void)state;
    PAGE(hello, LOCH_PAGE_HELLO, 0, {1, id_a, id_b, 3, 4});
    PAGE(hello_reply, LOCH_PAGE_HELLO_REPLY, 0, {3, 4});
    PAGE(get, LOCH_PAGE_GET, 0, {1, {LOCH_LSN_MAX, 3}, {1663, 5, 16384}, LOCH_FORK_VM, 77});
    PAGE(get_reply, LOCH_PAGE_GET_REPLY, 0, {1, 2, {page_bytes, LOCH_PAGE_BYTES}});
    PAGE(get_reply_packed, LOCH_PAGE_GET_REPLY_PACKED, 0, {1, 2, {page_bytes, 700}});
    PAGE(rel_size, LOCH_PAGE_REL_SIZE, 0, {1, {2, 3}, {1663, 5, 16384}, LOCH_FORK_INIT});
    PAGE(rel_size_reply, LOCH_PAGE_REL_SIZE_REPLY, 0, {1, true, 9});
    PAGE(db_size, LOCH_PAGE_DB_SIZE, 0, {1, {2, 3}, 0, 5});
    PAGE(db_size_reply, LOCH_PAGE_DB_SIZE_REPLY, 0, {1, UINT64_MAX});
    PAGE(status, LOCH_PAGE_STATUS, 0, {1});
    PAGE(status_reply, LOCH_PAGE_STATUS_REPLY, 0, {1, 2, 3, 4});
    PAGE(basebackup, LOCH_PAGE_BASEBACKUP, 0, {1, 2, 3, LOCH_BASEBACKUP_FULL});
    PAGE(basebackup_data, LOCH_PAGE_BASEBACKUP_DATA, 8, {1, {page_bytes, 512}});
    PAGE(basebackup_zeros, LOCH_PAGE_BASEBACKUP_ZEROS, 0, {1, 4096});
    PAGE(basebackup_end, LOCH_PAGE_BASEBACKUP_END, 0, {1, 2});
    PAGE(error, LOCH_PAGE_ERROR, 0, {1, 2, {(const uint8_t *)"gone", 4}});
}

/* A page that packs well comes out as it went in; others are not packed; any other bytes are no
 * page. */
static void packed_pages(void **state)
{
    uint8_t page[LOCH_PAGE_BYTES], out[LOCH_PAGE_BYTES], packed[LOCH_PACKED_PAGE_MAX_BYTES];
    uint32_t random = 1;
    (void)state;
    for (size_t i = 0; i < sizeof page; i++)
        page[i] = i % 128 < 100 ? ' ' : (uint8_t)(i / 128);
    const size_t len = loch_page_pack(page, packed);
    assert_in_range(len, 1, 2000);
    assert_ok(loch_page_unpack(loch_slice_of(packed, len), out));
    assert_memory_equal(out, page, sizeof page);
    for (size_t cut = 0; cut < len; cut++) {
        const struct loch_slice part = exact(loch_slice_of(packed, len), cut);
        assert_int_equal(loch_page_unpack(part, out).code, LOCH_E_CORRUPT);
        release(part);
    }
    for (size_t i = 0; i < sizeof page; i++) {
        random = random * 1103515245u + 12345u;
        page[i] = (uint8_t)(random >> 16);
    }
    assert_int_equal(loch_page_pack(page, packed), 0);
    assert_int_equal(loch_page_unpack(loch_slice_of(page, sizeof page), out).code, LOCH_E_CORRUPT);
}

static void field_values(void **state)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    struct loch_page_get got = {0};
    struct loch_page_get m = {7, {LOCH_LSN_MAX, 0x30}, {1663, 5, 16384}, LOCH_FORK_FSM, 99};
    (void)state;
    loch_writer_init(&w, &buf);
    loch_page_get_encode(&w, &m);
    assert_ok(loch_page_get_decode(payload_of(&buf, LOCH_PAGE_GET), &got));
    assert_int_equal(got.request_id, 7);
    assert_true(got.at.request_lsn == LOCH_LSN_MAX);
    assert_int_equal(got.at.not_modified_since, 0x30);
    assert_int_equal(got.rel.spc, 1663);
    assert_int_equal(got.rel.db, 5);
    assert_int_equal(got.rel.rel, 16384);
    assert_int_equal(got.fork, LOCH_FORK_FSM);
    assert_int_equal(got.block, 99);
    loch_buf_fini(&buf);

    struct loch_wal_append a = {1, 2, 3, 4, 6, {page_bytes, 5}};
    struct loch_wal_append b = {0};
    loch_writer_init(&w, &buf);
    loch_wal_append_encode(&w, &a);
    assert_ok(loch_wal_append_decode(payload_of(&buf, LOCH_WAL_APPEND), &b));
    assert_int_equal(b.term, 1);
    assert_int_equal(b.generation, 2);
    assert_int_equal(b.begin, 3);
    assert_int_equal(b.commit_lsn, 4);
    assert_int_equal(b.stamp_ms, 6);
    assert_int_equal(b.bytes.len, 5);
    loch_buf_fini(&buf);
}

/* When an answer was given: never later than now, and nothing that no APPEND was stamped with. */
static void said(void **state)
{
    struct loch_wal_append_reply m = {.echo_ms = 100, .since_ms = 7};
    (void)state;
    assert_int_equal(loch_wal_said_ms(&m, 1000), 107);
    assert_int_equal(loch_wal_said_ms(&m, 107), 107);
    assert_int_equal(loch_wal_said_ms(&m, 103), 103);
    assert_int_equal(loch_wal_said_ms(&m, 99), 0);
    m.since_ms = UINT32_MAX;
    assert_int_equal(loch_wal_said_ms(&m, 1000), 1000);
    m.echo_ms = UINT64_MAX;
    assert_int_equal(loch_wal_said_ms(&m, UINT64_MAX - 1), 0);
    m.echo_ms = 0;
    assert_int_equal(loch_wal_said_ms(&m, 1000), 0);
}

/* Golden bytes: every message of the two tests before, in their order. The layout of a message
 * never changes silently. LOCH_GOLDEN_WRITE=1 writes the file anew. */
static void golden_file(void **state)
{
    (void)state;
    is_golden(golden_bytes, "messages.bin");
    golden_bytes = (struct loch_buf){0};
}

/* One message in full, so that a reader of this file sees a layout. */
static void golden(void **state)
{
    static const uint8_t want[] = {42, 0, 0, 0, LOCH_PAGE_GET,
                                   1,  0, 0, 0, 0,
                                   0,  0, 0, 2, 0,
                                   0,  0, 0, 0, 0,
                                   0,  3, 0, 0, 0,
                                   0,  0, 0, 0, 4,
                                   0,  0, 0, 5, 0,
                                   0,  0, 6, 0, 0,
                                   0,  1, 8, 0, 0,
                                   0};
    struct loch_buf buf = {0};
    struct loch_writer w;
    (void)state;
    loch_writer_init(&w, &buf);
    loch_page_get_encode(&w, &(struct loch_page_get){1, {2, 3}, {4, 5, 6}, 1, 8});
    assert_int_equal(buf.len, sizeof want);
    assert_memory_equal(buf.data, want, sizeof want);
    loch_buf_fini(&buf);
}

/* Encodes m, overwrites one byte of the payload, wants a refusal. */
#define REFUSED(kind_, name_, offset_, value_, ...)                                                \
    do {                                                                                           \
        struct loch_buf b_ = {0};                                                                  \
        struct loch_writer w_;                                                                     \
        struct loch_##kind_##_##name_ got_ = {0};                                                  \
        loch_writer_init(&w_, &b_);                                                                \
        loch_##kind_##_##name_##_encode(&w_, &(struct loch_##kind_##_##name_)__VA_ARGS__);         \
        b_.data[LOCH_FRAME_HEADER_BYTES + (offset_)] = (value_);                                   \
        assert_code(                                                                               \
            loch_##kind_##_##name_##_decode(loch_slice_of(b_.data + LOCH_FRAME_HEADER_BYTES,       \
                                                          b_.len - LOCH_FRAME_HEADER_BYTES),       \
                                            &got_),                                                \
            LOCH_E_CORRUPT);                                                                       \
        loch_buf_fini(&b_);                                                                        \
    } while (0)

static void absurd_values(void **state)
{
    (void)state;
    REFUSED(page, get, 36, 4, {1, {2, 3}, {4, 5, 6}, 1, 8});     /* no such fork */
    REFUSED(page, rel_size, 36, 200, {1, {2, 3}, {4, 5, 6}, 1}); /* no such fork */
    REFUSED(page, rel_size_reply, 8, 2, {1, true, 9});           /* not a bool */
    REFUSED(page, basebackup, 24, 2, {1, 2, 3, 0});              /* unknown flag */
    REFUSED(page, error, 15, 0xff, {1, 2, {page_bytes, 4}});     /* text of 4 GB */
    REFUSED(page, error, 13, 0x04, {1, 2, {page_bytes, 4}});     /* text of 1028 bytes */
    REFUSED(page, get_reply_packed, 17, 0,
            {1, 2, {page_bytes, 700}}); /* shorter: no zeros follow */
    REFUSED(page, get_reply_packed, 17, 0x10, {1, 2, {page_bytes, 700}});    /* longer than any */
    REFUSED(page, get_reply_packed, 20 + 701, 1, {1, 2, {page_bytes, 700}}); /* no zero */
    REFUSED(page, get_reply_packed, 16, 0, {1, 2, {page_bytes, 1}});         /* none */
    REFUSED(wal, vote_reply, 0, 2, {true, 1, 2, 3, 4, 5, 6, {starts, 2}});
    REFUSED(wal, vote_reply, 52, 0xff, {true, 1, 2, 3, 4, 5, 6, {starts, 2}}); /* 4 G entries */
    REFUSED(wal, vote_reply, 49, 3, {true, 1, 2, 3, 4, 5, 6, {starts, 2}}); /* 3 entries, 2 there */
    REFUSED(wal, elected, 36, 3, {5, 1, {starts, 2}});    /* terms do not ascend */
    REFUSED(wal, elected, 45, 0x0f, {5, 1, {starts, 2}}); /* starts do not ascend */
    REFUSED(wal, pull, 36, 4, {1, id_a, id_b, LOCH_PULL_FLUSHED, 3, 5, 4});
    /* begin + length overflows */
    REFUSED(wal, append, 23, 0xff, {1, 2, UINT64_MAX >> 8, 4, 5, {page_bytes, 100}});
}

static void absurd_sizes(void **state)
{
    static uint8_t big[LOCH_WAL_CHUNK_BYTES + 64];
    struct loch_wal_append append = {0};
    struct loch_wal_pull_data data = {0};
    struct loch_page_get_reply reply = {0};
    (void)state;
    assert_ok(loch_wal_append_decode(loch_slice_of(big, 40 + LOCH_WAL_CHUNK_BYTES), &append));
    assert_code(loch_wal_append_decode(loch_slice_of(big, 41 + LOCH_WAL_CHUNK_BYTES), &append),
                LOCH_E_CORRUPT);
    assert_code(loch_wal_pull_data_decode(loch_slice_of(big, 9 + LOCH_WAL_CHUNK_BYTES), &data),
                LOCH_E_CORRUPT);
    assert_code(loch_page_get_reply_decode(loch_slice_of(big, 16 + LOCH_PAGE_BYTES + 1), &reply),
                LOCH_E_CORRUPT);
    assert_ok(loch_page_get_reply_decode(loch_slice_of(big, 16 + LOCH_PAGE_BYTES), &reply));
}

/* The answer whose page is written in place is the answer. */
static void page_in_place(void **state)
{
    const struct loch_page_get_reply m = {7, 9, {page_bytes, LOCH_PAGE_BYTES}};
    struct loch_buf copied = {0}, placed = {0};
    struct loch_writer w;
    size_t mark = 0;

    (void)state;
    memset(page_bytes, 0x5a, sizeof page_bytes);
    for (int i = 0; i < 2; i++) {
        loch_writer_init(&w, &copied);
        loch_page_get_reply_encode(&w, &m);
        loch_writer_init(&w, &placed);
        uint8_t *page = loch_page_get_reply_begin(&w, 7, &mark);
        assert_non_null(page);
        memcpy(page, page_bytes, sizeof page_bytes);
        loch_page_get_reply_end(&w, mark, 9);
    }
    assert_int_equal(copied.len, placed.len);
    assert_memory_equal(copied.data, placed.data, copied.len);
    assert_non_null(loch_page_get_reply_begin(&w, 8, &mark)); /* and is taken back */
    assert_int_equal(mark, copied.len);
    memset(page_bytes, 0, sizeof page_bytes);
    loch_buf_fini(&copied);
    loch_buf_fini(&placed);
}

/* A text that is too long is cut, so that the peer can still read the error. */
static void long_error_text(void **state)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    struct loch_page_error page = {1, 2, {page_bytes, 5000}};
    struct loch_wire_error wal = {2, {page_bytes, 5000}};
    (void)state;
    loch_writer_init(&w, &buf);
    loch_page_error_encode(&w, &page);
    assert_ok(loch_page_error_decode(payload_of(&buf, LOCH_PAGE_ERROR), &page));
    assert_int_equal(page.text.len, LOCH_WIRE_ERROR_TEXT_BYTES);
    loch_buf_fini(&buf);
    loch_writer_init(&w, &buf);
    loch_wire_error_encode(&w, &wal);
    assert_ok(loch_wire_error_decode(payload_of(&buf, LOCH_WAL_ERROR), &wal));
    assert_int_equal(wal.text.len, LOCH_WIRE_ERROR_TEXT_BYTES);
    loch_buf_fini(&buf);
}

static void term_histories(void **state)
{
    struct loch_term_history h = {0};
    struct loch_term_history copy = {0};
    (void)state;
    assert_ok(loch_term_history_copy(&copy, &h));
    assert_int_equal(copy.count, 0);
    assert_ok(loch_term_history_add(&h, 1, 10));
    assert_ok(loch_term_history_add(&h, 4, 10));
    assert_ok(loch_term_history_copy(&copy, &h));
    assert_int_equal(copy.count, 2);
    assert_ptr_not_equal(copy.entries, h.entries);
    assert_int_equal(copy.entries[1].term, 4);
    for (uint64_t t = 5; h.count < LOCH_TERM_HISTORY_MAX; t++)
        assert_ok(loch_term_history_add(&h, t, t + 10));
    assert_code(loch_term_history_add(&h, UINT64_MAX, UINT64_MAX), LOCH_E_LIMIT);
    loch_term_history_fini(&copy);
    loch_term_history_fini(&h);
}

/* Bytes of every kind into every decoder: nothing but an answer may come of it. */
static void noise(void **state)
{
    uint64_t x = 88172645463325252u;
    uint8_t bytes[200];
    (void)state;
    for (int round = 0; round < 2000; round++) {
        for (size_t i = 0; i < sizeof bytes; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            bytes[i] = (x & 3) == 0 ? (uint8_t)(x >> 8) : 0;
        }
        struct loch_slice s = exact(loch_slice_of(bytes, sizeof bytes), (size_t)(x >> 32) % 200);
        struct loch_wal_vote_reply reply = {0};
        struct loch_wal_pull_state pull = {0};
        struct loch_page_error error = {0};
        struct loch_page_get get = {0};
        if (loch_is_ok(loch_wal_vote_reply_decode(s, &reply)))
            loch_term_history_fini(&reply.history);
        if (loch_is_ok(loch_wal_pull_state_decode(s, &pull)))
            loch_wal_pull_state_fini(&pull);
        (void)loch_page_error_decode(s, &error).code;
        (void)loch_page_get_decode(s, &get).code;
        release(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wal_messages),
        cmocka_unit_test(page_messages),
        cmocka_unit_test(golden_file),
        cmocka_unit_test(field_values),
        cmocka_unit_test(said),
        cmocka_unit_test(packed_pages),
        cmocka_unit_test(golden),
        cmocka_unit_test(absurd_values),
        cmocka_unit_test(absurd_sizes),
        cmocka_unit_test(page_in_place),
        cmocka_unit_test(long_error_text),
        cmocka_unit_test(term_histories),
        cmocka_unit_test(noise),
        cmocka_unit_test(memberships),
    };
    memset(page_bytes, 0xa5, sizeof page_bytes);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
