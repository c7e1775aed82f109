/* What was refused and said so in the log lately: a peer that comes again and again with the same,
 * or with much, must not fill the disk with lines. Pure.
 */
#ifndef LOCH_SAFEKEEPER_REFUSALS_H
#define LOCH_SAFEKEEPER_REFUSALS_H

#include "sealer.h"

#include <stdbool.h>
#include <stdint.h>

#define SK_REFUSALS_KEPT     64u
#define SK_REFUSALS_MINUTE   300u                  /* most lines in a minute */
#define SK_REFUSALS_AGAIN_NS UINT64_C(60000000000) /* the same is logged again after this */

struct sk_refusal {
    char text[SK_TEXT_BYTES]; /* "": free */
    uint64_t since_ns;
    uint32_t more; /* that were not logged */
};

/* Embedded; all zeros is empty. */
struct sk_refusals {
    struct sk_refusal kept[SK_REFUSALS_KEPT];
    uint64_t minute;
    uint32_t lines, dropped; /* in that minute */
};

/* May a line with this text be logged at now_ns (monotonic)? False: it is counted. */
bool sk_refusals_news(struct sk_refusals *r, const char *text, uint64_t now_ns);
/* One whose minute is over and that came again meanwhile, or those for which there was no line
 * left: true, with how many, and what they were in *out (borrowed until the next call). False:
 * there is none. What is over is forgotten. */
bool sk_refusals_over(struct sk_refusals *r, uint64_t now_ns, const char **out, uint32_t *more);

#endif
