/* Holds: the acceptor. Its source: the consensus protocol of Loch (docs/protocol/consensus.md), a
 * relative of Paxos over a byte log with terms and term histories.
 *
 * In memory stands the state after all effects issued so far; what is durable is that state after
 * some prefix of the disk effects, because they take effect in order. Answers are made when the
 * disk effect they rest on is reported done, from the state of that moment, and only while the term
 * they speak for is still the promised one: so nothing can be told to a deposed leader that a voter
 * did not tell to its successor.
 */
#include "loch/consensus/acceptor.h"
#include "loch/base/check.h"
#include "loch/consensus/history.h"
#include "loch/consensus/membership.h"
#include "mutation.h"

#include <stdlib.h>

/* An answer that waits for a PERSIST; token 0: none. */
struct pending {
    uint64_t token;
    uint64_t conn;
    uint64_t term;
};

struct loch_acceptor {
    struct loch_id member;
    struct loch_acceptor_control control; /* as it will be once all issued PERSISTs are done */
    loch_lsn flush_lsn, prev_lsn;         /* durable record end, and the start of that record */
    loch_lsn write_lsn;                   /* end of what was handed to WRITE */
    loch_lsn leader_commit;    /* as told under the installed term; may exceed flush_lsn */
    loch_lsn persisted_commit; /* in the last issued PERSIST */
    uint64_t next_token;
    uint64_t done_token;     /* highest token reported done */
    uint64_t sync_token;     /* the SYNC under way, 0: none */
    uint64_t truncate_token; /* the TRUNCATE under way, 0: none */
    bool dirty;              /* WRITEs no SYNC covers yet */
    struct pending vote, install;
    uint64_t raise_token;        /* the PERSIST of a promise taken over from a peer; 0: done */
    uint64_t members_token;      /* the PERSIST that brings the newest configuration; 0: done */
    uint64_t durable_generation; /* of the configuration that is durably known */
    uint64_t fence_conn;         /* told FENCED when the pending PERSIST is done */
    uint64_t fence_token;
    uint64_t leader_conn;  /* whose term is installed; 0: not connected */
    loch_lsn gap_lsn;      /* where the leader's window begins, when beyond write_lsn */
    uint64_t recover_term; /* the standing RECOVER order; 0: none */
    loch_lsn recover_end;
    loch_lsn peer_lsn; /* how far a peer with the installed history is; 0: none looked at */
    loch_lsn reader_lsn, persisted_lsn;
};

/* ---- effects ---- */

static loch_status push(struct loch_acceptor_effects *out, const struct loch_acceptor_effect *e)
{
    if (out->count == out->cap) {
        size_t cap = out->cap == 0 ? 8 : out->cap * 2;
        struct loch_acceptor_effect *items = realloc(out->items, cap * sizeof *items);
        if (items == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu effects", cap);
        out->items = items;
        out->cap = cap;
    }
    out->items[out->count++] = *e;
    return LOCH_OK;
}

static loch_status push_disk(struct loch_acceptor *a, struct loch_acceptor_effects *out,
                             struct loch_acceptor_effect e, uint64_t *token)
{
    e.token = a->next_token;
    LOCH_TRY(push(out, &e));
    a->next_token++;
    *token = e.token;
    return LOCH_OK;
}

static loch_status push_persist(struct loch_acceptor *a, struct loch_acceptor_effects *out,
                                uint64_t *token)
{
    struct loch_acceptor_effect e = {.kind = LOCH_ACCEPTOR_PERSIST};

    LOCH_TRY(loch_acceptor_control_copy(&e.control, &a->control));
    a->persisted_commit = e.control.commit_lsn;
    return push_disk(a, out, e, token);
}

static loch_status push_close(struct loch_acceptor_effects *out, uint64_t conn, enum loch_code code,
                              const char *text)
{
    const struct loch_acceptor_effect e = {
        .kind = LOCH_ACCEPTOR_CLOSE, .conn = conn, .code = code, .text = text};
    return push(out, &e);
}

static loch_status send_fenced(struct loch_acceptor *a, struct loch_acceptor_effects *out,
                               uint64_t conn)
{
    const struct loch_acceptor_effect e = {
        .kind = LOCH_ACCEPTOR_SEND,
        .conn = conn,
        .message = {.type = LOCH_WAL_FENCED,
                    .u.fenced = {.term = a->control.term,
                                 .min_compute_epoch = a->control.min_compute_epoch,
                                 .generation = a->control.membership.generation}}};
    return push(out, &e);
}

static uint64_t installed_term(const struct loch_acceptor *a)
{
    return loch_history_term(&a->control.history, a->control.history.count);
}

static loch_lsn term_start(const struct loch_acceptor *a)
{
    return a->control.history.entries[a->control.history.count - 1].start;
}

/* The promised term's history is durably installed. */
static bool in_term(const struct loch_acceptor *a)
{
    return a->install.token == 0 && installed_term(a) == a->control.term;
}

static loch_status send_vote_reply(struct loch_acceptor *a, struct loch_acceptor_effects *out,
                                   uint64_t conn, bool granted, uint64_t after)
{
    struct loch_acceptor_effect e = {
        .kind = LOCH_ACCEPTOR_SEND,
        .conn = conn,
        .after = after,
        .message = {.type = LOCH_WAL_VOTE_REPLY,
                    .u.vote_reply = {.granted = granted,
                                     .term = a->control.term,
                                     .generation = a->control.membership.generation,
                                     .flush_lsn = a->flush_lsn,
                                     .commit_lsn = a->control.commit_lsn,
                                     .start_lsn = a->control.start_lsn,
                                     .prev_lsn = a->prev_lsn}}};
    struct loch_term_history cut = a->control.history;
    if (!LOCH_MUTATED(UNCUT_HISTORY))
        cut.count = loch_history_cut(&a->control.history, a->flush_lsn);
    LOCH_TRY(loch_term_history_copy(&e.message.u.vote_reply.history, &cut));
    return push(out, &e);
}

static loch_status send_elected_reply(struct loch_acceptor *a, struct loch_acceptor_effects *out,
                                      uint64_t conn, uint64_t after)
{
    const struct loch_acceptor_effect e = {
        .kind = LOCH_ACCEPTOR_SEND,
        .conn = conn,
        .after = after,
        .message = {.type = LOCH_WAL_ELECTED_REPLY,
                    .u.elected_reply = {.term = a->control.term,
                                        .generation = a->control.membership.generation,
                                        .flush_lsn = a->flush_lsn}}};
    return push(out, &e);
}

static loch_status send_append_reply(struct loch_acceptor *a, struct loch_acceptor_effects *out,
                                     uint64_t after)
{
    loch_lsn flush_lsn = a->flush_lsn;

    if (a->leader_conn == 0)
        return LOCH_OK;
#ifdef LOCH_SIM_MUTATIONS
    if (LOCH_MUTATED(ACK_BEFORE_SYNC))
        flush_lsn = loch_mutation_boundary(a->write_lsn);
#endif
    const struct loch_acceptor_effect e = {
        .kind = LOCH_ACCEPTOR_SEND,
        .conn = a->leader_conn,
        .after = after,
        .message = {.type = LOCH_WAL_APPEND_REPLY,
                    .u.append_reply = {.term = a->control.term,
                                       .generation = a->control.membership.generation,
                                       .flush_lsn = flush_lsn,
                                       .write_lsn = a->write_lsn,
                                       .commit_lsn = a->control.commit_lsn,
                                       .reader_lsn = a->reader_lsn,
                                       .persisted_lsn = a->persisted_lsn}}};
    return push(out, &e);
}

/* ---- life ---- */

loch_status loch_acceptor_create(const struct loch_acceptor_control *control,
                                 const struct loch_id *member, loch_lsn flush_lsn,
                                 loch_lsn prev_lsn, struct loch_acceptor **out)
{
    const struct loch_term_history *h = &control->history;

    if (h->count == 0 || h->entries[0].start != control->start_lsn ||
        loch_history_term(h, h->count) > control->term)
        return LOCH_FAIL(LOCH_E_CORRUPT, "control state: its term history contradicts it");
    if (flush_lsn < control->start_lsn || flush_lsn < control->commit_lsn)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "WAL ends at " LOCH_LSN_FMT ", below the committed " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(flush_lsn), LOCH_LSN_ARG(control->commit_lsn));
    struct loch_acceptor *a = calloc(1, sizeof *a);
    if (a == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for an acceptor");
    loch_status st = loch_acceptor_control_copy(&a->control, control);
    if (!loch_is_ok(st)) {
        free(a);
        return st;
    }
    a->member = *member;
    a->durable_generation = control->membership.generation;
    a->flush_lsn = flush_lsn;
    a->write_lsn = flush_lsn;
    a->prev_lsn = prev_lsn;
    a->persisted_commit = control->commit_lsn;
    a->next_token = 1;
    *out = a;
    return LOCH_OK;
}

void loch_acceptor_destroy(struct loch_acceptor *a)
{
    if (a == NULL)
        return;
    loch_acceptor_control_fini(&a->control);
    free(a);
}

/* ---- shared steps ---- */

/* True when the sender is out of date for good. */
static bool outdated(const struct loch_acceptor *a, struct loch_acceptor_from from)
{
    return from.compute_epoch < a->control.min_compute_epoch && !LOCH_MUTATED(EPOCH_FORGOTTEN) &&
           !LOCH_MUTATED(NO_FENCING);
}

static loch_status send_members(struct loch_acceptor *a, struct loch_acceptor_effects *out,
                                uint64_t conn, uint64_t after)
{
    struct loch_acceptor_effect e = {.kind = LOCH_ACCEPTOR_SEND,
                                     .conn = conn,
                                     .after = after,
                                     .message = {.type = LOCH_WAL_MEMBERS}};

    LOCH_TRY(loch_membership_copy(&e.message.u.members, &a->control.membership));
    loch_status st = push(out, &e);
    if (!loch_is_ok(st))
        loch_membership_fini(&e.message.u.members);
    return st;
}

/* True when the sender and this acceptor go by the same configuration, in which it is a member.
 * Otherwise whoever is behind is told: the sender now (unless `quiet`: then it was told when we
 * learned of it), or we ask. */
static loch_status same_generation(struct loch_acceptor *a, struct loch_acceptor_from from,
                                   uint64_t generation, bool quiet, bool *same,
                                   struct loch_acceptor_effects *out)
{
    const struct loch_membership *m = &a->control.membership;
    const struct loch_acceptor_effect refresh = {.kind = LOCH_ACCEPTOR_REFRESH};

    *same = false;
    if (generation < m->generation && !LOCH_MUTATED(STALE_GENERATION))
        return quiet ? LOCH_OK : send_members(a, out, from.conn, 0);
    if (generation > m->generation)
        return push(out, &refresh);
    if (loch_membership_find(m, &a->member) == m->count) {
        LOCH_TRY(push(out, &refresh));
        return push_close(out, from.conn, LOCH_E_UNAVAILABLE,
                          "this safekeeper is not a member of the timeline");
    }
    *same = true;
    return LOCH_OK;
}

static void raise_term(struct loch_acceptor *a, struct loch_acceptor_from from, uint64_t term)
{
    a->control.term = term;
    a->control.min_compute_epoch = loch_max_u64(a->control.min_compute_epoch, from.compute_epoch);
    if (a->leader_conn != 0 && a->leader_conn != from.conn)
        a->fence_conn = a->leader_conn;
    a->leader_conn = 0;
    a->gap_lsn = 0;
}

/* Says what is to be fetched from peers, whenever that has changed. */
static loch_status plan_recovery(struct loch_acceptor *a, struct loch_acceptor_effects *out)
{
    uint64_t term = 0;
    loch_lsn end = a->peer_lsn;

    if (in_term(a))
        end = loch_max_u64(end, loch_max_u64(term_start(a), a->gap_lsn));
    if (a->install.token == 0 && a->write_lsn < end)
        term = installed_term(a);
    if (term == a->recover_term && (term == 0 || end == a->recover_end))
        return LOCH_OK;
    a->recover_term = term;
    a->recover_end = term == 0 ? 0 : end;
    const struct loch_acceptor_effect e = {.kind = LOCH_ACCEPTOR_RECOVER,
                                           .term = term,
                                           .begin = a->write_lsn,
                                           .end = term == 0 ? a->write_lsn : end};
    return push(out, &e);
}

static void learn_commit(struct loch_acceptor *a, loch_lsn commit_lsn)
{
    a->leader_commit = loch_max_u64(a->leader_commit, commit_lsn);
    loch_lsn known = loch_min_u64(a->leader_commit, a->flush_lsn);
    a->control.commit_lsn = loch_max_u64(a->control.commit_lsn, known);
}

static loch_status start_sync(struct loch_acceptor *a, struct loch_acceptor_effects *out)
{
    if (!a->dirty || a->sync_token != 0)
        return LOCH_OK;
    const struct loch_acceptor_effect e = {.kind = LOCH_ACCEPTOR_SYNC};
    LOCH_TRY(push_disk(a, out, e, &a->sync_token));
    a->dirty = false;
    return LOCH_OK;
}

/* Takes what of [begin, begin + len) lies beyond the write position. The bytes below it are the
 * same ones: both belong to the installed term's log. */
static loch_status take_bytes(struct loch_acceptor *a, uint64_t term, loch_lsn begin, uint64_t len,
                              struct loch_acceptor_effects *out)
{
    struct loch_acceptor_effect e = {
        .kind = LOCH_ACCEPTOR_WRITE, .begin = a->write_lsn, .end = begin + len, .term = term};
    uint64_t token;

    if (LOCH_MUTATED(GAP_ACCEPTED) && begin > a->write_lsn)
        e.begin = begin;
    e.skip = e.begin - begin;
    LOCH_TRY(push_disk(a, out, e, &token));
    a->write_lsn = e.end;
    a->dirty = true;
    return start_sync(a, out);
}

static loch_status cut_wal(struct loch_acceptor *a, loch_lsn lsn, struct loch_acceptor_effects *out)
{
    const struct loch_acceptor_effect e = {.kind = LOCH_ACCEPTOR_TRUNCATE, .begin = lsn};

    LOCH_TRY(push_disk(a, out, e, &a->truncate_token));
    a->flush_lsn = lsn;
    a->write_lsn = lsn;
    a->dirty = false;
    if (!LOCH_MUTATED(STALE_SYNC))
        a->sync_token = 0; /* its report speaks of bytes that are gone */
    return LOCH_OK;
}

/* ---- events from a proposer ---- */

loch_status loch_acceptor_hello(struct loch_acceptor *a, struct loch_acceptor_from from,
                                const struct loch_wal_hello *m, struct loch_acceptor_effects *out)
{
    bool same;

    if (outdated(a, from))
        return send_fenced(a, out, from.conn);
    LOCH_TRY(same_generation(a, from, m->generation, false, &same, out));
    if (!same)
        return LOCH_OK;
    const struct loch_acceptor_effect e = {
        .kind = LOCH_ACCEPTOR_SEND,
        .conn = from.conn,
        .message = {.type = LOCH_WAL_HELLO_REPLY,
                    .u.hello_reply = {.member = a->member,
                                      .term = a->control.term,
                                      .generation = a->control.membership.generation,
                                      .min_compute_epoch = a->control.min_compute_epoch,
                                      .start_lsn = a->control.start_lsn,
                                      .flush_lsn = a->flush_lsn,
                                      .commit_lsn = a->control.commit_lsn}}};
    return push(out, &e);
}

loch_status loch_acceptor_vote(struct loch_acceptor *a, struct loch_acceptor_from from,
                               const struct loch_wal_vote *m, struct loch_acceptor_effects *out)
{
    bool same;

    if (outdated(a, from))
        return send_fenced(a, out, from.conn);
    LOCH_TRY(same_generation(a, from, m->generation, false, &same, out));
    if (!same)
        return LOCH_OK;
    if (m->term <= a->control.term)
        return send_vote_reply(a, out, from.conn, false, 0);
    if (a->vote.token != 0) {
        a->vote.token = 0;
        LOCH_TRY(send_vote_reply(a, out, a->vote.conn, false, 0));
    }
    raise_term(a, from, m->term);
    if (LOCH_MUTATED(TERM_NOT_PERSISTED))
        return send_vote_reply(a, out, from.conn, true, 0);
    a->vote = (struct pending){.conn = from.conn, .term = m->term};
    LOCH_TRY(push_persist(a, out, &a->vote.token));
    a->fence_token = a->vote.token;
    return plan_recovery(a, out);
}

/* The same leader again: after a reconnect, or a repeated message. Nothing to cut. */
static loch_status elected_again(struct loch_acceptor *a, struct loch_acceptor_from from,
                                 const struct loch_wal_elected *m,
                                 struct loch_acceptor_effects *out)
{
    if (!loch_history_equal(&m->history, &a->control.history))
        return push_close(out, from.conn, LOCH_E_CORRUPT, "two histories for one term");
    a->leader_conn = from.conn;
    if (a->install.token == 0 && a->truncate_token != 0) /* what is not WAL is being cut away */
        a->install = (struct pending){.token = a->truncate_token, .term = m->term};
    if (a->install.token != 0) {
        a->install.conn = from.conn;
        return LOCH_OK;
    }
    return send_elected_reply(a, out, from.conn, 0);
}

/* Cuts what does not belong to `from`, then makes it the history: in this order also on disk. */
static loch_status take_history(struct loch_acceptor *a, const struct loch_term_history *from,
                                loch_lsn common, bool keep_tail, uint64_t *token,
                                struct loch_acceptor_effects *out)
{
    const bool cut = a->write_lsn > common && !keep_tail;
    struct loch_term_history history = {0};

    LOCH_TRY(loch_term_history_copy(&history, from));
    a->leader_commit = 0;
    a->peer_lsn = 0;
    if (cut && !LOCH_MUTATED(HISTORY_FIRST))
        LOCH_TRY(cut_wal(a, common, out));
    loch_term_history_fini(&a->control.history);
    a->control.history = history;
    LOCH_TRY(push_persist(a, out, token));
    if (cut && LOCH_MUTATED(HISTORY_FIRST))
        LOCH_TRY(cut_wal(a, common, out));
    return LOCH_OK;
}

static loch_status install(struct loch_acceptor *a, struct loch_acceptor_from from,
                           const struct loch_wal_elected *m, loch_lsn common,
                           struct loch_acceptor_effects *out)
{
    if (m->term > a->control.term || a->leader_conn != from.conn)
        raise_term(a, from, loch_max_u64(m->term, a->control.term));
    if (a->vote.token != 0 && a->vote.term < m->term)
        LOCH_TRY(send_vote_reply(a, out, a->vote.conn, false, 0));
    a->vote.token = 0;
    a->leader_conn = from.conn;
    a->install = (struct pending){.conn = from.conn, .term = m->term};
    LOCH_TRY(
        take_history(a, &m->history, common, LOCH_MUTATED(NO_TRUNCATION), &a->install.token, out));
    a->fence_token = a->install.token;
    return plan_recovery(a, out);
}

loch_status loch_acceptor_elected(struct loch_acceptor *a, struct loch_acceptor_from from,
                                  const struct loch_wal_elected *m,
                                  struct loch_acceptor_effects *out)
{
    loch_lsn common;
    bool same;

    if (outdated(a, from) || (m->term < a->control.term && !LOCH_MUTATED(NO_FENCING)))
        return send_fenced(a, out, from.conn);
    LOCH_TRY(same_generation(a, from, m->generation, false, &same, out));
    if (!same)
        return LOCH_OK;
    if (loch_history_term(&m->history, m->history.count) != m->term || m->term == 0)
        return push_close(out, from.conn, LOCH_E_INVALID, "the history does not end in its term");
    if (installed_term(a) == m->term)
        return elected_again(a, from, m, out);
    if (!loch_history_common(&m->history, &a->control.history, a->flush_lsn, &common))
        return push_close(out, from.conn, LOCH_E_CORRUPT, "the history is another timeline's");
    if (common < a->control.commit_lsn)
        return push_close(out, from.conn, LOCH_E_CORRUPT, "the history contradicts committed WAL");
    return install(a, from, m, common, out);
}

loch_status loch_acceptor_append(struct loch_acceptor *a, struct loch_acceptor_from from,
                                 const struct loch_wal_append *m, struct loch_acceptor_effects *out)
{
    const uint64_t len = m->bytes.len;
    bool same;

    if (outdated(a, from) || (m->term < a->control.term && !LOCH_MUTATED(NO_FENCING)))
        return send_fenced(a, out, from.conn);
    LOCH_TRY(same_generation(a, from, m->generation, true, &same, out));
    if (!same)
        return LOCH_OK;
    if (LOCH_MUTATED(NO_FENCING)) {
        a->leader_conn = from.conn;
    } else if (m->term > a->control.term || !in_term(a)) {
        return push_close(out, from.conn, LOCH_E_INVALID, "APPEND before its term is installed");
    }
    if (from.conn != a->leader_conn || a->truncate_token != 0)
        return LOCH_OK; /* left over from the leader's previous connection */
    if (len > UINT64_MAX - m->begin)
        return push_close(out, from.conn, LOCH_E_INVALID, "APPEND beyond the end of all WAL");
    const bool news = m->commit_lsn > a->leader_commit;
    learn_commit(a, m->commit_lsn);
    if (m->begin > a->write_lsn && !(LOCH_MUTATED(GAP_ACCEPTED) && len > 0)) {
        a->gap_lsn = m->begin;
        LOCH_TRY(send_append_reply(a, out, 0));
        return plan_recovery(a, out);
    }
    if (m->begin + len > a->write_lsn) {
        LOCH_TRY(take_bytes(a, m->term, m->begin, len, out));
        if (LOCH_MUTATED(ACK_BEFORE_SYNC))
            LOCH_TRY(send_append_reply(a, out, 0));
        return plan_recovery(a, out);
    }
    /* The broadcast of a commit_lsn wants no answer. */
    if (len == 0 && news)
        return LOCH_OK;
    return send_append_reply(a, out, 0);
}

void loch_acceptor_closed(struct loch_acceptor *a, uint64_t conn)
{
    if (a->leader_conn == conn)
        a->leader_conn = 0;
    if (a->fence_conn == conn)
        a->fence_conn = 0;
}

/* ---- events from disk ---- */

static void note_done(struct loch_acceptor *a, uint64_t token)
{
    LOCH_ASSERT(token > a->done_token);
    LOCH_ASSERT(token < a->next_token);
    a->done_token = token;
}

/* Does the answer to an ELECTED rest on this? */
static loch_status installed(struct loch_acceptor *a, uint64_t token,
                             struct loch_acceptor_effects *out)
{
    if (a->install.token != token)
        return LOCH_OK;
    a->install.token = 0;
    if (a->install.conn != 0 && a->install.term == a->control.term)
        LOCH_TRY(send_elected_reply(a, out, a->install.conn, token));
    else if (a->install.conn != 0) /* else a peer's history: nobody waits */
        LOCH_TRY(send_fenced(a, out, a->install.conn));
    return plan_recovery(a, out);
}

loch_status loch_acceptor_persisted(struct loch_acceptor *a, uint64_t token,
                                    struct loch_acceptor_effects *out)
{
    note_done(a, token);
    if (a->vote.token == token) {
        a->vote.token = 0;
        LOCH_TRY(send_vote_reply(a, out, a->vote.conn, a->vote.term == a->control.term, token));
    }
    LOCH_TRY(installed(a, token, out));
    if (a->raise_token == token)
        a->raise_token = 0;
    if (a->members_token != 0 && token >= a->members_token) {
        a->members_token = 0;
        a->durable_generation = a->control.membership.generation;
        LOCH_TRY(send_members(a, out, 0, token));
    }
    if (a->fence_conn != 0 && token >= a->fence_token) {
        LOCH_TRY(send_fenced(a, out, a->fence_conn));
        a->fence_conn = 0;
    }
    return LOCH_OK;
}

loch_status loch_acceptor_truncated(struct loch_acceptor *a, uint64_t token, loch_lsn prev_lsn,
                                    struct loch_acceptor_effects *out)
{
    note_done(a, token);
    if (token == a->truncate_token) {
        a->truncate_token = 0;
        a->prev_lsn = prev_lsn;
    }
    return installed(a, token, out);
}

loch_status loch_acceptor_synced(struct loch_acceptor *a, uint64_t token, loch_lsn flush_lsn,
                                 loch_lsn prev_lsn, struct loch_acceptor_effects *out)
{
    note_done(a, token);
    if (token != a->sync_token)
        return LOCH_OK;
    a->sync_token = 0;
    if (flush_lsn > a->flush_lsn) {
        LOCH_ASSERT(flush_lsn <= a->write_lsn || LOCH_MUTATED(STALE_SYNC));
        a->flush_lsn = flush_lsn;
        a->prev_lsn = prev_lsn;
    }
    if (in_term(a)) {
        learn_commit(a, 0);
        LOCH_TRY(send_append_reply(a, out, token));
    }
    return start_sync(a, out);
}

loch_status loch_acceptor_poisoned(struct loch_acceptor *a, loch_lsn end,
                                   struct loch_acceptor_effects *out)
{
    LOCH_ASSERT(end >= a->flush_lsn);
    LOCH_ASSERT(end <= a->write_lsn);
    if (end < a->write_lsn)
        a->write_lsn = end; /* nothing of it was taken: there is nothing to cut */
    else
        LOCH_TRY(cut_wal(a, a->flush_lsn, out));
    a->peer_lsn = 0;
    if (a->leader_conn != 0) {
        LOCH_TRY(push_close(out, a->leader_conn, LOCH_E_CORRUPT, "these bytes are not WAL"));
        a->leader_conn = 0;
    }
    return plan_recovery(a, out);
}

/* ---- the membership ---- */

loch_status loch_acceptor_configure(struct loch_acceptor *a,
                                    const struct loch_membership *membership,
                                    struct loch_acceptor_effects *out)
{
    struct loch_membership copy = {0};

    if (membership->generation < a->control.membership.generation)
        return LOCH_OK;
    if (membership->generation == a->control.membership.generation) {
        if (!loch_membership_equal(membership, &a->control.membership))
            return LOCH_FAIL(LOCH_E_CORRUPT, "two configurations of generation %" PRIu64,
                             membership->generation);
        return LOCH_OK;
    }
    LOCH_TRY(loch_membership_copy(&copy, membership));
    loch_membership_fini(&a->control.membership);
    a->control.membership = copy;
    if (LOCH_MUTATED(MEMBERS_FORGOTTEN)) {
        a->durable_generation = copy.generation;
        return send_members(a, out, 0, 0);
    }
    return push_persist(a, out, &a->members_token);
}

/* ---- events from peers, and time ---- */

/* What a peer of our configuration has promised binds us as well, while nobody leads: so that a
 * new set can come to have promised as much as the old one. */
static bool raise_promise(struct loch_acceptor *a, const struct loch_wal_pull_state *m)
{
    const uint64_t term = loch_max_u64(m->promised, m->term);

    if (term <= a->control.term && m->compute_epoch <= a->control.min_compute_epoch)
        return false;
    a->control.term = loch_max_u64(a->control.term, term);
    a->control.min_compute_epoch = loch_max_u64(a->control.min_compute_epoch, m->compute_epoch);
    return true;
}

/* Follows a peer's log from where the two part. */
static loch_status follow(struct loch_acceptor *a, const struct loch_wal_pull_state *m,
                          struct loch_acceptor_effects *out)
{
    loch_lsn common;

    if (!loch_history_common(&m->history, &a->control.history, a->flush_lsn, &common) ||
        common < a->control.commit_lsn)
        return LOCH_OK; /* an elected leader will say what is wrong */
    /* A candidate of a higher term may have been told of this tail and begin at its end. */
    if (m->term < a->control.term && common < a->write_lsn && !LOCH_MUTATED(PEER_OLDER))
        return LOCH_OK;
    (void)raise_promise(a, m);
    if (a->vote.token != 0) {
        a->vote.token = 0;
        LOCH_TRY(send_vote_reply(a, out, a->vote.conn, false, 0));
    }
    a->install = (struct pending){.term = m->term};
    LOCH_TRY(
        take_history(a, &m->history, common, LOCH_MUTATED(PEER_NOT_CUT), &a->install.token, out));
    a->peer_lsn = m->flush_lsn;
    return LOCH_MUTATED(ORDER_KEPT) ? LOCH_OK : plan_recovery(a, out);
}

loch_status loch_acceptor_peer_state(struct loch_acceptor *a, const struct loch_wal_pull_state *m,
                                     struct loch_acceptor_effects *out)
{
    const struct loch_acceptor_effect refresh = {.kind = LOCH_ACCEPTOR_REFRESH};

    if (loch_acceptor_is_behind(a, m->membership.generation))
        return push(out, &refresh);
    if (m->membership.generation != a->control.membership.generation || a->leader_conn != 0 ||
        a->install.token != 0 || a->truncate_token != 0 ||
        loch_history_term(&m->history, m->history.count) != m->term)
        return LOCH_OK;
    if (m->term > installed_term(a) || (m->term < installed_term(a) && LOCH_MUTATED(PEER_OLDER)))
        return follow(a, m, out);
    if (raise_promise(a, m))
        LOCH_TRY(push_persist(a, out, &a->raise_token));
    if (m->term == installed_term(a) && loch_history_equal(&m->history, &a->control.history)) {
        a->peer_lsn = loch_max_u64(a->peer_lsn, m->flush_lsn);
        learn_commit(a, m->commit_lsn);
    }
    return plan_recovery(a, out);
}

loch_status loch_acceptor_recovered(struct loch_acceptor *a, uint64_t term, loch_lsn begin,
                                    uint64_t len, loch_lsn commit_lsn,
                                    struct loch_acceptor_effects *out)
{
    if (a->recover_term == 0 || a->truncate_token != 0 || len > UINT64_MAX - begin)
        return LOCH_OK;
    if (term != a->recover_term && !LOCH_MUTATED(RECOVER_ANY_TERM))
        return LOCH_OK;
    learn_commit(a, commit_lsn);
    if (begin <= a->write_lsn && begin + len > a->write_lsn)
        LOCH_TRY(take_bytes(a, installed_term(a), begin, len, out));
    return plan_recovery(a, out);
}

void loch_acceptor_feedback(struct loch_acceptor *a, loch_lsn reader_lsn, loch_lsn persisted_lsn)
{
    a->reader_lsn = loch_max_u64(a->reader_lsn, reader_lsn);
    a->persisted_lsn = loch_max_u64(a->persisted_lsn, persisted_lsn);
}

loch_status loch_acceptor_tick(struct loch_acceptor *a, struct loch_acceptor_effects *out)
{
    uint64_t token;

    return a->control.commit_lsn == a->persisted_commit ? LOCH_OK : push_persist(a, out, &token);
}

void loch_acceptor_touch(struct loch_acceptor *a)
{
    a->persisted_commit = 0; /* no timeline's WAL begins there */
}

/* ---- what others may see ---- */

void loch_acceptor_look(const struct loch_acceptor *a, struct loch_acceptor_view *out)
{
    *out = (struct loch_acceptor_view){
        .term = a->control.term,
        .installed_term = installed_term(a),
        .term_start = term_start(a),
        .installing = a->install.token != 0,
        .installing_conn = a->install.token != 0 ? a->install.conn : 0,
        .settled = a->install.token == 0 && a->vote.token == 0 && a->raise_token == 0,
        .min_compute_epoch = a->control.min_compute_epoch,
        .generation = a->durable_generation,
        .log_term = loch_history_term(&a->control.history,
                                      loch_history_cut(&a->control.history, a->flush_lsn)),
        .led = a->leader_conn != 0,
        .start_lsn = a->control.start_lsn,
        .flush_lsn = a->flush_lsn,
        .write_lsn = a->write_lsn,
        .commit_lsn = a->control.commit_lsn,
        .prev_lsn = a->prev_lsn,
        .history = &a->control.history,
        .membership = &a->control.membership};
}

loch_status loch_acceptor_pull_limit(const struct loch_acceptor *a, enum loch_pull_mode mode,
                                     uint64_t term, uint64_t generation, loch_lsn from,
                                     loch_lsn *upto)
{
    if (mode != LOCH_PULL_COMMITTED && generation != a->control.membership.generation)
        return LOCH_FAIL(LOCH_E_STALE,
                         "the membership is of generation %" PRIu64 " here, not %" PRIu64,
                         a->control.membership.generation, generation);
    if (from < a->control.start_lsn)
        return LOCH_FAIL(LOCH_E_NOT_FOUND,
                         "this timeline's WAL begins at " LOCH_LSN_FMT ", not at " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(a->control.start_lsn), LOCH_LSN_ARG(from));
    switch (mode) {
    case LOCH_PULL_COMMITTED:
        *upto = a->control.commit_lsn;
        return LOCH_OK;
    case LOCH_PULL_FLUSHED:
        if ((a->install.token != 0 || installed_term(a) != term) && !LOCH_MUTATED(RECOVER_ANY_TERM))
            return LOCH_FAIL(LOCH_E_STALE, "term %" PRIu64 " is not installed here", term);
        *upto = a->flush_lsn;
        return LOCH_OK;
    case LOCH_PULL_LOOK:
        *upto = from;
        return LOCH_OK;
    }
    return LOCH_FAIL(LOCH_E_INVALID, "unknown pull mode");
}

bool loch_acceptor_is_behind(const struct loch_acceptor *a, uint64_t generation)
{
    return generation > a->control.membership.generation;
}
