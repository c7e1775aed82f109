/* Holds: what becomes of a compute whose branch another one has taken over: its agent has ended,
 * and says so in its state file; it is not started again unless that is asked for, for it would
 * take the branch back from the one that serves it now.
 *
 * The note (D/computes/NAME.json) outlives the state file, which goes with the scratch: there it is
 * wanted no more, and `fenced_agent` is the agent that was fenced, so that a start that was asked
 * for afterwards, and has failed, is wanted on. */
#include "commands.h"
#include "console_client.h"

#include <stdio.h>
#include <string.h>

static bool is_wanted(const json_t *note)
{
    return json_is_true(json_object_get(note, "wanted"));
}

bool loch_agent_state(const json_t *note, json_t **out)
{
    char path[300];

    *out = NULL;
    (void)snprintf(path, sizeof path, "%s/agent.json", loch_field(note, "scratch"));
    return loch_is_ok(loch_json_read(path, out));
}

bool loch_agent_is_fenced(const json_t *note, const json_t *agent)
{
    return strcmp(loch_field(agent, "state"), "fenced") == 0 &&
           !(is_wanted(note) &&
             json_equal(json_object_get(note, "fenced_agent"), json_object_get(agent, "pid")));
}

/* agent: its state file, or NULL. */
static loch_status note_fenced(const struct loch_cluster *c, const char *name, json_t *note,
                               const json_t *agent)
{
    char path[700];

    loch_compute_note_path(c, name, path);
    json_object_set_new(note, "wanted", json_false());
    if (agent != NULL)
        json_object_set(note, "fenced_agent", json_object_get(agent, "pid"));
    return loch_json_write(path, note, 0600);
}

bool loch_compute_heed_fencing(const struct loch_cluster *c, const char *name)
{
    char path[700];
    char proc[80];
    json_t *note = NULL;
    json_t *agent = NULL;
    pid_t pid;

    loch_compute_note_path(c, name, path);
    (void)snprintf(proc, sizeof proc, "compute-%s", name);
    if (loch_process_alive(c, proc, &pid) || !loch_is_ok(loch_json_read(path, &note)))
        return false;
    const bool fenced =
        is_wanted(note) && loch_agent_state(note, &agent) && loch_agent_is_fenced(note, agent);
    if (fenced && !loch_is_ok(note_fenced(c, name, note, agent)))
        loch_progress("warning: compute %s: %s", name, loch_error_text());
    json_decref(agent);
    json_decref(note);
    return fenced;
}

struct taking_over {
    const char *name; /* of the one that has come up */
    const json_t *note;
};

static bool same_branch(const json_t *a, const json_t *b)
{
    return strcmp(loch_field(a, "tenant_id"), loch_field(b, "tenant_id")) == 0 &&
           strcmp(loch_field(a, "branch"), loch_field(b, "branch")) == 0;
}

static loch_status take_over_from(struct loch_cluster *c, const char *name, void *arg)
{
    const struct taking_over *t = arg;
    char path[700];
    json_t *note = NULL;
    json_t *agent = NULL;
    loch_status st = LOCH_OK;

    if (strcmp(name, t->name) == 0)
        return LOCH_OK;
    loch_compute_note_path(c, name, path);
    LOCH_TRY(loch_json_read(path, &note));
    if (is_wanted(note) && same_branch(note, t->note)) {
        loch_progress("compute %s has taken over the branch of compute %s, which `loch up` does "
                      "not start any more",
                      t->name, name);
        (void)loch_agent_state(note, &agent);
        st = note_fenced(c, name, note, agent);
    }
    json_decref(agent);
    json_decref(note);
    return st;
}

void loch_compute_taken_over(struct loch_cluster *c, const char *name, const json_t *note)
{
    struct taking_over t = {name, note};

    if (!loch_is_ok(loch_compute_each(c, take_over_from, &t)))
        loch_progress("warning: what compute %s has taken over from: %s", name, loch_error_text());
}
