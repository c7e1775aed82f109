/* Agent: the tar reader against tar(1)'s own output and hostile streams. */
#include "../unit.h"

#include "untar.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char work[64];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(work, sizeof work, "/tmp/loch-agent-test.XXXXXX");
    return mkdtemp(work) == NULL;
}

static int teardown(void **state)
{
    char cmd[128];
    (void)state;
    (void)snprintf(cmd, sizeof cmd, "rm -rf %s", work);
    return system(cmd);
}

static void shell(const char *fmt)
{
    char cmd[1024];
    (void)snprintf(cmd, sizeof cmd, "cd %s && %s", work, fmt);
    assert_int_equal(system(cmd), 0);
}

static struct loch_buf slurp(const char *name)
{
    char path[200];
    struct loch_buf buf = {0};
    (void)snprintf(path, sizeof path, "%s/%s", work, name);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    struct stat sb;
    assert_int_equal(fstat(fd, &sb), 0);
    assert_ok(loch_buf_reserve(&buf, (size_t)sb.st_size));
    buf.len = (size_t)read(fd, buf.data, (size_t)sb.st_size);
    (void)close(fd);
    return buf;
}

static void tar_in_pieces(void **state)
{
    (void)state;
    shell("mkdir -p in/base/1 in/pg_wal && echo hello > in/PG_VERSION && head -c 100000 "
          "/dev/urandom > "
          "in/base/1/1259 && : > in/empty && tar --format=ustar -cf t.tar -C in .");
    struct loch_buf tar = slurp("t.tar");
    for (size_t piece = 1; piece < 20000; piece = piece * 3 + 1) {
        struct loch_untar *u;
        char dir[128];
        shell("rm -rf out && mkdir out");
        (void)snprintf(dir, sizeof dir, "%s/out", work);
        assert_ok(loch_untar_create(dir, getuid(), getgid(), &u));
        for (size_t at = 0; at < tar.len; at += piece)
            assert_ok(loch_untar_feed(
                u, loch_slice_of(tar.data + at, tar.len - at < piece ? tar.len - at : piece)));
        assert_ok(loch_untar_finish(u));
        loch_untar_destroy(u);
        shell("diff -r in out");
    }
    loch_buf_fini(&tar);
}

/* Runs of zeros come as numbers: the files are the same, with holes. */
static void zeros_become_holes(void **state)
{
    (void)state;
    shell("rm -rf in out; mkdir in out; (head -c 5000 /dev/zero; echo middle; head -c 2000000 "
          "/dev/zero) > in/segment; (head -c 70000 /dev/zero; echo end) > in/other; tar "
          "--format=ustar -cf z.tar -C in segment other");
    struct loch_buf tar = slurp("z.tar");
    struct loch_untar *u;
    struct stat sb;
    char dir[128];
    (void)snprintf(dir, sizeof dir, "%s/out", work);
    assert_ok(loch_untar_create(dir, getuid(), getgid(), &u));
    for (size_t at = 0; at < tar.len;) {
        size_t zeros = 0, other = 0;
        while (at + zeros < tar.len && tar.data[at + zeros] == 0)
            zeros++;
        if (zeros > 0)
            assert_ok(loch_untar_zeros(u, zeros));
        at += zeros;
        while (at + other < tar.len && tar.data[at + other] != 0)
            other++;
        assert_ok(loch_untar_feed(u, loch_slice_of(tar.data + at, other)));
        at += other;
    }
    assert_ok(loch_untar_finish(u));
    loch_untar_destroy(u);
    shell("diff -r in out");
    (void)snprintf(dir, sizeof dir, "%s/out/segment", work);
    assert_int_equal(stat(dir, &sb), 0);
    assert_true(sb.st_blocks * 512 < 100000);
    loch_buf_fini(&tar);
}

static loch_status unpack(struct loch_slice tar)
{
    struct loch_untar *u;
    char dir[128];
    shell("rm -rf out && mkdir out");
    (void)snprintf(dir, sizeof dir, "%s/out", work);
    assert_ok(loch_untar_create(dir, getuid(), getgid(), &u));
    loch_status st = loch_untar_feed(u, tar);
    if (loch_is_ok(st))
        st = loch_untar_finish(u);
    loch_untar_destroy(u);
    return st;
}

static void tar_refused(void **state)
{
    (void)state;
    shell(
        "rm -rf in; mkdir in; echo x > in/f; ln -s /etc in/link; tar --format=ustar -cf link.tar "
        "-C in "
        "link; tar --format=ustar -cf f.tar -C in f; tar -P --format=ustar -cf up.tar in/../in/f; "
        "tar -P --format=ustar -cf abs.tar $PWD/in/f; cat f.tar > twice.tar");
    static const char *const bad[] = {"link.tar", "up.tar", "abs.tar"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct loch_buf tar = slurp(bad[i]);
        assert_code(unpack(loch_buf_slice(&tar)), LOCH_E_CORRUPT);
        loch_buf_fini(&tar);
    }
    struct loch_buf tar = slurp("f.tar");
    assert_ok(unpack(loch_buf_slice(&tar)));
    assert_code(unpack(loch_slice_of(tar.data, 1024)), LOCH_E_CORRUPT); /* no end mark */
    assert_code(unpack(loch_slice_of(tar.data, 700)), LOCH_E_CORRUPT);
    tar.data[3] ^= 1; /* the name, and so the checksum */
    assert_code(unpack(loch_buf_slice(&tar)), LOCH_E_CORRUPT);
    loch_buf_fini(&tar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tar_in_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(zeros_become_holes, setup, teardown),
        cmocka_unit_test_setup_teardown(tar_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
