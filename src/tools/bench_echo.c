/* Holds: the yardstick: a server that does for each GET what cannot be spared: open the request's
 * TLS record, seal one of 8 KiB. */
#include "bench_load.h"

#include "loch/crypto/random.h"
#include "loch/crypto/tls.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define TOGETHER_BYTES (120u << 10) /* as the page service */

static const char identity[] = "loch-bench echo";
static uint8_t psk[LOCH_PSK_BYTES];
static uint8_t page[LOCH_PAGE_BYTES];

static bool find_psk(void *arg, struct loch_slice who, struct loch_secret *out)
{
    (void)arg;
    return who.len == sizeof identity && memcmp(who.data, identity, who.len) == 0 &&
           loch_is_ok(loch_secret_from(out, psk, sizeof psk));
}

struct echo {
    struct loch_stream *stream;
    struct loch_buf answers; /* to the requests that came together */
};

static loch_status on_frame(void *arg, uint8_t type, struct loch_slice payload)
{
    struct echo *e = arg;
    struct loch_page_get m;
    struct loch_writer w;

    if (type != LOCH_PAGE_GET)
        return LOCH_FAIL(LOCH_E_INVALID, "only GET is answered");
    LOCH_TRY(loch_page_get_decode(payload, &m));
    const struct loch_page_get_reply reply = {m.request_id, 1, loch_slice_of(page, sizeof page)};
    loch_writer_init(&w, &e->answers);
    loch_page_get_reply_encode(&w, &reply);
    LOCH_TRY(loch_writer_finish(&w));
    if (e->answers.len > TOGETHER_BYTES)
        loch_stream_trade(e->stream, &e->answers);
    return LOCH_OK;
}

static void on_given(void *arg)
{
    struct echo *e = arg;

    loch_stream_trade(e->stream, &e->answers);
}

static void on_closed(void *arg, loch_status st)
{
    struct echo *e = arg;

    (void)st;
    loch_buf_fini(&e->answers);
    free(e);
}

static const struct loch_stream_events events = {
    .frame = on_frame, .closed = on_closed, .given = on_given};

static void accepted(void *arg, struct loch_stream *stream)
{
    struct echo *e = calloc(1, sizeof *e);

    (void)arg;
    if (e == NULL)
        _exit(1);
    e->stream = stream;
    loch_stream_attach(stream, &events, e);
}

_Noreturn static void serve(const char *address)
{
    struct loch_env *env = NULL;
    struct loch_tls_server *server = NULL;
    struct loch_listener *listener = NULL;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    loch_status st = loch_env_real_create(&env);
    if (loch_is_ok(st))
        st = loch_tls_server_create(find_psk, NULL, &server);
    if (loch_is_ok(st))
        st = loch_env_listen(env, address, server, &listener, accepted, NULL);
    if (!loch_is_ok(st)) {
        (void)fprintf(stderr, "loch-bench: echo: %s\n", loch_error_text());
        _exit(1);
    }
    loch_env_run(env);
    _exit(0);
}

loch_status loch_echo_start(const char *address, pid_t *pid, struct loch_tls_client **tls)
{
    struct loch_secret secret = {0};

    LOCH_TRY(loch_random_bytes(psk, sizeof psk));
    LOCH_TRY(loch_random_bytes(page, sizeof page));
    LOCH_TRY(loch_secret_from(&secret, psk, sizeof psk));
    loch_status st = loch_tls_client_create(loch_slice_of(identity, sizeof identity), &secret, tls);
    loch_secret_fini(&secret);
    LOCH_TRY(st);
    *pid = fork();
    if (*pid == 0)
        serve(address);
    if (*pid < 0) {
        loch_tls_client_destroy(*tls);
        return LOCH_FAIL(LOCH_E_IO, "cannot fork");
    }
    return LOCH_OK;
}
