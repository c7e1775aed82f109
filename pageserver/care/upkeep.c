/* A timer walks the timelines in service; the first that has something to do gets a piece of work.
 * After a piece the walk goes on where it was, at once, so that nobody is starved. */
#include "upkeep.h"

#include "served.h"
#include "tenants.h"

#include "store/chunk.h"
#include "store/compact.h"
#include "store/heal.h"
#include "store/layer_copy.h"
#include "store/retention.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/host/metrics.h"
#include "loch/io/env.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* So many failures in a row open the breaker, for so long, doubled with each further one. */
#define FAILURES_MAX   3u
#define BREAK_MS       (UINT64_C(10) * 60 * 1000)
#define BREAK_MAX_MS   (UINT64_C(60) * 60 * 1000)
#define FAILED_WAIT_MS (UINT64_C(30) * 1000)
/* A merge may load so much of one key's history, or four times layers.target. */
#define KEY_BYTES_LEAST (UINT64_C(512) << 20)
/* It rests when it has worked for so long while reads came. */
#define WORK_SLICE_NS (UINT64_C(10) * 1000 * 1000)

/* What is known of a timeline's upkeep; kept while there is something to remember. */
struct patient {
    struct patient *next;
    struct loch_id tenant, timeline;
    unsigned failures;
    uint64_t rests_until_ns;
    uint64_t no_healing_until_ns; /* what cannot be healed does not keep the rest from being done */
    char problem[400];
    bool ordered, check; /* check: every block, no merge */
    void (*fn)(void *arg, loch_status st, const struct loch_upkeep_report *report);
    void *arg;
};

struct job {
    struct loch_upkeep *upkeep;
    struct loch_served *served;
    struct loch_served_watch watch;
    struct loch_timeline *timeline; /* retained */
    struct loch_id tenant_id, timeline_id;
    atomic_bool cancelled;
    bool everything, check, may_collect, moved, merged, quiet;
    bool heals;    /* what is known as damaged, if anything is */
    bool unhealed; /* that failed, and nothing else */
    struct loch_heal_report heal;
    loch_lsn *points; /* of branches, open or not */
    size_t point_count;
    uint64_t slice_ns;
    int64_t reads;
    struct loch_compaction_stats stats;
    struct loch_failure result;
};

struct loch_upkeep {
    struct loch_pageserver *ps;
    struct loch_timer *timer;
    struct patient *patients;
    struct job *job;      /* in flight */
    struct loch_id after; /* the timeline looked at last */
    bool stopping;
    struct loch_metric *m_merges, *m_failures, *m_read, *m_written, *m_removed, *m_backlog,
        *m_broken, *m_layers, *m_file_bytes, *m_live, *m_history, *m_held, *m_old, *m_read_records,
        *m_read_most, *m_idle_images, *m_healed_blocks, *m_healed_files, *m_healed_copies, *m_lost;
};

static void look_around(struct loch_upkeep *u);

/* ---- what is remembered ---- */

static struct patient *find_patient(struct loch_upkeep *u, const struct loch_id *timeline)
{
    for (struct patient *p = u->patients; p != NULL; p = p->next) {
        if (loch_id_equal(&p->timeline, timeline))
            return p;
    }
    return NULL;
}

static struct patient *patient_of(struct loch_upkeep *u, const struct loch_id *tenant,
                                  const struct loch_id *timeline)
{
    struct patient *p = find_patient(u, timeline);
    if (p != NULL)
        return p;
    p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->tenant = *tenant;
    p->timeline = *timeline;
    p->next = u->patients;
    u->patients = p;
    return p;
}

static void forget(struct loch_upkeep *u, struct patient *gone)
{
    struct patient **link = &u->patients;
    while (*link != gone)
        link = &(*link)->next;
    *link = gone->next;
    free(gone);
}

static void count_broken(struct loch_upkeep *u)
{
    int64_t n = 0;
    for (const struct patient *p = u->patients; p != NULL; p = p->next)
        n += p->failures >= FAILURES_MAX;
    loch_metric_set(u->m_broken, n);
}

/* only_healing: it alone rests then. */
static void note_failure(struct loch_upkeep *u, struct patient *p, const struct loch_failure *why,
                         bool only_healing)
{
    uint64_t wait = FAILED_WAIT_MS;
    char id[LOCH_ID_TEXT_BYTES];
    p->failures++;
    if (p->failures >= FAILURES_MAX)
        wait = loch_min_u64(
            BREAK_MAX_MS,
            BREAK_MS << (p->failures - FAILURES_MAX > 6 ? 6 : p->failures - FAILURES_MAX));
    *(only_healing ? &p->no_healing_until_ns : &p->rests_until_ns) =
        loch_env_now_ns(u->ps->env) + wait * 1000000;
    snprintf(p->problem, sizeof p->problem, "%s", why->text);
    loch_metric_add(u->m_failures, 1);
    LOCH_ERROR("upkeep of timeline %s failed, next try in %" PRIu64 " s: %s",
               loch_id_format(&p->timeline, id), wait / 1000, why->text);
}

const char *loch_upkeep_problem(struct loch_upkeep *u, const struct loch_id *timeline)
{
    const struct patient *p = find_patient(u, timeline);
    return p != NULL ? p->problem : "";
}

/* ---- a piece of work ---- */

static struct loch_compact_settings settings_of(const struct loch_pageserver *ps)
{
    return (struct loch_compact_settings){.fan_in = (uint32_t)ps->config.compact_layers,
                                          .band_bytes = ps->config.open_layer_bytes,
                                          .base_percent = 50};
}

static struct loch_pitr_window window_of(const struct loch_pageserver *ps)
{
    return (struct loch_pitr_window){ps->config.history_ms / 1000, ps->config.history_bytes};
}

/* What one piece of idle time's work reads at most. */
static uint64_t idle_bytes(const struct loch_pageserver *ps)
{
    return 4 * ps->config.layer_bytes;
}

static bool is_quiet(const struct loch_pageserver *ps, struct loch_timeline *t)
{
    return loch_timeline_quiet_ns(t, loch_env_now_ns(ps->env)) / 1000000 >= ps->config.idle_ms;
}

/* Not while an ancestor ingests again: images would lack what it lacks. Once true, for good. */
static bool may_merge(const struct loch_timeline *t)
{
    return loch_timeline_ready(t, loch_timeline_last_record_lsn(t));
}

/* On the pool thread, often: what lies between two calls may be long. */
static loch_status pace(void *arg)
{
    struct job *job = arg;
    struct loch_pageserver *ps = job->upkeep->ps;
    if (atomic_load(&job->cancelled))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the timeline is going away");
    uint64_t now = loch_env_now_ns(ps->env);
    if (now - job->slice_ns < WORK_SLICE_NS)
        return LOCH_OK;
    int64_t reads = loch_metric_value(ps->m_gets);
    if (reads != job->reads) { /* somebody reads: leave the core and the disk to them as long */
        const struct timespec rest = {.tv_nsec = (long)WORK_SLICE_NS};
        nanosleep(&rest, NULL);
    }
    job->reads = reads;
    job->slice_ns = loch_env_now_ns(ps->env);
    return LOCH_OK;
}

static loch_status collect_and_merge(struct job *job)
{
    struct loch_pageserver *ps = job->upkeep->ps;
    struct loch_pitr_window window = window_of(ps);
    if (job->may_collect)
        LOCH_TRY(loch_timeline_advance_cutoff(job->timeline, &window, loch_env_wall_us(ps->env),
                                              job->points, job->point_count, &job->moved));
    if (!job->everything && !may_merge(job->timeline)) /* an order is told why not */
        return LOCH_OK;
    struct loch_compaction c = {.settings = settings_of(ps),
                                .file_bytes = ps->config.layer_bytes,
                                .key_bytes =
                                    loch_max_u64(KEY_BYTES_LEAST, 4 * ps->config.layer_bytes),
                                .pace = pace,
                                .arg = job,
                                .everything = job->everything,
                                .idle_records = job->quiet ? (uint32_t)ps->config.idle_records : 0,
                                .idle_bytes = idle_bytes(ps)};
    return loch_timeline_compact(job->timeline, &c, &job->merged, &job->stats);
}

/* Damage that cannot be healed is told, but the layers are looked after all the same. */
static loch_status do_work(struct job *job)
{
    const struct loch_heal heal = {.everything = job->check, .pace = pace, .arg = job};
    struct loch_failure damage;
    loch_status st = LOCH_OK;
    if (job->check || (job->heals && loch_timeline_is_harmed(job->timeline)))
        st = loch_timeline_heal(job->timeline, &heal, &job->heal);
    loch_failure_set(&damage, st);
    job->unhealed = !loch_is_ok(st);
    if (job->check || atomic_load(&job->cancelled))
        return st;
    st = collect_and_merge(job);
    if (loch_is_ok(damage.st))
        return st;
    job->unhealed = loch_is_ok(st);
    return loch_failure_raise(&damage);
}

static void job_work(void *arg)
{
    struct job *job = arg;
    job->slice_ns = loch_env_now_ns(job->upkeep->ps->env);
    loch_failure_set(&job->result, do_work(job));
}

static void watch_term(void *arg)
{
    (void)arg;
}

static void watch_gone(void *arg, loch_status st)
{
    struct job *job = arg;
    (void)st;
    atomic_store(&job->cancelled, true);
}

static void count_work(struct loch_upkeep *u, const struct job *job)
{
    if (!job->merged)
        return;
    char id[LOCH_ID_TEXT_BYTES];
    loch_metric_add(u->m_merges, 1);
    loch_metric_add(u->m_read, job->stats.read_bytes);
    loch_metric_add(u->m_written, job->stats.written_bytes);
    loch_metric_add(u->m_removed, job->stats.dropped_bytes);
    loch_metric_add(u->m_idle_images, job->stats.idle_images);
    LOCH_INFO("timeline %s: %u layers of %" PRIu64 " bytes became %u of %" PRIu64 ", %" PRIu64
              " bytes of versions removed",
              loch_id_format(&job->timeline_id, id), job->stats.files_read, job->stats.read_bytes,
              job->stats.files_written, job->stats.written_bytes, job->stats.dropped_bytes);
}

/* Remembers how it went and answers an order. */
static void conclude(struct loch_upkeep *u, struct job *job)
{
    struct patient *p = find_patient(u, &job->timeline_id);
    bool cancelled = atomic_load(&job->cancelled);
    bool failed = !loch_is_ok(job->result.st);
    if (failed && !cancelled && p == NULL)
        p = patient_of(u, &job->tenant_id, &job->timeline_id);
    if (p == NULL)
        return;
    bool ordered = job->everything && p->ordered;
    void (*fn)(void *, loch_status, const struct loch_upkeep_report *) = p->fn;
    void *fn_arg = p->arg;
    if (ordered)
        p->ordered = false;
    const bool damaged = !job->heals && loch_timeline_is_harmed(job->timeline); /* not tried now */
    if (failed && !cancelled)
        note_failure(u, p, &job->result, job->unhealed);
    else if (!p->ordered && !damaged)
        forget(u, p);
    count_broken(u);
    if (ordered) {
        const struct loch_upkeep_report report = {job->stats.read_bytes + job->heal.bytes,
                                                  job->stats.written_bytes,
                                                  job->stats.dropped_bytes,
                                                  job->stats.files_read + job->heal.layers,
                                                  job->stats.files_written,
                                                  job->heal.healed};
        fn(fn_arg, loch_failure_raise(&job->result), &report);
    }
}

static void free_job(struct job *job)
{
    loch_timeline_release(job->timeline);
    free(job->points);
    free(job);
}

static void job_done(void *arg)
{
    struct job *job = arg;
    struct loch_upkeep *u = job->upkeep;
    u->job = NULL;
    loch_timeline_gather_end(job->timeline);
    count_work(u, job);
    conclude(u, job);
    if (!atomic_load(&job->cancelled))
        loch_served_watch_remove(&job->watch);
    loch_served_work_end(job->served);
    free_job(job);
    if (!u->stopping)
        look_around(u);
}

/* The points of all branches that the tenant's manifest knows, also of those that do not open. */
static loch_status gather_points(struct job *job)
{
    const struct loch_tenant *tenant = loch_tenant_find(job->upkeep->ps, &job->tenant_id);
    if (tenant == NULL || tenant->problem[0] != '\0')
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the tenant's branches are not known");
    const struct loch_tenant_manifest *m = &tenant->manifest;
    job->points = calloc((size_t)m->count + 1, sizeof *job->points);
    if (job->points == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a list of branches");
    for (uint32_t i = 0; i < m->count; i++) {
        if (loch_id_equal(&m->timelines[i].ancestor, &job->timeline_id))
            job->points[job->point_count++] = m->timelines[i].ancestor_lsn;
    }
    return LOCH_OK;
}

static bool may_heal(const struct loch_upkeep *u, const struct patient *p)
{
    return p == NULL || p->no_healing_until_ns <= loch_env_now_ns(u->ps->env);
}

static loch_status begin_work(struct loch_upkeep *u, struct loch_served *s, bool everything)
{
    struct job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for upkeep");
    job->upkeep = u;
    job->served = s;
    job->timeline = loch_timeline_retain(loch_served_timeline(s));
    job->tenant_id = *loch_served_tenant_id(s);
    job->timeline_id = *loch_served_timeline_id(s);
    job->everything = everything;
    const struct patient *p = find_patient(u, &job->timeline_id);
    job->check = everything && p != NULL && p->check;
    job->heals = everything || may_heal(u, p);
    job->quiet = is_quiet(u->ps, job->timeline);
    job->may_collect = loch_timeline_leases_settled(job->timeline);
    atomic_init(&job->cancelled, false);
    job->watch = (struct loch_served_watch){.term = watch_term, .gone = watch_gone, .arg = job};
    loch_timeline_gather_begin(job->timeline); /* branches come and go while it waits and heals */
    loch_status st = gather_points(job);
    if (loch_is_ok(st))
        st = loch_env_work(u->ps->env, job_work, job_done, job);
    if (!loch_is_ok(st)) {
        loch_timeline_gather_end(job->timeline);
        free_job(job);
        return st;
    }
    loch_served_watch_add(s, &job->watch);
    loch_served_work_begin(s);
    u->job = job;
    return LOCH_OK;
}

/* ---- whose turn it is ---- */

static bool wants_merge(const struct loch_pageserver *ps, struct loch_timeline *t)
{
    const struct loch_compact_settings settings = settings_of(ps);
    return loch_timeline_backlog(t, &settings) > 0 ||
           (is_quiet(ps, t) &&
            loch_timeline_idle_backlog(t, (uint32_t)ps->config.idle_records, idle_bytes(ps)) > 0);
}

/* soon: or will want it when the leases are settled. */
static bool wants_work(struct loch_upkeep *u, const struct loch_served *s, bool soon,
                       bool *everything)
{
    struct loch_pageserver *ps = u->ps;
    const struct patient *p = find_patient(u, loch_served_timeline_id(s));
    struct loch_timeline *t = loch_served_timeline(s);
    const struct loch_pitr_window window = window_of(ps);
    uint64_t now = loch_env_now_ns(ps->env);
    *everything = p != NULL && p->ordered;
    if (*everything)
        return true;
    if (loch_served_problem(s)[0] != '\0' || (p != NULL && p->rests_until_ns > now))
        return false;
    const int64_t wall_us = loch_env_wall_us(ps->env);
    return (may_merge(t) && wants_merge(ps, t)) || (may_heal(u, p) && loch_timeline_is_harmed(t)) ||
           (soon ? loch_timeline_cutoff_waits(t, &window, wall_us)
                 : loch_timeline_cutoff_due(t, &window, wall_us));
}

bool loch_upkeep_due(struct loch_upkeep *u, const struct loch_served *s)
{
    bool everything;

    return loch_served_timeline(s) != NULL && wants_work(u, s, true, &everything);
}

/* The first timeline behind u->after that has something to do, all around. */
static struct loch_served *next_patient(struct loch_upkeep *u, bool *everything)
{
    struct loch_served *first = NULL, *found = NULL;
    bool behind = false, first_all = false;
    int64_t waiting = 0;
    for (struct loch_served *s = u->ps->served; s != NULL; s = loch_served_next(s)) {
        const struct loch_id *id = loch_served_timeline_id(s);
        bool all = false;
        if (loch_served_timeline(s) != NULL &&
            loch_served_find(u->ps, loch_served_tenant_id(s), id) == s &&
            wants_work(u, s, false, &all)) {
            waiting++;
            if (first == NULL) {
                first = s;
                first_all = all;
            }
            if (behind && found == NULL) {
                found = s;
                *everything = all;
            }
        }
        behind = behind || loch_id_equal(id, &u->after);
    }
    loch_metric_set(u->m_backlog, waiting);
    if (found == NULL)
        *everything = first_all;
    return found != NULL ? found : first;
}

/* Takes the order out of the list before it is answered: the answer may place another. */
static void answer(struct loch_upkeep *u, struct patient *p, loch_status st)
{
    void (*fn)(void *, loch_status, const struct loch_upkeep_report *) = p->fn;
    const struct loch_upkeep_report nothing = {0};
    void *arg = p->arg;
    forget(u, p);
    fn(arg, st, &nothing);
}

/* Orders of timelines that are no longer served. */
static void answer_lost(struct loch_upkeep *u)
{
    for (struct patient *p = u->patients, *next; p != NULL; p = next) {
        next = p->next;
        if (p->ordered && loch_served_find(u->ps, &p->tenant, &p->timeline) == NULL)
            answer(u, p, LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is no longer served here"));
    }
}

/* One that cannot begin, as its tenant is broken, does not keep the others from their turn: the
 * walk goes all around at most. The first such failure of a walk is logged, not each. */
static void look_around(struct loch_upkeep *u)
{
    bool told = false;
    size_t left = 0;
    if (u->job != NULL || u->stopping)
        return;
    answer_lost(u);
    for (const struct loch_served *s = u->ps->served; s != NULL; s = loch_served_next(s))
        left++;
    for (; left > 0; left--) {
        bool everything = false;
        struct loch_served *s = next_patient(u, &everything);
        if (s == NULL)
            return;
        u->after = *loch_served_timeline_id(s);
        if (loch_is_ok(begin_work(u, s, everything)))
            return;
        if (!told)
            loch_log_failure("upkeep cannot begin");
        told = true;
    }
}

/* Idle time's images are made out of layers. */
static void write_quiet(struct loch_upkeep *u, struct loch_served *s)
{
    struct loch_timeline *t = loch_served_timeline(s);
    if (is_quiet(u->ps, t) && loch_timeline_settled(t) && loch_timeline_open_bytes(t) > 0 &&
        loch_served_problem(s)[0] == '\0' && !u->stopping)
        loch_served_flush_soon(s);
}

/* What is stored, and why. */
static void measure(struct loch_upkeep *u)
{
    struct loch_layers_summary all = {0};
    for (struct loch_served *s = u->ps->served; s != NULL; s = loch_served_next(s)) {
        struct loch_layers_summary one;
        if (loch_served_timeline(s) == NULL)
            continue;
        write_quiet(u, s);
        loch_timeline_summary(loch_served_timeline(s), &one);
        all.layers += one.layers;
        all.file_bytes += one.file_bytes;
        all.weight.raw += one.weight.raw;
        all.weight.past += one.weight.past;
        all.weight.held += one.weight.held;
        all.old_bytes += one.old_bytes;
    }
    loch_metric_set(u->m_read_records, (int64_t)atomic_load(&u->ps->reads.records));
    loch_metric_set(u->m_read_most, (int64_t)atomic_load(&u->ps->reads.most));
    loch_metric_set(u->m_healed_blocks, (int64_t)atomic_load(&u->ps->heals.blocks));
    loch_metric_set(u->m_healed_files, (int64_t)atomic_load(&u->ps->heals.files));
    loch_metric_set(u->m_healed_copies, (int64_t)atomic_load(&u->ps->heals.copies));
    loch_metric_set(u->m_lost, (int64_t)atomic_load(&u->ps->heals.lost));
    loch_metric_set(u->m_layers, (int64_t)all.layers);
    loch_metric_set(u->m_file_bytes, (int64_t)all.file_bytes);
    loch_metric_set(u->m_history, (int64_t)all.weight.past);
    loch_metric_set(u->m_held, (int64_t)all.weight.held);
    loch_metric_set(u->m_old, (int64_t)all.old_bytes);
    loch_metric_set(u->m_live, (int64_t)(all.weight.raw - all.weight.past - all.weight.held));
}

static void give_back(void *arg)
{
    (void)arg;
    (void)loch_chunks_give_back();
}

static void given_back(void *arg)
{
    (void)arg;
}

static void tick(void *arg)
{
    struct loch_upkeep *u = arg;
    u->timer = NULL;
    measure(u);
    look_around(u);
    (void)loch_is_ok(loch_env_work(u->ps->env, give_back, given_back, NULL)); /* or the next time */
    if (!loch_is_ok(loch_env_timer(u->ps->env, u->ps->config.upkeep_ms, &u->timer, tick, u)))
        loch_log_failure("upkeep ends: no timer");
}

/* ---- birth and end ---- */

static struct loch_metric *bytes_by_cause(struct loch_metrics *m, const char *cause)
{
    const struct loch_label label = {"cause", cause};
    return loch_metrics_gauge(m, "loch_pageserver_stored_bytes",
                              "Versions in layers, before compression, by what keeps them: live (a "
                              "read at the tip), history (the window), branches (and leases).",
                              &label, 1);
}

static struct loch_metric *healed(struct loch_metrics *m, const char *what)
{
    const struct loch_label label = {"what", what};
    return loch_metrics_gauge(m, "loch_pageserver_healed",
                              "Damage healed since the start: block (read from a layer's copy "
                              "instead), file (written anew from it), copy (put again).",
                              &label, 1);
}

static void make_heal_metrics(struct loch_upkeep *u)
{
    struct loch_metrics *m = u->ps->metrics;
    u->m_healed_blocks = healed(m, "block");
    u->m_healed_files = healed(m, "file");
    u->m_healed_copies = healed(m, "copy");
    u->m_lost = loch_metrics_gauge(m, "loch_pageserver_unhealed",
                                   "Attempts to heal a layer that has no good copy.", NULL, 0);
}

static void make_metrics(struct loch_upkeep *u)
{
    struct loch_metrics *m = u->ps->metrics;
    u->m_merges =
        loch_metrics_counter(m, "loch_pageserver_merges_total", "Merges of layers done.", NULL, 0);
    u->m_failures = loch_metrics_counter(m, "loch_pageserver_upkeep_failures_total",
                                         "Pieces of upkeep that failed.", NULL, 0);
    u->m_read = loch_metrics_counter(m, "loch_pageserver_merge_read_bytes_total",
                                     "Bytes of layers that were merged.", NULL, 0);
    u->m_written = loch_metrics_counter(m, "loch_pageserver_merge_written_bytes_total",
                                        "Bytes of layers that merges wrote.", NULL, 0);
    u->m_removed =
        loch_metrics_counter(m, "loch_pageserver_removed_bytes_total",
                             "Bytes of versions that nobody could read any more.", NULL, 0);
    u->m_idle_images =
        loch_metrics_counter(m, "loch_pageserver_idle_images_total",
                             "Images made of pages while their timeline was idle.", NULL, 0);
    u->m_backlog =
        loch_metrics_gauge(m, "loch_pageserver_upkeep_backlog",
                           "Timelines that wait for a merge or for collection.", NULL, 0);
    u->m_broken =
        loch_metrics_gauge(m, "loch_pageserver_upkeep_broken",
                           "Timelines whose upkeep rests after repeated failures.", NULL, 0);
    u->m_layers =
        loch_metrics_gauge(m, "loch_pageserver_layers", "Layer files in service.", NULL, 0);
    u->m_file_bytes = loch_metrics_gauge(m, "loch_pageserver_layer_file_bytes",
                                         "Bytes of layer files in service.", NULL, 0);
    u->m_read_records = loch_metrics_gauge(m, "loch_pageserver_read_records",
                                           "Records that reads of pages have applied.", NULL, 0);
    u->m_read_most = loch_metrics_gauge(m, "loch_pageserver_read_records_most",
                                        "The most that one read has applied.", NULL, 0);
    make_heal_metrics(u);
    u->m_live = bytes_by_cause(m, "live");
    u->m_history = bytes_by_cause(m, "history");
    u->m_held = bytes_by_cause(m, "branches");
    u->m_old = loch_metrics_gauge(m, "loch_pageserver_old_key_bytes",
                                  "Bytes of layer files under retired timeline keys, which upkeep "
                                  "writes anew.",
                                  NULL, 0);
}

LOCH_STATUS loch_upkeep_create(struct loch_pageserver *ps, struct loch_upkeep **out)
{
    struct loch_upkeep *u = calloc(1, sizeof *u);
    if (u == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for upkeep");
    u->ps = ps;
    make_metrics(u);
    loch_status st = loch_env_timer(ps->env, ps->config.upkeep_ms, &u->timer, tick, u);
    if (!loch_is_ok(st)) {
        free(u);
        return st;
    }
    *out = u;
    return LOCH_OK;
}

void loch_upkeep_stop(struct loch_upkeep *u)
{
    if (u == NULL)
        return;
    u->stopping = true;
    loch_timer_cancel(u->timer);
    u->timer = NULL;
}

void loch_upkeep_destroy(struct loch_upkeep *u)
{
    if (u == NULL)
        return;
    LOCH_ASSERT(u->job == NULL);
    loch_upkeep_stop(u);
    for (struct patient *p = u->patients, *next; p != NULL; p = next) {
        next = p->next;
        if (p->ordered)
            answer(u, p, LOCH_FAIL(LOCH_E_UNAVAILABLE, "the pageserver stops"));
        else
            forget(u, p);
    }
    free(u);
}

static loch_status place_order(
    struct loch_upkeep *u, const struct loch_id *tenant, const struct loch_id *timeline, bool check,
    void (*fn)(void *arg, loch_status st, const struct loch_upkeep_report *report), void *arg)
{
    struct loch_served *s = loch_served_find(u->ps, tenant, timeline);
    if (s == NULL || u->stopping)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the timeline is not served here");
    LOCH_TRY(loch_served_usable(s));
    if (!check && !may_merge(loch_served_timeline(s)))
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "an ancestor of the timeline is still reading its WAL "
                                             "again: nothing can be merged until then");
    struct patient *p = patient_of(u, tenant, timeline);
    if (p == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for an order");
    if (p->ordered)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "the timeline waits for such an order already");
    p->ordered = true;
    p->check = check;
    p->fn = fn;
    p->arg = arg;
    look_around(u);
    return LOCH_OK;
}

LOCH_STATUS loch_upkeep_order(
    struct loch_upkeep *u, const struct loch_id *tenant, const struct loch_id *timeline,
    void (*fn)(void *arg, loch_status st, const struct loch_upkeep_report *report), void *arg)
{
    return place_order(u, tenant, timeline, false, fn, arg);
}

LOCH_STATUS loch_upkeep_check(
    struct loch_upkeep *u, const struct loch_id *tenant, const struct loch_id *timeline,
    void (*fn)(void *arg, loch_status st, const struct loch_upkeep_report *report), void *arg)
{
    return place_order(u, tenant, timeline, true, fn, arg);
}
