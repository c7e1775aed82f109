/* The audit log of a node's key events: one line a record, each signed by the node and bound to the
 * line before it, so that changing, leaving out or reordering any is noticed. Format:
 * docs/format/audit.md. Never holds a secret.
 */
#ifndef LOCH_HOST_AUDIT_H
#define LOCH_HOST_AUDIT_H

#include "loch/base/buf.h"
#include "loch/base/types.h"
#include "loch/crypto/sign.h"

#define LOCH_AUDIT_LINE_MAX_BYTES 2048u
#define LOCH_AUDIT_HASH_BYTES     32u

struct loch_audit;

/* <dir>/audit.log, signed with <dir>/audit.key (made at the first time; its public half is
 * <dir>/audit.pub). What is there is verified; a torn last line, as a crash leaves it, is cut off.
 * LOCH_E_CORRUPT names file and line. Blocks: start-up. */
LOCH_STATUS loch_audit_open(const char *dir, const char *program, const struct loch_id *node,
                            struct loch_audit **out);
/* What was noted is on disk when it returns. Takes NULL. */
void loch_audit_close(struct loch_audit *audit);
/* Any thread; never fails and never waits for the disk (a thread of its own syncs). What cannot be
 * written (a full disk) is in the daemon's log only, and the log goes on behind the last whole
 * line. tenant may be NULL; audit NULL: nothing. `event`: a word. */
void loch_audit_note(struct loch_audit *audit, const struct loch_id *tenant, const char *event,
                     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* A line taken apart. Borrowed. */
struct loch_audit_record {
    struct loch_slice body; /* JSON: what is signed */
    uint8_t signature[LOCH_SIGNATURE_BYTES];
    uint64_t seq;
    uint8_t prev[LOCH_AUDIT_HASH_BYTES];
    char time[40], tenant[LOCH_ID_TEXT_BYTES], event[40], detail[600];
};
/* `line` without its newline. Proves nothing about the signature. LOCH_E_CORRUPT. */
LOCH_STATUS loch_audit_parse(struct loch_slice line, struct loch_audit_record *out);

struct loch_audit_summary {
    uint64_t records;
    uint8_t head[LOCH_AUDIT_HASH_BYTES]; /* of the last body; zeros when there is none */
    bool torn;                           /* bytes of an unfinished line at the end */
    uint64_t good_bytes;                 /* before those */
};
/* Every record of <dir>/audit.log: signature, number and chain. fn (may be NULL) sees each.
 * LOCH_E_CORRUPT names file and line. Blocks. */
LOCH_STATUS loch_audit_verify(const char *dir,
                              void (*fn)(void *arg, const struct loch_audit_record *record),
                              void *arg, struct loch_audit_summary *out);
/* The records about the tenant, or (branch not none) about that branch's own key, since that key
 * was last lost (revoked or outage; one that follows the other without a grant between them is the
 * same loss), at most `max`, the bodies and signatures copied: what proves when this node was told
 * and when it had wiped. LOCH_E_NOT_FOUND: it never was. Blocks. */
struct loch_audit_copy {
    char body[LOCH_AUDIT_LINE_MAX_BYTES];
    uint8_t signature[LOCH_SIGNATURE_BYTES];
};
LOCH_STATUS loch_audit_receipt(const char *dir, const struct loch_id *tenant,
                               const struct loch_id *branch, struct loch_audit_copy *out,
                               size_t max, size_t *count);

#endif
