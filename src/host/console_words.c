/* Holds: splitting of commands into words, and their patterns ("CREATE X <name> [AT <lsn>]"). */
#include "console_words.h"

#include "loch/base/check.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

void console_words_fini(struct console_words *words)
{
    for (size_t i = 0; i < words->count; i++)
        free(words->word[i].text);
    *words = (struct console_words){0};
}

/* Copies what is between quotes, doubled quotes made single. Returns past the closing quote, or
 * NULL. */
static const char *unquote(const char *at, char *out)
{
    char quote = *at++;

    for (;; at++) {
        if (*at == '\0')
            return NULL;
        if (*at == quote && *++at != quote)
            break;
        *out++ = *at;
    }
    *out = '\0';
    return at;
}

static loch_status split_one(const char **at, struct console_words *words)
{
    const char *p = *at;

    if (words->count == CONSOLE_WORDS_MAX)
        return LOCH_FAIL(LOCH_E_INVALID, "a command has at most %u words", CONSOLE_WORDS_MAX);
    struct console_word w = {.text = malloc(strlen(p) + 1)};
    if (w.text == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a command");
    words->word[words->count++] = w;
    if (*p == '\'' || *p == '"') {
        words->word[words->count - 1].quoted = true;
        *at = unquote(p, w.text);
        if (*at == NULL)
            return LOCH_FAIL(LOCH_E_INVALID, "a quote is not closed");
        return LOCH_OK;
    }
    size_t n = 0;
    while (p[n] != '\0' && !is_space(p[n]) && p[n] != ';' && p[n] != '\'' && p[n] != '"')
        n++;
    memcpy(w.text, p, n);
    w.text[n] = '\0';
    *at = p + n;
    return LOCH_OK;
}

loch_status console_words_split(const char *text, struct console_words *out)
{
    struct console_words words = {0};
    loch_status st = LOCH_OK;
    bool ended = false;

    for (const char *at = text; loch_is_ok(st) && *at != '\0';) {
        if (is_space(*at)) {
            at++;
        } else if (*at == ';') {
            ended = true;
            at++;
        } else if (ended) {
            st = LOCH_FAIL(LOCH_E_INVALID, "one command at a time, please");
        } else {
            st = split_one(&at, &words);
        }
    }
    if (!loch_is_ok(st)) {
        console_words_fini(&words);
        return st;
    }
    *out = words;
    return LOCH_OK;
}

/* ---- patterns ---- */
struct item {
    const char *text;
    size_t len;
    bool argument;      /* text is the name between < and > */
    bool opens, closes; /* an optional part */
};

/* The pattern's next item; false at its end. */
static bool next_item(const char **at, struct item *out)
{
    struct item item = {0};
    const char *p = *at;

    while (*p == ' ')
        p++;
    if (*p == '\0')
        return false;
    size_t n = strcspn(p, " ");
    *at = p + n;
    if (p[0] == '[') {
        item.opens = true;
        p++;
        n--;
    }
    if (n > 0 && p[n - 1] == ']') {
        item.closes = true;
        n--;
    }
    if (n > 2 && p[0] == '<' && p[n - 1] == '>') {
        item.argument = true;
        p++;
        n -= 2;
    }
    LOCH_ASSERT(n > 0);
    item.text = p;
    item.len = n;
    *out = item;
    return true;
}

static bool fits(const struct item *item, const struct console_word *word)
{
    if (item->argument)
        return true;
    return !word->quoted && strlen(word->text) == item->len &&
           strncasecmp(item->text, word->text, item->len) == 0;
}

const char *console_words_match(const char *pattern, const struct console_words *words,
                                const char *name)
{
    const char *value = NULL;
    struct item item;
    size_t i = 0;
    bool skipping = false;
    bool inside = false;

    for (const char *at = pattern; next_item(&at, &item);) {
        if (item.opens) {
            inside = true;
            skipping = i >= words->count || !fits(&item, &words->word[i]);
        }
        if (!skipping) {
            if (i >= words->count || !fits(&item, &words->word[i]))
                return NULL;
            if (name != NULL && item.argument && strlen(name) == item.len &&
                memcmp(name, item.text, item.len) == 0)
                value = words->word[i].text;
            i++;
        }
        if (item.closes) {
            LOCH_ASSERT(inside);
            inside = false;
            skipping = false;
        }
    }
    if (i != words->count)
        return NULL;
    return name == NULL ? pattern : value;
}

bool console_words_akin(const char *pattern, const struct console_words *words)
{
    struct item item;
    const char *at = pattern;

    return words->count > 0 && next_item(&at, &item) && fits(&item, &words->word[0]);
}
