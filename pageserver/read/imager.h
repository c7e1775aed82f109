/* Images of pages for the store (store/pushdown.h), made out of a view. */
#ifndef LOCH_PAGESERVER_READ_IMAGER_H
#define LOCH_PAGESERVER_READ_IMAGER_H

#include "read/view.h"
#include "store/pushdown.h"

/* `view` is borrowed and must outlive the imager. */
void loch_imager_init(struct loch_imager *imager, struct loch_view *view, uint32_t records_max,
                      uint64_t bytes_max);

#endif
