/* The credential: its reading, and what a running compute takes over of a newer wire epoch. */
#include "../unit.h"

#include "credential.h"

#include "loch/crypto/psk.h"

#include <stdio.h>
#include <stdlib.h>

static const char form[] =
    "{\"cluster\":\"01000000000000000000000000000000\",\"tenant\":"
    "\"02000000000000000000000000000000\","
    "\"timeline\":\"03000000000000000000000000000000\",\"compute\":"
    "\"04000000000000000000000000000000\","
    "\"boot\":\"05000000000000000000000000000000\",\"compute_epoch\":7,\"system_id\":"
    "\"18446744073709551615\",\"pg_version\":150020,\"segment_bytes\":16777216,\"lease_ms\":10000,"
    "\"servers\":["
    "{\"role\":\"pageserver\",\"node\":\"06000000000000000000000000000000\",\"address\":\"127.0.0."
    "1:1\","
    "\"identity\":\"%s\",\"psk\":\"%s\"},"
    "{\"role\":\"safekeeper\",\"node\":\"07000000000000000000000000000000\",\"address\":\"127.0.0."
    "1:2\","
    "\"identity\":\"%s\",\"psk\":\"%s\"}]}";

static struct loch_psk_identity identity_of(enum loch_role role, uint32_t epoch)
{
    return (struct loch_psk_identity){.version = 1,
                                      .client_role = LOCH_ROLE_COMPUTE,
                                      .server_role = (uint8_t)role,
                                      .rights = role == LOCH_ROLE_PAGESERVER ? LOCH_RIGHT_PAGES
                                                                             : LOCH_RIGHT_WAL_PUSH,
                                      .wire_epoch = epoch,
                                      .cluster = {{1}},
                                      .tenant = {{2}},
                                      .timeline = {{3}},
                                      .client_id = {{4}},
                                      .client_boot = {{5}},
                                      .server_node = {{role == LOCH_ROLE_PAGESERVER ? 6 : 7}},
                                      .compute_epoch = 7};
}

static void hex_of(enum loch_role role, char *out)
{
    const struct loch_psk_identity id = identity_of(role, 1);
    struct loch_buf bytes = {0};

    assert_ok(loch_psk_identity_encode(&id, &bytes));
    loch_hex_format(bytes.data, bytes.len, out);
    loch_buf_fini(&bytes);
}

static void make_text(char *text, size_t len, const char *second_psk)
{
    char pages[2 * LOCH_PSK_IDENTITY_MAX_BYTES + 1], wal[2 * LOCH_PSK_IDENTITY_MAX_BYTES + 1];
    char psk[2 * LOCH_PSK_BYTES + 1];

    memset(psk, 'a', sizeof psk - 1);
    psk[sizeof psk - 1] = '\0';
    hex_of(LOCH_ROLE_PAGESERVER, pages);
    hex_of(LOCH_ROLE_SAFEKEEPER, wal);
    (void)snprintf(text, len, form, pages, psk, wal, second_psk != NULL ? second_psk : psk);
}

static void reading(void **state)
{
    char text[3000];
    struct loch_credential c;

    (void)state;
    make_text(text, sizeof text, NULL);
    assert_ok(loch_credential_parse(loch_slice_of(text, strlen(text)), &c));
    assert_true(c.compute_epoch == 7 && c.system_id == UINT64_MAX && c.safekeeper_count == 1);
    assert_string_equal(c.pageserver.address, "127.0.0.1:1");
    assert_int_equal(c.pageserver_psk.len, 48);
    assert_int_equal(c.pageserver_psk.bytes[0], 0xaa);
    assert_int_equal(c.pageserver_identity.data[1], LOCH_ROLE_COMPUTE);
    assert_true(c.pageserver.wire_epoch == 1 && c.safekeepers[0].wire_epoch == 1);
    loch_credential_fini(&c);
    make_text(text, sizeof text, "abc");
    assert_code(loch_credential_parse(loch_slice_of(text, strlen(text)), &c), LOCH_E_INVALID);
    assert_null(strstr(loch_error_text(), "abc")); /* the value is not told */
    make_text(text, sizeof text, NULL);
    memset(strstr(text, "\"identity\":\"") + 12, '0', 2); /* an identity of version 0 */
    assert_code(loch_credential_parse(loch_slice_of(text, strlen(text)), &c), LOCH_E_CORRUPT);
    assert_code(loch_credential_parse(loch_slice_of("{}", 2), &c), LOCH_E_INVALID);
    assert_code(loch_credential_parse(loch_slice_of("{", 1), &c), LOCH_E_INVALID);
    assert_code(loch_credential_read(99, &c), LOCH_E_INVALID);
}

static void setup(struct loch_credential *c)
{
    char text[3000];

    make_text(text, sizeof text, NULL);
    assert_ok(loch_credential_parse(loch_slice_of(text, strlen(text)), c));
}

/* KEYS with one key, for the identity, its PSK filled with `fill`. */
static loch_status renew(struct loch_credential *c, const struct loch_psk_identity *id,
                         uint8_t fill, size_t psk_bytes)
{
    struct loch_wal_keys keys = {.count = 1};
    struct loch_buf bytes = {0};
    uint8_t psk[LOCH_PSK_BYTES];

    memset(psk, fill, sizeof psk);
    assert_ok(loch_psk_identity_encode(id, &bytes));
    keys.keys[0].identity = loch_buf_slice(&bytes);
    keys.keys[0].psk = loch_slice_of(psk, psk_bytes);
    const loch_status st = loch_credential_renew(c, &keys);
    loch_buf_fini(&bytes);
    return st;
}

/* A newer epoch's key takes the place of the older, never the other way round. */
static void newer_keys_are_taken(void **state)
{
    struct loch_credential c;
    struct loch_psk_identity id = identity_of(LOCH_ROLE_PAGESERVER, 3), got;

    (void)state;
    setup(&c);
    const struct loch_tls_client *client = c.pageserver.tls;
    assert_ok(renew(&c, &id, 0xbb, LOCH_PSK_BYTES));
    assert_int_equal(c.pageserver.wire_epoch, 3);
    assert_int_equal(c.pageserver_psk.bytes[47], 0xbb);
    assert_ok(loch_psk_identity_decode(loch_buf_slice(&c.pageserver_identity), &got));
    assert_int_equal(got.wire_epoch, 3);
    assert_ptr_equal(c.pageserver.tls, client); /* who holds it goes on holding it */
    assert_int_equal(c.safekeepers[0].wire_epoch, 1);
    id = identity_of(LOCH_ROLE_PAGESERVER, 2);
    assert_ok(renew(&c, &id, 0xcc, LOCH_PSK_BYTES)); /* late */
    assert_int_equal(c.pageserver.wire_epoch, 3);
    assert_int_equal(c.pageserver_psk.bytes[47], 0xbb);
    id = identity_of(LOCH_ROLE_SAFEKEEPER, 2);
    assert_ok(renew(&c, &id, 0xcc, LOCH_PSK_BYTES));
    assert_int_equal(c.safekeepers[0].wire_epoch, 2);
    id.server_node = (struct loch_id){{9}}; /* nobody that it knows */
    id.wire_epoch = 5;
    assert_ok(renew(&c, &id, 0xcc, LOCH_PSK_BYTES));
    assert_int_equal(c.safekeepers[0].wire_epoch, 2);
    loch_credential_fini(&c);
}

static void foreign_keys_are_refused(void **state)
{
    struct loch_credential c;
    struct loch_psk_identity id;

    (void)state;
    setup(&c);
    for (int field = 0; field < 7; field++) {
        id = identity_of(LOCH_ROLE_PAGESERVER, 2);
        if (field == 0)
            id.cluster.bytes[15] = 1;
        else if (field == 1)
            id.tenant.bytes[15] = 1;
        else if (field == 2)
            id.timeline.bytes[15] = 1;
        else if (field == 3)
            id.client_id.bytes[15] = 1;
        else if (field == 4)
            id.client_boot.bytes[15] = 1;
        else if (field == 5)
            id.compute_epoch++;
        else
            id.client_role = LOCH_ROLE_TOOL;
        assert_code(renew(&c, &id, 0xbb, LOCH_PSK_BYTES), LOCH_E_CORRUPT);
    }
    id = identity_of(LOCH_ROLE_PAGESERVER, 2);
    assert_code(renew(&c, &id, 0xbb, LOCH_PSK_BYTES - 1), LOCH_E_CORRUPT);
    assert_code(renew(&c, &id, 0xbb, 0), LOCH_E_CORRUPT);
    assert_int_equal(c.pageserver.wire_epoch, 1);
    assert_int_equal(c.pageserver_psk.bytes[0], 0xaa);
    loch_credential_fini(&c);
}

/* MEMBERS: a new member's key is kept; a known one's is renewed. */
static void members_bring_keys(void **state)
{
    struct loch_credential c;
    struct loch_member two[] = {
        {.id = {{21}}, .node = {{7}}, .in = LOCH_MEMBER_BOTH, .address = "127.0.0.1:2"},
        {.id = {{22}}, .node = {{8}}, .in = LOCH_MEMBER_BOTH, .address = "127.0.0.1:3"}};
    struct loch_wal_members m = {.membership = {4, two, 2}};
    struct loch_buf bytes[2] = {0};
    uint8_t psk[LOCH_PSK_BYTES] = {0};

    (void)state;
    setup(&c);
    for (int i = 0; i < 2; i++) {
        struct loch_psk_identity id = identity_of(LOCH_ROLE_SAFEKEEPER, 6);
        id.server_node = two[i].node;
        assert_ok(loch_psk_identity_encode(&id, &bytes[i]));
        m.keys[i].identity = loch_buf_slice(&bytes[i]);
        m.keys[i].psk = loch_slice_of(psk, sizeof psk);
    }
    assert_ok(loch_credential_learn(&c, &m));
    assert_int_equal(c.safekeepers[0].wire_epoch, 6);
    const struct loch_credential_server *learned =
        loch_credential_find(&c, &two[1].node, "127.0.0.1:3");
    assert_non_null(learned);
    assert_int_equal(learned->wire_epoch, 6);
    struct loch_psk_identity id = identity_of(LOCH_ROLE_SAFEKEEPER, 7);
    id.server_node = two[1].node;
    assert_ok(renew(&c, &id, 0xbb, LOCH_PSK_BYTES));
    assert_int_equal(learned->wire_epoch, 7);
    loch_buf_fini(&bytes[0]);
    loch_buf_fini(&bytes[1]);
    loch_credential_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading),
        cmocka_unit_test(newer_keys_are_taken),
        cmocka_unit_test(foreign_keys_are_refused),
        cmocka_unit_test(members_bring_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
