/* Holds: what looks at or goes back to a point in time: read-only computes and restore.
 *
 * A read-only compute has a branch of its own at its point, as a stock server writes WAL even when
 * nobody writes data; that branch, and so whatever was written, goes when the compute is stopped.
 * Its note says so: {"read_only": true, "of": the branch looked at, "lsn": the point, "timeline":
 * the id of its own branch}. */
#include "commands.h"
#include "console_client.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define LOOK_TIMEOUT_MS 10000 /* for the pageserver to be back */

static const char *tenant_name(const struct loch_options *o)
{
    return o->tenant ? o->tenant : "main";
}

/* `branch-what-20261128T131135Z`, cut to what a name may have. */
static void dated_name(const char *branch, const char *what, char name[64])
{
    char stamp[24] = "";
    time_t now = time(NULL);
    struct tm tm;

    if (gmtime_r(&now, &tm) != NULL)
        (void)strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &tm);
    (void)snprintf(name, 64, "%.30s-%.14s-%s", branch, what, stamp);
}

/* ---- read-only computes ---- */

loch_status loch_read_only_branch(struct loch_cluster *c, const struct loch_options *o,
                                  const char *compute, struct loch_side_note *side, json_t **branch)
{
    uint32_t random;
    char name[64];
    struct loch_options at = *o;

    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return LOCH_FAIL(LOCH_E_IO, "no random bytes");
    (void)snprintf(name, sizeof name, "read-only-%.30s-%08x", compute, random);
    at.from = o->branch;
    at.keep_prepared = false;
    LOCH_TRY(loch_side_note_take(c, tenant_name(o), name, side));
    const loch_status st = loch_branch_make(c, &at, name, branch);
    if (!loch_is_ok(st))
        loch_side_note_leave(side);
    return st;
}

/* A dark tenant goes by its id only. */
static bool tenant_there(const struct loch_cluster *c, const char *id)
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;
    bool there = false;

    if (!loch_is_ok(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &rows)))
        return true;
    json_array_foreach(rows, i, row) there = there || strcmp(loch_field(row, "tenant"), id) == 0;
    json_decref(rows);
    return there;
}

/* Nobody wants it any more: the next `up` ends it. */
static loch_status end_later(const struct loch_cluster *c, const char *compute, const json_t *note)
{
    char path[700];
    json_t *unwanted = json_deep_copy(note);

    loch_progress("warning: %s: the branch of compute %s goes at the next `loch up`",
                  loch_error_text(), compute);
    json_object_set_new(unwanted, "wanted", json_false());
    loch_compute_note_path(c, compute, path);
    const loch_status st = loch_json_write(path, unwanted, 0600);
    json_decref(unwanted);
    return st;
}

loch_status loch_read_only_end(struct loch_cluster *c, const char *compute, const json_t *note)
{
    char tenant[33];
    bool gone = false;

    loch_status st = loch_tenant_find(c, loch_field(note, "tenant"), tenant);
    if (loch_is_ok(st)) {
        const char *timeline = loch_field(note, "timeline");
        st = loch_branch_remove(c, tenant, loch_field(note, "branch"));
        if (st.code == LOCH_E_NOT_FOUND && timeline[0] != '\0') /* an earlier stop came that far, */
            st = loch_branch_remove(c, tenant, timeline);       /* but perhaps no further */
        gone = st.code == LOCH_E_NOT_FOUND;
    } else if (st.code == LOCH_E_NOT_FOUND) {
        gone = !tenant_there(c, loch_field(note, "tenant_id"));
        st = gone ? st : LOCH_FAIL(LOCH_E_UNAVAILABLE, "its tenant's key is not to be had");
    }
    if (st.code == LOCH_E_UNAVAILABLE)
        return end_later(c, compute, note);
    if (gone || loch_is_ok(st))
        loch_attached_forget(c, compute);
    return gone ? LOCH_OK : st;
}

/* ---- restore ---- */

static bool is_live(const json_t *each)
{
    return json_is_true(json_object_get(each, "live"));
}

static loch_status stop_live(struct loch_cluster *c, const json_t *attached)
{
    json_t *each;
    size_t i;

    json_array_foreach(attached, i, each)
    {
        if (is_live(each))
            LOCH_TRY(loch_compute_take_down(c, loch_field(each, "name"), false));
    }
    return LOCH_OK;
}

/* Starts those that ran. One that does not start does not keep the others down: what the first
 * one says is the failure. */
static loch_status start_live(struct loch_cluster *c, const json_t *attached, const char *where)
{
    json_t *each;
    size_t i;
    loch_status first = LOCH_OK;
    char why[600] = "";

    json_array_foreach(attached, i, each)
    {
        const char *name = loch_field(each, "name");
        json_t *shown = NULL;
        if (!is_live(each))
            continue;
        loch_progress("starting compute %s %s", name, where);
        const loch_status st = loch_compute_bring_up(c, name, &shown);
        json_decref(shown);
        if (loch_is_ok(st))
            continue;
        loch_progress("warning: compute %s: %s", name, loch_error_text());
        if (loch_is_ok(first))
            (void)snprintf(why, sizeof why, "compute %s: %s", name, loch_error_text());
        first = loch_is_ok(first) ? st : first;
    }
    return loch_is_ok(first) ? first : LOCH_FAIL(first.code, "%s", why);
}

/* *asked: the exchange was ordered; whether it was made, if this fails, the answer says. */
static loch_status swap_names(struct loch_cluster *c, const char *tenant, const char *branch,
                              const char *kept, const json_t *restored, bool *asked)
{
    json_t *old = NULL;
    json_t *rows = NULL;

    LOCH_TRY(loch_branch_find(c, tenant, branch, &old));
    *asked = true;
    loch_status st = loch_consolef(
        c, loch_port_pageserver(c), &rows, "RENAME BRANCH %s %s TO %s NAME TAKEN BY %s", tenant,
        loch_field(old, "timeline"), kept, loch_field(restored, "timeline"));
    json_decref(rows);
    json_decref(old);
    return st;
}

enum outcome { AS_IT_WAS, RESTORED, UNKNOWN };

/* Which timeline carries the name, after an exchange whose answer was lost. */
static enum outcome look(struct loch_cluster *c, const char *tenant, const char *branch,
                         const json_t *restored)
{
    json_t *row = NULL;

    if (!loch_is_ok(loch_console_wait(c, "pageserver", loch_port_pageserver(c), LOOK_TIMEOUT_MS)) ||
        !loch_is_ok(loch_branch_find(c, tenant, branch, &row)))
        return UNKNOWN;
    const bool swapped = strcmp(loch_field(row, "timeline"), loch_field(restored, "timeline")) == 0;
    json_decref(row);
    return swapped ? RESTORED : AS_IT_WAS;
}

struct restore {
    struct loch_cluster *c;
    const char *tenant, *branch;
    char name[64], kept[64]; /* the new branch's until the exchange, the old one's after it */
    json_t *attached, *restored;
};

/* The exchange of names, with the computes stopped. When it is not made they are started again. */
static loch_status exchange(struct restore *r)
{
    char why[600];
    bool asked = false;
    enum outcome outcome = AS_IT_WAS;

    loch_status st = stop_live(r->c, r->attached);
    if (loch_is_ok(st))
        st = swap_names(r->c, r->tenant, r->branch, r->kept, r->restored, &asked);
    if (loch_is_ok(st))
        return st;
    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    if (asked)
        outcome = look(r->c, r->tenant, r->branch, r->restored);
    if (outcome == RESTORED) {
        loch_progress("warning: the answer was lost (%s), but the names are exchanged", why);
        return LOCH_OK;
    }
    (void)start_live(r->c, r->attached, "again");
    if (outcome == UNKNOWN)
        return LOCH_FAIL(st.code,
                         "%s; whether branch %s is restored is not known: when the pageserver "
                         "answers, it is if `loch branch show %s` says timeline %s; else branch %s "
                         "stays beside (loch branch delete %s)",
                         why, r->branch, r->branch, loch_field(r->restored, "timeline"), r->name,
                         r->name);
    loch_progress("nothing is restored; branch %s stays beside (loch branch delete %s)", r->name,
                  r->name);
    return LOCH_FAIL(st.code, "%s", why);
}

static void show_restored(const struct restore *r)
{
    json_t *shown = json_pack("[{s:s, s:O, s:O, s:s}]", "branch", r->branch, "timeline",
                              json_object_get(r->restored, "timeline"), "lsn",
                              json_object_get(r->restored, "start_lsn"), "kept_as", r->kept);
    loch_print_rows(r->c, shown);
    json_decref(shown);
}

/* Whatever goes wrong before the names are swapped, the branch is as it was; afterwards its
 * computes find the restored timeline under its name at their next start. */
loch_status loch_branch_restore(struct loch_cluster *c, const struct loch_options *o,
                                const char *tenant, const char *branch)
{
    struct restore r = {.c = c, .tenant = tenant, .branch = branch};
    struct loch_options at = *o;
    loch_status st;

    if (o->at == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch branch restore NAME --at LSN|TIME");
    at.from = branch;
    dated_name(branch, "restored", r.name);
    dated_name(branch, "before-restore", r.kept);
    LOCH_TRY(loch_attached(c, tenant_name(o), branch, &r.attached));
    LOCH_TRY_OUT(st, loch_branch_make(c, &at, r.name, &r.restored));
    LOCH_TRY_OUT(st, exchange(&r));
    loch_progress("what branch %s was is branch %s now", branch, r.kept);
    st = start_live(c, r.attached, "on the restored branch");
    show_restored(&r);
    if (!loch_is_ok(st)) {
        char why[600];
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
        st = LOCH_FAIL(st.code, "branch %s is restored, but not all of its computes run: %s",
                       branch, why);
    }
out:
    json_decref(r.attached);
    json_decref(r.restored);
    return st;
}
