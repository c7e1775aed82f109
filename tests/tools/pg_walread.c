/* pg-walread: prints PostgreSQL WAL as Loch decodes it, for comparison with pg_waldump and
 * pg_controldata.
 *
 *   pg-walread records DIR START [PREV] [--chunk N] [--end LSN]   one line a record, fields as
 * pg_waldump pg-walread bounds  DIR START [PREV] [--chunk N]               boundaries only
 *   pg-walread effects DIR START [PREV] [--control FILE]          counts of effects by kind
 *   pg-walread follow  DIR CONTROL_FILE [--end LSN]               the control machine up to the end
 *   pg-walread flips   DIR START PREV COUNT SEED                  flips single bits: are they
 * detected? pg-walread synth   DIR CONTROL_FILE LSN PREV OUT              makes OUT/pg_control and
 * WAL segments
 */
#include "loch/base/log.h"
#include "loch/pg/checkpoint.h"
#include "loch/pg/control.h"
#include "loch/pg/effects.h"
#include "loch/pg/wal_record.h"
#include "loch/pg/wal_scan.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SEGMENTS 4096u

struct options {
    const char *dir;
    uint32_t segment_bytes;
    size_t chunk;
    loch_lsn end;
    const char *control;
};

static void die(const char *what)
{
    fprintf(stderr, "pg-walread: %s: %s (%s)\n", what, loch_error_text(), loch_error_where());
    exit(1);
}

static void check(loch_status st, const char *what)
{
    if (!loch_is_ok(st))
        die(what);
}

static bool read_file(const char *path, struct loch_buf *buf)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    ssize_t n;

    if (fd < 0)
        return false;
    if (fstat(fd, &st) != 0)
        die(path);
    check(loch_buf_reserve(buf, (size_t)st.st_size), path);
    while ((n = read(fd, buf->data + buf->len, buf->cap - buf->len)) > 0)
        buf->len += (size_t)n;
    close(fd);
    return true;
}

/* All segments from the one that holds `start` on, as one stretch that begins at *base. */
static void read_wal(const struct options *o, loch_lsn start, struct loch_buf *wal, loch_lsn *base)
{
    uint64_t segment = start / o->segment_bytes;
    char path[4096], name[LOCH_WAL_SEGMENT_NAME_BYTES];

    *base = segment * o->segment_bytes;
    for (uint32_t i = 0; i < MAX_SEGMENTS; i++) {
        loch_wal_segment_name(1, segment + i, o->segment_bytes, name);
        snprintf(path, sizeof path, "%s/%s", o->dir, name);
        if (!read_file(path, wal))
            break;
    }
}

static void print_record(const struct loch_wal_span *span, const struct loch_wal_record *r)
{
    static const char *const forks[] = {"main", "fsm", "vm", "init"};
    size_t images = 0;

    for (uint32_t i = 0; i < r->block_count; i++)
        images += r->blocks[i].image.len;
    printf("rmgr: %-11s len (rec/tot): %6zu/%6u, tx: %10u, lsn: %X/%08X, prev %X/%08X, ",
           loch_rmgr_name(r->rmid), r->total_len - images, r->total_len, r->xid,
           LOCH_LSN_ARG(span->start), LOCH_LSN_ARG(r->prev));
    for (uint32_t i = 0; i < r->block_count; i++) {
        const struct loch_wal_block *b = &r->blocks[i];
        printf(", blkref #%u: rel %u/%u/%u ", b->id, b->rel.spc, b->rel.db, b->rel.rel);
        if (b->fork != LOCH_FORK_MAIN)
            printf("fork %s ", forks[b->fork]);
        printf("blk %u", b->block);
        if (b->has_image)
            printf(b->apply_image ? " FPW" : " FPW for WAL verification");
    }
    printf("\n");
}

typedef void (*record_fn)(void *arg, const struct loch_wal_span *span,
                          const struct loch_wal_record *record);

static void scan_all(const struct options *o, enum loch_wal_scan_mode mode, loch_lsn start,
                     loch_lsn prev, record_fn fn, void *arg)
{
    struct loch_wal_record *record = malloc(sizeof *record);
    struct loch_wal_scan scan;
    struct loch_buf wal = {0};
    struct loch_slice left;
    loch_lsn base;

    read_wal(o, start, &wal, &base);
    left = loch_slice_of(wal.data + (start - base), wal.len - (size_t)(start - base));
    check(loch_wal_scan_init(&scan, mode, start, prev, o->segment_bytes), "start");
    while (left.len > 0 && !scan.ended) {
        size_t n = o->chunk == 0 || o->chunk > left.len ? left.len : o->chunk;
        struct loch_slice in = loch_slice_of(left.data, n);

        left = loch_slice_of(left.data + n, left.len - n);
        while (in.len > 0 && !scan.ended) {
            struct loch_wal_span span;
            bool found;
            loch_status st = loch_wal_scan_next(&scan, &in, &found, &span);

            if (!loch_is_ok(st)) {
                /* A recycled segment's old pages come behind the end of WAL. */
                fprintf(stderr, "ends at %X/%08X: %s\n", LOCH_LSN_ARG(scan.last_end),
                        loch_error_text());
                goto out;
            }
            if (!found)
                continue;
            if (o->end != LOCH_LSN_NONE && span.start >= o->end)
                goto out;
            if (mode == LOCH_WAL_SCAN_RECORDS)
                check(loch_wal_record_decode(span.bytes, record), "record");
            fn(arg, &span, record);
        }
    }
    fprintf(stderr, "ends at %X/%08X\n", LOCH_LSN_ARG(scan.last_end));
out:
    loch_wal_scan_fini(&scan);
    loch_buf_fini(&wal);
    free(record);
}

static void on_record(void *arg, const struct loch_wal_span *span,
                      const struct loch_wal_record *record)
{
    (void)arg;
    print_record(span, record);
}

static void on_bound(void *arg, const struct loch_wal_span *span,
                     const struct loch_wal_record *record)
{
    (void)arg;
    (void)record;
    printf("%X/%08X %X/%08X\n", LOCH_LSN_ARG(span->start), LOCH_LSN_ARG(span->end));
}

struct corpus {
    const char *out;
    uint8_t seen[256][256][4]; /* resource manager, info, block references */
};

static void on_corpus(void *arg, const struct loch_wal_span *span,
                      const struct loch_wal_record *record)
{
    struct corpus *c = arg;
    uint32_t blocks = record->block_count < 3 ? record->block_count : 3;
    char path[4096];
    FILE *f;

    if (span->bytes.len > 4096 || c->seen[record->rmid][record->info][blocks]++ > 0)
        return;
    snprintf(path, sizeof path, "%s/%02x-%02x-%u", c->out, record->rmid, record->info, blocks);
    f = fopen(path, "wb");
    if (f == NULL || fwrite(span->bytes.data, 1, span->bytes.len, f) != span->bytes.len ||
        fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

struct following {
    struct loch_control control;
    struct loch_effects effects;
    uint64_t counts[32];
    uint64_t changes;
};

static void on_effects(void *arg, const struct loch_wal_span *span,
                       const struct loch_wal_record *record)
{
    struct following *f = arg;
    bool changed;

    check(loch_effects_derive(&f->effects, record, span->end, &f->control), "effects");
    for (size_t i = 0; i < f->effects.count; i++)
        f->counts[f->effects.items[i].kind]++;
    check(loch_control_follow(&f->control, record, span->start, span->end, &changed), "follow");
    f->changes += changed;
}

static void print_counts(const struct following *f)
{
    static const char *const names[] = {
        "page",      "vm_op",      "rel_create",  "rel_truncate",      "rel_drop",
        "db_create", "db_copy",    "db_drop",     "tablespace_create", "tablespace_drop",
        "slru_op",   "slru_cut",   "relmap",      "twophase_put",      "twophase_drop",
        "xact_end",  "origin_set", "origin_drop", "checkpoint"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        printf("%s %lu\n", names[i], f->counts[i]);
}

/* In the words of pg_controldata. */
static void print_control(const struct loch_control *c)
{
    const struct loch_checkpoint *p = &c->checkpoint;

    printf("Latest checkpoint's NextXID: %u:%u\n", (uint32_t)(p->next_xid >> 32),
           (uint32_t)p->next_xid);
    printf("Latest checkpoint's NextOID: %u\n", p->next_oid);
    printf("Latest checkpoint's NextMultiXactId: %u\n", p->next_multi);
    printf("Latest checkpoint's NextMultiOffset: %u\n", p->next_multi_offset);
    printf("Latest checkpoint's oldestXID: %u\n", p->oldest_xid);
    printf("Latest checkpoint's oldestXID's DB: %u\n", p->oldest_xid_db);
    printf("Latest checkpoint's oldestMultiXid: %u\n", p->oldest_multi);
    printf("Latest checkpoint's oldestMulti's DB: %u\n", p->oldest_multi_db);
    printf("Latest checkpoint's oldestCommitTsXid:%u\n", p->oldest_commit_ts_xid);
    printf("Latest checkpoint's newestCommitTsXid:%u\n", p->newest_commit_ts_xid);
    printf("Latest checkpoint's full_page_writes: %s\n", p->full_page_writes ? "on" : "off");
    printf("max_connections setting: %u\n", c->parameters.max_connections);
    printf("max_prepared_xacts setting: %u\n", c->parameters.max_prepared_xacts);
    printf("track_commit_timestamp setting: %s\n",
           c->parameters.track_commit_timestamp ? "on" : "off");
    printf("last record: %X/%08X %X/%08X\n", LOCH_LSN_ARG(c->last_start),
           LOCH_LSN_ARG(c->last_end));
}

static void load_control(const char *path, struct loch_control *out)
{
    struct loch_buf file = {0};

    if (!read_file(path, &file))
        die(path);
    check(loch_control_parse(loch_buf_slice(&file), out), path);
    loch_buf_fini(&file);
}

/* Flips one bit at a time in a run of whole records: how many does the scanner notice? */
static void flips(const struct options *o, loch_lsn start, loch_lsn prev, unsigned long count,
                  unsigned seed)
{
    struct loch_buf wal = {0};
    unsigned long noticed = 0;
    struct loch_wal_scan scan;
    loch_lsn base, end;
    size_t at, len;

    read_wal(o, start, &wal, &base);
    at = (size_t)(start - base);
    check(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, start, prev, o->segment_bytes),
          "scan");
    while (scan.last_end < start + (256u << 10)) {
        struct loch_slice in = loch_slice_of(wal.data + (scan.position - base),
                                             wal.len - (size_t)(scan.position - base));
        struct loch_wal_span span;
        bool found;
        check(loch_wal_scan_next(&scan, &in, &found, &span), "clean");
        if (!found)
            break;
    }
    end = scan.last_end;
    len = (size_t)(end - start);
    loch_wal_scan_fini(&scan);
    srandom(seed);
    for (unsigned long i = 0; i < count; i++) {
        size_t bit = (size_t)random() % (len * 8);

        wal.data[at + bit / 8] ^= (uint8_t)(1u << bit % 8);
        check(loch_wal_scan_init(&scan, LOCH_WAL_SCAN_BOUNDARIES, start, prev, o->segment_bytes),
              "");
        loch_status st = loch_wal_scan_feed(&scan, loch_slice_of(wal.data + at, len));
        noticed += !loch_is_ok(st) || scan.last_end != end;
        loch_wal_scan_fini(&scan);
        wal.data[at + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    printf("%lu of %lu flips noticed\n", noticed, count);
    loch_buf_fini(&wal);
}

static void write_at(const char *path, const void *bytes, size_t len, uint64_t at, uint64_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);

    if (fd < 0 || ftruncate(fd, (off_t)size) != 0 ||
        pwrite(fd, bytes, len, (off_t)at) != (ssize_t)len) {
        perror(path);
        exit(1);
    }
    close(fd);
}

static void synth(const char *control_path, loch_lsn lsn, loch_lsn prev, const char *out)
{
    struct loch_synthetic_checkpoint *s = malloc(sizeof *s);
    char path[4096], name[LOCH_WAL_SEGMENT_NAME_BYTES];
    struct loch_control control;

    load_control(control_path, &control);
    check(loch_checkpoint_synthesize(&control, lsn, prev, 1, 1700000000, s), "synthesize");
    snprintf(path, sizeof path, "%s/pg_control", out);
    write_at(path, s->pg_control, sizeof s->pg_control, 0, sizeof s->pg_control);
    for (uint32_t i = 0; i < s->page_count; i++) {
        const struct loch_wal_page *p = &s->pages[i];
        loch_wal_segment_name(1, p->lsn / s->segment_bytes, s->segment_bytes, name);
        snprintf(path, sizeof path, "%s/%s", out, name);
        write_at(path, p->bytes, sizeof p->bytes, p->lsn % s->segment_bytes, s->segment_bytes);
    }
    printf("%X/%08X %X/%08X %u\n", LOCH_LSN_ARG(s->location), LOCH_LSN_ARG(s->end),
           s->segment_count);
    free(s);
}

static loch_lsn lsn_of(const char *text)
{
    loch_lsn lsn;

    check(loch_lsn_parse(text, &lsn), text);
    return lsn;
}

int main(int argc, char **argv)
{
    struct options o = {.segment_bytes = 16u << 20};
    const char *args[8] = {0};
    struct following *f = calloc(1, sizeof *f);
    loch_lsn start = 0, prev = 0;
    int n = 0;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--chunk") == 0 && i + 1 < argc)
            o.chunk = strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--end") == 0 && i + 1 < argc)
            o.end = lsn_of(argv[++i]);
        else if (strcmp(argv[i], "--segment") == 0 && i + 1 < argc)
            o.segment_bytes = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--control") == 0 && i + 1 < argc)
            o.control = argv[++i];
        else if (n < 8)
            args[n++] = argv[i];
    }
    if (n < 3 || f == NULL) {
        fprintf(stderr, "usage: pg-walread records|bounds|effects|follow|flips|synth DIR ...\n");
        return 2;
    }
    o.dir = args[1];
    if (strcmp(args[0], "follow") != 0 && strcmp(args[0], "synth") != 0) {
        start = lsn_of(args[2]);
        prev = args[3] != NULL && strcmp(args[0], "corpus") != 0 ? lsn_of(args[3]) : LOCH_LSN_NONE;
    }
    if (strcmp(args[0], "records") == 0) {
        scan_all(&o, LOCH_WAL_SCAN_RECORDS, start, prev, on_record, NULL);
    } else if (strcmp(args[0], "bounds") == 0) {
        scan_all(&o, LOCH_WAL_SCAN_BOUNDARIES, start, prev, on_bound, NULL);
    } else if (strcmp(args[0], "effects") == 0) {
        if (o.control != NULL)
            load_control(o.control, &f->control);
        scan_all(&o, LOCH_WAL_SCAN_RECORDS, start, prev, on_effects, f);
        print_counts(f);
    } else if (strcmp(args[0], "follow") == 0) {
        load_control(args[2], &f->control);
        scan_all(&o, LOCH_WAL_SCAN_RECORDS, f->control.checkpoint.redo, LOCH_LSN_NONE, on_effects,
                 f);
        print_control(&f->control);
    } else if (strcmp(args[0], "corpus") == 0 && n >= 4) {
        struct corpus *c = calloc(1, sizeof *c);
        c->out = args[3];
        scan_all(&o, LOCH_WAL_SCAN_RECORDS, start, LOCH_LSN_NONE, on_corpus, c);
        free(c);
    } else if (strcmp(args[0], "flips") == 0 && n >= 6) {
        flips(&o, start, prev, strtoul(args[4], NULL, 10), (unsigned)strtoul(args[5], NULL, 10));
    } else if (strcmp(args[0], "synth") == 0 && n >= 6) {
        synth(args[2], lsn_of(args[3]), lsn_of(args[4]), args[5]);
    } else {
        return 2;
    }
    loch_effects_fini(&f->effects);
    free(f);
    return 0;
}
