/* What was refused and said so in the log lately: a peer that comes again and again with the same,
 * or with much, must not fill the disk with lines. Pure.
 */
#ifndef LOCH_HOST_REFUSALS_H
#define LOCH_HOST_REFUSALS_H

#include <stdbool.h>
#include <stdint.h>

#define LOCH_REFUSAL_TEXT_BYTES 480u
#define LOCH_REFUSALS_KEPT      64u
#define LOCH_REFUSALS_MINUTE    300u                  /* most lines in a minute */
#define LOCH_REFUSALS_AGAIN_NS  UINT64_C(60000000000) /* the same is logged again after this */

struct loch_refusal {
    char text[LOCH_REFUSAL_TEXT_BYTES]; /* "": free */
    uint64_t since_ns;
    uint32_t more; /* that were not logged */
};

/* Embedded; all zeros is empty. */
struct loch_refusals {
    struct loch_refusal kept[LOCH_REFUSALS_KEPT];
    uint64_t minute;
    uint32_t lines, dropped; /* in that minute */
};

/* May a line with this text be logged at now_ns (monotonic)? False: it is counted. */
bool loch_refusals_news(struct loch_refusals *r, const char *text, uint64_t now_ns);
/* One whose minute is over and that came again meanwhile, or those for which there was no line
 * left: true, with how many, and what they were in *out (borrowed until the next call). False:
 * there is none. What is over is forgotten. */
bool loch_refusals_over(struct loch_refusals *r, uint64_t now_ns, const char **out, uint32_t *more);

#endif
