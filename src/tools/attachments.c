/* Holds: which computes stand on which branch. A compute's note names its branch, and the name is
 * looked up at each start: whichever timeline carries it then is the one that is started on. */
#include "commands.h"
#include "console_client.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct search {
    const char *tenant, *branch;
    json_t *found;
};

static void note_path(const struct loch_cluster *c, const char *name, char path[700])
{
    (void)snprintf(path, 700, "%s/computes/%s.json", c->dir, name);
}

static loch_status look_at(struct loch_cluster *c, const char *name, void *arg)
{
    const struct search *s = arg;
    char path[700], process[80];
    json_t *note = NULL;
    pid_t pid;

    note_path(c, name, path);
    LOCH_TRY(loch_json_read(path, &note));
    if (strcmp(loch_field(note, "tenant"), s->tenant) == 0 &&
        (s->branch == NULL || strcmp(loch_field(note, "branch"), s->branch) == 0)) {
        (void)snprintf(process, sizeof process, "compute-%s", name);
        json_array_append_new(s->found, json_pack("{s:s, s:s, s:b}", "name", name, "branch",
                                                  loch_field(note, "branch"), "live",
                                                  (int)loch_process_alive(c, process, &pid)));
    }
    json_decref(note);
    return LOCH_OK;
}

loch_status loch_attached(struct loch_cluster *c, const char *tenant, const char *branch,
                          json_t **out)
{
    struct search s = {tenant, branch, json_array()};
    loch_status st = loch_compute_each(c, look_at, &s);

    if (loch_is_ok(st))
        *out = s.found;
    else
        json_decref(s.found);
    return st;
}

loch_status loch_attached_refuse_live(const json_t *attached)
{
    json_t *each;
    size_t i;

    json_array_foreach(attached, i, each)
    {
        const char *name = loch_field(each, "name");
        if (json_is_true(json_object_get(each, "live")))
            return LOCH_FAIL(LOCH_E_INVALID,
                             "compute %s runs on branch %s: stop it first (loch compute stop %s)",
                             name, loch_field(each, "branch"), name);
    }
    return LOCH_OK;
}

void loch_attached_go(const struct loch_cluster *c, const json_t *attached)
{
    json_t *each;
    size_t i;

    json_array_foreach(attached, i, each)
    {
        loch_progress("compute %s, which was stopped, went with it", loch_field(each, "name"));
        loch_attached_forget(c, loch_field(each, "name"));
    }
}

loch_status loch_attached_move(struct loch_cluster *c, const char *tenant, const char *branch,
                               const char *to)
{
    json_t *list = NULL;
    json_t *each;
    size_t i;
    loch_status st = LOCH_OK;

    LOCH_TRY(loch_attached(c, tenant, branch, &list));
    json_array_foreach(list, i, each)
    {
        char path[700];
        json_t *note = NULL;
        note_path(c, loch_field(each, "name"), path);
        LOCH_TRY_OUT(st, loch_json_read(path, &note));
        json_object_set_new(note, "branch", json_string(to));
        st = loch_json_write(path, note, 0600);
        json_decref(note);
        if (!loch_is_ok(st))
            break;
    }
out:
    json_decref(list);
    return st;
}

void loch_attached_forget(const struct loch_cluster *c, const char *name)
{
    char path[700];

    note_path(c, name, path);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/conf/compute-%s.ini", c->dir, name);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/run/compute-%s.json", c->dir, name);
    (void)unlink(path);
}
