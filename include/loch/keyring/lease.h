/* A tenant's lease on its own keys: how long a process may use them after the KMS last said yes.
 *
 * A pure machine. Times are CLOCK_BOOTTIME nanoseconds and arrive in the events. A lease counts
 * from the START of the Decrypt that was granted, so a slow answer never lengthens it. DENIED wipes
 * at once. UNAVAILABLE extends what is permitted, one lease at a time, until the grace is over; so
 * does a Decrypt that is not answered within half a lease; a grant that comes after all takes
 * nothing of that back, and DENIED takes all. A gap (the process slept, the clock jumped) lets the
 * permission run out: the keys stay, but nothing may use them before a Decrypt was granted or the
 * KMS was found unavailable. Keys that nobody uses are put to sleep: wiped, and not asked for until
 * they are wanted again; a sleeper that cannot be woken is closed as a start is.
 */
#ifndef LOCH_KEYRING_LEASE_H
#define LOCH_KEYRING_LEASE_H

#include "loch/base/status.h"

#define LOCH_GRACE_MAX_MS 300000u

struct loch_lease_settings {
    uint64_t poll_ms;   /* between the starts of two Decrypts */
    uint64_t lease_ms;  /* at least twice the poll */
    uint64_t grace_ms;  /* 0 to LOCH_GRACE_MAX_MS: served so long beyond a lease in an outage */
    uint64_t settle_ms; /* a denied key comes back after so long of nothing but grants */
};

enum loch_lease_state {
    LOCH_LEASE_HELD = 1,
    LOCH_LEASE_REVOKED, /* the KMS denied */
    LOCH_LEASE_OUTAGE,  /* nobody answers, and the grace is over */
    LOCH_LEASE_ASLEEP,  /* not used: wiped, and the KMS is not asked */
    LOCH_LEASE_OPENING  /* never opened here yet: the KMS is being asked for the first time */
};

enum loch_lease_answer { LOCH_KMS_GRANTED = 1, LOCH_KMS_DENIED, LOCH_KMS_SILENT };

/* What is to be done, in this order. Bits. */
enum loch_lease_effect {
    LOCH_LEASE_WIPE = 1,    /* the keys, and all plaintext that they opened; close connections */
    LOCH_LEASE_AUDIT = 2,   /* the state, or whether the KMS answers, has changed: tell */
    LOCH_LEASE_RENEW = 4,   /* the keys may be used until permit_ns */
    LOCH_LEASE_RESTORE = 8, /* load the keys again, then loch_lease_restored */
    LOCH_LEASE_DECRYPT = 16 /* ask the KMS now, then loch_lease_answered */
};

struct loch_lease {
    struct loch_lease_settings settings;
    enum loch_lease_state state;
    uint64_t granted_ns; /* start of the last granted Decrypt */
    uint64_t permit_ns;  /* the keys may be used before this */
    uint64_t since_ns;   /* when the state was entered */
    uint64_t silent_ns;  /* since when nobody answers; 0: somebody does */
    uint64_t good_ns;    /* not HELD: since when it grants; 0: it does not */
    uint64_t asked_ns;   /* start of the Decrypt under way; 0: none */
    uint64_t waited_ns;  /* since when we have watched it without a gap */
    uint64_t tick_ns;    /* the last tick */
    uint64_t next_ns;    /* when the next is due */
    bool restoring;
};

/* LOCH_E_INVALID naming the setting. */
LOCH_STATUS loch_lease_settings_check(const struct loch_lease_settings *settings);
/* The keys were opened by a Decrypt that started at granted_ns. */
void loch_lease_begin(struct loch_lease *lease, const struct loch_lease_settings *settings,
                      uint64_t granted_ns);
/* They could not be opened: DENIED or SILENT (a restart in an outage fails closed). */
void loch_lease_begin_closed(struct loch_lease *lease, const struct loch_lease_settings *settings,
                             enum loch_lease_answer why, uint64_t now_ns);
/* Nobody has asked yet: the first tick has them opened (RESTORE), and its end says how it stands.
 */
void loch_lease_begin_unasked(struct loch_lease *lease, const struct loch_lease_settings *settings,
                              uint64_t now_ns);
/* The next tick asks, however long ago it was done last. */
void loch_lease_ask(struct loch_lease *lease);
/* Time has passed. Returns effects. */
unsigned loch_lease_tick(struct loch_lease *lease, uint64_t now_ns);
/* The Decrypt that started at started_ns was answered. Returns effects. */
unsigned loch_lease_answered(struct loch_lease *lease, uint64_t started_ns, uint64_t now_ns,
                             enum loch_lease_answer answer);
/* The end of a RESTORE whose load started at started_ns. Not GRANTED: it is tried again, and who
 * was ASLEEP or OPENING is REVOKED or in OUTAGE from now on. Returns effects. */
unsigned loch_lease_restored(struct loch_lease *lease, uint64_t started_ns, uint64_t now_ns,
                             enum loch_lease_answer answer);
/* Nobody has used the keys for long: ASLEEP, if they are HELD, the KMS answers (who sleeps has no
 * grace when it is woken) and no Decrypt is under way; else 0, try again. Returns effects. */
unsigned loch_lease_sleep(struct loch_lease *lease, uint64_t now_ns);
/* Somebody wants the keys: RESTORE if they are ASLEEP and not being restored already. */
unsigned loch_lease_wake(struct loch_lease *lease);
/* "held", "grace", "revoked", "outage", "asleep" or "opening". */
const char *loch_lease_word(const struct loch_lease *lease);

#endif
