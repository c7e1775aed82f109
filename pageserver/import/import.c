/* The import's outline: databases, shared state, auxiliary files, control. */
#include "import/data_dir.h"

#include "basebackup/aux_file.h"

#include <stdio.h>
#include <string.h>

#define PG_DEFAULT_SPC 1663u
#define PG_GLOBAL_SPC  1664u
/* Of a directory whose configuration lies elsewhere, as a distribution's does. */
#define HBA                                                                                        \
    "# made by the import: the directory had no pg_hba.conf\n"                                     \
    "local all all scram-sha-256\n"                                                                \
    "host all all 127.0.0.1/32 scram-sha-256\n"                                                    \
    "host all all ::1/128 scram-sha-256\n"

/* A file that is not there becomes `otherwise`; when that is NULL too, nothing. */
static LOCH_STATUS import_aux(struct import *import, const char *relative, const char *otherwise)
{
    struct loch_key key = loch_aux_key(relative);
    struct loch_buf file = {0};
    struct loch_slice contents;
    loch_status st = import_read_file(import->data_dir, relative, LOCH_AUX_FILE_MAX, &file);

    if (st.code == LOCH_E_NOT_FOUND && otherwise == NULL)
        return LOCH_OK;
    contents = st.code == LOCH_E_NOT_FOUND ? loch_slice_of(otherwise, strlen(otherwise))
                                           : loch_buf_slice(&file);
    if (loch_is_ok(st) || st.code == LOCH_E_NOT_FOUND)
        st = loch_aux_encode(relative, contents, &import->value);
    if (loch_is_ok(st)) {
        import->stats->files++;
        st = import->put(import->arg, &key, loch_buf_slice(&import->value));
    }
    loch_buf_fini(&file);
    return st;
}

struct database_dir {
    struct import *import;
    const char *relative; /* "base" or a tablespace's version directory */
    uint32_t spc;
};

static LOCH_STATUS take_database(void *arg, const char *name, const struct stat *st)
{
    struct database_dir *dir = arg;
    char path[IMPORT_PATH_MAX];
    uint32_t db;
    const char *rest = import_number(name, &db);

    if (S_ISDIR(st->st_mode) && strcmp(name, "pgsql_tmp") == 0)
        return LOCH_OK;
    if (!S_ISDIR(st->st_mode) || rest == NULL || *rest != '\0' || db == 0)
        return LOCH_FAIL(LOCH_E_INVALID, "%s/%s/%s has no place in a data directory",
                         dir->import->data_dir, dir->relative, name);
    LOCH_TRY(import_path(dir->relative, name, path));
    return import_database(dir->import, path, dir->spc, db);
}

static LOCH_STATUS take_tablespace(void *arg, const char *name, const struct stat *st)
{
    struct import *import = arg;
    struct database_dir dir = {.import = import};
    struct loch_key key = {.kind = LOCH_KEY_DATABASE};
    char relative[IMPORT_PATH_MAX];
    const uint8_t exists = 1;

    /* inspect has checked the names and that these are directories */
    if (!S_ISDIR(st->st_mode) || import_number(name, &dir.spc) == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "%s/pg_tblspc/%s: not a tablespace", import->data_dir,
                         name);
    key.spc = dir.spc;
    LOCH_TRY(import->put(import->arg, &key, loch_slice_of(&exists, 1)));
    snprintf(relative, sizeof relative, "pg_tblspc/%s/%s", name, IMPORT_TABLESPACE_VERSION_DIR);
    dir.relative = relative;
    return import_each(import->data_dir, relative, take_database, &dir);
}

static LOCH_STATUS put_control(struct import *import)
{
    struct loch_key key = {.kind = LOCH_KEY_CONTROL};

    import->value.len = 0;
    LOCH_TRY(loch_control_encode(&import->facts->control, &import->value));
    return import->put(import->arg, &key, loch_buf_slice(&import->value));
}

static LOCH_STATUS put_everything(struct import *import)
{
    struct database_dir base = {import, "base", PG_DEFAULT_SPC};

    LOCH_TRY(import_database(import, "global", PG_GLOBAL_SPC, 0));
    LOCH_TRY(import_each(import->data_dir, "base", take_database, &base));
    LOCH_TRY(import_each(import->data_dir, "pg_tblspc", take_tablespace, import));
    LOCH_TRY(import_slrus(import));
    LOCH_TRY(import_twophase(import));
    LOCH_TRY(import_origins(import));
    LOCH_TRY(import_aux(import, "PG_VERSION", NULL));
    LOCH_TRY(import_aux(import, "postgresql.conf", "# made by the import\n"));
    LOCH_TRY(import_aux(import, "postgresql.auto.conf", NULL));
    LOCH_TRY(import_aux(import, "pg_hba.conf", HBA));
    LOCH_TRY(import_aux(import, "pg_ident.conf", "# made by the import\n"));
    return put_control(import);
}

LOCH_STATUS loch_import_put(const char *data_dir, const struct loch_import_facts *facts,
                            loch_import_put_fn put, void *arg, struct loch_import_stats *stats)
{
    struct import import = {
        .data_dir = data_dir, .facts = facts, .put = put, .arg = arg, .stats = stats};
    loch_status st;

    *stats = (struct loch_import_stats){0};
    st = put_everything(&import);
    loch_buf_fini(&import.value);
    return st;
}
