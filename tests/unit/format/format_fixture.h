/* Keys, places and golden files for the tests of format. */
#ifndef LOCH_TESTS_FORMAT_FIXTURE_H
#define LOCH_TESTS_FORMAT_FIXTURE_H

#include "../unit.h"

#include "loch/crypto/random.h"
#include "loch/crypto/wrap.h"
#include "loch/format/place.h"

#include <stdio.h>
#include <stdlib.h>

/* A key source that knows `count` keys; a denied one answers LOCH_E_DENIED. */
struct fixture_keys {
    struct loch_wrap_key keys[4];
    size_t count;
    bool denied;
};

static loch_status fixture_find(void *arg, const struct loch_place *expected,
                                const struct loch_id *key_id, uint32_t version,
                                struct loch_secret *out)
{
    const struct fixture_keys *f = arg;

    (void)expected;
    if (f->denied)
        return LOCH_FAIL(LOCH_E_DENIED, "revoked");
    for (size_t i = 0; i < f->count; i++)
        if (loch_id_equal(&f->keys[i].key_id, key_id) && f->keys[i].version == version)
            return loch_secret_copy(out, &f->keys[i].secret);
    return LOCH_FAIL(LOCH_E_NOT_FOUND, "no such key");
}

static inline struct loch_key_source fixture_source(struct fixture_keys *f)
{
    return (struct loch_key_source){fixture_find, f};
}

/* Key i has id 0xA0+i repeated, version i + 1, secret bytes 0x10+i. */
static inline void fixture_keys_init(struct fixture_keys *f, size_t count)
{
    *f = (struct fixture_keys){.count = count};
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[32];
        memset(bytes, (int)(0x10 + i), sizeof bytes);
        memset(f->keys[i].key_id.bytes, (int)(0xA0 + i), 16);
        f->keys[i].version = (uint32_t)i + 1;
        assert_ok(loch_secret_from(&f->keys[i].secret, bytes, sizeof bytes));
    }
}

static inline void fixture_keys_fini(struct fixture_keys *f)
{
    for (size_t i = 0; i < f->count; i++)
        loch_wrap_key_fini(&f->keys[i]);
}

static inline struct loch_place fixture_place(uint8_t kind)
{
    struct loch_place p = {.kind = kind, .generation = 9};

    memset(p.tenant.bytes, 1, 16);
    memset(p.timeline.bytes, 2, 16);
    if (kind == LOCH_KIND_LAYER)
        memset(p.file_id.bytes, 3, 16);
    if (kind == LOCH_KIND_WAL || kind == LOCH_KIND_CONTROL)
        memset(p.node.bytes, 4, 16);
    return p;
}

/* Compares with tests/golden/format/<name>; LOCH_GOLDEN_WRITE=1 writes it instead. */
static inline void fixture_golden(const char *name, struct loch_slice bytes)
{
    char path[512];
    uint8_t *was = malloc(bytes.len + 1);

    assert_non_null(was);
    (void)snprintf(path, sizeof path, "%s/tests/golden/format/%s", LOCH_SOURCE_DIR, name);
    FILE *f = fopen(path, getenv("LOCH_GOLDEN_WRITE") != NULL ? "wb" : "rb");
    if (f == NULL)
        fail_msg("cannot open %s", path);
    if (getenv("LOCH_GOLDEN_WRITE") != NULL) {
        assert_int_equal(fwrite(bytes.data, 1, bytes.len, f), bytes.len);
    } else {
        assert_int_equal(fread(was, 1, bytes.len + 1, f), bytes.len);
        assert_memory_equal(was, bytes.data, bytes.len);
    }
    assert_int_equal(fclose(f), 0);
    free(was);
}

/* Appends what stands in tests/golden/format/<name>. */
static inline void fixture_golden_read(const char *name, struct loch_buf *out)
{
    char path[512];
    uint8_t part[4096];
    size_t n;

    (void)snprintf(path, sizeof path, "%s/tests/golden/format/%s", LOCH_SOURCE_DIR, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("cannot open %s", path);
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        assert_ok(loch_buf_append(out, part, n));
    assert_int_equal(fclose(f), 0);
}

#endif
