/* What every KMS provider keeps, whatever it is: one suite, run against each. A test program
 * defines `provider` with its hooks and calls contract_run(). A hook that is NULL says that the
 * case cannot arise there; the suite prints which cases were left out. */
#ifndef LOCH_TESTS_KMS_CONTRACT_H
#define LOCH_TESTS_KMS_CONTRACT_H

#include "../unit.h"

#include "loch/base/buf.h"
#include "loch/crypto/random.h"
#include "loch/kms/kms.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

struct contract_provider {
    uint8_t id;
    bool customer_held;
    int (*up)(void **state); /* fresh keys; sets uri and other_uri */
    int (*down)(void **state);
    const char *uri, *other_uri; /* two CMKs of one service */
    void (*disable)(void);
    void (*enable)(void);
    void (*destroy)(void); /* for good */
    void (*silence)(bool on);
    void (*wrong_plaintext)(bool on);
    void (*slow)(unsigned ms);
    void (*expire_credentials)(bool on);
};

extern struct contract_provider provider;

#define CONTRACT_THREADS 8
#define CONTRACT_TURNS   12

static const struct loch_kms_context contract_context = {{{1}}, {{2}}, {{3}}, LOCH_PURPOSE_PAGE,
                                                         {{4}}, 5};

struct wrapped {
    struct loch_kms *kms;
    struct loch_secret key;
    struct loch_buf blob;
};

static void wrapped_up(struct wrapped *w, const char *uri)
{
    *w = (struct wrapped){0};
    assert_ok(loch_kms_open(uri, NULL, &w->kms));
    assert_ok(loch_random_secret(&w->key, 32));
    assert_ok(loch_kms_wrap(w->kms, &contract_context, &w->key, &w->blob));
}

static void wrapped_down(struct wrapped *w)
{
    loch_secret_fini(&w->key);
    loch_buf_fini(&w->blob);
    loch_kms_close(w->kms);
}

/* Unwraps; the result is the key or, with a failure, nothing. */
static loch_status unwrap(struct wrapped *w, const struct loch_kms_context *context)
{
    struct loch_secret back = {0};

    const loch_status st = loch_kms_unwrap(w->kms, context, loch_buf_slice(&w->blob), &back);
    if (loch_is_ok(st))
        assert_true(loch_secret_equal(&w->key, &back));
    else
        assert_null(back.bytes);
    loch_secret_fini(&back);
    return st;
}

/* Wraps; a failure leaves the buffer as it was. */
static loch_status wrap_again(struct wrapped *w)
{
    struct loch_buf out = {0};

    assert_ok(loch_buf_append(&out, "mark", 4));
    const loch_status st = loch_kms_wrap(w->kms, &contract_context, &w->key, &out);
    assert_memory_equal(out.data, "mark", 4);
    if (!loch_is_ok(st))
        assert_int_equal(out.len, 4);
    loch_buf_fini(&out);
    return st;
}

static void a_key_comes_back(void **state)
{
    struct wrapped w;
    struct loch_buf again = {0};
    struct loch_secret odd = {0};
    uint64_t wrap_us = 0;
    uint64_t unwrap_us = 0;

    (void)state;
    wrapped_up(&w, provider.uri);
    assert_string_equal(loch_kms_uri(w.kms), provider.uri);
    assert_int_equal(loch_kms_provider(w.kms), provider.id);
    assert_int_equal(loch_kms_customer_held(w.kms), provider.customer_held);
    assert_ok(unwrap(&w, &contract_context));
    assert_ok(loch_kms_wrap(w.kms, &contract_context, &w.key, &again));
    assert_true(again.len != w.blob.len || memcmp(again.data, w.blob.data, again.len) != 0);
    loch_buf_fini(&again);
    for (size_t len = 16; len <= 64; len += 16) {
        if (len == 32)
            continue;
        assert_ok(loch_random_secret(&odd, len));
        assert_code(loch_kms_wrap(w.kms, &contract_context, &odd, &again), LOCH_E_INVALID);
        assert_int_equal(again.len, 0);
        loch_secret_fini(&odd);
    }
    assert_ok(loch_kms_check(w.kms, &wrap_us, &unwrap_us));
    assert_ok(loch_kms_check(w.kms, NULL, NULL));
    loch_buf_fini(&again);
    wrapped_down(&w);
}

static void only_under_its_context(void **state)
{
    struct wrapped w;

    (void)state;
    wrapped_up(&w, provider.uri);
    for (int i = 0; i < 6; i++) {
        struct loch_kms_context c = contract_context;
        if (i == 0)
            c.cluster.bytes[15] ^= 1;
        if (i == 1)
            c.tenant.bytes[15] ^= 1;
        if (i == 2)
            c.key_id.bytes[0] ^= 1;
        if (i == 3)
            c.purpose = LOCH_PURPOSE_WAL;
        if (i == 4)
            c.scope.bytes[0] ^= 1;
        if (i == 5)
            c.version++;
        assert_code(unwrap(&w, &c), LOCH_E_CORRUPT);
    }
    assert_ok(unwrap(&w, &contract_context));
    wrapped_down(&w);
}

static void only_by_its_cmk(void **state)
{
    struct wrapped w, other;

    (void)state;
    wrapped_up(&w, provider.uri);
    wrapped_up(&other, provider.other_uri);
    struct loch_kms *mine = w.kms;
    w.kms = other.kms;
    assert_code(unwrap(&w, &contract_context), LOCH_E_DENIED);
    w.kms = mine;
    assert_ok(unwrap(&w, &contract_context));
    wrapped_down(&w);
    wrapped_down(&other);
}

static void a_damaged_blob_is_neither(void **state)
{
    struct wrapped w;
    static const uint8_t junk[LOCH_KMS_WRAP_MAX_BYTES + 1] = {1, 2, 3};
    struct loch_secret back = {0};

    (void)state;
    wrapped_up(&w, provider.uri);
    const size_t len = w.blob.len;
    for (size_t at = 0; at < len; at++) {
        w.blob.data[at] ^= 0x10;
        assert_code(unwrap(&w, &contract_context), LOCH_E_CORRUPT);
        w.blob.data[at] ^= 0x10;
    }
    for (w.blob.len = 0; w.blob.len < len; w.blob.len++)
        assert_code(unwrap(&w, &contract_context), LOCH_E_CORRUPT);
    const size_t sizes[] = {1, 16, 104, LOCH_KMS_WRAP_MAX_BYTES, sizeof junk};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_code(loch_kms_unwrap(w.kms, &contract_context, loch_slice_of(junk, sizes[i]), &back),
                    LOCH_E_CORRUPT);
    assert_ok(unwrap(&w, &contract_context));
    wrapped_down(&w);
}

static void disabled_is_denied_until_enabled(void **state)
{
    struct wrapped w;

    (void)state;
    wrapped_up(&w, provider.uri);
    for (int round = 0; round < 2; round++) {
        provider.disable();
        assert_code(unwrap(&w, &contract_context), LOCH_E_DENIED);
        assert_code(wrap_again(&w), LOCH_E_DENIED);
        assert_code(loch_kms_check(w.kms, NULL, NULL), LOCH_E_DENIED);
        provider.enable();
        assert_ok(unwrap(&w, &contract_context));
        assert_ok(wrap_again(&w));
    }
    wrapped_down(&w);
}

static void destroyed_is_denied(void **state)
{
    struct wrapped w;

    (void)state;
    wrapped_up(&w, provider.uri);
    provider.destroy();
    assert_code(unwrap(&w, &contract_context), LOCH_E_DENIED);
    assert_code(wrap_again(&w), LOCH_E_DENIED);
    wrapped_down(&w);
}

static void no_answer_is_not_a_no(void **state)
{
    struct wrapped w;

    (void)state;
    wrapped_up(&w, provider.uri);
    provider.silence(true);
    assert_code(unwrap(&w, &contract_context), LOCH_E_UNAVAILABLE);
    assert_code(wrap_again(&w), LOCH_E_UNAVAILABLE);
    assert_code(loch_kms_check(w.kms, NULL, NULL), LOCH_E_UNAVAILABLE);
    provider.silence(false);
    assert_ok(unwrap(&w, &contract_context));
    wrapped_down(&w);
}

static void another_plaintext_is_noticed(void **state)
{
    struct wrapped w;

    (void)state;
    wrapped_up(&w, provider.uri);
    provider.wrong_plaintext(true);
    assert_code(unwrap(&w, &contract_context), LOCH_E_CORRUPT);
    provider.wrong_plaintext(false);
    assert_ok(unwrap(&w, &contract_context));
    wrapped_down(&w);
}

static void slow_is_waited_for_and_too_slow_is_not(void **state)
{
    struct wrapped w;
    struct timespec begun, ended;

    (void)state;
    wrapped_up(&w, provider.uri);
    provider.slow(400);
    (void)clock_gettime(CLOCK_MONOTONIC, &begun);
    assert_ok(unwrap(&w, &contract_context));
    (void)clock_gettime(CLOCK_MONOTONIC, &ended);
    assert_true((ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000 >=
                390);
    provider.slow(60000);
    assert_code(unwrap(&w, &contract_context), LOCH_E_UNAVAILABLE);
    provider.slow(0);
    assert_ok(unwrap(&w, &contract_context));
    wrapped_down(&w);
}

static void our_own_credentials_are_no_verdict(void **state)
{
    struct wrapped w;

    (void)state;
    wrapped_up(&w, provider.uri);
    provider.expire_credentials(true);
    assert_code(unwrap(&w, &contract_context), LOCH_E_UNAVAILABLE);
    assert_code(wrap_again(&w), LOCH_E_UNAVAILABLE);
    provider.expire_credentials(false);
    assert_ok(unwrap(&w, &contract_context));
    wrapped_down(&w);
}

struct turns {
    struct loch_kms *kms;
    uint8_t number;
    int good;
};

static void *take_turns(void *arg)
{
    struct turns *t = arg;
    struct loch_kms_context context = contract_context;
    struct loch_secret key = {0};
    struct loch_secret back = {0};
    struct loch_buf blob = {0};

    context.tenant.bytes[7] = t->number;
    for (int i = 0; i < CONTRACT_TURNS; i++) {
        context.version = (uint32_t)i + 1;
        blob.len = 0;
        bool ok = loch_is_ok(loch_random_secret(&key, 32)) &&
                  loch_is_ok(loch_kms_wrap(t->kms, &context, &key, &blob)) &&
                  loch_is_ok(loch_kms_unwrap(t->kms, &context, loch_buf_slice(&blob), &back)) &&
                  loch_secret_equal(&key, &back);
        loch_secret_fini(&key);
        loch_secret_fini(&back);
        t->good += ok;
    }
    loch_buf_fini(&blob);
    return NULL;
}

static void many_threads_at_once(void **state)
{
    pthread_t threads[CONTRACT_THREADS];
    struct turns turns[CONTRACT_THREADS];
    struct loch_kms *kms = NULL;

    (void)state;
    assert_ok(loch_kms_open(provider.uri, NULL, &kms));
    for (uint8_t i = 0; i < CONTRACT_THREADS; i++) {
        turns[i] = (struct turns){kms, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, take_turns, &turns[i]), 0);
    }
    for (size_t i = 0; i < CONTRACT_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(turns[i].good, CONTRACT_TURNS);
    }
    loch_kms_close(kms);
}

static int contract_run(void)
{
    const struct {
        bool applies;
        struct CMUnitTest test;
    } cases[] = {
#define CASE(applies_, fn_)                                                                        \
    {applies_, cmocka_unit_test_setup_teardown(fn_, provider.up, provider.down)}
        CASE(true, a_key_comes_back),
        CASE(true, only_under_its_context),
        CASE(true, only_by_its_cmk),
        CASE(true, a_damaged_blob_is_neither),
        CASE(provider.disable != NULL, disabled_is_denied_until_enabled),
        CASE(provider.destroy != NULL, destroyed_is_denied),
        CASE(provider.silence != NULL, no_answer_is_not_a_no),
        CASE(provider.wrong_plaintext != NULL, another_plaintext_is_noticed),
        CASE(provider.slow != NULL, slow_is_waited_for_and_too_slow_is_not),
        CASE(provider.expire_credentials != NULL, our_own_credentials_are_no_verdict),
        CASE(true, many_threads_at_once),
#undef CASE
    };
    struct CMUnitTest tests[sizeof cases / sizeof *cases];
    size_t count = 0;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].applies)
            tests[count++] = cases[i].test;
        else
            print_message("cannot arise with this provider: %s\n", cases[i].test.name);
    }
    return _cmocka_run_group_tests("contract", tests, count, NULL, NULL);
}

#endif
