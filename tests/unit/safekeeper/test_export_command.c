/* What pg_receivewal says, and what it might. */
#include "../unit.h"
#include "export_command.h"

#include <stdio.h>
#include <string.h>

static struct sk_export_command parsed(const char *text)
{
    struct sk_export_command c;

    sk_export_command_parse(text, &c);
    return c;
}

static void known_commands(void **state)
{
    (void)state;
    assert_int_equal(parsed("IDENTIFY_SYSTEM").verb, SK_EXPORT_IDENTIFY);
    assert_int_equal(parsed("identify_system;").verb, SK_EXPORT_IDENTIFY);
    assert_int_equal(parsed("SHOW wal_segment_size").verb, SK_EXPORT_SHOW_SEGMENT_SIZE);
    assert_int_equal(parsed("SHOW data_directory_mode").verb, SK_EXPORT_SHOW_DIRECTORY_MODE);
    assert_int_equal(parsed("READ_REPLICATION_SLOT s").verb, SK_EXPORT_READ_SLOT);
    assert_int_equal(parsed("DROP_REPLICATION_SLOT s").verb, SK_EXPORT_DROP_SLOT);
    struct sk_export_command c = parsed("CREATE_REPLICATION_SLOT \"a b\" PHYSICAL");
    assert_int_equal(c.verb, SK_EXPORT_CREATE_SLOT);
    assert_string_equal(c.slot, "a b");
    c = parsed("START_REPLICATION SLOT \"s\" PHYSICAL 1/2C000000 TIMELINE 1");
    assert_int_equal(c.verb, SK_EXPORT_START);
    assert_int_equal(c.lsn, UINT64_C(0x12C000000));
    assert_int_equal(parsed("START_REPLICATION 0/1000000").lsn, 0x1000000);
    static const char *const slots[] = {"logical_twin", "\"my logical slot\"", "\"a \"\" LOGICAL\"",
                                        "\"0/5 TIMELINE 9\"", "\"\""};
    for (size_t i = 0; i < sizeof slots / sizeof slots[0];
         i++) { /* what a name contains is a name's */
        char text[120];
        (void)snprintf(text, sizeof text, "START_REPLICATION SLOT %s PHYSICAL 0/2000000", slots[i]);
        c = parsed(text);
        assert_int_equal(c.verb, SK_EXPORT_START);
        assert_int_equal(c.lsn, 0x2000000);
    }
}

static void refusals(void **state)
{
    static const struct {
        const char *text, *sqlstate;
    } cases[] = {{"SELECT 1", "0A000"},
                 {"", "0A000"},
                 {"SHOW server_version", "42704"},
                 {"TIMELINE_HISTORY 2", "58P01"},
                 {"START_REPLICATION", "42601"},
                 {"START_REPLICATION /", "42601"},
                 {"START_REPLICATION 0/X", "42601"},
                 {"START_REPLICATION 123456789/0", "42601"},
                 {"START_REPLICATION SLOT s LOGICAL 0/0", "42601"},
                 {"START_REPLICATION SLOT \"a b\" LOGICAL 0/0", "42601"},
                 {"START_REPLICATION SLOT \"0/0", "42601"},
                 {"START_REPLICATION SLOT", "42601"},
                 {"START_REPLICATION 0/0 TIMELINE 2", "58P01"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct sk_export_command c = parsed(cases[i].text);
        assert_int_equal(c.verb, SK_EXPORT_REFUSED);
        assert_string_equal(c.sqlstate, cases[i].sqlstate);
        assert_non_null(c.complaint);
    }
    char text[200] = "CREATE_REPLICATION_SLOT \""; /* a name that is too long is cut */
    memset(text + strlen(text), 'x', 150);
    assert_int_equal(strlen(parsed(text).slot), SK_SLOT_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_commands),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
