/* Holds: the journal in use. Invariants: one record is under way at a time, and the next is written
 * when it is durable; a half is written anew only when all files that it names were synced and a
 * durable record says so (`stated`); an append is done when its record is durable and its bytes are
 * in its file; whatever fails is final for all who wait, as a failed write is. */
#include "journal.h"

#include "node_file.h"
#include "sealer.h"

#include "loch/base/check.h"
#include "loch/base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define HALF_BYTES    (32u << 20)
#define LEAST_BUSY    4u
#define SMALL_BYTES   (64u << 10)  /* larger appends pay for a sync of their own */
#define BATCH_BYTES   (256u << 10) /* the loop itself writes and syncs so much (src/io) */
#define BATCH_CLIENTS 256u
#define RECENT        64u /* writes by which it is judged who is busy */
#define TOUCHED_MAX   1024u
#define SLOW_NS       UINT64_C(1500000) /* records that take longer, in the mean, save nothing */
#define SLOW_REST_NS  UINT64_C(2000000000)
#define RETRY_NS      UINT64_C(60000000000)
#define SPACE_TIMES   8u              /* more than this must be free to make one */
#define STATEMENT     SK_JOURNAL_PAGE /* at the end of a half: room for a record without pieces */

/* A WAL file that a half names, through a descriptor of the journal's own. */
struct sk_journal_touched {
    struct sk_journal_touched *next;
    struct sk_journal *journal;
    struct sk_journal_client *client; /* NULL: it has left the file */
    struct loch_file *file;
    unsigned half;
};

struct half {
    struct sk_journal_touched *touched;
    size_t count;
    unsigned syncing; /* files whose sync is under way */
    uint64_t first;   /* number of its first record; 0: never used */
};

enum state { OFF, MAKING, ON };

struct sk_journal {
    struct sk_journal_options o;
    enum state state;
    uint64_t retry_ns;
    uint64_t begun_ns, mean_ns; /* of records: the one under way, how long they take */
    uint64_t rest_ns;           /* not used before: it was slow */
    struct loch_id id;
    char path[SK_PATH_BYTES];
    struct sk_failure failure; /* of making it */
    struct loch_file *file;

    struct sk_journal_client *recent[RECENT];
    unsigned turn, busy; /* clients among the recent ones */

    struct sk_journal_client *head, **tail; /* wait for the next record */
    struct sk_journal_client *under_way;
    bool running, posted, failed, owes_statement;
    unsigned pending; /* operations of the record under way */
    loch_status st;
    char text[SK_TEXT_BYTES];

    struct loch_buf record;
    uint64_t at, number; /* where the next record goes, and its number */
    unsigned half;       /* in use */
    uint64_t stated;     /* `needed` of the last durable record */
    uint64_t writing;    /* and of the one under way */
    struct half halves[2];
};

static void start(void *arg);

/* ---- life ---- */

loch_status sk_journal_create(const struct sk_journal_options *options, struct sk_journal **out)
{
    struct sk_journal *j = calloc(1, sizeof *j);

    if (j == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a journal");
    j->o = *options;
    if (j->o.half_bytes == 0)
        j->o.half_bytes = HALF_BYTES;
    if (j->o.least_busy == 0)
        j->o.least_busy = LEAST_BUSY;
    if (j->o.slow_ns == 0)
        j->o.slow_ns = SLOW_NS;
    j->tail = &j->head;
    j->number = 1;
    j->st = LOCH_OK;
    (void)snprintf(j->path, sizeof j->path, "%s/" SK_JOURNAL_NAME, j->o.dir);
    *out = j;
    return LOCH_OK;
}

bool sk_journal_idle(const struct sk_journal *j)
{
    return !j->running && !j->posted && j->state != MAKING && j->halves[0].syncing == 0 &&
           j->halves[1].syncing == 0;
}

static void forget(struct half *h)
{
    while (h->touched != NULL) {
        struct sk_journal_touched *t = h->touched;
        h->touched = t->next;
        if (t->client != NULL)
            t->client->touched[t->half] = NULL;
        loch_file_close(t->file);
        free(t);
    }
    h->count = 0;
}

void sk_journal_destroy(struct sk_journal *j)
{
    if (j == NULL)
        return;
    LOCH_ASSERT(sk_journal_idle(j));
    LOCH_ASSERT(j->head == NULL);
    forget(&j->halves[0]);
    forget(&j->halves[1]);
    loch_file_close(j->file);
    loch_buf_fini(&j->record);
    free(j);
}

/* ---- making the file ---- */

static loch_status make_steps(struct sk_journal *j)
{
    const struct sk_journal_head head = {
        .node = j->o.node, .id = j->id, .half_bytes = j->o.half_bytes};
    const size_t size = SK_JOURNAL_PAGE + 2 * (size_t)j->o.half_bytes;
    uint64_t all = 0;
    uint64_t left = 0;

    if (loch_is_ok(loch_env_fs_space(j->o.env, j->o.dir, &left, &all)) && left < SPACE_TIMES * size)
        return LOCH_FAIL(LOCH_E_LIMIT, "%s: too little space for a journal", j->o.dir);
    uint8_t *bytes = calloc(1, size);
    if (bytes == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory to make a journal");
    sk_journal_head_encode(&head, bytes);
    loch_status st = loch_env_replace_file(j->o.env, j->path, loch_slice_of(bytes, size));
    free(bytes);
    LOCH_TRY(st);
    return sk_node_file_write(j->o.env, j->o.dir, &j->o.cluster, &j->o.node, j->o.incarnation,
                              &j->id);
}

static void make_work(void *arg)
{
    struct sk_journal *j = arg;

    sk_failure_take(&j->failure, make_steps(j));
}

static void make_done(void *arg)
{
    struct sk_journal *j = arg;
    loch_status st = sk_failure_raise(&j->failure);

    if (loch_is_ok(st))
        st = loch_file_open(j->o.env, j->path, O_RDWR, &j->file);
    j->state = loch_is_ok(st) ? ON : OFF;
    if (!loch_is_ok(st)) {
        loch_log_failure("no journal for the WAL of many timelines; each syncs its own");
        j->retry_ns = loch_env_now_ns(j->o.env) + RETRY_NS;
        return;
    }
    j->at = SK_JOURNAL_PAGE;
    j->halves[0].first = j->stated = j->number;
    LOCH_INFO("%u timelines write: their small appends share a journal", j->busy);
}

static void make(struct sk_journal *j)
{
    if (j->state != OFF || j->failed || loch_env_now_ns(j->o.env) < j->retry_ns)
        return;
    j->retry_ns = loch_env_now_ns(j->o.env) + RETRY_NS;
    /* One id in a process's life: a second try makes what the node file may name already. */
    if (loch_id_equal(&j->id, &(struct loch_id){0}) &&
        !loch_is_ok(loch_env_random(j->o.env, j->id.bytes, sizeof j->id.bytes)))
        return;
    if (loch_is_ok(loch_env_work(j->o.env, make_work, make_done, j)))
        j->state = MAKING;
}

/* ---- clients ---- */

void sk_journal_enter(struct sk_journal_client *c, struct sk_journal *journal,
                      const struct loch_id *tenant, const struct loch_id *timeline)
{
    c->journal = journal;
    c->tenant = *tenant;
    c->timeline = *timeline;
}

void sk_journal_file_left(struct sk_journal_client *c)
{
    for (unsigned i = 0; i < 2; i++) {
        if (c->touched[i] != NULL)
            c->touched[i]->client = NULL;
        c->touched[i] = NULL;
    }
    free(c->path);
    c->path = NULL;
    c->file = NULL;
}

void sk_journal_leave(struct sk_journal_client *c)
{
    struct sk_journal *j = c->journal;

    if (j == NULL)
        return;
    sk_journal_file_left(c);
    for (unsigned i = 0; i < RECENT && c->recent > 0; i++)
        if (j->recent[i] == c) {
            j->recent[i] = NULL;
            c->recent--;
            j->busy -= c->recent == 0;
        }
    c->journal = NULL;
}

loch_status sk_journal_file(struct sk_journal_client *c, struct loch_file *file, const char *path,
                            uint64_t seq, uint64_t file_hash)
{
    if (c->journal == NULL)
        return LOCH_OK;
    sk_journal_file_left(c);
    c->path = strdup(path);
    if (c->path == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for the name of a WAL file");
    c->file = file;
    c->seq = seq;
    c->file_hash = file_hash;
    return LOCH_OK;
}

/* Counts how many clients the last RECENT writes were of. */
static void count(struct sk_journal *j, struct sk_journal_client *c)
{
    struct sk_journal_client *was = j->recent[j->turn];

    if (was != NULL) {
        was->recent--;
        j->busy -= was->recent == 0;
    }
    j->recent[j->turn] = c;
    j->busy += c->recent == 0;
    c->recent++;
    j->turn = (j->turn + 1) % RECENT;
}

bool sk_journal_takes(struct sk_journal_client *c, size_t bytes)
{
    struct sk_journal *j = c->journal;

    if (j == NULL)
        return false;
    count(j, c);
    if (j->busy < j->o.least_busy || bytes > SMALL_BYTES)
        return false;
    make(j);
    return j->state == ON && loch_env_now_ns(j->o.env) >= j->rest_ns;
}

void sk_journal_write(struct sk_journal_client *c, uint64_t offset, struct loch_slice bytes,
                      loch_done_fn done, void *arg)
{
    struct sk_journal *j = c->journal;

    LOCH_ASSERT(c->file != NULL);
    c->offset = offset;
    c->bytes = bytes;
    c->done = done;
    c->arg = arg;
    c->next = NULL;
    *j->tail = c;
    j->tail = &c->next;
    if (!j->running && !j->posted) { /* after this turn, so that others come along */
        j->posted = true;
        loch_env_post(j->o.env, start, j);
    }
}

/* ---- halves ---- */

static uint64_t half_begin(const struct sk_journal *j, unsigned half)
{
    return SK_JOURNAL_PAGE + (uint64_t)half * j->o.half_bytes;
}

/* From which number on records are needed. */
static uint64_t needed(const struct sk_journal *j)
{
    const struct half *other = &j->halves[1 - j->half];

    return other->touched != NULL ? other->first : j->halves[j->half].first;
}

static void synced_one(void *arg, loch_status st)
{
    struct sk_journal_touched *t = arg;
    struct sk_journal *j = t->journal;
    struct half *h = &j->halves[t->half];

    h->syncing--;
    if (!loch_is_ok(st) && !j->failed) { /* who writes next learns of it */
        j->failed = true;
        j->st = st;
        (void)snprintf(j->text, sizeof j->text, "%s", loch_error_text());
    }
    if (h->syncing > 0 || j->failed)
        return;
    forget(h);
    j->owes_statement = true;
    if (!j->running && !j->posted) {
        j->posted = true;
        loch_env_post(j->o.env, start, j);
    }
}

/* Goes on in the other half; the files that this one names are synced meanwhile. */
static loch_status switch_half(struct sk_journal *j)
{
    struct half *left = &j->halves[j->half];

    j->half = 1 - j->half;
    j->at = half_begin(j, j->half);
    j->halves[j->half].first = j->number;
    for (struct sk_journal_touched *t = left->touched; t != NULL; t = t->next) {
        LOCH_TRY(loch_file_sync(t->file, synced_one, t));
        left->syncing++;
    }
    return LOCH_OK;
}

/* Is there room for a record of so many bytes? May switch halves. */
static loch_status make_room(struct sk_journal *j, size_t bytes, bool *out)
{
    const struct half *here = &j->halves[j->half];
    const struct half *other = &j->halves[1 - j->half];
    const size_t whole = (bytes + SK_JOURNAL_PAGE - 1) / SK_JOURNAL_PAGE * SK_JOURNAL_PAGE;

    *out = true;
    if (j->at + whole + STATEMENT <= half_begin(j, j->half) + j->o.half_bytes &&
        here->count + BATCH_CLIENTS <= TOUCHED_MAX)
        return LOCH_OK;
    *out = other->touched == NULL && j->stated >= here->first;
    return *out ? switch_half(j) : LOCH_OK;
}

/* ---- records ---- */

/* One record at a time is a way of doing one thing at a time: where a record waits long (for the
 * disk, or for a core), syncs beside each other are done sooner, though they cost more. */
static void judge(struct sk_journal *j)
{
    const uint64_t now_ns = loch_env_now_ns(j->o.env);

    j->mean_ns = j->mean_ns / 8 * 7 + (now_ns - j->begun_ns) / 8;
    if (j->mean_ns > j->o.slow_ns) {
        j->mean_ns = 0;
        j->rest_ns = now_ns + SLOW_REST_NS;
    }
}

static void piece_done(void *arg, loch_status st)
{
    struct sk_journal *j = arg;

    if (!loch_is_ok(st) && !j->failed) {
        j->failed = true;
        j->st = st;
        (void)snprintf(j->text, sizeof j->text, "%s", loch_error_text());
    }
    if (--j->pending > 0)
        return;
    struct sk_journal_client *c = j->under_way;
    j->under_way = NULL;
    j->running = false;
    judge(j);
    if (!j->failed)
        j->stated = loch_max_u64(j->stated, j->writing);
    while (c != NULL) {
        struct sk_journal_client *next = c->next;
        c->done(c->arg, j->failed ? LOCH_FAIL(j->st.code, "%s", j->text) : LOCH_OK);
        c = next;
    }
    if (!j->running && !j->posted)
        start(j);
}

static loch_status touch(struct sk_journal *j, struct sk_journal_client *c)
{
    struct half *h = &j->halves[j->half];

    if (c->touched[j->half] != NULL)
        return LOCH_OK;
    struct sk_journal_touched *t = calloc(1, sizeof *t);
    if (t == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a journal");
    loch_status st = loch_file_open(j->o.env, c->path, O_RDWR, &t->file);
    if (!loch_is_ok(st)) {
        free(t);
        return st;
    }
    t->journal = j;
    t->client = c;
    t->half = j->half;
    t->next = h->touched;
    h->touched = t;
    h->count++;
    c->touched[j->half] = t;
    return LOCH_OK;
}

/* Each by itself, as if there were no journal: there is no room in it until files are synced. */
static loch_status write_apart(struct sk_journal *j)
{
    for (struct sk_journal_client *c = j->under_way; c != NULL; c = c->next) {
        LOCH_TRY(loch_file_write_sync(c->file, c->offset, c->bytes, piece_done, j));
        j->pending++;
    }
    return LOCH_OK;
}

static loch_status write_record(struct sk_journal *j)
{
    LOCH_TRY(sk_journal_record_begin(&j->record));
    for (struct sk_journal_client *c = j->under_way; c != NULL; c = c->next) {
        const struct sk_journal_piece piece = {.tenant = c->tenant,
                                               .timeline = c->timeline,
                                               .seq = c->seq,
                                               .file_hash = c->file_hash,
                                               .offset = c->offset,
                                               .bytes = c->bytes};
        LOCH_TRY(touch(j, c));
        LOCH_TRY(sk_journal_record_add(&j->record, &piece));
    }
    j->writing = needed(j);
    LOCH_TRY(sk_journal_record_end(&j->record, &j->id, j->number, j->writing));
    LOCH_ASSERT(j->at + j->record.len <= half_begin(j, j->half) + j->o.half_bytes);
    for (struct sk_journal_client *c = j->under_way; c != NULL; c = c->next) {
        LOCH_TRY(loch_file_write(c->file, c->offset, c->bytes, piece_done, j));
        j->pending++;
    }
    LOCH_TRY(loch_file_write_sync(j->file, j->at, loch_buf_slice(&j->record), piece_done, j));
    j->pending++;
    j->at += j->record.len;
    j->number++;
    if (j->o.records != NULL)
        loch_metric_add(j->o.records, 1);
    if (j->o.bytes != NULL)
        loch_metric_add(j->o.bytes, j->record.len);
    return LOCH_OK;
}

/* Takes those that wait, in their order, up to a batch; *bytes: of their record. */
static size_t take_batch(struct sk_journal *j)
{
    struct sk_journal_client **end = &j->under_way;
    size_t bytes = SK_JOURNAL_RECORD_HEAD;

    for (unsigned n = 0; j->head != NULL && n < BATCH_CLIENTS; n++) {
        struct sk_journal_client *c = j->head;
        const size_t stored = sk_journal_piece_stored(c->bytes.len);
        if (bytes + stored > BATCH_BYTES)
            break;
        j->head = c->next;
        c->next = NULL;
        *end = c;
        end = &c->next;
        bytes += stored;
    }
    if (j->head == NULL)
        j->tail = &j->head;
    return bytes;
}

static loch_status run(struct sk_journal *j)
{
    bool room;

    if (j->owes_statement && !j->failed) { /* a record of no pieces */
        j->owes_statement = false;
        return write_record(j);
    }
    const size_t bytes = take_batch(j);
    if (j->failed)
        return LOCH_FAIL(j->st.code, "%s", j->text);
    LOCH_TRY(make_room(j, bytes, &room));
    return room ? write_record(j) : write_apart(j);
}

static void start(void *arg)
{
    struct sk_journal *j = arg;

    j->posted = false;
    if (j->running || (j->head == NULL && (!j->owes_statement || j->failed)))
        return;
    j->running = true;
    j->begun_ns = loch_env_now_ns(j->o.env);
    j->pending = 1; /* this call's own */
    loch_status st = run(j);
    piece_done(j, st);
}
