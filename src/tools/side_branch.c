/* Making and dropping a branch that only a program reads, and its note. */
#include "side_branch.h"

#include "console_client.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

/* ---- its note ---- */

static bool fill(int fd, const char *tenant, const char *branch)
{
    json_t *value = json_pack("{s:s, s:s}", "tenant", tenant, "branch", branch);
    const bool ok = value != NULL && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
                    json_dumpfd(value, fd, 0) == 0 && fsync(fd) == 0;

    json_decref(value);
    return ok;
}

/* It comes under its name when it is whole and locked: nobody sees one that only looks left. */
loch_status loch_side_note_take(const struct loch_cluster *c, const char *tenant,
                                const char *branch, struct loch_side_note *out)
{
    struct loch_side_note note;
    char tmp[720];

    (void)snprintf(note.path, sizeof note.path, "%s/run/%s" LOCH_SIDE_NOTE_SUFFIX, c->dir, branch);
    (void)snprintf(tmp, sizeof tmp, "%s.%d.tmp", note.path, (int)getpid());
    (void)unlink(tmp);
    note.fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (note.fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", tmp, strerror(errno));
    if (!fill(note.fd, tenant, branch) || rename(tmp, note.path) != 0) {
        const loch_status st = LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", tmp, strerror(errno));
        (void)unlink(tmp);
        (void)close(note.fd);
        return st;
    }
    *out = note;
    return LOCH_OK;
}

void loch_side_note_end(struct loch_side_note *note)
{
    (void)unlink(note->path);
    loch_side_note_leave(note);
}

void loch_side_note_leave(struct loch_side_note *note)
{
    (void)close(note->fd);
    note->fd = -1;
}

/* ---- the branch ---- */

static loch_status take_credential(const struct loch_cluster *c, struct loch_side_branch *b,
                                   uint32_t random)
{
    json_t *rows = NULL;
    json_t *value;
    const char *column, *text = NULL;

    LOCH_TRY(loch_consolef(c, loch_port_pageserver(c), &rows, "ISSUE CREDENTIAL %s %s %032" PRIx32,
                           b->tenant, b->name, random));
    json_object_foreach(json_array_get(rows, 0), column, value) text = json_string_value(value);
    loch_status st = text != NULL
                         ? loch_credential_parse(loch_slice_of(text, strlen(text)), &b->credential)
                         : LOCH_FAIL(LOCH_E_CORRUPT, "the pageserver issued no credential");
    json_decref(rows);
    return st;
}

loch_status loch_side_branch_make(const struct loch_cluster *c, const char *what,
                                  const char *tenant, const char *from, loch_lsn at,
                                  bool keep_prepared, struct loch_side_branch *out)
{
    struct loch_side_branch b = {0};
    json_t *rows = NULL;
    uint32_t random;
    char clause[40] = "", why[500];

    if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
        return LOCH_FAIL(LOCH_E_IO, "no random bytes");
    (void)snprintf(b.tenant, sizeof b.tenant, "%s", tenant);
    (void)snprintf(b.name, sizeof b.name, "%.50s-%08" PRIx32, what, random);
    if (at != LOCH_LSN_NONE)
        (void)snprintf(clause, sizeof clause, " AT " LOCH_LSN_FMT, LOCH_LSN_ARG(at));
    LOCH_TRY(loch_side_note_take(c, b.tenant, b.name, &b.note));
    loch_status st =
        loch_consolef(c, loch_port_pageserver(c), &rows, "CREATE BRANCH %s %s FROM %s%s%s",
                      b.tenant, b.name, from, clause, keep_prepared ? " PREPARED keep" : "");
    if (!loch_is_ok(st)) {
        loch_side_note_leave(&b.note); /* an answer that did not come says nothing */
        return st;
    }
    st = loch_lsn_parse(loch_field(json_array_get(rows, 0), "start_lsn"), &b.lsn);
    json_decref(rows);
    if (loch_is_ok(st))
        st = take_credential(c, &b, random);
    if (!loch_is_ok(st)) {
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
        loch_side_branch_drop(c, &b);
        return LOCH_FAIL(st.code, "%s", why);
    }
    *out = b;
    return LOCH_OK;
}

void loch_side_branch_drop(const struct loch_cluster *c, struct loch_side_branch *b)
{
    json_t *rows = NULL;

    loch_credential_fini(&b->credential);
    if (loch_is_ok(loch_consolef(c, loch_port_pageserver(c), &rows, "DROP BRANCH %s %s", b->tenant,
                                 b->name))) {
        loch_side_note_end(&b->note);
    } else {
        (void)fprintf(stderr,
                      "warning: branch %s stays until the next `loch up`: %s (or: loch branch "
                      "delete %s)\n",
                      b->name, loch_error_text(), b->name);
        loch_side_note_leave(&b->note);
    }
    json_decref(rows);
}
