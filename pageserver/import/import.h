/* Import: a cleanly shut down PostgreSQL 15 data directory becomes the first versions of a
 * timeline.
 *
 * One path for any directory, one made by initdb a moment ago or one brought by a user: inspect,
 * create the timeline from what inspection found, put. Everything is put at L, the end of the
 * directory's shutdown checkpoint record. Blocking: pool thread or start-up. The directory is only
 * read.
 */
#ifndef LOCH_PAGESERVER_IMPORT_H
#define LOCH_PAGESERVER_IMPORT_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/pg/control.h"
#include "loch/pg/key.h"

struct loch_timeline;

struct loch_import_facts {
    loch_lsn start_lsn; /* L: end of the shutdown checkpoint record */
    loch_lsn prev_lsn;  /* its start */
    uint64_t system_id;
    uint32_t pg_version; /* as server_version_num, the minor 0: 150000 */
    uint32_t segment_bytes;
    bool had_checksums; /* pages are stored with pd_checksum cleared, control says no checksums */
    struct loch_control control; /* as of L */
};

/* Whether the directory can be imported, and its facts. LOCH_E_INVALID naming the reason: not shut
 * down cleanly, a backup or standby, a tablespace with a LOCATION. LOCH_E_UNSUPPORTED: another
 * version or segment size. LOCH_E_CORRUPT, LOCH_E_IO. */
LOCH_STATUS loch_import_inspect(const char *data_dir, struct loch_import_facts *out);

/* Called for every key, each with its value, never twice for a key. A failure ends the import. */
typedef LOCH_STATUS (*loch_import_put_fn)(void *arg, const struct loch_key *key,
                                          struct loch_slice value);

struct loch_import_stats {
    uint64_t relations, pages, slru_pages, files;
};

/* Puts every page, size, SLRU page, map, two-phase state, origin and auxiliary file. FSM forks are
 * left out (never WAL-logged, they would go stale), and of unlogged relations all but the init
 * fork. LOCH_E_CORRUPT: a page whose header, or checksum where the directory has them, PostgreSQL
 * would refuse, a file of a wrong size. LOCH_E_INVALID: a file that has no place in a data
 * directory, or changed meanwhile. */
LOCH_STATUS loch_import_put(const char *data_dir, const struct loch_import_facts *facts,
                            loch_import_put_fn put, void *arg, struct loch_import_stats *stats);

/* As above into a timeline created with facts->start_lsn; loch_timeline_commit is the caller's. */
LOCH_STATUS loch_import_into_timeline(const char *data_dir, const struct loch_import_facts *facts,
                                      struct loch_timeline *timeline,
                                      struct loch_import_stats *stats);

/* ---- making a directory ---- */

/* What initdb and the extension's SQL make is the same for every tenant but for the password and
 * the system identifier: made once, then copied. */
struct loch_initdb_template;

/* It is a file at `path`, which need not exist; what lies there is removed, here and by destroy.
 * One that goes meanwhile is made again. LOCH_E_NO_MEMORY, LOCH_E_IO. Made with the first use. */
LOCH_STATUS loch_initdb_template_create(const char *path, struct loch_initdb_template **out);
void loch_initdb_template_destroy(struct loch_initdb_template *take_template); /* takes NULL */

struct loch_initdb_options {
    const char *postgres_bin_dir;
    const char *lib_dir;       /* of loch.so: goes into dynamic_library_path */
    const char *extension_sql; /* run in template1 and postgres; NULL or a missing file: not */
    const char *scratch_dir;   /* existing */
    const char *run_as_user;   /* when root; NULL: postgres */
    struct loch_initdb_template *from; /* NULL: initdb each time */
};

#define LOCH_PASSWORD_BYTES 33u

/* Runs initdb (UTF8, locale C, SCRAM) with the superuser `postgres` and that password, and the
 * extension's SQL, or copies what they made (any thread; then its system identifier is another's
 * too: the caller gives it one of its own); the directory is shut down cleanly. *data_dir
 * (malloc'ed path below scratch_dir) is the caller's to remove with loch_import_remove_dir.
 * `random`: 16 random bytes the password is made of. LOCH_E_UNAVAILABLE with the program's last
 * words. */
LOCH_STATUS loch_import_initdb(const struct loch_initdb_options *options, const uint8_t random[16],
                               char password[static LOCH_PASSWORD_BYTES], char **data_dir);
void loch_import_remove_dir(const char *path);

#endif
