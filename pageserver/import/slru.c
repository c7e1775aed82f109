/* SLRU segments, two-phase state files and replication origins of a data directory.
 *
 * Source: PostgreSQL 15 access/transam/slru.c (file names), twophase.c,
 * replication/logical/origin.c.
 */
#include "import/data_dir.h"

#include "basebackup/origins.h"
#include "loch/pg/slru.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct slru_dir {
    struct import *import;
    uint8_t slru; /* enum loch_slru */
    const char *relative;
};

/* Upper-case hex number as SLRU and two-phase files are named; whole name. */
static bool parse_hex(const char *name, size_t least, size_t most, uint32_t *out)
{
    size_t len = strlen(name);
    uint32_t n = 0;

    if (len < least || len > most)
        return false;
    for (const char *at = name; *at != '\0'; at++) {
        if (*at >= '0' && *at <= '9')
            n = n << 4 | (uint32_t)(*at - '0');
        else if (*at >= 'A' && *at <= 'F')
            n = n << 4 | (uint32_t)(*at - 'A' + 10);
        else
            return false;
    }
    *out = n;
    return true;
}

static LOCH_STATUS put_segment(void *arg, const char *name, const struct stat *st)
{
    struct slru_dir *dir = arg;
    struct import *import = dir->import;
    struct loch_key key = {.kind = LOCH_KEY_SLRU_PAGE, .rel = dir->slru};
    char path[IMPORT_PATH_MAX];
    uint32_t segment;

    if (S_ISDIR(st->st_mode))
        return LOCH_OK; /* pg_multixact has two below it */
    if (!parse_hex(name, 4, 6, &segment))
        return LOCH_FAIL(LOCH_E_INVALID, "%s/%s/%s has no place in a data directory",
                         import->data_dir, dir->relative, name);
    LOCH_TRY(import_path(dir->relative, name, path));
    LOCH_TRY(import_read_file(import->data_dir, path,
                              (size_t)LOCH_SLRU_PAGES_PER_SEGMENT * LOCH_PAGE_BYTES,
                              &import->value));
    if (import->value.len % LOCH_PAGE_BYTES != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s/%s has %zu bytes: not whole pages", import->data_dir,
                         path, import->value.len);
    for (uint32_t i = 0; i < import->value.len / LOCH_PAGE_BYTES; i++) {
        key.block = segment * LOCH_SLRU_PAGES_PER_SEGMENT + i;
        import->stats->slru_pages++;
        LOCH_TRY(import->put(
            import->arg, &key,
            loch_slice_of(import->value.data + (size_t)i * LOCH_PAGE_BYTES, LOCH_PAGE_BYTES)));
    }
    return LOCH_OK;
}

LOCH_STATUS import_slrus(struct import *import)
{
    static const struct {
        uint8_t slru;
        const char *relative;
    } dirs[] = {{LOCH_SLRU_XACT, "pg_xact"},
                {LOCH_SLRU_MULTI_OFFSETS, "pg_multixact/offsets"},
                {LOCH_SLRU_MULTI_MEMBERS, "pg_multixact/members"},
                {LOCH_SLRU_COMMIT_TS, "pg_commit_ts"}};

    for (size_t i = 0; i < sizeof dirs / sizeof dirs[0]; i++) {
        struct slru_dir dir = {import, dirs[i].slru, dirs[i].relative};
        LOCH_TRY(import_each(import->data_dir, dirs[i].relative, put_segment, &dir));
    }
    return LOCH_OK;
}

static LOCH_STATUS put_twophase(void *arg, const char *name, const struct stat *st)
{
    struct import *import = arg;
    struct loch_key key = {.kind = LOCH_KEY_TWOPHASE};
    char path[IMPORT_PATH_MAX];

    if (!S_ISREG(st->st_mode) || !parse_hex(name, 8, 8, &key.rel))
        return LOCH_FAIL(LOCH_E_INVALID, "%s/pg_twophase/%s has no place in a data directory",
                         import->data_dir, name);
    LOCH_TRY(import_path("pg_twophase", name, path));
    LOCH_TRY(import_read_file(import->data_dir, path, 64u << 20, &import->value));
    import->stats->files++;
    return import->put(import->arg, &key, loch_buf_slice(&import->value));
}

LOCH_STATUS import_twophase(struct import *import)
{
    return import_each(import->data_dir, "pg_twophase", put_twophase, import);
}

static LOCH_STATUS put_origin(void *arg, uint16_t origin, loch_lsn remote)
{
    struct import *import = arg;
    struct loch_key key = {.kind = LOCH_KEY_ORIGIN, .rel = origin};
    uint8_t value[16];

    loch_put_u64(value, remote);
    loch_put_u64(value + 8, import->facts->start_lsn);
    return import->put(import->arg, &key, loch_slice_of(value, sizeof value));
}

LOCH_STATUS import_origins(struct import *import)
{
    loch_status st = import_read_file(import->data_dir, "pg_logical/replorigin_checkpoint",
                                      1u << 20, &import->value);

    if (st.code == LOCH_E_NOT_FOUND)
        return LOCH_OK;
    LOCH_TRY(st);
    return loch_origins_parse(loch_buf_slice(&import->value), put_origin, import);
}
