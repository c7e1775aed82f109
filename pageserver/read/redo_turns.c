/* How a request is read on a pool thread, and the turns of those whose pages take a redo process.
 */
#include "redo_turns.h"

#include "page_conn.h"

#include "loch/base/check.h"

#include <stdlib.h>

/* So many pages of a relation, one of which took a process, are not tried without one. */
#define LIKELY_NEXT 64u

/* ---- reading; pool thread ---- */

static loch_status add_size(void *arg, const struct loch_key *key, struct loch_slice value,
                            loch_lsn version)
{
    struct page_request *r = arg;
    (void)version;
    if (key->db == r->key.db && (r->key.spc == 0 || key->spc == r->key.spc) && value.len == 4) {
        r->exists = true;
        r->bytes += (uint64_t)loch_get_u32(value.data) * LOCH_PAGE_BYTES;
    }
    return LOCH_OK;
}

static loch_status read_db_size(struct page_request *r, struct loch_view *view)
{
    struct loch_key first = {.kind = LOCH_KEY_REL_SIZE, .spc = r->key.spc, .db = r->key.db};
    struct loch_key end = {.kind = LOCH_KEY_REL_CUT};
    if (r->key.spc == 0)
        first.db = 0;
    else if (r->key.db < UINT32_MAX)
        end = (struct loch_key){.kind = first.kind, .spc = first.spc, .db = first.db + 1};
    return loch_view_scan(view, &first, &end, r->lsn, add_size, r);
}

LOCH_STATUS page_request_read(struct page_request *r, struct loch_view *view, bool turn)
{
    struct loch_rel rel = {r->key.spc, r->key.db, r->key.rel};
    r->wants_redo = false;
    LOCH_TRY(loch_view_readable(view, r->lsn));
    if (r->type == LOCH_PAGE_DB_SIZE || (r->type == LOCH_PAGE_REL_SIZE && rel.rel == 0))
        return read_db_size(r, view);
    if (r->type == LOCH_PAGE_REL_SIZE)
        return loch_view_rel_size(view, &rel, r->key.fork, r->lsn, &r->exists, &r->blocks);
    if (r->page == NULL)
        r->page = malloc(LOCH_PAGE_BYTES);
    if (r->page == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for a page");
    if (turn)
        return loch_view_page(view, &rel, r->key.fork, r->key.block, r->lsn, r->page);
    return loch_view_page_natively(view, &rel, r->key.fork, r->key.block, r->lsn, r->page,
                                   &r->wants_redo);
}

/* ---- turns ---- */

static void join_line(struct loch_redo_turns *turns, struct page_conn *conn)
{
    conn->in_line = true;
    conn->line_next = NULL;
    conn->line_prev = turns->last;
    *(turns->last != NULL ? &turns->last->line_next : &turns->first) = conn;
    turns->last = conn;
}

static void leave_line(struct loch_redo_turns *turns, struct page_conn *conn)
{
    *(conn->line_prev != NULL ? &conn->line_prev->line_next : &turns->first) = conn->line_next;
    *(conn->line_next != NULL ? &conn->line_next->line_prev : &turns->last) = conn->line_prev;
    conn->in_line = false;
}

static uint64_t turns_of(const struct loch_redo_turns *turns, const struct loch_id *tenant)
{
    uint64_t n = 0;
    for (size_t i = 0; i < turns->count; i++)
        n += loch_id_equal(&turns->tenants[i], tenant);
    return n;
}

/* The first whose tenant may have another turn; NULL: none. */
static struct page_conn *next_in_line(const struct loch_pageserver *ps)
{
    struct page_conn *conn = ps->redo_turns.first;
    while (conn != NULL &&
           turns_of(&ps->redo_turns, &conn->identity.tenant) > ps->config.redo_workers)
        conn = conn->line_next;
    return conn;
}

static void take_turns(struct loch_pageserver *ps)
{
    struct loch_redo_turns *turns = &ps->redo_turns;
    struct page_conn *conn;
    while (turns->count < LOCH_REDO_TURNS_MAX && (conn = next_in_line(ps)) != NULL) {
        leave_line(turns, conn);
        if (page_job_start(conn, true))
            turns->tenants[turns->count++] = conn->identity.tenant;
        if (conn->redo.first != NULL)
            join_line(turns, conn);
    }
}

void page_turn_wait(struct page_request *r)
{
    struct page_conn *conn = r->conn;
    LOCH_ASSERT(conn->stream != NULL);
    page_queue_push(&conn->redo, r);
    if (!conn->in_line)
        join_line(&conn->ps->redo_turns, conn);
    take_turns(conn->ps);
}

void page_turn_end(struct loch_pageserver *ps, const struct loch_id *tenant)
{
    struct loch_redo_turns *turns = &ps->redo_turns;
    size_t i = 0;
    while (i < turns->count && !loch_id_equal(&turns->tenants[i], tenant))
        i++;
    LOCH_ASSERT(i < turns->count);
    turns->tenants[i] = turns->tenants[--turns->count];
    take_turns(ps);
}

void page_turn_drop(struct page_conn *conn)
{
    struct page_request *r;
    if (conn->in_line)
        leave_line(&conn->ps->redo_turns, conn);
    while ((r = page_queue_pop(&conn->redo)) != NULL)
        page_request_destroy(r);
}

/* ---- which pages go there without being tried first ---- */

void page_turn_learn(const struct page_request *r)
{
    r->conn->likely = (struct page_likely){r->key, LIKELY_NEXT};
}

bool page_turn_likely(const struct page_request *r)
{
    struct page_likely *likely = &r->conn->likely;
    struct loch_key same = r->key;
    same.block = likely->key.block;
    if (likely->left == 0 || loch_key_compare(&same, &likely->key) != 0)
        return false;
    likely->left--;
    return true;
}
