/* Pages that take a redo process are read in turns. */
#include "page_world.h"

/* Read twice: the second time where a thread may wait for a process. Here is none to wait for. */
static void a_page_for_a_redo_process_gets_a_turn(void **state)
{
    struct world *w = *state;
    const struct loch_rel rel = {1663, 5, 9};
    const struct loch_put_ref ref = {
        .key = {.kind = LOCH_KEY_PAGE, .spc = 1663, .db = 5, .rel = 9, .block = 2},
        .will_init = true};
    uint8_t record[26] = {26, [16] = 0x10, [17] = 13, [24] = 255}; /* of GIN */
    assert_ok(loch_timeline_put_record(w->timeline, &ref, 1, L + 8, L + 16,
                                       loch_slice_of(record, sizeof record)));
    loch_timeline_advance(w->timeline, L + 16, L + 8);
    greet(w, RIGHTS);
    for (unsigned i = 1; i <= 2; i++) { /* then without a first try */
        SEND(w, get, {.request_id = 1, .at = {L + 16, L + 16}, .rel = rel, .block = 2});
        SEND(w, get, {.request_id = 2, .at = {L + 16, L + 16}, .rel = rel, .block = 1});
        run(w, 2);
        unsigned failed = w->frames[0].type == LOCH_PAGE_ERROR ? 0 : 1;
        struct loch_page_error m = error_of(w, failed);
        assert_int_equal(m.request_id, 1);
        assert_int_equal(m.code, LOCH_E_UNAVAILABLE);
        assert_non_null(memmem(m.text.data, m.text.len, "no redo process here", 20));
        assert_int_equal(w->frames[1 - failed].type, LOCH_PAGE_GET_REPLY);
        assert_true(w->ps.redo_turns.count == 0 && w->ps.redo_turns.first == NULL);
        w->count = 0;
    }
    SEND(w, get, {.request_id = 3, .at = {L + 16, L + 16}, .rel = rel, .block = 2});
    hang_up(w); /* while it has one, or waits for it */
    assert_true(w->ps.redo_turns.count == 0 && w->ps.redo_turns.first == NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_page_for_a_redo_process_gets_a_turn, world_up,
                                        world_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
