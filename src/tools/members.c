/* Holds: changes of the timelines' memberships, as the one who drives them: each step is a
 * conditional put by a safekeeper; whoever comes later goes on from what stands there. The rules:
 * docs/protocol/consensus.md, "Changing the membership". */
#include "commands.h"
#include "console_client.h"
#include "patience.h"
#include "survey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE_MS   50u
#define LIST_BYTES 2400u

static loch_status quorum_answers(const struct loch_cluster *c, const struct loch_survey *s)
{
    int answer = 0;

    LOCH_EACH_SAFEKEEPER(c, i)
    answer += c->member[i] && s->rows[i] != NULL;
    if (answer < loch_quorum(c))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "only %d of the safekeepers that keep the WAL answer, %d must: start them "
                         "(loch up), or take back a change of theirs that is under way (loch "
                         "safekeeper abort)",
                         answer, loch_quorum(c));
    return LOCH_OK;
}

static loch_status reachable(const struct loch_cluster *c)
{
    struct loch_survey s;

    loch_survey_take(c, NULL, &s);
    const loch_status st = quorum_answers(c, &s);
    loch_survey_fini(&s);
    return st;
}

static loch_status newcomers_answer(const struct loch_cluster *c, const struct loch_survey *s,
                                    const bool to[LOCH_SAFEKEEPERS_MAX])
{
    int members = 0;
    int answer = 0;

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        members += to[i];
        answer += to[i] && s->rows[i] != NULL;
        if (to[i] && !c->member[i] && s->rows[i] == NULL)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                             "safekeeper %d does not answer, and does not keep the WAL yet: start "
                             "it (loch up), or name another",
                             i + 1);
    }
    if (answer < members / 2 + 1)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "only %d of the safekeepers that shall keep the WAL answer, %d must: "
                         "start them (loch up), or name others",
                         answer, members / 2 + 1);
    return LOCH_OK;
}

loch_status loch_members_may_move(const struct loch_cluster *c, const bool to[LOCH_SAFEKEEPERS_MAX])
{
    struct loch_survey s;

    loch_survey_take(c, NULL, &s);
    loch_status st = quorum_answers(c, &s);
    if (loch_is_ok(st))
        st = newcomers_answer(c, &s, to);
    loch_survey_fini(&s);
    return st;
}

/* ---- the configuration ---- */

/* Every safekeeper that has the timeline comes to know the configuration, and looks around. */
static void tell(const struct loch_cluster *c, const struct loch_survey *s,
                 const struct loch_target *t)
{
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        json_t *rows = NULL;
        if (loch_survey_active(loch_survey_row(s, i, t->timeline)) &&
            !loch_is_ok(loch_consolef(c, loch_port_safekeeper(c, i), &rows, "SHOW MEMBERS %s %s",
                                      t->tenant, t->timeline)))
            loch_progress("warning: safekeeper %d: %s", i + 1, loch_error_text());
        json_decref(rows);
    }
}

static void write_list(const struct loch_member *members, uint32_t count, char out[LIST_BYTES])
{
    size_t at = 0;

    out[0] = '\0';
    for (uint32_t i = 0; i < count && at < LIST_BYTES; i++) {
        char id[LOCH_ID_TEXT_BYTES];
        char node[LOCH_ID_TEXT_BYTES];
        int n = snprintf(out + at, LIST_BYTES - at, "%s%s@%s@%s", i > 0 ? "," : "",
                         loch_id_format(&members[i].id, id), loch_id_format(&members[i].node, node),
                         members[i].address);
        at += n > 0 ? (size_t)n : 0;
    }
}

static loch_status member_of(const struct loch_cluster *c, int i, const json_t *row,
                             struct loch_member *out)
{
    *out = (struct loch_member){.node = c->safekeeper_node[i], .in = LOCH_MEMBER_BOTH};
    loch_daemon_address(c, i, out->address, sizeof out->address);
    return loch_id_parse(loch_field(row, "member"), &out->id);
}

/* ---- a new timeline ---- */

static loch_status create_on(const struct loch_cluster *c, int i, const char *tenant,
                             const char *timeline, const json_t *spec)
{
    json_t *reply = NULL;
    loch_status st = loch_consolef(
        c, loch_port_safekeeper(c, i), &reply,
        "CREATE TIMELINE %s %s START %s PREV %s SYSID %s PGVERSION %s SEGMENT %s", tenant, timeline,
        loch_field(spec, "start_lsn"), loch_field(spec, "prev_lsn"), loch_field(spec, "system_id"),
        loch_field(spec, "pg_version"), loch_field(spec, "segment_bytes"));

    json_decref(reply);
    return st;
}

static loch_status form(const struct loch_cluster *c, const struct loch_survey *s,
                        const struct loch_target *t)
{
    struct loch_member members[LOCH_MEMBERS_MAX];
    struct loch_membership formed = {0};
    char list[LIST_BYTES];
    char rest[LIST_BYTES + 2];
    uint32_t count = 0;

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        const json_t *row = loch_survey_row(s, i, t->timeline);
        if (c->member[i] && loch_survey_active(row))
            LOCH_TRY(member_of(c, i, row, &members[count++]));
    }
    if ((int)count < loch_quorum(c))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "only %u safekeepers have the timeline: start the others and run "
                         "`loch up`",
                         count);
    write_list(members, count, list);
    (void)snprintf(rest, sizeof rest, " %s", list);
    LOCH_TRY(loch_survey_order(c, s, t, "FORM", rest, &formed));
    loch_membership_fini(&formed);
    tell(c, s, t);
    return LOCH_OK;
}

loch_status loch_timeline_announce(const struct loch_cluster *c, const json_t *row)
{
    struct loch_target t;
    struct loch_survey s;
    char why[400] = "";
    int taken = 0;

    (void)snprintf(t.tenant, sizeof t.tenant, "%s", loch_field(row, "tenant"));
    (void)snprintf(t.timeline, sizeof t.timeline, "%s", loch_field(row, "timeline"));
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        if (!c->member[i])
            continue;
        if (loch_is_ok(create_on(c, i, t.tenant, t.timeline, row))) {
            taken++;
            continue;
        }
        (void)snprintf(why, sizeof why, "safekeeper %d: %s", i + 1, loch_error_text());
        loch_progress("warning: %s", why);
    }
    if (taken < loch_quorum(c))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "only %d safekeepers took the timeline (%s): run `loch up` and try again",
                         taken, why);
    loch_survey_take(c, &t, &s);
    loch_status st = form(c, &s, &t);
    loch_survey_fini(&s);
    return st;
}

/* ---- a change ---- */

static void states_of(const struct loch_cluster *c, const struct loch_survey *s,
                      const struct loch_membership *m, const char *timeline,
                      struct loch_member_state *out)
{
    const json_t *rows[LOCH_MEMBERS_MAX];

    loch_survey_members(c, s, m, timeline, rows);
    for (uint32_t k = 0; k < m->count; k++) {
        const json_t *row = rows[k];
        out[k] = (struct loch_member_state){0};
        if (row == NULL || strcmp(loch_field(row, "settled"), "yes") != 0)
            continue;
        out[k] = (struct loch_member_state){.known = true,
                                            .generation = loch_row_number(row, "generation"),
                                            .term = loch_row_number(row, "term"),
                                            .log_term = loch_row_number(row, "log_term"),
                                            .flush_lsn = loch_row_lsn(row, "flush_lsn")};
    }
}

/* Waits until the joint configuration may end, and ends it. */
static loch_status finish(const struct loch_cluster *c, const struct loch_target *t,
                          const struct loch_membership *joint)
{
    struct loch_patience patience = loch_patience_begin(loch_now_ms());
    const char *why = "";
    char rest[64];

    (void)snprintf(rest, sizeof rest, " FROM %" PRIu64, joint->generation);
    while (loch_now_ms() < patience.until_ms) {
        struct loch_member_state before[LOCH_MEMBERS_MAX], after[LOCH_MEMBERS_MAX];
        struct loch_membership ended = {0};
        struct loch_survey s;
        loch_survey_take(c, t, &s);
        states_of(c, &s, joint, t->timeline, before);
        loch_survey_fini(&s);
        loch_survey_take(c, t, &s);
        states_of(c, &s, joint, t->timeline, after);
        loch_patience_see_new(&patience, loch_now_ms(), joint, after);
        if (loch_membership_may_finish(joint, before, after, &why)) {
            loch_status st = loch_survey_order(c, &s, t, "FINISH", rest, &ended);
            if (loch_is_ok(st))
                tell(c, &s, t);
            loch_membership_fini(&ended);
            loch_survey_fini(&s);
            return st;
        }
        tell(c, &s, t);
        loch_survey_fini(&s);
        if (loch_patience_says(&patience, loch_now_ms()))
            loch_progress("timeline %.8s: waiting: %s", t->timeline, why);
        loch_pause_ms(PAUSE_MS);
    }
    return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                     "timeline %s: the change has made no progress for %u s: %s. It is safe to "
                     "leave it so; go on with `loch safekeeper settle`, or take it back with `loch "
                     "safekeeper abort`",
                     t->timeline, LOCH_PATIENCE_MS / 1000, why);
}

/* Any row of a safekeeper that has the timeline: what it is, and how far. */
static const json_t *best_row(const struct loch_cluster *c, const struct loch_survey *s,
                              const char *timeline)
{
    const json_t *best = NULL;

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        const json_t *row = loch_survey_row(s, i, timeline);
        if (loch_survey_active(row) &&
            (best == NULL || loch_row_lsn(row, "commit_lsn") > loch_row_lsn(best, "commit_lsn")))
            best = row;
    }
    return best;
}

/* Safekeeper i follows the others until it has what was committed when we began. */
static loch_status catch_up(const struct loch_cluster *c, const struct loch_target *t, int i)
{
    struct loch_patience patience = loch_patience_begin(loch_now_ms());
    loch_lsn goal = 0;

    while (loch_now_ms() < patience.until_ms) {
        struct loch_survey s;
        json_t *rows = NULL;
        loch_survey_take(c, t, &s);
        const json_t *best = best_row(c, &s, t->timeline);
        const loch_lsn has = loch_row_lsn(loch_survey_row(&s, i, t->timeline), "flush_lsn");
        loch_patience_see(&patience, loch_now_ms(), has);
        if (goal == 0 && best != NULL)
            goal = loch_row_lsn(best, "commit_lsn");
        loch_survey_fini(&s);
        if (goal != 0 && has >= goal)
            return LOCH_OK;
        LOCH_TRY(loch_consolef(c, loch_port_safekeeper(c, i), &rows, "SHOW MEMBERS %s %s",
                               t->tenant, t->timeline));
        json_decref(rows);
        if (loch_patience_says(&patience, loch_now_ms()))
            loch_progress("timeline %.8s: safekeeper %d is at " LOCH_LSN_FMT " of " LOCH_LSN_FMT,
                          t->timeline, i + 1, LOCH_LSN_ARG(has), LOCH_LSN_ARG(goal));
        loch_pause_ms(PAUSE_MS);
    }
    return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                     "timeline %s: safekeeper %d has not caught up, and comes no nearer for %u s; "
                     "try again with `loch safekeeper settle`",
                     t->timeline, i + 1, LOCH_PATIENCE_MS / 1000);
}

/* Does the timeline live on without safekeeper i? A broken copy may be the only one, beside others
 * that cannot be read either, of what was acknowledged: a quorum must be there before it goes. */
static loch_status may_lose(const struct loch_cluster *c, const struct loch_survey *s,
                            const struct loch_target *t, const struct loch_membership *now, int i)
{
    const json_t *rows[LOCH_MEMBERS_MAX];
    bool has[LOCH_MEMBERS_MAX] = {0};
    uint32_t left = 0;

    loch_survey_members(c, s, now, t->timeline, rows); /* a broken copy is not among them */
    for (uint32_t k = 0; k < now->count; k++) {
        has[k] = rows[k] != NULL;
        left += has[k];
    }
    if (loch_membership_quorum(now, has))
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                     "timeline %s: the broken copy on safekeeper %d stays: without it only %" PRIu32
                     " of the timeline's %" PRIu32 " members are active, which is no quorum, and "
                     "commits could be lost. Start the others, or mend what their `SHOW TIMELINES` "
                     "says, then try again",
                     t->timeline, i + 1, left, now->count);
}

/* Makes the timeline on safekeeper i when it has none, or a broken one. */
static loch_status make_on(const struct loch_cluster *c, const struct loch_survey *s,
                           const struct loch_target *t, int i, const struct loch_membership *now)
{
    const json_t *row = loch_survey_row(s, i, t->timeline);
    const json_t *spec = best_row(c, s, t->timeline);
    json_t *reply = NULL;

    if (loch_survey_active(row))
        return LOCH_OK;
    if (row != NULL && strcmp(loch_field(row, "state"), "broken") != 0)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "safekeeper %d: the timeline is %s: %s", i + 1,
                         loch_field(row, "state"), loch_field(row, "detail"));
    if (spec == NULL)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "no safekeeper that answers has the timeline");
    if (row != NULL) {
        LOCH_TRY(may_lose(c, s, t, now, i));
        loch_progress("timeline %.8s: safekeeper %d has a broken one, which is replaced",
                      t->timeline, i + 1);
        LOCH_TRY(loch_consolef(c, loch_port_safekeeper(c, i), &reply, "DROP TIMELINE %s %s",
                               t->tenant, t->timeline));
        json_decref(reply);
    }
    return create_on(c, i, t->tenant, t->timeline, spec);
}

/* Safekeeper i as a member to be: made, told and caught up. */
static loch_status bring_in(const struct loch_cluster *c, const struct loch_target *t, int i,
                            const struct loch_membership *now, struct loch_member *out)
{
    struct loch_survey s;
    json_t *rows = NULL;

    loch_survey_take(c, t, &s);
    loch_status st = make_on(c, &s, t, i, now);
    loch_survey_fini(&s);
    LOCH_TRY(st);
    LOCH_TRY(loch_consolef(c, loch_port_safekeeper(c, i), &rows, "SHOW MEMBERS %s %s", t->tenant,
                           t->timeline));
    json_decref(rows);
    loch_survey_take(c, t, &s);
    st = member_of(c, i, loch_survey_row(&s, i, t->timeline), out);
    loch_survey_fini(&s);
    LOCH_TRY(st);
    return loch_membership_find(now, &out->id) < now->count ? LOCH_OK : catch_up(c, t, i);
}

/* A broken copy is evidence: it is replaced on command only. */
static bool is_damaged(const struct loch_survey *s, int i, const struct loch_target *t)
{
    const json_t *row = loch_survey_row(s, i, t->timeline);

    if (row == NULL || strcmp(loch_field(row, "state"), "broken") != 0)
        return false;
    loch_progress("safekeeper %d: timeline %.8s is broken (%s); `loch safekeeper settle` throws it "
                  "away and gets it anew from the others",
                  i + 1, t->timeline, loch_field(row, "detail"));
    return true;
}

/* The members the timeline shall have. One that is down stays when it is a member; else it is left
 * for later, or (strict) a failure. */
static loch_status plan(const struct loch_cluster *c, const struct loch_survey *s,
                        const struct loch_target *t, const struct loch_membership *now, bool strict,
                        struct loch_member *out, uint32_t *count)
{
    *count = 0;
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        if (!c->member[i])
            continue;
        if (s->rows[i] != NULL && (strict || !is_damaged(s, i, t))) {
            LOCH_TRY(bring_in(c, t, i, now, &out[*count]));
            (*count)++;
            continue;
        }
        uint32_t k = 0;
        while (k < now->count && !loch_id_equal(&now->members[k].node, &c->safekeeper_node[i]))
            k++;
        if (k < now->count)
            out[(*count)++] = now->members[k];
        else if (strict)
            return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                             "safekeeper %d does not answer, and is not a member yet", i + 1);
        else
            loch_progress("safekeeper %d is down: it joins timeline %.8s at the next `loch up`",
                          i + 1, t->timeline);
    }
    return LOCH_OK;
}

/* A safekeeper that has left keeps nothing of the timeline. */
static void forget_left(const struct loch_cluster *c, const struct loch_survey *s,
                        const struct loch_target *t, const struct loch_membership *now)
{
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        json_t *reply = NULL;
        bool member = false;
        for (uint32_t k = 0; k < now->count; k++)
            member = member || loch_id_equal(&now->members[k].node, &c->safekeeper_node[i]);
        if (member || c->member[i] || loch_survey_row(s, i, t->timeline) == NULL)
            continue;
        if (!loch_is_ok(loch_consolef(c, loch_port_safekeeper(c, i), &reply, "DROP TIMELINE %s %s",
                                      t->tenant, t->timeline)))
            loch_progress("warning: safekeeper %d: %s", i + 1, loch_error_text());
        json_decref(reply);
    }
}

/* One step towards the members the cluster wants; *over: there is none left. */
static loch_status step(const struct loch_cluster *c, const struct loch_target *t, bool strict,
                        bool *over)
{
    struct loch_membership now = {0}, next = {0};
    struct loch_member to[LOCH_MEMBERS_MAX];
    struct loch_survey s;
    char list[LIST_BYTES];
    char rest[LIST_BYTES + 64];
    uint32_t count = 0;
    loch_status st;

    loch_survey_take(c, t, &s);
    *over = false;
    LOCH_TRY_OUT(st, loch_survey_order(c, &s, t, "SHOW", "", &now));
    if (now.generation == 0) {
        st = form(c, &s, t);
        goto out;
    }
    if (loch_membership_joint(&now)) {
        loch_progress("timeline %.8s: generation %" PRIu64 ", a change is under way", t->timeline,
                      now.generation);
        tell(c, &s, t);
        st = finish(c, t, &now);
        goto out;
    }
    LOCH_TRY_OUT(st, plan(c, &s, t, &now, strict, to, &count));
    st = loch_membership_begin(&now, to, count, &next);
    if (st.code == LOCH_E_EXISTS) {
        *over = true;
        forget_left(c, &s, t, &now);
        st = LOCH_OK;
        goto out;
    }
    LOCH_TRY_OUT(st, st);
    loch_membership_fini(&next);
    write_list(to, count, list);
    (void)snprintf(rest, sizeof rest, " FROM %" PRIu64 " TO %s", now.generation, list);
    loch_progress("timeline %.8s: from %u to %u safekeepers", t->timeline, now.count, count);
    LOCH_TRY_OUT(st, loch_survey_order(c, &s, t, "CHANGE", rest, &next));
out:
    loch_survey_fini(&s);
    loch_membership_fini(&now);
    loch_membership_fini(&next);
    return st;
}

/* ---- all timelines ---- */

typedef loch_status (*each_fn)(struct loch_cluster *c, const struct loch_target *t, void *arg);

struct each {
    struct loch_cluster *c;
    each_fn fn;
    void *arg;
    json_t *seen;
};

static loch_status visit(const struct each *each, const json_t *rows)
{
    json_t *row;
    size_t k;

    json_array_foreach(rows, k, row)
    {
        struct loch_target t;
        (void)snprintf(t.tenant, sizeof t.tenant, "%s", loch_field(row, "tenant"));
        (void)snprintf(t.timeline, sizeof t.timeline, "%s", loch_field(row, "timeline"));
        if (json_object_get(each->seen, t.timeline) != NULL)
            continue;
        json_object_set_new(each->seen, t.timeline, json_true());
        LOCH_TRY(each->fn(each->c, &t, each->arg));
    }
    return LOCH_OK;
}

/* Once for every timeline that any safekeeper has that answers, or that is in `known`, which may be
 * NULL. */
static loch_status for_each(struct loch_cluster *c, const json_t *known, each_fn fn, void *arg)
{
    const struct each each = {c, fn, arg, json_object()};
    struct loch_survey s;

    loch_survey_take(c, NULL, &s);
    loch_status st = visit(&each, known);
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        if (loch_is_ok(st))
            st = visit(&each, s.rows[i]);
    }
    loch_survey_fini(&s);
    json_decref(each.seen);
    return st;
}

struct settling {
    bool strict;
    const struct loch_survey *all; /* of all timelines, before anything was done */
    loch_status st;                /* strict: of the first that failed */
    char why[600];
};

/* Everybody who is to have it has it and is asleep, and nobody else has it: there is nothing to do
 * but what would wake a tenant that nobody uses. A change that was left half done waits for the
 * next `loch up` that meets it awake, or for `loch safekeeper settle`. */
static bool is_at_rest(const struct loch_cluster *c, const struct loch_survey *all,
                       const struct loch_target *t)
{
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        const json_t *row = loch_survey_row(all, i, t->timeline);
        const bool sleeps = row != NULL && strcmp(loch_field(row, "state"), "waiting") == 0 &&
                            strncmp(loch_field(row, "detail"), "asleep:", 7) == 0;
        if (c->member[i] ? !sleeps : row != NULL)
            return false;
    }
    return true;
}

static loch_status settle_one(struct loch_cluster *c, const struct loch_target *t, void *arg)
{
    struct settling *settling = arg;
    bool over = !settling->strict && is_at_rest(c, settling->all, t);
    const uint64_t began_ms = loch_now_ms();

    while (!over) {
        const loch_status st = step(c, t, settling->strict, &over);
        if (loch_is_ok(st))
            continue;
        /* what was waited for in vain, the others would wait for as long */
        if (settling->strict && loch_now_ms() - began_ms >= LOCH_PATIENCE_MS)
            return st;
        if (settling->strict && loch_is_ok(settling->st)) {
            settling->st = st;
            (void)snprintf(settling->why, sizeof settling->why, "%s", loch_error_text());
        }
        loch_progress("warning: timeline %.8s: %s", t->timeline, loch_error_text());
        return LOCH_OK; /* the others are not the worse for it, and what runs, runs */
    }
    return LOCH_OK;
}

loch_status loch_members_settle(struct loch_cluster *c, bool strict)
{
    struct loch_survey all;

    if (strict)
        LOCH_TRY(reachable(c));
    loch_leftovers_drop(c);
    loch_survey_take(c, NULL, &all);
    struct settling settling = {.strict = strict, .all = &all, .st = LOCH_OK};
    loch_status st = for_each(c, NULL, settle_one, &settling);
    loch_survey_fini(&all);
    if (loch_is_ok(st) && !loch_is_ok(settling.st))
        return LOCH_FAIL(settling.st.code, "%s", settling.why);
    return st;
}

static loch_status abort_one(struct loch_cluster *c, const struct loch_target *t, void *arg)
{
    struct loch_membership now = {0}, ended = {0};
    int *aborted = arg;
    struct loch_survey s;
    char rest[64];
    loch_status st;

    loch_survey_take(c, t, &s);
    LOCH_TRY_OUT(st, loch_survey_order(c, &s, t, "SHOW", "", &now));
    if (loch_membership_joint(&now)) {
        (void)snprintf(rest, sizeof rest, " FROM %" PRIu64, now.generation);
        LOCH_TRY_OUT(st, loch_survey_order(c, &s, t, "ABORT", rest, &ended));
        tell(c, &s, t);
        loch_progress("timeline %.8s: back to %u safekeepers", t->timeline, ended.count);
    }
    const struct loch_membership *stays = ended.count > 0 ? &ended : &now;
    for (uint32_t k = 0; *aborted == 0 && k < stays->count; k++) {
        const int i = loch_index_of_node(c, &stays->members[k].node);
        if (k == 0)
            memset(c->member, 0, sizeof c->member);
        if (i >= 0)
            c->member[i] = true;
    }
    *aborted += ended.count > 0;
out:
    loch_survey_fini(&s);
    loch_membership_fini(&now);
    loch_membership_fini(&ended);
    return st;
}

loch_status loch_members_abort(struct loch_cluster *c)
{
    int aborted = 0;
    int answer = 0;
    struct loch_survey s;

    loch_survey_take(c, NULL, &s);
    LOCH_EACH_SAFEKEEPER(c, i)
    answer += s.rows[i] != NULL;
    loch_survey_fini(&s);
    if (answer == 0)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "no safekeeper answers: start them (loch up)");
    loch_leftovers_drop(c);
    LOCH_TRY(for_each(c, NULL, abort_one, &aborted));
    loch_progress("%d changes taken back", aborted);
    return loch_cluster_save(c);
}

struct counting {
    const struct loch_id *node;
    int count;
};

static loch_status count_one(struct loch_cluster *c, const struct loch_target *t, void *arg)
{
    struct counting *counting = arg;
    struct loch_membership now = {0};
    struct loch_survey s;

    loch_survey_take(c, t, &s);
    loch_status st = loch_survey_order(c, &s, t, "SHOW", "", &now);
    for (uint32_t k = 0; k < now.count; k++)
        counting->count += loch_id_equal(&now.members[k].node, counting->node);
    loch_survey_fini(&s);
    loch_membership_fini(&now);
    return st;
}

loch_status loch_members_may_go(const struct loch_cluster *c, int n)
{
    struct counting counting = {.node = &c->safekeeper_node[n]};
    struct loch_cluster copy = *c;
    json_t *known = NULL;
    char why[400];
    struct loch_survey s;
    loch_status st = LOCH_OK;

    if (c->member[n])
        return LOCH_FAIL(LOCH_E_INVALID,
                         "safekeeper-%d keeps the WAL: put another in its place first (loch "
                         "safekeeper replace)",
                         n + 1);
    loch_leftovers_drop(&copy);
    loch_survey_take(c, NULL, &s);
    const bool empty = s.rows[n] != NULL && json_array_size(s.rows[n]) == 0;
    loch_survey_fini(&s);
    if (!empty)
        st = loch_timelines_known(c, &known);
    if (loch_is_ok(st))
        st = for_each(&copy, known, count_one, &counting);
    json_decref(known);
    if (!loch_is_ok(st)) {
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
        return LOCH_FAIL(st.code, "cannot tell whether safekeeper-%d keeps WAL: %s", n + 1, why);
    }
    if (counting.count > 0)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "safekeeper-%d keeps the WAL of %d timelines: put another in its place "
                         "first (loch safekeeper replace)",
                         n + 1, counting.count);
    return LOCH_OK;
}
