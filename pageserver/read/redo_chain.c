/* Chains of records: native first, the redo process for the rest and as the judge. */
#include "redo_chain.h"

#include "redo_pool/redo_pool.h"
#include "store/layer_set.h"

#include "loch/base/log.h"
#include "loch/host/metrics.h"
#include "loch/redo/redo.h"

#include <stdio.h>
#include <stdlib.h>

static const struct loch_redo_use unused; /* native redo on, nothing counted */

static void count(struct loch_metric *metric, uint64_t n)
{
    if (metric != NULL && n > 0)
        loch_metric_add(metric, n);
}

/* Applies records from the oldest on, up to the first that is not handled. *done: how many. */
static loch_status apply_native(const struct loch_key *key, const struct loch_version *items,
                                size_t total, uint8_t page[LOCH_PAGE_BYTES], size_t *done)
{
    const struct loch_redo_target target = {
        .rel = {key->spc, key->db, key->rel}, .fork = key->fork, .block = key->block};

    for (*done = 0; *done < total; ++*done) {
        const struct loch_version *v = &items[total - 1 - *done];
        enum loch_redo_outcome outcome = LOCH_REDO_NOT_HANDLED;
        struct loch_wal_record record;

        LOCH_TRY(loch_wal_record_decode(v->bytes, &record));
        LOCH_TRY(loch_redo_apply(&target, &record, v->lsn, page, &outcome));
        if (outcome == LOCH_REDO_NOT_HANDLED)
            break;
    }
    return LOCH_OK;
}

static loch_status apply_by_process(const struct loch_timeline *timeline,
                                    const struct loch_key *key, const struct loch_version *items,
                                    size_t total, bool fresh, uint8_t page[LOCH_PAGE_BYTES])
{
    const struct loch_store *store = loch_timeline_store(timeline);
    const struct loch_rel rel = {key->spc, key->db, key->rel};
    struct loch_redo_record *records;

    if (store->redo == NULL)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "there is no redo process here");
    records = calloc(total, sizeof *records);
    if (records == NULL)
        return LOCH_FAIL(LOCH_E_NO_MEMORY, "no memory for %zu records", total);
    for (size_t i = 0; i < total; i++) {
        const struct loch_version *v = &items[total - 1 - i];
        records[i] = (struct loch_redo_record){v->start_lsn, v->lsn, v->bytes};
    }
    loch_status st = loch_redo_pool_apply(store->redo, &loch_timeline_info(timeline)->tenant, &rel,
                                          (enum loch_fork)key->fork, key->block,
                                          fresh ? NULL : page, records, total, page);
    free(records);
    return st;
}

static void warn_of_dispute(const struct loch_timeline *timeline, const struct loch_key *key,
                            const struct loch_version *v)
{
    char id[LOCH_ID_TEXT_BYTES];

    LOCH_WARN("native redo refuses the record at " LOCH_LSN_FMT
              " for %u/%u/%u fork %u block %u of timeline %s (%s); the redo process decides",
              LOCH_LSN_ARG(v->start_lsn), key->spc, key->db, key->rel, key->fork, key->block,
              loch_id_format(&loch_timeline_info(timeline)->timeline, id), loch_error_text());
}

/* *done: records applied to `page`. A dispute leaves the page as it was, and *done 0. */
static void try_native(const struct loch_timeline *timeline, const struct loch_key *key,
                       const struct loch_version *items, size_t total, bool fresh,
                       uint8_t page[LOCH_PAGE_BYTES], const struct loch_redo_use *use, size_t *done)
{
    uint8_t before[LOCH_PAGE_BYTES];

    if (fresh)
        memset(page, 0, LOCH_PAGE_BYTES);
    else
        memcpy(before, page, sizeof before);
    if (!loch_is_ok(apply_native(key, items, total, page, done))) {
        warn_of_dispute(timeline, key, &items[total - 1 - *done]);
        count(use->disputes, 1);
        *done = 0;
        if (!fresh)
            memcpy(page, before, sizeof before);
    }
    count(use->native_records, *done);
}

static const struct loch_redo_use *use_of(const struct loch_timeline *timeline)
{
    const struct loch_redo_use *use = loch_timeline_store(timeline)->redo_use;

    return use != NULL ? use : &unused;
}

LOCH_STATUS loch_redo_chain_at_once(const struct loch_timeline *timeline,
                                    const struct loch_key *key, const struct loch_version *items,
                                    size_t total, bool fresh, uint8_t page[static LOCH_PAGE_BYTES])
{
    const struct loch_redo_use *use = use_of(timeline);
    size_t done = 0;

    if (use->native_off)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "native redo is off");
    if (fresh)
        memset(page, 0, LOCH_PAGE_BYTES);
    LOCH_TRY(apply_native(key, items, total, page, &done));
    if (done < total)
        return LOCH_FAIL(LOCH_E_UNAVAILABLE, "a record for the redo process");
    count(use->native_records, total);
    count(use->native_pages, 1);
    return LOCH_OK;
}

LOCH_STATUS loch_redo_chain_apply(const struct loch_timeline *timeline, const struct loch_key *key,
                                  const struct loch_version *items, size_t total, bool fresh,
                                  uint8_t page[static LOCH_PAGE_BYTES])
{
    const struct loch_redo_use *use = use_of(timeline);
    size_t done = 0;

    if (!use->native_off)
        try_native(timeline, key, items, total, fresh, page, use, &done);
    if (done == total) {
        count(use->native_pages, 1);
        return LOCH_OK;
    }
    loch_status st = apply_by_process(timeline, key, items, total - done, fresh && done == 0, page);
    if (!loch_is_ok(st)) {
        const struct loch_timeline_info *info = loch_timeline_info(timeline);
        char tenant[LOCH_ID_TEXT_BYTES], id[LOCH_ID_TEXT_BYTES], why[600];

        count(use->failures, 1);
        (void)snprintf(why, sizeof why, "%s", loch_error_text());
        return LOCH_FAIL(st.code, "tenant %s timeline %s: %s",
                         loch_id_format(&info->tenant, tenant), loch_id_format(&info->timeline, id),
                         why);
    }
    count(use->process_records, total - done);
    count(use->process_pages, 1);
    return LOCH_OK;
}
