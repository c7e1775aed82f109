/* Keys for many timelines, so that a bench can create them on a safekeeper.
 * Usage: many_timelines STORE KEYFILE CLUSTER TENANTS TIMELINES
 * Makes the CMK file and the store; prints a line "tenant timeline" for each timeline. */
#include "loch/base/log.h"
#include "loch/crypto/random.h"
#include "loch/host/keys.h"
#include "loch/io/env.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"
#include "loch/wire/wal.h"

#include <stdio.h>
#include <stdlib.h>

#define MUST(expr_)                                                                                \
    do {                                                                                           \
        const loch_status must_st_ = (expr_);                                                      \
        if (!loch_is_ok(must_st_)) {                                                               \
            fprintf(stderr, "%s: %s\n", #expr_, loch_error_text());                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static void make_tenant(struct loch_keys *keys, unsigned long timelines)
{
    struct loch_id tenant;
    struct loch_id timeline;
    char text[2][LOCH_ID_TEXT_BYTES];

    MUST(loch_random_id(&tenant));
    MUST(loch_keys_tenant_create(keys, &tenant));
    MUST(loch_keys_tenant_load(keys, &tenant));
    for (unsigned long i = 0; i < timelines; i++) {
        MUST(loch_random_id(&timeline));
        MUST(loch_keys_add_timeline(keys, &tenant, &timeline));
        printf("%s %s\n", loch_id_format(&tenant, text[0]), loch_id_format(&timeline, text[1]));
    }
}

int main(int argc, char **argv)
{
    struct loch_env *env = NULL;
    struct loch_objstore *store = NULL;
    struct loch_kms *kms = NULL;
    struct loch_keys *keys = NULL;
    struct loch_keys_options options = {.role = LOCH_ROLE_PAGESERVER};
    char uri[600];

    if (argc != 6 || !loch_is_ok(loch_id_parse(argv[3], &options.cluster))) {
        fprintf(stderr, "usage: many_timelines STORE KEYFILE CLUSTER TENANTS TIMELINES\n");
        return 2;
    }
    loch_log_init("many_timelines", LOCH_LOG_WARN);
    (void)snprintf(uri, sizeof uri, "file:%s", argv[2]);
    MUST(loch_env_real_create(&env));
    MUST(loch_kms_file_create(argv[2]));
    MUST(loch_objstore_open_local(env, argv[1], &store));
    MUST(loch_kms_open(uri, NULL, &kms));
    options.store = store;
    options.kms = kms;
    MUST(loch_keys_create(&options, &keys));
    for (unsigned long t = strtoul(argv[4], NULL, 10); t > 0; t--)
        make_tenant(keys, strtoul(argv[5], NULL, 10));
    loch_keys_destroy(keys);
    loch_kms_close(kms);
    loch_objstore_close(store);
    loch_env_real_destroy(env);
    return 0;
}
