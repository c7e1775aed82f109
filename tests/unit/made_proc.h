/* A made-up /proc and /sys in a directory of its own, for what judges swap and devices. */
#ifndef LOCH_TEST_MADE_PROC_H
#define LOCH_TEST_MADE_PROC_H

#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char root[64], proc[80], sys[80];

static void run(const char *fmt, const char *a, const char *b)
{
    char command[600];

    (void)snprintf(command, sizeof command, fmt, a, b);
    assert_int_equal(system(command), 0);
}

static void put(const char *base, const char *name, const char *text)
{
    char path[400];

    (void)snprintf(path, sizeof path, "%s/%s", base, name);
    run("mkdir -p \"$(dirname '%s')\"%s", path, "");
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int up(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/loch-test-proc-XXXXXX");
    assert_non_null(mkdtemp(root));
    (void)snprintf(proc, sizeof proc, "%s/proc", root);
    (void)snprintf(sys, sizeof sys, "%s/sys", root);
    put(proc, "swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    put(proc, "self/cgroup", "4:memory:/old\n0::/a.slice/b.service\n");
    put(sys, "dev/block/8:1/size", "1\n");
    return 0;
}

static int down(void **state)
{
    (void)state;
    run("rm -rf '%s'%s", root, "");
    return 0;
}

#endif
