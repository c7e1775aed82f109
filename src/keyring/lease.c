/* Holds: the lease machine. Invariants: permit_ns never lies beyond granted + lease + grace;
 * nothing but a granted Decrypt leaves REVOKED; one Decrypt at a time. */
#include "loch/keyring/lease.h"

#include <inttypes.h>

#define NS_PER_MS UINT64_C(1000000)

static uint64_t ns(uint64_t ms)
{
    return ms * NS_PER_MS;
}

loch_status loch_lease_settings_check(const struct loch_lease_settings *s)
{
    if (s->poll_ms < 50 || s->poll_ms > 3600000)
        return LOCH_FAIL(LOCH_E_INVALID, "kms.poll: %" PRIu64 " ms, want 50 ms to 1 h", s->poll_ms);
    if (s->lease_ms < 2 * s->poll_ms || s->lease_ms > 7200000)
        return LOCH_FAIL(LOCH_E_INVALID,
                         "kms.lease: %" PRIu64 " ms, want at least twice kms.poll and at most 2 h",
                         s->lease_ms);
    if (s->grace_ms > LOCH_GRACE_MAX_MS)
        return LOCH_FAIL(LOCH_E_INVALID, "kms.grace: %" PRIu64 " ms, want at most %u", s->grace_ms,
                         LOCH_GRACE_MAX_MS);
    return LOCH_OK;
}

void loch_lease_begin(struct loch_lease *l, const struct loch_lease_settings *settings,
                      uint64_t granted_ns)
{
    *l = (struct loch_lease){.settings = *settings,
                             .state = LOCH_LEASE_HELD,
                             .granted_ns = granted_ns,
                             .permit_ns = granted_ns + ns(settings->lease_ms),
                             .since_ns = granted_ns,
                             .next_ns = granted_ns + ns(settings->poll_ms)};
}

void loch_lease_begin_closed(struct loch_lease *l, const struct loch_lease_settings *settings,
                             enum loch_lease_answer why, uint64_t now_ns)
{
    *l = (struct loch_lease){.settings = *settings,
                             .state =
                                 why == LOCH_KMS_DENIED ? LOCH_LEASE_REVOKED : LOCH_LEASE_OUTAGE,
                             .since_ns = now_ns,
                             .silent_ns = why == LOCH_KMS_DENIED ? 0 : now_ns,
                             .next_ns = now_ns + ns(settings->poll_ms)};
}

void loch_lease_begin_unasked(struct loch_lease *l, const struct loch_lease_settings *settings,
                              uint64_t now_ns)
{
    *l = (struct loch_lease){
        .settings = *settings, .state = LOCH_LEASE_OPENING, .since_ns = now_ns, .next_ns = now_ns};
}

void loch_lease_ask(struct loch_lease *l)
{
    l->next_ns = 0;
}

/* The end of the grace: half a poll before the permission lapses by itself, so that peers are told
 * why instead of finding a door shut. */
static bool grace_is_over(const struct loch_lease *l, uint64_t now_ns)
{
    return now_ns + ns(l->settings.poll_ms) / 2 >=
           l->granted_ns + ns(l->settings.lease_ms + l->settings.grace_ms);
}

static unsigned close_down(struct loch_lease *l, enum loch_lease_state state, uint64_t now_ns)
{
    const bool held = l->state == LOCH_LEASE_HELD;

    l->state = state;
    l->since_ns = now_ns;
    l->permit_ns = 0;
    return LOCH_LEASE_AUDIT | (held ? (unsigned)LOCH_LEASE_WIPE : 0u);
}

/* Nobody answers: one more lease from now on, but never beyond the grace. */
static unsigned silent(struct loch_lease *l, uint64_t now_ns)
{
    const uint64_t last_ns = l->granted_ns + ns(l->settings.lease_ms + l->settings.grace_ms);
    const uint64_t more_ns = now_ns + ns(l->settings.lease_ms);
    unsigned effects = 0;

    l->good_ns = 0;
    if (l->silent_ns == 0) {
        l->silent_ns = now_ns;
        effects |= LOCH_LEASE_AUDIT;
    }
    if (l->state != LOCH_LEASE_HELD)
        return effects;
    if (grace_is_over(l, now_ns))
        return effects | close_down(l, LOCH_LEASE_OUTAGE, now_ns);
    if (more_ns > l->permit_ns)
        l->permit_ns = more_ns < last_ns ? more_ns : last_ns;
    return effects | LOCH_LEASE_RENEW;
}

unsigned loch_lease_tick(struct loch_lease *l, uint64_t now_ns)
{
    unsigned effects = 0;

    /* After a gap an answer may lie there, unread: that is not silence. */
    if (l->tick_ns != 0 && now_ns - l->tick_ns > ns(l->settings.poll_ms))
        l->waited_ns = now_ns;
    l->tick_ns = now_ns;
    if (l->state == LOCH_LEASE_ASLEEP || (l->state == LOCH_LEASE_OPENING && l->restoring))
        return 0;
    if (l->state == LOCH_LEASE_OPENING) {
        l->restoring = true;
        return LOCH_LEASE_RESTORE;
    }
    if (l->asked_ns != 0 && now_ns - l->waited_ns >= ns(l->settings.lease_ms) / 2)
        effects |= silent(l, now_ns);
    if (l->state == LOCH_LEASE_HELD && l->silent_ns != 0 && grace_is_over(l, now_ns))
        effects |= close_down(l, LOCH_LEASE_OUTAGE, now_ns);
    if (l->asked_ns == 0 && !l->restoring && now_ns >= l->next_ns) {
        l->asked_ns = l->waited_ns = now_ns;
        l->next_ns = now_ns + ns(l->settings.poll_ms);
        effects |= LOCH_LEASE_DECRYPT;
    }
    return effects;
}

static unsigned granted(struct loch_lease *l, uint64_t started_ns, uint64_t now_ns)
{
    const bool was_silent = l->silent_ns != 0;

    l->silent_ns = 0;
    if (l->state == LOCH_LEASE_HELD) {
        if (started_ns > l->granted_ns)
            l->granted_ns = started_ns;
        const uint64_t until_ns = l->granted_ns + ns(l->settings.lease_ms);
        if (until_ns > l->permit_ns) /* a silence may have extended it further: that stands */
            l->permit_ns = until_ns;
        if (now_ns >= until_ns)
            l->next_ns = now_ns; /* it took so long that it is worth nothing: ask again */
        return LOCH_LEASE_RENEW | (was_silent ? (unsigned)LOCH_LEASE_AUDIT : 0u);
    }
    if (l->good_ns == 0)
        l->good_ns = started_ns;
    const bool settled =
        l->state == LOCH_LEASE_OUTAGE || now_ns - l->good_ns >= ns(l->settings.settle_ms);
    if (!settled || l->restoring)
        return 0;
    l->restoring = true;
    return LOCH_LEASE_RESTORE;
}

unsigned loch_lease_answered(struct loch_lease *l, uint64_t started_ns, uint64_t now_ns,
                             enum loch_lease_answer answer)
{
    l->asked_ns = 0;
    switch (answer) {
    case LOCH_KMS_GRANTED:
        return granted(l, started_ns, now_ns);
    case LOCH_KMS_DENIED:
        l->good_ns = 0;
        l->silent_ns = 0;
        return l->state == LOCH_LEASE_REVOKED ? 0 : close_down(l, LOCH_LEASE_REVOKED, now_ns);
    case LOCH_KMS_SILENT:
        break;
    }
    return silent(l, now_ns);
}

unsigned loch_lease_restored(struct loch_lease *l, uint64_t started_ns, uint64_t now_ns,
                             enum loch_lease_answer answer)
{
    const bool slept = l->state == LOCH_LEASE_ASLEEP || l->state == LOCH_LEASE_OPENING;

    l->restoring = false;
    if (answer != LOCH_KMS_GRANTED) {
        l->good_ns = 0;
        if (!slept)
            return 0;
        l->next_ns = now_ns + ns(l->settings.poll_ms);
        l->silent_ns = answer == LOCH_KMS_DENIED ? 0 : now_ns;
        return close_down(l, answer == LOCH_KMS_DENIED ? LOCH_LEASE_REVOKED : LOCH_LEASE_OUTAGE,
                          now_ns);
    }
    const struct loch_lease_settings settings = l->settings;
    loch_lease_begin(l, &settings, started_ns);
    l->since_ns = now_ns;
    return LOCH_LEASE_AUDIT | LOCH_LEASE_RENEW;
}

unsigned loch_lease_sleep(struct loch_lease *l, uint64_t now_ns)
{
    if (l->state != LOCH_LEASE_HELD || l->silent_ns != 0 || l->asked_ns != 0)
        return 0; /* an answer that is due may be a denial, or open a grace */
    return close_down(l, LOCH_LEASE_ASLEEP, now_ns);
}

unsigned loch_lease_wake(struct loch_lease *l)
{
    if (l->state != LOCH_LEASE_ASLEEP || l->restoring)
        return 0;
    l->restoring = true;
    return LOCH_LEASE_RESTORE;
}

const char *loch_lease_word(const struct loch_lease *l)
{
    switch (l->state) {
    case LOCH_LEASE_HELD:
        return l->silent_ns != 0 ? "grace" : "held";
    case LOCH_LEASE_REVOKED:
        return "revoked";
    case LOCH_LEASE_ASLEEP:
        return "asleep";
    case LOCH_LEASE_OPENING:
        return "opening";
    case LOCH_LEASE_OUTAGE:
        break;
    }
    return "outage";
}
