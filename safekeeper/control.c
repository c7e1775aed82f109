/* Holds: the control file's codec. Invariant: what was sealed opens to the same control state, and
 * nothing opens that contradicts itself. */
#include "control.h"

#include "loch/format/sealed_object.h"

#include <stdio.h>

#define VERSION   3u
#define MAX_BYTES (2u << 20) /* a full term history is half of it */

void sk_control_fini(struct sk_control *control)
{
    loch_acceptor_control_fini(&control->acceptor);
    *control = (struct sk_control){0};
}

static void encode(const struct sk_control *c, struct loch_writer *w)
{
    const struct loch_acceptor_control *a = &c->acceptor;

    loch_write_u32(w, VERSION);
    loch_write_u32(w, c->pg_version);
    loch_write_u32(w, c->segment_bytes);
    loch_write_u32(w, 0);
    loch_write_u64(w, c->system_id);
    loch_write_u64(w, c->incarnation);
    loch_write_u64(w, a->term);
    loch_write_u64(w, a->min_compute_epoch);
    loch_write_u64(w, a->membership.generation);
    loch_write_u64(w, a->start_lsn);
    loch_write_u64(w, a->start_prev_lsn);
    loch_write_u64(w, a->commit_lsn);
    loch_write_u64(w, c->anchor_lsn);
    loch_write_u64(w, c->anchor_prev_lsn);
    loch_write_u64(w, c->last_seq);
    loch_write_u64(w, c->trim_lsn);
    loch_write_term_history(w, &a->history);
    loch_write_id(w, &c->member);
    loch_write_membership(w, &a->membership);
}

loch_status sk_control_seal(const struct sk_control *control, const struct sk_sealer *sealer,
                            struct loch_buf *out)
{
    struct loch_place place = sk_sealer_place(sealer, LOCH_KIND_CONTROL, control->sequence);
    struct loch_wrap_key key = {0};
    struct loch_buf plain = {0};
    struct loch_writer w;
    loch_status st;

    loch_writer_init(&w, &plain);
    encode(control, &w);
    LOCH_TRY_OUT(st, loch_writer_finish(&w));
    LOCH_TRY_OUT(st,
                 sealer->wrap_key(sealer->wrap_key_arg, &sealer->tenant, &sealer->timeline, &key));
    st = loch_sealed_object_seal(&place, &key, loch_buf_slice(&plain), true, out);
out:
    loch_wrap_key_fini(&key);
    loch_buf_fini(&plain);
    return st;
}

/* Before version 3 a timeline had no name of its own and knew no members. */
static loch_status read_members(struct loch_reader *r, uint32_t version,
                                const struct sk_sealer *sealer, uint64_t generation,
                                struct sk_control *c)
{
    if (version < 3) {
        c->member = sealer->node;
        return LOCH_OK;
    }
    c->member = loch_read_id(r);
    LOCH_TRY(loch_read_membership(r, &c->acceptor.membership));
    if (c->acceptor.membership.generation != generation)
        return LOCH_FAIL(LOCH_E_CORRUPT, "two generations of the membership");
    return LOCH_OK;
}

static loch_status decode(struct loch_slice plain, const struct sk_sealer *sealer,
                          struct sk_control *out)
{
    struct sk_control c = {0};
    struct loch_acceptor_control *a = &c.acceptor;
    struct loch_reader r;
    loch_status st;

    loch_reader_init(&r, plain);
    uint32_t version = loch_read_u32(&r);
    if (version == 0 || version > VERSION)
        return LOCH_FAIL(LOCH_E_UNSUPPORTED, "control file of version %" PRIu32, version);
    c.pg_version = loch_read_u32(&r);
    c.segment_bytes = loch_read_u32(&r);
    (void)loch_read_u32(&r);
    c.system_id = loch_read_u64(&r);
    c.incarnation = loch_read_u64(&r);
    a->term = loch_read_u64(&r);
    a->min_compute_epoch = loch_read_u64(&r);
    const uint64_t generation = loch_read_u64(&r);
    a->start_lsn = loch_read_u64(&r);
    a->start_prev_lsn = loch_read_u64(&r);
    a->commit_lsn = loch_read_u64(&r);
    c.anchor_lsn = loch_read_u64(&r);
    c.anchor_prev_lsn = loch_read_u64(&r);
    c.last_seq = loch_read_u64(&r);
    c.trim_lsn = version == 1 ? a->start_lsn : loch_read_u64(&r);
    LOCH_TRY(loch_read_term_history(&r, &a->history));
    st = read_members(&r, version, sealer, generation, &c);
    if (loch_is_ok(st))
        st = loch_reader_finish(&r, "control file");
    if (loch_is_ok(st) &&
        (c.trim_lsn < a->start_lsn || c.anchor_lsn < c.trim_lsn || c.anchor_lsn > a->commit_lsn))
        st = LOCH_FAIL(LOCH_E_CORRUPT,
                       "start " LOCH_LSN_FMT ", trimmed " LOCH_LSN_FMT ", anchor " LOCH_LSN_FMT
                       ", commit " LOCH_LSN_FMT,
                       LOCH_LSN_ARG(a->start_lsn), LOCH_LSN_ARG(c.trim_lsn),
                       LOCH_LSN_ARG(c.anchor_lsn), LOCH_LSN_ARG(a->commit_lsn));
    if (!loch_is_ok(st)) {
        sk_control_fini(&c);
        return st;
    }
    *out = c;
    return LOCH_OK;
}

loch_status sk_control_load(const char *dir, const struct sk_sealer *sealer, struct sk_control *out)
{
    struct loch_place place = sk_sealer_place(sealer, LOCH_KIND_CONTROL, 0);
    struct loch_buf sealed = {0};
    struct loch_buf plain = {0};
    char path[SK_PATH_BYTES];
    uint64_t sequence = 0;
    loch_status st;

    (void)snprintf(path, sizeof path, "%s/" SK_CONTROL_NAME, dir);
    LOCH_TRY_OUT(st, loch_env_read_file(sealer->env, path, MAX_BYTES, &sealed));
    LOCH_TRY_OUT(st, loch_sealed_object_open(&place, &sealer->keys, loch_buf_slice(&sealed), &plain,
                                             &sequence));
    LOCH_TRY_OUT(st, decode(loch_buf_slice(&plain), sealer, out));
    out->sequence = sequence;
out:
    loch_buf_fini(&sealed);
    loch_buf_fini(&plain);
    if (!loch_is_ok(st) &&
        (st.code == LOCH_E_CORRUPT || st.code == LOCH_E_UNSUPPORTED || st.code == LOCH_E_LIMIT)) {
        struct sk_failure why;
        sk_failure_take(&why, st);
        return LOCH_FAIL(st.code == LOCH_E_LIMIT ? LOCH_E_CORRUPT : st.code, "%s: %s", path,
                         why.text);
    }
    return st;
}
