/* Keyrings: what decodes must encode to the same bytes. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/keyring/keyring.h"

#include <stdlib.h>
#include <string.h>

static void check(const uint8_t *data, size_t size)
{
    struct loch_keyring ring = {0};
    struct loch_slice body;
    struct loch_slice mac;
    struct loch_buf back = {0};

    if (!loch_is_ok(loch_keyring_decode(loch_slice_of(data, size), &ring, &body, &mac)))
        return;
    const loch_status st = loch_keyring_encode(&ring, &back);
    LOCH_ASSERT(loch_is_ok(st));
    LOCH_ASSERT(back.len == body.len);
    LOCH_ASSERT(memcmp(back.data + 12, data + 12, back.len - 12) == 0); /* beyond the versions */
    loch_keyring_fini(&ring);
    loch_buf_fini(&back);
}

static void add(struct loch_keyring *ring, struct loch_keyring_entry e)
{
    loch_status st = loch_buf_append(&e.wrap, "wrap", 4);
    LOCH_ASSERT(loch_is_ok(st));
    if (e.level == LOCH_LEVEL_KEK)
        st = loch_buf_append(&e.cmk_uri, "file:/x", 7);
    LOCH_ASSERT(loch_is_ok(st));
    st = loch_keyring_add(ring, &e);
    LOCH_ASSERT(loch_is_ok(st));
}

/* Versions 2 and 3 of K_wire, of which the first has left: format 3. */
static void add_wire(struct loch_keyring *ring)
{
    const struct loch_id kek = {{6}}, tk = {{7}};

    add(ring, (struct loch_keyring_entry){.key_id = kek,
                                          .version = 1,
                                          .level = LOCH_LEVEL_KEK,
                                          .purpose = LOCH_PURPOSE_WIRE,
                                          .provider = LOCH_PROVIDER_FILE});
    for (uint32_t version = 1; version <= 3; version++)
        add(ring, (struct loch_keyring_entry){.key_id = tk,
                                              .version = version,
                                              .level = LOCH_LEVEL_TK,
                                              .purpose = LOCH_PURPOSE_WIRE,
                                              .parent = kek,
                                              .parent_version = 1});
    const loch_status st = loch_keyring_destroy_version(ring, &tk, 1);
    LOCH_ASSERT(loch_is_ok(st));
    const uint32_t swept = loch_keyring_sweep(ring);
    LOCH_ASSERT(swept == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct loch_keyring ring;
    struct loch_buf valid = {0};
    const struct loch_id id = {{5}};
    static const uint8_t mac[LOCH_KEYRING_MAC_BYTES];

    check(data, size);
    loch_keyring_init(&ring, &id, &id);
    for (uint32_t version = 1; version <= 3; version++) {
        struct loch_keyring_entry e = {.key_id = id,
                                       .version = version,
                                       .level = LOCH_LEVEL_KEK,
                                       .purpose = LOCH_PURPOSE_WAL,
                                       .provider = LOCH_PROVIDER_FILE};
        if (size > 0 && data[0] % 2 == 1)
            e.scope = id; /* a branch's: format 2 */
        add(&ring, e);
    }
    if (size > 0 && data[0] % 4 >= 2)
        add_wire(&ring);
    loch_status st = loch_keyring_encode(&ring, &valid);
    LOCH_ASSERT(loch_is_ok(st));
    st = loch_buf_append(&valid, mac, sizeof mac);
    LOCH_ASSERT(loch_is_ok(st));
    fuzz_edit(valid.data, valid.len, data, size);
    check(valid.data, valid.len);
    loch_keyring_fini(&ring);
    loch_buf_fini(&valid);
    return 0;
}
