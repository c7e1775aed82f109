/* Holds: what the safekeepers say of themselves, and the reading of a timeline's membership. */
#include "survey.h"
#include "console_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(LOCH_SAFEKEEPERS_MAX <= LOCH_MEMBERS_MAX, "a row for each safekeeper");

void loch_survey_fini(struct loch_survey *s)
{
    for (int i = 0; i < LOCH_SAFEKEEPERS_MAX; i++)
        json_decref(s->rows[i]);
    *s = (struct loch_survey){0};
}

void loch_survey_take(const struct loch_cluster *c, const struct loch_target *t,
                      struct loch_survey *out)
{
    char of[80] = "";

    *out = (struct loch_survey){0};
    if (t != NULL)
        (void)snprintf(of, sizeof of, " OF %s %s", t->tenant, t->timeline);
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        if (!loch_is_ok(loch_consolef(c, loch_port_safekeeper(c, i), &out->rows[i],
                                      "SHOW MEMBER STATES%s", of)))
            out->rows[i] = NULL;
    }
}

const json_t *loch_survey_row(const struct loch_survey *s, int i, const char *timeline)
{
    json_t *row;
    size_t k;

    json_array_foreach(s->rows[i], k, row)
    {
        if (strcmp(loch_field(row, "timeline"), timeline) == 0)
            return row;
    }
    return NULL;
}

uint64_t loch_row_number(const json_t *row, const char *name)
{
    return strtoull(loch_field(row, name), NULL, 10);
}

loch_lsn loch_row_lsn(const json_t *row, const char *name)
{
    loch_lsn lsn = 0;
    return loch_is_ok(loch_lsn_parse(loch_field(row, name), &lsn)) ? lsn : 0;
}

bool loch_survey_active(const json_t *row)
{
    return row != NULL && strcmp(loch_field(row, "state"), "active") == 0;
}

int loch_index_of_node(const struct loch_cluster *c, const struct loch_id *node)
{
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        if (loch_id_equal(&c->safekeeper_node[i], node))
            return i;
    }
    return -1;
}

void loch_survey_members(const struct loch_cluster *c, const struct loch_survey *s,
                         const struct loch_membership *m, const char *timeline,
                         const json_t *rows[LOCH_MEMBERS_MAX])
{
    for (uint32_t k = 0; k < m->count; k++) {
        const int i = loch_index_of_node(c, &m->members[k].node);
        const json_t *row = i >= 0 ? loch_survey_row(s, i, timeline) : NULL;
        struct loch_id id;
        const bool is_it = loch_survey_active(row) &&
                           loch_is_ok(loch_id_parse(loch_field(row, "member"), &id)) &&
                           loch_id_equal(&id, &m->members[k].id);
        rows[k] = is_it ? row : NULL;
    }
}

static loch_status parse_members(const json_t *rows, struct loch_membership *out)
{
    struct loch_membership m = {0};
    json_t *row;
    size_t i;

    m.members = calloc(LOCH_MEMBERS_MAX, sizeof *m.members);
    if (m.members == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a membership");
    json_array_foreach(rows, i, row)
    {
        const char *set = loch_field(row, "set");
        if (m.count == LOCH_MEMBERS_MAX)
            break;
        struct loch_member *each = &m.members[m.count++];
        m.generation = loch_row_number(row, "generation");
        loch_status st = loch_id_parse(loch_field(row, "member"), &each->id);
        if (loch_is_ok(st))
            st = loch_id_parse(loch_field(row, "node"), &each->node);
        if (!loch_is_ok(st)) {
            loch_membership_fini(&m);
            return st;
        }
        each->in = strcmp(set, "old") == 0   ? LOCH_MEMBER_OLD
                   : strcmp(set, "new") == 0 ? LOCH_MEMBER_NEW
                                             : LOCH_MEMBER_BOTH;
        (void)snprintf(each->address, sizeof each->address, "%s", loch_field(row, "address"));
    }
    *out = m;
    return LOCH_OK;
}

loch_status loch_survey_order(const struct loch_cluster *c, const struct loch_survey *s,
                              const struct loch_target *t, const char *verb, const char *rest,
                              struct loch_membership *out)
{
    loch_status st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "no safekeeper that answers has the timeline");

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        json_t *rows = NULL;
        const json_t *row = loch_survey_row(s, i, t->timeline);
        if (row != NULL && !loch_survey_active(row))
            st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "safekeeper %d: the timeline is %s: %s", i + 1,
                           loch_field(row, "state"), loch_field(row, "detail"));
        if (!loch_survey_active(row))
            continue;
        st = loch_consolef(c, loch_port_safekeeper(c, i), &rows, "%s MEMBERS %s %s%s", verb,
                           t->tenant, t->timeline, rest);
        if (loch_is_ok(st))
            st = parse_members(rows, out);
        json_decref(rows);
        if (loch_is_ok(st) || st.code != LOCH_E_UNAVAILABLE)
            return st;
    }
    return st;
}

/* Before a timeline has a membership its members are those that the cluster wants. */
static bool wished_quorum(const struct loch_cluster *c, const struct loch_survey *s,
                          const char *timeline, const json_t *rows[LOCH_SAFEKEEPERS_MAX])
{
    int answers = 0;

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        const json_t *row = loch_survey_row(s, i, timeline);
        rows[i] = c->member[i] && loch_survey_active(row) ? row : NULL;
        answers += rows[i] != NULL;
    }
    return answers >= loch_quorum(c);
}

/* The states are asked for when the membership is known: a member that comes in after it was read
 * has nothing to add, and one that had to catch up before it came in has done so. */
loch_status loch_positions_read(const struct loch_cluster *c, const struct loch_target *t,
                                struct loch_positions *out)
{
    struct loch_membership now = {0};
    const json_t *rows[LOCH_MEMBERS_MAX] = {0};
    bool has[LOCH_MEMBERS_MAX] = {0};
    struct loch_survey s;

    *out = (struct loch_positions){0};
    loch_survey_take(c, t, &s);
    const loch_status st = loch_survey_order(c, &s, t, "SHOW", "", &now);
    loch_survey_fini(&s);
    LOCH_TRY(st);
    loch_survey_take(c, t, &s);
    if (now.generation > 0)
        loch_survey_members(c, &s, &now, t->timeline, rows);
    else
        out->quorum = wished_quorum(c, &s, t->timeline, rows);
    for (uint32_t k = 0; k < LOCH_MEMBERS_MAX; k++) {
        has[k] = rows[k] != NULL;
        if (!has[k])
            continue;
        const loch_lsn flush = loch_row_lsn(rows[k], "flush_lsn");
        const loch_lsn commit = loch_row_lsn(rows[k], "commit_lsn");
        out->answers++;
        out->flush = flush > out->flush ? flush : out->flush;
        out->commit = commit > out->commit ? commit : out->commit;
    }
    if (now.generation > 0)
        out->quorum = loch_membership_quorum(&now, has);
    loch_survey_fini(&s);
    loch_membership_fini(&now);
    return LOCH_OK;
}
