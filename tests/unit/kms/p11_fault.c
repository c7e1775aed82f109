/* A PKCS#11 module that hands everything to SoftHSM2, but for what its switches say. */
#include "p11_fault.h"

#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT struct p11_fault p11_fault_switches;
EXPORT CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list);

static CK_FUNCTION_LIST *real;
static CK_FUNCTION_LIST ours;

static void be_slow(void)
{
    const struct timespec slice = {0, 10000000};

    for (unsigned ms = 0; ms < p11_fault_switches.slow_ms; ms += 10)
        (void)nanosleep(&slice, NULL);
}

static CK_RV initialize(void *args)
{
    const struct timespec slice = {0, 10000000};

    while (p11_fault_switches.hang_start) {
        p11_fault_switches.hangs = true;
        (void)nanosleep(&slice, NULL);
    }
    p11_fault_switches.hangs = false;
    const CK_RV rv = real->C_Initialize(args);

    p11_fault_switches.started = rv == CKR_OK;
    return rv;
}

static CK_RV finalize(void *args)
{
    const CK_RV rv = real->C_Finalize(args);

    p11_fault_switches.started = false;
    return rv;
}

static CK_RV get_slot_list(unsigned char present, CK_SLOT_ID *slots, CK_ULONG *count)
{
    if (!p11_fault_switches.no_token)
        return real->C_GetSlotList(present, slots, count);
    *count = 0;
    return CKR_OK;
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *app, CK_NOTIFY notify,
                          CK_SESSION_HANDLE *out)
{
    if (p11_fault_switches.session != 0)
        return p11_fault_switches.session;
    return real->C_OpenSession(slot, flags, app, notify, out);
}

static CK_RV login(CK_SESSION_HANDLE s, CK_USER_TYPE user, unsigned char *pin, CK_ULONG len)
{
    p11_fault_switches.logins++;
    if (p11_fault_switches.login != 0)
        return p11_fault_switches.login;
    return real->C_Login(s, user, pin, len);
}

static CK_RV encrypt_init(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
    if (m->mechanism == CKM_AES_GCM && p11_fault_switches.token_chooses_iv)
        memset(((CK_GCM_PARAMS *)m->pParameter)->iv_ptr, 0x5a, 12);
    return real->C_EncryptInit(s, m, key);
}

static CK_RV encrypt(CK_SESSION_HANDLE s, unsigned char *in, CK_ULONG in_len, unsigned char *out,
                     CK_ULONG *out_len)
{
    be_slow();
    const CK_RV rv = real->C_Encrypt(s, in, in_len, out, out_len);
    return p11_fault_switches.encrypt != 0 ? p11_fault_switches.encrypt : rv;
}

static CK_RV decrypt(CK_SESSION_HANDLE s, unsigned char *in, CK_ULONG in_len, unsigned char *out,
                     CK_ULONG *out_len)
{
    p11_fault_switches.in_decrypt = true;
    be_slow();
    p11_fault_switches.in_decrypt = false;
    const CK_RV rv = real->C_Decrypt(s, in, in_len, out, out_len);
    if (p11_fault_switches.decrypt != 0)
        return p11_fault_switches.decrypt;
    if (rv == CKR_OK && p11_fault_switches.wrong_plaintext)
        out[0] ^= 1;
    return rv;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
    void *handle = dlopen("/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_NODELETE);

    if (handle != NULL)
        *(void **)&get = dlsym(handle, "C_GetFunctionList");
    if (get == NULL || get(&real) != CKR_OK)
        return CKR_GENERAL_ERROR;
    ours = *real;
    ours.C_Initialize = initialize;
    ours.C_Finalize = finalize;
    ours.C_GetSlotList = get_slot_list;
    ours.C_OpenSession = open_session;
    ours.C_Login = login;
    ours.C_EncryptInit = encrypt_init;
    ours.C_Encrypt = encrypt;
    ours.C_Decrypt = decrypt;
    *list = &ours;
    return CKR_OK;
}
