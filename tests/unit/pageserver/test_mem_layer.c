/* Memory layers: what is collected, counted and shared. */
#include "store_fixture.h"

#include "store/chunk.h"
#include "store/mem_layer.h"
#include "store/nodes.h"

static void mem_collects_down_to_the_base(void **state)
{
    (void)state;
    struct loch_mem_layer *layer = NULL;
    struct loch_key key = page_key(7), other = page_key(8);
    struct loch_versions list = {0};
    bool base = true;
    assert_ok(loch_mem_layer_create(100, &layer));
    mem_put(layer, &key, 110, LOCH_VERSION_RECORD, "old");
    mem_put(layer, &key, 120, LOCH_VERSION_RECORD_INIT, "init");
    mem_put(layer, &key, 130, LOCH_VERSION_RECORD, "a");
    mem_put(layer, &other, 135, LOCH_VERSION_VALUE, "other");
    mem_put(layer, &key, 140, LOCH_VERSION_RECORD, "b");
    assert_ok(loch_mem_layer_collect(layer, &key, 0, 139, &list, &base));
    assert_true(base);
    assert_int_equal(list.count, 2);
    assert_int_equal(list.items[0].lsn, 130);
    assert_int_equal(list.items[1].kind, LOCH_VERSION_RECORD_INIT);
    list.count = 0;
    assert_ok(loch_mem_layer_collect(layer, &key, 0, 115, &list, &base));
    assert_false(base);
    assert_int_equal(list.count, 1);
    list.count = 0;
    assert_ok(loch_mem_layer_collect(layer, &key, 131, 500, &list, &base));
    assert_int_equal(list.count, 1);
    assert_memory_equal(list.items[0].bytes.data, "b", 1);
    loch_versions_fini(&list);
    loch_mem_layer_release(layer);
}

/* The way to an old version does not lead past all newer ones. */
static void mem_finds_old_versions_soon(void **state)
{
    enum { VERSIONS = 50000 };
    (void)state;
    struct loch_mem_layer *layer = NULL;
    struct loch_key key = page_key(7), other = page_key(8);
    assert_ok(loch_mem_layer_create(1, &layer));
    for (uint32_t i = 0; i < VERSIONS; i++) { /* LSNs 10, 10, 12, 12, ... */
        mem_put(layer, &key, 10 + i / 2 * 2, LOCH_VERSION_VALUE, i % 2 == 0 ? "first" : "last");
        if (i % 3 == 0)
            mem_put(layer, &other, 10 + i / 2 * 2, LOCH_VERSION_RECORD, "other");
    }
    for (uint32_t i = 0; i < VERSIONS + 20; i++) {
        struct loch_versions list = {0};
        const loch_lsn lsn = i < 20 ? i : i - 10, wanted = lsn / 2 * 2;
        bool base = false;
        assert_ok(loch_mem_layer_collect(layer, &key, 0, lsn, &list, &base));
        assert_int_equal(list.count, lsn >= 10);
        assert_int_equal(base, lsn >= 10);
        if (lsn >= 10) {
            assert_int_equal(list.items[0].lsn,
                             wanted < 10 + VERSIONS ? wanted : 10 + VERSIONS - 2);
            assert_memory_equal(list.items[0].bytes.data, "last", 4);
        }
        assert_true(list.passed < 250);
        loch_versions_fini(&list);
    }
    loch_mem_layer_release(layer);
}

/* Key by key, newest first, whatever the order of the puts. */
static void mem_scan_has_all(void **state)
{
    (void)state;
    struct loch_mem_layer *layer = NULL;
    struct loch_mem_scan *scan = NULL;
    struct loch_versions list = {0};
    char text[16];
    assert_ok(loch_mem_layer_create(1, &layer));
    for (uint32_t i = 0; i < 9000; i++) { /* key k has versions k, k + 1000, ... of `9 k % 1000` */
        struct loch_key key = page_key(i * 9 % 1000);
        snprintf(text, sizeof text, "%u", i);
        if (i % 1000 < 10 || i < 1000)
            mem_put(layer, &key, 10 + i, LOCH_VERSION_RECORD, text);
    }
    loch_mem_layer_freeze(layer, 10000);
    assert_ok(loch_mem_scan_create(layer, &scan));
    assert_int_equal(loch_mem_scan_count(scan), 1000);
    size_t all = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        const uint32_t block = loch_mem_scan_key(scan, i)->block;
        assert_int_equal(block, i);
        list.count = 0;
        assert_ok(loch_mem_scan_history(scan, i, &list));
        assert_int_equal(list.count, block % 9 == 0 && block < 90 ? 9 : 1);
        for (size_t n = 0; n < list.count; n++) {
            const uint32_t put = (uint32_t)list.items[n].lsn - 10;
            assert_int_equal(put * 9 % 1000, block);
            assert_int_equal(put / 1000, list.count - 1 - n);
            assert_int_equal(list.items[n].start_lsn, list.items[n].lsn - 1);
            snprintf(text, sizeof text, "%u", put);
            assert_int_equal(list.items[n].bytes.len, strlen(text));
            assert_memory_equal(list.items[n].bytes.data, text, strlen(text));
        }
        all += list.count;
    }
    assert_int_equal(all, loch_mem_layer_versions(layer));
    loch_versions_fini(&list);
    loch_mem_scan_destroy(scan);
    loch_mem_scan_destroy(NULL);
    loch_mem_layer_release(layer);
}

/* What a put says of the chain is what the layer says. */
static void mem_put_tells_the_chains(void **state)
{
    static const uint8_t kinds[][2] = {{LOCH_VERSION_RECORD, LOCH_VERSION_RECORD_INIT},
                                       {LOCH_VERSION_RECORD, LOCH_VERSION_RECORD},
                                       {LOCH_VERSION_VALUE, LOCH_VERSION_RECORD}};
    (void)state;
    struct loch_mem_layer *layer = NULL;
    const struct loch_key keys[2] = {page_key(1), page_key(2)};
    const struct loch_chain below = {5, 50};
    struct loch_version v = {.bytes = loch_slice_of("0123456789", 10)};
    assert_ok(loch_mem_layer_create(1, &layer));
    for (uint32_t i = 0; i < 3; i++) {
        struct loch_mem_chain chains[2];
        v.lsn = 10 + i;
        assert_ok(loch_mem_layer_put_chains(layer, keys, kinds[i], 2, &v, chains));
        for (size_t k = 0; k < 2; k++) {
            struct loch_chain chain = {0};
            bool known = false;
            assert_true(loch_mem_layer_chain(layer, &keys[k], &chain, &known));
            assert_int_equal(chains[k].chain.records, chain.records);
            assert_int_equal(chains[k].chain.bytes, chain.bytes);
            assert_int_equal(chains[k].known, known);
        }
        assert_int_equal(chains[0].known, i > 0);
        assert_int_equal(chains[0].chain.records, i == 0 ? 1 : i == 1 ? 7 : 0);
        assert_int_equal(chains[1].chain.records, i + 1);
        if (i == 0)
            loch_mem_layer_add_chain(layer, &keys[0], &below);
    }
    loch_mem_layer_release(layer);
}

static void mem_grows_and_lists_keys(void **state)
{
    (void)state;
    struct loch_mem_layer *layer = NULL;
    struct loch_key *keys = NULL, first = page_key(1000), end = page_key(2000);
    size_t count = 0;
    assert_ok(loch_mem_layer_create(1, &layer));
    for (uint32_t i = 0; i < 5000; i++) {
        struct loch_key key = page_key(i * 7919u % 5000);
        mem_put(layer, &key, 10 + i, LOCH_VERSION_VALUE, "v");
    }
    assert_ok(loch_mem_layer_keys(layer, &first, &end, &keys, &count));
    assert_int_equal(count, 1000);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(keys[i].block, 1000 + i);
    assert_int_equal(loch_mem_layer_versions(layer), 5000);
    assert_true(loch_mem_layer_bytes(layer) > 5000 * 40);
    free(keys);
    loch_mem_layer_release(layer);
}

/* Thousands of branches have just one small thing open. */
static void mem_holds_little_for_little(void **state)
{
    (void)state;
    struct loch_mem_layer *layer = NULL;
    struct loch_key key = page_key(1);
    assert_ok(loch_mem_layer_create(1, &layer));
    assert_int_equal(loch_mem_layer_bytes(layer), 0);
    mem_put(layer, &key, 10, LOCH_VERSION_VALUE, "v");
    assert_true(loch_mem_layer_bytes(layer) < 4096);
    loch_mem_layer_release(layer);
}

/* Each size in its turn: smaller than a chunk, as large as one, with a chunk of its own. */
static void mem_keeps_values_of_every_size(void **state)
{
    (void)state;
    struct loch_mem_layer *layer = NULL;
    static uint8_t bytes[600000];
    const size_t sizes[] = {1, 3000, 4096, 5000, 8192, 70000, 262144, 262145, 600000, 2, 8192};
    const uint32_t count = sizeof sizes / sizeof *sizes;
    assert_ok(loch_mem_layer_create(1, &layer));
    for (uint32_t i = 0; i < 5 * count; i++) {
        struct loch_key key = page_key(i);
        memset(bytes, (int)i + 1, sizeof bytes);
        struct loch_version v = {.lsn = 10 + i,
                                 .start_lsn = 9 + i,
                                 .kind = LOCH_VERSION_VALUE,
                                 .bytes = loch_slice_of(bytes, sizes[i % count])};
        assert_ok(loch_mem_layer_put(layer, &key, NULL, 1, &v));
    }
    for (uint32_t i = 0; i < 5 * count; i++) {
        struct loch_key key = page_key(i);
        struct loch_versions list = {0};
        bool base = false;
        assert_ok(loch_mem_layer_collect(layer, &key, 0, 1000, &list, &base));
        assert_int_equal(list.count, 1);
        assert_int_equal(list.items[0].bytes.len, sizes[i % count]);
        memset(bytes, (int)i + 1, sizeof bytes);
        assert_memory_equal(list.items[0].bytes.data, bytes, sizes[i % count]);
        loch_versions_fini(&list);
    }
    loch_mem_layer_release(layer);
}

/* More blocks than the list of them begins with; what is taken back may end in any of them. */
static void mem_of_many_versions(void **state)
{
    (void)state;
    struct loch_mem_layer *layer = NULL;
    const uint32_t keys = 7, count = 6 * LOCH_NODES_A_BLOCK;
    const uint32_t left[] = {5 * LOCH_NODES_A_BLOCK + 3, 4 * LOCH_NODES_A_BLOCK,
                             4 * LOCH_NODES_A_BLOCK - 1, LOCH_NODES_A_BLOCK + 1, 20};
    assert_ok(loch_mem_layer_create(1, &layer));
    for (uint32_t i = 0; i < count; i++) {
        const struct loch_key key = page_key(i % keys);
        const struct loch_version v = {.lsn = 10 + i,
                                       .start_lsn = 9 + i,
                                       .kind = LOCH_VERSION_VALUE,
                                       .bytes = loch_slice_of(&i, sizeof i)};
        assert_ok(loch_mem_layer_put(layer, &key, NULL, 1, &v));
    }
    for (size_t n = 0; n < sizeof left / sizeof *left; n++) {
        loch_mem_layer_take_back(layer, 10 + left[n] - 1);
        assert_int_equal(loch_mem_layer_versions(layer), left[n]);
        for (uint32_t back = 1; back <= keys; back++) {
            const uint32_t newest = left[n] - back;
            const struct loch_key key = page_key(newest % keys);
            struct loch_versions list = {0};
            bool base = false;
            assert_ok(loch_mem_layer_collect(layer, &key, 0, 10 + count, &list, &base));
            assert_int_equal(list.count, 1);
            assert_memory_equal(list.items[0].bytes.data, &newest, sizeof newest);
            loch_versions_fini(&list);
        }
    }
    loch_mem_layer_release(layer);
}

static void mem_shares_a_records_bytes(void **state)
{
    (void)state;
    struct loch_mem_layer *layer = NULL;
    struct loch_key keys[2] = {page_key(1), page_key(2)};
    uint8_t kinds[2] = {LOCH_VERSION_RECORD, LOCH_VERSION_RECORD_INIT};
    uint8_t *big = malloc(3u << 20);
    struct loch_versions list = {0};
    bool base = false;
    assert_non_null(big);
    memset(big, 'r', 3u << 20);
    struct loch_version v = {.lsn = 20, .start_lsn = 10, .bytes = loch_slice_of(big, 3u << 20)};
    assert_ok(loch_mem_layer_create(1, &layer));
    assert_ok(loch_mem_layer_put(layer, keys, kinds, 2, &v));
    assert_true(loch_mem_layer_bytes(layer) < (4u << 20));
    free(big);
    assert_ok(loch_mem_layer_collect(layer, &keys[0], 0, 20, &list, &base));
    assert_ok(loch_mem_layer_collect(layer, &keys[1], 0, 20, &list, &base));
    assert_true(base);
    assert_ptr_equal(list.items[0].bytes.data, list.items[1].bytes.data);
    assert_int_equal(list.items[0].start_lsn, 10);
    loch_versions_fini(&list);
    loch_mem_layer_release(layer);
}

static void mem_counts_chains(void **state)
{
    struct loch_mem_layer *layer = NULL;
    struct loch_key a = page_key(1), b = page_key(2);
    const struct loch_chain below = {5, UINT32_MAX - 1};
    struct loch_chain chain;
    bool known = true;
    (void)state;
    assert_ok(loch_mem_layer_create(1, &layer));
    assert_false(loch_mem_layer_chain(layer, &a, &chain, &known));
    mem_put(layer, &a, 10, LOCH_VERSION_RECORD, "xy");
    mem_put(layer, &a, 11, LOCH_VERSION_OP, "z");
    assert_true(loch_mem_layer_chain(layer, &a, &chain, &known));
    assert_false(known);
    assert_int_equal(chain.records, 2);
    assert_int_equal(chain.bytes, 3);
    loch_mem_layer_add_chain(layer, &a, &below);
    assert_true(loch_mem_layer_chain(layer, &a, &chain, &known));
    assert_true(known);
    assert_int_equal(chain.records, 7);
    assert_int_equal(chain.bytes, UINT32_MAX);
    mem_put(layer, &a, 12, LOCH_VERSION_VALUE, "v");
    mem_put(layer, &b, 13, LOCH_VERSION_RECORD_INIT, "xy");
    assert_true(loch_mem_layer_chain(layer, &a, &chain, &known) && known);
    assert_int_equal(chain.records, 0);
    assert_true(loch_mem_layer_chain(layer, &b, &chain, &known) && known);
    assert_int_equal(chain.records, 1);
    loch_mem_layer_release(layer);
}

/* A busy layer's chunks are the next one's, wiped; what is not needed any more goes back. */
static void chunks_are_kept_while_they_are_needed(void **state)
{
    (void)state;
    struct loch_chunk *chunks[4];
    (void)loch_chunks_give_back();
    (void)loch_chunks_give_back(); /* what other tests left */
    for (size_t i = 0; i < 4; i++) {
        chunks[i] = loch_chunk_create(LOCH_CHUNK_MOST_BYTES);
        assert_non_null(chunks[i]);
        memset(chunks[i]->bytes, 'x', chunks[i]->size);
    }
    const struct loch_chunk *last = chunks[3];
    for (size_t i = 0; i < 4; i++)
        loch_chunk_destroy(chunks[i]);
    assert_int_equal(loch_chunks_give_back(), 0);
    chunks[0] = loch_chunk_create(LOCH_CHUNK_MOST_BYTES);
    assert_ptr_equal(chunks[0], last);
    for (size_t i = 0; i < chunks[0]->size; i++)
        assert_int_equal(chunks[0]->bytes[i], 0);
    loch_chunk_destroy(chunks[0]);
    assert_int_equal(loch_chunks_give_back(), 3); /* one was needed */
    assert_int_equal(loch_chunks_give_back(), 1);
    assert_int_equal(loch_chunks_give_back(), 0);
    chunks[0] = loch_chunk_create(100);
    assert_int_equal(chunks[0]->size, 100);
    loch_chunk_destroy(chunks[0]);
    assert_int_equal(loch_chunks_give_back() + loch_chunks_give_back(), 0); /* of no common size */
}

/* One version of some keys, of a kind and length by `n`; above `lsn` nothing is put. */
static void put_some(struct loch_mem_layer *layer, loch_lsn lsn, uint32_t n)
{
    static const uint8_t kinds[] = {LOCH_VERSION_RECORD,      LOCH_VERSION_RECORD,
                                    LOCH_VERSION_OP,          LOCH_VERSION_RECORD,
                                    LOCH_VERSION_RECORD_INIT, LOCH_VERSION_VALUE};
    const struct loch_key keys[3] = {page_key(1), page_key(2 + n % 5), page_key(10 + n / 4)};
    const uint8_t own[3] = {LOCH_VERSION_RECORD, kinds[n % 6], kinds[n / 7 % 6]};
    char text[64];
    snprintf(text, sizeof text, "%0*u", (int)(n % 40 + 1), n);
    const struct loch_version v = {
        .lsn = lsn, .start_lsn = lsn - 1, .bytes = loch_slice_of(text, strlen(text))};
    assert_ok(loch_mem_layer_put(layer, keys, own, 3, &v));
}

static void check_same(struct loch_mem_layer *a, struct loch_mem_layer *b, uint32_t block,
                       loch_lsn lsn)
{
    const struct loch_key key = page_key(block);
    struct loch_versions ours = {0}, theirs = {0};
    struct loch_chain chain = {0}, wanted = {0};
    bool base = false, other = false, known = false, same = false;
    assert_ok(loch_mem_layer_collect(a, &key, 0, lsn, &ours, &base));
    assert_ok(loch_mem_layer_collect(b, &key, 0, lsn, &theirs, &other));
    assert_int_equal(base, other);
    assert_int_equal(ours.count, theirs.count);
    assert_int_equal(ours.passed, theirs.passed);
    for (size_t i = 0; i < ours.count; i++) {
        assert_int_equal(ours.items[i].lsn, theirs.items[i].lsn);
        assert_int_equal(ours.items[i].kind, theirs.items[i].kind);
        assert_int_equal(ours.items[i].bytes.len, theirs.items[i].bytes.len);
        assert_memory_equal(ours.items[i].bytes.data, theirs.items[i].bytes.data,
                            ours.items[i].bytes.len);
    }
    assert_int_equal(loch_mem_layer_chain(a, &key, &chain, &known),
                     loch_mem_layer_chain(b, &key, &wanted, &same));
    assert_int_equal(known, same);
    assert_int_equal(chain.records, wanted.records);
    assert_int_equal(chain.bytes, wanted.bytes);
    loch_versions_fini(&ours);
    loch_versions_fini(&theirs);
}

/* A layer that something was put into and taken back from is as one that never had it. */
static void mem_takes_back(void **state)
{
    enum { ROUNDS = 9000 };
    (void)state;
    struct loch_mem_layer *layer = NULL, *twin = NULL;
    assert_ok(loch_mem_layer_create(1, &layer));
    assert_ok(loch_mem_layer_create(1, &twin));
    for (uint32_t n = 0; n < ROUNDS; n++) {
        const loch_lsn lsn = 10 + n;
        for (uint32_t more = 0; n % 50 == 7 && more < n % 400; more++)
            put_some(layer, lsn + more / 3, n + more * 3);
        loch_mem_layer_take_back(layer, lsn - 1);
        put_some(layer, lsn, n);
        put_some(twin, lsn, n);
    }
    assert_int_equal(loch_mem_layer_versions(layer), loch_mem_layer_versions(twin));
    for (loch_lsn lsn = 1; lsn < ROUNDS + 20; lsn += 7)
        for (uint32_t block = 1; block < 7; block++)
            check_same(layer, twin, block, lsn);
    for (uint32_t block = 7; block < 20 + ROUNDS; block++)
        check_same(layer, twin, block, ROUNDS);
    loch_mem_layer_take_back(layer, 9);
    assert_int_equal(loch_mem_layer_versions(layer), 0);
    assert_int_equal(loch_mem_layer_bytes(layer), 0);
    put_some(layer, 10, 0); /* it goes on */
    loch_mem_layer_freeze(layer, 10);
    loch_mem_layer_release(layer);
    loch_mem_layer_release(twin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mem_collects_down_to_the_base),
        cmocka_unit_test(mem_finds_old_versions_soon),
        cmocka_unit_test(mem_scan_has_all),
        cmocka_unit_test(mem_put_tells_the_chains),
        cmocka_unit_test(mem_grows_and_lists_keys),
        cmocka_unit_test(mem_holds_little_for_little),
        cmocka_unit_test(mem_keeps_values_of_every_size),
        cmocka_unit_test(mem_of_many_versions),
        cmocka_unit_test(mem_shares_a_records_bytes),
        cmocka_unit_test(mem_counts_chains),
        cmocka_unit_test(mem_takes_back),
        cmocka_unit_test(chunks_are_kept_while_they_are_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
