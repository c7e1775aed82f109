/* Keyrings that were kept aside: what cannot be looked into is no proof, nor is a damaged keyring.
 */
#include "../unit.h"
#include "aside.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOBODY 65534

static char top[64], aside[80], uri[120];
static json_t *rows;
static bool good;

static int setup(void **state)
{
    uint8_t key[32] = {7};
    char path[100];

    (void)state;
    (void)snprintf(top, sizeof top, "/tmp/loch-aside.XXXXXX");
    assert_non_null(mkdtemp(top));
    assert_int_equal(chmod(top, 0755), 0);
    (void)snprintf(aside, sizeof aside, "%s/aside", top);
    assert_int_equal(mkdir(aside, 0755), 0);
    (void)snprintf(path, sizeof path, "%s/cmk.key", top);
    (void)snprintf(uri, sizeof uri, "file:%s", path);
    const int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0 && write(fd, key, sizeof key) == sizeof key);
    (void)close(fd);
    return 0;
}

static int teardown(void **state)
{
    char command[100];

    (void)state;
    json_decref(rows);
    rows = NULL;
    (void)snprintf(command, sizeof command, "rm -rf %s", top);
    return system(command); /* NOLINT(cert-env33-c) */
}

static const char *path_of(const char *name)
{
    static char path[200];
    (void)snprintf(path, sizeof path, "%s/%s", aside, name);
    return path;
}

/* `before` bytes, then the golden keyring but for its last `cut`. */
static void keep_behind(const char *name, const char *before, size_t before_len, size_t cut)
{
    char bytes[4096];

    FILE *f = fopen(LOCH_SOURCE_DIR "/tests/golden/format/keyring.bin", "rb");
    assert_non_null(f);
    const size_t len = fread(bytes, 1, sizeof bytes, f);
    (void)fclose(f);
    assert_true(len > cut);
    f = fopen(path_of(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(before, 1, before_len, f), before_len);
    assert_int_equal(fwrite(bytes, 1, len - cut, f), len - cut);
    (void)fclose(f);
}

static void keep(const char *name, size_t cut)
{
    keep_behind(name, "", 0, cut);
}

/* A file that begins so and is as long. */
static void put(const char *name, const char *begin, off_t size)
{
    FILE *f = fopen(path_of(name), "wb");
    assert_non_null(f);
    (void)fputs(begin, f);
    (void)fclose(f);
    assert_int_equal(truncate(path_of(name), size), 0);
}

/* Another tenant than that of the golden keyring. */
static void look(const char *dir)
{
    const struct loch_aside what = {.dir = dir,
                                    .id = "000102030405060708090a0b0c0d0e0f",
                                    .whole_tenant = true,
                                    .cluster_kms = uri,
                                    .pins = path_of("../kms.pins")};

    json_decref(rows);
    rows = json_array();
    good = true;
    assert_ok(loch_aside_check(&what, rows, &good));
}

static const char *result_of(const char *name)
{
    const json_t *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        const char *what = json_string_value(json_object_get(row, "what"));
        if (strlen(what) > strlen(name) && strcmp(what + strlen(what) - strlen(name), name) == 0)
            return json_string_value(json_object_get(row, "result"));
    }
    return "no row";
}

static void what_is_whole_is_tried(void **state)
{
    (void)state;
    keep("keyring", 0);
    FILE *f = fopen(path_of("letter"), "w");
    assert_non_null(f);
    (void)fputs("something else altogether", f);
    (void)fclose(f);
    look(aside);
    assert_true(good);
    assert_string_equal(result_of("/keyring"), "does not open");
    assert_int_equal(json_array_size(rows), 1);
}

static void a_damaged_keyring_is_no_proof(void **state)
{
    (void)state;
    keep("keyring", 9);
    look(aside);
    assert_false(good);
    assert_string_equal(result_of("/keyring"), "UNKNOWN");
}

/* A tar, an image of a disk, what is packed: keyrings may be in it. */
static void what_is_no_file_of_loch_is_no_proof(void **state)
{
    static const char *const names[] = {"/store.tar", "/first", "/store.img", "/pins"};
    const char zeros[512] = {0};

    (void)state;
    keep("keyring", 0);
    keep_behind("store.tar", zeros, sizeof zeros, 0);
    keep("first", 0);
    FILE *f = fopen(path_of("first"), "r+b");
    assert_non_null(f);
    (void)fputc('l', f); /* its magic is damaged, its keys are not */
    (void)fclose(f);
    put("store.img", "\x7f", 97 << 20);
    put("pins", "words\n", 200);
    for (size_t i = 0; i < 4; i++) {
        look(aside);
        assert_false(good);
        for (size_t k = 0; k < 4; k++)
            assert_string_equal(result_of(names[k]), k < i ? "no row" : "UNKNOWN");
        assert_int_equal(unlink(path_of(names[i] + 1)), 0);
    }
    look(aside);
    assert_true(good);
}

static void what_is_known_to_hold_no_keyring_is_passed_over(void **state)
{
    const char store_head[] = "LOCHOBJ1........................................";

    (void)state;
    keep_behind("object", store_head, 48, 0);
    put("layer", "LOCHSEAL", 97 << 20);
    put("journal", "LOCHJRNL", 4096);
    put("epoch", "LOCHOBJ1", 56);
    FILE *f = fopen(path_of("kms.pins"), "w");
    assert_non_null(f);
    for (int i = 0; i < 5; i++)
        (void)fputs("000102030405060708090a0b0c0d0e0f file:/etc/loch/cmk.key\n", f);
    (void)fclose(f);
    look(aside);
    assert_true(good);
    assert_string_equal(result_of("/object"), "does not open");
    assert_int_equal(json_array_size(rows), 1);
}

/* A directory that was not meant proves nothing. */
static void no_keyring_is_no_proof(void **state)
{
    (void)state;
    look(aside);
    assert_false(good);
    put("layer", "LOCHSEAL", 4096);
    look(aside);
    assert_false(good);
    assert_string_equal(result_of("/aside"), "UNKNOWN");
}

static void what_cannot_be_read_is_no_proof(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip(); /* cmocka's: it needs files that are another's */
    keep("keyring", 0);
    assert_int_equal(chmod(path_of("keyring"), 0), 0);
    assert_int_equal(mkdir(path_of("shut"), 0), 0);
    assert_int_equal(chown(path_of("../cmk.key"), NOBODY, NOBODY), 0);
    assert_int_equal(seteuid(NOBODY), 0);
    look(aside);
    assert_int_equal(seteuid(0), 0);
    assert_false(good);
    assert_string_equal(result_of("/keyring"), "UNKNOWN");
    assert_string_equal(result_of("/shut"), "UNKNOWN");
}

/* One to what is looked through anyway hides nothing; the one that is named itself is followed. */
static void links_are_no_proof(void **state)
{
    char link[100];

    (void)state;
    keep("keyring", 0);
    assert_int_equal(symlink("keyring", path_of("inside")), 0);
    look(aside);
    assert_true(good);
    assert_int_equal(symlink("..", path_of("outside")), 0);
    assert_int_equal(symlink("nowhere", path_of("dangling")), 0);
    look(aside);
    assert_false(good);
    assert_string_equal(result_of("/outside"), "UNKNOWN");
    assert_string_equal(result_of("/dangling"), "UNKNOWN");
    assert_string_equal(result_of("/inside"), "no row");

    assert_int_equal(unlink(path_of("outside")), 0);
    assert_int_equal(unlink(path_of("dangling")), 0);
    (void)snprintf(link, sizeof link, "%s/link", top);
    assert_int_equal(symlink(aside, link), 0);
    look(link);
    assert_true(good);
    assert_string_equal(result_of("/keyring"), "does not open");
}

int main(void)
{
#define TRIAL(test_) cmocka_unit_test_setup_teardown(test_, setup, teardown)
    const struct CMUnitTest tests[] = {
        TRIAL(what_is_whole_is_tried),
        TRIAL(a_damaged_keyring_is_no_proof),
        TRIAL(what_is_no_file_of_loch_is_no_proof),
        TRIAL(what_is_known_to_hold_no_keyring_is_passed_over),
        TRIAL(no_keyring_is_no_proof),
        TRIAL(what_cannot_be_read_is_no_proof),
        TRIAL(links_are_no_proof),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
