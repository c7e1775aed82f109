/* What goes into a base backup, in order: directories, auxiliary files, databases, maps, SLRUs,
 * two-phase states, origins, relations, WAL, and pg_control last.
 */
#include "basebackup/basebackup.h"

#include "basebackup/aux_file.h"
#include "basebackup/origins.h"
#include "basebackup/tar.h"

#include "loch/pg/checkpoint.h"
#include "loch/pg/slru.h"
#include "loch/wire/stop_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PG_DEFAULT_SPC         1663u
#define PG_GLOBAL_SPC          1664u
#define SEGMENT_BLOCKS         131072u /* a relation's file: 1 GB */
#define TABLESPACE_VERSION_DIR "PG_15_202209061"
#define PATH_MAX_BYTES         128u

struct backup {
    const struct loch_basebackup_source *source;
    const struct loch_basebackup_request *request;
    struct tar tar;
    struct loch_buf dirs; /* in the stream, u32 spc, u32 db of each; db 0: the tablespace's own */
};

static LOCH_STATUS scan_kind(struct backup *b, uint8_t kind, loch_view_scan_fn fn, void *arg)
{
    const struct loch_key first = {.kind = kind}, end = {.kind = (uint8_t)(kind + 1)};

    return b->source->scan(b->source->arg, &first, &end, b->request->lsn, fn, arg);
}

/* ---- directories and small files ---- */

static LOCH_STATUS put_directories(struct backup *b)
{
    static const char *const dirs[] = {"base",
                                       "global",
                                       "pg_commit_ts",
                                       "pg_dynshmem",
                                       "pg_logical",
                                       "pg_logical/mappings",
                                       "pg_logical/snapshots",
                                       "pg_multixact",
                                       "pg_multixact/members",
                                       "pg_multixact/offsets",
                                       "pg_notify",
                                       "pg_replslot",
                                       "pg_serial",
                                       "pg_snapshots",
                                       "pg_stat",
                                       "pg_stat_tmp",
                                       "pg_subtrans",
                                       "pg_tblspc",
                                       "pg_twophase",
                                       "pg_wal",
                                       "pg_wal/archive_status",
                                       "pg_xact"};

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++)
        LOCH_TRY(tar_dir(&b->tar, dirs[i]));
    return LOCH_OK;
}

/* What a clean stop left (docs/protocol/stop_state.md) is good only for who begins where that
 * server ended. Anybody else on this branch gets its names, to use it up; used up, it is not sent
 * at all. */
static bool is_stop_state(const char *path)
{
    const size_t len = sizeof LOCH_STOP_FILE - 1;

    return strncmp(path, LOCH_STOP_FILE, len) == 0 && (path[len] == '\0' || path[len] == '.');
}

static bool is_after_shutdown(const struct loch_control *control)
{
    return control->checkpoint_lsn == control->last_start &&
           control->checkpoint.redo == control->checkpoint_lsn;
}

static LOCH_STATUS put_aux(void *arg, const struct loch_key *key, struct loch_slice value,
                           loch_lsn version)
{
    struct backup *b = arg;
    char path[LOCH_AUX_PATH_MAX + 1];
    struct loch_slice contents;

    (void)key;
    (void)version;
    LOCH_TRY(loch_aux_decode(value, path, &contents));
    if (b->request->full && strncmp(path, "loch.", 5) == 0)
        return LOCH_OK; /* a compute's own */
    if (is_stop_state(path)) {
        if (contents.len == 0)
            return LOCH_OK;
        if (!is_after_shutdown(b->request->control))
            contents.len = 0;
    }
    return tar_whole(&b->tar, path, contents);
}

/* The directory of a database (db 0: of what is shared), below the data directory. */
static void database_path(uint32_t spc, uint32_t db, char out[static PATH_MAX_BYTES])
{
    if (spc == PG_GLOBAL_SPC)
        snprintf(out, PATH_MAX_BYTES, "global");
    else if (spc == PG_DEFAULT_SPC)
        snprintf(out, PATH_MAX_BYTES, "base/%u", db);
    else
        snprintf(out, PATH_MAX_BYTES, "pg_tblspc/%u/" TABLESPACE_VERSION_DIR "/%u", spc, db);
}

/* Whether the directory is still to be put; from now on it is not. */
static LOCH_STATUS first_of_dir(struct backup *b, uint32_t spc, uint32_t db, bool *first)
{
    uint8_t pair[8];

    *first = false;
    loch_put_u32(pair, spc);
    loch_put_u32(pair + 4, db);
    for (size_t i = b->dirs.len; i >= sizeof pair; i -= sizeof pair)
        if (memcmp(b->dirs.data + i - sizeof pair, pair, sizeof pair) == 0)
            return LOCH_OK;
    LOCH_TRY(loch_buf_append(&b->dirs, pair, sizeof pair));
    *first = true;
    return LOCH_OK;
}

/* The directories of an in-place tablespace, once for each. */
static LOCH_STATUS put_tablespace_dir(struct backup *b, uint32_t spc)
{
    char path[PATH_MAX_BYTES];
    bool first;

    LOCH_TRY(first_of_dir(b, spc, 0, &first));
    if (!first)
        return LOCH_OK;
    snprintf(path, sizeof path, "pg_tblspc/%u", spc);
    LOCH_TRY(tar_dir(&b->tar, path));
    snprintf(path, sizeof path, "pg_tblspc/%u/" TABLESPACE_VERSION_DIR, spc);
    return tar_dir(&b->tar, path);
}

/* Once for each. A database's relations may lie in a tablespace where it has no key of its own, and
 * in one that was dropped: a tenant must start whatever its catalogs say. */
static LOCH_STATUS put_database_dir(struct backup *b, uint32_t spc, uint32_t db)
{
    char path[PATH_MAX_BYTES];
    bool first;

    if (spc != PG_DEFAULT_SPC && spc != PG_GLOBAL_SPC)
        LOCH_TRY(put_tablespace_dir(b, spc));
    LOCH_TRY(first_of_dir(b, spc, db, &first));
    database_path(spc, db, path);
    return first ? tar_dir(&b->tar, path) : LOCH_OK;
}

static LOCH_STATUS put_database(void *arg, const struct loch_key *key, struct loch_slice value,
                                loch_lsn version)
{
    struct backup *b = arg;
    char path[PATH_MAX_BYTES], file[PATH_MAX_BYTES + 16];

    (void)version;
    if (value.len == 0 || value.data[0] != 1)
        return LOCH_OK; /* dropped */
    if (key->db == 0 && value.len > 1 && value.data[1] != '\0')
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "tablespace %u has a LOCATION", key->spc);
    if (key->db == 0) /* a tablespace */
        return put_tablespace_dir(b, key->spc);
    LOCH_TRY(put_database_dir(b, key->spc, key->db));
    database_path(key->spc, key->db, path);
    snprintf(file, sizeof file, "%s/PG_VERSION", path);
    return tar_whole(&b->tar, file, loch_slice_of("15\n", 3));
}

static LOCH_STATUS put_relmap(void *arg, const struct loch_key *key, struct loch_slice value,
                              loch_lsn version)
{
    struct backup *b = arg;
    char path[PATH_MAX_BYTES], file[PATH_MAX_BYTES + 32];

    (void)version;
    database_path(key->spc, key->db, path);
    snprintf(file, sizeof file, "%s/pg_filenode.map", path);
    return tar_whole(&b->tar, file, value);
}

static LOCH_STATUS put_twophase(void *arg, const struct loch_key *key, struct loch_slice value,
                                loch_lsn version)
{
    struct backup *b = arg;
    char path[PATH_MAX_BYTES];

    if (key->rel == 0 || version <= b->request->forget_prepared_until)
        return LOCH_OK;
    snprintf(path, sizeof path, "pg_twophase/%08X", key->rel);
    return tar_whole(&b->tar, path, value);
}

/* ---- replication origins ---- */

static LOCH_STATUS take_origin(void *arg, const struct loch_key *key, struct loch_slice value,
                               loch_lsn version)
{
    (void)version;
    if (value.len != 16)
        return LOCH_FAIL(LOCH_E_CORRUPT, "replication origin %u has %zu bytes", key->rel,
                         value.len);
    return loch_origins_add(arg, (uint16_t)key->rel, loch_get_u64(value.data));
}

static LOCH_STATUS put_origins(struct backup *b)
{
    struct loch_buf file = {0};
    loch_status st;

    LOCH_TRY_OUT(st, loch_origins_begin(&file));
    LOCH_TRY_OUT(st, scan_kind(b, LOCH_KEY_ORIGIN, take_origin, &file));
    LOCH_TRY_OUT(st, loch_origins_finish(&file));
    st = tar_whole(&b->tar, "pg_logical/replorigin_checkpoint", loch_buf_slice(&file));
out:
    loch_buf_fini(&file);
    return st;
}

/* ---- SLRUs: pages in key order become segment files, gaps within one become zeros ---- */

struct slru_files {
    struct backup *b;
    bool open;
    uint8_t slru;
    uint32_t segment;
    uint32_t pages; /* collected: up to and with the last one seen */
    uint8_t *bytes; /* of a whole segment */
};

static LOCH_STATUS close_slru(struct slru_files *f)
{
    static const char *const dirs[] = {"pg_xact", "pg_multixact/offsets", "pg_multixact/members",
                                       "pg_commit_ts"};
    char path[PATH_MAX_BYTES];

    if (!f->open)
        return LOCH_OK;
    f->open = false;
    snprintf(path, sizeof path, "%s/%04X", dirs[f->slru], f->segment);
    return tar_whole(&f->b->tar, path, loch_slice_of(f->bytes, (size_t)f->pages * LOCH_PAGE_BYTES));
}

static LOCH_STATUS take_slru_page(void *arg, const struct loch_key *key, struct loch_slice value,
                                  loch_lsn version)
{
    struct slru_files *f = arg;
    uint32_t segment = key->block / LOCH_SLRU_PAGES_PER_SEGMENT;
    uint32_t index = key->block % LOCH_SLRU_PAGES_PER_SEGMENT;

    (void)version;
    if (key->rel > LOCH_SLRU_COMMIT_TS || value.len != LOCH_PAGE_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "SLRU %u page %u has %zu bytes", key->rel, key->block,
                         value.len);
    if (!f->open || f->slru != key->rel || f->segment != segment) {
        LOCH_TRY(close_slru(f));
        f->open = true;
        f->slru = (uint8_t)key->rel;
        f->segment = segment;
        memset(f->bytes, 0, (size_t)LOCH_SLRU_PAGES_PER_SEGMENT * LOCH_PAGE_BYTES);
    }
    memcpy(f->bytes + (size_t)index * LOCH_PAGE_BYTES, value.data, LOCH_PAGE_BYTES);
    f->pages = index + 1;
    return LOCH_OK;
}

static LOCH_STATUS put_slrus(struct backup *b)
{
    struct slru_files f = {.b = b};
    loch_status st;

    f.bytes = malloc((size_t)LOCH_SLRU_PAGES_PER_SEGMENT * LOCH_PAGE_BYTES);
    if (f.bytes == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "SLRU segment");
    st = scan_kind(b, LOCH_KEY_SLRU_PAGE, take_slru_page, &f);
    if (loch_is_ok(st))
        st = close_slru(&f);
    free(f.bytes);
    return st;
}

/* ---- relations ---- */

static LOCH_STATUS put_fork_as(struct backup *b, const struct loch_rel *rel, uint8_t fork,
                               uint32_t blocks, const char *suffix)
{
    char dir[PATH_MAX_BYTES], path[PATH_MAX_BYTES + 48];
    uint8_t page[LOCH_PAGE_BYTES];
    uint32_t block = 0, segment = 0;

    database_path(rel->spc, rel->db, dir);
    do { /* an empty relation has an empty file */
        uint32_t n = blocks - block < SEGMENT_BLOCKS ? blocks - block : SEGMENT_BLOCKS;
        int len = snprintf(path, sizeof path, "%s/%u%s", dir, rel->rel, suffix);

        if (segment > 0)
            snprintf(path + len, sizeof path - (size_t)len, ".%u", segment);
        LOCH_TRY(tar_file(&b->tar, path, (uint64_t)n * LOCH_PAGE_BYTES));
        for (uint32_t i = 0; i < n; i++) {
            LOCH_TRY(b->source->page(b->source->arg, rel, fork, block + i, b->request->lsn, page));
            LOCH_TRY(tar_put(&b->tar, loch_slice_of(page, sizeof page)));
        }
        block += n;
        segment++;
    } while (block < blocks);
    return LOCH_OK;
}

static LOCH_STATUS put_relation_fork(void *arg, const struct loch_key *key, struct loch_slice value,
                                     loch_lsn version)
{
    static const char *const suffix[] = {"", "_fsm", "_vm", "_init"};
    struct backup *b = arg;
    struct loch_rel rel = {key->spc, key->db, key->rel};
    uint32_t blocks;

    (void)version;
    if (value.len != 4 || key->fork > LOCH_FORK_INIT)
        return LOCH_FAIL(LOCH_E_CORRUPT, "size of %u/%u/%u fork %u has %zu bytes", key->spc,
                         key->db, key->rel, key->fork, value.len);
    blocks = loch_get_u32(value.data);
    if (key->spc != PG_GLOBAL_SPC)
        LOCH_TRY(put_database_dir(b, key->spc, key->db));
    if (key->fork == LOCH_FORK_INIT) {
        LOCH_TRY(put_fork_as(b, &rel, LOCH_FORK_INIT, blocks, "_init"));
        return put_fork_as(b, &rel, LOCH_FORK_INIT, blocks, "");
    }
    if (key->fork == LOCH_FORK_FSM || (!b->request->full && key->spc != PG_GLOBAL_SPC))
        return LOCH_OK;
    return put_fork_as(b, &rel, key->fork, blocks, suffix[key->fork]);
}

/* ---- WAL and control ---- */

static LOCH_STATUS put_wal(struct backup *b, const struct loch_synthetic_checkpoint *checkpoint)
{
    uint32_t page = 0;

    for (uint32_t i = 0; i < checkpoint->segment_count; i++) {
        uint64_t number = checkpoint->first_segment + i;
        loch_lsn start = number * checkpoint->segment_bytes, at = start;
        char name[LOCH_WAL_SEGMENT_NAME_BYTES], path[PATH_MAX_BYTES];

        loch_wal_segment_name(b->request->control->checkpoint.tli, number,
                              checkpoint->segment_bytes, name);
        snprintf(path, sizeof path, "pg_wal/%s", name);
        LOCH_TRY(tar_file(&b->tar, path, checkpoint->segment_bytes));
        for (; page < checkpoint->page_count; page++) {
            const struct loch_wal_page *p = &checkpoint->pages[page];
            if (p->lsn >= start + checkpoint->segment_bytes)
                break;
            LOCH_TRY(tar_put_zeros(&b->tar, p->lsn - at));
            LOCH_TRY(tar_put(&b->tar, loch_slice_of(p->bytes, sizeof p->bytes)));
            at = p->lsn + sizeof p->bytes;
        }
        LOCH_TRY(tar_put_zeros(&b->tar, start + checkpoint->segment_bytes - at));
    }
    return LOCH_OK;
}

static LOCH_STATUS put_everything(struct backup *b,
                                  const struct loch_synthetic_checkpoint *checkpoint)
{
    LOCH_TRY(put_directories(b));
    LOCH_TRY(scan_kind(b, LOCH_KEY_AUX_FILE, put_aux, b));
    LOCH_TRY(scan_kind(b, LOCH_KEY_DATABASE, put_database, b));
    LOCH_TRY(scan_kind(b, LOCH_KEY_RELMAP, put_relmap, b));
    LOCH_TRY(put_slrus(b));
    LOCH_TRY(scan_kind(b, LOCH_KEY_TWOPHASE, put_twophase, b));
    LOCH_TRY(put_origins(b));
    LOCH_TRY(scan_kind(b, LOCH_KEY_REL_SIZE, put_relation_fork, b));
    LOCH_TRY(put_wal(b, checkpoint));
    LOCH_TRY(tar_whole(&b->tar, "global/pg_control",
                       loch_slice_of(checkpoint->pg_control, sizeof checkpoint->pg_control)));
    return tar_finish(&b->tar);
}

LOCH_STATUS loch_basebackup_send(const struct loch_basebackup_source *source,
                                 const struct loch_basebackup_request *request,
                                 loch_basebackup_write_fn write, void *arg,
                                 loch_lsn *checkpoint_end)
{
    struct backup b = {.source = source, .request = request};
    struct loch_synthetic_checkpoint *checkpoint;
    loch_status st;

    if (request->control->last_end != request->lsn ||
        request->control->last_start != request->prev_lsn)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "the control state is of " LOCH_LSN_FMT
                         ", the base backup of " LOCH_LSN_FMT,
                         LOCH_LSN_ARG(request->control->last_end), LOCH_LSN_ARG(request->lsn));
    checkpoint = malloc(sizeof *checkpoint);
    if (checkpoint == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "synthetic checkpoint");
    LOCH_TRY_OUT(st, loch_checkpoint_synthesize(request->control, request->lsn, request->prev_lsn,
                                                request->control->checkpoint.tli, request->time,
                                                checkpoint));
    LOCH_TRY_OUT(st, tar_init(&b.tar, write, arg, request->time));
    st = put_everything(&b, checkpoint);
    tar_fini(&b.tar);
    loch_buf_fini(&b.dirs);
    if (loch_is_ok(st))
        *checkpoint_end = checkpoint->end;
out:
    free(checkpoint);
    return st;
}
