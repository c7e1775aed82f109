/* A page read as an image beside the same read through a native chain of 10 records: JSON lines.
 *
 * usage: page_bench SCRATCH_DIR   (made here, removed afterwards)
 *
 * Reads go through loch_view_page_at_once, as GetPage's do where nothing has to be waited for (the
 * scratch directory is to be on a file system whose cache can be read so), with no page cache:
 * records in the memory layer; then in a sealed layer whose opened frames are cached; then with no
 * cache at all, so that each read opens what it needs. CPU time, medians of rounds in turn; a
 * GetPage adds the wire's cost to both sides. image_again is the first measurement repeated: its
 * distance from image_ns is the noise.
 */
#include "read/view.h"
#include "store/frame_cache.h"
#include "store/timeline.h"

#include "loch/base/check.h"
#include "loch/crypto/random.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"
#include "loch/pg/page.h"
#include "loch/pg/wal_record.h"
#include "loch/pg/wal_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define PAGES     256u
#define RECORDS   10u
#define TUPLE     60u
#define START     1000u
#define BUDGET_NS UINT64_C(40000000)
#define ROUNDS    9u
#define IMAGES    100u /* relation whose pages are images */
#define CHAINS    101u /* relation whose pages are an image and RECORDS insertions */

#define MUST(expr_)                                                                                \
    do {                                                                                           \
        const loch_status must_st_ = (expr_);                                                      \
        if (!loch_is_ok(must_st_)) {                                                               \
            fprintf(stderr, "page_bench: %s: %s\n", #expr_, loch_error_text());                    \
            exit(2);                                                                               \
        }                                                                                          \
    } while (0)

static struct loch_store store;
static struct loch_keys *keys;
static struct loch_id tenant;

static struct loch_key page_key(uint32_t rel, uint32_t block)
{
    return (struct loch_key){
        .kind = LOCH_KEY_PAGE, .spc = 1663, .db = 5, .rel = rel, .block = block};
}

static void open_world(const char *dir)
{
    struct loch_keys_options o = {.role = LOCH_ROLE_PAGESERVER};
    static char path[3][4096];
    struct loch_kms *kms = NULL;

    (void)snprintf(path[0], sizeof path[0], "%s/cmk.key", dir);
    MUST(loch_kms_file_create(path[0]));
    (void)snprintf(path[0], sizeof path[0], "file:%s/cmk.key", dir);
    (void)snprintf(path[1], sizeof path[1], "%s/store", dir);
    (void)snprintf(path[2], sizeof path[2], "%s/pageserver", dir);
    MUST(loch_kms_open(path[0], NULL, &kms));
    MUST(loch_env_real_create(&store.env));
    MUST(loch_objstore_open_local(store.env, path[1], &store.objstore));
    o.store = store.objstore;
    o.kms = kms;
    MUST(loch_random_id(&o.cluster));
    MUST(loch_random_id(&o.node));
    MUST(loch_random_id(&tenant));
    MUST(loch_keys_create(&o, &keys));
    MUST(loch_keys_tenant_create(keys, &tenant));
    store.dir = path[2];
    store.node = o.node;
    store.open_layer_bytes = (size_t)256 << 20;
}

/* Heap INSERT of a tuple as item `number`. */
static void insert_record(struct loch_buf *buf, uint32_t block, uint32_t number)
{
    struct loch_writer w;

    buf->len = 0;
    loch_writer_init(&w, buf);
    loch_write_zeros(&w, LOCH_WAL_RECORD_HEADER_BYTES);
    loch_write_u8(&w, 0);
    loch_write_u8(&w, 0x20);
    loch_write_u16(&w, 5 + 1 + TUPLE);
    loch_write_u32(&w, 1663);
    loch_write_u32(&w, 5);
    loch_write_u32(&w, CHAINS);
    loch_write_u32(&w, block);
    loch_write_u8(&w, 255);
    loch_write_u8(&w, 3);
    loch_write_u16(&w, 1);
    loch_write_u16(&w, 0x0800);
    loch_write_u8(&w, 24);
    for (uint32_t i = 0; i <= TUPLE; i++)
        loch_write_u8(&w, (uint8_t)(i * block + number));
    loch_write_u16(&w, (uint16_t)number);
    loch_write_u8(&w, 0);
    MUST(loch_writer_finish(&w));
    loch_put_u32(buf->data, (uint32_t)buf->len);
    loch_put_u32(buf->data + 4, 777);
    buf->data[17] = LOCH_RM_HEAP;
}

/* A heap page with 40 tuples of bytes that hardly compress. */
static void make_page(uint8_t page[LOCH_PAGE_BYTES], uint32_t seed)
{
    uint32_t lower = LOCH_PG_PAGE_HEADER_BYTES, upper = LOCH_PAGE_BYTES;

    loch_page_init(page, 0);
    for (uint32_t i = 0; i < 40; i++) {
        upper -= 96;
        loch_put_u32(page + lower, upper | 1u << 15 | 90u << 17);
        lower += 4;
        for (uint32_t j = 0; j < 90; j++) {
            seed = seed * 1664525u + 1013904223u;
            page[upper + j] = (uint8_t)(seed >> 24);
        }
        page[upper + 22] = 24;
    }
    loch_put_u16(page + 12, (uint16_t)lower);
    loch_put_u16(page + 14, (uint16_t)upper);
    loch_page_set_lsn(page, START);
}

static struct loch_timeline *load(void)
{
    struct loch_timeline_info info = {.tenant = tenant,
                                      .system_id = 7,
                                      .pg_version = 150000,
                                      .segment_bytes = 16u << 20,
                                      .start_lsn = START};
    struct loch_timeline *t = NULL;
    uint8_t page[LOCH_PAGE_BYTES], size[4];

    MUST(loch_random_id(&info.timeline));
    MUST(loch_keys_add_timeline(keys, &tenant, &info.timeline));
    MUST(loch_timeline_create(&store, keys, &info, NULL, &t));
    loch_put_u32(size, PAGES);
    for (uint32_t rel = IMAGES; rel <= CHAINS; rel++) {
        for (uint32_t i = 0; i < PAGES; i++) {
            struct loch_key key = page_key(rel, i);
            make_page(page, rel * PAGES + i);
            MUST(loch_timeline_put_value(t, &key, START, loch_slice_of(page, sizeof page)));
        }
        struct loch_key key = page_key(rel, 0);
        key.kind = LOCH_KEY_REL_SIZE;
        MUST(loch_timeline_put_value(t, &key, START, loch_slice_of(size, sizeof size)));
    }
    MUST(loch_timeline_commit(t, START - 100, loch_slice_of("control", 7)));
    return t;
}

static loch_lsn put_records(struct loch_timeline *t)
{
    struct loch_buf record = {0};
    loch_lsn at = START;

    for (uint32_t n = 1; n <= RECORDS; n++)
        for (uint32_t i = 0; i < PAGES; i++) {
            struct loch_put_ref ref = {.key = page_key(CHAINS, i)};
            insert_record(&record, i, 40 + n);
            MUST(loch_timeline_put_record(t, &ref, 1, at, at + 200, loch_buf_slice(&record)));
            loch_timeline_advance(t, at + 200, at);
            at += 200;
        }
    loch_buf_fini(&record);
    return at;
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Mean cost of a read in ns; every page's line pointers are counted, so that the right pages are
 * known to come. */
static double read_pages(struct loch_view *view, uint32_t rel_number, loch_lsn lsn)
{
    const struct loch_rel rel = {1663, 5, rel_number};
    const uint32_t want =
        LOCH_PG_PAGE_HEADER_BYTES + 4 * (40 + (rel_number == CHAINS ? RECORDS : 0));
    uint8_t page[LOCH_PAGE_BYTES];
    uint64_t start = now_ns(), used = 0, reads = 0;
    uint32_t block = 0;

    while (used < BUDGET_NS) {
        for (uint32_t i = 0; i < PAGES; i++) {
            block = (block + 97) % PAGES;
            LOCH_ASSERT(loch_view_page_at_once(view, &rel, LOCH_FORK_MAIN, block, lsn, page));
            LOCH_ASSERT(loch_get_u16(page + 12) == want);
        }
        reads += PAGES;
        used = now_ns() - start;
    }
    return (double)used / (double)reads;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double median(double values[ROUNDS])
{
    qsort(values, ROUNDS, sizeof *values, by_size);
    return values[ROUNDS / 2];
}

static void measure(struct loch_timeline *t, const char *where, loch_lsn lsn)
{
    struct loch_view *view = NULL;
    double image[ROUNDS], chain[ROUNDS], again[ROUNDS];

    MUST(loch_view_create(t, &view));
    (void)read_pages(view, IMAGES, lsn); /* warm */
    for (uint32_t i = 0; i < ROUNDS; i++) {
        image[i] = read_pages(view, IMAGES, lsn);
        chain[i] = read_pages(view, CHAINS, lsn);
        again[i] = read_pages(view, IMAGES, lsn);
    }
    const double a = median(image), b = median(chain), c = median(again);
    printf("{\"what\":\"page\",\"where\":\"%s\",\"records\":%u,\"image_ns\":%.0f,\"chain_ns\":%.0f,"
           "\"image_again_ns\":%.0f,\"ratio\":%.3f}\n",
           where, RECORDS, a, b, c, b * 2 / (a + c));
    (void)fflush(stdout);
    loch_view_destroy(view);
}

int main(int argc, char **argv)
{
    char command[4200];

    if (argc != 2 || strchr(argv[1], '\'') != NULL || mkdir(argv[1], 0700) != 0) {
        fprintf(stderr, "usage: page_bench SCRATCH_DIR   (must not exist)\n");
        return 2;
    }
    open_world(argv[1]);
    for (int cached = 1; cached >= 0; cached--) {
        store.frames = NULL;
        if (cached)
            MUST(loch_frame_cache_create((size_t)64 << 20, &store.frames));
        struct loch_timeline *t = load();
        loch_lsn end = put_records(t);
        if (cached)
            measure(t, "memory layer", end);
        MUST(loch_timeline_freeze(t, loch_slice_of("control", 7)));
        MUST(loch_timeline_flush(t));
        measure(t, cached ? "layer, frames cached" : "layer, nothing cached", end);
        loch_timeline_release(t);
        loch_frame_cache_destroy(store.frames);
    }
    (void)snprintf(command, sizeof command, "rm -rf '%s'", argv[1]);
    return system(command) == 0 ? 0 : 2;
}
