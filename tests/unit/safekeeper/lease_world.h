/* A safekeeper's daemon and timeline without a disk, whose lease a test can end; WAL that is all in
 * memory. For what streams it. */
#ifndef LOCH_TESTS_LEASE_WORLD_H
#define LOCH_TESTS_LEASE_WORLD_H

#include "../unit.h"
#include "timeline.h"

#include "loch/host/keys.h"
#include "loch/host/metrics.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"

#include <stdio.h>
#include <stdlib.h>

#define PIECE 100u

struct lease_world {
    char dir[64];
    struct loch_kms *kms;
    struct loch_objstore *store;
    struct sk_daemon daemon;
    struct sk_timeline timeline;
};

static inline int lease_world_up(void **state)
{
    struct lease_world *w = calloc(1, sizeof *w);
    char path[160];
    assert_non_null(w);
    snprintf(w->dir, sizeof w->dir, "/tmp/loch-test-lease-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(path, sizeof path, "%s/cmk.key", w->dir);
    assert_ok(loch_kms_file_create(path));
    snprintf(path, sizeof path, "file:%s/cmk.key", w->dir);
    assert_ok(loch_kms_open(path, NULL, &w->kms));
    assert_ok(loch_env_real_create(&w->daemon.env));
    snprintf(path, sizeof path, "%s/store", w->dir);
    assert_ok(loch_objstore_open_local(w->daemon.env, path, &w->store));
    struct loch_keys_options o = {.store = w->store,
                                  .kms = w->kms,
                                  .cluster = {{1}},
                                  .node = {{2}},
                                  .role = LOCH_ROLE_SAFEKEEPER};
    assert_ok(loch_keys_create(&o, &w->daemon.keys));
    assert_ok(loch_metrics_create("test", &w->daemon.metrics));
    w->daemon.stats.pulled_bytes = w->daemon.stats.exported_bytes =
        loch_metrics_counter(w->daemon.metrics, "a", "a", NULL, 0);
    w->timeline = (struct sk_timeline){.daemon = &w->daemon,
                                       .tenant = {{3}},
                                       .timeline = {{4}},
                                       .state = SK_ACTIVE,
                                       .seen_commit = 10 * PIECE};
    assert_ok(loch_keys_tenant_create(w->daemon.keys, &w->timeline.tenant));
    assert_ok(loch_keys_add_timeline(w->daemon.keys, &w->timeline.tenant, &w->timeline.timeline));
    *state = w;
    return 0;
}

static inline int lease_world_down(void **state)
{
    struct lease_world *w = *state;
    char command[128];
    loch_metrics_destroy(w->daemon.metrics);
    loch_keys_destroy(w->daemon.keys);
    loch_objstore_close(w->store);
    loch_env_real_destroy(w->daemon.env);
    loch_kms_close(w->kms);
    snprintf(command, sizeof command, "rm -rf '%s'", w->dir);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

static inline void end_lease(struct lease_world *w)
{
    static const struct loch_id none;
    loch_keys_block(w->daemon.keys, &w->timeline.tenant, &none, LOCH_E_KMS_UNAVAILABLE, "run out");
}

/* In the place of sk_store_tail. */
static inline bool memory_tail(const struct sk_store *store, loch_lsn from, loch_lsn upto,
                               size_t max, struct loch_slice *out)
{
    static const uint8_t bytes[PIECE] = {1};
    (void)store;
    assert_true(from + PIECE <= upto && max >= PIECE);
    *out = loch_slice_of(bytes, PIECE);
    return true;
}

#endif
