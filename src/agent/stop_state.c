/* Holds: putting in place what a clean stop left.
 *
 * Every file is written beside its place under a draft's name; only when all parts have been read
 * and make sense are they renamed. Source: storage/init.h (init forks), pg_control's unloggedLSN.
 */
#include "stop_state.h"

#include "loch/base/log.h"
#include "loch/pg/control.h"
#include "loch/wire/stop_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_SPC            1663u
#define SEGMENT_BLOCKS         131072u /* a relation's file: 1 GB */
#define TABLESPACE_VERSION_DIR "PG_15_202209061"
#define STATISTICS_FILE        "pg_stat/pgstat.stat"
#define DRAFT                  ".kept"
#define PATH_BYTES             700u

struct restoring {
    const struct loch_stop_state_order *order;
    struct loch_stop_head head;
    struct loch_buf files; /* paths of the drafts' places, each with its NUL */
    int fd;                /* of the last of them; -1: none */
    struct loch_rel rel;   /* the last part's; 0 for statistics */
    uint64_t next;         /* the block, or offset, that the next part of it begins with */
    uint32_t relations;
};

static LOCH_STATUS failed(const char *what, const char *path)
{
    return LOCH_FAIL(LOCH_E_IO, "cannot %s %s: %s", what, path, strerror(errno));
}

/* Begins the file that shall lie at `place`, below the data directory. */
static LOCH_STATUS begin_file(struct restoring *r, const char *place)
{
    char path[PATH_BYTES];

    if (r->fd >= 0)
        (void)close(r->fd);
    (void)snprintf(path, sizeof path, "%s/%s" DRAFT, r->order->pgdata, place);
    r->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (r->fd < 0)
        return failed("make", path);
    LOCH_TRY(loch_buf_append(&r->files, place, strlen(place) + 1));
    if (geteuid() == 0 && fchown(r->fd, r->order->uid, r->order->gid) != 0)
        return failed("give away", path);
    return LOCH_OK;
}

static LOCH_STATUS append(struct restoring *r, struct loch_slice bytes)
{
    while (bytes.len > 0) {
        const ssize_t n = write(r->fd, bytes.data, bytes.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return failed("write", "what the last stop left");
        bytes.data += n;
        bytes.len -= (size_t)n;
    }
    return LOCH_OK;
}

static void relation_path(const struct loch_rel *rel, uint32_t segment, char out[static PATH_BYTES])
{
    char dir[100];

    if (rel->spc == DEFAULT_SPC)
        (void)snprintf(dir, sizeof dir, "base/%u", rel->db);
    else
        (void)snprintf(dir, sizeof dir, "pg_tblspc/%u/" TABLESPACE_VERSION_DIR "/%u", rel->spc,
                       rel->db);
    if (segment == 0)
        (void)snprintf(out, PATH_BYTES, "%s/%u", dir, rel->rel);
    else
        (void)snprintf(out, PATH_BYTES, "%s/%u.%u", dir, rel->rel, segment);
}

/* An unlogged relation that this data directory knows. */
static bool is_unlogged(const struct restoring *r, const struct loch_rel *rel)
{
    char place[PATH_BYTES], path[2 * PATH_BYTES];

    relation_path(rel, 0, place);
    (void)snprintf(path, sizeof path, "%s/%s_init", r->order->pgdata, place);
    return access(path, F_OK) == 0;
}

static LOCH_STATUS take_pages(struct restoring *r, const struct loch_stop_part *part)
{
    struct loch_slice left = part->bytes;
    char place[PATH_BYTES];

    if (part->block == 0) {
        if (!is_unlogged(r, &part->rel))
            return LOCH_FAIL(LOCH_E_CORRUPT, "relation %u is not unlogged", part->rel.rel);
        r->rel = part->rel;
        r->next = 0;
        r->relations++;
        relation_path(&r->rel, 0, place);
        LOCH_TRY(begin_file(r, place));
    }
    if (memcmp(&r->rel, &part->rel, sizeof r->rel) != 0 || r->next != part->block)
        return LOCH_FAIL(LOCH_E_CORRUPT, "pages of relation %u are not in order", part->rel.rel);
    while (left.len > 0) {
        if (r->next > 0 && r->next % SEGMENT_BLOCKS == 0) {
            relation_path(&r->rel, (uint32_t)(r->next / SEGMENT_BLOCKS), place);
            LOCH_TRY(begin_file(r, place));
        }
        LOCH_TRY(append(r, loch_slice_of(left.data, LOCH_PAGE_BYTES)));
        left.data += LOCH_PAGE_BYTES;
        left.len -= LOCH_PAGE_BYTES;
        r->next++;
    }
    return LOCH_OK;
}

static LOCH_STATUS take_statistics(struct restoring *r, const struct loch_stop_part *part)
{
    if (part->offset == 0) {
        r->rel = (struct loch_rel){0};
        r->next = 0;
        LOCH_TRY(begin_file(r, STATISTICS_FILE));
    }
    if (r->rel.rel != 0 || r->fd < 0 || r->next != part->offset)
        return LOCH_FAIL(LOCH_E_CORRUPT, "the statistics are not in order");
    r->next += part->bytes.len;
    return append(r, part->bytes);
}

static LOCH_STATUS take_part(struct restoring *r, uint32_t number)
{
    struct loch_stop_part part;
    struct loch_buf bytes = {0};
    char path[PATH_BYTES];
    loch_status st;

    (void)snprintf(path, sizeof path, "%s/" LOCH_STOP_FILE ".%u", r->order->pgdata, number);
    LOCH_TRY_OUT(st, loch_env_read_file(r->order->env, path, 1 << 20, &bytes));
    LOCH_TRY_OUT(st, loch_stop_part_decode(loch_buf_slice(&bytes), &part));
    if (part.id != r->head.id || part.number != number) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "part %u is of another stop", number);
        goto out;
    }
    st = part.kind == LOCH_STOP_PAGES ? take_pages(r, &part) : take_statistics(r, &part);
out:
    loch_buf_fini(&bytes);
    return st;
}

static void draft_path(const struct restoring *r, const char *place, char out[static PATH_BYTES])
{
    (void)snprintf(out, PATH_BYTES, "%s/%s" DRAFT, r->order->pgdata, place);
}

static const char *place_after(const struct restoring *r, const char *place)
{
    const char *next = place == NULL ? (const char *)r->files.data : place + strlen(place) + 1;

    return next == NULL || next == (const char *)r->files.data + r->files.len ? NULL : next;
}

static void remove_drafts(const struct restoring *r)
{
    char path[PATH_BYTES];

    for (const char *place = NULL; (place = place_after(r, place)) != NULL;) {
        draft_path(r, place, path);
        (void)unlink(path);
    }
}

static LOCH_STATUS rename_drafts(const struct restoring *r)
{
    char from[PATH_BYTES], to[PATH_BYTES];

    for (const char *place = NULL; (place = place_after(r, place)) != NULL;) {
        draft_path(r, place, from);
        (void)snprintf(to, sizeof to, "%s/%s", r->order->pgdata, place);
        if (rename(from, to) != 0)
            return failed("rename", from);
    }
    return LOCH_OK;
}

/* Or splits of unlogged GiST indexes would be misread. */
static LOCH_STATUS set_unlogged_lsn(const struct restoring *r)
{
    uint8_t file[LOCH_PG_CONTROL_FILE_BYTES];
    struct loch_control control;
    struct loch_buf bytes = {0};
    char path[PATH_BYTES];
    loch_status st;

    (void)snprintf(path, sizeof path, "%s/global/pg_control", r->order->pgdata);
    LOCH_TRY_OUT(st, loch_env_read_file(r->order->env, path, sizeof file, &bytes));
    LOCH_TRY_OUT(st, loch_control_parse(loch_buf_slice(&bytes), &control));
    control.unlogged_lsn = r->head.unlogged_lsn;
    loch_control_format(&control, file);
    const int fd = open(path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, file, sizeof file, 0) != (ssize_t)sizeof file)
        st = failed("write", path);
    if (fd >= 0)
        (void)close(fd);
out:
    loch_buf_fini(&bytes);
    return st;
}

static LOCH_STATUS take_everything(struct restoring *r, struct loch_slice head)
{
    LOCH_TRY(loch_stop_head_decode(head, &r->head));
    if (!loch_id_equal(&r->head.tenant, &r->order->tenant) ||
        !loch_id_equal(&r->head.timeline, &r->order->timeline))
        return LOCH_FAIL(LOCH_E_STALE, "it is of another branch");
    for (uint32_t i = 0; i < r->head.part_count; i++)
        LOCH_TRY(take_part(r, i));
    return LOCH_OK;
}

LOCH_STATUS loch_stop_state_restore(const struct loch_stop_state_order *order, bool *restored)
{
    struct restoring r = {.order = order, .fd = -1};
    struct loch_buf head = {0};
    char path[PATH_BYTES];
    struct stat sb;
    loch_status st;

    *restored = false;
    (void)snprintf(path, sizeof path, "%s/" LOCH_STOP_FILE, order->pgdata);
    if (lstat(path, &sb) != 0 || sb.st_size == 0)
        return LOCH_OK;
    LOCH_TRY_OUT(st, loch_env_read_file(order->env, path, 1 << 20, &head));
    st = take_everything(&r, loch_buf_slice(&head));
    if (r.fd >= 0)
        (void)close(r.fd);
    if (!loch_is_ok(st)) {
        remove_drafts(&r);
        goto out;
    }
    *restored = true;
    LOCH_TRY_OUT(st, set_unlogged_lsn(&r));
    LOCH_TRY_OUT(st, rename_drafts(&r));
    LOCH_INFO("kept over the last stop: the statistics and %u unlogged relations", r.relations);
out:
    loch_buf_fini(&head);
    loch_buf_fini(&r.files);
    return st;
}
