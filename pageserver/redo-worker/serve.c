/* The worker's conversation with the pool (pageserver/redo_pool/redo_protocol.h), and its last
 * words.
 *
 * A failure of any kind is answered once and ends the process: after an ERROR in redo the server's
 * state is not worth repairing when a new process costs ten milliseconds.
 */
#include "worker.h"

#include <signal.h>
#include <unistd.h>

#include "storage/buf.h"
#include "utils/elog.h"

#include "loch/base/buf.h"
#include "redo_protocol.h"

static union {
    uint64 align;
    uint8 bytes[LOCH_REDO_FRAME_MAX];
} frame;
static char signal_stack[16384];

static void write_exactly(const uint8 *bytes, size_t len)
{
    while (len > 0) {
        ssize_t put = write(LOCH_REDO_FD, bytes, len);

        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            _exit(0);
        bytes += put;
        len -= (size_t)put;
    }
}

void serve_fail(const char *text)
{
    static uint8 answer[LOCH_REDO_ANSWER_BYTES + LOCH_REDO_TEXT_MAX];
    size_t len = strnlen(text, LOCH_REDO_TEXT_MAX);

    memset(answer, 0, LOCH_REDO_ANSWER_BYTES);
    loch_put_u32(answer, LOCH_REDO_FAILED);
    loch_put_u32(answer + 4, (uint32)len);
    loch_put_u64(answer + 16, apply_at);
    memcpy(answer + LOCH_REDO_ANSWER_BYTES, text, len);
    write_exactly(answer, LOCH_REDO_ANSWER_BYTES + len);
    _exit(1);
}

/* Called for every message that would be logged: an ERROR is FATAL here, because there is no
 * handler. */
static void answer_error(ErrorData *edata)
{
    edata->output_to_server = false;
    if (edata->elevel >= ERROR)
        serve_fail(edata->message != NULL ? edata->message : "error without a message");
}

static void answer_signal(int signo)
{
    switch (signo) {
    case SIGSEGV:
        serve_fail("redo crashed: segmentation fault");
    case SIGBUS:
        serve_fail("redo crashed: bus error");
    case SIGFPE:
        serve_fail("redo crashed: arithmetic error");
    case SIGABRT:
        serve_fail("redo aborted");
    default:
        serve_fail("redo crashed");
    }
}

void serve_catch_errors(void)
{
    static const int caught[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    struct sigaction action = {.sa_handler = answer_signal, .sa_flags = SA_ONSTACK};

    if (sigaltstack(&stack, NULL) != 0)
        elog(FATAL, "redo worker: sigaltstack: %m");
    for (size_t i = 0; i < lengthof(caught); i++)
        if (sigaction(caught[i], &action, NULL) != 0)
            elog(FATAL, "redo worker: sigaction: %m");
    PG_exception_stack = NULL;
    error_context_stack = NULL;
    emit_log_hook = answer_error;
}

static void serve_request(uint32 total)
{
    static uint8 answer[LOCH_REDO_ANSWER_BYTES + BLCKSZ];
    struct apply_request request = {0};
    struct loch_reader r;
    uint32 flags, count;

    loch_reader_init(&r, loch_slice_of(frame.bytes + 4, total - 4));
    flags = loch_read_u32(&r);
    request.spc = loch_read_u32(&r);
    request.db = loch_read_u32(&r);
    request.rel = loch_read_u32(&r);
    target.fork = (ForkNumber)loch_read_u32(&r);
    target.block = loch_read_u32(&r);
    count = loch_read_u32(&r);
    (void)loch_read_u64(&r);
    request.verify = (flags & LOCH_REDO_VERIFY) != 0;
    if (target.fork < 0 || target.fork > MAX_FORKNUM || target.block > MaxBlockNumber)
        serve_fail("no such fork or block");
    memset(target.page.data, 0, BLCKSZ);
    if (flags & LOCH_REDO_HAS_BASE)
        loch_read_into(&r, target.page.data, BLCKSZ);
    apply_begin();
    for (uint32 i = 0; i < count; i++) {
        XLogRecPtr start = loch_read_u64(&r);
        XLogRecPtr end = loch_read_u64(&r);
        uint32 length = loch_read_u32(&r);
        struct loch_slice bytes;

        (void)loch_read_u32(&r);
        bytes = loch_read_bytes(&r, MAXALIGN((size_t)length));
        if (r.bad)
            serve_fail("truncated request");
        apply_record(&request, (const char *)bytes.data, length, start, end);
    }
    if (!loch_is_ok(loch_reader_finish(&r, "redo request")))
        serve_fail("malformed request");
    memset(answer, 0, LOCH_REDO_ANSWER_BYTES);
    apply_finish((char *)answer + LOCH_REDO_ANSWER_BYTES);
    loch_put_u32(answer, LOCH_REDO_DONE);
    loch_put_u32(answer + 4, BLCKSZ);
    loch_put_u32(answer + 8, request.checked);
    loch_put_u32(answer + 12, request.differing);
    write_exactly(answer, sizeof answer);
}

void serve(void)
{
    uint8 greeting[LOCH_REDO_GREETING_BYTES];

    loch_put_u64(greeting, LOCH_REDO_MAGIC);
    loch_put_u32(greeting + 8, LOCH_REDO_PROTOCOL);
    loch_put_u32(greeting + 12, PG_VERSION_NUM);
    write_exactly(greeting, sizeof greeting);
    for (;;) {
        size_t have = 0;
        uint32 total = 0;

        /* One read usually brings the whole of a small frame. */
        while (have < 4 || have < total) {
            size_t room = have < 4 ? sizeof frame.bytes : total;
            ssize_t got = read(LOCH_REDO_FD, frame.bytes + have, room - have);

            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                _exit(0);
            have += (size_t)got;
            if (have < 4)
                continue;
            total = loch_get_u32(frame.bytes);
            if (total < LOCH_REDO_REQUEST_BYTES || total > LOCH_REDO_FRAME_MAX)
                serve_fail("request frame of a wrong length");
        }
        if (have != total)
            serve_fail("a request before the answer to the last");
        serve_request(total);
    }
}
