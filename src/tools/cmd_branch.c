/* Holds: branch commands: where a branch is made, and what points of its history there are. */
#include "commands.h"
#include "console_client.h"
#include "survey.h"

#include "loch/base/time.h"

#include <stdio.h>
#include <string.h>

#define TIP_WAIT_MS        5000
#define INSERT_AHEAD_BYTES 16384
/* A creation whose safekeepers have heard of no membership for so long was cut short. */
#define UNFINISHED_MS      5000
#define UNFINISHED_LOOK_MS 50

loch_status loch_branch_find(const struct loch_cluster *c, const char *tenant_id, const char *name,
                             json_t **row)
{
    json_t *rows = NULL;
    json_t *each;
    size_t i;

    LOCH_TRY(loch_name_check("branch", name));
    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &rows));
    json_t *found = NULL;
    json_array_foreach(rows, i, each) if (strcmp(loch_field(each, "tenant"), tenant_id) == 0 &&
                                          strcmp(loch_field(each, "name"), name) == 0) found =
        json_incref(each);
    json_decref(rows);
    if (found == NULL)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no branch \"%s\" (see loch branch list)",
                         name);
    *row = found;
    return LOCH_OK;
}

loch_status loch_branch_own_cmk(const json_t *row, const char *name)
{
    const char *holder = loch_field(row, "cmk_of");

    if (strcmp(holder, name) == 0)
        return LOCH_OK;
    return LOCH_FAIL(LOCH_E_INVALID,
                     "branch %s has no CMK of its own: its keys are held by that of %s%s", name,
                     holder[0] != '\0' ? "branch " : "the tenant", holder);
}

static loch_status read_positions(const struct loch_cluster *c, const json_t *branch,
                                  struct loch_positions *p)
{
    struct loch_target t;

    (void)snprintf(t.tenant, sizeof t.tenant, "%s", loch_field(branch, "tenant"));
    (void)snprintf(t.timeline, sizeof t.timeline, "%s", loch_field(branch, "timeline"));
    return loch_positions_read(c, &t, p);
}

static loch_status tip_unknown(loch_status why, const struct loch_positions *p)
{
    char text[600];

    if (loch_is_ok(why))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE,
                         "only %d of the branch's safekeepers answer and have its WAL open, which "
                         "is no quorum: the tip cannot be known; name an LSN with --at",
                         p->answers);
    (void)snprintf(text, sizeof text, "%s", loch_error_text());
    return LOCH_FAIL(why.code, "the tip cannot be known (%s); name an LSN with --at", text);
}

/* The branch's tip, by a quorum read: every acknowledged commit is flushed on a quorum, so the
 * highest flush among any quorum is at or beyond all of them. It must become committed before it
 * may be branched at. A safekeeper that has just begun, or joined, opens its WAL first. */
static loch_status read_tip(const struct loch_cluster *c, const json_t *branch, loch_lsn *tip)
{
    uint64_t until = loch_now_ms() + TIP_WAIT_MS;
    loch_lsn target = LOCH_LSN_NONE;

    for (;;) {
        struct loch_positions p;
        const loch_status st = read_positions(c, branch, &p);
        const bool known = loch_is_ok(st) && p.quorum;
        if (known && target == LOCH_LSN_NONE)
            target = p.flush;
        if (known && p.commit >= target) {
            *tip = target;
            return LOCH_OK;
        }
        if (loch_now_ms() > until)
            return !known ? tip_unknown(st, &p)
                          : LOCH_FAIL(LOCH_E_UNAVAILABLE,
                                      "WAL up to " LOCH_LSN_FMT " is flushed but only " LOCH_LSN_FMT
                                      " is committed, and no compute settles it: start the "
                                      "branch's compute, or name an LSN with --at",
                                      LOCH_LSN_ARG(target), LOCH_LSN_ARG(p.commit));
        loch_pause_ms(20);
    }
}

/* An LSN as it is typed; one far beyond what the safekeepers have is refused at once. A little
 * ahead is what a server says of its insert position: the pageserver waits for that. */
static loch_status typed_lsn(const struct loch_cluster *c, const json_t *branch, const char *at,
                             loch_lsn *lsn)
{
    struct loch_positions p;

    LOCH_TRY(loch_lsn_parse(at, lsn));
    const bool known = loch_is_ok(read_positions(c, branch, &p)) && p.quorum;
    if (known && *lsn > p.flush && *lsn - p.flush > INSERT_AHEAD_BYTES)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "%s lies beyond the tip of branch %s, which is " LOCH_LSN_FMT, at,
                         loch_field(branch, "name"), LOCH_LSN_ARG(p.flush));
    return LOCH_OK;
}

/* SHOW LSN of the pageserver: *row, and whether a later transaction follows. */
static loch_status ask_moment(const struct loch_cluster *c, const json_t *branch, int64_t time_us,
                              loch_lsn upto, json_t **row, bool *later)
{
    char text[LOCH_TIME_TEXT_BYTES];
    char limit[40] = "";
    json_t *rows = NULL;

    if (upto != LOCH_LSN_NONE)
        (void)snprintf(limit, sizeof limit, " UPTO " LOCH_LSN_FMT, LOCH_LSN_ARG(upto));
    LOCH_TRY(loch_consolef(c, loch_port_pageserver(c), &rows, "SHOW LSN %s %s BEFORE '%s'%s",
                           loch_field(branch, "tenant"), loch_field(branch, "timeline"),
                           loch_time_format(time_us, text), limit));
    *row = json_incref(json_array_get(rows, 0));
    *later = loch_field(*row, "next_time")[0] != '\0';
    json_decref(rows);
    return LOCH_OK;
}

/* The point that a time means in the branch's history; *row as SHOW LSN answers. What is ingested
 * may hold no later transaction although there is one: then everything acknowledged is looked at.
 */
static loch_status find_moment(const struct loch_cluster *c, const json_t *branch, int64_t time_us,
                               json_t **row)
{
    bool later = false;
    loch_lsn tip;

    LOCH_TRY(ask_moment(c, branch, time_us, LOCH_LSN_NONE, row, &later));
    if (later)
        return LOCH_OK;
    json_decref(*row);
    *row = NULL;
    LOCH_TRY(read_tip(c, branch, &tip));
    return ask_moment(c, branch, time_us, tip, row, &later);
}

loch_status loch_branch_point(const struct loch_cluster *c, const json_t *branch, const char *at,
                              loch_lsn *lsn)
{
    int64_t time_us;
    json_t *row = NULL;

    loch_wake(c, loch_field(branch, "tenant"));
    if (at == NULL)
        return read_tip(c, branch, lsn);
    if (strchr(at, '/') != NULL)
        return typed_lsn(c, branch, at, lsn);
    LOCH_TRY(loch_time_parse(at, &time_us));
    LOCH_TRY(find_moment(c, branch, time_us, &row));
    loch_status st = loch_lsn_parse(loch_field(row, "lsn"), lsn);
    loch_progress("%s is " LOCH_LSN_FMT " of branch %s%s%s", at, LOCH_LSN_ARG(*lsn),
                  loch_field(branch, "name"),
                  loch_field(row, "next_time")[0] ? "; the next transaction ended at " : "",
                  loch_field(row, "next_time"));
    json_decref(row);
    return st;
}

/* A branch that no quorum of safekeepers takes is of no use to anybody. `own`: it has a CMK. */
static loch_status take_back(struct loch_cluster *c, const char *tenant, const json_t *made,
                             bool own, loch_status why)
{
    const char *timeline = loch_field(made, "timeline");
    char text[600];
    json_t *rows = NULL;

    (void)snprintf(text, sizeof text, "%s", loch_error_text());
    if (loch_is_ok(loch_consolef(c, loch_port_pageserver(c), &rows, "DROP BRANCH %s %s", tenant,
                                 timeline))) {
        loch_timeline_forget(c, tenant, timeline);
        if (own)
            loch_lock_forget(c, tenant, timeline);
    } else {
        loch_progress("warning: branch %s stays: %s", loch_field(made, "name"), loch_error_text());
    }
    json_decref(rows);
    return LOCH_FAIL(why.code, "%s", text);
}

/* Whether safekeeper i, which answers, has never heard of a membership of the timeline. One that
 * has the timeline but cannot say (its key is away, it is being opened, it is broken) may have. */
static bool knows_no_members(const struct loch_cluster *c, int i, const char *tenant,
                             const char *timeline)
{
    json_t *rows = NULL;
    json_t *row;
    size_t k;

    if (!loch_is_ok(loch_consolef(c, loch_port_safekeeper(c, i), &rows,
                                  "SHOW MEMBER STATES OF %s %s", tenant, timeline)))
        return false;
    bool none = true;
    json_array_foreach(rows, k, row) none = none &&
                                            strcmp(loch_field(row, "state"), "active") == 0 &&
                                            strcmp(loch_field(row, "generation"), "0") == 0;
    json_decref(rows);
    return none;
}

static bool nobody_has_members(const struct loch_cluster *c, const char *tenant,
                               const char *timeline)
{
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        if (c->member[i] && !knows_no_members(c, i, tenant, timeline))
            return false;
    }
    return true;
}

/* A creation that is under way looks the same for a moment: safekeepers say what they have durably.
 */
bool loch_branch_unfinished(const struct loch_cluster *c, const char *tenant, const json_t *branch)
{
    const char *start = loch_field(branch, "start_lsn");

    if (start[0] == '\0' || strcmp(start, loch_field(branch, "last_record_lsn")) != 0)
        return false;
    for (int waited_ms = 0; nobody_has_members(c, tenant, loch_field(branch, "timeline"));
         waited_ms += UNFINISHED_LOOK_MS) {
        if (waited_ms >= UNFINISHED_MS)
            return true;
        loch_pause_ms(UNFINISHED_LOOK_MS);
    }
    return false;
}

/* The branch once it is open, which a pageserver that has just begun takes its time for: until then
 * nothing is said of it. Or as it is after a while. */
static loch_status find_open(const struct loch_cluster *c, const char *tenant, const char *name,
                             json_t **row)
{
    for (int waited_ms = 0;; waited_ms += UNFINISHED_LOOK_MS) {
        LOCH_TRY(loch_branch_find(c, tenant, name, row));
        if (loch_field(*row, "start_lsn")[0] != '\0' || waited_ms >= UNFINISHED_MS)
            return LOCH_OK;
        json_decref(*row);
        *row = NULL;
        loch_pause_ms(UNFINISHED_LOOK_MS);
    }
}

/* One of that name is there: whether it is of use, or what a creation left that was cut short. */
static loch_status explain_there(const struct loch_cluster *c, const char *tenant, const char *name,
                                 loch_status why)
{
    char text[600];
    json_t *row = NULL;

    (void)snprintf(text, sizeof text, "%s", loch_error_text());
    const bool unfinished =
        loch_is_ok(find_open(c, tenant, name, &row)) && loch_branch_unfinished(c, tenant, row);
    json_decref(row);
    return LOCH_FAIL(why.code, "%s%s", text,
                     unfinished ? ", but no safekeeper keeps its WAL: its creation was cut short; "
                                  "`loch branch delete` it, then create it again"
                                : "");
}

loch_status loch_branch_make(struct loch_cluster *c, const struct loch_options *o, const char *name,
                             json_t **out)
{
    const char *from = o->from ? o->from : "main";
    char tenant[33], kms[LOCH_KMS_CLAUSE_BYTES];
    json_t *parent = NULL;
    json_t *rows = NULL;
    loch_lsn at;
    loch_status st = LOCH_OK;

    LOCH_TRY(loch_name_check("branch", name));
    LOCH_TRY(loch_kms_clause(o->kms_uri, kms, sizeof kms));
    LOCH_TRY(loch_tenant_find(c, o->tenant ? o->tenant : "main", tenant));
    LOCH_TRY(loch_branch_find(c, tenant, from, &parent));
    LOCH_TRY_OUT(st, loch_branch_point(c, parent, o->at, &at));
    st = loch_consolef(c, loch_port_pageserver(c), &rows,
                       "CREATE BRANCH %s %s FROM %s AT " LOCH_LSN_FMT "%s%s", tenant, name,
                       loch_field(parent, "timeline"), LOCH_LSN_ARG(at),
                       o->keep_prepared ? " PREPARED keep" : "", kms);
    if (st.code == LOCH_E_EXISTS)
        st = explain_there(c, tenant, name, st);
    LOCH_TRY_OUT(st, st);
    if (o->kms_uri != NULL) /* before any safekeeper reads its keys */
        st = loch_tenant_pin(c, loch_field(json_array_get(rows, 0), "timeline"), o->kms_uri);
    if (loch_is_ok(st))
        st = loch_timeline_announce(c, json_array_get(rows, 0));
    if (!loch_is_ok(st))
        st = take_back(c, tenant, json_array_get(rows, 0), o->kms_uri != NULL, st);
    else
        *out = json_incref(json_array_get(rows, 0));
out:
    json_decref(rows);
    json_decref(parent);
    return st;
}

static loch_status branch_create(struct loch_cluster *c, const struct loch_options *o,
                                 const char *name)
{
    json_t *made = NULL;

    LOCH_TRY(loch_branch_make(c, o, name, &made));
    json_t *rows = json_pack("[o]", made);
    loch_print_rows(c, rows);
    json_decref(rows);
    return LOCH_OK;
}

loch_status loch_branch_find_gone(const struct loch_cluster *c, const char *tenant,
                                  const char *name, json_t **row)
{
    struct loch_id id;
    char text[LOCH_ID_TEXT_BYTES];
    const loch_status st = loch_branch_find(c, tenant, name, row);

    if (st.code != LOCH_E_NOT_FOUND || !loch_is_ok(loch_id_parse(name, &id)))
        return st;
    *row = json_pack("{s:s, s:s, s:s}", "timeline", loch_id_format(&id, text), "name", name,
                     "cmk_of", name); /* to forget its pin is right in either case */
    return LOCH_OK;
}

loch_status loch_branch_gone_hint(const struct loch_cluster *c, const char *tenant,
                                  const json_t *branch, const char *repeat, loch_status why,
                                  bool *gone)
{
    json_t *row = NULL;
    const char *name = loch_field(branch, "name");
    char text[600];

    (void)snprintf(text, sizeof text, "%s", loch_error_text());
    const loch_status st = loch_branch_find(c, tenant, name, &row);
    json_decref(row);
    *gone = st.code == LOCH_E_NOT_FOUND && strcmp(name, loch_field(branch, "timeline")) != 0;
    if (!*gone)
        return LOCH_FAIL(why.code, "%s", text);
    return LOCH_FAIL(why.code,
                     "%s; it is no branch any more, but not all of it is gone: repeat the command "
                     "with %s%s",
                     text, repeat, loch_field(branch, "timeline"));
}

loch_status loch_branch_remove(struct loch_cluster *c, const char *tenant, const char *name)
{
    json_t *row = NULL;
    json_t *rows = NULL;
    bool gone;

    LOCH_TRY(loch_branch_find_gone(c, tenant, name, &row));
    loch_status st = loch_consolef(c, loch_port_pageserver(c), &rows, "DROP BRANCH %s %s", tenant,
                                   loch_field(row, "timeline"));
    if (st.code == LOCH_E_NOT_FOUND) { /* of an earlier command, which may have told nobody else */
        loch_progress("the pageserver has nothing left of %s: the safekeepers are told once more",
                      name);
        st = LOCH_OK;
    }
    if (loch_is_ok(st))
        loch_timeline_forget(c, tenant, loch_field(row, "timeline"));
    else
        st = loch_branch_gone_hint(c, tenant, row, "the id in place of the name: ", st, &gone);
    if (loch_is_ok(st) && strcmp(loch_field(row, "cmk_of"), name) == 0)
        loch_lock_forget(c, tenant, loch_field(row, "timeline"));
    json_decref(rows);
    json_decref(row);
    return st;
}

static loch_status branch_delete(struct loch_cluster *c, const struct loch_options *o,
                                 const char *tenant, const char *name)
{
    json_t *attached = NULL;
    loch_status st;

    LOCH_TRY(loch_attached(c, o->tenant ? o->tenant : "main", name, &attached));
    LOCH_TRY_OUT(st, loch_attached_refuse_live(attached));
    LOCH_TRY_OUT(st, loch_branch_remove(c, tenant, name));
    loch_attached_go(c, attached);
out:
    json_decref(attached);
    return st;
}

/* Computes on the branch or on what stands on it would lose their pageserver for a while. The rows
 * name ancestors before their branches. */
static loch_status refuse_live_below(struct loch_cluster *c, const struct loch_options *o,
                                     const json_t *rows, const char *timeline)
{
    json_t *below = json_object();
    json_t *row;
    size_t i;
    loch_status st = LOCH_OK;

    json_array_foreach(rows, i, row)
    {
        json_t *attached = NULL;
        if (strcmp(loch_field(row, "timeline"), timeline) != 0 &&
            json_object_get(below, loch_field(row, "ancestor")) == NULL)
            continue;
        json_object_set_new(below, loch_field(row, "timeline"), json_true());
        st = loch_attached(c, o->tenant ? o->tenant : "main", loch_field(row, "name"), &attached);
        if (loch_is_ok(st))
            st = loch_attached_refuse_live(attached);
        json_decref(attached);
        if (!loch_is_ok(st))
            break;
    }
    json_decref(below);
    return st;
}

static loch_status branch_detach(struct loch_cluster *c, const struct loch_options *o,
                                 const char *tenant, const char *name)
{
    json_t *branch = NULL;
    json_t *timelines = NULL;
    json_t *rows = NULL;
    loch_status st;

    LOCH_TRY(loch_branch_find(c, tenant, name, &branch));
    if (loch_field(branch, "ancestor")[0] == '\0') {
        st = LOCH_FAIL(LOCH_E_INVALID, "branch %s has no parent", name);
        goto out;
    }
    LOCH_TRY_OUT(st, loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &timelines));
    LOCH_TRY_OUT(st, refuse_live_below(c, o, timelines, loch_field(branch, "timeline")));
    loch_progress("copying what branch %s shares with %s", name, loch_field(branch, "parent"));
    st = loch_consolef(c, loch_port_pageserver(c), &rows, "DETACH BRANCH %s %s", tenant,
                       loch_field(branch, "timeline"));
out:
    json_decref(rows);
    json_decref(timelines);
    json_decref(branch);
    return st;
}

/* With everything acknowledged; computes must be stopped. */
static loch_status branch_archive(struct loch_cluster *c, const struct loch_options *o,
                                  const char *tenant, const char *name)
{
    json_t *branch = NULL;
    json_t *attached = NULL;
    json_t *rows = NULL;
    json_t *each;
    size_t i;
    loch_lsn at = LOCH_LSN_NONE;
    loch_status st;

    LOCH_TRY(loch_branch_find(c, tenant, name, &branch));
    LOCH_TRY_OUT(st, loch_attached(c, o->tenant ? o->tenant : "main", name, &attached));
    LOCH_TRY_OUT(st, loch_attached_refuse_live(attached));
    if (strcmp(loch_field(branch, "state"), "archived") != 0)
        LOCH_TRY_OUT(st, loch_branch_point(c, branch, NULL, &at));
    st = loch_consolef(c, loch_port_pageserver(c), &rows, "ARCHIVE BRANCH %s %s AT " LOCH_LSN_FMT,
                       tenant, loch_field(branch, "timeline"), LOCH_LSN_ARG(at));
    /* One that died is not started again by `up`. */
    json_array_foreach(attached, i, each) if (loch_is_ok(st)) st =
        loch_compute_want(c, loch_field(each, "name"), false, NULL);
out:
    json_decref(rows);
    json_decref(attached);
    json_decref(branch);
    return st;
}

static loch_status branch_unarchive(struct loch_cluster *c, const char *tenant, const char *name)
{
    json_t *branch = NULL;
    json_t *rows = NULL;

    LOCH_TRY(loch_branch_find(c, tenant, name, &branch));
    loch_status st = loch_consolef(c, loch_port_pageserver(c), &rows, "UNARCHIVE BRANCH %s %s",
                                   tenant, loch_field(branch, "timeline"));
    json_decref(rows);
    json_decref(branch);
    return st;
}

/* No branch has the old name: an earlier command may have been cut short between the pageserver's
 * part and the computes' notes. Then the new name is there, and notes name the old one. */
static loch_status renamed_before(struct loch_cluster *c, const struct loch_options *o,
                                  const char *tenant, const char *name, loch_status why)
{
    char text[600];
    json_t *row = NULL;
    bool any = false;

    (void)snprintf(text, sizeof text, "%s", loch_error_text());
    const bool there = loch_is_ok(loch_branch_find(c, tenant, o->to, &row));
    json_decref(row);
    if (there)
        LOCH_TRY(loch_attached_any(c, o->tenant ? o->tenant : "main", name, &any));
    if (!any)
        return LOCH_FAIL(why.code, "%s", text);
    loch_progress("branch %s is there already: what is attached to %s goes along", o->to, name);
    return LOCH_OK;
}

static loch_status branch_rename(struct loch_cluster *c, const struct loch_options *o,
                                 const char *tenant, const char *name)
{
    json_t *rows = NULL;
    json_t *row = NULL;

    if (o->to == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch branch rename NAME NEW");
    LOCH_TRY(loch_name_check("branch", o->to));
    loch_status st = loch_branch_find(c, tenant, name, &row);
    if (loch_is_ok(st))
        st = loch_consolef(c, loch_port_pageserver(c), &rows, "RENAME BRANCH %s %s TO %s", tenant,
                           loch_field(row, "timeline"), o->to);
    else if (st.code == LOCH_E_NOT_FOUND)
        st = renamed_before(c, o, tenant, name, st);
    json_decref(rows);
    json_decref(row);
    LOCH_TRY(st);
    return loch_attached_move(c, o->tenant ? o->tenant : "main", name, o->to);
}

/* What people look at in a list; --json has everything. */
static json_t *short_row(const json_t *row)
{
    static const char *const fields[][2] = {{"name", "name"},
                                            {"parent", "parent"},
                                            {"ancestor_lsn", "ancestor_lsn"},
                                            {"tip_lsn", "last_record_lsn"},
                                            {"layer_bytes", "layer_bytes"},
                                            {"created", "created"},
                                            {"state", "state"}};
    json_t *out = json_object();

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        json_object_set_new(out, fields[i][0], json_string(loch_field(row, fields[i][1])));
    return out;
}

static loch_status branch_list(struct loch_cluster *c, const char *tenant)
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;
    json_t *shown = json_array();

    loch_status st = loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &rows);
    json_array_foreach(rows, i, row) if (strcmp(loch_field(row, "tenant"), tenant) == 0)
        json_array_append_new(shown, c->json ? json_incref(row) : short_row(row));
    if (loch_is_ok(st))
        loch_print_rows(c, shown);
    json_decref(shown);
    json_decref(rows);
    return st;
}

/* Sets `field` of the branch to the time of its LSN called `lsn`; an ancestor LSN is asked of the
 * parent. Left out when nobody knows. */
static void add_time(const struct loch_cluster *c, json_t *branch, const char *timeline,
                     const char *lsn, const char *field)
{
    json_t *rows = NULL;

    if (loch_field(branch, lsn)[0] == '\0' || loch_field(branch, timeline)[0] == '\0')
        return;
    loch_status st = loch_consolef(c, loch_port_pageserver(c), &rows, "SHOW TIME %s %s AT %s",
                                   loch_field(branch, "tenant"), loch_field(branch, timeline),
                                   loch_field(branch, lsn));
    if (loch_is_ok(st))
        json_object_set(branch, field, json_object_get(json_array_get(rows, 0), "time"));
    json_decref(rows);
}

static loch_status branch_show(struct loch_cluster *c, const struct loch_options *o,
                               const char *tenant, const char *name)
{
    json_t *branch = NULL;
    json_t *attached = NULL;

    LOCH_TRY(loch_branch_find(c, tenant, name, &branch));
    loch_status st = loch_attached(c, o->tenant ? o->tenant : "main", name, &attached);
    if (loch_is_ok(st)) {
        const char *key;
        json_t *value;
        add_time(c, branch, "ancestor", "ancestor_lsn", "ancestor_time");
        add_time(c, branch, "timeline", "last_record_lsn", "tip_time");
        json_object_set(branch, "computes", attached);
        json_t *shown = json_pack("[O]", branch);
        if (c->json)
            loch_print_rows(c, shown);
        else
            json_object_foreach(branch, key, value) if (json_is_string(value))(void)
                printf("%-20s %s\n", key, json_string_value(value));
        json_decref(shown);
    }
    json_decref(attached);
    json_decref(branch);
    return st;
}

/* `branch lsn` and `branch time`: from the one to the other. */
static loch_status branch_look(struct loch_cluster *c, const struct loch_options *o,
                               const char *tenant, const char *name, bool by_time)
{
    json_t *branch = NULL;
    json_t *row = NULL;
    json_t *rows = NULL;
    int64_t time_us = 0;
    loch_lsn lsn = LOCH_LSN_NONE;
    loch_status st;

    if (o->at == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch branch lsn NAME --at TIMESTAMP, or "
                                         "loch branch time NAME --at LSN");
    LOCH_TRY(by_time ? loch_time_parse(o->at, &time_us) : loch_lsn_parse(o->at, &lsn));
    LOCH_TRY(loch_branch_find(c, tenant, name, &branch));
    if (by_time) {
        LOCH_TRY_OUT(st, find_moment(c, branch, time_us, &row));
    } else {
        LOCH_TRY_OUT(st, loch_consolef(c, loch_port_pageserver(c), &rows,
                                       "SHOW TIME %s %s AT " LOCH_LSN_FMT, tenant,
                                       loch_field(branch, "timeline"), LOCH_LSN_ARG(lsn)));
        row = json_incref(json_array_get(rows, 0));
    }
    json_t *shown = json_array();
    json_t *first = json_pack("{s:s, s:s}", "branch", name, "at", o->at);
    json_object_update(first, row);
    json_array_append_new(shown, first);
    loch_print_rows(c, shown);
    json_decref(shown);
out:
    json_decref(rows);
    json_decref(row);
    json_decref(branch);
    return st;
}

loch_status loch_cmd_branch(struct loch_cluster *c, const struct loch_options *o, const char *verb,
                            const char *name)
{
    char tenant[33];

    if (strcmp(verb, "create") == 0 && name != NULL)
        return branch_create(c, o, name);
    LOCH_TRY(loch_tenant_find(c, o->tenant ? o->tenant : "main", tenant));
    if (strcmp(verb, "list") == 0)
        return branch_list(c, tenant);
    if (strcmp(verb, "show") == 0 && name != NULL)
        return branch_show(c, o, tenant, name);
    if (strcmp(verb, "delete") == 0 && name != NULL)
        return branch_delete(c, o, tenant, name);
    if (strcmp(verb, "rename") == 0 && name != NULL)
        return branch_rename(c, o, tenant, name);
    if (strcmp(verb, "detach") == 0 && name != NULL)
        return branch_detach(c, o, tenant, name);
    if (strcmp(verb, "archive") == 0 && name != NULL)
        return branch_archive(c, o, tenant, name);
    if (strcmp(verb, "unarchive") == 0 && name != NULL)
        return branch_unarchive(c, tenant, name);
    if (strcmp(verb, "map") == 0 && name != NULL)
        return loch_branch_map(c, tenant, name);
    if (strcmp(verb, "export") == 0 && name != NULL)
        return loch_branch_export(c, o, tenant, name);
    if (strcmp(verb, "restore") == 0 && name != NULL)
        return loch_branch_restore(c, o, tenant, name);
    if (strcmp(verb, "lsn") == 0 && name != NULL)
        return branch_look(c, o, tenant, name, true);
    if (strcmp(verb, "time") == 0 && name != NULL)
        return branch_look(c, o, tenant, name, false);
    return LOCH_FAIL(LOCH_E_INVALID,
                     "want: loch branch create|list|show|rename|restore|detach|archive|unarchive|"
                     "delete|export|map|lsn|time NAME");
}
