/* Holds: the client of BASEBACKUP. Invariant: at most one attempt is alive; an attempt that was
 * given up no longer knows its order, so its late events do nothing. */
#include "basebackup.h"

#include "untar.h"

#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/wire/page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 2000
#define RETRY_MS           50
#define REQUEST_ID         1

struct attempt {
    struct loch_basebackup *order; /* NULL: given up */
    struct loch_stream *stream;
};

struct loch_basebackup {
    struct loch_basebackup_order o;
    LOCH_STATUS (*clear)(void *arg);
    void (*done)(void *arg, loch_status st, loch_lsn checkpoint_end);
    void *arg;
    struct attempt *attempt;
    struct loch_timer *retry;
    struct loch_untar *untar;
    unsigned tries;
    uint64_t received;
    bool finished;
};

static void begin(void *arg);

static void retry_fired(void *arg)
{
    struct loch_basebackup *b = arg;
    b->retry = NULL;
    begin(b);
}

static void finish(struct loch_basebackup *b, loch_status st, loch_lsn checkpoint_end)
{
    b->finished = true;
    if (b->attempt != NULL) {
        b->attempt->order = NULL;
        if (b->attempt->stream != NULL)
            loch_stream_close(b->attempt->stream);
        b->attempt = NULL;
    }
    b->done(b->arg, st, checkpoint_end);
}

/* Refusals that another try cannot mend. */
static bool is_final(enum loch_code code)
{
    return code == LOCH_E_STALE || code == LOCH_E_DENIED || code == LOCH_E_INVALID ||
           code == LOCH_E_UNSUPPORTED || code == LOCH_E_KEY_REVOKED ||
           code == LOCH_E_KMS_UNAVAILABLE;
}

static void failed(struct loch_basebackup *b, loch_status st)
{
    char why[400];

    (void)snprintf(why, sizeof why, "%s", loch_error_text());
    if (b->tries++ % 40 == 0)
        LOCH_WARN("no basebackup at " LOCH_LSN_FMT " from the pageserver at %s yet: %s",
                  LOCH_LSN_ARG(b->o.lsn), b->o.credential->pageserver.address, why);
    if (!is_final(st.code) &&
        loch_is_ok(loch_env_timer(b->o.env, RETRY_MS, &b->retry, retry_fired, b)))
        return;
    finish(b, LOCH_FAIL(st.code, "%s", why), LOCH_LSN_NONE);
}

static loch_status take_end(struct loch_basebackup *b, struct loch_slice payload)
{
    struct loch_page_basebackup_end m;

    LOCH_TRY(loch_page_basebackup_end_decode(payload, &m));
    LOCH_TRY(loch_untar_finish(b->untar));
    finish(b, LOCH_OK, m.checkpoint_end);
    return LOCH_OK;
}

static loch_status take_error(struct loch_basebackup *b, struct loch_slice payload)
{
    struct loch_page_error m;

    LOCH_TRY(loch_page_error_decode(payload, &m));
    enum loch_code code =
        m.code > LOCH_E_OK && m.code <= LOCH_E_LAST ? (enum loch_code)m.code : LOCH_E_CORRUPT;
    if (is_final(code)) {
        finish(b,
               LOCH_FAIL(code, "the pageserver refuses: %.*s", (int)m.text.len,
                         (const char *)m.text.data),
               LOCH_LSN_NONE);
        return LOCH_OK;
    }
    return LOCH_FAIL(code, "the pageserver says: %.*s", (int)m.text.len, (const char *)m.text.data);
}

static loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct attempt *a = arg;
    struct loch_basebackup *b = a->order;

    if (b == NULL)
        return LOCH_OK;
    switch (type) {
    case LOCH_PAGE_HELLO_REPLY:
        return LOCH_OK;
    case LOCH_PAGE_BASEBACKUP_DATA: {
        struct loch_page_basebackup_data m;
        LOCH_TRY(loch_page_basebackup_data_decode(payload, &m));
        b->received += m.bytes.len;
        return loch_untar_feed(b->untar, m.bytes);
    }
    case LOCH_PAGE_BASEBACKUP_ZEROS: {
        struct loch_page_basebackup_zeros m;
        LOCH_TRY(loch_page_basebackup_zeros_decode(payload, &m));
        b->received += m.count;
        return loch_untar_zeros(b->untar, m.count);
    }
    case LOCH_PAGE_BASEBACKUP_END:
        return take_end(b, payload);
    case LOCH_PAGE_ERROR:
        return take_error(b, payload);
    default:
        return LOCH_FAIL(LOCH_E_CORRUPT, "unexpected message of type %u from the pageserver", type);
    }
}

static void on_closed(void *arg, loch_status st)
{
    struct attempt *a = arg;
    struct loch_basebackup *b = a->order;

    free(a);
    if (b == NULL)
        return;
    b->attempt = NULL;
    failed(b, loch_is_ok(st) ? LOCH_FAIL(LOCH_E_UNAVAILABLE, "the pageserver closed") : st);
}

static const struct loch_stream_events stream_events = {.frame = on_frame, .closed = on_closed};

static loch_status ask(struct loch_basebackup *b, struct loch_stream *stream)
{
    struct loch_buf buf = {0};
    struct loch_writer w;
    const struct loch_page_hello hello = {.version = LOCH_WIRE_PAGE_VERSION_PLAIN,
                                          .tenant = b->o.credential->tenant,
                                          .timeline = b->o.credential->timeline,
                                          .term = b->o.term,
                                          .compute_epoch = b->o.credential->compute_epoch};
    const struct loch_page_basebackup m = {.request_id = REQUEST_ID,
                                           .lsn = b->o.lsn,
                                           .prev_lsn = b->o.prev_lsn,
                                           .flags = b->o.full ? LOCH_BASEBACKUP_FULL : 0};

    loch_writer_init(&w, &buf);
    loch_page_hello_encode(&w, &hello);
    loch_page_basebackup_encode(&w, &m);
    loch_status st = loch_writer_finish(&w);
    if (loch_is_ok(st))
        loch_stream_send(stream, &buf);
    else
        loch_buf_fini(&buf);
    return st;
}

static void on_connected(void *arg, loch_status st, struct loch_stream *stream)
{
    struct attempt *a = arg;
    struct loch_basebackup *b = a->order;

    if (stream == NULL) {
        free(a);
        if (b == NULL)
            return;
        b->attempt = NULL;
        /* Nobody to talk to is never final, whatever the code. */
        failed(b, LOCH_FAIL(LOCH_E_UNAVAILABLE, "%s", loch_error_text()));
        (void)st;
        return;
    }
    a->stream = stream;
    loch_stream_attach(stream, &stream_events, a);
    if (b == NULL || !loch_is_ok(ask(b, stream)))
        loch_stream_close(stream);
}

static loch_status try_once(struct loch_basebackup *b)
{
    LOCH_TRY(b->clear(b->arg));
    loch_untar_destroy(b->untar);
    b->untar = NULL;
    LOCH_TRY(loch_untar_create(b->o.dir, b->o.config->uid, b->o.config->gid, &b->untar));
    struct attempt *a = calloc(1, sizeof *a);
    if (a == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a connection");
    a->order = b;
    b->attempt = a;
    loch_status st =
        loch_env_connect(b->o.env, b->o.credential->pageserver.address,
                         b->o.credential->pageserver.tls, CONNECT_TIMEOUT_MS, on_connected, a);
    if (!loch_is_ok(st)) {
        b->attempt = NULL;
        free(a);
    }
    return st;
}

static void begin(void *arg)
{
    struct loch_basebackup *b = arg;
    loch_status st = try_once(b);

    if (!loch_is_ok(st))
        failed(b, st);
}

loch_status loch_basebackup_fetch(const struct loch_basebackup_order *order,
                                  struct loch_basebackup **out, loch_status (*clear)(void *arg),
                                  void (*done)(void *arg, loch_status st, loch_lsn checkpoint_end),
                                  void *arg)
{
    struct loch_basebackup *b = calloc(1, sizeof *b);

    if (b == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the basebackup");
    b->o = *order;
    b->clear = clear;
    b->done = done;
    b->arg = arg;
    /* From the loop: nothing is called back before this returns. */
    loch_status st = loch_env_timer(b->o.env, 0, &b->retry, retry_fired, b);
    if (!loch_is_ok(st)) {
        free(b);
        return st;
    }
    *out = b;
    return LOCH_OK;
}

uint64_t loch_basebackup_received(const struct loch_basebackup *b)
{
    return b->received;
}

void loch_basebackup_destroy(struct loch_basebackup *b)
{
    if (b == NULL)
        return;
    if (b->attempt != NULL) {
        b->attempt->order = NULL;
        if (b->attempt->stream != NULL)
            loch_stream_close(b->attempt->stream);
    }
    loch_timer_cancel(b->retry);
    loch_untar_destroy(b->untar);
    free(b);
}
