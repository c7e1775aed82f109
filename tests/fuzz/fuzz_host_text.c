/* What people type: console commands against patterns, and configuration files. */
#include "fuzz.h"

#include "loch/base/check.h"
#include "loch/base/time.h"
#include "loch/host/config.h"
#include "loch/host/daemon.h"

#include "../../src/host/console_words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct loch_config_item items[] = {
    LOCH_DAEMON_ITEMS,
    {.section = "a", .key = "n", .type = LOCH_CONFIG_U64, .value = "1", .max = 9, .help = "N."},
    {.section = "a", .key = "b", .type = LOCH_CONFIG_BYTES, .value = "1k", .help = "B."},
    {.section = "m", .key = "*", .type = LOCH_CONFIG_ADDRESS, .key_is_id = true, .help = "M."},
};
static const struct loch_config_program program = {"fuzz", "fuzz", items,
                                                   sizeof items / sizeof items[0]};

static void console(const char *text)
{
    static const char *const patterns[] = {
        "SHOW X", "CREATE BRANCH <name> [FROM <parent>] [AT <lsn>]", "A [B <c>] <d>", "<a>"};
    struct console_words words;

    if (!loch_is_ok(console_words_split(text, &words)))
        return;
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        bool matches = console_words_match(patterns[i], &words, NULL) != NULL;
        const char *name = console_words_match(patterns[i], &words, "name");
        LOCH_ASSERT(matches || name == NULL);
        (void)console_words_akin(patterns[i], &words);
    }
    console_words_fini(&words);
}

static void config(const uint8_t *data, size_t size)
{
    char path[] = "/dev/shm/loch-fuzz-XXXXXX";
    char option[] = "--daemon.dir=/d";
    char name[] = "fuzz";
    char *argv[] = {name, NULL, option};
    char with_path[64];
    enum loch_config_verdict verdict;
    struct loch_config *c = NULL;

    int fd = mkstemp(path);
    if (fd < 0)
        return;
    bool written = write(fd, data, size) == (ssize_t)size;
    (void)close(fd);
    (void)snprintf(with_path, sizeof with_path, "--config=%s", path);
    argv[1] = with_path;
    if (written && loch_is_ok(loch_config_load(&program, 3, argv, stdout, &verdict, &c)))
        LOCH_ASSERT(loch_config_u64(c, "a", "n") <= 9);
    loch_config_destroy(c);
    (void)unlink(path);
}

/* What is read is written so that it is read again. */
static void point_in_time(const char *text)
{
    char again[LOCH_TIME_TEXT_BYTES];
    int64_t us = 0, same = 0;

    if (!loch_is_ok(loch_time_parse(text, &us)))
        return;
    LOCH_ASSERT(loch_is_ok(loch_time_parse(loch_time_format(us, again), &same)));
    LOCH_ASSERT(us == same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    LOCH_ASSERT(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    console(text);
    point_in_time(text);
    config(data, size);
    free(text);
    return 0;
}
