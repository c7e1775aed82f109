/* Holds: arithmetic on configurations. Invariant: pure functions of their arguments. Its source:
 * docs/protocol/consensus.md, "Changing the membership". */
#include "loch/consensus/membership.h"
#include "mutation.h"

#include <stdlib.h>

bool loch_membership_joint(const struct loch_membership *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->members[i].in != LOCH_MEMBER_BOTH)
            return true;
    }
    return false;
}

static bool same_member(const struct loch_member *a, const struct loch_member *b)
{
    return loch_id_equal(&a->id, &b->id) && loch_id_equal(&a->node, &b->node) && a->in == b->in &&
           strcmp(a->address, b->address) == 0;
}

bool loch_membership_equal(const struct loch_membership *a, const struct loch_membership *b)
{
    if (a->generation != b->generation || a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++) {
        if (!same_member(&a->members[i], &b->members[i]))
            return false;
    }
    return true;
}

uint32_t loch_membership_find(const struct loch_membership *m, const struct loch_id *id)
{
    uint32_t i = 0;

    while (i < m->count && !loch_id_equal(&m->members[i].id, id))
        i++;
    return i;
}

/* Do they make a majority of one of the sets? */
static bool majority(const struct loch_membership *m, uint8_t set, const bool *has)
{
    uint32_t all = 0, with = 0;

    for (uint32_t i = 0; i < m->count; i++) {
        if ((m->members[i].in & set) == 0)
            continue;
        all++;
        with += has[i];
    }
    return all > 0 && with >= all / 2 + 1;
}

bool loch_membership_quorum(const struct loch_membership *m, const bool *has)
{
    return (majority(m, LOCH_MEMBER_OLD, has) || LOCH_MUTATED(JOINT_NEW_ONLY)) &&
           (majority(m, LOCH_MEMBER_NEW, has) || LOCH_MUTATED(JOINT_OLD_ONLY));
}

static loch_status check_set(const struct loch_member *members, uint32_t count)
{
    if (count == 0 || count > LOCH_MEMBERS_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "a membership has 1 to %u safekeepers, not %" PRIu32,
                         LOCH_MEMBERS_MAX, count);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (loch_id_equal(&members[i].id, &members[k].id) ||
                loch_id_equal(&members[i].node, &members[k].node))
                return LOCH_FAIL(LOCH_E_INVALID, "a safekeeper is named twice");
        }
    }
    return LOCH_OK;
}

static void add(struct loch_membership *m, const struct loch_member *member, uint8_t in)
{
    m->members[m->count] = *member;
    m->members[m->count++].in = in;
}

static loch_status allocate(struct loch_membership *m)
{
    m->members = calloc(LOCH_MEMBERS_MAX, sizeof *m->members);
    return m->members != NULL ? LOCH_OK : LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a membership");
}

loch_status loch_membership_first(const struct loch_member *members, uint32_t count,
                                  struct loch_membership *out)
{
    struct loch_membership m = {.generation = 1};

    LOCH_TRY(check_set(members, count));
    LOCH_TRY(allocate(&m));
    for (uint32_t i = 0; i < count; i++)
        add(&m, &members[i], LOCH_MEMBER_BOTH);
    *out = m;
    return LOCH_OK;
}

static bool is_among(const struct loch_member *members, uint32_t count, const struct loch_id *id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (loch_id_equal(&members[i].id, id))
            return true;
    }
    return false;
}

loch_status loch_membership_begin(const struct loch_membership *m,
                                  const struct loch_member *members, uint32_t count,
                                  struct loch_membership *out)
{
    struct loch_membership joint = {.generation = m->generation + 1};
    uint32_t fresh = 0;

    LOCH_TRY(check_set(members, count));
    if (loch_membership_joint(m))
        return LOCH_FAIL(LOCH_E_INVALID, "a change of the membership is under way already");
    for (uint32_t i = 0; i < count; i++)
        fresh += loch_membership_find(m, &members[i].id) == m->count;
    if (fresh == 0 && count == m->count)
        return LOCH_FAIL(LOCH_E_EXISTS, "these are the members already");
    if (m->count + fresh > LOCH_MEMBERS_MAX)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "old and new members together are %" PRIu32
                         ", at most %u are possible: go in two steps",
                         m->count + fresh, LOCH_MEMBERS_MAX);
    LOCH_TRY(allocate(&joint));
    for (uint32_t i = 0; i < m->count; i++)
        add(&joint, &m->members[i],
            is_among(members, count, &m->members[i].id) ? LOCH_MEMBER_BOTH : LOCH_MEMBER_OLD);
    for (uint32_t i = 0; i < count; i++) {
        if (loch_membership_find(m, &members[i].id) == m->count)
            add(&joint, &members[i], LOCH_MEMBER_NEW);
    }
    *out = joint;
    return LOCH_OK;
}

loch_status loch_membership_end(const struct loch_membership *m, bool abort,
                                struct loch_membership *out)
{
    struct loch_membership next = {.generation = m->generation + 1};
    const uint8_t keep = abort ? LOCH_MEMBER_OLD : LOCH_MEMBER_NEW;

    if (!loch_membership_joint(m))
        return LOCH_FAIL(LOCH_E_INVALID, "no change of the membership is under way");
    LOCH_TRY(allocate(&next));
    for (uint32_t i = 0; i < m->count; i++) {
        if ((m->members[i].in & keep) != 0)
            add(&next, &m->members[i], LOCH_MEMBER_BOTH);
    }
    *out = next;
    return LOCH_OK;
}

/* Which members know the configuration? */
static void who_knows(const struct loch_membership *m, const struct loch_member_state *states,
                      bool *out)
{
    for (uint32_t i = 0; i < m->count; i++)
        out[i] = (states[i].known && states[i].generation == m->generation) ||
                 LOCH_MUTATED(FINISH_UNKNOWN);
}

static bool is_behind(const struct loch_member_state *s, const struct loch_member_state *than)
{
    if (LOCH_MUTATED(FINISH_EARLY))
        return false;
    if (s->log_term != than->log_term && !LOCH_MUTATED(FINISH_BY_LSN))
        return s->log_term < than->log_term;
    return s->flush_lsn < than->flush_lsn;
}

bool loch_membership_may_finish(const struct loch_membership *m,
                                const struct loch_member_state *before,
                                const struct loch_member_state *after, const char **why)
{
    struct loch_member_state furthest = {0};
    bool old[LOCH_MEMBERS_MAX] = {0}, ready[LOCH_MEMBERS_MAX] = {0};

    who_knows(m, before, old);
    who_knows(m, after, ready);
    *why = "not enough of the old safekeepers know of the change";
    if (!majority(m, LOCH_MEMBER_OLD, old))
        return false;
    *why = "not enough of the new safekeepers know of the change";
    if (!majority(m, LOCH_MEMBER_NEW, ready))
        return false;
    for (uint32_t i = 0; i < m->count; i++) {
        if (!old[i] || (m->members[i].in & LOCH_MEMBER_OLD) == 0)
            continue;
        if (is_behind(&furthest, &before[i])) {
            furthest.log_term = before[i].log_term;
            furthest.flush_lsn = before[i].flush_lsn;
        }
        if (before[i].term > furthest.term)
            furthest.term = before[i].term;
    }
    for (uint32_t i = 0; i < m->count; i++)
        ready[i] = ready[i] && !is_behind(&after[i], &furthest) && after[i].term >= furthest.term;
    *why = "not enough of the new safekeepers have caught up";
    return majority(m, LOCH_MEMBER_NEW, ready);
}
