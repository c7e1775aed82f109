/* Gathering the chains: one pass over the WAL, records kept in one buffer. */
#include "wal_chains.h"

#include "loch/base/log.h"
#include "loch/pg/wal_record.h"
#include "loch/pg/wal_scan.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_BYTES (16u << 20)

struct record {
    loch_lsn start, end;
    size_t offset;
    uint32_t len;
};

static struct loch_buf bytes;
static struct record *records;
static size_t record_count, record_capacity;
struct chain_page **chains_buckets;
size_t chains_page_count;
uint64_t chains_seen[256][256];

_Noreturn void chains_die(const char *what)
{
    loch_log_failure(what);
    exit(2);
}

void *chains_need(void *p)
{
    if (p == NULL) {
        fprintf(stderr, "no memory\n");
        exit(2);
    }
    return p;
}

static struct chain_page *find_page(const struct loch_wal_block *ref)
{
    uint64_t h = ref->rel.rel * UINT64_C(0x9E3779B97F4A7C15) ^
                 ref->block * UINT64_C(0xC2B2AE3D27D4EB4F) ^
                 ref->rel.db * UINT64_C(0x165667B19E3779F9) ^ ref->fork;
    struct chain_page **at = &chains_buckets[(h ^ h >> 31) % CHAINS_BUCKETS];

    for (; *at != NULL; at = &(*at)->next)
        if ((*at)->block == ref->block && (*at)->fork == ref->fork &&
            memcmp(&(*at)->rel, &ref->rel, sizeof ref->rel) == 0)
            return *at;
    *at = chains_need(calloc(1, sizeof **at));
    **at = (struct chain_page){.rel = ref->rel, .fork = ref->fork, .block = ref->block};
    chains_page_count++;
    return *at;
}

static void take_record(const struct loch_wal_span *span)
{
    struct loch_wal_record record;

    if (!loch_is_ok(loch_wal_record_decode(span->bytes, &record)))
        chains_die("decode");
    if (record.block_count == 0)
        return;
    if (record_count == record_capacity) {
        record_capacity = record_capacity != 0 ? record_capacity * 2 : 4096;
        records = chains_need(realloc(records, record_capacity * sizeof *records));
    }
    records[record_count] =
        (struct record){span->start, span->end, bytes.len, (uint32_t)span->bytes.len};
    if (!loch_is_ok(loch_buf_append(&bytes, span->bytes.data, span->bytes.len)))
        chains_die("keep");
    for (uint32_t i = 0; i < record.block_count; i++) {
        const struct loch_wal_block *ref = &record.blocks[i];
        struct chain_page *page;

        if (ref->fork == LOCH_FORK_FSM)
            continue;
        page = find_page(ref);
        if (page->count == page->capacity) {
            page->capacity = page->capacity != 0 ? page->capacity * 2 : 4;
            page->records =
                chains_need(realloc(page->records, page->capacity * sizeof *page->records));
        }
        page->records[page->count++] = (uint32_t)record_count;
        chains_seen[record.rmid][record.info & 0xF0]++;
    }
    record_count++;
}

void chains_scan(const char *dir, loch_lsn start)
{
    struct loch_wal_scan scan;
    loch_lsn at = start;

    chains_buckets = chains_need(calloc(CHAINS_BUCKETS, sizeof(struct chain_page *)));
    if (!loch_is_ok(
            loch_wal_scan_init(&scan, LOCH_WAL_SCAN_RECORDS, start, LOCH_LSN_NONE, SEGMENT_BYTES)))
        chains_die("scan");
    while (!scan.ended) {
        char name[LOCH_WAL_SEGMENT_NAME_BYTES], path[4096];
        struct loch_wal_span span;
        struct loch_slice in;
        bool found = true;
        uint8_t *map;
        int fd;

        loch_wal_segment_name(1, at / SEGMENT_BYTES, SEGMENT_BYTES, name);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            break;
        map = mmap(NULL, SEGMENT_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        if (map == MAP_FAILED)
            chains_die("map");
        in = loch_slice_of(map + at % SEGMENT_BYTES, SEGMENT_BYTES - at % SEGMENT_BYTES);
        while (found) {
            if (!loch_is_ok(loch_wal_scan_next(&scan, &in, &found, &span)))
                chains_die(path);
            if (found)
                take_record(&span);
        }
        munmap(map, SEGMENT_BYTES);
        at = (at / SEGMENT_BYTES + 1) * SEGMENT_BYTES;
    }
    printf("WAL from " LOCH_LSN_FMT " to " LOCH_LSN_FMT ": %" PRIu64 " records, %zu with pages\n",
           LOCH_LSN_ARG(start), LOCH_LSN_ARG(scan.last_end), scan.records, record_count);
    loch_wal_scan_fini(&scan);
}

bool chains_base(const char *dir, const struct chain_page *page, uint8_t out[LOCH_PAGE_BYTES])
{
    static const char *const suffix[] = {"", "_fsm", "_vm", "_init"};
    char path[4096];
    ssize_t got;
    int fd;

    if (page->rel.spc == 1664)
        snprintf(path, sizeof path, "%s/global/%u%s", dir, page->rel.rel, suffix[page->fork]);
    else
        snprintf(path, sizeof path, "%s/base/%u/%u%s", dir, page->rel.db, page->rel.rel,
                 suffix[page->fork]);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    got = pread(fd, out, LOCH_PAGE_BYTES, (off_t)page->block * LOCH_PAGE_BYTES);
    close(fd);
    return got == LOCH_PAGE_BYTES;
}

struct loch_redo_record *chains_of(const struct chain_page *page)
{
    struct loch_redo_record *chain = chains_need(calloc(page->count, sizeof *chain));

    for (uint32_t i = 0; i < page->count; i++) {
        const struct record *r = &records[page->records[i]];
        chain[i] = (struct loch_redo_record){r->start, r->end,
                                             loch_slice_of(bytes.data + r->offset, r->len)};
    }
    return chain;
}
