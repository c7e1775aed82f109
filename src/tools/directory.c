/* Holds: a cluster's directory and scratch as places: where a cluster may be made, and what a wipe
 * removes. Invariant: nothing is removed but what `loch` and its daemons make. */
#include "directory.h"

#include "loch/io/tree.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRATCH_PREFIX "/dev/shm/loch-" /* as loch_cluster_create makes it */
#define CMK_BYTES      32
#define NAMED_MOST     4u

/* Of a new cluster; safekeepers that are added later have directories of their own. */
static const char *const parts[] = {"conf",         "store",       "run",        "log",
                                    "computes",     "secrets",     "pageserver", "safekeeper-1",
                                    "safekeeper-2", "safekeeper-3"};

static bool is_part(const char *name)
{
    const size_t n = strlen("safekeeper-");

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strcmp(name, parts[i]) == 0)
            return true;
    return strncmp(name, "safekeeper-", n) == 0 && name[n] >= '1' &&
           name[n] <= '0' + LOCH_SAFEKEEPERS_MAX && name[n + 1] == '\0';
}

/* Made when it is wanted. */
static const char *const later[] = {"audit-heads.json", "deleting"};

static bool ends_in(const char *name, const char *end)
{
    const size_t len = strlen(name);

    return len > strlen(end) && strcmp(name + len - strlen(end), end) == 0;
}

/* What a command that was killed was writing. */
static bool is_unfinished(const char *name)
{
    return (strncmp(name, "cluster.json.", strlen("cluster.json.")) == 0 ||
            strncmp(name, "cmk.key.", strlen("cmk.key.")) == 0) &&
           ends_in(name, ".tmp");
}

/* A few names for a message. */
struct names {
    char text[LOCH_DIR_LEFT_BYTES - 40];
    unsigned count;
};

static void add_name(struct names *n, const char *name)
{
    const size_t len = strlen(n->text);

    if (n->count++ < NAMED_MOST)
        (void)snprintf(n->text + len, sizeof n->text - len, "%s%.80s", len > 0 ? ", " : "", name);
}

static void say_names(const struct names *n, char out[static LOCH_DIR_LEFT_BYTES])
{
    if (n->count > NAMED_MOST)
        (void)snprintf(out, LOCH_DIR_LEFT_BYTES, "%s and %u more", n->text, n->count - NAMED_MOST);
    else
        (void)snprintf(out, LOCH_DIR_LEFT_BYTES, "%s", n->text);
}

/* Calls fn for every entry but itself and its parent; errno when it cannot be read, else 0. */
static int each_entry(const char *path, void (*fn)(void *arg, const char *name), void *arg)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    if (dir == NULL)
        return errno;
    while ((entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(arg, entry->d_name);
    (void)closedir(dir);
    return 0;
}

/* ---- where a cluster may be made ---- */

loch_status loch_dir_check_path(const char *dir)
{
    if (strlen(dir) + strlen("/run/.s.PGSQL.12345") > 107)
        return LOCH_FAIL(LOCH_E_LIMIT,
                         "%s is too long a path for unix sockets: choose a --dir of "
                         "at most 88 characters",
                         dir);
    if (strchr(dir, ',') != NULL)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "%s has a comma, which parts the hosts of a list for libpq: choose a "
                         "--dir without",
                         dir);
    for (const char *p = dir; *p != '\0'; p++) {
        if (iscntrl((unsigned char)*p))
            return LOCH_FAIL(LOCH_E_INVALID,
                             "the path of --dir has a control character (byte %u), which the "
                             "daemons' configuration cannot hold",
                             (unsigned)(unsigned char)*p);
        if (*p == ' ' && p[1] == ';')
            return LOCH_FAIL(LOCH_E_INVALID,
                             "%s has a ';' after a space, where a comment begins in the daemons' "
                             "configuration: choose a --dir without",
                             dir);
    }
    return LOCH_OK;
}

struct look {
    const char *dir;
    struct names strange; /* no part of a cluster */
    struct names used;    /* parts that something is in */
    bool cluster, key;
    int bad; /* errno of a part that cannot be read */
};

struct part {
    bool conf, used;
};

static void look_into_part(void *arg, const char *name)
{
    struct part *part = arg;
    const bool anew = part->conf && ends_in(name, ".ini"); /* written anew */

    if (!anew && strcmp(name, "lost+found") != 0) /* of a volume */
        part->used = true;
}

static void look_at_entry(void *arg, const char *name)
{
    struct look *look = arg;
    struct part part = {.conf = strcmp(name, "conf") == 0};
    char path[800];

    if (strcmp(name, "lost+found") == 0 || is_unfinished(name))
        return;
    if (strcmp(name, "cluster.json") == 0) {
        look->cluster = true;
    } else if (strcmp(name, "cmk.key") == 0) {
        look->key = true;
    } else if (!is_part(name)) {
        add_name(&look->strange, name);
    } else {
        (void)snprintf(path, sizeof path, "%s/%s", look->dir, name);
        const int why = each_entry(path, look_into_part, &part);
        if (part.used)
            add_name(&look->used, name);
        else if (why == ENOTDIR)
            add_name(&look->strange, name);
        else if (why != 0)
            look->bad = why;
    }
}

/* Nothing but the key is there: its creation was cut short. */
static loch_status check_key(const struct loch_cluster *c)
{
    char path[700];
    struct stat st;

    (void)snprintf(path, sizeof path, "%s/cmk.key", c->dir);
    if (c->kms_uri != NULL)
        return LOCH_FAIL(LOCH_E_EXISTS,
                         "%s is there already, which a cluster with a --kms-uri does not have: "
                         "remove it if a `loch up` that was cut short left it, else keep it "
                         "outside of the cluster's directory",
                         path);
    if (lstat(path, &st) != 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size != CMK_BYTES)
        return LOCH_FAIL(LOCH_E_EXISTS,
                         "%s is no key (a file of %d bytes): a `loch up` that was cut short left "
                         "it, nothing is wrapped under it; remove it",
                         path, CMK_BYTES);
    return LOCH_OK;
}

loch_status loch_dir_check_new(const struct loch_cluster *c, bool *has_key)
{
    struct look look = {.dir = c->dir};
    char names[LOCH_DIR_LEFT_BYTES];

    const int why = each_entry(c->dir, look_at_entry, &look);
    if (why != 0 && why != ENOENT)
        return LOCH_FAIL(LOCH_E_IO, "cannot look into %s: %s", c->dir, strerror(why));
    if (look.bad != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot look into the directories of %s: %s", c->dir,
                         strerror(look.bad));
    if (look.cluster)
        return LOCH_FAIL(LOCH_E_EXISTS, "there is a cluster in %s already", c->dir);
    if (look.strange.count > 0) {
        say_names(&look.strange, names);
        return LOCH_FAIL(LOCH_E_EXISTS,
                         "%s is not empty (%s): a cluster wants a directory of its own; choose a "
                         "--dir that is empty or not there yet",
                         c->dir, names);
    }
    if (look.used.count > 0) {
        say_names(&look.used, names);
        return LOCH_FAIL(LOCH_E_EXISTS,
                         "%s has no cluster.json, but there is something in %s: half a cluster. "
                         "Put its cluster.json back; or, when nothing of it is wanted any more, "
                         "empty %s; or choose another --dir",
                         c->dir, names, c->dir);
    }
    if (look.key)
        LOCH_TRY(check_key(c));
    *has_key = look.key;
    return LOCH_OK;
}

loch_status loch_dir_make_parts(const struct loch_cluster *c)
{
    char path[700];

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", c->dir, parts[i]);
        LOCH_TRY(loch_mkdir(path, 0700));
    }
    return LOCH_OK;
}

loch_status loch_dir_lock(const char *path, int *fd)
{
    const int got = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (got < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", path, strerror(errno));
    while (flock(got, LOCK_EX) != 0) {
        if (errno == EINTR)
            continue;
        const loch_status st = LOCH_FAIL(LOCH_E_IO, "cannot lock %s: %s", path, strerror(errno));
        (void)close(got);
        return st;
    }
    *fd = got;
    return LOCH_OK;
}

/* ---- the wipe ---- */

struct wipe {
    const struct loch_cluster *c;
    struct names left;
    unsigned strange; /* entries that are not the cluster's */
    bool failed;
    char why[600]; /* of the first failure */
};

static void remove_entry(struct wipe *w, const char *name)
{
    char path[800];

    (void)snprintf(path, sizeof path, "%s/%s", w->c->dir, name);
    if (loch_is_ok(loch_remove_tree(path)) || w->failed)
        return;
    w->failed = true;
    (void)snprintf(w->why, sizeof w->why, "%s", loch_error_text());
}

/* A link is removed, and not what it leads to. */
static bool is_link(const struct wipe *w, const char *name)
{
    char path[800];
    struct stat st;

    (void)snprintf(path, sizeof path, "%s/%s", w->c->dir, name);
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static void wipe_entry(void *arg, const char *name)
{
    struct wipe *w = arg;
    char link[300];
    bool ours = is_part(name) || is_unfinished(name) ||
                (strcmp(name, "cmk.key") == 0 && w->c->kms_uri == NULL);

    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++)
        ours = ours || strcmp(name, later[i]) == 0;
    if (ours) {
        (void)snprintf(link, sizeof link, "what the link %s led to", name);
        if (is_link(w, name))
            add_name(&w->left, link);
        remove_entry(w, name);
    } else if (strcmp(name, "cluster.json") != 0) {
        w->strange++;
        add_name(&w->left, name);
    }
}

loch_status loch_dir_wipe(const struct loch_cluster *c, char left[static LOCH_DIR_LEFT_BYTES])
{
    struct wipe w = {.c = c};

    const int why = each_entry(c->dir, wipe_entry, &w);
    if (why != 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot look into %s: %s", c->dir, strerror(why));
    if (!w.failed)
        remove_entry(&w, "cluster.json");
    if (w.failed)
        return LOCH_FAIL(LOCH_E_IO, "%s", w.why);
    say_names(&w.left, left);
    if (w.strange == 0 && rmdir(c->dir) != 0 && w.left.count == 0)
        (void)snprintf(left, LOCH_DIR_LEFT_BYTES, "the empty directory (%s)", strerror(errno));
    return LOCH_OK;
}

/* ---- the scratch ---- */

/* The scratch's place is open to everybody: one that another user made first is not used. */
static bool is_ours(const struct loch_cluster *c, const struct stat *st)
{
    struct stat dir;
    bool owner = st->st_uid == geteuid();

    if (!owner && geteuid() == 0) /* root, for the cluster's owner */
        owner = stat(c->dir, &dir) == 0 && st->st_uid == dir.st_uid;
    return owner && S_ISDIR(st->st_mode) && (st->st_mode & 022) == 0;
}

loch_status loch_scratch_own(const struct loch_cluster *c)
{
    struct stat st;

    LOCH_TRY(loch_mkdir(c->scratch, 0711));
    if (lstat(c->scratch, &st) != 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", c->scratch, strerror(errno));
    if (!is_ours(c, &st))
        return LOCH_FAIL(LOCH_E_INVALID,
                         "%s is there already, and is not a directory of ours that only we may "
                         "write: see whose it is and remove it",
                         c->scratch);
    if (chmod(c->scratch, 0711) != 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", c->scratch, strerror(errno));
    return LOCH_OK;
}

loch_status loch_scratch_part(const struct loch_cluster *c, const char *path, mode_t mode)
{
    const size_t len = strlen(c->scratch);

    LOCH_TRY(loch_mkdir(path, mode));
    if (strncmp(path, c->scratch, len) == 0 && path[len] == '/' && chmod(path, mode) != 0)
        return LOCH_FAIL(LOCH_E_IO, "%s: %s", path, strerror(errno));
    return LOCH_OK;
}

bool loch_scratch_is_ours(const struct loch_cluster *c, const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && is_ours(c, &st);
}

loch_status loch_scratch_remove(const struct loch_cluster *c)
{
    struct stat st;

    if (lstat(c->scratch, &st) != 0 && errno == ENOENT)
        return LOCH_OK;
    const char *name = c->scratch + strlen(SCRATCH_PREFIX);
    const bool place = strncmp(c->scratch, SCRATCH_PREFIX, strlen(SCRATCH_PREFIX)) == 0 &&
                       *name != '\0' && strchr(name, '/') == NULL;
    if (!place || lstat(c->scratch, &st) != 0 || !is_ours(c, &st))
        return LOCH_FAIL(LOCH_E_INVALID,
                         "%s, the scratch in %s/cluster.json, is not a directory of ours that "
                         "only we may write, named as `loch` names one: it is left as it is; see "
                         "whose it is, remove it yourself, and repeat this",
                         c->scratch, c->dir);
    return loch_remove_tree(c->scratch);
}
