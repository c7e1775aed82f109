/* Damaged layers and their copies: what heals what, and what cannot be healed. */
#include "store_fixture.h"

#include "store/compact.h"
#include "store/heal.h"
#include "store/layer_copy.h"
#include "store/layer_set.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define L ((loch_lsn)0x1000000)

static struct loch_heal_stats heals;

static struct site *with_copies(void **state, bool copies)
{
    struct site *s = *state;
    heals = (struct loch_heal_stats){0};
    s->store.copies = copies;
    s->store.heals = &heals;
    return s;
}

static struct loch_timeline *written(struct site *s)
{
    struct loch_timeline *t = site_timeline(s, L, NULL);
    uint8_t page[LOCH_PAGE_BYTES] = {1};
    for (uint32_t block = 0; block < 20; block++) {
        struct loch_key key = page_key(block);
        assert_ok(loch_random_bytes(page, sizeof page));
        page[0] = (uint8_t)block;
        assert_ok(loch_timeline_put_value(t, &key, L, loch_slice_of(page, sizeof page)));
    }
    assert_ok(loch_timeline_commit(t, L - 8, loch_slice_of("control", 7)));
    return t;
}

/* The only layer: its path, and that of its copy. */
static void paths(struct site *s, struct loch_timeline *t, char file[LOCH_LAYER_PATH_BYTES],
                  char copy[LOCH_LAYER_PATH_BYTES + 100])
{
    loch_lsn last = LOCH_LSN_NONE;
    char name[LOCH_LAYER_PATH_BYTES];
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    const struct loch_timeline_info *info = loch_timeline_info(t);
    assert_int_equal(set->file_count, 1);
    assert_ok(loch_layer_path(&s->store, info, loch_layer_desc(set->files[0]), file));
    assert_ok(loch_layer_copy_name(&info->tenant, &info->timeline, strrchr(file, '/') + 1, name));
    snprintf(copy, LOCH_LAYER_PATH_BYTES + 100, "%s/store/%s", s->dir, name);
    loch_layer_set_release(set);
}

static void flip(const char *path, off_t at)
{
    uint8_t byte = 0;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static loch_status read_block(struct loch_timeline *t, uint32_t block)
{
    const struct loch_key key = page_key(block);
    struct loch_versions list = {0};
    bool base = false;
    loch_lsn last = LOCH_LSN_NONE;
    struct loch_layer_set *set = loch_timeline_layers(t, &last);
    loch_status st = loch_layer_collect(set->files[0], &key, 0, L, &list, &base);
    if (loch_is_ok(st)) {
        assert_true(base);
        assert_int_equal(list.items[0].bytes.data[0], block);
    }
    loch_versions_fini(&list);
    loch_layer_set_release(set);
    return st;
}

static size_t unreadable(struct loch_timeline *t)
{
    size_t n = 0;
    for (uint32_t block = 0; block < 20; block++)
        n += !loch_is_ok(read_block(t, block));
    return n;
}

static void a_damaged_block_is_read_from_the_copy_and_healed(void **state)
{
    struct site *s = with_copies(state, true);
    struct loch_timeline *t = written(s);
    const struct loch_heal heal = {0};
    struct loch_heal_report report;
    char file[LOCH_LAYER_PATH_BYTES], copy[LOCH_LAYER_PATH_BYTES + 100];
    paths(s, t, file, copy);
    flip(file, 20000);
    assert_false(loch_timeline_is_harmed(t));
    assert_int_equal(unreadable(t), 0);
    assert_true(heals.blocks > 0);
    assert_true(loch_timeline_is_harmed(t));

    assert_ok(loch_timeline_heal(t, &heal, &report));
    assert_int_equal(report.healed, 1);
    assert_int_equal(heals.files, 1);
    assert_false(loch_timeline_is_harmed(t));
    const uint64_t before = heals.blocks;
    assert_int_equal(unlink(copy), 0); /* not looked at any more */
    assert_int_equal(unreadable(t), 0);
    assert_int_equal(heals.blocks, before);
    t = site_reopen(s, t, NULL);
    assert_int_equal(unreadable(t), 0);
    loch_timeline_release(t);
}

static void without_a_copy_the_block_is_named(void **state)
{
    struct site *s = with_copies(state, false);
    struct loch_timeline *t = written(s);
    const struct loch_heal heal = {0};
    struct loch_heal_report report;
    char file[LOCH_LAYER_PATH_BYTES], copy[LOCH_LAYER_PATH_BYTES + 100], id[LOCH_ID_TEXT_BYTES];
    paths(s, t, file, copy);
    assert_int_equal(access(copy, F_OK), -1);
    flip(file, 20000);
    loch_status st = LOCH_OK;
    for (uint32_t block = 0; block < 20 && loch_is_ok(st); block++)
        st = read_block(t, block);
    assert_int_equal(st.code, LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "block "));
    assert_non_null(
        strstr(loch_error_text(), loch_id_format(&loch_timeline_info(t)->timeline, id)));
    assert_int_equal(unreadable(t), 1); /* that one alone */
    assert_int_equal(loch_timeline_heal(t, &heal, &report).code, LOCH_E_CORRUPT);
    assert_non_null(strstr(loch_error_text(), "no good copy"));
    assert_int_equal(heals.lost, 1);
    assert_int_equal(heals.blocks + heals.files + heals.copies, 0);
    loch_timeline_release(t);
}

/* Where there was none a moment ago the store is not asked at every read; healing asks. */
static void a_missing_copy_is_not_asked_for_again_and_again(void **state)
{
    struct site *s = with_copies(state, true);
    struct loch_timeline *t = written(s);
    const struct loch_heal heal = {0};
    struct loch_heal_report report;
    char file[LOCH_LAYER_PATH_BYTES], copy[LOCH_LAYER_PATH_BYTES + 100];
    char aside[LOCH_LAYER_PATH_BYTES + 110];
    paths(s, t, file, copy);
    snprintf(aside, sizeof aside, "%s.aside", copy);
    assert_int_equal(rename(copy, aside), 0);
    flip(file, 20000);
    assert_int_equal(unreadable(t), 1);
    assert_int_equal(rename(aside, copy), 0);
    assert_int_equal(unreadable(t), 1);
    assert_int_equal(heals.blocks, 0);
    assert_ok(loch_timeline_heal(t, &heal, &report));
    assert_int_equal(report.healed, 1);
    assert_int_equal(unreadable(t), 0);
    loch_timeline_release(t);
}

static void a_damaged_copy_is_not_served_and_is_put_again(void **state)
{
    struct site *s = with_copies(state, true);
    struct loch_timeline *t = written(s);
    const struct loch_heal heal = {.everything = true};
    struct loch_heal_report report;
    char file[LOCH_LAYER_PATH_BYTES], copy[LOCH_LAYER_PATH_BYTES + 100];
    paths(s, t, file, copy);
    flip(copy, 20000);
    assert_ok(loch_timeline_heal(t, &heal, &report)); /* the sweep finds it */
    assert_int_equal(heals.copies, 1);
    assert_int_equal(report.healed, 0);
    flip(file, 20000);
    assert_int_equal(unreadable(t), 0); /* from the new copy */
    flip(copy, 9000);
    flip(copy, 30000);
    assert_int_equal(loch_timeline_heal(t, &heal, &report).code, LOCH_E_CORRUPT); /* both */
    assert_int_equal(heals.files, 0);
    loch_timeline_release(t);
}

static void a_file_that_is_gone_comes_back_at_opening(void **state)
{
    struct site *s = with_copies(state, true);
    struct loch_timeline *t = written(s);
    char file[LOCH_LAYER_PATH_BYTES], copy[LOCH_LAYER_PATH_BYTES + 100];
    paths(s, t, file, copy);
    assert_int_equal(unlink(file), 0);
    t = site_reopen(s, t, NULL);
    assert_int_equal(heals.files, 1);
    assert_int_equal(unreadable(t), 0);
    flip(file, 4); /* its header */
    t = site_reopen(s, t, NULL);
    assert_int_equal(heals.files, 2);
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(truncate(file, st.st_size - 1), 0);
    t = site_reopen(s, t, NULL);
    assert_int_equal(heals.files, 3);
    assert_int_equal(unreadable(t), 0);
    loch_timeline_release(t);
}

static void copies_go_with_their_layers(void **state)
{
    struct site *s = with_copies(state, true);
    struct loch_timeline *t = written(s);
    const struct loch_compaction everything = {.file_bytes = 1u << 20, .everything = true};
    struct loch_compaction_stats stats = {0};
    char file[LOCH_LAYER_PATH_BYTES], copy[LOCH_LAYER_PATH_BYTES + 100];
    char later[LOCH_LAYER_PATH_BYTES], later_copy[LOCH_LAYER_PATH_BYTES + 100];
    bool done = false;
    paths(s, t, file, copy);
    assert_ok(loch_timeline_compact(t, &everything, &done, &stats));
    assert_true(done);
    assert_int_equal(access(file, F_OK), -1);
    assert_int_equal(access(copy, F_OK), -1);
    paths(s, t, later, later_copy);
    assert_int_equal(access(later_copy, F_OK), 0);
    /* An unfinished merge: its file, and with it its copy, is swept at the next opening. */
    char command[2 * LOCH_LAYER_PATH_BYTES + 300];
    snprintf(command, sizeof command, "cp '%s' '%s' && cp '%s' '%s'", later, file, later_copy,
             copy);
    assert_int_equal(system(command), 0);
    t = site_reopen(s, t, NULL);
    assert_int_equal(access(file, F_OK), -1);
    assert_int_equal(access(copy, F_OK), -1);
    assert_int_equal(access(later_copy, F_OK), 0);
    assert_int_equal(unreadable(t), 0);
    loch_timeline_release(t);
}

#define WITH_SITE(f) cmocka_unit_test_setup_teardown(f, site_up, site_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(a_damaged_block_is_read_from_the_copy_and_healed),
        WITH_SITE(without_a_copy_the_block_is_named),
        WITH_SITE(a_missing_copy_is_not_asked_for_again_and_again),
        WITH_SITE(a_damaged_copy_is_not_served_and_is_put_again),
        WITH_SITE(a_file_that_is_gone_comes_back_at_opening),
        WITH_SITE(copies_go_with_their_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
