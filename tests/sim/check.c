/* Holds: the checkers, one for each invariant of the consensus (src/consensus/README.md). */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>

void violation(struct world *w, const char *fmt, ...)
{
    va_list args;

    if (w->violation[0] != '\0')
        return;
    va_start(args, fmt);
    (void)vsnprintf(w->violation, sizeof w->violation, fmt, args);
    va_end(args);
}

static bool same(struct log *a, struct log *b, loch_lsn from, loch_lsn to)
{
    return from >= to ||
           memcmp(log_at(a, from), log_at(b, from), (to - from) * sizeof(struct cell)) == 0;
}

/* Equal histories imply equal bytes up to the smaller flush_lsn. */
static void check_matching(struct world *w, uint32_t i, const struct loch_acceptor_view *view)
{
    for (uint32_t k = 0; k < w->node_count; k++) {
        struct loch_acceptor_view other;
        if (k == i || !w->nodes[k].up)
            continue;
        loch_acceptor_look(w->nodes[k].acceptor, &other);
        if (view->installed_term != other.installed_term ||
            !loch_history_equal(view->history, other.history))
            continue;
        if (!same(&w->nodes[i].issued, &w->nodes[k].issued, SIM_START,
                  loch_min_u64(view->flush_lsn, other.flush_lsn)))
            violation(w, "safekeepers %u and %u share a history and hold different WAL", i, k);
    }
}

void check_node(struct world *w, uint32_t i)
{
    struct node *n = &w->nodes[i];
    struct loch_acceptor_view view;

    if (!n->up)
        return;
    loch_acceptor_look(n->acceptor, &view);
    if (view.write_lsn != n->issued.end || view.flush_lsn > view.write_lsn) {
        violation(w, "safekeeper %u believes in WAL it does not have", i);
        return;
    }
    if (view.commit_lsn < n->seen_commit)
        violation(w, "commit_lsn of safekeeper %u went back", i);
    if (view.commit_lsn > w->committed.end)
        violation(w, "safekeeper %u believes %" PRIu64 " committed, which nobody announced", i,
                  view.commit_lsn);
    else if (!same(&n->issued, &w->committed, n->seen_commit, view.commit_lsn))
        violation(w, "safekeeper %u calls WAL committed that is not the committed one", i);
    n->seen_commit = view.commit_lsn;
    check_config(w, view.membership, "safekeeper", i);
    check_matching(w, i, &view);
}

static void check_vote(struct world *w, uint32_t i, uint32_t conn,
                       const struct loch_wal_vote_reply *m)
{
    struct node *n = &w->nodes[i];

    if (!m->granted)
        return;
    if (m->term < n->granted_term ||
        (m->term == n->granted_term && n->granted_boot != w->conns[conn].boot))
        violation(w, "safekeeper %u promised term %" PRIu64 " and then votes in term %" PRIu64, i,
                  n->granted_term, m->term);
    n->granted_term = m->term;
    n->granted_boot = w->conns[conn].boot;
}

/* Every acknowledgement is a record boundary; one vote per term. */
void check_answer(struct world *w, uint32_t i, uint32_t conn, const struct loch_acceptor_message *m)
{
    loch_lsn flush = SIM_START, prev;

    if (m->type == LOCH_WAL_VOTE_REPLY) {
        check_vote(w, i, conn, &m->u.vote_reply);
        flush = m->u.vote_reply.flush_lsn;
    } else if (m->type == LOCH_WAL_ELECTED_REPLY) {
        flush = m->u.elected_reply.flush_lsn;
    } else if (m->type == LOCH_WAL_APPEND_REPLY) {
        flush = m->u.append_reply.flush_lsn;
    }
    if (flush > w->nodes[i].issued.end)
        violation(w, "safekeeper %u acknowledges WAL that it does not have", i);
    else if (log_boundary(&w->nodes[i].issued, flush, &prev) != flush)
        violation(w, "safekeeper %u acknowledges %" PRIu64 ", inside a record", i, flush);
}

/* One leader per term, epochs rise with terms, L is a boundary, and nothing committed is missing.
 */
void check_elected(struct world *w, uint32_t b)
{
    struct boot *boot = w->boots[b];
    loch_lsn prev;

    for (uint32_t k = 0; k < w->boot_count; k++) {
        const struct boot *other = w->boots[k];
        if (k == b || !other->elected)
            continue;
        if (other->term == boot->term)
            violation(w, "computes %u and %u both lead term %" PRIu64, k, b, boot->term);
        if ((other->term < boot->term) != (other->epoch <= boot->epoch) &&
            other->epoch != boot->epoch)
            violation(w, "compute %u of an older epoch leads the newer term %" PRIu64,
                      boot->term > other->term ? b : k, loch_max_u64(boot->term, other->term));
    }
    if (log_boundary(&boot->log, boot->start_lsn, &prev) != boot->start_lsn)
        violation(w, "L %" PRIu64 " of term %" PRIu64 " lies inside a record", boot->start_lsn,
                  boot->term);
    for (loch_lsn at = SIM_START; at < w->committed.end; at++) {
        if (w->committed_term[at - SIM_START] > boot->term)
            continue; /* a leader elected late need not know what a higher term committed */
        if (at >= boot->start_lsn ||
            log_at(&boot->log, at)->record != log_at(&w->committed, at)->record) {
            violation(w, "the leader of term %" PRIu64 " lacks committed WAL at %" PRIu64,
                      boot->term, at);
            return;
        }
    }
}

static bool holds_committed(struct world *w, struct log *disk, loch_lsn synced)
{
    return synced >= w->committed.end && same(disk, &w->committed, SIM_START, w->committed.end);
}

static bool member_holds(struct world *w, const struct loch_id *member)
{
    uint32_t node;

    if (members_node(w, member, &node))
        return holds_committed(w, &w->nodes[node].disk, w->nodes[node].synced);
    for (uint32_t g = 0; g < w->ghost_count; g++) {
        if (loch_id_equal(&w->ghosts[g].member, member))
            return holds_committed(w, &w->ghosts[g].disk, w->ghosts[g].synced);
    }
    return false;
}

/* What was announced as committed lies on a majority of disks, synced: of the members, or while a
 * change is under way of the old set, for not every leader needs to know of the change. */
void check_durable(struct world *w)
{
    const struct loch_membership *m = members_now(w);
    uint32_t holders = 0, all = 0;

    for (uint32_t i = 0; i < m->count; i++) {
        if ((m->members[i].in & LOCH_MEMBER_OLD) == 0)
            continue;
        all++;
        holders += member_holds(w, &m->members[i].id);
    }
    if (holders < all / 2 + 1)
        violation(w, "committed WAL up to %" PRIu64 " is durable on only %u of %u members",
                  w->committed.end, holders, all);
}

/* One configuration for each generation. */
void check_config(struct world *w, const struct loch_membership *m, const char *who, uint32_t i)
{
    if (m->generation == 0)
        return;
    if (m->generation > w->config_count ||
        !loch_membership_equal(m, &w->configs[m->generation - 1]))
        violation(w, "%s %u goes by a configuration of generation %" PRIu64 " that nobody made",
                  who, i, m->generation);
}

void check_commit(struct world *w, uint32_t b, loch_lsn lsn)
{
    struct boot *boot = w->boots[b];
    loch_lsn prev;

    if (lsn < boot->commit_lsn)
        violation(w, "commit_lsn of compute %u went back", b);
    if (lsn > boot->log.end || log_boundary(&boot->log, lsn, &prev) != lsn) {
        violation(w, "compute %u commits %" PRIu64 ", not the end of a record of its", b, lsn);
        return;
    }
    for (loch_lsn at = SIM_START; at < lsn; at++) {
        uint64_t *term = &w->committed_term[at - SIM_START];
        if (at >= w->committed.end)
            *log_at(&w->committed, at) = *log_at(&boot->log, at);
        else if (log_at(&w->committed, at)->record != log_at(&boot->log, at)->record)
            violation(w, "committed WAL at %" PRIu64 " has changed", at);
        if (*term == 0 || boot->term < *term)
            *term = boot->term;
    }
    w->committed.end = loch_max_u64(w->committed.end, lsn);
    check_durable(w);
}

void check_heard(struct world *w, uint32_t b)
{
    const struct boot *boot = w->boots[b];
    struct loch_proposer_view view;

    /* Other defects are to be caught by what they do to WAL. */
    if (loch_mutation != LOCH_MUTATION_NONE && !LOCH_MUTATED(HEARD_AT_ARRIVAL))
        return;
    loch_proposer_look(boot->proposer, &view);
    if (view.heard_ms > boot->said_ms)
        violation(w, "compute %u has heard at %" PRIu64 " ms what was said at %" PRIu64, b,
                  view.heard_ms, boot->said_ms);
}
