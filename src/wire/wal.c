/* Holds: encoding of the WAL service's messages. Invariant: decode(encode(m)) == m, and a decoder
 * accepts nothing but whole, well-formed payloads. */
#include "loch/wire/wal.h"

#include "loch/base/check.h"
#include "loch/base/frame.h"

#include <stdlib.h>

#define SERVER_KEY_BYTES 1024u
/* Older HELLOs named no pageserver; they are read to be refused by their version. */
#define PAGESERVER_VERSION 3u

void loch_term_history_fini(struct loch_term_history *h)
{
    free(h->entries);
    *h = (struct loch_term_history){0};
}

loch_status loch_term_history_copy(struct loch_term_history *out, const struct loch_term_history *h)
{
    struct loch_term_history copy = {0};

    if (h->count > 0) {
        copy.entries = calloc(h->count, sizeof *copy.entries);
        if (copy.entries == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a term history");
        memcpy(copy.entries, h->entries, h->count * sizeof *copy.entries);
        copy.count = h->count;
    }
    *out = copy;
    return LOCH_OK;
}

loch_status loch_term_history_add(struct loch_term_history *h, uint64_t term, loch_lsn start)
{
    if (h->count >= LOCH_TERM_HISTORY_MAX)
        return LOCH_FAIL(LOCH_E_LIMIT, "a term history has at most %u entries",
                         LOCH_TERM_HISTORY_MAX);
    if (h->count > 0) {
        LOCH_ASSERT(term > h->entries[h->count - 1].term);
        LOCH_ASSERT(start >= h->entries[h->count - 1].start);
    }
    if (h->count >= h->room) {
        const uint32_t room = h->count < 4 ? 4 : 2 * h->count;
        struct loch_term_start *e = reallocarray(h->entries, room, sizeof *e);
        if (e == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a term history");
        h->entries = e;
        h->room = room;
    }
    h->entries[h->count++] = (struct loch_term_start){term, start};
    return LOCH_OK;
}

void loch_write_term_history(struct loch_writer *w, const struct loch_term_history *h)
{
    loch_write_u32(w, h->count);
    for (uint32_t i = 0; i < h->count; i++) {
        loch_write_u64(w, h->entries[i].term);
        loch_write_u64(w, h->entries[i].start);
    }
}

loch_status loch_read_term_history(struct loch_reader *r, struct loch_term_history *out)
{
    uint32_t count = loch_read_u32(r);
    struct loch_term_history h = {0};

    if (count > LOCH_TERM_HISTORY_MAX || loch_reader_left(r) / 16 < count)
        return LOCH_FAIL(LOCH_E_CORRUPT, "term history of %u entries", count);
    if (count > 0) {
        h.entries = calloc(count, sizeof *h.entries);
        if (h.entries == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a term history");
    }
    for (uint32_t i = 0; i < count; i++) {
        h.entries[i].term = loch_read_u64(r);
        h.entries[i].start = loch_read_u64(r);
        if (i > 0 && (h.entries[i].term <= h.entries[i - 1].term ||
                      h.entries[i].start < h.entries[i - 1].start)) {
            free(h.entries);
            return LOCH_FAIL(LOCH_E_CORRUPT, "term history does not ascend at entry %u", i);
        }
    }
    h.count = count;
    *out = h;
    return LOCH_OK;
}

void loch_wal_pull_state_fini(struct loch_wal_pull_state *m)
{
    loch_term_history_fini(&m->history);
    loch_membership_fini(&m->membership);
}

uint64_t loch_wal_said_ms(const struct loch_wal_append_reply *m, uint64_t now_ms)
{
    if (m->echo_ms == 0 || m->echo_ms > now_ms) /* later than now is no stamp of ours */
        return 0;
    return loch_min_u64(now_ms, m->echo_ms + m->since_ms);
}

/* Finishes a decoder that owns a history: the history dies with a bad payload. */
static loch_status finish_with_history(const struct loch_reader *r, const char *what,
                                       struct loch_term_history *h)
{
    loch_status st = loch_reader_finish(r, what);
    if (!loch_is_ok(st))
        loch_term_history_fini(h);
    return st;
}

void loch_wal_hello_encode(struct loch_writer *w, const struct loch_wal_hello *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_HELLO);
    loch_write_u32(w, m->version);
    loch_write_id(w, &m->tenant);
    loch_write_id(w, &m->timeline);
    loch_write_u64(w, m->generation);
    loch_write_u64(w, m->system_id);
    loch_write_u32(w, m->pg_version);
    loch_write_u32(w, m->segment_bytes);
    if (m->version >= PAGESERVER_VERSION)
        loch_write_id(w, &m->pageserver);
    loch_frame_end(w, mark);
}

loch_status loch_wal_hello_decode(struct loch_slice payload, struct loch_wal_hello *out)
{
    struct loch_reader r;
    struct loch_wal_hello m = {0};
    loch_reader_init(&r, payload);
    m.version = loch_read_u32(&r);
    m.tenant = loch_read_id(&r);
    m.timeline = loch_read_id(&r);
    m.generation = loch_read_u64(&r);
    m.system_id = loch_read_u64(&r);
    m.pg_version = loch_read_u32(&r);
    m.segment_bytes = loch_read_u32(&r);
    if (m.version >= PAGESERVER_VERSION)
        m.pageserver = loch_read_id(&r);
    LOCH_TRY(loch_reader_finish(&r, "HELLO"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_hello_reply_encode(struct loch_writer *w, const struct loch_wal_hello_reply *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_HELLO_REPLY);
    loch_write_id(w, &m->member);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->generation);
    loch_write_u64(w, m->min_compute_epoch);
    loch_write_u64(w, m->start_lsn);
    loch_write_u64(w, m->flush_lsn);
    loch_write_u64(w, m->commit_lsn);
    loch_frame_end(w, mark);
}

loch_status loch_wal_hello_reply_decode(struct loch_slice payload, struct loch_wal_hello_reply *out)
{
    struct loch_reader r;
    struct loch_wal_hello_reply m = {0};
    loch_reader_init(&r, payload);
    m.member = loch_read_id(&r);
    m.term = loch_read_u64(&r);
    m.generation = loch_read_u64(&r);
    m.min_compute_epoch = loch_read_u64(&r);
    m.start_lsn = loch_read_u64(&r);
    m.flush_lsn = loch_read_u64(&r);
    m.commit_lsn = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "HELLO_REPLY"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_vote_encode(struct loch_writer *w, const struct loch_wal_vote *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_VOTE);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->compute_epoch);
    loch_write_u64(w, m->generation);
    loch_frame_end(w, mark);
}

loch_status loch_wal_vote_decode(struct loch_slice payload, struct loch_wal_vote *out)
{
    struct loch_reader r;
    struct loch_wal_vote m = {0};
    loch_reader_init(&r, payload);
    m.term = loch_read_u64(&r);
    m.compute_epoch = loch_read_u64(&r);
    m.generation = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "VOTE"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_vote_reply_encode(struct loch_writer *w, const struct loch_wal_vote_reply *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_VOTE_REPLY);
    loch_write_u8(w, m->granted);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->generation);
    loch_write_u64(w, m->flush_lsn);
    loch_write_u64(w, m->commit_lsn);
    loch_write_u64(w, m->start_lsn);
    loch_write_u64(w, m->prev_lsn);
    loch_write_term_history(w, &m->history);
    loch_frame_end(w, mark);
}

loch_status loch_wal_vote_reply_decode(struct loch_slice payload, struct loch_wal_vote_reply *out)
{
    struct loch_reader r;
    struct loch_wal_vote_reply m = {0};
    loch_reader_init(&r, payload);
    uint8_t granted = loch_read_u8(&r);
    m.granted = granted == 1;
    m.term = loch_read_u64(&r);
    m.generation = loch_read_u64(&r);
    m.flush_lsn = loch_read_u64(&r);
    m.commit_lsn = loch_read_u64(&r);
    m.start_lsn = loch_read_u64(&r);
    m.prev_lsn = loch_read_u64(&r);
    LOCH_TRY(loch_read_term_history(&r, &m.history));
    if (granted > 1)
        r.bad = true;
    LOCH_TRY(finish_with_history(&r, "VOTE_REPLY", &m.history));
    *out = m;
    return LOCH_OK;
}

void loch_wal_elected_encode(struct loch_writer *w, const struct loch_wal_elected *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_ELECTED);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->generation);
    loch_write_term_history(w, &m->history);
    loch_frame_end(w, mark);
}

loch_status loch_wal_elected_decode(struct loch_slice payload, struct loch_wal_elected *out)
{
    struct loch_reader r;
    struct loch_wal_elected m = {0};
    loch_reader_init(&r, payload);
    m.term = loch_read_u64(&r);
    m.generation = loch_read_u64(&r);
    LOCH_TRY(loch_read_term_history(&r, &m.history));
    LOCH_TRY(finish_with_history(&r, "ELECTED", &m.history));
    *out = m;
    return LOCH_OK;
}

void loch_wal_elected_reply_encode(struct loch_writer *w, const struct loch_wal_elected_reply *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_ELECTED_REPLY);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->generation);
    loch_write_u64(w, m->flush_lsn);
    loch_frame_end(w, mark);
}

loch_status loch_wal_elected_reply_decode(struct loch_slice payload,
                                          struct loch_wal_elected_reply *out)
{
    struct loch_reader r;
    struct loch_wal_elected_reply m = {0};
    loch_reader_init(&r, payload);
    m.term = loch_read_u64(&r);
    m.generation = loch_read_u64(&r);
    m.flush_lsn = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "ELECTED_REPLY"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_append_encode(struct loch_writer *w, const struct loch_wal_append *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_APPEND);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->generation);
    loch_write_u64(w, m->begin);
    loch_write_u64(w, m->commit_lsn);
    loch_write_u64(w, m->stamp_ms);
    loch_write_bytes(w, m->bytes.data, m->bytes.len);
    loch_frame_end(w, mark);
}

loch_status loch_wal_append_decode(struct loch_slice payload, struct loch_wal_append *out)
{
    struct loch_reader r;
    struct loch_wal_append m = {0};
    loch_reader_init(&r, payload);
    m.term = loch_read_u64(&r);
    m.generation = loch_read_u64(&r);
    m.begin = loch_read_u64(&r);
    m.commit_lsn = loch_read_u64(&r);
    m.stamp_ms = loch_read_u64(&r);
    m.bytes = loch_read_bytes(&r, loch_reader_left(&r));
    if (m.bytes.len > LOCH_WAL_CHUNK_BYTES || m.begin > UINT64_MAX - m.bytes.len)
        r.bad = true;
    LOCH_TRY(loch_reader_finish(&r, "APPEND"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_append_reply_encode(struct loch_writer *w, const struct loch_wal_append_reply *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_APPEND_REPLY);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->generation);
    loch_write_u64(w, m->flush_lsn);
    loch_write_u64(w, m->write_lsn);
    loch_write_u64(w, m->commit_lsn);
    loch_write_u64(w, m->reader_lsn);
    loch_write_u64(w, m->persisted_lsn);
    loch_write_u64(w, m->echo_ms);
    loch_write_u32(w, m->since_ms);
    loch_frame_end(w, mark);
}

loch_status loch_wal_append_reply_decode(struct loch_slice payload,
                                         struct loch_wal_append_reply *out)
{
    struct loch_reader r;
    struct loch_wal_append_reply m = {0};
    loch_reader_init(&r, payload);
    m.term = loch_read_u64(&r);
    m.generation = loch_read_u64(&r);
    m.flush_lsn = loch_read_u64(&r);
    m.write_lsn = loch_read_u64(&r);
    m.commit_lsn = loch_read_u64(&r);
    m.reader_lsn = loch_read_u64(&r);
    m.persisted_lsn = loch_read_u64(&r);
    m.echo_ms = loch_read_u64(&r);
    m.since_ms = loch_read_u32(&r);
    LOCH_TRY(loch_reader_finish(&r, "APPEND_REPLY"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_fenced_encode(struct loch_writer *w, const struct loch_wal_fenced *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_FENCED);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->min_compute_epoch);
    loch_write_u64(w, m->generation);
    loch_frame_end(w, mark);
}

loch_status loch_wal_fenced_decode(struct loch_slice payload, struct loch_wal_fenced *out)
{
    struct loch_reader r;
    struct loch_wal_fenced m = {0};
    loch_reader_init(&r, payload);
    m.term = loch_read_u64(&r);
    m.min_compute_epoch = loch_read_u64(&r);
    m.generation = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "FENCED"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_members_encode(struct loch_writer *w, const struct loch_wal_members *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_MEMBERS);
    loch_write_membership(w, &m->membership);
    for (uint32_t i = 0; i < m->membership.count; i++) {
        loch_write_lp(w, m->keys[i].identity);
        loch_write_lp(w, m->keys[i].psk);
    }
    loch_frame_end(w, mark);
}

loch_status loch_wal_members_decode(struct loch_slice payload, struct loch_wal_members *out)
{
    struct loch_reader r;
    struct loch_wal_members m = {0};
    loch_reader_init(&r, payload);
    LOCH_TRY(loch_read_membership(&r, &m.membership));
    for (uint32_t i = 0; i < m.membership.count; i++) {
        m.keys[i].identity = loch_read_lp(&r, SERVER_KEY_BYTES);
        m.keys[i].psk = loch_read_lp(&r, SERVER_KEY_BYTES);
    }
    loch_status st = loch_reader_finish(&r, "MEMBERS");
    if (!loch_is_ok(st)) {
        loch_membership_fini(&m.membership);
        return st;
    }
    *out = m;
    return LOCH_OK;
}

void loch_wal_keys_encode(struct loch_writer *w, const struct loch_wal_keys *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_KEYS);
    LOCH_ASSERT(m->count > 0 && m->count <= LOCH_WAL_KEYS_MAX);
    loch_write_u8(w, (uint8_t)m->count);
    for (uint32_t i = 0; i < m->count; i++) {
        loch_write_lp(w, m->keys[i].identity);
        loch_write_lp(w, m->keys[i].psk);
    }
    loch_frame_end(w, mark);
}

loch_status loch_wal_keys_decode(struct loch_slice payload, struct loch_wal_keys *out)
{
    struct loch_reader r;
    struct loch_wal_keys m = {0};
    loch_reader_init(&r, payload);
    m.count = loch_read_u8(&r);
    if (m.count == 0 || m.count > LOCH_WAL_KEYS_MAX)
        return LOCH_FAIL(LOCH_E_CORRUPT, "KEYS for %" PRIu32 " servers", m.count);
    for (uint32_t i = 0; i < m.count; i++) {
        m.keys[i].identity = loch_read_lp(&r, SERVER_KEY_BYTES);
        m.keys[i].psk = loch_read_lp(&r, SERVER_KEY_BYTES);
    }
    LOCH_TRY(loch_reader_finish(&r, "KEYS"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_pull_encode(struct loch_writer *w, const struct loch_wal_pull *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_PULL);
    loch_write_u32(w, m->version);
    loch_write_id(w, &m->tenant);
    loch_write_id(w, &m->timeline);
    loch_write_u8(w, m->mode);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->generation);
    loch_write_u64(w, m->from);
    loch_frame_end(w, mark);
}

loch_status loch_wal_pull_decode(struct loch_slice payload, struct loch_wal_pull *out)
{
    struct loch_reader r;
    struct loch_wal_pull m = {0};
    loch_reader_init(&r, payload);
    m.version = loch_read_u32(&r);
    m.tenant = loch_read_id(&r);
    m.timeline = loch_read_id(&r);
    m.mode = loch_read_u8(&r);
    m.term = loch_read_u64(&r);
    m.generation = loch_read_u64(&r);
    m.from = loch_read_u64(&r);
    if (m.mode < LOCH_PULL_COMMITTED || m.mode > LOCH_PULL_LOOK)
        r.bad = true;
    LOCH_TRY(loch_reader_finish(&r, "PULL"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_pull_data_encode(struct loch_writer *w, const struct loch_wal_pull_data *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_PULL_DATA);
    loch_write_u64(w, m->begin);
    loch_write_bytes(w, m->bytes.data, m->bytes.len);
    loch_frame_end(w, mark);
}

loch_status loch_wal_pull_data_decode(struct loch_slice payload, struct loch_wal_pull_data *out)
{
    struct loch_reader r;
    struct loch_wal_pull_data m = {0};
    loch_reader_init(&r, payload);
    m.begin = loch_read_u64(&r);
    m.bytes = loch_read_bytes(&r, loch_reader_left(&r));
    if (m.bytes.len > LOCH_WAL_CHUNK_BYTES || m.begin > UINT64_MAX - m.bytes.len)
        r.bad = true;
    LOCH_TRY(loch_reader_finish(&r, "PULL_DATA"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_pull_state_encode(struct loch_writer *w, const struct loch_wal_pull_state *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_PULL_STATE);
    loch_write_u64(w, m->term);
    loch_write_u64(w, m->promised);
    loch_write_u64(w, m->term_start);
    loch_write_u64(w, m->compute_epoch);
    loch_write_u64(w, m->flush_lsn);
    loch_write_u64(w, m->commit_lsn);
    loch_write_u64(w, m->start_lsn);
    loch_write_term_history(w, &m->history);
    loch_write_membership(w, &m->membership);
    loch_frame_end(w, mark);
}

loch_status loch_wal_pull_state_decode(struct loch_slice payload, struct loch_wal_pull_state *out)
{
    struct loch_reader r;
    struct loch_wal_pull_state m = {0};
    loch_reader_init(&r, payload);
    m.term = loch_read_u64(&r);
    m.promised = loch_read_u64(&r);
    m.term_start = loch_read_u64(&r);
    m.compute_epoch = loch_read_u64(&r);
    m.flush_lsn = loch_read_u64(&r);
    m.commit_lsn = loch_read_u64(&r);
    m.start_lsn = loch_read_u64(&r);
    LOCH_TRY(loch_read_term_history(&r, &m.history));
    loch_status st = loch_read_membership(&r, &m.membership);
    if (loch_is_ok(st))
        st = loch_reader_finish(&r, "PULL_STATE");
    if (!loch_is_ok(st)) {
        loch_wal_pull_state_fini(&m);
        return st;
    }
    *out = m;
    return LOCH_OK;
}

void loch_wal_pull_positions_encode(struct loch_writer *w, const struct loch_wal_pull_positions *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_PULL_POSITIONS);
    loch_write_u64(w, m->flush_lsn);
    loch_write_u64(w, m->commit_lsn);
    loch_frame_end(w, mark);
}

loch_status loch_wal_pull_positions_decode(struct loch_slice payload,
                                           struct loch_wal_pull_positions *out)
{
    struct loch_reader r;
    struct loch_wal_pull_positions m = {0};
    loch_reader_init(&r, payload);
    m.flush_lsn = loch_read_u64(&r);
    m.commit_lsn = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "PULL_POSITIONS"));
    *out = m;
    return LOCH_OK;
}

void loch_wal_pull_feedback_encode(struct loch_writer *w, const struct loch_wal_pull_feedback *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_PULL_FEEDBACK);
    loch_write_u64(w, m->last_record_lsn);
    loch_write_u64(w, m->disk_consistent_lsn);
    loch_write_u64(w, m->remote_consistent_lsn);
    loch_frame_end(w, mark);
}

loch_status loch_wal_pull_feedback_decode(struct loch_slice payload,
                                          struct loch_wal_pull_feedback *out)
{
    struct loch_reader r;
    struct loch_wal_pull_feedback m = {0};
    loch_reader_init(&r, payload);
    m.last_record_lsn = loch_read_u64(&r);
    m.disk_consistent_lsn = loch_read_u64(&r);
    m.remote_consistent_lsn = loch_read_u64(&r);
    LOCH_TRY(loch_reader_finish(&r, "PULL_FEEDBACK"));
    *out = m;
    return LOCH_OK;
}

struct loch_slice loch_wire_error_text(struct loch_slice text)
{
    if (text.len > LOCH_WIRE_ERROR_TEXT_BYTES)
        text.len = LOCH_WIRE_ERROR_TEXT_BYTES;
    return text;
}

void loch_wire_error_encode(struct loch_writer *w, const struct loch_wire_error *m)
{
    size_t mark = loch_frame_begin(w, LOCH_WAL_ERROR);
    loch_write_u32(w, m->code);
    loch_write_lp(w, loch_wire_error_text(m->text));
    loch_frame_end(w, mark);
}

loch_status loch_wire_error_decode(struct loch_slice payload, struct loch_wire_error *out)
{
    struct loch_reader r;
    struct loch_wire_error m = {0};
    loch_reader_init(&r, payload);
    m.code = loch_read_u32(&r);
    m.text = loch_read_lp(&r, LOCH_WIRE_ERROR_TEXT_BYTES);
    LOCH_TRY(loch_reader_finish(&r, "ERROR"));
    *out = m;
    return LOCH_OK;
}
