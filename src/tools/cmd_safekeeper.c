/* Holds: safekeeper commands: which safekeepers there are, and which of them keep the WAL. */
#include "commands.h"
#include "console_client.h"

#include "loch/io/tree.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static loch_status find(const struct loch_cluster *c, const char *name, int *out)
{
    char each[32];

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        (void)snprintf(each, sizeof each, "safekeeper-%d", i + 1);
        if (name != NULL && (strcmp(each, name) == 0 || strcmp(each + 11, name) == 0)) {
            *out = i;
            return LOCH_OK;
        }
    }
    return LOCH_FAIL(LOCH_E_NOT_FOUND, "there is no safekeeper \"%s\" (see loch safekeeper list)",
                     name != NULL ? name : "");
}

static loch_status list(const struct loch_cluster *c)
{
    json_t *shown = json_array();
    char name[32];

    LOCH_EACH_SAFEKEEPER(c, i)
    {
        json_t *rows = NULL;
        pid_t pid = 0;
        (void)snprintf(name, sizeof name, "safekeeper-%d", i + 1);
        const bool alive = loch_process_alive(c, name, &pid);
        const char *state = alive ? "not answering" : "down";
        if ((alive || c->elsewhere) &&
            loch_is_ok(loch_console(c, loch_port_safekeeper(c, i), "SHOW MEMBER STATES", &rows)))
            state = "up";
        json_array_append_new(shown,
                              json_pack("{s:s, s:s, s:s, s:i, s:i, s:i}", "name", name, "state",
                                        state, "member", c->member[i] ? "yes" : "no", "timelines",
                                        (int)json_array_size(rows), "pid", (int)pid, "port",
                                        loch_port_safekeeper(c, i)));
        json_decref(rows);
    }
    loch_print_rows(c, shown);
    json_decref(shown);
    return LOCH_OK;
}

static loch_status add(struct loch_cluster *c)
{
    int n = 0;

    LOCH_TRY(loch_cluster_ours(c, "another safekeeper cannot be added"));
    LOCH_TRY(loch_cluster_add_safekeeper(c, &n));
    LOCH_TRY(loch_safekeeper_start(c, n));
    loch_progress("safekeeper-%d runs and keeps nothing yet: `loch safekeeper replace` or `loch "
                  "safekeeper members` makes it a member",
                  n + 1);
    return list(c);
}

/* What can be seen to fail is refused at once. Then the wish is written down first: `settle` and
 * `up` go on with it. */
static loch_status move_to(struct loch_cluster *c, const bool member[LOCH_SAFEKEEPERS_MAX])
{
    LOCH_TRY(loch_members_may_move(c, member));
    memcpy(c->member, member, sizeof c->member);
    LOCH_TRY(loch_cluster_save(c));
    LOCH_TRY(loch_members_settle(c, true));
    return list(c);
}

static loch_status replace(struct loch_cluster *c, const char *old, const char *new)
{
    bool member[LOCH_SAFEKEEPERS_MAX];
    int from = 0;
    int to = 0;

    LOCH_TRY(find(c, old, &from));
    LOCH_TRY(find(c, new, &to));
    memcpy(member, c->member, sizeof member);
    if (!member[from] && member[to])
        return move_to(c, member); /* again, after it was cut short */
    if (!member[from] || member[to])
        return LOCH_FAIL(LOCH_E_INVALID,
                         "%s must keep WAL and %s must not (see loch safekeeper list)", old, new);
    member[from] = false;
    member[to] = true;
    return move_to(c, member);
}

static loch_status members(struct loch_cluster *c, const char *names)
{
    bool member[LOCH_SAFEKEEPERS_MAX] = {0};
    char copy[256];
    char *save = NULL;

    if (names == NULL || strlen(names) >= sizeof copy)
        return LOCH_FAIL(LOCH_E_INVALID, "want: loch safekeeper members NAME,NAME,...");
    (void)snprintf(copy, sizeof copy, "%s", names);
    for (char *each = strtok_r(copy, ",", &save); each != NULL; each = strtok_r(NULL, ",", &save)) {
        int i = 0;
        LOCH_TRY(find(c, each, &i));
        member[i] = true;
    }
    return move_to(c, member);
}

static loch_status remove_one(struct loch_cluster *c, const char *name)
{
    char path[700];
    int n = 0;

    LOCH_TRY(loch_cluster_ours(c, "a safekeeper cannot be removed"));
    LOCH_TRY(find(c, name, &n));
    LOCH_TRY(loch_members_may_go(c, n));
    LOCH_TRY(loch_safekeeper_stop(c, n));
    LOCH_TRY(loch_cluster_drop_safekeeper(c, n));
    (void)snprintf(path, sizeof path, "%s/safekeeper-%d", c->dir, n + 1);
    return loch_remove_tree(path);
}

loch_status loch_cmd_safekeeper(struct loch_cluster *c, const struct loch_options *o,
                                const char *verb, const char *name, const char *other)
{
    (void)o;
    if (strcmp(verb, "replace") == 0 && name != NULL && other != NULL)
        return replace(c, name, other);
    if (other != NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "too many words after \"%s\"", name);
    if (strcmp(verb, "list") == 0)
        return list(c);
    if (strcmp(verb, "add") == 0)
        return add(c);
    if (strcmp(verb, "members") == 0)
        return members(c, name);
    if (strcmp(verb, "settle") == 0) {
        LOCH_TRY(loch_members_settle(c, true));
        return list(c);
    }
    if (strcmp(verb, "abort") == 0)
        return loch_members_abort(c);
    if (strcmp(verb, "remove") == 0)
        return remove_one(c, name);
    return LOCH_FAIL(LOCH_E_INVALID, "want: loch safekeeper list | add | replace OLD NEW | members "
                                     "A,B,C | settle | abort | remove NAME");
}
