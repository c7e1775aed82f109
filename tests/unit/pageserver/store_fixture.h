/* A world for tests of the store: a real environment, object store, file KMS and keyring in a
 * scratch directory; and a timeline in it. */
#ifndef LOCH_TESTS_STORE_FIXTURE_H
#define LOCH_TESTS_STORE_FIXTURE_H

#include "../unit.h"

#include "read/page_cache.h"
#include "read/view.h"
#include "store/mem_layer.h"
#include "store/frame_cache.h"
#include "store/timeline.h"

#include "loch/crypto/random.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"

#include <stdio.h>
#include <stdlib.h>

struct site {
    char dir[64];
    char pageserver[96];
    struct loch_env *env;
    struct loch_kms *kms;
    struct loch_objstore *objstore;
    struct loch_keys *keys;
    struct loch_page_cache *cache;
    struct loch_frame_cache *frames;
    struct loch_store store;
    struct loch_id cluster, tenant;
};

static inline int site_up(void **state)
{
    struct site *s = calloc(1, sizeof *s);
    char path[160];
    assert_non_null(s);
    snprintf(s->dir, sizeof s->dir, "/tmp/loch-test-store-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(path, sizeof path, "%s/cmk.key", s->dir);
    assert_ok(loch_kms_file_create(path));
    snprintf(path, sizeof path, "file:%s/cmk.key", s->dir);
    assert_ok(loch_kms_open(path, NULL, &s->kms));
    assert_ok(loch_env_real_create(&s->env));
    snprintf(path, sizeof path, "%s/store", s->dir);
    assert_ok(loch_objstore_open_local(s->env, path, &s->objstore));
    struct loch_keys_options o = {
        .store = s->objstore, .kms = s->kms, .role = LOCH_ROLE_PAGESERVER};
    assert_ok(loch_random_id(&o.cluster));
    assert_ok(loch_random_id(&o.node));
    s->cluster = o.cluster;
    assert_ok(loch_random_id(&s->tenant));
    assert_ok(loch_keys_create(&o, &s->keys));
    assert_ok(loch_keys_tenant_create(s->keys, &s->tenant));
    assert_ok(loch_page_cache_create((size_t)16 << 20, &s->cache));
    assert_ok(loch_frame_cache_create((size_t)1 << 20, &s->frames));
    snprintf(s->pageserver, sizeof s->pageserver, "%s/pageserver", s->dir);
    s->store = (struct loch_store){.env = s->env,
                                   .objstore = s->objstore,
                                   .dir = s->pageserver,
                                   .node = o.node,
                                   .cache = s->cache,
                                   .frames = s->frames,
                                   .open_layer_bytes = (size_t)64 << 20};
    *state = s;
    return 0;
}

static inline int site_down(void **state)
{
    struct site *s = *state;
    char command[128];
    loch_keys_destroy(s->keys);
    loch_page_cache_destroy(s->cache);
    loch_frame_cache_destroy(s->frames);
    loch_objstore_close(s->objstore);
    loch_env_real_destroy(s->env);
    loch_kms_close(s->kms);
    snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    assert_int_equal(system(command), 0);
    free(s);
    return 0;
}

/* A fresh timeline that begins at `start`; parent NULL: a root. Not committed. */
static inline struct loch_timeline *site_timeline(struct site *s, loch_lsn start,
                                                  struct loch_timeline *parent)
{
    struct loch_timeline *t = NULL;
    struct loch_timeline_info info = {.tenant = s->tenant,
                                      .system_id = 7,
                                      .pg_version = 150000,
                                      .segment_bytes = 16u << 20,
                                      .start_lsn = start};
    assert_ok(loch_random_id(&info.timeline));
    if (parent != NULL) {
        info.ancestor = loch_timeline_info(parent)->timeline;
        info.ancestor_lsn = start;
    }
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &info.timeline));
    assert_ok(loch_timeline_create(&s->store, s->keys, &info, parent, &t));
    return t;
}

static inline struct loch_timeline *site_reopen(struct site *s, struct loch_timeline *t,
                                                struct loch_timeline *parent)
{
    struct loch_id id = loch_timeline_info(t)->timeline;
    struct loch_timeline *again = NULL;
    loch_timeline_release(t);
    loch_page_cache_drop(s->cache, &s->tenant, &id);
    assert_ok(loch_timeline_open(&s->store, s->keys, &s->tenant, &id, parent, &again));
    return again;
}

static inline struct loch_key page_key(uint32_t block)
{
    return (struct loch_key){
        .kind = LOCH_KEY_PAGE, .spc = 1663, .db = 5, .rel = 100, .block = block};
}

static inline void mem_put(struct loch_mem_layer *layer, const struct loch_key *key, loch_lsn lsn,
                           enum loch_version_kind kind, const char *text)
{
    struct loch_version v = {
        .lsn = lsn, .start_lsn = lsn - 1, .kind = kind, .bytes = loch_slice_of(text, strlen(text))};
    assert_ok(loch_mem_layer_put(layer, key, NULL, 1, &v));
}

#endif
