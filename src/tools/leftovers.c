/* Holds: what safekeepers still keep of timelines that were deleted while somebody was not told: a
 * safekeeper was down, or the command or the pageserver was killed on the way.
 *
 * To drop a timeline's WAL is final, so that it is dropped only on proof, never because a list
 * lacks it. The proof, of a timeline that a safekeeper has:
 *
 *   1. The pageserver is asked after the safekeeper. A safekeeper hears of a timeline only when the
 *      tenant's manifest that names it is durable and in the pageserver's memory (CREATE BRANCH and
 *      CREATE TENANT are answered then, and `loch` tells the safekeepers after the answer). So what
 *      the safekeeper has and the pageserver, asked later, does not name, is not being created: it
 *      has been named before, and was taken out by a drop.
 *   2. The pageserver has the tenant "active": not asleep, revoked, in an outage, broken, or with a
 *      manifest that it could not read or that is older than one it has seen. Then SHOW TIMELINES
 *      shows the whole manifest: timelines that are archived, broken, dark below a CMK of their
 * own, being detached or not settled yet stand in it as well.
 *   3. SHOW TIMELINES does not name the timeline, and the tenant's keyring there, which is never
 *      empty, has no key of it. Its keys come before the manifest that names it and go after the
 * one that does not: a drop that is under way, or has failed, still has them, and is not touched.
 *   4. The safekeeper itself has read the keyring anew and finds no key of the timeline. It refuses
 *      a keyring that is older than one it has seen (its own witness, apart from the pageserver's):
 *      so neither the pageserver's nor the store's falling back to an older copy passes for a drop.
 *
 * Whoever deleted the timeline has destroyed its keys, and without them nobody can read the WAL: by
 * 3 and 4 there is nothing left to lose. Whatever cannot be asked is no proof: the WAL stays.
 *
 * A tenant that the pageserver does not list proves nothing: its store may be another one, or lack
 * something. It is dropped when the cluster's directory says that its deletion was ordered
 * (cmd_tenant.c), or on command (`loch tenant delete ID`). */
#include "commands.h"
#include "console_client.h"

#include <stdio.h>
#include <string.h>

struct search {
    const struct loch_cluster *c;
    json_t *tenants; /* by id: what the pageserver says of it (gather) */
    json_t *keys;    /* by safekeeper and tenant id: the keys that are known there */
};

static bool names(const json_t *rows, const char *column, const char *id)
{
    const json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        if (strcmp(loch_field(row, column), id) == 0)
            return true;
    }
    return false;
}

/* Whether rows of SHOW KEYS have a key that seals the timeline's bytes. The KEK of a branch with a
 * CMK of its own may stay behind it, for others below it. */
static bool has_key(const json_t *keys, const char *timeline)
{
    const json_t *row;
    size_t i;

    json_array_foreach(keys, i, row)
    {
        if (strcmp(loch_field(row, "level"), "tk") == 0 &&
            strcmp(loch_field(row, "timeline"), timeline) == 0)
            return true;
    }
    return false;
}

/* The state of the tenant, or "" when it is not there; NULL when nobody says. */
static const char *tenant_state(const struct loch_cluster *c, const char *id, char state[32])
{
    json_t *rows = NULL;
    const json_t *row;
    size_t i;

    state[0] = '\0';
    if (!loch_is_ok(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &rows)))
        return NULL;
    json_array_foreach(rows, i, row)
    {
        if (strcmp(loch_field(row, "tenant"), id) == 0)
            (void)snprintf(state, 32, "%s", loch_field(row, "state"));
    }
    json_decref(rows);
    return state;
}

/* {"state", "keys", "timelines"} of the tenant as the pageserver has it; rows are there only when
 * it has the tenant active. In this order: the question for the keys wakes the tenant. */
static const json_t *gather(struct search *s, const char *tenant)
{
    json_t *said = json_object_get(s->tenants, tenant);
    const int port = loch_port_pageserver(s->c);
    json_t *keys = NULL;
    json_t *timelines = NULL;
    char text[32];

    if (said != NULL)
        return said;
    said = json_object();
    json_object_set_new(s->tenants, tenant, said);
    const bool keyed = loch_is_ok(loch_consolef(s->c, port, &keys, "SHOW KEYS %s", tenant));
    const char *state = tenant_state(s->c, tenant, text);
    json_object_set_new(said, "state", state != NULL ? json_string(state) : json_null());
    if (keyed && state != NULL && strcmp(state, "active") == 0 && json_array_size(keys) > 0 &&
        loch_is_ok(loch_console(s->c, port, "SHOW TIMELINES", &timelines))) {
        json_object_set(said, "keys", keys);
        json_object_set(said, "timelines", timelines);
    }
    json_decref(keys);
    json_decref(timelines);
    return said;
}

/* Points 2 and 3 above. */
static bool pageserver_has_none(struct search *s, const char *tenant, const char *timeline)
{
    const json_t *said = gather(s, tenant);
    const json_t *keys = json_object_get(said, "keys");
    const json_t *timelines = json_object_get(said, "timelines");

    return keys != NULL && timelines != NULL && !has_key(keys, timeline) &&
           !names(timelines, "timeline", timeline);
}

/* Point 4 above, of safekeeper i. */
static bool safekeeper_has_none(struct search *s, int i, const char *tenant, const char *timeline)
{
    const int port = loch_port_safekeeper(s->c, i);
    char name[48];

    (void)snprintf(name, sizeof name, "%d %s", i, tenant);
    const json_t *keys = json_object_get(s->keys, name);
    if (keys == NULL) {
        json_t *reply = NULL;
        json_t *rows = NULL;
        if (!loch_is_ok(loch_consolef(s->c, port, &reply, "RELOAD KEYS %s", tenant)) ||
            !loch_is_ok(loch_consolef(s->c, port, &rows, "SHOW KEYS %s", tenant)))
            rows = json_array();
        json_decref(reply);
        json_object_set_new(s->keys, name, rows);
        keys = rows;
    }
    return json_array_size(keys) > 0 && !has_key(keys, timeline);
}

static void drop(const struct search *s, int i, const char *tenant, const char *timeline)
{
    const int port = loch_port_safekeeper(s->c, i);
    json_t *reply = NULL;

    loch_progress("safekeeper %d: timeline %.8s was deleted when it could not be told: it drops "
                  "it now",
                  i + 1, timeline);
    if (!loch_is_ok(loch_consolef(s->c, port, &reply, "DROP TIMELINE %s %s", tenant, timeline)))
        loch_progress("warning: safekeeper %d: %s", i + 1, loch_error_text());
    json_decref(reply);
    reply = NULL;
    /* a CMK of its own: there may have been none */
    if (loch_is_ok(loch_consolef(s->c, port, &reply, "UNPIN TENANT %s", timeline)))
        json_decref(reply);
}

/* What stays although the pageserver does not name it, and why, where the user can do something: a
 * tenant that it does not list is told of once. */
static void tell_kept(struct search *s, int i, const char *tenant, const char *timeline)
{
    json_t *said = json_object_get(s->tenants, tenant);
    const json_t *timelines = json_object_get(said, "timelines");
    const char *state = json_string_value(json_object_get(said, "state"));

    if (timelines != NULL && !names(timelines, "timeline", timeline))
        loch_progress(
            "warning: safekeeper %d keeps WAL of timeline %s, which is no branch any "
            "more, but whose removal is not over: repeat `loch branch delete` with that id",
            i + 1, timeline);
    if (state == NULL || state[0] != '\0' || json_object_get(said, "told") != NULL)
        return;
    json_object_set_new(said, "told", json_true());
    loch_progress("warning: safekeeper %d keeps WAL of tenant %s, which the pageserver does not "
                  "know; if you have deleted that tenant, `loch tenant delete %s` makes the "
                  "safekeepers forget it",
                  i + 1, tenant, tenant);
}

static void look_through(struct search *s, int i, const json_t *rows, const json_t *named)
{
    const json_t *row;
    size_t k;

    json_array_foreach(rows, k, row)
    {
        const char *tenant = loch_field(row, "tenant");
        const char *timeline = loch_field(row, "timeline");
        if (json_object_get(named, timeline) != NULL)
            continue;
        if (!pageserver_has_none(s, tenant, timeline))
            tell_kept(s, i, tenant, timeline);
        else if (safekeeper_has_none(s, i, tenant, timeline))
            drop(s, i, tenant, timeline);
        else
            loch_progress(
                "warning: safekeeper %d keeps WAL of timeline %.8s, of which the pageserver knows "
                "nothing; its own reading of the tenant's keyring does not prove that it was "
                "deleted: it stays",
                i + 1, timeline);
    }
}

/* The timelines that the pageserver names: they are not looked at again. */
static loch_status named_timelines(const struct loch_cluster *c, json_t **out)
{
    json_t *rows = NULL;
    const json_t *row;
    size_t i;

    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &rows));
    *out = json_object();
    json_array_foreach(rows, i, row)
        json_object_set_new(*out, loch_field(row, "timeline"), json_true());
    json_decref(rows);
    return LOCH_OK;
}

void loch_leftovers_drop(struct loch_cluster *c)
{
    json_t *rows[LOCH_SAFEKEEPERS_MAX] = {0};
    struct search s = {c, json_object(), json_object()};
    json_t *named = NULL;

    loch_deletions_finish(c);
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        if (!loch_is_ok(
                loch_console(c, loch_port_safekeeper(c, i), "SHOW MEMBER STATES", &rows[i])))
            rows[i] = NULL;
    }
    const bool known = loch_is_ok(named_timelines(c, &named)); /* after them: point 1 above */
    LOCH_EACH_SAFEKEEPER(c, i)
    {
        if (known)
            look_through(&s, i, rows[i], named);
        json_decref(rows[i]);
    }
    json_decref(named);
    json_decref(s.tenants);
    json_decref(s.keys);
}

loch_status loch_safekeepers_empty(const struct loch_cluster *c)
{
    loch_status st = LOCH_OK;

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        json_t *rows = NULL;
        if (!loch_is_ok(loch_console(c, loch_port_safekeeper(c, i), "SHOW MEMBER STATES", &rows)))
            continue; /* of no use to the others either: a quorum answers */
        if (loch_is_ok(st) && json_array_size(rows) > 0)
            st = LOCH_FAIL(LOCH_E_UNAVAILABLE,
                           "the pageserver knows no tenant, but safekeeper %d keeps WAL of tenant "
                           "%s: is its object store the one that it was? If all tenants have been "
                           "deleted: loch tenant delete with that id",
                           i + 1, loch_field(json_array_get(rows, 0), "tenant"));
        json_decref(rows);
    }
    return st;
}

loch_status loch_timelines_known(const struct loch_cluster *c, json_t **out)
{
    json_t *tenants = NULL;
    json_t *row;
    size_t i;
    loch_status st = LOCH_OK;

    LOCH_TRY(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &tenants));
    json_array_foreach(tenants, i, row)
    {
        if (loch_is_ok(st) && strcmp(loch_field(row, "state"), "active") != 0 &&
            strcmp(loch_field(row, "timelines"), "0") == 0)
            st = LOCH_FAIL(LOCH_E_UNAVAILABLE, "tenant %s is %s: nobody knows its timelines now",
                           loch_field(row, "tenant"), loch_field(row, "state"));
    }
    json_decref(tenants);
    LOCH_TRY(st);
    return loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", out);
}
