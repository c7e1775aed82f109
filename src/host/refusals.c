/* Holds: which refusals were logged lately. Invariant: a text is kept once. */
#include "loch/host/refusals.h"

#include <stdio.h>
#include <string.h>

static bool is_over(const struct loch_refusal *each, uint64_t now_ns)
{
    return each->text[0] != '\0' && now_ns - each->since_ns >= LOCH_REFUSALS_AGAIN_NS;
}

/* The one with this text, or the one to take its place: a free one, else the oldest. */
static struct loch_refusal *place_of(struct loch_refusals *r, const char *text)
{
    struct loch_refusal *place = &r->kept[0];

    for (uint32_t i = 0; i < LOCH_REFUSALS_KEPT; i++) {
        struct loch_refusal *each = &r->kept[i];
        if (strncmp(each->text, text, sizeof each->text - 1) == 0)
            return each;
        if (place->text[0] != '\0' && (each->text[0] == '\0' || each->since_ns < place->since_ns))
            place = each;
    }
    return place;
}

bool loch_refusals_news(struct loch_refusals *r, const char *text, uint64_t now_ns)
{
    struct loch_refusal *each = place_of(r, text);
    const bool same = strncmp(each->text, text, sizeof each->text - 1) == 0;

    if (same && !is_over(each, now_ns)) {
        each->more++;
        return false;
    }
    if (r->minute != now_ns / LOCH_REFUSALS_AGAIN_NS) {
        r->minute = now_ns / LOCH_REFUSALS_AGAIN_NS;
        r->lines = 0;
    }
    if (r->lines == LOCH_REFUSALS_MINUTE) {
        r->dropped++;
        return false;
    }
    r->lines++;
    each->since_ns = now_ns;
    each->more = 0;
    (void)snprintf(each->text, sizeof each->text, "%s", text);
    return true;
}

bool loch_refusals_over(struct loch_refusals *r, uint64_t now_ns, const char **out, uint32_t *more)
{
    if (r->dropped > 0 && r->minute != now_ns / LOCH_REFUSALS_AGAIN_NS) {
        *out = "other refusals";
        *more = r->dropped;
        r->dropped = 0;
        return true;
    }
    for (uint32_t i = 0; i < LOCH_REFUSALS_KEPT; i++) {
        struct loch_refusal *each = &r->kept[i];
        if (!is_over(each, now_ns))
            continue;
        if (each->more == 0) {
            each->text[0] = '\0';
            continue;
        }
        *out = each->text;
        *more = each->more;
        each->more = 0; /* the next call forgets it */
        return true;
    }
    return false;
}
