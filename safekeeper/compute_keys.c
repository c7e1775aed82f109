/* Holds: the PSKs that computes are handed over the WAL stream: for members that joined after the
 * credential was made, and for all of their servers after the wire epoch has moved on.
 * Invariant: a compute gets nothing that its proven identity does not entitle it to: its own boot's
 * PSKs, for its own timeline and epoch; and nothing when it proved itself with a wire key that has
 * ended: somebody else may know that. */
#include "service.h"

#include "loch/base/log.h"
#include "loch/base/secret.h"
#include "loch/host/keys.h"

/* More than either frame takes: a buffer that grew would leave keys behind in freed memory. */
#define FRAME_BYTES 8192u

/* One key under construction. */
struct made {
    struct loch_secret psk;
    struct loch_buf identity;
};

static void made_fini(struct made *made)
{
    loch_secret_fini(&made->psk);
    loch_buf_fini(&made->identity);
}

/* For one server, under the wire epoch of now. *epoch says which that is. */
static loch_status make(const struct sk_conn *conn, enum loch_role role, const struct loch_id *node,
                        struct made *out, uint32_t *epoch)
{
    struct loch_psk_identity id = conn->identity;

    if (!loch_keys_epoch_lives(conn->daemon->keys, &id.tenant, id.wire_epoch))
        return LOCH_FAIL(LOCH_E_DENIED, "the connection's wire epoch has ended");
    id.server_role = (uint8_t)role;
    id.server_node = *node;
    id.rights = role == LOCH_ROLE_PAGESERVER ? LOCH_RIGHT_PAGES | LOCH_RIGHT_BASEBACKUP
                                             : LOCH_RIGHT_WAL_PUSH;
    id.wire_epoch = 0; /* the active one */
    LOCH_TRY(loch_keys_psk(conn->daemon->keys, &id, &out->psk));
    *epoch = id.wire_epoch;
    return loch_psk_identity_encode(&id, &out->identity);
}

static struct loch_wal_server_key key_of(const struct made *made)
{
    return (struct loch_wal_server_key){loch_buf_slice(&made->identity),
                                        loch_slice_of(made->psk.bytes, made->psk.len)};
}

/* A frame that `encoded` says is complete: sent, or its failure told. */
static void send_or_refuse(struct sk_conn *conn, struct loch_buf *out, struct loch_writer *w,
                           loch_status encoded)
{
    const loch_status st = loch_is_ok(encoded) ? loch_writer_finish(w) : encoded;

    if (loch_is_ok(st)) {
        loch_stream_send(conn->stream, out);
        return;
    }
    loch_wipe(out->data, out->len);
    loch_buf_fini(out);
    sk_conn_refuse(conn, st.code, "no keys for the servers of the timeline");
}

static loch_status make_members(const struct sk_conn *conn, const struct loch_membership *m,
                                struct made made[static LOCH_MEMBERS_MAX], uint32_t *epoch)
{
    for (uint32_t i = 0; i < m->count; i++)
        LOCH_TRY(make(conn, LOCH_ROLE_SAFEKEEPER, &m->members[i].node, &made[i], epoch));
    return LOCH_OK;
}

void sk_conn_send_members(struct sk_conn *conn, const struct loch_membership *m)
{
    struct loch_wal_members message = {.membership = *m};
    struct made made[LOCH_MEMBERS_MAX] = {0};
    struct loch_buf out = {0};
    struct loch_writer w;
    uint32_t epoch = 0;

    loch_status st = make_members(conn, m, made, &epoch);
    if (loch_is_ok(st))
        st = loch_buf_reserve(&out, FRAME_BYTES);
    loch_writer_init(&w, &out);
    for (uint32_t i = 0; i < m->count; i++)
        message.keys[i] = key_of(&made[i]);
    if (loch_is_ok(st))
        loch_wal_members_encode(&w, &message);
    send_or_refuse(conn, &out, &w, st);
    for (uint32_t i = 0; i < m->count; i++)
        made_fini(&made[i]);
}

void sk_conn_renew(struct sk_conn *conn)
{
    struct loch_wal_keys message = {0};
    struct made made[LOCH_WAL_KEYS_MAX] = {0};
    struct loch_acceptor_view view;
    struct loch_buf out = {0};
    struct loch_writer w;
    uint32_t epoch = 0;

    if (conn->kind != SK_CONN_PUSH || conn->gone || conn->closing ||
        conn->timeline->state != SK_ACTIVE || loch_id_is_none(&conn->pageserver))
        return;
    loch_acceptor_look(conn->timeline->acceptor, &view);
    if (conn->identity.compute_epoch < view.min_compute_epoch)
        return; /* fenced */
    struct made *pages = &made[LOCH_MEMBERS_MAX];
    loch_status st = make(conn, LOCH_ROLE_PAGESERVER, &conn->pageserver, pages, &epoch);
    if (!loch_is_ok(st) || epoch <= conn->told_epoch)
        goto out; /* without keys for now, the connection has other troubles */
    st = make_members(conn, view.membership, made, &epoch);
    for (uint32_t i = 0; i < view.membership->count; i++)
        message.keys[message.count++] = key_of(&made[i]);
    message.keys[message.count++] = key_of(pages);
    if (loch_is_ok(st))
        st = loch_buf_reserve(&out, FRAME_BYTES);
    loch_writer_init(&w, &out);
    if (loch_is_ok(st))
        loch_wal_keys_encode(&w, &message);
    send_or_refuse(conn, &out, &w, st);
    if (conn->told_epoch != 0)
        LOCH_INFO("timeline %s: its compute is handed the keys of wire epoch %" PRIu32,
                  conn->timeline->timeline_text, epoch);
    conn->told_epoch = epoch;
out:
    for (uint32_t i = 0; i < LOCH_WAL_KEYS_MAX; i++)
        made_fini(&made[i]);
}
