/* Import and base backup without a pageserver: a data directory goes through the import into
 * memory, and comes out as a base backup.
 *
 * usage: import_check initdb SCRATCH_DIR LIB_DIR [SQL_FILE]   prints the directory and the password
 *        import_check copy DATA_DIR TAR_FILE [full]           prints L and where the server writes
 * first import_check inspect DATA_DIR                        exit 1 and the reason when it is
 * refused
 */
#include "basebackup/basebackup.h"
#include "import/import.h"

#include "loch/base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

struct entry {
    struct loch_key key;
    struct loch_slice value;
};

static struct entry *entries;
static size_t count, capacity;

static LOCH_STATUS keep(void *arg, const struct loch_key *key, struct loch_slice value)
{
    uint8_t *copy = malloc(value.len != 0 ? value.len : 1);

    (void)arg;
    if (count == capacity) {
        capacity = capacity != 0 ? capacity * 2 : 4096;
        entries = realloc(entries, capacity * sizeof *entries);
    }
    if (copy == NULL || entries == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "store");
    memcpy(copy, value.data, value.len);
    entries[count++] = (struct entry){*key, loch_slice_of(copy, value.len)};
    return LOCH_OK;
}

static int compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return loch_key_compare(&x->key, &y->key);
}

static LOCH_STATUS read_page(void *arg, const struct loch_rel *rel, uint8_t fork, uint32_t block,
                             loch_lsn lsn, uint8_t out[static LOCH_PAGE_BYTES])
{
    struct entry wanted = {.key = {.kind = LOCH_KEY_PAGE,
                                   .fork = fork,
                                   .spc = rel->spc,
                                   .db = rel->db,
                                   .rel = rel->rel,
                                   .block = block}};
    const struct entry *found = bsearch(&wanted, entries, count, sizeof *entries, compare);

    (void)arg;
    (void)lsn;
    if (found == NULL)
        memset(out, 0, LOCH_PAGE_BYTES);
    else
        memcpy(out, found->value.data, LOCH_PAGE_BYTES);
    return LOCH_OK;
}

static LOCH_STATUS scan(void *arg, const struct loch_key *first, const struct loch_key *end,
                        loch_lsn lsn, loch_view_scan_fn fn, void *fn_arg)
{
    (void)arg;
    for (size_t i = 0; i < count; i++)
        if (loch_key_compare(&entries[i].key, first) >= 0 &&
            loch_key_compare(&entries[i].key, end) < 0)
            LOCH_TRY(fn(fn_arg, &entries[i].key, entries[i].value, lsn));
    return LOCH_OK;
}

static LOCH_STATUS write_out(void *arg, struct loch_slice bytes)
{
    if (fwrite(bytes.data, 1, bytes.len, arg) != bytes.len)
        return LOCH_FAIL(LOCH_E_IO, "write failed");
    return LOCH_OK;
}

static LOCH_STATUS copy(const char *data_dir, const char *tar_file, bool full)
{
    const struct loch_basebackup_source source = {.page = read_page, .scan = scan};
    struct loch_basebackup_request request = {.time = (int64_t)time(NULL), .full = full};
    struct loch_import_facts facts;
    struct loch_import_stats stats;
    loch_lsn end;
    loch_status st;
    FILE *out;

    LOCH_TRY(loch_import_inspect(data_dir, &facts));
    LOCH_TRY(loch_import_put(data_dir, &facts, keep, NULL, &stats));
    qsort(entries, count, sizeof *entries, compare);
    for (size_t i = 1; i < count; i++)
        if (compare(&entries[i - 1], &entries[i]) == 0)
            return LOCH_FAIL(LOCH_E_EXISTS, "a key was put twice (kind %u rel %u)",
                             entries[i].key.kind, entries[i].key.rel);
    request.lsn = facts.start_lsn;
    request.prev_lsn = facts.prev_lsn;
    request.control = &facts.control;
    out = fopen(tar_file, "wb");
    if (out == NULL)
        return LOCH_FAIL(LOCH_E_IO, "%s: cannot be written", tar_file);
    st = loch_basebackup_send(&source, &request, write_out, out, &end);
    if (fclose(out) != 0 && loch_is_ok(st))
        st = LOCH_FAIL(LOCH_E_IO, "%s: cannot be written", tar_file);
    LOCH_TRY(st);
    printf("start " LOCH_LSN_FMT " prev " LOCH_LSN_FMT " first write " LOCH_LSN_FMT
           " checksums %d relations %" PRIu64 " pages %" PRIu64 " slru pages %" PRIu64
           " files %" PRIu64 "\n",
           LOCH_LSN_ARG(facts.start_lsn), LOCH_LSN_ARG(facts.prev_lsn), LOCH_LSN_ARG(end),
           facts.had_checksums, stats.relations, stats.pages, stats.slru_pages, stats.files);
    return LOCH_OK;
}

static LOCH_STATUS make(const char *scratch, const char *lib_dir, const char *sql)
{
    struct loch_initdb_options options = {.postgres_bin_dir = "/usr/lib/postgresql/15/bin",
                                          .lib_dir = lib_dir,
                                          .scratch_dir = scratch,
                                          .extension_sql = sql};
    char password[LOCH_PASSWORD_BYTES];
    uint8_t random[16];
    char *data_dir;

    if (getrandom(random, sizeof random, 0) != sizeof random)
        return LOCH_FAIL(LOCH_E_IO, "getrandom");
    LOCH_TRY(loch_import_initdb(&options, random, password, &data_dir));
    printf("%s %s\n", data_dir, password);
    free(data_dir);
    return LOCH_OK;
}

int main(int argc, char **argv)
{
    struct loch_import_facts facts;
    loch_status st;

    loch_log_init("import_check", LOCH_LOG_INFO);
    if (argc >= 4 && strcmp(argv[1], "initdb") == 0)
        st = make(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
    else if (argc >= 4 && strcmp(argv[1], "copy") == 0)
        st = copy(argv[2], argv[3], argc > 4 && strcmp(argv[4], "full") == 0);
    else if (argc == 3 && strcmp(argv[1], "inspect") == 0)
        st = loch_import_inspect(argv[2], &facts);
    else {
        fprintf(stderr, "usage: import_check initdb|copy|inspect ...\n");
        return 2;
    }
    if (!loch_is_ok(st)) {
        loch_log_failure(argv[1]);
        return 1;
    }
    return 0;
}
