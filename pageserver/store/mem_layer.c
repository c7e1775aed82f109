/* A layer in memory: an arena of bytes, a list of version nodes chained per key (newest first), and
 * a hash of keys. The lock guards all but the arena's chunks, which never move. */
#include "mem_layer.h"

#include "nodes.h"

#include "loch/base/check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Chunks grow from the least to the most: a branch that has one small value open is not to cost a
 * megabyte. A quarter of the most and more has a chunk of its own. */
#define CHUNK_LEAST_BYTES ((size_t)4 << 10)
#define KEYS_LEAST        16u
#define TABLE_LEAST       64u
#define NONE              LOCH_NODE_NONE
/* The way to an old version passes over so many newer ones of its key at a time, and over the
 * square of that: a step is a cache line, and nothing is touched for it when a version is put. */
#define MARK_EVERY 64u
#define KEYS_MOST  (1u << 28)

struct slot_key {
    struct loch_key key;
    uint32_t newest;
    uint32_t count;       /* of its versions */
    uint32_t mark, great; /* the newest of every MARK_EVERY, and of every square of it; or NONE */
    struct loch_chain chain; /* of the newest version */
    bool chain_known;        /* nothing below is missing in it */
};

struct loch_mem_layer {
    atomic_uint refs;
    pthread_rwlock_t lock;
    loch_lsn start_lsn, end_lsn, newest_lsn;
    struct loch_chunk *chunks;
    uint8_t *at; /* free space of the newest ordinary chunk */
    size_t left;
    size_t chunk_bytes; /* of the newest ordinary chunk; 0: none yet */
    struct loch_nodes nodes;
    struct slot_key *keys;
    uint32_t key_count, key_cap;
    uint32_t *table; /* index into keys, or NONE; a power of two, at most half full */
    uint32_t table_size;
    atomic_size_t bytes;
};

LOCH_STATUS loch_mem_layer_create(loch_lsn start_lsn, struct loch_mem_layer **out)
{
    struct loch_mem_layer *layer = calloc(1, sizeof *layer);
    if (layer == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a layer");
    atomic_init(&layer->refs, 1);
    atomic_init(&layer->bytes, 0);
    pthread_rwlock_init(&layer->lock, NULL);
    layer->start_lsn = start_lsn;
    layer->end_lsn = LOCH_LSN_MAX;
    *out = layer;
    return LOCH_OK;
}

struct loch_mem_layer *loch_mem_layer_retain(struct loch_mem_layer *layer)
{
    atomic_fetch_add_explicit(&layer->refs, 1, memory_order_relaxed);
    return layer;
}

/* Its memory, when nothing is in it any more. */
static void give_up_memory(struct loch_mem_layer *layer)
{
    while (layer->chunks != NULL) {
        struct loch_chunk *next = layer->chunks->next;
        loch_chunk_destroy(layer->chunks);
        layer->chunks = next;
    }
    loch_nodes_fini(&layer->nodes);
    free(layer->keys);
    free(layer->table);
}

void loch_mem_layer_release(struct loch_mem_layer *layer)
{
    if (layer == NULL || atomic_fetch_sub_explicit(&layer->refs, 1, memory_order_acq_rel) != 1)
        return;
    give_up_memory(layer);
    pthread_rwlock_destroy(&layer->lock);
    free(layer);
}

loch_lsn loch_mem_layer_start_lsn(const struct loch_mem_layer *layer)
{
    return layer->start_lsn;
}

loch_lsn loch_mem_layer_end_lsn(const struct loch_mem_layer *layer)
{
    return layer->end_lsn;
}

size_t loch_mem_layer_bytes(const struct loch_mem_layer *layer)
{
    return atomic_load_explicit(&layer->bytes, memory_order_relaxed);
}

size_t loch_mem_layer_versions(const struct loch_mem_layer *layer)
{
    return layer->nodes.count;
}

void loch_mem_layer_freeze(struct loch_mem_layer *layer, loch_lsn end_lsn)
{
    LOCH_ASSERT(layer->end_lsn == LOCH_LSN_MAX);
    LOCH_ASSERT(end_lsn >= layer->newest_lsn);
    layer->end_lsn = end_lsn;
}

static uint32_t key_hash(const struct loch_key *key)
{
    uint64_t a = (uint64_t)key->rel << 32 | key->block;
    uint64_t b =
        (uint64_t)key->db << 32 | ((uint64_t)key->spc << 8) | (uint64_t)key->fork << 4 | key->kind;
    uint64_t h = (a ^ UINT64_C(0x9E3779B97F4A7C15)) * UINT64_C(0xBF58476D1CE4E5B9);
    h ^= h >> 29;
    h = (h ^ b) * UINT64_C(0x94D049BB133111EB);
    h ^= h >> 32;
    return (uint32_t)h;
}

/* The key's index in keys, or NONE; *slot: where it is or belongs in the table. */
static uint32_t find_key(const struct loch_mem_layer *layer, const struct loch_key *key,
                         uint32_t *slot)
{
    if (layer->table_size == 0)
        return NONE;
    uint32_t mask = layer->table_size - 1;
    uint32_t i = key_hash(key) & mask;
    while (layer->table[i] != NONE) {
        if (loch_key_compare(&layer->keys[layer->table[i]].key, key) == 0) {
            *slot = i;
            return layer->table[i];
        }
        i = (i + 1) & mask;
    }
    *slot = i;
    return NONE;
}

static void count_bytes(struct loch_mem_layer *layer, size_t more)
{
    atomic_fetch_add_explicit(&layer->bytes, more, memory_order_relaxed);
}

/* Of the chunk that comes next, for `len` bytes at least. */
static size_t next_chunk(const struct loch_mem_layer *layer, size_t len)
{
    size_t size = layer->chunk_bytes == 0 ? CHUNK_LEAST_BYTES : layer->chunk_bytes * 2;
    while (size < 4 * len)
        size *= 2;
    return size < LOCH_CHUNK_MOST_BYTES ? size : LOCH_CHUNK_MOST_BYTES;
}

static loch_status arena_copy(struct loch_mem_layer *layer, struct loch_slice bytes,
                              const uint8_t **out)
{
    if (bytes.len == 0) {
        *out = NULL;
        return LOCH_OK;
    }
    bool own = bytes.len > LOCH_CHUNK_MOST_BYTES / 4;
    if (own || bytes.len > layer->left) {
        size_t size = own ? bytes.len : next_chunk(layer, bytes.len);
        struct loch_chunk *chunk = loch_chunk_create(size);
        if (chunk == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu bytes of a layer", size);
        chunk->next = layer->chunks;
        layer->chunks = chunk;
        if (own) {
            count_bytes(layer, size);
            memcpy(chunk->bytes, bytes.data, bytes.len);
            *out = chunk->bytes;
            return LOCH_OK;
        }
        layer->at = chunk->bytes;
        layer->left = layer->chunk_bytes = size;
    }
    /* What is used, not what is allocated: a fresh layer must not be over a small limit. */
    count_bytes(layer, bytes.len);
    memcpy(layer->at, bytes.data, bytes.len);
    *out = layer->at;
    layer->at += bytes.len;
    layer->left -= bytes.len;
    return LOCH_OK;
}

static void fill_table(struct loch_mem_layer *layer)
{
    const uint32_t mask = layer->table_size - 1;
    memset(layer->table, 0xff, layer->table_size * sizeof *layer->table);
    for (uint32_t k = 0; k < layer->key_count; k++) {
        uint32_t i = key_hash(&layer->keys[k].key) & mask;
        while (layer->table[i] != NONE)
            i = (i + 1) & mask;
        layer->table[i] = k;
    }
}

static loch_status rehash(struct loch_mem_layer *layer)
{
    uint32_t size = layer->table_size == 0 ? TABLE_LEAST : layer->table_size * 2;
    uint32_t *table = malloc(size * sizeof *table);
    if (table == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a table of %u keys", size);
    count_bytes(layer, (size - layer->table_size) * sizeof *table);
    free(layer->table);
    layer->table = table;
    layer->table_size = size;
    fill_table(layer);
    return LOCH_OK;
}

/* Room for one more node and one more key. */
static loch_status reserve(struct loch_mem_layer *layer)
{
    size_t more = 0;
    LOCH_TRY(loch_nodes_reserve(&layer->nodes, &more));
    if (more > 0)
        count_bytes(layer, more);
    if (layer->key_count == layer->key_cap) {
        uint32_t cap = layer->key_cap == 0 ? KEYS_LEAST : layer->key_cap * 2;
        struct slot_key *keys =
            cap > KEYS_MOST ? NULL : reallocarray(layer->keys, cap, sizeof *keys);
        if (keys == NULL)
            return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %u keys", cap);
        count_bytes(layer, (cap - layer->key_cap) * sizeof *keys);
        layer->keys = keys;
        layer->key_cap = cap;
    }
    if (layer->key_count >= layer->table_size / 2)
        LOCH_TRY(rehash(layer));
    return LOCH_OK;
}

static void count_chain(struct slot_key *key, enum loch_version_kind kind, size_t bytes)
{
    uint64_t sum = (uint64_t)key->chain.bytes + bytes;
    if (kind == LOCH_VERSION_VALUE) {
        key->chain = (struct loch_chain){0};
        key->chain_known = true;
    } else if (kind == LOCH_VERSION_RECORD_INIT) {
        key->chain = (struct loch_chain){1, (uint32_t)bytes};
        key->chain_known = true;
    } else {
        key->chain.records++;
        key->chain.bytes = (uint32_t)loch_min_u64(UINT32_MAX, sum);
    }
}

/* The node that the key's next one is to mark, which has index `node`. */
static uint32_t take_mark(struct slot_key *key, uint32_t node)
{
    const uint32_t n = key->count++;
    const uint32_t mark = n % (MARK_EVERY * MARK_EVERY) == 0 ? key->great : key->mark;
    if (n % MARK_EVERY == 0)
        key->mark = node;
    if (n % (MARK_EVERY * MARK_EVERY) == 0)
        key->great = node;
    return mark;
}

static loch_status put_locked(struct loch_mem_layer *layer, const struct loch_key *keys,
                              const uint8_t *kinds, size_t count,
                              const struct loch_version *version, struct loch_mem_chain *chains)
{
    const uint8_t *data = NULL;
    LOCH_TRY(arena_copy(layer, version->bytes, &data));
    for (size_t i = 0; i < count; i++) {
        LOCH_TRY(reserve(layer));
        uint32_t slot = 0;
        uint32_t k = find_key(layer, &keys[i], &slot);
        if (k == NONE) {
            k = layer->key_count++;
            layer->keys[k] =
                (struct slot_key){.key = keys[i], .newest = NONE, .mark = NONE, .great = NONE};
            layer->table[slot] = k;
        }
        struct loch_node *node = loch_node_at(&layer->nodes, layer->nodes.count);
        *node = (struct loch_node){
            .lsn = version->lsn,
            .start_lsn = version->start_lsn,
            .data = data,
            .len = (uint32_t)version->bytes.len,
            .older = layer->keys[k].newest,
            .mark = take_mark(&layer->keys[k], layer->nodes.count),
            .key = k & (KEYS_MOST - 1),
            .kind = (kinds != NULL ? kinds[i] : (uint32_t)version->kind) & 15u,
        };
        count_chain(&layer->keys[k], (enum loch_version_kind)node->kind, version->bytes.len);
        layer->keys[k].newest = layer->nodes.count++;
        if (chains != NULL)
            chains[i] = (struct loch_mem_chain){layer->keys[k].chain, layer->keys[k].chain_known};
    }
    return LOCH_OK;
}

LOCH_STATUS loch_mem_layer_put_chains(struct loch_mem_layer *layer, const struct loch_key *keys,
                                      const uint8_t *kinds, size_t count,
                                      const struct loch_version *version,
                                      struct loch_mem_chain *chains)
{
    LOCH_ASSERT(layer->end_lsn == LOCH_LSN_MAX);
    LOCH_ASSERT(version->lsn >= layer->newest_lsn);
    if (version->bytes.len > LOCH_VERSION_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_LIMIT, "it has a version of %zu bytes, and %zu are the most",
                         version->bytes.len, LOCH_VERSION_MAX_BYTES);
    pthread_rwlock_wrlock(&layer->lock);
    layer->newest_lsn = version->lsn;
    loch_status st = put_locked(layer, keys, kinds, count, version, chains);
    pthread_rwlock_unlock(&layer->lock);
    return st;
}

LOCH_STATUS loch_mem_layer_put(struct loch_mem_layer *layer, const struct loch_key *keys,
                               const uint8_t *kinds, size_t count,
                               const struct loch_version *version)
{
    return loch_mem_layer_put_chains(layer, keys, kinds, count, version, NULL);
}

/* ---- taking back ---- */

/* The key's marks and chain, from the versions that it has. */
static void count_again(const struct loch_mem_layer *layer, struct slot_key *key)
{
    const struct loch_node *node;
    uint64_t bytes = 0;
    bool base = false;
    uint32_t left = key->count;
    key->mark = key->great = NONE;
    key->chain = (struct loch_chain){0};
    for (uint32_t n = key->newest; n != NONE && (!base || key->great == NONE); n = node->older) {
        node = loch_node_at(&layer->nodes, n);
        const bool record = node->kind != LOCH_VERSION_VALUE;
        left--;
        if (left % MARK_EVERY == 0 && key->mark == NONE)
            key->mark = n;
        if (left % (MARK_EVERY * MARK_EVERY) == 0 && key->great == NONE)
            key->great = n;
        if (!base && record) {
            bytes += node->len;
            key->chain.records++;
        }
        base = base || !record || node->kind == LOCH_VERSION_RECORD_INIT;
    }
    key->chain.bytes = (uint32_t)loch_min_u64(UINT32_MAX, bytes);
    key->chain_known = base;
}

/* Keys and versions lie in the order in which they came. */
static void take_back_locked(struct loch_mem_layer *layer, loch_lsn lsn)
{
    struct loch_nodes *nodes = &layer->nodes;
    const uint32_t count = nodes->count, keys = layer->key_count;
    while (nodes->count > 0 && loch_node_at(nodes, nodes->count - 1)->lsn > lsn) {
        const struct loch_node *node = loch_node_at(nodes, --nodes->count);
        layer->keys[node->key].newest = node->older;
        layer->keys[node->key].count--;
    }
    for (uint32_t n = nodes->count; n < count; n++)
        count_again(layer, &layer->keys[loch_node_at(nodes, n)->key]);
    while (layer->key_count > 0 && layer->keys[layer->key_count - 1].count == 0)
        layer->key_count--;
    if (layer->key_count < keys)
        fill_table(layer);
}

static void empty_locked(struct loch_mem_layer *layer)
{
    give_up_memory(layer);
    layer->keys = NULL;
    layer->table = NULL;
    layer->at = NULL;
    layer->left = layer->chunk_bytes = 0;
    layer->key_cap = layer->table_size = 0;
    atomic_store_explicit(&layer->bytes, 0, memory_order_relaxed);
}

void loch_mem_layer_take_back(struct loch_mem_layer *layer, loch_lsn lsn)
{
    LOCH_ASSERT(layer->end_lsn == LOCH_LSN_MAX);
    pthread_rwlock_wrlock(&layer->lock);
    take_back_locked(layer, lsn);
    layer->newest_lsn = loch_min_u64(layer->newest_lsn, lsn);
    if (layer->nodes.count == 0)
        empty_locked(layer);
    pthread_rwlock_unlock(&layer->lock);
}

/* ---- reading ---- */

static struct loch_version node_version(const struct loch_node *node)
{
    return (struct loch_version){.lsn = node->lsn,
                                 .start_lsn = node->start_lsn,
                                 .kind = (enum loch_version_kind)node->kind,
                                 .bytes = loch_slice_of(node->data, node->len)};
}

/* The newest of the key's nodes at or below `lsn`. */
static uint32_t find_node(const struct loch_mem_layer *layer, uint32_t newest, loch_lsn lsn,
                          uint64_t *passed)
{
    const struct loch_nodes *nodes = &layer->nodes;
    uint32_t n = newest;
    for (; n != NONE && loch_node_at(nodes, n)->lsn > lsn; (*passed)++) {
        const struct loch_node *node = loch_node_at(nodes, n);
        const bool far = node->mark != NONE && loch_node_at(nodes, node->mark)->lsn > lsn;
        n = far ? node->mark : node->older;
    }
    return n;
}

static loch_status collect_locked(const struct loch_mem_layer *layer, const struct loch_key *key,
                                  loch_lsn floor, loch_lsn lsn, struct loch_versions *out,
                                  bool *base)
{
    uint32_t slot = 0;
    uint32_t k = find_key(layer, key, &slot);
    if (k == NONE)
        return LOCH_OK;
    uint32_t n = find_node(layer, layer->keys[k].newest, lsn, &out->passed);
    const struct loch_node *node;
    for (; n != NONE; n = node->older) {
        node = loch_node_at(&layer->nodes, n);
        if (node->lsn < floor)
            return LOCH_OK;
        struct loch_version v = node_version(node);
        LOCH_TRY(loch_versions_add(out, &v));
        if (loch_version_is_base(&v)) {
            *base = true;
            return LOCH_OK;
        }
    }
    return LOCH_OK;
}

bool loch_mem_layer_chain(struct loch_mem_layer *layer, const struct loch_key *key,
                          struct loch_chain *out, bool *known)
{
    uint32_t slot = 0;
    pthread_rwlock_rdlock(&layer->lock);
    uint32_t k = find_key(layer, key, &slot);
    if (k != NONE) {
        *out = layer->keys[k].chain;
        *known = layer->keys[k].chain_known;
    }
    pthread_rwlock_unlock(&layer->lock);
    return k != NONE;
}

void loch_mem_layer_add_chain(struct loch_mem_layer *layer, const struct loch_key *key,
                              const struct loch_chain *below)
{
    uint32_t slot = 0;
    pthread_rwlock_wrlock(&layer->lock);
    uint32_t k = find_key(layer, key, &slot);
    LOCH_ASSERT(k != NONE);
    LOCH_ASSERT(!layer->keys[k].chain_known);
    struct slot_key *at = &layer->keys[k];
    at->chain.records += below->records;
    at->chain.bytes = (uint32_t)loch_min_u64(UINT32_MAX, (uint64_t)at->chain.bytes + below->bytes);
    at->chain_known = true;
    pthread_rwlock_unlock(&layer->lock);
}

LOCH_STATUS loch_mem_layer_collect(struct loch_mem_layer *layer, const struct loch_key *key,
                                   loch_lsn floor, loch_lsn lsn, struct loch_versions *out,
                                   bool *base)
{
    *base = false;
    pthread_rwlock_rdlock(&layer->lock);
    loch_status st = collect_locked(layer, key, floor, lsn, out, base);
    pthread_rwlock_unlock(&layer->lock);
    return st;
}

static int compare_keys(const void *a, const void *b)
{
    return loch_key_compare(a, b);
}

LOCH_STATUS loch_mem_layer_keys(struct loch_mem_layer *layer, const struct loch_key *first,
                                const struct loch_key *end, struct loch_key **out, size_t *count)
{
    pthread_rwlock_rdlock(&layer->lock);
    size_t n = 0;
    for (uint32_t k = 0; k < layer->key_count; k++)
        n += loch_key_compare(&layer->keys[k].key, first) >= 0 &&
             loch_key_compare(&layer->keys[k].key, end) < 0;
    struct loch_key *keys = reallocarray(*out, *count + n + 1, sizeof *keys);
    if (keys == NULL) {
        pthread_rwlock_unlock(&layer->lock);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu keys", n);
    }
    size_t at = *count;
    for (uint32_t k = 0; k < layer->key_count; k++) {
        const struct loch_key *key = &layer->keys[k].key;
        if (loch_key_compare(key, first) >= 0 && loch_key_compare(key, end) < 0)
            keys[at++] = *key;
    }
    pthread_rwlock_unlock(&layer->lock);
    qsort(keys + *count, at - *count, sizeof *keys, compare_keys);
    *out = keys;
    *count = at;
    return LOCH_OK;
}

/* ---- all of it, key by key ---- */

/* So far ahead a node, and half as far its bytes, are fetched into the processor's cache: one key's
 * versions lie as far apart as they were put. */
#define FETCH_AHEAD 16u

struct ranked {
    struct loch_key key;
    uint32_t index;
};

struct loch_mem_scan {
    const struct loch_mem_layer *layer;
    uint32_t count;
    struct ranked *keys; /* in order */
    uint32_t *starts;    /* of each key's versions in `nodes`, and their end */
    uint32_t *nodes;     /* key by key, newest first */
    uint64_t *bytes;     /* of each key's versions */
};

static int compare_ranked(const void *a, const void *b)
{
    return loch_key_compare(&((const struct ranked *)a)->key, &((const struct ranked *)b)->key);
}

/* Two walks through the nodes as they lie; ranks: of each key by its index. */
static void scan_order(struct loch_mem_scan *s, uint32_t *ranks)
{
    const struct loch_mem_layer *layer = s->layer;
    for (uint32_t i = 0; i < s->count; i++)
        s->keys[i] = (struct ranked){layer->keys[i].key, i};
    qsort(s->keys, s->count, sizeof *s->keys, compare_ranked);
    for (uint32_t i = 0; i < s->count; i++)
        ranks[s->keys[i].index] = i;
    for (uint32_t n = 0; n < layer->nodes.count; n++) {
        const struct loch_node *node = loch_node_at(&layer->nodes, n);
        const uint32_t rank = ranks[node->key];
        s->starts[rank + 1]++;
        s->bytes[rank] += node->len + sizeof *node;
    }
    for (uint32_t i = 0; i < s->count; i++)
        s->starts[i + 1] += s->starts[i];
    for (uint32_t n = 0; n < layer->nodes.count; n++) /* the oldest to the end */
        s->nodes[--s->starts[ranks[loch_node_at(&layer->nodes, n)->key] + 1]] = n;
    /* what was the end of each is its start now */
    memmove(s->starts, s->starts + 1, s->count * sizeof *s->starts);
    s->starts[s->count] = layer->nodes.count;
}

LOCH_STATUS loch_mem_scan_create(const struct loch_mem_layer *layer, struct loch_mem_scan **out)
{
    LOCH_ASSERT(layer->end_lsn != LOCH_LSN_MAX);
    struct loch_mem_scan *s = calloc(1, sizeof *s);
    if (s == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the order of a layer");
    const size_t count = layer->key_count;
    uint32_t *ranks = calloc(count + 1, sizeof *ranks);
    s->layer = layer;
    s->count = layer->key_count;
    s->keys = calloc(count + 1, sizeof *s->keys);
    s->starts = calloc(count + 1, sizeof *s->starts);
    s->nodes = calloc((size_t)layer->nodes.count + 1, sizeof *s->nodes);
    s->bytes = calloc(count + 1, sizeof *s->bytes);
    if (ranks == NULL || s->keys == NULL || s->starts == NULL || s->nodes == NULL ||
        s->bytes == NULL) {
        free(ranks);
        loch_mem_scan_destroy(s);
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the order of %zu keys", count);
    }
    scan_order(s, ranks);
    free(ranks);
    *out = s;
    return LOCH_OK;
}

void loch_mem_scan_destroy(struct loch_mem_scan *scan)
{
    if (scan == NULL)
        return;
    free(scan->keys);
    free(scan->starts);
    free(scan->nodes);
    free(scan->bytes);
    free(scan);
}

size_t loch_mem_scan_count(const struct loch_mem_scan *scan)
{
    return scan->count;
}

const struct loch_key *loch_mem_scan_key(const struct loch_mem_scan *scan, size_t i)
{
    LOCH_ASSERT(i < scan->count);
    return &scan->keys[i].key;
}

static void fetch_ahead(const struct loch_mem_scan *s, uint32_t at)
{
    const struct loch_nodes *nodes = &s->layer->nodes;
    const uint32_t left = s->starts[s->count] - at;
    if (left > FETCH_AHEAD)
        __builtin_prefetch(loch_node_at(nodes, s->nodes[at + FETCH_AHEAD]));
    if (left > FETCH_AHEAD / 2)
        __builtin_prefetch(loch_node_at(nodes, s->nodes[at + FETCH_AHEAD / 2])->data);
}

LOCH_STATUS loch_mem_scan_history(const struct loch_mem_scan *scan, size_t i,
                                  struct loch_versions *out)
{
    LOCH_ASSERT(i < scan->count);
    for (uint32_t at = scan->starts[i]; at < scan->starts[i + 1]; at++) {
        const struct loch_version v =
            node_version(loch_node_at(&scan->layer->nodes, scan->nodes[at]));
        fetch_ahead(scan, at);
        LOCH_TRY(loch_versions_add(out, &v));
    }
    return LOCH_OK;
}

size_t loch_mem_scan_divide(const struct loch_mem_scan *scan, size_t parts, size_t *ends)
{
    uint64_t all = 0, sum = 0;
    size_t n = 0;
    LOCH_ASSERT(scan->count > 0);
    LOCH_ASSERT(parts > 0);
    for (uint32_t i = 0; i < scan->count; i++)
        all += scan->bytes[i];
    for (uint32_t i = 0; i + 1 < scan->count && n + 1 < parts; i++) {
        sum += scan->bytes[i];
        if (sum >= all / parts * (n + 1))
            ends[n++] = i + 1;
    }
    ends[n++] = scan->count;
    return n;
}

uint64_t loch_mem_scan_halve(const struct loch_mem_scan *scan, size_t begin, size_t end,
                             size_t *middle)
{
    uint64_t all = 0, sum = 0;
    LOCH_ASSERT(end <= scan->count);
    LOCH_ASSERT(end - begin >= 2);
    for (size_t i = begin; i < end; i++)
        all += scan->bytes[i];
    for (*middle = begin; *middle + 1 < end && (*middle == begin || sum < all / 2); ++*middle)
        sum += scan->bytes[*middle];
    return all;
}
