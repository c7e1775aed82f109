/* Holds: rotation. Each kind is a chain of keyring objects, each put conditionally and read back
 * with every key unwrapped anew; a wrap is proven before the keyring that holds it is put. After an
 * interruption at any point the keyring in the store is whole and opens all data.
 *
 *   CMK   one keyring: the same KEKs, wrapped anew, by the CMK that holds them or (a move) another
 *   KEK   PENDING versions; then ACTIVE, and every TK wrapped anew below them
 *   TK    PENDING versions; then ACTIVE
 *   WIRE  a PENDING version (anew: two); ACTIVE by loch_keys_settle, when the servers know it
 */
#include "keys_internal.h"
#include "loch/base/check.h"
#include "loch/host/audit.h"
#include "loch/kms/kms.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANGE_TRIES 8

static const struct loch_id none;

/* What is to be done, and what has been. */
struct turn {
    const struct loch_id *tenant;
    const struct loch_id *branch; /* none: what the tenant's CMK holds */
    enum loch_rotation what;
    const char *uri;            /* of the CMK to move to; NULL: the one that holds the keys stays */
    const struct loch_kms *kms; /* what holds them then; borrowed */
    struct loch_rotation_report report;
};

static bool is_live(const struct loch_keyring_entry *e)
{
    return e->state == LOCH_STATE_PENDING || e->state == LOCH_STATE_ACTIVE ||
           e->state == LOCH_STATE_RETIRED;
}

static loch_status put_counted(struct loch_keys *keys, const struct loch_keyring *next,
                               const struct keys_tenant *t, struct loch_rotation_report *report)
{
    struct loch_buf bytes = {0};

    LOCH_TRY(keys_ring_put(&keys->o, next, t, &t->etag));
    if (loch_is_ok(loch_keyring_encode(next, &bytes)))
        report->bytes_written += bytes.len + LOCH_KEYRING_MAC_BYTES;
    loch_buf_fini(&bytes);
    return LOCH_OK;
}

/* ---- CMK ---- */

/* Whatever the keyring or the order says: only a pin, or this daemon's configuration. */
static loch_status target_of(struct loch_keys *keys, const struct turn *turn, struct loch_kms **out)
{
    const bool whole = loch_id_is_none(turn->branch);
    struct loch_kms *kms =
        loch_kms_for(keys->o.kms, whole ? turn->tenant : turn->branch, turn->uri);

    if (strcmp(loch_kms_uri(kms), turn->uri) != 0 || (!whole && kms == keys->o.kms))
        return LOCH_FAIL(LOCH_E_INVALID, "\"%s\" is not pinned here for the %s (loch key pin)",
                         turn->uri, whole ? "tenant" : "branch");
    *out = kms;
    return LOCH_OK;
}

static loch_status move_keks(const struct keys_tenant *t, struct loch_keyring *next,
                             const struct loch_id *branch, struct loch_kms *kms,
                             struct loch_rotation_report *report)
{
    const char *uri = loch_kms_uri(kms);

    for (uint32_t i = 0; i < next->count; i++) {
        const struct loch_keyring_entry *e = &next->entries[i];
        struct loch_buf wrap = {0};
        if (e->level != LOCH_LEVEL_KEK || !is_live(e) || !loch_id_equal(&e->scope, branch))
            continue;
        const struct loch_secret *kek = keys_ring_secret(t, &e->key_id, e->version);
        loch_status st = kek == NULL
                             ? LOCH_FAIL(LOCH_E_DENIED, "a KEK of the keyring is not opened")
                             : keys_ring_wrap_kek(next, e, kms, kek, &wrap);
        if (loch_is_ok(st))
            st = loch_keyring_move(next, &e->key_id, e->version, loch_kms_provider(kms),
                                   loch_slice_of(uri, strlen(uri)), &wrap);
        loch_buf_fini(&wrap);
        LOCH_TRY(st);
        report->rewrapped++;
    }
    return LOCH_OK;
}

/* ---- KEK ---- */

/* A branch has those of page and wal. */
static loch_status make_keks(const struct keys_tenant *t, struct loch_keyring *next,
                             const struct loch_id *branch, struct loch_kms *kms,
                             struct loch_rotation_report *report)
{
    const int last = loch_id_is_none(branch) ? LOCH_PURPOSE_META : LOCH_PURPOSE_WAL;

    for (int p = LOCH_PURPOSE_PAGE; p <= last; p++) {
        const struct loch_keyring_entry *e =
            loch_keyring_active(&t->ring, LOCH_LEVEL_KEK, (enum loch_purpose)p, branch);
        struct loch_secret made = {0};
        if (e == NULL)
            return LOCH_FAIL(LOCH_E_CORRUPT, "the keyring has no active %s KEK",
                             loch_purpose_name((uint8_t)p));
        const struct keys_make what = {
            .purpose = (uint8_t)p, .scope = *branch, .key_id = e->key_id, .kms = kms};
        LOCH_TRY(keys_ring_make(next, &what, &made));
        loch_secret_fini(&made);
        report->made++;
    }
    return LOCH_OK;
}

/* Wraps every TK under the active version of its KEK, where that is another one than before. What a
 * branch's closed CMK holds waits for the next time. */
loch_status keys_ring_rewrap(const struct keys_tenant *t, struct loch_keyring *next,
                             uint32_t *rewrapped)
{
    for (uint32_t i = 0; i < next->count; i++) {
        const struct loch_keyring_entry *e = &next->entries[i];
        struct loch_buf wrap = {0};
        if (e->level != LOCH_LEVEL_TK || !is_live(e))
            continue;
        const struct loch_keyring_entry *parent = loch_keyring_active_version(next, &e->parent);
        if (parent == NULL || parent->version == e->parent_version)
            continue;
        const struct loch_secret *kek = keys_ring_secret(t, &parent->key_id, parent->version);
        const struct loch_secret *tk = keys_ring_secret(t, &e->key_id, e->version);
        if ((kek == NULL || tk == NULL) && !loch_id_is_none(&parent->scope))
            continue;
        loch_status st = kek == NULL || tk == NULL
                             ? LOCH_FAIL(LOCH_E_DENIED, "a key of the keyring is not opened")
                             : keys_ring_wrap_tk(next, e, kek, tk, &wrap);
        if (loch_is_ok(st))
            st = loch_keyring_rewrap(next, &e->key_id, e->version, parent->version, &wrap);
        loch_buf_fini(&wrap);
        LOCH_TRY(st);
        ++*rewrapped;
    }
    return LOCH_OK;
}

/* ---- TK and wire ---- */

/* Two epochs live at a time: one older than the active one opens no connection any more, and
 * leaves the keyring. */
static loch_status end_epochs_before(struct loch_keyring *next, uint32_t version)
{
    for (uint32_t i = 0; i < next->count; i++) {
        const struct loch_keyring_entry *e = &next->entries[i];
        if (e->level == LOCH_LEVEL_TK && e->purpose == LOCH_PURPOSE_WIRE &&
            e->state == LOCH_STATE_RETIRED && e->version < version)
            LOCH_TRY(loch_keyring_destroy_version(next, &e->key_id, e->version));
    }
    (void)loch_keyring_sweep(next);
    return LOCH_OK;
}

loch_status keys_ring_enliven(const struct keys_tenant *t, struct loch_keyring *next, bool *any)
{
    uint32_t epoch = 0;

    for (uint32_t i = 0; i < next->count; i++) {
        const struct loch_keyring_entry *e = &next->entries[i];
        if (e->state != LOCH_STATE_PENDING || keys_ring_secret(t, &e->key_id, e->version) == NULL)
            continue;
        LOCH_TRY(loch_keyring_activate(next, &e->key_id, e->version));
        *any = true;
        if (e->level == LOCH_LEVEL_TK && e->purpose == LOCH_PURPOSE_WIRE)
            epoch = e->version;
    }
    return epoch == 0 ? LOCH_OK : end_epochs_before(next, epoch - 1);
}

static loch_status make_tks(const struct keys_tenant *t, struct loch_keyring *next, bool wire,
                            const struct loch_id *branch, struct loch_rotation_report *report)
{
    for (uint32_t i = 0; i < t->ring.count; i++) {
        const struct loch_keyring_entry *e = &t->ring.entries[i];
        const struct loch_id lock = loch_keyring_lock_of(&t->ring, e);
        struct loch_secret made = {0};
        if (e->level != LOCH_LEVEL_TK || e->state != LOCH_STATE_ACTIVE ||
            (e->purpose == LOCH_PURPOSE_WIRE) != wire || !loch_id_equal(&lock, branch))
            continue;
        const struct loch_keyring_entry *kek = loch_keyring_active_version(&t->ring, &e->parent);
        const struct loch_secret *secret =
            kek == NULL ? NULL : keys_ring_secret(t, &kek->key_id, kek->version);
        if (secret == NULL)
            return LOCH_FAIL(LOCH_E_DENIED, "the tenant has no active %s KEK",
                             loch_purpose_name(e->purpose));
        const struct keys_make what = {.purpose = e->purpose,
                                       .scope = e->scope,
                                       .key_id = e->key_id,
                                       .parent = kek->key_id,
                                       .parent_version = kek->version,
                                       .kek = secret};
        LOCH_TRY(keys_ring_make(next, &what, &made));
        loch_secret_fini(&made);
        report->made++;
    }
    return LOCH_OK;
}

/* ---- the steps ---- */

enum step { STEP_MOVE, STEP_KEKS, STEP_TKS, STEP_WIRE, STEP_ACTIVATE };

/* Reads the newest keyring (all keys unwrapped and proven), changes it, puts it. */
static loch_status step(struct loch_keys *keys, struct turn *turn, enum step what)
{
    const struct loch_id *branch = turn->branch;
    struct loch_rotation_report *report = &turn->report;
    struct keys_tenant *t = NULL;
    struct loch_keyring next = {0};
    struct loch_kms *kms = NULL;
    bool any = false;
    loch_status st;

    LOCH_TRY(keys_check_open(keys, turn->tenant));
    LOCH_TRY(keys_get_newest(keys, turn->tenant, branch, &t));
    LOCH_TRY_OUT(st, keys_ring_successor(t, &next));
    LOCH_TRY_OUT(st, turn->uri != NULL ? target_of(keys, turn, &kms)
                                       : keys_ring_holder(&keys->o, t, branch, &kms));
    turn->kms = kms;
    switch (what) {
    case STEP_MOVE:
        st = move_keks(t, &next, branch, kms, report);
        break;
    case STEP_KEKS:
        st = make_keks(t, &next, branch, kms, report);
        break;
    case STEP_TKS:
        st = make_tks(t, &next, false, branch, report);
        break;
    case STEP_WIRE:
        st = end_epochs_before(&next, UINT32_MAX);
        if (loch_is_ok(st))
            st = make_tks(t, &next, true, &none, report);
        break;
    case STEP_ACTIVATE:
        st = keys_ring_enliven(t, &next, &any);
        if (loch_is_ok(st))
            st = keys_ring_rewrap(t, &next, &report->rewrapped);
        break;
    }
    if (loch_is_ok(st))
        st = put_counted(keys, &next, t, report);
out:
    loch_keyring_fini(&next);
    keys_tenant_destroy(t);
    return st;
}

static loch_status check_branch(struct loch_keys *keys, const struct turn *turn)
{
    if (loch_id_is_none(turn->branch))
        return LOCH_OK;
    if (turn->what == LOCH_ROTATE_WIRE || turn->what == LOCH_ROTATE_WIRE_ANEW)
        return LOCH_FAIL(LOCH_E_INVALID, "wire keys are the tenant's, not a branch's");
    const struct loch_id lock = loch_keys_lock(keys, turn->tenant, turn->branch);
    if (!loch_id_equal(&lock, turn->branch))
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "the branch has no CMK of its own");
    return loch_keys_usable(keys, turn->tenant, turn->branch);
}

static loch_status rotate(struct loch_keys *keys, struct turn *turn)
{
    /* What an interrupted rotation left PENDING comes to life first. */
    LOCH_TRY(keys_settle(keys, turn->tenant, turn->branch));
    LOCH_TRY(check_branch(keys, turn));
    switch (turn->what) {
    case LOCH_ROTATE_CMK:
        LOCH_TRY(step(keys, turn, STEP_MOVE));
        break;
    case LOCH_ROTATE_KEK:
        LOCH_TRY(step(keys, turn, STEP_KEKS));
        LOCH_TRY(step(keys, turn, STEP_ACTIVATE));
        break;
    case LOCH_ROTATE_TK:
        LOCH_TRY(step(keys, turn, STEP_TKS));
        LOCH_TRY(step(keys, turn, STEP_ACTIVATE));
        break;
    case LOCH_ROTATE_WIRE:
        LOCH_TRY(step(keys, turn, STEP_WIRE));
        break;
    case LOCH_ROTATE_WIRE_ANEW:
        LOCH_TRY(step(keys, turn, STEP_WIRE));
        LOCH_TRY(step(keys, turn, STEP_WIRE));
        break;
    }
    return keys_load(keys, turn->tenant, turn->branch);
}

/* Of a branch's keys under a name of its own, as all records of theirs are. */
static void note_rotation(struct loch_keys *keys, const struct turn *turn)
{
    static const char *const events[] = {"rotated_cmk", "rotated_kek", "rotated_tk", "rotated_wire",
                                         "rotated_wire_anew"};
    const struct loch_rotation_report *r = &turn->report;
    const bool whole = loch_id_is_none(turn->branch);
    char id[LOCH_ID_TEXT_BYTES], event[40], of[LOCH_ID_TEXT_BYTES + 16] = "";

    (void)snprintf(event, sizeof event, "%s%s", whole ? "" : "branch_", events[turn->what - 1]);
    if (!whole)
        (void)snprintf(of, sizeof of, "branch %s: ", loch_id_format(turn->branch, id));
    loch_audit_note(keys->o.audit, turn->tenant, event,
                    "%s%" PRIu32 " made, %" PRIu32 " wrapped, keyring generation %" PRIu64
                    ", CMK %s",
                    of, r->made, r->rewrapped, r->generation, loch_kms_uri(turn->kms));
}

static loch_status take_turn(struct loch_keys *keys, struct turn *turn,
                             struct loch_rotation_report *out)
{
    struct keys_work work;
    loch_status st = LOCH_OK;

    keys_change_begin(keys, &work, turn->tenant);
    for (int i = 0; i < CHANGE_TRIES; i++) {
        turn->report = (struct loch_rotation_report){0};
        st = rotate(keys, turn);
        if (st.code != LOCH_E_STALE)
            break;
    }
    keys_change_end(keys, &work);
    LOCH_TRY(st);
    turn->report.generation = loch_keys_generation(keys, turn->tenant);
    note_rotation(keys, turn);
    *out = turn->report;
    return LOCH_OK;
}

loch_status loch_keys_rotate(struct loch_keys *keys, const struct loch_id *tenant,
                             const struct loch_id *branch, enum loch_rotation what,
                             struct loch_rotation_report *out)
{
    struct turn turn = {.tenant = tenant, .branch = branch, .what = what};

    return take_turn(keys, &turn, out);
}

loch_status loch_keys_move(struct loch_keys *keys, const struct loch_id *tenant,
                           const struct loch_id *branch, const char *uri,
                           struct loch_rotation_report *out)
{
    struct turn turn = {.tenant = tenant, .branch = branch, .what = LOCH_ROTATE_CMK, .uri = uri};

    return take_turn(keys, &turn, out);
}

loch_status loch_keys_settle(struct loch_keys *keys, const struct loch_id *tenant)
{
    struct keys_work work;

    keys_change_begin(keys, &work, tenant);
    const loch_status st = keys_settle(keys, tenant, &none);
    keys_change_end(keys, &work);
    return st;
}

loch_status loch_keys_ring(struct loch_keys *keys, const struct loch_id *tenant,
                           struct loch_keyring *out)
{
    loch_status st = LOCH_FAIL(LOCH_E_NOT_FOUND, "the tenant's keys are not known here");

    const int rc = pthread_rwlock_rdlock(&keys->lock);
    LOCH_ASSERT(rc == 0);
    const struct keys_tenant *t = keys_tenant_find(keys, tenant);
    if (t != NULL)
        st = loch_keyring_copy(out, &t->ring);
    (void)pthread_rwlock_unlock(&keys->lock);
    return st;
}
