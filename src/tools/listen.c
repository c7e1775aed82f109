/* Holds: the choice of one address out of a list. */
#include "listen.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define AROUND " \t\"" /* what may stand around an address */

static bool is_any(const char *const *names, const char *text, size_t len)
{
    for (; *names != NULL; names++)
        if (strlen(*names) == len && strncmp(*names, text, len) == 0)
            return true;
    return false;
}

/* In a URL, an address of IPv6 stands in brackets, and the mark before its zone is escaped. */
static void put_host(const char *text, size_t len, char out[static LOCH_LISTEN_HOST_BYTES])
{
    const bool v6 = memchr(text, ':', len) != NULL;
    const char *zone = memchr(text, '%', len);
    const int before = (int)(zone != NULL ? (size_t)(zone - text) : len);

    (void)snprintf(out, LOCH_LISTEN_HOST_BYTES, "%s%.*s%s%.*s%s", v6 ? "[" : "", before, text,
                   zone != NULL ? "%25" : "", zone != NULL ? (int)len - before - 1 : 0,
                   zone != NULL ? zone + 1 : "", v6 ? "]" : "");
}

void loch_listen_host(const char *listen, char out[static LOCH_LISTEN_HOST_BYTES])
{
    static const char *const loopback[] = {"127.0.0.1", "localhost", "0.0.0.0", "*", NULL};
    static const char *const loopback6[] = {"::1", "::", NULL};
    bool six = false;

    out[0] = '\0';
    while (*listen != '\0') {
        const size_t part = strcspn(listen, ",");
        const char *text = listen;
        size_t len = part;

        for (; len > 0 && strchr(AROUND, *text) != NULL; len--)
            text++;
        while (len > 0 && strchr(AROUND, text[len - 1]) != NULL)
            len--;
        listen += part;
        listen += *listen == ',' ? 1 : 0;
        if (is_any(loopback, text, len)) {
            out[0] = '\0';
            break;
        }
        if (len > 0 && !six && (out[0] == '\0' || is_any(loopback6, text, len))) {
            six = is_any(loopback6, text, len);
            put_host(six ? "::1" : text, six ? 3 : len, out);
        }
    }
    if (out[0] == '\0')
        (void)snprintf(out, LOCH_LISTEN_HOST_BYTES, "127.0.0.1");
}
