/* loch-model: exit 0 all equal, 3 a violation (with its seed), 1 wrong use. */
#include "model.h"

#include "read/page_cache.h"
#include "store/frame_cache.h"
#include "store/mutation.h"

#include "loch/base/log.h"
#include "loch/crypto/random.h"
#include "loch/host/keys.h"
#include "loch/kms/kms.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum loch_store_mutation loch_store_mutation;

#define VIOLATION_EXIT 3

static const struct {
    const char *name, *text;
} mutations[] = {{"none", "the engine as it is"},
#define NAME_AND_TEXT(id_, name_, text_) {name_, text_},
                 LOCH_STORE_MUTATION_LIST(NAME_AND_TEXT)
#undef NAME_AND_TEXT
};
#define MUTATIONS (sizeof mutations / sizeof mutations[0])

void violation(const struct history *h, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("violation: seed %llu, operation %llu: ", (unsigned long long)h->seed,
           (unsigned long long)h->operations);
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
    exit(VIOLATION_EXIT);
}

uint64_t roll(struct history *h, uint64_t below)
{
    h->random ^= h->random << 13;
    h->random ^= h->random >> 7;
    h->random ^= h->random << 17;
    return h->random % below;
}

struct line *random_line(struct history *h)
{
    struct line *line = &h->lines[roll(h, LINES_MAX)];
    return line->used ? line : &h->lines[0];
}

static void must(loch_status st)
{
    if (loch_is_ok(st))
        return;
    fprintf(stderr, "loch-model: %s\n", loch_error_text());
    exit(1);
}

/* Keys are made once, in a world that does not die; histories use them. */
static void set_up(struct history *h, struct world *keys_world, struct loch_kms **kms)
{
    char path[64] = "/tmp/loch-model-XXXXXX", uri[96];
    int fd = mkstemp(path);
    if (fd < 0)
        exit(1);
    close(fd);
    unlink(path);
    must(loch_kms_file_create(path));
    snprintf(uri, sizeof uri, "file:%s", path);
    must(loch_kms_open(uri, NULL, kms));
    struct loch_keys_options o = {
        .store = world_objstore(keys_world), .kms = *kms, .role = LOCH_ROLE_PAGESERVER};
    must(loch_random_id(&o.cluster));
    must(loch_random_id(&o.node));
    must(loch_random_id(&h->tenant));
    must(loch_keys_create(&o, &h->keys));
    must(loch_keys_tenant_create(h->keys, &h->tenant));
    for (size_t i = 0; i < LINES_MAX; i++) {
        must(loch_random_id(&h->lines[i].id));
        must(loch_keys_add_timeline(h->keys, &h->tenant, &h->lines[i].id));
    }
    unlink(path);
    h->world = world_create();
    h->store = (struct loch_store){.env = world_env(h->world),
                                   .objstore = world_objstore(h->world),
                                   .dir = "d",
                                   .node = o.node,
                                   .open_layer_bytes = (size_t)64 << 20,
                                   .one_thread = true,
                                   .image_records_max = RECORDS_MAX,
                                   .image_bytes_max = 1u << 20};
    must(loch_page_cache_create((size_t)1 << 18, &h->store.cache));
    must(loch_frame_cache_create((size_t)1 << 18, &h->store.frames));
}

static void tear_down(struct history *h, struct world *keys_world, struct loch_kms *kms)
{
    loch_page_cache_destroy(h->store.cache);
    loch_frame_cache_destroy(h->store.frames);
    loch_keys_destroy(h->keys);
    loch_kms_close(kms);
    world_destroy(h->world);
    world_destroy(keys_world);
}

static void usage(void)
{
    printf("Usage: loch-model [--from SEED] [--count N] [--steps N] [--mutation NAME]\n"
           "       loch-model --list-mutations\n\n"
           "Random histories of the storage engine, every read compared with a model that keeps\n"
           "everything. Exit 3: a violation, with its seed.\n");
}

struct arguments {
    uint64_t from, count, steps;
    bool list;
};

static void read_arguments(int argc, char **argv, struct arguments *a)
{
    static const struct option options[] = {{"from", required_argument, NULL, 'f'},
                                            {"count", required_argument, NULL, 'c'},
                                            {"steps", required_argument, NULL, 's'},
                                            {"mutation", required_argument, NULL, 'm'},
                                            {"list-mutations", no_argument, NULL, 'l'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        size_t m = 0;
        if (c == 'f')
            a->from = strtoull(optarg, NULL, 10);
        else if (c == 'c')
            a->count = strtoull(optarg, NULL, 10);
        else if (c == 's')
            a->steps = strtoull(optarg, NULL, 10);
        else if (c == 'l')
            a->list = true;
        else if (c == 'm') {
            while (m < MUTATIONS && strcmp(mutations[m].name, optarg) != 0)
                m++;
            if (m == MUTATIONS)
                exit(1);
            loch_store_mutation = (enum loch_store_mutation)m;
        } else {
            usage();
            exit(c == 'h' ? 0 : 1);
        }
    }
}

int main(int argc, char **argv)
{
    struct arguments a = {1, 1000, 220, false};
    static struct history h;
    struct world *keys_world = world_create();
    struct loch_kms *kms = NULL;
    read_arguments(argc, argv, &a);
    loch_log_init("loch-model", LOCH_LOG_ERROR);
    if (a.list) {
        for (size_t i = 1; i < MUTATIONS; i++)
            printf("%-22s %s\n", mutations[i].name, mutations[i].text);
        world_destroy(keys_world);
        return 0;
    }
    set_up(&h, keys_world, &kms);
    for (uint64_t seed = a.from; seed < a.from + a.count; seed++) {
        h.store.copies = seed % 2 == 0;
        h.store.flush_parts = 1 + (uint32_t)(seed % 3);
        h.store.flush_part_bytes = 1;
        h.store.zstd = seed % 5 == 0;
        begin_history(&h, seed);
        for (uint64_t i = 0; i < a.steps; i++)
            do_something(&h);
        end_history(&h);
    }
    printf("%llu histories, %llu operations, %llu merges, %llu moves of a cutoff, %llu branches, "
           "%llu deaths, %llu checked reads (of pages: %llu written again after a cut, %llu of a "
           "reused id, %llu in a branch below whose start they were cut), %llu refused, %llu "
           "bounds, %llu bytes removed\n",
           (unsigned long long)a.count, (unsigned long long)h.operations,
           (unsigned long long)h.merges, (unsigned long long)h.moved,
           (unsigned long long)h.branches, (unsigned long long)h.crashes,
           (unsigned long long)h.reads, (unsigned long long)h.extended_again,
           (unsigned long long)h.reused, (unsigned long long)h.cut_below,
           (unsigned long long)h.refused, (unsigned long long)h.bounds,
           (unsigned long long)h.dropped_bytes);
    tear_down(&h, keys_world, kms);
    const bool all = h.dropped_bytes > 0 && h.moved > 0 && h.crashes > 0 && h.extended_again > 0 &&
                     h.reused > 0 && h.cut_below > 0;
    return all ? 0 : 1; /* a run that did not come by everything proves less than it says */
}
