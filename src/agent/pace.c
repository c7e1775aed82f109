/* Holds: when WAL waits for company. Invariant: `ends` holds the oldest arrivals that are not
 * committed; the last of them grows when there are more. */
#include "pace.h"

#include "loch/base/buf.h"
#include "loch/wire/wal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COMPANY_ARRIVALS 64u
#define SHORT_WAIT_NS    UINT64_C(30000) /* for a CPU, each time, in the mean */
#define WAKES_MIN        20u             /* fewer tell nothing */

bool loch_pace_arrived(struct loch_pace *p, loch_lsn end, uint64_t now_ns)
{
    if (p->count < LOCH_PACE_COMPANY)
        p->count++;
    p->ends[p->count - 1] = end;
    if (p->count == LOCH_PACE_COMPANY)
        p->company = COMPANY_ARRIVALS;
    else if (p->company > 0)
        p->company--;
    return !p->short_of_cpu || p->company == 0 || end - p->sent >= LOCH_WAL_CHUNK_BYTES ||
           now_ns - p->sent_ns >= LOCH_PACE_MS * UINT64_C(1000000);
}

void loch_pace_sent(struct loch_pace *p, loch_lsn end, uint64_t now_ns)
{
    p->sent = end;
    p->sent_ns = now_ns;
}

void loch_pace_committed(struct loch_pace *p, loch_lsn lsn)
{
    uint32_t gone = 0;

    while (gone < p->count && p->ends[gone] <= lsn)
        gone++;
    p->count -= gone;
    memmove(p->ends, p->ends + gone, p->count * sizeof p->ends[0]);
}

void loch_pace_look(struct loch_pace *p, const char *text)
{
    uint64_t ran_ns;
    uint64_t waited_ns;
    uint64_t wakes;

    if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &ran_ns, &waited_ns, &wakes) != 3) {
        p->looked = p->short_of_cpu = false;
        return;
    }
    if (p->looked) {
        const uint64_t n = wakes - p->wakes;
        p->short_of_cpu = n >= WAKES_MIN && (waited_ns - p->waited_ns) / n >= SHORT_WAIT_NS;
    }
    p->looked = true;
    p->waited_ns = waited_ns;
    p->wakes = wakes;
}

void loch_pace_ask(struct loch_pace *p, struct loch_env *env)
{
    struct loch_buf text = {0};

    if (!loch_is_ok(loch_env_read_file(env, "/proc/self/schedstat", 200, &text)) ||
        !loch_is_ok(loch_buf_append(&text, "", 1)))
        text.len = 0;
    loch_pace_look(p, text.len > 0 ? (const char *)text.data : "");
    loch_buf_fini(&text);
}
