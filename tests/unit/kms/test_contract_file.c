/* The contract of a KMS provider, kept by "file". */
#include "contract.h"

#include <stdlib.h>
#include <unistd.h>

static char dir[64], cmk[128], uri[160], other_uri[160];

static void away(const char *path, bool on)
{
    char there[160];

    (void)snprintf(there, sizeof there, "%s.away", path);
    assert_int_equal(on ? rename(path, there) : rename(there, path), 0);
}

static int up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/loch-test-kms-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(cmk, sizeof cmk, "%s/cmk.key", dir);
    (void)snprintf(uri, sizeof uri, "file:%s", cmk);
    (void)snprintf(other_uri, sizeof other_uri, "file:%s/other.key", dir);
    assert_ok(loch_kms_file_create(cmk));
    assert_ok(loch_kms_file_create(other_uri + 5));
    provider.uri = uri;
    provider.other_uri = other_uri;
    return 0;
}

static int down(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s' '%s.away'", dir, dir);
    assert_int_equal(system(command), 0);
    return 0;
}

static void disable(void)
{
    away(cmk, true);
}

static void enable(void)
{
    away(cmk, false);
}

static void destroy(void)
{
    assert_int_equal(unlink(cmk), 0);
}

static void silence(bool on)
{
    away(dir, on);
}

struct contract_provider provider = {.id = LOCH_PROVIDER_FILE,
                                     .up = up,
                                     .down = down,
                                     .disable = disable,
                                     .enable = enable,
                                     .destroy = destroy,
                                     .silence = silence};

int main(void)
{
    return contract_run();
}
