/* Holds: how many peers were refused since the last record of their kind. Invariant: what is
 * counted and not in the log yet is written when its minute is over, by a timer. */
#include "loch/host/refused.h"

#include "loch/host/audit.h"
#include "loch/io/env.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KINDS       4u
#define INTERVAL_NS UINT64_C(60000000000)
#define PEER_BYTES  80u

struct tally {
    uint64_t count;      /* not in the log yet */
    uint64_t written_ns; /* 0: never */
    struct loch_id tenant;
    char peer[PEER_BYTES]; /* the last */
};

struct loch_refused {
    struct loch_env *env;
    struct loch_audit *audit;
    struct loch_timer *timer;
    struct tally tallies[KINDS];
};

static void put_down(struct loch_refused *r, size_t kind, uint64_t now_ns)
{
    static const char *const words[KINDS] = {
        [LOCH_REFUSED_HANDSHAKE] = "handshake",
        [LOCH_REFUSED_MESSAGE] = "message",
        [LOCH_REFUSED_RIGHT] = "right",
        [LOCH_REFUSED_STALE] = "stale",
    };
    struct tally *t = &r->tallies[kind];

    loch_audit_note(r->audit, loch_id_is_none(&t->tenant) ? NULL : &t->tenant, "wire_refused",
                    "%s: %" PRIu64 " since the last record of the kind, the last %s", words[kind],
                    t->count, t->peer);
    t->count = 0;
    t->written_ns = now_ns;
}

static void look(void *arg);

static void fired(void *arg)
{
    struct loch_refused *r = arg;

    r->timer = NULL;
    look(r);
}

/* Writes what is due; a timer comes for the rest. */
static void look(void *arg)
{
    struct loch_refused *r = arg;
    const uint64_t now_ns = loch_env_now_ns(r->env);
    bool waits = false;

    for (size_t i = 0; i < KINDS; i++) {
        struct tally *t = &r->tallies[i];
        if (t->count == 0)
            continue;
        if (t->written_ns == 0 || now_ns - t->written_ns >= INTERVAL_NS)
            put_down(r, i, now_ns);
        else
            waits = true;
    }
    if (waits && r->timer == NULL &&
        !loch_is_ok(loch_env_timer(r->env, INTERVAL_NS / 1000000u, &r->timer, fired, r)))
        r->timer = NULL; /* the next one that is refused tries again */
}

static void refused(void *arg, bool proven, const char *peer)
{
    static const struct loch_id none;
    char text[PEER_BYTES];

    (void)snprintf(text, sizeof text, "from %.70s", peer);
    loch_refused_note(arg, proven ? LOCH_REFUSED_MESSAGE : LOCH_REFUSED_HANDSHAKE, &none, text);
}

loch_status loch_refused_create(struct loch_env *env, struct loch_audit *audit,
                                struct loch_refused **out)
{
    struct loch_refused *r = calloc(1, sizeof *r);

    if (r == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to count refusals");
    r->env = env;
    r->audit = audit;
    loch_env_on_refused(env, refused, r);
    *out = r;
    return LOCH_OK;
}

void loch_refused_destroy(struct loch_refused *r)
{
    if (r == NULL)
        return;
    loch_env_on_refused(r->env, NULL, NULL);
    loch_timer_cancel(r->timer);
    for (size_t i = 0; i < KINDS; i++)
        if (r->tallies[i].count > 0)
            put_down(r, i, 0);
    free(r);
}

void loch_refused_note(struct loch_refused *r, enum loch_refused_kind kind,
                       const struct loch_id *tenant, const char *peer)
{
    static const struct loch_id none;

    if (r == NULL)
        return;
    struct tally *t = &r->tallies[kind];
    t->count++;
    t->tenant = tenant != NULL ? *tenant : none;
    (void)snprintf(t->peer, sizeof t->peer, "%s", peer);
    look(r);
}

void loch_refused_code(struct loch_refused *r, enum loch_code code, const struct loch_id *tenant,
                       const struct loch_id *client)
{
    char id[LOCH_ID_TEXT_BYTES];
    char peer[PEER_BYTES];

    if (code != LOCH_E_DENIED && code != LOCH_E_STALE)
        return;
    (void)snprintf(peer, sizeof peer, "by %s", loch_id_format(client, id));
    loch_refused_note(r, code == LOCH_E_DENIED ? LOCH_REFUSED_RIGHT : LOCH_REFUSED_STALE, tenant,
                      peer);
}
