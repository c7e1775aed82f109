/* The simulated world itself: same seed, same story; what a power cut takes and what it must not.
 */
#include "unit.h"

#include "loch/base/frame.h"
#include "loch/crypto/tls.h"
#include "sim_env.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static struct sim_world *world;
static char trail[256];

static int begin(void **state)
{
    (void)state;
    trail[0] = '\0';
    world = sim_world_create(&(struct sim_options){.seed = 7});
    return 0;
}

static int end(void **state)
{
    (void)state;
    sim_world_destroy(world);
    return 0;
}

static void note(void *arg)
{
    (void)strcat(trail, arg);
}

static void timers_and_posts(void **state)
{
    struct loch_timer *t = NULL;
    struct loch_env *env = sim_node_start(sim_node_create(world, "a"));
    (void)state;
    assert_ok(loch_env_timer(env, 10, &t, note, "late "));
    assert_ok(loch_env_timer(env, 5, &t, note, "never "));
    loch_timer_cancel(t);
    assert_ok(loch_env_timer(env, 1, &t, note, "early "));
    loch_env_post(env, note, "one ");
    loch_env_post(env, note, "two ");
    assert_string_equal(trail, "");
    uint64_t before = loch_env_now_ns(env);
    sim_world_run(world, 20000);
    assert_string_equal(trail, "one two early late ");
    assert_int_equal(loch_env_now_ns(env) - before, 20000000);
}

static void killed_process_does_nothing(void **state)
{
    struct loch_timer *t = NULL;
    struct loch_timer *u = NULL;
    struct sim_node *node = sim_node_create(world, "a");
    struct loch_env *env = sim_node_start(node);
    (void)state;
    assert_ok(loch_env_timer(env, 1, &t, note, "x"));
    assert_ok(loch_env_timer(env, 1, &u, note, "y"));
    loch_env_post(env, note, "z");
    sim_node_kill(node);
    loch_timer_cancel(u); /* by an owner that is being put away */
    sim_world_run(world, 10000);
    assert_string_equal(trail, "");
    env = sim_node_start(node);
    loch_env_post(env, note, "again");
    sim_world_run(world, 10);
    assert_string_equal(trail, "again");
}

/* ---- disk ---- */
static unsigned done_count;
static loch_status done_st;

static void done(void *arg, loch_status st)
{
    (void)arg;
    done_count++;
    done_st = st;
}

static size_t count_bytes(struct loch_env *env, const char *path, uint8_t value)
{
    struct loch_buf buf = {0};
    size_t n = 0;
    loch_status st = loch_env_read_file(env, path, 1 << 20, &buf);
    if (st.code == LOCH_E_NOT_FOUND)
        return SIZE_MAX;
    assert_ok(st);
    for (size_t i = 0; i < buf.len; i++)
        n += buf.data[i] == value;
    loch_buf_fini(&buf);
    return n;
}

static void power_cut_takes_what_is_not_synced(void **state)
{
    static uint8_t a[8192];
    static uint8_t b[8192];
    unsigned lost = 0, kept = 0, torn = 0, gone = 0;
    (void)state;
    memset(a, 'a', sizeof a);
    memset(b, 'b', sizeof b);
    for (unsigned round = 0; round < 200; round++) {
        char name[16];
        struct loch_file *f = NULL;
        (void)snprintf(name, sizeof name, "n%u", round);
        sim_world_destroy(world);
        world = sim_world_create(&(struct sim_options){.seed = round});
        struct sim_node *node = sim_node_create(world, name);
        struct loch_env *env = sim_node_start(node);
        assert_ok(loch_env_mkdirs(env, "/d"));
        assert_ok(loch_file_open(env, "/d/f", O_RDWR | O_CREAT, &f));
        assert_ok(loch_file_write(f, 0, loch_slice_of(a, sizeof a), done, NULL));
        sim_world_run(world, 3000);
        assert_ok(loch_file_sync(f, done, NULL));
        sim_world_run(world, 3000);
        if (round % 2 == 0)
            assert_ok(loch_env_sync_dir(env, "/d"));
        assert_ok(loch_file_write(f, 8192, loch_slice_of(b, sizeof b), done, NULL));
        sim_world_run(world, 3000);
        sim_node_power_cut(node);
        env = sim_node_start(node);
        size_t as = count_bytes(env, "/d/f", 'a');
        size_t bs = count_bytes(env, "/d/f", 'b');
        if (as == SIZE_MAX) {
            assert_true(round % 2 == 1);
            gone++;
            continue;
        }
        assert_int_equal(as, 8192);
        assert_true(bs % 512 == 0);
        lost += bs == 0;
        kept += bs == 8192;
        torn += bs > 0 && bs < 8192;
    }
    assert_true(lost > 10 && kept > 10 && torn > 30 && gone > 20);
}

/* Whatever was not done when the sync was asked for is not covered by it. */
static void sync_covers_what_was_done(void **state)
{
    unsigned lost = 0;
    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        struct loch_file *f = NULL;
        sim_world_destroy(world);
        world = sim_world_create(&(struct sim_options){.seed = round});
        struct sim_node *node = sim_node_create(world, "a");
        struct loch_env *env = sim_node_start(node);
        assert_ok(loch_file_open(env, "/f", O_RDWR | O_CREAT, &f));
        assert_ok(loch_env_sync_dir(env, "/"));
        assert_ok(loch_file_write(f, 0, loch_slice_of("a", 1), done, NULL));
        assert_ok(loch_file_sync(f, done, NULL)); /* a mistake: the write is not done */
        sim_world_run(world, 10000);
        sim_node_power_cut(node);
        lost += count_bytes(sim_node_start(node), "/f", 'a') == 0;
    }
    assert_true(lost > 5);
}

static void a_kill_loses_nothing_that_was_done(void **state)
{
    struct loch_file *f = NULL;
    struct sim_node *node = sim_node_create(world, "a");
    struct loch_env *env = sim_node_start(node);
    (void)state;
    assert_ok(loch_file_open(env, "/f", O_RDWR | O_CREAT, &f));
    assert_ok(loch_file_write(f, 0, loch_slice_of("aaaa", 4), done, NULL));
    sim_world_run(world, 3000);
    sim_node_kill(node);
    assert_code(loch_file_write(f, 0, loch_slice_of("b", 1), done, NULL), LOCH_E_IO);
    loch_file_close(f);
    env = sim_node_start(node);
    assert_int_equal(count_bytes(env, "/f", 'a'), 4);
}

static void disk_faults(void **state)
{
    struct loch_file *f = NULL;
    struct sim_node *node = sim_node_create(world, "a");
    struct loch_env *env = sim_node_start(node);
    (void)state;
    sim_node_fail_disk(node, 2);
    assert_ok(loch_file_open(env, "/f", O_RDWR | O_CREAT, &f));
    done_count = 0;
    assert_ok(loch_file_write(f, 0, loch_slice_of("a", 1), done, NULL));
    assert_int_equal(done_count, 0);
    sim_world_run(world, 5000);
    assert_int_equal(done_count, 1);
    assert_code(done_st, LOCH_E_IO);
    assert_ok(loch_file_write(f, 0, loch_slice_of("a", 1), done, NULL));
    sim_world_run(world, 5000);
    assert_ok(done_st);
    loch_file_close(f);
}

/* It is read as if nothing had happened, the next sync succeeds, and yet the disk has not got it.
 */
static void what_fails_is_kept_in_memory_only(void **state)
{
    unsigned lost[2] = {0, 0};
    (void)state;
    for (unsigned round = 0; round < 100; round++) {
        struct loch_file *f = NULL;
        const bool at_once = round % 2 == 0;
        sim_world_destroy(world);
        world = sim_world_create(&(struct sim_options){.seed = round});
        struct sim_node *node = sim_node_create(world, "a");
        struct loch_env *env = sim_node_start(node);
        assert_ok(loch_env_create_file(env, "/f", loch_slice_of("bbb", 3)));
        assert_ok(loch_file_open(env, "/f", O_RDWR, &f));
        if (at_once) {
            sim_node_fail_disk(node, 1);
            assert_ok(loch_file_write_sync(f, 0, loch_slice_of("aaa", 3), done, NULL));
            sim_world_run(world, 3000);
        } else {
            assert_ok(loch_file_write(f, 0, loch_slice_of("aaa", 3), done, NULL));
            sim_world_run(world, 3000);
            sim_node_fail_disk(node, 1);
            assert_ok(loch_file_sync(f, done, NULL));
            sim_world_run(world, 3000);
        }
        assert_code(done_st, LOCH_E_IO);
        assert_ok(loch_file_sync(f, done, NULL));
        sim_world_run(world, 3000);
        assert_ok(done_st);
        assert_ok(loch_env_truncate_file(env, "/f", 3));
        sim_node_kill(node);
        env = sim_node_start(node);
        assert_int_equal(count_bytes(env, "/f", 'a'), 3);
        sim_node_power_cut(node);
        lost[at_once] += count_bytes(sim_node_start(node), "/f", 'b') == 3;
    }
    assert_true(lost[0] > 10 && lost[0] < 50);
    assert_true(lost[1] > 10 && lost[1] < 50);
}

static bool join(void *arg, const char *name)
{
    (void)arg;
    (void)strcat(trail, name);
    (void)strcat(trail, " ");
    return true;
}

static void whole_files(void **state)
{
    struct loch_buf buf = {0};
    struct sim_node *node = sim_node_create(world, "a");
    struct loch_env *env = sim_node_start(node);
    (void)state;
    assert_code(loch_env_create_file(env, "/x/y", loch_slice_of("1", 1)), LOCH_E_NOT_FOUND);
    assert_ok(loch_env_mkdirs(env, "/x/z/"));
    assert_ok(loch_env_create_file(env, "/x/y", loch_slice_of("1", 1)));
    assert_code(loch_env_create_file(env, "/x/y", loch_slice_of("2", 1)), LOCH_E_EXISTS);
    assert_ok(loch_env_replace_file(env, "/x/y", loch_slice_of("345", 3)));
    assert_ok(loch_env_truncate_file(env, "/x/y", 2));
    assert_ok(loch_env_rename(env, "/x/y", "/x/w"));
    assert_code(loch_env_rename(env, "/x/y", "/x/v"), LOCH_E_NOT_FOUND);
    assert_ok(loch_env_create_file(env, "/x/y", loch_slice_of("1", 1)));
    assert_code(loch_env_rename(env, "/x/w", "/x/y"), LOCH_E_EXISTS);
    assert_ok(loch_env_unlink(env, "/x/y"));
    assert_ok(loch_env_rename(env, "/x/w", "/x/y"));
    sim_node_power_cut(node);
    env = sim_node_start(node);
    assert_ok(loch_env_read_file(env, "/x/y", 2, &buf));
    assert_memory_equal(buf.data, "34", 2);
    assert_code(loch_env_read_file(env, "/x/y", 1, &buf), LOCH_E_LIMIT);
    loch_buf_fini(&buf);
    assert_ok(loch_env_list_dir(env, "/x", join, NULL));
    assert_string_equal(trail, "y z ");
    assert_ok(loch_env_unlink(env, "/x/y"));
    assert_code(loch_env_unlink(env, "/x/y"), LOCH_E_NOT_FOUND);
    assert_code(loch_env_list_dir(env, "/none", join, NULL), LOCH_E_NOT_FOUND);
}

/* ---- network ---- */
struct peer {
    struct loch_stream *stream;
    uint64_t next;
    unsigned frames, closed, connected, drained;
    loch_status st;
    bool echo;
};

static struct peer server, client;

static loch_status peer_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct peer *p = arg;
    if (type == 9)
        return LOCH_FAIL(LOCH_E_INVALID, "nine");
    assert_int_equal(loch_get_u64(payload.data), p->next);
    p->next++;
    p->frames++;
    if (p->echo) {
        struct loch_buf out = {0};
        struct loch_writer w;
        loch_writer_init(&w, &out);
        size_t mark = loch_frame_begin(&w, type);
        loch_write_bytes(&w, payload.data, payload.len);
        loch_frame_end(&w, mark);
        loch_stream_send(p->stream, &out);
    }
    return LOCH_OK;
}

static void peer_closed(void *arg, loch_status st)
{
    struct peer *p = arg;
    p->closed++;
    p->st = st;
}

static void peer_drained(void *arg)
{
    ((struct peer *)arg)->drained++;
}

static const struct loch_stream_events peer_events = {
    .frame = peer_frame, .closed = peer_closed, .drained = peer_drained};

static void accepted(void *arg, struct loch_stream *stream)
{
    (void)arg;
    server.stream = stream;
    loch_stream_attach(stream, &peer_events, &server);
}

static void connected(void *arg, loch_status st, struct loch_stream *stream)
{
    (void)arg;
    client.connected++;
    client.st = st;
    client.stream = stream;
    if (loch_is_ok(st))
        loch_stream_attach(stream, &peer_events, &client);
}

static struct sim_node *here, *there;
static struct loch_env *here_env, *there_env;
static struct loch_listener *listener;

static void two_nodes(void)
{
    memset(&server, 0, sizeof server);
    memset(&client, 0, sizeof client);
    here = sim_node_create(world, "here");
    there = sim_node_create(world, "there");
    here_env = sim_node_start(here);
    there_env = sim_node_start(there);
    assert_ok(loch_env_listen(there_env, "there:7000", NULL, &listener, accepted, NULL));
    assert_ok(loch_env_connect(here_env, "there:7000", NULL, 1000, connected, NULL));
    assert_int_equal(client.connected, 0);
    sim_world_run(world, 100000);
    assert_int_equal(client.connected, 1);
    assert_non_null(client.stream);
    assert_non_null(server.stream);
}

static void send_numbers(struct peer *p, uint64_t from, uint64_t count, size_t len)
{
    uint8_t *bytes = calloc(1, len);
    for (uint64_t n = from; n < from + count; n++) {
        struct loch_buf out = {0};
        struct loch_writer w;
        loch_writer_init(&w, &out);
        size_t mark = loch_frame_begin(&w, 1);
        loch_put_u64(bytes, n);
        loch_write_bytes(&w, bytes, len);
        loch_frame_end(&w, mark);
        loch_stream_send(p->stream, &out);
    }
    free(bytes);
}

static void frames_keep_order(void **state)
{
    (void)state;
    two_nodes();
    server.echo = true;
    send_numbers(&client, 0, 500, 3000);
    assert_true(loch_stream_queued(client.stream) >= 500 * 3000);
    sim_world_run(world, 10000000);
    assert_int_equal(server.frames, 500);
    assert_int_equal(client.frames, 500);
    assert_true(client.drained > 0);
    loch_stream_close(client.stream);
    assert_int_equal(client.closed, 0);
    sim_world_run(world, 100000);
    assert_int_equal(client.closed, 1);
    assert_int_equal(server.closed, 1);
    assert_ok(server.st);
}

static void backpressure(void **state)
{
    (void)state;
    two_nodes();
    loch_stream_read(server.stream, false);
    send_numbers(&client, 0, 100, 10000);
    sim_world_run(world, 5000000);
    assert_int_equal(server.frames, 0);
    assert_true(loch_stream_queued(client.stream) > 700000);
    loch_stream_read(server.stream, true);
    assert_int_equal(server.frames, 0);
    sim_world_run(world, 5000000);
    assert_int_equal(server.frames, 100);
    assert_int_equal(loch_stream_queued(client.stream), 0);
}

static void partition_and_reset(void **state)
{
    (void)state;
    two_nodes();
    sim_part(world, "here", "there");
    send_numbers(&client, 0, 5, 100);
    sim_world_run(world, 1000000);
    assert_int_equal(server.frames, 0);
    sim_join(world, "there", "here");
    send_numbers(&client, 5, 5, 100);
    sim_world_run(world, 1000000);
    assert_int_equal(server.frames, 10);
    sim_part(world, "here", "there");
    send_numbers(&client, 10, 1, 100);
    sim_world_run(world, 40000000);
    assert_int_equal(client.closed, 1);
    assert_code(client.st, LOCH_E_UNAVAILABLE);
    /* A connect into the dark comes to its time-out. */
    assert_ok(loch_env_connect(here_env, "there:7000", NULL, 1000, connected, NULL));
    sim_world_run(world, 2000000);
    assert_int_equal(client.connected, 2);
    assert_code(client.st, LOCH_E_UNAVAILABLE);
}

static void killed_peer(void **state)
{
    (void)state;
    two_nodes();
    sim_node_kill(there);
    sim_world_run(world, 100000);
    assert_int_equal(client.closed, 1);
    assert_code(client.st, LOCH_E_UNAVAILABLE);
    assert_int_equal(server.closed, 0); /* the dead hear nothing */
    assert_ok(loch_env_connect(here_env, "there:7000", NULL, 1000, connected, NULL));
    sim_world_run(world, 2000000);
    assert_code(client.st, LOCH_E_UNAVAILABLE); /* nobody listens yet */
    assert_ok(
        loch_env_listen(sim_node_start(there), "there:7000", NULL, &listener, accepted, NULL));
    assert_ok(loch_env_connect(here_env, "there:7000", NULL, 1000, connected, NULL));
    sim_world_run(world, 2000000);
    assert_ok(client.st);
    assert_true(sim_reset_one(world));
    sim_world_run(world, 1000);
    assert_int_equal(client.closed, 2);
    assert_false(sim_reset_one(world));
}

static void refused_frame(void **state)
{
    struct loch_buf out = {0};
    struct loch_writer w;
    (void)state;
    two_nodes();
    loch_writer_init(&w, &out);
    loch_frame_end(&w, loch_frame_begin(&w, 9));
    loch_stream_send(client.stream, &out);
    sim_world_run(world, 100000);
    assert_int_equal(server.closed, 1);
    assert_code(server.st, LOCH_E_INVALID);
    assert_int_equal(client.closed, 1);
}

static bool find_psk(void *arg, struct loch_slice identity, struct loch_secret *out)
{
    return identity.len == 3 && memcmp(identity.data, "bob", 3) == 0 &&
           loch_is_ok(loch_secret_copy(out, arg));
}

static void handshake_is_real(void **state)
{
    struct loch_secret psk = {0};
    struct loch_tls_server *tls = NULL;
    struct loch_tls_client *bob = NULL;
    struct loch_tls_client *eve = NULL;
    (void)state;
    two_nodes();
    assert_ok(loch_secret_create(&psk, LOCH_PSK_BYTES));
    memset(psk.bytes, 5, psk.len);
    assert_ok(loch_tls_server_create(find_psk, &psk, &tls));
    assert_ok(loch_tls_client_create(loch_slice_of("bob", 3), &psk, &bob));
    assert_ok(loch_tls_client_create(loch_slice_of("eve", 3), &psk, &eve));
    assert_ok(loch_env_listen(there_env, "there:7001", tls, &listener, accepted, NULL));
    assert_ok(loch_env_connect(here_env, "there:7001", eve, 1000, connected, NULL));
    sim_world_run(world, 1000000);
    assert_int_equal(client.connected, 2);
    assert_false(loch_is_ok(client.st));
    assert_ok(loch_env_connect(here_env, "there:7001", bob, 1000, connected, NULL));
    sim_world_run(world, 1000000);
    assert_ok(client.st);
    assert_memory_equal(loch_stream_identity(server.stream).data, "bob", 3);
    loch_tls_client_destroy(bob);
    loch_tls_client_destroy(eve);
    loch_tls_server_destroy(tls);
    loch_secret_fini(&psk);
}

static uint64_t story(uint64_t seed)
{
    sim_world_destroy(world);
    world = sim_world_create(&(struct sim_options){.seed = seed});
    two_nodes();
    server.echo = true;
    send_numbers(&client, 0, 300, 5000);
    sim_world_run(world, 200000);
    return sim_world_events(world) * 1000 + client.frames +
           sim_world_draw(world, 1000000) * 1000000;
}

static void same_seed_same_story(void **state)
{
    (void)state;
    uint64_t a = story(11);
    uint64_t b = story(12);
    assert_true(story(11) == a);
    assert_true(story(12) == b);
    assert_true(a != b);
}

int main(void)
{
#define T(name_) cmocka_unit_test_setup_teardown(name_, begin, end)
    const struct CMUnitTest tests[] = {
        T(timers_and_posts),
        T(killed_process_does_nothing),
        T(power_cut_takes_what_is_not_synced),
        T(sync_covers_what_was_done),
        T(a_kill_loses_nothing_that_was_done),
        T(disk_faults),
        T(what_fails_is_kept_in_memory_only),
        T(whole_files),
        T(frames_keep_order),
        T(backpressure),
        T(partition_and_reset),
        T(killed_peer),
        T(refused_frame),
        T(handshake_is_real),
        T(same_seed_same_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
