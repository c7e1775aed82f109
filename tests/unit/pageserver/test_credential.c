/* The epochs of credentials: one above the last, and none when the object in the store was written
 * by somebody else. */
#include "store_fixture.h"

#include "care/credential.h"

#define EPOCH_WITNESS_BYTES 400u

struct branch {
    struct loch_pageserver_config config;
    struct loch_credential_order order;
    char object[LOCH_OBJECT_NAME_MAX];
    char noted[EPOCH_WITNESS_BYTES]; /* the witness's path */
};

static void branch_up(struct site *s, struct branch *b)
{
    char tenant[LOCH_ID_TEXT_BYTES];
    char timeline[LOCH_ID_TEXT_BYTES];

    memset(b, 0, sizeof *b);
    b->config.cluster = s->cluster;
    b->config.node = s->store.node;
    b->config.address = "127.0.0.1:1";
    b->order = (struct loch_credential_order){.config = &b->config,
                                              .keys = s->keys,
                                              .store = s->objstore,
                                              .env = s->env,
                                              .dir = s->pageserver,
                                              .tenant = s->tenant};
    assert_ok(loch_random_id(&b->order.timeline));
    assert_ok(loch_random_id(&b->order.compute));
    assert_ok(loch_keys_add_timeline(s->keys, &s->tenant, &b->order.timeline));
    loch_id_format(&s->tenant, tenant);
    loch_id_format(&b->order.timeline, timeline);
    snprintf(b->object, sizeof b->object, "tenants/%s/timelines/%s/compute_epoch", tenant,
             timeline);
    snprintf(b->noted, sizeof b->noted, "%s/manifests-seen/%s.%s.epoch", s->pageserver, tenant,
             timeline);
}

/* As anybody can who writes the bucket: no key is needed. */
static void write_epoch(struct branch *b, uint64_t epoch)
{
    uint8_t bytes[8];
    struct loch_etag etag;
    struct loch_buf was = {0};
    const struct loch_slice slice = loch_slice_of(bytes, sizeof bytes);

    loch_put_u64(bytes, epoch);
    const loch_status st = loch_objstore_get(b->order.store, b->object, 8, &was, &etag);
    if (loch_is_ok(st))
        assert_ok(loch_objstore_put_if_match(b->order.store, b->object, &etag, slice, NULL));
    else
        assert_ok(loch_objstore_put_if_absent(b->order.store, b->object, slice, NULL));
    loch_buf_fini(&was);
}

static uint64_t epoch_there(struct branch *b)
{
    uint64_t epoch = 0;

    assert_ok(
        loch_compute_epoch_read(b->order.store, &b->order.tenant, &b->order.timeline, &epoch));
    return epoch;
}

static void issues(struct branch *b, uint64_t epoch)
{
    char want[64];
    struct loch_buf json = {0};

    snprintf(want, sizeof want, "\"compute_epoch\":%" PRIu64 ",", epoch);
    assert_ok(loch_credential_issue(&b->order, &json));
    assert_non_null(strstr((const char *)json.data, want));
    loch_buf_fini(&json);
    assert_int_equal(epoch_there(b), epoch);
}

/* Nothing is issued, and neither the object nor what is remembered changes. */
static void refuses(struct site *s, struct branch *b, uint64_t epoch)
{
    struct loch_buf json = {0};
    struct loch_buf before = {0};
    struct loch_buf after = {0};
    const loch_status noted = loch_env_read_file(s->env, b->noted, 200, &before);

    write_epoch(b, epoch);
    assert_code(loch_credential_issue(&b->order, &json), LOCH_E_CORRUPT);
    assert_int_equal(json.len, 0);
    assert_true(epoch_there(b) == epoch);
    assert_int_equal(loch_env_read_file(s->env, b->noted, 200, &after).code, noted.code);
    assert_int_equal(after.len, before.len);
    if (before.len > 0)
        assert_memory_equal(after.data, before.data, before.len);
    loch_buf_fini(&before);
    loch_buf_fini(&after);
    loch_buf_fini(&json);
}

static const uint64_t absurd[] = {UINT64_MAX, (uint64_t)INT64_MAX, (uint64_t)INT64_MAX - 1,
                                  UINT64_C(1) << 40};

static void a_leap_of_the_epoch_is_refused(void **state)
{
    struct site *s = *state;
    struct branch b;

    branch_up(s, &b);
    issues(&b, 1);
    issues(&b, 2);
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++)
        refuses(s, &b, absurd[i]);
    write_epoch(&b, 2); /* as it was: it goes on */
    issues(&b, 3);
    write_epoch(&b, 1000); /* issued elsewhere */
    issues(&b, 1001);
}

static void a_leap_is_refused_where_nothing_is_remembered(void **state)
{
    struct site *s = *state;
    struct branch b;

    branch_up(s, &b);
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++)
        refuses(s, &b, absurd[i]);
    write_epoch(&b, 41); /* by a pageserver whose directory is lost */
    issues(&b, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_leap_of_the_epoch_is_refused, site_up, site_down),
        cmocka_unit_test_setup_teardown(a_leap_is_refused_where_nothing_is_remembered, site_up,
                                        site_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
