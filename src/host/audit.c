/* Holds: the audit log. Invariants: a line is written whole by one write(2), under the lock, and
 * carries the hash of the body before it; nothing is appended to a log that does not verify, nor
 * behind a line that could not be written whole (a full disk): that is cut off first.
 *
 * Line: body | space | 128 hex digits, Ed25519 over body | newline. Body: one JSON object without
 * spaces {"seq","prev","time","program","node","tenant","event","detail"}; prev: SHA-256 of the
 * body before, of the first: 64 zeros.
 */
#include "loch/host/audit.h"
#include "loch/base/check.h"
#include "loch/base/log.h"
#include "loch/base/time.h"
#include "loch/crypto/hkdf.h"
#include "loch/crypto/random.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SIGNATURE_TEXT_BYTES (2 * LOCH_SIGNATURE_BYTES)

struct loch_audit {
    int fd;
    char program[32];
    struct loch_id node;
    struct loch_sign_key *key;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    pthread_t syncer;
    uint64_t seq;
    uint64_t good_bytes; /* of whole lines */
    uint8_t head[LOCH_AUDIT_HASH_BYTES];
    bool dirty, ending;
    bool torn; /* behind the good bytes stands part of a line, which could not be cut off */
};

/* ---- lines ---- */

static loch_status text_field(const json_t *json, const char *name, char *out, size_t len)
{
    const char *text = json_string_value(json_object_get(json, name));

    if (text == NULL || strlen(text) >= len)
        return LOCH_FAIL(LOCH_E_CORRUPT, "its \"%s\" is missing or too long", name);
    memcpy(out, text, strlen(text) + 1);
    return LOCH_OK;
}

static loch_status body_parse(const json_t *json, struct loch_audit_record *r)
{
    char prev[2 * LOCH_AUDIT_HASH_BYTES + 1];
    const json_t *seq = json_object_get(json, "seq");

    if (!json_is_integer(seq) || json_integer_value(seq) <= 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "its \"seq\" is no number");
    r->seq = (uint64_t)json_integer_value(seq);
    LOCH_TRY(text_field(json, "prev", prev, sizeof prev));
    if (strlen(prev) != sizeof prev - 1 ||
        !loch_is_ok(loch_hex_parse(prev, r->prev, sizeof r->prev)))
        return LOCH_FAIL(LOCH_E_CORRUPT, "its \"prev\" is no hash");
    LOCH_TRY(text_field(json, "time", r->time, sizeof r->time));
    LOCH_TRY(text_field(json, "tenant", r->tenant, sizeof r->tenant));
    LOCH_TRY(text_field(json, "event", r->event, sizeof r->event));
    return text_field(json, "detail", r->detail, sizeof r->detail);
}

loch_status loch_audit_parse(struct loch_slice line, struct loch_audit_record *out)
{
    struct loch_audit_record r = {0};
    char text[SIGNATURE_TEXT_BYTES + 1];

    if (line.len <= SIGNATURE_TEXT_BYTES + 1 || line.len > LOCH_AUDIT_LINE_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_CORRUPT, "a line of %zu bytes is no record", line.len);
    r.body = loch_slice_of(line.data, line.len - SIGNATURE_TEXT_BYTES - 1);
    if (line.data[r.body.len] != ' ')
        return LOCH_FAIL(LOCH_E_CORRUPT, "its signature is missing");
    memcpy(text, line.data + r.body.len + 1, SIGNATURE_TEXT_BYTES);
    text[SIGNATURE_TEXT_BYTES] = '\0';
    if (strlen(text) != SIGNATURE_TEXT_BYTES ||
        !loch_is_ok(loch_hex_parse(text, r.signature, sizeof r.signature)))
        return LOCH_FAIL(LOCH_E_CORRUPT, "its signature is not written in hex");
    json_t *json = json_loadb((const char *)r.body.data, r.body.len, JSON_REJECT_DUPLICATES, NULL);
    if (json == NULL)
        return LOCH_FAIL(LOCH_E_CORRUPT, "it is not JSON");
    const loch_status st = body_parse(json, &r);
    json_decref(json);
    LOCH_TRY(st);
    *out = r;
    return LOCH_OK;
}

static loch_status hash_of(struct loch_slice body, uint8_t out[static LOCH_AUDIT_HASH_BYTES])
{
    return loch_sha256(&body, 1, out);
}

/* ---- verification ---- */

struct walk {
    const char *path;
    uint8_t public_key[LOCH_SIGN_PUBLIC_BYTES];
    struct loch_audit_summary sum;
    void (*fn)(void *arg, const struct loch_audit_record *record);
    void *arg;
};

static loch_status check_line(struct walk *w, struct loch_slice line)
{
    struct loch_audit_record r;
    loch_status st = loch_audit_parse(line, &r);

    if (loch_is_ok(st))
        st = loch_sign_verify(w->public_key, r.body, r.signature);
    if (loch_is_ok(st) && r.seq != w->sum.records + 1)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "it is number %" PRIu64 ", records are missing", r.seq);
    if (loch_is_ok(st) && memcmp(r.prev, w->sum.head, sizeof r.prev) != 0)
        st = LOCH_FAIL(LOCH_E_CORRUPT, "it does not follow the line before it");
    if (!loch_is_ok(st))
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s line %" PRIu64 ": %s", w->path, w->sum.records + 1,
                         loch_error_text());
    LOCH_TRY(hash_of(r.body, w->sum.head));
    w->sum.records++;
    w->sum.good_bytes += line.len + 1;
    if (w->fn != NULL)
        w->fn(w->arg, &r);
    return LOCH_OK;
}

static loch_status read_public(const char *dir, uint8_t out[static LOCH_SIGN_PUBLIC_BYTES])
{
    char path[PATH_MAX];
    char text[2 * LOCH_SIGN_PUBLIC_BYTES + 2] = "";

    (void)snprintf(path, sizeof path, "%s/audit.pub", dir);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return LOCH_FAIL(errno == ENOENT ? LOCH_E_NOT_FOUND : LOCH_E_IO, "%s: %s", path,
                         strerror(errno));
    const bool got = fgets(text, sizeof text, f) != NULL;
    (void)fclose(f);
    text[strcspn(text, "\n")] = '\0';
    if (!got || strlen(text) != 2 * LOCH_SIGN_PUBLIC_BYTES ||
        !loch_is_ok(loch_hex_parse(text, out, LOCH_SIGN_PUBLIC_BYTES)))
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s is no public key", path);
    return LOCH_OK;
}

loch_status loch_audit_verify(const char *dir,
                              void (*fn)(void *arg, const struct loch_audit_record *record),
                              void *arg, struct loch_audit_summary *out)
{
    char path[PATH_MAX];
    char line[LOCH_AUDIT_LINE_MAX_BYTES + 2];
    struct walk w = {.path = path, .fn = fn, .arg = arg};
    loch_status st = LOCH_OK;

    LOCH_TRY(read_public(dir, w.public_key));
    (void)snprintf(path, sizeof path, "%s/audit.log", dir);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return LOCH_FAIL(errno == ENOENT ? LOCH_E_NOT_FOUND : LOCH_E_IO, "%s: %s", path,
                         strerror(errno));
    while (loch_is_ok(st) && fgets(line, sizeof line, f) != NULL) {
        const size_t len = strlen(line);
        if (len > 0 && line[len - 1] == '\n') {
            st = check_line(&w, loch_slice_of(line, len - 1));
        } else if (feof(f)) {
            w.sum.torn = true;
            break;
        } else {
            st = LOCH_FAIL(LOCH_E_CORRUPT, "%s line %" PRIu64 " is too long", path,
                           w.sum.records + 1);
        }
    }
    (void)fclose(f);
    LOCH_TRY(st);
    *out = w.sum;
    return LOCH_OK;
}

/* ---- receipts ---- */

struct receipt {
    char tenant[LOCH_ID_TEXT_BYTES];
    char branch[LOCH_ID_TEXT_BYTES]; /* "": the tenant's own key */
    struct loch_audit_copy *out;
    size_t max, count;
    bool lost, back; /* ever; and opened since */
};

/* Records of a branch's key are branch_<event>, and name it in what they say. */
static bool is_about(const struct receipt *c, const struct loch_audit_record *r)
{
    char words[LOCH_ID_TEXT_BYTES + 8];

    if (strcmp(r->tenant, c->tenant) != 0)
        return false;
    if (c->branch[0] == '\0')
        return true;
    const int n = snprintf(words, sizeof words, "branch %s", c->branch);
    return strncmp(r->event, "branch_", 7) == 0 &&
           memmem(r->body.data, r->body.len, words, (size_t)n) != NULL;
}

static void take_for_receipt(void *arg, const struct loch_audit_record *r)
{
    struct receipt *c = arg;

    const char *event = r->event;
    if (!is_about(c, r) || strcmp(event, "wire_refused") == 0) /* nothing about a key */
        return;
    if (c->branch[0] != '\0')
        event += 7;
    if (strcmp(event, "granted") == 0 || strcmp(event, "opened") == 0)
        c->back = true;
    if (strcmp(event, "revoked") == 0 || strcmp(event, "outage") == 0) {
        if (c->back || !c->lost) /* else another reason for what is wiped: the proof is before it */
            c->count = 0;
        c->lost = true;
        c->back = false;
    }
    if (!c->lost || c->count == c->max)
        return;
    struct loch_audit_copy *copy = &c->out[c->count++];
    memcpy(copy->body, r->body.data, r->body.len);
    copy->body[r->body.len] = '\0';
    memcpy(copy->signature, r->signature, sizeof copy->signature);
}

loch_status loch_audit_receipt(const char *dir, const struct loch_id *tenant,
                               const struct loch_id *branch, struct loch_audit_copy *out,
                               size_t max, size_t *count)
{
    struct receipt c = {.out = out, .max = max};
    struct loch_audit_summary sum;

    (void)loch_id_format(tenant, c.tenant);
    if (!loch_id_is_none(branch))
        (void)loch_id_format(branch, c.branch);
    LOCH_TRY(loch_audit_verify(dir, take_for_receipt, &c, &sum));
    if (!c.lost)
        return LOCH_FAIL(LOCH_E_NOT_FOUND, "this node has never lost the %s's key",
                         loch_id_is_none(branch) ? "tenant" : "branch");
    *count = c.count;
    return LOCH_OK;
}

/* ---- writing ---- */

static void *sync_later(void *arg)
{
    struct loch_audit *a = arg;

    (void)pthread_mutex_lock(&a->lock);
    while (!a->ending || a->dirty) {
        if (!a->dirty) {
            (void)pthread_cond_wait(&a->wake, &a->lock);
            continue;
        }
        a->dirty = false;
        (void)pthread_mutex_unlock(&a->lock);
        if (fdatasync(a->fd) != 0)
            LOCH_ERROR("the audit log cannot be synced: %s", strerror(errno));
        (void)pthread_mutex_lock(&a->lock);
    }
    (void)pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* Under lock. Cuts off what a write left that did not take the whole line. */
static loch_status cut_back(struct loch_audit *a)
{
    a->torn = ftruncate(a->fd, (off_t)a->good_bytes) != 0;
    if (a->torn)
        return LOCH_FAIL(LOCH_E_IO,
                         "the audit log ends in part of a line, which cannot be cut off: %s",
                         strerror(errno));
    return LOCH_OK;
}

/* Under lock. */
static loch_status write_line(struct loch_audit *a, const char *line, size_t len)
{
    if (a->torn)
        LOCH_TRY(cut_back(a));
    const ssize_t n = write(a->fd, line, len);
    if (n == (ssize_t)len) {
        a->good_bytes += len;
        return LOCH_OK;
    }
    const int err = n < 0 ? errno : ENOSPC;
    LOCH_TRY(cut_back(a));
    return LOCH_FAIL(LOCH_E_IO, "cannot write the audit log: %s", strerror(err));
}

/* Under lock. */
static loch_status append(struct loch_audit *a, const char *body)
{
    uint8_t signature[LOCH_SIGNATURE_BYTES];
    uint8_t head[LOCH_AUDIT_HASH_BYTES];
    char line[LOCH_AUDIT_LINE_MAX_BYTES + 2];
    char text[SIGNATURE_TEXT_BYTES + 1];
    const struct loch_slice bytes = loch_slice_of(body, strlen(body));

    LOCH_TRY(loch_sign(a->key, bytes, signature));
    LOCH_TRY(hash_of(bytes, head));
    loch_hex_format(signature, sizeof signature, text);
    const int n = snprintf(line, sizeof line, "%s %s\n", body, text);
    if (n < 0 || (size_t)n > LOCH_AUDIT_LINE_MAX_BYTES)
        return LOCH_FAIL(LOCH_E_LIMIT, "an audit record of %d bytes", n);
    LOCH_TRY(write_line(a, line, (size_t)n));
    memcpy(a->head, head, sizeof head);
    a->seq++;
    a->dirty = true;
    (void)pthread_cond_signal(&a->wake);
    return LOCH_OK;
}

/* Under lock. */
static loch_status note(struct loch_audit *a, const char *tenant, const char *event,
                        const char *detail)
{
    char prev[2 * LOCH_AUDIT_HASH_BYTES + 1];
    char node[LOCH_ID_TEXT_BYTES], when[LOCH_TIME_TEXT_BYTES];
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    loch_hex_format(a->head, sizeof a->head, prev);
    json_t *json = json_pack(
        "{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "seq", (json_int_t)(a->seq + 1), "prev", prev,
        "time", loch_time_format((int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000, when),
        "program", a->program, "node", loch_id_format(&a->node, node), "tenant", tenant, "event",
        event, "detail", detail);
    char *body = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(json);
    if (body == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for an audit record");
    const loch_status st = append(a, body);
    free(body);
    return st;
}

void loch_audit_note(struct loch_audit *a, const struct loch_id *tenant, const char *event,
                     const char *fmt, ...)
{
    char id[LOCH_ID_TEXT_BYTES] = "";
    char detail[500];
    va_list args;

    if (a == NULL)
        return;
    va_start(args, fmt);
    (void)vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    for (char *p = detail; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
            *p = '?'; /* a key service's own words may be anything */
    if (tenant != NULL)
        (void)loch_id_format(tenant, id);
    (void)pthread_mutex_lock(&a->lock);
    const loch_status st = note(a, id, event, detail);
    (void)pthread_mutex_unlock(&a->lock);
    if (!loch_is_ok(st))
        loch_log_failure("a key event is not in the audit log");
}

/* ---- birth and end ---- */

static loch_status sync_dir(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", dir, strerror(errno));
    const bool ok = fsync(fd) == 0;
    const int err = errno;
    (void)close(fd);
    return ok ? LOCH_OK : LOCH_FAIL(LOCH_E_IO, "cannot sync %s: %s", dir, strerror(err));
}

/* <dir>/<name>, whole or not there at all, whenever this process ends. */
static loch_status write_file(const char *dir, const char *name, const void *bytes, size_t len,
                              mode_t mode)
{
    char path[PATH_MAX];
    char tmp[PATH_MAX];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    (void)snprintf(tmp, sizeof tmp, "%s/%s.tmp", dir, name);
    if (unlink(tmp) != 0 && errno != ENOENT) /* of a start that was cut short */
        return LOCH_FAIL(LOCH_E_IO, "cannot remove %s: %s", tmp, strerror(errno));
    const int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot make %s: %s", tmp, strerror(errno));
    const bool ok =
        write(fd, bytes, len) == (ssize_t)len && fsync(fd) == 0 && rename(tmp, path) == 0;
    const int err = errno;
    (void)close(fd);
    if (!ok)
        return LOCH_FAIL(LOCH_E_IO, "cannot write %s: %s", path, strerror(err));
    return sync_dir(dir);
}

/* The node's signing key, made when there is none yet. */
static loch_status open_key(const char *dir, struct loch_sign_key **out)
{
    char path[PATH_MAX];
    struct loch_secret seed = {0};
    loch_status st = LOCH_OK;

    (void)snprintf(path, sizeof path, "%s/audit.key", dir);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        LOCH_TRY(loch_random_secret(&seed, LOCH_SIGN_SEED_BYTES));
        st = write_file(dir, "audit.key", seed.bytes, seed.len, 0600);
    } else if (fd < 0) {
        return LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", path, strerror(errno));
    } else {
        st = loch_secret_create(&seed, LOCH_SIGN_SEED_BYTES);
        if (loch_is_ok(st) && read(fd, seed.bytes, seed.len) != (ssize_t)seed.len)
            st = LOCH_FAIL(LOCH_E_CORRUPT, "%s does not hold 32 bytes", path);
        (void)close(fd);
    }
    if (loch_is_ok(st))
        st = loch_sign_key_create(&seed, out);
    loch_secret_fini(&seed);
    return st;
}

static loch_status publish(const char *dir, const struct loch_sign_key *key)
{
    char text[2 * LOCH_SIGN_PUBLIC_BYTES + 2];
    uint8_t mine[LOCH_SIGN_PUBLIC_BYTES], there[LOCH_SIGN_PUBLIC_BYTES];

    loch_sign_public(key, mine);
    const loch_status st = read_public(dir, there);
    if (st.code == LOCH_E_NOT_FOUND) {
        loch_hex_format(mine, sizeof mine, text);
        text[sizeof text - 2] = '\n';
        return write_file(dir, "audit.pub", text, sizeof text - 1, 0644);
    }
    LOCH_TRY(st);
    if (memcmp(mine, there, sizeof mine) != 0)
        return LOCH_FAIL(LOCH_E_CORRUPT, "%s/audit.pub is not the public half of audit.key", dir);
    return LOCH_OK;
}

/* Goes on behind what is there, which must verify. */
static loch_status open_log(const char *dir, struct loch_audit *a)
{
    char path[PATH_MAX];
    struct loch_audit_summary sum = {0};

    (void)snprintf(path, sizeof path, "%s/audit.log", dir);
    const loch_status st = loch_audit_verify(dir, NULL, NULL, &sum);
    if (!loch_is_ok(st) && st.code != LOCH_E_NOT_FOUND)
        return st;
    if (sum.torn) {
        LOCH_WARN("%s: an unfinished last line is cut off", path);
        if (truncate(path, (off_t)sum.good_bytes) != 0)
            return LOCH_FAIL(LOCH_E_IO, "cannot truncate %s: %s", path, strerror(errno));
    }
    a->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (a->fd < 0)
        return LOCH_FAIL(LOCH_E_IO, "cannot open %s: %s", path, strerror(errno));
    a->seq = sum.records;
    a->good_bytes = sum.good_bytes;
    memcpy(a->head, sum.head, sizeof a->head);
    return LOCH_OK;
}

loch_status loch_audit_open(const char *dir, const char *program, const struct loch_id *node,
                            struct loch_audit **out)
{
    struct loch_audit *a = calloc(1, sizeof *a);
    loch_status st;

    if (a == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the audit log");
    a->fd = -1;
    a->node = *node;
    (void)snprintf(a->program, sizeof a->program, "%s", program);
    LOCH_TRY_OUT(st, open_key(dir, &a->key));
    LOCH_TRY_OUT(st, publish(dir, a->key));
    LOCH_TRY_OUT(st, open_log(dir, a));
    LOCH_ASSERT(pthread_mutex_init(&a->lock, NULL) == 0);
    LOCH_ASSERT(pthread_cond_init(&a->wake, NULL) == 0);
    if (pthread_create(&a->syncer, NULL, sync_later, a) != 0) {
        st = LOCH_FAIL(LOCH_E_NO_MEMORY, "no thread for the audit log");
        goto out;
    }
    *out = a;
    return LOCH_OK;
out:
    if (a->fd >= 0)
        (void)close(a->fd);
    loch_sign_key_destroy(a->key);
    free(a);
    return st;
}

void loch_audit_close(struct loch_audit *a)
{
    if (a == NULL)
        return;
    (void)pthread_mutex_lock(&a->lock);
    a->ending = true;
    (void)pthread_cond_signal(&a->wake);
    (void)pthread_mutex_unlock(&a->lock);
    (void)pthread_join(a->syncer, NULL);
    (void)pthread_cond_destroy(&a->wake);
    (void)pthread_mutex_destroy(&a->lock);
    (void)close(a->fd);
    loch_sign_key_destroy(a->key);
    free(a);
}
