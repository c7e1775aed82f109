/* Holds: metrics and their text form (Prometheus exposition format 0.0.4).
 *
 * Invariants: a family (one name) has one kind and one help; updates touch one series' atomics
 * only; the list of series is changed and read under a lock, never the values.
 */
#include "metrics.h"

#include "loch/base/check.h"
#include "loch/base/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FACTS_MAX 4096u

static void lock(struct loch_metrics *m)
{
    LOCH_ASSERT(pthread_mutex_lock(&m->lock) == 0);
}

static void unlock(struct loch_metrics *m)
{
    LOCH_ASSERT(pthread_mutex_unlock(&m->lock) == 0);
}

loch_status loch_metrics_create(const char *program, struct loch_metrics **out)
{
    struct loch_metrics *m = calloc(1, sizeof *m);

    if (m == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for metrics");
    LOCH_ASSERT(pthread_mutex_init(&m->lock, NULL) == 0);
    (void)snprintf(m->program, sizeof m->program, "%s", program);
    (void)snprintf(m->health, sizeof m->health, "starting");
    m->families_tail = &m->families;
    *out = m;
    return LOCH_OK;
}

void loch_metrics_destroy(struct loch_metrics *metrics)
{
    if (metrics == NULL)
        return;
    metrics_http_stop(metrics);
    for (struct family *f = metrics->families; f != NULL;) {
        struct family *next = f->next;
        for (struct loch_metric *s = f->series; s != NULL;) {
            struct loch_metric *after = s->next;
            free(s->labels);
            free(s);
            s = after;
        }
        free(f->name);
        free(f->help);
        free(f);
        f = next;
    }
    for (size_t i = 0; i < metrics->fact_count; i++) {
        free(metrics->facts[i].name);
        free(metrics->facts[i].value);
    }
    free(metrics->facts);
    LOCH_ASSERT(pthread_mutex_destroy(&metrics->lock) == 0);
    free(metrics);
}

/* ---- registering ---- */
static bool name_is_good(const char *name)
{
    for (const char *p = name; *p != '\0'; p++)
        if (!((*p >= 'a' && *p <= 'z') || *p == '_' || (p > name && *p >= '0' && *p <= '9')))
            return false;
    return name[0] != '\0';
}

/* name="value",... with backslash, quote and newline escaped. NULL: no memory. */
static char *format_labels(const struct loch_label *labels, size_t count)
{
    struct loch_buf buf = {0};
    struct loch_writer w;

    loch_writer_init(&w, &buf);
    for (size_t i = 0; i < count; i++) {
        LOCH_ASSERT(name_is_good(labels[i].name));
        if (i > 0)
            loch_write_u8(&w, ',');
        loch_write_bytes(&w, labels[i].name, strlen(labels[i].name));
        loch_write_bytes(&w, "=\"", 2);
        for (const char *p = labels[i].value; *p != '\0'; p++) {
            if (*p == '\\' || *p == '"' || *p == '\n')
                loch_write_u8(&w, '\\');
            loch_write_u8(&w, *p == '\n' ? 'n' : (uint8_t)*p);
        }
        loch_write_u8(&w, '"');
    }
    loch_write_u8(&w, 0);
    if (w.bad)
        loch_buf_fini(&buf);
    return (char *)buf.data;
}

static struct family *family_of(struct loch_metrics *m, enum metric_kind kind, const char *name,
                                const char *help)
{
    for (struct family *f = m->families; f != NULL; f = f->next)
        if (strcmp(f->name, name) == 0) {
            LOCH_ASSERT(f->kind == kind);
            return f;
        }
    struct family *f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    *f = (struct family){.kind = kind, .name = strdup(name), .help = strdup(help)};
    if (f->name == NULL || f->help == NULL) {
        free(f->name);
        free(f->help);
        free(f);
        return NULL;
    }
    f->tail = &f->series;
    *m->families_tail = f;
    m->families_tail = &f->next;
    return f;
}

static struct loch_metric *register_locked(struct loch_metrics *m, enum metric_kind kind,
                                           const char *name, const char *help, char *labels)
{
    struct family *f = labels != NULL ? family_of(m, kind, name, help) : NULL;

    for (struct loch_metric *s = f != NULL ? f->series : NULL; s != NULL; s = s->next)
        if (strcmp(s->labels, labels) == 0) {
            free(labels);
            s->uses++;
            return s;
        }
    struct loch_metric *s = NULL;
    if (f != NULL && m->series_count < LOCH_METRIC_SERIES_MAX)
        s = calloc(1, sizeof *s);
    if (s == NULL) {
        free(labels);
        atomic_fetch_add(&m->overflow, 1);
        m->spare.kind = kind; /* nobody reads it; every kind of update is harmless there */
        return &m->spare;
    }
    s->kind = kind;
    s->labels = labels;
    s->uses = 1;
    s->family = f;
    *f->tail = s;
    f->tail = &s->next;
    m->series_count++;
    return s;
}

static struct loch_metric *register_series(struct loch_metrics *m, enum metric_kind kind,
                                           const char *name, const char *help,
                                           const struct loch_label *labels, size_t count)
{
    LOCH_ASSERT(name_is_good(name));
    LOCH_ASSERT(count <= LOCH_METRIC_LABELS_MAX);
    char *text = format_labels(labels, count);
    lock(m);
    struct loch_metric *s = register_locked(m, kind, name, help, text);
    unlock(m);
    return s;
}

struct loch_metric *loch_metrics_counter(struct loch_metrics *metrics, const char *name,
                                         const char *help, const struct loch_label *labels,
                                         size_t label_count)
{
    return register_series(metrics, METRIC_COUNTER, name, help, labels, label_count);
}

struct loch_metric *loch_metrics_gauge(struct loch_metrics *metrics, const char *name,
                                       const char *help, const struct loch_label *labels,
                                       size_t label_count)
{
    return register_series(metrics, METRIC_GAUGE, name, help, labels, label_count);
}

struct loch_metric *loch_metrics_histogram(struct loch_metrics *metrics, const char *name,
                                           const char *help, const struct loch_label *labels,
                                           size_t label_count)
{
    return register_series(metrics, METRIC_HISTOGRAM, name, help, labels, label_count);
}

void loch_metrics_drop(struct loch_metrics *metrics, struct loch_metric *metric)
{
    if (metric == NULL || metric == &metrics->spare)
        return;
    lock(metrics);
    bool last = --metric->uses == 0;
    if (last) {
        struct family *f = metric->family;
        struct loch_metric **at = &f->series;
        while (*at != metric)
            at = &(*at)->next;
        *at = metric->next;
        if (f->tail == &metric->next)
            f->tail = at;
        metrics->series_count--;
    }
    unlock(metrics);
    if (last) {
        free(metric->labels);
        free(metric);
    }
}

/* ---- updating ---- */
void loch_metric_add(struct loch_metric *metric, uint64_t n)
{
    atomic_fetch_add_explicit(&metric->value, (int64_t)n, memory_order_relaxed);
}

void loch_metric_set(struct loch_metric *metric, int64_t value)
{
    atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}

void loch_metric_move(struct loch_metric *metric, int64_t delta)
{
    atomic_fetch_add_explicit(&metric->value, delta, memory_order_relaxed);
}

void loch_metric_observe_ns(struct loch_metric *metric, uint64_t ns)
{
    uint64_t bound = METRIC_FIRST_BOUND_NS;
    size_t i = 0;

    while (i < METRIC_BUCKETS && ns > bound) {
        bound *= 2;
        i++;
    }
    atomic_fetch_add_explicit(&metric->bucket[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->sum_ns, ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->value, 1, memory_order_relaxed);
}

int64_t loch_metric_value(const struct loch_metric *metric)
{
    return atomic_load_explicit(&metric->value, memory_order_relaxed);
}

/* ---- health and facts ---- */
void loch_metrics_health(struct loch_metrics *metrics, bool ok, const char *text)
{
    lock(metrics);
    metrics->healthy = ok;
    (void)snprintf(metrics->health, sizeof metrics->health, "%s", text);
    unlock(metrics);
}

static void set_fact(struct loch_metrics *m, const char *name, const char *value)
{
    size_t i = 0;

    while (i < m->fact_count && strcmp(m->facts[i].name, name) != 0)
        i++;
    if (value == NULL) {
        if (i == m->fact_count)
            return;
        free(m->facts[i].name);
        free(m->facts[i].value);
        m->fact_count--;
        memmove(&m->facts[i], &m->facts[i + 1], (m->fact_count - i) * sizeof m->facts[0]);
        return;
    }
    char *copy = strdup(value);
    if (copy == NULL)
        return; /* the page is a convenience */
    if (i < m->fact_count) {
        free(m->facts[i].value);
        m->facts[i].value = copy;
        return;
    }
    struct fact *more = NULL;
    if (m->fact_count < FACTS_MAX)
        more = realloc(m->facts, (m->fact_count + 1) * sizeof *more);
    char *own_name = more != NULL ? strdup(name) : NULL;
    if (more != NULL)
        m->facts = more;
    if (own_name == NULL) {
        free(copy);
        return;
    }
    more[m->fact_count++] = (struct fact){own_name, copy};
}

void loch_metrics_fact(struct loch_metrics *metrics, const char *name, const char *value)
{
    lock(metrics);
    set_fact(metrics, name, value);
    unlock(metrics);
}

/* ---- text ---- */
static void print(struct loch_writer *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void print(struct loch_writer *w, const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n > 0)
        loch_write_bytes(w, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

/* name_suffix{labels,extra} without the value. */
static void print_head(struct loch_writer *w, const struct family *f, const struct loch_metric *s,
                       const char *suffix, const char *extra)
{
    bool braces = s->labels[0] != '\0' || extra[0] != '\0';

    print(w, "%s%s%s", f->name, suffix, braces ? "{" : "");
    loch_write_bytes(w, s->labels, strlen(s->labels));
    print(w, "%s%s%s ", s->labels[0] != '\0' && extra[0] != '\0' ? "," : "", extra,
          braces ? "}" : "");
}

static void print_histogram(struct loch_writer *w, const struct family *f,
                            const struct loch_metric *s)
{
    uint64_t bound = METRIC_FIRST_BOUND_NS;
    uint64_t count = 0;
    char extra[48];

    for (size_t i = 0; i <= METRIC_BUCKETS; i++, bound *= 2) {
        count += atomic_load_explicit(&s->bucket[i], memory_order_relaxed);
        if (i < METRIC_BUCKETS)
            (void)snprintf(extra, sizeof extra, "le=\"%.9g\"", (double)bound / 1e9);
        else
            (void)snprintf(extra, sizeof extra, "le=\"+Inf\"");
        print_head(w, f, s, "_bucket", extra);
        print(w, "%llu\n", (unsigned long long)count);
    }
    print_head(w, f, s, "_sum", "");
    print(w, "%.9f\n", (double)atomic_load_explicit(&s->sum_ns, memory_order_relaxed) / 1e9);
    print_head(w, f, s, "_count", ""); /* of the buckets just printed: they must agree */
    print(w, "%llu\n", (unsigned long long)count);
}

static void print_family(struct loch_writer *w, const struct family *f)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};

    if (f->series == NULL)
        return;
    print(w, "# HELP %s ", f->name);
    for (const char *p = f->help; *p != '\0'; p++) {
        if (*p == '\\' || *p == '\n')
            loch_write_u8(w, '\\');
        loch_write_u8(w, *p == '\n' ? 'n' : (uint8_t)*p);
    }
    print(w, "\n# TYPE %s %s\n", f->name, kinds[f->kind]);
    for (const struct loch_metric *s = f->series; s != NULL; s = s->next) {
        if (f->kind == METRIC_HISTOGRAM) {
            print_histogram(w, f, s);
            continue;
        }
        print_head(w, f, s, "", "");
        print(w, "%lld\n", (long long)loch_metric_value(s));
    }
}

loch_status loch_metrics_text(struct loch_metrics *metrics, struct loch_buf *out)
{
    struct loch_writer w;

    loch_writer_init(&w, out);
    lock(metrics);
    for (const struct family *f = metrics->families; f != NULL; f = f->next)
        print_family(&w, f);
    unlock(metrics);
    print(&w,
          "# HELP loch_metrics_overflow_total Series not kept because there are too many.\n"
          "# TYPE loch_metrics_overflow_total counter\nloch_metrics_overflow_total %llu\n",
          (unsigned long long)atomic_load(&metrics->overflow));
    print(&w,
          "# HELP loch_secrets Keys in secret memory, 64 bytes each.\n"
          "# TYPE loch_secrets gauge\nloch_secrets %zu\n",
          loch_secrets_in_use());
    return loch_writer_finish(&w);
}

bool metrics_health_text(struct loch_metrics *metrics, struct loch_writer *w)
{
    lock(metrics);
    bool ok = metrics->healthy;
    print(w, "%s\n", metrics->health);
    unlock(metrics);
    return ok;
}

static void print_escaped(struct loch_writer *w, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '<')
            print(w, "&lt;");
        else if (*p == '&')
            print(w, "&amp;");
        else if (*p == '"')
            print(w, "&quot;");
        else
            loch_write_u8(w, (uint8_t)*p);
    }
}

void metrics_status_page(struct loch_metrics *metrics, struct loch_writer *w)
{
    lock(metrics);
    print(w,
          "<!DOCTYPE html><meta charset=\"utf-8\"><title>%s</title>"
          "<style>body{font-family:sans-serif}td{padding:0 1em 0 0}</style><h1>%s</h1>",
          metrics->program, metrics->program);
    print(w, "<p>%s: ", metrics->healthy ? "healthy" : "not healthy");
    print_escaped(w, metrics->health);
    print(w, "</p><p><a href=\"/metrics\">metrics</a></p><table>");
    for (size_t i = 0; i < metrics->fact_count; i++) {
        print(w, "<tr><td>");
        print_escaped(w, metrics->facts[i].name);
        print(w, "</td><td>");
        print_escaped(w, metrics->facts[i].value);
        print(w, "</td></tr>\n");
    }
    print(w, "</table>\n");
    unlock(metrics);
}
