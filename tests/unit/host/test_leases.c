/* Leases with the real loop, store and file provider: the CMK is taken away, black-holed, given
 * back; and what keys.h does under a permit and a block. */
#include "../unit.h"

#include "loch/base/buf.h"
#include "loch/base/id_map.h"
#include "loch/crypto/random.h"
#include "loch/host/audit.h"
#include "loch/host/keys.h"
#include "loch/host/leases.h"
#include "loch/kms/kms.h"
#include "loch/objstore/objstore.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct loch_id none;

#define LIMIT_NS UINT64_C(120000000000)

struct site {
    char dir[64];
    char kms_dir[96], away[112], cmk[128], cmk_away[144];
    struct loch_env *env;
    struct loch_objstore *store;
    struct loch_kms *kms;
    struct loch_keys *keys;
    struct loch_metrics *metrics;
    struct loch_leases *leases;
    struct loch_audit *audit;
    struct loch_lease_settings settings;
    struct loch_id cluster, node, tenant, timeline;
    struct loch_id branch, dark_branch, lit_branch; /* the branch with a CMK; who was told last */
    int darkened, lit, looks;
    uint64_t idle_ms;
    bool busy;
    int64_t mark;
    enum loch_code code;
    bool (*until)(struct site *s);
    uint64_t deadline_ns;
};

/* A lease that no test waits for the end of: however long the machine rests, what is held stays. */
static const struct loch_lease_settings quick = {
    .poll_ms = 50, .lease_ms = 600000, .grace_ms = 300, .settle_ms = 150};
/* For an outage, which shows at the end of the grace. */
static const struct loch_lease_settings brief = {
    .poll_ms = 50, .lease_ms = 200, .grace_ms = 300, .settle_ms = 150};

static int site_up_with(void **state, const struct loch_lease_settings *settings)
{
    struct site *s = calloc(1, sizeof *s);
    char path[160];

    assert_non_null(s);
    s->settings = *settings;
    (void)snprintf(s->dir, sizeof s->dir, "/tmp/loch-test-leases-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    (void)snprintf(s->kms_dir, sizeof s->kms_dir, "%s/kms", s->dir);
    (void)snprintf(s->away, sizeof s->away, "%s/kms.away", s->dir);
    (void)snprintf(s->cmk, sizeof s->cmk, "%s/cmk.key", s->kms_dir);
    (void)snprintf(s->cmk_away, sizeof s->cmk_away, "%s.away", s->cmk);
    assert_int_equal(mkdir(s->kms_dir, 0700), 0);
    assert_ok(loch_kms_file_create(s->cmk));
    (void)snprintf(path, sizeof path, "file:%s", s->cmk);
    assert_ok(loch_kms_open(path, NULL, &s->kms));
    assert_ok(loch_env_real_create(&s->env));
    (void)snprintf(path, sizeof path, "%s/store", s->dir);
    assert_ok(loch_objstore_open_local(s->env, path, &s->store));
    assert_ok(loch_metrics_create("test", &s->metrics));
    assert_ok(loch_random_id(&s->cluster));
    assert_ok(loch_random_id(&s->node));
    assert_ok(loch_random_id(&s->tenant));
    assert_ok(loch_random_id(&s->timeline));
    const struct loch_keys_options o = {.store = s->store,
                                        .kms = s->kms,
                                        .cluster = s->cluster,
                                        .node = s->node,
                                        .role = LOCH_ROLE_PAGESERVER,
                                        .env = s->env,
                                        .lease_ms = settings->lease_ms};
    assert_ok(loch_keys_create(&o, &s->keys));
    *state = s;
    return 0;
}

static int site_up(void **state)
{
    return site_up_with(state, &quick);
}

static int site_up_briefly(void **state)
{
    return site_up_with(state, &brief);
}

static int site_down(void **state)
{
    struct site *s = *state;
    char command[128];

    assert_true(loch_leases_destroy(s->leases));
    loch_audit_close(s->audit);
    loch_keys_destroy(s->keys);
    loch_metrics_destroy(s->metrics);
    loch_objstore_close(s->store);
    loch_env_real_destroy(s->env);
    loch_kms_close(s->kms);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    assert_int_equal(system(command), 0);
    free(s);
    return 0;
}

static void on_dark(void *arg, const struct loch_id *tenant, const struct loch_id *branch,
                    enum loch_code code, const char *why)
{
    struct site *s = arg;

    assert_true(loch_id_equal(tenant, &s->tenant));
    assert_true(strlen(why) > 0);
    s->darkened++;
    s->code = code;
    s->dark_branch = *branch;
    /* The keys are gone before anybody is told. */
    assert_code(loch_keys_usable(s->keys, tenant, loch_id_is_none(branch) ? NULL : branch), code);
    loch_leases_wiped(s->leases, tenant, branch);
}

static void on_light(void *arg, const struct loch_id *tenant, const struct loch_id *branch)
{
    struct site *s = arg;

    assert_true(loch_id_equal(tenant, &s->tenant));
    s->lit_branch = *branch;
    if (s->lit++ == 0)
        loch_leases_relight(s->leases, tenant, branch); /* not now: it comes again */
}

static bool is_busy(void *arg, const struct loch_id *tenant)
{
    const struct site *s = arg;

    assert_true(loch_id_equal(tenant, &s->tenant));
    return s->busy;
}

static void keep(struct site *s)
{
    const struct loch_leases_options o = {.env = s->env,
                                          .keys = s->keys,
                                          .metrics = s->metrics,
                                          .audit = s->audit,
                                          .settings = s->settings,
                                          .idle_ms = s->idle_ms,
                                          .busy = is_busy,
                                          .dark = on_dark,
                                          .light = on_light,
                                          .arg = s};
    assert_ok(loch_leases_create(&o, &s->leases));
}

static void look(void *arg)
{
    struct site *s = arg;
    struct loch_timer *timer;

    if (s->until(s)) {
        loch_env_stop(s->env);
        return;
    }
    assert_true(loch_env_now_ns(s->env) < s->deadline_ns);
    assert_ok(loch_env_timer(s->env, 5, &timer, look, s));
}

static void run_until(struct site *s, bool (*until)(struct site *s))
{
    struct loch_timer *timer;

    s->until = until;
    s->deadline_ns = loch_env_now_ns(s->env) + LIMIT_NS;
    assert_ok(loch_env_timer(s->env, 1, &timer, look, s));
    loch_env_run(s->env);
}

static int64_t granted(const struct site *s)
{
    struct loch_label label = {"answer", "granted"};
    return loch_metric_value(
        loch_metrics_counter(s->metrics, "loch_kms_decrypts_total", "", &label, 1));
}

static bool polled(struct site *s)
{
    return granted(s) >= 5;
}
static bool went_dark(struct site *s)
{
    return s->darkened == 1;
}
static bool came_back_twice(struct site *s)
{
    return s->lit >= 2;
}

static void expect_open(struct site *s, bool open)
{
    struct loch_wrap_key key = {0};
    const loch_status st =
        loch_keys_wrap_key(s->keys, &s->tenant, &s->timeline, LOCH_PURPOSE_PAGE, &key);

    assert_int_equal(loch_is_ok(st), open);
    assert_int_equal(loch_keys_has(s->keys, &s->tenant, &s->timeline), open);
    if (open) {
        struct loch_secret found = {0};
        struct loch_key_source source = loch_keys_source(s->keys);
        const struct loch_place place = {
            .kind = LOCH_KIND_LAYER, .tenant = s->tenant, .timeline = s->timeline};
        assert_ok(source.find(source.arg, &place, &key.key_id, key.version, &found));
        loch_secret_fini(&found);
    }
    loch_wrap_key_fini(&key);
}

static bool is_open(struct site *s)
{
    struct loch_wrap_key key = {0};
    const loch_status st =
        loch_keys_wrap_key(s->keys, &s->tenant, &s->timeline, LOCH_PURPOSE_PAGE, &key);

    loch_wrap_key_fini(&key);
    return loch_is_ok(st);
}

static void create(struct site *s)
{
    assert_ok(loch_keys_tenant_create(s->keys, &s->tenant));
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &s->timeline));
}

static void renewed_denied_and_restored(void **state)
{
    struct site *s = *state;

    create(s);
    keep(s);
    run_until(s, polled);
    assert_int_equal(s->darkened, 0);
    expect_open(s, true);

    assert_int_equal(rename(s->cmk, s->cmk_away), 0);
    run_until(s, went_dark);
    assert_int_equal(s->code, LOCH_E_KEY_REVOKED);
    expect_open(s, false);
    assert_code(loch_keys_tenant_load(s->keys, &s->tenant), LOCH_E_KEY_REVOKED);
    assert_code(loch_keys_add_timeline(s->keys, &s->tenant, &s->node), LOCH_E_KEY_REVOKED);

    assert_int_equal(rename(s->cmk_away, s->cmk), 0);
    run_until(s, came_back_twice);
    assert_int_equal(s->darkened, 1);
    expect_open(s, true);
    assert_ok(loch_keys_usable(s->keys, &s->tenant, NULL));
}

static void an_outage_is_told_apart(void **state)
{
    struct site *s = *state;

    create(s);
    keep(s);
    assert_int_equal(rename(s->kms_dir, s->away), 0);
    run_until(s, went_dark);
    assert_int_equal(s->code, LOCH_E_KMS_UNAVAILABLE);
    expect_open(s, false);
    assert_int_equal(rename(s->away, s->kms_dir), 0);
    run_until(s, came_back_twice);
    run_until(s, is_open); /* as often as a lease of 200 ms ends meanwhile */
}

static void a_start_without_the_cmk_is_closed_and_recovers(void **state)
{
    struct site *s = *state;

    create(s);
    loch_keys_tenant_drop(s->keys, &s->tenant);
    assert_int_equal(rename(s->kms_dir, s->away), 0);
    assert_code(loch_keys_tenant_load(s->keys, &s->tenant), LOCH_E_UNAVAILABLE);
    assert_code(loch_keys_usable(s->keys, &s->tenant, NULL), LOCH_E_KMS_UNAVAILABLE);
    keep(s);
    assert_int_equal(rename(s->away, s->kms_dir), 0);
    run_until(s, came_back_twice);
    assert_int_equal(s->darkened, 0); /* there was nothing to wipe */
    expect_open(s, true);
}

static bool dark_twice(struct site *s)
{
    return s->darkened == 2;
}
static bool lit_again(struct site *s)
{
    return s->lit > 0 && loch_id_equal(&s->lit_branch, &s->branch) &&
           loch_keys_has(s->keys, &s->tenant, &s->branch);
}

/* The CMK of the branch, in s->dir/branch.key. */
static void pin_branch(struct site *s, char cmk[static 128])
{
    char uri[140], pins[128];

    (void)snprintf(cmk, 128, "%s/branch.key", s->dir);
    (void)snprintf(pins, sizeof pins, "%s/pins", s->dir);
    (void)snprintf(uri, sizeof uri, "file:%s", cmk);
    assert_ok(loch_kms_file_create(cmk));
    assert_ok(loch_kms_pins_open(s->kms, s->env, pins));
    assert_ok(loch_kms_pin(s->kms, &s->branch, uri));
}

/* A branch with a CMK of its own, and its child. */
static void create_branch(struct site *s, char cmk[static 128], struct loch_id *child)
{
    create(s);
    assert_ok(loch_random_id(&s->branch));
    assert_ok(loch_random_id(child));
    pin_branch(s, cmk);
    assert_ok(loch_keys_add_locked(s->keys, &s->tenant, &s->branch, &s->branch));
    assert_ok(loch_keys_add_locked(s->keys, &s->tenant, child, &s->branch));
}

static void a_branch_goes_dark_alone(void **state)
{
    struct site *s = *state;
    char cmk[128], away[140];
    struct loch_id child;

    create_branch(s, cmk, &child);
    (void)snprintf(away, sizeof away, "%s.away", cmk);
    keep(s);
    run_until(s, polled);
    assert_int_equal(rename(cmk, away), 0);
    run_until(s, went_dark);
    assert_int_equal(s->code, LOCH_E_KEY_REVOKED);
    assert_true(loch_id_equal(&s->dark_branch, &s->branch));
    assert_false(loch_keys_has(s->keys, &s->tenant, &child));
    assert_code(loch_keys_usable(s->keys, &s->tenant, &child), LOCH_E_KEY_REVOKED);
    assert_ok(loch_keys_usable(s->keys, &s->tenant, &s->timeline));
    expect_open(s, true);
    assert_ok(loch_keys_tenant_load(s->keys, &s->tenant)); /* lifts no block */
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &s->node));
    s->mark = granted(s);
    assert_code(loch_keys_usable(s->keys, &s->tenant, &s->branch), LOCH_E_KEY_REVOKED);

    assert_int_equal(rename(away, cmk), 0);
    run_until(s, lit_again);
    assert_true(loch_id_equal(&s->lit_branch, &s->branch));
    assert_ok(loch_keys_usable(s->keys, &s->tenant, &child));
    assert_int_equal(s->darkened, 1);

    /* With the tenant everything goes, and comes back; the branch by its own lease. */
    s->lit = 0;
    assert_int_equal(rename(s->cmk, s->cmk_away), 0);
    run_until(s, dark_twice);
    assert_true(loch_id_is_none(&s->dark_branch));
    assert_code(loch_keys_usable(s->keys, &s->tenant, &s->branch), LOCH_E_KEY_REVOKED);
    assert_int_equal(rename(s->cmk_away, s->cmk), 0);
    run_until(s, lit_again);
    assert_true(loch_id_equal(&s->lit_branch, &s->branch));
    assert_ok(loch_keys_usable(s->keys, &s->tenant, &child));
    expect_open(s, true);
}

/* A keyring is read without its branches' CMKs: a slow one, or one that is away, delays nobody. */
static void a_load_asks_no_branch(void **state)
{
    struct site *s = *state;
    char cmk[128], away[140];
    struct loch_id child;
    struct loch_wrap_key key = {0};

    create_branch(s, cmk, &child);
    (void)snprintf(away, sizeof away, "%s.away", cmk);
    loch_keys_tenant_drop(s->keys, &s->tenant); /* as at a start */
    assert_int_equal(rename(cmk, away), 0);
    assert_ok(loch_keys_tenant_load(s->keys, &s->tenant));
    expect_open(s, true);
    assert_int_equal(rename(away, cmk), 0);
    assert_ok(loch_keys_tenant_load(s->keys, &s->tenant));
    assert_code(loch_keys_usable(s->keys, &s->tenant, &child), LOCH_E_KMS_UNAVAILABLE);
    assert_code(loch_keys_wrap_key(s->keys, &s->tenant, &child, LOCH_PURPOSE_WAL, &key),
                LOCH_E_KMS_UNAVAILABLE);
    assert_false(loch_keys_has(s->keys, &s->tenant, &s->branch));
    assert_code(loch_keys_timeline_open(s->keys, &s->tenant, &s->branch), LOCH_E_KMS_UNAVAILABLE);

    keep(s); /* the branch's own lease asks, and opens it */
    run_until(s, lit_again);
    assert_ok(loch_keys_timeline_open(s->keys, &s->tenant, &child));
    assert_int_equal(s->darkened, 0);

    /* What is open stays so when the keyring is read again, whatever its CMK says by then. */
    assert_int_equal(rename(cmk, away), 0);
    assert_ok(loch_keys_tenant_load(s->keys, &s->tenant));
    assert_ok(loch_keys_timeline_open(s->keys, &s->tenant, &child));
    run_until(s, went_dark);
    assert_true(loch_id_equal(&s->dark_branch, &s->branch));
    assert_code(loch_keys_open_lock(s->keys, &s->tenant, &child), LOCH_E_OK); /* a denial stays */
    assert_code(loch_keys_timeline_open(s->keys, &s->tenant, &child), LOCH_E_KEY_REVOKED);
}

static bool out(struct site *s)
{
    struct loch_keys_permit_view *views = NULL;
    size_t n = 0;
    bool is = false;

    assert_ok(loch_keys_permits(s->keys, &views, &n));
    for (size_t i = 0; i < n; i++)
        is = is || (loch_id_equal(&views[i].branch, &s->branch) && !views[i].unasked &&
                    views[i].block == LOCH_E_KMS_UNAVAILABLE);
    free(views);
    return is;
}

static bool is_polled_since(struct site *s)
{
    return granted(s) > s->mark + 2;
}

/* Who makes something below a branch's CMK opens it and does not wait for its lease, which has it
 * from then on. */
static void a_lock_that_is_opened_by_hand(void **state)
{
    struct site *s = *state;
    char cmk[128], dir[140], away[150];
    struct loch_id child;

    create_branch(s, cmk, &child);
    (void)snprintf(dir, sizeof dir, "%s", s->kms_dir);
    loch_keys_tenant_drop(s->keys, &s->tenant);
    assert_ok(loch_kms_unpin(s->kms, &s->branch, NULL)); /* as on a daemon that is told later */
    assert_ok(loch_keys_tenant_load(s->keys, &s->tenant));
    keep(s);
    run_until(s, out);
    (void)snprintf(dir, sizeof dir, "file:%s", cmk);
    assert_ok(loch_kms_pin(s->kms, &s->branch, dir));
    assert_ok(loch_keys_open_lock(s->keys, &s->tenant, &child));
    assert_ok(loch_keys_timeline_open(s->keys, &s->tenant, &child));
    s->mark = granted(s);
    run_until(s, is_polled_since);
    assert_ok(loch_keys_timeline_open(s->keys, &s->tenant, &child));
    (void)snprintf(away, sizeof away, "%s.away", cmk);
    assert_int_equal(rename(cmk, away), 0);
    run_until(s, went_dark);
    assert_true(loch_id_equal(&s->dark_branch, &s->branch));
    assert_false(loch_keys_has(s->keys, &s->tenant, &child));
}

static void *load(void *arg)
{
    struct site *s = arg;

    assert_false(loch_is_ok(loch_keys_tenant_load(s->keys, &s->tenant)));
    return NULL;
}

static void see_wiped(void *arg, const struct loch_audit_record *record)
{
    if (strcmp(record->event, "wiped") == 0)
        ++*(int *)arg;
}

static int wipes(const struct site *s)
{
    struct loch_audit_summary sum;
    int n = 0;

    assert_ok(loch_audit_verify(s->dir, see_wiped, &n, &sum));
    return n;
}

static bool looked_on(struct site *s)
{
    return ++s->looks >= 20;
}
static bool has_wiped(struct site *s)
{
    return wipes(s) == 1;
}

/* A load that began before the denial may hold what it has opened so far: nothing is wiped before
 * it has ended. */
static void a_load_under_way_is_waited_for(void **state)
{
    struct site *s = *state;
    char id[LOCH_ID_TEXT_BYTES], ring[200];
    pthread_t loader;

    assert_ok(loch_audit_open(s->dir, "test", &s->node, &s->audit));
    assert_ok(loch_keys_tenant_create(s->keys, &s->tenant));
    keep(s);
    s->mark = granted(s);
    run_until(s, is_polled_since);

    /* A store that does not answer. */
    (void)snprintf(ring, sizeof ring, "%s/store/tenants/%s/keyring", s->dir,
                   loch_id_format(&s->tenant, id));
    assert_int_equal(unlink(ring), 0);
    assert_int_equal(mkfifo(ring, 0600), 0);
    assert_int_equal(pthread_create(&loader, NULL, load, s), 0);
    while (!loch_keys_at_work(s->keys, &s->tenant, &none))
        (void)sched_yield();
    assert_true(loch_keys_at_work(s->keys, &s->tenant, &s->timeline)); /* any branch's, too */
    assert_false(loch_keys_at_work(s->keys, &s->timeline, &none));

    assert_int_equal(rename(s->cmk, s->cmk_away), 0);
    run_until(s, went_dark);
    assert_int_equal(wipes(s), 0);
    run_until(s, looked_on);
    assert_int_equal(wipes(s), 0);

    const int answer = open(ring, O_RDWR | O_CLOEXEC); /* to whoever reads it from now on */
    assert_true(answer >= 0);
    assert_int_equal(pthread_join(loader, NULL), 0);
    assert_false(loch_keys_at_work(s->keys, &s->tenant, &none));
    run_until(s, has_wiped);
    assert_true(loch_leases_destroy(s->leases)); /* its probes may read, too */
    s->leases = NULL;
    (void)close(answer);
}

/* Who comes with a later epoch than is known has it from a daemon that is further. */
static void behind_a_client(struct site *s, const struct loch_psk_identity *known)
{
    struct loch_psk_identity later = *known;
    struct loch_secret psk = {0};

    assert_false(loch_keys_behind(s->keys, &s->tenant, &none));
    later.wire_epoch++;
    assert_code(loch_keys_psk(s->keys, &later, &psk), LOCH_E_NOT_FOUND);
    assert_true(loch_keys_behind(s->keys, &s->tenant, &none));
    assert_false(loch_keys_behind(s->keys, &s->tenant, &none)); /* said once */
}

static bool polled_on(struct site *s)
{
    return granted(s) >= s->mark + 10;
}
static bool revoked(struct site *s)
{
    return loch_keys_usable(s->keys, &s->tenant, NULL).code == LOCH_E_KEY_REVOKED;
}

static void unused_keys_are_put_to_sleep(void **state)
{
    struct site *s = *state;
    struct loch_psk_identity id = {.version = 1,
                                   .rights = LOCH_RIGHT_PAGES,
                                   .compute_epoch = 1,
                                   .timeline = s->timeline,
                                   .client_boot = s->node,
                                   .cluster = s->cluster,
                                   .tenant = s->tenant,
                                   .client_role = LOCH_ROLE_COMPUTE,
                                   .client_id = s->timeline,
                                   .server_role = LOCH_ROLE_PAGESERVER,
                                   .server_node = s->node};
    struct loch_secret psk = {0};
    struct loch_buf identity = {0};

    create(s);
    assert_ok(loch_keys_psk(s->keys, &id, &psk));
    loch_secret_fini(&psk);
    assert_ok(loch_psk_identity_encode(&id, &identity));
    s->idle_ms = 200;
    s->busy = true;
    keep(s);
    s->mark = granted(s); /* ten polls: more than twice the idle time */
    run_until(s, polled_on);
    assert_int_equal(s->darkened, 0);

    s->busy = false;
    run_until(s, went_dark);
    assert_int_equal(s->code, LOCH_E_KMS_UNAVAILABLE);
    assert_true(loch_keys_asleep(s->keys, &s->tenant));
    assert_false(loch_keys_wanted(s->keys, &s->tenant));
    expect_open(s, false); /* which alone is no reason to wake */
    assert_false(loch_keys_wanted(s->keys, &s->tenant));
    assert_false(loch_keys_psk_lookup(s->keys, loch_buf_slice(&identity), &psk));
    assert_true(loch_keys_wanted(s->keys, &s->tenant));
    assert_false(loch_keys_wanted(s->keys, &s->tenant)); /* said once */
    assert_false(loch_keys_psk_lookup(s->keys, loch_buf_slice(&identity), &psk));
    run_until(s, came_back_twice);
    assert_false(loch_keys_asleep(s->keys, &s->tenant));
    expect_open(s, true);
    assert_true(loch_keys_psk_lookup(s->keys, loch_buf_slice(&identity), &psk));
    loch_secret_fini(&psk);
    assert_ok(loch_keys_psk(s->keys, &id, &psk));
    loch_secret_fini(&psk);
    assert_false(loch_keys_wanted(s->keys, &s->tenant)); /* neither keeps them awake */
    behind_a_client(s, &id);

    /* Asleep once more, and denied when it is wanted; a safekeeper wants them too. */
    s->darkened = 0;
    run_until(s, went_dark);
    assert_code(loch_keys_psk(s->keys, &id, &psk), LOCH_E_KMS_UNAVAILABLE); /* a client of ours */
    assert_false(loch_keys_wanted(s->keys, &s->tenant));
    loch_buf_fini(&identity);
    id.client_role = LOCH_ROLE_SAFEKEEPER;
    assert_ok(loch_psk_identity_encode(&id, &identity));
    assert_false(loch_keys_psk_lookup(s->keys, loch_buf_slice(&identity), &psk));
    assert_true(loch_keys_wanted(s->keys, &s->tenant));
    loch_buf_fini(&identity);
    assert_int_equal(rename(s->cmk, s->cmk_away), 0);
    loch_keys_want(s->keys, &s->tenant);
    run_until(s, revoked);
    assert_false(loch_keys_asleep(s->keys, &s->tenant));
    expect_open(s, false);
    s->lit = 0;
    s->busy = true;
    assert_int_equal(rename(s->cmk_away, s->cmk), 0);
    run_until(s, came_back_twice);
    expect_open(s, true);
}

static void sleep_is_a_block_that_remembers_who_wants(void **state)
{
    struct site *s = *state;
    uint64_t started_ns = 0;

    create(s);
    loch_keys_want(s->keys, &s->tenant); /* which keeps it awake */
    assert_true(loch_keys_wanted(s->keys, &s->tenant));
    loch_keys_want(s->keys, &s->node); /* nobody we know */
    assert_false(loch_keys_wanted(s->keys, &s->node));
    loch_keys_want(s->keys, &s->tenant);
    assert_false(loch_keys_asleep(s->keys, &s->tenant));
    loch_keys_sleep(s->keys, &s->tenant);
    assert_true(loch_keys_asleep(s->keys, &s->tenant));
    assert_false(loch_keys_wanted(s->keys, &s->tenant));
    assert_code(loch_keys_tenant_load(s->keys, &s->tenant), LOCH_E_KMS_UNAVAILABLE);
    expect_open(s, false);
    loch_keys_want(s->keys, &s->tenant);
    loch_keys_block(s->keys, &s->tenant, &none, LOCH_E_KEY_REVOKED, "a test says so");
    assert_false(loch_keys_asleep(s->keys, &s->tenant));
    assert_false(loch_keys_wanted(s->keys, &s->tenant));
    loch_keys_sleep(s->keys, &s->tenant);
    assert_ok(loch_keys_restore(s->keys, &s->tenant, &none, &started_ns));
    assert_false(loch_keys_asleep(s->keys, &s->tenant));
    expect_open(s, true);
}

static void permits_and_blocks(void **state)
{
    struct site *s = *state;
    struct loch_keys_permit_view *views = NULL;
    size_t count = 0;
    uint64_t started_ns = 0;

    create(s);
    assert_ok(loch_keys_permits(s->keys, &views, &count));
    assert_int_equal(count, 1);
    assert_true(views[0].granted_ns > 0);
    assert_true(views[0].until_ns > views[0].granted_ns);
    free(views);
    assert_ok(loch_keys_prove(s->keys, &s->tenant, &none));
    assert_ok(loch_keys_usable(s->keys, &s->node, NULL)); /* nobody we know */

    loch_keys_permit(s->keys, &s->tenant, &none, loch_env_now_ns(s->env));
    assert_code(loch_keys_usable(s->keys, &s->tenant, NULL), LOCH_E_KMS_UNAVAILABLE);
    struct loch_wrap_key key = {0};
    assert_code(loch_keys_wrap_key(s->keys, &s->tenant, &s->timeline, LOCH_PURPOSE_WAL, &key),
                LOCH_E_KMS_UNAVAILABLE);
    loch_keys_permit(s->keys, &s->tenant, &none, loch_env_now_ns(s->env) + LIMIT_NS);
    expect_open(s, true);

    loch_keys_block(s->keys, &s->tenant, &none, LOCH_E_KEY_REVOKED, "a test says so");
    assert_code(loch_keys_usable(s->keys, &s->tenant, NULL), LOCH_E_KEY_REVOKED);
    assert_string_equal(loch_error_text(), "a test says so");
    loch_keys_permit(s->keys, &s->tenant, &none, UINT64_MAX - 1); /* lifts no block */
    expect_open(s, false);
    assert_ok(loch_keys_restore(s->keys, &s->tenant, &none, &started_ns));
    assert_true(started_ns > 0);
    expect_open(s, true);
    loch_keys_tenant_drop(s->keys, &s->tenant);
    assert_ok(loch_keys_permits(s->keys, &views, &count));
    assert_int_equal(count, 0);
    free(views);
}

/* Whoever may choose ids makes a tenant whose place among the permits is a branch's, or the other
 * way round: the second gets none, and keys without a permit are not used. */
static void keys_without_a_lease_are_not_used(void **state)
{
    struct site *s = *state;
    struct loch_wrap_key key = {0};
    char cmk[128];

    create(s);
    assert_ok(loch_random_id(&s->branch));
    const struct loch_id alike = loch_id_within(&s->tenant, &s->branch);
    assert_ok(loch_keys_tenant_create(s->keys, &alike));
    assert_ok(loch_keys_add_timeline(s->keys, &alike, &s->timeline));
    pin_branch(s, cmk);
    assert_false(loch_is_ok(loch_keys_add_locked(s->keys, &s->tenant, &s->branch, &s->branch)));
    assert_code(loch_keys_usable(s->keys, &s->tenant, &s->branch), LOCH_E_KMS_UNAVAILABLE);
    assert_code(loch_keys_wrap_key(s->keys, &s->tenant, &s->branch, LOCH_PURPOSE_PAGE, &key),
                LOCH_E_KMS_UNAVAILABLE);
    /* Nobody else has lost anything. */
    expect_open(s, true);
    assert_ok(loch_keys_wrap_key(s->keys, &alike, &s->timeline, LOCH_PURPOSE_PAGE, &key));
    loch_wrap_key_fini(&key);

    loch_keys_tenant_drop(s->keys, &alike);
    assert_ok(loch_keys_tenant_load(s->keys, &s->tenant)); /* now there is a place for it */
    assert_ok(loch_keys_open_lock(s->keys, &s->tenant, &s->branch));
    assert_ok(loch_keys_usable(s->keys, &s->tenant, &s->branch));
    assert_false(loch_is_ok(loch_keys_tenant_load(s->keys, &alike)));
    assert_code(loch_keys_usable(s->keys, &alike, NULL), LOCH_E_KMS_UNAVAILABLE);
    assert_code(loch_keys_wrap_key(s->keys, &alike, &s->timeline, LOCH_PURPOSE_PAGE, &key),
                LOCH_E_KMS_UNAVAILABLE);
    assert_ok(loch_keys_usable(s->keys, &s->tenant, &s->branch));
}

int main(void)
{
#define SITE(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)
    const struct CMUnitTest tests[] = {
        SITE(renewed_denied_and_restored),
        cmocka_unit_test_setup_teardown(an_outage_is_told_apart, site_up_briefly, site_down),
        SITE(a_branch_goes_dark_alone),
        SITE(a_load_asks_no_branch),
        SITE(a_lock_that_is_opened_by_hand),
        SITE(a_load_under_way_is_waited_for),
        SITE(a_start_without_the_cmk_is_closed_and_recovers),
        SITE(permits_and_blocks),
        SITE(keys_without_a_lease_are_not_used),
        SITE(unused_keys_are_put_to_sleep),
        SITE(sleep_is_a_block_that_remembers_who_wants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
