/* Lists of those who wait for a timeline, or watch it. */
#include "served.h"

void loch_served_unwait(struct loch_waiter *waiter)
{
    if (waiter->prev == NULL)
        return;
    *waiter->prev = waiter->next;
    if (waiter->next != NULL)
        waiter->next->prev = waiter->prev;
    waiter->prev = NULL;
}

void loch_served_watch_remove(struct loch_served_watch *watch)
{
    if (watch->prev == NULL)
        return;
    *watch->prev = watch->next;
    if (watch->next != NULL)
        watch->next->prev = watch->prev;
    watch->prev = NULL;
}
