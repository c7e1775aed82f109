/* Where a compute is reached from its own machine. */
#include "../unit.h"
#include "listen.h"

static void reached(const char *listen, const char *host)
{
    char out[LOCH_LISTEN_HOST_BYTES];

    loch_listen_host(listen, out);
    assert_string_equal(out, host);
}

static void by_loopback_where_it_can_be(void **state)
{
    (void)state;
    reached("", "127.0.0.1");
    reached("127.0.0.1", "127.0.0.1");
    reached("0.0.0.0", "127.0.0.1");
    reached("*", "127.0.0.1");
    reached("10.0.0.5, localhost", "127.0.0.1");
    reached("::, 0.0.0.0", "127.0.0.1");
    reached("::", "[::1]");
    reached("10.0.0.5,::1", "[::1]");
    reached(" , ", "127.0.0.1");
}

static void else_by_the_first_address(void **state)
{
    (void)state;
    reached("10.0.0.5", "10.0.0.5");
    reached("10.0.0.5,10.0.0.6", "10.0.0.5");
    reached(" \"db.example\" ,10.0.0.6", "db.example");
    reached("fd00::5", "[fd00::5]");
    reached("fe80::5%eth0", "[fe80::5%25eth0]");
}

static void what_does_not_fit_is_cut(void **state)
{
    char listen[2 * LOCH_LISTEN_HOST_BYTES];
    char out[LOCH_LISTEN_HOST_BYTES];

    (void)state;
    memset(listen, 'h', sizeof listen - 1);
    listen[sizeof listen - 1] = '\0';
    loch_listen_host(listen, out);
    assert_int_equal(strlen(out), LOCH_LISTEN_HOST_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_loopback_where_it_can_be),
        cmocka_unit_test(else_by_the_first_address),
        cmocka_unit_test(what_does_not_fit_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
