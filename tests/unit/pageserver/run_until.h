/* A loop that runs until something holds, or the test fails. */
#ifndef LOCH_TESTS_PAGESERVER_RUN_UNTIL_H
#define LOCH_TESTS_PAGESERVER_RUN_UNTIL_H

#include "../unit.h"

#include "loch/io/env.h"

#define RUN_UNTIL_PATIENCE_MS 20000u

struct awaited {
    struct loch_env *env;
    bool (*holds)(void *arg);
    void *arg;
    struct loch_timer *timer;
};

static inline void awaited_tick(void *arg)
{
    struct awaited *a = arg;
    a->timer = NULL;
    if (a->holds(a->arg))
        loch_env_stop(a->env);
    else
        assert_ok(loch_env_timer(a->env, 2, &a->timer, awaited_tick, a));
}

static inline void awaited_expire(void *arg)
{
    (void)arg;
    fail_msg("what was waited for did not come");
}

/* holds: asked again and again, on the loop. */
static inline void run_until(struct loch_env *env, bool (*holds)(void *arg), void *arg)
{
    struct awaited a = {.env = env, .holds = holds, .arg = arg};
    struct loch_timer *limit = NULL;
    assert_ok(loch_env_timer(env, RUN_UNTIL_PATIENCE_MS, &limit, awaited_expire, NULL));
    assert_ok(loch_env_timer(env, 1, &a.timer, awaited_tick, &a));
    loch_env_run(env);
    loch_timer_cancel(limit);
}

#endif
