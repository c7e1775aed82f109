/* Holds: the hands of the lease machine: one entry a tenant, a thread for each Decrypt under way.
 * Invariant: a thread touches only `keys` and its own probe; everything else is the loop's. */
#include "loch/host/leases.h"
#include "loch/base/check.h"
#include "loch/base/id_map.h"
#include "loch/base/log.h"
#include "loch/base/stack.h"
#include "loch/base/time.h"
#include "loch/host/audit.h"
#include "loch/io/env.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREAD_STACK_BYTES (512u << 10)
#define NS_PER_MS          UINT64_C(1000000)
#define RELIGHT_NS         UINT64_C(1000000000)
#define LOOKS_PER_IDLE     16u
#define END_TRIES          200
#define END_PAUSE_US       10000
#define BRANCH_WORDS_BYTES (LOCH_ID_TEXT_BYTES + 8u)

struct entry {
    struct loch_id tenant;
    struct loch_id branch; /* whose CMK it is; none: the tenant's */
    bool ended;            /* with its tenant's: goes with the next look at the list */
    struct loch_lease lease;
    char cause[LOCH_KEYS_WHY_BYTES]; /* of the state, or why nobody answers */
    int64_t since_us, wiped_us;      /* wall clock; 0: not yet */
    uint64_t relight_ns;             /* 0: not wanted */
    uint64_t used_ns, look_ns;       /* HELD: when it was busy last, when to look again */
    uint64_t decrypts;
    bool seen;
    uint64_t serial; /* a probe is of this entry, and not of one before it */
    bool owes;       /* it was told to go dark, and has not said that all is wiped */
    bool swept;      /* but for loads of its keys that are under way, it is */
    struct loch_metric *m_state, *m_versions; /* m_versions: of a tenant's entry */
};

struct loch_leases {
    struct loch_leases_options o;
    struct entry **entries;
    size_t count, cap;
    struct loch_id_map map; /* the same by tenant and branch */
    struct loch_timer *timer;
    uint64_t tick_ms;
    uint64_t serials;
    uint64_t changes;     /* of the keys, when versions were counted last */
    struct probe *probes; /* under way */
    atomic_uint threads;  /* that may still touch us */
    struct loch_metric *m_granted, *m_denied, *m_silent;
};

struct probe {
    struct probe *next, **prev; /* in the list of those under way */
    struct loch_leases *leases;
    struct loch_id tenant, branch;
    bool restore;
    uint64_t serial;
    uint64_t started_ns;
    enum loch_code code;
    char text[LOCH_KEYS_WHY_BYTES];
};

loch_status loch_lease_settings_read(const struct loch_config *config,
                                     struct loch_lease_settings *out)
{
    const struct loch_lease_settings s = {
        .poll_ms = loch_config_u64(config, "kms", "poll"),
        .lease_ms = loch_config_u64(config, "kms", "lease"),
        .grace_ms = loch_config_u64(config, "kms", "grace"),
        .settle_ms = loch_config_u64(config, "kms", "settle"),
    };

    LOCH_TRY(loch_lease_settings_check(&s));
    *out = s;
    return LOCH_OK;
}

static struct entry *find(const struct loch_leases *l, const struct loch_id *tenant,
                          const struct loch_id *branch)
{
    const struct loch_id id = loch_id_within(tenant, branch);
    struct entry *e = loch_id_map_get(&l->map, &id);
    const bool same = e != NULL && !e->ended && loch_id_equal(&e->tenant, tenant) &&
                      loch_id_equal(&e->branch, branch);
    return same ? e : NULL;
}

static uint64_t now_of(const struct loch_leases *l)
{
    return loch_env_now_ns(l->o.env);
}

/* ---- asking ---- */

static void carry_out(struct loch_leases *l, struct entry *e, unsigned effects);

static void probe_free(struct probe *p)
{
    *p->prev = p->next;
    if (p->next != NULL)
        p->next->prev = p->prev;
    free(p);
}

static void probe_done(void *arg)
{
    struct probe *p = arg;
    struct loch_leases *l = p->leases;
    struct entry *e = find(l, &p->tenant, &p->branch);
    const uint64_t now_ns = now_of(l);
    const enum loch_lease_answer answer = p->code == LOCH_E_OK       ? LOCH_KMS_GRANTED
                                          : p->code == LOCH_E_DENIED ? LOCH_KMS_DENIED
                                                                     : LOCH_KMS_SILENT;
    const bool slept = e != NULL && e->lease.state == LOCH_LEASE_ASLEEP && p->restore;
    unsigned effects;

    if (e == NULL || e->serial != p->serial || l->timer == NULL) { /* dropped, or we are stopped */
        probe_free(p);
        return;
    }
    if (p->restore) {
        effects = loch_lease_restored(&e->lease, p->started_ns, now_ns, answer);
        if (p->code == LOCH_E_OK)
            e->relight_ns = e->used_ns = now_ns;
        else
            (void)snprintf(e->cause, sizeof e->cause, "cannot be restored yet: %.200s", p->text);
    } else {
        if (p->code != LOCH_E_OK)
            memcpy(e->cause, p->text, sizeof e->cause);
        loch_metric_add(answer == LOCH_KMS_GRANTED  ? l->m_granted
                        : answer == LOCH_KMS_DENIED ? l->m_denied
                                                    : l->m_silent,
                        1);
        effects = loch_lease_answered(&e->lease, p->started_ns, now_ns, answer);
    }
    carry_out(l, e, effects);
    if (slept && e->lease.state != LOCH_LEASE_HELD) { /* it could not be woken: nothing is left */
        e->owes = true;
        e->wiped_us = 0;
        loch_leases_wiped(l, &e->tenant, &e->branch);
    }
    probe_free(p);
}

/* A keyring that a client says to be old is read again, at most once a poll, and asks no key
 * service unless there is a newer one: anybody may say so. */
static void catch_up(struct loch_keys *keys, const struct loch_id *tenant)
{
    static const struct loch_id none;

    if (loch_keys_behind(keys, tenant, &none) && loch_keys_outdated(keys, tenant) &&
        !loch_is_ok(loch_keys_tenant_load(keys, tenant)))
        loch_log_failure("a newer keyring cannot be read");
}

/* What a key service says may have line ends; rows and records have none. */
static void keep_text(char out[static LOCH_KEYS_WHY_BYTES], const char *text)
{
    (void)snprintf(out, LOCH_KEYS_WHY_BYTES, "%s", text);
    for (char *c = out; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
}

static void *ask(void *arg)
{
    struct probe *p = arg;
    struct loch_leases *l = p->leases;
    struct loch_keys *keys = l->o.keys;
    const struct loch_id tenant = p->tenant;
    const bool whole = loch_id_is_none(&p->branch), restore = p->restore;
    loch_status st = p->restore
                         ? loch_keys_restore(l->o.keys, &p->tenant, &p->branch, &p->started_ns)
                         : loch_keys_prove(l->o.keys, &p->tenant, &p->branch);

    p->code = st.code;
    if (!loch_is_ok(st))
        keep_text(p->text, loch_error_text());
    loch_env_post(l->o.env, probe_done, p); /* the answer first: reading takes time, too */
    if (loch_is_ok(st) && !restore && whole)
        catch_up(keys, &tenant);
    loch_stack_wipe(); /* the system keeps the stack for a thread to come */
    atomic_fetch_sub(&l->threads, 1);
    return NULL;
}

static loch_status start_thread(struct probe *p)
{
    pthread_attr_t attr;
    pthread_t thread;

    if (pthread_attr_init(&attr) != 0)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a thread");
    (void)pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    const int rc = pthread_create(&thread, &attr, ask, p);
    (void)pthread_attr_destroy(&attr);
    if (rc != 0)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no thread to ask the key service: %s", strerror(rc));
    return LOCH_OK;
}

static void start_probe(struct loch_leases *l, struct entry *e, bool restore)
{
    struct probe *p = calloc(1, sizeof *p);
    loch_status st = LOCH_OK;

    if (p == NULL) { /* a Decrypt counts as silence when it has lasted half a lease */
        e->lease.restoring = e->lease.restoring && !restore;
        return;
    }
    *p = (struct probe){.leases = l,
                        .tenant = e->tenant,
                        .branch = e->branch,
                        .restore = restore,
                        .serial = e->serial,
                        .started_ns = now_of(l)};
    p->next = l->probes;
    p->prev = &l->probes;
    if (p->next != NULL)
        p->next->prev = &p->next;
    l->probes = p;
    e->decrypts++;
    atomic_fetch_add(&l->threads, 1);
    st = start_thread(p);
    if (loch_is_ok(st))
        return;
    atomic_fetch_sub(&l->threads, 1);
    p->code = st.code;
    keep_text(p->text, loch_error_text());
    loch_env_post(l->o.env, probe_done, p);
}

/* ---- carrying out ---- */

/* "" or " branch <id>": of whose key a message or a record is. */
static const char *branch_words(const struct entry *e, char out[static BRANCH_WORDS_BYTES])
{
    char id[LOCH_ID_TEXT_BYTES];

    out[0] = '\0';
    if (!loch_id_is_none(&e->branch))
        (void)snprintf(out, BRANCH_WORDS_BYTES, " branch %s", loch_id_format(&e->branch, id));
    return out;
}

/* Records of a branch's key have names of their own: the tenant's is another. */
static void note(const struct loch_leases *l, const struct entry *e, const char *event,
                 const char *detail)
{
    char id[LOCH_ID_TEXT_BYTES], name[40];

    if (loch_id_is_none(&e->branch)) {
        loch_audit_note(l->o.audit, &e->tenant, event, "%s", detail);
        return;
    }
    (void)snprintf(name, sizeof name, "branch_%s", event);
    loch_audit_note(l->o.audit, &e->tenant, name, "branch %s: %s", loch_id_format(&e->branch, id),
                    detail);
}

/* `wiped`: keys that were open are wiped now. */
static void tell(const struct loch_leases *l, struct entry *e, bool wiped)
{
    static const int64_t numbers[] = {0, 1, 3, 4, 5, 6};
    char id[LOCH_ID_TEXT_BYTES], branch[BRANCH_WORDS_BYTES], detail[LOCH_KEYS_WHY_BYTES + 32];
    const struct loch_lease *lease = &e->lease;
    const bool silent = lease->state == LOCH_LEASE_HELD && lease->silent_ns != 0;

    static const char *const events[] = {"", "granted", "revoked", "outage", "asleep", "opening"};
    const char *left = wiped ? "its keys are wiped" : "nothing of it opens";
    loch_metric_set(e->m_state, silent ? 2 : numbers[lease->state]);
    if (silent && e->cause[0] == '\0')
        (void)snprintf(e->cause, sizeof e->cause, "a Decrypt is not answered");
    (void)snprintf(detail, sizeof detail, "%s%s",
                   lease->state == LOCH_LEASE_HELD ? ""
                   : wiped                         ? "keys are wiped: "
                                                   : "nothing opens: ",
                   e->cause);
    note(l, e, silent ? "grace" : events[lease->state], detail);
    (void)loch_id_format(&e->tenant, id);
    (void)branch_words(e, branch);
    if (lease->state == LOCH_LEASE_REVOKED)
        LOCH_ERROR("tenant %s%s: REVOKED: the key service denies its key (%s); %s", id, branch,
                   e->cause, left);
    else if (lease->state == LOCH_LEASE_OUTAGE && !wiped)
        LOCH_ERROR("tenant %s%s: OUTAGE: the key service is unavailable (%s); %s", id, branch,
                   e->cause, left);
    else if (lease->state == LOCH_LEASE_OUTAGE)
        LOCH_ERROR("tenant %s%s: OUTAGE: the key service is unavailable and the grace of %llu s is "
                   "over (%s); its keys are wiped",
                   id, branch, (unsigned long long)l->o.settings.grace_ms / 1000, e->cause);
    else if (lease->state == LOCH_LEASE_OPENING)
        LOCH_INFO("tenant %s%s: its key service is asked for the first time", id, branch);
    else if (lease->state == LOCH_LEASE_ASLEEP)
        LOCH_INFO("tenant %s: asleep: %s; its keys are wiped until it is", id, e->cause);
    else if (silent)
        LOCH_WARN("tenant %s%s: GRACE: the key service is unavailable (%s); served for %llu s more",
                  id, branch, e->cause, (unsigned long long)l->o.settings.grace_ms / 1000);
    else
        LOCH_INFO("tenant %s%s: the key service grants its key", id, branch);
}

/* The branches' permits have ended with their tenant's; they begin anew when it is back. */
static void end_branches(struct loch_leases *l, const struct loch_id *tenant)
{
    for (size_t i = 0; i < l->count; i++)
        if (loch_id_equal(&l->entries[i]->tenant, tenant) &&
            !loch_id_is_none(&l->entries[i]->branch))
            l->entries[i]->ended = true;
}

static void fall_asleep(struct loch_leases *l, struct entry *e)
{
    loch_keys_sleep(l->o.keys, &e->tenant);
    (void)snprintf(e->cause, sizeof e->cause, "not used for %llu s",
                   (unsigned long long)l->o.idle_ms / 1000);
    end_branches(l, &e->tenant);
    l->o.dark(l->o.arg, &e->tenant, &e->branch, LOCH_E_KMS_UNAVAILABLE,
              "asleep: not used for kms.idle");
}

static void go_dark(struct loch_leases *l, struct entry *e)
{
    const bool denied = e->lease.state == LOCH_LEASE_REVOKED;
    const enum loch_code code = denied ? LOCH_E_KEY_REVOKED : LOCH_E_KMS_UNAVAILABLE;
    char why[LOCH_KEYS_WHY_BYTES];

    (void)snprintf(why, sizeof why, "%s: %.200s",
                   denied ? "KEY_REVOKED" : "KMS_UNAVAILABLE beyond the grace", e->cause);
    loch_keys_block(l->o.keys, &e->tenant, &e->branch, code, why);
    if (loch_id_is_none(&e->branch))
        end_branches(l, &e->tenant);
    l->o.dark(l->o.arg, &e->tenant, &e->branch, code, why);
}

/* A closed state took the place of another: nothing to wipe, but the reason is another one. */
static void rename_block(struct loch_leases *l, const struct entry *e)
{
    const bool denied = e->lease.state == LOCH_LEASE_REVOKED;
    char why[LOCH_KEYS_WHY_BYTES];

    (void)snprintf(why, sizeof why, "%s: %.200s", denied ? "KEY_REVOKED" : "KMS_UNAVAILABLE",
                   e->cause);
    loch_keys_block(l->o.keys, &e->tenant, &e->branch,
                    denied ? LOCH_E_KEY_REVOKED : LOCH_E_KMS_UNAVAILABLE, why);
}

static void carry_out(struct loch_leases *l, struct entry *e, unsigned effects)
{
    const bool held = e->lease.state == LOCH_LEASE_HELD;

    if (effects & LOCH_LEASE_AUDIT)
        e->since_us = loch_env_wall_us(l->o.env);
    if (effects & LOCH_LEASE_WIPE) {
        e->owes = true;
        e->swept = false;
        e->wiped_us = 0;
        e->relight_ns = 0;
        if (e->lease.state == LOCH_LEASE_ASLEEP)
            fall_asleep(l, e);
        else
            go_dark(l, e);
    } else if ((effects & LOCH_LEASE_AUDIT) && !held) {
        rename_block(l, e);
    }
    if (effects & LOCH_LEASE_AUDIT)
        tell(l, e, (effects & LOCH_LEASE_WIPE) != 0);
    if ((effects & LOCH_LEASE_RENEW) && held) {
        loch_keys_permit(l->o.keys, &e->tenant, &e->branch, e->lease.permit_ns);
        if ((effects & LOCH_LEASE_AUDIT) && e->lease.silent_ns == 0)
            e->cause[0] = '\0';
    }
    if (effects & LOCH_LEASE_RESTORE)
        start_probe(l, e, true);
    if (effects & LOCH_LEASE_DECRYPT)
        start_probe(l, e, false);
}

/* ---- the list ---- */

static struct entry *entry_add(struct loch_leases *l, const struct loch_keys_permit_view *view)
{
    char id[LOCH_ID_TEXT_BYTES], branch[LOCH_ID_TEXT_BYTES];
    const bool whole = loch_id_is_none(&view->branch);
    const struct loch_label labels[] = {{"tenant", loch_id_format(&view->tenant, id)},
                                        {"branch", loch_id_format(&view->branch, branch)}};
    struct entry *e = calloc(1, sizeof *e);

    if (e == NULL)
        return NULL;
    if (l->count == l->cap) {
        const size_t cap = l->cap == 0 ? 16 : l->cap * 2;
        struct entry **more = realloc(l->entries, cap * sizeof(struct entry *));
        if (more == NULL) {
            free(e);
            return NULL;
        }
        l->entries = more;
        l->cap = cap;
    }
    const struct loch_id key = loch_id_within(&view->tenant, &view->branch);
    const struct entry *before = loch_id_map_get(&l->map, &key);
    if (before != NULL && before->ended) /* it goes with this look at the list */
        (void)loch_id_map_remove(&l->map, &key);
    if (!loch_is_ok(loch_id_map_put(&l->map, &key, e))) {
        free(e);
        return NULL;
    }
    e->tenant = view->tenant;
    e->branch = view->branch;
    e->used_ns = now_of(l);
    e->since_us = loch_env_wall_us(l->o.env);
    e->serial = ++l->serials;
    if (view->unasked) {
        loch_lease_begin_unasked(&e->lease, &l->o.settings, now_of(l));
        e->wiped_us = e->since_us; /* never opened here */
    } else if (view->block == LOCH_E_OK) {
        loch_lease_begin(&e->lease, &l->o.settings, view->granted_ns);
    } else {
        loch_lease_begin_closed(
            &e->lease, &l->o.settings,
            view->block == LOCH_E_KEY_REVOKED ? LOCH_KMS_DENIED : LOCH_KMS_SILENT, now_of(l));
        keep_text(e->cause, view->why);
        e->wiped_us = e->since_us; /* never opened here */
    }
    e->m_state = loch_metrics_gauge(
        l->o.metrics, whole ? "loch_key_state" : "loch_branch_key_state",
        whole
            ? "A tenant's key: 1 held, 2 grace, 3 revoked, 4 outage, 5 asleep."
            : "The key of a branch with a CMK of its own: 1 held, 2 grace, 3 revoked, 4 outage, 6 "
              "being opened.",
        labels, whole ? 1 : 2);
    l->entries[l->count++] = e;
    if (view->block != LOCH_E_OK && !view->unasked)
        tell(l, e, false);
    else
        loch_metric_set(e->m_state, view->unasked ? 6 : 1);
    return e;
}

/* A branch's keys that somebody has opened who could not wait for its lease: from now on they are
 * the lease's, to be ended as any. */
static void adopt(struct loch_leases *l, struct entry *e, const struct loch_keys_permit_view *view)
{
    if (loch_id_is_none(&e->branch) || view->block != LOCH_E_OK ||
        (e->lease.state != LOCH_LEASE_OUTAGE && e->lease.state != LOCH_LEASE_OPENING))
        return;
    loch_lease_begin(&e->lease, &l->o.settings, view->granted_ns);
    e->since_us = loch_env_wall_us(l->o.env);
    e->relight_ns = e->used_ns = now_of(l);
    e->cause[0] = '\0';
    tell(l, e, false);
}

static void entry_free(struct loch_leases *l, struct entry *e)
{
    loch_metrics_drop(l->o.metrics, e->m_state);
    loch_metrics_drop(l->o.metrics, e->m_versions);
    const struct loch_id id = loch_id_within(&e->tenant, &e->branch);
    if (loch_id_map_get(&l->map, &id) == e) /* else one that began anew has its place */
        (void)loch_id_map_remove(&l->map, &id);
    free(e);
}

/* Every tenant that `keys` knows has an entry, and no other. */
static void follow_keys(struct loch_leases *l)
{
    struct loch_keys_permit_view *views = NULL;
    size_t n = 0, kept = 0;

    if (!loch_is_ok(loch_keys_permits(l->o.keys, &views, &n)))
        return;
    for (size_t i = 0; i < l->count; i++)
        l->entries[i]->seen = false;
    for (size_t i = 0; i < n; i++) {
        struct entry *e = find(l, &views[i].tenant, &views[i].branch);
        if (e == NULL && views[i].until_ns == UINT64_MAX && views[i].block == LOCH_E_OK)
            continue; /* opened without a lease */
        if (e == NULL)
            e = entry_add(l, &views[i]);
        else
            adopt(l, e, &views[i]);
        if (e != NULL)
            e->seen = true;
    }
    for (size_t i = 0; i < l->count; i++) {
        if (l->entries[i]->seen && !l->entries[i]->ended)
            l->entries[kept++] = l->entries[i];
        else
            entry_free(l, l->entries[i]);
    }
    l->count = kept;
    free(views);
}

/* Of each tenant, when a keyring was taken over since, and of one that has no count yet. */
static void count_versions(struct loch_leases *l)
{
    const uint64_t changes = loch_keys_changes(l->o.keys);

    for (size_t i = 0; i < l->count; i++) {
        struct entry *e = l->entries[i];
        char id[LOCH_ID_TEXT_BYTES];
        if (!loch_id_is_none(&e->branch) || (e->m_versions != NULL && changes == l->changes))
            continue;
        const struct loch_label label = {"tenant", loch_id_format(&e->tenant, id)};
        if (e->m_versions == NULL)
            e->m_versions = loch_metrics_gauge(
                l->o.metrics, "loch_keyring_versions",
                "Key versions in a tenant's keyring, which holds 16384 at most.", &label, 1);
        loch_metric_set(e->m_versions, loch_keys_versions(l->o.keys, &e->tenant));
    }
    l->changes = changes;
}

/* Who has not been busy for long falls asleep, who is wanted wakes. */
static unsigned consider_sleep(struct loch_leases *l, struct entry *e, uint64_t now_ns)
{
    const uint64_t idle_ns = l->o.idle_ms * NS_PER_MS;

    if (e->lease.state == LOCH_LEASE_ASLEEP)
        return loch_keys_wanted(l->o.keys, &e->tenant) ? loch_lease_wake(&e->lease) : 0;
    if (!loch_id_is_none(&e->branch) || idle_ns == 0 || l->o.busy == NULL ||
        e->lease.state != LOCH_LEASE_HELD || now_ns < e->look_ns)
        return 0;
    e->look_ns = now_ns + idle_ns / LOOKS_PER_IDLE;
    if (e->relight_ns != 0 || l->o.busy(l->o.arg, &e->tenant) ||
        loch_keys_wanted(l->o.keys, &e->tenant)) {
        e->used_ns = now_ns;
        return 0;
    }
    if (now_ns - e->used_ns < idle_ns)
        return 0;
    const unsigned effects = loch_lease_sleep(&e->lease, now_ns);
    if (effects == 0)
        e->look_ns = now_ns; /* a Decrypt is under way: with the next tick */
    return effects;
}

/* Once no load is under way any more: such a one may hold keys that it opened before the block. */
static void say_wiped(struct loch_leases *l, struct entry *e)
{
    if (!e->owes || !e->swept || loch_keys_at_work(l->o.keys, &e->tenant, &e->branch))
        return;
    e->owes = false;
    loch_stack_wipe(); /* the loop's: it handled rows, too */
    e->wiped_us = loch_env_wall_us(l->o.env);
    note(l, e, "wiped",
         loch_id_is_none(&e->branch)
             ? "no plaintext of the tenant is left in this process, its connections are closed"
             : "no plaintext under its CMK is left in this process, its connections are closed");
}

static void tick(void *arg)
{
    struct loch_leases *l = arg;

    l->timer = NULL;
    if (!loch_is_ok(loch_env_timer(l->o.env, l->tick_ms, &l->timer, tick, l)))
        LOCH_ERROR("leases are not renewed any more: %s", loch_error_text());
    follow_keys(l);
    count_versions(l);
    for (size_t i = 0; i < l->count; i++) {
        struct entry *e = l->entries[i];
        const uint64_t now_ns = now_of(l);
        if (e->ended)
            continue;
        if (!loch_id_is_none(&e->branch) && loch_keys_behind(l->o.keys, &e->tenant, &e->branch))
            loch_lease_ask(&e->lease);
        carry_out(l, e, loch_lease_tick(&e->lease, now_ns));
        carry_out(l, e, consider_sleep(l, e, now_ns));
        if (e->swept && e->lease.state == LOCH_LEASE_HELD)
            e->owes = false; /* its keys are back before it could be said */
        say_wiped(l, e);
        if (e->relight_ns != 0 && now_ns >= e->relight_ns && e->lease.state == LOCH_LEASE_HELD) {
            e->relight_ns = 0;
            l->o.light(l->o.arg, &e->tenant, &e->branch);
        }
    }
}

void loch_leases_wiped(struct loch_leases *l, const struct loch_id *tenant,
                       const struct loch_id *branch)
{
    struct entry *e = find(l, tenant, branch);

    if (e == NULL || !e->owes)
        return;
    e->swept = true;
    say_wiped(l, e);
}

void loch_leases_relight(struct loch_leases *l, const struct loch_id *tenant,
                         const struct loch_id *branch)
{
    struct entry *e = find(l, tenant, branch);

    if (e == NULL) {
        follow_keys(l); /* at a start none has an entry yet */
        e = find(l, tenant, branch);
    }
    if (e != NULL)
        e->relight_ns = now_of(l) + RELIGHT_NS;
}

/* ---- showing ---- */

static const char *time_text(int64_t us, char out[static LOCH_TIME_TEXT_BYTES])
{
    return us == 0 ? NULL : loch_time_format(us, out);
}

void loch_leases_show(struct loch_leases *l, struct loch_console_request *request)
{
    static const char *const names[] = {"tenant",     "state",       "since",   "cause",
                                        "lease_left", "wiped_at",    "keyring", "decrypts",
                                        "branch",     "key_versions"};
    const uint64_t now_ns = now_of(l);

    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    for (size_t i = 0; i < l->count; i++) {
        const struct entry *e = l->entries[i];
        const uint64_t left_ns = e->lease.permit_ns > now_ns ? e->lease.permit_ns - now_ns : 0;
        char id[LOCH_ID_TEXT_BYTES], branch[LOCH_ID_TEXT_BYTES], since[LOCH_TIME_TEXT_BYTES],
            wiped[LOCH_TIME_TEXT_BYTES], text[4][24];
        (void)snprintf(text[0], sizeof text[0], "%llu ms",
                       (unsigned long long)(left_ns / NS_PER_MS));
        (void)snprintf(text[1], sizeof text[1], "%llu",
                       (unsigned long long)loch_keys_generation(l->o.keys, &e->tenant));
        (void)snprintf(text[2], sizeof text[2], "%llu", (unsigned long long)e->decrypts);
        (void)snprintf(text[3], sizeof text[3], "%" PRIu32,
                       loch_keys_versions(l->o.keys, &e->tenant));
        const char *values[] = {loch_id_format(&e->tenant, id),
                                loch_lease_word(&e->lease),
                                time_text(e->since_us, since),
                                e->cause[0] != '\0' ? e->cause : NULL,
                                text[0],
                                time_text(e->wiped_us, wiped),
                                text[1],
                                text[2],
                                loch_id_is_none(&e->branch) ? NULL
                                                            : loch_id_format(&e->branch, branch),
                                text[3]};
        loch_console_row(request, values);
    }
    loch_console_done(request, NULL);
}

/* ---- birth and end ---- */

loch_status loch_leases_create(const struct loch_leases_options *options, struct loch_leases **out)
{
    static const char name[] = "loch_kms_decrypts_total",
                      help[] = "Decrypts for leases, by answer.";
    struct loch_label label = {"answer", "granted"};
    struct loch_leases *l = calloc(1, sizeof *l);

    if (l == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for leases");
    l->o = *options;
    atomic_init(&l->threads, 0);
    l->tick_ms = loch_min_u64(loch_max_u64(options->settings.poll_ms / 4, 20), 500);
    l->m_granted = loch_metrics_counter(options->metrics, name, help, &label, 1);
    label.value = "denied";
    l->m_denied = loch_metrics_counter(options->metrics, name, help, &label, 1);
    label.value = "silent";
    l->m_silent = loch_metrics_counter(options->metrics, name, help, &label, 1);
    loch_status st = loch_env_timer(options->env, l->tick_ms, &l->timer, tick, l);
    if (!loch_is_ok(st)) {
        free(l);
        return st;
    }
    *out = l;
    return LOCH_OK;
}

bool loch_leases_destroy(struct loch_leases *l)
{
    if (l == NULL)
        return true;
    loch_timer_cancel(l->timer);
    l->timer = NULL;
    for (int i = 0; i < END_TRIES && atomic_load(&l->threads) > 0; i++)
        (void)usleep(END_PAUSE_US);
    if (atomic_load(&l->threads) > 0)
        return false;
    while (l->probes != NULL)  /* answered, but nobody listens any more */
        probe_free(l->probes); /* NOLINT(clang-analyzer-unix.Malloc): it unlinks */
    for (size_t i = 0; i < l->count; i++)
        entry_free(l, l->entries[i]);
    free(l->entries);
    loch_id_map_fini(&l->map);
    free(l);
    return true;
}
