/* Holds: what `loch up` does about branches that programs made for themselves (side_branch.h) and
 * left when they were killed.
 *
 * Invariant: a branch is removed only under the lock of its note, which its maker held as long as
 * it ran, and only when no compute's note has it. What merely looks like one is named. */
#include "commands.h"
#include "console_client.h"
#include "side_branch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A creation that was asked for is done by then, or never: until then its note stays. */
#define CREATION_S 3600

/* ---- which computes there are ---- */

struct owner {
    const char *tenant, *branch; /* the tenant's id */
    bool found;
};

static loch_status look_at(struct loch_cluster *c, const char *name, void *arg)
{
    struct owner *o = arg;
    char path[700];
    json_t *note = NULL;

    loch_compute_note_path(c, name, path);
    LOCH_TRY(loch_json_read(path, &note));
    o->found = o->found || (strcmp(loch_field(note, "tenant_id"), o->tenant) == 0 &&
                            strcmp(loch_field(note, "branch"), o->branch) == 0);
    json_decref(note);
    return LOCH_OK;
}

static loch_status find_compute(struct loch_cluster *c, const char *tenant, const char *branch,
                                bool *found)
{
    struct owner o = {.tenant = tenant, .branch = branch};

    LOCH_TRY(loch_compute_each(c, look_at, &o));
    *found = o.found;
    return LOCH_OK;
}

/* ---- notes that nobody holds ---- */

/* A dark tenant may go by its id only, and show nothing of its branches. */
static bool all_shown(const struct loch_cluster *c)
{
    json_t *rows = NULL;
    json_t *row;
    size_t i;
    bool shown = true;

    if (!loch_is_ok(loch_console(c, loch_port_pageserver(c), "SHOW TENANTS", &rows)))
        return false;
    json_array_foreach(rows, i, row)
    {
        const char *state = loch_field(row, "state");
        shown = shown && strcmp(state, "REVOKED") != 0 && strcmp(state, "OUTAGE") != 0;
    }
    json_decref(rows);
    return shown;
}

/* Whether nobody needs the note of the branch any more. */
static bool clear_branch(struct loch_cluster *c, const char *tenant, const char *branch)
{
    bool computes = false;
    loch_status st = find_compute(c, tenant, branch, &computes);

    if (loch_is_ok(st) && computes)
        return true; /* its maker came that far */
    if (loch_is_ok(st))
        st = loch_branch_remove(c, tenant, branch);
    if (loch_is_ok(st))
        loch_progress("branch %s, which a command that was killed left, is removed", branch);
    else
        loch_progress("warning: branch %s, which a command that was killed left, stays: %s", branch,
                      loch_error_text());
    return loch_is_ok(st);
}

/* The note's lock is held. */
static bool clear_noted(struct loch_cluster *c, const json_t *note, bool old)
{
    const char *tenant = loch_field(note, "tenant");
    const char *branch = loch_field(note, "branch");
    const json_t *found = NULL;
    json_t *rows = NULL;
    json_t *row;
    size_t i;

    if (!loch_is_ok(loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &rows)))
        return false;
    json_array_foreach(rows, i, row)
    {
        if (strcmp(loch_field(row, "name"), branch) == 0 &&
            (strcmp(loch_field(row, "tenant"), tenant) == 0 ||
             strcmp(loch_field(row, "tenant_name"), tenant) == 0))
            found = row;
    }
    const bool clear =
        found != NULL ? clear_branch(c, loch_field(found, "tenant"), branch) : old && all_shown(c);
    json_decref(rows);
    return clear;
}

/* True when its maker runs, or the branch stays. */
static bool sweep_note(struct loch_cluster *c, const char *path)
{
    json_t *note = NULL;
    struct stat st;
    bool kept = true;
    const int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return errno != ENOENT;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0) {
        const bool old = time(NULL) - st.st_mtime > CREATION_S;
        if (loch_is_ok(loch_json_read(path, &note)) && clear_noted(c, note, old)) {
            (void)unlink(path);
            kept = false;
        }
        json_decref(note);
    }
    (void)close(fd);
    return kept;
}

/* *kept: {branch: true} of the notes that stay. */
static void sweep_notes(struct loch_cluster *c, json_t *kept)
{
    const size_t suffix = sizeof LOCH_SIDE_NOTE_SUFFIX - 1;
    struct dirent **entries = NULL;
    char dir[600], path[900];

    (void)snprintf(dir, sizeof dir, "%s/run", c->dir);
    const int n = scandir(dir, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char *name = entries[i]->d_name;
        const size_t len = strlen(name);
        if (len > suffix && strcmp(name + len - suffix, LOCH_SIDE_NOTE_SUFFIX) == 0) {
            (void)snprintf(path, sizeof path, "%s/%s", dir, name);
            name[len - suffix] = '\0';
            if (sweep_note(c, path))
                json_object_set_new(kept, name, json_true());
        }
        free(entries[i]);
    }
    free(entries);
}

/* ---- branches without a note ---- */

static bool looks_made(const char *name)
{
    static const char *const makers[] = {"export-", "read-only-", "bench-"};
    const size_t len = strlen(name);
    bool made = false;

    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++)
        made = made || strncmp(name, makers[i], strlen(makers[i])) == 0;
    return made && len > 9 && name[len - 9] == '-' &&
           strspn(name + len - 8, "0123456789abcdef") == 8;
}

static void name_unknown(struct loch_cluster *c, const json_t *row, const json_t *kept)
{
    const char *name = loch_field(row, "name");
    const char *tenant = loch_field(row, "tenant");
    json_t *still = NULL;
    bool computes = true;

    if (!looks_made(name) || json_object_get(kept, name) != NULL ||
        !loch_is_ok(find_compute(c, tenant, name, &computes)) || computes ||
        !loch_is_ok(loch_branch_find(c, tenant, name, &still)))
        return;
    json_decref(still);
    loch_progress("warning: branch %s looks like one that a command made for itself and left: no "
                  "compute here stands on it, no command here uses it. To remove it: loch branch "
                  "delete %s --tenant %s",
                  name, name, loch_field(row, "tenant_name"));
}

/* The rows come first: what is gone from its note by the time the notes are read is gone, or a
 * compute's. */
void loch_side_sweep(struct loch_cluster *c)
{
    json_t *kept = json_object();
    json_t *rows = NULL;
    json_t *row;
    size_t i;

    if (loch_is_ok(loch_console(c, loch_port_pageserver(c), "SHOW TIMELINES", &rows))) {
        sweep_notes(c, kept);
        json_array_foreach(rows, i, row) name_unknown(c, row, kept);
    }
    json_decref(rows);
    json_decref(kept);
}
