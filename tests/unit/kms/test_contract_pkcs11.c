/* The contract of a KMS provider, kept by "pkcs11" with SoftHSM2, and what only tokens do: lost
 * sessions, refused PINs, IVs of their own. The owner's deeds (disable, destroy) come from another
 * process. */
#include "contract.h"
#include "p11_fault.h"

#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], uri[1024], other_uri[1024], pin_file[128];
static struct p11_fault *fault;

static int admin(const char *verb, const char *key)
{
    char command[800];

    (void)snprintf(command, sizeof command,
                   "%s/p11_admin /usr/lib/softhsm/libsofthsm2.so loch 1234 %s %s", LOCH_BIN_DIR,
                   verb, key);
    return system(command);
}

static void write_pin(const char *pin)
{
    FILE *f = fopen(pin_file, "we");

    assert_non_null(f);
    assert_true(fprintf(f, "%s\n", pin) > 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(pin_file, 0600), 0);
}

static void make_uri(char *out, const char *key, const char *pin_source)
{
    (void)snprintf(out, sizeof uri,
                   "pkcs11:token=loch;object=%s?module-path=%s/p11_fault.so&pin-source=%s", key,
                   LOCH_P11_FAULT_DIR, pin_source);
}

static int up(void **state)
{
    char path[128], source[160];

    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/loch-test-p11-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/tokens", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/conf", dir);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fprintf(f, "directories.tokendir = %s/tokens\nlog.level = ERROR\n", dir) > 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(setenv("SOFTHSM2_CONF", path, 1), 0);
    (void)snprintf(pin_file, sizeof pin_file, "%s/pin", dir);
    write_pin("1234");
    (void)snprintf(source, sizeof source, "file:%s", pin_file);
    make_uri(uri, "cmk-1", source);
    make_uri(other_uri, "cmk-2", source);
    assert_int_equal(admin("init", ""), 0);
    assert_int_equal(admin("generate", "cmk-1"), 0);
    assert_int_equal(admin("generate", "cmk-2"), 0);
    fault->session = fault->login = fault->decrypt = fault->encrypt = fault->logins = 0;
    fault->wrong_plaintext = fault->token_chooses_iv = fault->no_token = false;
    fault->slow_ms = 0;
    provider.uri = uri;
    provider.other_uri = other_uri;
    return 0;
}

static int down(void **state)
{
    const struct timespec slice = {0, 10000000};
    char command[128];

    (void)state;
    for (int i = 0; i < 6000 && fault->started; i++)
        (void)nanosleep(&slice, NULL); /* a call that hung is ending */
    assert_false(fault->started);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    return 0;
}

static void disable(void)
{
    assert_int_equal(admin("disable", "cmk-1"), 0);
}

static void enable(void)
{
    assert_int_equal(admin("enable", "cmk-1"), 0);
}

static void destroy(void)
{
    assert_int_equal(admin("destroy", "cmk-1"), 0);
}

static void silence(bool on)
{
    fault->session = on ? CKR_TOKEN_NOT_PRESENT : 0;
}

static void wrong_plaintext(bool on)
{
    fault->wrong_plaintext = on;
}

static void slow(unsigned ms)
{
    fault->slow_ms = ms;
}

/* A PIN that ran out, on a token that has also lost our session. */
static void expire_credentials(bool on)
{
    fault->login = on ? CKR_PIN_EXPIRED : 0;
    fault->encrypt = fault->decrypt = on ? CKR_USER_NOT_LOGGED_IN : 0;
}

struct contract_provider provider = {.id = LOCH_PROVIDER_PKCS11,
                                     .customer_held = true,
                                     .up = up,
                                     .down = down,
                                     .disable = disable,
                                     .enable = enable,
                                     .destroy = destroy,
                                     .silence = silence,
                                     .wrong_plaintext = wrong_plaintext,
                                     .slow = slow,
                                     .expire_credentials = expire_credentials};

static void the_key_cannot_be_read(void **state)
{
    (void)state;
    assert_int_not_equal(admin("extract", "cmk-1"), 0);
}

static void a_lost_session_is_made_again(void **state)
{
    static const CK_RV lost[] = {CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED, CKR_DEVICE_REMOVED,
                                 CKR_USER_NOT_LOGGED_IN};
    struct wrapped w;

    (void)state;
    wrapped_up(&w, uri);
    assert_int_equal(fault->logins, 1);
    assert_ok(unwrap(&w, &contract_context));
    assert_int_equal(fault->logins, 1);
    for (size_t i = 0; i < sizeof lost / sizeof *lost; i++) {
        fault->decrypt = lost[i];
        assert_code(unwrap(&w, &contract_context), LOCH_E_UNAVAILABLE);
        fault->decrypt = 0;
        const unsigned long before = fault->logins;
        assert_ok(unwrap(&w, &contract_context));
        assert_int_equal(fault->logins, before + 1);
    }
    fault->decrypt = CKR_GENERAL_ERROR; /* while wrapping works: the blob is at fault */
    assert_code(unwrap(&w, &contract_context), LOCH_E_CORRUPT);
    fault->encrypt = CKR_GENERAL_ERROR; /* nothing works */
    assert_code(unwrap(&w, &contract_context), LOCH_E_UNAVAILABLE);
    wrapped_down(&w);
}

static void a_refused_pin_is_not_offered_again(void **state)
{
    struct loch_kms *kms = NULL;

    (void)state;
    write_pin("9999");
    assert_ok(loch_kms_open(uri, NULL, &kms));
    for (int i = 0; i < 20; i++)
        assert_code(loch_kms_check(kms, NULL, NULL), LOCH_E_UNAVAILABLE);
    assert_int_equal(fault->logins, 1);
    assert_non_null(strstr(loch_error_text(), "not offered again"));
    assert_null(strstr(loch_error_text(), "9999"));
    write_pin("1234");
    assert_ok(loch_kms_check(kms, NULL, NULL));
    assert_int_equal(chmod(pin_file, 0644), 0);
    loch_kms_close(kms);
    assert_ok(loch_kms_open(uri, NULL, &kms));
    assert_code(loch_kms_check(kms, NULL, NULL), LOCH_E_UNAVAILABLE);
    loch_kms_close(kms);
}

static void a_pin_from_the_environment(void **state)
{
    struct loch_kms *kms = NULL;
    char text[sizeof uri];

    (void)state;
    make_uri(text, "cmk-1", "env:LOCH_TEST_PIN");
    assert_ok(loch_kms_open(text, NULL, &kms));
    assert_int_equal(unsetenv("LOCH_TEST_PIN"), 0);
    assert_code(loch_kms_check(kms, NULL, NULL), LOCH_E_UNAVAILABLE);
    assert_int_equal(setenv("LOCH_TEST_PIN", "1234", 1), 0);
    assert_ok(loch_kms_check(kms, NULL, NULL));
    loch_kms_close(kms);
}

static void a_token_may_choose_the_iv(void **state)
{
    struct wrapped w;

    (void)state;
    fault->token_chooses_iv = true;
    wrapped_up(&w, uri);
    assert_ok(unwrap(&w, &contract_context));
    wrapped_down(&w);
}

/* The token's directory away: the key is not gone, nobody can say. */
static void a_vanished_token_is_no_verdict(void **state)
{
    struct wrapped w;
    char from[128], to[128];

    (void)state;
    wrapped_up(&w, uri);
    (void)snprintf(from, sizeof from, "%s/tokens", dir);
    (void)snprintf(to, sizeof to, "%s/away", dir);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(mkdir(from, 0700), 0); /* the module starts, and has no token */
    loch_kms_close(w.kms);                  /* a restart meanwhile */
    assert_ok(loch_kms_open(uri, NULL, &w.kms));
    assert_code(unwrap(&w, &contract_context), LOCH_E_UNAVAILABLE);
    assert_int_equal(rmdir(from), 0);
    assert_int_equal(rename(to, from), 0);
    assert_ok(unwrap(&w, &contract_context)); /* and is seen again by whom it was not there for */
    wrapped_down(&w);
}

static void *check(void *arg)
{
    (void)loch_kms_check(arg, NULL, NULL).code; /* how it ends, the clock says */
    return NULL;
}

/* One module hangs as it starts: the tokens of another have not to wait for it. */
static void a_module_that_hangs_holds_up_no_other(void **state)
{
    const struct timespec slice = {0, 10000000};
    struct loch_kms *hung = NULL, *good = NULL;
    char good_uri[1024];
    pthread_t thread;

    (void)state;
    (void)snprintf(good_uri, sizeof good_uri,
                   "pkcs11:token=loch;object=cmk-1?module-path=/usr/lib/softhsm/libsofthsm2.so"
                   "&pin-source=file:%s",
                   pin_file);
    assert_ok(loch_kms_open(uri, NULL, &hung));
    assert_ok(loch_kms_open(good_uri, NULL, &good));
    fault->hang_start = true;
    assert_int_equal(pthread_create(&thread, NULL, check, hung), 0);
    while (!fault->hangs)
        (void)nanosleep(&slice, NULL);
    const loch_status st = loch_kms_check(good, NULL, NULL);
    const bool still = fault->hangs;
    fault->hang_start = false;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_ok(st);
    assert_true(still);
    loch_kms_close(hung);
    loch_kms_close(good);
}

struct hanging {
    struct wrapped *w;
    loch_status st;
};

static void *unwrap_slowly(void *arg)
{
    struct hanging *h = arg;
    struct loch_secret back = {0};

    h->st = loch_kms_unwrap(h->w->kms, &contract_context, loch_buf_slice(&h->w->blob), &back);
    loch_secret_fini(&back);
    return NULL;
}

/* The HSM goes while a call is in the module: who finds no token then does not end the module under
 * that call. It ends when the call has left, and starts anew. */
static void a_module_outlives_the_calls_in_it(void **state)
{
    const struct timespec slice = {0, 1000000};
    struct wrapped w;
    struct hanging h = {.w = &w};
    pthread_t thread;

    (void)state;
    wrapped_up(&w, uri);
    fault->slow_ms = 20000;
    assert_int_equal(pthread_create(&thread, NULL, unwrap_slowly, &h), 0);
    while (!fault->in_decrypt)
        (void)nanosleep(&slice, NULL);
    fault->session = CKR_TOKEN_NOT_PRESENT;
    fault->no_token = true;
    const loch_status st = unwrap(&w, &contract_context);
    const bool started = fault->started, in_decrypt = fault->in_decrypt;
    fault->session = 0;
    fault->no_token = false;
    fault->slow_ms = 0;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_code(st, LOCH_E_UNAVAILABLE);
    assert_true(started && in_decrypt);
    assert_ok(h.st);
    assert_false(fault->started);
    assert_ok(unwrap(&w, &contract_context));
    assert_true(fault->started);
    wrapped_down(&w);
}

static void bad_uris_are_refused(void **state)
{
    static const char *const bad[] = {
        "pkcs11:",
        "pkcs11:token=t?module-path=/m.so&pin-source=env:P",
        "pkcs11:object=o?module-path=/m.so&pin-source=env:P",
        "pkcs11:token=t;object=o?pin-source=env:P",
        "pkcs11:token=t;object=o?module-path=m.so&pin-source=env:P",
        "pkcs11:token=t;object=o?module-path=/m.so",
        "pkcs11:token=t;object=o?module-path=/m.so&pin-source=1234",
        "pkcs11:token=t;object=o?module-path=/m.so&pin-value=1234",
        "pkcs11:token=t;object=o;type=private?module-path=/m.so&pin-source=env:P",
        "pkcs11:token=t;token=t;object=o?module-path=/m.so&pin-source=env:P",
        "pkcs11:token=t;object=%4?module-path=/m.so&pin-source=env:P",
        "pkcs11:token=t;object=%00?module-path=/m.so&pin-source=env:P",
        "pkcs11:token=t;object=?module-path=/m.so&pin-source=env:P",
        "pkcs11:token=123456789012345678901234567890123;object=o?module-path=/m&pin-source=env:P",
        "pkcs11:token=t;object=o;nosuch=1?module-path=/m.so&pin-source=env:P",
    };
    struct loch_kms *kms = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_code(loch_kms_open(bad[i], NULL, &kms), LOCH_E_INVALID);
    assert_ok(loch_kms_open(
        "pkcs11:token=t;id=%00%01;type=secret-key?module-path=/nosuch.so&pin-source=env:P", NULL,
        &kms));
    assert_code(loch_kms_check(kms, NULL, NULL), LOCH_E_UNAVAILABLE);
    loch_kms_close(kms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_key_cannot_be_read, up, down),
        cmocka_unit_test_setup_teardown(a_lost_session_is_made_again, up, down),
        cmocka_unit_test_setup_teardown(a_refused_pin_is_not_offered_again, up, down),
        cmocka_unit_test_setup_teardown(a_pin_from_the_environment, up, down),
        cmocka_unit_test_setup_teardown(a_token_may_choose_the_iv, up, down),
        cmocka_unit_test_setup_teardown(a_vanished_token_is_no_verdict, up, down),
        cmocka_unit_test_setup_teardown(a_module_that_hangs_holds_up_no_other, up, down),
        cmocka_unit_test_setup_teardown(a_module_outlives_the_calls_in_it, up, down),
        cmocka_unit_test(bad_uris_are_refused),
    };
    void *handle = dlopen(LOCH_P11_FAULT_DIR "/p11_fault.so", RTLD_NOW);

    fault = handle == NULL ? NULL : dlsym(handle, P11_FAULT_SYMBOL);
    if (fault == NULL) {
        print_error("p11_fault.so does not load: %s\n", dlerror());
        return 1;
    }
    const int failed = contract_run();
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
