/* pg-walapply: keeps what the effects of WAL say, and compares it with a stock server's own files.
 *
 *   pg-walapply BASE FINAL      data directories after initdb and after the last clean shutdown
 *
 * Compared: every page of pg_xact, pg_multixact and pg_commit_ts, and which files exist; every VM
 * page that WAL touched; every relation's size (a server may have more blocks, if they are zero)
 * and absence after a drop; relation maps; two-phase state files. WAL is read from FINAL/pg_wal.
 */
#include "loch/base/log.h"
#include "loch/pg/control.h"
#include "loch/pg/effects.h"
#include "loch/pg/page.h"
#include "loch/pg/relmap.h"
#include "loch/pg/slru.h"
#include "loch/pg/vm.h"
#include "loch/pg/wal_scan.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SLRU_PAGES 5244192u /* the most any of the four can have, in whole files */
#define HASH       65536u

struct entry { /* one fork of a relation, or one VM page of it (block != UINT32_MAX) */
    struct entry *next;
    struct loch_rel rel;
    uint8_t fork;
    uint32_t block;
    bool dropped, unknown;
    uint32_t blocks;
    uint8_t *page;
};

static const char *base_dir, *final_dir;
static uint8_t *slru[4][SLRU_PAGES];
static const char *const slru_dirs[] = {"pg_xact", "pg_multixact/offsets", "pg_multixact/members",
                                        "pg_commit_ts"};
static struct entry *table[HASH];
static struct loch_control control;
static unsigned long failures, compared[8];
static struct {
    uint32_t spc, db;
    uint8_t file[512];
} maps[64];
static size_t map_count;
static struct {
    uint32_t xid;
    uint8_t *file;
    size_t len;
} states[64];
static size_t state_count;

static void check(loch_status st, const char *what)
{
    if (!loch_is_ok(st)) {
        fprintf(stderr, "pg-walapply: %s: %s\n", what, loch_error_text());
        exit(1);
    }
}

static uint8_t *load(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    uint8_t *bytes;

    if (f == NULL)
        return NULL;
    fstat(fileno(f), &st);
    bytes = malloc((size_t)st.st_size + 1);
    *len = fread(bytes, 1, (size_t)st.st_size, f);
    fclose(f);
    return bytes;
}

static void rel_path(char *out, size_t size, const char *dir, struct loch_rel rel, uint8_t fork)
{
    static const char *const forks[] = {"", "_fsm", "_vm", "_init"};

    if (rel.spc == 1664)
        snprintf(out, size, "%s/global/%u%s", dir, rel.rel, forks[fork]);
    else if (rel.spc == 1663)
        snprintf(out, size, "%s/base/%u/%u%s", dir, rel.db, rel.rel, forks[fork]);
    else
        snprintf(out, size, "%s/pg_tblspc/%u/PG_15_202209061/%u/%u%s", dir, rel.spc, rel.db,
                 rel.rel, forks[fork]);
}

static struct entry *find(struct loch_rel rel, uint8_t fork, uint32_t block)
{
    uint32_t h = (rel.rel * 31 + rel.db * 7 + fork + block * 131) % HASH;
    struct entry *e;
    char path[4096];
    uint8_t *bytes;
    size_t len;

    for (e = table[h]; e != NULL; e = e->next)
        if (e->rel.rel == rel.rel && e->rel.db == rel.db && e->rel.spc == rel.spc &&
            e->fork == fork && e->block == block)
            return e;
    e = calloc(1, sizeof *e);
    e->rel = rel;
    e->fork = fork;
    e->block = block;
    e->next = table[h];
    table[h] = e;
    rel_path(path, sizeof path, base_dir, rel, fork);
    bytes = load(path, &len);
    if (block == UINT32_MAX) {
        e->blocks = bytes != NULL ? (uint32_t)(len / 8192) : 0;
        e->dropped = bytes == NULL;
    } else {
        e->page = calloc(1, 8192);
        if (bytes != NULL && len >= ((size_t)block + 1) * 8192)
            memcpy(e->page, bytes + (size_t)block * 8192, 8192);
    }
    free(bytes);
    return e;
}

/* Calls fn for every segment file of an SLRU, with its pages. */
static void each_slru_file(const char *dir, uint32_t s,
                           void (*fn)(const char *path, uint32_t s, uint32_t segment,
                                      const uint8_t *bytes, size_t pages))
{
    char path[4096];
    struct dirent *d;
    DIR *dp;

    snprintf(path, sizeof path, "%s/%s", dir, slru_dirs[s]);
    dp = opendir(path);
    while (dp != NULL && (d = readdir(dp)) != NULL) {
        size_t len;
        if (d->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s/%s", dir, slru_dirs[s], d->d_name);
        uint8_t *bytes = load(path, &len);
        fn(path, s, (uint32_t)strtoul(d->d_name, NULL, 16), bytes, len / 8192);
        free(bytes);
    }
    if (dp != NULL)
        closedir(dp);
}

static void keep_slru(const char *path, uint32_t s, uint32_t segment, const uint8_t *bytes,
                      size_t pages)
{
    (void)path;
    for (size_t i = 0; i < pages; i++) {
        slru[s][segment * 32 + i] = malloc(8192);
        memcpy(slru[s][segment * 32 + i], bytes + i * 8192, 8192);
    }
}

static void load_slru(void)
{
    for (uint32_t s = 0; s < 4; s++)
        each_slru_file(base_dir, s, keep_slru);
}

static void forget_rel(struct loch_rel rel, bool whole_db)
{
    for (uint32_t h = 0; h < HASH; h++)
        for (struct entry *e = table[h]; e != NULL; e = e->next)
            if (e->rel.spc == rel.spc && e->rel.db == rel.db &&
                (whole_db || e->rel.rel == rel.rel)) {
                e->dropped = true;
                e->blocks = 0;
                if (e->page != NULL)
                    memset(e->page, 0, 8192);
            }
}

static void grow(struct loch_rel rel, uint8_t fork, uint32_t block)
{
    struct entry *e = find(rel, fork, UINT32_MAX);

    e->dropped = false;
    if (e->blocks <= block)
        e->blocks = block + 1;
}

static void apply_page(const struct loch_effect *fx, const struct loch_wal_record *record,
                       loch_lsn end)
{
    struct entry *e;

    grow(fx->page.rel, fx->page.fork, fx->page.block);
    if (fx->page.fork != LOCH_FORK_VM)
        return;
    e = find(fx->page.rel, LOCH_FORK_VM, fx->page.block);
    e->dropped = false;
    if (!fx->page.is_image) {
        fprintf(stderr, "a VM page as a record\n");
        exit(1);
    }
    e->unknown = !loch_is_ok(
        loch_wal_block_plain_image(loch_wal_record_block(record, fx->page.block_id), e->page));
    if (!e->unknown && !loch_page_is_new(e->page))
        loch_page_set_lsn(e->page, end);
}

static void cut_slru(uint8_t s, const struct loch_slru_cut *cut)
{
    for (uint32_t p = 0; p < SLRU_PAGES; p++)
        if (slru[s][p] != NULL && loch_slru_cut_hides(s, cut, p)) {
            free(slru[s][p]);
            slru[s][p] = NULL;
        }
}

static void truncate_rel(const struct loch_effect *fx)
{
    struct entry *e = find(fx->rel.rel, fx->rel.fork, UINT32_MAX);

    if (e->blocks > fx->rel.blocks)
        e->blocks = fx->rel.blocks;
    if (fx->rel.fork == LOCH_FORK_VM)
        for (uint32_t b = fx->rel.blocks; b < 8; b++)
            memset(find(fx->rel.rel, LOCH_FORK_VM, b)->page, 0, 8192);
}

static void apply(const struct loch_effect *fx, const struct loch_wal_record *record, loch_lsn end)
{
    struct entry *e;

    switch (fx->kind) {
    case LOCH_EFFECT_PAGE:
        apply_page(fx, record, end);
        break;
    case LOCH_EFFECT_VM_OP:
        if (fx->vm.op.data[0] == LOCH_VM_SET)
            grow(fx->vm.rel, LOCH_FORK_VM, fx->vm.block);
        e = find(fx->vm.rel, LOCH_FORK_VM, fx->vm.block);
        e->dropped = false;
        check(loch_vm_apply(fx->vm.op, end, e->page), "VM op");
        break;
    case LOCH_EFFECT_REL_CREATE:
        find(fx->rel.rel, fx->rel.fork, UINT32_MAX)->dropped = false;
        break;
    case LOCH_EFFECT_REL_TRUNCATE:
        truncate_rel(fx);
        break;
    case LOCH_EFFECT_REL_DROP:
        forget_rel(fx->rel.rel, false);
        break;
    case LOCH_EFFECT_DB_DROP:
        forget_rel((struct loch_rel){fx->db.spc, fx->db.db, 0}, true);
        break;
    case LOCH_EFFECT_SLRU_OP:
        if (fx->slru.page >= SLRU_PAGES)
            exit(1);
        if (slru[fx->slru.slru][fx->slru.page] == NULL)
            slru[fx->slru.slru][fx->slru.page] = calloc(1, 8192);
        check(loch_slru_apply(fx->slru.op, slru[fx->slru.slru][fx->slru.page]), "SLRU op");
        break;
    case LOCH_EFFECT_SLRU_CUT:
        cut_slru(fx->slru.slru, &fx->slru.cut);
        break;
    case LOCH_EFFECT_RELMAP:
        for (size_t i = 0; i <= map_count; i++)
            if (i == map_count || (maps[i].spc == fx->relmap.spc && maps[i].db == fx->relmap.db)) {
                maps[i].spc = fx->relmap.spc;
                maps[i].db = fx->relmap.db;
                memcpy(maps[i].file, fx->relmap.file.data, 512);
                map_count += i == map_count;
                break;
            }
        break;
    case LOCH_EFFECT_TWOPHASE_PUT:
        states[state_count].xid = fx->twophase.xid;
        states[state_count].len = fx->twophase.file.len;
        states[state_count].file = malloc(fx->twophase.file.len);
        memcpy(states[state_count++].file, fx->twophase.file.data, fx->twophase.file.len);
        break;
    case LOCH_EFFECT_TWOPHASE_DROP:
        for (size_t i = 0; i < state_count; i++)
            if (states[i].xid == fx->twophase.xid)
                states[i].len = 0;
        break;
    case LOCH_EFFECT_DB_CREATE:
    case LOCH_EFFECT_DB_COPY:
    case LOCH_EFFECT_TABLESPACE_CREATE:
    case LOCH_EFFECT_TABLESPACE_DROP:
    case LOCH_EFFECT_XACT_END:
    case LOCH_EFFECT_ORIGIN_SET:
    case LOCH_EFFECT_ORIGIN_DROP:
    case LOCH_EFFECT_CHECKPOINT:
    case LOCH_EFFECT_FILE:
        break;
    }
}

/* No key twice for one record. */
static void check_distinct(const struct loch_effects *effects, loch_lsn end)
{
    for (size_t i = 0; i < effects->count; i++)
        for (size_t k = 0; k < i; k++) {
            const struct loch_effect *a = &effects->items[i], *b = &effects->items[k];
            bool same = false;
            if (a->kind != b->kind)
                continue;
            if (a->kind == LOCH_EFFECT_SLRU_OP)
                same = a->slru.slru == b->slru.slru && a->slru.page == b->slru.page;
            else if (a->kind == LOCH_EFFECT_VM_OP)
                same = a->vm.block == b->vm.block;
            else if (a->kind == LOCH_EFFECT_PAGE)
                same = a->page.rel.rel == b->page.rel.rel && a->page.fork == b->page.fork &&
                       a->page.block == b->page.block;
            if (same) {
                printf("DIFFERS a key twice before %X/%X\n", LOCH_LSN_ARG(end));
                failures++;
            }
        }
}

static void replay(void)
{
    static struct loch_wal_record record;
    struct loch_effects effects = {0};
    struct loch_wal_scan scan;
    loch_lsn start = control.checkpoint.redo;
    uint64_t segment = start / control.segment_bytes;
    bool going = true;

    check(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_RECORDS, start, 0, control.segment_bytes),
          "start");
    for (; going; segment++) {
        char path[4096], name[LOCH_WAL_SEGMENT_NAME_BYTES];
        struct loch_slice in;
        size_t len;

        loch_wal_segment_name(1, segment, control.segment_bytes, name);
        snprintf(path, sizeof path, "%s/pg_wal/%s", final_dir, name);
        uint8_t *bytes = load(path, &len);
        if (bytes == NULL)
            break;
        in = loch_slice_of(bytes + scan.position % control.segment_bytes,
                           len - (size_t)(scan.position % control.segment_bytes));
        while (in.len > 0 && going) {
            struct loch_wal_span span;
            bool found;
            going = loch_is_ok(loch_wal_scan_next(&scan, &in, &found, &span)) && !scan.ended;
            if (!going || !found)
                continue;
            check(loch_wal_record_decode(span.bytes, &record), "record");
            check(loch_effects_derive(&effects, &record, span.end, &control), "effects");
            check_distinct(&effects, span.end);
            for (size_t i = 0; i < effects.count; i++)
                apply(&effects.items[i], &record, span.end);
            check(loch_control_follow(&control, &record, span.start, span.end, NULL), "follow");
        }
        free(bytes);
    }
    printf("%lu records to %X/%X\n", scan.records, LOCH_LSN_ARG(scan.last_end));
    loch_effects_fini(&effects);
    loch_wal_scan_fini(&scan);
}

static void differs(const char *what, const char *path, unsigned long n)
{
    printf("DIFFERS %s %s %lu\n", what, path, n);
    failures++;
}

/* Pages compared are forgotten: what is left at the end has no file. */
static void compare_slru_file(const char *path, uint32_t s, uint32_t segment, const uint8_t *bytes,
                              size_t pages)
{
    static const uint8_t zero[8192];
    bool ours = false;

    for (uint32_t i = 0; i < 32; i++) {
        uint8_t *p = slru[s][segment * 32 + i];
        const uint8_t *theirs = i < pages ? bytes + i * 8192u : zero;
        ours |= p != NULL;
        compared[s]++;
        if (memcmp(p != NULL ? p : zero, theirs, 8192) != 0)
            differs("slru page", path, i);
        free(p);
        slru[s][segment * 32 + i] = NULL;
    }
    if (!ours)
        differs("slru file not ours", path, segment);
}

static void compare_slru(void)
{
    for (uint32_t s = 0; s < 4; s++) {
        each_slru_file(final_dir, s, compare_slru_file);
        for (uint32_t p = 0; p < SLRU_PAGES; p++)
            if (slru[s][p] != NULL)
                differs("slru page without a file", slru_dirs[s], p);
    }
}

static void compare_entry(const struct entry *e)
{
    static const uint8_t zero[8192];
    char path[4096];
    size_t len = 0;
    uint8_t *bytes;

    rel_path(path, sizeof path, final_dir, e->rel, e->fork);
    bytes = load(path, &len);
    if (e->block != UINT32_MAX) {
        bool there = len >= ((size_t)e->block + 1) * 8192;
        if (!e->unknown && !e->dropped) {
            compared[4]++;
            const uint8_t *theirs = there ? bytes + (size_t)e->block * 8192 : zero;
            if (memcmp(e->page + 24, theirs + 24, 8192 - 24) != 0)
                differs("vm page", path, e->block);
            else if (there && loch_page_lsn(e->page) != loch_page_lsn(theirs))
                compared[6]++;
        }
    } else if (e->dropped) {
        if (bytes != NULL && len > 0 && e->fork != LOCH_FORK_FSM)
            differs("dropped relation", path, len / 8192);
    } else if (e->fork != LOCH_FORK_FSM) {
        compared[5]++;
        if (bytes == NULL || len / 8192 < e->blocks)
            differs("relation size, ours", path, e->blocks);
        for (size_t b = e->blocks; bytes != NULL && b < len / 8192; b++)
            if (memcmp(bytes + b * 8192, zero, 8192) != 0)
                differs("relation has unlogged block", path, b);
    }
    free(bytes);
}

static void compare_files(void)
{
    char path[4096];
    size_t len;

    for (size_t i = 0; i < map_count; i++) {
        if (maps[i].db == 0)
            snprintf(path, sizeof path, "%s/global/pg_filenode.map", final_dir);
        else
            snprintf(path, sizeof path, "%s/base/%u/pg_filenode.map", final_dir, maps[i].db);
        uint8_t *bytes = load(path, &len);
        struct loch_relmap map;
        check(loch_relmap_parse(loch_slice_of(maps[i].file, 512), &map), "map");
        if (bytes != NULL && (len != 512 || memcmp(bytes, maps[i].file, 508) != 0))
            differs("relation map", path, len);
        free(bytes);
    }
    for (size_t i = 0; i < state_count; i++) {
        snprintf(path, sizeof path, "%s/pg_twophase/%08X", final_dir, states[i].xid);
        uint8_t *bytes = load(path, &len);
        if ((bytes != NULL) != (states[i].len > 0) ||
            (bytes != NULL && (len != states[i].len || memcmp(bytes, states[i].file, len) != 0)))
            differs("two-phase state", path, len);
        free(bytes);
    }
}

int main(int argc, char **argv)
{
    char path[4096];
    size_t len = 0;

    if (argc != 3)
        return 2;
    base_dir = argv[1];
    final_dir = argv[2];
    snprintf(path, sizeof path, "%s/global/pg_control", base_dir);
    uint8_t *bytes = load(path, &len);
    if (bytes == NULL)
        return 2;
    check(loch_control_parse(loch_slice_of(bytes, len), &control), path);
    free(bytes);
    load_slru();
    replay();
    compare_slru();
    for (uint32_t h = 0; h < HASH; h++)
        for (const struct entry *e = table[h]; e != NULL; e = e->next)
            compare_entry(e);
    compare_files();
    printf("compared: pg_xact %lu, offsets %lu, members %lu, commit_ts %lu pages; %lu VM pages "
           "(%lu with another LSN); %lu forks; %zu maps; %zu states\n",
           compared[0], compared[1], compared[2], compared[3], compared[4], compared[6],
           compared[5], map_count, state_count);
    return failures == 0 ? 0 : 1;
}
