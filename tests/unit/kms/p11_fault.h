/* The switches of the module p11_fault, which stands between Loch and SoftHSM2 and misbehaves. */
#ifndef LOCH_TESTS_P11_FAULT_H
#define LOCH_TESTS_P11_FAULT_H

#include <stdbool.h>

struct p11_fault {
    unsigned long session; /* CKR_...: what C_OpenSession says; 0: nothing amiss */
    unsigned long login;
    unsigned long decrypt;
    unsigned long encrypt;
    bool no_token; /* C_GetSlotList finds none */
    bool wrong_plaintext;
    bool token_chooses_iv;    /* C_EncryptInit writes an IV of its own over the caller's */
    _Atomic unsigned slow_ms; /* before C_Decrypt and C_Encrypt; 0 ends those that wait */
    _Atomic bool in_decrypt;  /* a call is being slow there */
    unsigned long logins;     /* counted: C_Login calls */
    _Atomic bool hang_start;  /* C_Initialize waits while it is set */
    _Atomic bool hangs;       /* it does */
    _Atomic bool started;     /* between C_Initialize and C_Finalize */
};

#define P11_FAULT_SYMBOL "p11_fault_switches"

#endif
