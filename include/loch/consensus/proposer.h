/* The proposer: the compute's half of the consensus, as a pure machine.
 *
 * Event in, effects out; times and randomness arrive in events. It never sees a byte of WAL: the
 * host keeps a window [start, end) of recent WAL in memory and attaches bytes to APPENDs. One
 * proposer per boot of a compute and elected term; used on one thread.
 *
 * What it guarantees: COMMIT(c) is announced only when a quorum has durably installed (term, L) and
 * holds c >= L durably; commit_lsn is monotone and lies on a record boundary; after FENCED it does
 * nothing more.
 *
 * ---- Its course ----
 * connected -> HELLO to each; when a quorum has answered: VOTE (a term above all seen, and above
 * all that any older compute_epoch can have: terms begin at epoch << LOCH_TERM_EPOCH_SHIFT, so that
 * a promise to a candidate that is gone can never lock a safekeeper against its successor); a
 * quorum of grants -> the donor is the voter with the highest (last term of its cut history,
 * flush_lsn), L is its flush_lsn, the history is the donor's with (term, L) added: effect ELECTED,
 * and ELECTED to all. A member that has installed it gets APPENDs. A member whose WAL ends below
 * the window is told where the window begins by an empty APPEND and recovers from its peers until
 * it is in range. A vote that does not come to an end is tried again with a higher term after a
 * random delay.
 *
 * ---- What the host must do for each effect (at once, in order) ----
 *   SEND      encode `message` for member `member`; an APPEND's bytes are the window's
 *             [append.begin, append.begin + len).
 *   CLOSE     close the member's connection (it does not answer in time or is out of line); connect
 * anew with back-off; `text` says why. ELECTED   loch_proposer_look tells term, L, history, donor.
 * Appends may be proposed from L on, once COMMIT(L) has come and a server has been started there.
 *   COMMIT    `lsn` is committed: report it to the walsender at once.
 *   FENCED    another leader or epoch has taken over, or there is nothing left to be elected with
 * (terms of the epoch, terms in the history): stop answering the walsender, kill PostgreSQL, exit.
 * Final.
 *   MEMBERS   the configuration has changed: loch_proposer_look tells who sits in which slot now.
 * Connections of slots whose member is another one are closed, members without one are connected
 * to. A member that stays keeps its slot and its connection.
 *
 * ---- Changes of the membership ----
 * A member that knows a newer configuration says so (MEMBERS); the proposer goes by the newest it
 * was told. A leader stays one: it sends ELECTED anew, of the new generation, and commits with what
 * the new configuration calls a quorum. A candidate begins its election again.
 */
#ifndef LOCH_CONSENSUS_PROPOSER_H
#define LOCH_CONSENSUS_PROPOSER_H

#include "loch/base/status.h"
#include "loch/base/types.h"
#include "loch/wire/wal.h"

/* Each compute_epoch has this many bits of terms of its own. */
#define LOCH_TERM_EPOCH_SHIFT 16u

struct loch_proposer_config {
    struct loch_wal_hello hello; /* sent as it is */
    uint64_t compute_epoch;
    uint64_t highest_term; /* of an earlier proposer of this boot (its view tells), else 0 */
    /* Borrowed. A HELLO_REPLY must come from its member. Generation 0: nothing is known but nodes
     * to ask (ids and nodes are both the node's); the first answer tells the configuration. */
    struct loch_membership membership;
    uint64_t window_bytes;     /* most WAL sent to a member and not yet written there */
    uint64_t reply_timeout_ms; /* a member that owes an answer, and is silent, longer is closed */
    uint64_t election_timeout_ms; /* a vote without an end is tried again */
    uint64_t heartbeat_ms;        /* an idle member gets an empty APPEND */
};

enum loch_proposer_effect_kind {
    LOCH_PROPOSER_SEND = 1,
    LOCH_PROPOSER_CLOSE,
    LOCH_PROPOSER_ELECTED,
    LOCH_PROPOSER_COMMIT,
    LOCH_PROPOSER_FENCED,
    LOCH_PROPOSER_MEMBERS
};

struct loch_proposer_message {
    enum loch_wal_type type; /* HELLO, VOTE, ELECTED or APPEND */
    uint64_t append_len;     /* APPEND: how many bytes from append.begin the host attaches */
    union {
        struct loch_wal_hello hello;
        struct loch_wal_vote vote;
        struct loch_wal_elected elected; /* its history is borrowed from the proposer */
        struct loch_wal_append append;   /* bytes empty: the host's to fill */
    } u;
};

struct loch_proposer_effect {
    enum loch_proposer_effect_kind kind;
    uint32_t member;  /* SEND, CLOSE, FENCED: its slot; LOCH_MEMBERS_MAX: nobody's doing */
    loch_lsn lsn;     /* COMMIT */
    const char *text; /* CLOSE, FENCED: static text */
    struct loch_proposer_message message;
};

/* Zero-initialised is empty. Events append; the host carries out, then clears (count = 0). */
struct loch_proposer_effects {
    struct loch_proposer_effect *items;
    size_t count, cap;
};
void loch_proposer_effects_fini(struct loch_proposer_effects *effects);

struct loch_proposer;

/* LOCH_E_INVALID for a config that cannot be, LOCH_E_NO_MEMORY. */
LOCH_STATUS loch_proposer_create(const struct loch_proposer_config *config,
                                 struct loch_proposer **out);
void loch_proposer_destroy(struct loch_proposer *p);

/* What every event brings along: a clock in milliseconds (monotone) and random bits. */
struct loch_proposer_now {
    uint64_t ms;
    uint64_t random;
};

/* ---- events; each fails with LOCH_E_NO_MEMORY only, which is final ---- */
LOCH_STATUS loch_proposer_connected(struct loch_proposer *p, struct loch_proposer_now now,
                                    uint32_t member, struct loch_proposer_effects *out);
void loch_proposer_disconnected(struct loch_proposer *p, uint32_t member);
LOCH_STATUS loch_proposer_hello_reply(struct loch_proposer *p, struct loch_proposer_now now,
                                      uint32_t member, const struct loch_wal_hello_reply *m,
                                      struct loch_proposer_effects *out);
LOCH_STATUS loch_proposer_vote_reply(struct loch_proposer *p, struct loch_proposer_now now,
                                     uint32_t member, const struct loch_wal_vote_reply *m,
                                     struct loch_proposer_effects *out);
LOCH_STATUS loch_proposer_elected_reply(struct loch_proposer *p, struct loch_proposer_now now,
                                        uint32_t member, const struct loch_wal_elected_reply *m,
                                        struct loch_proposer_effects *out);
LOCH_STATUS loch_proposer_append_reply(struct loch_proposer *p, struct loch_proposer_now now,
                                       uint32_t member, const struct loch_wal_append_reply *m,
                                       struct loch_proposer_effects *out);
LOCH_STATUS loch_proposer_fenced(struct loch_proposer *p, uint32_t member,
                                 const struct loch_wal_fenced *m,
                                 struct loch_proposer_effects *out);
/* Not newer than what is known: the member has come to know it too. LOCH_E_CORRUPT for a second
 * configuration of one generation. */
LOCH_STATUS loch_proposer_members(struct loch_proposer *p, struct loch_proposer_now now,
                                  uint32_t member, const struct loch_membership *m,
                                  struct loch_proposer_effects *out);
/* The window of WAL that can be sent is now [start, end). Neither bound goes back; start >= L once
 * elected (both are L at first). Call it after dropping from the front as well. */
LOCH_STATUS loch_proposer_wal(struct loch_proposer *p, struct loch_proposer_now now, loch_lsn start,
                              loch_lsn end, struct loch_proposer_effects *out);
/* The window's front has moved to `start`, and nothing is to be sent yet: what lies before it is
 * not asked for any more. */
void loch_proposer_forget(struct loch_proposer *p, loch_lsn start);
/* The members learn a commit_lsn with the WAL that follows; when none does (view: news), the host
 * calls this a moment later: readers wait for it. A member that owes an answer is told after it. */
LOCH_STATUS loch_proposer_tell(struct loch_proposer *p, struct loch_proposer_now now,
                               struct loch_proposer_effects *out);
/* About every 100 ms; tells the news too. */
LOCH_STATUS loch_proposer_tick(struct loch_proposer *p, struct loch_proposer_now now,
                               struct loch_proposer_effects *out);

/* ---- what others may see ---- */
enum loch_proposer_state {
    LOCH_PROPOSER_GATHERING = 1, /* waits for a quorum of HELLO_REPLY */
    LOCH_PROPOSER_VOTING,
    LOCH_PROPOSER_LEADING,
    LOCH_PROPOSER_IS_FENCED
};

/* A slot: members keep theirs while they are members. */
struct loch_proposer_member_view {
    bool used;
    struct loch_id id; /* of the member; its index in the membership is found by it */
    bool connected, greeted, installed;
    bool recovering; /* below the window: waits for its peers' WAL */
    loch_lsn flush_lsn, write_lsn, sent_lsn;
};

struct loch_proposer_view {
    enum loch_proposer_state state;
    uint64_t term;
    uint64_t highest_term;              /* seen anywhere: for the next proposer of this boot */
    loch_lsn start_lsn;                 /* L; 0 before ELECTED */
    loch_lsn start_prev_lsn;            /* start of the record that ends at L */
    loch_lsn commit_lsn;                /* 0 before the first COMMIT */
    bool news;                          /* a member has not been told the commit_lsn */
    uint32_t donor;                     /* slot */
    loch_lsn reader_lsn, persisted_lsn; /* the pageserver's, as far as any member told */
    /* A member has answered at this time or later, by the events' clock, however long its answers
     * were under way; 0: none has. */
    uint64_t heard_ms;
    /* No connected member in range still needs WAL below this; the host may drop it, and must drop
     * more when its memory's limit wants it. */
    loch_lsn needed_from;
    const struct loch_term_history *history;  /* borrowed; empty before ELECTED */
    const struct loch_membership *membership; /* borrowed until the next event */
    struct loch_proposer_member_view members[LOCH_MEMBERS_MAX];
};
void loch_proposer_look(const struct loch_proposer *p, struct loch_proposer_view *out);
/* Do the slots s with has[s] make a quorum of the configuration? */
bool loch_proposer_quorum(const struct loch_proposer *p, const bool has[LOCH_MEMBERS_MAX]);

#endif
