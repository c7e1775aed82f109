/* What every cmocka test of Loch includes, in the order cmocka wants. */
#ifndef LOCH_TESTS_UNIT_H
#define LOCH_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "loch/base/status.h"

/* Prints the recorded failure when the status is not ok. */
#define assert_ok(expr_)                                                                           \
    do {                                                                                           \
        loch_status assert_ok_status_ = (expr_);                                                   \
        if (!loch_is_ok(assert_ok_status_))                                                        \
            fail_msg("%s: %s (%s)", #expr_, loch_error_text(), loch_error_where());                \
    } while (0)
#define assert_code(expr_, code_) assert_int_equal((expr_).code, (code_))

#endif
