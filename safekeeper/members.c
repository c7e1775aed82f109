/* Holds: the authoritative membership: its codec, its steps, and its way to the acceptor.
 * Invariant: a generation is written once, by a conditional put. */
#include "members.h"

#include "service.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/format/sealed_object.h"

#include <stdio.h>
#include <stdlib.h>

#define VERSION    1u
#define MAX_BYTES  (64u << 10)
#define NAME_BYTES 160u

static struct loch_place place_of(const struct sk_sealer *sealer, uint64_t generation)
{
    return (struct loch_place){.kind = LOCH_KIND_MEMBERS,
                               .tenant = sealer->tenant,
                               .timeline = sealer->timeline,
                               .generation = generation};
}

static loch_status decode(struct loch_slice plain, uint64_t generation, struct loch_membership *out)
{
    struct loch_membership m;
    struct loch_reader r;

    loch_reader_init(&r, plain);
    const uint32_t version = loch_read_u32(&r);
    if (version != VERSION)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "a membership of version %" PRIu32, version);
    LOCH_TRY(loch_read_membership(&r, &m));
    loch_status st = loch_reader_finish(&r, "membership");
    if (loch_is_ok(st) && m.generation != generation)
        st = LOCH_FAIL(LOCH_E_CORRUPT,
                       "a membership of generation %" PRIu64 " where %" PRIu64 " is due",
                       m.generation, generation);
    if (!loch_is_ok(st)) {
        loch_membership_fini(&m);
        return st;
    }
    *out = m;
    return LOCH_OK;
}

/* Nobody could read it, and nothing could replace it: it must not be written. */
static loch_status check(struct loch_slice plain, uint64_t generation)
{
    struct loch_membership m = {0};
    struct sk_failure why;

    loch_status st = decode(plain, generation, &m);
    if (loch_is_ok(st)) {
        loch_membership_fini(&m);
        return LOCH_OK;
    }
    sk_failure_take(&why, st);
    return LOCH_FAIL(LOCH_E_INVALID, "no reader would take this membership: %s", why.text);
}

loch_status sk_members_seal(const struct loch_membership *m, const struct sk_sealer *sealer,
                            struct loch_buf *out)
{
    const struct loch_place place = place_of(sealer, m->generation);
    struct loch_wrap_key key = {0};
    struct loch_buf plain = {0};
    struct loch_writer w;
    loch_status st;

    loch_writer_init(&w, &plain);
    loch_write_u32(&w, VERSION);
    loch_write_membership(&w, m);
    LOCH_TRY_OUT(st, loch_writer_finish(&w));
    LOCH_TRY_OUT(st, check(loch_buf_slice(&plain), m->generation));
    LOCH_TRY_OUT(st,
                 sealer->wrap_key(sealer->wrap_key_arg, &sealer->tenant, &sealer->timeline, &key));
    st = loch_sealed_object_seal(&place, &key, loch_buf_slice(&plain), true, out);
out:
    loch_wrap_key_fini(&key);
    loch_buf_fini(&plain);
    return st;
}

loch_status sk_members_open(struct loch_slice sealed, const struct sk_sealer *sealer,
                            struct loch_membership *out)
{
    const struct loch_place place = place_of(sealer, 0);
    struct loch_buf plain = {0};
    uint64_t generation = 0;

    loch_status st = loch_sealed_object_open(&place, &sealer->keys, sealed, &plain, &generation);
    if (loch_is_ok(st))
        st = decode(loch_buf_slice(&plain), generation, out);
    loch_buf_fini(&plain);
    return st;
}

/* ---- the object; pool threads ---- */

static void object_name(const struct sk_sealer *sealer, char out[static NAME_BYTES])
{
    char tenant[LOCH_ID_TEXT_BYTES];
    char timeline[LOCH_ID_TEXT_BYTES];

    (void)snprintf(out, NAME_BYTES, "tenants/%s/timelines/%s/members",
                   loch_id_format(&sealer->tenant, tenant),
                   loch_id_format(&sealer->timeline, timeline));
}

/* Generation 0 when there is none. */
static loch_status read_object(struct loch_objstore *store, const struct sk_sealer *sealer,
                               struct loch_membership *out, struct loch_etag *etag)
{
    char name[NAME_BYTES];
    struct loch_buf sealed = {0};

    object_name(sealer, name);
    loch_status st = loch_objstore_get(store, name, MAX_BYTES, &sealed, etag);
    if (loch_is_ok(st))
        st = loch_status_about(sk_members_open(loch_buf_slice(&sealed), sealer, out), name);
    else if (st.code == LOCH_E_NOT_FOUND)
        st = LOCH_OK;
    loch_buf_fini(&sealed);
    return st;
}

static loch_status write_object(struct loch_objstore *store, const struct sk_sealer *sealer,
                                const struct loch_membership *m, const struct loch_etag *expect)
{
    char name[NAME_BYTES];
    struct loch_buf sealed = {0};

    object_name(sealer, name);
    loch_status st = sk_members_seal(m, sealer, &sealed);
    if (loch_is_ok(st) && m->generation == 1)
        st = loch_objstore_put_if_absent(store, name, loch_buf_slice(&sealed), NULL);
    else if (loch_is_ok(st))
        st = loch_objstore_put_if_match(store, name, expect, loch_buf_slice(&sealed), NULL);
    loch_buf_fini(&sealed);
    return st;
}

static loch_status plan(const struct loch_membership *now, const struct sk_members_order *order,
                        struct loch_membership *next)
{
    if (order->step == SK_MEMBERS_FORM)
        return loch_membership_first(order->to, order->to_count, next);
    if (now->generation != order->from)
        return LOCH_FAIL(LOCH_E_STALE,
                         "the membership is of generation %" PRIu64 " by now, not %" PRIu64
                         ": look again (SHOW MEMBERS)",
                         now->generation, order->from);
    if (order->step == SK_MEMBERS_CHANGE)
        return loch_membership_begin(now, order->to, order->to_count, next);
    return loch_membership_end(now, order->step == SK_MEMBERS_ABORT, next);
}

loch_status sk_members_step(struct loch_objstore *store, const struct sk_sealer *sealer,
                            const struct sk_members_order *order, struct loch_membership *out)
{
    struct loch_membership now = {0};
    struct loch_membership next = {0};
    struct loch_etag etag = {0};

    LOCH_TRY(read_object(store, sealer, &now, &etag));
    if (order->step == SK_MEMBERS_READ || (order->step == SK_MEMBERS_FORM && now.generation != 0)) {
        *out = now;
        return LOCH_OK;
    }
    loch_status st = plan(&now, order, &next);
    loch_membership_fini(&now);
    LOCH_TRY(st);
    st = write_object(store, sealer, &next, &etag);
    if (loch_is_ok(st)) {
        *out = next;
        return LOCH_OK;
    }
    loch_membership_fini(&next);
    if (st.code == LOCH_E_EXISTS && order->step == SK_MEMBERS_FORM)
        return read_object(store, sealer, out, &etag);
    if (st.code == LOCH_E_STALE)
        return LOCH_FAIL(LOCH_E_STALE, "somebody else changed the membership: look again");
    return st;
}

/* ---- its way to the acceptor; loop thread ---- */

struct job {
    struct sk_timeline *tl;
    struct sk_members_order order;
    struct loch_console_request *request; /* NULL: nobody waits */
    uint64_t known;                       /* the generation known here when the object was read */
    struct loch_membership found;
    struct sk_failure failure;
};

static void work(void *arg)
{
    struct job *job = arg;

    sk_failure_take(&job->failure, sk_members_step(job->tl->daemon->store, &job->tl->sealer,
                                                   &job->order, &job->found));
}

static void answer(struct loch_console_request *request, const struct loch_membership *m)
{
    static const char *const names[] = {"generation", "member", "node", "address", "set"};
    static const char *const sets[] = {"", "old", "new", "both"};
    char generation[24];
    char id[LOCH_ID_TEXT_BYTES];
    char node[LOCH_ID_TEXT_BYTES];

    (void)snprintf(generation, sizeof generation, "%" PRIu64, m->generation);
    loch_console_columns(request, names, sizeof names / sizeof names[0]);
    for (uint32_t i = 0; i < m->count; i++) {
        const struct loch_member *each = &m->members[i];
        const char *const values[] = {generation, loch_id_format(&each->id, id),
                                      loch_id_format(&each->node, node), each->address,
                                      sets[each->in & LOCH_MEMBER_BOTH]};
        loch_console_row(request, values);
    }
    loch_console_done(request, NULL);
}

static void done(void *arg)
{
    struct job *job = arg;
    struct sk_timeline *tl = job->tl;
    loch_status st = sk_failure_raise(&job->failure);

    tl->members_jobs--;
    if (loch_is_ok(st) && job->found.generation < job->known)
        st = LOCH_FAIL(LOCH_E_STALE,
                       "tenants/%s/timelines/%s/members is of generation %" PRIu64 ", but %" PRIu64
                       " is known here: the store has been wound back",
                       tl->tenant_text, tl->timeline_text, job->found.generation, job->known);
    if (loch_is_ok(st) && tl->state == SK_ACTIVE && job->found.generation != 0)
        st = sk_timeline_configure(tl, &job->found);
    /* Whoever had spoken of a later one, before the object was read, cannot have got it from there.
     */
    if (loch_is_ok(st) && tl->state == SK_ACTIVE && job->request == NULL && !tl->members_due)
        sk_service_generation(tl, job->found.generation);
    if (!loch_is_ok(st) && job->request == NULL)
        LOCH_WARN("timeline %s: its membership cannot be read: %s", tl->timeline_text,
                  loch_error_text());
    if (job->request != NULL && loch_is_ok(st))
        answer(job->request, &job->found);
    else if (job->request != NULL)
        loch_console_fail(job->request, st);
    loch_membership_fini(&job->found);
    free(job);
    if (tl->members_due && tl->members_jobs == 0)
        sk_members_refresh(tl);
}

static loch_status begin(struct sk_timeline *tl, const struct sk_members_order *order,
                         struct loch_console_request *request)
{
    struct job *job = calloc(1, sizeof *job);

    if (job == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to read a membership");
    job->tl = tl;
    job->order = *order;
    job->request = request;
    if (tl->state == SK_ACTIVE) {
        struct loch_acceptor_view view;
        loch_acceptor_look(tl->acceptor, &view);
        job->known = view.generation;
    }
    loch_status st = loch_env_work(tl->daemon->env, work, done, job);
    if (!loch_is_ok(st)) {
        free(job);
        return st;
    }
    tl->members_jobs++;
    return LOCH_OK;
}

void sk_members_refresh(struct sk_timeline *tl)
{
    const struct sk_members_order order = {.step = SK_MEMBERS_READ};

    if (tl->state != SK_ACTIVE || tl->daemon->store == NULL || tl->daemon->stopping)
        return;
    tl->members_due = tl->members_jobs > 0;
    if (!tl->members_due && !loch_is_ok(begin(tl, &order, NULL)))
        loch_log_failure("a membership is not read");
}

loch_status sk_members_order(struct sk_timeline *tl, const struct sk_members_order *order,
                             struct loch_console_request *request)
{
    LOCH_TRY(sk_timeline_check(tl));
    if (order->step == SK_MEMBERS_READ)
        sk_recovery_look(tl);
    return begin(tl, order, request);
}
