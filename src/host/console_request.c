/* Holds: commands: finding the handler, its arguments, its answer as protocol v3 messages.
 * Source: PostgreSQL 15 documentation, chapter 55 (Frontend/Backend Protocol). */
#include "console.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TEXT_OID     25u
#define HOLD_POLL_MS 20u

/* ---- the end of a request ---- */
static void finish(struct loch_console_request *take, struct loch_buf *take_bytes)
{
    if (take->conn != NULL)
        console_conn_answer(take->conn, take_bytes);
    loch_buf_fini(take_bytes);
    loch_buf_fini(&take->answer);
    console_words_fini(&take->words);
    free(take->text);
    free(take);
}

static void fail_with(struct loch_console_request *take, const char *sqlstate, const char *text,
                      const char *hint)
{
    struct loch_buf bytes = {0};
    struct loch_writer w;

    loch_writer_init(&w, &bytes);
    loch_pgv3_error(&w, "ERROR", sqlstate, text, hint);
    loch_pgv3_ready(&w);
    finish(take, &bytes);
}

void loch_console_fail(struct loch_console_request *take_request, loch_status st)
{
    char text[600];

    LOCH_ASSERT(!loch_is_ok(st));
    (void)snprintf(text, sizeof text, "%s", loch_error_text());
    LOCH_WARN("console: \"%s\" failed: %s (%s)", take_request->text, text, loch_error_where());
    fail_with(take_request, loch_pgv3_sqlstate(st.code), text, NULL);
}

void loch_console_done(struct loch_console_request *take_request, const char *tag)
{
    struct loch_console_request *r = take_request;
    struct loch_buf bytes = r->answer;
    struct loch_writer w;
    char select[32];

    r->answer = (struct loch_buf){0};
    if (r->too_long) {
        loch_buf_fini(&bytes);
        fail_with(r, loch_pgv3_sqlstate(LOCH_E_LIMIT), "the answer is too long", NULL);
        return;
    }
    if (tag == NULL && r->column_count > 0) {
        (void)snprintf(select, sizeof select, "SELECT %llu", (unsigned long long)r->row_count);
        tag = select;
    }
    loch_writer_init(&w, &bytes);
    size_t mark = loch_pgv3_begin(&w, 'C');
    loch_pgv3_text(&w, tag != NULL ? tag : "OK");
    loch_pgv3_end(&w, mark);
    loch_pgv3_ready(&w);
    finish(r, &bytes);
}

/* ---- rows ---- */
void loch_console_columns(struct loch_console_request *request, const char *const *names,
                          size_t count)
{
    struct loch_writer w;

    LOCH_ASSERT(request->column_count == 0);
    LOCH_ASSERT(count > 0);
    LOCH_ASSERT(count <= LOCH_CONSOLE_COLUMNS_MAX);
    request->column_count = count;
    loch_writer_init(&w, &request->answer);
    size_t mark = loch_pgv3_begin(&w, 'T');
    loch_pgv3_u16(&w, (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        loch_pgv3_text(&w, names[i]);
        loch_pgv3_u32(&w, 0); /* of no table */
        loch_pgv3_u16(&w, 0);
        loch_pgv3_u32(&w, TEXT_OID);
        loch_pgv3_u16(&w, UINT16_MAX); /* of any length */
        loch_pgv3_u32(&w, UINT32_MAX);
        loch_pgv3_u16(&w, 0); /* as text */
    }
    loch_pgv3_end(&w, mark);
    request->too_long = w.bad;
}

void loch_console_row(struct loch_console_request *request, const char *const *values)
{
    struct loch_writer w;

    LOCH_ASSERT(request->column_count > 0);
    size_t size = request->answer.len;
    for (size_t i = 0; i < request->column_count; i++)
        size += values[i] != NULL ? strlen(values[i]) : 0; /* NOLINT: a value a column */
    if (size > LOCH_CONSOLE_ANSWER_MAX_BYTES)
        request->too_long = true;
    if (request->too_long)
        return;
    loch_writer_init(&w, &request->answer);
    size_t mark = loch_pgv3_begin(&w, 'D');
    loch_pgv3_u16(&w, (uint16_t)request->column_count);
    for (size_t i = 0; i < request->column_count; i++) {
        if (values[i] == NULL) { /* NOLINT: a value a column */
            loch_pgv3_u32(&w, UINT32_MAX);
            continue;
        }
        size_t n = strlen(values[i]);
        loch_pgv3_u32(&w, (uint32_t)n);
        loch_write_bytes(&w, values[i], n);
    }
    loch_pgv3_end(&w, mark);
    request->row_count++;
    request->too_long = w.bad;
}

void loch_console_answer(struct loch_console_request *request, const char *column, const char *fmt,
                         ...)
{
    va_list args;
    char *text = NULL;

    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    loch_console_columns(request, &column, 1);
    if (n < 0) {
        request->too_long = true;
        return;
    }
    loch_console_row(request, &(const char *){text});
    free(text);
}

/* ---- arguments ---- */
const char *loch_console_arg(const struct loch_console_request *request, const char *name)
{
    return console_words_match(request->command->words, &request->words, name);
}

const char *loch_console_text(const struct loch_console_request *request)
{
    return request->text;
}

static loch_status want_arg(const struct loch_console_request *request, const char *name,
                            const char **out)
{
    *out = loch_console_arg(request, name);
    if (*out == NULL)
        return LOCH_FAIL(LOCH_E_INVALID, "<%s> is missing", name);
    return LOCH_OK;
}

loch_status loch_console_arg_id(const struct loch_console_request *request, const char *name,
                                struct loch_id *out)
{
    const char *text = NULL;

    LOCH_TRY(want_arg(request, name, &text));
    if (!loch_is_ok(loch_id_parse(text, out)))
        return LOCH_FAIL(LOCH_E_INVALID, "<%s>: \"%s\" is not an id of 32 hex digits", name, text);
    return LOCH_OK;
}

loch_status loch_console_arg_lsn(const struct loch_console_request *request, const char *name,
                                 loch_lsn *out)
{
    const char *text = NULL;

    LOCH_TRY(want_arg(request, name, &text));
    loch_status st = loch_lsn_parse(text, out);
    if (!loch_is_ok(st))
        return LOCH_FAIL(LOCH_E_INVALID, "<%s>: %s", name, loch_error_text());
    return LOCH_OK;
}

loch_status loch_console_arg_u64(const struct loch_console_request *request, const char *name,
                                 uint64_t *out)
{
    const char *text = NULL;
    uint64_t n = 0;

    LOCH_TRY(want_arg(request, name, &text));
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (!loch_mul_u64(n, 10, &n) || !loch_add_u64(n, (uint64_t)(*p - '0'), &n))
            return LOCH_FAIL(LOCH_E_INVALID, "<%s>: \"%s\" is too large", name, text);
    if (p == text || *p != '\0')
        return LOCH_FAIL(LOCH_E_INVALID, "<%s>: \"%s\" is not a number", name, text);
    *out = n;
    return LOCH_OK;
}

/* ---- dispatch ---- */
static void show_help(const struct loch_console *console, struct loch_console_request *request)
{
    static const char *const columns[] = {"command", "help"};
    static const char *const own[] = {"SHOW HELP", "Lists the commands."};

    loch_console_columns(request, columns, 2);
    for (size_t i = 0; i < console->command_count; i++)
        loch_console_row(
            request, (const char *const[]){console->commands[i].words, console->commands[i].help});
    loch_console_row(request, own);
    loch_console_done(request, NULL);
}

/* Commands that begin with the same word, as a hint. */
static void hint_for(const struct loch_console *console, const struct console_words *words,
                     char *out, size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < console->command_count && n < max; i++) {
        if (!console_words_akin(console->commands[i].words, words))
            continue;
        int more = snprintf(out + n, max - n, "%s%s",
                            n == 0 ? "Did you mean: " : "; or: ", console->commands[i].words);
        n += more > 0 ? (size_t)more : 0;
    }
    if (n == 0)
        (void)snprintf(out, max, "SHOW HELP lists the commands.");
}

/* Begins the command, or looks again a little later whether it may. */
static void begin(void *arg)
{
    struct loch_console_request *r = arg;
    struct loch_console *console = r->console;
    struct loch_timer *timer = NULL;
    const uint64_t until_ns = r->since_ns + LOCH_CONSOLE_HOLD_MS * UINT64_C(1000000);

    if (console->hold != NULL && loch_env_now_ns(console->env) < until_ns &&
        console->hold(console->arg, r) &&
        loch_is_ok(loch_env_timer(console->env, HOLD_POLL_MS, &timer, begin, r)))
        return;
    r->command->run(console->arg, r);
}

static void dispatch(struct loch_console *console, struct loch_console_request *request)
{
    char hint[600];

    for (size_t i = 0; i < console->command_count; i++) {
        if (console_words_match(console->commands[i].words, &request->words, NULL) == NULL)
            continue;
        request->command = &console->commands[i];
        if (strcasecmp(request->words.word[0].text, "show") != 0)
            LOCH_INFO("console: %.400s", request->text);
        request->console = console;
        request->since_ns = loch_env_now_ns(console->env);
        begin(request);
        return;
    }
    if (console_words_match("SHOW HELP", &request->words, NULL) != NULL ||
        console_words_match("HELP", &request->words, NULL) != NULL) {
        show_help(console, request);
        return;
    }
    hint_for(console, &request->words, hint, sizeof hint);
    fail_with(request, "42601", "there is no such command", hint);
}

void console_request_begin(struct loch_console *console, struct console_conn *conn,
                           const char *text)
{
    struct loch_console_request *r = calloc(1, sizeof *r);
    struct loch_buf bytes = {0};
    struct loch_writer w;

    loch_writer_init(&w, &bytes);
    if (r != NULL)
        r->text = strdup(text);
    if (r == NULL || r->text == NULL) {
        free(r);
        loch_pgv3_error(&w, "ERROR", "53200", "no memory for a command", NULL);
        loch_pgv3_ready(&w);
        console_conn_answer(conn, &bytes);
        loch_buf_fini(&bytes);
        return;
    }
    r->conn = conn;
    console_conn_running(conn, r);
    if (!loch_is_ok(console_words_split(text, &r->words))) {
        char why[200];
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
        fail_with(r, "42601", why, NULL);
        return;
    }
    if (r->words.count == 0) {
        size_t mark = loch_pgv3_begin(&w, 'I');
        loch_pgv3_end(&w, mark);
        loch_pgv3_ready(&w);
        finish(r, &bytes);
        return;
    }
    dispatch(console, r);
}
