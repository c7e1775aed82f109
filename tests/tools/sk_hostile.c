/* A compute with a valid credential that says what no honest one would: each case of the table
 * below is sent to a running safekeeper, on the leader's own connection or on a second one beside
 * it.
 *
 * For each: the answer is the one that the table names, the timeline's directory holds the same
 * bytes as before, and the leader goes on at the very LSN, in the same WAL file (or, where it says
 * so, in a new one after the timeline was opened anew). Prints "said TEXT"
 * for every reason that the safekeeper has to have logged, once. The safekeeper is the timeline's
 * only member, and its membership is of generation 1.
 *
 * Exit: 0 all as it should be, 1 not.
 */
#include "sk_honest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- what is said ---- */

enum hears { AN_ERROR, THE_END, FENCED, NO_VOTE, MEMBERS, WHERE_IT_ENDS, NOTHING };

struct hostile {
    const char *name;
    void (*say)(struct tool *t);
    bool leads; /* on the leader's connection */
    bool cuts;  /* half a record was taken before: it goes */
    bool parks; /* the timeline is read from disk again: everybody is cut off, and comes back */
    enum hears hears;
    enum loch_code code;
    const char *text; /* in the error, and in the log */
};

/* The second connection, with HELLO done. */
static struct client *beside(struct tool *t)
{
    honest_connect(&t->second, honest_identity(t));
    (void)honest_greet(&t->second);
    return &t->second;
}

static void say_hello(struct tool *t, struct loch_wal_hello m)
{
    honest_connect(&t->second, honest_identity(t));
    SEND(&t->second, hello, m);
}

static void another_tenant(struct tool *t)
{
    struct loch_psk_identity id = honest_identity(t);

    id.tenant = t->other_tenant;
    id.timeline = t->other_timeline;
    honest_connect(&t->second, id);
    SEND(&t->second, hello, honest_hello(t));
}

static void another_timeline(struct tool *t)
{
    struct loch_wal_hello m = honest_hello(t);

    m.timeline = t->other_timeline;
    say_hello(t, m);
}

static void another_timeline_later(struct tool *t)
{
    struct loch_wal_hello m = honest_hello(t);

    m.timeline = t->other_timeline;
    SEND(beside(t), hello, m);
}

static void unknown_timeline(struct tool *t)
{
    struct loch_psk_identity id = honest_identity(t);
    struct loch_wal_hello m = honest_hello(t);

    m.timeline = id.timeline = t->stranger;
    honest_connect(&t->second, id);
    SEND(&t->second, hello, m);
}

static void no_right(struct tool *t)
{
    struct loch_psk_identity id = honest_identity(t);

    id.rights = LOCH_RIGHT_WAL_PULL;
    honest_connect(&t->second, id);
    SEND(&t->second, hello, honest_hello(t));
}

static void a_pageserver_pushes(struct tool *t)
{
    struct loch_psk_identity id = honest_identity(t);

    id.client_role = LOCH_ROLE_PAGESERVER;
    id.compute_epoch = 0;
    honest_connect(&t->second, id);
    SEND(&t->second, hello, honest_hello(t));
}

#define HELLO_CASE(name_, field_, value_)                                                          \
    static void name_(struct tool *t)                                                              \
    {                                                                                              \
        struct loch_wal_hello m = honest_hello(t);                                                 \
        m.field_ = (value_);                                                                       \
        say_hello(t, m);                                                                           \
    }
HELLO_CASE(old_version, version, 1)
HELLO_CASE(future_version, version, 99)
HELLO_CASE(another_system, system_id, 4711)
HELLO_CASE(another_postgres, pg_version, 170001)
HELLO_CASE(another_segment, segment_bytes, 1u << 20)
HELLO_CASE(future_generation_hello, generation, GENERATION + 4)

static void another_system_later(struct tool *t)
{
    struct loch_wal_hello m = honest_hello(t);

    m.system_id = 4712;
    SEND(beside(t), hello, m);
}

static void pull(struct tool *t, struct loch_wal_pull m)
{
    m.tenant = t->tenant;
    m.timeline = t->timeline;
    honest_connect(&t->second, honest_identity(t));
    SEND(&t->second, pull, m);
}

static void pull_version(struct tool *t)
{
    pull(t, (struct loch_wal_pull){.version = LOCH_WIRE_PULL_VERSION + 1,
                                   .mode = LOCH_PULL_COMMITTED,
                                   .from = t->start});
}

static void pull_mode(struct tool *t)
{
    pull(t, (struct loch_wal_pull){.version = LOCH_WIRE_PULL_VERSION, .mode = 9, .from = t->start});
}

static void pull_from_before(struct tool *t)
{
    pull(t, (struct loch_wal_pull){
                .version = LOCH_WIRE_PULL_VERSION, .mode = LOCH_PULL_COMMITTED, .from = 8});
}

static void pull_another_term(struct tool *t)
{
    pull(t, (struct loch_wal_pull){.version = LOCH_WIRE_PULL_VERSION,
                                   .mode = LOCH_PULL_FLUSHED,
                                   .term = t->term + 1,
                                   .generation = GENERATION,
                                   .from = t->start});
}

static void pull_another_generation(struct tool *t)
{
    pull(t, (struct loch_wal_pull){.version = LOCH_WIRE_PULL_VERSION,
                                   .mode = LOCH_PULL_FLUSHED,
                                   .term = t->term,
                                   .generation = GENERATION + 6,
                                   .from = t->start});
}

/* A frame's head as given, then `count` bytes of nothing in particular. */
static void raw(struct client *c, uint32_t length, uint8_t type, uint32_t count)
{
    struct loch_buf buf = {0};
    struct loch_writer w;

    loch_writer_init(&w, &buf);
    loch_write_u32(&w, length);
    loch_write_u8(&w, type);
    for (uint32_t i = 0; i < count; i++)
        loch_write_u8(&w, (uint8_t)(i * 37 + 11));
    honest_must(c->tool, loch_writer_finish(&w), "frame");
    honest_send(c, &buf);
}

static void no_hello(struct tool *t)
{
    honest_connect(&t->second, honest_identity(t));
    SEND(&t->second, vote, {.term = t->term + 1, .compute_epoch = t->epoch, .generation = 1});
}

static void unknown_type_first(struct tool *t)
{
    honest_connect(&t->second, honest_identity(t));
    raw(&t->second, 40, 77, 39);
}

static void unknown_type(struct tool *t)
{
    raw(beside(t), 40, 78, 39);
}

static void an_answer(struct tool *t)
{
    raw(beside(t), 40, LOCH_WAL_APPEND_REPLY, 39);
}

static void short_vote(struct tool *t)
{
    raw(beside(t), 24, LOCH_WAL_VOTE, 23);
}

static void long_vote(struct tool *t)
{
    raw(beside(t), 26, LOCH_WAL_VOTE, 25);
}

static void short_hello(struct tool *t)
{
    honest_connect(&t->second, honest_identity(t));
    raw(&t->second, 20, LOCH_WAL_HELLO, 19);
}

static void short_append(struct tool *t)
{
    raw(&t->leader, 24, LOCH_WAL_APPEND, 23);
}

static void frame_of_nothing(struct tool *t)
{
    raw(beside(t), 0, LOCH_WAL_VOTE, 24);
}

static void frame_of_4_gib(struct tool *t)
{
    raw(beside(t), UINT32_MAX, LOCH_WAL_APPEND, 24);
}

static void half_a_frame(struct tool *t)
{
    raw(beside(t), 4000, LOCH_WAL_APPEND, 1000);
    loch_stream_close(t->second.stream);
}

static void vote(struct tool *t, uint64_t term, uint64_t epoch, uint64_t generation)
{
    SEND(beside(t), vote, {.term = term, .compute_epoch = epoch, .generation = generation});
}

static void vote_epoch(struct tool *t)
{
    vote(t, t->term + 1, t->epoch + 1, GENERATION);
}

static void vote_of_all_terms(struct tool *t)
{
    vote(t, UINT64_MAX, t->epoch, GENERATION);
}

static void vote_old_term(struct tool *t)
{
    vote(t, t->term, t->epoch, GENERATION);
}

static void vote_old_generation(struct tool *t)
{
    vote(t, t->term + 1, t->epoch, GENERATION - 1);
}

static void vote_future_generation(struct tool *t)
{
    vote(t, t->term + 1, t->epoch, GENERATION + 8);
}

static void older_compute(struct tool *t)
{
    struct loch_psk_identity id = honest_identity(t);

    id.compute_epoch--;
    honest_connect(&t->second, id);
    SEND(&t->second, hello, honest_hello(t));
}

static void elected(struct tool *t, uint64_t term, struct loch_term_start *entries, uint32_t count)
{
    SEND(beside(t), elected,
         {.term = term, .generation = GENERATION, .history = {.entries = entries, .count = count}});
}

static void elected_old_term(struct tool *t)
{
    struct loch_term_start h[] = {{0, t->start}, {t->term - 1, t->gen.lsn}};

    elected(t, t->term - 1, h, 2);
}

static void elected_of_all_terms(struct tool *t)
{
    struct loch_term_start h[] = {{0, t->start}, {UINT64_MAX - 1, t->gen.lsn}};

    elected(t, UINT64_MAX - 1, h, 2);
}

static void elected_no_term(struct tool *t)
{
    struct loch_term_start h[] = {{0, t->start}, {t->term + 1, t->gen.lsn}};

    elected(t, t->term + 2, h, 2);
}

static void elected_twice(struct tool *t)
{
    struct loch_term_start h[] = {{0, t->start}, {t->term, t->gen.lsn + 8}};

    elected(t, t->term, h, 2);
}

static void elected_elsewhere(struct tool *t)
{
    struct loch_term_start h[] = {{0, t->start + 8192}, {t->term + 1, t->gen.lsn}};

    elected(t, t->term + 1, h, 2);
}

static void elected_below_commit(struct tool *t)
{
    struct loch_term_start h[] = {{0, t->start}, {t->term + 1, t->start}};

    elected(t, t->term + 1, h, 2);
}

/* Above what is committed and below what is synced, where no record ends. */
static void elected_inside_a_record(struct tool *t)
{
    struct loch_term_history h = {0};

    honest_must(t, loch_term_history_copy(&h, &t->history), "history");
    honest_must(t, loch_term_history_add(&h, t->term + 1, t->gen.lsn - 16), "history");
    elected(t, t->term + 1, h.entries, h.count);
    loch_term_history_fini(&h);
}

static void elected_descending(struct tool *t)
{
    struct loch_term_start h[] = {{0, t->start}, {t->term + 1, t->start - 8}};

    elected(t, t->term + 1, h, 2);
}

static void elected_endless(struct tool *t)
{
    struct loch_buf buf = {0};
    struct loch_writer w;

    loch_writer_init(&w, &buf);
    loch_write_u32(&w, 1 + 8 + 8 + 4 + 16);
    loch_write_u8(&w, LOCH_WAL_ELECTED);
    loch_write_u64(&w, t->term + 1);
    loch_write_u64(&w, GENERATION);
    loch_write_u32(&w, UINT32_MAX); /* entries; one follows */
    loch_write_u64(&w, 0);
    loch_write_u64(&w, t->start);
    honest_must(t, loch_writer_finish(&w), "frame");
    honest_send(beside(t), &buf);
}

/* ---- WAL ---- */

static void append_to(struct client *c, uint64_t term, loch_lsn begin, struct loch_slice bytes)
{
    SEND(c, append, {.term = term, .generation = GENERATION, .begin = begin, .bytes = bytes});
}

/* The next record, with the byte at `at` changed; `upto` bytes of it (0: all). */
static void bad_record(struct tool *t, uint32_t payload, size_t at, uint8_t bits)
{
    struct wal_gen gen = t->gen;
    struct loch_buf wal = {0};

    (void)wal_gen_record(&gen, &wal, payload);
    wal.data[at] ^= bits;
    append_to(&t->leader, t->term, t->gen.lsn, loch_buf_slice(&wal));
    loch_buf_fini(&wal);
}

static void append_old_term(struct tool *t)
{
    append_to(beside(t), t->term - 1, t->gen.lsn, loch_slice_of("x", 1));
}

static void append_later_term(struct tool *t)
{
    append_to(beside(t), t->term + 1, t->gen.lsn, loch_slice_of("x", 1));
}

static void append_from_aside(struct tool *t)
{
    append_to(beside(t), t->term, t->gen.lsn, loch_slice_of("not WAL", 7));
}

static void append_future_generation(struct tool *t)
{
    SEND(&t->leader, append,
         {.term = t->term,
          .generation = GENERATION + 2,
          .begin = t->gen.lsn,
          .bytes = loch_slice_of("x", 1)});
}

static void append_with_a_gap(struct tool *t)
{
    append_to(&t->leader, t->term, t->gen.lsn + 8, loch_slice_of("x", 1));
}

static void append_at_the_end(struct tool *t)
{
    SEND(&t->leader, append,
         {.term = t->term,
          .generation = GENERATION,
          .begin = UINT64_MAX - 3,
          .bytes = loch_slice_of("123456", 6)});
}

static void append_too_much(struct tool *t)
{
    raw(&t->leader, 1 + 40 + LOCH_WAL_CHUNK_BYTES + 1, LOCH_WAL_APPEND,
        40 + LOCH_WAL_CHUNK_BYTES + 1);
}

/* Where a record begins in what wal_gen makes at t->gen.lsn. */
static size_t head(const struct tool *t)
{
    if (t->gen.lsn % LOCH_PAGE_BYTES != 0)
        return 0;
    return t->gen.lsn % WAL_GEN_SEGMENT_BYTES == 0 ? 40 : 24;
}

static void wrong_crc(struct tool *t)
{
    bad_record(t, 300, head(t) + 100, 0x40);
}

static void record_of_1_gib(struct tool *t)
{
    bad_record(t, 300, head(t) + 3, 0x7f);
}

static void record_of_nothing(struct tool *t)
{
    static const uint8_t zeros[64];

    append_to(&t->leader, t->term, t->gen.lsn, loch_slice_of(zeros, sizeof zeros));
}

static void wrong_back_link(struct tool *t)
{
    bad_record(t, 300, head(t) + 8, 0x10);
}

static void unknown_manager(struct tool *t)
{
    bad_record(t, 300, head(t) + 17, 0x50);
}

static void wrong_page(struct tool *t)
{
    const size_t page = LOCH_PAGE_BYTES - (size_t)(t->gen.lsn % LOCH_PAGE_BYTES);

    bad_record(t, 2 * LOCH_PAGE_BYTES, page, 0x01);
}

static void wrong_page_address(struct tool *t)
{
    const size_t page = LOCH_PAGE_BYTES - (size_t)(t->gen.lsn % LOCH_PAGE_BYTES);

    bad_record(t, 2 * LOCH_PAGE_BYTES, page + 9, 0x20);
}

/* The first half of a record is good, and on disk; then comes something else. */
static void half_a_record(struct tool *t)
{
    struct loch_wal_append_reply r;
    struct wal_gen gen = t->gen;
    struct loch_buf wal = {0};

    (void)wal_gen_record(&gen, &wal, 4000);
    append_to(&t->leader, t->term, t->gen.lsn, loch_slice_of(wal.data, 2000));
    honest_must(t,
                loch_wal_append_reply_decode(honest_answer(&t->leader, LOCH_WAL_APPEND_REPLY), &r),
                "reply");
    if (r.flush_lsn != t->gen.lsn || r.write_lsn != t->gen.lsn + 2000)
        honest_die(t, "half a record counts for another thing");
    wal.data[2500] ^= 1;
    append_to(&t->leader, t->term, t->gen.lsn + 2000,
              loch_slice_of(wal.data + 2000, wal.len - 2000));
    loch_buf_fini(&wal);
}

#define BESIDE(say_, code_, text_)                                                                 \
    {                                                                                              \
#say_, say_, .hears = AN_ERROR, .code = LOCH_E_##code_, .text = (text_)                    \
    }
#define LEADER(say_, code_, text_)                                                                 \
    {                                                                                              \
#say_, say_, .leads = true, .hears = AN_ERROR, .code = LOCH_E_##code_, .text = (text_)     \
    }

static const struct hostile table[] = {
    BESIDE(another_tenant, DENIED, "credential is for another tenant or timeline"),
    BESIDE(another_timeline, DENIED, "credential is for another tenant or timeline"),
    BESIDE(another_timeline_later, DENIED, "credential is for another tenant or timeline"),
    BESIDE(unknown_timeline, NOT_FOUND, "has no such timeline"),
    BESIDE(no_right, DENIED, "lacks the right"),
    BESIDE(a_pageserver_pushes, DENIED, "only a compute pushes"),
    BESIDE(old_version, UNSUPPORTED, "version 1;"),
    BESIDE(future_version, UNSUPPORTED, "version 99"),
    BESIDE(another_system, INVALID, "system identifier 4711"),
    BESIDE(another_system_later, INVALID, "system identifier 4712"),
    BESIDE(another_postgres, INVALID, "PostgreSQL version 170001"),
    BESIDE(another_segment, INVALID, "segments of 1048576"),
    BESIDE(future_generation_hello, STALE, "generation 5 is spoken of"),
    BESIDE(pull_version, UNSUPPORTED, "version 4;"),
    BESIDE(pull_mode, CORRUPT, "PULL"),
    BESIDE(pull_from_before, NOT_FOUND, "WAL begins at"),
    BESIDE(pull_another_term, STALE, "is not installed here"),
    BESIDE(pull_another_generation, STALE, "is of generation 1 here"),
    BESIDE(no_hello, CORRUPT, "not with type 3"),
    BESIDE(unknown_type_first, CORRUPT, "not with type 77"),
    BESIDE(unknown_type, CORRUPT, "type 78"),
    BESIDE(an_answer, CORRUPT, "type 8 from"),
    BESIDE(short_vote, CORRUPT, "VOTE"),
    BESIDE(long_vote, CORRUPT, "VOTE"),
    BESIDE(short_hello, CORRUPT, "HELLO"),
    LEADER(short_append, CORRUPT, "APPEND"),
    {"frame_of_nothing", frame_of_nothing, .hears = THE_END, .text = "frame of 0 bytes"},
    {"frame_of_4_gib", frame_of_4_gib, .hears = THE_END, .text = "frame of 4294967295 bytes"},
    {"half_a_frame", half_a_frame, .hears = THE_END, .text = "hung up inside a message"},
    BESIDE(vote_epoch, DENIED, "another compute epoch"),
    BESIDE(vote_of_all_terms, DENIED, "term 18446744073709551615 is not one of"),
    {"vote_old_term", vote_old_term, .hears = NO_VOTE},
    {"vote_old_generation", vote_old_generation, .hears = MEMBERS},
    BESIDE(vote_future_generation, STALE, "generation 9 is spoken of"),
    {"older_compute", older_compute, .hears = FENCED, .text = "is fenced: term"},
    {"elected_old_term", elected_old_term, .hears = FENCED},
    BESIDE(elected_of_all_terms, DENIED, "term 18446744073709551614 is not one of"),
    BESIDE(elected_no_term, INVALID, "does not end in its term"),
    BESIDE(elected_twice, CORRUPT, "two histories for one term"),
    BESIDE(elected_elsewhere, CORRUPT, "another timeline's"),
    BESIDE(elected_below_commit, CORRUPT, "contradicts committed WAL"),
    BESIDE(elected_descending, CORRUPT, "does not ascend"),
    BESIDE(elected_endless, CORRUPT, "history of 4294967295 entries"),
    {"append_old_term", append_old_term, .hears = FENCED},
    BESIDE(append_later_term, INVALID, "before its term is installed"),
    {"append_from_aside", append_from_aside, .hears = NOTHING},
    LEADER(append_future_generation, STALE, "generation 3 is spoken of"),
    {"append_with_a_gap", append_with_a_gap, .leads = true, .hears = WHERE_IT_ENDS},
    LEADER(append_at_the_end, CORRUPT, "APPEND"),
    LEADER(append_too_much, CORRUPT, "APPEND"),
    LEADER(wrong_crc, CORRUPT, "wrong CRC"),
    LEADER(record_of_1_gib, CORRUPT, "has length"),
    LEADER(record_of_nothing, CORRUPT, "no WAL record at"),
    LEADER(wrong_back_link, CORRUPT, "points back to"),
    LEADER(unknown_manager, CORRUPT, "resource manager"),
    LEADER(wrong_page, CORRUPT, "has magic"),
    LEADER(wrong_page_address, CORRUPT, "another page's address"),
    {"half_a_record", half_a_record, .leads = true, .cuts = true, .hears = AN_ERROR,
     .code = LOCH_E_CORRUPT, .text = "wrong CRC"},
    {"elected_inside_a_record", elected_inside_a_record, .parks = true, .hears = AN_ERROR,
     .code = LOCH_E_CORRUPT, .text = "cut where no record ends"},
};

/* ---- each case ---- */

static void hear_error(struct client *c, const struct hostile *h)
{
    struct loch_wire_error e;
    char text[LOCH_WIRE_ERROR_TEXT_BYTES + 1];

    honest_must(c->tool, loch_wire_error_decode(honest_answer(c, LOCH_WAL_ERROR), &e), "ERROR");
    (void)snprintf(text, sizeof text, "%.*s", (int)e.text.len, (const char *)e.text.data);
    if (e.code != h->code || strstr(text, h->text) == NULL) {
        (void)printf("      %s: %s\n", loch_code_name((enum loch_code)e.code), text);
        honest_die(c->tool, "another reason");
    }
    honest_wait(c->tool, &c->closed);
    (void)printf("said %s\n", text);
}

static void hear(struct client *c, const struct hostile *h)
{
    struct tool *t = c->tool;
    struct loch_wal_vote_reply v;
    struct loch_wal_append_reply a;

    switch (h->hears) {
    case AN_ERROR:
        hear_error(c, h);
        return;
    case THE_END:
        honest_wait(t, &c->closed);
        (void)printf("said %s\n", h->text);
        return;
    case FENCED:
        (void)honest_answer(c, LOCH_WAL_FENCED);
        if (h->text != NULL)
            (void)printf("said epoch %" PRIu64 " %s\n", t->epoch - 1, h->text);
        return;
    case NO_VOTE:
        honest_must(t, loch_wal_vote_reply_decode(honest_answer(c, LOCH_WAL_VOTE_REPLY), &v),
                    "VOTE_REPLY");
        loch_term_history_fini(&v.history);
        if (v.granted)
            honest_die(t, "it voted");
        return;
    case MEMBERS:
        (void)honest_answer(c, LOCH_WAL_MEMBERS);
        return;
    case WHERE_IT_ENDS:
        honest_must(t, loch_wal_append_reply_decode(honest_answer(c, LOCH_WAL_APPEND_REPLY), &a),
                    "reply");
        if (a.write_lsn != t->gen.lsn || a.flush_lsn != t->gen.lsn)
            honest_die(t, "it took it");
        return;
    case NOTHING: /* what was sent after it is answered, and nothing else */
        (void)honest_greet(c);
        return;
    }
}

/* The leader connects again until the timeline is there. */
static void come_back(struct tool *t)
{
    const struct timespec pause = {.tv_nsec = 50000000};

    honest_wait(t, &t->leader.closed);
    for (unsigned tries = 0; tries < 400; tries++) {
        honest_connect(&t->leader, honest_identity(t));
        SEND(&t->leader, hello, honest_hello(t));
        honest_wait(t, &t->leader.got);
        if (t->leader.type == LOCH_WAL_HELLO_REPLY) {
            honest_install(t, t->gen.lsn);
            return;
        }
        honest_hang_up(&t->leader);
        (void)nanosleep(&pause, NULL);
    }
    honest_die(t, "the timeline does not come back");
}

static void run_case(struct tool *t, const struct hostile *h)
{
    struct client *c = h->leads ? &t->leader : &t->second;

    t->name = h->name;
    honest_lead(t);
    honest_write(t, false);
    const uint32_t before = honest_sum(t, false);
    const uint32_t names = honest_sum(t, true);
    h->say(t);
    hear(c, h);
    if (!h->cuts && honest_sum(t, false) != before)
        honest_die(t, "something was changed on disk");
    honest_hang_up(&t->second);
    if (h->parks) {
        come_back(t);
    } else if (t->leader.closed) {
        honest_connect(&t->leader, honest_identity(t));
        (void)honest_greet(&t->leader);
        honest_install(t, t->gen.lsn);
    }
    honest_write(t, true);
    /* What had been ordered before that record is done by now. */
    if (!h->cuts && !h->parks && honest_sum(t, true) != names)
        honest_die(t, "another file is there");
    (void)honest_greet(&t->leader); /* the commit has arrived */
    honest_hang_up(&t->leader);
    (void)printf("ok    %s\n", h->name);
    (void)fflush(stdout);
}

/* The words of the command line, in this order. */
static void arguments(struct tool *t, char **argv)
{
    struct loch_id *ids[] = {&t->cluster,        &t->tenant, &t->timeline, &t->other_tenant,
                             &t->other_timeline, &t->node,   &t->stranger};

    t->store_path = argv[0];
    t->kms_uri = argv[1];
    t->address = argv[2];
    t->dir = argv[3];
    t->system_id = strtoull(argv[4], NULL, 10);
    t->epoch = strtoull(argv[5], NULL, 10);
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        honest_must(t, loch_id_parse(argv[6 + i], ids[i]), "an id");
}

int main(int argc, char **argv)
{
    static struct tool t;

    if (argc < 14 || argc > 15) {
        (void)fprintf(stderr, "usage: sk_hostile STORE KMS ADDRESS DIRECTORY SYSID EPOCH CLUSTER "
                              "TENANT TIMELINE OTHER-TENANT OTHER-TIMELINE NODE STRANGER [CASE]\n");
        return 1;
    }
    arguments(&t, argv + 1);
    honest_open(&t);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (argc == 14 || strcmp(argv[14], table[i].name) == 0)
            run_case(&t, &table[i]);
    return 0;
}
