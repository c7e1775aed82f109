/* Holds: what looks at or goes back to a point in time: read-only computes and restore.
 *
 * A read-only compute has a branch of its own at its point, as a stock server writes WAL even when
 * nobody writes data; that branch, and so whatever was written, goes when the compute is stopped.
 * Its note says so: {"read_only": true, "of": the branch looked at, "lsn": the point}. */
#include "commands.h"
#include "console_client.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

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
    (void)snprintf(path, sizeof path, "%s/computes/%s.json", c->dir, compute);
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
        st = loch_branch_remove(c, tenant, loch_field(note, "branch"));
        gone = st.code == LOCH_E_NOT_FOUND; /* an earlier stop came that far */
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

static loch_status each_live(struct loch_cluster *c, const json_t *attached, bool up)
{
    json_t *each;
    size_t i;

    json_array_foreach(attached, i, each)
    {
        const char *name = loch_field(each, "name");
        json_t *shown = NULL;
        if (!json_is_true(json_object_get(each, "live")))
            continue;
        if (up)
            loch_progress("starting compute %s on the restored branch", name);
        LOCH_TRY(up ? loch_compute_bring_up(c, name, &shown)
                    : loch_compute_take_down(c, name, false));
        json_decref(shown);
    }
    return LOCH_OK;
}

/* They stand on the branch as it was. */
static void start_again(struct loch_cluster *c, const json_t *attached)
{
    json_t *each;
    size_t i;

    json_array_foreach(attached, i, each)
    {
        const char *name = loch_field(each, "name");
        json_t *shown = NULL;
        if (!json_is_true(json_object_get(each, "live")))
            continue;
        loch_progress("starting compute %s again", name);
        if (!loch_is_ok(loch_compute_bring_up(c, name, &shown)))
            loch_progress("warning: compute %s: %s", name, loch_error_text());
        json_decref(shown);
    }
}

static loch_status swap_names(struct loch_cluster *c, const char *tenant, const char *branch,
                              const char *kept, const json_t *restored)
{
    json_t *old = NULL;
    json_t *rows = NULL;

    LOCH_TRY(loch_branch_find(c, tenant, branch, &old));
    loch_status st = loch_consolef(
        c, loch_port_pageserver(c), &rows, "RENAME BRANCH %s %s TO %s NAME TAKEN BY %s", tenant,
        loch_field(old, "timeline"), kept, loch_field(restored, "timeline"));
    json_decref(rows);
    json_decref(old);
    return st;
}

/* Whatever goes wrong before the names are swapped, the branch is as it was; afterwards its
 * computes find the restored timeline under its name at their next start. */
loch_status loch_branch_restore(struct loch_cluster *c, const struct loch_options *o,
                                const char *tenant, const char *branch)
{
    char restored_name[64], kept[64], why[600];
    json_t *attached = NULL;
    json_t *restored = NULL;
    struct loch_options at = *o;
    loch_status st;

    if (o->at == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch branch restore NAME --at LSN|TIME");
    at.from = branch;
    dated_name(branch, "restored", restored_name);
    dated_name(branch, "before-restore", kept);
    LOCH_TRY(loch_attached(c, tenant_name(o), branch, &attached));
    LOCH_TRY_OUT(st, loch_branch_make(c, &at, restored_name, &restored));
    st = each_live(c, attached, false);
    if (loch_is_ok(st))
        st = swap_names(c, tenant, branch, kept, restored);
    if (!loch_is_ok(st)) {
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
        start_again(c, attached);
        st = LOCH_FAIL(st.code, "%s", why);
        loch_progress("nothing is restored; branch %s stays beside (loch branch delete %s)",
                      restored_name, restored_name);
        goto out;
    }
    loch_progress("what branch %s was is branch %s now", branch, kept);
    LOCH_TRY_OUT(st, each_live(c, attached, true));
    json_t *shown = json_pack("[{s:s, s:O, s:O, s:s}]", "branch", branch, "timeline",
                              json_object_get(restored, "timeline"), "lsn",
                              json_object_get(restored, "start_lsn"), "kept_as", kept);
    loch_print_rows(c, shown);
    json_decref(shown);
out:
    json_decref(attached);
    json_decref(restored);
    return st;
}
