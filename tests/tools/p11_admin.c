/* What a key's owner does with a PKCS#11 token, from a process of his own:
 *
 *   p11_admin MODULE TOKEN PIN init              a fresh token with that label (SO PIN: "so" + PIN)
 *   p11_admin MODULE TOKEN PIN generate KEY      an AES-256 key that cannot be extracted
 *   p11_admin MODULE TOKEN PIN disable|enable|destroy|extract KEY
 */
#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static CK_FUNCTION_LIST *f;

static void must(CK_RV rv, const char *what)
{
    if (rv == CKR_OK)
        return;
    (void)fprintf(stderr, "p11_admin: %s: 0x%lx\n", what, rv);
    exit(1);
}

static CK_SLOT_ID slot_of(const char *label)
{
    CK_SLOT_ID slots[32];
    CK_ULONG count = 32;

    must(f->C_GetSlotList(CK_TRUE, slots, &count), "slots");
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        must(f->C_GetTokenInfo(slots[i], &info), "token");
        const bool fresh = (info.flags & CKF_TOKEN_INITIALIZED) == 0;
        if (label == NULL ? fresh
                          : !fresh && memcmp(info.label, label, strlen(label)) == 0 &&
                                info.label[strlen(label)] == ' ')
            return slots[i];
    }
    (void)fprintf(stderr, "p11_admin: no such token\n");
    exit(1);
}

static void init(char *token, char *pin)
{
    unsigned char label[32];
    char so[64];
    CK_SESSION_HANDLE s;

    memset(label, ' ', sizeof label);
    memcpy(label, token, strlen(token));
    (void)snprintf(so, sizeof so, "so%s", pin);
    must(f->C_InitToken(slot_of(NULL), (unsigned char *)so, strlen(so), label), "init");
    must(f->C_OpenSession(slot_of(token), CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s),
         "session");
    must(f->C_Login(s, CKU_SO, (unsigned char *)so, strlen(so)), "login of the security officer");
    must(f->C_InitPIN(s, (unsigned char *)pin, strlen(pin)), "PIN");
}

static void generate(CK_SESSION_HANDLE s, char *key)
{
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ULONG len = 32;
    CK_OBJECT_HANDLE made;
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ATTRIBUTE t[] = {{CKA_TOKEN, &yes, 1},          {CKA_PRIVATE, &yes, 1},
                        {CKA_SENSITIVE, &yes, 1},      {CKA_EXTRACTABLE, &no, 1},
                        {CKA_ENCRYPT, &yes, 1},        {CKA_DECRYPT, &yes, 1},
                        {CKA_MODIFIABLE, &yes, 1},     {CKA_VALUE_LEN, &len, sizeof len},
                        {CKA_LABEL, key, strlen(key)}, {CKA_ID, key, strlen(key)}};

    must(f->C_GenerateKey(s, &mechanism, t, sizeof t / sizeof *t, &made), "key");
}

static CK_OBJECT_HANDLE key_of(CK_SESSION_HANDLE s, char *key)
{
    CK_ATTRIBUTE t[] = {{CKA_LABEL, key, strlen(key)}};
    CK_OBJECT_HANDLE found = 0;
    CK_ULONG count = 0;

    must(f->C_FindObjectsInit(s, t, 1), "find");
    must(f->C_FindObjects(s, &found, 1, &count), "find");
    must(f->C_FindObjectsFinal(s), "find");
    must(count == 1 ? CKR_OK : CKR_OBJECT_HANDLE_INVALID, "the key");
    return found;
}

static void allow(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key, CK_BBOOL value)
{
    CK_ATTRIBUTE t[] = {{CKA_ENCRYPT, &value, 1}, {CKA_DECRYPT, &value, 1}};

    must(f->C_SetAttributeValue(s, key, t, 2), "attributes");
}

/* A key that can be read is no CMK. */
static void extract(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key)
{
    unsigned char value[64];
    CK_ATTRIBUTE t[] = {{CKA_VALUE, value, sizeof value}};

    must(f->C_GetAttributeValue(s, key, t, 1), "reading the key");
}

int main(int argc, char **argv)
{
    CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
    CK_SESSION_HANDLE s;

    if (argc != 5 && argc != 6)
        return 2;
    void *handle = dlopen(argv[1], RTLD_NOW);
    if (handle != NULL)
        *(void **)&get = dlsym(handle, "C_GetFunctionList");
    must(get == NULL ? CKR_GENERAL_ERROR : get(&f), "module");
    must(f->C_Initialize(NULL), "module");
    if (strcmp(argv[4], "init") == 0) {
        init(argv[2], argv[3]);
        return 0;
    }
    must(f->C_OpenSession(slot_of(argv[2]), CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s),
         "session");
    must(f->C_Login(s, CKU_USER, (unsigned char *)argv[3], strlen(argv[3])), "login");
    if (argc == 6 && strcmp(argv[4], "generate") == 0)
        generate(s, argv[5]);
    else if (argc == 6 && strcmp(argv[4], "disable") == 0)
        allow(s, key_of(s, argv[5]), CK_FALSE);
    else if (argc == 6 && strcmp(argv[4], "enable") == 0)
        allow(s, key_of(s, argv[5]), CK_TRUE);
    else if (argc == 6 && strcmp(argv[4], "destroy") == 0)
        must(f->C_DestroyObject(s, key_of(s, argv[5])), "destroying");
    else if (argc == 6 && strcmp(argv[4], "extract") == 0)
        extract(s, key_of(s, argv[5]));
    else
        return 2;
    return 0;
}
