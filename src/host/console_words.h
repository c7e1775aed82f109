/* Holds: what a person typed, in words, and the patterns of commands. Pure. */
#ifndef LOCH_HOST_CONSOLE_WORDS_H
#define LOCH_HOST_CONSOLE_WORDS_H

#include "loch/base/status.h"

#include <stddef.h>

#define CONSOLE_WORDS_MAX 64u

struct console_word {
    char *text;  /* owned */
    bool quoted; /* never a keyword */
};

struct console_words {
    struct console_word word[CONSOLE_WORDS_MAX];
    size_t count;
};

/* Splits a command; a semicolon ends it. LOCH_E_INVALID for an open quote, more than one command,
 * or too many words. */
LOCH_STATUS console_words_split(const char *text, struct console_words *out);
void console_words_fini(struct console_words *words);

/* The value of <name> in `words` under `pattern`, which console_words_match accepts; NULL when its
 * optional part was left out. With name NULL: whether the pattern matches (any non-NULL pointer) or
 * not. */
const char *console_words_match(const char *pattern, const struct console_words *words,
                                const char *name);
/* Whether the pattern's first word is that of the command: for a hint. */
bool console_words_akin(const char *pattern, const struct console_words *words);

#endif
