/* The audit log: written, verified, altered in every way, torn, read for a receipt; the golden log.
 */
#include "../unit.h"

#include "loch/crypto/random.h"
#include "loch/host/audit.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct loch_id none;

#define LOG_MAX 65536u

struct site {
    char dir[64], log[96];
    struct loch_id node, tenant, other;
};

static int site_up(void **state)
{
    struct site *s = calloc(1, sizeof *s);

    assert_non_null(s);
    (void)snprintf(s->dir, sizeof s->dir, "/tmp/loch-test-audit-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    (void)snprintf(s->log, sizeof s->log, "%s/audit.log", s->dir);
    assert_ok(loch_random_id(&s->node));
    assert_ok(loch_random_id(&s->tenant));
    assert_ok(loch_random_id(&s->other));
    *state = s;
    return 0;
}

static int site_down(void **state)
{
    struct site *s = *state;
    char command[128];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
    assert_int_equal(system(command), 0);
    free(s);
    return 0;
}

static size_t read_log(struct site *s, char *out)
{
    FILE *f = fopen(s->log, "re");
    assert_non_null(f);
    const size_t n = fread(out, 1, LOG_MAX, f);
    assert_int_equal(fclose(f), 0);
    return n;
}

static void write_log(struct site *s, const char *bytes, size_t len)
{
    FILE *f = fopen(s->log, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* Revoked, wiped, granted for one tenant; something of another in between. */
static void fill(struct site *s)
{
    struct loch_audit *a = NULL;

    assert_ok(loch_audit_open(s->dir, "test", &s->node, &a));
    loch_audit_note(a, &s->tenant, "opened", "generation %d", 4);
    loch_audit_note(a, &s->tenant, "revoked", "said \"no\"\n\x80 of %s", "course");
    loch_audit_note(a, &s->other, "opened", "%s", "");
    loch_audit_note(a, &s->tenant, "wiped", "all");
    loch_audit_note(a, NULL, "rotated_kek", "x");
    loch_audit_close(a);
}

static void notes_verify_and_go_on(void **state)
{
    struct site *s = *state;
    struct loch_audit_summary sum, again;
    struct loch_audit *a = NULL;
    struct stat st;
    char path[96];

    assert_code(loch_audit_verify(s->dir, NULL, NULL, &sum), LOCH_E_NOT_FOUND);
    fill(s);
    assert_ok(loch_audit_verify(s->dir, NULL, NULL, &sum));
    assert_int_equal(sum.records, 5);
    assert_false(sum.torn);
    assert_ok(loch_audit_open(s->dir, "test", &s->node, &a));
    loch_audit_note(a, &s->tenant, "granted", "again");
    loch_audit_note(NULL, &s->tenant, "nobody", "listens");
    loch_audit_close(a);
    assert_ok(loch_audit_verify(s->dir, NULL, NULL, &again));
    assert_int_equal(again.records, 6);
    assert_memory_not_equal(again.head, sum.head, sizeof sum.head);
    (void)snprintf(path, sizeof path, "%s/audit.key", s->dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    loch_audit_close(NULL);
}

/* A disk that takes only part of a line: the log verifies, and goes on when there is room again. */
static void a_full_disk_tears_nothing(void **state)
{
    struct site *s = *state;
    struct loch_audit_summary sum;
    struct loch_audit *a = NULL;
    struct rlimit was, now;
    struct stat st;

    fill(s);
    assert_ok(loch_audit_open(s->dir, "test", &s->node, &a));
    assert_int_equal(stat(s->log, &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    now = was;
    now.rlim_cur = (rlim_t)st.st_size + 100; /* less than a line */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
    loch_audit_note(a, &s->tenant, "revoked", "no room");
    loch_audit_note(a, &s->tenant, "wiped", "nor for this");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    (void)signal(SIGXFSZ, handler);
    assert_ok(loch_audit_verify(s->dir, NULL, NULL, &sum));
    assert_int_equal(sum.records, 5);
    assert_false(sum.torn);
    loch_audit_note(a, &s->tenant, "granted", "room again");
    loch_audit_close(a);
    assert_ok(loch_audit_open(s->dir, "test", &s->node, &a));
    loch_audit_close(a);
    assert_ok(loch_audit_verify(s->dir, NULL, NULL, &sum));
    assert_int_equal(sum.records, 6);
}

/* What a start leaves that was cut short while it made the node's key does no harm to later ones.
 */
static void a_first_start_cut_short_is_begun_anew(void **state)
{
    struct site *s = *state;
    struct loch_audit_summary sum;
    char path[96];

    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", s->dir,
                       i == 0 ? "audit.key.tmp" : "audit.pub.tmp");
        FILE *f = fopen(path, "we");
        assert_non_null(f);
        assert_int_equal(fputc('x', f), 'x');
        assert_int_equal(fclose(f), 0);
    }
    fill(s);
    fill(s);
    assert_ok(loch_audit_verify(s->dir, NULL, NULL, &sum));
    assert_int_equal(sum.records, 10);
    assert_int_not_equal(access(path, F_OK), 0);
}

/* Whatever byte of it changes, but for a torn last line, it is noticed, and file and line named. */
static void every_flip_is_noticed(void **state)
{
    struct site *s = *state;
    char was[LOG_MAX], now[LOG_MAX];
    struct loch_audit_summary sum;
    struct loch_audit *a = NULL;

    fill(s);
    const size_t n = read_log(s, was);
    for (size_t i = 0; i + 1 < n; i += 3) {
        memcpy(now, was, n);
        now[i] = (char)(now[i] ^ (was[i] == '0' ? 1 : 4)); /* also digits to digits */
        write_log(s, now, n);
        assert_code(loch_audit_verify(s->dir, NULL, NULL, &sum), LOCH_E_CORRUPT);
        assert_non_null(strstr(loch_error_text(), "audit.log line "));
    }
    assert_code(loch_audit_open(s->dir, "test", &s->node, &a), LOCH_E_CORRUPT);
    write_log(s, was, n);
    assert_ok(loch_audit_verify(s->dir, NULL, NULL, &sum));
}

static void lines_cannot_be_moved_left_out_or_forged(void **state)
{
    struct site *s = *state;
    char was[LOG_MAX], now[LOG_MAX];
    struct loch_audit_summary sum;
    char path[96];

    fill(s);
    const size_t n = read_log(s, was);
    char *second = (char *)memchr(was, '\n', n) + 1;
    char *third = (char *)memchr(second, '\n', n - (size_t)(second - was)) + 1;
    const size_t a = (size_t)(second - was), b = (size_t)(third - second);
    /* The first is gone. */
    write_log(s, second, n - a);
    assert_code(loch_audit_verify(s->dir, NULL, NULL, &sum), LOCH_E_CORRUPT);
    /* One in the middle is gone. */
    memcpy(now, was, a);
    memcpy(now + a, third, n - a - b);
    write_log(s, now, n - b);
    assert_code(loch_audit_verify(s->dir, NULL, NULL, &sum), LOCH_E_CORRUPT);
    /* Two have changed places. */
    memcpy(now, second, b);
    memcpy(now + b, was, a);
    memcpy(now + a + b, third, n - a - b);
    write_log(s, now, n);
    assert_code(loch_audit_verify(s->dir, NULL, NULL, &sum), LOCH_E_CORRUPT);
    /* Another node's key. */
    write_log(s, was, n);
    (void)snprintf(path, sizeof path, "%s/audit.pub", s->dir);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    assert_true(fputs("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n", f) >=
                0);
    assert_int_equal(fclose(f), 0);
    assert_code(loch_audit_verify(s->dir, NULL, NULL, &sum), LOCH_E_CORRUPT);
}

static void a_torn_line_is_cut_off(void **state)
{
    struct site *s = *state;
    char was[LOG_MAX];
    struct loch_audit_summary sum;
    struct loch_audit *a = NULL;

    fill(s);
    const size_t n = read_log(s, was);
    write_log(s, was, n - 40);
    assert_ok(loch_audit_verify(s->dir, NULL, NULL, &sum));
    assert_true(sum.torn);
    assert_int_equal(sum.records, 4);
    assert_ok(loch_audit_open(s->dir, "test", &s->node, &a));
    loch_audit_note(a, NULL, "goes_on", "%s", "");
    loch_audit_close(a);
    assert_ok(loch_audit_verify(s->dir, NULL, NULL, &sum));
    assert_false(sum.torn);
    assert_int_equal(sum.records, 5);
}

static void receipts(void **state)
{
    struct site *s = *state;
    struct loch_audit_copy copies[4];
    size_t count = 0;

    fill(s);
    assert_ok(loch_audit_receipt(s->dir, &s->tenant, &none, copies, 4, &count));
    assert_int_equal(count, 2);
    assert_non_null(strstr(copies[0].body, "\"event\":\"revoked\""));
    assert_non_null(strstr(copies[0].body, "said \\\"no\\\"?? of course"));
    assert_non_null(strstr(copies[1].body, "\"event\":\"wiped\""));
    assert_ok(loch_audit_receipt(s->dir, &s->tenant, &none, copies, 1, &count));
    assert_int_equal(count, 1);
    assert_code(loch_audit_receipt(s->dir, &s->other, &none, copies, 4, &count), LOCH_E_NOT_FOUND);

    /* A branch's own key: its records alone. */
    struct loch_audit *a = NULL;
    char id[LOCH_ID_TEXT_BYTES];
    assert_code(loch_audit_receipt(s->dir, &s->tenant, &s->other, copies, 4, &count),
                LOCH_E_NOT_FOUND);
    (void)loch_id_format(&s->other, id);
    assert_ok(loch_audit_open(s->dir, "test", &s->node, &a));
    loch_audit_note(a, &s->tenant, "branch_revoked", "branch %s: gone", id);
    loch_audit_note(a, &s->tenant, "opened", "%s", "of the tenant");
    loch_audit_note(a, &s->tenant, "branch_wiped", "branch %s: all", id);
    loch_audit_close(a);
    assert_ok(loch_audit_receipt(s->dir, &s->tenant, &s->other, copies, 4, &count));
    assert_int_equal(count, 2);
    assert_non_null(strstr(copies[1].body, "branch_wiped"));
    assert_code(loch_audit_receipt(s->dir, &s->tenant, &s->node, copies, 4, &count),
                LOCH_E_NOT_FOUND);
}

/* An outage that becomes a denial, and a start while it is denied, are the same loss: its wipe
 * stays in the receipt. Another loss, after a grant, begins a new one. */
static void a_loss_has_several_reasons(void **state)
{
    static const char *const events[] = {"outage", "wiped", "revoked", "revoked"};
    struct site *s = *state;
    struct loch_audit *a = NULL;
    struct loch_audit_copy copies[8];
    char id[LOCH_ID_TEXT_BYTES], name[40];
    size_t count = 0;

    (void)loch_id_format(&s->other, id);
    for (int again = 0; again < 2; again++) {
        assert_ok(loch_audit_open(s->dir, "test", &s->node, &a));
        loch_audit_note(a, &s->tenant, again ? "granted" : "opened", "%s", "");
        loch_audit_note(a, &s->tenant, "branch_granted", "branch %s: ", id);
        for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
            (void)snprintf(name, sizeof name, "branch_%s", events[i]);
            loch_audit_note(a, &s->tenant, events[i], "turn %d", again);
            loch_audit_note(a, &s->tenant, name, "branch %s: turn %d", id, again);
        }
        loch_audit_close(a);
        for (int of_branch = 0; of_branch < 2; of_branch++) {
            assert_ok(loch_audit_receipt(s->dir, &s->tenant, of_branch ? &s->other : &none, copies,
                                         8, &count));
            assert_int_equal(count, of_branch ? 4 : 8);
            assert_non_null(strstr(copies[0].body, of_branch ? "branch_outage" : "\"outage\""));
            assert_non_null(strstr(copies[of_branch ? 1 : 2].body, "wiped"));
            assert_non_null(strstr(copies[0].body, again ? "turn 1" : "turn 0"));
        }
    }
}

static void bad_lines_are_refused(void **state)
{
    static const char *const bad[] = {"", "{}", "no json at all, and no signature either"};
    struct site *s = *state;
    struct loch_audit_record r;
    char line[400];

    (void)s;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_code(loch_audit_parse(loch_slice_of(bad[i], strlen(bad[i])), &r), LOCH_E_CORRUPT);
        const int n = snprintf(line, sizeof line, "%s %0128d", bad[i], 0);
        assert_code(loch_audit_parse(loch_slice_of(line, (size_t)n), &r), LOCH_E_CORRUPT);
    }
}

static void count(void *arg, const struct loch_audit_record *r)
{
    (void)r;
    (*(int *)arg)++;
}

static void golden_log(void **state)
{
    static const char dir[] = LOCH_SOURCE_DIR "/tests/golden/format/audit";
    struct loch_audit_summary sum;
    int seen = 0;

    (void)state;
    assert_ok(loch_audit_verify(dir, count, &seen, &sum));
    assert_int_equal(sum.records, 5);
    assert_int_equal(seen, 5);
}

int main(void)
{
#define SITE(test_) cmocka_unit_test_setup_teardown(test_, site_up, site_down)
    const struct CMUnitTest tests[] = {
        SITE(notes_verify_and_go_on),
        SITE(a_full_disk_tears_nothing),
        SITE(a_first_start_cut_short_is_begun_anew),
        SITE(every_flip_is_noticed),
        SITE(lines_cannot_be_moved_left_out_or_forged),
        SITE(a_torn_line_is_cut_off),
        SITE(receipts),
        SITE(a_loss_has_several_reasons),
        SITE(bad_lines_are_refused),
        cmocka_unit_test(golden_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
