/* The store: what is synced is found again after a kill at any instant, damage is told from a torn
 * tail, truncation is exact. */
#include "store_world.h"

#include "wal_tail.h"

#include "loch/io/fault.h"

#include <errno.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

static void tail_keeps_the_newest(void **state)
{
    struct sk_tail tail;
    struct loch_slice got;

    (void)state;
    sk_tail_init(&tail, 16, NULL, 100);
    assert_false(sk_tail_read(&tail, 100, 200, 100, &got));
    sk_tail_append(&tail, loch_slice_of("0123456789", 10));
    sk_tail_append(&tail, loch_slice_of("abcdefghij", 10));
    assert_int_equal(tail.start, 104);
    assert_int_equal(tail.end, 120);
    assert_false(sk_tail_read(&tail, 103, 200, 100, &got));
    char all[17] = "";
    loch_lsn at = 104;
    while (sk_tail_read(&tail, at, 200, 5, &got)) {
        memcpy(all + (at - 104), got.data, got.len);
        at += got.len;
    }
    assert_string_equal(all, "456789abcdefghij");
    assert_true(sk_tail_read(&tail, 104, 106, 100, &got));
    assert_int_equal(got.len, 2);
    sk_tail_cut(&tail, 110);
    assert_int_equal(tail.end, 110);
    assert_false(sk_tail_read(&tail, 110, 200, 100, &got));
    sk_tail_cut(&tail, 50);
    assert_int_equal(tail.start, 50);
    sk_tail_append(&tail, loch_slice_of("0123456789abcdefXYZ", 19));
    assert_int_equal(tail.start, 53);
    assert_true(sk_tail_read(&tail, 66, 200, 100, &got));
    assert_memory_equal(got.data, "XYZ", got.len);
    sk_tail_release(&tail);
    assert_int_equal(tail.start, 69);
    assert_false(sk_tail_read(&tail, 60, 200, 100, &got));
    sk_tail_append(&tail, loch_slice_of("again", 5));
    assert_true(sk_tail_read(&tail, 69, 200, 100, &got));
    sk_tail_reset(&tail, 7);
    assert_int_equal(tail.end, 7);
    sk_tail_fini(&tail);
}

static void control_round_trip(void **state)
{
    struct world w;
    struct sk_control got = {0};
    struct loch_buf sealed = {0};
    char path[400];

    (void)state;
    world_init(&w, 1u << 20);
    w.control.sequence = 77;
    w.control.last_seq = 5;
    w.control.acceptor.term = 9;
    assert_ok(loch_term_history_add(&w.control.acceptor.history, 9, START_LSN + 64));
    assert_ok(sk_control_seal(&w.control, &w.sealer, &sealed));
    (void)snprintf(path, sizeof path, "%s/control", w.dir);
    assert_code(sk_control_load(w.dir, &w.sealer, &got), LOCH_E_NOT_FOUND);
    assert_ok(loch_env_replace_file(w.env, path, loch_buf_slice(&sealed)));
    assert_ok(sk_control_load(w.dir, &w.sealer, &got));
    assert_int_equal(got.sequence, 77);
    assert_int_equal(got.last_seq, 5);
    assert_int_equal(got.system_id, SYSTEM_ID);
    assert_int_equal(got.acceptor.term, 9);
    assert_int_equal(got.acceptor.history.count, 2);
    assert_int_equal(got.acceptor.history.entries[1].start, START_LSN + 64);
    sk_control_fini(&got);
    for (size_t i = 0; i < sealed.len; i += 7) { /* every byte counts */
        sealed.data[i] ^= 0x20;
        assert_ok(loch_env_replace_file(w.env, path, loch_buf_slice(&sealed)));
        assert_false(loch_is_ok(sk_control_load(w.dir, &w.sealer, &got)));
        sealed.data[i] ^= 0x20;
    }
    for (size_t len = 0; len < sealed.len; len += 61) {
        assert_ok(loch_env_replace_file(w.env, path, loch_slice_of(sealed.data, len)));
        assert_false(loch_is_ok(sk_control_load(w.dir, &w.sealer, &got)));
    }
    struct sk_sealer other = w.sealer;
    other.node.bytes[0] ^= 1;
    assert_ok(loch_env_replace_file(w.env, path, loch_buf_slice(&sealed)));
    assert_code(sk_control_load(w.dir, &other, &got), LOCH_E_CORRUPT);
    loch_buf_fini(&sealed);
    world_fini(&w);
}

/* A file as this or an older version wrote it: opens for ever. */
static void control_golden_of(struct world *w, const char *golden, loch_lsn trim_lsn, bool members)
{
    struct sk_control got = {0};
    struct loch_buf bytes = {0};
    char path[400];

    assert_ok(loch_env_read_file(w->env, golden, 1u << 20, &bytes));
    (void)snprintf(path, sizeof path, "%s/control", w->dir);
    assert_ok(loch_env_replace_file(w->env, path, loch_buf_slice(&bytes)));
    assert_ok(sk_control_load(w->dir, &w->sealer, &got));
    assert_int_equal(got.sequence, 3);
    assert_int_equal(got.last_seq, 4);
    assert_int_equal(got.incarnation, 5);
    assert_int_equal(got.system_id, SYSTEM_ID);
    assert_int_equal(got.pg_version, 150020);
    assert_int_equal(got.segment_bytes, WAL_GEN_SEGMENT_BYTES);
    assert_int_equal(got.anchor_lsn, START_LSN + 128);
    assert_int_equal(got.anchor_prev_lsn, START_LSN + 64);
    assert_int_equal(got.trim_lsn, trim_lsn);
    assert_int_equal(got.acceptor.term, 131072);
    assert_int_equal(got.acceptor.min_compute_epoch, 2);
    assert_int_equal(got.acceptor.start_lsn, START_LSN);
    assert_int_equal(got.acceptor.start_prev_lsn, START_PREV);
    assert_int_equal(got.acceptor.commit_lsn, START_LSN + 256);
    assert_int_equal(got.acceptor.history.count, 2);
    assert_int_equal(got.acceptor.history.entries[1].term, 131072);
    assert_int_equal(got.acceptor.history.entries[1].start, START_LSN + 256);
    assert_int_equal(got.acceptor.membership.generation, members ? 9 : 0);
    assert_int_equal(got.acceptor.membership.count, members ? 2 : 0);
    assert_int_equal(got.member.bytes[0], members ? 77 : w->sealer.node.bytes[0]);
    if (members)
        assert_string_equal(got.acceptor.membership.members[1].address, "127.0.0.1:7002");
    sk_control_fini(&got);
    loch_buf_fini(&bytes);
}

static void control_golden(void **state)
{
    struct world w;
    struct loch_buf bytes = {0};
    struct loch_member members[] = {
        {.id = {{77}}, .node = {{3}}, .in = LOCH_MEMBER_BOTH, .address = "127.0.0.1:7001"},
        {.id = {{78}}, .node = {{4}}, .in = LOCH_MEMBER_NEW, .address = "127.0.0.1:7002"}};
    const struct loch_membership joint = {.generation = 9, .members = members, .count = 2};
    const char *golden = LOCH_SOURCE_DIR "/tests/golden/format/control-3.bin";

    (void)state;
    world_init(&w, 1u << 20);
    if (getenv("LOCH_GOLDEN_WRITE") != NULL) {
        w.control.sequence = 3;
        w.control.last_seq = 4;
        w.control.incarnation = 5;
        w.control.acceptor.term = 131072;
        w.control.acceptor.min_compute_epoch = 2;
        w.control.acceptor.commit_lsn = START_LSN + 256;
        w.control.anchor_lsn = START_LSN + 128;
        w.control.anchor_prev_lsn = START_LSN + 64;
        w.control.trim_lsn = START_LSN + 120;
        assert_ok(loch_membership_copy(&w.control.acceptor.membership, &joint));
        assert_ok(loch_term_history_add(&w.control.acceptor.history, 131072, START_LSN + 256));
        assert_ok(sk_control_seal(&w.control, &w.sealer, &bytes));
        assert_ok(loch_env_replace_file(w.env, golden, loch_buf_slice(&bytes)));
        loch_buf_fini(&bytes);
    }
    control_golden_of(&w, golden, START_LSN + 120, true);
    control_golden_of(&w, LOCH_SOURCE_DIR "/tests/golden/format/control-2.bin", START_LSN + 120,
                      false);
    control_golden_of(&w, LOCH_SOURCE_DIR "/tests/golden/format/control.bin", START_LSN, false);
    world_fini(&w);
}

static void synced_is_found_again(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, START_LSN);
    for (int i = 0; i < 20; i++) /* also across files of 1 MiB */
        world_grow(&w, 40, 30 + (uint32_t)(i * 701 % 9000), 4096 + (size_t)i * 531);
    assert_true(sk_store_file_count(w.store) > 1);
    world_check(&w, START_LSN, w.gen.lsn);
    world_check(&w, START_LSN + 12345, w.gen.lsn - 777);
    world_close(&w);
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, w.gen.lsn);
    assert_int_equal(w.prev, w.gen.prev);
    world_grow(&w, 3, 100, 8192); /* and goes on in a file of its own */
    world_check(&w, START_LSN, w.gen.lsn);
    world_close(&w);
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, w.gen.lsn);
    world_fini(&w);
}

/* A control file that was put back: it knows less than the WAL beside it. */
static void wal_of_a_later_term_than_the_control_files(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    world_grow(&w, 3, 100, 4096);
    world_close(&w);
    w.control.acceptor.term = 0;
    assert_code(world_open(&w), LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "0000000000000001.wal"));
    assert_non_null(strstr(loch_error_text(), "older than its WAL"));
    w.control.acceptor.term = 1000;
    assert_ok(world_open(&w)); /* nothing was changed meanwhile */
    assert_int_equal(w.flush, w.gen.lsn);
    world_fini(&w);
}

static void a_partial_record_is_cut(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    world_grow(&w, 3, 1000, 4096);
    loch_lsn boundary = w.gen.lsn;
    loch_lsn prev = w.gen.prev;
    size_t before = w.wal.len;
    (void)wal_gen_record(&w.gen, &w.wal, 5000);
    assert_ok(world_write(&w, 1, loch_slice_of(w.wal.data + before, 3000), 1000));
    world_sync(&w);
    assert_int_equal(w.flush, boundary); /* synced, but only whole records count */
    world_close(&w);
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, boundary);
    assert_int_equal(w.prev, prev);
    w.wal.len = before;
    wal_gen_init(&w.gen, boundary, prev, SYSTEM_ID, 99); /* other bytes in its place */
    world_grow(&w, 5, 300, 999);
    world_close(&w);
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, w.gen.lsn);
    world_check(&w, START_LSN, w.gen.lsn);
    world_fini(&w);
}

static void not_wal_is_refused(void **state)
{
    struct world w;
    uint8_t junk[512];

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    world_grow(&w, 3, 100, 4096);
    loch_lsn boundary = w.gen.lsn;
    memset(junk, 0xA5, sizeof junk);
    const uint64_t bytes = sk_store_disk_bytes(w.store);
    for (int i = 0; i < 3; i++) { /* behind a whole record: as if it had not come */
        assert_code(world_write(&w, 1, loch_slice_of(junk, sizeof junk), sizeof junk),
                    LOCH_E_CORRUPT);
        assert_int_equal(sk_store_end(w.store), boundary);
        world_sync(&w);
        assert_int_equal(w.flush, boundary);
    }
    assert_int_equal(sk_store_disk_bytes(w.store), bytes);
    assert_int_equal(sk_store_last_seq(w.store), 1);
    world_grow(&w, 3, 100, 4096);
    boundary = w.gen.lsn;
    struct wal_gen next = w.gen; /* behind the first half of one: that half may be the bad one */
    struct loch_buf record = {0};
    (void)wal_gen_record(&next, &record, 300);
    assert_ok(world_write(&w, 1, loch_slice_of(record.data, 100), 100));
    assert_code(world_write(&w, 1, loch_slice_of(junk, sizeof junk), sizeof junk), LOCH_E_CORRUPT);
    w.written += sizeof junk;
    assert_int_equal(sk_store_end(w.store), w.written);
    loch_buf_fini(&record);
    world_sync(&w);
    assert_int_equal(w.flush, boundary);
    world_truncate(&w, boundary);
    world_grow(&w, 3, 100, 4096);
    world_close(&w);
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, w.gen.lsn);
    world_check(&w, START_LSN, w.gen.lsn);
    world_fini(&w);
}

static void truncation_is_exact(void **state)
{
    struct world w;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    for (int round = 0; round < 6; round++) {
        world_grow(&w, 200, 3000, 1u << 17); /* frames of many records: cuts fall inside */
        struct wal_gen keep = w.gen;
        size_t keep_len = w.wal.len;
        world_grow(&w, 50 + round * 150, 2500, 1u << 17);
        if (round % 2 == 1) { /* a restart between */
            world_close(&w);
            assert_ok(world_open(&w));
        }
        uint64_t cuts = sk_store_cuts(w.store);
        world_truncate(&w, keep.lsn);
        assert_int_equal(w.prev, keep.prev);
        assert_true(sk_store_cuts(w.store) > cuts);
        w.gen = keep;
        w.gen.seed++;
        w.wal.len = keep_len;
        if (round % 3 == 1) { /* and one right after the cut */
            world_close(&w);
            assert_ok(world_open(&w));
            assert_int_equal(w.flush, keep.lsn);
        }
        world_grow(&w, 20, 700, 5000);
        world_check(&w, START_LSN, w.gen.lsn);
    }
    world_close(&w);
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, w.gen.lsn);
    assert_int_equal(w.prev, w.gen.prev);
    world_check(&w, START_LSN, w.gen.lsn);
    world_fini(&w);
}

static loch_lsn anchored_at(struct world *w, loch_lsn commit)
{
    w->control.acceptor.commit_lsn = commit;
    sk_store_anchor(w->store, commit, &w->control.anchor_lsn, &w->control.anchor_prev_lsn);
    w->control.last_seq = sk_store_last_seq(w->store);
    return w->control.anchor_lsn;
}

/* The newest file cut at every length, as a kill would leave it: what was committed stays, the rest
 * ends at a record. */
static void torn_tails(void **state)
{
    struct world w;
    char newest[SK_PATH_BYTES];
    struct stat st;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    world_grow(&w, 30, 400, 4096);
    loch_lsn committed = w.gen.lsn;
    assert_int_equal(anchored_at(&w, committed), committed);
    world_newest(&w, newest);
    world_close(&w);
    assert_ok(world_open(&w)); /* gives the file its exact length */
    world_close(&w);
    assert_int_equal(stat(newest, &st), 0);
    off_t committed_bytes = st.st_size;
    assert_ok(world_open(&w));
    for (int i = 0; i < 10; i++)
        world_grow(&w, 3, 200 + (uint32_t)i * 97, 700);
    world_newest(&w, newest);
    world_close(&w);
    assert_ok(world_open(&w));
    world_close(&w);
    assert_int_equal(stat(newest, &st), 0);
    off_t whole = st.st_size;
    assert_true(committed_bytes > 0);
    world_shell("cp -r '%s' '%s.copy'", w.dir, w.dir);
    loch_lsn last = committed;
    for (off_t len = 336; len <= whole; len += 41) {
        world_shell("cp '%s.copy/%s' '%s'", w.dir, strrchr(newest, '/') + 1, newest);
        assert_int_equal(truncate(newest, len), 0);
        loch_status opened = world_open(&w);
        if (!loch_is_ok(opened)) { /* only a head that is not whole; nothing writes one like that */
            assert_true(len < 512);
            continue;
        }
        assert_true(w.flush >= last);
        assert_true(w.flush <= w.gen.lsn);
        last = w.flush;
        world_check(&w, START_LSN, w.flush);
        world_close(&w);
    }
    world_shell("rm -rf '%s.copy'", w.dir);
    world_fini(&w);
}

/* One flipped byte anywhere in what was committed is found, named, and nothing is changed. */
static void flipped_bytes(void **state)
{
    struct world w;
    char newest[SK_PATH_BYTES];
    struct stat st;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    for (int i = 0; i < 10; i++)
        world_grow(&w, 5, 300, 1500);
    w.control.acceptor.commit_lsn = w.gen.lsn; /* committed, but the anchor lags behind */
    world_newest(&w, newest);
    world_close(&w);
    assert_ok(world_open(&w));
    world_close(&w);
    assert_int_equal(stat(newest, &st), 0);
    int fd = open(newest, O_RDWR);
    assert_true(fd >= 0);
    for (off_t at = 0; at < st.st_size; at += 53) {
        uint8_t byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 4;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        loch_status got = world_open(&w);
        if (loch_is_ok(got)) { /* alignment behind a frame says nothing */
            world_check(&w, START_LSN, w.gen.lsn);
            world_close(&w);
        } else if (strstr(loch_error_text(), w.dir) == NULL) {
            fail_msg("byte %ld: %s", (long)at, loch_error_text());
        }
        byte ^= 4;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    (void)close(fd);
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, w.gen.lsn);
    world_fini(&w);
}

static void missing_files(void **state)
{
    struct world w;
    char path[SK_PATH_BYTES];

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    for (int i = 0; i < 9; i++)
        world_grow(&w, 300, 3000, 1u << 17);
    size_t files = sk_store_file_count(w.store);
    assert_true(files >= 4);
    uint64_t last = sk_store_last_seq(w.store);
    w.control.last_seq = last;
    world_close(&w);
    for (uint64_t seq = last - files + 1; seq <= last; seq++) {
        sk_wal_file_path(w.dir, seq, path);
        world_shell("mv '%s' '%s.away'", path, path);
        assert_code(world_open(&w), LOCH_E_CORRUPT);
        world_shell("mv '%s.away' '%s'", path, path);
    }
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, w.gen.lsn);
    world_close(&w);
    struct sk_sealer own = w.sealer; /* another node's directory */
    w.sealer.node.bytes[0] ^= 1;
    assert_code(world_open(&w), LOCH_E_CORRUPT);
    w.sealer = own;
    assert_ok(world_open(&w));
    world_fini(&w);
}

static void stop_soon(void *arg)
{
    const struct world *w = arg;

    loch_env_stop(w->env);
}

/* Grows by files, and trims: what is gone is gone, what stays opens; a restart finishes what a
 * crash left, and refuses when more is gone than the control file says. */
static void trimmed_files(void **state)
{
    struct world w;
    char path[SK_PATH_BYTES];
    struct stat sb;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    assert_int_equal(sk_store_disk_bytes(w.store), 0);
    assert_int_equal(sk_store_trim_point(w.store, UINT64_MAX), START_LSN);
    for (int i = 0; i < 9; i++)
        world_grow(&w, 300, 3000, 1u << 17);
    size_t files = sk_store_file_count(w.store);
    uint64_t first_seq = sk_store_last_seq(w.store) - files + 1;
    uint64_t bytes = sk_store_disk_bytes(w.store);
    assert_true(files >= 4);
    assert_true(bytes > w.gen.lsn - START_LSN);
    assert_int_equal(sk_store_first_lsn(w.store), START_LSN);
    loch_lsn middle = START_LSN + (w.gen.lsn - START_LSN) / 2;
    loch_lsn trim = sk_store_trim_point(w.store, middle);
    assert_true(trim > START_LSN && trim <= middle);
    assert_ok(sk_store_trim(w.store, trim, 0));
    assert_int_equal(sk_store_first_lsn(w.store), trim);
    while (!sk_store_idle(w.store)) {
        loch_env_post(w.env, stop_soon, &w);
        loch_env_run(w.env);
    }
    assert_true(sk_store_file_count(w.store) < files);
    assert_true(sk_store_disk_bytes(w.store) < bytes);
    sk_wal_file_path(w.dir, first_seq, path);
    assert_int_equal(stat(path, &sb), -1);
    world_check(&w, trim, w.gen.lsn);
    assert_ok(sk_store_trim(w.store, trim, 0)); /* nothing more to do */
    world_close(&w);
    assert_code(world_open(&w), LOCH_E_CORRUPT); /* the control file does not know of it */
    w.control.trim_lsn = trim;
    w.control.anchor_lsn = w.gen.lsn;
    w.control.anchor_prev_lsn = w.gen.prev;
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, w.gen.lsn);
    assert_int_equal(sk_store_first_lsn(w.store), trim);
    /* The control file went ahead, and the deletion did not happen. */
    loch_lsn later = sk_store_trim_point(w.store, w.gen.lsn);
    assert_true(later > trim);
    assert_true(sk_store_file_count(w.store) > 1);
    world_close(&w);
    w.control.trim_lsn = later;
    assert_ok(world_open(&w));
    assert_int_equal(sk_store_file_count(w.store), 1);
    world_check(&w, later, w.gen.lsn);
    world_grow(&w, 20, 100, 1u << 17);
    world_fini(&w);
}

/* A minute without WAL: no open file, no preallocated space; what comes next is a new session. */
static void at_rest(void **state)
{
    struct world w;
    char path[SK_PATH_BYTES];
    struct stat sb;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    for (int i = 0; i < 70; i++)
        sk_store_tick(w.store); /* nothing to give back */
    world_grow(&w, 20, 500, 1u << 17);
    uint64_t seq = sk_store_last_seq(w.store);
    uint64_t bytes = sk_store_disk_bytes(w.store);
    assert_int_equal(bytes, 1u << 20);
    for (int i = 0; i < 60; i++)
        sk_store_tick(w.store);
    assert_int_equal(sk_store_disk_bytes(w.store), bytes); /* not yet: it was busy a tick ago */
    for (int i = 0; i < 10; i++)
        sk_store_tick(w.store);
    while (!sk_store_idle(w.store)) {
        loch_env_post(w.env, stop_soon, &w);
        loch_env_run(w.env);
    }
    assert_true(sk_store_disk_bytes(w.store) < 20000);
    sk_wal_file_path(w.dir, seq, path);
    assert_int_equal(stat(path, &sb), 0);
    assert_int_equal(sb.st_size, sk_store_disk_bytes(w.store));
    world_check(&w, START_LSN, w.gen.lsn);
    world_grow(&w, 20, 500, 1u << 17);
    assert_true(sk_store_last_seq(w.store) > seq);
    world_check(&w, START_LSN, w.gen.lsn);
    world_close(&w);
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, w.gen.lsn);
    world_fini(&w);
}

static void order_of_effects(void **state)
{
    struct world w;
    struct loch_buf sealed = {0};
    struct sk_control got = {0};

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(world_open(&w));
    for (int i = 0; i < 20; i++)
        (void)wal_gen_record(&w.gen, &w.wal, 500);
    /* all at once: they are carried out one after the other */
    assert_ok(sk_control_seal(&w.control, &w.sealer, &sealed));
    sk_store_persist(w.store, ++w.token, &sealed);
    assert_ok(world_write(&w, 1, loch_buf_slice(&w.wal), 600));
    sk_store_sync(w.store, ++w.token);
    w.control.sequence++;
    assert_ok(sk_control_seal(&w.control, &w.sealer, &sealed));
    sk_store_persist(w.store, ++w.token, &sealed);
    assert_false(sk_store_idle(w.store));
    world_wait(&w, w.token);
    assert_true(sk_store_idle(w.store));
    assert_int_equal(sk_store_queued(w.store), 0);
    assert_int_equal(w.flush, w.gen.lsn);
    assert_ok(sk_control_load(w.dir, &w.sealer, &got));
    assert_int_equal(got.sequence, 2);
    sk_control_fini(&got);
    struct loch_slice piece;
    assert_true(sk_store_tail(w.store, START_LSN, w.gen.lsn, 1u << 20, &piece));
    assert_memory_equal(piece.data, w.wal.data, piece.len);
    assert_int_equal(anchored_at(&w, w.gen.lsn - 8), START_LSN);
    for (int i = 0; i < 70; i++)
        sk_store_tick(w.store);
    assert_false(sk_store_tail(w.store, START_LSN, w.gen.lsn, 1u << 20, &piece));
    world_check(&w, START_LSN, w.gen.lsn);
    world_grow(&w, 2, 100, 4096);
    assert_true(sk_store_tail(w.store, w.gen.lsn - 8, w.gen.lsn, 1u << 20, &piece));
    world_fini(&w);
}

/* What a failing disk may meet: files begun, written, synced, cut, control files replaced. */
static void busy_life(struct world *w, loch_lsn *acked)
{
    struct loch_buf sealed = {0};
    loch_lsn cut = 0;

    for (int i = 0; i < 6 && !w->failed; i++) {
        size_t before = w->wal.len;
        for (int k = 0; k < 60; k++)
            (void)wal_gen_record(&w->gen, &w->wal, 3000);
        if (!loch_is_ok(
                world_write(w, 1, loch_slice_of(w->wal.data + before, w->wal.len - before), 50000)))
            return;
        world_sync(w);
        if (w->failed)
            return;
        *acked = w->flush;
        if (i == 3) {
            cut = w->flush;
            w->control.sequence++;
            assert_ok(sk_control_seal(&w->control, &w->sealer, &sealed));
            sk_store_persist(w->store, ++w->token, &sealed);
            world_wait(w, w->token);
        }
    }
    if (w->failed)
        return;
    *acked = cut; /* what lies beyond may go from now on */
    world_truncate(w, cut);
    if (!w->failed)
        world_sync(w);
}

static void a_failing_disk(void **state)
{
    uint64_t ends = 0;

    (void)state;
    for (uint64_t n = 1; ends < 2 && n < 400; n++) {
        struct world w;
        loch_lsn acked = START_LSN;
        world_init(&w, 1u << 20);
        assert_ok(world_open(&w));
        w.faults = true;
        loch_io_fault_set(n, EIO);
        busy_life(&w, &acked);
        loch_io_fault_set(0, 0);
        if (!w.failed)
            ends++; /* the scenario has fewer operations than that */
        while (!sk_store_idle(w.store) && !w.failed)
            loch_env_run(w.env);
        world_close(&w);
        assert_ok(world_open(&w));
        assert_true(w.flush >= acked);
        if (acked > START_LSN)
            world_check(&w, START_LSN, acked);
        world_fini(&w);
    }
    assert_int_equal(ends, 2);
}

/* Bytes of the newest file that no longer are what fallocate left, as the file system tells. */
static uint64_t written_extents(const struct world *w)
{
    struct {
        struct fiemap map;
        struct fiemap_extent more[64];
    } got = {.map = {.fm_length = w->file_bytes, .fm_extent_count = 64}};
    char path[SK_PATH_BYTES];
    uint64_t sum = 0;

    world_newest(w, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    int rc = ioctl(fd, FS_IOC_FIEMAP, &got.map);
    (void)close(fd);
    if (rc != 0)
        return UINT64_MAX; /* tmpfs and others do not tell */
    for (uint32_t i = 0; i < got.map.fm_mapped_extents; i++) {
        const struct fiemap_extent *e = &got.map.fm_extents[i];
        if ((e->fe_flags & FIEMAP_EXTENT_UNWRITTEN) == 0)
            sum += e->fe_length;
    }
    return sum;
}

/* Zeros go ahead of small writes, through more than one file; what was written is read again. */
static void zeros_go_ahead(void **state)
{
    struct world w;
    struct loch_metrics *metrics;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(loch_metrics_create("test", &metrics));
    w.stats.zeroed_bytes = loch_metrics_counter(metrics, "zeroed", "", NULL, 0);
    assert_ok(world_open(&w));
    world_grow(&w, 1, 200, 1u << 20);
    world_idle(&w);
    assert_int_equal(loch_metric_value(w.stats.zeroed_bytes), 0); /* one write is not use yet */
    for (int i = 0; i < 100; i++)
        world_grow(&w, 1, 2000, 1u << 20);
    world_idle(&w);
    int64_t zeroed = loch_metric_value(w.stats.zeroed_bytes);
    assert_true(zeroed > 100000 && zeroed < 1 << 20);
    assert_true(written_extents(&w) >= 200000 + (1u << 20) / 16);
    for (int i = 0; i < 500; i++)
        world_grow(&w, 1, 2000, 1u << 20);
    assert_int_equal(sk_store_file_count(w.store), 2);
    assert_true(loch_metric_value(w.stats.zeroed_bytes) < 2 << 20);
    loch_lsn end = w.flush;
    world_close(&w);
    assert_ok(world_open(&w));
    assert_int_equal(w.flush, end);
    world_check(&w, START_LSN, end);
    loch_metrics_destroy(metrics);
    world_fini(&w);
}

/* Bulk: no zeros, for they would double what goes to the disk. */
static void no_zeros_ahead_of_bulk(void **state)
{
    struct world w;
    struct loch_metrics *metrics;

    (void)state;
    world_init(&w, 1u << 20);
    assert_ok(loch_metrics_create("test", &metrics));
    w.stats.zeroed_bytes = loch_metrics_counter(metrics, "zeroed", "", NULL, 0);
    assert_ok(world_open(&w));
    for (int i = 0; i < 20; i++)
        world_grow(&w, 40, 1000, 1u << 20);
    world_idle(&w);
    assert_int_equal(loch_metric_value(w.stats.zeroed_bytes), 0);
    loch_metrics_destroy(metrics);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tail_keeps_the_newest),
        cmocka_unit_test(control_round_trip),
        cmocka_unit_test(control_golden),
        cmocka_unit_test(synced_is_found_again),
        cmocka_unit_test(a_partial_record_is_cut),
        cmocka_unit_test(not_wal_is_refused),
        cmocka_unit_test(truncation_is_exact),
        cmocka_unit_test(torn_tails),
        cmocka_unit_test(flipped_bytes),
        cmocka_unit_test(missing_files),
        cmocka_unit_test(trimmed_files),
        cmocka_unit_test(at_rest),
        cmocka_unit_test(order_of_effects),
        cmocka_unit_test(zeros_go_ahead),
        cmocka_unit_test(no_zeros_ahead_of_bulk),
        cmocka_unit_test(a_failing_disk),
        cmocka_unit_test(wal_of_a_later_term_than_the_control_files)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
