/* How long it takes to find the layers that may hold a key, by the number of layers: one JSON
 * object a line. It builds its own copy of the map, over layers that are names only. Usage:
 * layer_map_bench [--lookups N]   (default 200000) */
#include "store/layer_set.h"

#include "loch/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEYS 100000000u

struct loch_layer {
    struct loch_layer_desc desc;
};

/* ---- what the map needs of layers ---- */

struct loch_layer *loch_layer_retain(struct loch_layer *layer)
{
    return layer;
}

void loch_layer_release(struct loch_layer *layer)
{
    (void)layer;
}

const struct loch_layer_desc *loch_layer_desc(const struct loch_layer *layer)
{
    return &layer->desc;
}

struct loch_mem_layer *loch_mem_layer_retain(struct loch_mem_layer *layer)
{
    return layer;
}

void loch_mem_layer_release(struct loch_mem_layer *layer)
{
    (void)layer;
}

/* ---- the measurement ---- */

static uint64_t now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Bands as merging leaves them: `fan_in` - 1 of each size, a file in those of the newest tier. */
static struct loch_layer_set *make_set(size_t layers, struct loch_layer *store)
{
    struct loch_layer **files = calloc(layers, sizeof(struct loch_layer *));
    struct loch_layer_set *set = NULL;
    size_t n = 0, per_band = 1, in_tier = 0;
    loch_lsn end = UINT64_C(1) << 40;
    LOCH_ASSERT(files != NULL);
    while (n < layers) {
        size_t count = layers - n < per_band ? layers - n : per_band;
        for (size_t i = 0; i < count; i++, n++) {
            struct loch_layer_desc *d = &store[n].desc;
            d->span.start_lsn = end - 1000;
            d->span.end_lsn = end;
            d->span.first =
                (struct loch_key){.kind = LOCH_KEY_PAGE, .block = (uint32_t)(KEYS / count * i)};
            d->span.last = d->span.first;
            d->span.last.block += (uint32_t)(KEYS / count - 1);
            files[n] = &store[n];
        }
        end -= 1000;
        if (++in_tier == 9) {
            in_tier = 0;
            per_band *= 10;
        }
    }
    const struct loch_layer_set_parts parts = {.files = files, .file_count = layers};
    loch_status st = loch_layer_set_create(&parts, &set);
    LOCH_ASSERT(loch_is_ok(st));
    free(files);
    return set;
}

/* Every band is asked: the cost of a key that is nowhere. */
static void measure(size_t layers, uint64_t lookups)
{
    struct loch_layer *store = calloc(layers, sizeof *store);
    uint64_t random = 88172645463325252u, found = 0;
    LOCH_ASSERT(store != NULL);
    struct loch_layer_set *set = make_set(layers, store);
    uint64_t begun = now_ns();
    for (uint64_t i = 0; i < lookups; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        struct loch_key key = {.kind = LOCH_KEY_PAGE, .block = (uint32_t)(random % KEYS)};
        for (size_t b = loch_layer_set_first_band(set, LOCH_LSN_MAX); b < set->band_count; b++)
            found += loch_layer_set_find(set, b, &key) != NULL;
    }
    uint64_t ns = now_ns() - begun;
    printf(
        "{\"layers\": %zu, \"bands\": %zu, \"ns_per_lookup\": %.0f, \"layers_per_lookup\": %.1f}\n",
        layers, set->band_count, (double)ns / (double)lookups, (double)found / (double)lookups);
    loch_layer_set_release(set);
    free(store);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {10, 100, 1000, 10000, 100000};
    uint64_t lookups = 200000;
    if (argc == 3 && strcmp(argv[1], "--lookups") == 0)
        lookups = strtoull(argv[2], NULL, 10);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        measure(sizes[i], lookups);
    return 0;
}
