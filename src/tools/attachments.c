/* Holds: which computes stand on which branch. A compute's note names its branch, and the name is
 * looked up at each start: whichever timeline carries it then is the one that is started on. */
#include "commands.h"
#include "console_client.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct search {
    const char *tenant, *branch; /* tenant: its name or id */
    json_t *found;
};

static loch_status look_at(struct loch_cluster *c, const char *name, void *arg)
{
    const struct search *s = arg;
    char path[700], process[80];
    json_t *note = NULL;
    pid_t pid;

    loch_compute_note_path(c, name, path);
    LOCH_TRY(loch_json_read(path, &note));
    if ((strcmp(loch_field(note, "tenant"), s->tenant) == 0 ||
         strcmp(loch_field(note, "tenant_id"), s->tenant) == 0) &&
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

struct move {
    const char *tenant, *branch;
    const char *to; /* NULL: they are only counted */
    int count;
};

/* A compute's note names its branch as `branch`, or as `of` when it is a read-only one, which
 * stands on a branch of its own and looks at that. */
static loch_status move_one(struct loch_cluster *c, const char *name, void *arg)
{
    static const char *const fields[] = {"branch", "of"};
    struct move *m = arg;
    char path[700];
    json_t *note = NULL;
    bool changed = false;
    loch_status st = LOCH_OK;

    loch_compute_note_path(c, name, path);
    LOCH_TRY(loch_json_read(path, &note));
    for (size_t i = 0; i < 2 && strcmp(loch_field(note, "tenant"), m->tenant) == 0; i++) {
        if (strcmp(loch_field(note, fields[i]), m->branch) != 0)
            continue;
        m->count++;
        changed = m->to != NULL;
        if (changed)
            json_object_set_new(note, fields[i], json_string(m->to));
    }
    if (changed)
        st = loch_json_write(path, note, 0600);
    json_decref(note);
    return st;
}

loch_status loch_attached_move(struct loch_cluster *c, const char *tenant, const char *branch,
                               const char *to)
{
    struct move m = {tenant, branch, to, 0};
    return loch_compute_each(c, move_one, &m);
}

loch_status loch_attached_any(struct loch_cluster *c, const char *tenant, const char *branch,
                              bool *any)
{
    struct move m = {tenant, branch, NULL, 0};
    LOCH_TRY(loch_compute_each(c, move_one, &m));
    *any = m.count > 0;
    return LOCH_OK;
}

void loch_attached_forget(const struct loch_cluster *c, const char *name)
{
    char path[700];

    loch_compute_sweep(c, name, true); /* without its note nobody would */
    loch_compute_note_path(c, name, path);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/conf/compute-%s.ini", c->dir, name);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/run/compute-%s.json", c->dir, name);
    (void)unlink(path);
}
