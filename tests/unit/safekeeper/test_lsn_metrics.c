/* The positions of timelines as metrics: a bounded number of series, whoever comes and goes. */
#include "../unit.h"
#include "lsn_metrics.h"
#include "timeline.h"

#include "loch/host/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START  0x1000000u
#define SECOND UINT64_C(1000000000)
#define MANY   (SK_LSN_METRICS_TIMELINES + 2u)

static struct loch_acceptor *acceptor_at(loch_lsn flush)
{
    static struct loch_member trio[] = {{.id = {{1}}, .node = {{11}}, .in = LOCH_MEMBER_BOTH},
                                        {.id = {{2}}, .node = {{12}}, .in = LOCH_MEMBER_BOTH},
                                        {.id = {{3}}, .node = {{13}}, .in = LOCH_MEMBER_BOTH}};
    static const struct loch_id member = {{1}};
    const struct loch_membership m = {.generation = 7, .members = trio, .count = 3};
    struct loch_acceptor_control control;
    struct loch_acceptor *a = NULL;

    assert_ok(loch_acceptor_control_init(&control, START, START - 100));
    assert_ok(loch_membership_copy(&control.membership, &m));
    assert_ok(loch_acceptor_create(&control, &member, flush, START, &a));
    loch_acceptor_control_fini(&control);
    return a;
}

static void begin(struct sk_daemon *d, struct sk_timeline *tl, unsigned i)
{
    tl->daemon = d;
    tl->state = SK_ACTIVE;
    (void)snprintf(tl->tenant_text, sizeof tl->tenant_text, "tenant");
    (void)snprintf(tl->timeline_text, sizeof tl->timeline_text, "t%u", i);
    tl->acceptor = acceptor_at(START + 8 + i);
    tl->persisted_lsn = 2;
    tl->archive.lsn = 3;
}

static void move(struct sk_timeline *tl, loch_lsn flush)
{
    loch_acceptor_destroy(tl->acceptor);
    tl->acceptor = acceptor_at(flush);
}

static bool shows(struct loch_metrics *metrics, const char *line)
{
    struct loch_buf text = {0};

    assert_ok(loch_metrics_text(metrics, &text));
    assert_ok(loch_buf_append(&text, "", 1));
    const bool found = strstr((const char *)text.data, line) != NULL;
    loch_buf_fini(&text);
    return found;
}

static void series_are_bounded(void **state)
{
    struct sk_timeline *all = calloc(MANY, sizeof *all);
    struct sk_timeline *list[MANY];
    struct sk_daemon d = {.timelines = list, .timeline_count = MANY};

    (void)state;
    assert_non_null(all);
    assert_ok(loch_metrics_create("test", &d.metrics));
    for (unsigned i = 0; i < MANY; i++) {
        list[i] = &all[i];
        begin(&d, &all[i], i);
    }
    sk_lsn_metrics_tick(&d, SECOND);
    assert_int_equal(d.lsn_series, SK_LSN_METRICS_TIMELINES);
    assert_true(
        shows(d.metrics,
              "loch_safekeeper_timeline_flush_lsn{tenant=\"tenant\",timeline=\"t1\"} 16777225\n"));
    assert_true(
        shows(d.metrics,
              "loch_safekeeper_timeline_persisted_lsn{tenant=\"tenant\",timeline=\"t1\"} 2\n"));
    assert_true(shows(
        d.metrics, "loch_safekeeper_timeline_archived_lsn{tenant=\"tenant\",timeline=\"t1\"} 3\n"));
    assert_false(shows(d.metrics, "timeline=\"t512\""));

    /* One that moves has to wait while all others have moved lately ... */
    move(&all[512], START + 5000);
    sk_lsn_metrics_tick(&d, 2 * SECOND);
    assert_false(shows(d.metrics, "timeline=\"t512\""));
    /* ... and takes the place of the one that has rested longest. */
    for (unsigned i = 0; i < 512; i++)
        if (i != 7)
            move(&all[i], START + 2000 + i);
    sk_lsn_metrics_tick(&d, 30 * SECOND);
    move(&all[512], START + 6000);
    sk_lsn_metrics_tick(&d, 62 * SECOND);
    assert_true(shows(
        d.metrics,
        "loch_safekeeper_timeline_flush_lsn{tenant=\"tenant\",timeline=\"t512\"} 16783216\n"));
    assert_false(shows(d.metrics, "timeline=\"t7\""));
    assert_true(shows(d.metrics, "timeline=\"t8\""));
    assert_int_equal(d.lsn_series, SK_LSN_METRICS_TIMELINES);

    /* Whoever goes leaves room. */
    sk_lsn_metrics_drop(&all[512]);
    assert_false(shows(d.metrics, "timeline=\"t512\""));
    move(&all[513], START + 7000);
    sk_lsn_metrics_tick(&d, 63 * SECOND);
    assert_true(shows(d.metrics, "timeline=\"t513\""));
    for (unsigned i = 0; i < MANY; i++) {
        sk_lsn_metrics_drop(&all[i]);
        loch_acceptor_destroy(all[i].acceptor);
    }
    assert_int_equal(d.lsn_series, 0);
    loch_metrics_destroy(d.metrics);
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(series_are_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
