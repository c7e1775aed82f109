/* Holds: the simulated reader. Invariant: bytes come in order, without gaps, whichever safekeeper
 * they come from. */
#include "../unit.h"

#include "sim_reader.h"

#include "loch/crypto/psk.h"
#include "loch/crypto/tls.h"
#include "loch/wire/wal.h"

#include <stdlib.h>

struct sim_reader {
    struct sim_reader_options o;
    struct loch_tls_client *tls;
    struct loch_stream *stream;
    struct loch_timer *timer;
    loch_lsn position;
    bool stated; /* this connection has told its state */
};

static loch_status reader_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct sim_reader *r = arg;
    struct loch_wal_pull_data data;
    struct loch_wal_pull_state state;
    struct loch_wal_pull_positions positions;

    if (type == LOCH_WAL_PULL_DATA) {
        struct loch_buf out = {0};
        struct loch_writer w;
        assert_ok(loch_wal_pull_data_decode(payload, &data));
        assert_int_equal(data.begin, r->position);
        r->o.got(r->o.arg, data.begin, data.bytes);
        r->position += data.bytes.len;
        struct loch_wal_pull_feedback m = {.last_record_lsn = r->position,
                                           .disk_consistent_lsn = r->position,
                                           .remote_consistent_lsn = r->position};
        loch_writer_init(&w, &out);
        loch_wal_pull_feedback_encode(&w, &m);
        loch_stream_send(r->stream, &out);
    } else if (type == LOCH_WAL_PULL_STATE) {
        assert_ok(loch_wal_pull_state_decode(payload, &state));
        r->stated = true;
        loch_wal_pull_state_fini(&state);
    } else if (type == LOCH_WAL_PULL_POSITIONS) {
        assert_ok(loch_wal_pull_positions_decode(payload, &positions));
        assert_true(r->stated);
    } else {
        assert_int_equal(type, LOCH_WAL_ERROR);
    }
    return LOCH_OK;
}

static void reader_connect(void *arg);

static void reader_again(struct sim_reader *r)
{
    assert_ok(loch_env_timer(r->o.env, 100, &r->timer, reader_connect, r));
}

static void reader_closed(void *arg, loch_status st)
{
    struct sim_reader *r = arg;

    (void)st;
    r->stream = NULL;
    reader_again(r);
}

static const struct loch_stream_events reader_events = {.frame = reader_frame,
                                                        .closed = reader_closed};

static void reader_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct sim_reader *r = arg;
    struct loch_wal_pull pull = {.version = LOCH_WIRE_PULL_VERSION,
                                 .tenant = r->o.tenant,
                                 .timeline = r->o.timeline,
                                 .mode = LOCH_PULL_COMMITTED,
                                 .from = r->position};
    struct loch_buf out = {0};
    struct loch_writer w;

    loch_tls_client_destroy(r->tls);
    r->tls = NULL;
    if (!loch_is_ok(st)) {
        reader_again(r);
        return;
    }
    r->stream = stream;
    r->stated = false;
    loch_stream_attach(stream, &reader_events, r);
    loch_writer_init(&w, &out);
    loch_wal_pull_encode(&w, &pull);
    loch_stream_send(stream, &out);
}

static void reader_connect(void *arg)
{
    struct sim_reader *r = arg;
    unsigned which = (unsigned)sim_world_draw(r->o.world, r->o.count);
    struct loch_psk_identity id = {.version = 1,
                                   .client_role = LOCH_ROLE_PAGESERVER,
                                   .server_role = LOCH_ROLE_SAFEKEEPER,
                                   .rights = LOCH_RIGHT_WAL_PULL,
                                   .cluster = r->o.cluster,
                                   .tenant = r->o.tenant,
                                   .client_id = {{8}},
                                   .client_boot = {{8}},
                                   .server_node = r->o.nodes[which]};
    struct loch_secret psk = {0};
    struct loch_buf encoded = {0};

    r->timer = NULL;
    assert_ok(loch_keys_psk(r->o.keys, &id, &psk));
    assert_ok(loch_psk_identity_encode(&id, &encoded));
    assert_ok(loch_tls_client_create(loch_buf_slice(&encoded), &psk, &r->tls));
    assert_ok(loch_env_connect(r->o.env, r->o.addresses[which], r->tls, 500, reader_connected, r));
    loch_secret_fini(&psk);
    loch_buf_fini(&encoded);
}

struct sim_reader *sim_reader_start(const struct sim_reader_options *options)
{
    struct sim_reader *r = calloc(1, sizeof *r);

    assert_non_null(r);
    r->o = *options;
    r->position = options->start;
    reader_again(r);
    return r;
}

loch_lsn sim_reader_position(const struct sim_reader *reader)
{
    return reader->position;
}
