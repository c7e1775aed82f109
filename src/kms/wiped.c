/* Holds: an allocator that wipes. It takes memory that plain malloc gave as well, so that it can be
 * set while a library is in use. */
#include "wiped.h"

#include "loch/base/secret.h"

#include <curl/curl.h>
#include <jansson.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;

void kms_wiped_free(void *p)
{
    if (p == NULL)
        return;
    loch_wipe(p, malloc_usable_size(p));
    free(p);
}

static void *wiped_realloc(void *p, size_t size)
{
    void *next = malloc(size > 0 ? size : 1);

    if (next == NULL || p == NULL)
        return next;
    const size_t had = malloc_usable_size(p);
    memcpy(next, p, had < size ? had : size);
    kms_wiped_free(p);
    return next;
}

char *kms_wiped_strdup(const char *text)
{
    const size_t n = strlen(text) + 1;
    char *copy = malloc(n);

    if (copy != NULL)
        memcpy(copy, text, n);
    return copy;
}

void kms_wiped_buf_fini(struct loch_buf *buf)
{
    if (buf->data != NULL)
        loch_wipe(buf->data, buf->cap);
    loch_buf_fini(buf);
}

static void setup(void)
{
    json_set_alloc_funcs(malloc, kms_wiped_free);
    (void)curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, kms_wiped_free, wiped_realloc,
                               kms_wiped_strdup, calloc);
}

void kms_wiped_setup(void)
{
    (void)pthread_once(&once, setup);
}
