/* One history: timelines with all that was ever put into them, and what must be readable. */
#ifndef LOCH_TESTS_MODEL_MODEL_H
#define LOCH_TESTS_MODEL_MODEL_H

#include "world.h"

#include "store/retention.h"
#include "store/timeline.h"

#include "loch/pg/key.h"

#define LINES_MAX    5u
#define LEASES_MAX   3u
#define RECORDS_MAX  4u /* images are pushed down at such chains */
#define WINDOW_S     150u
#define WINDOW_BYTES 300u
#define START_LSN    1000u

struct entry {
    struct loch_key key;
    loch_lsn lsn;
    int64_t time_us;
    bool op;
    uint8_t *bytes;
    size_t len;
};

/* When a record ended, whether it put anything or not. */
struct reached {
    loch_lsn lsn;
    int64_t time_us;
};

struct line { /* a timeline and all that was put into it */
    bool used;
    struct loch_id id;
    struct loch_timeline *timeline;
    struct line *parent;
    loch_lsn start, last;
    struct loch_buf birth; /* as its tenant's manifest has it */
    struct entry *entries;
    size_t count, cap;
    struct reached *reached;
    size_t reached_count, reached_cap;
};

struct lease {
    struct line *line; /* NULL: free */
    loch_lsn lsn;
};

struct history {
    struct world *world;
    struct loch_keys *keys;
    struct loch_store store;
    struct loch_id tenant;
    struct line lines[LINES_MAX]; /* parents before children: a slot is reused by leaves only */
    struct lease leases[LEASES_MAX];
    int64_t now_us;
    uint64_t random, seed;
    bool merging;
    /* what happened, over all histories */
    uint64_t operations, merges, dropped_bytes, crashes, reads, refused, branches, moved, bounds;
    /* pages that were compared: after a cut and written again, of an id that was dropped and came
     * again, cut in an ancestor and read in a branch */
    uint64_t extended_again, reused, cut_below;
};

_Noreturn void violation(const struct history *h, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
uint64_t roll(struct history *h, uint64_t below);
struct line *random_line(struct history *h);

/* ---- model.c: what was put, and what a read must give ---- */
void note_entry(struct history *h, struct line *line, const struct loch_key *key, loch_lsn lsn,
                bool op, const void *bytes, size_t len);
void note_reached(const struct history *h, struct line *line, loch_lsn lsn);
void forget_line(struct line *line);
bool model_size(const struct line *line, const struct loch_key *page, loch_lsn lsn,
                uint32_t *blocks);
/* What is older than this is hidden from the page at `lsn`: by its database, or a cut. */
loch_lsn model_floor(const struct line *line, const struct loch_key *page, loch_lsn lsn);
void model_page(const struct line *line, const struct loch_key *key, loch_lsn lsn,
                uint8_t page[LOCH_PAGE_BYTES]);
/* Counts what is special about a page that is read there. */
void model_count(struct history *h, const struct line *line, const struct loch_key *key,
                 loch_lsn lsn);
bool model_slru(const struct line *line, const struct loch_key *key, loch_lsn lsn,
                uint8_t page[LOCH_PAGE_BYTES]);
/* Whether the window, a branch or a lease asks for it. */
bool must_be_readable(const struct history *h, const struct line *line, loch_lsn lsn);

/* ---- deeds.c: what is done to the engine ---- */
struct loch_key random_page(struct history *h);
void begin_history(struct history *h, uint64_t seed);
void do_something(struct history *h);
void end_history(struct history *h);

/* ---- check.c ---- */
/* A few random reads of the line, at LSNs that matter. */
void check_line(struct history *h, struct line *line, unsigned reads);
/* No read applies more records than the bound. */
void check_bound(struct history *h, struct line *line);

#endif
