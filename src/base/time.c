/* Holds: time as text. Days are counted in the proleptic Gregorian calendar; leap seconds do not
 * exist, as in POSIX. */
#include "loch/base/time.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND_US INT64_C(1000000)
#define LAST_US   INT64_C(253402300799999999) /* 9999-12-31T23:59:59.999999Z */

struct cursor {
    const char *at;
    bool bad;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Exactly `digits` of them, within low..high. */
static int number(struct cursor *c, int digits, int low, int high)
{
    int v = 0;

    for (int i = 0; i < digits; i++) {
        if (c->bad || !is_digit(*c->at)) {
            c->bad = true;
            return low;
        }
        v = v * 10 + (*c->at++ - '0');
    }
    c->bad = c->bad || v < low || v > high;
    return c->bad ? low : v;
}

static bool take(struct cursor *c, char wanted)
{
    if (c->bad || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static void want(struct cursor *c, char wanted)
{
    if (!take(c, wanted))
        c->bad = true;
}

/* ".123456" and longer; nothing is zero. */
static int64_t fraction(struct cursor *c)
{
    int64_t us = 0;
    int digits = 0;

    if (!take(c, '.'))
        return 0;
    for (; is_digit(*c->at); c->at++, digits++)
        us = digits < 6 ? us * 10 + (*c->at - '0') : us;
    c->bad = c->bad || digits == 0;
    for (; digits < 6; digits++)
        us *= 10;
    return us;
}

/* Seconds east of UTC. */
static int64_t zone(struct cursor *c)
{
    int sign = 0;

    if (take(c, 'Z') || take(c, 'z'))
        return 0;
    if (take(c, '+'))
        sign = 1;
    else if (take(c, '-'))
        sign = -1;
    if (sign == 0)
        return 0;
    int hours = number(c, 2, 0, 15);
    int minutes = 0;
    if (take(c, ':') || is_digit(*c->at))
        minutes = number(c, 2, 0, 59);
    return (int64_t)sign * (hours * 3600 + minutes * 60);
}

static int days_of(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && leap ? 29 : days[month - 1];
}

loch_status loch_time_parse(const char *text, int64_t *us)
{
    struct cursor c = {text, false};
    struct tm tm = {0};
    int64_t micros = 0, east = 0;

    int year = number(&c, 4, 1970, 9999);
    want(&c, '-');
    int month = number(&c, 2, 1, 12);
    want(&c, '-');
    tm.tm_mday = number(&c, 2, 1, days_of(year, month));
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    if (take(&c, 'T') || take(&c, 't') || take(&c, ' ')) {
        tm.tm_hour = number(&c, 2, 0, 23);
        want(&c, ':');
        tm.tm_min = number(&c, 2, 0, 59);
        if (take(&c, ':')) {
            tm.tm_sec = number(&c, 2, 0, 59);
            micros = fraction(&c);
        }
        (void)take(&c, ' ');
        east = zone(&c);
    }
    int64_t at = ((int64_t)timegm(&tm) - east) * SECOND_US + micros;
    if (c.bad || *c.at != '\0' || at < 0 || at > LAST_US)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "\"%s\" is not a time: want 2026-11-28T13:11:35.5Z or "
                         "'2026-11-28 13:11:35.5+00' (without a zone: UTC)",
                         text);
    *us = at;
    return LOCH_OK;
}

const char *loch_time_format(int64_t us, char text[static LOCH_TIME_TEXT_BYTES])
{
    struct tm tm;

    us = us < 0 ? 0 : us > LAST_US ? LAST_US : us;
    time_t seconds = (time_t)(us / SECOND_US);
    if (gmtime_r(&seconds, &tm) == NULL)
        memset(&tm, 0, sizeof tm);
    (void)snprintf(text, LOCH_TIME_TEXT_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
                   tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                   (int)(us % SECOND_US));
    return text;
}
