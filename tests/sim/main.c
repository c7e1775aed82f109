/* loch-sim: runs seeds through the consensus machines. Exit 0: no violation; 3: a violation, with
 * its seed and a trace; 2: usage. */
#include "sim.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    enum loch_mutation id;
    const char *name, *text;
} mutations[] = {
#define MUTATION_ROW(id_, name_, text_) {LOCH_MUTATION_##id_, name_, text_},
    LOCH_MUTATION_LIST(MUTATION_ROW)
#undef MUTATION_ROW
};

static int usage(FILE *to)
{
    (void)fprintf(to, "usage: loch-sim --from SEED --count N [--mutation NAME] [--trace]\n"
                      "       loch-sim --list-mutations\n"
                      "Runs N seeds of the consensus in a simulated, hostile world.\n"
                      "Exit status: 0 no violation, 3 a violation (seed and trace are printed), "
                      "2 usage.\n");
    return to == stdout ? 0 : 2;
}

static bool parse_number(const char *text, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0';
}

static bool find_mutation(const char *name)
{
    for (size_t i = 0; i < sizeof mutations / sizeof *mutations; i++) {
        if (strcmp(mutations[i].name, name) == 0) {
            loch_mutation = mutations[i].id;
            return true;
        }
    }
    return false;
}

static void add(struct counters *sum, const struct counters *c)
{
    sum->elections += c->elections;
    sum->truncations += c->truncations;
    sum->commits += c->commits;
    sum->crashes += c->crashes;
    sum->recoveries += c->recoveries;
    sum->writes += c->writes;
    sum->fenced += c->fenced;
    sum->changes += c->changes;
    sum->aborts += c->aborts;
    sum->lost_disks += c->lost_disks;
}

static void report(const struct counters *c, uint64_t seeds)
{
    const double n = seeds == 0 ? 1 : (double)seeds;

    printf("seeds %" PRIu64 " elections %" PRIu64 " truncations %" PRIu64 " commits %" PRIu64
           " crashes %" PRIu64 " recoveries %" PRIu64 " writes %" PRIu64 " fenced %" PRIu64
           " configuration_changes %" PRIu64 " aborted_changes %" PRIu64 " lost_disks %" PRIu64
           "\n",
           seeds, c->elections, c->truncations, c->commits, c->crashes, c->recoveries, c->writes,
           c->fenced, c->changes, c->aborts, c->lost_disks);
    printf("mean per seed: elections %.1f truncations %.1f commits %.1f crashes %.1f recoveries "
           "%.1f configuration changes %.1f\n",
           (double)c->elections / n, (double)c->truncations / n, (double)c->commits / n,
           (double)c->crashes / n, (double)c->recoveries / n, (double)c->changes / n);
}

/* The same seed once more; prints how it came to the violation. */
static void retrace(struct world *w, uint64_t seed)
{
    static char tail[SIM_TAIL_LINES * SIM_LINE_BYTES];

    world_run(w, seed, true, tail);
    printf("the last events before it (step, event; all of them with --trace):\n");
    const uint64_t first = w->tail_lines > SIM_TAIL_LINES ? w->tail_lines - SIM_TAIL_LINES : 0;
    for (uint64_t k = first; k < w->tail_lines; k++)
        printf("%s\n", tail + k % SIM_TAIL_LINES * SIM_LINE_BYTES);
    world_fini(w);
}

static int run(uint64_t from, uint64_t count, bool trace)
{
    static struct world w;
    struct counters sum = {0};

    for (uint64_t seed = from; seed < from + count; seed++) {
        world_run(&w, seed, trace, NULL);
        add(&sum, &w.counters);
        if (w.violation[0] != '\0') {
            char text[sizeof w.violation];
            memcpy(text, w.violation, sizeof text);
            printf("violation at seed %" PRIu64 ", step %" PRIu64 ": %s\n", seed, w.step, text);
            world_fini(&w);
            if (!trace)
                retrace(&w, seed);
            printf("violation at seed %" PRIu64 ": %s\n", seed, text);
            report(&sum, seed - from + 1);
            return 3;
        }
        world_fini(&w);
    }
    report(&sum, count);
    printf("no violation\n");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"from", required_argument, NULL, 'f'},
                                            {"count", required_argument, NULL, 'c'},
                                            {"mutation", required_argument, NULL, 'm'},
                                            {"list-mutations", no_argument, NULL, 'l'},
                                            {"trace", no_argument, NULL, 't'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    uint64_t from = 0, count = 0;
    bool have_from = false, have_count = false, trace = false;
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case 'f':
            have_from = parse_number(optarg, &from);
            break;
        case 'c':
            have_count = parse_number(optarg, &count);
            break;
        case 'm':
            if (!find_mutation(optarg)) {
                (void)fprintf(stderr, "no mutation \"%s\"; see --list-mutations\n", optarg);
                return 2;
            }
            break;
        case 'l':
            for (size_t i = 0; i < sizeof mutations / sizeof *mutations; i++)
                printf("%s %s\n", mutations[i].name, mutations[i].text);
            return 0;
        case 't':
            trace = true;
            break;
        case 'h':
            return usage(stdout);
        default:
            return usage(stderr);
        }
    }
    if (!have_from || !have_count || count > UINT64_MAX - from || optind != argc)
        return usage(stderr);
    return run(from, count, trace);
}
