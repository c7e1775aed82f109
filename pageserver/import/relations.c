/* Relation files of a database directory as page images and sizes.
 *
 * A relation is collected from its directory entries first (forks and 1 GB segments come in any
 * order), then put fork by fork. Names: <relfilenode>[_fsm|_vm|_init][.<segment>];
 * t<backend>_<relfilenode> are leftovers of temporary tables.
 */
#include "import/data_dir.h"

#include "loch/pg/page.h"
#include "loch/pg/relmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT_BLOCKS (IMPORT_SEGMENT_BYTES / LOCH_PAGE_BYTES)
#define READ_BLOCKS    32u

struct file {
    uint32_t rel, segment;
    uint8_t fork;
    uint64_t size;
};

struct listing {
    struct import *import;
    const char *relative;
    uint32_t spc, db;
    struct file *files;
    size_t count, capacity;
};

static int compare_files(const void *a, const void *b)
{
    const struct file *x = a, *y = b;

    if (x->rel != y->rel)
        return x->rel < y->rel ? -1 : 1;
    if (x->fork != y->fork)
        return x->fork < y->fork ? -1 : 1;
    return x->segment < y->segment ? -1 : x->segment > y->segment;
}

static bool parse_name(const char *name, struct file *out)
{
    static const struct {
        const char *suffix;
        uint8_t fork;
    } forks[] = {{"_fsm", LOCH_FORK_FSM}, {"_vm", LOCH_FORK_VM}, {"_init", LOCH_FORK_INIT}};
    const char *at = import_number(name, &out->rel);

    if (at == NULL || out->rel == 0)
        return false;
    out->fork = LOCH_FORK_MAIN;
    out->segment = 0;
    for (size_t i = 0; i < sizeof forks / sizeof forks[0]; i++) {
        size_t len = strlen(forks[i].suffix);
        if (strncmp(at, forks[i].suffix, len) == 0) {
            out->fork = forks[i].fork;
            at += len;
            break;
        }
    }
    if (*at == '.') {
        at = import_number(at + 1, &out->segment);
        if (at == NULL || out->segment == 0)
            return false;
    }
    return *at == '\0';
}

/* Files that stand beside relations and are not imported here. */
static bool is_known_other(const struct listing *list, const char *name)
{
    if (strcmp(name, "pg_filenode.map") == 0 || strcmp(name, "PG_VERSION") == 0 ||
        strcmp(name, "pg_internal.init") == 0)
        return true;
    if (list->db == 0 && strcmp(name, "pg_control") == 0)
        return true;
    /* an init file that was being replaced, a temporary table's, a map that was being replaced */
    return strncmp(name, "pg_internal.init.", 17) == 0 ||
           (name[0] == 't' && name[1] >= '0' && name[1] <= '9') ||
           strcmp(name, "pg_filenode.map.tmp") == 0;
}

static LOCH_STATUS take_entry(void *arg, const char *name, const struct stat *st)
{
    struct listing *list = arg;
    struct file file;

    if (is_known_other(list, name))
        return LOCH_OK;
    if (S_ISDIR(st->st_mode) && strcmp(name, "pgsql_tmp") == 0)
        return LOCH_OK;
    if (!S_ISREG(st->st_mode) || !parse_name(name, &file))
        return LOCH_FAIL(LOCH_E_INVALID, "%s/%s/%s has no place in a data directory",
                         list->import->data_dir, list->relative, name);
    file.size = (uint64_t)st->st_size;
    if (file.size % LOCH_PAGE_BYTES != 0 || file.size > IMPORT_SEGMENT_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s/%s/%s has %llu bytes: not whole pages of a segment",
                         list->import->data_dir, list->relative, name,
                         (unsigned long long)file.size);
    if (list->count == list->capacity) {
        size_t capacity = list->capacity != 0 ? list->capacity * 2 : 512;
        struct file *grown = realloc(list->files, capacity * sizeof *grown);
        if (grown == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "list of %s", list->relative);
        list->files = grown;
        list->capacity = capacity;
    }
    list->files[list->count++] = file;
    return LOCH_OK;
}

static void file_name(const struct listing *list, const struct file *file,
                      char out[static IMPORT_PATH_MAX])
{
    static const char *const suffix[] = {"", "_fsm", "_vm", "_init"};
    int n = snprintf(out, IMPORT_PATH_MAX, "%s/%s/%u%s", list->import->data_dir, list->relative,
                     file->rel, suffix[file->fork]);

    if (file->segment != 0 && n > 0 && n < (int)IMPORT_PATH_MAX)
        snprintf(out + n, IMPORT_PATH_MAX - (size_t)n, ".%u", file->segment);
}

static LOCH_STATUS put_page(const struct listing *list, const struct file *file, uint32_t block,
                            uint8_t *page, const char *path)
{
    struct loch_key key = {.kind = LOCH_KEY_PAGE,
                           .fork = file->fork,
                           .spc = list->spc,
                           .db = list->db,
                           .rel = file->rel,
                           .block = block};

    if (loch_page_is_zero(page))
        return LOCH_OK; /* a block without a version below the relation's end reads as zeros */
    if (!loch_page_is_plausible(page))
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s: block %u has no valid page header", path, block);
    if (list->import->facts->had_checksums &&
        loch_page_checksum(page) != loch_page_checksum_for(page, block))
        return LOCH_FAIL(
            LOCH_E_CORRUPT,
            "%s: block %u of the relation has checksum %u, its contents make %u: it is "
            "damaged",
            path, block, loch_page_checksum(page), loch_page_checksum_for(page, block));
    if (loch_page_lsn(page) > list->import->facts->start_lsn)
        return LOCH_FAIL(LOCH_E_CORRUPT,
                         "%s: block %u was changed at " LOCH_LSN_FMT
                         ", but the cluster's WAL ends at " LOCH_LSN_FMT
                         ": it would miss changes to come; pg_resetwal -l past that LSN, start and "
                         "stop the server, then import it",
                         path, block, LOCH_LSN_ARG(loch_page_lsn(page)),
                         LOCH_LSN_ARG(list->import->facts->start_lsn));
    loch_page_set_checksum(page, 0);
    list->import->stats->pages++;
    return list->import->put(list->import->arg, &key, loch_slice_of(page, LOCH_PAGE_BYTES));
}

static LOCH_STATUS put_blocks(const struct listing *list, const struct file *file, int fd,
                              const char *path)
{
    uint8_t *pages = malloc(READ_BLOCKS * LOCH_PAGE_BYTES);
    uint32_t count = (uint32_t)(file->size / LOCH_PAGE_BYTES);
    loch_status st = LOCH_OK;

    if (pages == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "pages of %s", path);
    for (uint32_t block = 0; block < count && loch_is_ok(st); block += READ_BLOCKS) {
        uint32_t n = count - block < READ_BLOCKS ? count - block : READ_BLOCKS;
        size_t want = (size_t)n * LOCH_PAGE_BYTES;
        ssize_t got = pread(fd, pages, want, (off_t)block * LOCH_PAGE_BYTES);

        if (got < 0 || (size_t)got != want) {
            st = LOCH_FAIL(LOCH_E_IO, "%s: %s", path, got < 0 ? strerror(errno) : "short read");
            break;
        }
        for (uint32_t i = 0; i < n && loch_is_ok(st); i++)
            st = put_page(list, file, file->segment * (uint32_t)SEGMENT_BLOCKS + block + i,
                          pages + (size_t)i * LOCH_PAGE_BYTES, path);
    }
    free(pages);
    return st;
}

static LOCH_STATUS put_file(const struct listing *list, const struct file *file)
{
    char path[IMPORT_PATH_MAX];
    uint64_t bytes;
    loch_status st;
    int fd;

    file_name(list, file, path);
    LOCH_TRY(import_open(path, &fd, &bytes));
    if (bytes != file->size)
        st = LOCH_FAIL(LOCH_E_INVALID, "%s: its size changed while the directory was read", path);
    else
        st = put_blocks(list, file, fd, path);
    close(fd);
    list->import->stats->files++;
    return st;
}

bool import_fork_size_add(struct import_fork_size *fork, uint32_t segment, uint64_t bytes)
{
    if (!fork->ended && segment == fork->segments) {
        fork->bytes += bytes;
        fork->segments++;
        fork->ended = bytes < IMPORT_SEGMENT_BYTES;
        return true;
    }
    fork->ended = true;
    return fork->segments > 0 && bytes == 0;
}

/* One fork: `count` files, segments in order. */
static LOCH_STATUS put_fork(const struct listing *list, const struct file *files, size_t count)
{
    struct loch_key key = {.kind = LOCH_KEY_REL_SIZE,
                           .fork = files[0].fork,
                           .spc = list->spc,
                           .db = list->db,
                           .rel = files[0].rel};
    struct import_fork_size fork = {0};
    uint8_t size[4];

    for (size_t i = 0; i < count; i++)
        if (!import_fork_size_add(&fork, files[i].segment, files[i].size))
            return LOCH_FAIL(LOCH_E_CORRUPT, "%s/%s/%u: its segment files do not join",
                             list->import->data_dir, list->relative, files[i].rel);
    if (fork.bytes / LOCH_PAGE_BYTES >= UINT32_MAX)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s/%s/%u: too many blocks", list->import->data_dir,
                         list->relative, files[0].rel);
    loch_put_u32(size, (uint32_t)(fork.bytes / LOCH_PAGE_BYTES));
    LOCH_TRY(list->import->put(list->import->arg, &key, loch_slice_of(size, sizeof size)));
    for (size_t i = 0; i < count; i++)
        LOCH_TRY(put_file(list, &files[i]));
    return LOCH_OK;
}

static LOCH_STATUS put_relations(const struct listing *list)
{
    size_t at = 0;

    while (at < list->count) {
        uint32_t rel = list->files[at].rel;
        bool unlogged = false;
        size_t end = at;

        for (; end < list->count && list->files[end].rel == rel; end++)
            unlogged = unlogged || list->files[end].fork == LOCH_FORK_INIT;
        list->import->stats->relations++;
        while (at < end) {
            uint8_t fork = list->files[at].fork;
            size_t last = at;

            while (last < end && list->files[last].fork == fork)
                last++;
            if (fork != LOCH_FORK_FSM && (!unlogged || fork == LOCH_FORK_INIT))
                LOCH_TRY(put_fork(list, list->files + at, last - at));
            at = last;
        }
    }
    return LOCH_OK;
}

static LOCH_STATUS put_relmap(struct import *import, const char *relative, uint32_t spc,
                              uint32_t db)
{
    struct loch_key key = {.kind = LOCH_KEY_RELMAP, .spc = spc, .db = db};
    char path[IMPORT_PATH_MAX];
    struct loch_relmap map;

    LOCH_TRY(import_path(relative, "pg_filenode.map", path));
    LOCH_TRY(import_read_file(import->data_dir, path, 4096, &import->value));
    LOCH_TRY(loch_relmap_parse(loch_buf_slice(&import->value), &map));
    return import->put(import->arg, &key, loch_buf_slice(&import->value));
}

/* A directory may hold tables of a database whose home is another tablespace: then it has no map.
 */
static bool has_map(const struct import *import, const char *relative)
{
    char inner[IMPORT_PATH_MAX], path[IMPORT_PATH_MAX];
    struct stat st;

    return loch_is_ok(import_path(relative, "pg_filenode.map", inner)) &&
           loch_is_ok(import_path(import->data_dir, inner, path)) && stat(path, &st) == 0;
}

LOCH_STATUS import_database(struct import *import, const char *relative, uint32_t spc, uint32_t db)
{
    struct listing list = {.import = import, .relative = relative, .spc = spc, .db = db};
    const struct loch_key key = {.kind = LOCH_KEY_DATABASE, .spc = spc, .db = db};
    const uint8_t exists = 1;
    loch_status st;

    if (db != 0)
        LOCH_TRY(import->put(import->arg, &key, loch_slice_of(&exists, 1)));
    if (db == 0 || has_map(import, relative))
        LOCH_TRY(put_relmap(import, relative, spc, db));
    LOCH_TRY_OUT(st, import_each(import->data_dir, relative, take_entry, &list));
    if (list.count > 0)
        qsort(list.files, list.count, sizeof *list.files, compare_files);
    st = put_relations(&list);
out:
    free(list.files);
    return st;
}
