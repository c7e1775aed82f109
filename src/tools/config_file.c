/* Holds: the change of a configuration that an operator has added to. Lines are read as the daemons
 * read them (host/config.c): a setting goes on in lines that begin with a space.
 *
 * Invariant: a line that is not of a setting of ours is written as it was read. */
#include "config_file.h"

#include "cluster.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_BYTES     64u /* sections and settings have short names */
#define FILE_BYTES_MAX (1u << 20)

enum line_kind { HEAD, SETTING, GOES_ON, OTHER };

struct line {
    const char *text;
    size_t len; /* with its newline, which the last one may lack */
    enum line_kind kind;
    char section[NAME_BYTES];
    char key[NAME_BYTES]; /* of the setting that it begins or goes on with */
};

static void copy_name(char out[NAME_BYTES], const char *from, size_t len)
{
    while (len > 0 && (from[len - 1] == ' ' || from[len - 1] == '\t'))
        len--;
    (void)snprintf(out, NAME_BYTES, "%.*s", (int)len, from);
}

/* l: the line before, zeroed at the first. False: there is no further one. */
static bool next_line(const char **at, struct line *l)
{
    if (**at == '\0')
        return false;
    l->text = *at;
    l->len = strcspn(*at, "\n");
    l->len += l->text[l->len] == '\n';
    *at += l->len;
    const size_t indent = strspn(l->text, " \t\r");
    const char *first = l->text + indent;
    l->kind = OTHER;
    if (indent >= l->len || strchr("\n;#", *first) != NULL)
        return true;
    if (indent > 0 && l->key[0] != '\0') {
        l->kind = GOES_ON;
    } else if (*first == '[') {
        l->kind = HEAD;
        copy_name(l->section, first + 1, strcspn(first + 1, "]\n"));
        l->key[0] = '\0';
    } else {
        l->kind = SETTING;
        copy_name(l->key, first, strcspn(first, "=:\n"));
    }
    return true;
}

/* Where the text has the setting first, or (key NULL) the head of the section; else NULL. */
static const char *find(const char *text, const char *section, const char *key)
{
    struct line l = {0};

    while (next_line(&text, &l))
        if (strcmp(l.section, section) == 0 &&
            (key == NULL ? l.kind == HEAD : l.kind == SETTING && strcmp(l.key, key) == 0))
            return l.text;
    return NULL;
}

/* Our settings of that section in `text` that are not in `old` to stay. f NULL: only whether there
 * are any. */
static bool add_settings(FILE *f, const char *section, const char *old, const char *text,
                         const struct loch_config_ours *ours)
{
    struct line l = {0};
    bool any = false;

    while (next_line(&text, &l)) {
        if ((l.kind != SETTING && l.kind != GOES_ON) || strcmp(l.section, section) != 0 ||
            !ours->is(section, l.key) || (ours->as_found && find(old, section, l.key) != NULL))
            continue;
        if (f != NULL)
            (void)fprintf(f, "%.*s", (int)l.len, l.text);
        any = true;
    }
    return any;
}

static void merge(FILE *f, const char *old, const char *text, const struct loch_config_ours *ours)
{
    struct line l = {0};
    struct line made = {0};
    bool ended = true; /* what was written last, by a newline */
    const char *at = old;

    while (next_line(&at, &l)) {
        const bool setting = l.kind == SETTING || l.kind == GOES_ON;
        const bool goes = setting && ours->is(l.section, l.key) &&
                          !(ours->as_found && find(text, l.section, l.key) != NULL);
        if (!goes) {
            (void)fprintf(f, "%.*s", (int)l.len, l.text);
            ended = l.text[l.len - 1] == '\n';
        }
        if (l.kind == HEAD && find(old, l.section, NULL) == l.text &&
            add_settings(NULL, l.section, old, text, ours)) {
            (void)fprintf(f, "%s", ended ? "" : "\n");
            ended = add_settings(f, l.section, old, text, ours);
        }
    }
    for (at = text; next_line(&at, &made);)
        if (made.kind == HEAD && find(old, made.section, NULL) == NULL &&
            add_settings(NULL, made.section, old, text, ours)) {
            (void)fprintf(f, "%s\n[%s]\n", ended ? "" : "\n", made.section);
            ended = add_settings(f, made.section, old, text, ours);
        }
}

/* *text: what the file holds, to be freed; "" when there is none. */
static loch_status read_old(const char *path, char **text, struct stat *was)
{
    *text = calloc(1, FILE_BYTES_MAX + 1);
    if (*text == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %s", path);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return errno == ENOENT ? LOCH_OK
                               : LOCH_FAIL(LOCH_E_IO, "cannot read %s: %s", path, strerror(errno));
    const size_t n = fread(*text, 1, FILE_BYTES_MAX + 1, f);
    const bool ok = ferror(f) == 0 && fstat(fileno(f), was) == 0;
    (void)fclose(f);
    if (!ok || n > FILE_BYTES_MAX)
        return LOCH_FAIL(LOCH_E_IO, "cannot read %s%s", path, ok ? ": it is too long" : "");
    return LOCH_OK;
}

loch_status loch_config_file_write(const char *path, const char *text, mode_t mode,
                                   const struct loch_config_ours *ours)
{
    char real[PATH_MAX]; /* of a link, what it leads to */
    struct stat was = {0};
    char *old = NULL;
    char *merged = NULL;
    size_t len = 0;
    FILE *f;
    loch_status st;

    if (realpath(path, real) != NULL)
        path = real;
    LOCH_TRY_OUT(st, read_old(path, &old, &was));
    if (old[0] == '\0') { /* none, or what a write that failed once left */
        st = loch_text_replace(path, text, mode, &was);
        goto out;
    }
    f = open_memstream(&merged, &len);
    if (f != NULL)
        merge(f, old, text, ours);
    if (f == NULL || fclose(f) != 0) {
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %s", path);
        goto out;
    }
    if (strcmp(old, merged) != 0)
        st = loch_text_replace(path, merged, mode, &was);
out:
    free(merged);
    free(old);
    return st;
}
