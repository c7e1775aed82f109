/* Holds: the proposer. Its source: the consensus protocol of Loch (docs/protocol/consensus.md).
 *
 * Nothing here is durable: a proposer that dies is replaced by one with a higher term. What a
 * member holds durably under this term is kept over its reconnects (`held`), because acceptors do
 * not forget.
 */
#include "loch/consensus/proposer.h"
#include "loch/base/check.h"
#include "loch/consensus/history.h"
#include "loch/consensus/membership.h"
#include "mutation.h"

#include <stdlib.h>

/* A slot. */
struct member {
    bool used;
    struct loch_id id;
    uint32_t index; /* in the membership */
    bool connected, greeted;
    bool installed; /* on this connection: may be sent APPENDs */
    bool voted;
    struct loch_wal_vote_reply vote; /* valid when voted; owns its history */
    loch_lsn held; /* durable under this term; 0: the term is not known to be installed */
    loch_lsn write_lsn, sent_lsn;
    loch_lsn under_way[2]; /* ends of the two oldest APPENDs without an answer; 0: none */
    loch_lsn told_commit;
    bool recovering;
    uint64_t owes_ms;  /* since when an answer is awaited; 0: none is */
    uint64_t sent_ms;  /* when something was sent last */
    uint64_t asked_ms; /* no HELLO, VOTE or ELECTED whose answer counts was sent before */
    uint64_t said_ms;  /* it has answered then, or later, on this connection; 0: not yet */
};

struct loch_proposer {
    struct loch_proposer_config config;
    struct loch_membership membership;
    enum loch_proposer_state state;
    uint64_t term;
    uint64_t highest_term; /* seen anywhere */
    uint64_t vote_deadline_ms;
    uint32_t donor;
    loch_lsn start_lsn, start_prev_lsn, commit_lsn;
    loch_lsn window_start, window_end;
    loch_lsn reader_lsn, persisted_lsn;
    uint64_t heard_ms; /* the latest said_ms of any */
    struct loch_term_history history;
    struct member members[LOCH_MEMBERS_MAX];
};

/* ---- life and effects ---- */

loch_status loch_proposer_create(const struct loch_proposer_config *config,
                                 struct loch_proposer **out)
{
    if (config->membership.count == 0 || config->membership.count > LOCH_MEMBERS_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "a membership has 1 to %u safekeepers, not %" PRIu32,
                         LOCH_MEMBERS_MAX, config->membership.count);
    for (uint32_t i = 0; i < config->membership.count; i++) {
        if (loch_membership_find(&config->membership, &config->membership.members[i].id) != i)
            return LOCH_FAIL(LOCH_E_INVALID, "a safekeeper is named twice");
    }
    if (config->compute_epoch == 0 || config->compute_epoch >> (63 - LOCH_TERM_EPOCH_SHIFT) != 0)
        return LOCH_FAIL(LOCH_E_INVALID, "compute epoch %" PRIu64 " is out of range",
                         config->compute_epoch);
    if (config->window_bytes == 0 || config->election_timeout_ms == 0)
        return LOCH_FAIL(LOCH_E_INVALID, "a window and time-outs must not be 0");
    struct loch_proposer *p = calloc(1, sizeof *p);
    if (p == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a proposer");
    p->config = *config;
    p->highest_term = config->highest_term;
    p->state = LOCH_PROPOSER_GATHERING;
    p->config.membership = (struct loch_membership){0};
    loch_status st = loch_membership_copy(&p->membership, &config->membership);
    if (!loch_is_ok(st)) {
        free(p);
        return st;
    }
    for (uint32_t i = 0; i < p->membership.count; i++)
        p->members[i] =
            (struct member){.used = true, .id = p->membership.members[i].id, .index = i};
    *out = p;
    return LOCH_OK;
}

static void drop_votes(struct loch_proposer *p)
{
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        if (p->members[i].voted)
            loch_term_history_fini(&p->members[i].vote.history);
        p->members[i].voted = false;
    }
}

void loch_proposer_destroy(struct loch_proposer *p)
{
    if (p == NULL)
        return;
    drop_votes(p);
    loch_term_history_fini(&p->history);
    loch_membership_fini(&p->membership);
    free(p);
}

void loch_proposer_effects_fini(struct loch_proposer_effects *effects)
{
    free(effects->items);
    *effects = (struct loch_proposer_effects){0};
}

static loch_status push(struct loch_proposer_effects *out, const struct loch_proposer_effect *e)
{
    if (out->count == out->cap) {
        size_t cap = out->cap == 0 ? 16 : out->cap * 2;
        struct loch_proposer_effect *items = realloc(out->items, cap * sizeof *items);
        if (items == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu effects", cap);
        out->items = items;
        out->cap = cap;
    }
    out->items[out->count++] = *e;
    return LOCH_OK;
}

static loch_status push_send(struct loch_proposer *p, struct loch_proposer_now now, uint32_t i,
                             const struct loch_proposer_message *message, bool wants_answer,
                             struct loch_proposer_effects *out)
{
    const struct loch_proposer_effect e = {
        .kind = LOCH_PROPOSER_SEND, .member = i, .message = *message};
    struct member *m = &p->members[i];

    m->sent_ms = now.ms;
    if (wants_answer && m->owes_ms == 0)
        m->owes_ms = now.ms;
    return push(out, &e);
}

/* The member's connection is of no more use. */
static void forget_connection(struct member *m)
{
    m->connected = m->greeted = m->installed = m->recovering = false;
    m->owes_ms = m->said_ms = 0;
}

static loch_status push_close(struct loch_proposer *p, uint32_t i, const char *text,
                              struct loch_proposer_effects *out)
{
    const struct loch_proposer_effect e = {.kind = LOCH_PROPOSER_CLOSE, .member = i, .text = text};

    forget_connection(&p->members[i]);
    return push(out, &e);
}

static loch_status become_fenced(struct loch_proposer *p, uint32_t i, const char *text,
                                 struct loch_proposer_effects *out)
{
    const struct loch_proposer_effect e = {.kind = LOCH_PROPOSER_FENCED, .member = i, .text = text};

    if (LOCH_MUTATED(NO_FENCING))
        return LOCH_OK;
    p->state = LOCH_PROPOSER_IS_FENCED;
    return push(out, &e);
}

static bool is_fenced(const struct loch_proposer *p)
{
    return p->state == LOCH_PROPOSER_IS_FENCED;
}

/* Do the slots s with has[s] make a quorum? */
bool loch_proposer_quorum(const struct loch_proposer *p, const bool has[LOCH_MEMBERS_MAX])
{
    bool by_member[LOCH_MEMBERS_MAX] = {0};

    for (uint32_t s = 0; s < LOCH_MEMBERS_MAX; s++) {
        const struct member *m = &p->members[s];
        if (m->used && has[s])
            by_member[m->index] = true;
    }
    return loch_membership_quorum(&p->membership, by_member);
}

/* ---- election ---- */

static loch_status send_vote(struct loch_proposer *p, struct loch_proposer_now now, uint32_t i,
                             struct loch_proposer_effects *out)
{
    const struct loch_proposer_message message = {
        .type = LOCH_WAL_VOTE,
        .u.vote = {.term = p->term,
                   .compute_epoch = p->config.compute_epoch,
                   .generation = p->membership.generation}};
    return push_send(p, now, i, &message, true, out);
}

static bool quorum_greeted(const struct loch_proposer *p)
{
    bool has[LOCH_MEMBERS_MAX];

    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++)
        has[i] = p->members[i].greeted;
    return loch_proposer_quorum(p, has);
}

static bool quorum_voted(const struct loch_proposer *p)
{
    bool has[LOCH_MEMBERS_MAX];

    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++)
        has[i] = p->members[i].voted;
    return loch_proposer_quorum(p, has);
}

static loch_status start_election(struct loch_proposer *p, struct loch_proposer_now now,
                                  struct loch_proposer_effects *out)
{
    const uint64_t epoch = p->config.compute_epoch;
    const uint64_t term = loch_max_u64(p->highest_term + 1, epoch << LOCH_TERM_EPOCH_SHIFT);

    drop_votes(p);
    /* A safekeeper refuses terms beyond the epoch's: only a new epoch has some left. */
    if (term >> LOCH_TERM_EPOCH_SHIFT > epoch && !LOCH_MUTATED(EPOCH_FORGOTTEN) &&
        !LOCH_MUTATED(NO_FENCING))
        return become_fenced(p, LOCH_MEMBERS_MAX,
                             "the terms of its compute epoch are used up: start it again", out);
    p->state = LOCH_PROPOSER_VOTING;
    p->term = p->highest_term = term;
    p->vote_deadline_ms =
        now.ms + p->config.election_timeout_ms + now.random % p->config.election_timeout_ms;
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        if (p->members[i].greeted)
            LOCH_TRY(send_vote(p, now, i, out));
    }
    return LOCH_OK;
}

static loch_status send_elected(struct loch_proposer *p, struct loch_proposer_now now, uint32_t i,
                                struct loch_proposer_effects *out)
{
    const struct loch_proposer_message message = {
        .type = LOCH_WAL_ELECTED,
        .u.elected = {
            .term = p->term, .generation = p->membership.generation, .history = p->history}};
    return push_send(p, now, i, &message, true, out);
}

static uint32_t pick_donor(const struct loch_proposer *p)
{
    uint32_t donor = LOCH_MEMBERS_MAX;

    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        const struct member *m = &p->members[i];
        if (m->voted &&
            (donor == LOCH_MEMBERS_MAX || loch_history_further(&m->vote, &p->members[donor].vote)))
            donor = i;
    }
    LOCH_ASSERT(donor < LOCH_MEMBERS_MAX);
    return donor;
}

static loch_lsn pick_start(const struct loch_proposer *p, uint32_t donor)
{
    loch_lsn lsn = p->members[donor].vote.flush_lsn;

    if (LOCH_MUTATED(START_AT_COMMIT)) {
        loch_lsn commit = p->members[donor].vote.start_lsn;
        for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
            if (p->members[i].voted)
                commit = loch_max_u64(commit, p->members[i].vote.commit_lsn);
        }
        lsn = loch_min_u64(lsn, commit);
    }
    return lsn;
}

static loch_status become_leader(struct loch_proposer *p, struct loch_proposer_now now,
                                 struct loch_proposer_effects *out)
{
    const struct loch_proposer_effect elected = {.kind = LOCH_PROPOSER_ELECTED};
    struct loch_term_history cut;

    p->donor = pick_donor(p);
    p->start_lsn = pick_start(p, p->donor);
    p->start_prev_lsn = p->members[p->donor].vote.prev_lsn;
    cut = p->members[p->donor].vote.history;
    cut.count = loch_history_cut(&cut, p->start_lsn);
    /* A term that wrote nothing says nothing about the log, and the new one is higher anyway. */
    while (cut.count > 1 && cut.entries[cut.count - 1].start == p->start_lsn)
        cut.count--;
    loch_term_history_fini(&p->history);
    LOCH_TRY(loch_term_history_copy(&p->history, &cut));
    loch_status st = loch_term_history_add(&p->history, p->term, p->start_lsn);
    if (st.code == LOCH_E_LIMIT)
        return become_fenced(p, p->donor, "the timeline has had too many terms", out);
    LOCH_TRY(st);
    p->window_start = p->window_end = p->start_lsn;
    p->state = LOCH_PROPOSER_LEADING;
    LOCH_TRY(push(out, &elected));
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        if (LOCH_MUTATED(ACK_UNINSTALLED) && p->members[i].voted)
            p->members[i].held = p->members[i].vote.flush_lsn;
        if (p->members[i].greeted)
            LOCH_TRY(send_elected(p, now, i, out));
    }
    drop_votes(p);
    return LOCH_OK;
}

/* ---- leading ---- */

static loch_status send_append(struct loch_proposer *p, struct loch_proposer_now now, uint32_t i,
                               loch_lsn begin, uint64_t len, struct loch_proposer_effects *out)
{
    struct member *m = &p->members[i];
    const bool news = m->told_commit < p->commit_lsn;
    const struct loch_proposer_message message = {
        .type = LOCH_WAL_APPEND,
        .append_len = len,
        .u.append = {.term = p->term,
                     .generation = p->membership.generation,
                     .begin = begin,
                     .commit_lsn = p->commit_lsn,
                     .stamp_ms = now.ms}};
    m->told_commit = p->commit_lsn;
    /* A bare commit_lsn is not answered, but where it tells of a gap. */
    return push_send(p, now, i, &message, len > 0 || !news || m->recovering, out);
}

/* What a member has written is no longer under way. */
static void settle_under_way(struct member *m)
{
    while (m->under_way[0] != 0 && m->under_way[0] <= m->write_lsn) {
        m->under_way[0] = m->under_way[1];
        m->under_way[1] = 0;
    }
}

/* With two APPENDs under way, one being written and one behind it, what is less than a chunk waits
 * for an answer and grows meanwhile: more messages would not make it durable sooner. */
static bool holds_back(const struct member *m, uint64_t len)
{
    return m->under_way[1] != 0 && len < LOCH_WAL_CHUNK_BYTES;
}

/* Sends what the window lets through. The news of a commit_lsn travels along, or waits for
 * loch_proposer_tell: under load a message of its own would double the messages. */
static loch_status pump(struct loch_proposer *p, struct loch_proposer_now now, uint32_t i,
                        struct loch_proposer_effects *out)
{
    struct member *m = &p->members[i];

    if (!m->installed)
        return LOCH_OK;
    if (m->recovering && m->write_lsn >= p->window_start) {
        m->recovering = false;
        m->sent_lsn = loch_max_u64(m->sent_lsn, m->write_lsn);
    }
    settle_under_way(m);
    if (!m->recovering && m->sent_lsn < p->window_start) {
        m->recovering = true;
        return send_append(p, now, i, p->window_start, 0, out);
    }
    while (!m->recovering && m->sent_lsn < p->window_end) {
        const uint64_t flying = m->sent_lsn - loch_min_u64(m->sent_lsn, m->write_lsn);
        if (flying >= p->config.window_bytes)
            break;
        uint64_t len = loch_min_u64(p->window_end - m->sent_lsn, LOCH_WAL_CHUNK_BYTES);
        if (holds_back(m, len))
            break;
        LOCH_TRY(send_append(p, now, i, m->sent_lsn, len, out));
        m->sent_lsn += len;
        if (m->under_way[0] == 0)
            m->under_way[0] = m->sent_lsn;
        else if (m->under_way[1] == 0)
            m->under_way[1] = m->sent_lsn;
    }
    return LOCH_OK;
}

static bool owes_news(const struct loch_proposer *p, uint32_t i)
{
    return p->members[i].installed && p->members[i].told_commit < p->commit_lsn;
}

/* A member with WAL under way is about to answer, and then WAL that waits goes, or nothing does. */
static bool tells_news(const struct loch_proposer *p, uint32_t i)
{
    return owes_news(p, i) && p->members[i].under_way[0] == 0;
}

/* An APPEND without WAL: a sign of life, and the commit_lsn. */
static loch_status send_empty(struct loch_proposer *p, struct loch_proposer_now now, uint32_t i,
                              struct loch_proposer_effects *out)
{
    const struct member *m = &p->members[i];

    return send_append(p, now, i, m->recovering ? p->window_start : m->sent_lsn, 0, out);
}

/* The highest LSN that a quorum holds. */
static loch_lsn quorum_lsn(const struct loch_proposer *p)
{
    loch_lsn best = 0;

    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        bool has[LOCH_MEMBERS_MAX];
        if (p->members[i].held <= best)
            continue;
        for (uint32_t j = 0; j < LOCH_MEMBERS_MAX; j++)
            has[j] = p->members[j].held >= p->members[i].held;
        if (loch_proposer_quorum(p, has))
            best = p->members[i].held;
    }
    return best;
}

static loch_status advance_commit(struct loch_proposer *p, struct loch_proposer_now now,
                                  struct loch_proposer_effects *out)
{
    const loch_lsn lsn = quorum_lsn(p);

    if (lsn <= p->commit_lsn || (lsn < p->start_lsn && !LOCH_MUTATED(COMMIT_BELOW_L)) ||
        (lsn == p->start_lsn && LOCH_MUTATED(NO_COMMIT_AT_L)))
        return LOCH_OK;
    p->commit_lsn = lsn;
    const struct loch_proposer_effect e = {.kind = LOCH_PROPOSER_COMMIT, .lsn = lsn};
    LOCH_TRY(push(out, &e));
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++)
        LOCH_TRY(pump(p, now, i, out));
    return LOCH_OK;
}

/* ---- events ---- */

static loch_status send_hello(struct loch_proposer *p, struct loch_proposer_now now,
                              uint32_t member, struct loch_proposer_effects *out)
{
    struct loch_proposer_message message = {.type = LOCH_WAL_HELLO, .u.hello = p->config.hello};

    message.u.hello.generation = p->membership.generation;
    return push_send(p, now, member, &message, true, out);
}

loch_status loch_proposer_connected(struct loch_proposer *p, struct loch_proposer_now now,
                                    uint32_t member, struct loch_proposer_effects *out)
{
    struct member *m = &p->members[member];
    LOCH_ASSERT(member < LOCH_MEMBERS_MAX && m->used);
    if (is_fenced(p))
        return LOCH_OK;
    forget_connection(m);
    m->connected = true;
    m->asked_ms = now.ms;
    return send_hello(p, now, member, out);
}

void loch_proposer_disconnected(struct loch_proposer *p, uint32_t member)
{
    LOCH_ASSERT(member < LOCH_MEMBERS_MAX);
    forget_connection(&p->members[member]);
}

/* An answer has come: the member lives. */
static struct member *answered(struct loch_proposer *p, uint32_t i, uint64_t term)
{
    LOCH_ASSERT(i < LOCH_MEMBERS_MAX);
    p->highest_term = loch_max_u64(p->highest_term, term);
    p->members[i].owes_ms = 0;
    return &p->members[i];
}

static void heard(struct loch_proposer *p, struct member *m, uint64_t ms)
{
    m->said_ms = loch_max_u64(m->said_ms, ms);
    p->heard_ms = loch_max_u64(p->heard_ms, ms);
}

/* The answer to a HELLO, VOTE or ELECTED: it was given no earlier than that was asked. */
static void took_answer(struct loch_proposer *p, struct loch_proposer_now now, struct member *m)
{
    heard(p, m, m->asked_ms);
    m->asked_ms = now.ms; /* not in adopt: what was asked before may be answered under it */
}

/* An answer given under another configuration counts for nothing. */
static bool is_stale(const struct loch_proposer *p, uint64_t generation)
{
    return generation != p->membership.generation && !LOCH_MUTATED(STALE_ACK);
}

/* What a greeted member is asked next. */
static loch_status go_on(struct loch_proposer *p, struct loch_proposer_now now, uint32_t member,
                         struct loch_proposer_effects *out)
{
    switch (p->state) {
    case LOCH_PROPOSER_GATHERING:
        if (quorum_greeted(p))
            return start_election(p, now, out);
        return LOCH_OK;
    case LOCH_PROPOSER_VOTING:
        return p->members[member].voted ? LOCH_OK : send_vote(p, now, member, out);
    case LOCH_PROPOSER_LEADING:
        return send_elected(p, now, member, out);
    case LOCH_PROPOSER_IS_FENCED:
        break;
    }
    return LOCH_OK;
}

loch_status loch_proposer_hello_reply(struct loch_proposer *p, struct loch_proposer_now now,
                                      uint32_t member, const struct loch_wal_hello_reply *m,
                                      struct loch_proposer_effects *out)
{
    struct member *who = answered(p, member, m->term);

    if (is_fenced(p) || !who->connected || who->greeted)
        return LOCH_OK;
    if (is_stale(p, m->generation))
        return LOCH_OK;
    if (!loch_id_equal(&m->member, &who->id))
        return push_close(p, member, "another safekeeper, or one without its disk, answers here",
                          out);
    if (m->min_compute_epoch > p->config.compute_epoch)
        return become_fenced(p, member, "a newer compute has taken over", out);
    who->greeted = true;
    took_answer(p, now, who);
    return go_on(p, now, member, out);
}

loch_status loch_proposer_vote_reply(struct loch_proposer *p, struct loch_proposer_now now,
                                     uint32_t member, const struct loch_wal_vote_reply *m,
                                     struct loch_proposer_effects *out)
{
    struct member *who = answered(p, member, m->term);

    if (p->state != LOCH_PROPOSER_VOTING || !m->granted || m->term != p->term || who->voted ||
        is_stale(p, m->generation))
        return LOCH_OK;
    if (m->history.count == 0 || m->history.entries[0].start > m->flush_lsn)
        return push_close(p, member, "a vote without a term history", out);
    who->vote = *m;
    who->vote.history = (struct loch_term_history){0};
    LOCH_TRY(loch_term_history_copy(&who->vote.history, &m->history));
    if (!LOCH_MUTATED(UNCUT_HISTORY))
        who->vote.history.count = loch_history_cut(&m->history, m->flush_lsn);
    who->voted = true;
    took_answer(p, now, who);
    return quorum_voted(p) ? become_leader(p, now, out) : LOCH_OK;
}

static bool out_of_term(const struct loch_proposer *p, uint64_t term)
{
    return p->state != LOCH_PROPOSER_LEADING || (term != p->term && !LOCH_MUTATED(NO_FENCING));
}

loch_status loch_proposer_elected_reply(struct loch_proposer *p, struct loch_proposer_now now,
                                        uint32_t member, const struct loch_wal_elected_reply *m,
                                        struct loch_proposer_effects *out)
{
    struct member *who = answered(p, member, m->term);

    if (out_of_term(p, m->term) || is_stale(p, m->generation) || !who->connected || who->installed)
        return LOCH_OK;
    if (m->flush_lsn > p->window_end)
        return push_close(p, member, "holds WAL that was never sent", out);
    who->installed = true;
    took_answer(p, now, who);
    who->held = loch_max_u64(who->held, m->flush_lsn);
    who->write_lsn = who->sent_lsn = m->flush_lsn;
    who->under_way[0] = who->under_way[1] = 0;
    who->told_commit = 0;
    LOCH_TRY(advance_commit(p, now, out));
    return pump(p, now, member, out);
}

loch_status loch_proposer_append_reply(struct loch_proposer *p, struct loch_proposer_now now,
                                       uint32_t member, const struct loch_wal_append_reply *m,
                                       struct loch_proposer_effects *out)
{
    const uint64_t owes_ms = p->members[member].owes_ms;
    struct member *who = answered(p, member, m->term);

    /* It says itself when it was given, however long it was under way. */
    heard(p, who, LOCH_MUTATED(HEARD_AT_ARRIVAL) ? now.ms : loch_wal_said_ms(m, now.ms));
    if (owes_ms != 0 && who->said_ms < who->sent_ms)
        who->owes_ms = loch_max_u64(owes_ms, who->said_ms);
    if (out_of_term(p, m->term) || is_stale(p, m->generation) || !who->installed)
        return LOCH_OK;
    if (m->write_lsn > p->window_end || m->flush_lsn > m->write_lsn)
        return push_close(p, member, "holds WAL that was never sent", out);
    who->held = loch_max_u64(who->held, m->flush_lsn);
    who->write_lsn = loch_max_u64(who->write_lsn, m->write_lsn);
    p->reader_lsn = loch_max_u64(p->reader_lsn, m->reader_lsn);
    p->persisted_lsn = loch_max_u64(p->persisted_lsn, m->persisted_lsn);
    if (who->sent_lsn > who->write_lsn && !who->recovering)
        who->owes_ms = loch_max_u64(who->owes_ms, who->said_ms);
    LOCH_TRY(advance_commit(p, now, out));
    return pump(p, now, member, out);
}

loch_status loch_proposer_fenced(struct loch_proposer *p, uint32_t member,
                                 const struct loch_wal_fenced *m, struct loch_proposer_effects *out)
{
    (void)answered(p, member, m->term);
    if (is_fenced(p))
        return LOCH_OK;
    if (m->min_compute_epoch > p->config.compute_epoch)
        return become_fenced(p, member, "a newer compute has taken over", out);
    if (p->state == LOCH_PROPOSER_LEADING && m->term > p->term)
        return become_fenced(p, member, "a higher term has been voted", out);
    return LOCH_OK; /* meant for an earlier term of ours */
}

/* The contacts of generation 0 were named by their nodes: a member there takes the slot over. */
static void name_contacts(struct loch_proposer *p)
{
    for (uint32_t s = 0; s < LOCH_MEMBERS_MAX; s++) {
        for (uint32_t i = 0; i < p->membership.count; i++) {
            if (p->members[s].used &&
                loch_id_equal(&p->members[s].id, &p->membership.members[i].node)) {
                p->members[s].id = p->membership.members[i].id;
                break;
            }
        }
    }
}

/* Gives the members of the new configuration their slots. */
static void reseat(struct loch_proposer *p)
{
    for (uint32_t s = 0; s < LOCH_MEMBERS_MAX; s++) {
        struct member *m = &p->members[s];
        if (m->used && loch_membership_find(&p->membership, &m->id) == p->membership.count)
            *m = (struct member){0};
    }
    for (uint32_t i = 0; i < p->membership.count; i++) {
        uint32_t s = 0, vacant = LOCH_MEMBERS_MAX;
        for (; s < LOCH_MEMBERS_MAX; s++) {
            const struct member *m = &p->members[s];
            if (m->used && loch_id_equal(&m->id, &p->membership.members[i].id))
                break;
            if (!m->used && vacant == LOCH_MEMBERS_MAX)
                vacant = s;
        }
        if (s == LOCH_MEMBERS_MAX) { /* as many slots as there can be members */
            s = vacant;
            p->members[s] = (struct member){.used = true, .id = p->membership.members[i].id};
        }
        p->members[s].index = i;
    }
}

/* Goes by `m` from now on; what was begun under the old configuration is begun again. */
static loch_status adopt(struct loch_proposer *p, struct loch_proposer_now now,
                         const struct loch_membership *m, struct loch_proposer_effects *out)
{
    const struct loch_proposer_effect changed = {.kind = LOCH_PROPOSER_MEMBERS};
    struct loch_membership copy;

    LOCH_TRY(loch_membership_copy(&copy, m));
    drop_votes(p);
    const bool contacts = p->membership.generation == 0;
    loch_membership_fini(&p->membership);
    p->membership = copy;
    if (contacts)
        name_contacts(p);
    reseat(p);
    if (p->state == LOCH_PROPOSER_VOTING)
        p->state = LOCH_PROPOSER_GATHERING;
    LOCH_TRY(push(out, &changed));
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        struct member *each = &p->members[i];
        const bool leads = p->state == LOCH_PROPOSER_LEADING && each->greeted;
        each->installed = each->recovering = false;
        if (!LOCH_MUTATED(STALE_ACK))
            each->held = 0; /* counts only when it is said again, under this configuration */
        if (leads)
            LOCH_TRY(send_elected(p, now, i, out));
        else if (each->connected) {
            each->greeted = false;
            LOCH_TRY(send_hello(p, now, i, out));
        }
    }
    return p->state == LOCH_PROPOSER_LEADING ? advance_commit(p, now, out) : LOCH_OK;
}

loch_status loch_proposer_members(struct loch_proposer *p, struct loch_proposer_now now,
                                  uint32_t member, const struct loch_membership *m,
                                  struct loch_proposer_effects *out)
{
    const struct member *who = answered(p, member, 0);

    if (is_fenced(p) || m->generation < p->membership.generation)
        return LOCH_OK;
    if (m->generation > p->membership.generation)
        return adopt(p, now, m, out);
    if (!loch_membership_equal(m, &p->membership))
        return LOCH_FAIL(LOCH_E_CORRUPT, "two configurations of generation %" PRIu64,
                         m->generation);
    if (!who->connected || who->installed)
        return LOCH_OK;
    return who->greeted ? go_on(p, now, member, out) : send_hello(p, now, member, out);
}

loch_status loch_proposer_wal(struct loch_proposer *p, struct loch_proposer_now now, loch_lsn start,
                              loch_lsn end, struct loch_proposer_effects *out)
{
    if (is_fenced(p))
        return LOCH_OK;
    LOCH_ASSERT(p->state == LOCH_PROPOSER_LEADING);
    LOCH_ASSERT(start >= p->window_start && end >= p->window_end);
    LOCH_ASSERT(start <= end);
    p->window_start = start;
    p->window_end = end;
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++)
        LOCH_TRY(pump(p, now, i, out));
    return LOCH_OK;
}

void loch_proposer_forget(struct loch_proposer *p, loch_lsn start)
{
    if (p->state == LOCH_PROPOSER_LEADING)
        p->window_start = loch_max_u64(p->window_start, loch_min_u64(start, p->window_end));
}

loch_status loch_proposer_tell(struct loch_proposer *p, struct loch_proposer_now now,
                               struct loch_proposer_effects *out)
{
    if (is_fenced(p))
        return LOCH_OK;
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++)
        if (tells_news(p, i))
            LOCH_TRY(send_empty(p, now, i, out));
    return LOCH_OK;
}

loch_status loch_proposer_tick(struct loch_proposer *p, struct loch_proposer_now now,
                               struct loch_proposer_effects *out)
{
    if (is_fenced(p))
        return LOCH_OK;
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        struct member *m = &p->members[i];
        if (!m->connected)
            continue;
        if (m->owes_ms != 0 && now.ms - m->owes_ms > p->config.reply_timeout_ms)
            LOCH_TRY(push_close(p, i, "does not answer", out));
        else if (owes_news(p, i) || (m->installed && now.ms - m->sent_ms >= p->config.heartbeat_ms))
            LOCH_TRY(send_empty(p, now, i, out));
    }
    if (p->state == LOCH_PROPOSER_VOTING && now.ms >= p->vote_deadline_ms) {
        if (quorum_greeted(p))
            return start_election(p, now, out);
        p->state = LOCH_PROPOSER_GATHERING;
    }
    return LOCH_OK;
}

/* ---- what others may see ---- */

void loch_proposer_look(const struct loch_proposer *p, struct loch_proposer_view *out)
{
    *out = (struct loch_proposer_view){.state = p->state,
                                       .term = p->term,
                                       .highest_term = p->highest_term,
                                       .start_lsn = p->start_lsn,
                                       .start_prev_lsn = p->start_prev_lsn,
                                       .commit_lsn = p->commit_lsn,
                                       .donor = p->donor,
                                       .reader_lsn = p->reader_lsn,
                                       .persisted_lsn = p->persisted_lsn,
                                       .heard_ms = p->heard_ms,
                                       .needed_from = p->window_end,
                                       .history = &p->history,
                                       .membership = &p->membership};
    for (uint32_t i = 0; i < LOCH_MEMBERS_MAX; i++) {
        const struct member *m = &p->members[i];
        out->members[i] = (struct loch_proposer_member_view){.used = m->used,
                                                             .id = m->id,
                                                             .connected = m->connected,
                                                             .greeted = m->greeted,
                                                             .installed = m->installed,
                                                             .recovering = m->recovering,
                                                             .flush_lsn = m->held,
                                                             .write_lsn = m->write_lsn,
                                                             .sent_lsn = m->sent_lsn};
        out->news = out->news || tells_news(p, i);
        if (m->installed && !m->recovering)
            out->needed_from = loch_min_u64(out->needed_from, m->held);
    }
}
