/* The journal: its bytes, what a start makes of them, and that a damaged, missing or foreign one is
 * refused. What a disk may do to it at a crash: tests/sim/env/sim_test_journal.c. */
#include "store_world.h"

#include "journal.h"
#include "node_file.h"

#include "loch/io/fault.h"

#include <errno.h>

#define HALF  (16u * SK_JOURNAL_PAGE)
#define LINES 3u

static const struct loch_id cluster = {{8}};
static const struct loch_id node = {{3}};
static const struct sk_journal_head head = {
    .node = {{3}}, .id = {{0x4A, 1, 2, 3}}, .half_bytes = HALF};

/* ---- bytes ---- */

struct seen {
    size_t count;
    uint64_t offsets[64];
};

static loch_status see(void *arg, const struct sk_journal_piece *piece)
{
    struct seen *s = arg;

    assert_true(s->count < 64);
    assert_int_equal(piece->seq, 7);
    assert_int_equal(piece->file_hash, 0x1122334455667788);
    for (size_t i = 0; i < piece->bytes.len; i++)
        assert_int_equal(piece->bytes.data[i], (uint8_t)piece->offset);
    s->offsets[s->count++] = piece->offset;
    return LOCH_OK;
}

/* A record of one piece, numbered and filled by its offset, `page` pages into the file. */
static void put(uint8_t *file, size_t page, uint64_t number, uint64_t needed, size_t len)
{
    struct loch_buf record = {0};
    uint8_t bytes[9000];
    struct sk_journal_piece piece = {.tenant = {{1}},
                                     .timeline = {{2}},
                                     .seq = 7,
                                     .file_hash = 0x1122334455667788,
                                     .offset = number,
                                     .bytes = {bytes, len}};

    memset(bytes, (int)number, sizeof bytes);
    assert_ok(sk_journal_record_begin(&record));
    if (len > 0)
        assert_ok(sk_journal_record_add(&record, &piece));
    assert_ok(sk_journal_record_end(&record, &head.id, number, needed));
    assert_int_equal(record.len % SK_JOURNAL_PAGE, 0);
    memcpy(file + page * SK_JOURNAL_PAGE, record.data, record.len);
    loch_buf_fini(&record);
}

static uint8_t *empty_file(void)
{
    uint8_t *file = calloc(1, SK_JOURNAL_PAGE + 2 * HALF);

    assert_non_null(file);
    sk_journal_head_encode(&head, file);
    return file;
}

static struct loch_slice whole(const uint8_t *file)
{
    return loch_slice_of(file, SK_JOURNAL_PAGE + 2 * HALF);
}

static void golden_file(void **state)
{
    struct loch_buf golden = {0};
    struct sk_journal_head got;
    struct loch_env *env;
    uint8_t *file = empty_file();
    struct seen seen = {0};

    (void)state;
    put(file, 1, 1, 1, 100);
    put(file, 2, 2, 1, 0);
    assert_ok(loch_env_real_create(&env));
    const char *path = "tests/golden/format/wal_journal.bin";
    char full[500];
    (void)snprintf(full, sizeof full, "%s/%s", LOCH_SOURCE_DIR, path);
    if (getenv("LOCH_GOLDEN_WRITE") != NULL)
        assert_ok(loch_env_replace_file(env, full, loch_slice_of(file, 3u * SK_JOURNAL_PAGE)));
    assert_ok(loch_env_read_file(env, full, 1u << 20, &golden));
    assert_int_equal(golden.len, 3u * SK_JOURNAL_PAGE);
    assert_memory_equal(golden.data, file, golden.len);
    memcpy(file, golden.data, golden.len);
    assert_ok(sk_journal_head_decode(whole(file), &got));
    assert_true(loch_id_equal(&got.id, &head.id));
    assert_true(loch_id_equal(&got.node, &head.node));
    assert_int_equal(got.half_bytes, HALF);
    assert_ok(sk_journal_pieces(whole(file), &got, see, &seen));
    assert_int_equal(seen.count, 1);
    loch_buf_fini(&golden);
    loch_env_real_destroy(env);
    free(file);
}

static void only_what_is_needed_and_all_of_it(void **state)
{
    uint8_t *file = empty_file();
    struct seen seen = {0};

    (void)state;
    assert_ok(sk_journal_pieces(whole(file), &head, see, &seen));
    assert_int_equal(seen.count, 0);
    put(file, 1, 4, 4, 9000);    /* three pages; the second time around */
    put(file, 4, 1, 1, 10);      /* what is left of the first time */
    put(file, 1 + 16, 2, 1, 10); /* the other half */
    put(file, 1 + 17, 3, 1, 10);
    assert_ok(sk_journal_pieces(whole(file), &head, see, &seen));
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.offsets[0], 4);
    put(file, 4, 5, 3, 10);
    seen.count = 0;
    assert_ok(sk_journal_pieces(whole(file), &head, see, &seen));
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.offsets[0], 3);
    assert_int_equal(seen.offsets[2], 5);
    file[1 * SK_JOURNAL_PAGE + 5000] ^= 1; /* record 4: 5 stands, so it had been durable */
    assert_code(sk_journal_pieces(whole(file), &head, see, &seen), LOCH_E_CORRUPT);
    file[4 * SK_JOURNAL_PAGE + 60] ^= 1; /* and 5 as well: 3 is the newest, and needs 1 */
    assert_code(sk_journal_pieces(whole(file), &head, see, &seen), LOCH_E_CORRUPT);
    free(file);
}

static void every_torn_length_is_no_record(void **state)
{
    uint8_t *file = empty_file();
    uint8_t *torn = empty_file();

    (void)state;
    put(file, 1, 1, 1, 50);
    put(file, 2, 2, 1, 9000);
    for (size_t kept = 0; kept < 9000; kept += 41) {
        struct seen seen = {0};
        memcpy(torn + SK_JOURNAL_PAGE, file + SK_JOURNAL_PAGE, 4u * SK_JOURNAL_PAGE);
        memset(torn + 2u * SK_JOURNAL_PAGE + kept, 0, 3u * SK_JOURNAL_PAGE - kept);
        assert_ok(sk_journal_pieces(whole(torn), &head, see, &seen));
        assert_int_equal(seen.count, 1);
    }
    free(file);
    free(torn);
}

static void a_bad_head_is_refused(void **state)
{
    struct sk_journal_head got;
    uint8_t *file = empty_file();

    (void)state;
    for (size_t i = 0; i < 56; i++) {
        file[i] ^= 4;
        assert_false(loch_is_ok(sk_journal_head_decode(whole(file), &got)));
        file[i] ^= 4;
    }
    assert_ok(sk_journal_head_decode(whole(file), &got));
    assert_code(sk_journal_head_decode(loch_slice_of(file, 4096), &got), LOCH_E_CORRUPT);
    free(file);
}

/* ---- a node ---- */

struct node {
    struct world w; /* of its directory; its store is not used */
    struct sk_journal *journal;
    struct world lines[LINES];
    uint64_t incarnation;
};

static void line_init(struct node *n, struct world *w, size_t index)
{
    char a[LOCH_ID_TEXT_BYTES];
    char b[LOCH_ID_TEXT_BYTES];

    *w = (struct world){.env = n->w.env, .file_bytes = 1u << 20, .control = n->w.control};
    w->sealer = n->w.sealer;
    w->sealer.timeline.bytes[0] = (uint8_t)(10 + index);
    (void)snprintf(w->dir, sizeof w->dir, "%s/tenants/%s/timelines/%s", n->w.dir,
                   loch_id_format(&w->sealer.tenant, a), loch_id_format(&w->sealer.timeline, b));
    assert_ok(loch_acceptor_control_init(&w->control.acceptor, START_LSN, START_PREV));
    w->control.acceptor.term = 1000;
    wal_gen_init(&w->gen, START_LSN, START_PREV, SYSTEM_ID, 42 + index);
    assert_ok(loch_env_mkdirs(w->env, w->dir));
}

/* As the daemon enters: its status is the replay's. */
static loch_status node_enter(struct node *n)
{
    struct loch_id id;

    LOCH_TRY(sk_node_file_enter(n->w.env, n->w.dir, &cluster, &node, &n->incarnation, &id));
    LOCH_TRY(sk_journal_replay(n->w.env, n->w.dir, &node, &id));
    LOCH_TRY(sk_node_file_write(n->w.env, n->w.dir, &cluster, &node, n->incarnation, NULL));
    return sk_journal_discard(n->w.env, n->w.dir);
}

static void node_open(struct node *n)
{
    const struct sk_journal_options options = {.env = n->w.env,
                                               .dir = n->w.dir,
                                               .cluster = cluster,
                                               .node = node,
                                               .incarnation = n->incarnation,
                                               .half_bytes = HALF,
                                               .least_busy = 1,
                                               .slow_ns = UINT64_MAX};

    assert_ok(sk_journal_create(&options, &n->journal));
    for (size_t i = 0; i < LINES; i++) {
        n->lines[i].journal = n->journal;
        assert_ok(world_open(&n->lines[i]));
    }
}

static void node_rest(struct node *n)
{
    for (size_t i = 0; i < LINES; i++)
        world_idle(&n->lines[i]);
    while (!sk_journal_idle(n->journal)) {
        struct loch_timer *timer;
        assert_ok(loch_env_timer(n->w.env, 1, &timer, world_stop, n->w.env));
        loch_env_run(n->w.env);
    }
}

static void node_close(struct node *n)
{
    node_rest(n);
    for (size_t i = 0; i < LINES; i++)
        world_close(&n->lines[i]);
    sk_journal_destroy(n->journal);
    n->journal = NULL;
}

static void node_init(struct node *n)
{
    memset(n, 0, sizeof *n);
    world_init(&n->w, 1u << 20);
    n->w.sealer.node = node;
    for (size_t i = 0; i < LINES; i++)
        line_init(n, &n->lines[i], i);
    assert_ok(node_enter(n));
    node_open(n);
    for (size_t i = 0; i < LINES; i++)
        world_grow(&n->lines[i], 1, 100, 1000);
    node_rest(n); /* the journal has been made */
}

static void node_fini(struct node *n)
{
    for (size_t i = 0; i < LINES; i++) {
        sk_control_fini(&n->lines[i].control);
        loch_buf_fini(&n->lines[i].wal);
        loch_buf_fini(&n->lines[i].read);
    }
    world_fini(&n->w);
}

/* Takes from each WAL file what came after `kept` bytes, as a power cut takes what was not synced.
 */
static void lose(struct node *n, uint64_t kept)
{
    for (size_t i = 0; i < LINES; i++) {
        char path[SK_PATH_BYTES];
        world_newest(&n->lines[i], path);
        assert_int_equal(truncate(path, (off_t)kept), 0);
        assert_int_equal(truncate(path, 1 << 20), 0);
    }
}

static void journal_path(const struct node *n, char out[400])
{
    (void)snprintf(out, 400, "%s/" SK_JOURNAL_NAME, n->w.dir);
}

static void lost_bytes_come_back(void **state)
{
    struct node n;

    (void)state;
    node_init(&n);
    for (int round = 0; round < 3; round++) /* less than half a journal */
        for (size_t i = 0; i < LINES; i++)
            world_grow(&n.lines[i], 3, 200, 700);
    node_rest(&n);
    lose(&n, 1100); /* head, and the first append, which was synced by itself */
    node_close(&n);
    assert_ok(node_enter(&n));
    node_open(&n);
    for (size_t i = 0; i < LINES; i++) {
        assert_int_equal(n.lines[i].flush, n.lines[i].gen.lsn);
        world_check(&n.lines[i], START_LSN, n.lines[i].gen.lsn);
    }
    node_close(&n);
    node_fini(&n);
}

/* The halves are used over and over: what is not in the journal any more is in the files. */
static void halves_take_turns(void **state)
{
    struct node n;

    (void)state;
    node_init(&n);
    for (int round = 0; round < 120; round++)
        for (size_t i = 0; i < LINES; i++)
            world_grow(&n.lines[i], 2, 900, 3000);
    node_rest(&n);
    node_close(&n);
    assert_ok(node_enter(&n));
    node_open(&n);
    for (size_t i = 0; i < LINES; i++)
        world_check(&n.lines[i], START_LSN, n.lines[i].gen.lsn);
    node_close(&n);
    node_fini(&n);
}

static void missing_damaged_or_foreign_is_refused(void **state)
{
    struct loch_buf kept = {0};
    struct node n;
    char path[400];

    (void)state;
    node_init(&n);
    for (size_t i = 0; i < LINES; i++)
        world_grow(&n.lines[i], 3, 200, 700);
    node_close(&n);
    journal_path(&n, path);
    assert_ok(loch_env_read_file(n.w.env, path, 1u << 24, &kept));
    assert_ok(loch_env_unlink(n.w.env, path));
    assert_code(node_enter(&n), LOCH_E_CORRUPT);
    for (size_t at = 9; at < 40; at += 16) { /* another node's; another journal's */
        assert_ok(loch_env_replace_file(n.w.env, path, loch_buf_slice(&kept)));
        struct sk_journal_head other;
        assert_ok(sk_journal_head_decode(loch_buf_slice(&kept), &other));
        if (at == 9)
            other.node.bytes[0] ^= 1;
        else
            other.id.bytes[0] ^= 1;
        uint8_t page[SK_JOURNAL_PAGE];
        sk_journal_head_encode(&other, page);
        assert_ok(loch_env_patch_file(n.w.env, path, 0, loch_slice_of(page, sizeof page)));
        assert_code(node_enter(&n), LOCH_E_CORRUPT);
    }
    kept.data[SK_JOURNAL_PAGE + 100] ^= 1; /* its first record; others stand behind it */
    assert_ok(loch_env_replace_file(n.w.env, path, loch_buf_slice(&kept)));
    assert_code(node_enter(&n), LOCH_E_CORRUPT);
    kept.data[SK_JOURNAL_PAGE + 100] ^= 1;
    assert_ok(loch_env_replace_file(n.w.env, path, loch_buf_slice(&kept)));
    assert_ok(node_enter(&n));
    assert_ok(node_enter(&n)); /* it is gone, and nobody misses it */
    loch_buf_fini(&kept);
    node_fini(&n);
}

/* A timeline that was dropped and made anew has files of the same names. */
static void another_file_of_the_name_is_left_alone(void **state)
{
    struct node n;
    struct loch_buf before = {0};
    struct loch_buf after = {0};
    char path[SK_PATH_BYTES];
    char first[SK_PATH_BYTES];

    (void)state;
    node_init(&n);
    for (size_t i = 0; i < LINES; i++)
        world_grow(&n.lines[i], 3, 200, 700);
    world_newest(&n.lines[0], path);
    world_newest(&n.lines[1], first);
    node_close(&n);
    world_shell("cp '%s' '%s'", first, path);
    assert_ok(loch_env_read_file(n.w.env, path, 1u << 24, &before));
    assert_ok(node_enter(&n));
    assert_ok(loch_env_read_file(n.w.env, path, 1u << 24, &after));
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);
    loch_buf_fini(&before);
    loch_buf_fini(&after);
    node_fini(&n);
}

/* Whichever file operation fails: nothing more is acknowledged, and what was is found again. */
static void any_failing_operation(void **state)
{
    (void)state;
    for (uint64_t at = 1;; at++) {
        struct node n;
        bool any = false;
        loch_lsn acked[LINES];
        node_init(&n);
        for (size_t i = 0; i < LINES; i++)
            n.lines[i].faults = true;
        loch_io_fault_set(at, EIO);
        for (int round = 0; round < 8 && !any; round++)
            for (size_t i = 0; i < LINES && !any; i++) {
                struct world *w = &n.lines[i];
                size_t before = w->wal.len;
                (void)wal_gen_record(&w->gen, &w->wal, 6000);
                assert_ok(world_write(
                    w, 1, loch_slice_of(w->wal.data + before, w->wal.len - before), 9000));
                world_sync(w);
                any = w->failed;
            }
        node_rest(&n);
        loch_io_fault_set(0, 0);
        for (size_t i = 0; i < LINES; i++) {
            any = any || n.lines[i].failed;
            acked[i] = n.lines[i].flush;
        }
        node_close(&n);
        assert_ok(node_enter(&n));
        for (size_t i = 0; i < LINES; i++)
            n.lines[i].failed = n.lines[i].faults = false;
        node_open(&n);
        for (size_t i = 0; i < LINES; i++) {
            assert_true(n.lines[i].flush >= acked[i]);
            world_check(&n.lines[i], START_LSN, acked[i]);
        }
        node_close(&n);
        node_fini(&n);
        if (!any && at > 40)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_file),
        cmocka_unit_test(only_what_is_needed_and_all_of_it),
        cmocka_unit_test(every_torn_length_is_no_record),
        cmocka_unit_test(a_bad_head_is_refused),
        cmocka_unit_test(lost_bytes_come_back),
        cmocka_unit_test(halves_take_turns),
        cmocka_unit_test(missing_damaged_or_foreign_is_refused),
        cmocka_unit_test(another_file_of_the_name_is_left_alone),
        cmocka_unit_test(any_failing_operation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
