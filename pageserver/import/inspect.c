/* Whether a directory can be imported: refuses everything odd before anything is put.
 *
 * Source: PostgreSQL 15 catalog/pg_control.h, access/transam/xlog.c (shutdown checkpoint), and the
 * names of files in a data directory (storage documentation, chapter 73.1).
 */
#include "import/data_dir.h"

#include "loch/pg/wal_record.h"
#include "loch/pg/wal_scan.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XLOG_CHECKPOINT_SHUTDOWN 0x00u

static LOCH_STATUS refuse_present(const char *data_dir, const char *name, const char *why)
{
    char path[IMPORT_PATH_MAX];
    struct stat st;

    LOCH_TRY(import_path(data_dir, name, path));
    if (lstat(path, &st) == 0)
        return LOCH_FAIL(LOCH_E_INVALID, "%s: %s", path, why);
    return LOCH_OK;
}

static LOCH_STATUS check_version(const char *data_dir)
{
    struct loch_buf version = {0};
    loch_status st = import_read_file(data_dir, "PG_VERSION", 64, &version);

    if (!loch_is_ok(st))
        return LOCH_FAIL(LOCH_E_INVALID, "%s is no PostgreSQL data directory: no PG_VERSION",
                         data_dir);
    if (version.len < 2 || memcmp(version.data, "15", 2) != 0 ||
        (version.len > 2 && version.data[2] != '\n'))
        st = LOCH_FAIL(LOCH_E_UNSUPPORTED, "%s is of PostgreSQL %.*s; this build imports 15",
                       data_dir, (int)strcspn((const char *)version.data, "\n"),
                       (const char *)version.data);
    loch_buf_fini(&version);
    return st;
}

static LOCH_STATUS check_tablespace(void *arg, const char *name, const struct stat *st)
{
    const char *data_dir = arg;
    uint32_t spc;
    const char *rest = import_number(name, &spc);

    if (S_ISLNK(st->st_mode))
        return LOCH_FAIL(
            LOCH_E_INVALID,
            "%s/pg_tblspc/%s: a tablespace with a LOCATION cannot be imported; move its "
            "tables to pg_default and drop it first",
            data_dir, name);
    if (!S_ISDIR(st->st_mode) || rest == NULL || *rest != '\0')
        return LOCH_FAIL(LOCH_E_INVALID, "%s/pg_tblspc/%s: not a tablespace", data_dir, name);
    return LOCH_OK;
}

/* The shutdown checkpoint record's bytes are in the WAL, and say what pg_control says. */
static LOCH_STATUS read_checkpoint(const char *data_dir, struct loch_import_facts *facts)
{
    char name[LOCH_WAL_SEGMENT_NAME_BYTES], relative[64];
    struct loch_control *control = &facts->control;
    struct loch_checkpoint body;
    struct loch_wal_record *record = NULL;
    struct loch_wal_scan scan;
    struct loch_wal_span span;
    struct loch_buf segment = {0};
    struct loch_slice in;
    bool found = false;
    loch_status st;

    loch_wal_segment_name(control->checkpoint.tli, control->checkpoint_lsn / control->segment_bytes,
                          control->segment_bytes, name);
    snprintf(relative, sizeof relative, "pg_wal/%s", name);
    LOCH_TRY(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_RECORDS, control->checkpoint_lsn,
                                LOCH_LSN_NONE, control->segment_bytes));
    LOCH_TRY_OUT(st, import_read_file(data_dir, relative, control->segment_bytes, &segment));
    in = loch_buf_slice(&segment);
    size_t offset = control->checkpoint_lsn % control->segment_bytes;
    if (offset < in.len) {
        in.data += offset;
        in.len -= offset;
        LOCH_TRY_OUT(st, loch_wal_scan_next(&scan, &in, &found, &span));
    }
    record = malloc(sizeof *record);
    if (record == NULL) {
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "checkpoint record");
        goto out;
    }
    if (found)
        LOCH_TRY_OUT(st, loch_wal_record_decode(span.bytes, record));
    if (!found || span.start != control->checkpoint_lsn || record->rmid != LOCH_RM_XLOG ||
        (record->info & 0xF0u) != XLOG_CHECKPOINT_SHUTDOWN) {
        st = LOCH_FAIL(LOCH_E_CORRUPT,
                       "%s/%s holds no shutdown checkpoint at " LOCH_LSN_FMT
                       ", where pg_control says it is",
                       data_dir, relative, LOCH_LSN_ARG(control->checkpoint_lsn));
        goto out;
    }
    LOCH_TRY_OUT(st, loch_checkpoint_parse(record->main_data, &body));
    if (body.next_xid != control->checkpoint.next_xid ||
        body.next_oid != control->checkpoint.next_oid ||
        body.next_multi != control->checkpoint.next_multi) {
        st = LOCH_FAIL(LOCH_E_CORRUPT, "%s: pg_control and the shutdown checkpoint differ",
                       data_dir);
        goto out;
    }
    LOCH_TRY_OUT(st, loch_control_follow(control, record, span.start, span.end, NULL));
    facts->prev_lsn = span.start;
    facts->start_lsn = span.end;
out:
    free(record);
    loch_buf_fini(&segment);
    loch_wal_scan_fini(&scan);
    return st;
}

static LOCH_STATUS check_control(const char *data_dir, struct loch_import_facts *facts)
{
    struct loch_control *control = &facts->control;
    struct loch_buf file = {0};
    loch_status st = import_read_file(data_dir, "global/pg_control", 65536, &file);

    if (loch_is_ok(st))
        st = loch_control_parse(loch_buf_slice(&file), control);
    loch_buf_fini(&file);
    LOCH_TRY(st);
    if (control->state != LOCH_DB_SHUTDOWNED)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "%s was not shut down cleanly (pg_control says state %u): start and stop "
                         "it once with its own PostgreSQL",
                         data_dir, control->state);
    if (control->segment_bytes != 16u << 20)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED,
                         "%s has WAL segments of %u bytes; only 16 MB segments can be imported",
                         data_dir, control->segment_bytes);
    if (control->checkpoint.tli != 1)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED,
                         "%s is on WAL timeline %u (it was promoted or restored); only timeline 1 "
                         "can be imported: dump and load it, or pg_upgrade it first",
                         data_dir, control->checkpoint.tli);
    if (control->parameters.wal_level == 0)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "%s ran with wal_level=minimal: start and stop it once with replica",
                         data_dir);
    return LOCH_OK;
}

LOCH_STATUS loch_import_inspect(const char *data_dir, struct loch_import_facts *out)
{
    struct loch_import_facts facts = {.pg_version = LOCH_PG_MAJOR * 10000};
    union {
        const char *borrowed;
        void *arg;
    } dir = {.borrowed = data_dir};

    LOCH_TRY(check_version(data_dir));
    LOCH_TRY(refuse_present(data_dir, "postmaster.pid", "a server may be running on it"));
    LOCH_TRY(refuse_present(data_dir, "backup_label", "a base backup that was never recovered"));
    LOCH_TRY(refuse_present(data_dir, "tablespace_map", "a base backup that was never recovered"));
    LOCH_TRY(refuse_present(data_dir, "recovery.signal", "it is set up for recovery"));
    LOCH_TRY(refuse_present(data_dir, "standby.signal", "it is a standby: promote it first"));
    LOCH_TRY(check_control(data_dir, &facts));
    LOCH_TRY(import_each(data_dir, "pg_tblspc", check_tablespace, dir.arg));
    LOCH_TRY(read_checkpoint(data_dir, &facts));
    facts.had_checksums = facts.control.data_checksum_version != 0;
    facts.control.data_checksum_version = 0;
    facts.system_id = facts.control.system_id;
    facts.segment_bytes = facts.control.segment_bytes;
    *out = facts;
    return LOCH_OK;
}
