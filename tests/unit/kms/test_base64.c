/* RFC 4648's vectors, every length, and what is refused. */
#include "../unit.h"

#include "base64.h"

static void vectors(void **state)
{
    static const struct {
        const char *plain, *text;
    } cases[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"foobar", "Zm9vYmFy"}};
    char text[32];
    uint8_t back[32];
    size_t len = 0;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const size_t n = strlen(cases[i].plain);
        kms_base64_encode(loch_slice_of(cases[i].plain, n), text);
        assert_string_equal(text, cases[i].text);
        if (n == 0)
            continue;
        assert_ok(kms_base64_decode(text, back, n, &len));
        assert_int_equal(len, n);
        assert_memory_equal(back, cases[i].plain, n);
        assert_code(kms_base64_decode(text, back, n - 1, &len), LOCH_E_CORRUPT);
    }
}

static void every_character(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t back[3];
    size_t len = 0;

    (void)state;
    for (int c = 1; c < 256; c++) {
        const char text[] = {'A', 'A', 'A', (char)c, 0};
        const char *at = strchr(digits, c);
        if (c == '=')
            continue;
        if (at == NULL) {
            assert_code(kms_base64_decode(text, back, sizeof back, &len), LOCH_E_CORRUPT);
            continue;
        }
        assert_ok(kms_base64_decode(text, back, sizeof back, &len));
        assert_int_equal(back[2], at - digits);
    }
    const char *const bad[] = {"", "A", "AA", "AAA", "====", "A===", "=AAA", "AA=A", "AAAA="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_code(kms_base64_decode(bad[i], back, sizeof back, &len), LOCH_E_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(vectors),
                                       cmocka_unit_test(every_character)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
